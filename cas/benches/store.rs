//! What the store costs: opening it, small sessions, frames.
//!
//! `cargo bench -p filesync-cas -- open [OBJECTS]` and `-- frames [DIR]`; DIR is a tree of real files to compress.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use filesync_cas::frame::{Frame, FrameBuilder, HEADER_LEN, Header};
use filesync_cas::pack::Class;
use filesync_cas::rows::RowBatch;
use filesync_cas::vfs::{RealVfs, temp_name};
use filesync_cas::{ChunkSizes, Codec, ContentHash, Kind, Params, Place, Schema, Store};

#[derive(Debug)]
struct ChunksOnly;

impl Schema for ChunksOnly {
    fn context(&self, _: Kind) -> Option<&'static str> {
        None
    }

    fn name(&self, _: Kind) -> &'static str {
        "chunk"
    }

    fn children(&self, _: Kind, _: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
        Ok(Vec::new())
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["frames"] => frames(Path::new("/usr/share/doc")),
        ["frames", dir] => frames(Path::new(dir)),
        ["open"] => open(100_000),
        ["open", objects] => open(objects.parse().expect("a number")),
        _ => {
            open(100_000);
            frames(Path::new("/usr/share/doc"));
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = run();
    (result, began.elapsed())
}

fn open(objects: u32) {
    let dir = std::env::temp_dir().join(temp_name().expect("random"));
    std::fs::create_dir(&dir).expect("a directory");
    let place = || Place {
        vfs: Arc::new(RealVfs::open(&dir).expect("opened")),
        index_dir: dir.join("index"),
        lock_dir: Some(dir.clone()),
    };
    let params = Params::new(ContentHash::of_chunk(b"bench"), ChunkSizes::default(), Codec::Zstd);
    Store::create(&place(), &params).expect("created");
    let writer = || Store::open_writer(place(), Arc::new(ChunksOnly), "bench", Duration::ZERO).expect("opened");
    let reader = || Store::open_reader(place(), Arc::new(ChunksOnly)).expect("opened");
    let store = |numbers: std::ops::Range<u32>, store: &Store| {
        let session = store.session().expect("a session");
        let mut frames = session.writer();
        for n in numbers {
            frames.store(Kind::CHUNK, format!("chunk {n} with a few words").as_bytes()).expect("stored");
        }
        frames.flush().expect("flushed");
        drop(frames);
        session.finish(None, RowBatch::default()).expect("finished");
    };
    let ((), filled) = timed(|| store(0..objects, &writer()));
    println!("{objects} objects stored in {filled:.1?}");
    let (mut opens, mut closes) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let (reader, open) = timed(reader);
        let (_, close) = timed(|| drop(reader));
        opens.push(open);
        closes.push(close);
    }
    println!("reader: open {:.2?}, close {:.2?}", median(opens), median(closes));
    let (mut opens, mut closes) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let (writer, open) = timed(writer);
        let (_, close) = timed(|| drop(writer));
        opens.push(open);
        closes.push(close);
    }
    println!("writer, nothing to write: open {:.2?}, close {:.2?}", median(opens), median(closes));
    let (mut opens, mut sessions, mut closes) = (Vec::new(), Vec::new(), Vec::new());
    let mut largest = Duration::ZERO;
    for n in 0..200 {
        let (writer, open) = timed(writer);
        let ((), session) = timed(|| store(objects + n..objects + n + 1, &writer));
        let (_, close) = timed(|| drop(writer));
        largest = largest.max(open + session + close);
        opens.push(open);
        sessions.push(session);
        closes.push(close);
    }
    println!(
        "writer, one object: open {:.2?}, session {:.2?}, close {:.2?}; the slowest {largest:.1?} in all",
        median(opens),
        median(sessions),
        median(closes)
    );
    std::fs::remove_dir_all(dir.join("index")).expect("removed");
    let (_, rebuilt) = timed(writer);
    println!("index built again in {rebuilt:.1?}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

/// Processor time of this thread: what others do on the machine does not count.
fn worked<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let used = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
    };
    let before = used();
    let result = run();
    (result, used() - before)
}

/// Files in the order of a walk, until there are 256 MiB.
fn gather(dir: &Path, frames: &mut Vec<Vec<Vec<u8>>>, total: &mut usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if *total > 256 << 20 {
            return;
        }
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.is_dir() {
            gather(&path, frames, total);
        } else if meta.is_file()
            && let Ok(bytes) = std::fs::read(&path)
        {
            for chunk in bytes.chunks(64 << 10) {
                let full = |frame: &Vec<Vec<u8>>| frame.iter().map(Vec::len).sum::<usize>() + chunk.len() > 1 << 20;
                if frames.last().is_none_or(full) {
                    frames.push(Vec::new());
                }
                frames.last_mut().expect("pushed").push(chunk.to_vec());
                *total += chunk.len();
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(bytes: usize, time: Duration) -> String {
    format!("{:.0} MB/s", bytes as f64 / 1e6 / time.as_secs_f64())
}

fn frames(dir: &Path) {
    let (mut frames, mut total) = (Vec::new(), 0);
    gather(dir, &mut frames, &mut total);
    measure(&dir.display().to_string(), &frames);
    let mut rng = filesync_cas::testing::Rng::new(1);
    let noise: Vec<Vec<Vec<u8>>> = (0..64).map(|_| (0..16).map(|_| rng.bytes(64 << 10)).collect()).collect();
    measure("noise", &noise);
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn measure(name: &str, frames: &[Vec<Vec<u8>>]) {
    let total = frames.iter().flatten().map(Vec::len).sum();
    println!("{name}: {} MB in {} frames", total / 1_000_000, frames.len());
    let objects: Vec<Vec<(ContentHash, &[u8])>> = frames
        .iter()
        .map(|frame| frame.iter().map(|chunk| (ContentHash::of_chunk(chunk), &chunk[..])).collect())
        .collect();
    let mut encoded: Vec<Vec<u8>> = Vec::new();
    for round in 0..3 {
        let mut builder = FrameBuilder::new(Codec::Zstd).expect("zstd starts");
        let mut out = Vec::new();
        let ((), time) = worked(|| {
            for frame in &objects {
                for (id, bytes) in frame {
                    builder.push(*id, Kind::CHUNK, bytes);
                }
                out.push(builder.encode().expect("encoded").to_vec());
                builder.clear();
            }
        });
        let stored: usize = out.iter().map(Vec::len).sum();
        let ratio = stored as f64 / total as f64;
        println!("round {round}: encoded and verified {}, ratio {ratio:.4}", rate(total, time));
        encoded = out;
    }
    for round in 0..3 {
        let ((), time) = worked(|| {
            for bytes in &encoded {
                let frame = decode(bytes);
                assert!((0..frame.slots().len()).all(|slot| frame.verify(slot, &ChunksOnly)));
            }
        });
        let ((), only) = worked(|| encoded.iter().for_each(|bytes| drop(decode(bytes))));
        println!("round {round}: decoded {}, and verified {}", rate(total, only), rate(total, time));
    }
}

fn decode(bytes: &[u8]) -> Frame {
    let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().expect("a header");
    let header = Header::parse(fixed).expect("parsed");
    let (table, payload) = bytes[HEADER_LEN..].split_at(header.table_len());
    let slots = header.table(fixed, table, Class::Data).expect("a table");
    Frame::decode(&header, slots, payload).expect("decoded")
}

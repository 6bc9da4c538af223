//! The rates that bound a first commit on this machine, each measured alone; `tests/bench` calls it.
//!
//! - `rates cut`: prints the MB/s at which one core cuts random data and hashes the chunks
//! - `rates read FILE…`: reads the files one after another
//! - `rates write FILE MIB`: writes random data and waits until it is on the disk
//! - `rates unpack PACK…`: decompresses every frame of packs and hashes every object, on all cores, and checks nothing else

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fastcdc::v2020::FastCDC;

const MIB: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cut"] => println!("{:.0}", cut(&random(256 * MIB))),
        ["read", ref files @ ..] => files.iter().try_for_each(|file| read(file))?,
        ["write", file, mib] => write(file, mib.parse()?)?,
        ["unpack", ref packs @ ..] => unpack(packs)?,
        _ => return Err("usage: rates cut | read FILE… | write FILE MIB | unpack PACK…".into()),
    }
    Ok(())
}

/// MB/s of one core with the default chunk sizes of filesync.
fn cut(data: &[u8]) -> f64 {
    // The first round warms up.
    let mut rate = 0.0;
    for _ in 0..2 {
        let started = Instant::now();
        let mut last = None;
        for chunk in FastCDC::new(data, 16 << 10, 64 << 10, 256 << 10) {
            last = Some(blake3::hash(&data[chunk.offset..chunk.offset + chunk.length]));
        }
        std::hint::black_box(last);
        rate = data.len() as f64 / 1e6 / started.elapsed().as_secs_f64();
    }
    rate
}

fn read(file: &str) -> std::io::Result<()> {
    let mut file = File::open(file)?;
    let mut buffer = vec![0; MIB];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

fn write(file: &str, mib: usize) -> std::io::Result<()> {
    let data = random(64 * MIB);
    let mut file = File::create(file)?;
    for block in data.chunks(MIB).cycle().take(mib) {
        file.write_all(block)?;
    }
    file.sync_data()
}

/// As `docs/format.md` has it, sections 2 and 2.1, by someone who takes everything for good.
fn unpack(packs: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut frames = Vec::new();
    let packs = packs.iter().map(std::fs::read).collect::<std::io::Result<Vec<_>>>()?;
    for (number, bytes) in packs.iter().enumerate() {
        let mut at = 88;
        while bytes.get(at..at + 4) == Some(b"FSfr") {
            frames.push((number, at));
            let [_, stored, count] = lengths(bytes, at);
            at += 56 + count * 37 + stored;
        }
    }
    let next = AtomicUsize::new(0);
    let work = || -> std::io::Result<u8> {
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let mut raw = vec![0; MIB];
        let mut all = 0;
        while let Some(&(number, at)) = frames.get(next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = &packs[number];
            let [_, stored, count] = lengths(bytes, at);
            let (table, payload) = bytes[at + 56..at + 56 + count * 37 + stored].split_at(count * 37);
            let mut rest = match bytes[at + 5] {
                0 => payload,
                _ => {
                    let len = decompressor.decompress_to_buffer(payload, &mut raw[..])?;
                    &raw[..len]
                }
            };
            for slot in table.chunks_exact(37) {
                let len = u32::from_le_bytes([slot[33], slot[34], slot[35], slot[36]]) as usize;
                let (object, after) = rest.split_at(len);
                all ^= blake3::hash(object).as_bytes()[0];
                rest = after;
            }
        }
        Ok(all)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..std::thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            std::hint::black_box(thread.join().expect("no panic")?);
            Ok::<(), std::io::Error>(())
        })
    })?;
    Ok(())
}

/// Raw and stored length of a frame, and the number of its objects.
fn lengths(bytes: &[u8], at: usize) -> [usize; 3] {
    [8, 12, 16].map(|field| {
        let word = &bytes[at + field..at + field + 4];
        u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize
    })
}

/// Bytes that do not compress, the same in every run (xorshift64*).
fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        data.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    data.truncate(len);
    data
}

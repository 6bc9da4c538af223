//! Rows of the index that are nearly right (G8).

use bolero::check;
use filesync_merkle::testing::{Rng, random_entry, random_name};
use filesync_merkle::{Mode, Totals, TreeId};

use super::*;
use crate::fuzz::fuzz;

fn time(secs: i64) -> Timestamp {
    Timestamp::new(secs, 7).unwrap()
}

fn link() -> TreeLink {
    TreeLink { id: TreeId::from_bytes([5; 32]), height: 1, totals: Totals { files: 9, directories: 2, bytes: 1 << 40 } }
}

fn rows(count: u64) -> Vec<CachedRow> {
    let mut rng = Rng::new(count);
    let mut row = |ino: u64| {
        let entry = if ino == 2 { Entry::directory(Mode::DIRECTORY, link()) } else { random_entry(&mut rng) };
        let (mode, dev, mtime, ctime) = (0o644, 1, time(-3), time(1 << 33));
        CachedRow { name: random_name(&mut rng, 1 << 40), entry, racy: ino == 1, mode, dev, ino, mtime, ctime }
    };
    let mut rows: Vec<_> = (0..count).map(&mut row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

#[test]
fn rows_of_directories() {
    let blocks = vec![(Name::new(b"k").unwrap(), time(1)), (Name::new(b"m").unwrap(), time(2))];
    let head = |link, blocks, rows| Head { stamp: time(4), link, blocks, rows }.encode();
    let block = |count| Block { stamp: time(5), rows: rows(count) }.encode();
    let samples = [
        head(None, vec![], rows(0)),
        head(Some(link()), vec![], rows(3)),
        head(None, blocks, rows(1)),
        block(1),
        block(4),
    ];
    // A leaf announces up to 1024 entries.
    let tally = fuzz(&samples).room(512 << 10, 64).run(check!(), |bytes| {
        let objects = codec::objects_of(bytes);
        let encoded = match (Head::decode(bytes), Block::decode(bytes)) {
            (Some(head), None) => Some(head.encode()),
            (None, Some(block)) => Some(block.encode()),
            (None, None) => None,
            (Some(_), Some(_)) => panic!("it is both"),
        };
        assert_eq!(objects.is_some(), encoded.is_some());
        encoded
    });
    tally.reaches(10_000);
}

//! Objects that are nearly right, of every kind (G8, P16): see [`filesync_cas::testing::Fuzz`].

use bolero::check;
use filesync_cas::testing::{Fuzz, Tally, Target};
use filesync_cas::{Kind, Schema};
use filesync_merkle::testing::Rng;
use filesync_merkle::{ATTRS, Attrs, COMMIT, LIST, ListNode, MerkleSchema, PUB, RepoPath, TREE, TreeNode};

use crate::codec::{again, attrs, commit, inner, leaf, list, step};

fn peak(run: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

/// The decoder and the schema, which says what an object refers to, must take the same.
fn fuzz(target: Target, kind: Kind, samples: &[Vec<u8>], words: &[&[u8]]) -> Tally {
    // A node announces up to 1024 items of a fixed size each; there is no other number to believe.
    let fuzz = Fuzz::new(samples, peak).words(words).room(256 << 10, 64);
    fuzz.run(target, |bytes| {
        let encoded = again(kind, bytes);
        assert_eq!(MerkleSchema.children(kind, bytes).is_ok(), encoded.is_some(), "the schema thinks otherwise");
        if encoded.is_some() {
            check(kind, bytes);
        }
        encoded
    })
}

/// What coming out the same does not say: order and sums.
fn check(kind: Kind, bytes: &[u8]) {
    match kind {
        TREE => match TreeNode::decode(bytes).unwrap() {
            TreeNode::Leaf(entries) => assert!(entries.is_sorted_by(|a, b| a.0 < b.0)),
            TreeNode::Inner { links, .. } => assert!(!links.is_empty() && links.is_sorted_by(|a, b| a.last < b.last)),
        },
        LIST => {
            let node = ListNode::decode(bytes).unwrap();
            let sum = node.items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.len));
            assert!(sum.is_some() && node.root.is_none_or(|root| Some(root.size) == sum));
        }
        ATTRS => assert!(Attrs::decode(bytes).unwrap().pairs().is_sorted_by(|a, b| a.0 < b.0)),
        _ => {}
    }
}

#[test]
fn trees() {
    let mut rng = Rng::new(1);
    let samples: Vec<_> = (0..6).flat_map(|_| [leaf(&mut rng), inner(&mut rng)]).collect();
    fuzz(check!(), TREE, &samples, &[b"..", b"/", b"\x09\0.filesync", &[0xff; 8], b"\x01\0a", b"\0"]).reaches(10_000);
}

#[test]
fn lists() {
    let mut rng = Rng::new(2);
    let samples: Vec<_> = (0..12).map(|n| list(&mut rng, n % 3)).collect();
    fuzz(check!(), LIST, &samples, &[&[0xff; 8], &[0, 0, 16, 0]]).reaches(10_000);
}

#[test]
fn commits() {
    let mut rng = Rng::new(3);
    let samples: Vec<_> = ["", "why", "why\n\u{1F600}\u{7}"].iter().map(|message| commit(&mut rng, message)).collect();
    fuzz(check!(), COMMIT, &samples, &[b"\0", b"\x85", b"\xc2\x85", b"\xff", b"\n"]).reaches(10_000);
}

#[test]
fn pubs() {
    let mut rng = Rng::new(4);
    let samples: Vec<_> = (0..8).map(|which| step(&mut rng, which)).collect();
    fuzz(check!(), PUB, &samples, &[b"\x04\0main", b"\xff", b"\0"]).reaches(10_000);
}

#[test]
fn attributes() {
    fuzz(check!(), ATTRS, &[attrs()], &[b"\x06\0user.a", b"user.", b"\0", &[0xff; 4]]).reaches(1_000);
}

/// W1 to W3: no path leads out, or to where the store is.
#[test]
fn paths() {
    let samples = ["a", "some/where/else", "a b\n/\u{e9}", ".filesyncignore", "x/.files/sync"];
    let samples = samples.map(|path| path.as_bytes().to_vec());
    let words: [&[u8]; 8] = [b"/", b".", b"..", b"\0", b".filesync", b".FileSync", b"\xe2\x80\x8d", b" "];
    // Most beginnings of a path are paths.
    let tally = Fuzz::new(&samples, peak).words(&words).open_ended().run(check!(), |bytes| {
        let path = RepoPath::parse(bytes).ok()?;
        for part in path.as_bytes().split(|byte| *byte == b'/').filter(|_| !path.is_root()) {
            assert!(!matches!(part, b"" | b"." | b"..") && !part.contains(&0) && part.len() <= 255, "{path:?}");
            let visible = String::from_utf8_lossy(part).replace('\u{200d}', "").to_ascii_lowercase();
            assert_ne!(visible.trim_end_matches([' ', '.']), ".filesync", "{path:?}");
        }
        Some(path.as_bytes().to_vec())
    });
    tally.reaches(10_000);
}

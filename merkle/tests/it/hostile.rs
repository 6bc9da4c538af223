//! Bytes that nobody should accept.

use filesync_merkle::testing::raw;
use filesync_merkle::{Totals, TreeNode};

fn refused(bytes: &[u8], why: &str) {
    match TreeNode::decode(bytes) {
        Ok(node) => panic!("accepted instead of `{why}`: {node:?}"),
        Err(error) => assert!(error.what.contains(why), "{error} instead of `{why}`"),
    }
}

fn leaf(items: &[Vec<u8>]) -> Vec<u8> {
    raw::tree(0, items)
}

const ID: [u8; 32] = [5; 32];

fn named(name: &[u8]) -> Vec<u8> {
    raw::file(name, 0o644, 1, &ID)
}

#[test]
fn names() {
    TreeNode::decode(&leaf(&[named(b"a"), named(b"b")])).unwrap();
    for bad in [&b".."[..], b".", b"", b"a/b", b"/a", b"a\0", &[b'x'; 256]] {
        refused(&leaf(&[named(bad)]), "a name");
    }
    for bad in [".filesync", ".FILESYNC ", ".filesync.", ".file\u{200d}sync", "\u{feff}.Filesync. "] {
        refused(&leaf(&[named(bad.as_bytes())]), "`.filesync`");
        refused(&leaf(&[raw::symlink(bad.as_bytes(), b"x")]), "`.filesync`");
    }
    refused(&leaf(&[named(b"a"), named(b"a")]), "ascending");
    refused(&leaf(&[raw::symlink(b"a", b"/tmp"), raw::directory(b"a", 0o755, &ID, 0, Totals::default())]), "ascending");
    refused(&leaf(&[named(b"b"), named(b"a")]), "ascending");
}

#[test]
fn values() {
    refused(&leaf(&[raw::file(b"a", 0o4755, 1, &ID)]), "mode");
    refused(&leaf(&[raw::directory(b"a", 0o1777, &ID, 0, Totals::default())]), "mode");
    refused(&leaf(&[raw::entry(b"a", 1, 0, 0o755, &named(b"x")[7..])]), "owner-execute");
    refused(&leaf(&[raw::entry(b"a", 2, 0, 0o644, &named(b"x")[7..])]), "owner-execute");
    refused(&leaf(&[raw::entry(b"a", 5, 0, 0o644, &named(b"x")[7..])]), "unknown kind");
    refused(&leaf(&[raw::entry(b"a", 1, 2, 0o644, &named(b"x")[7..])]), "unknown flags");
    refused(&leaf(&[raw::file(b"a", 0o644, 0, &ID)]), "size");
    refused(&leaf(&[raw::file(b"a", 0o644, (1 << 20) + 1, &ID)]), "size");
    refused(&leaf(&[raw::entry(b"a", 1, 0, 0o644, &[&[0; 12], &1u64.to_le_bytes()[..], &[0]].concat())]), "size");
    let nanos = [&[0; 8], &1_000_000_000u32.to_le_bytes()[..], &[0; 9]].concat();
    refused(&leaf(&[raw::entry(b"a", 1, 0, 0o644, &nanos)]), "nanoseconds");
    refused(&leaf(&[raw::symlink(b"a", b"")]), "target");
    refused(&leaf(&[raw::symlink(b"a", b"x\0")]), "target");
    refused(&leaf(&[raw::symlink(b"a", &[b'x'; 4096])]), "target");
    TreeNode::decode(&leaf(&[raw::symlink(b"a", &[b'x'; 4095])])).unwrap();
    refused(&leaf(&[raw::entry(b"a", 3, 0, 0o777, &raw::symlink(b"x", b"y")[7..])]), "mode");
    refused(&leaf(&[raw::directory(b"a", 0o755, &ID, 11, Totals::default())]), "height");
}

#[test]
fn sums_and_counts() {
    let huge = Totals { files: u64::MAX, directories: 0, bytes: 0 };
    refused(&leaf(&[named(b"a"), raw::directory(b"b", 0o755, &ID, 0, huge)]), "overflow");
    let list = |size: u64| [&[0; 12], &size.to_le_bytes()[..], &[2], &ID, &[1]].concat();
    let entry = |name: &[u8], size| raw::entry(name, 1, 0, 0o644, &list(size));
    refused(&leaf(&[entry(b"a", u64::MAX), entry(b"b", 2)]), "overflow");
    let link = |last: &[u8], entries, totals| raw::link(last, &ID, entries, totals);
    refused(&raw::tree(1, &[link(b"a", 1, huge), link(b"b", 1, huge)]), "overflow");
    refused(&raw::tree(1, &[link(b"a", u64::MAX, Totals::default()), link(b"b", 1, Totals::default())]), "overflow");
    refused(&raw::tree(1, &[link(b"a", 0, Totals::default())]), "nothing");
    refused(&raw::tree(1, &[link(b"b", 1, huge), link(b"a", 1, huge)]), "ascending");
    refused(&raw::tree(1, &[]), "no links");
    refused(&raw::tree(11, &[link(b"a", 1, huge)]), "level");
    let many: Vec<_> = (0..1025).map(|n| named(format!("{n:05}").as_bytes())).collect();
    refused(&leaf(&many), "1024");
    let large: Vec<_> = (0..70).map(|n| raw::symlink(format!("{n:02}").as_bytes(), &[b'x'; 4095])).collect();
    refused(&leaf(&large), "large");
    // A count is never trusted for an allocation.
    refused(&[&[1, 0, 0, 0], &u32::MAX.to_le_bytes()[..]].concat(), "1024");
    refused(&[&[1, 0, 0, 0], &1024u32.to_le_bytes()[..]].concat(), "short");
    refused(&[&[2, 0, 0, 0], &0u32.to_le_bytes()[..]].concat(), "version");
    refused(&[&[1, 0, 0, 1], &0u32.to_le_bytes()[..]].concat(), "reserved");
}

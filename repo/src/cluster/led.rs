//! `leader`: who led when this node asked last, for the next command to ask first. A hint: not synced, and one that is wrong or
//! unreadable costs a question to somebody else.

use std::path::Path;

use filesync_cas::vfs::{Open, Vfs, read_to_end, write_all_at};
use filesync_raft_log::ids::NodeId;

const PATH: &str = "leader";
/// A number and the end of its line.
const LEN_MAX: u64 = 21;

/// Who it was, if that is known.
pub fn read(vfs: &dyn Vfs) -> Option<NodeId> {
    let bytes = read_to_end(vfs, Path::new(PATH), LEN_MAX).ok()?;
    let number = std::str::from_utf8(&bytes).ok()?.strip_suffix('\n')?;
    number.parse().ok().map(NodeId)
}

/// Notes who it is, if it can be noted.
pub fn note(vfs: &dyn Vfs, node: NodeId) {
    let path = Path::new(PATH);
    let line = format!("{node}\n");
    let opened = vfs.open(path, Open::Write).or_else(|_| vfs.open(path, Open::Create { mode: 0o644 }));
    let _ = opened.and_then(|file| {
        file.set_len(0)?;
        write_all_at(&*file, line.as_bytes(), 0)
    });
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn what_is_noted_is_read_and_nonsense_is_nobody() {
        let vfs = LossVfs::new();
        assert_eq!(read(&vfs), None);
        for node in [3, u64::MAX, 12] {
            note(&vfs, NodeId(node));
            assert_eq!(read(&vfs), Some(NodeId(node)));
        }
        for nonsense in ["", "7", "seven\n", "-1\n", "123456789012345678901234567890\n"] {
            let file = vfs.open(Path::new(PATH), Open::Write).expect("it is there");
            file.set_len(0).expect("cut");
            write_all_at(&*file, nonsense.as_bytes(), 0).expect("written");
            assert_eq!(read(&vfs), None, "{nonsense:?}");
        }
    }
}

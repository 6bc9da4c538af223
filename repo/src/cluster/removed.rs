//! `removed`: there as long as no voter took this node for a member when it asked last. A hint for who does not ask: not
//! synced, and the next answer of the cluster takes it away.

use std::path::Path;

use filesync_cas::vfs::{Open, Vfs};

const PATH: &str = "removed";

/// Whether it was so.
pub fn is_noted(vfs: &dyn Vfs) -> bool {
    vfs.stat(Path::new(PATH)).is_ok()
}

/// Notes whether it is so, if it can be noted.
pub fn note(vfs: &dyn Vfs, is_removed: bool) {
    let path = Path::new(PATH);
    if is_removed {
        let _ = vfs.open(path, Open::Create { mode: 0o644 });
    } else if is_noted(vfs) {
        let _ = vfs.unlink(path);
    }
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn it_is_as_it_was_noted_last() {
        let vfs = LossVfs::new();
        assert!(!is_noted(&vfs));
        for is_removed in [false, true, true, false, true] {
            note(&vfs, is_removed);
            assert_eq!(is_noted(&vfs), is_removed);
        }
    }
}

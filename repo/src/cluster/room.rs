//! Whether there is room on the disk for what a leader has to hold.
//!
//! Others get what is published from the leader. One without room can lead nobody, though it may go on for long as far as its
//! log is concerned, which has room of its own: it stands back until there is room again.

use std::io;
use std::path::Path;

use filesync_cas::vfs::{Open, Vfs, temp_name, write_all_at};
use filesync_raft_log::{Log, Reason};

use super::core::Core;
use super::heal;

/// So much must be free.
const ENOUGH: usize = 4 << 20;

/// Leaves leading to others, if there are others, as long as there is no room. Whether it does.
pub fn look_after(core: &Core, log: &Log) -> bool {
    let stands_back = !has_room(&**core.repo.store.vfs()) && !log.read(|state| heal::is_alone(core.number, state));
    if stands_back != log.stands_back_as(Reason::Unable) {
        tracing::warn!(stands_back, "room on the disk");
        log.stand_back(Reason::Unable, stands_back);
    }
    stands_back
}

fn has_room(vfs: &dyn Vfs) -> bool {
    let probed = temp_name().and_then(|name| {
        let path = Path::new(&name);
        let file = vfs.open(path, Open::Create { mode: 0o600 })?;
        let written = write_all_at(&*file, &vec![0; ENOUGH], 0);
        vfs.unlink(path)?;
        written
    });
    // What else is wrong shows elsewhere.
    !probed.is_err_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use filesync_cas::testing::{Fault, FaultVfs, LossVfs, Op, Plan, Scope};

    use super::*;

    #[test]
    fn only_a_full_disk_has_no_room() {
        const NOSPC: i32 = 28;
        const IO: i32 = 5;
        assert!(has_room(&LossVfs::new()));
        for (errno, room) in [(NOSPC, false), (IO, true)] {
            for op in [Op::Create, Op::WriteAt] {
                let plan = Plan { scope: Scope::Only(op), at: 1, fault: Fault::ErrorOnce(errno) };
                let disk = LossVfs::new();
                let vfs = FaultVfs::with_plan(Arc::new(disk.clone()), plan);
                assert_eq!(has_room(&vfs), room, "{op:?} {errno}");
                vfs.assert_hit();
                assert!(disk.list(Path::new("")).unwrap().is_empty(), "something is left");
            }
        }
    }
}

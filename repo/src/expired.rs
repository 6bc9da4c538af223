//! Commits that have expired: their objects stay, so that history stays whole, and their trees are no roots any more.
//!
//! `docs/format.md`, section 3, rules the bytes. What a root leads to has not expired, whatever the list says.

use std::collections::BTreeSet;

use filesync_cas::small_file::{Builder, Lines};
use filesync_cas::vfs::Vfs;
use filesync_merkle::CommitId;

use crate::error::{Error, ErrorKind};
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "expired";
const TITLE: &str = "filesync expired 1";
const LEN_MAX: u64 = 64 << 20;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired(pub BTreeSet<CommitId>);

impl Expired {
    /// The list that is there; an empty one if there is none. One that is damaged is an error: it may name anything.
    pub fn read(vfs: &dyn Vfs) -> Result<Self, Error> {
        let hint = "without that file, `filesync forget` with the rules as before makes it again";
        let read = small_file::read(vfs, PATH, LEN_MAX, Self::decode);
        let read = read.map_err(|error| if error.kind() == ErrorKind::Damage { error.with_hint(hint) } else { error });
        Ok(read?.unwrap_or_default())
    }

    /// Makes it durable.
    pub fn write(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        let bytes = self.encode();
        if bytes.len() as u64 > LEN_MAX {
            return Err(Error::new(ErrorKind::Failed, "cannot forget: too many commits would have expired"));
        }
        small_file::write(vfs, PATH, &bytes)
    }

    fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        self.0.iter().for_each(|id| file.line(&format!("commit {id}")));
        file.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut list = BTreeSet::new();
        for line in Lines::parse(bytes, TITLE)?.iter() {
            let id = line.strip_prefix("commit ").and_then(|id| id.parse().ok()).map(CommitId);
            let id = id.ok_or_else(|| format!("unknown line {line:?}"))?;
            if list.last().is_some_and(|last| *last >= id) {
                return Err("its commits are not in order".to_owned());
            }
            list.insert(id);
        }
        Ok(Self(list))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use filesync_cas::testing::{Fault, FaultVfs, LossVfs, Op, Plan, Scope, crash_states};

    use super::*;

    fn list(numbers: &[u8]) -> Expired {
        Expired(numbers.iter().map(|n| CommitId::from_bytes([*n; 32])).collect())
    }

    /// What there may be before: no list, and one that grows.
    fn before() -> [(LossVfs, Expired); 2] {
        [list(&[]), list(&[1, 5])].map(|old| {
            let vfs = LossVfs::new();
            if !old.0.is_empty() {
                old.write(&vfs).unwrap();
            }
            vfs.sync_all_files().unwrap();
            (vfs, old)
        })
    }

    /// What stands there, which is the old list or, for sure if it was told to be done, the new one; and it can be written
    /// again. True if it was the new one.
    fn check(left: &LossVfs, old: &Expired, new: &Expired, told: &Result<(), Error>, when: &str) -> bool {
        let found = Expired::read(left).unwrap();
        assert!(found == *new || (told.is_err() && found == *old), "{when}: {told:?}: {found:?}");
        new.write(left).unwrap();
        assert_eq!(Expired::read(left).unwrap(), *new, "{when}: written again");
        found == *new
    }

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(Expired::read(&vfs).unwrap(), Expired::default());
        let list = Expired([9, 1, 5].map(|n| CommitId::from_bytes([n; 32])).into());
        list.write(&vfs).unwrap();
        assert_eq!(Expired::read(&vfs).unwrap(), list);
    }

    #[test]
    fn what_was_not_written_is_refused() {
        let good = Expired([1, 5].map(|n| CommitId::from_bytes([n; 32])).into()).encode();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Expired::decode(&bad).is_err(), "byte {at}");
        }
        let one = CommitId::from_bytes([1; 32]);
        for lines in [vec![one, one], vec![CommitId::from_bytes([2; 32]), one]] {
            let mut file = Builder::new(TITLE);
            lines.iter().for_each(|id| file.line(&format!("commit {id}")));
            assert!(Expired::decode(&file.finish()).is_err(), "{lines:?}");
        }
        let mut file = Builder::new(TITLE);
        file.line("commit 12");
        assert!(Expired::decode(&file.finish()).is_err());
    }

    #[test]
    fn power_cuts_leave_the_old_or_the_new() {
        let new = list(&[1, 3, 5]);
        for (start, old) in before() {
            let states = crash_states(
                &start,
                0..60,
                |vfs| new.write(&*vfs),
                |point, told, left| _ = check(&left, &old, &new, told, &format!("{point:?}")),
            );
            assert!(states > 60 * 4, "{states} states");
        }
    }

    #[test]
    fn kills_and_errors_leave_the_old_or_the_new() {
        let new = list(&[1, 3, 5]);
        let errors = [5, 28, 24].into_iter().flat_map(|errno| [Fault::ErrorOnce(errno), Fault::ErrorFrom(errno)]);
        for fault in errors.chain([Fault::Kill]) {
            for (start, old) in before() {
                let (mut kept, mut replaced) = (0, 0);
                for at in 1.. {
                    let inner = start.fork();
                    let plan = Plan { scope: Scope::Mutating, at, fault };
                    let vfs = FaultVfs::with_plan(Arc::new(inner.clone()), plan);
                    let told = new.write(&vfs);
                    if !vfs.hit() {
                        told.unwrap();
                        break;
                    }
                    let error = told.as_ref().expect_err("a call failed").to_string();
                    assert!(error.starts_with("cannot write: expired: "), "{fault:?} at {at}: {error}");
                    match check(&inner, &old, &new, &told, &format!("{fault:?} at {at}")) {
                        true => replaced += 1,
                        false => kept += 1,
                    }
                }
                // The directory's sync comes after the name.
                assert!(kept >= 4 && replaced == 1, "{fault:?}: {kept} {replaced}");
            }
        }
    }

    #[test]
    fn short_writes_are_continued() {
        let new = list(&[1, 3, 5]);
        for fault in [Fault::ShortWrite, Fault::ShortFrom] {
            let vfs =
                FaultVfs::with_plan(Arc::new(LossVfs::new()), Plan { scope: Scope::Only(Op::WriteAt), at: 1, fault });
            new.write(&vfs).unwrap();
            vfs.assert_hit();
            assert_eq!(Expired::read(&vfs).unwrap(), new);
        }
    }
}

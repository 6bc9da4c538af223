//! `member`: which number this node has in its cluster. It never changes, and is never used again for another.

use filesync_cas::small_file::{Builder, Lines, check_form};
use filesync_cas::vfs::Vfs;
use filesync_raft_log::ids::NodeId;

use crate::error::Error;
use crate::small_file;

/// Its name in `.filesync`.
pub const PATH: &str = "member";
const TITLE: &str = "filesync member 1";
const LEN_MAX: u64 = 4096;

/// What this node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Its number.
    pub node: NodeId,
    /// It takes part in the log, and has promised things there: without its part of the log it must not start.
    pub has_log: bool,
    /// It is a partial copy: without knowing its parts it must not be opened.
    pub is_partial: bool,
}

/// What is known; none if this node has not joined a cluster and has not founded one.
pub fn read(vfs: &dyn Vfs) -> Result<Option<Membership>, Error> {
    small_file::read(vfs, PATH, LEN_MAX, decode)
}

fn decode(bytes: &[u8]) -> Result<Membership, String> {
    let lines = Lines::parse(bytes, TITLE)?;
    let mut lines = lines.iter();
    let number = lines.next().and_then(|line| line.strip_prefix("node ")?.parse().ok());
    let node = NodeId(number.ok_or("no number in it")?);
    let mut membership = Membership { node, has_log: false, is_partial: false };
    for line in lines {
        match line {
            "log" => membership.has_log = true,
            "partial" => membership.is_partial = true,
            _ => return Err(format!("unknown line {line:?}")),
        }
    }
    check_form(bytes, &encode(membership))?;
    Ok(membership)
}

/// Makes it durable.
pub fn write(vfs: &dyn Vfs, membership: Membership) -> Result<(), Error> {
    small_file::write(vfs, PATH, &encode(membership))
}

fn encode(membership: Membership) -> Vec<u8> {
    let mut file = Builder::new(TITLE);
    file.line(&format!("node {}", membership.node));
    if membership.has_log {
        file.line("log");
    }
    if membership.is_partial {
        file.line("partial");
    }
    file.finish()
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::LossVfs;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let vfs = LossVfs::new();
        assert_eq!(read(&vfs).unwrap(), None);
        for (has_log, is_partial) in [(false, false), (true, false), (false, true)] {
            let membership = Membership { node: NodeId(12), has_log, is_partial };
            write(&vfs, membership).unwrap();
            assert_eq!(read(&vfs).unwrap(), Some(membership));
        }
    }
}

//! How much there may be to tell of a cluster: all of it travels in one answer, and is one row on every disk.
//!
//! Counted is what each row may come to take, so that nothing that is allowed without a look here, such as a publish, makes
//! it too much. Half is for everybody; the rest for those whom voters let in, so that nobody else can shut them out.

use super::{Member, State};
use crate::command::{Refusal, Role};
use crate::ids::RefName;

/// The most that members, invites, refs and what is lost may take together, in bytes: less than an answer of 1 MiB by what else is told.
pub const LEN_MAX: usize = 960 << 10;
/// As much of that as tags may fill, and members who were let in by one who does not vote.
pub const LEN_MAX_OF_OTHERS: usize = 512 << 10;

/// A member that never published, without its name and addresses.
const MEMBER_LEN: usize = 128;
/// Its last publish, of a ref with the longest name, and its last try.
const PUBLISH_LEN: usize = 400;
/// An invite.
pub(super) const INVITE_LEN: usize = 64;
/// A ref, without its name.
const REF_LEN: usize = 36;
/// An object that is lost.
pub(super) const LOST_LEN: usize = 32;

impl State {
    /// What members, invites, refs and the record of what is lost take at most when they are written, whatever members publish from here on.
    pub fn len_at_most(&self) -> usize {
        let members = self.members.values().map(member_len).sum::<usize>();
        let refs = self.refs.keys().map(ref_len).sum::<usize>();
        members + refs + self.invites.len() * INVITE_LEN + self.lost.len() * LOST_LEN
    }

    /// Fails unless there is room for so much more: all of the room where a voter stands behind it, and else half.
    pub(super) fn check_room(&self, more: usize, is_by_voters: bool) -> Result<(), Refusal> {
        let max = if is_by_voters { LEN_MAX } else { LEN_MAX_OF_OTHERS };
        if self.len_at_most() + more <= max {
            return Ok(());
        }
        let what = "members, invites, tags and lost objects";
        Err(Refusal::TooMuch(format!("the cluster has as many {what} as it can tell of")))
    }

    /// Fails unless there is room for a ref of this name that is not there yet.
    pub fn check_room_for_ref(&self, name: &RefName) -> Result<(), Refusal> {
        self.check_room(ref_len(name), false)
    }

    /// Fails unless there is room for what a member that may publish from here on can come to take.
    pub(super) fn check_room_to_publish(&self, member: &Member) -> Result<(), Refusal> {
        if may_publish(member) { Ok(()) } else { self.check_room(PUBLISH_LEN, true) }
    }
}

fn may_publish(member: &Member) -> bool {
    member.role >= Role::Writer || member.last.is_some()
}

/// What a member takes at most.
pub(super) fn member_len(member: &Member) -> usize {
    let publish = if may_publish(member) { PUBLISH_LEN } else { 0 };
    MEMBER_LEN + publish + member.name.len() + addresses_len(&member.addresses)
}

/// What addresses take.
pub(super) fn addresses_len(addresses: &[String]) -> usize {
    addresses.iter().map(|address| address.len() + 2).sum()
}

fn ref_len(name: &RefName) -> usize {
    name.as_str().len() + REF_LEN
}

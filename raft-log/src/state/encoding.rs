//! A state as it is written: its fields in their order.
//!
//! The record of what is lost came later. It follows only if there is one, and the number before it says whether: so states
//! without one are written as ever, and those of before are read. That holds wherever a state stands, also where something
//! follows it.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Change, Member, OpenInvite, State};
use crate::ids::{Id, InviteKey, Millis, NodeId, Position, RefName, RepositoryId};

/// Added to the number of intents, of which there are fewer: a record of what is lost follows.
const LOST_FOLLOWS: u64 = 1 << 63;

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lost = Some(&self.lost).filter(|lost| !lost.is_empty());
        let mut fields = serializer.serialize_struct("State", 12 + usize::from(lost.is_some()))?;
        fields.serialize_field("repository", &self.repository)?;
        fields.serialize_field("epoch", &self.epoch)?;
        fields.serialize_field("applied", &self.applied)?;
        fields.serialize_field("now", &self.now)?;
        fields.serialize_field("refs", &self.refs)?;
        fields.serialize_field("holders", &self.holders)?;
        fields.serialize_field("last_step", &self.last_step)?;
        fields.serialize_field("members", &self.members)?;
        fields.serialize_field("invites", &self.invites)?;
        fields.serialize_field("voters", &self.voters)?;
        fields.serialize_field("change", &self.change)?;
        let follows = if lost.is_some() { LOST_FOLLOWS } else { 0 };
        fields.serialize_field("intents", &(self.intents & !LOST_FOLLOWS | follows))?;
        if let Some(lost) = lost {
            fields.serialize_field("lost", lost)?;
        }
        fields.end()
    }
}

#[derive(Deserialize)]
#[serde(rename = "State")]
struct Written {
    repository: RepositoryId,
    epoch: u64,
    applied: Option<Position>,
    now: Millis,
    refs: BTreeMap<RefName, Id>,
    holders: BTreeSet<NodeId>,
    last_step: Option<Id>,
    members: BTreeMap<NodeId, Member>,
    invites: BTreeMap<InviteKey, OpenInvite>,
    voters: Vec<BTreeSet<NodeId>>,
    change: Option<Change>,
    end: End,
}

/// The number of intents, and what is lost if that follows.
struct End {
    intents: u64,
    lost: BTreeSet<Id>,
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let Written { repository, epoch, applied, now, refs, holders, last_step, .. } = written;
        let Written { members, invites, voters, change, end: End { intents, lost }, .. } = written;
        Ok(Self {
            repository,
            epoch,
            applied,
            now,
            refs,
            holders,
            last_step,
            members,
            invites,
            voters,
            change,
            intents,
            lost,
        })
    }
}

impl<'de> Deserialize<'de> for End {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = End;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the end of a state")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<End, A::Error> {
                let cut_off = || A::Error::custom("it is cut off");
                let number: u64 = fields.next_element()?.ok_or_else(cut_off)?;
                let lost: BTreeSet<Id> = match number & LOST_FOLLOWS {
                    0 => BTreeSet::new(),
                    _ => fields.next_element()?.ok_or_else(cut_off)?,
                };
                let is_one_form = lost.is_empty() == (number & LOST_FOLLOWS == 0);
                let end = End { intents: number & !LOST_FOLLOWS, lost };
                is_one_form.then_some(end).ok_or_else(|| A::Error::custom("a record of nothing"))
            }
        }
        deserializer.deserialize_tuple(2, Reader)
    }
}

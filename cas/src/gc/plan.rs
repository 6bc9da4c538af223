//! What becomes of each pack: a rule over figures, and nothing else.

use crate::frame::COUNT_MAX;
use crate::pack::{Class, PackName};
use crate::store::target_of;

use super::live::{PackLive, Use};

/// A pack is rewritten when more than one part in so many of it is garbage: rewriting writes what is live again, so that
/// less would cost more than four bytes written for each that is freed.
const GARBAGE_PART: u64 = 5;
/// A pack is rewritten when its frames hold less than this, if merging them pays.
const FRAME_MEAN_MIN: u64 = 64 << 10;
/// Merging pays if so many frames go, and half of them.
const FRAMES_SAVED_MIN: u64 = 16;

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// What is live in it is copied to another; then it goes.
    Rewrite,
    /// It goes.
    Remove,
}

/// What is known of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which.
    pub name: PackName,
    /// What it holds; `None` if that cannot be told.
    pub class: Option<Class>,
    /// Its serial.
    pub serial: u64,
    /// Length of its file.
    pub len: u64,
    /// How much of it is used.
    pub usage: Use,
    /// Something live is said to lie there that cannot be made out.
    pub is_needed: bool,
    /// Something that nothing needs is known to be damaged there: as long as it is there, the index leads to it.
    pub is_damaged: bool,
}

impl Facts {
    /// Of a pack, now.
    pub(super) fn of(pack: &PackLive, is_damaged: bool) -> Self {
        let PackLive { file, class, serial, .. } = pack;
        let (usage, is_needed) = (pack.usage(), pack.is_needed());
        Self { name: file.name, class: *class, serial: *serial, len: file.len, usage, is_needed, is_damaged }
    }

    fn fate(&self) -> Fate {
        let Use { stored, live_stored, live_objects, .. } = self.usage;
        if self.is_needed {
            Fate::Keep
        } else if live_objects == 0 {
            Fate::Remove
        } else if self.is_damaged || (stored - live_stored) * GARBAGE_PART > stored || self.should_merge() {
            Fate::Rewrite
        } else {
            Fate::Keep
        }
    }

    fn should_merge(&self) -> bool {
        let Use { frames, raw, live_raw, live_objects, .. } = self.usage;
        let target = target_of(self.class.unwrap_or(Class::Data)) as u64;
        let after = live_raw.div_ceil(target).max(live_objects.div_ceil(COUNT_MAX as u64));
        raw < frames * FRAME_MEAN_MIN && frames >= 2 * after && frames - after >= FRAMES_SAVED_MIN
    }
}

/// A pack and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// What is known of it.
    pub facts: Facts,
    /// What becomes of it.
    pub fate: Fate,
}

/// What a collection is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// All packs. What frees most for least comes first.
    pub packs: Vec<Planned>,
    /// Packs that were durable once, and are not there.
    pub missing: Vec<PackName>,
}

impl Plan {
    /// Decides.
    pub fn new(facts: impl IntoIterator<Item = Facts>, missing: Vec<PackName>) -> Self {
        let mut packs: Vec<Planned> = facts.into_iter().map(|facts| Planned { facts, fate: facts.fate() }).collect();
        // On a full disk there is no room for copies before the first packs are gone.
        packs.sort_by_key(|pack| (pack.facts.usage.live_stored, pack.facts.serial));
        Self { packs, missing }
    }

    /// Instead of all that, rewrites these packs, and leaves others alone.
    pub fn only(&mut self, wanted: impl Fn(PackName) -> bool) {
        for Planned { facts, fate } in &mut self.packs {
            *fate = match wanted(facts.name) && !facts.is_needed {
                false => Fate::Keep,
                true if facts.usage.live_objects == 0 => Fate::Remove,
                true => Fate::Rewrite,
            };
        }
        self.missing.retain(|pack| wanted(*pack));
    }

    fn sum(&self, fate: impl Fn(Fate) -> bool, of: impl Fn(&Facts) -> u64) -> u64 {
        self.packs.iter().filter(|pack| fate(pack.fate)).map(|pack| of(&pack.facts)).sum()
    }

    /// Bytes that live objects take as they are stored, about.
    pub fn live_bytes(&self) -> u64 {
        self.sum(|_| true, |facts| facts.usage.live_stored)
    }

    /// Bytes that will be free, about.
    pub fn freed_bytes(&self) -> u64 {
        let gone = self.sum(|fate| fate != Fate::Keep, |facts| facts.len);
        gone.saturating_sub(self.copied_bytes())
    }

    /// Bytes of live objects, as they are stored, that have to be copied before that, about.
    pub fn copied_bytes(&self) -> u64 {
        self.sum(|fate| fate == Fate::Rewrite, |facts| facts.usage.live_stored)
    }

    /// How many packs meet a fate.
    pub fn count(&self, fate: Fate) -> u64 {
        self.sum(|other| other == fate, |_| 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(class: Class, usage: Use) -> Fate {
        let name = PackName::from_bytes([1; 16]);
        Facts { name, class: Some(class), serial: 1, len: 1000, usage, is_needed: false, is_damaged: false }.fate()
    }

    fn full(frames: u64, live_of_hundred: u64) -> Use {
        let (raw, stored) = (frames << 20, frames << 19);
        let part = |of: u64| of * live_of_hundred / 100;
        let objects = frames * 16;
        Use {
            frames,
            objects,
            raw,
            live_objects: part(objects),
            live_raw: part(raw),
            stored,
            live_stored: part(stored),
        }
    }

    #[test]
    fn garbage_decides() {
        for (live, wanted) in
            [(0, Fate::Remove), (1, Fate::Rewrite), (79, Fate::Rewrite), (80, Fate::Keep), (100, Fate::Keep)]
        {
            assert_eq!(fate(Class::Data, full(200, live)), wanted, "{live} of a hundred");
        }
    }

    #[test]
    fn damaged_garbage_goes_whatever_it_costs() {
        let name = PackName::from_bytes([1; 16]);
        let facts = |live| Facts {
            name,
            class: Some(Class::Data),
            serial: 1,
            len: 9,
            usage: full(200, live),
            is_needed: false,
            is_damaged: true,
        };
        assert_eq!(facts(99).fate(), Fate::Rewrite);
        assert_eq!(facts(0).fate(), Fate::Remove);
    }

    #[test]
    fn what_cannot_be_made_out_stays() {
        let name = PackName::from_bytes([1; 16]);
        let facts =
            Facts { name, class: None, serial: 0, len: 9, usage: full(10, 0), is_needed: true, is_damaged: true };
        assert_eq!(facts.fate(), Fate::Keep);
    }

    #[test]
    fn small_frames_are_merged_where_that_pays() {
        let small = |frames: u64, objects: u64, len: u64| {
            let raw = objects * len;
            Use { frames, objects, raw, live_objects: objects, live_raw: raw, stored: raw, live_stored: raw }
        };
        assert_eq!(fate(Class::Data, small(1000, 1000, 2000)), Fate::Rewrite);
        assert_eq!(fate(Class::Meta, small(1000, 3000, 500)), Fate::Rewrite);
        assert_eq!(fate(Class::Data, small(10, 10, 2000)), Fate::Keep, "few");
        assert_eq!(fate(Class::Data, small(1000, 4_096_000, 10)), Fate::Keep, "as full as a frame can be");
        // What merging leaves is not merged again.
        assert_eq!(fate(Class::Data, small(2, 1000, 2000)), Fate::Keep);
        assert_eq!(fate(Class::Meta, small(12, 3000, 500)), Fate::Keep);
        assert_eq!(fate(Class::Meta, small(100, 30_000, 400)), Fate::Keep, "metadata has smaller frames");
    }

    #[test]
    fn a_plan_adds_up() {
        let facts = |n: u8, live| Facts {
            name: PackName::from_bytes([n; 16]),
            class: Some(Class::Data),
            serial: n.into(),
            len: 120 << 20,
            usage: full(200, live),
            is_needed: false,
            is_damaged: false,
        };
        let plan = Plan::new([facts(1, 100), facts(2, 0), facts(3, 50)], Vec::new());
        assert_eq!(
            plan.packs.iter().map(|pack| pack.fate).collect::<Vec<_>>(),
            [Fate::Remove, Fate::Rewrite, Fate::Keep]
        );
        assert_eq!(plan.live_bytes(), 150 << 20);
        assert_eq!(plan.freed_bytes(), (240 - 50) << 20);
        assert_eq!(plan.copied_bytes(), 50 << 20, "what is kept is not copied");
        assert_eq!((plan.count(Fate::Rewrite), plan.count(Fate::Remove)), (1, 1));
    }
}

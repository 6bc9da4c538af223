//! What reads found bad: noted, kept beside `HEAD`, and taken off the list when it has been stored again.

use std::collections::HashSet;
use std::path::Path;

use super::packs::{PackFile, Survey, damage_of, header_of, open_pack};
use super::{Inner, SMALL_FILE_MAX, Store, lock};
use crate::damaged::{self, Damaged};
use crate::error::{GetError, OpenError, PutError};
use crate::frame::{HEADER_LEN, Slot};
use crate::hash::ContentHash;
use crate::index::{IndexUpdate, Location, PackNumber};
use crate::pack::{PACK_HEADER_LEN, PackName, read_footer, walk_frames};
use crate::vfs::{Vfs, read_exact_at, read_to_end, replace};

/// More frames than this are not remembered: of the rest each object shows by itself.
const BAD_FRAMES_MAX: usize = 100_000;

impl Store {
    /// Whether reads have found damage that has not been stored again.
    pub fn has_damage(&self) -> bool {
        !lock(&self.inner.damage).is_empty()
    }

    /// The same, but for objects of which it is known.
    pub fn has_damage_besides(&self, known: &HashSet<ContentHash>) -> bool {
        let damage = lock(&self.inner.damage);
        !damage.packs.is_empty() || damage.objects.iter().any(|id| !known.contains(id))
    }

    /// What reads have found damaged, and has not been stored again.
    pub fn damage(&self) -> Damaged {
        lock(&self.inner.damage).clone()
    }

    /// Whether the next commit should read every file again, for what is damaged to be stored again. Not if a session
    /// was given all bytes since and it did not help: see [`Session::was_given_everything`](super::Session).
    pub fn needs_everything(&self) -> bool {
        let list = lock(&self.inner.damage).clone();
        let given_up = || self.inner.with_index(|index| index.given_up()).ok().flatten();
        !list.is_empty() && given_up() != Some(name_of(&list))
    }

    /// Notes objects as damaged, so that the next commit that has their bytes stores them again. Durable.
    pub fn record_damage(&self, objects: impl IntoIterator<Item = ContentHash>) -> Result<(), PutError> {
        self.inner.writer()?;
        for id in objects {
            let location = self.inner.locate(&id).unwrap_or_default();
            self.inner.list_damage(&id, location.as_ref());
        }
        self.inner.save_damage()
    }
}

impl Inner {
    /// An object could not be read where it was tried, nor anywhere else.
    pub(super) fn note_damage(&self, id: &ContentHash, tried: &Location) {
        let now = self.locate(id).ok().flatten().filter(|now| now != tried);
        if now.is_some_and(|now| self.read_at(&now, id).is_ok()) {
            // It was stored again meanwhile.
            return;
        }
        lock(&self.restored).remove(id);
        self.list_damage(id, Some(tried));
    }

    fn list_damage(&self, id: &ContentHash, location: Option<&Location>) {
        let mut damage = lock(&self.damage);
        if !damage.note(*id)
            && let Some(name) = location.and_then(|location| self.table.name(location.pack))
        {
            // The list is full: then all of the pack counts as bad.
            damage.packs.insert(name);
        }
    }

    /// Objects that are listed as damaged.
    pub(crate) fn listed_damage(&self) -> HashSet<ContentHash> {
        lock(&self.damage).objects.iter().copied().collect()
    }

    /// Takes objects off the list that nothing needs any more, and that the index does not lead to: who comes to need one
    /// is not to find it there.
    pub(crate) fn forget_damage(&self, unneeded: &HashSet<ContentHash>) {
        let is_gone = |id: &ContentHash| unneeded.contains(id) && matches!(self.locate(id), Ok(None));
        let gone: Vec<ContentHash> = self.listed_damage().into_iter().filter(is_gone).collect();
        let mut damage = lock(&self.damage);
        for id in gone {
            damage.objects.remove(&id);
        }
    }

    /// Remembers which damaged objects have been appended again.
    pub(super) fn note_restored(&self, slots: &[Slot]) {
        let damage = lock(&self.damage);
        if damage.objects.is_empty() {
            return;
        }
        let restored = slots.iter().map(|slot| slot.id).filter(|id| damage.objects.contains(id));
        lock(&self.restored).extend(restored);
    }

    /// Writes the list of what is damaged, if it has changed.
    pub(super) fn save_damage(&self) -> Result<(), PutError> {
        let list = lock(&self.damage).clone();
        let mut saved = lock(&self.damage_saved);
        if *saved == list {
            return Ok(());
        }
        let path = Path::new(damaged::PATH);
        let replaced = replace(&*self.place.vfs, path, &list.encode(), 0o644);
        replaced.map_err(|source| PutError::Io { path: path.to_owned(), source })?;
        *saved = list;
        Ok(())
    }

    /// After a commit: what it stored again reads well, and packs may have been put right by hand. If it was given
    /// everything, no other will do better with the rest. What fails here takes nothing back that was acknowledged.
    pub(crate) fn settle_damage(&self, given_everything: bool) {
        let restored = std::mem::take(&mut *lock(&self.restored));
        for id in restored {
            if self.reads_well(&id) {
                lock(&self.damage).objects.remove(&id);
            }
        }
        let packs: Vec<PackName> = lock(&self.damage).packs.iter().copied().collect();
        if !packs.is_empty()
            && let Ok(survey) = self.survey_now()
        {
            for name in packs {
                if !survey.missing.contains(&name) && self.pack_is_sound(&survey, name) {
                    lock(&self.damage).packs.remove(&name);
                }
            }
        }
        if let Err(error) = self.save_damage() {
            self.warn(error.to_string());
        }
        let list = lock(&self.damage).clone();
        if given_everything && !list.is_empty() {
            let update = IndexUpdate { given_up: Some(name_of(&list)), ..IndexUpdate::default() };
            // Forgotten, it costs one more reading of everything.
            drop(self.with_index(|index| index.apply(update)));
        }
    }

    fn pack_is_sound(&self, survey: &Survey, name: PackName) -> bool {
        match survey.packs.iter().find(|pack| pack.name == name) {
            // Neither there nor wanted.
            None => true,
            Some(pack) => !pack.is_short() && reads_whole(&*self.place.vfs, pack).unwrap_or(false),
        }
    }

    /// Whether an object reads well where it lies now.
    fn reads_well(&self, id: &ContentHash) -> bool {
        let Ok(Some(location)) = self.locate(id) else { return false };
        self.read_at(&location, id).is_ok()
    }

    /// Notes whether a frame could be read.
    pub(super) fn note_frame(&self, frame: (PackNumber, u32), is_good: bool) {
        let mut bad = lock(&self.bad_frames);
        if is_good {
            bad.remove(&frame);
        } else if bad.len() < BAD_FRAMES_MAX {
            bad.insert(frame);
        }
    }

    fn is_in_bad_frame(&self, location: &Location) -> bool {
        lock(&self.bad_frames).contains(&(location.pack, location.offset))
    }

    /// Whether an object that was written here is known to be bad, and has not been appended again since.
    pub(super) fn is_bad(&self, id: &ContentHash, location: &Location) -> bool {
        let is_listed = {
            let damage = lock(&self.damage);
            damage.objects.contains(id) && !lock(&self.restored).contains(id)
        };
        is_listed || self.is_in_bad_frame(location)
    }

    /// Whether something is known against an object where it lies.
    pub(crate) fn is_suspect(&self, id: &ContentHash, location: &Location) -> bool {
        if self.is_in_bad_frame(location) {
            return true;
        }
        let damage = lock(&self.damage);
        if damage.is_empty() {
            return false;
        }
        let bad_pack = self.table.name(location.pack).is_none_or(|name| damage.packs.contains(&name));
        bad_pack || damage.objects.contains(id)
    }
}

fn name_of(list: &Damaged) -> ContentHash {
    ContentHash::of_chunk(&list.encode())
}

/// Whether every byte of a pack is as it was written.
fn reads_whole(vfs: &dyn Vfs, pack: &PackFile) -> Result<bool, GetError> {
    let io = |source| GetError::Io { path: pack.path(), source };
    let file = open_pack(vfs, pack.name).map_err(io)?;
    let Ok(header) = damage_of(header_of(&*file, pack.name)).map_err(io)? else { return Ok(false) };
    let end = match pack.sealed {
        false => pack.end,
        true => match damage_of(read_footer(&*file, pack.end)).map_err(io)? {
            Ok((_, end)) => end,
            Err(_) => return Ok(false),
        },
    };
    let sound = std::cell::Cell::new(true);
    walk_frames::<std::io::Error>(
        &*file,
        header.class,
        PACK_HEADER_LEN,
        end,
        &mut |header, frame| {
            let mut payload = vec![0; header.stored_len as usize];
            read_exact_at(&*file, &mut payload, frame.offset + (HEADER_LEN + header.table_len()) as u64)?;
            sound.set(sound.get() && header.payload_fits(&payload));
            Ok(())
        },
        &mut |_, _| {
            sound.set(false);
            Ok(())
        },
    )
    .map_err(io)?;
    Ok(sound.get())
}

/// A list that is damaged itself is begun anew: what is bad will be found again.
pub fn read_damage(vfs: &dyn Vfs, warnings: &mut Vec<String>) -> Result<Damaged, OpenError> {
    let path = Path::new(damaged::PATH);
    let bytes = match read_to_end(vfs, path, SMALL_FILE_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Damaged::default()),
        Err(source) => return Err(OpenError::Io { path: path.to_owned(), source }),
    };
    Ok(Damaged::decode(&bytes).unwrap_or_else(|cause| {
        warnings.push(format!("{}: damaged: {cause}: ignored", damaged::PATH));
        Damaged::default()
    }))
}

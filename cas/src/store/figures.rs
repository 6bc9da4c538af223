//! What a store comes to, for those who look after it.

use std::path::Path;

use super::Store;
use crate::error::{GetError, PutError};
use crate::pack::{Class, PackName};

/// What the packs of one kind come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackSizes {
    /// How many there are.
    pub packs: u64,
    /// Bytes that are vouched for.
    pub bytes: u64,
    /// Objects in them.
    pub objects: u64,
}

/// What a store comes to, as the index has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Packs of file data.
    pub data: PackSizes,
    /// Packs of trees, lists and commits.
    pub metadata: PackSizes,
}

impl Store {
    /// Counts packs, by kind. Reads nothing but the index.
    pub fn sizes(&self) -> Result<Sizes, GetError> {
        let packs = self.inner.with_index(|index| index.packs());
        let mut sizes = Sizes::default();
        for pack in packs.map_err(|error| GetError::Index(error.cause().to_owned()))? {
            let of_kind = match pack.class {
                Some(Class::Data) => &mut sizes.data,
                Some(Class::Meta) => &mut sizes.metadata,
                None => continue,
            };
            of_kind.packs += 1;
            of_kind.bytes += pack.len;
            of_kind.objects += u64::from(pack.objects);
        }
        Ok(sizes)
    }

    /// Every pack that counts, and how many of its bytes are durable: for who keeps a record of it elsewhere, so that a loss shows.
    pub fn durable_packs(&self) -> Result<Vec<(PackName, u64)>, GetError> {
        let survey = self.inner.survey_now();
        let survey = survey.map_err(|source| GetError::Io { path: Path::new("packs").to_owned(), source })?;
        Ok(survey.packs.iter().map(|pack| (pack.name, pack.end.min(pack.len))).collect())
    }

    /// Of those, the ones that still grow. Reads nothing.
    pub fn open_packs(&self) -> Result<Vec<(PackName, u64)>, PutError> {
        Ok(self.inner.writer()?.head().marks.iter().map(|mark| (mark.pack, mark.len)).collect())
    }

    /// Fails if the store is open for reading only, or has stopped after a sync that failed: then it must be opened anew.
    pub fn check_writable(&self) -> Result<(), PutError> {
        self.inner.writer()?.check()
    }

    /// Forgets what has been read, for who wants to know what lies on the disk now.
    pub fn forget_frames(&self) {
        self.inner.frames.clear();
    }

    /// Unlinks packs that a collection left since somebody read them, if nobody does now. A store that is opened for
    /// writing has done so; one that stays open does it now and then. What fails is met again.
    pub fn remove_condemned(&self) {
        if self.inner.writer().is_ok()
            && let Ok(survey) = self.inner.survey_now()
        {
            drop(self.inner.unlink_condemned(&survey.condemned));
        }
    }
}

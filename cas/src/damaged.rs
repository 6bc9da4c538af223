//! What reads found bad or missing: it counts as absent when a writer asks what is there, so that the next
//! commit that has the bytes stores them again (`docs/format.md`, section 3).

use std::collections::BTreeSet;

use crate::hash::ContentHash;
use crate::pack::PackName;
use crate::small_file::{Builder, Lines, check_form};

const TITLE: &str = "filesync damaged 1";
/// Where the list lies.
pub const PATH: &str = "damaged";
/// More objects than this are not listed.
const OBJECTS_MAX: usize = 100_000;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    /// Packs that are missing, short or unreadable.
    pub packs: BTreeSet<PackName>,
    /// Objects of which a copy is bad.
    pub objects: BTreeSet<ContentHash>,
}

impl Damaged {
    /// Whether nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.objects.is_empty()
    }

    /// Adds an object. False if the list is full: then its pack is to be listed instead.
    pub fn note(&mut self, id: ContentHash) -> bool {
        let fits = self.objects.len() < OBJECTS_MAX || self.objects.contains(&id);
        if fits {
            self.objects.insert(id);
        }
        fits
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = Builder::new(TITLE);
        self.packs.iter().for_each(|pack| file.line(&format!("pack {pack}")));
        self.objects.iter().for_each(|id| file.line(&format!("object {id}")));
        file.finish()
    }

    /// Parses the file's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut list = Self::default();
        for line in Lines::parse(bytes, TITLE)?.iter() {
            let added = match line.split_once(' ') {
                Some(("pack", name)) => name.parse().is_ok_and(|name| list.packs.insert(name)),
                Some(("object", id)) => id.parse().is_ok_and(|id| list.objects.insert(id)),
                _ => false,
            };
            if !added {
                return Err(format!("unknown line {line:?}"));
            }
        }
        check_form(bytes, &list.encode())?;
        Ok(list)
    }
}

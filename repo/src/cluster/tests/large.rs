//! Large files of a clone.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use filesync_cas::vfs::TEMP_PREFIX;

use super::*;
use crate::request::{Event, Observer};

const LEN: usize = 9 << 20;

/// The files of that length that lie beside the store while something is fetched. As long as they are open, no other file gets their
/// inodes.
struct Lying {
    store: PathBuf,
    seen: Mutex<Vec<File>>,
}

impl Observer for Lying {
    fn event(&self, event: Event) {
        let (Event::Advance { .. }, Ok(entries)) = (event, std::fs::read_dir(&self.store)) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX)) {
            if let Ok(file) = File::open(entry.path())
                && file.metadata().is_ok_and(|found| found.len() == LEN as u64)
            {
                self.seen.lock().unwrap().push(file);
            }
        }
    }
}

#[test]
fn what_is_written_while_it_comes_is_moved_to_its_place() {
    let dir = founded();
    let bytes = Rng::new(5).bytes(LEN);
    dir.write("deep/large", &bytes);
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    sync_now(&one);
    let new = Dir::new();
    let path = new.0.join("repo");
    let lying = Lying { store: path.join(".filesync"), seen: Mutex::default() };
    let invite = invite(&one, Role::Writer);
    let request = CloneRequest { invite, dir: path.clone(), name: None, paths: Vec::new(), timeout: TIME };
    crate::cluster::clone(&request, &OpenOptions::default(), &lying).unwrap();
    assert!(std::fs::read(path.join("deep/large")).unwrap() == bytes);
    let inode = std::fs::metadata(path.join("deep/large")).unwrap().ino();
    let seen = lying.seen.into_inner().unwrap();
    assert!(seen.iter().any(|file| file.metadata().unwrap().ino() == inode), "it was written when all had come");
    let left = std::fs::read_dir(path.join(".filesync")).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX)).count(), 0);
    one.shutdown();
}

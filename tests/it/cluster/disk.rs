//! A small disk: a file system of its own in a file, that can be filled to the last block and emptied again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use filesync_tests::world::{TempDir, skipped};
use rustix::fs::{FallocateFlags, fallocate};

/// Its size: a run needs a fraction of it.
const SIZE: u64 = 512 << 20;
/// What fills it, left out of commits by the rules of the first one.
pub const BALLAST: &str = "ballast";

/// Mounted until dropped.
pub struct Disk {
    at: PathBuf,
    _image: TempDir,
}

impl Disk {
    /// Makes one at an empty directory. None where file systems cannot be mounted.
    pub fn mount(at: &Path) -> Option<Self> {
        let dir = TempDir::new();
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("a file with a hole takes no room");
        let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let is_there = run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at));
        if !is_there {
            skipped("file systems cannot be made and mounted here");
            return None;
        }
        std::fs::remove_dir(at.join("lost+found")).expect("it is empty");
        Some(Self { at: at.to_owned(), _image: dir })
    }

    /// Nothing is left.
    pub fn fill(&self) {
        let mut file = File::create(self.at.join(BALLAST)).expect("there is room for a name");
        let (mut len, mut piece) = (0, SIZE);
        while piece >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), len, piece) {
                Ok(()) => len += piece,
                Err(_) => piece /= 2,
            }
        }
        // The last blocks, which others may have given back meanwhile.
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).expect("it can be sought");
        while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// There is room again.
    pub fn free(&self) {
        std::fs::remove_file(self.at.join(BALLAST)).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.at).status());
    }
}

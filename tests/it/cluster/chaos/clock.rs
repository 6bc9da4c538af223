//! Clocks that are wrong, and change at any moment: a library of a few lines, loaded into the programs of a machine.
//!
//! So it is the program itself that runs, and reads the time as it always does. (Namespaces of time leave the time of day
//! alone. Debian's libfaketime was tried; each process leaves two files in /dev/shm if it ends without a word, as here all do,
//! and does not start if it meets those of another with its number.)

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use filesync_tests::world::TempDir;

/// How far off they are.
pub const HOUR: i64 = 3_600;

/// The library, built once for all machines.
pub struct Library {
    dir: TempDir,
}

impl Library {
    pub fn new() -> Self {
        let dir = TempDir::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(dir.path().join("clock.so")).arg(source);
        let output = compiler.output().expect("whoever built RocksDB has a compiler");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { dir }
    }

    /// The clock of a machine, right at first.
    pub fn clock(&self, number: usize) -> Clock {
        let clock = Clock { library: self.dir.path().join("clock.so"), file: self.dir.path().join(number.to_string()) };
        std::fs::write(&clock.file, 0_i64.to_ne_bytes()).expect("there is room");
        clock
    }
}

pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// What to put before a program that is to have this clock.
    pub fn words(&self) -> [String; 3] {
        let preload = format!("LD_PRELOAD={}", self.library.display());
        ["env".to_owned(), preload, format!("CHAOS_CLOCK={}", self.file.display())]
    }

    /// It jumps, for all who run now as for all who come: so many seconds from what is true.
    pub fn set(&self, off: i64) {
        let file = std::fs::OpenOptions::new().write(true).open(&self.file).expect("it is there");
        // In one piece, and where the others have it mapped.
        let written = file.write_at(&off.to_ne_bytes(), 0).expect("there is room");
        assert_eq!(written, size_of::<i64>());
    }
}

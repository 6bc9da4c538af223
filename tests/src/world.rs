//! Temporary directories, working copies and the program, each in a line.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether the long form of a test is asked for.
pub fn is_long() -> bool {
    std::env::var_os("FILESYNC_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// The seed of a random test: that of `FILESYNC_SEED`, or `default`. Printed, so that a failure can be run again.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("FILESYNC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
    println!("seed {seed} (FILESYNC_SEED={seed} runs it again)");
    seed
}

/// A directory that is gone when the test is over.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new, empty directory.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("filesync-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path.canonicalize().expect("it was just made"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Directories without write permission are part of some tests.
        drop(Command::new("chmod").arg("-R").arg("u+rwX").arg(&self.0).output());
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The program: the one that `FILESYNC_BIN` names, or built from this workspace beside the tests.
pub fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        if let Some(path) = std::env::var_os("FILESYNC_BIN") {
            return PathBuf::from(path);
        }
        let test = std::env::current_exe().expect("a test knows where it lies");
        let profile_dir = test.parent().and_then(Path::parent).expect("tests lie in deps/").to_owned();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", "filesync-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile_dir.file_name() == Some(OsStr::new("release")) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success(), "the program builds");
        profile_dir.join("filesync")
    });
    &PROGRAM
}

/// A working copy in a temporary directory, and the program run in it.
#[derive(Debug, Default)]
pub struct World {
    dir: TempDir,
}

impl World {
    /// An empty directory.
    pub fn empty() -> Self {
        Self::default()
    }

    /// An empty repository.
    pub fn repository() -> Self {
        let world = Self::empty();
        world.ok(&["init"]);
        world
    }

    /// The root of the working copy.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path below the root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    /// Writes a file, with the directories above it.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("directories can be made");
        std::fs::write(&path, bytes).expect("a file can be written");
    }

    /// A command in the root, to be changed further and run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.root()).env_remove("FILESYNC_DIR").stdin(std::process::Stdio::null());
        command
    }

    /// Runs a command, whatever comes of it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// Runs a command that must end with status 0; its standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{args:?} ended with {}\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Runs a command with `--json` that must end with status 0; one value a line.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let mut all = vec!["--json"];
        all.extend(args);
        let parse = |line: &str| serde_json::from_str(line).expect("a line of JSON");
        self.ok(&all).lines().map(parse).collect()
    }

    /// Runs a command that must end with `status`; its standard error.
    #[track_caller]
    pub fn fails(&self, status: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{args:?}\n{}{err}", String::from_utf8_lossy(&output.stdout));
        err
    }
}

//! Temporary directories, working copies and the program, each in a line.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use filesync_cas::testing::Rng;
pub use filesync_cas::testing::{is_long, seed, seeds, skipped};

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

/// The user id that commands of [`World::for_plain_user`] have if the tests run as root.
pub const PLAIN_USER: u32 = 65534;

/// Whether the tests run as root, for whom permissions do not count.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command in `dir` that runs as a user for whom permissions count, and that may do nothing in other users' homes.
fn as_plain_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = PLAIN_USER.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]).arg(program);
    command
}

/// A working copy in a temporary directory, and the program run in it.
#[derive(Debug, Default)]
pub struct World {
    dir: TempDir,
    /// Of a world for a plain user: where the program lies that this user can run.
    for_all: Option<TempDir>,
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

    /// An empty directory whose commands run as a user for whom permissions count, and who owns it.
    pub fn for_plain_user() -> Self {
        let (dir, programs) = (TempDir::new(), TempDir::new());
        // A home is closed to others: a second name of the program where everybody may go, or a copy.
        let there = programs.path().join("filesync");
        if std::fs::hard_link(program(), &there).is_err() {
            let copied = Command::new("cp").arg(program()).arg(&there).status();
            assert!(copied.expect("cp runs").success(), "the program can be copied");
        }
        if is_root() {
            std::os::unix::fs::chown(dir.path(), Some(PLAIN_USER), Some(PLAIN_USER)).expect("root may give away");
        }
        Self { dir, for_all: Some(programs) }
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

    /// Writes a file as [`World::write`] does; false if there is no room.
    pub fn try_write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> bool {
        let path = self.path(path);
        let dir = path.parent().expect("below the root");
        match std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, bytes)) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => false,
            written => {
                written.expect("a file can be written");
                true
            }
        }
    }

    /// Sets the mode of a path.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) {
        std::fs::set_permissions(self.path(path), Permissions::from_mode(mode)).expect("modes can be set");
    }

    /// Bytes of all packs. A writer beside may just have given one another name.
    pub fn packs_len(&self) -> u64 {
        let packs = std::fs::read_dir(self.path(".filesync/packs")).expect("there are packs").flatten();
        packs.filter_map(|pack| pack.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// A command in the root, to be changed further and run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.for_all {
            Some(programs) => as_plain_user(&programs.path().join("filesync")),
            None => Command::new(program()),
        };
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

/// Bytes that do not shrink, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    Rng::new(seed).bytes(len)
}

/// Flips a bit of what a repository holds of a file of the working copy. Only what no compression shrinks lies in a pack as
/// it is: random bytes, 64 of them at least.
#[track_caller]
pub fn rot(root: &Path, file: &str) {
    let bytes = std::fs::read(root.join(file)).expect("a file can be read");
    let wanted = &bytes[(bytes.len() - 64) / 2..][..64];
    for pack in std::fs::read_dir(root.join(".filesync/packs")).expect("there are packs").flatten() {
        let mut stored = std::fs::read(pack.path()).expect("a pack can be read");
        if let Some(at) = stored.windows(wanted.len()).position(|bytes| bytes == wanted) {
            stored[at] ^= 1;
            return std::fs::write(pack.path(), stored).expect("a pack can be written");
        }
    }
    panic!("no pack has the bytes of {file} as they are");
}

/// A command that is killed, with all that it started, when it takes longer.
pub fn within(seconds: u32, command: &Command) -> Command {
    let mut timed = Command::new("timeout");
    timed.args(["--signal=KILL", &seconds.to_string()]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        timed.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    timed.stdin(std::process::Stdio::null());
    timed
}

/// What a run of the program came to: its status, and all that it printed, for messages.
#[derive(Debug)]
pub struct Ran {
    /// The exit status; none after a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Of a command that has ended.
    pub fn new(output: Output) -> Self {
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { status: output.status.code(), out: output.stdout, err }
    }

    /// Whether there was a panic, a signal, or no end.
    pub fn is_broken(&self) -> bool {
        let known = matches!(self.status, Some(0..=5));
        !known || self.err.contains("internal error") || self.err.contains("panicked")
    }
}

impl World {
    /// A working copy like another, `.filesync` included.
    pub fn copy_of(root: &Path) -> Self {
        let world = Self::empty();
        let from = root.join(".");
        let copied = Command::new("cp").arg("-a").arg(from).arg(world.root()).status().expect("cp runs");
        assert!(copied.success(), "a working copy can be copied");
        world
    }

    /// Runs a command that may fail, but neither panics nor hangs.
    #[track_caller]
    pub fn sane(&self, args: &[&str]) -> Ran {
        let output = within(60, &self.command(args)).output().expect("the program runs");
        let ran = Ran::new(output);
        assert!(!ran.is_broken(), "{args:?}: {ran:?}");
        ran
    }

    /// The id of the head; none before the first commit.
    pub fn head(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.path(".filesync/HEAD")).expect("HEAD can be read");
        let id = text.lines().find_map(|line| line.strip_prefix("head ")).expect("HEAD names the head");
        (id != "none").then(|| id.to_owned())
    }

    /// What a commit holds, as `restore --to` brings it back.
    #[track_caller]
    pub fn restored(&self, commit: &str) -> crate::model::Tree {
        let dir = TempDir::new();
        let to = dir.path().join("copy");
        let ran = self.sane(&["restore", commit, "--to", to.to_str().expect("a plain path")]);
        assert_eq!(ran.status, Some(0), "restore {commit}: {ran:?}");
        crate::model::read_tree(&to)
    }

    /// Runs a command with `--json` that must end with `status` and print one object.
    #[track_caller]
    pub fn object(&self, status: i32, args: &[&str]) -> serde_json::Value {
        let output = self.run(&[&["--json"], args].concat());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{args:?}\n{out}{err}");
        serde_json::from_str(&out).expect("one object of JSON")
    }

    /// Commits what there is; the id of the new head, which must be another than before.
    #[track_caller]
    pub fn commit(&self) -> String {
        let result = self.object(0, &["commit"]);
        result["commit"].as_str().expect("there is something to commit").to_owned()
    }

    /// The head's bytes of a file.
    #[track_caller]
    pub fn cat(&self, path: &str) -> Vec<u8> {
        let output = self.run(&["cat", &format!("HEAD:{path}")]);
        assert!(output.status.success(), "cat {path}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Changes as `status` tells them, a `LETTER path` each, `LETTER from -> path` for renames.
    #[track_caller]
    pub fn changes(&self) -> Vec<String> {
        let status = self.object(0, &["status"]);
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let show = |change: &serde_json::Value| match change.get("from") {
            Some(from) => format!("{} {} -> {}", text(&change["change"]), text(from), text(&change["path"])),
            None => format!("{} {}", text(&change["change"]), text(&change["path"])),
        };
        status["changes"].as_array().expect("a list").iter().map(show).collect()
    }
}

/// A command behind words that run it.
pub fn behind(words: &[&str], command: &Command) -> Command {
    let mut all = Command::new(words[0]);
    all.args(&words[1..]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        all.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.env(name, value),
            None => all.env_remove(name),
        };
    }
    all.stdin(std::process::Stdio::null());
    all
}

//! No room, no rights, few descriptors.

use std::path::PathBuf;
use std::process::{Command, Output};

use filesync_tests::world::{TempDir, World, is_root, noise, program, skipped};

/// Something mounted, until dropped.
pub struct Mount(pub PathBuf, #[expect(dead_code, reason = "held until the mount is gone")] TempDir);

impl Mount {
    /// Runs `mount` with these arguments and a new directory. None where that is not allowed.
    pub fn new(args: &[&str]) -> Option<Self> {
        let dir = TempDir::new();
        let path = dir.path().join("mounted");
        std::fs::create_dir(&path).expect("it can be made");
        let mounted =
            is_root() && Command::new("mount").args(args).arg(&path).output().is_ok_and(|o| o.status.success());
        if !mounted {
            skipped("file systems cannot be mounted here");
            return None;
        }
        Some(Self(path, dir))
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(program()).args(args).current_dir(&self.0).env_remove("FILESYNC_DIR").output().expect("runs")
    }

    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[track_caller]
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {err}");
        assert!(err.starts_with("filesync: ") && err.lines().count() <= 2, "{err}");
        err
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        drop(unmounted);
    }
}

#[test]
fn full_disk() {
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=40m", "tmpfs"]) else { return };
    mount.ok(&["init"]);
    std::fs::write(mount.0.join("a"), noise(1, 2 << 20)).expect("there is room");
    mount.ok(&["commit", "-m", "first"]);
    std::fs::write(mount.0.join("b"), noise(2, 14 << 20)).expect("there is room");
    // All but 4 MiB of what is left: too little for another 14.
    let filler = mount.0.join("filler");
    std::fs::write(mount.0.join(".filesyncignore"), "filler\n").expect("there is room");
    let free = rustix::fs::statvfs(&mount.0).map(|stat| stat.f_bavail * stat.f_frsize).expect("it can be asked");
    let len = usize::try_from(free.saturating_sub(4 << 20)).expect("it is small");
    std::fs::write(&filler, vec![1; len]).expect("there is room");
    for _ in 0..2 {
        let err = mount.fails(&["commit", "-m", "second"]);
        assert!(err.contains("No space left on device"), "{err}");
    }
    // What was there is there; readers need no room.
    assert_eq!(mount.ok(&["log"]).matches("commit ").count(), 1);
    assert!(mount.run(&["cat", "HEAD:a"]).stdout == noise(1, 2 << 20));
    mount.ok(&["fsck"]);
    mount.ok(&["status"]);
    // Not a byte left.
    let mut rest = std::fs::OpenOptions::new().append(true).open(&filler).expect("it is there");
    drop(std::io::copy(&mut std::io::repeat(1), &mut rest));
    assert!(mount.run(&["cat", "HEAD:a"]).stdout == noise(1, 2 << 20));
    mount.ok(&["log"]);
    mount.ok(&["status"]);
    let err = mount.fails(&["commit"]);
    assert!(err.contains("No space left on device"), "{err}");
    drop(rest);
    std::fs::remove_file(&filler).expect("it is there");
    mount.ok(&["commit", "-m", "second"]);
    assert!(mount.run(&["cat", "HEAD:b"]).stdout == noise(2, 14 << 20));
    mount.ok(&["fsck"]);
}

#[test]
fn read_only_file_system() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    world.write("b", "not committed");
    world.ok(&["tag", "t"]);
    let Some(mount) = Mount::new(&["--bind", world.root().to_str().expect("UTF-8")]) else { return };
    let read_only = Command::new("mount").args(["-o", "remount,ro,bind"]).arg(&mount.0).status();
    assert!(read_only.is_ok_and(|status| status.success()), "it can be mounted again");
    assert_eq!(mount.ok(&["ls"]), "a\n");
    assert_eq!(mount.ok(&["cat", "HEAD:a"]), "a");
    assert_eq!(mount.ok(&["-q", "status"]), "A b\n");
    assert_eq!(mount.ok(&["diff", "--name-status"]), "A\tb\n");
    assert!(mount.ok(&["diff"]).ends_with("+not committed\n\\ No newline at end of file\n"));
    assert!(mount.ok(&["show", "--name-status"]).ends_with("A\ta\n"));
    assert_eq!(mount.ok(&["du"]), "1\t.\n");
    assert_eq!(mount.ok(&["tag"]), "t\n");
    assert_eq!(mount.run(&["check-ignore", "b"]).status.code(), Some(1), "no rule leaves it out");
    mount.ok(&["log"]);
    mount.ok(&["fsck"]);
    let elsewhere = World::empty();
    mount.ok(&["restore", "--to", elsewhere.path("copy").to_str().expect("UTF-8")]);
    assert_eq!(std::fs::read(elsewhere.path("copy/a")).expect("it is there"), b"a");
    for args in [["commit"].as_slice(), &["restore"], &["init", "new"], &["tag", "u"], &["gc"]] {
        let err = mount.fails(args);
        assert!(err.contains("Read-only file system"), "{err}");
    }
    drop(mount);
    world.commit();
}

pub fn limited(world: &World, limit: &str, args: &[&str]) -> Output {
    let mut command = Command::new("prlimit");
    command.arg(limit).arg(program()).args(args).current_dir(world.root()).env_remove("FILESYNC_DIR");
    command.output().expect("prlimit runs")
}

#[test]
fn few_descriptors() {
    let world = World::repository();
    for name in 0..400 {
        world.write(format!("d{}/{name}", name % 80), format!("{name}"));
    }
    for args in [["commit"].as_slice(), &["status"], &["ls", "-r"], &["fsck"], &["log"], &["restore"]] {
        let output = limited(&world, "--nofile=64:64", args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {err}");
    }
    assert_eq!(world.cat("d7/7"), b"7");
    // Too few for anything: said in the system's words.
    world.write("more", "more");
    for limit in ["--nofile=4:4", "--nofile=8:8", "--nofile=12:12"] {
        for args in [["commit", "--allow-empty"].as_slice(), &["status"], &["fsck"], &["ls", "-r"]] {
            let output = limited(&world, limit, args);
            let err = String::from_utf8_lossy(&output.stderr);
            let told = output.status.code() == Some(1) && err.contains("Too many open files");
            assert!(output.status.success() || told, "{limit} {args:?}: {} {err}", output.status);
        }
    }
    world.ok(&["commit", "--allow-empty"]);
    world.ok(&["fsck"]);
}

#[test]
fn small_files_only() {
    let world = World::repository();
    world.write("a", "a");
    let head = world.commit();
    world.write("big", noise(3, 6 << 20));
    let output = limited(&world, "--fsize=1048576:1048576", &["commit"]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{} {err}", output.status);
    assert!(err.contains("File too large"), "{err}");
    assert_eq!(world.json(&["log"])[0]["commit"], head.as_str());
    world.ok(&["fsck"]);
    for args in [["status"].as_slice(), &["log"], &["cat", "HEAD:a"], &["fsck"]] {
        let output = limited(&world, "--fsize=0:0", args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    world.commit();
    assert!(world.cat("big") == noise(3, 6 << 20));
}

//! Members that find each other on their network.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use filesync_tests::world::{World, behind, skipped};

use super::Daemon;

/// A network of its own, which takes what is sent to everybody.
struct Lan(Child);

const SETUP: &str = "ip link set lo up && ip link add lan type veth peer name other && ip addr add 10.213.78.1/24 dev lan \
                     && ip link set lan up && ip link set other up && ip route add 224.0.0.0/4 dev lan && echo ready && exec cat";

impl Lan {
    /// None where network namespaces cannot be made.
    fn new() -> Option<Self> {
        let mut shell = Command::new("unshare");
        shell.args(["--net", "sh", "-c", SETUP]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut lan = Self(shell.spawn().ok()?);
        let mut said = String::new();
        BufReader::new(lan.0.stdout.take().expect("piped")).read_line(&mut said).expect("it can be read");
        (said == "ready\n").then_some(lan)
    }

    fn command(&self, world: &World, args: &[&str]) -> Command {
        behind(&["nsenter", &format!("--net=/proc/{}/ns/net", self.0.id())], &world.command(args))
    }

    #[track_caller]
    fn run(&self, world: &World, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(world, args).output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    #[track_caller]
    fn ok(&self, world: &World, args: &[&str]) -> String {
        let (status, said) = self.run(world, args);
        assert_eq!(status, Some(0), "{args:?}: {said}");
        said
    }

    #[track_caller]
    fn serve(&self, world: &World, port: u16) -> Daemon {
        let mut command = self.command(world, &["serve", "--listen", &format!("10.213.78.1:{port}")]);
        command.stderr(Stdio::null());
        Daemon::spawn(command)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Who went elsewhere is found there, by those who listen for it and by nobody else.
#[test]
fn cluster_members_on_one_network_find_each_other() {
    let Some(lan) = Lan::new() else {
        skipped("network namespaces cannot be made here");
        return;
    };
    let (one, two) = (World::empty(), World::empty());
    one.ok(&["init", "--name", "one"]);
    one.write("file", "1");
    one.commit();
    one.ok(&["config", "set", "serve.mdns", "yes"]);
    let here = lan.serve(&one, 7001);
    lan.ok(&one, &["sync"]);
    let invite = lan.ok(&one, &["-q", "invite"]);
    lan.ok(&two, &["clone", invite.trim(), ".", "--name", "two"]);
    here.end();
    let there = lan.serve(&one, 7003);
    two.write("more", "2");
    two.commit();
    let deaf = lan.serve(&two, 7002);
    assert_eq!(lan.run(&two, &["sync", "--timeout", "3s"]).0, Some(4));
    deaf.end();
    two.ok(&["config", "set", "serve.mdns", "yes"]);
    let listening = lan.serve(&two, 7002);
    lan.ok(&two, &["sync"]);
    lan.ok(&one, &["sync"]);
    assert_eq!(std::fs::read(one.path("more")).expect("it came"), b"2");
    listening.end();
    there.end();
}

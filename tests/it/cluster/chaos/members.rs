//! Who belongs changes, while everybody goes on.

use std::time::Duration;

use super::super::until;
use super::Cluster;
use super::history::History;
use super::machine::{Machine, values};

/// How long a change of members may take until it is asked for again.
const TIMEOUT: &str = "20s";
/// One at a time.
const EVEN: &[&str] = &["--even"];

/// Somebody joins, becomes the fourth voter, and goes again.
pub fn guest_comes_and_goes(cluster: &Cluster, name: &str, lasts: Duration) {
    let host = cluster.host();
    let guest = cluster.machine(Cluster::GUEST, name);
    join(host, &guest, "voter");
    promote(host, name, EVEN);
    std::thread::sleep(lasts);
    guest.assert_runs();
    demote(host, name, "writer");
    remove(host, name);
    guest.kill();
}

/// A voter votes no more for a while, and goes on following the log.
pub fn voter_pauses(cluster: &Cluster, voter: &Machine, lasts: Duration) {
    let (host, name) = (cluster.host(), voter.name());
    demote(host, &name, "candidate");
    std::thread::sleep(lasts);
    // Its user is served meanwhile.
    until("a candidate is up to date", || voter.run(&["sync", "--pull", "--timeout", TIMEOUT]).status == Some(0));
    promote(host, &name, EVEN);
}

/// A member leaves for good, and another one joins in its place, with nothing but an invite. False if the run is over before
/// there is a moment for it.
pub fn member_is_replaced(cluster: &Cluster, history: &History, machine: &Machine, name: &str) -> bool {
    let (host, old) = (cluster.host(), machine.name());
    let votes = role(host, &old).as_deref() == Some("voter");
    let replace = || {
        remove(host, &old);
        refuse(machine);
        machine.kill();
        machine.renew(name);
        join(host, machine, if votes { "voter" } else { "writer" });
        if votes {
            promote(host, name, EVEN);
        }
    };
    machine.rest.during(history, replace).is_some()
}

/// With a new invite, of a voter or a writer.
pub fn join(host: &Machine, machine: &Machine, role: &str) {
    let line = String::from_utf8(host.insist(&["invite", "--role", role]).out).expect("UTF-8");
    until("it joins", || {
        let joined = machine.join(line.trim());
        if joined.status != Some(0) {
            println!("not joined yet: {joined:?}");
        }
        joined.status == Some(0)
    });
    machine.start();
}

/// Who was removed gets nothing more, also while its daemon runs.
fn refuse(machine: &Machine) {
    let ran = machine.run(&["sync", "--pull", "--timeout", "1s"]);
    assert_eq!(ran.status, Some(4), "{} is a member no more: {ran:?}", machine.name());
}

/// With a second one, if nothing else is said.
pub fn promote(host: &Machine, name: &str, options: &[&str]) {
    until("it votes", || {
        host.run(&[&["peers", "promote", name, "--timeout", TIMEOUT], options].concat());
        role(host, name).as_deref() == Some("voter")
    });
}

fn demote(host: &Machine, name: &str, to: &str) {
    until("it votes no more", || {
        host.run(&["peers", "demote", name, "--role", to, "--timeout", TIMEOUT]);
        role(host, name).as_deref() == Some(to)
    });
}

fn remove(host: &Machine, name: &str) {
    until("it is gone", || {
        host.run(&["peers", "remove", name, "--timeout", TIMEOUT]);
        role(host, name).as_deref() == Some("")
    });
}

/// Who holds what is published, and lacks nothing, as far as one machine can find out.
pub fn holders(asked: &Machine) -> Vec<String> {
    let peers = asked.json(&["peers", "--timeout", "5s"]).unwrap_or_default();
    let holders = peers.iter().filter(|peer| peer["holds_head"] == true);
    holders.filter_map(|peer| peer["name"].as_str().map(str::to_owned)).collect()
}

/// What a member is; nothing if it is none; not known without a majority.
fn role(host: &Machine, name: &str) -> Option<String> {
    let ran = host.run(&["--json", "peers", "--timeout", "5s"]);
    if ran.status != Some(0) {
        return None;
    }
    let peer = values(&ran).into_iter().find(|peer| peer["name"] == name);
    Some(peer.and_then(|peer| peer["role"].as_str().map(str::to_owned)).unwrap_or_default())
}

//! Somebody who joins, becomes the fourth voter, and goes again, while everybody else goes on.

use std::time::Duration;

use super::super::until;
use super::Cluster;
use super::machine::{Machine, values};

/// All of it; fails if any of it cannot be done.
pub fn comes_and_goes(cluster: &Cluster, number: usize, lasts: Duration) {
    let name = format!("guest-{number}");
    let host = &cluster.machines[0];
    let line = String::from_utf8(host.insist(&["invite", "--role", "voter"]).out).expect("UTF-8");
    let guest = cluster.machine(Cluster::GUEST, &name);
    until("the guest joins", || guest.join(line.trim()).status == Some(0));
    guest.start();
    until("the guest votes", || {
        host.run(&["peers", "promote", &name, "--even", "--timeout", "20s"]);
        role(host, &name).as_deref() == Some("voter")
    });
    std::thread::sleep(lasts);
    guest.assert_runs();
    until("the guest votes no more", || {
        host.run(&["peers", "demote", &name, "--role", "writer", "--timeout", "20s"]);
        role(host, &name).as_deref() == Some("writer")
    });
    until("the guest is gone", || {
        host.run(&["peers", "remove", &name, "--timeout", "20s"]);
        role(host, &name).as_deref() == Some("")
    });
    guest.kill();
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

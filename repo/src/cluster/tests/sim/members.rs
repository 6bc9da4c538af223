//! Who comes in the storm, who goes, and who becomes something else: by what `invite`, `clone` and `peers` call.

use std::sync::Arc;
use std::time::Duration;

use filesync_raft_log::State;
use filesync_raft_log::command::Role;
use filesync_raft_log::ids::{self, NodeId};
use filesync_raft_log::testing::Numbers;

use super::settings::VOTERS_BESIDE_ROT;
use super::user;
use super::world::World;
use crate::cluster::members;
use crate::request::{InviteRequest, PeersRequest};

/// How long somebody tries.
const TRY: Duration = Duration::from_secs(5);

/// One of these happens. All is drawn at once: what becomes of it takes time.
pub fn step(world: &Arc<World>, numbers: &mut Numbers) {
    let (kind, by, whose) = (numbers.below(8), voter(world, numbers), member(world, numbers));
    let role = [Role::Candidate, Role::Candidate, Role::Writer, Role::Reader];
    let (role, publishes) = (role[usize::try_from(numbers.below(4)).unwrap_or_default()], numbers.happens(500));
    let (own, drawn) = (Arc::clone(world), numbers.fork());
    match kind {
        0..=2 => drop(tokio::spawn(async move { come(&own, by, role, publishes.then_some(drawn)).await })),
        3..=4 => drop(tokio::spawn(async move { go(&own, by, whose).await })),
        5..=6 => drop(tokio::spawn(async move { become_something(&own, by, whose, role).await })),
        _ => drop(tokio::spawn(async move { promote(&own, by, whose).await })),
    }
}

fn any(world: &World, numbers: &mut Numbers) -> usize {
    usize::try_from(numbers.below(world.settings.machines() as u64)).unwrap_or_default()
}

/// A machine of somebody who votes, mostly: nobody else may do much.
fn voter(world: &World, numbers: &mut Numbers) -> usize {
    let (any, is_any) = (any(world, numbers), numbers.happens(100));
    let voters: Vec<usize> = {
        let oracle = world.oracle();
        let voters = oracle.newest.voters.iter().flatten();
        voters.filter_map(|node| oracle.numbers.get(node).copied()).collect()
    };
    let picked = numbers.pick(&voters).copied();
    if is_any { any } else { picked.unwrap_or(any) }
}

/// A machine of somebody who is a member.
fn member(world: &World, numbers: &mut Numbers) -> usize {
    let machines = 0..world.settings.machines();
    let members: Vec<usize> = machines.filter(|machine| wanted(world, *machine).is_some()).collect();
    numbers.pick(&members).copied().unwrap_or_default()
}

/// Has a member make an invite.
pub async fn invite(world: &Arc<World>, by: usize, role: Role) -> Option<String> {
    let life = world.life(by)?;
    let of = life.clone();
    let invited = world.blocking(&life, move || {
        let request = InviteRequest { role, expires: None, uses: 1, timeout: TRY };
        members::invite(&*of.node()?, &request).ok().map(|invited| invited.line)
    });
    invited.await.ok()??
}

/// Somebody is invited, and comes. Who has numbers commits there from then on.
async fn come(world: &Arc<World>, by: usize, role: Role, publishes: Option<Numbers>) {
    let _errand = world.errand();
    let Some(machine) = world.newcomer() else { return };
    let Some(line) = invite(world, by, role).await else { return world.comes_not(machine) };
    if world.is_over() {
        return;
    }
    world.record.note(format_args!("{by} invites {machine} as a {role:?}"));
    if let Some(numbers) = publishes.filter(|_| role >= Role::Writer) {
        world.user_begins(machine);
        tokio::spawn(user::publish(Arc::clone(world), machine, numbers));
    }
    drop(world.start(machine, Some(line)));
}

/// Somebody has a member removed: one that nobody commits on.
async fn go(world: &Arc<World>, by: usize, whose: usize) {
    let Some((node, _)) = wanted(world, whose).filter(|_| !world.is_used(whose)) else { return };
    if ask(world, by, node, PeersRequest::Remove { node: node.to_string() }).await {
        world.record.count("members removed");
        world.oracle().removed.insert(node);
    }
}

/// Somebody has a member be something else, also a voter: then it votes no more.
async fn become_something(world: &Arc<World>, by: usize, whose: usize, role: Role) {
    // Who publishes may go on with that; and what has rotted is mended only where the log is followed.
    let role = if world.is_used(whose) { role.max(Role::Writer) } else { role };
    let rots = world.settings.rot > 0 && whose == world.settings.nodes - 1;
    let Some((node, before)) = wanted(world, whose).filter(|_| !rots) else { return };
    if ask(world, by, node, PeersRequest::Demote { node: node.to_string(), role }).await && role != before {
        world.record.count("roles that changed");
    }
}

/// Somebody has a candidate vote.
async fn promote(world: &Arc<World>, by: usize, whose: usize) {
    let Some((node, _)) = wanted(world, whose) else { return };
    ask(world, by, node, PeersRequest::Promote { node: node.to_string(), even: true }).await;
}

/// The member that lives on a machine, or is on the way there, and what it may do.
fn wanted(world: &World, machine: usize) -> Option<(NodeId, Role)> {
    let key = ids::PeerKey(world.key(machine).0);
    let oracle = world.oracle();
    let found = oracle.newest.member_by_key(key).filter(|(_, member)| !member.is_removed);
    found.map(|(node, member)| (node, member.role))
}

/// Asks for something that concerns a member. Whether it was done: else that is not known.
async fn ask(world: &Arc<World>, by: usize, node: NodeId, request: PeersRequest) -> bool {
    let _errand = world.errand();
    // Where something rots, somebody else is to have it: one thing after the other, so that the voters never become too few.
    let _alone = match world.settings.rot > 0 {
        true => match world.members.try_lock() {
            Ok(alone) if may_go(&world.oracle().newest, node) => Some(alone),
            _ => return false,
        },
        false => None,
    };
    let Some(life) = world.life(by) else { return false };
    let (of, wanted) = (life.clone(), request.clone());
    let asked = world.blocking(&life, move || {
        let node = of.node()?;
        Some(members::peers(&node, &request, TRY).map(drop))
    });
    let Ok(Some(Some(asked))) = asked.await else { return false };
    world.record.note(format_args!("{by} asks for {wanted:?}: {asked:?}"));
    asked.is_ok()
}

/// Whether there are voters enough without one.
fn may_go(state: &State, node: NodeId) -> bool {
    state.voters.iter().all(|set| !set.contains(&node) || set.len() > VOTERS_BESIDE_ROT)
}

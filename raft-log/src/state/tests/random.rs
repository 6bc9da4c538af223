//! Random commands, sensible and not, against a model that is as plain as can be.

use filesync_cas::testing::{is_long, seeds};

use super::*;
use crate::testing::Numbers;

/// What was granted, and who had said that he holds it: to be checked against the state.
#[derive(Default)]
struct History {
    main: Option<Id>,
    /// By member and number: what it was answered.
    answers: BTreeMap<(NodeId, u64), (RefChange, Outcome)>,
    granted: u64,
}

fn run(seed: u64, steps: u64) {
    let mut numbers = Numbers(seed);
    let mut world = World::with(7, &[1, 2, 3]);
    let mut history = History::default();
    let mut last: Vec<Publish> = Vec::new();
    for _ in 0..steps {
        match numbers.below(12) {
            0..6 => random_publish(&mut world, &mut numbers, &mut history, &mut last),
            6 => world.elect(1 + history.granted % 3),
            7 => drop(world.intend(&numbers.some_of(7))),
            8 => drop(world.ready(&numbers.some_of(7))),
            9 => {
                let intent = IntentId(numbers.below(world.state.intents + 2));
                world.apply(Command::Cancel { intent });
            }
            10 => raft_moves_on(&mut world),
            _ => {
                let node = NodeId(1 + numbers.below(8));
                let command =
                    [Command::Deficient { node }, Command::Whole { node }][usize::from(numbers.below(3) > 0)].clone();
                world.apply(command);
                lose(&mut world, &mut numbers);
            }
        }
        check(&world.state);
        assert_eq!(world.state.refs.get(&main_ref()).copied(), history.main);
        // What is kept comes back as it was.
        let bytes = postcard::to_allocvec(&world.state).expect("it can be written");
        assert_eq!(postcard::from_bytes::<State>(&bytes).expect("it can be read"), world.state);
    }
    assert!(history.granted > 0, "nothing was granted: the run proves nothing");
}

fn random_publish(world: &mut World, numbers: &mut Numbers, history: &mut History, last: &mut Vec<Publish>) {
    let is_again = !last.is_empty() && numbers.below(4) == 0;
    let publish = if is_again {
        // Some retry with what they have, some gather receipts anew.
        let mut publish = last[usize::try_from(numbers.below(last.len() as u64)).expect("small")].clone();
        if numbers.below(2) == 0 {
            publish.receipts = world.receipts(&numbers.some_of(7));
        }
        publish
    } else {
        let client = NodeId(1 + numbers.below(7));
        let seq = world.state.members[&client].last.as_ref().map_or(1, |last| last.seq + 1);
        let expected = if numbers.below(4) == 0 { Some(id(1)) } else { history.main };
        let mut new = [0; 32];
        new[..8].copy_from_slice(&numbers.draw().to_le_bytes());
        let wanted = RefChange { name: main_ref(), expected, new: Some(Id(new)) };
        Publish { client, seq, change: wanted, receipts: world.receipts(&numbers.some_of(7)) }
    };
    last.push(publish.clone());
    let before = world.state.clone();
    let outcome = world.apply(Command::Publish(publish.clone()));
    let known = history.answers.get(&(publish.client, publish.seq));
    match &outcome {
        Outcome::Published { index, .. } => {
            let is_new = index.0 + 1 == world.index;
            if !is_new {
                assert_eq!(known, Some(&(publish.change.clone(), outcome.clone())), "an answer of before");
                return;
            }
            assert_eq!(known, None, "a number is granted once");
            assert_eq!(history.main, publish.change.expected, "compare and swap");
            let holders = &publish.receipts.as_ref().expect("there must be some").nodes;
            let target = before.change.as_ref().map(|change| &change.target);
            for set in before.voters.iter().chain(target) {
                let held =
                    set.iter().filter(|node| holders.contains(node) && !before.members[node].is_deficient).count();
                assert!(held * 2 > set.len(), "visible means held: {holders:?} of {set:?}");
            }
            history.main = publish.change.new;
            history.granted += 1;
        }
        Outcome::Lost { .. } => {}
        Outcome::Refused(_) => {
            assert_eq!((&before.refs, before.last_step), (&world.state.refs, world.state.last_step));
            return;
        }
        other => panic!("{other:?} is no answer to a publish"),
    }
    history.answers.insert((publish.client, publish.seq), (publish.change, outcome));
}

/// Somebody says that something is lost, whether or not he may.
fn lose(world: &mut World, numbers: &mut Numbers) {
    let (node, asked) = (NodeId(1 + numbers.below(8)), nodes(&numbers.some_of(7)));
    let before = world.state.clone();
    let new = id(u8::try_from(numbers.below(20)).expect("small"));
    let outcome = world.apply(Command::Lost { node, asked: asked.clone(), objects: [new].into() });
    assert!(before.lost.is_subset(&world.state.lost), "nothing goes");
    if outcome != Outcome::Done {
        return assert_eq!(before.lost, world.state.lost);
    }
    let target = before.change.as_ref().map(|change| &change.target);
    assert!(before.voters.iter().chain(target).flatten().all(|voter| asked.contains(voter)), "each was asked");
    assert!(before.is_voter(node) && world.state.lost.contains(&new));
}

/// What the leader makes of a change that is ready, and of two sets that vote.
fn raft_moves_on(world: &mut World) {
    let at = world.position();
    let mut sets = world.state.voters.clone();
    match &world.state.change {
        Some(change) if change.is_ready => sets.push(change.target.clone()),
        _ => sets.drain(..sets.len() - 1).for_each(drop),
    }
    world.state.set_voters(at, sets);
}

fn check(state: &State) {
    assert!(matches!(state.voters.len(), 1 | 2));
    for set in &state.voters {
        assert!(!set.is_empty());
        assert!(set.iter().all(|node| state.members.get(node).is_some_and(|member| !member.is_removed)));
    }
    if let Some(change) = &state.change {
        assert!(!state.voters.contains(&change.target));
        assert_eq!(change.id.0, state.intents);
    }
}

#[test]
fn random_commands_keep_every_rule() {
    let steps = if is_long() { 2_000 } else { 300 };
    for seed in seeds(0, 40, 2_000) {
        run(seed, steps);
    }
}

#[test]
fn the_same_entries_give_the_same_state() {
    let commands = |world: &mut World| {
        let mut numbers = Numbers(7);
        let mut history = History::default();
        let mut last = Vec::new();
        (0..100).for_each(|_| random_publish(world, &mut numbers, &mut history, &mut last));
    };
    let (mut one, mut other) = (World::with(7, &[1, 2, 3]), World::with(7, &[1, 2, 3]));
    commands(&mut one);
    commands(&mut other);
    assert_eq!(one.state, other.state);
}

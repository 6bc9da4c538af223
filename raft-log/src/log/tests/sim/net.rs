//! The network: messages are lost, late, repeated, out of order, and stopped at cuts. Each way from node to node has chances
//! of its own, so that what happens on one does not depend on who came first on another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::record::digest;
use super::settings::Settings;
use super::world::World;
use crate::error::SendError;
use crate::ids::NodeId;
use crate::network::{Network, Recipient, Sender, Sending};
use crate::testing::{Numbers, key};

/// Where those are who are no node. Nothing cuts them off.
pub const OUTSIDE: NodeId = NodeId(0);
/// After how long who sent something notices that it was lost.
const LOST: Duration = Duration::from_millis(500);

/// All ways.
#[derive(Debug)]
pub struct Net(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    numbers: Numbers,
    ways: BTreeMap<(NodeId, NodeId), Numbers>,
    /// From and to.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Of a thousand messages; as many are repeated.
    lost: u64,
    /// The longest delay of most.
    delay: u64,
}

/// What becomes of a message that is not lost.
#[derive(Debug, Clone, Copy)]
struct Fate {
    delay: Duration,
    is_repeated: bool,
}

impl Net {
    /// A calm one.
    pub fn new(numbers: Numbers) -> Self {
        let (ways, cut) = (BTreeMap::new(), BTreeSet::new());
        Self(Mutex::new(Inner { numbers, ways, cut, lost: 0, delay: 1 }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it misbehaves.
    pub fn misbehave(&self, settings: &Settings) {
        let mut inner = self.inner();
        (inner.lost, inner.delay) = (settings.lost, settings.delay);
    }

    /// From here on it does not, and nothing is cut.
    pub fn calm(&self) {
        let mut inner = self.inner();
        (inner.lost, inner.delay) = (0, 1);
        inner.cut.clear();
    }

    /// Other ways are cut than before.
    pub fn cut(&self, ways: BTreeSet<(NodeId, NodeId)>) {
        self.inner().cut = ways;
    }

    /// Whether nothing is in the way.
    pub fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        !self.inner().cut.contains(&(from, to))
    }

    fn fate(&self, from: NodeId, to: NodeId) -> Option<Fate> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let seed = inner.numbers.0 ^ from.0 << 8 ^ to.0;
        let numbers = inner.ways.entry((from, to)).or_insert_with(|| Numbers(seed).fork());
        // All are drawn in any case: a cut does not change what comes after it.
        let (is_lost, is_repeated) = (numbers.happens(inner.lost), numbers.happens(inner.lost));
        let (delay, is_late) = (numbers.below(inner.delay + 1), numbers.happens(20));
        let delay = Duration::from_millis(if is_late { delay * 10 } else { delay });
        let is_cut = inner.cut.contains(&(from, to));
        (!is_lost && !is_cut).then_some(Fate { delay, is_repeated })
    }

    /// Goes from here to there, if it gets there.
    pub async fn travel(&self, from: NodeId, to: NodeId) -> bool {
        if from == to {
            return true;
        }
        let fate = self.fate(from, to);
        sleep(fate.map_or(LOST, |fate| fate.delay)).await;
        fate.is_some()
    }
}

/// The end of a node, as long as it lives.
#[derive(Debug)]
pub struct End {
    pub world: Arc<World>,
    pub node: NodeId,
    pub is_alive: Arc<AtomicBool>,
}

impl Network for End {
    fn send(&self, to: Recipient, message: Vec<u8>, deadline: Duration) -> Sending<'_> {
        Box::pin(async move {
            let sent = self.carry(to, message).await;
            if sent == Err(SendError::TimedOut) {
                sleep(deadline).await;
            }
            sent
        })
    }
}

impl End {
    fn is_over(&self) -> bool {
        !self.is_alive.load(Ordering::Relaxed)
    }

    async fn carry(&self, to: Recipient, message: Vec<u8>) -> Result<Vec<u8>, SendError> {
        let (from, to, class) = (self.node, to.node, to.class);
        if self.is_over() {
            return Err(SendError::TimedOut);
        }
        let fate = self.world.net.fate(from, to);
        let seen = fate.map_or_else(|| "lost".to_owned(), |fate| format!("{:?}", fate.delay));
        self.world.record.note(format_args!("{from} > {to} {class:?} {:016x} {seen}", digest(&message)));
        let Some(Fate { delay, is_repeated }) = fate else { return Err(SendError::TimedOut) };
        sleep(delay).await;
        if is_repeated {
            self.repeat(to, message.clone(), delay * 3 + Duration::from_millis(5));
        }
        let there = self.world.life(to).ok_or_else(|| SendError::Unreachable("it is down".to_owned()))?;
        let answer = there.log.handle(sender(from), &message).await;
        let answer = answer.map_err(|error| SendError::Unreachable(error.to_string()))?;
        drop(there);
        // The answer has a way of its own.
        if self.world.net.travel(to, from).await && !self.is_over() { Ok(answer) } else { Err(SendError::TimedOut) }
    }

    /// The message comes a second time, to whoever lives there then.
    fn repeat(&self, to: NodeId, message: Vec<u8>, later: Duration) {
        let (world, sender) = (Arc::clone(&self.world), sender(self.node));
        world.record.count("messages that came twice");
        tokio::spawn(async move {
            sleep(later).await;
            if let Some(there) = world.life(to) {
                drop(there.log.handle(sender, &message).await);
            }
        });
    }
}

fn sender(node: NodeId) -> Sender {
    Sender { key: key(node), known_as: Some(node) }
}

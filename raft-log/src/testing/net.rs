//! A network in memory: messages are lost, late, repeated, out of order, and stopped at cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::Numbers;
use crate::error::SendError;
use crate::ids::{NodeId, PeerKey};
use crate::log::Log;
use crate::network::{Network, Recipient, Sender, Sending};

/// The network.
#[derive(Debug, Clone)]
pub struct FakeNet(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    numbers: Numbers,
    nodes: BTreeMap<NodeId, Weak<Log>>,
    /// From and to.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Of a thousand messages.
    lost: u64,
    repeated: u64,
    /// The longest delay of a message.
    delay: Duration,
}

impl FakeNet {
    /// A network that loses and delays as the seed has it, as much as is said.
    pub fn new(seed: u64, lost_per_mille: u64, delay: Duration) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            numbers: Numbers(seed),
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            lost: lost_per_mille,
            repeated: lost_per_mille,
            delay,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a node on it.
    pub fn attach(&self, log: &Arc<Log>) {
        self.inner().nodes.insert(log.node(), Arc::downgrade(log));
    }

    /// Takes a node off it.
    pub fn detach(&self, node: NodeId) {
        self.inner().nodes.remove(&node);
    }

    /// Nothing comes from `from` to `to`.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.inner().cut.insert((from, to));
    }

    /// Nothing comes from `node`, or to it.
    pub fn isolate(&self, node: NodeId, others: impl IntoIterator<Item = NodeId>) {
        for other in others {
            self.cut(node, other);
            self.cut(other, node);
        }
    }

    /// All cuts are mended.
    pub fn heal(&self) {
        self.inner().cut.clear();
    }

    /// The end of a node.
    pub fn plug(&self, node: NodeId, key: PeerKey) -> Arc<dyn Network> {
        Arc::new(Plug { net: self.clone(), node, key })
    }

    /// What becomes of one message: its receiver, delay, and whether it comes twice.
    fn fate(&self, from: NodeId, to: NodeId) -> Result<(Arc<Log>, Duration, bool), SendError> {
        let mut inner = self.inner();
        let delay = u64::try_from(inner.delay.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(if delay == 0 { 0 } else { inner.numbers.below(delay) });
        let (lost, repeated) = (inner.lost, inner.repeated);
        let is_lost = inner.numbers.below(1_000) < lost || inner.cut.contains(&(from, to));
        let is_repeated = inner.numbers.below(1_000) < repeated;
        let node = inner.nodes.get(&to).and_then(Weak::upgrade);
        match node {
            Some(node) if !is_lost => Ok((node, delay, is_repeated)),
            Some(_) => Err(SendError::TimedOut),
            None => Err(SendError::Unreachable("it is down".to_owned())),
        }
    }
}

struct Plug {
    net: FakeNet,
    node: NodeId,
    key: PeerKey,
}

impl Network for Plug {
    fn send(&self, to: Recipient, message: Vec<u8>, deadline: Duration) -> Sending<'_> {
        Box::pin(async move {
            let sender = Sender { key: self.key, known_as: None };
            let (node, delay, is_repeated) = match self.net.fate(self.node, to.node) {
                Err(SendError::TimedOut) => {
                    tokio::time::sleep(deadline).await;
                    return Err(SendError::TimedOut);
                }
                fate => fate?,
            };
            tokio::time::sleep(delay).await;
            if is_repeated {
                let (node, message) = (Arc::clone(&node), message.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(delay * 3).await;
                    drop(node.handle(sender, &message).await);
                });
            }
            let answer = node.handle(sender, &message).await;
            let answer = answer.map_err(|error| SendError::Unreachable(error.to_string()))?;
            drop(node);
            // The answer has a way of its own.
            match self.net.fate(to.node, self.node) {
                Ok((_, delay, _)) => {
                    tokio::time::sleep(delay).await;
                    Ok(answer)
                }
                Err(error) => {
                    tokio::time::sleep(deadline).await;
                    Err(error)
                }
            }
        })
    }
}

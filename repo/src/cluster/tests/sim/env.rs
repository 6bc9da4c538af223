//! What a node of the simulation has of its world.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filesync_cas::Store;
use filesync_p2p::serve::Shared;
use filesync_p2p::transport::{Answers, Config as NetConfig, Net, StartError};
use filesync_raft_log::testing::Numbers;
use filesync_raft_log::{Log, Mode, Parts};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fiber;
use super::net::{End, Endpoint};
use super::world::{Life, World};
use crate::cluster::env::{Env, Join, Opening, Work};
use crate::error::Error;

/// When the world began, since 1970.
const BEGIN: Duration = Duration::from_secs(1_790_000_000);

/// The world around a node, as long as it lives.
pub struct Surroundings {
    pub world: Arc<World>,
    pub life: Life,
    pub runtime: Handle,
    pub numbers: Mutex<Numbers>,
    /// How far its clock is ahead.
    pub ahead: Duration,
    /// How long it waits for a leader before it stands for election.
    pub patience: Duration,
}

impl Surroundings {
    fn begin(&self, work: Work) -> oneshot::Receiver<()> {
        let life = self.life.clone();
        self.world.fibers.spawn(&self.runtime, self.world.draw(), Arc::new(move || life.lose_power_at_once()), work)
    }
}

impl Env for Surroundings {
    fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        fiber::block_on(future);
    }

    fn spawn(&self, _: &str, work: Work) -> io::Result<Join> {
        let task = self.spawn_blocking(work);
        Ok(Box::new(move || fiber::block_on(std::pin::pin!(async { drop(task.await) }))))
    }

    fn spawn_blocking(&self, work: Work) -> JoinHandle<()> {
        let (ended, world) = (self.begin(work), Arc::clone(&self.world));
        self.runtime.spawn(async move {
            if ended.await.is_err() {
                world.panicked("what blocks");
            }
        })
    }

    fn is_parallel(&self) -> bool {
        false
    }

    fn now(&self) -> Duration {
        BEGIN + self.world.record.elapsed() + self.ahead
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.fill_with(|| numbers.draw().to_le_bytes()[0]);
        Ok(())
    }

    fn start_network(
        &self,
        _: &NetConfig,
        shared: Arc<Shared>,
        store: Arc<Store>,
        answers: Arc<dyn Answers>,
    ) -> Result<Box<dyn Net>, StartError> {
        let endpoint = Endpoint { life: self.life.clone(), shared, store, answers };
        self.world.net.attach(endpoint.clone());
        Ok(Box::new(End { world: Arc::clone(&self.world), own: endpoint }))
    }

    fn open_log<'a>(&'a self, _: &'a Path, mode: Mode, mut parts: Parts) -> Opening<'a> {
        // Nothing is left to draw: one that differs between nodes does as well.
        parts.options.election = (self.patience, self.patience + Duration::from_millis(1));
        parts.options.snapshot_after = self.world.settings.snapshot_after;
        let disk = self.life.plug();
        Box::pin(Log::open_on(disk, mode, parts))
    }
}

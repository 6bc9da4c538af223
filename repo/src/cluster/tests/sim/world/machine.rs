//! Machines, and the nodes that live on them one after the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use filesync_cas::testing::LossVfs;
use filesync_cas::vfs::{TEMP_PREFIX, Vfs};
use filesync_cas::{ChunkSizes, Codec, ContentHash, Params, Place, Store};
use filesync_p2p::PeerKey;
use filesync_raft_log::testing::{FakeDisk, Numbers, Plugged};
use tokio::time::Instant;

use super::super::super::Dir;
use super::super::settings::Settings;
use super::lock;
use crate::cluster::Node;
use crate::config;
use crate::error::Error;
use crate::identity::Identity;
use crate::parts::Copied;
use crate::repo::STORE_DIR;

/// A machine, with a node that lives on it or not.
pub(super) struct Machine {
    pub(super) disk: LossVfs,
    pub(super) raft: Arc<FakeDisk>,
    pub(super) life: Option<Life>,
    pub(super) lives: u64,
    /// When one that is down is started again.
    pub(super) back_at: Instant,
    pub(super) seed: [u8; 32],
    pub(super) ahead: Duration,
    pub(super) patience: Duration,
    /// What it came in by, or is to come in by.
    pub(super) invite: Option<String>,
    /// Somebody commits on it.
    pub(super) is_used: bool,
    /// It was not let in, and never will be.
    pub(super) is_out: bool,
    /// Somebody is being invited there.
    pub(super) is_called: bool,
}

/// A node between two crashes.
#[derive(Clone)]
pub struct Life {
    pub machine: usize,
    /// The how-manieth.
    pub number: u64,
    pub key: PeerKey,
    pub(super) disk: LossVfs,
    pub(super) raft: Arc<FakeDisk>,
    pub(super) is_alive: Arc<AtomicBool>,
    pub(super) node: Arc<Mutex<Option<Arc<Node>>>>,
    pub(super) root: Arc<Dir>,
}

impl Life {
    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Relaxed)
    }

    /// Whether it is this one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.is_alive, &other.is_alive)
    }

    /// Power is there for all of it, or for nothing.
    pub fn lose_power_at_once(&self) {
        if self.disk.is_dead() {
            self.is_alive.store(false, Ordering::Relaxed);
        } else if !self.is_alive() {
            self.disk.stop_after(0);
        }
    }

    /// Its disk for the log.
    pub fn plug(&self) -> Plugged {
        self.raft.plug(Arc::clone(&self.is_alive))
    }

    /// Where it says that it is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, u8::try_from(self.machine + 1).unwrap_or(u8::MAX)], 7946))
    }

    /// The node, once it has started and while it lives.
    pub fn node(&self) -> Option<Arc<Node>> {
        lock(&self.node).clone().filter(|_| self.is_alive())
    }
}

impl Machine {
    pub(super) fn new(number: usize, params: &Params, settings: &Settings, numbers: &mut Numbers) -> Self {
        let mut seed = [0; 32];
        seed.fill_with(|| numbers.draw().to_le_bytes()[0]);
        let disk = LossVfs::new();
        make_store(&disk, number, params, seed).expect("an empty disk takes a store");
        Self {
            disk,
            raft: FakeDisk::new(numbers.fork(), None),
            life: None,
            lives: 0,
            back_at: Instant::now(),
            seed,
            ahead: Duration::from_secs(numbers.below(settings.ahead + 1)),
            patience: Duration::from_millis(800 + numbers.below(500)),
            invite: None,
            is_used: false,
            is_out: false,
            is_called: false,
        }
    }

    pub(super) fn key(&self) -> PeerKey {
        PeerKey(SigningKey::from_bytes(&self.seed).verifying_key().to_bytes())
    }

    pub(super) fn begin(&mut self, machine: usize) -> Life {
        self.lives += 1;
        let life = Life {
            machine,
            number: self.lives,
            key: self.key(),
            root: Arc::new(root()),
            disk: self.disk.clone(),
            raft: Arc::clone(&self.raft),
            is_alive: Arc::new(AtomicBool::new(true)),
            node: Arc::default(),
        };
        self.life = Some(life.clone());
        life
    }
}

pub(super) fn params(numbers: &mut Numbers) -> Params {
    let mut id = [0; 32];
    id.fill_with(|| numbers.draw().to_le_bytes()[0]);
    let chunks = ChunkSizes::from_average(4 << 10).expect("a size");
    Params::new(ContentHash::from_bytes(id), chunks, Codec::Zstd)
}

/// A repository without anything in it.
fn make_store(disk: &LossVfs, number: usize, params: &Params, seed: [u8; 32]) -> Result<(), Error> {
    let root = root();
    Identity::of_seed(seed).save(disk)?;
    config::create(disk, &format!("machine-{number}"))?;
    Copied::default().write(disk)?;
    let place = Place { vfs: Arc::new(disk.clone()), index_dir: root.0.join(STORE_DIR).join("index"), lock_dir: None };
    Store::create(&place, params)?;
    disk.sync_dir(&PathBuf::new()).map_err(|error| Error::io("cannot sync", &error))
}

/// A place for what is not of the disk: the index, which is made again in each life, and a working copy that nobody looks at.
fn root() -> Dir {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // What is drawn follows from the seed, and the same seed may run twice at once.
    let name = format!("{TEMP_PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let memory = PathBuf::from("/dev/shm");
    let dir = Dir(if memory.is_dir() { memory } else { std::env::temp_dir() }.join(name));
    std::fs::create_dir_all(dir.0.join(STORE_DIR)).expect("a directory");
    dir
}

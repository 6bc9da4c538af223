//! Results of keeping house.

use filesync_repo as repo;
use serde::Serialize;

use super::{ids, seconds};

#[derive(Serialize)]
pub struct Gc {
    live_bytes: u64,
    freed_bytes: u64,
    waiting_bytes: u64,
    packs_rewritten: u64,
    packs_removed: u64,
    damaged: Vec<String>,
    dry_run: bool,
    seconds: f64,
}

impl Gc {
    pub fn new(result: &repo::GcResult, dry_run: bool) -> Self {
        Self {
            live_bytes: result.live_bytes,
            freed_bytes: result.freed_bytes,
            waiting_bytes: result.waiting_bytes,
            packs_rewritten: result.packs_rewritten,
            packs_removed: result.packs_removed,
            damaged: ids(&result.damaged),
            dry_run,
            seconds: seconds(result.elapsed),
        }
    }
}

#[derive(Serialize)]
pub struct Forget {
    expired: Vec<String>,
    kept: u64,
    kept_published: u64,
    dry_run: bool,
}

impl Forget {
    pub fn new(result: &repo::ForgetResult, dry_run: bool) -> Self {
        let (kept, kept_published) = (result.kept, result.kept_published);
        Self { expired: ids(&result.expired), kept, kept_published, dry_run }
    }
}

#[derive(Serialize)]
pub struct Upgrade {
    format: u32,
    upgraded: bool,
}

impl Upgrade {
    pub fn new(result: &repo::UpgradeResult) -> Self {
        Self { format: result.format, upgraded: result.upgraded }
    }
}

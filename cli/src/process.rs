//! Traits of this process: how many files it may open, and what a mistake of ours looks like.

use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::low_level;

use crate::args::Early;
use crate::error::{Report, STATUS_FAILED};

/// Packs, the index's tables and the files being read come to a few hundred; 1024 is a usual soft limit.
const OPEN_FILES: u64 = 4096;

/// Raises the soft limit as far as the hard one lets us. Where it does not, we make do.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    if limit.current.is_some_and(|soft| soft < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// Ends this process without the exit handlers of its libraries. A thread that still reads the store, for a peer that is slow
/// to take what it asked for, would find RocksDB's locks gone and abort us.
pub fn end(status: u8) -> ! {
    let _ = io::stdout().flush();
    low_level::exit(status.into())
}

/// A panic is told as an error, once: the threads that wait for the one that failed have nothing to add.
pub fn report_panics(early: Early) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    std::panic::set_hook(Box::new(move |info| {
        if TOLD.swap(true, Ordering::SeqCst) {
            return;
        }
        let hint = "this is a mistake in filesync, not in your data; `filesync fsck` verifies the store";
        Report::new(STATUS_FAILED, &message(info), Some(hint.into())).print(early.json);
    }));
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let what = text.and_then(|text| text.lines().next()).unwrap_or("unknown");
    match info.location() {
        Some(place) => format!("internal error: {}:{}: {what}", place.file(), place.line()),
        None => format!("internal error: {what}"),
    }
}

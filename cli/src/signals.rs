//! What happens when a signal comes.
//!
//! SIGINT, SIGTERM and SIGHUP ask the running operation to stop; it then removes its temporary files and returns,
//! and the process ends with 128 + the signal's number, without a word. An operation that does not answer within
//! [`PATIENCE`] is cut off, so that the end comes within five seconds. Whoever sends a signal again after
//! [`IMPATIENCE`] gets the end at once.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level;

const PATIENCE: Duration = Duration::from_secs(4);
/// Long enough that one key press or one `timeout`, which may reach us twice, counts once.
const IMPATIENCE: Duration = Duration::from_millis(500);

static RECEIVED: OnceLock<u8> = OnceLock::new();
static WAITING: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Begins to listen.
pub fn watch() -> io::Result<()> {
    // With a handler, a write beyond RLIMIT_FSIZE returns EFBIG instead of ending the process.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    // What our parent had us ignore (`nohup`, a shell's background job) stays ignored.
    let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| ignored_in(&status)).unwrap_or(0);
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(wanted)?;
    thread::Builder::new().name("signals".into()).spawn(move || listen(&mut signals))?;
    Ok(())
}

/// Runs something when a signal comes, or at once if one has come. For one command, once.
pub fn on_signal(run: impl FnOnce() + Send + 'static) {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if received().is_some() {
        return run();
    }
    *waiting = Some(Box::new(run));
}

/// The signal that ends this process, once there is one.
pub fn received() -> Option<u8> {
    RECEIVED.get().copied()
}

/// An error once a signal has come.
pub fn check() -> io::Result<()> {
    match received() {
        // Not `Interrupted`: that would be tried again.
        Some(_) => Err(io::Error::other("interrupted by a signal")),
        None => Ok(()),
    }
}

fn listen(signals: &mut Signals) {
    let mut first: Option<Instant> = None;
    for signal in signals.forever() {
        match first {
            None => {
                first = Some(Instant::now());
                // Numbers of signals fit: there are 64.
                let number = u8::try_from(signal).unwrap_or(0);
                RECEIVED.get_or_init(|| number);
                filesync_repo::cancel::request();
                if let Some(run) = WAITING.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    run();
                }
                cut_off_later(number);
            }
            Some(first) if first.elapsed() >= IMPATIENCE => low_level::exit(128 + signal),
            Some(_) => {}
        }
    }
}

fn cut_off_later(signal: u8) {
    let cut_off = move || {
        thread::sleep(PATIENCE);
        // Without destructors and exit handlers: other threads are still at work.
        low_level::exit(128 + i32::from(signal));
    };
    // Without a thread to be had, a second signal still ends the process.
    let _ = thread::Builder::new().name("cut-off".into()).spawn(cut_off);
}

fn ignored_in(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals() {
        assert_eq!(ignored_in("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), Some(0x1001));
        assert_eq!(ignored_in("Name:\tx\n"), None);
        assert!(ignored_in(&std::fs::read_to_string("/proc/self/status").unwrap()).is_some());
    }
}

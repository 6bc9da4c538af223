//! What the daemon logs: lines of text or of JSON, on stderr.

use filesync_repo::daemon::LogSettings;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Where openraft calls it an error, each time that it tries, that a peer is down. What ends the log is told by whoever
/// watches it.
const ORDINARY: [&str; 2] = ["openraft::replication", "openraft::core::raft_core"];

/// Begins to log. `verbose` says more than what is configured.
pub fn start(settings: &LogSettings, verbose: u8) {
    let configured = settings.level.parse().unwrap_or(LevelFilter::INFO);
    let level = match verbose {
        0 => configured,
        1 => configured.max(LevelFilter::DEBUG),
        _ => LevelFilter::TRACE,
    };
    // What libraries say of their insides is for those who ask for everything.
    let others = if verbose > 1 { level } else { level.min(LevelFilter::WARN) };
    let ordinary = if level >= LevelFilter::DEBUG { others } else { LevelFilter::OFF };
    let filter = Targets::new().with_default(others).with_targets(ORDINARY.map(|target| (target, ordinary)));
    let filter = filter.with_target("filesync", level);
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_ansi(false);
    // Where a line cannot be written, nor can it be said that it cannot: that would end whoever wanted to log.
    let builder = builder.log_internal_errors(false);
    // Somebody else has begun already: then it is his.
    let _ = if settings.json {
        builder.json().finish().with(filter).try_init()
    } else {
        builder.with_target(false).finish().with(filter).try_init()
    };
}

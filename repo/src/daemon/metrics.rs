//! Figures for who operates a daemon, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use filesync_cas::vfs::{SYNC_BOUNDS, syncs};

use super::protocol::Given;
use super::service::Service;
use crate::error::Error;
use crate::request::Answer;

/// Words of commands that are counted apart: a client could make up any number of them.
const WORDS_MAX: usize = 64;

/// What has been done since the daemon began.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// By command and outcome: how many, and how long they took.
    commands: BTreeMap<(String, &'static str), (u64, Duration)>,
    commits: u64,
    gc_runs: u64,
    gc_freed_bytes: u64,
}

impl Counters {
    /// Counts a command.
    pub fn command(&self, word: &str, result: Result<&Given, &Error>, took: Duration) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let word = if counted.commands.len() < WORDS_MAX { word } else { "other" };
        let outcome = if result.is_ok() { "done" } else { "failed" };
        let entry = counted.commands.entry((word.to_owned(), outcome)).or_default();
        entry.0 += 1;
        entry.1 += took;
        match result {
            Ok(Given::Command(Answer::Commit(result))) => counted.commits += u64::from(result.commit.is_some()),
            Ok(Given::Command(Answer::Gc(result))) => {
                counted.gc_runs += 1;
                counted.gc_freed_bytes += result.freed_bytes;
            }
            _ => {}
        }
    }
}

impl Service {
    /// All figures, those of the parts too.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_metrics(&mut out);
        if let Some(open) = self.keeper.get() {
            open.running.iter().for_each(|part| part.metrics(&mut out));
        }
        out
    }

    fn write_metrics(&self, out: &mut String) -> std::fmt::Result {
        head(out, "build_info", "gauge", "The program that runs.")?;
        writeln!(out, "filesync_build_info{{version={:?}}} 1", super::protocol::VERSION)?;
        head(out, "ready", "gauge", "Whether everything works that should.")?;
        writeln!(out, "filesync_ready {}", u8::from(self.ready().is_ok()))?;
        head(out, "commands_under_way", "gauge", "Commands that run or wait for their turn.")?;
        writeln!(out, "filesync_commands_under_way {}", self.under_way())?;
        self.counters.write(out)?;
        if let Some(sizes) = self.keeper.get().and_then(|open| open.repo.store.sizes().ok()) {
            let kinds = [("data", sizes.data), ("metadata", sizes.metadata)];
            head(out, "store_bytes", "gauge", "Bytes of the packs that are vouched for, by kind.")?;
            for (kind, packs) in &kinds {
                writeln!(out, "filesync_store_bytes{{kind=\"{kind}\"}} {}", packs.bytes)?;
            }
            head(out, "store_packs", "gauge", "Packs, by kind.")?;
            for (kind, packs) in &kinds {
                writeln!(out, "filesync_store_packs{{kind=\"{kind}\"}} {}", packs.packs)?;
            }
            head(out, "store_objects", "gauge", "Objects in the packs, by kind of pack.")?;
            for (kind, packs) in &kinds {
                writeln!(out, "filesync_store_objects{{kind=\"{kind}\"}} {}", packs.objects)?;
            }
        }
        let syncs = syncs();
        head(out, "sync_seconds", "histogram", "How long it took the disks to make something durable.")?;
        let mut below = 0;
        for (bound, count) in SYNC_BOUNDS.iter().zip(syncs.counts) {
            below += count;
            writeln!(out, "filesync_sync_seconds_bucket{{le=\"{}\"}} {below}", bound.as_secs_f64())?;
        }
        writeln!(out, "filesync_sync_seconds_bucket{{le=\"+Inf\"}} {}", syncs.total)?;
        writeln!(out, "filesync_sync_seconds_sum {}", syncs.took.as_secs_f64())?;
        writeln!(out, "filesync_sync_seconds_count {}", syncs.total)
    }
}

impl Counters {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        head(out, "commands_total", "counter", "Commands that have ended, by outcome.")?;
        for ((word, outcome), (count, _)) in &counted.commands {
            writeln!(out, "filesync_commands_total{{command={word:?},outcome=\"{outcome}\"}} {count}")?;
        }
        head(out, "command_seconds_total", "counter", "How long commands took, waiting included.")?;
        for ((word, outcome), (_, took)) in &counted.commands {
            let seconds = took.as_secs_f64();
            writeln!(out, "filesync_command_seconds_total{{command={word:?},outcome=\"{outcome}\"}} {seconds}")?;
        }
        head(out, "commits_total", "counter", "Commits made.")?;
        writeln!(out, "filesync_commits_total {}", counted.commits)?;
        head(out, "gc_runs_total", "counter", "Collections that came to their end.")?;
        writeln!(out, "filesync_gc_runs_total {}", counted.gc_runs)?;
        head(out, "gc_freed_bytes_total", "counter", "Bytes that collections freed.")?;
        writeln!(out, "filesync_gc_freed_bytes_total {}", counted.gc_freed_bytes)
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP filesync_{name} {help}\n# TYPE filesync_{name} {kind}")
}

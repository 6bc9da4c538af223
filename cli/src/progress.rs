//! What a command tells while it runs: progress and warnings, on stderr.
//!
//! Events come from several threads and may be many: one costs a read lock and an atomic addition.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use filesync_repo::{Event, Observer, Warning};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::args::When;
use crate::{json, quote, units};

const TICK: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(1);

pub struct Progress {
    how: How,
    warnings: Warnings,
    phase: RwLock<Option<Phase>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Nothing,
    /// A bar that is drawn over and over.
    Bar,
    /// A line now and then: progress was asked for and there is no terminal.
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warnings {
    Nothing,
    Text,
    Json,
}

impl Progress {
    pub fn new(when: When, terminal: bool, quiet: bool, as_json: bool) -> Self {
        let how = match when {
            When::Never => How::Nothing,
            When::Auto if quiet || !terminal => How::Nothing,
            When::Auto | When::Always if terminal => How::Bar,
            When::Auto | When::Always => How::Lines,
        };
        let warnings = match (quiet, as_json) {
            (true, _) => Warnings::Nothing,
            (false, true) => Warnings::Json,
            (false, false) => Warnings::Text,
        };
        Self { how, warnings, phase: RwLock::new(None) }
    }

    /// Takes the bar away. Called before results are shown.
    pub fn finish(&self) {
        self.set_phase(None);
    }

    fn set_phase(&self, next: Option<Phase>) {
        let mut phase = self.phase.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(last) = std::mem::replace(&mut *phase, next) {
            last.end();
        }
    }

    fn with_phase(&self, act: impl FnOnce(&Phase)) {
        let phase = self.phase.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(phase) = &*phase {
            act(phase);
        }
    }

    fn warn(&self, warning: &Warning) {
        let line = match self.warnings {
            Warnings::Nothing => return,
            Warnings::Text => warning_text(warning),
            Warnings::Json => json::line(&json::Warning::new(warning)),
        };
        let phase = self.phase.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*phase {
            Some(phase) => phase.above(&line),
            None => write_stderr(&line),
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event) {
        match event {
            Event::Warning(warning) => self.warn(&warning),
            _ if self.how == How::Nothing => {}
            Event::Phase { what, bytes, items } => self.set_phase(Some(Phase::new(self.how, what, bytes, items))),
            Event::Total { bytes, items } => {
                let mut phase = self.phase.write().unwrap_or_else(|poisoned| poisoned.into_inner());
                phase.iter_mut().for_each(|phase| phase.set_total(bytes, items));
            }
            Event::Advance { bytes, items } => self.with_phase(|phase| phase.advance(bytes, items)),
        }
    }

    fn wants_totals(&self) -> bool {
        self.how != How::Nothing
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A part of the work whose progress is shown by itself.
struct Phase {
    what: &'static str,
    begun: Instant,
    bytes_total: Option<u64>,
    items_total: Option<u64>,
    bytes: AtomicU64,
    items: Arc<AtomicU64>,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    /// When the next line is due, in milliseconds since the phase began.
    Lines {
        due: AtomicU64,
    },
}

impl Phase {
    fn new(how: How, what: &'static str, bytes_total: Option<u64>, items_total: Option<u64>) -> Self {
        let items = Arc::new(AtomicU64::new(0));
        let shown = match how {
            How::Bar => Shown::Bar(bar(what, bytes_total, items_total, &items)),
            How::Lines | How::Nothing => Shown::Lines { due: AtomicU64::new(0) },
        };
        Self { what, begun: Instant::now(), bytes_total, items_total, bytes: AtomicU64::new(0), items, shown }
    }

    fn set_total(&mut self, bytes: u64, items: u64) {
        (self.bytes_total, self.items_total) = (Some(bytes), Some(items));
        if let Shown::Bar(bar) = &self.shown {
            bar.set_style(style(self.bytes_total, self.items_total, &self.items));
            bar.set_length(bytes);
        }
    }

    fn advance(&self, bytes: u64, items: u64) {
        let bytes_done = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let items_done = self.items.fetch_add(items, Ordering::Relaxed) + items;
        match &self.shown {
            Shown::Bar(bar) => bar.inc(if counts_bytes(self.bytes_total, self.items_total) { bytes } else { items }),
            Shown::Lines { due } => {
                let now = self.begun.elapsed();
                let (now_millis, every) = (millis(now), millis(LINE_EVERY));
                let expected = due.load(Ordering::Relaxed);
                // Of several threads that find a line due, one writes it.
                if now_millis >= expected
                    && due.compare_exchange(expected, now_millis + every, Ordering::Relaxed, Ordering::Relaxed).is_ok()
                {
                    write_stderr(&self.line(bytes_done, items_done, now));
                }
            }
        }
    }

    fn above(&self, line: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| write_stderr(line)),
            Shown::Lines { .. } => write_stderr(line),
        }
    }

    fn end(self) {
        match &self.shown {
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines { .. } => {
                let (bytes, items) = (self.bytes.load(Ordering::Relaxed), self.items.load(Ordering::Relaxed));
                write_stderr(&self.line(bytes, items, self.begun.elapsed()));
            }
        }
    }

    fn line(&self, bytes: u64, items: u64, elapsed: Duration) -> String {
        let mut line = self.what.to_owned();
        let mut separator = ": ";
        let mut say = |part: String| {
            line.push_str(separator);
            line.push_str(&part);
            separator = ", ";
        };
        match (self.items_total, items) {
            (Some(total), _) => say(format!("{items} of {total}")),
            (None, 0) => {}
            (None, _) => say(format!("{items}")),
        }
        match (self.bytes_total, bytes) {
            (Some(total), _) => say(format!("{} of {}", units::show_bytes(bytes), units::show_bytes(total))),
            (None, 0) => {}
            (None, _) => say(units::show_bytes(bytes)),
        }
        let elapsed_millis = u128::from(millis(elapsed)).max(1);
        if bytes > 0 {
            let rate = u64::try_from(u128::from(bytes) * 1000 / elapsed_millis).unwrap_or(u64::MAX);
            say(format!("{}/s", units::show_bytes(rate)));
        }
        let (done, total) = if counts_bytes(self.bytes_total, self.items_total) {
            (bytes, self.bytes_total)
        } else {
            (items, self.items_total)
        };
        if let Some(total) = total
            && done > 0
            && done < total
        {
            let left = elapsed_millis * u128::from(total - done) / u128::from(done);
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX));
            say(format!("{} left", units::show_duration(left)));
        }
        line.push('\n');
        line
    }
}

/// Bytes tell more about the time left, if it is known how many there are.
fn counts_bytes(bytes_total: Option<u64>, items_total: Option<u64>) -> bool {
    bytes_total.is_some() || items_total.is_none()
}

fn bar(what: &'static str, bytes_total: Option<u64>, items_total: Option<u64>, items: &Arc<AtomicU64>) -> ProgressBar {
    let bar = match bytes_total.or(items_total) {
        Some(length) => ProgressBar::new(length),
        None => ProgressBar::new_spinner(),
    };
    let bar = bar.with_style(style(bytes_total, items_total, items)).with_message(what);
    bar.enable_steady_tick(TICK);
    bar
}

fn style(bytes_total: Option<u64>, items_total: Option<u64>, items: &Arc<AtomicU64>) -> ProgressStyle {
    // ASCII alone: the terminal may be of any encoding.
    let template = match (bytes_total, items_total) {
        (Some(_), _) => {
            "{msg} [{bar:30}] {percent}% {items} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left"
        }
        (None, Some(_)) => "{msg} [{bar:30}] {percent}% {pos}/{len} {per_sec}, {eta} left",
        (None, None) => "{msg} {spinner} {items} {binary_bytes} {binary_bytes_per_sec}",
    };
    let items = Arc::clone(items);
    let show_items = move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let done = items.load(Ordering::Relaxed);
        // A bar that cannot be drawn is no reason to fail.
        let _ = match items_total {
            Some(total) => write!(out, "{done}/{total}"),
            None => write!(out, "{done}"),
        };
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .with_key("items", show_items)
        .progress_chars("=> ")
        .tick_chars("|/-\\ ")
}

fn warning_text(warning: &Warning) -> String {
    let message = quote::line(&warning.message);
    match &warning.path {
        Some(path) => format!("filesync: warning: {}: {message}\n", quote::name(path)),
        None => format!("filesync: warning: {message}\n"),
    }
}

/// If stderr is closed, nobody listens.
fn write_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_only_where_it_can_be_seen() {
        let how = |when, terminal, quiet| Progress::new(when, terminal, quiet, false).how;
        assert_eq!(how(When::Auto, true, false), How::Bar);
        assert_eq!(how(When::Auto, false, false), How::Nothing);
        assert_eq!(how(When::Auto, true, true), How::Nothing);
        assert_eq!(how(When::Always, true, false), How::Bar);
        assert_eq!(how(When::Always, false, false), How::Lines);
        assert_eq!(how(When::Never, true, false), How::Nothing);
    }

    #[test]
    fn lines_tell_rate_and_time_left() {
        let phase = Phase::new(How::Lines, "committing", Some(4 << 20), Some(8));
        let line = phase.line(1 << 20, 2, Duration::from_secs(2));
        assert_eq!(line, "committing: 2 of 8, 1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6.0 s left\n");
        let phase = Phase::new(How::Lines, "scanning", None, None);
        assert_eq!(phase.line(0, 0, Duration::ZERO), "scanning\n");
        assert_eq!(phase.line(0, 3, Duration::ZERO), "scanning: 3\n");
        let phase = Phase::new(How::Lines, "checking", None, Some(0));
        assert_eq!(phase.line(0, 0, Duration::ZERO), "checking: 0 of 0\n");
    }

    #[test]
    fn bars_have_sound_templates() {
        for (bytes, items) in [(Some(1), Some(1)), (Some(0), None), (None, Some(1)), (None, None)] {
            let phase = Phase::new(How::Bar, "testing", bytes, items);
            phase.advance(3, 1);
            phase.end();
        }
    }

    #[test]
    fn a_total_may_come_later() {
        let mut phase = Phase::new(How::Lines, "committing", None, None);
        assert!(!phase.line(1 << 20, 1, Duration::from_secs(1)).contains("left"));
        phase.set_total(3 << 20, 4);
        let line = phase.line(1 << 20, 1, Duration::from_secs(1));
        assert_eq!(line, "committing: 1 of 4, 1.0 MiB of 3.0 MiB, 1.0 MiB/s, 2.0 s left\n");
        // There may be more than was counted.
        assert!(!phase.line(4 << 20, 5, Duration::from_secs(1)).contains("left"));
        let mut phase = Phase::new(How::Bar, "committing", None, None);
        phase.advance(3, 1);
        phase.set_total(10, 2);
        phase.advance(30, 4);
        phase.end();
    }

    #[test]
    fn warnings_are_one_line() {
        let warning = Warning { path: Some(b"a\nb".to_vec()), message: "skipped: a socket".into() };
        assert_eq!(warning_text(&warning), "filesync: warning: \"a\\nb\": skipped: a socket\n");
    }
}

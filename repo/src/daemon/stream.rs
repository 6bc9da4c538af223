//! Events of a command on their way to its client, a line each.
//!
//! Progress is gathered: a command may tell of it a hundred thousand times a second. A client that does not read holds
//! up its command, as a terminal would; one that has gone ends it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::protocol::Line;
use crate::cancel::Token;
use crate::request::{Event, Observer};

/// Lines that may wait for the client.
const LINES_MAX: usize = 256;
/// How often progress is told.
const EVERY: Duration = Duration::from_millis(100);
/// How soon a full line is looked at again.
const RETRY: Duration = Duration::from_millis(2);
/// How long the last line waits for a client that does not read.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The near end, which the command tells.
#[derive(Debug)]
pub struct Teller {
    lines: Sender<Bytes>,
    token: Token,
    progress: bool,
    begun: Instant,
    /// Milliseconds since it began at which progress is due.
    due: AtomicU64,
    bytes: AtomicU64,
    items: AtomicU64,
}

/// The far end: the body of the response.
#[derive(Debug)]
pub struct Lines {
    lines: Receiver<Bytes>,
    token: Token,
}

/// Both ends for a command. `token` is asked when the client has gone.
pub fn lines(token: &Token, progress: bool) -> (Teller, Lines) {
    let (sender, receiver) = channel(LINES_MAX);
    let teller = Teller {
        lines: sender,
        token: token.clone(),
        progress,
        begun: Instant::now(),
        due: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        items: AtomicU64::new(0),
    };
    (teller, Lines { lines: receiver, token: token.clone() })
}

impl Teller {
    /// The last line. It is told even if the command was asked to stop. Blocks.
    pub fn finish(self, line: &Line) {
        self.tell_progress();
        let end = Instant::now() + LAST_WORDS;
        self.send(line, || Instant::now() < end);
    }

    fn tell(&self, event: Event) {
        self.send(&Line::Event(event), || !self.token.is_requested());
    }

    fn send(&self, line: &Line, goes_on: impl Fn() -> bool) {
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let mut text = Bytes::from(text);
        loop {
            match self.lines.try_send(text) {
                Ok(()) => return,
                Err(TrySendError::Closed(_)) => return self.token.request(),
                Err(TrySendError::Full(again)) if goes_on() => text = again,
                Err(TrySendError::Full(_)) => return,
            }
            std::thread::sleep(RETRY);
        }
    }

    fn tell_progress(&self) {
        let (bytes, items) = (self.bytes.swap(0, Ordering::Relaxed), self.items.swap(0, Ordering::Relaxed));
        if bytes > 0 || items > 0 {
            self.tell(Event::Advance { bytes, items });
        }
    }

    fn is_due(&self) -> bool {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (now, due) = (millis(self.begun.elapsed()), self.due.load(Ordering::Relaxed));
        let next = now.saturating_add(millis(EVERY));
        now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Observer for Teller {
    fn event(&self, event: Event) {
        match event {
            Event::Warning(_) => self.tell(event),
            _ if !self.progress => {}
            Event::Advance { bytes, items } => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.items.fetch_add(items, Ordering::Relaxed);
                if self.is_due() {
                    self.tell_progress();
                }
            }
            Event::Phase { .. } | Event::Total { .. } => {
                self.tell_progress();
                self.tell(event);
            }
        }
    }

    fn wants_totals(&self) -> bool {
        self.progress
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // The client has gone, or has been told everything.
        self.token.request();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Warning;

    fn warning() -> Event {
        Event::Warning(Warning { path: Some(b"a\xff".to_vec()), message: "skipped: a socket".into() })
    }

    fn received(lines: &mut Lines) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(line) = lines.lines.try_recv() {
            match serde_json::from_slice(&line).unwrap() {
                Line::Event(event) => events.push(event),
                other => panic!("{other:?}"),
            }
        }
        events
    }

    #[test]
    fn progress_is_gathered_and_none_of_it_lost() {
        let token = Token::new();
        let (teller, mut lines) = lines(&token, true);
        let phase = Event::Phase { what: "committing", bytes: None, items: Some(7) };
        teller.event(phase.clone());
        for _ in 0..10_000 {
            teller.event(Event::Advance { bytes: 3, items: 1 });
        }
        teller.event(warning());
        teller.event(Event::Total { bytes: 1, items: 2 });
        let events = received(&mut lines);
        assert_eq!(events[0], phase);
        assert!(events.contains(&warning()) && events.len() < 100, "{}", events.len());
        let told: u64 =
            events.iter().map(|event| if let Event::Advance { bytes, .. } = event { *bytes } else { 0 }).sum();
        assert_eq!(told, 30_000);
    }

    #[test]
    fn who_wants_no_progress_hears_warnings() {
        let (teller, mut lines) = lines(&Token::new(), false);
        teller.event(Event::Phase { what: "committing", bytes: None, items: None });
        teller.event(Event::Advance { bytes: 3, items: 1 });
        teller.event(warning());
        assert_eq!(received(&mut lines), [warning()]);
        assert!(!teller.wants_totals());
    }

    #[test]
    fn a_client_that_has_gone_ends_its_command() {
        let token = Token::new();
        let (teller, lines) = lines(&token, false);
        assert!(!token.is_requested());
        drop(lines);
        assert!(token.is_requested());
        teller.event(warning());
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up_when_the_command_is_to_stop() {
        let token = Token::new();
        let (teller, _lines) = lines(&token, false);
        std::thread::scope(|scope| {
            let telling = scope.spawn(|| (0..2 * LINES_MAX).for_each(|_| teller.event(warning())));
            while teller.lines.capacity() > 0 {
                std::thread::yield_now();
            }
            assert!(!telling.is_finished());
            token.request();
            telling.join().unwrap();
        });
    }
}

//! Drives a [`Fetch`]: a task for each peer's stream, threads that verify, and one loop that holds the strings.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use filesync_cas::{Session, Store};
use futures::AsyncReadExt as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::idle::{self, Idle};
use super::inner::Inner;
use super::link::{LinkError, READ_LEN, open, write};
use crate::error::FetchError;
use crate::fetch::{Action, Fetch, FetchStats, Job, Outcome, Without};
use crate::message::{Message, Walk};
use crate::peer::{Class, PeerKey};
use crate::wire::Moment;

/// Messages of one peer that have come and were not looked at.
const AHEAD: usize = 4;
/// Frames that wait to be verified.
const JOBS: usize = 8;
/// So many frames, if they are no longer than this, are verified by who holds the strings: to have a thread do it would take longer.
const SHORT_FRAMES: u32 = 4;
const SHORT_LEN: usize = 64 << 10;
/// How long we must have kept up before peers are blamed for silence.
const KEPT_UP: Duration = Duration::from_secs(1);
/// How often the caller is asked whether it wants to go on.
const LOOK: Duration = Duration::from_millis(100);

/// How long a stream that is to be kept may take for the end of an answer, how much is read of it at a time, and how often: what is
/// longer than that is no end.
const SETTLE_TIME: Duration = Duration::from_secs(1);
const END_LEN: usize = 64;
const END_READS: usize = 4;

enum Event {
    Joined(PeerKey, mpsc::Sender<Vec<u8>>),
    Came(PeerKey, Message, usize, Option<OwnedSemaphorePermit>),
    Lost(PeerKey, String, bool),
    Done(Outcome),
}

/// Requests of one stream without an end of their answer.
type Owed = Arc<AtomicIsize>;

/// What one peer's stream needs to be ended.
struct Stream {
    send: Option<mpsc::Sender<Vec<u8>>>,
    owed: Owed,
    /// Told that it may be used again; dropped, it ends.
    stop: oneshot::Sender<()>,
}

#[allow(clippy::too_many_arguments)]
pub(super) fn run(
    inner: &Arc<Inner>,
    runtime: &Handle,
    session: &Session<'_>,
    store: &Store,
    walk: Walk,
    without: Without,
    peers: &[PeerKey],
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&FetchStats),
) -> (Result<(), FetchError>, FetchStats) {
    let mut fetch = match Fetch::new(store, session, walk) {
        Ok(fetch) => fetch.without(without),
        Err(error) => return (Err(error), FetchStats::default()),
    };
    if fetch.is_done() {
        return (Ok(()), fetch.stats());
    }
    let (events, received) = channel();
    let mut streams = HashMap::new();
    for &peer in peers {
        let (stop, stopped) = oneshot::channel();
        let owed = Owed::default();
        runtime.spawn(stream(Arc::clone(inner), peer, events.clone(), Arc::clone(&owed), stopped));
        streams.insert(peer, Stream { send: None, owed, stop });
    }
    let (jobs, queue) = crossbeam_channel::bounded::<Job>(JOBS);
    let result = std::thread::scope(|scope| {
        let hire = || {
            let (queue, events) = (queue.clone(), events.clone());
            scope.spawn(move || {
                for job in queue {
                    if events.send(Event::Done(job.run(session))).is_err() {
                        return;
                    }
                }
            });
        };
        let mut driver = Driver {
            inner,
            session,
            streams,
            jobs,
            hire: &hire,
            threads: 0,
            short_left: SHORT_FRAMES,
            connecting: peers.len(),
            permits: VecDeque::new(),
            keeping_up: inner.now(),
            running: 0,
            last_done: inner.now(),
        };
        let result = driver.run(&mut fetch, &received, cancel, progress);
        // No more jobs: the threads end.
        driver.end();
        result
    });
    // What was verified last is stored, and counts.
    while let Ok(event) = received.try_recv() {
        if let Event::Done(outcome) = event {
            drop(fetch.stored(outcome));
        }
    }
    let stats = fetch.stats();
    for (peer, from) in &stats.by_peer {
        inner.count(peer, |traffic| {
            traffic.received += from.bytes;
            traffic.objects_received += from.objects;
            traffic.answers += from.answers;
            traffic.waited += from.waited;
        });
    }
    (result, stats)
}

struct Driver<'a> {
    inner: &'a Arc<Inner>,
    session: &'a Session<'a>,
    streams: HashMap<PeerKey, Stream>,
    jobs: crossbeam_channel::Sender<Job>,
    /// Makes one more thread that verifies, as there is work for it.
    hire: &'a dyn Fn(),
    threads: usize,
    /// Short frames that are still to be verified here.
    short_left: u32,
    /// Peers of which it is not known yet whether they let us in.
    connecting: usize,
    /// What holds peers back while their frames wait for room.
    permits: VecDeque<OwnedSemaphorePermit>,
    /// Since when we keep up with what comes. Before, that nothing comes is no fault of peers.
    keeping_up: Moment,
    /// Frames that are being verified and stored, and when one began or ended last.
    running: usize,
    last_done: Moment,
}

impl Driver<'_> {
    fn run(
        &mut self,
        fetch: &mut Fetch<'_>,
        events: &Receiver<Event>,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> Result<(), FetchError> {
        // Frames that came and for which there is no room among the jobs.
        let mut held: Vec<Job> = Vec::new();
        let mut last = self.inner.now();
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(FetchError::Cancelled);
            }
            while let Some(job) = held.pop() {
                if let Err(full) = self.jobs.try_send(job) {
                    held.push(full.into_inner());
                    break;
                }
            }
            // As long as somebody may still let us in, nobody being there is no reason to give up.
            if self.connecting == 0 || self.streams.values().any(|stream| stream.send.is_some()) {
                while let Some(action) = fetch.poll(self.inner.now())? {
                    self.act(action, fetch, &mut held)?;
                }
            }
            while self.permits.len() > held.len() {
                self.permits.pop_front();
            }
            if fetch.is_done() {
                return Ok(());
            }
            self.wait(fetch, events, &held)?;
            let (before, now) = (last, self.inner.now());
            last = now;
            let is_store_slow = self.running > 0 && self.last_done + KEPT_UP <= now;
            if !held.is_empty() || is_store_slow || now - before >= KEPT_UP {
                self.keeping_up = now;
                fetch.was_deaf(now);
            } else if self.keeping_up + KEPT_UP <= now {
                fetch.tick(now)?;
            }
            progress(&fetch.stats());
        }
    }

    /// Streams on which everything was answered are there for the next fetch.
    fn end(self) {
        for stream in self.streams.into_values().filter(|stream| stream.send.is_some()) {
            let _ = stream.stop.send(());
        }
    }

    fn act(&mut self, action: Action, fetch: &mut Fetch<'_>, held: &mut Vec<Job>) -> Result<(), FetchError> {
        match action {
            Action::Send(peer, message) => {
                let Some(stream) = self.streams.get_mut(&peer) else { return Ok(()) };
                // Requests are short, and few are on their way: if there is no room the stream is broken, which will be told.
                if let Some(send) = &stream.send {
                    stream.owed.fetch_add(1, Ordering::Relaxed);
                    drop(send.try_send(message.encode()));
                }
            }
            Action::Verify(job) if self.short_left > 0 && job.frame_len() <= SHORT_LEN => {
                self.short_left -= 1;
                return fetch.stored(job.run(self.session));
            }
            Action::Verify(job) => {
                (self.running, self.last_done) = (self.running + 1, self.inner.now());
                let max = filesync_cas::cores().min(4);
                if self.threads < self.running.min(max) {
                    (self.hire)();
                    self.threads += 1;
                }
                held.insert(0, job);
            }
            Action::Drop { peer, lied, .. } => {
                if lied {
                    self.inner.strike(&peer);
                }
                self.streams.remove(&peer);
            }
        }
        Ok(())
    }

    /// Waits for one event.
    fn wait(&mut self, fetch: &mut Fetch<'_>, events: &Receiver<Event>, held: &[Job]) -> Result<(), FetchError> {
        let now = self.inner.now();
        let time = match held.is_empty() {
            true => fetch.deadline(now).map_or(LOOK, |at| at.saturating_sub(now)).min(LOOK),
            false => Duration::from_millis(1),
        };
        match events.recv_timeout(time) {
            Ok(event) => self.happened(fetch, event),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn happened(&mut self, fetch: &mut Fetch<'_>, event: Event) -> Result<(), FetchError> {
        let now = self.inner.now();
        match event {
            Event::Joined(peer, send) => {
                self.connecting -= 1;
                if let Some(stream) = self.streams.get_mut(&peer) {
                    stream.send = Some(send);
                    fetch.join(peer, now);
                }
                Ok(())
            }
            Event::Came(peer, message, len, permit) => {
                self.permits.extend(permit);
                // One that was dropped may still have something on the way.
                match self.streams.contains_key(&peer) {
                    true => fetch.receive(&peer, message, len, now),
                    false => Ok(()),
                }
            }
            Event::Lost(peer, why, lied) => {
                if lied {
                    self.inner.strike(&peer);
                }
                match self.streams.remove(&peer) {
                    Some(stream) => {
                        self.connecting -= usize::from(stream.send.is_none());
                        fetch.leave(&peer, &why)
                    }
                    None => Ok(()),
                }
            }
            Event::Done(outcome) => {
                (self.running, self.last_done) = (self.running - 1, now);
                fetch.stored(outcome)
            }
        }
    }
}

/// One peer's stream, from opening to its end, or until it is there for others.
async fn stream(inner: Arc<Inner>, peer: PeerKey, events: Sender<Event>, owed: Owed, mut stop: oneshot::Receiver<()>) {
    let opened = match idle::take(&inner, &peer) {
        Some(idle) => Ok((idle, Vec::new())),
        None => tokio::select! {
            opened = open(&inner, peer, Class::Bulk) => opened.map(Idle::new),
            _ = &mut stop => return,
        },
    };
    let ended = match opened {
        Ok((mut idle, first)) => match talk(&inner, peer, &mut idle, first, &events, &owed, &mut stop).await {
            Ok(ended @ (Ended::WithFetch | Ended::Over)) => {
                // What came last, the end of an answer mostly, may have found nobody who takes it: the word why is there by then.
                let is_with_fetch = matches!(ended, Ended::WithFetch) || stop.try_recv().is_ok();
                if is_with_fetch && is_settled(&inner, &mut idle, &owed).await {
                    idle::keep(&inner, peer, idle);
                }
                return;
            }
            Ok(Ended::ByPeer) => Ok(()),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    let (why, lied) = match ended {
        Ok(()) => ("the stream was closed".to_owned(), false),
        Err(error) => (error.to_string(), error.is_breach()),
    };
    drop(events.send(Event::Lost(peer, why, lied)));
}

/// How a stream's use ends, unless it breaks.
enum Ended {
    /// All of the fetch is here.
    WithFetch,
    /// Nothing more is wanted of this peer.
    Over,
    ByPeer,
}

/// Whether everything that was asked on a stream is answered, or will be at once: the end of an answer comes right behind the last of
/// it, and a fetch that is complete does not wait for it.
async fn is_settled(inner: &Inner, idle: &mut Idle, owed: &Owed) -> bool {
    let settle = async {
        let mut reads = 0;
        while owed.load(Ordering::Relaxed) != 0 {
            match idle.asking.next(inner.now()) {
                Ok(Some(message)) if message.ends_an_answer() => drop(owed.fetch_sub(1, Ordering::Relaxed)),
                Ok(None) if reads < END_READS => {
                    reads += 1;
                    let mut buffer = [0; END_LEN];
                    match idle.from.read(&mut buffer).await {
                        Ok(len) if len > 0 => idle.asking.receive(&buffer[..len], inner.now()),
                        _ => return false,
                    }
                }
                _ => return false,
            }
        }
        true
    };
    tokio::time::timeout(SETTLE_TIME, settle).await.unwrap_or(false)
}

async fn talk(
    inner: &Inner,
    peer: PeerKey,
    idle: &mut Idle,
    first: Vec<Message>,
    events: &Sender<Event>,
    owed: &Owed,
    stop: &mut oneshot::Receiver<()>,
) -> Result<Ended, LinkError> {
    let Idle { asking, from, to, .. } = idle;
    let (send, messages) = mpsc::channel(16);
    drop(events.send(Event::Joined(peer, send)));
    for message in first {
        drop(events.send(Event::Came(peer, message, 0, None)));
    }
    let room = Arc::new(Semaphore::new(AHEAD));
    let read = async {
        let mut buffer = vec![0; READ_LEN];
        loop {
            let now = inner.now();
            let left = asking.deadline().map_or(Duration::from_secs(3600), |at| at.saturating_sub(now));
            let read = tokio::time::timeout(left, from.read(&mut buffer)).await;
            let len = read.map_err(|_| LinkError::TooSlow("a message"))?;
            let len = len.map_err(|error| LinkError::Broken(error.to_string()))?;
            if len == 0 {
                return Ok(Ended::ByPeer);
            }
            asking.receive(&buffer[..len], inner.now());
            while let Some(message) = asking.next(inner.now())? {
                if message.ends_an_answer() {
                    owed.fetch_sub(1, Ordering::Relaxed);
                }
                let bytes = message.encoded_len();
                let permit = Arc::clone(&room).acquire_owned().await.ok();
                if events.send(Event::Came(peer, message, bytes, permit)).is_err() {
                    return Ok(Ended::Over);
                }
            }
        }
    };
    tokio::select! {
        // First: with the word that it is over the way for requests is closed too.
        biased;
        kept = stop => Ok(if kept.is_ok() { Ended::WithFetch } else { Ended::Over }),
        read = read => read,
        written = write(to, messages) => written.map(|()| Ended::Over),
    }
}

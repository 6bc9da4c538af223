//! Streams that peers open: each has a task, which drives a [`Serving`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncReadExt as _, StreamExt as _};
use libp2p::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::address::peer_key;
use super::calls::CALL_TIME;
use super::config::Caller;
use super::inner::{Inner, stopped};
use super::link::{READ_LEN, write_all};
use super::places::Place;
use crate::error::WireError;
use crate::message::{Message, Side, Status, body_max};
use crate::peer::{Class, PeerKey, Role};
use crate::serve::{Serving, Turn};
use crate::wire::Moment;

/// How long a request waits for its turn among those of all peers.
const TURN_TIME: Duration = Duration::from_secs(5);
/// Steps of an answer between two looks at the rest of the world.
const STEPS: usize = 64;

/// Takes streams as they come, and nothing else: one that waits is dropped by the library.
pub(super) async fn run(inner: Arc<Inner>, class: Class, mut incoming: libp2p_stream::IncomingStreams) {
    let mut stop = inner.stop.clone();
    loop {
        let next = tokio::select! {
            next = incoming.next() => next,
            () = stopped(&mut stop) => return,
        };
        let Some((peer, stream)) = next else { return };
        let Some(peer) = peer_key(&peer) else { continue };
        let is_known = inner.shared.access.role(&peer) != Role::Stranger;
        let Some(place) = inner.greeting.take(peer, is_known) else { continue };
        tokio::spawn(serve(Arc::clone(&inner), class, peer, stream, place));
    }
}

async fn serve(inner: Arc<Inner>, class: Class, peer: PeerKey, stream: Stream, place: Place) {
    let (from, to) = stream.split();
    // Of bulk the next is made when one has been written: the transport has a window's worth of it besides, and with many that take
    // their time, what waits adds up.
    let room = if class == Class::Bulk { 1 } else { 2 };
    let (send, messages) = mpsc::channel::<Outgoing>(room);
    let room = Arc::new(Semaphore::new(room));
    let mut writer = tokio::spawn(write_all(to, messages));
    let serving = Serving::new(Arc::clone(&inner.shared), peer, class, inner.now());
    let (replies, replied) = mpsc::channel(crate::serve::CALLS_MAX);
    let driver =
        Driver { inner: Arc::clone(&inner), peer, class, from, room, send, place: Some(place), replies, replied };
    let ended = tokio::select! {
        ended = driver.run(serving) => ended,
        _ = &mut writer => return,
    };
    if let Err(breach) = ended {
        let is_slow = matches!(breach, WireError::TooSlow(_));
        if !is_slow {
            inner.strike(&peer);
        }
    }
    // What was said last still goes out.
    let _ = timeout(Duration::from_secs(5), writer).await;
}

/// A message on its way, and its place there.
struct Outgoing(Vec<u8>, #[expect(dead_code, reason = "held until it is written")] OwnedSemaphorePermit);

impl Drop for Outgoing {
    fn drop(&mut self) {
        filesync_cas::spare::give_back(std::mem::take(&mut self.0));
    }
}

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

type Reply = (u64, Status, Vec<u8>);

/// One of the places that answers of bulk share.
enum BulkPlace {
    /// No answer is under way, or it waits to begin.
    None,
    /// Until the answer is made, or rests.
    Has(OwnedSemaphorePermit),
    /// Given up in the middle of an answer, while the peer rests.
    Lent,
}

struct Driver {
    inner: Arc<Inner>,
    peer: PeerKey,
    class: Class,
    from: futures::io::ReadHalf<Stream>,
    /// For messages that are made, and not written yet.
    room: Arc<Semaphore>,
    send: mpsc::Sender<Outgoing>,
    /// Held until the greeting is over; where strangers may speak, to the end.
    place: Option<Place>,
    replies: mpsc::Sender<Reply>,
    replied: mpsc::Receiver<Reply>,
}

impl Driver {
    async fn run(mut self, mut serving: Serving) -> Result<(), WireError> {
        let mut buffer = vec![0; READ_LEN];
        let mut place = BulkPlace::None;
        loop {
            if !self.have_place(&mut serving, &mut place).await {
                return Ok(());
            }
            // What is made has a place to go to.
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return Ok(()) };
            let (back, turn) = self.step(serving).await?;
            serving = back;
            let given = serving.take_given();
            if given > 0 {
                self.inner.count(&self.peer, |traffic| traffic.objects_sent += given);
            }
            match turn? {
                Turn::Send(bytes) => {
                    if serving.is_welcome() && self.class != Class::Join {
                        self.place = None;
                    }
                    if self.class == Class::Bulk && serving.is_welcome() {
                        self.inner.count(&self.peer, |traffic| traffic.sent += bytes.len() as u64);
                    }
                    if self.send.send(Outgoing(bytes, room)).await.is_err() {
                        return Ok(());
                    }
                }
                Turn::Again => tokio::task::yield_now().await,
                Turn::Wait(until) => {
                    // Others have it meanwhile.
                    place = BulkPlace::Lent;
                    drop(room);
                    if !self.rest(until).await {
                        return Ok(());
                    }
                }
                Turn::Call { number, role, topic, body } => self.answer(number, role, topic, body),
                Turn::Close => return Ok(()),
                Turn::Read => {
                    if !self.wait(&mut serving, &mut buffer).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sees to it that an answer that is under way has one of the places for bulk; `false` if the peer goes away. Where there is none
    /// in time, the request is refused.
    async fn have_place(&self, serving: &mut Serving, place: &mut BulkPlace) -> bool {
        let wait = || Arc::clone(&self.inner.bulk).acquire_owned();
        *place = match std::mem::replace(place, BulkPlace::None) {
            _ if !serving.is_answering() => BulkPlace::None,
            BulkPlace::Has(permit) => BulkPlace::Has(permit),
            // An answer that has begun is not refused.
            BulkPlace::Lent => tokio::select! {
                permit = wait() => permit.map_or(BulkPlace::None, BulkPlace::Has),
                () = self.inner.lost(&self.peer) => return false,
            },
            BulkPlace::None => match timeout(TURN_TIME, wait()).await {
                Ok(Ok(permit)) => BulkPlace::Has(permit),
                _ => {
                    serving.refuse_busy(self.inner.now());
                    BulkPlace::None
                }
            },
        };
        true
    }

    /// Some steps, on a thread that may wait for the disk if an answer is under way.
    async fn step(&self, mut serving: Serving) -> Result<(Serving, Result<Turn, WireError>), WireError> {
        let inner = Arc::clone(&self.inner);
        let steps = move || {
            let mut turn = serving.turn(&inner.store, inner.now());
            for _ in 0..STEPS {
                if !matches!(turn, Ok(Turn::Again)) || !serving.is_answering() {
                    break;
                }
                turn = serving.turn(&inner.store, inner.now());
            }
            (serving, turn)
        };
        if self.class == Class::Bulk {
            // On as many threads as get on: each has memory of its own.
            let _turn = self.inner.steps.acquire().await;
            return tokio::task::spawn_blocking(steps).await.map_err(|_| WireError::TooSlow("an answer that failed"));
        }
        Ok(steps())
    }

    /// Does nothing for a peer that has asked for too much; `false` if it goes away.
    async fn rest(&self, until: Moment) -> bool {
        tokio::select! {
            () = tokio::time::sleep(until.saturating_sub(self.inner.now())) => true,
            () = self.inner.lost(&self.peer) => false,
        }
    }

    fn answer(&self, number: u64, role: Role, topic: u16, body: Vec<u8>) {
        let caller = Caller { key: self.peer, role, class: self.class };
        let (class, answers, replies) = (self.class, Arc::clone(&self.inner.answers), self.replies.clone());
        tokio::spawn(async move {
            // In a task of its own: one that panics has failed, and does not hold its place for ever.
            let answer = tokio::spawn(async move { answers.answer(caller, topic, body).await });
            let answered = timeout(CALL_TIME, AbortOnDrop(answer)).await;
            let (status, body) = match answered {
                Ok(Ok((status, body))) if is_short(class, status, &body) => (status, body),
                _ => (Status::Failed, Vec::new()),
            };
            drop(replies.send((number, status, body)).await);
        });
    }

    /// Waits for bytes, an answer to a call, the deadline, or the end; `false` at the end of the stream.
    async fn wait(&mut self, serving: &mut Serving, buffer: &mut [u8]) -> Result<bool, WireError> {
        let now = self.inner.now();
        let left = serving.deadline().map_or(Duration::from_secs(3600), |at| at.saturating_sub(now));
        let mut stop = self.inner.stop.clone();
        tokio::select! {
            read = self.from.read(buffer) => match read {
                Ok(0) | Err(_) => return Ok(false),
                Ok(len) => serving.receive(&buffer[..len], self.inner.now()),
            },
            Some((number, status, body)) = self.replied.recv() => {
                serving.reply(number, status, body, self.inner.now());
            }
            () = tokio::time::sleep(left) => {
                if serving.deadline().is_some_and(|at| at <= self.inner.now()) {
                    return Err(serving.expire(self.inner.now()));
                }
            }
            () = stopped(&mut stop) => return Ok(false),
        }
        Ok(true)
    }
}

fn is_short(class: Class, status: Status, body: &[u8]) -> bool {
    let kind = Message::Reply { number: 0, status, body: Vec::new() }.kind();
    body_max(class, Side::Answerer, kind).is_some_and(|max| body.len() + 9 <= max)
}

/// A task that ends with who waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

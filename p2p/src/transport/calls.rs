//! Calls to peers: one stream for each peer and class, kept open; answers come in any order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::inner::{Inner, lock, stopped};
use super::link::{LinkError, READ_LEN, open, write_all};
use crate::ask::AskError;
use crate::error::{Refusal, WireError};
use crate::message::{Message, Side, Status, body_max};
use crate::peer::{Class, PeerKey};

/// The longest that a call may wait for its answer, and that an answer may take.
pub const CALL_TIME: Duration = Duration::from_secs(60);
/// Calls of one stream that may wait for their answers.
const WAITING_MAX: usize = crate::serve::CALLS_MAX;

/// Why a call was not answered. Whether it was heard is not known, save where it is said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection, or the peer does not let us in: it was not heard.
    #[error("cannot reach the peer: {0}")]
    Unreachable(String),
    /// The peer does not take us for one whom it answers: it was not heard.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The stream broke before the answer came.
    #[error("the stream broke before an answer came")]
    Broken,
    /// It is longer than a call may be: it was not sent.
    #[error("a call of {0} bytes is too long")]
    TooLong(usize),
    /// The network has been shut down.
    #[error("the network has been shut down")]
    Closed,
}

/// Where an answer goes.
type Done = oneshot::Sender<Result<(Status, Vec<u8>), CallError>>;

struct Request {
    topic: u16,
    body: Vec<u8>,
    done: Done,
}

/// Where calls to one peer are handed in.
#[derive(Clone)]
pub(super) struct Link(mpsc::Sender<Request>);

/// Asks a peer.
pub(super) async fn call(
    inner: &Arc<Inner>,
    peer: PeerKey,
    class: Class,
    topic: u16,
    body: Vec<u8>,
    time: Duration,
) -> Result<(Status, Vec<u8>), CallError> {
    let len = body.len();
    let probe = Message::Call { number: 0, topic, body: Vec::new() };
    if body_max(class, Side::Asker, probe.kind()).is_none_or(|max| len + 10 > max) {
        return Err(CallError::TooLong(len));
    }
    let asked = timeout(time.min(CALL_TIME), async {
        let (done, answer) = oneshot::channel();
        let request = Request { topic, body, done };
        if let Err(mpsc::error::SendError(request)) = link(inner, peer, class).0.send(request).await {
            // The stream ended before it was handed in, so nobody has heard it: another one.
            link(inner, peer, class).0.send(request).await.map_err(|_| CallError::Broken)?;
        }
        answer.await.unwrap_or(Err(CallError::Broken))
    });
    asked.await.unwrap_or(Err(CallError::TimedOut))
}

/// The link to a peer, made anew where the last one is gone.
fn link(inner: &Arc<Inner>, peer: PeerKey, class: Class) -> Link {
    let mut links = lock(&inner.links);
    if let Some(link) = links.get(&(peer, class)).filter(|link| !link.0.is_closed()) {
        return link.clone();
    }
    links.retain(|_, link| !link.0.is_closed());
    let (send, requests) = mpsc::channel(WAITING_MAX);
    let link = Link(send);
    links.insert((peer, class), link.clone());
    tokio::spawn(run(Arc::clone(inner), peer, class, requests));
    link
}

/// Opens the stream and carries calls until it breaks or is idle.
async fn run(inner: Arc<Inner>, peer: PeerKey, class: Class, mut requests: mpsc::Receiver<Request>) {
    let opened = match open(&inner, peer, class).await {
        Ok(opened) => opened,
        Err(error) => {
            if error.is_breach() {
                inner.strike(&peer);
            }
            let failure = match error {
                LinkError::Ask(AskError::Refused(
                    refusal @ (Refusal::Repository | Refusal::Epoch | Refusal::Stranger),
                )) => CallError::Refused(refusal),
                error => CallError::Unreachable(error.to_string()),
            };
            requests.close();
            while let Ok(request) = requests.try_recv() {
                drop(request.done.send(Err(failure.clone())));
            }
            return;
        }
    };
    let (from, to) = opened.stream.split();
    let (send, messages) = mpsc::channel(2);
    let mut writer = tokio::spawn(write_all(to, messages));
    let mut carrier =
        Carrier { inner: Arc::clone(&inner), asking: opened.asking, from, send, waiting: HashMap::new(), next: 0 };
    let ended = tokio::select! {
        ended = carrier.run(&mut requests, opened.first) => ended,
        _ = &mut writer => Ok(()),
    };
    if ended.is_err_and(|error| error.is_breach()) {
        inner.strike(&peer);
    }
    requests.close();
    // Those that wait learn that it broke: their ends are dropped.
}

struct Carrier {
    inner: Arc<Inner>,
    asking: crate::ask::Asking,
    from: futures::io::ReadHalf<libp2p::Stream>,
    send: mpsc::Sender<Vec<u8>>,
    waiting: HashMap<u64, Done>,
    next: u64,
}

impl Carrier {
    async fn run(&mut self, requests: &mut mpsc::Receiver<Request>, first: Vec<Message>) -> Result<(), LinkError> {
        first.into_iter().try_for_each(|message| self.came(message))?;
        let mut buffer = vec![0; READ_LEN];
        let mut stop = self.inner.stop.clone();
        loop {
            self.waiting.retain(|_, done| !done.is_closed());
            let now = self.inner.now();
            let idle = crate::serve::IDLE_TIME - Duration::from_secs(30);
            let left = self.asking.deadline().map_or(idle, |at| at.saturating_sub(now));
            // Answers are read also while calls wait to be written: else both sides could wait for each other.
            let send = self.send.clone();
            let request = async { Some((send.reserve_owned().await.ok()?, requests.recv().await?)) };
            tokio::select! {
                request = request, if self.waiting.len() < WAITING_MAX => {
                    let Some((room, Request { topic, body, done })) = request else { return Ok(()) };
                    self.next += 1;
                    self.waiting.insert(self.next, done);
                    drop(room.send(Message::Call { number: self.next, topic, body }.encode()));
                }
                read = self.from.read(&mut buffer) => {
                    let len = read.map_err(|error| LinkError::Broken(error.to_string()))?;
                    if len == 0 {
                        return Ok(());
                    }
                    self.asking.receive(&buffer[..len], self.inner.now());
                    while let Some(message) = self.asking.next(self.inner.now())? {
                        self.came(message)?;
                    }
                }
                () = tokio::time::sleep(left) => {
                    if self.waiting.is_empty() || self.asking.deadline().is_some_and(|at| at <= self.inner.now()) {
                        return Err(LinkError::TooSlow("a message"));
                    }
                }
                () = stopped(&mut stop) => return Ok(()),
            }
        }
    }

    fn came(&mut self, message: Message) -> Result<(), LinkError> {
        let Message::Reply { number, status, body } = message else {
            return Err(crate::ask::AskError::Wire(WireError::Unexpected(message.kind())).into());
        };
        // Nobody may wait for it any more; but a number that was never used is a breach.
        if number == 0 || number > self.next {
            return Err(crate::ask::AskError::Wire(WireError::Lie("an answer to nothing".to_owned())).into());
        }
        if let Some(done) = self.waiting.remove(&number) {
            drop(done.send(Ok((status, body))));
        }
        Ok(())
    }
}

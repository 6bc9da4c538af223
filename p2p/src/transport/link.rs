//! One stream to a peer: opened within a time, greeted, and believed in only when the greeting was answered.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::Stream;
use tokio::time::timeout;

use super::address::peer_id;
use super::inner::{Inner, OPEN_TIME, protocol};
use crate::ask::{AskError, Asking};
use crate::message::Message;
use crate::peer::{Class, PeerKey};
use crate::wire::HELLO_TIME;

/// How much is read at a time.
pub(super) const READ_LEN: usize = 64 << 10;
/// Streams that are tried before a peer is given up, and how long the first may take until the second is.
const TRIES: u32 = 3;
const PATIENCE: Duration = Duration::from_millis(500);
/// How much is written at a time. The library keeps each piece until all of it has arrived, so small ones go sooner.
const WRITE_LEN: usize = 64 << 10;
/// How long a message may take to be written.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(30);

/// Why a stream is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    #[error("it is not connected{}", .0.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    NotConnected(Option<String>),
    #[error("{0} took too long")]
    TooSlow(&'static str),
    #[error("the stream broke: {0}")]
    Broken(String),
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl LinkError {
    /// Whether the peer broke the protocol.
    pub(super) fn is_breach(&self) -> bool {
        matches!(self, Self::Ask(AskError::Wire(_)))
    }
}

fn broken(error: impl ToString) -> LinkError {
    LinkError::Broken(error.to_string())
}

/// A stream that has been welcomed.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) asking: Asking,
    /// What came behind the welcome.
    pub(super) first: Vec<Message>,
}

/// Opens a stream to a connected peer. One of several connections with it may be dead, as one of a process that was killed and
/// is back, and which of them a stream is on is left to chance: where one takes long or breaks, another is tried beside it.
pub(super) async fn open(inner: &Inner, peer: PeerKey, class: Class) -> Result<Opened, LinkError> {
    let mut tries = FuturesUnordered::from_iter([open_once(inner, peer, class)]);
    let mut begun = 1;
    loop {
        let ended = tokio::select! {
            ended = tries.next() => ended,
            () = tokio::time::sleep(PATIENCE * begun), if begun < TRIES => None,
        };
        match ended {
            None => {}
            Some(Err(LinkError::Broken(_) | LinkError::TooSlow(_))) if begun < TRIES || !tries.is_empty() => {}
            Some(ended) => return ended,
        }
        if begun < TRIES {
            begun += 1;
            tries.push(open_once(inner, peer, class));
        }
    }
}

async fn open_once(inner: &Inner, peer: PeerKey, class: Class) -> Result<Opened, LinkError> {
    // Opening one to who is not connected might never end.
    let id = peer_id(&peer).filter(|_| inner.is_connected(&peer));
    let id = id.ok_or_else(|| LinkError::NotConnected(inner.reason(&peer)))?;
    let mut control = inner.control.clone();
    let opened = timeout(OPEN_TIME, control.open_stream(id, protocol(class))).await;
    let mut stream = opened.map_err(|_| LinkError::TooSlow("opening a stream"))?.map_err(broken)?;
    let (mut asking, hello) = Asking::new(inner.shared.me, class, inner.now());
    let greeted = timeout(HELLO_TIME, async {
        stream.write_all(&hello).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut first = Vec::new();
        let mut buffer = vec![0; 4096];
        while asking.welcome().is_none() {
            let len = stream.read(&mut buffer).await.map_err(broken)?;
            if len == 0 {
                return Err(broken("it was closed"));
            }
            asking.receive(&buffer[..len], inner.now());
            while let Some(message) = asking.next(inner.now())? {
                first.push(message);
            }
        }
        Ok(first)
    });
    let first = greeted.await.map_err(|_| LinkError::TooSlow("its welcome"))??;
    Ok(Opened { stream, asking, first })
}

/// Writes messages as they come, each within a time, until there are no more or it breaks; then the stream ends.
pub(super) async fn write_all<M: AsRef<[u8]>>(
    mut to: futures::io::WriteHalf<Stream>,
    messages: tokio::sync::mpsc::Receiver<M>,
) -> Result<(), LinkError> {
    write(&mut to, messages).await?;
    let _ = timeout(WRITE_TIME, to.close()).await;
    Ok(())
}

/// As [`write_all`], and the stream goes on.
pub(super) async fn write<M: AsRef<[u8]>>(
    to: &mut futures::io::WriteHalf<Stream>,
    mut messages: tokio::sync::mpsc::Receiver<M>,
) -> Result<(), LinkError> {
    while let Some(message) = messages.recv().await {
        let written = timeout(WRITE_TIME, async {
            for piece in message.as_ref().chunks(WRITE_LEN) {
                to.write_all(piece).await?;
            }
            // What waits goes out together.
            if messages.is_empty() { to.flush().await } else { Ok(()) }
        });
        written.await.map_err(|_| LinkError::TooSlow("taking a message"))?.map_err(broken)?;
    }
    Ok(())
}

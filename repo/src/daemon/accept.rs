//! Connections: who may connect, how many at once, and how they end.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections to one listener at once; who comes then waits.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon it is tried again when there are no descriptors left.
const RETRY: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peer {
    /// Its process, if the system tells.
    pub pid: Option<i32>,
}

/// Where connections come from.
trait Accept: Sync {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one; `None` if it is refused.
    fn accept(&self) -> impl Future<Output = io::Result<Option<(Self::Io, Peer)>>> + Send;
}

/// The control socket, for its owner and root alone.
struct Control {
    listener: UnixListener,
    user: u32,
}

impl Accept for Control {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<Option<(UnixStream, Peer)>> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        // The directory keeps others out; this does where somebody has opened it.
        if peer.uid() != self.user && peer.uid() != 0 {
            tracing::warn!(uid = peer.uid(), "a connection of another user was refused");
            return Ok(None);
        }
        Ok(Some((stream, Peer { pid: peer.pid() })))
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<Option<(TcpStream, Peer)>> {
        let (stream, _) = TcpListener::accept(self).await?;
        Ok(Some((stream, Peer::default())))
    }
}

/// Answers on the control socket until `ending`.
pub async fn control(listener: UnixListener, router: Router, ending: watch::Receiver<bool>) {
    let user = rustix::process::geteuid().as_raw();
    serve(Control { listener, user }, router, ending).await;
}

/// Answers on a TCP socket until `ending`.
pub async fn http(listener: TcpListener, router: Router, ending: watch::Receiver<bool>) {
    serve(listener, router, ending).await;
}

async fn serve(listener: impl Accept, router: Router, mut ending: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    while !*ending.borrow() {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
            io::Result::Ok((listener.accept().await?, permit))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = ending.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((Some((stream, peer)), permit)) => {
                let connection = connection(stream, router.clone().layer(Extension(peer)), ending.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Ok((None, _)) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    // What has been asked is answered.
    connections.join_all().await;
}

async fn connection<Io>(stream: Io, router: Router, mut ending: watch::Receiver<bool>)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ending = async { drop(ending.wait_for(|ending| *ending).await) };
    // How a connection ends is the client's affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = ending => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.as_mut().await;
        }
    }
}

//! The other end of the control socket: a command asks the daemon, and waits.
//!
//! A signal is passed on: the daemon is asked to stop the command, and what came of it is waited for. Whoever is killed
//! outright leaves a closed connection behind, and the daemon stops the command then.

use std::io::{self, Read as _};
use std::path::Path;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::place::Place;
use super::protocol::{Asked, CANCEL, COMMAND, Envelope, Given, HELLO, Hello, Line, STOP, VERSION, VERSION_HEADER};
use crate::cancel;
use crate::error::{Error, ErrorKind};
use crate::repo::OpenOptions;
use crate::request::{Answer, Observer, Request};

/// How often somebody who waits for the daemon looks whether a signal has come.
const LOOK: Duration = Duration::from_millis(50);
/// An answer that is no command's comes at once, or never.
const SOON: Duration = Duration::from_secs(5);

/// A daemon that answers.
#[derive(Debug)]
pub struct Daemon {
    place: Place,
    runtime: Runtime,
    /// The connection by which it was found, for the first request.
    found: Mutex<Option<std::os::unix::net::UnixStream>>,
}

impl Daemon {
    /// The daemon of the repository at `root`; `None` if none answers.
    pub fn find(root: &Path) -> Result<Option<Self>, Error> {
        let Ok(place) = Place::open(root) else { return Ok(None) };
        // A socket that others could have put there is none of ours.
        if !place.is_ours().unwrap_or(false) {
            return Ok(None);
        }
        let Ok(stream) = std::os::unix::net::UnixStream::connect(place.socket()) else { return Ok(None) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("cannot ask the daemon", &error))?;
        Ok(Some(Self { place, runtime, found: Mutex::new(Some(stream)) }))
    }

    /// Who it is; `None` if it has ended since.
    pub fn hello(&self) -> Option<Hello> {
        self.short(Method::GET, HELLO)
    }

    /// As [`Self::hello`]; fails if it says nothing for as long as others that write are waited for.
    pub fn greet(&self, lock_timeout: Duration) -> Result<Option<Hello>, Error> {
        let until = Instant::now() + lock_timeout.max(SOON);
        self.runtime.block_on(async {
            let mut greeting = pin!(self.exchange(Method::GET, HELLO));
            loop {
                match timeout(LOOK, greeting.as_mut()).await {
                    Ok(body) => return Ok(body.and_then(|body| serde_json::from_slice(&body).ok())),
                    Err(_) if Instant::now() >= until => return Err(self.silent().await),
                    Err(_) => cancel::check()?,
                }
            }
        })
    }

    /// What to say of one that is there and does not answer.
    async fn silent(&self) -> Error {
        let stream = timeout(LOOK, UnixStream::connect(self.place.socket())).await;
        let pid = stream.ok().and_then(|stream| stream.ok()?.peer_cred().ok()?.pid());
        let who = pid.map_or_else(String::new, |pid| format!("pid {pid}: "));
        let error = Error::new(ErrorKind::Busy, format!("cannot ask the daemon: {who}it does not answer"));
        error.with_hint("it is halted, begins, or hangs: `kill -CONT` has one that is halted go on")
    }

    /// Wants it to end; says who it is. `None` if it has ended since.
    pub fn stop(&self) -> Option<Hello> {
        self.short(Method::POST, STOP)
    }

    /// Has it carry out a command. `None` if it is about to end, or has ended, and has not begun.
    pub fn carry_out(
        &self,
        request: &Request,
        options: &OpenOptions,
        observer: &dyn Observer,
    ) -> Result<Option<Answer>, Error> {
        let word = request.word();
        match self.ask(word, Asked::Command(request.clone()), options, observer)? {
            Some(Given::Command(answer)) => Ok(Some(answer)),
            Some(Given::Part(_)) => Err(misunderstood(word)),
            None => Ok(None),
        }
    }

    /// Has one of its parts answer a request. `None` as with [`Self::carry_out`].
    pub fn ask_part(
        &self,
        name: &str,
        body: Value,
        options: &OpenOptions,
        observer: &dyn Observer,
    ) -> Result<Option<Value>, Error> {
        let asked = Asked::Part { name: name.to_owned(), body };
        match self.ask(name, asked, options, observer)? {
            Some(Given::Part(answer)) => Ok(Some(answer)),
            Some(Given::Command(_)) => Err(misunderstood(name)),
            None => Ok(None),
        }
    }

    fn ask(
        &self,
        word: &str,
        asked: Asked,
        options: &OpenOptions,
        observer: &dyn Observer,
    ) -> Result<Option<Given>, Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)
            .map_err(|error| Error::new(ErrorKind::Failed, format!("no random numbers: {error}")))?;
        let envelope = Envelope {
            id: filesync_cas::hash::hex(&random),
            lock_timeout: options.lock_timeout,
            progress: observer.wants_totals(),
            asked,
        };
        let body = serde_json::to_vec(&envelope)
            .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot ask the daemon: {error}")))?;
        // Asked for later, it would be begun without anybody who waits for it.
        if self.greet(options.lock_timeout)?.is_none() {
            return Ok(None);
        }
        self.runtime.block_on(async {
            let Some(response) = self.send(Method::POST, COMMAND, body).await.map_err(|_| unknown(word))? else {
                return Ok(None);
            };
            match response.status() {
                StatusCode::OK => self.follow(word, &envelope.id, response.into_body(), observer).await.map(Some),
                StatusCode::SERVICE_UNAVAILABLE => Ok(None),
                status => {
                    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                    let other = || Error::new(ErrorKind::Failed, format!("cannot ask the daemon: it said {status}"));
                    Err(serde_json::from_slice(&body).unwrap_or_else(|_| other()))
                }
            }
        })
    }

    /// Reads lines to the last.
    async fn follow(&self, word: &str, id: &str, mut body: Incoming, observer: &dyn Observer) -> Result<Given, Error> {
        let mut buffer = Vec::new();
        let mut asked_to_stop = false;
        loop {
            let frame = match timeout(LOOK, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_)) | None) => return Err(unknown(word)),
                Err(_) => {
                    if cancel::requested() && !asked_to_stop {
                        asked_to_stop = true;
                        // If it has ended, the answer is on its way.
                        drop(self.send(Method::POST, CANCEL, id.as_bytes().to_vec()).await);
                    }
                    continue;
                }
            };
            let Some(bytes) = frame.data_ref() else { continue };
            // A result may be long: none of it is looked through twice.
            let (mut from, mut look) = (0, buffer.len());
            buffer.extend_from_slice(bytes);
            while let Some(at) = buffer[look..].iter().position(|byte| *byte == b'\n') {
                let line = serde_json::from_slice(&buffer[from..look + at]);
                (from, look) = (look + at + 1, look + at + 1);
                match line.map_err(|_| misunderstood(word))? {
                    Line::Event(event) => observer.event(event),
                    Line::Result(given) => return Ok(given),
                    Line::Error(error) => return Err(error),
                }
            }
            buffer.drain(..from);
        }
    }

    /// A request without a stream for an answer.
    fn short<T: serde::de::DeserializeOwned>(&self, method: Method, path: &str) -> Option<T> {
        let body = self.runtime.block_on(async { timeout(SOON, self.exchange(method, path)).await }).ok()??;
        serde_json::from_slice(&body).ok()
    }

    async fn exchange(&self, method: Method, path: &str) -> Option<Bytes> {
        let response = self.send(method, path, Vec::new()).await.ok()??;
        Some(response.into_body().collect().await.ok()?.to_bytes())
    }

    /// Sends a request on a connection of its own, the first on that by which the daemon was found. `None` if nobody is there to
    /// take it.
    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> io::Result<Option<Response<Incoming>>> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = match found.filter(is_open) {
            Some(stream) => UnixStream::from_std(stream),
            None => UnixStream::connect(self.place.socket()).await,
        };
        let Ok(stream) = stream else { return Ok(None) };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let request = HttpRequest::builder()
            .method(method)
            .uri(path)
            .header("host", "filesync")
            .header(VERSION_HEADER, VERSION)
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        match sender.send_request(request).await {
            Ok(response) => Ok(Some(response)),
            // Not a byte of it was sent.
            Err(error) if error.is_canceled() => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Whether the daemon has not closed it since. From here on it does not block.
fn is_open(stream: &std::os::unix::net::UnixStream) -> bool {
    let read = stream.set_nonblocking(true).and_then(|()| (&*stream).read(&mut [0]));
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn unknown(word: &str) -> Error {
    let message = format!("cannot tell whether it was done: {word}: the daemon ended before it answered");
    Error::new(ErrorKind::Unknown, message).with_hint("`filesync log` and `filesync status` show what there is")
}

fn misunderstood(word: &str) -> Error {
    Error::new(ErrorKind::Unknown, format!("cannot understand what the daemon answered: {word}"))
}

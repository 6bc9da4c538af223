//! Carrying out what is asked over the control socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::keeper::{Keeper, Logged};
use super::metrics::Counters;
use super::part::Client;
use super::protocol::{Asked, Envelope, Given, Line};
use super::stream::{Lines, Teller, lines};
use super::turns::{Turn, Turns};
use crate::cancel::Token;
use crate::error::{Error, ErrorKind};
use crate::journal::Journal;
use crate::request::Request;

/// How often somebody who waits for his turn is asked whether he still wants it.
const STILL_THERE: Duration = Duration::from_millis(50);

/// What answers.
pub struct Service {
    pub(super) keeper: Keeper,
    pub(super) turns: Turns,
    /// Asked when all commands are to stop.
    pub(super) all: Token,
    /// Commands that have been asked for, and not yet answered.
    commands: Mutex<HashMap<String, Token>>,
    /// The daemon is to end; told once.
    stop: watch::Sender<bool>,
    ending: AtomicBool,
    pub(super) counters: Counters,
    /// Where HTTP is answered.
    pub(super) http: Option<SocketAddr>,
}

impl Service {
    pub fn new(keeper: Keeper, turns: Turns, all: Token, http: Option<SocketAddr>) -> Self {
        Self {
            keeper,
            turns,
            all,
            commands: Mutex::default(),
            stop: watch::Sender::new(false),
            ending: AtomicBool::new(false),
            counters: Counters::default(),
            http,
        }
    }

    /// Wants the daemon to end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Turns true when somebody wants it to end.
    pub fn stopped(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// From now on commands are refused, and those that run asked to stop.
    pub fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.all.request();
    }

    /// Commands that are not yet answered.
    pub fn under_way(&self) -> usize {
        self.commands().len()
    }

    /// Asks a command to stop. False if there is none of that name.
    pub fn cancel(&self, id: &str) -> bool {
        let commands = self.commands();
        let token = commands.get(id);
        token.inspect(|token| token.request()).is_some()
    }

    /// Takes a command on. `None` if the daemon ends: then somebody else is to carry it out.
    pub fn take_on(self: &Arc<Self>, envelope: Envelope, pid: Option<i32>) -> Option<Lines> {
        let token = self.all.child();
        let (teller, lines) = lines(&token, envelope.progress);
        {
            let mut commands = self.commands();
            if self.ending.load(Ordering::SeqCst) {
                return None;
            }
            commands.insert(envelope.id.clone(), token.clone());
        }
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let id = envelope.id.clone();
            service.answer(envelope, pid, teller, token).await;
            service.commands().remove(&id);
        });
        Some(lines)
    }

    async fn answer(self: &Arc<Self>, envelope: Envelope, pid: Option<i32>, teller: Teller, token: Token) {
        let Envelope { id: _, lock_timeout, progress: _, asked } = envelope;
        let word = asked.word().to_owned();
        let who = pid.map_or_else(|| word.clone(), |pid| format!("{word}, pid {pid}"));
        let began = Instant::now();
        let turn = match &asked {
            Asked::Command(_) => self.turn(&who, lock_timeout, &token).await.map(Some),
            // A part knows whether it changes anything.
            Asked::Part { .. } => Ok(None),
        };
        let service = Arc::clone(self);
        let work = move || {
            let client = Client { who, lock_timeout };
            let result = turn.and_then(|turn| service.carry_out(asked, turn, &client, &teller, &token));
            let result = result.map_err(|error| service.explain(error));
            service.counters.command(&word, result.as_ref(), began.elapsed());
            log(&client.who, result.as_ref().err(), began.elapsed());
            teller.finish(&result.map_or_else(Line::Error, Line::Result));
        };
        // Panics are caught within: it ends as it should, or the process is about to.
        drop(tokio::task::spawn_blocking(work).await);
    }

    async fn turn(&self, who: &str, timeout: Duration, token: &Token) -> Result<Turn, Error> {
        let given_up = async {
            while !token.is_requested() {
                tokio::time::sleep(STILL_THERE).await;
            }
        };
        tokio::select! {
            biased;
            turn = self.turns.wait(who.to_owned(), timeout) => turn,
            () = given_up => Err(crate::cancel::interrupted()),
        }
    }

    fn carry_out(
        &self,
        asked: Asked,
        turn: Option<Turn>,
        client: &Client,
        teller: &Teller,
        token: &Token,
    ) -> Result<Given, Error> {
        let run = || match asked {
            Asked::Command(request) => self.command(&request, teller),
            Asked::Part { name, body } => {
                let open = self.keeper.open()?;
                let answer = open.running.iter().find_map(|part| part.answer(&name, &body, client, teller));
                let unknown = || Error::new(ErrorKind::Usage, format!("cannot {name}: this daemon does not know how"));
                answer.unwrap_or_else(|| Err(unknown())).map(Given::Part)
            }
        };
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| token.scope(run)));
        let panicked = result.is_err();
        // Not for who only asked a part: it may be another's turn.
        if turn.is_some() {
            self.look_after(panicked);
        }
        result.unwrap_or_else(|_| {
            let hint = "its log tells more; `filesync fsck` verifies the store";
            Err(Error::new(ErrorKind::Failed, "internal error in the daemon").with_hint(hint))
        })
    }

    fn command(&self, request: &Request, teller: &Teller) -> Result<Given, Error> {
        let open = self.keeper.open()?;
        open.repo.store.remove_condemned();
        let answer = open.repo.carry_out(request, teller)?;
        Ok(Given::Command(answer))
    }

    /// After a command, while it is still its turn: the store is as the next one needs it.
    fn look_after(&self, panicked: bool) {
        let Some(open) = self.keeper.get() else { return };
        let why = match open.repo.store.check_writable() {
            Err(error) => Some(error.to_string()),
            Ok(()) if panicked => Some("a command failed in a way that should not be".to_owned()),
            Ok(()) => None,
        };
        open.repo.pass_warnings(&Logged);
        drop(open);
        if let Some(why) = why.filter(|_| !self.ending.load(Ordering::SeqCst)) {
            self.keeper.renew(&why);
        }
    }

    fn explain(&self, error: Error) -> Error {
        let is_ours = error.kind() == ErrorKind::Cancelled && self.ending.load(Ordering::SeqCst);
        if is_ours { Error::new(ErrorKind::Failed, "interrupted: the daemon was stopped") } else { error }
    }

    /// Whether the repository can be written, and every part does what it is there for; or what is the matter.
    pub fn ready(&self) -> Result<(), String> {
        let Some(open) = self.keeper.get() else { return Err("the store is not open".to_owned()) };
        open.repo.store.check_writable().map_err(|error| error.to_string())?;
        if Journal::exists(&**open.repo.store.vfs()) && !self.turns.is_taken() {
            return Err("a restore was cut off and is not finished".to_owned());
        }
        open.running.iter().try_for_each(|part| part.ready())
    }

    fn commands(&self) -> std::sync::MutexGuard<'_, HashMap<String, Token>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(who: &str, error: Option<&Error>, took: Duration) {
    let seconds = took.as_secs_f64();
    match error {
        None => tracing::info!(who, seconds, "done"),
        Some(error) => tracing::warn!(who, seconds, %error, "failed"),
    }
}

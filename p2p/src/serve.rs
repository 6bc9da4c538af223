//! The answering side of a stream: bytes and time in, messages out. No sockets; what it answers from is the store.
//!
//! A stream is *greeting*, *idle*, *answering* or *closed*. While a bulk request is being answered nothing more is read
//! from the stream: what the asker sends ahead waits with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filesync_cas::{ContentHash, Store};

use crate::error::{Refusal, WireError};
use crate::get::GetAnswer;
use crate::guard::{Guard, Spent};
use crate::message::{Hello, Message, Side, Status, VERSION, Walk, Welcome, topics};
use crate::peer::{Access, Class, PeerKey, Role, Root, Scope, is_admitted};
use crate::source::StoreSource;
use crate::walk::{Step, WalkAnswer};
use crate::wants::Get;
use crate::wire::{HELLO_TIME, Inbox, Moment};

/// How long a stream may be idle.
pub const IDLE_TIME: Duration = Duration::from_secs(300);
/// Calls of one stream that may be answered at a time.
pub const CALLS_MAX: usize = 64;

/// Who we are, as Hello and Welcome say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Me {
    /// The repository.
    pub repository: ContentHash,
    /// The epoch of the cluster.
    pub epoch: u64,
    /// Of this process.
    pub nonce: u64,
}

impl Me {
    /// The first message of a stream that we open.
    pub fn hello(&self, class: Class) -> Message {
        let Self { repository, epoch, nonce } = *self;
        Message::Hello(Hello { versions: (VERSION, VERSION), repository, epoch, nonce, class })
    }

    /// Whether we answer who greets so; what a stranger sees was decided before.
    fn greet(&self, hello: &Hello, class: Class) -> Result<Welcome, Refusal> {
        let (lowest, highest) = hello.versions;
        if hello.class != class {
            return Err(Refusal::Stranger);
        }
        if !(lowest..=highest).contains(&VERSION) {
            return Err(Refusal::Version);
        }
        if hello.repository != self.repository {
            return Err(Refusal::Repository);
        }
        if hello.epoch != 0 && hello.epoch != self.epoch {
            return Err(Refusal::Epoch);
        }
        Ok(Welcome { version: VERSION, epoch: self.epoch, nonce: self.nonce })
    }
}

/// What all streams of a process share.
pub struct Shared {
    /// Who we are.
    pub me: Me,
    /// Who may do what.
    pub access: Arc<dyn Access>,
    /// What it costs.
    pub guard: Mutex<Guard>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Shared {
    /// The account of peers.
    pub fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the driver of a stream does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send this.
    Send(Vec<u8>),
    /// Read more, until [`Serving::deadline`].
    Read,
    /// Come again: it is working.
    Again,
    /// Come again at that time: the peer has asked for too much.
    Wait(Moment),
    /// Have a call answered, and hand the answer to [`Serving::reply`].
    Call {
        /// Which.
        number: u64,
        /// What the caller was when it was let in.
        role: Role,
        /// What about.
        topic: u16,
        /// Opaque.
        body: Vec<u8>,
    },
    /// Close it, after everything has been sent.
    Close,
}

#[derive(Debug)]
enum State {
    Greeting,
    Idle,
    Walking(Box<WalkAnswer>),
    Getting(Box<GetAnswer>),
    Closing,
}

/// One stream that a peer has opened.
#[derive(Debug)]
pub struct Serving {
    shared: Arc<Shared>,
    peer: PeerKey,
    class: Class,
    inbox: Inbox,
    state: State,
    /// When it opened, or was last busy.
    since: Moment,
    granted: bool,
    calls: usize,
    given: u64,
    out: Vec<Vec<u8>>,
}

impl Serving {
    /// A stream that `peer`, whose key the connection has proved, opened at this moment.
    pub fn new(shared: Arc<Shared>, peer: PeerKey, class: Class, now: Moment) -> Self {
        let inbox = Inbox::new(class, Side::Asker);
        let (state, since) = (State::Greeting, now);
        Self { shared, peer, class, inbox, state, since, granted: false, calls: 0, given: 0, out: Vec::new() }
    }

    /// Takes bytes as they came; asked for only while [`Turn::Read`].
    pub fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.inbox.push(bytes, now);
    }

    /// By when something must come, or [`Serving::expire`] is to be called.
    pub fn deadline(&self) -> Option<Moment> {
        let waits = match self.state {
            State::Greeting => Some(self.since + HELLO_TIME),
            State::Idle if self.calls == 0 => Some(self.since + IDLE_TIME),
            _ => None,
        };
        [waits, self.inbox.deadline()].into_iter().flatten().min()
    }

    /// Nothing came in time.
    pub fn expire(&mut self, now: Moment) -> WireError {
        let what = match self.state {
            State::Greeting => "Hello",
            State::Idle if self.inbox.is_empty() => "the next request",
            _ => "a message",
        };
        self.close(now);
        WireError::TooSlow(what)
    }

    /// What is to be done now. An error is a breach of the protocol: the stream is to be closed at once.
    pub fn turn(&mut self, store: &Store, now: Moment) -> Result<Turn, WireError> {
        self.try_turn(store, now).inspect_err(|_| self.close(now))
    }

    fn try_turn(&mut self, store: &Store, now: Moment) -> Result<Turn, WireError> {
        if !self.out.is_empty() {
            return Ok(Turn::Send(self.out.remove(0)));
        }
        let ready_at = self.shared.guard().ready_at(&self.peer, self.class);
        match &mut self.state {
            State::Closing => return Ok(Turn::Close),
            State::Greeting => {}
            _ if self.granted && ready_at > now => return Ok(Turn::Wait(ready_at)),
            State::Idle => {}
            State::Walking(answer) => {
                let step = answer.step(&StoreSource(store));
                let work = answer.take_work();
                return Ok(self.answered(step, work, now));
            }
            State::Getting(answer) => {
                let step = answer.step(store);
                let work = answer.take_work();
                return Ok(self.answered(step, work, now));
            }
        }
        match self.inbox.next(now)? {
            None => Ok(Turn::Read),
            Some(message) => self.take(message, now),
        }
    }

    /// Turns a step of an answer into a turn of the stream.
    fn answered(&mut self, step: Result<Step, Refusal>, work: u64, now: Moment) -> Turn {
        let bytes = match &step {
            Ok(Step::Send(message)) => message.encoded_len() as u64,
            _ => 0,
        };
        self.shared.guard().spend(&self.peer, Spent { requests: 0, nodes: work, bytes }, now);
        match step {
            Ok(Step::Send(message)) => {
                if let Message::GetEnd { sent } = message {
                    self.given += u64::from(sent);
                }
                Turn::Send(message.into_bytes())
            }
            Ok(Step::Working) => Turn::Again,
            Ok(Step::End) => self.idle(now),
            Err(refusal) => {
                self.idle(now);
                Turn::Send(Message::Refused(refusal).encode())
            }
        }
    }

    fn idle(&mut self, now: Moment) -> Turn {
        (self.state, self.since) = (State::Idle, now);
        Turn::Again
    }

    fn take(&mut self, message: Message, now: Moment) -> Result<Turn, WireError> {
        if matches!(self.state, State::Greeting) != matches!(message, Message::Hello(_)) {
            return Err(WireError::Unexpected(message.kind()));
        }
        if let Message::Hello(hello) = message {
            return Ok(self.greeted(&hello, now));
        }
        self.shared.guard().spend(&self.peer, Spent { requests: 1, ..Spent::default() }, now);
        let is_admitted = is_admitted(&*self.shared.access, &self.peer, self.class);
        let started = match message {
            Message::Walk(_) | Message::Get(_) if !is_admitted => Err(Refusal::Stranger),
            Message::Walk(walk) => self.walk(&walk),
            Message::Get(get) => self.get(get),
            Message::Call { number, topic, body } => return Ok(self.call(number, topic, body, is_admitted)),
            other => return Err(WireError::Unexpected(other.kind())),
        };
        self.since = now;
        match started {
            Ok(state) => self.state = state,
            Err(refusal) => self.out.push(Message::Refused(refusal).encode()),
        }
        Ok(Turn::Again)
    }

    fn greeted(&mut self, hello: &Hello, now: Moment) -> Turn {
        let admitted = match is_admitted(&*self.shared.access, &self.peer, self.class) {
            true => self.shared.me.greet(hello, self.class),
            // A stranger learns nothing else.
            false => Err(Refusal::Stranger),
        };
        let opened = admitted
            .and_then(|welcome| self.shared.guard().open(&self.peer, self.class, hello.nonce, now).map(|()| welcome));
        match opened {
            Ok(welcome) => {
                self.granted = true;
                self.idle(now);
                Turn::Send(Message::Welcome(welcome).encode())
            }
            Err(refusal) => {
                self.state = State::Closing;
                Turn::Send(Message::Refused(refusal).encode())
            }
        }
    }

    fn walk(&self, walk: &Walk) -> Result<State, Refusal> {
        let may = |root: &Root| match self.shared.access.scope(&self.peer, root) {
            // What is limited to paths is limited to one commit.
            scope @ Scope::Below(_) => scope.covers(&walk.path) && !walk.history,
            scope => scope == Scope::All,
        };
        if !may(&walk.root) {
            return Err(Refusal::Nothing);
        }
        let base = walk.base.map(|id| Root::new(walk.root.kind(), id).ok_or(Refusal::Base)).transpose()?;
        if base.is_some_and(|base| !may(&base)) {
            return Err(Refusal::Base);
        }
        Ok(State::Walking(Box::new(WalkAnswer::new(walk)?)))
    }

    fn get(&self, get: Get) -> Result<State, Refusal> {
        let scopes: Vec<Scope> = get.roots.iter().map(|root| self.shared.access.scope(&self.peer, root)).collect();
        if scopes.contains(&Scope::Nothing) {
            return Err(Refusal::Nothing);
        }
        Ok(State::Getting(Box::new(GetAnswer::new(get, scopes))))
    }

    fn call(&mut self, number: u64, topic: u16, body: Vec<u8>, is_admitted: bool) -> Turn {
        let (access, role) = (&self.shared.access, self.shared.access.role(&self.peer));
        // The role is looked at once more, so that what is handed on is what was let in.
        let may = is_admitted
            && topics::belong(self.class, topic)
            && role.admits(self.class)
            && (self.class == Class::Join || access.may_call(&self.peer, topic));
        let status = match (may, self.calls < CALLS_MAX) {
            (false, _) => Status::Refused,
            (_, false) => Status::Busy,
            _ => {
                self.calls += 1;
                return Turn::Call { number, role, topic, body };
            }
        };
        Turn::Send(Message::Reply { number, status, body: Vec::new() }.encode())
    }

    /// Whether the peer's Hello was answered with a welcome.
    pub fn is_welcome(&self) -> bool {
        self.granted
    }

    /// Objects that were given since this was asked last, of requests that have ended.
    pub fn take_given(&mut self) -> u64 {
        std::mem::take(&mut self.given)
    }

    /// Whether a bulk request is being answered.
    pub fn is_answering(&self) -> bool {
        matches!(self.state, State::Walking(_) | State::Getting(_))
    }

    /// Refuses the bulk request that is being answered: too many others are.
    pub fn refuse_busy(&mut self, now: Moment) {
        if self.is_answering() {
            self.idle(now);
            self.out.push(Message::Refused(Refusal::Busy).encode());
        }
    }

    /// The answer to a call; sent in a turn to come.
    pub fn reply(&mut self, number: u64, status: Status, body: Vec<u8>, now: Moment) {
        self.calls = self.calls.saturating_sub(1);
        self.since = now;
        self.out.push(Message::Reply { number, status, body }.encode());
    }

    /// The stream is gone.
    pub fn close(&mut self, now: Moment) {
        if std::mem::take(&mut self.granted) {
            self.shared.guard().close(&self.peer, self.class, now);
        }
        self.state = State::Closing;
        self.out.clear();
    }

    /// Bytes that are kept of what came.
    pub fn kept(&self) -> usize {
        self.inbox.len()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.close(self.since);
    }
}

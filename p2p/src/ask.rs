//! The asking side of a stream, up to the point where a message is somebody's: greeting, limits, deadlines.

use std::time::Duration;

use crate::error::{Refusal, WireError};
use crate::message::{Message, Side, VERSION, Welcome};
use crate::peer::Class;
use crate::serve::Me;
use crate::wire::{HELLO_TIME, Inbox, Moment};

/// Why a stream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The peer broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer does not let us in.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// A stream that we have opened.
#[derive(Debug)]
pub struct Asking {
    inbox: Inbox,
    me: Me,
    opened: Moment,
    welcome: Option<Welcome>,
}

impl Asking {
    /// Begins; the bytes are to be sent first.
    pub fn new(me: Me, class: Class, now: Moment) -> (Self, Vec<u8>) {
        let asking = Self { inbox: Inbox::new(class, Side::Answerer), me, opened: now, welcome: None };
        (asking, me.hello(class).encode())
    }

    /// The answer to our Hello, once it is there.
    pub fn welcome(&self) -> Option<Welcome> {
        self.welcome
    }

    /// Takes bytes as they came. [`Asking::next`] is to be asked until it has nothing more.
    pub fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.inbox.push(bytes, now);
    }

    /// The next message that is none of the greeting.
    pub fn next(&mut self, now: Moment) -> Result<Option<Message>, AskError> {
        let Some(message) = self.inbox.next(now)? else { return Ok(None) };
        if self.welcome.is_some() {
            return match message {
                Message::Welcome(_) => Err(WireError::Unexpected(message.kind()).into()),
                message => Ok(Some(message)),
            };
        }
        match message {
            Message::Welcome(welcome) if welcome.version != VERSION => Err(AskError::Refused(Refusal::Version)),
            Message::Welcome(welcome) if self.me.epoch != 0 && welcome.epoch != self.me.epoch => {
                Err(AskError::Refused(Refusal::Epoch))
            }
            Message::Welcome(welcome) => {
                self.welcome = Some(welcome);
                self.next(now)
            }
            Message::Refused(refusal) => Err(AskError::Refused(refusal)),
            other => Err(WireError::Unexpected(other.kind()).into()),
        }
    }

    /// Whether nothing has come of a message that is not complete.
    pub fn is_between_messages(&self) -> bool {
        self.inbox.is_empty()
    }

    /// By when something must come: the welcome, or the rest of a message.
    pub fn deadline(&self) -> Option<Moment> {
        let greeting = self.welcome.is_none().then(|| self.opened + HELLO_TIME + Duration::from_secs(5));
        [greeting, self.inbox.deadline()].into_iter().flatten().min()
    }
}

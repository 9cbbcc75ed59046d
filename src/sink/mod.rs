//! Where mail goes. A [`Sink`] answers for each message: accepted (durable), deferred (about the sink) or rejected (about the message).
//! It never decides what happens to a message then; that is `collect`'s and the cursor's.

#[cfg(test)]
pub(crate) mod conformance;
pub mod file;
pub mod header;
pub mod identity;
pub mod spool;
pub mod substitute;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::oneshot;

pub use identity::Identity;
pub use spool::{Spool, Spooled};

/// The bytes of a message on their way to a sink.
#[derive(Debug)]
pub enum Body {
    /// In memory.
    Memory(Bytes),
    /// In an unnamed file that this very sink opened by [`OwnParts::part`].
    Part(file::Part),
    /// In the spool, for any number of sinks.
    Spooled(Spooled),
}

impl Body {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Part(part) => part.length(),
            Self::Spooled(spooled) => spooled.length(),
        }
    }
}

/// One message for a sink.
#[derive(Debug)]
pub struct Delivery {
    /// What the message is called everywhere.
    pub identity: Identity,
    /// INTERNALDATE, for templates.
    pub internal_date: Option<Timestamp>,
    /// The bytes.
    pub body: Body,
}

impl Delivery {
    /// The same message for another sink; `None` where its bytes lie in a file of one sink's own.
    pub fn share(&self) -> Option<Self> {
        let body = match &self.body {
            Body::Memory(bytes) => Body::Memory(bytes.clone()),
            Body::Spooled(spooled) => Body::Spooled(spooled.clone()),
            Body::Part(_) => return None,
        };
        Some(Self { identity: self.identity, internal_date: self.internal_date, body })
    }
}

/// A sink's answer about one message.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The message is durable in the sink, now or already before.
    Accepted,
    /// The sink can't for now, whatever the message.
    Deferred(Arc<Error>),
    /// The sink refuses this message.
    Rejected(Arc<Error>),
}

/// The answers to one batch, in its order, once they are final. Dropping it does not undo the delivery.
#[derive(Debug)]
pub struct Receipt(pub oneshot::Receiver<Vec<Outcome>>);

impl Receipt {
    /// Outcomes that are known already.
    pub fn of(outcomes: Vec<Outcome>) -> Self {
        let (answer, receipt) = oneshot::channel();
        // Its receiver is in hand.
        let _ = answer.send(outcomes);
        Self(receipt)
    }

    /// Waits for the outcomes, `within` at most.
    pub async fn outcomes(self, within: Duration) -> Result<Vec<Outcome>, Error> {
        tokio::time::timeout(within, self.0).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Gone)
    }
}

/// What a sink promises about a message that is delivered twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The same [`Identity`] delivered again has no second effect.
    OneEffect,
    /// Delivered again it may have another effect, so that it is handed over alone or with few others, and each answer recorded as it comes.
    AtLeastOnce {
        /// Messages that it works on at the same time; longer batches are cut to so many.
        at_once: usize,
    },
}

/// A destination. Implementations pass the conformance suite of this room.
///
/// *Durability*: `Accepted` survives power loss, as far as the destination's own acceptance does. *Idempotency*: see [`Promise`].
/// *Cancellation*: dropping any future leaves nothing half-visible. *Deadlines*: each answer comes, or its receipt fails, within [`Sink::patience`].
pub trait Sink: Send + Sync {
    /// What a message delivered twice comes to.
    fn promise(&self) -> Promise;
    /// Longest time until a batch of no more than [`Promise::AtLeastOnce::at_once`] messages is answered.
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
    /// Hands a batch over; waits only while the sink's bounded queue is full.
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Receipt>;
    /// Nothing more is coming for now: make durable at once what was handed over, rather than wait for a fuller batch.
    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    /// Whether the sink would take mail now.
    fn probe(&self) -> BoxFuture<'_, Result<(), Error>>;
    /// For a sink that can take a long message into a file of its own, which saves the way through the spool.
    fn own_parts(&self) -> Option<&dyn OwnParts> {
        None
    }
    /// For a sink in which earlier copies of a message can be looked up.
    fn copies(&self) -> Option<&dyn Copies> {
        None
    }
}

/// Long messages straight into a sink's own unnamed files.
pub trait OwnParts: Send + Sync {
    /// Opens an unnamed file in the target, for a message too long for memory; `length` is the announced size in bytes.
    fn part(&self, length: u64) -> BoxFuture<'_, Result<file::Part, Error>>;
    /// Appends to a part. The write happens elsewhere; the future waits only while too much is queued.
    fn append<'a>(&'a self, part: &'a mut file::Part, bytes: Bytes) -> BoxFuture<'a, Result<(), Error>>;
}

/// Earlier copies of a message, for reconciling.
pub trait Copies: Send + Sync {
    /// Looks at what lies in the sink, for the [`Copies::identical`] calls that follow. Returns how many messages it saw.
    fn survey(&self) -> BoxFuture<'_, Result<u64, Error>>;
    /// The placements under which byte-identical copies of this message lie in the sink as of the last [`Copies::survey`]. Finds candidates by
    /// the fingerprint, compares bytes.
    fn identical<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Result<Vec<[u8; 8]>, Error>>;
}

/// A fact about a failed delivery.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused. `path` is below the sink's root.
    #[error("{operation} {path:?}: {source}")]
    Io {
        /// The system call or what it was for.
        operation: &'static str,
        /// The path.
        path: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A symbolic link, or something other than a directory, stands in the path.
    #[error("{path:?} is not a plain directory")]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The directory holds more messages than a survey keeps in memory.
    #[error("{path:?} holds more than {limit} messages: too many to look for copies among them")]
    SurveyTooLarge {
        /// The path.
        path: String,
        /// Messages that a survey keeps.
        limit: usize,
    },
    /// The writer is gone (the process is ending).
    #[error("the sink's writer has ended")]
    Gone,
    /// Writing took longer than its deadline.
    #[error("the sink did not answer in time")]
    Timeout,
    /// No room in the spool within its deadline.
    #[error("the spool of {quota} bytes has no room for {wanted}")]
    SpoolFull {
        /// Bytes of the message.
        wanted: u64,
        /// Bytes of the whole spool.
        quota: u64,
    },
    /// The sink's host has an address that the operator does not allow (law 11), or a port.
    #[error("{host}: {address} port {port} is not allowed")]
    AddressNotAllowed {
        /// Host as the work order names it.
        host: String,
        /// The address that it resolves to.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// The sink refuses the credentials, or wants some.
    #[error("the sink refuses the credentials (code {code})")]
    AuthenticationRefused {
        /// HTTP status, or SMTP reply code.
        code: u16,
    },
    /// The sink refuses. Its words are never kept: they may quote the message.
    #[error("the sink refuses (code {code})")]
    Rejected {
        /// HTTP status, or SMTP reply code.
        code: u16,
    },
    /// The message cannot be expressed on the sink's protocol. The words are ours.
    #[error("{what}")]
    Unfit {
        /// What is in the way.
        what: &'static str,
    },
    /// The sink refuses one message after the other, so it is not about the messages.
    #[error("the sink refuses message after message: {last}")]
    RefusesAll {
        /// The last refusal.
        #[source]
        last: Arc<Error>,
    },
    /// The sink cannot be reached, or takes nothing for now.
    #[error("{step}: {}", unavailable(*code, text))]
    Unavailable {
        /// What was being done, in our words.
        step: &'static str,
        /// HTTP status, or SMTP reply code.
        code: Option<u16>,
        /// The operating system's or TLS library's words, or ours; never the sink's.
        text: String,
        /// The sink's own hint.
        retry_after: Option<Duration>,
    },
}

fn unavailable(code: Option<u16>, text: &str) -> String {
    code.map_or_else(|| text.to_owned(), |code| format!("code {code}"))
}

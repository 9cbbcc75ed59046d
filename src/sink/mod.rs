//! Where mail goes. A [`Sink`] answers for each message: accepted (durable), deferred (about the sink) or rejected (about the message).
//! It never decides what happens to a message then; that is `collect`'s and the cursor's.

#[cfg(test)]
pub(crate) mod conformance;
pub mod file;
pub mod header;
pub mod identity;
pub mod substitute;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::oneshot;

pub use identity::Identity;

/// The bytes of a message on their way to a sink.
#[derive(Debug)]
pub enum Body {
    /// In memory.
    Memory(Bytes),
    /// In an unnamed file that a sink opened by [`Sink::part`].
    Part(file::Part),
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
    /// Waits for the outcomes, `within` at most.
    pub async fn outcomes(self, within: Duration) -> Result<Vec<Outcome>, Error> {
        tokio::time::timeout(within, self.0).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Gone)
    }
}

/// A destination. Implementations pass the conformance suite of this room.
///
/// *Durability*: `Accepted` survives power loss. *Idempotency*: the same [`Identity`] delivered again has no second effect.
/// *Cancellation*: dropping any future leaves nothing half-visible.
pub trait Sink: Send + Sync {
    /// Hands a batch over; waits only while the sink's bounded queue is full.
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Receipt>;
    /// Nothing more is coming for now: make durable at once what was handed over, rather than wait for a fuller batch.
    fn flush(&self) -> BoxFuture<'_, ()>;
    /// Opens an unnamed file in the target, for a message too long for memory; `length` is the announced size in bytes.
    fn part(&self, length: u64) -> BoxFuture<'_, Result<file::Part, Error>>;
    /// Appends to a part. The write happens elsewhere; the future waits only while too much is queued.
    fn append<'a>(&'a self, part: &'a mut file::Part, bytes: Bytes) -> BoxFuture<'a, Result<(), Error>>;
    /// The placements under which byte-identical copies of this message lie in the sink as of the last [`Sink::survey`].
    /// For reconciling only: finds candidates by the fingerprint, compares bytes.
    fn identical<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Result<Vec<[u8; 8]>, Error>>;
    /// Looks at what lies in the sink, for the [`Sink::identical`] calls that follow. Returns how many messages it saw.
    fn survey(&self) -> BoxFuture<'_, Result<u64, Error>>;
    /// Whether the sink would take mail now.
    fn probe(&self) -> BoxFuture<'_, Result<(), Error>>;
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
}

//! Where mail comes from. A [`Source`] is one logged-in session with one mailbox; it knows the wire and nothing of cursors, sinks or Kubernetes.
//! Failures are facts ([`Error`]); what they mean is decided in `diagnosis`.

pub mod imap;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::cursor::UidSet;

/// What a server says of a folder when it is opened (RFC 9051 section 6.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The validity of the folder's numbering; never 0.
    pub uid_validity: u32,
    /// The UID that the next message will get, where the server says so.
    pub uid_next: Option<u32>,
    /// Messages in the folder.
    pub exists: u32,
    /// The folder was opened read-only.
    pub read_only: bool,
}

/// How a folder is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing in it can be changed, by nobody's mistake (IMAP: EXAMINE). Where mail is kept.
    Examine,
    /// For reading and settling (IMAP: SELECT). A server that nevertheless opens it read-only says so in [`Opened::read_only`]:
    /// reading works, settling is refused with [`Error::ReadOnly`].
    Select,
}

/// What becomes of a message in the mailbox once every sink has it and that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// Marked as read.
    MarkSeen,
    /// Moved to this folder (a UTF-8 name), which must exist: nobody here creates folders.
    Move(String),
    /// Removed for good.
    Delete,
}

/// What is known of a message besides its bytes, once its FETCH response has closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message's UID.
    pub uid: u32,
    /// INTERNALDATE; `None` where the server gave none or an unreadable one.
    pub internal_date: Option<Timestamp>,
    /// Bytes of the body received, equal to the length announced.
    pub size: u64,
}

/// A message that was listed and asked for, and for which the server gave no bytes although it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// `BODY[] NIL`.
    Nil,
    /// A body of no bytes (`{0}` or `""`).
    Empty,
    /// The body is longer than the limit of the work order; the bytes were skipped.
    TooLarge(u64),
}

/// Where a source puts what it fetches. Nothing it is given is believed before [`Intake::whole`] or [`Intake::end`]: only then has the
/// FETCH response closed with the UID and the literal's length matched.
///
/// Back-pressure is in the futures: while one is pending the source does not read.
pub trait Intake: Send {
    /// A message under way, too long for memory.
    type Part: Send;

    /// A whole message that fitted into memory (up to [`imap::DIVERT_FROM`] bytes).
    fn whole(&mut self, head: Head, body: Bytes) -> impl Future<Output = Result<(), Stop>> + Send;
    /// A long message begins; `length` is the announced number of bytes.
    fn begin(&mut self, length: u64) -> impl Future<Output = Result<Self::Part, Stop>> + Send;
    /// The next bytes of a long message, in order.
    fn chunk(&mut self, part: &mut Self::Part, bytes: Bytes) -> impl Future<Output = Result<(), Stop>> + Send;
    /// The long message is complete. A part that is dropped instead leaves nothing visible.
    fn end(&mut self, head: Head, part: Self::Part) -> impl Future<Output = Result<(), Stop>> + Send;
    /// The server answered for this UID without giving the message.
    fn absent(&mut self, uid: u32, what: Absent);
}

/// The intake takes no more (its sink is gone or deferred); the session is dropped, nothing is decided.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the intake takes no more")]
pub struct Stop;

/// Why [`Source::wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The server announced messages.
    NewMail,
    /// `max` has passed.
    Elapsed,
    /// The caller's `interrupt` resolved.
    Interrupted,
}

/// One logged-in session with a mailbox.
///
/// Every future either ends or is dropped; after an error, or after one was dropped before its end, the session refuses every further
/// call with [`Error::HalfUsed`] (law 7). Every network wait has a deadline of its own.
pub trait Source: Send {
    /// Opens `folder` (a UTF-8 name), without changing anything in it.
    fn open(&mut self, folder: &str, access: Access) -> impl Future<Output = Result<Opened, Error>> + Send;
    /// The UIDs that exist in `low..=high` of the opened folder. Complete, or an error.
    fn list(&mut self, low: u32, high: u32) -> impl Future<Output = Result<UidSet, Error>> + Send;
    /// Fetches the messages of `uids` into `intake` and ends with the server's tagged OK. What was not given to `intake` by then is owed.
    fn fetch<I: Intake>(&mut self, uids: &UidSet, intake: &mut I) -> impl Future<Output = Result<(), Error>> + Send;
    /// Asks the server to settle `uids` of the opened folder, and no other message; those that are gone are passed over. `Ok` is what the
    /// server answered and no proof: ask [`Source::unsettled`], or a later session. The caller has recorded them as delivered before
    /// (law 3), and has no fetch under way.
    fn settle(&mut self, uids: &UidSet, how: &Settle) -> impl Future<Output = Result<(), Error>> + Send;
    /// Those of `uids` that a listing made now still shows as not settled: they lie in the folder, and for [`Settle::MarkSeen`] are unread.
    /// A protocol that settles at the end of its session gives all of them until then.
    fn unsettled(&mut self, uids: &UidSet, how: &Settle) -> impl Future<Output = Result<UidSet, Error>> + Send;
    /// Waits for new mail in the opened folder, `max` at most, or until `interrupt` resolves. Mail announced in any reply since the last
    /// `list` up to `u32::MAX` makes it return at once.
    fn wait(&mut self, max: Duration, interrupt: impl Future<Output = ()> + Send) -> impl Future<Output = Result<Wake, Error>> + Send;
    /// Logs out politely, within two seconds.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What a session was doing when it failed, in the order in which a session comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// TCP.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The server's first line.
    Greeting,
    /// AUTHENTICATE.
    Authenticate,
    /// The first command after AUTHENTICATE; Exchange refuses here what it let pass there.
    Probe,
    /// EXAMINE or SELECT.
    Open,
    /// UID SEARCH.
    List,
    /// UID FETCH.
    Fetch,
    /// UID MOVE, UID STORE, UID EXPUNGE, and CAPABILITY before them.
    Settle,
    /// IDLE.
    Wait,
}

/// A part of IMAP that a server may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// RFC 6851: a move that is one step.
    Move,
    /// RFC 4315: UID EXPUNGE. Without it deleting would also remove what others have marked as deleted.
    UidPlus,
}

impl std::fmt::Display for Extension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Move => "MOVE",
            Self::UidPlus => "UIDPLUS",
        })
    }
}

/// How a server refused: the tagged answer's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Tagged NO.
    No,
    /// Tagged BAD.
    Bad,
    /// Untagged BYE.
    Bye,
}

/// A fact about a failed session. Texts are the server's, cut to 300 bytes, without control characters and without anything the client sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No TCP connection, or it broke.
    #[error("{step:?}: {text}")]
    Connection {
        /// Where.
        step: Step,
        /// The operating system's or TLS library's words.
        text: String,
    },
    /// A deadline passed.
    #[error("{0:?}: no answer in time")]
    Timeout(Step),
    /// The server closed the connection.
    #[error("{0:?}: the server closed the connection")]
    Closed(Step),
    /// The server said no.
    #[error("{step:?}: the server answered {refusal:?} {text}")]
    Refused {
        /// Where.
        step: Step,
        /// How.
        refusal: Refusal,
        /// The response code, upper case, without brackets (`AUTHENTICATIONFAILED`).
        code: Option<String>,
        /// The server's text.
        text: String,
    },
    /// Something that is not IMAP, or longer or deeper than we allow. `what` is ours.
    #[error("{step:?}: {what}")]
    Protocol {
        /// Where.
        step: Step,
        /// Our words.
        what: &'static str,
    },
    /// Settling is wanted, and the server opens the folder for reading only.
    #[error("the folder was opened read-only")]
    ReadOnly,
    /// Settling needs an extension that the server does not have; nothing was changed.
    #[error("the server does not offer {0}")]
    Unsupported(Extension),
    /// The session had failed before.
    #[error("the session was already given up")]
    HalfUsed,
    /// The intake took no more.
    #[error("the sinks take no more")]
    Stopped,
}

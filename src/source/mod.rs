//! Where mail comes from. A [`Source`] is one logged-in session with one mailbox; it knows the wire and nothing of cursors, sinks or Kubernetes.
//! Failures are facts ([`Error`]); what they mean is decided in `diagnosis`.

mod dial;
pub mod imap;
pub mod pop3;
mod session;
mod text;
mod xoauth2;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::cursor::{Name, UidSet};

pub use session::Session;

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

/// What a server says of a folder without opening it (RFC 9051 section 6.3.11). Where two are equal, nothing came and nothing went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The validity of the folder's numbering.
    pub uid_validity: Option<u32>,
    /// The UID that the next message will get.
    pub uid_next: Option<u32>,
    /// Messages in the folder.
    pub messages: Option<u32>,
}

impl From<&Opened> for Marks {
    fn from(opened: &Opened) -> Self {
        Self { uid_validity: Some(opened.uid_validity), uid_next: opened.uid_next, messages: Some(opened.exists) }
    }
}

/// What is asked of messages without their bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    /// INTERNALDATE alone.
    Date,
    /// Message-ID, by which a message is recognised.
    MessageId,
    /// From, To, Cc and Subject, by which messages are selected.
    Addressing,
}

/// Longest header kept of a message in [`Source::headings`], in bytes; a longer one is passed over.
pub const LONGEST_HEADING: u64 = 16 * 1024;

/// A message without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// Its UID.
    pub uid: u32,
    /// INTERNALDATE; `None` where the server gave none or an unreadable one.
    pub internal_date: Option<Timestamp>,
    /// The fields asked for, as sent; `None` where the server gave none, or more than [`LONGEST_HEADING`] bytes.
    pub header: Option<Bytes>,
}

/// A day by which a server searches: whole days in a zone that only it knows (RFC 9051 section 6.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Day {
    /// Received on an earlier day.
    Before(jiff::civil::Date),
    /// Received on that day or later.
    Since(jiff::civil::Date),
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// `BODY[] NIL`.
    Nil,
    /// The server refused this message (POP3: `-ERR` to RETR) and goes on.
    Refused {
        /// The response code, upper case.
        code: Option<String>,
        /// The server's text.
        text: String,
    },
    /// A body of no bytes (`{0}` or `""`).
    Empty,
    /// The body is longer than the limit of the work order; the bytes were skipped.
    TooLarge(u64),
}

/// Where a source puts what it fetches. Nothing it is given is believed before [`Intake::whole`] or [`Intake::end`]: only then has the
/// FETCH response closed with the UID and the literal's length matched, or (POP3) the closing dot come.
///
/// Back-pressure is in the futures: while one is pending the source does not read.
pub trait Intake: Send {
    /// A message under way, too long for memory.
    type Part: Send;

    /// A whole message that fitted into memory (up to [`imap::DIVERT_FROM`] bytes).
    fn whole(&mut self, head: Head, body: Bytes) -> impl Future<Output = Result<(), Stop>> + Send;
    /// A long message begins; `length` is the announced number of bytes, or (POP3) an estimate.
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
    /// Opens `folder` (a UTF-8 name, its levels separated by `/`) for reading, without changing anything in it. A refusal ([`Refusal::No`])
    /// leaves the session usable, with no folder open.
    fn open(&mut self, folder: &str, access: Access) -> impl Future<Output = Result<Opened, Error>> + Send;
    /// What the messages are called that were there when the folder was opened, in the server's order (POP3); `None` where they have numbers
    /// (IMAP). Complete. Named messages cannot be listed or fetched before they were numbered.
    fn names(&self) -> Option<&[Name]> {
        None
    }
    /// The numbers of the messages in [`Source::names`], one each; 0 for those that are not to be touched.
    fn number(&mut self, _numbers: &[u32]) {}
    /// The header block of a message in [`Source::names`]; `None` where the server refuses it.
    fn header(&mut self, _uid: u32) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        std::future::ready(Ok(None))
    }
    /// The UIDs that exist in `low..=high` of the opened folder. Complete, or an error.
    fn list(&mut self, low: u32, high: u32) -> impl Future<Output = Result<UidSet, Error>> + Send;
    /// The UIDs among `low..=high` of the opened folder that were received on such a day. Complete, or an error.
    /// None, where the protocol tells no dates.
    fn list_day(&mut self, _low: u32, _high: u32, _day: Day) -> impl Future<Output = Result<UidSet, Error>> + Send {
        async { Ok(UidSet::new()) }
    }
    /// Asks for a folder without opening it; `None` where the server refuses. The opened folder stays open.
    fn marks(&mut self, _folder: &str) -> impl Future<Output = Result<Option<Marks>, Error>> + Send {
        async { Ok(None) }
    }
    /// The names of folders that can be opened, UTF-8, levels separated by `/`; the first thousand.
    fn folders(&mut self) -> impl Future<Output = Result<Vec<String>, Error>> + Send {
        async { Ok(Vec::new()) }
    }
    /// Dates and header fields of those of `uids` that the server answers for; each at most once, in no order. At most a few hundred at a
    /// time: they are held in memory.
    ///
    /// Where the protocol has nothing better, one [`Source::header`] after the other, and no dates.
    fn headings(&mut self, uids: &UidSet, fields: Fields) -> impl Future<Output = Result<Vec<Heading>, Error>> + Send {
        async move {
            let mut found = Vec::new();
            if fields != Fields::Date {
                for uid in uids.iter() {
                    found.push(Heading { uid, internal_date: None, header: self.header(uid).await? });
                }
            }
            Ok(found)
        }
    }
    /// Lets the next [`Source::fetch`] ask for these as well before it reads, so that the server need not wait for us. The call after it must
    /// be the fetch of exactly these. Without effect where the source or its server cannot.
    fn ask_ahead(&mut self, _uids: UidSet) {}
    /// Fetches the messages of `uids` into `intake` and ends with the server's tagged OK. What was not given to `intake` by then is
    /// owed; of what was asked for ahead some may have been given already.
    fn fetch<I: Intake>(&mut self, uids: &UidSet, intake: &mut I) -> impl Future<Output = Result<(), Error>> + Send;
    /// Whether the server has announced mail that no listing up to `u32::MAX` has looked for since.
    fn announced(&self) -> bool {
        false
    }
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
    /// Logs out politely, within two seconds; by POP3, where that removes the messages that were settled, within twenty.
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
    /// AUTHENTICATE; POP3: AUTH.
    Authenticate,
    /// The first command after AUTHENTICATE (POP3: CAPA); Exchange refuses here what it let pass there.
    Probe,
    /// EXAMINE or SELECT; LIST and STATUS too. POP3: TOP.
    Open,
    /// UID SEARCH; POP3: STAT, UIDL and LIST.
    List,
    /// UID FETCH; POP3: RETR.
    Fetch,
    /// UID MOVE, UID STORE, UID EXPUNGE, and CAPABILITY before them; POP3: DELE.
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
    /// Tagged NO; POP3: `-ERR`.
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
    /// Something that is not the protocol, or longer or deeper than we allow. `what` is ours.
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

//! A logged-in session: greeting, log-in and capabilities, then the calls of [`Source`].

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use tokio::time::{sleep, timeout};

use super::codec::Piece;
use super::wire::{Answer, Wire};
use super::{fetch, settle};
use crate::cursor::{Name, UidSet};
use crate::source::imap::{DIVERT_FROM, Transport};
use crate::source::{Access, Error, Intake, Opened, Refusal, Settle, Source, Step, Wake, xoauth2};

/// How long a good-bye may take.
const GOOD_BYE: Duration = Duration::from_secs(2);
/// … and where the server removes messages meanwhile.
const DELETION: Duration = Duration::from_secs(20);
/// Challenges after which the server is not speaking SASL.
const CONTINUATIONS: u32 = 4;
/// Lines of a CAPA answer that are read.
const CAPABILITIES: usize = 100;
/// Longest unique-id (RFC 1939 section 7: 70).
const LONGEST_NAME: usize = 255;
/// Most messages in a mailbox; a listing takes 12 bytes each.
const MOST_MESSAGES: u32 = 2_000_000;

/// A session with one mailbox, generic over its stream so that tests can script the other side.
pub struct Session<S: Transport> {
    wire: Wire<S>,
    /// A call began and has not ended well: whatever the server sends next may belong to it.
    half_used: bool,
    pipelining: bool,
    max_message_bytes: u64,
    names: Vec<Name>,
    listing: Listing,
    /// Messages that go when QUIT has been answered.
    marked: UidSet,
}

/// The messages of this session.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Number in the cursor and number in this session, by the first.
    messages: Vec<(u32, u32)>,
    /// The server's estimates by message number (from 1), where they were asked for.
    sizes: Vec<u64>,
}

impl Listing {
    /// The number of a message in this session.
    pub(super) fn message(&self, uid: u32) -> Option<u32> {
        let at = self.messages.binary_search_by_key(&uid, |message| message.0).ok()?;
        self.messages.get(at).map(|message| message.1)
    }

    /// The server's estimate of its size.
    pub(super) fn size(&self, message: u32) -> Option<u64> {
        self.sizes.get(usize::try_from(message).ok()?.checked_sub(1)?).copied()
    }
}

impl<S: Transport> Session<S> {
    /// Takes a fresh connection through greeting, XOAUTH2 in two lines (in one, Exchange ends the connection) and CAPA.
    pub async fn start(stream: S, mailbox: &str, token: &SecretString, max_message_bytes: u64) -> Result<Self, Error> {
        let mut wire = Wire::new(stream);
        wire.answer(Step::Greeting).await?.accepted(Step::Greeting)?;
        authenticate(&mut wire, mailbox, token).await?;
        let pipelining = offers_pipelining(&mut wire).await?;
        let (names, listing) = (Vec::new(), Listing::default());
        Ok(Self { wire, half_used: false, pipelining, max_message_bytes, names, listing, marked: UidSet::new() })
    }

    fn begin(&mut self) -> Result<&mut Wire<S>, Error> {
        if std::mem::replace(&mut self.half_used, true) {
            return Err(Error::HalfUsed);
        }
        Ok(&mut self.wire)
    }

    fn ended<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.half_used = outcome.is_err();
        outcome
    }

    /// STAT and UIDL, which must agree: a listing that was cut must decide nothing.
    async fn list_all(&mut self) -> Result<Opened, Error> {
        const STEP: Step = Step::List;
        let wire = &mut self.wire;
        wire.send(STEP, if self.pipelining { "STAT\r\nUIDL\r\n" } else { "STAT\r\n" }).await?;
        let counted = wire.answer(STEP).await?.accepted(STEP)?;
        let mut words = counted.split(' ').map(str::parse::<u64>);
        let (Some(Ok(messages)), Some(Ok(octets))) = (words.next(), words.next()) else {
            return Err(Error::Protocol { step: STEP, what: "an answer to STAT without two numbers" });
        };
        let Some(messages) = u32::try_from(messages).ok().filter(|messages| *messages <= MOST_MESSAGES) else {
            return Err(Error::Protocol { step: STEP, what: "more messages than are collected by POP3" });
        };
        if !self.pipelining {
            wire.send(STEP, "UIDL\r\n").await?;
        }
        wire.answer(STEP).await?.accepted(STEP)?;
        let mut names = Vec::new();
        let disagree = Error::Protocol { step: STEP, what: "UIDL lists other messages than STAT counts" };
        while let Some(line) = wire.listed(STEP).await? {
            let (number, name) = numbered(&line).ok_or(Error::Protocol { step: STEP, what: "a line of UIDL that is none" })?;
            if name.is_empty() || name.len() > LONGEST_NAME || name.contains(&b' ') {
                return Err(Error::Protocol { step: STEP, what: "a unique-id that is none" });
            }
            if number as usize != names.len() + 1 || number > messages {
                return Err(disagree);
            }
            names.push(Name::new(name));
        }
        if names.len() != messages as usize {
            return Err(disagree);
        }
        self.names = names;
        self.listing = Listing::default();
        // Sizes are estimates, and of use only where one message may be too large.
        if octets > self.max_message_bytes {
            self.listing.sizes = sizes(wire, messages).await?;
        }
        Ok(Opened { uid_validity: 1, uid_next: None, exists: messages, read_only: true })
    }
}

impl<S: Transport> Source for Session<S> {
    async fn open(&mut self, folder: &str, _access: Access) -> Result<Opened, Error> {
        self.begin()?;
        let outcome = if folder.eq_ignore_ascii_case("INBOX") {
            self.list_all().await
        } else {
            Err(Error::Protocol { step: Step::Open, what: "POP3 knows no folder but INBOX" })
        };
        self.ended(outcome)
    }

    fn names(&self) -> Option<&[Name]> {
        Some(&self.names)
    }

    fn number(&mut self, numbers: &[u32]) {
        let known = numbers.iter().zip(1..).filter(|(number, _)| **number > 0);
        self.listing.messages = known.map(|(number, message)| (*number, message)).collect();
        self.listing.messages.sort_unstable();
    }

    async fn header(&mut self, uid: u32) -> Result<Option<Bytes>, Error> {
        let Some(message) = self.listing.message(uid) else { return Ok(None) };
        let wire = self.begin()?;
        let outcome = top(wire, message).await;
        self.ended(outcome)
    }

    async fn list(&mut self, low: u32, high: u32) -> Result<UidSet, Error> {
        if self.half_used {
            return Err(Error::HalfUsed);
        }
        Ok(self.listing.messages.iter().map(|message| message.0).filter(|number| (low..=high).contains(number)).collect())
    }

    async fn fetch<I: Intake>(&mut self, uids: &UidSet, intake: &mut I) -> Result<(), Error> {
        self.begin()?;
        let outcome = fetch::fetch(&mut self.wire, &self.listing, self.pipelining, self.max_message_bytes, uids, intake).await;
        self.ended(outcome)
    }

    /// Marks them (DELE). They go when [`Source::close`] has said QUIT; a session that ends otherwise leaves them.
    async fn settle(&mut self, uids: &UidSet, how: &Settle) -> Result<(), Error> {
        self.begin()?;
        let outcome = match how {
            Settle::Delete => settle::delete(&mut self.wire, &self.listing, self.pipelining, uids, &mut self.marked).await,
            Settle::MarkSeen | Settle::Move(_) => {
                Err(Error::Protocol { step: Step::Settle, what: "POP3 can only keep or delete a message" })
            }
        };
        self.ended(outcome)
    }

    /// Those that were there when the session began.
    async fn unsettled(&mut self, uids: &UidSet, _how: &Settle) -> Result<UidSet, Error> {
        if self.half_used {
            return Err(Error::HalfUsed);
        }
        Ok(uids.iter().filter(|uid| self.listing.message(*uid).is_some()).collect())
    }

    /// POP3 announces nothing: the time passes, and the server may end the session meanwhile.
    async fn wait(&mut self, max: Duration, interrupt: impl Future<Output = ()> + Send) -> Result<Wake, Error> {
        if self.half_used {
            return Err(Error::HalfUsed);
        }
        Ok(tokio::select! {
            () = interrupt => Wake::Interrupted,
            () = sleep(max) => Wake::Elapsed,
        })
    }

    async fn close(mut self) {
        let within = if self.marked.is_empty() { GOOD_BYE } else { DELETION };
        let Ok(wire) = self.begin() else { return };
        let good_bye = async {
            if wire.send(Step::Wait, "QUIT\r\n").await.is_ok() {
                // Whatever it answers: what it has removed is seen in the next listing, and what it has not is marked again.
                let _said = wire.answer(Step::Wait).await;
                wire.shut_down().await;
            }
        };
        // A server that does not answer is left all the same.
        let _in_time = timeout(within, good_bye).await;
    }
}

async fn authenticate<S: Transport>(wire: &mut Wire<S>, mailbox: &str, token: &SecretString) -> Result<(), Error> {
    const STEP: Step = Step::Authenticate;
    let response = xoauth2::response(mailbox, token)?;
    wire.send(STEP, "AUTH XOAUTH2\r\n").await?;
    let mut line = Zeroizing::new(format!("{}\r\n", *response));
    for _ in 0..CONTINUATIONS {
        match wire.answer(STEP).await? {
            Answer::Ok(_) => return Ok(()),
            Answer::Refused { code, text } => {
                return Err(Error::Refused { step: STEP, refusal: Refusal::No, code, text: xoauth2::hide(&text, &response, token) });
            }
            Answer::Continue(_) => {
                wire.send(STEP, &line).await?;
                // What comes now is the reason of a refusal; an empty answer lets the server say it.
                line = Zeroizing::new("\r\n".to_owned());
            }
        }
    }
    Err(Error::Protocol { step: STEP, what: "too many challenges" })
}

/// Whether commands may be sent before the answers to earlier ones have come (RFC 2449 section 6.6). A server without CAPA does not say so.
async fn offers_pipelining<S: Transport>(wire: &mut Wire<S>) -> Result<bool, Error> {
    const STEP: Step = Step::Probe;
    wire.send(STEP, "CAPA\r\n").await?;
    match wire.answer(STEP).await? {
        Answer::Ok(_) => {}
        // It knows no CAPA, or has a trouble that the next command will meet as well.
        Answer::Refused { .. } => return Ok(false),
        Answer::Continue(_) => return Err(Error::Protocol { step: STEP, what: "a continuation that was not asked for" }),
    }
    let mut offered = false;
    for _ in 0..CAPABILITIES {
        match wire.listed(STEP).await? {
            None => return Ok(offered),
            Some(line) => offered |= line.split(|byte| *byte == b' ').next().is_some_and(|word| word.eq_ignore_ascii_case(b"PIPELINING")),
        }
    }
    Err(Error::Protocol { step: STEP, what: "a list of capabilities without an end" })
}

async fn sizes<S: Transport>(wire: &mut Wire<S>, messages: u32) -> Result<Vec<u64>, Error> {
    const STEP: Step = Step::List;
    wire.send(STEP, "LIST\r\n").await?;
    wire.answer(STEP).await?.accepted(STEP)?;
    let mut sizes = Vec::new();
    while let Some(line) = wire.listed(STEP).await? {
        let next = numbered(&line).filter(|(number, _)| *number as usize == sizes.len() + 1 && *number <= messages);
        let size = next.and_then(|(_, size)| std::str::from_utf8(size).ok()?.parse().ok());
        sizes.push(size.ok_or(Error::Protocol { step: STEP, what: "a line of LIST that is none" })?);
    }
    Ok(sizes)
}

/// A message's header block; `None` where the server refuses it.
async fn top<S: Transport>(wire: &mut Wire<S>, message: u32) -> Result<Option<Bytes>, Error> {
    const STEP: Step = Step::Open;
    wire.send(STEP, &format!("TOP {message} 0\r\n")).await?;
    if let Answer::Refused { .. } = wire.answer(STEP).await? {
        return Ok(None);
    }
    let mut header = BytesMut::new();
    loop {
        let (bytes, ended) = match wire.piece(STEP).await? {
            Piece::Whole(bytes) => return Ok(Some(bytes)),
            Piece::Part(bytes) => (bytes, false),
            Piece::Last(bytes) => (bytes, true),
        };
        if header.len() < DIVERT_FROM {
            header.extend_from_slice(&bytes);
        }
        if ended {
            return Ok(Some(header.freeze()));
        }
    }
}

/// A line that begins with a message's number.
fn numbered(line: &[u8]) -> Option<(u32, &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    let (number, rest) = line.split_at_checked(space)?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest.trim_ascii()))
}

impl<S: Transport> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("half_used", &self.half_used).field("messages", &self.names.len()).finish_non_exhaustive()
    }
}

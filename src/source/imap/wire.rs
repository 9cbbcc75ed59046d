//! One connection: commands out, replies in, each with its deadline. Decides what ends a session; knows nothing of what commands are for.
//!
//! async-imap frames and parses; commands, tags and tagged answers are ours, because its convenience calls turn a refused command into
//! an empty success, print the token at TRACE, and cost 5.5 KiB per session for replies nobody reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_imap::imap_proto::{AttributeValue, MailboxDatum, NameAttribute, Response, ResponseCode, Status, StatusAttribute};
use bytes::Bytes;
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::splitter::{Body, Diverted, Violation};
use super::tap::Tap;
use super::text;
use crate::source::{Error, Marks, Refusal, Step};

/// Longest silence of a server that owes an answer.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// A server that drips is given up when a command has waited this long, and a second more for each [`SLOWEST`] bytes.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes a second below which a server drips.
const SLOWEST: u64 = 16 * 1024;
/// How long a broken connection is asked for a BYE that explains it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A byte stream to a server.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// One reply, owned.
#[derive(Debug)]
pub(super) enum Reply {
    /// A closed FETCH reply.
    Fetch { uid: Option<u32>, date: Option<jiff::Timestamp>, body: Option<(Body, Bytes)> },
    /// Part of a long body.
    Diverted(Diverted),
    /// `* n EXISTS`.
    Exists(u32),
    /// `* OK [UIDVALIDITY n]`.
    UidValidity(u32),
    /// `* OK [UIDNEXT n]`.
    UidNext(u32),
    /// `* LIST`: the delimiter of levels, the name as written, and whether it can be opened.
    List { delimiter: Option<char>, name: String, selectable: bool },
    /// `* STATUS`.
    Status(Marks),
    /// `* OK [CAPABILITY …]` or `* CAPABILITY`, upper case.
    Capabilities(Vec<String>),
    /// `* OK`.
    Ok,
    /// `* PREAUTH`.
    PreAuth,
    /// `+`, with its text.
    Continue(String),
    /// The tagged answer to our command.
    Done(Answer),
    /// Anything else.
    Other,
}

/// A tagged answer.
#[derive(Debug)]
pub(super) struct Answer {
    refusal: Option<Refusal>,
    /// Response code, upper case.
    pub(super) code: Option<String>,
    text: String,
}

impl Answer {
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    /// OK, or the refusal as an error.
    pub(super) fn accepted(self, step: Step) -> Result<Option<String>, Error> {
        match self.refusal {
            None => Ok(self.code),
            Some(refusal) => Err(Error::Refused { step, refusal, code: self.code, text: self.text }),
        }
    }
}

/// See the module.
pub(super) struct Wire<S: Transport> {
    client: Box<async_imap::Client<Tap<S>>>,
    tags: u32,
    tag: String,
    /// The tag of a command that was sent before the answer to `tag` was read.
    next_tag: Option<String>,
    /// The last untagged BAD since the command began (also what was no IMAP at all): it explains an end that follows.
    grumble: Option<String>,
    /// The server announced messages since this was last cleared.
    pub(super) news: bool,
    /// What separates the levels of this server's folder names; `None`: it has no levels.
    pub(super) delimiter: Option<char>,
    waited: Duration,
    read_before: u64,
}

impl<S: Transport> Wire<S> {
    pub(super) fn new(stream: S, max_message_bytes: u64) -> Self {
        let client = Box::new(async_imap::Client::new(Tap::new(stream, max_message_bytes)));
        Self {
            client,
            tags: 0,
            tag: String::new(),
            next_tag: None,
            grumble: None,
            news: false,
            delimiter: Some('/'),
            waited: Duration::ZERO,
            read_before: 0,
        }
    }

    pub(super) fn tap(&mut self) -> &mut Tap<S> {
        self.client.get_mut()
    }

    /// A folder's name (UTF-8, levels separated by `/`) as this server takes it, in quotes.
    pub(super) fn folder(&self, name: &str) -> String {
        match self.delimiter {
            Some(delimiter) if delimiter != '/' => text::quoted_folder(&name.replace('/', &delimiter.to_string())),
            _ => text::quoted_folder(name),
        }
    }

    /// Sends a command under a new tag. What it holds is never kept or shown.
    pub(super) async fn command(&mut self, step: Step, command: &str) -> Result<(), Error> {
        self.tag = self.new_tag();
        let line = Zeroizing::new(format!("{} {command}\r\n", self.tag));
        self.begin_waiting();
        self.send(step, line.as_bytes()).await
    }

    /// Sends a command whose answer is read after that of the last one, see [`Wire::turn_to_next`].
    pub(super) async fn command_ahead(&mut self, step: Step, command: &str) -> Result<(), Error> {
        let tag = self.new_tag();
        let line = format!("{tag} {command}\r\n");
        self.next_tag = Some(tag);
        self.send(step, line.as_bytes()).await
    }

    /// From now on the answer to the command sent ahead is read.
    pub(super) fn turn_to_next(&mut self) {
        if let Some(tag) = self.next_tag.take() {
            self.tag = tag;
            self.begin_waiting();
        }
    }

    fn new_tag(&mut self) -> String {
        self.tags = self.tags.wrapping_add(1);
        format!("A{:04}", self.tags)
    }

    /// Sends bytes without a tag.
    pub(super) async fn send(&mut self, step: Step, bytes: &[u8]) -> Result<(), Error> {
        match timeout(SILENCE, self.tap().send(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(Error::Timeout(step)),
            Ok(Err(error)) => {
                // Exchange says why before it closes (NO, BYE); the words may lie unread.
                let last_words = async {
                    loop {
                        match self.next(step).await {
                            Ok(Reply::Done(answer)) => return answer.accepted(step).err(),
                            Ok(_) => {}
                            Err(error @ Error::Refused { .. }) => return Some(error),
                            Err(_) => return None,
                        }
                    }
                };
                let explained = timeout(LAST_WORDS, last_words).await.ok().flatten();
                Err(explained.unwrap_or_else(|| broken(step, &error)))
            }
        }
    }

    /// Starts the clock of [`PATIENCE`] anew.
    pub(super) fn begin_waiting(&mut self) {
        self.grumble = None;
        self.waited = Duration::ZERO;
        self.read_before = self.client.get_ref().total_read();
    }

    /// The next reply, within [`SILENCE`] of the last bytes received. May be dropped and called again.
    pub(super) async fn next(&mut self, step: Step) -> Result<Reply, Error> {
        let began = Instant::now();
        loop {
            let quiet_since = self.client.get_ref().last_read().max(began);
            let in_time = timeout_at(quiet_since + SILENCE, self.reply(step)).await;
            let waited = self.waited + began.elapsed();
            let tap = self.client.get_ref();
            let bytes = tap.total_read().saturating_sub(self.read_before);
            let dripping = waited > PATIENCE + Duration::from_secs(bytes / SLOWEST);
            let silent = in_time.is_err() && tap.last_read().max(began) == quiet_since;
            match in_time {
                Ok(reply) if reply.is_err() || !dripping => {
                    self.waited = waited;
                    return reply;
                }
                _ if dripping || silent => return Err(self.explained(step, Error::Timeout(step))),
                _ => {}
            }
        }
    }

    /// The next reply, however long it takes: only for IDLE. May be dropped and called again.
    pub(super) async fn reply(&mut self, step: Step) -> Result<Reply, Error> {
        std::future::poll_fn(|cx| self.poll_reply(cx, step)).await
    }

    /// Reads to the tagged answer of the last command; `each` sees what comes before.
    pub(super) async fn answer(&mut self, step: Step, mut each: impl FnMut(Reply) + Send) -> Result<Answer, Error> {
        loop {
            match self.next(step).await? {
                Reply::Done(answer) => return Ok(answer),
                Reply::Diverted(_) => return Err(Error::Protocol { step, what: "a message that was not asked for" }),
                Reply::Continue(_) => return Err(Error::Protocol { step, what: "a continuation that was not asked for" }),
                other => each(other),
            }
        }
    }

    /// Ends the stream, politely towards TLS.
    pub(super) async fn shut_down(&mut self) {
        // The session is over either way.
        let _closed = self.tap().shutdown().await;
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>, step: Step) -> Poll<Result<Reply, Error>> {
        let Self { client, .. } = self;
        // The tap keeps from the parser all that is known to panic it; what is not known must still end only this session.
        let polled = catch_unwind(AssertUnwindSafe(|| pin!(client.read_response()).poll(cx)));
        let response = match polled {
            Err(_) => return Poll::Ready(Err(Error::Protocol { step, what: "a reply that breaks the parser" })),
            Ok(Poll::Pending) => {
                return match client.get_mut().splitter.take_diverted() {
                    Some(part) => Poll::Ready(Ok(Reply::Diverted(part))),
                    None => Poll::Pending,
                };
            }
            Ok(Poll::Ready(Ok(Some(response)))) => response,
            Ok(Poll::Ready(Ok(None))) => return Poll::Ready(Err(self.explained(step, Error::Closed(step)))),
            Ok(Poll::Ready(Err(error))) => return Poll::Ready(Err(self.explained(step, broken(step, &error)))),
        };
        let reply = match response.parsed() {
            Response::Fetch(_, attributes) => {
                let (mut uid, mut date, mut body, mut at) = (None, None, None, None);
                let block = response.borrow_owner().as_ptr().addr();
                for attribute in attributes {
                    match attribute {
                        AttributeValue::Uid(number) => uid = Some(*number),
                        AttributeValue::InternalDate(written) => date = text::internal_date(written),
                        AttributeValue::BodySection { data, .. } => {
                            body = client.get_mut().splitter.next_body();
                            at = data.as_ref().map(|data| (data.as_ptr().addr().wrapping_sub(block), data.len()));
                        }
                        _ => {}
                    }
                }
                let body = match (body, at) {
                    (Some(Body::Inline(length)), Some((offset, taken))) => {
                        let block = response.into_owner();
                        let end = offset.checked_add(taken).filter(|end| *end <= block.len() && taken as u64 == length);
                        let Some(end) = end else {
                            return Poll::Ready(Err(Error::Protocol { step, what: "a body of another length than announced" }));
                        };
                        // A small message must not hold a block several times its size while it waits for the disk.
                        let bytes = if taken < block.len() / 2 {
                            Bytes::copy_from_slice(block.get(offset..end).unwrap_or_default())
                        } else {
                            block.freeze().slice(offset..end)
                        };
                        Some((Body::Inline(length), bytes))
                    }
                    (body, _) => body.map(|body| (body, Bytes::new())),
                };
                Reply::Fetch { uid, date, body }
            }
            Response::Done { tag, status, outcome } => {
                let (code, text) = words(outcome);
                let refusal = match status {
                    Status::Ok => None,
                    Status::No => Some(Refusal::No),
                    Status::Bad | Status::PreAuth | Status::Bye => Some(Refusal::Bad),
                };
                if tag.0 != self.tag {
                    return Poll::Ready(Err(Error::Protocol { step, what: "an answer to a command that was not sent" }));
                }
                Reply::Done(Answer { refusal, code, text })
            }
            Response::Continue(outcome) => Reply::Continue(outcome.information.as_deref().unwrap_or_default().to_owned()),
            Response::Data { status: Status::Bye, outcome } => {
                let (code, text) = words(outcome);
                return Poll::Ready(Err(Error::Refused { step, refusal: Refusal::Bye, code, text }));
            }
            Response::Data { status: Status::Bad, outcome } => {
                self.grumble = Some(words(outcome).1);
                Reply::Other
            }
            Response::Data { status: Status::PreAuth, .. } => Reply::PreAuth,
            Response::Data { status: Status::Ok, outcome } => match &outcome.code {
                Some(ResponseCode::UidValidity(number)) => Reply::UidValidity(*number),
                Some(ResponseCode::UidNext(number)) => Reply::UidNext(*number),
                Some(ResponseCode::Capabilities(list)) => Reply::Capabilities(names(list)),
                _ => Reply::Ok,
            },
            Response::Capabilities(list) => Reply::Capabilities(names(list)),
            Response::MailboxData(MailboxDatum::Exists(number)) => {
                self.news = true;
                Reply::Exists(*number)
            }
            Response::MailboxData(MailboxDatum::List(list)) => Reply::List {
                delimiter: list.delimiter.as_deref().and_then(|text| text.chars().rfind(|c| *c != '\\').or(text.chars().next())),
                name: list.name.to_string(),
                selectable: !list.name_attributes.iter().any(|attribute| match attribute {
                    NameAttribute::NoSelect => true,
                    NameAttribute::Extension(other) => other.eq_ignore_ascii_case("\\NonExistent"),
                    _ => false,
                }),
            },
            Response::MailboxData(MailboxDatum::Status { status, .. }) => {
                let mut marks = Marks::default();
                for value in status {
                    match value {
                        StatusAttribute::Messages(number) => marks.messages = Some(*number),
                        StatusAttribute::UidNext(number) => marks.uid_next = Some(*number),
                        StatusAttribute::UidValidity(number) => marks.uid_validity = Some(*number),
                        _ => {}
                    }
                }
                Reply::Status(marks)
            }
            _ => Reply::Other,
        };
        Poll::Ready(Ok(reply))
    }

    /// The server's own last words instead of a bare end, where it said any.
    fn explained(&mut self, step: Step, error: Error) -> Error {
        match (&error, self.grumble.take()) {
            (Error::Closed(_) | Error::Timeout(_) | Error::Connection { .. }, Some(text)) => {
                Error::Refused { step, refusal: Refusal::Bad, code: None, text }
            }
            _ => error,
        }
    }

    /// What the server grumbled since the last command.
    pub(super) fn take_grumble(&mut self) -> Option<String> {
        self.grumble.take()
    }
}

fn names(list: &[async_imap::imap_proto::Capability<'_>]) -> Vec<String> {
    use async_imap::imap_proto::Capability;
    list.iter()
        .filter_map(|capability| match capability {
            Capability::Atom(name) => Some(name.to_ascii_uppercase()),
            Capability::Imap4rev1 | Capability::Auth(_) => None,
        })
        .collect()
}

/// Code and text of a status line; the parser keeps codes that it does not know in the text.
fn words(outcome: &async_imap::imap_proto::Outcome<'_>) -> (Option<String>, String) {
    let known = outcome.code.as_ref().map(|code| match code {
        ResponseCode::Alert => "ALERT",
        ResponseCode::BadCharset(_) => "BADCHARSET",
        ResponseCode::Capabilities(_) => "CAPABILITY",
        ResponseCode::Parse => "PARSE",
        ResponseCode::ReadOnly => "READ-ONLY",
        ResponseCode::ReadWrite => "READ-WRITE",
        ResponseCode::TryCreate => "TRYCREATE",
        ResponseCode::UidNotSticky => "UIDNOTSTICKY",
        ResponseCode::CopyUid(..) => "COPYUID",
        _ => "OTHER",
    });
    let text = outcome.information.as_deref().unwrap_or_default();
    match known {
        Some(code) => (Some(code.to_owned()), text::clean(text)),
        None => {
            let (code, text) = text::split_code(text);
            (code, text::clean(text))
        }
    }
}

fn broken(step: Step, error: &std::io::Error) -> Error {
    if let Some(Violation(what)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return Error::Protocol { step, what };
    }
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::WriteZero => Error::Closed(step),
        // The parser's own errors hold the whole reply, mail and all: their text is never looked at.
        std::io::ErrorKind::Other => Error::Protocol { step, what: "a reply that cannot be parsed" },
        _ => Error::Connection { step, text: text::clean(&error.to_string()) },
    }
}

//! One connection: commands out, answers and bodies in, each with its deadline. Knows nothing of what commands are for.

use std::time::Duration;

use bytes::Bytes;
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::codec::{Decoder, Piece};
use crate::source::imap::{DIVERT_FROM, Transport};
use crate::source::{Error, Refusal, Step, text};

/// Longest silence of a server that owes an answer.
pub(super) const SILENCE: Duration = Duration::from_secs(60);
/// A server that drips is given up when an answer has taken this long, and a second more for each [`SLOWEST`] bytes.
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes a second below which a server drips.
const SLOWEST: u64 = 16 * 1024;
/// How long a broken connection is asked for an answer that explains it.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A status line (RFC 1939 section 3; response codes: RFC 2449 section 8).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `+OK`, with its text.
    Ok(String),
    /// `+`, with its text: the server waits for more.
    Continue(String),
    /// `-ERR`.
    Refused {
        /// Response code, upper case.
        code: Option<String>,
        /// The text, cleaned.
        text: String,
    },
}

impl Answer {
    /// The text of `+OK`, or the refusal as an error.
    pub(super) fn accepted(self, step: Step) -> Result<String, Error> {
        match self {
            Self::Ok(text) => Ok(text),
            Self::Refused { code, text } => Err(Error::Refused { step, refusal: Refusal::No, code, text }),
            Self::Continue(_) => Err(Error::Protocol { step, what: "a continuation that was not asked for" }),
        }
    }
}

/// See the module.
pub(super) struct Wire<S> {
    stream: S,
    decoder: Decoder,
    /// How long the answer at hand was waited for in all, and the bytes received meanwhile.
    waited: (Duration, u64),
}

impl<S: Transport> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, decoder: Decoder::new(DIVERT_FROM), waited: (Duration::ZERO, 0) }
    }

    /// Sends whole command lines. What they hold is never kept or shown.
    pub(super) async fn send(&mut self, step: Step, lines: &str) -> Result<(), Error> {
        let lines = Zeroizing::new(lines.as_bytes().to_vec());
        let sending = async {
            self.stream.write_all(&lines).await?;
            self.stream.flush().await
        };
        match timeout(SILENCE, sending).await {
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(Error::Timeout(step)),
            Ok(Err(error)) => {
                // Exchange says why before it closes; the words may lie unread.
                let last_words = timeout(LAST_WORDS, self.answer(step)).await;
                match last_words {
                    Ok(Ok(refused @ Answer::Refused { .. })) => Err(refused.accepted(step).err().unwrap_or(Error::Closed(step))),
                    _ => Err(broken(step, &error)),
                }
            }
        }
    }

    /// The next status line.
    pub(super) async fn answer(&mut self, step: Step) -> Result<Answer, Error> {
        let line = self.line(step).await?;
        let said = |rest: &[u8]| String::from_utf8_lossy(rest).trim().to_owned();
        if let Some(rest) = keyword(&line, b"+OK") {
            return Ok(Answer::Ok(said(rest)));
        }
        if let Some(rest) = keyword(&line, b"-ERR") {
            let said = said(rest);
            let (code, text) = text::split_code(&said);
            return Ok(Answer::Refused { code, text: text::clean(text) });
        }
        match keyword(&line, b"+") {
            Some(rest) => Ok(Answer::Continue(said(rest))),
            None => Err(Error::Protocol { step, what: "not a POP3 answer" }),
        }
    }

    /// The next line of a listing; `None` at its end. No line of a listing begins with a dot.
    pub(super) async fn listed(&mut self, step: Step) -> Result<Option<Bytes>, Error> {
        let line = self.line(step).await?;
        Ok(if line == "." { None } else { Some(line) })
    }

    /// The next piece of a body.
    pub(super) async fn piece(&mut self, step: Step) -> Result<Piece, Error> {
        loop {
            if let Some(piece) = self.decoder.piece() {
                if !matches!(piece, Piece::Part(_)) {
                    self.begin_waiting();
                }
                return Ok(piece);
            }
            self.read(step).await?;
        }
    }

    /// Ends the stream, politely towards TLS.
    pub(super) async fn shut_down(&mut self) {
        // The session is over either way.
        let _closed = self.stream.shutdown().await;
    }

    async fn line(&mut self, step: Step) -> Result<Bytes, Error> {
        loop {
            match self.decoder.line() {
                Ok(Some(line)) => {
                    self.begin_waiting();
                    return Ok(line);
                }
                Ok(None) => self.read(step).await?,
                Err(_) => return Err(Error::Protocol { step, what: "a line without an end" }),
            }
        }
    }

    fn begin_waiting(&mut self) {
        self.waited = (Duration::ZERO, 0);
    }

    async fn read(&mut self, step: Step) -> Result<(), Error> {
        let (waited, bytes) = self.waited;
        let began = Instant::now();
        let patience = (PATIENCE + Duration::from_secs(bytes / SLOWEST)).saturating_sub(waited);
        let read = timeout(SILENCE.min(patience), self.stream.read_buf(self.decoder.room())).await;
        self.waited.0 += began.elapsed();
        match read {
            Err(_) => Err(Error::Timeout(step)),
            Ok(Ok(0)) => Err(Error::Closed(step)),
            Ok(Ok(read)) => {
                self.waited.1 += read as u64;
                Ok(())
            }
            Ok(Err(error)) => Err(broken(step, &error)),
        }
    }
}

/// What follows `word` in the line, where the line begins with it as a word of its own.
fn keyword<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(word.len())?;
    (start.eq_ignore_ascii_case(word) && rest.first().is_none_or(|next| *next == b' ')).then_some(rest)
}

fn broken(step: Step, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::WriteZero => Error::Closed(step),
        _ => Error::Connection { step, text: text::clean(&error.to_string()) },
    }
}

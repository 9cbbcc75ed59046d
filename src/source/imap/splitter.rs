//! Cuts the server's bytes into lines and literals before the parser sees them: bounds them, rewrites what the parser does not survive,
//! takes long bodies out of its way, and notes what search replies say. Pure: no I/O, no clock.
//!
//! It knows the framing of RFC 9051 sections 2.2 and 4.3 and nothing of commands or sessions.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

use super::DIVERT_FROM;
use super::line::{self, Kind};
use super::reply::{FetchReply, Next};
use crate::source::LONGEST_HEADING;

/// Longest line, in bytes.
const LINE: usize = 64 * 1024;
/// Longest `* SEARCH` line: some 400,000 UIDs.
const SEARCH_LINE: usize = 4 * 1024 * 1024;
/// Most ranges that one search may give.
const SEARCH_RANGES: usize = 500_000;
/// Longest literal that is passed over rather than refused.
const LITERAL: u64 = 1 << 30;
/// Longest literal outside FETCH.
const OTHER_LITERAL: u64 = 64 * 1024;
/// Longest chunk of a diverted body.
pub(super) const CHUNK: usize = 64 * 1024;
/// Lines that are no IMAP at all, in one session.
const UNKNOWN_LINES: u32 = 100;
/// The parser's share is handed over at the latest when it is this long.
const BATCH: usize = 4 * 1024;

/// Something that is not IMAP, or longer or deeper than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Violation(pub(super) &'static str);

/// What became of one `BODY[]`, in the order in which the parser sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// `NIL`.
    Nil,
    /// The parser has it, this many bytes.
    Inline(u64),
    /// It went past the parser as chunks, this many bytes.
    Diverted(u64),
    /// It was passed over, this many bytes.
    TooLarge(u64),
}

/// Part of a diverted body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Diverted {
    /// It begins; the UID where it was told before.
    Begin(u64, Option<u32>),
    /// Its next bytes.
    Chunk(Bytes),
}

#[derive(Debug)]
enum State {
    Line,
    Pass(u64),
    Divert(u64),
    Skip(u64),
}

#[derive(Debug)]
enum Open {
    Fetch(FetchReply),
    /// Untagged data nobody understands, with literals.
    Unknown,
}

/// The cutter's state between two pieces.
#[derive(Debug)]
pub(super) struct Splitter {
    max_message_bytes: u64,
    state: State,
    /// Bytes at the front of what was received that hold no line end.
    scanned: usize,
    open: Option<Open>,
    bodies: VecDeque<Body>,
    diverted: Option<Diverted>,
    /// FETCH replies bear header fields, not bodies.
    headers: bool,
    window: Option<(u32, u32)>,
    found: Vec<(u32, u32)>,
    unknown_lines: u32,
}

impl Splitter {
    pub(super) fn new(max_message_bytes: u64) -> Self {
        Self {
            max_message_bytes,
            state: State::Line,
            scanned: 0,
            open: None,
            bodies: VecDeque::new(),
            diverted: None,
            headers: false,
            window: None,
            found: Vec::new(),
            unknown_lines: 0,
        }
    }

    /// Bytes of an inline literal that go to the parser as they are; 0 outside one.
    pub(super) fn passing(&self) -> u64 {
        if let State::Pass(left) = self.state { left } else { 0 }
    }

    /// Some of [`Self::passing`] went to the parser.
    pub(super) fn passed(&mut self, bytes: usize) {
        if let State::Pass(left) = &mut self.state {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                self.state = State::Line;
            }
        }
    }

    /// How many bytes more make a full chunk; 0 outside a diverted body.
    pub(super) fn wanted(&self, received: usize) -> usize {
        if let State::Divert(left) = self.state { chunk_of(left).saturating_sub(received) } else { 0 }
    }

    /// A part of a diverted body waits to be taken; until then nothing moves.
    pub(super) fn has_diverted(&self) -> bool {
        self.diverted.is_some()
    }

    /// Takes the part of a diverted body that waits.
    pub(super) fn take_diverted(&mut self) -> Option<Diverted> {
        self.diverted.take()
    }

    /// What became of the `BODY[]` that the parser gave next.
    pub(super) fn next_body(&mut self) -> Option<Body> {
        self.bodies.pop_front()
    }

    /// Whether the next FETCH asks for header fields rather than for bodies.
    pub(super) fn expect_headers(&mut self, headers: bool) {
        self.headers = headers;
    }

    /// From now on search results in `low..=high` are noted.
    pub(super) fn search(&mut self, low: u32, high: u32) {
        self.window = Some((low, high));
        self.found = Vec::new();
    }

    /// The ranges found since [`Self::search`], in the server's order.
    pub(super) fn take_found(&mut self) -> Vec<(u32, u32)> {
        self.window = None;
        std::mem::take(&mut self.found)
    }

    /// Works on what was received, puts the parser's share into `out`, and says whether anything moved. Stops before an inline literal
    /// (the caller passes it) and while a part of a diverted body waits.
    pub(super) fn advance(&mut self, received: &mut BytesMut, out: &mut BytesMut) -> Result<bool, Violation> {
        let mut moved = false;
        while self.diverted.is_none() && out.len() < BATCH {
            match self.state {
                State::Pass(_) => break,
                State::Skip(left) => {
                    let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(received.len());
                    if bytes == 0 {
                        break;
                    }
                    received.advance(bytes);
                    let left = left - bytes as u64;
                    self.state = if left == 0 { State::Line } else { State::Skip(left) };
                }
                State::Divert(left) => {
                    let bytes = chunk_of(left);
                    if received.len() < bytes {
                        break;
                    }
                    self.diverted = Some(Diverted::Chunk(received.split_to(bytes).freeze()));
                    let left = left - bytes as u64;
                    self.state = if left == 0 { State::Line } else { State::Divert(left) };
                }
                State::Line => {
                    let unseen = received.get(self.scanned..).unwrap_or_default();
                    let Some(end) = memchr::memchr(b'\n', unseen).map(|at| self.scanned + at) else {
                        self.scanned = received.len();
                        self.check_length(received)?;
                        break;
                    };
                    self.scanned = 0;
                    let line = received.get(..end).unwrap_or_default();
                    self.check_length(line)?;
                    self.line(line.strip_suffix(b"\r").unwrap_or(line), out)?;
                    received.advance(end + 1);
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    fn check_length(&self, line: &[u8]) -> Result<(), Violation> {
        let searching = self.open.is_none() && matches!(line::kind(line), Kind::Search(_) | Kind::Esearch(_));
        if line.len() > if searching { SEARCH_LINE } else { LINE } { Err(Violation("a line longer than allowed")) } else { Ok(()) }
    }

    fn line(&mut self, line: &[u8], out: &mut BytesMut) -> Result<(), Violation> {
        match self.open.take() {
            Some(Open::Fetch(reply)) => return self.fetch(reply, line, out),
            Some(Open::Unknown) => return self.unknown_literal(line),
            None => {}
        }
        match line::kind(line) {
            Kind::Fetch(sequence, attributes) => return self.fetch(FetchReply::new(sequence, self.headers), attributes, out),
            Kind::Search(numbers) => return self.found_numbers(numbers),
            Kind::Esearch(results) => return self.found_set(results),
            Kind::Text => out.extend_from_slice(&line::parseable(line)),
            Kind::Data => {
                if line::literal(line).is_some() {
                    out.extend_from_slice(&line::bad(line));
                    return self.unknown_literal(line);
                }
                out.extend_from_slice(&line::parseable(line));
            }
            Kind::Unknown(untagged) => {
                self.unknown_lines += 1;
                if self.unknown_lines > UNKNOWN_LINES {
                    return Err(Violation("too many lines that are not IMAP"));
                }
                out.extend_from_slice(&line::bad(line));
                if untagged {
                    return self.unknown_literal(line);
                }
            }
        }
        Ok(())
    }

    fn unknown_literal(&mut self, line: &[u8]) -> Result<(), Violation> {
        if let Some((_, length)) = line::literal(line) {
            if length > OTHER_LITERAL {
                return Err(Violation("a literal longer than allowed"));
            }
            self.open = Some(Open::Unknown);
            self.skip(length);
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) {
        self.state = if length == 0 { State::Line } else { State::Skip(length) };
    }

    fn fetch(&mut self, mut reply: FetchReply, piece: &[u8], out: &mut BytesMut) -> Result<(), Violation> {
        match reply.piece(piece, out)? {
            Next::Closed => {
                self.bodies.extend(reply.body());
                return Ok(());
            }
            Next::Body(length) | Next::Other(length) if length > LITERAL => return Err(Violation("a literal longer than allowed")),
            Next::Other(length) => self.skip(length),
            Next::Body(length) if length > if self.headers { LONGEST_HEADING } else { self.max_message_bytes } => {
                reply.announce(0, Body::TooLarge(length), out)?;
                self.skip(length);
            }
            Next::Body(length) if length > DIVERT_FROM as u64 => {
                reply.announce(0, Body::Diverted(length), out)?;
                self.diverted = Some(Diverted::Begin(length, reply.uid()));
                self.state = State::Divert(length);
            }
            Next::Body(length) => {
                reply.announce(length, Body::Inline(length), out)?;
                self.state = if length == 0 { State::Line } else { State::Pass(length) };
            }
        }
        self.open = Some(Open::Fetch(reply));
        Ok(())
    }

    fn found_numbers(&mut self, numbers: &[u8]) -> Result<(), Violation> {
        for number in numbers.split(|b| *b == b' ').filter(|number| !number.is_empty()) {
            if number.first() == Some(&b'(') {
                // `(MODSEQ n)` may end the line (RFC 7162 section 3.1.5).
                break;
            }
            let uid = line::number(number).filter(|uid| *uid > 0).ok_or(Violation("a search result that is not a number"))?;
            self.found(uid, uid)?;
        }
        Ok(())
    }

    fn found_set(&mut self, results: &[u8]) -> Result<(), Violation> {
        let mut rest = results;
        if rest.first() == Some(&b'(') {
            rest = memchr::memchr(b')', rest).and_then(|at| rest.get(at + 1..)).unwrap_or_default().trim_ascii_start();
        }
        let (mut name, mut after) = line::word(rest);
        if !name.eq_ignore_ascii_case(b"UID") {
            return if name.is_empty() { Ok(()) } else { Err(Violation("an ESEARCH reply without UID")) };
        }
        while !after.is_empty() {
            (name, after) = line::word(after);
            let (value, next) = line::word(after);
            if name.eq_ignore_ascii_case(b"ALL") {
                for range in value.split(|b| *b == b',') {
                    let mut ends = range.splitn(2, |b| *b == b':').map(|end| line::number(end).filter(|uid| *uid > 0));
                    let low = ends.next().flatten();
                    let (Some(low), Some(high)) = (low, ends.next().unwrap_or(low)) else {
                        return Err(Violation("a search result that is not a number"));
                    };
                    self.found(low.min(high), low.max(high))?;
                }
            }
            after = next;
        }
        Ok(())
    }

    fn found(&mut self, low: u32, high: u32) -> Result<(), Violation> {
        let Some((window_low, window_high)) = self.window else { return Ok(()) };
        let (low, high) = (low.max(window_low), high.min(window_high));
        if low > high {
            return Ok(());
        }
        if let Some((_, last)) = self.found.last_mut()
            && last.checked_add(1) == Some(low)
        {
            *last = high;
            return Ok(());
        }
        if self.found.len() >= SEARCH_RANGES {
            return Err(Violation("more search results than allowed"));
        }
        self.found.push((low, high));
        Ok(())
    }
}

fn chunk_of(left: u64) -> usize {
    usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)
}

#[cfg(test)]
mod tests;

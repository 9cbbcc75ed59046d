//! Reads one `* n FETCH (…)` reply piece by piece, between its literals, and rewrites it to what we asked for: UID, INTERNALDATE and
//! `BODY[]` (or, where that was asked for, `BODY[HEADER.FIELDS (…)]`, under the same name). Pure: no I/O, no clock.
//!
//! Everything else (FLAGS, ENVELOPE, attributes of extensions, `INTERNALDATE NIL`, which panics imap-proto 0.17) is read and dropped, so
//! the parser sees few shapes, none of them deep.

use bytes::BytesMut;

use super::line;
use super::splitter::{Body, Violation};

/// A FETCH reply that is not closed yet.
#[derive(Debug)]
pub(super) struct FetchReply {
    sequence: u32,
    /// Header fields were asked for, not bodies.
    headers: bool,
    depth: usize,
    /// Something was rewritten: the parser waits for the closing parenthesis.
    opened: bool,
    uid: Option<u32>,
    dated: bool,
    body: Option<Body>,
}

/// What follows a piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The reply is complete.
    Closed,
    /// The bytes of `BODY[]`, this many.
    Body(u64),
    /// A literal of something else, this many bytes.
    Other(u64),
}

impl FetchReply {
    pub(super) fn new(sequence: u32, headers: bool) -> Self {
        Self { sequence, headers, depth: 0, opened: false, uid: None, dated: false, body: None }
    }

    /// The UID, where it came before.
    pub(super) fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// What became of `BODY[]`, where it came.
    pub(super) fn body(&self) -> Option<Body> {
        self.body
    }

    /// Reads one piece (without its line end), up to the end of the reply or to a literal.
    pub(super) fn piece(&mut self, piece: &[u8], out: &mut BytesMut) -> Result<Next, Violation> {
        let literal = line::literal(piece);
        let end = literal.map_or(piece.len(), |(start, _)| start);
        let (mut rest, _) = piece.split_at_checked(end).unwrap_or((piece, b""));
        loop {
            if self.depth > 0 {
                rest = self.list(rest)?;
                if self.depth > 0 {
                    return literal.map(|(_, length)| Next::Other(length)).ok_or(Violation("a FETCH reply ends inside a list"));
                }
            }
            rest = rest.trim_ascii_start();
            let Some((first, after)) = rest.split_first() else {
                return Err(Violation("a FETCH reply ends before its parenthesis"));
            };
            if *first == b')' {
                if literal.is_some() || !after.trim_ascii().is_empty() {
                    return Err(Violation("something follows a FETCH reply on its line"));
                }
                if self.opened {
                    out.extend_from_slice(b")\r\n");
                }
                return Ok(Next::Closed);
            }
            let (name, value) = attribute_name(rest)?;
            if value.is_empty() {
                let Some((_, length)) = literal else { return Err(Violation("a FETCH attribute without a value")) };
                return if self.is_body(name) { Ok(Next::Body(length)) } else { Ok(Next::Other(length)) };
            }
            rest = self.value(name, value, out)?;
        }
    }

    fn is_body(&self, name: &[u8]) -> bool {
        const HEADER: &[u8] = b"BODY[HEADER.FIELDS";
        if self.headers {
            name.get(..HEADER.len()).is_some_and(|start| start.eq_ignore_ascii_case(HEADER))
        } else {
            name.eq_ignore_ascii_case(b"BODY[]")
        }
    }

    /// Announces the body's literal to the parser, as `length` bytes.
    pub(super) fn announce(&mut self, length: u64, body: Body, out: &mut BytesMut) -> Result<(), Violation> {
        if self.body.is_some() {
            return Err(Violation("two bodies in one FETCH reply"));
        }
        self.body = Some(body);
        self.attribute(format!("BODY[] {{{length}}}\r\n").as_bytes(), out);
        Ok(())
    }

    fn attribute(&mut self, text: &[u8], out: &mut BytesMut) {
        if self.opened {
            out.extend_from_slice(b" ");
        } else {
            out.extend_from_slice(format!("* {} FETCH (", self.sequence).as_bytes());
            self.opened = true;
        }
        out.extend_from_slice(text);
    }

    /// Reads one value that is not a literal; returns what follows it.
    fn value<'a>(&mut self, name: &[u8], value: &'a [u8], out: &mut BytesMut) -> Result<&'a [u8], Violation> {
        match value.split_first() {
            Some((b'(', inner)) => {
                self.depth = 1;
                Ok(inner)
            }
            Some((b'"', inner)) => {
                let (quoted, rest) = quoted(inner)?;
                if self.is_body(name) {
                    let bytes = unescaped(quoted);
                    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.announce(length, Body::Inline(length), out)?;
                    out.extend_from_slice(&bytes);
                } else if name.eq_ignore_ascii_case(b"INTERNALDATE") && is_plain_date(quoted) {
                    if std::mem::replace(&mut self.dated, true) {
                        return Err(Violation("two dates in one FETCH reply"));
                    }
                    self.attribute(&[b"INTERNALDATE \"", quoted, b"\""].concat(), out);
                }
                Ok(rest)
            }
            _ => {
                let end = value.iter().position(|b| matches!(b, b' ' | b')')).unwrap_or(value.len());
                let (atom, rest) = value.split_at_checked(end).unwrap_or((value, b""));
                if atom.is_empty() {
                    return Err(Violation("a FETCH attribute without a value"));
                }
                if name.eq_ignore_ascii_case(b"UID") {
                    let uid = line::number(atom).filter(|uid| *uid > 0).ok_or(Violation("a UID that is not a number"))?;
                    if self.uid.replace(uid).is_some() {
                        return Err(Violation("two UIDs in one FETCH reply"));
                    }
                    self.attribute(format!("UID {uid}").as_bytes(), out);
                } else if self.is_body(name) {
                    if !atom.eq_ignore_ascii_case(b"NIL") {
                        return Err(Violation("a body that is neither a string nor NIL"));
                    }
                    if self.body.replace(Body::Nil).is_some() {
                        return Err(Violation("two bodies in one FETCH reply"));
                    }
                    self.attribute(b"BODY[] NIL", out);
                }
                Ok(rest)
            }
        }
    }

    /// Passes over a parenthesised value; returns what follows it, or nothing where it is still open.
    fn list<'a>(&mut self, mut rest: &'a [u8]) -> Result<&'a [u8], Violation> {
        while self.depth > 0 {
            let Some(at) = memchr::memchr3(b'(', b')', b'"', rest) else { return Ok(b"") };
            let (_, from) = rest.split_at_checked(at).unwrap_or((rest, b""));
            let Some((what, after)) = from.split_first() else { return Ok(b"") };
            rest = after;
            match what {
                b'(' => self.depth += 1,
                b')' => self.depth -= 1,
                _ => rest = quoted(after)?.1,
            }
            if self.depth > line::NESTING {
                return Err(Violation("parentheses nested too deep"));
            }
        }
        Ok(rest)
    }
}

/// Only what the parser and [`super::text::internal_date`] read alike.
fn is_plain_date(quoted: &[u8]) -> bool {
    (1..=64).contains(&quoted.len()) && quoted.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'\\')
}

/// The name of an attribute, with its section: `BODY[HEADER.FIELDS (SUBJECT)]<0>`; and what follows the space.
fn attribute_name(text: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let mut in_section = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'[' => in_section = true,
            b']' => in_section = false,
            b' ' if !in_section => {
                let (name, rest) = text.split_at_checked(at).unwrap_or((text, b""));
                return Ok((name, rest.trim_ascii_start()));
            }
            b')' | b'(' if !in_section => break,
            _ => {}
        }
    }
    Err(Violation("a FETCH attribute without a value"))
}

/// The inside of a quoted string (escapes kept), given what follows its first quote; and what follows the last.
fn quoted(text: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (inside, rest) = text.split_at_checked(at).unwrap_or((text, b""));
                return Ok((inside, rest.strip_prefix(b"\"").unwrap_or(rest)));
            }
            _ => {}
        }
    }
    Err(Violation("a quoted string that does not end on its line"))
}

fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut escaped = false;
    for &byte in quoted {
        if byte == b'\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            bytes.push(byte);
        }
    }
    bytes
}

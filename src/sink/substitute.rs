//! Tells what Exchange sends in place of a message from the message itself (law 1: such a thing is owed, not collected). It looks at header
//! fields and at the MIME part headers only, so mail that quotes the same words in its text is not suspected. Pure: no I/O, no clock.
//!
//! What is not looked at: parts inside an attached message (`message/rfc822`), since those never turn into anything else later, and names
//! in RFC 2047 encoding, which Exchange uses for non-ASCII names only.

use super::header;

/// A message could not be rendered: `Retrieval using the IMAP4 protocol failed for the following message: N` (exchange-online quirk; seen in
/// OfflineIMAP #62, freescout #3203, MailKit #908). POP3 names itself in place of IMAP4.
const RETRIEVAL_FAILED: [&[u8]; 2] = [b"Retrieval using the IMAP4 protocol failed", b"Retrieval using the POP3 protocol failed"];
/// Who such a message is from.
const SUBSTITUTE_SENDER: &[u8] = b"Microsoft Exchange Server";
/// The name of the attachment that Defender for Office 365 puts in while it still examines the true one, letters only and in lower case.
const SCAN_IN_PROGRESS: &[u8] = b"safeattachmentsscaninprogress";

/// Longest part header block looked at, in bytes.
const PART_HEADER_LIMIT: usize = 32 << 10;
/// RFC 2046 section 5.1.1 allows 70 characters; some senders take more.
const BOUNDARY_LIMIT: usize = 200;
/// Nested multiparts looked into.
const DEPTH_LIMIT: usize = 32;

/// What a message seems to be instead of itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Suspicion {
    /// The server's note that it could not render the message.
    RetrievalFailed,
    /// The message with a placeholder for an attachment that is still being examined.
    ScanInProgress,
}

/// Examines a message that is in memory as a whole.
pub fn suspicion(message: &[u8]) -> Option<Suspicion> {
    let mut examination = Examination::new();
    examination.feed(message);
    examination.suspicion()
}

/// Examines a message that comes in pieces, of any size. Memory is bounded by [`header::HEADER_LIMIT`] and little more, time is linear.
#[derive(Debug)]
pub struct Examination {
    place: Place,
    /// The message's own header block, as far as it has come.
    header: Vec<u8>,
    /// The header block of the part under way.
    part: Vec<u8>,
    /// A line of a body that began with a dash, without its end; at most [`BOUNDARY_LIMIT`] + 4 bytes.
    line: Vec<u8>,
    /// Boundaries of the open multiparts, the innermost last.
    boundaries: Vec<Vec<u8>>,
    suspicion: Option<Suspicion>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a header block; `empty` while the present line has nothing but a CR.
    Header { of: Owner, empty: bool },
    /// In a body, at the beginning of a line.
    LineStart,
    /// In a line of a body that began with a dash.
    Dash,
    /// In any other line of a body.
    Line,
    /// Nothing more can be learnt.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Message,
    Part,
    AttachedMessage,
}

impl Default for Examination {
    fn default() -> Self {
        Self::new()
    }
}

impl Examination {
    /// At the beginning of a message.
    pub fn new() -> Examination {
        let place = Place::Header { of: Owner::Message, empty: true };
        Examination { place, header: Vec::new(), part: Vec::new(), line: Vec::new(), boundaries: Vec::new(), suspicion: None }
    }

    /// The next bytes of the message.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Header { of, empty } => self.feed_header(of, empty, bytes),
                Place::LineStart => {
                    self.line.clear();
                    self.place = if bytes.first() == Some(&b'-') { Place::Dash } else { Place::Line };
                    bytes
                }
                Place::Dash => self.feed_dash_line(bytes),
                Place::Line => self.skip_to_dash_line(bytes),
                Place::Done => return,
            };
        }
    }

    /// What the message is suspected of, as far as it was fed.
    pub fn suspicion(&self) -> Option<Suspicion> {
        // A message that ends within its header block has no body that would have made us look.
        self.suspicion.or_else(|| match self.place {
            Place::Header { of: Owner::Message, .. } => retrieval_failed(&self.header).then_some(Suspicion::RetrievalFailed),
            Place::Header { .. } | Place::LineStart | Place::Dash | Place::Line | Place::Done => None,
        })
    }

    /// The message's header block as far as it was fed, at most [`header::HEADER_LIMIT`] bytes: for [`super::identity::fingerprint`].
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Takes the header block up to its empty line; returns what follows.
    fn feed_header<'a>(&mut self, of: Owner, mut empty: bool, bytes: &'a [u8]) -> &'a [u8] {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let line = bytes.get(from..end).unwrap_or_default();
            from = end + 1;
            if empty && matches!(line, b"" | b"\r") {
                let (block, rest) = bytes.split_at(from);
                self.keep(of, block);
                self.place = self.end_header(of);
                return rest;
            }
            empty = true;
        }
        let open = bytes.get(from..).unwrap_or_default();
        self.place = Place::Header { of, empty: empty && matches!(open, b"" | b"\r") };
        self.keep(of, bytes);
        &[]
    }

    fn keep(&mut self, of: Owner, bytes: &[u8]) {
        let (buffer, limit) = match of {
            Owner::Message => (&mut self.header, header::HEADER_LIMIT),
            Owner::Part | Owner::AttachedMessage => (&mut self.part, PART_HEADER_LIMIT),
        };
        let room = limit.saturating_sub(buffer.len());
        buffer.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// A header block is complete: what it tells, and where that leaves us.
    fn end_header(&mut self, of: Owner) -> Place {
        if of == Owner::Message && retrieval_failed(&self.header) {
            self.suspicion = Some(Suspicion::RetrievalFailed);
            return Place::Done;
        }
        let block = match of {
            Owner::Message => &self.header,
            Owner::Part | Owner::AttachedMessage => &self.part,
        };
        let mut boundary = None;
        let mut attached_message = false;
        let mut placeholder = false;
        for (name, value) in header::fields(block) {
            if of == Owner::AttachedMessage {
                placeholder |= name.eq_ignore_ascii_case(b"subject") && is_placeholder_name(value.trim_ascii());
            } else if name.eq_ignore_ascii_case(b"content-type") {
                let value = value.trim_ascii();
                placeholder |= parameter(value, &[b"name", b"name*"]).is_some_and(|name| is_placeholder_name(&name));
                attached_message |= has_prefix_ignoring_case(value, b"message/");
                if boundary.is_none() && has_prefix_ignoring_case(value, b"multipart/") {
                    boundary = parameter(value, &[b"boundary"]).filter(|text| !text.is_empty() && text.len() <= BOUNDARY_LIMIT);
                }
            } else if name.eq_ignore_ascii_case(b"content-disposition") {
                placeholder |= parameter(value, &[b"filename", b"filename*"]).is_some_and(|name| is_placeholder_name(&name));
            }
        }
        // The message's own Content-Type may name it after anything; only a part is an attachment.
        if placeholder && of != Owner::Message {
            self.suspicion = Some(Suspicion::ScanInProgress);
            return Place::Done;
        }
        if let Some(boundary) = boundary.filter(|_| self.boundaries.len() < DEPTH_LIMIT) {
            self.boundaries.push(boundary);
        }
        if of == Owner::Part && attached_message {
            self.part.clear();
            return Place::Header { of: Owner::AttachedMessage, empty: true };
        }
        if self.boundaries.is_empty() { Place::Done } else { Place::LineStart }
    }

    /// Collects a line that began with a dash; at its end, looks whether it is a boundary.
    fn feed_dash_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (piece, rest) = match memchr::memchr(b'\n', bytes) {
            Some(end) => bytes.split_at(end),
            None => (bytes, &[][..]),
        };
        if self.line.len() + piece.len() > BOUNDARY_LIMIT + 4 {
            // White space may trail without end (RFC 2046 section 5.1.1); nobody sends that much of it.
            self.place = Place::Line;
            return bytes;
        }
        self.line.extend_from_slice(piece);
        let Some(rest) = rest.get(1..) else { return &[] };
        self.place = self.end_dash_line();
        rest
    }

    fn end_dash_line(&mut self) -> Place {
        let line = self.line.trim_ascii_end();
        let Some(text) = line.strip_prefix(b"--") else { return Place::LineStart };
        for depth in (0..self.boundaries.len()).rev() {
            let Some(boundary) = self.boundaries.get(depth) else { continue };
            if text == boundary.as_slice() {
                self.boundaries.truncate(depth + 1);
                self.part.clear();
                return Place::Header { of: Owner::Part, empty: true };
            }
            if text.strip_suffix(b"--") == Some(boundary.as_slice()) {
                self.boundaries.truncate(depth);
                return if self.boundaries.is_empty() { Place::Done } else { Place::LineStart };
            }
        }
        Place::LineStart
    }

    /// Passes over lines until one begins with a dash, or the bytes end.
    fn skip_to_dash_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if let Some((_, rest)) = memchr::memmem::find(bytes, b"\n-").and_then(|end| bytes.split_at_checked(end + 1)) {
            self.place = Place::LineStart;
            return rest;
        }
        if bytes.last() == Some(&b'\n') {
            self.place = Place::LineStart;
        }
        &[]
    }
}

fn retrieval_failed(block: &[u8]) -> bool {
    let mut subject = false;
    let mut sender = false;
    for (name, value) in header::fields(block) {
        if name.eq_ignore_ascii_case(b"subject") {
            let value = value.trim_ascii();
            subject |= RETRIEVAL_FAILED.iter().any(|text| has_prefix_ignoring_case(value, text));
        } else if name.eq_ignore_ascii_case(b"from") {
            let name = value.trim_ascii();
            let name = name.strip_prefix(b"\"").unwrap_or(name);
            sender |= has_prefix_ignoring_case(name, SUBSTITUTE_SENDER);
        }
    }
    subject && sender
}

fn has_prefix_ignoring_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether `name` is the placeholder's, with or without an extension, whatever stands for its spaces (folds, `%20` of RFC 2231, `_`).
fn is_placeholder_name(name: &[u8]) -> bool {
    let letters: Vec<u8> = name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase).take(64).collect();
    // RFC 2231: charset'language'text.
    let letters = letters.strip_prefix(b"utf").filter(|_| name.contains(&b'\'')).unwrap_or(&letters);
    letters.strip_prefix(SCAN_IN_PROGRESS).is_some_and(|extension| extension.len() <= 4)
}

/// The value of the first of `names` among the parameters of a field like Content-Type, unquoted.
fn parameter(value: &[u8], names: &[&[u8]]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        rest = after_semicolon(rest)?;
        let (name, tail) = rest.split_at_checked(memchr::memchr2(b'=', b';', rest)?)?;
        if tail.first() != Some(&b'=') {
            rest = tail;
            continue;
        }
        let name = name.trim_ascii();
        rest = tail.get(1..)?;
        if names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)) {
            return Some(parameter_value(rest.trim_ascii_start()));
        }
    }
}

/// What follows the next semicolon outside quotes.
fn after_semicolon(text: &[u8]) -> Option<&[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => return text.get(at + 1..),
            _ => {}
        }
    }
    None
}

fn parameter_value(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    let Some(quoted) = text.strip_prefix(b"\"") else {
        value.extend(text.iter().take_while(|byte| **byte != b';' && !byte.is_ascii_whitespace()));
        return value;
    };
    let mut escaped = false;
    for byte in quoted {
        match byte {
            _ if escaped => {
                escaped = false;
                value.push(*byte);
            }
            b'\\' => escaped = true,
            b'"' => break,
            b'\r' | b'\n' => {}
            _ => value.push(*byte),
        }
    }
    value
}

#[cfg(test)]
mod tests;

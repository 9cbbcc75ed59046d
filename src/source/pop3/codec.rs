//! POP3's framing (RFC 1939 section 3): bytes of a server in, status lines and message bodies out. Pure: no I/O, no clock.
//! It knows nothing of commands: the caller says whether a line or a body comes next.
//!
//! A body ends in `CRLF . CRLF`; of every other line that begins with a dot one dot is taken off. Only CRLF ends a line in it: a bare CR or LF,
//! and a dot behind one, is content. Bodies are slices of the block that they were read into, unless a dot had to be taken out.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;

/// Longest status or listing line, in bytes without its end (RFC 1939 allows 512, RFC 2449 section 4 as well).
pub(super) const LONGEST_LINE: usize = 8 * 1024;
/// What is read at once.
const READ: usize = 64 * 1024;

/// A line longer than [`LONGEST_LINE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// All of it.
    Whole(Bytes),
    /// A part of a long one; more follow.
    Part(Bytes),
    /// The last part of a long one; may be empty.
    Last(Bytes),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Decoder {
    received: BytesMut,
    /// Bytes of `received` in which neither a line's end nor a body's lies.
    scanned: usize,
    /// Where in `received` dots are to be taken out, ascending.
    dots: Vec<usize>,
    /// The body has just begun: a dot at its first byte is as one behind CRLF.
    at_start: bool,
    /// Parts of this body were given.
    long: bool,
    whole_up_to: usize,
}

impl Decoder {
    /// Bodies longer than `whole_up_to` bytes are given in parts.
    pub(super) fn new(whole_up_to: usize) -> Self {
        Self { received: BytesMut::new(), scanned: 0, dots: Vec::new(), at_start: true, long: false, whole_up_to }
    }

    /// Where to put what comes next, with room for a good read.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        if self.received.capacity() - self.received.len() < READ / 4 {
            self.received.reserve(READ);
        }
        &mut self.received
    }

    /// The next line without its end; `None`: more is to be read.
    pub(super) fn line(&mut self) -> Result<Option<Bytes>, TooLong> {
        let unseen = self.received.get(self.scanned..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', unseen).map(|place| place + self.scanned) else {
            self.scanned = self.received.len();
            return if self.scanned > LONGEST_LINE { Err(TooLong) } else { Ok(None) };
        };
        self.scanned = 0;
        let mut line = self.received.split_to(end + 1);
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        if line.len() > LONGEST_LINE { Err(TooLong) } else { Ok(Some(line.freeze())) }
    }

    /// The next piece of a body, which begins behind the line last taken; `None`: more is to be read. After [`Piece::Whole`] or
    /// [`Piece::Last`] a line follows.
    pub(super) fn piece(&mut self) -> Option<Piece> {
        if let Some(end) = self.end() {
            let body = self.take(end);
            self.received.advance(3);
            self.at_start = true;
            return Some(if std::mem::take(&mut self.long) { Piece::Last(body) } else { Piece::Whole(body) });
        }
        if self.received.len() <= self.whole_up_to && !self.long {
            return None;
        }
        // What may turn out to be the end stays.
        let held = (1..=4).rev().find(|length| self.received.ends_with(END.get(..*length).unwrap_or_default())).unwrap_or(0);
        let length = self.received.len() - if self.at_start { self.received.len() } else { held };
        if length == 0 {
            return None;
        }
        self.long = true;
        Some(Piece::Part(self.take(length)))
    }

    /// Whether nothing is waiting to be decoded.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Where the body's closing dot stands, once it is there; notes the other dots on the way.
    fn end(&mut self) -> Option<usize> {
        loop {
            let dot = if self.at_start {
                if *self.received.first()? != b'.' {
                    self.at_start = false;
                    continue;
                }
                0
            } else {
                let unseen = self.received.get(self.scanned..).unwrap_or_default();
                match memmem::find(unseen, b"\r\n.") {
                    Some(place) => self.scanned + place + 2,
                    None => {
                        self.scanned = self.scanned.max(self.received.len().saturating_sub(2));
                        return None;
                    }
                }
            };
            match self.received.get(dot + 1..).unwrap_or_default() {
                [b'\r', b'\n', ..] => return Some(dot),
                [] | [b'\r'] => {
                    self.scanned = dot.saturating_sub(2);
                    return None;
                }
                _ => {
                    self.dots.push(dot);
                    self.at_start = false;
                    self.scanned = dot + 1;
                }
            }
        }
    }

    /// Takes so many bytes off the front, without the dots noted in them.
    fn take(&mut self, length: usize) -> Bytes {
        let raw = self.received.split_to(length);
        self.scanned = 0;
        if self.dots.is_empty() {
            return raw.freeze();
        }
        let mut body = BytesMut::with_capacity(raw.len());
        let mut from = 0;
        for dot in self.dots.drain(..) {
            body.extend_from_slice(raw.get(from..dot).unwrap_or_default());
            from = dot + 1;
        }
        body.extend_from_slice(raw.get(from..).unwrap_or_default());
        body.freeze()
    }
}

/// How a body ends.
const END: &[u8] = b"\r\n.\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server sends of a message that ends in CRLF (RFC 1939 section 3).
    fn stuffed(body: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        for (place, byte) in body.iter().enumerate() {
            if *byte == b'.' && (place == 0 || body[..place].ends_with(b"\r\n")) {
                sent.push(b'.');
            }
            sent.push(*byte);
        }
        sent.extend_from_slice(b".\r\n");
        sent
    }

    /// The body that comes out when `sent` arrives in pieces that end at `cuts`, and whether it came in parts; whatever follows stays.
    fn decoded(sent: &[u8], cuts: &[usize], whole_up_to: usize) -> (Vec<u8>, bool, Decoder) {
        let mut decoder = Decoder::new(whole_up_to);
        let (mut body, mut parts, mut from) = (Vec::new(), false, 0);
        let mut ended = false;
        for cut in cuts.iter().copied().chain([sent.len()]) {
            decoder.room().extend_from_slice(&sent[from..cut.max(from)]);
            from = cut.max(from);
            while !ended {
                match decoder.piece() {
                    None => break,
                    Some(Piece::Whole(bytes)) => {
                        assert!(!parts);
                        body.extend_from_slice(&bytes);
                        ended = true;
                    }
                    Some(Piece::Part(bytes)) => {
                        assert!(!bytes.is_empty());
                        parts = true;
                        body.extend_from_slice(&bytes);
                    }
                    Some(Piece::Last(bytes)) => {
                        assert!(parts);
                        body.extend_from_slice(&bytes);
                        ended = true;
                    }
                }
            }
        }
        assert!(ended, "{:?}", String::from_utf8_lossy(sent));
        (body, parts, decoder)
    }

    const BODIES: [&[u8]; 12] = [
        b"",
        b"\r\n",
        b"a\r\n",
        b".\r\n",
        b"..\r\n.a\r\n",
        b"a\n.\nb\r\n",
        b"a\n.\r\nb\r\n",
        b"a\r.\r\nb\r\n",
        b"a\r\r\n.\r\r\n.\n\r\n",
        b"a\r\n.\r\n.\r\n..\r\n...\r\n",
        b"\r\n\r\n.\r\n",
        b"Subject: x\r\n\r\n.\nno end\n.\n\r\n",
    ];

    #[test]
    fn every_body_comes_out_as_it_went_in_wherever_it_is_cut() {
        for body in BODIES {
            let mut sent = stuffed(body);
            sent.extend_from_slice(b"+OK next\r\n");
            for first in 0..=sent.len() {
                for second in first..=sent.len() {
                    for whole_up_to in [0, 3, 1_000] {
                        let (came, _, mut decoder) = decoded(&sent, &[first, second], whole_up_to);
                        assert_eq!(came, body, "{:?} cut at {first}, {second}", String::from_utf8_lossy(&sent));
                        assert_eq!(decoder.line().unwrap().unwrap(), "+OK next".as_bytes());
                        assert!(decoder.is_empty());
                    }
                }
            }
            let each_byte: Vec<usize> = (0..sent.len()).collect();
            assert_eq!(decoded(&sent, &each_byte, 2).0, body);
        }
    }

    #[test]
    fn a_dot_behind_a_bare_line_feed_ends_nothing() {
        let mut decoder = Decoder::new(1_000);
        decoder.room().extend_from_slice(b"a\n.\nb\r\n.\nc\r\n.\r");
        assert_eq!(decoder.piece(), None);
        decoder.room().extend_from_slice(b"\n");
        assert_eq!(decoder.piece(), Some(Piece::Whole(Bytes::from_static(b"a\n.\nb\r\n\nc\r\n"))));
    }

    #[test]
    fn a_long_body_comes_in_parts_and_a_short_one_whole() {
        let body = [b"0123456789abcdef\r\n".as_slice(); 1_000].concat();
        let cuts: Vec<usize> = (0..body.len()).step_by(700).collect();
        let (came, parts, decoder) = decoded(&stuffed(&body), &cuts, 4_096);
        assert!(came == body && parts && decoder.is_empty());
        let (came, parts, _) = decoded(&stuffed(&body), &cuts, 1 << 20);
        assert!(came == body && !parts);
    }

    #[test]
    fn a_whole_body_without_dots_is_not_copied() {
        let mut decoder = Decoder::new(1_000);
        decoder.room().extend_from_slice(b"one\r\n.\r\n+OK\r\ntwo\r\n.\r\n");
        let block = decoder.received.as_ptr().addr();
        let Some(Piece::Whole(one)) = decoder.piece() else { panic!() };
        decoder.line().unwrap().unwrap();
        let Some(Piece::Whole(two)) = decoder.piece() else { panic!() };
        assert_eq!((one.as_ptr().addr() - block, two.as_ptr().addr() - block), (0, 13));
    }

    #[test]
    fn lines_are_bounded() {
        let mut decoder = Decoder::new(1_000);
        decoder.room().extend_from_slice(&[b'x'; LONGEST_LINE]);
        assert_eq!(decoder.line(), Ok(None));
        decoder.room().extend_from_slice(b"\r\n+OK\r\n\n");
        assert_eq!(decoder.line().unwrap().unwrap().len(), LONGEST_LINE);
        assert_eq!(decoder.line().unwrap().unwrap(), "+OK".as_bytes());
        assert_eq!(decoder.line().unwrap().unwrap(), "".as_bytes());
        decoder.room().extend_from_slice(&[b'x'; LONGEST_LINE + 1]);
        assert_eq!(decoder.line(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn whatever_a_message_holds_it_comes_out_as_it_went_in(
            body in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0_usize..260, 0..12),
            whole_up_to in 0_usize..300,
        ) {
            let mut body = body;
            // A server ends the last line before it adds the closing dot.
            body.extend_from_slice(b"\r\n");
            let mut sent = stuffed(&body);
            sent.extend_from_slice(b"+OK next\r\n");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(sent.len())).collect();
            cuts.sort_unstable();
            let (came, _, mut decoder) = decoded(&sent, &cuts, whole_up_to);
            prop_assert_eq!(came, body);
            prop_assert_eq!(decoder.line().unwrap().unwrap(), "+OK next".as_bytes());
        }

        #[test]
        fn whatever_a_server_sends_nothing_breaks(
            pieces in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..50), any::<bool>()), 0..40),
        ) {
            let mut decoder = Decoder::new(64);
            for (bytes, as_line) in pieces {
                decoder.room().extend_from_slice(&bytes);
                if as_line {
                    while let Ok(Some(line)) = decoder.line() {
                        prop_assert!(line.len() <= LONGEST_LINE);
                    }
                } else {
                    while matches!(decoder.piece(), Some(Piece::Part(_))) {}
                    // What a body leaves behind is no more than its end could be.
                    prop_assert!(decoder.received.len() <= 64 + 50 + 4 || !decoder.long);
                }
            }
        }
    }
}

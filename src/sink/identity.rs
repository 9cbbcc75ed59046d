//! What a message is called in every sink: law 2's fingerprint and placement. It reads a message's header block for the Message-ID and
//! nothing else of it. Pure: no I/O, no clock.
//!
//! *Placement* names one item on the server, whatever its bytes. *Fingerprint* finds candidates for "the same message under another
//! numbering"; it never decides, and nothing that Exchange changes between two renderings goes into it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::digest;
use jiff::Timestamp;

use super::header;

/// Length of a name as [`Identity::name`] writes it.
pub const NAME_LENGTH: usize = 33;

/// A message's name. `fingerprint` finds candidates, `placement` is one item on the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// First 8 bytes of the fingerprint.
    pub fingerprint: [u8; 8],
    /// First 8 bytes of the placement.
    pub placement: [u8; 8],
}

impl Identity {
    /// `{fingerprint}-{placement}`, each as 16 lower-case hexadecimal digits.
    pub fn name(&self) -> String {
        let mut name = String::with_capacity(NAME_LENGTH + 4);
        write_hexadecimal(&mut name, &self.fingerprint);
        name.push('-');
        write_hexadecimal(&mut name, &self.placement);
        name
    }

    /// The placement half of the name.
    pub fn placement_name(&self) -> String {
        hexadecimal(&self.placement)
    }

    /// Reads a name as [`Identity::name`] writes it, and nothing else (no upper case).
    pub fn parse(name: &[u8]) -> Option<Identity> {
        let (fingerprint, rest) = name.split_first_chunk::<16>()?;
        let (dash, rest) = rest.split_first()?;
        let placement: &[u8; 16] = rest.try_into().ok()?;
        (*dash == b'-').then_some(())?;
        Some(Identity { fingerprint: read_hexadecimal(fingerprint)?, placement: read_hexadecimal(placement)? })
    }
}

/// 16 lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8; 8]) -> String {
    let mut text = String::with_capacity(16);
    write_hexadecimal(&mut text, bytes);
    text
}

fn write_hexadecimal(into: &mut String, bytes: &[u8; 8]) {
    // Writing to a String cannot fail.
    let _ = write!(into, "{:016x}", u64::from_be_bytes(*bytes));
}

fn read_hexadecimal(digits: &[u8; 16]) -> Option<[u8; 8]> {
    if !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let text = std::str::from_utf8(digits).ok()?;
    Some(u64::from_str_radix(text, 16).ok()?.to_be_bytes())
}

/// One validity of a folder's numbering; gives placements. Make it once per opened folder.
#[derive(Clone, Debug)]
pub struct Numbering {
    /// Mailbox and folder.
    folder: Vec<u8>,
    /// Those and the validity.
    prefix: Vec<u8>,
    turn: u32,
    again_from: Vec<u32>,
    /// Where messages have names (POP3): what stands for a name, by the number that was given to it.
    names: Option<Arc<BTreeMap<u32, [u8; 8]>>>,
}

impl Numbering {
    /// `mailbox` counts without case, `folder_key` byte by byte.
    pub fn new(mailbox: &str, folder_key: &str, uid_validity: u32) -> Numbering {
        let mut folder = Vec::new();
        for part in [mailbox.to_lowercase().as_bytes(), folder_key.as_bytes()] {
            push_with_length(&mut folder, part);
        }
        let mut prefix = folder.clone();
        push_with_length(&mut prefix, &uid_validity.to_be_bytes());
        Numbering { folder, prefix, turn: 0, again_from: Vec::new(), names: None }
    }

    /// The same where the server gave out UIDs anew under a validity that was used before: `turn` times all of them, and once more from each
    /// UID of `again_from` on. A placement is of the turn of its UID.
    #[must_use]
    pub fn in_turn(self, turn: u32, again_from: Vec<u32>) -> Numbering {
        Numbering { turn, again_from, ..self }
    }

    /// As [`Numbering::new`], for an `epoch` of POP3's unique-ids. `names` are the hashes of unique-ids by the numbers that were given to them;
    /// any other number is a unique-id itself. A given number goes into no placement: it may be another one after a crash.
    pub fn named(mailbox: &str, folder_key: &str, epoch: u32, names: BTreeMap<u32, [u8; 8]>) -> Numbering {
        let mut numbering = Self::new(mailbox, folder_key, epoch);
        push_with_length(&mut numbering.prefix, b"POP3");
        Numbering { names: Some(Arc::new(names)), ..numbering }
    }

    /// The fingerprint of a message of this folder, see [`fingerprint`]. It is the folder's own: the same mail in two mailboxes is two messages,
    /// and a copy that one mailbox delivered must never stand for the other's, even where both deliver into one place.
    pub fn fingerprint(&self, head: &[u8], internal_date: Option<Timestamp>) -> [u8; 8] {
        let mut input = Vec::with_capacity(self.folder.len() + 16);
        input.extend_from_slice(&self.folder);
        push_with_length(&mut input, &fingerprint(head, internal_date));
        first_eight(&input)
    }

    /// The placement of the message with this UID: the first 8 bytes of SHA-256 over the four length-prefixed parts, and the
    /// turn where it is not the first (by POP3 five: `POP3` comes
    /// before the last, which is the hash of the unique-id or, for one that is a number, its ten digits).
    pub fn placement(&self, uid: u32) -> [u8; 8] {
        let mut input = Vec::with_capacity(self.prefix.len() + 12);
        input.extend_from_slice(&self.prefix);
        match self.names.as_ref().map(|names| names.get(&uid)) {
            None => push_with_length(&mut input, &uid.to_be_bytes()),
            Some(Some(name)) => push_with_length(&mut input, name),
            Some(None) => push_with_length(&mut input, format!("{uid:010}").as_bytes()),
        }
        let again = self.again_from.iter().filter(|from| **from <= uid).count();
        let turn = self.turn.saturating_add(u32::try_from(again).unwrap_or(u32::MAX));
        if turn > 0 {
            push_with_length(&mut input, &turn.to_be_bytes());
        }
        first_eight(&input)
    }
}

/// Lengths as 8 bytes, big-endian: no two different inputs are written alike.
fn push_with_length(into: &mut Vec<u8>, part: &[u8]) {
    into.extend_from_slice(&(part.len() as u64).to_be_bytes());
    into.extend_from_slice(part);
}

/// The fingerprint of a message that begins with `head` (its header block, or as much of it as there is): the first 8 bytes of SHA-256 over
/// the Message-ID token; without one over INTERNALDATE as a Unix time in seconds (8 bytes, big-endian); without that over 32 zero bytes.
fn fingerprint(head: &[u8], internal_date: Option<Timestamp>) -> [u8; 8] {
    match (message_id(head), internal_date) {
        (Some(token), _) => first_eight(&token),
        (None, Some(date)) => first_eight(&date.as_second().to_be_bytes()),
        (None, None) => first_eight(&[0; 32]),
    }
}

fn first_eight(input: &[u8]) -> [u8; 8] {
    let digest = digest::digest(&digest::SHA256, input);
    let mut first = [0; 8];
    first.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    first
}

/// The token of the first Message-ID field (RFC 5322 section 3.6.4) in the header block: what stands between `<` and `>`, else the whole
/// value; without white space, which only folding can have put there. `None` when there is no such field or it is empty.
pub fn message_id(head: &[u8]) -> Option<Cow<'_, [u8]>> {
    let (_, value) = header::fields(head).find(|(name, _)| name.eq_ignore_ascii_case(b"message-id"))?;
    let inner = memchr::memchr(b'<', value)
        .and_then(|open| value.get(open + 1..))
        .and_then(|rest| memchr::memchr(b'>', rest).and_then(|close| rest.get(..close)))
        .unwrap_or(value)
        .trim_ascii();
    if inner.is_empty() {
        return None;
    }
    if inner.iter().any(u8::is_ascii_whitespace) {
        return Some(Cow::Owned(inner.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()));
    }
    Some(Cow::Borrowed(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(message: &str) -> Option<String> {
        message_id(message.as_bytes()).map(|token| String::from_utf8_lossy(&token).into_owned())
    }

    #[test]
    fn the_message_id_is_found_however_it_is_written() {
        let long = format!("Received: {}\r\n", "x".repeat(header::HEADER_LIMIT));
        let cases = [
            ("Message-ID: <a@b>\r\n\r\n", Some("a@b")),
            ("From: x\r\nmessage-id:<a@b>\r\n\r\n", Some("a@b")),
            ("MESSAGE-ID :\r\n <a@b>\r\n\r\n", Some("a@b")),
            ("Message-Id: <a\r\n\t@b>\r\n\r\n", Some("a@b")),
            ("Message-ID: (comment) <a@b> more\n\n", Some("a@b")),
            ("Message-ID:  bare@token \r\n\r\n", Some("bare@token")),
            ("Message-ID: <open@token\r\n\r\n", Some("<open@token")),
            ("Message-ID: <first@b>\r\nMessage-ID: <second@b>\r\n\r\n", Some("first@b")),
            ("Message-ID: <>\r\n\r\n", None),
            ("Message-ID:\r\n\r\n", None),
            ("X-Message-ID: <a@b>\r\nReferences:\r\n Message-ID: <c@d>\r\n\r\nMessage-ID: <body@b>", None),
            ("", None),
        ];
        for (message, expected) in cases {
            assert_eq!(token(message).as_deref(), expected, "{message:?}");
        }
        assert_eq!(token(&format!("{long}Message-ID: <beyond@b>\r\n\r\n")), None, "the search is bounded");
    }

    #[test]
    fn the_fingerprint_does_not_depend_on_what_a_rendering_changes() {
        let first = b"Received: by a\r\nMessage-ID: <a@b>\r\nSubject: x\r\n\r\none";
        let second = b"MIME-Version: 1.0\r\nMessage-Id:\r\n\t<a@b>\r\n\r\nanother body";
        assert_eq!(fingerprint(first, None), fingerprint(second, Timestamp::from_second(1).ok()));
        assert_ne!(fingerprint(first, None), fingerprint(b"Message-ID: <a@c>\r\n\r\n", None));
    }

    #[test]
    fn without_a_message_id_the_date_counts_and_without_that_nothing() {
        let date = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(fingerprint(b"\r\n", Some(date)), fingerprint(b"Subject: x\r\n\r\n", Some(date)));
        assert_ne!(fingerprint(b"\r\n", Some(date)), fingerprint(b"\r\n", None));
        // printf '\0%.0s' {1..32} | sha256sum
        assert_eq!(hexadecimal(&fingerprint(b"", None)), "66687aadf862bd77");
        // printf %s a@b | sha256sum
        assert_eq!(hexadecimal(&fingerprint(b"Message-ID: <a@b>\r\n\r\n", None)), "7508d8b5018ea640");
    }

    #[test]
    fn a_placement_is_one_item_and_no_other() {
        let here = Numbering::new("Box@Example.org", "INBOX", 7);
        assert_eq!(here.placement(1), Numbering::new("box@example.org", "INBOX", 7).placement(1));
        let others = [
            here.placement(2),
            Numbering::new("box@example.org", "INBOX", 8).placement(1),
            Numbering::new("box@example.org", "inbox", 7).placement(1),
            Numbering::new("box@example.orgI", "NBOX", 7).placement(1),
        ];
        for other in others {
            assert_ne!(here.placement(1), other);
        }
    }

    #[test]
    fn placements_never_change_between_versions() {
        // Computed once with Python's hashlib over the layout documented above.
        assert_eq!(hexadecimal(&Numbering::new("a@b", "INBOX", 1).placement(2)), "79a05d386d737da1");
        assert_eq!(hexadecimal(&Numbering::named("a@b", "INBOX", 1, BTreeMap::new()).placement(2)), "76d97a952452744a");
        assert_eq!(
            hexadecimal(&Numbering::named("a@b", "INBOX", 1, [(9, [1, 2, 3, 4, 5, 6, 7, 8])].into()).placement(9)),
            "734c2ff02814902e"
        );
    }

    #[test]
    fn a_placement_by_name_does_not_depend_on_the_number_that_was_given() {
        let first = Numbering::named("a@b", "INBOX", 1, [(1 << 31, [7; 8])].into());
        let again = Numbering::named("A@b", "INBOX", 1, [((1 << 31) + 5, [7; 8]), (1 << 31, [8; 8])].into());
        assert_eq!(first.placement(1 << 31), again.placement((1 << 31) + 5));
        assert_eq!(first.placement(3), again.placement(3));
        let here = first.placement(1 << 31);
        for other in [
            again.placement(1 << 31),
            first.placement(3),
            Numbering::named("a@b", "INBOX", 2, [(1 << 31, [7; 8])].into()).placement(1 << 31),
            Numbering::new("a@b", "INBOX", 1).placement(1 << 31),
        ] {
            assert_ne!(here, other);
        }
        assert_ne!(Numbering::named("a@b", "INBOX", 1, BTreeMap::new()).placement(3), Numbering::new("a@b", "INBOX", 1).placement(3));
        // What one protocol delivered is found by the other.
        assert_eq!(first.fingerprint(b"", None), Numbering::new("a@b", "INBOX", 9).fingerprint(b"", None));
    }

    #[test]
    fn names_are_written_and_read_back() {
        let identity = Identity { fingerprint: [0, 1, 2, 3, 4, 5, 6, 0xff], placement: [0xa0; 8] };
        assert_eq!(identity.name(), "00010203040506ff-a0a0a0a0a0a0a0a0");
        assert_eq!(identity.placement_name(), "a0a0a0a0a0a0a0a0");
        assert_eq!(Identity::parse(identity.name().as_bytes()), Some(identity));
        let strange = [
            "",
            "00010203040506ff",
            "00010203040506FF-a0a0a0a0a0a0a0a0",
            "00010203040506ff_a0a0a0a0a0a0a0a0",
            "00010203040506ff-a0a0a0a0a0a0a0a0x",
            "+0010203040506ff-a0a0a0a0a0a0a0a0",
        ];
        for name in strange {
            assert_eq!(Identity::parse(name.as_bytes()), None, "{name:?}");
        }
    }
}

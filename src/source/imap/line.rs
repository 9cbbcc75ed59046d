//! Tells what kind of reply a line begins, and makes it safe for async-imap's parser (imap-proto 0.17). Pure: no I/O, no clock.
//!
//! Why: a line that this parser does not know ends the stream for good (`Server Unavailable. 15`, `* NAMESPACE …`), and some lines
//! panic it (`* OK [ALERT]é`) or overflow its stack (nesting). Only kinds that we use reach it, and only after a trial.

/// Deepest nesting of parentheses; imap-proto recurses, and 1,000 levels overflow a thread's stack.
pub(super) const NESTING: usize = 100;

/// What a line begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// `* n FETCH (`, and what follows the parenthesis.
    Fetch(u32, &'a [u8]),
    /// `* SEARCH`, and the numbers.
    Search(&'a [u8]),
    /// `* ESEARCH`, and the rest.
    Esearch(&'a [u8]),
    /// A status line, tagged or not, or a continuation: free text, never a literal.
    Text,
    /// Other untagged data that the parser knows and we may use.
    Data,
    /// Anything else. `true`: it looks like untagged data, so a literal may belong to it.
    Unknown(bool),
}

/// Tells what `line` (without its end) begins.
pub(super) fn kind(line: &[u8]) -> Kind<'_> {
    if line.first() == Some(&b'+') {
        return Kind::Text;
    }
    let Some(data) = line.strip_prefix(b"* ") else {
        let (tag, rest) = word(line);
        let tagged = !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric) && is_one_of(word(rest).0, &["OK", "NO", "BAD"]);
        return if tagged { Kind::Text } else { Kind::Unknown(false) };
    };
    let (first, rest) = word(data);
    if is_one_of(first, &["OK", "NO", "BAD", "BYE", "PREAUTH"]) {
        Kind::Text
    } else if is_one_of(first, &["SEARCH"]) {
        Kind::Search(rest)
    } else if is_one_of(first, &["ESEARCH"]) {
        Kind::Esearch(rest)
    } else if is_one_of(first, &["CAPABILITY", "LIST", "STATUS", "FLAGS"]) {
        Kind::Data
    } else if let Some(sequence) = number(first) {
        let (second, rest) = word(rest);
        match rest.split_first() {
            Some((b'(', attributes)) if is_one_of(second, &["FETCH"]) => Kind::Fetch(sequence, attributes),
            _ if is_one_of(second, &["EXISTS", "EXPUNGE", "RECENT"]) => Kind::Data,
            _ => Kind::Unknown(true),
        }
    } else {
        Kind::Unknown(true)
    }
}

/// The line for the parser, with CRLF: as it is where the parser takes it, else without its brackets, else as `* BAD` with its text.
pub(super) fn parseable(line: &[u8]) -> Vec<u8> {
    let mut safe = Vec::with_capacity(line.len() + 3);
    let mut before = 0;
    for &byte in line {
        // After a response code the parser cuts one byte off the text, even out of the middle of a character.
        if before == b']' && !byte.is_ascii() {
            safe.push(b' ');
        }
        safe.push(if byte.is_ascii_control() { b' ' } else { byte });
        before = byte;
    }
    safe.extend_from_slice(b"\r\n");
    if is_parsed(&safe) {
        return safe;
    }
    // A tagged answer must not get lost for what stands in its brackets.
    safe.iter_mut().filter(|b| **b == b'[').for_each(|b| *b = b'(');
    if is_parsed(&safe) { safe } else { bad(line) }
}

fn is_parsed(line: &[u8]) -> bool {
    matches!(imap_proto::Response::parse(line), Ok((rest, _)) if rest.is_empty())
}

/// `* BAD` with the text of a line that nobody understands.
pub(super) fn bad(line: &[u8]) -> Vec<u8> {
    let shown = line.strip_prefix(b"* ").unwrap_or(line);
    let mut rewritten = b"* BAD ".to_vec();
    // A bracket in front would be taken for a response code.
    rewritten
        .extend(shown.iter().skip_while(|b| **b == b'[' || **b == b' ').take(400).map(|b| if b.is_ascii_control() { b' ' } else { *b }));
    rewritten.extend_from_slice(b"\r\n");
    rewritten
}

/// The literal that a line announces at its end: where its header starts, and its length (RFC 9051 section 4.3, RFC 7888, RFC 3516).
pub(super) fn literal(line: &[u8]) -> Option<(usize, u64)> {
    let inner = line.strip_suffix(b"}")?;
    let inner = inner.strip_suffix(b"+").unwrap_or(inner);
    let open = memchr::memrchr(b'{', inner)?;
    let (before, digits) = inner.split_at_checked(open)?;
    let digits = digits.strip_prefix(b"{")?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // More digits than fit are longer than any bound; u64::MAX says so.
    let length = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
    Some((if before.last() == Some(&b'~') { open - 1 } else { open }, length))
}

/// The first word, and what follows the space after it.
pub(super) fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', text).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    (word, rest.strip_prefix(b" ").unwrap_or(rest))
}

/// A decimal number without sign.
pub(super) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_told() {
        let cases: &[(&[u8], Kind<'_>)] = &[
            (b"* 12 FETCH (UID 3)", Kind::Fetch(12, b"UID 3)")),
            (b"* 12 fetch ()", Kind::Fetch(12, b")")),
            (b"* 12 FETCH", Kind::Unknown(true)),
            (b"* 99999999999 FETCH (UID 3)", Kind::Unknown(true)),
            (b"* SEARCH", Kind::Search(b"")),
            (b"* search 1 2", Kind::Search(b"1 2")),
            (b"* ESEARCH (TAG \"A1\") UID ALL 1:3", Kind::Esearch(b"(TAG \"A1\") UID ALL 1:3")),
            (b"* BYE Connection closed. 14", Kind::Text),
            (b"A0001 OK done", Kind::Text),
            (b"A0001 NOPE done", Kind::Unknown(false)),
            (b"+ idling", Kind::Text),
            (b"+", Kind::Text),
            (b"* 3 EXISTS", Kind::Data),
            (b"* NAMESPACE ((\"\" \"/\")) NIL NIL", Kind::Unknown(true)),
            (b"* METADATA \xff", Kind::Unknown(true)),
            (b"Server Unavailable. 15", Kind::Unknown(false)),
            (b"", Kind::Unknown(false)),
        ];
        for (line, expected) in cases {
            assert_eq!(&kind(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_line_that_the_parser_does_not_take_becomes_a_bad_with_its_text() {
        let deep = format!("* LIST {} \"/\" x", "(".repeat(300));
        let deep_expected = format!("* BAD LIST {} \"/\" x\r\n", "(".repeat(300));
        for (line, expected) in [
            ("* 3 EXISTS", "* 3 EXISTS\r\n"),
            ("* OK [UIDVALIDITY 14] UIDVALIDITY value", "* OK [UIDVALIDITY 14] UIDVALIDITY value\r\n"),
            ("* OK [ALERT]été", "* OK [ALERT] été\r\n"),
            ("A1 OK [COPYUID 55 31 6]", "A1 OK [COPYUID 55 31 6]\r\n"),
            ("A1 NO [BADCHARSET ({5}", "A1 NO (BADCHARSET ({5}\r\n"),
            ("* CAPABILITY  IMAP4rev1", "* BAD CAPABILITY  IMAP4rev1\r\n"),
            ("* 3 EXISTS and more", "* BAD 3 EXISTS and more\r\n"),
            ("* OK two\rlines\0", "* OK two lines \r\n"),
            (deep.as_str(), deep_expected.as_str()),
        ] {
            assert_eq!(String::from_utf8(parseable(line.as_bytes())).unwrap(), expected);
        }
        assert_eq!(bad(b"[COPYUID 55 31 6]"), b"* BAD COPYUID 55 31 6]\r\n");
        assert_eq!(bad(b"Server Unavailable. 15"), b"* BAD Server Unavailable. 15\r\n");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_the_parser_takes_what_it_is_given(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            start in "(\\* |)(OK |NO |BAD |BYE |LIST |CAPABILITY |FLAGS |3 EXISTS|\\+ |A1 OK )?(\\[[A-Z]{0,14} ?\\(?|\\[ALERT\\])?") {
            let mut whole = start.into_bytes();
            whole.extend(line);
            for rewritten in [parseable(&whole), bad(&whole)] {
                let parsed = imap_proto::Response::parse(&rewritten);
                proptest::prop_assert!(matches!(parsed, Ok((rest, _)) if rest.is_empty()), "{}", String::from_utf8_lossy(&rewritten));
            }
        }
    }

    #[test]
    fn a_literal_is_recognised_at_the_end_of_a_line_only() {
        for (line, expected) in [
            ("BODY[] {12}", Some((7, 12))),
            ("BODY[] {12+}", Some((7, 12))),
            ("BODY[] ~{12}", Some((7, 12))),
            ("BODY[] {4294967296}", Some((7, 4_294_967_296))),
            ("BODY[] {99999999999999999999999}", Some((7, u64::MAX))),
            ("BODY[] {12} ", None),
            ("BODY[] {}", None),
            ("BODY[] {-1}", None),
            ("}", None),
            ("{0}", Some((0, 0))),
        ] {
            assert_eq!(literal(line.as_bytes()), expected, "{line}");
        }
    }
}

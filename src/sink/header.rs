//! The fields of a header block (RFC 5322 section 2.2), read leniently: what servers send is not always what the RFC says.
//! It decodes nothing; who wants a value takes its raw bytes. Pure: no I/O, no clock.

/// How many bytes of a message are searched for its header block. Longer header blocks are read as far as this.
pub const HEADER_LIMIT: usize = 256 << 10;

/// The fields of the header block at the beginning of `message`, in order, as (name, raw value with its folds).
/// Lines that are no fields are passed over. Ends at the empty line, or after [`HEADER_LIMIT`] bytes.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message.get(..HEADER_LIMIT).unwrap_or(message) }
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() || self.rest.starts_with(b"\n") || self.rest.starts_with(b"\r\n") {
                self.rest = &[];
                return None;
            }
            let (line, rest) = self.rest.split_at(logical_line_length(self.rest));
            self.rest = rest;
            // RFC 5322 section 4.5 allows white space before the colon in old mail.
            if let Some((name, value)) = memchr::memchr(b':', line).and_then(|colon| line.split_at_checked(colon))
                && let Some(value) = value.get(1..)
            {
                let name = name.trim_ascii_end();
                if !name.is_empty() && !name.iter().any(u8::is_ascii_whitespace) {
                    return Some((name, value));
                }
            }
        }
    }
}

/// Bytes of the first line of `text` with the lines that continue it (RFC 5322 section 2.2.3).
fn logical_line_length(text: &[u8]) -> usize {
    for end in memchr::memchr_iter(b'\n', text) {
        if !matches!(text.get(end + 1), Some(b' ' | b'\t')) {
            return end + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_and_values(message: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields(message.as_bytes()).map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn fields_are_told_with_their_folds_and_end_at_the_empty_line() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            ("A: 1\r\nB: 2\r\n\r\nC: 3\r\n", &[("A", " 1\r\n"), ("B", " 2\r\n")]),
            ("A: 1\nB: 2\n\nC: 3\n", &[("A", " 1\n"), ("B", " 2\n")]),
            ("A: 1\r\n\tfold: ed\r\n\r\n body", &[("A", " 1\r\n\tfold: ed\r\n")]),
            ("A: 1\r\n\r\n B: a body that begins with a space", &[("A", " 1\r\n")]),
            ("no field\r\nA : old\r\nnot a name: x\r\n: y\r\nB:", &[("A", " old\r\n"), ("B", "")]),
            ("", &[]),
            ("\r\nA: body", &[]),
        ];
        for (message, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(names_and_values(message), expected, "{message:?}");
        }
    }

    #[test]
    fn the_search_is_bounded() {
        let message = format!("A: {}\r\nB: 2\r\n\r\n", "x".repeat(HEADER_LIMIT));
        assert_eq!(fields(message.as_bytes()).count(), 1);
    }
}

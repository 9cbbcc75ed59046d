//! Which messages a work order takes: a beginning, an age, and globs over addresses and subject. Pure: no I/O, no clock.
//!
//! What is not known selects: a message without a date is not too old, and one whose header could not be read is taken. Headers are strangers'
//! words; they come bounded ([`crate::source::LONGEST_HEADING`]) and a well-tried parser reads them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jiff::Timestamp;
use mail_parser::{HeaderName, HeaderValue, MessageParser};

/// Where collecting begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With everything that is there.
    #[default]
    Beginning,
    /// With what was received at this time or later.
    At(Timestamp),
    /// With what was received since the collector was first seen, which only its cursor knows.
    FirstSeen,
}

/// A pattern for a whole text without case: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    /// Any text is a pattern.
    pub fn new(pattern: &str) -> Self {
        Self(folded(pattern))
    }

    /// Whether the whole of `text` is as the pattern says. Takes at most as many steps as the two lengths multiplied.
    pub fn matches(&self, text: &str) -> bool {
        let text = folded(text);
        let (mut at, mut in_text) = (0, 0);
        // Where to go on when a character differs: behind the last star, which then takes one more.
        let mut star: Option<(usize, usize)> = None;
        while let Some(c) = text.get(in_text) {
            match self.0.get(at) {
                Some('*') => {
                    at += 1;
                    star = Some((at, in_text));
                }
                Some(wanted) if *wanted == '?' || wanted == c => {
                    at += 1;
                    in_text += 1;
                }
                _ => {
                    let Some((behind, taken)) = star else { return false };
                    at = behind;
                    in_text = taken + 1;
                    star = Some((behind, in_text));
                }
            }
        }
        self.0.get(at..).unwrap_or_default().iter().all(|c| *c == '*')
    }
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// Which messages are taken; every condition given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Where collecting begins.
    pub start: Start,
    /// One of these is a sender's address.
    pub from: Vec<Glob>,
    /// One of these is an address in To or Cc.
    pub to: Vec<Glob>,
    /// One of these is the subject, decoded, white space as single spaces.
    pub subject: Vec<Glob>,
    /// Received after this time.
    pub received_after: Option<Timestamp>,
    /// Received within this time before the look.
    pub max_age: Option<Duration>,
}

impl Selection {
    /// Messages received before this time are none of our business, at a look at `now`. `first_seen`: the collector's.
    pub fn since(&self, first_seen: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let start = match self.start {
            Start::Beginning => None,
            Start::At(time) => Some(time),
            Start::FirstSeen => Some(first_seen),
        };
        // INTERNALDATE has whole seconds.
        let after = self.received_after.and_then(|time| time.checked_add(Duration::from_secs(1)).ok());
        let oldest = self.max_age.and_then(|age| now.checked_sub(age).ok());
        [start, after, oldest].into_iter().flatten().max()
    }

    /// Whether a message's header has a say.
    pub fn asks_for_headers(&self) -> bool {
        !(self.from.is_empty() && self.to.is_empty() && self.subject.is_empty())
    }

    /// Whether a message with these header fields (From, To, Cc and Subject, as sent) is taken.
    pub fn takes(&self, header: &[u8]) -> bool {
        // A header that breaks the parser is not known, and must not end the task at each look.
        catch_unwind(AssertUnwindSafe(|| Addressing::read(header))).map_or(true, |addressing| {
            let Some(Addressing { from, to, subject }) = addressing else { return true };
            any(&self.from, &from) && any(&self.to, &to) && any(&self.subject, &[subject])
        })
    }
}

/// No globs, or one of them matches one of the texts.
fn any(globs: &[Glob], texts: &[String]) -> bool {
    globs.is_empty() || texts.iter().any(|text| globs.iter().any(|glob| glob.matches(text)))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Addressing {
    from: Vec<String>,
    to: Vec<String>,
    subject: String,
}

impl Addressing {
    /// `None`: nothing that can be read.
    fn read(header: &[u8]) -> Option<Self> {
        if header.trim_ascii().is_empty() {
            return Some(Self::default());
        }
        let parser = MessageParser::new().with_address_headers().header_text(HeaderName::Subject);
        let message = parser.parse_headers(header)?;
        let mut read = Self::default();
        for header in message.headers() {
            match (&header.name, &header.value) {
                (HeaderName::From, HeaderValue::Address(addresses)) => read.from.extend(plain(addresses)),
                (HeaderName::To | HeaderName::Cc, HeaderValue::Address(addresses)) => read.to.extend(plain(addresses)),
                (HeaderName::Subject, HeaderValue::Text(text)) if read.subject.is_empty() => {
                    read.subject = text.split_whitespace().collect::<Vec<_>>().join(" ");
                }
                _ => {}
            }
        }
        Some(read)
    }
}

fn plain<'a>(addresses: &'a mail_parser::Address<'_>) -> impl Iterator<Item = String> + 'a {
    addresses.iter().filter_map(|address| address.address.as_deref()).map(|address| address.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_is_about_the_whole_text_and_knows_no_case() {
        for (glob, text, expected) in [
            ("*@supplier.com", "Sales@Supplier.COM", true),
            ("*@supplier.com", "sales@supplier.com.evil.example", false),
            ("sales@*", "pre-sales@supplier.com", false),
            ("", "", true),
            ("", "x", false),
            ("*", "", true),
            ("?", "é", true),
            ("?", "", false),
            ("a*b*c", "aXXbYYbZZc", true),
            ("a*b*c", "aXXbYYcZ", false),
            ("*FACTURE*", "Votre facture n° 7", true),
            ("ÉTÉ*", "été 2026", true),
            ("a**b", "ab", true),
            ("[ab]*", "ab", false),
        ] {
            assert_eq!(Glob::new(glob).matches(text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_over_a_hostile_text_ends_soon() {
        let began = std::time::Instant::now();
        assert!(!Glob::new(&format!("{}b", "*a".repeat(250))).matches(&"a".repeat(16 * 1024)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    fn selection(from: &[&str], to: &[&str], subject: &[&str]) -> Selection {
        let globs = |texts: &[&str]| texts.iter().map(|text| Glob::new(text)).collect();
        Selection { from: globs(from), to: globs(to), subject: globs(subject), ..Selection::default() }
    }

    #[test]
    fn headers_are_read_as_people_see_them() {
        let header = "From: =?utf-8?Q?Ang=C3=A8le?= Lef <Angele@Supplier.com>, \"x, y\" <second@b.fr>\r\n\
            To: Undisclosed: one@c.fr, Two <two@c.fr>;\r\nCC: three@d.fr (comment)\r\n\
            Subject: =?iso-8859-1?Q?R=E9clamation?=\r\n =?utf-8?B?IG7CsCA3?=  folded\r\n and more\r\n\r\n";
        for (taken, from, to, subject) in [
            (true, &["*@supplier.com"][..], &[][..], &[][..]),
            (true, &["second@b.fr"], &[], &[]),
            (false, &["Angèle*"], &[], &[]),
            (true, &[], &["two@c.fr"], &[]),
            (true, &[], &["nobody@x", "three@d.fr"], &[]),
            (false, &[], &["angele@supplier.com"], &[]),
            (true, &[], &[], &["réclamation n° 7 folded and more"]),
            (false, &[], &[], &["*=?*"]),
            (true, &["*@b.fr"], &["one@*"], &["*7*"]),
            (false, &["*@b.fr"], &["one@*"], &["*8*"]),
        ] {
            assert_eq!(selection(from, to, subject).takes(header.as_bytes()), taken, "{from:?} {to:?} {subject:?}");
        }
    }

    #[test]
    fn a_message_without_the_field_is_not_selected_by_it() {
        for header in ["\r\n", "", "Subject: x\r\n\r\n", "From: \r\n\r\n"] {
            assert!(!selection(&["*@x.fr"], &[], &[]).takes(header.as_bytes()), "{header:?}");
            assert!(selection(&[], &[], &[]).takes(header.as_bytes()), "{header:?}");
        }
        assert!(selection(&[], &[], &["*"]).takes(b"From: a@b.fr\r\n\r\n"), "an empty subject is any subject");
    }

    #[test]
    fn the_latest_of_the_bounds_holds() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let day = Duration::from_secs(86_400);
        for (start, received_after, max_age, expected) in [
            (Start::Beginning, None, None, None),
            (Start::At(at(500)), None, None, Some(500)),
            (Start::FirstSeen, None, None, Some(1_000)),
            (Start::Beginning, Some(at(700)), None, Some(701)),
            (Start::Beginning, None, Some(day), Some(200_000 - 86_400)),
            (Start::At(at(150_000)), Some(at(700)), Some(day), Some(150_000)),
        ] {
            let selection = Selection { start, received_after, max_age, ..Selection::default() };
            assert_eq!(selection.since(at(1_000), at(200_000)), expected.map(at), "{selection:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_in_a_header_it_is_read_or_taken(header in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            start in "(From: |To: |Cc: |Subject: )(=\\?utf-8\\?[QB]\\?)?(\"|<|\\(|:)?") {
            let mut whole = start.into_bytes();
            whole.extend(header);
            let selection = selection(&["*@x.fr"], &["*"], &["*"]);
            let _taken: bool = selection.takes(&whole);
        }
    }
}

//! What a client's command says: tag, name and arguments; UID sets. Pure: no I/O, no clock.

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word, brackets included: `BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]<0.10>`.
    Atom(String),
    /// A quoted string or a literal.
    Text(Vec<u8>),
    List(Vec<Token>),
}

impl Token {
    pub(super) fn atom(&self) -> Option<&str> {
        match self {
            Self::Atom(word) => Some(word),
            Self::Text(_) | Self::List(_) => None,
        }
    }

    /// The text of a word or string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Atom(word) => Some(word),
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::List(_) => None,
        }
    }

    pub(super) fn is(&self, word: &str) -> bool {
        self.atom().is_some_and(|atom| atom.eq_ignore_ascii_case(word))
    }
}

/// One command as sent; a literal stands where its `{n}` stood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) tag: String,
    /// Upper case; `UID FETCH` and the like in one.
    pub(super) name: String,
    pub(super) arguments: Vec<Token>,
}

/// The length in a line's closing `{n}` or `{n+}`, and whether the client waits for a `+` line.
pub(super) fn announced_literal(line: &[u8]) -> Option<(usize, bool)> {
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let inside = std::str::from_utf8(line.get(open + 1..)?).ok()?.strip_suffix('}')?;
    let (digits, waits) = inside.strip_suffix('+').map_or((inside, true), |digits| (digits, false));
    Some((digits.parse().ok()?, waits))
}

/// `parts` are the command's lines; between two of them stood a literal, given in `literals`.
pub(super) fn parse(parts: &[Vec<u8>], literals: Vec<Vec<u8>>) -> Result<Command, String> {
    let mut literals = literals.into_iter();
    let mut words = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let text =
            if last { part.as_slice() } else { part.get(..part.iter().rposition(|byte| *byte == b'{').unwrap_or(0)).unwrap_or_default() };
        let mut reader = Reader { rest: text };
        // Literals inside lists are not needed by any command we carry out.
        words.extend(reader.tokens(0).ok_or_else(|| tag_of(parts))?);
        if !last {
            words.push(Token::Text(literals.next().unwrap_or_default()));
        }
    }
    let mut words = words.into_iter();
    let tag = words.next().as_ref().and_then(Token::atom).map(str::to_owned).ok_or_else(|| tag_of(parts))?;
    let mut name = words.next().as_ref().and_then(Token::atom).map(str::to_ascii_uppercase).ok_or_else(|| tag.clone())?;
    if name == "UID" {
        let second = words.next().as_ref().and_then(Token::atom).map(str::to_ascii_uppercase).ok_or_else(|| tag.clone())?;
        name = format!("UID {second}");
    }
    Ok(Command { tag, name, arguments: words.collect() })
}

fn tag_of(parts: &[Vec<u8>]) -> String {
    let first = parts.first().map(Vec::as_slice).unwrap_or_default();
    String::from_utf8_lossy(first).split(' ').next().filter(|tag| !tag.is_empty()).unwrap_or("*").to_owned()
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Tokens up to the end, or up to the closing parenthesis when inside a list.
    fn tokens(&mut self, depth: usize) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        if depth > 10 {
            return None;
        }
        loop {
            match self.rest.first() {
                None => return (depth == 0).then_some(tokens),
                Some(b' ') => {
                    self.next();
                }
                Some(b')') => {
                    self.next();
                    return (depth > 0).then_some(tokens);
                }
                Some(b'(') => {
                    self.next();
                    tokens.push(Token::List(self.tokens(depth + 1)?));
                }
                Some(b'"') => {
                    self.next();
                    tokens.push(Token::Text(self.quoted()?));
                }
                Some(_) => tokens.push(Token::Atom(self.word()?)),
            }
        }
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(text),
                b'\\' => text.push(self.next()?),
                byte => text.push(byte),
            }
        }
    }

    fn word(&mut self) -> Option<String> {
        let mut word = Vec::new();
        let mut bracket = false;
        while let Some(byte) = self.rest.first().copied() {
            match byte {
                b'[' => bracket = true,
                b']' => bracket = false,
                b' ' | b'(' | b')' if !bracket => break,
                _ => {}
            }
            word.push(byte);
            self.next();
        }
        String::from_utf8(word).ok()
    }
}

/// A set of numbers as in `1:3,7,12:*`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NumberSet(Vec<(u32, u32)>);

impl NumberSet {
    /// `largest` is what `*` stands for.
    pub(super) fn parse(text: &str, largest: u32) -> Option<Self> {
        let number = |text: &str| if text == "*" { Some(largest) } else { text.parse().ok().filter(|number: &u32| *number > 0) };
        let mut ranges = text
            .split(',')
            .map(|part| {
                let (low, high) = part.split_once(':').unwrap_or((part, part));
                let (low, high) = (number(low)?, number(high)?);
                Some((low.min(high), low.max(high)))
            })
            .collect::<Option<Vec<_>>>()?;
        ranges.sort_unstable();
        ranges.dedup_by(|later, earlier| {
            let overlap = later.0 <= earlier.1;
            if overlap {
                earlier.1 = earlier.1.max(later.1);
            }
            overlap
        });
        Some(Self(ranges))
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(low, _)| *low <= number);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, high)| *high >= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        parse(&[line.as_bytes().to_vec()], Vec::new()).unwrap()
    }

    #[test]
    fn a_fetch_keeps_its_section_together() {
        let command = parsed("A1 uid fetch 1:3,7 (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])");
        assert_eq!((command.tag.as_str(), command.name.as_str()), ("A1", "UID FETCH"));
        assert_eq!(
            command.arguments,
            [
                Token::Atom("1:3,7".into()),
                Token::List(vec![Token::Atom("UID".into()), Token::Atom("BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]".into())])
            ]
        );
    }

    #[test]
    fn literals_and_quoted_strings_are_text() {
        assert_eq!(announced_literal(b"A1 APPEND INBOX {12}"), Some((12, true)));
        assert_eq!(announced_literal(b"A1 APPEND INBOX {12+}"), Some((12, false)));
        assert_eq!(announced_literal(b"A1 NOOP"), None);
        let command = parse(&[b"A1 SELECT {5}".to_vec(), b"".to_vec()], vec![b"INBOX".to_vec()]).unwrap();
        assert_eq!(command.arguments, [Token::Text(b"INBOX".to_vec())]);
        assert_eq!(parsed("A1 SELECT \"a\\\"b\"").arguments, [Token::Text(b"a\"b".to_vec())]);
    }

    #[test]
    fn a_broken_command_still_has_its_tag() {
        assert_eq!(parse(&[b"A7 FETCH (1".to_vec()], Vec::new()), Err("A7".to_owned()));
        assert_eq!(parse(&[b"A8 FETCH ((((((((((((1".to_vec()], Vec::new()), Err("A8".to_owned()));
        assert_eq!(parse(&[b"".to_vec()], Vec::new()), Err("*".to_owned()));
    }

    #[test]
    fn a_set_holds_what_it_says() {
        let set = NumberSet::parse("5:3,9,20:*", 12).unwrap();
        let held: Vec<u32> = (1..25).filter(|number| set.contains(*number)).collect();
        assert_eq!(held, [3, 4, 5, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(NumberSet::parse("0", 1), None);
        assert_eq!(NumberSet::parse("1,,2", 1), None);
    }
}

//! What the texts of both languages share: somebody else's words made harmless, and words for a command line. Pure: no I/O, no clock.

/// Longest text of somebody else's in a message, in bytes.
const QUOTED: usize = 200;

/// One word for PowerShell and for a POSIX shell: people paste these lines, and an address may hold quotes or dollars.
pub fn shell(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    let starts_plainly = word.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts_plainly && word.bytes().all(plain) {
        word.to_owned()
    } else {
        // PowerShell takes typographic quotes for the plain one; each is doubled within.
        let mut quoted = String::from("'");
        for character in word.chars().filter(|character| !character.is_control()) {
            if matches!(character, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
                quoted.push(character);
            }
            quoted.push(character);
        }
        quoted.push('\'');
        quoted
    }
}

/// Somebody else's words: bounded, in one line, without what changes from answer to answer (Exchange puts names of servers into brackets).
pub(super) fn quoted(text: &str) -> String {
    let mut kept = String::new();
    let mut depth = 0_usize;
    for character in text.chars() {
        match character {
            '[' => depth += 1,
            ']' if depth > 0 => depth -= 1,
            _ if depth == 0 => kept.push(character),
            _ => {}
        }
    }
    let words: Vec<&str> = kept.split_whitespace().collect();
    bounded(words.join(" ").trim_end_matches(['.', ' ']), QUOTED)
}

/// The first `longest` bytes, cut at a character, without control characters.
pub(super) fn bounded(text: &str, longest: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(longest));
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > longest {
            break;
        }
        kept.push(character);
    }
    kept
}

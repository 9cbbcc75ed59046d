//! What of a server's words may be shown. Pure: no I/O, no clock.

/// Longest server text kept, in bytes.
const LONGEST: usize = 300;
/// A longer run of base64 or token characters may be something that we sent, repeated by the server.
const LONGEST_RUN: usize = 60;

/// A server's text as it may stand in an error: no control characters, no long base64, at most 300 bytes.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    let mut rest = text.trim();
    while !rest.is_empty() && cleaned.len() < LONGEST {
        let run = rest.find(|c: char| !is_token_character(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(run).unwrap_or((rest, ""));
        if word.len() > LONGEST_RUN {
            cleaned.push('…');
        } else {
            cleaned.push_str(word);
        }
        let mut characters = tail.chars();
        if let Some(other) = characters.next() {
            cleaned.push(if other.is_control() { ' ' } else { other });
        }
        rest = characters.as_str();
    }
    cut(&mut cleaned);
    cleaned.truncate(cleaned.trim_end().len());
    cleaned
}

fn cut(text: &mut String) {
    let mut end = LONGEST.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '.' | '-' | '_')
}

/// Takes a leading response code off a text: `[NONEXISTENT] No such folder` (RFC 9051 section 7.1). A bracket elsewhere is only text:
/// Exchange's greeting ends in one.
pub(super) fn split_code(text: &str) -> (Option<String>, &str) {
    let Some((code, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) else { return (None, text) };
    let code = clean(code).to_ascii_uppercase();
    (if code.is_empty() { None } else { Some(code) }, rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_text_is_bounded_and_holds_no_control_character_and_no_token() {
        for (text, expected) in [
            ("AUTHENTICATE failed.", "AUTHENTICATE failed."),
            ("  two\twords\u{7} ", "two words"),
            ("Command Argument Error. 11", "Command Argument Error. 11"),
            (&format!("bad: {} end", "eyJ0eXAiOiJKV1Qi.".repeat(8)), "bad: … end"),
            (&format!("bad: {} end", "dXNlcj0=".repeat(8)), "bad: … end"),
        ] {
            assert_eq!(clean(text), expected);
        }
        assert_eq!(clean(&"é ".repeat(400)).len(), 299);
        assert_eq!(clean(&"é".repeat(400)).len(), 300);
        assert_eq!(clean(&"éa".repeat(400)).len(), 300);
    }

    #[test]
    fn only_a_leading_bracket_is_a_response_code() {
        assert_eq!(split_code("[nonexistent] no"), (Some("NONEXISTENT".into()), "no"));
        assert_eq!(split_code("ready. [RgBSADMA]"), (None, "ready. [RgBSADMA]"));
        assert_eq!(split_code("[unclosed"), (None, "[unclosed"));
        assert_eq!(split_code("[] text"), (None, "text"));
    }
}

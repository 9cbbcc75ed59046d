//! The small grammars of spec strings: durations, mailbox addresses, relative paths, names. Pure: no I/O, no clock.
//! Says what is wrong with a value, never which field it stood in; every input is bounded before it is looked at.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Longest duration text looked at, in bytes; `24h` written in nanoseconds needs 16.
const LONGEST_DURATION: usize = 40;
/// Longest address, in bytes (RFC 5321 section 4.5.3.1.3, less the angle brackets).
const LONGEST_ADDRESS: usize = 254;
/// Longest part before the `@`, in bytes (RFC 5321 section 4.5.3.1.1).
const LONGEST_LOCAL_PART: usize = 64;
/// Longest path below the namespace's directory, in bytes; with root and file name it stays below Linux' 4,096.
const LONGEST_PATH: usize = 1_024;
/// Longest component of a path, in bytes (NAME_MAX of every file system we know).
const LONGEST_COMPONENT: usize = 255;
/// How much of a value is repeated in a message, in characters.
const EXCERPT: usize = 60;

/// The beginning of a user's value, quoted, without control characters, for a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excerpt<'a>(pub(super) &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(EXCERPT).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let more = if shown.len() < self.0.len() { "…" } else { "" };
        write!(f, "\"{shown}{more}\"")
    }
}

/// What is wrong with a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationProblem {
    /// Not Go's grammar.
    #[error("is not a duration")]
    Grammar,
    /// Shorter or longer than allowed.
    #[error("is not within the bounds")]
    Bounds,
}

/// A Go duration (`time.ParseDuration`: `5m`, `1h30m`, `1.5h`) within `least..=most`.
///
/// `kube::core::Duration` is not used for it: it panics on values such as `1e400h`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, DurationProblem> {
    if text.is_empty() || text.len() > LONGEST_DURATION {
        return Err(DurationProblem::Grammar);
    }
    let mut rest = text;
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationProblem::Grammar)?;
        let (number, after) = rest.split_at(number_ends);
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(DurationProblem::Grammar),
        };
        let amount = scaled(number, unit).ok_or(DurationProblem::Grammar)?;
        nanoseconds = nanoseconds.checked_add(amount).ok_or(DurationProblem::Bounds)?;
        rest = after;
    }
    let value = u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_| DurationProblem::Bounds)?;
    if value < least || value > most { Err(DurationProblem::Bounds) } else { Ok(value) }
}

/// `number` (digits, at most one point) times `unit`; `None` where it is no number or too large.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Below a nanosecond of the largest unit nothing is left of further digits; a second point fails in `parse`.
    let fraction_digits: String = fraction.chars().take(15).collect();
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = if fraction_digits.is_empty() {
        0
    } else {
        let digits = u32::try_from(fraction_digits.len()).ok()?;
        fraction_digits.parse::<u128>().ok()?.checked_mul(unit)?.checked_div(10_u128.checked_pow(digits)?)?
    };
    whole.checked_mul(unit)?.checked_add(part)
}

/// Whether `text` is an address as Exchange Online gives to mailboxes: `user@domain`, ASCII (RFC 5321's Dot-string and Domain; no quotes, no
/// address literals). In lower case.
pub(super) fn mailbox(text: &str) -> Option<String> {
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    if text.len() > LONGEST_ADDRESS {
        return None;
    }
    let (local, domain) = text.rsplit_once('@')?;
    let local_is_fine = local.len() <= LONGEST_LOCAL_PART && local.split('.').all(|part| !part.is_empty() && part.chars().all(atom));
    (local_is_fine && domain.contains('.') && is_domain(domain)).then(|| text.to_ascii_lowercase())
}

/// Whether `text` is a DNS name of ASCII letters, digits and hyphens, at most 253 bytes. A directory id (GUID) is one too.
pub(super) fn is_domain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.split('.').all(is_label)
}

/// Whether `text` is a name or namespace that Kubernetes would admit (RFC 1123 subdomain, lower case).
pub(super) fn is_object_name(text: &str) -> bool {
    is_domain(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathProblem {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// More than 1,024 bytes, or a component of more than 255.
    #[error("is too long (at most 1024 bytes, each folder name at most 255)")]
    TooLong,
    /// It begins with `/`.
    #[error("begins with \"/\"")]
    Absolute,
    /// `//`, or a `/` at the end.
    #[error("has an empty folder name")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("has a folder named \".\" or \"..\"")]
    Dots,
    /// A control character, NUL included.
    #[error("has a control character")]
    Control,
    /// A backslash: no separator here, and a trap on other systems.
    #[error("has a backslash")]
    Backslash,
    /// `{` or `}`.
    #[error("has a \"{{\" or \"}}\": templates are not built yet")]
    Template,
}

/// A relative path of plain components; it cannot leave the directory that it is joined to.
pub(super) fn relative_path(text: &str) -> Result<PathBuf, PathProblem> {
    if text.is_empty() {
        return Err(PathProblem::Empty);
    }
    if text.len() > LONGEST_PATH {
        return Err(PathProblem::TooLong);
    }
    if text.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    text.split('/').map(component).collect()
}

fn component(name: &str) -> Result<&str, PathProblem> {
    match name {
        "" => Err(PathProblem::EmptyComponent),
        "." | ".." => Err(PathProblem::Dots),
        _ if name.len() > LONGEST_COMPONENT => Err(PathProblem::TooLong),
        _ if name.chars().any(char::is_control) => Err(PathProblem::Control),
        _ if name.contains('\\') => Err(PathProblem::Backslash),
        _ if name.contains(['{', '}']) => Err(PathProblem::Template),
        _ => Ok(name),
    }
}

/// Whether `text` matches `glob`, in which `*` stands for any text and `?` for one character. Takes time in the product of the lengths at most.
pub(super) fn matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob.chars(), text.chars());
    // Where to go on when what stands behind the last star did not match: one character further.
    let mut again: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let (wanted, found) = (glob.clone().next(), text.clone().next());
        match (wanted, found) {
            (Some('*'), _) => {
                glob.next();
                again = Some((glob.clone(), text.clone()));
                continue;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                glob.next();
                text.next();
                continue;
            }
            (None, None) => return true,
            (_, _) => {}
        }
        let Some((behind_star, mut rest)) = again.take() else { return false };
        if rest.next().is_none() {
            return false;
        }
        (glob, text) = (behind_star.clone(), rest.clone());
        again = Some((behind_star, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_a_question_mark_for_one_character() {
        for (glob, text, expected) in [
            ("*@contoso.fr", "a@contoso.fr", true),
            ("*@contoso.fr", "a@contoso.fr.evil.example", false),
            ("*@contoso.fr", "a@other.fr", false),
            ("facture?@*", "factures@x.fr", true),
            ("facture?@*", "facture@x.fr", false),
            ("a@x.fr", "a@x.fr", true),
            ("a@x.fr", "b@x.fr", false),
            ("*", "", true),
            ("", "a", false),
            ("*a*b*c", "xaxbxcxc", true),
            ("*a*b*c", "xaxbxcxd", false),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)), "and in no long time");
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn durations_are_go_durations_within_their_bounds() {
        let seconds = |n| Ok(Duration::from_secs(n));
        for (text, expected) in [
            ("5m", seconds(300)),
            ("1m", seconds(60)),
            ("24h", seconds(86_400)),
            ("1h30m", seconds(5_400)),
            ("1.5h", seconds(5_400)),
            (".5h", seconds(1_800)),
            ("90s", seconds(90)),
            ("60000ms", seconds(60)),
            ("86400000000000ns", seconds(86_400)),
            ("60000000µs", seconds(60)),
            ("59.999s", Err(DurationProblem::Bounds)),
            ("24h1ns", Err(DurationProblem::Bounds)),
            ("0s", Err(DurationProblem::Bounds)),
            ("999999999999999h", Err(DurationProblem::Bounds)),
            ("340282366920938463463374607431768211455h", Err(DurationProblem::Grammar)),
            ("", Err(DurationProblem::Grammar)),
            ("5", Err(DurationProblem::Grammar)),
            ("0", Err(DurationProblem::Grammar)),
            ("m", Err(DurationProblem::Grammar)),
            (".m", Err(DurationProblem::Grammar)),
            ("5 m", Err(DurationProblem::Grammar)),
            ("-5m", Err(DurationProblem::Grammar)),
            ("+5m", Err(DurationProblem::Grammar)),
            ("1e9h", Err(DurationProblem::Grammar)),
            ("nanh", Err(DurationProblem::Grammar)),
            ("1-5h", Err(DurationProblem::Grammar)),
            ("1.2.3m", Err(DurationProblem::Grammar)),
            ("5M", Err(DurationProblem::Grammar)),
            ("1d", Err(DurationProblem::Grammar)),
            ("５m", Err(DurationProblem::Grammar)),
        ] {
            assert_eq!(duration(text, MINUTE, DAY), expected, "{text:?}");
        }
        assert_eq!(duration(&"1".repeat(1_000_000), MINUTE, DAY), Err(DurationProblem::Grammar));
    }

    #[test]
    fn mailboxes_are_plain_addresses_in_lower_case() {
        for (text, expected) in [
            ("factures@contoso.fr", Some("factures@contoso.fr")),
            ("Factures.Achat+x@Contoso.FR", Some("factures.achat+x@contoso.fr")),
            ("o'brien@contoso.onmicrosoft.com", Some("o'brien@contoso.onmicrosoft.com")),
            ("", None),
            ("factures", None),
            ("@contoso.fr", None),
            ("factures@", None),
            ("factures@contoso", None),
            ("factures@contoso..fr", None),
            ("a..b@contoso.fr", None),
            ("a@b@contoso.fr", None),
            ("a b@contoso.fr", None),
            ("a\u{1}user@contoso.fr", None),
            ("\"a\"@contoso.fr", None),
            ("<a@contoso.fr>", None),
            ("a@contoso.fr\r\n", None),
            ("é@contoso.fr", None),
        ] {
            assert_eq!(mailbox(text).as_deref(), expected, "{text:?}");
        }
        assert_eq!(mailbox(&format!("{}@contoso.fr", "a".repeat(65))), None);
        assert_eq!(mailbox(&format!("a@{}fr", "b.".repeat(500_000))), None);
    }

    #[test]
    fn paths_stay_below_where_they_are_joined() {
        for (text, expected) in [
            ("factures", Ok("factures")),
            ("factures/À traiter/2026", Ok("factures/À traiter/2026")),
            ("...", Ok("...")),
            ("", Err(PathProblem::Empty)),
            ("/etc", Err(PathProblem::Absolute)),
            ("..", Err(PathProblem::Dots)),
            ("a/../../b", Err(PathProblem::Dots)),
            ("./a", Err(PathProblem::Dots)),
            ("a//b", Err(PathProblem::EmptyComponent)),
            ("a/", Err(PathProblem::EmptyComponent)),
            ("a\0b", Err(PathProblem::Control)),
            ("a\nb", Err(PathProblem::Control)),
            ("a\\..\\b", Err(PathProblem::Backslash)),
            ("{mailbox}", Err(PathProblem::Template)),
        ] {
            assert_eq!(relative_path(text), expected.map(PathBuf::from), "{text:?}");
        }
        assert_eq!(relative_path(&"a".repeat(256)), Err(PathProblem::TooLong));
        assert_eq!(relative_path(&"a/".repeat(1_000_000)), Err(PathProblem::TooLong));
    }

    #[test]
    fn an_excerpt_is_short_and_without_control_characters() {
        let shown = Excerpt(&format!("a\u{1b}[31m{}", "é".repeat(1_000_000))).to_string();
        assert!(shown.chars().count() <= EXCERPT + 3 && !shown.contains('\u{1b}'), "{shown}");
        assert_eq!(Excerpt("5 m").to_string(), "\"5 m\"");
    }
}

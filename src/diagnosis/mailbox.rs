//! What a failed session with a mailbox means. Exchange says little, and the same words for several causes; where it was said, and whether
//! the mailbox worked before, tell more than the words. Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::{BACK_OFF, Context, Meaning, MissingFolder, Reason, Retry, SLOWLY, Saying};
use crate::source::{Error, Refusal, Step};

/// Hints beyond are not believed: the longest seen is 299,961 ms.
const LONGEST_HINT: Duration = Duration::from_secs(60 * 60);

pub(super) fn failed<'a>(error: &'a Error, context: &Context<'_>) -> Meaning<'a> {
    let connection = |saying| Meaning { reason: Reason::ConnectionFailed, saying, retry: BACK_OFF };
    match error {
        Error::Connection { step, text } => connection(match step {
            Step::Connect => Saying::MailboxUnreachable { text },
            Step::Tls => Saying::TlsFailed { text },
            Step::Greeting | Step::Authenticate | Step::Probe | Step::Open | Step::List | Step::Fetch | Step::Wait => {
                Saying::ConnectionBroke { text }
            }
        }),
        Error::Timeout(_) => connection(Saying::NoAnswerInTime),
        Error::Closed(_) => connection(Saying::ServerClosed),
        Error::Refused { step, refusal, code, text } => refused(*step, *refusal, code.as_deref(), text, context),
        Error::Protocol { step: _, what } => connection(Saying::NotUnderstood { what }),
        Error::HalfUsed => connection(Saying::SessionGivenUp),
        Error::Stopped => Meaning { reason: Reason::SinkUnavailable, saying: Saying::SinksTakeNoMore, retry: BACK_OFF },
    }
}

fn refused<'a>(step: Step, refusal: Refusal, code: Option<&str>, text: &'a str, context: &Context<'_>) -> Meaning<'a> {
    // These words mean the same wherever they are said.
    if let Some(Throttle { wait }) = throttle(text) {
        return Meaning { reason: Reason::Throttled, saying: Saying::Throttled { wait }, retry: Retry::BackOff { at_least: wait } };
    }
    let says = |words: &str| text.to_ascii_lowercase().contains(words);
    let passing = Meaning { reason: Reason::ConnectionFailed, saying: Saying::ServerRefused { text }, retry: BACK_OFF };
    if says("accesstokenexpired") {
        return Meaning { reason: Reason::ConnectionFailed, saying: Saying::TokenRanOut, retry: Retry::AtOnce };
    }
    if says("authenticated but not connected") {
        return unless_it_worked(context, Reason::AccessMissingOrProtocolDisabled, Saying::AccessMissing);
    }
    if is_incident(code, text) {
        return passing;
    }
    match (step, refusal) {
        (Step::Authenticate, Refusal::No) if context.role.starts_with("POP.") => {
            unless_it_worked(context, Reason::AuthenticationRefused, Saying::PopRefused)
        }
        (Step::Authenticate, Refusal::No) => unless_it_worked(context, Reason::ServicePrincipalNotRegistered, Saying::AppUnknownToExchange),
        (Step::Open, Refusal::No) if is_missing(code, text) && !context.folder.eq_ignore_ascii_case("INBOX") => folders_missing(&[]),
        // A BAD is our own mistake or the server's: whatever it is, it is not the set-up (Exchange: "Command Argument Error. 11").
        (Step::Authenticate, Refusal::Bad | Refusal::Bye)
        | (Step::Open, Refusal::No | Refusal::Bad | Refusal::Bye)
        | (
            Step::Connect | Step::Tls | Step::Greeting | Step::Probe | Step::List | Step::Fetch | Step::Wait,
            Refusal::No | Refusal::Bad | Refusal::Bye,
        ) => passing,
    }
}

/// Without any, it is the folder at work.
pub(super) fn folders_missing(missing: &[MissingFolder]) -> Meaning<'_> {
    let retry = Retry::Slow { every: Duration::from_secs(15 * 60) };
    Meaning { reason: Reason::FolderNotFound, saying: Saying::FoldersMissing { missing }, retry }
}

/// A mailbox that worked refuses because of an incident or a lost right; one that never did, because of a step that was missed. Exchange says
/// the same in both cases.
fn unless_it_worked<'a>(context: &Context<'_>, reason: Reason, saying: Saying<'a>) -> Meaning<'a> {
    if context.worked_before {
        Meaning { reason: Reason::RefusedAfterSuccess, saying: Saying::RefusedAfterSuccess, retry: BACK_OFF }
    } else {
        Meaning { reason, saying, retry: SLOWLY }
    }
}

/// Whether a refusal tells of the server's own trouble (RFC 5530 section 3, and Exchange's words), whatever was asked of it.
pub fn is_incident(code: Option<&str>, text: &str) -> bool {
    matches!(code, Some("UNAVAILABLE" | "SERVERBUG" | "INUSE" | "LIMIT" | "CONTACTADMIN"))
        || text.to_ascii_lowercase().contains("server unavailable")
        || throttle(text).is_some()
}

/// Whether a refusal to open a folder says that it is not there (RFC 5530 section 3, and servers' words).
pub fn is_missing(code: Option<&str>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(code, Some("NONEXISTENT" | "TRYCREATE")) || ["exist", "not found", "no such"].iter().any(|words| text.contains(words))
}

/// A server's wish to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// For how long, 1 s to 1 h; `None` where it did not say.
    pub wait: Option<Duration>,
}

/// Reads `Request is throttled. Suggested Backoff Time: 92415 milliseconds`, which Exchange sends in NO, BAD and BYE alike; `None` for any
/// other text.
pub fn throttle(text: &str) -> Option<Throttle> {
    let text = text.to_ascii_lowercase();
    let hint = text.split_once("suggested backoff time:").map(|(_, rest)| rest.trim_start());
    if hint.is_none() && !text.contains("request is throttled") {
        return None;
    }
    let digits = hint.and_then(|rest| rest.split(|character: char| !character.is_ascii_digit()).next());
    let wait = digits.filter(|digits| !digits.is_empty()).map(|digits| {
        // A number too large for u64 is as good as the cap.
        Duration::from_millis(digits.parse().unwrap_or(u64::MAX)).clamp(Duration::from_secs(1), LONGEST_HINT)
    });
    Some(Throttle { wait })
}

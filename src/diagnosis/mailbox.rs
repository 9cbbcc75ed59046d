//! What a failed session with a mailbox means. Exchange says little, and the same words for several causes; where it was said, and whether
//! the mailbox worked before, tell more than the words. Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use super::saying::Saying;
use super::throttle::{Throttle, throttle};
use super::{Context, ImapProbe, Others};
use crate::source::{Error, Refusal, Step};

pub(super) fn failed<'a>(error: &'a Error, context: &Context<'a>) -> Saying<'a> {
    match error {
        Error::Connection { step, text } => match step {
            Step::Connect => Saying::MailboxUnreachable { text },
            Step::Tls => Saying::TlsFailed { text },
            Step::Greeting | Step::Authenticate | Step::Probe | Step::Open | Step::List | Step::Fetch | Step::Settle | Step::Wait => {
                Saying::ConnectionBroke { text }
            }
        },
        Error::Timeout(_) => Saying::NoAnswerInTime,
        Error::Closed(_) => Saying::ServerClosed,
        Error::Refused { step, refusal, code, text } => refused(*step, *refusal, code.as_deref(), text, context),
        Error::Protocol { step: _, what } => Saying::NotUnderstood { what },
        Error::ReadOnly => Saying::FolderReadOnly,
        Error::Unsupported(extension) => Saying::SettlingUnsupported { extension: *extension },
        Error::HalfUsed => Saying::SessionGivenUp,
        Error::Stopped => Saying::SinksTakeNoMore,
    }
}

fn refused<'a>(step: Step, refusal: Refusal, code: Option<&str>, text: &'a str, context: &Context<'a>) -> Saying<'a> {
    // These words mean the same wherever they are said.
    if let Some(Throttle { wait }) = throttle(text) {
        return Saying::Throttled { wait };
    }
    let says = |words: &str| text.to_ascii_lowercase().contains(words);
    if says("accesstokenexpired") {
        return Saying::TokenRanOut;
    }
    if says("authenticated but not connected") {
        return unless_it_worked(context, Saying::AccessMissing);
    }
    if code == Some("IN-USE") {
        return Saying::MailboxInUse { text };
    }
    if is_incident(code, text) {
        return Saying::ServerRefused { text };
    }
    if says("command argument error") || code == Some("BADCHARSET") || says("charset is not supported") {
        return Saying::CommandRefused { text };
    }
    match (step, refusal) {
        (Step::Authenticate, Refusal::No | Refusal::Bye) if context.role.starts_with("POP.") && says("protocol error") => {
            Saying::PopTokenRefused { bytes: context.known.token_bytes }
        }
        (Step::Authenticate, Refusal::No) => unless_it_worked(context, log_in_refused(context)),
        (Step::Open, Refusal::No) if is_missing(code, text) && !context.folder.eq_ignore_ascii_case("INBOX") => {
            Saying::FoldersMissing { missing: &[] }
        }
        // Nobody here makes folders: a wrong name must not become a folder full of mail.
        (Step::Settle, Refusal::No) if is_missing(code, text) => Saying::TargetMissing,
        // A BAD is our own mistake or the server's: whatever it is, it is not the set-up.
        (Step::Authenticate, Refusal::Bad | Refusal::Bye)
        | (Step::Open, Refusal::No | Refusal::Bad | Refusal::Bye)
        | (
            Step::Connect | Step::Tls | Step::Greeting | Step::Probe | Step::List | Step::Fetch | Step::Settle | Step::Wait,
            Refusal::No | Refusal::Bad | Refusal::Bye,
        ) => Saying::ServerRefused { text },
    }
}

/// Exchange refuses every log-in with the same words; what is known besides tells the causes apart.
fn log_in_refused<'a>(context: &Context<'a>) -> Saying<'a> {
    let known = &context.known;
    if let Some((token, mailbox)) = known.tenants.filter(|(token, mailbox)| !token.eq_ignore_ascii_case(mailbox)) {
        return Saying::MailboxOfAnotherTenant { token, mailbox };
    }
    if !context.role.starts_with("POP.") {
        return match known.others {
            Others::Work(works) => Saying::OnlyThisMailboxRefused { works },
            Others::Unknown | Others::AllRefused => Saying::AppUnknownToExchange,
        };
    }
    match known.imap_probe {
        Some(ImapProbe::Opens) => Saying::PopOff,
        Some(ImapProbe::LogInRefused) => Saying::AppUnknownToExchange,
        Some(ImapProbe::NotConnected) => Saying::AccessMissing,
        None => Saying::PopRefused,
    }
}

/// A mailbox that worked refuses because of an incident or a lost right; one that never did, because of a step that was missed. Exchange says
/// the same in both cases.
fn unless_it_worked<'a>(context: &Context<'_>, saying: Saying<'a>) -> Saying<'a> {
    match (context.worked_before, context.known.others) {
        (false, _) => saying,
        (true, Others::AllRefused) => Saying::AllRefused,
        (true, Others::Unknown | Others::Work(_)) => Saying::RefusedAfterSuccess,
    }
}

/// Whether a refusal tells of the server's own trouble (RFC 5530 section 3, RFC 2449 section 8, RFC 3206, and Exchange's words), whatever was asked of it.
pub fn is_incident(code: Option<&str>, text: &str) -> bool {
    matches!(code, Some("UNAVAILABLE" | "SERVERBUG" | "INUSE" | "LIMIT" | "CONTACTADMIN" | "IN-USE" | "LOGIN-DELAY" | "SYS/TEMP"))
        || text.to_ascii_lowercase().contains("server unavailable")
        || throttle(text).is_some()
}

/// Whether a refusal to open a folder says that it is not there (RFC 5530 section 3, and servers' words).
pub fn is_missing(code: Option<&str>, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(code, Some("NONEXISTENT" | "TRYCREATE")) || ["exist", "not found", "no such"].iter().any(|words| text.contains(words))
}

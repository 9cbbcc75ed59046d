//! Facts → reason, set-up step, remedy, retry: the only place where a server's text gets a meaning. Pure: no I/O, no clock.
//!
//! Every step that an administrator performs can be missed alone; the rules here say which one it was. They first find a meaning (which
//! holds no prose), then `english` puts it into words with the ids filled in; another language stands beside it.
//!
//! Messages are stable: the same trouble gives the same text at each attempt, for every change of it is a write of status.
#![deny(clippy::wildcard_enum_match_arm)]

mod english;
mod mailbox;
mod reason;
mod sink;
mod token;

use std::time::Duration;

pub use mailbox::{Throttle, is_incident, is_missing, throttle};
pub use reason::{Reason, Status};
pub use token::check_claims;

/// Which condition a diagnosis speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// `Ready`.
    Ready,
    /// `Accepted`.
    Accepted,
    /// `TokenHealthy`.
    TokenHealthy,
    /// `MailboxAccessible`.
    MailboxAccessible,
    /// `SinkReady`.
    SinkReady,
    /// `CredentialExpiring`.
    CredentialExpiring,
    /// `QuarantineNotEmpty`.
    QuarantineNotEmpty,
    /// `Reconciling`.
    Reconciling,
    /// `Stalled`: bears the reason of the stage that failed.
    Stalled,
}

impl Condition {
    /// As in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Accepted => "Accepted",
            Self::TokenHealthy => "TokenHealthy",
            Self::MailboxAccessible => "MailboxAccessible",
            Self::SinkReady => "SinkReady",
            Self::CredentialExpiring => "CredentialExpiring",
            Self::QuarantineNotEmpty => "QuarantineNotEmpty",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Exponential back-off (5 s to 5 min), not before the hint.
    BackOff {
        /// The server's hint.
        at_least: Option<Duration>,
    },
    /// A person must act: slowly, within the bounds, whatever was tried before.
    Slow {
        /// Usual pause.
        every: Duration,
    },
    /// At once: nothing is wrong (a token ran out in a session).
    AtOnce,
}

/// The meaning of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The condition.
    pub condition: Condition,
    /// The reason, as in `status` (design: they are API).
    pub reason: Reason,
    /// What to tell a person, with the remedy filled in; at most [`LONGEST_MESSAGE`] bytes.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

/// Longest message of a diagnosis, in bytes; a condition takes 32 KiB, a whole status 8.
pub const LONGEST_MESSAGE: usize = 1_024;

/// A folder of the order that the mailbox does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingFolder {
    /// Its name in the order.
    pub name: String,
    /// Names that exist, the most similar first.
    pub nearest: Vec<String>,
}

/// What went wrong: the facts of the stage in which it did.
#[derive(Clone, Copy, Debug)]
pub enum Failure<'a> {
    /// No token.
    Token(&'a crate::entra::Error),
    /// A token for which [`check_claims`] is false.
    Claims(&'a crate::entra::Claims),
    /// A session with the mailbox failed.
    Source(&'a crate::source::Error),
    /// A sink deferred or rejected.
    Sink(&'a crate::sink::Error),
    /// Folders of the order that are not there.
    Folders(&'a [MissingFolder]),
    /// A bound of the cursor is reached.
    Full(crate::cursor::Full),
    /// The stored cursor cannot be read; the text is its store's.
    Unreadable(&'a str),
}

/// What the remedy needs to know besides. Nothing here is secret.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The mailbox, an address.
    pub mailbox: &'a str,
    /// The application permission that the protocol needs: `IMAP.AccessAsApp` or `POP.AccessAsApp`.
    pub role: &'a str,
    /// Directory (tenant) id or domain.
    pub tenant_id: &'a str,
    /// Application (client) id.
    pub client_id: &'a str,
    /// The enterprise application's object id: the token's `oid`, where a token was readable.
    pub object_id: Option<&'a str>,
    /// The Secret's name.
    pub credential_name: &'a str,
    /// The secret's value has the form of a GUID: ids have it, values never.
    pub secret_looks_like_guid: bool,
    /// This mailbox was collected from before, with this client id.
    pub worked_before: bool,
    /// The folder at work, UTF-8.
    pub folder: &'a str,
    /// Where tokens come from, a URL.
    pub authority: &'a str,
    /// Where the mailbox is, host and port.
    pub imap_host: &'a str,
}

/// What a failure means: the reason, what there is to say, and when to try again.
struct Meaning<'a> {
    reason: Reason,
    saying: Saying<'a>,
    retry: Retry,
}

/// What there is to tell a person; the words are another module's.
enum Saying<'a> {
    EntraUnreachable { text: &'a str },
    EntraBusy { status: u16 },
    EntraOdd { what: &'a str },
    EntraUnknownRefusal { status: u16, error: &'a str, text: &'a str },
    TenantUnknown,
    AppUnknown,
    EnterpriseApplicationMissing,
    SecretIdStored,
    SecretWrong,
    SecretExpired,
    SecretEmpty,
    PublicClient,
    CertificateUnknown,
    AssertionOutOfTime,
    FederatedMismatch,
    ScopeRefused,
    ExchangeUnknownInTenant,
    AppDisabled,
    ConditionalAccess,
    TokenForAnotherApi { audience: &'a str },
    DelegatedToken,
    NoRoles,
    OtherRoles { roles: &'a [String] },
    AppUnknownToExchange,
    PopRefused,
    AccessMissing,
    RefusedAfterSuccess,
    Throttled { wait: Option<Duration> },
    TokenRanOut,
    FoldersMissing { missing: &'a [MissingFolder] },
    MailboxUnreachable { text: &'a str },
    TlsFailed { text: &'a str },
    ConnectionBroke { text: &'a str },
    NoAnswerInTime,
    ServerClosed,
    ServerRefused { text: &'a str },
    NotUnderstood { what: &'a str },
    SessionGivenUp,
    SinksTakeNoMore,
    SinkFull { path: &'a str },
    SinkReadOnly { path: &'a str },
    SinkForbidden { path: &'a str },
    SinkNotADirectory { path: &'a str },
    SinkFailed { operation: &'a str, path: &'a str, text: String },
    SinkCrowded { path: &'a str, limit: usize },
    SinkGone,
    SinkSlow,
    CursorFull(crate::cursor::Full),
    CursorUnreadable { text: &'a str },
}

/// Says what `failure` means. Total: each fact that a stage can report has a meaning.
pub fn diagnose(failure: &Failure<'_>, context: &Context<'_>) -> Diagnosis {
    let Meaning { reason, saying, retry } = match *failure {
        Failure::Token(error) => token::refused(error, context),
        Failure::Claims(claims) => token::claims(claims, context),
        Failure::Source(error) => mailbox::failed(error, context),
        Failure::Sink(error) => sink::failed(error),
        Failure::Folders(missing) => mailbox::folders_missing(missing),
        Failure::Full(full) => Meaning { reason: Reason::QuarantineFull, saying: Saying::CursorFull(full), retry: SLOWLY },
        Failure::Unreadable(text) => Meaning { reason: Reason::CursorUnreadable, saying: Saying::CursorUnreadable { text }, retry: SLOWLY },
    };
    let condition = match *failure {
        Failure::Token(_) | Failure::Claims(_) => Condition::TokenHealthy,
        // The session's last word may be that the sinks stopped it.
        Failure::Source(_) if reason == Reason::SinkUnavailable => Condition::SinkReady,
        Failure::Source(_) | Failure::Folders(_) => Condition::MailboxAccessible,
        Failure::Sink(_) => Condition::SinkReady,
        Failure::Full(_) | Failure::Unreadable(_) => Condition::Ready,
    };
    Diagnosis { condition, reason, message: bounded(&english::text(&saying, context), LONGEST_MESSAGE), retry }
}

/// Waits for a person; several things in Entra and Exchange take minutes to spread anyway.
const SLOWLY: Retry = Retry::Slow { every: Duration::from_secs(5 * 60) };
const BACK_OFF: Retry = Retry::BackOff { at_least: None };

/// The first `longest` bytes, cut at a character, without control characters.
fn bounded(text: &str, longest: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(longest));
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > longest {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests;

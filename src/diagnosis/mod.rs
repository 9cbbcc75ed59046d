//! Facts → reason, set-up step, remedy, retry: the only place where a server's text gets a meaning. Pure: no I/O, no clock.
//!
//! Every step that an administrator performs can be missed alone; the rules here say which one it was. They first find a meaning (which
//! holds no prose), `table` says what follows from it, then `english` or `french` puts it into words with the ids filled in.
//!
//! Messages are stable: the same trouble gives the same text at each attempt, for every change of it is a write of status.
#![deny(clippy::wildcard_enum_match_arm)]

mod english;
mod french;
mod mailbox;
mod reason;
pub mod reference;
mod saying;
mod sink;
mod step;
mod table;
mod throttle;
mod token;
mod words;

use std::time::Duration;

pub use mailbox::{is_incident, is_missing};
pub use reason::{Reason, Status};
pub use step::SetupStep;
pub use table::Confidence;
pub use throttle::{Throttle, throttle};
pub use token::check_claims;
pub use words::shell;

use saying::Saying;
use table::Row;
use words::bounded;

/// The language of messages to a person. What `status`, Events and logs say is English.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// French, with the portal's own French labels.
    Fr,
}

impl Language {
    /// One of two texts.
    pub fn choose<T>(self, english: T, french: T) -> T {
        match self {
            Self::En => english,
            Self::Fr => french,
        }
    }
}

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
    /// All of them, in the order of the stages.
    pub const ALL: [Self; 9] = [
        Self::Ready,
        Self::Accepted,
        Self::TokenHealthy,
        Self::MailboxAccessible,
        Self::SinkReady,
        Self::CredentialExpiring,
        Self::QuarantineNotEmpty,
        Self::Reconciling,
        Self::Stalled,
    ];

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
    Sink {
        /// Its name in the spec.
        name: &'a str,
        /// What happened.
        error: &'a crate::sink::Error,
    },
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
    /// The folder at work, UTF-8; after [`crate::source::Step::Settle`] the one that messages are moved to.
    pub folder: &'a str,
    /// Where tokens come from, a URL.
    pub authority: &'a str,
    /// Where the mailbox is, host and port.
    pub imap_host: &'a str,
    /// What is known besides, from elsewhere.
    pub known: Known<'a>,
}

/// Facts that tell causes apart which look the same to one session. All of them may be unknown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// How other mailboxes of the same app fare.
    pub others: Others<'a>,
    /// The tenant of the token and that of the mailbox's domain, both as ids.
    pub tenants: Option<(&'a str, &'a str)>,
    /// What IMAP says with the same token, while POP3 is at work.
    pub imap_probe: Option<ImapProbe>,
    /// Length of the token in bytes.
    pub token_bytes: Option<usize>,
}

/// How other mailboxes of the same app fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Others<'a> {
    /// Nothing is known of them.
    #[default]
    Unknown,
    /// Another one works; its address, where it may be told (same namespace).
    Work(Option<&'a str>),
    /// Several that worked are refused at the same time, and none works.
    AllRefused,
}

/// What IMAP says of a mailbox that POP3 refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImapProbe {
    /// It opens the mailbox.
    Opens,
    /// It refuses the log-in.
    LogInRefused,
    /// It takes the log-in, and refuses the mailbox.
    NotConnected,
}

/// A diagnosis with what only a person setting up wants to know: the step, how sure it is, and the words in their language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The diagnosis, its message in the language asked for.
    pub diagnosis: Diagnosis,
    /// Where in the set-up it shows; `None` for what is no part of it.
    pub step: Option<SetupStep>,
    /// How sure it is.
    pub confidence: Confidence,
}

/// Says what `failure` means, in English, as `status` and logs have it. Total: each fact that a stage can report has a meaning.
pub fn diagnose(failure: &Failure<'_>, context: &Context<'_>) -> Diagnosis {
    find(failure, context, Language::En).diagnosis
}

/// [`diagnose`] in `language`, with the step and how sure it is.
pub fn find(failure: &Failure<'_>, context: &Context<'_>, language: Language) -> Finding {
    let saying = match *failure {
        Failure::Token(error) => token::refused(error, context),
        Failure::Claims(claims) => token::claims(claims, context),
        Failure::Source(error) => mailbox::failed(error, context),
        Failure::Sink { error, .. } => sink::failed(error),
        Failure::Folders(missing) => Saying::FoldersMissing { missing },
        Failure::Full(full) => Saying::CursorFull { full },
        Failure::Unreadable(text) => Saying::CursorUnreadable { text },
    };
    let Row { number: _, reason, confidence, step, retry } = table::row(&saying);
    let condition = match *failure {
        Failure::Token(_) | Failure::Claims(_) => Condition::TokenHealthy,
        // The session's last word may be that the sinks stopped it.
        Failure::Source(_) if reason == Reason::SinkUnavailable => Condition::SinkReady,
        Failure::Source(_) | Failure::Folders(_) => Condition::MailboxAccessible,
        Failure::Sink { .. } => Condition::SinkReady,
        Failure::Full(crate::cursor::Full::Names) => Condition::MailboxAccessible,
        Failure::Full(_) | Failure::Unreadable(_) => Condition::Ready,
    };
    let message = text(&saying, context, language);
    let message = match (*failure, language) {
        (Failure::Sink { name, .. }, Language::En) => format!("Sink {name}: {message}"),
        (Failure::Sink { name, .. }, Language::Fr) => format!("Destination {name} : {message}"),
        _ => message,
    };
    let message = bounded(&message, LONGEST_MESSAGE);
    Finding { diagnosis: Diagnosis { condition, reason, message, retry }, step, confidence }
}

fn text(saying: &Saying<'_>, context: &Context<'_>, language: Language) -> String {
    match language {
        Language::En => english::text(saying, context),
        Language::Fr => french::text(saying, context),
    }
}

#[cfg(test)]
mod tests;

//! Why a resource is not accepted, in words that name the field, the problem and the way out. Pure: no I/O, no clock.

use super::{KeyProblem, create_command, missing_secret};
use crate::diagnosis::Reason;

/// Why a resource is not accepted: the field, what is wrong with it, the way out. Holds at most the first 60 characters of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value is wrong.
    #[error("{field}: {problem}; {way_out}")]
    Field {
        /// Path of the field, as in `spec.interval`.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        way_out: &'static str,
    },
    /// The field is part of the API and nothing does its work yet.
    #[error("{field}: not built yet in this version; {way_out}")]
    NotBuilt {
        /// Path of the field.
        field: String,
        /// What to write instead.
        way_out: &'static str,
    },
    /// The operator's flags do not allow this sink.
    #[error("{field}: this operator was started without --file-sink-root, so it writes no files; whoever installed it must set that flag")]
    FileSinkNotEnabled {
        /// Path of the field.
        field: String,
    },
    /// An older collector overlaps with this one in mailbox and folder, and one of the two settles.
    #[error(
        "spec.mailbox: {} collects the same folder of this mailbox, and {} moves, marks or deletes what it has collected; write \
         afterDelivery: {{action: Keep}} in both, or collect other folders, or remove one of them",
        other.as_ref().map_or_else(|| "an older MailboxCollector of another namespace".to_owned(), |name| format!("the older MailboxCollector \"{name}\"")),
        if *settles { "it" } else { "this one" }
    )]
    MailboxConflict {
        /// Name of the older one, where it is of the same namespace.
        other: Option<String>,
        /// It is the older one that settles.
        settles: bool,
    },
    /// There is no such Secret.
    #[error("spec.credentials.secretRef: {}", missing_secret(secret))]
    SecretNotFound {
        /// Its name.
        secret: String,
    },
    /// The Secret is another program's credential.
    #[error(
        "spec.credentials.secretRef: Secret \"{secret}\" has the type {type_}, which is never read as a mail credential; make one of its own: {}",
        create_command(secret)
    )]
    SecretType {
        /// Its name.
        secret: String,
        /// Its type.
        type_: &'static str,
    },
    /// A key of the Secret is missing or wrong.
    #[error("Secret \"{secret}\": key {key} {problem}; it needs tenantId, clientId and clientSecret, as in: {}", create_command(secret))]
    SecretKey {
        /// The Secret's name.
        secret: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: KeyProblem,
    },
}

impl Error {
    /// The reason of `Accepted=False` (they are API).
    pub fn reason(&self) -> Reason {
        match self {
            Self::Field { .. } | Self::NotBuilt { .. } => Reason::InvalidSpec,
            Self::MailboxConflict { .. } => Reason::MailboxConflict,
            Self::FileSinkNotEnabled { .. } => Reason::SinkNotEnabled,
            Self::SecretNotFound { .. } => Reason::SecretNotFound,
            Self::SecretType { .. } => Reason::SecretNotOptedIn,
            Self::SecretKey { .. } => Reason::SecretKeyMissing,
        }
    }
}

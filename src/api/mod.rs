//! The three kinds of `mailbox-collector.io/v1alpha1`: serde, schema and rules between fields, nothing else.
//! Whatever has a grammar (duration, cron, URL, glob, time, address) is a `String` here and is parsed in `controller/validate`,
//! so that an object which an older schema admitted still deserialises and one bad object never blinds a watch.
//! Defaults are applied there too: a default in a schema is written into users' objects and shows up as drift in their Git.
//! Doc comments on fields are the descriptions that `kubectl explain` shows.

mod app_registration;
mod collector;
mod common;
mod crds;
mod cursor;
mod reference;

pub use app_registration::{
    AppCredential, AppRegistration, AppRegistrationSpec, AppRegistrationStatus, CertificateCredential, ClientSecretCredential,
    WorkloadIdentityCredential,
};
pub use collector::{
    AfterDelivery, Credentials, FileSink, FolderSelection, ImapAppendSink, Limits, MailboxCollector, MailboxCollectorSpec,
    MailboxCollectorStatus, MessageCounts, MessageSelection, ObjectStoreSink, Sink, SmtpSink, WebhookSink,
};
pub use common::{LocalReference, SecretKeyReference, TokenStatus};
pub use crds::{crd_files, crds, crds_yaml};
pub use cursor::{Anchor, Baseline, CursorFolder, CursorHolder, MailboxCursor, MailboxCursorSpec, OwedMessage, QuarantinedMessage};
pub use reference::kinds_page;

/// API group of every kind here.
pub const GROUP: &str = "mailbox-collector.io";

/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";

/// Annotation: another value than before fetches at once; echoed in `status.lastHandledReconcileAt` (as Flux's `requestedAt`).
pub const REQUESTED_AT: &str = "mailbox-collector.io/requestedAt";

/// Annotation: an RFC 3339 time from which everything is collected again; valid only with an equal [`REQUESTED_AT`].
pub const RESYNC_FROM: &str = "mailbox-collector.io/resyncFrom";

/// Annotation: says that copies are accepted; needed beside [`RESYNC_FROM`] where a sink cannot recognise what it already has.
pub const RESYNC_CONFIRM: &str = "mailbox-collector.io/resyncConfirm";

/// Annotation: `folder/uid,…` of quarantined messages to try again; valid only with an equal [`REQUESTED_AT`].
pub const REPLAY: &str = "mailbox-collector.io/replay";

/// Annotation: `folder/uid,…` of quarantined messages to give up; valid only with an equal [`REQUESTED_AT`].
pub const DISCARD: &str = "mailbox-collector.io/discard";

/// Every annotation a collector's owner may set; a change of one of them is worth a reconciliation although the generation stays.
pub const ANNOTATIONS: [&str; 5] = [REQUESTED_AT, RESYNC_FROM, RESYNC_CONFIRM, REPLAY, DISCARD];

/// Label, with the value `true`, by which a Secret's owner allows sinks to use it: its content travels to a host of the tenant's choice.
pub const SINK_CREDENTIALS: &str = "mailbox-collector.io/sink-credentials";

/// The recommended label on what the operator creates; its value is [`MANAGED_BY_VALUE`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// See [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "mailbox-collector";

/// `spec.protocol`: IMAP, also when the field is absent.
pub const PROTOCOL_IMAP: &str = "IMAP";

/// `spec.protocol`: POP3.
pub const PROTOCOL_POP3: &str = "POP3";

#[cfg(test)]
mod tests;

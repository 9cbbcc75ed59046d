//! From a resource to a work order: every grammar, bound and rule between fields, and the defaults. Pure: no I/O, no clock.
//! The API server's schema says much of it too, but an object may be older than the schema, and the command line has no API server.
//! A field whose room is not built yet is refused by name, never ignored.

mod grammar;
mod secret;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::status::bounded;
use crate::api::{self, MailboxCollector, MailboxCollectorSpec};
use crate::collect::{Collector, CollectorId, NamedSink, SinkConfig};
use crate::diagnosis::Reason;

use grammar::{DurationProblem, Excerpt, PathProblem};
pub use secret::{CLIENT_ID, CLIENT_SECRET, CLOUD, KeyProblem, SECRET_EXPIRATION_TIME, SecretData, TENANT_ID};

/// `spec.interval` where it is absent.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Shortest `spec.interval`.
pub const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);
/// Longest `spec.interval`.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Longest message taken, in bytes: Exchange Online's upper limit of 150 MB for a mailbox (Microsoft: "Exchange Online limits").
pub const DEFAULT_MAX_MESSAGE_BYTES: u64 = 157_286_400;
/// Longest `requestedAt` annotation, in bytes; it is echoed in status.
pub const LONGEST_REQUEST: usize = 256;

const INBOX: &str = "INBOX";

/// What this process can do, from its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--file-sink-root` was given.
    pub file_sink: bool,
}

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
            Self::FileSinkNotEnabled { .. } => Reason::SinkNotEnabled,
            Self::SecretNotFound { .. } => Reason::SecretNotFound,
            Self::SecretType { .. } => Reason::SecretNotOptedIn,
            Self::SecretKey { .. } => Reason::SecretKeyMissing,
        }
    }
}

/// The command that makes a Secret with the right keys.
pub(super) fn create_command(secret: &str) -> String {
    format!("kubectl create secret generic {secret} --from-literal=tenantId=… --from-literal=clientId=… --from-literal=clientSecret=…")
}

/// What to say of a Secret that is not there.
pub(super) fn missing_secret(secret: &str) -> String {
    format!("there is no Secret \"{secret}\" in this namespace; make it: {}", create_command(secret))
}

/// The work order for an object from a file: `secret` finds the Secret that the object names. Objects from files have no `uid`; namespace, name
/// and mailbox stand in for it: the same file means the same collector tomorrow, and one whose mailbox was edited (which an API server would
/// refuse) means another.
pub fn from_files<'a>(
    object: &MailboxCollector,
    secret: impl FnOnce(&str) -> Option<&'a Secret>,
    options: &Options,
) -> Result<Collector, Error> {
    let name = spec(object, options)?.secret;
    let Some(secret) = secret(&name) else { return Err(Error::SecretNotFound { secret: name }) };
    let mut order = validate(object, &SecretData::from(secret.clone()), options)?;
    order.id.uid = format!("{}/{}/{}", order.id.namespace, order.id.name, order.mailbox);
    Ok(order)
}

/// The work order for `object`, whose credential is in `secret`.
pub fn validate(object: &MailboxCollector, secret: &SecretData, options: &Options) -> Result<Collector, Error> {
    let spec = spec(object, options)?;
    let name = || spec.secret.clone();
    if let Some(type_) = secret.refused_type() {
        return Err(Error::SecretType { secret: name(), type_ });
    }
    let credential =
        secret::credential(&spec.secret, secret).map_err(|(key, problem)| Error::SecretKey { secret: name(), key, problem })?;
    Ok(Collector {
        id: spec.id,
        generation: object.metadata.generation.unwrap_or_default(),
        mailbox: spec.mailbox,
        folders: vec![INBOX.to_owned()],
        credential: Arc::new(credential),
        interval: spec.interval,
        push: spec.push,
        max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
        sinks: spec.sinks,
        requested_at: spec.requested_at,
    })
}

/// The way out for an object that an older schema let in.
pub(super) const APPLY_AGAIN: &str =
    "an older schema let it in; correct it (kubectl explain mailboxcollector.spec) and apply the object again";

/// The field of `spec` for which an object as a whole cannot be read: the first that cannot be read alone.
pub(super) fn unreadable_field(object: &Value) -> Option<Error> {
    let Some(fields) = object.get("spec").and_then(Value::as_object) else {
        return Some(plainly_wrong("spec", "is missing or is not an object", APPLY_AGAIN));
    };
    let alone = fields.iter().find_map(|(name, value)| {
        // Complete but for this field.
        let mut alone = serde_json::Map::new();
        for (required, empty) in [("mailbox", json!("")), ("credentials", json!({})), ("sinks", json!([]))] {
            alone.insert(required.to_owned(), empty);
        }
        alone.insert(name.clone(), value.clone());
        let error = serde_json::from_value::<MailboxCollectorSpec>(Value::Object(alone)).err()?;
        Some(Error::Field { field: format!("spec.{}", bounded(name, 60)), problem: bounded(&error.to_string(), 200), way_out: APPLY_AGAIN })
    });
    // Each can be read, so one is missing.
    alone.or_else(|| {
        let error = serde_json::from_value::<MailboxCollectorSpec>(Value::Object(fields.clone())).err()?;
        Some(Error::Field { field: "spec".to_owned(), problem: bounded(&error.to_string(), 200), way_out: APPLY_AGAIN })
    })
}

/// What a resource says by itself, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which resource.
    pub id: CollectorId,
    /// The mailbox, lower case.
    pub mailbox: String,
    /// Name of the Secret that it refers to, in its namespace.
    pub secret: String,
    /// Longest time between two looks.
    pub interval: Duration,
    /// IDLE between looks.
    pub push: bool,
    /// Where mail goes.
    pub sinks: Vec<NamedSink>,
    /// Value of the `requestedAt` annotation.
    pub requested_at: Option<String>,
}

/// Everything that can be said of `object` without what it refers to.
pub fn spec(object: &MailboxCollector, options: &Options) -> Result<Spec, Error> {
    let spec = &object.spec;
    let id = id(object)?;
    let mailbox = grammar::mailbox(&spec.mailbox).ok_or_else(|| {
        wrong("spec.mailbox", Excerpt(&spec.mailbox), "is not a mailbox address", "write user@domain, for example invoices@contoso.com")
    })?;
    protocol(spec)?;
    let secret = secret_name(spec)?;
    folders(spec)?;
    let interval = interval(spec)?;
    beginning(spec)?;
    selection(spec)?;
    after_delivery(spec)?;
    let sinks = sinks(spec, &id.namespace, options)?;
    let requested_at = annotations(object)?;
    Ok(Spec { id, mailbox, secret, interval, push: spec.push.unwrap_or(true), sinks, requested_at })
}

fn wrong(field: &str, value: Excerpt<'_>, problem: impl std::fmt::Display, way_out: &'static str) -> Error {
    Error::Field { field: field.to_owned(), problem: format!("{value} {problem}"), way_out }
}

fn plainly_wrong(field: &str, problem: &str, way_out: &'static str) -> Error {
    Error::Field { field: field.to_owned(), problem: problem.to_owned(), way_out }
}

fn not_built(field: impl Into<String>, way_out: &'static str) -> Error {
    Error::NotBuilt { field: field.into(), way_out }
}

/// The API server guarantees these names; a YAML file does not, and the namespace becomes a directory.
fn id(object: &MailboxCollector) -> Result<CollectorId, Error> {
    let plain = |field: &'static str, value: &Option<String>| match value {
        Some(value) if grammar::is_object_name(value) => Ok(value.clone()),
        other => {
            let value = Excerpt(other.as_deref().unwrap_or_default());
            Err(wrong(field, value, "is not a Kubernetes name", "write lower-case letters, digits, \"-\" and \".\""))
        }
    };
    Ok(CollectorId {
        namespace: plain("metadata.namespace", &object.metadata.namespace)?,
        name: plain("metadata.name", &object.metadata.name)?,
        uid: object.metadata.uid.clone().unwrap_or_default(),
    })
}

fn protocol(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    match spec.protocol.as_deref() {
        None | Some(api::PROTOCOL_IMAP) => Ok(()),
        Some(api::PROTOCOL_POP3) => Err(not_built("spec.protocol: POP3", "write protocol: IMAP in a new MailboxCollector")),
        Some(other) => Err(wrong("spec.protocol", Excerpt(other), "is not a protocol", "write IMAP, or remove the field")),
    }
}

fn secret_name(spec: &MailboxCollectorSpec) -> Result<String, Error> {
    const WAY_OUT: &str = "write exactly one member, for example credentials: {secretRef: {name: azure-app}}";
    match (&spec.credentials.secret_ref, &spec.credentials.app_registration_ref) {
        (Some(secret), None) if grammar::is_object_name(&secret.name) => Ok(secret.name.clone()),
        (Some(secret), None) => Err(wrong(
            "spec.credentials.secretRef.name",
            Excerpt(&secret.name),
            "is not a Secret's name",
            "write the name of a Secret of this namespace",
        )),
        (None, Some(_)) => Err(not_built("spec.credentials.appRegistrationRef", "write credentials: {secretRef: {name: azure-app}}")),
        (Some(_), Some(_)) => Err(plainly_wrong("spec.credentials", "has both secretRef and appRegistrationRef", WAY_OUT)),
        (None, None) => Err(plainly_wrong("spec.credentials", "has neither secretRef nor appRegistrationRef", WAY_OUT)),
    }
}

fn folders(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    // INBOX is the one folder name without case (RFC 9051 section 5.1).
    match spec.folders.as_deref() {
        None | Some([]) => Ok(()),
        Some([only]) if only.name.eq_ignore_ascii_case(INBOX) => Ok(()),
        Some(_) => Err(not_built("spec.folders other than INBOX alone", "write folders: [{name: INBOX}], or remove the field")),
    }
}

fn interval(spec: &MailboxCollectorSpec) -> Result<Duration, Error> {
    const WAY_OUT: &str = "write a duration from 1m to 24h, for example 5m or 1h30m";
    if spec.schedule.is_some() {
        return Err(not_built("spec.schedule", "remove it and write interval, for example interval: 5m"));
    }
    if spec.time_zone.is_some() {
        return Err(not_built("spec.timeZone", "remove it"));
    }
    let Some(text) = &spec.interval else { return Ok(DEFAULT_INTERVAL) };
    grammar::duration(text, SHORTEST_INTERVAL, LONGEST_INTERVAL)
        .map_err(|problem: DurationProblem| wrong("spec.interval", Excerpt(text), problem, WAY_OUT))
}

fn beginning(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    match spec.start_from.as_deref() {
        None | Some("Beginning") => Ok(()),
        Some("Now") => Err(not_built("spec.startFrom: Now", "write startFrom: Beginning, or remove the field")),
        Some(other) => Err(wrong("spec.startFrom", Excerpt(other), "is not a beginning", "write Beginning, or remove the field")),
    }
}

fn selection(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    if spec.select.as_ref().is_some_and(|select| *select != api::MessageSelection::default()) {
        return Err(not_built("spec.select", "remove it; every message is taken"));
    }
    let most = spec.limits.as_ref().and_then(|limits| limits.max_message_bytes);
    if most.is_some_and(|most| u64::try_from(most) != Ok(DEFAULT_MAX_MESSAGE_BYTES)) {
        return Err(not_built("spec.limits.maxMessageBytes", "remove it; messages up to 157286400 bytes are taken"));
    }
    Ok(())
}

fn after_delivery(spec: &MailboxCollectorSpec) -> Result<(), Error> {
    const WAY_OUT: &str = "write afterDelivery: {action: Keep}, or remove the field";
    let Some(after) = &spec.after_delivery else { return Ok(()) };
    match (after.action.as_deref(), &after.folder) {
        (None | Some("Keep"), None) => Ok(()),
        (None | Some("Keep"), Some(_)) => Err(plainly_wrong("spec.afterDelivery.folder", "belongs to Move alone", WAY_OUT)),
        (Some(action @ ("MarkSeen" | "Move" | "Delete")), _) => Err(not_built(format!("spec.afterDelivery.action: {action}"), WAY_OUT)),
        (Some(other), _) => Err(wrong("spec.afterDelivery.action", Excerpt(other), "is not an action", WAY_OUT)),
    }
}

fn sinks(spec: &MailboxCollectorSpec, namespace: &str, options: &Options) -> Result<Vec<NamedSink>, Error> {
    const ONE_FILE: &str = "write one sink, for example sinks: [{name: drop, file: {path: invoices}}]";
    match spec.sinks.as_slice() {
        [] => Err(plainly_wrong("spec.sinks", "is empty", ONE_FILE)),
        [only] => Ok(vec![sink(only, namespace, options)?]),
        [_, _, ..] => Err(not_built("spec.sinks with more than one sink", ONE_FILE)),
    }
}

fn sink(sink: &api::Sink, namespace: &str, options: &Options) -> Result<NamedSink, Error> {
    const ONE_MEMBER: &str = "write exactly one member besides name, for example {name: drop, file: {path: invoices}}";
    if sink.name.is_empty() || sink.name.len() > 63 || !grammar::is_object_name(&sink.name) {
        return Err(wrong(
            "spec.sinks[0].name",
            Excerpt(&sink.name),
            "is not a name",
            "write lower-case letters, digits and \"-\", at most 63",
        ));
    }
    let others = [
        ("objectStore", sink.object_store.is_some()),
        ("webhook", sink.webhook.is_some()),
        ("smtp", sink.smtp.is_some()),
        ("lmtp", sink.lmtp.is_some()),
        ("imapAppend", sink.imap_append.is_some()),
    ];
    let given = others.iter().filter(|(_, given)| *given).count() + usize::from(sink.file.is_some());
    match (given, &sink.file) {
        (0, _) => Err(plainly_wrong("spec.sinks[0]", "has no member besides name", ONE_MEMBER)),
        (1, Some(file)) => file_sink(&sink.name, file, namespace, options),
        (1, None) => {
            let member = others.iter().find(|(_, given)| *given).map_or("", |(name, _)| *name);
            Err(not_built(format!("spec.sinks[0].{member}"), "write a file sink, for example {name: drop, file: {path: invoices}}"))
        }
        (_, _) => Err(plainly_wrong("spec.sinks[0]", "has more than one member besides name", ONE_MEMBER)),
    }
}

fn file_sink(name: &str, file: &api::FileSink, namespace: &str, options: &Options) -> Result<NamedSink, Error> {
    match file.format.as_deref() {
        None | Some("EML") => {}
        Some("Maildir") => return Err(not_built("spec.sinks[0].file.format: Maildir", "write format: EML, or remove the field")),
        Some(other) => {
            return Err(wrong("spec.sinks[0].file.format", Excerpt(other), "is not a format", "write format: EML, or remove the field"));
        }
    }
    let path = grammar::relative_path(&file.path).map_err(|problem: PathProblem| {
        wrong("spec.sinks[0].file.path", Excerpt(&file.path), problem, "write folder names separated by \"/\", for example invoices/2026")
    })?;
    if !options.file_sink {
        return Err(Error::FileSinkNotEnabled { field: "spec.sinks[0].file".to_owned() });
    }
    Ok(NamedSink { name: name.to_owned(), config: SinkConfig::File { directory: Path::new(namespace).join(path) } })
}

/// The `requestedAt` annotation; the other verbs are not built yet.
fn annotations(object: &MailboxCollector) -> Result<Option<String>, Error> {
    let annotation = |name: &str| object.metadata.annotations.as_ref().and_then(|all| all.get(name));
    for name in [api::RESYNC_FROM, api::REPLAY, api::DISCARD] {
        if annotation(name).is_some() {
            return Err(not_built(format!("metadata.annotations[{name}]"), "remove the annotation"));
        }
    }
    match annotation(api::REQUESTED_AT) {
        Some(value) if value.len() > LONGEST_REQUEST => {
            let field = format!("metadata.annotations[{}]", api::REQUESTED_AT);
            Err(wrong(&field, Excerpt(value), "is longer than 256 bytes", "write a short token, for example the time of day"))
        }
        other => Ok(other.cloned()),
    }
}

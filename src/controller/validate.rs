//! From a resource to a work order: every grammar, bound and rule between fields, and the defaults. Pure: no I/O, no clock.
//! The API server's schema says much of it too, but an object may be older than the schema, and the command line has no API server.
//! A field whose room is not built yet is refused by name, never ignored.

mod error;
mod grammar;
mod mail;
mod registration;
mod secret;
mod sinks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::status::bounded;
use crate::api::{self, AppRegistration, MailboxCollector, MailboxCollectorSpec};
use crate::collect::{Collector, CollectorId, NamedSink};
use crate::source::Settle;

pub use error::Error;
use grammar::Excerpt;
pub use registration::{Registration, registration};
pub use secret::{
    CERTIFICATE, CERTIFICATE_KEY, CLIENT_ID, CLIENT_SECRET, CLOUD, KeyProblem, SECRET_EXPIRATION_TIME, SecretData, TENANT_ID,
};

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
    /// Tokens of service accounts can be had: `--workload-identity`, or a token file.
    pub workload_identity: bool,
}

/// The command that makes a Secret with the right keys.
pub(super) fn create_command(secret: &str) -> String {
    format!("kubectl create secret generic {secret} --from-literal=tenantId=… --from-literal=clientId=… --from-literal=clientSecret=…")
}

/// What to say of a Secret that is not there.
pub(super) fn missing_secret(secret: &str) -> String {
    format!("there is no Secret \"{secret}\" in this namespace; make it: {}", create_command(secret))
}

/// The work order for an object from a file: `secret` and `app` find the Secret and the AppRegistration that are named. Objects from files have no `uid`; namespace, name
/// and mailbox stand in for it: the same file means the same collector tomorrow, and one whose mailbox was edited (which an API server would
/// refuse) means another.
pub fn from_files<'a>(
    object: &MailboxCollector,
    secret: impl Fn(&str) -> Option<&'a Secret>,
    app: impl FnOnce(&str) -> Option<&'a AppRegistration>,
    options: &Options,
) -> Result<Collector, Error> {
    let mut order = match spec(object, options)?.credentials {
        Credentials::Secret(name) => {
            let Some(secret) = secret(&name) else { return Err(Error::SecretNotFound { secret: name }) };
            validate(object, &SecretData::from(secret.clone()), options)?
        }
        Credentials::AppRegistration(name) => {
            let Some(app) = app(&name) else { return Err(Error::AppRegistrationNotFound { name }) };
            let registered = registration(app, options).map_err(|cause| Error::Registration { name, cause: Box::new(cause) })?;
            let data = registered.secret().and_then(|(name, key)| Some(SecretData::of(secret(name)?.clone(), key)));
            registered_order(object, &registered, data.as_ref(), options)?
        }
    };
    order.id.uid = format!("{}/{}/{}", order.id.namespace, order.id.name, order.mailbox);
    Ok(order)
}

/// The work order for `object`, whose credential is in `secret`.
pub fn validate(object: &MailboxCollector, secret: &SecretData, options: &Options) -> Result<Collector, Error> {
    let spec = spec(object, options)?;
    let Credentials::Secret(named) = &spec.credentials else {
        return Err(plainly_wrong("spec.credentials", "has no secretRef", "write credentials: {secretRef: {name: azure-app}}"));
    };
    let name = || named.clone();
    if let Some(type_) = secret.refused_type() {
        return Err(Error::SecretType { secret: name(), type_ });
    }
    let credential = secret::credential(named, secret).map_err(|(key, problem)| Error::SecretKey { secret: name(), key, problem })?;
    Ok(order(object, spec, credential))
}

/// The work order for `object`, whose credential is that of an AppRegistration; `secret` is the data of the Secret which that names.
///
/// # Errors
/// Whatever the object, the AppRegistration or the Secret lacks.
pub fn registered_order(
    object: &MailboxCollector,
    registration: &Registration,
    secret: Option<&SecretData>,
    options: &Options,
) -> Result<Collector, Error> {
    let spec = spec(object, options)?;
    let name = || registration.name.clone();
    if !registration.allows(&spec.mailbox) {
        return Err(Error::MailboxNotAllowed { name: name(), mailbox: spec.mailbox });
    }
    let credential = registration.credential(secret).map_err(|cause| Error::Registration { name: name(), cause: Box::new(cause) })?;
    Ok(order(object, spec, credential))
}

fn order(object: &MailboxCollector, spec: Spec, credential: crate::entra::Credential) -> Collector {
    Collector {
        id: spec.id,
        generation: object.metadata.generation.unwrap_or_default(),
        mailbox: spec.mailbox,
        folders: vec![INBOX.to_owned()],
        credential: Arc::new(credential),
        interval: spec.interval,
        push: spec.push,
        max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
        after_delivery: spec.after_delivery,
        sinks: spec.sinks,
        requested_at: spec.requested_at,
    }
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

/// Where a credential is, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// In a Secret.
    Secret(String),
    /// In an AppRegistration and what that refers to.
    AppRegistration(String),
}

/// What a resource says by itself, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which resource.
    pub id: CollectorId,
    /// The mailbox, lower case.
    pub mailbox: String,
    /// Where its credential is, in its namespace.
    pub credentials: Credentials,
    /// Longest time between two looks.
    pub interval: Duration,
    /// IDLE between looks.
    pub push: bool,
    /// What becomes of delivered messages; `None`: they are kept.
    pub after_delivery: Option<Settle>,
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
    mail::protocol(spec)?;
    let credentials = credentials(spec)?;
    mail::folders(spec)?;
    let interval = mail::interval(spec)?;
    mail::beginning(spec)?;
    mail::selection(spec)?;
    let after_delivery = mail::after_delivery(spec)?;
    let sinks = sinks::sinks(spec, &id.namespace, options)?;
    let requested_at = annotations(object)?;
    Ok(Spec { id, mailbox, credentials, interval, push: spec.push.unwrap_or(true), after_delivery, sinks, requested_at })
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

fn credentials(spec: &MailboxCollectorSpec) -> Result<Credentials, Error> {
    const WAY_OUT: &str = "write exactly one member, for example credentials: {secretRef: {name: azure-app}}";
    match (&spec.credentials.secret_ref, &spec.credentials.app_registration_ref) {
        (Some(secret), None) if grammar::is_object_name(&secret.name) => Ok(Credentials::Secret(secret.name.clone())),
        (Some(secret), None) => Err(wrong(
            "spec.credentials.secretRef.name",
            Excerpt(&secret.name),
            "is not a Secret's name",
            "write the name of a Secret of this namespace",
        )),
        (None, Some(app)) if grammar::is_object_name(&app.name) => Ok(Credentials::AppRegistration(app.name.clone())),
        (None, Some(app)) => Err(wrong(
            "spec.credentials.appRegistrationRef.name",
            Excerpt(&app.name),
            "is not an AppRegistration's name",
            "write the name of an AppRegistration of this namespace",
        )),
        (Some(_), Some(_)) => Err(plainly_wrong("spec.credentials", "has both secretRef and appRegistrationRef", WAY_OUT)),
        (None, None) => Err(plainly_wrong("spec.credentials", "has neither secretRef nor appRegistrationRef", WAY_OUT)),
    }
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

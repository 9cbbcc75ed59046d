//! The data of a Secret that holds an app's credential, and what must be in it. Pure: no I/O, no clock.
//! Knows nothing of where Secrets come from; holds nothing of a Secret beyond the keys that it reads and the names of a few others.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::grammar;
use crate::entra::{Certificate, Cloud, Credential, Part, Problem, Proof};

/// Directory (tenant) id, or a verified domain.
pub const TENANT_ID: &str = "tenantId";
/// Application (client) id.
pub const CLIENT_ID: &str = "clientId";
/// The client secret's value.
pub const CLIENT_SECRET: &str = "clientSecret";
/// A certificate in PEM, instead of the client secret.
pub const CERTIFICATE: &str = "tls.crt";
/// The certificate's private key in PEM.
pub const CERTIFICATE_KEY: &str = "tls.key";
/// Optional: `Public`, `USGovernment`, `USGovernmentDoD` or `China`.
pub const CLOUD: &str = "cloud";
/// Optional: when the client secret ends, RFC 3339.
pub const SECRET_EXPIRATION_TIME: &str = "secretExpirationTime";

const KEYS: [&str; 7] = [TENANT_ID, CLIENT_ID, CLIENT_SECRET, CERTIFICATE, CERTIFICATE_KEY, CLOUD, SECRET_EXPIRATION_TIME];

/// Longest client secret, in bytes; real ones have some 40.
const LONGEST_SECRET: usize = 1_024;
/// Longest PEM text, in bytes; a chain of a few certificates has some 10,000.
const LONGEST_PEM: usize = 64 * 1_024;

/// Types whose holders are other programs' credentials (law 11): a collector must not be the way to send them out.
const REFUSED_TYPES: [&str; 3] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];

/// How many other keys' names are kept, for the hint at a key that is spelt differently.
const OTHER_KEYS: usize = 32;

/// What is kept of a Secret: its type, the values of the keys that are read, the names of some others. Values never appear in `Debug`.
#[derive(Clone)]
pub struct SecretData {
    type_: String,
    values: BTreeMap<String, SecretSlice<u8>>,
    other_keys: Vec<String>,
    certificate: OnceLock<Result<Arc<Certificate>, (Part, Problem)>>,
}

impl SecretData {
    /// From a Secret's `type` (empty: `Opaque`) and its decoded `data`.
    pub fn new(type_: &str, data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self::with_key(type_, data, None)
    }

    /// The same, reading one more key: an AppRegistration may name the key of its client secret.
    pub fn with_key(type_: &str, data: impl IntoIterator<Item = (String, Vec<u8>)>, key: Option<&str>) -> Self {
        let mut values = BTreeMap::new();
        let mut other_keys = Vec::new();
        for (name, value) in data {
            match KEYS.iter().copied().chain(key).find(|known| **known == name) {
                Some(_) => {
                    values.insert(name, SecretSlice::from(value));
                }
                None if other_keys.len() < OTHER_KEYS && name.len() <= 64 => other_keys.push(name),
                None => {}
            }
        }
        Self { type_: type_.to_owned(), values, other_keys, certificate: OnceLock::new() }
    }

    /// Of a Secret; `key` is read besides the usual ones.
    pub fn of(secret: Secret, key: Option<&str>) -> Self {
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Self::with_key(secret.type_.as_deref().unwrap_or_default(), data, key)
    }

    /// The Secret's type, where it is one that is never read as a credential.
    pub(super) fn refused_type(&self) -> Option<&'static str> {
        REFUSED_TYPES.into_iter().find(|refused| *refused == self.type_)
    }

    /// A key that was probably meant for `key`.
    fn similar(&self, key: &str) -> Option<String> {
        let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        let wanted = plain(key);
        self.other_keys.iter().find(|other| plain(other).ends_with(&wanted)).cloned()
    }
}

impl From<Secret> for SecretData {
    fn from(secret: Secret) -> Self {
        Self::of(secret, None)
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretData").field("type", &self.type_).field("keys", &self.values.keys()).finish_non_exhaustive()
    }
}

/// What is wrong with one key. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Not there.
    #[error("is missing{}", similar.as_ref().map_or_else(String::new, |other| format!(" (there is a key \"{other}\": rename it)")))]
    Missing {
        /// A key that was probably meant.
        similar: Option<String>,
    },
    /// A client secret and a certificate.
    #[error("stands beside clientSecret, and which of the two is meant cannot be known: remove one")]
    Both,
    /// No usable certificate or key.
    #[error("{0}")]
    Certificate(Problem),
    /// Nothing but white space.
    #[error("is empty")]
    Empty,
    /// Bytes that are no text.
    #[error("is not UTF-8 text")]
    NotText,
    /// Longer than any real one.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A control character within.
    #[error("has a line break or another control character within")]
    Control,
    /// Text of another form.
    #[error("is not {0}")]
    Malformed(&'static str),
}

/// The credential in `secret`, or the first key that is wrong with it.
pub(super) fn credential(name: &str, secret: &SecretData) -> Result<Credential, (String, KeyProblem)> {
    let named = |(key, problem): (&str, KeyProblem)| (key.to_owned(), problem);
    let tenant_id = required(secret, TENANT_ID, 253).map_err(named)?;
    let malformed = |key: &'static str, form| (key.to_owned(), KeyProblem::Malformed(form));
    if !grammar::is_domain(&tenant_id) {
        return Err(malformed(TENANT_ID, "a directory (tenant) id or a domain of the tenant"));
    }
    let client_id = required(secret, CLIENT_ID, 64).map_err(named)?;
    if !client_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(malformed(CLIENT_ID, "an application (client) id, such as 11111111-2222-3333-4444-555555555555"));
    }
    let has = |key| secret.values.contains_key(key);
    let has_certificate = has(CERTIFICATE) || has(CERTIFICATE_KEY);
    if has_certificate && has(CLIENT_SECRET) {
        let key = if has(CERTIFICATE) { CERTIFICATE } else { CERTIFICATE_KEY };
        return Err((key.to_owned(), KeyProblem::Both));
    }
    let proof = if has_certificate { certificate(secret)? } else { client_secret(secret, CLIENT_SECRET)? };
    let cloud = optional(secret, CLOUD, 32).map_err(named)?;
    let cloud = cloud_of(cloud.as_deref()).ok_or_else(|| malformed(CLOUD, CLOUDS))?;
    let declared = match optional(secret, SECRET_EXPIRATION_TIME, 64).map_err(named)? {
        None => None,
        Some(text) => Some(time_of(&text).ok_or_else(|| malformed(SECRET_EXPIRATION_TIME, TIME))?),
    };
    let secret_expiration = ends(&proof).or(declared);
    Ok(Credential { name: name.to_owned(), tenant_id, client_id, proof, cloud, secret_expiration })
}

/// What a cloud may be called.
pub(super) const CLOUDS: &str = "one of Public, USGovernment, USGovernmentDoD, China";
/// What a time looks like.
pub(super) const TIME: &str = "an RFC 3339 time, such as 2027-05-01T00:00:00Z";

/// The cloud of that name; the public one where none is given.
pub(super) fn cloud_of(name: Option<&str>) -> Option<Cloud> {
    Some(match name {
        None | Some("Public") => Cloud::Public,
        Some("USGovernment") => Cloud::UsGovernment,
        Some("USGovernmentDoD") => Cloud::UsGovernmentDod,
        Some("China") => Cloud::China,
        Some(_) => return None,
    })
}

/// A time in RFC 3339.
pub(super) fn time_of(text: &str) -> Option<Timestamp> {
    Timestamp::from_str(text).ok()
}

/// When a proof says itself that it ends.
pub(super) fn ends(proof: &Proof) -> Option<Timestamp> {
    match proof {
        Proof::Certificate(certificate) => Some(certificate.not_after()),
        Proof::Secret(_) | Proof::Federated(_) => None,
    }
}

/// The client secret under `key`.
pub(super) fn client_secret(secret: &SecretData, key: &str) -> Result<Proof, (String, KeyProblem)> {
    let value = required(secret, key, LONGEST_SECRET).map_err(|(key, problem)| (key.to_owned(), problem))?;
    Ok(Proof::Secret(SecretString::from(value)))
}

/// The certificate and its key, under the keys of the Secret type kubernetes.io/tls.
pub(super) fn certificate(secret: &SecretData) -> Result<Proof, (String, KeyProblem)> {
    let pem = |key: &'static str| {
        let missing = || KeyProblem::Missing { similar: secret.similar(key) };
        let value = secret.values.get(key).ok_or_else(|| (key.to_owned(), missing()))?.expose_secret();
        match value.len() {
            0 => Err((key.to_owned(), KeyProblem::Empty)),
            1..=LONGEST_PEM => Ok(value),
            _ => Err((key.to_owned(), KeyProblem::TooLong(LONGEST_PEM))),
        }
    };
    let (text, key) = (pem(CERTIFICATE)?, pem(CERTIFICATE_KEY)?);
    // Ten thousand collectors of one app share what was read once of their Secret.
    let read = secret.certificate.get_or_init(|| Certificate::from_pem(text, key).map(Arc::new));
    match read {
        Ok(certificate) => Ok(Proof::Certificate(Arc::clone(certificate))),
        Err((Part::Certificate, problem)) => Err((CERTIFICATE.to_owned(), KeyProblem::Certificate(problem.clone()))),
        Err((Part::Key, problem)) => Err((CERTIFICATE_KEY.to_owned(), KeyProblem::Certificate(problem.clone()))),
    }
}

fn required<'k>(secret: &SecretData, key: &'k str, most: usize) -> Result<String, (&'k str, KeyProblem)> {
    optional(secret, key, most)?.ok_or_else(|| (key, KeyProblem::Missing { similar: secret.similar(key) }))
}

fn optional<'k>(secret: &SecretData, key: &'k str, most: usize) -> Result<Option<String>, (&'k str, KeyProblem)> {
    let Some(value) = secret.values.get(key) else { return Ok(None) };
    let text = std::str::from_utf8(value.expose_secret()).map_err(|_| (key, KeyProblem::NotText))?.trim();
    // `kubectl create secret --from-file` keeps the line end of the file, hence the trim.
    if text.is_empty() {
        Err((key, KeyProblem::Empty))
    } else if text.len() > most {
        Err((key, KeyProblem::TooLong(most)))
    } else if text.chars().any(char::is_control) {
        Err((key, KeyProblem::Control))
    } else {
        Ok(Some(text.to_owned()))
    }
}

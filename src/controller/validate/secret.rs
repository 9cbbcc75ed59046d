//! The data of a Secret that holds an app's credential, and what must be in it. Pure: no I/O, no clock.
//! Knows nothing of where Secrets come from; holds nothing of a Secret beyond the keys that it reads and the names of a few others.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::grammar;
use crate::entra::{Cloud, Credential};

/// Directory (tenant) id, or a verified domain.
pub const TENANT_ID: &str = "tenantId";
/// Application (client) id.
pub const CLIENT_ID: &str = "clientId";
/// The client secret's value.
pub const CLIENT_SECRET: &str = "clientSecret";
/// Optional: `Public`, `USGovernment`, `USGovernmentDoD` or `China`.
pub const CLOUD: &str = "cloud";
/// Optional: when the client secret ends, RFC 3339.
pub const SECRET_EXPIRATION_TIME: &str = "secretExpirationTime";

const KEYS: [&str; 5] = [TENANT_ID, CLIENT_ID, CLIENT_SECRET, CLOUD, SECRET_EXPIRATION_TIME];

/// Types whose holders are other programs' credentials (law 11): a collector must not be the way to send them out.
const REFUSED_TYPES: [&str; 3] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];

/// How many other keys' names are kept, for the hint at a key that is spelt differently.
const OTHER_KEYS: usize = 32;

/// What is kept of a Secret: its type, the values of the keys that are read, the names of some others. Values never appear in `Debug`.
#[derive(Clone)]
pub struct SecretData {
    type_: String,
    values: BTreeMap<&'static str, SecretSlice<u8>>,
    other_keys: Vec<String>,
}

impl SecretData {
    /// From a Secret's `type` (empty: `Opaque`) and its decoded `data`.
    pub fn new(type_: &str, data: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let mut values = BTreeMap::new();
        let mut other_keys = Vec::new();
        for (key, value) in data {
            match KEYS.iter().find(|known| **known == key) {
                Some(known) => {
                    values.insert(*known, SecretSlice::from(value));
                }
                None if other_keys.len() < OTHER_KEYS && key.len() <= 64 => other_keys.push(key),
                None => {}
            }
        }
        Self { type_: type_.to_owned(), values, other_keys }
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
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
        Self::new(secret.type_.as_deref().unwrap_or_default(), data)
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
    /// Not there, but a certificate is.
    #[error("is missing; a certificate (tls.crt, tls.key) cannot be used yet by this version")]
    CertificateInstead,
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
pub(super) fn credential(name: &str, secret: &SecretData) -> Result<Credential, (&'static str, KeyProblem)> {
    let tenant_id = required(secret, TENANT_ID, 253)?;
    if !grammar::is_domain(&tenant_id) {
        return Err((TENANT_ID, KeyProblem::Malformed("a directory (tenant) id or a domain of the tenant")));
    }
    let client_id = required(secret, CLIENT_ID, 64)?;
    if !client_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err((CLIENT_ID, KeyProblem::Malformed("an application (client) id, such as 11111111-2222-3333-4444-555555555555")));
    }
    let client_secret = SecretString::from(required(secret, CLIENT_SECRET, 1_024)?);
    let cloud = match optional(secret, CLOUD, 32)?.as_deref() {
        None | Some("Public") => Cloud::Public,
        Some("USGovernment") => Cloud::UsGovernment,
        Some("USGovernmentDoD") => Cloud::UsGovernmentDod,
        Some("China") => Cloud::China,
        Some(_) => return Err((CLOUD, KeyProblem::Malformed("one of Public, USGovernment, USGovernmentDoD, China"))),
    };
    let secret_expiration = match optional(secret, SECRET_EXPIRATION_TIME, 64)? {
        None => None,
        Some(text) => Some(
            Timestamp::from_str(&text)
                .map_err(|_| (SECRET_EXPIRATION_TIME, KeyProblem::Malformed("an RFC 3339 time, such as 2027-05-01T00:00:00Z")))?,
        ),
    };
    Ok(Credential { name: name.to_owned(), tenant_id, client_id, client_secret, cloud, secret_expiration })
}

fn required(secret: &SecretData, key: &'static str, most: usize) -> Result<String, (&'static str, KeyProblem)> {
    optional(secret, key, most)?.ok_or_else(|| {
        let certificate = key == CLIENT_SECRET && secret.other_keys.iter().any(|other| other == "tls.crt");
        let problem = if certificate { KeyProblem::CertificateInstead } else { KeyProblem::Missing { similar: secret.similar(key) } };
        (key, problem)
    })
}

fn optional(secret: &SecretData, key: &'static str, most: usize) -> Result<Option<String>, (&'static str, KeyProblem)> {
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

//! What an `AppRegistration` says, and the credential that it and its Secret give. Pure: no I/O, no clock.

use super::grammar::{self, Excerpt};
use super::secret::{self, CLIENT_SECRET, CLOUDS, SecretData, TIME};
use super::{Error, Options, plainly_wrong, wrong};
use crate::api::{self, AppRegistration};
use crate::entra::{Cloud, Credential, Proof, ServiceAccount};

/// Most globs in `allowedMailboxes`.
const MOST_GLOBS: usize = 256;
/// Longest glob, in bytes.
const LONGEST_GLOB: usize = 320;
const ONE_CREDENTIAL: &str = "write exactly one of clientSecret, certificate and workloadIdentity, for example credential: {clientSecret: {secretKeyRef: {name: azure-app}}}";

/// What an AppRegistration says by itself, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub name: String,
    tenant_id: String,
    client_id: String,
    cloud: Cloud,
    proof: Reference,
    declared_end: Option<jiff::Timestamp>,
    /// Lower-case globs; `None`: every mailbox.
    allowed: Option<Vec<String>>,
}

/// What the proof is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reference {
    ClientSecret { secret: String, key: String },
    Certificate { secret: String },
    WorkloadIdentity(ServiceAccount),
}

impl Registration {
    /// The Secret that it refers to and the key read from it besides the usual ones; `None` for workload identity.
    pub fn secret(&self) -> Option<(&str, Option<&str>)> {
        match &self.proof {
            Reference::ClientSecret { secret, key } => Some((secret, (key != CLIENT_SECRET).then_some(key))),
            Reference::Certificate { secret } => Some((secret, None)),
            Reference::WorkloadIdentity(_) => None,
        }
    }

    /// Where the reference stands in the object.
    pub fn field(&self) -> &'static str {
        match &self.proof {
            Reference::ClientSecret { .. } => "spec.credential.clientSecret.secretKeyRef",
            Reference::Certificate { .. } => "spec.credential.certificate.secretRef",
            Reference::WorkloadIdentity(_) => "spec.credential.workloadIdentity",
        }
    }

    /// Whether a collector may use it for `mailbox` (lower case).
    pub fn allows(&self, mailbox: &str) -> bool {
        self.allowed.as_ref().is_none_or(|globs| globs.iter().any(|glob| grammar::matches(glob, mailbox)))
    }

    /// The error of a Secret that is not there.
    pub fn secret_not_found(&self) -> Error {
        let (secret, _) = self.secret().unwrap_or_default();
        let make = match &self.proof {
            Reference::ClientSecret { key, .. } => format!("kubectl create secret generic {secret} --from-literal={key}=…"),
            _ => format!("kubectl create secret tls {secret} --cert=tls.crt --key=tls.key"),
        };
        Error::RegistrationSecretNotFound { field: self.field(), secret: secret.to_owned(), make }
    }

    /// The credential; `secret` is the data of [`Registration::secret`], where it names one.
    ///
    /// # Errors
    /// The key that is missing or wrong.
    pub fn credential(&self, data: Option<&SecretData>) -> Result<Credential, Error> {
        let proof = match (&self.proof, data) {
            (Reference::WorkloadIdentity(account), _) => Proof::Federated(account.clone()),
            (_, None) => return Err(self.secret_not_found()),
            (Reference::ClientSecret { secret, key }, Some(data)) => {
                self.readable(data, secret)?;
                secret::client_secret(data, key).map_err(|(key, problem)| self.bad_key(secret, key, problem))?
            }
            (Reference::Certificate { secret }, Some(data)) => {
                self.readable(data, secret)?;
                secret::certificate(data).map_err(|(key, problem)| self.bad_key(secret, key, problem))?
            }
        };
        let secret_expiration = match &proof {
            // A service account's token has no end that a person must know.
            Proof::Federated(_) => None,
            Proof::Secret(_) | Proof::Certificate(_) => secret::ends(&proof).or(self.declared_end),
        };
        let name = self.secret().map_or(self.name.as_str(), |(secret, _)| secret);
        Ok(Credential {
            name: name.to_owned(),
            tenant_id: self.tenant_id.clone(),
            client_id: self.client_id.clone(),
            proof,
            cloud: self.cloud,
            secret_expiration,
        })
    }

    fn readable(&self, data: &SecretData, secret: &str) -> Result<(), Error> {
        match data.refused_type() {
            Some(type_) => Err(Error::RegistrationSecretType { field: self.field(), secret: secret.to_owned(), type_ }),
            None => Ok(()),
        }
    }

    fn bad_key(&self, secret: &str, key: String, problem: super::KeyProblem) -> Error {
        Error::RegistrationSecretKey { field: self.field(), secret: secret.to_owned(), key, problem }
    }
}

/// Everything that can be said of `object` without what it refers to.
///
/// # Errors
/// The field that is wrong.
pub fn registration(object: &AppRegistration, options: &Options) -> Result<Registration, Error> {
    let spec = &object.spec;
    let named = |field: &'static str, value: Option<&String>| {
        let value = value.map(String::as_str).unwrap_or_default();
        if grammar::is_object_name(value) {
            Ok(value.to_owned())
        } else {
            Err(wrong(field, Excerpt(value), "is not a Kubernetes name", "write lower-case letters, digits, \"-\" and \".\""))
        }
    };
    let name = named("metadata.name", object.metadata.name.as_ref())?;
    let namespace = named("metadata.namespace", object.metadata.namespace.as_ref())?;
    if !grammar::is_domain(&spec.tenant_id) {
        let way_out = "copy 'Directory (tenant) ID' from the app registration's Overview page";
        return Err(wrong("spec.tenantId", Excerpt(&spec.tenant_id), "is neither a directory (tenant) id nor a domain", way_out));
    }
    if !is_guid(&spec.client_id) {
        let way_out = "copy 'Application (client) ID' from the app registration's Overview page";
        return Err(wrong("spec.clientId", Excerpt(&spec.client_id), "is not an application (client) id", way_out));
    }
    let cloud = secret::cloud_of(spec.cloud.as_deref()).ok_or_else(|| {
        let value = spec.cloud.as_deref().unwrap_or_default();
        wrong("spec.cloud", Excerpt(value), format_args!("is not {CLOUDS}"), "write one of them, or remove the field")
    })?;
    let declared_end = match &spec.secret_expiration_time {
        None => None,
        Some(text) => {
            let problem = format_args!("is not {TIME}");
            let end = secret::time_of(text);
            Some(end.ok_or_else(|| wrong("spec.secretExpirationTime", Excerpt(text), problem, "write the date that Entra showed"))?)
        }
    };
    let proof = proof(&spec.credential, &namespace, &named, options)?;
    let allowed = spec.allowed_mailboxes.as_deref().map(globs).transpose()?;
    Ok(Registration { name, tenant_id: spec.tenant_id.clone(), client_id: spec.client_id.clone(), cloud, proof, declared_end, allowed })
}

fn proof(
    credential: &api::AppCredential,
    namespace: &str,
    named: &impl Fn(&'static str, Option<&String>) -> Result<String, Error>,
    options: &Options,
) -> Result<Reference, Error> {
    match (&credential.client_secret, &credential.certificate, &credential.workload_identity) {
        (Some(secret), None, None) => {
            let reference = &secret.secret_key_ref;
            let key = reference.key.clone().unwrap_or_else(|| CLIENT_SECRET.to_owned());
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if key.is_empty() || key.len() > 253 || !key.bytes().all(plain) {
                let field = "spec.credential.clientSecret.secretKeyRef.key";
                return Err(wrong(field, Excerpt(&key), "is not a key of a Secret", "write the key that holds the client secret's value"));
            }
            Ok(Reference::ClientSecret { secret: named("spec.credential.clientSecret.secretKeyRef.name", Some(&reference.name))?, key })
        }
        (None, Some(certificate), None) => {
            Ok(Reference::Certificate { secret: named("spec.credential.certificate.secretRef.name", Some(&certificate.secret_ref.name))? })
        }
        (None, None, Some(identity)) => {
            let name = named("spec.credential.workloadIdentity.serviceAccountName", Some(&identity.service_account_name))?;
            if !options.workload_identity {
                return Err(Error::WorkloadIdentityNotEnabled { field: "spec.credential.workloadIdentity".to_owned() });
            }
            Ok(Reference::WorkloadIdentity(ServiceAccount { namespace: namespace.to_owned(), name }))
        }
        (None, None, None) => Err(plainly_wrong("spec.credential", "has no member that this version knows", ONE_CREDENTIAL)),
        _ => Err(plainly_wrong("spec.credential", "has more than one member", ONE_CREDENTIAL)),
    }
}

fn globs(globs: &[String]) -> Result<Vec<String>, Error> {
    const FIELD: &str = "spec.allowedMailboxes";
    const WAY_OUT: &str = "write addresses in which * stands for any text, for example \"*@contoso.com\"";
    if globs.len() > MOST_GLOBS {
        return Err(plainly_wrong(FIELD, "has more than 256 entries", WAY_OUT));
    }
    let one = |glob: &String| {
        let fits = !glob.is_empty() && glob.len() <= LONGEST_GLOB && !glob.chars().any(|c| c.is_control() || c.is_whitespace());
        if fits { Ok(glob.to_ascii_lowercase()) } else { Err(wrong(FIELD, Excerpt(glob), "is not a pattern for addresses", WAY_OUT)) }
    };
    globs.iter().map(one).collect()
}

fn is_guid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

//! Why a resource is not accepted, in words that name the field, the problem and the way out. Pure: no I/O, no clock.

use super::{CERTIFICATE, CERTIFICATE_KEY, KeyProblem, create_command, missing_secret};
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
    /// There is no such Secret.
    #[error("spec.credentials.secretRef: {}", missing_secret(secret))]
    SecretNotFound {
        /// Its name.
        secret: String,
    },
    /// There is no such AppRegistration.
    #[error(
        "spec.credentials.appRegistrationRef: there is no AppRegistration \"{name}\" in this namespace; create it, or correct the name (kubectl get appregistrations)"
    )]
    AppRegistrationNotFound {
        /// Its name.
        name: String,
    },
    /// The AppRegistration is for other mailboxes.
    #[error(
        "spec.mailbox: AppRegistration \"{name}\" does not allow {mailbox}; add it to spec.allowedMailboxes there, or use another AppRegistration"
    )]
    MailboxNotAllowed {
        /// The AppRegistration's name.
        name: String,
        /// The mailbox.
        mailbox: String,
    },
    /// The AppRegistration gives no credential.
    #[error("AppRegistration \"{name}\": {cause}")]
    Registration {
        /// Its name.
        name: String,
        /// Why not.
        cause: Box<Error>,
    },
    /// The operator makes no tokens of service accounts.
    #[error(
        "{field}: this operator makes no tokens of service accounts; whoever installed it must set the Helm value workloadIdentity.enabled=true (--workload-identity)"
    )]
    WorkloadIdentityNotEnabled {
        /// Path of the field.
        field: String,
    },
    /// There is no such Secret.
    #[error("{field}: there is no Secret \"{secret}\" in this namespace; make it: {make}")]
    RegistrationSecretNotFound {
        /// Path of the field.
        field: &'static str,
        /// Its name.
        secret: String,
        /// The command.
        make: String,
    },
    /// The Secret is another program's credential.
    #[error("{field}: Secret \"{secret}\" has the type {type_}, which is never read as a mail credential; make one of its own")]
    RegistrationSecretType {
        /// Path of the field.
        field: &'static str,
        /// Its name.
        secret: String,
        /// Its type.
        type_: &'static str,
    },
    /// A key of the Secret is missing or wrong.
    #[error("{field}: Secret \"{secret}\": key {key} {problem}")]
    RegistrationSecretKey {
        /// Path of the field.
        field: &'static str,
        /// The Secret's name.
        secret: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: KeyProblem,
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
    #[error("Secret \"{secret}\": key {key} {problem}{}", needs(secret, key))]
    SecretKey {
        /// The Secret's name.
        secret: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: KeyProblem,
    },
}

/// What a Secret with such a key is made by.
fn needs(secret: &str, key: &str) -> String {
    if key == CERTIFICATE || key == CERTIFICATE_KEY {
        format!(
            "; it needs tenantId, clientId, tls.crt and tls.key, as in: kubectl create secret generic {secret} --from-literal=tenantId=… --from-literal=clientId=… --from-file=tls.crt --from-file=tls.key"
        )
    } else {
        format!("; it needs tenantId, clientId and clientSecret, as in: {}", create_command(secret))
    }
}

impl Error {
    /// The reason of `Accepted=False` (they are API).
    pub fn reason(&self) -> Reason {
        match self {
            Self::Field { .. } | Self::NotBuilt { .. } => Reason::InvalidSpec,
            Self::FileSinkNotEnabled { .. } => Reason::SinkNotEnabled,
            Self::WorkloadIdentityNotEnabled { .. } => Reason::WorkloadIdentityNotEnabled,
            Self::AppRegistrationNotFound { .. } => Reason::AppRegistrationNotFound,
            Self::MailboxNotAllowed { .. } => Reason::MailboxNotAllowed,
            Self::Registration { cause, .. } => cause.reason(),
            Self::SecretNotFound { .. } | Self::RegistrationSecretNotFound { .. } => Reason::SecretNotFound,
            Self::SecretType { .. } | Self::RegistrationSecretType { .. } => Reason::SecretNotOptedIn,
            Self::SecretKey { .. } | Self::RegistrationSecretKey { .. } => Reason::SecretKeyMissing,
        }
    }
}

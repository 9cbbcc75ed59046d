//! Every reason that a condition can have: they are API. What each says of its condition, and how soon a person must be told to act.
//! Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::Condition;

const TWO_MINUTES: Duration = Duration::from_secs(2 * 60);
/// Exchange and Entra may take so long to spread a change.
const AN_HOUR: Duration = Duration::from_secs(60 * 60);

/// A condition's status (`metav1.Condition`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl Status {
    /// As in a `metav1.Condition`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Reasons of conditions, in the order of the stages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
        }

        impl Reason {
            /// All of them, in the order of the stages.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// As in `status`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The last look was complete.
    Collecting,
    /// `spec.suspend`.
    Suspended,
    /// A new generation is being tried for the first time.
    Progressing,
    /// Trouble that has lasted; it is tried again.
    ProgressingWithRetry,
    /// The stage was not reached since the task began.
    NotYetTried,

    /// A field is wrong, or its room is not built yet.
    InvalidSpec,
    /// The AppRegistration does not allow this mailbox.
    MailboxNotAllowed,
    /// An older collector settles the same folder.
    MailboxConflict,
    /// A flag of the operator does not allow this kind of sink.
    SinkNotEnabled,
    /// A flag of the operator does not allow tokens of service accounts.
    WorkloadIdentityNotEnabled,
    /// No such Secret.
    SecretNotFound,
    /// The Secret lacks a key, or the key is empty.
    SecretKeyMissing,
    /// The Secret lacks the label by which its owner consents, or is of a type that is never used.
    SecretNotOptedIn,
    /// No such AppRegistration.
    AppRegistrationNotFound,

    /// Tenant id or cloud is wrong.
    TenantNotFound,
    /// Client id is wrong, or belongs to another tenant.
    ApplicationNotFound,
    /// The secret's id was stored instead of its value.
    SecretIdInsteadOfValue,
    /// The secret is none of the app's.
    SecretInvalid,
    /// The secret has expired.
    SecretExpired,
    /// The certificate was not uploaded.
    CertificateNotRegistered,
    /// The enterprise application is disabled.
    ApplicationDisabled,
    /// A Conditional Access policy for workload identities forbids it.
    ConditionalAccessBlocked,
    /// The app has no enterprise application in the tenant.
    EnterpriseApplicationMissing,
    /// No federated credential matches.
    FederatedCredentialMismatch,
    /// The token carries no role.
    PermissionOrConsentMissing,
    /// The token carries other roles, is delegated or is for another API.
    WrongPermission,
    /// Entra is busy, out of order or out of reach.
    EntraUnavailable,

    /// New-ServicePrincipal was not run, or with another object id.
    ServicePrincipalNotRegistered,
    /// FullAccess is missing, or the protocol is off for the mailbox.
    AccessMissingOrProtocolDisabled,
    /// POP3 refuses and hides the cause.
    AuthenticationRefused,
    /// No such folder.
    FolderNotFound,
    /// Settling is wanted, and the folder may only be read.
    FolderReadOnly,
    /// The server lacks what the settling that is wanted needs.
    SettlingNotSupported,
    /// The mailbox has more messages than POP3's memory holds.
    MailboxTooLargeForPOP3,
    /// Exchange asks to wait.
    Throttled,
    /// The connection could not be made, or broke.
    ConnectionFailed,
    /// Exchange refuses what it allowed before.
    RefusedAfterSuccess,

    /// The sink's address is not in the operator's allow-list.
    SinkAddressNotAllowed,
    /// The sink refuses our credentials.
    SinkAuthenticationFailed,
    /// The sink refuses whatever it is given.
    SinkRejects,
    /// The sink can't for now.
    SinkUnavailable,

    /// Too many messages are quarantined.
    QuarantineFull,
    /// Too many messages wait to be settled.
    SettleBacklogFull,
    /// What is remembered of the mailbox cannot be read.
    CursorUnreadable,

    /// The credential ends within 60 days.
    ExpiresIn60Days,
    /// The credential ends within 30 days.
    ExpiresIn30Days,
    /// The credential ends within 14 days.
    ExpiresIn14Days,
    /// The credential ends within 7 days.
    ExpiresIn7Days,
    /// The credential ends within a day.
    ExpiresIn1Day,
    /// The declared end has passed, and the credential still works.
    ExpirationTimeStale,
    /// Messages wait for a person.
    MessagesQuarantined,
}

impl Reason {
    /// Which conditions bear this reason themselves; a failing stage's reason is copied to `Ready` (and `Stalled`) besides.
    pub fn conditions(self) -> &'static [Condition] {
        match self {
            Self::Collecting | Self::Suspended | Self::QuarantineFull | Self::SettleBacklogFull | Self::CursorUnreadable => {
                &[Condition::Ready]
            }
            Self::Progressing => &[Condition::Ready, Condition::Reconciling],
            Self::ProgressingWithRetry => &[Condition::Reconciling],
            Self::NotYetTried => &[Condition::TokenHealthy, Condition::MailboxAccessible, Condition::SinkReady],
            Self::InvalidSpec
            | Self::MailboxNotAllowed
            | Self::MailboxConflict
            | Self::SinkNotEnabled
            | Self::WorkloadIdentityNotEnabled
            | Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::SecretNotOptedIn
            | Self::AppRegistrationNotFound => &[Condition::Accepted],
            Self::TenantNotFound
            | Self::ApplicationNotFound
            | Self::SecretIdInsteadOfValue
            | Self::SecretInvalid
            | Self::SecretExpired
            | Self::CertificateNotRegistered
            | Self::ApplicationDisabled
            | Self::ConditionalAccessBlocked
            | Self::EnterpriseApplicationMissing
            | Self::FederatedCredentialMismatch
            | Self::PermissionOrConsentMissing
            | Self::WrongPermission
            | Self::EntraUnavailable => &[Condition::TokenHealthy],
            Self::ServicePrincipalNotRegistered
            | Self::AccessMissingOrProtocolDisabled
            | Self::AuthenticationRefused
            | Self::FolderNotFound
            | Self::FolderReadOnly
            | Self::SettlingNotSupported
            | Self::MailboxTooLargeForPOP3
            | Self::Throttled
            | Self::ConnectionFailed
            | Self::RefusedAfterSuccess => &[Condition::MailboxAccessible],
            Self::SinkAddressNotAllowed | Self::SinkAuthenticationFailed | Self::SinkRejects | Self::SinkUnavailable => {
                &[Condition::SinkReady]
            }
            Self::ExpiresIn60Days
            | Self::ExpiresIn30Days
            | Self::ExpiresIn14Days
            | Self::ExpiresIn7Days
            | Self::ExpiresIn1Day
            | Self::ExpirationTimeStale => &[Condition::CredentialExpiring],
            Self::MessagesQuarantined => &[Condition::QuarantineNotEmpty],
        }
    }

    /// The status of the first of [`Reason::conditions`]. (`Progressing` is `Ready=Unknown` and `Reconciling=True`.)
    pub fn status(self) -> Status {
        match self {
            Self::Collecting
            | Self::Suspended
            | Self::ProgressingWithRetry
            | Self::ExpiresIn60Days
            | Self::ExpiresIn30Days
            | Self::ExpiresIn14Days
            | Self::ExpiresIn7Days
            | Self::ExpiresIn1Day
            | Self::ExpirationTimeStale
            | Self::MessagesQuarantined => Status::True,
            Self::Progressing
            | Self::NotYetTried
            | Self::EntraUnavailable
            | Self::Throttled
            | Self::ConnectionFailed
            | Self::RefusedAfterSuccess => Status::Unknown,
            Self::InvalidSpec
            | Self::MailboxNotAllowed
            | Self::MailboxConflict
            | Self::SinkNotEnabled
            | Self::WorkloadIdentityNotEnabled
            | Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::SecretNotOptedIn
            | Self::AppRegistrationNotFound
            | Self::TenantNotFound
            | Self::ApplicationNotFound
            | Self::SecretIdInsteadOfValue
            | Self::SecretInvalid
            | Self::SecretExpired
            | Self::CertificateNotRegistered
            | Self::ApplicationDisabled
            | Self::ConditionalAccessBlocked
            | Self::EnterpriseApplicationMissing
            | Self::FederatedCredentialMismatch
            | Self::PermissionOrConsentMissing
            | Self::WrongPermission
            | Self::ServicePrincipalNotRegistered
            | Self::AccessMissingOrProtocolDisabled
            | Self::AuthenticationRefused
            | Self::FolderNotFound
            | Self::FolderReadOnly
            | Self::SettlingNotSupported
            | Self::MailboxTooLargeForPOP3
            | Self::SinkAddressNotAllowed
            | Self::SinkAuthenticationFailed
            | Self::SinkRejects
            | Self::SinkUnavailable
            | Self::QuarantineFull
            | Self::SettleBacklogFull
            | Self::CursorUnreadable => Status::False,
        }
    }

    /// How long the trouble must last before `Stalled=True` says that a person must act; `None`: never, it passes by itself.
    pub fn stalls_after(self) -> Option<Duration> {
        match self {
            Self::InvalidSpec
            | Self::MailboxNotAllowed
            | Self::MailboxConflict
            | Self::SinkNotEnabled
            | Self::WorkloadIdentityNotEnabled
            | Self::TenantNotFound
            | Self::ApplicationNotFound
            | Self::SecretIdInsteadOfValue
            | Self::SecretInvalid
            | Self::SecretExpired
            | Self::CertificateNotRegistered
            | Self::ApplicationDisabled
            | Self::ConditionalAccessBlocked
            | Self::FolderNotFound
            | Self::FolderReadOnly
            | Self::SettlingNotSupported
            | Self::MailboxTooLargeForPOP3
            | Self::QuarantineFull
            | Self::SettleBacklogFull
            | Self::CursorUnreadable => Some(Duration::ZERO),
            Self::SecretNotFound
            | Self::SecretKeyMissing
            | Self::SecretNotOptedIn
            | Self::AppRegistrationNotFound
            | Self::SinkAddressNotAllowed
            | Self::SinkAuthenticationFailed
            | Self::SinkRejects => Some(TWO_MINUTES),
            Self::EnterpriseApplicationMissing
            | Self::FederatedCredentialMismatch
            | Self::PermissionOrConsentMissing
            | Self::WrongPermission
            | Self::ServicePrincipalNotRegistered
            | Self::AccessMissingOrProtocolDisabled
            | Self::AuthenticationRefused => Some(AN_HOUR),
            Self::Collecting
            | Self::Suspended
            | Self::Progressing
            | Self::ProgressingWithRetry
            | Self::NotYetTried
            | Self::EntraUnavailable
            | Self::Throttled
            | Self::ConnectionFailed
            | Self::RefusedAfterSuccess
            | Self::SinkUnavailable
            | Self::ExpiresIn60Days
            | Self::ExpiresIn30Days
            | Self::ExpiresIn14Days
            | Self::ExpiresIn7Days
            | Self::ExpiresIn1Day
            | Self::ExpirationTimeStale
            | Self::MessagesQuarantined => None,
        }
    }
}

//! The meanings that facts can have, one variant each; `table` says what follows from each, `english` and `french` put it into words.
//! Pure: no I/O, no clock.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jiff::Timestamp;

use crate::cursor::Full;
use crate::entra::{AssertionError, Shown};
use crate::source::Extension;

/// Defines the meanings, and one of each with its fields filled in as a page of documentation shows them.
macro_rules! sayings {
    (<$lifetime:lifetime> $($(#[$doc:meta])* $name:ident $({ $($field:ident: $type:ty = $sample:expr),+ $(,)? })?,)+) => {
        /// What there is to tell a person.
        #[derive(Debug)]
        pub(super) enum Saying<$lifetime> {
            $($(#[$doc])* $name $({ $($field: $type),+ })?,)+
        }

        impl Saying<'static> {
            /// One of each.
            pub(super) fn samples() -> Vec<Self> {
                vec![$(Self::$name $({ $($field: $sample),+ })?,)+]
            }
        }
    };
}

sayings! {
    <'a>
    EntraUnreachable { text: &'a str = "…" },
    EntraBusy { status: u16 = 503, wait: Option<Duration> = None },
    EntraOdd { what: &'a str = "…" },
    EntraUnknownRefusal { status: u16 = 400, error: &'a str = "…", text: &'a str = "…" },
    TenantUnknown,
    AppUnknown,
    EnterpriseApplicationMissing,
    SecretIdStored,
    SecretWrong,
    SecretExpired,
    SecretEmpty,
    PublicClient,
    CertificateUnknown { shown: Option<&'a Shown> = None },
    CertificateExpired { not_after: Timestamp = Timestamp::UNIX_EPOCH },
    AssertionOutOfTime,
    FederatedMismatch { shown: Option<&'a Shown> = None },
    /// There is no token of the service account to show.
    NoAssertion { error: &'a AssertionError = &AssertionError::NoSource },
    ScopeRefused,
    ExchangeUnknownInTenant,
    AppDisabled,
    ConditionalAccess,
    TokenForAnotherApi { audience: &'a str = "https://graph.microsoft.com" },
    DelegatedToken,
    NoRoles,
    OtherRoles { roles: &'a [String] = &[] },
    AppUnknownToExchange,
    /// The mailbox's domain belongs to another tenant than the token's.
    MailboxOfAnotherTenant { token: &'a str = "…", mailbox: &'a str = "…" },
    /// The app opens another mailbox; its address where it may be told.
    OnlyThisMailboxRefused { works: Option<&'a str> = None },
    PopRefused,
    /// IMAP opens the mailbox with the same token.
    PopOff,
    PopTokenRefused { bytes: Option<usize> = None },
    AccessMissing,
    RefusedAfterSuccess,
    /// All mailboxes of the app that worked are refused at once.
    AllRefused,
    Throttled { wait: Option<Duration> = None },
    TokenRanOut,
    FolderMissing,
    /// The folder that `afterDelivery` moves into.
    TargetMissing,
    FolderReadOnly,
    SettlingUnsupported { extension: Extension = Extension::UidPlus },
    MailboxUnreachable { text: &'a str = "…" },
    TlsFailed { text: &'a str = "…" },
    ConnectionBroke { text: &'a str = "…" },
    NoAnswerInTime,
    ServerClosed,
    ServerRefused { text: &'a str = "…" },
    /// A command that no version of the server would take: our mistake.
    CommandRefused { text: &'a str = "…" },
    NotUnderstood { what: &'a str = "…" },
    SessionGivenUp,
    SinksTakeNoMore,
    SinkFull { path: &'a str = "…" },
    SinkReadOnly { path: &'a str = "…" },
    SinkForbidden { path: &'a str = "…" },
    SinkNotADirectory { path: &'a str = "…" },
    SinkFailed { operation: &'a str = "…", path: &'a str = "…", text: String = "…".to_owned() },
    SinkCrowded { path: &'a str = "…", limit: usize = 100_000 },
    SinkGone,
    SinkSlow,
    SpoolFull { quota: u64 = 1 << 30 },
    SinkAddressNotAllowed { host: &'a str = "ged.example", address: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)), port: u16 = 443 },
    SinkAuthenticationRefused { code: u16 = 401 },
    SinkRefuses { code: u16 = 422 },
    SinkRefusesAll { code: Option<u16> = Some(403) },
    SinkUnfit { what: &'a str = "…" },
    SinkUnavailable { step: &'a str = "…", code: Option<u16> = Some(503), text: &'a str = "…", wait: Option<Duration> = None },
    CursorFull { full: Full = Full::Quarantined },
    CursorUnreadable { text: &'a str = "…" },
}

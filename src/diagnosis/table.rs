//! The diagnosis table: what follows from each meaning: reason, how sure that is, the set-up step, when to try again. The facts that lead to a
//! meaning are in `token`, `mailbox` and `sink`. Pure: no I/O, no clock.
//!
//! Sources of the rows: Microsoft, "Microsoft Entra authentication and authorization error codes", "Access tokens in the Microsoft identity
//! platform" and "Authenticate an IMAP, POP or SMTP connection using OAuth"; public threads, named beside each row's test.
#![deny(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::saying::Saying;
use super::{Reason, Retry, SetupStep};
use crate::cursor::Full;
use crate::entra::AssertionError;

/// How sure a diagnosis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Several causes look the same, and this one is a guess.
    Low,
    /// The likeliest of few causes.
    Medium,
    /// The evidence is unique to the cause.
    High,
}

impl Confidence {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

/// What follows from a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Number in the list of cases that the product knows; 0 for those outside of Microsoft's services, and for connections that break.
    pub(super) number: u8,
    pub(super) reason: Reason,
    pub(super) confidence: Confidence,
    /// Where in the set-up it shows; `None` for what is no part of it.
    pub(super) step: Option<SetupStep>,
    pub(super) retry: Retry,
}

/// Waits for a person; several things in Entra and Exchange take minutes to spread anyway.
const SLOWLY: Retry = Retry::Slow { every: Duration::from_secs(5 * 60) };
const BACK_OFF: Retry = Retry::BackOff { at_least: None };

pub(super) fn row(saying: &Saying<'_>) -> Row {
    use Confidence::{High, Low, Medium};
    let step = |number, reason, confidence, step, retry| Row { number, reason, confidence, step: Some(step), retry };
    let other = |reason, retry| Row { number: 0, reason, confidence: High, step: None, retry };
    match saying {
        Saying::EntraUnreachable { .. } => step(1, Reason::EntraUnavailable, High, SetupStep::EntraReachable, BACK_OFF),
        Saying::TenantUnknown => step(2, Reason::TenantNotFound, High, SetupStep::Tenant, SLOWLY),
        Saying::AppUnknown => step(3, Reason::ApplicationNotFound, High, SetupStep::Application, SLOWLY),
        Saying::EnterpriseApplicationMissing => {
            step(4, Reason::EnterpriseApplicationMissing, High, SetupStep::EnterpriseApplication, SLOWLY)
        }
        Saying::SecretIdStored => step(5, Reason::SecretIdInsteadOfValue, High, SetupStep::Credential, SLOWLY),
        Saying::SecretWrong => step(6, Reason::SecretInvalid, High, SetupStep::Credential, SLOWLY),
        Saying::SecretExpired => step(7, Reason::SecretExpired, High, SetupStep::Credential, SLOWLY),
        Saying::CertificateExpired { .. } => step(7, Reason::SecretExpired, High, SetupStep::Credential, SLOWLY),
        Saying::SecretEmpty => step(8, Reason::SecretInvalid, High, SetupStep::Credential, SLOWLY),
        Saying::PublicClient => step(8, Reason::SecretInvalid, High, SetupStep::Application, SLOWLY),
        Saying::CertificateUnknown { .. } => step(9, Reason::CertificateNotRegistered, High, SetupStep::Credential, SLOWLY),
        Saying::AssertionOutOfTime => step(10, Reason::FederatedCredentialMismatch, High, SetupStep::Credential, SLOWLY),
        Saying::FederatedMismatch { .. } => step(11, Reason::FederatedCredentialMismatch, High, SetupStep::Credential, SLOWLY),
        Saying::NoAssertion { error: AssertionError::Unavailable(_) } => {
            step(0, Reason::EntraUnavailable, High, SetupStep::Credential, BACK_OFF)
        }
        Saying::NoAssertion { .. } => step(0, Reason::FederatedCredentialMismatch, High, SetupStep::Credential, SLOWLY),
        Saying::ScopeRefused => step(12, Reason::WrongPermission, High, SetupStep::Tenant, SLOWLY),
        Saying::ExchangeUnknownInTenant => step(13, Reason::PermissionOrConsentMissing, High, SetupStep::Permission, SLOWLY),
        Saying::AppDisabled => step(14, Reason::ApplicationDisabled, High, SetupStep::EnterpriseApplication, SLOWLY),
        Saying::ConditionalAccess => step(15, Reason::ConditionalAccessBlocked, High, SetupStep::EnterpriseApplication, SLOWLY),
        Saying::EntraBusy { wait, .. } => {
            step(16, Reason::EntraUnavailable, High, SetupStep::EntraReachable, Retry::BackOff { at_least: *wait })
        }
        Saying::EntraOdd { .. } => step(16, Reason::EntraUnavailable, Medium, SetupStep::EntraReachable, BACK_OFF),
        Saying::EntraUnknownRefusal { .. } => step(16, Reason::EntraUnavailable, Low, SetupStep::EntraReachable, SLOWLY),
        Saying::TokenForAnotherApi { .. } => step(17, Reason::WrongPermission, High, SetupStep::Tenant, SLOWLY),
        Saying::DelegatedToken => step(18, Reason::WrongPermission, High, SetupStep::Permission, SLOWLY),
        // Sure to be one of the two; consent lacks in either case.
        Saying::NoRoles => step(19, Reason::PermissionOrConsentMissing, High, SetupStep::Consent, SLOWLY),
        Saying::OtherRoles { .. } => step(20, Reason::WrongPermission, High, SetupStep::Role, SLOWLY),
        Saying::MailboxOfAnotherTenant { .. } => step(21, Reason::AuthenticationRefused, Medium, SetupStep::MailboxAddress, SLOWLY),
        Saying::AppUnknownToExchange => step(22, Reason::ServicePrincipalNotRegistered, Medium, SetupStep::ServicePrincipal, SLOWLY),
        Saying::OnlyThisMailboxRefused { .. } => step(23, Reason::AuthenticationRefused, Medium, SetupStep::MailboxAddress, SLOWLY),
        Saying::AccessMissing => step(24, Reason::AccessMissingOrProtocolDisabled, Medium, SetupStep::MailboxAccess, SLOWLY),
        Saying::RefusedAfterSuccess => step(25, Reason::RefusedAfterSuccess, Low, SetupStep::MailboxAccess, BACK_OFF),
        Saying::AllRefused => step(26, Reason::RefusedAfterSuccess, Medium, SetupStep::ExchangeReachable, BACK_OFF),
        Saying::Throttled { wait } => step(27, Reason::Throttled, High, SetupStep::ExchangeReachable, Retry::BackOff { at_least: *wait }),
        Saying::TokenRanOut => step(28, Reason::ConnectionFailed, High, SetupStep::ExchangeReachable, Retry::AtOnce),
        Saying::PopTokenRefused { .. } => step(29, Reason::AuthenticationRefused, Medium, SetupStep::Role, SLOWLY),
        Saying::PopRefused => step(30, Reason::AuthenticationRefused, Low, SetupStep::ServicePrincipal, SLOWLY),
        Saying::PopOff => step(30, Reason::AccessMissingOrProtocolDisabled, High, SetupStep::MailboxAccess, SLOWLY),
        Saying::CommandRefused { .. } => step(31, Reason::ConnectionFailed, High, SetupStep::ExchangeReachable, BACK_OFF),
        Saying::ServerRefused { .. } => step(32, Reason::ConnectionFailed, High, SetupStep::ExchangeReachable, BACK_OFF),
        Saying::TlsFailed { .. } => step(33, Reason::ConnectionFailed, Medium, SetupStep::ExchangeReachable, BACK_OFF),
        Saying::MailboxUnreachable { .. }
        | Saying::ConnectionBroke { .. }
        | Saying::NoAnswerInTime
        | Saying::ServerClosed
        | Saying::NotUnderstood { .. }
        | Saying::SessionGivenUp => step(0, Reason::ConnectionFailed, Medium, SetupStep::ExchangeReachable, BACK_OFF),
        Saying::FolderMissing | Saying::TargetMissing => {
            step(0, Reason::FolderNotFound, High, SetupStep::Folder, Retry::Slow { every: Duration::from_secs(15 * 60) })
        }
        Saying::FolderReadOnly => step(0, Reason::FolderReadOnly, High, SetupStep::MailboxAccess, SLOWLY),
        Saying::SettlingUnsupported { .. } => {
            step(0, Reason::SettlingNotSupported, High, SetupStep::Folder, Retry::Slow { every: Duration::from_secs(15 * 60) })
        }
        Saying::SinkFull { .. } | Saying::SinkReadOnly { .. } | Saying::SinkFailed { .. } | Saying::SinkGone | Saying::SinkSlow => {
            step(0, Reason::SinkUnavailable, High, SetupStep::Sink, BACK_OFF)
        }
        // Waiting does not help; a person must.
        Saying::SinkForbidden { .. }
        | Saying::SinkNotADirectory { .. }
        | Saying::SinkCrowded { .. }
        | Saying::SinkRefuses { .. }
        | Saying::SinkRefusesAll { .. }
        | Saying::SinkUnfit { .. } => step(0, Reason::SinkRejects, High, SetupStep::Sink, SLOWLY),
        Saying::SinkAddressNotAllowed { .. } => step(0, Reason::SinkAddressNotAllowed, High, SetupStep::Sink, SLOWLY),
        Saying::SinkAuthenticationRefused { .. } => step(0, Reason::SinkAuthenticationFailed, High, SetupStep::Sink, SLOWLY),
        Saying::SinkUnavailable { wait, .. } => step(0, Reason::SinkUnavailable, High, SetupStep::Sink, Retry::BackOff { at_least: *wait }),
        Saying::SpoolFull { .. } | Saying::SinksTakeNoMore => step(0, Reason::SinkUnavailable, High, SetupStep::Sink, BACK_OFF),
        Saying::CursorFull { full: Full::Unsettled } => other(Reason::SettleBacklogFull, SLOWLY),
        Saying::CursorFull { .. } => other(Reason::QuarantineFull, SLOWLY),
        Saying::CursorUnreadable { .. } => other(Reason::CursorUnreadable, SLOWLY),
    }
}

//! What a refused token request means, and what a token's claims lack. Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use super::{BACK_OFF, Context, Meaning, Reason, Retry, SLOWLY, Saying};
use crate::entra::{AssertionError, Claims, Error, Shown};

/// What tokens for Exchange Online name as their audience: the hosts of the clouds, and the resource's other names.
const EXCHANGE: [&str; 8] = [
    "outlook.office365.com",
    "outlook.office.com",
    "ps.outlook.com",
    "outlook.office365.us",
    "outlook-dod.office365.us",
    "webmail.apps.mil",
    "partner.outlook.cn",
    "00000002-0000-0ff1-ce00-000000000000",
];

pub(super) fn refused<'a>(error: &'a Error, context: &Context<'_>) -> Meaning<'a> {
    let unavailable = |saying, retry| Meaning { reason: Reason::EntraUnavailable, saying, retry };
    match error {
        Error::Unreachable { authority: _, text } => unavailable(Saying::EntraUnreachable { text }, BACK_OFF),
        Error::Busy { status, code: _, retry_after } => {
            unavailable(Saying::EntraBusy { status: *status }, Retry::BackOff { at_least: *retry_after })
        }
        Error::Malformed(what) => unavailable(Saying::EntraOdd { what }, BACK_OFF),
        Error::CertificateExpired { not_after } => {
            Meaning { reason: Reason::SecretExpired, saying: Saying::CertificateExpired { not_after: *not_after }, retry: SLOWLY }
        }
        Error::NoAssertion(error @ AssertionError::Unavailable(_)) => unavailable(Saying::NoAssertion { error }, BACK_OFF),
        Error::NoAssertion(
            error @ (AssertionError::NotFound { .. }
            | AssertionError::Forbidden { .. }
            | AssertionError::File { .. }
            | AssertionError::NoSource),
        ) => Meaning { reason: Reason::FederatedCredentialMismatch, saying: Saying::NoAssertion { error }, retry: SLOWLY },
        Error::Refused { status, error, code, text, trace_id: _, correlation_id: _, shown } => {
            match by_code(*code, context, shown.as_deref()).or_else(|| by_error(error)) {
                Some((reason, saying)) => Meaning { reason, saying, retry: SLOWLY },
                None => unavailable(Saying::EntraUnknownRefusal { status: *status, error, text }, SLOWLY),
            }
        }
    }
}

/// By the AADSTS number (Microsoft, "Microsoft Entra authentication and authorization error codes"; those not listed there were seen in
/// public threads).
fn by_code<'a>(code: Option<u32>, context: &Context<'_>, shown: Option<&'a Shown>) -> Option<(Reason, Saying<'a>)> {
    Some(match code? {
        90002 | 900023 | 50059 | 50194 | 9001023 | 900382 | 900432 | 90038 => (Reason::TenantNotFound, Saying::TenantUnknown),
        700016 | 700011 | 70001 => (Reason::ApplicationNotFound, Saying::AppUnknown),
        7000229 => (Reason::EnterpriseApplicationMissing, Saying::EnterpriseApplicationMissing),
        7000215 | 70002 if context.secret_looks_like_guid => (Reason::SecretIdInsteadOfValue, Saying::SecretIdStored),
        7000215 | 70002 => (Reason::SecretInvalid, Saying::SecretWrong),
        7000222 => (Reason::SecretExpired, Saying::SecretExpired),
        7000216 | 7000218 | 900144 => (Reason::SecretInvalid, Saying::SecretEmpty),
        700025 => (Reason::SecretInvalid, Saying::PublicClient),
        700027 => (Reason::CertificateNotRegistered, Saying::CertificateUnknown { shown }),
        700024 => (Reason::FederatedCredentialMismatch, Saying::AssertionOutOfTime),
        70021 | 700211 | 700212 | 700213 | 7002138 => (Reason::FederatedCredentialMismatch, Saying::FederatedMismatch { shown }),
        70011 | 1002012 | 28002 | 28003 | 700022 | 700023 | 901002 => (Reason::WrongPermission, Saying::ScopeRefused),
        500011 | 50001 | 650052 => (Reason::PermissionOrConsentMissing, Saying::ExchangeUnknownInTenant),
        650056 | 650057 => (Reason::PermissionOrConsentMissing, Saying::NoRoles),
        7000112 | 1000031 => (Reason::ApplicationDisabled, Saying::AppDisabled),
        53003 | 530030..=530039 => (Reason::ConditionalAccessBlocked, Saying::ConditionalAccess),
        _ => return None,
    })
}

/// By OAuth's own word (RFC 6749 section 5.2), for numbers that are not known here.
fn by_error(error: &str) -> Option<(Reason, Saying<'static>)> {
    match error {
        "invalid_client" => Some((Reason::SecretInvalid, Saying::SecretWrong)),
        "unauthorized_client" => Some((Reason::ApplicationNotFound, Saying::AppUnknown)),
        "invalid_scope" => Some((Reason::WrongPermission, Saying::ScopeRefused)),
        "invalid_resource" => Some((Reason::PermissionOrConsentMissing, Saying::ExchangeUnknownInTenant)),
        _ => None,
    }
}

/// Whether the token may be used for a protocol that needs `role`. False only where the token can be read and evidently does not do: Entra
/// issues tokens without any permission, and Exchange would refuse them without saying why. An opaque token is given the benefit of the doubt.
pub fn check_claims(claims: &Claims, role: &str) -> bool {
    !claims.readable || (is_for_exchange(claims) && claims.roles.iter().flatten().any(|held| held == role))
}

pub(super) fn claims<'a>(claims: &'a Claims, _context: &Context<'_>) -> Meaning<'a> {
    let roles = claims.roles.as_deref().unwrap_or_default();
    let (reason, saying) = match &claims.audience {
        Some(audience) if !is_for_exchange(claims) => (Reason::WrongPermission, Saying::TokenForAnotherApi { audience }),
        Some(_) | None if roles.is_empty() && claims.delegated => (Reason::WrongPermission, Saying::DelegatedToken),
        Some(_) | None if roles.is_empty() => (Reason::PermissionOrConsentMissing, Saying::NoRoles),
        Some(_) | None => (Reason::WrongPermission, Saying::OtherRoles { roles }),
    };
    Meaning { reason, saying, retry: SLOWLY }
}

fn is_for_exchange(claims: &Claims) -> bool {
    claims.audience.as_deref().is_none_or(|audience| {
        let name = audience.strip_prefix("https://").unwrap_or(audience);
        EXCHANGE.contains(&name.strip_suffix('/').unwrap_or(name).to_ascii_lowercase().as_str())
    })
}

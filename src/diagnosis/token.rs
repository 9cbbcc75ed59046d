//! What a refused token request means, and what a token's claims lack. Pure: no I/O, no clock.
#![deny(clippy::wildcard_enum_match_arm)]

use super::Context;
use super::saying::Saying;
use crate::entra::{Claims, Error, Shown};

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

pub(super) fn refused<'a>(error: &'a Error, context: &Context<'_>) -> Saying<'a> {
    match error {
        Error::Unreachable { authority: _, text } => Saying::EntraUnreachable { text },
        Error::Busy { status, code: _, retry_after } => Saying::EntraBusy { status: *status, wait: *retry_after },
        Error::Malformed(what) => Saying::EntraOdd { what },
        Error::CertificateExpired { not_after } => Saying::CertificateExpired { not_after: *not_after },
        Error::NoAssertion(error) => Saying::NoAssertion { error },
        Error::Refused { status, error, code, text, trace_id: _, correlation_id: _, shown } => {
            let shown = shown.as_deref();
            by_code(*code, context, shown).or_else(|| by_error(error, shown)).unwrap_or(Saying::EntraUnknownRefusal {
                status: *status,
                error,
                text,
            })
        }
    }
}

/// By the AADSTS number (Microsoft, "Microsoft Entra authentication and authorization error codes"; those not listed there were seen in
/// public threads).
fn by_code<'a>(code: Option<u32>, context: &Context<'_>, shown: Option<&'a Shown>) -> Option<Saying<'a>> {
    Some(match code? {
        90002 | 900023 | 50059 | 50194 | 9001023 | 900382 | 900432 | 90038 => Saying::TenantUnknown,
        700016 | 700011 | 70001 => Saying::AppUnknown,
        7000229 => Saying::EnterpriseApplicationMissing,
        7000215 | 70002 if context.secret_looks_like_guid => Saying::SecretIdStored,
        7000215 | 70002 => Saying::SecretWrong,
        7000222 => Saying::SecretExpired,
        7000216 | 7000218 | 900144 => Saying::SecretEmpty,
        700025 => Saying::PublicClient,
        700027 => Saying::CertificateUnknown { shown },
        700024 => Saying::AssertionOutOfTime,
        70021 | 700211 | 700212 | 700213 | 7002138 => Saying::FederatedMismatch { shown },
        70011 | 1002012 | 28002 | 28003 | 700022 | 700023 | 901002 => Saying::ScopeRefused,
        500011 | 50001 | 650052 => Saying::ExchangeUnknownInTenant,
        650056 | 650057 => Saying::NoRoles,
        7000112 | 1000031 => Saying::AppDisabled,
        53003 | 530030..=530039 => Saying::ConditionalAccess,
        _ => return None,
    })
}

/// By OAuth's own word (RFC 6749 section 5.2), for numbers that are not known here.
fn by_error<'a>(error: &str, shown: Option<&'a Shown>) -> Option<Saying<'a>> {
    match error {
        "invalid_client" => Some(match shown {
            Some(Shown::Certificate { .. }) => Saying::CertificateUnknown { shown },
            Some(Shown::Federated { .. }) => Saying::FederatedMismatch { shown },
            None => Saying::SecretWrong,
        }),
        "unauthorized_client" => Some(Saying::AppUnknown),
        "invalid_scope" => Some(Saying::ScopeRefused),
        "invalid_resource" => Some(Saying::ExchangeUnknownInTenant),
        _ => None,
    }
}

/// Whether the token may be used for a protocol that needs `role`. False only where the token can be read and evidently does not do: Entra
/// issues tokens without any permission, and Exchange would refuse them without saying why. An opaque token is given the benefit of the doubt.
pub fn check_claims(claims: &Claims, role: &str) -> bool {
    !claims.readable || (is_for_exchange(claims) && claims.roles.iter().flatten().any(|held| held == role))
}

pub(super) fn claims<'a>(claims: &'a Claims, _context: &Context<'_>) -> Saying<'a> {
    let roles = claims.roles.as_deref().unwrap_or_default();
    match &claims.audience {
        Some(audience) if !is_for_exchange(claims) => Saying::TokenForAnotherApi { audience },
        Some(_) | None if roles.is_empty() && claims.delegated => Saying::DelegatedToken,
        Some(_) | None if roles.is_empty() => Saying::NoRoles,
        Some(_) | None => Saying::OtherRoles { roles },
    }
}

fn is_for_exchange(claims: &Claims) -> bool {
    claims.audience.as_deref().is_none_or(|audience| {
        let name = audience.strip_prefix("https://").unwrap_or(audience);
        EXCHANGE.contains(&name.strip_suffix('/').unwrap_or(name).to_ascii_lowercase().as_str())
    })
}

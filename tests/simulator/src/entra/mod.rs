//! Entra's token endpoint: what a request is answered, in the order in which Entra checks (exchange-online.md 9.1).
//! The socket and HTTP are in `http`, how an app proves who it is in `credential`, federated issuers in `issuer`, tokens in `token`.

pub(crate) mod credential;
pub(crate) mod http;
mod issuer;
pub(crate) mod token;

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::civil;
use crate::message::mix;
use crate::record::{Proof, TokenRequest, locked, unix_nanoseconds};
use crate::shared::Shared;
use crate::tenant::{Cloud, EXCHANGE_RESOURCE, GRAPH_RESOURCE, PermissionKind, Tenant, World, find};
use http::{Reply, Request};
use token::Grant;

/// What a token request gets in place of the right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// 429, plain text, `Retry-After` in seconds.
    TooManyRequests {
        /// Seconds.
        retry_after: Option<u64>,
    },
    /// 503 with HTML.
    ServiceUnavailable,
    /// AADSTS90033, the directory is away for the moment.
    DirectoryUnavailable,
    /// Any AADSTS error.
    Refused {
        /// HTTP status.
        status: u16,
        /// OAuth `error`.
        error: &'static str,
        /// AADSTS number.
        code: u32,
        /// The description's first line, without the code.
        text: String,
    },
    /// No answer until the client goes.
    Hang,
    /// An answer that is so late.
    Delay(Duration),
    /// Half the body, then the end of the connection.
    TruncatedBody,
    /// The end of the connection before any answer.
    Close,
    /// The right answer, but the token is an opaque string (which Exchange accepts).
    OpaqueToken,
    /// The right answer with a token of more than so many characters.
    LongToken(usize),
    /// A 200 with this body.
    Body(String),
}

const TOKEN_V2: &str = "/oauth2/v2.0/token";
const TOKEN_V1: &str = "/oauth2/token";

/// Answers a request; also says what kind of trouble the answer is to be sent with.
async fn answer(shared: &Shared, request: &Request) -> (Reply, Option<TokenFault>) {
    let path = request.path.split('?').next().unwrap_or_default();
    if request.method == "GET"
        && let Some(reply) = issuer::document(shared, &request.host, path)
    {
        return (reply, None);
    }
    let (tenant, v1) = if let Some(tenant) = path.strip_suffix(TOKEN_V2) {
        (tenant, false)
    } else if let Some(tenant) = path.strip_suffix(TOKEN_V1) {
        (tenant, true)
    } else {
        return (Reply::text(404, "text/html", "<html><body>404</body></html>"), None);
    };
    if request.method != "POST" {
        return (Reply::text(405, "text/html", "<html><body>405</body></html>"), None);
    }
    let fault = locked(&shared.world).entra.faults.pop_front();
    let form = form(&request.body);
    let keys = match form.get("client_assertion") {
        Some(assertion) => issuer::keys(shared, assertion).await,
        None => None,
    };
    let tenant = tenant.trim_start_matches('/').to_owned();
    let outcome = match &fault {
        Some(TokenFault::TooManyRequests { .. } | TokenFault::ServiceUnavailable | TokenFault::Body(_)) => Err(Refusal::new(0, "", 0, "")),
        Some(TokenFault::DirectoryUnavailable) => {
            Err(Refusal::new(503, "temporarily_unavailable", 90_033, "A transient error has occurred. Please try again."))
        }
        Some(TokenFault::Refused { status, error, code, text }) => Err(Refusal::new(*status, error, *code, text)),
        _ => grant(shared, &tenant, v1, request, &form, fault.as_ref(), keys.as_ref()),
    };
    let reply = match (&fault, &outcome) {
        (Some(TokenFault::TooManyRequests { retry_after }), _) => {
            let reply = Reply::text(429, "text/plain", "Too Many Requests");
            match retry_after {
                Some(seconds) => reply.with_header("Retry-After", &seconds.to_string()),
                None => reply,
            }
        }
        (Some(TokenFault::ServiceUnavailable), _) => Reply::text(
            503,
            "text/html",
            "<html><head><title>Service Unavailable</title></head><body><h2>Our services aren't available right now</h2></body></html>",
        ),
        (Some(TokenFault::Body(body)), _) => Reply::text(200, "application/json; charset=utf-8", body),
        (_, Ok(body)) => Reply::text(200, "application/json; charset=utf-8", body),
        (_, Err(refusal)) => refused(shared, refusal),
    };
    shared.record.token_request(TokenRequest {
        tenant,
        client_id: client_id(request, &form).unwrap_or_default(),
        status: reply.status,
        code: outcome.err().map(|refusal| refusal.code).filter(|code| *code != 0),
        v1,
        proof: Proof::of(&form),
        unix_nanoseconds: unix_nanoseconds(),
    });
    (reply, fault)
}

struct Refusal {
    status: u16,
    error: String,
    code: u32,
    text: String,
}

impl Refusal {
    fn new(status: u16, error: &str, code: u32, text: &str) -> Self {
        Self { status, error: error.to_owned(), code, text: text.to_owned() }
    }
}

fn grant(
    shared: &Shared,
    tenant_name: &str,
    v1: bool,
    request: &Request,
    form: &HashMap<String, String>,
    fault: Option<&TokenFault>,
    keys: Option<&credential::Keys>,
) -> Result<String, Refusal> {
    let bad = |code, text: &str| Refusal::new(400, "invalid_request", code, text);
    let unauthenticated = |code, text: &str| Refusal::new(401, "invalid_client", code, text);
    if matches!(tenant_name, "common" | "organizations" | "consumers") {
        return Err(bad(
            9_001_023,
            &format!(
                "The grant type is not supported over the /{tenant_name} endpoint. Please use the /organizations or tenant-specific endpoint."
            ),
        ));
    }
    if !is_tenant_name(tenant_name) {
        return Err(bad(
            900_023,
            &format!("Specified tenant identifier '{tenant_name}' is neither a valid DNS name, nor a valid external domain."),
        ));
    }
    let mut world = locked(&shared.world);
    let lifetime = world.entra.token_lifetime;
    let former_thumbprints_only = world.entra.former_thumbprints_only;
    let federation_pending = form.contains_key("client_assertion") && world.entra.federation_pending > 0;
    world.entra.federation_pending -= u32::from(federation_pending);
    let World { tenants, entra, .. } = &mut *world;
    let seen = &mut entra.assertions_seen;
    let Some(tenant) = find(tenants, tenant_name) else {
        return Err(bad(
            90_002,
            &format!(
                "Tenant '{tenant_name}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."
            ),
        ));
    };
    let tenant_id = tenant.id.clone();
    let client_id = client_id(request, form);
    let target = if v1 { "resource" } else { "scope" };
    for (name, present) in [
        ("grant_type", form.get("grant_type").is_some_and(|value| !value.is_empty())),
        ("client_id", client_id.as_ref().is_some_and(|value| !value.is_empty())),
        (target, form.get(target).is_some_and(|value| !value.is_empty())),
    ] {
        if !present {
            return Err(bad(900_144, &format!("The request body must contain the following parameter: '{name}'.")));
        }
    }
    if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
        return Err(Refusal::new(400, "unsupported_grant_type", 70_003, "The app requested an unsupported grant type."));
    }
    let client_id = client_id.unwrap_or_default();
    let Some(application) = tenant.applications.iter().find(|application| application.client_id.eq_ignore_ascii_case(&client_id)) else {
        return Err(Refusal::new(
            400,
            "unauthorized_client",
            700_016,
            &format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant_id}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            ),
        ));
    };
    let audiences = audiences(&request.host, tenant);
    let appidacr = credential::check(
        application,
        &client_secret(request, form).unwrap_or_default(),
        form,
        credential::Setting { client_id: &client_id, audiences: &audiences, former_thumbprints_only, federation_pending, keys, seen },
    )?;
    let Some(enterprise) = tenant.enterprise_applications.iter().find(|app| app.client_id.eq_ignore_ascii_case(&client_id)) else {
        return Err(unauthenticated(
            7_000_229,
            &format!(
                "The client application {client_id} is missing service principal in the tenant {tenant_id}. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119"
            ),
        ));
    };
    if !enterprise.enabled {
        return Err(Refusal::new(
            400,
            "unauthorized_client",
            7_000_112,
            &format!("Application '{client_id}'({}) is disabled.", application.display_name),
        ));
    }
    if enterprise.blocked_by_conditional_access {
        return Err(Refusal::new(
            400,
            "invalid_grant",
            53_003,
            "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
        ));
    }
    let (audience, resource) = audience(tenant, form.get(target).map_or("", String::as_str), v1)?;
    let roles = application
        .permissions
        .iter()
        .filter(|permission| permission.consented && permission.kind == PermissionKind::Application && permission.resource == resource)
        .map(|permission| permission.role.clone())
        .collect();
    let now = unix_seconds();
    let lifetime = lifetime.map_or_else(|| 3_600 + mix(shared.issuer.next_number()) % 1_800, |lifetime| lifetime.as_secs());
    let grant = Grant {
        audience: &audience,
        tenant_id: &tenant_id,
        client_id: &client_id,
        display_name: &application.display_name,
        object_id: &enterprise.object_id,
        roles,
        appidacr,
        now,
        lifetime,
        opaque: fault == Some(&TokenFault::OpaqueToken),
        at_least: if let Some(TokenFault::LongToken(characters)) = fault { *characters } else { 0 },
    };
    let token = shared
        .issuer
        .issue(&grant)
        .ok_or_else(|| Refusal::new(500, "server_error", 90_036, "An unexpected, non-retryable error occurred."))?;
    Ok(if v1 {
        json!({
            "token_type": "Bearer",
            "expires_in": lifetime.to_string(),
            "ext_expires_in": lifetime.to_string(),
            "expires_on": (now + lifetime).to_string(),
            "not_before": now.saturating_sub(300).to_string(),
            "resource": audience,
            "access_token": token,
        })
    } else {
        json!({"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": token})
    }
    .to_string())
}

/// The `aud` of the token and the resource whose roles it carries.
fn audience(tenant: &Tenant, target: &str, v1: bool) -> Result<(String, &'static str), Refusal> {
    let scope_error = |code, text: String| Refusal::new(400, "invalid_scope", code, &text);
    let identifier = if v1 {
        target.trim_end_matches('/')
    } else {
        if !target.contains("://") && !target.contains(".default") {
            return Err(scope_error(
                70_011,
                format!(
                    "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope {target} is not valid."
                ),
            ));
        }
        target.strip_suffix("/.default").ok_or_else(|| {
            scope_error(1_002_012, format!("The provided value for scope {target} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."))
        })?
    };
    match identifier.trim_end_matches('/') {
        name if tenant.exchange_online && tenant.cloud.is_exchange(name) && (v1 || tenant.cloud != Cloud::China) => {
            Ok((identifier.to_owned(), EXCHANGE_RESOURCE))
        }
        "https://graph.microsoft.com" => Ok((identifier.to_owned(), GRAPH_RESOURCE)),
        _ => Err(Refusal::new(
            400,
            "invalid_resource",
            500_011,
            &format!(
                "The resource principal named {identifier} was not found in the tenant named {}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
                tenant.id
            ),
        )),
    }
}

fn refused(shared: &Shared, refusal: &Refusal) -> Reply {
    let (one_line, without_uri) = {
        let world = locked(&shared.world);
        (world.entra.one_line_descriptions, world.entra.without_error_uri)
    };
    let now = unix_seconds();
    let spread = mix(unix_nanoseconds());
    let trace = format!("{:08x}-0000-4000-8000-{:012x}", spread >> 32, spread & 0xffff_ffff_ffff);
    let correlation = format!("{:08x}-0000-4000-9000-{:012x}", spread & 0xffff_ffff, spread >> 16);
    let timestamp = civil::entra_date(i64::try_from(now).unwrap_or(0));
    let end = if one_line { " " } else { "\r\n" };
    let mut body = json!({
        "error": refusal.error,
        "error_description": format!(
            "AADSTS{}: {}{end}Trace ID: {trace}{end}Correlation ID: {correlation}{end}Timestamp: {timestamp}",
            refusal.code, refusal.text
        ),
        "error_codes": [refusal.code],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
    });
    if let Some(body) = body.as_object_mut()
        && !without_uri
    {
        body.insert("error_uri".to_owned(), json!(format!("https://login.microsoftonline.com/error?code={}", refusal.code)));
    }
    Reply::text(refusal.status, "application/json; charset=utf-8", &body.to_string())
}

/// How an assertion may name this endpoint: as it was reached, or as Microsoft's is called; as a token endpoint, or in the former way.
fn audiences(host: &str, tenant: &Tenant) -> Vec<String> {
    let names = std::iter::once(&tenant.id).chain(&tenant.domains);
    names
        .flat_map(|name| [host, "login.microsoftonline.com"].map(|host| format!("https://{host}/{name}")))
        .flat_map(|base| ["/oauth2/v2.0/token", "/oauth2/token", "/v2.0"].map(|path| format!("{base}{path}")))
        .collect()
}

fn client_id(request: &Request, form: &HashMap<String, String>) -> Option<String> {
    form.get("client_id").cloned().or_else(|| basic(request).map(|(name, _)| name))
}

fn client_secret(request: &Request, form: &HashMap<String, String>) -> Option<String> {
    form.get("client_secret").cloned().or_else(|| basic(request).map(|(_, secret)| secret))
}

/// `client_secret_basic` (RFC 6749 section 2.3.1): both parts are form-encoded inside.
fn basic(request: &Request) -> Option<(String, String)> {
    let credentials = BASE64_STANDARD.decode(request.authorization.strip_prefix("Basic ")?).ok()?;
    let credentials = String::from_utf8(credentials).ok()?;
    let (name, secret) = credentials.split_once(':')?;
    Some((percent_decoded(name), percent_decoded(secret)))
}

fn form(body: &[u8]) -> HashMap<String, String> {
    String::from_utf8_lossy(body)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (percent_decoded(name), percent_decoded(value)))
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let ahead = rest.clone();
                let digits: Vec<u8> = ahead.take(2).collect();
                match std::str::from_utf8(&digits)
                    .ok()
                    .filter(|digits| digits.len() == 2)
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                {
                    Some(value) => {
                        bytes.push(value);
                        rest.nth(1);
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A GUID or a DNS name with a dot; a GUID with a character missing is neither.
fn is_tenant_name(name: &str) -> bool {
    let groups: Vec<usize> = name.split('-').map(str::len).collect();
    let guid = groups == [8, 4, 4, 4, 12] && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    let domain = name.contains('.')
        && name.split('.').all(|label| !label.is_empty())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    guid || domain
}

fn unix_seconds() -> u64 {
    unix_nanoseconds() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_as_browsers_encode_it() {
        let form = form(b"client_secret=a%7E%2B%2f+b&scope=https%3A%2F%2Fx%2F.default&odd=100%");
        assert_eq!(form["client_secret"], "a~+/ b");
        assert_eq!(form["scope"], "https://x/.default");
        assert_eq!(form["odd"], "100%");
    }

    #[test]
    fn a_tenant_is_a_guid_or_a_domain() {
        assert!(is_tenant_name("7e1a5c00-0000-4000-8000-000000000000"));
        assert!(is_tenant_name("contoso.example"));
        for name in ["7e1a5c00-0000-4000-8000-00000000000", "contoso", "", "a..b", "a b.c"] {
            assert!(!is_tenant_name(name), "{name}");
        }
    }
}

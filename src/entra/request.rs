//! One token request: the form, the deadline, and what the answer says, as facts. No cache, no retry.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;
use tracing::info;

use super::assertion::{self, AssertionError, AssertionSource};
use super::certificate::{Certificate, Form};
use super::{Credential, Endpoint, Error, Proof, Shown, Token, claims};

/// From the first packet to the last byte of the answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer read, in bytes; the longest tokens have some 10 KB.
const LONGEST_BODY: usize = 64 * 1024;
/// Longest text of Entra's that is kept, in bytes.
const LONGEST_TEXT: usize = 300;
/// As MSAL has it (msal/throttled_http_client.py).
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// With continuous access evaluation tokens live up to 28 hours (Microsoft, "Access tokens").
const LONGEST_LIFE: Duration = Duration::from_secs(48 * 3_600);
/// Codes that pass by themselves: directory store, external server, budget, time-out, tenant throttled, request loop, Graph (Microsoft,
/// "Microsoft Entra authentication and authorization error codes").
const TRANSIENT: [u32; 8] = [90033, 90006, 90024, 90012, 50033, 90090, 90055, 50196];

/// A token and how long it lives from now.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) token: Token,
    pub(super) lifetime: Duration,
}

/// AADSTS number of an assertion signed with a key that the app does not have.
const UNKNOWN_KEY: u32 = 700_027;
/// RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Where to ask, and with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) http: &'a reqwest::Client,
    /// A URL without the tenant.
    pub(super) authority: &'a str,
    pub(super) endpoint: Endpoint,
    pub(super) assertions: Option<&'a dyn AssertionSource>,
}

/// Asks for a token of `credential` (RFC 6749 section 4.4; Microsoft, "OAuth 2.0 client credentials flow"). Two requests at most: an assertion
/// whose key Entra does not know is shown once more in the other form.
pub(super) async fn token(target: Target<'_>, credential: &Credential) -> Result<Answer, Error> {
    match &credential.proof {
        Proof::Secret(secret) => ask(target, credential, &[("client_secret", secret.expose_secret())], None).await,
        Proof::Certificate(certificate) => {
            if certificate.not_after() <= Timestamp::now() {
                return Err(Error::CertificateExpired { not_after: certificate.not_after() });
            }
            match by_certificate(target, credential, certificate, Form::Current).await {
                Err(refused @ Error::Refused { code: Some(UNKNOWN_KEY), .. }) => {
                    let second = by_certificate(target, credential, certificate, Form::Former).await;
                    let taken = if second.is_ok() { Form::Former.as_str() } else { "neither" };
                    info!(client_id = credential.client_id, refused = Form::Current.as_str(), taken, "certificate shown in both forms");
                    second.map_err(|_| refused)
                }
                answer => answer,
            }
        }
        Proof::Federated(account) => {
            let source = target.assertions.ok_or(AssertionError::NoSource)?;
            let token = source.assertion(account).await?;
            ask(target, credential, &shown_as(token.expose_secret()), Some(assertion::shown(&token))).await
        }
    }
}

fn shown_as(assertion: &str) -> [(&'static str, &str); 2] {
    [("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)]
}

async fn by_certificate(target: Target<'_>, credential: &Credential, certificate: &Certificate, form: Form) -> Result<Answer, Error> {
    let Some(audience) = url(target, &credential.tenant_id) else { return Err(no_url(target.authority)) };
    let signed = certificate.assertion(&credential.client_id, audience.as_str(), &request_id(), form, Timestamp::now());
    let Some(assertion) = signed else { return Err(Error::Malformed("the system gives no randomness to sign with")) };
    let shown = Shown::Certificate { sha1: certificate.sha1(), sha256: certificate.sha256() };
    ask(target, credential, &shown_as(&assertion), Some(shown)).await
}

async fn ask(target: Target<'_>, credential: &Credential, proof: &[(&str, &str)], shown: Option<Shown>) -> Result<Answer, Error> {
    let unreachable = |text: String| Error::Unreachable { authority: host_and_port(target.authority), text };
    let Some(url) = url(target, &credential.tenant_id) else { return Err(no_url(target.authority)) };
    let scope = credential.cloud.scope();
    let resource = match target.endpoint {
        Endpoint::V2 => ("scope", scope.as_str()),
        Endpoint::V1 => ("resource", scope.trim_end_matches("/.default")),
    };
    let mut form = vec![("client_id", credential.client_id.as_str()), resource];
    form.extend_from_slice(proof);
    form.push(("grant_type", "client_credentials"));
    let secrets: Vec<&str> = proof.iter().filter(|(name, _)| *name != "client_assertion_type").map(|(_, value)| *value).collect();
    match tokio::time::timeout(DEADLINE, exchange(target.http, url, &form)).await {
        Ok(Ok(answer)) => read(&answer, &secrets, shown, Timestamp::now()),
        Ok(Err(error)) => Err(unreachable(bounded(&innermost(error), LONGEST_TEXT))),
        Err(_elapsed) => Err(unreachable(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

fn no_url(authority: &str) -> Error {
    Error::Unreachable { authority: host_and_port(authority), text: "the authority is not an http(s) URL".into() }
}

/// The token endpoint: also the audience of an assertion.
fn url(target: Target<'_>, tenant: &str) -> Option<Url> {
    let mut url = Url::parse(target.authority).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    let path: &[&str] = match target.endpoint {
        Endpoint::V1 => &["oauth2", "token"],
        Endpoint::V2 => &["oauth2", "v2.0", "token"],
    };
    url.path_segments_mut().ok()?.pop_if_empty().push(tenant).extend(path);
    Some(url)
}

fn host_and_port(authority: &str) -> String {
    let url = Url::parse(authority).ok();
    let host = url.as_ref().and_then(|url| url.host_str().zip(url.port_or_known_default()));
    host.map_or_else(|| bounded(authority, LONGEST_TEXT), |(host, port)| format!("{host}:{port}"))
}

/// An answer as it came.
struct Raw {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// There was more than [`LONGEST_BODY`].
    cut: bool,
}

async fn exchange(http: &reqwest::Client, url: Url, form: &[(&str, &str)]) -> Result<Raw, reqwest::Error> {
    let request = http.post(url).header("client-request-id", request_id()).header("return-client-request-id", "true").form(form);
    let mut response: Response = request.send().await?;
    let mut body = Vec::new();
    let mut cut = false;
    while let Some(chunk) = response.chunk().await? {
        let room = LONGEST_BODY.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
        cut = chunk.len() > room;
        if cut {
            break;
        }
    }
    Ok(Raw { status: response.status(), headers: std::mem::take(response.headers_mut()), body, cut })
}

/// A version 4 UUID (RFC 9562 section 5.4), by which Microsoft finds a request in its logs.
fn request_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is merely not unique.
    let _filled = aws_lc_rs::rand::fill(&mut bytes);
    let bits = u128::from_be_bytes(bytes) & !(0xf000 << 64) & !(0xc << 60) | (0x4000 << 64) | (0x8 << 60);
    let hex = format!("{bits:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Value,
}

/// The error body; each field may be missing or odd, the others are still read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: Value,
    error_description: Value,
    error_codes: Value,
    trace_id: Value,
    correlation_id: Value,
}

fn read(raw: &Raw, secrets: &[&str], showed: Option<Shown>, now: Timestamp) -> Result<Answer, Error> {
    let status = raw.status.as_u16();
    if raw.status.is_success() {
        return granted(raw, now);
    }
    let refusal: Refusal = serde_json::from_slice(&raw.body).unwrap_or_default();
    let shown = |value: &Value, longest: usize| shown(value.as_str().unwrap_or_default(), secrets, longest);
    let error = shown(&refusal.error, 64);
    let code = code(&refusal);
    let busy = raw.status == StatusCode::TOO_MANY_REQUESTS
        || raw.status == StatusCode::REQUEST_TIMEOUT
        || raw.status.is_server_error()
        || code.is_some_and(|code| TRANSIENT.contains(&code))
        || matches!(error.as_str(), "temporarily_unavailable" | "server_error");
    if busy {
        return Err(Error::Busy { status, code, retry_after: retry_after(&raw.headers, now) });
    }
    let text = match refusal.error_description.as_str() {
        Some(_) => shown(&refusal.error_description, LONGEST_TEXT),
        None if raw.status.is_redirection() => "a redirect, which is not followed".to_owned(),
        None => "no error description".to_owned(),
    };
    let id = |value: &Value| Some(shown(value, 64)).filter(|id| !id.is_empty());
    Err(Error::Refused {
        status,
        error,
        code,
        text,
        trace_id: id(&refusal.trace_id),
        correlation_id: id(&refusal.correlation_id),
        shown: showed.map(Box::new),
    })
}

fn granted(raw: &Raw, now: Timestamp) -> Result<Answer, Error> {
    if raw.cut {
        return Err(Error::Malformed("it is longer than 64 KiB"));
    }
    let Ok(Granted { access_token, expires_in }) = serde_json::from_slice(&raw.body) else {
        return Err(Error::Malformed("access_token or expires_in is missing"));
    };
    // It goes into a SASL exchange, where a control character would be another field.
    if access_token.is_empty() || !access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Malformed("access_token is empty or not printable ASCII"));
    }
    // The v1 endpoint and managed identities send numbers as strings.
    let seconds = expires_in.as_u64().or_else(|| expires_in.as_str().and_then(|text| text.trim().parse().ok()));
    let Some(seconds) = seconds.filter(|seconds| *seconds > 0) else {
        return Err(Error::Malformed("expires_in is not a number of seconds"));
    };
    let lifetime = Duration::from_secs(seconds).min(LONGEST_LIFE);
    let expiration = SignedDuration::try_from(lifetime).ok().and_then(|lifetime| now.checked_add(lifetime).ok()).unwrap_or(now);
    let claims = claims::read(&access_token);
    Ok(Answer { token: Token { secret: access_token.into(), expiration, claims }, lifetime })
}

/// `error_codes[0]`, else the first `AADSTS` number of the description.
fn code(refusal: &Refusal) -> Option<u32> {
    let listed = refusal.error_codes.get(0).and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
    listed.or_else(|| {
        let (_, rest) = refusal.error_description.as_str()?.split_once("AADSTS")?;
        rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
    })
}

/// Seconds or an HTTP date (RFC 9110 section 10.2.3), an hour at most.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// The first line of a text of Entra's, without the secret should it be quoted there.
fn shown(text: &str, secrets: &[&str], longest: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    // Some answers have all on one line.
    let line = line.split_once(" Trace ID:").map_or(line, |(line, _)| line);
    // Anything shorter is no secret, and blanking it out would garble the text.
    let blanked = secrets.iter().filter(|secret| secret.len() >= 4).fold(line.to_owned(), |line, secret| line.replace(secret, "***"));
    bounded(&blanked, longest)
}

fn bounded(text: &str, longest: usize) -> String {
    let mut kept = String::new();
    for character in text.trim().chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > longest {
            break;
        }
        kept.push(character);
    }
    kept
}

/// The cause at the bottom of a failed exchange, which is the one that says something ("connection refused", "invalid peer certificate").
/// Without the URL, whose path names the tenant.
fn innermost(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

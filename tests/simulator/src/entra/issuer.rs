//! The documents by which a token's issuer is known (OpenID Connect Discovery 1.0, RFC 7517): served for this stand-in's own tokens, and fetched
//! from the issuers of federated credentials as Entra fetches them.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::credential::{Assertion, Keys};
use super::http::Reply;
use crate::record::locked;
use crate::shared::Shared;

const DISCOVERY: &str = "/v2.0/.well-known/openid-configuration";
const KEYS: &str = "/discovery/v2.0/keys";
const DEADLINE: Duration = Duration::from_secs(10);
const LONGEST: u64 = 256 * 1024;

/// The answer to a GET, where there is one.
pub(super) fn document(shared: &Shared, host: &str, path: &str) -> Option<Reply> {
    let found = |value: Value| Some(Reply::text(200, "application/json; charset=utf-8", &value.to_string()));
    if let Some(tenant) = path.strip_suffix(DISCOVERY) {
        let tenant = tenant.trim_start_matches('/');
        locked(&shared.world).tenant(tenant)?;
        let base = format!("https://{host}/{tenant}");
        return found(json!({
            "issuer": format!("{base}/v2.0"),
            "token_endpoint": format!("{base}/oauth2/v2.0/token"),
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
            "jwks_uri": format!("{base}{KEYS}"),
            "id_token_signing_alg_values_supported": ["RS256"],
        }));
    }
    let tenant = path.strip_suffix(KEYS)?.trim_start_matches('/');
    locked(&shared.world).tenant(tenant)?;
    found(json!({"keys": [shared.issuer.public_key()]}))
}

/// The keys of the assertion's issuer, where some app's federated credential names it; `None` for any other, and where they cannot be had.
pub(super) async fn keys(shared: &Shared, assertion: &str) -> Option<Keys> {
    let issuer = Assertion::read(assertion)?.issuer().to_owned();
    let (named, mut trusted) = {
        let world = locked(&shared.world);
        let named = world
            .tenants
            .iter()
            .flat_map(|tenant| &tenant.applications)
            .flat_map(|application| &application.federated_credentials)
            .any(|known| known.issuer == issuer);
        (named, world.entra.issuer_authorities.clone())
    };
    if !named {
        return None;
    }
    trusted.push(shared.ca_pem.clone());
    let fetched = async {
        let discovery = get(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')), &trusted).await?;
        // Entra wants the document to name the issuer exactly.
        (discovery.get("issuer").and_then(Value::as_str) == Some(&issuer)).then_some(())?;
        get(discovery.get("jwks_uri").and_then(Value::as_str)?, &trusted).await?.get("keys").and_then(Value::as_array).cloned()
    };
    tokio::time::timeout(DEADLINE, fetched).await.ok()?
}

async fn get(url: &str, trusted: &[String]) -> Option<Value> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, 443),
    };
    let mut roots = RootCertStore::empty();
    for pem in trusted {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.ok()?).ok()?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect((host, port)).await.ok()?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned()).ok()?, tcp).await.ok()?;
    // HTTP/1.0, so that the body ends with the connection and comes in one piece.
    stream.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {authority}\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    // A server that ends without TLS's goodbye has still said all.
    let _end = (&mut stream).take(LONGEST).read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| serde_json::from_str(body).ok())?
}

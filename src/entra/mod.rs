//! Tokens from Microsoft Entra for app-only access (OAuth 2.0 client credentials): request, cache, typed refusals.
//! What a refusal means to a person is decided in `diagnosis`.

mod assertion;
mod cache;
mod certificate;
mod claims;
mod request;

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::proxy::Proxy;
pub use assertion::{AUDIENCE, AssertionError, AssertionSource, ServiceAccount};
use cache::Cache;
pub use certificate::{Certificate, Part, Problem};

/// The Microsoft cloud whose hosts are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cloud {
    /// `login.microsoftonline.com`.
    #[default]
    Public,
    /// GCC High.
    UsGovernment,
    /// DoD.
    UsGovernmentDod,
    /// 21Vianet.
    China,
}

impl Cloud {
    /// Where tokens come from (Microsoft's page on national clouds, exchange-online authentication).
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGovernment | Self::UsGovernmentDod => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    /// The host of Exchange Online, which is also the resource that tokens are asked for. The host of `UsGovernmentDod` is unproven: Microsoft
    /// publishes none for IMAP, other clients use the one of GCC High.
    pub fn exchange_host(self) -> &'static str {
        match self {
            Self::Public => "outlook.office365.com",
            Self::UsGovernment | Self::UsGovernmentDod => "outlook.office365.us",
            Self::China => "partner.outlook.cn",
        }
    }

    /// Which of Entra's token endpoints is asked: 21Vianet's knows the resource of Exchange by the older one (email-oauth2-proxy issue 255).
    pub fn endpoint(self) -> Endpoint {
        match self {
            Self::Public | Self::UsGovernment | Self::UsGovernmentDod => Endpoint::V2,
            Self::China => Endpoint::V1,
        }
    }

    /// The scope of an app-only token for IMAP and POP: `https://<host>/.default` (Microsoft, "Authenticate an IMAP, POP or SMTP connection
    /// using OAuth").
    pub fn scope(self) -> String {
        format!("https://{}/.default", self.exchange_host())
    }
}

/// Entra's two token endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/oauth2/token`, which takes a `resource`.
    V1,
    /// `/oauth2/v2.0/token`, which takes a `scope`.
    V2,
}

/// How an app proves who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A client secret's value.
    Secret(SecretString),
    /// Assertions signed with a certificate's key.
    Certificate(Arc<Certificate>),
    /// Tokens of a Kubernetes service account that the app trusts (a federated credential).
    Federated(ServiceAccount),
}

impl Proof {
    /// Whether `other` is the same proof.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Secret(one), Self::Secret(other)) => one.expose_secret() == other.expose_secret(),
            (Self::Certificate(one), Self::Certificate(other)) => one.same(other),
            (Self::Federated(one), Self::Federated(other)) => one == other,
            (Self::Secret(_) | Self::Certificate(_) | Self::Federated(_), _) => false,
        }
    }
}

/// An app's credential, validated (nothing empty, no white space around).
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name of the Secret or AppRegistration it was read from, for remedies.
    pub name: String,
    /// Directory (tenant) id or a verified domain.
    pub tenant_id: String,
    /// Application (client) id.
    pub client_id: String,
    /// The proof.
    pub proof: Proof,
    /// The cloud.
    pub cloud: Cloud,
    /// When the secret (where declared) or the certificate ends.
    pub secret_expiration: Option<Timestamp>,
}

impl Credential {
    /// Whether `other` is the same credential of the same app, so that nothing needs to start anew.
    pub fn same(&self, other: &Self) -> bool {
        let Self { name, tenant_id, client_id, proof, cloud, secret_expiration } = self;
        *name == other.name
            && *tenant_id == other.tenant_id
            && *client_id == other.client_id
            && proof.same(&other.proof)
            && *cloud == other.cloud
            && *secret_expiration == other.secret_expiration
    }

    /// The secret has the form of a GUID: ids have it, values never. The commonest mistake of all.
    pub fn looks_like_guid(&self) -> bool {
        let Proof::Secret(secret) = &self.proof else { return false };
        let groups: Vec<&str> = secret.expose_secret().split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        lengths == [8, 4, 4, 4, 12] && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// What a token says of itself, read for diagnosis only; `None` throughout where the token is opaque.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `aud`.
    pub audience: Option<String>,
    /// `oid`: the enterprise application's object id, what New-ServicePrincipal wants.
    pub object_id: Option<String>,
    /// `appid` or `azp`.
    pub app_id: Option<String>,
    /// `tid`.
    pub tenant_id: Option<String>,
    /// `roles`; `None` when the claim is absent from a readable token.
    pub roles: Option<Vec<String>>,
    /// `scp` was there: a delegated token.
    pub delegated: bool,
    /// The token could be read at all.
    pub readable: bool,
}

/// A token.
#[derive(Clone, Debug)]
pub struct Token {
    /// The bearer token itself.
    pub secret: SecretString,
    /// When it ends.
    pub expiration: Timestamp,
    /// What it says.
    pub claims: Claims,
}

/// What was shown to Entra in place of a secret, as far as a remedy must name it. Nothing here is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// An assertion signed with a certificate's key.
    Certificate {
        /// The thumbprint that the portal shows.
        sha1: String,
        /// The other thumbprint.
        sha256: String,
    },
    /// A service account's token.
    Federated {
        /// `iss`.
        issuer: String,
        /// `sub`.
        subject: String,
        /// `aud`.
        audience: String,
    },
}

/// A fact about a failed token request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// DNS, TCP or TLS to the authority failed, or no answer in time.
    #[error("cannot reach {authority}: {text}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// The library's words, bounded.
        text: String,
    },
    /// Entra refused.
    #[error("Entra answered {status} {error}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// OAuth `error`.
        error: String,
        /// The first AADSTS number.
        code: Option<u32>,
        /// The first line of the description, bounded to 300 bytes.
        text: String,
        /// For a support case with Microsoft.
        trace_id: Option<String>,
        /// For a support case with Microsoft.
        correlation_id: Option<String>,
        /// What was refused, where it was no secret.
        shown: Option<Box<Shown>>,
    },
    /// The certificate ended before anything was asked.
    #[error("the certificate ended at {not_after}")]
    CertificateExpired {
        /// When.
        not_after: Timestamp,
    },
    /// There is no token of the service account to show.
    #[error(transparent)]
    NoAssertion(#[from] AssertionError),
    /// Throttled or out of order (429, 5xx, or a transient AADSTS).
    #[error("Entra is busy ({status})")]
    Busy {
        /// HTTP status.
        status: u16,
        /// AADSTS number, where there is one.
        code: Option<u32>,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// A 200 that holds no token.
    #[error("Entra's answer holds no token: {0}")]
    Malformed(&'static str),
}

/// The HTTP client that [`Tokens`] is to be given: it follows no redirect (a redirected POST would carry the secret along), goes through `proxy`
/// where that serves the host and through no other, and has deadlines.
pub fn http_client(tls: &rustls::ClientConfig, proxy: Option<&Arc<Proxy>>) -> Result<reqwest::Client, reqwest::Error> {
    // Otherwise the library would read variables of the environment by itself.
    let mut builder = reqwest::Client::builder().no_proxy();
    if let Some(proxy) = proxy {
        let served = Arc::clone(proxy);
        let mut route = reqwest::Proxy::custom(move |url| url.host_str().and_then(|host| served.serves(host)).map(|_| served.url()));
        if let Some(authorization) = proxy.authorization()
            && let Ok(mut value) = reqwest::header::HeaderValue::from_str(authorization.expose_secret())
        {
            value.set_sensitive(true);
            route = route.custom_http_auth(value);
        }
        builder = builder.proxy(route);
    }
    builder
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .timeout(request::DEADLINE)
        .pool_max_idle_per_host(2)
        .user_agent(concat!("mailbox-collector/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Who counts requests.
struct Observer(Option<Box<dyn Fn(&'static str) + Send + Sync>>);

impl Observer {
    fn tell(&self, result: &'static str) {
        if let Some(observer) = &self.0 {
            observer(result);
        }
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// The cache of tokens: one per (authority, tenant, client, proof), single flight, renewed early.
///
/// Failures are kept too, shortly, so that 10,000 collectors of one app ask once: a refusal four minutes, a busy Entra for as long as it says.
#[derive(Debug)]
pub struct Tokens {
    http: reqwest::Client,
    authority_override: Option<String>,
    endpoint_override: Option<Endpoint>,
    assertions: Option<Arc<dyn AssertionSource>>,
    observer: Observer,
    /// Known to this process only: what a core dump or a log could show of a cache key says nothing of the secret.
    key: hmac::Key,
    cache: Cache,
}

impl Tokens {
    /// Tokens over `http` (see [`http_client`]), from each credential's cloud or, where given, from `authority_override` (a URL without the
    /// tenant: `https://localhost:8443`).
    pub fn new(http: reqwest::Client, authority_override: Option<String>) -> Self {
        let mut key = [0; 32];
        // It cannot fail on Linux once the process runs; if it did, the key would merely be a known one.
        let _filled = aws_lc_rs::rand::fill(&mut key);
        Self {
            http,
            authority_override,
            endpoint_override: None,
            assertions: None,
            observer: Observer(None),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            cache: Cache::default(),
        }
    }

    /// Where tokens of service accounts come from; without it, federated credentials fail.
    pub fn with_assertions(self, assertions: Arc<dyn AssertionSource>) -> Self {
        Self { assertions: Some(assertions), ..self }
    }

    /// `observer` is told the result of each request: `granted`, `refused`, `busy`, `unreachable`, `malformed`, or `unasked` where the proof
    /// could not be made.
    pub fn with_observer(self, observer: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self { observer: Observer(Some(Box::new(observer))), ..self }
    }

    /// Asks this endpoint whatever the cloud.
    pub fn with_endpoint(self, endpoint: Option<Endpoint>) -> Self {
        Self { endpoint_override: endpoint, ..self }
    }

    /// A token good for at least five more minutes, or for half its lifetime where that is shorter. While a renewal is under way or fails, the
    /// old one as long as it is good for a minute.
    ///
    /// `asked`: since when a person wants a new answer. A refusal from before is then not believed, nor is a doubted token; Entra is asked anew,
    /// at most once a second for an app, and not while it is busy.
    pub async fn token(&self, credential: &Credential, asked: Option<Instant>) -> Result<Arc<Token>, Error> {
        let target = request::Target {
            http: &self.http,
            authority: self.authority(credential),
            endpoint: self.endpoint_override.unwrap_or_else(|| credential.cloud.endpoint()),
            assertions: self.assertions.as_deref(),
        };
        let fetch = || async {
            let answer = request::token(target, credential).await;
            self.observer.tell(match &answer {
                Ok(_) => "granted",
                Err(Error::Refused { .. }) => "refused",
                Err(Error::Busy { .. }) => "busy",
                Err(Error::Unreachable { .. }) => "unreachable",
                Err(Error::Malformed(_)) => "malformed",
                Err(Error::CertificateExpired { .. } | Error::NoAssertion(_)) => "unasked",
            });
            answer
        };
        self.cache.token(self.cache_key(credential), asked, fetch).await
    }

    /// Casts doubt on the cached token: the next call asks Entra (a role was missing, or Exchange refused it), unless the token is younger than
    /// 15 s, which bounds what many collectors of a misconfigured app can cause.
    pub async fn forget(&self, credential: &Credential) {
        self.cache.doubt(&self.cache_key(credential));
    }

    /// The authority asked for this credential, as a URL; for messages.
    pub fn authority<'a>(&'a self, credential: &Credential) -> &'a str {
        self.authority_override.as_deref().unwrap_or_else(|| credential.cloud.authority())
    }

    fn cache_key(&self, credential: &Credential) -> cache::Key {
        let mut context = hmac::Context::with_key(&self.key);
        let (kind, proof): (&str, &[&[u8]]) = match &credential.proof {
            Proof::Secret(secret) => ("secret", &[secret.expose_secret().as_bytes()]),
            Proof::Certificate(certificate) => ("certificate", &[certificate.fingerprint()]),
            Proof::Federated(account) => ("federated", &[account.namespace.as_bytes(), account.name.as_bytes()]),
        };
        let app = [self.authority(credential), credential.cloud.exchange_host(), &credential.tenant_id, &credential.client_id, kind];
        for part in app.into_iter().map(str::as_bytes).chain(proof.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        key
    }
}

#[cfg(test)]
mod tests;

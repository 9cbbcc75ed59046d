//! Access tokens as Entra issues them for Exchange: RS256 JWTs in the v1.0 format (exchange-online.md 1.8), or opaque strings.
//! Knows nothing of requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::error::StartError;
use crate::message::mix;
use crate::record::locked;

/// Signs tokens and knows them again.
pub(crate) struct Issuer {
    key: Arc<RsaKeyPair>,
    key_id: String,
    issued: AtomicU64,
    opaque: Mutex<HashMap<String, Value>>,
}

/// What a token is to say.
pub(crate) struct Grant<'a> {
    pub(crate) audience: &'a str,
    pub(crate) tenant_id: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) display_name: &'a str,
    pub(crate) object_id: &'a str,
    pub(crate) roles: Vec<String>,
    /// "1" for a secret, "2" for an assertion.
    pub(crate) appidacr: &'a str,
    pub(crate) now: u64,
    pub(crate) lifetime: u64,
    /// As an opaque string.
    pub(crate) opaque: bool,
    /// At least so many characters long (Exchange's POP chokes above 4,096).
    pub(crate) at_least: usize,
}

/// What Exchange reads from a token whose signature is right.
pub(crate) struct Claims {
    pub(crate) audience: String,
    pub(crate) tenant_id: String,
    pub(crate) app_id: String,
    pub(crate) object_id: String,
    pub(crate) roles: Vec<String>,
    pub(crate) expires: u64,
    pub(crate) number: u64,
}

impl Issuer {
    pub(crate) fn new() -> Result<Self, StartError> {
        let key = key_of_this_process()?;
        let public = key.public_key().as_der().map_err(|_| StartError::Key)?;
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, public.as_ref()).as_ref().get(..20).unwrap_or_default());
        Ok(Self { key, key_id, issued: AtomicU64::new(0), opaque: Mutex::default() })
    }

    /// The number that the next token will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// The key that signs, for who wants to verify (RFC 7518 section 6.3.1).
    pub(crate) fn public_key(&self) -> Value {
        let public = self.key.public_key();
        let number = |number: aws_lc_rs::io::Positive<'_>| BASE64_URL_SAFE_NO_PAD.encode(number.big_endian_without_leading_zero());
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.key_id, "x5t": self.key_id,
            "n": number(public.modulus()), "e": number(public.exponent()),
        })
    }

    /// `None` if signing fails, which a sound key does not.
    pub(crate) fn issue(&self, grant: &Grant<'_>) -> Option<String> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let issued_at = grant.now.saturating_sub(300);
        let mut claims = json!({
            "aud": grant.audience,
            "iss": format!("https://sts.windows.net/{}/", grant.tenant_id),
            "iat": issued_at,
            "nbf": issued_at,
            "exp": grant.now + grant.lifetime,
            "aio": BASE64_URL_SAFE_NO_PAD.encode(mix(number).to_be_bytes()),
            "app_displayname": grant.display_name,
            "appid": grant.client_id,
            "appidacr": grant.appidacr,
            "idp": format!("https://sts.windows.net/{}/", grant.tenant_id),
            "idtyp": "app",
            "oid": grant.object_id,
            "rh": "1.AAAA",
            "sid": format!("{:032x}", mix(number)),
            "sub": grant.object_id,
            "tid": grant.tenant_id,
            "uti": format!("{number:016x}"),
            "ver": "1.0",
        });
        if !grant.roles.is_empty()
            && let Some(claims) = claims.as_object_mut()
        {
            claims.insert("roles".to_owned(), json!(grant.roles));
        }
        if grant.opaque {
            let token =
                format!("EwB{}", BASE64_URL_SAFE_NO_PAD.encode(format!("{:x}-{number}", mix(number)).repeat(1 + grant.at_least / 24)));
            locked(&self.opaque).insert(token.clone(), claims);
            return Some(token);
        }
        if let Some(claims) = claims.as_object_mut()
            && grant.at_least > 0
        {
            claims.insert("xms_padding".to_owned(), json!("x".repeat(grant.at_least)));
        }
        let header =
            json!({"typ": "JWT", "nonce": format!("{:x}", mix(number ^ 1)), "alg": "RS256", "x5t": self.key_id, "kid": self.key_id});
        let mut token = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        self.signed(token)
    }

    /// A token of a Kubernetes cluster whose issuer is this stand-in (its discovery document and keys are Entra's own).
    pub(crate) fn service_account_token(&self, issuer: &str, subject: &str, audience: &str, now: u64) -> Option<String> {
        let header = json!({"alg": "RS256", "kid": self.key_id});
        let claims = json!({"iss": issuer, "sub": subject, "aud": [audience], "iat": now, "nbf": now, "exp": now + 600});
        let mut token = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        self.signed(token)
    }

    fn signed(&self, mut token: String) -> Option<String> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature).ok()?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    /// The claims of a token that was issued here; `None` for a forged, cut or foreign one. Does not look at times.
    pub(crate) fn read(&self, token: &str) -> Option<Claims> {
        let known = locked(&self.opaque).get(token).cloned();
        let claims = match known {
            Some(claims) => claims,
            None => {
                let (signed, signature) = token.rsplit_once('.')?;
                let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
                let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key().as_ref());
                public.verify(signed.as_bytes(), &signature).ok()?;
                let (_, payload) = signed.split_once('.')?;
                serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?
            }
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let roles = claims.get("roles").and_then(Value::as_array);
        Some(Claims {
            audience: text("aud"),
            tenant_id: text("tid"),
            app_id: text("appid"),
            object_id: text("oid"),
            roles: roles.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            expires: claims.get("exp").and_then(Value::as_u64).unwrap_or(0),
            number: u64::from_str_radix(&text("uti"), 16).unwrap_or(0),
        })
    }
}

/// Making an RSA key takes up to a second, and tests start many stand-ins: those of one process share one key.
fn key_of_this_process() -> Result<Arc<RsaKeyPair>, StartError> {
    static KEY: Mutex<Option<Arc<RsaKeyPair>>> = Mutex::new(None);
    let mut kept = locked(&KEY);
    if let Some(key) = kept.as_ref() {
        return Ok(Arc::clone(key));
    }
    let key = Arc::new(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| StartError::Key)?);
    *kept = Some(Arc::clone(&key));
    Ok(key)
}

//! How an app proves who it is, checked as Entra does: client secrets, assertions signed with a certificate's key, tokens of a federated issuer.
//! The errors whose numbers Microsoft documents nowhere are marked with a dagger (†) and may differ.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::{Refusal, unix_seconds};
use crate::tenant::AppRegistration;

/// A certificate uploaded to an app registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppCertificate {
    sha1: Vec<u8>,
    sha256: Vec<u8>,
    public_key: Vec<u8>,
    /// Its end has passed.
    pub expired: bool,
}

impl AppCertificate {
    /// From PEM; `None` for something that the portal would not take.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let now = i64::try_from(unix_seconds()).unwrap_or(i64::MAX);
        Some(Self {
            sha1: digest(&SHA1_FOR_LEGACY_USE_ONLY, &der).as_ref().to_vec(),
            sha256: digest(&SHA256, &der).as_ref().to_vec(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            expired: parsed.validity().not_after.timestamp() <= now,
        })
    }

    /// The thumbprint that the portal shows.
    pub fn thumbprint(&self) -> String {
        hex(&self.sha1)
    }
}

/// A federated credential of an app registration: whose tokens are taken for the app's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedCredential {
    /// `iss`, letter by letter.
    pub issuer: String,
    /// `sub`, letter by letter.
    pub subject: String,
    /// `aud`, `api://AzureADTokenExchange` as a rule.
    pub audience: String,
}

/// An assertion taken apart; nothing in it is verified.
pub(super) struct Assertion {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

impl Assertion {
    pub(super) fn read(token: &str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed: signed.to_owned(),
            signature: BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    pub(super) fn issuer(&self) -> &str {
        text(&self.claims, "iss")
    }

    fn verified(&self, algorithm: &'static dyn VerificationAlgorithm, public_key: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, public_key).verify(self.signed.as_bytes(), &self.signature).is_ok()
    }

    fn check_time(&self) -> Result<(), Refusal> {
        let now = unix_seconds();
        let time = |name: &str| self.claims.get(name).and_then(Value::as_u64);
        let (starts, ends) = (time("nbf").unwrap_or(0), time("exp").unwrap_or(0));
        // Five minutes of difference between two clocks are forgiven.
        if starts > now + 300 || ends + 300 <= now {
            return Err(unauthenticated(
                700_024,
                &format!(
                    "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {starts}, expiry time of assertion {ends}. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials ."
                ),
            ));
        }
        Ok(())
    }
}

/// The keys of a federated issuer, as it published them; its discovery document is fetched before the world is locked.
pub(super) type Keys = Vec<Value>;

/// What Entra needs to know besides the app.
pub(super) struct Setting<'a> {
    pub(super) client_id: &'a str,
    /// The audiences that name the tenant's token endpoint.
    pub(super) audiences: &'a [String],
    /// Thumbprints by SHA-256 are not known (entra-docs pull request 1301).
    pub(super) former_thumbprints_only: bool,
    /// A federated credential is not there yet.
    pub(super) federation_pending: bool,
    pub(super) keys: Option<&'a Keys>,
    /// The ids of assertions that were taken.
    pub(super) seen: &'a mut HashMap<String, u64>,
}

/// Checks the proof; gives `appidacr`: 1 for a secret, 2 for an assertion.
pub(super) fn check(
    application: &AppRegistration,
    secret: &str,
    form: &HashMap<String, String>,
    setting: Setting<'_>,
) -> Result<&'static str, Refusal> {
    let client_id = setting.client_id;
    match form.get("client_assertion").filter(|assertion| !assertion.is_empty()) {
        Some(_)
            if form.get("client_assertion_type").map(String::as_str) != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") =>
        {
            Err(Refusal::new(
                400,
                "invalid_request",
                900_144,
                "The request body must contain the following parameter: 'client_assertion_type'.",
            ))
        }
        Some(assertion) => {
            let assertion = Assertion::read(assertion).ok_or_else(|| unauthenticated(50_027, "JWT token is invalid or malformed."))?;
            if assertion.issuer().eq_ignore_ascii_case(client_id) {
                by_certificate(application, &assertion, setting)?;
            } else {
                by_federation(application, &assertion, &setting)?;
            }
            Ok("2")
        }
        None if secret.is_empty() => Err(unauthenticated(
            7_000_216,
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
        )),
        None => by_secret(application, secret, client_id).map(|()| "1"),
    }
}

fn by_secret(application: &AppRegistration, secret: &str, client_id: &str) -> Result<(), Refusal> {
    match application.secrets.iter().find(|known| known.value == secret) {
        None => Err(unauthenticated(
            7_000_215,
            &format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client_id}'."
            ),
        )),
        Some(known) if known.expired => Err(unauthenticated(
            7_000_222,
            &format!(
                "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."
            ),
        )),
        Some(_) => Ok(()),
    }
}

fn by_certificate(application: &AppRegistration, assertion: &Assertion, setting: Setting<'_>) -> Result<(), Refusal> {
    let (algorithm, rsa): (_, &'static dyn VerificationAlgorithm) = match text(&assertion.header, "alg") {
        "PS256" => ("PS256", &RSA_PSS_2048_8192_SHA256),
        "RS256" => ("RS256", &RSA_PKCS1_2048_8192_SHA256),
        // †
        other => return Err(unauthenticated(5_002_738, &format!("Invalid JWT token. '{other}' is not a supported signature algorithm."))),
    };
    let decoded = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(&assertion.header, name)).unwrap_or_default();
    let (by_sha256, by_sha1) = (decoded("x5t#S256"), decoded("x5t"));
    let known = application.certificates.iter().find(|known| {
        (!by_sha1.is_empty() && known.sha1 == by_sha1)
            || (!setting.former_thumbprints_only && !by_sha256.is_empty() && known.sha256 == by_sha256)
    });
    let used = hex(if by_sha256.is_empty() { &by_sha1 } else { &by_sha256 });
    let unknown = |why: &str| {
        unauthenticated(
            700_027,
            &format!(
                "The certificate with identifier used to sign the client assertion is not registered on application. [Reason - {why}., Thumbprint of key used by client: '{used}', Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '{}'.]",
                setting.client_id
            ),
        )
    };
    let Some(known) = known else { return Err(unknown("The key was not found")) };
    if known.expired {
        return Err(unknown("The key used is expired"));
    }
    if !assertion.verified(rsa, &known.public_key) {
        return Err(unauthenticated(
            700_027,
            &format!(
                "Client assertion contains an invalid signature. [Reason - The key was found, but use of the key to verify the {algorithm} signature failed.]"
            ),
        ));
    }
    assertion.check_time()?;
    // †
    let malformed = |why: &str| unauthenticated(50_027, &format!("JWT token is invalid or malformed. {why}"));
    if !setting.audiences.iter().any(|audience| audience.eq_ignore_ascii_case(text(&assertion.claims, "aud"))) {
        return Err(unauthenticated(700_023, "Client assertion audience claim does not match Realm issuer."));
    }
    if !text(&assertion.claims, "sub").eq_ignore_ascii_case(setting.client_id) {
        return Err(unauthenticated(700_021, "Client assertion application identifier doesn't match 'client_id' parameter."));
    }
    let id = text(&assertion.claims, "jti");
    if id.is_empty() {
        return Err(malformed("The claim 'jti' is missing."));
    }
    let now = unix_seconds();
    setting.seen.retain(|_, ends| *ends + 300 > now);
    let ends = assertion.claims.get("exp").and_then(Value::as_u64).unwrap_or(0);
    if setting.seen.insert(id.to_owned(), ends).is_some() {
        return Err(malformed("The assertion was used before."));
    }
    Ok(())
}

fn by_federation(application: &AppRegistration, assertion: &Assertion, setting: &Setting<'_>) -> Result<(), Refusal> {
    let (issuer, subject) = (assertion.issuer(), text(&assertion.claims, "sub"));
    // A list of one counts as its member.
    let audience = match assertion.claims.get("aud") {
        Some(Value::Array(all)) => match all.as_slice() {
            [Value::String(one)] => one.as_str(),
            _ => "",
        },
        Some(Value::String(one)) => one.as_str(),
        _ => "",
    };
    let refused = |code, text: &str| Refusal::new(401, "invalid_client", code, text);
    let known = &application.federated_credentials;
    let values = format!("Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'.");
    let help = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation";
    if known.is_empty() || setting.federation_pending {
        return Err(Refusal::new(
            400,
            "invalid_request",
            70_021,
            &format!("No matching federated identity record found for presented assertion. {values} {help}"),
        ));
    }
    let mut of_issuer = known.iter().filter(|known| known.issuer == issuer).peekable();
    let otherwise_written = |one: fn(&FederatedCredential) -> &str, shown: &str| {
        known.iter().any(|known| one(known) != shown && one(known).eq_ignore_ascii_case(shown))
    };
    if otherwise_written(|known| &known.issuer, issuer) || otherwise_written(|known| &known.subject, subject) {
        return Err(refused(
            7_002_138,
            &format!("No matching federated identity record found for presented assertion: the case of letters differs. {values} {help}"),
        ));
    }
    if of_issuer.peek().is_none() {
        return Err(refused(
            700_211,
            &format!("No matching federated identity record found for presented assertion issuer '{issuer}'. {help}"),
        ));
    }
    let of_issuer: Vec<_> = of_issuer.collect();
    if !of_issuer.iter().any(|known| known.subject == subject) {
        return Err(refused(
            700_213,
            &format!("No matching federated identity record found for presented assertion subject '{subject}'. {help}"),
        ));
    }
    if !of_issuer.iter().any(|known| known.subject == subject && known.audience == audience) {
        return Err(refused(
            700_212,
            &format!("No matching federated identity record found for presented assertion audience '{audience}'. {help}"),
        ));
    }
    // †
    let no_keys = || refused(50_027, "JWT token is invalid or malformed. The issuer's discovery document or keys could not be read.");
    let keys = setting.keys.ok_or_else(no_keys)?;
    if text(&assertion.header, "alg") != "RS256" {
        return Err(refused(5_002_738, "Invalid JWT token. Only RS256 is supported for a federated issuer."));
    }
    let wanted = text(&assertion.header, "kid");
    let verified = keys.iter().take(100).filter(|key| text(key, "kid") == wanted).any(|key| {
        let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(key, name)).unwrap_or_default();
        let public = RsaPublicKeyComponents { n: number("n"), e: number("e") };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, assertion.signed.as_bytes(), &assertion.signature).is_ok()
    });
    if !verified {
        return Err(refused(50_013, "Assertion failed signature validation. [Reason - The key was not found.]"));
    }
    assertion.check_time()
}

fn unauthenticated(code: u32, text: &str) -> Refusal {
    Refusal::new(401, "invalid_client", code, text)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

//! A certificate as an app's credential: read from PEM, checked, and the client assertions that its key signs (RFC 7523; Microsoft, "Microsoft
//! identity platform application authentication certificate credentials"). The caller gives the time; the network is `request`'s.

use std::fmt;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// An assertion is good for so long (Microsoft advises five to ten minutes).
const ASSERTION_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// The server's clock may be that much behind ours.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(1);
/// Shorter keys are refused here as by Entra, in bits.
const SHORTEST_KEY: usize = 2_048;
/// Longest key that can sign, in bits.
const LONGEST_KEY: usize = 8_192;

/// A certificate and its private key. The key never shows in `Debug`.
#[derive(Clone)]
pub struct Certificate {
    key: SecretSlice<u8>,
    form: KeyForm,
    sha1: [u8; 20],
    sha256: [u8; 32],
    not_after: Timestamp,
}

#[derive(Clone, Copy)]
enum KeyForm {
    Pkcs8,
    Pkcs1,
}

/// How an assertion is signed and how it names the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// PS256 with `x5t#S256`: what Microsoft documents today.
    Current,
    /// RS256 with `x5t`, a SHA-1 thumbprint: what was documented before, and some apps still need (entra-docs pull request 1301).
    Former,
}

impl Form {
    /// For a log line.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Current => "PS256 with x5t#S256",
            Self::Former => "RS256 with x5t",
        }
    }
}

/// Which part of the credential is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate.
    Certificate,
    /// The private key.
    Key,
}

/// What is wrong with a certificate or its key. Holds nothing of either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No certificate in the text.
    #[error("holds no certificate: it must have a block that begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// The block cannot be read.
    #[error("cannot be read as an X.509 certificate: store the PEM file as it was issued, unchanged")]
    Unreadable,
    /// No key in the text.
    #[error("holds no private key: it must have a block that begins with -----BEGIN PRIVATE KEY----- or -----BEGIN RSA PRIVATE KEY-----")]
    NoKey,
    /// Locked by a passphrase.
    #[error("is locked by a passphrase: store it without (openssl rsa -in locked.pem -out tls.key)")]
    Locked,
    /// A key of another kind.
    #[error("is not an RSA key: Entra takes RSA certificates only, of 2048 bits or more (openssl req -x509 -newkey rsa:2048 …)")]
    NotRsa,
    /// The key's bytes make no sense.
    #[error("cannot be read as an RSA private key: store the PEM file as it was made, unchanged")]
    BadKey,
    /// Fewer than 2,048 bits.
    #[error("has {0} bits, and Entra wants 2048 or more: make a new key and certificate")]
    TooSmall(usize),
    /// More than can be signed with.
    #[error("has {0} bits, and 8192 are the most that can be used: make a new key and certificate")]
    TooLarge(usize),
    /// The key belongs to another certificate.
    #[error("does not belong to the certificate in tls.crt: store the key that the certificate was made with")]
    Mismatch,
}

impl Certificate {
    /// From the PEM texts of a certificate (the first counts, a chain may follow) and its RSA key (PKCS#8 or PKCS#1, without a passphrase).
    ///
    /// # Errors
    /// What is wrong, and with which of the two.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, (Part, Problem)> {
        let of_certificate = |problem| (Part::Certificate, problem);
        let of_key = |problem| (Part::Key, problem);
        let der = CertificateDer::from_pem_slice(certificate).map_err(|error| {
            of_certificate(match error {
                rustls::pki_types::pem::Error::NoItemsFound => Problem::NoCertificate,
                _ => Problem::Unreadable,
            })
        })?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| of_certificate(Problem::Unreadable))?;
        let public = parsed.public_key();
        match public.parsed() {
            Ok(PublicKey::RSA(rsa)) => match bits(rsa.modulus) {
                bits @ ..SHORTEST_KEY => return Err(of_certificate(Problem::TooSmall(bits))),
                bits if bits > LONGEST_KEY => return Err(of_certificate(Problem::TooLarge(bits))),
                _ => {}
            },
            Ok(_) | Err(_) => return Err(of_certificate(Problem::NotRsa)),
        }
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX);
        let (key, form) = private_key(key).map_err(of_key)?;
        let pair = pair(&key, form).map_err(|_| of_key(Problem::BadKey))?;
        if pair.public_key().as_ref() != &*public.subject_public_key.data {
            return Err(of_key(Problem::Mismatch));
        }
        Ok(Self { key, form, sha1: hash(&SHA1_FOR_LEGACY_USE_ONLY, &der), sha256: hash(&SHA256, &der), not_after })
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// SHA-1 of the certificate, in upper-case hexadecimal digits: the thumbprint that the portal shows.
    pub fn sha1(&self) -> String {
        hex(&self.sha1)
    }

    /// SHA-256 of the certificate, in upper-case hexadecimal digits.
    pub fn sha256(&self) -> String {
        hex(&self.sha256)
    }

    /// SHA-256 of the certificate, as bytes.
    pub(super) fn fingerprint(&self) -> &[u8] {
        &self.sha256
    }

    /// Whether `other` is the same certificate with the same key.
    pub fn same(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.key.expose_secret() == other.key.expose_secret()
    }

    /// A client assertion for `client_id` to be shown at `audience`; `None` only if the system gives no randomness.
    pub(super) fn assertion(&self, client_id: &str, audience: &str, id: &str, form: Form, now: Timestamp) -> Option<String> {
        let (algorithm, thumbprint): (&'static dyn RsaEncoding, _) = match form {
            Form::Current => (&RSA_PSS_SHA256, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(self.sha256)})),
            Form::Former => (&RSA_PKCS1_SHA256, json!({"alg": "RS256", "typ": "JWT", "x5t": URL_SAFE_NO_PAD.encode(self.sha1)})),
        };
        let starts = now.checked_sub(CLOCKS_APART).unwrap_or(now).as_second();
        let ends = now.checked_add(ASSERTION_LIFE).unwrap_or(now).as_second();
        let claims =
            json!({"aud": audience, "iss": client_id, "sub": client_id, "jti": id, "nbf": starts, "iat": now.as_second(), "exp": ends});
        let mut token = URL_SAFE_NO_PAD.encode(thumbprint.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        // Parsed for each signature, once an hour or so: between them it is only bytes that are wiped when dropped.
        let pair = pair(&self.key, self.form).ok()?;
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(algorithm, &SystemRandom::new(), token.as_bytes(), &mut signature).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("sha256", &self.sha256()).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn private_key(pem: &[u8]) -> Result<(SecretSlice<u8>, KeyForm), Problem> {
    let locked = |text: &[u8]| text.windows(9).any(|word| word == b"ENCRYPTED");
    match PrivateKeyDer::from_pem_slice(pem) {
        // "Proc-Type: 4,ENCRYPTED" stands inside a block of the older form.
        Ok(PrivateKeyDer::Pkcs1(_)) if locked(pem) => Err(Problem::Locked),
        Ok(PrivateKeyDer::Pkcs8(key)) => Ok((key.secret_pkcs8_der().to_vec().into(), KeyForm::Pkcs8)),
        Ok(PrivateKeyDer::Pkcs1(key)) => Ok((key.secret_pkcs1_der().to_vec().into(), KeyForm::Pkcs1)),
        Ok(_) => Err(Problem::NotRsa),
        Err(_) if locked(pem) => Err(Problem::Locked),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(Problem::NoKey),
        Err(_) => Err(Problem::BadKey),
    }
}

fn pair(key: &SecretSlice<u8>, form: KeyForm) -> Result<RsaKeyPair, aws_lc_rs::error::KeyRejected> {
    match form {
        KeyForm::Pkcs8 => RsaKeyPair::from_pkcs8(key.expose_secret()),
        KeyForm::Pkcs1 => RsaKeyPair::from_der(key.expose_secret()),
    }
}

/// Of a big-endian number that may begin with zeros.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let leading = significant.clone().next().map_or(0, |byte| byte.leading_zeros() as usize);
    (significant.count() * 8).saturating_sub(leading)
}

fn hash<const N: usize>(algorithm: &'static aws_lc_rs::digest::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(digest(algorithm, bytes).as_ref()) {
        *to = *from;
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
pub(crate) mod tests;

//! Certificates made on the spot: what is accepted, what each fault is called, and what an assertion says.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _};
use serde_json::Value;

use super::*;

/// PEM of a self-signed certificate that ends with 2030, and of its key.
pub(crate) fn made(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String, KeyPair) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2030, 12, 31);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem(), key)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64::engine::general_purpose::STANDARD.encode(der))
}

#[test]
fn an_assertion_is_signed_in_both_forms_and_says_what_entra_wants() {
    let (certificate, key, pair) = made(&PKCS_RSA_SHA256);
    // The older form of the same key stands inside the newer one (RFC 5958 section 2), behind 26 bytes.
    let older = pem("RSA PRIVATE KEY", &pair.serialize_der()[26..]);
    let now: Timestamp = "2026-11-25T08:00:00Z".parse().unwrap();
    for key in [&key, &older] {
        let certificate = Certificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(certificate.not_after().to_string(), "2030-12-31T00:00:00Z");
        type Row<'a> = (Form, &'a str, &'a str, Vec<u8>, &'static dyn VerificationAlgorithm);
        let rows: [Row<'_>; 2] = [
            (Form::Current, "PS256", "x5t#S256", certificate.sha256.to_vec(), &RSA_PSS_2048_8192_SHA256),
            (Form::Former, "RS256", "x5t", certificate.sha1.to_vec(), &RSA_PKCS1_2048_8192_SHA256),
        ];
        for (form, algorithm, name, thumbprint, verifies) in rows {
            let token = certificate.assertion("app", "https://entra/token", "id-1", form, now).unwrap();
            let parts: Vec<&str> = token.split('.').collect();
            let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
            assert_eq!(read(parts[0]), json!({"alg": algorithm, "typ": "JWT", name: URL_SAFE_NO_PAD.encode(&thumbprint)}));
            let seconds = now.as_second();
            assert_eq!(
                read(parts[1]),
                json!({"aud": "https://entra/token", "iss": "app", "sub": "app", "jti": "id-1", "nbf": seconds - 60, "iat": seconds, "exp": seconds + 600})
            );
            let signed = format!("{}.{}", parts[0], parts[1]);
            let public = UnparsedPublicKey::new(verifies, pair.der_bytes());
            public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        }
        let shown = format!("{certificate:?}");
        assert!(shown.contains(&certificate.sha256()) && shown.len() < 200, "{shown}");
    }
}

#[test]
fn each_fault_is_named_with_the_part_it_is_in() {
    let (certificate, key, pair) = made(&PKCS_RSA_SHA256);
    let (other, ..) = made(&PKCS_RSA_SHA256);
    let (elliptic, elliptic_key, _) = made(&PKCS_ECDSA_P256_SHA256);
    let garbage = "-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n";
    let torn = certificate.get(..certificate.len() / 2).unwrap();
    let locked = pem("ENCRYPTED PRIVATE KEY", b"locked");
    let locked_older = format!(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n{}",
        "-----END RSA PRIVATE KEY-----\n"
    );
    let sec1 = pem("EC PRIVATE KEY", b"whatever");
    let torn_key = pem("PRIVATE KEY", &pair.serialize_der()[..100]);
    let rows: [(&str, &str, Part, Problem); 11] = [
        ("", &key, Part::Certificate, Problem::NoCertificate),
        (&key, &key, Part::Certificate, Problem::NoCertificate),
        (garbage, &key, Part::Certificate, Problem::Unreadable),
        (torn, &key, Part::Certificate, Problem::Unreadable),
        (&elliptic, &elliptic_key, Part::Certificate, Problem::NotRsa),
        (&certificate, "", Part::Key, Problem::NoKey),
        (&certificate, &certificate, Part::Key, Problem::NoKey),
        (&certificate, &locked, Part::Key, Problem::Locked),
        (&certificate, &locked_older, Part::Key, Problem::Locked),
        (&certificate, &sec1, Part::Key, Problem::NotRsa),
        (&certificate, &torn_key, Part::Key, Problem::BadKey),
    ];
    for (certificate, key, part, problem) in rows {
        let found = Certificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(found, (part, problem), "{certificate:.60} {key:.60}");
    }
    let found = Certificate::from_pem(other.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(found, (Part::Key, Problem::Mismatch));
}

#[test]
fn a_key_of_1024_bits_is_too_small() {
    // Made once with openssl req -x509 -newkey rsa:1024; the certificate is judged before its key is read.
    let found = Certificate::from_pem(SMALL.as_bytes(), b"").unwrap_err();
    assert_eq!(found, (Part::Certificate, Problem::TooSmall(1_024)));
}

const SMALL: &str = "-----BEGIN CERTIFICATE-----
MIIB/DCCAWWgAwIBAgIUB0OEJOQxY3bYKLn0wJ7Dr4Eelq8wDQYJKoZIhvcNAQEL
BQAwEDEOMAwGA1UEAwwFc21hbGwwHhcNMjYxMTI1MDM0MDM4WhcNMzYxMTIyMDM0
MDM4WjAQMQ4wDAYDVQQDDAVzbWFsbDCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkC
gYEA08scZFjG9GOv4ZYJ989fWjZVTeQIdv279dbTLMF7GpwBZT3ssKxlQTan1v+k
annN6rmaeV2JE81vigZ048JYyeFNGWANuHK30FmZtaoauhVHKb+w0tzba8BlUBLa
5NtjQWb8JIAqAh7sox+MH8xqxdkfL0tw8Y0zL7ZmAIIhAMMCAwEAAaNTMFEwHQYD
VR0OBBYEFNCY79ToqaeSR63qANWNmhzPYcwiMB8GA1UdIwQYMBaAFNCY79ToqaeS
R63qANWNmhzPYcwiMA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADgYEA
VbLmF9KQ0tRIYSa94VJcOqfjxHGzr9bBaeA/DOw66dU18GLbPbAR18xtXSBfYWjv
Qi297zHWqzC9bsR4W8rLgPvJdJ2skY0BRkfHCcXgvo85pvnu6geJTMNS8tjWS+B2
bqUtoatRJOK3hC6eL0XVViNsjZU/CbLgJMGpIKuxZas=
-----END CERTIFICATE-----
";

//! The certificate authority of one stand-in, and the TLS that its servers speak.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::error::StartError;

pub(crate) struct Authority {
    pub(crate) ca_pem: String,
    pub(crate) tls: TlsAcceptor,
}

/// A fresh CA and a server certificate for `localhost`, `127.0.0.1` and `more`.
pub(crate) fn create(more: &[String]) -> Result<Authority, StartError> {
    build(more).map_err(|error| StartError::Certificate(error.to_string()))
}

fn build(more: &[String]) -> Result<Authority, Box<dyn std::error::Error>> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name.push(DnType::CommonName, "Stand-in CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend_from_slice(more);
    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "Stand-in for Microsoft 365");
    let certificate = server.signed_by(&key, &issuer)?;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))?;
    config.send_tls13_tickets = 1;
    Ok(Authority { ca_pem, tls: TlsAcceptor::from(Arc::new(config)) })
}

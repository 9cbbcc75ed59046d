//! One trust set and one TLS configuration for everything that leaves the process: Entra, IMAP, later sinks.
//! TLS 1.2 and 1.3 only (Exchange Online blocks older versions since 2026, Microsoft message MC1293480).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why the trust set could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--ca-file` cannot be read or holds no certificate.
    #[error("--ca-file {path:?}: {text}; give a PEM file with at least one CERTIFICATE block")]
    CaFile {
        /// The path given.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// The TLS library refuses our settings.
    #[error("TLS set-up: {0}")]
    Config(#[from] rustls::Error),
}

/// Makes aws-lc-rs the process's only crypto provider. Idempotent; call it before anything uses TLS.
pub fn install_provider() {
    // An error means that it was installed before, by us: no other provider is compiled in.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Mozilla's roots, and those in `ca_file` (PEM) besides.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    install_provider();
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let error = |text: String| Error::CaFile { path: path.to_owned(), text };
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| error(e.to_string()))?;
        let mut added = 0;
        for certificate in certificates {
            roots.add(certificate.map_err(|e| error(e.to_string()))?).map_err(|e| error(e.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(error("no certificate in it".into()));
        }
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

//! TLS of the API's listener: PEM files in, rustls out. One provider of cryptography, ring, chosen here for the whole process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use halberd_api::ApiConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Certificates or keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("[api] {key} {path}: {what}")]
    File { key: &'static str, path: PathBuf, what: String },
    #[error("[api] tls_cert {cert} and tls_key {key} do not make a listener: {what}")]
    Pair { cert: PathBuf, key: PathBuf, what: String },
}

/// Makes ring the process' provider. A second call changes nothing.
pub fn install_provider() {
    // An earlier choice, by us or by a test, is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The listener's TLS; `None` where neither certificate nor key is set.
///
/// # Errors
/// [`TlsError`], which names setting and file.
pub fn of(config: &ApiConfig) -> Result<Option<RustlsConfig>, TlsError> {
    let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
    let pair =
        |what: rustls::Error| TlsError::Pair { cert: cert.clone(), key: key.clone(), what: what.to_string() };
    let chain = certificates("tls_cert", cert)?;
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| refuse("tls_key", key, &error.to_string()))?;
    let builder = ServerConfig::builder();
    let builder = match &config.tls_client_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("tls_client_ca", ca)? {
                roots.add(certificate).map_err(|error| refuse("tls_client_ca", ca, &error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| refuse("tls_client_ca", ca, &error.to_string()))?,
            )
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, secret).map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(RustlsConfig::from_config(Arc::new(config))))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if chain.is_empty() => Err(refuse(key, path, "holds no PEM certificate")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(refuse(key, path, &error.to_string())),
    }
}

fn refuse(key: &'static str, path: &Path, what: &str) -> TlsError {
    TlsError::File { key, path: path.to_owned(), what: what.to_owned() }
}

//! TLS of the API's listener: PEM files in, rustls out. One provider of cryptography, ring, chosen here for the whole process.
//!
//! Certificates are renewed by programs that write files and send a signal. Such a pair may be half written when the signal comes, so new files
//! are taken into force only if all of them together make a listener.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use halberd_api::ApiConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

const DAY_S: i64 = 86_400;
/// Time enough for an authority with a queue of people in it.
const SOON_DAYS: i64 = 30;

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

/// The listener's TLS as its files were when they were last good.
#[derive(Debug)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    present: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// `None` where neither certificate nor key is set.
    ///
    /// # Errors
    /// [`TlsError`], which names setting and file.
    pub fn of(config: &ApiConfig) -> Result<Option<Arc<Tls>>, TlsError> {
        let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        let client_ca = config.tls_client_ca.clone();
        let present = RwLock::new(read(cert, key, client_ca.as_deref())?);
        Ok(Some(Arc::new(Tls { cert: cert.clone(), key: key.clone(), client_ca, present })))
    }

    /// Reads all files again. Connections go on as they are; new ones get the new certificate, and nobody resumes a session that the former
    /// client CA let in.
    ///
    /// # Errors
    /// [`TlsError`]; what was in force stays so.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.cert, &self.key, self.client_ca.as_deref())?;
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// For the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(cert: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let pair = |what: rustls::Error| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        what: what.to_string(),
    };
    let chain = certificates("tls_cert", cert)?;
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| refuse("tls_key", key, &error.to_string()))?;
    let builder = ServerConfig::builder();
    let builder = match client_ca {
        Some(ca) => builder.with_client_cert_verifier(clients(ca)?),
        None => builder.with_no_client_auth(),
    };
    let end = chain.first().and_then(|leaf| end_of(leaf));
    let mut config = builder.with_single_cert(chain, secret).map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Only of what is taken into force.
    say_end(cert, end);
    Ok(Arc::new(config))
}

fn clients(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let refused = |what: &dyn std::fmt::Display| refuse("tls_client_ca", ca, &what.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", ca)? {
        roots.add(certificate).map_err(|error| refused(&error))?;
    }
    WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|error| refused(&error))
}

/// The end of a certificate, seconds since 1970.
fn end_of(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn say_end(cert: &Path, end: Option<i64>) {
    let Some(end) = end else { return };
    metrics::gauge!("halberd_api_certificate_end_seconds").set(end as f64);
    let left_s = end - halberd_engine::clock::stamp().0 / 1_000_000;
    let (path, days) = (cert.display(), left_s / DAY_S);
    if left_s <= 0 {
        tracing::error!(%path, days = -days, "[api] tls_cert has expired: clients will refuse it");
    } else if days < SOON_DAYS {
        tracing::warn!(%path, days, "[api] tls_cert expires soon: put a new one in its place and send SIGHUP");
    }
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

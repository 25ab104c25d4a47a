//! Whom to trust behind `https://`: the system's authorities, one authority, one certificate, or anybody.
//!
//! The pin exists because BMCs commonly present a self-signed certificate with CA:TRUE, which rustls refuses even as a
//! trusted root. Pin and `insecure` still check that the peer holds the certificate's key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::device::{Tls, fingerprint};

/// Puts the description's trust into a client.
pub(crate) fn apply(
    builder: reqwest::ClientBuilder,
    tls: Option<&Tls>,
    plain: bool,
) -> Result<reqwest::ClientBuilder, String> {
    let provider = Arc::new(ring::default_provider());
    let Some(tls) = tls else {
        // reqwest loads the system's authorities itself, and takes the process' provider; the programs install it
        // first thing, a test or a tool may not.
        let _ = provider.as_ref().clone().install_default();
        // Reading the system's authorities takes longer than a whole fence over plain HTTP, which never asks them: a link
        // to https is another origin.
        return Ok(builder.tls_built_in_root_certs(!plain));
    };
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let config = if let Some(file) = &tls.ca_file {
        config.with_root_certificates(authorities(file)?).with_no_client_auth()
    } else {
        let pin = match &tls.fingerprint {
            Some(text) => Some(fingerprint(text).ok_or("tls.fingerprint is no SHA-256 in hex")?),
            None if tls.insecure => None,
            None => return Err("tls names neither ca_file nor fingerprint nor insecure".into()),
        };
        let verifier = Arc::new(Pinned { pin, provider });
        config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    Ok(builder.use_preconfigured_tls(config))
}

fn authorities(file: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|e| format!("tls.ca_file {file}: {e}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| format!("tls.ca_file {file}: {e}"))?;
        store.add(certificate).map_err(|e| format!("tls.ca_file {file}: {e}"))?;
    }
    if store.is_empty() { Err(format!("tls.ca_file {file} holds no certificate")) } else { Ok(store) }
}

/// A certificate that ends within this time deserves a warning: a month is what it takes to have one made where that needs people.
const SOON: i64 = 30 * 86_400;

/// When a certificate (DER) ends, in seconds since 1970; `None` if it is none.
pub(crate) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// What to say of a certificate that ends then. One that has ended and yet was accepted is pinned, or nobody looks at it.
pub(crate) fn expiry(ends: i64, now: i64) -> Option<String> {
    let date =
        chrono::DateTime::from_timestamp(ends, 0).map(|d| d.date_naive().to_string()).unwrap_or_default();
    match ends - now {
        left if left > SOON => None,
        ..0 => Some(format!(
            "the certificate ended on {date}; it is accepted because it is pinned or none is checked, renew it"
        )),
        left => Some(format!("the certificate ends on {date}, in {} days; renew it", left / 86_400)),
    }
}

/// Seconds since 1970, for warnings about certificates: no decision hangs on it.
#[expect(
    clippy::disallowed_methods,
    reason = "certificates end by the wall clock, and only a warning comes of it"
)]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Accepts the certificate with this SHA-256, or any if there is none.
#[derive(Debug)]
struct Pinned {
    pin: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen: [u8; 32] = Sha256::digest(certificate).into();
        match self.pin {
            Some(pin) if pin != seen => {
                let hex: String = seen.iter().map(|b| format!("{b:02x}")).collect();
                tracing::debug!(presented = hex, "certificate is not the pinned one");
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(pin: Option<&str>, certificate: &[u8]) -> bool {
        let pin = pin.map(|p| fingerprint(p).unwrap());
        let verifier = Pinned { pin, provider: Arc::new(ring::default_provider()) };
        let name = ServerName::try_from("bmc").unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        verifier.verify_server_cert(&CertificateDer::from(certificate), &[], &name, &[], now).is_ok()
    }

    #[test]
    fn a_pin_accepts_its_certificate_alone() {
        // SHA-256 of "abc" (FIPS 180-2, B.1), in the shapes in which tools print fingerprints.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let upper = abc.to_ascii_uppercase();
        let pairs: Vec<&str> = (0..32).map(|n| &upper[2 * n..2 * n + 2]).collect();
        let colons = pairs.join(":");
        for pin in [abc.to_owned(), colons, format!("sha256:{abc}")] {
            assert!(accepts(Some(&pin), b"abc"), "{pin}");
            assert!(!accepts(Some(&pin), b"abd"), "{pin}");
        }
        assert!(accepts(None, b"anything"));
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_named() {
        let apply = |file: &str| {
            let tls = Tls { ca_file: Some(file.to_owned()), ..Tls::default() };
            apply(reqwest::Client::builder(), Some(&tls), false).err().unwrap_or_default()
        };
        assert!(apply("/nonexistent/ca.pem").contains("tls.ca_file /nonexistent/ca.pem"));
        assert!(apply("/dev/null").contains("holds no certificate"));
    }
}

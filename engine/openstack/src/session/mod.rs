//! The session: who we are, how to reach the cloud, and one token.
//!
//! The `openstack` crate's Session is the base; the authentication behind it is ours, since the crate's own never
//! replaces a revoked token, refuses `v3password`, drops domain ids, and renews a short-lived token at every call.

mod catalog;
mod clouds;
mod config;
mod credentials;
mod token;

pub use catalog::ServiceType;
pub use clouds::Places;
pub use config::{Interface, OpenstackConfig};
pub use token::Identity;

pub(crate) use catalog::Catalog;
pub(crate) use config::{Settings, Tls};
pub(crate) use token::{Authenticator, KeystoneAuth};

use std::time::Duration;

use crate::Error;
use crate::error::chain;

/// How long we wait for OpenStack.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For a whole call, from the first byte to the last. Must stay well under Nova's `service_down_time` (60 s): a
    /// delayed evacuate that is processed after that may meet a new home that Nova believes down.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts { connect: Duration::from_secs(3), request: Duration::from_secs(20) }
    }
}

/// Idle connections are closed after this: Apache, which fronts many of these APIs, closes its side after 5 s, and
/// a request that meets that close would have an unknown outcome.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);

/// The HTTP client of a session.
///
/// It follows no redirects (one would turn a POST into a GET), repeats nothing, and uses no proxy from the
/// environment: a proxy may queue or repeat a call beyond its lifetime.
pub(crate) fn http_client(tls: &Tls, timeouts: Timeouts) -> Result<reqwest::Client, Error> {
    // Both TLS features of reqwest in this build leave the choice of the provider to the process; ring is ours. An
    // earlier choice by main stands, so the result does not matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.request)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .tls_built_in_webpki_certs(false)
        .user_agent(concat!("halberd/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = &tls.cacert {
        let pem = read(path, "cacert")?;
        let bundle = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| Error::Config(format!("cacert {}: {}", path.display(), chain(&error))))?;
        if bundle.is_empty() {
            return Err(Error::Config(format!("cacert {} holds no PEM certificate", path.display())));
        }
        for certificate in bundle {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some((certificate, key)) = &tls.client_certificate {
        let mut pem = read(certificate, "cert")?;
        pem.push(b'\n');
        pem.extend(read(key, "key")?);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| {
            Error::Config(format!(
                "cert {} with key {}: {}",
                certificate.display(),
                key.display(),
                chain(&error)
            ))
        })?;
        builder = builder.identity(identity);
    }
    if tls.insecure {
        tracing::warn!(
            "clouds.yaml says verify: false, so certificates of OpenStack are not checked; set cacert instead"
        );
        builder = builder.danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|error| Error::Config(format!("TLS of [openstack]: {}", chain(&error))))
}

fn read(path: &std::path::Path, what: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Config(format!("{what} {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_cacert_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let tls = Tls { cacert: Some(path.clone()), ..Tls::default() };
        let missing = http_client(&tls, Timeouts::default()).unwrap_err().to_string();
        assert!(missing.contains("ca.pem"), "{missing}");
        std::fs::write(&path, "no certificate").unwrap();
        let empty = http_client(&tls, Timeouts::default()).unwrap_err().to_string();
        assert!(empty.contains("ca.pem") && empty.contains("certificate"), "{empty}");
    }

    #[test]
    fn a_client_certificate_wants_its_key() {
        let path = |name: &str| {
            std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls")).join(name)
        };
        let with = |key| Tls { client_certificate: Some((path("server.pem"), path(key))), ..Tls::default() };
        http_client(&with("server.key"), Timeouts::default()).unwrap();
        let error = http_client(&with("ca.pem"), Timeouts::default()).unwrap_err().to_string();
        assert!(error.contains("server.pem"), "{error}");
    }
}

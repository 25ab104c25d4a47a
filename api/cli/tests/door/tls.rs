//! TLS with real handshakes: whom the server shows itself as, whom it lets in, and how both change while it runs.

use std::path::{Path, PathBuf};

use reqwest::tls::TlsInfo;
use reqwest::{Certificate, Client, Identity};
use rustix::process::Signal;

use crate::kit::Serve;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/door/certs").join(name)
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

/// Believes one authority, shows one certificate or none, and keeps its connections.
fn client(ca: &str, identity: Option<&str>) -> Client {
    halberd::tls::install_provider();
    let client = Client::builder().no_proxy().tls_built_in_root_certs(false).tls_info(true);
    let client = client.add_root_certificate(Certificate::from_pem(&pem(ca)).unwrap());
    let shown = |name: &str| {
        let both = [pem(&format!("{name}.pem")), pem(&format!("{name}.key"))].concat();
        Identity::from_pem(&both).unwrap()
    };
    match identity {
        Some(name) => client.identity(shown(name)),
        None => client,
    }
    .build()
    .unwrap()
}

/// The certificate that the server showed, or the failure with its causes.
async fn shown(serve: &Serve, client: &Client) -> Result<Vec<u8>, String> {
    let url = format!("{}/healthcheck", serve.url);
    let answer = client.get(url).send().await.map_err(|error| halberd::chain(&error))?;
    assert_eq!(answer.status(), 200);
    let info: &TlsInfo = answer.extensions().get().unwrap();
    Ok(info.peer_certificate().unwrap().to_vec())
}

fn der(name: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(file(name)).unwrap().to_vec()
}

fn put(dir: &Path, name: &str, from: &str) {
    std::fs::copy(file(from), dir.join(name)).unwrap();
}

const TLS: &str = "tls_cert = \"api.pem\"\ntls_key = \"api.key\"\n";

#[tokio::test]
async fn who_believes_the_authority_is_served() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "api.pem", "server-a.pem");
    put(dir.path(), "api.key", "server-a.key");
    let serve = Serve::start(dir.path(), TLS).await;
    assert!(serve.url.starts_with("https://"));
    assert_eq!(shown(&serve, &client("ca.pem", None)).await, Ok(der("server-a.pem")));
    let refused = shown(&serve, &client("other-ca.pem", None)).await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    // Plain HTTP gets no HTTP back, and harms nobody.
    assert!(!serve.raw(b"GET /healthcheck HTTP/1.1\r\nHost: h\r\n\r\n").await.contains("HTTP/1.1"));
    serve.stores(&client("ca.pem", None), "after").await;
    let (status, log) = serve.stop().await;
    assert!(status.success() && !log.contains("expire"), "{log}");
}

#[tokio::test]
async fn with_a_client_authority_strangers_stay_outside() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "api.pem", "server-a.pem");
    put(dir.path(), "api.key", "server-a.key");
    put(dir.path(), "clients.pem", "ca.pem");
    let mut serve = Serve::start(dir.path(), &format!("{TLS}tls_client_ca = \"clients.pem\"\n")).await;
    let served = Ok(der("server-a.pem"));
    assert_eq!(shown(&serve, &client("ca.pem", Some("client"))).await, served);
    assert!(shown(&serve, &client("ca.pem", None)).await.is_err());
    assert!(shown(&serve, &client("ca.pem", Some("stranger"))).await.is_err());

    // The authority is read again too, and nobody resumes what the former let in.
    let former = client("ca.pem", Some("client"));
    assert_eq!(shown(&serve, &former).await, served);
    put(dir.path(), "clients.pem", "other-ca.pem");
    serve.signal(Signal::HUP);
    serve.until("are in force").await;
    assert_eq!(shown(&serve, &client("ca.pem", Some("stranger"))).await, served);
    assert!(shown(&serve, &client("ca.pem", Some("client"))).await.is_err());
    assert_eq!(shown(&serve, &former).await, served, "a connection that was let in goes on");
}

type Breaks<'a> = &'a dyn Fn(&Path);

#[tokio::test]
async fn a_new_certificate_is_served_after_sighup_and_a_broken_one_never() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "api.pem", "server-a.pem");
    put(dir.path(), "api.key", "server-a.key");
    let mut serve = Serve::start(dir.path(), TLS).await;
    let new = || client("ca.pem", None);
    let long = new();
    assert_eq!(shown(&serve, &long).await, Ok(der("server-a.pem")));

    put(dir.path(), "api.pem", "server-b.pem");
    put(dir.path(), "api.key", "server-b.key");
    assert_eq!(shown(&serve, &new()).await, Ok(der("server-a.pem")), "not before it is told");
    serve.signal(Signal::HUP);
    serve.until("are in force").await;
    assert_eq!(shown(&serve, &new()).await, Ok(der("server-b.pem")));
    assert_eq!(shown(&serve, &long).await, Ok(der("server-a.pem")), "its connection was not dropped");

    // Half of a pair, as when the signal comes between two writes; no PEM; no file.
    let broken: [(&str, Breaks); 4] = [
        ("api.pem", &|path| put(path, "api.pem", "server-a.pem")),
        ("api.pem", &|path| {
            std::fs::write(path.join("api.pem"), "-----BEGIN CERTIFICATE-----\nhunter2").unwrap()
        }),
        ("api.key", &|path| {
            put(path, "api.pem", "server-b.pem");
            std::fs::write(path.join("api.key"), "hunter2").unwrap();
        }),
        ("api.key", &|path| std::fs::remove_file(path.join("api.key")).unwrap()),
    ];
    for (name, make) in broken {
        make(dir.path());
        serve.signal(Signal::HUP);
        let said = serve.until("the former stay in force").await;
        assert!(said["error"].as_str().unwrap().contains(name), "{said}");
        assert_eq!(shown(&serve, &new()).await, Ok(der("server-b.pem")), "{name}");
    }
    put(dir.path(), "api.pem", "server-a.pem");
    put(dir.path(), "api.key", "server-a.key");
    serve.signal(Signal::HUP);
    serve.until("are in force").await;
    assert_eq!(shown(&serve, &new()).await, Ok(der("server-a.pem")));
    let (status, log) = serve.stop().await;
    assert!(status.success() && !log.contains("hunter2"), "{log}");
}

/// Who has no TLS, or no API, lives through a SIGHUP too.
#[tokio::test]
async fn without_tls_a_sighup_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let mut serve = Serve::start(dir.path(), "").await;
    serve.signal(Signal::HUP);
    serve.until("nothing to read again").await;
    serve.stores(&crate::kit::client(), "after").await;
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_said() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "api.pem", "expired.pem");
    put(dir.path(), "api.key", "expired.key");
    let serve = Serve::start(dir.path(), TLS).await;
    assert!(serve.seen.contains("tls_cert has expired"), "{}", serve.seen);
    assert!(serve.seen.contains("api.pem"), "{}", serve.seen);
}

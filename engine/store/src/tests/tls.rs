//! TLS to the servers, with certificates made here: a server whose certificate is right is spoken to in cipher, every other is refused
//! and says why, and plain text over the network is warned about.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::testing::{Kind, PASSWORD, Server, USER, relaxed};
use crate::{Error, migrate};

/// A certificate authority and what it signed, in a folder that servers may read.
struct Authority {
    dir: TempDir,
}

fn openssl(dir: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(dir).output().expect("openssl is installed");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Authority {
    fn new() -> Authority {
        let dir = TempDir::new().unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let to = ["-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=an authority"];
        openssl(dir.path(), &[&["req", "-x509"][..], &key, &to].concat());
        Authority { dir }
    }

    /// `NAME.pem` and `NAME.key`, for one name or address.
    fn signs(&self, to: &Path, name: &str) {
        let own = |file: &str| self.dir.path().join(file).display().to_string();
        std::fs::write(to.join("ext"), format!("subjectAltName={name}\nextendedKeyUsage=serverAuth\n"))
            .unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        openssl(
            to,
            &[&["req"][..], &key, &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=a server"]]
                .concat(),
        );
        let (ca, ca_key) = (own("ca.pem"), own("ca.key"));
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        openssl(to, &[&sign[..], &["-days", "2", "-extfile", "ext", "-out", "server.pem"]].concat());
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

/// A server with such a certificate. Its files lie beside its data once it exists, so it is started a second time.
fn server(kind: Kind, authority: &Authority, name: &str) -> Option<(Server, TempDir)> {
    let dir = TempDir::new().unwrap();
    authority.signs(dir.path(), name);
    let user = match kind {
        Kind::Postgres => "postgres",
        Kind::Mariadb => "mysql",
    };
    // As root the servers run as users of their own, and PostgreSQL wants its key to be its own.
    let _ = Command::new("chown").arg("-R").arg(user).arg(dir.path()).output();
    let own = |file: &str| dir.path().join(file).display().to_string();
    let (certificate, key) = (own("server.pem"), own("server.key"));
    let settings = match kind {
        Kind::Postgres => {
            ["ssl=on".to_owned(), format!("ssl_cert_file={certificate}"), format!("ssl_key_file={key}")]
        }
        Kind::Mariadb => [format!("ssl-cert={certificate}"), format!("ssl-key={key}"), "ssl=1".to_owned()],
    };
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    Some((Server::new(kind, &settings)?, dir))
}

fn verifying(kind: Kind, url: &str, authority: &Path) -> String {
    let authority = authority.display();
    match kind {
        Kind::Postgres => format!("{url}?sslmode=verify-full&sslrootcert={authority}"),
        Kind::Mariadb => format!("{url}?ssl-mode=VERIFY_IDENTITY&ssl-ca={authority}"),
    }
}

/// The whole chain of a refusal, as an operator reads it.
async fn refusal(url: &str) -> String {
    let error = Db::open_with(url, relaxed(Access::Shared)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let mut text = error.to_string();
    assert!(text.contains("TLS to the server failed"), "{error:?}");
    let mut source = std::error::Error::source(&error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_the_right_certificate_is_spoken_to_in_cipher_and_no_other() {
    for kind in [Kind::Postgres, Kind::Mariadb] {
        let (authority, other) = (Authority::new(), Authority::new());
        let Some((server, _files)) = server(kind, &authority, "IP:127.0.0.1") else { continue };
        let url = verifying(kind, &server.create().await, &authority.file());
        migrate::migrate(&url).await.unwrap();
        let db = Db::open_with(&url, relaxed(Access::Exclusive)).await.unwrap();
        let ask = match kind {
            Kind::Postgres => {
                "SELECT CASE WHEN ssl THEN cipher ELSE '' END AS cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            }
            Kind::Mariadb => {
                "SELECT VARIABLE_VALUE AS cipher FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'"
            }
        };
        let rows = (&db).rows(sqlx::SqlStr::from_static(ask), vec![]).await.unwrap();
        let cipher = rows[0].of("session", "cipher").string("cipher").unwrap();
        assert!(cipher.contains("AES") || cipher.contains("CHACHA"), "{kind:?}: {cipher:?}");
        write(&db, async |tx| crate::settings::set(tx, "x", "1", NOW).await).await.unwrap();
        let plain = db.findings().await.unwrap();
        assert!(!plain.iter().any(|finding| finding.why.contains("plain text")), "{plain:?}");
        db.close().await;

        let (base, _) = url.split_once('?').unwrap();
        let unknown = refusal(&verifying(kind, base, &other.file())).await;
        assert!(unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"), "{kind:?}: {unknown}");
        // Another name for the same address.
        let renamed = verifying(kind, &base.replace("127.0.0.1", "localhost"), &authority.file());
        let misnamed = refusal(&renamed).await;
        assert!(
            misnamed.contains("not valid for name") || misnamed.contains("NotValidForName"),
            "{kind:?}: {misnamed}"
        );
        let missing =
            Db::open_with(&verifying(kind, base, Path::new("/nowhere/ca.pem")), relaxed(Access::Shared))
                .await;
        let missing = format!("{:?}", missing.unwrap_err());
        assert!(missing.contains("No such file"), "{kind:?}: {missing}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_it_is_demanded() {
    let authority = Authority::new();
    for (kind, settings) in [(Kind::Postgres, &["ssl=off"][..]), (Kind::Mariadb, &["skip-ssl"][..])] {
        let Some(server) = Server::new(kind, settings) else { continue };
        let url = server.create().await;
        migrate::migrate(&url).await.expect("where it is not demanded, it is not needed");
        refusal(&verifying(kind, &url, &authority.file())).await;
        let required = match kind {
            Kind::Postgres => format!("{url}?sslmode=require"),
            Kind::Mariadb => format!("{url}?ssl-mode=REQUIRED"),
        };
        refusal(&required).await;
    }
}

/// An address of this machine that is not loopback, where it has one.
fn address() -> Option<String> {
    let output = Command::new("hostname").arg("-I").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find(|address| address.contains('.')).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_over_the_network_is_warned_about() {
    let Some(address) = address() else {
        eprintln!("SKIPPED: this machine has loopback only");
        return;
    };
    for (kind, settings) in [
        (Kind::Postgres, &["listen_addresses=*", "ssl=off"][..]),
        (Kind::Mariadb, &["bind-address=0.0.0.0", "skip-ssl"][..]),
    ] {
        let Some(server) = Server::new(kind, settings) else { continue };
        let url = server.create().await;
        migrate::migrate(&url).await.unwrap();
        if kind == Kind::Postgres {
            let rule = format!("host all {USER} {address}/32 scram-sha-256\n");
            let file = server.folder().join("data/pg_hba.conf");
            let rules = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, rules + &rule).unwrap();
            server.kill();
            server.start();
        }
        let away = url.replace("127.0.0.1", &address);
        let db = Db::open_with(&away, relaxed(Access::Shared)).await.unwrap();
        let found = db.findings().await.unwrap();
        let plain = found.iter().find(|finding| finding.why.contains("plain text"));
        let plain = plain.unwrap_or_else(|| panic!("{kind:?}: {found:?}"));
        assert!(!plain.fatal && plain.cure.contains("ssl"), "{plain}");
        let near = Db::open_with(&url, relaxed(Access::Shared)).await.unwrap();
        assert!(!near.findings().await.unwrap().iter().any(|finding| finding.why.contains("plain text")));
    }
}

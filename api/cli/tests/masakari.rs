//! The way over from Masakari as an operator walks it: the two commands, from a file to a report.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const SCHEMA: &str = include_str!("../../../engine/store/src/import/tests/masakari.sql");

fn halberd(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halberd"));
    command.env_remove("RUST_LOG").env_remove("HALBERD_CONFIG").env_remove("HALBERD_MASAKARI_URL");
    command.args(arguments).current_dir(dir).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = halberd(dir, arguments);
    let (out, err) = said(&output);
    assert!(output.status.success(), "{arguments:?}: {err}");
    out
}

fn refuses(dir: &Path, arguments: &[&str], what: &str) {
    let output = halberd(dir, arguments);
    let (out, err) = said(&output);
    assert!(!output.status.success(), "{arguments:?}: {out}");
    assert!(err.contains(what), "{arguments:?}: {err}");
    assert!(!err.contains("hunter2") && !out.contains("hunter2"), "{err}{out}");
}

async fn source(dir: &Path) {
    use sqlx::{ConnectOptions, Connection};
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(dir.join("masakari.sqlite"))
        .create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(SCHEMA).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    std::fs::write(dir.join("masakari.conf"), "[database]\nconnection = sqlite:///masakari.sqlite\n")
        .unwrap();
}

#[tokio::test]
async fn a_history_is_rehearsed_taken_and_taken_again() {
    let dir = TempDir::new().unwrap();
    source(dir.path()).await;
    let rehearsed = succeeds(dir.path(), &["db", "import-masakari", "masakari.conf", "--dry-run"]);
    assert!(rehearsed.contains("rehearsal: nothing was written"), "{rehearsed}");
    assert!(!dir.path().join("halberd.db").exists(), "not even an empty database");
    let told = succeeds(dir.path(), &["db", "import-masakari", "masakari.conf"]);
    for line in [
        "NO recovery was started",
        "COMPUTE_HOST of 2026-02-02 10:00:00 UTC: cmp-07 running",
        "--on-maintenance false",
        "racks cmp-07",
        "(1 of them deleted)",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    let again =
        succeeds(dir.path(), &["db", "import-masakari", "sqlite:///masakari.sqlite", "--format", "json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!((&again["hosts"]["taken"], &again["hosts"]["already_there"]), (&0.into(), &3.into()));
    assert!(succeeds(dir.path(), &["db", "check"]).contains("verify"));
}

#[test]
fn bad_input_is_refused_with_the_way_out() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("other.conf"), "[DEFAULT]\ndebug = true\n").unwrap();
    std::fs::write(dir.path().join("loop.conf"), "[database]\nconnection = $sql\n").unwrap();
    let cases: &[(&str, &str)] = &[
        ("absent.conf", "absent.conf cannot be read"),
        (".", "is a directory"),
        ("other.conf", "has no [database] connection"),
        ("loop.conf", "refers to $sql"),
        ("sqlite:///absent.sqlite", "there is no such file"),
        ("mysql+pymysql://m:hunter2@127.0.0.1:1/m", "cannot be reached"),
        ("mssql://m:hunter2@127.0.0.1:1/m", "none of mysql"),
    ];
    for (source, what) in cases {
        refuses(dir.path(), &["db", "import-masakari", source, "--dry-run"], what);
    }
    refuses(dir.path(), &["db", "import-masakari", "x.conf", "--since", "soon"], "1 to 36500, or all");
    refuses(dir.path(), &["config", "from-masakari"], "FILE");
    refuses(dir.path(), &["config", "from-masakari", "absent.conf"], "absent.conf cannot be read");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing was made");
}

#[test]
fn what_comes_out_is_a_configuration() {
    let dir = TempDir::new().unwrap();
    std::fs::write(
        dir.path().join("masakari.conf"),
        "[DEFAULT]\nmasakari_api_listen = 127.0.0.1\n[keystone_authtoken]\nauth_url = http://127.0.0.1:5000/v3\nusername = m\n\
         password = hunter2\nproject_name = service\n",
    )
    .unwrap();
    let toml =
        succeeds(dir.path(), &["config", "from-masakari", "masakari.conf", "--secrets-dir", "secrets"]);
    assert!(!toml.contains("hunter2"), "{toml}");
    std::fs::write(dir.path().join("halberd.toml"), toml).unwrap();
    let checked = succeeds(dir.path(), &["config", "check", "halberd.toml"]);
    assert!(checked.contains("is good") && checked.contains("127.0.0.1:15868"), "{checked}");
}

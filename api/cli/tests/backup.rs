//! `halberd db backup|restore` as an operator meets them.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use halberd_store::engines;
use halberd_store::{Access, Db, Sealer, rewind, settings, write};
use tempfile::TempDir;

fn halberd(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_halberd"));
    command.env_remove("RUST_LOG").env_remove("HALBERD_CONFIG").current_dir(dir).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const NOW: halberd_core::time::Stamp = halberd_core::time::Stamp(1_700_000_000_000_000);

/// A database that an engine has used, with its key.
async fn used(dir: &Path) {
    let db = open(dir).await;
    let (sealer, _) = Sealer::from_file_or_new(&dir.join("halberd.key")).unwrap();
    let id = halberd_core::id::EngineId::from(uuid::Uuid::from_u128(1));
    write(&db, async |tx| {
        sealer.check(tx, NOW).await?;
        settings::set(tx, "kept", "canary", NOW).await?;
        engines::register(tx, "ctl-1", id, None, true, &serde_json::json!({}), NOW).await
    })
    .await
    .unwrap();
    db.close().await;
}

async fn open(dir: &Path) -> Db {
    let url = format!("sqlite:{}", dir.join("halberd.db").display());
    Db::open(&url, Access::Exclusive).await.unwrap()
}

#[tokio::test]
async fn a_backup_goes_to_another_machine_and_engines_only_look_there() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    used(here.path()).await;
    let file = there.path().join("b");
    let to = file.to_str().unwrap();
    // Beside an engine.
    let engine = open(here.path()).await;
    let text = said(&halberd(here.path(), &["db", "backup", "--to", to]));
    engine.close().await;
    drop(engine);
    assert!(text.contains("IT CONTAINS THE SECRETS KEY") && text.contains("schema step"), "{text}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = refused(&halberd(here.path(), &["db", "backup", "--to", to]));
    assert!(again.contains("exists already") && again.contains("--force"), "{again}");

    let whole = said(&halberd(there.path(), &["db", "restore", "--check", to]));
    assert!(whole.contains("is whole") && whole.contains("WITH the secrets key"), "{whole}");
    assert!(!there.path().join("halberd.db").exists(), "--check needs no database");
    let restored = said(&halberd(there.path(), &["db", "restore", "--from", to]));
    assert!(restored.contains("reconcile show") && restored.contains("reconcile leave"), "{restored}");
    let key = |dir: &Path| std::fs::read(dir.join("halberd.key")).unwrap();
    assert_eq!(key(here.path()), key(there.path()));
    let db = open(there.path()).await;
    assert_eq!(settings::get(&db, "kept").await.unwrap().unwrap().0, "canary");
    assert!(rewind::standing(&db).await.unwrap().is_some(), "reconcile-only");
    db.close().await;
    drop(db);

    // Not over what is there, unless it is named and confirmed.
    let full = refused(&halberd(there.path(), &["db", "restore", "--from", to]));
    assert!(full.contains("not empty") && full.contains("--replace"), "{full}");
    let named = refused(&halberd(there.path(), &["db", "restore", "--from", to, "--replace"]));
    assert!(named.contains("engines 1") && named.contains("--yes"), "{named}");
    let held = open(there.path()).await;
    let locked = refused(&halberd(there.path(), &["db", "restore", "--from", to, "--replace", "--yes"]));
    assert!(locked.contains("in use by another engine"), "{locked}");
    held.close().await;
    drop(held);
    let replaced = said(&halberd(there.path(), &["db", "restore", "--from", to, "--replace", "--yes"]));
    assert!(replaced.contains("are gone"), "{replaced}");
}

#[tokio::test]
async fn without_the_key_it_says_what_is_missing_and_a_damaged_file_is_refused_before_anything_is_made() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    used(here.path()).await;
    let file = there.path().join("b");
    let to = file.to_str().unwrap();
    let text = said(&halberd(here.path(), &["db", "backup", "--to", to, "--without-key"]));
    assert!(text.contains("halberd.key") && !text.contains("IT CONTAINS"), "{text}");
    let whole = std::fs::read(&file).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    for args in [["db", "restore", "--check", to], ["db", "restore", "--from", to]] {
        let damaged = refused(&halberd(there.path(), &args));
        assert!(damaged.contains("is damaged: its digest is"), "{damaged}");
    }
    std::fs::write(&file, &whole[..middle]).unwrap();
    let cut = refused(&halberd(there.path(), &["db", "restore", "--from", to]));
    assert!(cut.contains("ends too early"), "{cut}");
    assert!(!there.path().join("halberd.db").exists(), "nothing was made");
    std::fs::write(&file, &whole).unwrap();
    let restored = said(&halberd(there.path(), &["db", "restore", "--from", to]));
    assert!(restored.contains("NO SECRETS KEY WAS WRITTEN"), "{restored}");
    assert!(!there.path().join("halberd.key").exists());
}

//! The verbs on a database of a test's own.

use std::path::{Path, PathBuf};

use halberd_core::audit::Entry;
use halberd_core::time::Stamp;
use halberd_store::{Access, Db, audit, write};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Found, check, purge, size, version};
use crate::args::{DbArgs, Purge};
use crate::verbs::Format;

const DAY: i64 = 24 * 3_600 * 1_000_000;

/// A folder with a configuration, and what lies in the database that it names.
async fn given(retention: &str) -> (TempDir, PathBuf, Db) {
    let dir = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", dir.path().join("halberd.db").display());
    let file = dir.path().join("halberd.toml");
    let text = format!("[api]\nauth = \"none\"\n[database]\nurl = \"{url}\"\n[retention]\n{retention}\n");
    std::fs::write(&file, text).expect("written");
    let db = Db::open(&url, Access::Shared).await.expect("made");
    let entry = [Entry::new("service_went_down", "keystone", json!({}))];
    for at in [Stamp(DAY), Stamp(500 * DAY)] {
        write(&db, async |tx| audit::append(tx, &format!("api:{}", at.0), 0, &entry, at).await)
            .await
            .expect("kept");
    }
    write(&db, async |tx| audit::checkpoint(tx, Stamp(500 * DAY)).await).await.expect("kept");
    (dir, file, db)
}

fn args(file: &Path) -> DbArgs {
    DbArgs { config: Some(file.to_path_buf()) }
}

#[tokio::test]
async fn what_goes_is_told_before_and_after() {
    let (_dir, file, db) = given("audit_days = 90").await;
    let purge = async |dry_run, compact| {
        let args = Purge { config: Some(file.clone()), dry_run, compact };
        let said: Value =
            serde_json::from_str(&purge::run(&args, Format::Json).await.expect("done")).expect("JSON");
        said["rows"].clone()
    };
    assert_eq!(purge(true, false).await, json!({"audit": 1}));
    let told = size::run(&args(&file), Format::Table).await.expect("measured");
    assert!(told.contains("audit_days") && told.contains("for ever: history names them"), "{told}");
    assert!(told.lines().any(|line| line.starts_with("audit ") && line.contains("  1  ")), "{told}");
    assert_eq!(purge(false, false).await, json!({"audit": 1}));
    db.close().await;
    // The purge's own note is of today, so what was fresh beside the oldest record is old now.
    assert_eq!(purge(false, true).await, json!({"audit": 1}), "and the file is written anew");
    let whole: Value =
        serde_json::from_str(&size::run(&args(&file), Format::Json).await.expect("measured")).expect("JSON");
    assert_eq!(whole["free_bytes"], 0);
    check::run(&args(&file), Format::Table).await.expect("whole after all that");
}

#[tokio::test]
async fn a_check_lists_what_it_finds_and_fails() {
    let (_dir, file, db) = given("").await;
    let good = check::run(&args(&file), Format::Table).await.expect("whole");
    assert!(good.contains("all 3 audit chains verify (3 records)"), "{good}");
    // A chain that nobody wrote.
    let entry = [Entry::new("a", "b", json!({}))];
    write(&db, async |tx| audit::append(tx, "api:x", 0, &entry, Stamp(DAY)).await).await.expect("kept");
    write(&db, async |tx| halberd_store::settings::set(tx, "purge_leaving", "[1", Stamp(1)).await)
        .await
        .expect("kept");
    db.close().await;
    let error = check::run(&args(&file), Format::Table).await.expect_err("it cannot be read");
    assert!(error.to_string().contains("table settings, row purge_leaving"), "{error}");
    let listed = Found { text: "x".into() };
    assert!(listed.to_string().contains("not everything"));
}

#[tokio::test]
async fn a_version_is_told_of_an_empty_file_too() {
    let (dir, file, db) = given("").await;
    db.close().await;
    let told: Value =
        serde_json::from_str(&version::run(&args(&file), Format::Json).await.expect("told")).expect("JSON");
    assert_eq!(
        (&told["schema"], &told["server"], &told["way_out"]),
        (&told["ours"], &json!("SQLite"), &Value::Null)
    );
    let empty = dir.path().join("empty.db");
    std::fs::write(&empty, "").expect("written");
    let text = format!("[api]\nauth = \"none\"\n[database]\nurl = \"sqlite:{}\"\n", empty.display());
    std::fs::write(&file, text).expect("written");
    let told = version::run(&args(&file), Format::Table).await.expect("told");
    assert!(told.contains("step 0") && told.contains("halberd db migrate"), "{told}");
    assert_eq!(std::fs::metadata(&empty).expect("there").len(), 0, "nothing was changed");
}

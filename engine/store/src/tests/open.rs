//! Opening, sharing and migrating.

use std::time::Duration;

use super::*;
use crate::db::Options;
use crate::{Error, Tx, settings};

everywhere!(writers_of_two_openings_all_get_through,);

#[tokio::test]
async fn a_url_that_cannot_be_used_says_what_to_write() {
    for (url, says) in [
        ("oracle://u:secret@db/halberd", "write sqlite:PATH"),
        ("postgres://u:secret@db", "names no database"),
        ("mariadb://u:secret@db:3306/", "names no database"),
        ("mysql://u:secret@db:port/halberd", "port"),
        ("sqlite::memory:", "name a file"),
        ("sqlite:", "name a file"),
        ("halberd.db", "write sqlite:PATH"),
        ("sqlite:x.db?mode=ro", "not supported"),
    ] {
        let error = Db::open(url, Access::Shared).await.unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let dir = TempDir::new().unwrap();
    let error = Db::open(&url(&dir.path().join("nowhere")), Access::Exclusive).await.unwrap_err();
    assert!(
        matches!(&error, Error::File { path, .. } if path.ends_with("nowhere/halberd.db.lock")),
        "{error:?}"
    );
}

#[tokio::test]
async fn two_engines_cannot_hold_one_file_but_an_api_may_read_and_write_beside() {
    let kit = kit().await;
    assert!(kit.db.holds_exclusive_lock());
    let second = Db::open(&url(kit.own.dir()), Access::Exclusive).await;
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    let beside = kit.beside().await;
    assert!(!beside.holds_exclusive_lock());
    write(&beside, async |tx| crate::segments::create(tx, &new_segment("from beside"), NOW).await)
        .await
        .unwrap();
    assert_eq!(
        crate::segments::list(&kit.db, &Default::default(), &Default::default()).await.unwrap().len(),
        2
    );
    kit.db.close().await;
    let Kit { own, db, .. } = kit;
    drop(db);
    Db::open(&url(own.dir()), Access::Exclusive).await.expect("the lock went with its holder");
}

#[tokio::test]
async fn opening_twice_migrates_once_and_keeps_everything() {
    let kit = kit().await;
    let identity = settings::identity(&kit.db, NOW).await.unwrap();
    let schema = "SELECT COUNT(*) FROM sqlite_master";
    let before = (kit.count(schema).await, kit.count("SELECT COUNT(*) FROM _sqlx_migrations").await);
    kit.db.close().await;
    let Kit { own, db, .. } = kit;
    drop(db);
    for _ in 0..2 {
        let db = Db::open(&url(own.dir()), Access::Exclusive).await.unwrap();
        let count = |sql| {
            let db = db.clone();
            async move { (&db).rows(sqlx::SqlStr::from_static(sql), vec![]).await.unwrap()[0].first_int() }
        };
        assert_eq!((count(schema).await, count("SELECT COUNT(*) FROM _sqlx_migrations").await), before);
        assert_eq!(settings::identity(&db, NOW).await.unwrap(), identity);
        assert!(crate::hosts::by_name(&db, "cmp-01").await.unwrap().is_some());
        db.close().await;
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let kit = kit().await;
    write(&kit.db, async |tx| {
        let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                   VALUES (99, 'newer', 1, x'00', 0)";
        tx.exec(sql, vec![]).await
    })
    .await
    .unwrap();
    let beside = Db::open(&url(kit.own.dir()), Access::Shared).await;
    assert!(matches!(beside, Err(Error::Schema { found: 99, .. })), "{beside:?}");
    kit.db.close().await;
    let Kit { own, db, .. } = kit;
    drop(db);
    let alone = Db::open(&url(own.dir()), Access::Exclusive).await;
    assert!(matches!(alone, Err(Error::Schema { found: 99, .. })), "{alone:?}");
}

#[tokio::test]
async fn the_journal_is_synced_at_each_commit() {
    let kit = kit().await;
    let mut tx = Tx::begin(&kit.db).await.unwrap();
    let ask = async |tx: &mut Tx, sql| {
        let rows = (&mut *tx).rows(sqlx::SqlStr::from_static(sql), vec![]).await.unwrap();
        rows[0].values[0].clone()
    };
    assert_eq!(ask(&mut tx, "PRAGMA journal_mode").await, Arg::Text("wal".into()));
    assert_eq!(ask(&mut tx, "PRAGMA synchronous").await, Arg::Int(2), "FULL");
    assert_eq!(ask(&mut tx, "PRAGMA foreign_keys").await, Arg::Int(1));
    let mut reader = kit.db.snapshot().await.unwrap();
    assert!(settings::set(&mut reader, "x", "y", NOW).await.is_err(), "readers cannot write");
}

async fn writers_of_two_openings_all_get_through(on: On) {
    let kit = kit_on(on).await;
    let beside = kit.beside().await;
    let tasks: Vec<_> = (0..40)
        .map(|n| {
            let db = if n % 2 == 0 { kit.db.clone() } else { beside.clone() };
            tokio::spawn(async move {
                // Read, then write: what fails at once in a deferred transaction.
                write(&db, async |tx| {
                    let sum: i64 =
                        settings::get(&mut *tx, "sum").await?.map_or(0, |(value, _)| value.parse().unwrap());
                    settings::set(tx, "sum", &(sum + 1).to_string(), NOW).await
                })
                .await
                .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(settings::get(&kit.db, "sum").await.unwrap(), Some(("40".into(), 40)));
}

#[tokio::test]
async fn a_writer_takes_the_files_lock_when_it_begins() {
    let kit = kit().await;
    let impatient = Options { busy_timeout: Duration::ZERO, ..Options::new(Access::Shared) };
    let beside = Db::open_with(&url(kit.own.dir()), impatient).await.unwrap();
    let held = Tx::begin(&kit.db).await.unwrap();
    let met = Tx::begin(&beside).await;
    assert!(matches!(&met, Err(error) if error.is_conflict()), "{met:?}");
    settings::get(&beside, "x").await.expect("readers go on");
    drop(held);
    kit.db.ping().await.expect("rolled back");
    Tx::begin(&beside).await.expect("and free again");
}

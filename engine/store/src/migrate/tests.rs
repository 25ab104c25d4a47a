//! Twins stay twins, whoever migrates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sqlx::{AssertSqlSafe, MySqlConnection, PgConnection};

use super::*;
use crate::testing::{EVERY, On};
use crate::value::Row;

/// Runs a statement by hand, as an operator does.
async fn by_hand(url: &str, sql: &'static str) {
    if url.starts_with("postgres") {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = MySqlConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
}

const OURS_ONLY: [&str; 3] = ["_sqlx_migrations", "_halberd_migrating", "sqlite_sequence"];

async fn ask(db: &Db, sql: String) -> Vec<Row> {
    db.read(AssertSqlSafe(sql).into_sql_str(), Vec::new()).await.unwrap()
}

fn text(row: &Row, column: &'static str) -> String {
    row.of("schema", "name").string(column).unwrap()
}

/// Every column with its kind and whether it may be null, and every unique key.
async fn schema(on: On) -> Option<BTreeMap<String, String>> {
    let own = on.own().await?;
    let db = own.open(Access::Exclusive).await.unwrap();
    let columns = match on {
        On::Sqlite => {
            "SELECT m.name AS tab, c.name AS name, lower(c.type) AS kind, CASE WHEN c.\"notnull\" = 1 OR c.pk > 0 THEN 'NO' ELSE 'YES' END AS nullable \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
        On::Postgres => {
            "SELECT table_name::text AS tab, column_name::text AS name, data_type::text AS kind, is_nullable::text AS nullable \
             FROM information_schema.columns WHERE table_schema = current_schema()"
        }
        On::Mariadb => {
            "SELECT TABLE_NAME AS tab, COLUMN_NAME AS name, DATA_TYPE AS kind, IS_NULLABLE AS nullable \
             FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
        }
    };
    let mut all = BTreeMap::new();
    for row in ask(&db, columns.to_owned()).await {
        if OURS_ONLY.contains(&text(&row, "tab").as_str()) {
            continue;
        }
        let kind = text(&row, "kind");
        let kind = if ["int", "bigint", "integer"].contains(&kind.as_str()) { "number" } else { "text" };
        all.insert(
            format!("{}.{}", text(&row, "tab"), text(&row, "name")),
            format!("{kind} {}", text(&row, "nullable")),
        );
    }
    let keys = match on {
        On::Sqlite => {
            "SELECT m.name AS tab, i.name AS name, c.name AS col FROM sqlite_master m JOIN pragma_index_list(m.name) i \
             JOIN pragma_index_info(i.name) c WHERE m.type = 'table' AND i.\"unique\" = 1 ORDER BY tab, i.name, c.seqno"
        }
        On::Postgres => {
            "SELECT t.relname::text AS tab, x.relname::text AS name, a.attname::text AS col FROM pg_index i \
             JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid \
             JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (at, n) ON true \
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.at \
             WHERE i.indisunique AND t.relnamespace = current_schema()::regnamespace ORDER BY 1, 2, k.n"
        }
        On::Mariadb => {
            "SELECT TABLE_NAME AS tab, INDEX_NAME AS name, COLUMN_NAME AS col FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = DATABASE() AND NON_UNIQUE = 0 ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        }
    };
    let mut by_name: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for row in ask(&db, keys.to_owned()).await {
        by_name.entry((text(&row, "tab"), text(&row, "name"))).or_default().push(text(&row, "col"));
    }
    for ((table, _), columns) in by_name {
        // A number of SQLite's is its row's own place and no index.
        if !OURS_ONLY.contains(&table.as_str()) && columns != ["num"] {
            all.insert(format!("{table} unique"), columns.join(","));
            all.insert(format!("{table} ({})", columns.join(", ")), "unique".into());
        }
    }
    all.retain(|name, _| !name.ends_with(" unique"));
    Some(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_three_schemas_are_alike_column_by_column_and_key_by_key() {
    let reference = schema(On::Sqlite).await.expect("it is built in");
    assert!(reference.len() > 200, "the schema was not read: {}", reference.len());
    assert_eq!(reference["recoveries.open_key"], "text YES");
    assert_eq!(reference["recoveries (open_key)"], "unique");
    for on in [On::Postgres, On::Mariadb] {
        let Some(twin) = schema(on).await else { continue };
        let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
            a.iter()
                .filter(|(name, kind)| b.get(*name) != Some(kind))
                .map(|(n, k)| format!("{n}: {k}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (only(&reference, &twin), only(&twin, &reference)),
            (vec![], vec![]),
            "SQLite's, {on:?}'s"
        );
    }
}

#[test]
fn every_step_on_disk_is_built_in() {
    for (folder, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES), ("mysql", MYSQL)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(folder);
        let files =
            std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let built_in = steps.iter().map(|(number, name, _)| format!("{number:04}_{name}.sql"));
        assert_eq!(files.collect::<BTreeSet<_>>(), built_in.collect::<BTreeSet<_>>(), "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_database_is_refused_and_of_four_who_migrate_it_each_succeeds() {
    for on in EVERY {
        let Some(own) = on.empty().await else { continue };
        if on != On::Sqlite {
            let error = own.open(Access::Shared).await.unwrap_err();
            assert!(matches!(error, Error::Schema { found: 0, .. }), "{error:?}");
            assert!(error.to_string().contains("halberd db migrate"), "{error}");
            assert_eq!(version(&own.url).await.unwrap().found, 0);
        }
        let all: Vec<_> = (0..4)
            .map(|_| (own.url.clone(),))
            .map(|(url,)| tokio::spawn(async move { migrate(&url).await }))
            .collect();
        for one in all {
            let done = one.await.unwrap().unwrap_or_else(|error| panic!("{on:?}: {error:?}"));
            // Whoever comes second may see it half way.
            assert!((0..=done.ours).contains(&done.found), "{done:?}");
        }
        let now = version(&own.url).await.unwrap();
        assert!(now.check().is_ok(), "{now:?}");
        assert_eq!(migrate(&own.url).await.unwrap(), now, "once more changes nothing");
        own.open(Access::Shared).await.unwrap().ping().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_refused_with_the_way_out() {
    for on in [On::Postgres, On::Mariadb] {
        let Some(own) = on.own().await else { continue };
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (99, 'newer', TRUE, 'x', 0)";
        by_hand(&own.url, newer).await;
        by_hand(&own.url, "UPDATE settings SET value = '99' WHERE name = 'schema_serves_from'").await;
        for error in [own.open(Access::Shared).await.unwrap_err(), migrate(&own.url).await.unwrap_err()] {
            assert!(matches!(error, Error::Schema { found: 99, .. }), "{error:?}");
            assert!(error.to_string().contains("a newer version"), "{error}");
        }
    }
}

/// N-1 serves on N's schema if that says so (I32), whichever was started first; the migration is N's all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_that_only_adds_is_served_on() {
    for on in [On::Postgres, On::Mariadb] {
        let Some(own) = on.own().await else { continue };
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (99, 'newer', TRUE, 'x', 0)";
        by_hand(&own.url, newer).await;
        // Our own last step has said that programs of the fourth may.
        own.open(Access::Shared).await.expect("4 and all after it may").ping().await.unwrap();
        assert!(matches!(migrate(&own.url).await.unwrap_err(), Error::Schema { found: 99, .. }));
        for not_us in [
            "UPDATE settings SET value = '99' WHERE name = 'schema_serves_from'",
            "UPDATE settings SET value = 'soon' WHERE name = 'schema_serves_from'",
        ] {
            by_hand(&own.url, not_us).await;
            let error = own.open(Access::Shared).await.unwrap_err();
            assert!(matches!(error, Error::Schema { found: 99, .. }), "{not_us}: {error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_was_interrupted_goes_on() {
    let Some(own) = On::Mariadb.own().await else { return };
    // As a crash within the fifth step leaves it: its first statement is done, the others are not.
    by_hand(
        &own.url,
        "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 5; DELETE FROM settings WHERE name = 'schema_serves_from'",
    )
    .await;
    let error = own.open(Access::Shared).await.unwrap_err();
    assert!(error.to_string().contains("interrupted"), "{error}");
    assert_eq!(migrate(&own.url).await.unwrap().found, 4);
    own.open(Access::Shared).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_died_while_migrating_is_outwaited_only_while_silent() {
    let Some(own) = On::Mariadb.own().await else { return };
    by_hand(&own.url, "INSERT INTO _halberd_migrating (num, owner, counter) VALUES (1, 'another', 7)").await;
    let waits = tokio::spawn({
        let url = own.url.clone();
        async move { migrate(&url).await }
    });
    // It gives its row back: the one who waits goes on at once.
    while !waits.is_finished() {
        by_hand(&own.url, "UPDATE _halberd_migrating SET counter = counter + 1 WHERE owner = 'another'")
            .await;
        by_hand(&own.url, "DELETE FROM _halberd_migrating WHERE owner = 'another' AND counter > 8").await;
    }
    waits.await.unwrap().unwrap();
}

//! What goes into a backup comes out of it, on every database and from each to each; what is wrong with one is said by name, and
//! nothing half remains.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::task::{Context, Poll};

use halberd_core::audit::Entry;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::testing::{EVERY, On, Own, relaxed};
use crate::tests::bad::Tiny;
use crate::tests::{NOW, everywhere, history, kit_on, new_segment};
use crate::value::{Row, args};
use crate::{Access, Db, Read, Sealer, audit, migrate, rewind, settings};

everywhere!(
    a_full_store_comes_back_whole_and_goes_to_every_other_database,
    what_is_there_is_neither_overwritten_nor_removed_unasked,
    a_restore_that_was_cut_off_leaves_nothing_half,
    a_backup_of_an_older_schema_is_restored_and_then_migrated,
);

fn how() -> Restore {
    Restore {
        former: Former::Keep,
        engines_are_stopped: false,
        watch: Duration::ZERO,
        secrets_key: None,
        without_key: true,
        high_water: None,
        by: "restore by a test".to_owned(),
        why: "the test said so".to_owned(),
        webhooks: Vec::new(),
    }
}

use std::time::Duration;

async fn into(own: &Own, file: &Path, how: &Restore) -> Result<Restored, BackupError> {
    restore(&own.url, &mut open(file).await?, how, NOW).await
}

/// Rows by table, as text, in no order of the database's. What a restore itself writes is left out.
async fn all_of(db: &Db) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for table in shape::at(migrate::newest_of_ours(db.dialect())).await.unwrap() {
        let sql = format!("SELECT {} FROM {}", table.names().join(", "), table.name);
        let rows: Vec<Row> =
            (&*db).rows(sqlx::SqlSafeStr::into_sql_str(sqlx::AssertSqlSafe(sql)), vec![]).await.unwrap();
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{:?}", row.values)).collect();
        rows.retain(|row| !row.contains("rewound") && !row.contains("\"restores\""));
        rows.sort();
        found.insert(table.name, rows);
    }
    found
}

async fn put_row(db: &Db, table: &shape::Table, n: i64) {
    let value = |column: &shape::Column| match (column.name.as_str(), column.text) {
        ("num", _) => args![n + 40],
        (_, true) => args![format!("{n} für '{}' \\ \"x\"", column.name)],
        (_, false) => args![i64::MAX - n],
    };
    let values: Vec<_> = table.columns.iter().flat_map(value).collect();
    crate::write(db, async |tx| tx.insert_rows(&table.name, &table.names(), vec![values.clone()]).await)
        .await
        .unwrap_or_else(|error| panic!("{}: {error:?}", table.name));
}

/// A store with rows in every table, some of them too many for one page, and values that travel badly.
async fn full(on: On) -> (Own, Db) {
    let own = on.own().await.expect("it was asked before");
    let db = own.open(Access::Exclusive).await.unwrap();
    history::lived(&db, 7).await;
    let entries: Vec<Entry> = (0..430).map(|n| Entry::new("seen", format!("{n}"), json!({"n": n}))).collect();
    for chain in ["a", "b", "a/c"] {
        crate::write(&db, async |tx| audit::append(tx, chain, 0, &entries, NOW).await).await.unwrap();
    }
    for n in 0..3 {
        for chunk in 0..4 {
            let events: Vec<_> = (0..110).map(|_| crate::tests::event(None)).collect();
            crate::write(&db, async |tx| crate::events::publish(tx, &events, n * chunk, &[], NOW).await)
                .await
                .unwrap();
        }
    }
    let nasty = "§ü🦀 'one' \"two\" \\ back\r\nline\ttab ? $1 %s {\"a\":null} trailing \u{feff}\u{10ffff} ";
    for (name, value) in [("nasty", nasty), ("nasty ", ""), ("Nasty", "x")] {
        crate::write(&db, async |tx| settings::set(tx, name, value, Stamp(i64::MIN)).await).await.unwrap();
    }
    for table in shape::at(migrate::newest_of_ours(db.dialect())).await.unwrap() {
        if all_of(&db).await[&table.name].is_empty() {
            for n in 0..3 {
                put_row(&db, &table, n).await;
            }
        }
    }
    (own, db)
}

async fn a_full_store_comes_back_whole_and_goes_to_every_other_database(on: On) {
    let (own, db) = full(on).await;
    let key = own.dir().join("key");
    let (sealer, _) = Sealer::from_file_or_new(&key).unwrap();
    crate::write(&db, async |tx| sealer.check(tx, NOW).await).await.unwrap();
    let identity = settings::identity(&db, NOW).await.unwrap();
    let water = own.dir().join("water");
    std::fs::write(&water, b"{\"whatever\": \"the engine keeps\"}").unwrap();
    let before = all_of(&db).await;
    assert!(before.values().all(|rows| !rows.is_empty()), "a table without a row shows nothing");
    assert!(before["audit"].len() > 1_000 && before["events"].len() > 1_000, "more than a page");

    let file = own.dir().join("backup");
    let files = Files { secrets_key: Some(key.clone()), high_water: Some(water.clone()) };
    let written = write(&db, &file, &files, false, NOW).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((written.header.identity, written.header.taken_at), (Some(identity), NOW));
    let read = open(&file).await.unwrap();
    assert_eq!(read.manifest, written);
    let counted: BTreeMap<String, u64> =
        before.iter().map(|(table, rows)| (table.clone(), rows.len() as u64)).collect();
    assert_eq!(written.rows, counted);
    let again = write(&db, &file, &files, false, NOW).await;
    assert!(matches!(again, Err(BackupError::Exists { .. })), "{again:?}");
    db.close().await;

    for to in EVERY {
        let Some(other) = to.empty().await else { continue };
        let place = Restore {
            secrets_key: Some(other.dir().join("halberd.key")),
            without_key: false,
            high_water: Some(other.dir().join("halberd.high-water")),
            ..how()
        };
        let restored = into(&other, &file, &place).await.unwrap();
        assert_eq!(restored.removed, BTreeMap::new());
        assert_eq!(std::fs::read(other.dir().join("halberd.key")).unwrap(), std::fs::read(&key).unwrap());
        assert_eq!(
            std::fs::read(other.dir().join("halberd.high-water")).unwrap(),
            std::fs::read(&water).unwrap()
        );
        let db = other.open(Access::Exclusive).await.unwrap();
        let after = all_of(&db).await;
        for (table, rows) in &before {
            assert_eq!(&after[table], rows, "{on:?} to {to:?}: {table}");
        }
        // It can be gone on with: numbers are given behind those that came, and the chains verify.
        crate::write(&db, async |tx| {
            crate::events::publish(tx, &[crate::tests::event(None)], 0, &[], NOW).await?;
            crate::segments::create(tx, &new_segment("after"), NOW).await
        })
        .await
        .unwrap();
        let broken = audit::verify(&db).await.unwrap();
        let made_up = |chain: &String| chain.contains("für");
        assert!(
            broken.iter().all(|broken| matches!(broken, halberd_core::audit::Broken::Gap { chain, .. } | halberd_core::audit::Broken::Hash { chain, .. } if made_up(chain))),
            "{broken:?}"
        );
        sealer_opens(&db, &other.dir().join("halberd.key")).await;
        let stands = rewind::standing(&db).await.unwrap().expect("engines are stopped");
        assert_eq!((stands.by.as_str(), stands.why.as_str()), ("restore by a test", "the test said so"));
        db.close().await;
    }
}

async fn sealer_opens(db: &Db, key: &Path) {
    let sealer = Sealer::from_file(key).unwrap();
    crate::write(db, async |tx| sealer.check(tx, NOW).await).await.expect("the key is this database's");
}

/// A small backup, of SQLite.
async fn small(dir: &Path) -> PathBuf {
    let kit = kit_on(On::Sqlite).await;
    let key = kit.own.dir().join("key");
    Sealer::from_file_or_new(&key).unwrap();
    let file = dir.join("small");
    let files = Files { secrets_key: Some(key), high_water: None };
    write(&kit.db, &file, &files, false, NOW).await.unwrap();
    file
}

async fn what_is_there_is_neither_overwritten_nor_removed_unasked(on: On) {
    let dir = TempDir::new().unwrap();
    let file = small(dir.path()).await;
    let kit = kit_on(on).await;
    let id = halberd_core::id::EngineId(Uuid::new_v4());
    crate::write(&kit.db, async |tx| {
        crate::engines::register(tx, "ctl-9", id, None, false, &json!({}), NOW).await
    })
    .await
    .unwrap();
    let before = all_of(&kit.db).await;
    if on == On::Sqlite {
        let locked = into(&kit.own, &file, &how()).await;
        assert!(matches!(locked, Err(BackupError::Store(Error::Locked { .. }))), "{locked:?}");
        kit.db.close().await;
    } else {
        let lives = into(&kit.own, &file, &how()).await.unwrap_err();
        assert!(matches!(&lives, BackupError::Engines(name) if name == "ctl-9"), "{lives}");
        // It is said to be gone and is not.
        let watched = Restore { engines_are_stopped: true, watch: Duration::from_millis(300), ..how() };
        let beside = kit.db.clone();
        let renewing = tokio::spawn(async move {
            loop {
                crate::write(&beside, async |tx| crate::engines::renew(tx, id, NOW).await).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let moved = into(&kit.own, &file, &watched).await.unwrap_err();
        renewing.abort();
        let _ = renewing.await;
        assert!(matches!(&moved, BackupError::AtWork(name) if name == "ctl-9"), "{moved}");
    }
    let crate::tests::Kit { own, db, .. } = kit;
    drop(db);
    let gone = Restore { engines_are_stopped: true, ..how() };
    let refused = into(&own, &file, &gone).await.unwrap_err();
    assert!(matches!(&refused, BackupError::NotEmpty(rows) if rows["hosts"] == 1), "{refused}");
    assert!(
        refused.to_string().contains("hosts 1") && refused.to_string().contains("--replace"),
        "{refused}"
    );
    let named = into(&own, &file, &Restore { former: Former::Name, ..gone.clone() }).await.unwrap_err();
    assert!(named.to_string().contains("segments 1") && named.to_string().contains("--yes"), "{named}");
    let key = own.dir().join("halberd.key");
    Sealer::from_file_or_new(&key).unwrap();
    let keyed =
        Restore { former: Former::Remove, secrets_key: Some(key), without_key: false, ..gone.clone() };
    let other = into(&own, &file, &keyed).await.unwrap_err();
    assert!(matches!(other, BackupError::OtherKey { .. }), "{other}");
    let nowhere = into(&own, &file, &Restore { secrets_key: None, ..keyed }).await.unwrap_err();
    assert!(matches!(nowhere, BackupError::NoPlaceForKey), "{nowhere}");
    let db = own.open(Access::Shared).await.unwrap();
    let now = all_of(&db).await;
    let apart = |mut rows: BTreeMap<String, Vec<String>>| {
        // Its lease was renewed meanwhile.
        rows.remove("engines");
        rows
    };
    assert_eq!(apart(now), apart(before), "nothing was changed");
    db.close().await;

    let replaced = into(&own, &file, &Restore { former: Former::Remove, ..gone }).await.unwrap();
    assert_eq!((replaced.removed["hosts"], replaced.secrets_key), (1, None));
    let db = own.open(Access::Shared).await.unwrap();
    assert!(all_of(&db).await["engines"].is_empty(), "what was there is gone");
    assert_eq!(all_of(&db).await["hosts"].len(), 1);
}

/// Rows of an empty schema: its last step's word who may serve on it.
const BORN: usize = 1;

async fn a_restore_that_was_cut_off_leaves_nothing_half(on: On) {
    let (source, db) = full(On::Sqlite).await;
    let file = source.dir().join("backup");
    let manifest = write(&db, &file, &Files::default(), false, NOW).await.unwrap();
    let mut cut = 0;
    // Dropped after so many polls: some before the first write, most within, the last behind the end.
    for polls in [1, 60, 300, 1_000, usize::MAX] {
        // With its schema: a migration that is given up on MariaDB is waited for as long as its lease.
        let own = on.own().await.expect("it was asked before");
        let mut backup = open(&file).await.unwrap();
        let how = Restore { engines_are_stopped: true, ..how() };
        let mut left = polls;
        let mut restoring = Box::pin(restore(&own.url, &mut backup, &how, NOW));
        let ended = std::future::poll_fn(|context: &mut Context<'_>| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            restoring.as_mut().poll(context).map(Some)
        })
        .await;
        drop(restoring);
        let whole = ended.is_some();
        if let Some(done) = ended {
            done.unwrap();
        }
        cut += usize::from(!whole);
        match opened(&own).await {
            Ok(db) => {
                let rows: usize = all_of(&db).await.values().map(Vec::len).sum();
                let all: u64 = manifest.rows.values().sum();
                assert!(
                    rows as u64 == all || (!whole && rows == BORN),
                    "{on:?}, {polls}: {rows} of {all} rows"
                );
                assert_eq!(rewind::standing(&db).await.unwrap().is_some(), rows > BORN);
                db.close().await;
            }
            Err(Error::Unavailable { reason, .. }) if on == On::Mariadb && !whole => {
                assert!(reason.contains("run the same `halberd db restore` again"), "{reason}");
            }
            // Cut off before it had its schema.
            Err(Error::Schema { .. }) if !whole => {}
            Err(error) => panic!("{on:?}, {polls}: {error:?}"),
        }
        let again = into(&own, &file, &how).await;
        match again {
            Ok(_) => assert!(!whole),
            Err(BackupError::NotEmpty(_)) => {
                let db = own.open(Access::Shared).await.unwrap();
                assert_eq!(all_of(&db).await["hosts"].len() as u64, manifest.rows["hosts"]);
            }
            Err(error) => panic!("{on:?}, {polls}: {error}"),
        }
    }
    assert!(cut >= 1, "none was cut off: fewer polls");
}

/// The lock of a restore that was dropped goes when its connections have closed, which happens in the background.
async fn opened(own: &Own) -> Result<Db, Error> {
    for _ in 0..100 {
        match own.open(Access::Shared).await {
            Err(Error::Conflict { .. } | Error::Locked { .. }) => tokio::task::yield_now().await,
            done => return done,
        }
    }
    own.open(Access::Shared).await
}

async fn a_backup_of_an_older_schema_is_restored_and_then_migrated(on: On) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("old");
    std::fs::write(&file, older(2).await).unwrap();
    for occupied in [false, true] {
        let own =
            if occupied { kit_on(on).await.own } else { on.empty().await.expect("it was asked before") };
        let former = if occupied { Former::Remove } else { Former::Keep };
        let restored = into(&own, &file, &Restore { former, ..how() }).await.unwrap();
        assert_eq!(!restored.removed.is_empty(), occupied);
        let version = migrate::version(&own.url).await.unwrap();
        assert_eq!(version.found, version.ours);
        migrate::migrate(&own.url).await.expect("the migrator agrees with what was noted of its steps");
        let db = own.open(Access::Exclusive).await.unwrap();
        let rows = all_of(&db).await;
        assert_eq!((rows["segments"].len(), rows["hosts"].len()), (1, 0));
        assert!(rows["segments"][0].contains("of old"));
    }
}

/// A backup as a program with an older schema wrote it.
async fn older(step: i64) -> Vec<u8> {
    let mut lines = vec![json!({"halberd_backup": {
        "format": 1, "halberd": "0.0.1", "database": "postgres", "schema": step, "workflow": 1, "identity": null, "taken_at": 1
    }})];
    let mut counts = BTreeMap::new();
    for table in shape::at(step).await.unwrap() {
        lines.push(json!({"table": {"name": table.name, "columns": table.names()}}));
        let rows = u64::from(table.name == "segments");
        if rows == 1 {
            let cell = |column: &shape::Column| match (column.name.as_str(), column.text) {
                ("id", _) => json!(Uuid::from_u128(7).to_string()),
                ("recovery_method", _) => json!("auto"),
                (_, true) => json!("of old"),
                (_, false) => json!(0),
            };
            lines.push(table.columns.iter().map(cell).collect());
        }
        counts.insert(table.name, rows);
    }
    lines.push(json!({"rows": counts}));
    signed(&lines.iter().map(|line| line.to_string()).collect::<Vec<_>>())
}

/// Lines with their digest, as somebody may write them by hand.
fn signed(lines: &[String]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut text = lines.join("\n");
    text.push('\n');
    let digest = hex(&Sha256::digest(text.as_bytes()));
    text.push_str(&format!("{{\"sha256\":\"{digest}\"}}\n"));
    text.into_bytes()
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_said_by_name_and_nothing_is_written() {
    let dir = TempDir::new().unwrap();
    let file = small(dir.path()).await;
    let whole = std::fs::read(&file).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.pop();
    let bad = dir.path().join("bad");
    let changed = |from: &str, to: &str| signed(&[lines.join("\n").replacen(from, to, 1)]);
    let without = |start: &str| {
        signed(&lines.iter().filter(|line| !line.starts_with(start)).cloned().collect::<Vec<_>>())
    };
    let step = migrate::newest_of_ours(crate::dialect::Dialect::Sqlite);
    let mut flipped = whole.clone();
    let middle = text.find("\"rack-a\"").unwrap() + 2;
    flipped[middle] ^= 1;
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "no backup made by"),
        ("foreign text", b"CREATE TABLE hosts;\n".to_vec(), "no backup made by"),
        ("foreign JSON", b"{\"a\": 1}\n".to_vec(), "no backup made by"),
        ("SQLite's own file", b"SQLite format 3\0\x10\x00".to_vec(), "no backup made by"),
        ("cut in a line", whole[..whole.len() / 2].to_vec(), "ends too early"),
        ("cut at a line's end", lines.join("\n").into_bytes(), "ends too early"),
        ("cut in the digest", whole[..whole.len() - 1].to_vec(), "ends too early"),
        ("the first line only", [lines[0].as_bytes(), b"\n"].concat(), "ends too early"),
        ("a flipped bit", flipped, "is damaged: its digest is"),
        ("a wrong digest", text.replace("{\"sha256\":\"", "{\"sha256\":\"0").into_bytes(), "is damaged"),
        ("something behind it", [whole.as_slice(), b"[1]\n"].concat(), "ends too early"),
        (
            "a newer format",
            changed("\"format\":1", "\"format\":2"),
            "is of format 2 and this program reads up to 1",
        ),
        ("a newer schema", changed(&format!("\"schema\":{step}"), "\"schema\":99"), "schema is at step 99"),
        ("no schema", changed(&format!("\"schema\":{step}"), "\"schema\":0"), "schema is at step 0"),
        (
            "another step",
            changed(&format!("\"schema\":{step}"), "\"schema\":1"),
            "at that step of the schema",
        ),
        ("a newer workflow", changed("\"workflow\":", "\"workflow\":9"), "of workflow version 9"),
        ("a missing row", without("[1,"), "and should have"),
        ("missing counts", without("{\"rows\""), "counts of rows are missing"),
        ("a missing table", without("{\"table\":{\"name\":\"wishes\""), "table wishes is missing"),
        (
            "a foreign table",
            changed("{\"name\":\"wishes\"", "{\"name\":\"pg_user\""),
            "there is no table pg_user",
        ),
        ("a foreign column", changed("\"recovery_method\"", "\"x; DROP TABLE hosts\""), "has other columns"),
        ("a number for a text", changed("\"rack-a\"", "7"), "no row of table segments"),
        ("a fraction", changed("\"rack-a\"", "0.5"), "line"),
        ("a null for an id", changed("\"rack-a\"", "null"), "no row of table segments"),
        (
            "a short key",
            changed("{\"secrets_key\":\"", "{\"high_water\":\"00\"}\n{\"secrets_key\":\"00"),
            "no file",
        ),
        ("no line", changed("{\"rows\"", "rows\n{\"rows\""), "line"),
    ];
    for (case, bytes, says) in cases {
        std::fs::write(&bad, &bytes).unwrap();
        let own = On::Sqlite.empty().await.unwrap();
        let error = into(&own, &bad, &how()).await.expect_err(case).to_string();
        assert!(error.contains(says), "{case}: {error}");
        assert!(!own.dir().join("halberd.db").exists(), "{case}: it was not even made");
    }
    let missing = open(&dir.path().join("nowhere")).await.unwrap_err();
    assert!(missing.to_string().contains("nowhere: No such file"), "{missing}");
    // Any byte at all.
    for at in (0..whole.len()).step_by(whole.len() / 97 + 1) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        std::fs::write(&bad, &flipped).unwrap();
        open(&bad).await.expect_err("a flipped bit is noticed wherever it is");
    }
    open(&file).await.expect("and the file itself is well");
}

#[tokio::test]
async fn a_key_that_opens_nothing_is_not_put_into_a_backup_and_none_is_when_not_asked() {
    let kit = kit_on(On::Sqlite).await;
    let (right, wrong) = (kit.own.dir().join("right"), kit.own.dir().join("wrong"));
    let (sealer, _) = Sealer::from_file_or_new(&right).unwrap();
    Sealer::from_file_or_new(&wrong).unwrap();
    crate::write(&kit.db, async |tx| sealer.check(tx, NOW).await).await.unwrap();
    let to = kit.own.dir().join("b");
    let with = |path: &PathBuf| Files { secrets_key: Some(path.clone()), high_water: None };
    let refused = write(&kit.db, &to, &with(&wrong), false, NOW).await.unwrap_err();
    assert!(matches!(refused, BackupError::WrongKey { .. }), "{refused}");
    assert!(
        !to.exists()
            && std::fs::read_dir(kit.own.dir())
                .unwrap()
                .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains(".part-") })
    );
    let with_key = write(&kit.db, &to, &with(&right), false, NOW).await.unwrap();
    let hexed = hex(&std::fs::read(&right).unwrap());
    assert!(with_key.with_key && std::fs::read_to_string(&to).unwrap().contains(&hexed));
    let without = write(&kit.db, &to, &Files::default(), true, NOW).await.unwrap();
    assert!(!without.with_key && !std::fs::read_to_string(&to).unwrap().contains(&hexed));
    assert!(!format!("{:?}", open(&to).await.unwrap()).contains(&hexed));
}

#[tokio::test]
async fn a_disk_that_is_full_while_a_backup_is_written_leaves_no_file() {
    let Some(tiny) = Tiny::new(64) else { return };
    let (_own, db) = full(On::Sqlite).await;
    let to = tiny.dir.path().join("backup");
    let error = write(&db, &to, &Files::default(), false, NOW).await.unwrap_err();
    assert!(
        matches!(&error, BackupError::Unwritten { .. }) && error.to_string().contains("No space"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(tiny.dir.path()).unwrap().count(), 0, "nor a part of one");
}

#[tokio::test]
async fn a_disk_that_is_full_while_a_backup_is_restored_leaves_an_empty_database() {
    let Some(tiny) = Tiny::new(700) else { return };
    let (source, db) = full(On::Sqlite).await;
    let file = source.dir().join("backup");
    write(&db, &file, &Files::default(), false, NOW).await.unwrap();
    let url = format!("sqlite:{}", tiny.dir.path().join("halberd.db").display());
    let error = restore(&url, &mut open(&file).await.unwrap(), &how(), NOW).await.unwrap_err();
    assert!(crate::tests::bad::is_full(&error), "{error:?}");
    let db = Db::open_with(&url, relaxed(Access::Exclusive)).await.unwrap();
    assert_eq!(all_of(&db).await.values().map(Vec::len).sum::<usize>(), BORN);
}

/// Engines write while it is taken: what is in it is of one moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_writers_is_of_one_moment() {
    for on in EVERY {
        if on != On::Sqlite && on.server().is_none() {
            continue;
        }
        let kit = kit_on(on).await;
        let beside = kit.beside().await;
        let writing = tokio::spawn(async move {
            // Two rows that are always equal.
            for n in 0.. {
                let value = n.to_string();
                let both = crate::write(&beside, async |tx| {
                    settings::set(tx, "a", &value, NOW).await?;
                    audit::append(tx, "a", 0, &[Entry::new("seen", &value, json!({}))], NOW).await
                });
                if both.await.is_err() {
                    return;
                }
            }
        });
        for n in 0..5 {
            while settings::get(&kit.db, "a").await.unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            let file = kit.own.dir().join(format!("backup-{n}"));
            write(&kit.db, &file, &Files::default(), false, NOW).await.unwrap();
            let other = On::Sqlite.empty().await.unwrap();
            into(&other, &file, &how()).await.unwrap();
            let db = other.open(Access::Exclusive).await.unwrap();
            let (value, _) = settings::get(&db, "a").await.unwrap().unwrap();
            let newest = audit::of_chain(&db, "a").await.unwrap().pop().unwrap();
            assert_eq!(newest.0.entry.text, value, "{on:?}");
            assert_eq!(audit::verify(&db).await.unwrap(), []);
        }
        writing.abort();
    }
}

//! Bad databases: what is wrong is said by name with its way out, the rest keeps working, and nothing acknowledged is lost.
//!
//! | case | databases | test |
//! | --- | --- | --- |
//! | garbage in one row, a word of a newer version | all | here: `one_bad_row_hides_no_other_and_is_named` |
//! | more bad reports than are taken up at a time | all | here: `bad_reports_take_no_room_from_good_ones` |
//! | a bad move or intent: that recovery alone stops | all | here: `what_belongs_together_is_read_whole_or_not_at_all` |
//! | an event of a newer version: webhooks go on | all | here: `an_event_that_cannot_be_read_holds_up_no_other` |
//! | a row edited by hand, named by table, row and column | all | `durability` |
//! | a character that a server does not store | all | here: `a_text_that_cannot_be_stored_is_the_callers_fault` |
//! | file cut off, no database at all, a folder | SQLite | here: `a_file_that_is_no_whole_database_is_named_and_left_as_it_is` |
//! | read-only file system | SQLite | here: `a_read_only_file_is_named_and_can_still_be_read` |
//! | full disk (F51) | SQLite | here: `a_full_disk_stops_writes_alone_and_ends_with_the_cause`, `durability` |
//! | a file in use, a missing folder, URLs | SQLite, all | `open` |
//! | newer schema | all | here: `another_versions_schema_is_refused_with_its_way_out`, `open` |
//! | older or no schema | PostgreSQL, MariaDB | here: `another_versions_schema_is_refused_with_its_way_out` |
//! | wrong password, no such database, nobody listens, no right, no connection left | PostgreSQL, MariaDB | `servers` |
//! | a standby | PostgreSQL | here: `a_standby_is_not_taken_for_the_primary` |
//! | a read-only replica, `default_transaction_read_only` | MariaDB, PostgreSQL | `servers` |
//! | not in the primary component | Galera | `servers` |
//! | another program's port, the other server's port | PostgreSQL, MariaDB | here: `whatever_else_answers_there_is_said_to_be_no_such_server` |
//! | several hosts in one URL | PostgreSQL, MariaDB | here: `a_url_names_one_host` |
//! | TLS: authority, name, none | PostgreSQL, MariaDB | `tls` |
//! | half restored | MariaDB | `backup::tests` |

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::*;
use crate::backup::BackupError;
use crate::db::Options;
use crate::legible::unreadable;
use crate::testing::{Kind, Server, relaxed};
use crate::value::args;
use crate::{
    Error, agent_keys, commit, deliveries, events, hosts, intents, notifications, recoveries, segments,
    settings, vmoves, wishes,
};

everywhere!(
    one_bad_row_hides_no_other_and_is_named,
    bad_reports_take_no_room_from_good_ones,
    what_belongs_together_is_read_whole_or_not_at_all,
    an_event_that_cannot_be_read_holds_up_no_other,
    a_text_that_cannot_be_stored_is_the_callers_fault,
    another_versions_schema_is_refused_with_its_way_out,
);

/// Whether it says that the disk is full.
pub(crate) fn is_full(error: &BackupError) -> bool {
    let source = match error {
        BackupError::Store(source) => source,
        BackupError::Row { source, .. } => source,
        _ => return false,
    };
    says_full(source)
}

fn says_full(error: &Error) -> bool {
    matches!(error, Error::Unavailable { reason, .. } if reason.contains("full"))
}

async fn one_bad_row_hides_no_other_and_is_named(on: On) {
    let bad_rows = [
        ("hosts", "UPDATE hosts SET retired_boots = '[1' WHERE name = 'cmp-02'"),
        ("hosts", "UPDATE hosts SET admission = 'quarantined' WHERE name = 'cmp-02'"),
        ("segments", "UPDATE segments SET recovery_method = 'by_magic' WHERE name = 'rack-b'"),
        ("recoveries", "UPDATE recoveries SET body = '{' WHERE host_name = 'bad'"),
        ("recoveries", "UPDATE recoveries SET state = 'levitating' WHERE host_name = 'bad'"),
        ("notifications", "UPDATE notifications SET payload = 'x' WHERE message = 'bad'"),
        ("notifications", "UPDATE notifications SET kind = 'RACK' WHERE message = 'bad'"),
        ("wishes", "UPDATE wishes SET body = '{]' WHERE actor = 'bad'"),
        ("fence_devices", "UPDATE fence_devices SET masked = 'nothing'"),
    ];
    let kit = kit_on(on).await;
    let other = kit.add_host("cmp-02").await;
    kit.open().await;
    kit.try_open(&kit.db, other).await.unwrap();
    let host = other.to_string();
    kit.tamper("UPDATE recoveries SET host_name = 'bad' WHERE host = ?", args![&host]).await;
    let second = new_segment("rack-b");
    let (good, bad) = (guest_down(kit.segment, kit.host, "a"), guest_down(kit.segment, kit.host, "b"));
    let wish = |actor: &str| wishes::NewWish {
        id: Uuid::new_v4().into(),
        kind: "fence".into(),
        subject: format!("host:{}", kit.host),
        actor: actor.into(),
        reason: "r".into(),
        body: json!({}),
    };
    let (one, two) = (wish("good"), wish("bad"));
    let sealer = crate::Sealer::new(&[7; 32]);
    write(&kit.db, async |tx| {
        segments::create(tx, &second, NOW).await?;
        notifications::insert(tx, &good, None, NOW).await?;
        notifications::insert(tx, &bad, None, NOW).await?;
        wishes::insert(tx, &one, NOW).await?;
        wishes::insert(tx, &two, NOW).await?;
        crate::fence_devices::set(tx, &sealer, kit.host, &json!({}), &json!({}), NOW).await?;
        agent_keys::set(tx, &sealer, kit.host, &[1; 32], NOW).await?;
        agent_keys::set(tx, &sealer, other, &[2; 32], NOW).await
    })
    .await
    .unwrap();
    kit.tamper("UPDATE notifications SET message = 'bad' WHERE id = ?", args![bad.id]).await;
    let seen = async || {
        let db = &kit.db;
        let all = hosts::HostFilter::default();
        [
            ("hosts", hosts::all_living(db).await.unwrap().len()),
            ("hosts", hosts::list(db, &all, &Default::default()).await.unwrap().len()),
            ("segments", segments::list(db, &Default::default(), &Default::default()).await.unwrap().len()),
            (
                "recoveries",
                recoveries::list(db, &Default::default(), &Default::default()).await.unwrap().len(),
            ),
            ("notifications", notifications::list_new(db, 10).await.unwrap().len()),
            ("wishes", wishes::poll(db, 10).await.unwrap().len()),
            ("wishes", wishes::list(db, 10).await.unwrap().len()),
            ("fence_devices", crate::fence_devices::list(db).await.unwrap().len()),
        ]
    };
    assert_eq!(unreadable(&kit.db).await.unwrap(), []);
    let before = seen().await;
    for (table, damage) in bad_rows {
        let copy = kit.raw(select_all(table)).await;
        let whole: Vec<_> = copy.iter().map(|row| format!("{:?}", row.values)).collect();
        let mut tx = crate::Tx::begin(&kit.db).await.unwrap();
        assert_eq!(tx.exec(damage, vec![]).await.unwrap(), 1, "{damage}");
        tx.commit().await.unwrap();
        let damaged: Vec<_> =
            kit.raw(select_all(table)).await.iter().map(|row| format!("{:?}", row.values)).collect();
        for ((name, was), (_, is)) in before.iter().zip(seen().await) {
            assert_eq!(is, was - usize::from(*name == table), "{damage}: {name}");
        }
        assert_eq!(recoveries::holders(&kit.db).await.unwrap().len(), 2, "{damage}: what engines poll");
        let found = unreadable(&kit.db).await.unwrap();
        assert!(found.len() == 1 && found[0].table == table, "{damage}: {found:?}");
        assert!(found[0].why.contains(&found[0].row) && found[0].why.contains("row"), "{found:?}");
        let after: Vec<_> =
            kit.raw(select_all(table)).await.iter().map(|row| format!("{:?}", row.values)).collect();
        assert_eq!(after, damaged, "it is left as it is");
        // Mended by hand.
        for row in &copy {
            let id = if table == "fence_devices" { "host" } else { "id" };
            let columns: Vec<&String> =
                row.columns.iter().filter(|column| *column != "num" && *column != id).collect();
            let set: Vec<String> = columns.iter().map(|column| format!("{column} = ?")).collect();
            let value = |column: &str| {
                let place = row.columns.iter().position(|name| name == column).unwrap();
                row.values[place].clone()
            };
            let mut values: Vec<Arg> = columns.iter().map(|column| value(column)).collect();
            values.push(value(id));
            let sql = format!("UPDATE {table} SET {} WHERE {id} = ?", set.join(", "));
            write(&kit.db, async |tx| tx.exec(AssertSqlSafe(sql.clone()), values.clone()).await)
                .await
                .unwrap();
        }
        let mended: Vec<_> =
            kit.raw(select_all(table)).await.iter().map(|row| format!("{:?}", row.values)).collect();
        assert_eq!(mended, whole);
        assert_eq!(seen().await, before, "{damage}: seen again when mended");
    }
    // A key that does not open is one host's matter.
    kit.tamper("UPDATE agent_keys SET sealed = 'ff' WHERE host = ?", args![&host]).await;
    let keys = agent_keys::all_keys(&kit.db, &sealer).await.unwrap();
    assert!(keys.len() == 1 && keys[0].0 == kit.host);
}

fn select_all(table: &str) -> &'static str {
    match table {
        "hosts" => "SELECT * FROM hosts ORDER BY num",
        "segments" => "SELECT * FROM segments ORDER BY num",
        "recoveries" => "SELECT * FROM recoveries ORDER BY num",
        "notifications" => "SELECT * FROM notifications ORDER BY num",
        "wishes" => "SELECT * FROM wishes ORDER BY num",
        _ => "SELECT * FROM fence_devices ORDER BY host",
    }
}

async fn bad_reports_take_no_room_from_good_ones(on: On) {
    let kit = kit_on(on).await;
    let reports: Vec<_> = (0..7).map(|n| guest_down(kit.segment, kit.host, &n.to_string())).collect();
    for report in &reports {
        write(&kit.db, async |tx| notifications::insert(tx, report, None, NOW).await).await.unwrap();
    }
    for report in &reports[..5] {
        kit.tamper("UPDATE notifications SET payload = '' WHERE id = ?", args![report.id]).await;
    }
    let ids = async |limit| -> Vec<_> {
        notifications::list_new(&kit.db, limit).await.unwrap().iter().map(|report| report.id).collect()
    };
    assert_eq!(ids(2).await, [reports[5].id, reports[6].id]);
    assert_eq!(ids(1).await, [reports[5].id]);
    assert_eq!(ids(100).await.len(), 2);
    assert_eq!(unreadable(&kit.db).await.unwrap().len(), 5);
}

async fn what_belongs_together_is_read_whole_or_not_at_all(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let mut draft = commit_of(&recovery);
    draft.vmoves = vec![vmove(&recovery, 1), vmove(&recovery, 2)];
    draft.intents =
        vec![intent(&recovery, Some("guest:1".into())), intent(&recovery, Some("guest:2".into()))];
    commit::apply(&kit.db, &draft, &[], NOW).await.unwrap();
    kit.tamper("UPDATE intents SET detail = '{' WHERE open_key = 'guest:2'", vec![]).await;
    let missing = intents::open_of_recovery(&kit.db, recovery.id).await;
    assert!(matches!(missing, Err(Error::Corrupt { table: "intents", .. })), "{missing:?}");
    kit.tamper("UPDATE intents SET detail = '{}' WHERE open_key = 'guest:2'", vec![]).await;
    kit.tamper("UPDATE vmoves SET status = 'teleported' WHERE instance_name = 'guest-2'", vec![]).await;
    let missing = vmoves::of_recovery(&kit.db, recovery.id).await;
    assert!(matches!(missing, Err(Error::UnknownWord { table: "vmoves", .. })), "{missing:?}");
    let found = unreadable(&kit.db).await.unwrap();
    assert!(found.len() == 1 && found[0].table == "vmoves", "{found:?}");
    // Another one is opened and held as ever.
    let host = kit.add_host("cmp-02").await;
    let opened = kit.try_open(&kit.db, host).await.unwrap();
    assert!(matches!(opened, Opened::New(_)));
    assert_eq!(recoveries::holders(&kit.db).await.unwrap().len(), 2);
}

async fn an_event_that_cannot_be_read_holds_up_no_other(on: On) {
    let kit = kit_on(on).await;
    let told = [event(None), event(None), event(None)];
    write(&kit.db, async |tx| events::publish(tx, &told, 0, &hooks(), NOW).await).await.unwrap();
    kit.tamper("UPDATE events SET kind = 'host_teleported' WHERE id = ?", args![told[0].id]).await;
    kit.tamper("UPDATE events SET data = '[' WHERE id = ?", args![told[1].id]).await;
    let read = events::since(&kit.db, 0, 1).await.unwrap();
    assert_eq!(read[0].event.id, told[2].id, "a reader of one at a time comes past them");
    let hold = Duration::from_secs(10);
    let due = write(&kit.db, async |tx| deliveries::claim(tx, "chat", 10, hold, NOW).await).await.unwrap();
    let due: Vec<_> = due.iter().map(|claimed| claimed.event().id).collect();
    assert_eq!(due, [told[2].id]);
    // What was left is due again for whoever can read it.
    kit.tamper("UPDATE events SET kind = 'recovery.opened' WHERE id = ?", args![told[0].id]).await;
    let again = later(11);
    let due = write(&kit.db, async |tx| deliveries::claim(tx, "chat", 10, hold, again).await).await.unwrap();
    assert!(due.iter().any(|claimed| claimed.event().id == told[0].id));
}

async fn a_text_that_cannot_be_stored_is_the_callers_fault(on: On) {
    let kit = kit_on(on).await;
    let segment = new_segment("a\0b");
    let stored = write(&kit.db, async |tx| segments::create(tx, &segment, NOW).await).await;
    match on {
        On::Postgres => assert!(matches!(stored, Err(Error::Value(_))), "{stored:?}"),
        // They store it; the API takes it on none of them, so that the three agree.
        _ => assert_eq!(stored.unwrap().name, "a\0b"),
    }
    if on == On::Mariadb {
        let long = "x".repeat(300);
        let refused = write(&kit.db, async |tx| settings::set(tx, &long, "", NOW).await).await;
        assert!(matches!(&refused, Err(Error::Value(_))), "{refused:?}");
        assert!(!refused.unwrap_err().is_unavailable(), "the database is well");
    }
    kit.db.ping().await.unwrap();
}

async fn another_versions_schema_is_refused_with_its_way_out(on: On) {
    let kit = kit_on(on).await;
    let own = kit.own;
    let blob = if on == On::Postgres { "'\\x00'" } else { "x'00'" };
    let sql = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'newer', TRUE, {blob}, 0)"
    );
    write(&kit.db, async |tx| tx.exec(AssertSqlSafe(sql.clone()), vec![]).await).await.unwrap();
    let says = "UPDATE settings SET value = '99' WHERE name = 'schema_serves_from'";
    write(&kit.db, async |tx| tx.exec(says, vec![]).await).await.unwrap();
    kit.db.close().await;
    drop(kit.db);
    let newer = own.open(Access::Exclusive).await.unwrap_err();
    assert!(matches!(newer, Error::Schema { found: 99, .. }), "{newer:?}");
    assert!(newer.to_string().contains("run that version, or restore the backup"), "{newer}");
    if on != On::Sqlite {
        let empty = on.empty().await.unwrap().open(Access::Shared).await.unwrap_err();
        assert!(matches!(empty, Error::Schema { found: 0, .. }), "{empty:?}");
        assert!(empty.to_string().contains("run `halberd db migrate`"), "{empty}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_whole_database_is_named_and_left_as_it_is() {
    let kit = kit().await;
    for n in 0..200 {
        kit.add_host(&format!("more-{n}")).await;
    }
    kit.db.close().await;
    let path = kit.own.dir().join("halberd.db");
    let whole = std::fs::read(&path).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("halberd.db");
    let mut scrambled = whole.clone();
    scrambled[4096..4096 * 20].fill(0xa5);
    for (case, bytes) in [
        ("cut in half", &whole[..whole.len() / 2]),
        ("cut within its first page", &whole[..700]),
        (
            "another file",
            &b"#!/bin/sh\necho this is no database at all, but long enough to look like one\n".repeat(90)[..],
        ),
        ("pages overwritten", &scrambled[..]),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = match Db::open(&url(dir.path()), Access::Exclusive).await {
            Err(error) => error,
            // What is missing may be met later only, by whoever reads it.
            Ok(db) => {
                let met = hosts::all_living(&db).await;
                db.close().await;
                met.expect_err(case)
            }
        };
        assert!(error.is_unavailable(), "{case}: {error:?}");
        assert!(error.to_string().contains("damaged"), "{case}: {error}");
        if case == "another file" {
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{case}: left as it is");
        }
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("halberd.db{end}")));
        }
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let folder = Db::open(&url(dir.path()), Access::Exclusive).await.unwrap_err();
    assert!(folder.to_string().contains("cannot be opened"), "{folder}");
}

#[tokio::test]
async fn a_read_only_file_is_named_and_can_still_be_read() {
    let Some(tiny) = Tiny::new(4_000) else { return };
    let db = Db::open(&url(tiny.dir.path()), Access::Exclusive).await.unwrap();
    write(&db, async |tx| segments::create(tx, &new_segment("rack-a"), NOW).await).await.unwrap();
    db.close().await;
    drop(db);
    tiny.remount("ro");
    let error = Db::open(&url(tiny.dir.path()), Access::Exclusive).await.unwrap_err();
    let text = format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(text.contains("lock file") && text.to_lowercase().contains("read-only"), "{text}");
    tiny.remount("rw");
    // The same while it is open: nothing is acknowledged, reads go on.
    let db = Db::open(&url(tiny.dir.path()), Access::Exclusive).await.unwrap();
    db.ping().await.unwrap();
    let mut held = db.snapshot().await.unwrap();
    assert_eq!(segments::list(&mut held, &Default::default(), &Default::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_stops_writes_alone_and_ends_with_the_cause() {
    let Some(tiny) = Tiny::new(1_500) else { return };
    let db = Db::open(&url(tiny.dir.path()), Access::Exclusive).await.unwrap();
    let segment = new_segment("rack-a");
    let host = new_host(segment.id, "cmp-01");
    write(&db, async |tx| {
        segments::create(tx, &segment, NOW).await?;
        hosts::create(tx, &host, NOW).await
    })
    .await
    .unwrap();
    // Somebody else's file takes the rest.
    let ballast = tiny.dir.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let window = Duration::from_secs(180);
    let mut accepted = Vec::new();
    let error = loop {
        assert!(accepted.len() < 5_000, "it never filled up");
        let report = guest_down(segment.id, host.id, &Uuid::new_v4().to_string());
        match write(&db, async |tx| notifications::receive(tx, &report, window, NOW).await).await {
            Ok(_) => accepted.push(report.id),
            Err(error) => break error,
        }
    };
    assert!(error.is_unavailable() && says_full(&error), "{error:?}");
    // It stays so, and what was acknowledged can be read: an engine keeps watching.
    assert!(write(&db, async |tx| settings::set(tx, "x", &"y".repeat(50_000), NOW).await).await.is_err());
    assert_eq!(hosts::all_living(&db).await.unwrap().len(), 1);
    for id in &accepted {
        notifications::get(&db, *id).await.expect("acknowledged");
    }
    std::fs::remove_file(&ballast).unwrap();
    write(&db, async |tx| settings::set(tx, "x", &"y".repeat(50_000), NOW).await)
        .await
        .expect("it goes on by itself when there is room");
    assert_eq!(crate::audit::verify(&db).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_not_taken_for_the_primary() {
    let Some(server) = Server::new(Kind::Postgres, &[]) else { return };
    let url = server.create().await;
    crate::migrate::migrate(&url).await.unwrap();
    let options = Options { acquire: Duration::from_secs(1), ..relaxed(Access::Exclusive) };
    let db = Db::open_with(&url, options).await.unwrap();
    write(&db, async |tx| settings::set(tx, "x", "1", NOW).await).await.unwrap();
    // The same address leads to a standby from now on, as after a failover.
    server.kill();
    std::fs::write(server.folder().join("data/standby.signal"), "").unwrap();
    server.start();
    let error = Db::open_with(&url, relaxed(Access::Shared)).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("not the primary"), "{error:?}");
    for _ in 0..3 {
        let refused = write(&db, async |tx| settings::set(tx, "x", "2", NOW).await).await.unwrap_err();
        assert!(refused.is_unavailable(), "{refused:?}");
        assert!(settings::get(&db, "x").await.is_err(), "nor is it read: it may be behind");
    }
    let refused = db.ping().await.unwrap_err();
    assert!(refused.to_string().contains("not the primary"), "{refused:?}");
    server.kill();
    std::fs::remove_file(server.folder().join("data/standby.signal")).unwrap();
    server.start();
    let mut tries = 0;
    while let Err(error) = write(&db, async |tx| settings::set(tx, "x", "2", NOW).await).await {
        assert!(error.is_unavailable() && tries < 20, "{error:?}");
        tries += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_else_answers_there_is_said_to_be_no_such_server() {
    // Something that answers with a line of its own, as web servers and mail servers do.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
                let _ = stream.read(&mut [0; 512]).await;
            });
        }
    });
    let mut urls = vec![
        format!("postgres://u:canary@127.0.0.1:{port}/halberd"),
        format!("mysql://u:canary@127.0.0.1:{port}/halberd"),
    ];
    if let (Some(postgres), Some(mariadb)) = (On::Postgres.server(), On::Mariadb.server()) {
        urls.push(format!("postgres://u:canary@127.0.0.1:{}/halberd", mariadb.port));
        urls.push(format!("mysql://u:canary@127.0.0.1:{}/halberd", postgres.port));
    }
    for url in urls {
        let options = Options { acquire: Duration::from_secs(2), ..relaxed(Access::Shared) };
        let error = Db::open_with(&url, options).await.unwrap_err();
        let text = error.to_string();
        assert!(error.is_unavailable() && matches!(error, Error::Unavailable { .. }), "{url}: {error:?}");
        let named = ["does not speak as such a server", "does not answer", "the connection failed"];
        assert!(named.iter().any(|named| text.contains(named)), "{url}: {error:?}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn a_url_names_one_host() {
    for url in [
        "postgres://u:canary@db-1,db-2/halberd",
        "mysql://u:canary@db-1:3306,db-2:3306/halberd",
        "mariadb://db-1,db-2/halberd?ssl-mode=REQUIRED",
    ] {
        let error = Db::open(url, Access::Shared).await.unwrap_err();
        assert!(
            matches!(&error, Error::Url { .. }) && error.to_string().contains("several hosts"),
            "{error}"
        );
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

/// A filesystem of so many KiB, where we may make one.
pub(crate) struct Tiny {
    pub dir: TempDir,
}

impl Tiny {
    pub(crate) fn new(kib: usize) -> Option<Tiny> {
        let dir = TempDir::new().unwrap();
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Tiny { dir });
        }
        eprintln!("SKIPPED: no tmpfs of its own can be mounted here; only root may");
        None
    }

    fn remount(&self, how: &str) {
        let how = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &how]).arg(self.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

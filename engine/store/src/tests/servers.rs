//! What only the servers can do to us: refuse, forget, stand by, be killed in a commit, and let two work at once.

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

use super::*;
use crate::db::Options;
use crate::notifications;
use crate::testing::{Kind, PASSWORD, Server, USER, galera, relaxed};
use crate::{Error, Tx, commit, recoveries, settings};

everywhere!(
    a_write_that_changes_nothing_matches_its_row,
    a_transaction_with_a_failed_statement_commits_nothing,
    a_report_never_joins_a_recovery_that_closes,
);

const SERVERS: [On; 2] = [On::Postgres, On::Mariadb];

async fn by_hand(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("postgres") {
        sqlx::raw_sql(sql).execute(&mut PgConnection::connect(url).await.unwrap()).await.unwrap();
    } else {
        sqlx::raw_sql(sql).execute(&mut MySqlConnection::connect(url).await.unwrap()).await.unwrap();
    }
}

async fn a_write_that_changes_nothing_matches_its_row(on: On) {
    let kit = kit_on(on).await;
    let again = write(&kit.db, async |tx| tx.exec("UPDATE hosts SET version = version", vec![]).await);
    assert_eq!(again.await.unwrap(), 1, "matched, though nothing changed");
    let none =
        write(&kit.db, async |tx| tx.exec("UPDATE hosts SET version = 1 WHERE version = 2", vec![]).await);
    assert_eq!(none.await.unwrap(), 0);
}

async fn a_transaction_with_a_failed_statement_commits_nothing(on: On) {
    let kit = kit_on(on).await;
    let mut tx = Tx::begin(&kit.db).await.unwrap();
    settings::set(&mut tx, "before", "1", NOW).await.unwrap();
    let refused = crate::segments::create(&mut tx, &new_segment("rack-a"), NOW).await;
    assert!(matches!(refused, Err(Error::Exists { .. })), "{refused:?}");
    let _ = settings::set(&mut tx, "after", "1", NOW).await;
    let committed = tx.commit().await;
    if on == On::Sqlite {
        // Only the statement was taken back.
        committed.unwrap();
    } else {
        assert!(committed.is_err(), "PostgreSQL would have said yes and rolled back");
        assert_eq!(settings::get(&kit.db, "before").await.unwrap(), None);
        assert_eq!(settings::get(&kit.db, "after").await.unwrap(), None);
    }
    kit.db.ping().await.expect("and the connection is of use again");
}

/// I27: whichever of the two comes first, the report ends.
async fn a_report_never_joins_a_recovery_that_closes(on: On) {
    for join_first in [true, false] {
        let kit = kit_on(on).await;
        let recovery = kit.claimed().await;
        let report = guest_down(kit.segment, kit.host, "g");
        write(&kit.db, async |tx| notifications::insert(tx, &report, None, NOW).await).await.unwrap();
        let mut close = commit_of(&recovery);
        close.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
        close.notification = Some((NotificationStatus::Finished, None));
        let joining = Recovery { notification: report.id, ..new_recovery(&report) };
        let opening = Opening { recovery: &joining, report: None, audit: &[], events: &[], webhooks: &[] };
        let beside = kit.beside().await;
        let mut tx = Tx::begin(&kit.db).await.unwrap();
        if join_first {
            let opened = recoveries::open(&mut tx, &opening, NOW).await.unwrap();
            assert_eq!(opened, Opened::AlreadyOpen(recovery.id));
            // The close begins before the join has committed.
            let closing = tokio::spawn(async move { commit::apply(&beside, &close, &[], NOW).await });
            tokio::task::yield_now().await;
            tx.commit().await.unwrap();
            closing.await.unwrap().unwrap();
            let status = notifications::get(&kit.db, report.id).await.unwrap().status;
            assert_eq!(status, NotificationStatus::Finished);
        } else {
            if on == On::Sqlite {
                continue;
            }
            // Its reads see the recovery open; then it closes.
            recoveries::get(&mut tx, recovery.id).await.unwrap();
            commit::apply(&beside, &close, &[], NOW).await.unwrap();
            let late = recoveries::open(&mut tx, &opening, NOW).await;
            assert!(matches!(&late, Err(error) if error.is_conflict()), "{late:?}");
            drop(tx);
            let again = write(&kit.db, async |tx| recoveries::open(tx, &opening, NOW).await).await.unwrap();
            assert!(matches!(again, Opened::New(_)), "{again:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changed_meanwhile_is_not_overwritten() {
    for on in SERVERS {
        if on.server().is_none() {
            continue;
        }
        let kit = kit_on(on).await;
        write(&kit.db, async |tx| settings::set(tx, "x", "0", NOW).await).await.unwrap();
        let (mut one, mut two) = (Tx::begin(&kit.db).await.unwrap(), Tx::begin(&kit.db).await.unwrap());
        settings::get(&mut one, "x").await.unwrap();
        settings::get(&mut two, "x").await.unwrap();
        settings::set(&mut one, "x", "1", NOW).await.unwrap();
        one.commit().await.unwrap();
        assert_eq!(
            settings::get(&mut two, "x").await.unwrap(),
            Some(("0".into(), 1)),
            "one moment for all its reads"
        );
        let lost = settings::set(&mut two, "x", "2", NOW).await;
        assert!(matches!(&lost, Err(error) if error.is_conflict()), "{on:?}: {lost:?}");
    }
}

/// I32: the next version's migration adds columns while this one runs, with its statements prepared on every connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_added_meanwhile_disturbs_nobody() {
    for on in SERVERS {
        if on.server().is_none() {
            continue;
        }
        let kit = kit_on(on).await;
        write(&kit.db, async |tx| settings::set(tx, "x", "0", NOW).await).await.unwrap();
        // Several connections know the statement.
        let mut known = Vec::new();
        for _ in 0..4 {
            let mut tx = Tx::begin(&kit.db).await.unwrap();
            settings::get(&mut tx, "x").await.unwrap();
            known.push(tx);
        }
        for tx in known {
            tx.commit().await.unwrap();
        }
        by_hand(&kit.own.url, "ALTER TABLE settings ADD COLUMN of_a_later_version BIGINT").await;
        for _ in 0..6 {
            let read = settings::get(&kit.db, "x").await.unwrap_or_else(|error| panic!("{on:?}: {error:?}"));
            assert_eq!(read.unwrap().0, "0");
        }
        by_hand(&kit.own.url, "ALTER TABLE settings ADD COLUMN of_one_later_still BIGINT").await;
        let written = write(&kit.db, async |tx| {
            settings::get(&mut *tx, "x").await?;
            settings::set(tx, "x", "1", NOW).await
        });
        written.await.unwrap_or_else(|error| panic!("{on:?}: {error:?}"));
        assert_eq!(settings::get(&kit.db, "x").await.unwrap().unwrap().0, "1");
    }
}

/// A process that froze between two statements, or whose machine is gone, holds no row that others need to take over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stands_still_lets_go_of_its_rows() {
    for on in SERVERS {
        if on.server().is_none() {
            continue;
        }
        let kit = kit_on(on).await;
        write(&kit.db, async |tx| settings::set(tx, "x", "0", NOW).await).await.unwrap();
        let mut frozen = Tx::begin(&kit.db).await.unwrap();
        settings::set(&mut frozen, "x", "1", NOW).await.unwrap();
        let other = kit.beside().await;
        write(&other, async |tx| settings::set(tx, "x", "2", NOW).await)
            .await
            .expect("the row is free again");
        assert!(frozen.commit().await.is_err(), "{on:?}: what it had written is gone");
        assert_eq!(settings::get(&kit.db, "x").await.unwrap().unwrap().0, "2");
        kit.db.ping().await.expect("and it may begin anew");
    }
}

/// The refusal of a URL.
async fn refusal(url: &str) -> String {
    let error = Db::open_with(url, relaxed(Access::Shared)).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(!text.contains(PASSWORD), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_names_its_cause_and_its_cure() {
    for on in SERVERS {
        let Some(own) = on.own().await else { continue };
        let wrong = own.url.replace(PASSWORD, "wrong");
        assert!(refusal(&wrong).await.contains("user or password"), "{on:?}");
        let server = on.server().expect("it runs");
        assert!(refusal(&server.url("nowhere")).await.contains("does not exist"), "{on:?}");
        let closed = own.url.replace(&format!(":{}/", server.port), ":1/");
        assert!(refusal(&closed).await.contains("nobody listens"), "{on:?}");
        let database = own.url.rsplit('/').next().unwrap();
        let small = format!("small_{database}");
        let (limit, weak) = match on {
            On::Postgres => (
                format!("CREATE ROLE {small} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0"),
                format!("CREATE ROLE weak_{database} LOGIN PASSWORD '{PASSWORD}'"),
            ),
            _ => (
                format!(
                    "CREATE USER {small}@'%' IDENTIFIED BY '{PASSWORD}' WITH MAX_USER_CONNECTIONS 1; GRANT ALL ON {database}.* TO {small}@'%'"
                ),
                format!("CREATE USER weak_{database}@'%' IDENTIFIED BY '{PASSWORD}'"),
            ),
        };
        by_hand(&own.url, &limit).await;
        by_hand(&own.url, &weak).await;
        let small = own.url.replace(USER, &small);
        let _held = (on == On::Mariadb).then(|| MySqlConnection::connect(&small));
        let _held = match _held {
            Some(connecting) => Some(connecting.await.unwrap()),
            None => None,
        };
        assert!(refusal(&small).await.contains("no more connections"), "{on:?}");
        let weak = own.url.replace(&format!("//{USER}:"), &format!("//weak_{database}:"));
        assert!(refusal(&weak).await.contains("lacks a right"), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_is_refused_and_a_sound_one_is_not() {
    for (on, kind, names, sound) in [
        (On::Postgres, Kind::Postgres, "fsync is off", &["fsync=on"][..]),
        (
            On::Mariadb,
            Kind::Mariadb,
            "innodb_flush_log_at_trx_commit is 0",
            &["innodb-flush-log-at-trx-commit=1", "innodb-flush-method=fsync"][..],
        ),
    ] {
        let Some(own) = on.own().await else { continue };
        let error = Db::open(&own.url, Access::Shared).await.unwrap_err();
        assert!(matches!(&error, Error::NotDurable(_)), "{error:?}");
        assert!(error.to_string().contains(names) && error.to_string().contains("set "), "{error}");

        let server = Server::new(kind, sound).expect("it is installed");
        let url = server.create().await;
        crate::migrate::migrate(&url).await.unwrap();
        let db = Db::open(&url, Access::Exclusive).await.unwrap();
        assert!(!db.holds_exclusive_lock() && db.path().is_none());
        assert_eq!(db.findings().await.unwrap(), []);
        db.ping().await.unwrap();
        // As a failed-over address that now leads to a standby.
        let (standby, lax) = match on {
            On::Postgres => (
                "ALTER DATABASE own0 SET default_transaction_read_only = on",
                Some("ALTER DATABASE own0 SET synchronous_commit = off"),
            ),
            _ => ("SET GLOBAL read_only = ON", None),
        };
        if let Some(lax) = lax {
            by_hand(&server.url("postgres"), lax).await;
            let error = Db::open(&url, Access::Shared).await.unwrap_err();
            assert!(error.to_string().contains("synchronous_commit is off"), "{error}");
        }
        by_hand(&server.url(if on == On::Postgres { "postgres" } else { "mysql" }), standby).await;
        assert!(refusal(&url).await.contains("not the primary"), "{on:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_was_cut_off_is_unknown_until_it_is_read_back_and_the_pool_recovers() {
    for kind in [Kind::Postgres, Kind::Mariadb] {
        let Some(server) = Server::new(kind, &[]) else { continue };
        let url = server.create().await;
        crate::migrate::migrate(&url).await.unwrap();
        let options = Options { acquire: std::time::Duration::from_secs(1), ..relaxed(Access::Exclusive) };
        let db = Db::open_with(&url, options).await.unwrap();
        let mut tx = Tx::begin(&db).await.unwrap();
        settings::set(&mut tx, "x", "1", NOW).await.unwrap();
        // It is asked to commit and killed before it can answer.
        server.freeze();
        let mut committing = Box::pin(tx.commit());
        let waker = std::task::Waker::noop();
        let polled = committing.as_mut().poll(&mut std::task::Context::from_waker(waker));
        assert!(polled.is_pending());
        server.thaw_by_death();
        let fate = committing.await;
        assert!(matches!(fate, Err(Error::Ambiguous(_))), "{kind:?}: {fate:?}");

        let dead = db.ping().await.unwrap_err();
        assert!(dead.is_unavailable() && matches!(dead, Error::Unavailable { .. }), "{dead:?}");
        server.start();
        // What was read back is what counts; here both are allowed, a half is not.
        let mut tries = 0;
        let read_back = loop {
            match settings::get(&db, "x").await {
                Ok(value) => break value,
                Err(error) => assert!(error.is_unavailable() && tries < 20, "{error:?}"),
            }
            tries += 1;
        };
        assert!([None, Some(("1".to_owned(), 1))].contains(&read_back), "{read_back:?}");
        write(&db, async |tx| settings::set(tx, "y", "2", NOW).await).await.unwrap();
    }
}

/// A cluster's nodes share no lock and are behind one another; conditional updates and what the sessions ask for must do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_galera_cluster_one_claimer_wins_reads_are_fresh_and_a_minority_says_no() {
    let Some(nodes) = galera(3) else { return };
    let url = nodes[0].create().await;
    let name = url.rsplit('/').next().unwrap().to_owned();
    // Two nodes at once: they share no lock of the server's.
    let migrating: Vec<_> = (0..2)
        .map(|n| {
            let url = nodes[n].url(&name);
            tokio::spawn(async move { crate::migrate::migrate(&url).await })
        })
        .collect();
    for one in migrating {
        one.await.unwrap().unwrap();
    }
    let mut dbs = Vec::new();
    for node in &nodes {
        dbs.push(Db::open_with(&node.url(&name), relaxed(Access::Exclusive)).await.unwrap());
    }
    let segment = new_segment("rack-a");
    let host = new_host(segment.id, "cmp-01");
    write(&dbs[0], async |tx| {
        crate::segments::create(tx, &segment, NOW).await?;
        crate::hosts::create(tx, &host, NOW).await
    })
    .await
    .unwrap();
    // Fresh on the others at once.
    for n in 0..60i64 {
        let (writer, reader) = (&dbs[n as usize % 3], &dbs[(n as usize + 1) % 3]);
        write(writer, async |tx| settings::set(tx, "x", &n.to_string(), NOW).await).await.unwrap();
        assert_eq!(settings::get(reader, "x").await.unwrap(), Some((n.to_string(), n + 1)), "a stale read");
    }
    // Three engines on three nodes claim one recovery, again and again.
    let report = Notification { origin: Origin::Engine, ..host_down(segment.id, host.id) };
    let recovery = new_recovery(&report);
    let opening =
        Opening { recovery: &recovery, report: Some(&report), audit: &[], events: &[], webhooks: &[] };
    write(&dbs[0], async |tx| recoveries::open(tx, &opening, NOW).await).await.unwrap();
    let mut owner = None;
    for epoch in 0..10 {
        let claims: Vec<_> = dbs
            .iter()
            .cloned()
            .map(|db| {
                let (engine, id) = (EngineId(Uuid::new_v4()), recovery.id);
                tokio::spawn(async move {
                    write(&db, async |tx| recoveries::claim(tx, id, epoch, owner, engine, NOW).await).await
                })
            })
            .collect();
        let mut won = Vec::new();
        for claim in claims {
            won.extend(claim.await.unwrap().unwrap());
        }
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(won[0].epoch, epoch + 1);
        owner = won[0].owner;
    }
    // A minority refuses, in words; the majority goes on.
    nodes[1].kill();
    nodes[2].kill();
    let started = std::time::Instant::now();
    let alone = loop {
        match dbs[0].ping().await {
            Err(error) => break error,
            Ok(()) => assert!(started.elapsed() < std::time::Duration::from_secs(60), "it never noticed"),
        }
    };
    assert!(alone.is_unavailable() && alone.to_string().contains("primary component"), "{alone:?}");
    let refused = write(&dbs[0], async |tx| settings::set(tx, "x", "lost", NOW).await).await.unwrap_err();
    assert!(refused.is_unavailable(), "{refused:?}");
}

//! Imports from SQLite files made by plain SQL; the real schema on all three databases is `tests/import/run`'s.

mod again;
mod bad;

use std::path::PathBuf;

use halberd_core::id::{HostId, NotificationId, SegmentId};
use halberd_core::notification::NotificationStatus;
use halberd_core::recovery::{StateWord, VmoveStatus};
use halberd_core::time::Stamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use uuid::Uuid;

use super::*;
use crate::list::Page;
use crate::testing::On;
use crate::tests::{Kit, NOW, everywhere, kit, kit_on, later, new_host};
use crate::value::args;
use crate::{audit, hosts, notifications, recoveries, segments, vmoves};

everywhere!(
    everything_is_taken_with_its_ids_and_times,
    what_was_open_becomes_history_that_no_engine_takes_up,
    moves_are_listed_under_their_notification,
    a_rehearsal_says_the_same_and_leaves_nothing,
    older_notifications_stay_where_they_are,
    a_number_that_is_taken_is_replaced_and_said,
);

/// The fixture's ids end in what tells them apart.
fn id(end: u128) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 + end)
}

/// A source file in the kit's directory.
struct Masakari {
    path: PathBuf,
}

impl Masakari {
    async fn new(kit: &Kit) -> Masakari {
        let source = Masakari { path: kit.own.dir().join("masakari.db") };
        source.run(include_str!("masakari.sql")).await;
        source
    }

    async fn open(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(&self.path).create_if_missing(true).connect().await.unwrap()
    }

    /// Changes the source, as Masakari does.
    async fn run(&self, sql: &'static str) {
        let mut connection = self.open().await;
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    fn url(&self) -> SecretString {
        SecretString::from(format!("sqlite:///{}", self.path.display()))
    }
}

async fn import(kit: &Kit, source: &Masakari) -> Report {
    let url = source.url();
    masakari(&kit.db, &Import { url: &url, since: None, dry_run: false }, NOW).await.unwrap()
}

/// Taken, deleted, already there, changed, kept, left.
fn counts(report: &TableReport) -> [u64; 6] {
    [report.taken, report.deleted, report.already_there, report.changed, report.kept_ours, report.left]
}

async fn exec(kit: &Kit, sql: &'static str) {
    write(&kit.db, async |tx| tx.exec(sql, args![]).await).await.unwrap();
}

/// What lies in the directory of the source, with its content.
fn beside(source: &Masakari) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(source.path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.starts_with("masakari"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    found
}

async fn everything_is_taken_with_its_ids_and_times(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    let before = beside(&source);
    let report = import(&kit, &source).await;
    assert_eq!(beside(&source), before, "nothing was written, nor anything made beside it");
    assert!(report.revision.starts_with("13adff5efb9a"), "{report:?}");
    assert_eq!(report.left, []);
    assert_eq!(counts(&report.segments), [2, 1, 0, 0, 0, 0]);
    assert_eq!(counts(&report.hosts), [3, 1, 0, 0, 0, 0]);
    assert_eq!(counts(&report.notifications), [4, 0, 0, 0, 0, 0]);
    assert_eq!(counts(&report.vmoves), [3, 0, 0, 0, 0, 0]);

    let segment = segments::get(&kit.db, SegmentId(id(0x103))).await.unwrap();
    assert_eq!((segment.num, segment.name.as_str(), segment.enabled), (3, "racks", true));
    assert_eq!(segment.created_at, Stamp(1_767_323_045_000_006));
    let host = hosts::get(&kit.db, HostId(id(0x207))).await.unwrap();
    assert_eq!((host.num, host.segment, host.maintenance.operator), (7, SegmentId(id(0x103)), true));
    assert!(!host.ever_agent && host.proof.is_none());
    assert!(hosts::get(&kit.db, HostId(id(0x208))).await.unwrap().reserved);
    let old = hosts::get(&kit.db, HostId(id(0x209))).await.unwrap_err();
    assert!(matches!(old, Error::NotFound { .. }), "it is deleted: {old}");
    let on_maintenance: Vec<_> = report.on_maintenance.iter().map(|found| &*found.host).collect();
    assert_eq!(on_maintenance, ["cmp-07"]);

    let report = notifications::get(&kit.db, NotificationId(id(0x311))).await.unwrap();
    assert_eq!((report.num, report.status), (11, NotificationStatus::Finished));
    assert_eq!(report.generated_at.0 % 1_000_000, 123_456);
    let old = notifications::get(&kit.db, NotificationId(id(0x313))).await.unwrap();
    assert_eq!(old.segment, SegmentId(id(0x104)), "from its deleted host's row");

    // AUTOINCREMENT goes on above what came in.
    let host = new_host(kit.segment, "cmp-02");
    let made = write(&kit.db, async |tx| hosts::create(tx, &host, NOW).await).await.unwrap();
    assert!(made.num > 9, "{}", made.num);
    assert!(audit::verify(&kit.db).await.unwrap().is_empty());
}

async fn what_was_open_becomes_history_that_no_engine_takes_up(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    let report = import(&kit, &source).await;
    let open: Vec<_> = report.unfinished.iter().map(|found| (&*found.status, &*found.host)).collect();
    assert_eq!(open, [("running", "cmp-07"), ("new", "cmp-07"), ("error", "cmp-08")]);
    assert_eq!(notifications::count(&kit.db, &recoveries::UNSETTLED).await.unwrap(), 0);
    assert_eq!(notifications::list_new(&kit.db, 10).await.unwrap(), []);
    assert!(recoveries::list_open(&kit.db).await.unwrap().is_empty());
    for (end, was) in [(0x312, "'running'"), (0x313, "'new'"), (0x314, "'error'")] {
        let row = notifications::get(&kit.db, NotificationId(id(end))).await.unwrap();
        assert_eq!(row.status, NotificationStatus::Failed);
        let message = row.message.clone().unwrap();
        assert!(message.contains(was) && message.contains("No recovery was started"), "{message}");
    }
    let queued = notifications::get(&kit.db, NotificationId(id(0x313))).await.unwrap();
    assert!(queued.message.as_ref().unwrap().ends_with("Masakari said: queued"));
    // Nothing stands in the way of a change, as nothing is under recovery.
    hosts::check_free(&kit.db, HostId(id(0x207))).await.unwrap();
}

async fn moves_are_listed_under_their_notification(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    import(&kit, &source).await;
    let under = NotificationId(id(0x311));
    let moves = vmoves::list(&kit.db, under, &Default::default(), &Page::default()).await.unwrap();
    let seen: Vec<_> = moves.iter().map(|row| (row.num, row.status, row.dest_host.as_deref())).collect();
    assert_eq!(seen, [(22, VmoveStatus::Failed, None), (21, VmoveStatus::Succeeded, Some("cmp-08"))]);
    assert!(moves[0].message.as_ref().unwrap().contains("'ongoing'"));
    assert_eq!(notifications::recovery_of(&kit.db, under).await.unwrap(), Some(moves[0].recovery));
    let recovery = recoveries::get(&kit.db, moves[0].recovery).await.unwrap();
    assert_eq!((recovery.word(), recovery.owner), (StateWord::Finished, None));
    let story = audit::of_recovery(&kit.db, recovery.id).await.unwrap();
    assert_eq!(story.iter().map(|link| &*link.entry.what).collect::<Vec<_>>(), ["recovery_imported"]);
    // One that Masakari had not finished ends as failed, and so do its moves.
    let recovery = recoveries::get(&kit.db, id(0x312).into()).await.unwrap();
    assert_eq!(recovery.word(), StateWord::Failed);
    let moves = vmoves::of_recovery(&kit.db, recovery.id).await.unwrap();
    assert!(moves.iter().all(|vmove| vmove.status.is_terminal()), "{moves:?}");
}

async fn a_rehearsal_says_the_same_and_leaves_nothing(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    let url = source.url();
    let rehearsal = masakari(&kit.db, &Import { url: &url, since: None, dry_run: true }, NOW).await.unwrap();
    assert_eq!(segments::list(&kit.db, &Default::default(), &Page::default()).await.unwrap().len(), 1);
    assert!(notifications::list(&kit.db, &Default::default(), &Page::default()).await.unwrap().is_empty());
    assert!(audit::heads(&kit.db).await.unwrap().is_empty());
    let real = import(&kit, &source).await;
    assert_eq!(Report { dry_run: false, ..rehearsal }, real);
}

async fn older_notifications_stay_where_they_are(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    let url = source.url();
    let since = rows::stamp("2026-02-02 00:00:00");
    let report = masakari(&kit.db, &Import { url: &url, since, dry_run: false }, NOW).await.unwrap();
    assert_eq!((report.notifications.taken, report.older, report.vmoves.taken), (2, 2, 1));
    assert_eq!(report.left, [], "moves of older ones are no orphans");
    let all = import(&kit, &source).await;
    assert_eq!((all.notifications.taken, all.notifications.already_there), (2, 2));
}

async fn a_number_that_is_taken_is_replaced_and_said(on: On) {
    let kit = kit_on(on).await;
    let source = Masakari::new(&kit).await;
    exec(&kit, "UPDATE hosts SET num = 8").await;
    exec(&kit, "UPDATE segments SET num = 4").await;
    let report = import(&kit, &source).await;
    assert_eq!(report.left, []);
    let seen: Vec<_> =
        report.renumbered.iter().map(|row| (row.table.noun(), row.was, row.is, &*row.row)).collect();
    let (old, cmp) =
        ("00000000-0000-4000-8000-000000000104 (old)", "00000000-0000-4000-8000-000000000208 (cmp-08)");
    assert_eq!(seen, [("segment", 4, 5, old), ("host", 8, 10, cmp)]);
    assert_eq!(hosts::get(&kit.db, HostId(id(0x208))).await.unwrap().num, 10);
    assert_eq!(import(&kit, &source).await.renumbered, [], "once");
}

#[tokio::test]
async fn an_engine_beside_it_goes_on() {
    // The kit holds the file as an engine does; the command opens it beside.
    let kit = kit().await;
    let source = Masakari::new(&kit).await;
    let beside = Db::open(&crate::tests::url(kit.own.dir()), crate::Access::Shared).await.unwrap();
    let url = source.url();
    let report = masakari(&beside, &Import { url: &url, since: None, dry_run: false }, NOW).await.unwrap();
    assert_eq!(report.hosts.taken, 3);
    assert!(hosts::by_name(&kit.db, "cmp-07").await.unwrap().is_some());
}

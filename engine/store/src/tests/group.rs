//! Units that share a commit: each durable or without effect, whoever fails or goes away.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::*;
use crate::transaction::ATTEMPTS;
use crate::{Error, hosts, segments};

everywhere!(
    a_unit_that_fails_takes_nothing_of_the_others_with_it,
    a_conflict_is_repeated_and_ends,
    a_host_that_is_out_or_admitted_stays_on_file,
);

fn commits(db: &Db) -> u64 {
    let Db::Sqlite(sqlite) = db else { panic!("only SQLite's writers share commits") };
    sqlite.group.commits()
}

async fn host_names(kit: &Kit) -> Vec<String> {
    hosts::all_living(&kit.db).await.unwrap().into_iter().map(|host| host.value.name).collect()
}

async fn add(db: &Db, segment: SegmentId, name: &str) -> Result<()> {
    let host = new_host(segment, name);
    write(db, async |tx| hosts::create(tx, &host, NOW).await.map(|_| ())).await
}

/// A unit that adds the host `first`, says that it is inside, and ends when told to go on. Returns once it is inside.
async fn first_inside(kit: &Kit, inside: &Arc<Notify>, go_on: &Arc<Notify>) -> JoinHandle<Result<()>> {
    let (db, segment, says, waits) = (kit.db.clone(), kit.segment, inside.clone(), go_on.clone());
    let first = tokio::spawn(async move {
        let host = new_host(segment, "first");
        write(&db, async |tx| {
            hosts::create(tx, &host, NOW).await?;
            says.notify_one();
            waits.notified().await;
            Ok(())
        })
        .await
    });
    inside.notified().await;
    first
}

#[tokio::test]
async fn writers_who_queue_share_commits_and_are_all_there() {
    let kit = kit().await;
    let before = commits(&kit.db);
    let names: Vec<String> = (0..64).map(|n| format!("many-{n:02}")).collect();
    let mut all = JoinSet::new();
    for name in names {
        let (db, segment) = (kit.db.clone(), kit.segment);
        all.spawn(async move { add(&db, segment, &name).await });
    }
    for done in all.join_all().await {
        done.unwrap();
    }
    assert!(commits(&kit.db) - before < 16, "{} commits for 64 units", commits(&kit.db) - before);
    // Another opening sees what is committed.
    let beside = Db::open(&url(kit.own.dir()), Access::Shared).await.unwrap();
    let seen = hosts::all_living(&beside).await.unwrap().len();
    assert_eq!(seen, 65);
}

#[tokio::test]
async fn a_writer_who_is_alone_commits_at_once() {
    let kit = kit().await;
    let before = commits(&kit.db);
    add(&kit.db, kit.segment, "one").await.unwrap();
    assert_eq!(commits(&kit.db) - before, 1);
    let refused = add(&kit.db, kit.segment, "one").await.unwrap_err();
    assert!(matches!(refused, Error::Exists { .. }), "{refused}");
    assert_eq!(commits(&kit.db) - before, 1, "a unit that failed alone is rolled back");
}

async fn a_unit_that_fails_takes_nothing_of_the_others_with_it(on: On) {
    let kit = kit_on(on).await;
    let mut units = JoinSet::new();
    for n in 0..32 {
        let (db, segment) = (kit.db.clone(), kit.segment);
        units.spawn(async move {
            let (host, twin) = (new_host(segment, &format!("h-{n:02}")), new_host(segment, "cmp-01"));
            let done = write(&db, async |tx| {
                hosts::create(tx, &host, NOW).await?;
                // Every third meets a name that is taken, after it wrote.
                if n % 3 == 0 { hosts::create(tx, &twin, NOW).await.map(|_| ()) } else { Ok(()) }
            })
            .await;
            (n, done)
        });
    }
    for (n, outcome) in units.join_all().await {
        assert_eq!(outcome.is_ok(), n % 3 != 0, "{n}: {outcome:?}");
    }
    let want: Vec<String> = std::iter::once("cmp-01".to_owned())
        .chain((0..32).filter(|n| n % 3 != 0).map(|n| format!("h-{n:02}")))
        .collect();
    assert_eq!(host_names(&kit).await, want);
}

/// Polls once, so that it is under way.
fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) {
    assert!(matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_goes_away_half_way_harms_nobody() {
    let kit = kit().await;
    let (inside, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // The first holds the turn until two more wait.
    let first = first_inside(&kit, &inside, &go_on).await;
    let leaving = tokio::spawn({
        let (db, segment, inside) = (kit.db.clone(), kit.segment, inside.clone());
        async move {
            let host = new_host(segment, "leaving");
            write(&db, async |tx| {
                hosts::create(tx, &host, NOW).await?;
                inside.notify_one();
                std::future::pending::<Result<()>>().await
            })
            .await
        }
    });
    let Db::Sqlite(sqlite) = &kit.db else { panic!("only SQLite's writers share commits") };
    while sqlite.group.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    go_on.notify_one();
    // The leaving one is inside, with the first's unit in the same transaction. It goes.
    inside.notified().await;
    leaving.abort();
    go_on.notify_one();
    first.await.unwrap().unwrap();
    assert_eq!(host_names(&kit).await, ["cmp-01", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_does_not_outlive_those_who_wait_for_it() {
    let kit = kit().await;
    let Db::Sqlite(sqlite) = &kit.db else { panic!("only SQLite's writers share commits") };
    let (inside, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = first_inside(&kit, &inside, &go_on).await;
    {
        let mut second = pin!(add(&kit.db, kit.segment, "second"));
        poll_once(second.as_mut());
        assert_eq!(sqlite.group.waiting(), 1);
        go_on.notify_one();
        // The first has left its transaction to the second, which goes away here without its turn.
        while sqlite.group.handed_on() == 0 {
            tokio::task::yield_now().await;
        }
    }
    first.await.unwrap().unwrap();
    assert_eq!(host_names(&kit).await, ["cmp-01", "first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_when_all_of_them_went_away() {
    let kit = kit().await;
    let Db::Sqlite(sqlite) = &kit.db else { panic!("only SQLite's writers share commits") };
    let (inside, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let first = first_inside(&kit, &inside, &go_on).await;
    {
        let mut second = pin!(add(&kit.db, kit.segment, "second"));
        poll_once(second.as_mut());
        assert_eq!(sqlite.group.waiting(), 1);
        go_on.notify_one();
        // The first has left its transaction to the second, which goes away here without its turn.
        while sqlite.group.handed_on() == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
    }
    // Another process gets the file: it is not held by a transaction that nobody ends.
    let beside = Db::open(&url(kit.own.dir()), Access::Shared).await.unwrap();
    add(&beside, kit.segment, "beside").await.unwrap();
    assert_eq!(host_names(&kit).await, ["beside", "cmp-01", "first"]);
}

async fn a_conflict_is_repeated_and_ends(on: On) {
    let kit = kit_on(on).await;
    let runs = std::sync::atomic::AtomicU32::new(0);
    let done: Result<()> = write(&kit.db, async |_| {
        runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err(Error::Conflict { attempts: 1, source: None })
    })
    .await;
    assert!(done.unwrap_err().is_conflict());
    assert_eq!(runs.into_inner(), ATTEMPTS);
}

async fn a_host_that_is_out_or_admitted_stays_on_file(on: On) {
    let kit = kit_on(on).await;
    for admission in [Admission::Out, Admission::Admitted] {
        let patch = halberd_core::runner::HostPatch { admission: Some(admission), ..Default::default() };
        write(&kit.db, async |tx| hosts::patch(tx, kit.host, &patch, NOW).await).await.unwrap();
        let host = write(&kit.db, async |tx| hosts::delete(tx, kit.host, NOW).await).await.unwrap_err();
        let segment =
            write(&kit.db, async |tx| segments::delete(tx, kit.segment, NOW).await).await.unwrap_err();
        for refused in [host, segment] {
            let text = refused.to_string();
            assert!(
                matches!(refused, Error::InUse { .. }) && text.contains(&format!("cmp-01 is {admission}")),
                "{text}"
            );
        }
    }
    let back = halberd_core::runner::HostPatch { admission: Some(Admission::In), ..Default::default() };
    write(&kit.db, async |tx| hosts::patch(tx, kit.host, &back, NOW).await).await.unwrap();
    write(&kit.db, async |tx| hosts::delete(tx, kit.host, NOW).await).await.unwrap();
}

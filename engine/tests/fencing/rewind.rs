//! The rewind rule with a whole engine: a database that shows less than it remembers stops it, is looked at, and is left.

use std::fs;
use std::path::{Path, PathBuf};

use halberd_core::audit::Entry;
use halberd_core::event::EventKind;
use halberd_core::host::Admission;
use halberd_core::recovery::StateWord;
use halberd_core::rewind::EPOCH_STEP;
use halberd_engine::retention::checkpoint;
use halberd_sim::{BmcFault, Fault, Power, What, WorldSpec};
use halberd_store::audit::Listed;
use halberd_store::rewind::Rewound;
use halberd_store::{Tx, audit, rewind, settings, write};

use crate::kit::{KEY, Kit, small};

const HOST: &str = "cmp-01";
/// Whose off is ordered in what is lost.
const LOST: &str = "cmp-02";

/// The hosts of a world with an engine whose lease is short: how long it is decides how long these tests wait, and nothing else.
async fn start(spec: WorldSpec) -> Kit {
    let mut kit = Kit::bare(spec).await;
    kit.policy.lease_ms = 2_500;
    kit.policy.lease_renew_ms = 300;
    kit.policy.fence_retry_ms = 1_000;
    for name in kit.cloud.host_names() {
        let id = kit.add_host(&name).await;
        let device = kit.bmc(&name);
        kit.set_devices(id, &[device]).await;
    }
    kit.run(&KEY).await;
    kit
}

/// Deeds that change anything for anybody, by name.
fn deeds(kit: &Kit) -> Vec<String> {
    kit.seen(|what| match what {
        What::OffOrdered { .. } | What::OnOrdered { .. } | What::EvacuateAccepted { .. } => {
            Some(format!("{what:?}"))
        }
        _ => None,
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["halberd.db", "halberd.db-wal", "halberd.db-shm"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

async fn standing(kit: &Kit) -> Rewound {
    kit.until("reconcile-only", async || rewind::standing(&kit.db).await.unwrap()).await
}

async fn audited(kit: &Kit) -> Rewound {
    kit.until("a look at the world", async || {
        rewind::standing(&kit.db).await.unwrap().filter(|row| row.audit.is_some())
    })
    .await
}

/// Lets the engine work for a while on the real clock of its lease: two renewals, seen in its own row.
async fn renewals(kit: &Kit, more: i64) {
    let counter = async || halberd_store::engines::list(&kit.db).await.unwrap()[0].counter;
    let first = counter().await;
    kit.until("renewals", async || (counter().await >= first + more).then_some(())).await;
}

fn backup(kit: &Kit) -> PathBuf {
    kit.files().join("backup")
}

/// F61. Yesterday's file comes back: a host was turned off and emptied since, and the database knows nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_file_stops_the_engine_until_a_person_has_seen_what_was_lost() {
    // Nova takes long, so that what was lost is still under way when it is found.
    let mut kit = start(WorldSpec { rebuild_latency_ms: (15_000, 15_000), ..small() }).await;
    renewals(&kit, 1).await;
    kit.stop().await;
    kit.crash().await;
    copy(kit.files(), &backup(&kit));
    kit.reopen().await;
    kit.run(&KEY).await;
    let guests = kit.cloud.world().guests_placed_on(LOST);
    assert!(!guests.is_empty());
    kit.wish("fence", LOST).await;
    kit.until("evacuations", async || {
        kit.seen(|what| matches!(what, What::EvacuateAccepted { .. }).then_some(())).first().copied()
    })
    .await;
    kit.crash().await;
    copy(&backup(&kit), kit.files());
    kit.reopen().await;
    let before = deeds(&kit);
    assert!(kit.recoveries(None).await.is_empty(), "the database knows of nothing");

    kit.run(&KEY).await;
    let row = audited(&kit).await;
    assert!(row.why.contains("shows less"), "{}", row.why);
    let findings = &row.audit.as_ref().unwrap().findings;
    let said = |text: &str| findings.iter().any(|found| found.text.contains(text));
    assert!(said("cmp-02 reads Off") && said("was evacuated from cmp-02"), "{findings:?}");
    assert_eq!(kit.told(EventKind::DatabaseRewound).await.len(), 1);
    let (granted, why) = kit.wish("fence", HOST).await;
    assert!(!granted && why.contains("reconcile-only"), "{why}");
    renewals(&kit, 2).await;
    assert_eq!(deeds(&kit), before, "nothing goes out");
    assert!(kit.recoveries(None).await.is_empty(), "and nothing is begun");

    let (granted, answer) = kit.wish("leave_reconcile_only", HOST).await;
    assert!(granted && answer.contains("left with"), "{answer}");
    assert!(rewind::standing(&kit.db).await.unwrap().is_none());
    assert_eq!(kit.told(EventKind::ReconcileOnlyLeft).await.len(), 1);

    // The host that was lost is found dead by a person's order, and what Nova did for its guests is adopted: nobody is sent twice.
    kit.wish("fence", LOST).await;
    let closed = kit.closed(LOST).await;
    assert_eq!(closed.word(), StateWord::Finished, "{}", closed.reason);
    let mut sent = kit.seen(|what| match what {
        What::EvacuateAccepted { guest, .. } => Some(*guest),
        _ => None,
    });
    let count = sent.len();
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), count, "no guest was evacuated twice");
    assert!(kit.cloud.world().double_runs().is_empty(), "no guest ran twice");
}

/// The running engine sees its own counter fall, with a recovery in its hands: it stops in the middle, and goes on when it was left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_that_falls_under_a_running_engine_stops_it_in_the_middle() {
    let kit = start(small()).await;
    renewals(&kit, 3).await;
    let bmc = |fault| kit.cloud.inject(Fault::Bmc { host: HOST.into(), fault });
    bmc(BmcFault::Dead);
    kit.wish("fence", HOST).await;
    let open = kit
        .until("its recovery", async || kit.recoveries(Some(HOST)).await.into_iter().find(|it| it.is_open()))
        .await;
    kit.sql("UPDATE engines SET counter = counter - 3").await;
    let row = standing(&kit).await;
    assert!(row.why.contains("engine one shows counter"), "{}", row.why);
    kit.until("the wait says why", async || {
        let now = kit.recoveries(Some(HOST)).await;
        now[0].reason.starts_with("reconcile-only: ").then_some(())
    })
    .await;
    let before = deeds(&kit);
    bmc(BmcFault::Healed);
    audited(&kit).await;
    assert_eq!(deeds(&kit), before);
    assert_eq!(kit.cloud.world().host(HOST).power, Power::On);
    let (granted, answer) = kit.wish("leave_reconcile_only", HOST).await;
    assert!(granted, "{answer}");
    assert!(answer.contains("1 findings"), "{answer}");
    let now = kit.closed(HOST).await;
    assert_eq!((now.word(), kit.cloud.world().host(HOST).power), (StateWord::Finished, Power::Off));
    assert!(now.epoch > open.epoch + EPOCH_STEP, "epoch {} after {}", now.epoch, open.epoch);
}

/// Nothing but the engine's own lease is less, and the world explains itself: the look ends it without anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nothing_found_it_ends_by_itself() {
    let kit = start(small()).await;
    renewals(&kit, 3).await;
    kit.sql("UPDATE engines SET counter = counter - 3").await;
    let row = standing(&kit).await;
    kit.until("the end", async || (!rewind::stands(&kit.db).await.unwrap()).then_some(())).await;
    assert_eq!(rewind::reconciled(&kit.db).await.unwrap(), [row.id]);
    let told = kit.told(EventKind::ReconcileOnlyLeft).await;
    assert!(told[0]["text"].as_str().unwrap().contains("3 hosts were looked at"), "{told:?}");
    assert_eq!(kit.host(HOST).await.admission, Admission::In);
    // And it acts again.
    renewals(&kit, 1).await;
    assert!(kit.wish("check_devices", HOST).await.0);
}

/// Whoever restores a database says so in it: every engine that starts on it stands still, whatever its own file says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_says_so_is_believed() {
    let mut kit = start(small()).await;
    kit.stop().await;
    let lost = [halberd_core::rewind::Loss::stated("a backup of yesterday was restored")];
    let declare = async |tx: &mut Tx| {
        rewind::declare(
            tx,
            "restore by root",
            "restored",
            &lost,
            "api:restore",
            &[],
            halberd_engine::clock::stamp(),
        )
        .await
    };
    write(&kit.db, async |tx| declare(tx).await).await.unwrap();
    kit.run(&KEY).await;
    let shown = kit.shared().reconcile_only().expect("it stands still from its first moment");
    assert!(shown.contains("restored") && shown.contains("halberd reconcile leave"), "{shown}");
    kit.until("the end", async || kit.shared().reconcile_only().is_none().then_some(())).await;
}

/// The list of all chains is itself watched: one that lacks its last entries belongs to a database of before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_chains_that_became_shorter_is_found() {
    let kit = start(small()).await;
    let entry = [Entry::new("hosts_imported", "by ann", serde_json::json!({}))];
    let now = halberd_engine::clock::stamp();
    write(&kit.db, async |tx| audit::append(tx, "api:test", 0, &entry, now).await).await.unwrap();
    checkpoint(kit.shared(), &Listed::default()).await;
    renewals(&kit, 1).await;
    assert!(!rewind::stands(&kit.db).await.unwrap(), "what was just listed is there");
    kit.sql("UPDATE audit_heads SET sequence = 0 WHERE chain = 'checkpoints'").await;
    let row = standing(&kit).await;
    assert!(row.why.contains("the chain of checkpoints has 0 records, 1 were known"), "{}", row.why);
}

/// A file of another database, a broken one: named errors, and the file is as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_or_broken_file_stops_the_start_and_stays() {
    let mut kit = start(small()).await;
    renewals(&kit, 1).await;
    kit.stop().await;
    let file = kit.high_water();
    let good = fs::read(&file).unwrap();
    let own = settings::identity(&kit.db, halberd_engine::clock::stamp()).await.unwrap();
    kit.sql("UPDATE settings SET value = '00000000-0000-4000-8000-000000000001' WHERE name = 'identity'")
        .await;
    let said = kit.try_run(&KEY).await.expect_err("another database").to_string();
    assert!(said.contains(&own.to_string()) && said.contains("mend the url"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), good);
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    let said = kit.try_run(&KEY).await.expect_err("a broken file").to_string();
    assert!(said.contains("broken") && said.contains("move the file away"), "{said}");
    assert_eq!(fs::read(&file).unwrap().len(), good.len() / 2);
}

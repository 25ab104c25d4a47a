//! Several engines on one database: who takes over from whom and when, what each knows of the others, and that what is asked of one
//! reaches the one that can do it.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod kit;

use std::collections::BTreeSet;
use std::time::Instant;

use halberd_core::event::EventKind;
use halberd_core::policy::Policy;
use halberd_core::recovery::{Recovery, StateWord};
use halberd_engine::{Engine, clock};
use halberd_store::testing::On;
use halberd_store::{audit, engines, recoveries, write};
use kit::{Site, endless, id, quick};

const HOST: &str = "cmp-01";
const OTHER: &str = "cmp-02";
/// Where SQLite is, one engine alone may act.
const SERVERS: [On; 2] = [On::Postgres, On::Mariadb];

/// Nothing is fenced until somebody releases the brake on how many at once.
fn held(policy: Policy) -> Policy {
    Policy { fence_in_flight: 0, ..policy }
}

fn owned(recovery: &Recovery, engine: &Engine) -> bool {
    recovery.owner == Some(id(engine))
}

/// The two, the owner of the recovery first.
fn owner_first(recovery: &Recovery, one: Engine, two: Engine) -> (Engine, Engine) {
    if owned(recovery, &one) { (one, two) } else { (two, one) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_handed_over_at_a_graceful_stop_and_not_after_the_lease() {
    for on in SERVERS {
        let Some(site) = Site::new(on).await else { return };
        // No lease ends within this test: whoever claims was given it.
        let policy = held(endless());
        let one = site.engine("one", &policy).await.unwrap();
        let two = site.engine("two", &policy).await.unwrap();
        site.wish("fence", HOST).await;
        let recovery = site.becomes(HOST, "a held recovery", |it| it.word() == StateWord::Held).await;
        let (owner, heir) = owner_first(&recovery, one, two);
        let began = Instant::now();
        let stopping = tokio::spawn(owner.stop());
        let claimed = site.becomes(HOST, "a claim by the other", |it| owned(it, &heir)).await;
        println!("{on:?}: claimed {} ms after the stop began", began.elapsed().as_millis());
        stopping.await.unwrap();
        assert_eq!(claimed.epoch, recovery.epoch + 1, "claimed once");
        heir.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_reaches_the_owner_whoever_reads_it_and_waits_for_the_next_owner() {
    for on in SERVERS {
        let Some(site) = Site::new(on).await else { return };
        let policy = held(quick());
        let one = site.engine("one", &policy).await.unwrap();
        let two = site.engine("two", &policy).await.unwrap();
        let (granted, text) = site.answer(site.wish("fence", HOST).await).await;
        assert!(granted, "{text}");
        let recovery = site.becomes(HOST, "a held recovery", |it| it.word() == StateWord::Held).await;
        let (owner, heir) = owner_first(&recovery, one, two);
        // Nobody is there any more who could do it; the other reads it at once and leaves it alone.
        owner.kill();
        let release = site.wish("release", HOST).await;
        let claimed = site.becomes(HOST, "a claim by the other", |it| owned(it, &heir)).await;
        assert!(claimed.epoch > recovery.epoch);
        let (granted, text) = site.answer(release).await;
        assert!(granted && text.contains("released"), "{text}");
        site.becomes(HOST, "the end", |it| !it.is_open()).await;
        assert_eq!(site.powered_off(HOST), 1);
        // Said once, and what comes later is told that there is nothing left to do.
        let (granted, text) = site.answer(site.wish("release", HOST).await).await;
        assert!(!granted && text.contains("no recovery"), "{text}");
        heir.stop().await;
        assert!(audit::verify(&site.db).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_engine_counts_what_all_have_fenced_also_after_a_restart() {
    for on in SERVERS {
        let Some(site) = Site::new(on).await else { return };
        // One, and the next in an hour.
        let policy = Policy { fence_burst: 1, fence_every_ms: 3_600_000, ..quick() };
        let one = site.engine("one", &policy).await.unwrap();
        site.answer(site.wish("fence", HOST).await).await;
        site.becomes(HOST, "the end", |it| !it.is_open()).await;
        one.kill();
        let two = site.engine("two", &policy).await.unwrap();
        site.answer(site.wish("fence", OTHER).await).await;
        let second = site.becomes(OTHER, "a held recovery", |it| it.word() == StateWord::Held).await;
        assert!(second.reason.contains("one fence each"), "{}", second.reason);
        // A crash forgets nothing of it.
        two.kill();
        let three = site.engine("three", &policy).await.unwrap();
        site.becomes(OTHER, "a claim", |it| owned(it, &three)).await;
        let (granted, text) = site.answer(site.wish("release", OTHER).await).await;
        assert!(granted, "{text}");
        site.becomes(OTHER, "the end", |it| !it.is_open()).await;
        assert_eq!((site.powered_off(HOST), site.powered_off(OTHER)), (1, 1));
        three.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_is_told_once_and_the_last_one_says_that_it_is_alone() {
    for on in SERVERS {
        let Some(site) = Site::new(on).await else { return };
        let policy = quick();
        let mut all = Vec::new();
        for name in ["one", "two", "three"] {
            all.push(site.engine(name, &policy).await.unwrap());
        }
        let last = all.pop().unwrap();
        let joined = async || Some(site.told(EventKind::EngineJoined).await).filter(|told| told.len() == 3);
        site.until("three that joined", joined).await;
        assert_eq!(site.told(EventKind::EngineLost).await, []);
        // Each has seen each renew.
        let counters = async || -> Vec<i64> {
            engines::list(&site.db).await.unwrap().into_iter().map(|row| row.counter).collect()
        };
        let before = counters().await;
        let renewed = async || {
            let now = counters().await;
            now.iter().zip(&before).all(|(now, before)| *now >= before + 2).then_some(())
        };
        site.until("two renewals of each", renewed).await;
        for (n, engine) in all.into_iter().enumerate() {
            engine.kill();
            site.until("a death told", async || {
                (site.told(EventKind::EngineLost).await.len() == n + 1).then_some(())
            })
            .await;
        }
        let alone = async || site.told(EventKind::EngineAlone).await.pop();
        let alone = site.until("who is left alone", alone).await;
        assert_eq!((alone.data["engine"].as_str(), alone.data["before"].as_u64()), (Some("three"), Some(3)));
        let back = site.engine("two", &policy).await.unwrap();
        let joined = async || Some(site.told(EventKind::EngineJoined).await).filter(|told| told.len() == 4);
        site.until("one that is back", joined).await;
        let dead: Vec<_> =
            site.told(EventKind::EngineLost).await.into_iter().map(|event| event.subject).collect();
        assert_eq!(dead, ["engine/one", "engine/two"]);
        assert_eq!(site.told(EventKind::EngineAlone).await.len(), 1);
        // Every engine's own words stand in the database, for any API.
        let rows = engines::list(&site.db).await.unwrap();
        let own = rows.iter().find(|row| row.name == "three").unwrap();
        for member in [
            "version",
            "state",
            "lag_ms",
            "round_trip_ms",
            "beats_per_second",
            "workflow",
            "schema",
            "openstack",
        ] {
            assert!(!own.detail[member].is_null(), "{member}: {}", own.detail);
        }
        assert!(own.detail.get("outbox_age_ms").is_some());
        back.stop().await;
        last.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_of_one_name_is_refused_while_the_first_lives() {
    for on in SERVERS {
        let Some(site) = Site::new(on).await else { return };
        let policy = quick();
        let first = site.engine("ctl-1", &policy).await.unwrap();
        let refused = site.engine("ctl-1", &policy).await.unwrap_err().to_string();
        assert_eq!(
            refused,
            "an engine named 'ctl-1' is alive on this database; give this one another [engine] name"
        );
        assert!(first.shared().may_act(clock::mono()), "the first goes on");
        // Killed, its name is free after its lease, and nobody calls that a death.
        let other = site.engine("ctl-2", &policy).await.unwrap();
        first.kill();
        let again = site.engine("ctl-1", &policy).await.unwrap();
        let names: BTreeSet<String> =
            engines::list(&site.db).await.unwrap().into_iter().map(|row| row.name).collect();
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["ctl-1", "ctl-2"]);
        assert_eq!(site.told(EventKind::EngineLost).await, [], "a restart is no death");
        again.stop().await;
        other.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_of_a_newer_workflow_is_left_to_a_newer_engine() {
    for on in SERVERS {
        let Some(site) = Site::new(on).await else { return };
        let one = site.engine("one", &held(quick())).await.unwrap();
        site.answer(site.wish("fence", HOST).await).await;
        let recovery = site.becomes(HOST, "a held recovery", |it| it.word() == StateWord::Held).await;
        one.stop().await;
        let newer = recovery.workflow_version + 1;
        write(&site.db, async |tx| recoveries::set_workflow(tx, recovery.id, newer).await).await.unwrap();
        let two = site.engine("two", &held(quick())).await.unwrap();
        // Its neighbour is taken up and held; that it was looked at after the first is the order of their numbers.
        site.answer(site.wish("fence", OTHER).await).await;
        site.becomes(OTHER, "a held recovery", |it| it.word() == StateWord::Held && owned(it, &two)).await;
        assert_eq!(site.recovery(HOST).await.unwrap().owner, None);
        let release = site.wish("release", HOST).await;
        let (granted, _) = site.answer(site.wish("release", OTHER).await).await;
        assert!(granted);
        assert_eq!(site.wished(release).await.done_at, None, "its engine answers it");
        two.stop().await;
    }
}

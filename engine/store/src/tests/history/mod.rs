//! Random histories: the same operations, drawn from a seed, told to SQLite and to each server; every answer must be the same.
//!
//! SQLite is the reference because one writer at a time needs no isolation. Whoever interleaves is tested elsewhere; here it is the
//! SQL that must mean the same: collations, nulls, conflicts of keys, matched rows, order, and what a failed unit leaves.

mod story;

use std::fmt::Debug;
use std::time::Duration;

use halberd_core::id::{ServiceId, WishId};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use self::story::{Story, uuid};
use super::*;
use crate::agent_reports::{self, ReportRow};
use crate::bus::{self, Speaker};
use crate::deliveries::{self, Attempt, DeliveryState};
use crate::hosts::{self, HostEdit, HostFilter};
use crate::notifications::{self, NotificationFilter};
use crate::recoveries::{self, RecoveryFilter};
use crate::segments::{self, SegmentFilter};
use crate::services::{self, Seen};
use crate::sightings::{self, SightingRow};
use crate::testing::EVERY;
use crate::vmoves::{self, VmoveFilter};
use crate::wishes::{self, NewWish};
use crate::{Tx, audit, commit, engines, events, evidence, intents, orders, settings};

const STEPS: usize = 500;
const SEEDS: u64 = 5;
const WINDOW: Duration = Duration::from_secs(180);

/// An answer as text, without the numbers that databases give out as they like.
fn said(what: &str, answer: impl Debug) -> String {
    let mut text = format!("{what}: {answer:?}");
    for mark in ["num: ", "\"id\": Number("] {
        let mut parts = text.split(mark);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        text = out;
    }
    text
}

/// Errors by kind and word, not by the driver's.
fn failed(error: crate::Error) -> String {
    match error {
        crate::Error::Duplicate { .. } => "duplicate".into(),
        crate::Error::Conflict { .. } => "conflict".into(),
        // By which of several is not said in any order.
        crate::Error::InUse { what, id, .. } => format!("{what} {id} is in use"),
        other => format!("{other}"),
    }
}

/// Runs a unit whose answer is told.
macro_rules! unit {
    ($db:expr, $tx:ident => $work:expr) => {
        write($db, async |$tx: &mut Tx| $work.await).await.map_err(failed)
    };
}
/// Reads.
macro_rules! look {
    ($work:expr) => {
        $work.await.map_err(failed)
    };
}

async fn step(db: &Db, story: &mut Story) -> String {
    story.now = Stamp(story.now.0 + story.rng.random_range(0..20_000_000));
    let now = story.now;
    match story.rng.random_range(0..40) {
        0 | 1 => {
            let segment = Segment { id: SegmentId(story.id()), ..new_segment(&story.name()) };
            let done = unit!(db, tx => segments::create(tx, &segment, now));
            story.segments.extend(done.is_ok().then_some(segment.id));
            said("segment created", done)
        }
        2 => {
            let segment = Segment {
                id: story.segment(),
                description: Some(story.name()),
                ..new_segment(&story.name())
            };
            said("segment updated", unit!(db, tx => segments::update(tx, &segment, now)))
        }
        3 => {
            let id = story.segment();
            said("segment deleted", unit!(db, tx => segments::delete(tx, id, now)))
        }
        4..=6 => {
            let (segment, name) = (story.segment(), story.name());
            if segments::get(db, segment).await.is_err() {
                return "no host without a segment".into();
            }
            let host = Host {
                id: HostId(story.id()),
                serial: story.maybe().then(|| story.name()),
                ..new_host(segment, &name)
            };
            let done = unit!(db, tx => hosts::create(tx, &host, now));
            story.hosts.extend(done.is_ok().then_some(host.id));
            said("host created", done)
        }
        7 => {
            let (id, name, set) = (story.host(), story.name(), story.maybe());
            let edit = HostEdit {
                name: set.then_some(name),
                reserved: story.maybe().then(|| story.rng.random()),
                on_maintenance: story.maybe().then(|| story.rng.random()),
                ..HostEdit::default()
            };
            said("host edited", unit!(db, tx => hosts::edit(tx, id, &edit, now)))
        }
        8 => {
            let id = story.host();
            said("host deleted", unit!(db, tx => hosts::delete(tx, id, now)))
        }
        9 => {
            let marker = Some(story.host().0);
            let page = story.page(
                &["name", "type", "created_at", "updated_at", "on_maintenance", "uuid", "nonsense"],
                marker,
            );
            let filter =
                HostFilter { reserved: story.maybe().then(|| story.rng.random()), ..HostFilter::default() };
            said("hosts", look!(hosts::list(db, &filter, &page)))
        }
        10 => {
            let marker = Some(story.segment().0);
            let page = story.page(&["name", "description", "created_at", "enabled"], marker);
            said("segments", look!(segments::list(db, &SegmentFilter::default(), &page)))
        }
        11 => said("fleet", look!(hosts::all_living(db))),
        12 => {
            let (id, name) = (story.segment(), story.name());
            said(
                "reserved and by name",
                (look!(hosts::reserved_free(db, id)), look!(hosts::by_name(db, &name))),
            )
        }
        13..=16 => {
            let report = match story.reports.choose(&mut story.rng) {
                Some(old) if story.rng.random_ratio(1, 3) => {
                    Notification { id: NotificationId(uuid(&mut story.rng)), ..old.clone() }
                }
                _ => story.a_report(),
            };
            let done = unit!(db, tx => notifications::receive(tx, &report, WINDOW, now));
            story.reports.push(report);
            said("received", done)
        }
        17 => {
            let (host, marker) =
                (story.host(), story.reports.choose(&mut story.rng).map(|report| report.id.0));
            let page = story.page(&["generated_time", "type", "status", "payload", "message"], marker);
            let filter =
                NotificationFilter { host: story.maybe().then_some(host), ..NotificationFilter::default() };
            said(
                "reports",
                (look!(notifications::list(db, &filter, &page)), look!(notifications::list_new(db, 5))),
            )
        }
        18 => {
            let (host, segment) = (story.host(), story.segment());
            let free = (
                look!(hosts::check_free(db, host)).is_ok(),
                look!(hosts::check_segment_free(db, segment)).is_ok(),
            );
            said("free and seen", (free, look!(evidence::list(db, host, 5))))
        }
        19..=21 => {
            let report = match story.reports.choose(&mut story.rng) {
                Some(old) if story.maybe_const() => old.clone(),
                _ => story.a_report(),
            };
            let own = story.reports.iter().all(|known| known.id != report.id);
            let recovery = Recovery { id: RecoveryId(story.id()), ..new_recovery(&report) };
            let told = [story.an_event(Some(recovery.id))];
            let opening = Opening {
                recovery: &recovery,
                report: own.then_some(&report),
                audit: &[Entry::new("recovery_opened", "opened", json!({"at": 0.1}))],
                events: &told,
                webhooks: &hooks(),
            };
            let done = unit!(db, tx => recoveries::open(tx, &opening, now));
            if let Ok(Opened::New(recovery)) = &done {
                story.recoveries.push((**recovery).clone());
            }
            said("opened", done)
        }
        22 | 23 => {
            let Some(recovery) = story.recoveries.choose(&mut story.rng).cloned() else {
                return "nothing to claim".into();
            };
            let (engine, epoch) = (story.engine(), recovery.epoch - i64::from(story.rng.random_ratio(1, 6)));
            let done =
                unit!(db, tx => recoveries::claim(tx, recovery.id, epoch, recovery.owner, engine, now));
            story.learn(db, recovery.id).await;
            said("claimed", done)
        }
        24 => {
            let Some(recovery) = story.recoveries.choose(&mut story.rng).cloned() else {
                return "nothing to release".into();
            };
            let engine = recovery.owner.unwrap_or_else(|| story.engine());
            let done = unit!(db, tx => recoveries::release(tx, recovery.id, recovery.epoch, engine, now));
            story.learn(db, recovery.id).await;
            said("released", done)
        }
        25..=29 => {
            let Some(draft) = story.a_commit() else { return "nothing to commit".into() };
            let done = commit::apply(db, &draft, &hooks(), now).await.map_err(failed);
            if done.is_ok() {
                story.vmoves.extend(draft.vmoves.iter().cloned());
            }
            let id = draft.recovery.id;
            story.learn(db, id).await;
            let applied = look!(commit::was_applied(db, id, draft.nonce));
            let open: Vec<_> = intents::of_recovery(db, id).await.unwrap_or_default();
            said(
                "committed",
                (done, applied, open, look!(vmoves::of_recovery(db, id)), look!(events::of_recovery(db, id))),
            )
        }
        30 => {
            let marker = story.recoveries.choose(&mut story.rng).map(|recovery| recovery.id.0);
            let page = story.page(&["kind", "state", "host", "opened_at", "closed_at"], marker);
            let filter = RecoveryFilter {
                open: story.maybe().then(|| story.rng.random()),
                ..RecoveryFilter::default()
            };
            let listed = look!(recoveries::list(db, &filter, &page))
                .map(|rows| rows.into_iter().map(|row| row.1).collect::<Vec<_>>());
            said("recoveries", (listed, look!(recoveries::holders(db)), look!(recoveries::count_open(db))))
        }
        31 => {
            let Some(report) = story.reports.choose(&mut story.rng).map(|report| report.id) else {
                return "no report".into();
            };
            let page = story.page(&["instance_uuid", "status", "dest_host", "start_time"], None);
            let moves = look!(vmoves::list(db, report, &VmoveFilter::default(), &page));
            let (from, to) = (NotificationStatus::New, NotificationStatus::Ignored);
            let settled = if story.maybe() {
                unit!(db, tx => notifications::settle(tx, report, from, to, None, now))
            } else {
                Ok(false)
            };
            said("moves and settled", (moves, settled))
        }
        32 => wish(db, story, now).await,
        33 => deliver(db, story, now).await,
        34 => order(db, story, now).await,
        35 => engine(db, story, now).await,
        36 => {
            let row = SightingRow {
                host: story.host(),
                engine: story.engine(),
                boot: None,
                state: story.name(),
                since: now,
            };
            let forgotten =
                if story.maybe() { unit!(db, tx => sightings::forget(tx, row.engine)) } else { Ok(()) };
            said(
                "sighted",
                (forgotten, unit!(db, tx => sightings::record(tx, &row)), look!(sightings::list(db))),
            )
        }
        37 => {
            let (name, state, down) = (story.name(), story.name(), story.maybe());
            let (fresh, probe) = (ServiceId(story.id()), json!({"name": name}));
            let seen = Seen { name: &name, kind: "http", state: &state, down, reason: "r", probe: &probe };
            let done = unit!(db, tx => services::record(tx, fresh, &seen, now));
            said("service", (done, look!(services::list(db)), look!(services::downs(db, fresh, NOW))))
        }
        38 => {
            let (name, value, host) = (story.name(), story.name(), story.host());
            let set = unit!(db, tx => settings::set(tx, &name, &value, now));
            let row = ReportRow {
                id: story.id(),
                host,
                notification: None,
                answer: Value::from(value.as_str()),
                at: now,
            };
            let kept = unit!(db, tx => agent_reports::record(tx, &row));
            let gone = unit!(db, tx => agent_reports::forget_before(tx, Stamp(now.0 - 60_000_000)));
            said(
                "set",
                (
                    set,
                    look!(settings::get(db, &name)),
                    kept,
                    gone,
                    look!(agent_reports::seen(db, row.id, host)),
                ),
            )
        }
        _ => {
            let chain = story.name();
            let entry = [Entry::new("agent_lost", story.name(), json!({"n": 1.5}))];
            let done = unit!(db, tx => audit::append(tx, &chain, 0, &entry, now));
            let mark = if story.maybe() { unit!(db, tx => audit::checkpoint(tx, now)) } else { Ok(false) };
            let heads = look!(audit::heads(db)).map(|heads| heads.len());
            said("audit", (done, mark, heads, look!(audit::verify(db)), look!(audit::of_chain(db, &chain))))
        }
    }
}

async fn wish(db: &Db, story: &mut Story, now: Stamp) -> String {
    let (engine, other) = (story.engine(), story.engine());
    let wish = NewWish {
        id: WishId(story.id()),
        kind: "fence".into(),
        subject: story.name(),
        actor: "ann".into(),
        reason: story.name(),
        body: json!({"n": null}),
    };
    let made = unit!(db, tx => wishes::insert(tx, &wish, now));
    story.wishes.push(wish.id);
    let id = story.wishes[story.rng.random_range(0..story.wishes.len())];
    let seen = story.maybe().then_some(other);
    let taken = unit!(db, tx => wishes::take(tx, id, seen, engine));
    let done = unit!(db, tx => wishes::done(tx, id, true, &json!({"by": 1}), now));
    said("wished", (made, taken, done, look!(wishes::poll(db, 9)), look!(wishes::list(db, 4))))
}

async fn deliver(db: &Db, story: &mut Story, now: Stamp) -> String {
    let claimed = unit!(db, tx => deliveries::claim(tx, "tickets", 4, Duration::from_secs(30), now));
    story.claimed.extend(claimed.iter().flatten().map(|claimed| claimed.delivery.clone()));
    let mut recorded = Vec::new();
    if let Some(row) = story.claimed.choose(&mut story.rng).cloned() {
        let attempt = match story.rng.random_range(0..3) {
            0 => Attempt::Delivered,
            1 => Attempt::Failed { error: "refused", next_at: later(1) },
            _ => Attempt::Dead { error: "gone" },
        };
        recorded.push(unit!(db, tx => deliveries::record(tx, &row, attempt.clone(), now)));
        recorded.push(unit!(db, tx => deliveries::retry(tx, row.event, "chat", now)));
    }
    let waits = unit!(db, tx => bus::claim(tx, 5, Duration::from_secs(5), now));
    story.waiting.extend(waits.iter().flatten().cloned());
    let sent: Vec<_> = story.waiting.drain(..story.waiting.len() / 2).collect();
    let confirmed = unit!(db, tx => bus::confirmed(tx, &sent));
    let waits = waits.map(|rows| {
        rows.into_iter().map(|row| (row.event_type, row.payload, row.attempts)).collect::<Vec<_>>()
    });
    let bus =
        (waits, confirmed, look!(bus::waiting(db)), look!(bus::dropped(db)), look!(bus::is_due(db, now)));
    let dead = look!(deliveries::list(db, None, Some(DeliveryState::Dead), 3));
    let stream = look!(events::since(db, 0, 3));
    said("delivered", (claimed, recorded, dead, look!(deliveries::oldest_pending(db)), stream, bus))
}

async fn order(db: &Db, story: &mut Story, now: Stamp) -> String {
    let (id, host) = (story.id(), story.host());
    let made = unit!(db, tx => orders::insert(tx, id, host, "restart", &json!({"unit": "x"}), now));
    story.orders.push((id, host));
    let (id, host) = story.orders[story.rng.random_range(0..story.orders.len())];
    let done = unit!(db, tx => orders::done(tx, id, host, false, &json!(null), now));
    let mut pending = look!(orders::hosts_pending(db));
    pending.iter_mut().for_each(|hosts| hosts.sort_unstable());
    said("ordered", (made, done, pending, look!(orders::pending(db, host)), look!(orders::get(db, id))))
}

async fn engine(db: &Db, story: &mut Story, now: Stamp) -> String {
    let (id, name, detail) = (story.engine(), story.name(), json!({"v": 1}));
    let row = engines::list(db).await.unwrap_or_default().into_iter().find(|row| row.name == name);
    let seen = row.filter(|_| story.maybe_const()).map(|row| (row.id, row.counter));
    let registered = unit!(db, tx => engines::register(tx, &name, id, seen, false, &detail, now));
    let renewed = unit!(db, tx => engines::renew(tx, id, now));
    let stopped = if story.maybe() { unit!(db, tx => engines::stop(tx, id, now)) } else { Ok(()) };
    let forgotten = if story.maybe() { unit!(db, tx => engines::forget(tx, &name)) } else { Ok(false) };
    said("engine", (registered, renewed, stopped, forgotten, look!(engines::list(db))))
}

/// Fills a database with what a story leaves.
pub(crate) async fn lived(db: &Db, seed: u64) {
    db.speak_on_bus(Speaker { host: "ctl-1".into(), keep: 40 });
    let mut story = Story::new(seed);
    for _ in 0..STEPS {
        step(db, &mut story).await;
    }
}

/// Tells a story to a database.
async fn told(on: On, seed: u64) -> Vec<String> {
    let own = on.own().await.expect("it was asked before");
    let db = own.open(Access::Exclusive).await.expect("it opens");
    db.speak_on_bus(Speaker { host: "ctl-1".into(), keep: 40 });
    let mut story = Story::new(seed);
    let mut answers = Vec::with_capacity(STEPS);
    for _ in 0..STEPS {
        answers.push(step(&db, &mut story).await);
    }
    db.close().await;
    answers
}

/// The end of two stories that part, for whoever has to find out why.
fn parting(on: On, seed: u64, reference: &[String], other: &[String]) -> Option<String> {
    let at = (0..STEPS).find(|i| reference[*i] != other[*i])?;
    let before =
        reference[at.saturating_sub(15)..at].iter().map(|line| line.chars().take(160).collect::<String>());
    let before: Vec<_> = before.collect();
    // From shortly before where the two answers differ.
    let same = reference[at].chars().zip(other[at].chars()).take_while(|(a, b)| a == b).count();
    let cut = |text: &str| text.chars().skip(same.saturating_sub(400)).take(900).collect::<String>();
    Some(format!(
        "seed {seed}: at step {at} SQLite and {on:?} part\n{}\nSQLite: ..{}\n{on:?}: ..{}",
        before.join("\n"),
        cut(&reference[at]),
        cut(&other[at])
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_history_has_the_same_answers_everywhere() {
    let others: Vec<On> = EVERY.into_iter().filter(|on| on.server().is_some()).collect();
    let mut kinds = BTreeMap::<String, usize>::new();
    for seed in 1..=SEEDS {
        let reference = told(On::Sqlite, seed).await;
        for answer in &reference {
            let kind = answer.split(':').next().unwrap_or_default();
            let good = !answer.split(':').nth(1).is_some_and(|rest| rest.trim_start().starts_with("Err"));
            *kinds.entry(format!("{kind} {}", if good { "well" } else { "refused" })).or_default() += 1;
        }
        if seed == 1 {
            assert_eq!(told(On::Sqlite, seed).await, reference, "a story has one telling");
        }
        for on in &others {
            if let Some(text) = parting(*on, seed, &reference, &told(*on, seed).await) {
                panic!("{text}");
            }
        }
    }
    // That the stories reach what they are about.
    for kind in [
        "opened well",
        "committed well",
        "received well",
        "claimed well",
        "host created refused",
        "delivered well",
    ] {
        assert!(kinds.get(kind).copied().unwrap_or(0) >= 5, "{kind} is too rare: {kinds:?}");
    }
}

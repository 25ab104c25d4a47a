//! What waits for the message bus: written with what it tells of, claimed in order, bounded.

use std::time::Duration;

use halberd_core::bus::{Action, Fault, Priority, Subject};
use halberd_core::notification::NotificationStatus;
use halberd_core::runner::HostPatch;
use serde_json::Value;

use super::*;
use crate::bus::{self, Speaker, Waiting};
use crate::hosts::HostEdit;
use crate::{Error, commit, hosts, notifications, segments};

everywhere!(
    every_change_tells_and_what_fails_does_not,
    a_segment_takes_its_hosts_along_without_a_word_about_them,
    without_a_bus_nothing_is_written,
    the_work_on_a_report_is_told_with_its_true_status,
    an_engines_own_verdict_and_a_report_that_asks_for_nothing,
    a_refusal_is_a_start_and_an_error,
    a_claim_is_ours_until_it_runs_out_and_repeats_keep_their_id,
    a_younger_message_never_passes_an_older_of_its_object,
    a_clock_that_goes_back_holds_up_nothing,
    a_full_outbox_drops_its_oldest_and_counts_them,
);

const HOLD: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(180);

async fn telling(on: On, keep: i64) -> Kit {
    let kit = kit_on(on).await;
    kit.db.speak_on_bus(Speaker { host: "ctl-1".into(), keep });
    kit
}

/// Everything that waits, without claiming it.
async fn told(kit: &Kit) -> Vec<(String, Value)> {
    let mut rows = Vec::new();
    for row in kit.raw("SELECT num, event_type, payload FROM bus_outbox ORDER BY num").await {
        let row = row.of("bus_outbox", "num");
        let payload: Value = row.json("payload").unwrap();
        rows.push((row.string("event_type").unwrap(), payload["masakari_object.data"].clone()));
    }
    rows
}

async fn types(kit: &Kit) -> Vec<String> {
    told(kit).await.into_iter().map(|(event_type, _)| event_type).collect()
}

async fn clear(kit: &Kit) {
    write(&kit.db, async |tx| tx.exec("DELETE FROM bus_outbox", vec![]).await).await.unwrap();
}

async fn claim(kit: &Kit, limit: u32, now: Stamp) -> Vec<Waiting> {
    write(&kit.db, async |tx| bus::claim(tx, limit, HOLD, now).await).await.unwrap()
}

fn nums(claimed: &[Waiting]) -> Vec<i64> {
    claimed.iter().map(|message| message.num).collect()
}

/// Segments `names` are made: two messages about each.
async fn make(kit: &Kit, names: &[&str]) {
    for name in names {
        write(&kit.db, async |tx| segments::create(tx, &new_segment(name), NOW).await).await.unwrap();
    }
}

async fn every_change_tells_and_what_fails_does_not(on: On) {
    let kit = telling(on, 1000).await;
    let segment = new_segment("rack-b");
    let host = new_host(segment.id, "cmp-02");
    write(&kit.db, async |tx| {
        segments::create(tx, &segment, NOW).await?;
        hosts::create(tx, &host, NOW).await?;
        segments::update(tx, &Segment { name: "rack-c".into(), ..segment.clone() }, later(1)).await?;
        let edit = HostEdit { on_maintenance: Some(true), ..HostEdit::default() };
        hosts::edit(tx, host.id, &edit, later(2)).await?;
        // Where it stands is none of v1's business.
        let place = HostEdit { serial: Some(Some("S1".into())), ..HostEdit::default() };
        hosts::edit(tx, host.id, &place, later(2)).await?;
        hosts::delete(tx, host.id, later(3)).await?;
        segments::delete(tx, segment.id, later(4)).await
    })
    .await
    .unwrap();
    let told = told(&kit).await;
    let wanted = [
        "segment.create.start",
        "segment.create.end",
        "host.create.start",
        "host.create.end",
        "segment.update.start",
        "segment.update.end",
        "host.update.start",
        "host.update.end",
        "host.delete.start",
        "host.delete.end",
        "segment.delete.start",
        "segment.delete.end",
    ];
    assert_eq!(types(&kit).await, wanted);
    assert_eq!(told[1].1["uuid"], segment.id.to_string(), "create.end has ids, unlike the original's");
    assert!(told[1].1["id"].as_i64().is_some());
    assert_eq!(
        (&told[5].1["name"], &told[7].1["on_maintenance"]),
        (&Value::from("rack-c"), &Value::from(true))
    );
    let embedded = &told[7].1["failover_segment"]["masakari_object.data"];
    assert_eq!(embedded["name"], "rack-c");
    assert_eq!(told[11].1["id"], told[1].1["id"], "what is deleted is still named");

    clear(&kit).await;
    let taken = write(&kit.db, async |tx| {
        segments::create(tx, &new_segment("rack-d"), NOW).await?;
        segments::create(tx, &new_segment("rack-a"), NOW).await
    })
    .await;
    assert!(matches!(taken, Err(Error::Exists { .. })), "{taken:?}");
    assert_eq!(types(&kit).await, Vec::<String>::new(), "nothing happened, so nothing is told");
}

async fn a_segment_takes_its_hosts_along_without_a_word_about_them(on: On) {
    let kit = telling(on, 1000).await;
    write(&kit.db, async |tx| segments::delete(tx, kit.segment, NOW).await).await.unwrap();
    assert_eq!(types(&kit).await, ["segment.delete.start", "segment.delete.end"]);
}

async fn without_a_bus_nothing_is_written(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let mut draft = commit_of(&recovery);
    draft.notification = Some((NotificationStatus::Finished, None));
    draft.hosts = vec![(kit.host, HostPatch { maintenance_recovery: Some(true), ..HostPatch::default() })];
    commit::apply(&kit.db, &draft, &[], NOW).await.unwrap();
    write(&kit.db, async |tx| segments::create(tx, &new_segment("b"), NOW).await).await.unwrap();
    assert_eq!(kit.count("SELECT COUNT(*) FROM bus_outbox").await, 0);
}

async fn the_work_on_a_report_is_told_with_its_true_status(on: On) {
    let kit = telling(on, 1000).await;
    let report = host_down(kit.segment, kit.host);
    write(&kit.db, async |tx| notifications::receive(tx, &report, WINDOW, NOW).await).await.unwrap();
    let recovery = new_recovery(&report);
    let opening = Opening { recovery: &recovery, report: None, audit: &[], events: &[], webhooks: &[] };
    write(&kit.db, async |tx| crate::recoveries::open(tx, &opening, NOW).await).await.unwrap();
    let mut recovery =
        write(&kit.db, async |tx| crate::recoveries::claim(tx, recovery.id, 0, None, kit.engine, NOW).await)
            .await
            .unwrap()
            .unwrap();
    // A second report joins, and ends as the first does.
    let guest = guest_down(kit.segment, kit.host, "g");
    write(&kit.db, async |tx| {
        notifications::receive(tx, &guest, WINDOW, NOW).await?;
        notifications::join(tx, guest.id, recovery.id, NOW).await
    })
    .await
    .unwrap();
    let wanted = [
        "notification.create.start",
        "notification.create.end",
        "notification.process.start",
        "notification.create.start",
        "notification.create.end",
        "notification.process.start",
    ];
    assert_eq!(types(&kit).await, wanted);
    clear(&kit).await;

    let mut step = async |status, message: Option<&str>, patch: Option<HostPatch>| {
        let mut draft = commit_of(&recovery);
        draft.notification = Some((status, message.map(str::to_owned)));
        draft.hosts = patch.map(|patch| (kit.host, patch)).into_iter().collect();
        recovery.version = commit::apply(&kit.db, &draft, &[], later(9)).await.unwrap();
        let told = told(&kit).await;
        clear(&kit).await;
        told
    };
    let set = HostPatch { maintenance_recovery: Some(true), ..HostPatch::default() };
    let first = step(NotificationStatus::Running, None, Some(set.clone())).await;
    assert_eq!(first.len(), 2, "the host's; the report runs on: {first:?}");
    assert_eq!((first[1].0.as_str(), &first[1].1["on_maintenance"]), ("host.update.end", &Value::from(true)));
    assert_eq!(step(NotificationStatus::Running, None, Some(set)).await, [], "set again: nothing changed");

    let stuck = step(NotificationStatus::Error, Some("no fence device"), None).await;
    let types: Vec<&str> = stuck.iter().map(|(event_type, _)| event_type.as_str()).collect();
    assert_eq!(types, ["notification.process.error", "notification.process.error"], "both reports");
    assert_eq!(stuck[0].1["status"], "error");
    let fault = &stuck[0].1["fault"]["masakari_object.data"];
    assert_eq!(fault["exception"], "HostRecoveryFailureException");
    assert_eq!(fault["exception_message"], "no fence device");
    assert_eq!(stuck[1].1["fault"]["masakari_object.data"]["exception"], "InstanceRecoveryFailureException");

    let again = step(NotificationStatus::Running, None, None).await;
    assert_eq!((again[0].0.as_str(), &again[0].1["status"]), ("notification.process.start", &"error".into()));
    let end = step(NotificationStatus::Finished, None, None).await;
    assert_eq!((end[0].0.as_str(), &end[0].1["status"]), ("notification.process.end", &"finished".into()));
    assert_eq!(end[0].1["fault"], Value::Null);
}

async fn an_engines_own_verdict_and_a_report_that_asks_for_nothing(on: On) {
    let kit = telling(on, 1000).await;
    kit.open().await;
    let told_types = types(&kit).await;
    let own = ["notification.create.start", "notification.create.end", "notification.process.start"];
    assert_eq!(told_types, own);
    assert_eq!(told(&kit).await[2].1["status"], "new");
    clear(&kit).await;

    let up = report(kit.segment, kit.host, NotificationType::ComputeHost, &[("event", "STARTED")]);
    write(&kit.db, async |tx| {
        notifications::receive(tx, &up, WINDOW, NOW).await?;
        let (from, to) = (NotificationStatus::New, NotificationStatus::Ignored);
        notifications::settle(tx, up.id, from, to, Some("noted"), NOW).await?;
        // Somebody else's, too late.
        notifications::settle(tx, up.id, from, to, Some("noted"), NOW).await
    })
    .await
    .unwrap();
    let told = told(&kit).await;
    assert_eq!(told.len(), 4);
    assert_eq!((told[2].0.as_str(), &told[2].1["status"]), ("notification.process.start", &"new".into()));
    assert_eq!((told[3].0.as_str(), &told[3].1["status"]), ("notification.process.end", &"ignored".into()));
}

async fn a_refusal_is_a_start_and_an_error(on: On) {
    let kit = telling(on, 1000).await;
    let segment = new_segment("rack-a");
    let fault = Fault { exception: "FailoverSegmentExists", message: "taken".into() };
    write(&kit.db, async |tx| {
        bus::refused(tx, Subject::Segment(&segment, None), Action::Create, &fault, NOW).await
    })
    .await
    .unwrap();
    let claimed = claim(&kit, 10, NOW).await;
    let shown: Vec<_> = claimed.iter().map(|m| (m.event_type.as_str(), m.priority)).collect();
    let wanted = [("segment.create.start", Priority::Info), ("segment.create.error", Priority::Error)];
    assert_eq!(shown, wanted);
    assert_eq!(claimed[0].publisher, "masakari-api:ctl-1");
    assert_ne!(claimed[0].id, claimed[1].id);
}

async fn a_claim_is_ours_until_it_runs_out_and_repeats_keep_their_id(on: On) {
    let kit = telling(on, 1000).await;
    make(&kit, &["a", "b"]).await;
    let first = claim(&kit, 10, NOW).await;
    assert_eq!(first.len(), 4);
    assert!(claim(&kit, 10, later(29)).await.is_empty());
    assert!(!bus::is_due(&kit.db, later(29)).await.unwrap());
    let second = claim(&kit, 10, later(31)).await;
    assert_eq!(
        second.iter().map(|m| m.id).collect::<Vec<_>>(),
        first.iter().map(|m| m.id).collect::<Vec<_>>()
    );
    // The first claimer wakes: what it confirms is not its own any more.
    write(&kit.db, async |tx| bus::confirmed(tx, &first).await).await.unwrap();
    assert_eq!(bus::waiting(&kit.db).await.unwrap(), 4);
    write(&kit.db, async |tx| bus::confirmed(tx, &second[..1]).await).await.unwrap();
    write(&kit.db, async |tx| bus::give_back(tx, &second[1..]).await).await.unwrap();
    assert_eq!(nums(&claim(&kit, 10, later(31)).await), [2, 3, 4]);
    // Its process died, and nobody else can be at work.
    assert_eq!(write(&kit.db, async |tx| bus::release_all(tx).await).await.unwrap(), 3);
    assert_eq!(nums(&claim(&kit, 10, later(32)).await), [2, 3, 4]);
}

async fn a_younger_message_never_passes_an_older_of_its_object(on: On) {
    let kit = telling(on, 1000).await;
    make(&kit, &["a", "b"]).await;
    // 1 and 2 are about a, 3 and 4 about b. Another engine holds 1.
    let held = claim(&kit, 1, NOW).await;
    assert_eq!(nums(&held), [1]);
    let free = claim(&kit, 10, NOW).await;
    assert_eq!(nums(&free), [3, 4], "2 waits for 1");
    // The broker refuses 1 by itself: 2 goes on waiting.
    let pause = Duration::from_secs(5);
    write(&kit.db, async |tx| bus::postpone(tx, &held[0], "nack", pause, NOW).await).await.unwrap();
    assert!(claim(&kit, 10, later(4)).await.is_empty());
    let again = claim(&kit, 10, later(5)).await;
    assert_eq!((nums(&again), again[0].attempts), (vec![1, 2], 1));
}

async fn a_clock_that_goes_back_holds_up_nothing(on: On) {
    let kit = telling(on, 1000).await;
    make(&kit, &["a"]).await;
    assert_eq!(claim(&kit, 10, Stamp(NOW.0 - 3_600_000_000)).await.len(), 2);
}

async fn a_full_outbox_drops_its_oldest_and_counts_them(on: On) {
    let kit = telling(on, 100).await;
    let names: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
    make(&kit, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(bus::waiting(&kit.db).await.unwrap(), 100);
    assert_eq!(bus::dropped(&kit.db).await.unwrap(), 0);
    make(&kit, &["one more"]).await;
    assert_eq!(bus::waiting(&kit.db).await.unwrap(), 100);
    assert_eq!(bus::dropped(&kit.db).await.unwrap(), 2);
    assert_eq!(nums(&claim(&kit, 2, NOW).await), [3, 4], "the oldest went");
    // Gaps in the numbers are no messages: what was sent leaves room.
    kit.tamper("DELETE FROM bus_outbox WHERE num = 50", vec![]).await;
    kit.tamper("DELETE FROM bus_outbox WHERE num = 52", vec![]).await;
    make(&kit, &["fits"]).await;
    assert_eq!(bus::dropped(&kit.db).await.unwrap(), 2);
}

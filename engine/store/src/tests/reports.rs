//! Which reports are taken in, and what the others leave.

use std::time::Duration;

use halberd_core::notification::NotificationStatus as Status;

use super::*;
use crate::notifications::{self, NotificationFilter, Received};
use crate::{Error, agent_reports, evidence, hosts, recoveries, segments};

everywhere!(
    of_sixteen_equal_reports_at_once_one_is_accepted,
    an_equal_report_is_a_duplicate_only_within_both_windows,
    a_rejected_report_leaves_evidence_that_names_what_stands_for_it,
    that_a_host_is_down_is_a_duplicate_while_something_is_open_or_it_is_out,
    a_second_report_joins_the_open_recovery_and_ends_with_it,
    a_host_under_recovery_keeps_itself_and_its_segment_but_no_other_host,
    an_agents_report_is_answered_once,
);

const WINDOW: Duration = Duration::from_secs(180);
const GUEST: &str = "11111111-2222-3333-4444-555555555555";

async fn receive(kit: &Kit, report: &Notification, now: Stamp) -> Received {
    receive_by(&kit.db, report, now).await
}

async fn receive_by(db: &Db, report: &Notification, now: Stamp) -> Received {
    let report = Notification { id: NotificationId(Uuid::new_v4()), ..report.clone() };
    write(db, async |tx| notifications::receive(tx, &report, WINDOW, now).await).await.unwrap()
}

fn accepted(received: &Received) -> bool {
    matches!(received, Received::Accepted(_))
}

async fn of_sixteen_equal_reports_at_once_one_is_accepted(on: On) {
    for down in [true, false] {
        let kit = kit_on(on).await;
        let openings = [kit.db.clone(), kit.beside().await];
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (db, segment, host) = (openings[n % 2].clone(), kit.segment, kit.host);
                tokio::spawn(async move {
                    let report =
                        if down { host_down(segment, host) } else { guest_down(segment, host, GUEST) };
                    accepted(&receive_by(&db, &report, NOW).await)
                })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            won += i32::from(task.await.unwrap());
        }
        assert_eq!(won, 1);
        assert_eq!(kit.count("SELECT COUNT(*) FROM notifications").await, 1);
        assert_eq!(kit.count("SELECT COUNT(*) FROM evidence WHERE source = 'repeat'").await, 15);
    }
}

async fn an_equal_report_is_a_duplicate_only_within_both_windows(on: On) {
    let kit = kit_on(on).await;
    let report = guest_down(kit.segment, kit.host, GUEST);
    let at = |seconds| Notification { generated_at: later(seconds), ..report.clone() };
    assert!(accepted(&receive(&kit, &at(0), later(0)).await));
    assert!(!accepted(&receive(&kit, &at(1), later(1)).await));
    assert!(!accepted(&receive(&kit, &at(-9999), later(2)).await), "a clock far behind");
    assert!(!accepted(&receive(&kit, &at(180), later(180)).await), "the edge still counts");
    assert!(accepted(&receive(&kit, &at(181), later(3)).await), "181 s newer by the reporter's clock");
    assert!(accepted(&receive(&kit, &at(0), later(400)).await), "received long after");
    let other = guest_down(kit.segment, kit.host, "99999999-2222-3333-4444-555555555555");
    assert!(accepted(&receive(&kit, &other, later(1)).await), "another guest");
}

async fn a_rejected_report_leaves_evidence_that_names_what_stands_for_it(on: On) {
    let kit = kit_on(on).await;
    let report = guest_down(kit.segment, kit.host, GUEST);
    let Received::Accepted(kept) = receive(&kit, &report, NOW).await else { panic!("the first one") };
    let from = evidence::last(&kit.db).await.unwrap();
    let Received::Duplicate { of, .. } = receive(&kit, &report, later(5)).await else {
        panic!("the second one")
    };
    assert_eq!(of, Some(kept.id));
    let seen = evidence::since(&kit.db, from, 10).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].evidence.source.as_str(), seen[0].evidence.notification), (evidence::REPEAT, of));
    assert_eq!(seen[0].evidence.detail["payload"]["instance_uuid"], GUEST);
    assert_eq!(evidence::list(&kit.db, kit.host, 5).await.unwrap(), seen);
}

async fn that_a_host_is_down_is_a_duplicate_while_something_is_open_or_it_is_out(on: On) {
    let kit = kit_on(on).await;
    let down = host_down(kit.segment, kit.host);
    // The payload may differ: it is the same claim.
    let mut same = down.clone();
    same.payload.insert("cluster_status".into(), "OFFLINE".into());
    let Received::Accepted(first) = receive(&kit, &down, NOW).await else { panic!("the first one") };
    assert!(!accepted(&receive(&kit, &same, later(9999)).await), "however late, while the first is new");
    let settle = async |from, to| {
        write(&kit.db, async |tx| {
            notifications::settle(tx, first.id, from, to, Some("looked into"), NOW).await
        })
        .await
        .unwrap()
    };
    assert!(settle(Status::New, Status::Finished).await);
    assert!(!settle(Status::New, Status::Finished).await, "only from the status it was read with");

    // Not a duplicate however soon, once all is closed: the host may die again within the window.
    kit.tamper("UPDATE hosts SET admission = 'out'", vec![]).await;
    assert!(!accepted(&receive(&kit, &down, later(1)).await), "still out");
    kit.tamper("UPDATE hosts SET admission = 'in'", vec![]).await;
    let Received::Accepted(second) = receive(&kit, &down, later(1)).await else { panic!("it died again") };
    assert!(settle(Status::Finished, Status::Failed).await);

    // A recovery without any open report of a caller holds them off as well.
    write(&kit.db, async |tx| {
        notifications::settle(tx, second.id, Status::New, Status::Ignored, None, NOW).await
    })
    .await
    .unwrap();
    kit.open().await;
    assert!(!accepted(&receive(&kit, &same, later(2)).await), "its recovery is open");
}

async fn a_second_report_joins_the_open_recovery_and_ends_with_it(on: On) {
    let kit = kit_on(on).await;
    let started = report(
        kit.segment,
        kit.host,
        NotificationType::Process,
        &[("event", "STOPPED"), ("process_name", "x")],
    );
    let recovery = kit.claimed().await;
    let Received::Accepted(second) = receive(&kit, &started, NOW).await else { panic!("another kind") };
    let joining = Recovery { id: RecoveryId(Uuid::new_v4()), notification: second.id, ..recovery.clone() };
    let opened = write(&kit.db, async |tx| {
        let opening = Opening { recovery: &joining, report: None, audit: &[], events: &[], webhooks: &[] };
        recoveries::open(tx, &opening, NOW).await
    });
    assert_eq!(opened.await.unwrap(), Opened::AlreadyOpen(recovery.id));
    assert!(notifications::list_new(&kit.db, 10).await.unwrap().is_empty());
    let mut commit = commit_of(&recovery);
    commit.notification = Some((Status::Failed, Some("no host left".into())));
    crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    for id in [second.id, recovery.notification] {
        assert_eq!(notifications::get(&kit.db, id).await.unwrap().status, Status::Failed);
    }
}

async fn a_host_under_recovery_keeps_itself_and_its_segment_but_no_other_host(on: On) {
    let kit = kit_on(on).await;
    let other = kit.add_host("cmp-02").await;
    receive(&kit, &guest_down(kit.segment, kit.host, GUEST), NOW).await;
    let remove = async |id| write(&kit.db, async |tx| hosts::delete(tx, id, NOW).await).await;
    let remove_segment =
        async || write(&kit.db, async |tx| segments::delete(tx, kit.segment, NOW).await).await;
    assert!(matches!(remove(kit.host).await, Err(Error::InUse { what: "host", .. })));
    assert!(matches!(remove_segment().await, Err(Error::InUse { what: "segment", .. })));
    remove(other).await.expect("not under recovery");
    kit.tamper("UPDATE notifications SET status = 'finished'", vec![]).await;
    remove_segment().await.expect("all settled");
    assert!(
        matches!(hosts::get(&kit.db, kit.host).await, Err(Error::NotFound { .. })),
        "its hosts went with it"
    );
    let reports =
        notifications::list(&kit.db, &NotificationFilter::default(), &Default::default()).await.unwrap();
    assert_eq!(reports.len(), 1, "reports stay");
}

async fn an_agents_report_is_answered_once(on: On) {
    let kit = kit_on(on).await;
    let other = kit.add_host("cmp-02").await;
    let id = Uuid::new_v4();
    let answered = agent_reports::ReportRow {
        id,
        host: kit.host,
        notification: None,
        answer: json!({"ok": true}),
        at: NOW,
    };
    assert_eq!(agent_reports::seen(&kit.db, id, kit.host).await.unwrap(), None);
    write(&kit.db, async |tx| agent_reports::record(tx, &answered).await).await.unwrap();
    assert_eq!(agent_reports::seen(&kit.db, id, kit.host).await.unwrap(), Some(answered));
    assert!(matches!(agent_reports::seen(&kit.db, id, other).await, Err(Error::Exists { .. })));
}

//! Events and their deliveries.

use std::time::Duration;

use super::*;
use crate::deliveries::{self, Attempt, DeliveryState};
use crate::events;

everywhere!(
    sequences_have_no_gaps_under_concurrency_and_failure,
    a_delivery_is_claimed_retried_and_delivered_or_dead,
    a_younger_event_waits_for_the_older_of_its_recovery_but_not_for_ever,
);

const HOLD: Duration = Duration::from_secs(30);

async fn claim(kit: &Kit, hook: &str, now: Stamp) -> Vec<deliveries::Claimed> {
    write(&kit.db, async |tx| deliveries::claim(tx, hook, 10, HOLD, now).await).await.unwrap()
}

async fn end(kit: &Kit, claimed: &deliveries::Claimed, attempt: Attempt<'_>, now: Stamp) -> bool {
    write(&kit.db, async |tx| deliveries::record(tx, &claimed.delivery, attempt.clone(), now).await)
        .await
        .unwrap()
}

async fn sequences_have_no_gaps_under_concurrency_and_failure(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.open().await;
    let tasks: Vec<_> = (0..24)
        .map(|n| {
            let (db, id) = (kit.db.clone(), recovery.id);
            tokio::spawn(async move {
                let batch = [event(Some(id)), event(None), event(Some(id))];
                write(&db, async |tx| {
                    events::publish(tx, &batch, 1, &[], NOW).await?;
                    // Every third unit fails after it took its numbers.
                    if n % 3 == 0 { Err(crate::Error::not_found("test", n)) } else { Ok(()) }
                })
                .await
                .is_ok()
            })
        })
        .collect();
    let mut published = 0;
    for task in tasks {
        published += i64::from(task.await.unwrap());
    }
    assert_eq!(published, 16);
    let sequences: Vec<_> = events::of_recovery(&kit.db, recovery.id)
        .await
        .unwrap()
        .iter()
        .map(|row| row.sequence.unwrap())
        .collect();
    assert_eq!(sequences, (1..=1 + 2 * published).collect::<Vec<_>>());
    let all = events::since(&kit.db, 0, 1000).await.unwrap();
    assert_eq!(all.len() as i64, 1 + 3 * published);
    let tail = events::since(&kit.db, all[10].num, 5).await.unwrap();
    assert_eq!(tail, all[11..16]);
    assert_eq!(events::get(&kit.db, all[3].event.id).await.unwrap(), all[3]);
    assert_eq!(events::last(&kit.db).await.unwrap(), all.last().unwrap().num);
}

async fn a_delivery_is_claimed_retried_and_delivered_or_dead(on: On) {
    let kit = kit_on(on).await;
    kit.open().await;
    let first = claim(&kit, "tickets", NOW).await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].event().kind, EventKind::RecoveryOpened);
    assert!(claim(&kit, "tickets", later(29)).await.is_empty(), "held by the first claim");
    assert_eq!(claim(&kit, "chat", NOW).await.len(), 1, "each webhook has its own");

    // The first claimer died: the row falls due again, and its late answer counts for nothing.
    let second = claim(&kit, "tickets", later(31)).await;
    assert_eq!(second.len(), 1);
    assert!(!end(&kit, &first[0], Attempt::Delivered, later(32)).await);
    assert!(end(&kit, &second[0], Attempt::Failed { error: "503", next_at: later(40) }, later(32)).await);
    assert!(claim(&kit, "tickets", later(39)).await.is_empty());
    let third = claim(&kit, "tickets", later(40)).await;
    assert_eq!((third[0].delivery.attempts, third[0].delivery.last_error.as_deref()), (1, Some("503")));
    assert!(end(&kit, &third[0], Attempt::Dead { error: "410" }, later(41)).await);
    assert!(claim(&kit, "tickets", later(4000)).await.is_empty());
    let dead = deliveries::list(&kit.db, Some("tickets"), Some(DeliveryState::Dead), 10).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 2));

    let event = dead[0].event;
    assert!(
        write(&kit.db, async |tx| deliveries::retry(tx, event, "tickets", later(50)).await).await.unwrap()
    );
    let fourth = claim(&kit, "tickets", later(50)).await;
    assert!(end(&kit, &fourth[0], Attempt::Delivered, later(51)).await);
    assert!(
        !write(&kit.db, async |tx| deliveries::retry(tx, event, "tickets", later(52)).await).await.unwrap()
    );
    assert_eq!(
        deliveries::list(&kit.db, None, Some(DeliveryState::Pending), 10).await.unwrap().len(),
        1,
        "chat's"
    );
    assert_eq!(deliveries::oldest_pending(&kit.db).await.unwrap(), Some(NOW));
}

async fn a_younger_event_waits_for_the_older_of_its_recovery_but_not_for_ever(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.open().await;
    let other = event(None);
    let younger = event(Some(recovery.id));
    write(&kit.db, async |tx| events::publish(tx, &[younger.clone(), other.clone()], 1, &hooks(), NOW).await)
        .await
        .unwrap();
    let mut now = NOW;
    for round in 0..deliveries::HEAD_OF_LINE_ATTEMPTS {
        let due = claim(&kit, "tickets", now).await;
        assert!(
            due.iter().all(|claimed| claimed.event().id != younger.id),
            "round {round}: the older one is first"
        );
        assert_eq!(
            due.iter().any(|claimed| claimed.event().id == other.id),
            round == 0,
            "another's never waits"
        );
        for claimed in &due {
            let attempt = if claimed.event().id == other.id {
                Attempt::Delivered
            } else {
                Attempt::Failed { error: "503", next_at: now }
            };
            assert!(end(&kit, claimed, attempt, now).await);
        }
        now = Stamp(now.0 + 1);
    }
    let due = claim(&kit, "tickets", now).await;
    assert!(due.iter().any(|claimed| claimed.event().id == younger.id), "out of order in the end");
}

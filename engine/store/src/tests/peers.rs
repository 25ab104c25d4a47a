//! What several engines write beside one another: marks in each other's rows, the fence ledger, answers, claims.

use halberd_core::id::WishId;

use super::*;
use crate::commit::{Beside, apply_beside};
use crate::fence_ledger::{self, Fence};
use crate::wishes::{self, Answer, NewWish};
use crate::{Error, engines, recoveries};

everywhere!(
    of_ten_engines_one_marks_a_death,
    a_renewal_says_what_it_says_and_wipes_marks_of_others,
    orders_of_many_engines_are_all_in_the_ledger,
    the_ledgers_clock_ticks_once_for_all_who_saw_it_stand,
    a_wish_is_answered_with_its_transition_or_not_at_all,
    a_newer_workflow_is_not_claimed,
);

async fn registered(kit: &Kit, name: &str) -> EngineId {
    let id = EngineId(Uuid::new_v4());
    let detail = json!({"version": "1"});
    write(&kit.db, async |tx| engines::register(tx, name, id, None, false, &detail, NOW).await)
        .await
        .unwrap();
    id
}

async fn of_ten_engines_one_marks_a_death(on: On) {
    let kit = kit_on(on).await;
    let dead = registered(&kit, "ctl-1").await;
    let mark = |n: i64| {
        let db = kit.db.clone();
        async move { write(&db, async |tx| engines::mark_dead(tx, dead, 1, later(n)).await).await }
    };
    let all: Vec<_> = (0..10).map(|n| tokio::spawn(mark(n))).collect();
    let mut told = 0;
    for one in all {
        // Nine find it told, or were in each other's way too often: those look again.
        told += u32::from(one.await.unwrap().unwrap_or(false));
    }
    assert_eq!(told, 1);
    let live = registered(&kit, "ctl-2").await;
    write(&kit.db, async |tx| engines::renew(tx, live, later(1)).await).await.unwrap();
    let late = write(&kit.db, async |tx| engines::mark_dead(tx, live, 1, later(2)).await).await.unwrap();
    assert!(!late, "it has renewed since it was seen");
    write(&kit.db, async |tx| engines::stop(tx, live, later(3)).await).await.unwrap();
    let stopped = write(&kit.db, async |tx| engines::mark_dead(tx, live, 3, later(4)).await).await.unwrap();
    assert!(!stopped, "it did not die");
}

async fn a_renewal_says_what_it_says_and_wipes_marks_of_others(on: On) {
    let kit = kit_on(on).await;
    let id = registered(&kit, "ctl-1").await;
    let row = async || engines::list(&kit.db).await.unwrap().remove(0);
    write(&kit.db, async |tx| engines::note(tx, id, "openstack", &json!({"ok": true})).await).await.unwrap();
    write(&kit.db, async |tx| engines::mark_awaited(tx, id, 1, EngineId(Uuid::new_v4())).await)
        .await
        .unwrap();
    write(&kit.db, async |tx| engines::mark_dead(tx, id, 1, NOW).await).await.unwrap();
    let marked = row().await;
    assert!(engines::is_awaited(&marked) && engines::is_marked_dead(&marked), "{}", marked.detail);
    assert_eq!((&marked.detail["version"], &marked.detail["openstack"]["ok"]), (&json!("1"), &json!(true)));
    let said = json!({"version": "1", "lag_ms": 7, "beats_per_second": 2.5});
    let renewed =
        write(&kit.db, async |tx| engines::renew_saying(tx, id, &said, later(1)).await).await.unwrap();
    assert_eq!((renewed, row().await.detail), (Some(2), said.clone()));
    let other = EngineId(Uuid::new_v4());
    let gone =
        write(&kit.db, async |tx| engines::renew_saying(tx, other, &said, later(1)).await).await.unwrap();
    assert_eq!(gone, None);
}

fn fence(kit: &Kit) -> Fence {
    Fence { intent: Uuid::new_v4(), host: kit.host, tick: 0, read_on: true, agent: false, open: true }
}

async fn orders_of_many_engines_are_all_in_the_ledger(on: On) {
    let kit = kit_on(on).await;
    assert_eq!(fence_ledger::read(&kit.db).await.unwrap(), (fence_ledger::Ledger::default(), 0));
    let all: Vec<_> = (0..4)
        .map(|_| {
            let (db, fence) = (kit.db.clone(), fence(&kit));
            tokio::spawn(async move {
                // As an engine does: what was in others' way is done again.
                while let Err(error) = write(&db, async |tx| {
                    fence_ledger::record(tx, std::slice::from_ref(&fence), &[], NOW).await
                })
                .await
                {
                    assert!(matches!(error, Error::Conflict { .. }), "{error}");
                }
                fence.intent
            })
        })
        .collect();
    let mut written = Vec::new();
    for one in all {
        written.push(one.await.unwrap());
    }
    let (ledger, _) = fence_ledger::read(&kit.db).await.unwrap();
    let mut known: Vec<Uuid> = ledger.fences.iter().map(|fence| fence.intent).collect();
    known.sort();
    written.sort();
    assert_eq!(known, written);
    // A commit of an engine that lost its recovery enters nothing.
    let recovery = kit.claimed().await;
    let stale = Recovery { epoch: recovery.epoch - 1, ..recovery.clone() };
    let beside = Beside { fences: vec![fence(&kit)], ended: vec![written[0]], ..Beside::default() };
    assert!(apply_beside(&kit.db, &commit_of(&stale), &beside, &[], NOW).await.is_err());
    assert_eq!(fence_ledger::read(&kit.db).await.unwrap().0, ledger);
    apply_beside(&kit.db, &commit_of(&recovery), &beside, &[], NOW).await.unwrap();
    let (ledger, _) = fence_ledger::read(&kit.db).await.unwrap();
    assert_eq!(ledger.fences.iter().filter(|fence| fence.open).count(), 4);
    assert_eq!(ledger.fences.len(), 5);
}

async fn the_ledgers_clock_ticks_once_for_all_who_saw_it_stand(on: On) {
    let kit = kit_on(on).await;
    let tick = async |seen| write(&kit.db, async |tx| fence_ledger::tick(tx, seen, NOW).await).await.unwrap();
    assert!(!tick(0).await, "nothing to keep time for");
    let one = fence(&kit);
    write(&kit.db, async |tx| fence_ledger::record(tx, &[one], &[], NOW).await).await.unwrap();
    let (_, version) = fence_ledger::read(&kit.db).await.unwrap();
    assert!(tick(version).await);
    assert!(!tick(version).await, "another saw the same");
    assert_eq!(fence_ledger::read(&kit.db).await.unwrap().0.tick, 1);
}

async fn a_wish_is_answered_with_its_transition_or_not_at_all(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let wish = NewWish {
        id: WishId(Uuid::new_v4()),
        kind: "release".into(),
        subject: recovery.id.to_string(),
        actor: "ann".into(),
        reason: "looked".into(),
        body: json!({}),
    };
    write(&kit.db, async |tx| wishes::insert(tx, &wish, NOW).await).await.unwrap();
    let result = json!({"text": "released", "recovery": recovery.id, "gate": "rate"});
    let answer = Answer { wish: wish.id, succeeded: true, result: result.clone() };
    let beside = Beside { answers: vec![answer], ..Beside::default() };
    let stale = Recovery { version: recovery.version + 1, ..recovery.clone() };
    assert!(apply_beside(&kit.db, &commit_of(&stale), &beside, &[], NOW).await.is_err());
    assert!(wishes::is_open(&kit.db, wish.id).await.unwrap());
    write(&kit.db, async |tx| wishes::say(tx, wish.id, &json!({"text": "in hand"})).await).await.unwrap();
    let said = wishes::get(&kit.db, wish.id).await.unwrap();
    assert_eq!((said.result, said.succeeded), (Some(json!({"text": "in hand"})), None));
    assert_eq!(wishes::granted(&kit.db, "release").await.unwrap(), []);
    apply_beside(&kit.db, &commit_of(&recovery), &beside, &[], NOW).await.unwrap();
    assert!(!wishes::is_open(&kit.db, wish.id).await.unwrap());
    let granted = wishes::granted(&kit.db, "release").await.unwrap();
    assert_eq!(granted.iter().map(|row| row.result.clone()).collect::<Vec<_>>(), [Some(result)]);
    assert!(!write(&kit.db, async |tx| wishes::say(tx, wish.id, &json!({})).await).await.unwrap());
}

async fn a_newer_workflow_is_not_claimed(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let claim = async |owner| {
        let seen = (recovery.id, recovery.epoch);
        let claimed = write(&kit.db, async |tx| {
            recoveries::claim(tx, seen.0, seen.1, owner, EngineId(Uuid::new_v4()), NOW).await
        });
        claimed.await.unwrap()
    };
    let newer = WORKFLOW_VERSION + 1;
    write(&kit.db, async |tx| recoveries::set_workflow(tx, recovery.id, newer).await).await.unwrap();
    assert_eq!(claim(recovery.owner).await, None);
    assert_eq!(recoveries::holders(&kit.db).await.unwrap()[0].workflow, newer);
    write(&kit.db, async |tx| recoveries::set_workflow(tx, recovery.id, WORKFLOW_VERSION).await)
        .await
        .unwrap();
    assert!(claim(recovery.owner).await.is_some());
}

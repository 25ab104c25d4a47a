//! One transition is one transaction.

use halberd_core::admission::{HostReturn, ReturnState};
use halberd_core::audit::Entry;
use halberd_core::hook::{HookRun, HookSpec, Hooks, OnFailure, Point, RunState};
use halberd_core::host::Admission;
use halberd_core::id::EngineId;
use halberd_core::notification::NotificationStatus;
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{Body, Stage, Subject, VmoveStatus};
use halberd_core::runner::{HostCondition, HostPatch, Resolution};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{Error, audit, events, hosts, intents, notifications, recoveries, vmoves};

everywhere!(
    everything_of_a_commit_can_be_read_back,
    a_condition_that_fails_last_leaves_nothing_of_the_commit,
    a_reserved_host_is_taken_once,
    what_waits_in_a_hosts_queue_is_kept_once_until_it_is_let_in,
    an_old_version_epoch_or_owner_writes_nothing,
    one_open_intent_for_a_guest_until_it_is_resolved,
    closing_frees_the_subject_and_opens_the_way_back,
    a_way_back_that_is_open_begins_afresh_in_anybodys_hands,
    what_a_way_back_opens_takes_the_report_along,
    a_process_on_its_way_back_holds_neither_its_host_nor_a_report,
    five_hundred_moves_are_written_and_overwritten_in_one_commit,
    of_many_claimers_one_wins_and_epochs_only_grow,
    a_subject_is_opened_once_however_many_try,
    a_held_hook_is_stored_and_shown_in_the_state,
);

/// A commit that touches every table.
fn full(kit: &Kit, recovery: &Recovery, n: usize) -> Commit {
    let mut commit = commit_of(recovery);
    commit.vmoves = (0..n).map(|i| vmove(recovery, i)).collect();
    commit.intents = commit
        .vmoves
        .iter()
        .map(|vmove| intent(recovery, Some(format!("guest:{}", vmove.instance))))
        .collect();
    commit.hosts = vec![(kit.host, HostPatch { admission: Some(Admission::Out), ..HostPatch::default() })];
    commit.notification = Some((NotificationStatus::Error, Some("asks a person".into())));
    commit.audit = vec![Entry::new("evacuation_ordered", "ordered", json!({"guests": n}))];
    commit.events = vec![event(Some(recovery.id))];
    commit
}

async fn counts(kit: &Kit) -> Vec<i64> {
    vec![
        kit.count("SELECT COUNT(*) FROM vmoves").await,
        kit.count("SELECT COUNT(*) FROM intents").await,
        kit.count("SELECT COUNT(*) FROM audit").await,
        kit.count("SELECT COUNT(*) FROM events").await,
        kit.count("SELECT COUNT(*) FROM deliveries").await,
        kit.count("SELECT COALESCE(MAX(version), 0) AS n FROM recoveries").await,
        kit.count("SELECT COALESCE(MAX(version), 0) AS n FROM hosts").await,
        kit.count("SELECT COUNT(*) FROM notifications WHERE status = 'error'").await,
    ]
}

async fn everything_of_a_commit_can_be_read_back(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let commit = full(&kit, &recovery, 3);
    let version = crate::commit::apply(&kit.db, &commit, &hooks(), later(1)).await.unwrap();
    assert_eq!(version, recovery.version + 1);
    assert_eq!(
        recoveries::get(&kit.db, recovery.id).await.unwrap(),
        Recovery { version, ..recovery.clone() }
    );
    assert_eq!(vmoves::of_recovery(&kit.db, recovery.id).await.unwrap(), commit.vmoves);
    let mut open: Vec<_> =
        intents::open_of_host(&kit.db, kit.host).await.unwrap().into_iter().map(|row| row.intent).collect();
    let mut sent = commit.intents.clone();
    open.sort_by_key(|intent| intent.id);
    sent.sort_by_key(|intent| intent.id);
    assert_eq!(open, sent);
    let host = hosts::get(&kit.db, kit.host).await.unwrap();
    assert_eq!((host.admission, host.version), (Admission::Out, 2));
    let report = notifications::get(&kit.db, recovery.notification).await.unwrap();
    assert_eq!(
        (report.status, report.message.as_deref()),
        (NotificationStatus::Error, Some("asks a person"))
    );
    let sequences: Vec<_> =
        events::of_recovery(&kit.db, recovery.id).await.unwrap().iter().map(|row| row.sequence).collect();
    assert_eq!(sequences, [Some(1), Some(2)]);
    assert_eq!(kit.count("SELECT COUNT(*) FROM deliveries").await, 4, "two events to two webhooks");
    let whats: Vec<_> = audit::of_recovery(&kit.db, recovery.id)
        .await
        .unwrap()
        .into_iter()
        .map(|link| link.entry.what)
        .collect();
    assert_eq!(whats, ["recovery_opened", "evacuation_ordered"]);
    assert!(crate::commit::was_applied(&kit.db, recovery.id, commit.nonce).await.unwrap());
    assert!(!crate::commit::was_applied(&kit.db, recovery.id, Uuid::new_v4()).await.unwrap());
}

async fn a_condition_that_fails_last_leaves_nothing_of_the_commit(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let before = counts(&kit).await;
    for (condition, why) in [
        (HostCondition::ReservedAndFree, "not in reserve"),
        (HostCondition::BootNumber(2), "boot 1 and not on boot 2"),
        (HostCondition::Admission(Admission::Admitted), "not admitted"),
    ] {
        let mut commit = full(&kit, &recovery, 2);
        let other = kit.add_host(why).await;
        let before = counts(&kit).await;
        commit.hosts.push((other, HostPatch { only_if: Some(condition), ..HostPatch::default() }));
        match crate::commit::apply(&kit.db, &commit, &hooks(), NOW).await {
            Err(Error::Condition { host, what }) => assert!(host == other && what.contains(why), "{what}"),
            wrong => panic!("{wrong:?}"),
        }
        assert_eq!(counts(&kit).await, before);
    }
    // Without the condition the same commit goes through: it was the condition that stopped it.
    crate::commit::apply(&kit.db, &full(&kit, &recovery, 2), &hooks(), NOW).await.unwrap();
    assert_ne!(counts(&kit).await, before);
}

async fn what_waits_in_a_hosts_queue_is_kept_once_until_it_is_let_in(on: On) {
    let kit = kit_on(on).await;
    let mut recovery = kit.claimed().await;
    let guest = |n: u128| InstanceId(Uuid::from_u128(n));
    let strand = |n| HostPatch { strand: Some(guest(n)), ..HostPatch::default() };
    let mut step = async |hosts: Vec<HostPatch>| {
        let mut commit = commit_of(&recovery);
        commit.hosts = hosts.into_iter().map(|patch| (kit.host, patch)).collect();
        recovery.version = crate::commit::apply(&kit.db, &commit, &hooks(), later(1)).await.unwrap();
        hosts::get(&kit.db, kit.host).await.unwrap().value.stranded
    };
    assert_eq!(step(vec![strand(7), strand(8)]).await, [guest(7), guest(8)]);
    assert_eq!(step(vec![strand(7)]).await, [guest(7), guest(8)], "a second word about it changes nothing");
    assert_eq!(step(vec![HostPatch::default()]).await, [guest(7), guest(8)]);
    let admitted = HostPatch { unstrand: true, admission: Some(Admission::Admitted), ..HostPatch::default() };
    assert_eq!(step(vec![admitted]).await, []);
    assert_eq!(step(vec![strand(9)]).await, [guest(9)], "its next death");
}

async fn a_reserved_host_is_taken_once(on: On) {
    let kit = kit_on(on).await;
    let reserve = kit.add_host("spare").await;
    kit.tamper("UPDATE hosts SET reserved = 1 WHERE name = 'spare'", vec![]).await;
    let recovery = kit.claimed().await;
    let take = |recovery: &Recovery| {
        let mut commit = commit_of(recovery);
        let patch = HostPatch {
            reserved: Some((true, Some(recovery.id))),
            only_if: Some(HostCondition::ReservedAndFree),
            ..HostPatch::default()
        };
        commit.hosts = vec![(reserve, patch)];
        commit
    };
    assert_eq!(hosts::reserved_free(&kit.db, kit.segment).await.unwrap().len(), 1);
    let version = crate::commit::apply(&kit.db, &take(&recovery), &[], NOW).await.unwrap();
    assert!(hosts::reserved_free(&kit.db, kit.segment).await.unwrap().is_empty());
    let again = Recovery { version, ..recovery };
    let second = crate::commit::apply(&kit.db, &take(&again), &[], NOW).await;
    assert!(matches!(second, Err(Error::Condition { host, .. }) if host == reserve));
}

async fn an_old_version_epoch_or_owner_writes_nothing(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let stale = [
        Recovery { version: recovery.version - 1, ..recovery.clone() },
        Recovery { epoch: recovery.epoch - 1, ..recovery.clone() },
        Recovery { owner: Some(EngineId(Uuid::new_v4())), ..recovery.clone() },
        Recovery { owner: None, ..recovery.clone() },
    ];
    let before = counts(&kit).await;
    for old in stale {
        let lost = crate::commit::apply(&kit.db, &full(&kit, &old, 1), &hooks(), NOW).await;
        assert!(matches!(lost, Err(Error::Lost(id)) if id == recovery.id), "{lost:?}");
        assert_eq!(counts(&kit).await, before);
    }
    assert!(crate::commit::apply(&kit.db, &full(&kit, &recovery, 1), &hooks(), NOW).await.is_ok());
}

async fn one_open_intent_for_a_guest_until_it_is_resolved(on: On) {
    let kit = kit_on(on).await;
    let mut recovery = kit.claimed().await;
    let key = "guest:1".to_owned();
    let held = intent(&recovery, Some(key.clone()));
    let mut first = commit_of(&recovery);
    first.intents = vec![held.clone()];
    recovery.version = crate::commit::apply(&kit.db, &first, &[], NOW).await.unwrap();

    let mut second = commit_of(&recovery);
    second.intents = vec![intent(&recovery, None), intent(&recovery, Some(key.clone()))];
    let refused = crate::commit::apply(&kit.db, &second, &[], NOW).await;
    assert!(matches!(refused, Err(Error::IntentOpen { key: ref open }) if *open == key), "{refused:?}");
    assert_eq!(kit.count("SELECT COUNT(*) FROM intents").await, 1);

    // The repeat resolves what it repeats in the same commit.
    second.resolved =
        vec![Resolution { intent: held.id, result: "refused".into(), detail: json!({"code": 409}) }];
    recovery.version = crate::commit::apply(&kit.db, &second, &[], later(1)).await.unwrap();
    let old = intents::get(&kit.db, held.id).await.unwrap();
    assert_eq!(
        (old.result.as_deref(), old.resolved_at, old.intent.open_key),
        (Some("refused"), Some(later(1)), None)
    );

    let mut twice = commit_of(&recovery);
    twice.intents =
        vec![intent(&recovery, Some("guest:2".into())), intent(&recovery, Some("guest:2".into()))];
    assert!(matches!(crate::commit::apply(&kit.db, &twice, &[], NOW).await, Err(Error::IntentOpen { .. })));
}

async fn closing_frees_the_subject_and_opens_the_way_back(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    assert!(
        matches!(kit.try_open(&kit.db, kit.host).await.unwrap(), Opened::AlreadyOpen(id) if id == recovery.id)
    );
    let mut commit = commit_of(&recovery);
    commit.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
    commit.notification = Some((NotificationStatus::Finished, None));
    let back = Recovery {
        id: RecoveryId(Uuid::new_v4()),
        subject: Subject::Return { host: kit.host },
        owner: None,
        epoch: 0,
        version: 0,
        ..recovery.clone()
    };
    commit.opens = vec![back.clone()];
    crate::commit::apply(&kit.db, &commit, &[], later(5)).await.unwrap();
    assert_eq!(recoveries::get(&kit.db, recovery.id).await.unwrap().closed_at, Some(later(5)));
    let open = recoveries::list_open(&kit.db).await.unwrap();
    assert_eq!(open, [Recovery { version: 1, ..back }]);
    assert_eq!(notifications::recovery_of(&kit.db, recovery.notification).await.unwrap(), Some(recovery.id));
    hosts::check_free(&kit.db, kit.host).await.expect("a way back is no recovery to v1");
    hosts::check_segment_free(&kit.db, kit.segment).await.expect("nor for its segment");
    let next = kit.try_open(&kit.db, kit.host).await.unwrap();
    assert!(matches!(next, Opened::New(_)));
}

async fn a_way_back_that_is_open_begins_afresh_in_anybodys_hands(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let back = |body: HostReturn| Recovery {
        id: RecoveryId(Uuid::new_v4()),
        subject: Subject::Return { host: kit.host },
        body: Body::Return(body),
        owner: None,
        epoch: 0,
        version: 0,
        ..recovery.clone()
    };
    let mut commit = commit_of(&recovery);
    commit.opens = vec![back(HostReturn::new())];
    let id = commit.opens[0].id;
    let version = crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    let engine = recovery.owner.unwrap();
    let taken =
        write(&kit.db, async |tx| recoveries::claim(tx, id, 0, None, engine, NOW).await).await.unwrap();
    let mut old = commit_of(&taken.expect("it is free"));
    old.recovery.body = Body::Return(HostReturn { state: ReturnState::Out, ..HostReturn::new() });
    let old_version = crate::commit::apply(&kit.db, &old, &[], NOW).await.unwrap();

    let mut commit = commit_of(&Recovery { version, ..commit.recovery });
    commit.opens = vec![back(HostReturn::alive())];
    crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    let stored = recoveries::get(&kit.db, id).await.unwrap();
    assert_eq!((stored.owner, &stored.body), (None, &Body::Return(HostReturn::alive())));
    let late = commit_of(&Recovery { version: old_version, ..old.recovery });
    assert!(matches!(crate::commit::apply(&kit.db, &late, &[], NOW).await, Err(Error::Lost(_))));
}

async fn what_a_way_back_opens_takes_the_report_along(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let mut commit = commit_of(&recovery);
    commit.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
    let again = Recovery {
        id: RecoveryId(Uuid::new_v4()),
        subject: Subject::Host { host: kit.host },
        owner: None,
        epoch: 0,
        version: 0,
        ..recovery.clone()
    };
    commit.opens = vec![again.clone()];
    crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    assert_eq!(notifications::recovery_of(&kit.db, recovery.notification).await.unwrap(), Some(again.id));
}

async fn a_process_on_its_way_back_holds_neither_its_host_nor_a_report(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let mut commit = commit_of(&recovery);
    commit.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Verifying });
    commit.notification = Some((NotificationStatus::Running, None));
    let version = crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    hosts::check_free(&kit.db, kit.host).await.expect_err("its host is being taken out of scheduling");

    let mut commit = commit_of(&Recovery { version, ..commit.recovery });
    commit.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Returning });
    commit.notification = Some((commit.recovery.word().notification_status(), None));
    let version = crate::commit::apply(&kit.db, &commit, &[], NOW).await.unwrap();
    let stored = recoveries::get(&kit.db, recovery.id).await.unwrap();
    assert!(stored.is_open(), "an engine goes on with it");
    let status = async |id| notifications::get(&kit.db, id).await.unwrap().status;
    assert_eq!(status(recovery.notification).await, NotificationStatus::Finished);
    hosts::check_free(&kit.db, kit.host).await.expect("to v1 it is over");
    hosts::check_segment_free(&kit.db, kit.segment).await.expect("for its segment too");

    let again = host_down(kit.segment, kit.host);
    let joined = write(&kit.db, async |tx| {
        notifications::insert(tx, &again, None, NOW).await?;
        notifications::join(tx, again.id, recovery.id, NOW).await
    });
    assert!(joined.await.unwrap());
    assert_eq!(status(again.id).await, NotificationStatus::Finished, "to v1 it has ended before it began");

    write(&kit.db, async |tx| hosts::delete(tx, kit.host, NOW).await).await.expect("it may go");
    let mut commit = commit_of(&Recovery { version, ..commit.recovery });
    commit.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
    crate::commit::apply(&kit.db, &commit, &[], NOW).await.expect("and its recovery ends");
}

async fn five_hundred_moves_are_written_and_overwritten_in_one_commit(on: On) {
    let kit = kit_on(on).await;
    let mut recovery = kit.claimed().await;
    let mut commit = full(&kit, &recovery, 500);
    recovery.version = crate::commit::apply(&kit.db, &commit, &hooks(), NOW).await.unwrap();
    let mut again = commit_of(&recovery);
    for vmove in &mut commit.vmoves {
        (vmove.status, vmove.stage, vmove.dest_host) =
            (VmoveStatus::Ongoing, Stage::Accepted, Some("cmp-02".into()));
    }
    again.vmoves = commit.vmoves.clone();
    again.resolved = (commit.intents.iter())
        .map(|intent| Resolution { intent: intent.id, result: "done".into(), detail: json!({}) })
        .collect();
    crate::commit::apply(&kit.db, &again, &[], later(1)).await.unwrap();
    assert_eq!(vmoves::of_recovery(&kit.db, recovery.id).await.unwrap(), commit.vmoves);
    assert!(intents::open_of_recovery(&kit.db, recovery.id).await.unwrap().is_empty());
}

async fn of_many_claimers_one_wins_and_epochs_only_grow(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.open().await;
    let openings = [kit.db.clone(), kit.beside().await];
    let mut epoch = 0;
    let mut owner = None;
    for _ in 0..4 {
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let (db, id, engine) = (openings[n % 2].clone(), recovery.id, EngineId(Uuid::new_v4()));
                tokio::spawn(async move {
                    let won =
                        write(&db, async |tx| recoveries::claim(tx, id, epoch, owner, engine, NOW).await)
                            .await;
                    won.unwrap()
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            winners.extend(task.await.unwrap());
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(winners[0].epoch, epoch + 1);
        (epoch, owner) = (winners[0].epoch, winners[0].owner);
    }
    assert!(
        write(&kit.db, async |tx| recoveries::release(tx, recovery.id, epoch, owner.unwrap(), NOW).await)
            .await
            .unwrap()
    );
    let back = recoveries::holders(&kit.db).await.unwrap();
    assert_eq!((back[0].owner, back[0].epoch), (None, epoch), "a release never lowers the epoch");
}

async fn a_subject_is_opened_once_however_many_try(on: On) {
    let kit = std::sync::Arc::new(kit_on(on).await);
    let openings = [kit.db.clone(), kit.beside().await];
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (kit, db) = (kit.clone(), openings[n % 2].clone());
            tokio::spawn(async move { kit.try_open(&db, kit.host).await.unwrap() })
        })
        .collect();
    let (mut new, mut old) = (Vec::new(), Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            Opened::New(recovery) => new.push(recovery.id),
            Opened::AlreadyOpen(id) => old.push(id),
        }
    }
    assert_eq!(new.len(), 1);
    assert!(old.iter().all(|id| *id == new[0]));
    assert_eq!(kit.count("SELECT COUNT(*) FROM notifications").await, 1, "no report of an opening that lost");
}

/// What is stored of hooks comes back, and a recovery that a hook holds is listed as one that asks a person.
async fn a_held_hook_is_stored_and_shown_in_the_state(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    assert_eq!(recovery.hooks, Hooks::default());
    let mut commit = commit_of(&recovery);
    let spec = HookSpec {
        name: "tell".into(),
        at: vec![Point::Pre],
        timeout_s: 30,
        attempts: 1,
        on_failure: OnFailure::Hold,
    };
    commit.recovery.hooks = Hooks::new(vec![spec]);
    commit.recovery.hooks.runs.push(HookRun {
        id: Uuid::new_v4(),
        hook: "tell".into(),
        at: Point::Pre,
        attempt: 1,
        allowed: 1,
        state: RunState::Held,
        said: "exit 3".into(),
    });
    crate::commit::apply(&kit.db, &commit, &hooks(), later(1)).await.unwrap();
    let back = recoveries::get(&kit.db, recovery.id).await.unwrap();
    assert_eq!(back.hooks, commit.recovery.hooks);
    assert_eq!(kit.count("SELECT COUNT(*) FROM recoveries WHERE state = 'needs_operator'").await, 1);
    // A row of before the column was there.
    kit.tamper("UPDATE recoveries SET hooks = '{}', state = 'confirming'", vec![]).await;
    assert_eq!(recoveries::get(&kit.db, recovery.id).await.unwrap().hooks, Hooks::default());
}

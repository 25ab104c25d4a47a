//! Reconcile-only in the database, and what it shows of itself where something is remembered.

use halberd_core::event::EventKind;
use halberd_core::rewind::{Compared, EPOCH_STEP, Finding, Loss, Marks, RecoveryMark, Thing, compare};

use super::*;
use crate::audit::{self, engine_chain};
use crate::rewind::{Audited, Found, Rewound};
use crate::{Error, commit, engines, events, identity, recoveries, rewind};

everywhere!(
    a_database_says_who_it_is_and_says_the_same_again,
    what_is_remembered_is_found_and_what_is_taken_away_is_missed,
    while_the_row_stands_nobody_claims_and_no_intent_is_written,
    leaving_raises_every_epoch_and_counts_once,
);

async fn declared(kit: &Kit, lost: &[Loss]) -> Rewound {
    let chain = engine_chain(kit.engine);
    let hooks = ["ticket".to_owned()];
    write(&kit.db, async |tx| rewind::declare(tx, "one", "less", lost, &chain, &hooks, NOW).await)
        .await
        .unwrap()
}

async fn shown(kit: &Kit, marks: &Marks) -> halberd_core::rewind::Shown {
    identity::shown(&kit.db, "one", marks, NOW).await.unwrap()
}

async fn a_database_says_who_it_is_and_says_the_same_again(on: On) {
    let kit = kit_on(on).await;
    let first = identity::identity(&kit.db, NOW).await.unwrap();
    assert!(first.own.is_some());
    match on {
        On::Postgres => {
            assert!(first.server.as_ref().is_some_and(|id| id.parse::<u64>().is_ok()), "{first:?}");
            assert_eq!(first.timeline.as_deref(), Some("00000001"));
        }
        // Neither a file nor a server without Galera has anything of the kind.
        On::Sqlite | On::Mariadb => assert_eq!((&first.server, &first.timeline), (&None, &None)),
    }
    assert_eq!(identity::identity(&kit.beside().await, later(1)).await.unwrap(), first);
    let other = kit_on(on).await;
    let others = identity::identity(&other.db, NOW).await.unwrap();
    assert_ne!(others.own, first.own, "another database");
    assert_eq!(others.server, first.server, "on the same server");
}

/// Marks as an engine has them after some work.
async fn worked(kit: &Kit) -> (Marks, Recovery) {
    let register = write(&kit.db, async |tx| {
        engines::register(tx, "one", kit.engine, None, false, &json!({}), NOW).await
    });
    register.await.unwrap();
    let mut marks = Marks::default();
    marks.registered("one", kit.engine, 0, None);
    for _ in 0..3 {
        let counter = write(&kit.db, async |tx| engines::renew(tx, kit.engine, NOW).await).await.unwrap();
        assert!(marks.renewed(counter.unwrap()));
    }
    let recovery = kit.claimed().await;
    let mut content = commit_of(&recovery);
    content.audit = vec![Entry::new("host_fenced", "fenced", json!({}))];
    let version = commit::apply(&kit.db, &content, &[], NOW).await.unwrap();
    write(&kit.db, async |tx| audit::checkpoint(tx, NOW).await).await.unwrap();
    let head = async |chain: String| identity::head(&kit.db, &chain).await.unwrap();
    let audit = head(recovery.id.to_string()).await;
    assert!(audit.is_some());
    marks.note(recovery.id, RecoveryMark { epoch: recovery.epoch, version, audit, closed: false, at: 0 });
    marks.note_checkpoint(head(audit::CHECKPOINTS.into()).await.unwrap());
    let before = shown(kit, &Marks::default()).await;
    marks.learn(&before);
    (marks, recovery)
}

async fn what_is_remembered_is_found_and_what_is_taken_away_is_missed(on: On) {
    let kit = kit_on(on).await;
    let (marks, recovery) = worked(&kit).await;
    assert_eq!(compare(&marks, &shown(&kit, &marks).await), Compared::Whole);
    // Each undone again, as all that is taken away must be missed by itself.
    let id = recovery.id;
    let head = marks.recoveries[&id].audit.clone().unwrap();
    let (hash, last) = (head.hash, head.sequence);
    let by = |n: i64| Arg::from(n);
    let cases: [(&'static str, Vec<Arg>, Vec<Arg>, Thing); 5] = [
        (
            "UPDATE engines SET counter = counter + ? WHERE name = ?",
            vec![by(-1), "one".into()],
            vec![by(1), "one".into()],
            Thing::Engine("one".into()),
        ),
        (
            "UPDATE recoveries SET version = version + ? WHERE id = ?",
            vec![by(-1), id.into()],
            vec![by(1), id.into()],
            Thing::Recovery(id),
        ),
        (
            "UPDATE recoveries SET epoch = epoch + ? WHERE id = ?",
            vec![by(-1), id.into()],
            vec![by(1), id.into()],
            Thing::Recovery(id),
        ),
        (
            "UPDATE audit SET hash = ? WHERE chain = ? AND sequence = ?",
            vec!["another".into(), id.to_string().into(), by(last)],
            vec![hash.into(), id.to_string().into(), by(last)],
            Thing::Recovery(id),
        ),
        (
            "UPDATE audit_heads SET sequence = sequence + ? WHERE chain = ?",
            vec![by(-1), audit::CHECKPOINTS.into()],
            vec![by(1), audit::CHECKPOINTS.into()],
            Thing::Checkpoints,
        ),
    ];
    for (sql, take, give, thing) in cases {
        kit.tamper(sql, take).await;
        match compare(&marks, &shown(&kit, &marks).await) {
            Compared::Rewound(lost) => assert_eq!(lost[0].thing, thing, "{sql}: {lost:?}"),
            other => panic!("{sql}: {other:?}"),
        }
        kit.tamper(sql, give).await;
        assert_eq!(compare(&marks, &shown(&kit, &marks).await), Compared::Whole, "{sql}");
    }
}

async fn while_the_row_stands_nobody_claims_and_no_intent_is_written(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let other = kit.add_host("cmp-02").await;
    let Opened::New(unclaimed) = kit.try_open(&kit.db, other).await.unwrap() else { panic!("new") };
    let first = declared(&kit, &[Loss::stated("a backup was restored")]).await;
    let again = declared(&kit, &[Loss::stated("a backup was restored"), Loss::stated("and more")]).await;
    assert_eq!((again.id, again.lost.len(), again.by.as_str()), (first.id, 2, "one"));
    assert_eq!(rewind::standing(&kit.beside().await).await.unwrap(), Some(again));
    let told = events::since(&kit.db, 0, 1_000).await.unwrap();
    let told = told.iter().filter(|row| row.event.kind == EventKind::DatabaseRewound);
    assert_eq!(told.count(), 1, "told once, whoever else finds it");

    let claim =
        write(&kit.db, async |tx| recoveries::claim(tx, unclaimed.id, 0, None, kit.engine, NOW).await);
    assert!(claim.await.unwrap().is_none());
    let mut deed = commit_of(&recovery);
    deed.intents = vec![intent(&recovery, None)];
    assert!(matches!(commit::apply(&kit.db, &deed, &[], NOW).await, Err(Error::ReconcileOnly)));
    assert_eq!(kit.count("SELECT COUNT(*) FROM intents").await, 0);
    // What nothing follows from is stored: why it waits.
    commit::apply(&kit.db, &commit_of(&recovery), &[], NOW).await.unwrap();
}

async fn leaving_raises_every_epoch_and_counts_once(on: On) {
    let kit = kit_on(on).await;
    let recovery = kit.claimed().await;
    let loss =
        Loss { epoch: Some(7), version: Some(40), thing: Thing::Recovery(recovery.id), text: "less".into() };
    let first = declared(&kit, std::slice::from_ref(&loss)).await;
    let chain = engine_chain(kit.engine);
    let leave = async |seen: &Rewound| {
        write(&kit.db, async |tx| rewind::leave(tx, seen, "ann", "looked", &chain, &[], NOW).await)
            .await
            .unwrap()
    };
    let finding = Finding { host: None, text: "cmp-01 reads Off".into() };
    let audited = Audited { by: "one".into(), at: NOW, hosts: 1, findings: vec![finding] };
    let note = async |lost| {
        write(&kit.db, async |tx| rewind::note_audit(tx, first.id, lost, &audited, NOW).await).await.unwrap()
    };
    assert!(!note(0).await, "a look that began before all was known counts for nothing");
    assert!(note(1).await);
    assert!(!leave(&first).await, "what was not seen cannot be answered for");
    let seen = rewind::standing(&kit.db).await.unwrap().unwrap();
    assert!(leave(&seen).await);
    assert!(!leave(&seen).await, "once");
    let lost = [Loss::stated("the row that says so has vanished")];
    let found = Found { by: "one", why: "less", lost: &lost };
    let tell = async |compared: &[Uuid]| {
        write(&kit.db, async |tx| rewind::declare_found(tx, compared, kit.engine, &found, &[], NOW).await)
            .await
            .unwrap()
    };
    assert_eq!(tell(&[]).await, None, "what was found before it was left is not told after");
    assert!(!rewind::stands(&kit.db).await.unwrap());

    let now = recoveries::get(&kit.db, recovery.id).await.unwrap();
    assert_eq!((now.epoch, now.version, now.owner), (7 + EPOCH_STEP, 41, None));
    assert_eq!(rewind::reconciled(&kit.db).await.unwrap(), [first.id]);
    assert!(!rewind::stands(&kit.db).await.unwrap());
    let mut late = commit_of(&recovery);
    late.audit.clear();
    assert!(
        matches!(commit::apply(&kit.db, &late, &[], NOW).await, Err(Error::Lost(_))),
        "its epoch is over"
    );
    let claimed =
        write(&kit.db, async |tx| recoveries::claim(tx, recovery.id, now.epoch, None, kit.engine, NOW).await);
    assert_eq!(claimed.await.unwrap().unwrap().epoch, 8 + EPOCH_STEP);
    assert!(audit::verify(&kit.db).await.unwrap().is_empty());
    let told = events::since(&kit.db, 0, 1_000).await.unwrap();
    assert!(told.iter().any(|row| row.event.kind == EventKind::ReconcileOnlyLeft));
    // An engine that was away knows nothing of this, and takes what is shown.
    let mut away = Marks::default();
    away.note(recovery.id, RecoveryMark { epoch: 99_000_000, version: 1, audit: None, closed: false, at: 0 });
    assert_eq!(compare(&away, &shown(&kit, &away).await), Compared::Reconciled);
    assert!(tell(&[first.id]).await.is_some(), "what is found since is");
}

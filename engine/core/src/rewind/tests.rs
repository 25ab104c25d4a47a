use proptest::prelude::*;

use super::*;
use crate::id::{InstanceId, SegmentId};

fn recovery(n: u128) -> RecoveryId {
    RecoveryId(Uuid::from_u128(n))
}

fn hash(sequence: i64) -> String {
    format!("hash-{sequence}")
}

fn head(sequence: i64) -> Head {
    Head { sequence, hash: hash(sequence) }
}

/// Marks with anything in them, and a database that shows exactly that much.
fn marks() -> impl Strategy<Value = Marks> {
    let recoveries =
        prop::collection::btree_map(0u128..6, (1i64..9, 1i64..99, 1i64..99, any::<bool>()), 0..5);
    let engine = prop::option::of((1i64..1_000, any::<bool>()));
    (recoveries, engine, 1i64..50, any::<bool>(), any::<bool>()).prop_map(
        |(recoveries, engine, checkpoint, server, reconciled)| Marks {
            identity: Identity {
                own: Some(Uuid::from_u128(1)),
                server: server.then(|| "7001".to_owned()),
                timeline: server.then(|| "00000001".to_owned()),
            },
            reconciled: reconciled.then(|| Uuid::from_u128(9)),
            engine: engine.map(|(counter, stopped)| EngineMark {
                name: "one".into(),
                id: EngineId(Uuid::from_u128(10)),
                counter,
                stopped,
                former: vec![EngineId(Uuid::from_u128(11))],
            }),
            recoveries: recoveries
                .into_iter()
                .map(|(n, (epoch, version, audit, closed))| {
                    let at = engine.map_or(0, |(counter, _)| counter - i64::from(epoch > 4));
                    (recovery(n), RecoveryMark { epoch, version, audit: Some(head(audit)), closed, at })
                })
                .collect(),
            checkpoints: Some(head(checkpoint)),
        },
    )
}

fn just(marks: &Marks) -> Shown {
    let chain = |head: &Head| ShownChain { length: head.sequence, at_mark: Some(head.hash.clone()) };
    Shown {
        identity: marks.identity.clone(),
        reconciled: marks.reconciled.into_iter().collect(),
        engine: marks.engine.as_ref().map(|engine| (engine.id, engine.counter)),
        recoveries: marks
            .recoveries
            .iter()
            .map(|(id, mark)| {
                let audit = mark.audit.as_ref().map(chain).unwrap_or_default();
                (*id, ShownRecovery { epoch: mark.epoch, version: mark.version, closed: mark.closed, audit })
            })
            .collect(),
        checkpoints: marks.checkpoints.as_ref().map(chain).unwrap_or_default(),
    }
}

/// What honest work adds: numbers grow, others claim and write, closed ones are purged, the server is promoted.
fn worked_on(shown: &mut Shown, marks: &Marks, by: &[i64; 5], purge: bool, promoted: bool) {
    if let Some((_, counter)) = &mut shown.engine {
        *counter += by[0];
    }
    for seen in shown.recoveries.values_mut() {
        seen.epoch += by[1];
        seen.version += by[1] + by[2];
        seen.audit.length += by[3];
    }
    shown.recoveries.insert(
        recovery(99),
        ShownRecovery { epoch: 1, version: 1, closed: false, audit: ShownChain::default() },
    );
    shown.checkpoints.length += by[4];
    if purge {
        // Open ones of ours too, if others closed them after a renewal of ours.
        let counter = shown.engine.map_or(0, |(_, counter)| counter);
        let there = |mark: &RecoveryMark| !mark.closed && counter <= mark.at;
        shown.recoveries.retain(|id, _| marks.recoveries.get(id).is_none_or(there));
        // A checkpoint of long ago need not be kept either.
        shown.checkpoints.at_mark = None;
    }
    if promoted && shown.identity.timeline.is_some() {
        shown.identity.timeline = Some("00000002".to_owned());
    }
    if by[0] == 3 {
        // Today the role may not ask.
        shown.identity.server = None;
    }
}

/// Takes one mark away from what is shown, if there is one of that kind. False: there was none.
fn rewound(kind: u8, pick: usize, shown: &mut Shown, marks: &Marks) -> bool {
    let open: Vec<RecoveryId> =
        marks.recoveries.iter().filter(|(_, mark)| !mark.closed).map(|(id, _)| *id).collect();
    let all: Vec<RecoveryId> = marks.recoveries.keys().copied().collect();
    let one = |ids: &[RecoveryId]| (!ids.is_empty()).then(|| ids[pick % ids.len()]);
    let known = |id: &RecoveryId| marks.recoveries[id].clone();
    match kind {
        0 => shown.identity.own = Some(Uuid::from_u128(2)),
        1 if marks.identity.server.is_some() => shown.identity.server = Some("7002".to_owned()),
        2 => match &marks.engine {
            Some(engine) => shown.engine = Some((engine.id, engine.counter - 1)),
            None => return false,
        },
        3 => match &marks.engine {
            Some(engine) => shown.engine = Some((engine.former[0], engine.counter + 50)),
            None => return false,
        },
        4 => match &marks.engine {
            Some(engine) if !engine.stopped => shown.engine = None,
            _ => return false,
        },
        5 => match one(&all).and_then(|id| Some((id, shown.recoveries.get_mut(&id)?))) {
            Some((id, seen)) => seen.epoch = known(&id).epoch - 1,
            None => return false,
        },
        6 => match one(&all).and_then(|id| Some((id, shown.recoveries.get_mut(&id)?))) {
            Some((id, seen)) => seen.version = known(&id).version - 1,
            None => return false,
        },
        7 => match one(&open).filter(|id| shown.engine.is_none_or(|(_, counter)| counter <= known(id).at)) {
            Some(id) => drop(shown.recoveries.remove(&id)),
            None => return false,
        },
        8 => match one(&open).and_then(|id| Some((id, shown.recoveries.get_mut(&id)?))) {
            Some((id, seen)) => seen.audit.length = known(&id).audit.map_or(0, |head| head.sequence) - 1,
            None => return false,
        },
        // As long as it was, or longer, and another history.
        9 => match one(&open).and_then(|id| shown.recoveries.get_mut(&id)) {
            Some(seen) => seen.audit.at_mark = Some("another".into()),
            None => return false,
        },
        10 => shown.checkpoints.length = marks.checkpoints.as_ref().map_or(0, |head| head.sequence) - 1,
        11 => shown.checkpoints.at_mark = Some("another".into()),
        12 if marks.reconciled.is_some() => shown.reconciled = vec![Uuid::from_u128(8)],
        13 if marks.reconciled.is_some() => shown.reconciled.clear(),
        _ => return false,
    }
    true
}

proptest! {
    #[test]
    fn honest_work_is_never_called_a_rewind(
        marks in marks(), by in prop::array::uniform5(0i64..5), purge: bool, promoted: bool,
    ) {
        let mut shown = just(&marks);
        worked_on(&mut shown, &marks, &by, purge, promoted);
        prop_assert_eq!(compare(&marks, &shown), Compared::Whole);
    }

    #[test]
    fn one_mark_less_is_always_found_whatever_else_has_grown(
        marks in marks(), by in prop::array::uniform5(0i64..5), promoted: bool, kind in 0u8..14, pick: usize,
    ) {
        let mut shown = just(&marks);
        worked_on(&mut shown, &marks, &by, false, promoted);
        if rewound(kind, pick, &mut shown, &marks) {
            let found = compare(&marks, &shown);
            prop_assert!(matches!(&found, Compared::Rewound(lost) if !lost.is_empty()), "{kind}: {found:?}");
        }
    }

    #[test]
    fn marks_never_fall(marks in marks(), epoch in 0i64..20, version in 0i64..200, audit in 0i64..200) {
        let mut after = marks.clone();
        for id in marks.recoveries.keys() {
            let seen = RecoveryMark { epoch, version, audit: Some(head(audit)), closed: false, at: 0 };
            after.note(*id, seen);
        }
        // A database that shows less than the first also shows less than the second.
        for (id, mark) in &marks.recoveries {
            let now = &after.recoveries[id];
            prop_assert!(now.epoch >= mark.epoch && now.version >= mark.version && now.closed == mark.closed);
            prop_assert!(now.audit.as_ref().map(|h| h.sequence) >= mark.audit.as_ref().map(|h| h.sequence));
        }
    }
}

#[test]
fn every_loss_is_named_and_a_recovery_carries_its_epoch() {
    let mut marks = Marks::default();
    marks.registered("one", EngineId(Uuid::from_u128(1)), 9, None);
    marks.note(recovery(3), RecoveryMark { epoch: 4, version: 17, audit: None, closed: false, at: 0 });
    let shown = Shown { engine: Some((EngineId(Uuid::from_u128(1)), 5)), ..Shown::default() };
    let Compared::Rewound(lost) = compare(&marks, &shown) else { panic!("found") };
    assert_eq!(lost[0].text, "engine one shows counter 5, 9 was known");
    assert!(lost[1].text.contains("is missing, epoch 4 was known"), "{}", lost[1].text);
    assert_eq!((lost[1].epoch, lost[1].version), (Some(4), Some(17)));
    assert_eq!(lost_recoveries(&lost).len(), 1);
}

#[test]
fn what_was_reconciled_without_us_is_taken_as_it_is() {
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut marks = Marks { reconciled: Some(first), ..Marks::default() };
    marks.note(recovery(3), RecoveryMark { epoch: 4, version: 17, audit: None, closed: false, at: 0 });
    let shown = Shown { reconciled: vec![first, second], ..Shown::default() };
    assert_eq!(compare(&marks, &shown), Compared::Reconciled);
    marks.begin_at(&shown);
    assert_eq!((marks.reconciled, marks.recoveries.len()), (Some(second), 0));
    assert_eq!(compare(&marks, &shown), Compared::Whole);
    // Restored to between the two: that the second is gone is what is less.
    let between = Shown { reconciled: vec![first], ..Shown::default() };
    assert!(matches!(compare(&marks, &between), Compared::Rewound(_)));
}

#[test]
fn an_engine_that_stopped_may_be_forgotten_and_another_run_may_follow() {
    let (old, ours, next) = (1, 2, 3);
    let id = |n: u128| EngineId(Uuid::from_u128(n));
    let mut marks = Marks::default();
    marks.registered("one", id(old), 3, None);
    marks.registered("one", id(ours), 7, Some(id(old)));
    let shows = |engine| Shown { engine, ..Shown::default() };
    assert_eq!(compare(&marks, &shows(Some((id(next), 1)))), Compared::Whole, "somebody else's run");
    assert!(matches!(compare(&marks, &shows(Some((id(old), 99)))), Compared::Rewound(_)));
    assert!(matches!(compare(&marks, &shows(None)), Compared::Rewound(_)));
    marks.engine.as_mut().unwrap().stopped = true;
    assert_eq!(compare(&marks, &shows(None)), Compared::Whole);
}

#[test]
fn a_renewal_below_what_was_known_is_said_once() {
    let mut marks = Marks::default();
    marks.registered("one", EngineId(Uuid::from_u128(1)), 0, None);
    assert!(marks.renewed(4) && marks.renewed(5));
    assert!(!marks.renewed(5) && !marks.renewed(2));
    assert_eq!(marks.engine.unwrap().counter, 5);
}

#[test]
fn only_closed_recoveries_are_forgotten() {
    let mut marks = Marks::default();
    for n in 0..600u128 {
        let mark = RecoveryMark { epoch: 1, version: 1, audit: None, closed: n % 2 == 0, at: 0 };
        marks.note(recovery(n), mark);
    }
    let open = marks.recoveries.values().filter(|mark| !mark.closed).count();
    assert_eq!((open, marks.recoveries.len()), (300, 300 + CLOSED_KEPT));
}

fn host(name: &str) -> Host {
    Host::new(HostId(Uuid::from_u128(5)), SegmentId(Uuid::nil()), name)
}

#[test]
fn each_trace_of_a_deed_is_named_and_nothing_else() {
    let here = host("cmp-01");
    let service = |up, forced_down| ServiceRow {
        id: "1".into(),
        host: "cmp-01".into(),
        up,
        enabled: true,
        forced_down,
        disabled_reason: None,
        updated_at: None,
        whole: true,
    };
    let record = |source: &str, kind: &str, status: &str| Migration {
        id: 1,
        instance: InstanceId(Uuid::from_u128(1)),
        source: source.into(),
        dest: Some("cmp-02".into()),
        status: status.into(),
        kind: kind.into(),
    };
    let up = service(true, false);
    let well = Looked {
        host: &here,
        recovering: false,
        heard: true,
        power: Some(Ok(Power::On)),
        service: Some(&up),
        migrations: Ok(&[]),
    };
    let found =
        |looked: &Looked<'_>| unexplained(looked).into_iter().map(|found| found.text).collect::<Vec<_>>();
    assert!(found(&well).is_empty());
    let past = [
        record("cmp-01", "evacuation", "completed"),
        record("cmp-02", "evacuation", "done"),
        record("cmp-01", "live-migration", "running"),
    ];
    assert!(found(&Looked { migrations: Ok(&past), ..well.clone() }).is_empty(), "history explains itself");
    for (looked, said) in [
        (Looked { power: Some(Ok(Power::Off)), ..well.clone() }, "reads Off"),
        (Looked { service: Some(&service(false, true)), ..well.clone() }, "forced down"),
        (Looked { migrations: Ok(&[record("cmp-01", "evacuation", "done")]), ..well.clone() }, "to cmp-02"),
        (
            Looked { migrations: Ok(&[record("cmp-01", "evacuation", "accepted")]), ..well.clone() },
            "accepted",
        ),
        (Looked { migrations: Err("503".into()), ..well.clone() }, "could not be read: 503"),
        (
            Looked { power: Some(Err("timeout".into())), service: None, heard: false, ..well.clone() },
            "power could not be read",
        ),
    ] {
        let texts = found(&looked);
        assert!(texts.len() == 1 && texts[0].contains(said), "{said}: {texts:?}");
        assert!(found(&Looked { recovering: true, ..looked }).is_empty(), "its recovery looks at that");
    }
    let mute = Looked { power: Some(Err("timeout".into())), ..well };
    assert!(found(&mute).is_empty(), "it is heard: that its controller is mute is readiness' business");
}

//! Properties of the judgement over any evidence at all.

use proptest::prelude::*;

use super::*;

prop_compose! {
    fn any_evidence()(
        agent in any::<bool>(),
        listening in 0u64..400_000,
        last in prop::collection::vec((0usize..3, 0u64..100_000), 0..4),
        echoed in any::<bool>(),
        retired in prop::option::weighted(0.1, 0u64..100_000),
        panic in prop::option::weighted(0.2, 0u64..100_000),
        storage in prop::option::of(0u64..120_000),
        witnesses in prop::collection::vec((0u64..10_000, prop::option::of(0u64..100_000), any::<bool>(), 0u8..3), 0..4),
        power in prop::option::of((0u64..20_000, 0u8..3, any::<bool>())),
        user_land in prop::option::of((0u64..10_000, any::<bool>())),
        service in prop::option::of((0u64..12_000, any::<bool>(), prop::option::of((0u64..60_000, 0u64..5_000)),
            prop::option::of(0u64..60_000), prop::bool::weighted(0.8))),
        reports in prop::collection::vec(0u64..400_000, 0..3),
        neighbours in 0u32..4,
        engines in 0u32..2,
    ) -> Evidence {
        let last: Vec<_> = last.into_iter().map(|(network, age)| (Network::ALL[network], ago(age))).collect();
        Evidence {
            beats: Beats {
                last_echoed: last.iter().map(|(_, at)| *at).max().filter(|_| echoed),
                last,
                boot: None,
                received: None,
                attested: None,
                dump: None,
                retired_echoed: retired.map(ago),
                panic: panic.map(ago),
                listening_since: ago(listening),
                storage_write_age: storage.map(span),
            },
            witnesses: witnesses.into_iter().map(|(said, heard, storage_only, domain)| Witness {
                name: format!("cmp-{said}"),
                domain: (domain > 0).then(|| format!("rack-{domain}")),
                at: ago(said),
                heard: heard.map(span),
                storage_only,
            }).collect(),
            neighbours,
            power: power.map(|(age, word, identified)| PowerReading {
                at: ago(age),
                power: match word { 0 => Power::On, 1 => Power::Off, _ => Power::Other("PoweringOff".into()) },
                identified,
                device: "bmc".into(),
            }),
            user_land: user_land.map(|(age, answered)| UserLand { at: ago(age), answered }),
            service: service.map(|(age, up, changed, still, others_moving)| ServiceSight {
                at: ago(age),
                up,
                forced_down: false,
                disabled: false,
                changed_at: changed.map(|(age, _)| ago(age)),
                changed_after: changed.map(|(age, before)| ago(age + before)),
                still_since: still.map(ago),
                others_moving,
            }),
            reports: reports.into_iter().map(|age| Report { at: ago(age), seen: ago(age / 2), by_agent: false }).collect(),
            agent,
            engines_agreeing: engines,
            has_device: true,
            has_watchdog: false,
            only_watchdog: false,
            renewers: None,
        }
    }
}

/// The same evidence with every time moved.
fn shifted(evidence: &Evidence, by: u64) -> Evidence {
    let mut moved = evidence.clone();
    let shift = |at: &mut Mono| at.0 += by;
    let beats = &mut moved.beats;
    beats.last.iter_mut().for_each(|(_, at)| shift(at));
    shift(&mut beats.listening_since);
    for at in [&mut beats.last_echoed, &mut beats.retired_echoed, &mut beats.panic] {
        at.iter_mut().for_each(shift);
    }
    moved.witnesses.iter_mut().for_each(|witness| shift(&mut witness.at));
    moved.power.iter_mut().for_each(|reading| shift(&mut reading.at));
    moved.user_land.iter_mut().for_each(|seen| shift(&mut seen.at));
    moved.reports.iter_mut().for_each(|report| {
        shift(&mut report.at);
        shift(&mut report.seen);
    });
    if let Some(service) = &mut moved.service {
        shift(&mut service.at);
        for at in [&mut service.changed_at, &mut service.changed_after, &mut service.still_since] {
            at.iter_mut().for_each(shift);
        }
    }
    moved
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// I23: only spans count. No clock's zero, and no step of a wall clock, changes anything.
    #[test]
    fn moving_every_time_alike_changes_nothing(evidence in any_evidence(), by in 0u64..100_000_000, p in 0usize..3) {
        let policy = Policy::of(Profile::ALL[p]);
        let here = judge(&evidence, &policy, NOW);
        let mut there = judge(&shifted(&evidence, by), &policy, Mono(NOW.0 + by));
        there.look_again.iter_mut().for_each(|at| at.0 -= by);
        prop_assert_eq!(here, there);
    }

    /// I17: contradictory evidence inside its window blocks, whatever else is said. The table's storage rows are about hosts
    /// that live, so the host writes here and beats on management.
    #[test]
    fn fresh_life_blocks_every_verdict_of_death(evidence in any_evidence(), age in 0u64..1_500, way in 0u8..3) {
        let mut evidence = evidence;
        match way {
            0 if evidence.agent => {
                evidence.beats.last.push((Management, ago(age)));
                evidence.beats.last_echoed = Some(ago(age));
                evidence.beats.storage_write_age = Some(span(0));
            }
            1 if evidence.agent => {
                evidence.witnesses.push(witness("cmp-9", 0, Some(age)));
                evidence.beats.last.clear();
                evidence.beats.storage_write_age = Some(span(0));
            }
            _ => {
                // Answered after every other claim of death.
                evidence.user_land = user_land(true, 0);
                evidence.beats.last.retain(|(_, at)| *at < NOW);
                evidence.beats.storage_write_age = Some(span(0));
                evidence.reports.retain(|report| report.seen < NOW);
                evidence.beats.listening_since = evidence.beats.listening_since.min(ago(1));
            }
        }
        let judgement = judge(&evidence, &Policy::default(), NOW);
        prop_assert_ne!(judgement.verdict, Verdict::Failed, "{:?}", judgement.reasons);
    }

    /// I18: on a host that ever had our agent, reports change neither verdict nor time.
    #[test]
    fn reports_about_a_host_with_agent_move_nothing(evidence in any_evidence(), ages in prop::collection::vec(0u64..400_000, 1..4)) {
        let quiet = Evidence { agent: true, reports: vec![], ..evidence };
        let reports = ages.into_iter().map(|age| Report { at: ago(age), seen: ago(age), by_agent: age % 2 == 0 }).collect();
        let loud = Evidence { reports, ..quiet.clone() };
        let (quiet, loud) = (at_now(&quiet), at_now(&loud));
        prop_assert_eq!((quiet.verdict, quiet.class, quiet.look_again), (loud.verdict, loud.class, loud.look_again));
    }

    /// More signs of life never make a death.
    #[test]
    fn adding_life_never_makes_a_verdict_of_death(evidence in any_evidence(), age in 0u64..20_000, way in 0u8..3) {
        let mut more = evidence.clone();
        match way {
            // One that last heard it beyond the window is silent, and may complete a quorum.
            0 => more.witnesses.push(witness("cmp-9", 0, Some(age % 6_000))),
            1 => {
                // The newest asking is kept: an answer comes at the same time or later.
                let asked = evidence.user_land.as_ref().map_or(age, |seen| NOW.since(seen.at).as_millis() as u64);
                more.user_land = user_land(true, age.min(asked));
            }
            _ => if let Some(service) = &mut more.service {
                service.changed_at = Some(ago(age).max(service.changed_at.unwrap_or_default()));
                service.changed_after = Some(ago(age).max(service.changed_after.unwrap_or_default()));
                service.still_since = service.still_since.map(|since| since.max(ago(age)));
            },
        }
        if at_now(&evidence).verdict != Verdict::Failed {
            let judgement = at_now(&more);
            prop_assert_ne!(judgement.verdict, Verdict::Failed, "{:?}", judgement.reasons);
        }
    }

    /// By silence alone nothing fails before the profile's time, nor without witnesses; `Failed` always has its class.
    #[test]
    fn silence_fails_only_in_time_and_with_witnesses(evidence in any_evidence(), p in 0usize..3) {
        let policy = Policy::of(Profile::ALL[p]);
        let judgement = judge(&evidence, &policy, NOW);
        prop_assert_eq!(judgement.class.is_some(), judgement.verdict == Verdict::Failed);
        prop_assert_eq!(judgement.waiting_for.is_empty(), judgement.verdict != Verdict::CannotTell);
        prop_assert!(judgement.look_again.is_none_or(|at| at > NOW));
        prop_assert!(!judgement.reasons.is_empty());
        if judgement.class == Some(Class::E1) && judgement.by_silence {
            let last = evidence.beats.last_any().max(Some(evidence.beats.listening_since)).unwrap();
            prop_assert!(NOW.since(last) >= time_to_verdict(&policy) && NOW.since(last) >= span(9_000));
            prop_assert!(judgement.agreeing >= judgement.needed && judgement.needed >= 1);
        }
        if judgement.class == Some(Class::E0) {
            let reading = evidence.power.as_ref().unwrap();
            prop_assert!(reading.identified && reading.power == Power::Off);
            prop_assert!(evidence.beats.last_any().is_none_or(|beat| beat < reading.at));
        }
    }
}

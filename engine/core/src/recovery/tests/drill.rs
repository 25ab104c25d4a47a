//! Drills, step by step: what has to be so before the order, and what shows that the right machine went off.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::views::calm;
use super::world::{DEAD, World};
use super::{NOON, START};
use crate::brake::Disarmed;
use crate::chance::Chance;
use crate::effect::{Done, Effect, Query, ServiceRow, Survey};
use crate::evidence::Power;
use crate::facts::{Facts, Failure, Outcome};
use crate::fence::{DeviceAttempt, FenceReport, OrderAnswer, Reading};
use crate::host::{Admission, Asked, Host};
use crate::id::InstanceId;
use crate::instance::Guest;
use crate::recovery::host::{HostRecovery, HostState, Purpose};
use crate::recovery::{Body, Recovery, StateWord, step};
use crate::step::{Change, Step, View};
use crate::time::Mono;

/// A drill and what its owner knows.
struct Case {
    recovery: Recovery,
    facts: Facts,
    now: Mono,
}

fn ago(ms: u64) -> Mono {
    Mono(START.0 - ms)
}

impl Case {
    /// On maintenance, disabled, empty, beating: everything a drill asks for.
    fn ready() -> Case {
        let mut world = World::new(calm(), START, NOON);
        world.store.host.maintenance.operator = true;
        let by = Asked { actor: "ann".into(), reason: "yearly".into() };
        let mut recovery = world.store.recovery.clone();
        let purpose = Purpose::Drill { by, heard: false, unnamed: Vec::new() };
        recovery.body = Body::Host(HostRecovery::for_purpose(purpose));
        let row = ServiceRow {
            id: "1".into(),
            host: DEAD.into(),
            up: true,
            enabled: false,
            forced_down: false,
            disabled_reason: None,
            updated_at: None,
            whole: true,
        };
        let mut facts = Facts {
            claimed_at: ago(60_000),
            segment_enabled: true,
            host: Some(world.store.host.clone()),
            evidence: world.evidence.clone(),
            service: Some((ago(100), Some(row))),
            survey: Some(Survey { at: ago(100), complete: true, ..Survey::default() }),
            ..Facts::default()
        };
        facts.evidence.has_device = true;
        facts.evidence.beats.last_echoed = Some(ago(200));
        let mut runner = world.claim();
        world.surround(&mut runner);
        facts.fleet = runner.facts.fleet.clone();
        Case { recovery, facts, now: START }
    }

    fn host(&mut self) -> &mut Host {
        self.facts.host.as_mut().expect("known")
    }

    fn step(&self) -> Step {
        let view = View {
            recovery: &self.recovery,
            vmoves: &BTreeMap::new(),
            facts: &self.facts,
            now: self.now,
            stamp: NOON,
        };
        step(view, &mut Chance::new(3))
    }

    /// Steps, and takes the change over as a commit would.
    fn go(&mut self) -> Change {
        let change = self.step().change.expect("a change");
        self.recovery.body = change.body.clone();
        self.recovery.reason = change.reason.clone();
        for (_, patch) in &change.hosts {
            let host = self.host();
            host.admission = patch.admission.unwrap_or(host.admission);
            host.set_by_us = patch.set_by_us.unwrap_or(host.set_by_us);
        }
        self.facts.outcomes.clear();
        change
    }

    /// The order goes out, and its answer comes.
    fn answered(mut self, attempt: DeviceAttempt) -> Case {
        let change = self.go();
        let (intent, effect) = change.acts.first().cloned().expect("an order");
        assert!(matches!(effect, Effect::PowerOff { drill: true, .. }), "{effect:?}");
        let report = FenceReport { attempts: vec![attempt], levels: vec![1] };
        self.facts.outcomes =
            vec![Outcome { intent: intent.id, effect, done: Done::Fenced { report }, at: self.now }];
        self.now = Mono(self.now.0 + 1_500);
        self
    }
}

fn attempt(identity: Option<bool>, off: bool) -> DeviceAttempt {
    let power = if off { Power::Off } else { Power::On };
    let at = |at_ms| Reading { power: power.clone(), at_ms, after_order: true };
    DeviceAttempt {
        level: 0,
        device: "agent fence_apc pdu".into(),
        token: None,
        identity_matches: identity,
        stated: false,
        held: false,
        order: OrderAnswer::Accepted,
        readings: vec![at(100), at(1_200)],
        error: None,
        took_ms: 1_300,
    }
}

fn orders(step: &Step) -> usize {
    let acts = step.change.iter().flat_map(|change| &change.acts);
    acts.filter(|(_, effect)| matches!(effect, Effect::PowerOff { .. })).count()
}

#[test]
fn everything_in_order_and_it_is_turned_off() {
    let step = Case::ready().step();
    assert_eq!(orders(&step), 1);
    let change = step.change.expect("a change");
    assert_eq!(change.hosts[0].1.admission, Some(Admission::Out));
}

/// What is changed, and the word that the refusal has to say.
type Refusal = (fn(&mut Case), &'static str);

#[test]
fn a_host_that_serves_is_not_drilled() {
    let guest = Guest::active_on(InstanceId(Uuid::from_u128(9)), "g", DEAD);
    let cases: &[Refusal] = &[
        (|case| case.host().maintenance.operator = false, "not on maintenance"),
        (|case| case.host().admission = Admission::Admitted, "is admitted"),
        (|case| case.facts.evidence.has_device = false, "no fence device"),
        (|case| case.facts.service = Some((ago(100), None)), "no compute service"),
        (
            |case| {
                if let Some((_, Some(row))) = &mut case.facts.service {
                    row.enabled = true;
                }
            },
            "openstack compute service set --disable",
        ),
        (|case| case.facts.cancelled = Some("bob".into()), "cancelled by bob"),
        (
            |case| {
                let survey = Query::Survey { host: DEAD.into() };
                let failure = Failure { at: ago(1_000), text: "401".into(), count: 3 };
                case.facts.failures.insert(survey, failure);
            },
            "Nova cannot be asked",
        ),
    ];
    for (change, word) in cases {
        let mut case = Case::ready();
        change(&mut case);
        let step = case.step();
        assert_eq!(orders(&step), 0, "{word}");
        let change = step.change.expect("it ends");
        assert_eq!(change.body.word(), StateWord::Cancelled, "{word}");
        assert!(change.reason.contains(word), "{word}: {}", change.reason);
    }
    let mut case = Case::ready();
    case.facts.survey.as_mut().expect("listed").guests.push(guest);
    let change = case.step().change.expect("it ends");
    assert!(change.acts.is_empty() && change.reason.contains("1 guests are on"), "{}", change.reason);
}

#[test]
fn what_is_not_known_is_asked_first() {
    let old = Survey { at: ago(6_000), complete: true, ..Survey::default() };
    let partial = Survey { at: ago(100), complete: false, ..Survey::default() };
    for survey in [None, Some(old), Some(partial)] {
        let mut case = Case::ready();
        case.facts.survey = survey;
        let step = case.step();
        assert_eq!(orders(&step), 0);
        assert_eq!(step.queries, vec![Query::Survey { host: DEAD.into() }]);
    }
    let mut case = Case::ready();
    case.facts.service = None;
    assert_eq!(case.step().queries, vec![Query::Service { host: DEAD.into() }]);
}

#[test]
fn who_disarmed_is_obeyed() {
    let mut case = Case::ready();
    case.facts.fleet.disarmed = Some(Disarmed { reason: "works".into(), until: Mono(u64::MAX) });
    let step = case.step();
    assert_eq!(orders(&step), 0);
    assert_eq!(step.change.expect("held").body.word(), StateWord::Held);
}

/// The recovery closed, and what it opened switches the host on.
fn ends(change: &Change, word: StateWord) -> Vec<String> {
    assert_eq!(change.body.word(), word, "{}", change.reason);
    let Some(Body::Return(back)) = change.opens.first().map(|opened| &opened.body) else {
        panic!("no way back")
    };
    assert_eq!(back.power_on.as_ref().map(|on| on.by.actor.as_str()), Some("ann"));
    change.hosts.iter().flat_map(|(_, patch)| patch.drilled.clone()).collect()
}

#[test]
fn a_device_that_names_the_machine_has_shown_all_it_can() {
    let mut case = Case::ready().answered(attempt(Some(true), true));
    let proved = case.go();
    assert!(matches!(&proved.body, Body::Host(body) if matches!(body.state, HostState::Proved { .. })));
    assert!(proved.acts.is_empty(), "nobody is told down, no guest is moved: {:?}", proved.acts);
    let change = case.go();
    assert!(change.acts.is_empty());
    assert_eq!(ends(&change, StateWord::Finished), ["agent fence_apc pdu"]);
}

#[test]
fn one_that_did_not_go_off_has_failed() {
    let mut case = Case::ready().answered(attempt(Some(true), false));
    let change = case.go();
    assert!(ends(&change, StateWord::Failed).is_empty());
    assert!(change.reason.contains("still reads On"), "{}", change.reason);
}

#[test]
fn a_nameless_device_needs_the_agent_s_silence() {
    let mut silent = Case::ready().answered(attempt(None, true));
    silent.go();
    silent.facts.proved_at = Some(silent.now);
    assert!(
        silent.step().change.is_none_or(|change| !change.body.word().is_closed()),
        "silence takes its time"
    );
    silent.now = Mono(silent.now.0 + 6_000);
    assert_eq!(ends(&silent.go(), StateWord::Finished), ["agent fence_apc pdu"]);

    let mut beats = Case::ready().answered(attempt(None, true));
    beats.go();
    beats.facts.proved_at = Some(beats.now);
    beats.now = Mono(beats.now.0 + 6_000);
    beats.facts.evidence.beats.retired_echoed = Some(Mono(beats.now.0 - 500));
    let change = beats.go();
    assert!(ends(&change, StateWord::Failed).is_empty(), "it switches another machine");
    assert!(change.reason.contains("another machine"), "{}", change.reason);

    let mut mute = Case::ready();
    mute.facts.evidence.beats.last_echoed = None;
    let mut mute = mute.answered(attempt(None, true));
    mute.go();
    assert!(ends(&mute.go(), StateWord::Failed).is_empty(), "nothing was heard that could fall silent");
}

#[test]
fn a_lost_answer_is_ordered_again_a_few_times() {
    let mut case = Case::ready();
    case.go();
    for attempt in 2..=3 {
        let change = case.go();
        assert_eq!(change.acts[0].0.attempt, attempt);
    }
    assert!(ends(&case.go(), StateWord::Failed).is_empty());
}

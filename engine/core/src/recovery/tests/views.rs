//! The pure step, asked with states and facts drawn at random: typed, and mostly such as no run would reach.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::scenario::{Kind, Scenario, scenarios};
use super::world::{DEAD, SERIAL, World};
use super::{NOON, START};
use crate::chance::Chance;
use crate::effect::{Calls, Done, Effect, Migration, Survey};
use crate::evidence::{Power, PowerReading};
use crate::facts::{Facts, Outcome};
use crate::fence::{DeviceAttempt, FenceProof, FenceReport, OrderAnswer, Reading, prove, state_off, waive};
use crate::host::Host;
use crate::id::{InstanceId, VmoveId};
use crate::instance::{Guest, Wanted};
use crate::recovery::host::{HostRecovery, HostState, Order};
use crate::recovery::{Body, LockMark, Recovery, Stage, Vmove, VmoveStatus, step};
use crate::step::{Memory, Step, View};
use crate::time::Mono;

/// What is drawn; ages are milliseconds before now.
#[derive(Clone, Debug)]
struct Drawn {
    scenario: Scenario,
    state: u8,
    means: u8,
    power: Option<(u64, u8, bool)>,
    survey: Option<(u64, bool)>,
    marked: Option<u64>,
    proved: Option<u64>,
    echoed: Option<u64>,
    up: bool,
    moves: Vec<(u8, u32, bool, Option<u64>, u8)>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let age = || prop_oneof![2 => 0u64..2_500, 1 => 2_500u64..12_000, 1 => 12_000u64..60_000];
    let maybe = || prop::option::weighted(0.85, age());
    let facts = (
        prop::option::weighted(0.85, (age(), 0u8..4, prop::bool::weighted(0.85))),
        prop::option::weighted(0.9, (age(), prop::bool::weighted(0.85))),
        maybe(),
        maybe(),
        prop::option::weighted(0.3, age()),
        prop::bool::weighted(0.2),
    );
    let one = (0u8..12, 0u32..3, prop::bool::weighted(0.8), prop::option::weighted(0.6, age()), 0u8..5);
    (scenarios(Kind::Host), (0u8..11, 0u8..3), facts, prop::collection::vec(one, 0..5)).prop_map(
        |(scenario, (state, means), (power, survey, marked, proved, echoed, up), moves)| Drawn {
            scenario,
            state,
            means,
            power,
            survey,
            marked,
            proved,
            echoed,
            up,
            moves,
        },
    )
}

fn proof(drawn: &Drawn, host: &Host) -> FenceProof {
    match drawn.means {
        0 => return proof_of(host),
        1 => state_off(host.id, host.boot_number, 4, Some(SERIAL), SERIAL, "ann", "unplugged"),
        _ => waive(host.id, host.boot_number, 4, true, true, false, true),
    }
    .expect("each is given what it asks for")
}

fn state(drawn: &Drawn, host: &Host) -> HostState {
    let order = Order { attempt: 1, boot_number: host.boot_number, intent: None };
    let proof = proof(drawn, host);
    match drawn.state {
        0 => HostState::Confirming,
        1 => HostState::Held { gate: "fleet".into() },
        2 => HostState::Fencing { order },
        3 => HostState::Proved { order, proof, marked_down: false },
        4 => HostState::Proved { order, proof, marked_down: true },
        5 => HostState::Verifying { order, proof },
        6 => HostState::NeedsOperator { order: None, proof: None },
        7 => HostState::NeedsOperator { order: Some(order), proof: None },
        8 => HostState::NeedsOperator { order: Some(order), proof: Some(proof) },
        _ => HostState::Evacuating { order, proof },
    }
}

fn vmove(recovery: &Recovery, guest: &Guest, stage: Stage, attempt: u32) -> Vmove {
    Vmove {
        id: VmoveId(guest.id.0),
        recovery: recovery.id,
        notification: recovery.notification,
        instance: guest.id,
        instance_name: guest.name.clone(),
        source_host: DEAD.into(),
        dest_host: None,
        status: if stage == Stage::Done { VmoveStatus::Ignored } else { VmoveStatus::Ongoing },
        message: None,
        start_time: None,
        end_time: None,
        stage,
        ha_enabled: guest.is_ha_enabled(),
        wanted: Wanted::Active,
        reset: false,
        vm_state: guest.vm_state.clone(),
        task_state: None,
        lock: LockMark::Ours,
        attempt,
        failures: 0,
        placement: 0,
        target: None,
        tried: Vec::new(),
        intent: matches!(stage, Stage::Sending | Stage::Accepted).then_some(guest.id.0),
        known_migrations: Vec::new(),
        migration: None,
        ends: (stage == Stage::Unlocking).then_some(VmoveStatus::Ignored),
    }
}

/// Recovery, moves and facts as drawn, with `now` the reader's time.
fn view(drawn: &Drawn, now: Mono) -> (Recovery, BTreeMap<InstanceId, Vmove>, Facts) {
    let world = World::new(drawn.scenario.clone(), now, NOON);
    let ago = |ms: u64| Mono(now.0 - ms);
    let mut recovery = world.store.recovery.clone();
    recovery.body =
        Body::Host(HostRecovery { state: state(drawn, &world.store.host), ..HostRecovery::new() });
    let mut facts = Facts {
        host: Some(world.store.host.clone()),
        claimed_at: ago(50_000),
        segment_enabled: true,
        evidence: world.evidence.clone(),
        ..Facts::default()
    };
    facts.evidence.beats.last_echoed = drawn.echoed.map(ago);
    if let Some(service) = &mut facts.evidence.service {
        service.up = drawn.up;
    }
    facts.power = drawn.power.map(|(age, word, identified)| {
        let power = match word {
            0 => Power::On,
            1 => Power::Other("PoweringOff".into()),
            _ => Power::Off,
        };
        PowerReading { at: ago(age), power, identified, device: "bmc".into() }
    });
    (facts.marked_at, facts.proved_at) = (drawn.marked.map(ago), drawn.proved.map(ago));
    let (mut moves, mut survey) = (
        BTreeMap::new(),
        drawn.survey.map(|(age, complete)| Survey { at: ago(age), complete, ..Survey::default() }),
    );
    for (number, (stage, attempt, listed, seen, record)) in drawn.moves.iter().enumerate() {
        let id = InstanceId(Uuid::from_u128(0x9100 + number as u128));
        let place = if *listed || *record == 3 { DEAD } else { "cmp-1" };
        let guest =
            Guest { ha_enabled: Some("true".into()), ..Guest::active_on(id, &format!("g{number}"), place) };
        let stage = if *stage < 5 { Stage::Ready } else { Stage::ALL[usize::from(*stage)] };
        moves.insert(id, vmove(&recovery, &guest, stage, *attempt));
        facts.guests.extend(seen.map(|age| (id, (ago(age), Some(guest.clone())))));
        let Some(survey) = &mut survey else { continue };
        if *listed {
            survey.guests.push(guest);
        }
        let status = ["accepted", "done", "error"].get(usize::from(*record));
        if let Some(status) = status {
            let dest = (*record == 1).then(|| "cmp-1".to_owned());
            let row = Migration {
                id: number as i64,
                instance: id,
                source: DEAD.into(),
                dest,
                status: (*status).into(),
                kind: "evacuation".into(),
            };
            facts.migrations.insert(row.id, row);
        }
    }
    facts.survey = survey;
    (recovery, moves, facts)
}

fn answer(drawn: &Drawn, now: Mono) -> (Step, Recovery, Facts) {
    let (recovery, vmoves, facts) = view(drawn, now);
    let answer = step(
        View { recovery: &recovery, vmoves: &vmoves, facts: &facts, now, stamp: NOON },
        &mut Chance::new(7),
    );
    (answer, recovery, facts)
}

fn draws(step: &Step, which: impl Fn(&Effect) -> bool) -> Vec<&Effect> {
    step.change
        .iter()
        .flat_map(|change| &change.acts)
        .map(|(_, effect)| effect)
        .filter(|effect| which(effect))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// I1, I3, I17, I26 on whatever state: what an evacuation rests on is there at the very step.
    #[test]
    fn a_step_that_evacuates_rests_on_proof_reading_and_listing(drawn in drawn()) {
        let (step, _, facts) = answer(&drawn, START);
        for effect in draws(&step, |effect| matches!(effect, Effect::Evacuate { .. })) {
            prop_assert!(matches!(drawn.state, 5 | 8..), "I1: evacuates in state {}", drawn.state);
            if drawn.means == 0 {
                let (age, word, identified) = drawn.power.expect("I3: a reading");
                prop_assert!(identified && word >= 2 && age <= 10_000, "I3: {age} ms, word {word}");
            }
            let since = drawn.proved.unwrap_or(50_000);
            prop_assert!(drawn.echoed.is_none_or(|beat| beat >= since), "I17: a beat after the proof");
            let on = drawn.power.is_some_and(|(age, word, identified)| identified && word == 0 && age < since);
            prop_assert!(!on, "I17: read On after the proof");
            let (age, complete) = drawn.survey.expect("I26: a listing");
            prop_assert!(complete && age <= 2_000, "I26: listed {age} ms ago");
            let id = effect.instance().expect("a guest");
            prop_assert!(facts.survey.as_ref().is_some_and(|survey| survey.guests.iter().any(|guest| guest.id == id)), "I26: listed");
            let number = (id.0.as_u128() - 0x9100) as usize;
            let (_, attempt, _, seen, record) = drawn.moves[number];
            prop_assert!(attempt == 0 || seen.is_some_and(|age| age <= 2_000), "I26: a repeat has its own reading");
            prop_assert!(record != 0, "I9: a live record of nobody's knowledge");
        }
    }

    /// I2, and which deed belongs to which state.
    #[test]
    fn a_step_does_what_its_state_may(drawn in drawn()) {
        let (step, ..) = answer(&drawn, START);
        for effect in draws(&step, |_| true) {
            match effect {
                Effect::MarkDown { .. } => prop_assert!(drawn.state == 3 && drawn.means != 2, "I2: state {} means {}", drawn.state, drawn.means),
                Effect::PowerOff { .. } => prop_assert!(step.change.as_ref().is_some_and(|change| !change.body.word().is_closed())),
                Effect::ForceUp { .. } | Effect::Enable { .. } | Effect::Disable { .. } => prop_assert!(false, "not here: {effect:?}"),
                _ => {}
            }
        }
    }

    /// L3: a step that changes nothing says why and looks again within five seconds.
    #[test]
    fn a_step_that_waits_says_why_and_how_long(drawn in drawn()) {
        let (step, ..) = answer(&drawn, START);
        prop_assert!(!step.wait.reason.is_empty());
        prop_assert!(step.wait.until > START && step.wait.until <= START + Duration::from_secs(5), "{:?}", step.wait.until);
    }

    /// A storm asks Nova no more than one host's death may: what others leave is not exceeded, and is looked at again soon.
    #[test]
    fn a_step_keeps_to_the_room_that_others_leave(drawn in drawn(), out in 0usize..3, back in 0usize..3) {
        let (recovery, vmoves, mut facts) = view(&drawn, START);
        let mut acts = |room| {
            facts.room = room;
            let view = View { recovery: &recovery, vmoves: &vmoves, facts: &facts, now: START, stamp: NOON };
            let step = step(view, &mut Chance::new(7));
            (Calls::of(draws(&step, |_| true)), step.wait.until)
        };
        let (alone, _) = acts(None);
        let (crowded, until) = acts(Some(Calls { out, back }));
        prop_assert!(crowded.out <= out && crowded.back <= back, "{crowded:?} of {out} and {back}");
        if alone != crowded {
            prop_assert!(until <= START + Duration::from_millis(500), "it looks again at {until:?}");
        }
    }

    /// I23: only spans count.
    #[test]
    fn a_step_does_not_know_what_time_it_is(drawn in drawn(), shift in 1u64..1_000_000_000_000) {
        let (here, ..) = answer(&drawn, START);
        let (there, ..) = answer(&drawn, Mono(START.0 + shift));
        let back = |mut step: Step| {
            step.wait.until = Mono(step.wait.until.0 - shift);
            for memory in step.change.iter_mut().flat_map(|change| &mut change.memory) {
                if let Memory::PauseGuest(_, at) | Memory::NotBefore(at) = memory {
                    *at = Mono(at.0 - shift);
                }
            }
            step
        };
        prop_assert_eq!(here, back(there));
    }
}

/// I9: Nova's word about an earlier attempt's action says nothing of the record of a later one.
/// An answer that proves, once to the order that stands and once to one that it has replaced.
#[test]
fn i15_only_the_newest_order_s_answer_proves() {
    for superseded in [false, true] {
        let world = World::new(calm(), START, NOON);
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let order = Order { attempt: 2, boot_number: world.store.host.boot_number, intent: Some(new) };
        let mut recovery = world.store.recovery.clone();
        recovery.body =
            Body::Host(HostRecovery { state: HostState::Fencing { order }, ..HostRecovery::new() });
        let outcome = Outcome {
            intent: if superseded { old } else { new },
            effect: Effect::PowerOff { host: world.store.host.id, drill: false },
            done: Done::Fenced { report: off_twice() },
            at: START,
        };
        let facts = Facts {
            host: Some(world.store.host.clone()),
            outcomes: vec![outcome],
            in_flight: BTreeMap::from([(new, Effect::PowerOff { host: world.store.host.id, drill: false })]),
            segment_enabled: true,
            ..Facts::default()
        };
        let none = BTreeMap::new();
        let view = View { recovery: &recovery, vmoves: &none, facts: &facts, now: START, stamp: NOON };
        let change = step(view, &mut Chance::new(1)).change.expect("the answer is taken up");
        let Body::Host(body) = &change.body else { panic!("a host's") };
        assert_eq!(body.state.proof().is_none(), superseded);
        assert_eq!(change.resolved[0].result, if superseded { "superseded" } else { "done" });
    }
}

#[test]
fn i9_an_old_action_s_error_does_not_end_a_new_evacuation() {
    let world = World::new(calm(), START, NOON);
    let ago = |ms: u64| Mono(START.0 - ms);
    let order = Order { attempt: 1, boot_number: world.store.host.boot_number, intent: None };
    let drawn = Drawn {
        scenario: calm(),
        state: 9,
        means: 0,
        power: None,
        survey: None,
        marked: None,
        proved: None,
        echoed: None,
        up: false,
        moves: Vec::new(),
    };
    let proof = proof(&drawn, &world.store.host);
    let mut recovery = world.store.recovery.clone();
    recovery.body = Body::Host(HostRecovery {
        state: HostState::Evacuating { order, proof },
        evacuated: true,
        ..HostRecovery::new()
    });
    let guest = Guest::active_on(InstanceId(Uuid::from_u128(0x9100)), "g", DEAD);
    let row = |id, status: &str| Migration {
        id,
        instance: guest.id,
        source: DEAD.into(),
        dest: None,
        status: status.into(),
        kind: "evacuation".into(),
    };
    let rows = vec![row(1, "error"), row(2, "accepted")];
    let second = Vmove {
        known_migrations: vec![1],
        migration: Some(2),
        ..vmove(&recovery, &guest, Stage::Accepted, 2)
    };
    let facts = Facts {
        host: Some(world.store.host.clone()),
        claimed_at: ago(100_000),
        proved_at: Some(ago(15_000)),
        evidence: world.evidence.clone(),
        migrations: rows.iter().map(|row| (row.id, row.clone())).collect(),
        migrations_at: Some(START),
        survey: Some(Survey {
            at: ago(100),
            complete: true,
            guests: vec![guest.clone()],
            migrations: rows,
            ..Survey::default()
        }),
        // The first attempt's, a minute ago; the second was accepted eleven seconds ago.
        actions: BTreeMap::from([(guest.id, (ago(60_000), Some("No valid host was found".to_owned())))]),
        accepted_since: BTreeMap::from([(guest.id, ago(11_000))]),
        power: Some(PowerReading { at: ago(100), power: Power::Off, identified: true, device: "bmc".into() }),
        ..Facts::default()
    };
    let vmoves = BTreeMap::from([(guest.id, second)]);
    let answer = step(
        View { recovery: &recovery, vmoves: &vmoves, facts: &facts, now: START, stamp: NOON },
        &mut Chance::new(7),
    );
    let settled =
        answer.change.iter().flat_map(|change| &change.resolved).any(|end| end.intent == guest.id.0);
    assert!(!settled, "a live evacuation was called failed: {:?}", answer.change);
}

/// A proof by power for this host's boot.
pub(super) fn proof_of(host: &Host) -> FenceProof {
    prove(host.id, host.boot_number, 4, &off_twice()).expect("read Off twice")
}

fn off_twice() -> FenceReport {
    let off = |at_ms| Reading { power: Power::Off, at_ms, after_order: true };
    let attempt = DeviceAttempt {
        level: 0,
        device: "bmc".into(),
        token: None,
        identity_matches: Some(true),
        stated: false,
        held: false,
        order: OrderAnswer::Accepted,
        readings: vec![off(0), off(1_000)],
        error: None,
        took_ms: 1_000,
    };
    FenceReport { attempts: vec![attempt], levels: vec![1] }
}

/// A move that was tried so often, at this stage, with no lock of ours.
pub(super) fn sent(recovery: &Recovery, guest: &Guest, stage: Stage, attempt: u32) -> Vmove {
    vmove(recovery, guest, stage, attempt)
}

/// A host with an agent and a device, and nothing going wrong.
pub(super) fn calm() -> Scenario {
    Scenario {
        kind: Kind::Host,
        hooked: false,
        ordered: false,
        watched: false,
        seed: 1,
        events: 1,
        guests: 0,
        agent: true,
        device: true,
        trust: false,
        method: crate::segment::RecoveryMethod::Auto,
        policy: crate::policy::Policy::default(),
        db: 0,
        nova: 0,
        bmc: 0,
        life: 0,
        people: 0,
        crashes: 0,
    }
}

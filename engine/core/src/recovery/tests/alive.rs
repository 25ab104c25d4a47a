//! Hosts that turn out to live, die once more, or are somebody else's destination: what one hand must not do beside another. Each case is a
//! hole that the model of the protocol found.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::views::{calm, proof_of, sent};
use super::world::{DEAD, SERIAL, World};
use super::{NOON, START};
use crate::admission::{HostReturn, ReturnState};
use crate::chance::Chance;
use crate::effect::{Done, Effect, Migration, Query, ServiceRow, Survey};
use crate::event::EventKind;
use crate::evidence::{Power, PowerReading};
use crate::facts::{Confirmation, Facts, Outcome, ProvedOff};
use crate::host::{Admission, Host, SetByUs};
use crate::id::{BootId, HostId, InstanceId};
use crate::instance::Guest;
use crate::policy::Policy;
use crate::recovery::host::{HostRecovery, HostState, Order};
use crate::recovery::{Body, Recovery, Stage, StateWord, Subject, Vmove, VmoveStatus, step};
use crate::runner::{HostCondition, Intent};
use crate::step::{Change, Step, View};
use crate::time::Mono;

fn ago(ms: u64) -> Mono {
    Mono(START.0 - ms)
}

fn reading(power: Power) -> PowerReading {
    PowerReading { at: ago(100), power, identified: true, device: "bmc".into() }
}

struct Case {
    recovery: Recovery,
    facts: Facts,
    vmoves: BTreeMap<InstanceId, Vmove>,
}

impl Case {
    fn new() -> Case {
        let mut world = World::new(calm(), START, NOON);
        let mut runner = world.claim();
        world.surround(&mut runner);
        let mut facts = runner.facts.clone();
        facts.evidence.beats.panic = None;
        facts.claimed_at = ago(60_000);
        facts.ordered_at = Some(ago(20_000));
        Case { recovery: runner.recovery().clone(), facts, vmoves: BTreeMap::new() }
    }

    fn host(&self) -> Host {
        self.facts.host.clone().expect("a row")
    }

    fn order(&self) -> Order {
        Order { attempt: 1, boot_number: self.host().boot_number, intent: None }
    }

    /// An order stands, and its host reads On and spoke after it.
    fn alive() -> Case {
        let mut case = Case::new();
        let state = HostState::Fencing { order: case.order() };
        case.recovery.body = Body::Host(HostRecovery { state, ..HostRecovery::new() });
        case.set(Admission::Out);
        case.power(Power::On);
        case.facts.evidence.beats.last_echoed = Some(ago(300));
        case.facts.evidence.beats.last.iter_mut().for_each(|(_, at)| *at = ago(300));
        case
    }

    fn body(&mut self) -> &mut HostRecovery {
        match &mut self.recovery.body {
            Body::Host(body) => body,
            _ => panic!("a host's"),
        }
    }

    fn set(&mut self, admission: Admission) {
        self.facts.host.as_mut().expect("a row").admission = admission;
    }

    fn power(&mut self, power: Power) {
        self.facts.power = Some(reading(power));
        self.facts.evidence.power = self.facts.power.clone();
    }

    /// A return of that host.
    fn returning(state: ReturnState, lived: bool) -> Case {
        let mut case = Case::new();
        case.recovery.subject = Subject::Return { host: case.host().id };
        let admitted = matches!(state, ReturnState::Admitted { .. });
        case.recovery.body = Body::Return(HostReturn { state, lived, ..HostReturn::new() });
        case.set(if admitted { Admission::Admitted } else { Admission::Out });
        case
    }

    fn answered(&mut self, effect: Effect, done: Done) -> &mut Case {
        self.facts.outcomes = vec![Outcome { intent: Uuid::from_u128(9), effect, done, at: ago(10) }];
        self
    }

    fn step(&self) -> Step {
        let view = View {
            recovery: &self.recovery,
            vmoves: &self.vmoves,
            facts: &self.facts,
            now: START,
            stamp: NOON,
        };
        step(view, &mut Chance::new(7))
    }

    fn change(&self) -> Change {
        self.step().change.expect("a change")
    }

    fn acts(&self) -> Vec<&'static str> {
        let acts = self.step().change.map(|change| change.acts).unwrap_or_default();
        acts.iter().map(|(_, effect)| effect.word()).collect()
    }
}

fn admission(change: &Change) -> Option<Admission> {
    change.hosts.iter().find_map(|(_, patch)| patch.admission)
}

fn revoke(case: &Case) -> Effect {
    Effect::RevokeSessions { host: case.host().id }
}

fn refused() -> Done {
    Done::NotExecuted { text: "silence".into() }
}

fn guest_here() -> Guest {
    Guest::active_on(InstanceId(Uuid::from_u128(0x9100)), "g", DEAD)
}

fn retiring(change: &Change) -> Option<bool> {
    match &change.body {
        Body::Host(body) => body.retiring,
        _ => panic!("a host's"),
    }
}

#[test]
fn a_retired_order_keeps_its_host_out_until_nothing_can_come_any_more() {
    let mut case = Case::alive();
    let change = case.change();
    assert!(change.audit.iter().any(|entry| entry.what == "order_retired"));
    assert_eq!((admission(&change), retiring(&change)), (None, Some(false)));

    case.body().retiring = Some(false);
    case.facts.orders_over_at = Some(ago(29_000));
    assert_eq!(case.acts(), ["revoke_sessions"]);
    let effect = revoke(&case);
    let change = case.answered(effect.clone(), refused()).change();
    assert_eq!((admission(&change), retiring(&change)), (None, Some(false)), "not revoked");
    let change = case.answered(effect, Done::Accepted { note: String::new() }).change();
    assert_eq!((admission(&change), retiring(&change)), (None, Some(true)), "its lifetime is not over");

    case.facts.outcomes.clear();
    case.facts.orders_over_at = Some(ago(30_000));
    assert_eq!(case.acts(), ["revoke_sessions"], "its lifetime is over, and it is not revoked");
    case.body().retiring = Some(true);
    let change = case.change();
    assert_eq!((admission(&change), change.body.word()), (Some(Admission::In), StateWord::Confirming));
    assert_eq!(retiring(&change), None);
}

#[test]
fn a_revoking_that_was_cut_off_with_its_engine_is_done_again() {
    let mut case = Case::alive();
    case.body().retiring = Some(false);
    case.facts.inherited = vec![Intent {
        id: Uuid::from_u128(9),
        recovery: Some(case.recovery.id),
        host: Some(case.host().id),
        vmove: None,
        effect: "revoke_sessions".into(),
        open_key: None,
        epoch: 3,
        attempt: 1,
        detail: serde_json::Value::Null,
    }];
    assert_eq!(case.acts(), ["revoke_sessions"]);
}

#[test]
fn a_host_that_dies_while_its_order_is_retired_is_ordered_off_again() {
    let mut case = Case::alive();
    case.body().retiring = Some(true);
    case.facts.orders_over_at = Some(ago(5_000));
    assert!(case.acts().is_empty(), "it lives");
    case.power(Power::Off);
    case.facts.evidence.beats.last_echoed = Some(ago(6_000));
    case.facts.evidence.beats.last.iter_mut().for_each(|(_, at)| *at = ago(6_000));
    assert_eq!(case.acts(), ["power_off"]);
}

#[test]
fn a_return_waits_for_a_controller_that_does_not_revoke_but_not_for_ever() {
    let mut case = Case::returning(ReturnState::Draining { revoked: false }, false);
    let state = |change: &Change| match &change.body {
        Body::Return(body) => body.state.clone(),
        _ => panic!("a return's"),
    };
    let effect = revoke(&case);
    let change = case.answered(effect, refused()).change();
    assert_eq!(state(&change), ReturnState::Draining { revoked: false });
    case.facts.outcomes.clear();
    assert_eq!(case.acts(), ["revoke_sessions"], "its lifetime is long over, and it is asked again");
    case.facts.orders_over_at = Some(ago(300_000));
    let events = case.change().events;
    assert!(events.iter().any(|event| event.kind == EventKind::RecoveryNeedsOperator));
    case.facts.readmitted = Some("ann".into());
    assert_eq!(state(&case.change()), ReturnState::Out, "a person takes it back");
    case.facts.readmitted = None;
    case.facts.orders_over_at = Some(ago(2_250_000));
    assert_eq!(state(&case.change()), ReturnState::Out, "its idle sessions have ended");
}

#[test]
fn a_return_stands_still_beside_a_recovery_of_its_host_and_begins_afresh() {
    let mut case = Case::returning(ReturnState::Admitted { unforced: false, enabled: false }, true);
    case.facts.host.as_mut().expect("a row").set_by_us =
        SetByUs { disabled: true, forced_down: true, restore_policy: false };
    case.facts.recovering = true;
    let change = case.change();
    assert_eq!((admission(&change), change.body.word()), (Some(Admission::Out), StateWord::Draining));
    assert!(change.acts.is_empty());
    case.recovery.body = change.body;
    case.set(Admission::Out);
    assert!(case.acts().is_empty(), "not even a revoking, which would cut off the new order");
    case.facts.recovering = false;
    let change = case.change();
    assert!(matches!(&change.body, Body::Return(body) if !body.yields && body.lived));
    assert!(change.memory.contains(&crate::step::Memory::OrdersOver), "lifetimes count from here");
}

#[test]
fn an_admitted_host_that_was_taken_out_is_not_let_in() {
    let mut case = Case::returning(ReturnState::Admitted { unforced: true, enabled: true }, true);
    let change = case.change();
    let last = change.hosts.last().expect("a patch");
    assert_eq!(last.1.admission, Some(Admission::In));
    assert!(
        change
            .hosts
            .iter()
            .all(|(_, patch)| patch.only_if == Some(HostCondition::Admission(Admission::Admitted)))
    );
    case.set(Admission::Out);
    assert_eq!(case.change().body.word(), StateWord::Draining);
}

#[test]
fn what_a_mark_down_may_have_set_is_ours_before_it_is_sent() {
    let mut case = Case::new();
    let proof = proof_of(&case.host());
    let state = HostState::Proved { order: case.order(), proof, marked_down: false };
    case.recovery.body = Body::Host(HostRecovery { state, proved: true, ..HostRecovery::new() });
    case.set(Admission::Out);
    case.facts.evidence.beats.last_echoed = None;
    case.power(Power::Off);
    let change = case.change();
    assert_eq!(case.acts(), ["mark_down"]);
    let set = change.hosts.iter().find_map(|(_, patch)| patch.set_by_us).expect("set with the intent");
    assert!(set.forced_down && set.disabled);
}

#[test]
fn after_a_proof_a_living_host_comes_in_by_the_way_of_every_returning_host() {
    let mut case = Case::alive();
    case.body().proved = true;
    case.facts
        .in_flight
        .insert(Uuid::from_u128(8), Effect::MarkDown { host: DEAD.into(), reason: String::new() });
    let closed = |step: Step| step.change.is_some_and(|change| change.body.word().is_closed());
    assert!(!closed(case.step()), "Nova's answer is still to come");
    case.facts.in_flight.clear();
    let change = case.change();
    assert!(change.body.word().is_closed() && admission(&change).is_none());
    assert!(matches!(&change.opens[0].body, Body::Return(body) if body.lived));
}

#[test]
fn a_host_with_guests_that_dies_on_its_way_back_is_recovered() {
    for state in
        [ReturnState::Draining { revoked: true }, ReturnState::Admitted { unforced: false, enabled: false }]
    {
        let mut case = Case::returning(state.clone(), true);
        case.power(Power::Off);
        assert!(case.step().queries.iter().any(|query| matches!(query, Query::Survey { .. })), "{state:?}");
        let guests = vec![guest_here()];
        case.facts.survey = Some(Survey { at: ago(100), complete: true, guests, ..Survey::default() });
        let change = case.change();
        assert!(matches!(&change.opens[0].subject, Subject::Host { .. }), "{state:?}");
        let Body::Return(body) = &mut case.recovery.body else { panic!("a return's") };
        body.lived = false;
        let opens = case.step().change.map(|change| change.opens).unwrap_or_default();
        assert!(opens.is_empty(), "it has not been seen since it was fenced");
    }
}

#[test]
fn another_boot_does_not_retire_the_order_against_the_last_one() {
    let mut case = Case::alive();
    case.facts.evidence.beats.boot = Some(BootId(Uuid::from_u128(77)));
    assert_eq!(case.acts(), ["power_off"], "a new boot: a new order");
}

/// A guest that is to be sent, again or for the first time, whose rebuild on `cmp-2` hangs.
fn hanging(attempt: u32) -> Case {
    let mut case = Case::new();
    let proof = proof_of(&case.host());
    let state = HostState::Evacuating { order: case.order(), proof };
    case.recovery.body =
        Body::Host(HostRecovery { state, evacuated: true, proved: true, ..HostRecovery::new() });
    case.set(Admission::Out);
    case.power(Power::Off);
    case.facts.evidence.beats.last_echoed = None;
    case.facts.proved_at = Some(ago(15_000));
    let guest = guest_here();
    let row = Migration {
        id: 1,
        instance: guest.id,
        source: DEAD.into(),
        dest: Some("cmp-2".into()),
        status: "accepted".into(),
        kind: "evacuation".into(),
    };
    let other = HostId(Uuid::from_u128(0xf0));
    let proved = ProvedOff { host: other, by_power: true, heard: Some(ago(20_000)), spoke: None };
    case.facts.proved_off.insert("cmp-2".into(), proved);
    case.facts.others_power.insert(other, reading(Power::Off));
    case.facts.migrations = BTreeMap::from([(1, row.clone())]);
    case.facts.migrations_at = Some(START);
    case.facts.guests.insert(guest.id, (ago(50), Some(guest.clone())));
    let up = ServiceRow {
        id: "2".into(),
        host: "cmp-2".into(),
        up: true,
        enabled: false,
        forced_down: true,
        disabled_reason: None,
        updated_at: None,
        whole: true,
    };
    case.facts.survey = Some(Survey {
        at: ago(100),
        complete: true,
        guests: vec![guest.clone()],
        migrations: vec![row],
        services: vec![up],
    });
    case.vmoves = BTreeMap::from([(guest.id, sent(&case.recovery, &guest, Stage::Ready, attempt))]);
    case
}

#[test]
fn another_hosts_proof_is_worth_a_fresh_reading() {
    let other = HostId(Uuid::from_u128(0xf0));
    assert_eq!(hanging(0).acts(), ["evacuate"]);
    let asks = |case: &Case| case.step().queries.contains(&Query::Power { host: other });
    let mut case = hanging(0);
    case.facts.others_power.clear();
    assert!(case.acts().is_empty() && asks(&case), "nobody has read it");
    let fresh = Policy::default().power_fresh_ms;
    case.facts.others_power.insert(other, PowerReading { at: ago(fresh + 1), ..reading(Power::Off) });
    assert!(case.acts().is_empty() && asks(&case), "too old");
    case.facts.others_power.insert(other, reading(Power::On));
    assert!(case.acts().is_empty(), "it is on again");
    let mut case = hanging(0);
    case.facts.proved_off.get_mut("cmp-2").expect("proved").heard = Some(ago(500));
    assert!(case.acts().is_empty(), "it was heard a moment ago");
}

#[test]
fn a_guest_is_not_sent_again_while_nova_would_choose_a_dead_host() {
    assert_eq!(hanging(1).acts(), ["evacuate"]);
    let mut case = hanging(1);
    case.facts.survey.as_mut().expect("a survey").services[0].forced_down = false;
    assert!(case.acts().is_empty());
}

#[test]
fn a_guest_that_came_by_an_older_record_is_there_although_the_newest_hangs() {
    let moved = |placed: &str, read: u64, done: &str, dies: Option<Power>, old: bool| {
        let mut case = hanging(1);
        let guest = Guest { host: Some(placed.into()), ..guest_here() };
        let hangs = Migration { id: 2, dest: None, ..case.facts.migrations[&1].clone() };
        let dest = Some("cmp-1".to_owned());
        case.facts.migrations.insert(2, hangs);
        case.facts.migrations.entry(1).and_modify(|row| (row.status, row.dest) = (done.into(), dest));
        case.facts.guests.insert(guest.id, (ago(read), Some(guest.clone())));
        if let Some(power) = dies {
            let off = case.facts.proved_off["cmp-2"].clone();
            case.facts.others_power.insert(off.host, reading(power));
            case.facts.proved_off.insert("cmp-1".into(), off);
        }
        let mut vmove = sent(&case.recovery, &guest, Stage::Accepted, 1);
        vmove.known_migrations = if old { vec![1] } else { Vec::new() };
        case.vmoves = BTreeMap::from([(guest.id, vmove)]);
        case.facts.accepted_since.insert(guest.id, ago(2_000));
        let vmoves = case.step().change.map(|change| change.vmoves).unwrap_or_default();
        vmoves.into_iter().find_map(|vmove| vmove.ends)
    };
    assert_eq!(moved("cmp-1", 50, "done", None, false), Some(VmoveStatus::Succeeded));
    let off = Some(Power::Off);
    assert_eq!(
        moved("cmp-1", 50, "done", off, false),
        Some(VmoveStatus::Ignored),
        "its recovery answers for it"
    );
    let on = Some(Power::On);
    assert_eq!(moved("cmp-1", 50, "done", on, false), Some(VmoveStatus::Succeeded), "it has power again");
    assert_eq!(moved("cmp-1", 2_001, "done", None, false), None, "seen before the call was taken");
    assert_eq!(moved(DEAD, 50, "done", None, false), None, "not seen there yet");
    assert_eq!(moved("cmp-1", 50, "pre-migrating", None, false), None, "nor is it done");
    assert_eq!(moved("cmp-1", 50, "done", None, true), None, "an evacuation of before this recovery");
}

#[test]
fn an_older_actions_error_does_not_end_a_call_that_is_young() {
    let ends = |accepted: u64| {
        let mut case = hanging(1);
        let guest = guest_here();
        let hangs = Migration { id: 2, dest: None, ..case.facts.migrations[&1].clone() };
        case.facts.migrations.insert(2, hangs);
        case.facts.migrations.entry(1).and_modify(|row| row.status = "done".into());
        case.vmoves = BTreeMap::from([(guest.id, sent(&case.recovery, &guest, Stage::Accepted, 1))]);
        case.facts.accepted_since.insert(guest.id, ago(accepted));
        case.facts.actions.insert(guest.id, (ago(50), Some("no valid host".into())));
        let change = case.step().change;
        change.is_some_and(|change| change.vmoves.iter().any(|vmove| vmove.stage != Stage::Accepted))
    };
    assert!(!ends(2_000), "Nova may not have begun with this call's action");
    assert!(ends(10_001));
}

/// A person states that it is off, a second ago; what the step then does, and whether it says that the statement is void.
fn stated(seen: fn(&mut Case)) -> (Change, Option<String>) {
    let mut case = Case::new();
    case.facts.evidence.beats.last_echoed = Some(ago(20_000));
    case.facts.evidence.service = None;
    let said = Confirmation {
        at: ago(1_000),
        serial: SERIAL.into(),
        actor: "ann".into(),
        reason: "unplugged".into(),
    };
    case.facts.confirmation = Some(said);
    case.power(Power::Off);
    seen(&mut case);
    let change = case.step().change.unwrap_or_else(|| panic!("{:?}", case.step()));
    let void = change.audit.iter().find(|entry| entry.what == "statement_void").map(|void| void.text.clone());
    (change, void)
}

#[test]
fn a_statement_is_void_by_life_since_and_its_speaker_is_told() {
    let proved = |change: &Change| matches!(&change.body, Body::Host(body) if body.proved);
    let (change, void) = stated(|_| {});
    assert!(proved(&change) && void.is_none(), "{change:?}");
    let spoke =
        |case: &mut Case| case.facts.evidence.beats.last.iter_mut().for_each(|(_, at)| *at = ago(300));
    let (change, void) = stated(spoke);
    assert!(!proved(&change));
    assert!(void.is_some_and(|text| text.contains("ann") && text.contains("0.3 s ago")));
    let (change, void) = stated(|case| case.power(Power::On));
    assert!(!proved(&change));
    assert!(void.is_some_and(|text| text.contains("bmc reads On")));
    // A moment before it: silence is waited for, and then it counts.
    let just_before = |case: &mut Case| {
        case.facts.evidence.beats.last.iter_mut().for_each(|(_, at)| *at = ago(1_100));
    };
    let (change, void) = stated(just_before);
    assert!(!proved(&change) && void.is_none());
}

#[test]
fn a_host_is_not_taken_back_while_an_old_rebuild_waits_for_its_nova_compute() {
    let back = |placed: &str, newer: bool| {
        let mut case = Case::returning(ReturnState::Out, false);
        case.power(Power::On);
        let guest = Guest { host: Some(placed.into()), ..guest_here() };
        let row = |id, dest: &str| Migration {
            id,
            instance: guest.id,
            source: "cmp-1".into(),
            dest: Some(dest.into()),
            status: "accepted".into(),
            kind: "evacuation".into(),
        };
        let mut migrations = vec![row(1, DEAD)];
        migrations.extend(newer.then(|| row(2, "cmp-2")));
        case.facts.survey = Some(Survey { at: ago(100), complete: true, migrations, ..Survey::default() });
        case.facts.guests.insert(guest.id, (ago(50), Some(guest)));
        admission(&case.change())
    };
    assert_eq!(back("cmp-2", false), None, "it was rebuilt elsewhere");
    assert_eq!(back("cmp-1", true), None, "it is being rebuilt elsewhere");
    assert_eq!(back("cmp-1", false), Some(Admission::Admitted), "nobody else has it: here it may come up");
}

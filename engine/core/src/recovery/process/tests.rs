//! A process' recovery in the hands of its runner, with a Nova of a few lines.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::chance::Chance;
use crate::effect::ServiceRow;
use crate::event::EventKind;
use crate::facts::{Facts, Outcome};
use crate::host::{Host, Maintenance};
use crate::id::{HostId, NotificationId, RecoveryId, SegmentId};
use crate::notification::NotificationStatus;
use crate::policy::Policy;
use crate::recovery::{self, Recovery, WORKFLOW_VERSION};
use crate::segment::RecoveryMethod;
use crate::step::{Change, View};
use crate::time::{Mono, Stamp};
use crate::verdict::row_window;

const HOST: HostId = HostId(Uuid::from_u128(1));

/// A recovery with the world around it; time goes by whole seconds.
struct Case {
    recovery: Recovery,
    facts: Facts,
    now: Mono,
    chance: Chance,
    /// When the row was last changed, as Nova shows it.
    updated: String,
}

impl Case {
    fn new(state: ProcessState) -> Case {
        let recovery = Recovery {
            id: RecoveryId(Uuid::from_u128(4)),
            notification: NotificationId(Uuid::from_u128(5)),
            segment: SegmentId(Uuid::from_u128(2)),
            subject: Subject::Process { host: HOST, name: NOVA_COMPUTE.into() },
            host_name: "cmp-01".into(),
            method: RecoveryMethod::Auto,
            policy: Policy::default(),
            body: Body::Process(ProcessRecovery { state }),
            hooks: crate::hook::Hooks::default(),
            reason: String::new(),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 1,
            version: 1,
            opened_at: Stamp(0),
            closed_at: None,
        };
        let host = Host {
            maintenance: Maintenance { process: true, ..Maintenance::default() },
            boot_number: 1,
            set_by_us: SetByUs { disabled: true, ..SetByUs::default() },
            ..Host::new(HOST, recovery.segment, "cmp-01")
        };
        let now = Mono(1_000_000);
        let facts = Facts { host: Some(host), claimed_at: now, ..Facts::default() };
        Case { recovery, facts, now, chance: Chance::new(1), updated: "0".into() }
    }

    fn returning() -> Case {
        Case::new(ProcessState::Returning)
    }

    fn host(&mut self) -> &mut Host {
        self.facts.host.as_mut().expect("a host")
    }

    fn row(&self, up: bool) -> ServiceRow {
        ServiceRow {
            id: "1".into(),
            host: "cmp-01".into(),
            up,
            enabled: false,
            forced_down: false,
            disabled_reason: Some("Halberd: process failed (recovery 4)".into()),
            updated_at: Some(self.updated.clone()),
            whole: true,
        }
    }

    fn show(&mut self, row: ServiceRow) {
        self.facts.pulse.observe(Some(&row), row_window(&self.recovery.policy), self.now);
        self.facts.service = Some((self.now, Some(row)));
    }

    /// One look a second later; nova-compute writes the row then, or not.
    fn second(&mut self, up: bool, writes: bool) -> Option<Change> {
        self.now = self.now + Duration::from_secs(1);
        if writes {
            self.updated = self.now.0.to_string();
        }
        let row = self.row(up);
        self.show(row);
        self.step()
    }

    /// So many seconds of a nova-compute that reports each ten; the first change, if any, and when.
    fn alive(&mut self, seconds: u64) -> Option<(u64, Change)> {
        (1..=seconds).find_map(|at| Some((at, self.second(true, at % 10 == 0)?)))
    }

    fn step(&mut self) -> Option<Change> {
        let view = View {
            recovery: &self.recovery,
            vmoves: &BTreeMap::new(),
            facts: &self.facts,
            now: self.now,
            stamp: Stamp(0),
        };
        recovery::step(view, &mut self.chance).change
    }

    fn answer(&mut self, effect: Effect, done: Done) -> Change {
        self.facts.outcomes = vec![Outcome { intent: Uuid::from_u128(9), effect, done, at: self.now }];
        self.step().expect("an answer is taken up")
    }
}

fn enable() -> Effect {
    Effect::Enable { host: "cmp-01".into() }
}

fn accepted() -> Done {
    Done::Accepted { note: String::new() }
}

fn effects(change: &Change) -> Vec<Effect> {
    change.acts.iter().map(|(_, effect)| effect.clone()).collect()
}

fn ended(change: &Change) -> &str {
    assert_eq!(change.body.word(), StateWord::Finished, "{}", change.reason);
    assert!(change.events.iter().any(|event| event.kind == EventKind::RecoveryClosed));
    &change.reason
}

fn patch(change: &Change) -> &HostPatch {
    &change.hosts.first().expect("a patch").1
}

#[test]
fn a_host_out_of_scheduling_is_finished_to_v1_and_stays_open() {
    let mut case = Case::new(ProcessState::Verifying);
    let change = case.second(false, false).expect("a change");
    assert_eq!(change.body.word(), StateWord::Returning);
    assert_eq!(change.body.word().notification_status(), NotificationStatus::Finished);
    assert!(!change.body.word().is_closed());
    assert_eq!(change.message.as_deref(), Some("out of scheduling"));
    assert!(change.events.is_empty(), "its ticket is closed when it closes");
    assert!(change.acts.is_empty());
}

#[test]
fn without_the_policy_it_ends_there_as_the_original_did() {
    let mut case = Case::new(ProcessState::Verifying);
    case.recovery.policy.clear_maintenance_on_return = false;
    let change = case.second(false, false).expect("a change");
    assert_eq!(ended(&change), "out of scheduling");
}

#[test]
fn a_disable_whose_answer_was_lost_is_still_ours() {
    let mut case = Case::new(ProcessState::Disabling);
    case.host().set_by_us.disabled = false;
    case.now = case.now + Duration::from_secs(1);
    let view =
        |case: &Case, reason: &str| ServiceRow { disabled_reason: Some(reason.into()), ..case.row(false) };
    let row = view(&case, "Halberd: process failed (recovery 00000000-0000-0000-0000-000000000004)");
    case.show(row);
    let change = case.step().expect("a change");
    assert_eq!(patch(&change).set_by_us, Some(SetByUs { disabled: true, ..SetByUs::default() }));

    let row = view(&case, "planned work");
    case.show(row);
    assert!(case.step().expect("a change").hosts.is_empty(), "somebody else had disabled it");
}

#[test]
fn one_that_lives_steadily_is_enabled_and_its_maintenance_ends() {
    let mut case = Case::returning();
    let (at, change) = case.alive(120).expect("it is enabled");
    assert_eq!(effects(&change), vec![enable()]);
    assert!((40..=50).contains(&at), "30 s after its first sign of life, not after {at} s");
    let change = case.answer(enable(), accepted());
    assert_eq!(ended(&change), "nova-compute is well again");
    let patch = patch(&change);
    assert_eq!(patch.maintenance_process, Some(false));
    assert_eq!(patch.set_by_us, Some(SetByUs::default()));
    assert_eq!(patch.only_if, Some(HostCondition::Admission(Admission::In)));
}

#[test]
fn up_alone_is_no_life() {
    let mut case = Case::returning();
    assert!((0..300).all(|_| case.second(true, false).is_none()), "Nova calls a dead one up for a minute");
    assert!((0..300).all(|_| case.second(false, true).is_none()), "a row that Nova calls down");
}

#[test]
fn a_crash_loop_does_not_bring_the_host_in() {
    let mut case = Case::returning();
    for _ in 0..20 {
        // Reports twice, then dies until its supervisor starts it again.
        for at in 0..30 {
            assert!(case.second(true, at == 0 || at == 10).is_none());
        }
    }
    assert!(case.alive(60).is_some(), "and it does when the loop ends");
}

#[test]
fn a_put_is_no_sign_of_life() {
    let mut pulse = crate::sight::Pulse::default();
    let case = Case::returning();
    let gap = Duration::from_secs(15);
    for second in 0..100 {
        let row =
            ServiceRow { updated_at: Some(second.to_string()), enabled: second % 2 == 0, ..case.row(true) };
        pulse.observe(Some(&row), gap, Mono(second * 1_000));
        assert!(!pulse.is_alive());
    }
}

#[test]
fn nothing_is_sent_to_a_silent_host() {
    let mut case = Case::returning();
    case.facts.evidence.agent = true;
    assert!(case.alive(120).is_none());
    let beat = case.now + Duration::from_secs(1);
    case.facts.evidence.beats.last = vec![(crate::evidence::Network::Management, beat)];
    assert_eq!(effects(&case.second(true, true).expect("it speaks")), vec![enable()]);
}

#[test]
fn what_a_person_did_is_left_alone() {
    let mut case = Case::returning();
    case.host().maintenance.process = false;
    let change = case.second(false, false).expect("its maintenance was cleared");
    assert_eq!(ended(&change), "its maintenance was cleared by hand");
    assert!(change.acts.is_empty() && change.hosts.is_empty());

    let mut case = Case::returning();
    let row = ServiceRow { enabled: true, disabled_reason: None, ..case.row(false) };
    case.show(row);
    let change = case.step().expect("its service was enabled");
    assert_eq!(ended(&change), "its service is enabled again");
    assert_eq!(patch(&change).set_by_us, Some(SetByUs::default()));
    assert!(change.acts.is_empty());

    let mut case = Case::returning();
    case.facts.cancelled = Some("ann: enough".into());
    let change = case.second(true, true).expect("cancelled");
    assert!(ended(&change).contains("ann: enough"));
    assert!(change.acts.is_empty() && change.hosts.is_empty());
}

#[test]
fn only_a_disable_of_ours_is_undone() {
    for (ours, reason) in [(true, "planned work"), (false, "Halberd: process failed (recovery 4)")] {
        let mut case = Case::returning();
        case.host().set_by_us.disabled = ours;
        let change = (0..90).find_map(|at| {
            case.now = case.now + Duration::from_secs(1);
            case.updated = (at / 10).to_string();
            let row = ServiceRow { disabled_reason: Some(reason.into()), ..case.row(true) };
            case.show(row);
            case.step()
        });
        let change = change.expect("its maintenance is ours and ends");
        assert!(change.acts.is_empty(), "{reason}");
        assert_eq!(patch(&change).maintenance_process, Some(false));
        assert!(ended(&change).contains("is left so"));
    }
}

#[test]
fn a_host_that_goes_out_or_away_ends_it_and_keeps_what_was_set() {
    let mut case = Case::returning();
    case.host().admission = Admission::Out;
    case.facts.in_flight.insert(Uuid::from_u128(9), enable());
    assert!(case.step().is_none(), "the answer is waited for");
    case.facts.in_flight.clear();
    let change = case.answer(enable(), accepted());
    assert!(ended(&change).contains("is being recovered"));
    assert_eq!(change.resolved.len(), 1);
    assert!(change.hosts.is_empty(), "the host's own return undoes the disable");

    let mut case = Case::returning();
    case.facts.host_gone = true;
    case.facts.host = None;
    assert_eq!(ended(&case.step().expect("deleted")), "its host was deleted");
}

#[test]
fn an_enable_that_was_not_taken_is_tried_again() {
    let mut case = Case::returning();
    case.alive(120).expect("it is enabled");
    let change = case.answer(enable(), Done::Unknown { text: "reset".into() });
    assert_eq!(change.body.word(), StateWord::Returning);
    assert!(change.hosts.is_empty() && change.acts.is_empty());
    case.facts.outcomes.clear();
    case.facts.not_before = Some(case.now + Duration::from_secs(5));
    case.recovery.reason = change.reason;
    assert!((0..4).all(|_| case.second(true, true).is_none()), "after a pause");
    assert_eq!(effects(&case.second(true, true).expect("again")), vec![enable()]);
}

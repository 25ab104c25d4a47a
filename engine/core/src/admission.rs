//! A fenced host's way back (DESIGN 10.1, 10.2). Opened by the close of its recovery, on the same road as everything else.
//!
//! ```text
//! Draining --intents resolved, sessions revoked, command lifetime over--> Out --seen again, no live record--> Admitted
//!   --records completed, no stray guest--> un-force --> enable --> Finished (the host is in)
//! ```
//!
//! Beside a recovery of its host it stands still, and begins afresh; a death on the way opens one ([`again`]).
//!
//! A host returns because a person, or its power, brought it back. It is switched on here only where a person asked for it, or where
//! policy says so in so many words, and then only once it is drained (I12). Only what we set is undone.

mod again;
pub(crate) mod drain;
mod power;
mod queue;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::effect::{Done, Effect, Query};
use crate::event::EventKind;
use crate::evidence::Power;
use crate::facts::Outcome;
use crate::guard::{self, Guard};
use crate::host::{Admission, Asked, Host, SetByUs};
use crate::policy::Policy;
use crate::recovery::{Body, StateWord};
use crate::runner::{HostCondition, HostPatch};
use crate::step::{Draft, Memory};

/// States of a return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ReturnState {
    Draining { revoked: bool },
    Out,
    Admitted { unforced: bool, enabled: bool },
    Finished,
}

/// The wish to have it switched on, as far as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerOn {
    pub by: Asked,
    /// Orders that did not bring it on.
    pub failed: u32,
    /// A device read On after the order: now it has to be seen.
    pub done: bool,
}

/// What is stored of a return.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostReturn {
    pub state: ReturnState,
    #[serde(default)]
    pub power_on: Option<PowerOn>,
    /// Times that its controllers did not take their former power-restore policy back.
    #[serde(default)]
    pub policy_refused: u32,
    /// It was seen alive on this way back, or never stopped: if it dies now, somebody has to say so.
    #[serde(default)]
    pub lived: bool,
    /// A recovery of the host was opened beside: this return stands still until that is closed, and begins afresh.
    #[serde(default)]
    pub yields: bool,
}

impl HostReturn {
    pub fn new() -> HostReturn {
        HostReturn {
            state: ReturnState::Draining { revoked: false },
            power_on: None,
            policy_refused: 0,
            lived: false,
            yields: false,
        }
    }

    /// That of a host whose order was retired: it lives, and its guests are on it.
    pub fn alive() -> HostReturn {
        HostReturn { lived: true, ..HostReturn::new() }
    }

    /// One that is switched on once it is drained.
    pub fn switched_on(by: Asked) -> HostReturn {
        HostReturn { power_on: Some(PowerOn { by, failed: 0, done: false }), ..HostReturn::new() }
    }
}

impl Default for HostReturn {
    fn default() -> Self {
        HostReturn::new()
    }
}

impl ReturnState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Draining { .. } => StateWord::Draining,
            Self::Out => StateWord::Out,
            Self::Admitted { .. } => StateWord::Admitted,
            Self::Finished => StateWord::Finished,
        }
    }
}

/// Looks at an out host, and at one on its way in.
const LOOK_MS: u64 = 2_000;
/// Pause after Nova did not take a call; un-forcing is refused while `done` records remain (NOVA.md).
const CALL_AGAIN_MS: u64 = 3_000;

/// The next step of a return.
pub fn step(draft: &mut Draft<'_>) {
    let inherited: Vec<_> = draft.view.facts.inherited.iter().map(|intent| intent.id).collect();
    for intent in inherited {
        draft.resolve(intent, "superseded", json!({}));
    }
    let Some(host) = draft.view.facts.host.clone() else { return draft.look_after(LOOK_MS) };
    draft.look_after(LOOK_MS);
    if again::yields(draft, &host) {
        return;
    }
    if host.admission == Admission::In && !matches!(body(draft).state, ReturnState::Finished) {
        return already_in(draft);
    }
    power::take_up(draft);
    if again::died(draft, &host) {
        return;
    }
    match body(draft).state.clone() {
        ReturnState::Draining { revoked } => drain(draft, &host, revoked),
        ReturnState::Out => out(draft, &host),
        ReturnState::Admitted { unforced, enabled } => admitted(draft, &host, unforced, enabled),
        ReturnState::Finished => {}
    }
}

fn body<'d>(draft: &'d mut Draft<'_>) -> &'d mut HostReturn {
    match &mut draft.body {
        Body::Return(body) => body,
        _ => unreachable!("a return's step is called for a return"),
    }
}

fn become_state(draft: &mut Draft<'_>, state: ReturnState, reason: &str) {
    draft.note("return_state_changed", format!("{}: {reason}", state.word()), json!({}));
    body(draft).state = state;
    draft.reason = reason.to_owned();
    draft.look_after(0);
}

/// Somebody else has let it in, with nothing of ours left on it: an order that was retired before any proof.
fn already_in(draft: &mut Draft<'_>) {
    let outcomes: Vec<_> =
        draft.view.facts.outcomes.iter().map(|out| (out.intent, out.done.clone())).collect();
    for (intent, done) in outcomes {
        draft.resolve(intent, done.word(), json!({"answer": done}));
    }
    if draft.view.facts.in_flight.is_empty() {
        become_state(draft, ReturnState::Finished, "it is in already");
    }
}

fn drain(draft: &mut Draft<'_>, host: &Host, revoked: bool) {
    let drained = drain::drain(draft, host, revoked);
    if drained.over {
        return become_state(draft, ReturnState::Out, "drained; waiting for the host to come back");
    }
    if drained.revoked && !revoked {
        let state = ReturnState::Draining { revoked: true };
        become_state(draft, state, "waiting for the lifetime of the last command");
    }
}

const FENCED_BOOT_SPEAKS: &str = "its agent beats from the boot that was proved off, so it never was off and its device is not to be trusted; cut its power, then start it";

/// A boot that was fenced is dead for good: if it speaks, its guests may still run, whatever the device reads (DESIGN 10.7).
fn fenced_boot_speaks(draft: &Draft<'_>) -> bool {
    let lately = Policy::ms(draft.view.policy().suspect_after_ms);
    draft.view.facts.evidence.beats.retired_echoed.is_some_and(|at| draft.view.now.since(at) <= lately)
}

/// Seen again: reads On, or its agent speaks from another boot than the one that was fenced.
fn out(draft: &mut Draft<'_>, host: &Host) {
    let facts = draft.view.facts;
    let fenced_boot = host.boot.is_some_and(|boot| host.retired_boots.contains(&boot));
    let policy = draft.view.policy();
    let power = facts.fresh_power(draft.view.now, policy.power_fresh_ms);
    let beating =
        facts.evidence.beats.last_any().is_some_and(|at| draft.view.now.since(at) <= policy.first_missed());
    let new_boot = facts.evidence.beats.boot.filter(|boot| !host.retired_boots.contains(boot));
    let beats = new_boot.filter(|_| beating && power != Some(&Power::Off));
    let on = power == Some(&Power::On);
    let readmitted = facts.readmitted.clone();
    let seen = beats.is_some() || on;
    let ordered = facts.in_flight("power_on") || facts.outcome("power_on").is_some();
    let warned =
        if seen || ordered || readmitted.is_some() { queue::Warned::No } else { queue::warn(draft, host) };
    let waits_for = match warned {
        queue::Warned::No => power::switch_on(draft, host, seen),
        queue::Warned::Looking(text) | queue::Warned::Of(text) => Some(text),
    };
    if !seen && readmitted.is_none() {
        if facts.evidence.has_device {
            draft.ask_every(Query::Power { host: host.id }, 5_000);
        }
        draft.reason = waits_for.unwrap_or_else(|| "drained; waiting for the host to come back".into());
        return;
    }
    // What was ordered has its answer before anything else is decided.
    if facts.in_flight("power_on") {
        return;
    }
    if fenced_boot_speaks(draft) {
        let text = format!("{}: {FENCED_BOOT_SPEAKS}", host.name);
        if draft.reason != text {
            draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({}));
        }
        draft.reason = text;
        return draft.ask_every(Query::Power { host: host.id }, 5_000);
    }
    let Some(survey) = facts.fresh_survey(draft.view.now, 5_000) else {
        return draft.ask(Query::Survey { host: host.name.clone() });
    };
    if !survey.complete {
        draft.reason = "back, but Nova's list is not whole: a cell is down".into();
        return draft.ask_every(Query::Survey { host: host.name.clone() }, 5_000);
    }
    let Some(waiting) = queue::waiting(draft, host, survey, 5_000) else { return };
    // nova-compute destroys the local copy of every guest with such a record, whether or not it arrived elsewhere (NOVA.md).
    let live: Vec<String> = survey
        .migrations
        .iter()
        .filter(|record| {
            record.is_evacuation()
                && record.source == host.name
                && !record.is_dead()
                && record.status != "completed"
        })
        .filter(|record| {
            survey
                .guests
                .iter()
                .any(|guest| guest.id == record.instance && guest.host.as_deref() == Some(&host.name))
        })
        .map(|record| format!("{} (migration {}, {})", record.instance, record.id, record.status))
        .collect();
    if let Some(who) = &readmitted {
        draft.note(
            "host_readmitted",
            format!("{} is taken back by {who}", host.name),
            json!({"live_records": live, "waiting_here": waiting}),
        );
    } else if (!live.is_empty() || !waiting.is_empty()) && guard::stands(Guard::LiveRecords) {
        let text = if live.is_empty() {
            format!(
                "{} is back, but its nova-compute would rebuild guests that were sent elsewhere since: {}; settle these records in Nova, or take it back with nova-compute's queue emptied",
                host.name,
                waiting.join(", ")
            )
        } else {
            format!(
                "{} is back, but Nova still places guests on it that its start would destroy: {}",
                host.name,
                live.join(", ")
            )
        };
        if draft.reason != text {
            draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({}));
        }
        // Of a host without an agent a fresh reading is all that says it is back.
        if facts.evidence.has_device {
            draft.ask_every(Query::Power { host: host.id }, 5_000);
        }
        draft.reason = text;
        return draft.ask_every(Query::Survey { host: host.name.clone() }, 5_000);
    }
    let boot_number = if fenced_boot && beats.is_none() { host.boot_number } else { host.boot_number + 1 };
    let patch = HostPatch {
        admission: Some(Admission::Admitted),
        proof: Some(None),
        unstrand: true,
        boot: Some((boot_number, beats.or(host.boot))),
        // Whatever changed its row meanwhile, an order for one, is looked at first.
        only_if: Some(HostCondition::Version(host.version)),
        ..HostPatch::default()
    };
    draft.hosts.push((host.id, patch));
    body(draft).lived = true;
    draft.memory.push(Memory::Ordered);
    draft.note("host_admitted", format!("{} is back and may clean up", host.name), json!({}));
    become_state(
        draft,
        ReturnState::Admitted { unforced: false, enabled: false },
        "back; old copies are being removed",
    );
}

fn admitted(draft: &mut Draft<'_>, host: &Host, unforced: bool, enabled: bool) {
    let facts = draft.view.facts;
    if fenced_boot_speaks(draft) {
        let patch = HostPatch { admission: Some(Admission::Out), ..while_admitted() };
        draft.hosts.push((host.id, patch));
        return become_state(draft, ReturnState::Out, FENCED_BOOT_SPEAKS);
    }
    if facts.power.as_ref().is_some_and(|reading| reading.power == Power::Off && reading.identified)
        && facts.fresh_power(draft.view.now, 10_000) == Some(&Power::Off)
    {
        let patch = HostPatch { admission: Some(Admission::Out), ..while_admitted() };
        draft.hosts.push((host.id, patch));
        return become_state(draft, ReturnState::Out, "it is off again");
    }
    if let Some(outcome) = facts.outcomes.first().cloned() {
        return digest(draft, host, unforced, enabled, &outcome);
    }
    if !facts.in_flight.is_empty() {
        return;
    }
    if let Some(at) = draft.not_before() {
        return draft.look_at(at);
    }
    if !unforced && !cleaned(draft, host) {
        return;
    }
    // No call goes out for a host that was taken out meanwhile.
    draft.hosts.push((host.id, while_admitted()));
    if !unforced && host.set_by_us.forced_down {
        draft.act(Effect::ForceUp { host: host.name.clone() }, 1, json!({}));
    } else if !unforced {
        become_state(draft, ReturnState::Admitted { unforced: true, enabled }, "nothing of ours to un-force");
    } else if !enabled && host.set_by_us.disabled {
        draft.act(Effect::Enable { host: host.name.clone() }, 1, json!({}));
    } else if host.set_by_us.restore_policy {
        draft.act(Effect::RestorePolicy { host: host.id }, 1, json!({}));
    } else {
        finish(draft, host);
    }
}

/// Holds only while the host is admitted: a new order takes it out, and then nothing here is for this return to say.
fn while_admitted() -> HostPatch {
    HostPatch { only_if: Some(HostCondition::Admission(Admission::Admitted)), ..HostPatch::default() }
}

fn digest(draft: &mut Draft<'_>, host: &Host, unforced: bool, enabled: bool, outcome: &Outcome) {
    draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
    let taken = matches!(outcome.done, Done::Accepted { .. });
    match (&outcome.effect, taken) {
        (Effect::ForceUp { .. }, true) => {
            let set = SetByUs { forced_down: false, ..host.set_by_us };
            draft.hosts.push((host.id, HostPatch { set_by_us: Some(set), ..while_admitted() }));
            become_state(draft, ReturnState::Admitted { unforced: true, enabled }, "no longer forced down");
        }
        (Effect::Enable { .. }, true) => {
            let set = SetByUs { disabled: false, ..host.set_by_us };
            draft.hosts.push((host.id, HostPatch { set_by_us: Some(set), ..while_admitted() }));
            become_state(draft, ReturnState::Admitted { unforced, enabled: true }, "enabled");
        }
        (Effect::RestorePolicy { .. }, _) => power::policy_answered(draft, host, &outcome.done),
        (Effect::PowerOn { .. }, _) => {}
        _ => {
            let text = match &outcome.done {
                Done::Refused { text, .. }
                | Done::Gone { text }
                | Done::NotExecuted { text }
                | Done::Unknown { text } => text.clone(),
                _ => String::new(),
            };
            draft.reason = format!("Nova did not take {}: {text}", outcome.effect.word());
            let again = draft.view.now + std::time::Duration::from_millis(CALL_AGAIN_MS);
            draft.memory.push(Memory::NotBefore(again));
            draft.look_at(again);
        }
    }
}

/// Every record completed, nova-compute speaking again, no stray guest: by the agent's own list, or, without one, by time.
fn cleaned(draft: &mut Draft<'_>, host: &Host) -> bool {
    let facts = draft.view.facts;
    draft.ask_every(Query::Survey { host: host.name.clone() }, LOOK_MS);
    let Some(survey) = facts.survey.as_ref().filter(|survey| survey.complete) else { return false };
    let open = survey
        .migrations
        .iter()
        .filter(|record| record.is_evacuation() && record.source == host.name)
        .filter(|record| record.is_unfinished() || record.status == "done")
        .count();
    if open > 0 {
        draft.reason = format!("back; waiting for nova-compute to complete {open} evacuation records");
        return false;
    }
    let placed: Vec<_> = survey.guests.iter().map(|guest| guest.id).collect();
    match &facts.domains {
        Some(domains) => {
            let strays: Vec<String> =
                domains.iter().filter(|id| !placed.contains(id)).map(ToString::to_string).collect();
            if !strays.is_empty() {
                draft.reason =
                    format!("back, but it runs guests that Nova places elsewhere: {}", strays.join(", "));
            }
            strays.is_empty()
        }
        None => {
            let since = facts.ordered_at.unwrap_or(facts.claimed_at);
            let over = since + std::time::Duration::from_millis(draft.view.policy().agentless_return_ms);
            draft.reason = "back; no agent lists its guests: a queued start may still run for a while".into();
            draft.look_at(over);
            draft.view.now >= over
        }
    }
}

fn finish(draft: &mut Draft<'_>, host: &Host) {
    let clear = draft.view.policy().clear_maintenance_on_return;
    let patch = HostPatch {
        admission: Some(Admission::In),
        maintenance_recovery: clear.then_some(false),
        // A nova-compute that did not come back with it is reported again.
        maintenance_process: clear.then_some(false),
        ..while_admitted()
    };
    draft.hosts.push((host.id, patch));
    let text = format!("{} is in again", host.name);
    draft.note("host_returned", text.clone(), json!({}));
    draft.tell(EventKind::HostReturned, &text, json!({}));
    become_state(draft, ReturnState::Finished, &text);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::chance::Chance;
    use crate::effect::Survey;
    use crate::evidence::PowerReading;
    use crate::facts::Facts;
    use crate::id::{BootId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId};
    use crate::instance::Guest;
    use crate::recovery::{self, Recovery, Subject, WORKFLOW_VERSION};
    use crate::segment::RecoveryMethod;
    use crate::step::View;
    use crate::time::{Mono, Stamp};

    const NOW: Mono = Mono(100_000);

    fn fenced_host(boot: BootId) -> Host {
        Host {
            admission: Admission::Out,
            boot_number: 1,
            boot: Some(boot),
            retired_boots: vec![boot],
            ever_agent: true,
            set_by_us: SetByUs { disabled: true, forced_down: true, restore_policy: false },
            ..Host::new(HostId(uuid::Uuid::from_u128(1)), SegmentId(uuid::Uuid::from_u128(2)), "cmp-01")
        }
    }

    /// What a return in this state does with a host that reads On, whose fenced boot was heard so long ago.
    fn admission_after(state: ReturnState, heard_ago: Option<Duration>) -> Option<Admission> {
        let boot = BootId(uuid::Uuid::from_u128(3));
        let admitted = matches!(state, ReturnState::Admitted { .. });
        let admission = if admitted { Admission::Admitted } else { Admission::Out };
        let host = Host { admission, ..fenced_host(boot) };
        let recovery = return_of(&host, state);
        let mut facts = Facts { host: Some(host), ..Facts::default() };
        facts.evidence.beats.retired_echoed = heard_ago.map(|ago| Mono(NOW.0 - ago.as_millis() as u64));
        facts.power =
            Some(PowerReading { power: Power::On, identified: true, at: NOW, device: "bmc".into() });
        facts.survey = Some(Survey { at: NOW, complete: true, ..Survey::default() });
        let view =
            View { recovery: &recovery, vmoves: &BTreeMap::new(), facts: &facts, now: NOW, stamp: Stamp(0) };
        let step = recovery::step(view, &mut Chance::new(1));
        step.change.and_then(|change| change.hosts.into_iter().find_map(|(_, patch)| patch.admission))
    }

    fn return_of(host: &Host, state: ReturnState) -> Recovery {
        Recovery {
            id: RecoveryId(uuid::Uuid::from_u128(4)),
            notification: NotificationId(uuid::Uuid::from_u128(5)),
            segment: host.segment,
            subject: Subject::Return { host: host.id },
            host_name: host.name.clone(),
            method: RecoveryMethod::Auto,
            policy: Policy::default(),
            body: Body::Return(HostReturn { state, ..HostReturn::new() }),
            hooks: crate::hook::Hooks::default(),
            reason: String::new(),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 1,
            version: 1,
            opened_at: Stamp(0),
            closed_at: None,
        }
    }

    /// What is ordered of a drained host that policy wants on, in whose queue a rebuild waits, while Nova places that guest there; and why.
    fn ordered_with_a_rebuild_waiting(placed_on: Option<&str>) -> (Vec<&'static str>, String) {
        let guest = InstanceId(uuid::Uuid::from_u128(9));
        let host = Host { stranded: vec![guest], ..fenced_host(BootId(uuid::Uuid::from_u128(3))) };
        let mut recovery = return_of(&host, ReturnState::Out);
        recovery.policy.power_on_when_drained = true;
        let mut facts = Facts { host: Some(host), ..Facts::default() };
        facts.evidence.has_device = true;
        facts.survey = Some(Survey { at: NOW, complete: true, ..Survey::default() });
        let shown = placed_on.map(|place| Guest::active_on(guest, "web", place));
        facts.guests.insert(guest, (NOW, shown));
        let view =
            View { recovery: &recovery, vmoves: &BTreeMap::new(), facts: &facts, now: NOW, stamp: Stamp(0) };
        let change = recovery::step(view, &mut Chance::new(1)).change.expect("something is said");
        (change.acts.iter().map(|(_, effect)| effect.word()).collect(), change.reason)
    }

    /// Nova's records of such a call do not last (a source that returns completes them): the host's own row remembers.
    #[test]
    fn a_host_with_a_rebuild_in_its_queue_is_not_switched_on() {
        let (ordered, why) = ordered_with_a_rebuild_waiting(Some("cmp-02"));
        assert!(ordered.is_empty() && why.starts_with("do not start cmp-01"), "{ordered:?} {why}");
        assert_eq!(ordered_with_a_rebuild_waiting(None).0, ["power_on"], "its owner has deleted it");
    }

    #[test]
    fn a_host_that_is_in_again_leaves_maintenance_of_ours_by_policy() {
        let host = fenced_host(BootId(uuid::Uuid::from_u128(3)));
        for clears in [true, false] {
            let patch = last_patch(&host, clears);
            assert_eq!(patch.admission, Some(Admission::In));
            assert_eq!(patch.maintenance_recovery, clears.then_some(false));
            assert_eq!(patch.maintenance_process, clears.then_some(false));
        }
    }

    fn last_patch(host: &Host, clears: bool) -> HostPatch {
        let host = Host { admission: Admission::Admitted, set_by_us: SetByUs::default(), ..host.clone() };
        let mut recovery = return_of(&host, ReturnState::Admitted { unforced: true, enabled: true });
        recovery.policy.clear_maintenance_on_return = clears;
        let facts = Facts { host: Some(host), ..Facts::default() };
        let view =
            View { recovery: &recovery, vmoves: &BTreeMap::new(), facts: &facts, now: NOW, stamp: Stamp(0) };
        let change = recovery::step(view, &mut Chance::new(1)).change.expect("it comes in");
        change.hosts.last().expect("a patch").1.clone()
    }

    #[test]
    fn a_host_whose_fenced_boot_speaks_does_not_come_in() {
        let speaks = Some(Duration::from_secs(1));
        let silent = Some(Duration::from_secs(60));
        assert_eq!(admission_after(ReturnState::Out, None), Some(Admission::Admitted));
        assert_eq!(
            admission_after(ReturnState::Out, silent),
            Some(Admission::Admitted),
            "what was heard long ago is dead by now"
        );
        assert_eq!(admission_after(ReturnState::Out, speaks), None);
        let admitted = ReturnState::Admitted { unforced: true, enabled: true };
        assert_eq!(admission_after(admitted, speaks), Some(Admission::Out));
    }
}

//! A hypervisor's death, step by step (DESIGN 2; the drawing stands in [`super`]).
//!
//! ```text
//! off intent -> power off -> read Off twice -> force down + disable -> read Off again -> list -> per guest: evacuate, verify
//! ```
//!
//! Each arrow is an invariant: the state that carries the next deed can only be built from the proof of the one before.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Body, Recovery, StateWord, Subject};
use crate::admission;
use crate::brake::{self, Answer};
use crate::effect::{Done, Effect, Query};
use crate::evacuation;
use crate::event::EventKind;
use crate::evidence::Power;
use crate::facts::Outcome;
use crate::fence::{self, FenceProof};
use crate::host::{Admission, Host, SetByUs};
use crate::id::{HostId, RecoveryId};
use crate::policy::Unfenced;
use crate::runner::{HostCondition, HostPatch};
use crate::step::{Draft, Memory};
use crate::time::Mono;
use crate::verdict::{self, Verdict};

/// A written off order: from here on the machine may be off by our hand (DESIGN 10.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// From 1; each act through the levels is one. 0: an operator's statement stands in for it.
    pub attempt: u32,
    /// The host's boot number when it was written.
    pub boot_number: u32,
}

/// States of a host's recovery, with what each holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum HostState {
    Confirming,
    Held {
        gate: String,
    },
    Fencing {
        order: Order,
    },
    /// Proved off; force-down and the second look are under way.
    Proved {
        order: Order,
        proof: FenceProof,
        marked_down: bool,
    },
    Evacuating {
        order: Order,
        proof: FenceProof,
    },
    Verifying {
        order: Order,
        proof: FenceProof,
    },
    /// Stays open; order and proof are kept, and what needs no person goes on.
    NeedsOperator {
        order: Option<Order>,
        proof: Option<FenceProof>,
    },
    Finished,
    Failed,
    Cancelled,
}

impl HostState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Held { .. } => StateWord::Held,
            Self::Fencing { .. } | Self::Proved { .. } => StateWord::Fencing,
            Self::Evacuating { .. } => StateWord::Evacuating,
            Self::Verifying { .. } => StateWord::Verifying,
            Self::NeedsOperator { .. } => StateWord::NeedsOperator,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }

    pub fn proof(&self) -> Option<&FenceProof> {
        match self {
            Self::Proved { proof, .. } | Self::Evacuating { proof, .. } | Self::Verifying { proof, .. } => {
                Some(proof)
            }
            Self::NeedsOperator { proof, .. } => proof.as_ref(),
            _ => None,
        }
    }
}

/// A reserved host taken by this recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reserve {
    pub host: HostId,
    pub name: String,
    /// Enabled, and in the aggregates where policy says so.
    pub prepared: bool,
    /// A guest was sent there: it does not return to the reserve.
    pub used: bool,
}

/// What is stored of a host's recovery; its moves are rows of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRecovery {
    pub state: HostState,
    pub reserves: Vec<Reserve>,
    /// Evidence rested on reports alone (a host that never had our agent).
    pub by_report: bool,
    /// What people were asked already, line by line: each question makes one ticket, however often it comes up (trap 24).
    pub asked: Vec<String>,
    /// An evacuation was written: from here on there is no way back to a living host (DESIGN 10.3).
    pub evacuated: bool,
}

impl HostRecovery {
    pub fn new() -> HostRecovery {
        HostRecovery {
            state: HostState::Confirming,
            reserves: Vec::new(),
            by_report: false,
            asked: Vec::new(),
            evacuated: false,
        }
    }
}

impl Default for HostRecovery {
    fn default() -> Self {
        HostRecovery::new()
    }
}

/// Time between looks at a host that has not been judged yet.
const LOOK_MS: u64 = 500;
/// A beat is dated by its sender's clock, mapped to ours by the smallest delay seen: on a network that fences, well within this.
const DATING_SLACK_MS: u64 = 100;
/// Pause after Nova did not take a host-wide call.
const CALL_AGAIN_MS: u64 = 1_000;
/// A BMC that did not answer so often in a row is not waited for any more.
const READINGS_TRIED: u32 = 3;
/// A power reading is renewed when it is this old, well before it is too old to vouch.
const REREAD_POWER_MS: u64 = 5_000;

/// The next step of a host's recovery.
pub fn step(draft: &mut Draft<'_>) {
    settle_inherited(draft);
    let Some(host) = draft.view.facts.host.clone() else {
        draft.reason = "the host's row is being read".into();
        return draft.look_after(LOOK_MS);
    };
    match state(draft).clone() {
        HostState::Confirming | HostState::Held { .. } | HostState::NeedsOperator { order: None, .. } => {
            confirm(draft, &host);
        }
        HostState::Fencing { order } | HostState::NeedsOperator { order: Some(order), proof: None } => {
            fencing(draft, &host, order);
        }
        HostState::Proved { order, proof, marked_down } => proved(draft, &host, order, proof, marked_down),
        HostState::Evacuating { order, proof }
        | HostState::Verifying { order, proof }
        | HostState::NeedsOperator { order: Some(order), proof: Some(proof) } => {
            moving(draft, &host, order, proof)
        }
        HostState::Finished | HostState::Failed | HostState::Cancelled => {}
    }
}

fn body<'d>(draft: &'d mut Draft<'_>) -> &'d mut HostRecovery {
    match &mut draft.body {
        Body::Host(body) => body,
        _ => unreachable!("a host's step is called for a host's recovery"),
    }
}

fn state<'d>(draft: &'d mut Draft<'_>) -> &'d HostState {
    &body(draft).state
}

fn become_state(draft: &mut Draft<'_>, next: HostState, reason: &str) {
    if body(draft).state.word() != next.word() {
        let detail = json!({"state": next.word(), "reason": reason});
        draft.note("state_changed", format!("{}: {reason}", next.word()), detail);
    }
    body(draft).state = next;
    draft.reason = reason.to_owned();
    draft.look_after(0);
}

/// Intents of a former owner that are settled by looking at the world rather than by their answer.
fn settle_inherited(draft: &mut Draft<'_>) {
    let intents: Vec<_> = draft
        .view
        .facts
        .inherited
        .iter()
        .filter(|intent| intent.effect != "evacuate")
        .map(|intent| intent.id)
        .collect();
    for intent in intents {
        draft.resolve(
            intent,
            "superseded",
            json!({"why": "its owner stopped before the answer; the world is looked at instead"}),
        );
    }
}

fn cancel(draft: &mut Draft<'_>, why: &str) {
    draft.message = Some(why.to_owned());
    become_state(draft, HostState::Cancelled, why);
    draft.tell(EventKind::RecoveryClosed, why, json!({"outcome": "cancelled"}));
}

fn needs_operator(draft: &mut Draft<'_>, order: Option<Order>, proof: Option<FenceProof>, why: &str) {
    let same = draft.view.recovery.word() == StateWord::NeedsOperator && draft.view.recovery.reason == why;
    if same {
        body(draft).state = HostState::NeedsOperator { order, proof };
        return draft.look_after(LOOK_MS);
    }
    draft.message = Some(why.to_owned());
    become_state(draft, HostState::NeedsOperator { order, proof }, why);
    let new: Vec<String> = why
        .split("; ")
        .filter(|line| !body(draft).asked.iter().any(|asked| asked == line))
        .map(Into::into)
        .collect();
    if !new.is_empty() {
        body(draft).asked.extend(new);
        draft.tell(EventKind::RecoveryNeedsOperator, why, json!({}));
    }
    draft.look_after(LOOK_MS);
}

/// Is it dead, and may we act? No way leads from here but to an order, a hold, a question or the end.
fn confirm(draft: &mut Draft<'_>, host: &Host) {
    // After a retired order its sessions are revoked first: nothing is closed while a deed of ours is open.
    if let Some(outcome) = draft.view.facts.outcome("revoke_sessions").cloned() {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
    }
    if draft.view.facts.in_flight("revoke_sessions") {
        return;
    }
    if !draft.view.facts.segment_enabled {
        return cancel(draft, "the segment is disabled");
    }
    if host.maintenance.operator {
        return cancel(draft, "the host is on maintenance by its operator");
    }
    if let Some(who) = draft.view.facts.cancelled.clone() {
        return cancel(draft, &format!("cancelled by {who}"));
    }
    if confirmed_by_operator(draft, host) {
        return;
    }
    let facts = draft.view.facts;
    let judgement = verdict::judge(&facts.evidence, draft.view.policy(), draft.view.now);
    let reasons = judgement.reasons.join("; ");
    draft.look_after(LOOK_MS);
    match judgement.verdict {
        Verdict::Alive => cancel(draft, &format!("alive: {reasons}")),
        Verdict::AgentLost => {
            draft.tell(EventKind::AgentLost, &reasons, json!({}));
            cancel(draft, &format!("only its agent is lost: {reasons}"));
        }
        Verdict::CannotTell if judgement.asks_operator => {
            needs_operator(draft, None, None, &judgement.waiting_for)
        }
        Verdict::CannotTell => draft.reason = format!("not proved dead: {}", judgement.waiting_for),
        Verdict::Failed => permitted(draft, host, &judgement),
    }
}

fn confirmed_by_operator(draft: &mut Draft<'_>, host: &Host) -> bool {
    let Some(said) = draft.view.facts.confirmation.clone() else { return false };
    let epoch = draft.view.recovery.epoch;
    let made = fence::state_off(
        host.id,
        host.boot_number,
        epoch,
        host.serial.as_deref(),
        &said.serial,
        &said.actor,
        &said.reason,
    );
    match made {
        Ok(proof) => {
            let order = Order { attempt: 0, boot_number: host.boot_number };
            out(draft, host, Some(proof.clone()));
            draft.note(
                "off_confirmed",
                format!("{} states that {} is off: {}", said.actor, host.name, said.reason),
                json!({"actor": said.actor, "serial": said.serial}),
            );
            draft.memory.push(Memory::Proved);
            become_state(
                draft,
                HostState::Proved { order, proof, marked_down: false },
                "an operator states that it is off",
            );
            true
        }
        Err(why) => {
            draft.reason = why.to_string();
            false
        }
    }
}

fn permitted(draft: &mut Draft<'_>, host: &Host, judgement: &verdict::Judgement) {
    let facts = draft.view.facts;
    let power_on = facts.fresh_power(draft.view.now, draft.view.policy().power_fresh_ms) == Some(&Power::On);
    let subject = brake::Subject { power_on, ..brake::Subject::of(host, facts.segment_enabled) };
    let answer = brake::may_fence(&subject, judgement, &facts.fleet, draft.view.policy(), draft.view.now);
    let evidence = json!({"verdict": judgement.reasons, "exhibits": judgement.exhibits});
    match answer {
        Answer::Withheld { gate, reason, .. } => {
            let gate = gate.to_string();
            let already = matches!(state(draft), HostState::Held { gate: now } if *now == gate);
            let text = format!("held by {gate}: {reason}");
            if !already {
                draft.note(
                    "permit_withheld",
                    text.clone(),
                    json!({"gate": gate, "reason": reason, "evidence": evidence}),
                );
                become_state(draft, HostState::Held { gate }, &text);
                draft.message = Some(text.clone());
                draft.tell(EventKind::RecoveryHeld, &text, evidence);
            }
            draft.look_after(LOOK_MS);
        }
        Answer::Permit(permit) => {
            let reasons = judgement.reasons.join("; ");
            body(draft).by_report = judgement.by_report_only;
            if !facts.evidence.has_device && !waived(draft, host) {
                return;
            }
            draft.note("host_judged", format!("failed: {reasons}"), evidence);
            draft.note("permit_given", permit.to_string(), json!({}));
            if facts.evidence.has_device {
                order_off(draft, host, 1, &format!("failed ({reasons}), permitted"));
            }
        }
    }
}

/// A host without any device: waived where its segment says so, else a person is asked. True when it was waived.
fn waived(draft: &mut Draft<'_>, host: &Host) -> bool {
    let facts = draft.view.facts;
    let policy = draft.view.policy();
    let trusted = policy.unfenced == Unfenced::TrustReporter && body(draft).by_report;
    let nova_down = facts.evidence.service.as_ref().is_some_and(|service| !service.up);
    let fresh = facts
        .evidence
        .reports
        .iter()
        .any(|report| draft.view.now.since(report.at).as_millis() as u64 <= policy.report_stale_ms);
    let on = matches!(facts.power.as_ref().map(|reading| &reading.power), Some(Power::On));
    let epoch = draft.view.recovery.epoch;
    match fence::waive(host.id, host.boot_number, epoch, trusted, nova_down, on, fresh) {
        Ok(proof) => {
            let order = Order { attempt: 0, boot_number: host.boot_number };
            out(draft, host, Some(proof.clone()));
            draft.note(
                "fence_waived",
                format!("{} is not fenced: its segment trusts its reporter", host.name),
                json!({}),
            );
            draft.memory.push(Memory::Proved);
            become_state(
                draft,
                HostState::Proved { order, proof, marked_down: true },
                "waived: no fence device, the segment trusts its reporter",
            );
            true
        }
        Err(why) => {
            needs_operator(
                draft,
                None,
                None,
                &format!("{why}: set one, or confirm with the host's serial that it is off"),
            );
            false
        }
    }
}

/// Takes the host out: from the off order on (DESIGN 10.1).
fn out(draft: &mut Draft<'_>, host: &Host, proof: Option<FenceProof>) {
    let patch = HostPatch {
        admission: Some(Admission::Out),
        maintenance_recovery: Some(true),
        reserved: host.reserved.then_some((false, None)),
        retire_boot: proof.as_ref().and(host.boot),
        proof: Some(proof),
        only_if: Some(HostCondition::BootNumber(host.boot_number)),
        ..HostPatch::default()
    };
    draft.hosts.push((host.id, patch));
}

/// Writes the order and sends it: intent and deed of one commit.
fn order_off(draft: &mut Draft<'_>, host: &Host, attempt: u32, why: &str) {
    out(draft, host, None);
    let order = Order { attempt, boot_number: host.boot_number };
    draft.act(
        Effect::PowerOff { host: host.id },
        attempt,
        json!({"why": why, "boot_number": host.boot_number}),
    );
    draft.note(
        "off_ordered",
        format!("power off of {} ordered (attempt {attempt})", host.name),
        json!({"why": why}),
    );
    draft.memory.push(Memory::Ordered);
    if matches!(state(draft), HostState::NeedsOperator { .. }) {
        body(draft).state = HostState::NeedsOperator { order: Some(order), proof: None };
    } else {
        become_state(draft, HostState::Fencing { order }, &format!("powering {} off", host.name));
    }
}

fn fencing(draft: &mut Draft<'_>, host: &Host, order: Order) {
    if confirmed_by_operator(draft, host) {
        return;
    }
    if let Some(outcome) = draft.view.facts.outcome("power_off").cloned() {
        return fence_ended(draft, host, order, &outcome);
    }
    if draft.view.facts.in_flight("power_off") {
        return;
    }
    if let Some(at) = draft.not_before() {
        if retire_if_alive(draft, host, &order) == Life::Retired {
            return;
        }
        return draft.look_at(at.min(draft.view.now + std::time::Duration::from_millis(LOOK_MS)));
    }
    resume_order(draft, host, &order);
}

fn fence_ended(draft: &mut Draft<'_>, host: &Host, order: Order, outcome: &Outcome) {
    let (report, error) = match &outcome.done {
        Done::Fenced { report } => (report.clone(), None),
        Done::Refused { text, .. }
        | Done::Gone { text }
        | Done::NotExecuted { text }
        | Done::Unknown { text } => (fence::FenceReport::default(), Some(text.clone())),
        Done::Accepted { note } => (fence::FenceReport::default(), Some(note.clone())),
    };
    let detail = json!({"attempts": report.attempts});
    let liar = heard_since_off(draft, &report);
    let proof =
        fence::prove(host.id, order.boot_number, draft.view.recovery.epoch, &report).and_then(|proof| {
            match liar {
                Some(why) => Err(fence::NotProved::Contradicted(why)),
                None => Ok(proof),
            }
        });
    draft.resolve(outcome.intent, if proof.is_ok() { "done" } else { "not_proved" }, detail.clone());
    match proof {
        Ok(proof) => {
            // From now on a beat of this boot contradicts the proof instead of renewing anything (DESIGN 10.7).
            let patch = HostPatch {
                proof: Some(Some(proof.clone())),
                retire_boot: host.boot,
                ..HostPatch::default()
            };
            draft.hosts.push((host.id, patch));
            let how = format!("{} is off, read twice", host.name);
            draft.note("host_fenced", how.clone(), detail);
            draft.tell(EventKind::HostFenced, &how, json!({"proof": proof}));
            draft.memory.push(Memory::Proved);
            become_state(draft, HostState::Proved { order, proof, marked_down: false }, &how);
        }
        Err(why) => {
            let why = error.map_or_else(|| why.to_string(), |error| format!("{why} ({error})"));
            draft.note("fence_not_proved", why.clone(), detail);
            match retire_if_alive(draft, host, &order) {
                Life::Retired => return,
                Life::Asking => {
                    draft.reason = format!("{why}; it has spoken since the order, its power is being read");
                    return draft.look_after(LOOK_MS);
                }
                Life::None => {}
            }
            let retry = draft.view.policy().fence_retry_ms;
            draft.memory.push(Memory::NotBefore(draft.view.now + std::time::Duration::from_millis(retry)));
            let text = format!(
                "{} could not be proved off: {why}. Cut its power and confirm with its serial, or mend the device; it is tried again each minute",
                host.name
            );
            needs_operator(draft, Some(order), None, &text);
        }
    }
}

/// A sign of life younger than the first Off reading vetoes the proof: the device lies, or speaks of another machine (FENCING 2.1).
fn heard_since_off(draft: &Draft<'_>, report: &fence::FenceReport) -> Option<String> {
    let facts = draft.view.facts;
    let off_since =
        facts.ordered_at? + std::time::Duration::from_millis(report.off_since_ms()? + DATING_SLACK_MS);
    let heard = last_echoed(draft).filter(|at| *at > off_since)?;
    let ago = draft.view.now.since(heard).as_secs_f64();
    let devices: Vec<&str> = report.attempts.iter().map(|attempt| attempt.device.as_str()).collect();
    Some(format!(
        "its agent was heard {ago:.1} s ago although {} says Off: the device is not to be trusted",
        devices.join(", ")
    ))
}

/// The newest beat that nobody could have replayed, of the fenced boot too.
fn last_echoed(draft: &Draft<'_>) -> Option<Mono> {
    let beats = &draft.view.facts.evidence.beats;
    beats.last_echoed.max(beats.retired_echoed)
}

/// An order found without its answer (a restart), or one whose pause is over: look first, then order again. Off is idempotent.
fn resume_order(draft: &mut Draft<'_>, host: &Host, order: &Order) {
    if retire_if_alive(draft, host, order) != Life::None {
        return draft.look_after(LOOK_MS);
    }
    let policy = draft.view.policy();
    let listened_since = draft.view.facts.claimed_at.max(draft.view.facts.evidence.beats.listening_since);
    let window = policy.suspect_after_ms + policy.confirm_ms;
    let listened = draft.view.now.since(listened_since).as_millis() as u64 >= window;
    let power = draft.view.facts.fresh_power(draft.view.now, policy.power_fresh_ms).cloned();
    let silent = last_life(draft).is_none_or(|at| draft.view.now.since(at).as_millis() as u64 > window);
    match power {
        Some(Power::Off) => {
            order_off(draft, host, order.attempt + 1, "it reads off; off is ordered all the same")
        }
        _ if listened && (silent || body(draft).evacuated) => {
            order_off(draft, host, order.attempt + 1, "silent for a full window")
        }
        _ => {
            draft.ask(Query::Power { host: host.id });
            draft.look_after(LOOK_MS);
        }
    }
}

/// Last sign of life since the order that nobody could have replayed: an echoed beat, or for a host without an agent a change
/// of Nova's row that was not ours.
fn last_life(draft: &Draft<'_>) -> Option<Mono> {
    let evidence = &draft.view.facts.evidence;
    if evidence.agent {
        evidence.beats.last_echoed
    } else {
        evidence.service.as_ref().and_then(|service| service.changed_after.or(service.changed_at))
    }
}

/// What a look for life after an order came to.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    None,
    /// It has spoken since the order, and its power is being read.
    Asking,
    /// It lives: the order is retired.
    Retired,
}

/// A healthy host is not shot: reads On and has given a sign of life since the order, before the first evacuation (DESIGN 10.3).
fn retire_if_alive(draft: &mut Draft<'_>, host: &Host, order: &Order) -> Life {
    let facts = draft.view.facts;
    let since = facts.ordered_at.unwrap_or(facts.claimed_at);
    let alive = last_life(draft).is_some_and(|at| at > since);
    let same_boot = order.boot_number == host.boot_number;
    if !alive || !same_boot || body(draft).evacuated {
        return Life::None;
    }
    let query = Query::Power { host: host.id };
    match facts.fresh_power(draft.view.now, draft.view.policy().power_fresh_ms) {
        Some(Power::On) => {}
        Some(_) => return Life::None,
        None if facts.failures.get(&query).is_some_and(|failure| failure.count >= READINGS_TRIED) => {
            return Life::None;
        }
        None => {
            draft.ask(query);
            return Life::Asking;
        }
    }
    let patch = HostPatch {
        admission: Some(Admission::In),
        maintenance_recovery: Some(false),
        proof: Some(None),
        ..HostPatch::default()
    };
    draft.hosts.push((host.id, patch));
    draft.act(Effect::RevokeSessions { host: host.id }, 1, json!({}));
    draft.note(
        "order_retired",
        format!("{} reads On and has spoken since the order: it is not shot", host.name),
        json!({}),
    );
    become_state(draft, HostState::Confirming, "it came back before anything was moved");
    Life::Retired
}

/// Life after the proof voids it: fenced afresh through all levels, guests wait (DESIGN 10.3, 10.7).
fn void_if_alive(draft: &mut Draft<'_>, host: &Host, order: &Order) -> bool {
    let facts = draft.view.facts;
    let since = facts.proved_at.unwrap_or(facts.claimed_at);
    let beat = last_echoed(draft).filter(|at| *at > since);
    let on = facts
        .power
        .as_ref()
        .filter(|reading| reading.identified && reading.at > since && reading.power == Power::On);
    let why = match (beat, on) {
        (Some(_), _) => "its agent beats although its device said Off: the device is not to be trusted",
        (None, Some(_)) => "it reads On again",
        (None, None) => return false,
    };
    let text = format!("{}: {why}; evacuations stop, fenced afresh", host.name);
    draft.note("proof_voided", text.clone(), json!({"why": why}));
    draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({"why": why}));
    if body(draft).evacuated || !facts.evidence.has_device {
        order_off(draft, host, order.attempt + 1, &text);
        return true;
    }
    // Nothing was moved yet: the same as an order found open.
    out(draft, host, None);
    draft.memory.push(Memory::Ordered);
    become_state(draft, HostState::Fencing { order: order.clone() }, &text);
    true
}

/// Force-down only after the proof, then power once more.
fn proved(draft: &mut Draft<'_>, host: &Host, order: Order, proof: FenceProof, marked_down: bool) {
    if void_if_alive(draft, host, &order) {
        return;
    }
    // One that beat until the order must be missed once before the proof is used: at its pace, a beat that contradicts the device
    // may still be on its way. Who was silent before costs no wait here.
    if proof.rereads_power()
        && let Some(missed) = last_echoed(draft).map(|at| at + draft.view.policy().first_missed())
        && draft.view.now < missed
    {
        draft.reason = "read off; it was heard a moment ago, so a beat is waited for".into();
        return draft.look_at(missed);
    }
    if !marked_down && proof.allows_force_down() {
        return mark_down(draft, host, order, proof);
    }
    if !proof.allows_force_down()
        && draft.view.facts.evidence.service.as_ref().is_none_or(|service| service.up)
    {
        draft.reason = "Nova has to say down by itself (waived proof)".into();
        return draft.look_after(LOOK_MS);
    }
    if proof.rereads_power() {
        let since = draft.view.facts.marked_at.unwrap_or(draft.view.facts.claimed_at);
        let fresh =
            draft.view.facts.power.as_ref().is_some_and(|reading| {
                reading.at >= since && reading.identified && reading.power == Power::Off
            });
        if !fresh {
            draft.reason = "marked down; power is read once more".into();
            draft.ask(Query::Power { host: host.id });
            return;
        }
    }
    draft.note("host_cleared_for_evacuation", format!("{} is off and marked down", host.name), json!({}));
    become_state(draft, HostState::Evacuating { order, proof }, "evacuating its guests");
}

fn mark_down(draft: &mut Draft<'_>, host: &Host, order: Order, proof: FenceProof) {
    if let Some(outcome) = draft.view.facts.outcome("mark_down").cloned() {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
        match &outcome.done {
            Done::Accepted { .. } => {
                let was_disabled =
                    draft.view.facts.evidence.service.as_ref().is_some_and(|service| service.disabled);
                let set = SetByUs { disabled: host.set_by_us.disabled || !was_disabled, forced_down: true };
                draft.hosts.push((host.id, HostPatch { set_by_us: Some(set), ..HostPatch::default() }));
                draft.note(
                    "host_marked_down",
                    format!("Nova holds {} forced down and disabled", host.name),
                    json!({}),
                );
                draft.memory.push(Memory::MarkedDown);
                return become_state(
                    draft,
                    HostState::Proved { order, proof, marked_down: true },
                    "marked down in Nova",
                );
            }
            Done::Refused { text, .. } | Done::Gone { text } => {
                draft.reason = format!("Nova does not mark {} down: {text}", host.name);
                let news = draft.view.recovery.reason != draft.reason;
                if news {
                    let text = draft.reason.clone();
                    draft.message = Some(text.clone());
                    draft.tell(EventKind::RecoveryNeedsOperator, &text, Value::Null);
                }
            }
            Done::NotExecuted { text } | Done::Unknown { text } => {
                draft.reason = format!("Nova does not answer, tried again: {text}");
            }
            Done::Fenced { .. } => {}
        }
        let again = draft.view.now + std::time::Duration::from_millis(CALL_AGAIN_MS);
        draft.memory.push(Memory::NotBefore(again));
        return draft.look_at(again);
    }
    if draft.view.facts.in_flight("mark_down") {
        return;
    }
    if let Some(at) = draft.not_before() {
        return draft.look_at(at);
    }
    let reason = format!("Halberd: host failed (recovery {})", draft.view.recovery.id);
    draft.act(
        Effect::MarkDown { host: host.name.clone(), reason },
        order.attempt.max(1),
        json!({"proof": proof}),
    );
}

/// Guests leave the dead host.
fn moving(draft: &mut Draft<'_>, host: &Host, order: Order, proof: FenceProof) {
    if void_if_alive(draft, host, &order) {
        return;
    }
    digest_reserves(draft);
    let policy = draft.view.policy();
    let now = draft.view.now;
    let facts = draft.view.facts;
    let may_send = if proof.rereads_power() {
        facts.fresh_power(now, policy.power_fresh_ms) == Some(&Power::Off)
    } else {
        facts.evidence.service.as_ref().is_none_or(|service| !service.up || service.forced_down)
    };
    let guests = evacuation::advance(draft, may_send);
    if draft.acts.iter().any(|(_, effect)| matches!(effect, Effect::Evacuate { .. })) {
        body(draft).evacuated = true;
    }
    if guests.unsent > 0 && proof.rereads_power() {
        if facts.fresh_power(now, REREAD_POWER_MS).is_none() {
            draft.ask(Query::Power { host: host.id });
        }
        if !may_send {
            draft.reason = "power has to be read Off before the next guest is sent".into();
            return draft.look_after(LOOK_MS);
        }
    }
    if guests.settled {
        return finish(draft, host, guests.failed);
    }
    if !guests.blocked.is_empty() {
        let why = guests.blocked.join("; ");
        return needs_operator(draft, Some(order), Some(proof), &why);
    }
    // What was asked stays asked until something could be sent: a step that did not look at the guest in question answers nothing.
    let asked = matches!(draft.view.recovery.word(), StateWord::NeedsOperator);
    if asked && guests.unsent > 0 && draft.acts.is_empty() {
        return;
    }
    let incomplete = facts.survey.as_ref().is_some_and(|survey| !survey.complete);
    let (next, reason) = if incomplete {
        (
            HostState::Evacuating { order, proof },
            "Nova's list is not whole: a cell is down; nothing is closed on it",
        )
    } else if guests.unsent > 0 || draft.all_moves().next().is_none() {
        (HostState::Evacuating { order, proof }, "evacuating its guests")
    } else {
        (HostState::Verifying { order, proof }, "every guest was sent; each is being verified")
    };
    if body(draft).state != next || draft.reason != reason {
        become_state(draft, next, reason);
    }
}

fn digest_reserves(draft: &mut Draft<'_>) {
    let outcomes: Vec<Outcome> = draft
        .view
        .facts
        .outcomes
        .iter()
        .filter(|outcome| outcome.effect.word() == "prepare_reserved")
        .cloned()
        .collect();
    for outcome in outcomes {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
        let Effect::PrepareReserved { reserved, .. } = &outcome.effect else { continue };
        if matches!(outcome.done, Done::Accepted { .. }) {
            for reserve in body(draft).reserves.iter_mut().filter(|reserve| reserve.name == *reserved) {
                reserve.prepared = true;
            }
        } else {
            let again = draft.view.now + std::time::Duration::from_millis(CALL_AGAIN_MS);
            draft.memory.push(Memory::NotBefore(again));
            draft.look_at(again);
        }
    }
}

/// Every guest has its answer: close, give unused reserves back, open the host's way back.
fn finish(draft: &mut Draft<'_>, host: &Host, failed: usize) {
    let reserves = std::mem::take(&mut body(draft).reserves);
    for reserve in &reserves {
        let patch = HostPatch { reserved: Some((!reserve.used, None)), ..HostPatch::default() };
        draft.hosts.push((reserve.host, patch));
    }
    body(draft).reserves = reserves;
    let total = draft.all_moves().count();
    let (state, outcome, text) = if failed > 0 {
        (HostState::Failed, "failed", format!("{failed} of {total} guests could not be recovered"))
    } else {
        (HostState::Finished, "finished", format!("{total} guests of {} have their answer", host.name))
    };
    draft.message = (failed > 0).then(|| text.clone());
    become_state(draft, state, &text);
    draft.tell(
        EventKind::RecoveryClosed,
        &text,
        json!({"outcome": outcome, "guests": total, "failed": failed}),
    );
    let id = RecoveryId(draft.chance.uuid());
    let recovery = draft.view.recovery;
    draft.opens.push(Recovery {
        id,
        subject: Subject::Return { host: host.id },
        body: Body::Return(admission::HostReturn::new()),
        reason: "its recovery has closed".into(),
        owner: None,
        epoch: 0,
        version: 0,
        opened_at: draft.view.stamp,
        closed_at: None,
        ..recovery.clone()
    });
}

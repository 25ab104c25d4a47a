//! Confirming and Held: is it dead, and may we act?

use super::*;
use crate::evidence::PowerReading;
use crate::facts::Confirmation;
use crate::kdump;

/// Is it dead, and may we act? No way leads from here but to an order, a hold, a question or the end.
pub(super) fn confirm(draft: &mut Draft<'_>, host: &Host) {
    if !draft.view.facts.segment_enabled && guard::stands(Guard::Segment) {
        return cancel(draft, "the segment is disabled");
    }
    if let Some(by) = asked::ordered(draft) {
        return asked::confirm(draft, host, &by);
    }
    if host.maintenance.operator && guard::stands(Guard::Maintenance) {
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
        Verdict::Alive => {
            let undone = asked::undone(draft).map(|why| format!("{why}; ")).unwrap_or_default();
            cancel(draft, &format!("{undone}alive: {reasons}"));
        }
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

pub(super) fn confirmed_by_operator(draft: &mut Draft<'_>, host: &Host) -> bool {
    let facts = draft.view.facts;
    let Some(said) = facts.confirmation.clone() else { return false };
    let query = Query::Power { host: host.id };
    let read = facts.power.as_ref().filter(|reading| reading.at > said.at);
    match against(draft, &said, read) {
        Some(Against::Since(what)) => {
            let text = format!(
                "{}'s statement that {} is off is void: {what}, after it was made; look at that machine, and state it again",
                said.actor, host.name
            );
            draft.note("statement_void", text, json!({"actor": said.actor, "serial": said.serial}));
            return false;
        }
        Some(Against::JustBefore { until }) => {
            draft.look_at(until);
            return false;
        }
        None => {}
    }
    let unread = facts.failures.get(&query).is_some_and(|failure| failure.at > said.at);
    if facts.evidence.has_device && !facts.evidence.only_watchdog && read.is_none() && !unread {
        draft.ask(query);
        draft.look_after(LOOK_MS);
        return false;
    }
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
        Ok(_) if !ready(draft) => true,
        Ok(proof) => {
            let order = Order { attempt: 0, boot_number: host.boot_number, intent: None };
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

/// What speaks against a statement.
enum Against {
    /// In words: it is void.
    Since(String),
    /// So lately that the host may well be living now; silence is waited for.
    JustBefore { until: Mono },
}

/// Whoever states it looked at a machine, perhaps at another one: what is seen of this one since then counts more.
fn against(draft: &Draft<'_>, said: &Confirmation, read: Option<&PowerReading>) -> Option<Against> {
    let (evidence, now) = (&draft.view.facts.evidence, draft.view.now);
    if let Some(reading) = read.filter(|reading| reading.power == Power::On) {
        return Some(Against::Since(format!(
            "{} reads On (is that device wrong, mend it or take it off the host)",
            reading.device
        )));
    }
    let life = verdict::life_after(evidence, draft.view.policy(), said.at, now)?;
    Some(match life.age < now.since(said.at) {
        true => Against::Since(life.what),
        false => Against::JustBefore { until: life.until },
    })
}

fn permitted(draft: &mut Draft<'_>, host: &Host, judgement: &verdict::Judgement) {
    let facts = draft.view.facts;
    let power_on = facts.fresh_power(draft.view.now, draft.view.policy().power_fresh_ms) == Some(&Power::On);
    let subject = brake::Subject { power_on, ..brake::Subject::of(host, facts.segment_enabled) };
    let answer = brake::may_fence(&subject, judgement, &facts.fleet, draft.view.policy(), draft.view.now);
    let evidence = json!({"verdict": judgement.reasons, "exhibits": judgement.exhibits});
    match answer {
        Answer::Withheld { gate, reason, .. } => hold(draft, gate, &reason, evidence),
        Answer::Permit(_) if dump_holds(draft, judgement) => {}
        Answer::Permit(permit) => {
            let reasons = judgement.reasons.join("; ");
            body(draft).by_report = judgement.by_report_only;
            let go = if facts.evidence.has_device { ready(draft) } else { waived(draft, host) };
            if !go {
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

/// Its crash kernel writes a dump that power off would destroy. Its guests are dead already, so waiting costs them time and nothing else;
/// how much, policy says, and never more than once for a boot. Not where it reads Off: nothing is being written there.
fn dump_holds(draft: &mut Draft<'_>, judgement: &verdict::Judgement) -> bool {
    let beats = &draft.view.facts.evidence.beats;
    let told = beats.dump.filter(|dump| beats.last_any().is_none_or(|beat| beat < dump.last));
    let until = told.and_then(|dump| dump.holds_until(draft.view.policy(), draft.view.now));
    let Some(until) = until.filter(|_| !judgement.is_conclusive()) else { return false };
    let window = draft.view.policy().kdump_window_ms.min(kdump::WINDOW_AT_MOST_MS);
    let reason = format!(
        "its crash kernel writes a dump: the off order waits for it, at most {} s from its first word",
        window / 1_000
    );
    if draft.view.recovery.reason != reason {
        draft.note("off_held_for_dump", reason.clone(), json!({"window_ms": window}));
    }
    if matches!(state(draft), HostState::Held { .. } | HostState::NeedsOperator { order: None, .. }) {
        become_state(draft, HostState::Confirming, &reason);
    }
    draft.reason = reason;
    draft.look_at(until);
    draft.look_after(LOOK_MS);
    true
}

/// A brake withholds: said once for each gate, and looked at afresh.
pub(super) fn hold(draft: &mut Draft<'_>, gate: brake::Gate, reason: &str, evidence: Value) {
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

/// Permitted: whether the hooks that come before the first deed have ended. Until then it is judged and permitted afresh at each step,
/// so nothing is done on what was true when they began.
pub(super) fn ready(draft: &mut Draft<'_>) -> bool {
    let ready = hooks::passed(draft, Point::Pre);
    if !ready && matches!(state(draft), HostState::Held { .. } | HostState::NeedsOperator { order: None, .. })
    {
        let reason = draft.reason.clone();
        become_state(draft, HostState::Confirming, &reason);
    }
    if !ready {
        draft.look_after(LOOK_MS);
    }
    ready
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
        Ok(_) if !ready(draft) => false,
        Ok(proof) => {
            let order = Order { attempt: 0, boot_number: host.boot_number, intent: None };
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

pub(super) fn cancel(draft: &mut Draft<'_>, why: &str) {
    draft.message = Some(why.to_owned());
    become_state(draft, HostState::Cancelled, why);
    draft.tell(EventKind::RecoveryClosed, why, json!({"outcome": "cancelled"}));
}

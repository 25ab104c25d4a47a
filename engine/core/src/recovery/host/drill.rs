//! A drill: an empty host on maintenance is turned off, proved off, and switched on again on its way back. It shows that the devices
//! can, and for one that cannot name its machine it is what shows that it switches this one (DESIGN 7).

use super::confirm::hold;
use super::*;

/// Lost answers after which a drill ends.
const ATTEMPTS: u32 = 3;
/// A question that failed so often in a row ends a drill: it can be run again, nothing is lost.
const ASKED: u32 = 3;
/// What a drill saw before its order is not older than this.
const FRESH_MS: u64 = 5_000;

/// The next step of a drill. No brake of belief is asked and no guest is moved: there is none.
pub(super) fn step(draft: &mut Draft<'_>, host: &Host) {
    draft.look_after(LOOK_MS);
    match state(draft).clone() {
        HostState::Confirming | HostState::Held { .. } | HostState::NeedsOperator { order: None, .. } => {
            prepare(draft, host);
        }
        HostState::Fencing { order } | HostState::NeedsOperator { order: Some(order), proof: None } => {
            fencing(draft, host, order);
        }
        HostState::Proved { proof, .. }
        | HostState::Evacuating { proof, .. }
        | HostState::Verifying { proof, .. }
        | HostState::NeedsOperator { order: Some(_), proof: Some(proof) } => proved(draft, host, &proof),
        HostState::Finished | HostState::Failed | HostState::Cancelled => {}
    }
}

/// On maintenance, out of scheduling, empty: only then the order.
fn prepare(draft: &mut Draft<'_>, host: &Host) {
    let facts = draft.view.facts;
    if let Some(who) = &facts.cancelled {
        return refuse(draft, &format!("cancelled by {who}"));
    }
    let name = &host.name;
    if !host.maintenance.operator {
        let text = format!(
            "no drill: {name} is not on maintenance; set it first (`halberd host update {name} --on-maintenance true`)"
        );
        return refuse(draft, &text);
    }
    if host.admission != Admission::In {
        return refuse(draft, &format!("no drill: {name} is {}", host.admission));
    }
    if !facts.evidence.has_device {
        return refuse(draft, &format!("no drill: {name} has no fence device"));
    }
    let service = Query::Service { host: name.clone() };
    let survey = Query::Survey { host: name.clone() };
    for query in [&service, &survey] {
        if let Some(failure) = facts.failures.get(query).filter(|failure| failure.count >= ASKED) {
            return cancel(
                draft,
                &format!("no drill: Nova cannot be asked whether {name} is empty: {}", failure.text),
            );
        }
    }
    draft.reason = "is it empty and out of scheduling?".into();
    let fresh = |at: Mono| draft.view.now.since(at).as_millis() as u64 <= FRESH_MS;
    let Some((_, row)) = facts.service.as_ref().filter(|(at, _)| fresh(*at)) else {
        return draft.ask(service);
    };
    match row {
        None => return refuse(draft, &format!("no drill: Nova has no compute service {name}")),
        Some(row) if row.enabled => {
            let text = format!(
                "no drill: nova-compute of {name} is enabled, so Nova may place a guest on it meanwhile; disable it first (`openstack compute service set --disable {name} nova-compute`)"
            );
            return refuse(draft, &text);
        }
        Some(_) => {}
    }
    let Some(listed) = facts.fresh_survey(draft.view.now, FRESH_MS).filter(|survey| survey.complete) else {
        return draft.ask(survey);
    };
    let guests = listed.guests.len();
    let moving = listed.migrations.iter().filter(|record| record.is_unfinished()).count();
    if guests + moving > 0 {
        let text = format!(
            "no drill: {guests} guests are on {name} and {moving} moves are under way; empty it first"
        );
        return refuse(draft, &text);
    }
    let subject = brake::Subject { power_on: true, ..brake::Subject::of(host, facts.segment_enabled) };
    match brake::may_fence_on_order(&subject, &facts.fleet, draft.view.policy(), draft.view.now) {
        Answer::Withheld { gate, reason, .. } => hold(draft, gate, &reason, json!({})),
        Answer::Permit(permit) => {
            let soon = draft.view.policy().first_missed();
            let beats = last_echoed(draft).is_some_and(|at| draft.view.now.since(at) <= soon);
            let Purpose::Drill { by, heard, .. } = &mut *body(draft).purpose else { return };
            *heard = beats;
            let by = by.clone();
            draft.note("permit_given", permit.to_string(), json!({"drill_by": by, "agent_heard": beats}));
            order_off(draft, host, 1, &format!("drill by {by}"));
        }
    }
}

/// Nothing was done: the host stays as it is.
fn refuse(draft: &mut Draft<'_>, why: &str) {
    draft.message = Some(why.to_owned());
    become_state(draft, HostState::Cancelled, why);
    draft.tell(EventKind::DrillEnded, why, json!({"outcome": "refused"}));
}

fn fencing(draft: &mut Draft<'_>, host: &Host, order: Order) {
    let answer = draft.view.facts.outcomes.iter().find(|outcome| Some(outcome.intent) == order.intent);
    let Some(outcome) = answer.cloned() else {
        if draft.view.facts.in_flight("power_off") {
            return;
        }
        if order.attempt < ATTEMPTS {
            return order_off(draft, host, order.attempt + 1, "the answer was lost");
        }
        return end(draft, host, Err("its answers were lost".into()));
    };
    let (report, error) = fencing::answer_of(&outcome.done);
    let detail = json!({"attempts": report.attempts});
    let host = &fencing::note_hold(draft, host, &report);
    let proof = fence::prove(host.id, order.boot_number, draft.view.recovery.epoch, &report);
    draft.resolve(outcome.intent, if proof.is_ok() { "done" } else { "not_proved" }, detail.clone());
    match proof {
        Ok(proof) => {
            let patch = HostPatch {
                proof: Some(Some(proof.clone())),
                retire_boot: host.boot,
                ..HostPatch::default()
            };
            draft.hosts.push((host.id, patch));
            draft.note("host_fenced", format!("{} is off, read twice", host.name), detail);
            draft.memory.push(Memory::Proved);
            if let Purpose::Drill { unnamed, .. } = &mut *body(draft).purpose {
                *unnamed = report.unnamed();
            }
            become_state(draft, HostState::Proved { order, proof, marked_down: false }, "read off twice");
        }
        Err(why) => {
            draft.note("fence_not_proved", why.to_string(), detail);
            end(draft, host, Err(error.map_or_else(|| why.to_string(), |error| format!("{why} ({error})"))));
        }
    }
}

/// Devices that named the machine have shown all they can. Of others only the silence of its agent says what they switched.
fn proved(draft: &mut Draft<'_>, host: &Host, proof: &FenceProof) {
    let Purpose::Drill { heard, unnamed, .. } = *body(draft).purpose.clone() else { return };
    let fence::Means::Power { devices, .. } = proof.means().clone() else {
        return end(draft, host, Err("it was not proved off by its devices".into()));
    };
    if unnamed.is_empty() {
        return end(draft, host, Ok(devices));
    }
    let names = unnamed.join(", ");
    if !heard {
        return end(
            draft,
            host,
            Err(format!(
                "{names} does not name the machine, and no agent was heard on it that could fall silent"
            )),
        );
    }
    let since = draft.view.facts.proved_at.unwrap_or(draft.view.facts.claimed_at);
    if last_echoed(draft).is_some_and(|at| at > since) {
        return end(draft, host, Err(format!("its agent still beats: {names} switches another machine")));
    }
    let over = since + std::time::Duration::from_millis(draft.view.policy().suspect_after_ms);
    if draft.view.now < over {
        draft.reason = format!("{names} does not name the machine; its agent has to fall silent");
        return draft.look_at(over);
    }
    end(draft, host, Ok(devices));
}

/// Said, recorded with its devices, and switched on again: off or not, that is how it was found.
fn end(draft: &mut Draft<'_>, host: &Host, result: Result<Vec<String>, String>) {
    let Purpose::Drill { by, .. } = *body(draft).purpose.clone() else { return };
    let (state, outcome, text, drilled) = match result {
        Ok(devices) => {
            let text = format!("drill passed: {} was turned off by {}", host.name, devices.join(" and "));
            (HostState::Finished, "passed", text, devices)
        }
        Err(why) => {
            (HostState::Failed, "failed", format!("drill failed on {}: {why}", host.name), Vec::new())
        }
    };
    draft.hosts.push((host.id, HostPatch { drilled, ..HostPatch::default() }));
    draft.note("drill_ended", text.clone(), json!({"outcome": outcome, "by": by}));
    draft.message = Some(text.clone());
    become_state(draft, state, &text);
    draft.tell(EventKind::DrillEnded, &text, json!({"outcome": outcome}));
    open_return(draft, host, admission::HostReturn::switched_on(by));
}

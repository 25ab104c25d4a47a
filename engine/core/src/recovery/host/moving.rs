//! Evacuating and Verifying: guests leave the dead host while the proof holds.

use super::*;
use crate::instance::Guest;
use crate::recovery::{Stage, Vmove, VmoveStatus};

/// Guests leave the dead host.
pub(super) fn moving(draft: &mut Draft<'_>, host: &Host, order: Order, proof: FenceProof) {
    if void_if_alive(draft, host, &order) {
        return;
    }
    digest_reserves(draft);
    let policy = draft.view.policy();
    let now = draft.view.now;
    let facts = draft.view.facts;
    let rereads = proof.rereads_power() && guard::stands(Guard::PowerReread);
    let marked = facts.marked_at.unwrap_or(facts.claimed_at);
    let may_send = if rereads {
        facts.fresh_power(now, policy.power_fresh_ms) == Some(&Power::Off)
            && facts.power.as_ref().is_some_and(|reading| reading.at >= marked)
    } else if matches!(proof.means(), fence::Means::Lease { .. }) && host.set_by_us.forced_down {
        // Forced down by us and nothing shows life: Nova's own word, read each five seconds, adds nothing.
        true
    } else {
        facts.evidence.service.as_ref().is_none_or(|service| !service.up || service.forced_down)
    };
    let guests = evacuation::advance(draft, may_send);
    if draft.acts.iter().any(|(_, effect)| matches!(effect, Effect::Evacuate { .. })) {
        body(draft).evacuated = true;
    }
    if guests.unsent > 0 && rereads {
        if facts.fresh_power(now, REREAD_POWER_MS).is_none() {
            draft.ask(Query::Power { host: host.id });
        }
        if !may_send {
            if unread(draft, host, order, proof) {
                return;
            }
            draft.reason = "power has to be read Off before the next guest is sent".into();
            return draft.look_after(LOOK_MS);
        }
    }
    if guests.settled {
        return finish(draft, host, guests.failed);
    }
    if !guests.blocked.is_empty() {
        let why = blocked(draft, guests.blocked);
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

/// No device tells the power any more since the proof (F20: a controller can lose its supply with its host). A person is asked, and may state
/// that the host is off; the device goes on being asked. True while that is settled.
pub(super) fn unread(draft: &mut Draft<'_>, host: &Host, order: Order, proof: FenceProof) -> bool {
    let query = Query::Power { host: host.id };
    let failed = draft.view.facts.failures.get(&query).is_some_and(|failure| failure.count >= READINGS_TRIED);
    if !failed {
        return false;
    }
    if confirmed_by_operator(draft, host) {
        return true;
    }
    draft.ask(query);
    let text = format!(
        "the power of {} cannot be read any more, and has to read Off before a guest is sent: mend its device, or cut its power and confirm with its serial",
        host.name
    );
    needs_operator(draft, Some(order), Some(proof), &text);
    true
}

/// What stands in the way of guests. A guest that this step did not look at keeps its line, or the question would change at each step.
fn blocked(draft: &Draft<'_>, mut lines: Vec<String>) -> String {
    let asked = draft.view.recovery.word() == StateWord::NeedsOperator && draft.acts.is_empty();
    if asked {
        for line in draft.view.recovery.reason.split("; ") {
            let of = |vmove: &&Vmove| line.starts_with(&format!("{}: ", vmove.instance_name));
            let Some(vmove) = draft.all_moves().find(of) else { continue };
            let known = lines.iter().any(|new| new.starts_with(&format!("{}: ", vmove.instance_name)));
            if vmove.stage != Stage::Done && !known {
                lines.push(line.to_owned());
            }
        }
        lines.sort();
    }
    lines.join("; ")
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

/// Every guest has its answer and hooks are to run before the close. From here on this recovery moves no guest and fences nobody: a
/// host that comes back meanwhile is not shot for a slow hook, it stays out until its way back opens. Its proof, though, is taken
/// back at the first sign of life, since other recoveries rest on it (DESIGN 2.7).
pub(super) fn closing(draft: &mut Draft<'_>, host: &Host) {
    digest_reserves(draft);
    let late = draft.view.facts.survey.as_ref().filter(|survey| survey.complete).is_some_and(|survey| {
        let here = |guest: &&Guest| guest.host.as_deref() == Some(&host.name);
        survey.guests.iter().filter(here).any(|guest| draft.vmove(guest.id).is_none())
    });
    if late {
        draft.hooks.closing = None;
        draft.note("close_undone", "a guest was listed late: it is moved first", json!({}));
        return draft.look_after(0);
    }
    if let Some(why) = contradicted(draft)
        && host.proof.is_some()
    {
        let text = format!("{}: {why}; every guest has its answer, it stays out", host.name);
        draft.note("proof_voided", text, json!({"why": why}));
        draft.hosts.push((host.id, HostPatch { proof: Some(None), ..HostPatch::default() }));
    }
    let failed = draft.all_moves().filter(|vmove| vmove.status == VmoveStatus::Failed).count();
    finish(draft, host, failed);
}

/// Every guest has its answer: close, give unused reserves back, open the host's way back.
fn finish(draft: &mut Draft<'_>, host: &Host, failed: usize) {
    let total = draft.all_moves().count();
    let text = if failed > 0 {
        format!("{failed} of {total} guests could not be recovered")
    } else {
        format!("{total} guests of {} have their answer", host.name)
    };
    if !hooks::may_close(draft, failed > 0, &text) {
        return draft.look_after(LOOK_MS);
    }
    // A reserved host that is being prepared would be enabled after it was given back, and what is ordered has its end on file (I13).
    if draft.view.facts.awaits_deed() {
        draft.reason = format!("{text}; the answer to what is still under way is waited for");
        return draft.look_after(LOOK_MS);
    }
    let reserves = std::mem::take(&mut body(draft).reserves);
    for reserve in &reserves {
        let patch = HostPatch { reserved: Some((!reserve.used, None)), ..HostPatch::default() };
        draft.hosts.push((reserve.host, patch));
    }
    body(draft).reserves = reserves;
    let (state, outcome) =
        if failed > 0 { (HostState::Failed, "failed") } else { (HostState::Finished, "finished") };
    draft.message = (failed > 0).then(|| text.clone());
    become_state(draft, state, &text);
    draft.tell(
        EventKind::RecoveryClosed,
        &text,
        json!({"outcome": outcome, "guests": total, "failed": failed}),
    );
    open_return(draft, host, admission::HostReturn::new());
}

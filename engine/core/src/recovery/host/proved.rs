//! Proved: force-down only now, then power once more.

use super::*;

/// Force-down only after the proof, then power once more.
pub(super) fn proved(draft: &mut Draft<'_>, host: &Host, order: Order, proof: FenceProof, marked_down: bool) {
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
    // Before the last look at power, so that what they took does not age it.
    if !hooks::passed(draft, Point::Main) {
        return draft.look_after(LOOK_MS);
    }
    if proof.rereads_power() && guard::stands(Guard::PowerReread) {
        let since = draft.view.facts.marked_at.unwrap_or(draft.view.facts.claimed_at);
        let fresh =
            draft.view.facts.power.as_ref().is_some_and(|reading| {
                reading.at >= since && reading.identified && reading.power == Power::Off
            });
        // A hook may have taken minutes since the mark-down.
        let young = draft.hooks.at(Point::Main).next().is_none()
            || draft.view.facts.fresh_power(draft.view.now, REREAD_POWER_MS) == Some(&Power::Off);
        if !fresh || !young {
            if moving::unread(draft, host, order, proof) {
                return;
            }
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
            Done::Fenced { .. } | Done::Hook { .. } => {}
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
    // Whatever becomes of the call, it is ours to undo: what may have been set counts as set.
    let was_disabled = draft.view.facts.evidence.service.as_ref().is_some_and(|service| service.disabled);
    let set =
        SetByUs { disabled: host.set_by_us.disabled || !was_disabled, forced_down: true, ..host.set_by_us };
    draft.hosts.push((host.id, HostPatch { set_by_us: Some(set), ..HostPatch::default() }));
    let reason = effect::disabled_reason("host", draft.view.recovery.id);
    draft.act(
        Effect::MarkDown { host: host.name.clone(), reason },
        order.attempt.max(1),
        json!({"proof": proof}),
    );
}

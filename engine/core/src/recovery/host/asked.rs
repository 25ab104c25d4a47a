//! A person has the host turned off, dead or alive. Nothing is judged then; its guests leave on the road of every other failure.

use super::confirm::{hold, ready};
use super::*;

/// Who ordered it, when it was opened or since, as long as it was not tried in vain.
pub(super) fn ordered(draft: &mut Draft<'_>) -> Option<Asked> {
    let stands = matches!(*body(draft).purpose, Purpose::Ordered { failed: None, .. });
    if let Some(by) = draft.view.facts.ordered.clone() {
        draft.memory.push(Memory::OrderedWish);
        if !stands {
            draft.note("fence_ordered", format!("turned off as {by} has ordered"), json!({"by": by}));
            *body(draft).purpose = Purpose::Ordered { by, failed: None };
        }
    }
    match &*body(draft).purpose {
        Purpose::Ordered { by, failed: None } => Some(by.clone()),
        _ => None,
    }
}

/// The host lives and the devices did not turn it off: an order is not repeated behind anybody's back.
pub(super) fn give_up(draft: &mut Draft<'_>, why: &str) {
    if let Purpose::Ordered { failed, .. } = &mut *body(draft).purpose {
        *failed = Some(why.to_owned());
    }
}

/// Before a living host's recovery is cancelled: what a person ordered and did not get.
pub(super) fn undone(draft: &mut Draft<'_>) -> Option<String> {
    match &*body(draft).purpose {
        Purpose::Ordered { by, failed: Some(why) } => {
            Some(format!("not turned off as {by} had ordered: {why}"))
        }
        _ => None,
    }
}

/// Before the order goes out: only what guards against too much is asked (G4, G5, G7), and whether it was taken back.
pub(super) fn confirm(draft: &mut Draft<'_>, host: &Host, by: &Asked) {
    let facts = draft.view.facts;
    if let Some(who) = &facts.cancelled {
        return cancel(draft, &format!("cancelled by {who}"));
    }
    if confirmed_by_operator(draft, host) {
        return;
    }
    if !facts.evidence.has_device {
        let text = format!(
            "{} has no fence device: set one, or cut its power by hand and state it with `halberd fence confirm`",
            host.name
        );
        return needs_operator(draft, None, None, &text);
    }
    let power_on = facts.fresh_power(draft.view.now, draft.view.policy().power_fresh_ms) != Some(&Power::Off);
    let subject = brake::Subject { power_on, ..brake::Subject::of(host, facts.segment_enabled) };
    match brake::may_fence_on_order(&subject, &facts.fleet, draft.view.policy(), draft.view.now) {
        Answer::Withheld { gate, reason, .. } => hold(draft, gate, &reason, json!({"ordered_by": by})),
        Answer::Permit(permit) => {
            if !ready(draft) {
                return;
            }
            draft.note("permit_given", permit.to_string(), json!({"ordered_by": by}));
            order_off(draft, host, 1, &format!("ordered by {by}"));
        }
    }
}

/// An order without its answer (a restart): what a person wants off is not left on because it lives.
pub(super) fn resume(draft: &mut Draft<'_>, host: &Host, order: &Order) -> bool {
    let Purpose::Ordered { by, failed: None } = *body(draft).purpose.clone() else { return false };
    if order.intent.is_none() || order.attempt >= ATTEMPTS || body(draft).evacuated {
        return false;
    }
    order_off(draft, host, order.attempt + 1, &format!("ordered by {by}; the answer was lost"));
    true
}

/// Lost answers after which the host is looked at like any other.
const ATTEMPTS: u32 = 3;

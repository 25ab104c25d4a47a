//! Power on a host's way back: switched on where somebody asked for it, and its controllers' own policy given back.

use serde_json::json;

use super::{PowerOn, body};
use crate::effect::{Done, Effect};
use crate::event::EventKind;
use crate::guard::{self, Guard};
use crate::host::{Asked, Host, SetByUs};
use crate::policy::Policy;
use crate::runner::HostPatch;
use crate::step::{Draft, Memory};

/// Between two orders that did not bring it on: the fencer itself has tried for a minute by then.
const AGAIN_MS: u64 = 60_000;
/// After so many it is a person's.
const TRIES: u32 = 5;
/// Controllers that refuse their former policy so often keep ours: their host is in, and an event says so.
const POLICY_TRIES: u32 = 3;

/// An order to switch it on is still to be given.
pub(super) fn is_wanted(draft: &mut Draft<'_>) -> bool {
    body(draft).power_on.as_ref().is_some_and(|wanted| !wanted.done && wanted.failed < TRIES)
}

/// Orders a drained host on where somebody wants that and nobody has seen it up. Answers what it is about, while there is something to
/// tell.
pub(super) fn switch_on(draft: &mut Draft<'_>, host: &Host, seen: bool) -> Option<String> {
    if let Some(outcome) = draft.view.facts.outcome("power_on").cloned() {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
        answered(draft, host, &outcome.done);
    }
    let wanted = body(draft).power_on.clone()?;
    if seen && !draft.view.facts.in_flight("power_on") {
        body(draft).power_on = Some(PowerOn { done: true, ..wanted });
        return None;
    }
    if wanted.done {
        return Some("switched on; it has to be seen".into());
    }
    if wanted.failed >= TRIES {
        return Some(given_up(host));
    }
    if draft.view.facts.in_flight("power_on") {
        return Some(format!("being switched on for {}", wanted.by));
    }
    if let Some(at) = draft.not_before() {
        draft.look_at(at);
        return Some(draft.reason.clone());
    }
    if !draft.view.facts.evidence.has_device {
        if let Some(wanted) = &mut body(draft).power_on {
            wanted.failed = TRIES;
        }
        let text = format!("{} has no fence device that could switch it on", host.name);
        draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({}));
        return Some(text);
    }
    let attempt = wanted.failed + 1;
    draft.note(
        "on_ordered",
        format!("power on of {} ordered for {}", host.name, wanted.by),
        json!({"by": wanted.by}),
    );
    draft.act(Effect::PowerOn { host: host.id }, attempt, json!({"by": wanted.by}));
    Some(format!("being switched on for {}", wanted.by))
}

/// A person's word comes before policy's, and counts once. An order that was given up is not taken up again by policy.
pub(super) fn take_up(draft: &mut Draft<'_>) {
    if let Some(by) = draft.view.facts.power_on.clone() {
        draft.memory.push(Memory::PowerOnWish);
        body(draft).power_on = Some(PowerOn { by, failed: 0, done: false });
    } else if (draft.view.policy().power_on_when_drained || !guard::stands(Guard::PowerOnAsked))
        && body(draft).power_on.is_none()
    {
        let by = Asked { actor: "policy".into(), reason: "power_on_when_drained".into() };
        body(draft).power_on = Some(PowerOn { by, failed: 0, done: false });
    }
}

fn answered(draft: &mut Draft<'_>, host: &Host, done: &Done) {
    let text = match done {
        Done::Accepted { note } => {
            draft.note("host_switched_on", format!("{} reads on: {note}", host.name), json!({}));
            if let Some(wanted) = &mut body(draft).power_on {
                wanted.done = true;
            }
            return;
        }
        Done::Refused { text, .. }
        | Done::Gone { text }
        | Done::NotExecuted { text }
        | Done::Unknown { text } => text,
        Done::Fenced { .. } | Done::Hook { .. } => return,
    };
    let Some(wanted) = &mut body(draft).power_on else { return };
    wanted.failed += 1;
    let failed = wanted.failed;
    let mut why = format!("{} does not come on: {text}", host.name);
    if failed >= TRIES {
        why = format!("{why}; {}", given_up(host));
        draft.tell(EventKind::RecoveryNeedsOperator, &why, json!({"attempts": failed}));
    }
    draft.note("on_failed", why.clone(), json!({"attempt": failed}));
    draft.reason = why;
    draft.memory.push(Memory::NotBefore(draft.view.now + Policy::ms(AGAIN_MS)));
}

fn given_up(host: &Host) -> String {
    format!("it could not be switched on; do it by hand, or ask again (`halberd fence on {}`)", host.name)
}

/// The host is as good as in: its controllers' policy holds nothing up for long.
pub(super) fn policy_answered(draft: &mut Draft<'_>, host: &Host, done: &Done) {
    let given = matches!(done, Done::Accepted { .. });
    body(draft).policy_refused += u32::from(!given);
    if !given && body(draft).policy_refused < POLICY_TRIES {
        draft.reason =
            format!("the power-restore policy of {} could not be given back; tried again", host.name);
        draft.memory.push(Memory::NotBefore(draft.view.now + Policy::ms(super::CALL_AGAIN_MS)));
        return;
    }
    let set = SetByUs { restore_policy: false, ..host.set_by_us };
    draft.hosts.push((host.id, HostPatch { set_by_us: Some(set), ..super::while_admitted() }));
    if given {
        draft.note(
            "power_policy_restored",
            format!("{} has its power-restore policy back", host.name),
            json!({}),
        );
    } else {
        let text = format!(
            "{} is back, but its controller keeps the power-restore policy AlwaysOff that we set; set it back by hand",
            host.name
        );
        draft.note("power_policy_kept", text.clone(), json!({"answer": done}));
        draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({}));
    }
    draft.look_after(0);
}

//! A process' recovery: take its host out of scheduling, verify (contract 3.7). Its guests are not touched, and the host stays
//! protected: a dead process must not disarm host recovery (W4).
//!
//! With that the original was done, and a person had to undo it. Here the recovery stays open, *returning*: once nova-compute is
//! well again, what was set is taken back, and no more than that. See [`back`].

mod back;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Body, HOOK_WORD, StateWord, Subject, hooks};
use crate::effect::{Done, Effect, Query, disabled_reason};
use crate::event::EventKind;
use crate::hook::Point;
use crate::host::{Admission, SetByUs};
use crate::runner::{HostCondition, HostPatch};
use crate::step::{Draft, Memory};

/// States of a process' recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ProcessState {
    Confirming,
    Disabling,
    Verifying,
    /// Out of scheduling until the process is well again.
    Returning,
    Finished,
    Failed,
    Cancelled,
}

impl ProcessState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Disabling => StateWord::Disabling,
            Self::Verifying => StateWord::Verifying,
            Self::Returning => StateWord::Returning,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }
}

/// What is stored of a process' recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRecovery {
    pub state: ProcessState,
}

/// The one process whose death keeps new guests from the host.
const NOVA_COMPUTE: &str = "nova-compute";
const POLL_MS: u64 = 1_000;
const OUT_OF_SCHEDULING: &str = "out of scheduling";

/// The next step of a process' recovery.
pub fn step(draft: &mut Draft<'_>) {
    let inherited: Vec<_> = draft
        .view
        .facts
        .inherited
        .iter()
        .filter(|intent| intent.effect != HOOK_WORD)
        .map(|intent| intent.id)
        .collect();
    for intent in inherited {
        draft.resolve(intent, "superseded", json!({"why": "the service row is looked at instead"}));
    }
    let (Subject::Process { name, .. }, Body::Process(body)) =
        (draft.view.recovery.subject.clone(), draft.body.clone())
    else {
        return;
    };
    if body.state == ProcessState::Returning {
        return back::step(draft);
    }
    draft.look_after(POLL_MS);
    if let Some(closing) = draft.hooks.closing.clone() {
        let state = if closing.failed { ProcessState::Failed } else { ProcessState::Finished };
        return end(draft, state, &closing.why);
    }
    let Some(host) = draft.view.facts.host.clone() else { return };
    if host.admission != Admission::In {
        // Not while a deed of ours is open: what it did has to be known to whoever undoes it (I13).
        if draft.view.facts.awaits_deed() {
            draft.reason = "its host is being recovered; the answer to the last call is waited for".into();
            return;
        }
        if take_answer(draft, &host) {
            return;
        }
        return end(draft, ProcessState::Cancelled, "its host is being recovered");
    }
    if draft.hooks.held().is_some() {
        return;
    }
    match body.state {
        ProcessState::Confirming if name != NOVA_COMPUTE => {
            end(
                draft,
                ProcessState::Finished,
                &format!("{name}: reported; only {NOVA_COMPUTE} takes its host out of scheduling"),
            );
        }
        ProcessState::Confirming if !hooks::passed(draft, Point::Pre) => {}
        ProcessState::Confirming => {
            draft
                .hosts
                .push((host.id, HostPatch { maintenance_process: Some(true), ..HostPatch::default() }));
            draft.reason = format!("taking {} out of scheduling", host.name);
            draft.body = Body::Process(ProcessRecovery { state: ProcessState::Disabling });
        }
        ProcessState::Disabling | ProcessState::Verifying => disable(draft, &host, &body.state),
        _ => {}
    }
}

/// Takes up Nova's answer to the disable; false when there is none.
fn take_answer(draft: &mut Draft<'_>, host: &crate::host::Host) -> bool {
    let Some(outcome) = draft.view.facts.outcomes.first().cloned() else { return false };
    draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
    if let Done::Accepted { .. } = outcome.done {
        let set = SetByUs { disabled: true, ..host.set_by_us };
        draft.hosts.push((host.id, HostPatch { set_by_us: Some(set), ..HostPatch::default() }));
        draft.body = Body::Process(ProcessRecovery { state: ProcessState::Verifying });
        draft.reason = "disabled; verifying".into();
    } else {
        let again = draft.view.now + std::time::Duration::from_millis(POLL_MS);
        draft.memory.push(Memory::NotBefore(again));
        draft.reason = format!("Nova did not take it, tried again: {}", outcome.done.word());
    }
    true
}

fn disable(draft: &mut Draft<'_>, host: &crate::host::Host, state: &ProcessState) {
    if take_answer(draft, host) {
        return;
    }
    let facts = draft.view.facts;
    let now = draft.view.now;
    if !facts.in_flight.is_empty() {
        return;
    }
    let since = facts.ordered_at.unwrap_or(facts.claimed_at);
    if now.since(since).as_millis() as u64 > draft.view.policy().stop_timeout_ms {
        return end(draft, ProcessState::Failed, "Nova did not confirm that the host is out of scheduling");
    }
    if is_silent(draft) {
        draft.reason = "its host missed a beat: nothing is sent".into();
        return;
    }
    let fresh = facts.service.as_ref().filter(|(at, _)| now.since(*at).as_millis() as u64 <= POLL_MS);
    match fresh {
        None => draft.ask(Query::Service { host: host.name.clone() }),
        Some((_, None)) => end(draft, ProcessState::Failed, "Nova knows no compute service of this name"),
        Some((_, Some(row))) if !row.enabled && !hooks::passed(draft, Point::Main) => {}
        Some((_, Some(row))) if !row.enabled => {
            // The answer to the call may have been lost: the dead service keeps Nova from answering for a minute.
            if row.disabled_reason.as_deref() == Some(&our_reason(draft)) && !host.set_by_us.disabled {
                let set = SetByUs { disabled: true, ..host.set_by_us };
                draft
                    .hosts
                    .push((host.id, while_in(HostPatch { set_by_us: Some(set), ..HostPatch::default() })));
            }
            end(draft, ProcessState::Finished, OUT_OF_SCHEDULING);
        }
        Some(_) if *state == ProcessState::Disabling && draft.not_before().is_none() => {
            let reason = our_reason(draft);
            draft.act(Effect::Disable { host: host.name.clone(), reason }, 1, json!({}));
        }
        Some(_) => {}
    }
}

/// Its host missed a beat. A PUT on a host that died but still counts as up blocks a Nova worker for a minute (DESIGN 10.4).
fn is_silent(draft: &Draft<'_>) -> bool {
    let evidence = &draft.view.facts.evidence;
    let first_missed = draft.view.policy().first_missed();
    let now = draft.view.now;
    evidence.agent && evidence.beats.last_any().is_none_or(|at| now.since(at) > first_missed)
}

/// Nova keeps it with the service: who reads it there finds the way here.
fn our_reason(draft: &Draft<'_>) -> String {
    disabled_reason("process", draft.view.recovery.id)
}

/// What an owner read of the row has to be undone or kept by whoever recovers the host meanwhile.
fn while_in(patch: HostPatch) -> HostPatch {
    HostPatch { only_if: Some(HostCondition::Admission(Admission::In)), ..patch }
}

fn end(draft: &mut Draft<'_>, state: ProcessState, why: &str) {
    let untouched = matches!(&draft.body, Body::Process(body) if body.state == ProcessState::Confirming);
    if !hooks::may_end(draft, state.word(), why) {
        return;
    }
    draft.message = Some(why.to_owned());
    // Out of scheduling: whoever wants it so takes the host back by hand, as with the original.
    let stays =
        state == ProcessState::Finished && !untouched && draft.view.policy().clear_maintenance_on_return;
    if stays {
        draft.note("state_changed", format!("{}: {why}", StateWord::Returning), json!({}));
        draft.body = Body::Process(ProcessRecovery { state: ProcessState::Returning });
        draft.reason = back::WAITS.to_owned();
        return;
    }
    close(draft, state, why);
}

fn close(draft: &mut Draft<'_>, state: ProcessState, why: &str) {
    let outcome = state.word();
    draft.note("state_changed", format!("{outcome}: {why}"), json!({}));
    draft.body = Body::Process(ProcessRecovery { state });
    draft.reason = why.to_owned();
    draft.tell(EventKind::RecoveryClosed, why, json!({"outcome": outcome}));
}

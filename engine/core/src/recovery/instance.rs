//! A guest's recovery: stop, start, verify, on its own host (contract 3.6). It sends nothing to a host that missed a beat, and
//! is closed by a recovery of its host (DESIGN 10.2). Where nobody recovers a silent host (it is on maintenance, a brake withholds)
//! it fails after a while rather than wait for ever: it is open, so v1 refuses to change the host, even to end its maintenance.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Body, HOOK_WORD, StateWord, Subject, hooks};
use crate::effect::{Done, Effect, Query};
use crate::event::EventKind;
use crate::hook::Point;
use crate::host::Admission;
use crate::instance::Guest;
use crate::step::{Draft, Memory};
use crate::time::Mono;

/// States of a guest's recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum InstanceState {
    Confirming,
    Stopping,
    Starting,
    Finished,
    Failed,
    Cancelled,
}

impl InstanceState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Stopping => StateWord::Stopping,
            Self::Starting => StateWord::Starting,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }
}

/// What is stored of a guest's recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecovery {
    pub state: InstanceState,
}

/// A guest is looked at this often while it stops or starts.
const POLL_MS: u64 = 1_000;
/// A stop or start that was taken is repeated after this long without any sign of it.
const REPEAT_MS: u64 = 15_000;

/// A host is silent this long before its guest's recovery gives up. A server's reboot with its memory test takes up to ten minutes,
/// and a recovery of the host itself has begun long before: what is left is a host that a person took out or holds.
const SILENT_MS: u64 = 15 * 60 * 1_000;

/// The next step of a guest's recovery.
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
        draft.resolve(intent, "superseded", json!({"why": "the guest's state is looked at instead"}));
    }
    let (Subject::Guest { instance, .. }, Body::Instance(body)) =
        (draft.view.recovery.subject.clone(), draft.body.clone())
    else {
        return;
    };
    let facts = draft.view.facts;
    draft.look_after(POLL_MS);
    if let Some(closing) = draft.hooks.closing.clone() {
        let state = if closing.failed { InstanceState::Failed } else { InstanceState::Finished };
        return end(draft, state, &closing.why);
    }
    if facts.host.as_ref().is_none_or(|host| host.admission != Admission::In) && facts.host.is_some() {
        // Not while a deed of ours is open (I13).
        if facts.awaits_deed() {
            draft.reason = "its host is being recovered; the answer to the last call is waited for".into();
            return;
        }
        if digest(draft) {
            return;
        }
        return end(
            draft,
            InstanceState::Cancelled,
            "its host is being recovered: that answers for this guest",
        );
    }
    if draft.hooks.held().is_some() {
        return;
    }
    let digested = digest(draft);
    if !facts.in_flight.is_empty() || digested {
        return;
    }
    if let Some(since) = silent_since(draft) {
        if draft.view.now.since(since).as_millis() as u64 >= SILENT_MS {
            return end(draft, InstanceState::Failed, SILENT);
        }
        draft.reason = "its host missed a beat: nothing is sent there".into();
        return draft.look_after(POLL_MS);
    }
    if let Some(at) = draft.not_before() {
        draft.look_at(at);
        draft.ask_every(Query::Guest { instance }, POLL_MS);
    }
    let fresh =
        facts.guests.get(&instance).filter(|(at, _)| draft.view.now.since(*at).as_millis() as u64 <= POLL_MS);
    match fresh.cloned() {
        None => draft.ask(Query::Guest { instance }),
        Some((_, None)) => end(draft, InstanceState::Failed, "Nova knows no guest with this id"),
        Some((_, Some(guest))) => advance(draft, &body.state, &guest),
    }
}

const SILENT: &str = "the agent of its host has been silent for 15 min and the host was not recovered, so nothing was sent to the guest: \
     start the agent or end the host's maintenance; a guest that is still down is reported again, or is started by hand";

/// Since when this owner has watched its host's silence; `None`: the host speaks, or never had an agent.
fn silent_since(draft: &Draft<'_>) -> Option<Mono> {
    let facts = draft.view.facts;
    let last = facts.evidence.beats.last_any();
    let first_missed = draft.view.policy().first_missed();
    let silent = facts.evidence.agent && last.is_none_or(|at| draft.view.now.since(at) > first_missed);
    silent.then(|| last.unwrap_or(facts.claimed_at).max(facts.claimed_at))
}

fn advance(draft: &mut Draft<'_>, state: &InstanceState, guest: &Guest) {
    let policy = draft.view.policy();
    match (state, guest.vm_state.as_str()) {
        (InstanceState::Confirming, _) if !guest.is_ha_enabled() && !policy.process_all_instances => {
            let why = format!("not marked with {}: nothing to do", policy.ha_enabled_instance_metadata_key);
            end(draft, InstanceState::Finished, &why);
        }
        (InstanceState::Confirming, "paused" | "rescued") => {
            end(draft, InstanceState::Cancelled, &format!("{}: left as it is", guest.vm_state));
        }
        (InstanceState::Confirming, _) if !hooks::passed(draft, Point::Pre) => {}
        (InstanceState::Confirming | InstanceState::Stopping, "stopped")
            if !hooks::passed(draft, Point::Main) => {}
        (InstanceState::Confirming | InstanceState::Stopping, "stopped") => {
            enter(draft, InstanceState::Starting, "stopped; starting it");
        }
        (InstanceState::Confirming, _) => enter(draft, InstanceState::Stopping, "stopping it"),
        (InstanceState::Stopping, "resized") => {
            send(draft, Effect::ResetToActive { instance: guest.id }, guest)
        }
        (InstanceState::Stopping, _) => {
            if timed_out(draft, policy.stop_timeout_ms) {
                return end(
                    draft,
                    InstanceState::Failed,
                    &format!("did not stop in time: it is {}", guest.vm_state),
                );
            }
            send(draft, Effect::Stop { instance: guest.id }, guest);
        }
        (InstanceState::Starting, "active") => end(draft, InstanceState::Finished, "active again"),
        (InstanceState::Starting, _) => {
            if timed_out(draft, policy.start_timeout_ms) {
                return end(
                    draft,
                    InstanceState::Failed,
                    &format!("did not start in time: it is {}", guest.vm_state),
                );
            }
            send(draft, Effect::Start { instance: guest.id }, guest);
        }
        _ => {}
    }
}

/// Sends a call unless one was taken a moment ago or Nova is at work on the guest.
fn send(draft: &mut Draft<'_>, effect: Effect, guest: &Guest) {
    if guest.task_state.is_none() && draft.not_before().is_none() {
        draft.act(effect, 1, json!({"vm_state": guest.vm_state}));
    }
}

fn digest(draft: &mut Draft<'_>) -> bool {
    let Some(outcome) = draft.view.facts.outcomes.first().cloned() else { return false };
    draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
    draft.note(
        "call_answered",
        format!("{}: {}", outcome.effect.word(), outcome.done.word()),
        json!({"answer": outcome.done}),
    );
    let pause = match outcome.done {
        // A complete refusal, for instance "it is stopped already": the state decides.
        Done::Refused { .. } | Done::Gone { .. } | Done::NotExecuted { .. } | Done::Unknown { .. } => POLL_MS,
        _ => REPEAT_MS,
    };
    draft.memory.push(Memory::NotBefore(draft.view.now + std::time::Duration::from_millis(pause)));
    true
}

fn timed_out(draft: &Draft<'_>, limit_ms: u64) -> bool {
    let facts = draft.view.facts;
    let since = facts.ordered_at.unwrap_or(facts.claimed_at);
    draft.view.now.since(since).as_millis() as u64 > limit_ms
}

fn enter(draft: &mut Draft<'_>, state: InstanceState, reason: &str) {
    draft.note("state_changed", format!("{}: {reason}", state.word()), json!({}));
    draft.memory.push(Memory::Ordered);
    draft.body = Body::Instance(InstanceRecovery { state });
    draft.reason = reason.to_owned();
    draft.look_after(0);
}

fn end(draft: &mut Draft<'_>, state: InstanceState, why: &str) {
    let outcome = state.word();
    if !hooks::may_end(draft, outcome, why) {
        return;
    }
    draft.message = Some(why.to_owned());
    enter(draft, state, why);
    draft.tell(EventKind::RecoveryClosed, why, json!({"outcome": outcome}));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::chance::Chance;
    use crate::evidence::Network;
    use crate::facts::Facts;
    use crate::id::{HostId, InstanceId, NotificationId, RecoveryId, SegmentId};
    use crate::policy::Policy;
    use crate::recovery::{self, Recovery, WORKFLOW_VERSION};
    use crate::segment::RecoveryMethod;
    use crate::step::{Step, View};
    use crate::time::Stamp;

    const CLAIMED: Mono = Mono(5_000_000);

    /// What a recovery does that has been watched for `watched` and whose host was last heard so long before that.
    fn step_after(state: InstanceState, watched: Duration, heard_before: Option<Duration>) -> Step {
        let (host, instance) = (HostId(uuid::Uuid::from_u128(1)), InstanceId(uuid::Uuid::from_u128(2)));
        let recovery = Recovery {
            id: RecoveryId(uuid::Uuid::from_u128(3)),
            notification: NotificationId(uuid::Uuid::from_u128(4)),
            segment: SegmentId(uuid::Uuid::from_u128(5)),
            subject: Subject::Guest { instance, host },
            host_name: "cmp-01".into(),
            method: RecoveryMethod::Auto,
            policy: Policy::default(),
            body: Body::Instance(InstanceRecovery { state }),
            hooks: crate::hook::Hooks::default(),
            reason: String::new(),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 1,
            version: 1,
            opened_at: Stamp(0),
            closed_at: None,
        };
        let now = CLAIMED + watched;
        let mut facts = Facts { claimed_at: CLAIMED, ..Facts::default() };
        facts.evidence.agent = true;
        facts.evidence.beats.last =
            heard_before.into_iter().map(|ago| (Network::Management, now - ago)).collect();
        let view =
            View { recovery: &recovery, vmoves: &BTreeMap::new(), facts: &facts, now, stamp: Stamp(0) };
        recovery::step(view, &mut Chance::new(1))
    }

    fn word(step: &Step) -> Option<StateWord> {
        step.change.as_ref().map(|change| change.body.word())
    }

    #[test]
    fn a_silent_host_is_waited_for_and_then_given_up() {
        let quarter = Duration::from_secs(15 * 60);
        let short = quarter - Duration::from_secs(1);
        for state in [InstanceState::Confirming, InstanceState::Stopping, InstanceState::Starting] {
            let waits = step_after(state.clone(), short, None);
            assert_eq!(word(&waits), Some(state.word()), "only its reason changes");
            assert!(waits.wait.reason.contains("nothing is sent"));
            assert!(waits.queries.is_empty());
            let over = step_after(state.clone(), quarter, None);
            assert_eq!(word(&over), Some(StateWord::Failed));
            let change = over.change.expect("a change");
            assert!(change.acts.is_empty(), "nothing is sent");
            assert!(change.reason.contains("start the agent"), "a way out: {}", change.reason);
            assert_eq!(change.message.as_deref(), Some(SILENT), "v1 shows it");
        }
    }

    #[test]
    fn silence_counts_from_what_this_owner_heard_and_ends_with_a_beat() {
        let long = Duration::from_secs(3_600);
        let state = InstanceState::Confirming;
        let heard = |ago: u64| step_after(state.clone(), long, Some(Duration::from_secs(ago)));
        assert_eq!(word(&heard(899)), Some(StateWord::Confirming));
        assert_eq!(word(&heard(900)), Some(StateWord::Failed));
        let speaks = heard(1);
        assert_eq!(speaks.queries, vec![Query::Guest { instance: InstanceId(uuid::Uuid::from_u128(2)) }]);
        let claimed_late = step_after(state.clone(), Duration::from_secs(60), Some(long));
        assert_eq!(word(&claimed_late), Some(StateWord::Confirming), "another owner's time is not ours");
    }
}

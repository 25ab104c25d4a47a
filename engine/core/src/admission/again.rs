//! A host on its way back that is taken out, or dies, once more.
//!
//! One hand at a time: while a recovery of the host is open its return stands still, and then begins with the drain. And a death on the
//! way is judged as any other, or the guests that an order retired after its proof left there would be nobody's.

use serde_json::json;

use super::{HostReturn, ReturnState, become_state, body};
use crate::effect::Query;
use crate::hook::Hooks;
use crate::host::{Admission, Host};
use crate::id::RecoveryId;
use crate::recovery::host::HostRecovery;
use crate::recovery::{Body, Recovery, Subject};
use crate::runner::{HostCondition, HostPatch};
use crate::step::{Draft, Memory};
use crate::verdict::{self, Verdict};

/// Another hand has the host: true while this one keeps still.
pub(super) fn yields(draft: &mut Draft<'_>, host: &Host) -> bool {
    let recovering = draft.view.facts.recovering;
    let state = body(draft).state.clone();
    let taken_out = matches!(state, ReturnState::Admitted { .. }) && host.admission == Admission::Out;
    if !recovering && !taken_out && !body(draft).yields {
        return false;
    }
    // What it had under way is answered first; a call that this return made for nothing is undone by the next one.
    let outcomes: Vec<_> =
        draft.view.facts.outcomes.iter().map(|out| (out.intent, out.done.clone())).collect();
    for (intent, done) in outcomes {
        draft.resolve(intent, done.word(), json!({"answer": done}));
    }
    if !body(draft).yields {
        if host.admission == Admission::Admitted {
            let patch = HostPatch {
                admission: Some(Admission::Out),
                only_if: Some(HostCondition::Admission(Admission::Admitted)),
                ..HostPatch::default()
            };
            draft.hosts.push((host.id, patch));
        }
        let lived = body(draft).lived || matches!(state, ReturnState::Admitted { .. });
        *body(draft) = HostReturn { lived, yields: true, ..HostReturn::new() };
        become_state(
            draft,
            ReturnState::Draining { revoked: false },
            "its host is being recovered; it is drained again after that",
        );
        return true;
    }
    if recovering || !draft.view.facts.in_flight.is_empty() {
        return true;
    }
    body(draft).yields = false;
    draft.memory.push(Memory::OrdersOver);
    become_state(draft, ReturnState::Draining { revoked: false }, "its recovery has closed");
    true
}

/// It was seen alive on its way back and is dead now: with guests on it, that is a failure like any other. True while that is settled.
pub(super) fn died(draft: &mut Draft<'_>, host: &Host) -> bool {
    let facts = draft.view.facts;
    let lived = body(draft).lived;
    if !lived || host.maintenance.operator || !facts.segment_enabled {
        return false;
    }
    // Beats of the boot that was fenced say nothing about this one's silence: that it is up was read, and it may still be booting.
    let beat = facts.evidence.beats.boot.is_some_and(|boot| !host.retired_boots.contains(&boot));
    let judgement = verdict::judge(&facts.evidence, draft.view.policy(), draft.view.now);
    let dead = judgement.verdict == Verdict::Failed && (beat || judgement.is_conclusive());
    if !dead {
        return false;
    }
    let Some(survey) = facts.fresh_survey(draft.view.now, 5_000).filter(|survey| survey.complete) else {
        draft.ask(Query::Survey { host: host.name.clone() });
        return true;
    };
    if !survey.guests.iter().any(|guest| guest.host.as_deref() == Some(&host.name)) {
        // Nobody is waiting for it: only whether it comes back once more.
        body(draft).lived = false;
        return false;
    }
    let reasons = judgement.reasons.join("; ");
    let id = RecoveryId(draft.chance.uuid());
    let recovery = draft.view.recovery;
    draft.opens.push(Recovery {
        id,
        subject: Subject::Host { host: host.id },
        body: Body::Host(HostRecovery::new()),
        hooks: Hooks { apply: recovery.hooks.apply.clone(), ..Hooks::default() },
        reason: format!("it died on its way back: {reasons}"),
        owner: None,
        epoch: 0,
        version: 0,
        opened_at: draft.view.stamp,
        closed_at: None,
        ..recovery.clone()
    });
    draft.note(
        "host_died_again",
        format!("{} died on its way back, with guests on it: {reasons}", host.name),
        json!({"recovery": id}),
    );
    draft.reason = "it died on its way back; its guests are being recovered".into();
    true
}

//! Taking up what came back from the calls.

use super::*;

/// Takes up what came back from the calls.
pub(super) fn digest(draft: &mut Draft<'_>) {
    let outcomes: Vec<Outcome> = draft
        .view
        .facts
        .outcomes
        .iter()
        .filter(|outcome| outcome.effect.instance().is_some())
        .cloned()
        .collect();
    for outcome in outcomes {
        let Some(instance) = outcome.effect.instance() else { continue };
        match &outcome.done {
            Done::NotExecuted { .. } => {
                draft.memory.push(Memory::Breaker(true));
                draft
                    .memory
                    .push(Memory::NotBefore(draft.view.now + std::time::Duration::from_millis(BREAKER_MS)));
            }
            Done::Accepted { .. } if draft.view.facts.breaker => draft.memory.push(Memory::Breaker(false)),
            _ => {}
        }
        if let Effect::Evacuate { .. } = outcome.effect {
            digest_evacuate(draft, instance, &outcome);
        } else {
            draft.resolve(outcome.intent, outcome.done.word(), json!({}));
            digest_other(draft, instance, &outcome);
        }
    }
}

fn digest_evacuate(draft: &mut Draft<'_>, instance: InstanceId, outcome: &Outcome) {
    draft.taken.push(outcome.intent);
    match &outcome.done {
        Done::Accepted { note } => {
            draft.edit(instance, |vmove| vmove.stage = Stage::Accepted);
            draft.memory.push(Memory::AcceptedSince(instance));
            draft.note(
                "evacuation_accepted",
                format!("Nova took the evacuation of {}", name(draft, instance)),
                json!({"instance": instance, "request": note}),
            );
        }
        Done::NotExecuted { text } => {
            settle_intent(draft, instance, outcome.done.word());
            let text = text.clone();
            draft.edit(instance, |vmove| {
                vmove.stage = Stage::Ready;
                vmove.message = Some(format!("not executed, tried again: {text}"));
            });
            pause(draft, instance, BREAKER_MS);
        }
        Done::Refused { status, text } => {
            let why = format!("Nova refused ({status}): {text}");
            settle_intent(draft, instance, outcome.done.word());
            fail(draft, instance, &why);
        }
        Done::Gone { text } => {
            settle_intent(draft, instance, outcome.done.word());
            let why = format!("Nova says not found: {text}");
            fail(draft, instance, &why);
        }
        Done::Unknown { text } => {
            let text = text.clone();
            draft.edit(instance, |vmove| vmove.message = Some(format!("outcome unknown, looked up: {text}")));
            draft.memory.push(Memory::UnknownSince(instance));
        }
        Done::Fenced { .. } | Done::Hook { .. } => {}
    }
}

fn digest_other(draft: &mut Draft<'_>, instance: InstanceId, outcome: &Outcome) {
    let again = matches!(outcome.done, Done::NotExecuted { .. } | Done::Unknown { .. });
    let gone = matches!(outcome.done, Done::Gone { .. });
    if again {
        return pause(draft, instance, draft.view.policy().retry_ms);
    }
    match outcome.effect {
        Effect::Lock { .. } if gone => end(draft, instance, VmoveStatus::Ignored, "deleted by its owner"),
        Effect::Lock { .. } => {
            let refused = matches!(outcome.done, Done::Refused { .. });
            draft.edit(instance, |vmove| {
                if refused {
                    vmove.lock = LockMark::Theirs;
                }
                vmove.stage = if vmove.reset { Stage::Resetting } else { Stage::Ready };
            });
        }
        Effect::ResetToError { .. } if gone => {
            end(draft, instance, VmoveStatus::Ignored, "deleted by its owner")
        }
        Effect::ResetToError { .. } => {
            let erroring = draft.vmove(instance).is_some_and(|vmove| vmove.stage == Stage::Erroring);
            if let Done::Refused { text, .. } = &outcome.done {
                let why = format!("Nova refused to reset its state: {text}");
                end(draft, instance, VmoveStatus::Failed, &why);
            } else if erroring {
                end(draft, instance, VmoveStatus::Succeeded, "in error again, as it was before");
            } else {
                draft.edit(instance, |vmove| vmove.stage = Stage::Ready);
            }
        }
        Effect::Stop { .. } | Effect::Start { .. } => pause(draft, instance, REPEAT_POWER_MS),
        Effect::Unlock { .. } => close(draft, instance),
        _ => {}
    }
}

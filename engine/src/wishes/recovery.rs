//! Wishes about a recovery: let it go on, end it, try again.

use halberd_core::brake::Gate;
use halberd_core::hook::HookWish;
use halberd_core::recovery::host::HostState;
use halberd_core::recovery::process::ProcessState;
use halberd_core::recovery::{Body, Recovery, WORKFLOW_VERSION};
use halberd_store::wishes::NewWish;
use halberd_store::{Error, recoveries};

use super::kept::{ORDERED, ended};
use super::{Answer, Word, host, id_of, keep, who};
use crate::shared::Shared;

pub(super) async fn release(shared: &Shared, wish: &NewWish) -> Answer {
    let recovery = match find(shared, wish).await {
        Ok(recovery) => recovery,
        Err(answer) => return answer,
    };
    if let Some(answer) = about_hook(shared, &recovery, wish, false) {
        return answer;
    }
    let refused = |text: &str| Answer::Refused(text.to_owned());
    let Body::Host(body) = &recovery.body else { return refused("only a host's recovery can be held") };
    let HostState::Held { gate } = &body.state else { return refused("the recovery is not held") };
    let gate = match gate.parse::<Gate>() {
        Ok(gate) => gate,
        Err(error) => return refused(&error.to_string()),
    };
    if !gate.is_releasable() {
        return Answer::Refused(format!("{gate} cannot be released: mend its cause"));
    }
    let text = format!("{gate} is released for {}", recovery.host_name);
    keep(shared, &recovery, wish, Word::Release(gate), text)
}

pub(super) async fn cancel(shared: &Shared, wish: &NewWish) -> Answer {
    let recovery = match find(shared, wish).await {
        Ok(recovery) => recovery,
        Err(answer) => return answer,
    };
    let ordered = match &recovery.body {
        Body::Host(body) => !before_order(&body.state),
        Body::Process(body) if body.state == ProcessState::Returning => false,
        _ => {
            return Answer::Refused(
                "only a host's recovery, or a process' that is returning, can be cancelled".into(),
            );
        }
    };
    if ordered {
        return Answer::Refused(ORDERED.into());
    }
    keep(shared, &recovery, wish, Word::Cancel(who(wish)), "it is cancelled")
}

/// Whether no off order was written yet.
pub(super) fn before_order(state: &HostState) -> bool {
    matches!(
        state,
        HostState::Confirming | HostState::Held { .. } | HostState::NeedsOperator { order: None, .. }
    )
}

/// Whether a statement that the host is off leads anywhere: nothing proves it, or a person was asked since nobody can read its power any more.
pub(super) fn statement_is_of_use(state: &HostState) -> bool {
    match state {
        HostState::NeedsOperator { proof: Some(proof), .. } => proof.rereads_power(),
        state => state.proof().is_none(),
    }
}

/// What is paused is in its owner's memory alone, so the wish is done when that has it: a new owner begins without pauses anyway.
pub(super) async fn retry(shared: &Shared, wish: &NewWish) -> Answer {
    let recovery = match find(shared, wish).await {
        Ok(recovery) => recovery,
        Err(answer) => return answer,
    };
    if let Some(answer) = about_hook(shared, &recovery, wish, true) {
        return answer;
    }
    if recovery.owner != Some(shared.engine) || recovery.workflow_version > WORKFLOW_VERSION {
        return Answer::Left;
    }
    shared.wishes.retry(recovery.id);
    shared.changed.notify_waiters();
    Answer::Granted("what was paused is tried again now".into())
}

/// Keeps a word about the hook that holds a recovery, if one does.
fn about_hook(shared: &Shared, recovery: &Recovery, wish: &NewWish, retry: bool) -> Option<Answer> {
    let held = recovery.hooks.held()?;
    let done = if retry { "is run again" } else { "is gone on without" };
    let text = format!("hook {} ({}) {done}", held.hook, held.at);
    Some(keep(shared, recovery, wish, Word::Hook(HookWish { retry, who: who(wish) }), text))
}

/// The open recovery that is meant: itself, or that of the host that is named.
async fn find(shared: &Shared, wish: &NewWish) -> Result<Recovery, Answer> {
    let id = id_of(wish);
    if let Ok(host) = host::find(shared, id).await {
        return host::open_recovery(shared, host.id).await;
    }
    let id = id.parse().map_err(|_| Answer::Refused(format!("'{id}' is no recovery id")))?;
    match recoveries::get(&shared.db, id).await {
        Ok(recovery) if recovery.is_open() => Ok(recovery),
        Ok(recovery) if wish.kind == "retry" => {
            let word = recovery.word();
            Err(Answer::Refused(format!("the recovery is {word}: a new report opens a new one")))
        }
        Ok(recovery) => Err(Answer::Refused(ended(&recovery))),
        Err(error) => Err(unreadable(error)),
    }
}

/// What does not exist is refused; what cannot be read now is looked at again.
pub(super) fn unreadable(error: Error) -> Answer {
    match error {
        Error::NotFound { .. } => Answer::Refused(error.to_string()),
        // A newer version's word: its engine does it.
        Error::UnknownWord { .. } | Error::Corrupt { .. } => Answer::Left,
        error => {
            tracing::warn!(%error, "what a wish is about could not be read; tried again");
            Answer::Left
        }
    }
}

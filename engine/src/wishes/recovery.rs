//! Wishes about a recovery: let it go on, end it, try again.

use halberd_core::brake::Gate;
use halberd_core::hook::HookWish;
use halberd_core::recovery::host::HostState;
use halberd_core::recovery::process::ProcessState;
use halberd_core::recovery::{Body, Recovery};
use halberd_store::recoveries;
use halberd_store::wishes::NewWish;

use super::{host, id_of, keep, who};
use crate::shared::Shared;

pub(super) async fn release(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let recovery = find(shared, wish).await?;
    if let Some(answer) = about_hook(shared, &recovery, wish, false).await {
        return answer;
    }
    let gate = match &recovery.body {
        Body::Host(body) => match &body.state {
            HostState::Held { gate } => gate.parse::<Gate>().map_err(|error| error.to_string())?,
            _ => return Err("the recovery is not held".into()),
        },
        _ => return Err("only a host's recovery can be held".into()),
    };
    if !gate.is_releasable() {
        return Err(format!("{gate} cannot be released: mend its cause"));
    }
    keep(shared, recovery.id, |kept| kept.released.push(gate)).await?;
    Ok(format!("{gate} is released for {}", recovery.host_name))
}

pub(super) async fn cancel(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let recovery = find(shared, wish).await?;
    let ordered = match &recovery.body {
        Body::Host(body) => !before_order(&body.state),
        Body::Process(body) if body.state == ProcessState::Returning => false,
        _ => return Err("only a host's recovery, or a process' that is returning, can be cancelled".into()),
    };
    if ordered {
        return Err(
            "an off order is written: it cannot be cancelled, only retired by the host's own sign of life"
                .into(),
        );
    }
    let who = who(wish);
    keep(shared, recovery.id, |kept| kept.cancelled = Some(who)).await?;
    Ok("it is cancelled".into())
}

/// Whether no off order was written yet.
pub(super) fn before_order(state: &HostState) -> bool {
    matches!(
        state,
        HostState::Confirming | HostState::Held { .. } | HostState::NeedsOperator { order: None, .. }
    )
}

pub(super) async fn retry(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let recovery = find(shared, wish).await?;
    if !recovery.is_open() {
        return Err(format!("the recovery is {}: a new report opens a new one", recovery.word()));
    }
    if let Some(answer) = about_hook(shared, &recovery, wish, true).await {
        return answer;
    }
    keep(shared, recovery.id, |kept| kept.retry = true).await?;
    Ok("what was paused is tried again now".into())
}

/// Keeps a word about the hook that holds a recovery, if one does.
async fn about_hook(
    shared: &Shared,
    recovery: &Recovery,
    wish: &NewWish,
    retry: bool,
) -> Option<Result<String, String>> {
    let held = recovery.hooks.held().filter(|_| recovery.is_open())?;
    let word = HookWish { retry, who: who(wish) };
    if let Err(ended) = keep(shared, recovery.id, |kept| kept.hook = Some(word)).await {
        return Some(Err(ended));
    }
    let done = if retry { "is run again" } else { "is gone on without" };
    Some(Ok(format!("hook {} ({}) {done}", held.hook, held.at)))
}

/// The recovery itself, or the open one of the host that is named.
async fn find(shared: &Shared, wish: &NewWish) -> Result<Recovery, String> {
    let id = id_of(wish);
    if let Ok(host) = host::find(shared, id).await {
        return host::open_recovery(shared, host.id).await;
    }
    let id = id.parse().map_err(|_| format!("'{id}' is no recovery id"))?;
    recoveries::get(&shared.db, id).await.map_err(|error| error.to_string())
}

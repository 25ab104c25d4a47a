//! What operators wished for (DESIGN 10.8): done, kept for the recovery it is meant for, or refused with the reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use halberd_core::brake::Gate;
use halberd_core::facts::Confirmation;
use halberd_core::hook::HookWish;
use halberd_core::id::{HostId, RecoveryId};
use halberd_core::recovery::host::HostState;
use halberd_core::recovery::process::ProcessState;
use halberd_core::recovery::{Body, Recovery, Subject};
use halberd_store::wishes::{self, WishRow};
use halberd_store::{hosts, recoveries, settings, write};
use serde_json::json;

use crate::clock;
use crate::shared::Shared;

/// No more wishes are taken up in one round.
const ROUND: u32 = 50;

/// Wishes that a host's open recovery takes up.
#[derive(Clone, Debug, Default)]
pub struct HostWishes {
    pub released: Vec<Gate>,
    pub confirmation: Option<Confirmation>,
    pub readmitted: Option<String>,
    /// Pauses are over: try again now.
    pub retry: bool,
}

/// Wishes by host, in memory: an operator's word is given again after a restart rather than acted on unseen.
#[derive(Debug, Default)]
pub struct Kept {
    hosts: Mutex<BTreeMap<HostId, HostWishes>>,
    /// About held hooks: of one recovery alone, since a host may have several.
    hooks: Mutex<BTreeMap<RecoveryId, HookWish>>,
    /// Who cancels which recovery: of several of one host, that one alone.
    cancelled: Mutex<BTreeMap<RecoveryId, String>>,
}

impl Kept {
    fn hosts(&self) -> MutexGuard<'_, BTreeMap<HostId, HostWishes>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hooks(&self) -> MutexGuard<'_, BTreeMap<RecoveryId, HookWish>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancels(&self) -> MutexGuard<'_, BTreeMap<RecoveryId, String>> {
        self.cancelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who cancels this recovery, and why.
    pub fn cancelled(&self, recovery: RecoveryId) -> Option<String> {
        self.cancels().get(&recovery).cloned()
    }

    fn change(&self, host: HostId, change: impl FnOnce(&mut HostWishes)) {
        change(self.hosts().entry(host).or_default());
    }

    fn get(&self, host: HostId) -> HostWishes {
        self.hosts().get(&host).cloned().unwrap_or_default()
    }

    /// Takes the word about a recovery's held hook: it counts once.
    pub fn take_hook(&self, recovery: RecoveryId) -> Option<HookWish> {
        self.hooks().remove(&recovery)
    }

    /// Takes the wish to try again: it counts once.
    pub fn take_retry(&self, host: HostId) -> bool {
        self.hosts().get_mut(&host).is_some_and(|kept| std::mem::take(&mut kept.retry))
    }

    /// Forgets what was wished once the recovery it was meant for is over.
    pub fn forget(&self, host: HostId, recovery: RecoveryId) {
        self.hosts().remove(&host);
        self.hooks().remove(&recovery);
        self.cancels().remove(&recovery);
    }
}

/// What is kept for a host's recovery.
pub fn for_host(shared: &Shared, host: HostId) -> HostWishes {
    shared.wishes.get(host)
}

/// Takes up every wish that nobody has taken.
pub async fn take_wishes(shared: &Arc<Shared>) -> halberd_store::Result<()> {
    for row in wishes::poll(&shared.db, ROUND).await? {
        if row.taken_by == Some(shared.engine) {
            continue;
        }
        let taken =
            write(&shared.db, async |tx| wishes::take(tx, row.wish.id, row.taken_by, shared.engine).await)
                .await?;
        if !taken {
            continue;
        }
        let shared = shared.clone();
        tokio::spawn(async move {
            let answer = grant(&shared, &row).await;
            let (succeeded, text) = match &answer {
                Ok(text) => (true, text.clone()),
                Err(text) => (false, text.clone()),
            };
            tracing::info!(wish = %row.wish.id, kind = row.wish.kind, actor = row.wish.actor, succeeded, text, "wish answered");
            let done = write(&shared.db, async |tx| {
                wishes::done(tx, row.wish.id, succeeded, &json!({"text": text}), clock::stamp()).await
            })
            .await;
            if let Err(error) = done {
                tracing::warn!(wish = %row.wish.id, %error, "the answer to a wish could not be stored");
            }
        });
    }
    Ok(())
}

async fn grant(shared: &Shared, row: &WishRow) -> Result<String, String> {
    let wish = &row.wish;
    let id = wish.subject.rsplit('/').next().unwrap_or(&wish.subject);
    match wish.kind.as_str() {
        "check_devices" => {
            let host = host_of(shared, id).await?;
            shared.power.check(host).await.map(|findings| findings.join("; "))
        }
        "confirm_fenced" => {
            let host = host_of(shared, id).await?;
            let serial =
                wish.body.get("serial").and_then(|serial| serial.as_str()).unwrap_or_default().to_owned();
            open_recovery(shared, host).await?;
            let confirmation = Confirmation {
                at: clock::mono(),
                serial,
                actor: wish.actor.clone(),
                reason: wish.reason.clone(),
            };
            shared.wishes.change(host, |kept| kept.confirmation = Some(confirmation));
            shared.changed.notify_waiters();
            Ok("the statement was handed to the open recovery, which compares the serial".into())
        }
        "release" => {
            let recovery = recovery_of(shared, id).await?;
            if let Some(answer) = about_hook(shared, &recovery, row, false) {
                return Ok(answer);
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
            shared.wishes.change(recovery.subject.host(), |kept| kept.released.push(gate));
            shared.changed.notify_waiters();
            Ok(format!("{gate} is released for {}", recovery.host_name))
        }
        "cancel" => {
            let recovery = recovery_of(shared, id).await?;
            let ordered = match &recovery.body {
                Body::Host(body) => !matches!(
                    body.state,
                    HostState::Confirming
                        | HostState::Held { .. }
                        | HostState::NeedsOperator { order: None, .. }
                ),
                Body::Process(body) if body.state == ProcessState::Returning => false,
                _ => {
                    return Err(
                        "only a host's recovery, or a process' that is returning, can be cancelled".into()
                    );
                }
            };
            if ordered {
                return Err("an off order is written: it cannot be cancelled, only retired by the host's own sign of life".into());
            }
            let who = format!("{}: {}", wish.actor, wish.reason);
            shared.wishes.cancels().insert(recovery.id, who);
            shared.changed.notify_waiters();
            Ok("it is cancelled".into())
        }
        "retry" => {
            let recovery = recovery_of(shared, id).await?;
            if !recovery.is_open() {
                return Err(format!("the recovery is {}: a new report opens a new one", recovery.word()));
            }
            if let Some(answer) = about_hook(shared, &recovery, row, true) {
                return Ok(answer);
            }
            shared.wishes.change(recovery.subject.host(), |kept| kept.retry = true);
            shared.changed.notify_waiters();
            Ok("what was paused is tried again now".into())
        }
        "readmit" => {
            let host = host_of(shared, id).await?;
            let back = recoveries::open_for(&shared.db, &Subject::Return { host })
                .await
                .map_err(|error| error.to_string())?;
            if back.is_none() {
                return Err(
                    "the host is not on its way back: its recovery is open, or it was never out".into()
                );
            }
            let who = format!("{}: {}", wish.actor, wish.reason);
            shared.wishes.change(host, |kept| kept.readmitted = Some(who));
            shared.changed.notify_waiters();
            Ok("it is taken back once it is drained".into())
        }
        "disarm" => {
            let until = wish.body.get("until").and_then(|until| until.as_str());
            let until = until
                .map(chrono::DateTime::parse_from_rfc3339)
                .transpose()
                .map_err(|error| error.to_string())?;
            let until = until.map(|until| halberd_core::time::Stamp(until.timestamp_micros()));
            let disarm = settings::Disarm {
                actor: wish.actor.clone(),
                reason: wish.reason.clone(),
                since: clock::stamp(),
                until,
            };
            let stored =
                write(&shared.db, async |tx| settings::set_disarm(tx, Some(&disarm), clock::stamp()).await)
                    .await;
            stored.map_err(|error| error.to_string())?;
            Ok("disarmed: nothing is fenced until then".into())
        }
        "arm" => {
            let stored =
                write(&shared.db, async |tx| settings::set_disarm(tx, None, clock::stamp()).await).await;
            stored.map_err(|error| error.to_string())?;
            Ok("armed".into())
        }
        other => Err(format!("this version of the engine does not take the wish '{other}'")),
    }
}

/// Keeps a word about the hook that holds a recovery, if one does.
fn about_hook(shared: &Shared, recovery: &Recovery, row: &WishRow, retry: bool) -> Option<String> {
    let held = recovery.hooks.held().filter(|_| recovery.is_open())?;
    let who = format!("{}: {}", row.wish.actor, row.wish.reason);
    shared.wishes.hooks().insert(recovery.id, HookWish { retry, who });
    shared.changed.notify_waiters();
    let done = if retry { "is run again" } else { "is gone on without" };
    Some(format!("hook {} ({}) {done}", held.hook, held.at))
}

/// Asked of the database: what this engine knows of the fleet is up to a second old, and a new host's first wish comes sooner.
async fn host_of(shared: &Shared, id: &str) -> Result<HostId, String> {
    let host: HostId = id.parse().map_err(|_| format!("'{id}' is no host id"))?;
    hosts::get(&shared.db, host).await.map(|_| host).map_err(|error| error.to_string())
}

async fn open_recovery(shared: &Shared, host: HostId) -> Result<Recovery, String> {
    let open =
        recoveries::open_for(&shared.db, &Subject::Host { host }).await.map_err(|error| error.to_string())?;
    open.ok_or_else(|| "no recovery of this host is open: there is nothing to confirm".into())
}

async fn recovery_of(shared: &Shared, id: &str) -> Result<Recovery, String> {
    if let Ok(host) = host_of(shared, id).await {
        return open_recovery(shared, host).await;
    }
    let id = id.parse().map_err(|_| format!("'{id}' is no recovery id"))?;
    recoveries::get(&shared.db, id).await.map_err(|error| error.to_string())
}

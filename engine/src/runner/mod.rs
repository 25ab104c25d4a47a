//! Owning recoveries: claims what is free or whose owner stopped, and drives each on a task of its own.

pub mod calls;
pub mod drive;
pub mod lease;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::id::{EngineId, RecoveryId};
use halberd_core::lease::{Observed, Sight};
use halberd_core::policy::Policy;
use halberd_core::recovery::WORKFLOW_VERSION;
use halberd_store::engines::EngineRow;
use halberd_store::recoveries::Holder;
use halberd_store::{Error, intents, recoveries, vmoves, write};
use tokio::task::JoinSet;

use crate::clock;
use crate::failpoint::{self, Place};
use crate::intake;
use crate::shared::Shared;

/// How often reports, wishes and holders are polled without a nudge (DESIGN 10.8).
const POLL: Duration = Duration::from_millis(250);

/// Polls until the engine stops; then every driver ends and gives its recovery back.
pub async fn run(shared: Arc<Shared>) {
    let mut drivers: JoinSet<RecoveryId> = JoinSet::new();
    let mut driven: BTreeMap<RecoveryId, tokio::task::AbortHandle> = BTreeMap::new();
    let mut others: BTreeMap<EngineId, Observed> = BTreeMap::new();
    let mut first = true;
    let mut evidence = None;
    let mut left = 0;
    while !shared.stop.is_cancelled() {
        // Whoever drove before reconcile-only was left drives no more: its epoch is over, and what it knew is of before.
        if std::mem::replace(&mut left, shared.rewind.left()) != left {
            (first, evidence) = (true, None);
            drivers.abort_all();
            while drivers.join_next().await.is_some() {}
        }
        while let Some(ended) = drivers.try_join_next() {
            if let Ok(id) = ended {
                driven.remove(&id);
            }
        }
        driven.retain(|_, handle| !handle.is_finished());
        let now = clock::mono();
        if shared.may_act(now) {
            match round(&shared, first, &mut evidence, &mut others, &driven).await {
                Ok(claimed) => {
                    first = first && shared.reconcile_only().is_some();
                    for owned in claimed {
                        let id = owned.recovery.id;
                        let handle = drivers.spawn(drive::drive(shared.clone(), owned));
                        driven.insert(id, handle);
                    }
                }
                Err(error) => tracing::warn!(%error, "the database could not be polled; tried again"),
            }
        }
        metrics::gauge!("halberd_recoveries_driven").set(driven.len() as f64);
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = shared.nudge.notified() => {}
            () = shared.stop.cancelled() => {}
        }
    }
    while drivers.join_next().await.is_some() {}
    // Now, and not when the last task of this engine has ended: somebody waits for it.
    lease::give_back(&shared).await;
}

/// A recovery that is ours now, with what its former owner left.
#[derive(Debug)]
pub struct Owned {
    pub recovery: halberd_core::recovery::Recovery,
    pub vmoves: Vec<halberd_core::recovery::Vmove>,
    pub inherited: Vec<halberd_core::runner::Intent>,
    /// Nobody owned it before: what this engine has just seen of the report is its own.
    pub fresh: bool,
    /// The lease's term under which it was claimed: once that is over, others may have claimed it.
    pub term: u64,
}

async fn round(
    shared: &Arc<Shared>,
    first: bool,
    evidence: &mut Option<i64>,
    others: &mut BTreeMap<EngineId, Observed>,
    driven: &BTreeMap<RecoveryId, tokio::task::AbortHandle>,
) -> halberd_store::Result<Vec<Owned>> {
    let engines = crate::engines::look(shared).await?;
    crate::engines::fences::look(shared).await?;
    intake::take_evidence(shared, evidence).await?;
    // What is reported meanwhile waits in its row, with nobody's name on it.
    if shared.reconcile_only().is_none() {
        intake::take_reports(shared, first).await?;
    }
    crate::wishes::take_wishes(shared).await?;
    if let Some((name, known, shown)) = observe(shared, others, &engines) {
        crate::rewind::other_fell(shared, &name, known, shown).await;
    }
    let mut claimed = Vec::new();
    for holder in recoveries::holders(&shared.db).await? {
        if !driven.contains_key(&holder.id)
            && free(shared, others, &holder)
            && speaks(shared, &holder)
            && crate::rewind::may_claim(shared, &holder).await
        {
            match claim(shared, &holder).await {
                Ok(owned) => claimed.extend(owned),
                // One row that cannot be read stops no other recovery.
                Err(error @ (Error::UnknownWord { .. } | Error::Corrupt { .. })) => {
                    left(shared, &holder, &error.to_string());
                }
                Err(error) => {
                    tracing::warn!(recovery = %holder.id, %error, "a recovery could not be claimed; tried again");
                    break;
                }
            }
        }
    }
    Ok(claimed)
}

/// Watches the lease counters of the other engines on this engine's own clock. One that fell is named, with what was known and is shown.
fn observe(
    shared: &Shared,
    others: &mut BTreeMap<EngineId, Observed>,
    rows: &[EngineRow],
) -> Option<(String, i64, i64)> {
    let mut fell = None;
    others.retain(|id, _| rows.iter().any(|row| row.id == *id));
    for row in rows.iter().filter(|row| row.id != shared.engine) {
        let now = clock::mono();
        let stopped = row.stopped_at.is_some();
        let owner = (!stopped).then_some(row.id);
        others
            .entry(row.id)
            .and_modify(|seen| {
                let known = seen.counter;
                if seen.observe(owner, 0, row.counter, now) == Sight::Rewound {
                    fell = Some((row.name.clone(), known, row.counter));
                }
            })
            .or_insert_with(|| Observed::new(owner, 0, row.counter, now));
    }
    fell
}

/// Whether a recovery may be claimed: nobody's, this engine's own from a run of before (it is not driven), that of an engine which
/// stopped or whose lease lapsed, or of one whose row is gone. With the exclusive lock beside the file no other engine lives.
fn free(shared: &Shared, others: &BTreeMap<EngineId, Observed>, holder: &Holder) -> bool {
    let Some(owner) = holder.owner else { return true };
    if owner == shared.engine || shared.db.holds_exclusive_lock() {
        return true;
    }
    match others.get(&owner) {
        Some(seen) => seen.owner.is_none() || seen.lapsed(Policy::ms(shared.policy.lease_ms)),
        None => true,
    }
}

/// Whether this version knows the workflow; one of a newer version is left to an engine that does (I32).
fn speaks(shared: &Shared, holder: &Holder) -> bool {
    let ours = WORKFLOW_VERSION;
    if holder.workflow > ours {
        let why =
            format!("it was written by workflow version {}, this engine speaks {ours}", holder.workflow);
        left(shared, holder, &why);
    }
    holder.workflow <= ours
}

/// Said once: it is looked at four times a second.
fn left(shared: &Shared, holder: &Holder, why: &str) {
    if shared.engines.is_news(holder.id) {
        tracing::error!(recovery = %holder.id, why, "a recovery is left to an engine of a newer version: start one, or upgrade this one");
    }
}

async fn claim(shared: &Shared, holder: &Holder) -> halberd_store::Result<Option<Owned>> {
    let Some(term) = shared.term(clock::mono()) else { return Ok(None) };
    failpoint::before(&shared.failpoints, Place::Claim).await;
    let now = clock::stamp();
    let taken = write(&shared.db, async |tx| {
        recoveries::claim(tx, holder.id, holder.epoch, holder.owner, shared.engine, now).await
    })
    .await?;
    let Some(recovery) = taken else { return Ok(None) };
    crate::rewind::claimed(shared, recovery.id, recovery.epoch, recovery.version).await;
    failpoint::after(&shared.failpoints, Place::Claim).await;
    let vmoves = vmoves::of_recovery(&shared.db, recovery.id).await?;
    let inherited =
        intents::open_of_recovery(&shared.db, recovery.id).await?.into_iter().map(|row| row.intent).collect();
    tracing::info!(recovery = %recovery.id, host = recovery.host_name, epoch = recovery.epoch, former = ?holder.owner, "recovery claimed");
    Ok(Some(Owned { recovery, vmoves, inherited, fresh: holder.owner.is_none() && holder.epoch == 0, term }))
}

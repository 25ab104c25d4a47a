//! One transition, one transaction: all of a [`Commit`] or nothing of it (DESIGN 3, I29).

use halberd_core::id::RecoveryId;
use halberd_core::runner::Commit;
use halberd_core::time::Stamp;
use uuid::Uuid;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::fence_ledger::{self, Fence};
use crate::transaction::{Read, Tx, write};
use crate::wishes::{self, Answer};
use crate::{audit, events, fence_drills, hosts, intents, notifications, recoveries, rewind, vmoves};

/// Applies a commit; the answer is the recovery's new version.
///
/// # Errors
/// [`crate::Error::Lost`], [`crate::Error::IntentOpen`] and [`crate::Error::Condition`] leave nothing written. After
/// [`crate::Error::Ambiguous`] ask [`was_applied`].
pub async fn apply(db: &Db, commit: &Commit, webhooks: &[String], now: Stamp) -> Result<i64> {
    apply_beside(db, commit, &Beside::default(), webhooks, now).await
}

/// What is true from the moment of a transition, besides what it changes itself.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Answers to the wishes that it grants or ends: a wish is answered when what it asked for is durable.
    pub answers: Vec<Answer>,
    /// Off orders that it writes, for the brakes of all engines.
    pub fences: Vec<Fence>,
    /// Intents of off orders that it ends.
    pub ended: Vec<Uuid>,
}

/// As [`apply`], with what is written beside it in the same transaction.
///
/// # Errors
/// As [`apply`].
pub async fn apply_beside(
    db: &Db,
    commit: &Commit,
    beside: &Beside,
    webhooks: &[String],
    now: Stamp,
) -> Result<i64> {
    write(db, async |tx| {
        let version = apply_in(tx, commit, webhooks, now).await?;
        wishes::answer(tx, &beside.answers, now).await?;
        fence_ledger::record(tx, &beside.fences, &beside.ended, now).await?;
        Ok(version)
    })
    .await
}

/// The same inside a unit of the caller's.
pub async fn apply_in(tx: &mut Tx, commit: &Commit, webhooks: &[String], now: Stamp) -> Result<i64> {
    let recovery = &commit.recovery;
    // Whichever engine found it, no other's deed follows from a commit after it (I22).
    if !commit.intents.is_empty() && rewind::stands(&mut *tx).await? {
        return Err(Error::ReconcileOnly);
    }
    // First, so that a writer of an older epoch changes no other row either (I5).
    recoveries::replace(tx, recovery, commit.nonce, now).await?;
    vmoves::upsert(tx, &commit.vmoves, now).await?;
    // Before the new intents: a repeat may take over the key of the one it resolves.
    intents::resolve(tx, &commit.resolved, now).await?;
    intents::insert(tx, &commit.intents, now).await?;
    for (host, patch) in &commit.hosts {
        hosts::patch(tx, *host, patch, now).await?;
        fence_drills::passed(tx, *host, &patch.drilled, recovery.id, now).await?;
    }
    if let Some((status, message)) = &commit.notification {
        notifications::follow(tx, recovery.id, *status, message.as_deref(), now).await?;
    }
    for opened in &commit.opens {
        recoveries::open_beside(tx, opened, now).await?;
    }
    audit::append(tx, &recovery.id.to_string(), recovery.epoch, &commit.audit, now).await?;
    events::publish(tx, &commit.events, recovery.epoch, webhooks, now).await?;
    Ok(recovery.version + 1)
}

/// Settles an ambiguous commit: whether the recovery's last write was this one.
pub async fn was_applied(on: impl Read, recovery: RecoveryId, nonce: Uuid) -> Result<bool> {
    recoveries::has_nonce(on, recovery, nonce).await
}

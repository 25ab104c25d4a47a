//! What operators wished for (DESIGN 10.8): done, kept for the recovery it is meant for, or refused with the reason and the way out.

mod host;
mod recovery;
mod site;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use halberd_core::brake::Gate;
use halberd_core::facts::Confirmation;
use halberd_core::hook::HookWish;
use halberd_core::host::Asked;
use halberd_core::id::RecoveryId;
use halberd_store::wishes::{self, NewWish, WishRow};
use halberd_store::{recoveries, write};
use serde_json::json;

use crate::clock;
use crate::shared::Shared;

/// No more wishes are taken up in one round.
const ROUND: u32 = 50;

/// What is kept for one recovery.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub released: Vec<Gate>,
    pub confirmation: Option<Confirmation>,
    pub readmitted: Option<String>,
    /// Who cancels it, and why.
    pub cancelled: Option<String>,
    /// The rest counts once, and is taken with the functions of [`Kept`]. Pauses are over: try again now.
    retry: bool,
    /// Turn its host off, dead or alive.
    ordered: Option<Asked>,
    /// Switch its host on once it is drained.
    power_on: Option<Asked>,
    /// About its held hook.
    hook: Option<HookWish>,
}

/// Wishes by the recovery that is to take them up, so that the end of one takes none from another of the same host. In memory: an
/// operator's word is given again after a restart rather than acted on unseen.
#[derive(Debug, Default)]
pub struct Kept(Mutex<BTreeMap<RecoveryId, Wishes>>);

impl Kept {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RecoveryId, Wishes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, recovery: RecoveryId, change: impl FnOnce(&mut Wishes)) {
        change(self.all().entry(recovery).or_default());
    }

    fn take<T: Default>(&self, recovery: RecoveryId, of: impl FnOnce(&mut Wishes) -> &mut T) -> T {
        self.all().get_mut(&recovery).map(|kept| std::mem::take(of(kept))).unwrap_or_default()
    }

    /// What is kept for a recovery.
    pub fn get(&self, recovery: RecoveryId) -> Wishes {
        self.all().get(&recovery).cloned().unwrap_or_default()
    }

    /// Takes the word about a recovery's held hook: it counts once.
    pub fn take_hook(&self, recovery: RecoveryId) -> Option<HookWish> {
        self.take(recovery, |kept| &mut kept.hook)
    }

    /// Takes the wish to try again: it counts once.
    pub fn take_retry(&self, recovery: RecoveryId) -> bool {
        self.take(recovery, |kept| &mut kept.retry)
    }

    /// Takes the order to turn its host off: it counts once.
    pub fn take_ordered(&self, recovery: RecoveryId) -> Option<Asked> {
        self.take(recovery, |kept| &mut kept.ordered)
    }

    /// Takes the order to switch its host on: it counts once.
    pub fn take_power_on(&self, recovery: RecoveryId) -> Option<Asked> {
        self.take(recovery, |kept| &mut kept.power_on)
    }

    /// Forgets what was wished of a recovery that is over.
    pub fn forget(&self, recovery: RecoveryId) {
        self.all().remove(&recovery);
    }
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
    match wish.kind.as_str() {
        "fence" => host::fence(shared, wish).await,
        "power_on" => host::power_on(shared, wish).await,
        "drill" => host::drill(shared, wish).await,
        "check_devices" => host::check_devices(shared, wish).await,
        "confirm_fenced" => host::confirm_fenced(shared, wish).await,
        "readmit" => host::readmit(shared, wish).await,
        "release" => recovery::release(shared, wish).await,
        "cancel" => recovery::cancel(shared, wish).await,
        "retry" => recovery::retry(shared, wish).await,
        "disarm" => site::disarm(shared, wish).await,
        "arm" => site::arm(shared).await,
        other => Err(format!("this version of the engine does not take the wish '{other}'")),
    }
}

/// Keeps a wish for a recovery, which must still be open when it is kept: what comes later than its end reaches nobody.
async fn keep(shared: &Shared, recovery: RecoveryId, change: impl FnOnce(&mut Wishes)) -> Result<(), String> {
    shared.wishes.change(recovery, change);
    if let Ok(now) = recoveries::get(&shared.db, recovery).await
        && !now.is_open()
    {
        shared.wishes.forget(recovery);
        return Err(format!("the recovery has just ended: it is {}", now.word()));
    }
    shared.changed.notify_waiters();
    Ok(())
}

/// The last part of what the wish is about: an id.
fn id_of(wish: &NewWish) -> &str {
    wish.subject.rsplit('/').next().unwrap_or(&wish.subject)
}

fn asked(wish: &NewWish) -> Asked {
    Asked { actor: wish.actor.clone(), reason: wish.reason.clone() }
}

fn who(wish: &NewWish) -> String {
    format!("{}: {}", wish.actor, wish.reason)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_end_of_one_recovery_takes_nothing_from_another() {
        let (failure, back) = (RecoveryId(Uuid::from_u128(1)), RecoveryId(Uuid::from_u128(2)));
        let kept = Kept::default();
        let by = Asked { actor: "ann".into(), reason: "work".into() };
        kept.change(failure, |wishes| wishes.released.push(Gate::G4));
        kept.change(back, |wishes| {
            (wishes.power_on, wishes.readmitted) = (Some(by.clone()), Some("ann".into()))
        });
        kept.forget(failure);
        assert!(kept.get(failure).released.is_empty());
        assert_eq!(kept.get(back).readmitted.as_deref(), Some("ann"));
        assert_eq!((kept.take_power_on(back), kept.take_power_on(back)), (Some(by), None), "it counts once");
        kept.forget(back);
        assert_eq!(kept.get(back).readmitted, None);
    }

    #[test]
    fn what_counts_once_is_taken_from_its_own_recovery_alone() {
        let (one, other) = (RecoveryId(Uuid::from_u128(1)), RecoveryId(Uuid::from_u128(2)));
        let kept = Kept::default();
        kept.change(one, |wishes| wishes.retry = true);
        assert!(!kept.take_retry(other) && kept.take_retry(one) && !kept.take_retry(one));
    }
}

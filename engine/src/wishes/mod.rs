//! What operators wished for (DESIGN 10.8): done, or refused with the reason and the way out.
//!
//! Any engine may die at any moment, so a wish has no other home than its row: it stays open until the transaction that does what it asks
//! for closes it too. Who does it follows from what it is about:
//!
//! - A recovery's owner takes up what is wished of that recovery, whichever engine read it first. It is told to the recovery's next
//!   steps ([`Kept`]), and the transition that does it answers it ([`Kept::answers`]). A new owner finds the row still open.
//! - Whatever is about no recovery (the switch that stops all acting, a look at devices, the opening of a recovery) is taken by one
//!   engine with a conditional update, from nobody or from an engine that is gone, and done and answered in one transaction where it
//!   changes the database. Two about one subject are done in the order in which they were made.
//! - What cannot be granted is refused by whoever sees it first; only one answer is stored.

mod host;
mod kept;
mod recovery;
mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halberd_core::brake::Gate;
use halberd_core::host::Asked;
use halberd_core::id::{RecoveryId, WishId};
use halberd_core::recovery::{Recovery, WORKFLOW_VERSION};
use halberd_core::time::Mono;
use halberd_store::wishes::{self, NewWish, WishRow};
use halberd_store::{Tx, write};
use serde_json::json;

use crate::clock;
use crate::shared::Shared;
pub use kept::{Held, Kept, Word};
use recovery::unreadable;

/// No more wishes are looked at in one round.
const ROUND: u32 = 50;
/// Who asked for what is not done after this long is told that it is in hand.
const SAY_AFTER: Duration = Duration::from_secs(1);

/// What one engine knows of the open wishes besides [`Kept`].
#[derive(Debug, Default)]
pub struct Seen(Mutex<SeenWishes>);

#[derive(Debug, Default)]
struct SeenWishes {
    /// When each open wish was first read; `None`: it was open already when this engine began to read.
    since: BTreeMap<WishId, Option<Mono>>,
    began: bool,
    /// Taken by this run of the engine, and a task is at work on them.
    in_hand: BTreeSet<WishId>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, SeenWishes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a look at all open wishes.
    fn look(&self, open: &[WishRow], now: Mono) {
        let mut seen = self.lock();
        let first = seen.began.then_some(now);
        seen.began = true;
        seen.since.retain(|id, _| open.iter().any(|row| row.wish.id == *id));
        for row in open {
            seen.since.entry(row.wish.id).or_insert(first);
        }
    }

    /// Since when this engine has listened to the world with this wish before it. `None`: it came before this engine.
    fn since(&self, wish: WishId) -> Option<Mono> {
        self.lock().since.get(&wish).copied().flatten()
    }
}

/// Wishes that are granted in reconcile-only: they do nothing to any host. The others are refused and not kept, as one may be of a day that
/// was restored, and its reason gone.
const WHILE_RECONCILING: [&str; 4] = ["check_devices", "disarm", "arm", "leave_reconcile_only"];

/// What came of looking at a wish.
enum Answer {
    Granted(String),
    Refused(String),
    /// Told to its recovery, whose next transitions answer it.
    Kept,
    /// Somebody else's, or it was answered within its own transaction.
    Left,
}

impl From<Result<String, String>> for Answer {
    fn from(said: Result<String, String>) -> Answer {
        match said {
            Ok(text) => Answer::Granted(text),
            Err(text) => Answer::Refused(text),
        }
    }
}

/// Looks at every open wish.
///
/// # Errors
/// The database cannot be read: they stay open, and are looked at again.
pub async fn take_wishes(shared: &Arc<Shared>) -> halberd_store::Result<()> {
    let open = wishes::poll(&shared.db, ROUND).await?;
    let now = clock::mono();
    shared.seen_wishes.look(&open, now);
    if open.len() < ROUND as usize {
        shared.wishes.retain(|id| open.iter().any(|row| row.wish.id == id));
    }
    let mut subjects = BTreeSet::new();
    for row in open {
        if let Some(held) = shared.wishes.held(row.wish.id) {
            say_in_hand(shared, &row, &held, now).await?;
            continue;
        }
        // An older one about the same is still to be taken up.
        if !subjects.insert(id_of(&row.wish).to_owned()) {
            continue;
        }
        if let Some(why) =
            shared.reconcile_only().filter(|_| !WHILE_RECONCILING.contains(&row.wish.kind.as_str()))
        {
            finish(shared, &row.wish, Answer::Refused(format!("reconcile-only: {why}"))).await;
        } else if is_of_recovery(shared, &row.wish).await? {
            let answer = of_recovery(shared, &row.wish).await;
            finish(shared, &row.wish, answer).await;
        } else if take(shared, &row).await? {
            let shared = shared.clone();
            tokio::spawn(async move {
                let answer = of_site(&shared, &row.wish).await;
                finish(&shared, &row.wish, answer).await;
                shared.seen_wishes.lock().in_hand.remove(&row.wish.id);
            });
        }
    }
    Ok(())
}

/// Whether a recovery's owner has to do it. An order to turn a host off joins the recovery that is open.
async fn is_of_recovery(shared: &Shared, wish: &NewWish) -> halberd_store::Result<bool> {
    match wish.kind.as_str() {
        "power_on" | "confirm_fenced" | "readmit" | "release" | "cancel" | "retry" => Ok(true),
        "fence" => host::has_recovery(shared, wish).await,
        _ => Ok(false),
    }
}

/// Takes a wish for this engine: from nobody, from an engine that is gone, or from a task of its own that could not end it.
async fn take(shared: &Shared, row: &WishRow) -> halberd_store::Result<bool> {
    let id = row.wish.id;
    if shared.seen_wishes.lock().in_hand.contains(&id) {
        return Ok(false);
    }
    let taken = match row.taken_by {
        Some(engine) if engine == shared.engine => true,
        Some(engine) if !shared.engines.is_gone(engine) => false,
        seen => write(&shared.db, async |tx| wishes::take(tx, id, seen, shared.engine).await).await?,
    };
    if taken {
        shared.seen_wishes.lock().in_hand.insert(id);
    }
    Ok(taken)
}

async fn of_site(shared: &Shared, wish: &NewWish) -> Answer {
    match wish.kind.as_str() {
        "fence" => host::fence(shared, wish).await,
        "drill" => host::drill(shared, wish).await,
        "check_devices" => host::check_devices(shared, wish).await.into(),
        "disarm" => site::disarm(shared, wish).await,
        "arm" => site::arm(shared, wish).await,
        "leave_reconcile_only" => site::leave_reconcile_only(shared, wish).await,
        other => Answer::Refused(format!("this version of the engine does not take the wish '{other}'")),
    }
}

async fn of_recovery(shared: &Shared, wish: &NewWish) -> Answer {
    match wish.kind.as_str() {
        "fence" => host::join(shared, wish).await,
        "power_on" => host::power_on(shared, wish).await,
        "confirm_fenced" => host::confirm_fenced(shared, wish).await,
        "readmit" => host::readmit(shared, wish).await,
        "release" => recovery::release(shared, wish).await,
        "cancel" => recovery::cancel(shared, wish).await,
        _ => recovery::retry(shared, wish).await,
    }
}

/// Stores the answer of what was not answered by a transition.
async fn finish(shared: &Shared, wish: &NewWish, answer: Answer) {
    let (succeeded, text) = match answer {
        Answer::Granted(text) => (true, text),
        Answer::Refused(text) => (false, text),
        Answer::Kept | Answer::Left => return,
    };
    match write(&shared.db, async |tx| done(tx, wish, succeeded, &text).await).await {
        Ok(true) => {
            tracing::info!(wish = %wish.id, kind = wish.kind, actor = wish.actor, succeeded, text, "wish answered")
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(wish = %wish.id, %error, "the answer to a wish could not be stored; it is looked at again")
        }
    }
}

/// Answers a wish in the unit of what was done for it. `false`: another engine has answered it, and nothing may be done for it.
async fn done(tx: &mut Tx, wish: &NewWish, succeeded: bool, text: &str) -> halberd_store::Result<bool> {
    wishes::done(tx, wish.id, succeeded, &json!({ "text": text }), clock::stamp()).await
}

/// Tells a wish to the recovery, if this engine drives it.
fn keep(shared: &Shared, recovery: &Recovery, wish: &NewWish, word: Word, text: impl Into<String>) -> Answer {
    if recovery.owner != Some(shared.engine) || recovery.workflow_version > WORKFLOW_VERSION {
        return Answer::Left;
    }
    let held = Held { word, text: text.into(), since: clock::mono(), said: false };
    shared.wishes.keep(recovery.id, wish.id, held);
    shared.changed.notify_waiters();
    Answer::Kept
}

/// Who asked for something that takes long is told that it is in hand.
async fn say_in_hand(shared: &Shared, row: &WishRow, held: &Held, now: Mono) -> halberd_store::Result<()> {
    if held.said || now.since(held.since) < SAY_AFTER {
        return Ok(());
    }
    let result = json!({ "text": held.text });
    write(&shared.db, async |tx| wishes::say(tx, row.wish.id, &result).await).await?;
    shared.wishes.said(row.wish.id);
    Ok(())
}

/// What a former owner of this recovery was allowed: brakes that were released for it stay so.
///
/// # Errors
/// The database cannot be read.
pub async fn restore(shared: &Shared, recovery: RecoveryId) -> halberd_store::Result<()> {
    let granted = wishes::granted(&shared.db, "release").await?;
    shared.wishes.released(recovery, released_for(&granted, recovery));
    Ok(())
}

fn released_for(granted: &[WishRow], recovery: RecoveryId) -> Vec<Gate> {
    let of = |row: &WishRow| {
        let result = row.result.as_ref()?;
        let gate = result["gate"].as_str()?;
        (result["recovery"].as_str()? == recovery.to_string()).then(|| gate.parse().ok()).flatten()
    };
    granted.iter().filter_map(of).collect()
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
pub(crate) mod tests;

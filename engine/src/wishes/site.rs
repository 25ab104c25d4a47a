//! Wishes about the whole service: the switch that stops all acting. Switched and answered in one transaction, so that one which was
//! taken up by an engine that died undoes nothing that came after it.

use halberd_core::time::Stamp;
use halberd_store::wishes::NewWish;
use halberd_store::{rewind, settings, write};

use super::{Answer, done};
use crate::clock;
use crate::shared::Shared;

pub(super) async fn disarm(shared: &Shared, wish: &NewWish) -> Answer {
    let until = wish.body.get("until").and_then(|until| until.as_str());
    let until = match until.map(chrono::DateTime::parse_from_rfc3339).transpose() {
        Ok(until) => until,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    let disarm = settings::Disarm {
        actor: wish.actor.clone(),
        reason: wish.reason.clone(),
        since: clock::stamp(),
        until: until.map(|until| Stamp(until.timestamp_micros())),
    };
    set(shared, wish, Some(&disarm), "disarmed: nothing is fenced until then").await
}

/// Ends reconcile-only on a person's word. They answer for what was found: so it must have been looked at, and be what they could see.
pub(super) async fn leave_reconcile_only(shared: &Shared, wish: &NewWish) -> Answer {
    let standing = match rewind::standing(&shared.db).await {
        Ok(standing) => standing,
        Err(error) => return super::unreadable(error),
    };
    let Some(standing) = standing else {
        return Answer::Refused("the engines are not in reconcile-only".into());
    };
    // Granted when hosts and Nova were looked at: what is found stands in the record beside who ended it.
    let Some(audit) = &standing.audit else { return Answer::Left };
    let text = format!("reconcile-only is left with {} findings", audit.findings.len());
    let chain = halberd_store::audit::engine_chain(shared.engine);
    let left = write(&shared.db, async |tx| {
        let now = clock::stamp();
        if !rewind::leave(tx, &standing, &wish.actor, &wish.reason, &chain, &shared.webhooks, now).await? {
            return Ok(false);
        }
        if !done(tx, wish, true, &text).await? {
            return Err(halberd_store::Error::Conflict { attempts: 1, source: None });
        }
        Ok(true)
    })
    .await;
    match left {
        Ok(true) => {
            if let Err(error) = crate::rewind::look(shared).await {
                tracing::debug!(%error, "looked at again within a second");
            }
            Answer::Left
        }
        // Something else was found in this moment: taken up with that in the next round.
        Ok(false) => Answer::Left,
        Err(error) => super::unreadable(error),
    }
}

pub(super) async fn arm(shared: &Shared, wish: &NewWish) -> Answer {
    set(shared, wish, None, "armed").await
}

async fn set(shared: &Shared, wish: &NewWish, disarm: Option<&settings::Disarm>, text: &str) -> Answer {
    let stored = write(&shared.db, async |tx| {
        if done(tx, wish, true, text).await? {
            settings::set_disarm(tx, disarm, clock::stamp()).await?;
        }
        Ok(())
    })
    .await;
    match stored {
        Ok(()) => Answer::Left,
        Err(error) => {
            tracing::warn!(wish = %wish.id, %error, "the switch could not be stored; it is tried again");
            Answer::Left
        }
    }
}

//! The other engines, watched: who lives, who died, who is left alone; and what this one says of itself.
//!
//! What this module believes:
//!
//! - An engine lives while its lease counter moves on *this* engine's clock. A row whose counter was not seen to move yet says nothing: it
//!   may be a corpse of last month.
//! - A look that could not be had is no look. After a gap in the looks (a database that stood still, for everybody) each span starts
//!   afresh: nobody is called dead because this engine saw nothing.
//! - Whoever restarts under its name within the lease was not dead, and one that stopped gracefully never is. A death is told once,
//!   whoever sees it first: the mark stands in the dead engine's own row and is set by a conditional update.
//! - What an engine says of itself ([`state`]) goes out with each renewal of its lease, so any API can show all of them, and a row that is
//!   not renewed says how old it is by that.

pub mod fences;
pub mod state;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::id::{EngineId, EventId, RecoveryId};
use halberd_core::policy::Policy;
use halberd_store::engines::{self, EngineRow};
use halberd_store::{audit, events, write};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock;
use crate::shared::Shared;
pub use state::Saying;
use watch::{News, Others};

/// The other engines as this one sees them, and what this one says of itself.
#[derive(Debug, Default)]
pub struct Watch {
    others: Mutex<Others>,
    ledger: Mutex<Option<fences::Seen>>,
    pub saying: Saying,
}

impl Watch {
    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an engine does nothing any more that it had taken up: it stopped, its lease lapsed, or another run has its name.
    pub fn is_gone(&self, engine: EngineId) -> bool {
        self.others().is_gone(engine)
    }

    /// Whether it is the first time that something is said about this recovery: that it is left to a newer version.
    pub fn is_news(&self, left: RecoveryId) -> bool {
        self.others().left.insert(left)
    }
}

/// Before this engine takes its name: what it was before.
///
/// # Errors
/// The database cannot be read.
pub async fn come(shared: &Shared) -> halberd_store::Result<()> {
    let rows = engines::list(&shared.db).await?;
    shared.engines.others().comes(&rows, &shared.name);
    Ok(())
}

/// This run waits for its namesake's lease: for the others that is a restart and no death.
pub async fn await_namesake(shared: &Shared, row: &EngineRow) {
    let marked =
        write(&shared.db, async |tx| engines::mark_awaited(tx, row.id, row.counter, shared.engine).await)
            .await;
    if let Err(error) = marked {
        tracing::debug!(%error, "that this run waits could not be noted");
    }
}

/// Looks at every engine's row, and tells what has changed. The rows are handed on: one read serves all who watch.
///
/// # Errors
/// The database cannot be read; what is known grows no older by that.
pub async fn look(shared: &Shared) -> halberd_store::Result<Vec<EngineRow>> {
    let rows = engines::list(&shared.db).await?;
    let lease = Policy::ms(shared.policy.lease_ms);
    let alone = shared.db.holds_exclusive_lock();
    let news = shared.engines.others().look(&rows, shared.engine, alone, lease, clock::mono());
    for news in news {
        // Found again at the next look, and nothing else waits for it.
        if let Err(error) = tell(shared, news).await {
            tracing::warn!(%error, "what has changed among the engines could not be stored; tried again");
        }
    }
    Ok(rows)
}

/// Stores and tells one piece of news.
async fn tell(shared: &Shared, news: News) -> halberd_store::Result<()> {
    let name = &shared.name;
    let (kind, what, subject, text) = match &news {
        News::Died { name: dead, .. } => (
            EventKind::EngineLost,
            "engine_died",
            dead.clone(),
            format!("engine {dead} has not renewed its lease and did not stop gracefully; seen by {name}"),
        ),
        News::Alone { before } => (
            EventKind::EngineAlone,
            "engine_left_alone",
            name.clone(),
            format!("engine {name} is the only one left of {before}: nobody would take over from it"),
        ),
        News::Joined { others } => (
            EventKind::EngineJoined,
            "engine_joined",
            name.clone(),
            format!("engine {name} has joined {others} other{}", if *others == 1 { "" } else { "s" }),
        ),
    };
    let data = match &news {
        News::Died { id, .. } => json!({"engine": subject, "id": id, "seen_by": name, "text": text}),
        News::Alone { before } => {
            json!({"engine": subject, "id": shared.engine, "before": before, "text": text})
        }
        News::Joined { others } => {
            json!({"engine": subject, "id": shared.engine, "others": others, "text": text})
        }
    };
    let event = Event {
        id: EventId(Uuid::new_v4()),
        kind,
        recovery: None,
        subject: format!("engine/{subject}"),
        data: data.clone(),
    };
    let entry = Entry::new(what, text.clone(), data);
    let now = clock::stamp();
    let first = write(&shared.db, async |tx| {
        if let News::Died { id, counter, .. } = &news
            && !engines::mark_dead(tx, *id, *counter, now).await?
        {
            return Ok(false);
        }
        audit::append(tx, &audit::engine_chain(shared.engine), 0, std::slice::from_ref(&entry), now).await?;
        events::publish(tx, std::slice::from_ref(&event), 0, &shared.webhooks, now).await?;
        Ok(true)
    })
    .await?;
    shared.engines.others().told(&news);
    if first {
        tracing::warn!(text, "the engines have changed");
    }
    Ok(())
}

/// A named part of what this engine says of itself, at once and with every renewal from now on.
///
/// # Errors
/// It could not be stored now; it goes out with the next renewal.
pub async fn note(shared: &Shared, member: &str, value: &Value) -> halberd_store::Result<()> {
    shared.engines.saying.set(member, value.clone());
    write(&shared.db, async |tx| engines::note(tx, shared.engine, member, value).await).await.map(drop)
}

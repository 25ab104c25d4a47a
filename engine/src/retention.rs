//! Keeping the database small, and its audit listed. One task per engine; by the database only one of them deletes at a time.
//!
//! Nothing here may hold a recovery up. A step is one small transaction, between two steps there is a pause, and while a recovery is at
//! work (not merely waiting for a person, or for a host to come back) there is none for ten minutes. Only an engine that may act deletes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_store::audit::{self, Listed};
use halberd_store::retention::{self, Begun, Pass, Step};
use halberd_store::{recoveries, rewind, write};

use crate::clock;
use crate::shared::Shared;

/// After a start there is more urgent work, and an engine that dies again and again should not purge in between.
const FIRST: Duration = Duration::from_secs(600);
/// DESIGN 10.12.
const CHECKPOINT: Duration = Duration::from_secs(60);
/// Whoever holds the turn and has not moved it for so long, has stopped: many pauses and a slow transaction.
const WATCHED: Duration = Duration::from_secs(60);
/// Between two looks whether recoveries are at work.
const BUSY: Duration = Duration::from_secs(2);
/// A recovery that has been at work for longer waits for something itself: then steps go on beside it, [`BUSY`] apart.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs until the engine stops.
pub async fn run(shared: Arc<Shared>) {
    tokio::join!(checkpoints(&shared), passes(&shared));
}

async fn checkpoints(shared: &Shared) {
    let mut listed = Listed::default();
    while sleep(shared, CHECKPOINT).await {
        if shared.may_act(clock::mono()) {
            listed = checkpoint(shared, &listed).await;
        }
    }
}

/// Lists the heads that moved since `listed`, and remembers that list beside the database. The answer is what is listed now.
pub async fn checkpoint(shared: &Shared, listed: &Listed) -> Listed {
    let written =
        write(&shared.db, async |tx| audit::checkpoint_changes(tx, listed, clock::stamp()).await).await;
    match written {
        Ok((now, new)) => {
            if new {
                crate::rewind::checkpointed(shared).await;
            }
            now
        }
        Err(error) => {
            tracing::warn!(%error, "the audit's heads could not be listed; tried again in a minute");
            // What was listed is not known any more, should the commit have happened.
            Listed::default()
        }
    }
}

async fn passes(shared: &Shared) {
    let policy = &shared.config.retention;
    if !policy.purge {
        return;
    }
    let every = Duration::from_secs(policy.every_minutes.max(1).saturating_mul(60));
    let mut pause = FIRST;
    while sleep(shared, pause).await {
        pause = every;
        if let Err(error) = pass(shared).await {
            tracing::warn!(%error, "what is older than [retention] keeps it could not be deleted; tried again later");
        }
    }
}

/// One pass, unless another engine is at it.
///
/// # Errors
/// The database does not answer; what was deleted until then stays deleted.
pub async fn pass(shared: &Shared) -> halberd_store::Result<()> {
    let Some(mut pass) = begin(shared).await? else { return Ok(()) };
    let pause = Duration::from_millis(shared.config.retention.pause_ms);
    let (mut rows, mut busy_since) = (0, None::<Instant>);
    loop {
        if !may_purge(shared).await? {
            if !sleep(shared, BUSY).await {
                return Ok(());
            }
            continue;
        }
        busy_since = match recoveries::any_at_work(&shared.db).await? {
            true => busy_since.or(Some(Instant::now())),
            false => None,
        };
        let waits = busy_since.map(|since| since.elapsed() < PATIENCE);
        if waits.is_some() && !sleep(shared, BUSY).await {
            return Ok(());
        }
        if waits == Some(true) {
            continue;
        }
        match pass.step(&shared.db, clock::stamp()).await {
            Ok(Step::Looked) => continue,
            Ok(Step::Deleted { table, rows: gone }) => {
                rows += gone;
                metrics::counter!("halberd_purged_rows_total", "table" => table).increment(gone);
            }
            Ok(Step::Lost) => {
                tracing::info!(rows, "another purges; this engine leaves it to that one");
                return Ok(());
            }
            Ok(Step::Done) => {
                tracing::info!(rows, "what is older than [retention] keeps it was deleted");
                return Ok(());
            }
            // Others were in the way; they come first.
            Err(error) if error.is_conflict() => tracing::debug!(%error, "a step of the purge met others"),
            Err(error) => return Err(error),
        }
        if !sleep(shared, pause).await {
            return Ok(());
        }
    }
}

/// Takes the turn, from an engine that does not use it any more if need be.
async fn begin(shared: &Shared) -> halberd_store::Result<Option<Box<Pass>>> {
    let seen = retention::turn(&shared.db).await?;
    if seen.as_ref().is_some_and(|seen| seen.by != shared.name) {
        if !sleep(shared, WATCHED).await {
            return Ok(None);
        }
        if retention::turn(&shared.db).await? != seen {
            return Ok(None);
        }
    }
    let now = clock::stamp();
    match retention::begin(&shared.db, &shared.config.retention, &shared.name, seen.as_ref(), now).await? {
        Begun::Pass(pass) => Ok(Some(pass)),
        Begun::Lost => Ok(None),
    }
}

/// Whether this engine may act, and this database is none that lost something: of such a one nothing more is taken.
async fn may_purge(shared: &Shared) -> halberd_store::Result<bool> {
    Ok(shared.may_act(clock::mono()) && !rewind::stands(&shared.db).await?)
}

/// `false`: the engine stops.
async fn sleep(shared: &Shared, span: Duration) -> bool {
    tokio::select! {
        () = tokio::time::sleep(span) => true,
        () = shared.stop.cancelled() => false,
    }
}

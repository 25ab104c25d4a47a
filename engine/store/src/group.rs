//! One sync for all who wait for one: units of work that queue for the file share a commit.
//!
//! A commit is acknowledged when the disk has it (SAFETY 3.2), and a disk takes as long for one unit as for fifty. So whoever has run its
//! unit while others wait does not commit: it leaves the transaction open for the next, whose unit runs in a savepoint, and the last of
//! them commits for all. Nobody is answered before that commit is durable, and nobody waits for company: a writer who is alone commits at
//! once. A unit that fails takes back its own savepoint only.
//!
//! Any of those who wait may go away (a client hangs up, its handler is dropped). A unit dropped half way rolls the whole transaction back
//! and the others run again, as after any conflict; once a commit was begun, no one can drop it, as it is a task of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, oneshot};

use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::refusal::{classified, classify_commit};
use crate::sqlite::{Sqlite, SqliteTx};
use crate::transaction::{Tx, TxKind};
use crate::wire;

/// Most units of one commit: a bound for how long the first waits for the last, and for what one rollback costs.
const MOST: usize = 64;

/// As long as a pool lets one wait for its connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The writers of one opening of a file.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// First come, first served; held while a unit runs.
    turn: Mutex<Option<Open>>,
    /// Units that wait for their turn.
    waiting: AtomicUsize,
    /// Commits begun, and transactions left to the next, so far.
    commits: AtomicU64,
    handed_on: AtomicU64,
}

/// A transaction with whole units in it and no commit yet.
#[derive(Debug)]
struct Open {
    tx: SqliteTx,
    members: Members,
}

/// Those who wait for the commit.
#[derive(Debug, Default)]
struct Members {
    senders: Vec<oneshot::Sender<Result<()>>>,
    committing: bool,
}

impl Drop for Members {
    /// The transaction went away: rolled back, so every unit may run again; or no one knows, once its commit was begun.
    fn drop(&mut self) {
        for sender in self.senders.drain(..) {
            let fate =
                if self.committing { unknown() } else { Error::Conflict { attempts: 1, source: None } };
            let _ = sender.send(Err(fate));
        }
    }
}

fn unknown() -> Error {
    Error::Ambiguous(sqlx::Error::WorkerCrashed)
}

/// Runs a unit and returns when it is durable, or took no effect.
pub(crate) async fn run<T>(sqlite: &Arc<Sqlite>, unit: impl AsyncFnOnce(&mut Tx) -> Result<T>) -> Result<T> {
    let mut turn = sqlite.group.turn().await?;
    let Open { tx, mut members } = match turn.take() {
        Some(open) => open,
        None => Open { tx: sqlite.begin_for_write().await?, members: Members::default() },
    };
    let joins = !members.senders.is_empty();
    let mut tx = sqlite.tx(tx);
    if joins {
        savepoint(&mut tx, "SAVEPOINT unit").await?;
    }
    let outcome = unit(&mut tx).await;
    match (&outcome, joins) {
        (Err(_), false) => return outcome,
        (Err(_), true) => {
            // A full disk may have rolled back everything already; then there is no savepoint, and this `?` drops the members with it.
            if savepoint(&mut tx, "ROLLBACK TO unit").await.is_err() {
                return outcome;
            }
            savepoint(&mut tx, "RELEASE unit").await?;
        }
        (Ok(_), true) => savepoint(&mut tx, "RELEASE unit").await?,
        (Ok(_), false) => {}
    }
    let TxKind::Sqlite(tx) = tx.inner else { return Err(unknown()) };
    let (sender, fate) = oneshot::channel();
    members.senders.push(sender);
    let goes_on = sqlite.group.waiting.load(Ordering::Acquire) > 0 && members.senders.len() < MOST;
    let open = Open { tx, members };
    if goes_on {
        *turn = Some(open);
        sqlite.group.handed_on.fetch_add(1, Ordering::Release);
    } else {
        sqlite.group.commit(open);
    }
    drop(turn);
    settled(sqlite, fate).await?;
    outcome
}

async fn savepoint(tx: &mut Tx, sql: &'static str) -> Result<()> {
    let TxKind::Sqlite(tx) = &mut tx.inner else { return Err(unknown()) };
    let query = wire::sqlite_query(sqlx::SqlSafeStr::into_sql_str(sql), Vec::new());
    classified(Dialect::Sqlite, query.execute(&mut **tx).await.map(|_| ()))
}

/// Waits for the commit of one's own unit; if those who should go on went away, one's own turn comes, and ends the waiting.
async fn settled(sqlite: &Arc<Sqlite>, mut fate: oneshot::Receiver<Result<()>>) -> Result<()> {
    let mut closer = Closer { sqlite: sqlite.clone(), armed: true };
    tokio::select! {
        biased;
        fate = &mut fate => {
            closer.armed = false;
            return fate.unwrap_or_else(|_| Err(unknown()));
        }
        mut turn = sqlite.group.turn.lock() => {
            if let Some(open) = turn.take() {
                sqlite.group.commit(open);
            }
        }
    }
    closer.armed = false;
    fate.await.unwrap_or_else(|_| Err(unknown()))
}

/// Sees to it that an open transaction does not outlive the last who waits for it.
struct Closer {
    sqlite: Arc<Sqlite>,
    armed: bool,
}

impl Drop for Closer {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.armed {
            let sqlite = self.sqlite.clone();
            runtime.spawn(async move {
                if let Some(open) = sqlite.group.turn.lock().await.take() {
                    sqlite.group.commit(open);
                }
            });
        }
    }
}

impl Group {
    async fn turn(&self) -> Result<MutexGuard<'_, Option<Open>>> {
        let _waits = Waits::new(&self.waiting);
        let late = |_| Error::Unavailable { reason: "no connection became free in time", source: None };
        tokio::time::timeout(PATIENCE, self.turn.lock()).await.map_err(late)
    }

    /// Begins a commit that nobody can drop, and tells every member how it went.
    fn commit(&self, open: Open) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let Open { tx, mut members } = open;
        members.committing = true;
        tokio::spawn(async move {
            let done = tx.commit().await.map_err(|error| classify_commit(Dialect::Sqlite, error));
            for sender in members.senders.drain(..) {
                let _ = sender.send(done.as_ref().map(|_| ()).map_err(told));
            }
        });
    }

    #[cfg(test)]
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(crate) fn handed_on(&self) -> u64 {
        self.handed_on.load(Ordering::Acquire)
    }
}

/// The failure of a common commit, for each of its members.
fn told(error: &Error) -> Error {
    tracing::warn!(%error, "a commit failed");
    match error {
        Error::Ambiguous(_) => unknown(),
        Error::Conflict { attempts, .. } => Error::Conflict { attempts: *attempts, source: None },
        Error::Unavailable { reason, .. } => Error::Unavailable { reason, source: None },
        _ => Error::Unavailable { reason: "a commit failed", source: None },
    }
}

/// Counts one who waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Sqlite {
    /// A transaction of this file, in the store's own type.
    pub(crate) fn tx(&self, begun: SqliteTx) -> Tx {
        Tx { inner: TxKind::Sqlite(begun), speaker: self.speaker.get().cloned() }
    }
}

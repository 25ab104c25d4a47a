//! A pass over everything: looks with reads alone, then deletes in small transactions, one per step.

use std::collections::{BTreeMap, VecDeque};

use halberd_core::time::Stamp;
use serde::{Deserialize, Serialize};

use super::aged::{AGED, Aged};
use super::chains::{self, Due};
use super::{Retention, STRIDE, leaving, recoveries};
use crate::audit;
use crate::db::Db;
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::settings;
use crate::size;
use crate::transaction::{Tx, write};
use crate::value::{Arg, args, json};

/// The setting that says whose turn it is.
const TURN: &str = "purge_turn";

/// Pages given back to the file system by one step. Each is moved, so more would hold the lock for longer than a step of rows.
const PAGES: u32 = 100;

/// Who purges, or did last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub by: String,
    /// Grows with each step: whoever sees it move stays away.
    pub version: i64,
    reference: Stamp,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    by: String,
    reference: Stamp,
}

/// The turn, if ever anybody took it.
pub async fn turn(db: &Db) -> Result<Option<Turn>> {
    let Some((text, version)) = settings::get(db, TURN).await? else { return Ok(None) };
    let read = |error: serde_json::Error| Error::Corrupt {
        table: "settings",
        row: TURN.to_owned(),
        column: "value",
        reason: error.to_string(),
    };
    let Stored { by, reference } = serde_json::from_str(&text).map_err(read)?;
    Ok(Some(Turn { by, version, reference }))
}

/// What came of taking the turn.
#[derive(Debug)]
pub enum Begun {
    Pass(Box<Pass>),
    /// Somebody took it since `seen`.
    Lost,
}

/// Takes the turn from who had it (`seen`, as [`turn`] answered) and begins a pass. `now` is this machine's clock; no age is counted from
/// beyond it, nor from more than [`STRIDE`] beyond the last pass.
pub async fn begin(db: &Db, policy: &Retention, by: &str, seen: Option<&Turn>, now: Stamp) -> Result<Begun> {
    let reference = reference(seen, now);
    let stored = json(&Stored { by: by.to_owned(), reference });
    let taken = write(db, async |tx| match seen {
        Some(seen) => {
            let sql = "UPDATE settings SET value = ?, version = version + 1, updated_at = ? WHERE name = ? AND version = ?";
            Ok(tx.exec(sql, args![&stored, now, TURN, seen.version]).await? == 1)
        }
        None => match settings::get(&mut *tx, TURN).await? {
            Some(_) => Ok(false),
            None => settings::insert(tx, TURN, &stored, now).await.map(|()| true),
        },
    })
    .await?;
    if !taken {
        return Ok(Begun::Lost);
    }
    let version = seen.map_or(1, |seen| seen.version + 1);
    Ok(Begun::Pass(Box::new(Pass::new(policy, reference, version))))
}

fn reference(seen: Option<&Turn>, now: Stamp) -> Stamp {
    seen.map_or(now, |seen| now.min(Stamp(seen.reference.0.saturating_add(STRIDE.0))))
}

/// One transaction's work.
#[derive(Clone, Debug)]
enum Work {
    Leaving,
    Recoveries { due: Vec<String>, reference: Stamp },
    Aged { aged: &'static Aged, due: Vec<Vec<Arg>>, cutoff: Stamp },
    Chain(Due),
    Below { chain: String, anchor: i64 },
    Pages,
}

/// Where a pass is.
#[derive(Clone, Debug)]
enum Stage {
    Leaving,
    Recoveries { after: i64 },
    Aged { index: usize, after: Option<Vec<Arg>> },
    Chains,
    Pages,
    Done,
}

/// How far it is with one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was read and nothing written.
    Looked,
    /// One transaction deleted so many rows, among them of this table.
    Deleted {
        table: &'static str,
        rows: u64,
    },
    /// Another has taken the turn: the pass is over.
    Lost,
    Done,
}

/// One pass over all tables.
#[derive(Debug)]
pub struct Pass {
    policy: Retention,
    reference: Stamp,
    version: i64,
    stage: Stage,
    work: VecDeque<Work>,
}

impl Pass {
    fn new(policy: &Retention, reference: Stamp, version: i64) -> Pass {
        Pass { policy: policy.clone(), reference, version, stage: Stage::Leaving, work: VecDeque::new() }
    }

    /// The time from which ages are counted, at the latest.
    pub fn reference(&self) -> Stamp {
        self.reference
    }

    /// Looks for work, or does one transaction of it. Between two steps others write; a pass may be dropped after any.
    pub async fn step(&mut self, db: &Db, now: Stamp) -> Result<Step> {
        if matches!(self.work.front(), Some(Work::Leaving)) && leaving(db).await?.is_empty() {
            self.work.pop_front();
            return Ok(Step::Looked);
        }
        let Some(work) = self.work.front().cloned() else {
            if matches!(self.stage, Stage::Done) {
                return Ok(Step::Done);
            }
            self.look(db).await?;
            return Ok(Step::Looked);
        };
        let (policy, version) = (&self.policy, self.version);
        let work = &work;
        let done = write(db, async |tx| {
            let sql =
                "UPDATE settings SET version = version + 1, updated_at = ? WHERE name = ? AND version = ?";
            if tx.exec(sql, args![now, TURN, version]).await? != 1 {
                return Ok(None);
            }
            work.run(tx, policy, now).await.map(Some)
        });
        let Some(done) = done.await? else {
            self.work.clear();
            self.stage = Stage::Done;
            return Ok(Step::Lost);
        };
        self.version += 1;
        self.after(done);
        Ok(Step::Deleted { table: work.table(), rows: done.0 })
    }

    /// What a transaction leaves to the next ones.
    fn after(&mut self, (rows, taken): (u64, usize)) {
        let full = rows >= u64::from(self.policy.step_rows);
        match self.work.front_mut() {
            Some(Work::Leaving) => {}
            Some(Work::Recoveries { due, .. }) => {
                due.drain(..taken);
                if due.is_empty() {
                    self.work[0] = Work::Leaving;
                }
            }
            Some(Work::Chain(due)) => {
                let below = match due {
                    Due::Whole { .. } => None,
                    Due::Cut { chain, anchor } => Some((chain.clone(), *anchor)),
                    Due::Checkpoints { anchor, .. } => Some((audit::CHECKPOINTS.to_owned(), *anchor)),
                };
                match below {
                    Some((chain, anchor)) => self.work[0] = Work::Below { chain, anchor },
                    None => drop(self.work.pop_front()),
                }
            }
            Some(Work::Below { .. }) if full => {}
            _ => drop(self.work.pop_front()),
        }
    }

    async fn look(&mut self, db: &Db) -> Result<()> {
        let step = self.policy.step_rows as usize;
        self.stage = match &self.stage {
            Stage::Leaving => {
                self.work.push_back(Work::Leaving);
                Stage::Recoveries { after: 0 }
            }
            Stage::Recoveries { after } => match recoveries::newest(&mut &*db).await? {
                None => Stage::Aged { index: 0, after: None },
                Some((at, newest)) => {
                    let reference = at.min(self.reference);
                    let looked = recoveries::look(&mut &*db, *after, &self.policy, reference, newest).await?;
                    if !looked.due.is_empty() {
                        self.work.push_back(Work::Recoveries { due: looked.due, reference });
                    }
                    match looked.next {
                        Some(after) => Stage::Recoveries { after },
                        None => Stage::Aged { index: 0, after: None },
                    }
                }
            },
            Stage::Aged { index, after } => match AGED.get(*index) {
                None => Stage::Chains,
                Some(aged) => {
                    let next = look_aged(db, aged, after.as_deref(), &self.policy, self.reference).await?;
                    let (next, due, cutoff) = next.unwrap_or((None, Vec::new(), self.reference));
                    for due in due.chunks(step) {
                        self.work.push_back(Work::Aged { aged, due: due.to_vec(), cutoff });
                    }
                    match next {
                        Some(after) => Stage::Aged { index: *index, after: Some(after) },
                        None => Stage::Aged { index: index + 1, after: None },
                    }
                }
            },
            Stage::Chains => {
                if let Some(newest) = chains::newest(&mut &*db).await? {
                    let due = chains::look(&mut &*db, &self.policy, newest.min(self.reference)).await?;
                    self.work.extend(due.into_iter().map(Work::Chain));
                }
                Stage::Pages
            }
            Stage::Pages => match size::pages_to_free(db).await? {
                0 => Stage::Done,
                pages => {
                    let steps = pages.div_ceil(u64::from(PAGES)).min(10_000);
                    self.work.extend((0..steps).map(|_| Work::Pages));
                    Stage::Done
                }
            },
            Stage::Done => Stage::Done,
        };
        Ok(())
    }
}

/// Next key, keys that may go, and from before when.
type LookedAged = (Option<Vec<Arg>>, Vec<Vec<Arg>>, Stamp);

async fn look_aged(
    db: &Db,
    aged: &Aged,
    after: Option<&[Arg]>,
    policy: &Retention,
    reference: Stamp,
) -> Result<Option<LookedAged>> {
    let Some((at, newest)) = aged.newest(&mut &*db).await? else { return Ok(None) };
    let Some(cutoff) = aged.cutoff(policy, at.min(reference)) else { return Ok(None) };
    let looked = aged.look(&mut &*db, after, cutoff, newest).await?;
    Ok(Some((looked.next, looked.due, cutoff)))
}

impl Work {
    fn table(&self) -> &'static str {
        match self {
            Work::Leaving | Work::Recoveries { .. } => "recoveries",
            Work::Aged { aged, .. } => aged.table,
            Work::Chain(_) | Work::Below { .. } => "audit",
            Work::Pages => "pages",
        }
    }

    /// Rows deleted, and how many of its recoveries are dealt with.
    async fn run(&self, tx: &mut Tx, policy: &Retention, now: Stamp) -> Result<(u64, usize)> {
        match self {
            Work::Leaving => recoveries::delete(tx, &[], policy, now, now).await,
            Work::Recoveries { due, reference } => recoveries::delete(tx, due, policy, *reference, now).await,
            Work::Aged { aged, due, cutoff } => Ok((aged.delete(tx, due, *cutoff).await?, 0)),
            Work::Chain(due) => Ok((chain(tx, due, policy, now).await?, 0)),
            Work::Below { chain, anchor } => {
                Ok((audit::delete_below(tx, chain, *anchor, policy.step_rows).await?, 0))
            }
            Work::Pages => {
                if tx.dialect() == Dialect::Sqlite {
                    tx.exec("PRAGMA incremental_vacuum(100)", vec![]).await?;
                }
                Ok((0, 0))
            }
        }
    }
}

async fn chain(tx: &mut Tx, due: &Due, policy: &Retention, now: Stamp) -> Result<u64> {
    match due {
        Due::Whole { chain, last, hash } => {
            audit::remove_head(tx, chain, *last).await?;
            let heads = BTreeMap::from([(chain.clone(), (*last, hash.clone()))]);
            audit::note_purged(tx, &heads, now, now).await?;
            audit::delete_below(tx, chain, last + 1, policy.step_rows).await
        }
        Due::Cut { chain, anchor } => audit::cut(tx, chain, *anchor, now).await.map(|()| 0),
        Due::Checkpoints { anchor, told, upto } => {
            audit::cut_checkpoints(tx, *anchor, (**told).clone(), *upto, now).await.map(|()| 0)
        }
    }
}

/// How many rows of each table the next pass would take, were it to begin now. Reads only.
pub async fn dry_run(db: &Db, policy: &Retention, now: Stamp) -> Result<BTreeMap<&'static str, u64>> {
    let reference = reference(turn(db).await?.as_ref(), now);
    let mut pass = Pass::new(policy, reference, 0);
    let mut counted = BTreeMap::new();
    while !matches!(pass.stage, Stage::Pages) {
        pass.look(db).await?;
        while let Some(work) = pass.work.pop_front() {
            count(db, &work, &mut counted).await?;
        }
    }
    Ok(counted)
}

async fn count(db: &Db, work: &Work, counted: &mut BTreeMap<&'static str, u64>) -> Result<()> {
    let mut add = |table: &'static str, rows: u64| {
        if rows > 0 {
            *counted.entry(table).or_default() += rows;
        }
    };
    match work {
        Work::Leaving => {
            for chain in leaving(db).await? {
                for (table, rows) in recoveries::rows_of(&mut &*db, &chain).await? {
                    add(table, rows);
                }
            }
        }
        Work::Recoveries { due, .. } => {
            add("recoveries", due.len() as u64);
            for id in due {
                for (table, rows) in recoveries::rows_of(&mut &*db, id).await? {
                    add(table, rows);
                }
            }
        }
        Work::Aged { aged, due, .. } => add(aged.table, due.len() as u64),
        Work::Chain(due) => {
            let (name, below) = match due {
                Due::Whole { chain, last, .. } => (chain.as_str(), last + 1),
                Due::Cut { chain, anchor } => (chain.as_str(), *anchor),
                Due::Checkpoints { anchor, .. } => (audit::CHECKPOINTS, *anchor),
            };
            let sql = "SELECT COUNT(*) AS n FROM audit WHERE chain = ? AND sequence < ?";
            let rows = crate::transaction::all(&mut &*db, sql, args![name, below]).await?;
            add("audit", rows.first().map_or(0, |row| row.first_int()).unsigned_abs());
        }
        Work::Below { .. } | Work::Pages => {}
    }
    Ok(())
}

//! Audit chains that belong to no recovery: those of processes, and the checkpoints. How a chain is cut stands in `audit::cut`.

use halberd_core::time::Stamp;

use super::{Retention, days};
use crate::audit::{self, CHECKPOINTS, Told};
use crate::error::Result;
use crate::transaction::{Read, all, first};
use crate::value::args;

/// A cut takes at least so many records: each costs a record of its own.
pub(super) const LEAST: i64 = 100;

/// What is to be done about a chain.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// All of it, its last record being this.
    Whole { chain: String, last: i64, hash: String },
    /// Everything before this record.
    Cut { chain: String, anchor: i64 },
    /// The same for the checkpoints, with what they said up to a sequence.
    Checkpoints { anchor: i64, told: Box<Told>, upto: i64 },
}

/// The age of the newest checkpoint: each engine writes one within a minute of any record.
pub(super) async fn newest(on: &mut impl Read) -> Result<Option<Stamp>> {
    let sql = "SELECT sequence, at FROM audit WHERE chain = ? ORDER BY sequence DESC LIMIT 1";
    first(on, sql, args![CHECKPOINTS]).await?.map(|row| row.of("audit", "sequence").stamp("at")).transpose()
}

/// Every chain of which something may go, at most a hundred; later ones are found by the next pass.
pub(super) async fn look(on: &mut impl Read, policy: &Retention, reference: Stamp) -> Result<Vec<Due>> {
    let Some(cutoff) = days!(audit_days).cutoff(policy, reference) else { return Ok(Vec::new()) };
    let sql = "SELECT chain, sequence, hash FROM audit_heads WHERE chain LIKE 'engine:%' OR chain LIKE 'api:%' ORDER BY chain";
    let mut due = Vec::new();
    for row in &all(on, sql, vec![]).await? {
        let row = row.of("audit_heads", "chain");
        let (chain, last) = (row.string("chain")?, row.int("sequence")?);
        let Some(first) = oldest(on, &chain, cutoff).await? else { continue };
        let anchor = youngest_before(on, &chain, first, last, cutoff).await?;
        if anchor == last && last - first < i64::from(policy.step_rows) {
            due.push(Due::Whole { chain, last, hash: row.string("hash")? });
        } else if anchor - first >= LEAST {
            due.push(Due::Cut { chain, anchor });
        }
        if due.len() >= 100 {
            return Ok(due);
        }
    }
    if let Some(first) = oldest(on, CHECKPOINTS, cutoff).await?
        && let Some((last, _)) = audit::heads_of(on).await?.get(CHECKPOINTS)
    {
        let anchor = youngest_before(on, CHECKPOINTS, first, *last, cutoff).await?;
        if anchor - first >= LEAST {
            let mut told = Told::default();
            let upto = audit::fold_from(on, 0, &mut told).await?;
            due.push(Due::Checkpoints { anchor, told: Box::new(told), upto });
        }
    }
    Ok(due)
}

/// The first record's number, if it is old enough to go.
async fn oldest(on: &mut impl Read, chain: &str, cutoff: Stamp) -> Result<Option<i64>> {
    let sql = "SELECT sequence, at FROM audit WHERE chain = ? ORDER BY sequence LIMIT 1";
    let Some(row) = first(on, sql, args![chain]).await? else { return Ok(None) };
    let row = row.of("audit", "sequence");
    Ok((row.stamp("at")? < cutoff).then_some(row.int("sequence")?))
}

/// The last record from before a time; `first` is one. By halves: records follow each other in time, give or take.
async fn youngest_before(
    on: &mut impl Read,
    chain: &str,
    first: i64,
    last: i64,
    cutoff: Stamp,
) -> Result<i64> {
    let (mut old, mut young) = (first, last + 1);
    while young - old > 1 {
        let middle = old + (young - old) / 2;
        let sql =
            "SELECT sequence, at FROM audit WHERE chain = ? AND sequence >= ? ORDER BY sequence LIMIT 1";
        let row = self::first(on, sql, args![chain, middle]).await?;
        match row.map(|row| row.of("audit", "sequence").stamp("at")).transpose()? {
            Some(at) if at < cutoff => old = middle,
            _ => young = middle,
        }
    }
    Ok(old)
}

//! A recovery goes with all its rows.
//!
//! In one transaction go what readers find it by: its moves, its reports, its row, the head of its audit chain, with a note in the
//! checkpoints. From then on it is gone. Its intents, events, deliveries and audit records may be thousands; they go in the same
//! transaction as far as a step's rows reach and in the next ones after that, by a list in the settings that survives a crash.

use std::collections::BTreeMap;

use halberd_core::time::Stamp;
use sqlx::AssertSqlSafe;

use super::{LEAVING, Retention, days, leaving};
use crate::audit;
use crate::error::{Error, Result};
use crate::settings;
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Arg, Row, args, json};

/// Recoveries looked at by one read.
const PAGE: usize = 200;

/// Keys in one statement.
pub(super) const KEYS: usize = 100;

/// Words of the audit that make a recovery part of the fence history.
const FENCED: &str = "SELECT 1 AS n FROM intents WHERE recovery = ? AND effect IN ('power_off', 'power_on') \
    UNION ALL SELECT 1 AS n FROM audit WHERE chain = ? AND what IN ('off_confirmed', 'fence_waived', 'drill_ended') LIMIT 1";

/// Whoever still names it. One row: it stays.
const HELD: &[&str] = &[
    "SELECT 1 AS n FROM intents WHERE recovery = ? AND resolved_at IS NULL LIMIT 1",
    "SELECT 1 AS n FROM notifications WHERE recovery = ? AND status IN ('new', 'running', 'error') LIMIT 1",
    "SELECT 1 AS n FROM events e JOIN deliveries d ON d.event = e.id WHERE e.recovery = ? AND d.state = 'pending' LIMIT 1",
    "SELECT 1 AS n FROM sessions WHERE recovery = ? LIMIT 1",
    "SELECT 1 AS n FROM fence_drills WHERE recovery = ? LIMIT 1",
    "SELECT 1 AS n FROM hosts WHERE reserved_by = ? LIMIT 1",
    "SELECT 1 AS n FROM wishes WHERE subject = ? AND done_at IS NULL LIMIT 1",
    // One that was opened on the same report and stays would have none.
    "SELECT 1 AS n FROM notifications n JOIN recoveries r ON r.notification = n.id WHERE n.recovery = ? AND r.id <> n.recovery LIMIT 1",
    // Its host is not back: what was done to it is not over.
    "SELECT 1 AS n FROM recoveries r JOIN hosts h ON h.id = r.host WHERE r.id = ? AND h.deleted = 0 AND h.admission <> 'in' LIMIT 1",
];
const DEAD_LETTERS: &str = "SELECT 1 AS n FROM events e JOIN deliveries d ON d.event = e.id \
    WHERE e.recovery = ? AND d.state = 'dead' AND d.updated_at >= ? LIMIT 1";

/// A page that was looked at.
pub(super) struct Looked {
    pub due: Vec<String>,
    pub next: Option<i64>,
}

/// The newest row's last change and number.
pub(super) async fn newest(on: &mut impl Read) -> Result<Option<(Stamp, i64)>> {
    let sql = "SELECT num, updated_at FROM recoveries ORDER BY num DESC LIMIT 1";
    let Some(row) = first(on, sql, vec![]).await? else { return Ok(None) };
    let row = row.of("recoveries", "num");
    Ok(Some((row.stamp("updated_at")?, row.int("num")?)))
}

/// One page of recoveries after a number, with those that may go.
pub(super) async fn look(
    on: &mut impl Read,
    after: i64,
    policy: &Retention,
    reference: Stamp,
    newest: i64,
) -> Result<Looked> {
    let Some(cutoff) = days!(recoveries_days).cutoff(policy, reference) else {
        return Ok(Looked { due: Vec::new(), next: None });
    };
    let sql = format!(
        "SELECT num, id, CASE WHEN open_key IS NULL THEN COALESCE(closed_at, updated_at) END AS closed_at \
         FROM recoveries WHERE num > ? AND num < ? ORDER BY num LIMIT {PAGE}"
    );
    let rows = all(on, AssertSqlSafe(sql), args![after, newest]).await?;
    let mut due = Vec::new();
    let mut old = false;
    for row in &rows {
        let row = row.of("recoveries", "id");
        let Some(closed) = row.opt_stamp("closed_at")? else { continue };
        if closed >= cutoff {
            continue;
        }
        old = true;
        let id = row.string("id")?;
        if may_go(on, &id, closed, policy, reference).await? {
            due.push(id);
        }
    }
    let last = rows.last().map(|row| row.of("recoveries", "id").int("num")).transpose()?;
    Ok(Looked { due, next: last.filter(|_| rows.len() == PAGE && old) })
}

async fn may_go(
    on: &mut impl Read,
    id: &str,
    closed: Stamp,
    policy: &Retention,
    reference: Stamp,
) -> Result<bool> {
    if first(on, FENCED, args![id, id]).await?.is_some() {
        match days!(fenced_days).cutoff(policy, reference) {
            Some(cutoff) if closed < cutoff => {}
            _ => return Ok(false),
        }
    }
    for sql in HELD {
        if first(on, *sql, args![id]).await?.is_some() {
            return Ok(false);
        }
    }
    let dead = days!(dead_letters_days).cutoff(policy, reference).unwrap_or(Stamp(i64::MIN));
    Ok(first(on, DEAD_LETTERS, args![id, dead]).await?.is_none())
}

/// Deletes recoveries until the rows of a step are used up, after what earlier ones left. The answer: rows deleted, and how many of
/// `due` are gone (with all or with a rest that is remembered).
pub(super) async fn delete(
    tx: &mut Tx,
    due: &[String],
    policy: &Retention,
    reference: Stamp,
    now: Stamp,
) -> Result<(u64, usize)> {
    let budget = u64::from(policy.step_rows);
    let before = leaving(&mut *tx).await?;
    let mut left = before.clone();
    let mut gone = 0;
    for chain in &before {
        gone += rest(tx, chain, budget.saturating_sub(gone)).await?;
        if gone < budget {
            left.remove(chain);
        }
    }
    let mut taken = 0;
    let mut heads = BTreeMap::new();
    while gone < budget && taken < due.len() {
        let id = &due[taken];
        taken += 1;
        let Some((rows, head)) = take(tx, id, policy, reference).await? else { continue };
        gone += rows;
        heads.extend(head.map(|head| (id.clone(), head)));
        let room = budget.saturating_sub(gone);
        let more = rest(tx, id, room).await?;
        gone += more;
        if more >= room {
            left.insert(id.clone());
        }
    }
    if !heads.is_empty() {
        let cutoff = days!(recoveries_days).cutoff(policy, reference).unwrap_or(reference);
        audit::note_purged(tx, &heads, cutoff, now).await?;
    }
    if left != before {
        settings::set(tx, LEAVING, &json(&left), now).await?;
    }
    Ok((gone, taken))
}

/// The part that readers see. `None`: it stays after all.
async fn take(
    tx: &mut Tx,
    id: &str,
    policy: &Retention,
    reference: Stamp,
) -> Result<Option<(u64, Option<(i64, String)>)>> {
    let sql = "SELECT id, version, COALESCE(closed_at, updated_at) AS closed_at FROM recoveries WHERE id = ? AND open_key IS NULL";
    let Some(row) = first(&mut &mut *tx, sql, args![id]).await? else { return Ok(None) };
    let row = row.of("recoveries", "id");
    let (version, closed) = (row.int("version")?, row.stamp("closed_at")?);
    if !may_go(&mut &mut *tx, id, closed, policy, reference).await? {
        return Ok(None);
    }
    let mut gone = by_keys(tx, "vmoves", "num", "recovery", id, u64::MAX).await?;
    gone += by_keys(tx, "notifications", "num", "recovery", id, u64::MAX).await?;
    let sql = "DELETE FROM recoveries WHERE id = ? AND version = ? AND open_key IS NULL";
    if tx.exec(sql, args![id, version]).await? != 1 {
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    let sql = "SELECT chain, sequence, hash FROM audit_heads WHERE chain = ?";
    let head = first(&mut &mut *tx, sql, args![id]).await?;
    let head = head.map(|row| {
        let row = row.of("audit_heads", "chain");
        Ok::<_, Error>((row.int("sequence")?, row.string("hash")?))
    });
    let head = head.transpose()?;
    if let Some((sequence, _)) = &head {
        audit::remove_head(tx, id, *sequence).await?;
    }
    Ok(Some((gone + 2, head)))
}

/// What nobody finds any more: at most `limit` rows of it. Less than that were deleted: nothing is left.
pub(super) async fn rest(tx: &mut Tx, chain: &str, limit: u64) -> Result<u64> {
    let mut gone = 0;
    let room = |gone: u64| limit.saturating_sub(gone);
    let sql = "SELECT d.num FROM events e JOIN deliveries d ON d.event = e.id WHERE e.recovery = ? ORDER BY d.num LIMIT ?";
    let keys = keys(all(&mut &mut *tx, sql, args![chain, signed(room(gone))]).await?);
    gone += delete_keys(tx, "deliveries", "num", &keys).await?;
    gone += by_keys(tx, "events", "num", "recovery", chain, room(gone)).await?;
    gone += by_keys(tx, "intents", "id", "recovery", chain, room(gone)).await?;
    if room(gone) > 0 {
        let limit = u32::try_from(room(gone)).unwrap_or(u32::MAX);
        gone += audit::delete_below(tx, chain, i64::MAX, limit).await?;
    }
    Ok(gone)
}

async fn by_keys(tx: &mut Tx, table: &str, key: &str, column: &str, id: &str, limit: u64) -> Result<u64> {
    if limit == 0 {
        return Ok(0);
    }
    let sql = format!("SELECT {key} FROM {table} WHERE {column} = ? ORDER BY {key} LIMIT ?");
    let keys = keys(all(&mut &mut *tx, AssertSqlSafe(sql), args![id, signed(limit)]).await?);
    delete_keys(tx, table, key, &keys).await
}

fn keys(rows: Vec<Row>) -> Vec<Arg> {
    rows.into_iter().filter_map(|row| row.values.into_iter().next()).collect()
}

fn signed(limit: u64) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

async fn delete_keys(tx: &mut Tx, table: &str, key: &str, keys: &[Arg]) -> Result<u64> {
    let mut gone = 0;
    for keys in keys.chunks(KEYS) {
        let sql = format!("DELETE FROM {table} WHERE {key} IN ({})", vec!["?"; keys.len()].join(", "));
        gone += tx.exec(AssertSqlSafe(sql), keys.to_vec()).await?;
    }
    Ok(gone)
}

/// What goes with a recovery, by table. Its deliveries were sent long ago: they are counted by their own age.
pub(super) async fn rows_of(on: &mut impl Read, id: &str) -> Result<Vec<(&'static str, u64)>> {
    const COUNTS: &[(&str, &str)] = &[
        ("vmoves", "SELECT COUNT(*) AS n FROM vmoves WHERE recovery = ?"),
        ("notifications", "SELECT COUNT(*) AS n FROM notifications WHERE recovery = ?"),
        ("intents", "SELECT COUNT(*) AS n FROM intents WHERE recovery = ?"),
        ("events", "SELECT COUNT(*) AS n FROM events WHERE recovery = ?"),
        ("audit", "SELECT COUNT(*) AS n FROM audit WHERE chain = ?"),
        ("audit_heads", "SELECT COUNT(*) AS n FROM audit_heads WHERE chain = ?"),
    ];
    let mut found = Vec::with_capacity(COUNTS.len());
    for (table, sql) in COUNTS {
        let n = first(on, *sql, args![id]).await?.map_or(0, |row| row.first_int());
        found.push((*table, n.unsigned_abs()));
    }
    Ok(found)
}

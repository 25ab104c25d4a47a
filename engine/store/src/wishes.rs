//! What operators wish, recorded by the API for an engine to do (STYLE 10, DESIGN 10.8): the API moves nothing itself.

use halberd_core::id::{EngineId, WishId};
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::legible::{legible, legible_from};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// A wish to record.
#[derive(Clone, Debug, PartialEq)]
pub struct NewWish {
    pub id: WishId,
    /// `fence`, `confirm_fenced`, `readmit`, `release`, `retry`, `check_device`, ...
    pub kind: String,
    /// What it is about: an id or a name.
    pub subject: String,
    pub actor: String,
    pub reason: String,
    /// Whatever the kind needs.
    pub body: Value,
}

/// A wish as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct WishRow {
    pub num: i64,
    pub wish: NewWish,
    pub created_at: Stamp,
    /// The engine at work on it.
    pub taken_by: Option<EngineId>,
    pub done_at: Option<Stamp>,
    pub succeeded: Option<bool>,
    pub result: Option<Value>,
}

pub async fn insert(tx: &mut Tx, wish: &NewWish, now: Stamp) -> Result<()> {
    tx.exec(
        "INSERT INTO wishes (id, kind, subject, actor, reason, body, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        args![wish.id, &wish.kind, &wish.subject, &wish.actor, &wish.reason, wish.body.to_string(), now],
    )
    .await?;
    Ok(())
}

/// Wishes that are not done, oldest first; those taken by an engine that died among them.
pub async fn poll(mut on: impl Read, limit: u32) -> Result<Vec<WishRow>> {
    let sql = "SELECT * FROM wishes WHERE done_at IS NULL AND num > ? ORDER BY num LIMIT ?";
    legible_from(&mut on, sql, 0, limit, read).await
}

/// Takes a wish from `seen` (nobody, or an engine whose lease ran out). `false`: somebody was faster.
pub async fn take(tx: &mut Tx, id: WishId, seen: Option<EngineId>, engine: EngineId) -> Result<bool> {
    let taken = match seen {
        Some(old) => {
            let sql = "UPDATE wishes SET taken_by = ? WHERE id = ? AND done_at IS NULL AND taken_by = ?";
            tx.exec(sql, args![engine, id, old]).await?
        }
        None => {
            let sql = "UPDATE wishes SET taken_by = ? WHERE id = ? AND done_at IS NULL AND taken_by IS NULL";
            tx.exec(sql, args![engine, id]).await?
        }
    };
    Ok(taken == 1)
}

/// How a wish ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub wish: WishId,
    pub succeeded: bool,
    pub result: Value,
}

/// Says something about a wish that is not done, for who asked. `false`: it was done already.
pub async fn say(tx: &mut Tx, id: WishId, result: &Value) -> Result<bool> {
    let sql = "UPDATE wishes SET result = ? WHERE id = ? AND done_at IS NULL";
    Ok(tx.exec(sql, args![result.to_string(), id]).await? == 1)
}

/// Ends wishes in one unit with the caller's writes. One that was done before stays as it was.
pub(crate) async fn answer(tx: &mut Tx, answers: &[Answer], now: Stamp) -> Result<()> {
    for answer in answers {
        done(tx, answer.wish, answer.succeeded, &answer.result, now).await?;
    }
    Ok(())
}

/// Ends a wish with its result. `false`: it was done already.
pub async fn done(tx: &mut Tx, id: WishId, succeeded: bool, result: &Value, now: Stamp) -> Result<bool> {
    let sql = "UPDATE wishes SET done_at = ?, succeeded = ?, result = ? WHERE id = ? AND done_at IS NULL";
    Ok(tx.exec(sql, args![now, succeeded, result.to_string(), id]).await? == 1)
}

pub async fn get(mut on: impl Read, id: WishId) -> Result<WishRow> {
    let row = first(&mut on, "SELECT * FROM wishes WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("wish", id))?)
}

/// Whether nobody has done it yet.
pub async fn is_open(mut on: impl Read, id: WishId) -> Result<bool> {
    let sql = "SELECT 1 AS n FROM wishes WHERE id = ? AND done_at IS NULL";
    Ok(first(&mut on, sql, args![id]).await?.is_some())
}

/// Those of a kind that were granted, oldest first.
pub async fn granted(mut on: impl Read, kind: &str) -> Result<Vec<WishRow>> {
    let sql = "SELECT * FROM wishes WHERE kind = ? AND succeeded = 1 ORDER BY num";
    legible(&all(&mut on, sql, args![kind]).await?, read)
}

/// The newest, newest first.
pub async fn list(mut on: impl Read, limit: u32) -> Result<Vec<WishRow>> {
    legible(&all(&mut on, "SELECT * FROM wishes ORDER BY num DESC LIMIT ?", args![limit]).await?, read)
}

pub(crate) fn read(row: &Row) -> Result<WishRow> {
    let row = row.of("wishes", "id");
    let wish = NewWish {
        id: row.id("id")?,
        kind: row.string("kind")?,
        subject: row.string("subject")?,
        actor: row.string("actor")?,
        reason: row.string("reason")?,
        body: row.json("body")?,
    };
    Ok(WishRow {
        num: row.int("num")?,
        wish,
        created_at: row.stamp("created_at")?,
        taken_by: row.opt_id("taken_by")?,
        done_at: row.opt_stamp("done_at")?,
        succeeded: row.opt_flag("succeeded")?,
        result: row.opt_json("result")?,
    })
}

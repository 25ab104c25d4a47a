//! Orders for agents: restart a unit, destroy a stray guest. An agent fetches its own, signed (DESIGN 10.7).

use halberd_core::id::HostId;
use halberd_core::time::Stamp;
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// An order as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderRow {
    pub num: i64,
    pub id: Uuid,
    pub host: HostId,
    pub kind: String,
    pub body: Value,
    pub created_at: Stamp,
    pub done_at: Option<Stamp>,
    pub succeeded: Option<bool>,
    pub result: Option<Value>,
}

pub async fn insert(tx: &mut Tx, id: Uuid, host: HostId, kind: &str, body: &Value, now: Stamp) -> Result<()> {
    let sql = "INSERT INTO orders (id, host, kind, body, created_at) VALUES (?, ?, ?, ?, ?)";
    tx.exec(sql, args![id, host, kind, body.to_string(), now]).await?;
    Ok(())
}

/// A host's orders that are not done, oldest first.
pub async fn pending(mut on: impl Read, host: HostId) -> Result<Vec<OrderRow>> {
    let sql = "SELECT * FROM orders WHERE host = ? AND done_at IS NULL ORDER BY num";
    all(&mut on, sql, args![host]).await?.iter().map(read).collect()
}

/// Hosts with orders that are not done: the flag in their acks.
pub async fn hosts_pending(mut on: impl Read) -> Result<Vec<HostId>> {
    let rows = all(&mut on, "SELECT DISTINCT host FROM orders WHERE done_at IS NULL", vec![]).await?;
    rows.iter().map(|row| row.of("orders", "host").id("host")).collect()
}

pub async fn get(mut on: impl Read, id: Uuid) -> Result<OrderRow> {
    let row = first(&mut on, "SELECT * FROM orders WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("order", id))?)
}

/// Ends an order of this host with its result. `false`: it was done or withdrawn already, or is another host's.
pub async fn done(
    tx: &mut Tx,
    id: Uuid,
    host: HostId,
    succeeded: bool,
    result: &Value,
    now: Stamp,
) -> Result<bool> {
    let sql = "UPDATE orders SET done_at = ?, succeeded = ?, result = ? WHERE id = ? AND host = ? AND done_at IS NULL";
    Ok(tx.exec(sql, args![now, succeeded, result.to_string(), id, host]).await? == 1)
}

pub(crate) fn read(row: &Row) -> Result<OrderRow> {
    let row = row.of("orders", "id");
    Ok(OrderRow {
        num: row.int("num")?,
        id: row.id("id")?,
        host: row.id("host")?,
        kind: row.string("kind")?,
        body: row.json("body")?,
        created_at: row.stamp("created_at")?,
        done_at: row.opt_stamp("done_at")?,
        succeeded: row.opt_flag("succeeded")?,
        result: row.opt_json("result")?,
    })
}

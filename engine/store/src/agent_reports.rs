//! Reports of agents by their own ids: the same report sent twice gets the same answer (I28).

use halberd_core::id::{HostId, NotificationId};
use halberd_core::time::Stamp;
use serde_json::Value;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, first};
use crate::value::{Row, args};

/// A report that was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportRow {
    pub id: Uuid,
    pub host: HostId,
    pub notification: Option<NotificationId>,
    pub answer: Value,
    pub at: Stamp,
}

/// What was answered to this report before. Ask first, in the unit that handles it.
///
/// # Errors
/// [`Error::Exists`] when another host used the same id.
pub async fn seen(mut on: impl Read, id: Uuid, host: HostId) -> Result<Option<ReportRow>> {
    let row = first(&mut on, "SELECT * FROM agent_reports WHERE id = ?", args![id]).await?;
    match row.as_ref().map(read).transpose()? {
        Some(report) if report.host != host => Err(Error::Exists { what: "report", name: id.to_string() }),
        report => Ok(report),
    }
}

/// Records a report with its answer, in the unit that handles it.
pub async fn record(tx: &mut Tx, report: &ReportRow) -> Result<()> {
    let sql = "INSERT INTO agent_reports (id, host, notification, answer, at) VALUES (?, ?, ?, ?, ?)";
    let values = args![report.id, report.host, report.notification, report.answer.to_string(), report.at];
    tx.exec(sql, values).await.map_err(Error::raced)?;
    Ok(())
}

/// Forgets reports from before a time; agents do not repeat older ones.
pub async fn forget_before(tx: &mut Tx, at: Stamp) -> Result<u64> {
    tx.exec("DELETE FROM agent_reports WHERE at < ?", args![at]).await
}

pub(crate) fn read(row: &Row) -> Result<ReportRow> {
    let row = row.of("agent_reports", "id");
    Ok(ReportRow {
        id: row.id("id")?,
        host: row.id("host")?,
        notification: row.opt_id("notification")?,
        answer: row.json("answer")?,
        at: row.stamp("at")?,
    })
}

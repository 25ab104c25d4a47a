//! Guests' moves. Written by [`crate::commit`] only, as a batch.

use halberd_core::id::{NotificationId, RecoveryId, VmoveId};
use halberd_core::recovery::{Stage, Vmove, VmoveStatus};
use halberd_core::time::Stamp;

use crate::error::{Error, Result};
use crate::list::{Filter, Page, Stored, Table, list as run_list};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args, json};

const TABLE: Table = Table {
    what: "vmove",
    from: "vmoves",
    select: "*",
    id: "id",
    created: "created_at",
    columns: &[
        ("id", "num"),
        ("uuid", "id"),
        ("notification_uuid", "notification"),
        ("instance_uuid", "instance"),
        ("instance_name", "instance_name"),
        ("source_host", "source_host"),
        ("dest_host", "COALESCE(dest_host, '')"),
        ("start_time", "COALESCE(start_time, 0)"),
        ("end_time", "COALESCE(end_time, 0)"),
        ("type", "kind"),
        ("status", "status"),
        ("message", "COALESCE(message, '')"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        ("deleted_at", "created_at"),
        ("deleted", "created_at"),
    ],
};

/// v1's `type`: nothing else is ever made.
pub const EVACUATION: &str = "evacuation";

const COLUMNS: &[&str] = &[
    "id",
    "recovery",
    "notification",
    "instance",
    "instance_name",
    "source_host",
    "dest_host",
    "kind",
    "status",
    "message",
    "start_time",
    "end_time",
    "stage",
    "body",
    "created_at",
    "updated_at",
];
const CHANGED: &[&str] = &[
    "instance_name",
    "dest_host",
    "status",
    "message",
    "start_time",
    "end_time",
    "stage",
    "body",
    "updated_at",
];

/// v1's filters; `None` does not filter, an unknown word finds nothing.
#[derive(Clone, Debug, Default)]
pub struct VmoveFilter {
    pub status: Option<String>,
    pub kind: Option<String>,
}

/// Inserts or overwrites by id, a bounded number of rows per statement.
pub(crate) async fn upsert(tx: &mut Tx, moves: &[Vmove], now: Stamp) -> Result<()> {
    let row = |vmove: &Vmove| {
        args![
            vmove.id,
            vmove.recovery,
            vmove.notification,
            vmove.instance,
            &vmove.instance_name,
            &vmove.source_host,
            vmove.dest_host.clone(),
            EVACUATION,
            vmove.status.as_str(),
            vmove.message.clone(),
            vmove.start_time,
            vmove.end_time,
            vmove.stage.as_str(),
            json(vmove),
            now,
            now
        ]
    };
    tx.upsert_rows("vmoves", "id", COLUMNS, CHANGED, moves.iter().map(row).collect()).await
}

pub async fn get(mut on: impl Read, id: VmoveId) -> Result<Stored<Vmove>> {
    let row = first(&mut on, "SELECT * FROM vmoves WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("vmove", id))?)
}

/// Every move of a recovery, in the order they were planned.
pub async fn of_recovery(mut on: impl Read, recovery: RecoveryId) -> Result<Vec<Vmove>> {
    let rows = all(&mut on, "SELECT * FROM vmoves WHERE recovery = ? ORDER BY num", args![recovery]).await?;
    rows.iter().map(|row| read(row).map(|stored| stored.value)).collect()
}

/// The moves of a report's recovery by v1's rules. A report that joined another's recovery shows that one's moves.
pub async fn list(
    mut on: impl Read,
    notification: NotificationId,
    filter: &VmoveFilter,
    page: &Page,
) -> Result<Vec<Stored<Vmove>>> {
    let mut by = Filter::default();
    by.and("recovery IN (SELECT recovery FROM notifications WHERE id = ?)", args![notification])
        .and_some("status = ?", filter.status.as_deref())
        .and_some("kind = ?", filter.kind.as_deref());
    run_list(&mut on, &TABLE, by, page).await?.iter().map(read).collect()
}

pub(crate) fn read(row: &Row) -> Result<Stored<Vmove>> {
    let row = row.of("vmoves", "id");
    let (status, stage) = (row.word::<VmoveStatus>("status")?, row.word::<Stage>("stage")?);
    let vmove: Vmove = row.json("body")?;
    if vmove.status != status || vmove.stage != stage {
        return Err(row.corrupt("body", "its status or stage is not the column's"));
    }
    Stored::read(&row, false, vmove)
}

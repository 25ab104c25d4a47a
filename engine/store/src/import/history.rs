//! Notifications and their moves: many, settled, in batches. Nothing of it may ever be taken up by an engine.
//!
//! Moves hang on a recovery here, so a report that has some gets a closed one, with the report's own id. It was never open: it has no
//! open key, no owner, no intents, and no engine lists it.

use std::collections::{BTreeMap, BTreeSet};

use halberd_core::audit::Entry;
use halberd_core::id::{HostId, NotificationId, SegmentId};
use halberd_core::notification::{Notification, Origin};
use halberd_core::recovery::Vmove;
use halberd_core::time::Stamp;
use serde_json::json;
use uuid::Uuid;

use super::Import;
use super::error::ImportError;
use super::past::{Item, item, unfinished};
use super::report::{Report, Table};
use super::rows::{Cells, NotificationRow, VmoveRow};
use super::schema::{NOTIFICATIONS, Schema, VMOVES};
use super::source::{Cell, Kind, Source};
use super::topology::{Topology, num, took};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::transaction::{Tx, first};
use crate::value::{args, json as to_json};
use crate::{audit, notifications, recoveries, vmoves};

/// Rows of a batch: some tens of milliseconds in which an engine beside us waits to write.
const BATCH: usize = 250;

/// The greatest ids of the source: fresh ones lie above them.
#[derive(Clone, Copy, Debug)]
struct Highest {
    notification: i64,
    vmove: i64,
}

pub(super) async fn take(
    db: &Db,
    import: &Import<'_>,
    source: &mut Source,
    schema: &Schema,
    topology: &Topology,
    report: &mut Report,
    now: Stamp,
) -> Result<(), ImportError> {
    let mut moves = moves(source, schema, report).await?;
    let highest = Highest {
        notification: number(source, "SELECT MAX(id) FROM notifications").await?,
        vmove: moves.values().flatten().map(|row| row.common.num).max().unwrap_or(0),
    };
    let since = import.since.map(literal);
    if let Some(since) = &since {
        let sql = format!("SELECT COUNT(*) FROM notifications WHERE generated_time < '{since}'");
        report.older = number(source, &sql).await?.unsigned_abs();
    }
    let mut seen = BTreeSet::new();
    let mut after = 0;
    loop {
        let newer = since.as_ref().map_or(String::new(), |since| format!("AND generated_time >= '{since}'"));
        let rest = format!("WHERE id > {after} {newer} ORDER BY id LIMIT {BATCH}");
        let (sql, kinds) = schema.select(&NOTIFICATIONS, &rest);
        let rows = source.rows(sql, &kinds).await?;
        let Some(Cell::Int(last)) = rows.last().and_then(|row| row.first()) else { break };
        after = *last;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            let cells = Cells::new(&NOTIFICATIONS, row);
            let mut mine = Vec::new();
            if let Ok(uuid) = cells.key("notification_uuid").parse() {
                seen.insert(uuid);
                mine = moves.remove(&uuid).unwrap_or_default();
            }
            match NotificationRow::read(&cells).and_then(|row| item(row, topology, &mut mine, report)) {
                Ok(item) => items.push(item),
                Err(reason) => {
                    for lost in &mine {
                        report.leave(Table::Vmoves, lost.uuid.to_string(), "its notification was left");
                    }
                    report.leave(Table::Notifications, cells.key("notification_uuid"), reason);
                }
            }
        }
        let items = items.as_slice();
        let done =
            super::unit(db, import.dry_run, async |tx| write_batch(tx, items, highest, now).await).await?;
        report.add(done);
    }
    // With a limit in time, what is left over belongs to what is older.
    if since.is_none() {
        for lost in moves.values().flatten() {
            report.leave(
                Table::Vmoves,
                lost.uuid.to_string(),
                "its notification is not in the source (purged?)",
            );
        }
    }
    Ok(())
}

/// Every move by its notification: few beside the notifications, and without an index to ask for them by.
async fn moves(
    source: &mut Source,
    schema: &Schema,
    report: &mut Report,
) -> Result<BTreeMap<Uuid, Vec<VmoveRow>>, ImportError> {
    let mut by: BTreeMap<Uuid, Vec<VmoveRow>> = BTreeMap::new();
    if !schema.has_vmoves() {
        return Ok(by);
    }
    let (sql, kinds) = schema.select(&VMOVES, "ORDER BY id");
    for row in source.rows(sql, &kinds).await? {
        let cells = Cells::new(&VMOVES, &row);
        match VmoveRow::read(&cells) {
            Ok(row) => by.entry(row.notification).or_default().push(row),
            Err(reason) => report.leave(Table::Vmoves, cells.key("uuid"), reason),
        }
    }
    Ok(by)
}

async fn number(source: &mut Source, sql: &str) -> Result<i64, ImportError> {
    // PostgreSQL's MAX(integer) has 32 bits.
    let sql = match source.dialect() {
        crate::dialect::Dialect::Postgres => format!("SELECT n::bigint FROM ({sql}) AS counted (n)"),
        _ => sql.to_owned(),
    };
    let rows = source.rows(sql, &[Kind::Int]).await?;
    Ok(match rows.first().and_then(|row| row.first()) {
        Some(Cell::Int(number)) => *number,
        _ => 0,
    })
}

/// As the three databases compare it with a column of times.
fn literal(at: Stamp) -> String {
    // Whole seconds: MariaDB's columns have no fraction, and SQLite compares texts.
    let seconds = at.0.div_euclid(1_000_000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The inverse of the day count in `rows` (the same source).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

async fn write_batch(tx: &mut Tx, items: &[Item], highest: Highest, now: Stamp) -> Result<Report> {
    let mut report = Report::default();
    for item in items {
        if !item.row.is_finished() {
            report.unfinished.push(unfinished(item));
        }
        if take_report(tx, item, highest, &mut report, now).await? {
            take_moves(tx, item, highest, &mut report, now).await?;
        }
    }
    Ok(report)
}

/// `false`: it was left, and its moves with it.
async fn take_report(
    tx: &mut Tx,
    item: &Item,
    highest: Highest,
    report: &mut Report,
    now: Stamp,
) -> Result<bool> {
    let row = &item.row;
    let sql = "SELECT * FROM notifications WHERE id = ?";
    let Some(ours) = first(&mut &mut *tx, sql, args![row.uuid]).await? else {
        create(tx, item, highest, report).await?;
        return Ok(true);
    };
    let ours = ours.of("notifications", "id");
    if ours.opt_id::<Uuid>("recovery")?.is_some_and(|recovery| recovery != row.uuid) {
        let why = "a recovery of Halberd's answers it; ours stands";
        report.leave(Table::Notifications, row.uuid.to_string(), why);
        for vmove in &item.moves {
            report.leave(Table::Vmoves, vmove.uuid.to_string(), "its notification was left");
        }
        return Ok(false);
    }
    let (status, message) = item.ends();
    if ours.text("status")? == status.as_str() && ours.opt_text("message")? == message.as_deref() {
        report.notifications.already_there += 1;
        return Ok(true);
    }
    let sql = "UPDATE notifications SET status = ?, message = ?, updated_at = ? WHERE id = ?";
    let at = row.common.updated_at.or(Some(now));
    tx.exec(sql, args![status.as_str(), message, at, row.uuid]).await?;
    report.notifications.changed += 1;
    Ok(true)
}

async fn create(tx: &mut Tx, item: &Item, highest: Highest, report: &mut Report) -> Result<()> {
    let row = &item.row;
    let num = num(tx, "notifications", row.common.num, highest.notification).await?;
    let (status, message) = item.ends();
    let known = Notification {
        id: NotificationId(row.uuid),
        kind: row.kind,
        host: HostId(row.host),
        segment: SegmentId(item.segment),
        generated_at: row.generated_at,
        payload: row.payload.clone(),
        origin: Origin::Caller,
        status,
        message,
    };
    tx.exec(
        "INSERT INTO notifications (num, id, kind, host, segment, generated_at, payload, payload_hash, origin, status, \
         message, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            num,
            known.id,
            known.kind.as_str(),
            known.host,
            known.segment,
            known.generated_at,
            to_json(&known.payload),
            notifications::duplicate_key(&known),
            known.origin.as_str(),
            known.status.as_str(),
            known.message.clone(),
            row.common.created_at.unwrap_or(row.generated_at),
            row.common.updated_at
        ],
    )
    .await
    .map_err(Error::raced)?;
    took(report, Table::Notifications, row.uuid.to_string(), false, row.common.num, num);
    Ok(())
}

async fn take_moves(
    tx: &mut Tx,
    item: &Item,
    highest: Highest,
    report: &mut Report,
    now: Stamp,
) -> Result<()> {
    if item.moves.is_empty() {
        return Ok(());
    }
    hang_up(tx, item, now).await?;
    for row in &item.moves {
        let vmove = item.vmove(row);
        let sql = "SELECT * FROM vmoves WHERE id = ? OR (recovery = ? AND instance = ?)";
        let rows = args![vmove.id, vmove.recovery, vmove.instance];
        match first(&mut &mut *tx, sql, rows).await? {
            None => {
                let num = num(tx, "vmoves", row.common.num, highest.vmove).await?;
                insert_move(tx, &vmove, num, row, now).await?;
                took(report, Table::Vmoves, row.uuid.to_string(), false, row.common.num, num);
            }
            Some(ours) => {
                let ours: Vmove = ours.of("vmoves", "id").json("body")?;
                if ours.recovery != vmove.recovery {
                    report.leave(Table::Vmoves, row.uuid.to_string(), "a move with its uuid exists here");
                } else if ours == vmove {
                    report.vmoves.already_there += 1;
                } else {
                    update_move(tx, &ours, &vmove, row, now).await?;
                    report.vmoves.changed += 1;
                }
            }
        }
    }
    Ok(())
}

/// The closed recovery that a report's moves hang on, as it ended by what the source knows now.
async fn hang_up(tx: &mut Tx, item: &Item, now: Stamp) -> Result<()> {
    let wanted = item.recovery();
    let found = match recoveries::get(&mut *tx, wanted.id).await {
        Ok(found) => found,
        Err(Error::NotFound { .. }) => {
            recoveries::insert(tx, &wanted, &wanted.subject.open_key(), now).await?;
            let text = format!("Taken over from Masakari with {} vmoves; nothing was done", item.moves.len());
            let detail = json!({ "notification": item.row.uuid, "status": item.row.status });
            let entry = Entry::new("recovery_imported", text, detail);
            audit::append(tx, &wanted.id.to_string(), 0, &[entry], now).await?;
            let sql = "UPDATE notifications SET recovery = ? WHERE id = ?";
            tx.exec(sql, args![wanted.id, wanted.notification]).await?;
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    if found.word() != wanted.word() {
        let sql = "UPDATE recoveries SET state = ?, body = ?, reason = ?, closed_at = ?, version = version + 1, updated_at = ? \
                   WHERE id = ? AND open_key IS NULL";
        let values = args![
            wanted.word().as_str(),
            to_json(&wanted.body),
            &wanted.reason,
            wanted.closed_at,
            now,
            wanted.id
        ];
        tx.exec(sql, values).await?;
    }
    Ok(())
}

async fn insert_move(tx: &mut Tx, vmove: &Vmove, num: i64, row: &VmoveRow, now: Stamp) -> Result<()> {
    tx.exec(
        "INSERT INTO vmoves (num, id, recovery, notification, instance, instance_name, source_host, dest_host, kind, status, \
         message, start_time, end_time, stage, body, created_at, updated_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            num,
            vmove.id,
            vmove.recovery,
            vmove.notification,
            vmove.instance,
            &vmove.instance_name,
            &vmove.source_host,
            vmove.dest_host.clone(),
            vmoves::EVACUATION,
            vmove.status.as_str(),
            vmove.message.clone(),
            vmove.start_time,
            vmove.end_time,
            vmove.stage.as_str(),
            to_json(vmove),
            row.common.created_at.unwrap_or(now),
            row.common.updated_at
        ],
    )
    .await
    .map_err(Error::raced)?;
    Ok(())
}

/// The same move further on, or the guest's next one under the same report.
async fn update_move(tx: &mut Tx, ours: &Vmove, vmove: &Vmove, row: &VmoveRow, now: Stamp) -> Result<()> {
    let sql = "UPDATE vmoves SET id = ?, instance_name = ?, source_host = ?, dest_host = ?, status = ?, message = ?, \
               start_time = ?, end_time = ?, stage = ?, body = ?, updated_at = ? WHERE id = ?";
    let values = args![
        vmove.id,
        &vmove.instance_name,
        &vmove.source_host,
        vmove.dest_host.clone(),
        vmove.status.as_str(),
        vmove.message.clone(),
        vmove.start_time,
        vmove.end_time,
        vmove.stage.as_str(),
        to_json(vmove),
        row.common.updated_at.or(Some(now)),
        ours.id
    ];
    tx.exec(sql, values).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::rows::stamp;
    use super::*;

    #[test]
    fn a_time_is_written_as_it_was_read() {
        for text in
            ["1970-01-01 00:00:00", "2024-02-29 23:59:59", "2026-12-31 06:07:08", "2000-03-01 00:00:00"]
        {
            assert_eq!(literal(stamp(text).expect("a time")), text);
        }
    }
}

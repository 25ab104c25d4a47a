//! Segments and hosts: few, changed by both sides, and what everything else hangs on. One transaction.

use std::collections::{BTreeMap, HashMap};

use halberd_core::host::Admission;
use halberd_core::id::{HostId, SegmentId};
use halberd_core::segment::RecoveryMethod;
use halberd_core::time::Stamp;
use uuid::Uuid;

use super::compare::{Verdict, ours_host, ours_segment, remember, verdict};
use super::error::ImportError;
use super::report::{OnMaintenance, Renumbered, Report, Table};
use super::rows::{Cells, HostRow, SegmentRow};
use super::schema::{HOSTS, SEGMENTS, Schema};
use super::source::Source;
use crate::dialect::Dialect;
use crate::error::{Error, Result};
use crate::transaction::{Tx, first};
use crate::value::args;
use crate::{hosts, segments};

/// Every segment and host of the source that can be read.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    segments: Vec<SegmentRow>,
    hosts: Vec<HostRow>,
    /// Where a host stands in `hosts`: every notification asks.
    places: HashMap<Uuid, usize>,
}

impl Topology {
    /// Reads both tables whole; a row that cannot be read is left.
    pub async fn read(
        source: &mut Source,
        schema: &Schema,
        report: &mut Report,
    ) -> Result<Topology, ImportError> {
        let (sql, kinds) = schema.select(&SEGMENTS, "ORDER BY id");
        let mut topology = Topology { segments: Vec::new(), hosts: Vec::new(), places: HashMap::new() };
        for row in source.rows(sql, &kinds).await? {
            let cells = Cells::new(&SEGMENTS, &row);
            match SegmentRow::read(&cells) {
                Ok(segment) => topology.segments.push(segment),
                Err(reason) => report.leave(Table::Segments, cells.key("uuid"), reason),
            }
        }
        let (sql, kinds) = schema.select(&HOSTS, "ORDER BY id");
        for row in source.rows(sql, &kinds).await? {
            let cells = Cells::new(&HOSTS, &row);
            match HostRow::read(&cells) {
                Ok(host) => {
                    topology.places.insert(host.uuid, topology.hosts.len());
                    topology.hosts.push(host);
                }
                Err(reason) => report.leave(Table::Hosts, cells.key("uuid"), reason),
            }
        }
        Ok(topology)
    }

    /// Name and segment of a host, deleted ones included.
    pub fn host(&self, id: Uuid) -> Option<(&str, Uuid)> {
        let host = self.places.get(&id).and_then(|place| self.hosts.get(*place))?;
        Some((&host.name, host.segment))
    }

    pub fn method(&self, segment: Uuid) -> Option<RecoveryMethod> {
        self.segments.iter().find(|known| known.uuid == segment).map(|known| known.method)
    }

    /// Brings ours up to date, as far as ours is as an import left it.
    pub async fn merge(&self, tx: &mut Tx, now: Stamp) -> Result<Report> {
        let mut report = Report::default();
        let mut late: Vec<&SegmentRow> = Vec::new();
        let highest = self.segments.iter().map(|row| row.common.num).max().unwrap_or(0);
        for row in &self.segments {
            let ours = ours_segment(tx, row.uuid).await?;
            match verdict(tx, "segment", row.uuid, &row.print(), ours, now).await? {
                // A segment goes after its hosts.
                Verdict::TakeTheirs { .. } if row.common.deleted => late.push(row),
                Verdict::New => create_segment(tx, row, highest, &mut report, now).await?,
                verdict => settle_segment(tx, row, verdict, &mut report, now).await?,
            }
        }
        self.merge_hosts(tx, &mut report, now).await?;
        for row in late {
            let ours = ours_segment(tx, row.uuid).await?;
            let verdict = match verdict(tx, "segment", row.uuid, &row.print(), ours, now).await? {
                Verdict::TakeTheirs { .. } if has_hosts(tx, row.uuid).await? => {
                    Verdict::Leave("it is deleted in the source and still has hosts here; delete it here")
                }
                verdict => verdict,
            };
            settle_segment(tx, row, verdict, &mut report, now).await?;
        }
        Ok(report)
    }

    async fn merge_hosts(&self, tx: &mut Tx, report: &mut Report, now: Stamp) -> Result<()> {
        let names: BTreeMap<Uuid, &str> =
            self.segments.iter().map(|segment| (segment.uuid, segment.name.as_str())).collect();
        let highest = self.hosts.iter().map(|row| row.common.num).max().unwrap_or(0);
        for row in &self.hosts {
            let ours = ours_host(tx, row.uuid).await?;
            match verdict(tx, "host", row.uuid, &row.print(), ours, now).await? {
                Verdict::New => create_host(tx, row, highest, report, now).await?,
                verdict => settle_host(tx, row, verdict, report, now).await?,
            }
        }
        for row in self.hosts.iter().filter(|row| row.on_maintenance && !row.common.deleted) {
            let sql = "SELECT 1 AS n FROM hosts WHERE id = ? AND deleted = 0 AND maintenance_operator = 1";
            if first(&mut &mut *tx, sql, args![row.uuid]).await?.is_some() {
                report.on_maintenance.push(OnMaintenance {
                    segment: names
                        .get(&row.segment)
                        .map_or_else(|| row.segment.to_string(), |name| (*name).into()),
                    host: row.name.clone(),
                    uuid: row.uuid.to_string(),
                });
            }
        }
        Ok(())
    }
}

async fn create_segment(
    tx: &mut Tx,
    row: &SegmentRow,
    highest: i64,
    report: &mut Report,
    now: Stamp,
) -> Result<()> {
    let shown = named(row.uuid, &row.name);
    if !row.common.deleted
        && let Some(other) = living(tx, "segments", &row.name, row.uuid).await?
    {
        report.leave(
            Table::Segments,
            shown,
            format!("a segment of this name exists here ({other}); rename one of them"),
        );
        return Ok(());
    }
    let num = num(tx, "segments", row.common.num, highest).await?;
    tx.exec(
        "INSERT INTO segments (num, id, name, description, service_type, recovery_method, enabled, created_at, updated_at, \
         deleted_at, deleted) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            num,
            row.uuid,
            &row.name,
            row.description.clone(),
            &row.service_type,
            row.method.as_str(),
            row.enabled,
            row.common.created_at.unwrap_or(now),
            row.common.updated_at,
            deleted_at(row.common.deleted, row.common.deleted_at, now),
            if row.common.deleted { num } else { 0 }
        ],
    )
    .await
    .map_err(Error::raced)?;
    remember(tx, "segment", row.uuid, &row.print(), now).await?;
    took(report, Table::Segments, shown, row.common.deleted, row.common.num, num);
    Ok(())
}

async fn settle_segment(
    tx: &mut Tx,
    row: &SegmentRow,
    verdict: Verdict,
    report: &mut Report,
    now: Stamp,
) -> Result<()> {
    let shown = named(row.uuid, &row.name);
    match verdict {
        Verdict::New => return Err(Error::Conflict { attempts: 1, source: None }),
        Verdict::Same => report.segments.already_there += 1,
        Verdict::KeepOurs => report.segments.kept_ours += 1,
        Verdict::Leave(why) => report.leave(Table::Segments, shown, why),
        Verdict::TakeTheirs { .. } => {
            if let Err(why) = unless_in_use(segments_free(tx, row.uuid).await)? {
                report.leave(Table::Segments, shown, why);
            } else if !row.common.deleted
                && let Some(other) = living(tx, "segments", &row.name, row.uuid).await?
            {
                let why = format!("its new name belongs to another segment here ({other})");
                report.leave(Table::Segments, shown, why);
            } else {
                tx.exec(
                    "UPDATE segments SET name = ?, description = ?, service_type = ?, recovery_method = ?, enabled = ?, \
                     updated_at = ?, deleted_at = ?, deleted = CASE WHEN ? = 1 THEN num ELSE 0 END WHERE id = ?",
                    args![
                        &row.name,
                        row.description.clone(),
                        &row.service_type,
                        row.method.as_str(),
                        row.enabled,
                        row.common.updated_at.or(Some(now)),
                        deleted_at(row.common.deleted, row.common.deleted_at, now),
                        row.common.deleted,
                        row.uuid
                    ],
                )
                .await?;
                remember(tx, "segment", row.uuid, &row.print(), now).await?;
                report.segments.changed += 1;
            }
        }
    }
    Ok(())
}

async fn create_host(
    tx: &mut Tx,
    row: &HostRow,
    highest: i64,
    report: &mut Report,
    now: Stamp,
) -> Result<()> {
    let shown = named(row.uuid, &row.name);
    if let Some(why) = homeless(tx, row).await? {
        report.leave(Table::Hosts, shown, why);
        return Ok(());
    }
    if !row.common.deleted
        && let Some(other) = living(tx, "hosts", &row.name, row.uuid).await?
    {
        report.leave(Table::Hosts, shown, format!("a host of this name exists here ({other}); ours stands"));
        return Ok(());
    }
    let num = num(tx, "hosts", row.common.num, highest).await?;
    tx.exec(
        "INSERT INTO hosts (num, id, segment, name, kind, control_attributes, reserved, maintenance_operator, \
         maintenance_recovery, maintenance_process, admission, boot_number, retired_boots, ever_agent, set_disabled, \
         set_forced_down, version, created_at, updated_at, deleted_at, deleted) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, 0, '[]', 0, 0, 0, 1, ?, ?, ?, ?)",
        args![
            num,
            row.uuid,
            row.segment,
            &row.name,
            &row.kind,
            &row.control_attributes,
            row.reserved,
            row.on_maintenance,
            Admission::In.as_str(),
            row.common.created_at.unwrap_or(now),
            row.common.updated_at,
            deleted_at(row.common.deleted, row.common.deleted_at, now),
            if row.common.deleted { num } else { 0 }
        ],
    )
    .await
    .map_err(Error::raced)?;
    remember(tx, "host", row.uuid, &row.print(), now).await?;
    took(report, Table::Hosts, shown, row.common.deleted, row.common.num, num);
    Ok(())
}

async fn settle_host(
    tx: &mut Tx,
    row: &HostRow,
    verdict: Verdict,
    report: &mut Report,
    now: Stamp,
) -> Result<()> {
    let shown = named(row.uuid, &row.name);
    let version = match verdict {
        Verdict::New => return Err(Error::Conflict { attempts: 1, source: None }),
        Verdict::Same => {
            report.hosts.already_there += 1;
            return Ok(());
        }
        Verdict::KeepOurs => {
            report.hosts.kept_ours += 1;
            return Ok(());
        }
        Verdict::Leave(why) => {
            report.leave(Table::Hosts, shown, why);
            return Ok(());
        }
        Verdict::TakeTheirs { version } => version,
    };
    let free = hosts::check_free(&mut *tx, HostId(row.uuid)).await;
    let why = match unless_in_use(free)? {
        Err(why) => Some(why),
        Ok(()) if row.common.deleted => None,
        Ok(()) => match (homeless(tx, row).await?, living(tx, "hosts", &row.name, row.uuid).await?) {
            (Some(why), _) => Some(why),
            (None, Some(other)) => Some(format!("its new name belongs to another host here ({other})")),
            (None, None) => None,
        },
    };
    if let Some(why) = why {
        report.leave(Table::Hosts, shown, why);
        return Ok(());
    }
    // Setting `reserved` by hand ends a recovery's hold on it, as in v1.
    let changed = tx
        .exec(
            "UPDATE hosts SET segment = ?, name = ?, kind = ?, control_attributes = ?, \
             reserved_by = CASE WHEN reserved = ? THEN reserved_by ELSE NULL END, reserved = ?, maintenance_operator = ?, \
             updated_at = ?, deleted_at = ?, deleted = CASE WHEN ? = 1 THEN num ELSE 0 END, version = version + 1 \
             WHERE id = ? AND version = ?",
            args![
                row.segment,
                &row.name,
                &row.kind,
                &row.control_attributes,
                row.reserved,
                row.reserved,
                row.on_maintenance,
                row.common.updated_at.or(Some(now)),
                deleted_at(row.common.deleted, row.common.deleted_at, now),
                row.common.deleted,
                row.uuid,
                version
            ],
        )
        .await?;
    if changed != 1 {
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    remember(tx, "host", row.uuid, &row.print(), now).await?;
    report.hosts.changed += 1;
    Ok(())
}

async fn segments_free(tx: &mut Tx, id: Uuid) -> Result<()> {
    segments::get(&mut *tx, SegmentId(id)).await.map(drop).or_else(|error| match error {
        Error::NotFound { .. } => Ok(()),
        other => Err(other),
    })?;
    hosts::check_segment_free(&mut *tx, SegmentId(id)).await
}

/// A row under recovery is left for the next run; any other error ends this one.
fn unless_in_use(free: Result<()>) -> Result<std::result::Result<(), String>> {
    match free {
        Ok(()) => Ok(Ok(())),
        Err(Error::InUse { why, .. }) => Ok(Err(format!("{why}; run the import again when that is over"))),
        Err(other) => Err(other),
    }
}

async fn homeless(tx: &mut Tx, row: &HostRow) -> Result<Option<String>> {
    let sql = "SELECT id, deleted FROM segments WHERE id = ?";
    let Some(segment) = first(&mut &mut *tx, sql, args![row.segment]).await? else {
        return Ok(Some(format!("its segment {} was not taken or is not in the source", row.segment)));
    };
    let gone = segment.of("segments", "id").flag("deleted")?;
    Ok((gone && !row.common.deleted).then(|| format!("its segment {} is deleted here", row.segment)))
}

async fn living(tx: &mut Tx, table: &'static str, name: &str, but: Uuid) -> Result<Option<String>> {
    let sql = match table {
        "segments" => "SELECT id FROM segments WHERE name = ? AND deleted = 0 AND id <> ?",
        _ => "SELECT id FROM hosts WHERE name = ? AND deleted = 0 AND id <> ?",
    };
    let row = first(&mut &mut *tx, sql, args![name, but]).await?;
    row.map(|row| row.of("hosts", "id").string("id")).transpose()
}

async fn has_hosts(tx: &mut Tx, segment: Uuid) -> Result<bool> {
    let sql = "SELECT 1 AS n FROM hosts WHERE segment = ? AND deleted = 0 LIMIT 1";
    Ok(first(&mut &mut *tx, sql, args![segment]).await?.is_some())
}

/// The source's own number, or where another row has it, one above every number here and in the source, so that no row still to come
/// wants it. AUTOINCREMENT goes on above the greatest.
pub(super) async fn num(tx: &mut Tx, table: &str, wanted: i64, highest: i64) -> Result<i64> {
    let taken = sqlx::AssertSqlSafe(format!("SELECT 1 AS n FROM {table} WHERE num = ?"));
    let mut given = wanted;
    if first(&mut &mut *tx, taken, args![wanted]).await?.is_some() {
        let greatest = sqlx::AssertSqlSafe(format!("SELECT COALESCE(MAX(num), 0) AS n FROM {table}"));
        let ours = first(&mut &mut *tx, greatest, args![]).await?.map_or(0, |row| row.first_int());
        given = ours.max(highest) + 1;
    }
    if tx.dialect() == Dialect::Postgres {
        // The others count on from the greatest number by themselves.
        let sequence = format!("pg_get_serial_sequence('{table}', 'num')");
        let skip = format!("SELECT setval({sequence}, GREATEST(nextval({sequence}), ?)) AS n");
        first(&mut &mut *tx, sqlx::AssertSqlSafe(skip), args![given]).await?;
    }
    Ok(given)
}

fn deleted_at(deleted: bool, at: Option<Stamp>, now: Stamp) -> Option<Stamp> {
    deleted.then(|| at.unwrap_or(now))
}

fn named(id: Uuid, name: &str) -> String {
    format!("{id} ({name})")
}

pub(super) fn took(report: &mut Report, table: Table, row: String, deleted: bool, was: i64, is: i64) {
    let counts = report.of_mut(table);
    counts.taken += 1;
    counts.deleted += u64::from(deleted);
    if was != is {
        report.renumbered.push(Renumbered { table, row, was, is });
    }
}

//! Inbound reports, and the rule that keeps one outage from being reported twice (contract 1.12, DESIGN 10.9).
//!
//! Equal reports race for one row in `duplicates`, so of any number that arrive at once exactly one is accepted. A report that
//! is turned away leaves no notification but always a row of evidence: it may be the second sight somebody waits for.

use std::time::Duration;

use halberd_core::id::{HostId, NotificationId, RecoveryId, SegmentId};
use halberd_core::notification::{Claim, Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::recovery::Recovery;
use halberd_core::time::Stamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;

use crate::bus;
use crate::error::{Error, Result};
use crate::evidence;
use crate::legible::{legible, legible_from};
use crate::list::{Filter, Page, Stored, Table, list as run_list};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Arg, Row, args, json as to_json};

const TABLE: Table = Table {
    what: "notification",
    from: "notifications",
    select: "num, id, kind, host, segment, generated_at, payload, origin, status, message, created_at, updated_at",
    id: "id",
    created: "created_at",
    columns: &[
        ("id", "num"),
        ("notification_uuid", "id"),
        ("generated_time", "generated_at"),
        ("source_host_uuid", "host"),
        ("type", "kind"),
        ("payload", "payload"),
        ("status", "status"),
        ("failover_segment_uuid", "segment"),
        ("message", "COALESCE(message, '')"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        // Reports are never deleted; v1 sorts by these all the same.
        ("deleted_at", "created_at"),
        ("deleted", "created_at"),
    ],
};

/// v1's filters; `None` does not filter, an unknown word finds nothing.
#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    pub host: Option<HostId>,
    /// v1's `source_host_uuid` as given, when it need not be an id.
    pub host_text: Option<String>,
    pub kind: Option<String>,
    pub status: Option<String>,
    pub generated_since: Option<Stamp>,
    pub segment: Option<SegmentId>,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Accepted(Stored<Notification>),
    /// Turned away (409); `of` is the notification that stands for it, where one is known.
    Duplicate {
        of: Option<NotificationId>,
        why: String,
    },
}

/// Takes a report in: as a new notification, or as evidence when it is a duplicate. Commit either.
///
/// `window` is v1's `duplicate_notification_detection_interval` (180 s): an equal report is a duplicate while both its
/// `generated_time` and its receipt lie within it. That a host is down is a duplicate only while an earlier such report is
/// open, its recovery is, or the host is still out.
pub async fn receive(tx: &mut Tx, report: &Notification, window: Duration, now: Stamp) -> Result<Received> {
    let hash = duplicate_key(report);
    let seen = first(
        &mut &mut *tx,
        "SELECT * FROM duplicates WHERE host = ? AND kind = ? AND payload_hash = ?",
        args![report.host, report.kind.as_str(), &hash],
    )
    .await?;
    let why = match report.claim() {
        Claim::HostDown => host_down_open(tx, report.host, &hash).await?,
        _ => seen.as_ref().map(|row| within(row, report, window, now)).transpose()?.flatten(),
    };
    if let Some(why) = why {
        let of = seen.map(|row| row.of("duplicates", "host").id("notification")).transpose()?;
        leave_evidence(tx, report, of, &why, now).await?;
        return Ok(Received::Duplicate { of, why });
    }
    match seen {
        Some(row) => {
            let version = row.of("duplicates", "host").int("version")?;
            let won = tx
                .exec(
                    "UPDATE duplicates SET last_at = ?, last_generated_at = ?, notification = ?, version = version + 1 \
                     WHERE host = ? AND kind = ? AND payload_hash = ? AND version = ?",
                    args![now, report.generated_at, report.id, report.host, report.kind.as_str(), &hash, version],
                )
                .await?;
            if won != 1 {
                return Err(Error::Conflict { attempts: 1, source: None });
            }
        }
        None => {
            tx.exec(
                "INSERT INTO duplicates (host, kind, payload_hash, notification, last_at, last_generated_at, version) \
                 VALUES (?, ?, ?, ?, ?, ?, 1)",
                args![report.host, report.kind.as_str(), &hash, report.id, now, report.generated_at],
            )
            .await
            .map_err(Error::raced)?;
        }
    }
    insert(tx, report, None, now).await?;
    Ok(Received::Accepted(get(&mut *tx, report.id).await?))
}

/// What makes two reports equal. That a host is down is one claim, whatever else its payload says.
pub(crate) fn duplicate_key(report: &Notification) -> String {
    let text = match report.claim() {
        Claim::HostDown => "host down".to_owned(),
        _ => to_json(&report.payload),
    };
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn host_down_open(tx: &mut Tx, host: HostId, hash: &str) -> Result<Option<String>> {
    let sql = "SELECT 'an earlier report of it is open' AS why FROM notifications \
               WHERE host = ? AND payload_hash = ? AND status IN ('new', 'running', 'error') \
               UNION ALL SELECT 'its recovery is open' FROM recoveries WHERE open_key = ? \
               UNION ALL SELECT 'the host is still out' FROM hosts WHERE id = ? AND admission = 'out' LIMIT 1";
    let row = first(&mut &mut *tx, sql, args![host, hash, format!("host:{host}"), host]).await?;
    row.map(|row| row.of("notifications", "why").string("why")).transpose()
}

fn within(row: &Row, report: &Notification, window: Duration, now: Stamp) -> Result<Option<String>> {
    let row = row.of("duplicates", "host");
    let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
    let by_reporter = row.int("last_generated_at")? >= report.generated_at.0.saturating_sub(window);
    let by_server = row.int("last_at")? >= now.0.saturating_sub(window);
    Ok((by_reporter && by_server).then(|| "an equal report was accepted just before".to_owned()))
}

async fn leave_evidence(
    tx: &mut Tx,
    report: &Notification,
    of: Option<NotificationId>,
    why: &str,
    now: Stamp,
) -> Result<()> {
    let piece = evidence::NewEvidence {
        host: report.host,
        notification: of,
        source: evidence::REPEAT.to_owned(),
        class: None,
        text: format!("{} was reported again by {} and turned away: {why}", report.kind, report.origin),
        detail: json!({
            "type": report.kind, "payload": report.payload, "generated_at": report.generated_at, "origin": report.origin,
        }),
    };
    evidence::insert(tx, &piece, now).await
}

/// Inserts a report that no duplicate rule governs: an engine's own verdict.
pub(crate) async fn insert(
    tx: &mut Tx,
    report: &Notification,
    recovery: Option<RecoveryId>,
    now: Stamp,
) -> Result<()> {
    tx.exec(
        "INSERT INTO notifications (id, kind, host, segment, generated_at, payload, payload_hash, origin, status, message, \
         recovery, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        args![
            report.id,
            report.kind.as_str(),
            report.host,
            report.segment,
            report.generated_at,
            to_json(&report.payload),
            duplicate_key(report),
            report.origin.as_str(),
            report.status.as_str(),
            report.message.clone(),
            recovery,
            now
        ],
    )
    .await?;
    if tx.speaks() {
        let stored = get(&mut *tx, report.id).await?;
        bus::report_done(tx, &stored, now).await?;
    }
    Ok(())
}

pub async fn get(mut on: impl Read, id: NotificationId) -> Result<Stored<Notification>> {
    let row = first(&mut on, "SELECT * FROM notifications WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("notification", id))?)
}

/// By v1's rules.
pub async fn list(
    mut on: impl Read,
    filter: &NotificationFilter,
    page: &Page,
) -> Result<Vec<Stored<Notification>>> {
    let mut by = Filter::default();
    by.and_some("host = ?", filter.host)
        .and_some("host = ?", filter.host_text.as_deref())
        .and_some("kind = ?", filter.kind.as_deref())
        .and_some("status = ?", filter.status.as_deref())
        .and_some("generated_at >= ?", filter.generated_since)
        .and_some("segment = ?", filter.segment);
    legible(&run_list(&mut on, &TABLE, by, page).await?, read)
}

/// Reports that no engine has taken up, oldest first.
pub async fn list_new(mut on: impl Read, limit: u32) -> Result<Vec<Stored<Notification>>> {
    let sql = "SELECT * FROM notifications WHERE status = 'new' AND num > ? ORDER BY num LIMIT ?";
    legible_from(&mut on, sql, 0, limit, read).await
}

/// The recovery a report led to or joined.
pub async fn recovery_of(mut on: impl Read, id: NotificationId) -> Result<Option<RecoveryId>> {
    let row = first(&mut on, "SELECT id, recovery FROM notifications WHERE id = ?", args![id]).await?;
    row.ok_or_else(|| Error::not_found("notification", id))?.of("notifications", "id").opt_id("recovery")
}

/// Settles a report that leads to no recovery, from the status it was read with. `false`: somebody else settled it.
pub async fn settle(
    tx: &mut Tx,
    id: NotificationId,
    from: NotificationStatus,
    to: NotificationStatus,
    message: Option<&str>,
    now: Stamp,
) -> Result<bool> {
    let sql = "UPDATE notifications SET status = ?, message = COALESCE(?, message), updated_at = ? WHERE id = ? AND status = ?";
    let settled = tx.exec(sql, args![to.as_str(), message, now, id, from.as_str()]).await? == 1;
    if settled {
        tell(tx, &[(id, from)], now).await?;
    }
    Ok(settled)
}

/// Lets a report join an open recovery: it ends as that ends. Where that has done all that v1 knows of, the report has ended.
///
/// The recovery's row is written too (a microsecond of its display time), so that a close on another connection or another Galera
/// node comes wholly before, and this unit runs again, or wholly after, and takes this report along: else it would run for ever (I27).
pub async fn join(tx: &mut Tx, id: NotificationId, recovery: RecoveryId, now: Stamp) -> Result<bool> {
    let hold = "UPDATE recoveries SET updated_at = updated_at + 1 WHERE id = ? AND open_key IS NOT NULL";
    if tx.exec(hold, args![recovery]).await? != 1 {
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    let sql = "UPDATE notifications SET recovery = ?, updated_at = ?, \
               status = CASE WHEN EXISTS (SELECT 1 FROM recoveries WHERE id = ? AND state = 'returning') THEN 'finished' \
               ELSE 'running' END WHERE id = ? AND status = 'new'";
    let joined = tx.exec(sql, args![recovery, now, recovery, id]).await? == 1;
    if joined {
        tell(tx, &[(id, NotificationStatus::New)], now).await?;
    }
    Ok(joined)
}

/// The report behind a recovery that opens takes its status. `own`: an engine's, written by the same transaction.
pub(crate) async fn take_up(tx: &mut Tx, recovery: &Recovery, own: bool, now: Stamp) -> Result<()> {
    let id = recovery.notification;
    let before = match own {
        true => vec![(id, NotificationStatus::New)],
        false => statuses(tx, "id", id).await?,
    };
    tx.exec(
        "UPDATE notifications SET status = ?, recovery = ?, updated_at = ? WHERE id = ?",
        args![recovery.word().notification_status().as_str(), recovery.id, now, id],
    )
    .await?;
    tell(tx, &before, now).await
}

/// Every report of a recovery takes its status.
pub(crate) async fn follow(
    tx: &mut Tx,
    recovery: RecoveryId,
    status: NotificationStatus,
    message: Option<&str>,
    now: Stamp,
) -> Result<()> {
    let before = statuses(tx, "recovery", recovery).await?;
    let sql = "UPDATE notifications SET status = ?, message = COALESCE(?, message), updated_at = ? WHERE recovery = ?";
    tx.exec(sql, args![status.as_str(), message, now, recovery]).await?;
    tell(tx, &before, now).await
}

/// What reports stand at before they change, where somebody is told of the change.
async fn statuses(
    tx: &mut Tx,
    by: &'static str,
    id: impl Into<Arg>,
) -> Result<Vec<(NotificationId, NotificationStatus)>> {
    if !tx.speaks() {
        return Ok(Vec::new());
    }
    let sql = AssertSqlSafe(format!("SELECT id, status FROM notifications WHERE {by} = ? ORDER BY num"));
    let read = |row: &Row| {
        let row = row.of("notifications", "id");
        Ok((row.id("id")?, row.word("status")?))
    };
    all(&mut &mut *tx, sql, vec![id.into()]).await?.iter().map(read).collect()
}

/// Tells the bus of reports that had these statuses before.
async fn tell(tx: &mut Tx, before: &[(NotificationId, NotificationStatus)], now: Stamp) -> Result<()> {
    if !tx.speaks() {
        return Ok(());
    }
    for (id, status) in before {
        let report = get(&mut *tx, *id).await?;
        bus::report_moved(tx, *status, &report, now).await?;
    }
    Ok(())
}

/// How many reports have each of some statuses; for metrics.
pub async fn count(mut on: impl Read, statuses: &[NotificationStatus]) -> Result<i64> {
    let marks = vec!["?"; statuses.len()].join(", ");
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) AS n FROM notifications WHERE status IN ({marks})"));
    let values = statuses.iter().map(|status| status.as_str().into()).collect();
    Ok(first(&mut on, sql, values).await?.map_or(0, |row| row.first_int()))
}

pub(crate) fn read(row: &Row) -> Result<Stored<Notification>> {
    let row = row.of("notifications", "id");
    let report = Notification {
        id: row.id("id")?,
        kind: row.word::<NotificationType>("kind")?,
        host: row.id("host")?,
        segment: row.id("segment")?,
        generated_at: row.stamp("generated_at")?,
        payload: row.json("payload")?,
        origin: row.word::<Origin>("origin")?,
        status: row.word::<NotificationStatus>("status")?,
        message: row.opt_string("message")?,
    };
    Stored::read(&row, false, report)
}

//! What waits for the message bus. Told by the functions that write segments, hosts and reports themselves, in their
//! transaction (I29), so that no writer can forget it; in a process without `[bus]` nothing is written.
//!
//! A row goes when the broker has confirmed it. As a broker may be away for long, and nobody's recovery may wait for it (L10),
//! the table is bounded: beyond [`Speaker::keep`] the oldest rows are dropped, loudly, and counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::bus::{Action, Fault, Phase, Priority, Row as RowFacts, Subject, message};
use halberd_core::host::Host;
use halberd_core::notification::{Notification, NotificationStatus};
use halberd_core::segment::Segment;
use halberd_core::time::Stamp;
use serde_json::Value;
use uuid::Uuid;

use crate::db::Db;
use crate::error::{Error, Result};
use crate::list::Stored;
use crate::settings;
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

const COLUMNS: &[&str] = &[
    "id",
    "object",
    "publisher",
    "event_type",
    "priority",
    "payload",
    "at",
    "next_at",
    "attempts",
    "version",
];
/// The setting that counts what was dropped.
const DROPPED: &str = "bus_dropped";
/// What a transaction that finds the table full drops: a hundredth at once, so that only one change in many pays for it and one
/// line in the log stands for many messages.
const PORTION: i64 = 100;

/// Who speaks on the bus, and how much may wait for it. Set with [`Db::speak_on_bus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The machine's name: `publisher_id` is `masakari-api:` and this.
    pub host: String,
    /// Most rows that wait.
    pub keep: i64,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub num: i64,
    pub id: Uuid,
    pub object: String,
    pub publisher: String,
    pub event_type: String,
    pub priority: Priority,
    pub payload: Value,
    pub at: Stamp,
    /// Attempts that the broker refused.
    pub attempts: i64,
    pub version: i64,
}

impl Db {
    /// From now on every change through this database, in whichever clone, is told on the bus. The first call counts.
    pub fn speak_on_bus(&self, speaker: Speaker) {
        let _ = self.speaker().set(Arc::new(speaker));
    }

    /// Whether changes are told.
    pub fn speaks_on_bus(&self) -> bool {
        self.speaker().get().is_some()
    }
}

impl<T> Stored<T> {
    /// What the wire shows of the row beside its value.
    pub fn row(&self) -> RowFacts {
        RowFacts {
            num: self.num,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
        }
    }
}

/// That an operation was refused: its start and its error. For whoever refuses; what succeeds tells itself.
pub async fn refused(
    tx: &mut Tx,
    subject: Subject<'_>,
    action: Action,
    fault: &Fault,
    now: Stamp,
) -> Result<()> {
    tell(tx, subject, action, Phase::Start, None, now).await?;
    tell(tx, subject, action, Phase::Error, Some(fault), now).await
}

pub(crate) async fn segment_done(
    tx: &mut Tx,
    action: Action,
    segment: &Stored<Segment>,
    now: Stamp,
) -> Result<()> {
    done(tx, Subject::Segment(&segment.value, Some(segment.row())), action, now).await
}

/// A host whose segment is gone was deleted with it, of which nothing is told (contract 1.10).
pub(crate) async fn host_done(tx: &mut Tx, action: Action, host: &Stored<Host>, now: Stamp) -> Result<()> {
    if !tx.speaks() {
        return Ok(());
    }
    let segment = match crate::segments::get(&mut *tx, host.segment).await {
        Err(Error::NotFound { .. }) => return Ok(()),
        segment => segment?,
    };
    let subject = Subject::Host(&host.value, Some(host.row()), (&segment.value, segment.row()));
    done(tx, subject, action, now).await
}

/// A report came in, with the status it is told with: an engine's own is taken up by the transaction that writes it.
pub(crate) async fn report_done(tx: &mut Tx, report: &Stored<Notification>, now: Stamp) -> Result<()> {
    let fresh = Notification { status: NotificationStatus::New, message: None, ..report.value.clone() };
    done(tx, Subject::Notification(&fresh, Some(report.row())), Action::Create, now).await
}

/// The work on a report began, ended or failed, by how its status changed from `before`.
pub(crate) async fn report_moved(
    tx: &mut Tx,
    before: NotificationStatus,
    report: &Stored<Notification>,
    now: Stamp,
) -> Result<()> {
    for (phase, status) in halberd_core::bus::phases(before, report.status) {
        let report_then = Notification { status, ..report.value.clone() };
        let fault = (phase == Phase::Error).then(|| Fault::of_work(&report_then));
        let subject = Subject::Notification(&report_then, Some(report.row()));
        tell(tx, subject, Action::Process, phase, fault.as_ref(), now).await?;
    }
    Ok(())
}

async fn done(tx: &mut Tx, subject: Subject<'_>, action: Action, now: Stamp) -> Result<()> {
    tell(tx, subject, action, Phase::Start, None, now).await?;
    tell(tx, subject, action, Phase::End, None, now).await
}

async fn tell(
    tx: &mut Tx,
    subject: Subject<'_>,
    action: Action,
    phase: Phase,
    fault: Option<&Fault>,
    now: Stamp,
) -> Result<()> {
    let Some(speaker) = tx.speaker.clone() else { return Ok(()) };
    make_room(tx, speaker.keep, now).await?;
    let message = message(subject, action, phase, fault);
    let row = args![
        Uuid::new_v4(),
        &message.object,
        format!("{}:{}", message.publisher, speaker.host),
        &message.event_type,
        message.priority.as_str(),
        message.payload.to_string(),
        now,
        0i64,
        0i64,
        1i64
    ];
    tx.insert_rows("bus_outbox", COLUMNS, vec![row]).await
}

/// Drops the oldest rows when as many wait as may. The numbers' span is read from the key's two ends and bounds the count.
async fn make_room(tx: &mut Tx, keep: i64, now: Stamp) -> Result<()> {
    if span(&mut *tx).await? < keep || waiting(&mut *tx).await? < keep {
        return Ok(());
    }
    let sql = "DELETE FROM bus_outbox WHERE num IN (SELECT num FROM (SELECT num FROM bus_outbox ORDER BY num LIMIT ?) oldest)";
    let gone = tx.exec(sql, args![(keep / PORTION).max(1)]).await?;
    let before = dropped(&mut *tx).await?;
    let sum = before.saturating_add(i64::try_from(gone).unwrap_or(i64::MAX));
    settings::set(tx, DROPPED, &sum.to_string(), now).await?;
    tracing::error!(
        dropped = gone,
        sum,
        keep,
        "the message bus does not take what is told and the outbox is full: the oldest messages are lost; mend the broker, or raise [bus] keep"
    );
    Ok(())
}

async fn span(mut on: impl Read) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(num), 0) - COALESCE(MIN(num), 1) + 1 AS n FROM bus_outbox";
    Ok(first(&mut on, sql, vec![]).await?.map_or(0, |row| row.first_int()))
}

/// How many messages wait.
pub async fn waiting(mut on: impl Read) -> Result<i64> {
    let sql = "SELECT COUNT(*) AS n FROM bus_outbox";
    Ok(first(&mut on, sql, vec![]).await?.map_or(0, |row| row.first_int()))
}

/// When the oldest message that waits was written, for display; `None`: none waits.
pub async fn oldest(mut on: impl Read) -> Result<Option<Stamp>> {
    let row = first(&mut on, "SELECT MIN(at) AS at FROM bus_outbox", vec![]).await?;
    row.map_or(Ok(None), |row| row.of("bus_outbox", "at").opt_stamp("at"))
}

/// How many were dropped since this database was made, because too many waited.
pub async fn dropped(on: impl Read) -> Result<i64> {
    Ok(settings::get(on, DROPPED).await?.and_then(|(text, _)| text.parse().ok()).unwrap_or(0))
}

/// Whether something may be due: a look that does not write.
pub async fn is_due(mut on: impl Read, now: Stamp) -> Result<bool> {
    let sql = "SELECT 1 AS n FROM bus_outbox WHERE next_at <= ? LIMIT 1";
    Ok(first(&mut on, sql, args![now]).await?.is_some())
}

/// Claims what is due, oldest first, at most `limit`; each is ours for `hold`.
///
/// Messages about one object keep their order whoever sends them: none is claimed while an older one is held by another or waits
/// after a refusal.
pub async fn claim(tx: &mut Tx, limit: u32, hold: Duration, now: Stamp) -> Result<Vec<Waiting>> {
    let sql = "SELECT b.* FROM bus_outbox b WHERE b.next_at <= ? AND NOT EXISTS (SELECT 1 FROM bus_outbox o \
               WHERE o.object = b.object AND o.num < b.num AND o.next_at > ?) ORDER BY b.num LIMIT ?";
    let due = all(&mut &mut *tx, sql, args![now, now, limit]).await?;
    let until = after(now, hold);
    let (mut claimed, mut lost) = (Vec::with_capacity(due.len()), BTreeSet::new());
    for row in &due {
        let mut message = read(row)?;
        if lost.contains(&message.object) {
            continue;
        }
        let sql = "UPDATE bus_outbox SET next_at = ?, version = version + 1 WHERE num = ? AND version = ?";
        if tx.exec(sql, args![until, message.num, message.version]).await? == 1 {
            message.version += 1;
            claimed.push(message);
        } else {
            lost.insert(message.object);
        }
    }
    Ok(claimed)
}

/// Removes what the broker confirmed. A row that another claimed meanwhile stays: it will be sent again with the same id.
pub async fn confirmed(tx: &mut Tx, sent: &[Waiting]) -> Result<()> {
    for message in sent {
        let sql = "DELETE FROM bus_outbox WHERE num = ? AND version = ?";
        tx.exec(sql, args![message.num, message.version]).await?;
    }
    Ok(())
}

/// Gives back what was claimed and not sent: due at once, nothing is held against it.
pub async fn give_back(tx: &mut Tx, unsent: &[Waiting]) -> Result<()> {
    for message in unsent {
        let sql = "UPDATE bus_outbox SET next_at = 0, version = version + 1 WHERE num = ? AND version = ?";
        tx.exec(sql, args![message.num, message.version]).await?;
    }
    Ok(())
}

/// A message that the broker refused by itself: again after `pause`, and what is younger of its object waits for it.
pub async fn postpone(
    tx: &mut Tx,
    message: &Waiting,
    error: &str,
    pause: Duration,
    now: Stamp,
) -> Result<()> {
    let sql = "UPDATE bus_outbox SET next_at = ?, attempts = attempts + 1, last_error = ?, version = version + 1 \
               WHERE num = ? AND version = ?";
    tx.exec(sql, args![after(now, pause), error, message.num, message.version]).await?;
    Ok(())
}

/// Makes everything due. Only for who knows that nobody else publishes: the claims found are those of a process that died.
pub async fn release_all(tx: &mut Tx) -> Result<u64> {
    tx.exec("UPDATE bus_outbox SET next_at = 0, version = version + 1 WHERE next_at > 0", vec![]).await
}

fn after(now: Stamp, span: Duration) -> Stamp {
    Stamp(now.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
}

pub(crate) fn read(row: &Row) -> Result<Waiting> {
    let row = row.of("bus_outbox", "num");
    Ok(Waiting {
        num: row.int("num")?,
        id: row.id("id")?,
        object: row.string("object")?,
        publisher: row.string("publisher")?,
        event_type: row.string("event_type")?,
        priority: row.word::<Priority>("priority")?,
        payload: row.json("payload")?,
        at: row.stamp("at")?,
        attempts: row.int("attempts")?,
        version: row.int("version")?,
    })
}

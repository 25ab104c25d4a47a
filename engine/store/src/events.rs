//! Outbound messages and the outbox. An event is written with the transition it tells of (I29), numbered without gaps within
//! its recovery (I30), and gets one delivery row for each webhook.

use halberd_core::event::{Event, EventKind};
use halberd_core::id::{EventId, RecoveryId};
use halberd_core::time::Stamp;

use crate::error::{Error, Result};
use crate::legible::{legible, legible_from};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

const COLUMNS: &[&str] = &["id", "recovery", "sequence", "epoch", "kind", "subject", "data", "at"];
const DELIVERY: &[&str] =
    &["event", "webhook", "recovery", "state", "attempts", "next_at", "version", "updated_at"];

/// An event as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Grows with each event; the stream resumes by it.
    pub num: i64,
    pub event: Event,
    /// From 1 without gaps within its recovery; `None` for what belongs to none.
    pub sequence: Option<i64>,
    pub epoch: i64,
    pub at: Stamp,
}

/// Writes events and a delivery of each to every webhook named, inside the transaction of what they tell of.
pub async fn publish(
    tx: &mut Tx,
    events: &[Event],
    epoch: i64,
    webhooks: &[String],
    now: Stamp,
) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut recoveries: Vec<RecoveryId> = events.iter().filter_map(|event| event.recovery).collect();
    recoveries.sort_unstable();
    recoveries.dedup();
    let mut sequences = vec![None; events.len()];
    for recovery in recoveries {
        let mine: Vec<usize> = (0..events.len()).filter(|i| events[*i].recovery == Some(recovery)).collect();
        let first = take_sequences(tx, recovery, mine.len() as i64).await?;
        for (sequence, i) in (first..).zip(mine) {
            sequences[i] = Some(sequence);
        }
    }
    let row = |(event, sequence): (&Event, &Option<i64>)| {
        args![
            event.id,
            event.recovery,
            *sequence,
            epoch,
            event.kind.as_str(),
            &event.subject,
            event.data.to_string(),
            now
        ]
    };
    tx.insert_rows("events", COLUMNS, events.iter().zip(&sequences).map(row).collect()).await?;
    let deliver =
        |event: &Event, hook: &String| args![event.id, hook, event.recovery, "pending", 0i64, now, 1i64, now];
    let rows =
        events.iter().flat_map(|event| webhooks.iter().map(move |hook| deliver(event, hook))).collect();
    tx.insert_rows("deliveries", DELIVERY, rows).await
}

/// Takes the next `count` numbers of a recovery's events. The row is locked by its update until the commit.
async fn take_sequences(tx: &mut Tx, recovery: RecoveryId, count: i64) -> Result<i64> {
    let sql = "UPDATE recoveries SET event_sequence = event_sequence + ? WHERE id = ?";
    if tx.exec(sql, args![count, recovery]).await? != 1 {
        return Err(Error::not_found("recovery", recovery));
    }
    let row = first(&mut &mut *tx, "SELECT id, event_sequence FROM recoveries WHERE id = ?", args![recovery])
        .await?;
    let row = row.ok_or_else(|| Error::not_found("recovery", recovery))?;
    Ok(row.of("recoveries", "id").int("event_sequence")? - count + 1)
}

/// Events after a number, oldest first.
pub async fn since(mut on: impl Read, num: i64, limit: u32) -> Result<Vec<EventRow>> {
    let sql = "SELECT * FROM events WHERE num > ? ORDER BY num LIMIT ?";
    legible_from(&mut on, sql, num, limit, read).await
}

/// The newest event's number; 0 when there is none.
pub async fn last(mut on: impl Read) -> Result<i64> {
    let rows = all(&mut on, "SELECT COALESCE(MAX(num), 0) AS num FROM events", vec![]).await?;
    Ok(rows.first().map_or(0, Row::first_int))
}

/// An event by id; its number is where a stream resumes.
pub async fn get(mut on: impl Read, id: EventId) -> Result<EventRow> {
    let row = first(&mut on, "SELECT * FROM events WHERE id = ?", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("event", id))?)
}

/// Every event of a recovery, in order.
pub async fn of_recovery(mut on: impl Read, recovery: RecoveryId) -> Result<Vec<EventRow>> {
    let sql = "SELECT * FROM events WHERE recovery = ? ORDER BY sequence";
    legible(&all(&mut on, sql, args![recovery]).await?, read)
}

/// A recovery whose events are not numbered from 1 without gaps up to what its row says (I30).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub recovery: String,
    /// As the recovery's row says; `None`: there is no such row.
    pub given: Option<i64>,
    pub events: i64,
    /// The highest number found.
    pub last: i64,
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Gap { recovery, events, last, .. } = self;
        match self.given {
            Some(given) => write!(
                f,
                "recovery {recovery} gave its events the numbers up to {given}; {events} are there, the last is {last}"
            ),
            None => write!(f, "{events} events name the recovery {recovery}, which is not there"),
        }
    }
}

/// Every recovery with gaps among its events. What retention is just taking is none.
pub async fn gaps(db: &crate::Db) -> Result<Vec<Gap>> {
    let mut tx = db.snapshot().await?;
    let mut on = &mut tx;
    let leaving = crate::retention::leaving(&mut *on).await?;
    let sql = "SELECT e.recovery, MAX(r.event_sequence) AS given, COUNT(*) AS events, MAX(e.sequence) AS last, \
               COUNT(DISTINCT e.sequence) AS numbers, MIN(e.sequence) AS first FROM events e \
               LEFT JOIN recoveries r ON r.id = e.recovery WHERE e.recovery IS NOT NULL GROUP BY e.recovery \
               HAVING MAX(r.event_sequence) IS NULL OR MAX(r.event_sequence) <> COUNT(*) OR MAX(e.sequence) <> COUNT(*) \
               OR MIN(e.sequence) <> 1 OR COUNT(DISTINCT e.sequence) <> COUNT(*) ORDER BY e.recovery";
    let mut found = Vec::new();
    for row in &all(&mut on, sql, vec![]).await? {
        let row = row.of("events", "recovery");
        let gap = Gap {
            recovery: row.string("recovery")?,
            given: row.opt_int("given")?,
            events: row.int("events")?,
            last: row.opt_int("last")?.unwrap_or(0),
        };
        if gap.given.is_some() || !leaving.contains(&gap.recovery) {
            found.push(gap);
        }
    }
    // Numbers were given, and no event is left.
    let sql = "SELECT r.id, r.event_sequence FROM recoveries r WHERE r.event_sequence > 0 \
               AND NOT EXISTS (SELECT 1 FROM events e WHERE e.recovery = r.id) ORDER BY r.id";
    for row in &all(&mut on, sql, vec![]).await? {
        let row = row.of("recoveries", "id");
        let given = Some(row.int("event_sequence")?);
        found.push(Gap { recovery: row.string("id")?, given, events: 0, last: 0 });
    }
    Ok(found)
}

pub(crate) fn read(row: &Row) -> Result<EventRow> {
    let row = row.of("events", "id");
    let event = Event {
        id: row.id("id")?,
        kind: row.word::<EventKind>("kind")?,
        recovery: row.opt_id("recovery")?,
        subject: row.string("subject")?,
        data: row.json("data")?,
    };
    Ok(EventRow {
        num: row.int("num")?,
        event,
        sequence: row.opt_int("sequence")?,
        epoch: row.int("epoch")?,
        at: row.stamp("at")?,
    })
}

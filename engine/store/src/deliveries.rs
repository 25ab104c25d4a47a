//! The outbox: which webhook still has to be told of which event. At least once, or visibly dead (I29).
//!
//! A claim moves `next_at` ahead by the time one attempt may take; who dies with a claim leaves a row that falls due again.

use std::time::Duration;

use halberd_core::event::Event;
use halberd_core::id::{EventId, RecoveryId};
use halberd_core::text_enum;
use halberd_core::time::Stamp;

use crate::error::Result;
use crate::events::{self, EventRow};
use crate::legible::{legible, or_left};
use crate::transaction::{Read, Tx, all};
use crate::value::{Row, args};

text_enum! {
    /// How far a delivery is.
    pub enum DeliveryState {
        /// Due at `next_at`, or being attempted until then.
        Pending => "pending",
        Delivered => "delivered",
        /// Given up; shown, and sent again on request.
        Dead => "dead",
    }
}

/// So many attempts an older event of the same recovery holds back the younger ones of one webhook, then they go out of
/// order with their sequence (SAFETY 3.4). With retries after 1, 2, 5 and 15 s that is some 23 s.
pub const HEAD_OF_LINE_ATTEMPTS: i64 = 5;

/// A delivery as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRow {
    pub num: i64,
    pub event: EventId,
    pub webhook: String,
    pub recovery: Option<RecoveryId>,
    pub state: DeliveryState,
    /// Attempts that ended so far.
    pub attempts: i64,
    pub next_at: Stamp,
    pub version: i64,
    pub last_error: Option<String>,
    pub updated_at: Stamp,
}

/// A delivery that was claimed, with its event.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub delivery: DeliveryRow,
    pub event: EventRow,
}

impl Claimed {
    pub fn event(&self) -> &Event {
        &self.event.event
    }
}

/// Claims what is due for a webhook, oldest first, at most `limit`; each is ours for `hold`.
///
/// Events of one recovery go out in order: a younger one waits for the older, within [`HEAD_OF_LINE_ATTEMPTS`].
pub async fn claim(
    tx: &mut Tx,
    webhook: &str,
    limit: u32,
    hold: Duration,
    now: Stamp,
) -> Result<Vec<Claimed>> {
    let sql = "SELECT d.* FROM deliveries d WHERE d.webhook = ? AND d.state = 'pending' AND d.next_at <= ? \
               AND (d.recovery IS NULL OR NOT EXISTS (SELECT 1 FROM deliveries o WHERE o.webhook = d.webhook \
                    AND o.recovery = d.recovery AND o.state = 'pending' AND o.num < d.num AND o.attempts < ?)) \
               ORDER BY d.next_at, d.num LIMIT ?";
    let due = all(&mut &mut *tx, sql, args![webhook, now, HEAD_OF_LINE_ATTEMPTS, limit]).await?;
    let until = Stamp(now.0.saturating_add(i64::try_from(hold.as_micros()).unwrap_or(i64::MAX)));
    let mut claimed = Vec::with_capacity(due.len());
    for row in &due {
        let Some(mut delivery) = or_left(read(row))? else { continue };
        let sql = "UPDATE deliveries SET next_at = ?, version = version + 1, updated_at = ? WHERE num = ? AND version = ?";
        if tx.exec(sql, args![until, now, delivery.num, delivery.version]).await? == 1 {
            delivery.version += 1;
            delivery.next_at = until;
            // One of a newer version is left to an engine that can read it: it is due again when this claim has passed.
            let event = or_left(events::get(&mut *tx, delivery.event).await)?;
            claimed.extend(event.map(|event| Claimed { delivery, event }));
        }
    }
    Ok(claimed)
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt<'a> {
    Delivered,
    /// Again at this time.
    Failed {
        error: &'a str,
        next_at: Stamp,
    },
    /// Never again by itself.
    Dead {
        error: &'a str,
    },
}

/// Records an attempt. `false`: another claimed the row meanwhile, its outcome counts.
pub async fn record(tx: &mut Tx, delivery: &DeliveryRow, attempt: Attempt<'_>, now: Stamp) -> Result<bool> {
    let (state, error, next_at) = match attempt {
        Attempt::Delivered => (DeliveryState::Delivered, None, delivery.next_at),
        Attempt::Failed { error, next_at } => (DeliveryState::Pending, Some(error), next_at),
        Attempt::Dead { error } => (DeliveryState::Dead, Some(error), delivery.next_at),
    };
    let sql = "UPDATE deliveries SET state = ?, attempts = attempts + 1, next_at = ?, last_error = ?, \
               version = version + 1, updated_at = ? WHERE num = ? AND version = ?";
    let values = args![state.as_str(), next_at, error, now, delivery.num, delivery.version];
    Ok(tx.exec(sql, values).await? == 1)
}

/// Makes a dead (or waiting) delivery due now. `false`: there is none, or it was delivered.
pub async fn retry(tx: &mut Tx, event: EventId, webhook: &str, now: Stamp) -> Result<bool> {
    let sql = "UPDATE deliveries SET state = 'pending', next_at = ?, version = version + 1, updated_at = ? \
               WHERE event = ? AND webhook = ? AND state <> 'delivered'";
    Ok(tx.exec(sql, args![now, now, event, webhook]).await? == 1)
}

/// The newest deliveries, newest first; `None` does not filter.
pub async fn list(
    mut on: impl Read,
    webhook: Option<&str>,
    state: Option<DeliveryState>,
    limit: u32,
) -> Result<Vec<DeliveryRow>> {
    let sql = "SELECT * FROM deliveries WHERE (? = '' OR webhook = ?) AND (? = '' OR state = ?) ORDER BY num DESC LIMIT ?";
    let (webhook, state) = (webhook.unwrap_or_default(), state.map_or("", DeliveryState::as_str));
    legible(&all(&mut on, sql, args![webhook, webhook, state, state, limit]).await?, read)
}

/// When the oldest pending delivery was made due, for the outbox' age; `None`: nothing is pending.
pub async fn oldest_pending(mut on: impl Read) -> Result<Option<Stamp>> {
    let sql =
        "SELECT MIN(e.at) AS at FROM deliveries d JOIN events e ON e.id = d.event WHERE d.state = 'pending'";
    match all(&mut on, sql, vec![]).await?.first() {
        Some(row) => row.of("deliveries", "at").opt_stamp("at"),
        None => Ok(None),
    }
}

pub(crate) fn read(row: &Row) -> Result<DeliveryRow> {
    let row = row.of("deliveries", "num");
    Ok(DeliveryRow {
        num: row.int("num")?,
        event: row.id("event")?,
        webhook: row.string("webhook")?,
        recovery: row.opt_id("recovery")?,
        state: row.word("state")?,
        attempts: row.int("attempts")?,
        next_at: row.stamp("next_at")?,
        version: row.int("version")?,
        last_error: row.opt_string("last_error")?,
        updated_at: row.stamp("updated_at")?,
    })
}

//! Events, from the outbox table: as a stream that resumes where it broke off, and as a list.

pub(crate) mod stream;

use axum::http::StatusCode;
use halberd_core::id::EventId;
use halberd_store::events::EventRow;
use halberd_store::{Db, Error as StoreError, events};
use halberd_types::halberd::event::Event;
use uuid::Uuid;

use super::input::time;
use super::problem::Failure;

/// An event as stored, shown. What belongs to no recovery is numbered by its row.
pub(crate) fn shown(row: &EventRow) -> Event {
    Event {
        id: row.event.id.0,
        recovery_id: row.event.recovery.map(|id| id.0),
        sequence: row.sequence.unwrap_or(row.num),
        epoch: row.epoch,
        kind: row.event.kind.as_str().to_owned(),
        time: time(row.at),
        subject: row.event.subject.clone(),
        data: row.event.data.clone(),
    }
}

/// The number after which to go on: an event's id, or `0` for the very beginning.
///
/// # Errors
/// 410 when no event has that id: its reader may have missed some, and must know.
pub(crate) async fn place_of(db: &Db, since: &str) -> Result<i64, Failure> {
    if since == "0" {
        return Ok(0);
    }
    let id = Uuid::parse_str(since)
        .map_err(|_| Failure::bad_request("The place to resume from is neither an event's id nor 0."))?;
    match events::get(db, EventId(id)).await {
        Ok(row) => Ok(row.num),
        Err(StoreError::NotFound { .. }) => Err(Failure::new(
            StatusCode::GONE,
            "event-gone",
            "The stream cannot be resumed there",
            format!("No event {id} is stored any more; begin with since=0, or without an id at the present."),
        )),
        Err(error) => Err(error.into()),
    }
}

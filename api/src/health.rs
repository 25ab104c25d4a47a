//! `/healthcheck`: is this process alive, and with `?ready`, would a report be taken and acted upon.
//!
//! Liveness asks nobody: a process that waits for its database must not be restarted for it. Readiness writes a transaction's beginning to the
//! database and looks whether an engine renews its lease. Leases are watched as engines watch each other: by a counter that moves on our
//! own monotonic clock, never by anyone's wall clock (DESIGN 3).
//!
//! A file named in the configuration takes this process out of a load balancer before maintenance, as the original's `disable_by_file` did.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use halberd_core::id::EngineId;
use halberd_store::engines::{self, EngineRow};
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::json;

use crate::app::App;

/// A counter that stands this long is a dead engine's. Twice the slowest takeover (12 s, DESIGN 9), so that a takeover is no alarm.
const STANDSTILL: Duration = Duration::from_secs(24);

/// What this process has seen of engines' leases.
#[derive(Debug, Default)]
pub struct EngineWatch(Mutex<HashMap<EngineId, Seen>>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    counter: i64,
    since: Instant,
    /// The counter was seen to move: it lived under our eyes.
    moved: bool,
}

/// What this process has seen of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its counter moves.
    Moves,
    /// It was seen for the first time a moment ago: nobody can say yet.
    Unknown,
    /// Its counter stands.
    Stands,
    Stopped,
}

impl EngineWatch {
    /// Those of `rows` that are alive as far as we saw. One that is seen for the first time counts as alive: it has not stood still yet.
    pub fn alive<'a>(&self, rows: &'a [EngineRow], now: Instant) -> Vec<&'a EngineRow> {
        let lives = self.lives(rows, now);
        let alive = rows.iter().zip(lives).filter(|(_, life)| matches!(life, Life::Moves | Life::Unknown));
        alive.map(|(row, _)| row).collect()
    }

    /// What was seen of each, in the order of the rows.
    pub fn lives(&self, rows: &[EngineRow], now: Instant) -> Vec<Life> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| rows.iter().any(|row| row.id == *id));
        let mut life = |row: &EngineRow| {
            let first = Seen { counter: row.counter, since: now, moved: false };
            let entry = seen.entry(row.id).or_insert(first);
            if entry.counter != row.counter {
                *entry = Seen { moved: true, ..first };
            }
            if row.stopped_at.is_some() {
                return Life::Stopped;
            }
            match (now.saturating_duration_since(entry.since) < STANDSTILL, entry.moved) {
                (true, true) => Life::Moves,
                (true, false) => Life::Unknown,
                (false, _) => Life::Stands,
            }
        };
        rows.iter().map(&mut life).collect()
    }
}

/// `GET /healthcheck`
pub(crate) async fn show(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Response {
    let asks_ready =
        uri.query().is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("ready")));
    let disabled = app.config.healthcheck_disable_file.as_ref().is_some_and(|file| file.exists());
    let troubles = match (disabled, asks_ready) {
        (true, _) => vec!["DISABLED BY FILE".to_owned()],
        (false, true) => troubles(&app).await,
        (false, false) => Vec::new(),
    };
    let status = if troubles.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let wants_json = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    if wants_json {
        let reasons = if troubles.is_empty() { vec!["OK".to_owned()] } else { troubles };
        return (status, axum::Json(json!({ "detailed": false, "reasons": reasons }))).into_response();
    }
    let text = if troubles.is_empty() { "OK".to_owned() } else { troubles.join("\n") };
    (status, [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], text).into_response()
}

async fn troubles(app: &App) -> Vec<String> {
    if let Err(error) = app.db.ping().await {
        tracing::warn!(%error, "not ready: the database takes no writes");
        return vec!["the database takes no writes".to_owned()];
    }
    match engines::list(&app.db).await {
        Ok(rows) if app.engines.alive(&rows, Instant::now()).is_empty() => {
            vec!["no engine is alive: reports are kept, and nobody acts on them".to_owned()]
        }
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "not ready: the engines cannot be read");
            vec!["the database cannot be read".to_owned()]
        }
    }
}

#[cfg(test)]
mod tests {
    use halberd_core::time::Stamp;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    fn row(id: u128, counter: i64, stopped: bool) -> EngineRow {
        EngineRow {
            name: id.to_string(),
            id: EngineId(Uuid::from_u128(id)),
            counter,
            started_at: Stamp(0),
            renewed_at: Stamp(0),
            stopped_at: stopped.then_some(Stamp(1)),
            detail: Value::Null,
        }
    }

    #[test]
    fn a_counter_that_stands_still_is_dead_and_one_that_moves_is_not() {
        let watch = EngineWatch::default();
        let begin = Instant::now();
        let names = |rows: &[EngineRow], at| {
            watch.alive(rows, at).into_iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&[row(1, 7, false), row(2, 7, false), row(3, 7, true)], begin), "1 2");
        let later = begin + STANDSTILL;
        assert_eq!(names(&[row(1, 8, false), row(2, 7, false), row(3, 7, true)], later), "1");
        assert_eq!(names(&[row(1, 8, false), row(2, 8, false)], later + STANDSTILL / 2), "1 2");
        assert_eq!(names(&[], later), "");
    }

    #[test]
    fn what_was_not_seen_to_move_is_not_known_to_live() {
        let watch = EngineWatch::default();
        let begin = Instant::now();
        assert_eq!(watch.lives(&[row(1, 7, false), row(2, 7, true)], begin), [Life::Unknown, Life::Stopped]);
        assert_eq!(watch.lives(&[row(1, 8, false), row(2, 7, false)], begin), [Life::Moves, Life::Unknown]);
        assert_eq!(watch.lives(&[row(1, 8, false)], begin + STANDSTILL / 2), [Life::Moves]);
        assert_eq!(watch.lives(&[row(1, 8, false)], begin + STANDSTILL), [Life::Stands]);
    }
}

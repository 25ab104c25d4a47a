//! Engines that work on this database.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineState {
    Active,
    /// Listening for its first full window; it does not fence yet (G8).
    QuietStart,
    /// The database shows less than it remembers: it looks and does nothing.
    ReconcileOnly,
    /// Its lease counter no longer moves.
    Silent,
    /// It was seen for the first time a moment ago: whether it lives shows when its lease counter moves.
    Unknown,
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EngineView {
    /// One run of one process.
    pub id: Uuid,
    pub name: String,
    pub state: EngineState,
    pub epoch: i64,
    pub version: String,
    pub started_at: DateTime<Utc>,
    /// When its lease counter last moved, for display.
    pub renewed_at: Option<DateTime<Utc>>,
    /// Recoveries it holds.
    pub recoveries: u64,
    pub reason: Option<String>,
    /// How late its worst timer was, in milliseconds, before it last renewed. These and all below are its own words, as old as
    /// `renewed_at`; null where its version does not say.
    pub lag_ms: Option<u64>,
    /// How long the database took for its last renewal but one, in milliseconds.
    pub round_trip_ms: Option<u64>,
    /// Age of the oldest webhook delivery that waits; null: none waits.
    pub outbox_age_ms: Option<u64>,
    /// Age of the oldest message that waits for the bus; null: none waits.
    pub bus_age_ms: Option<u64>,
    /// Heartbeats it takes.
    pub beats_per_second: Option<f64>,
    /// Why it fences nothing, while it is disarmed.
    pub disarmed: Option<String>,
    /// The workflow version that it drives; recoveries of a newer one it leaves to others.
    pub workflow: Option<u64>,
    /// The database's schema step that it speaks.
    pub schema: Option<i64>,
}

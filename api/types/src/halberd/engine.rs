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
    Stopped,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
}

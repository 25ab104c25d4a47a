//! Agents as the engines see them.
//!
//! "Last seen" is for display. Liveness is judged in memory from beats on the engine's own clock, never from these times.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// Heard in time on every network it has.
    Alive,
    /// Heard, but not on each of its networks.
    Degraded,
    /// Silent longer than the profile allows; its host is being judged.
    Suspect,
    /// The agent is silent while its host shows life.
    AgentLost,
    /// It never sent a beat.
    Never,
    /// It has sent beats, and no engine at work has said anything of it yet.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    pub host_id: Uuid,
    pub host: String,
    pub state: AgentState,
    pub since: Option<DateTime<Utc>>,
    pub boot_id: Option<Uuid>,
    /// The engine's count of this host's boots.
    pub boot_number: Option<i64>,
    pub version: Option<String>,
    /// Starts of guests are held back until this boot is in; absent: its agent did not say.
    pub has_start_gate: Option<bool>,
    pub has_watchdog: Option<bool>,
    /// What each engine at work sees of it.
    pub sights: Vec<EngineSight>,
}

/// One engine's sight of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineSight {
    pub engine: String,
    /// The engine's word: `alive`, `partial`, `silent`, ...
    pub state: String,
    pub since: DateTime<Utc>,
}

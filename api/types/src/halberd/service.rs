//! Services of the control plane under supervision.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    Up,
    /// It answers rightly, but later than its threshold.
    Slow,
    Down,
    /// Not probed yet, or the probe itself could not run.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// As configured.
    pub name: String,
    /// Which probe: keystone, nova, mysql, postgresql, rabbitmq, memcached, ...
    pub kind: String,
    pub state: ServiceState,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    pub targets: Vec<ServiceTarget>,
    pub last_probe: Option<DateTime<Utc>>,
    /// Why it is not up.
    pub reason: Option<String>,
    /// What was last done about it, or would be.
    pub action: Option<ServiceAction>,
}

/// One address that is probed: a VIP or a back-end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceTarget {
    /// Without credentials.
    pub address: String,
    pub state: ServiceState,
    pub since: DateTime<Utc>,
    pub last_probe: Option<DateTime<Utc>>,
    pub latency_ms: Option<u64>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAction {
    /// `restart_unit`, ...
    pub effect: String,
    /// The host it is done on.
    pub host: Option<String>,
    pub unit: Option<String>,
    pub state: ActionState,
    pub at: Option<DateTime<Utc>>,
    /// Why it is withheld or how it ended.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// Allowed, should the service fail.
    Armed,
    Withheld,
    Ongoing,
    Succeeded,
    Failed,
}

//! What was ever done to a host's power, or stated of it, newest first: who, why, what each device answered, how it ended.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FenceActKind {
    Off,
    On,
    /// A person stated that the host is off.
    Stated,
    /// Taken as off without any fencing, as its segment says.
    Waived,
    /// A drill ended; its orders are acts of their own.
    Drill,
}

/// One act. An order stands here from the moment its intent is written, so `result` may be absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FenceAct {
    pub at: DateTime<Utc>,
    pub kind: FenceActKind,
    /// Who or what wanted it, or what was said.
    pub text: String,
    /// The person who asked; `None`: the engine by its own verdict.
    pub actor: Option<String>,
    /// The recovery it belongs to.
    pub recovery: Option<Uuid>,
    /// The owner's epoch under which it was ordered.
    pub epoch: i64,
    /// Counts the orders of a recovery from 1; 0 for what is no order.
    pub attempt: i64,
    /// `done`, `not_proved`, `refused`, `unknown`, `passed`, ...; `None`: under way, or its answer was lost.
    pub result: Option<String>,
    /// What the result says in words, where there are any.
    pub answer: Option<String>,
    /// Each session with a device.
    pub attempts: Vec<FenceAttempt>,
    pub ended_at: Option<DateTime<Utc>>,
    /// From the written order to the stored answer.
    pub took_ms: Option<u64>,
}

/// One session with one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FenceAttempt {
    /// From 0, as in the description.
    pub level: u64,
    /// Kind and address.
    pub device: String,
    /// What became of the order, in words.
    pub order: String,
    pub readings: Vec<PowerReadingView>,
    pub error: Option<String>,
    pub took_ms: u64,
}

/// One reading of the power.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PowerReadingView {
    /// `on`, `off`, or another word of the device.
    pub power: String,
    /// Since the act began.
    pub at_ms: u64,
    /// Asked for after this session's order was accepted: only such readings can prove.
    pub after_order: bool,
}

//! How a decision becomes durable before it becomes a deed: the runner's protocol, pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::audit::Entry;
use crate::event::Event;
use crate::fence::FenceProof;
use crate::host::{Admission, SetByUs};
use crate::id::{BootId, HostId, RecoveryId, VmoveId};
use crate::notification::NotificationStatus;
use crate::recovery::{Recovery, Vmove};

/// An effect that may have happened from now on (I7): committed before the first byte of its call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Also the commit's read-back key and the call's global request id.
    pub id: Uuid,
    pub recovery: Option<RecoveryId>,
    pub host: Option<HostId>,
    pub vmove: Option<VmoveId>,
    /// The effect's word: `power_off`, `evacuate`, ...
    pub effect: String,
    /// UNIQUE while unresolved: `guest:ID` for an evacuation (I8).
    pub open_key: Option<String>,
    pub epoch: i64,
    pub attempt: i64,
    /// What the decision rested on, for `explain`.
    pub detail: Value,
}

/// How an intent ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    pub intent: Uuid,
    /// `done`, `refused`, `unknown`, `adopted`, `retired`.
    pub result: String,
    pub detail: Value,
}

/// What changes on a host's row; everything else on it is somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostPatch {
    pub admission: Option<Admission>,
    pub maintenance_recovery: Option<bool>,
    pub maintenance_process: Option<bool>,
    /// `reserved` and who holds it.
    pub reserved: Option<(bool, Option<RecoveryId>)>,
    pub proof: Option<Option<FenceProof>>,
    pub set_by_us: Option<SetByUs>,
    pub boot: Option<(u32, Option<BootId>)>,
    pub retire_boot: Option<BootId>,
    /// The patch and the whole commit with it holds only if this is so.
    pub only_if: Option<HostCondition>,
}

/// A condition on a host's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostCondition {
    /// Reserved, held by nobody, not on maintenance.
    ReservedAndFree,
    /// Its boot still has this number.
    BootNumber(u32),
    Admission(Admission),
}

/// Everything one transition changes, in one transaction (DESIGN 3): recovery (compare-and-swap on version and epoch), moves,
/// intents, the host's row, the report's status, audit and events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Written to the row; an ambiguous commit is settled by reading it back.
    pub nonce: Uuid,
    /// The new content; `version` is the one expected in the row, `epoch` the writer's.
    pub recovery: Recovery,
    pub vmoves: Vec<Vmove>,
    pub intents: Vec<Intent>,
    pub resolved: Vec<Resolution>,
    pub hosts: Vec<(HostId, HostPatch)>,
    pub notification: Option<(NotificationStatus, Option<String>)>,
    pub audit: Vec<Entry>,
    pub events: Vec<Event>,
}

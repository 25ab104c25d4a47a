//! Outbound messages. An event commits with the transition it tells of (I29); the announcer sends it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{EventId, RecoveryId};
use crate::text_enum;

text_enum! {
    /// What an event tells of. CloudEvents `type` is `halberd.` and this word.
    pub enum EventKind {
        RecoveryOpened => "recovery.opened",
        RecoveryHeld => "recovery.held",
        RecoveryNeedsOperator => "recovery.needs_operator",
        RecoveryResumed => "recovery.resumed",
        RecoveryClosed => "recovery.closed",
        HostFenced => "host.fenced",
        HostReturned => "host.returned",
        DrillEnded => "drill.ended",
        GuestRecovered => "guest.recovered",
        GuestFailed => "guest.failed",
        AgentLost => "agent.lost",
        AgentBack => "agent.back",
        DeviceBad => "fence_device.bad",
        DeviceGood => "fence_device.good",
        ServiceDown => "service.down",
        ServiceUp => "service.up",
        EngineLost => "engine.lost",
        EngineAlone => "engine.alone",
        EngineJoined => "engine.joined",
        /// The database shows less than an engine remembers: nothing is done until the world was looked at.
        DatabaseRewound => "database.rewound",
        ReconcileOnlyLeft => "reconcile_only.left",
        HookFailed => "hook.failed",
    }
}

/// An event before it is stored; the store gives it its sequence within the recovery (I30).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub kind: EventKind,
    pub recovery: Option<RecoveryId>,
    /// What it is about: `host/cmp-01`, `guest/<uuid>`, `service/keystone`.
    pub subject: String,
    pub data: Value,
}

//! One ticket per trouble: which events open it, change it and close it, and the key that makes repeats meet the same one.
//!
//! A recovery's ticket bears the recovery's id. What stands outside recoveries (a service, an agent, a fence device) opens
//! and closes in pairs under its subject. Deliveries are repeated at times, so every receiver is given the key to tell a
//! repeat by.

use halberd_core::event::{Event, EventKind};
use serde::Serialize;

/// What an event does to its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TicketAction {
    Open,
    Update,
    Close,
}

/// A ticket's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticket {
    pub action: TicketAction,
    /// The same from opening to closing.
    pub key: String,
}

/// What an event does to a ticket; `None`: it is only told.
pub fn of(event: &Event) -> Option<Ticket> {
    let action = match event.kind {
        // A device that is ready and has a blemish is told of; nobody is called for it.
        EventKind::DeviceBad if event.data["ready"] == true => return None,
        // Another device of the same host is not ready: its ticket stays.
        EventKind::DeviceGood if event.data["bad"].as_array().is_some_and(|bad| !bad.is_empty()) => {
            TicketAction::Update
        }
        kind => action(kind)?,
    };
    let key = match (event.recovery, event.kind) {
        (Some(recovery), _) => recovery.to_string(),
        (None, EventKind::AgentLost | EventKind::AgentBack) => format!("agent:{}", event.subject),
        (None, EventKind::DeviceBad | EventKind::DeviceGood) => format!("fence_device:{}", event.subject),
        (None, _) => event.subject.clone(),
    };
    Some(Ticket { action, key })
}

/// Whether events of this kind open, change or close a ticket.
pub fn moves(kind: EventKind) -> bool {
    action(kind).is_some()
}

fn action(kind: EventKind) -> Option<TicketAction> {
    use EventKind::*;
    match kind {
        RecoveryOpened | ServiceDown | AgentLost | DeviceBad | DatabaseRewound => Some(TicketAction::Open),
        RecoveryHeld | RecoveryNeedsOperator | RecoveryResumed => Some(TicketAction::Update),
        RecoveryClosed | ServiceUp | AgentBack | DeviceGood | ReconcileOnlyLeft => Some(TicketAction::Close),
        HostFenced | HostReturned | DrillEnded | GuestRecovered | GuestFailed | EngineLost | EngineAlone
        | EngineJoined | HookFailed => None,
    }
}

/// How bad it is, in four words: `critical`, `error`, `warning`, `info`.
pub fn severity(kind: EventKind) -> &'static str {
    use EventKind::*;
    match kind {
        RecoveryOpened | RecoveryNeedsOperator | ServiceDown | DatabaseRewound => "critical",
        GuestFailed | RecoveryHeld | EngineLost | EngineAlone => "error",
        AgentLost | DeviceBad | HostFenced | HookFailed => "warning",
        RecoveryResumed | RecoveryClosed | HostReturned | DrillEnded | GuestRecovered | AgentBack
        | DeviceGood | ServiceUp | EngineJoined | ReconcileOnlyLeft => "info",
    }
}

//! Inbound reports. A notification is a claim, never a command (DESIGN 2.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{HostId, NotificationId, SegmentId};
use crate::text_enum;
use crate::time::Stamp;

text_enum! {
    /// What a report is about.
    pub enum NotificationType {
        ComputeHost => "COMPUTE_HOST",
        Vm => "VM",
        Process => "PROCESS",
    }
}

text_enum! {
    /// v1's status words (DESIGN 10.9).
    pub enum NotificationStatus {
        New => "new",
        Running => "running",
        Error => "error",
        Failed => "failed",
        Ignored => "ignored",
        Finished => "finished",
    }
}

text_enum! {
    /// Who spoke.
    pub enum Origin {
        /// An authorised caller of the API (a Masakari monitor, an operator).
        Caller => "caller",
        /// The host's own agent, signed: it speaks only for itself.
        Agent => "agent",
        /// An engine that formed a verdict from its own sight.
        Engine => "engine",
    }
}

/// A report as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub id: NotificationId,
    pub kind: NotificationType,
    pub host: HostId,
    pub segment: SegmentId,
    /// The reporter's own wall clock; data, never a trigger (W29).
    pub generated_at: Stamp,
    pub payload: BTreeMap<String, String>,
    pub origin: Origin,
    pub status: NotificationStatus,
    pub message: Option<String>,
}

/// What a report asks us to look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    HostDown,
    HostUp,
    GuestDown {
        instance: String,
    },
    ProcessDown {
        name: String,
    },
    ProcessUp {
        name: String,
    },
    /// Nothing to do, with the reason shown to the reporter.
    Nothing(&'static str),
}

impl Notification {
    /// Reads the payload by the contract's tables (sections 2.1-2.3).
    pub fn claim(&self) -> Claim {
        let get = |key: &str| self.payload.get(key).map(String::as_str);
        match self.kind {
            NotificationType::ComputeHost => match (get("event"), get("host_status")) {
                (Some("STOPPED"), Some("NORMAL")) => Claim::HostDown,
                (Some("STARTED"), Some("NORMAL")) => Claim::HostUp,
                (_, Some("UNKNOWN")) => Claim::Nothing("the reporter does not know whether the host is down"),
                _ => Claim::Nothing("the report has no host_status NORMAL"),
            },
            NotificationType::Vm => match (get("event"), get("vir_domain_event"), get("instance_uuid")) {
                (Some("LIFECYCLE" | "QEMU_GUEST_AGENT_ERROR"), Some("STOPPED_FAILED"), Some(id))
                | (Some("IO_ERROR"), Some("IO_ERROR_REPORT"), Some(id)) => {
                    Claim::GuestDown { instance: id.to_owned() }
                }
                _ => Claim::Nothing("this guest event asks for no recovery"),
            },
            NotificationType::Process => match (get("event"), get("process_name")) {
                (Some("STOPPED"), Some(name)) => Claim::ProcessDown { name: name.to_owned() },
                (Some("STARTED"), Some(name)) => Claim::ProcessUp { name: name.to_owned() },
                _ => Claim::Nothing("this process event asks for no recovery"),
            },
        }
    }
}

//! What a notification's payload may hold (contract 1.12 and 2).
//!
//! Two layers, as clients meet them: first any payload is an object of short strings under plain keys; then the type's own schema.
//! Words are matched exactly: `stopped` is no event, whatever the API reference shows.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::body::{Fields, InvalidBody};
use super::notification::NotificationType;
use super::value;

/// A payload as sent. Two payloads are equal when their keys and values are, in any order.
pub type RawPayload = BTreeMap<String, String>;

/// Longest key and value of any payload.
const LONGEST: usize = 255;

/// Checks the rules that hold for every payload.
///
/// # Errors
/// When it is no object, or a key or value breaks its rule.
pub fn parse_raw(value: &Value, path: &str) -> Result<RawPayload, InvalidBody> {
    let map = value.as_object().ok_or_else(|| InvalidBody::field(path, value, "is not of type object"))?;
    map.iter()
        .map(|(key, value)| {
            if !is_key(key) {
                let reason =
                    "has a key that is not 1 to 255 of ASCII letters, digits, '-', '_', ':', '.' and blank";
                return Err(InvalidBody::field(path, &Value::from(key.as_str()), reason));
            }
            let text = value::text(value, 0, LONGEST);
            let text = text.map_err(|reason| InvalidBody::field(format!("{path}.{key}"), value, reason))?;
            Ok((key.clone(), text.to_owned()))
        })
        .collect()
}

fn is_key(key: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.' | b' ');
    (1..=LONGEST).contains(&key.len()) && key.bytes().all(allowed)
}

/// Up or down, of a host or a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartStop {
    Started,
    Stopped,
}

/// The reporter's claim about the machine. Only `Normal` is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatus {
    Normal,
    Unknown,
}

/// The reporter's cluster view: stored and compared for duplicates, otherwise without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterStatus {
    Online,
    Offline,
}

/// A payload by the schema of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    ComputeHost { event: StartStop, host_status: Option<HostStatus>, cluster_status: Option<ClusterStatus> },
    Vm { instance_uuid: Uuid, event: String, vir_domain_event: String },
    Process { event: StartStop, process_name: String },
}

/// Pairs of event and libvirt domain event that mean "this guest is broken" (contract 2.2).
const ACTIONABLE_VM_EVENTS: [(&str, &str); 3] = [
    ("LIFECYCLE", "STOPPED_FAILED"),
    ("IO_ERROR", "IO_ERROR_REPORT"),
    ("QEMU_GUEST_AGENT_ERROR", "STOPPED_FAILED"),
];

const START_STOP: [(&str, StartStop); 2] = [("STARTED", StartStop::Started), ("STOPPED", StartStop::Stopped)];
const HOST_STATUS: [(&str, HostStatus); 2] =
    [("NORMAL", HostStatus::Normal), ("UNKNOWN", HostStatus::Unknown)];
const CLUSTER_STATUS: [(&str, ClusterStatus); 2] =
    [("ONLINE", ClusterStatus::Online), ("OFFLINE", ClusterStatus::Offline)];

impl Payload {
    /// Reads `raw` by the schema of `kind`.
    ///
    /// # Errors
    /// The first key that breaks it, is missing or unknown.
    pub fn parse(kind: NotificationType, raw: &RawPayload) -> Result<Self, InvalidBody> {
        let object = raw.iter().map(|(key, text)| (key.clone(), Value::from(text.as_str()))).collect();
        let object = Value::Object(object);
        let mut fields = Fields::of(&object, "payload")?;
        let payload = match kind {
            NotificationType::ComputeHost => Self::ComputeHost {
                event: fields.require("event", |v| value::word(v, &START_STOP))?,
                host_status: fields.take("host_status", |v| value::word(v, &HOST_STATUS))?,
                cluster_status: fields.take("cluster_status", |v| value::word(v, &CLUSTER_STATUS))?,
            },
            NotificationType::Vm => Self::Vm {
                instance_uuid: fields.require("instance_uuid", value::uuid_like)?,
                event: fields.require("event", free_text)?,
                vir_domain_event: fields.require("vir_domain_event", free_text)?,
            },
            NotificationType::Process => Self::Process {
                event: fields.require("event", |v| value::word(v, &START_STOP))?,
                process_name: fields.require("process_name", free_text)?,
            },
        };
        fields.finish()?;
        Ok(payload)
    }

    /// Whether the original would have acted on it; everything else ends `ignored` (or, for a start, `finished`).
    pub fn claims_failure(&self) -> bool {
        match self {
            Self::ComputeHost { event, host_status, .. } => {
                *event == StartStop::Stopped && *host_status == Some(HostStatus::Normal)
            }
            Self::Vm { event, vir_domain_event, .. } => {
                ACTIONABLE_VM_EVENTS.contains(&(event.as_str(), vir_domain_event.as_str()))
            }
            Self::Process { event, .. } => *event == StartStop::Stopped,
        }
    }
}

fn free_text(value: &Value) -> Result<String, value::Reason> {
    value::text(value, 1, LONGEST).map(str::to_owned)
}

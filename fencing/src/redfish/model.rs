//! The few fields of Redfish documents that a fence reads, taken leniently: a missing mandatory field elsewhere in the
//! document is nobody's business while a host is dying.

use serde_json::Value;
use uuid::Uuid;

use super::quirks;
use crate::error::clip;
use crate::power::{self, Identity, PowerState, RestorePolicy};

/// Longest name, serial number or model that is one. SMBIOS strings on record have some tens of characters; what is longer
/// is rubbish, and rubbish names no machine.
const NAME: usize = 128;

/// A link: `{"@odata.id": "..."}`.
pub(super) fn link(value: &Value) -> Option<&str> {
    value["@odata.id"].as_str().filter(|l| !l.is_empty())
}

/// Links of a collection's members.
pub(super) fn members(collection: &Value) -> Vec<String> {
    collection["Members"].as_array().into_iter().flatten().filter_map(link).map(str::to_owned).collect()
}

/// Literal On and Off; everything else is something else, and named.
pub(super) fn power_state(system: &Value) -> PowerState {
    match system.get("PowerState") {
        None => PowerState::Other("PowerState is absent".into()),
        Some(Value::Null) => PowerState::Other("PowerState is null".into()),
        Some(Value::String(s)) if s == "On" => PowerState::On,
        Some(Value::String(s)) if s == "Off" => PowerState::Off,
        Some(Value::String(s)) => PowerState::Other(clip(&s.chars().take(40).collect::<String>())),
        Some(_) => PowerState::Other("PowerState is no word".into()),
    }
}

/// What the machine does when supply returns.
pub(super) fn restore_policy(system: &Value) -> Option<RestorePolicy> {
    const ALL: [RestorePolicy; 3] =
        [RestorePolicy::AlwaysOff, RestorePolicy::LastState, RestorePolicy::AlwaysOn];
    let word = system["PowerRestorePolicy"].as_str()?;
    ALL.into_iter().find(|policy| policy_word(*policy) == word)
}

/// Redfish's word for it.
pub(super) fn policy_word(policy: RestorePolicy) -> &'static str {
    match policy {
        RestorePolicy::AlwaysOff => "AlwaysOff",
        RestorePolicy::LastState => "LastState",
        RestorePolicy::AlwaysOn => "AlwaysOn",
    }
}

/// Who the system says it is.
pub(super) fn identity(system: &Value) -> Option<Identity> {
    let plain = |s: &&str| !s.is_empty() && s.len() <= NAME && !s.chars().any(char::is_control);
    let text = |key: &str| system[key].as_str().map(str::trim).filter(plain).map(str::to_owned);
    let manufacturer = text("Manufacturer");
    let serial = quirks::serial_properties(manufacturer.as_deref())
        .find_map(|key| power::serial(text(key).as_deref()?));
    let uuid = text("UUID").and_then(|u| Uuid::parse_str(&u).ok()).and_then(power::uuid);
    let identity = Identity { serial, uuid, manufacturer, model: text("Model") };
    identity.names_a_machine().then_some(identity)
}

/// The Reset action of a system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reset {
    pub target: Option<String>,
    /// `None`: not told here.
    pub allowed: Option<Vec<String>>,
    pub action_info: Option<String>,
}

pub(super) fn reset(system: &Value) -> Reset {
    let action = &system["Actions"]["#ComputerSystem.Reset"];
    Reset {
        target: action["target"].as_str().filter(|t| !t.is_empty()).map(str::to_owned),
        allowed: words(&action["ResetType@Redfish.AllowableValues"]),
        action_info: action["@Redfish.ActionInfo"].as_str().map(str::to_owned),
    }
}

/// ResetType's values in an ActionInfo document.
pub(super) fn allowed_by_info(info: &Value) -> Option<Vec<String>> {
    let parameters = info["Parameters"].as_array()?;
    words(&parameters.iter().find(|p| p["Name"] == "ResetType")?["AllowableValues"])
}

fn words(value: &Value) -> Option<Vec<String>> {
    Some(value.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// How a task stands, where a document says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Running,
    Completed,
    Failed(String),
}

/// The task's own words for how it went, the first few (Task.Messages, of the form of an error's ExtendedInfo).
pub(super) fn task_says(document: &Value) -> String {
    let messages = document["Messages"].as_array().into_iter().flatten();
    let texts: Vec<&str> =
        messages.filter_map(|m| m["Message"].as_str().or(m["MessageId"].as_str())).take(2).collect();
    if texts.is_empty() { String::new() } else { format!(": {}", texts.join(" / ")) }
}

pub(super) fn task(document: &Value) -> Option<Task> {
    Some(match document["TaskState"].as_str()? {
        "Completed" => Task::Completed,
        state @ ("Exception" | "Killed" | "Cancelled" | "Interrupted") => Task::Failed(state.to_owned()),
        _ => Task::Running,
    })
}

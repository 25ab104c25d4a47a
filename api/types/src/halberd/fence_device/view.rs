//! How a host's devices are shown: the description masked, and beside each device what its last check found.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{FenceDevices, mask, rules};

/// The answer to GET and PUT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FenceDevicesView {
    pub levels: Vec<FenceLevelView>,
    pub warnings: Vec<String>,
    /// When a drill last turned this host off through its devices and saw it off; `None`: never.
    #[serde(default)]
    pub last_drill_at: Option<DateTime<Utc>>,
    /// After a PUT: the wish that checks the new devices. `GET /halberd/v1/wishes/{check}` tells when it is answered, and GET
    /// shows then what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Uuid>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FenceLevelView {
    pub devices: Vec<FenceDeviceView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FenceDeviceView {
    /// The keys of the PUT, secrets masked.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub device: Map<String, Value>,
    /// `None`: not checked since it was set.
    pub last_check: Option<DeviceCheckView>,
    /// When a drill last turned the machine off through this device and saw it off; `None`: never.
    #[serde(default)]
    pub last_drill_at: Option<DateTime<Utc>>,
}

/// Whether a device could fence if it had to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceCheckView {
    pub at: DateTime<Utc>,
    pub ready: bool,
    /// Since when it is as `ready` says; `None`: not known.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    pub reached: bool,
    pub logged_in: bool,
    /// Serial or uuid it told.
    pub identity: Option<String>,
    /// `None`: nothing on file, or it cannot say.
    pub identity_matches: Option<bool>,
    /// It cannot name its machine: that it switches this one stands on the operator's word alone.
    #[serde(default)]
    pub stated: bool,
    /// `on`, `off`, or another word of the device.
    pub power: Option<String>,
    /// What an off would send through it, in one line without any secret; `None`: nothing would go out.
    #[serde(default)]
    pub would: Option<String>,
    /// What the machine does when its supply returns: `always_off`, `last_state` or `always_on`, where the device says so.
    #[serde(default)]
    pub restore_policy: Option<String>,
    /// Of the device itself, where it says so.
    #[serde(default)]
    pub firmware: Option<String>,
    pub latency_ms: Option<u64>,
    /// The cause, named.
    pub error: Option<String>,
    pub warnings: Vec<String>,
}

impl FenceDeviceView {
    /// Kind and address, as the engine names the device in checks, drills and the history.
    pub fn name(&self) -> String {
        let parts =
            ["type", "program", "address"].into_iter().filter_map(|key| self.device.get(key)?.as_str());
        parts.collect::<Vec<_>>().join(" ")
    }
}

impl FenceDevicesView {
    /// Joins a description with the last check of each device, asked by level and place from 0.
    pub fn of(devices: &FenceDevices, last_check: impl Fn(usize, usize) -> Option<DeviceCheckView>) -> Self {
        let shown = |device: &Map<String, Value>| {
            device.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect()
        };
        let levels = devices.levels.iter().enumerate().map(|(level, list)| FenceLevelView {
            devices: list
                .iter()
                .enumerate()
                .map(|(place, device)| FenceDeviceView {
                    device: shown(device),
                    last_check: last_check(level, place),
                    last_drill_at: None,
                })
                .collect(),
        });
        let warnings = devices.warnings.clone();
        Self { levels: levels.collect(), warnings, last_drill_at: None, check: None }
    }

    /// The same from the description that the store keeps in the open, masked once more.
    pub fn of_stored(masked: &Value, last_check: impl Fn(usize, usize) -> Option<DeviceCheckView>) -> Self {
        let devices_of = |level: &Value| -> Vec<Map<String, Value>> {
            let devices = level["devices"].as_array().into_iter().flatten();
            devices.filter_map(Value::as_object).cloned().collect()
        };
        let levels: Vec<_> = masked["levels"].as_array().into_iter().flatten().map(devices_of).collect();
        let warnings = rules::warnings_of(&levels);
        Self::of(&FenceDevices { levels, warnings }, last_check)
    }

    /// Adds when each device, by its name, last passed a drill.
    #[must_use]
    pub fn with_drills(mut self, drilled: impl Fn(&str) -> Option<DateTime<Utc>>) -> Self {
        for device in self.levels.iter_mut().flat_map(|level| &mut level.devices) {
            device.last_drill_at = drilled(&device.name());
            self.last_drill_at = self.last_drill_at.max(device.last_drill_at);
        }
        self
    }
}

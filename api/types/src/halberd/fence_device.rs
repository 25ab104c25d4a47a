//! Fence devices of a host: `PUT` and `GET /halberd/v1/hosts/{uuid}/fence-devices` (DESIGN 5 and 7).
//!
//! The API checks and seals a description, and only the engine opens it, so what passes here must be what the
//! fencing package reads: the same keys, the same rules (a test holds both against one list of descriptions). Passwords leave a [`FenceDevices`] in one way only, [`FenceDevices::to_sealable`];
//! `Debug`, errors and [`FenceDevices::masked`] never show one.

mod rules;
mod secret;
mod view;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::v1::body::InvalidBody;

pub use secret::{MASK, has_mask, masked};
use secret::{is_secret, shown};
pub use view::{DeviceCheckView, FenceDeviceView, FenceDevicesView, FenceLevelView};

/// By which protocol a device is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    Redfish,
    Ipmi,
    /// A program of the fence-agents family.
    Agent,
    /// Expiry of an attested watchdog's lease.
    Watchdog,
}

/// Levels of devices, checked. All devices of a level must confirm, else the next level is tried.
pub struct FenceDevices {
    levels: Vec<Vec<Map<String, Value>>>,
    warnings: Vec<String>,
}

impl FenceDevices {
    /// Reads the body of the PUT.
    ///
    /// # Errors
    /// Names the place (`levels[0].devices[1].address`) and the reason; the value too, unless the key holds a secret.
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        rules::parse(body)
    }

    /// The whole description with its secrets, as JSON to be sealed at once. Nothing else may be done with it.
    pub fn to_sealable(&self) -> SecretString {
        self.to_json(|_, value| value.clone()).to_string().into()
    }

    /// Reads back what [`FenceDevices::to_sealable`] gave, once unsealed.
    ///
    /// # Errors
    /// When it is not such a text; without a value in the error.
    pub fn from_sealable(text: &SecretString) -> Result<Self, InvalidBody> {
        let body = serde_json::from_str(text.expose_secret());
        let body =
            body.map_err(|_| InvalidBody::Whole("The sealed fence devices are not JSON.".to_owned()))?;
        Self::parse(&body)
    }

    /// The description with each secret masked, as GET answers and as the store may keep in the open.
    pub fn masked(&self) -> Value {
        self.to_json(mask)
    }

    /// What an operator should know: plain HTTP, unverified TLS.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    fn to_json(&self, shown: impl Fn(&str, &Value) -> Value) -> Value {
        let device = |device: &Map<String, Value>| -> Value {
            Value::Object(device.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect())
        };
        let level = |devices: &Vec<Map<String, Value>>| json!({ "devices": devices.iter().map(device).collect::<Vec<_>>() });
        json!({ "levels": self.levels.iter().map(level).collect::<Vec<_>>() })
    }
}

impl fmt::Debug for FenceDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FenceDevices({})", self.masked())
    }
}

fn mask(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(options) if key == "options" => {
            Value::Object(options.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect())
        }
        _ if is_secret(key) => shown(value),
        other => other.clone(),
    }
}

/// The PUT body, for the API description only; [`FenceDevices::parse`] reads it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = halberd::FenceDevicesBody)]
pub struct FenceDevicesSchema {
    #[schema(max_items = 9)]
    pub levels: Vec<FenceLevelSchema>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct FenceLevelSchema {
    #[schema(min_items = 1)]
    pub devices: Vec<FenceDeviceSchema>,
}

#[derive(Clone, Deserialize, ToSchema)]
pub struct FenceDeviceSchema {
    #[serde(rename = "type")]
    pub device_type: DeviceType,
    /// A URL for redfish, `host[:port]` for ipmi and agent.
    pub address: Option<String>,
    pub port: Option<u16>,
    pub username: Option<String>,
    /// The password, or where it lies: `file:/path`, `env:NAME` or `vault:MOUNT/PATH#KEY`, looked up by the engine when it is needed.
    #[schema(write_only)]
    pub password: Option<String>,
    /// Redfish: id or URI of the ComputerSystem.
    pub system: Option<String>,
    /// Serial number the machine must have.
    pub serial: Option<String>,
    pub tls: Option<TlsSchema>,
    /// IPMI cipher suite: 3 or 17.
    pub cipher: Option<u8>,
    /// IPMI privilege: operator or administrator.
    pub privlvl: Option<String>,
    /// IPMI BMC key as text or as hex after `0x`, or a reference as for the password.
    #[schema(write_only)]
    pub kg: Option<String>,
    /// Agent: `fence_...` or an absolute path.
    pub program: Option<String>,
    /// Agent: further lines of its stdin. Secrets among them may be references.
    pub options: Option<BTreeMap<String, String>>,
    /// Devices with the same one share a controller.
    pub bmc: Option<String>,
    /// Redfish: nobody else uses this account.
    pub account_exclusive: Option<bool>,
}

impl fmt::Debug for FenceDeviceSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FenceDeviceSchema")
            .field("type", &self.device_type)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whom to trust behind https: exactly one of the three.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct TlsSchema {
    pub ca_file: Option<String>,
    /// SHA-256 in hex, colons allowed.
    pub fingerprint: Option<String>,
    pub insecure: Option<bool>,
}

//! How operators describe fence devices: levels of devices, as JSON.
//!
//! Names are those of the public interface and, beyond it, of fence-agents. A description is read strictly (an unknown
//! key is a typing error that would show at the worst moment) and checked as a whole, before anything is stored: what
//! cannot work is refused with the place and the way out. Passwords are [`SecretString`]s and leave this module only
//! towards the device.

mod address;
mod kinds;

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::error::clip;
use crate::secret::{Reference, is_reference};
use address::host_of;
pub(crate) use address::host_port;
pub(crate) use kinds::is_agent;

/// What a secret looks like in every output.
pub const MASK: &str = "********";

/// Longest text of any key, in characters: a URL or a path, generously.
const TEXT: usize = 1_024;
/// Pacemaker's topology has nine levels, so do we.
const LEVELS: usize = 9;

/// All fence devices of one host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceDevices {
    pub levels: Vec<Level>,
}

/// Devices that must all confirm before the level counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    pub devices: Vec<Device>,
}

/// By which protocol a device is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Redfish,
    Ipmi,
    /// A program of the fence-agents family.
    Agent,
    /// Expiry of an attested watchdog lease.
    Watchdog,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redfish => "redfish",
            Self::Ipmi => "ipmi",
            Self::Agent => "agent",
            Self::Watchdog => "watchdog",
        }
    }
}

/// Privilege that an IPMI session asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privilege {
    /// Enough for Chassis Control, and the most that a fencing account should have.
    #[default]
    Operator,
    Administrator,
}

/// Whom to trust behind `https://`; exactly one of the three. Without it: the system's authorities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Tls {
    /// PEM file of the authority that signed the BMC's certificate.
    pub ca_file: Option<String>,
    /// SHA-256 of the BMC's certificate in hex, colons allowed.
    pub fingerprint: Option<String>,
    /// Any certificate. A visible choice, warned about.
    pub insecure: bool,
}

/// Keys beside `type`, and the kinds that they belong to; in the order of [`Device::present`].
const KEYS: [(&str, &[Kind]); 14] = {
    use Kind::{Agent, Ipmi, Redfish};
    [
        ("address", &[Redfish, Ipmi, Agent]),
        ("port", &[Redfish, Ipmi, Agent]),
        ("username", &[Redfish, Ipmi, Agent]),
        ("password", &[Redfish, Ipmi, Agent]),
        ("system", &[Redfish]),
        ("serial", &[Redfish, Ipmi, Agent]),
        ("tls", &[Redfish]),
        ("cipher", &[Ipmi]),
        ("privlvl", &[Ipmi]),
        ("kg", &[Ipmi]),
        ("program", &[Agent]),
        ("options", &[Agent]),
        ("bmc", &[Redfish, Ipmi, Agent]),
        ("account_exclusive", &[Redfish]),
    ]
};

/// One fence device. Which keys a kind knows is checked by [`FenceDevices::validate`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// URL for redfish, `host[:port]` for ipmi and agent.
    pub address: Option<String>,
    pub port: Option<u16>,
    pub username: Option<String>,
    /// Or a reference: `file:/path`, `env:NAME`, `vault:MOUNT/PATH#KEY`. So too `kg` and the secret ones of `options`.
    pub password: Option<SecretString>,
    /// Redfish: id or URI of the ComputerSystem behind this service.
    pub system: Option<String>,
    /// Serial number that the machine behind this device must have.
    pub serial: Option<String>,
    pub tls: Option<Tls>,
    /// IPMI cipher suite, 3 or 17; silent: 17, then 3.
    pub cipher: Option<u8>,
    pub privlvl: Option<Privilege>,
    /// IPMI BMC key, as text or as hex after `0x`.
    pub kg: Option<SecretString>,
    /// Agent: the program, by its name `fence_...` or by an absolute path that ends so ([`is_agent`]).
    pub program: Option<String>,
    /// Agent: further `key=value` lines of its stdin (`plug`, `ssl`, ...). No shell ever sees one, whatever it holds: a line break,
    /// which would begin another line, is refused, and so are options that an agent would hand to a shell itself (`password_script`, `ssh_options`).
    #[serde(default, deserialize_with = "null_is_absent")]
    pub options: BTreeMap<String, String>,
    /// Pacing key: devices with the same one share a controller. Silent: the address' host.
    pub bmc: Option<String>,
    /// Redfish: nobody else uses this account, so its other sessions may be deleted.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub account_exclusive: bool,
}

/// Why a description of fence devices is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("fence devices are not valid: {0}; see the keys of PUT .../fence-devices")]
    Syntax(String),
    #[error("{0} levels of fence devices; there are at most {LEVELS}, join some")]
    TooManyLevels(usize),
    #[error("level {0} has no devices; add one or leave the level out")]
    EmptyLevel(usize),
    #[error("{place}: `{key}` is missing; a device of type {kind} needs it")]
    Missing { place: String, kind: &'static str, key: &'static str },
    #[error("{place}: `{key}` does not belong to type {kind}; remove it")]
    Foreign { place: String, kind: &'static str, key: &'static str },
    #[error("{place}: `{key}`: {reason}")]
    Invalid { place: String, key: &'static str, reason: String },
}

impl FenceDevices {
    /// Reads and validates a description.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        // serde_json's message gives key and position; values do not occur in it for the types used here, except that
        // a wrong type may be quoted. Cut that: it could be a password put in the wrong place.
        let devices: Self =
            serde_json::from_str(json).map_err(|e| ConfigError::Syntax(without_values(&e)))?;
        devices.validate()?;
        foreign(json)?;
        Ok(devices)
    }

    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.levels.len() > LEVELS {
            return Err(ConfigError::TooManyLevels(self.levels.len()));
        }
        for (l, level) in self.levels.iter().enumerate() {
            if level.devices.is_empty() {
                return Err(ConfigError::EmptyLevel(l + 1));
            }
            for (d, device) in level.devices.iter().enumerate() {
                let place = format!("level {} device {}", l + 1, d + 1);
                device.validate(&place)?;
                device.validate_references(&place)?;
            }
        }
        Ok(())
    }

    /// The same description with its secrets masked.
    #[must_use]
    pub fn masked(&self) -> Value {
        let level = |l: &Level| json!({"devices": l.devices.iter().map(Device::masked).collect::<Vec<_>>()});
        json!({"levels": self.levels.iter().map(level).collect::<Vec<_>>()})
    }
}

/// A key that is present and does not belong to its device's kind is a mistake whatever its value, also where that is the same as none
/// (`null`, `false`, `{}`): whoever wrote it meant something.
fn foreign(json: &str) -> Result<(), ConfigError> {
    let whole: Value = serde_json::from_str(json).unwrap_or_default();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for (l, level) in list(&whole, "levels").iter().enumerate() {
        for (d, device) in list(level, "devices").iter().enumerate() {
            let Ok(kind) = Kind::deserialize(&device["type"]) else { continue };
            let given = |key: &str| device.get(key).is_some();
            if let Some((key, _)) = KEYS.iter().find(|(key, kinds)| given(key) && !kinds.contains(&kind)) {
                let place = format!("level {} device {}", l + 1, d + 1);
                return Err(ConfigError::Foreign { place, kind: kind.as_str(), key });
            }
        }
    }
    Ok(())
}

fn null_is_absent<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl TryFrom<Map<String, Value>> for Tls {
    type Error = &'static str;

    fn try_from(mut keys: Map<String, Value>) -> Result<Self, Self::Error> {
        let (file, fingerprint, insecure) =
            (keys.remove("ca_file"), keys.remove("fingerprint"), keys.remove("insecure"));
        if !keys.is_empty() {
            return Err("`tls` holds a key other than ca_file, fingerprint, insecure");
        }
        let nothing = Self::default();
        match (file, fingerprint, insecure) {
            (Some(Value::String(file)), None, None) => Ok(Self { ca_file: Some(file), ..nothing }),
            (None, Some(Value::String(text)), None) => Ok(Self { fingerprint: Some(text), ..nothing }),
            (None, None, Some(Value::Bool(true))) => Ok(Self { insecure: true, ..nothing }),
            _ => Err("`tls` needs exactly one of ca_file, fingerprint, insecure = true"),
        }
    }
}

/// What was wrong and where. A value of the wrong type or a word nobody knows may be a password in the wrong place, so
/// neither is repeated; a key is, for it is what was misspelt.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let at = format!("line {} column {}", error.line(), error.column());
    let kinds = ["invalid type", "invalid value", "invalid length", "unknown variant"];
    let text = match kinds.into_iter().find(|kind| text.starts_with(kind)) {
        Some(kind) => {
            let wanted = text.rsplit_once("expected ").map_or("something else", |(_, w)| w);
            let wanted = wanted.split(" at line").next().unwrap_or(wanted);
            format!("{kind}, expected {wanted}, at {at}")
        }
        None => text,
    };
    clip(&text)
}

impl Device {
    /// Kind and address, for messages and reports.
    #[must_use]
    pub fn name(&self) -> String {
        let kind = self.kind.as_str();
        match (&self.address, &self.program) {
            (Some(address), Some(program)) => format!("{kind} {program} {address}"),
            (Some(address), None) => format!("{kind} {address}"),
            (None, Some(program)) => format!("{kind} {program}"),
            (None, None) => kind.to_owned(),
        }
    }

    /// The controller this device is: what is paced together.
    #[must_use]
    pub fn bmc_key(&self) -> String {
        let own = self.bmc.clone().or_else(|| self.address.as_deref().map(|a| host_of(a).to_owned()));
        own.or_else(|| self.program.clone()).unwrap_or_default().to_ascii_lowercase()
    }

    /// This device with its secrets masked, absent keys left out.
    #[must_use]
    pub fn masked(&self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        put("type", Some(self.kind.as_str().into()));
        put("address", self.address.clone().map(Value::from));
        put("port", self.port.map(Value::from));
        put("username", self.username.clone().map(Value::from));
        put("password", self.password.as_ref().map(|p| shown(p.expose_secret())));
        put("system", self.system.clone().map(Value::from));
        put("serial", self.serial.clone().map(Value::from));
        put("tls", self.tls.as_ref().map(Tls::to_json));
        put("cipher", self.cipher.map(Value::from));
        put(
            "privlvl",
            self.privlvl.map(|p| match p {
                Privilege::Operator => "operator".into(),
                Privilege::Administrator => "administrator".into(),
            }),
        );
        put("kg", self.kg.as_ref().map(|kg| shown(kg.expose_secret())));
        put("program", self.program.clone().map(Value::from));
        let hide =
            |(k, v): (&String, &String)| (k.clone(), if secret_key(k) { shown(v) } else { v.clone().into() });
        put(
            "options",
            (!self.options.is_empty()).then(|| Value::Object(self.options.iter().map(hide).collect())),
        );
        put("bmc", self.bmc.clone().map(Value::from));
        put("account_exclusive", self.account_exclusive.then_some(Value::Bool(true)));
        Value::Object(map)
    }

    /// Secrets and references to them, with their keys.
    fn secrets(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let own = [("password", self.password.as_ref()), ("kg", self.kg.as_ref())];
        let own = own.into_iter().filter_map(|(key, secret)| Some((key, secret?.expose_secret())));
        own.chain(
            self.options
                .iter()
                .filter(|(key, _)| secret_key(key))
                .map(|(_, value)| ("options", value.as_str())),
        )
    }

    /// Refuses references that can lead nowhere.
    fn validate_references(&self, place: &str) -> Result<(), ConfigError> {
        for (key, text) in self.secrets() {
            if let Some(Err(reason)) = Reference::parse(text) {
                let reason = format!("{reason}; a secret that begins so has to be put into a file");
                return Err(ConfigError::Invalid { place: place.into(), key, reason });
            }
        }
        Ok(())
    }

    /// True if a secret has to be looked up before the device can be spoken to.
    pub(crate) fn has_references(&self) -> bool {
        self.secrets().any(|(_, text)| is_reference(text))
    }

    /// Bytes of the IPMI BMC key.
    pub(crate) fn kg_bytes(&self) -> Option<Result<Vec<u8>, &'static str>> {
        let kg = self.kg.as_ref()?.expose_secret();
        Some(match kg.strip_prefix("0x") {
            Some(hex) => unhex(hex)
                .ok_or("is not hex after 0x; give an even number of the digits 0-9 and a-f, or the key as text without 0x"),
            None => Ok(kg.as_bytes().to_vec()),
        })
    }

    pub(crate) fn validate(&self, place: &str) -> Result<(), ConfigError> {
        let kind = self.kind.as_str();
        for ((key, kinds), present) in KEYS.iter().zip(self.present()) {
            if present && !kinds.contains(&self.kind) {
                return Err(ConfigError::Foreign { place: place.into(), kind, key });
            }
        }
        let needs: &[(&'static str, bool)] = match self.kind {
            Kind::Redfish | Kind::Ipmi => &[
                ("address", self.address.is_some()),
                ("username", self.username.is_some()),
                ("password", self.password.is_some()),
            ],
            Kind::Agent => &[("program", self.program.is_some())],
            Kind::Watchdog => &[],
        };
        for (key, present) in needs {
            if !present {
                return Err(ConfigError::Missing { place: place.into(), kind, key });
            }
        }
        let invalid = |key, reason: String| ConfigError::Invalid { place: place.into(), key, reason };
        for (key, text) in self.texts() {
            if text.is_empty() {
                return Err(invalid(key, "is empty; give a value or leave the key out".into()));
            }
            // A line break would begin another `key=value` line of an agent's stdin, or another HTTP header.
            if text.chars().any(char::is_control) {
                return Err(invalid(key, "holds a control character; remove it".into()));
            }
            if text.chars().count() > TEXT {
                let reason = format!(
                    "is longer than {TEXT} characters; give what the device itself shows, without anything beside it"
                );
                return Err(invalid(key, reason));
            }
        }
        if self.port == Some(0) {
            return Err(invalid("port", "is 0; give 1 to 65535 or leave it out".into()));
        }
        // Given back as it was shown: the device would then be asked with the mask for a password.
        if let Some((key, _)) = self.secrets().find(|(_, text)| *text == MASK) {
            return Err(invalid(
                key,
                "is the mask shown instead of the secret; give the secret itself".into(),
            ));
        }
        match self.kind {
            Kind::Redfish => self.validate_redfish().map_err(|(key, reason)| invalid(key, reason)),
            Kind::Ipmi => self.validate_ipmi().map_err(|(key, reason)| invalid(key, reason)),
            Kind::Agent => self.validate_agent().map_err(|(key, reason)| invalid(key, reason)),
            Kind::Watchdog => Ok(()),
        }
    }

    /// Whether each of [`KEYS`] says something.
    fn present(&self) -> [bool; KEYS.len()] {
        [
            self.address.is_some(),
            self.port.is_some(),
            self.username.is_some(),
            self.password.is_some(),
            self.system.is_some(),
            self.serial.is_some(),
            self.tls.is_some(),
            self.cipher.is_some(),
            self.privlvl.is_some(),
            self.kg.is_some(),
            self.program.is_some(),
            !self.options.is_empty(),
            self.bmc.is_some(),
            self.account_exclusive,
        ]
    }

    fn texts(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("address", self.address.as_deref()),
            ("username", self.username.as_deref()),
            ("password", self.password.as_ref().map(ExposeSecret::expose_secret)),
            ("system", self.system.as_deref()),
            ("serial", self.serial.as_deref()),
            ("kg", self.kg.as_ref().map(ExposeSecret::expose_secret)),
            ("program", self.program.as_deref()),
            ("bmc", self.bmc.as_deref()),
            ("tls", self.tls.as_ref().and_then(|tls| tls.ca_file.as_deref())),
        ];
        all.into_iter().filter_map(|(key, text)| text.map(|t| (key, t))).collect()
    }
}

/// A secret as every output has it: masked, or, being a mere reference, as it is.
fn shown(text: &str) -> Value {
    if is_reference(text) { text.into() } else { MASK.into() }
}

impl Tls {
    fn to_json(&self) -> Value {
        match (&self.ca_file, &self.fingerprint) {
            (Some(file), _) => json!({"ca_file": file}),
            (_, Some(fingerprint)) => json!({"fingerprint": fingerprint}),
            _ => json!({"insecure": self.insecure}),
        }
    }
}

/// Keys of an agent's options whose values are secrets. Agents take a dash for an underscore.
pub(crate) fn secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    ["passw", "passphrase", "secret", "token", "community", "kg", "_key", "apikey", "hexadecimal"]
        .iter()
        .any(|s| key.contains(s))
}

/// SHA-256 in hex, with or without colons and `sha256:` before it.
pub(crate) fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    let text = text.get(..7).filter(|p| p.eq_ignore_ascii_case("sha256:")).map_or(text, |_| &text[7..]);
    unhex(&text.replace(':', ""))?.try_into().ok()
}

/// Bytes of a hex string; `None` if it is none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|d| d.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests;

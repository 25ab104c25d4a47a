//! How operators describe fence devices: levels of devices, as JSON.
//!
//! Names are those of the public interface and, beyond it, of fence-agents. A description is read strictly (an unknown
//! key is a typing error that would show at the worst moment) and checked as a whole, before anything is stored: what
//! cannot work is refused with the place and the way out. Passwords are [`SecretString`]s and leave this module only
//! towards the device.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::error::clip;
use crate::secret::{Reference, is_reference};

/// What a secret looks like in every output.
pub const MASK: &str = "********";

/// Longest password of an IPMI 2.0 user, in bytes.
const IPMI_PASSWORD: usize = 20;
/// Longest name of an IPMI user, in bytes.
const IPMI_USERNAME: usize = 16;
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
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the authority that signed the BMC's certificate.
    pub ca_file: Option<String>,
    /// SHA-256 of the BMC's certificate in hex, colons allowed.
    pub fingerprint: Option<String>,
    /// Any certificate. A visible choice, warned about.
    #[serde(default)]
    pub insecure: bool,
}

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
    /// Agent: the program, `fence_...` or an absolute path.
    pub program: Option<String>,
    /// Agent: further `key=value` lines of its stdin (`plug`, `ssl`, ...).
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Pacing key: devices with the same one share a controller. Silent: the address' host.
    pub bmc: Option<String>,
    /// Redfish: nobody else uses this account, so its other sessions may be deleted.
    #[serde(default)]
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
            Some(hex) => unhex(hex).ok_or("is not hex after 0x"),
            None => Ok(kg.as_bytes().to_vec()),
        })
    }

    pub(crate) fn validate(&self, place: &str) -> Result<(), ConfigError> {
        let kind = self.kind.as_str();
        for (key, present, belongs) in self.keys() {
            if present && !belongs.contains(&self.kind) {
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
        }
        match self.kind {
            Kind::Redfish => self.validate_redfish().map_err(|(key, reason)| invalid(key, reason)),
            Kind::Ipmi => self.validate_ipmi().map_err(|(key, reason)| invalid(key, reason)),
            Kind::Agent => self.validate_agent().map_err(|(key, reason)| invalid(key, reason)),
            Kind::Watchdog => Ok(()),
        }
    }

    fn keys(&self) -> [(&'static str, bool, &'static [Kind]); 14] {
        use Kind::{Agent, Ipmi, Redfish};
        [
            ("address", self.address.is_some(), &[Redfish, Ipmi, Agent]),
            ("port", self.port.is_some(), &[Redfish, Ipmi, Agent]),
            ("username", self.username.is_some(), &[Redfish, Ipmi, Agent]),
            ("password", self.password.is_some(), &[Redfish, Ipmi, Agent]),
            ("system", self.system.is_some(), &[Redfish]),
            ("serial", self.serial.is_some(), &[Redfish, Ipmi, Agent]),
            ("tls", self.tls.is_some(), &[Redfish]),
            ("cipher", self.cipher.is_some(), &[Ipmi]),
            ("privlvl", self.privlvl.is_some(), &[Ipmi]),
            ("kg", self.kg.is_some(), &[Ipmi]),
            ("program", self.program.is_some(), &[Agent]),
            ("options", !self.options.is_empty(), &[Agent]),
            ("bmc", self.bmc.is_some(), &[Redfish, Ipmi, Agent]),
            ("account_exclusive", self.account_exclusive, &[Redfish]),
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
        ];
        all.into_iter().filter_map(|(key, text)| text.map(|t| (key, t))).collect()
    }

    fn validate_redfish(&self) -> Result<(), (&'static str, String)> {
        let address = self.address.as_deref().unwrap_or_default();
        let url = reqwest::Url::parse(address)
            .map_err(|e| ("address", format!("{e}; give a URL such as https://bmc.example")))?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
            return Err(("address", "is not an https:// or http:// URL".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(("address", "holds credentials; put them into username and password".into()));
        }
        if !matches!(url.path().trim_end_matches('/'), "" | "/redfish" | "/redfish/v1") {
            return Err((
                "address",
                "has a path; give the service's root and name the machine in `system`".into(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(("address", "has a query or fragment; give scheme, host and port only".into()));
        }
        let Some(tls) = &self.tls else { return Ok(()) };
        let chosen = usize::from(tls.ca_file.is_some())
            + usize::from(tls.fingerprint.is_some())
            + usize::from(tls.insecure);
        if chosen != 1 {
            return Err(("tls", "needs exactly one of ca_file, fingerprint, insecure = true".into()));
        }
        if tls.fingerprint.as_deref().is_some_and(|f| fingerprint(f).is_none()) {
            return Err(("tls", "fingerprint is not a SHA-256 in hex (64 digits, colons allowed)".into()));
        }
        Ok(())
    }

    fn validate_ipmi(&self) -> Result<(), (&'static str, String)> {
        let address = self.address.as_deref().unwrap_or_default();
        host_port(address, self.port, 623).map_err(|reason| ("address", reason))?;
        if !matches!(self.cipher, None | Some(3 | 17)) {
            return Err((
                "cipher",
                "only suites 3 and 17 protect what they carry; leave it out to try both".into(),
            ));
        }
        if self.username.as_deref().unwrap_or_default().len() > IPMI_USERNAME {
            return Err(("username", format!("is longer than IPMI's {IPMI_USERNAME} bytes")));
        }
        // What a reference leads to is checked when it is resolved.
        let literal = |s: &SecretString| !is_reference(s.expose_secret());
        if self.password.as_ref().is_some_and(|p| literal(p) && p.expose_secret().len() > IPMI_PASSWORD) {
            return Err(("password", format!("is longer than IPMI's {IPMI_PASSWORD} bytes")));
        }
        match self.kg_bytes().filter(|_| self.kg.as_ref().is_some_and(literal)) {
            Some(Err(reason)) => Err(("kg", reason.into())),
            Some(Ok(kg)) if kg.len() > IPMI_PASSWORD => {
                Err(("kg", format!("is longer than IPMI's {IPMI_PASSWORD} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn validate_agent(&self) -> Result<(), (&'static str, String)> {
        let program = self.program.as_deref().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let named = program.starts_with("fence_") && program.chars().all(plain);
        if !program.starts_with('/') && !named {
            return Err((
                "program",
                "is neither a name fence_... nor an absolute path; there is no shell".into(),
            ));
        }
        for (key, value) in &self.options {
            if key.is_empty() || !key.chars().all(plain) || value.chars().any(char::is_control) {
                return Err(("options", format!("{key:?} is not a key = value line of fence-agents' stdin")));
            }
            if key == "action" {
                return Err(("options", "`action` is ours to give; remove it".into()));
            }
        }
        Ok(())
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

/// Keys of an agent's options whose values are secrets.
pub(crate) fn secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["passw", "passphrase", "secret", "token", "community", "kg", "_key", "hexadecimal"]
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

/// Host and port of `host[:port]`, `[v6]:port` or a bare IPv6 address; `port` beside it is used where it has none.
pub(crate) fn host_port(address: &str, port: Option<u16>, default: u16) -> Result<(String, u16), String> {
    let (host, own) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("has no closing ]")?;
        (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("")).ok_or("has text after ]")?)
    } else if address.matches(':').count() > 1 {
        (address, "")
    } else {
        address.split_once(':').unwrap_or((address, ""))
    };
    let own = if own.is_empty() {
        None
    } else {
        Some(own.parse::<u16>().map_err(|_| "has a port that is no number")?)
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(plain) {
        return Err("is not host[:port]".into());
    }
    if let (Some(own), Some(port)) = (own, port)
        && own != port
    {
        return Err("names another port than `port`; keep one of them".into());
    }
    let port = own.or(port).unwrap_or(default);
    if port == 0 { Err("has port 0".into()) } else { Ok((host.to_owned(), port)) }
}

/// The host in a URL or `host[:port]`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if let Some(rest) = rest.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    if rest.matches(':').count() > 1 { rest } else { rest.split(':').next().unwrap_or(rest) }
}

#[cfg(test)]
mod tests;

//! Which keys a device may have and what they may hold.

use serde_json::{Map, Value};

use super::{DeviceType, FenceDevices, MASK, is_secret};
use crate::v1::body::{Fields, InvalidBody};
use crate::v1::value::{self, Reason};

/// Pacemaker's topology has nine levels, so do we.
const LEVELS: usize = 9;
/// Longest password, BMC key and user name of IPMI 2.0, in bytes.
const IPMI_PASSWORD: usize = 20;
const IPMI_USERNAME: usize = 16;

const TYPES: [(&str, DeviceType); 4] = [
    ("redfish", DeviceType::Redfish),
    ("ipmi", DeviceType::Ipmi),
    ("agent", DeviceType::Agent),
    ("watchdog", DeviceType::Watchdog),
];

pub(super) fn parse(body: &Value) -> Result<FenceDevices, InvalidBody> {
    // Nothing of a body that is wrong as a whole is quoted: a password may stand anywhere in it.
    let mut fields =
        Fields::of(body, "").map_err(|_| InvalidBody::Whole("The body is not of type object.".to_owned()))?;
    let levels = fields.take_secret("levels", array)?.ok_or_else(|| fields.missing("levels"))?;
    fields.finish()?;
    if levels.len() > LEVELS {
        return Err(InvalidBody::Whole(format!(
            "There are {} levels of fence devices, at most {LEVELS} are allowed.",
            levels.len()
        )));
    }
    let levels = levels.iter().enumerate();
    let levels = levels.map(|(place, level)| parse_level(level, &format!("levels[{place}]")));
    let levels = levels.collect::<Result<Vec<_>, _>>()?;
    let warnings = warnings_of(&levels);
    Ok(FenceDevices { levels, warnings })
}

/// What an operator should know of devices that passed the rules.
pub(super) fn warnings_of(levels: &[Vec<Map<String, Value>>]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (level, devices) in levels.iter().enumerate() {
        for (place, device) in devices.iter().enumerate() {
            let path = format!("levels[{level}].devices[{place}]");
            let address = device.get("address").and_then(Value::as_str).unwrap_or_default();
            if device.get("type").is_some_and(|kind| kind == "redfish")
                && address.to_ascii_lowercase().starts_with("http://")
            {
                warnings.push(format!("{path}: the password travels in clear text over http://"));
            }
            if device.get("tls").and_then(|tls| tls.get("insecure")) == Some(&Value::Bool(true)) {
                warnings.push(format!("{path}: any certificate is accepted"));
            }
        }
    }
    warnings
}

fn parse_level(level: &Value, path: &str) -> Result<Vec<Map<String, Value>>, InvalidBody> {
    let mut fields = Fields::of(level, path).map_err(|_| secret_place(path, "is not of type object"))?;
    let devices = fields.take_secret("devices", array)?.ok_or_else(|| fields.missing("devices"))?;
    fields.finish()?;
    if devices.is_empty() {
        return Err(secret_place(
            &format!("{path}.devices"),
            "is empty; name a device or leave the level out",
        ));
    }
    let devices = devices.iter().enumerate();
    devices.map(|(place, device)| parse_device(device, &format!("{path}.devices[{place}]"))).collect()
}

fn parse_device(device: &Value, path: &str) -> Result<Map<String, Value>, InvalidBody> {
    use DeviceType::{Agent, Ipmi, Redfish, Watchdog};
    let mut fields = Fields::of(device, path).map_err(|_| secret_place(path, "is not of type object"))?;
    let kind = fields.require("type", |v| value::word(v, &TYPES))?;
    let mut read = Device { fields, kept: Map::new() };
    read.kept.insert("type".to_owned(), device["type"].clone());
    if kind != Watchdog {
        read.key("address", if kind == Redfish { url } else { host_and_port })?;
        read.key("port", port)?;
        read.key("username", if kind == Ipmi { ipmi_username } else { plain_text })?;
        read.key("password", if kind == Ipmi { ipmi_secret } else { secret })?;
        read.key("serial", plain_text)?;
        read.key("bmc", plain_text)?;
    }
    match kind {
        Redfish => {
            read.key("system", plain_text)?;
            read.key("account_exclusive", flag)?;
            read.key("tls", tls)?;
        }
        Ipmi => {
            read.key("cipher", cipher)?;
            read.key("privlvl", |v| value::word(v, &[("operator", ()), ("administrator", ())]))?;
            read.key("kg", kg)?;
        }
        Agent => {
            read.key("program", program)?;
            read.key("options", options)?;
        }
        Watchdog => {}
    }
    let needed: &[&str] = match kind {
        Redfish | Ipmi => &["address", "username", "password"],
        Agent => &["program"],
        Watchdog => &[],
    };
    if let Some(missing) = needed.iter().find(|key| !read.kept.contains_key(**key)) {
        return Err(read.fields.missing(missing));
    }
    read.fields.finish()?;
    Ok(read.kept)
}

/// A device while it is read: what is left of it, and what was found good.
struct Device<'a> {
    fields: Fields<'a>,
    kept: Map<String, Value>,
}

impl Device<'_> {
    /// Takes a key if it is there; null is the same as absent.
    fn key<T>(
        &mut self,
        key: &str,
        rule: impl FnOnce(&Value) -> Result<T, Reason>,
    ) -> Result<(), InvalidBody> {
        let checked = |v: &Value| if v.is_null() { Ok(None) } else { rule(v).map(|_| Some(v.clone())) };
        // An address may hold a password in the wrong place, and an option's name does not always tell.
        let hidden = is_secret(key) || matches!(key, "address" | "options");
        let kept =
            if hidden { self.fields.take_secret(key, checked)? } else { self.fields.take(key, checked)? };
        if let Some(value) = kept.flatten() {
            self.kept.insert(key.to_owned(), value);
        }
        Ok(())
    }
}

fn secret_place(field: &str, reason: &str) -> InvalidBody {
    InvalidBody::Secret { field: field.to_owned(), reason: reason.to_owned() }
}

fn array(value: &Value) -> Result<&Vec<Value>, Reason> {
    value.as_array().ok_or_else(|| "is not of type array".to_owned())
}

fn plain_text(value: &Value) -> Result<(), Reason> {
    let text = value::text(value, 1, 1024)?;
    // A line break would begin another line of an agent's stdin, or another HTTP header.
    if text.chars().any(char::is_control) { Err("holds a control character".to_owned()) } else { Ok(()) }
}

fn secret(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    if value == MASK {
        Err("is the mask shown instead of the secret; send the secret itself".to_owned())
    } else {
        Ok(())
    }
}

fn ipmi_secret(value: &Value) -> Result<(), Reason> {
    secret(value)?;
    at_most(value, IPMI_PASSWORD)
}

fn ipmi_username(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    at_most(value, IPMI_USERNAME)
}

fn at_most(value: &Value, bytes: usize) -> Result<(), Reason> {
    let length = value.as_str().map_or(0, str::len);
    if length <= bytes { Ok(()) } else { Err(format!("is longer than IPMI's {bytes} bytes")) }
}

fn kg(value: &Value) -> Result<(), Reason> {
    secret(value)?;
    let text = value::string(value)?;
    let Some(hex) = text.strip_prefix("0x") else { return at_most(value, IPMI_PASSWORD) };
    let is_hex = hex.len() % 2 == 0 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    if is_hex && hex.len() / 2 <= IPMI_PASSWORD {
        Ok(())
    } else {
        Err(format!("is not up to {IPMI_PASSWORD} bytes in hex after 0x"))
    }
}

fn flag(value: &Value) -> Result<bool, Reason> {
    value.as_bool().ok_or_else(|| "is not true or false".to_owned())
}

fn port(value: &Value) -> Result<(), Reason> {
    let good = value.as_u64().is_some_and(|port| (1..=65535).contains(&port));
    if good { Ok(()) } else { Err("is not a port number, 1 to 65535".to_owned()) }
}

fn cipher(value: &Value) -> Result<(), Reason> {
    let good = value.as_u64().is_some_and(|suite| matches!(suite, 3 | 17));
    if good { Ok(()) } else { Err("is neither 3 nor 17; leave it out to have both tried".to_owned()) }
}

fn url(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    let url = value::string(value)?;
    let lower = url.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| "is not an https:// or http:// URL".to_owned())?;
    let (authority, path_part) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err("holds credentials; put them into username and password".to_owned());
    }
    if !matches!(path_part.trim_end_matches('/'), "" | "redfish" | "redfish/v1") {
        return Err(
            "has a path or query; give the service's root and name the machine in 'system'".to_owned()
        );
    }
    check_host_and_port(authority)
}

fn host_and_port(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    check_host_and_port(value::string(value)?)
}

/// `host[:port]`, `[v6]:port` or a bare IPv6 address.
fn check_host_and_port(address: &str) -> Result<(), Reason> {
    let wrong = || "is not host[:port]".to_owned();
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
    } else if address.matches(':').count() > 1 {
        (address, None)
    } else {
        address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)))
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(wrong());
    }
    match port.map(str::parse::<u16>) {
        None | Some(Ok(1..)) => Ok(()),
        Some(_) => Err("has a port that is not 1 to 65535".to_owned()),
    }
}

fn tls(value: &Value) -> Result<(), Reason> {
    let wrong =
        || "is not exactly one of {\"ca_file\": ..}, {\"fingerprint\": ..}, {\"insecure\": true}".to_owned();
    let object = value.as_object().filter(|object| object.len() == 1).ok_or_else(wrong)?;
    match object.iter().next().map(|(key, value)| (key.as_str(), value)) {
        Some(("ca_file", file)) => plain_text(file).map_err(|reason| format!("has a ca_file that {reason}")),
        Some(("fingerprint", Value::String(text))) => {
            let digits = text.trim().to_ascii_lowercase().replace(':', "");
            let digits = digits.strip_prefix("sha256").unwrap_or(&digits);
            let good = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if good {
                Ok(())
            } else {
                Err("has a fingerprint that is no SHA-256 in hex (64 digits, colons allowed)".to_owned())
            }
        }
        Some(("insecure", Value::Bool(true))) => Ok(()),
        _ => Err(wrong()),
    }
}

fn program(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    let program = value::string(value)?;
    if program.starts_with('/') || (program.starts_with("fence_") && program.chars().all(is_plain)) {
        Ok(())
    } else {
        Err("is neither a name fence_... nor an absolute path".to_owned())
    }
}

fn options(value: &Value) -> Result<(), Reason> {
    let options = value.as_object().ok_or_else(|| "is not of type object".to_owned())?;
    for (key, value) in options {
        let text = value.as_str().ok_or_else(|| format!("has {key:?}, whose value is not of type string"))?;
        if key.is_empty() || !key.chars().all(is_plain) || text.chars().any(char::is_control) {
            return Err(format!("has {key:?}, which is not a key = value line of an agent's stdin"));
        }
        if key == "action" {
            return Err("has 'action', which is ours to give; remove it".to_owned());
        }
        if is_secret(key) && text == MASK {
            return Err(format!("has the mask for {key:?}; send the secret itself"));
        }
    }
    Ok(())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

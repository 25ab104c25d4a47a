//! Which keys a device may have and what they may hold.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use super::secret::reference;
use super::{DeviceType, FenceDevices, MASK, is_secret};
use crate::v1::body::{Fields, InvalidBody};
use crate::v1::value::{self, Reason};

/// Pacemaker's topology has nine levels, so do we.
const LEVELS: usize = 9;
/// Longest password, BMC key and user name of IPMI 2.0, in bytes.
const IPMI_PASSWORD: usize = 20;
const IPMI_USERNAME: usize = 16;
/// Longest text of any key, in characters: a URL or a path, generously.
const TEXT: usize = 1_024;
/// Why a program is refused.
const NO_AGENT: &str = "is no program of the fence-agents family; give its name, fence_ and small letters, digits or _ (fence_apc), or an absolute path without .. that ends in such a name (/usr/sbin/fence_apc)";

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
        read.key(
            "username",
            match kind {
                Ipmi => ipmi_username,
                Agent => word,
                _ => plain_text,
            },
        )?;
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
    one_port(&read.kept, path)?;
    Ok(read.kept)
}

/// A port stands in one place: beside an address that names another one, nobody knows which was meant.
fn one_port(device: &Map<String, Value>, path: &str) -> Result<(), InvalidBody> {
    let beside = device.get("port").and_then(Value::as_u64);
    let address = device.get("address").and_then(Value::as_str).unwrap_or_default();
    let authority =
        address.split_once("://").map_or(address, |(_, rest)| rest.split('/').next().unwrap_or(rest));
    let own = split_host_and_port(authority).ok().and_then(|(_, port)| port);
    match (own, beside) {
        (Some(own), Some(beside)) if u64::from(own) != beside => {
            Err(secret_place(&format!("{path}.address"), "names another port than 'port'; keep one of them"))
        }
        _ => Ok(()),
    }
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
    let text = value::string(value)?;
    if text.is_empty() {
        return Err("is empty; give a value or leave the key out".to_owned());
    }
    if text.chars().count() > TEXT {
        let way_out = "give what the device itself shows, without anything beside it";
        return Err(format!("is longer than {TEXT} characters; {way_out}"));
    }
    // A line break would begin another line of an agent's stdin, or another HTTP header.
    if text.chars().any(char::is_control) {
        return Err("holds a control character; remove it".to_owned());
    }
    Ok(())
}

/// A secret, or a reference to one that can lead somewhere.
fn secret(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    if value == MASK {
        return Err("is the mask shown instead of the secret; send the secret itself".to_owned());
    }
    well_referred(value::string(value)?)
}

/// A literal that begins like a reference has another way in.
fn well_referred(text: &str) -> Result<(), Reason> {
    match reference(text) {
        Some(Err(reason)) => Err(format!("{reason}; a secret that begins so has to be put into a file")),
        _ => Ok(()),
    }
}

/// What a reference leads to is measured when it is looked up.
fn is_reference(value: &Value) -> bool {
    value.as_str().is_some_and(|text| reference(text).is_some())
}

fn ipmi_secret(value: &Value) -> Result<(), Reason> {
    secret(value)?;
    if is_reference(value) { Ok(()) } else { at_most(value, IPMI_PASSWORD, SHORTER) }
}

/// An account's name as agents can pass it on.
fn word(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    if stays_one_word(value::string(value)?) { Ok(()) } else { Err(NO_WORD.to_owned()) }
}

fn ipmi_username(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    at_most(value, IPMI_USERNAME, "make an account with a shorter name on the BMC")
}

/// The way out of a secret that is too long.
const SHORTER: &str = "set a shorter one on the BMC";

fn at_most(value: &Value, bytes: usize, way_out: &str) -> Result<(), Reason> {
    let length = value.as_str().map_or(0, str::len);
    if length <= bytes { Ok(()) } else { Err(format!("is longer than IPMI's {bytes} bytes; {way_out}")) }
}

fn kg(value: &Value) -> Result<(), Reason> {
    secret(value)?;
    if is_reference(value) {
        return Ok(());
    }
    let text = value::string(value)?;
    let Some(hex) = text.strip_prefix("0x") else { return at_most(value, IPMI_PASSWORD, SHORTER) };
    if hex.len() % 2 != 0 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        let way_out = "give an even number of the digits 0-9 and a-f, or the key as text without 0x";
        return Err(format!("is not hex after 0x; {way_out}"));
    }
    if hex.len() / 2 <= IPMI_PASSWORD {
        Ok(())
    } else {
        Err(format!("is longer than IPMI's {IPMI_PASSWORD} bytes; {SHORTER}"))
    }
}

fn flag(value: &Value) -> Result<bool, Reason> {
    value.as_bool().ok_or_else(|| "is not true or false".to_owned())
}

fn port(value: &Value) -> Result<(), Reason> {
    let good = value.as_u64().is_some_and(|port| (1..=65535).contains(&port));
    if good { Ok(()) } else { Err("is not a port number; give 1 to 65535 or leave it out".to_owned()) }
}

fn cipher(value: &Value) -> Result<(), Reason> {
    let good = value.as_u64().is_some_and(|suite| matches!(suite, 3 | 17));
    if good { Ok(()) } else { Err("is neither 3 nor 17; leave it out to have both tried".to_owned()) }
}

fn url(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    let url = value::string(value)?;
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !matches!(scheme.to_ascii_lowercase().as_str(), "https" | "http") {
        return Err("is not an https:// or http:// URL; give one such as https://bmc.example".to_owned());
    }
    let (authority, path_part) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err("holds credentials; put them into username and password".to_owned());
    }
    if !matches!(path_part.trim_end_matches('/'), "" | "redfish" | "redfish/v1") {
        return Err(
            "has a path or query; give the service's root and name the machine in 'system'".to_owned()
        );
    }
    let (host, _) = split_host_and_port(authority)?;
    // What a URL's host must be beyond that: an address that looks like one is one, and a zone has no place in it.
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_name = !last.starts_with("0x") && !last.bytes().all(|b| b.is_ascii_digit());
    let good = match authority.starts_with('[') {
        true => host.parse::<Ipv6Addr>().is_ok(),
        false => !host.contains([':', '%']) && (is_name || host.parse::<Ipv4Addr>().is_ok()),
    };
    if good {
        Ok(())
    } else {
        Err("has a host that is neither a name nor an IP address; give one such as https://bmc.example or https://[fd00::7]".to_owned())
    }
}

fn host_and_port(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    split_host_and_port(value::string(value)?).map(drop)
}

/// `host[:port]`, `[v6]:port` or a bare IPv6 address.
fn split_host_and_port(address: &str) -> Result<(&str, Option<u16>), Reason> {
    let wrong = || {
        "is not host[:port]; give a name or an IP address, such as bmc.example, 10.0.0.7:623 or [fd00::7]:623"
            .to_owned()
    };
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(wrong)?) })
    } else if address.matches(':').count() > 1 {
        (address, None)
    } else {
        address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)))
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return Err(wrong());
    }
    // `parse` would take a sign.
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match port.map(|text| if digits(text) { text.parse::<u16>().ok() } else { None }) {
        None => Ok((host, None)),
        Some(Some(port @ 1..)) => Ok((host, Some(port))),
        Some(_) => {
            Err("has a port that is no number; give 1 to 65535 after the colon or leave both out".to_owned())
        }
    }
}

fn tls(value: &Value) -> Result<(), Reason> {
    let wrong =
        || "is not exactly one of {\"ca_file\": ..}, {\"fingerprint\": ..}, {\"insecure\": true}".to_owned();
    let object = value.as_object().filter(|object| object.len() == 1).ok_or_else(wrong)?;
    match object.iter().next().map(|(key, value)| (key.as_str(), value)) {
        Some(("ca_file", file)) => plain_text(file).map_err(|reason| format!("has a ca_file that {reason}")),
        Some(("fingerprint", Value::String(text))) => {
            let text = text.trim().to_ascii_lowercase();
            let digits = text.strip_prefix("sha256:").unwrap_or(&text).replace(':', "");
            let good = digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if good {
                Ok(())
            } else {
                Err("has a fingerprint that is not a SHA-256 in hex (64 digits, colons allowed); give what `openssl x509 -noout -fingerprint -sha256` prints".to_owned())
            }
        }
        Some(("insecure", Value::Bool(true))) => Ok(()),
        _ => Err(wrong()),
    }
}

fn program(value: &Value) -> Result<(), Reason> {
    plain_text(value)?;
    if is_agent(value::string(value)?) { Ok(()) } else { Err(NO_AGENT.to_owned()) }
}

/// Whether this names a program of the fence-agents family: `fence_` and `[a-z0-9_]+`, alone or at the end of an absolute path without
/// `..`. Whoever may describe fence devices chooses what the engine runs: with `/bin/sh` there he would have the controller.
fn is_agent(program: &str) -> bool {
    let (folders, name) = program.rsplit_once('/').unwrap_or(("/", program));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let named = name.strip_prefix("fence_").is_some_and(|rest| !rest.is_empty() && rest.chars().all(plain));
    named && (folders.is_empty() || folders.starts_with('/')) && !folders.split('/').any(|part| part == "..")
}

/// Why an option is refused that would have the agent run, load or write something of the description's choosing on the engine's machine:
/// `password_script` goes to a shell, `ssh_path` is started, `ssh_options` may hold a ProxyCommand, `openrc` is sourced, `debug_file` is
/// written (fence-agents' fencing.py).
const NO_REACH: &str = "names what the agent would run, read in or write on the engine's machine; leave it out (a secret may be a reference such as file:/path, anything else belongs into a program of your own, fence_... and owned by root)";
/// Why a word is refused that agents put into a command line of ssh, unquoted (fencing.py, `_login_ssh_with_password`).
const NO_WORD: &str =
    "begins with - or \\, or holds blanks or quotes, and agents put it into a command line; give a plain one";

/// Whether an option reaches beyond the agent ([`NO_REACH`]). Agents take a dash for an underscore.
fn reaches_out(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    // A path within a URL.
    let path = key.ends_with("_path") && key != "api_path";
    path || key.ends_with("_script")
        || matches!(key.as_str(), "ssh_options" | "openrc" | "exec" | "debug" | "debug_file" | "logfile")
}

/// Whether an option's value is one of the words that [`NO_WORD`] is about.
fn is_word(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    matches!(key.as_str(), "username" | "login" | "ip" | "ipaddr" | "ipport" | "identity_file")
}

/// Whether a command line takes this for one word, and not for an option.
fn stays_one_word(text: &str) -> bool {
    !text.starts_with(['-', '\\'])
        && !text.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'))
}

/// Characters of a wrong key that an error repeats.
const KEY: usize = 200;

fn options(value: &Value) -> Result<(), Reason> {
    let options = value.as_object().ok_or_else(|| "is not of type object".to_owned())?;
    for (key, value) in options {
        let text = value.as_str().ok_or_else(|| format!("has {key:?}, whose value is not of type string"))?;
        if key.is_empty() || !key.chars().all(is_plain) {
            let key: String = key.chars().take(KEY).collect();
            return Err(format!(
                "has {key:?}, which is no key of fence-agents' stdin; it may hold letters, digits, _ - and . alone"
            ));
        }
        if text.chars().any(char::is_control) {
            let key: String = key.chars().take(KEY).collect();
            return Err(format!("has {key:?}, whose value holds a control character; remove it"));
        }
        if reaches_out(key) {
            return Err(format!("has {:?}, which {NO_REACH}", key.chars().take(KEY).collect::<String>()));
        }
        if is_word(key) && !stays_one_word(text) {
            return Err(format!("has {key:?}, which {NO_WORD}"));
        }
        if key == "action" {
            return Err("has 'action', which is ours to give; remove it".to_owned());
        }
        if is_secret(key) && text == MASK {
            return Err(format!("has the mask for {key:?}; send the secret itself"));
        }
        if is_secret(key) {
            well_referred(text).map_err(|reason| format!("has {key:?}, which {reason}"))?;
        }
    }
    Ok(())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

//! The agent's configuration: one typed TOML tree.
//!
//! An unknown key is refused with the nearest right name, because a misspelt threshold that is silently ignored is found
//! on the night it was needed. `HALBERD__SECTION__KEY` in the environment overrides `[section] key`. The agent holds no
//! password: its one secret is the key file that `halberd agent key HOST` printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use halberd_types::beat::Network;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// Prefix of overriding environment variables.
pub const ENV_PREFIX: &str = "HALBERD__";

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this is and whom it talks to.
    pub agent: AgentConfig,
    /// Paths on which beats go out; none: this agent sends no beats.
    #[serde(default)]
    pub networks: Vec<NetworkConfig>,
    /// Beats between ring neighbours.
    #[serde(default)]
    pub neighbours: NeighboursConfig,
    /// What the beats say of the host's depths.
    #[serde(default)]
    pub deep: DeepConfig,
    /// Process monitor; absent: off.
    #[serde(default)]
    pub process: Option<ProcessConfig>,
    /// Instance monitor; absent: off.
    #[serde(default)]
    pub instance: Option<InstanceConfig>,
    /// Unit name to the command that restarts it; others: `systemctl restart -- UNIT`.
    #[serde(default)]
    pub units: BTreeMap<String, Vec<String>>,
    /// What the engine may order.
    #[serde(default)]
    pub orders: OrdersConfig,
}

/// `[agent]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Our id of the host; default: the key file's. Another than the key file's is an error.
    #[serde(default)]
    pub host: Option<Uuid>,
    /// Host name as in Nova; default: the key file's.
    #[serde(default)]
    pub name: Option<String>,
    /// File that `halberd agent key HOST` printed.
    pub key_file: PathBuf,
    /// Every engine's heartbeat listener. Addresses, not names: detection must not depend on a resolver.
    #[serde(default)]
    pub engines: Vec<SocketAddr>,
    /// Where the outbox and small memories lie; on a disk that outlives a reboot.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The API, e.g. `https://vip:15868`; needed for reports and orders.
    #[serde(default)]
    pub api_url: Option<String>,
    /// PEM file of the only authority believed for `api_url`; default: the system's.
    #[serde(default)]
    pub api_ca_file: Option<PathBuf>,
    /// Pace of the beats; the same as the engines' policy.
    #[serde(default)]
    pub profile: Profile,
    /// Milliseconds between beats instead of the profile's; for tests.
    #[serde(default)]
    pub beat_interval_ms: Option<u64>,
}

/// Detection profile (SAFETY 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// A beat each 0.5 s.
    Fast,
    /// A beat each second.
    #[default]
    Balanced,
    /// A beat each 2 s.
    Conservative,
}

/// `[[networks]]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// `management`, `tenant` or `storage`.
    pub name: Network,
    /// This host's address there; a fixed port lets firewalls be written (15870 by custom), 0 takes any.
    pub bind: SocketAddr,
    /// Engines' listeners as reached on this network; default: `[agent] engines`.
    #[serde(default)]
    pub engines: Vec<SocketAddr>,
}

/// `[neighbours]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighboursConfig {
    /// Send beats to, and listen for, the neighbours the engine names.
    pub enabled: bool,
}

impl Default for NeighboursConfig {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// `[deep]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeepConfig {
    /// File on guests' storage that is written past all caches; absent: not watched.
    pub storage_file: Option<PathBuf>,
    /// Seconds between writes.
    pub interval: f64,
}

impl Default for DeepConfig {
    fn default() -> Self {
        // Twelve samples within balanced's storage grace of 60 s.
        Self { storage_file: None, interval: 5.0 }
    }
}

/// `[process]`; names and defaults of Masakari's process monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// The original's YAML list.
    pub list_path: PathBuf,
    /// Seconds between looks.
    pub check_interval: f64,
    /// Restarts after the first one failed.
    pub restart_retries: u32,
    /// Seconds between restarts.
    pub restart_interval: f64,
    /// Seconds after which a command is given up.
    pub command_timeout: f64,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            list_path: "/etc/masakarimonitors/process_list.yaml".into(),
            check_interval: 5.0,
            restart_retries: 3,
            restart_interval: 5.0,
            // systemd's own default for a start job, and some.
            command_timeout: 120.0,
        }
    }
}

/// `[instance]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// Driver to open.
    pub uri: String,
    /// libvirt's socket; the read-only one suffices for watching. Modular daemons: `/run/libvirt/virtqemud-sock-ro`.
    pub socket: PathBuf,
    /// Socket for destroying strays on order; default: `socket` without `-ro`.
    pub control_socket: Option<PathBuf>,
    /// Seconds between listings of all domains, which also measure libvirt's round trip.
    pub check_interval: f64,
    /// Seconds to wait before connecting again.
    pub reconnect_interval: f64,
}

impl Default for InstanceConfig {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".into(),
            socket: "/run/libvirt/libvirt-sock-ro".into(),
            control_socket: None,
            check_interval: 5.0,
            reconnect_interval: 1.0,
        }
    }
}

/// `[orders]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrdersConfig {
    /// Fetch and carry out orders; needs `api_url`.
    pub enabled: bool,
    /// Seconds between fetches when no ack asks for one.
    pub poll_interval: f64,
    /// Destroy stray guests on order; without it such a host stays admitted until a person looks.
    pub allow_destroy: bool,
    /// Restart only units that `[units]` names.
    pub listed_units_only: bool,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        Self { enabled: true, poll_interval: 10.0, allow_destroy: false, listed_units_only: false }
    }
}

fn default_state_dir() -> PathBuf {
    "/var/lib/halberd-monitor".into()
}

/// What is wrong with a configuration, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// File cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, or a value of a wrong type.
    #[error("configuration is malformed")]
    Malformed(#[from] toml::de::Error),
    /// A key nobody reads.
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// With its section.
        key: String,
        /// Nearest right name.
        nearest: Option<String>,
    },
    /// A value that cannot work.
    #[error("`{key}`: {problem}")]
    Value {
        /// With its section.
        key: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

/// Every key by section; the empty section holds the sections. A test holds it against the types.
const KEYS: &[(&str, &[&str])] = &[
    ("", &["agent", "networks", "neighbours", "deep", "process", "instance", "units", "orders"]),
    (
        "agent",
        &[
            "host",
            "name",
            "key_file",
            "engines",
            "state_dir",
            "api_url",
            "api_ca_file",
            "profile",
            "beat_interval_ms",
        ],
    ),
    ("networks", &["name", "bind", "engines"]),
    ("neighbours", &["enabled"]),
    ("deep", &["storage_file", "interval"]),
    ("process", &["list_path", "check_interval", "restart_retries", "restart_interval", "command_timeout"]),
    ("instance", &["uri", "socket", "control_socket", "check_interval", "reconnect_interval"]),
    ("orders", &["enabled", "poll_interval", "allow_destroy", "listed_units_only"]),
];

impl Config {
    /// Reads a file and the environment. Errors: [`ConfigError`].
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, std::env::vars())
    }

    /// The same from text and given variables.
    pub fn parse(text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let mut table: toml::Table = text.parse()?;
        for (name, value) in env {
            if let Some(path) = name.strip_prefix(ENV_PREFIX) {
                override_key(&mut table, path, value);
            }
        }
        check_keys(&table)?;
        let config: Config = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        let reports = self.process.is_some() || self.instance.is_some();
        if reports && self.agent.api_url.is_none() {
            return bad("agent.api_url", "is missing: the process and instance monitors report there");
        }
        if let Some(url) = &self.agent.api_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return bad("agent.api_url", "must begin with http:// or https://");
        }
        for (i, network) in self.networks.iter().enumerate() {
            if self.engines_of(network).is_empty() {
                return bad("agent.engines", "is empty: name every engine's heartbeat listener");
            }
            if self.networks[..i].iter().any(|n| n.name == network.name) {
                return bad("networks.name", "is given twice");
            }
        }
        let seconds = [
            ("deep.interval", Some(self.deep.interval)),
            ("process.check_interval", self.process.as_ref().map(|p| p.check_interval)),
            ("process.restart_interval", self.process.as_ref().map(|p| p.restart_interval)),
            ("process.command_timeout", self.process.as_ref().map(|p| p.command_timeout)),
            ("instance.check_interval", self.instance.as_ref().map(|p| p.check_interval)),
            ("instance.reconnect_interval", self.instance.as_ref().map(|p| p.reconnect_interval)),
            ("orders.poll_interval", Some(self.orders.poll_interval)),
        ];
        for (key, value) in seconds {
            if value.is_some_and(|v| !(0.01..=86_400.0).contains(&v)) {
                return bad(key, "must be between 0.01 and 86400 seconds");
            }
        }
        if self.agent.beat_interval_ms.is_some_and(|ms| !(10..=10_000).contains(&ms)) {
            return bad("agent.beat_interval_ms", "must be between 10 and 10000");
        }
        if self.units.values().any(|argv| argv.first().is_none_or(String::is_empty)) {
            return bad("units", "a command must be a list whose first word is a program");
        }
        Ok(())
    }

    /// Engines as reached on a network.
    pub fn engines_of<'a>(&'a self, network: &'a NetworkConfig) -> &'a [SocketAddr] {
        if network.engines.is_empty() { &self.agent.engines } else { &network.engines }
    }

    /// Pace of the beats.
    pub fn beat_interval(&self) -> Duration {
        let profile = match self.agent.profile {
            Profile::Fast => 500,
            Profile::Balanced => 1000,
            Profile::Conservative => 2000,
        };
        Duration::from_millis(self.agent.beat_interval_ms.unwrap_or(profile))
    }
}

/// `SECTION__KEY` sets `[section] key`; text that is a TOML value is one, any other is a string.
fn override_key(table: &mut toml::Table, path: &str, value: String) {
    let path = path.to_ascii_lowercase();
    let Some((section, key)) = path.split_once("__") else { return };
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or(toml::Value::String(value));
    let section = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    if let Some(section) = section.as_table_mut() {
        section.insert(key.to_owned(), value);
    }
}

fn check_keys(table: &toml::Table) -> Result<(), ConfigError> {
    for (section, value) in table {
        check_key("", section)?;
        let tables: Vec<&toml::Table> = match value {
            toml::Value::Table(t) => vec![t],
            toml::Value::Array(list) => list.iter().filter_map(toml::Value::as_table).collect(),
            _ => vec![],
        };
        if section == "units" {
            continue;
        }
        for key in tables.iter().flat_map(|t| t.keys()) {
            check_key(section, key)?;
        }
    }
    Ok(())
}

fn check_key(section: &str, key: &str) -> Result<(), ConfigError> {
    let known = KEYS.iter().find(|(s, _)| *s == section).map_or(&[][..], |(_, keys)| keys);
    if known.contains(&key) {
        return Ok(());
    }
    let full = |k: &str| if section.is_empty() { format!("[{k}]") } else { format!("{section}.{k}") };
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(k, key), *k))
        .min()
        .filter(|(distance, k)| *distance <= k.len().max(3) / 2)
        .map(|(_, k)| full(k));
    Err(ConfigError::UnknownKey { key: full(key), nearest })
}

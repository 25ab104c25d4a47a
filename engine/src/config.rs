//! `[engine]` and `[policy]` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use halberd_core::policy::{Policy, Profile};
use halberd_store::retention::Retention;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `[engine]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Unique among the engines of one database; default: the machine's host name.
    pub name: Option<String>,
    /// UDP addresses where agents' beats arrive, one for each network, in the order management, tenant, storage.
    pub heartbeat_listen: Vec<SocketAddr>,
    /// UDP addresses where messages of `fence_kdump_send` arrive (its port is 7410); empty: none are heard.
    pub kdump_listen: Vec<SocketAddr>,
    /// 32-byte key that seals secrets in the database; read by the API too.
    pub secrets_key_file: Option<PathBuf>,
    /// Where this engine remembers how far the database was, so that it notices a rewound one; without it in memory alone. `halberd` keeps
    /// it beside an SQLite database, else in /var/lib/halberd or the working directory.
    pub high_water_file: Option<PathBuf>,
    /// TCP ports asked for an answer of a silent host's user land (DESIGN 4); empty: none.
    pub probe_ports: Vec<u16>,
    /// How often every fence device is checked while all is well, in seconds; 0 switches it off.
    pub device_check_seconds: u64,
    /// How often Nova's service list is read while all is well, in milliseconds.
    pub service_poll_ms: u64,
    /// Beginnings of the references that fence devices may use in the place of a password, for instance `file:/etc/halberd/bmc/`; empty: none.
    pub secret_references: Vec<String>,
    /// `[retention]`, a section of its own.
    #[serde(skip)]
    pub retention: Retention,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            name: None,
            heartbeat_listen: Vec::new(),
            kdump_listen: Vec::new(),
            secrets_key_file: None,
            high_water_file: None,
            probe_ports: vec![22],
            device_check_seconds: 240,
            service_poll_ms: 5_000,
            secret_references: Vec::new(),
            retention: Retention::default(),
        }
    }
}

/// Lays a table of thresholds over a profile's defaults. The table may name the profile itself.
///
/// # Errors
/// An unknown name or a value of the wrong type, in serde's words.
pub fn policy_from(table: &Map<String, Value>) -> Result<Policy, serde_json::Error> {
    let profile = match table.get("profile") {
        Some(word) => serde_json::from_value::<Profile>(word.clone())?,
        None => Profile::Balanced,
    };
    overlay(&Policy::of(profile), table)
}

/// Lays a segment's own values over the configured policy; naming a profile there starts from that profile's defaults.
///
/// # Errors
/// As [`policy_from`].
pub fn overlay(base: &Policy, table: &Map<String, Value>) -> Result<Policy, serde_json::Error> {
    let base =
        match table.get("profile").map(|word| serde_json::from_value::<Profile>(word.clone())).transpose()? {
            Some(profile) if profile != base.profile => Policy::of(profile),
            _ => base.clone(),
        };
    let Value::Object(mut whole) = serde_json::to_value(&base)? else { return Ok(base) };
    for (name, value) in table.iter().filter(|(_, value)| !value.is_null()) {
        whole.insert(name.clone(), value.clone());
    }
    serde_json::from_value(Value::Object(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(value: Value) -> Map<String, Value> {
        value.as_object().expect("object").clone()
    }

    #[test]
    fn a_segment_changes_single_values() {
        let base =
            policy_from(&table(json!({"profile": "fast", "evacuations_in_flight": 5}))).expect("valid");
        assert_eq!(
            (base.profile, base.evacuations_in_flight, base.beat_interval_ms),
            (Profile::Fast, 5, 500)
        );
        let over = overlay(&base, &table(json!({"poll_ms": 250, "retry_ms": null}))).expect("valid");
        assert_eq!((over.poll_ms, over.retry_ms, over.evacuations_in_flight), (250, base.retry_ms, 5));
        let error = overlay(&base, &table(json!({"pol_ms": 250}))).expect_err("unknown name");
        assert!(error.to_string().contains("pol_ms"), "{error}");
    }
}

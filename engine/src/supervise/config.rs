//! `[[services]]`: which part of the control plane is watched, with which credentials, and what may be done about it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use halberd_core::text_enum;
use halberd_openstack::OpenstackConfig;
use secrecy::SecretString;
use serde::Deserialize;

text_enum! {
    /// Which probe.
    pub enum Kind {
        /// A token is issued.
        Keystone => "keystone",
        /// An authenticated list, read through API, conductor database and cells.
        Nova => "nova",
        Mysql => "mysql",
        Mariadb => "mariadb",
        Postgresql => "postgresql",
        Rabbitmq => "rabbitmq",
        Memcached => "memcached",
        /// A GET that must answer well.
        Http => "http",
    }
}

impl Kind {
    /// Whether its members remember each other, so that after a full stop the order of starting matters: a restart by rote
    /// could start from the member that knows least (TRAPS 31).
    pub(super) fn has_memory(self) -> bool {
        matches!(self, Kind::Mysql | Kind::Mariadb | Kind::Rabbitmq)
    }

    /// Token issue and lists cross several services; a database or broker answers in milliseconds or is in trouble.
    fn timeout_ms(self) -> u64 {
        match self {
            Kind::Keystone | Kind::Http => 3_000,
            // A third of it is kept to ask Keystone whose fault it is.
            Kind::Nova => 4_500,
            Kind::Mysql | Kind::Mariadb | Kind::Postgresql | Kind::Rabbitmq | Kind::Memcached => 1_500,
        }
    }

    fn port(self) -> Option<u16> {
        match self {
            Kind::Mysql | Kind::Mariadb => Some(3306),
            Kind::Postgresql => Some(5432),
            Kind::Rabbitmq => Some(5672),
            Kind::Memcached => Some(11211),
            Kind::Keystone | Kind::Nova | Kind::Http => None,
        }
    }
}

text_enum! {
    /// What is done when a target is down.
    pub enum ActionKind {
        None => "none",
        /// Its unit is restarted through the agent of its host.
        Restart => "restart",
    }
}

/// When a target is believed to be down, slow or up again; milliseconds and counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// From the start of one probe to the start of the next.
    pub interval_ms: u64,
    /// The same while the last probe failed: three failures are then seen within 5 s (DESIGN 9).
    pub retry_ms: u64,
    /// A probe without an answer after this long is a failure. Default by kind.
    pub timeout_ms: Option<u64>,
    /// A right answer later than this is slow. Default: half the timeout.
    pub slow_ms: Option<u64>,
    /// Failures in a row until it is down.
    pub fail_after: u32,
    /// Good answers in a row until it is up again.
    pub recover_after: u32,
    /// Between two restarts of one target at least this.
    pub restart_gap_ms: u64,
    /// And no more than this many in an hour, over all targets of the service.
    pub restarts_per_hour: u32,
    /// A restart that has not brought the target up by then did not help.
    pub verify_ms: u64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            interval_ms: 2_000,
            retry_ms: 500,
            timeout_ms: None,
            slow_ms: None,
            fail_after: 3,
            recover_after: 2,
            // A service that dies again within minutes of its restart has a reason that no restart removes.
            restart_gap_ms: 300_000,
            restarts_per_hour: 3,
            // systemd gives a unit 90 s to stop; most start within seconds after.
            verify_ms: 120_000,
        }
    }
}

/// One `[[services]]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    pub kind: Kind,
    /// Unique; its history is kept under it.
    pub name: String,
    /// `host[:port]` (IPv6 in brackets), or URLs for keystone and http: the VIP, each back-end, or both. Keystone and Nova
    /// without targets are reached as `[openstack]` says.
    #[serde(default)]
    pub targets: Vec<String>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// Read again at each probe, so that a rotation needs no restart.
    pub password_file: Option<PathBuf>,
    /// MySQL's schema or PostgreSQL's database in which the canary's table lives; its user needs rights there alone.
    #[serde(default = "canary")]
    pub schema: String,
    /// RabbitMQ's virtual host.
    #[serde(default = "slash")]
    pub vhost: String,
    /// Speak TLS, and check the certificate against the system's authorities or `cacert`.
    #[serde(default)]
    pub tls: bool,
    /// PEM file of certificate authorities for databases.
    pub cacert: Option<PathBuf>,
    /// A PostgreSQL standby is well, too.
    #[serde(default)]
    pub standby_ok: bool,
    /// HTTP statuses that are well; default 200 to 399.
    #[serde(default)]
    pub expect_status: Vec<u16>,
    /// Credentials for keystone and nova; default `[openstack]`.
    pub openstack: Option<OpenstackConfig>,
    /// The unit to restart, as the agent's configuration names it.
    pub unit: Option<String>,
    /// The hosts that the targets run on, in the same order, or one for all.
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default = "no_action")]
    pub action: ActionKind,
    #[serde(default)]
    pub thresholds: Thresholds,
}

fn canary() -> String {
    "halberd_canary".into()
}
fn slash() -> String {
    "/".into()
}
fn no_action() -> ActionKind {
    ActionKind::None
}

/// A section that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[services]] '{name}': {what}")]
pub struct ConfigError {
    pub name: String,
    pub what: String,
}

impl ServiceConfig {
    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// What is wrong, and with which section.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.checked().map_err(|what| ConfigError { name: self.name.clone(), what })
    }

    fn checked(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > 100 || self.name.contains(['@', '\n']) {
            return Err("name it in 1 to 100 characters, without '@'".into());
        }
        if self.targets.is_empty() && !matches!(self.kind, Kind::Keystone | Kind::Nova) {
            return Err("wants targets".into());
        }
        if self.kind == Kind::Nova && !self.targets.is_empty() {
            return Err("nova is reached by the catalog's endpoint: leave targets out".into());
        }
        if self.targets.iter().collect::<BTreeSet<_>>().len() != self.targets.len() {
            return Err("a target stands in it twice".into());
        }
        if let Some(port) = self.kind.port() {
            self.targets.iter().try_for_each(|target| address(target, port).map(drop))?;
        } else {
            for target in &self.targets {
                let url =
                    reqwest::Url::parse(target).map_err(|error| format!("target '{target}': {error}"))?;
                if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
                    return Err(format!("target '{target}' is no http or https URL"));
                }
                if url.password().is_some() {
                    return Err("a target carries a password; targets are shown".into());
                }
            }
        }
        if self.password.is_some() && self.password_file.is_some() {
            return Err("has both password and password_file: keep one".into());
        }
        let needs_login =
            matches!(self.kind, Kind::Mysql | Kind::Mariadb | Kind::Postgresql | Kind::Rabbitmq);
        if needs_login && self.username.is_none() {
            return Err("wants username, and password_file (or password)".into());
        }
        self.check_action()?;
        self.check_thresholds()
    }

    fn check_action(&self) -> Result<(), String> {
        let members = self.targets.len().max(1);
        if !matches!(self.hosts.len(), 0 | 1) && self.hosts.len() != members {
            return Err(format!(
                "has {} hosts for {members} targets: name one for each, or one for all",
                self.hosts.len()
            ));
        }
        if self.action == ActionKind::Restart && (self.unit.is_none() || self.hosts.is_empty()) {
            return Err("action = \"restart\" wants unit and hosts".into());
        }
        Ok(())
    }

    fn check_thresholds(&self) -> Result<(), String> {
        let Thresholds { interval_ms, retry_ms, fail_after, recover_after, .. } = self.thresholds;
        let counts = [("fail_after", fail_after), ("recover_after", recover_after)];
        if let Some((name, _)) = counts.iter().find(|(_, count)| !(1..=1000).contains(count)) {
            return Err(format!("thresholds: {name} must be 1 to 1000"));
        }
        // Nothing is probed more than ten times a second, or less than once in an hour.
        let spans = [
            ("interval_ms", interval_ms),
            ("retry_ms", retry_ms),
            ("timeout_ms", self.timeout_ms()),
            ("slow_ms", self.slow_ms()),
        ];
        match spans.iter().find(|(_, span)| !(100..=3_600_000).contains(span)) {
            Some((name, _)) => Err(format!("thresholds: {name} must be 100 to 3600000")),
            None => Ok(()),
        }
    }

    fn timeout_ms(&self) -> u64 {
        self.thresholds.timeout_ms.unwrap_or(self.kind.timeout_ms())
    }

    fn slow_ms(&self) -> u64 {
        self.thresholds.slow_ms.unwrap_or(self.timeout_ms() / 2)
    }

    /// The deadline of a probe.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms())
    }

    /// Above which an answer is slow.
    pub fn slow(&self) -> Duration {
        Duration::from_millis(self.slow_ms())
    }

    /// The host of a target by its place.
    pub(super) fn host(&self, place: usize) -> Option<&str> {
        self.hosts.get(place).or(self.hosts.first().filter(|_| self.hosts.len() == 1)).map(String::as_str)
    }

    /// The password as it is now.
    pub(super) fn password(&self) -> Result<SecretString, String> {
        match (&self.password, &self.password_file) {
            (Some(password), _) => Ok(password.clone()),
            (None, None) => Ok(SecretString::default()),
            (None, Some(file)) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(SecretString::from(text.trim_end_matches(['\r', '\n']))),
                Err(error) => Err(format!("password_file {} cannot be read: {error}", file.display())),
            },
        }
    }
}

/// `host[:port]`, IPv6 in brackets.
pub(super) fn address(target: &str, default_port: u16) -> Result<(String, u16), String> {
    let wrong = || format!("target '{target}' is no host, host:port, [v6] or [v6]:port");
    let (host, port) = match target.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")).ok_or_else(wrong)?)
        }
        None => match target.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(wrong()),
            Some((host, port)) => (host, port),
            None => (target, ""),
        },
    };
    if host.is_empty() || host.contains(['/', '@', ' ']) {
        return Err(wrong());
    }
    let port = if port.is_empty() { default_port } else { port.parse().map_err(|_| wrong())? };
    Ok((host.to_owned(), port))
}

/// The port that a kind listens on by custom.
pub(super) fn address_of(kind: Kind, target: &str) -> Result<(String, u16), String> {
    address(target, kind.port().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(change: Value) -> ServiceConfig {
        let mut section = json!({"kind": "mariadb", "name": "db", "targets": ["db1", "db2:3307"], "username": "u", "password": "hunter2"});
        for (key, value) in change.as_object().unwrap() {
            section[key] = value.clone();
        }
        serde_json::from_value(section).unwrap()
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (json!({"targets": []}), "targets"),
            (json!({"targets": ["a", "a"]}), "twice"),
            (json!({"targets": ["a:b"]}), "'a:b'"),
            (json!({"targets": ["fd00::1"]}), "[v6]"),
            (json!({"kind": "http", "targets": ["db1:80"]}), "URL"),
            (json!({"kind": "http", "targets": ["http://u:hunter2@x/"]}), "password"),
            (json!({"kind": "nova"}), "catalog"),
            (json!({"password_file": "/f"}), "both password"),
            (json!({"username": null}), "username"),
            (json!({"action": "restart"}), "unit and hosts"),
            (json!({"hosts": ["a", "b", "c"]}), "3 hosts for 2 targets"),
            (json!({"thresholds": {"fail_after": 0}}), "fail_after"),
            (json!({"thresholds": {"interval_ms": 1}}), "interval_ms"),
            (json!({"name": "a@b"}), "name"),
        ];
        for (change, what) in cases {
            let error = read(change.clone()).check().unwrap_err().to_string();
            assert!(error.contains(what) && !error.contains("hunter2"), "{change}: {error}");
        }
        assert!(!format!("{:?}", read(json!({}))).contains("hunter2"));
        read(json!({"action": "restart", "unit": "mariadb.service", "hosts": ["a", "b"]})).check().unwrap();
    }

    #[test]
    fn targets_of_every_spelling() {
        let cases = [
            ("db", ("db", 3306)),
            ("db:1", ("db", 1)),
            ("10.0.0.1:2", ("10.0.0.1", 2)),
            ("[fd00::1]", ("fd00::1", 3306)),
            ("[fd00::1]:5", ("fd00::1", 5)),
        ];
        for (text, (host, port)) in cases {
            assert_eq!(address(text, 3306), Ok((host.to_owned(), port)), "{text}");
        }
        for bad in ["", ":1", "[fd00::1", "[fd00::1]x", "db:", "a/b", "db:99999"] {
            assert!(address(bad, 3306).is_err() || bad == "db:", "{bad}");
        }
    }

    #[test]
    fn hosts_belong_to_targets_by_their_place() {
        let many = read(json!({"hosts": ["a", "b"]}));
        assert_eq!((many.host(0), many.host(1)), (Some("a"), Some("b")));
        let one = read(json!({"hosts": ["a"]}));
        assert_eq!((one.host(0), one.host(1)), (Some("a"), Some("a")));
        assert_eq!(read(json!({})).host(0), None);
    }
}

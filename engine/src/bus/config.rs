//! `[bus]`: whether and where the original's event notifications are published.

use std::path::PathBuf;

use halberd_store::bus::Speaker;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::url::{self, Target};

/// Longest name of an AMQP exchange or queue, bytes (AMQP 0-9-1, shortstr); a topic is followed by `.error`.
const LONGEST_NAME: usize = 255;
const LONGEST_TOPIC: usize = LONGEST_NAME - ".error".len();
/// Below this a single rack's death would drop messages.
const SMALLEST_KEEP: u32 = 100;

/// The section `[bus]`. Without `url` and `url_file` nothing is told and nothing is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// `amqp://user:password@host:5672/vhost`, or another service's `transport_url` (`rabbit://u:p@h1:5672,u:p@h2:5672/vhost`).
    #[serde(skip_serializing)]
    pub url: Option<SecretString>,
    /// File with the URL instead; read at each connect, so that a new password needs no restart.
    pub url_file: Option<PathBuf>,
    /// The original's `control_exchange`.
    pub exchange: String,
    /// The original's `[oslo_messaging_notifications] topics`: each message goes to all of them.
    pub topics: Vec<String>,
    /// As the listeners' `amqp_durable_queues`: with it, what the broker has confirmed survives its restart. Counts for what is
    /// missing on the broker; an exchange or queue that exists is used as it is.
    pub durable_queues: bool,
    /// As the listeners' `rabbit_quorum_queue`; implies durable.
    pub quorum_queues: bool,
    /// TLS, as `amqps://` and `?ssl=1` ask for too.
    pub tls: bool,
    /// PEM certificates that the broker's must lead to; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// The machine's name in `publisher_id` (the original's `[DEFAULT] host`); default: its host name.
    pub host: Option<String>,
    /// Most messages that wait while the broker is away; then the oldest are dropped. One takes 1 to 2 kB.
    pub keep: u32,
}

impl Default for BusConfig {
    fn default() -> Self {
        BusConfig {
            url: None,
            url_file: None,
            exchange: "masakari".into(),
            topics: vec!["versioned_notifications".into()],
            // oslo.messaging's own defaults: a listener that finds a queue of another kind than its own settings fails.
            durable_queues: false,
            quorum_queues: false,
            tls: false,
            ca_file: None,
            host: None,
            keep: 100_000,
        }
    }
}

/// A `[bus]` that cannot be used. Never shows the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[bus] {key} {what}")]
pub struct ConfigError {
    pub key: &'static str,
    pub what: String,
}

impl BusConfig {
    /// Whether anything is told at all.
    pub fn is_configured(&self) -> bool {
        self.url.is_some() || self.url_file.is_some()
    }

    /// Everything that can be checked without reading another file.
    ///
    /// # Errors
    /// The first key that cannot stand.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |key, what: &str| Err(ConfigError { key, what: what.to_owned() });
        if self.url.is_some() && self.url_file.is_some() {
            return fail("url_file", "stands beside url: keep one");
        }
        let named = |name: &str, longest| !name.is_empty() && name.len() <= longest;
        if !named(&self.exchange, LONGEST_NAME) {
            return fail("exchange", "must have 1 to 255 bytes");
        }
        if self.topics.is_empty() || !self.topics.iter().all(|topic| named(topic, LONGEST_TOPIC)) {
            return fail("topics", "must name at least one topic, each of 1 to 249 bytes");
        }
        if self.keep < SMALLEST_KEEP {
            return fail("keep", "must be at least 100");
        }
        let tls = match &self.url {
            Some(text) => self.read(text, "url")?.tls,
            None => true,
        };
        if self.ca_file.is_some() && !tls {
            return fail("ca_file", "is set without TLS: write amqps://, ?ssl=1 or tls = true");
        }
        Ok(())
    }

    /// Who speaks in this process; `host` is the machine's name where none is configured.
    pub fn speaker(&self, host: &str) -> Speaker {
        Speaker { host: self.host.clone().unwrap_or_else(|| host.to_owned()), keep: i64::from(self.keep) }
    }

    /// The URL, read from its file where one is named.
    pub(super) fn target(&self) -> Result<Target, ConfigError> {
        match (&self.url, &self.url_file) {
            (Some(url), _) => self.read(url, "url"),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
                    key: "url_file",
                    what: format!("{} cannot be read: {error}", path.display()),
                })?;
                self.read(&SecretString::from(text), "url_file")
            }
            (None, None) => Err(ConfigError { key: "url", what: "is not set".into() }),
        }
    }

    /// The certificates of `ca_file`.
    pub(super) fn ca(&self) -> Result<Option<String>, ConfigError> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let text = std::fs::read_to_string(path);
        let failed = |error| ConfigError {
            key: "ca_file",
            what: format!("{} cannot be read: {error}", path.display()),
        };
        text.map(Some).map_err(failed)
    }

    fn read(&self, text: &SecretString, key: &'static str) -> Result<Target, ConfigError> {
        url::parse(text.expose_secret(), self.tls).map_err(|what| ConfigError { key, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(section: serde_json::Value) -> Result<(), ConfigError> {
        serde_json::from_value::<BusConfig>(section).unwrap().check()
    }

    #[test]
    fn what_cannot_stand_is_named() {
        let url = "amqp://u:hunter2@h";
        assert_eq!(read(json!({ "url": url })), Ok(()));
        assert_eq!(read(json!({ "url_file": "/etc/halberd/bus-url", "ca_file": "ca.pem" })), Ok(()));
        assert_eq!(read(json!({ "url": "amqps://h", "ca_file": "ca.pem" })), Ok(()));
        let table = [
            (json!({ "url": url, "url_file": "x" }), "url_file"),
            (json!({ "url": "hunter2" }), "url"),
            (json!({ "url": url, "exchange": "" }), "exchange"),
            (json!({ "url": url, "topics": [] }), "topics"),
            (json!({ "url": url, "topics": ["x".repeat(250)] }), "topics"),
            (json!({ "url": url, "keep": 99 }), "keep"),
            (json!({ "url": url, "ca_file": "ca.pem" }), "ca_file"),
        ];
        for (section, key) in table {
            let error = read(section.clone()).unwrap_err();
            assert_eq!(error.key, key, "{section}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let config: BusConfig = serde_json::from_value(json!({ "url": url })).unwrap();
        assert!(!format!("{config:?} {}", json!(config)).contains("hunter2"));
    }

    #[test]
    fn a_url_of_a_file_is_read_when_it_is_needed() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("url");
        let config: BusConfig = serde_json::from_value(json!({ "url_file": path })).unwrap();
        assert_eq!(config.target().unwrap_err().key, "url_file");
        std::fs::write(&path, "rabbit://u:p@one,u:p@two/v\n").unwrap();
        let target = config.target().unwrap();
        assert_eq!((target.hosts.len(), target.vhost.as_str()), (2, "v"));
    }
}

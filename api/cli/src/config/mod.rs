//! The configuration of `serve`, `api` and `engine`: one typed TOML tree, checked as a whole before anything starts.
//!
//! A misspelt threshold that is silently ignored is found on the night it was needed, so an unknown key is refused, with the nearest right
//! name; the right names come from the types themselves ([`keys`]). `HALBERD__SECTION__KEY` in the environment overrides `[section] key`.
//! An error names file, line and key, and never shows what stands there: it may be a password.

pub mod keys;
pub mod sample;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use halberd_api::{ApiConfig, AuthMode};
use halberd_core::policy::Policy;
use halberd_engine::EngineConfig;
use halberd_engine::announcer::{self, WebhookConfig};
use halberd_engine::bus::BusConfig;
use halberd_engine::effects::hooks::{self, HookConfig};
use halberd_engine::supervise::ServiceConfig;
use halberd_openstack::{OpenStack, OpenstackConfig};
use halberd_store::retention::Retention;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use keys::Known;

/// Prefix of overriding environment variables.
pub const ENV_PREFIX: &str = "HALBERD__";

/// The whole configuration, as it will be used.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it came from; `None`: nothing was given, everything is a default.
    pub origin: Option<PathBuf>,
    pub database: DatabaseConfig,
    pub api: ApiConfig,
    /// `None`: no cloud; readiness is red and hosts cannot be created.
    pub openstack: Option<OpenstackConfig>,
    pub engine: EngineConfig,
    pub policy: Policy,
    pub webhooks: Vec<WebhookConfig>,
    pub hooks: Vec<HookConfig>,
    pub services: Vec<ServiceConfig>,
    /// `None`: the message bus is told nothing.
    pub bus: Option<BusConfig>,
}

/// `[database]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:PATH`; may hold a password on other databases, hence never shown.
    pub url: SecretString,
    /// File with the URL instead.
    pub url_file: Option<PathBuf>,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        DatabaseConfig { url: SecretString::from(DEFAULT_URL), url_file: None }
    }
}

/// In the working directory, so that a first try needs nothing.
pub const DEFAULT_URL: &str = "sqlite:halberd.db";

/// A configuration that cannot be used. Never shows a value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin} cannot be read: {source}")]
    Read { origin: String, source: std::io::Error },
    #[error("{origin}, line {line}, column {column}: {what}")]
    Syntax { origin: String, line: usize, column: usize, what: String },
    #[error("{origin}: there is no {key}{}", nearest.as_ref().map_or(String::new(), |right| format!("; did you mean {right}?")))]
    UnknownKey { origin: String, key: String, nearest: Option<String> },
    #[error("{origin}: {key}: {what}")]
    Value { origin: String, key: String, what: String },
    /// Values that cannot stand together, in the words of the part they belong to.
    #[error("{origin}: {what}")]
    Unfit { origin: String, what: String },
}

impl Config {
    /// What `halberd serve` runs on when nothing is given: SQLite here, everybody an administrator, loopback only.
    pub fn unconfigured() -> Config {
        Config {
            origin: None,
            database: DatabaseConfig::default(),
            api: ApiConfig { auth: AuthMode::None, ..ApiConfig::default() },
            openstack: None,
            engine: EngineConfig::default(),
            policy: Policy::default(),
            webhooks: Vec::new(),
            hooks: Vec::new(),
            services: Vec::new(),
            bus: None,
        }
    }

    /// Reads a file (or nothing) and the environment, and checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`ConfigError`], the first thing that is wrong.
    pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
        let variables = std::env::vars().filter(|(name, _)| name.starts_with(ENV_PREFIX));
        let Some(path) = path else {
            let mut config = Config::parse("", "the environment", variables, true)?;
            config.origin = None;
            return Ok(config);
        };
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { origin: origin.clone(), source })?;
        let mut config = Config::parse(&text, &origin, variables, false)?;
        config.origin = Some(path.to_owned());
        Ok(config)
    }

    /// The same from text and given variables. `open`: no file was given, so `auth` defaults to `none`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        origin: &str,
        variables: impl Iterator<Item = (String, String)>,
        open: bool,
    ) -> Result<Config, ConfigError> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| syntax(origin, text, &error))?;
        let known = Known::of_everything();
        for (name, value) in variables {
            keys::override_key(&mut table, &known, name.trim_start_matches(ENV_PREFIX), &value).map_err(
                |(key, nearest)| ConfigError::UnknownKey {
                    origin: format!("environment variable {name}"),
                    key,
                    nearest,
                },
            )?;
        }
        known.check(&table).map_err(|(key, nearest)| ConfigError::UnknownKey {
            origin: origin.to_owned(),
            key,
            nearest,
        })?;
        if open {
            let api = table.entry("api").or_insert_with(|| Value::Table(Table::new()));
            if let Some(api) = api.as_table_mut() {
                api.entry("auth").or_insert_with(|| Value::String("none".into()));
            }
        }
        let retention: Retention = section(&mut table, origin, "retention")?.unwrap_or_default();
        let engine: EngineConfig = section(&mut table, origin, "engine")?.unwrap_or_default();
        let config = Config {
            origin: None,
            database: section(&mut table, origin, "database")?.unwrap_or_default(),
            api: section(&mut table, origin, "api")?.unwrap_or_default(),
            openstack: section::<OpenstackConfig>(&mut table, origin, "openstack")?
                .filter(OpenstackConfig::is_configured),
            engine: EngineConfig { retention, ..engine },
            policy: policy(&mut table, origin)?,
            webhooks: section(&mut table, origin, "webhooks")?.unwrap_or_default(),
            hooks: section(&mut table, origin, "hooks")?.unwrap_or_default(),
            services: section(&mut table, origin, "services")?.unwrap_or_default(),
            bus: section::<BusConfig>(&mut table, origin, "bus")?.filter(BusConfig::is_configured),
        };
        config.check(origin)?;
        Ok(config)
    }

    fn check(&self, origin: &str) -> Result<(), ConfigError> {
        let unfit = |what: String| ConfigError::Unfit { origin: origin.to_owned(), what };
        self.api.check().map_err(|error| unfit(error.to_string()))?;
        if self.api.auth == AuthMode::Keystone && self.openstack.is_none() {
            return Err(unfit(halberd_api::ConfigError::NoKeystone.to_string()));
        }
        self.engine.retention.check().map_err(unfit)?;
        announcer::check(&self.webhooks).map_err(|error| unfit(error.to_string()))?;
        if let Some(bus) = &self.bus {
            bus.check().map_err(|error| unfit(error.to_string()))?;
        }
        hooks::check(&self.hooks).map_err(|error| unfit(error.to_string()))?;
        self.services.iter().try_for_each(|service| service.check().map_err(|error| unfit(error.to_string())))
    }

    /// What needs other files: the cloud named in clouds.yaml, secrets in files. Asks nobody.
    ///
    /// # Errors
    /// [`ConfigError::Unfit`].
    pub async fn check_files(&self) -> Result<(), ConfigError> {
        let origin = self.origin();
        self.database_url()?;
        let unfit = |what: String| ConfigError::Unfit { origin: self.origin(), what };
        hooks::Hooks::new(&self.hooks).map_err(|error| unfit(error.to_string()))?;
        self.api.policy().map_err(|error| unfit(error.to_string()))?;
        if let Some(openstack) = &self.openstack {
            OpenStack::new(openstack)
                .await
                .map_err(|error| ConfigError::Unfit { origin, what: error.to_string() })?;
        }
        Ok(())
    }

    /// The database's URL, read from its file where one is named.
    ///
    /// # Errors
    /// [`ConfigError::Value`] when that file cannot be read.
    pub fn database_url(&self) -> Result<SecretString, ConfigError> {
        let Some(path) = &self.database.url_file else { return Ok(self.database.url.clone()) };
        let refuse = |what: String| ConfigError::Value {
            origin: self.origin(),
            key: "[database] url_file".into(),
            what,
        };
        if self.database.url.expose_secret() != DEFAULT_URL {
            return Err(refuse("has both url and url_file: keep one".into()));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| refuse(format!("{} cannot be read: {error}", path.display())))?;
        Ok(SecretString::from(text.trim()))
    }

    /// For messages.
    pub fn origin(&self) -> String {
        self.origin.as_ref().map_or_else(|| "configuration".into(), |path| path.display().to_string())
    }
}

fn syntax(origin: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    // The error's own text would show the line.
    let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ConfigError::Syntax { origin: origin.to_owned(), line, column, what: plain(error.message()) }
}

fn section<T: DeserializeOwned>(
    table: &mut Table,
    origin: &str,
    name: &str,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = table.remove(name) else { return Ok(None) };
    let refuse = |key: String, what: String| ConfigError::Value { origin: origin.to_owned(), key, what };
    let error = match value.clone().try_into::<T>() {
        Ok(read) => return Ok(Some(read)),
        Err(error) => error,
    };
    // Which key it was, serde does not say: the one without which it reads, or fails otherwise.
    let guilty = value.as_table().and_then(|section| {
        section.keys().find(|key| {
            let mut without = section.clone();
            without.remove(*key);
            Value::Table(without).try_into::<T>().map_err(|other| other.message().to_owned()).err().as_deref()
                != Some(error.message())
        })
    });
    let key = guilty.map_or_else(|| format!("[{name}]"), |key| format!("[{name}] {key}"));
    Err(refuse(key, plain(error.message())))
}

/// `[policy]` lies over its profile's defaults.
fn policy(table: &mut Table, origin: &str) -> Result<Policy, ConfigError> {
    let section = table.remove("policy").unwrap_or_else(|| Value::Table(Table::new()));
    let map = match serde_json::to_value(section) {
        Ok(serde_json::Value::Object(map)) => map,
        _ => {
            return Err(ConfigError::Value {
                origin: origin.to_owned(),
                key: "[policy]".into(),
                what: "must be a table".into(),
            });
        }
    };
    halberd_engine::config::policy_from(&map).map_err(|error| {
        let guilty = map.iter().find(|(name, value)| {
            let alone = serde_json::Map::from_iter([((*name).clone(), (*value).clone())]);
            halberd_engine::config::policy_from(&alone).is_err()
        });
        let key = guilty.map_or_else(|| "[policy]".into(), |(name, _)| format!("[policy] {name}"));
        ConfigError::Value { origin: origin.to_owned(), key, what: plain(&error.to_string()) }
    })
}

/// Serde's words without the value they quote.
fn plain(message: &str) -> String {
    let message = message.trim();
    let cut = |kind: &str| {
        message.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected ")).map(|(_, wanted)| wanted)
    };
    if let Some(wanted) = cut("invalid type: ").or_else(|| cut("invalid value: ")) {
        return format!("expected {wanted}");
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return match rest.split_once(", expected ") {
            Some((_, wanted)) => format!("expected {wanted}"),
            None => "this word is not known".into(),
        };
    }
    let shows_nothing = !message.contains(['"', '`']) || message.starts_with("missing field ");
    if shows_nothing {
        message.to_owned()
    } else {
        message.split(['"', '`']).next().unwrap_or_default().trim().to_owned() + " ..."
    }
}

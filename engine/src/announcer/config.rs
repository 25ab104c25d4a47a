//! `[[webhooks]]`: who is told of what, and how. Everything that can be wrong in it is found when the engine starts, not
//! when the first host has died.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use halberd_core::event::EventKind;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::network::Network;
use super::preset::{self, Preset};
use super::sign::Keys;
use super::template::Template;
use super::ticket;

/// A receiver that has not answered after this long has failed this attempt. Standard Webhooks asks senders for 15 to 30 s;
/// a page for a person must be tried again sooner than that.
const TIMEOUT_MS: u64 = 10_000;
/// Longest that an operator may set: a lane of the hook is held for so long.
const LONGEST_TIMEOUT_MS: u64 = 120_000;

/// One `[[webhooks]]` section.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Unique; deliveries are stored under it, so a renamed hook starts afresh.
    pub name: String,
    /// Where to POST. Some receivers' URLs are secrets themselves (Slack's), so only scheme, host and port are ever shown.
    pub url: SecretString,
    /// Standard Webhooks' `whsec_...`; several, separated by blanks, sign side by side while one is being replaced. Without
    /// one, nothing is signed.
    pub secret: Option<SecretString>,
    /// File with the same; read at each delivery, so that a rotation needs no restart.
    pub secret_file: Option<PathBuf>,
    /// `generic` (a CloudEvent, the default), `servicenow`, `jira`, `pagerduty`, `alertmanager`, `slack`, or a JSON document
    /// of your own with `{{path.to.field}}` in its strings.
    #[serde(default = "generic")]
    pub template: String,
    /// Kinds of events, or `"*"`. Default: for a ticketing template those that open, change or close a ticket, else all.
    pub events: Option<Events>,
    /// Further request headers, e.g. `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretValue>,
    /// Values for templates as `{{params.NAME}}`: PagerDuty's `routing_key`, Jira's `project`, ...
    #[serde(default)]
    pub params: BTreeMap<String, SecretValue>,
    /// If not empty, the only networks (CIDR) that may be connected to, whatever the name resolves to.
    #[serde(default)]
    pub allow_networks: Vec<String>,
    /// HTTP proxy to send through; none is taken from the environment. Not together with `allow_networks`, which could not be
    /// checked behind it.
    pub proxy: Option<SecretString>,
    /// For a whole attempt, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

fn generic() -> String {
    preset::GENERIC.into()
}

fn timeout_ms() -> u64 {
    TIMEOUT_MS
}

/// `"*"` or a list of kinds.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Events {
    One(String),
    Several(Vec<String>),
}

/// A value in place, or the file that holds it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum SecretValue {
    Inline(SecretString),
    File {
        /// Read at each use; one line.
        file: PathBuf,
    },
}

impl SecretValue {
    pub(super) fn read(&self) -> Result<SecretString, String> {
        match self {
            SecretValue::Inline(value) => Ok(value.clone()),
            SecretValue::File { file } => match std::fs::read_to_string(file) {
                Ok(text) if !text.trim().is_empty() => Ok(SecretString::from(text.trim())),
                Ok(_) => Err(format!("{} is empty", file.display())),
                Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
            },
        }
    }
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("name", &self.name)
            .field("origin", &Url::parse(self.url.expose_secret()).map(|url| shown(&url)).ok())
            .field("template", &self.template)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// The part of a URL that may be shown.
pub(super) fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// A section that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[webhooks]] '{name}': {what}")]
pub struct ConfigError {
    pub name: String,
    pub what: String,
}

/// Which events a hook is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    All,
    Kinds(BTreeSet<EventKind>),
}

impl Interest {
    pub fn wants(&self, kind: EventKind) -> bool {
        match self {
            Interest::All => true,
            Interest::Kinds(kinds) => kinds.contains(&kind),
        }
    }
}

/// A section that was checked.
#[derive(Clone)]
pub(super) struct Hook {
    pub name: String,
    pub url: Url,
    pub secret: Option<SecretValue>,
    pub template: Option<Template>,
    pub preset: Option<&'static Preset>,
    pub interest: Interest,
    pub headers: Vec<(HeaderName, SecretValue)>,
    pub params: BTreeMap<String, SecretValue>,
    pub networks: Vec<Network>,
    pub proxy: Option<Url>,
    pub timeout: Duration,
}

impl Hook {
    /// Whether its events are moves of tickets, whose order is their meaning.
    pub fn keeps_tickets(&self) -> bool {
        self.preset.is_some_and(|preset| preset.tickets)
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hook({} to {})", self.name, shown(&self.url))
    }
}

impl WebhookConfig {
    /// Checks everything that can be checked without sending.
    pub(super) fn check(&self) -> Result<Hook, ConfigError> {
        self.checked().map_err(|what| ConfigError { name: self.name.clone(), what })
    }

    fn checked(&self) -> Result<Hook, String> {
        if self.name.is_empty() || self.name.len() > 100 {
            return Err("name it in 1 to 100 characters".into());
        }
        let url = Url::parse(self.url.expose_secret()).map_err(|error| format!("url: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("url must be an http or https URL".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("url carries a user or password; put them into headers as Authorization".into());
        }
        let secret = match (&self.secret, &self.secret_file) {
            (Some(_), Some(_)) => return Err("has both secret and secret_file: keep one".into()),
            (Some(secret), None) => Some(SecretValue::Inline(secret.clone())),
            (None, Some(file)) => Some(SecretValue::File { file: file.clone() }),
            (None, None) => None,
        };
        if let Some(secret) = &secret {
            Keys::parse(&secret.read().map_err(|what| format!("secret: {what}"))?)
                .map_err(|what| format!("secret: {what}"))?;
        }
        let (preset, template) = self.body()?;
        let networks: Vec<Network> =
            self.allow_networks.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        super::network::check_literal(&url, &networks)?;
        if !(1..=LONGEST_TIMEOUT_MS).contains(&self.timeout_ms) {
            return Err(format!("timeout_ms must be 1 to {LONGEST_TIMEOUT_MS}"));
        }
        Ok(Hook {
            name: self.name.clone(),
            interest: self.interest(preset)?,
            headers: self.checked_headers()?,
            params: self.checked_params(preset)?,
            timeout: Duration::from_millis(self.timeout_ms),
            url,
            secret,
            template,
            preset,
            networks,
            proxy: self.checked_proxy()?,
        })
    }

    fn checked_proxy(&self) -> Result<Option<Url>, String> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        if !self.allow_networks.is_empty() {
            return Err(
                "has both proxy and allow_networks: behind a proxy the latter cannot be checked".into()
            );
        }
        Url::parse(proxy.expose_secret()).map(Some).map_err(|error| format!("proxy: {error}"))
    }

    fn body(&self) -> Result<(Option<&'static Preset>, Option<Template>), String> {
        let text = self.template.trim();
        if text == preset::GENERIC {
            return Ok((None, None));
        }
        if text.starts_with(['{', '[', '"']) {
            return Ok((None, Some(Template::parse(text).map_err(|what| format!("template: {what}"))?)));
        }
        let preset = preset::find(text).ok_or_else(|| {
            let names: Vec<_> = preset::PRESETS.iter().map(|preset| preset.name).collect();
            format!("template '{text}' is none of generic, {}, and no JSON document", names.join(", "))
        })?;
        let template =
            Template::parse(preset.template).map_err(|what| format!("template {}: {what}", preset.name))?;
        Ok((Some(preset), Some(template)))
    }

    fn interest(&self, preset: Option<&Preset>) -> Result<Interest, String> {
        let tickets = preset.filter(|preset| preset.tickets);
        let every = || match tickets {
            Some(_) => {
                Interest::Kinds(EventKind::ALL.iter().copied().filter(|kind| ticket::moves(*kind)).collect())
            }
            None => Interest::All,
        };
        let words = match &self.events {
            None => return Ok(every()),
            Some(Events::One(word)) => std::slice::from_ref(word),
            Some(Events::Several(words)) => words,
        };
        if words.iter().any(|word| word == "*") {
            return Ok(every());
        }
        let kind = |word: &String| {
            word.parse().map_err(|_| {
                let known: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
                format!("events: '{word}' is no kind of event; there are *, {}", known.join(", "))
            })
        };
        let kinds: BTreeSet<EventKind> = words.iter().map(kind).collect::<Result<_, String>>()?;
        match (tickets, kinds.iter().find(|kind| !ticket::moves(**kind))) {
            (Some(preset), Some(kind)) => {
                Err(format!("events: {kind} moves no ticket, so template {} cannot tell it", preset.name))
            }
            _ => Ok(Interest::Kinds(kinds)),
        }
    }

    fn checked_headers(&self) -> Result<Vec<(HeaderName, SecretValue)>, String> {
        let check = |(name, value): (&String, &SecretValue)| {
            let header: HeaderName =
                name.parse().map_err(|_| format!("headers: '{name}' is no header name"))?;
            if header.as_str().starts_with("webhook-")
                || matches!(header.as_str(), "content-length" | "host" | "transfer-encoding")
            {
                return Err(format!("headers: '{name}' is set by us"));
            }
            let read = value.read().map_err(|what| format!("header '{name}': {what}"))?;
            HeaderValue::from_str(read.expose_secret())
                .map_err(|_| format!("header '{name}': its value is not one line of text"))?;
            Ok((header, value.clone()))
        };
        self.headers.iter().map(check).collect()
    }

    fn checked_params(&self, preset: Option<&Preset>) -> Result<BTreeMap<String, SecretValue>, String> {
        for (name, value) in &self.params {
            value.read().map_err(|what| format!("params.{name}: {what}"))?;
        }
        let missing =
            preset.and_then(|preset| preset.needs.iter().find(|name| !self.params.contains_key(**name)));
        match (missing, preset) {
            (Some(name), Some(preset)) => Err(format!("template {} wants params.{name}", preset.name)),
            _ => Ok(self.params.clone()),
        }
    }
}

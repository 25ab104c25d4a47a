//! `[[hooks]]`: what an operator has run at fixed points of a recovery. Everything that can be wrong in a section is found when the
//! engine starts, not when the first host has died.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use halberd_core::hook::{HookSpec, OnFailure, Point};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::announcer::{SecretValue, WebhookConfig};

/// Guests wait for a hook before them: what takes longer should be begun by it and not waited for.
const TIMEOUT_S: u64 = 30;
/// A recovery that waits ten minutes for one run of a script is no recovery any more.
const LONGEST_TIMEOUT_S: u64 = 600;
/// A third failure in a row is no passing trouble.
const MOST_ATTEMPTS: u32 = 3;

/// One `[[hooks]]` section.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// Unique. A recovery remembers its hooks by it.
    pub name: String,
    /// `pre`, `main`, `post`: see [`Point`].
    #[serde(default)]
    pub at: Vec<String>,
    /// Kinds of recoveries: `host`, `instance`, `process`. Default: all three.
    #[serde(default = "every_kind")]
    pub recoveries: Vec<String>,
    /// Program and arguments, run as they stand, without a shell; the program by its absolute path.
    #[serde(default)]
    pub command: Vec<String>,
    /// Instead of a command: where to POST.
    pub url: Option<SecretString>,
    /// For a url: file with Standard Webhooks' `whsec_...`; read at each call. Without one, nothing is signed.
    pub secret_file: Option<PathBuf>,
    /// For a url: further request headers, e.g. `Authorization`.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretValue>,
    /// Seconds for one attempt, 1 to 600.
    #[serde(default = "timeout_s")]
    pub timeout_s: u64,
    /// Runs until one ends well, before it counts as failed; 1 to 3.
    #[serde(default = "one")]
    pub attempts: u32,
    /// `continue` or `hold`: see [`OnFailure`].
    #[serde(default = "go_on")]
    pub on_failure: String,
}

fn every_kind() -> Vec<String> {
    KINDS.map(Into::into).to_vec()
}

fn timeout_s() -> u64 {
    TIMEOUT_S
}

fn one() -> u32 {
    1
}

fn go_on() -> String {
    OnFailure::Continue.as_str().to_owned()
}

const KINDS: [&str; 3] = ["host", "instance", "process"];

impl fmt::Debug for HookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.command.first();
        f.debug_struct("HookConfig")
            .field("name", &self.name)
            .field("program", &program)
            .finish_non_exhaustive()
    }
}

/// A section that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("[[hooks]] '{name}': {what}")]
pub struct ConfigError {
    pub name: String,
    pub what: String,
}

/// A section that was checked.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub spec: HookSpec,
    pub kinds: Vec<String>,
}

/// Checks every section without looking at files: for a configuration that is not used on this machine, or not yet.
///
/// # Errors
/// The first section that cannot be used, and why.
pub fn check(sections: &[HookConfig]) -> Result<(), ConfigError> {
    checked(sections).map(|_| ())
}

/// Every section, in the order of the configuration.
pub(super) fn checked(sections: &[HookConfig]) -> Result<Vec<Checked>, ConfigError> {
    let mut names = BTreeSet::new();
    let check = |section: &HookConfig| {
        let twice = !names.insert(section.name.clone());
        let found =
            if twice { Err("there are two of this name: rename one".into()) } else { section.check() };
        found.map_err(|what| ConfigError { name: section.name.clone(), what })
    };
    sections.iter().map(check).collect()
}

impl HookConfig {
    fn check(&self) -> Result<Checked, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 60 || !self.name.chars().all(fits) {
            return Err("name it in 1 to 60 letters, digits, '-', '_', '.'".into());
        }
        if self.at.is_empty() {
            return Err("at is empty: say when it is to run, e.g. at = [\"pre\"] (pre, main, post)".into());
        }
        let at = unique("at", &self.at, |word| word.parse::<Point>().ok(), &words(Point::ALL))?;
        let known = |word: &str| KINDS.contains(&word).then(|| word.to_owned());
        if self.recoveries.is_empty() {
            return Err(format!("recoveries is empty: leave it out for all of {}", KINDS.join(", ")));
        }
        let kinds = unique("recoveries", &self.recoveries, known, &KINDS.join(", "))?;
        let on_failure = OnFailure::from_str(&self.on_failure).map_err(|_| {
            format!(
                "on_failure '{}' is not one of {}{}",
                self.on_failure,
                words(OnFailure::ALL),
                no_fail(&self.on_failure)
            )
        })?;
        if !(1..=LONGEST_TIMEOUT_S).contains(&self.timeout_s) {
            return Err(format!("timeout_s is {}: set 1 to {LONGEST_TIMEOUT_S} seconds", self.timeout_s));
        }
        if !(1..=MOST_ATTEMPTS).contains(&self.attempts) {
            return Err(format!("attempts is {}: set 1 to {MOST_ATTEMPTS}", self.attempts));
        }
        self.check_what()?;
        let (name, timeout_s, attempts) = (self.name.clone(), self.timeout_s, self.attempts);
        Ok(Checked { spec: HookSpec { name, at, timeout_s, attempts, on_failure }, kinds })
    }

    fn check_what(&self) -> Result<(), String> {
        match (self.command.first(), &self.url) {
            (Some(_), Some(_)) => Err("has both command and url: keep one".into()),
            (None, None) => Err("has neither command nor url: set one".into()),
            (Some(program), None) => {
                if self.secret_file.is_some() || !self.headers.is_empty() {
                    return Err(
                        "secret_file and headers are for a url: remove them, or set url instead of command"
                            .into(),
                    );
                }
                let path = Path::new(program);
                if !path.is_absolute() {
                    return Err(format!(
                        "command: '{program}' is no absolute path: write where it lies, e.g. /usr/local/bin/{program} (nothing is searched \
                         for, and no shell is used)"
                    ));
                }
                if self.command.iter().any(|part| part.contains('\0')) {
                    return Err("command: holds a NUL character: remove it".into());
                }
                Ok(())
            }
            // What else can be wrong with it, the webhook's own check tells, see [`HookConfig::webhook`].
            (None, Some(url)) => match Url::parse(url.expose_secret()) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
                Ok(_) => Err("url must be an http or https URL".into()),
                Err(error) => Err(format!("url: {error}")),
            },
        }
    }

    /// Whether the program is there and may be run, by anybody.
    pub(super) fn check_program(&self) -> Result<(), String> {
        let Some(program) = self.command.first() else { return Ok(()) };
        let there = std::fs::metadata(program).map_err(|error| {
            format!("command: {program} cannot be used: {error}; put it there, or correct the path")
        })?;
        if !there.is_file() {
            return Err(format!("command: {program} is no file: name a program"));
        }
        if there.permissions().mode() & 0o111 == 0 {
            return Err(format!("command: {program} is not executable: chmod 755 it"));
        }
        Ok(())
    }

    /// The same receiver as a webhook's section, so that one set of rules holds for both.
    pub(super) fn webhook(&self) -> Option<WebhookConfig> {
        Some(WebhookConfig {
            name: self.name.clone(),
            url: self.url.clone()?,
            secret: None,
            secret_file: self.secret_file.clone(),
            template: "generic".into(),
            events: None,
            headers: self.headers.clone(),
            params: BTreeMap::new(),
            allow_networks: Vec::new(),
            proxy: None,
            timeout_ms: 1_000,
        })
    }
}

fn no_fail(word: &str) -> &'static str {
    match word {
        "fail" | "abort" | "cancel" => " (no hook can end a recovery: its guests would be lost)",
        _ => "",
    }
}

fn words<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn unique<T: PartialEq>(
    key: &str,
    given: &[String],
    read: impl Fn(&str) -> Option<T>,
    known: &str,
) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    for word in given {
        let one = read(word).ok_or_else(|| format!("{key}: '{word}' is not one of {known}"))?;
        if all.contains(&one) {
            return Err(format!("{key}: '{word}' stands there twice: keep one"));
        }
        all.push(one);
    }
    Ok(all)
}

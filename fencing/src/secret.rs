//! Secrets that a description only names: `file:/path`, `env:NAME`, `vault:PATH#KEY`, resolved when a session is opened.
//!
//! A reference is no secret and is shown; what it leads to lives as long as the session's login and is never part of an error. It is
//! looked up at each opening, so a rotated password needs no new description. A source that cannot be asked now is asked
//! again within the level's time; one that says no is final for this act.
//!
//! Only references that begin as the engine's configuration allows are looked up ([`Limits::references`]).
//!
//! A literal password that begins with one of the three words has to be put into a file.

mod vault;

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::device::{Device, secret_key};
use crate::error::{FenceError, clip};
use crate::limits::Limits;
use crate::power::{Expected, PowerDevice, PowerSession};

/// Longest secret. A password or key is a line; what is longer is the wrong file.
const LONGEST: u64 = 4_096;

/// Where a secret lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    File(String),
    Env(String),
    Vault { path: String, key: String },
}

/// Reads environment variables; tests have their own.
pub(crate) type Env<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The process' environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Why there is no secret. Texts name the source, never what it holds.
#[derive(Debug)]
struct Failed {
    detail: String,
    /// It may succeed when asked again.
    transient: bool,
}

fn lasting(detail: impl Into<String>) -> Failed {
    Failed { detail: detail.into(), transient: false }
}

fn passing(detail: impl Into<String>) -> Failed {
    Failed { detail: detail.into(), transient: true }
}

/// True if this text names a secret rather than being one.
pub(crate) fn is_reference(text: &str) -> bool {
    ["file:", "env:", "vault:"].iter().any(|kind| text.starts_with(kind))
}

impl Reference {
    /// `None`: the text is a secret itself. An error does not repeat it, since it might be one after all.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        if let Some(path) = text.strip_prefix("file:") {
            let plain = Path::new(path).is_absolute()
                && !path.split('/').any(|part| part == "..")
                && !path.chars().any(char::is_control);
            return Some(
                plain.then(|| Self::File(path.to_owned())).ok_or("file: needs an absolute path without .."),
            );
        }
        if let Some(name) = text.strip_prefix("env:") {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let plain = name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit());
            return Some(
                plain.then(|| Self::Env(name.to_owned())).ok_or("env: needs the name of a variable"),
            );
        }
        let rest = text.strip_prefix("vault:")?;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@');
        let segment = |s: &str| !s.is_empty() && !matches!(s, "." | "..") && s.chars().all(word);
        let parts = rest.split_once('#').filter(|(path, key)| {
            path.split('/').count() > 1
                && path.split('/').all(segment)
                && !key.is_empty()
                && key.chars().all(word)
        });
        let vault = parts.map(|(path, key)| Self::Vault { path: path.to_owned(), key: key.to_owned() });
        Some(vault.ok_or("vault: needs MOUNT/PATH#KEY of letters, digits, _ - . @"))
    }

    async fn look_up(&self, limits: &Limits, env: Env<'_>) -> Result<SecretString, Failed> {
        let found = match self {
            Self::File(path) => read(path).await?,
            Self::Env(name) => {
                Zeroizing::new(env(name).ok_or_else(|| lasting("no such variable, or it is empty"))?)
            }
            Self::Vault { path, key } => vault::read(path, key, limits, env).await?,
        };
        let text = found.strip_suffix('\n').map_or(found.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
        if text.is_empty() {
            return Err(lasting("it is empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(lasting("it holds a control character or more than one line"));
        }
        Ok(SecretString::from(text))
    }
}

/// A file that holds one secret, closed to all but its owner: a group has members that nobody thinks of.
async fn read(path: &str) -> Result<Zeroizing<String>, Failed> {
    let unread = |e: std::io::Error| lasting(e.to_string());
    // Without this a FIFO would hold us until somebody writes.
    let metadata = tokio::fs::metadata(path).await.map_err(unread)?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(lasting(format!("it is no regular file of at most {LONGEST} bytes")));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(lasting(format!(
            "it is open to others (mode {:04o}); give it to the engine's user and chmod 600",
            metadata.mode() & 0o7777
        )));
    }
    let mut text = Zeroizing::new(String::new());
    let file = tokio::fs::File::open(path).await.map_err(unread)?;
    file.take(LONGEST).read_to_string(&mut text).await.map_err(unread)?;
    Ok(text)
}

/// The same device with its references resolved, and checked once more: what they lead to must fit it too.
pub(crate) async fn resolve(device: &Device, limits: &Limits, env: Env<'_>) -> Result<Device, FenceError> {
    let mut resolved = device.clone();
    let mut all: Vec<&mut SecretString> = resolved.password.iter_mut().chain(&mut resolved.kg).collect();
    for secret in &mut all {
        if let Some(found) = look_up(device, secret.expose_secret(), limits, env).await? {
            **secret = found;
        }
    }
    for (_, value) in resolved.options.iter_mut().filter(|(key, _)| secret_key(key)) {
        if let Some(found) = look_up(device, value, limits, env).await? {
            found.expose_secret().clone_into(value);
        }
    }
    let fits = resolved.validate("what its references lead to");
    fits.map_err(|e| FenceError::Config { device: device.name(), detail: e.to_string() })?;
    Ok(resolved)
}

async fn look_up(
    device: &Device,
    text: &str,
    limits: &Limits,
    env: Env<'_>,
) -> Result<Option<SecretString>, FenceError> {
    let Some(reference) = Reference::parse(text) else { return Ok(None) };
    let failed = |failed: Failed| FenceError::Secret {
        device: device.name(),
        reference: clip(text),
        detail: clip(&failed.detail),
        transient: failed.transient,
    };
    let allowed = |start: &String| !start.is_empty() && text.starts_with(start.as_str());
    let found = match reference {
        Ok(_) if !limits.references.iter().any(allowed) => {
            Err(lasting("it is not among the allowed ones; name its beginning in [engine] secret_references"))
        }
        Ok(reference) => reference.look_up(limits, env).await,
        Err(reason) => Err(lasting(reason)),
    };
    found.map(Some).map_err(failed)
}

/// A device whose secrets are looked up when it is opened.
#[derive(Debug)]
pub(crate) struct Referring {
    pub device: Device,
    pub expected: Expected,
    pub limits: Limits,
}

#[async_trait]
impl PowerDevice for Referring {
    async fn open(&self) -> Result<Box<dyn PowerSession>, FenceError> {
        let device = resolve(&self.device, &self.limits, &environment).await?;
        crate::chain::driver(&device, &self.expected, &self.limits)?.open().await
    }
}

#[cfg(test)]
mod tests;

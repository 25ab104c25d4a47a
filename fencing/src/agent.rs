//! Any program of the fence-agents family, over its stdin protocol: PDUs, blades, switches.
//!
//! Parameters go in as `key=value` lines on stdin, never as arguments (those are visible to everybody), and there is no
//! shell anywhere between a description and the agent: whatever an option holds is one line of its stdin, and options that an agent would hand to a shell of its own are refused by name. Which program may be run is not the
//! description's to say alone (`program`). An exit code is believed only where it cannot mean something else: `status` answers 2 for off and fence-agents
//! also exit with 2 for bad arguments, so Off needs both the code and the words `Status: OFF`.
//!
//! `metadata` is what an agent says of itself, and what a description is checked with; `process` runs it.

mod metadata;
mod process;
mod program;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::device::{self, Device};
use crate::error::{FenceError, clip, one_line};
use crate::limits::Limits;
use crate::power::{Answer, Findings, Identity, PowerDevice, PowerSession, PowerState, RestorePolicy};
use metadata::Metadata;
use process::{Failed, Finished};

/// Metadata by program. A check reads it anew, so an agent that was replaced is known within minutes.
static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Metadata>>>> = LazyLock::new(Mutex::default);

/// Characters of a dry run's line: an agent with all its options, and no more.
const WOULD: usize = 1_000;
/// Characters of a sentence on the program's file: two paths of ordinary length and what to do.
const SENTENCE: usize = 700;

/// A described agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    device: Device,
    limits: Limits,
    metadata: Option<Arc<Metadata>>,
}

impl Agent {
    pub(crate) fn new(device: &Device, limits: &Limits) -> Self {
        Self { device: device.clone(), limits: limits.clone(), metadata: None }
    }

    fn program(&self) -> &str {
        self.device.program.as_deref().unwrap_or_default()
    }

    fn config(&self, detail: impl AsRef<str>) -> FenceError {
        FenceError::Config { device: self.device.name(), detail: clip(detail.as_ref()) }
    }

    /// The name by which this agent knows a parameter: the present one unless only an older one is known.
    fn name<'a>(&self, names: &[&'a str]) -> &'a str {
        self.metadata.as_ref().and_then(|m| m.known(names)).unwrap_or(names[0])
    }

    /// All parameters but the action, by the agent's own names.
    fn parameters(&self) -> Result<Vec<(String, Zeroizing<String>)>, FenceError> {
        let mut all = Vec::new();
        let mut put = |key: &str, value: &str| all.push((key.to_owned(), Zeroizing::new(value.to_owned())));
        if let Some(address) = &self.device.address {
            let (host, port) = device::host_port(address, self.device.port, u16::MAX)
                .map_err(|e| self.config(format!("address {e}")))?;
            put(self.name(&["ip", "ipaddr"]), &host);
            if port != u16::MAX {
                put("ipport", &port.to_string());
            }
        }
        if let Some(username) = &self.device.username {
            put(self.name(&["username", "login"]), username);
        }
        if let Some(password) = &self.device.password {
            put(self.name(&["password", "passwd"]), password.expose_secret());
        }
        for (key, value) in &self.device.options {
            put(key, value);
        }
        Ok(all)
    }

    /// What goes to stdin. Values are free of control characters ([`crate::FenceDevices::validate`]).
    fn stdin(&self, action: &str) -> Result<Zeroizing<String>, FenceError> {
        let mut text = Zeroizing::new(format!("action={action}\n"));
        for (key, value) in self.parameters()? {
            for part in [&key, "=", &value, "\n"] {
                text.push_str(part);
            }
        }
        Ok(text)
    }

    async fn run(&self, action: &str) -> Result<Finished, FenceError> {
        // Agents wait for the power themselves, so they get a level's time rather than a request's.
        self.finish(action, &self.stdin(action)?, self.limits.level).await
    }

    async fn finish(&self, action: &str, parameters: &str, within: Duration) -> Result<Finished, FenceError> {
        let of_program = |why: String| FenceError::Config {
            device: self.device.name(),
            detail: one_line(&format!("program {:?} {why}", self.program()), SENTENCE),
        };
        let file = program::find(self.program(), process::PATH).map_err(of_program)?;
        process::run(&file, parameters, within).await.map_err(|failed| match failed {
            Failed::Start(e) => of_program(format!("cannot be started ({e}); run it by hand on this engine")),
            Failed::Late => {
                FenceError::Killed { device: self.device.name(), action: action.to_owned(), after: within }
            }
        })
    }

    /// What the agent says of itself. Needs no credentials, so it gets none.
    async fn learn(&self) -> Result<Arc<Metadata>, FenceError> {
        let output = self.finish("metadata", "action=metadata\n", self.limits.request).await?;
        let found = Metadata::parse(&output.stdout).map(Arc::new).ok_or_else(|| FenceError::Malformed {
            device: self.device.name(),
            detail: "action metadata prints no parameters and actions; is it a fence agent?".to_owned(),
        })?;
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.program().to_owned(), found.clone());
        Ok(found)
    }

    fn remembered(&self) -> Option<Arc<Metadata>> {
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(self.program()).cloned()
    }

    /// Refuses what the agent would pass over with a warning.
    fn validate(&self, metadata: &Metadata) -> Result<(), FenceError> {
        let parameters = self.parameters()?;
        let refused = metadata.refuses(parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        if let Some(why) = refused {
            return Err(self.config(why));
        }
        let lacks =
            ["off", "status"].into_iter().find(|action| !metadata.actions.iter().any(|a| a == action));
        lacks.map_or(Ok(()), |action| {
            let detail = format!("the agent has no action {action}, so it cannot switch off and prove it");
            Err(FenceError::NotOffered { device: self.device.name(), detail })
        })
    }

    /// The meaning of a failed action's exit code (fence-agents' fencing.py).
    fn error(&self, action: &str, code: Option<i32>) -> FenceError {
        let device = self.device.name();
        let Some(code) = code else {
            return FenceError::Malformed { device, detail: format!("{action} was killed by a signal") };
        };
        let detail = format!("{action} ended with exit code {code}");
        match code {
            2 => FenceError::Config { device, detail: format!("{detail}: arguments are missing or wrong") },
            3 => FenceError::Credentials { device, detail },
            4 => FenceError::Unreachable { device, detail },
            5 => FenceError::Silent { device, what: action.to_owned(), after: self.limits.level },
            6..=9 => FenceError::Busy { device, detail, retry_after: None },
            10 => FenceError::Config { device, detail: format!("{detail}: the password is missing") },
            11 => FenceError::Privilege { device, detail },
            // 1 is fence-agents' word for everything else, an uncaught exception included; others are not theirs. None says
            // anything about the power.
            _ => FenceError::Failed { device, detail },
        }
    }

    async fn order(&self, action: &str) -> Result<Answer, FenceError> {
        let code = self.run(action).await?.status.code();
        if code == Some(0) { Ok(Answer::Accepted) } else { Err(self.error(action, code)) }
    }
}

/// What `status` said.
fn state(code: Option<i32>, stdout: &[u8]) -> Option<PowerState> {
    let text = String::from_utf8_lossy(stdout).to_ascii_uppercase();
    let says = |word: &str| text.lines().any(|l| l.trim() == format!("STATUS: {word}"));
    match code {
        Some(0) if !says("OFF") => Some(PowerState::On),
        Some(2) if says("OFF") && !says("ON") => Some(PowerState::Off),
        _ => None,
    }
}

#[async_trait]
impl PowerDevice for Agent {
    /// Agents have no sessions: every action logs in by itself. What is known of the agent is checked here; if nothing
    /// can be learnt of it now, that is said by a check and does not stand between us and an order.
    async fn open(&self) -> Result<Box<dyn PowerSession>, FenceError> {
        let mut session = self.clone();
        session.metadata = match self.remembered() {
            Some(known) => Some(known),
            None => match self.learn().await {
                Err(error @ FenceError::Config { .. }) => return Err(error),
                learnt => learnt.ok(),
            },
        };
        if let Some(metadata) = session.metadata.clone() {
            session.validate(&metadata)?;
        }
        Ok(Box::new(session))
    }
}

#[async_trait]
impl PowerSession for Agent {
    /// A PDU knows outlets, not machines.
    async fn identify(&mut self) -> Result<Option<Identity>, FenceError> {
        Ok(None)
    }

    async fn read(&mut self) -> Result<PowerState, FenceError> {
        let output = self.run("status").await?;
        let code = output.status.code();
        state(code, &output.stdout).ok_or_else(|| self.error("status", code))
    }

    async fn off(&mut self) -> Result<Answer, FenceError> {
        self.order("off").await
    }

    async fn on(&mut self) -> Result<Answer, FenceError> {
        self.order("on").await
    }

    async fn set_restore_policy(&mut self, policy: RestorePolicy) -> Result<(), FenceError> {
        let detail = format!("an agent knows no power restore policy to set to {policy}");
        Err(FenceError::NotOffered { device: self.device.name(), detail })
    }

    fn would(&self) -> Option<String> {
        let secret = |key: &str| matches!(key, "password" | "passwd") || device::secret_key(key);
        let given = self.parameters().ok()?;
        let shown = given.iter().map(|(key, value)| {
            let value = if secret(key) { device::MASK } else { value.as_str() };
            format!(" {key}={value}")
        });
        let text = format!("{} on its stdin: action=off{}", self.program(), shown.collect::<String>());
        Some(one_line(&text, WOULD))
    }

    async fn inspect(&mut self) -> Result<Findings, FenceError> {
        let mut findings = Findings::default();
        match self.learn().await {
            Err(error) => findings.warnings.push(format!("its options cannot be checked: {error}")),
            Ok(metadata) => {
                findings.faults.extend(self.validate(&metadata).err().map(|e| e.to_string()));
                let given = self.parameters()?;
                let keys: Vec<&str> = given.iter().map(|(key, _)| key.as_str()).collect();
                let missing = metadata.missing(&keys);
                if !missing.is_empty() {
                    findings.warnings.push(clip(&format!("the agent asks for {} too", missing.join(", "))));
                }
            }
        }
        Ok(findings)
    }

    fn token(&self) -> Option<String> {
        None
    }

    async fn close(self: Box<Self>) {}
}

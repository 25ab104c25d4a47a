//! Any program of the fence-agents family, over its stdin protocol: PDUs, blades, switches.
//!
//! Parameters go in as `key=value` lines on stdin, never as arguments (those are visible to everybody), and there is no
//! shell. An exit code is believed only where it cannot mean something else: `status` answers 2 for off and fence-agents
//! also exit with 2 for bad arguments, so Off needs both the code and the words `Status: OFF`.

use std::process::{Output, Stdio};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::device::{self, Device};
use crate::error::FenceError;
use crate::limits::Limits;
use crate::power::{Answer, Findings, Identity, PowerDevice, PowerSession, PowerState};

/// Where distributions install agents.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A described agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    device: Device,
    limits: Limits,
}

impl Agent {
    pub(crate) fn new(device: &Device, limits: &Limits) -> Self {
        Self { device: device.clone(), limits: limits.clone() }
    }

    /// What goes to stdin. Values are free of control characters ([`crate::FenceDevices::validate`]).
    fn parameters(&self, action: &str) -> Result<Zeroizing<String>, FenceError> {
        let mut text = Zeroizing::new(String::new());
        let mut put = |key: &str, value: &str| {
            text.push_str(key);
            text.push('=');
            text.push_str(value);
            text.push('\n');
        };
        put("action", action);
        if let Some(address) = &self.device.address {
            let (host, port) = device::host_port(address, self.device.port, u16::MAX).map_err(|e| {
                FenceError::Config { device: self.device.name(), detail: format!("address {e}") }
            })?;
            put("ip", &host);
            if port != u16::MAX {
                put("ipport", &port.to_string());
            }
        }
        if let Some(username) = &self.device.username {
            put("username", username);
        }
        if let Some(password) = &self.device.password {
            put("password", password.expose_secret());
        }
        for (key, value) in &self.device.options {
            put(key, value);
        }
        Ok(text)
    }

    async fn run(&self, action: &str) -> Result<Output, FenceError> {
        let device = self.device.name();
        let program = self.device.program.as_deref().unwrap_or_default();
        let parameters = self.parameters(action)?;
        let work = async {
            let mut child = Command::new(program)
                .env_clear()
                .env("PATH", PATH)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                // An agent that exits before reading says why by its code; a broken pipe adds nothing.
                let _ = stdin.write_all(parameters.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        // Agents wait for the power themselves, so they get a level's time rather than a request's.
        match timeout(self.limits.level, work).await {
            Err(_) => {
                Err(FenceError::Silent { device, what: format!("action {action}"), after: self.limits.level })
            }
            Ok(Err(e)) => Err(FenceError::Config { device, detail: format!("program {program:?}: {e}") }),
            Ok(Ok(output)) => Ok(output),
        }
    }

    /// The meaning of a failed action's exit code (fence-agents' fencing.py).
    fn error(&self, action: &str, output: &Output) -> FenceError {
        let device = self.device.name();
        let Some(code) = output.status.code() else {
            return FenceError::Malformed { device, detail: format!("{action} was killed by a signal") };
        };
        let detail = format!("{action} ended with exit code {code}");
        match code {
            2 | 10 => {
                FenceError::Config { device, detail: format!("{detail}: arguments are missing or wrong") }
            }
            3 => FenceError::Credentials { device, detail },
            4 => FenceError::Unreachable { device, detail },
            5 => FenceError::Silent { device, what: action.to_owned(), after: self.limits.level },
            6..=8 => FenceError::Busy { device, detail, retry_after: None },
            11 => FenceError::Privilege { device, detail },
            _ => FenceError::Refused { device, detail },
        }
    }
}

/// What `status` said.
fn state(code: Option<i32>, stdout: &[u8]) -> Option<PowerState> {
    let text = String::from_utf8_lossy(stdout).to_ascii_uppercase();
    let says = |word: &str| text.lines().any(|l| l.trim() == format!("STATUS: {word}"));
    match code {
        Some(0) if !says("OFF") => Some(PowerState::On),
        Some(2) if says("OFF") => Some(PowerState::Off),
        _ => None,
    }
}

#[async_trait]
impl PowerDevice for Agent {
    /// Agents have no sessions: every action logs in by itself.
    async fn open(&self) -> Result<Box<dyn PowerSession>, FenceError> {
        Ok(Box::new(self.clone()))
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
        state(output.status.code(), &output.stdout).ok_or_else(|| self.error("status", &output))
    }

    async fn off(&mut self) -> Result<Answer, FenceError> {
        let output = self.run("off").await?;
        if output.status.success() { Ok(Answer::Accepted) } else { Err(self.error("off", &output)) }
    }

    async fn on(&mut self) -> Result<Answer, FenceError> {
        let output = self.run("on").await?;
        if output.status.success() { Ok(Answer::Accepted) } else { Err(self.error("on", &output)) }
    }

    async fn inspect(&mut self) -> Result<Findings, FenceError> {
        let text = "an agent cannot name the machine; prove the mapping of its outlet by a drill";
        Ok(Findings { faults: Vec::new(), warnings: vec![text.to_owned()] })
    }

    fn token(&self) -> Option<String> {
        None
    }

    async fn close(self: Box<Self>) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FenceDevices;

    fn agent(script: &str, name: &str) -> Agent {
        let dir = std::env::temp_dir().join(format!("halberd-agent-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let program = dir.join("fence_fake");
        // Written by another process: a descriptor of ours, open for writing, could be inherited by a fork of another
        // test at that moment, and the kernel would refuse to run the file (ETXTBSY).
        let text = format!("#!/bin/sh\nwords=$(cat)\ncd {}\n{script}\n", dir.display());
        std::fs::write(dir.join("text"), text).unwrap();
        let mut install = std::process::Command::new("install");
        assert!(install.args(["-m", "755"]).arg(dir.join("text")).arg(&program).status().unwrap().success());
        let json = serde_json::json!({"levels": [{"devices": [{"type": "agent", "address": "pdu.example:2323",
            "username": "u", "password": "s3cret", "program": program, "options": {"plug": "4"}}]}]});
        let device = FenceDevices::parse(&json.to_string()).unwrap().levels[0].devices[0].clone();
        Agent::new(&device, &Limits::default())
    }

    #[tokio::test]
    async fn parameters_go_over_stdin_and_nowhere_else() {
        let mut agent = agent(r#"echo "$words" > seen; echo "$*" > args; env > env"#, "stdin");
        assert_eq!(agent.off().await, Ok(Answer::Accepted));
        let dir = std::path::PathBuf::from(agent.device.program.unwrap());
        let read = |name| std::fs::read_to_string(dir.with_file_name(name)).unwrap();
        assert_eq!(
            read("seen"),
            "action=off\nip=pdu.example\nipport=2323\nusername=u\npassword=s3cret\nplug=4\n"
        );
        assert_eq!(read("args").trim(), "");
        assert!(!read("env").contains("s3cret"));
    }

    #[tokio::test]
    async fn off_needs_the_code_and_the_word() {
        assert_eq!(agent("echo 'Status: OFF'; exit 2", "off").read().await, Ok(PowerState::Off));
        assert_eq!(agent("echo 'Status: ON'; exit 0", "on").read().await, Ok(PowerState::On));
        let bad = agent("echo 'Failed: You have to enter plug' >&2; exit 2", "args").read().await;
        assert!(matches!(bad, Err(FenceError::Config { .. })), "{bad:?}");
        assert!(agent("echo 'Status: OFF'; exit 0", "odd").read().await.is_err());
    }

    #[tokio::test]
    async fn exit_codes_have_their_meaning() {
        for (code, is) in
            [(3, "credentials"), (4, "not reachable"), (5, "no answer"), (7, "busy"), (11, "privilege")]
        {
            let error =
                agent(&format!("exit {code}"), &format!("code{code}")).off().await.unwrap_err().to_string();
            assert!(error.contains(is), "{code}: {error}");
        }
    }
}

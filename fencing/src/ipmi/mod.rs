//! IPMI v2.0 over LAN (RMCP+): a transport of our own under ipmi-rs's messages and commands.
//!
//! `ipmi-rs` gives the vocabulary ([`ipmi_rs::connection`]: message, netFn, command, completion code); its own transport
//! cannot be used for fencing: it matches answers by command only, never repeats, never closes and knows suite 3 alone.
//! Here: suites 17 and 3, proved in both directions; answers matched by session, code, sequence window, request
//! number, netFn, command and both checksums; idempotent commands repeated, `on` never; the session always closed.
//!
//! `frame` is bytes, `auth` is keys, `handshake` is the login as pure steps, `session` is the socket and its timers,
//! `commands` are the commands of a fence, `inspect` those of a check.

mod auth;
mod commands;
mod frame;
mod handshake;
mod inspect;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::device::{self, Device, Privilege};
use crate::error::FenceError;
use crate::limits::Limits;
use crate::power::{self, Answer, Findings, Identity, PowerDevice, PowerSession, PowerState, RestorePolicy};
use auth::Suite;
use commands::{
    GetChassisStatus, GetSystemGuid, Meaning, PowerDown, PowerUp, SetPrivilege, SetRestorePolicy, meaning,
};
use handshake::Login;
use session::{Completion, Link};

/// Where RMCP+ listens.
const PORT: u16 = 623;

/// A described IPMI BMC.
#[derive(Debug)]
pub(crate) struct Ipmi {
    name: String,
    host: String,
    port: u16,
    login: Login,
    suites: Vec<Suite>,
    limits: Limits,
}

impl Ipmi {
    pub(crate) fn new(device: &Device, limits: &Limits) -> Result<Self, FenceError> {
        let name = device.name();
        let config = |detail: String| FenceError::Config { device: name.clone(), detail };
        let address = device.address.as_deref().unwrap_or_default();
        let (host, port) =
            device::host_port(address, device.port, PORT).map_err(|e| config(format!("address {e}")))?;
        let kg = device.kg_bytes().transpose().map_err(|e| config(format!("kg {e}")))?;
        let privilege = match device.privlvl.unwrap_or_default() {
            Privilege::Operator => 3,
            Privilege::Administrator => 4,
        };
        let suites = match device.cipher {
            None => vec![Suite::Seventeen, Suite::Three],
            Some(3) => vec![Suite::Three],
            Some(17) => vec![Suite::Seventeen],
            Some(other) => return Err(config(format!("cipher {other} is neither 3 nor 17"))),
        };
        let login = Login {
            username: device.username.clone().unwrap_or_default(),
            password: device.password.clone().unwrap_or_else(|| SecretString::from("")),
            kg: kg.map(Zeroizing::new),
            privilege,
        };
        Ok(Self { name, host, port, login, suites, limits: limits.clone() })
    }
}

#[async_trait]
impl PowerDevice for Ipmi {
    async fn open(&self) -> Result<Box<dyn PowerSession>, FenceError> {
        let unreachable = |detail: String| FenceError::Unreachable { device: self.name.clone(), detail };
        let resolve = tokio::net::lookup_host((self.host.as_str(), self.port));
        let address = timeout_at(Instant::now() + self.limits.connect, resolve)
            .await
            .map_err(|_| unreachable("name lookup takes too long".into()))?
            .map_err(|e| unreachable(e.to_string()))?
            .next()
            .ok_or_else(|| unreachable("name has no address".into()))?;
        let link = session::establish(&self.name, address, &self.login, &self.suites, &self.limits).await?;
        let mut session = Session {
            name: self.name.clone(),
            address,
            privilege: self.login.privilege,
            link,
            limits: self.limits.clone(),
            note: None,
            ready: false,
            restore_policy: None,
        };
        // A failed privilege request is told by `off`; reading goes without.
        if let Err(e @ (FenceError::Silent { .. } | FenceError::Unreachable { .. })) =
            session.raise(self.login.privilege).await
        {
            return Err(e);
        }
        Ok(Box::new(session))
    }
}

struct Session {
    name: String,
    address: SocketAddr,
    /// Asked for: 3 operator, 4 administrator.
    privilege: u8,
    link: Link,
    limits: Limits,
    note: Option<String>,
    /// The privilege asked for was granted.
    ready: bool,
    /// As the last status had it.
    restore_policy: Option<RestorePolicy>,
}

impl Session {
    async fn raise(&mut self, privilege: u8) -> Result<(), FenceError> {
        match self.link.run(SetPrivilege(privilege)).await? {
            Ok(level) if level >= privilege => self.ready = true,
            Ok(level) => self.note = Some(format!("privilege stays at level {level}")),
            Err(Completion(code)) => self.note = Some(format!("privilege request answered {code:?}")),
        }
        Ok(())
    }

    fn error(&self, doing: &str, Completion(code): Completion) -> FenceError {
        let device = self.name.clone();
        let detail = format!("{doing} answered {code:?}");
        match meaning(code) {
            Meaning::Busy | Meaning::Already => FenceError::Busy { device, detail, retry_after: None },
            Meaning::Privilege => FenceError::Privilege { device, detail },
            Meaning::Unsupported => FenceError::Unsupported { device, detail },
            Meaning::Refused => FenceError::Refused { device, detail },
        }
    }

    fn answer(&self, doing: &str, answer: Result<(), Completion>) -> Result<Answer, FenceError> {
        match answer {
            Ok(()) => Ok(Answer::Accepted),
            Err(Completion(code)) if meaning(code) == Meaning::Already => Ok(Answer::AlreadySo),
            Err(completion) => Err(self.error(doing, completion)),
        }
    }
}

#[async_trait]
impl PowerSession for Session {
    async fn identify(&mut self) -> Result<Option<Identity>, FenceError> {
        let guid = match self.link.run(GetSystemGuid).await? {
            Ok(guid) => guid,
            // Without the command RAKP 2's GUID remains: the same value, and authenticated.
            Err(Completion(code)) if matches!(meaning(code), Meaning::Unsupported | Meaning::Privilege) => {
                self.link.guid()
            }
            Err(completion) => return Err(self.error("Get System GUID", completion)),
        };
        let uuid = power::guid(guid);
        Ok(uuid.map(|uuid| Identity { uuid: Some(uuid), ..Identity::default() }))
    }

    async fn read(&mut self) -> Result<PowerState, FenceError> {
        let status =
            self.link.run(GetChassisStatus).await?.map_err(|c| self.error("Get Chassis Status", c))?;
        self.restore_policy = status.policy();
        if status.control_fault {
            self.note =
                Some("chassis reports a power control fault: it tried to change power and failed".into());
        } else if status.power_fault {
            self.note = Some("chassis reports a power fault".into());
        }
        Ok(if status.on { PowerState::On } else { PowerState::Off })
    }

    async fn off(&mut self) -> Result<Answer, FenceError> {
        let answer = self.link.run(PowerDown).await?;
        self.answer("Chassis Control off", answer)
    }

    async fn on(&mut self) -> Result<Answer, FenceError> {
        let answer = self.link.run(PowerUp).await?;
        self.answer("Chassis Control on", answer)
    }

    fn restore_policy(&self) -> Option<RestorePolicy> {
        self.restore_policy
    }

    async fn set_restore_policy(&mut self, policy: RestorePolicy) -> Result<(), FenceError> {
        let (command, doing) = (SetRestorePolicy(policy), "Set Power Restore Policy");
        let supported = self.link.run(command).await?.map_err(|c| self.error(doing, c))?;
        if command.is_among(supported) {
            return Ok(());
        }
        let detail = format!("{doing}: the chassis has no policy {policy}");
        Err(FenceError::Refused { device: self.name.clone(), detail })
    }

    fn would(&self) -> Option<String> {
        let level = if self.privilege == 3 { "operator" } else { "administrator" };
        let suite = self.link.suite().id();
        self.ready.then(|| format!("IPMI Chassis Control 00h (power down), cipher suite {suite}, {level}"))
    }

    async fn inspect(&mut self) -> Result<Findings, FenceError> {
        let mut findings = Findings::default();
        if !self.ready {
            let why = self.note.take().unwrap_or_default();
            findings
                .faults
                .push(format!("the account may not switch power ({why}); give it OPERATOR privilege"));
        }
        if self.link.suite() == Suite::Three {
            findings
                .warnings
                .push("cipher suite 3 (SHA-1) is in use; enable suite 17 if the BMC has it".into());
        }
        if inspect::offered(&mut self.link).await.is_some_and(|suites| suites.contains(&0)) {
            findings.warnings.push(
                "the BMC lists cipher suite 0, which lets anybody in without a password; disable it".into(),
            );
        }
        if let Some(id) = self.link.ask(inspect::GetDeviceId, inspect::PATIENCE).await {
            if id.updating {
                findings
                    .warnings
                    .push("the BMC is updating its firmware or starting; commands may fail".into());
            }
            findings.firmware = Some(format!("{} (product {:#06x})", id.firmware, id.product));
            findings.manufacturer = Some(id.maker());
        }
        let capabilities = inspect::capabilities(self.address, self.privilege).await;
        findings.warnings.extend(capabilities.into_iter().flat_map(inspect::Capabilities::warnings));
        Ok(findings)
    }

    fn note(&mut self) -> Option<String> {
        self.note.take()
    }

    /// An IPMI session can be closed by its owner only.
    fn token(&self) -> Option<String> {
        None
    }

    async fn close(self: Box<Self>) {
        self.link.close(self.limits.close).await;
    }
}

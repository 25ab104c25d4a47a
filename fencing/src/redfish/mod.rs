//! Redfish (DSP0266) with the few calls a fence needs: log in, find the system, read it, order.
//!
//! Sessions first: a session can be revoked, so it stands for the epoch that opened it. Basic authentication only where
//! the service root names no session service, never because a login failed. Links are taken from documents, not built,
//! and never followed to another origin. A 2xx is a promise; the task behind a 202 is asked for diagnosis only: the
//! verdict is PowerState, read afresh.

mod http;
mod login;
mod model;
mod order;
mod quirks;
mod roles;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tls;

use async_trait::async_trait;
use reqwest::Url;
use serde_json::Value;

use crate::device::Device;
use crate::error::{FenceError, clip, one_line};
use crate::limits::Limits;
use crate::power::{
    Answer, Expected, Findings, Identity, PowerDevice, PowerSession, PowerState, RestorePolicy,
};
use http::{Auth, Http};

/// Members that are looked at to find the machine by its identity. A chassis has some tens of blades at most.
const MEMBERS: usize = 64;

/// Characters of a dry run's line: an URL and a body.
const WOULD: usize = 1_000;

/// A described Redfish service.
#[derive(Debug)]
pub(crate) struct Redfish {
    device: Device,
    expected: Expected,
    limits: Limits,
    http: Http,
}

impl Redfish {
    pub(crate) fn new(device: &Device, expected: &Expected, limits: &Limits) -> Result<Self, FenceError> {
        let http = Http::new(device, limits)?;
        Ok(Self { device: device.clone(), expected: expected.clone(), limits: limits.clone(), http })
    }

    /// Ends the session with this token, which is its URI. One that is gone is ended.
    pub(crate) async fn revoke(&self, token: &str) -> Result<(), FenceError> {
        let url = self.http.resolve(token)?;
        let login = login::log_in(&self.http, &self.device).await?;
        let done = login::delete(&self.http, &login.auth, url).await;
        login.log_out(&self.http).await;
        done
    }

    /// True if this token is a session of this service.
    pub(crate) fn owns(&self, token: &str) -> bool {
        self.http.resolve(token).is_ok_and(|url| token.starts_with(url.as_str()))
    }
}

#[async_trait]
impl PowerDevice for Redfish {
    async fn open(&self) -> Result<Box<dyn PowerSession>, FenceError> {
        let login = login::log_in(&self.http, &self.device).await?;
        Ok(Box::new(Session {
            http: self.http.clone(),
            login: Some(login),
            device: self.device.clone(),
            expected: self.expected.clone(),
            limits: self.limits.clone(),
            system: None,
            identity: None,
            action: None,
            first_state: None,
            task: None,
            note: None,
            restore_policy: None,
            came_to_nothing: false,
        }))
    }
}

struct Session {
    http: Http,
    login: Option<login::Login>,
    device: Device,
    expected: Expected,
    limits: Limits,
    /// The system's URI, once found.
    system: Option<String>,
    identity: Option<Identity>,
    /// Where the Reset action stood when it was last seen, and what it offered.
    action: Option<(Url, Option<Vec<String>>)>,
    /// The power in the document that identified the machine.
    first_state: Option<PowerState>,
    /// Monitor of the task behind a 202.
    task: Option<String>,
    note: Option<String>,
    /// As the last document had it.
    restore_policy: Option<RestorePolicy>,
    /// The last order's task failed.
    came_to_nothing: bool,
}

impl Session {
    fn auth(&self) -> Auth {
        self.login.as_ref().map_or(Auth::None, |l| l.auth.clone())
    }

    /// The system's document, found if need be. The machine it names must stay the same within a session.
    async fn fetch(&mut self) -> Result<(http::Reply, Value), FenceError> {
        let auth = self.auth();
        let (reply, document) = match &self.system {
            Some(link) => self.http.get(&auth, link).await?,
            None => self.find(&auth).await?,
        };
        let seen = model::identity(&document);
        // A value that some firmware leaves out while the machine is off contradicts nothing; another value does.
        let before = self.identity.clone().unwrap_or_default();
        let on_file = Expected { serial: before.serial, uuid: before.uuid };
        if let Some(now) = &seen
            && on_file.compare(now) == Some(false)
        {
            let (expected, found) = (on_file.to_string(), now.to_string());
            return Err(FenceError::WrongMachine { device: self.device.name(), expected, found });
        }
        self.identity = self.identity.take().or(seen);
        self.restore_policy = model::restore_policy(&document);
        Ok((reply, document))
    }

    /// The configured system, the one whose identity is on file, or the only one. Several and no choice is an error:
    /// a guess kills somebody else.
    async fn find(&mut self, auth: &Auth) -> Result<(http::Reply, Value), FenceError> {
        if let Some(wanted) = &self.device.system
            && wanted.starts_with('/')
        {
            let wanted = wanted.clone();
            return self.take(auth, wanted).await;
        }
        let systems = self.login.as_ref().map_or("/redfish/v1/Systems", |l| &l.systems).to_owned();
        let (_, collection) = self.http.get(auth, &systems).await?;
        let members = model::members(&collection);
        let config =
            |detail: String| FenceError::Config { device: self.device.name(), detail: clip(&detail) };
        if let Some(wanted) = &self.device.system {
            let named = |m: &&String| m.trim_end_matches('/').rsplit('/').next() == Some(wanted);
            let member = members.iter().find(named).cloned();
            let member = member.ok_or_else(|| {
                config(format!("system {wanted:?} is not in {systems}, which has {}", members.join(", ")))
            })?;
            return self.take(auth, member).await;
        }
        match members.as_slice() {
            [] => Err(FenceError::Unsupported {
                device: self.device.name(),
                detail: clip(&format!("{systems} is empty")),
            }),
            [only] => self.take(auth, only.clone()).await,
            several if self.expected.is_empty() => Err(config(format!(
                "{} systems behind this service and none chosen; set `system` or the host's serial",
                several.len()
            ))),
            several => {
                for member in several.iter().take(MEMBERS) {
                    let (reply, document) = self.http.get(auth, member).await?;
                    let identity = model::identity(&document).unwrap_or_default();
                    if self.expected.compare(&identity) == Some(true) {
                        self.system = Some(member.clone());
                        return Ok((reply, document));
                    }
                }
                Err(FenceError::WrongMachine {
                    device: self.device.name(),
                    expected: self.expected.to_string(),
                    found: format!("{} other systems", several.len()),
                })
            }
        }
    }

    async fn take(&mut self, auth: &Auth, link: String) -> Result<(http::Reply, Value), FenceError> {
        let found = self.http.get(auth, &link).await?;
        self.system = Some(link);
        Ok(found)
    }

    /// What became of a 202: its failure is worth a note, its success proves nothing.
    async fn ask_task(&mut self) {
        let Some(task) = self.task.clone() else { return };
        let Ok(url) = self.http.resolve(&task) else { return };
        let Ok(reply) = self.http.send(&self.auth(), reqwest::Method::GET, url, None, None).await else {
            return;
        };
        let document = reply.json();
        match (reply.status.as_u16(), model::task(&document)) {
            (_, Some(model::Task::Failed(state))) => {
                let said = model::task_says(&document);
                self.note = Some(clip(&format!("the reset's task ended {state}{said}")));
                self.came_to_nothing = true;
            }
            (202, _) | (200, Some(model::Task::Running)) => return,
            // Tasks vanish after a while, and some BMCs do not know one just created.
            (404, _) => {}
            (status @ 400..=599, _) => {
                let said = http::said(&document);
                self.note = Some(clip(&format!("the reset's task ended with status {status}{said}")));
                self.came_to_nothing = true;
            }
            _ => {}
        }
        self.task = None;
    }
}

#[async_trait]
impl PowerSession for Session {
    async fn identify(&mut self) -> Result<Option<Identity>, FenceError> {
        let (_, document) = self.fetch().await?;
        self.action = self.offered(&document).await.ok();
        self.first_state = Some(model::power_state(&document));
        Ok(self.identity.clone())
    }

    fn state_at_identify(&self) -> Option<PowerState> {
        self.first_state.clone()
    }

    async fn read(&mut self) -> Result<PowerState, FenceError> {
        let (_, document) = self.fetch().await?;
        let state = model::power_state(&document);
        if state != PowerState::Off && self.task.is_some() {
            self.ask_task().await;
        }
        Ok(state)
    }

    async fn off(&mut self) -> Result<Answer, FenceError> {
        self.order("ForceOff", PowerState::Off).await
    }

    async fn on(&mut self) -> Result<Answer, FenceError> {
        self.order("On", PowerState::On).await
    }

    fn restore_policy(&self) -> Option<RestorePolicy> {
        self.restore_policy
    }

    async fn set_restore_policy(&mut self, policy: RestorePolicy) -> Result<(), FenceError> {
        self.patch_restore_policy(policy).await
    }

    fn came_to_nothing(&mut self) -> bool {
        std::mem::take(&mut self.came_to_nothing)
    }

    fn would(&self) -> Option<String> {
        let (target, allowed) = self.action.as_ref()?;
        let offered = allowed.as_ref().is_none_or(|all| all.iter().any(|a| a == "ForceOff"));
        offered.then(|| one_line(&format!("POST {target} {{\"ResetType\":\"ForceOff\"}}"), WOULD))
    }

    async fn inspect(&mut self) -> Result<Findings, FenceError> {
        let mut findings = Findings::default();
        let (reply, document) = self.fetch().await?;
        match self.offered(&document).await {
            Ok((_, Some(allowed))) if !allowed.iter().any(|a| a == "ForceOff") => findings.faults.push(clip(
                &format!("ForceOff is not offered, only {}; this device cannot fence", allowed.join(", ")),
            )),
            Ok((_, Some(_))) => {}
            Ok((_, None)) => findings
                .warnings
                .push("the BMC does not list its reset types; prove ForceOff by a drill".into()),
            Err(e) => findings.faults.push(e.to_string()),
        }
        if let Some(ends) = reply.certificate.as_deref().and_then(tls::not_after) {
            findings.warnings.extend(tls::expiry(ends, tls::now()));
        }
        findings.faults.extend(self.role_too_low().await);
        if matches!(self.auth(), Auth::Basic(..)) {
            findings.warnings.push("no session service: an order in flight cannot be revoked".into());
        }
        Ok(findings)
    }

    async fn take_over(&mut self) {
        if let Some(login) = self.login.as_ref().filter(|_| self.device.account_exclusive) {
            login::delete_others(&self.http, login, self.device.username.as_deref().unwrap_or_default())
                .await;
        }
    }

    fn note(&mut self) -> Option<String> {
        self.note.take()
    }

    fn token(&self) -> Option<String> {
        self.login.as_ref()?.uri.as_ref().map(ToString::to_string)
    }

    async fn close(mut self: Box<Self>) {
        if let Some(login) = self.login.take() {
            let _ = tokio::time::timeout(self.limits.close, login.log_out(&self.http)).await;
        }
    }
}

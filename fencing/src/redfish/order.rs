//! The Reset action: where to, which type, and what its answers mean. And the one other change, the restore policy.

use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::http::Reply;
use super::{Session, model, quirks};
use crate::error::{FenceError, clip};
use crate::power::{Answer, PowerState, RestorePolicy};

impl Session {
    /// The Reset action, looked up once: the document that identified the machine has it, and an order must not depend
    /// on one more answer of a BMC that is short of breath.
    async fn action(&mut self) -> Result<(Url, Option<Vec<String>>), FenceError> {
        if let Some(action) = &self.action {
            return Ok(action.clone());
        }
        let (_, system) = self.fetch().await?;
        let action = self.offered(&system).await?;
        Ok(self.action.insert(action).clone())
    }

    /// Where the Reset action stands and which types it offers (`None`: not told).
    pub(super) async fn offered(&self, system: &Value) -> Result<(Url, Option<Vec<String>>), FenceError> {
        let reset = model::reset(system);
        let target = reset.target.ok_or_else(|| FenceError::NotOffered {
            device: self.device.name(),
            detail: "the system has no ComputerSystem.Reset action".into(),
        })?;
        // Nothing was sent, and nothing will be: our credentials are for this service alone.
        let target = self.http.resolve(&target).map_err(|_| FenceError::NotOffered {
            device: self.device.name(),
            detail: clip(&format!(
                "its Reset action leads to {target:?}, another origin, which gets nothing"
            )),
        })?;
        let allowed = match (reset.allowed, reset.action_info) {
            (None, Some(info)) => {
                // A broken ActionInfo shall not stand between us and the order.
                self.http
                    .get(&self.auth(), &info)
                    .await
                    .ok()
                    .and_then(|(_, info)| model::allowed_by_info(&info))
            }
            (allowed, _) => allowed,
        };
        Ok((target, allowed))
    }

    /// Orders `kind`, whose result would be `wanted`.
    pub(super) async fn order(&mut self, kind: &str, wanted: PowerState) -> Result<Answer, FenceError> {
        let (target, allowed) = self.action().await?;
        if let Some(allowed) = allowed
            && !allowed.iter().any(|a| a == kind)
        {
            // No way round: GracefulShutdown asks a dead host, PushPowerButton is a toggle.
            let detail = clip(&format!("{kind} is not offered, only {}", allowed.join(", ")));
            return Err(FenceError::NotOffered { device: self.device.name(), detail });
        }
        let body = json!({"ResetType": kind});
        let mut reply = self.change(Method::POST, target.clone(), &body).await?;
        if matches!(reply.status.as_u16(), 404 | 405) {
            // The path may have moved since it was looked up.
            self.action = None;
            match self.action().await {
                Ok((again, _)) if again != target => reply = self.change(Method::POST, again, &body).await?,
                // What was sent was refused, whatever is offered now.
                Ok(_) | Err(FenceError::NotOffered { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match reply.status.as_u16() {
            200..=299 => {
                let body = reply.json();
                let task =
                    reply.location().map(str::to_owned).or_else(|| model::link(&body).map(str::to_owned));
                self.task = task.filter(|_| reply.status == StatusCode::ACCEPTED);
                self.came_to_nothing = false;
                Ok(Answer::Accepted)
            }
            409 => self.already(&reply, kind, wanted).await,
            400 | 422 if quirks::says_already(&reply.json()) => self.already(&reply, kind, wanted).await,
            _ => Err(self.http.refused(&reply, kind)),
        }
    }

    /// "Already so" is believed when the state says the same; otherwise the BMC only means "not now".
    async fn already(&mut self, reply: &Reply, kind: &str, wanted: PowerState) -> Result<Answer, FenceError> {
        let (_, system) = self.fetch().await?;
        if model::power_state(&system) == wanted {
            return Ok(Answer::AlreadySo);
        }
        let detail = format!(
            "{kind} answered {} while power is {}",
            reply.status.as_u16(),
            model::power_state(&system)
        );
        Err(FenceError::Busy { device: self.device.name(), detail, retry_after: reply.retry_after() })
    }

    /// Sets the restore policy where the system's document has one; a document without it gets nothing.
    pub(super) async fn patch_restore_policy(&mut self, policy: RestorePolicy) -> Result<(), FenceError> {
        let device = self.device.name();
        let link = self.system.clone().filter(|_| self.restore_policy.is_some()).ok_or_else(|| {
            let detail = "the system's document has no PowerRestorePolicy".to_owned();
            FenceError::NotOffered { device, detail }
        })?;
        let target = self.http.resolve(&link)?;
        let body = json!({"PowerRestorePolicy": model::policy_word(policy)});
        let reply = self.change(Method::PATCH, target, &body).await?;
        match reply.status.as_u16() {
            200..=299 => {
                self.restore_policy = None;
                Ok(())
            }
            _ => Err(self.http.refused(&reply, "PATCH PowerRestorePolicy")),
        }
    }

    /// A change that was not carried out here (RFC 9110 15.4: what a 301, 302, 307 or 308 answers is elsewhere) and is not sent
    /// there. After a 303 it may have been.
    fn led_away(&self, method: &Method, from: &Url, to: &str) -> FenceError {
        let detail = clip(&format!(
            "{method} {} is redirected to {to:?}, which gets nothing; set `address` to where the service is",
            from.path()
        ));
        FenceError::Refused { device: self.device.name(), detail }
    }

    /// Sends a change: without If-Match; on 412 or 428 with the system's ETag exactly as given; on a further 412
    /// without. Firmwares contradict each other here: some refuse any If-Match on an action, others demand one. A
    /// redirect of the same origin is followed once, for it was not executed; one to another origin or a second one is a
    /// refusal, and asking again would not change it.
    async fn change(&mut self, method: Method, target: Url, body: &Value) -> Result<Reply, FenceError> {
        let auth = self.auth();
        let mut target = target;
        let mut reply = self.http.send(&auth, method.clone(), target.clone(), Some(body), None).await?;
        if matches!(reply.status.as_u16(), 307 | 308)
            && let Some(to) = reply.location()
        {
            let next = target.join(to).ok().and_then(|to| self.http.resolve(to.as_str()).ok());
            let Some(next) = next else { return Err(self.led_away(&method, &target, to)) };
            target = next;
            reply = self.http.send(&auth, method.clone(), target.clone(), Some(body), None).await?;
        }
        if matches!(reply.status.as_u16(), 301 | 302 | 307 | 308) {
            return Err(self.led_away(&method, &target, reply.location().unwrap_or_default()));
        }
        if !matches!(reply.status.as_u16(), 412 | 428) {
            return Ok(reply);
        }
        let (fresh, system) = self.fetch().await?;
        // One that is no header value cannot be sent back; it is like none.
        let inner =
            system["@odata.etag"].as_str().filter(|e| !e.is_empty() && HeaderValue::from_str(e).is_ok());
        let Some(etag) = fresh.etag().or(inner.map(str::to_owned)) else { return Ok(reply) };
        let reply = self.http.send(&auth, method.clone(), target.clone(), Some(body), Some(&etag)).await?;
        if reply.status != StatusCode::PRECONDITION_FAILED {
            return Ok(reply);
        }
        self.http.send(&auth, method, target, Some(body), None).await
    }
}

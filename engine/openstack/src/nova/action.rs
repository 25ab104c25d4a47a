//! Actions on one server.

use http::Method;
use serde_json::{Value, json};

use super::{Microversion, Nova};
use crate::Error;

/// Nova recorded the request; nothing more is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The `request_id` of the instance action, by which its events are found.
    pub request_id: Option<String>,
    /// The microversion it was sent at; from 2.95 an evacuated guest is left stopped.
    pub microversion: Microversion,
}

/// What can be asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Rebuild it elsewhere; on the named host, or where the scheduler likes. A second call before the first has
    /// settled is accepted as well, and damages the server.
    Evacuate {
        /// The destination.
        host: Option<String>,
    },
    /// Lock it against its owner's changes.
    Lock {
        /// Kept where Nova is new enough (2.73), else dropped.
        reason: Option<String>,
    },
    /// Unlock it.
    Unlock,
    /// Set vm_state to `active` (true) or `error`, clearing task_state.
    ResetState {
        /// `active` rather than `error`.
        active: bool,
    },
    /// Power on. 409 when it runs.
    Start,
    /// Power off. 409 when it does not run.
    Stop,
}

impl Action {
    fn wanted(&self) -> Microversion {
        match self {
            Action::Evacuate { .. } => Microversion::EVACUATE,
            Action::Lock { reason: Some(_) } => Microversion::LOCK_REASON,
            _ => Microversion::PLAIN,
        }
    }

    fn body(&self, at: Microversion) -> Value {
        match self {
            // Up to 2.67 there is a `force`, which we never send: the scheduler shall have its say.
            Action::Evacuate { host: Some(host) } => json!({ "evacuate": { "host": host } }),
            Action::Evacuate { host: None } => json!({ "evacuate": {} }),
            Action::Lock { reason: Some(reason) } if at >= Microversion::LOCK_REASON => {
                let reason: String = reason.chars().take(255).collect();
                json!({ "lock": { "locked_reason": reason } })
            }
            Action::Lock { .. } => json!({ "lock": null }),
            Action::Unlock => json!({ "unlock": null }),
            Action::ResetState { active } => {
                json!({ "os-resetState": { "state": if *active { "active" } else { "error" } } })
            }
            Action::Start => json!({ "os-start": null }),
            Action::Stop => json!({ "os-stop": null }),
        }
    }
}

impl Nova {
    /// Asks something of a server. Success means that it was recorded, not that it was done.
    ///
    /// Errors: [`Error::NotFound`], [`Error::Conflict`] (its state forbids it), [`Error::Refused`];
    /// [`Error::OutcomeUnknown`]: read task_state, instance actions and migrations before any repetition.
    pub async fn act(&self, server: &str, action: &Action) -> Result<Accepted, Error> {
        let wanted = action.wanted();
        let body = action.body(self.offered().await?.choose(wanted));
        let path = ["servers", server, "action"];
        let (reply, microversion) = self.call(Method::POST, wanted, &path, &[], Some(body)).await?;
        // The body is empty, or before 2.14 a password; it is not read.
        Ok(Accepted { request_id: reply.answered.request_id(), microversion })
    }

    /// [`Action::Evacuate`].
    pub async fn evacuate(&self, server: &str, host: Option<&str>) -> Result<Accepted, Error> {
        self.act(server, &Action::Evacuate { host: host.map(str::to_owned) }).await
    }

    /// [`Action::Lock`]; locking a locked server is no error.
    pub async fn lock(&self, server: &str, reason: Option<&str>) -> Result<Accepted, Error> {
        self.act(server, &Action::Lock { reason: reason.map(str::to_owned) }).await
    }

    /// [`Action::Unlock`]; unlocking an unlocked server is no error.
    pub async fn unlock(&self, server: &str) -> Result<Accepted, Error> {
        self.act(server, &Action::Unlock).await
    }

    /// [`Action::ResetState`].
    pub async fn reset_state(&self, server: &str, active: bool) -> Result<Accepted, Error> {
        self.act(server, &Action::ResetState { active }).await
    }

    /// [`Action::Start`].
    pub async fn start(&self, server: &str) -> Result<Accepted, Error> {
        self.act(server, &Action::Start).await
    }

    /// [`Action::Stop`].
    pub async fn stop(&self, server: &str) -> Result<Accepted, Error> {
        self.act(server, &Action::Stop).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_fit_their_microversion() {
        let lock = Action::Lock { reason: Some("moving".into()) };
        assert_eq!(lock.body(Microversion(2, 73)), json!({"lock": {"locked_reason": "moving"}}));
        assert_eq!(lock.body(Microversion(2, 72)), json!({"lock": null}));
        let target = Action::Evacuate { host: Some("cmp-02".into()) };
        assert_eq!(target.body(Microversion(2, 94)), json!({"evacuate": {"host": "cmp-02"}}));
        assert_eq!(Action::Evacuate { host: None }.body(Microversion(2, 60)), json!({"evacuate": {}}));
        assert_eq!(
            Action::ResetState { active: false }.body(Microversion(2, 53)),
            json!({"os-resetState": {"state": "error"}})
        );
    }
}

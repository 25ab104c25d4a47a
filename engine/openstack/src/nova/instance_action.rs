//! os-instance-actions: what became of a request.

use serde::{Deserialize, Serialize};

use super::{Microversion, Nova, lenient, no_empty};
use crate::Error;

/// One request made of a server. Lists come without events.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct InstanceAction {
    /// `evacuate`, `stop`, …
    #[serde(default, deserialize_with = "lenient")]
    pub action: String,
    /// The server.
    #[serde(default, deserialize_with = "lenient")]
    pub instance_uuid: String,
    /// Nova's id of the request.
    #[serde(default, deserialize_with = "lenient")]
    pub request_id: String,
    /// UTC, without a zone.
    #[serde(default)]
    pub start_time: Option<String>,
    /// UTC, without a zone; from 2.58.
    #[serde(default)]
    pub updated_at: Option<String>,
    /// `Error` when an event failed.
    #[serde(default)]
    pub message: Option<String>,
    /// Its steps.
    #[serde(default, deserialize_with = "lenient")]
    pub events: Vec<ActionEvent>,
}

/// A step of a request. An evacuation has succeeded when `compute_rebuild_instance` has; `rebuild_server` only means
/// that the scheduler found a host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ActionEvent {
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub event: String,
    /// UTC, without a zone.
    #[serde(default)]
    pub start_time: Option<String>,
    /// UTC, without a zone; none while it runs.
    #[serde(default)]
    pub finish_time: Option<String>,
    /// `Success`, `Error`; none while it runs.
    #[serde(default)]
    pub result: Option<String>,
    /// Where it ran.
    #[serde(default, deserialize_with = "no_empty")]
    pub host: Option<String>,
    /// The error's text, from 2.84.
    #[serde(default)]
    pub details: Option<String>,
}

impl ActionEvent {
    /// Ended well.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.result.as_deref() == Some("Success")
    }

    /// Ended in error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.result.as_deref() == Some("Error")
    }
}

impl InstanceAction {
    /// Any step ended in error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.events.iter().any(ActionEvent::failed)
    }

    /// The rebuild on the destination ended well: an evacuation has succeeded.
    #[must_use]
    pub fn rebuilt(&self) -> bool {
        self.events.iter().any(|event| event.event == "compute_rebuild_instance" && event.succeeded())
    }
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "instanceActions")]
    actions: Vec<InstanceAction>,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(rename = "instanceAction")]
    action: InstanceAction,
}

impl Nova {
    /// What was asked of a server, newest first; works for a deleted one too. One page: the newest 1,000.
    pub async fn instance_actions(&self, server: &str) -> Result<Vec<InstanceAction>, Error> {
        let path = ["servers", server, "os-instance-actions"];
        Ok(self.get(Microversion::ACTIONS, &path, &[]).await?.json::<Listed>()?.actions)
    }

    /// One request with its events.
    ///
    /// Errors: [`Error::NotFound`].
    pub async fn instance_action(&self, server: &str, request_id: &str) -> Result<InstanceAction, Error> {
        let path = ["servers", server, "os-instance-actions", request_id];
        Ok(self.get(Microversion::ACTIONS, &path, &[]).await?.json::<Shown>()?.action)
    }
}

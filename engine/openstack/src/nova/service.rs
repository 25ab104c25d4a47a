//! os-services: is nova-compute there, and may a host be scheduled to.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Microversion, Nova, lenient};
use crate::Error;

/// One nova-compute.
///
/// A row of a down cell is partial: status UNKNOWN, no id, no state. `updated_at` is touched by heartbeats and by our
/// own PUTs alike, so two rows are compared as a whole, with none of our PUTs between.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// The uuid; absent in a partial row.
    #[serde(default)]
    pub id: Option<String>,
    /// `nova-compute`.
    #[serde(default, deserialize_with = "lenient")]
    pub binary: String,
    /// The host's name as Nova has it.
    #[serde(default, deserialize_with = "lenient")]
    pub host: String,
    /// Availability zone.
    #[serde(default)]
    pub zone: Option<String>,
    /// May it be scheduled to?
    #[serde(default, deserialize_with = "lenient")]
    pub status: ServiceStatus,
    /// Does it beat (and is it not forced down)?
    #[serde(default, deserialize_with = "lenient")]
    pub state: ServiceState,
    /// As Nova wrote it, UTC without a zone; to be compared with itself only.
    #[serde(default)]
    pub updated_at: Option<String>,
    /// Why it is disabled.
    #[serde(default)]
    pub disabled_reason: Option<String>,
    /// Someone said that it is dead.
    #[serde(default, deserialize_with = "lenient")]
    pub forced_down: bool,
}

/// `status` of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceStatus {
    /// Scheduled to.
    Enabled,
    /// Not scheduled to.
    Disabled,
    /// The cell's database gives no answer.
    #[default]
    #[serde(other)]
    Unknown,
}

/// `state` of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Beats.
    Up,
    /// Silent longer than `service_down_time`, or forced down.
    Down,
    /// The cell's database gives no answer.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Service {
    /// Whether the row is whole, that is, its cell's database answered.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.id.is_some() && self.status != ServiceStatus::Unknown && self.state != ServiceState::Unknown
    }
}

/// What to change of a service; all of it goes into one PUT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceChange {
    /// Disable, with this reason. While Nova calls the service up this makes a blocking call to the host (60 s if it
    /// is dead), unless the same PUT forces it down.
    pub disable: Option<String>,
    /// Enable. Not together with `disable`.
    pub enable: bool,
    /// Set or clear forced-down. Clearing is refused (400) while evacuations from the host are `done` and not
    /// `completed`; the migrations tell.
    pub forced_down: Option<bool>,
}

impl ServiceChange {
    /// Force down and disable in one.
    #[must_use]
    pub fn take_out(reason: &str) -> ServiceChange {
        ServiceChange { disable: Some(reason.to_owned()), enable: false, forced_down: Some(true) }
    }

    /// Disable alone.
    #[must_use]
    pub fn disable(reason: &str) -> ServiceChange {
        ServiceChange { disable: Some(reason.to_owned()), ..ServiceChange::default() }
    }

    /// Enable alone.
    #[must_use]
    pub fn enable() -> ServiceChange {
        ServiceChange { enable: true, ..ServiceChange::default() }
    }

    /// Clear forced-down alone.
    #[must_use]
    pub fn unforce() -> ServiceChange {
        ServiceChange { forced_down: Some(false), ..ServiceChange::default() }
    }

    fn body(&self) -> Result<Value, Error> {
        let mut body = json!({});
        match (&self.disable, self.enable) {
            (Some(_), true) => {
                return Err(Error::Config("a service cannot be enabled and disabled in one".into()));
            }
            (Some(reason), false) => {
                body["status"] = json!("disabled");
                body["disabled_reason"] = json!(shorten(reason));
            }
            (None, true) => body["status"] = json!("enabled"),
            (None, false) => {}
        }
        if let Some(forced_down) = self.forced_down {
            body["forced_down"] = json!(forced_down);
        }
        Ok(body)
    }
}

/// Nova's schema takes at most 255 characters.
fn shorten(reason: &str) -> String {
    reason.chars().take(255).collect()
}

#[derive(Deserialize)]
struct Listed {
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Changed {
    service: Service,
}

impl Nova {
    /// Every nova-compute, those of down cells as partial rows. Nova does not page this list.
    pub async fn services(&self) -> Result<Vec<Service>, Error> {
        self.list_services(None).await
    }

    /// The nova-compute of one host; none if Nova knows no such host.
    ///
    /// Errors: [`Error::Malformed`] if there are several.
    pub async fn service(&self, host: &str) -> Result<Option<Service>, Error> {
        let mut rows = self.list_services(Some(host)).await?;
        rows.retain(|row| row.host == host);
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            several => Err(Error::Malformed {
                call: format!("compute GET os-services?host={host}"),
                reason: format!("{several} services nova-compute on one host"),
                request_id: None,
            }),
        }
    }

    async fn list_services(&self, host: Option<&str>) -> Result<Vec<Service>, Error> {
        let mut query = vec![("binary", "nova-compute".to_owned())];
        query.extend(host.map(|host| ("host", host.to_owned())));
        let reply = self.get(Microversion::SERVICES, &["os-services"], &query).await?;
        Ok(reply.json::<Listed>()?.services)
    }

    /// Changes a service in one PUT and answers with its new row. `id` is the service's uuid.
    ///
    /// Errors: [`Error::NotFound`]; [`Error::Refused`] (400) for an un-force that comes too early.
    pub async fn set_service(&self, id: &str, change: &ServiceChange) -> Result<Service, Error> {
        let body = change.body()?;
        let (reply, _) =
            self.call(Method::PUT, Microversion::PLAIN, &["os-services", id], &[], Some(body)).await?;
        Ok(reply.json::<Changed>()?.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_down_cell_is_partial_and_not_an_error() {
        let row: Service =
            serde_json::from_value(json!({"binary": "nova-compute", "host": "cmp-09", "status": "UNKNOWN"}))
                .unwrap();
        assert!(!row.is_whole());
        assert_eq!((row.status, row.state), (ServiceStatus::Unknown, ServiceState::Unknown));
    }

    #[test]
    fn a_whole_row() {
        let row: Service = serde_json::from_value(json!({"binary": "nova-compute", "host": "cmp-02",
            "id": "897fb416-c98c-4d75-bbaa-7c3446e1db06", "zone": "nova", "status": "enabled", "state": "up",
            "updated_at": "2026-11-20T22:19:41.000000", "disabled_reason": null, "forced_down": false}))
        .unwrap();
        assert!(row.is_whole());
        assert_eq!(
            (row.status, row.state, row.forced_down),
            (ServiceStatus::Enabled, ServiceState::Up, false)
        );
    }

    #[test]
    fn out_of_service_is_one_body() {
        assert_eq!(
            ServiceChange::take_out("dead").body().unwrap(),
            json!({"status": "disabled", "disabled_reason": "dead", "forced_down": true})
        );
        assert_eq!(ServiceChange::enable().body().unwrap(), json!({"status": "enabled"}));
        assert_eq!(ServiceChange::unforce().body().unwrap(), json!({"forced_down": false}));
        let long = ServiceChange::disable(&"ä".repeat(300)).body().unwrap();
        assert_eq!(long["disabled_reason"].as_str().unwrap().chars().count(), 255);
        let both = ServiceChange { enable: true, ..ServiceChange::disable("x") };
        assert!(both.body().is_err());
    }
}

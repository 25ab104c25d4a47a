//! `os-services`: up or down by heartbeat, forced down by decree.

use super::World;
use crate::chance::Chance;
use crate::fault::Route;
use crate::history::What;
use crate::model::{Service, ServicePut};
use crate::reply::{Refusal, Reply};
use uuid::Uuid;

/// A put that disables a service which Nova calls up makes a blocking call to that host; this is how long it takes to give
/// up on a dead one (60.05 s were seen).
const DEAD_RPC_MS: u64 = 60_050;

/// A service of the control plane: always up.
#[derive(Debug)]
pub(super) struct Controller {
    id: Uuid,
    binary: &'static str,
}

impl Controller {
    pub(super) fn all(chance: &mut Chance) -> Vec<Self> {
        ["nova-scheduler", "nova-conductor"]
            .into_iter()
            .map(|binary| Self { id: chance.uuid(), binary })
            .collect()
    }
}

impl World {
    /// `GET /os-services`, all binaries. The row of a host whose cell is down has status `UNKNOWN`.
    pub fn services(&mut self, now: u64) -> Reply<Vec<Service>> {
        self.nova(now, Route::Services, |world, _| {
            let beat = world.now / world.spec.report_interval_ms.max(1) * world.spec.report_interval_ms;
            let controllers = world.controllers.iter().map(|it| Service {
                id: it.id,
                binary: it.binary.into(),
                host: "ctl".into(),
                zone: "internal".into(),
                status: "enabled".into(),
                up: true,
                updated_at: beat,
                disabled_reason: None,
                forced_down: false,
            });
            Ok(controllers.chain((0..world.hosts.len()).map(|host| world.service_row(host))).collect())
        })
    }

    fn service_row(&self, host: usize) -> Service {
        let it = &self.hosts[host];
        let last = it.pulse.last(self.now, self.spec.report_interval_ms);
        let down_cell = self.cell_down(host);
        Service {
            id: it.service.id,
            binary: "nova-compute".into(),
            host: it.name.clone(),
            zone: "nova".into(),
            status: match (down_cell, it.service.disabled) {
                (true, _) => "UNKNOWN".into(),
                (false, true) => "disabled".into(),
                (false, false) => "enabled".into(),
            },
            up: !down_cell && self.service_up(host),
            updated_at: last.max(it.service.put_at),
            disabled_reason: it.service.reason.clone(),
            forced_down: it.service.forced_down,
        }
    }

    /// Nova's opinion, which lags a death by up to `service_down_time`.
    pub(super) fn service_up(&self, host: usize) -> bool {
        let it = &self.hosts[host];
        let last = it.pulse.last(self.now, self.spec.report_interval_ms);
        !it.service.forced_down && self.now.saturating_sub(last) <= self.spec.service_down_ms
    }

    /// `PUT /os-services/{id}`.
    ///
    /// # Errors
    /// 404 unknown, 400 for other binaries, empty bodies and a reason without `disabled`, 400 for un-forcing while evacuation
    /// records of this host are `done`.
    pub fn put_service(&mut self, now: u64, id: Uuid, put: &ServicePut) -> Reply<Service> {
        self.nova(now, Route::ServicePut, |world, _| {
            if let Some(it) = world.controllers.iter().find(|it| it.id == id) {
                return Err(Refusal::status(
                    400,
                    format!(
                        "Updating a {} service is not supported. Only nova-compute services can be updated.",
                        it.binary
                    ),
                ));
            }
            let Some(host) = world.hosts.iter().position(|it| it.service.id == id) else {
                return Err(Refusal::status(404, format!("Service {id} could not be found.")));
            };
            let answer = world.change_service(host, put);
            if let Err(refusal) = &answer {
                let code = refusal.code().unwrap_or(0);
                world.note(What::ServicePutRefused { host: world.name(host), code });
            }
            answer
        })
    }

    fn change_service(&mut self, host: usize, put: &ServicePut) -> Result<Service, Refusal> {
        if put.forced_down.is_none() && put.disabled.is_none() {
            return Err(Refusal::status(
                400,
                "No updates were requested. Fields 'status' or 'forced_down' should be specified.",
            ));
        }
        if put.disabled_reason.is_some() && put.disabled != Some(true) {
            return Err(Refusal::status(
                400,
                "Specifying 'disabled_reason' with status 'enabled' is invalid.",
            ));
        }
        if put.forced_down == Some(false) && self.hosts[host].service.forced_down {
            let holds = self.records.iter().any(|record| {
                record.source == host
                    && record.kind == "evacuation"
                    && record.status == "done"
                    && !record.hidden
            });
            if holds {
                return Err(Refusal::status(
                    400,
                    format!(
                        "Unable to force up host {} as `done` evacuation migration records remain associated with the \
                         host. Ensure the compute service has been restarted, allowing these records to move to \
                         `completed` before retrying this request.",
                        self.hosts[host].name
                    ),
                ));
            }
        }
        if let Some(value) = put.forced_down {
            self.hosts[host].service.forced_down = value;
            self.note(What::ForcedDown { host: self.name(host), value });
        }
        if let Some(value) = put.disabled {
            let changes = self.hosts[host].service.disabled != value;
            if changes && self.service_up(host) && !self.hosts[host].on_the_bus() {
                self.nova.extra_ms = DEAD_RPC_MS;
            }
            let row = &mut self.hosts[host].service;
            row.disabled = value;
            row.reason = put.disabled_reason.clone();
            self.note(What::Disabled { host: self.name(host), value });
        }
        self.hosts[host].service.put_at = self.now;
        Ok(self.service_row(host))
    }

    /// The id of a host's nova-compute service.
    pub fn service_id(&self, host: &str) -> Uuid {
        self.hosts[self.host_ix(host)].service.id
    }
}

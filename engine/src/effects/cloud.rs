//! Effects and questions on Nova.
//!
//! Each call goes out once. What its end means follows from one table: a complete refusal and a "not now" were not executed;
//! anything cut short perhaps was (issue of lost answers: SAFETY 3.3).

use async_trait::async_trait;
use halberd_core::effect::{Done, Effect, Migration, Query, ServiceRow, Survey};
use halberd_core::id::InstanceId;
use halberd_core::instance::Guest;
use halberd_core::runner::Sight;
use halberd_openstack::{
    Accepted, Error, MigrationFilter, Node, Nova, OpenStack, Server, Service, ServiceChange, ServiceState,
    ServiceStatus,
};
use uuid::Uuid;

use crate::clock;
use crate::ports::{Cloud, OwnedMachine, Untold};

/// OpenStack through its API.
#[derive(Debug, Clone)]
pub struct NovaCloud {
    openstack: OpenStack,
    nova: Nova,
    /// Metadata key that marks a guest for recovery.
    ha_key: String,
}

impl NovaCloud {
    pub fn new(openstack: &OpenStack, ha_key: &str) -> NovaCloud {
        NovaCloud { openstack: openstack.clone(), nova: openstack.nova(), ha_key: ha_key.to_owned() }
    }

    async fn change_service(&self, nova: &Nova, host: &str, change: ServiceChange) -> Result<String, Error> {
        let service = nova.service(host).await?;
        match service.and_then(|service| service.id) {
            Some(id) => nova.set_service(&id, &change).await.map(|_| String::new()),
            None => Err(Error::Config(format!("Nova lists no whole nova-compute service for host '{host}'"))),
        }
    }

    async fn prepare(
        &self,
        nova: &Nova,
        reserved: &str,
        dead: &str,
        aggregates: bool,
    ) -> Result<String, Error> {
        if aggregates {
            for aggregate in nova
                .aggregates()
                .await?
                .iter()
                .filter(|aggregate| aggregate.hosts.iter().any(|host| host == dead))
            {
                if !aggregate.hosts.iter().any(|host| host == reserved) {
                    nova.add_host(aggregate.id, reserved).await?;
                }
            }
        }
        self.change_service(nova, reserved, ServiceChange::enable()).await
    }

    async fn call(&self, nova: &Nova, effect: &Effect) -> Result<String, Error> {
        let id = |instance: &InstanceId| instance.to_string();
        match effect {
            Effect::MarkDown { host, reason } => {
                self.change_service(nova, host, ServiceChange::take_out(reason)).await
            }
            Effect::Disable { host, reason } => {
                self.change_service(nova, host, ServiceChange::disable(reason)).await
            }
            Effect::Enable { host } => self.change_service(nova, host, ServiceChange::enable()).await,
            Effect::ForceUp { host } => self.change_service(nova, host, ServiceChange::unforce()).await,
            Effect::PrepareReserved { reserved, dead, aggregates } => {
                self.prepare(nova, reserved, dead, *aggregates).await
            }
            Effect::Lock { instance, reason } => nova.lock(&id(instance), Some(reason)).await.map(request),
            Effect::Unlock { instance } => nova.unlock(&id(instance)).await.map(request),
            Effect::ResetToError { instance } => nova.reset_state(&id(instance), false).await.map(request),
            Effect::ResetToActive { instance } => nova.reset_state(&id(instance), true).await.map(request),
            Effect::Evacuate { instance, to } => {
                nova.evacuate(&id(instance), to.as_deref()).await.map(request)
            }
            Effect::Stop { instance } => nova.stop(&id(instance)).await.map(request),
            Effect::Start { instance } => nova.start(&id(instance)).await.map(request),
            Effect::PowerOff { .. }
            | Effect::PowerOn { .. }
            | Effect::RestorePolicy { .. }
            | Effect::RevokeSessions { .. }
            | Effect::RunHook { .. } => Err(Error::Config(format!("{} is not asked of Nova", effect.word()))),
        }
    }

    async fn survey(&self, host: &str) -> Result<Survey, Error> {
        let at = clock::mono();
        let nova = &self.nova;
        let before = self.rows().await?;
        let of_host = MigrationFilter::of_host(host);
        let (accepted, starting) =
            (MigrationFilter::evacuations_in("accepted"), MigrationFilter::evacuations_in("pre-migrating"));
        let (mut records, accepted, starting, servers) = tokio::try_join!(
            nova.migrations(&of_host),
            nova.migrations(&accepted),
            nova.migrations(&starting),
            nova.servers(host),
        )?;
        let after = self.rows().await?;
        let whole = |rows: &[ServiceRow]| rows.iter().any(|row| row.host == host && row.whole);
        records.extend(accepted);
        records.extend(starting);
        let complete = whole(&before) && whole(&after) && servers.iter().all(Server::is_whole);
        let guests = servers.iter().filter_map(|server| self.guest(server)).collect();
        Ok(Survey {
            at,
            complete,
            guests,
            migrations: records.iter().filter_map(record).collect(),
            services: after,
        })
    }

    async fn rows(&self) -> Result<Vec<ServiceRow>, Error> {
        let row = |service: Service| ServiceRow {
            whole: service.is_whole(),
            up: service.state == ServiceState::Up,
            enabled: service.status == ServiceStatus::Enabled,
            forced_down: service.forced_down,
            disabled_reason: service.disabled_reason,
            updated_at: service.updated_at,
            id: service.id.unwrap_or_default(),
            host: service.host,
        };
        Ok(self.nova.services().await?.into_iter().map(row).collect())
    }

    /// The words of the newest evacuate action, if it ended in error.
    async fn failed_action(&self, instance: InstanceId) -> Result<Option<String>, Error> {
        let actions = self.nova.instance_actions(&instance.to_string()).await?;
        let Some(evacuate) = actions.iter().find(|action| action.action == "evacuate") else {
            return Ok(None);
        };
        let action = self.nova.instance_action(&instance.to_string(), &evacuate.request_id).await?;
        Ok(action.events.iter().find(|event| event.failed()).map(|event| {
            let details = event.details.clone().unwrap_or_default();
            format!("{} ended in error {details}", event.event).trim_end().to_owned()
        }))
    }

    fn guest(&self, server: &Server) -> Option<Guest> {
        Some(Guest {
            id: server.id.parse().ok()?,
            name: server.name.clone(),
            host: server.host.clone(),
            vm_state: server.vm_state.clone().unwrap_or_default(),
            task_state: server.task_state.clone(),
            power_state: server.power_state.and_then(|state| u8::try_from(state).ok()).unwrap_or(0),
            locked: server.locked,
            locked_reason: server.locked_reason.clone(),
            ha_enabled: server.metadata.get(&self.ha_key).cloned(),
            fault: server.fault.as_ref().map(|fault| fault.message.clone()),
        })
    }
}

fn request(accepted: Accepted) -> String {
    accepted.request_id.unwrap_or_default()
}

fn record(migration: &halberd_openstack::Migration) -> Option<Migration> {
    Some(Migration {
        id: migration.id,
        instance: migration.instance_uuid.parse().ok()?,
        source: migration.source_compute.clone().unwrap_or_default(),
        dest: migration.dest_compute.clone(),
        status: migration.status.clone(),
        kind: migration.migration_type.clone(),
    })
}

/// What an error of a call says about whether it was executed.
fn done_of(error: Error) -> Done {
    let text = error.to_string();
    match error {
        Error::NotFound(_) => Done::Gone { text },
        Error::Refused(answer) | Error::Forbidden(answer) | Error::Conflict(answer) => {
            Done::Refused { status: answer.status, text: answer.message.clone() }
        }
        Error::Unavailable { .. } | Error::Auth { .. } | Error::Config(_) => Done::NotExecuted { text },
        Error::OutcomeUnknown { .. } | Error::Malformed { .. } => Done::Unknown { text },
    }
}

fn owned(node: &Node) -> OwnedMachine {
    OwnedMachine {
        name: node.label().to_owned(),
        maintenance: node.maintenance,
        addresses: node.addresses(),
        system: node.system().map(str::to_owned),
        identities: node.identities(),
    }
}

#[async_trait]
impl Cloud for NovaCloud {
    async fn perform(&self, effect: &Effect, intent: Uuid) -> Done {
        let nova = self.nova.with_request_id(&format!("req-{intent}"));
        match self.call(&nova, effect).await {
            Ok(note) => Done::Accepted { note },
            Err(error) => done_of(error),
        }
    }

    async fn ask(&self, query: &Query) -> Result<Sight, String> {
        let answer = match query {
            Query::Survey { host } => self.survey(host).await.map(Sight::Survey),
            Query::Progress { host } => {
                let filter = MigrationFilter::evacuations_from(host);
                self.nova
                    .migrations(&filter)
                    .await
                    .map(|records| Sight::Progress(records.iter().filter_map(record).collect()))
            }
            Query::Destination { host } => {
                let servers = self.nova.servers(host).await;
                servers.map(|servers| {
                    Sight::Destination(servers.iter().filter_map(|server| self.guest(server)).collect())
                })
            }
            Query::Guest { instance } => match self.nova.server(&instance.to_string()).await {
                Ok(server) => Ok(Sight::Guest(self.guest(&server))),
                Err(Error::NotFound(_)) => Ok(Sight::Guest(None)),
                Err(error) => Err(error),
            },
            Query::Action { instance } => self.failed_action(*instance).await.map(Sight::Action),
            Query::Service { host } => {
                self.rows().await.map(|rows| Sight::Service(rows.into_iter().find(|row| row.host == *host)))
            }
            Query::Power { .. } => return Err("power is not asked of Nova".into()),
        };
        answer.map_err(|error| error.to_string())
    }

    async fn services(&self) -> Result<Vec<ServiceRow>, String> {
        self.rows().await.map_err(|error| error.to_string())
    }

    async fn owned_machines(&self) -> Result<Vec<OwnedMachine>, Untold> {
        match self.openstack.ironic().nodes().await {
            Ok(nodes) => Ok(nodes.iter().map(owned).collect()),
            Err(error @ Error::Forbidden(_)) => Err(Untold::Forbidden(error.to_string())),
            Err(error) => Err(Untold::Unanswered(error.to_string())),
        }
    }

    fn requests_sent(&self) -> u64 {
        self.openstack.requests_sent()
    }
}

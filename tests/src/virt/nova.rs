//! Effects and questions on the simulated Nova, as the product's client would put them on the wire.

use halberd_core::effect::{Done, Effect, Migration, Query, ServiceRow, Survey};
use halberd_core::id::InstanceId;
use halberd_core::instance::Guest;
use halberd_core::runner::Sight;
use halberd_sim::{MigrationFilter, Refusal, Reply, ServerFilter, ServicePut, World};

use super::sim::mono;

/// How long a client waits for an answer (20 s in the product).
pub const CLIENT_TIMEOUT_MS: u64 = 20_000;

fn done<T>(reply: Reply<T>, note: impl Fn(&T) -> String) -> (u64, Done) {
    match reply.answer {
        Ok(value) => (reply.after_ms, Done::Accepted { note: note(&value) }),
        Err(refusal) => refused(reply.after_ms, &refusal),
    }
}

fn refused(after_ms: u64, refusal: &Refusal) -> (u64, Done) {
    let text = refusal.message().to_owned();
    match refusal.code() {
        None => (CLIENT_TIMEOUT_MS, Done::Unknown { text: "no answer".into() }),
        Some(404) => (after_ms, Done::Gone { text }),
        Some(429 | 503) => (after_ms, Done::NotExecuted { text }),
        Some(status) if status >= 500 => (after_ms, Done::Unknown { text }),
        Some(status) => (after_ms, Done::Refused { status, text }),
    }
}

/// Performs an effect at once; the answer is due after the given time.
pub fn perform(world: &mut World, now: u64, effect: &Effect) -> (u64, Done) {
    let put = |world: &mut World, host: &str, put: ServicePut| {
        let id = world.service_id(host);
        done(world.put_service(now, id, &put), |_| String::new())
    };
    match effect {
        Effect::MarkDown { host, reason } => {
            let change = ServicePut {
                forced_down: Some(true),
                disabled: Some(true),
                disabled_reason: Some(reason.clone()),
            };
            put(world, host, change)
        }
        Effect::Disable { host, reason } => put(
            world,
            host,
            ServicePut { forced_down: None, disabled: Some(true), disabled_reason: Some(reason.clone()) },
        ),
        Effect::Enable { host } => {
            put(world, host, ServicePut { disabled: Some(false), ..ServicePut::default() })
        }
        Effect::ForceUp { host } => {
            put(world, host, ServicePut { forced_down: Some(false), ..ServicePut::default() })
        }
        Effect::PrepareReserved { reserved, .. } => {
            put(world, reserved, ServicePut { disabled: Some(false), ..ServicePut::default() })
        }
        Effect::Lock { instance, reason } => {
            done(world.lock_server(now, instance.0, Some(reason)), |()| String::new())
        }
        Effect::Unlock { instance } => done(world.unlock_server(now, instance.0), |()| String::new()),
        Effect::ResetToError { instance } => {
            done(world.reset_server(now, instance.0, true), |()| String::new())
        }
        Effect::ResetToActive { instance } => {
            done(world.reset_server(now, instance.0, false), |()| String::new())
        }
        Effect::Evacuate { instance, to } => {
            let minor = world.spec().max_microversion.min(94);
            done(world.evacuate(now, instance.0, to.as_deref(), minor), |()| "req".into())
        }
        Effect::Stop { instance } => done(world.stop_server(now, instance.0), |()| String::new()),
        Effect::Start { instance } => done(world.start_server(now, instance.0), |()| String::new()),
        Effect::PowerOff { .. }
        | Effect::PowerOn { .. }
        | Effect::RestorePolicy { .. }
        | Effect::RevokeSessions { .. }
        | Effect::RunHook { .. } => (0, Done::Accepted { note: String::new() }),
    }
}

/// All compute services as rows.
pub fn services(world: &mut World, now: u64) -> (u64, Result<Vec<ServiceRow>, String>) {
    let reply = world.services(now);
    let rows = reply.answer.map_err(|refusal| words(&refusal)).map(|rows| {
        rows.into_iter()
            .filter(|row| row.binary == "nova-compute")
            .map(|row| ServiceRow {
                id: row.id.to_string(),
                whole: row.status != "UNKNOWN",
                up: row.up,
                enabled: row.status == "enabled",
                forced_down: row.forced_down,
                disabled_reason: row.disabled_reason,
                updated_at: Some(row.updated_at.to_string()),
                host: row.host,
            })
            .collect()
    });
    let silent = rows.as_ref().is_err_and(|why| why.is_empty());
    (if silent { CLIENT_TIMEOUT_MS } else { reply.after_ms }, rows)
}

fn words(refusal: &Refusal) -> String {
    refusal.code().map_or_else(String::new, |code| format!("{code}: {}", refusal.message()))
}

fn guest(server: &halberd_sim::Server) -> Guest {
    Guest {
        id: InstanceId(server.id),
        name: server.name.clone(),
        host: server.host.clone(),
        vm_state: server.vm_state.name().to_owned(),
        task_state: server.task_state.clone(),
        power_state: server.power_state,
        locked: server.locked,
        locked_reason: server.locked_reason.clone(),
        ha_enabled: server.metadata.get("HA_Enabled").cloned(),
        fault: server.fault.clone(),
    }
}

fn guests(world: &mut World, now: u64, host: &str) -> (u64, Result<Vec<Guest>, String>) {
    let mut all = Vec::new();
    let mut marker = None;
    let mut took = 0;
    loop {
        let filter = ServerFilter { host: Some(host.to_owned()), marker, ..ServerFilter::default() };
        let reply = world.servers(now, &filter);
        took += reply.after_ms;
        match reply.answer {
            Err(refusal) => {
                return (
                    if refusal.code().is_none() { CLIENT_TIMEOUT_MS } else { took },
                    Err(words(&refusal)),
                );
            }
            Ok(page) if page.is_empty() => return (took, Ok(all)),
            Ok(page) => {
                marker = page.last().map(|server| server.id);
                all.extend(page.iter().map(guest));
            }
        }
    }
}

fn migrations(
    world: &mut World,
    now: u64,
    filter: &MigrationFilter,
) -> (u64, Result<Vec<Migration>, String>) {
    let reply = world.migrations(now, filter);
    let silent = matches!(reply.answer, Err(Refusal::Silence));
    let records = reply.answer.map_err(|refusal| words(&refusal)).map(|records| {
        let record = |record: halberd_sim::Migration| Migration {
            id: i64::try_from(record.id).expect("small"),
            instance: InstanceId(record.instance),
            source: record.source,
            dest: record.dest,
            status: record.status,
            kind: record.kind,
        };
        records.into_iter().map(record).collect()
    });
    (if silent { CLIENT_TIMEOUT_MS } else { reply.after_ms }, records)
}

fn survey(world: &mut World, now: u64, host: &str) -> (u64, Result<Sight, String>) {
    let mut took = 0;
    let mut inner = || -> Result<Sight, String> {
        let mut ask = |(ms, answer): (u64, Result<Vec<ServiceRow>, String>)| {
            took += ms;
            answer
        };
        let before = ask(services(world, now))?;
        let by = |kind: Option<&str>, host: Option<&str>, status: Option<&str>| MigrationFilter {
            host: host.map(Into::into),
            kind: kind.map(Into::into),
            status: status.map(Into::into),
            ..MigrationFilter::default()
        };
        let mut records = Vec::new();
        for filter in [
            by(None, Some(host), None),
            by(Some("evacuation"), None, Some("accepted")),
            by(Some("evacuation"), None, Some("pre-migrating")),
        ] {
            let (ms, answer) = migrations(world, now, &filter);
            took += ms;
            records.extend(answer?);
        }
        let (ms, listed) = guests(world, now, host);
        took += ms;
        let listed = listed?;
        let (ms, after) = services(world, now);
        took += ms;
        let after = after?;
        let whole = |rows: &[ServiceRow]| rows.iter().any(|row| row.host == host && row.whole);
        let complete = whole(&before) && whole(&after);
        Ok(Sight::Survey(Survey {
            at: mono(now),
            complete,
            guests: listed,
            migrations: records,
            services: after,
        }))
    };
    let sight = inner();
    (took, sight)
}

/// Answers a question with what is true now; the answer arrives after the given time.
pub fn ask(world: &mut World, now: u64, query: &Query) -> (u64, Result<Sight, String>) {
    match query {
        Query::Survey { host } => survey(world, now, host),
        Query::Progress { host } => {
            let filter = MigrationFilter {
                source: Some(host.clone()),
                kind: Some("evacuation".into()),
                ..MigrationFilter::default()
            };
            let (ms, records) = migrations(world, now, &filter);
            (ms, records.map(Sight::Progress))
        }
        Query::Destination { host } => {
            let (ms, listed) = guests(world, now, host);
            (ms, listed.map(Sight::Destination))
        }
        Query::Guest { instance } => {
            let reply = world.server(now, instance.0);
            let sight = match reply.answer {
                Ok(server) => Ok(Sight::Guest(Some(guest(&server)))),
                Err(refusal) if refusal.code() == Some(404) => Ok(Sight::Guest(None)),
                Err(refusal) => Err(words(&refusal)),
            };
            (reply.after_ms, sight)
        }
        Query::Action { instance } => {
            let reply = world.instance_actions(now, instance.0);
            let sight = reply.answer.map_err(|refusal| words(&refusal)).map(|actions| {
                let evacuate = actions.iter().find(|action| action.action == "evacuate");
                let failed = evacuate
                    .and_then(|action| action.events.iter().find(|event| event.success == Some(false)));
                Sight::Action(failed.map(|event| {
                    format!("{} ended in error {}", event.event, event.details.clone().unwrap_or_default())
                }))
            });
            (reply.after_ms, sight)
        }
        Query::Service { host } => {
            let (ms, rows) = services(world, now);
            (ms, rows.map(|rows| Sight::Service(rows.into_iter().find(|row| row.host == *host))))
        }
        Query::Power { .. } => (0, Err("power is asked of the BMC".into())),
    }
}

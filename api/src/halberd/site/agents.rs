//! `GET /agents`: every host's agent, as the engines at work see it. For display: liveness is judged in their memory.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use halberd_core::host::Host;
use halberd_core::id::{EngineId, HostId};
use halberd_store::sightings::{self, SightingRow};
use halberd_store::{Db, engines, hosts, settings};
use halberd_types::halberd::Page;
use halberd_types::halberd::agent::{AgentState, AgentView, EngineSight};
use halberd_types::halberd::problem::Problem;
use serde_json::Value;

use crate::halberd::door;
use crate::halberd::input::time;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Every registered host's agent, by the host's name.
#[utoipa::path(
    get, path = "/agents", operation_id = "list_agents", tag = "site",
    responses((status = 200, body = Page<AgentView>), (status = 403, body = Problem)),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Page<AgentView>>, Failure> {
    door::require(&caller, "halberd:agents:index")?;
    Ok(Json(Page { items: views(door::db(&app)).await?, next: None }))
}

/// All agents, for this list and for readiness.
pub(crate) async fn views(db: &Db) -> Result<Vec<AgentView>, Failure> {
    let at_work: BTreeMap<EngineId, String> = engines::list(db)
        .await?
        .into_iter()
        .filter(|engine| engine.stopped_at.is_none())
        .map(|engine| (engine.id, engine.name))
        .collect();
    let mut sights: BTreeMap<HostId, Vec<SightingRow>> = BTreeMap::new();
    for row in sightings::list(db).await? {
        // What a run that is over saw counts no more.
        if at_work.contains_key(&row.engine) {
            sights.entry(row.host).or_default().push(row);
        }
    }
    let mut views = Vec::new();
    for host in hosts::all_living(db).await? {
        let said = said(db, host.id).await?;
        views.push(view(&host, sights.get(&host.id).map_or(&[][..], Vec::as_slice), &at_work, &said));
    }
    Ok(views)
}

/// Where an agent's last statement about itself is kept.
pub(crate) fn statement_of(host: HostId) -> String {
    format!("agent:{host}")
}

/// What the agent last said of itself; null when it said nothing.
async fn said(db: &Db, host: HostId) -> Result<Value, Failure> {
    let stored = settings::get(db, &statement_of(host)).await?;
    Ok(stored.and_then(|(text, _)| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
}

fn view(
    host: &Host,
    sights: &[SightingRow],
    engines: &BTreeMap<EngineId, String>,
    said: &Value,
) -> AgentView {
    AgentView {
        host_id: host.id.0,
        host: host.name.clone(),
        state: state(host.ever_agent, sights),
        since: sights.iter().map(|sight| sight.since).max().map(time),
        boot_id: host.boot.map(|boot| boot.0),
        boot_number: Some(i64::from(host.boot_number)).filter(|number| *number > 0),
        version: said["agent_version"].as_str().map(str::to_owned),
        has_start_gate: said["start_gate"].as_bool(),
        has_watchdog: said["watchdog"].as_bool(),
        sights: sights
            .iter()
            .map(|sight| EngineSight {
                engine: engines.get(&sight.engine).cloned().unwrap_or_else(|| sight.engine.to_string()),
                state: sight.state.clone(),
                since: time(sight.since),
            })
            .collect(),
    }
}

/// Heard by all is alive, heard by some is degraded.
fn state(ever: bool, sights: &[SightingRow]) -> AgentState {
    let any = |word: &str| sights.iter().any(|sight| sight.state == word);
    match () {
        () if sights.is_empty() && !ever => AgentState::Never,
        () if sights.is_empty() => AgentState::Unknown,
        () if sights.iter().all(|sight| sight.state == "alive") => AgentState::Alive,
        () if any("alive") || any("partial") => AgentState::Degraded,
        () if any("agent_lost") => AgentState::AgentLost,
        () => AgentState::Suspect,
    }
}

#[cfg(test)]
mod tests {
    use halberd_core::time::Stamp;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_engines_sights_are_joined() {
        let sight = |state: &str| SightingRow {
            host: HostId(Uuid::nil()),
            engine: EngineId(Uuid::nil()),
            boot: None,
            state: state.to_owned(),
            since: Stamp(0),
        };
        for (ever, words, expected) in [
            (false, &[][..], AgentState::Never),
            (true, &[], AgentState::Unknown),
            (true, &["alive", "alive"], AgentState::Alive),
            (true, &["alive", "silent"], AgentState::Degraded),
            (true, &["partial"], AgentState::Degraded),
            (true, &["silent"], AgentState::Suspect),
            (true, &["agent_lost", "silent"], AgentState::AgentLost),
        ] {
            let sights: Vec<SightingRow> = words.iter().map(|word| sight(word)).collect();
            assert_eq!(state(ever, &sights), expected, "{words:?}");
        }
    }
}

//! `servers`: listing, one server, its actions and their records.

use super::{Asked, Params, answer, asked, error, next, with_request_id};
use crate::model::{EvacuateRequest, Server, ServerFilter};
use crate::reply::{Refusal, Reply};
use crate::shell::http::{Answered, Refused, Site, refuse};
use crate::shell::wire;
use crate::world::World;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// Query keys of a listing that Nova knows; from 2.75 others are refused.
const KNOWN: [&str; 20] = [
    "all_tenants",
    "changes-before",
    "changes-since",
    "deleted",
    "flavor",
    "host",
    "image",
    "ip",
    "limit",
    "locked",
    "marker",
    "name",
    "project_id",
    "sort_dir",
    "sort_key",
    "status",
    "tags",
    "tenant_id",
    "user_id",
    "uuid",
];

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/compute/v2.1/servers", get(brief))
        .route("/compute/v2.1/servers/detail", get(detail))
        .route("/compute/v2.1/servers/{id}", get(show).delete(delete))
        .route("/compute/v2.1/servers/{id}/action", post(act))
        .route("/compute/v2.1/servers/{id}/os-instance-actions", get(actions))
        .route("/compute/v2.1/servers/{id}/os-instance-actions/{request}", get(action))
}

/// Keystone faults at the time of the query decide; Neutron's absence makes detail a 500, as seen.
fn neutron_fault(site: &Site) -> Option<Response> {
    let down = site.shared.with(|world, now| world.neutron_down(now));
    down.then(|| {
        error(
            500,
            "Unexpected API Error. Please contact the administrator\n\
             <class 'keystoneauth1.exceptions.connection.ConnectFailure'>",
        )
    })
}

async fn brief(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    list(site, headers, query, false).await
}

async fn detail(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    if let Some(fault) = neutron_fault(&site) {
        return Ok(fault);
    }
    list(site, headers, query, true).await
}

async fn list(site: Site, headers: HeaderMap, query: HashMap<String, String>, detail: bool) -> Answered {
    let asked = asked(&site, &headers)?;
    let filter = filter(&asked, &query)?;
    let limit = filter.limit.unwrap_or(1_000).min(1_000);
    let found = site.shared.ask(|world, now| world.servers(now, &filter)).await;
    let shown = found.map(|found| {
        let show = |it: &Server| {
            if detail {
                wire::server(it, asked.minor, asked.epoch, &site.base)
            } else {
                json!({"id": it.id, "name": it.name, "links": []})
            }
        };
        let mut page = json!({ "servers": found.iter().map(show).collect::<Vec<_>>() });
        // Nova promises a next page whenever this one is full; the next may be empty.
        if let Some(last) = found.last().filter(|_| found.len() == limit) {
            let path = if detail { "servers/detail" } else { "servers" };
            page["servers_links"] = next(&site, path, &query, last.id);
        }
        page
    });
    Ok(answer(shown).await)
}

fn filter(asked: &Asked, query: &HashMap<String, String>) -> Result<ServerFilter, Refused> {
    if asked.minor >= 75
        && let Some(key) = query.keys().find(|key| !KNOWN.contains(&key.as_str()))
    {
        return Err(error(
            400,
            &format!(
                "Invalid input for query parameters {{}}. Additional properties are not allowed ('{key}' was unexpected)"
            ),
        ).into());
    }
    let all = query
        .get("all_tenants")
        .is_some_and(|all| all.is_empty() || matches!(all.to_lowercase().as_str(), "1" | "true" | "yes"));
    if all {
        asked.only_admin("os_compute_api:servers:detail:get_all_tenants")?;
    }
    let bad = |key: &str| error(400, &format!("Invalid input for query parameters {key}."));
    let own = Some(asked.caller.project_id.clone());
    let project = query.get("project_id").or_else(|| query.get("tenant_id")).cloned();
    Ok(ServerFilter {
        host: query.get("host").filter(|_| asked.admin()).cloned(),
        project: if all { project } else { own },
        marker: match query.get("marker") {
            Some(marker) => Some(marker.parse().map_err(|_| bad("marker"))?),
            None => None,
        },
        limit: match query.get("limit") {
            Some(limit) => Some(limit.parse().map_err(|_| bad("limit"))?),
            None => None,
        },
    })
}

fn missing(id: &str) -> Response {
    error(404, &format!("Instance {id} could not be found."))
}

/// The server's id if the caller may see it: a foreign one is as good as absent.
fn visible(site: &Site, asked: &Asked, id: &str) -> Result<Uuid, Refused> {
    let uuid: Uuid = id.parse().map_err(|_| missing(id))?;
    let project = site.shared.lock().project_of(uuid);
    match project {
        Some(project) if asked.admin() || project == asked.caller.project_id => Ok(uuid),
        _ => Err(missing(id).into()),
    }
}

async fn show(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let asked = asked(&site, &headers)?;
    let id = visible(&site, &asked, &id)?;
    if let Some(fault) = neutron_fault(&site) {
        return Ok(fault);
    }
    let found = site.shared.ask(|world, now| world.server(now, id)).await;
    Ok(answer(found.map(|it| {
        let mut row = wire::server(&it, asked.minor, asked.epoch, &site.base);
        if asked.minor >= 71 && it.status != "UNKNOWN" {
            row["server_groups"] = json!([]);
        }
        json!({ "server": row })
    }))
    .await)
}

async fn delete(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let asked = asked(&site, &headers)?;
    let id = visible(&site, &asked, &id)?;
    let done = site.shared.ask(|world, now| world.delete_server(now, id)).await;
    Ok(accepted(&site, id, done, StatusCode::NO_CONTENT).await)
}

async fn accepted(site: &Site, id: Uuid, done: Result<(), Refusal>, status: StatusCode) -> Response {
    match done {
        Ok(()) => {
            let request = site.shared.lock().last_request_id(id);
            with_request_id(status.into_response(), request)
        }
        Err(refusal) => with_request_id(refuse(refusal, error).await, None),
    }
}

async fn act(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>, body: String) -> Answered {
    let asked = asked(&site, &headers)?;
    let id = visible(&site, &asked, &id)?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some((verb, detail)) = body.as_object().and_then(|body| body.iter().next()) else {
        return Ok(error(400, "Malformed request body"));
    };
    type Call = Box<dyn FnOnce(&mut World, u64) -> Reply<()> + Send>;
    let reason = detail["locked_reason"].as_str().map(str::to_owned);
    let to_error = detail["state"].as_str() == Some("error");
    let call: Call = match verb.as_str() {
        "evacuate" => return evacuate(&site, &asked, id, detail).await,
        "os-start" => Box::new(move |world, now| world.start_server(now, id)),
        "os-stop" => Box::new(move |world, now| world.stop_server(now, id)),
        "reboot" => Box::new(move |world, now| world.reboot_server(now, id)),
        "lock" => Box::new(move |world, now| world.lock_server(now, id, reason.as_deref())),
        "unlock" => Box::new(move |world, now| world.unlock_server(now, id)),
        "os-resetState" => {
            asked.only_admin("os_compute_api:os-admin-actions:reset_state")?;
            Box::new(move |world, now| world.reset_server(now, id, to_error))
        }
        other => return Ok(error(400, &format!("There is no such action: {other}"))),
    };
    let locked = site.shared.lock().is_locked(id);
    if locked && !asked.admin() && verb != "unlock" {
        return Ok(error(409, &format!("Instance {id} is locked")));
    }
    let done = site.shared.ask(call).await;
    Ok(accepted(&site, id, done, StatusCode::ACCEPTED).await)
}

async fn evacuate(site: &Site, asked: &Asked, id: Uuid, detail: &Value) -> Answered {
    asked.only_admin("os_compute_api:os-evacuate")?;
    if let Some(key) = unknown_key(detail) {
        return Ok(error(
            400,
            &format!(
                "Invalid input for field/attribute evacuate. Value: {detail}. Additional properties are not allowed \
                 ('{key}' was unexpected)"
            ),
        ));
    }
    let request = EvacuateRequest {
        host: detail["host"].as_str().map(Into::into),
        force: detail["force"].as_bool(),
        on_shared_storage: detail["onSharedStorage"].as_bool(),
        admin_password: detail["adminPass"].as_str().map(Into::into),
    };
    let minor = asked.minor;
    // The request id is taken in the same look at the world, as other calls for the server may follow at once.
    let mut request_id = None;
    let done = site
        .shared
        .ask(|world, now| {
            let reply = world.evacuate_with(now, id, &request, minor);
            request_id = world.last_request_id(id);
            reply
        })
        .await;
    Ok(match done {
        Ok(()) if minor < 14 => {
            let password = request.admin_password.filter(|_| request.on_shared_storage != Some(true));
            with_request_id(Json(json!({ "adminPass": password })).into_response(), request_id)
        }
        Ok(()) => {
            let empty = [(header::CONTENT_TYPE, "application/json"), (header::CONTENT_LENGTH, "0")];
            with_request_id((StatusCode::OK, empty, ()).into_response(), request_id)
        }
        Err(refusal) => with_request_id(refuse(refusal, error).await, None),
    })
}

fn unknown_key(detail: &Value) -> Option<String> {
    let known = ["host", "force", "onSharedStorage", "adminPass"];
    detail.as_object()?.keys().find(|key| !known.contains(&key.as_str())).cloned()
}

async fn actions(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let asked = asked(&site, &headers)?;
    let id = visible(&site, &asked, &id)?;
    let found = site.shared.ask(|world, now| world.instance_actions(now, id)).await;
    Ok(answer(found.map(|found| {
        let rows: Vec<Value> =
            found.iter().map(|it| wire::action(it, id, asked.minor, asked.epoch, false)).collect();
        json!({ "instanceActions": rows })
    }))
    .await)
}

async fn action(
    State(site): State<Site>,
    headers: HeaderMap,
    Path((id, request)): Path<(String, String)>,
) -> Answered {
    let asked = asked(&site, &headers)?;
    let id = visible(&site, &asked, &id)?;
    let found = site.shared.ask(|world, now| world.instance_actions(now, id)).await;
    let found = found.and_then(|found| {
        found.into_iter().find(|it| it.request_id == request).ok_or_else(|| {
            Refusal::status(404, format!("Action for request_id {request} on instance {id} not found"))
        })
    });
    Ok(answer(
        found.map(|it| json!({"instanceAction": wire::action(&it, id, asked.minor, asked.epoch, true)})),
    )
    .await)
}

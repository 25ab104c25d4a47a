//! Placement on HTTP: providers, inventories, usages, allocations.

use super::http::{Answered, Refused, Site, caller};
use crate::model::Provider;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use uuid::Uuid;

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/placement", get(version))
        .route("/placement/", get(version))
        .route("/placement/resource_providers", get(providers))
        .route("/placement/resource_providers/{id}", get(provider))
        .route("/placement/resource_providers/{id}/inventories", get(inventories))
        .route("/placement/resource_providers/{id}/usages", get(usages))
        .route("/placement/allocations/{server}", get(allocations))
}

async fn version() -> Response {
    // The empty self link is Placement's own.
    Json(json!({"versions": [{"id": "v1.0", "max_version": "1.39", "min_version": "1.0", "status": "CURRENT",
                              "links": [{"rel": "self", "href": ""}]}]}))
    .into_response()
}

fn may_ask(site: &Site, headers: &HeaderMap) -> Result<(), Refused> {
    if site.shared.with(|world, now| world.placement_down(now)) {
        return Err(StatusCode::SERVICE_UNAVAILABLE.into_response().into());
    }
    caller(site, headers).map(|_| ())
}

fn not_found(text: &str) -> Response {
    let error = json!({"status": 404, "title": "Not Found", "detail": text});
    (StatusCode::NOT_FOUND, Json(json!({"errors": [error]}))).into_response()
}

fn resources(guests: usize) -> Value {
    json!({"VCPU": guests, "MEMORY_MB": guests * 1_024, "DISK_GB": guests * 5})
}

fn document(provider: &Provider) -> Value {
    json!({"uuid": provider.uuid, "name": provider.name, "generation": provider.generation,
           "parent_provider_uuid": null, "root_provider_uuid": provider.uuid, "links": []})
}

async fn providers(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Answered {
    may_ask(&site, &headers)?;
    let all = site.shared.with(|world, now| world.providers(now));
    let wanted = |it: &&Provider| {
        query.get("name").is_none_or(|name| *name == it.name)
            && query.get("uuid").is_none_or(|uuid| *uuid == it.uuid.to_string())
    };
    let found: Vec<Value> = all.iter().filter(wanted).map(document).collect();
    Ok(Json(json!({"resource_providers": found})).into_response())
}

async fn one(
    site: Site,
    headers: HeaderMap,
    id: Uuid,
    show: impl FnOnce(&Provider) -> Value + Send,
) -> Answered {
    may_ask(&site, &headers)?;
    let all = site.shared.with(|world, now| world.providers(now));
    Ok(match all.iter().find(|it| it.uuid == id) {
        Some(provider) => Json(show(provider)).into_response(),
        None => not_found(&format!("No resource provider with uuid {id} found")),
    })
}

async fn provider(State(site): State<Site>, headers: HeaderMap, Path(id): Path<Uuid>) -> Answered {
    one(site, headers, id, document).await
}

async fn inventories(State(site): State<Site>, headers: HeaderMap, Path(id): Path<Uuid>) -> Answered {
    one(site, headers, id, |it| {
        let inventory = |total: usize| {
            json!({"total": total, "reserved": 0, "min_unit": 1, "max_unit": total, "step_size": 1,
                   "allocation_ratio": 1.0})
        };
        json!({"resource_provider_generation": it.generation,
               "inventories": {"VCPU": inventory(it.total), "MEMORY_MB": inventory(it.total * 1_024),
                               "DISK_GB": inventory(it.total * 5)}})
    })
    .await
}

async fn usages(State(site): State<Site>, headers: HeaderMap, Path(id): Path<Uuid>) -> Answered {
    one(
        site,
        headers,
        id,
        |it| json!({"resource_provider_generation": it.generation, "usages": resources(it.used)}),
    )
    .await
}

async fn allocations(State(site): State<Site>, headers: HeaderMap, Path(server): Path<Uuid>) -> Answered {
    may_ask(&site, &headers)?;
    let found = site.shared.with(|world, now| world.allocations(now, server));
    let by_provider: Map<String, Value> = found
        .into_iter()
        .map(|it| (it.provider.to_string(), json!({"resources": resources(1), "generation": it.generation})))
        .collect();
    Ok(Json(json!({"allocations": by_provider})).into_response())
}

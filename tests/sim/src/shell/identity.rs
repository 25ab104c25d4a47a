//! What Keystone lists: users, projects, domains, roles, services. Read-only, and open to every valid token, as Keystone's own policy is
//! not under test; it is there for dashboards and command-line clients that show or look up names.

use super::http::{Site, keystone_error, unauthorized};
use super::keystone::{asks_with_good_token, services};
use crate::world::Caller;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/identity/v3/auth/projects", get(own_projects))
        .route("/identity/v3/auth/domains", get(own_domains))
        .route("/identity/v3/users/{user}/projects", get(projects_of))
        .route("/identity/v3/role_assignments", get(role_assignments))
        .route("/identity/v3/{collection}", get(list))
        .route("/identity/v3/{collection}/{id}", get(show))
}

const DOMAIN: &str = "default";

fn project(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "domain_id": DOMAIN, "parent_id": DOMAIN, "enabled": true, "is_domain": false,
           "description": "", "tags": [], "options": {}, "links": {}})
}

fn user(it: &Caller) -> Value {
    json!({"id": it.user_id, "name": it.user, "domain_id": DOMAIN, "enabled": true, "default_project_id": it.project_id,
           "password_expires_at": null, "options": {}, "links": {}})
}

/// Everything of one kind; `None` for a kind that is not kept.
fn all(site: &Site, collection: &str) -> Option<Vec<Value>> {
    let (users, projects) = site.shared.with(|world, _| (world.users(), world.projects().to_vec()));
    Some(match collection {
        "users" => users.iter().map(user).collect(),
        "projects" => projects.iter().map(|(id, name)| project(id, name)).collect(),
        "domains" => vec![json!({"id": DOMAIN, "name": "Default", "enabled": true, "description": "", "links": {}})],
        "regions" => vec![json!({"id": "RegionOne", "description": "", "parent_region_id": null, "links": {}})],
        "roles" => {
            let names: BTreeSet<&String> = users.iter().flat_map(|it| &it.roles).collect();
            names
                .into_iter()
                .map(|name| json!({"id": format!("role-{name}"), "name": name, "domain_id": null, "links": {}}))
                .collect()
        }
        "services" => services(site)
            .into_iter()
            .map(|(kind, name, _)| json!({"id": name, "type": kind, "name": name, "enabled": true, "links": {}}))
            .collect(),
        "endpoints" => services(site)
            .into_iter()
            .flat_map(|(_, name, url)| {
                ["public", "internal", "admin"].map(|interface| {
                    json!({"id": format!("{name}-{interface}"), "service_id": name, "interface": interface, "url": url,
                           "region": "RegionOne", "region_id": "RegionOne", "enabled": true, "links": {}})
                })
            })
            .collect(),
        _ => return None,
    })
}

fn listed(collection: &str, rows: Vec<Value>) -> Response {
    Json(json!({collection: rows, "links": {"next": null, "previous": null, "self": null}})).into_response()
}

async fn list(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(collection): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if !asks_with_good_token(&site, &headers) {
        return unauthorized();
    }
    let Some(mut rows) = all(&site, &collection) else { return missing(&collection) };
    for key in ["name", "type", "domain_id", "service_id", "interface"] {
        if let Some(wanted) = query.get(key) {
            rows.retain(|row| row.get(key).is_none_or(|value| value.as_str() == Some(wanted)));
        }
    }
    listed(&collection, rows)
}

async fn show(
    State(site): State<Site>,
    headers: HeaderMap,
    Path((collection, id)): Path<(String, String)>,
) -> Response {
    if !asks_with_good_token(&site, &headers) {
        return unauthorized();
    }
    let found = all(&site, &collection).and_then(|rows| rows.into_iter().find(|row| row["id"] == *id));
    match found {
        Some(row) => Json(json!({collection.trim_end_matches('s'): row})).into_response(),
        None => missing(&id),
    }
}

fn missing(what: &str) -> Response {
    keystone_error(404, &format!("Could not find {what}."))
}

/// The user that asks, by token.
fn asking(site: &Site, headers: &HeaderMap) -> Option<Caller> {
    let token = headers.get("x-auth-token")?.to_str().ok()?.to_owned();
    let valid = site.shared.with(|world, now| world.validate(now, &token)).answer.ok()?;
    site.shared.lock().users().into_iter().find(|it| it.user_id == valid.caller.user_id)
}

async fn own_projects(State(site): State<Site>, headers: HeaderMap) -> Response {
    let Some(it) = asking(&site, &headers) else { return unauthorized() };
    listed("projects", vec![project(&it.project_id, &it.project)])
}

/// Nobody has a role on the domain itself.
async fn own_domains(State(site): State<Site>, headers: HeaderMap) -> Response {
    if asking(&site, &headers).is_none() {
        return unauthorized();
    }
    listed("domains", Vec::new())
}

async fn projects_of(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    if !asks_with_good_token(&site, &headers) {
        return unauthorized();
    }
    let found = site.shared.lock().users().into_iter().find(|it| it.user_id == id);
    found.map_or_else(|| missing(&id), |it| listed("projects", vec![project(&it.project_id, &it.project)]))
}

async fn role_assignments(State(site): State<Site>, headers: HeaderMap) -> Response {
    if !asks_with_good_token(&site, &headers) {
        return unauthorized();
    }
    let users = site.shared.lock().users();
    let rows = users.iter().flat_map(|it| {
        it.roles.iter().map(|role| {
            json!({"role": {"id": format!("role-{role}"), "name": role}, "user": {"id": it.user_id, "name": it.user},
                   "scope": {"project": {"id": it.project_id, "name": it.project}}, "links": {}})
        })
    });
    listed("role_assignments", rows.collect())
}

//! Keystone v3 on HTTP: versions, tokens, catalog. Who and what there is to list stands beside, in `identity`.

use super::http::{Site, keystone_error, refuse, unauthorized};
use super::wire;
use crate::world::{Credentials, Scope, Token};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

pub(super) fn routes() -> Router<Site> {
    let tokens = get(validate).post(issue).delete(revoke);
    Router::new()
        .route("/identity", get(versions))
        .route("/identity/", get(versions))
        .route("/identity/v3", get(version))
        .route("/identity/v3/", get(version))
        .route("/identity/v3/auth/tokens", tokens.clone())
        .route("/identity/auth/tokens", tokens)
        .route("/identity/v3/auth/catalog", get(catalog_only))
}

fn version_document(site: &Site) -> Value {
    json!({
        "id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{}/identity/v3/", site.base)}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    })
}

async fn versions(State(site): State<Site>) -> Response {
    if !site.shared.with(|world, now| world.keystone_up(now)) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    (StatusCode::MULTIPLE_CHOICES, Json(json!({"versions": {"values": [version_document(&site)]}})))
        .into_response()
}

async fn version(State(site): State<Site>) -> Response {
    if !site.shared.with(|world, now| world.keystone_up(now)) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(json!({"version": version_document(&site)})).into_response()
}

async fn issue(State(site): State<Site>, body: String) -> Response {
    let body = serde_json::from_str::<Value>(&body).unwrap_or_default();
    let Some(credentials) = credentials(&body) else {
        return keystone_error(400, "Expecting to find valid identity and scope in the request body.");
    };
    let wanted = &body["auth"]["scope"];
    let user = &body["auth"]["identity"]["password"]["user"];
    // There is one domain, and nobody has a role on it.
    let strange =
        [&user["domain"], &wanted["project"]["domain"]].into_iter().any(|domain| !is_default(domain));
    if strange || wanted.get("domain").is_some() {
        return unauthorized();
    }
    let scope = match wanted {
        _ if wanted.get("system").is_some() => Scope::System,
        _ if wanted.get("unscoped").is_some() || wanted == "unscoped" => Scope::Unscoped,
        _ => Scope::Project,
    };
    match site.shared.ask(|world, now| world.authenticate_for(now, &credentials, scope)).await {
        Ok(token) => with_subject(StatusCode::CREATED, &token, token_document(&site, &token)),
        Err(refusal) => refuse(refusal, keystone_error).await,
    }
}

/// Names are not case-sensitive on the databases that Keystone uses.
fn is_default(domain: &Value) -> bool {
    [&domain["id"], &domain["name"]]
        .into_iter()
        .all(|it| it.as_str().is_none_or(|it| it.eq_ignore_ascii_case("default")))
}

fn credentials(body: &Value) -> Option<Credentials> {
    let auth = body.get("auth")?;
    let identity = auth.get("identity")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let named = |value: &Value| text(&value["id"]).or_else(|| text(&value["name"]));
    match identity["methods"][0].as_str()? {
        "password" => {
            let user = &identity["password"]["user"];
            Some(Credentials::Password {
                user: named(user)?,
                password: text(&user["password"])?,
                project: named(&auth["scope"]["project"]),
            })
        }
        "application_credential" => {
            let credential = &identity["application_credential"];
            Some(Credentials::ApplicationCredential {
                id: text(&credential["id"])?,
                secret: text(&credential["secret"])?,
            })
        }
        "token" => Some(Credentials::Token {
            id: text(&identity["token"]["id"])?,
            project: named(&auth["scope"]["project"]),
        }),
        _ => None,
    }
}

/// Who validates must himself be known; who he is does not matter here, as Keystone's own policy is not under test.
pub(super) fn asks_with_good_token(site: &Site, headers: &HeaderMap) -> bool {
    let token = headers.get("x-auth-token").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    site.shared.with(|world, now| world.validate(now, &token)).answer.is_ok()
}

fn subject(headers: &HeaderMap) -> String {
    headers.get("x-subject-token").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned()
}

async fn validate(State(site): State<Site>, headers: HeaderMap) -> Response {
    if !site.shared.with(|world, now| world.keystone_up(now)) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !asks_with_good_token(&site, &headers) {
        return unauthorized();
    }
    let subject = subject(&headers);
    match site.shared.ask(|world, now| world.validate(now, &subject)).await {
        Ok(token) => with_subject(StatusCode::OK, &token, token_document(&site, &token)),
        Err(refusal) => refuse(refusal, keystone_error).await,
    }
}

async fn revoke(State(site): State<Site>, headers: HeaderMap) -> Response {
    if !asks_with_good_token(&site, &headers) {
        return unauthorized();
    }
    let subject = subject(&headers);
    match site.shared.ask(|world, now| world.revoke(now, &subject)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refuse(refusal, keystone_error).await,
    }
}

async fn catalog_only(State(site): State<Site>, headers: HeaderMap) -> Response {
    let own = headers.get("x-auth-token").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    match site.shared.ask(|world, now| world.validate(now, &own)).await {
        Ok(token) => {
            Json(json!({"catalog": catalog(&site, &token.caller.project_id), "links": {}})).into_response()
        }
        Err(_) => unauthorized(),
    }
}

fn with_subject(status: StatusCode, token: &Token, document: Value) -> Response {
    let mut answer = (status, Json(document)).into_response();
    if let Ok(value) = HeaderValue::from_str(&token.id) {
        answer.headers_mut().insert("x-subject-token", value);
    }
    answer
}

fn token_document(site: &Site, token: &Token) -> Value {
    let epoch = site.shared.lock().spec().epoch_seconds;
    let roles: Vec<Value> =
        token.caller.roles.iter().map(|role| json!({"id": format!("role-{role}"), "name": role})).collect();
    let mut shown = json!({
        "methods": ["password"],
        "user": {"id": token.caller.user_id, "name": token.caller.user, "password_expires_at": null,
                 "domain": {"id": "default", "name": "Default"}},
        "audit_ids": ["sim"],
        "issued_at": wire::zulu(epoch, token.issued_at as i64),
        "expires_at": wire::zulu(epoch, token.expires_at as i64),
    });
    match token.scope {
        Scope::Unscoped => return json!({ "token": shown }),
        Scope::System => shown["system"] = json!({"all": true}),
        Scope::Project => {
            shown["is_domain"] = json!(false);
            shown["project"] = json!({"id": token.caller.project_id, "name": token.caller.project,
                                      "domain": {"id": "default", "name": "Default"}});
        }
    }
    shown["roles"] = Value::Array(roles);
    shown["catalog"] = catalog(site, &token.caller.project_id);
    json!({ "token": shown })
}

/// What Keystone puts the project's id in place of, in a service's address.
const PROJECT: [&str; 2] = ["$(project_id)s", "%(project_id)s"];

/// All services with their addresses for a project. One whose address names the project is left out where there is none.
pub(super) fn catalog(site: &Site, project: &str) -> Value {
    let shown = services(site).into_iter().filter_map(|(kind, name, url)| {
        let needs = PROJECT.iter().any(|place| url.contains(place));
        if needs && project.is_empty() {
            return None;
        }
        let url = PROJECT.iter().fold(url, |url, place| url.replace(place, project));
        let endpoint = |interface: &str| {
            json!({"id": format!("{name}-{interface}"), "interface": interface, "region": "RegionOne",
                   "region_id": "RegionOne", "url": url})
        };
        Some(json!({"id": name, "type": kind, "name": name,
                    "endpoints": [endpoint("public"), endpoint("internal"), endpoint("admin")]}))
    });
    Value::Array(shown.collect())
}

/// Type, name and address of the cloud's own services and of those that were registered.
pub(super) fn services(site: &Site) -> Vec<(String, String, String)> {
    let own = [
        ("identity", "keystone", "/identity/v3"),
        ("compute", "nova", "/compute/v2.1"),
        ("placement", "placement", "/placement"),
        ("network", "neutron", "/network"),
    ];
    let own =
        own.into_iter().map(|(kind, name, path)| (kind.into(), name.into(), format!("{}{path}", site.base)));
    let metal = site.shared.lock().has_ironic();
    let metal = metal.then(|| ("baremetal".into(), "ironic".into(), format!("{}/baremetal", site.base)));
    own.chain(metal).chain(site.shared.registered()).collect()
}

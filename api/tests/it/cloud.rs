//! A small Keystone and Nova on one loopback socket. It keeps state, and fails on request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{TimeDelta, Utc};
use halberd_openstack::{OpenStack, OpenstackConfig, Places, Timeouts};
use serde_json::{Value, json};

#[derive(Debug, Default)]
pub struct World {
    /// Tokens that callers may show, with what Keystone says of each.
    pub tokens: BTreeMap<String, Value>,
    /// Those of them that have expired: shown only to who says `allow_expired=1`.
    pub expired: BTreeSet<String>,
    /// Tokens that Keystone was asked about.
    pub asked: Vec<String>,
    /// Hosts with a nova-compute.
    pub computes: Vec<String>,
    /// Statuses that whole services answer with.
    pub keystone_fails: Option<u16>,
    pub nova_fails: Option<u16>,
    /// Request ids that came with calls to Nova.
    pub nova_saw: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Cloud {
    url: String,
    world: Arc<Mutex<World>>,
}

const OUR_TOKEN: &str = "our-own-token";

impl Cloud {
    pub async fn start() -> Cloud {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let computes = (1..10).map(|n| format!("cmp-{n:02}")).collect();
        let cloud = Cloud { url, world: Arc::new(Mutex::new(World { computes, ..World::default() })) };
        let router = Router::new().fallback(handle).with_state(cloud.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        cloud
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub async fn client(&self) -> OpenStack {
        let config = OpenstackConfig {
            auth_url: Some(format!("{}/identity/v3", self.url)),
            username: Some("halberd".into()),
            password: Some("secret".into()),
            project_name: Some("service".into()),
            ..OpenstackConfig::default()
        };
        OpenStack::with(&config, &Places::default(), Timeouts::default()).await.unwrap()
    }

    /// A token that Keystone knows, with these roles; in `project`, or for the whole system when that is `None`.
    pub fn token(&self, name: &str, roles: &str, project: Option<&str>) {
        self.token_of(name, "u-1", roles, project);
    }

    #[expect(clippy::disallowed_methods, reason = "a token has a wall-clock end")]
    pub fn token_of(&self, name: &str, user: &str, roles: &str, project: Option<&str>) {
        let roles: Vec<Value> =
            roles.split_whitespace().map(|role| json!({ "id": role, "name": role })).collect();
        let mut token = json!({
            "user": { "id": user, "name": format!("name-of-{user}"), "domain": { "id": "default", "name": "Default" } },
            "roles": roles,
            "expires_at": (Utc::now() + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        });
        match project {
            Some(id) => {
                token["project"] =
                    json!({ "id": id, "name": "p", "domain": { "id": "default", "name": "Default" } });
            }
            None => token["system"] = json!({ "all": true }),
        }
        self.world().tokens.insert(name.to_owned(), token);
    }

    fn answer(&self, method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Response {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut world = self.world();
        match path {
            "/identity/v3/auth/tokens" => {
                if let Some(status) = world.keystone_fails {
                    return fault(status);
                }
                if method == Method::POST {
                    return self.issue();
                }
                let subject = header("x-subject-token");
                world.asked.push(subject.to_owned());
                let shown = !world.expired.contains(subject) || query.contains("allow_expired=1");
                match world.tokens.get(subject).filter(|_| shown) {
                    Some(token) if header("x-auth-token") == OUR_TOKEN => {
                        axum::Json(json!({ "token": token })).into_response()
                    }
                    _ => fault(404),
                }
            }
            "/compute/v2.1/" => axum::Json(json!({ "version": { "id": "v2.1", "status": "CURRENT",
                "version": "2.104", "min_version": "2.1", "links": [] } }))
            .into_response(),
            "/compute/v2.1/os-services" => {
                if let Some(status) = world.nova_fails {
                    return fault(status);
                }
                world.nova_saw.push(header("x-openstack-request-id").to_owned());
                let asked = query.split('&').find_map(|pair| pair.strip_prefix("host="));
                // As Nova on MySQL: case is folded, so a near name is listed too.
                let found = world
                    .computes
                    .iter()
                    .filter(|host| asked.is_none_or(|asked| host.eq_ignore_ascii_case(asked)));
                let rows: Vec<Value> = found.map(|host| row(host)).collect();
                axum::Json(json!({ "services": rows })).into_response()
            }
            _ => fault(404),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a token has a wall-clock end")]
    fn issue(&self) -> Response {
        let endpoint = |kind: &str, url: String| {
            json!({ "type": kind, "name": kind, "id": kind, "endpoints": [
                { "id": "1", "interface": "public", "region": "R", "region_id": "R", "url": url }] })
        };
        let body = json!({ "token": {
            "methods": ["password"], "audit_ids": ["x"],
            "user": { "id": "u1", "name": "halberd", "domain": { "id": "default", "name": "Default" } },
            "project": { "id": "p0", "name": "service", "domain": { "id": "default", "name": "Default" } },
            "roles": [{ "id": "r1", "name": "admin" }],
            "issued_at": Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            "expires_at": (Utc::now() + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            "catalog": [endpoint("compute", format!("{}/compute/v2.1", self.url)),
                endpoint("identity", format!("{}/identity", self.url))],
        }});
        (StatusCode::CREATED, [("x-subject-token", OUR_TOKEN)], axum::Json(body)).into_response()
    }
}

fn row(host: &str) -> Value {
    json!({ "binary": "nova-compute", "host": host, "id": format!("uuid-{host}"), "zone": "nova", "status": "enabled",
        "state": "up", "updated_at": "2026-11-20T22:19:41.000000", "disabled_reason": null, "forced_down": false })
}

fn fault(status: u16) -> Response {
    let body = json!({ "error": { "code": status, "message": "as told" } });
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

async fn handle(
    State(cloud): State<Cloud>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    cloud.answer(&method, uri.path(), &query.unwrap_or_default(), &headers)
}

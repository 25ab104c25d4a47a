//! A small cloud on one loopback socket. It keeps state, logs what it is asked, and fails on request.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use halberd_openstack::{OpenStack, OpenstackConfig, Places, Timeouts};
use serde_json::{Value, json};

pub const PASSWORD: &str = "correct-horse-battery";
pub const PROJECT: &str = "7d9c1e4b0f0a4c5d9d0e6f1a2b3c4d5e";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// What the next matching request meets instead of its answer.
#[derive(Clone, Debug)]
pub enum Fault {
    Answer(u16, &'static str, &'static str, Vec<(&'static str, &'static str)>),
    Hang,
}

#[derive(Debug)]
pub struct World {
    pub seen: Vec<Seen>,
    /// (path prefix, fault), each used once.
    pub faults: VecDeque<(String, Fault)>,
    pub valid: HashSet<String>,
    pub issued: u32,
    pub lifetime: Duration,
    /// Nova says 401 to all, Keystone or not.
    pub nova_distrusts: bool,
    pub min: String,
    pub max: String,
    pub page: usize,
    pub servers: Vec<Value>,
    pub migrations: Vec<Value>,
    pub services: Vec<Value>,
    pub hosts: Vec<String>,
    pub catalog: Value,
    pub subjects: BTreeMap<String, Value>,
}

#[derive(Clone)]
pub struct Cloud {
    pub url: String,
    world: Arc<Mutex<World>>,
}

impl Cloud {
    pub async fn start() -> Cloud {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (cloud, app) = Cloud::at(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        cloud
    }

    /// The same over TLS, with the certificate of `tls/`.
    pub async fn start_tls() -> Cloud {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (cloud, app) = Cloud::at(format!("https://{}", listener.local_addr().unwrap()));
        let pem = |name| std::fs::read(format!("{}/{name}", Cloud::TLS)).unwrap();
        let tls = axum_server::tls_rustls::RustlsConfig::from_pem(pem("server.pem"), pem("server.key"))
            .await
            .unwrap();
        let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
        tokio::spawn(server.serve(app.into_make_service()));
        cloud
    }

    pub const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls");

    fn at(url: String) -> (Cloud, Router) {
        let world = Arc::new(Mutex::new(World {
            seen: Vec::new(),
            faults: VecDeque::new(),
            valid: HashSet::new(),
            issued: 0,
            lifetime: Duration::from_secs(3600),
            nova_distrusts: false,
            min: "2.1".into(),
            max: "2.104".into(),
            page: 1000,
            servers: Vec::new(),
            migrations: Vec::new(),
            services: Vec::new(),
            hosts: Vec::new(),
            catalog: catalog(&url, &format!("{url}/compute/v2.1")),
            subjects: BTreeMap::new(),
        }));
        let app = Router::new().fallback(handle).with_state(world.clone());
        (Cloud { url, world }, app)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn fault(&self, prefix: &str, fault: Fault) {
        self.world().faults.push_back((prefix.to_owned(), fault));
    }

    /// Requests whose path starts so.
    pub fn seen(&self, prefix: &str) -> Vec<Seen> {
        self.world().seen.iter().filter(|seen| seen.path.starts_with(prefix)).cloned().collect()
    }

    pub fn config(&self) -> OpenstackConfig {
        self.config_with(PASSWORD)
    }

    pub fn config_with(&self, password: &str) -> OpenstackConfig {
        toml::from_str(&format!(
            "auth_url = '{}/identity/v3'\nusername = 'halberd'\npassword = '{password}'\nproject_name = 'service'",
            self.url
        ))
        .unwrap()
    }

    pub async fn client(&self) -> OpenStack {
        OpenStack::with(&self.config(), &Places::default(), Timeouts::default()).await.unwrap()
    }

    /// Time limits short enough to run into.
    pub async fn hasty_client(&self) -> OpenStack {
        let timeouts = Timeouts { request: Duration::from_millis(300), ..Timeouts::default() };
        OpenStack::with(&self.config(), &Places::default(), timeouts).await.unwrap()
    }
}

pub fn catalog(url: &str, compute: &str) -> Value {
    let entry = |kind: &str, url: &str| {
        json!({"type": kind, "name": kind, "id": kind, "endpoints": [
            {"id": "1", "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": url}]})
    };
    json!([
        entry("quantum-flux", "http://nowhere.invalid/"),
        entry("identity", &format!("{url}/identity")),
        entry("compute", compute),
        entry("placement", &format!("{url}/placement")),
        entry("instance-ha", &format!("{url}/v1/{PROJECT}")),
    ])
}

fn reply(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("x-openstack-request-id", "req-fake")], axum::Json(body))
        .into_response()
}

fn fault(status: u16, name: &str, message: &str) -> Response {
    reply(status, json!({name: {"code": status, "message": message}}))
}

async fn handle(
    State(world): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let query = query.unwrap_or_default();
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (name.to_owned(), value.to_owned())
    });
    let seen = Seen {
        method: method.to_string(),
        path: uri.path().to_owned(),
        query: query.collect(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let met = {
        let mut world = world.lock().unwrap();
        world.seen.push(seen.clone());
        let at = world.faults.iter().position(|(prefix, _)| seen.path.starts_with(prefix.as_str()));
        at.and_then(|at| world.faults.remove(at))
    };
    match met {
        Some((_, Fault::Answer(status, kind, text, headers))) => {
            let mut response =
                (StatusCode::from_u16(status).unwrap(), [("content-type", kind)], text).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Some((_, Fault::Hang)) => std::future::pending().await,
        None => world.lock().unwrap().answer(&seen),
    }
}

impl World {
    fn answer(&mut self, seen: &Seen) -> Response {
        let path: Vec<&str> = seen.path.split('/').skip(1).collect();
        match path.as_slice() {
            ["identity", "v3", "auth", "tokens"] if seen.method == "POST" => self.issue(seen),
            ["identity", "v3", "auth", "tokens"] => self.validate(seen),
            ["compute", "v2.1", rest @ ..] => self.compute(seen, rest),
            ["placement", rest @ ..] => self.placement(seen, rest),
            ["v1" | "halberd", ..] => self.own(seen),
            _ => (StatusCode::NOT_FOUND, "<html>no such page</html>").into_response(),
        }
    }

    fn issue(&mut self, seen: &Seen) -> Response {
        let identity = &seen.body["auth"]["identity"];
        let right = match identity["methods"][0].as_str() {
            Some("password") => identity["password"]["user"]["password"] == PASSWORD,
            Some("application_credential") => identity["application_credential"]["secret"] == PASSWORD,
            _ => false,
        };
        if !right {
            let text = "The request you have made requires authentication.";
            return reply(401, json!({"error": {"code": 401, "title": "Unauthorized", "message": text}}));
        }
        self.issued += 1;
        let token = format!("gAAAAA-token-{}", self.issued);
        self.valid.insert(token.clone());
        let issued = chrono::DateTime::from_timestamp(1_000_000_000, 0).unwrap();
        let body = json!({"token": {
            "methods": ["password"], "is_domain": false, "audit_ids": ["x"],
            "user": {"id": "u1", "name": "halberd", "domain": {"id": "default", "name": "Default"}, "password_expires_at": null},
            "project": {"id": PROJECT, "name": "service", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": "r1", "name": "admin"}],
            "issued_at": issued.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            "expires_at": (issued + self.lifetime).format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
            "catalog": self.catalog,
        }});
        let mut response = reply(201, body);
        response.headers_mut().insert("x-subject-token", token.parse().unwrap());
        response
    }

    fn validate(&mut self, seen: &Seen) -> Response {
        if !self.trusts(seen) {
            return unauthorised();
        }
        match seen.header("x-subject-token").and_then(|subject| self.subjects.get(subject)) {
            Some(token) => reply(200, json!({"token": token})),
            None => fault(404, "error", "Could not find token: x."),
        }
    }

    fn trusts(&self, seen: &Seen) -> bool {
        seen.header("x-auth-token").is_some_and(|token| self.valid.contains(token))
    }

    fn compute(&mut self, seen: &Seen, path: &[&str]) -> Response {
        if !self.trusts(seen) || self.nova_distrusts {
            return unauthorised();
        }
        let method = seen.method.as_str();
        match (method, path) {
            ("GET", [""]) => reply(
                200,
                json!({"version": {"id": "v2.1", "status": "CURRENT", "version": self.max,
                "min_version": self.min, "updated": "2013-07-23T11:33:21Z", "links": [{"rel": "self", "href": "http://wrong.invalid/v2.1/"}]}}),
            ),
            ("GET", ["servers", "detail"]) => self.page(seen, "servers", "id"),
            ("GET", ["os-migrations"]) => self.page(seen, "migrations", "uuid"),
            ("GET", ["servers", id]) => match self.servers.iter().find(|server| server["id"] == *id) {
                Some(server) => reply(200, json!({"server": server})),
                None => fault(404, "itemNotFound", &format!("Instance {id} could not be found.")),
            },
            ("POST", ["servers", "locked-out", "action"]) => {
                fault(403, "forbidden", "Policy doesn't allow os_compute_api:os-evacuate to be performed.")
            }
            ("POST", ["servers", "paused", "action"]) => fault(
                409,
                "conflictingRequest",
                "Cannot 'evacuate' instance paused while it is in vm_state paused",
            ),
            ("POST", ["servers", "in-use", "action"]) => {
                fault(400, "badRequest", "Compute service of cmp-03 is still in use.")
            }
            // Success is 200 with an empty body that claims to be JSON.
            ("POST", ["servers", _, "action"]) => (
                StatusCode::OK,
                [("content-type", "application/json"), ("x-openstack-request-id", "req-nova-1")],
            )
                .into_response(),
            ("GET", ["servers", id, "os-instance-actions"]) => reply(
                200,
                json!({"instanceActions": [
                {"action": "evacuate", "instance_uuid": id, "request_id": "req-nova-1", "user_id": "u", "project_id": "p",
                 "start_time": "2026-11-20T22:19:41.000000", "updated_at": "2026-11-20T22:19:42.000000", "message": null}]}),
            ),
            ("GET", ["servers", id, "os-instance-actions", request]) => reply(
                200,
                json!({"instanceAction": {
                "action": "evacuate", "instance_uuid": id, "request_id": request, "message": "Error", "events": [
                {"event": "compute_rebuild_instance", "start_time": "2026-11-20T22:19:41.000000", "finish_time": "2026-11-20T22:19:42.000000",
                 "result": "Error", "traceback": null, "host": "cmp-02", "hostId": "h", "details": "spawn failed"},
                {"event": "rebuild_server", "start_time": "2026-11-20T22:19:41.000000", "finish_time": null, "result": null,
                 "traceback": null, "host": "ctl", "details": null}]}}),
            ),
            ("GET", ["os-services"]) => {
                let host = seen.query.get("host");
                let rows: Vec<_> = self
                    .services
                    .iter()
                    .filter(|row| host.is_none_or(|host| row["host"] == **host))
                    .collect();
                reply(200, json!({"services": rows}))
            }
            ("PUT", ["os-services", id]) => self.put_service(seen, id),
            ("GET", ["os-aggregates"]) => reply(200, json!({"aggregates": [self.aggregate()]})),
            ("GET", ["os-aggregates", "1"]) => reply(200, json!({"aggregate": self.aggregate()})),
            ("POST", ["os-aggregates", "1", "action"]) => self.change_aggregate(&seen.body),
            _ => fault(404, "itemNotFound", "The resource could not be found."),
        }
    }

    fn put_service(&mut self, seen: &Seen, id: &str) -> Response {
        let Some(row) = self.services.iter_mut().find(|row| row["id"] == id) else {
            return fault(404, "itemNotFound", &format!("Service {id} could not be found."));
        };
        for (key, value) in seen.body.as_object().unwrap() {
            row[key] = value.clone();
        }
        if seen.body["forced_down"] == true {
            row["state"] = json!("down");
        }
        reply(200, json!({"service": row}))
    }

    fn aggregate(&self) -> Value {
        json!({"id": 1, "uuid": "a", "name": "rack-1", "hosts": self.hosts, "metadata": {}, "availability_zone": null,
            "created_at": "2026-11-20T22:19:41.000000", "updated_at": null, "deleted_at": null, "deleted": false})
    }

    fn change_aggregate(&mut self, body: &Value) -> Response {
        if let Some(host) = body["add_host"]["host"].as_str() {
            if self.hosts.iter().any(|own| own == host) {
                return fault(409, "conflictingRequest", &format!("Aggregate 1 already has host {host}."));
            }
            if host == "other-zone" {
                return fault(
                    409,
                    "conflictingRequest",
                    "Cannot add host to aggregate 1. Reason: it is in another zone.",
                );
            }
            self.hosts.push(host.to_owned());
        } else if let Some(host) = body["remove_host"]["host"].as_str() {
            if !self.hosts.iter().any(|own| own == host) {
                return fault(404, "itemNotFound", &format!("Cannot remove host {host} in aggregate 1"));
            }
            self.hosts.retain(|own| own != host);
        }
        reply(200, json!({"aggregate": self.aggregate()}))
    }

    /// Pages by limit and marker, with links that point to nowhere.
    fn page(&self, seen: &Seen, name: &str, key: &str) -> Response {
        let rows = if name == "servers" { &self.servers } else { &self.migrations };
        if name == "servers" && seen.query.get("all_tenants").map(String::as_str) != Some("1") {
            return reply(200, json!({"servers": []}));
        }
        let limit =
            seen.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(self.page).min(self.page);
        let from = match seen.query.get("marker") {
            Some(marker) => rows.iter().position(|row| row[key] == **marker).map(|at| at + 1),
            None => Some(0),
        };
        let Some(from) = from else { return fault(400, "badRequest", "marker not found") };
        let page: Vec<_> = rows.iter().skip(from).take(limit).collect();
        let mut body = json!({name: page});
        if page.len() == limit {
            body[format!("{name}_links")] = json!([{"rel": "next", "href": "http://wrong.invalid/next"}]);
        }
        reply(200, body)
    }

    fn placement(&self, seen: &Seen, path: &[&str]) -> Response {
        if !self.trusts(seen) {
            return unauthorised();
        }
        match path {
            ["resource_providers"] => reply(
                200,
                json!({"resource_providers": [
                {"uuid": "rp1", "name": seen.query.get("name").cloned().unwrap_or("cmp-01".into()), "generation": 28, "links": []}]}),
            ),
            ["resource_providers", "rp1", "inventories"] => reply(
                200,
                json!({"resource_provider_generation": 28, "inventories":
                {"VCPU": {"total": 8, "reserved": 0, "allocation_ratio": 4.0, "min_unit": 1, "max_unit": 8, "step_size": 1}}}),
            ),
            ["resource_providers", "rp1", "usages"] => reply(
                200,
                json!({"resource_provider_generation": 28, "usages": {"VCPU": 13, "MEMORY_MB": 0}}),
            ),
            ["allocations", "s1"] => reply(
                200,
                json!({"allocations": {"rp1": {"resources": {"VCPU": 1, "MEMORY_MB": 1024},
                "generation": 33}}, "project_id": "p", "user_id": "u", "consumer_generation": 3}),
            ),
            ["allocations", _] => reply(200, json!({"allocations": {}})),
            _ => reply(
                404,
                json!({"errors": [{"status": 404, "title": "Not Found",
                "detail": "The resource could not be found.\n\n No resource provider", "code": "placement.undefined_code", "request_id": "req-p"}]}),
            ),
        }
    }

    fn own(&self, seen: &Seen) -> Response {
        match (seen.method.as_str(), seen.path.as_str()) {
            ("GET", "/v1/segments") => reply(200, json!({"segments": [], "token": seen.header("x-auth-token").is_some()})),
            ("POST", "/v1/notifications") => reply(202, json!({"notification": seen.body})),
            ("DELETE", _) => StatusCode::NO_CONTENT.into_response(),
            ("GET", "/v1/hosts") => fault(400, "badRequest", "Invalid input for query parameters sort_key. Value: x."),
            ("GET", "/v1/closed") => unauthorised(),
            ("PUT", _) => (
                StatusCode::CONFLICT,
                [("content-type", "application/problem+json")],
                json!({"type": "urn:halberd:held", "title": "Held", "status": 409, "detail": "G2 holds it", "brake": "G2"}).to_string(),
            )
                .into_response(),
            _ => reply(404, json!({"itemNotFound": {"code": 404, "message": "nothing here"}})),
        }
    }
}

fn unauthorised() -> Response {
    let mut response = reply(
        401,
        json!({"error": {"code": 401, "title": "Unauthorized",
        "message": "The request you have made requires authentication."}}),
    );
    response.headers_mut().insert("www-authenticate", "Keystone uri=\"http://k\"".parse().unwrap());
    response
}

pub fn server(number: usize) -> Value {
    json!({"id": format!("s{number}"), "name": format!("guest-{number}"), "status": "ACTIVE", "tenant_id": "p", "user_id": "u",
        "metadata": {"HA_Enabled": "True"}, "created": "2026-11-20T21:29:26Z", "updated": "2026-11-20T21:29:26Z",
        "image": {"id": "i", "links": []},
        "flavor": {"vcpus": 1, "ram": 512, "disk": 1, "ephemeral": 0, "swap": 0, "original_name": "m1.tiny", "extra_specs": {}},
        "OS-EXT-SRV-ATTR:host": "cmp-02", "OS-EXT-SRV-ATTR:hypervisor_hostname": "cmp-02", "OS-EXT-SRV-ATTR:instance_name": "instance-1",
        "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": null, "OS-EXT-STS:power_state": 1, "OS-EXT-AZ:availability_zone": "nova",
        "os-extended-volumes:volumes_attached": [], "locked": false, "locked_reason": null, "host_status": "UP", "tags": []})
}

pub fn service(host: &str) -> Value {
    json!({"binary": "nova-compute", "host": host, "id": format!("uuid-{host}"), "zone": "nova", "status": "enabled",
        "state": "up", "updated_at": "2026-11-20T22:19:41.000000", "disabled_reason": null, "forced_down": false})
}

pub fn migration(number: usize) -> Value {
    json!({"id": number, "uuid": format!("m{number}"), "source_compute": "cmp-01", "dest_compute": null, "source_node": "cmp-01",
        "dest_node": null, "dest_host": null, "old_instance_type_id": null, "new_instance_type_id": null,
        "instance_uuid": format!("s{number}"), "status": "accepted", "migration_type": "evacuation", "user_id": "u",
        "project_id": "p", "created_at": "2026-11-20T22:19:41.000000", "updated_at": null})
}

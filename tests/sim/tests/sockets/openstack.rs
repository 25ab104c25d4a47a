//! Keystone, Nova and Placement on HTTP: the shapes a real cloud shows.

use crate::http::{Answer, request, request_within};
use halberd_sim::shell::Cloud;
use halberd_sim::{Fault, NovaAnswer, Route, WorldSpec};
use serde_json::{Value, json};

struct Client {
    cloud: Cloud,
    token: String,
}

impl Client {
    async fn start(spec: WorldSpec, user: &str) -> Self {
        let cloud = Cloud::start(spec).await.unwrap();
        let token = token(&cloud, user).await;
        Self { cloud, token }
    }

    async fn call(&self, method: &str, path: &str, minor: u16, body: Value) -> Answer {
        let url = format!("{}/{path}", self.cloud.nova_url());
        let version = format!("compute 2.{minor}");
        let headers = [("X-Auth-Token", self.token.as_str()), ("OpenStack-API-Version", version.as_str())];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(method, &url, &headers, &body).await.expect("an answer")
    }

    async fn get(&self, path: &str, minor: u16) -> Value {
        let answer = self.call("GET", path, minor, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }
}

fn login(user: &str, password: &str) -> Value {
    json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": user, "password": password, "domain": {"name": "Default"}}}},
        "scope": {"project": {"name": if matches!(user, "tenant" | "auditor") { "blue" } else { "admin" },
                              "domain": {"name": "Default"}}},
    }})
}

async fn token(cloud: &Cloud, user: &str) -> String {
    let url = format!("{}/auth/tokens", cloud.keystone_url());
    let body = login(user, &format!("{user}-secret")).to_string();
    let answer = request("POST", &url, &[], &body).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.headers["x-subject-token"].clone()
}

#[expect(clippy::disallowed_methods, reason = "the socket shell runs in real time")]
#[tokio::test]
async fn tokens_carry_roles_and_a_catalog_that_leads_back() {
    let client = Client::start(WorldSpec::spread(2, 2), "admin").await;
    let url = format!("{}/auth/tokens", client.cloud.keystone_url());
    let monitor = token(&client.cloud, "monitor").await;
    let headers = [("X-Auth-Token", client.token.as_str()), ("X-Subject-Token", monitor.as_str())];
    let shown = request("GET", &url, &headers, "").await.unwrap().json();
    assert_eq!(shown["token"]["roles"][0]["name"], "service");
    let catalog = shown["token"]["catalog"].as_array().unwrap();
    let compute = catalog.iter().find(|it| it["type"] == "compute").unwrap();
    assert_eq!(compute["endpoints"][0]["url"], client.cloud.nova_url());
    assert_eq!(request("DELETE", &url, &headers, "").await.unwrap().status, 204);
    assert_eq!(request("GET", &url, &headers, "").await.unwrap().status, 404);
    let wrong = request("POST", &url, &[], &login("admin", "no").to_string()).await.unwrap();
    assert_eq!((wrong.status, wrong.json()["error"]["code"].clone()), (401, json!(401)));
    // A client's own clock must find the token good for about its lifetime.
    let expires = shown["token"]["expires_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>();
    assert!(expires.unwrap() > chrono::Utc::now());
    let account = client.cloud.login("monitor").unwrap();
    let body = json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": {
        "id": account.application_credential_id, "secret": account.application_credential_secret}}}});
    assert_eq!(request("POST", &url, &[], &body.to_string()).await.unwrap().status, 201);
    client.cloud.inject(Fault::KeystoneDown { for_ms: None });
    assert_eq!(request("POST", &url, &[], &login("admin", "x").to_string()).await.unwrap().status, 503);
    // Nova's middleware has not seen this one, and cannot ask.
    let nova = format!("{}/os-services", client.cloud.nova_url());
    let unseen = request("GET", &nova, &headers[..1], "").await.unwrap();
    assert_eq!(unseen.status, 503);
    assert!(unseen.body.contains("The Keystone service is temporarily unavailable."));
    client.cloud.inject(Fault::KeystoneHealed);
    let bad = request("GET", &nova, &[("X-Auth-Token", "none")], "").await.unwrap();
    assert_eq!(bad.status, 401);
    assert!(bad.headers["www-authenticate"].starts_with("Keystone uri="));
}

#[tokio::test]
async fn a_dead_hosts_guest_is_evacuated_over_the_wire() {
    let spec = WorldSpec { rebuild_latency_ms: (50, 100), ..WorldSpec::spread(3, 3) };
    let client = Client::start(spec, "halberd").await;
    client.cloud.inject(Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    let services = client.get("os-services?binary=nova-compute&host=cmp-01", 53).await;
    let service = &services["services"][0];
    assert_eq!((&service["state"], &service["forced_down"]), (&json!("up"), &json!(false)));
    assert_eq!(service["updated_at"].as_str().unwrap().len(), "2026-11-20T22:19:41.000000".len());
    let listed = client.get("servers/detail?all_tenants=1&host=cmp-01", 94).await;
    let id = listed["servers"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("servers/{id}/action");
    let in_use = client.call("POST", &path, 94, json!({"evacuate": {}})).await;
    assert_eq!(in_use.status, 400);
    assert_eq!(in_use.json()["badRequest"]["message"], "Compute service of cmp-01 is still in use.");
    let row = format!("os-services/{}", service["id"].as_str().unwrap());
    let both = json!({"forced_down": true, "status": "disabled", "disabled_reason": "fenced"});
    let put = client.call("PUT", &row, 53, both).await;
    assert_eq!((put.status, put.json()["service"]["state"].clone()), (200, json!("down")));
    let accepted = client.call("POST", &path, 94, json!({"evacuate": {}})).await;
    assert_eq!((accepted.status, accepted.body.as_str()), (200, ""));
    let request_id = &accepted.headers["x-openstack-request-id"];
    let filter = "os-migrations?source_compute=cmp-01&migration_type=evacuation";
    assert_eq!(client.get(filter, 80).await["migrations"][0]["instance_uuid"], id);
    client.cloud.until(|world| world.guests_placed_on("cmp-01").is_empty()).await;
    let server = client.get(&format!("servers/{id}"), 94).await;
    assert_eq!(server["server"]["status"], "ACTIVE");
    assert_ne!(server["server"]["OS-EXT-SRV-ATTR:host"], "cmp-01");
    assert_eq!(client.get(filter, 80).await["migrations"][0]["status"], "done");
    let action = client.get(&format!("servers/{id}/os-instance-actions/{request_id}"), 84).await;
    assert_eq!(action["instanceAction"]["action"], "evacuate");
    assert_eq!(action["instanceAction"]["events"][1]["event"], "compute_rebuild_instance");
    assert_eq!(action["instanceAction"]["events"][1]["result"], "Success");
    assert!(client.cloud.world().double_runs().is_empty());
}

#[tokio::test]
async fn microversions_decide_fields_and_refusals() {
    let client = Client::start(WorldSpec { max_microversion: 90, ..WorldSpec::spread(2, 2) }, "admin").await;
    let old = &client.get("os-services", 1).await["services"][2];
    assert!(old["id"].is_number() && old.get("forced_down").is_none());
    assert!(client.get("os-services", 53).await["services"][2]["id"].is_string());
    let too_new = client.call("GET", "os-services", 91, Value::Null).await;
    assert_eq!(too_new.status, 406);
    let text = "Version 2.91 is not supported by the API. Minimum is 2.1 and maximum is 2.90.";
    assert_eq!(too_new.json()["computeFault"]["message"], text);
    assert_eq!(client.call("GET", "servers/detail?nonsense=1", 74, Value::Null).await.status, 200);
    assert_eq!(client.call("GET", "servers/detail?nonsense=1", 75, Value::Null).await.status, 400);
    assert_eq!(client.call("GET", "os-migrations?nonsense=1", 80, Value::Null).await.status, 400);
    let server = &client.get("servers/detail?all_tenants=1", 73).await["servers"][0];
    assert!(server.get("locked_reason").is_some() && server.get("host_status").is_some());
    let server = &client.get("servers/detail?all_tenants=1", 8).await["servers"][0];
    assert!(server.get("locked").is_none() && server.get("host_status").is_none());
    let id = server["id"].as_str().unwrap();
    let path = format!("servers/{id}/action");
    let forced = client.call("POST", &path, 68, json!({"evacuate": {"force": true, "host": "x"}})).await;
    assert_eq!(forced.status, 400);
    assert!(forced.body.contains("'force' was unexpected"));
}

#[tokio::test]
async fn pages_are_linked() {
    let client = Client::start(WorldSpec::spread(2, 5), "admin").await;
    let page = client.get("servers/detail?all_tenants=1&limit=2", 94).await;
    let href = page["servers_links"][0]["href"].as_str().unwrap().to_owned();
    let path = href.strip_prefix(&format!("{}/", client.cloud.nova_url())).unwrap();
    let second = client.get(path, 94).await;
    assert_eq!(second["servers"].as_array().unwrap().len(), 2);
    assert_ne!(second["servers"][0]["id"], page["servers"][0]["id"]);
    let all = client.get("servers/detail?all_tenants=1", 94).await;
    assert_eq!(all["servers"].as_array().unwrap().len(), 5);
    assert!(all.get("servers_links").is_none());
    // Without all_tenants even an admin sees only his own project.
    assert!(client.get("servers/detail?host=cmp-01", 94).await["servers"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn tenants_may_not() {
    let client = Client::start(WorldSpec::spread(2, 6), "tenant").await;
    let own = client.get("servers/detail", 94).await["servers"][0].clone();
    let path = format!("servers/{}/action", own["id"].as_str().unwrap());
    let refused = client.call("POST", &path, 94, json!({"evacuate": {}})).await;
    assert_eq!(refused.status, 403);
    let text = "Policy doesn't allow os_compute_api:os-evacuate to be performed.";
    assert_eq!(refused.json()["forbidden"]["message"], text);
    let project = own["tenant_id"].as_str().unwrap().to_owned();
    let foreign = client.cloud.with(|world, _| {
        world.guest_ids().into_iter().find(|id| world.project_of(*id).unwrap() != project).unwrap()
    });
    assert_eq!(client.call("GET", &format!("servers/{foreign}"), 94, Value::Null).await.status, 404);
    assert_eq!(client.call("GET", "os-services", 53, Value::Null).await.status, 403);
    assert_eq!(client.call("GET", "servers/detail?all_tenants=1", 94, Value::Null).await.status, 403);
}

#[tokio::test]
async fn nova_in_trouble() {
    let client = Client::start(WorldSpec::spread(2, 2), "admin").await;
    let hurt = |route, answer| Fault::NovaAnswers { route, answer, for_ms: None };
    client.cloud.inject(hurt(None, NovaAnswer::Status(503)));
    assert_eq!(client.call("GET", "os-services", 53, Value::Null).await.status, 503);
    client.cloud.inject(Fault::NovaHealed);
    client.cloud.inject(hurt(Some(Route::Services), NovaAnswer::HangAfterDoing));
    let url = format!("{}/os-services", client.cloud.nova_url());
    assert!(request_within(1, "GET", &url, &[("X-Auth-Token", &client.token)], "").await.is_none());
    // Others are served meanwhile.
    assert_eq!(client.call("GET", "servers/detail", 94, Value::Null).await.status, 200);
}

#[tokio::test]
async fn placement_counts_and_aggregates_change() {
    let client = Client::start(WorldSpec::spread(2, 5), "admin").await;
    let headers = [("X-Auth-Token", client.token.as_str())];
    let base = client.cloud.placement_url();
    let all = request("GET", &format!("{base}/resource_providers?name=cmp-01"), &headers, "").await.unwrap();
    let id = all.json()["resource_providers"][0]["uuid"].as_str().unwrap().to_owned();
    let url = format!("{base}/resource_providers/{id}/usages");
    let usages = request("GET", &url, &headers, "").await.unwrap().json();
    assert_eq!(usages["usages"], json!({"VCPU": 3, "MEMORY_MB": 3_072, "DISK_GB": 15}));
    let made = client.call("POST", "os-aggregates", 41, json!({"aggregate": {"name": "spare"}})).await.json();
    assert!(made["aggregate"].get("hosts").is_none());
    let add = json!({"add_host": {"host": "cmp-02"}});
    let added = client.call("POST", "os-aggregates/1/action", 41, add.clone()).await.json();
    assert_eq!(added["aggregate"]["hosts"], json!(["cmp-02"]));
    assert_eq!(client.call("POST", "os-aggregates/1/action", 41, add).await.status, 409);
}

#[tokio::test]
async fn a_hundred_calls_wait_beside_each_other() {
    // An answer takes an hour here: had one call to wait for another's, it would never be recorded.
    let spec = WorldSpec { evacuate_api_latency_ms: 3_600_000, ..WorldSpec::loaded(3, 100) };
    let client = std::sync::Arc::new(Client::start(spec, "admin").await);
    client.cloud.inject(Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    let guests = client.cloud.with(|world, now| {
        let put = halberd_sim::ServicePut { forced_down: Some(true), ..Default::default() };
        let id = world.service_id("cmp-01");
        world.put_service(now, id, &put).answer.unwrap();
        world.guests_placed_on("cmp-01")
    });
    let mut calls = tokio::task::JoinSet::new();
    for id in &guests {
        let client = client.clone();
        let path = format!("servers/{id}/action");
        calls.spawn(async move { client.call("POST", &path, 94, json!({"evacuate": {}})).await.status });
    }
    client.cloud.until(|world| guests.iter().all(|id| world.evacuate_calls(*id).len() == 1)).await;
    assert!(calls.try_join_next().is_none());
    // And others are served meanwhile.
    assert_eq!(client.call("GET", "os-services", 53, Value::Null).await.status, 200);
}

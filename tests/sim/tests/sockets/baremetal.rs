//! The bare-metal service as a reader meets it: found in the catalog, paged, without passwords; and its hands on the power.

use crate::http::{Answer, request};
use halberd_sim::shell::Cloud;
use halberd_sim::{Fault, WorldSpec};
use serde_json::{Value, json};

struct Client {
    cloud: Cloud,
    token: String,
}

impl Client {
    async fn start(user: &str) -> Self {
        let spec = WorldSpec { bmc_off_latency_ms: 50, boot_ms: 50, ..WorldSpec::spread(4, 4) };
        let cloud = Cloud::start(spec).await.unwrap();
        let token = token(&cloud, user).await.headers["x-subject-token"].clone();
        Self { cloud, token }
    }

    /// The service's address in the catalog of a fresh token.
    async fn endpoint(&self) -> Option<String> {
        let catalog = token(&self.cloud, "admin").await.json()["token"]["catalog"].clone();
        let found = catalog.as_array()?.iter().find(|service| service["type"] == "baremetal")?.clone();
        Some(found["endpoints"][0]["url"].as_str()?.to_owned())
    }

    async fn call(&self, method: &str, path: &str, version: &str, body: Value) -> Answer {
        let url = match path.starts_with("http") {
            true => path.to_owned(),
            false => format!("{}/v1/{path}", self.endpoint().await.expect("a bare-metal service")),
        };
        let headers = [("X-Auth-Token", self.token.as_str()), ("X-OpenStack-Ironic-API-Version", version)];
        request(method, &url, &headers, &body.to_string()).await.unwrap()
    }

    async fn get(&self, path: &str, version: &str) -> Value {
        let answer = self.call("GET", path, version, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    fn enroll(&self, hosts: &[&str]) {
        for host in hosts {
            self.cloud.with(|world, now| world.enroll(now, host, None));
        }
    }
}

async fn token(cloud: &Cloud, user: &str) -> Answer {
    let login = cloud.login(user).unwrap();
    let domain = json!({"name": login.domain_name});
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": login.username, "password": login.password, "domain": domain}}},
        "scope": {"project": {"name": login.project_name, "domain": domain}}}});
    let url = format!("{}/auth/tokens", cloud.keystone_url());
    request("POST", &url, &[], &body.to_string()).await.unwrap()
}

fn names(answer: &Value) -> Vec<&str> {
    answer["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn it_stands_in_the_catalog_while_a_host_is_enrolled() {
    let client = Client::start("admin").await;
    assert_eq!(client.endpoint().await, None);
    client.enroll(&["cmp-01"]);
    assert!(client.endpoint().await.unwrap().ends_with("/baremetal"));
    client.cloud.with(|world, now| world.withdraw(now, "cmp-01"));
    assert_eq!(client.endpoint().await, None);
}

#[tokio::test]
async fn a_node_shows_how_it_is_reached_and_no_password() {
    let client = Client::start("admin").await;
    client.enroll(&["cmp-01", "cmp-02"]);
    let all = client.get("nodes/detail", "1.50").await;
    assert_eq!(names(&all), ["cmp-01", "cmp-02"]);
    let (redfish, ipmi) = (&all["nodes"][0], &all["nodes"][1]);
    let bmc = client.cloud.bmc("cmp-01").unwrap();
    assert_eq!(redfish["driver"], "redfish");
    assert_eq!(redfish["driver_info"]["redfish_address"], bmc.device_address());
    assert_eq!(redfish["driver_info"]["redfish_system_id"], "/redfish/v1/Systems/1");
    assert_eq!(redfish["driver_info"]["redfish_password"], "******");
    assert_eq!((&redfish["power_state"], &redfish["target_power_state"]), (&json!("power on"), &Value::Null));
    assert_eq!((&redfish["provision_state"], &redfish["maintenance"]), (&json!("active"), &json!(false)));
    assert!(redfish["properties"].is_object() && redfish["extra"].is_object());
    assert_eq!(ipmi["driver"], "ipmi");
    let address = client.cloud.bmc("cmp-02").unwrap().address;
    assert_eq!(ipmi["driver_info"]["ipmi_address"], address.ip().to_string());
    assert_eq!(ipmi["driver_info"]["ipmi_port"], address.port());
    for host in ["cmp-01", "cmp-02"] {
        let password = &client.cloud.bmc(host).unwrap().password;
        assert!(!all.to_string().contains(password), "{all} tells a password");
    }
}

#[tokio::test]
async fn versions_are_negotiated() {
    let client = Client::start("admin").await;
    client.enroll(&["cmp-01"]);
    // Without a version the oldest is spoken, which has no names.
    let url = format!("{}/v1/nodes/detail", client.endpoint().await.unwrap());
    let old = request("GET", &url, &[("X-Auth-Token", &client.token)], "").await.unwrap();
    assert_eq!(old.headers["x-openstack-ironic-api-version"], "1.1");
    assert!(old.json()["nodes"][0].get("name").is_none() && old.json()["nodes"][0]["driver"] == "redfish");
    let new = client.call("GET", "nodes/detail", "latest", Value::Null).await;
    assert_eq!(
        new.headers["x-openstack-ironic-api-version"],
        new.headers["x-openstack-ironic-api-maximum-version"]
    );
    for wrong in ["1.0", "1.999", "2.1", "x"] {
        assert_eq!(client.call("GET", "nodes/detail", wrong, Value::Null).await.status, 406, "{wrong}");
    }
    let none = request("GET", &url, &[], "").await.unwrap();
    assert_eq!(none.status, 401);
}

#[tokio::test]
async fn lists_are_paged_narrowed_and_filtered() {
    let client = Client::start("admin").await;
    client.enroll(&["cmp-01", "cmp-02", "cmp-03", "cmp-04"]);
    for path in ["nodes/detail?limit=3", "nodes?limit=3&fields=uuid,name,driver_info"] {
        let first = client.get(path, "1.72").await;
        assert_eq!(names(&first), ["cmp-01", "cmp-02", "cmp-03"]);
        let second = client.get(first["next"].as_str().expect("a next page"), "1.72").await;
        assert_eq!(names(&second), ["cmp-04"]);
        assert!(second.get("next").is_none(), "{second}");
        assert_eq!(second["nodes"][0].get("provision_state").is_some(), path.contains("detail"));
    }
    let short = client.get("nodes", "1.72").await;
    assert!(short["nodes"][0].get("driver_info").is_none() && short["nodes"][0]["power_state"] == "power on");
    assert_eq!(names(&client.get("nodes?driver=ipmi", "1.72").await), ["cmp-02", "cmp-04"]);
    assert!(client.get("nodes?detail=True", "1.72").await["nodes"][0].get("driver_info").is_some());
    let marker = "nodes?marker=0a0a0a0a-0000-4000-8000-000000000000";
    let wrong = [
        ("nodes/detail?fields=uuid", 400),
        ("nodes?fields=shoe", 400),
        ("nodes?limit=-1", 400),
        (marker, 404),
    ];
    for (path, status) in wrong {
        assert_eq!(client.call("GET", path, "1.72", Value::Null).await.status, status, "{path}");
    }
    assert_eq!(client.call("GET", "nodes?fields=uuid", "1.7", Value::Null).await.status, 406);
}

#[tokio::test]
async fn only_administrators_and_services_see_nodes() {
    for (user, seen) in [("monitor", 1), ("tenant", 0)] {
        let client = Client::start(user).await;
        client.enroll(&["cmp-01"]);
        let nodes = client.get("nodes/detail", "1.50").await;
        assert_eq!(nodes["nodes"].as_array().unwrap().len(), seen, "{user}");
        let refused = client.call("PUT", "nodes/cmp-01/maintenance", "1.50", json!({})).await.status;
        assert_eq!(refused, if seen == 1 { 403 } else { 404 });
    }
}

#[tokio::test]
async fn power_and_maintenance_are_changed_through_it() {
    let client = Client::start("admin").await;
    client.enroll(&["cmp-01"]);
    let off = client.call("PUT", "nodes/cmp-01/states/power", "1.50", json!({"target": "power off"})).await;
    assert_eq!(off.status, 202);
    client.cloud.until(|world| !world.is_powered("cmp-01")).await;
    client.cloud.with(|world, now| world.power_sync(now));
    let node = client.get("nodes/cmp-01", "1.50").await;
    assert_eq!((&node["power_state"], &node["target_power_state"]), (&json!("power off"), &Value::Null));
    assert!(!client.cloud.world().is_powered("cmp-01"));
    let put = client.call("PUT", "nodes/cmp-01/maintenance", "1.50", json!({"reason": "work"})).await;
    assert_eq!(put.status, 202);
    let node = client.get("nodes/cmp-01", "1.50").await;
    assert_eq!((&node["maintenance"], &node["maintenance_reason"]), (&json!(true), &json!("work")));
    assert_eq!(client.call("DELETE", "nodes/cmp-01/maintenance", "1.50", json!({})).await.status, 202);
    assert_eq!(client.get("nodes/cmp-01", "1.50").await["maintenance"], false);
    let odd = client.call("PUT", "nodes/cmp-01/states/power", "1.50", json!({"target": "reboot"})).await;
    assert_eq!(odd.status, 400);
    assert_eq!(client.call("GET", "nodes/cmp-09", "1.50", Value::Null).await.status, 404);
    client.cloud.inject(Fault::IronicDown { for_ms: None });
    assert_eq!(client.call("GET", "nodes", "1.50", Value::Null).await.status, 503);
    client.cloud.inject(Fault::IronicHealed);
    assert_eq!(client.call("GET", "nodes", "1.50", Value::Null).await.status, 200);
}

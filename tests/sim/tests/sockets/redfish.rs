//! A Redfish service as a fencer meets it.

use crate::http::{Answer, request, request_within};
use base64::Engine;
use halberd_sim::shell::{BmcEndpoint, Cloud};
use halberd_sim::{BmcFault, BmcKind, Fault, IfMatch, RestorePolicy, WorldSpec};
use serde_json::{Value, json};

async fn cloud() -> (Cloud, BmcEndpoint) {
    let spec =
        WorldSpec { bmc_kinds: vec![BmcKind::Redfish], bmc_off_latency_ms: 50, ..WorldSpec::spread(2, 2) };
    let cloud = Cloud::start(spec).await.unwrap();
    let bmc = cloud.bmc("cmp-01").unwrap().clone();
    (cloud, bmc)
}

fn fault(cloud: &Cloud, fault: BmcFault) {
    cloud.inject(Fault::Bmc { host: "cmp-01".into(), fault });
}

async fn call(
    bmc: &BmcEndpoint,
    method: &str,
    path: &str,
    auth: (&str, &str),
    body: Value,
) -> Option<Answer> {
    let url = format!("{}{path}", bmc.device_address());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    request(method, &url, &[auth], &body).await
}

async fn login(bmc: &BmcEndpoint, password: &str) -> Answer {
    let body = json!({"UserName": bmc.username, "Password": password});
    call(bmc, "POST", "/redfish/v1/SessionService/Sessions", ("X-None", "1"), body).await.unwrap()
}

#[tokio::test]
async fn a_session_reads_identity_and_switches() {
    let (cloud, bmc) = cloud().await;
    let session = login(&bmc, &bmc.password).await;
    assert_eq!(session.status, 201);
    let auth = ("X-Auth-Token", session.headers["x-auth-token"].as_str());
    let members = call(&bmc, "GET", "/redfish/v1/Systems", auth, Value::Null).await.unwrap().json();
    let path = members["Members"][0]["@odata.id"].as_str().unwrap().to_owned();
    let system = call(&bmc, "GET", &path, auth, Value::Null).await.unwrap();
    assert!(system.headers.contains_key("etag"));
    let system = system.json();
    assert_eq!(system["SerialNumber"], bmc.serial);
    assert_eq!(system["UUID"], json!(bmc.uuid));
    assert_eq!(system["PowerState"], "On");
    let target = system["Actions"]["#ComputerSystem.Reset"]["target"].as_str().unwrap().to_owned();
    let off = call(&bmc, "POST", &target, auth, json!({"ResetType": "ForceOff"})).await.unwrap();
    assert_eq!(off.status, 204);
    cloud.until(|world| !world.is_powered("cmp-01")).await;
    let system = call(&bmc, "GET", &path, auth, Value::Null).await.unwrap().json();
    assert_eq!(system["PowerState"], "Off");
    let on = call(&bmc, "POST", &target, auth, json!({"ResetType": "On"})).await.unwrap();
    assert_eq!(on.status, 204);
    cloud.until(|world| world.is_powered("cmp-01")).await;
    let unknown = call(&bmc, "POST", &target, auth, json!({"ResetType": "Explode"})).await.unwrap();
    assert_eq!(unknown.status, 400);
    let location = session.headers["location"].as_str();
    assert_eq!(call(&bmc, "DELETE", location, auth, Value::Null).await.unwrap().status, 204);
    assert_eq!(call(&bmc, "GET", &path, auth, Value::Null).await.unwrap().status, 401);
}

#[tokio::test]
async fn credentials_are_checked_in_both_ways() {
    let (cloud, bmc) = cloud().await;
    assert_eq!(login(&bmc, "no").await.status, 401);
    let basic = |password: &str| {
        let pair = format!("{}:{password}", bmc.username);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let path = "/redfish/v1/Systems/1";
    let good = basic(&bmc.password);
    assert_eq!(call(&bmc, "GET", path, ("Authorization", &good), Value::Null).await.unwrap().status, 200);
    assert!(cloud.world().bmc_sessions("cmp-01").is_empty());
    // Without either, only the root is open.
    let nobody = ("X-None", "1");
    assert_eq!(call(&bmc, "GET", "/redfish/v1/Systems", nobody, Value::Null).await.unwrap().status, 401);
    assert_eq!(call(&bmc, "GET", "/redfish/v1/", nobody, Value::Null).await.unwrap().status, 200);
    let bad = basic("no");
    assert_eq!(call(&bmc, "GET", path, ("Authorization", &bad), Value::Null).await.unwrap().status, 401);
    fault(&cloud, BmcFault::WrongPassword);
    assert_eq!(call(&bmc, "GET", path, ("Authorization", &good), Value::Null).await.unwrap().status, 401);
}

#[tokio::test]
async fn busy_then_well_then_silent() {
    let (cloud, bmc) = cloud().await;
    let session = login(&bmc, &bmc.password).await;
    let auth = ("X-Auth-Token", session.headers["x-auth-token"].as_str());
    fault(&cloud, BmcFault::Busy(1));
    let busy = call(&bmc, "GET", "/redfish/v1/Systems/1", auth, Value::Null).await.unwrap();
    assert_eq!((busy.status, busy.headers["retry-after"].as_str()), (503, "1"));
    assert_eq!(call(&bmc, "GET", "/redfish/v1/Systems/1", auth, Value::Null).await.unwrap().status, 200);
    fault(&cloud, BmcFault::WrongMachine("cmp-02".into()));
    let other = call(&bmc, "GET", "/redfish/v1/Systems/1", auth, Value::Null).await.unwrap().json();
    assert_ne!(other["SerialNumber"], bmc.serial);
    fault(&cloud, BmcFault::Hang);
    let url = format!("{}/redfish/v1/", bmc.device_address());
    assert!(request_within(1, "GET", &url, &[auth], "").await.is_none());
    fault(&cloud, BmcFault::Healed);
    assert!(request("GET", &url, &[auth], "").await.is_some());
    cloud.inject(Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: true });
    assert!(request_within(1, "GET", &url, &[auth], "").await.is_none());
}

#[tokio::test]
async fn the_restore_policy_is_a_property_that_may_be_patched() {
    let (cloud, bmc) = cloud().await;
    let session = login(&bmc, &bmc.password).await;
    let auth = ("X-Auth-Token", session.headers["x-auth-token"].as_str());
    let path = "/redfish/v1/Systems/1";
    let patch = async |headers: &[(&str, &str)], body: Value| {
        let headers = [&[auth], headers].concat();
        let url = format!("{}{path}", bmc.device_address());
        request("PATCH", &url, &headers, &body.to_string()).await.unwrap().status
    };
    let shown = async || call(&bmc, "GET", path, auth, Value::Null).await.unwrap();
    let to = |policy: &str| json!({"PowerRestorePolicy": policy});
    let before = shown().await;
    assert_eq!(before.json()["PowerRestorePolicy"], "LastState");
    assert_eq!(patch(&[], to("AlwaysOff")).await, 204);
    let after = shown().await;
    assert_eq!(after.json()["PowerRestorePolicy"], "AlwaysOff");
    // It changed, so did its ETag; the old one is stale.
    assert_ne!(after.headers["etag"], before.headers["etag"]);
    assert_eq!(after.json()["@odata.etag"], after.headers["etag"].as_str());
    assert_eq!(patch(&[("If-Match", &before.headers["etag"])], to("AlwaysOn")).await, 412);
    assert_eq!(patch(&[("If-Match", &after.headers["etag"])], to("AlwaysOn")).await, 204);
    assert_eq!(cloud.world().host("cmp-01").restore_policy, RestorePolicy::AlwaysOn);
    for wrong in [
        to("Sometimes"),
        json!({"PowerRestorePolicy": 3}),
        json!({"PowerState": "Off"}),
        json!([]),
        json!({}),
    ] {
        assert_eq!(patch(&[], wrong.clone()).await, 400, "{wrong}");
    }
    assert_eq!(cloud.world().host("cmp-01").restore_policy, RestorePolicy::AlwaysOn);
    let stranger = request("PATCH", &format!("{}{path}", bmc.device_address()), &[], "{}").await.unwrap();
    assert_eq!(stranger.status, 401);
    // Services that show it and let nobody set it, and that do not know it.
    fault(&cloud, BmcFault::FixedRestorePolicy);
    assert_eq!(patch(&[], to("AlwaysOff")).await, 405);
    fault(&cloud, BmcFault::NoRestorePolicy);
    assert_eq!(patch(&[], to("AlwaysOff")).await, 400);
    assert!(shown().await.json().get("PowerRestorePolicy").is_none());
}

#[tokio::test]
async fn preconditions_are_wanted_or_refused_on_all_changes() {
    let (cloud, bmc) = cloud().await;
    let session = login(&bmc, &bmc.password).await;
    let auth = ("X-Auth-Token", session.headers["x-auth-token"].as_str());
    let change = async |method: &str, path: &str, etag: Option<&str>, body: Value| {
        let mut headers = vec![auth];
        headers.extend(etag.map(|etag| ("If-Match", etag)));
        let url = format!("{}{path}", bmc.device_address());
        request(method, &url, &headers, &body.to_string()).await.unwrap().status
    };
    let reset = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";
    let system = call(&bmc, "GET", "/redfish/v1/Systems/1", auth, Value::Null).await.unwrap();
    let etag = system.headers["etag"].clone();
    let changes = [
        ("POST", reset, json!({"ResetType": "GracefulShutdown"})),
        ("PATCH", "/redfish/v1/Systems/1", json!({"PowerRestorePolicy": "LastState"})),
    ];
    for (method, path, body) in changes {
        fault(&cloud, BmcFault::IfMatch(IfMatch::Needed));
        assert_eq!(change(method, path, None, body.clone()).await, 428);
        assert_eq!(change(method, path, Some("W/\"old\""), body.clone()).await, 412);
        assert_eq!(change(method, path, Some(&etag), body.clone()).await, 204);
        fault(&cloud, BmcFault::IfMatch(IfMatch::Refused));
        assert_eq!(change(method, path, Some(&etag), body.clone()).await, 412);
        assert_eq!(change(method, path, None, body.clone()).await, 204);
        fault(&cloud, BmcFault::ReadOnly);
        assert_eq!(change(method, path, None, body.clone()).await, 403);
        fault(&cloud, BmcFault::Healed);
    }
}

#[tokio::test]
async fn roles_and_dates_are_shown() {
    let (cloud, bmc) = cloud().await;
    let session = login(&bmc, &bmc.password).await;
    let auth = ("X-Auth-Token", session.headers["x-auth-token"].as_str());
    let location = session.headers["location"].clone();
    let get = async |path: &str| call(&bmc, "GET", path, auth, Value::Null).await.unwrap().json();
    let accounts = get("/redfish/v1/").await["AccountService"]["@odata.id"].as_str().unwrap().to_owned();
    let roles = get(&accounts).await["Roles"]["@odata.id"].as_str().unwrap().to_owned();
    let may = async |role: &Value| {
        let link = format!("{roles}/{}", role.as_str().unwrap());
        assert!(get(&roles).await["Members"].as_array().unwrap().contains(&json!({"@odata.id": link})));
        get(&link).await["AssignedPrivileges"].as_array().unwrap().contains(&json!("ConfigureComponents"))
    };
    assert!(may(&get(&location).await["Roles"][0]).await);
    fault(&cloud, BmcFault::ReadOnly);
    assert!(!may(&get(&location).await["Roles"][0]).await);
    fault(&cloud, BmcFault::RetryAfterDate);
    fault(&cloud, BmcFault::Busy(1));
    let busy = call(&bmc, "GET", "/redfish/v1/Systems/1", auth, Value::Null).await.unwrap();
    let date = &busy.headers["retry-after"];
    let wall = cloud.with(|world, now| world.spec().epoch_seconds + (now / 1_000) as i64);
    let until = chrono::DateTime::parse_from_rfc2822(date).expect(date).timestamp();
    assert!(date.ends_with(" GMT") && (1..=3).contains(&(until - wall)), "{date} at {wall}");
}

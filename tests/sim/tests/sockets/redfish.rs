//! A Redfish service as a fencer meets it.

use crate::http::{Answer, request, request_within};
use base64::Engine;
use halberd_sim::shell::{BmcEndpoint, Cloud};
use halberd_sim::{BmcFault, BmcKind, Fault, WorldSpec};
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

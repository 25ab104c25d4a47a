//! Who may do what, what is recorded, and how refusals look.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use halberd_core::event::EventKind;
use halberd_core::id::{EngineId, NotificationId, WishId};
use halberd_core::notification::{Notification, NotificationStatus, NotificationType};
use halberd_core::recovery::host::HostState;
use halberd_store::sightings::{self, SightingRow};
use halberd_store::{audit, engines, events, hosts, notifications, services, settings, wishes, write};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::halberd::testing::{NOW, Site, event, request, send, set_state};

const ROLES: [&str; 8] =
    ["", "reader", "manager", "service", "operator:reader", "operator:member", "operator:manager", "admin"];

/// Every verb with a body that passes, and the roles that may.
fn verbs(
    host: &str,
    recovery: &str,
    segment: &str,
) -> Vec<(Method, String, Option<Value>, &'static [&'static str])> {
    const READ: &[&str] = &["service", "operator:reader", "operator:member", "operator:manager", "admin"];
    const OPERATE: &[&str] = &["operator:manager", "admin"];
    const COMMAND: &[&str] = &["admin"];
    let reason = || Some(json!({ "reason": "r" }));
    let until = json!({ "reason": "r", "until": "2026-11-21T12:00:00Z" });
    let get = |path: String| (Method::GET, path, None, READ);
    let post = |path: String, body, roles| (Method::POST, path, body, roles);
    vec![
        get("/recoveries".into()),
        get(format!("/recoveries/{recovery}")),
        get(format!("/recoveries/{recovery}/explain")),
        get(format!("/hosts/{host}/fence-devices")),
        get("/events?format=json".into()),
        get("/services".into()),
        get("/agents".into()),
        get("/engines".into()),
        get("/readiness".into()),
        get(format!("/segments/{segment}/policy")),
        get(format!("/audit?chain={recovery}")),
        get("/audit/chains".into()),
        get("/audit/verify".into()),
        post(format!("/recoveries/{recovery}/retry"), reason(), OPERATE),
        post(format!("/recoveries/{recovery}/release"), reason(), OPERATE),
        post(format!("/recoveries/{recovery}/cancel"), reason(), COMMAND),
        post(format!("/hosts/{host}/readmit"), reason(), OPERATE),
        post(format!("/hosts/{host}/fence"), reason(), COMMAND),
        post(format!("/hosts/{host}/fence"), Some(json!({ "reason": "r", "dry_run": true })), COMMAND),
        post(format!("/hosts/{host}/power-on"), reason(), COMMAND),
        post(format!("/hosts/{host}/fence-test"), reason(), COMMAND),
        post(
            format!("/hosts/{host}/fence-test"),
            Some(json!({ "reason": "r", "really_power_off": true })),
            COMMAND,
        ),
        get(format!("/hosts/{host}/fence-history")),
        post(format!("/hosts/{host}/confirm-fenced"), Some(json!({ "reason": "r", "serial": "S" })), COMMAND),
        post("/disarm".into(), Some(until), COMMAND),
        post("/arm".into(), reason(), COMMAND),
        (Method::PUT, format!("/hosts/{host}/attributes"), Some(json!({ "rack": "r1" })), OPERATE),
        (Method::PUT, format!("/segments/{segment}/policy"), Some(json!({ "profile": "fast" })), OPERATE),
        (
            Method::PUT,
            format!("/segments/{segment}/policy"),
            Some(json!({ "unfenced": "trust-reporter" })),
            COMMAND,
        ),
        (
            Method::PUT,
            format!("/hosts/{host}/fence-devices"),
            Some(json!({ "levels": [{ "devices": [{ "type": "watchdog" }] }] })),
            COMMAND,
        ),
        post(format!("/hosts/{host}/fence-devices/check"), None, OPERATE),
        post(format!("/hosts/{host}/agent-key"), None, COMMAND),
        (Method::DELETE, format!("/hosts/{host}/agent-key"), None, COMMAND),
    ]
}

/// S6: the full matrix, deny by default, and I33: a refused call changes nothing.
#[tokio::test]
async fn every_verb_by_every_role() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let recovery = site.open(&host).await;
    let devices = json!({ "levels": [{ "devices": [{ "type": "watchdog" }] }] });
    let path = format!("/hosts/{}/fence-devices", host.id);
    assert_eq!(site.call(Method::PUT, &path, Some(devices), "admin").await.status, StatusCode::OK);
    let all = verbs(&host.id.to_string(), &recovery.id.to_string(), &site.segment.to_string());
    for (method, path, body, may) in all {
        for roles in ROLES {
            let before = (
                audit::heads(&site.app.db).await.unwrap(),
                wishes::list(&site.app.db, 1000).await.unwrap().len(),
            );
            let answer = site.call(method.clone(), &path, body.clone(), roles).await;
            if may.contains(&roles) {
                // The second of two admitted roles may find a key gone.
                assert!(
                    answer.status.is_success() || answer.status == StatusCode::NOT_FOUND,
                    "{method} {path} {roles}: {}",
                    answer.text
                );
            } else {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path} {roles}");
                let after = (
                    audit::heads(&site.app.db).await.unwrap(),
                    wishes::list(&site.app.db, 1000).await.unwrap().len(),
                );
                assert_eq!(before, after, "{method} {path} {roles}");
            }
        }
    }
}

#[tokio::test]
async fn existence_is_not_leaked_to_whoever_may_not() {
    let site = Site::new().await;
    let nothing = Uuid::from_u128(1);
    let answer = site.call(Method::GET, &format!("/recoveries/{nothing}"), None, "manager").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let answer = site.call(Method::GET, &format!("/recoveries/{nothing}"), None, "admin").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wish_is_recorded_and_its_answer_shown() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let path = format!("/hosts/{}/confirm-fenced", host.id);
    let body = json!({ "reason": "pulled the plug", "serial": "SN-1" });
    let made = site.call(Method::POST, &path, Some(body), "admin").await;
    assert_eq!(made.status, StatusCode::ACCEPTED);
    let wish = made.json();
    assert_eq!(
        (&wish["kind"], &wish["state"], &wish["actor"]),
        (&json!("confirm_fenced"), &json!("open"), &json!("ann"))
    );
    assert_eq!(made.headers["location"], format!("/halberd/v1/wishes/{}", wish["id"].as_str().unwrap()));
    let id: WishId = wish["id"].as_str().unwrap().parse().unwrap();
    let stored = wishes::get(&site.app.db, id).await.unwrap().wish;
    assert_eq!(
        (stored.kind.as_str(), stored.subject, stored.body["serial"].clone()),
        ("confirm_fenced", host.id.to_string(), json!("SN-1"))
    );
    let why = json!("the serial given does not match the host's");
    write(&site.app.db, async |tx| wishes::done(tx, id, false, &why, NOW).await).await.unwrap();
    let shown = site.get(&format!("/wishes/{id}")).await.json();
    assert_eq!((&shown["state"], &shown["answer"]), (&json!("refused"), &why));
    assert_eq!(shown["subject"]["name"], "cmp-1");
    let without = site.call(Method::POST, &path, Some(json!({ "reason": "r" })), "admin").await;
    assert_eq!(without.status, StatusCode::BAD_REQUEST, "a serial must be named");
}

#[tokio::test]
async fn a_closed_recovery_cannot_be_released_or_cancelled() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let mut recovery = site.open(&host).await;
    set_state(&mut recovery, HostState::Cancelled);
    recovery.reason = "alive: it answered".into();
    let commit = halberd_core::runner::Commit {
        nonce: Uuid::new_v4(),
        recovery: recovery.clone(),
        opens: vec![],
        vmoves: vec![],
        intents: vec![],
        resolved: vec![],
        hosts: vec![],
        notification: None,
        audit: vec![halberd_core::audit::Entry::new("state_changed", "cancelled: alive", json!({}))],
        events: vec![],
    };
    halberd_store::commit::apply(&site.app.db, &commit, &[], NOW).await.unwrap();
    for verb in ["release", "cancel"] {
        let path = format!("/recoveries/{}/{verb}", recovery.id);
        let answer = site.call(Method::POST, &path, Some(json!({ "reason": "r" })), "admin").await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{verb}");
        assert!(answer.text.contains("alive: it answered"));
    }
    let shown = site.get(&format!("/recoveries/{}", recovery.id)).await.json();
    assert_eq!((&shown["verdict"]["verdict"], &shown["waiting"]), (&json!("alive"), &Value::Null));
}

#[tokio::test]
async fn lists_filter_and_page() {
    let site = Site::new().await;
    for name in ["cmp-1", "cmp-2", "cmp-3"] {
        let host = site.host(name).await;
        site.open(&host).await;
    }
    let first = site.get("/recoveries?limit=2&open=true&kind=host&state=confirming").await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let second = site.get(&format!("/recoveries?limit=2&marker={next}")).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert!(second.get("next").is_none());
    let mut names: Vec<&str> = [&first, &second]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|item| item["subject"]["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["cmp-1", "cmp-2", "cmp-3"]);
    let count = async |query: &str| {
        site.get(&format!("/recoveries?{query}")).await.json()["items"].as_array().unwrap().len()
    };
    assert_eq!(count("host=cmp-2").await, 1);
    assert_eq!(count("host=nobody").await, 0);
    assert_eq!(count("open=false").await, 0);
    assert_eq!(count("kind=process").await, 0);
    for bad in ["state=stuck", "kind=x", "limit=0", "marker=1", "color=red", "open=true&open=false"] {
        assert_eq!(site.get(&format!("/recoveries?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_its_path() {
    let site = Site::new().await;
    for (method, path, status) in [
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::DELETE, "/recoveries", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/recoveries/not-a-uuid", StatusCode::BAD_REQUEST),
        (Method::GET, "/wishes/00000000-0000-0000-0000-000000000001", StatusCode::NOT_FOUND),
        (Method::POST, "/agents/self/reports", StatusCode::UNAUTHORIZED),
    ] {
        let answer = site.call(method.clone(), path, None, "admin").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
        let problem = answer.json();
        assert_eq!(
            (&problem["status"], &problem["instance"]),
            (&json!(status.as_u16()), &json!(format!("/halberd/v1{path}")))
        );
        assert!(problem["type"].as_str().unwrap().starts_with("urn:halberd:problem:"));
    }
    let mut large = request(
        Method::PUT,
        &format!("/segments/{}/policy", site.segment),
        Some(json!({ "x": "y".repeat(70_000) })),
    );
    large.extensions_mut().insert(crate::halberd::testing::caller("admin"));
    assert_eq!(site.send(large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn policy_and_attributes_are_kept() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let path = format!("/segments/{}/policy", site.segment);
    let policy = json!({ "profile": "fast", "evacuations_in_flight": 4 });
    assert_eq!(site.call(Method::PUT, &path, Some(policy.clone()), "admin").await.json(), policy);
    assert_eq!(site.get(&path).await.json(), policy);
    let wrong = site.call(Method::PUT, &path, Some(json!({ "profil": "fast" })), "admin").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let attributes = json!({ "rack": "r1", "serial": "SN-1", "machine": Uuid::from_u128(7) });
    let path = format!("/hosts/{}/attributes", host.id);
    assert_eq!(site.call(Method::PUT, &path, Some(attributes), "admin").await.status, StatusCode::OK);
    let stored = hosts::get(&site.app.db, host.id).await.unwrap();
    assert_eq!(
        (stored.domain.rack.as_deref(), stored.serial.as_deref(), stored.machine),
        (Some("r1"), Some("SN-1"), Some(Uuid::from_u128(7)))
    );
}

fn of<'r>(readiness: &'r Value, check: &str) -> Vec<&'r Value> {
    readiness["checks"].as_array().unwrap().iter().filter(|entry| entry["check"] == check).collect()
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let site = Site::new().await;
    site.host("cmp-1").await;
    let bare = site.get("/readiness").await.json();
    assert_eq!(bare["level"], "red");
    assert_eq!(of(&bare, "openstack_configured")[0]["level"], "red");
    assert_eq!(of(&bare, "engine_active")[0]["level"], "red");
    for check in ["fence_device_present", "start_gate_present", "serial_on_file"] {
        assert_eq!(of(&bare, check)[0]["level"], "yellow", "{check}");
        assert_eq!(of(&bare, check)[0]["subject"]["name"], "cmp-1");
    }
    assert_eq!(bare["checks"][0]["level"], "red", "worst first");
    let engine = EngineId(Uuid::from_u128(0xe));
    write(&site.app.db, async |tx| {
        engines::register(tx, "e-1", engine, None, true, &json!({ "version": "0.1.0" }), NOW).await?;
        let disarm =
            settings::Disarm { actor: "ann".into(), reason: "upgrade".into(), since: NOW, until: None };
        settings::set_disarm(tx, Some(&disarm), NOW).await
    })
    .await
    .unwrap();
    let now = site.get("/readiness").await.json();
    assert_eq!(of(&now, "engine_active")[0]["level"], "green");
    assert!(of(&now, "armed")[0]["reason"].as_str().unwrap().contains("upgrade"));
}

#[tokio::test]
async fn agents_engines_and_services_are_shown_as_stored() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let engine = EngineId(Uuid::from_u128(0xe));
    site.open(&host).await;
    write(&site.app.db, async |tx| {
        engines::register(tx, "e-1", engine, None, true, &json!({ "version": "0.1.0", "state": "quiet_start" }), NOW).await?;
        let sight = SightingRow { host: host.id, engine, boot: host.boot, state: "alive".into(), since: NOW };
        sightings::record(tx, &sight).await?;
        let target = json!({ "address": "https://vip", "state": "down", "since": "2026-11-21T10:00:00Z", "last_probe": null, "latency_ms": 3, "reason": "500" });
        let probe = json!({ "targets": [target] });
        let seen = services::Seen { name: "keystone", kind: "keystone", state: "down", down: true, reason: "no token", probe: &probe };
        services::record(tx, halberd_core::id::ServiceId(Uuid::new_v4()), &seen, NOW).await?;
        events::publish(tx, &[event(EventKind::ServiceDown, None, "keystone")], 0, &[], NOW).await
    })
    .await
    .unwrap();
    let agent = site.get("/agents").await.json()["items"][0].clone();
    assert_eq!((&agent["state"], &agent["sights"][0]["engine"]), (&json!("alive"), &json!("e-1")));
    assert_eq!(
        site.get("/engines").await.json()["items"][0]["state"],
        json!("unknown"),
        "not seen to move yet"
    );
    let said = json!({ "version": "0.1.0", "state": "quiet_start", "lag_ms": 12, "beats_per_second": 2.5 });
    write(&site.app.db, async |tx| engines::renew_saying(tx, engine, &said, NOW).await).await.unwrap();
    let shown = site.get("/engines").await.json()["items"][0].clone();
    assert_eq!(
        (&shown["lag_ms"], &shown["beats_per_second"], &shown["outbox_age_ms"]),
        (&json!(12), &json!(2.5), &json!(null))
    );
    assert_eq!(
        (&shown["state"], &shown["recoveries"], &shown["version"]),
        (&json!("quiet_start"), &json!(1), &json!("0.1.0"))
    );
    let service = site.get("/services").await.json()["items"][0].clone();
    assert_eq!(
        (&service["state"], &service["targets"][0]["address"]),
        (&json!("down"), &json!("https://vip"))
    );
    let listed = site.get("/recoveries").await.json()["items"][0].clone();
    assert_eq!(listed["owner"], "e-1");
}

#[tokio::test]
async fn the_audit_is_listed_and_verified() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let recovery = site.open(&host).await;
    let verified = site.get("/audit/verify").await.json();
    assert_eq!((&verified["intact"], &verified["records"]), (&json!(true), &json!(1)));
    let records = site.get(&format!("/audit?chain={}", recovery.id)).await.json();
    assert_eq!(records["items"][0]["what"], "recovery_opened");
    let heads = site.get("/audit/chains").await.json();
    assert_eq!(heads["items"][0]["hash"], records["items"][0]["hash"]);
    assert_eq!(site.get("/audit?chain=nothing").await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.get("/audit").await.status, StatusCode::BAD_REQUEST);
}

/// A report that joined a recovery is shown with it.
#[tokio::test]
async fn joined_reports_are_named() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let recovery = site.open(&host).await;
    let first = notifications::get(&site.app.db, recovery.notification).await.unwrap().value;
    let joined =
        Notification { id: NotificationId(Uuid::new_v4()), kind: NotificationType::Process, ..first.clone() };
    let alone = Notification { id: NotificationId(Uuid::new_v4()), kind: NotificationType::Vm, ..first };
    write(&site.app.db, async |tx| {
        for report in [&joined, &alone] {
            let report = Notification { status: NotificationStatus::New, ..report.clone() };
            notifications::receive(tx, &report, Duration::from_secs(180), NOW).await?;
        }
        notifications::join(tx, joined.id, recovery.id, NOW).await
    })
    .await
    .unwrap();
    let shown = site.get(&format!("/recoveries/{}", recovery.id)).await.json();
    assert_eq!(shown["notifications"], json!([recovery.notification, joined.id]));
}

/// Mounted as it is served: the door's request id stands in the problem, and no token is asked of an agent.
#[tokio::test]
async fn behind_the_whole_router() {
    let site = Site::new().await;
    let router = crate::router(site.app.clone());
    let answer = send(router.clone(), request(Method::GET, "/recoveries/x", None)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["request_id"], answer.headers["x-openstack-request-id"].to_str().unwrap());
    assert_eq!(answer.json()["instance"], "/halberd/v1/recoveries/x");
    let unsigned = send(router.clone(), request(Method::GET, "/agents/self/orders", None)).await;
    assert_eq!(unsigned.json()["type"], "urn:halberd:problem:signature");
    let missing = send(router.clone(), request(Method::GET, "/nothing", None)).await;
    assert_eq!((missing.status, &missing.json()["status"]), (StatusCode::NOT_FOUND, &json!(404)));
    let described = send(router, request(Method::GET, "/openapi.json", None)).await;
    assert_eq!(&described.json(), crate::halberd::openapi_document());
}

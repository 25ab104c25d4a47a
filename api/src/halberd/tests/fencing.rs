//! Turning off and on, trying out, and what was ever done: what is recorded for the engine, what is refused, what is shown.

use axum::http::{Method, StatusCode};
use halberd_core::evidence::Power;
use halberd_core::fence::{DeviceAttempt, OrderAnswer, Reading};
use halberd_core::id::{EngineId, WishId};
use halberd_core::runner::{Intent, Resolution};
use halberd_core::time::Stamp;
use halberd_store::fence_devices::{self, CheckRow};
use halberd_store::{audit, engines, fence_drills, intents, wishes, write};
use halberd_types::halberd::Page;
use halberd_types::halberd::fence_act::{FenceAct, FenceActKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::halberd::testing::{Answer, NOW, Site};

fn devices(password: &str) -> Value {
    let device =
        json!({ "type": "redfish", "address": "https://bmc-1", "username": "u", "password": password });
    json!({ "levels": [{ "devices": [device] }] })
}

async fn put(site: &Site, host: impl std::fmt::Display, body: Value) -> Answer {
    site.call(Method::PUT, &format!("/hosts/{host}/fence-devices"), Some(body), "admin").await
}

async fn post(site: &Site, path: String, body: Value) -> Answer {
    site.call(Method::POST, &path, Some(body), "admin").await
}

#[tokio::test]
async fn what_was_set_is_checked_in_the_same_breath() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let set = put(&site, host.id, devices("p")).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    let check: WishId = set.json()["check"].as_str().expect("a wish").parse().unwrap();
    let wish = wishes::get(&site.app.db, check).await.unwrap().wish;
    assert_eq!(
        (wish.kind.as_str(), wish.subject, wish.actor.as_str(), wish.reason.as_str()),
        ("check_devices", host.id.to_string(), "ann", "set by ann")
    );
    assert_eq!(wish.body["subject"]["name"], "cmp-1");
    let shown = site.get(&format!("/wishes/{check}")).await.json();
    assert_eq!((&shown["state"], &shown["kind"]), (&json!("open"), &json!("check_devices")));
    let chain = audit::of_chain(&site.app.db, &site.app.audit_chain).await.unwrap();
    let told: Vec<&str> = chain.iter().map(|(link, ..)| link.entry.what.as_str()).collect();
    assert_eq!(told, ["fence_devices_set", "wish_recorded"]);
    // Only after a PUT, and only where there is something to check.
    assert!(site.get(&format!("/hosts/{}/fence-devices", host.id)).await.json().get("check").is_none());
    let none = put(&site, host.id, json!({ "levels": [] })).await;
    assert!(none.json().get("check").is_none(), "{}", none.text);
    let refused = put(&site, host.id, json!({ "levels": [{ "devices": [{ "type": "ipmi" }] }] })).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(wishes::list(&site.app.db, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn each_request_is_a_wish_of_its_kind() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    put(&site, host.id, devices("p")).await;
    let table = [
        ("fence", json!({ "reason": "r" }), "fence"),
        ("fence", json!({ "reason": "r", "dry_run": false }), "fence"),
        ("fence", json!({ "reason": "r", "dry_run": true }), "check_devices"),
        ("fence-test", json!({ "reason": "r" }), "check_devices"),
        ("fence-test", json!({ "reason": "r", "really_power_off": true }), "drill"),
        ("power-on", json!({ "reason": "r" }), "power_on"),
    ];
    for (path, body, kind) in table {
        let answer = post(&site, format!("/hosts/{}/{path}", host.id), body.clone()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{path} {body}: {}", answer.text);
        let told = answer.json();
        assert_eq!(
            answer.headers["location"],
            format!("/halberd/v1/wishes/{}", told["id"].as_str().unwrap())
        );
        let id: WishId = told["id"].as_str().unwrap().parse().unwrap();
        let wish = wishes::get(&site.app.db, id).await.unwrap().wish;
        assert_eq!((wish.kind.as_str(), &told["kind"]), (kind, &json!(kind)), "{path} {body}");
        assert_eq!((wish.subject, wish.reason.as_str()), (host.id.to_string(), "r"));
        assert_eq!(wish.body["dry_run"], if body["dry_run"] == true { json!(true) } else { Value::Null });
    }
}

#[tokio::test]
async fn what_cannot_stand_records_nothing() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let good = json!({ "reason": "r" });
    for (path, body, status) in [
        // Nothing to ask. An order itself goes to the engine, whose recovery then waits for a person's word.
        ("fence", json!({ "reason": "r", "dry_run": true }), StatusCode::CONFLICT),
        ("fence-test", good.clone(), StatusCode::CONFLICT),
        ("fence-test", json!({ "reason": "r", "really_power_off": true }), StatusCode::CONFLICT),
        ("power-on", good.clone(), StatusCode::CONFLICT),
        ("fence-devices/check", json!({}), StatusCode::CONFLICT),
        ("fence", json!({}), StatusCode::BAD_REQUEST),
        ("fence", json!({ "reason": " " }), StatusCode::BAD_REQUEST),
        ("fence", json!({ "reason": "r", "dry_run": "true" }), StatusCode::BAD_REQUEST),
        ("fence", json!({ "reason": "r", "really_power_off": true }), StatusCode::BAD_REQUEST),
        ("fence-test", json!({ "reason": "r", "really_power_off": 1 }), StatusCode::BAD_REQUEST),
        ("fence-test", json!({ "reason": "r", "dry_run": true }), StatusCode::BAD_REQUEST),
    ] {
        let answer = post(&site, format!("/hosts/{}/{path}", host.id), body.clone()).await;
        assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
        if status == StatusCode::CONFLICT {
            assert!(answer.text.contains("halberd fence devices set cmp-1"), "the way out: {}", answer.text);
        }
    }
    let nobody = Uuid::from_u128(9);
    for path in ["fence", "fence-test", "power-on"] {
        let answer = post(&site, format!("/hosts/{nobody}/{path}"), good.clone()).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(site.get(&format!("/hosts/{nobody}/fence-history")).await.status, StatusCode::NOT_FOUND);
    assert!(wishes::list(&site.app.db, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_device_is_shown_with_all_that_was_found() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    put(&site, host.id, devices("file:/etc/halberd/bmc-1")).await;
    let check = CheckRow {
        host: host.id,
        level: 0,
        position: 0,
        device: "redfish https://bmc-1".into(),
        at: NOW,
        ok: true,
        power: Some("on".into()),
        text: "ready".into(),
        detail: json!({
            "reached": true, "logged_in": true, "identity": { "serial": "SN-1", "uuid": null }, "identity_matches": null,
            "stated": true, "would": "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset ForceOff",
            "restore_policy": "always_on", "firmware": "iDRAC 7.10", "warnings": [],
        }),
    };
    let recovery = site.open(&host).await;
    write(&site.app.db, async |tx| {
        let a_minute_before = CheckRow { at: Stamp(NOW.0 - 60_000_000), ..check.clone() };
        fence_devices::record_check(tx, &a_minute_before).await?;
        fence_devices::record_check(tx, &check).await?;
        fence_drills::begin(tx, host.id, "redfish https://bmc-1", 1, recovery.id).await
    })
    .await
    .unwrap();
    let path = format!("/hosts/{}/fence-devices", host.id);
    let shown = site.get(&path).await.json();
    let device = &shown["levels"][0]["devices"][0];
    assert_eq!(device["password"], "file:/etc/halberd/bmc-1", "a reference is no secret");
    let last = &device["last_check"];
    let expected = json!({
        "restore_policy": "always_on", "firmware": "iDRAC 7.10", "stated": true, "identity": "SN-1",
        "since": "2026-11-21T09:59:00Z", "would": check.detail["would"],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&last[key], value, "{key}");
    }
    assert_eq!(device["last_drill_at"], Value::Null, "begun is not passed");
    let host_of = |readiness: &Value| readiness["hosts"][0].clone();
    let before = host_of(&site.get("/readiness").await.json());
    let causes: Vec<&str> =
        before["causes"].as_array().unwrap().iter().map(|cause| cause["cause"].as_str().unwrap()).collect();
    assert!(causes.contains(&"restore_policy") && causes.contains(&"unnamed"), "{before}");
    assert_eq!(before["last_drill_at"], Value::Null);
}

fn attempt() -> DeviceAttempt {
    let reading = |power, at_ms| Reading { power, at_ms, after_order: at_ms > 10 };
    DeviceAttempt {
        level: 0,
        device: "redfish https://bmc-1".into(),
        token: None,
        identity_matches: Some(true),
        stated: false,
        held: false,
        order: OrderAnswer::Refused("409".into()),
        readings: vec![
            reading(Power::On, 5),
            reading(Power::Off, 1_200),
            reading(Power::Other("PoweringOn".into()), 2_300),
        ],
        error: Some("late".into()),
        took_ms: 2_400,
    }
}

#[tokio::test]
async fn the_history_is_told_page_by_page() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let recovery = site.open(&host).await;
    let path = format!("/hosts/{}/fence-history", host.id);
    assert_eq!(site.get(&path).await.json(), json!({ "items": [] }));
    for n in 0..3_i64 {
        let intent = Intent {
            id: Uuid::from_u128(0x10 + n as u128),
            recovery: Some(recovery.id),
            host: Some(host.id),
            vmove: None,
            effect: if n == 2 { "power_on".into() } else { "power_off".into() },
            open_key: None,
            epoch: 7,
            attempt: n + 1,
            detail: json!({ "why": format!("order {n}") }),
        };
        let at = Stamp(NOW.0 + n * 1_000_000);
        write(&site.app.db, async |tx| intents::record(tx, std::slice::from_ref(&intent), &[], at).await)
            .await
            .unwrap();
        if n == 0 {
            let end = Resolution {
                intent: intent.id,
                result: "not_proved".into(),
                detail: json!({ "attempts": [attempt()] }),
            };
            let at = Stamp(at.0 + 2_500_000);
            write(&site.app.db, async |tx| intents::record(tx, &[], std::slice::from_ref(&end), at).await)
                .await
                .unwrap();
        }
    }
    let first: Page<FenceAct> =
        serde_json::from_value(site.get(&format!("{path}?limit=2")).await.json()).unwrap();
    let kinds: Vec<FenceActKind> = first.items.iter().map(|act| act.kind).collect();
    assert_eq!(kinds, [FenceActKind::On, FenceActKind::Off], "newest first");
    assert_eq!((first.items[1].result.as_deref(), first.items[1].took_ms), (None, None), "no answer yet");
    let next = first.next.expect("there are more");
    let rest: Page<FenceAct> =
        serde_json::from_value(site.get(&format!("{path}?limit=2&before={next}")).await.json()).unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
    let oldest = &rest.items[0];
    assert_eq!((oldest.epoch, oldest.attempt, oldest.recovery), (7, 1, Some(recovery.id.0)));
    assert_eq!((oldest.result.as_deref(), oldest.took_ms), (Some("not_proved"), Some(2_500)));
    let tried = &oldest.attempts[0];
    assert_eq!(
        (tried.order.as_str(), tried.error.as_deref(), tried.took_ms),
        ("refused: 409", Some("late"), 2_400)
    );
    let read: Vec<(&str, bool)> =
        tried.readings.iter().map(|read| (read.power.as_str(), read.after_order)).collect();
    assert_eq!(read, [("on", false), ("off", true), ("PoweringOn", true)]);
    for bad in ["limit=0", "before=yesterday", "colour=red"] {
        assert_eq!(site.get(&format!("{path}?{bad}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

/// What an engine says of its own login counts more than that a section is there.
#[tokio::test]
async fn readiness_puts_the_worst_host_first() {
    let site = Site::new().await;
    let (bad, none, good) = (site.host("cmp-2").await, site.host("cmp-1").await, site.host("cmp-3").await);
    for host in [&bad, &good] {
        put(&site, host.id, devices("p")).await;
    }
    let check = |host, ok: bool| CheckRow {
        host,
        level: 0,
        position: 0,
        device: "redfish https://bmc-1".into(),
        at: site.app.now(),
        ok,
        power: ok.then(|| "on".into()),
        text: if ok { "ready".into() } else { "no answer within 5 s".into() },
        detail: json!({ "reached": ok, "logged_in": ok, "identity_matches": true }),
    };
    write(&site.app.db, async |tx| {
        fence_devices::record_check(tx, &check(bad.id, false)).await?;
        fence_devices::record_check(tx, &check(good.id, true)).await?;
        engines::register(tx, "e-1", EngineId(Uuid::from_u128(0xe)), None, true, &json!({}), NOW).await
    })
    .await
    .unwrap();
    let readiness = site.get("/readiness").await.json();
    let hosts: Vec<(&str, &str)> = readiness["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (host["host"].as_str().unwrap(), host["fencing"].as_str().unwrap()))
        .collect();
    assert_eq!(hosts, [("cmp-2", "not_ready"), ("cmp-1", "no_device"), ("cmp-3", "ready")]);
    assert_eq!(readiness["hosts"][0]["causes"][0]["cause"], "reach");
    assert_eq!(readiness["hosts"][1]["host_id"], json!(none.id));
    let red: Vec<&Value> = readiness["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["check"] == "fence_device_ready")
        .collect();
    assert_eq!((red.len(), &red[0]["level"]), (1, &json!("red")));
    assert!(red[0]["reason"].as_str().unwrap().contains("redfish https://bmc-1: no answer"), "{}", red[0]);
}

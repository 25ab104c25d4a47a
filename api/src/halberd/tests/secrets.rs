//! S17, I34: a secret that was given is shown to nobody, in no answer, error or record, and lies sealed on the disk.

use axum::http::{Method, StatusCode};
use halberd_core::id::HostId;
use halberd_store::fence_devices::{self, CheckRow};
use halberd_store::write;
use halberd_types::beat::KeyFile;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::halberd::testing::{NOW, Site};

const CANARIES: [&str; 3] = ["canary-password", "canary-kg", "canary-option"];

fn devices() -> Value {
    json!({ "levels": [
        { "devices": [
            { "type": "redfish", "address": "http://bmc-1", "username": "u", "password": CANARIES[0], "serial": "SN-1" },
        ] },
        { "devices": [
            { "type": "ipmi", "address": "bmc-1", "username": "u", "password": CANARIES[0], "kg": CANARIES[1] },
            { "type": "agent", "program": "fence_apc_snmp", "options": { "community": CANARIES[2], "port": "4" } },
        ] },
    ] })
}

fn show_no_canary(text: &str, place: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{place} shows {canary}: {text}");
    }
}

#[tokio::test]
async fn devices_are_sealed_masked_and_shown_with_their_checks() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let path = format!("/hosts/{}/fence-devices", host.id);
    let put = site.call(Method::PUT, &path, Some(devices()), "admin").await;
    assert_eq!(put.status, StatusCode::OK, "{}", put.text);
    show_no_canary(&put.text, "PUT");
    assert!(put.json()["warnings"][0].as_str().unwrap().contains("clear text"));

    let check = CheckRow {
        host: host.id,
        level: 0,
        position: 0,
        device: "redfish http://bmc-1".into(),
        at: NOW,
        ok: false,
        power: None,
        text: "the BMC refused the credentials: set the right password".into(),
        detail: json!({ "reached": true, "logged_in": false }),
    };
    write(&site.app.db, async |tx| fence_devices::record_check(tx, &check).await).await.unwrap();

    let got = site.get(&path).await.json();
    let device = &got["levels"][0]["devices"][0];
    assert_eq!(device["password"], "********");
    assert_eq!(device["address"], "http://bmc-1");
    assert_eq!(device["last_check"]["reached"], true);
    assert_eq!(device["last_check"]["ready"], false);
    assert!(device["last_check"]["error"].as_str().unwrap().contains("credentials"));
    assert_eq!(got["levels"][1]["devices"][1]["options"]["community"], "********");
    assert_eq!(got["levels"][1]["devices"][1]["options"]["port"], "4");
    assert!(got["levels"][1]["devices"][1]["last_check"].is_null());

    // What was shown cannot be set by mistake.
    let mut shown = got.clone();
    shown.as_object_mut().unwrap().remove("warnings");
    for level in shown["levels"].as_array_mut().unwrap() {
        for device in level["devices"].as_array_mut().unwrap() {
            device.as_object_mut().unwrap().remove("last_check");
        }
    }
    let again = site.call(Method::PUT, &path, Some(shown), "admin").await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "{}", again.text);

    for path in [
        path.clone(),
        "/readiness".to_owned(),
        "/agents".to_owned(),
        format!("/audit?chain={}", site.app.audit_chain),
        "/events?format=json&since=0".to_owned(),
        "/openapi.json".to_owned(),
    ] {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        show_no_canary(&answer.text, &path);
    }
    show_no_canary(&String::from_utf8_lossy(&site.disk()), "the database");
    // Sealed, not lost: the engine opens what was set.
    let opened = fence_devices::open(&site.app.db, &site.app.sealer, host.id).await.unwrap().unwrap();
    let levels: Value = serde_json::from_str(opened.levels.expose_secret()).unwrap();
    assert_eq!(levels, devices());
}

#[tokio::test]
async fn a_refusal_names_the_place_and_not_the_secret() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let path = format!("/hosts/{}/fence-devices", host.id);
    let long = format!("{}-much-too-long-for-ipmi", CANARIES[0]);
    for body in [
        json!({ "levels": [{ "devices": [{ "type": "ipmi", "address": "b", "username": "u", "password": long }] }] }),
        json!({ "levels": [{ "devices": [{ "type": "redfish", "address": format!("https://u:{}@b", CANARIES[0]), "username": "u", "password": "p" }] }] }),
        json!({ "levels": CANARIES[0] }),
        json!({ "devices": { "password": CANARIES[0] } }),
    ] {
        let answer = site.call(Method::PUT, &path, Some(body), "admin").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        show_no_canary(&answer.text, "the refusal");
    }
}

#[tokio::test]
async fn an_agent_s_key_is_given_once() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let path = format!("/hosts/{}/agent-key", host.id);
    let issued = site.call(Method::POST, &path, None, "admin").await;
    assert_eq!(
        (issued.status, &issued.headers["cache-control"]),
        (StatusCode::CREATED, &"no-store".parse().unwrap())
    );
    let text = issued.json()["key_file"].as_str().unwrap().to_owned();
    let file = KeyFile::parse(&text).unwrap();
    assert_eq!((HostId(file.host), file.hostname.as_str()), (host.id, "cmp-1"));
    let secret = text.split_whitespace().last().unwrap();
    let hex: String = file.key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let disk = site.disk();
    let shown = [
        site.get("/agents").await.text,
        site.get(&format!("/audit?chain={}", site.app.audit_chain)).await.text,
        String::from_utf8_lossy(&disk).into_owned(),
    ];
    for text in shown {
        assert!(!text.contains(secret) && !text.contains(&hex));
    }
    assert!(!disk.windows(32).any(|window| window == file.key.expose()));
    let second = site.call(Method::POST, &path, None, "admin").await.json();
    assert_ne!(second["key_file"], text, "a new key each time");
    assert_eq!(site.call(Method::DELETE, &path, None, "admin").await.status, StatusCode::NO_CONTENT);
    assert_eq!(site.call(Method::DELETE, &path, None, "admin").await.status, StatusCode::NOT_FOUND);
}

/// Whatever the store's own mask knows: a secret is sealed, or it is not taken.
#[tokio::test]
async fn no_option_of_an_agent_lies_open_on_the_disk() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let path = format!("/hosts/{}/fence-devices", host.id);
    for option in ["passwd", "community", "hexadecimal_kg", "snmp_priv_passwd", "ssh_key", "api_token"] {
        let device = json!({ "type": "agent", "program": "fence_x", "options": { option: CANARIES[2] } });
        let body = json!({ "levels": [{ "devices": [device] }] });
        let answer = site.call(Method::PUT, &path, Some(body), "admin").await;
        assert!(
            answer.status == StatusCode::OK || answer.text.contains("would not be sealed"),
            "{}",
            answer.text
        );
        show_no_canary(&answer.text, option);
        show_no_canary(&String::from_utf8_lossy(&site.disk()), option);
    }
}

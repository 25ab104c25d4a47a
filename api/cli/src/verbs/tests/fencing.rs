//! `halberd fence`: turning off and on, trying out, and what was ever done.

use halberd_types::halberd::fence_act::{FenceAct, FenceActKind, FenceAttempt, PowerReadingView};

use super::*;

const HOST: &str = "00000000-0000-0000-0000-000000000101";

fn wish(kind: &str, state: &str, answer: Option<&str>) -> Value {
    json!({
        "id": id(0x601), "kind": kind, "subject": { "kind": "host", "id": HOST, "name": "cmp-01" }, "actor": "ann",
        "reason": "r", "state": state, "answer": answer, "made_at": at(0), "answered_at": null,
    })
}

fn device(address: &str, ready: bool) -> Value {
    let check = json!({
        "at": at(3), "ready": ready, "since": at(-60), "reached": true, "logged_in": ready, "identity": ready.then_some("SN1"),
        "identity_matches": ready, "stated": false, "power": ready.then_some("on"), "latency_ms": 12,
        "would": ready.then_some("POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset {\"ResetType\": \"ForceOff\"}"),
        "restore_policy": "last_state", "firmware": "iDRAC 7.10",
        "error": (!ready).then_some("the password was refused"), "warnings": [],
    });
    json!({ "type": "redfish", "address": address, "username": "u", "password": "********", "last_check": check, "last_drill_at": null })
}

fn view(devices: &[&[bool]]) -> Value {
    let level = |(level, ready): (usize, &&[bool])| {
        let devices: Vec<Value> =
            ready.iter().map(|ready| device(&format!("https://bmc-{level}"), *ready)).collect();
        json!({ "devices": devices })
    };
    json!({ "levels": devices.iter().enumerate().map(level).collect::<Vec<_>>(), "warnings": [], "last_drill_at": null })
}

#[tokio::test]
async fn a_dry_run_prints_what_would_be_asked_of_which_device() {
    let line = ["fence", "off", "cmp-01", "--reason", "is it safe", "--dry-run"];
    let start = async |devices: Value| {
        let service = Service::with_hosts().await;
        let checked = wish("check_devices", "done", Some("checked"));
        service.on(&format!("POST /halberd/v1/hosts/{HOST}/fence"), 202, checked);
        service.on(&format!("GET /halberd/v1/hosts/{HOST}/fence-devices"), 200, devices);
        service
    };
    let service = start(view(&[&[true], &[false]])).await;
    let out = service.prints(&line).await;
    fits(&out);
    assert!(
        out.contains("ForceOff") && out.contains("redfish https://bmc-1") && out.contains("was refused"),
        "{out}"
    );
    assert!(out.ends_with("nothing was turned off\n"), "{out}");
    assert_eq!(service.asked("POST")[0].body, json!({ "reason": "is it safe", "dry_run": true }));
    let service = start(view(&[&[true, false]])).await;
    let failure = service.fails(&line).await;
    assert_eq!(failure, Failure::refused("no level of devices could turn cmp-01 off now"));
}

#[tokio::test]
async fn turning_off_says_how_to_follow_it() {
    let service = Service::with_hosts().await;
    let path = format!("POST /halberd/v1/hosts/{HOST}/fence");
    service.on(&path, 202, wish("fence", "done", Some("cmp-01 is being turned off by recovery x")));
    let out = service.prints(&["fence", "off", "cmp-01", "--reason", " smoke in rack 7 "]).await;
    assert!(out.contains("being turned off") && out.contains("`halberd recovery watch cmp-01`"), "{out}");
    assert_eq!(
        service.asked("POST")[0].body,
        json!({ "reason": "smoke in rack 7" }),
        "no flag unless asked for"
    );
}

#[tokio::test]
async fn a_test_looks_and_a_drill_is_followed_to_its_end() {
    let path = format!("POST /halberd/v1/hosts/{HOST}/fence-test");
    for (ready, ends) in [(true, Ok(())), (false, Err(1))] {
        let service = Service::with_hosts().await;
        service.on(&path, 202, wish("check_devices", "done", Some("checked")));
        service.on(&format!("GET /halberd/v1/hosts/{HOST}/fence-devices"), 200, view(&[&[ready]]));
        let (out, end) = service.run(&["fence", "test", "cmp-01"]).await;
        assert_eq!(end.map_err(|failure| failure.code), ends, "{out}");
        assert_eq!(
            service.asked("POST")[0].body,
            json!({ "reason": "tested by hand", "really_power_off": false })
        );
    }
}

fn recovery(n: u128, kind: &str, state: &str, message: &str) -> Value {
    let closed = ["finished", "failed", "cancelled"].contains(&state).then(|| at(4));
    json!({
        "id": id(n), "kind": kind, "subject": { "kind": "host", "id": HOST, "name": "cmp-01" }, "state": state, "message": message,
        "waiting": null, "guests": { "total": 0 }, "epoch": 1, "owner": "e-1", "opened_at": at(0),
        "closed_at": closed,
    })
}

fn explain(recovery: &Value, told: &[&str]) -> Value {
    let entry = |(n, what): (usize, &&str)| json!({ "at": at(n as i64), "what": what, "detail": format!("{what} of cmp-01") });
    json!({ "recovery": recovery, "timeline": told.iter().enumerate().map(entry).collect::<Vec<_>>() })
}

#[tokio::test]
async fn a_drill_ends_as_its_recovery_does() {
    let line = ["fence", "test", "cmp-01", "--really-power-off", "--reason", "yearly"];
    let (off, passed) = ("permit_given", "drill passed: cmp-01 was turned off by redfish https://bmc-0");
    for (state, message, code) in [
        ("finished", passed, Ok(())),
        ("failed", "drill failed on cmp-01: it still reads on", Err(1)),
        ("cancelled", "no drill: 2 guests are on cmp-01", Err(1)),
    ] {
        let service = Service::with_hosts().await;
        let list = "GET /halberd/v1/recoveries";
        // An older recovery, then the drill, then the way back.
        service.on(list, 200, page(vec![recovery(0x501, "host", "finished", "long ago")]));
        service.on(list, 200, page(vec![recovery(0x502, "host", "confirming", "")]));
        service.on(list, 200, page(vec![recovery(0x503, "return", "draining", "")]));
        service.on(
            &format!("POST /halberd/v1/hosts/{HOST}/fence-test"),
            202,
            wish("drill", "done", Some("drilled")),
        );
        let told = format!("GET /halberd/v1/recoveries/{}/explain", id(0x502));
        service.on(&told, 200, explain(&recovery(0x502, "host", "fencing", ""), &[off]));
        service.on(&told, 200, explain(&recovery(0x502, "host", state, message), &[off, "drill_ended"]));
        let (out, end) = service.run(&line).await;
        assert_eq!(end.clone().map_err(|failure| failure.code), code, "{out}");
        assert!(
            out.contains("12:00:00.250") && out.contains("permit_given"),
            "each step with its time: {out}"
        );
        assert_eq!(out.matches("permit_given of").count(), 1, "told once: {out}");
        match end {
            Ok(()) => {
                assert!(out.contains(&format!("{passed} (in 4.0 s)\n")), "{out}");
                assert!(out.contains(&format!("`halberd recovery watch {}`", id(0x503))), "{out}");
            }
            Err(failure) => assert_eq!(failure.text, format!("{message} (in 4.0 s)")),
        }
        assert_eq!(service.asked("POST")[0].body, json!({ "reason": "yearly", "really_power_off": true }));
    }
}

#[tokio::test]
async fn a_drill_that_is_not_granted_follows_nothing() {
    let line = ["fence", "test", "cmp-01", "--really-power-off", "--reason", "yearly"];
    let path = format!("POST /halberd/v1/hosts/{HOST}/fence-test");
    let service = Service::with_hosts().await;
    service.on(
        "GET /halberd/v1/recoveries",
        200,
        page(vec![recovery(0x501, "host", "finished", "long ago")]),
    );
    service.on(&path, 202, wish("drill", "refused", Some("cmp-01 is not on maintenance: set it first")));
    let refused = service.fails(&line).await;
    assert_eq!(refused.text, "the engine refused: cmp-01 is not on maintenance: set it first");
    // Granted, and only the old recovery is there: it is not taken for the drill.
    let service = Service::with_hosts().await;
    service.on(
        "GET /halberd/v1/recoveries",
        200,
        page(vec![recovery(0x501, "host", "finished", "long ago")]),
    );
    service.on(&path, 202, wish("drill", "done", None));
    let unseen = service.fails(&line).await;
    assert!(unseen.text.contains("no recovery of it is to be seen"), "{unseen}");
    // No device: the service says how to get one.
    let service = Service::with_hosts().await;
    let problem =
        json!({ "title": "no", "detail": "Host cmp-01 has no fence device; set one first with `x`." });
    service.on("GET /halberd/v1/recoveries", 200, page(Vec::<Value>::new()));
    service.on(&path, 409, problem);
    assert!(service.fails(&line).await.text.contains("set one first"));
    let unknown = service.fails(&["fence", "on", "cmp-1", "--reason", "r"]).await;
    assert_eq!(unknown.text, "there is no host with the name or id \"cmp-1\"");
}

#[tokio::test]
async fn history_tells_who_why_and_what_each_device_answered() {
    let service = Service::with_hosts().await;
    let path = format!("GET /halberd/v1/hosts/{HOST}/fence-history");
    let reading =
        |power: &str, at_ms| PowerReadingView { power: power.into(), at_ms, after_order: at_ms > 100 };
    let act = FenceAct {
        at: at(0),
        kind: FenceActKind::Off,
        text: "failed: no beat for 6.0 s".into(),
        actor: None,
        recovery: Some(id(0x501)),
        epoch: 2,
        attempt: 1,
        result: Some("done".into()),
        answer: None,
        attempts: vec![FenceAttempt {
            level: 0,
            device: "redfish https://bmc-0".into(),
            order: "accepted".into(),
            readings: vec![reading("on", 50), reading("off", 1_200), reading("off", 2_300)],
            error: None,
            took_ms: 2_310,
        }],
        ended_at: Some(at(3)),
        took_ms: Some(2_400),
    };
    let stated = FenceAct {
        kind: FenceActKind::Stated,
        text: "ann states that it is off: I stood before it".into(),
        actor: Some("ann".into()),
        result: None,
        took_ms: None,
        attempts: vec![],
        ..act.clone()
    };
    service.on(&path, 200, json!({ "items": [act, stated], "next": null }));
    let out = service.prints(&["fence", "history", "cmp-01"]).await;
    fits(&out);
    assert_eq!(out, include_str!("history.txt"), "{out}");
    assert_eq!(service.asked(&path)[0].query, "limit=20");
    service.on(&path, 200, json!({ "items": [] }));
    let service = Service::with_hosts().await;
    service.on(&path, 200, json!({ "items": [] }));
    assert!(service.prints(&["fence", "history", "cmp-01"]).await.starts_with("nothing was ever done"));
}

#[tokio::test]
async fn devices_are_shown_whole_for_one_host() {
    let service = Service::with_hosts().await;
    let path = format!("GET /halberd/v1/hosts/{HOST}/fence-devices");
    service.on(&path, 200, view(&[&[true], &[false]]));
    service.on(
        &format!("GET /halberd/v1/hosts/{}/fence-devices", id(0x102)),
        200,
        json!({ "levels": [], "warnings": [] }),
    );
    let out = service.prints(&["fence", "devices", "cmp-01"]).await;
    fits(&out);
    assert_eq!(
        service.prints(&["host", "fence-devices", "show", "cmp-01"]).await,
        out,
        "one under both names"
    );
    for told in [
        "iDRAC 7.10",
        "last_state",
        "ForceOff",
        "password        ********",
        "2026-11-21 11:59:00",
        "last drill",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
    let all = service.prints(&["fence", "devices"]).await;
    fits(&all);
    assert!(all.contains("cmp-02  -      -") && all.contains("no fence device"), "{all}");
    let json = service.prints_json(&["fence", "devices"]).await;
    assert_eq!((&json[0]["host"], &json[1]["levels"]), (&json!("cmp-01"), &json!([])));
}

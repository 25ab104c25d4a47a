//! What changes something: the body that is sent, and what is made of the answer.

use halberd_types::halberd::host::AgentKeyIssued;
use halberd_types::halberd::wish::{Wish, WishKind, WishState};
use halberd_types::halberd::{Subject, SubjectKind};

use super::*;

const HOST: &str = "00000000-0000-0000-0000-000000000101";

fn wish(kind: WishKind, state: WishState, answer: Option<&str>) -> Wish {
    Wish {
        id: id(0x601),
        kind,
        subject: Subject { kind: SubjectKind::Host, id: HOST.into(), name: "cmp-01".into() },
        actor: "admin".into(),
        reason: "I stood before it".into(),
        state,
        answer: answer.map(str::to_owned),
        made_at: at(0),
        answered_at: answer.map(|_| at(1)),
    }
}

fn devices(ready: bool) -> Value {
    let check = json!({
        "at": at(3), "ready": ready, "reached": true, "logged_in": ready, "identity": ready.then_some("SN1"),
        "identity_matches": ready, "power": ready.then_some("on"), "latency_ms": 12,
        "error": (!ready).then_some("the password was refused"), "warnings": [],
    });
    let device = json!({
        "type": "redfish", "address": "https://10.0.0.9", "username": "u", "password": "********", "last_check": check,
    });
    json!({ "levels": [{ "devices": [device] }], "warnings": ["plain http"] })
}

/// What a PUT answers: nothing was checked yet, and a wish will do it.
fn unchecked() -> Value {
    let mut view = devices(true);
    view["levels"][0]["devices"][0]["last_check"] = Value::Null;
    view["check"] = json!(id(0x601));
    view
}

#[tokio::test]
async fn segments_are_made_changed_and_deleted() {
    let service = Service::with_hosts().await;
    service.on("POST /v1/segments", 201, json!({ "segment": segment(2, "rack-2") }));
    let made =
        service.prints(&["segment", "create", "rack-2", "reserved_host", "--is_enabled", "False"]).await;
    assert!(made.contains("name             rack-2\n"), "{made}");
    let sent = json!({ "segment": {
        "name": "rack-2", "recovery_method": "reserved_host", "service_type": "COMPUTE", "enabled": false,
    } });
    assert_eq!(service.asked("POST")[0].body, sent);

    let path = format!("/v1/segments/{}", id(1));
    service.on(&format!("PUT {path}"), 200, json!({ "segment": segment(1, "rack-1") }));
    service.prints(&["segment", "update", "rack-1", "--description", "old"]).await;
    assert_eq!(
        service.asked("PUT")[0].body,
        json!({ "segment": { "description": "old" } }),
        "only what is given"
    );
    let nothing = service.fails(&["segment", "update", "rack-1"]).await;
    assert_eq!((nothing.code, nothing.text.as_str()), (2, "nothing to change is given"));

    service.on(&format!("DELETE {path}"), 204, Value::Null);
    assert_eq!(service.prints(&["segment", "delete", "rack-1"]).await, "segment rack-1 is deleted\n");
}

#[tokio::test]
async fn hosts_are_made_changed_and_deleted() {
    let service = Service::with_hosts().await;
    let list = format!("/v1/segments/{}/hosts", id(1));
    service.on(&format!("POST {list}"), 201, json!({ "host": host(3, "cmp-03") }));
    service.prints(&["host", "create", "cmp-03", "--segment", "rack-1", "--reserved", "true"]).await;
    let sent = json!({ "host": {
        "name": "cmp-03", "type": "COMPUTE", "control_attributes": "SSH", "reserved": true,
    } });
    assert_eq!(service.asked("POST")[0].body, sent);

    service.on(&format!("PUT {list}/{HOST}"), 200, json!({ "host": host(1, "cmp-01") }));
    service.prints(&["host", "update", "cmp-01", "--on_maintenance", "no"]).await;
    assert_eq!(service.asked("PUT")[0].body, json!({ "host": { "on_maintenance": false } }));

    service.on(&format!("DELETE {list}/{HOST}"), 204, Value::Null);
    assert_eq!(
        service.prints_json(&["host", "delete", HOST]).await,
        json!({ "done": "host cmp-01 is deleted" })
    );
}

#[tokio::test]
async fn attributes_replace_each_other() {
    let service = Service::with_hosts().await;
    let answer = json!({ "rack": "r1", "power": null, "switch": null, "serial": "SN1", "machine": null });
    service.on(&format!("PUT /halberd/v1/hosts/{HOST}/attributes"), 200, &answer);
    let set = service.prints_json(&["host", "attributes", "cmp-01", "--rack", "r1", "--serial", "SN1"]).await;
    assert_eq!(set, answer);
    assert_eq!(service.asked("PUT")[0].body, json!({ "rack": "r1", "serial": "SN1" }));
    assert_eq!(service.fails(&["host", "attributes", "cmp-01"]).await.code, 2);
    let cleared = service.prints(&["host", "attributes", "cmp-01", "--clear"]).await;
    assert_eq!(cleared, "the attributes of host cmp-01 are cleared\n");
    assert_eq!(service.asked("PUT")[1].body, json!({}));
}

#[tokio::test]
async fn an_agent_s_key_is_given_once() {
    use std::os::unix::fs::PermissionsExt;
    let service = Service::with_hosts().await;
    let key = "halberd-agent-key-v1 x cmp-01 AAAA\n";
    let issued = AgentKeyIssued { host_id: id(0x101), host: "cmp-01".into(), key_file: key.into() };
    service.on(&format!("POST /halberd/v1/hosts/{HOST}/agent-key"), 201, issued);
    assert_eq!(service.prints(&["host", "agent-key", "cmp-01"]).await, key);
    assert_eq!(service.prints(&["agent", "key", "cmp-01"]).await, key, "the same by its other name");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.key");
    let path = file.to_str().unwrap();
    let told = service.prints(&["agent", "key", "cmp-01", "--out", path]).await;
    assert!(told.starts_with("the key of host cmp-01 is in ") && !told.contains("AAAA"), "{told}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let before = service.asked("POST").len();
    assert_eq!(service.fails(&["agent", "key", "cmp-01", "--out", path]).await.code, 2, "the file stands");
    assert_eq!(service.asked("POST").len(), before, "so no key was made");

    service.on(&format!("DELETE /halberd/v1/hosts/{HOST}/agent-key"), 204, Value::Null);
    let told = service.prints(&["agent", "key", "cmp-01", "--withdraw"]).await;
    assert_eq!(told, "the agent of host cmp-01 has no key any more\n");
}

#[tokio::test]
async fn a_refused_key_leaves_no_file() {
    let service = Service::with_hosts().await;
    service.on(
        &format!("POST /halberd/v1/hosts/{HOST}/agent-key"),
        403,
        json!({ "title": "no", "detail": "no" }),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.key");
    service.fails(&["agent", "key", "cmp-01", "--out", file.to_str().unwrap()]).await;
    assert!(!file.exists());
}

#[tokio::test]
async fn devices_by_options_and_by_file() {
    let service = Service::with_hosts().await;
    service.on(&format!("PUT /halberd/v1/hosts/{HOST}/fence-devices"), 200, unchecked());
    service.on(&format!("GET /halberd/v1/hosts/{HOST}/fence-devices"), 200, devices(true));
    let place = format!("GET /halberd/v1/wishes/{}", id(0x601));
    service.on(&place, 200, wish(WishKind::CheckDevices, WishState::Open, None));
    service.on(&place, 200, wish(WishKind::CheckDevices, WishState::Done, Some("checked")));
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "s3cret\n").unwrap();
    let line = [
        "host",
        "fence-devices",
        "set",
        "cmp-01",
        "--type",
        "redfish",
        "--address",
        "https://10.0.0.9",
        "--username",
        "u",
        "--password-file",
        password.to_str().unwrap(),
        "--serial",
        "SN1",
        "--insecure",
    ];
    let shown = service.prints(&line).await;
    let expected = "\
HOST    LEVEL  DEVICE                    READY  POWER  IDENTITY  CHECKED              NOTE
cmp-01  0      redfish https://10.0.0.9  true   on     SN1       2026-11-21 12:00:03  -
warning: plain http
";
    assert_eq!(shown, expected);
    assert_eq!(service.asked(&place).len(), 2, "asked until it was checked");
    let device = json!({
        "type": "redfish", "address": "https://10.0.0.9", "username": "u", "password": "s3cret", "serial": "SN1",
        "tls": { "insecure": true },
    });
    let sent = json!({ "levels": [{ "devices": [device] }] });
    assert_eq!(service.asked("PUT")[0].body, sent);

    let file = folder.path().join("devices.json");
    std::fs::write(&file, sent.to_string()).unwrap();
    service.prints(&["fence", "devices", "set", "cmp-01", "--file", file.to_str().unwrap()]).await;
    assert_eq!(service.asked("PUT")[1].body, sent);
    service.prints(&["host", "fence-devices", "set", "cmp-01", "--none"]).await;
    assert_eq!(service.asked("PUT")[2].body, json!({ "levels": [] }));
}

#[tokio::test]
async fn setting_waits_for_the_check_unless_told_not_to() {
    let set = ["fence", "devices", "set", "cmp-01", "--type", "watchdog"];
    let path = format!("/halberd/v1/hosts/{HOST}/fence-devices");
    let place = format!("GET /halberd/v1/wishes/{}", id(0x601));
    let start = async |answer: Wish| {
        let service = Service::with_hosts().await;
        service.on(&format!("PUT {path}"), 200, unchecked());
        service.on(&format!("GET {path}"), 200, devices(false));
        service.on(&place, 200, answer);
        service
    };
    let service = start(wish(WishKind::CheckDevices, WishState::Done, Some("checked"))).await;
    let (out, end) = service.run(&set).await;
    assert!(out.contains("the password was refused"), "{out}");
    assert_eq!(end, Err(Failure::refused("1 of 1 fence devices of host cmp-01 could not fence it now")));

    for skip in [&["--no-wait"][..], &["--wait", "0"]] {
        let out = service.prints(&[&set[..], skip].concat()).await;
        assert!(out.contains("not checked since it was set"), "{out}");
    }
    assert_eq!(service.asked(&place).len(), 1, "only the first one waited");

    let service = start(wish(WishKind::CheckDevices, WishState::Open, None)).await;
    let late = service.fails(&[&set[..], &["--wait", "1"]].concat()).await;
    assert!(late.text.starts_with("the devices of cmp-01 are set, their check is open: "), "{late}");
    assert!(late.remedy.unwrap().contains("halberd engines list"));
}

#[tokio::test]
async fn a_password_may_lie_elsewhere_and_is_never_an_argument() {
    let service = Service::with_hosts().await;
    service.on(&format!("PUT /halberd/v1/hosts/{HOST}/fence-devices"), 200, unchecked());
    let from = |given| {
        [
            "fence",
            "devices",
            "set",
            "cmp-01",
            "--no-wait",
            "--type",
            "ipmi",
            "--address",
            "b",
            "--username",
            "u",
            "--password-from",
            given,
        ]
    };
    service.prints(&from("vault:secret/bmc/cmp-01#password")).await;
    let sent = service.asked("PUT")[0].body.clone();
    assert_eq!(sent["levels"][0]["devices"][0]["password"], "vault:secret/bmc/cmp-01#password");
    let wrong = service.fails(&from("hunter2")).await;
    assert!(wrong.code == 2 && !wrong.to_string().contains("hunter2"), "{wrong}");
    let wrong = service.fails(&from("file:relative")).await;
    assert!(wrong.code == 2 && wrong.text.contains("absolute path"), "{wrong}");
    assert_eq!(service.asked("PUT").len(), 1);
}

#[tokio::test]
async fn wrong_devices_are_named_before_anything_is_sent() {
    let service = Service::with_hosts().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("devices.json");
    let path = file.to_str().unwrap();
    let set = ["host", "fence-devices", "set", "cmp-01", "--file", path];
    std::fs::write(&file, r#"{"levels": [{"devices": [{"type": "redfish", "adress": "x"}]}]}"#).unwrap();
    let wrong = service.fails(&set).await;
    assert!(wrong.code == 2 && wrong.text.contains("levels[0].devices[0]"), "{wrong}");
    std::fs::write(&file, r#"{"password": "s3cret""#).unwrap();
    let wrong = service.fails(&set).await;
    assert!(wrong.text.contains("is not JSON (line 1") && !wrong.text.contains("s3cret"), "{wrong}");
    std::fs::remove_file(&file).unwrap();
    let wrong = service.fails(&set).await;
    assert!(wrong.code == 2 && wrong.text.contains("devices.json cannot be read"), "{wrong}");
    assert_eq!(service.asked("PUT"), []);
}

#[tokio::test]
async fn a_check_waits_for_the_engine_and_fails_with_a_broken_device() {
    for (ready, ends) in [(true, Ok(())), (false, Err(1))] {
        let service = Service::with_hosts().await;
        let path = format!("/halberd/v1/hosts/{HOST}/fence-devices");
        service.on(&format!("POST {path}/check"), 202, wish(WishKind::CheckDevices, WishState::Open, None));
        let place = format!("GET /halberd/v1/wishes/{}", id(0x601));
        service.on(&place, 200, wish(WishKind::CheckDevices, WishState::Open, None));
        service.on(&place, 200, wish(WishKind::CheckDevices, WishState::Done, Some("checked")));
        service.on(&format!("GET {path}"), 200, devices(ready));
        let (out, end) = service.run(&["host", "fence-devices", "check", "cmp-01"]).await;
        assert_eq!(end.map_err(|failure| failure.code), ends, "{out}");
        assert!(out.contains(if ready { "true   on" } else { "the password was" }), "{out}");
        assert_eq!(service.asked(&place).len(), 2, "asked until it was done");
        fits(&out);
    }
}

#[tokio::test]
async fn a_person_s_statement_is_granted_refused_or_waits() {
    let line = ["fence", "confirm", "cmp-01", "--serial", "SN1", "--reason", "I stood before it"];
    let path = format!("POST /halberd/v1/hosts/{HOST}/confirm-fenced");
    let kind = WishKind::ConfirmFenced;

    let service = Service::with_hosts().await;
    service.on(&path, 202, wish(kind, WishState::Done, Some("taken as proof")));
    let granted = service.prints(&line).await;
    assert!(
        granted.contains("state        done\n") && granted.contains("answer       taken as proof\n"),
        "{granted}"
    );
    assert_eq!(service.asked("POST")[0].body, json!({ "serial": "SN1", "reason": "I stood before it" }));

    let service = Service::with_hosts().await;
    service.on(&path, 202, wish(kind, WishState::Refused, Some("the serial on file is SN2")));
    let refused = service.fails(&line).await;
    assert_eq!(refused, Failure::refused("the engine refused: the serial on file is SN2"));

    let service = Service::with_hosts().await;
    service.on(&path, 202, wish(kind, WishState::Open, None));
    let recorded: Vec<&str> = line.iter().copied().chain(["--wait", "0"]).collect();
    let open = service.prints_json(&recorded).await;
    assert_eq!(open, json!(wish(kind, WishState::Open, None)));
}

#[tokio::test]
async fn what_else_is_asked_of_the_engine() {
    let table = [
        (["fence", "off", "cmp-01"], format!("POST /halberd/v1/hosts/{HOST}/fence")),
        (["fence", "on", "cmp-01"], format!("POST /halberd/v1/hosts/{HOST}/power-on")),
        (["fence", "readmit", "cmp-01"], format!("POST /halberd/v1/hosts/{HOST}/readmit")),
        (["recovery", "release", HOST], format!("POST /halberd/v1/recoveries/{HOST}/release")),
        (["recovery", "retry", HOST], format!("POST /halberd/v1/recoveries/{HOST}/retry")),
        (["recovery", "cancel", HOST], format!("POST /halberd/v1/recoveries/{HOST}/cancel")),
    ];
    for (line, path) in table {
        let service = Service::with_hosts().await;
        service.on(&format!("GET /halberd/v1/recoveries/{HOST}"), 200, json!({ "id": HOST }));
        service.on(&path, 202, wish(WishKind::Retry, WishState::Done, Some("done")));
        let line: Vec<&str> = line.into_iter().chain(["--reason", "maintenance is over"]).collect();
        service.prints(&line).await;
        assert_eq!(service.asked(&path)[0].body, json!({ "reason": "maintenance is over" }), "{line:?}");
    }
}

#[tokio::test]
async fn a_report_is_sent_as_the_monitors_send_it() {
    let service = Service::with_hosts().await;
    let made = json!({ "notification": {
        "id": 1, "notification_uuid": id(0x201), "type": "COMPUTE_HOST", "source_host_uuid": HOST, "status": "new",
        "generated_time": "2026-11-21T12:00:00.000000", "payload": { "event": "STOPPED" }, "message": null,
    } });
    service.on("POST /v1/notifications", 202, made);
    let payload = r#"{"event": "STOPPED", "host_status": "NORMAL"}"#;
    let line = ["notification", "create", "COMPUTE_HOST", "cmp-01", "--payload", payload];
    let out = service.prints(&line).await;
    assert!(out.contains("status                     new\n"), "{out}");
    let sent = service.asked("POST")[0].body.clone();
    halberd_types::v1::notification::Create::parse(&sent).unwrap().checked_payload().unwrap();
    let timed: Vec<&str> = line.iter().copied().chain(["--generated-time", "2026-11-21"]).collect();
    service.prints(&timed).await;
    assert_eq!(service.asked("POST")[1].body["notification"]["generated_time"], "2026-11-21");
    let wrong = service.fails(&["notification", "create", "VM", "cmp-01", "--payload", "{"]).await;
    assert!(wrong.code == 2 && wrong.text.starts_with("--payload is not JSON"), "{wrong}");
}

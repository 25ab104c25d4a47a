use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;

fn one(device: Value) -> Value {
    json!({ "levels": [{ "devices": [device] }] })
}

fn redfish() -> Value {
    json!({ "type": "redfish", "address": "https://bmc", "username": "u", "password": "hunter2" })
}

fn with(mut device: Value, key: &str, value: Value) -> Value {
    device[key] = value;
    device
}

#[test]
fn good_descriptions() {
    let ipmi = json!({ "type": "ipmi", "address": "10.0.0.9", "username": "u", "password": "p" });
    let agent = json!({ "type": "agent", "program": "fence_apc" });
    for device in [
        redfish(),
        with(redfish(), "address", json!("http://[2001:db8::1]:8000/redfish/v1/")),
        with(redfish(), "system", json!("437XR1138R2")),
        with(redfish(), "tls", json!({ "ca_file": "/etc/ssl/bmc.pem" })),
        with(redfish(), "tls", json!({ "fingerprint": "ab:".repeat(31) + "cd" })),
        with(redfish(), "account_exclusive", json!(true)),
        with(redfish(), "serial", Value::Null),
        ipmi.clone(),
        with(ipmi.clone(), "address", json!("[::1]:6230")),
        with(ipmi.clone(), "address", json!("2001:db8::1")),
        with(with(ipmi.clone(), "cipher", json!(17)), "kg", json!("0x00ff")),
        with(ipmi, "privlvl", json!("administrator")),
        agent.clone(),
        with(agent, "options", json!({ "plug": "3", "passwd": "s" })),
        json!({ "type": "watchdog" }),
    ] {
        FenceDevices::parse(&one(device.clone())).unwrap_or_else(|e| panic!("{device}: {e}"));
    }
    assert!(FenceDevices::parse(&json!({ "levels": [] })).expect("no device is a choice").is_empty());
}

#[test]
fn bad_descriptions_name_the_place_and_never_a_secret() {
    let ipmi = json!({ "type": "ipmi", "address": "10.0.0.9", "username": "u", "password": "hunter2" });
    let agent = json!({ "type": "agent", "program": "fence_apc" });
    let table = [
        (json!({}), "type"),
        (json!("hunter2"), "levels[0].devices[0]"),
        (json!({ "type": "Redfish" }), "type"),
        (json!({ "type": "redfish", "address": "https://b", "username": "u" }), "password"),
        (with(redfish(), "pasword", json!("hunter2")), "pasword"),
        (with(redfish(), "password", json!(["hunter2"])), "password"),
        (with(redfish(), "password", json!("")), "password"),
        (with(redfish(), "password", json!(MASK)), "mask"),
        (with(redfish(), "password", json!("hunter2\nx")), "password"),
        (with(redfish(), "address", json!("bmc")), "address"),
        (with(redfish(), "address", json!("https://")), "address"),
        (with(redfish(), "address", json!("https://u:hunter2@bmc")), "address"),
        (with(redfish(), "address", json!("https://bmc/redfish/v1/Systems/1")), "address"),
        (with(redfish(), "address", json!("https://bmc:0")), "address"),
        (with(redfish(), "cipher", json!(17)), "cipher"),
        (with(redfish(), "port", json!("443")), "port"),
        (with(redfish(), "tls", json!({})), "tls"),
        (with(redfish(), "tls", json!({ "insecure": false })), "tls"),
        (with(redfish(), "tls", json!({ "insecure": true, "ca_file": "f" })), "tls"),
        (with(redfish(), "tls", json!({ "fingerprint": "abcd" })), "tls"),
        (with(ipmi.clone(), "cipher", json!(0)), "cipher"),
        (with(ipmi.clone(), "privlvl", json!("user")), "privlvl"),
        (with(ipmi.clone(), "kg", json!("0xhunter2")), "kg"),
        (with(ipmi.clone(), "password", json!("hunter2".repeat(3))), "password"),
        (with(ipmi.clone(), "username", json!("a name too long for it")), "username"),
        (with(ipmi, "tls", json!({ "insecure": true })), "tls"),
        (with(agent.clone(), "program", json!("rm")), "program"),
        (with(agent.clone(), "program", json!("fence_x; rm")), "program"),
        (with(agent.clone(), "options", json!({ "action": "reboot" })), "action"),
        (with(agent.clone(), "options", json!({ "passwd": "hunter2\naction=on" })), "options"),
        (with(agent, "options", json!({ "plug": 3 })), "plug"),
        (json!({ "type": "watchdog", "address": "x" }), "address"),
    ];
    for (device, named) in table {
        let error = FenceDevices::parse(&one(device.clone())).expect_err(&device.to_string()).to_string();
        assert!(error.contains(named), "{device}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for body in [
        json!(null),
        json!({}),
        json!({ "levels": {} }),
        json!({ "levels": [{}] }),
        json!({ "levels": [{ "devices": [] }] }),
    ] {
        assert!(FenceDevices::parse(&body).is_err(), "{body}");
    }
    let ten: Vec<Value> = (0..10).map(|_| json!({ "devices": [{ "type": "watchdog" }] })).collect();
    assert!(FenceDevices::parse(&json!({ "levels": ten })).is_err());
}

#[test]
fn secrets_go_into_the_seal_and_nowhere_else() {
    let agent = json!({ "type": "agent", "program": "fence_apc", "password": "hunter2", "options": { "passwd": "hunter2", "plug": "3" } });
    let body = json!({ "levels": [{ "devices": [redfish()] }, { "devices": [agent] }] });
    let devices = FenceDevices::parse(&body).expect("good");
    let view = FenceDevicesView::of(&devices, |level, place| {
        (level == 1 && place == 0).then(|| DeviceCheckView {
            at: DateTime::<Utc>::MIN_UTC,
            ready: false,
            reached: true,
            logged_in: false,
            identity: None,
            identity_matches: None,
            power: None,
            latency_ms: None,
            error: Some("wrong password".into()),
            warnings: vec![],
        })
    });
    let shown = serde_json::to_value(&view).expect("json");
    assert_eq!(shown["levels"][0]["devices"][0]["password"], MASK);
    assert_eq!(shown["levels"][0]["devices"][0]["last_check"], Value::Null);
    assert_eq!(shown["levels"][1]["devices"][0]["options"], json!({ "passwd": MASK, "plug": "3" }));
    assert_eq!(shown["levels"][1]["devices"][0]["last_check"]["error"], "wrong password");
    for text in [format!("{devices:?}"), devices.masked().to_string(), shown.to_string()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let sealed = devices.to_sealable();
    assert_eq!(serde_json::from_str::<Value>(sealed.expose_secret()).expect("json"), body);
    assert_eq!(FenceDevices::from_sealable(&sealed).expect("reads back").masked(), devices.masked());
}

#[test]
fn plain_http_and_unverified_tls_are_warned_about() {
    let warnings = |device| FenceDevices::parse(&one(device)).expect("good").warnings().len();
    assert_eq!(warnings(redfish()), 0);
    assert_eq!(warnings(with(redfish(), "address", json!("http://bmc"))), 1);
    assert_eq!(warnings(with(redfish(), "tls", json!({ "insecure": true }))), 1);
}

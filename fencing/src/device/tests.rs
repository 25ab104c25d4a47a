use super::*;

fn one(device: Value) -> Result<FenceDevices, ConfigError> {
    FenceDevices::parse(&json!({"levels": [{"devices": [device]}]}).to_string())
}

fn redfish() -> Value {
    json!({"type": "redfish", "address": "https://bmc", "username": "u", "password": "p4ssw0rd"})
}

fn with(mut base: Value, key: &str, value: impl Into<Value>) -> Value {
    base[key] = value.into();
    base
}

#[test]
fn the_documented_example_is_read_and_given_back_masked() {
    let text = r#"{"levels": [{"devices": [{"type": "redfish", "address": "https://bmc", "username": "u",
        "password": "p", "system": "1", "serial": "S1", "tls": {"ca_file": "/etc/ca.pem"}}]},
        {"devices": [{"type": "ipmi", "address": "[fd00::7]:6230", "username": "u", "password": "p", "cipher": 17,
        "privlvl": "operator", "kg": "0x00ff", "bmc": "bmc"},
        {"type": "agent", "program": "fence_apc", "options": {"plug": "3", "passwd": "x"}}, {"type": "watchdog"}]}]}"#;
    let devices = FenceDevices::parse(text).unwrap();
    let mut expected: Value = serde_json::from_str(text).unwrap();
    for pointer in ["/levels/0/devices/0/password", "/levels/1/devices/0/password", "/levels/1/devices/0/kg"]
    {
        *expected.pointer_mut(pointer).unwrap() = MASK.into();
    }
    expected["levels"][1]["devices"][1]["options"]["passwd"] = MASK.into();
    assert_eq!(devices.masked(), expected);
    assert_eq!(devices.levels[1].devices[0].kg_bytes(), Some(Ok(vec![0, 255])));
}

#[test]
fn no_secret_in_debug_or_errors() {
    let devices = one(with(redfish(), "tls", json!({"insecure": true}))).unwrap();
    assert!(!format!("{devices:?}").contains("p4ssw0rd"));
    // A password where a number belongs must not be quoted back.
    let error = one(with(redfish(), "port", "p4ssw0rd")).unwrap_err().to_string();
    assert!(!error.contains("p4ssw0rd") && error.contains("expected u16"), "{error}");
}

#[test]
fn each_mistake_is_named() {
    let ipmi = json!({"type": "ipmi", "address": "10.0.0.1", "username": "u", "password": "p"});
    let agent = json!({"type": "agent", "program": "fence_apc"});
    let cases = [
        (with(redfish(), "adress", "x"), "unknown field `adress`"),
        (with(redfish(), "type", "telnet"), "unknown variant"),
        (json!({"type": "redfish", "address": "https://bmc", "username": "u"}), "`password` is missing"),
        (with(redfish(), "cipher", 17), "`cipher` does not belong to type redfish"),
        (with(redfish(), "address", "bmc.example"), "`address`"),
        (with(redfish(), "address", "ftp://bmc"), "not an https:// or http:// URL"),
        (with(redfish(), "address", "https://u:p@bmc"), "holds credentials"),
        (with(redfish(), "address", "https://bmc/redfish/v1/Systems/1"), "name the machine in `system`"),
        (with(redfish(), "tls", json!({})), "exactly one"),
        (with(redfish(), "tls", json!({"ca_file": "x", "insecure": true})), "exactly one"),
        (with(redfish(), "tls", json!({"fingerprint": "abc"})), "fingerprint"),
        (with(redfish(), "username", ""), "`username`: is empty"),
        (with(redfish(), "password", "a\nb"), "control character"),
        (with(ipmi.clone(), "cipher", 0), "only suites 3 and 17"),
        (with(ipmi.clone(), "password", "123456789012345678901"), "20 bytes"),
        (with(ipmi.clone(), "username", "12345678901234567"), "16 bytes"),
        (with(ipmi.clone(), "address", "bmc:x"), "port that is no number"),
        (with(with(ipmi.clone(), "address", "bmc:623"), "port", 624), "another port"),
        (with(ipmi.clone(), "kg", "0xzz"), "not hex"),
        (with(ipmi, "privlvl", "user"), "unknown variant"),
        (with(agent.clone(), "program", "sh -c reboot"), "there is no shell"),
        (with(agent.clone(), "options", json!({"action": "on"})), "`action` is ours"),
        (with(agent, "options", json!({"plug": "1\naction=on"})), "key = value"),
        (json!({"type": "watchdog", "address": "x"}), "does not belong to type watchdog"),
    ];
    for (device, says) in cases {
        let error = one(device.clone()).expect_err(&device.to_string()).to_string();
        assert!(error.contains(says), "{device}: {error}");
    }
    assert_eq!(
        FenceDevices::parse(r#"{"levels": [{"devices": []}]}"#).unwrap_err(),
        ConfigError::EmptyLevel(1)
    );
}

#[test]
fn devices_of_one_controller_share_a_key() {
    let key = |device: Value| one(device).unwrap().levels[0].devices[0].bmc_key();
    let ipmi = |address: &str| json!({"type": "ipmi", "address": address, "username": "u", "password": "p"});
    assert_eq!(key(redfish()), "bmc");
    assert_eq!(key(with(redfish(), "address", "https://BMC:8443/")), "bmc");
    assert_eq!(key(ipmi("bmc:623")), "bmc");
    assert_eq!(key(with(redfish(), "address", "https://[fd00::7]/")), key(ipmi("fd00::7")));
    assert_eq!(key(with(ipmi("10.0.0.1"), "bmc", "Bmc")), "bmc");
}

#[test]
fn addresses_of_every_shape() {
    let parse = |a| host_port(a, None, 623);
    assert_eq!(parse("bmc"), Ok(("bmc".into(), 623)));
    assert_eq!(parse("bmc:1623"), Ok(("bmc".into(), 1623)));
    assert_eq!(parse("fd00::7"), Ok(("fd00::7".into(), 623)));
    assert_eq!(parse("[fd00::7]:1623"), Ok(("fd00::7".into(), 1623)));
    assert_eq!(host_port("[fd00::7]", Some(1623), 623), Ok(("fd00::7".into(), 1623)));
    for bad in ["", ":623", "[fd00::7", "[::1]x", "a b", "bmc:0", "http://bmc"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(text in ".*") {
        let _ = FenceDevices::parse(&text);
        let _ = host_port(&text, None, 623);
        let _ = fingerprint(&text);
        let _ = host_of(&text);
    }
}

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
    let error = one(with(redfish(), "type", "p4ssw0rd")).unwrap_err().to_string();
    assert!(!error.contains("p4ssw0rd") && error.contains("expected one of `redfish`"), "{error}");
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
        (
            with(agent.clone(), "program", "sh -c reboot"),
            "no program of the fence-agents family; give its name",
        ),
        (with(agent.clone(), "options", json!({"action": "on"})), "`action` is ours"),
        (with(agent.clone(), "program", "/bin/sh"), "no program of the fence-agents family; give its name"),
        (with(agent.clone(), "options", json!({"a b": "1"})), "may hold letters, digits"),
        (
            with(agent, "options", json!({"plug": "1\naction=on"})),
            r#"the value of "plug" holds a control character"#,
        ),
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

/// Descriptions with metacharacters, NUL, endless texts and lists: an answer in bounded words, never a panic, never a secret.
#[test]
fn fuzz_descriptions() {
    use crate::fuzz::{body, disturbed, fuzz, text};
    use rand::Rng;
    let good = json!({"levels": [
        {"devices": [{"type": "redfish", "address": "https://[fd00::7]:8443", "username": "u", "password": "t0ps3cret",
            "system": "1", "serial": "S1", "tls": {"fingerprint": "ab".repeat(32)}, "account_exclusive": true}]},
        {"devices": [{"type": "ipmi", "address": "10.0.0.1", "port": 623, "username": "u", "password": "t0ps3cret",
            "cipher": 17, "privlvl": "operator", "kg": "t0ps3cret", "bmc": "b"},
            {"type": "agent", "program": "fence_apc", "address": "pdu:23", "options": {"plug": "3", "passwd": "t0ps3cret"}},
            {"type": "watchdog"}]}]});
    FenceDevices::parse(&good.to_string()).unwrap();
    let (limits, mut accepted) = (crate::Limits::default(), 0);
    fuzz("device descriptions", |rng| {
        let mut described = disturbed(rng, &good);
        if rng.random_bool(0.3) {
            let (level, device) = *crate::fuzz::pick(rng, &[(0, 0), (1, 0), (1, 1)]);
            let fields =
                ["address", "username", "password", "system", "serial", "kg", "program", "bmc", "plug"];
            let field = *crate::fuzz::pick(rng, &fields);
            let place = described.pointer_mut(&format!("/levels/{level}/devices/{device}"));
            if let Some(device) = place.and_then(Value::as_object_mut) {
                device.insert(field.to_owned(), text(rng).into());
            }
        }
        let json = if rng.random_bool(0.2) { body(rng, &good) } else { described.to_string().into_bytes() };
        let json = String::from_utf8_lossy(&json);
        match FenceDevices::parse(&json) {
            Ok(devices) => {
                accepted += 1;
                let shown = format!("{} {devices:?}", devices.masked());
                assert!(!devices.levels.is_empty() || !json.contains("t0ps3cret") || shown.len() < 100);
                for device in devices.levels.iter().flat_map(|l| &l.devices) {
                    let own =
                        [device.username.as_deref(), device.address.as_deref(), device.program.as_deref()];
                    assert!(
                        own.into_iter().flatten().all(|t| !t.is_empty() && !t.chars().any(char::is_control))
                    );
                    let _ = (device.name(), device.bmc_key(), device.kg_bytes());
                    // What was accepted can be made into a driver, or says why not.
                    if let Err(error) = crate::chain::connect(device, &crate::Expected::default(), &limits) {
                        assert!(!error.to_string().contains("t0ps3cret"), "{error}");
                    }
                }
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.len() < 1_500, "{} bytes: {error:.300}", error.len());
                assert!(!error.chars().any(char::is_control), "{error:?}");
                assert!(!error.contains("t0ps3cret"), "{error}");
            }
        }
    });
    assert!(accepted > 0 || std::env::var_os("HALBERD_FUZZ_CASE").is_some());
}

/// The table that the API's own rules are held against too: what one of the two accepts and the other refuses would be found out
/// when a host has to be fenced.
#[test]
fn the_table_of_descriptions_is_kept() {
    #[derive(Deserialize)]
    struct Row {
        why: String,
        accepted: bool,
        /// What both sets of rules say to it.
        says: Option<String>,
        description: Value,
    }
    let rows: Vec<Row> = serde_json::from_str(include_str!("../../tests/descriptions.json")).unwrap();
    assert!(rows.len() > 60, "{}", rows.len());
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let parsed = FenceDevices::parse(&row.description.to_string());
            let told = parsed.as_ref().err().map(ToString::to_string).unwrap_or_default();
            // What went wrong is told before the semicolon, what to do behind it.
            let no_way_out = matches!(&parsed, Err(ConfigError::Invalid { .. })) && !told.contains("; ");
            let says = row.says.as_ref().is_none_or(|says| told.contains(says));
            (parsed.is_ok() != row.accepted || no_way_out || !says).then(|| format!("{}: {told}", row.why))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

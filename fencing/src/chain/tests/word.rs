//! The operator's word for a device that cannot name its machine, and the dry run.

use super::*;
use crate::agent::tests::installed;

fn stating(serial: &str, address: std::net::SocketAddr) -> Value {
    let mut device = ipmi(address);
    device["serial"] = serial.into();
    device
}

/// A device without identity, and a host with a serial number and no UUID on file.
async fn nameless(serial: &str, on_file: Option<&str>) -> (Target, peer::Shared) {
    let (address, bmc) = peer::start(&[17]).await;
    bmc.lock().unwrap().guid = [0; 16];
    let mut host = target(&[&[stating(serial, address)]], on_file);
    host.expected.uuid = None;
    (host, bmc)
}

#[tokio::test]
async fn a_stated_mapping_stands_in_for_a_name() {
    for on_file in [Some("S1"), None] {
        let (host, bmc) = nameless("s1 ", on_file).await;
        let report = off(&host, &limits(), &Strict).await;
        let attempt = &report.attempts[0];
        assert_eq!((attempt.stated, attempt.identity_matches), (true, None), "{report:?}");
        assert_eq!((attempt.order.is_accepted(), &bmc.lock().unwrap().controls[..]), (true, &[0][..]));
        let sight = read(&host, &limits()).await.remove(0);
        assert!(sight.stated && sight.state == Ok(PowerState::Off), "{sight:?}");
        let check = check(&host, &limits()).await.remove(0);
        let warned = check.warnings.iter().find(|w| w.contains("operator's word")).unwrap();
        assert!(
            warned.contains("s1") && warned.contains("halberd fence test h1 --really-power-off"),
            "{warned}"
        );
        assert!(check.stated && check.is_ready(), "{check:?}");
    }
}

#[tokio::test]
async fn a_statement_that_contradicts_or_says_nothing_is_none() {
    let (host, bmc) = nameless("S2", Some("S1")).await;
    let report = off(&host, &limits(), &open()).await;
    let attempt = &report.attempts[0];
    assert_eq!((attempt.stated, attempt.identity_matches, attempt.orders), (false, Some(false), 0));
    let error = attempt.error.as_deref().unwrap();
    assert!(error.contains("another machine") && error.contains("S1") && error.contains("S2"), "{error}");
    let check = check(&host, &limits()).await.remove(0);
    assert!(check.error.unwrap().contains("another machine") && check.would.is_none());
    assert!(read(&host, &limits()).await[0].state.is_err());
    // A filler states nothing: the gate decides.
    let (host, filler) = nameless("None", Some("S1")).await;
    let report = off(&host, &limits(), &Strict).await;
    assert!(!report.attempts[0].stated && report.attempts[0].error.as_deref().unwrap().contains("no drill"));
    // Nor does a statement weigh anything against a device that names its machine.
    let (address, named) = peer::start(&[17]).await;
    let host = target(&[&[stating("S1", address)]], Some("S1"));
    let report = off(&host, &limits(), &open()).await;
    assert_eq!((report.attempts[0].stated, report.attempts[0].identity_matches), (false, Some(true)));
    named.lock().unwrap().guid[0] ^= 1;
    let report = off(&host, &limits(), &open()).await;
    assert_eq!((report.attempts[0].orders, report.attempts[0].identity_matches), (0, Some(false)));
    assert!(bmc.lock().unwrap().controls.is_empty() && filler.lock().unwrap().controls.is_empty());
}

/// What is on file and what the description states are both ours: where they contradict each other one of them is wrong, though the
/// device shows neither.
#[tokio::test]
async fn a_statement_against_what_is_on_file_is_refused_whatever_the_device_shows() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().serial = String::new();
    let mut device = redfish(&url);
    device["serial"] = "S2".into();
    let host = target(&[&[device.clone()]], Some("S1"));
    let report = off(&host, &limits(), &open()).await;
    let attempt = &report.attempts[0];
    assert_eq!(
        (&attempt.order, attempt.orders, attempt.identity_matches),
        (&OrderAnswer::NotSent, 0, Some(false))
    );
    let check = check(&host, &limits()).await.remove(0);
    for error in [attempt.error.as_deref(), check.error.as_deref()] {
        let error = error.unwrap();
        let both = error.contains("expected serial S1")
            && error.contains("found serial S2 stated in its description");
        assert!(error.contains("another machine") && both, "{error}");
    }
    assert!(check.would.is_none() && !check.is_ready());
    assert!(read(&host, &limits()).await[0].state.is_err());
    assert!(shared.lock().unwrap().resets.is_empty());
    // Its UUID alone is enough where nothing contradicts.
    for on_file in [Some("s2"), None] {
        let report = off(&target(&[&[device.clone()]], on_file), &limits(), &open()).await;
        assert!(proves(&report.attempts[0], &limits()), "{report:?}");
    }
}

#[tokio::test]
async fn the_dry_run_says_what_would_go_out() {
    let (url, shared) = fake::start().await;
    let (address, bmc) = peer::start(&[17]).await;
    let program = installed("dry-run", "", "exit 0");
    let agent = json!({"type": "agent", "program": program, "address": "pdu:23", "username": "apc",
        "password": "t0ps3cret", "options": {"plug": "3", "snmp_priv_passwd": "t0ps3cret"}, "bmc": "false"});
    let mut administrator = ipmi(address);
    (administrator["cipher"], administrator["privlvl"]) = (17.into(), "administrator".into());
    let host = target(&[&[redfish(&url)], &[ipmi(address)], &[administrator], &[agent]], Some("S1"));
    let checks = check(&host, &limits()).await;
    let would: Vec<_> = checks.iter().map(|c| c.would.as_deref().unwrap_or_default()).collect();
    assert_eq!(
        would,
        [
            format!("POST {url}{} {{\"ResetType\":\"ForceOff\"}}", fake::RESET).as_str(),
            "IPMI Chassis Control 00h (power down), cipher suite 17, operator",
            "IPMI Chassis Control 00h (power down), cipher suite 17, administrator",
            format!("{} on its stdin: action=off ip=pdu ipport=23 username=apc password=******** plug=3 snmp_priv_passwd=********", program.display()).as_str(),
        ]
    );
    assert_eq!(checks[1].restore_policy, Some(RestorePolicy::AlwaysOn));
    // What was seen decides: nothing goes out where no off is offered, or to another machine.
    shared.lock().unwrap().allowable = Some(vec!["On".into()]);
    shared.lock().unwrap().policy = Some("LastState".into());
    let checks = check(&host, &limits()).await;
    assert_eq!((&checks[0].would, checks[0].restore_policy), (&None, Some(RestorePolicy::LastState)));
    shared.lock().unwrap().allowable = None;
    shared.lock().unwrap().serial = "S2".into();
    assert_eq!(check(&host, &limits()).await[0].would, None);
    assert!(shared.lock().unwrap().resets.is_empty() && bmc.lock().unwrap().controls.is_empty());
}

//! Whether a bare-metal service owns the machine behind a device: by its serial number or UUID, or because both reach it through the
//! same controller. Pure.

use std::net::IpAddr;

use halberd_core::host::Host;
use halberd_fencing::power::serial;
use serde_json::Value;
use uuid::Uuid;

use crate::ports::OwnedMachine;

/// Ports that a protocol has unless another is named.
const USUAL: [u16; 3] = [443, 80, 623];
/// What fences through ironic itself: then ironic knows, and leaves the machine off.
const THROUGH_IRONIC: &str = "fence_ironic";

/// The owned machine that this device switches, if there is one. `device` is its description with secrets masked.
pub(super) fn of<'m>(machines: &'m [OwnedMachine], host: &Host, device: &Value) -> Option<&'m OwnedMachine> {
    if device["program"].as_str().is_some_and(|program| program.ends_with(THROUGH_IRONIC)) {
        return None;
    }
    machines.iter().find(|machine| is_named(machine, host) || shares_controller(machine, host, device))
}

/// What is wrong with that, and the way out.
pub(super) fn fault(machine: &OwnedMachine) -> String {
    let node = &machine.name;
    format!(
        "ironic node {node} owns this machine: its power sync (every 120 s unless configured otherwise) switches it on again after a fence; set the node to maintenance (`openstack baremetal node maintenance set {node}`), or fence through ironic with a device of type agent and the program {THROUGH_IRONIC}"
    )
}

fn is_named(machine: &OwnedMachine, host: &Host) -> bool {
    let on_file = host.serial.as_deref().and_then(serial);
    machine.identities.iter().any(|identity| {
        let same_serial = serial(identity).zip(on_file.as_ref());
        let same_uuid = Uuid::parse_str(identity.trim()).ok().zip(host.machine);
        same_serial.is_some_and(|(theirs, ours)| theirs.eq_ignore_ascii_case(ours))
            || same_uuid.is_some_and(|(theirs, ours)| theirs == ours)
    })
}

/// One service may switch many machines (a chassis, an emulator): then it depends on the machine's id there.
fn shares_controller(machine: &OwnedMachine, host: &Host, device: &Value) -> bool {
    let Some(ours) = device["address"].as_str() else { return false };
    let ours = place(ours, device["port"].as_u64());
    let same = machine.addresses.iter().any(|theirs| place(theirs, None) == ours);
    let Some(theirs) = machine.system.as_deref().filter(|_| same) else { return same };
    if let Some(system) = device["system"].as_str() {
        return system.trim_end_matches('/').rsplit('/').next() == Some(theirs);
    }
    match (Uuid::parse_str(theirs).ok(), host.machine) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => true,
    }
}

/// Host and, where it is not the usual one, port of a controller's address: the same controller speaks several protocols.
fn place(address: &str, port: Option<u64>) -> (String, Option<u16>) {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    let bare = bare.split(['/', '?', '#']).next().unwrap_or(bare);
    let bare = bare.rsplit_once('@').map_or(bare, |(_, rest)| rest);
    let (name, own_port) = match bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':')),
        None if bare.matches(':').count() == 1 => {
            bare.split_once(':').map_or((bare, None), |(name, port)| (name, Some(port)))
        }
        None => (bare, None),
    };
    let port = own_port.and_then(|port| port.parse().ok()).or_else(|| u16::try_from(port?).ok());
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let name = name.parse::<IpAddr>().map_or(name, |ip| ip.to_canonical().to_string());
    (name, port.filter(|port| !USUAL.contains(port)))
}

#[cfg(test)]
mod tests {
    use halberd_core::id::{HostId, SegmentId};
    use serde_json::json;

    use super::*;

    fn host(serial: Option<&str>, machine: Option<u128>) -> Host {
        Host {
            kind: "COMPUTE".into(),
            serial: serial.map(str::to_owned),
            machine: machine.map(Uuid::from_u128),
            ..Host::new(HostId(Uuid::from_u128(1)), SegmentId(Uuid::from_u128(2)), "cmp-01")
        }
    }

    fn at(address: &str) -> OwnedMachine {
        OwnedMachine { name: "n".into(), addresses: vec![address.into()], ..OwnedMachine::default() }
    }

    fn owns(machine: &OwnedMachine, host: &Host, device: &Value) -> bool {
        of(std::slice::from_ref(machine), host, device).is_some()
    }

    #[test]
    fn the_same_controller_is_known_however_it_is_written() {
        let nobody = host(None, None);
        let cases = [
            ("10.0.0.7", "https://10.0.0.7", true),
            ("https://10.0.0.7:443/redfish/v1", "10.0.0.7:623", true),
            ("https://BMC-7.example.", "bmc-7.example", true),
            ("[fd00:0::7]:623", "https://[fd00::7]/", true),
            ("fd00::7", "https://[fd00::7]", true),
            ("::ffff:10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "https://10.0.0.71", false),
            // Forwarded ports of one address are different controllers.
            ("127.0.0.1:6230", "127.0.0.1:6231", false),
            ("http://127.0.0.1:8001", "127.0.0.1:8001", true),
            ("10.0.0.7:6230", "https://10.0.0.7", false),
        ];
        for (theirs, ours, same) in cases {
            assert_eq!(owns(&at(theirs), &nobody, &json!({"address": ours})), same, "{theirs} and {ours}");
        }
        assert!(owns(&at("10.0.0.7:6230"), &nobody, &json!({"address": "10.0.0.7", "port": 6230})));
        assert!(!owns(&at(""), &nobody, &json!({"program": "fence_apc"})), "no address is no match");
    }

    #[test]
    fn of_several_machines_behind_one_service_only_the_named_one_is_meant() {
        let emulator = "http://bmc:8000";
        let node = |system: &str| OwnedMachine { system: Some(system.into()), ..at(emulator) };
        let device = json!({"address": emulator, "system": "/redfish/v1/Systems/blade-2/"});
        assert!(owns(&node("blade-2"), &host(None, None), &device));
        assert!(!owns(&node("blade-1"), &host(None, None), &device));
        // Without a system of ours the machine is found by its UUID, which is its id there.
        let (device, id) = (json!({"address": emulator}), Uuid::from_u128(7).to_string());
        assert!(owns(&node(&id), &host(None, Some(7)), &device));
        assert!(!owns(&node(&id), &host(None, Some(8)), &device));
        assert!(owns(&node("1"), &host(None, Some(8)), &device));
    }

    #[test]
    fn a_serial_or_uuid_on_record_names_the_machine_wherever_its_controller_is() {
        let device = json!({"address": "https://elsewhere"});
        let node =
            |identity: &str| OwnedMachine { identities: vec![identity.into()], ..OwnedMachine::default() };
        assert!(owns(&node(" sn-7 "), &host(Some("SN-7"), None), &device));
        assert!(owns(&node(&Uuid::from_u128(7).to_string()), &host(None, Some(7)), &device));
        assert!(!owns(&node("SN-8"), &host(Some("SN-7"), Some(7)), &device));
        // Fillers that whole series share name nobody.
        assert!(!owns(&node("Default string"), &host(Some("Default string"), None), &device));
    }

    #[test]
    fn fencing_through_ironic_is_the_way_out() {
        let device = json!({"program": "/usr/sbin/fence_ironic", "address": "10.0.0.7"});
        assert!(!owns(&at("10.0.0.7"), &host(None, None), &device));
        assert!(fault(&at("x")).contains("maintenance set n"), "{}", fault(&at("x")));
    }
}

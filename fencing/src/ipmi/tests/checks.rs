//! What a check asks, against ipmitool's recorded words and against the peer.

use super::super::inspect::{Capabilities, DeviceId, GetDeviceId, ask_capabilities, suites};
use super::peer::{Shared, start};
use super::*;
use crate::power::{Findings, PowerDevice, RestorePolicy};
use ipmi_rs::connection::IpmiCommand;

#[test]
fn authentication_capabilities_are_asked_for_as_ipmitool_does() {
    for r in recordings() {
        let (asked, answered) = (hex(&r.datagrams[0].bytes), hex(&r.datagrams[1].bytes));
        // ipmitool was told -L OPERATOR, and its first request has number 0.
        assert_eq!(frame::outside(&frame::request(&ask_capabilities(3), 0)), asked);
        let answer = frame::from_outside(&answered).and_then(frame::response).unwrap();
        let capabilities = Capabilities::parse(answer.message.data()).unwrap();
        assert_eq!((answer.completion, capabilities.v2, capabilities.anonymous), (0, Some(true), false));
        // ipmi_sim's configuration has a user without a name, our own BMC has none.
        assert_eq!(capabilities.null_users, r.suite() == Suite::Three);
        for at in 0..answered.len() {
            assert_eq!(frame::from_outside(&answered[..at]).and_then(frame::response), None, "cut at {at}");
            let mut damaged = answered.clone();
            damaged[at] ^= 0x01;
            let read = frame::from_outside(&damaged).and_then(frame::response);
            assert_eq!(read, None, "byte {at}");
        }
    }
}

#[test]
fn device_ids_are_read_as_ipmitool_prints_them() {
    for r in recordings() {
        assert_eq!(frame::request(&GetDeviceId.into(), 3), r.message(6, 0x01));
        let answer = frame::response(&r.message(7, 0x01)).unwrap();
        let id = GetDeviceId::parse_success_response(answer.message.data()).unwrap();
        let expected = match r.suite() {
            // "Firmware Revision 9.08, Manufacturer ID 4753, Product ID 3842 (0x0f02)"
            Suite::Three => {
                DeviceId { manufacturer: 4753, product: 3842, firmware: "9.08".into(), updating: false }
            }
            Suite::Seventeen => {
                DeviceId { manufacturer: 0, product: 0, firmware: "1.00".into(), updating: false }
            }
        };
        assert_eq!(id, expected);
    }
    assert!(GetDeviceId::parse_success_response(&[0; 10]).is_err());
    let dell = [0x20, 0x81, 0x82, 0x85, 0x02, 0xdf, 0xa2, 0x02, 0x00, 0x00, 0x01];
    let id = GetDeviceId::parse_success_response(&dell).unwrap();
    assert_eq!((id.maker().as_str(), id.firmware.as_str(), id.updating), ("Dell", "2.85", true));
}

#[test]
fn cipher_suite_records_are_taken_apart() {
    let standard = [0xc0, 0, 0, 0x40, 0x80, 0xc0, 3, 1, 0x41, 0x81, 0xc0, 17, 3, 0x44, 0x81];
    assert_eq!(suites(&standard), Some(vec![0, 3, 17]));
    // An OEM's suite 0 is not the standard one.
    assert_eq!(suites(&[0xc1, 0, 0xa2, 0x02, 0x00, 1, 0x41, 0x81, 0xc0, 3, 1]), Some(vec![3]));
    assert_eq!(suites(&[]), Some(vec![]));
    for cut in [&[0xc0][..], &[0xc1, 0, 1], &[0x01, 0x02]] {
        assert_eq!(suites(cut), None, "{cut:?}");
    }
}

async fn inspected(address: SocketAddr) -> (Findings, Option<RestorePolicy>) {
    let mut session = device(address, None).open().await.unwrap();
    session.read().await.unwrap();
    let policy = session.restore_policy();
    let findings = session.inspect().await.unwrap();
    session.close().await;
    (findings, policy)
}

fn set(shared: &Shared, change: impl FnOnce(&mut peer::State)) {
    change(&mut shared.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_check_names_weak_doors_and_silence_is_no_fault() {
    let (address, shared) = start(&[17]).await;
    // All that is optional stays unanswered or is refused.
    set(&shared, |s| (s.capabilities, s.policy) = (vec![], 0));
    let (plain, policy) = inspected(address).await;
    assert_eq!((plain, policy), (Findings::default(), Some(RestorePolicy::AlwaysOff)));
    // Suite 0 stands on the second page.
    let mut records: Vec<u8> = (1..=4).flat_map(|suite| [0xc0, suite, 1, 0x41, 0x81]).collect();
    records.extend([0xc0, 0, 0, 0x40, 0x80]);
    set(&shared, |s| {
        s.records = records;
        s.device_id = vec![0x20, 0x81, 0x02, 0x85, 0x02, 0xdf, 0xa2, 0x02, 0x00, 0x00, 0x01];
        s.capabilities = vec![1, 0x80, 0x03, 0x01, 0, 0, 0, 0];
    });
    let (found, _) = inspected(address).await;
    let warnings = found.warnings.join("\n");
    for says in ["cipher suite 0", "no IPMI 2.0", "anonymous logins", "without a name"] {
        assert!(warnings.contains(says), "{says}: {warnings}");
    }
    assert_eq!(
        (found.firmware.as_deref(), found.manufacturer.as_deref()),
        (Some("2.85 (product 0x0100)"), Some("Dell"))
    );
    assert!(found.faults.is_empty());
    // An ordinary one.
    set(&shared, |s| {
        (s.records, s.capabilities) = (vec![0xc0, 17, 3, 0x44, 0x81], vec![1, 0x80, 0x04, 0x02, 0, 0, 0, 0])
    });
    assert_eq!(inspected(address).await.0.warnings, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn restore_policies_are_read_and_set() {
    let (address, shared) = start(&[3]).await;
    let mut session = device(address, None).open().await.unwrap();
    assert_eq!(session.restore_policy(), None, "not before it was read");
    for (bits, policy) in [
        (0, Some(RestorePolicy::AlwaysOff)),
        (1, Some(RestorePolicy::LastState)),
        (2, Some(RestorePolicy::AlwaysOn)),
        (3, None),
    ] {
        set(&shared, |s| s.policy = bits);
        session.read().await.unwrap();
        assert_eq!(session.restore_policy(), policy);
    }
    for policy in [RestorePolicy::LastState, RestorePolicy::AlwaysOn, RestorePolicy::AlwaysOff] {
        session.set_restore_policy(policy).await.unwrap();
        session.read().await.unwrap();
        assert_eq!(session.restore_policy(), Some(policy));
    }
    assert_eq!(shared.lock().unwrap().policies, [1, 2, 0]);
    // Chassis 00h / 06h with one byte, as the table of commands has it (appendix G).
    let message = frame::request(&super::super::SetRestorePolicy(RestorePolicy::AlwaysOn).into(), 1);
    assert_eq!(message, [0x20, 0x00, 0xe0, 0x81, 0x04, 0x06, 0x02, 0x73]);
}

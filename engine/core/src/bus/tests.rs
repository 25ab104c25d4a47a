//! Whole payloads against documents written by hand from the contract.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::host::Maintenance;
use crate::id::{HostId, NotificationId, SegmentId};
use crate::notification::Origin;
use crate::segment::RecoveryMethod;

const CREATED: Stamp = Stamp(1_543_310_790_123_456);
const UPDATED: Stamp = Stamp(1_543_312_490_000_000);

fn row(num: i64) -> Row {
    Row { num, created_at: CREATED, updated_at: None, deleted_at: None }
}

fn segment() -> Segment {
    Segment {
        id: SegmentId(Uuid::from_u128(0x5cce639c_da08_4e78_b615_66c88aa49d50)),
        name: "rack-a".into(),
        description: None,
        service_type: "COMPUTE".into(),
        recovery_method: RecoveryMethod::RhPriority,
        enabled: true,
    }
}

fn host() -> Host {
    Host {
        kind: "COMPUTE".into(),
        control_attributes: "SSH".into(),
        reserved: true,
        maintenance: Maintenance { recovery: true, ..Maintenance::default() },
        boot_number: 3,
        ever_agent: true,
        serial: Some("S1".into()),
        version: 9,
        ..Host::new(HostId(Uuid::from_u128(0xd6a2d900_1977_48fd_aa52_ad7a41fc068b)), segment().id, "cmp-01")
    }
}

fn report(status: NotificationStatus) -> Notification {
    Notification {
        id: NotificationId(Uuid::from_u128(0x15505a8c_8856_4f3d_9747_55b6e899c0f5)),
        kind: NotificationType::Process,
        host: host().id,
        segment: segment().id,
        // 2017-06-13 15:34:55.999999 UTC
        generated_at: Stamp(1_497_368_095_999_999),
        payload: BTreeMap::from([
            ("event".to_owned(), "STOPPED".to_owned()),
            ("process_name".to_owned(), "nova-compute".to_owned()),
        ]),
        origin: Origin::Caller,
        status,
        message: None,
    }
}

#[test]
fn a_segment_that_was_made() {
    let segment = segment();
    let told = message(Subject::Segment(&segment, Some(row(850))), Action::Create, Phase::End, None);
    let payload = json!({
        "masakari_object.name": "SegmentApiPayload",
        "masakari_object.namespace": "masakari",
        "masakari_object.version": "1.1",
        "masakari_object.data": {
            "id": 850,
            "uuid": "5cce639c-da08-4e78-b615-66c88aa49d50",
            "name": "rack-a",
            "service_type": "COMPUTE",
            "description": null,
            "recovery_method": "rh_priority",
            "enabled": true,
            "fault": null
        }
    });
    let wanted = Message {
        object: "segment:5cce639c-da08-4e78-b615-66c88aa49d50".into(),
        publisher: "masakari-api",
        event_type: "segment.create.end".into(),
        priority: Priority::Info,
        payload,
    };
    assert_eq!(told, wanted);
}

#[test]
fn a_segment_whose_name_was_taken_never_had_ids() {
    let segment = Segment { description: Some("by the door".into()), ..segment() };
    let fault =
        Fault { exception: "FailoverSegmentExists", message: "segment 'rack-a' exists already".into() };
    let told = message(Subject::Segment(&segment, None), Action::Create, Phase::Error, Some(&fault));
    assert_eq!((told.event_type.as_str(), told.priority), ("segment.create.error", Priority::Error));
    let payload = json!({
        "masakari_object.name": "SegmentApiPayload",
        "masakari_object.namespace": "masakari",
        "masakari_object.version": "1.1",
        "masakari_object.data": {
            "name": "rack-a",
            "service_type": "COMPUTE",
            "description": "by the door",
            "recovery_method": "rh_priority",
            "enabled": true,
            "fault": {
                "masakari_object.name": "ExceptionPayload",
                "masakari_object.namespace": "masakari",
                "masakari_object.version": "1.0",
                "masakari_object.data": {
                    "module_name": "halberd",
                    "function_name": "segment.create",
                    "exception": "FailoverSegmentExists",
                    "exception_message": "segment 'rack-a' exists already",
                    "traceback": ""
                }
            }
        }
    });
    assert_eq!(told.payload, payload);
}

#[test]
fn a_host_embeds_its_segment() {
    let (host, segment) = (host(), segment());
    let segment_row = Row { updated_at: Some(UPDATED), ..row(877) };
    let told = message(
        Subject::Host(&host, Some(row(70)), (&segment, segment_row)),
        Action::Update,
        Phase::Start,
        None,
    );
    let payload = json!({
        "masakari_object.name": "HostApiPayload",
        "masakari_object.namespace": "masakari",
        "masakari_object.version": "1.0",
        "masakari_object.data": {
            "id": 70,
            "uuid": "d6a2d900-1977-48fd-aa52-ad7a41fc068b",
            "name": "cmp-01",
            "failover_segment": {
                "masakari_object.name": "FailoverSegment",
                "masakari_object.namespace": "masakari",
                "masakari_object.version": "1.1",
                "masakari_object.data": {
                    "id": 877,
                    "uuid": "5cce639c-da08-4e78-b615-66c88aa49d50",
                    "name": "rack-a",
                    "service_type": "COMPUTE",
                    "description": null,
                    "recovery_method": "rh_priority",
                    "enabled": true,
                    "created_at": "2018-11-27T09:26:30Z",
                    "updated_at": "2018-11-27T09:54:50Z",
                    "deleted_at": null,
                    "deleted": false
                }
            },
            "type": "COMPUTE",
            "reserved": true,
            "control_attributes": "SSH",
            "on_maintenance": true,
            "fault": null
        }
    });
    assert_eq!(told.payload, payload);
    assert_eq!(
        (told.event_type.as_str(), told.publisher, told.priority),
        ("host.update.start", "masakari-api", Priority::Info)
    );
}

#[test]
fn a_report_that_was_worked_on() {
    let report = report(NotificationStatus::Finished);
    let told = message(Subject::Notification(&report, Some(row(47))), Action::Process, Phase::End, None);
    let payload = json!({
        "masakari_object.name": "NotificationApiPayload",
        "masakari_object.namespace": "masakari",
        "masakari_object.version": "1.0",
        "masakari_object.data": {
            "id": 47,
            "notification_uuid": "15505a8c-8856-4f3d-9747-55b6e899c0f5",
            "generated_time": "2017-06-13T15:34:55Z",
            "source_host_uuid": "d6a2d900-1977-48fd-aa52-ad7a41fc068b",
            "type": "PROCESS",
            "payload": { "event": "STOPPED", "process_name": "nova-compute" },
            "status": "finished",
            "fault": null
        }
    });
    assert_eq!(told.payload, payload);
    assert_eq!(
        (told.event_type.as_str(), told.publisher, told.object.as_str()),
        ("notification.process.end", "masakari-engine", "notification:15505a8c-8856-4f3d-9747-55b6e899c0f5")
    );
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let report = Notification { message: Some("ä".repeat(5_000)), ..report(NotificationStatus::Error) };
    let fault = Fault::of_work(&report);
    assert_eq!(fault.exception, "ProcessRecoveryFailureException");
    let told =
        message(Subject::Notification(&report, Some(row(1))), Action::Process, Phase::Error, Some(&fault));
    let fault = &told.payload["masakari_object.data"]["fault"]["masakari_object.data"];
    assert_eq!(fault["exception_message"].as_str().unwrap().chars().count(), LONGEST_FAULT);
}

#[test]
fn every_start_has_one_end() {
    use NotificationStatus::{Error, Failed, Finished, Ignored, New, Running};
    let told = |from, to| phases(from, to);
    assert_eq!(told(New, Running), [(Phase::Start, New)]);
    assert_eq!(told(Running, Finished), [(Phase::End, Finished)]);
    assert_eq!(told(Running, Failed), [(Phase::Error, Failed)]);
    assert_eq!(told(New, Ignored), [(Phase::Start, New), (Phase::End, Ignored)]);
    assert_eq!(told(Error, Running), [(Phase::Start, Error)]);
    assert_eq!(told(Error, Finished), [(Phase::Start, Error), (Phase::End, Finished)]);
    // Any walk through the statuses: starts and ends take turns.
    let all = NotificationStatus::ALL;
    for a in all.iter().filter(|status| **status != New) {
        for b in all.iter().filter(|status| **status != New) {
            for c in all.iter().filter(|status| **status != New) {
                let walk = [(New, *a), (*a, *b), (*b, *c), (*c, Finished)];
                let told: Vec<bool> = walk
                    .iter()
                    .flat_map(|(from, to)| phases(*from, *to))
                    .map(|(phase, _)| phase == Phase::Start)
                    .collect();
                assert_eq!(told.len() % 2, 0, "{walk:?}");
                assert!(told.chunks(2).all(|pair| pair == [true, false]), "{walk:?}: {told:?}");
            }
        }
    }
}

#[test]
fn times_are_those_of_the_calendar() {
    let table = [
        (0, "1970-01-01 00:00:00.000000"),
        (-1, "1969-12-31 23:59:59.999999"),
        (951_782_400_000_000, "2000-02-29 00:00:00.000000"),
        (1_543_310_790_123_456, "2018-11-27 09:26:30.123456"),
        (4_107_542_399_000_000, "2100-02-28 23:59:59.000000"),
        (4_107_542_400_000_000, "2100-03-01 00:00:00.000000"),
        (1_735_689_599_000_001, "2024-12-31 23:59:59.000001"),
    ];
    for (micros, text) in table {
        assert_eq!(timestamp(Stamp(micros)), text);
    }
}

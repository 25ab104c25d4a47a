//! The contract's tables for queries, bodies and answers, each row as recorded; [`values`] has those of single values.

mod values;

use serde_json::{Value, json};
use uuid::Uuid;

use super::list::{Direction, InvalidQuery, MAX_LIMIT, Marker, Query};
use super::microversion::Microversion;
use super::notification::NotificationType;
use super::payload::{HostStatus, Payload, StartStop};
use super::segment::RecoveryMethod;
use super::value::Timestamp;
use super::*;

fn version(text: &str) -> Microversion {
    Microversion::parse(text).expect("offered")
}

fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
    query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn limits() {
    let limit = |text: &str| {
        Query(&pairs(&[("limit", text)])).page(list::SEGMENT_COLUMNS, MAX_LIMIT).map(|page| page.limit)
    };
    for (text, want) in [
        ("0", 0),
        ("1", 1),
        ("+5", 5),
        (" 5 ", 5),
        ("-0", 0),
        ("1000", 1000),
        ("1001", 1000),
        ("99999999999999999999999", 1000),
    ] {
        assert_eq!(limit(text), Ok(want), "{text}");
    }
    for bad in ["", "-1", "1.0", "a", "1 2", "0x10", "+", "-99999999999999999999999"] {
        assert!(limit(bad).is_err(), "{bad:?}");
    }
    assert_eq!(Query(&[]).page(list::SEGMENT_COLUMNS, 50).map(|page| page.limit), Ok(50));
    let size = |text: &str| Query(&pairs(&[("page_size", text)])).page(list::SEGMENT_COLUMNS, MAX_LIMIT);
    assert_eq!(size("7").map(|page| page.limit), Ok(MAX_LIMIT), "page_size changes nothing");
    assert!(size("a").is_err());
}

#[test]
fn markers() {
    let marker = |text: &str| {
        Query(&pairs(&[("marker", text)])).page(list::HOST_COLUMNS, MAX_LIMIT).map(|page| page.marker)
    };
    assert_eq!(marker("17"), Ok(Some(Marker::Id(17))));
    let uuid = Uuid::from_u128(9);
    assert_eq!(marker(&uuid.to_string()), Ok(Some(Marker::Uuid(uuid))));
    for bad in ["", "x", "1.5", "99999999999999999999"] {
        assert!(marker(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn sorting() {
    let sort = |query: &[(&str, &str)]| {
        let page = Query(&pairs(query)).page(list::NOTIFICATION_COLUMNS, MAX_LIMIT);
        page.map(|page| page.sort.iter().map(|s| (s.key, s.direction)).collect::<Vec<_>>())
    };
    use Direction::{Ascending as A, Descending as D};
    assert_eq!(sort(&[]), Ok(vec![("created_at", D), ("id", D)]));
    assert_eq!(sort(&[("sort_dir", "asc")]), Ok(vec![("created_at", A), ("id", A)]));
    assert_eq!(sort(&[("sort_key", "id")]), Ok(vec![("id", D), ("created_at", D)]));
    assert_eq!(
        sort(&[("sort_key", "type"), ("sort_key", "status"), ("sort_dir", "asc"), ("sort_dir", "desc")]),
        Ok(vec![("type", A), ("status", D), ("created_at", A), ("id", A)])
    );
    assert_eq!(
        sort(&[("sort_key", "type"), ("sort_key", "status"), ("sort_dir", "asc")]),
        Ok(vec![("type", A), ("status", A), ("created_at", A), ("id", A)])
    );
    let more = Err(InvalidQuery::MoreDirectionsThanKeys { keys: 1, directions: 2 });
    assert_eq!(sort(&[("sort_dir", "asc"), ("sort_dir", "asc")]), more);
    assert_eq!(sort(&[("sort_key", "id"), ("sort_dir", "asc"), ("sort_dir", "asc")]), more);
    for bad in [
        ("sort_key", "uuid"),
        ("sort_key", "id,type"),
        ("sort_key", ""),
        ("sort_key", "Id"),
        ("sort_dir", "up"),
        ("sort_dir", "ASC"),
        ("sort_dir", ""),
    ] {
        assert!(sort(&[bad]).is_err(), "{bad:?}");
    }
    for (columns, relation) in [(list::HOST_COLUMNS, "failover_segment"), (list::SEGMENT_COLUMNS, "hosts")] {
        let query = pairs(&[("sort_key", relation)]);
        assert!(Query(&query).page(columns, MAX_LIMIT).is_err(), "{relation} is 400, not 500");
    }
}

#[test]
fn filters() {
    let query = pairs(&[("enabled", "Yes"), ("recovery_method", "bogus"), ("colour", "red")]);
    let segments = segment::Filters::parse(Query(&query)).expect("good");
    assert_eq!((segments.enabled, segments.recovery_method.as_deref()), (Some(true), Some("bogus")));
    assert!(segment::Filters::parse(Query(&pairs(&[("enabled", "x")]))).is_err());
    assert!(host::Filters::parse(Query(&pairs(&[("reserved", "x")]))).is_err());
    assert!(host::Filters::parse(Query(&pairs(&[("on_maintenance", "")]))).is_err());
    let since =
        notification::Filters::parse(Query(&pairs(&[("generated-since", "2026-11-21")]))).expect("good");
    assert_eq!(since.generated_since.map(|t| t.to_string()).as_deref(), Some("2026-11-21T00:00:00.000000"));
    assert!(notification::Filters::parse(Query(&pairs(&[("generated-since", "x")]))).is_err());
    let ignored = notification::Filters::parse(Query(&pairs(&[("generated_since", "x")])));
    assert_eq!(ignored, Ok(notification::Filters::default()));
}

#[test]
fn segment_bodies() {
    let good = json!({ "name": "s", "recovery_method": "auto", "service_type": "COMPUTE" });
    let create = |inner: &Value, at: &str| segment::Create::parse(&json!({ "segment": inner }), version(at));
    let made = create(&good, "1.0").expect("good");
    assert_eq!((made.enabled, made.description, made.recovery_method), (true, None, RecoveryMethod::Auto));
    let change = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    for at in ["1.0", "1.1"] {
        let error = create(&change("enabled", json!(true)), at).expect_err("unknown yet").to_string();
        assert!(error.contains("'enabled' was unexpected"), "{error}");
    }
    assert_eq!(create(&change("enabled", json!("Off")), "1.2").map(|c| c.enabled), Ok(false));
    assert!(create(&change("enabled", json!(1)), "1.3").is_err());
    assert_eq!(create(&change("description", Value::Null), "1.0").map(|c| c.description), Ok(None));
    assert_eq!(
        create(&change("description", json!("")), "1.0").map(|c| c.description),
        Ok(Some(String::new()))
    );
    for method in ["auto", "reserved_host", "auto_priority", "rh_priority"] {
        assert!(create(&change("recovery_method", json!(method)), "1.0").is_ok(), "{method}");
    }
    for (key, bad) in [
        ("name", json!(null)),
        ("name", json!(" s")),
        ("service_type", json!("")),
        ("recovery_method", json!("AUTO")),
        ("recovery_method", json!(null)),
        ("colour", json!("red")),
    ] {
        let error = create(&change(key, bad), "1.3").expect_err(key).to_string();
        assert!(error.contains(key), "{error}");
    }
    for missing in ["name", "recovery_method", "service_type"] {
        let mut inner = good.clone();
        inner.as_object_mut().expect("object").remove(missing);
        assert!(create(&inner, "1.0").expect_err(missing).to_string().contains(missing));
    }
    for body in [
        json!({}),
        json!(null),
        json!([]),
        json!({ "segment": null }),
        json!({ "segment": good, "more": 1 }),
        json!({ "host": good }),
    ] {
        assert!(segment::Create::parse(&body, version("1.3")).is_err(), "{body}");
    }

    let update = |inner: Value, at: &str| segment::Update::parse(&json!({ "segment": inner }), version(at));
    assert_eq!(update(json!({ "description": null }), "1.0").map(|u| u.description), Ok(Some(None)));
    assert_eq!(update(json!({ "enabled": "no" }), "1.2").map(|u| u.enabled), Ok(Some(false)));
    for bad in [json!({}), json!({ "name": null }), json!({ "uuid": "x" })] {
        assert!(update(bad.clone(), "1.3").is_err(), "{bad}");
    }
    assert!(update(json!({ "enabled": true }), "1.1").is_err());
}

#[test]
fn errors_name_field_value_and_reason() {
    let body = json!({ "segment": { "name": 17, "recovery_method": "auto", "service_type": "c" } });
    let error = segment::Create::parse(&body, version("1.0")).expect_err("a number").to_string();
    assert_eq!(error, "Invalid input for field 'segment.name'. Value: 17. It is not of type string.");
    let long =
        json!({ "segment": { "name": "x".repeat(100_000), "recovery_method": "auto", "service_type": "c" } });
    assert!(segment::Create::parse(&long, version("1.0")).expect_err("too long").to_string().len() < 400);
}

#[test]
fn host_bodies() {
    let good = json!({ "name": "h", "type": "", "control_attributes": "" });
    let create = |inner: &Value| host::Create::parse(&json!({ "host": inner }));
    let made = create(&good).expect("good");
    assert_eq!((made.reserved, made.on_maintenance), (false, false));
    let change = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    assert_eq!(create(&change("reserved", json!("True"))).map(|c| c.reserved), Ok(true));
    for (key, bad) in [
        ("type", json!(null)),
        ("type", json!("a b")),
        ("control_attributes", json!(null)),
        ("reserved", json!(1)),
        ("on_maintenance", json!(null)),
        ("failover_segment_id", json!("x")),
    ] {
        assert!(create(&change(key, bad)).expect_err(key).to_string().contains(key));
    }
    assert!(host::Update::parse(&json!({ "host": {} })).is_err());
    assert!(host::Update::parse(&json!({ "host": { "failover_segment_id": "x" } })).is_err());
    let update = host::Update::parse(&json!({ "host": { "on_maintenance": "False" } }));
    assert_eq!(update, Ok(host::Update { on_maintenance: Some(false), ..host::Update::default() }));
}

#[test]
fn notification_bodies_and_payloads() {
    let body = |kind: &str, payload: Value| json!({ "notification": { "type": kind, "hostname": "h", "generated_time": "2026-11-21T10:20:30.123456", "payload": payload } });
    let generic = |payload: Value| notification::Create::parse(&body("VM", payload)).is_ok();
    for good in [
        json!({}),
        json!({ "a-b_c:d.e f": "" }),
        json!({ "k": "v".repeat(255) }),
        json!({ "k".repeat(255): "v" }),
    ] {
        assert!(generic(good.clone()), "{good}");
    }
    for bad in [
        json!(null),
        json!([]),
        json!("x"),
        json!({ "k": 1 }),
        json!({ "k": null }),
        json!({ "k": "v".repeat(256) }),
        json!({ "": "v" }),
        json!({ "k".repeat(256): "v" }),
        json!({ "k/": "v" }),
        json!({ "é": "v" }),
    ] {
        assert!(!generic(bad.clone()), "{bad}");
    }
    for kind in ["vm", "COMPUTE_NODE", ""] {
        assert!(notification::Create::parse(&body(kind, json!({}))).is_err(), "{kind}");
    }
    let mut extra = body("VM", json!({}));
    extra["notification"]["status"] = json!("new");
    assert!(notification::Create::parse(&extra).is_err());

    let id = "6e9b1c5e-0d0b-4a9f-8f4e-0123456789ab";
    // Type, payload, and what becomes of it: None refused, else whether it claims a failure.
    let table = [
        (
            "COMPUTE_HOST",
            json!({ "event": "STOPPED", "host_status": "NORMAL", "cluster_status": "OFFLINE" }),
            Some(true),
        ),
        ("COMPUTE_HOST", json!({ "event": "STOPPED", "host_status": "NORMAL" }), Some(true)),
        ("COMPUTE_HOST", json!({ "event": "STOPPED", "host_status": "UNKNOWN" }), Some(false)),
        ("COMPUTE_HOST", json!({ "event": "STOPPED" }), Some(false)),
        (
            "COMPUTE_HOST",
            json!({ "event": "STARTED", "host_status": "NORMAL", "cluster_status": "ONLINE" }),
            Some(false),
        ),
        ("COMPUTE_HOST", json!({ "event": "stopped" }), None),
        ("COMPUTE_HOST", json!({ "host_status": "NORMAL" }), None),
        ("COMPUTE_HOST", json!({ "event": "STOPPED", "host_status": "normal" }), None),
        ("COMPUTE_HOST", json!({ "event": "STOPPED", "cluster_status": "UP" }), None),
        ("COMPUTE_HOST", json!({ "event": "STOPPED", "other": "x" }), None),
        ("COMPUTE_HOST", json!({}), None),
        (
            "VM",
            json!({ "instance_uuid": id, "event": "LIFECYCLE", "vir_domain_event": "STOPPED_FAILED" }),
            Some(true),
        ),
        (
            "VM",
            json!({ "instance_uuid": id, "event": "IO_ERROR", "vir_domain_event": "IO_ERROR_REPORT" }),
            Some(true),
        ),
        (
            "VM",
            json!({ "instance_uuid": id, "event": "QEMU_GUEST_AGENT_ERROR", "vir_domain_event": "STOPPED_FAILED" }),
            Some(true),
        ),
        (
            "VM",
            json!({ "instance_uuid": id, "event": "LIFECYCLE", "vir_domain_event": "STOPPED_SHUTDOWN" }),
            Some(false),
        ),
        (
            "VM",
            json!({ "instance_uuid": id, "event": "anything", "vir_domain_event": "at all" }),
            Some(false),
        ),
        ("VM", json!({ "instance_uuid": "x", "event": "e", "vir_domain_event": "v" }), None),
        ("VM", json!({ "instance_uuid": id, "event": "", "vir_domain_event": "v" }), None),
        ("VM", json!({ "instance_uuid": id, "event": "e" }), None),
        ("PROCESS", json!({ "event": "STOPPED", "process_name": "nova-compute" }), Some(true)),
        ("PROCESS", json!({ "event": "STARTED", "process_name": "nova-compute" }), Some(false)),
        ("PROCESS", json!({ "event": "STOPPED", "process_name": "p".repeat(255) }), Some(true)),
        ("PROCESS", json!({ "event": "STOPPED", "process_name": "" }), None),
        ("PROCESS", json!({ "event": "STOPPED" }), None),
        ("PROCESS", json!({ "event": "KILLED", "process_name": "x" }), None),
    ];
    for (kind, payload, want) in table {
        let create =
            notification::Create::parse(&body(kind, payload.clone())).expect("passes the generic schema");
        let got = create.checked_payload().ok().map(|payload| payload.claims_failure());
        assert_eq!(got, want, "{kind} {payload}");
    }
    let create = notification::Create::parse(&body(
        "COMPUTE_HOST",
        json!({ "event": "STOPPED", "host_status": "NORMAL" }),
    ))
    .expect("good");
    assert_eq!(create.notification_type, NotificationType::ComputeHost);
    let want = Payload::ComputeHost {
        event: StartStop::Stopped,
        host_status: Some(HostStatus::Normal),
        cluster_status: None,
    };
    assert_eq!(create.checked_payload(), Ok(want));
}

/// The order of keys in `text`'s outermost object inside `{"key": {...}}`.
fn order_of(text: &str, keys: &[&str]) {
    let places: Vec<Option<usize>> = keys.iter().map(|key| text.find(&format!("\"{key}\":"))).collect();
    assert!(places.iter().all(Option::is_some), "{text}: {places:?}");
    assert!(places.is_sorted(), "{text}: {places:?}");
}

#[test]
fn answers_hold_every_field_in_the_contracts_order() {
    let times = RowTimes { created_at: Timestamp::from_micros(0), ..RowTimes::default() };
    let segment = segment::Segment {
        id: 1,
        uuid: Uuid::from_u128(1),
        name: "s".into(),
        description: None,
        service_type: "COMPUTE".into(),
        recovery_method: RecoveryMethod::RhPriority,
        enabled: true,
        times,
    };
    let text = serde_json::to_string(&One(segment::ITEM, &segment)).expect("json");
    let want = "{\"segment\":{\"id\":1,\"uuid\":\"00000000-0000-0000-0000-000000000001\",\"name\":\"s\",\"description\":null,\
        \"service_type\":\"COMPUTE\",\"recovery_method\":\"rh_priority\",\"enabled\":true,\"created_at\":\"1970-01-01T00:00:00.000000\",\
        \"updated_at\":null,\"deleted_at\":null,\"deleted\":false}}";
    assert_eq!(text, want);
    assert_eq!(
        serde_json::to_string(&Many::<segment::Segment>(segment::LIST, &[])).expect("json"),
        "{\"segments\":[]}"
    );

    let host = host::Host {
        id: 2,
        uuid: Uuid::from_u128(2),
        name: "h".into(),
        failover_segment_id: segment.uuid,
        failover_segment: segment,
        host_type: "COMPUTE".into(),
        reserved: false,
        control_attributes: "SSH".into(),
        on_maintenance: true,
        times,
    };
    let text = serde_json::to_string(&host).expect("json");
    order_of(
        &text,
        &[
            "id",
            "uuid",
            "name",
            "failover_segment_id",
            "failover_segment",
            "type",
            "reserved",
            "control_attributes",
            "on_maintenance",
        ],
    );
    assert_eq!(serde_json::from_str::<host::Host>(&text).expect("reads back"), host);

    let notification = notification::Notification {
        id: 3,
        notification_uuid: Uuid::from_u128(3),
        generated_time: Timestamp::from_micros(0).expect("a time"),
        source_host_uuid: host.uuid,
        notification_type: NotificationType::ComputeHost,
        payload: [("event".to_owned(), "STOPPED".to_owned())].into(),
        status: notification::NotificationStatus::New,
        failover_segment_uuid: None,
        message: None,
        times,
    };
    let text = serde_json::to_string(&notification).expect("json");
    order_of(
        &text,
        &[
            "id",
            "notification_uuid",
            "generated_time",
            "source_host_uuid",
            "type",
            "payload",
            "status",
            "failover_segment_uuid",
            "message",
            "created_at",
            "deleted",
        ],
    );
    assert!(
        text.contains("\"type\":\"COMPUTE_HOST\"")
            && text.contains("\"status\":\"new\"")
            && !text.contains("\"uuid\":")
    );

    let detail = |details| {
        serde_json::to_string(&notification::NotificationDetail {
            notification: notification.clone(),
            recovery_workflow_details: details,
        })
        .expect("json")
    };
    assert!(!detail(None).contains("recovery_workflow_details"), "1.0 has no such key");
    assert!(detail(Some(vec![])).ends_with("\"recovery_workflow_details\":[]}"));
}

#[test]
fn times_are_written_as_the_general_formatter_would() {
    let year = 31_556_952_000_000;
    let mut micros =
        vec![0, 1, 999_999, 1_000_000, -1, 1_795_256_430_123_456, 951_782_399_999_999, 951_782_400_000_000];
    micros.extend((-2_100..9_000).step_by(7).map(|n| n * year + n * 86_399_999_999 + 123_456));
    let mut wide = 0;
    for micros in micros {
        let time = Timestamp::from_micros(micros).expect("within chrono's years");
        let want = time.utc().format("%Y-%m-%dT%H:%M:%S%.6f").to_string();
        wide += usize::from(want.len() != 26);
        assert_eq!(time.to_string(), want);
        assert_eq!(serde_json::to_value(time).expect("json"), json!(want));
    }
    assert!(wide > 100, "years before 0 and after 9999 are among them: {wide}");
}

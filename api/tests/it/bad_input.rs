//! Bad input: always a 4xx in the contract's shape, never a 500, and never a row.

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::{Value, json};

use crate::kit::{host_down, kit, report};

#[tokio::test]
async fn bodies_that_are_no_json() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let places = [
        ("POST", "/v1/segments".to_owned()),
        ("PUT", format!("/v1/segments/{segment}")),
        ("POST", format!("/v1/segments/{segment}/hosts")),
        ("POST", "/v1/notifications".to_owned()),
    ];
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let deep_object = format!("{}1{}", "{\"segment\":".repeat(5_000), "}".repeat(5_000)).into_bytes();
    let bodies: [Vec<u8>; 16] = [
        b"".to_vec(),
        b"{".to_vec(),
        b"nonsense".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"1".to_vec(),
        b"\"x\"".to_vec(),
        b"{}".to_vec(),
        b"{\"segment\":null}".to_vec(),
        b"{\"notification\":[]}".to_vec(),
        vec![0xff, 0xfe, 0x00],
        b"{\"segment\":{}} trailing".to_vec(),
        b"{\"segment\":{\"name\":\"\xff\"}}".to_vec(),
        nested(33),
        nested(50_000),
        deep_object,
    ];
    for (method, path) in &places {
        for body in &bodies {
            let answer = kit.ask(method, path, &[("content-type", "application/json")], body.clone()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert_eq!(
                (answer.status, answer.key().as_str()),
                (400, "badRequest"),
                "{method} {path} {shown}: {}",
                answer.text
            );
            assert!(answer.text.len() < 2_000, "an error quotes a little, not {} bytes", answer.text.len());
        }
        let answer = kit.ask(method, path, &[("content-type", "application/xml")], "{}").await.expect(415);
        assert_eq!(answer.key(), "badMediaType");
    }
}

#[tokio::test]
async fn too_large_is_413_declared_or_not() {
    let kit = kit().await;
    let limit = 114_688;
    let body = format!("{{\"segment\":{{\"description\":\"{}\"}}}}", "x".repeat(limit));
    let declared = kit.ask("POST", "/v1/segments", &[], body.clone()).await.expect(413);
    assert_eq!(declared.key(), "overLimit");
    assert!(declared.header("x-openstack-request-id").is_some());
    let chunks: Vec<_> = body
        .as_bytes()
        .chunks(1_000)
        .map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)))
        .collect();
    kit.ask("POST", "/v1/segments", &[], Body::from_stream(stream::iter(chunks))).await.expect(413);
    let just = format!(
        "{{\"segment\":{{\"name\":\"a\",\"recovery_method\":\"auto\",\"service_type\":\"c\",\"description\":\"{}\"}}}}",
        "x".repeat(100_000)
    );
    kit.ask("POST", "/v1/segments", &[], just).await.expect(201);
}

#[tokio::test]
async fn values_of_segments() {
    let kit = kit().await;
    let good = json!({ "name": "a", "recovery_method": "auto", "service_type": "c" });
    let long = "x".repeat(256);
    let table: [(&str, Value); 20] = [
        ("name", json!("")),
        ("name", json!(null)),
        ("name", json!(1)),
        ("name", json!(" a")),
        ("name", json!("a ")),
        ("name", json!("a\u{0}b")),
        ("name", json!("a\nb")),
        ("name", json!("\u{1F600}")),
        ("name", json!(long)),
        ("name", json!({})),
        ("recovery_method", json!("AUTO")),
        ("recovery_method", json!(null)),
        ("recovery_method", json!(["auto"])),
        ("service_type", json!("")),
        ("service_type", json!(null)),
        ("description", json!(1)),
        ("description", json!("a\u{0}")),
        ("enabled", json!(1)),
        ("enabled", json!("maybe")),
        ("unknown", json!("x")),
    ];
    for (field, value) in table {
        let mut body = json!({ "segment": good });
        body["segment"][field] = value.clone();
        let answer = kit.call("POST", "/v1/segments", &body).await;
        assert_eq!(
            (answer.status, answer.key().as_str()),
            (400, "badRequest"),
            "{field} {value}: {}",
            answer.text
        );
    }
    for field in ["name", "recovery_method", "service_type"] {
        let mut body = json!({ "segment": good });
        body["segment"].as_object_mut().unwrap().remove(field);
        kit.call("POST", "/v1/segments", &body).await.expect(400);
    }
    assert_eq!(kit.get("/v1/segments").await.json()["segments"], json!([]));
    let segment = kit.segment("a").await;
    kit.call("PUT", &format!("/v1/segments/{segment}"), &json!({ "segment": {} })).await.expect(400);
    kit.call("PUT", &format!("/v1/segments/{segment}"), &json!({ "segment": { "description": "" } }))
        .await
        .expect(200);
}

#[tokio::test]
async fn values_of_hosts() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let list = format!("/v1/segments/{segment}/hosts");
    let good = json!({ "name": "cmp-01", "type": "KVM", "control_attributes": "x" });
    let table: [(&str, Value); 9] = [
        ("name", json!("")),
        ("name", json!("cmp\u{0}01")),
        ("type", json!(null)),
        ("type", json!("a-b")),
        ("control_attributes", json!(null)),
        ("reserved", json!(1)),
        ("on_maintenance", json!("x")),
        ("uuid", json!("x")),
        ("type", json!(7)),
    ];
    for (field, value) in table {
        let mut body = json!({ "host": good });
        body["host"][field] = value.clone();
        let answer = kit.call("POST", &list, &body).await;
        assert_eq!(
            (answer.status, answer.key().as_str()),
            (400, "badRequest"),
            "{field} {value}: {}",
            answer.text
        );
    }
    assert_eq!(kit.get(&list).await.json()["hosts"], json!([]));
}

#[tokio::test]
async fn values_of_notifications() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    kit.host(&segment, "cmp-01").await;
    let table: [(&str, Value); 13] = [
        ("type", json!("HOST")),
        ("type", json!(null)),
        ("hostname", json!("")),
        ("hostname", json!("cmp 01")),
        ("hostname", json!("cmp\u{0}")),
        ("hostname", json!(null)),
        ("generated_time", json!(1_700_000_000)),
        ("generated_time", json!("soon")),
        ("payload", json!("x")),
        ("payload", json!({ "event": 1 })),
        ("payload", json!({ "": "x" })),
        ("payload", json!({ "event": "x".repeat(256) })),
        ("status", json!("new")),
    ];
    for (field, value) in table {
        let mut body = host_down("cmp-01");
        body["notification"][field] = value.clone();
        let answer = kit.report(&body).await;
        assert_eq!(
            (answer.status, answer.key().as_str()),
            (400, "badRequest"),
            "{field} {value}: {}",
            answer.text
        );
    }
    let payloads: [(&str, &[(&str, &str)]); 9] = [
        ("COMPUTE_HOST", &[]),
        ("COMPUTE_HOST", &[("event", "stopped")]),
        ("COMPUTE_HOST", &[("event", "STOPPED"), ("host_status", "DEAD")]),
        ("COMPUTE_HOST", &[("event", "STOPPED"), ("cluster_status", "offline")]),
        ("COMPUTE_HOST", &[("event", "STOPPED"), ("extra", "x")]),
        ("VM", &[("event", "LIFECYCLE"), ("vir_domain_event", "STOPPED_FAILED")]),
        ("VM", &[("event", "LIFECYCLE"), ("vir_domain_event", "STOPPED_FAILED"), ("instance_uuid", "x")]),
        ("PROCESS", &[("event", "STOPPED")]),
        ("PROCESS", &[("event", "RESTARTED"), ("process_name", "x")]),
    ];
    for (kind, payload) in payloads {
        kit.report(&report(kind, "cmp-01", payload)).await.expect(400);
    }
    assert_eq!(kit.get("/v1/notifications").await.json()["notifications"], json!([]));
}

#[tokio::test]
async fn text_and_missing_content_types_are_json() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    kit.host(&segment, "cmp-01").await;
    kit.ask("POST", "/v1/notifications", &[("content-type", "text/plain")], host_down("cmp-01").to_string())
        .await
        .expect(202);
    kit.ask("POST", "/v1/notifications", &[], host_down("cmp-01").to_string()).await.expect(409);
}

/// A word of a newer version, or a hand in the database: the row is named with its column, and the rest is served.
#[tokio::test]
async fn a_row_that_nobody_can_read_is_named_by_readiness_and_the_rest_is_served() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let (odd, sound) = (kit.host(&segment, "cmp-01").await, kit.host(&segment, "cmp-02").await);
    let unreadable = async || {
        let readiness = kit.get("/halberd/v1/readiness").await.expect(200).json();
        let checks = readiness["checks"].as_array().unwrap_or_else(|| panic!("{readiness}")).clone();
        checks.into_iter().filter(|check| check["check"] == "rows_readable").collect::<Vec<Value>>()
    };
    assert_eq!(unreadable().await, Vec::<Value>::new());
    kit.tamper("UPDATE hosts SET admission = 'entangled' WHERE name = 'cmp-01'").await;
    let named = unreadable().await;
    assert_eq!(named.len(), 1, "{named:?}");
    let reason = named[0]["reason"].as_str().unwrap();
    for part in ["hosts", &odd, "admission", "entangled"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    assert_eq!(named[0]["level"], "red");
    assert!(named[0]["remedy"].as_str().unwrap().contains("Mend the row"));
    kit.get(&format!("/v1/segments/{segment}/hosts/{sound}")).await.expect(200);
    kit.report(&host_down("cmp-02")).await.expect(202);
    kit.tamper("UPDATE hosts SET admission = 'in' WHERE name = 'cmp-01'").await;
    assert_eq!(unreadable().await, Vec::<Value>::new());
}

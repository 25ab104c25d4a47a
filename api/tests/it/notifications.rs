//! Reports: what is taken, what is turned away and why, and that nothing acknowledged is ever lost (contract 1.12).

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::Request;
use halberd_core::id::{HostId, NotificationId};
use halberd_store::db::Options;
use halberd_store::{Access, Page, audit, evidence, notifications};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::kit::{Kit, guest_down, host_down, kit, kit_with, report};

async fn with_host() -> (Kit, String, String) {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let host = kit.host(&segment, "cmp-01").await;
    (kit, segment, host)
}

async fn count(kit: &Kit) -> usize {
    let page = Page { limit: 100_000, ..Page::default() };
    notifications::list(&kit.app.db, &Default::default(), &page).await.unwrap().len()
}

#[tokio::test]
async fn a_report_is_in_the_database_when_202_is_said() {
    let (kit, segment, host) = with_host().await;
    let answer = kit.report(&host_down("cmp-01")).await.expect(202).json();
    let made = &answer["notification"];
    let id: NotificationId = made["notification_uuid"].as_str().unwrap().parse().unwrap();
    // Through a second opening of the file, as another process sees it.
    let stored = notifications::get(&kit.beside().await, id).await.unwrap();
    assert_eq!(stored.num, made["id"].as_i64().unwrap());
    assert_eq!((stored.host.to_string(), stored.segment.to_string()), (host.clone(), segment.clone()));

    let keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    let want = [
        "created_at",
        "deleted",
        "deleted_at",
        "failover_segment_uuid",
        "generated_time",
        "id",
        "message",
        "notification_uuid",
        "payload",
        "source_host_uuid",
        "status",
        "type",
        "updated_at",
    ];
    assert_eq!(keys, want, "no uuid, no details");
    assert_eq!(made["status"], "new");
    assert_eq!(made["generated_time"], "2026-11-21T10:20:30.123456");
    assert_eq!(made["failover_segment_uuid"], segment.as_str());
    assert_eq!(
        made["payload"],
        json!({ "cluster_status": "OFFLINE", "event": "STOPPED", "host_status": "NORMAL" })
    );

    let place = format!("/v1/notifications/{id}");
    let at = async |version: &str| {
        let header = format!("instance-ha {version}");
        let answer =
            kit.ask("GET", &place, &[("openstack-api-version", header.as_str())], "").await.expect(200);
        answer.json()["notification"].clone()
    };
    assert_eq!(at("1.0").await, *made);
    assert_eq!(at("1.1").await["recovery_workflow_details"], json!([]));
    assert_eq!(audit::verify(&kit.app.db).await.unwrap(), []);
    let story = audit::of_chain(&kit.app.db, &kit.app.audit_chain).await.unwrap();
    assert_eq!(story.last().unwrap().0.entry.what, "notification_received");
}

#[tokio::test]
async fn a_report_is_shown_after_its_host_and_segment_are_gone() {
    let (kit, segment, host) = with_host().await;
    let made = kit.report(&guest_down("cmp-01", &Uuid::new_v4().to_string())).await.expect(202).json();
    let id: NotificationId = made["notification"]["notification_uuid"].as_str().unwrap().parse().unwrap();
    halberd_store::write(&kit.app.db, async |tx| {
        use halberd_core::notification::NotificationStatus::{Ignored, New};
        notifications::settle(tx, id, New, Ignored, Some("nothing to do"), kit.app.now()).await
    })
    .await
    .unwrap();
    assert_eq!(
        kit.call("DELETE", &format!("/v1/segments/{segment}/hosts/{host}"), &Value::Null).await.status,
        204
    );
    assert_eq!(kit.call("DELETE", &format!("/v1/segments/{segment}"), &Value::Null).await.status, 204);
    let shown = kit.get(&format!("/v1/notifications/{id}")).await.expect(200).json();
    assert_eq!(shown["notification"]["message"], "nothing to do");
}

#[tokio::test]
async fn checks_come_in_the_contracts_order() {
    let (kit, segment, host) = with_host().await;
    let bad_payload = report("COMPUTE_HOST", "unknown", &[("event", "stopped")]);
    let table = [
        (json!({ "notification": {} }), 400, "required"),
        (bad_payload, 400, "payload"),
        (host_down("unknown"), 400, "unknown"),
        (host_down("CMP-01"), 400, "CMP-01"),
        (host_down("cmp-01"), 202, "notification"),
        (host_down("cmp-01"), 409, "duplicate"),
    ];
    for (body, status, said) in table {
        let answer = kit.report(&body).await.expect(status);
        assert!(answer.text.contains(said), "{body}: {}", answer.text);
    }
    assert_eq!(count(&kit).await, 1);
    // The operator's maintenance comes before the duplicate, and leaves evidence too.
    let other = kit.host(&segment, "cmp-02").await;
    kit.call(
        "PUT",
        &format!("/v1/segments/{segment}/hosts/{other}"),
        &json!({ "host": { "on_maintenance": true } }),
    )
    .await
    .expect(200);
    let started = report("COMPUTE_HOST", "cmp-02", &[("event", "STARTED"), ("host_status", "NORMAL")]);
    for body in [host_down("cmp-02"), host_down("cmp-02"), started] {
        assert!(kit.report(&body).await.expect(409).text.contains("maintenance"));
    }
    assert_eq!(count(&kit).await, 1);
    let seen = async |host: &str| evidence::list(&kit.app.db, host.parse().unwrap(), 10).await.unwrap();
    assert_eq!(seen(&other).await.len(), 3);
    assert_eq!(seen(&host).await.len(), 1);
}

#[tokio::test]
async fn a_failing_process_does_not_disarm_its_host() {
    let (kit, _, _) = with_host().await;
    kit.report(&report("PROCESS", "cmp-01", &[("event", "STOPPED"), ("process_name", "sshd")]))
        .await
        .expect(202);
    kit.report(&host_down("cmp-01")).await.expect(202);
}

#[tokio::test]
async fn sixteen_at_once_are_one() {
    let (kit, _, host) = with_host().await;
    for body in [host_down("cmp-01"), guest_down("cmp-01", &Uuid::new_v4().to_string())] {
        let before = count(&kit).await;
        let answers = futures_util::future::join_all((0..16).map(|_| kit.report(&body))).await;
        let mut by_status = BTreeMap::new();
        for answer in &answers {
            *by_status.entry(answer.status).or_insert(0) += 1;
        }
        assert_eq!(by_status, BTreeMap::from([(202, 1), (409, 15)]), "{:?}", answers[0]);
        assert_eq!(count(&kit).await, before + 1);
    }
    let host: HostId = host.parse().unwrap();
    assert_eq!(evidence::list(&kit.app.db, host, 100).await.unwrap().len(), 30, "each repeat is evidence");
}

/// A second API process on the same file: an opening of its own, an app of its own.
async fn process_beside(kit: &Kit) -> Kit {
    let app = halberd_api::App::new(halberd_api::Parts {
        config: kit.app.config.clone(),
        db: kit.beside().await,
        sealer: kit.app.sealer.clone(),
        keystone: None,
        nova: None,
        nudge: std::sync::Arc::default(),
        webhooks: Vec::new(),
    })
    .unwrap();
    let dir = tempfile::TempDir::new().unwrap();
    Kit { router: halberd_api::router(app.clone()), app, dir, cloud: kit.cloud.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_equal_reports_at_two_processes_one_is_accepted() {
    let (kit, _, host) = with_host().await;
    let other = process_beside(&kit).await;
    let id: HostId = host.parse().unwrap();
    let process = report("PROCESS", "cmp-01", &[("event", "STOPPED"), ("process_name", "nova-compute")]);
    for (n, body) in [host_down("cmp-01"), guest_down("cmp-01", &Uuid::new_v4().to_string()), process]
        .into_iter()
        .enumerate()
    {
        let asked = (0..64).map(|n| {
            let router = if n % 2 == 0 { kit.router.clone() } else { other.router.clone() };
            let request = Request::post("/v1/notifications").body(Body::from(body.to_string())).unwrap();
            tokio::spawn(async move { router.oneshot(request).await.unwrap().status().as_u16() })
        });
        let mut by_status = BTreeMap::new();
        for answer in asked.collect::<Vec<_>>() {
            *by_status.entry(answer.await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(by_status, BTreeMap::from([(202, 1), (409, 63)]), "{body}");
        assert_eq!(count(&kit).await, n + 1, "one row");
        assert_eq!(count(&other).await, n + 1);
        let repeats = evidence::list(&kit.app.db, id, 1_000).await.unwrap().len();
        assert_eq!(repeats, 63 * (n + 1), "each that was turned away is evidence");
    }
    assert_eq!(audit::verify(&kit.app.db).await.unwrap(), []);
}

#[tokio::test]
async fn a_duplicate_is_one_by_the_reporters_clock_and_by_ours() {
    let (kit, _, _) = with_host().await;
    let guest = Uuid::new_v4().to_string();
    let at = |time: &str| {
        let mut body = guest_down("cmp-01", &guest);
        body["notification"]["generated_time"] = json!(time);
        body
    };
    kit.report(&at("2026-11-21T10:00:00")).await.expect(202);
    // By the reporter's clock: up to 180 s after, and however long before.
    kit.report(&at("2026-11-21T10:03:00")).await.expect(409);
    kit.report(&at("2020-01-01T00:00:00")).await.expect(409);
    kit.report(&at("2026-11-21T10:03:01")).await.expect(202);
    // A monitor with a wrong clock does not silence the host for ever: what was received long ago is no duplicate (W29).
    let now = kit.app.now();
    let host = halberd_store::hosts::by_name(&kit.app.db, "cmp-01").await.unwrap().unwrap();
    let mut ahead = notifications::list(&kit.app.db, &Default::default(), &Page::default())
        .await
        .unwrap()
        .remove(0)
        .value;
    (ahead.id, ahead.generated_at.0) = (NotificationId(Uuid::new_v4()), now.0 + 86_400_000_000);
    ahead.payload.insert("event".to_owned(), "QEMU_GUEST_AGENT_ERROR".to_owned());
    let received = |seconds: i64| halberd_core::time::Stamp(now.0 + seconds * 1_000_000);
    let receive = async |report: &halberd_core::notification::Notification, at: i64| {
        let window = std::time::Duration::from_secs(180);
        let outcome = halberd_store::write(&kit.app.db, async |tx| {
            notifications::receive(tx, report, window, received(at)).await
        });
        matches!(outcome.await.unwrap(), notifications::Received::Accepted(_))
    };
    assert_eq!(ahead.host, host.id);
    assert!(receive(&ahead, -200).await, "a day ahead of time");
    let mut again = ahead.clone();
    (again.id, again.generated_at) = (NotificationId(Uuid::new_v4()), now);
    assert!(!receive(&again, -21).await, "within 180 s of it by our clock");
    assert!(
        receive(&again, -19).await,
        "and after them accepted, though the reporter's clock would say otherwise"
    );
}

#[tokio::test]
async fn a_full_disk_is_503_and_what_was_acknowledged_is_there() {
    let config = halberd_api::ApiConfig { auth: halberd_api::AuthMode::None, ..Default::default() };
    let kit = kit_with(config, Options { max_pages: Some(150), ..Options::new(Access::Exclusive) }).await;
    let segment = kit.segment("a").await;
    kit.host(&segment, "cmp-01").await;
    let mut accepted = Vec::new();
    let refused = loop {
        assert!(accepted.len() < 2_000, "the limit was never met");
        let answer = kit.report(&guest_down("cmp-01", &Uuid::new_v4().to_string())).await;
        if answer.status != 202 {
            break answer;
        }
        accepted.push(answer.json()["notification"]["notification_uuid"].as_str().unwrap().to_owned());
    };
    let refused = refused.expect(503);
    assert_eq!((refused.key().as_str(), refused.header("retry-after")), ("serviceUnavailable", Some("5")));
    assert!(!refused.text.to_lowercase().contains("sqlite"), "{}", refused.text);
    assert!(!accepted.is_empty());
    for id in &accepted {
        kit.get(&format!("/v1/notifications/{id}")).await.expect(200);
    }
    assert_eq!(count(&kit).await, accepted.len());
    assert_eq!(audit::verify(&kit.app.db).await.unwrap(), []);
}

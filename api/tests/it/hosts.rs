//! Hosts from creation to deletion, Nova's word on them, and maintenance (contract 1.11, DESIGN 10.9).

use halberd_core::host::Admission;
use halberd_core::id::{HostId, RecoveryId};
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{Body, Subject};
use halberd_core::runner::HostPatch;
use halberd_core::time::Stamp;
use halberd_store::recoveries::{self, Opening};
use halberd_store::{hosts, wishes, write};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{Kit, host_down, kit};
use crate::vmoves::recovery_of;

fn create(name: &str) -> Value {
    json!({ "host": { "name": name, "type": "COMPUTE", "control_attributes": "SSH" } })
}

#[tokio::test]
async fn a_hosts_life() {
    let kit = kit().await;
    let (segment, other) = (kit.segment("a").await, kit.segment("b").await);
    let list = format!("/v1/segments/{segment}/hosts");
    let mut body = create("cmp-01");
    body["host"]["reserved"] = json!("True");
    let made = kit.call("POST", &list, &body).await.expect(201).json();
    let made = &made["host"];
    assert_eq!(made["failover_segment_id"], segment.as_str());
    assert_eq!(made["failover_segment"]["name"], "a");
    assert_eq!((&made["reserved"], &made["on_maintenance"]), (&json!(true), &json!(false)));
    let uuid = made["uuid"].as_str().unwrap();
    let place = format!("{list}/{uuid}");
    assert_eq!(kit.get(&place).await.expect(200).json()["host"], *made);

    // A wrong pair is not found, for any verb.
    let wrong = format!("/v1/segments/{other}/hosts/{uuid}");
    let edit = json!({ "host": { "type": "KVM" } });
    kit.get(&wrong).await.expect(404);
    kit.call("PUT", &wrong, &edit).await.expect(404);
    kit.call("DELETE", &wrong, &Value::Null).await.expect(404);
    // A name is unique over all segments.
    kit.call("POST", &format!("/v1/segments/{other}/hosts"), &create("cmp-01")).await.expect(409);
    kit.host(&other, "cmp-02").await;
    kit.call("PUT", &place, &json!({ "host": { "name": "cmp-02" } })).await.expect(409);
    kit.call("PUT", &place, &json!({ "host": { "name": "unheard-of" } })).await.expect(400);
    kit.call("PUT", &place, &json!({ "host": { "failover_segment_id": other } })).await.expect(400);
    let edited = kit
        .call("PUT", &place, &json!({ "host": { "name": "cmp-03", "type": "" } }))
        .await
        .expect(200)
        .json();
    assert_eq!((&edited["host"]["name"], &edited["host"]["type"]), (&json!("cmp-03"), &json!("")));

    assert_eq!(kit.call("DELETE", &place, &Value::Null).await.status, 204);
    kit.get(&place).await.expect(404);
    kit.call("POST", &list, &create("cmp-03")).await.expect(201);
}

#[tokio::test]
async fn create_checks_in_the_contracts_order() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let list = format!("/v1/segments/{segment}/hosts");
    let nowhere = format!("/v1/segments/{}/hosts", Uuid::new_v4());
    kit.call("POST", &nowhere, &json!({ "host": {} })).await.expect(400);
    kit.call("POST", &nowhere, &create("unheard-of")).await.expect(404);
    assert_eq!(kit.cloud.world().nova_saw.len(), 0, "Nova is asked about hosts of segments that exist");
    kit.call("POST", &list, &create("unheard-of")).await.expect(400);
    kit.call("POST", &list, &create("CMP-01")).await.expect(400);
    kit.call("POST", &list, &create("cmp-01")).await.expect(201);
    // Nova's trouble is neither the client's fault nor a conflict.
    for (nova, status, key) in
        [(403, 403, "forbidden"), (500, 503, "serviceUnavailable"), (503, 503, "serviceUnavailable")]
    {
        kit.cloud.world().nova_fails = Some(nova);
        let answer = kit.call("POST", &list, &create("cmp-02")).await.expect(status);
        assert_eq!(answer.key(), key);
    }
    assert_eq!(kit.get(&list).await.json()["hosts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_callers_request_id_reaches_nova() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let id = format!("req-{}", Uuid::new_v4());
    let headers = [("x-openstack-request-id", id.as_str())];
    let answer = kit
        .ask("POST", &format!("/v1/segments/{segment}/hosts"), &headers, create("cmp-01").to_string())
        .await
        .expect(201);
    assert_ne!(answer.header("x-openstack-request-id"), Some(id.as_str()), "it is not echoed");
    assert_eq!(kit.cloud.world().nova_saw, [id]);
}

#[tokio::test]
async fn without_openstack_a_host_is_503_and_says_which_section() {
    let kit = kit().await;
    let app = halberd_api::App::new(halberd_api::Parts {
        config: kit.app.config.clone(),
        db: kit.app.db.clone(),
        sealer: kit.app.sealer.clone(),
        keystone: None,
        nova: None,
        nudge: kit.app.nudge.clone(),
        webhooks: Vec::new(),
    })
    .unwrap();
    let kit = Kit { router: halberd_api::router(app.clone()), app, ..kit };
    let segment = kit.segment("a").await;
    let answer =
        kit.call("POST", &format!("/v1/segments/{segment}/hosts"), &create("cmp-01")).await.expect(503);
    assert!(answer.text.contains("[openstack]") && answer.header("retry-after").is_some(), "{}", answer.text);
}

#[tokio::test]
async fn under_recovery_holds_that_host_and_no_other() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let place = async |name| format!("/v1/segments/{segment}/hosts/{}", kit.host(&segment, name).await);
    let (one, two) = (place("cmp-01").await, place("cmp-02").await);
    kit.report(&host_down("cmp-01")).await.expect(202);
    let edit = json!({ "host": { "on_maintenance": true } });
    kit.call("PUT", &one, &edit).await.expect(409);
    kit.call("DELETE", &one, &Value::Null).await.expect(409);
    kit.call("PUT", &two, &edit).await.expect(200);
    assert_eq!(kit.call("DELETE", &two, &Value::Null).await.status, 204);
}

#[tokio::test]
async fn maintenance_is_the_operators_to_set_and_clearing_clears_all() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let uuid = kit.host(&segment, "cmp-01").await;
    let id: HostId = uuid.parse().unwrap();
    let place = format!("/v1/segments/{segment}/hosts/{uuid}");
    let maintain = async |on: Value| {
        let body = json!({ "host": { "on_maintenance": on } });
        kit.call("PUT", &place, &body).await.expect(200).json()["host"]["on_maintenance"].clone()
    };
    let stored = async || hosts::get(&kit.app.db, id).await.unwrap().value.maintenance;
    assert_eq!(maintain(json!("True")).await, true);
    assert!(stored().await.operator && !stored().await.recovery);
    let patch = HostPatch {
        maintenance_recovery: Some(true),
        maintenance_process: Some(true),
        ..HostPatch::default()
    };
    write(&kit.app.db, async |tx| hosts::patch(tx, id, &patch, Stamp(1)).await).await.unwrap();
    assert_eq!(maintain(json!(false)).await, false);
    assert!(!stored().await.any());
    assert_eq!(wishes::list(&kit.app.db, 10).await.unwrap(), [], "a host that is in is not wished back");
}

#[tokio::test]
async fn clearing_maintenance_of_a_host_that_is_out_is_a_wish() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let uuid = kit.host(&segment, "cmp-01").await;
    let id: HostId = uuid.parse().unwrap();
    let place = format!("/v1/segments/{segment}/hosts/{uuid}");
    let made = kit.report(&host_down("cmp-01")).await.expect(202).json();
    let note: Uuid = made["notification"]["notification_uuid"].as_str().unwrap().parse().unwrap();
    let clear = json!({ "host": { "name": "cmp-01", "type": "COMPUTE", "control_attributes": "SSH", "on_maintenance": "False" } });
    let out = HostPatch {
        admission: Some(Admission::Out),
        maintenance_recovery: Some(true),
        ..HostPatch::default()
    };
    write(&kit.app.db, async |tx| hosts::patch(tx, id, &out, Stamp(1)).await).await.unwrap();
    // The failure itself is not settled: nothing is to be cleared yet.
    kit.call("PUT", &place, &clear).await.expect(409);

    // Settled: only the host's way back is open.
    let mut back = recovery_of(note.into(), id, segment.parse().unwrap());
    back.subject = Subject::Return { host: id };
    back.id = RecoveryId(Uuid::new_v4());
    back.body = Body::Process(ProcessRecovery { state: ProcessState::Confirming });
    write(&kit.app.db, async |tx| {
        let opening = Opening { recovery: &back, report: None, audit: &[], events: &[], webhooks: &[] };
        recoveries::open(tx, &opening, Stamp(2)).await?;
        let (running, finished) = (
            halberd_core::notification::NotificationStatus::Running,
            halberd_core::notification::NotificationStatus::Finished,
        );
        halberd_store::notifications::settle(tx, note.into(), running, finished, None, Stamp(2)).await
    })
    .await
    .unwrap();
    // By its name what was set in Nova will be undone.
    kit.call("PUT", &place, &json!({ "host": { "on_maintenance": false, "name": "cmp-02" } }))
        .await
        .expect(409);
    assert_eq!(wishes::list(&kit.app.db, 10).await.unwrap(), []);
    let answer = kit.call("PUT", &place, &clear).await.expect(200).json();
    assert_eq!(answer["host"]["on_maintenance"], false);
    let made = wishes::list(&kit.app.db, 10).await.unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].wish.kind.as_str(), made[0].wish.subject.as_str()), ("readmit", uuid.as_str()));
    let host = hosts::get(&kit.app.db, id).await.unwrap().value;
    assert_eq!(host.admission, Admission::Out, "the API moves nothing itself");
}

#[tokio::test]
async fn edits_wake_the_engine_of_this_process() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    kit.app.nudge.notified().await;
    kit.host(&segment, "cmp-01").await;
    kit.app.nudge.notified().await;
    kit.report(&host_down("cmp-01")).await.expect(202);
    kit.app.nudge.notified().await;
}

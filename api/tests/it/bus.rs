//! What the API tells the message bus (contract 3.9): each change once, each refusal with its fault, and nothing where no bus is configured.

use halberd_core::bus::Priority;
use halberd_core::time::Stamp;
use halberd_store::bus::{self, Speaker, Waiting};
use halberd_store::write;
use serde_json::{Value, json};
use std::time::Duration;

use crate::kit::{Kit, guest_down, host_down, kit};

/// Takes what was told so far.
async fn told(kit: &Kit) -> Vec<Waiting> {
    let db = &kit.app.db;
    write(db, async |tx| {
        let claimed = bus::claim(tx, 1000, Duration::ZERO, Stamp(0)).await?;
        bus::confirmed(tx, &claimed).await?;
        Ok(claimed)
    })
    .await
    .unwrap()
}

async fn types(kit: &Kit) -> Vec<String> {
    told(kit).await.into_iter().map(|message| message.event_type).collect()
}

fn fault(message: &Waiting) -> &Value {
    &message.payload["masakari_object.data"]["fault"]["masakari_object.data"]
}

/// The refusal told last: its operation and exception.
async fn refusal(kit: &Kit) -> (String, String) {
    let told = told(kit).await;
    let [start, error] = told.as_slice() else { panic!("{told:?}") };
    let operation = error.event_type.strip_suffix(".error").expect("an error");
    assert_eq!(start.event_type, format!("{operation}.start"));
    assert_eq!((start.priority, error.priority), (Priority::Info, Priority::Error));
    assert_eq!((&fault(start)["exception"], &fault(error)["traceback"]), (&Value::Null, &json!("")));
    (operation.to_owned(), fault(error)["exception"].as_str().unwrap().to_owned())
}

fn pair(operation: &str, exception: &str) -> (String, String) {
    (operation.to_owned(), exception.to_owned())
}

#[tokio::test]
async fn changes_and_refusals_are_told() {
    let kit = kit().await;
    kit.app.db.speak_on_bus(Speaker { host: "ctl-1".into(), keep: 1000 });
    let segment = kit.segment("a").await;
    let other = kit.segment("b").await;
    let host = kit.host(&segment, "cmp-01").await;
    let made = told(&kit).await;
    let wanted = [
        "segment.create.start",
        "segment.create.end",
        "segment.create.start",
        "segment.create.end",
        "host.create.start",
        "host.create.end",
    ];
    assert_eq!(made.iter().map(|message| message.event_type.as_str()).collect::<Vec<_>>(), wanted);
    assert_eq!(made[1].payload["masakari_object.data"]["uuid"], *segment);
    assert!(made.iter().all(|message| message.publisher == "masakari-api:ctl-1"));

    let (segment, other) = (format!("/v1/segments/{segment}"), format!("/v1/segments/{other}"));
    let host = format!("{segment}/hosts/{host}");
    let body = json!({ "segment": { "name": "a", "recovery_method": "auto", "service_type": "COMPUTE" } });
    kit.call("POST", "/v1/segments", &body).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("segment.create", "FailoverSegmentExists"));
    kit.call("PUT", &other, &json!({ "segment": { "name": "a" } })).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("segment.update", "FailoverSegmentExists"));
    let body = json!({ "host": { "name": "cmp-01", "type": "COMPUTE", "control_attributes": "SSH" } });
    kit.call("POST", &format!("{other}/hosts"), &body).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("host.create", "HostExists"));

    // Under recovery: the report is open.
    kit.report(&host_down("cmp-01")).await.expect(202);
    assert_eq!(types(&kit).await, ["notification.create.start", "notification.create.end"]);
    kit.report(&host_down("cmp-01")).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("notification.create", "DuplicateNotification"));
    kit.call("PUT", &host, &json!({ "host": { "reserved": true } })).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("host.update", "HostInUse"));
    kit.call("DELETE", &host, &Value::Null).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("host.delete", "HostInUse"));
    kit.call("DELETE", &segment, &Value::Null).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("segment.delete", "FailoverSegmentInUse"));

    // What was never begun is not told: unknown, unreadable.
    kit.call("DELETE", "/v1/segments/0b1d3a66-2b0f-4a5c-9c5a-000000000000", &Value::Null).await.expect(404);
    kit.call("POST", "/v1/segments", &json!({ "segment": {} })).await.expect(400);
    assert_eq!(types(&kit).await, Vec::<String>::new());
    kit.call("PUT", &other, &json!({ "segment": { "name": "c" } })).await.expect(200);
    kit.call("DELETE", &other, &Value::Null).await.expect(204);
    let wanted = ["segment.update.start", "segment.update.end", "segment.delete.start", "segment.delete.end"];
    assert_eq!(types(&kit).await, wanted);
}

#[tokio::test]
async fn a_host_on_maintenance_is_told_and_so_is_a_report_about_it() {
    let kit = kit().await;
    kit.app.db.speak_on_bus(Speaker { host: "ctl-1".into(), keep: 1000 });
    let segment = kit.segment("a").await;
    let host = kit.host(&segment, "cmp-02").await;
    told(&kit).await;
    let body = json!({ "host": { "on_maintenance": true } });
    kit.call("PUT", &format!("/v1/segments/{segment}/hosts/{host}"), &body).await.expect(200);
    let changed = told(&kit).await;
    assert_eq!(changed.len(), 2);
    assert_eq!(changed[1].payload["masakari_object.data"]["on_maintenance"], true);
    kit.report(&guest_down("cmp-02", "6e5a9c4e-3f0b-4d8a-9d7c-111111111111")).await.expect(409);
    assert_eq!(refusal(&kit).await, pair("notification.create", "HostOnMaintenanceError"));
}

#[tokio::test]
async fn without_a_bus_nothing_waits() {
    let kit = kit().await;
    kit.segment("a").await;
    let body = json!({ "segment": { "name": "a", "recovery_method": "auto", "service_type": "COMPUTE" } });
    kit.call("POST", "/v1/segments", &body).await.expect(409);
    assert_eq!(bus::waiting(&kit.app.db).await.unwrap(), 0);
}

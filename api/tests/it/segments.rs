//! Segments from creation to deletion (contract 1.10).

use serde_json::{Value, json};

use crate::kit::{host_down, kit};

#[tokio::test]
async fn a_segments_life() {
    let kit = kit().await;
    let body = json!({ "segment": { "name": "a", "recovery_method": "rh_priority", "service_type": "compute",
        "description": "line\none", "enabled": "No" } });
    let made = kit.call("POST", "/v1/segments", &body).await.expect(201).json();
    let made = &made["segment"];
    let keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    let want = [
        "created_at",
        "deleted",
        "deleted_at",
        "description",
        "enabled",
        "id",
        "name",
        "recovery_method",
        "service_type",
        "updated_at",
        "uuid",
    ];
    assert_eq!(keys, want);
    assert_eq!(made["enabled"], false);
    assert_eq!((&made["updated_at"], &made["deleted"]), (&Value::Null, &json!(false)));
    let created = made["created_at"].as_str().unwrap();
    assert!(created.len() == 26 && created.as_bytes()[10] == b'T' && !created.ends_with('Z'), "{created}");
    let place = format!("/v1/segments/{}", made["uuid"].as_str().unwrap());
    assert_eq!(kit.get(&place).await.expect(200).json()["segment"], *made);

    // Its own name, as the dashboard sends it, is no conflict; another's is.
    kit.segment("b").await;
    let rename = |name: &str| json!({ "segment": { "name": name, "enabled": true, "description": null } });
    let same = kit.call("PUT", &place, &rename("a")).await.expect(200).json();
    assert_eq!((&same["segment"]["enabled"], &same["segment"]["description"]), (&json!(true), &Value::Null));
    assert!(same["segment"]["updated_at"].is_string());
    kit.call("PUT", &place, &rename("b")).await.expect(409);
    assert_eq!(kit.call("POST", "/v1/segments", &body).await.expect(409).key(), "conflictingRequest");

    let gone = kit.call("DELETE", &place, &Value::Null).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    for method in ["GET", "DELETE"] {
        kit.call(method, &place, &Value::Null).await.expect(404);
    }
    kit.call("PUT", &place, &rename("a")).await.expect(404);
    kit.call("POST", "/v1/segments", &body).await.expect(201);
}

#[tokio::test]
async fn schema_by_microversion() {
    let kit = kit().await;
    let with_enabled = json!({ "segment": { "name": "a", "recovery_method": "auto", "service_type": "c", "enabled": true } });
    for (version, status) in [("1.0", 400), ("1.1", 400), ("1.2", 201)] {
        let header = format!("instance-ha {version}");
        let headers = [("openstack-api-version", header.as_str())];
        let answer = kit.ask("POST", "/v1/segments", &headers, with_enabled.to_string()).await.expect(status);
        assert_eq!(answer.key(), if status == 400 { "badRequest" } else { "segment" });
    }
}

#[tokio::test]
async fn a_recovery_holds_disabling_and_deletion_and_no_other_edit() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    kit.host(&segment, "cmp-01").await;
    kit.report(&host_down("cmp-01")).await.expect(202);
    let place = format!("/v1/segments/{segment}");
    kit.call("DELETE", &place, &Value::Null).await.expect(409);
    kit.call("PUT", &place, &json!({ "segment": { "enabled": false } })).await.expect(409);
    kit.call("PUT", &place, &json!({ "segment": { "description": "d", "enabled": true } })).await.expect(200);
    kit.host(&segment, "cmp-02").await;
}

//! Lists: limits, markers, order, filters (contract 1.7), and a walk as the SDK does it.

use serde_json::{Value, json};

use crate::kit::{Kit, guest_down, host_down, kit, kit_with};

async fn names(kit: &Kit, path: &str, key: &str, field: &str) -> String {
    let listed = kit.get(path).await.expect(200).json();
    let rows = listed[key].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
    assert_eq!(listed.as_object().unwrap().len(), 1, "no links: {listed}");
    rows.iter()
        .map(|row| row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned))
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn pages_go_by_the_numeric_id() {
    let kit = kit().await;
    for name in ["c", "a", "d", "b"] {
        kit.segment(name).await;
    }
    let list = async |query: &str| names(&kit, &format!("/v1/segments{query}"), "segments", "name").await;
    assert_eq!(list("").await, "b d a c", "newest first");
    assert_eq!(list("?sort_key=name&sort_dir=asc").await, "a b c d");
    assert_eq!(list("?sort_key=name").await, "d c b a");
    assert_eq!(list("?sort_key=service_type&sort_key=name&sort_dir=desc&sort_dir=asc").await, "a b c d");
    assert_eq!(list("?limit=0").await, "");
    assert_eq!(list("?limit=2&unknown=x&page_size=3").await, "b d");
    // The walk of the SDK: the last id, until a page is short.
    for order in ["", "&sort_key=name&sort_dir=asc", "&sort_key=recovery_method&sort_dir=asc"] {
        let whole = list(&format!("?x{order}")).await;
        let (mut walked, mut marker) = (Vec::new(), String::new());
        loop {
            let listed = kit.get(&format!("/v1/segments?limit=1{marker}{order}")).await.expect(200).json();
            let Some(row) = listed["segments"].get(0).cloned() else { break };
            walked.push(row["name"].as_str().unwrap().to_owned());
            marker = format!("&marker={}", row["id"]);
        }
        assert_eq!(walked.join(" "), whole, "{order}");
    }
    // A uuid marks as well, beyond the original.
    let first = kit.get("/v1/segments?limit=1").await.json()["segments"][0]["uuid"].clone();
    assert_eq!(list(&format!("?marker={}", first.as_str().unwrap())).await, "d a c");
}

#[tokio::test]
async fn queries_that_break_the_rules_are_400() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let bad = [
        "limit=-1",
        "limit=x",
        "limit=",
        "page_size=x",
        "marker=",
        "marker=x",
        "marker=99999",
        "marker=00000000-0000-4000-8000-000000000000",
        "sort_dir=up",
        "sort_dir=asc&sort_dir=asc",
        "sort_key=nothing",
        "sort_key=name,id",
        "sort_key=hosts",
        "sort_key=failover_segment",
        "limit=0&marker=x",
    ];
    for list in
        ["/v1/segments".to_owned(), format!("/v1/segments/{segment}/hosts"), "/v1/notifications".to_owned()]
    {
        for query in bad {
            let answer = kit.get(&format!("{list}?{query}")).await;
            assert_eq!(
                (answer.status, answer.key().as_str()),
                (400, "badRequest"),
                "{list}?{query}: {}",
                answer.text
            );
        }
    }
    kit.get("/v1/segments?enabled=maybe").await.expect(400);
    kit.get(&format!("/v1/segments/{segment}/hosts?reserved=maybe")).await.expect(400);
    kit.get("/v1/notifications?generated-since=yesterday").await.expect(400);
    kit.get("/v1/notifications?sort_key=uuid").await.expect(400);
    kit.get("/v1/segments?limit=99999999999999999999").await.expect(200);
}

#[tokio::test]
async fn the_limit_is_capped() {
    let config =
        halberd_api::ApiConfig { auth: halberd_api::AuthMode::None, max_limit: 2, ..Default::default() };
    let kit = kit_with(config, halberd_store::db::Options::new(halberd_store::Access::Exclusive)).await;
    for name in ["a", "b", "c"] {
        kit.segment(name).await;
    }
    for query in ["", "?limit=1000"] {
        assert_eq!(names(&kit, &format!("/v1/segments{query}"), "segments", "name").await, "c b");
    }
}

#[tokio::test]
async fn filters_of_segments_and_hosts() {
    let kit = kit().await;
    let off = json!({ "segment": { "name": "off", "recovery_method": "reserved_host", "service_type": "other", "enabled": false } });
    kit.call("POST", "/v1/segments", &off).await.expect(201);
    let segment = kit.segment("on").await;
    let list = async |query: &str| names(&kit, &format!("/v1/segments?{query}"), "segments", "name").await;
    for yes in ["True", "true", "1", "Yes"] {
        assert_eq!(list(&format!("enabled={yes}")).await, "on", "{yes}");
    }
    assert_eq!(list("enabled=False").await, "off");
    assert_eq!(list("recovery_method=reserved_host").await, "off");
    assert_eq!(list("recovery_method=bogus").await, "");
    assert_eq!(list("service_type=COMPUTE").await, "on");
    assert_eq!(list("name=off").await, "off");
    assert_eq!(list("name=off&enabled=1").await, "");
    assert_eq!(list("name=off&limit=0").await, "");
    assert_eq!(list("name=nobody").await, "");

    kit.host(&segment, "cmp-01").await;
    let body = json!({ "host": { "name": "cmp-02", "type": "KVM", "control_attributes": "x", "reserved": "on", "on_maintenance": true } });
    kit.call("POST", &format!("/v1/segments/{segment}/hosts"), &body).await.expect(201);
    let list = async |query: &str| {
        names(&kit, &format!("/v1/segments/{segment}/hosts?{query}"), "hosts", "name").await
    };
    assert_eq!(list("").await, "cmp-02 cmp-01");
    assert_eq!(list("type=KVM").await, "cmp-02");
    assert_eq!(list("reserved=t").await, "cmp-02");
    assert_eq!(list("on_maintenance=no").await, "cmp-01");
    assert_eq!(list("name=cmp-01").await, "cmp-01");
    assert_eq!(list("name=cmp-01&type=KVM").await, "");
    assert_eq!(list("name=cmp-09").await, "");
    assert_eq!(list("failover_segment_id=bogus&sort_key=on_maintenance&sort_dir=asc").await, "cmp-01 cmp-02");
    kit.get(&format!("/v1/segments/{segment}/hosts?name=cmp-01&marker=99999")).await.expect(400);
    kit.get(&format!("/v1/segments/{segment}/hosts?name=cmp-09&marker=99999")).await.expect(400);
    kit.get("/v1/segments?name=on&marker=99999").await.expect(400);
}

#[tokio::test]
async fn filters_of_notifications() {
    let kit = kit().await;
    let segment = kit.segment("a").await;
    let host = kit.host(&segment, "cmp-01").await;
    kit.host(&segment, "cmp-02").await;
    kit.report(&host_down("cmp-01")).await.expect(202);
    let mut later = guest_down("cmp-02", "5f0e1c1e-3b0a-4b6e-9a3e-0f4f5c6d7e8f");
    later["notification"]["generated_time"] = json!("2026-11-21T13:00:00+01:00");
    kit.report(&later).await.expect(202);
    let list =
        async |query: &str| names(&kit, &format!("/v1/notifications?{query}"), "notifications", "type").await;
    assert_eq!(list("").await, "VM COMPUTE_HOST");
    assert_eq!(list("type=VM").await, "VM");
    assert_eq!(list("type=bogus").await, "");
    assert_eq!(list("status=new&sort_dir=asc").await, "COMPUTE_HOST VM");
    assert_eq!(list("status=finished").await, "");
    assert_eq!(list(&format!("source_host_uuid={host}")).await, "COMPUTE_HOST");
    assert_eq!(list("source_host_uuid=bogus").await, "");
    assert_eq!(list("generated-since=2026-11-21T12:00:00").await, "VM");
    assert_eq!(list("generated-since=2026-11-21T12:00:01Z").await, "");
    assert_eq!(list("generated_since=2099-01-01").await, "VM COMPUTE_HOST", "another spelling is ignored");
    let listed = kit.get("/v1/notifications").await.json();
    assert_eq!(listed["notifications"][0]["recovery_workflow_details"], Value::Null);
}

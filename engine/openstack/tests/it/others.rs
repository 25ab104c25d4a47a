//! Placement, and our own API as the CLI sees it.

use halberd_openstack::{Error, InstanceHa, OpenstackConfig, Timeouts};
use serde_json::{Value, json};

use crate::cloud::{Cloud, Fault};

#[tokio::test]
async fn placement_reads() {
    let cloud = Cloud::start().await;
    let placement = cloud.client().await.placement();
    let provider = placement.provider("cmp-01").await.unwrap().unwrap();
    assert_eq!(provider.uuid, "rp1");
    assert_eq!(placement.inventories("rp1").await.unwrap()["VCPU"].capacity(), 32);
    assert_eq!(placement.usages("rp1").await.unwrap()["VCPU"], 13);
    assert_eq!(placement.allocations("s1").await.unwrap()["rp1"].resources["MEMORY_MB"], 1024);
    assert!(placement.allocations("unknown").await.unwrap().is_empty());
    let error = placement.usages("nope").await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound(answer) if answer.message.contains("No resource provider")),
        "{error:?}"
    );
    assert_eq!(cloud.seen("/placement")[0].header("openstack-api-version"), Some("placement 1.28"));
}

#[tokio::test]
async fn our_api_from_the_catalog_with_a_token() {
    let cloud = Cloud::start().await;
    let api = cloud.client().await.instance_ha();
    assert_eq!(api.get("/v1/segments", &[]).await.unwrap()["token"], true);
    let body = json!({"notification": {"type": "VM"}});
    assert_eq!(api.post("v1/notifications", &body).await.unwrap()["notification"], body);
    assert_eq!(api.delete("v1/segments/s1").await.unwrap(), Value::Null);
    assert_eq!(cloud.seen("/v1/segments")[0].header("openstack-api-version"), Some("instance-ha 1.3"));
}

#[tokio::test]
async fn our_api_at_an_address_without_a_token() {
    let cloud = Cloud::start().await;
    let config = OpenstackConfig::default();
    let api =
        InstanceHa::without_token(&format!("{}/v1", cloud.url), &config, Timeouts::default()).await.unwrap();
    assert_eq!(api.get("v1/segments", &[("limit", "5".into())]).await.unwrap()["token"], false);
    assert_eq!(cloud.seen("/v1/segments")[0].query["limit"], "5");
    let error = api.get("v1/closed", &[]).await.unwrap_err();
    assert!(matches!(&error, Error::Auth { remedy, .. } if remedy.contains("OS_CLOUD")), "{error:?}");
    assert_eq!(cloud.world().issued, 0);
}

#[tokio::test]
async fn our_apis_errors_of_both_kinds() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    let api = openstack.instance_ha_at(&cloud.url).unwrap();
    let error = api.get("v1/hosts", &[]).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused(answer) if answer.status == 400 && answer.code.as_deref() == Some("badRequest")),
        "{error:?}"
    );
    let error = api.put("halberd/v1/policy", &json!({})).await.unwrap_err();
    let Error::Conflict(answer) = error else { panic!("{error:?}") };
    assert_eq!((answer.code.as_deref(), answer.message.as_str()), (Some("urn:halberd:held"), "G2 holds it"));
    assert_eq!(answer.body.unwrap()["brake"], "G2", "a problem's own members stay readable");
}

/// The catalog with ironic in it; `path` as clouds have it, with the version or without.
fn with_ironic(cloud: &Cloud, path: &str) {
    let url = format!("{}{path}", cloud.url);
    let endpoint =
        json!({"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": url});
    let entry = json!({"type": "baremetal", "name": "ironic", "endpoints": [endpoint]});
    if let Value::Array(entries) = &mut cloud.world().catalog {
        entries.push(entry);
    }
}

#[tokio::test]
async fn a_cloud_without_ironic_owns_no_machine() {
    let cloud = Cloud::start().await;
    assert_eq!(cloud.client().await.ironic().nodes().await.unwrap(), []);
    assert!(cloud.seen("/baremetal").is_empty() && cloud.seen("/v1/nodes").is_empty());
}

#[tokio::test]
async fn ironics_nodes_come_in_pages_and_a_refusal_says_so() {
    for path in ["/baremetal", "/baremetal/v1/"] {
        let cloud = Cloud::start().await;
        with_ironic(&cloud, path);
        let answer = |body| Fault::Answer(200, "application/json", body, vec![]);
        let first = r#"{"nodes": [{"uuid": "n1", "name": "one"}], "next": "http://wrong.invalid/v1/nodes?marker=n1"}"#;
        cloud.fault("/baremetal/v1/nodes/detail", answer(first));
        cloud.fault(
            "/baremetal/v1/nodes/detail",
            answer(r#"{"nodes": [{"uuid": "n2", "maintenance": true, "driver_info": {"ipmi_address": "10.0.0.2"}}]}"#),
        );
        let ironic = cloud.client().await.ironic();
        let nodes = ironic.nodes().await.unwrap();
        let told: Vec<(&str, bool)> = nodes.iter().map(|node| (node.label(), node.maintenance)).collect();
        assert_eq!(told, [("one", false), ("n2", true)]);
        assert_eq!(nodes[1].addresses(), ["10.0.0.2"]);
        let seen = cloud.seen("/baremetal/v1/nodes/detail");
        assert_eq!(seen[0].query.get("marker"), None);
        assert_eq!(seen[1].query["marker"], "n1");
        assert_eq!(seen[0].header("x-openstack-ironic-api-version"), Some("1.5"));
        // A page that leads nowhere ends rather than turning for ever.
        cloud.fault("/baremetal/v1/nodes/detail", answer(first));
        cloud.fault("/baremetal/v1/nodes/detail", answer(first));
        assert!(matches!(ironic.nodes().await.unwrap_err(), Error::Malformed { .. }));
        let no = r#"{"error_message": {"faultstring": "Access was denied", "faultcode": "Client", "debuginfo": null}}"#;
        cloud.fault("/baremetal/v1/nodes/detail", Fault::Answer(403, "application/json", no, vec![]));
        let error = ironic.nodes().await.unwrap_err();
        assert!(
            matches!(&error, Error::Forbidden(_)) && error.to_string().contains("Access was denied"),
            "{error}"
        );
    }
}

//! Placement, and our own API as the CLI sees it.

use halberd_openstack::{Error, InstanceHa, OpenstackConfig, Timeouts};
use serde_json::{Value, json};

use crate::cloud::Cloud;

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

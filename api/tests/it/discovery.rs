//! Version documents, routes and methods, microversions, health (contract 1.1-1.5, 1.9, 6.3).

use halberd_core::id::EngineId;
use halberd_core::time::Stamp;
use halberd_store::{engines, write};
use serde_json::json;
use uuid::Uuid;

use crate::kit::kit;

const NONE: &str = "";

#[tokio::test]
async fn documents_are_open_and_their_links_lead_back() {
    let kit = kit().await;
    let host = [("host", "ha.example:15868")];
    let list = kit.ask("GET", "/", &host, NONE).await.expect(200);
    assert_eq!(list.json()["versions"][0]["links"][0]["href"], "http://ha.example:15868/v1/");
    assert_eq!(list.header("x-openstack-request-id"), None);
    for path in ["/v1", "/v1/", "/v1/versions/v1.0"] {
        let detail = kit.ask("GET", path, &host, NONE).await.expect(200);
        assert_eq!(detail.json()["version"]["links"][0]["href"], "http://ha.example:15868/v1/", "{path}");
        assert_eq!(detail.json()["version"]["version"], "1.3");
    }
    for path in ["/v2", "/foo/bar"] {
        let choices = kit.ask("GET", path, &host, NONE).await.expect(300);
        let want = format!("http://ha.example:15868/v1{path}");
        assert_eq!(choices.json()["choices"][0]["links"][0]["href"], want);
    }
    let extensions = kit.get("/v1/extensions").await.expect(200).json();
    let aliases: Vec<_> = extensions["extensions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["alias"].as_str().unwrap())
        .collect();
    assert_eq!(aliases, ["extensions", "notifications", "os-hosts", "segments", "versions", "vmoves"]);
    assert_eq!(kit.get("/v1/extensions/segments").await.expect(200).json()["extension"]["alias"], "segments");
    kit.get("/v1/extensions/nope").await.expect(404);
}

#[tokio::test]
async fn every_route_and_method_has_the_contracts_status() {
    let kit = kit().await;
    let segment = kit.segment("s").await;
    let host = kit.host(&segment, "cmp-01").await;
    let made = kit.report(&crate::kit::host_down("cmp-01")).await.expect(202).json();
    let note = made["notification"]["notification_uuid"].as_str().unwrap();
    let table = [
        ("GET", "/v1/segments".to_owned(), 200, "segments"),
        ("GET", "/v1/segments.json".to_owned(), 200, "segments"),
        ("GET", "/v1/segments.xml".to_owned(), 200, "segments"),
        ("GET", format!("/v1/segments/{segment}.json"), 200, "segment"),
        ("GET", "/v1/segments/".to_owned(), 404, "itemNotFound"),
        ("HEAD", "/v1/segments".to_owned(), 404, ""),
        ("PATCH", "/v1/segments".to_owned(), 404, "itemNotFound"),
        ("PUT", "/v1/segments".to_owned(), 404, "itemNotFound"),
        ("DELETE", "/v1/segments".to_owned(), 404, "itemNotFound"),
        ("OPTIONS", "/v1/segments".to_owned(), 200, ""),
        ("GET", "/v1/segments/new".to_owned(), 405, "badMethod"),
        ("POST", format!("/v1/segments/{segment}"), 404, "itemNotFound"),
        ("POST", format!("/v1/segments/{segment}/action"), 405, "badMethod"),
        ("GET", format!("/v1/segments/{segment}/hosts"), 200, "hosts"),
        ("GET", format!("/v1/segments/{segment}/hosts/{host}"), 200, "host"),
        ("PUT", format!("/v1/segments/{segment}/hosts"), 404, "itemNotFound"),
        ("GET", "/v1/notifications".to_owned(), 200, "notifications"),
        ("GET", format!("/v1/notifications/{note}"), 200, "notification"),
        ("PUT", format!("/v1/notifications/{note}"), 405, "badMethod"),
        ("DELETE", format!("/v1/notifications/{note}"), 405, "badMethod"),
        ("PATCH", format!("/v1/notifications/{note}"), 404, "itemNotFound"),
        ("GET", format!("/v1/notifications/{note}/vmoves"), 200, "vmoves"),
        ("POST", format!("/v1/notifications/{note}/vmoves"), 405, "badMethod"),
        ("GET", "/v1/versions".to_owned(), 405, "badMethod"),
        ("GET", "/v1/versions/v9".to_owned(), 404, "itemNotFound"),
        ("GET", "/v1/nothing".to_owned(), 404, "itemNotFound"),
        ("GET", "/v1/0f0f".to_owned(), 404, "itemNotFound"),
        ("GET", "/v1/segments/%ff".to_owned(), 404, "itemNotFound"),
        ("GET", "/v1/segments/not-a-uuid".to_owned(), 404, "itemNotFound"),
        ("GET", format!("/v1/segments/{}", segment.replace('-', "")), 404, "itemNotFound"),
    ];
    for (method, path, status, key) in table {
        let answer = kit.ask(method, &path, &[], NONE).await;
        assert_eq!((answer.status, answer.key().as_str()), (status, key), "{method} {path}: {}", answer.text);
        let id = answer
            .header("x-openstack-request-id")
            .unwrap_or_else(|| panic!("{method} {path}: no request id"));
        assert!(id.starts_with("req-") && id.len() == 40, "{id}");
        assert_eq!(answer.header("openstack-api-version"), Some("instance-ha 1.0"), "{method} {path}");
        assert_eq!(answer.header("vary"), Some("OpenStack-API-Version"), "{method} {path}");
    }
}

#[tokio::test]
async fn every_route_exists_under_a_project_too() {
    let kit = kit().await;
    let segment = kit.segment("s").await;
    let project = "7d9c1e4b0f0a4c5d9d0e6f1a2b3c4d5e";
    let mine = [("x-project-id", project)];
    for path in ["segments", &format!("segments/{segment}/hosts"), "notifications", "extensions"] {
        kit.ask("GET", &format!("/v1/{project}/{path}"), &mine, NONE).await.expect(200);
        let other = kit.ask("GET", &format!("/v1/{project}/{path}"), &[("x-project-id", "0f")], NONE).await;
        assert_eq!((other.status, other.key().as_str()), (400, "badRequest"), "{path}");
        kit.ask("GET", &format!("/v1/{project}/{path}"), &[], NONE).await.expect(400);
    }
    kit.ask("GET", &format!("/v1/{project}"), &mine, NONE).await.expect(404);
    let listed = kit.ask("GET", &format!("/v1/{project}/segments?limit=0"), &mine, NONE).await.expect(200);
    assert_eq!(listed.json(), json!({ "segments": [] }), "the query goes along");
}

#[tokio::test]
async fn microversions_as_asked() {
    let kit = kit().await;
    let table = [
        ("instance-ha 1.2", 200, Some("instance-ha 1.2"), true),
        ("instance-ha latest", 200, Some("instance-ha 1.3"), true),
        ("compute 2.53, instance-ha 1.1", 200, Some("instance-ha 1.1"), true),
        ("masakari 1.3", 200, Some("instance-ha 1.0"), true),
        ("instance-ha 1.4", 406, None, true),
        ("instance-ha 2.0", 406, None, true),
        ("instance-ha 1", 400, None, false),
        ("instance-ha x.y", 400, None, false),
    ];
    for (asked, status, version, vary) in table {
        let answer = kit.ask("GET", "/v1/segments", &[("openstack-api-version", asked)], NONE).await;
        assert_eq!(answer.status, status, "{asked}: {}", answer.text);
        assert_eq!(answer.header("openstack-api-version"), version, "{asked}");
        assert_eq!(answer.header("vary").is_some(), vary, "{asked}");
        if status == 406 {
            assert_eq!(answer.key(), "masakariFault");
        }
    }
}

#[tokio::test]
async fn content_type_follows_accept() {
    let kit = kit().await;
    let vendor = "application/vnd.openstack.masakari+json";
    for (accept, want) in [
        ("application/json", "application/json"),
        ("application/xml", "application/json"),
        ("*/*", "application/json"),
        (vendor, vendor),
    ] {
        let answer = kit.ask("GET", "/v1/segments", &[("accept", accept)], NONE).await.expect(200);
        assert_eq!(answer.header("content-type"), Some(want), "{accept}");
    }
    let fault = kit.get("/v1/nothing").await.expect(404);
    assert_eq!(fault.header("content-type"), Some("application/json; charset=UTF-8"));
}

#[tokio::test]
async fn alive_is_not_ready_until_an_engine_is() {
    let kit = kit().await;
    let live = kit.ask("GET", "/healthcheck", &[], NONE).await;
    assert_eq!((live.status, live.text.as_str()), (200, "OK"));
    let json = kit.ask("GET", "/healthcheck", &[("accept", "application/json")], NONE).await;
    assert_eq!(json.json()["reasons"], json!(["OK"]));
    let ready = kit.ask("GET", "/healthcheck?ready", &[], NONE).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text.contains("engine"), "{}", ready.text);
    let engine = EngineId(Uuid::new_v4());
    write(&kit.app.db, async |tx| {
        engines::register(tx, "one", engine, None, true, &json!({}), Stamp(1)).await
    })
    .await
    .unwrap();
    assert_eq!(kit.ask("GET", "/healthcheck?ready=true", &[], NONE).await.status, 200);
    write(&kit.app.db, async |tx| engines::stop(tx, engine, Stamp(2)).await).await.unwrap();
    assert_eq!(kit.ask("GET", "/healthcheck?ready", &[], NONE).await.status, 503);
    kit.app.db.close().await;
    assert_eq!(kit.ask("GET", "/healthcheck?ready", &[], NONE).await.status, 503);
    assert_eq!(kit.ask("GET", "/healthcheck", &[], NONE).await.status, 200, "alive without a database");
}

#[tokio::test]
async fn our_own_interface_is_mounted_beside_it() {
    let kit = kit().await;
    let document = kit.ask("GET", "/halberd/v1/openapi.json", &[], NONE).await;
    assert_eq!(document.status, 200, "{}", document.text);
    assert!(document.json()["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    assert!(document.header("x-openstack-request-id").is_some());
    let agents = kit.ask("POST", "/halberd/v1/agents/self/reports", &[], NONE).await;
    assert!(agents.status != 404 && agents.status != 300, "{}", agents.status);
}

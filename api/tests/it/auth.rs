//! Who may what, with Keystone and without (contract 1.4 and 1.14, DESIGN 10.10, SAFETY S6 and S7).

use axum::body::Body;
use halberd_api::ApiConfig;
use halberd_store::Access;
use halberd_store::db::Options;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{Answer, Kit, kit, kit_with};

const OPERATORS: &str = "0f0f";
const TENANT: &str = "1a1a";

async fn with_keystone() -> Kit {
    let config = ApiConfig {
        operator_projects: vec![OPERATORS.to_owned()],
        www_authenticate_uri: Some("https://keystone.example/v3".to_owned()),
        ..ApiConfig::default()
    };
    let kit = kit_with(config, Options::new(Access::Exclusive)).await;
    kit.cloud.token("t-admin", "admin member", Some(TENANT));
    kit
}

impl Kit {
    async fn by(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let headers = [("x-auth-token", token), ("openstack-api-version", "instance-ha 1.3")];
        let body = if body.is_null() { Body::empty() } else { body.to_string().into() };
        self.ask(method, path, &headers, body).await
    }
}

#[tokio::test]
async fn every_verb_by_every_role() {
    let kit = with_keystone().await;
    for (name, roles, project) in [
        ("t-manager", "manager member reader", Some(TENANT)),
        ("t-member", "member reader", Some(TENANT)),
        ("t-reader", "reader", Some(TENANT)),
        ("t-none", "", Some(TENANT)),
        ("o-manager", "manager member reader", Some(OPERATORS)),
        ("o-member", "member reader", Some(OPERATORS)),
        ("o-reader", "reader", Some(OPERATORS)),
        ("s-reader", "reader", None),
        ("s-admin", "admin", None),
        ("service", "service", Some(TENANT)),
    ] {
        kit.cloud.token(name, roles, project);
    }
    let id = Uuid::new_v4();
    // Schema comes before the role, the thing itself after it: 404 or 400 means the role was enough.
    let reads = [
        ("GET", "/v1/segments".to_owned(), Value::Null),
        ("GET", format!("/v1/segments/{id}"), Value::Null),
        ("GET", format!("/v1/segments/{id}/hosts"), Value::Null),
        ("GET", format!("/v1/segments/{id}/hosts/{id}"), Value::Null),
        ("GET", "/v1/notifications".to_owned(), Value::Null),
        ("GET", format!("/v1/notifications/{id}"), Value::Null),
        ("GET", format!("/v1/notifications/{id}/vmoves"), Value::Null),
        ("GET", format!("/v1/notifications/{id}/vmoves/{id}"), Value::Null),
        ("GET", "/v1/extensions".to_owned(), Value::Null),
        ("GET", "/v1/extensions/nope".to_owned(), Value::Null),
    ];
    let host = json!({ "host": { "name": "x", "type": "K", "control_attributes": "x" } });
    let writes = [
        (
            "POST",
            "/v1/segments".to_owned(),
            json!({ "segment": { "name": "s", "recovery_method": "auto", "service_type": "c" } }),
        ),
        ("PUT", format!("/v1/segments/{id}"), json!({ "segment": { "name": "s" } })),
        ("DELETE", format!("/v1/segments/{id}"), Value::Null),
        ("POST", format!("/v1/segments/{id}/hosts"), host.clone()),
        ("PUT", format!("/v1/segments/{id}/hosts/{id}"), host),
        ("DELETE", format!("/v1/segments/{id}/hosts/{id}"), Value::Null),
    ];
    let reports = [("POST", "/v1/notifications".to_owned(), crate::kit::host_down("nobody"))];
    // (token, may read, may report, may write)
    let table = [
        ("t-admin", true, true, true),
        ("s-admin", true, true, true),
        ("o-manager", true, true, true),
        ("o-member", true, false, false),
        ("o-reader", true, false, false),
        ("s-reader", true, false, false),
        ("service", true, true, false),
        ("t-manager", false, false, false),
        ("t-member", false, false, false),
        ("t-reader", false, false, false),
        ("t-none", false, false, false),
    ];
    for (token, reads_it, reports_it, writes_it) in table {
        let groups = [(&reads[..], reads_it), (&reports[..], reports_it), (&writes[..], writes_it)];
        for (verbs, may) in groups {
            for (method, path, body) in verbs {
                let answer = kit.by(token, method, path, body.clone()).await;
                assert_eq!(
                    answer.status != 403,
                    may,
                    "{token} {method} {path}: {} {}",
                    answer.status,
                    answer.text
                );
                assert!(
                    answer.status != 401 && answer.status < 500,
                    "{token} {method} {path}: {}",
                    answer.text
                );
                if !may {
                    assert_eq!(answer.key(), "forbidden");
                }
            }
        }
    }
    // What is no valid request is 400 for everybody: the role is asked after the schema.
    kit.by("t-none", "POST", "/v1/segments", json!({})).await.expect(400);
}

#[tokio::test]
async fn without_a_valid_token_401() {
    let kit = with_keystone().await;
    kit.cloud.token_of("nobody", "", "admin", Some(TENANT));
    let paths = ["/v1/segments", "/v1/nothing", "/v1/1a1a/segments", "/v1/extensions", "/v1/versions/v1.0"];
    for path in paths {
        for token in [None, Some(""), Some("unknown"), Some("nobody")] {
            let headers: Vec<_> = token.iter().map(|token| ("x-auth-token", *token)).collect();
            let answer = kit.ask("GET", path, &headers, "").await;
            assert_eq!((answer.status, answer.key().as_str()), (401, "error"), "{path} {token:?}");
            assert_eq!(answer.json()["error"]["title"], "Unauthorized");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Keystone uri=\"https://keystone.example/v3\"")
            );
            assert!(answer.header("x-openstack-request-id").is_some());
        }
    }
    for path in ["/", "/v1", "/v1/", "/healthcheck"] {
        kit.ask("GET", path, &[], "").await.expect(200);
    }
    kit.ask("GET", "/v2", &[], "").await.expect(300);
    // Nothing is read of a body before its sender is known.
    assert_eq!(kit.ask("POST", "/v1/notifications", &[], "nonsense").await.status, 401);
}

#[tokio::test]
async fn keystone_away_is_503_and_not_the_callers_fault() {
    let kit = with_keystone().await;
    kit.cloud.world().keystone_fails = Some(503);
    let answer = kit.by("t-admin", "GET", "/v1/segments", Value::Null).await.expect(503);
    assert_eq!(answer.key(), "serviceUnavailable");
    kit.cloud.world().keystone_fails = None;
    kit.by("t-admin", "GET", "/v1/segments", Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_not_believed() {
    let kit = with_keystone().await;
    kit.cloud.token("t-reader", "reader", Some(TENANT));
    let claims = [
        ("x-roles", "admin"),
        ("x-role", "admin"),
        ("x-user-id", "u-0"),
        ("x-user-name", "admin"),
        ("x-project-id", OPERATORS),
        ("x-tenant-id", OPERATORS),
        ("x-identity-status", "Confirmed"),
        ("x-is-admin-project", "True"),
        ("x-domain-id", "default"),
        ("openstack-system-scope", "all"),
        ("x-system-scope", "all"),
        ("x-service-token", "t-admin"),
        ("x-service-roles", "service"),
        ("x-user-domain-name", "Default"),
        ("x_roles", "admin"),
    ];
    for claim in claims {
        let bare = kit.ask("GET", "/v1/segments", &[claim], "").await;
        assert_eq!(bare.status, 401, "{claim:?} without a token");
        let shown = kit.ask("GET", "/v1/segments", &[claim, ("x-auth-token", "t-reader")], "").await;
        assert_eq!(shown.status, 403, "{claim:?} with a tenant's token");
    }
    let all: Vec<_> = claims.into_iter().chain([("x-auth-token", "t-reader")]).collect();
    assert_eq!(
        kit.ask("GET", &format!("/v1/{OPERATORS}/segments"), &all, "").await.status,
        400,
        "the token's project counts"
    );
}

#[tokio::test]
async fn the_project_of_a_path_is_the_tokens() {
    let kit = with_keystone().await;
    kit.by("t-admin", "GET", &format!("/v1/{TENANT}/segments"), Value::Null).await.expect(200);
    let other = kit.by("t-admin", "GET", &format!("/v1/{OPERATORS}/segments"), Value::Null).await.expect(400);
    assert_eq!(other.key(), "badRequest");
}

#[tokio::test]
async fn the_audit_names_who_it_was() {
    let kit = with_keystone().await;
    let body = json!({ "segment": { "name": "s", "recovery_method": "auto", "service_type": "c" } });
    kit.by("t-admin", "POST", "/v1/segments", body).await.expect(201);
    let story = halberd_store::audit::of_chain(&kit.app.db, &kit.app.audit_chain).await.unwrap();
    let entry = &story.last().unwrap().0.entry;
    assert_eq!(
        (entry.what.as_str(), entry.text.as_str()),
        ("segment_created", "name-of-u-1 created segment s")
    );
}

#[tokio::test]
async fn without_keystone_everybody_is_admin() {
    let kit = kit().await;
    kit.ask("GET", "/v1/segments", &[], "").await.expect(200);
    let headers = [("x-user-id", "alice"), ("x-project-id", "0f"), ("x-roles", "reader")];
    let body = json!({ "segment": { "name": "s", "recovery_method": "auto", "service_type": "c" } });
    kit.ask("POST", "/v1/0f/segments", &headers, body.to_string()).await.expect(201);
    let story = halberd_store::audit::of_chain(&kit.app.db, &kit.app.audit_chain).await.unwrap();
    assert_eq!(story.last().unwrap().0.entry.text, "alice created segment s");
}

#[test]
fn keystone_is_needed_where_it_is_asked_for() {
    let config = ApiConfig::default();
    assert_eq!(config.auth, halberd_api::AuthMode::Keystone);
    let open =
        ApiConfig { auth: halberd_api::AuthMode::None, listen: "0.0.0.0:15868".parse().unwrap(), ..config };
    assert!(open.check().unwrap_err().to_string().contains("loopback"));
}

//! Who may what, with Keystone and without (contract 1.4 and 1.14, DESIGN 10.10, SAFETY S6 and S7).

use axum::body::Body;
use halberd_api::ApiConfig;
use halberd_store::Access;
use halberd_store::db::Options;
use serde_json::{Value, json};

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
async fn what_is_no_request_is_400_before_the_role_is_asked() {
    let kit = with_keystone().await;
    kit.cloud.token("t-none", "", Some(TENANT));
    kit.by("t-none", "POST", "/v1/segments", json!({})).await.expect(400);
    assert_eq!(kit.by("t-none", "GET", "/v1/segments", Value::Null).await.expect(403).key(), "forbidden");
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

#[tokio::test]
async fn without_keystone_the_project_of_a_path_is_the_headers() {
    let kit = kit().await;
    // (X-Project-Id, path, status)
    let table = [
        (Some("0f"), "/v1/0f/segments", 200),
        (None, "/v1/segments", 200),
        (Some("0f"), "/v1/segments", 200),
        (Some("1a"), "/v1/0f/segments", 400),
        (Some("0F"), "/v1/0f/segments", 400),
        (Some(""), "/v1/0f/segments", 400),
        (None, "/v1/0f/segments", 400),
    ];
    for (project, path, want) in table {
        let headers: Vec<_> = project.map(|project| ("x-project-id", project)).into_iter().collect();
        let answer = kit.ask("GET", path, &headers, "").await;
        assert_eq!(answer.status, want, "{project:?} {path}: {}", answer.text);
    }
    // A token is nothing there, and no role makes anybody less.
    let headers = [("x-auth-token", "unknown"), ("x-service-token", "unknown"), ("x-roles", "reader")];
    kit.ask("GET", "/v1/segments", &headers, "").await.expect(200);
}

#[tokio::test]
async fn a_clouds_own_project_ids() {
    let config = ApiConfig { project_id_regex: r"[A-Za-z0-9_\-]+".to_owned(), ..ApiConfig::default() };
    let kit = kit_with(config, Options::new(Access::Exclusive)).await;
    kit.cloud.token("t-admin", "admin", Some("My_Project"));
    kit.by("t-admin", "GET", "/v1/My_Project/segments", Value::Null).await.expect(200);
    kit.by("t-admin", "GET", "/v1/segments", Value::Null).await.expect(200);
    kit.by("t-admin", "GET", "/v1/other/segments", Value::Null).await.expect(400);
    kit.by("t-admin", "GET", "/v1/My.Project/segments", Value::Null).await.expect(404);
}

#[test]
fn keystone_is_needed_where_it_is_asked_for() {
    let config = ApiConfig::default();
    assert_eq!(config.auth, halberd_api::AuthMode::Keystone);
    let open =
        ApiConfig { auth: halberd_api::AuthMode::None, listen: "0.0.0.0:15868".parse().unwrap(), ..config };
    assert!(open.check().unwrap_err().to_string().contains("loopback"));
}

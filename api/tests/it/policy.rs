//! A policy file from outside: what it changes, what it leaves, and what stops a start.

use std::path::PathBuf;

use halberd_api::{ApiConfig, AuthMode};
use halberd_store::Access;
use halberd_store::db::Options;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::kit::{Answer, Kit, kit_with};

const TENANT: &str = "1a1a";
const OPERATORS: &str = "0f0f";

fn written(text: &str) -> (NamedTempFile, Option<PathBuf>) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_owned();
    (file, Some(path))
}

async fn with(text: &str) -> Kit {
    let (_file, policy_file) = written(text);
    let config =
        ApiConfig { policy_file, operator_projects: vec![OPERATORS.to_owned()], ..ApiConfig::default() };
    let kit = kit_with(config, Options::new(Access::Exclusive)).await;
    for (name, roles, project) in [
        ("admin", "admin", Some(TENANT)),
        ("ha", "ha_ops", Some(TENANT)),
        ("tenant", "member reader", Some(TENANT)),
        ("op-reader", "reader", Some(OPERATORS)),
        ("op-manager", "manager", Some(OPERATORS)),
        ("sys-reader", "reader", None),
    ] {
        kit.cloud.token(name, roles, project);
    }
    kit
}

impl Kit {
    async fn as_of(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(method, path, &[("x-auth-token", token), ("content-type", "application/json")], body).await
    }
}

#[tokio::test]
async fn a_file_overrides_what_it_names() {
    let kit =
        with("\"os_masakari_api:segments:index\": \"role:ha_ops or (role:reader and system_scope:all)\"\n")
            .await;
    let table = [
        (
            "/v1/segments",
            [("admin", 403), ("ha", 200), ("tenant", 403), ("op-reader", 403), ("sys-reader", 200)],
        ),
        (
            "/v1/notifications",
            [("admin", 200), ("ha", 403), ("tenant", 403), ("op-reader", 200), ("sys-reader", 200)],
        ),
        (
            "/halberd/v1/recoveries",
            [("admin", 200), ("ha", 403), ("tenant", 403), ("op-reader", 200), ("sys-reader", 200)],
        ),
    ];
    for (path, callers) in table {
        for (token, want) in callers {
            let answer = kit.as_of(token, "GET", path, &Value::Null).await;
            assert_eq!(answer.status, want, "{token} {path}: {}", answer.text);
        }
    }
    let refused = kit.as_of("admin", "GET", "/v1/segments", &Value::Null).await.expect(403);
    assert!(refused.text.contains("os_masakari_api:segments:index"), "{}", refused.text);
}

#[tokio::test]
async fn who_is_an_administrator_is_the_files_to_say() {
    let kit = with("context_is_admin: role:ha_ops\n").await;
    let body = json!({ "segment": { "name": "s", "recovery_method": "auto", "service_type": "c" } });
    for (token, want) in [("admin", 403), ("tenant", 403), ("ha", 201)] {
        let answer = kit.as_of(token, "POST", "/v1/segments", &body).await;
        assert_eq!(answer.status, want, "{token}: {}", answer.text);
    }
}

#[tokio::test]
async fn nobody_owns_anything_here() {
    let kit = with("\"os_masakari_api:segments:index\": \"rule:admin_or_owner\"\n\"os_masakari_api:segments:delete\": \"not user_id:%(user_id)s\"\n").await;
    for (token, want) in [("admin", 200), ("tenant", 403)] {
        assert_eq!(kit.as_of(token, "GET", "/v1/segments", &Value::Null).await.status, want, "{token}");
    }
    let path = "/v1/segments/5fd0c7b9-2d0a-4b3c-9f43-9d3d2d1f8a11";
    assert_eq!(kit.as_of("tenant", "DELETE", path, &Value::Null).await.status, 403);
}

#[tokio::test]
async fn extensions_show_what_may_be_discovered() {
    let kit = with("\"os_masakari_api:extensions:index\": \"@\"\n\"os_masakari_api:extensions:detail\": \"@\"\n\"os_masakari_api:vmoves:discoverable\": \"@\"\n\"os_masakari_api:segments:discoverable\": \"!\"\n").await;
    let listed = |answer: Answer| {
        let list = answer.json()["extensions"].as_array().unwrap().clone();
        list.iter().map(|one| one["alias"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let by_tenant = kit.as_of("tenant", "GET", "/v1/extensions", &Value::Null).await.expect(200);
    assert_eq!(listed(by_tenant), ["versions", "vmoves"]);
    let by_admin = kit.as_of("admin", "GET", "/v1/extensions", &Value::Null).await.expect(200);
    assert_eq!(listed(by_admin), ["extensions", "notifications", "os-hosts", "versions", "vmoves"]);
    for (token, alias, want) in
        [("tenant", "vmoves", 200), ("tenant", "os-hosts", 404), ("admin", "segments", 404)]
    {
        let path = format!("/v1/extensions/{alias}");
        assert_eq!(kit.as_of(token, "GET", &path, &Value::Null).await.status, want, "{token} {alias}");
    }
}

#[tokio::test]
async fn to_trust_reporters_takes_more_than_a_policys_change() {
    let kit = with("").await;
    let body = json!({ "segment": { "name": "s", "recovery_method": "auto", "service_type": "c" } });
    let made = kit.as_of("admin", "POST", "/v1/segments", &body).await.expect(201).json();
    let path = format!("/halberd/v1/segments/{}/policy", made["segment"]["uuid"].as_str().unwrap());
    let table = [
        ("op-manager", json!({}), 200),
        ("op-manager", json!({ "unfenced": "trust-reporter" }), 403),
        ("admin", json!({ "unfenced": "trust-reporter" }), 200),
    ];
    for (token, body, want) in table {
        let answer = kit.as_of(token, "PUT", &path, &body).await;
        assert_eq!(answer.status, want, "{token} {body}: {}", answer.text);
    }
}

#[tokio::test]
async fn without_keystone_the_one_caller_is_an_administrator_to_the_file_too() {
    let (_file, policy_file) = written("context_is_admin: '!'\n\"os_masakari_api:segments:delete\": \"!\"\n");
    let config = ApiConfig { policy_file, auth: AuthMode::None, ..ApiConfig::default() };
    let kit = kit_with(config, Options::new(Access::Exclusive)).await;
    kit.ask("GET", "/v1/segments", &[], "").await.expect(200);
    let path = "/v1/segments/5fd0c7b9-2d0a-4b3c-9f43-9d3d2d1f8a11";
    kit.ask("DELETE", path, &[], "").await.expect(403);
}

#[test]
fn a_file_that_cannot_stand_stops_the_start() {
    for (text, says) in [("a: 'roll:admin'", "roll:admin"), ("a: 'rule:b'", "\"b\""), ("a: [", "no YAML")] {
        let (file, policy_file) = written(text);
        let error = ApiConfig { policy_file, ..ApiConfig::default() }.policy().unwrap_err().to_string();
        let name = file.path().display().to_string();
        assert!(error.contains(says) && error.contains(&name) && error.contains("policy_file"), "{error}");
    }
    let policy_file = Some("/nowhere/policy.yaml".into());
    assert!(ApiConfig { policy_file, ..ApiConfig::default() }.policy().is_err());
}

//! Keystone as dashboards and command-line clients use it: scopes, lists, and services that were registered.

use crate::http::{Answer, request};
use halberd_sim::WorldSpec;
use halberd_sim::shell::Cloud;
use serde_json::{Value, json};

async fn authenticate(cloud: &Cloud, identity: Value, scope: Value) -> Answer {
    let url = format!("{}/auth/tokens", cloud.keystone_url());
    let mut auth = json!({ "identity": identity });
    if !scope.is_null() {
        auth["scope"] = scope;
    }
    request("POST", &url, &[], &json!({ "auth": auth }).to_string()).await.unwrap()
}

fn password(user: &str, domain: &str) -> Value {
    json!({"methods": ["password"], "password": {"user": {
        "name": user, "password": format!("{user}-secret"), "domain": {"name": domain}}}})
}

async fn get(cloud: &Cloud, path: &str, token: &str) -> Answer {
    let url = format!("{}{path}", cloud.keystone_url());
    request("GET", &url, &[("X-Auth-Token", token)], "").await.unwrap()
}

#[tokio::test]
async fn a_dashboard_logs_in_without_scope_and_then_asks_for_its_project() {
    let cloud = Cloud::start(WorldSpec::spread(1, 0)).await.unwrap();
    let unscoped = authenticate(&cloud, password("admin", "Default"), json!({"unscoped": {}})).await;
    assert_eq!(unscoped.status, 201, "{}", unscoped.body);
    let shown = unscoped.json();
    let absent = ["project", "roles", "catalog"].iter().all(|key| shown["token"].get(key).is_none());
    assert!(absent, "{shown}");
    let token = unscoped.headers["x-subject-token"].clone();
    let projects = get(&cloud, "/auth/projects", &token).await.json();
    let project = projects["projects"][0].clone();
    assert_eq!(
        (project["name"].clone(), projects["projects"].as_array().map(Vec::len)),
        (json!("admin"), Some(1))
    );
    let by_token = json!({"methods": ["token"], "token": {"id": token}});
    let scoped = authenticate(&cloud, by_token.clone(), json!({"project": {"id": project["id"]}})).await;
    assert_eq!(
        (scoped.status, scoped.json()["token"]["project"]["id"].clone()),
        (201, project["id"].clone())
    );
    let others = get(&cloud, "/projects?name=blue", &token).await.json();
    let other = json!({"project": {"id": others["projects"][0]["id"]}});
    assert_eq!(authenticate(&cloud, by_token, other).await.status, 401);
}

#[tokio::test]
async fn only_operators_reach_the_system_and_nobody_a_domain() {
    let cloud = Cloud::start(WorldSpec::spread(1, 0)).await.unwrap();
    let system = json!({"system": {"all": true}});
    let token = authenticate(&cloud, password("admin", "default"), system.clone()).await;
    assert_eq!(token.status, 201);
    assert_eq!(token.json()["token"]["system"], json!({"all": true}));
    assert!(token.json()["token"].get("project").is_none());
    assert_eq!(authenticate(&cloud, password("tenant", "Default"), system).await.status, 401);
    let domain = json!({"domain": {"id": "default"}});
    assert_eq!(authenticate(&cloud, password("admin", "Default"), domain).await.status, 401);
    assert_eq!(authenticate(&cloud, password("admin", "elsewhere"), Value::Null).await.status, 401);
}

#[tokio::test]
async fn a_registered_service_is_in_the_catalog_with_the_project_of_whoever_asks() {
    let cloud = Cloud::start(WorldSpec::spread(1, 0)).await.unwrap();
    let urls = async |user: &str, scope: Value| {
        let token = authenticate(&cloud, password(user, "Default"), scope).await;
        let shown = get(&cloud, "/auth/catalog", &token.headers["x-subject-token"]).await.json();
        let catalog = shown["catalog"].as_array().cloned().unwrap();
        assert_eq!(token.json()["token"]["catalog"], shown["catalog"]);
        let found = catalog.iter().find(|entry| entry["type"] == "instance-ha").cloned();
        (
            found.map(|entry| entry["endpoints"][0]["url"].clone()),
            token.json()["token"]["project"]["id"].clone(),
        )
    };
    assert_eq!(urls("admin", Value::Null).await.0, None);
    cloud.register("instance-ha", "masakari", "http://h:1/v1/$(project_id)s");
    for user in ["admin", "tenant"] {
        let (url, project) = urls(user, Value::Null).await;
        assert_eq!(url, Some(json!(format!("http://h:1/v1/{}", project.as_str().unwrap()))));
    }
    assert_eq!(urls("admin", json!({"system": {"all": true}})).await.0, None);
    cloud.register("instance-ha", "masakari", "http://h:2");
    assert_eq!(urls("admin", Value::Null).await.0, Some(json!("http://h:2")));
}

#[tokio::test]
async fn lists_are_for_valid_tokens_only() {
    let cloud = Cloud::start(WorldSpec::spread(1, 0)).await.unwrap();
    let token = authenticate(&cloud, password("auditor", "Default"), Value::Null).await;
    let token = token.headers["x-subject-token"].clone();
    for collection in
        ["users", "projects", "domains", "regions", "roles", "services", "endpoints", "role_assignments"]
    {
        let path = format!("/{collection}");
        assert_eq!(get(&cloud, &path, "no-token").await.status, 401, "{collection}");
        let listed = get(&cloud, &path, &token).await.json();
        assert!(listed[collection].as_array().is_some_and(|rows| !rows.is_empty()), "{collection}: {listed}");
    }
    let users = get(&cloud, "/users?name=manager", &token).await.json();
    assert_eq!(users["users"].as_array().map(Vec::len), Some(1));
    let id = users["users"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(get(&cloud, &format!("/users/{id}"), &token).await.json()["user"]["name"], "manager");
    assert_eq!(
        get(&cloud, &format!("/users/{id}/projects"), &token).await.json()["projects"][0]["name"],
        "admin"
    );
    assert_eq!(get(&cloud, "/users/nobody", &token).await.status, 404);
    assert_eq!(get(&cloud, "/strangers", &token).await.status, 404);
}

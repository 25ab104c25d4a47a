//! Probes over HTTP: whose fault is it? A Keystone and Nova that answer as their API references say, or badly on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::super::config::ServiceConfig;
use super::super::probe::Probe;
use super::super::{Belief, Sight};

/// Statuses to answer with; 0 never answers.
#[derive(Debug)]
struct Cloud {
    keystone: AtomicU16,
    nova: AtomicU16,
    address: String,
}

async fn pass(status: &AtomicU16, answer: Response) -> Response {
    match status.load(Ordering::Relaxed) {
        0 => std::future::pending().await,
        status @ 200..300 => (StatusCode::from_u16(status).unwrap(), answer).into_response(),
        status => (StatusCode::from_u16(status).unwrap(), "{}").into_response(),
    }
}

async fn token(State(cloud): State<Arc<Cloud>>) -> Response {
    let url = format!("http://{}/compute/v2.1", cloud.address);
    let catalog = json!([{"type": "compute", "name": "nova", "id": "c", "endpoints": [
        {"id": "e", "interface": "public", "region": "R", "region_id": "R", "url": url}]}]);
    let body = json!({"token": {
        "expires_at": "2099-01-01T00:00:00.000000Z", "issued_at": "2026-01-01T00:00:00.000000Z", "methods": ["password"],
        "user": {"id": "u", "name": "probe", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p", "name": "service", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": "r", "name": "admin"}], "catalog": catalog}});
    pass(&cloud.keystone, ([("x-subject-token", "t0k3n")], axum::Json(body)).into_response()).await
}

async fn versions() -> Response {
    axum::Json(json!({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.96", "min_version": "2.1", "links": []}})).into_response()
}

async fn listing(State(cloud): State<Arc<Cloud>>, headers: HeaderMap) -> Response {
    assert_eq!(headers["x-auth-token"], "t0k3n");
    pass(&cloud.nova, axum::Json(json!({"services": []})).into_response()).await
}

async fn cloud() -> Arc<Cloud> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cloud = Arc::new(Cloud { keystone: 201.into(), nova: 200.into(), address });
    let app = Router::new()
        .route("/v3/auth/tokens", post(token))
        .route("/compute/v2.1/", get(versions))
        .route("/compute/v2.1/os-services", get(listing))
        .route(
            "/plain",
            get(|State(cloud): State<Arc<Cloud>>| async move { pass(&cloud.nova, ().into_response()).await }),
        )
        .with_state(cloud.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    cloud
}

fn probe(cloud: &Cloud, kind: &str, change: Value) -> Probe {
    let mut section = json!({"kind": kind, "name": "s", "thresholds": {"timeout_ms": 1500}, "openstack": {
        "auth_url": format!("http://{}/v3", cloud.address), "username": "probe", "password": "hunter2", "project_name": "service"}});
    for (key, value) in change.as_object().unwrap() {
        section[key] = value.clone();
    }
    let config: ServiceConfig = serde_json::from_value(section).unwrap();
    config.check().unwrap();
    Probe::new(&config, config.targets.first().map_or(kind, String::as_str), None, "engine-1").unwrap()
}

/// The belief that a sight speaks for, and its reason.
async fn look(probe: &Probe) -> (Belief, String) {
    match probe.look().await {
        Sight::Up { .. } | Sight::Slow { .. } => (Belief::Up, String::new()),
        Sight::Down { reason } => (Belief::Down, reason),
        Sight::CannotTell { reason } => (Belief::Unknown, reason),
    }
}

#[tokio::test]
async fn keystone_is_down_when_it_issues_no_token_and_unknown_when_it_refuses_ours() {
    let cloud = cloud().await;
    let probe = probe(&cloud, "keystone", json!({}));
    for (status, belief) in [
        (201, Belief::Up),
        (503, Belief::Down),
        (500, Belief::Down),
        (0, Belief::Down),
        (401, Belief::Unknown),
        (201, Belief::Up),
    ] {
        cloud.keystone.store(status, Ordering::Relaxed);
        let (seen, reason) = look(&probe).await;
        assert_eq!(seen, belief, "{status}: {reason}");
        assert!(!reason.contains("hunter2"), "{reason}");
    }
}

#[tokio::test]
async fn nova_is_not_blamed_for_keystone() {
    let cloud = cloud().await;
    let probe = probe(&cloud, "nova", json!({}));
    // (Keystone, Nova): with its token cached, Nova's own failures are its own.
    let cases = [
        (201, 200, Belief::Up),
        (503, 200, Belief::Up),
        (201, 503, Belief::Down),
        (201, 500, Belief::Down),
        (201, 0, Belief::Down),
        (201, 403, Belief::Unknown),
        (503, 503, Belief::Unknown),
        (0, 0, Belief::Unknown),
    ];
    for (keystone, nova, belief) in cases {
        cloud.keystone.store(keystone, Ordering::Relaxed);
        cloud.nova.store(nova, Ordering::Relaxed);
        let (seen, reason) = look(&probe).await;
        assert_eq!(seen, belief, "{keystone}, {nova}: {reason}");
    }
}

#[tokio::test]
async fn any_http_service() {
    let cloud = cloud().await;
    let target = format!("http://{}/plain", cloud.address);
    let plain = probe(&cloud, "http", json!({"targets": [target]}));
    for (status, belief) in
        [(200, Belief::Up), (301, Belief::Up), (404, Belief::Unknown), (503, Belief::Down), (0, Belief::Down)]
    {
        cloud.nova.store(status, Ordering::Relaxed);
        let (seen, reason) = look(&plain).await;
        assert_eq!(seen, belief, "{status}: {reason}");
    }
    let strict = probe(&cloud, "http", json!({"targets": [target], "expect_status": [401]}));
    cloud.nova.store(401, Ordering::Relaxed);
    assert_eq!(look(&strict).await.0, Belief::Up);
    cloud.nova.store(200, Ordering::Relaxed);
    assert_eq!(look(&strict).await.0, Belief::Unknown);
    let nobody = probe(&cloud, "http", json!({"targets": ["http://nobody.invalid/"]}));
    assert_eq!(
        look(&nobody).await.0,
        Belief::Unknown,
        "a name that does not resolve says nothing of the service"
    );
}

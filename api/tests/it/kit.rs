//! A router over its own database, and short ways to ask it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use halberd_api::{ApiConfig, App, AuthMode, Parts, router};
use halberd_store::db::Options;
use halberd_store::{Access, Db, Sealer};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::cloud::Cloud;

pub struct Kit {
    pub dir: TempDir,
    pub app: App,
    pub router: Router,
    pub cloud: Cloud,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    /// The one top key of a JSON body, or nothing.
    pub fn key(&self) -> String {
        let Ok(Value::Object(object)) = serde_json::from_str(&self.text) else { return String::new() };
        object.keys().cloned().collect::<Vec<_>>().join(",")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        if status >= 400 && status != 401 {
            let body = self.json();
            let fault = body.as_object().unwrap().values().next().unwrap();
            assert_eq!(fault["code"], status, "{body}");
            assert!(!fault["message"].as_str().unwrap().is_empty(), "{body}");
        }
        self
    }
}

/// `sqlite:` URL of the database in `dir`.
pub fn url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("halberd.db").display())
}

/// Everybody is admin, Nova knows cmp-01 to cmp-09.
pub async fn kit() -> Kit {
    kit_with(ApiConfig { auth: AuthMode::None, ..ApiConfig::default() }, Options::new(Access::Exclusive))
        .await
}

pub async fn kit_with(config: ApiConfig, options: Options) -> Kit {
    let dir = TempDir::new().unwrap();
    let db = Db::open_with(&url(dir.path()), options).await.unwrap();
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    let app = App::new(Parts {
        config,
        db,
        sealer: Sealer::new(&[7; 32]),
        keystone: Some(openstack.keystone()),
        nova: Some(openstack.nova()),
        nudge: Arc::default(),
        webhooks: Vec::new(),
    })
    .unwrap();
    Kit { dir, router: router(app.clone()), app, cloud }
}

impl Kit {
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Answer { status: status.as_u16(), headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// At the newest microversion.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("openstack-api-version", "instance-ha 1.3"), ("content-type", "application/json")];
        self.ask(method, path, &headers, body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("openstack-api-version", "instance-ha 1.3")], Body::empty()).await
    }

    /// A new segment's uuid.
    pub async fn segment(&self, name: &str) -> String {
        let body =
            json!({ "segment": { "name": name, "recovery_method": "auto", "service_type": "COMPUTE" } });
        let made = self.call("POST", "/v1/segments", &body).await.expect(StatusCode::CREATED.as_u16()).json();
        made["segment"]["uuid"].as_str().unwrap().to_owned()
    }

    /// A new host's uuid.
    pub async fn host(&self, segment: &str, name: &str) -> String {
        let body = json!({ "host": { "name": name, "type": "COMPUTE", "control_attributes": "SSH" } });
        let made =
            self.call("POST", &format!("/v1/segments/{segment}/hosts"), &body).await.expect(201).json();
        made["host"]["uuid"].as_str().unwrap().to_owned()
    }

    pub async fn report(&self, body: &Value) -> Answer {
        self.ask("POST", "/v1/notifications", &[("content-type", "application/json")], body.to_string()).await
    }

    /// Changes the database behind everybody's back.
    pub async fn tamper(&self, sql: &'static str) {
        let options = SqliteConnectOptions::new().filename(self.dir.path().join("halberd.db"));
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// The same file opened once more, as another process would.
    pub async fn beside(&self) -> Db {
        Db::open(&url(self.dir.path()), Access::Shared).await.unwrap()
    }
}

/// A report's body.
pub fn report(kind: &str, hostname: &str, payload: &[(&str, &str)]) -> Value {
    let payload: BTreeMap<_, _> = payload.iter().copied().collect();
    json!({ "notification": { "type": kind, "hostname": hostname, "generated_time": "2026-11-21T10:20:30.123456",
        "payload": payload } })
}

pub fn host_down(hostname: &str) -> Value {
    let payload = [("event", "STOPPED"), ("cluster_status", "OFFLINE"), ("host_status", "NORMAL")];
    report("COMPUTE_HOST", hostname, &payload)
}

pub fn guest_down(hostname: &str, instance: &str) -> Value {
    let payload =
        [("instance_uuid", instance), ("event", "LIFECYCLE"), ("vir_domain_event", "STOPPED_FAILED")];
    report("VM", hostname, &payload)
}

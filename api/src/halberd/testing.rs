//! What the tests of this interface stand on: a real application over a real SQLite file, and requests to its own routers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::host::Host;
use halberd_core::id::{BootId, EngineId, EventId, HostId, NotificationId, RecoveryId, SegmentId};
use halberd_core::notification::{Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::policy::Policy;
use halberd_core::recovery::host::{HostRecovery, HostState, Order};
use halberd_core::recovery::{Body as RecoveryBody, Recovery, Subject, WORKFLOW_VERSION};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::Stamp;
use halberd_store::recoveries::Opening;
use halberd_store::{Access, Db, Sealer, hosts, recoveries, segments, write};
use serde_json::{Value, json};
use tower::ServiceExt;
use uuid::Uuid;

use crate::access::standing;
use crate::{ApiConfig, App, AuthMode, Caller, Parts};

/// An instant of the tests: 2026-11-21T10:00:00Z.
pub(crate) const NOW: Stamp = Stamp(1_795_255_200_000_000);
pub(crate) const BOOT: Uuid = Uuid::from_u128(0xb007);

/// An application with its database.
pub(crate) struct Site {
    pub app: App,
    pub segment: SegmentId,
    /// One for the whole test: it remembers agents' counters, as in a process.
    router: Router,
    directory: tempfile::TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Site {
    pub async fn new() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("halberd.db").display());
        let db = Db::open(&url, Access::Shared).await.unwrap();
        let app = App::new(Parts {
            config: ApiConfig { auth: AuthMode::None, ..ApiConfig::default() },
            db,
            sealer: Sealer::new(&[7; 32]),
            keystone: None,
            nova: None,
            nudge: Arc::default(),
            webhooks: Vec::new(),
        })
        .unwrap();
        let segment = Segment {
            id: SegmentId(Uuid::new_v4()),
            name: "seg".into(),
            description: None,
            service_type: "COMPUTE".into(),
            recovery_method: RecoveryMethod::Auto,
            enabled: true,
        };
        write(&app.db, async |tx| segments::create(tx, &segment, NOW).await).await.unwrap();
        let routes = super::routes().merge(super::agent_routes());
        let router = Router::new().nest("/halberd/v1", routes).with_state(app.clone());
        Site { app, segment: segment.id, router, directory }
    }

    pub async fn host(&self, name: &str) -> Host {
        let host = Host { segment: self.segment, ..stored_host(name) };
        write(&self.app.db, async |tx| hosts::create(tx, &host, NOW).await).await.unwrap();
        host
    }

    /// Stores a recovery of a host, as an engine opens it.
    pub async fn open(&self, host: &Host) -> Recovery {
        let recovery = recovery(host.clone());
        let report = Notification {
            id: recovery.notification,
            kind: NotificationType::ComputeHost,
            host: host.id,
            segment: self.segment,
            generated_at: NOW,
            payload: BTreeMap::from([
                ("event".to_owned(), "STOPPED".to_owned()),
                ("host_status".to_owned(), "NORMAL".to_owned()),
            ]),
            origin: Origin::Caller,
            status: NotificationStatus::New,
            message: None,
        };
        let audit = [Entry::new("recovery_opened", "a report says that the host is down", json!({}))];
        let events = [event(EventKind::RecoveryOpened, Some(recovery.id), "opened")];
        let opening = Opening {
            recovery: &recovery,
            report: Some(&report),
            audit: &audit,
            events: &events,
            webhooks: &[],
        };
        write(&self.app.db, async |tx| recoveries::open(tx, &opening, NOW).await).await.unwrap();
        recoveries::get(&self.app.db, recovery.id).await.unwrap()
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        send(self.router(), request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, "admin").await
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>, roles: &str) -> Answer {
        let mut request = request(method, path, body);
        request.extensions_mut().insert(caller(roles));
        self.send(request).await
    }

    /// Every byte the database has on disk.
    pub fn disk(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.directory.path()).unwrap();
        files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect()
    }
}

pub(crate) async fn send(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 22).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

pub(crate) fn request(method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    Request::builder().method(method).uri(format!("/halberd/v1{path}")).body(body).unwrap()
}

/// A caller with these roles, `operator:` before those of a tenant that count here.
pub(crate) fn caller(roles: &str) -> Caller {
    let (operator, names) = roles.strip_prefix("operator:").map_or((false, roles), |names| (true, names));
    let roles: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    Caller {
        user_id: Some("u-1".into()),
        user_name: Some("ann".into()),
        project_id: None,
        system_scope: false,
        is_service: roles.iter().any(|role| role == "service"),
        is_admin: roles.iter().any(|role| role == "admin"),
        standing: standing(&roles, operator),
        roles,
        policy: Arc::default(),
        request_id: crate::RequestId::new(),
        global_request_id: None,
    }
}

pub(crate) fn stored_host(name: &str) -> Host {
    Host {
        kind: "COMPUTE".into(),
        control_attributes: "SSH".into(),
        boot_number: 1,
        boot: Some(BootId(BOOT)),
        ever_agent: true,
        ..Host::new(HostId(Uuid::new_v4()), SegmentId(Uuid::nil()), name)
    }
}

/// A recovery as its opener writes it.
pub(crate) fn recovery(host: Host) -> Recovery {
    Recovery {
        id: RecoveryId(Uuid::new_v4()),
        notification: NotificationId(Uuid::new_v4()),
        segment: host.segment,
        subject: Subject::Host { host: host.id },
        host_name: host.name,
        method: RecoveryMethod::Auto,
        policy: Policy::default(),
        body: RecoveryBody::Host(HostRecovery::new()),
        reason: "not proved dead: a second sight".into(),
        hooks: Default::default(),
        workflow_version: WORKFLOW_VERSION,
        owner: Some(EngineId(Uuid::from_u128(0xe))),
        epoch: 1,
        version: 1,
        opened_at: NOW,
        closed_at: None,
    }
}

pub(crate) fn set_fencing(recovery: &mut Recovery) {
    set_state(recovery, HostState::Fencing { order: Order { attempt: 1, boot_number: 1, intent: None } });
}

pub(crate) fn set_state(recovery: &mut Recovery, state: HostState) {
    match &mut recovery.body {
        RecoveryBody::Host(body) => body.state = state,
        _ => panic!("not a host's recovery"),
    }
}

pub(crate) fn event(kind: EventKind, recovery: Option<RecoveryId>, text: &str) -> Event {
    Event {
        id: EventId(Uuid::new_v4()),
        kind,
        recovery,
        subject: "host/cmp-1".into(),
        data: json!({ "text": text }),
    }
}

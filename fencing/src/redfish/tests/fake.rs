//! A Redfish service for tests, with state, and with the faults of real ones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What a test may set and look at.
#[derive(Debug, Default)]
pub struct State {
    pub power: String,
    pub serial: String,
    pub uuid: String,
    pub password: String,
    /// No session service: Basic it is.
    pub basic: bool,
    pub ack_no_off: bool,
    /// What the document says instead of the power; JSON.
    pub says: Option<Value>,
    pub allowable: Option<Vec<String>>,
    pub action_info: bool,
    pub target: Option<String>,
    pub etag: Option<String>,
    pub members: Vec<String>,
    /// Requests (`METHOD path`) in order.
    pub requests: Vec<String>,
    /// `If-Match` of each reset that arrived.
    pub matches: Vec<Option<String>>,
    /// Reset types carried out or acknowledged.
    pub resets: Vec<String>,
    /// Canned answers to the next requests of this kind: (`METHOD path prefix`, status, headers, body).
    pub canned: VecDeque<Canned>,
    /// How long every answer takes.
    pub thinks: Duration,
    /// Requests of this kind never get an answer.
    pub hang: Option<String>,
    /// Resets are carried out, their answer never comes.
    pub drop_reset: bool,
    pub sessions: HashMap<String, String>,
    /// Reset answers 202 with this task.
    pub task: Option<Value>,
    /// What the document says of the restore policy.
    pub policy: Option<String>,
    /// `If-Match` and body of each PATCH of the system that arrived.
    pub patches: Vec<(Option<String>, Value)>,
    /// So many resets are acknowledged and forgotten.
    pub forgets: usize,
    /// Off comes true so long after the last order, which begins the time anew.
    pub delay: Option<Duration>,
    pending: Option<tokio::time::Instant>,
    /// Whatever else there is to GET.
    pub documents: HashMap<&'static str, Value>,
    /// Roles that a session's document names.
    pub roles: Option<Value>,
    counter: u32,
}

#[derive(Debug, Clone)]
pub struct Canned {
    pub on: &'static str,
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

pub fn canned(on: &'static str, status: u16, body: impl ToString) -> Canned {
    Canned { on, status, headers: Vec::new(), body: body.to_string().into_bytes() }
}

impl Canned {
    pub fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

pub type Shared = Arc<Mutex<State>>;

pub const SYSTEM: &str = "/redfish/v1/Systems/1";
pub const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";

/// A certificate and its key, in one file.
pub const EXPIRED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/expired.pem");

/// Connections behind TLS. Handshakes that fail are passed over.
struct Secured(tokio::net::TcpListener, tokio_rustls::TlsAcceptor);

impl axum::serve::Listener for Secured {
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, from)) = self.0.accept().await else { continue };
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// The same behind TLS, with a certificate that ended in 2020.
pub async fn start_expired() -> (String, Shared) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(EXPIRED).unwrap()];
    let key = PrivateKeyDer::from_pem_file(EXPIRED).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (plain, shared) = listen().await;
    let url = format!("https://{}", plain.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(shared.clone());
    let secured = Secured(plain, Arc::new(config).into());
    tokio::spawn(async move { axum::serve(secured, app).await });
    (url, shared)
}

/// A service on loopback; its URL and its state.
pub async fn start() -> (String, Shared) {
    let (listener, shared) = listen().await;
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(answer).with_state(shared.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, shared)
}

async fn listen() -> (tokio::net::TcpListener, Shared) {
    let state = State {
        power: "On".into(),
        serial: "S1".into(),
        uuid: "8839d356-f787-4a0b-8010-d454645c55f8".into(),
        password: "secret".into(),
        allowable: Some(vec!["On".into(), "ForceOff".into(), "GracefulShutdown".into()]),
        members: vec!["1".into()],
        ..State::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener, Arc::new(Mutex::new(state)))
}

fn reply(status: u16, headers: &[(&str, String)], body: impl Into<Body>) -> Response {
    let mut out = Response::builder().status(status);
    for (name, value) in headers {
        out = out.header(*name, value);
    }
    out.body(body.into()).unwrap()
}

fn document(value: &Value) -> Response {
    reply(200, &[("content-type", "application/json".into())], value.to_string())
}

async fn answer(Extract(shared): Extract<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
    let (method, path, headers) =
        (parts.method, parts.uri.path().trim_end_matches('/').to_owned(), parts.headers);
    let what = format!("{method} {path}");
    let (hangs, thinks) = {
        let mut state = shared.lock().unwrap();
        state.requests.push(what.clone());
        (state.hang.as_ref().is_some_and(|h| what.starts_with(h.as_str())), state.thinks)
    };
    if !thinks.is_zero() {
        tokio::time::sleep(thinks).await;
    }
    if hangs {
        std::future::pending::<()>().await;
    }
    let (response, drop) = {
        let mut state = shared.lock().unwrap();
        let response = respond(&mut state, &method, &path, &headers, &body);
        (response, state.drop_reset && what.contains("ComputerSystem.Reset"))
    };
    if drop {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    response
}

fn respond(state: &mut State, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    let what = format!("{method} {path}");
    if let Some(at) = state.canned.iter().position(|c| what.starts_with(c.on)) {
        let canned = state.canned.remove(at).unwrap();
        return reply(canned.status, &canned.headers, canned.body);
    }
    let sessions = "/redfish/v1/SessionService/Sessions";
    if path == "/redfish/v1" {
        let mut root = json!({"Systems": {"@odata.id": "/redfish/v1/Systems"}});
        if !state.basic {
            root["Links"] = json!({"Sessions": {"@odata.id": sessions}});
        }
        if state.documents.contains_key("/accounts") {
            root["AccountService"] = json!({"@odata.id": "/accounts"});
        }
        return document(&root);
    }
    if what == format!("POST {sessions}") {
        let login: Value = serde_json::from_slice(body).unwrap();
        if login["Password"] != state.password.as_str() {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        state.counter += 1;
        let (uri, token) = (format!("{sessions}/{}", state.counter), format!("token-{}", state.counter));
        state.sessions.insert(uri.clone(), token.clone());
        return reply(201, &[("location", uri), ("x-auth-token", token)], "{}");
    }
    let text = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let by_session = text("x-auth-token").is_some_and(|t| state.sessions.values().any(|s| *s == t));
    // admin:secret
    if !(by_session || state.basic && text("authorization").as_deref() == Some("Basic YWRtaW46c2VjcmV0")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match (method.as_str(), path) {
        ("GET", "/redfish/v1/Systems") => {
            let member = |m: &String| json!({"@odata.id": format!("/redfish/v1/Systems/{m}")});
            document(&json!({"Members": state.members.iter().map(member).collect::<Vec<_>>()}))
        }
        ("GET", SYSTEM) => system(state),
        ("PATCH", SYSTEM) => patch(state, text("if-match"), body),
        ("GET", other) if state.documents.contains_key(other) => document(&state.documents[other]),
        ("GET", "/redfish/v1/Systems/2") => {
            document(&json!({"SerialNumber": "S2", "PowerState": "On", "Actions": {"#ComputerSystem.Reset":
                {"target": "/redfish/v1/Systems/2/Actions/ComputerSystem.Reset"}}}))
        }
        ("GET", "/info") => document(&json!({"Parameters": [{"Name": "ResetType",
            "AllowableValues": state.allowable}]})),
        ("GET", "/task") => document(&state.task.clone().unwrap_or_default()),
        ("GET", sessions_path) if sessions_path == sessions => {
            let member = |m: &String| json!({"@odata.id": m});
            document(&json!({"Members": state.sessions.keys().map(member).collect::<Vec<_>>()}))
        }
        ("GET", one) if state.sessions.contains_key(one) => {
            document(&json!({"UserName": "admin", "Roles": state.roles}))
        }
        ("DELETE", one) => match state.sessions.remove(one) {
            Some(_) => StatusCode::NO_CONTENT.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        ("POST", p) if Some(p) == state.target.as_deref() || p == RESET => {
            reset(state, text("if-match"), body)
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn patch(state: &mut State, if_match: Option<String>, body: &[u8]) -> Response {
    let wanted: Value = serde_json::from_slice(body).unwrap();
    state.patches.push((if_match.clone(), wanted.clone()));
    if state.etag.is_some() && if_match.is_none() {
        return StatusCode::PRECONDITION_REQUIRED.into_response();
    }
    if state.etag.is_some() && if_match != state.etag {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    state.policy = Some(wanted["PowerRestorePolicy"].as_str().unwrap().to_owned());
    StatusCode::NO_CONTENT.into_response()
}

fn system(state: &mut State) -> Response {
    if state.pending.is_some_and(|at| at <= tokio::time::Instant::now()) {
        (state.power, state.pending) = ("Off".into(), None);
    }
    let mut action = json!({"target": state.target.as_deref().unwrap_or(RESET)});
    if state.action_info {
        action["@Redfish.ActionInfo"] = "/info".into();
    } else if let Some(allowable) = &state.allowable {
        action["ResetType@Redfish.AllowableValues"] = json!(allowable);
    }
    let mut document = json!({"SerialNumber": state.serial, "UUID": state.uuid, "Manufacturer": "ACME",
        "PowerState": state.power, "Actions": {"#ComputerSystem.Reset": action}});
    if let Some(policy) = &state.policy {
        document["PowerRestorePolicy"] = policy.as_str().into();
    }
    match &state.says {
        Some(Value::String(s)) if s == "absent" => {
            drop(document.as_object_mut().unwrap().remove("PowerState"))
        }
        Some(value) => document["PowerState"] = value.clone(),
        None => {}
    }
    let etag = state.etag.iter().map(|e| ("etag", e.clone()));
    reply(200, &etag.collect::<Vec<_>>(), document.to_string())
}

fn reset(state: &mut State, if_match: Option<String>, body: &[u8]) -> Response {
    state.matches.push(if_match.clone());
    if let Some(etag) = &state.etag {
        match if_match {
            None => return StatusCode::PRECONDITION_REQUIRED.into_response(),
            Some(m) if m != *etag => return StatusCode::PRECONDITION_FAILED.into_response(),
            Some(_) => {}
        }
    }
    let order: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(order.as_object().unwrap().len(), 1, "ResetType alone");
    let kind = order["ResetType"].as_str().unwrap().to_owned();
    state.resets.push(kind.clone());
    if state.resets.len() <= state.forgets {
        // Acknowledged, and that was it.
    } else if let Some(delay) = state.delay.filter(|_| kind == "ForceOff") {
        state.pending = Some(tokio::time::Instant::now() + delay);
    } else if !state.ack_no_off {
        state.power = if kind == "ForceOff" { "Off" } else { "On" }.into();
    }
    match &state.task {
        Some(_) => reply(202, &[("location", "/task".into())], "{}"),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

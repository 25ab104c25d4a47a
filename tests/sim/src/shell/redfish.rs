//! A host's Redfish service: one system, sessions, Reset. Written by hand from DSP0266, nothing shared with the product's client.

use super::Shared;
use super::http::silence;
use crate::metal::{IfMatch, Restore, RestorePolicy};
use crate::model::{Identity, Power};
use crate::reply::BmcRefusal;
use crate::world::BmcSession;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use chrono::DateTime;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const SYSTEM: &str = "/redfish/v1/Systems/1";
const ROLES: &str = "/redfish/v1/AccountService/Roles";
const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";

#[derive(Debug, Clone)]
struct Service {
    shared: Arc<Shared>,
    host: String,
}

pub(super) fn router(shared: Arc<Shared>, host: String) -> Router {
    let service = Service { shared, host };
    Router::new()
        .route("/redfish", get(|| async { Json(json!({"v1": "/redfish/v1/"})) }))
        .route("/redfish/v1", get(root))
        .route("/redfish/v1/", get(root))
        .route("/redfish/v1/SessionService", get(session_service))
        .route("/redfish/v1/SessionService/Sessions", get(sessions).post(open))
        .route("/redfish/v1/SessionService/Sessions/{id}", get(session).delete(close))
        .route("/redfish/v1/AccountService", get(account_service))
        .route(ROLES, get(roles))
        .route("/redfish/v1/AccountService/Roles/{id}", get(role))
        .route("/redfish/v1/Systems", get(systems))
        .route(SYSTEM, get(system).patch(change))
        .route(RESET, post(reset))
        .layer(from_fn_with_state(service.clone(), speaks))
        .with_state(service)
}

/// A dead, dark or hung BMC says nothing: on a network its silence and a missing machine's look the same.
async fn speaks(State(service): State<Service>, request: Request, next: Next) -> Response {
    if !service.shared.with(|world, now| world.bmc_speaks(now, &service.host)) {
        return silence().await;
    }
    next.run(request).await
}

fn error(code: u16, id: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let info = json!([{"MessageId": format!("Base.1.8.{id}"), "Message": message, "Severity": "Critical"}]);
    let body = json!({"error": {"code": format!("Base.1.8.{id}"), "message": message,
                                "@Message.ExtendedInfo": info}});
    (status, Json(body)).into_response()
}

/// In how many seconds a busy service wants to be asked again.
const RETRY_AFTER_S: i64 = 1;

/// Seconds, or the date that they lead to, on the next whole second (a date knows no parts of one).
fn retry_after(service: &Service) -> HeaderValue {
    let text = service.shared.with(|world, now| {
        let whole = world.spec().epoch_seconds + (now / 1_000) as i64 + 1;
        match world.bmc_manners(&service.host).retry_after_date {
            true => DateTime::from_timestamp(whole + RETRY_AFTER_S, 0)
                .unwrap_or_default()
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string(),
            false => RETRY_AFTER_S.to_string(),
        }
    });
    HeaderValue::from_str(&text).expect("digits, letters and colons")
}

async fn refused(service: &Service, refusal: BmcRefusal) -> Response {
    match refusal {
        BmcRefusal::Silence => silence().await,
        BmcRefusal::BadCredentials => {
            error(401, "InsufficientPrivilege", "The user name or password is not valid.")
        }
        BmcRefusal::SessionGone => error(401, "NoValidSession", "There is no valid session established."),
        BmcRefusal::Busy => {
            let text = "The service is temporarily unavailable. Retry in 1 seconds.";
            let mut answer = error(503, "ServiceTemporarilyUnavailable", text);
            answer.headers_mut().insert(header::RETRY_AFTER, retry_after(service));
            answer
        }
    }
}

/// The session a request stands on, and whether it was opened for this request alone (Basic).
async fn authorise(service: &Service, headers: &HeaderMap) -> Result<(BmcSession, bool), Response> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(token) = text("x-auth-token") {
        let number = u64::from_str_radix(token, 16).unwrap_or(0);
        let open = service.shared.lock().bmc_sessions(&service.host);
        return match open.into_iter().find(|session| session.number() == number) {
            Some(session) => Ok((session, false)),
            None => Err(refused(service, BmcRefusal::SessionGone).await),
        };
    }
    let Some((user, password)) = text("authorization").and_then(basic) else {
        return Err(refused(service, BmcRefusal::SessionGone).await);
    };
    match service.shared.ask(|world, now| world.bmc_open(now, &service.host, &user, &password)).await {
        Ok(session) => Ok((session, true)),
        Err(refusal) => Err(refused(service, refusal).await),
    }
}

fn basic(value: &str) -> Option<(String, String)> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Ends what [`authorise`] opened for one request.
fn done(service: &Service, session: (BmcSession, bool)) {
    if session.1 {
        service.shared.with(|world, now| world.bmc_close(now, &service.host, session.0));
    }
}

async fn root() -> Response {
    Json(json!({
        "@odata.id": "/redfish/v1/", "@odata.type": "#ServiceRoot.v1_5_0.ServiceRoot", "Id": "RootService",
        "Name": "Root Service", "RedfishVersion": "1.8.0",
        "Systems": {"@odata.id": "/redfish/v1/Systems"},
        "SessionService": {"@odata.id": "/redfish/v1/SessionService"},
        "AccountService": {"@odata.id": "/redfish/v1/AccountService"},
        "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}},
    }))
    .into_response()
}

async fn session_service() -> Response {
    Json(json!({
        "@odata.id": "/redfish/v1/SessionService", "@odata.type": "#SessionService.v1_1_6.SessionService",
        "Id": "SessionService", "Name": "Session Service", "ServiceEnabled": true, "SessionTimeout": 1800,
        "Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"},
    }))
    .into_response()
}

/// Where a session is addressed: not by its token, which is secret, but by the token's low half scrambled.
fn session_id(session: BmcSession) -> String {
    format!("{}", session.number().wrapping_mul(0x9e37_79b9) & 0xffff_ffff)
}

fn session_document(service: &Service, session: BmcSession) -> Value {
    let id = session_id(session);
    let role = if read_only(service) { "ReadOnly" } else { "Operator" };
    json!({"@odata.id": format!("/redfish/v1/SessionService/Sessions/{id}"),
           "@odata.type": "#Session.v1_7_0.Session", "Id": id, "Name": "Session", "Roles": [role]})
}

async fn sessions(State(service): State<Service>, headers: HeaderMap) -> Response {
    let by = match authorise(&service, &headers).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let open = service.shared.lock().bmc_sessions(&service.host);
    done(&service, by);
    let members: Vec<Value> = open
        .iter()
        .map(|it| json!({"@odata.id": format!("/redfish/v1/SessionService/Sessions/{}", session_id(*it))}))
        .collect();
    Json(json!({"@odata.id": "/redfish/v1/SessionService/Sessions", "Name": "Sessions",
                "@odata.type": "#SessionCollection.SessionCollection",
                "Members@odata.count": members.len(), "Members": members}))
    .into_response()
}

async fn open(State(service): State<Service>, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let (Some(user), Some(password)) = (body["UserName"].as_str(), body["Password"].as_str()) else {
        return error(400, "MalformedJSON", "The request body lacks UserName or Password.");
    };
    match service.shared.ask(|world, now| world.bmc_open(now, &service.host, user, password)).await {
        Ok(session) => {
            let mut answer = (StatusCode::CREATED, Json(session_document(&service, session))).into_response();
            let location = format!("/redfish/v1/SessionService/Sessions/{}", session_id(session));
            let token = format!("{:016x}", session.number());
            for (name, value) in [("location", location), ("x-auth-token", token)] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    answer.headers_mut().insert(name, value);
                }
            }
            answer
        }
        Err(refusal) => refused(&service, refusal).await,
    }
}

fn find(service: &Service, id: &str) -> Option<BmcSession> {
    let open = service.shared.lock().bmc_sessions(&service.host);
    open.into_iter().find(|session| session_id(*session) == id)
}

async fn session(State(service): State<Service>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let by = match authorise(&service, &headers).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let found = find(&service, &id);
    done(&service, by);
    match found {
        Some(session) => Json(session_document(&service, session)).into_response(),
        None => error(404, "ResourceMissingAtURI", "There is no such session."),
    }
}

async fn close(State(service): State<Service>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let by = match authorise(&service, &headers).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let found = find(&service, &id);
    done(&service, by);
    let Some(session) = found else {
        return error(404, "ResourceMissingAtURI", "There is no such session.");
    };
    match service.shared.ask(|world, now| world.bmc_close(now, &service.host, session)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refused(&service, refusal).await,
    }
}

fn read_only(service: &Service) -> bool {
    service.shared.lock().bmc_manners(&service.host).read_only
}

/// The roles every service has, and their privileges (DSP0266).
const STANDARD_ROLES: [(&str, &[&str]); 3] = [
    (
        "Administrator",
        &["Login", "ConfigureManager", "ConfigureUsers", "ConfigureComponents", "ConfigureSelf"],
    ),
    ("Operator", &["Login", "ConfigureComponents", "ConfigureSelf"]),
    ("ReadOnly", &["Login", "ConfigureSelf"]),
];

async fn account_service(State(service): State<Service>, headers: HeaderMap) -> Response {
    let document = json!({
        "@odata.id": "/redfish/v1/AccountService", "@odata.type": "#AccountService.v1_5_0.AccountService",
        "Id": "AccountService", "Name": "Account Service", "Roles": {"@odata.id": ROLES},
    });
    shown(&service, &headers, document).await
}

async fn roles(State(service): State<Service>, headers: HeaderMap) -> Response {
    let members = STANDARD_ROLES.map(|(name, _)| json!({"@odata.id": format!("{ROLES}/{name}")}));
    let document = json!({"@odata.id": ROLES, "@odata.type": "#RoleCollection.RoleCollection", "Name": "Roles",
                          "Members@odata.count": members.len(), "Members": members});
    shown(&service, &headers, document).await
}

async fn role(State(service): State<Service>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let Some((name, privileges)) = STANDARD_ROLES.into_iter().find(|(name, _)| *name == id) else {
        return error(404, "ResourceMissingAtURI", "There is no such role.");
    };
    let document = json!({"@odata.id": format!("{ROLES}/{name}"), "@odata.type": "#Role.v1_2_1.Role", "Id": name,
                          "Name": name, "RoleId": name, "IsPredefined": true, "AssignedPrivileges": privileges});
    shown(&service, &headers, document).await
}

/// A document that never changes, for whoever may log in.
async fn shown(service: &Service, headers: &HeaderMap, document: Value) -> Response {
    match authorise(service, headers).await {
        Ok(by) => done(service, by),
        Err(refused) => return refused,
    }
    Json(document).into_response()
}

async fn systems(State(service): State<Service>, headers: HeaderMap) -> Response {
    match authorise(&service, &headers).await {
        Ok(by) => done(&service, by),
        Err(refused) => return refused,
    }
    Json(json!({"@odata.id": "/redfish/v1/Systems", "Name": "Systems",
                "@odata.type": "#ComputerSystemCollection.ComputerSystemCollection",
                "Members@odata.count": 1, "Members": [{"@odata.id": SYSTEM}]}))
    .into_response()
}

async fn system(State(service): State<Service>, headers: HeaderMap) -> Response {
    let by = match authorise(&service, &headers).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let host = &service.host;
    // One request, one question to the device: identity and power come in the same document.
    let power = service.shared.ask(|world, now| world.bmc_read(now, host, by.0)).await;
    done(&service, by);
    let power = match power {
        Ok(power) => power,
        Err(refusal) => return refused(&service, refusal).await,
    };
    let identity = service.shared.lock().bmc_shown_identity(host);
    system_document(&service, power, &identity)
}

/// What an ETag stands for: whatever of the document may change.
fn etag(power: Power, restore: Restore) -> String {
    let state = if power == Power::On { "On" } else { "Off" };
    match restore {
        Restore::Settable(policy) | Restore::Fixed(policy) => format!("W/\"{state}-{}\"", policy.name()),
        Restore::Unknown => format!("W/\"{state}\""),
    }
}

fn system_document(service: &Service, power: Power, identity: &Identity) -> Response {
    let restore = service.shared.lock().bmc_shown_restore(&service.host);
    let etag = etag(power, restore);
    let state = if power == Power::On { "On" } else { "Off" };
    let mut document = json!({
        "@odata.id": SYSTEM, "@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem", "@odata.etag": etag,
        "Id": "1", "Name": "System", "SystemType": "Physical", "Manufacturer": "Simulated", "Model": "Sim 1",
        "SerialNumber": identity.serial, "UUID": identity.uuid, "PowerState": state,
        "Status": {"State": "Enabled", "Health": "OK"},
        "Actions": {"#ComputerSystem.Reset": {
            "target": RESET,
            "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "ForceRestart", "GracefulShutdown"],
        }},
    });
    if let Restore::Settable(policy) | Restore::Fixed(policy) = restore {
        document["PowerRestorePolicy"] = json!(policy.name());
    }
    ([(header::ETAG, etag)], Json(document)).into_response()
}

/// Why a change may not go on: the account, then its `If-Match` and what this service makes of it.
fn objection(service: &Service, headers: &HeaderMap) -> Option<Response> {
    let (manners, etag) = {
        let world = service.shared.lock();
        let etag = etag(world.bmc_shown_power(&service.host), world.bmc_shown_restore(&service.host));
        (world.bmc_manners(&service.host), etag)
    };
    if manners.read_only {
        let text = "There are insufficient privileges for the account or credentials.";
        return Some(error(403, "InsufficientPrivilege", text));
    }
    match (headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()), manners.if_match) {
        (None, IfMatch::Needed) => {
            Some(error(428, "PreconditionRequired", "A precondition header or annotation is required."))
        }
        (None, _) => None,
        (Some(given), IfMatch::Optional | IfMatch::Needed) if given == "*" || given == etag => None,
        (Some(_), _) => Some(error(412, "PreconditionFailed", "The ETag supplied did not match.")),
    }
}

/// PATCH of the system: the restore policy, and nothing else.
async fn change(State(service): State<Service>, headers: HeaderMap, body: String) -> Response {
    let by = match authorise(&service, &headers).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let answer = match objection(&service, &headers) {
        None => set_policy(&service, by.0, &body).await,
        Some(refused) => refused,
    };
    done(&service, by);
    answer
}

async fn set_policy(service: &Service, session: BmcSession, body: &str) -> Response {
    match service.shared.lock().bmc_shown_restore(&service.host) {
        Restore::Settable(_) => {}
        Restore::Fixed(_) => {
            return error(405, "OperationNotAllowed", "The HTTP method is not allowed on this resource.");
        }
        Restore::Unknown => {
            return error(
                400,
                "PropertyUnknown",
                "The property PowerRestorePolicy is not in the list of valid properties.",
            );
        }
    }
    let Ok(Value::Object(body)) = serde_json::from_str(body) else {
        return error(400, "MalformedJSON", "The request body submitted was malformed JSON.");
    };
    if let Some(other) = body.keys().find(|key| *key != "PowerRestorePolicy") {
        return error(400, "PropertyNotWritable", &format!("The property {other} is a read only property."));
    }
    let wanted = body.get("PowerRestorePolicy").and_then(Value::as_str);
    let Some(policy) = RestorePolicy::ALL.into_iter().find(|policy| Some(policy.name()) == wanted) else {
        let text =
            format!("The value {wanted:?} for PowerRestorePolicy is not in the list of acceptable values.");
        return error(400, "PropertyValueNotInList", &text);
    };
    let host = &service.host;
    match service.shared.ask(|world, now| world.bmc_set_restore(now, host, session, policy)).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refused(service, refusal).await,
    }
}

async fn reset(State(service): State<Service>, headers: HeaderMap, body: String) -> Response {
    let by = match authorise(&service, &headers).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    if let Some(refused) = objection(&service, &headers) {
        done(&service, by);
        return refused;
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let host = &service.host;
    let result = match body["ResetType"].as_str() {
        Some("ForceOff") => service.shared.ask(|world, now| world.bmc_off(now, host, by.0)).await,
        Some("On" | "ForceOn") => service.shared.ask(|world, now| world.bmc_on(now, host, by.0)).await,
        // Nobody on a failed hypervisor obeys these; they are acknowledged, and nothing happens.
        Some("GracefulShutdown" | "ForceRestart") => Ok(()),
        other => {
            done(&service, by);
            let text = format!("The value {other:?} for ResetType is not in the list of acceptable values.");
            return error(400, "ActionParameterNotSupported", &text);
        }
    };
    done(&service, by);
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refused(&service, refusal).await,
    }
}

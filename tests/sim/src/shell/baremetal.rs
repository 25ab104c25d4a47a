//! The bare-metal service (ironic) on HTTP: nodes, listed with fields and pages, their power and maintenance. It stands in the catalog
//! only while a host is enrolled, and reaches its nodes through their BMCs, whose passwords it never shows.

use super::http::{Answered, Refused, Site, caller};
use super::wire;
use crate::metal::Node;
use crate::reply::Refusal;
use crate::world::Caller;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use uuid::Uuid;

/// Minor number of the newest `1.x`.
const NEWEST: u16 = 95;
/// Ironic's `max_limit`.
const PAGE: usize = 1_000;
/// What a list shows of a node unless fields are named.
const SHORT: [&str; 6] = ["uuid", "name", "instance_uuid", "power_state", "provision_state", "maintenance"];
const VERSION: &str = "x-openstack-ironic-api-version";

type Params = Query<HashMap<String, String>>;

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/baremetal", get(version))
        .route("/baremetal/", get(version))
        .route("/baremetal/v1", get(version))
        .route("/baremetal/v1/", get(version))
        .route("/baremetal/v1/nodes", get(list))
        .route("/baremetal/v1/nodes/detail", get(detail))
        .route("/baremetal/v1/nodes/{id}", get(show))
        .route("/baremetal/v1/nodes/{id}/states/power", put(power))
        .route("/baremetal/v1/nodes/{id}/maintenance", put(maintain).delete(release))
}

async fn version(State(site): State<Site>) -> Response {
    let links = json!([{"rel": "self", "href": format!("{}/baremetal/v1/", site.base)}]);
    let v1 = json!({"id": "v1", "links": links, "status": "CURRENT", "min_version": "1.1", "version": format!("1.{NEWEST}")});
    with_version(
        Json(json!({"name": "OpenStack Ironic API", "id": "v1", "default_version": v1, "versions": [v1]}))
            .into_response(),
        1,
    )
}

fn with_version(mut answer: Response, minor: u16) -> Response {
    let headers = [
        ("x-openstack-ironic-api-minimum-version", "1.1".to_owned()),
        ("x-openstack-ironic-api-maximum-version", format!("1.{NEWEST}")),
        (VERSION, format!("1.{minor}")),
    ];
    for (name, value) in headers {
        answer.headers_mut().insert(name, HeaderValue::from_str(&value).expect("digits and a point"));
    }
    answer
}

fn error(code: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fault = if code < 500 { "Client" } else { "Server" };
    (status, Json(json!({"error_message": {"faultcode": fault, "faultstring": text, "debuginfo": null}})))
        .into_response()
}

/// A request whose token and microversion are good.
struct Asked {
    caller: Caller,
    minor: u16,
    epoch: i64,
}

impl Asked {
    /// Nodes without an owner are shown to administrators and services.
    fn sees(&self) -> bool {
        self.caller.has("admin") || self.caller.has("service")
    }
}

fn asked(site: &Site, headers: &HeaderMap) -> Result<Asked, Refused> {
    if site.shared.with(|world, now| world.ironic_down(now)) {
        return Err(StatusCode::SERVICE_UNAVAILABLE.into_response().into());
    }
    let caller = caller(site, headers)?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    // The common header of all services, then ironic's own.
    let common = text("openstack-api-version").and_then(|value| value.strip_prefix("baremetal "));
    let minor = match common.or(text(VERSION)) {
        None => 1,
        Some("latest") => NEWEST,
        Some(asked) => {
            let minor = asked.strip_prefix("1.").and_then(|minor| minor.parse().ok());
            minor.filter(|minor| (1..=NEWEST).contains(minor)).ok_or_else(|| {
                error(406, &format!("Version {asked} was requested but the API has 1.1 to 1.{NEWEST}."))
            })?
        }
    };
    let epoch = site.shared.lock().spec().epoch_seconds;
    Ok(Asked { caller, minor, epoch })
}

/// The whole node, as far as the microversion goes.
fn document(site: &Site, node: &Node, asked: &Asked) -> Map<String, Value> {
    let word = |on: bool| if on { "power on" } else { "power off" };
    let time = |at: u64| format!("{}+00:00", wire::naive(asked.epoch, at as i64).trim_end_matches(".000000"));
    let link = format!("{}/baremetal/v1/nodes/{}", site.base, node.uuid);
    let since: [(u16, &str, Value); 19] = [
        (1, "uuid", json!(node.uuid)),
        (5, "name", json!(node.name)),
        (1, "driver", json!(node.driver)),
        (1, "driver_info", driver_info(site, node)),
        (1, "driver_internal_info", json!({})),
        (1, "properties", json!({"cpu_arch": "x86_64", "cpus": "2", "memory_mb": "4096", "local_gb": "40"})),
        (1, "extra", json!({})),
        (1, "instance_uuid", Value::Null),
        (1, "instance_info", json!({})),
        (1, "power_state", json!(node.power.map(word))),
        (1, "target_power_state", json!(node.target.map(word))),
        (1, "provision_state", json!(node.provision_state)),
        (1, "target_provision_state", Value::Null),
        (1, "maintenance", json!(node.maintenance)),
        (1, "maintenance_reason", json!(node.maintenance_reason)),
        (21, "resource_class", json!("baremetal")),
        (42, "fault", json!(node.fault)),
        (1, "created_at", json!(time(node.created_at))),
        (1, "updated_at", json!(node.updated_at.map(time))),
    ];
    let mut shown: Map<String, Value> = since
        .into_iter()
        .filter(|(minor, _, _)| *minor <= asked.minor)
        .map(|(_, key, value)| (key.to_owned(), value))
        .collect();
    shown.insert("links".into(), json!([{"rel": "self", "href": link}]));
    shown
}

/// How the service reaches the node's BMC.
fn driver_info(site: &Site, node: &Node) -> Value {
    let Some(bmc) = site.shared.bmc(&node.host) else { return json!({}) };
    match node.driver {
        "redfish" => {
            json!({"redfish_address": bmc.device_address(), "redfish_system_id": super::redfish::SYSTEM,
                            "redfish_username": bmc.username, "redfish_password": "******"})
        }
        _ => json!({"ipmi_address": bmc.address.ip().to_string(), "ipmi_port": bmc.address.port(),
                    "ipmi_username": bmc.username, "ipmi_password": "******"}),
    }
}

async fn list(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    let asked = asked(&site, &headers)?;
    let detail = query.get("detail").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let fields: Option<Vec<&str>> = query.get("fields").map(|fields| fields.split(',').collect());
    if (fields.is_some() && asked.minor < 8) || (detail && asked.minor < 43) {
        return Err(error(406, "Request not acceptable.").into());
    }
    if detail && fields.is_some() {
        return Err(error(400, "Can't fetch a subset of fields with 'detail' set").into());
    }
    let fields = if detail { None } else { Some(fields.unwrap_or_else(|| SHORT.to_vec())) };
    page(&site, &asked, &query, "nodes", fields)
}

async fn detail(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    let asked = asked(&site, &headers)?;
    if query.contains_key("fields") {
        return Err(error(400, "Unexpected arguments: fields").into());
    }
    page(&site, &asked, &query, "nodes/detail", None)
}

/// One page of nodes, with a link to the next one while there are more.
fn page(
    site: &Site,
    asked: &Asked,
    query: &HashMap<String, String>,
    resource: &str,
    fields: Option<Vec<&str>>,
) -> Answered {
    let mut nodes = site.shared.with(|world, now| world.nodes(now));
    nodes.retain(|_| asked.sees());
    for (key, of) in FILTERS {
        if let Some(wanted) = query.get(key) {
            nodes.retain(|node| of(node).eq_ignore_ascii_case(wanted));
        }
    }
    if let Some(marker) = query.get("marker") {
        let at = nodes.iter().position(|node| node.uuid.to_string() == *marker);
        let at = at.ok_or_else(|| error(404, &format!("Node {marker} could not be found.")))?;
        nodes.drain(..=at);
    }
    let limit = match query.get("limit").map(|limit| limit.parse::<usize>()) {
        None | Some(Ok(0)) => PAGE,
        Some(Ok(limit)) => limit.min(PAGE),
        Some(Err(_)) => return Err(error(400, "Limit must be positive").into()),
    };
    let more = nodes.len() > limit;
    nodes.truncate(limit);
    let rows: Vec<Value> = nodes
        .iter()
        .map(|node| narrowed(document(site, node, asked), fields.as_deref()).map(Value::Object))
        .collect::<Result<_, _>>()?;
    let mut answer = json!({ "nodes": rows });
    if let Some(last) = nodes.last().filter(|_| more) {
        let fields = query.get("fields").map_or(String::new(), |fields| format!("&fields={fields}"));
        let query = format!("limit={limit}{fields}&marker={}", last.uuid);
        answer["next"] = json!(format!("{}/baremetal/v1/{resource}?{query}", site.base));
    }
    Ok(with_version(Json(answer).into_response(), asked.minor))
}

type Filter = (&'static str, fn(&Node) -> String);

const FILTERS: [Filter; 3] = [
    ("maintenance", |node| node.maintenance.to_string()),
    ("driver", |node| node.driver.to_owned()),
    ("provision_state", |node| node.provision_state.to_owned()),
];

/// Only these fields (and the links); one that the microversion does not have is an error, unless it is of the short list.
fn narrowed(mut whole: Map<String, Value>, fields: Option<&[&str]>) -> Result<Map<String, Value>, Refused> {
    let Some(fields) = fields else { return Ok(whole) };
    if let Some(unknown) = fields.iter().find(|field| !whole.contains_key(**field) && !SHORT.contains(*field))
    {
        return Err(error(400, &format!("Field(s) \"{unknown}\" are not valid.")).into());
    }
    whole.retain(|key, _| key == "links" || fields.contains(&key.as_str()));
    Ok(whole)
}

/// A node by its uuid or its name.
fn find(site: &Site, asked: &Asked, id: &str) -> Result<Node, Refused> {
    let nodes = site.shared.with(|world, now| world.nodes(now));
    let found = nodes.into_iter().find(|node| node.uuid.to_string() == id || node.name == id);
    found.filter(|_| asked.sees()).ok_or_else(|| error(404, &format!("Node {id} could not be found.")).into())
}

async fn show(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let asked = asked(&site, &headers)?;
    let node = find(&site, &asked, &id)?;
    Ok(with_version(Json(document(&site, &node, &asked)).into_response(), asked.minor))
}

/// The node of a request that changes it, which only administrators may send.
fn to_change(site: &Site, headers: &HeaderMap, id: &str) -> Result<Uuid, Refused> {
    let asked = asked(site, headers)?;
    let node = find(site, &asked, id)?;
    if asked.caller.has("admin") { Ok(node.uuid) } else { Err(error(403, "Access was denied.").into()) }
}

fn accepted(result: Result<(), Refusal>) -> Answered {
    result.map_err(|refusal| error(refusal.code().unwrap_or(500), refusal.message()))?;
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn power(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: String,
) -> Answered {
    let id = to_change(&site, &headers, &id)?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let on = match body["target"].as_str() {
        Some("power on") => true,
        Some("power off") => false,
        other => return Err(error(400, &format!("{other:?} is no target of power here.")).into()),
    };
    accepted(site.shared.with(|world, now| world.set_node_power(now, id, on)))
}

async fn maintain(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: String,
) -> Answered {
    let id = to_change(&site, &headers, &id)?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let reason = body["reason"].as_str().map(str::to_owned);
    accepted(site.shared.with(|world, now| world.set_maintenance(now, id, true, reason)))
}

async fn release(State(site): State<Site>, headers: HeaderMap, Path(id): Path<String>) -> Answered {
    let id = to_change(&site, &headers, &id)?;
    accepted(site.shared.with(|world, now| world.set_maintenance(now, id, false, None)))
}

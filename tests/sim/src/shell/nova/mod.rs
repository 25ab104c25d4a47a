//! Nova on HTTP: microversions, policy, errors in its own shapes; services, migrations, aggregates, hypervisors here, servers beside.

mod servers;

use super::http::{Answered, Refused, Site, caller, refuse};
use super::wire;
use crate::model::{MigrationFilter, ServerFilter, ServicePut};
use crate::world::Caller;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::HashMap;
use uuid::Uuid;

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/compute", get(versions))
        .route("/compute/", get(versions))
        .route("/compute/v2.1", get(version))
        .route("/compute/v2.1/", get(version))
        .route("/compute/v2.1/os-services", get(services))
        .route("/compute/v2.1/os-services/{id}", put(put_service))
        .route("/compute/v2.1/os-migrations", get(migrations))
        .route("/compute/v2.1/os-aggregates", get(aggregates).post(create_aggregate))
        .route("/compute/v2.1/os-aggregates/{id}", get(aggregate))
        .route("/compute/v2.1/os-aggregates/{id}/action", post(aggregate_action))
        .route("/compute/v2.1/os-hypervisors", get(hypervisors))
        .route("/compute/v2.1/os-hypervisors/detail", get(hypervisors))
        .merge(servers::routes())
}

type Params = Query<HashMap<String, String>>;

/// A request whose token and microversion are good.
#[derive(Debug)]
struct Asked {
    caller: Caller,
    /// Minor number of `2.x`.
    minor: u16,
    epoch: i64,
}

impl Asked {
    fn admin(&self) -> bool {
        self.caller.has("admin")
    }

    fn only_admin(&self, policy: &str) -> Result<(), Refused> {
        if self.admin() {
            return Ok(());
        }
        Err(error(403, &format!("Policy doesn't allow {policy} to be performed.")).into())
    }
}

fn asked(site: &Site, headers: &HeaderMap) -> Result<Asked, Refused> {
    let caller = caller(site, headers)?;
    let (max, epoch) = {
        let world = site.shared.lock();
        (world.spec().max_microversion, world.spec().epoch_seconds)
    };
    Ok(Asked { caller, minor: microversion(headers, max)?, epoch })
}

fn microversion(headers: &HeaderMap, max: u16) -> Result<u16, Refused> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let new = text("openstack-api-version").and_then(|value| value.strip_prefix("compute "));
    let Some(wanted) = new.or_else(|| text("x-openstack-nova-api-version")).map(str::trim) else {
        return Ok(1);
    };
    if wanted == "latest" {
        return Ok(max);
    }
    let minor = wanted.strip_prefix("2.").and_then(|minor| minor.parse::<u16>().ok());
    match minor {
        Some(minor) if (1..=max).contains(&minor) => Ok(minor),
        Some(_) => Err(error(
            406,
            &format!("Version {wanted} is not supported by the API. Minimum is 2.1 and maximum is 2.{max}."),
        )
        .into()),
        None => Err(error(
            400,
            &format!(
                "API Version String {wanted} is of invalid format. Must be of format MajorNum.MinorNum."
            ),
        )
        .into()),
    }
}

/// An error in Nova's shape.
fn error(code: u16, message: &str) -> Response {
    let key = match code {
        400 => "badRequest",
        403 => "forbidden",
        404 => "itemNotFound",
        409 => "conflictingRequest",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(json!({ key: {"code": code, "message": message} }))).into_response()
}

fn with_request_id(mut answer: Response, id: Option<String>) -> Response {
    let id = id.unwrap_or_else(|| format!("req-{}", Uuid::new_v4()));
    if let Ok(value) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert("x-openstack-request-id", value.clone());
        answer.headers_mut().insert("x-compute-request-id", value);
    }
    answer
}

/// A JSON answer, a refusal, or silence.
async fn answer(result: Result<Value, crate::Refusal>) -> Response {
    match result {
        Ok(value) => with_request_id(Json(value).into_response(), None),
        Err(refusal) => with_request_id(refuse(refusal, error).await, None),
    }
}

fn version_document(site: &Site) -> Value {
    let max = site.shared.lock().spec().max_microversion;
    json!({"id": "v2.1", "status": "CURRENT", "version": format!("2.{max}"), "min_version": "2.1",
           "updated": "2013-07-23T11:33:21Z",
           "links": [{"rel": "self", "href": format!("{}/compute/v2.1/", site.base)}]})
}

async fn versions(State(site): State<Site>) -> Response {
    answer(
        site.shared
            .ask(|world, now| world.nova_other(now, |_| ()))
            .await
            .map(|()| json!({"versions": [version_document(&site)]})),
    )
    .await
}

async fn version(State(site): State<Site>) -> Response {
    answer(
        site.shared
            .ask(|world, now| world.nova_other(now, |_| ()))
            .await
            .map(|()| json!({"version": version_document(&site)})),
    )
    .await
}

async fn services(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-services:list")?;
    let rows = site.shared.ask(|world, now| world.services(now)).await;
    let shown = rows.map(|rows| {
        let wanted = |it: &crate::Service| {
            query.get("host").is_none_or(|host| *host == it.host)
                && query.get("binary").is_none_or(|binary| *binary == it.binary)
        };
        let rows: Vec<Value> = rows
            .iter()
            .enumerate()
            .filter(|(_, it)| wanted(it))
            .map(|(ix, it)| wire::service(it, ix + 1, asked.minor, asked.epoch))
            .collect();
        json!({ "services": rows })
    });
    Ok(answer(shown).await)
}

async fn put_service(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: String,
) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-services:update")?;
    let Ok(body) = serde_json::from_str::<Value>(&body) else {
        return Ok(error(400, "Malformed request body"));
    };
    if id == "force-down" && (11..53).contains(&asked.minor) {
        return Ok(force_down(&site, &body).await);
    }
    let Ok(id) = id.parse::<Uuid>() else {
        return Ok(error(400, &format!("Invalid uuid {id}")));
    };
    if asked.minor < 53 {
        return Ok(error(404, "The resource could not be found."));
    }
    let put = ServicePut {
        forced_down: body["forced_down"].as_bool(),
        disabled: body["status"].as_str().map(|status| status == "disabled"),
        disabled_reason: body["disabled_reason"].as_str().map(Into::into),
    };
    let row = site.shared.ask(|world, now| world.put_service(now, id, &put)).await;
    Ok(answer(row.map(|row| json!({"service": wire::service(&row, 0, asked.minor, asked.epoch)}))).await)
}

async fn force_down(site: &Site, body: &Value) -> Response {
    let host = body["host"].as_str().unwrap_or("").to_owned();
    let known = site.shared.lock().has_host(&host);
    if !known {
        return error(404, &format!("Host '{host}' is not mapped to any cell"));
    }
    let put = ServicePut { forced_down: body["forced_down"].as_bool(), ..ServicePut::default() };
    let row = site
        .shared
        .ask(|world, now| {
            let id = world.service_id(&host);
            world.put_service(now, id, &put)
        })
        .await;
    answer(row.map(
        |row| json!({"service": {"host": row.host, "binary": row.binary, "forced_down": row.forced_down}}),
    ))
    .await
}

async fn migrations(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-migrations:index")?;
    let filter = match migration_filter(&query, asked.epoch) {
        Ok(filter) => filter,
        Err(text) => return Ok(error(400, &text)),
    };
    let limit = filter.limit.unwrap_or(1_000).min(1_000);
    let found = site.shared.ask(|world, now| world.migrations(now, &filter)).await;
    let shown = found.map(|found| {
        let rows: Vec<Value> = found.iter().map(|it| wire::migration(it, asked.minor, asked.epoch)).collect();
        let mut page = json!({ "migrations": rows });
        if let Some(last) = found.last().filter(|_| found.len() == limit && asked.minor >= 59) {
            page["migrations_links"] = next(&site, "os-migrations", &query, last.uuid);
        }
        page
    });
    Ok(answer(shown).await)
}

fn migration_filter(query: &HashMap<String, String>, epoch: i64) -> Result<MigrationFilter, String> {
    let mut filter = MigrationFilter::default();
    for (key, value) in query {
        let text = Some(value.clone());
        match key.as_str() {
            "host" => filter.host = text,
            "source_compute" => filter.source = text,
            "migration_type" => filter.kind = text,
            "status" => filter.status = text,
            "instance_uuid" => filter.instance = Some(value.parse().map_err(|_| bad_query(key, value))?),
            "marker" => filter.marker = Some(value.parse().map_err(|_| bad_query(key, value))?),
            "limit" => filter.limit = Some(value.parse().map_err(|_| bad_query(key, value))?),
            "changes-since" => {
                let seconds = since(value).ok_or_else(|| bad_query(key, value))?;
                filter.changed_since = Some((seconds - epoch) * 1_000);
            }
            "hidden" => {}
            _ => return Err(format!("Additional properties are not allowed ('{key}' was unexpected)")),
        }
    }
    Ok(filter)
}

fn since(value: &str) -> Option<i64> {
    let zoned = chrono::DateTime::parse_from_rfc3339(value).map(|time| time.timestamp());
    let bare = chrono::NaiveDateTime::parse_from_str(value, "%Y-%m-%dT%H:%M:%S%.f");
    zoned.or_else(|_| bare.map(|time| time.and_utc().timestamp())).ok()
}

fn bad_query(key: &str, value: &str) -> String {
    format!("Invalid input for query parameters {key}. Value: {value}.")
}

/// A link to the next page: the same query with another marker.
fn next(site: &Site, path: &str, query: &HashMap<String, String>, marker: Uuid) -> Value {
    let mut query: BTreeMap<&str, &str> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let marker = marker.to_string();
    query.insert("marker", &marker);
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!([{"rel": "next", "href": format!("{}/compute/v2.1/{path}?{}", site.base, pairs.join("&"))}])
}

async fn aggregates(State(site): State<Site>, headers: HeaderMap) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-aggregates:index")?;
    let found = site.shared.ask(|world, now| world.aggregates(now)).await;
    Ok(answer(found.map(|found| {
        let rows: Vec<Value> =
            found.iter().map(|it| wire::aggregate(it, asked.minor, asked.epoch, false)).collect();
        json!({ "aggregates": rows })
    }))
    .await)
}

async fn aggregate(State(site): State<Site>, headers: HeaderMap, Path(id): Path<u64>) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-aggregates:show")?;
    let found = site.shared.ask(|world, now| world.aggregate(now, id)).await;
    Ok(answer(found.map(|it| json!({"aggregate": wire::aggregate(&it, asked.minor, asked.epoch, false)})))
        .await)
}

async fn create_aggregate(State(site): State<Site>, headers: HeaderMap, body: String) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-aggregates:create")?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some(name) = body["aggregate"]["name"].as_str() else {
        return Ok(error(400, "Invalid input for field/attribute aggregate. 'name' is a required property"));
    };
    let made = site.shared.ask(|world, now| world.create_aggregate(now, name, BTreeMap::new())).await;
    Ok(answer(made.map(|it| json!({"aggregate": wire::aggregate(&it, asked.minor, asked.epoch, true)})))
        .await)
}

async fn aggregate_action(
    State(site): State<Site>,
    headers: HeaderMap,
    Path(id): Path<u64>,
    body: String,
) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-aggregates:add_host")?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let changed = if let Some(host) = body["add_host"]["host"].as_str() {
        site.shared.ask(|world, now| world.aggregate_add_host(now, id, host)).await
    } else if let Some(host) = body["remove_host"]["host"].as_str() {
        site.shared.ask(|world, now| world.aggregate_remove_host(now, id, host)).await
    } else {
        return Ok(error(400, "There is no such action."));
    };
    Ok(answer(changed.map(|it| json!({"aggregate": wire::aggregate(&it, asked.minor, asked.epoch, false)})))
        .await)
}

async fn hypervisors(State(site): State<Site>, headers: HeaderMap, Query(query): Params) -> Answered {
    let asked = asked(&site, &headers)?;
    asked.only_admin("os_compute_api:os-hypervisors:list-detail")?;
    let services = match site.shared.ask(|world, now| world.services(now)).await {
        Ok(services) => services,
        Err(refusal) => return Ok(refuse(refusal, error).await),
    };
    let rows: Vec<Value> = site.shared.with(|world, now| {
        let pattern = query.get("hypervisor_hostname_pattern");
        let hosts: Vec<String> = world.host_names();
        let wanted = hosts.iter().filter(|host| pattern.is_none_or(|part| host.contains(part.as_str())));
        wanted
            .enumerate()
            .map(|(ix, host)| hypervisor(world, now, host, ix, &query, &services, &asked))
            .collect()
    });
    Ok(answer(Ok(json!({ "hypervisors": rows }))).await)
}

fn hypervisor(
    world: &mut crate::World,
    now: u64,
    host: &str,
    ix: usize,
    query: &HashMap<String, String>,
    services: &[crate::Service],
    asked: &Asked,
) -> Value {
    let view = world.host(host);
    let service = services.iter().find(|it| it.host == host && it.binary == "nova-compute");
    let mut row = json!({
        "hypervisor_hostname": host, "hypervisor_type": "fake", "hypervisor_version": 1000, "host_ip": "127.0.0.1",
        "state": if service.is_some_and(|it| it.up) { "up" } else { "down" },
        "status": service.map_or("", |it| it.status.as_str()),
        "service": {"host": host, "id": service.map(|it| it.id),
                    "disabled_reason": service.and_then(|it| it.disabled_reason.clone())},
    });
    row["id"] = if asked.minor >= 53 { json!(view.uuid) } else { json!(ix + 1) };
    if asked.minor >= 88 {
        row["uptime"] = Value::Null;
    }
    if query.get("with_servers").is_some_and(|with| with == "true") {
        let filter = ServerFilter { host: Some(host.into()), ..ServerFilter::default() };
        let servers = world.servers(now, &filter).answer.unwrap_or_default();
        if !servers.is_empty() {
            let shown = servers.iter().map(|it| json!({"name": it.name, "uuid": it.id})).collect();
            row["servers"] = Value::Array(shown);
        }
    }
    row
}

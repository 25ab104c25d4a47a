//! Who may call what: every route of both interfaces by every kind of caller, as a table ([`TABLE`], a file that a person can read).
//!
//! The routers themselves tell which routes there are, so that a new one cannot be forgotten: it is missing in the table until somebody has
//! said who may call it. All requests are real ones over a socket, against a Keystone on another.

use std::collections::{BTreeMap, BTreeSet};

use halberd_api::access::RULES;
use halberd_api::{ApiConfig, App, halberd, v1_routes};
use halberd_store::Access;
use halberd_store::db::Options;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::kit::{Kit, host_down, kit_with};

const TABLE: &str = include_str!("matrix.txt");

const OPERATORS: &str = "0f0f";
const TENANT: &str = "1a1a";

/// The table's columns: name, roles, project (none: the whole system).
const CALLERS: [(&str, &str, Option<&str>); 9] = [
    ("admin", "admin member reader", Some(TENANT)),
    ("op-manager", "manager member reader", Some(OPERATORS)),
    ("op-member", "member reader", Some(OPERATORS)),
    ("op-reader", "reader", Some(OPERATORS)),
    ("service", "service", Some(TENANT)),
    ("sys-manager", "manager member reader", None),
    ("sys-reader", "reader", None),
    ("manager", "manager member reader", Some(TENANT)),
    ("reader", "reader", Some(TENANT)),
];

/// The last two have no valid token.
const NOBODIES: [&str; 2] = ["expired", "none"];

/// A line of the table.
struct Row {
    method: Method,
    path: &'static str,
    rule: Option<&'static str>,
    /// By caller: let in, or the status of the refusal.
    expected: Vec<Expected>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    In,
    Refused(StatusCode),
}

fn table() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let rows = lines.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [method, path, rule, marks @ ..] = &words[..] else { panic!("too short: {line}") };
        let expected: Vec<Expected> = marks
            .iter()
            .map(|mark| match *mark {
                "+" => Expected::In,
                "403" => Expected::Refused(StatusCode::FORBIDDEN),
                "401" => Expected::Refused(StatusCode::UNAUTHORIZED),
                other => panic!("{other} in {line}"),
            })
            .collect();
        assert_eq!(expected.len(), CALLERS.len() + NOBODIES.len(), "{line}");
        Row { method: method.parse().unwrap(), path, rule: Some(*rule).filter(|rule| *rule != "-"), expected }
    });
    rows.collect()
}

/// Routes of a router, under a mount. It shows them only in its own description of itself: numbers with methods, then numbers with paths.
fn routes_of(router: &axum::Router<App>, mount: &str) -> BTreeSet<(String, String)> {
    let text = format!("{router:?}");
    let text = text.split("fallback_router:").next().unwrap();
    let (methods, paths) = text.split_once("paths: {").expect("the router shows its paths");
    let mut found = BTreeSet::new();
    for entry in paths.split("RouteId(").skip(1) {
        let (number, rest) = entry.split_once("): \"").unwrap();
        let path = rest.split('"').next().unwrap();
        let (_, route) = methods.split_once(&format!("RouteId({number}): MethodRouter(")).unwrap();
        let route = route.split("RouteId(").next().unwrap();
        for method in ["get", "put", "post", "delete", "patch"] {
            let (_, handler) = route.split_once(&format!("{method}: ")).unwrap();
            if !handler.starts_with("None") {
                found.insert((method.to_uppercase(), format!("{mount}{path}")));
            }
        }
    }
    found
}

fn all_routes() -> BTreeSet<(String, String)> {
    let mut routes = routes_of(&v1_routes(), "/v1");
    for router in [halberd::routes(), halberd::agent_routes()] {
        routes.extend(routes_of(&router, "/halberd/v1"));
    }
    routes
}

#[test]
fn every_route_stands_in_the_table_and_asks_for_a_rule_that_is_there() {
    let rows = table();
    let told: BTreeSet<_> = rows.iter().map(|row| (row.method.to_string(), row.path.to_owned())).collect();
    assert_eq!(told.len(), rows.len(), "a route stands twice");
    let routes = all_routes();
    assert!(routes.len() > 60, "the routers were not read: {routes:?}");
    let missing: Vec<_> = routes.difference(&told).collect();
    assert!(missing.is_empty(), "say in matrix.txt who may call {missing:?}");
    let gone: Vec<_> = told.difference(&routes).collect();
    assert!(gone.is_empty(), "no route any more: {gone:?}");
    let described = halberd::openapi_document()["paths"].as_object().unwrap();
    for (path, methods) in described {
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let route = (method.to_uppercase(), format!("/halberd/v1{path}"));
            assert!(told.contains(&route), "described, but not there: {route:?}");
        }
    }
    let asked: BTreeSet<&str> = rows.iter().filter_map(|row| row.rule).collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|(rule, _)| *rule).collect();
    assert!(asked.is_subset(&rules), "no such rule: {:?}", asked.difference(&rules));
    // What no route asks for by itself: what the list of extensions shows, the open version documents, and a policy's one dangerous wish.
    let beside = |rule: &&str| {
        rule.ends_with(":discoverable")
            || ["os_masakari_api:versions:index", "halberd:segment_policy:trust_reporter"].contains(rule)
    };
    let idle: Vec<_> = rules.difference(&asked).filter(|rule| !beside(rule)).collect();
    assert!(idle.is_empty(), "no route asks for {idle:?}");
}

/// A served API, and its address.
struct Served {
    kit: Kit,
    url: String,
    client: Client,
}

async fn serve(config: ApiConfig) -> Served {
    let kit = kit_with(config, Options::new(Access::Exclusive)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(halberd_api::serve(listener, kit.app.clone(), std::future::pending()));
    Served { kit, url, client: Client::new() }
}

impl Served {
    async fn status(&self, row: &Row, token: Option<&str>) -> StatusCode {
        let id = Uuid::new_v4().to_string();
        let parts = row.path.split('/').map(|part| if part.starts_with('{') { &id } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        let mut request = self
            .client
            .request(row.method.clone(), format!("{}{path}", self.url))
            .header("openstack-api-version", "instance-ha 1.3");
        if let Some(token) = token {
            request = request.header("x-auth-token", token);
        }
        if matches!(row.method, Method::POST | Method::PUT) {
            request = request.header("content-type", "application/json").body(body(row.path).to_string());
        }
        // An event stream has no end: its head is enough.
        request.send().await.unwrap().status()
    }
}

/// Under `/v1` the schema is asked before the role, so that there a body must be one.
fn body(path: &str) -> Value {
    match path {
        "/v1/segments" | "/v1/segments/{segment}" => {
            json!({ "segment": { "name": "s", "recovery_method": "auto", "service_type": "c" } })
        }
        "/v1/segments/{segment}/hosts" | "/v1/segments/{segment}/hosts/{host}" => {
            json!({ "host": { "name": "x", "type": "K", "control_attributes": "x" } })
        }
        "/v1/notifications" => host_down("nobody"),
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_by_every_caller() {
    let config = ApiConfig { operator_projects: vec![OPERATORS.to_owned()], ..ApiConfig::default() };
    let served = serve(config).await;
    for (name, roles, project) in CALLERS {
        served.kit.cloud.token(name, roles, project);
    }
    served.kit.cloud.token("expired", "admin", Some(OPERATORS));
    served.kit.cloud.world().expired.insert("expired".to_owned());
    let callers: Vec<(&str, Option<&str>)> = CALLERS
        .iter()
        .map(|(name, ..)| (*name, Some(*name)))
        .chain([("expired", Some("expired")), ("none", None)])
        .collect();
    let mut wrong = Vec::new();
    for row in table() {
        for ((name, token), expected) in callers.iter().zip(&row.expected) {
            let status = served.status(&row, *token).await;
            let as_told = match expected {
                Expected::Refused(refusal) => status == *refusal,
                Expected::In => {
                    status != StatusCode::FORBIDDEN
                        && status != StatusCode::UNAUTHORIZED
                        && status.as_u16() < 500
                }
            };
            if !as_told {
                wrong.push(format!("{} {} {name}: {status}, not {expected:?}", row.method, row.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A policy of one role for each rule shows which rule a route really asks for: that one role opens it, all others together do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_asks_for_the_rule_of_its_line_and_for_no_other() {
    let role_of: BTreeMap<&str, String> =
        RULES.iter().enumerate().map(|(n, (rule, _))| (*rule, format!("role-{n}"))).collect();
    let policy: BTreeMap<&str, String> =
        role_of.iter().map(|(rule, role)| (*rule, format!("role:{role}"))).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!(policy).to_string()).unwrap();
    let config = ApiConfig { policy_file: Some(file.path().to_owned()), ..ApiConfig::default() };
    let served = serve(config).await;
    let mut wrong = Vec::new();
    for row in table() {
        let Some(rule) = row.rule else { continue };
        let others: Vec<&str> =
            role_of.iter().filter(|(other, _)| **other != rule).map(|(_, role)| role.as_str()).collect();
        let (one, rest) = (format!("one {rule}"), format!("rest {rule}"));
        served.kit.cloud.token(&one, &role_of[rule], Some(TENANT));
        served.kit.cloud.token(&rest, &format!("admin {}", others.join(" ")), Some(TENANT));
        let statuses = (served.status(&row, Some(&one)).await, served.status(&row, Some(&rest)).await);
        let is_in = ![StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(&statuses.0);
        if !is_in || statuses.1 != StatusCode::FORBIDDEN {
            wrong.push(format!("{} {} {rule}: {statuses:?}", row.method, row.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

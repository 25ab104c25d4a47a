//! Whatever a client sends, it is never our fault: generated bodies for every route that takes one, generated queries and paths for all.
//!
//! The seed is fixed, so that a run tells something about a change and not about chance; `HALBERD_PROPERTY_SEED` takes another. With `HALBERD_LONG`
//! there are 10,000 bodies for each route, else fewer, as each is a whole request in a debug build; `HALBERD_PROPERTY_CASES` says how many. What fails is
//! shrunk before it is shown.

mod bodies;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Uri};
use futures_util::future::join_all;
use halberd_api::{ApiConfig, App, AuthMode, Parts, router};
use halberd_core::id::HostId;
use halberd_store::db::Options;
use halberd_store::recoveries::{self, Opening};
use halberd_store::{Access, Db, Sealer, agent_keys, orders, write};
use halberd_types::beat::AgentKey;
use halberd_types::report::{ORDERS_PATH, REPORTS_PATH, sign};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use uuid::Uuid;

use crate::cloud::Cloud;
use crate::kit::{Kit, guest_down, host_down, report};
use crate::vmoves::recovery_of;

/// Bodies for each route that takes one.
const CASES: u32 = 1_000;
const CASES_LONG: u32 = 10_000;
const KEY: [u8; 32] = [9; 32];
const BOOT: Uuid = Uuid::from_u128(0xb007);
/// An agent may make this many requests at once (`halberd::agents_self`); then it gets a new process.
const ALLOWANCE: u64 = 90;
/// Requests at once.
const CROWD: usize = 32;
/// Tries to make what failed smaller.
const SHRINKS: usize = 2_000;
const METHODS: &[&str] =
    &["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PROPFIND"];
/// Paths with places for anything.
const SHAPES: &[&str] = &[
    "/v1/{}",
    "/v1/{}/segments",
    "/v1/segments/{}",
    "/v1/segments/{}/hosts",
    "/v1/segments/{}/hosts/{}",
    "/v1/notifications/{}",
    "/v1/notifications/{}/vmoves/{}",
    "/v1/extensions/{}",
    "/halberd/v1/{}",
    "/halberd/v1/recoveries/{}/explain",
    "/halberd/v1/wishes/{}",
    "/halberd/v1/hosts/{}/fence-devices",
    "/halberd/v1/hosts/{}/fence-history",
    "/halberd/v1/segments/{}/policy",
    "/halberd/v1/agents/self/orders/{}",
    "/{}",
    "/{}/{}",
];

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn cases() -> u32 {
    let default = if std::env::var_os("HALBERD_LONG").is_some() { CASES_LONG } else { CASES };
    u32::try_from(number("HALBERD_PROPERTY_CASES", default.into())).unwrap()
}

fn runner() -> TestRunner {
    let seed = number("HALBERD_PROPERTY_SEED", 20_261_121);
    println!("HALBERD_PROPERTY_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// An API with one of everything, and a cloud that knows its hosts.
struct Site {
    runtime: Runtime,
    kit: Kit,
    segment: String,
    host: HostId,
    note: String,
    recovery: Uuid,
    order: Uuid,
}

impl Site {
    fn new() -> Site {
        let runtime = Runtime::new().unwrap();
        let (kit, segment, host, note, recovery, order) = runtime.block_on(async {
            let kit = in_memory().await;
            let segment = kit.segment("a").await;
            let host: HostId = kit.host(&segment, "cmp-01").await.parse().unwrap();
            let made = kit.report(&host_down("cmp-01")).await.expect(202).json();
            let note = made["notification"]["notification_uuid"].as_str().unwrap().to_owned();
            let recovery = recovery_of(note.parse().unwrap(), host, segment.parse().unwrap());
            let (order, now) = (Uuid::new_v4(), kit.app.now());
            write(&kit.app.db, async |tx| {
                let opening =
                    Opening { recovery: &recovery, report: None, audit: &[], events: &[], webhooks: &[] };
                recoveries::open(tx, &opening, now).await?;
                agent_keys::set(tx, &kit.app.sealer, host, &KEY, now).await?;
                orders::insert(tx, order, host, "restart_unit", &json!({ "unit": "x" }), now).await
            })
            .await
            .unwrap();
            (kit, segment, host, note, recovery.id.0, order)
        });
        Site { runtime, kit, segment, host, note, recovery, order }
    }

    fn status(&self, router: Router, request: Request<Body>) -> u16 {
        self.statuses(vec![(router, request)])[0]
    }

    /// All at once, as bad clients come in crowds.
    fn statuses(&self, requests: Vec<(Router, Request<Body>)>) -> Vec<u16> {
        let answers = requests
            .into_iter()
            .map(async |(router, request)| router.oneshot(request).await.unwrap().status().as_u16());
        self.runtime.block_on(join_all(answers))
    }

    /// Every route with a body: method, path, a body that is good.
    fn routes(&self) -> Vec<(&'static str, String, Value)> {
        let (segment, host, recovery) = (&self.segment, self.host.0, self.recovery);
        let on = |rest: &str| format!("/halberd/v1/hosts/{host}/{rest}");
        let about = |rest: &str| format!("/halberd/v1/recoveries/{recovery}/{rest}");
        let reason = json!({ "reason": "because" });
        let devices = json!({ "levels": [{ "devices": [
            { "type": "redfish", "address": "https://bmc", "username": "u", "password": "p", "system": "1", "serial": "S",
              "tls": { "fingerprint": "ab".repeat(32) } },
            { "type": "ipmi", "address": "10.0.0.1:623", "username": "u", "password": "p", "cipher": 17, "privlvl": "operator" },
        ] }, { "devices": [{ "type": "watchdog" }] }] });
        let policy = json!({ "unfenced": "refuse", "reporters": "witnessed", "profile": "fast" });
        vec![
            (
                "POST",
                "/v1/segments".into(),
                json!({ "segment": { "name": "b", "recovery_method": "auto",
                "service_type": "COMPUTE", "description": "d", "enabled": true } }),
            ),
            (
                "PUT",
                format!("/v1/segments/{segment}"),
                json!({ "segment": { "name": "a", "description": "d", "enabled": true } }),
            ),
            (
                "POST",
                format!("/v1/segments/{segment}/hosts"),
                json!({ "host": { "name": "cmp-02", "type": "COMPUTE",
                "control_attributes": "SSH", "reserved": false, "on_maintenance": false } }),
            ),
            (
                "PUT",
                format!("/v1/segments/{segment}/hosts/{host}"),
                json!({ "host": { "type": "COMPUTE", "reserved": false,
                "control_attributes": "SSH", "on_maintenance": false } }),
            ),
            ("POST", "/v1/notifications".into(), host_down("cmp-01")),
            ("POST", "/v1/notifications".into(), guest_down("cmp-01", &Uuid::from_u128(6).to_string())),
            (
                "POST",
                "/v1/notifications".into(),
                report("PROCESS", "cmp-01", &[("event", "STOPPED"), ("process_name", "nova-compute")]),
            ),
            ("PUT", format!("/halberd/v1/segments/{segment}/policy"), policy),
            ("POST", on("fence"), json!({ "reason": "because", "dry_run": false })),
            ("POST", on("confirm-fenced"), json!({ "reason": "because", "serial": "S1" })),
            ("POST", on("readmit"), reason.clone()),
            ("PUT", on("attributes"), json!({ "rack": "r1", "power": "p1", "switch": "s1", "serial": "S1" })),
            ("POST", on("agent-key"), json!({})),
            ("PUT", on("fence-devices"), devices),
            ("POST", on("fence-devices/check"), reason.clone()),
            ("POST", on("fence-test"), json!({ "reason": "because", "really_power_off": true })),
            ("POST", on("power-on"), reason.clone()),
            ("POST", about("retry"), reason.clone()),
            ("POST", about("release"), reason.clone()),
            ("POST", about("cancel"), reason.clone()),
            (
                "POST",
                "/halberd/v1/disarm".into(),
                json!({ "reason": "because", "until": "2027-01-01T00:00:00Z" }),
            ),
            ("POST", "/halberd/v1/arm".into(), reason.clone()),
            ("POST", "/halberd/v1/reconcile-only/leave".into(), reason),
        ]
    }

    /// What agents say, signed: path and a body that is good.
    fn reports(&self) -> Vec<(String, Value)> {
        let said = |kind: &str, more: Value| {
            let mut report = json!({ "report_id": Uuid::from_u128(1), "host": self.host, "boot": BOOT, "observed_ns": 5,
                "observed_at": "2026-11-21T10:00:00Z", "kind": kind });
            report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            (REPORTS_PATH.to_owned(), report)
        };
        let domain = json!({ "uuid": Uuid::from_u128(6), "name": "instance-1", "state": 1, "reason": 1 });
        let result =
            json!({ "order_id": self.order, "outcome": "done", "detail": "d", "answered": ["10.0.0.1:22"] });
        vec![
            said(
                "guest_stopped",
                json!({ "instance_uuid": Uuid::from_u128(6), "event": "LIFECYCLE", "vir_domain_event": "STOPPED_FAILED" }),
            ),
            said("process_stopped", json!({ "process_name": "nova-compute" })),
            said("domains", json!({ "domains": [domain] })),
            said("panic", json!({ "detail": "d" })),
            said(
                "identity",
                json!({ "hostname": "cmp-01", "agent_version": "1", "serial": "S", "product_uuid": Uuid::from_u128(6) }),
            ),
            (format!("{ORDERS_PATH}/{}", self.order), result),
        ]
    }
}

/// As [`crate::kit::kit`], on a file system in memory where there is one: the disk's syncs are no part of the question.
async fn in_memory() -> Kit {
    let memory = Path::new("/dev/shm");
    let dir = TempDir::new_in(memory).or_else(|_| TempDir::new()).unwrap();
    let db = Db::open_with(&crate::kit::url(dir.path()), Options::new(Access::Exclusive)).await.unwrap();
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    let app = App::new(Parts {
        config: ApiConfig { auth: AuthMode::None, ..ApiConfig::default() },
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

fn request(method: &str, path: &str, body: Vec<u8>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    request.header("openstack-api-version", "instance-ha 1.3").body(Body::from(body)).unwrap()
}

/// Values of a strategy, made once.
struct Pool<S: Strategy> {
    strategy: S,
    values: Vec<S::Value>,
}

impl<S: Strategy> Pool<S>
where
    S::Value: Clone,
{
    fn of(strategy: S, cases: u32) -> Pool<S> {
        let mut runner = runner();
        let values = (0..cases).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        Pool { strategy, values }
    }

    /// No value of the pool, made into a request, is answered with 5xx. The first that is, is shrunk and shown.
    fn check(&self, name: &str, site: &Site, request: impl Fn(&S::Value) -> Option<(Router, Request<Body>)>)
    where
        S::Value: std::fmt::Debug,
    {
        let mut seen = BTreeMap::<u16, u32>::new();
        for (n, crowd) in self.values.chunks(CROWD).enumerate() {
            let statuses = site.statuses(crowd.iter().filter_map(&request).collect());
            if let Some(bad) = statuses.iter().position(|status| *status >= 500) {
                let asked: Vec<_> =
                    crowd.iter().enumerate().filter(|(_, value)| request(value).is_some()).collect();
                let fails = |value: &S::Value| {
                    request(value).is_some_and(|(router, request)| site.status(router, request) >= 500)
                };
                let shown = self.smallest(n * CROWD + asked[bad].0, fails);
                panic!("{name}: {} by {:?}, at its smallest {shown:?}", statuses[bad], asked[bad].1);
            }
            statuses.iter().for_each(|status| *seen.entry(*status).or_default() += 1);
        }
        println!("{name}: {seen:?}");
    }

    /// The same value again, made smaller for as long as it fails.
    fn smallest(&self, place: usize, fails: impl Fn(&S::Value) -> bool) -> S::Value {
        let mut runner = runner();
        let trees = (0..=place).map(|_| self.strategy.new_tree(&mut runner).unwrap());
        let mut tree = trees.last().unwrap();
        let mut smallest = tree.current();
        for _ in 0..SHRINKS {
            let failed = fails(&tree.current());
            if failed {
                smallest = tree.current();
            }
            if !(if failed { tree.simplify() } else { tree.complicate() }) {
                break;
            }
        }
        smallest
    }
}

/// The good bodies are good: else all that is near them would be refused for the same reason.
#[test]
fn the_good_bodies_are_good() {
    let site = Site::new();
    // A new agent-key would make the reports a stranger's.
    for (counter, (path, body)) in (1..).zip(site.reports()) {
        let body = body.to_string().into_bytes();
        let status = site.status(router(site.kit.app.clone()), signed(&site, &path, counter, body));
        assert!(status < 300, "{path}: {status}");
    }
    for (method, path, body) in site.routes() {
        let status = site.status(site.kit.router.clone(), request(method, &path, body.to_string().into()));
        assert!(status < 300 || status == 409, "{method} {path}: {status} {body}");
    }
}

/// A new route with a body is in the table, or this fails.
#[test]
fn no_route_is_forgotten() {
    let site = Site::new();
    let mut known: Vec<(String, String)> =
        site.routes().into_iter().map(|(method, path, _)| (method.to_lowercase(), path)).collect();
    known.extend(site.reports().into_iter().map(|(path, _)| ("post".to_owned(), path)));
    let fits = |pattern: &str, path: &str| {
        let (pattern, path) =
            (pattern.split('/'), path.strip_prefix("/halberd/v1").unwrap_or(path).split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern.zip(path).all(|(pattern, path)| pattern.starts_with('{') || pattern == path)
    };
    let document = halberd_api::halberd::openapi_document();
    for (pattern, operations) in document["paths"].as_object().unwrap() {
        for method in ["post", "put", "patch"].iter().filter(|method| operations.get(**method).is_some()) {
            let found = known.iter().any(|(known, path)| known == method && fits(pattern, path));
            assert!(found, "{method} {pattern} is not in the table of routes");
        }
    }
}

fn signed(site: &Site, path: &str, counter: u64, body: Vec<u8>) -> Request<Body> {
    let signed = sign(&AgentKey::from_bytes(KEY), "POST", path, site.host.0, BOOT, counter, &body);
    let mut request = Request::builder().method("POST").uri(path);
    for (name, value) in signed.headers() {
        request = request.header(name, value);
    }
    request.body(Body::from(body)).unwrap()
}

#[test]
fn no_body_is_our_fault() {
    let site = Site::new();
    let pool = Pool::of(bodies::spoiled(), cases());
    for (method, path, valid) in site.routes() {
        pool.check(&format!("{method} {path}"), &site, |spoiled| {
            Some((site.kit.router.clone(), request(method, &path, spoiled.body(&valid))))
        });
    }
}

/// Signed by the host's own key: what a broken, or broken into, hypervisor may say.
#[test]
fn no_report_of_an_agent_is_our_fault() {
    let site = Site::new();
    let pool = Pool::of(bodies::spoiled(), cases());
    let (counter, agents) = (Cell::new(0), RefCell::new(router(site.kit.app.clone())));
    for (path, valid) in site.reports() {
        pool.check(&format!("{path} {}", valid["kind"]), &site, |spoiled| {
            counter.set(counter.get() + 1);
            if counter.get() % ALLOWANCE == 0 {
                *agents.borrow_mut() = router(site.kit.app.clone());
            }
            // A report that is known is answered from memory: each has a name of its own.
            let body = String::from_utf8(spoiled.body(&valid)).map(|text| {
                let own = Uuid::from_u128(u128::from(counter.get()) << 64).to_string();
                text.replace(&Uuid::from_u128(1).to_string(), &own).into_bytes()
            });
            let body = body.unwrap_or_else(|error| error.into_bytes());
            Some((agents.borrow().clone(), signed(&site, &path, counter.get(), body)))
        });
    }
}

/// No database but SQLite keeps it, and no program in C sees what stands behind it.
#[test]
fn nul_is_refused_in_every_text_of_every_route() {
    let site = Site::new();
    let takes_no_body = |path: &str| path.ends_with("/agent-key");
    // A check is refused before its body is read where there is nothing to check.
    for (method, path, valid) in
        site.routes().into_iter().filter(|(_, path, _)| path.ends_with("/fence-devices"))
    {
        let set = site.status(site.kit.router.clone(), request(method, &path, valid.to_string().into()));
        assert_eq!(set, 200);
    }
    for (method, path, valid) in site.routes().into_iter().filter(|(_, path, _)| !takes_no_body(path)) {
        for body in bodies::with_nul(&valid) {
            let status =
                site.status(site.kit.router.clone(), request(method, &path, body.to_string().into()));
            assert_eq!(status, 400, "{method} {path}: {body}");
        }
    }
    let mut counter = 0;
    for (path, valid) in site.reports() {
        for body in bodies::with_nul(&valid) {
            counter += 1;
            let body = body.to_string().into_bytes();
            let status = site.status(router(site.kit.app.clone()), signed(&site, &path, counter, body));
            assert_eq!(status, 400, "{path}");
        }
    }
}

#[test]
fn no_query_is_our_fault() {
    let site = Site::new();
    let pool = Pool::of(bodies::query(), cases() / 2);
    let lists = [
        "/v1/segments".to_owned(),
        format!("/v1/segments/{}/hosts", site.segment),
        "/v1/notifications".into(),
        format!("/v1/notifications/{}/vmoves", site.note),
        "/halberd/v1/recoveries".into(),
        "/halberd/v1/events".into(),
        "/halberd/v1/audit".into(),
        "/halberd/v1/audit/chains".into(),
        "/halberd/v1/agents".into(),
        "/halberd/v1/services".into(),
        "/halberd/v1/engines".into(),
    ];
    for list in lists {
        pool.check(&format!("GET {list}?"), &site, |query| {
            // What is no URI never gets past the listener.
            let uri: Uri = format!("{list}?{query}").parse().ok()?;
            let request = Request::get(uri).header("openstack-api-version", "instance-ha 1.3");
            Some((site.kit.router.clone(), request.body(Body::empty()).unwrap()))
        });
    }
}

#[test]
fn no_path_is_our_fault() {
    let site = Site::new();
    let asked = (prop::sample::select(METHODS), prop::sample::select(SHAPES), bodies::part(), bodies::part());
    Pool::of(asked, 2 * cases()).check("any path", &site, |(method, shape, one, two)| {
        let uri: Uri = shape.replacen("{}", one, 1).replacen("{}", two, 1).parse().ok()?;
        let request = Request::builder().method(*method).uri(uri).body(Body::from("{}")).unwrap();
        Some((site.kit.router.clone(), request))
    });
}

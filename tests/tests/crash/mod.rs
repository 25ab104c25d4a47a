//! Crash points: the real engine on real sockets and real databases, stopped at a named place and resumed.
//!
//! The engine is the product's; the cloud is simulated and knows what really happened; the database is SQLite, PostgreSQL or MariaDB.
//! Each run has a world and a database of its own. A run is a story ([`scripts`]), a place at which an engine is taken away ([`points`],
//! [`machine`]) and who goes on; [`judge`] reads the cloud's history and the tables when it is over.

pub mod judge;
pub mod machine;
mod plan;
pub mod points;
pub mod scripts;
mod sweep;
pub mod twice;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use halberd_core::host::Host;
use halberd_core::id::{HostId, NotificationId, SegmentId};
use halberd_core::notification::{Notification, NotificationStatus, Origin};
use halberd_core::segment::Segment;
use halberd_core::time::Stamp;
use halberd_engine::announcer::AnnouncerOptions;
use halberd_engine::clock;
use halberd_openstack::OpenstackConfig;
use halberd_sim::BmcKind;
use halberd_sim::shell::Cloud;
use halberd_store::restore_policies::{self, FormerPolicy};
use halberd_store::testing::{On, Own};
use halberd_store::{Access, Db, Sealer, fence_devices, hosts, migrate, notifications, segments, write};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use judge::{Ended, Guest, Tables};
use machine::{KEY, Machine, Setting};
use points::{Point, Points};
use scripts::{RESERVED, STRUCK, Script};
use twice::Repeat;

/// Who goes on after the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The same engine, started again under its name.
    Itself,
    /// Another one. On a server it runs beside from the beginning; on SQLite, whose file one engine holds, it starts afterwards.
    Another,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    pub script: Script,
    pub on: On,
    pub by: By,
    pub point: Option<Point>,
    pub repeat: Option<Arc<Repeat>>,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} on {:?}", self.script, self.on)?;
        if let Some(point) = &self.point {
            write!(f, ", stopped at {point}, resumed by {:?}", self.by)?;
        }
        if let Some(repeat) = &self.repeat {
            write!(f, ", {} {:?}", repeat.effect, repeat.how)?;
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    pub passed: BTreeMap<String, usize>,
    pub struck: bool,
    /// From the crash until somebody went on.
    pub resumed_after: Option<Duration>,
    pub findings: Vec<String>,
    pub took: Duration,
}

/// How often a run is looked at whether it is over.
const LOOK: Duration = Duration::from_millis(250);

/// A place for one run: world, database, receiver.
struct Stage {
    cloud: Cloud,
    /// Its folder goes with it.
    _own: Own,
    db: Db,
    guests: Vec<Guest>,
    segment: SegmentId,
    host: HostId,
    setting: Setting,
    delivered: Arc<Mutex<Vec<String>>>,
}

/// Plays a run to its end. `None`: its database's server is not installed.
pub async fn play(run: &Run) -> Option<Outcome> {
    let began = Instant::now();
    let own = {
        // One after the other: a server that makes thirty schemas at once answers nobody.
        static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _alone = MAKING.lock().await;
        on_its_own(run.on).await?
    };
    let stage = Stage::build(run, own).await;
    let points = Points::new(run.point.clone());
    points.watch_tables(stage.db.clone());
    let mut struck = points.struck();
    let beside = run.by == By::Another && run.on != On::Sqlite;
    let names = if beside { &["one", "two"][..] } else { &["one"][..] };
    let mut machines: Vec<Option<Machine>> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        machines.push(Some(Machine::start(&stage.setting, name, points.of(number))));
    }
    let reports = run.script.begin(&stage.cloud);
    while !run.script.is_noticed(&stage.cloud) && began.elapsed() < Script::PATIENCE {
        let _ = tokio::time::timeout(LOOK, struck.changed()).await;
    }
    let acknowledged = reports.len();
    for report in reports {
        stage.report(report).await;
    }
    let mut ended = false;
    let mut was_struck = false;
    while began.elapsed() < Script::PATIENCE {
        let number = *struck.borrow_and_update();
        if let Some(number) = number.filter(|_| !was_struck) {
            was_struck = true;
            if let Some(machine) = machines[number].take() {
                let name = machine.name.clone();
                machine.kill().await;
                let next = if run.by == By::Itself { name } else { "two".to_owned() };
                if !beside {
                    machines.push(Some(Machine::start(&stage.setting, &next, points.of(9))));
                }
            }
        }
        run.script.go_on(&stage.cloud);
        // One that cannot be read now is read again.
        if Tables::read(&stage.db).await.is_ok_and(|tables| run.script.is_over(&tables)) {
            ended = true;
            break;
        }
        let _ = tokio::time::timeout(LOOK, struck.changed()).await;
    }
    for machine in machines.into_iter().flatten() {
        machine.kill().await;
    }
    let mut findings = points.wrong();
    if ended {
        let delivered = stage.delivered.lock().expect("nobody panics with it").clone();
        let (script, cloud, db, guests) = (run.script, &stage.cloud, &stage.db, &stage.guests[..]);
        findings.extend(judge::judge(&Ended { script, cloud, db, guests, delivered, acknowledged }).await);
    } else {
        let tables = Tables::read(&stage.db).await;
        let told = tables.map_or_else(|error| error.to_string(), |tables| tables.tell());
        findings.push(format!("L4: it does not end: {told}"));
    }
    stage.cloud.stop();
    stage.db.close().await;
    Some(Outcome {
        passed: points.passed(),
        struck: was_struck,
        resumed_after: points.resumed_after(),
        findings,
        took: began.elapsed(),
    })
}

/// A database with its schema. A server that has thirty to make may answer late; what it has of a schema is taken up.
async fn on_its_own(on: On) -> Option<Own> {
    let own = on.empty().await?;
    for tries in 0..6 {
        match on {
            On::Sqlite => break,
            On::Postgres | On::Mariadb => match migrate::migrate(&own.url).await {
                Ok(_) => break,
                Err(error) => assert!(tries < 5, "{error}"),
            },
        }
    }
    Some(own)
}

impl Stage {
    async fn build(run: &Run, own: Own) -> Stage {
        let script = run.script;
        let cloud = Cloud::around(script.world()).await.expect("sockets on loopback");
        // SQLite's schema is made by whoever opens the file first.
        let db = machine::open(&own.url, Access::Shared).await;
        let guests = {
            let world = cloud.world();
            world.guests_placed_on(STRUCK)
        };
        let states = {
            let mut world = cloud.world();
            let now = world.now();
            guests
                .iter()
                .map(|id| world.server(now, *id).answer.expect("it is there").vm_state)
                .collect::<Vec<_>>()
        };
        let guests = guests.into_iter().zip(states).map(|(id, state)| Guest { id, state }).collect();
        let delivered = Arc::new(Mutex::new(Vec::new()));
        let setting = setting(run, &cloud, &own.url, &delivered).await;
        let segment = Segment {
            id: SegmentId(Uuid::new_v4()),
            name: "rack-a".into(),
            description: None,
            service_type: "COMPUTE".into(),
            recovery_method: script.method(),
            enabled: true,
        };
        write(&db, async |tx| segments::create(tx, &segment, clock::stamp()).await).await.expect("stored");
        let sealer = Sealer::new(&KEY);
        write(&db, async |tx| sealer.check(tx, clock::stamp()).await).await.expect("stored");
        let mut struck = None;
        for name in cloud.host_names() {
            let id = add_host(&db, &cloud, segment.id, script, &name, &sealer).await;
            if name == STRUCK {
                struck = Some(id);
            }
        }
        let host = struck.expect("it is one of the hosts");
        Stage { cloud, _own: own, db, guests, segment: segment.id, host, setting, delivered }
    }

    /// As the API does: acknowledged once it is stored.
    async fn report(&self, report: scripts::Report) {
        let row = Notification {
            id: NotificationId(Uuid::new_v4()),
            kind: report.kind,
            host: self.host,
            segment: self.segment,
            generated_at: clock::stamp(),
            payload: report.payload,
            origin: Origin::Caller,
            status: NotificationStatus::New,
            message: None,
        };
        let window = Duration::from_secs(180);
        let received =
            write(&self.db, async |tx| notifications::receive(tx, &row, window, clock::stamp()).await).await;
        assert!(matches!(received, Ok(notifications::Received::Accepted(_))), "{received:?}");
    }
}

async fn add_host(
    db: &Db,
    cloud: &Cloud,
    segment: SegmentId,
    script: Script,
    name: &str,
    sealer: &Sealer,
) -> HostId {
    let view = cloud.world().host(name);
    let host = Host {
        kind: "COMPUTE".into(),
        reserved: script == Script::Reserved && name == RESERVED,
        serial: Some(view.serial),
        machine: Some(view.uuid),
        ..Host::new(HostId(Uuid::new_v4()), segment, name.to_owned())
    };
    write(db, async |tx| hosts::create(tx, &host, clock::stamp()).await).await.expect("stored");
    let bmc = cloud.bmc(name).expect("every host has one");
    let kind = if bmc.kind == BmcKind::Redfish { "redfish" } else { "ipmi" };
    let device = |password: &str| {
        // Devices of one address are taken for one controller and wait for each other; here each port is a machine, in a dozen runs.
        let device = json!({"type": kind, "address": bmc.device_address(), "username": bmc.username, "password": password,
            "bmc": bmc.device_address()});
        json!({"levels": [{"devices": [device]}]})
    };
    let (levels, shown) = (device(&bmc.password), device("***"));
    write(db, async |tx| fence_devices::set(tx, sealer, host.id, &levels, &shown, clock::stamp()).await)
        .await
        .expect("stored");
    if script.noted_before() && name == STRUCK {
        let (device, former) = (format!("{kind} {}", bmc.device_address()), "always_on".to_owned());
        let policy = FormerPolicy { host: host.id, device, former, at: clock::stamp() };
        write(db, async |tx| restore_policies::record(tx, &policy).await).await.expect("stored");
    }
    host.id
}

/// What the engines of a run are configured with.
async fn setting(run: &Run, cloud: &Cloud, url: &str, delivered: &Arc<Mutex<Vec<String>>>) -> Setting {
    let login = cloud.login("halberd").expect("the simulated cloud has a user for us");
    let openstack = OpenstackConfig {
        auth_url: Some(login.auth_url),
        username: Some(login.username),
        password: Some(SecretString::from(login.password)),
        project_name: Some(login.project_name),
        user_domain_name: Some(login.domain_name.clone()),
        project_domain_name: Some(login.domain_name),
        ..OpenstackConfig::default()
    };
    let mut webhooks = Vec::new();
    if run.script.announces() {
        let url = receiver(delivered.clone()).await;
        let hook = json!({"name": "ops", "url": url, "timeout_ms": 1_000});
        webhooks.push(serde_json::from_value(hook).expect("a webhook"));
    }
    let hooks = run.script.hooks();
    Setting {
        url: url.to_owned(),
        openstack,
        policy: run.script.policy(),
        hooks: hooks.into_iter().map(|hook| serde_json::from_value(hook).expect("a hook")).collect(),
        webhooks,
        announcer: hurried(),
        limits: run.script.limits(),
        repeat: run.repeat.clone(),
    }
}

/// A claim on a delivery lasts eleven seconds; the clock by which it does goes sixteen times as fast.
fn hurried() -> AnnouncerOptions {
    let (began, at) = (Instant::now(), clock::stamp());
    let clock =
        move || Stamp(at.0 + 16 * i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX / 32));
    AnnouncerOptions {
        clock: Arc::new(clock),
        poll: Duration::from_millis(100),
        ..AnnouncerOptions::default()
    }
}

/// Takes messages and remembers their ids.
async fn receiver(delivered: Arc<Mutex<Vec<String>>>) -> String {
    let take = async move |headers: HeaderMap| {
        let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        delivered.lock().expect("nobody panics with it").push(id);
    };
    let app = axum::Router::new().route("/", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}/")
}

//! The road from sights to rows, events, audit records and orders, on a real database and in handed-in time; and the probes of
//! HTTP services against answers of every kind. The probes of databases and brokers have their real servers in
//! `tests/services.rs`.

mod http;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use halberd_core::event::EventKind;
use halberd_core::host::Host;
use halberd_core::id::{EngineId, HostId, SegmentId};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::{Mono, Stamp};
use halberd_store::orders::OrderRow;
use halberd_store::settings::Disarm;
use halberd_store::{
    Access, Db, audit, deliveries, events, hosts, orders, segments, services, settings, write,
};
use halberd_types::halberd::service::{ActionState, ServiceAction};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::config::ServiceConfig;
use super::service::Service;
use super::{Sight, Supervisor, SupervisorOptions};

struct Bench {
    db: Db,
    engine: EngineId,
    leads: Arc<AtomicBool>,
    host: HostId,
    seconds: u64,
    _folder: TempDir,
}

fn config(change: Value) -> ServiceConfig {
    let mut section = json!({
        "kind": "memcached", "name": "cache", "targets": ["c1", "c2"], "unit": "memcached.service", "hosts": ["ctl-1"],
        "action": "restart",
    });
    for (key, value) in change.as_object().unwrap() {
        section[key] = value.clone();
    }
    let config: ServiceConfig = serde_json::from_value(section).unwrap();
    config.check().unwrap();
    config
}

fn up() -> Sight {
    Sight::Up { latency: Duration::from_millis(3) }
}

fn down() -> Sight {
    Sight::Down { reason: "connection refused".into() }
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("halberd.db").display());
        let db = Db::open(&url, Access::Exclusive).await.unwrap();
        let segment = Segment {
            id: SegmentId(Uuid::new_v4()),
            name: "controllers".into(),
            description: None,
            service_type: "CONTROL".into(),
            recovery_method: RecoveryMethod::Auto,
            enabled: true,
        };
        let host = Host {
            kind: "SSH".into(),
            control_attributes: "x".into(),
            ever_agent: true,
            ..Host::new(HostId(Uuid::new_v4()), segment.id, "ctl-1")
        };
        write(&db, async |tx| {
            segments::create(tx, &segment, Stamp(0)).await?;
            hosts::create(tx, &host, Stamp(0)).await
        })
        .await
        .unwrap();
        let leads = Arc::new(AtomicBool::new(true));
        Bench {
            db,
            engine: EngineId(Uuid::new_v4()),
            leads,
            host: host.id,
            seconds: 1_000_000,
            _folder: folder,
        }
    }

    async fn service(&self, config: &ServiceConfig) -> Service {
        let leads = self.leads.clone();
        let options = SupervisorOptions {
            webhooks: Arc::new(|_| vec!["hook".into()]),
            leads: Arc::new(move || leads.load(Ordering::Relaxed)),
            ..SupervisorOptions::new(self.engine, "engine-1")
        };
        Service::load(self.db.clone(), config.clone(), &config.targets, options, Stamp(0)).await
    }

    /// The same sight of one target so often, a second apart.
    async fn see(&mut self, service: &mut Service, place: usize, sight: Sight, times: u32) {
        for _ in 0..times {
            self.seconds += 1;
            service
                .take(place, sight.clone(), Mono(self.seconds * 1000), Stamp(self.seconds as i64 * 1_000_000))
                .await;
        }
    }

    async fn told(&self) -> Vec<(EventKind, String, String)> {
        let rows = events::since(&self.db, 0, 1000).await.unwrap();
        rows.into_iter()
            .map(|row| {
                (row.event.kind, row.event.subject, row.event.data["text"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    async fn orders(&self) -> Vec<OrderRow> {
        orders::pending(&self.db, self.host).await.unwrap()
    }

    async fn done(&self, order: &OrderRow, succeeded: bool) {
        let result = json!({"outcome": if succeeded { "done" } else { "failed" }, "detail": "exit code 3"});
        assert!(
            write(&self.db, async |tx| orders::done(tx, order.id, self.host, succeeded, &result, Stamp(9))
                .await)
            .await
            .unwrap()
        );
    }

    async fn row(&self) -> services::ServiceRow {
        services::by_name(&self.db, "cache").await.unwrap().unwrap()
    }

    async fn action(&self) -> ServiceAction {
        serde_json::from_value(self.row().await.probe["action"].clone()).unwrap()
    }
}

fn tells(told: &[(EventKind, String, String)]) -> Vec<(EventKind, &str)> {
    told.iter().map(|(kind, subject, _)| (*kind, subject.as_str())).collect()
}

use EventKind::{ServiceDown as Down, ServiceUp as Up};

#[tokio::test]
async fn targets_and_the_whole_are_told_of_apart_and_once() {
    let (mut bench, config) = (Bench::new().await, config(json!({"action": "none"})));
    let mut cache = bench.service(&config).await;
    for place in 0..2 {
        bench.see(&mut cache, place, up(), 3).await;
    }
    assert_eq!(bench.row().await.state, "up");
    assert!(bench.told().await.is_empty(), "that all is well is no news");
    bench.see(&mut cache, 0, down(), 9).await;
    assert_eq!(tells(&bench.told().await), [(Down, "service/cache@c1")]);
    let row = bench.row().await;
    assert_eq!((row.state.as_str(), row.reason.as_str()), ("up", "c1: connection refused"));
    bench.see(&mut cache, 1, down(), 3).await;
    assert_eq!(bench.row().await.state, "down");
    bench.see(&mut cache, 1, up(), 2).await;
    let told = bench.told().await;
    assert_eq!(
        tells(&told)[1..],
        [
            (Down, "service/cache@c2"),
            (Down, "service/cache"),
            (Up, "service/cache@c2"),
            (Up, "service/cache")
        ]
    );
    assert_eq!(
        services::downs(&bench.db, bench.row().await.id, Stamp(0)).await.unwrap().len(),
        1,
        "the ledger knows the whole"
    );
    assert_eq!(deliveries::list(&bench.db, Some("hook"), None, 100).await.unwrap().len(), told.len());
    assert!(bench.orders().await.is_empty(), "action none does nothing");
    assert!(audit::verify(&bench.db).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restart_is_ordered_once_carried_out_and_verified_by_the_probe() {
    let (mut bench, config) = (Bench::new().await, config(json!({"targets": ["c1"]})));
    let mut cache = bench.service(&config).await;
    bench.see(&mut cache, 0, up(), 1).await;
    bench.see(&mut cache, 0, down(), 10).await;
    let orders = bench.orders().await;
    assert_eq!(orders.len(), 1);
    assert_eq!(
        (orders[0].kind.as_str(), &orders[0].body["unit"]),
        ("restart_unit", &json!("memcached.service"))
    );
    assert_eq!(bench.action().await.state, ActionState::Ongoing);
    bench.done(&orders[0], true).await;
    bench.see(&mut cache, 0, down(), 1).await;
    assert_eq!(bench.action().await.state, ActionState::Ongoing, "carried out is not yet verified");
    bench.see(&mut cache, 0, up(), 2).await;
    assert_eq!(bench.action().await.state, ActionState::Succeeded);
    let told = bench.told().await;
    assert_eq!(tells(&told), [(Down, "service/cache"), (Up, "service/cache")]);
    assert!(told[1].2.contains("after a restart"), "{}", told[1].2);
    let whats: Vec<String> = audit::of_chain(&bench.db, &audit::engine_chain(bench.engine))
        .await
        .unwrap()
        .into_iter()
        .map(|(link, _)| link.entry.what)
        .collect();
    assert_eq!(whats, ["service_went_down", "restart_ordered", "service_came_up"]);
}

#[tokio::test]
async fn what_comes_up_by_itself_is_not_restarted_after_all() {
    let (mut bench, config) = (Bench::new().await, config(json!({"targets": ["c1"]})));
    let mut cache = bench.service(&config).await;
    bench.see(&mut cache, 0, down(), 3).await;
    let order = bench.orders().await.remove(0);
    bench.see(&mut cache, 0, up(), 2).await;
    assert!(bench.orders().await.is_empty(), "the order was withdrawn");
    let order = orders::get(&bench.db, order.id).await.unwrap();
    assert_eq!((order.succeeded, &order.result.unwrap()["outcome"]), (Some(false), &json!("withdrawn")));
    assert_eq!(bench.action().await.state, ActionState::Withheld);
}

#[tokio::test]
async fn a_restart_that_does_not_help_is_told_and_not_repeated_at_once() {
    let limits = json!({"verify_ms": 20_000, "restart_gap_ms": 100_000});
    let (mut bench, config) = (Bench::new().await, config(json!({"targets": ["c1"], "thresholds": limits})));
    let mut cache = bench.service(&config).await;
    bench.see(&mut cache, 0, down(), 3).await;
    bench.done(&bench.orders().await[0], true).await;
    bench.see(&mut cache, 0, down(), 25).await;
    assert_eq!(bench.action().await.state, ActionState::Failed);
    let told = bench.told().await;
    assert_eq!(tells(&told), [(Down, "service/cache"), (Down, "service/cache")]);
    assert!(told[1].2.contains("still down"), "{}", told[1].2);
    bench.see(&mut cache, 0, down(), 70).await;
    assert!(bench.orders().await.is_empty());
    bench.see(&mut cache, 0, down(), 10).await;
    assert_eq!(bench.orders().await.len(), 1, "after the gap, once more");
    bench.done(&bench.orders().await[0], false).await;
    bench.see(&mut cache, 0, down(), 1).await;
    let told = bench.told().await;
    assert!(told[2].2.contains("the agent could not: exit code 3"), "{}", told[2].2);
}

#[tokio::test]
async fn an_agent_that_takes_no_order_is_told_of() {
    let (mut bench, config) =
        (Bench::new().await, config(json!({"targets": ["c1"], "thresholds": {"verify_ms": 5_000}})));
    let mut cache = bench.service(&config).await;
    bench.see(&mut cache, 0, down(), 10).await;
    assert!(bench.orders().await.is_empty());
    let told = bench.told().await;
    assert!(told[1].2.contains("no agent took the order"), "{}", told[1].2);
}

#[tokio::test]
async fn nothing_is_ordered_while_disarmed_or_for_an_unknown_host() {
    let (mut bench, known) = (Bench::new().await, config(json!({"targets": ["c1"]})));
    let disarm =
        Disarm { actor: "ann".into(), reason: "works on the racks".into(), since: Stamp(0), until: None };
    write(&bench.db, async |tx| settings::set_disarm(tx, Some(&disarm), Stamp(0)).await).await.unwrap();
    let mut cache = bench.service(&known).await;
    bench.see(&mut cache, 0, down(), 5).await;
    assert!(bench.orders().await.is_empty());
    let action = bench.action().await;
    assert_eq!(action.state, ActionState::Withheld);
    assert!(action.reason.unwrap().contains("works on the racks"));
    write(&bench.db, async |tx| settings::set_disarm(tx, None, Stamp(0)).await).await.unwrap();
    bench.see(&mut cache, 0, down(), 1).await;
    assert_eq!(bench.orders().await.len(), 1, "armed again, it is judged afresh");

    let unknown = config(json!({"name": "other", "targets": ["c1"], "hosts": ["ctl-9"]}));
    let mut other = bench.service(&unknown).await;
    bench.see(&mut other, 0, down(), 5).await;
    let row = services::by_name(&bench.db, "other").await.unwrap().unwrap();
    assert!(row.probe["action"]["reason"].as_str().unwrap().contains("ctl-9 is not registered"));
}

#[tokio::test]
async fn a_new_run_goes_on_where_the_last_one_stopped() {
    let (mut bench, config) = (Bench::new().await, config(json!({"targets": ["c1"], "action": "none"})));
    let mut first = bench.service(&config).await;
    bench.see(&mut first, 0, down(), 3).await;
    let mut second = bench.service(&config).await;
    bench.see(&mut second, 0, down(), 5).await;
    assert_eq!(bench.told().await.len(), 1, "it was told already");
    bench.see(&mut second, 0, up(), 2).await;
    assert_eq!(tells(&bench.told().await), [(Down, "service/cache"), (Up, "service/cache")]);
}

#[tokio::test]
async fn an_engine_that_does_not_lead_neither_writes_nor_acts() {
    let (mut bench, config) = (Bench::new().await, config(json!({"targets": ["c1"]})));
    bench.leads.store(false, Ordering::Relaxed);
    let mut cache = bench.service(&config).await;
    bench.see(&mut cache, 0, down(), 5).await;
    assert!(services::by_name(&bench.db, "cache").await.unwrap().is_none());
    assert!(bench.orders().await.is_empty() && bench.told().await.is_empty());
    bench.leads.store(true, Ordering::Relaxed);
    bench.see(&mut cache, 0, down(), 1).await;
    assert_eq!(bench.row().await.state, "down", "what it believes is there when it is needed");
    assert_eq!(tells(&bench.told().await), [(Down, "service/cache")], "and told, as nobody has told it yet");
}

#[tokio::test]
async fn sections_are_checked_and_names_are_unique() {
    let bench = Bench::new().await;
    let make = |sections: &[ServiceConfig]| {
        Supervisor::new(bench.db.clone(), sections, None, SupervisorOptions::new(bench.engine, "e"))
            .map(drop)
            .map_err(|error| error.to_string())
    };
    let one = config(json!({}));
    assert_eq!(make(std::slice::from_ref(&one)), Ok(()));
    assert!(make(&[one.clone(), one]).unwrap_err().contains("two of this name"));
    let keystone = json!({"kind": "keystone", "name": "k", "targets": [], "action": "none"});
    assert!(make(&[config(keystone)]).unwrap_err().contains("[openstack]"));
}

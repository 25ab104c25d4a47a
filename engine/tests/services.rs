//! The control plane's probes against real servers, which are killed, frozen, made read-only, and brought back.
//!
//! `cargo test -p halberd-engine --test services`. A server that is neither installed nor installable is skipped, and said so.

mod bus;
mod servers;

use std::time::{Duration, Instant};

use halberd_core::event::EventKind;
use halberd_core::id::EngineId;
use halberd_core::time::Stamp;
use halberd_engine::supervise::config::ServiceConfig;
use halberd_engine::supervise::probe::Probe;
use halberd_engine::supervise::{Sight, Supervisor, SupervisorOptions};
use halberd_store::{Access, Db, audit, events, services};
use serde_json::{Value, json};
use servers::Server;
use sqlx::Connection;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// After this long a server that has not started never will; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(120);

fn config(kind: &str, target: &str, change: Value) -> ServiceConfig {
    let mut section = json!({
        "kind": kind, "name": "watched", "targets": [target], "username": "canary", "password": "canary-password",
        // Fast, so that a test is; the deadline stays the product's own order of magnitude.
        "thresholds": {"interval_ms": 100, "retry_ms": 100, "timeout_ms": 2000},
    });
    for (key, value) in change.as_object().expect("an object") {
        section[key] = value.clone();
    }
    serde_json::from_value(section).expect("a section")
}

async fn look(config: &ServiceConfig) -> Sight {
    Probe::new(config, &config.targets[0], None, "engine-1").expect("a probe").look().await
}

/// Waits for a sight; other sights before it are how a server starts.
async fn until(server: &Server, config: &ServiceConfig, is_it: impl Fn(&Sight) -> bool) -> Sight {
    let started = Instant::now();
    loop {
        let sight = look(config).await;
        if is_it(&sight) {
            return sight;
        }
        assert!(started.elapsed() < PATIENCE, "still {sight:?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_down(sight: &Sight) -> bool {
    matches!(sight, Sight::Down { .. })
}

struct Store {
    db: Db,
    _folder: TempDir,
}

async fn store() -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("halberd.db").display());
    Store { db: Db::open(&url, Access::Exclusive).await.expect("it opens"), _folder: folder }
}

impl Store {
    async fn wait_for(&self, server: &Server, state: &str) -> services::ServiceRow {
        let started = Instant::now();
        loop {
            let row = services::by_name(&self.db, "watched").await.expect("it reads");
            if let Some(row) = &row
                && row.state == state
            {
                return row.clone();
            }
            assert!(started.elapsed() < PATIENCE, "never {state}: {row:?}\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The whole road: seen up, killed, seen down with event, audit record and ledger, started again, seen up with an event.
async fn dies_and_returns(mut server: Server, config: ServiceConfig) {
    until(&server, &config, Sight::is_good).await;
    let store = store().await;
    let engine = EngineId(Uuid::new_v4());
    let options = SupervisorOptions::new(engine, "engine-1");
    let supervisor =
        Supervisor::new(store.db.clone(), std::slice::from_ref(&config), None, options).expect("it checks");
    let cancel = CancellationToken::new();
    let running = tokio::spawn(supervisor.run(cancel.clone()));
    store.wait_for(&server, "up").await;

    server.kill();
    let row = store.wait_for(&server, "down").await;
    assert!(row.reason.contains(&server.target()), "{}", row.reason);
    assert_eq!(row.probe["targets"][0]["state"], "down");
    server.start();
    let row = store.wait_for(&server, "up").await;
    cancel.cancel();
    running.await.expect("it ends");

    let told: Vec<_> =
        events::since(&store.db, 0, 100).await.expect("it reads").into_iter().map(|row| row.event).collect();
    assert_eq!(
        told.iter().map(|event| event.kind).collect::<Vec<_>>(),
        [EventKind::ServiceDown, EventKind::ServiceUp]
    );
    assert!(told.iter().all(|event| event.subject == "service/watched"));
    let records = audit::of_chain(&store.db, &audit::engine_chain(engine)).await.expect("it reads");
    let whats: Vec<_> = records.iter().map(|(link, _)| link.entry.what.as_str()).collect();
    assert_eq!(whats, ["service_went_down", "service_came_up"]);
    assert!(audit::verify(&store.db).await.expect("it reads").is_empty());
    let downs = services::downs(&store.db, row.id, Stamp(0)).await.expect("it reads");
    assert_eq!(downs.len(), 1);
    assert!(downs[0].ended_at.is_some_and(|end| end >= downs[0].began_at));
    let everything = format!("{told:?}{records:?}{row:?}");
    assert!(!everything.contains("canary-password"), "no secret in what is stored");
}

/// Frozen, it holds its port and answers nothing: only a deadline sees that.
async fn freezes_and_thaws(server: &Server, config: &ServiceConfig) {
    server.freeze();
    let sight = look(config).await;
    let Sight::Down { reason } = &sight else { panic!("{sight:?}") };
    assert!(reason.contains("no answer within 2000 ms"), "{reason}");
    server.thaw();
    until(server, config, Sight::is_good).await;
}

fn cannot_tell(sight: &Sight, what: &str) {
    let Sight::CannotTell { reason } = sight else { panic!("{sight:?}") };
    assert!(reason.contains(what) && !reason.contains("canary-password"), "{reason}");
}

#[tokio::test]
async fn mariadb() {
    if !servers::needs("mariadb-server", "mariadbd") {
        return;
    }
    let server = servers::mariadb();
    let own = config("mariadb", &server.target(), json!({}));
    until(&server, &own, Sight::is_good).await;
    cannot_tell(&look(&config("mariadb", &server.target(), json!({"password": "wrong"}))).await, "rights");
    cannot_tell(&look(&config("mariadb", &server.target(), json!({"username": "stranger"}))).await, "rights");
    freezes_and_thaws(&server, &own).await;

    // Takes logins and reads, but no writes.
    let boss = format!("mysql://boss:canary-password@{}/", server.target());
    let mut boss = sqlx::MySqlConnection::connect(&boss).await.expect("it connects");
    sqlx::query("SET GLOBAL read_only = ON").execute(&mut boss).await.expect("it is set");
    let sight = look(&own).await;
    assert!(matches!(&sight, Sight::Down { reason } if reason.contains("read-only")), "{sight:?}");
    sqlx::query("SET GLOBAL read_only = OFF").execute(&mut boss).await.expect("it is set");
    assert!(look(&own).await.is_good());
    drop(boss);
    dies_and_returns(server, own).await;
}

#[tokio::test]
async fn postgresql() {
    if !servers::needs("postgresql", "postgres") {
        return;
    }
    let server = servers::postgres();
    let own = config("postgresql", &server.target(), json!({}));
    until(&server, &own, Sight::is_good).await;
    cannot_tell(&look(&config("postgresql", &server.target(), json!({"password": "wrong"}))).await, "user");
    cannot_tell(
        &look(&config("postgresql", &server.target(), json!({"schema": "nowhere"}))).await,
        "nowhere",
    );

    let owner = format!("postgres://canary:canary-password@{}/postgres", server.target());
    let mut owner = sqlx::PgConnection::connect(&owner).await.expect("it connects");
    sqlx::query("ALTER SYSTEM SET default_transaction_read_only = on")
        .execute(&mut owner)
        .await
        .expect("it is set");
    sqlx::query("SELECT pg_reload_conf()").execute(&mut owner).await.expect("it is read");
    let sight = until(&server, &own, is_down).await;
    assert!(matches!(&sight, Sight::Down { reason } if reason.contains("read-only")), "{sight:?}");
    sqlx::query("SET default_transaction_read_only = off").execute(&mut owner).await.expect("it is set");
    sqlx::query("ALTER SYSTEM RESET default_transaction_read_only")
        .execute(&mut owner)
        .await
        .expect("it is set");
    sqlx::query("SELECT pg_reload_conf()").execute(&mut owner).await.expect("it is read");
    until(&server, &own, Sight::is_good).await;
    drop(owner);
    dies_and_returns(server, own).await;
}

#[tokio::test]
async fn rabbitmq() {
    if !servers::needs("rabbitmq-server", "rabbitmq-server") {
        return;
    }
    let server = servers::rabbitmq();
    let own = config("rabbitmq", &server.target(), json!({}));
    until(&server, &own, Sight::is_good).await;
    cannot_tell(&look(&config("rabbitmq", &server.target(), json!({"password": "wrong"}))).await, "refused");
    cannot_tell(&look(&config("rabbitmq", &server.target(), json!({"vhost": "nowhere"}))).await, "refused");
    freezes_and_thaws(&server, &own).await;

    // Under an alarm it takes connections, declares queues, and confirms nothing.
    servers::rabbitmqctl(&server, &["set_vm_memory_high_watermark", "0.0000001"]);
    let probe = Probe::new(&own, &own.targets[0], None, "engine-1").expect("a probe");
    for _ in 0..5 {
        let sight = probe.look().await;
        assert!(is_down(&sight), "{sight:?}");
    }
    let Sight::Down { reason } = probe.look().await else { panic!("it confirms under an alarm") };
    assert!(reason.contains("is an alarm set?"), "{reason}");
    servers::rabbitmqctl(&server, &["set_vm_memory_high_watermark", "0.4"]);
    let started = Instant::now();
    while !probe.look().await.is_good() {
        assert!(started.elapsed() < PATIENCE, "it does not come back from its alarm\n{}", server.log());
    }
    dies_and_returns(server, own).await;
}

#[tokio::test]
async fn memcached() {
    if !servers::needs("memcached", "memcached") {
        return;
    }
    let server = servers::memcached();
    let own = config("memcached", &server.target(), json!({}));
    until(&server, &own, Sight::is_good).await;
    freezes_and_thaws(&server, &own).await;
    dies_and_returns(server, own).await;
}

/// Threads and open files of this process.
fn held() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).expect("procfs").count();
    (count("/proc/self/task"), count("/proc/self/fd"))
}

/// A target that takes connections and never says a word must cost nothing but the deadline, however long it lasts.
///
/// Counts threads and files of the whole process, so it has this process to itself.
#[test]
fn what_hangs_leaks_nothing() {
    if std::env::var_os("HALBERD_TEST_ALONE").is_none() {
        let this = std::env::current_exe().expect("a program");
        let alone = std::process::Command::new(this)
            .args(["--exact", "what_hangs_leaks_nothing", "--nocapture"])
            .env("HALBERD_TEST_ALONE", "1")
            .output()
            .expect("it runs");
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let target = listener.local_addr().expect("an address").to_string();
        // Connections are taken, and held until the other side lets go.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut silence = tokio::io::sink();
                    let _ = tokio::io::copy(&mut stream, &mut silence).await;
                });
            }
        });
        for kind in ["mysql", "postgresql", "rabbitmq", "memcached"] {
            let hasty = json!({"thresholds": {"timeout_ms": 100}});
            let config = config(kind, &target, hasty);
            assert!(is_down(&look(&config).await), "{kind}");
            let (threads, files) = held();
            for _ in 0..30 {
                assert!(is_down(&look(&config).await), "{kind}");
            }
            let started = Instant::now();
            // What ends by itself a little later is no leak.
            while held().0 > threads + 2 || held().1 > files + 4 {
                assert!(
                    started.elapsed() < Duration::from_secs(20),
                    "{kind}: {:?} after ({threads}, {files})",
                    held()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
}

/// A real cloud, when there is one: `HALBERD_TEST_OPENSTACK` holds an `[openstack]` section as JSON.
#[tokio::test]
async fn keystone_and_nova() {
    let Ok(section) = std::env::var("HALBERD_TEST_OPENSTACK") else {
        eprintln!("SKIPPED: HALBERD_TEST_OPENSTACK is not set (the live tests set it)");
        return;
    };
    let section: Value = serde_json::from_str(&section).expect("an [openstack] section as JSON");
    for kind in ["keystone", "nova"] {
        let with = |openstack: &Value| {
            let config = config(
                kind,
                "",
                json!({"targets": [], "thresholds": {"timeout_ms": 20_000}, "openstack": openstack}),
            );
            Probe::new(&config, kind, None, "engine-1").expect("a probe")
        };
        let sight = with(&section).look().await;
        assert!(sight.is_good(), "{kind}: {sight:?}");
        let mut wrong = section.clone();
        wrong["password"] = json!("wrong");
        let sight = with(&wrong).look().await;
        assert!(matches!(sight, Sight::CannotTell { .. }), "{kind}: {sight:?}");
        let mut nobody = section.clone();
        nobody["auth_url"] = json!(format!("http://127.0.0.1:{}/v3", servers::free_port()));
        let sight = with(&nobody).look().await;
        assert_eq!(
            is_down(&sight),
            kind == "keystone",
            "without Keystone nothing is known of Nova: {kind}: {sight:?}"
        );
    }
}

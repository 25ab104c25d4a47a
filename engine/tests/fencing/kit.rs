//! A whole engine on a simulated cloud, both over real sockets: Keystone, Nova and BMCs answer as a network sees them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_core::event::EventKind;
use halberd_core::host::{Admission, Host};
use halberd_core::id::{HostId, SegmentId, WishId};
use halberd_core::policy::Policy;
use halberd_core::recovery::{Recovery, Subject};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_engine::config::EngineConfig;
use halberd_engine::effects::cloud::NovaCloud;
use halberd_engine::effects::hooks::Hooks;
use halberd_engine::effects::power::Devices;
use halberd_engine::{Engine, Parts, Shared, StartError, clock};
use halberd_fencing::Limits;
use halberd_openstack::{OpenStack, OpenstackConfig, ServiceChange};
use halberd_sim::shell::Cloud;
use halberd_sim::{What, WorldSpec};
use halberd_store::hosts::HostEdit;
use halberd_store::recoveries::RecoveryFilter;
use halberd_store::wishes::{NewWish, WishRow};
use halberd_store::{
    Access, Db, Page, Sealer, events, fence_devices, hosts, recoveries, segments, wishes, write,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

/// After this long what is waited for will not come; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(90);
/// The key of the secrets.
pub const KEY: [u8; 32] = [7; 32];

/// Three small hosts with Redfish controllers that boot quickly; no agents, so what is on them is known through Nova and BMCs alone.
pub fn small() -> WorldSpec {
    WorldSpec {
        guests_per_host: vec![2, 1, 0],
        bmc_kinds: vec![halberd_sim::BmcKind::Redfish],
        boot_ms: 500,
        compute_start_ms: 200,
        rebuild_latency_ms: (50, 150),
        ..WorldSpec::spread(3, 3)
    }
}

pub struct Kit {
    pub cloud: Cloud,
    pub db: Db,
    pub openstack: OpenStack,
    dir: TempDir,
    pub policy: Policy,
    segment: SegmentId,
    engine: Option<Engine>,
}

fn url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("halberd.db").display())
}

impl Kit {
    /// The hosts of the world with their controllers as fence devices, and an engine.
    pub async fn start(spec: WorldSpec) -> Kit {
        let mut kit = Kit::bare(spec).await;
        for name in kit.cloud.host_names() {
            let id = kit.add_host(&name).await;
            let device = kit.bmc(&name);
            kit.set_devices(id, &[device]).await;
        }
        kit.run(&KEY).await;
        kit
    }

    /// Neither hosts nor engine.
    pub async fn bare(spec: WorldSpec) -> Kit {
        let dir = TempDir::new().unwrap();
        let db = Db::open(&url(dir.path()), Access::Exclusive).await.unwrap();
        let cloud = Cloud::start(spec).await.unwrap();
        let login = cloud.login("halberd").unwrap();
        let config = OpenstackConfig {
            auth_url: Some(login.auth_url),
            username: Some(login.username),
            password: Some(SecretString::from(login.password)),
            project_name: Some(login.project_name),
            user_domain_name: Some(login.domain_name.clone()),
            project_domain_name: Some(login.domain_name),
            ..OpenstackConfig::default()
        };
        let openstack = OpenStack::new(&config).await.unwrap();
        let segment = Segment {
            id: SegmentId(Uuid::new_v4()),
            name: "rack-a".into(),
            description: None,
            service_type: "COMPUTE".into(),
            recovery_method: RecoveryMethod::Auto,
            enabled: true,
        };
        write(&db, async |tx| segments::create(tx, &segment, clock::stamp()).await).await.unwrap();
        let policy = Policy { agentless_return_ms: 300, ..Policy::default() };
        Kit { cloud, db, openstack, dir, policy, segment: segment.id, engine: None }
    }

    /// Starts the engine, with this key for the secrets.
    pub async fn run(&mut self, key: &[u8; 32]) {
        if let Err(error) = self.try_run(key).await {
            panic!("the engine does not start: {error}");
        }
    }

    /// The same, where it may be refused.
    pub async fn try_run(&mut self, key: &[u8; 32]) -> Result<(), StartError> {
        let sealer = Sealer::new(key);
        write(&self.db, async |tx| sealer.check(tx, clock::stamp()).await).await.unwrap();
        let parts = Parts {
            name: "one".into(),
            db: self.db.clone(),
            sealer: sealer.clone(),
            config: EngineConfig {
                device_check_seconds: 240,
                service_poll_ms: 300,
                high_water_file: Some(self.high_water()),
                ..EngineConfig::default()
            },
            policy: self.policy.clone(),
            cloud: Some(Arc::new(NovaCloud::new(&self.openstack, "HA_Enabled"))),
            power: Arc::new(Devices::new(self.db.clone(), sealer, Limits::default())),
            hooks: Hooks::default(),
            webhooks: Vec::new(),
            nudge: Arc::new(Notify::new()),
        };
        self.engine = Some(Engine::start(parts).await?);
        Ok(())
    }

    /// Where the engine remembers how far its database was.
    pub fn high_water(&self) -> PathBuf {
        self.dir.path().join("halberd.high-water")
    }

    pub fn shared(&self) -> &Shared {
        self.engine.as_ref().expect("an engine runs").shared()
    }

    /// Ends the engine as a crash would, and the database with it.
    pub async fn crash(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.kill();
        }
        self.db.close().await;
    }

    /// Opens the database again: whatever lies in its place now.
    pub async fn reopen(&mut self) {
        let began = Instant::now();
        // Whoever has it open has its lock.
        let aside = format!("sqlite:{}", self.dir.path().join("aside.db").display());
        self.db = Db::open(&aside, Access::Shared).await.unwrap();
        loop {
            match Db::open(&url(self.dir.path()), Access::Exclusive).await {
                Ok(db) => {
                    self.db = db;
                    return;
                }
                // What was cut off in the middle may hold the lock for a moment.
                Err(error) if began.elapsed() > PATIENCE => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Somebody edits the database by hand.
    pub async fn sql(&self, sql: &'static str) {
        let mut connection = SqliteConnection::connect(&url(self.dir.path())).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub async fn stop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
    }

    pub fn files(&self) -> &Path {
        self.dir.path()
    }

    pub async fn add_host(&self, name: &str) -> HostId {
        let view = self.cloud.world().host(name);
        let host = Host {
            kind: "COMPUTE".into(),
            serial: Some(view.serial),
            machine: Some(view.uuid),
            ..Host::new(HostId(Uuid::new_v4()), self.segment, name.to_owned())
        };
        write(&self.db, async |tx| hosts::create(tx, &host, clock::stamp()).await).await.unwrap();
        host.id
    }

    /// A host's controller as a device.
    pub fn bmc(&self, name: &str) -> Value {
        let bmc = self.cloud.bmc(name).unwrap();
        json!({"type": "redfish", "address": bmc.device_address(), "username": bmc.username, "password": bmc.password})
    }

    /// Sets a host's devices, one to a level.
    pub async fn set_devices(&self, host: HostId, devices: &[Value]) {
        let levels: Vec<Value> = devices.iter().map(|device| json!({"devices": [device]})).collect();
        let levels = json!({ "levels": levels });
        let mut shown = levels.clone();
        for level in shown["levels"].as_array_mut().unwrap() {
            level["devices"][0]["password"] = json!("***");
        }
        let sealer = Sealer::new(&KEY);
        write(&self.db, async |tx| {
            fence_devices::set(tx, &sealer, host, &levels, &shown, clock::stamp()).await
        })
        .await
        .unwrap();
    }

    pub async fn host(&self, name: &str) -> Host {
        hosts::by_name(&self.db, name).await.unwrap().unwrap().value
    }

    /// Records a wish as the API does and waits for its answer.
    pub async fn wish(&self, kind: &str, host: &str) -> (bool, String) {
        let wish = NewWish {
            id: WishId(Uuid::new_v4()),
            kind: kind.into(),
            subject: format!("host/{}", self.host(host).await.id),
            actor: "ann".into(),
            reason: "a test".into(),
            body: json!({}),
        };
        write(&self.db, async |tx| wishes::insert(tx, &wish, clock::stamp()).await).await.unwrap();
        let done: WishRow = self
            .until(&format!("an answer to {kind}"), async || {
                let row = wishes::get(&self.db, wish.id).await.unwrap();
                row.done_at.is_some().then_some(row)
            })
            .await;
        (done.succeeded.unwrap(), done.result.unwrap()["text"].as_str().unwrap().to_owned())
    }

    /// The host's devices as an engine holds them.
    pub fn power(&self) -> Devices {
        Devices::new(self.db.clone(), Sealer::new(&KEY), Limits::default())
    }

    /// Waits until there is something.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if began.elapsed() > PATIENCE {
                panic!("{what} does not come. {}", self.story().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn story(&self) -> String {
        let all = self.recoveries(None).await;
        let told: Vec<String> = all
            .iter()
            .map(|recovery| {
                format!(
                    "{} {}: {} ({:?})",
                    recovery.subject.kind(),
                    recovery.word(),
                    recovery.reason,
                    recovery.body
                )
            })
            .collect();
        format!("Recoveries: {}\nWorld: {:?}", told.join("\n"), self.cloud.world().history())
    }

    /// All recoveries of a host, or of all, newest first.
    pub async fn recoveries(&self, host: Option<&str>) -> Vec<Recovery> {
        let id = match host {
            Some(name) => Some(self.host(name).await.id),
            None => None,
        };
        let filter = RecoveryFilter { host: id, ..RecoveryFilter::default() };
        recoveries::list(&self.db, &filter, &Page::default())
            .await
            .unwrap()
            .into_iter()
            .map(|(_, it)| it)
            .collect()
    }

    /// Waits for the end of a host's newest recovery of its power.
    pub async fn closed(&self, host: &str) -> Recovery {
        self.until("the end of the recovery", async || {
            let all = self.recoveries(Some(host)).await;
            all.into_iter().find(|it| matches!(it.subject, Subject::Host { .. }) && !it.is_open())
        })
        .await
    }

    /// Waits until a host that was out is in, with its way back closed.
    pub async fn is_in(&self, host: &str) {
        self.until("the host's return", async || {
            let all = self.recoveries(Some(host)).await;
            let back = all.iter().find(|it| matches!(it.subject, Subject::Return { .. }))?;
            (!back.is_open() && self.host(host).await.admission == Admission::In).then_some(())
        })
        .await;
    }

    /// What of a kind the world has seen, in order.
    pub fn seen<T>(&self, mut pick: impl FnMut(&What) -> Option<T>) -> Vec<T> {
        self.cloud.world().history().iter().filter_map(|deed| pick(&deed.what)).collect()
    }

    /// Puts a host on maintenance and out of scheduling, as an operator does before a drill.
    pub async fn set_aside(&self, name: &str) {
        let edit = HostEdit { on_maintenance: Some(true), ..HostEdit::default() };
        let id = self.host(name).await.id;
        write(&self.db, async |tx| hosts::edit(tx, id, &edit, clock::stamp()).await).await.unwrap();
        let nova = self.openstack.nova();
        let service = nova.service(name).await.unwrap().unwrap().id.unwrap();
        let change = ServiceChange { disable: Some("a drill".into()), ..ServiceChange::default() };
        nova.set_service(&service, &change).await.unwrap();
    }

    /// Texts of the events of a kind, oldest first.
    pub async fn told(&self, kind: EventKind) -> Vec<Value> {
        let all = events::since(&self.db, 0, 10_000).await.unwrap();
        all.into_iter().filter(|row| row.event.kind == kind).map(|row| row.event.data).collect()
    }
}

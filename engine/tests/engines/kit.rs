//! Several engines on one PostgreSQL or MariaDB and one simulated cloud, each with connections of its own, as processes would have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_core::event::{Event, EventKind};
use halberd_core::host::Host;
use halberd_core::id::{EngineId, HostId, SegmentId, WishId};
use halberd_core::policy::Policy;
use halberd_core::recovery::{Recovery, Subject};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_engine::config::EngineConfig;
use halberd_engine::effects::cloud::NovaCloud;
use halberd_engine::effects::hooks::Hooks;
use halberd_engine::effects::power::Devices;
use halberd_engine::{Engine, Parts, StartError, clock};
use halberd_fencing::Limits;
use halberd_openstack::{OpenStack, OpenstackConfig};
use halberd_sim::shell::Cloud;
use halberd_sim::{BmcKind, What, WorldSpec};
use halberd_store::recoveries::RecoveryFilter;
use halberd_store::testing::{On, Own};
use halberd_store::wishes::{NewWish, WishRow};
use halberd_store::{
    Access, Db, Page, Sealer, events, fence_devices, hosts, recoveries, segments, wishes, write,
};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

/// After this long what is waited for will not come; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(90);
const KEY: [u8; 32] = [7; 32];

/// A short lease, so that a test of a takeover is soon over.
pub fn quick() -> Policy {
    Policy { lease_ms: 6_000, lease_renew_ms: 1_000, agentless_return_ms: 300, ..Policy::default() }
}

/// A lease that no test waits for: whatever goes on, it did not lapse.
pub fn endless() -> Policy {
    Policy { lease_ms: 3_600_000, ..quick() }
}

pub struct Site {
    pub cloud: Cloud,
    pub db: Db,
    own: Own,
    openstack: OpenStack,
    segment: SegmentId,
}

impl Site {
    /// Three hosts with Redfish controllers. `None`: the database's server is not installed.
    pub async fn new(on: On) -> Option<Site> {
        let own = on.own().await?;
        let db = own.open(Access::Shared).await.unwrap();
        let spec = WorldSpec {
            guests_per_host: vec![2, 1, 0],
            bmc_kinds: vec![BmcKind::Redfish],
            boot_ms: 500,
            compute_start_ms: 200,
            rebuild_latency_ms: (50, 150),
            ..WorldSpec::spread(3, 3)
        };
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
        let sealer = Sealer::new(&KEY);
        write(&db, async |tx| sealer.check(tx, clock::stamp()).await).await.unwrap();
        let site = Site { cloud, db, own, openstack, segment: segment.id };
        for name in site.cloud.host_names() {
            site.add_host(&name).await;
        }
        Some(site)
    }

    /// An engine of that name, which listens long enough to act.
    pub async fn engine(&self, name: &str, policy: &Policy) -> Result<Engine, StartError> {
        let db = self.own.open(Access::Shared).await.unwrap();
        let sealer = Sealer::new(&KEY);
        let parts = Parts {
            name: name.into(),
            db: db.clone(),
            sealer: sealer.clone(),
            config: EngineConfig { service_poll_ms: 300, ..EngineConfig::default() },
            policy: policy.clone(),
            cloud: Some(Arc::new(NovaCloud::new(&self.openstack, "HA_Enabled"))),
            power: Arc::new(Devices::new(db, sealer, Limits::default())),
            hooks: Hooks::default(),
            webhooks: Vec::new(),
            nudge: Arc::new(Notify::new()),
        };
        Engine::start(parts).await
    }

    async fn add_host(&self, name: &str) {
        let view = self.cloud.world().host(name);
        let host = Host {
            kind: "COMPUTE".into(),
            serial: Some(view.serial),
            machine: Some(view.uuid),
            ..Host::new(HostId(Uuid::new_v4()), self.segment, name.to_owned())
        };
        let bmc = self.cloud.bmc(name).unwrap();
        let levels = json!({"levels": [{"devices": [
            {"type": "redfish", "address": bmc.device_address(), "username": bmc.username, "password": bmc.password}
        ]}]});
        let sealer = Sealer::new(&KEY);
        write(&self.db, async |tx| {
            hosts::create(tx, &host, clock::stamp()).await?;
            fence_devices::set(tx, &sealer, host.id, &levels, &json!({"levels": []}), clock::stamp()).await
        })
        .await
        .unwrap();
    }

    pub async fn host(&self, name: &str) -> Host {
        hosts::by_name(&self.db, name).await.unwrap().unwrap().value
    }

    /// Records a wish as an API does. No engine is nudged.
    pub async fn wish(&self, kind: &str, host: &str) -> WishId {
        let wish = NewWish {
            id: WishId(Uuid::new_v4()),
            kind: kind.into(),
            subject: format!("host/{}", self.host(host).await.id),
            actor: "ann".into(),
            reason: "a test".into(),
            body: json!({}),
        };
        write(&self.db, async |tx| wishes::insert(tx, &wish, clock::stamp()).await).await.unwrap();
        wish.id
    }

    pub async fn wished(&self, wish: WishId) -> WishRow {
        wishes::get(&self.db, wish).await.unwrap()
    }

    /// Waits for a wish's answer.
    pub async fn answer(&self, wish: WishId) -> (bool, String) {
        let row = self
            .until("an answer", async || Some(self.wished(wish).await).filter(|row| row.done_at.is_some()))
            .await;
        (row.succeeded.unwrap(), row.result.unwrap()["text"].as_str().unwrap().to_owned())
    }

    /// The newest recovery of a host's power.
    pub async fn recovery(&self, host: &str) -> Option<Recovery> {
        let filter = RecoveryFilter { host: Some(self.host(host).await.id), ..RecoveryFilter::default() };
        let all = recoveries::list(&self.db, &filter, &Page::default()).await.unwrap();
        all.into_iter().map(|(_, it)| it).find(|it| matches!(it.subject, Subject::Host { .. }))
    }

    /// Waits until a host's recovery is as wanted.
    pub async fn becomes(&self, host: &str, what: &str, is: impl Fn(&Recovery) -> bool) -> Recovery {
        self.until(what, async || self.recovery(host).await.filter(|it| is(it))).await
    }

    /// Waits until there is something.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if began.elapsed() > PATIENCE {
                let all =
                    recoveries::list(&self.db, &RecoveryFilter::default(), &Page::default()).await.unwrap();
                let told: Vec<_> = all
                    .iter()
                    .map(|(_, it)| format!("{} {} {:?}: {}", it.host_name, it.word(), it.owner, it.reason))
                    .collect();
                panic!("{what} does not come. {told:#?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How often this host's power went.
    pub fn powered_off(&self, host: &str) -> usize {
        let world = self.cloud.world();
        let off = |what: &What| matches!(what, What::PoweredOff { host: of } if of == host);
        world.history().iter().filter(|deed| off(&deed.what)).count()
    }

    /// Events of a kind, oldest first.
    pub async fn told(&self, kind: EventKind) -> Vec<Event> {
        let all = events::since(&self.db, 0, 10_000).await.unwrap();
        all.into_iter().map(|row| row.event).filter(|event| event.kind == kind).collect()
    }
}

/// The run of an engine.
pub fn id(engine: &Engine) -> EngineId {
    engine.shared().engine
}

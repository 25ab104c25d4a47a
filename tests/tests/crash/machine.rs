//! One engine on a thread and a runtime of its own, as `halberd engine` is a process of its own. Killed, its runtime goes with every task
//! in it: nothing of it runs on, nothing is given back.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use halberd_core::policy::Policy;
use halberd_engine::announcer::{Announcer, AnnouncerOptions, WebhookConfig};
use halberd_engine::config::EngineConfig;
use halberd_engine::effects::cloud::NovaCloud;
use halberd_engine::effects::hooks::{HookConfig, Hooks};
use halberd_engine::effects::power::Devices;
use halberd_engine::failpoint::Failpoints;
use halberd_engine::{Engine, Parts};
use halberd_fencing::Limits;
use halberd_openstack::{OpenStack, OpenstackConfig};
use halberd_store::{Access, Db, Sealer, testing};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::twice::{Repeat, Repeated};

/// The key of the secrets.
pub const KEY: [u8; 32] = [7; 32];

/// What an engine is configured with.
#[derive(Clone, Debug)]
pub struct Setting {
    pub url: String,
    pub openstack: OpenstackConfig,
    pub policy: Policy,
    pub hooks: Vec<HookConfig>,
    pub webhooks: Vec<WebhookConfig>,
    pub announcer: AnnouncerOptions,
    pub limits: Limits,
    /// An effect whose answer is lost, or that is performed twice.
    pub repeat: Option<Arc<Repeat>>,
}

/// A running engine.
#[derive(Debug)]
pub struct Machine {
    pub name: String,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    pub fn start(setting: &Setting, name: &str, listener: Arc<dyn Failpoints>) -> Machine {
        let (kill, killed) = oneshot::channel();
        let (setting, own) = (setting.clone(), name.to_owned());
        let thread = std::thread::Builder::new().name(format!("engine-{name}")).spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    _ = killed => {}
                    () = run(setting, own, listener) => {}
                }
            });
            runtime.shutdown_background();
        });
        Machine { name: name.to_owned(), kill: Some(kill), thread: Some(thread.expect("a thread")) }
    }

    /// At once; returns when nothing of it is left.
    pub async fn kill(mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take() {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            assert!(matches!(ended, Ok(Ok(()))), "the engine {} panicked", self.name);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.kill.take());
    }
}

/// A crashed engine's file is free once its last connection has closed; a busy server answers later.
pub async fn open(url: &str, access: Access) -> Db {
    let mut tries = 0;
    loop {
        match Db::open_with(url, testing::relaxed(access)).await {
            Ok(db) => return db,
            Err(error) if tries > 100 => panic!("{error}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn run(setting: Setting, name: String, listener: Arc<dyn Failpoints>) {
    let db = open(&setting.url, Access::Exclusive).await;
    let sealer = Sealer::new(&KEY);
    let openstack = OpenStack::new(&setting.openstack).await.expect("it is let in");
    let cloud = NovaCloud::new(&openstack, "HA_Enabled");
    let power = Devices::new(db.clone(), sealer.clone(), setting.limits);
    let announcer = Announcer::new(db.clone(), &setting.webhooks, setting.announcer.clone());
    let announcer = announcer.expect("usable hooks").watched(Some(listener.clone()));
    let parts = Parts {
        name,
        db,
        sealer,
        config: EngineConfig { device_check_seconds: 0, service_poll_ms: 300, ..EngineConfig::default() },
        policy: setting.policy,
        cloud: Some(Arc::new(Repeated { inner: cloud, repeat: setting.repeat.clone() })),
        power: Arc::new(Repeated { inner: power, repeat: setting.repeat }),
        hooks: Hooks::new(&setting.hooks).expect("usable hooks"),
        webhooks: announcer.names(),
        nudge: Arc::new(Notify::new()),
    };
    let _engine = Engine::start_with(parts, Some(listener)).await.expect("it starts");
    announcer.run(CancellationToken::new()).await;
    std::future::pending::<()>().await;
}

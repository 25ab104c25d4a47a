//! The demo's installation: a simulated cloud, the service, agents, and the set-up an operator would do, over the public API.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_core::policy::{Policy, Profile};
use halberd_core::verdict::time_to_verdict;
use halberd_sim::shell::{Cloud, UserLand};
use halberd_sim::{BmcKind, What, WorldSpec};
use halberd_types::halberd::agent::{AgentState, AgentView};
use halberd_types::halberd::host::AgentKeyIssued;
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Failure;
use super::agents::{Agents, Setting};
use super::client::{Client, Items};
use super::fault::DemoFault;
use crate::config::Config;
use crate::serve::{self, Running};

/// Name of the threads that are not the service's.
pub(super) const OUTSIDE: &str = "outside";

/// What to build.
#[derive(Clone, Debug)]
pub(crate) struct SiteSpec {
    pub(crate) hosts: usize,
    pub(crate) guests: usize,
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    pub(crate) database: Option<String>,
    pub(crate) fault: DemoFault,
}

/// Everything that runs. Dropping it ends it and removes its files.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) running: Running,
    pub(crate) client: Client,
    /// Our ids of the hosts, by name.
    pub(crate) hosts: BTreeMap<String, Uuid>,
    /// Hosts that the fault strikes.
    pub(crate) struck: Vec<String>,
    pub(crate) fault: DemoFault,
    policy: Policy,
    seed: u64,
    agents: Agents,
    listening_since: Instant,
    dir: TempDir,
    outside: Outside,
}

impl Site {
    pub(crate) async fn start(spec: SiteSpec) -> Result<Site, Failure> {
        let mut world = WorldSpec::spread(spec.hosts, spec.guests).seeded(spec.seed);
        world.capacity = world.capacity.max(spec.guests);
        if spec.fault == DemoFault::Returns {
            (world.boot_ms, world.compute_start_ms) = (3_000, 1_000);
        }
        let mut policy = Policy::of(spec.profile);
        spec.fault.change_policy(&mut policy);
        Site::around(spec, world, policy).await
    }

    /// The same around a given world, under a given policy.
    pub(super) async fn around(spec: SiteSpec, world: WorldSpec, policy: Policy) -> Result<Site, Failure> {
        let dir = TempDir::new()?;
        let outside = Outside::new()?;
        let (cloud, lands) = outside
            .run(async move {
                let cloud = Cloud::start(world).await?;
                let lands = UserLand::start(&cloud).await?;
                Ok::<_, std::io::Error>((Arc::new(cloud), Arc::new(lands)))
            })
            .await??;
        let config = config(&spec, &cloud, lands.port(), &policy, dir.path())?;
        if let Some(url) = spec.database.as_deref().filter(|url| !url.starts_with("sqlite:")) {
            halberd_store::migrate::migrate(url).await?;
        }
        let running = serve::start(config).await?;
        let listening_since = Instant::now();
        let url = running.url.clone().ok_or("the service has no API")?;
        let client = Client::new(&url)?;
        let hosts = set_up(&client, &cloud, dir.path()).await?;
        let engines = running.engine().map(|engine| engine.listening.clone()).unwrap_or_default();
        let setting = Setting { dir: dir.path().to_owned(), engines, api: url, profile: spec.profile };
        let agents = outside.run(Agents::start(cloud.clone(), lands, setting)).await??;
        let struck = struck(&cloud, spec.fault, spec.seed);
        Ok(Site {
            cloud,
            running,
            client,
            hosts,
            struck,
            fault: spec.fault,
            policy,
            seed: spec.seed,
            agents,
            listening_since,
            dir,
            outside,
        })
    }

    /// Waits until every agent is heard and the engine has listened for a full window.
    pub(crate) async fn warm_up(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let page: Items<AgentView> = self.client.get("/halberd/v1/agents").await?;
            let waiting: Vec<String> = page
                .items
                .iter()
                .filter(|agent| agent.state != AgentState::Alive)
                .map(|agent| agent.host.clone())
                .collect();
            if waiting.is_empty() && page.items.len() == self.hosts.len() {
                break;
            }
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(format!("agents that are not heard: {}", waiting.join(", ")).into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // The hosts are listened to from the engine's first look at them, up to a second after they were created.
        let full = time_to_verdict(&self.policy) + Duration::from_millis(1_500);
        tokio::time::sleep(full.saturating_sub(self.listening_since.elapsed())).await;
        Ok(())
    }

    pub(crate) fn describe_fault(&self) -> String {
        let hosts = self.struck.join(", ");
        match self.fault {
            DemoFault::PowerLoss | DemoFault::Nova503 | DemoFault::Returns => format!("{hosts} loses power"),
            DemoFault::Hang => format!("{hosts} freezes, power on"),
            DemoFault::BmcDead => format!("{hosts} loses power, its BMC too"),
            DemoFault::BmcLies => {
                format!("{hosts} loses its storage network, and its BMC lies: always \"off\", never obeys")
            }
            DemoFault::BmcWrongMachine => {
                format!(
                    "{hosts} loses power; its BMC's address leads to {}",
                    self.other().unwrap_or_default()
                )
            }
            DemoFault::Rack => format!("a rack loses power, BMCs too: {hosts}"),
        }
    }

    /// The machine that a wrong BMC leads to.
    fn other(&self) -> Option<String> {
        self.cloud.host_names().into_iter().find(|name| !self.struck.contains(name))
    }

    /// Does to the world what the fault says.
    pub(super) fn strike(&self) {
        let Some(host) = self.struck.first() else { return };
        let rack = self.cloud.world().host(host).rack;
        for fault in self.fault.strikes(host, &rack, &self.other().unwrap_or_default()) {
            self.cloud.inject(fault);
        }
        self.second_act();
    }

    /// Faults that come later in the play, at the moment the world has come so far.
    fn second_act(&self) {
        let Some(host) = self.struck.first().cloned() else { return };
        if let Some(fault) = self.fault.in_the_middle() {
            let cloud = self.cloud.clone();
            self.outside.spawn(async move {
                cloud
                    .until(|world| {
                        world.history().iter().any(|deed| matches!(deed.what, What::EvacuateAccepted { .. }))
                    })
                    .await;
                cloud.inject(fault);
            });
        }
        if let Some(fault) = self.fault.at_the_end(&host) {
            let cloud = self.cloud.clone();
            self.outside.spawn(async move {
                let guests = cloud.world().guests_placed_on(&host);
                cloud
                    .until(|world| guests.iter().all(|guest| !world.guests_placed_on(&host).contains(guest)))
                    .await;
                cloud.inject(fault);
            });
        }
    }

    /// Whether the host's return is complete.
    pub(crate) async fn host_is_in(&self, host: &str) -> Result<bool, Failure> {
        let returns = self.client.recoveries(self.hosts[host], "return").await?;
        Ok(returns.first().is_some_and(|newest| !newest.state.is_open()))
    }

    pub(crate) fn files(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) async fn stop(self) {
        self.agents.stop().await;
        self.running.stop().await;
        self.cloud.stop();
    }
}

/// The host that dies is chosen by the seed; where a serial number must be seen, among those whose BMC shows one.
fn struck(cloud: &Cloud, fault: DemoFault, seed: u64) -> Vec<String> {
    let names = cloud.host_names();
    let fit: Vec<String> = names
        .iter()
        .filter(|name| {
            fault != DemoFault::BmcWrongMachine
                || cloud.bmc(name).is_some_and(|bmc| bmc.kind == BmcKind::Redfish)
        })
        .cloned()
        .collect();
    let Some(first) = fit.get(usize::try_from(seed).unwrap_or(0).wrapping_sub(1) % fit.len().max(1)).cloned()
    else {
        return Vec::new();
    };
    if fault != DemoFault::Rack {
        return vec![first];
    }
    let world = cloud.world();
    let rack = world.host(&first).rack;
    names.into_iter().filter(|name| world.host(name).rack == rack).collect()
}

fn config(spec: &SiteSpec, cloud: &Cloud, port: u16, policy: &Policy, dir: &Path) -> Result<Config, Failure> {
    let login = cloud.login("halberd").ok_or("the simulated cloud has no user for us")?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::unconfigured();
    let url = spec.database.clone().unwrap_or_else(|| format!("sqlite:{}", dir.join("halberd.db").display()));
    if !url.starts_with("sqlite:") {
        // A server's database has no directory of its own for the key that seals what lies in it, and for what is remembered of it.
        let key = dir.join("halberd.key");
        halberd_store::Sealer::from_file_or_new(&key)?;
        config.engine.secrets_key_file = Some(key);
        config.engine.high_water_file = Some(dir.join("halberd.high-water"));
    }
    config.database.url = SecretString::from(url);
    config.api.listen = any;
    config.engine.name = Some("demo".into());
    config.engine.heartbeat_listen = vec![any; 3];
    config.engine.probe_ports = vec![port];
    config.policy = policy.clone();
    config.openstack = Some(halberd_openstack::OpenstackConfig {
        auth_url: Some(login.auth_url),
        username: Some(login.username),
        password: Some(SecretString::from(login.password)),
        project_name: Some(login.project_name),
        user_domain_name: Some(login.domain_name.clone()),
        project_domain_name: Some(login.domain_name),
        ..halberd_openstack::OpenstackConfig::default()
    });
    Ok(config)
}

/// Segment, hosts with rack and serial, fence devices, agents' keys: what an operator enters, in the same calls.
async fn set_up(client: &Client, cloud: &Cloud, dir: &Path) -> Result<BTreeMap<String, Uuid>, Failure> {
    let name = format!("demo-{}", &Uuid::new_v4().simple().to_string()[..8]);
    let body = json!({"segment": {"name": name, "recovery_method": "auto", "service_type": "COMPUTE"}});
    let segment: Value = client.post("/v1/segments", &body).await?;
    let segment = segment["segment"]["uuid"].as_str().ok_or("the segment has no uuid")?.to_owned();
    let mut ids = BTreeMap::new();
    for host in cloud.host_names() {
        let view = cloud.world().host(&host);
        let body = json!({"host": {"name": host, "type": "COMPUTE", "control_attributes": "demo"}});
        let made: Value = client.post(&format!("/v1/segments/{segment}/hosts"), &body).await?;
        let id: Uuid = made["host"]["uuid"].as_str().ok_or("the host has no uuid")?.parse()?;
        let body = json!({"rack": view.rack, "serial": view.serial, "machine": view.uuid});
        let _: Value = client.put(&format!("/halberd/v1/hosts/{id}/attributes"), &body).await?;
        if let Some(bmc) = cloud.bmc(&host) {
            let kind = if bmc.kind == BmcKind::Redfish { "redfish" } else { "ipmi" };
            let device = json!({"type": kind, "address": bmc.device_address(), "username": bmc.username, "password": bmc.password});
            let body = json!({"levels": [{"devices": [device]}]});
            let _: Value = client.put(&format!("/halberd/v1/hosts/{id}/fence-devices"), &body).await?;
        }
        let key: AgentKeyIssued =
            client.post(&format!("/halberd/v1/hosts/{id}/agent-key"), &json!({})).await?;
        let dir = dir.join(&host);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("key"), key.key_file)?;
        ids.insert(host, id);
    }
    Ok(ids)
}

/// Threads of the outside world: the simulated cloud and the agents on its hypervisors. They are named, so that their CPU time can be told
/// from the service's.
#[derive(Debug)]
struct Outside(Option<tokio::runtime::Runtime>);

impl Outside {
    fn new() -> std::io::Result<Outside> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Ok(Outside(Some(builder.worker_threads(2).thread_name(OUTSIDE).enable_all().build()?)))
    }

    /// Runs there, so that everything begun by it lives there.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        let Some(runtime) = &self.0 else { return Err("the outside world has ended".into()) };
        Ok(runtime.spawn(work).await?)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(work);
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // A runtime must not be waited for within another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A directory of our own that goes away with us.
#[derive(Debug)]
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> std::io::Result<TempDir> {
        let path = std::env::temp_dir().join(format!("halberd-demo-{}", Uuid::new_v4().simple()));
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(TempDir(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // It is in the system's own place for such things; what cannot be removed goes at the next boot.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

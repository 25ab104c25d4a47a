//! One production agent for each simulated hypervisor. It lives in this process and dies with its host: the world says when, and nobody
//! says goodbye. A host that boots again gets a new agent with the new boot id; a network that is cut takes the agent's socket there with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::policy::Profile;
use halberd_monitors::{Agent, Config, Handle, Platform};
use halberd_sim::shell::{Cloud, UserLand};
use halberd_sim::{HostView, Network};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Failure;

/// What every agent of the demo is told.
#[derive(Debug)]
pub(super) struct Setting {
    /// Where keys and states lie.
    pub(super) dir: PathBuf,
    /// The engine's listeners: management, tenant, storage.
    pub(super) engines: Vec<SocketAddr>,
    pub(super) api: String,
    pub(super) profile: Profile,
}

/// All agents, following the world.
#[derive(Debug)]
pub(super) struct Agents {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Who an agent is: another boot or other networks are another agent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Incarnation {
    boot: Uuid,
    networks: Vec<Network>,
}

impl Agents {
    /// Starts one for each host that lives now.
    ///
    /// # Errors
    /// An agent that does not start.
    pub(super) async fn start(
        cloud: Arc<Cloud>,
        lands: Arc<UserLand>,
        setting: Setting,
    ) -> Result<Agents, Failure> {
        let mut deeds = cloud.deeds();
        let mut living = BTreeMap::new();
        follow(&cloud, &lands, &setting, &mut living).await?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => break,
                    changed = deeds.changed() => if changed.is_err() { break },
                    // A network that heals is no deed.
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
                if let Err(error) = follow(&cloud, &lands, &setting, &mut living).await {
                    tracing::error!(error = %crate::chain(&*error), "an agent of the demo did not start");
                }
            }
            for (_, (_, handle)) in living {
                Handle::kill_and_wait(handle).await;
            }
        });
        Ok(Agents { stop, task })
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

type Living = BTreeMap<String, (Incarnation, Handle)>;

async fn follow(
    cloud: &Cloud,
    lands: &UserLand,
    setting: &Setting,
    living: &mut Living,
) -> Result<(), Failure> {
    let views: Vec<(HostView, bool)> = {
        let world = cloud.world();
        world.host_names().iter().map(|name| (world.host(name), world.is_alive(name))).collect()
    };
    for (view, alive) in views {
        let due = (alive && view.agent)
            .then(|| Incarnation { boot: view.boot_id, networks: view.networks.clone() });
        if living.get(&view.name).map(|(who, _)| who) == due.as_ref() {
            continue;
        }
        if let Some((_, handle)) = living.remove(&view.name) {
            handle.kill_and_wait().await;
        }
        if let Some(who) = due {
            let config = config(&view.name, &who, lands, setting)?;
            let handle = Agent::start_on(config, Platform::simulated(who.boot)).await?;
            living.insert(view.name.clone(), (who, handle));
        }
    }
    Ok(())
}

fn config(host: &str, who: &Incarnation, lands: &UserLand, setting: &Setting) -> Result<Config, Failure> {
    let engines: Vec<String> = setting.engines.iter().map(|engine| format!("\"{engine}\"")).collect();
    let dir = setting.dir.join(host);
    let mut text = format!(
        "[agent]\nkey_file = \"{0}/key\"\nstate_dir = \"{0}/state\"\napi_url = \"{1}\"\nprofile = \"{2}\"\nengines = [{3}]\n",
        dir.display(),
        setting.api,
        setting.profile,
        engines.join(", "),
    );
    for (network, engine) in
        Network::ALL.into_iter().zip(&engines).filter(|(network, _)| who.networks.contains(network))
    {
        let own = lands.address(host, network).map_or("127.0.0.1".into(), |address| address.ip().to_string());
        text += &format!(
            "[[networks]]\nname = \"{}\"\nbind = \"{own}:0\"\nengines = [{engine}]\n",
            network.name()
        );
    }
    Ok(Config::parse(&text, std::iter::empty())?)
}

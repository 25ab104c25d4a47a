//! The agent: watches one host from inside and tells the engines.
//!
//! What we believe: a host speaks only for itself; silence must mean something, so beats wait for nothing; what was seen is on
//! disk before it is sent, and sent until accepted; a level is told again, an edge is searched for. The parts, each a task
//! of its own: beats on every network, the process monitor, the instance monitor, the outbox' sender, the order desk.
//!
//! One event on its way: qemu is killed; libvirt sends STOPPED/FAILED; `instance` turns it into Masakari's words, `report`
//! writes it to the outbox, signs it with the host's key and posts it until the API has it.

pub mod clock;
pub mod config;
mod context;
mod host;
pub mod instance;
mod orders;
pub mod process;
pub mod report;
pub mod signal;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use halberd_types::beat::{KeyFile, KeyFileError};
use halberd_types::report::ReportKind;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use crate::clock::{BootClock, Platform};
pub use crate::config::{Config, ConfigError};
pub use crate::context::Status;
pub use crate::report::outbox::OutboxError;
pub use crate::report::send::ApiError;

use crate::context::Context;
use crate::report::Reporter;
use crate::report::send::Api;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Key file cannot be read.
    #[error("key file {path} cannot be read; make one with `halberd agent key HOST`")]
    KeyRead {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Key file is none.
    #[error("key file {path}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyFileError,
    },
    /// The key file is another host's.
    #[error("`agent.{key}` is {configured}, but the key file is for {of_key}: is it another host's key?")]
    OtherHost {
        /// `host` or `name`.
        key: &'static str,
        /// In the configuration.
        configured: String,
        /// In the key file.
        of_key: String,
    },
    /// State directory.
    #[error("`agent.state_dir` {path} cannot be used")]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Boot id.
    #[error("cannot read this boot's id; is /proc mounted?")]
    Boot(#[source] std::io::Error),
    /// Outbox.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// API client.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No thread for the storage beat.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// The agent of one host.
#[derive(Clone, Copy, Debug)]
pub struct Agent;

/// A running agent. Dropping it kills it.
#[derive(Debug)]
pub struct Handle {
    context: Arc<Context>,
    tasks: JoinSet<()>,
    _storage: Option<host::deep::StorageProbe>,
}

impl Agent {
    /// Starts on this machine. Errors: [`StartError`].
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        Self::start_on(config, Platform::system().map_err(StartError::Boot)?).await
    }

    /// Starts under a given boot id and clock, so that several agents fit on one machine. Errors: [`StartError`].
    pub async fn start_on(config: Config, platform: Platform) -> Result<Handle, StartError> {
        let file = read_key(&config)?;
        let state_dir = config.agent.state_dir.clone();
        std::fs::create_dir_all(&state_dir)
            .map_err(|source| StartError::State { path: state_dir.clone(), source })?;
        let context = Arc::new(Context::new(file.host, file.hostname, file.key, platform));
        let mut tasks = JoinSet::new();
        start_paths(&context, &config, &mut tasks);
        let storage = config
            .deep
            .storage_file
            .clone()
            .map(|f| host::deep::start(context.clone(), f, seconds(config.deep.interval)))
            .transpose()
            .map_err(StartError::Thread)?;
        if let Some(url) = &config.agent.api_url {
            start_reporting(&context, &config, url, &mut tasks)?;
        }
        Ok(Handle { context, tasks, _storage: storage })
    }
}

/// One task for each network.
fn start_paths(context: &Arc<Context>, config: &Config, tasks: &mut JoinSet<()>) {
    let neighbours = config.neighbours.enabled.then(|| Arc::new(Mutex::default()));
    for network in &config.networks {
        let path = host::Path {
            network: network.name,
            bind: network.bind,
            engines: config.engines_of(network).to_vec(),
            interval: config.beat_interval(),
            neighbours: neighbours.clone(),
        };
        tasks.spawn(host::run(context.clone(), path));
    }
}

/// Outbox, monitors and order desk: all that needs the API.
fn start_reporting(
    context: &Arc<Context>,
    config: &Config,
    url: &str,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let state_dir = &config.agent.state_dir;
    let api = Arc::new(Api::new(context.clone(), &config.agent, url)?);
    let reporter = Reporter::open(context.clone(), &state_dir.join("outbox"))?;
    let (sender, send_to) = (reporter.clone(), api.clone());
    let identity = ReportKind::Identity(host::identity(&context.name));
    tasks.spawn(async move {
        // First, so that an earlier run's identity gives way unsent.
        sender.report(identity).await;
        sender.run(send_to).await;
    });
    if let Some(c) = &config.process {
        let monitor = process::ProcessMonitor::new(context.clone(), reporter.clone(), c.clone(), state_dir);
        tasks.spawn(monitor.run());
    }
    if let Some(c) = &config.instance {
        let monitor = instance::InstanceMonitor::new(context.clone(), reporter.clone(), c.clone(), state_dir);
        tasks.spawn(monitor.run());
    }
    if config.orders.enabled {
        let desk = orders::OrderDesk::new(context.clone(), reporter, api, config)
            .map_err(|source| StartError::State { path: state_dir.clone(), source })?;
        tasks.spawn(desk.run());
    }
    Ok(())
}

/// Reads the key file and holds it against the configuration. Errors: [`StartError`].
pub fn read_key(config: &Config) -> Result<KeyFile, StartError> {
    let path = &config.agent.key_file;
    let text =
        std::fs::read_to_string(path).map_err(|source| StartError::KeyRead { path: path.clone(), source })?;
    let file = KeyFile::parse(&text).map_err(|source| StartError::Key { path: path.clone(), source })?;
    let same = [
        ("host", config.agent.host.map(|h| h.to_string()), file.host.to_string()),
        ("name", config.agent.name.clone(), file.hostname.clone()),
    ];
    for (key, configured, of_key) in same {
        if let Some(configured) = configured.filter(|c| *c != of_key) {
            return Err(StartError::OtherHost { key, configured, of_key });
        }
    }
    Ok(file)
}

impl Handle {
    /// What the agent believes now, and a way to wait for changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.context.status.subscribe()
    }

    /// Ends everything at once, as a power cut does: no goodbye is said, what was not on disk is lost. A datagram that is in the
    /// kernel's hands at this instant may still leave.
    pub fn kill(mut self) {
        self.context.dead.store(true, Ordering::Release);
        self.tasks.abort_all();
    }

    /// The same, and waits until the last task is gone and its sockets are closed: nothing leaves after it returned.
    pub async fn kill_and_wait(mut self) {
        self.context.dead.store(true, Ordering::Release);
        self.tasks.shutdown().await;
    }

    /// Waits until a part of the agent ends, which none does but by a bug.
    pub async fn ended(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a part of the agent ended");
        }
    }
}

fn seconds(s: f64) -> std::time::Duration {
    std::time::Duration::from_secs_f64(s)
}

/// Writes a small file whole or not at all, through to the disk.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

//! Starting and stopping: everything that `halberd serve` is made of, in the order in which it is needed.
//!
//! Whatever could stop a start is tried before anything acts: settings, key, database, addresses. What may be broken and mend itself (Nova,
//! Keystone, a BMC) does not stop it: the service starts, says so once, and its readiness is red. One road for `serve`, `api`, `engine`, the
//! demo and the tests.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use halberd_api::{App, AuthMode};
use halberd_engine::announcer::{Announcer, AnnouncerOptions};
use halberd_engine::bus::{Publisher, PublisherOptions};
use halberd_engine::effects::cloud::NovaCloud;
use halberd_engine::effects::hooks::{self, Hooks};
use halberd_engine::effects::power::Devices;
use halberd_engine::supervise::{self, Supervisor, SupervisorOptions};
use halberd_engine::{Engine, Parts, ports};
use halberd_fencing::Limits;
use halberd_openstack::OpenStack;
use halberd_store::{Access, Db, Sealer, write};
use secrecy::ExposeSecret;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError};
use crate::listen;
use crate::tls::{self, Tls};
use crate::{chain, metrics};

/// Requests under way at a stop get this long, and event streams are cut then.
const DRAIN: Duration = Duration::from_millis(900);

/// Which parts run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// API and engine.
    Serve,
    Api,
    Engine,
}

impl Role {
    fn has_api(self) -> bool {
        self != Role::Engine
    }

    fn has_engine(self) -> bool {
        self != Role::Api
    }
}

/// Why nothing was started. Each names the thing and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("[database] {0}")]
    Database(#[source] halberd_store::Error),
    #[error(
        "[database] {path} is in use by another engine: stop that one, or give this one a database of its own. On SQLite one process \
         is engine and API together (`halberd serve`); `halberd api` may run beside it, a second engine may not"
    )]
    Locked { path: PathBuf },
    #[error("[engine] secrets_key_file: {0}")]
    Key(#[source] halberd_store::Error),
    #[error(
        "[engine] secrets_key_file is not set: make 32 random bytes (`head -c 32 /dev/urandom > FILE; chmod 600 FILE`), give every \
         engine and API of this database the same file"
    )]
    NoKey,
    #[error(
        "the database is not sealed with halberd.key, and halberd.key.new lies beside it: `halberd db rekey` was interrupted, run it again"
    )]
    HalfRekeyed,
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error(
        "[api] listen: {address} is in use: another program, perhaps another halberd, listens there; stop it or choose another port"
    )]
    PortInUse { address: SocketAddr },
    #[error("[api] listen: {address} cannot be bound: {source}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Api(#[from] halberd_api::ConfigError),
    #[error("[openstack] {0}")]
    Openstack(#[source] halberd_openstack::Error),
    #[error(transparent)]
    Webhooks(#[from] halberd_engine::announcer::ConfigError),
    #[error(transparent)]
    Bus(#[from] halberd_engine::bus::ConfigError),
    #[error(transparent)]
    Hooks(#[from] hooks::ConfigError),
    #[error(transparent)]
    Services(#[from] supervise::ConfigError),
    #[error(transparent)]
    Engine(#[from] halberd_engine::StartError),
}

/// A running service.
#[derive(Debug)]
pub struct Running {
    /// Where the API listens, with the port that was really bound; `None` for an engine alone.
    pub addr: Option<SocketAddr>,
    /// `http://` or `https://` and the address.
    pub url: Option<String>,
    engine: Option<Engine>,
    api: Option<listen::Server>,
    tls: Option<Arc<Tls>>,
    others: JoinSet<()>,
    stop: CancellationToken,
    db: Db,
    openstack: Option<OpenStack>,
}

/// Starts API and engine.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_as(config, Role::Serve).await
}

/// Starts the parts of a role.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub async fn start_as(config: Config, role: Role) -> Result<Running, StartError> {
    tls::install_provider();
    metrics::install();
    let url = config.database_url()?;
    let access = if role.has_engine() { Access::Exclusive } else { Access::Shared };
    let db = Db::open(url.expose_secret(), access).await.map_err(|error| match error {
        halberd_store::Error::Locked { path } => StartError::Locked { path },
        other => StartError::Database(other),
    })?;
    let engine_name = config.engine.name.clone().unwrap_or_else(host_name);
    let publisher = match &config.bus {
        Some(bus) => {
            // Before anything changes; an API without an engine tells too, and an engine's publisher sends it.
            db.speak_on_bus(bus.speaker(&host_name()));
            Some(Publisher::new(db.clone(), bus, PublisherOptions::new(&engine_name))?)
        }
        None => None,
    };
    let sealer = sealer(&config, &db).await?;
    let openstack = match &config.openstack {
        Some(section) => Some(OpenStack::new(section).await.map_err(StartError::Openstack)?),
        None => None,
    };
    let announcer = Announcer::new(db.clone(), &config.webhooks, AnnouncerOptions::default())?;
    let listener = if role.has_api() { Some(bind(config.api.listen)?) } else { None };
    let tls = Tls::of(&config.api)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (nudge, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let mut others = JoinSet::new();

    let webhooks = announcer.names();
    let app = match &listener {
        Some(_) => Some(App::new(halberd_api::Parts {
            config: config.api.clone(),
            db: db.clone(),
            sealer: sealer.clone(),
            keystone: openstack.as_ref().map(OpenStack::keystone),
            nova: openstack.as_ref().map(OpenStack::nova),
            nudge: nudge.clone(),
            webhooks: webhooks.clone(),
        })?),
        None => None,
    };
    let engine = if role.has_engine() {
        let hooks = Hooks::new(&config.hooks)?;
        let parts = parts(&config, &db, sealer, openstack.as_ref(), hooks, webhooks.clone(), nudge);
        Some(Engine::start(parts).await?)
    } else {
        None
    };
    if let Some(engine) = &engine {
        let supervisor = supervisor(&config, &db, engine, &webhooks, announcer.nudge())?;
        others.spawn(announcer.run(stop.clone()));
        if let Some(publisher) = publisher {
            others.spawn(publisher.run(stop.clone()));
        }
        others.spawn(supervisor.run(stop.clone()));
    }
    if let Some(openstack) = openstack.clone() {
        others.spawn(say_who_we_are(openstack, stop.clone()));
    }
    let addr = listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let api = match (listener, app) {
        (Some(listener), Some(app)) => Some(listen(listener, app, tls.clone(), &db)?),
        _ => None,
    };
    let url = addr.map(|addr| format!("{scheme}://{addr}"));
    tell(&config, role, url.as_deref(), engine.as_ref());
    Ok(Running { addr, url, engine, api, tls, others, stop, db, openstack })
}

fn parts(
    config: &Config,
    db: &Db,
    sealer: Sealer,
    openstack: Option<&OpenStack>,
    hooks: Hooks,
    webhooks: Vec<String>,
    nudge: Arc<Notify>,
) -> Parts {
    let key = config.policy.ha_enabled_instance_metadata_key.clone();
    let name = config.engine.name.clone().unwrap_or_else(host_name);
    let mut engine = config.engine.clone();
    engine.high_water_file =
        Some(engine.high_water_file.unwrap_or_else(|| high_water_file(db.path(), &name)));
    let cloud = openstack.map(|openstack| Arc::new(NovaCloud::new(openstack, &key)) as Arc<dyn ports::Cloud>);
    Parts {
        name,
        db: db.clone(),
        sealer: sealer.clone(),
        config: engine,
        policy: config.policy.clone(),
        cloud,
        power: Arc::new(Devices::new(
            db.clone(),
            sealer,
            Limits { references: config.engine.secret_references.clone(), ..Limits::default() },
        )),
        hooks,
        webhooks,
        nudge,
    }
}

pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "halberd".to_owned() } else { name.to_owned() }
}

/// The key that seals secrets: the configured file, or on SQLite one beside the database, made at the first start.
async fn sealer(config: &Config, db: &Db) -> Result<Sealer, StartError> {
    let failed = |error: halberd_store::seal::SealError| StartError::Key(error.into());
    let sealer = match (&config.engine.secrets_key_file, db.path()) {
        (Some(path), _) => Sealer::from_file(path).map_err(failed)?,
        (None, Some(database)) => {
            let path = beside(database);
            let (sealer, new) = Sealer::from_file_or_new(&path).map_err(failed)?;
            if new {
                tracing::warn!(
                    path = %path.display(),
                    "made the key that seals passwords in the database: back it up apart from the database, without it they are lost"
                );
            }
            sealer
        }
        (None, None) => return Err(StartError::NoKey),
    };
    let now = halberd_engine::clock::stamp();
    let checked = write(db, async |tx| sealer.check(tx, now).await).await;
    checked.map_err(|error| match (error, db.path()) {
        (halberd_store::Error::Seal(halberd_store::seal::SealError::WrongKey), Some(database))
            if config.engine.secrets_key_file.is_none()
                && beside(database).with_extension("key.new").exists() =>
        {
            StartError::HalfRekeyed
        }
        (error, _) => StartError::Key(error),
    })?;
    Ok(sealer)
}

/// `halberd.key` in the database's directory.
pub(crate) fn beside(database: &Path) -> PathBuf {
    database.with_file_name("halberd.key")
}

/// Where an engine remembers how far the database was: beside an SQLite file, else where services keep their state, else here. On a server
/// any number of engines share a machine, so the engine's name is in it.
pub(crate) fn high_water_file(database: Option<&Path>, engine: &str) -> PathBuf {
    const STATE: &str = "/var/lib/halberd";
    if let Some(database) = database {
        return database.with_file_name("halberd.high-water");
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    let name = format!("halberd-{}.high-water", engine.chars().map(plain).collect::<String>());
    let folder = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let folder = folder.or_else(|| is_writable(Path::new(STATE)).then(|| PathBuf::from(STATE)));
    folder.unwrap_or_default().join(name)
}

fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok() && folder.is_dir()
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => StartError::PortInUse { address },
        _ => StartError::Bind { address, source },
    })?;
    listener.set_nonblocking(true).map_err(|source| StartError::Bind { address, source })?;
    Ok(listener)
}

fn listen(
    listener: TcpListener,
    app: App,
    tls: Option<Arc<Tls>>,
    db: &Db,
) -> Result<listen::Server, StartError> {
    let (address, limits) = (app.config.listen, listen::Limits::of(&app.config));
    let router = halberd_api::router(app).merge(metrics::routes(db.clone()));
    listen::Server::start(listener, router, tls, limits)
        .map_err(|source| StartError::Bind { address, source })
}

/// A wrong password must be known before the night it is needed; Keystone being down for a while is no reason not to start.
async fn say_who_we_are(openstack: OpenStack, stop: CancellationToken) {
    let asked = tokio::select! {
        asked = openstack.authenticate() => asked,
        () = stop.cancelled() => return,
    };
    match asked {
        Ok(identity) => tracing::info!(?identity, "logged in at Keystone"),
        Err(error) => {
            tracing::error!(%error, "not logged in at Keystone: readiness is red until it works, and no host can be recovered")
        }
    }
}

/// What watches the control plane. Probes run in every engine; an engine that may act is the one that writes.
fn supervisor(
    config: &Config,
    db: &Db,
    engine: &Engine,
    webhooks: &[String],
    wake: halberd_engine::announcer::Nudge,
) -> Result<Supervisor, supervise::ConfigError> {
    let shared = engine.shared().clone();
    let webhooks = webhooks.to_vec();
    let options = SupervisorOptions {
        webhooks: Arc::new(move |_| webhooks.clone()),
        published: Arc::new(move || wake.wake()),
        leads: Arc::new({
            let shared = shared.clone();
            move || shared.may_act(halberd_engine::clock::mono())
        }),
        ..SupervisorOptions::new(shared.engine, &shared.name)
    };
    Supervisor::new(db.clone(), &config.services, config.openstack.as_ref(), options)
}

fn tell(config: &Config, role: Role, url: Option<&str>, engine: Option<&Engine>) {
    if config.origin.is_none() && config.database.url.expose_secret() == crate::config::DEFAULT_URL {
        tracing::warn!(
            "no --config: the database is halberd.db in the working directory; try it out, then write one (`halberd config sample`)"
        );
    }
    if let Some(url) = url {
        if config.api.auth == AuthMode::None {
            tracing::warn!(
                url,
                "auth = \"none\": everybody on this machine is an administrator; it listens on loopback only"
            );
        }
        tracing::info!(url, "the API listens");
    }
    if config.openstack.is_none() {
        tracing::warn!(
            "no [openstack]: hosts cannot be created and nothing can be recovered; readiness is red"
        );
    }
    if engine.is_some_and(|engine| engine.listening.is_empty()) {
        tracing::warn!(
            "[engine] heartbeat_listen is empty: no agent is heard, hosts are judged by reports alone"
        );
    }
    tracing::info!(role = ?role, version = env!("CARGO_PKG_VERSION"), "halberd started");
}

impl Running {
    /// The engine of this process.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub fn db(&self) -> &Db {
        &self.db
    }

    /// HTTP requests sent to OpenStack so far.
    pub fn requests_sent(&self) -> u64 {
        self.openstack.as_ref().map_or(0, OpenStack::requests_sent)
    }

    /// Waits until the API's listener ends by itself, which it does only by a fault; for ever where there is none.
    pub async fn ended(&mut self) -> std::io::Result<()> {
        match &mut self.api {
            Some(server) => server.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Reads the files of the API's TLS again; what is wrong with them is logged, and the former stay in force.
    pub fn reload(&self) {
        let Some(tls) = &self.tls else {
            tracing::info!("SIGHUP: there is nothing to read again, the API has no TLS here");
            return;
        };
        match tls.reload() {
            Ok(()) => {
                tracing::info!("SIGHUP: certificate, key and client CA were read again and are in force")
            }
            Err(error) => {
                let error = chain(&error);
                tracing::error!(error, "SIGHUP: the new TLS files cannot be used, the former stay in force");
            }
        }
    }

    /// Stops gracefully: no new requests, those under way are finished, recoveries and lease are given back so that another
    /// engine goes on at once.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let api = self.api.take().map(|server| tokio::spawn(server.stop(DRAIN)));
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
        if let Some(stopping) = api {
            let _ = stopping.await;
        }
        while self.others.join_next().await.is_some() {}
        self.db.close().await;
    }

    /// Ends at once, as a crash would: nothing is given back.
    pub fn kill(mut self) {
        if let Some(server) = self.api.take() {
            server.kill();
        }
        if let Some(engine) = self.engine.take() {
            engine.kill();
        }
        self.others.abort_all();
    }
}

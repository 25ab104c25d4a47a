//! The engine: sees, judges, acts, tells. What it believes and decides is in `halberd-core`; here is what carries it out.
//!
//! [`collect`] keeps what was seen, [`intake`] opens recoveries, [`runner`] owns and drives them, [`effects`] does, through the
//! doors in [`ports`], [`announcer`] and [`bus`] tell the outer world, [`supervise`] watches the control plane.

pub mod announcer;
pub mod bus;
pub mod check;
pub mod clock;
pub mod collect;
pub mod config;
pub mod effects;
pub mod engines;
pub mod failpoint;
pub mod intake;
pub mod login;
pub mod ports;
pub mod retention;
pub mod rewind;
pub mod runner;
pub mod shared;
pub mod stall;
pub mod supervise;
pub mod wishes;

use std::net::SocketAddr;
use std::sync::Arc;

use halberd_core::id::EngineId;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use uuid::Uuid;

pub use config::EngineConfig;
pub use shared::{Parts, Shared};

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("[engine] {key}: {address} cannot be bound: {source}")]
    Bind { key: &'static str, address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Name(#[from] runner::lease::NameTaken),
    #[error(transparent)]
    Rewind(#[from] rewind::StartError),
    #[error(transparent)]
    Store(#[from] halberd_store::Error),
}

async fn bind(key: &'static str, addresses: &[SocketAddr]) -> Result<Vec<UdpSocket>, StartError> {
    let mut sockets = Vec::new();
    for address in addresses {
        let bound = UdpSocket::bind(address).await;
        sockets.push(bound.map_err(|source| StartError::Bind { key, address: *address, source })?);
    }
    Ok(sockets)
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Where beats are heard, in the order of the configuration, with the ports that were really bound.
    pub listening: Vec<SocketAddr>,
}

impl Engine {
    /// Binds, registers, reads what is stored, and starts every task.
    ///
    /// # Errors
    /// [`StartError`] names what is in the way.
    pub async fn start(parts: Parts) -> Result<Engine, StartError> {
        Engine::start_with(parts, None).await
    }

    /// The same with somebody at the named places of [`failpoint`].
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_with(parts: Parts, failpoints: failpoint::Listener) -> Result<Engine, StartError> {
        let mut shared = Shared::new(parts, EngineId(Uuid::new_v4()), clock::mono());
        shared.failpoints = failpoints;
        let shared = Arc::new(shared);
        let sockets = bind("heartbeat_listen", &shared.config.heartbeat_listen).await?;
        let crash_sockets = bind("kdump_listen", &shared.config.kdump_listen).await?;
        let listening = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        engines::come(&shared).await?;
        // Before this run's own row is written: what it shows is compared first.
        rewind::begin(&shared).await?;
        runner::lease::register(&shared).await?;
        collect::watch::refresh(&shared).await?;
        let mut tasks = JoinSet::new();
        for socket in sockets {
            tasks.spawn(collect::listener::listen(shared.clone(), socket));
        }
        for socket in crash_sockets {
            tasks.spawn(collect::kdump::listen(shared.clone(), socket));
        }
        tasks.spawn(runner::lease::run(shared.clone()));
        tasks.spawn(engines::state::watch_lateness(shared.clone()));
        tasks.spawn(engines::state::watch_outbox(shared.clone()));
        tasks.spawn(collect::watch::run(shared.clone()));
        tasks.spawn(rewind::run(shared.clone()));
        tasks.spawn(runner::run(shared.clone()));
        tasks.spawn(check::run(shared.clone()));
        tasks.spawn(login::run(shared.clone()));
        tasks.spawn(retention::run(shared.clone()));
        tracing::info!(engine = shared.name, id = %shared.engine, ?listening, "engine started");
        Ok(Engine { shared, tasks, listening })
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Stops gracefully: no new deeds, commits under way are waited for, recoveries and the lease are given back.
    pub async fn stop(mut self) {
        self.shared.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        rewind::given_back(&self.shared).await;
        tracing::info!(engine = self.shared.name, "engine stopped");
    }

    /// Ends at once, as a crash would: nothing is given back. For tests of takeover.
    pub fn kill(mut self) {
        self.tasks.abort_all();
    }
}

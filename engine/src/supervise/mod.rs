//! Supervision: the control plane is watched with the same care as hypervisors, and on the same road with smaller effects.
//!
//! A probe does what the service is for; what it saw is judged by a small pure machine ([`judge`]); a changed belief is
//! written with its event and audit record in one transaction; the one effect, a restart through the agent, passes a brake
//! ([`restart`]) and is verified by the probe. Every target has a task and a deadline of its own, so one that hangs delays
//! nobody; every service has a task that judges, so a slow database delays no probe of another.

pub mod config;
pub mod judge;
pub mod probe;
pub mod restart;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::event::EventKind;
use halberd_core::id::EngineId;
use halberd_openstack::OpenstackConfig;
use halberd_store::Db;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use config::{ConfigError, ServiceConfig};
pub use judge::{Belief, Sight};

use crate::clock;
use probe::Probe;
use service::Service;

/// Sights that may wait for their judge; more than this many means that the database stands still, and old sights are of no use.
const WAITING: usize = 16;

/// What supervision needs of the engine it belongs to.
#[derive(Clone)]
pub struct SupervisorOptions {
    /// Whose audit chain it writes.
    pub engine: EngineId,
    /// The engine's stable name: each engine has a canary row of its own under it.
    pub prober: String,
    /// Names of the webhooks that are told of such events.
    pub webhooks: Arc<dyn Fn(EventKind) -> Vec<String> + Send + Sync>,
    /// Called when events were written: the announcer may be woken.
    pub published: Arc<dyn Fn() + Send + Sync>,
    /// Whether this engine is the one that writes and acts. All engines probe and judge.
    pub leads: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl SupervisorOptions {
    /// For an engine that is alone and has no webhooks.
    pub fn new(engine: EngineId, prober: &str) -> SupervisorOptions {
        SupervisorOptions {
            engine,
            prober: prober.to_owned(),
            webhooks: Arc::new(|_| Vec::new()),
            published: Arc::new(|| ()),
            leads: Arc::new(|| true),
        }
    }
}

impl fmt::Debug for SupervisorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorOptions").field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Watches the configured services.
#[derive(Debug)]
pub struct Supervisor {
    db: Db,
    options: SupervisorOptions,
    services: Vec<(ServiceConfig, Vec<(String, Probe)>)>,
}

impl Supervisor {
    /// Checks every section and prepares its probes; nothing is asked yet. `openstack` is the engine's own section, for
    /// services without credentials of theirs.
    ///
    /// # Errors
    /// The first section that cannot be used, and why.
    pub fn new(
        db: Db,
        sections: &[ServiceConfig],
        openstack: Option<&OpenstackConfig>,
        options: SupervisorOptions,
    ) -> Result<Supervisor, ConfigError> {
        let mut names = BTreeSet::new();
        let mut services = Vec::with_capacity(sections.len());
        for section in sections {
            section.check()?;
            let fail = |what: String| ConfigError { name: section.name.clone(), what };
            if !names.insert(&section.name) {
                return Err(fail("there are two of this name".into()));
            }
            let by_catalog = [section.kind.as_str().to_owned()];
            let targets = if section.targets.is_empty() { &by_catalog[..] } else { &section.targets[..] };
            let probe = |target: &String| {
                Probe::new(section, target, openstack, &options.prober)
                    .map(|probe| (target.clone(), probe))
                    .map_err(fail)
            };
            services.push((section.clone(), targets.iter().map(probe).collect::<Result<_, _>>()?));
        }
        Ok(Supervisor { db, options, services })
    }

    /// Watches until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (config, probes) in self.services {
            let (send, sights) = mpsc::channel(WAITING);
            let targets: Vec<String> = probes.iter().map(|(target, _)| target.clone()).collect();
            for (place, (_, probe)) in probes.into_iter().enumerate() {
                tasks.spawn(watch(place, probe, config.clone(), send.clone(), cancel.clone()));
            }
            tasks.spawn(keep(self.db.clone(), config, targets, self.options.clone(), sights));
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// Probes one target again and again.
async fn watch(
    place: usize,
    probe: Probe,
    config: ServiceConfig,
    send: mpsc::Sender<(usize, Sight)>,
    cancel: CancellationToken,
) {
    let interval = Duration::from_millis(config.thresholds.interval_ms);
    let retry = Duration::from_millis(config.thresholds.retry_ms).min(interval);
    // Spread over an interval, so that not everything is asked at the same moment.
    let mut next = Instant::now() + rand::rng().random_range(Duration::ZERO..interval);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep_until(next) => {}
        }
        let started = Instant::now();
        let sight = tokio::select! {
            () = cancel.cancelled() => return,
            sight = probe.look() => sight,
        };
        next = started + if matches!(sight, Sight::Down { .. }) { retry } else { interval };
        metrics::counter!("halberd_probes_total", "service" => config.name.clone(), "good" => if sight.is_good() { "1" } else { "0" })
            .increment(1);
        // A judge that stands still gets the next sight; waiting for it would stop the probes.
        if let Err(mpsc::error::TrySendError::Closed(_)) = send.try_send((place, sight)) {
            return;
        }
    }
}

/// Judges one service until its probes have ended.
async fn keep(
    db: Db,
    config: ServiceConfig,
    targets: Vec<String>,
    options: SupervisorOptions,
    mut sights: mpsc::Receiver<(usize, Sight)>,
) {
    let mut service = Service::load(db, config, &targets, options, clock::stamp()).await;
    while let Some((place, sight)) = sights.recv().await {
        service.take(place, sight, clock::mono(), clock::stamp()).await;
    }
}

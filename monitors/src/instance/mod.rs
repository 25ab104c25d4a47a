//! Instance monitor: hears from libvirt what happens to guests, and finds out what it did not hear.
//!
//! Events are edges and get lost: libvirtd restarts, this agent restarts, the machine stalls. So at each connect every domain and its state is reported,
//! and each listing is held against who ran before: a guest that ran, and is off for a reason nobody chose, is
//! reported like the event that was missed. Who ran is remembered on disk, for this boot.

pub(crate) mod client;
pub mod protocol;
pub(crate) mod xdr;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use halberd_types::report::{Domain, GuestPayload, ReportKind};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::config::InstanceConfig;
use crate::context::Context;
use crate::report::Reporter;
use crate::report::send::chain;
use client::{Connection, LibvirtError};
use protocol::{GuestEvent, Happened, payload, payload_of};

/// The same of the same guest again within so long says nothing new: a failing disk reports every request.
const REPEAT_NS: u64 = 30_000_000_000;

/// Who ran when last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    boot: Uuid,
    active: BTreeSet<Uuid>,
}

/// The monitor.
#[derive(Debug)]
pub(crate) struct InstanceMonitor {
    context: Arc<Context>,
    reporter: Reporter,
    config: InstanceConfig,
    file: PathBuf,
    memory: Memory,
    said: HashMap<GuestPayload, u64>,
    failing: bool,
}

impl InstanceMonitor {
    pub fn new(context: Arc<Context>, reporter: Reporter, config: InstanceConfig, state_dir: &Path) -> Self {
        let file = state_dir.join("domains-active.json");
        let boot = context.platform.boot;
        let read: Option<Memory> = std::fs::read(&file).ok().and_then(|b| serde_json::from_slice(&b).ok());
        // Another boot ended every guest: nothing to conclude from who ran then.
        let memory = read.filter(|m| m.boot == boot).unwrap_or(Memory { boot, ..Memory::default() });
        Self { context, reporter, config, file, memory, said: HashMap::new(), failing: false }
    }

    /// Watches until aborted.
    pub async fn run(mut self) {
        loop {
            let Err(error) = self.watch().await;
            self.context.status.send_if_modified(|s| std::mem::replace(&mut s.libvirt, false));
            if !self.failing {
                tracing::warn!(error = chain(&error), "cannot watch guests; trying on");
                self.failing = true;
            }
            sleep(Duration::from_secs_f64(self.config.reconnect_interval)).await;
        }
    }

    async fn watch(&mut self) -> Result<std::convert::Infallible, LibvirtError> {
        let mut connection = Connection::open(&self.config.socket, &self.config.uri).await?;
        // Register first, list then: what happens in between is seen twice rather than never.
        connection.register().await?;
        self.reconcile(&mut connection).await?;
        self.failing = false;
        self.context.status.send_modify(|s| s.libvirt = true);
        tracing::info!(socket = %self.config.socket.display(), "watching guests");
        let mut tick = interval(Duration::from_secs_f64(self.config.check_interval));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = connection.event() => self.take(&event?).await,
                _ = tick.tick() => self.look(&mut connection).await?,
            }
        }
    }

    /// Everything, with states: told to the engine, and searched for what was missed.
    async fn reconcile(&mut self, connection: &mut Connection) -> Result<(), LibvirtError> {
        let mut domains = Vec::new();
        for domain in connection.list().await? {
            domains.extend(connection.state(&domain).await?);
        }
        self.context.libvirt_answered();
        let missed: Vec<_> = domains.iter().filter_map(|d| missed(&self.memory.active, d)).collect();
        for payload in missed {
            self.say(payload).await;
        }
        let active = domains.iter().filter(|d| is_active(d.state)).map(|d| d.uuid).collect();
        self.reporter.report(ReportKind::Domains { domains }).await;
        self.remember(active);
        Ok(())
    }

    /// One list; states only of those that stopped without our hearing of it.
    async fn look(&mut self, connection: &mut Connection) -> Result<(), LibvirtError> {
        let list = connection.list().await?;
        self.context.libvirt_answered();
        let active: BTreeSet<Uuid> = list.iter().filter(|d| d.id >= 0).map(|d| d.uuid).collect();
        let stopped = list.iter().filter(|d| d.id < 0 && self.memory.active.contains(&d.uuid));
        for domain in stopped.cloned().collect::<Vec<_>>() {
            if let Some(state) = connection.state(&domain).await?
                && let Some(payload) = missed(&self.memory.active, &state)
            {
                self.say(payload).await;
            }
        }
        self.remember(active);
        Ok(())
    }

    async fn take(&mut self, event: &GuestEvent) {
        tracing::debug!(guest = %event.uuid, name = event.name, what = ?event.what, "libvirt event");
        if let Some(payload) = payload_of(event) {
            self.say(payload).await;
        }
        let mut active = self.memory.active.clone();
        match event.what {
            Happened::Lifecycle { event: 2 | 4, .. } => active.insert(event.uuid),
            // The reason is in the event: whether or not it was worth a report, the next listing must not tell it again.
            Happened::Lifecycle { event: 5 | 1, .. } => active.remove(&event.uuid),
            _ => false,
        };
        self.remember(active);
    }

    /// Reports a guest's trouble, unless just said.
    async fn say(&mut self, payload: GuestPayload) {
        let now = self.context.now_ns();
        self.said.retain(|_, at| now.saturating_sub(*at) < REPEAT_NS);
        if self.said.contains_key(&payload) {
            return;
        }
        self.said.insert(payload.clone(), now);
        tracing::warn!(guest = %payload.instance_uuid, event = payload.event, detail = payload.vir_domain_event, "guest in trouble");
        let stopped = payload.vir_domain_event.starts_with("STOPPED_");
        let kind = if stopped { ReportKind::GuestStopped } else { ReportKind::GuestEvent };
        self.reporter.report(kind(payload)).await;
    }

    fn remember(&mut self, active: BTreeSet<Uuid>) {
        if active == self.memory.active {
            return;
        }
        self.memory.active = active;
        let written = serde_json::to_vec(&self.memory)
            .map_err(std::io::Error::from)
            .and_then(|bytes| crate::write_whole(&self.file, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.file.display(), "cannot remember who runs");
        }
    }
}

/// virDomainState: running, blocked, paused, shutting down, suspended by power management have a process.
fn is_active(state: i32) -> bool {
    matches!(state, 1 | 2 | 3 | 4 | 7)
}

/// What a domain's state says that an event must have said. Numbers: virDomainState and its reasons.
fn missed(active: &BTreeSet<Uuid>, domain: &Domain) -> Option<GuestPayload> {
    let ran = active.contains(&domain.uuid);
    let detail = match (domain.state, domain.reason) {
        // Off: crashed.
        (5, 3) if ran => "STOPPED_CRASHED",
        // Off: failed to go on, lost by the daemon, or gone while the daemon was away and nobody knows why.
        (5, 0 | 6 | 8) if ran => "STOPPED_FAILED",
        (6, _) if ran => "CRASHED_PANICKED",
        // Paused is a level: said at each connect, whoever ran.
        (3, 5) => "SUSPENDED_IOERROR",
        (3, 6) => "SUSPENDED_WATCHDOG",
        _ => return None,
    };
    Some(payload(domain.uuid, "LIFECYCLE", detail.to_owned()))
}

/// Destroys a stray guest. Errors: [`LibvirtError`].
pub(crate) async fn destroy(config: &InstanceConfig, uuid: Uuid) -> Result<bool, LibvirtError> {
    let control = || {
        let text = config.socket.to_string_lossy();
        PathBuf::from(text.strip_suffix("-ro").unwrap_or(&text))
    };
    let socket = config.control_socket.clone().unwrap_or_else(control);
    Connection::open(&socket, &config.uri).await?.destroy(uuid).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(state: i32, reason: i32) -> Domain {
        Domain { uuid: Uuid::from_u128(1), name: "i".into(), state, reason }
    }

    fn detail(ran: bool, state: i32, reason: i32) -> Option<String> {
        let active = if ran { [Uuid::from_u128(1)].into() } else { BTreeSet::new() };
        missed(&active, &domain(state, reason)).map(|p| p.vir_domain_event)
    }

    #[test]
    fn a_death_nobody_chose_is_found_afterwards() {
        assert_eq!(detail(true, 5, 6).as_deref(), Some("STOPPED_FAILED"));
        assert_eq!(detail(true, 5, 8).as_deref(), Some("STOPPED_FAILED"));
        assert_eq!(detail(true, 5, 3).as_deref(), Some("STOPPED_CRASHED"));
        assert_eq!(detail(false, 3, 5).as_deref(), Some("SUSPENDED_IOERROR"));
    }

    #[test]
    fn a_chosen_stop_and_an_old_one_are_not() {
        // Shut down, destroyed, migrated, saved.
        for reason in [1, 2, 4, 5] {
            assert_eq!(detail(true, 5, reason), None, "{reason}");
        }
        assert_eq!(detail(false, 5, 6), None, "did not run in this boot");
        assert_eq!(detail(true, 1, 1), None);
        assert_eq!(detail(true, 3, 1), None, "paused by hand");
    }
}

//! The world: its parts, its clock and its queue of things that will happen.
//!
//! Every public call names the time and first lets everything happen that was due until then. What is due lies in a
//! binary heap; heartbeats are not in it, as when a service last beat follows from when it began to. So a quiet hour costs nothing.

mod agents;
mod aggregates;
mod bmc;
mod compute;
mod evacuate;
mod host;
mod inject;
mod ironic;
mod keystone;
mod migrations;
mod nova;
mod placement;
mod servers;
mod services;
mod supply;
#[cfg(test)]
mod tests;
mod views;

pub use bmc::BmcSession;
pub use keystone::{Caller, Credentials, Scope, Token};

use crate::chance::Chance;
use crate::fault::Fault;
use crate::history::{Deed, What};
use crate::model::{Action, Aggregate, VmState};
use crate::spec::{BmcKind, GuestSpec, WorldSpec};
use crate::truth::{DoubleRun, Ledger};
use evacuate::Operation;
use host::Host;
use keystone::Keystone;
use migrations::Record;
use nova::NovaHealth;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use uuid::Uuid;

/// Something that will happen. Epochs make an entry void when the thing it was about has changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A power order takes effect.
    Power {
        host: usize,
        on: bool,
        order: u64,
    },
    /// A BMC with a will of its own switches the machine on.
    AutoOn {
        host: usize,
    },
    Booted {
        host: usize,
        epoch: u64,
    },
    ComputeUp {
        host: usize,
        epoch: u64,
    },
    Thaw {
        host: usize,
        epoch: u64,
    },
    NetworksHeal {
        host: usize,
        cut: u64,
    },
    /// The next stage of an evacuation.
    Evacuation {
        op: usize,
    },
    /// A start, stop or reboot of a guest is carried out.
    Task {
        guest: usize,
        host: usize,
        task: u64,
    },
    /// nova-compute notices that a guest has died.
    DeathSeen {
        guest: usize,
        host: usize,
    },
    LiveMigrated {
        migration: usize,
    },
    /// The bare-metal service looks after its nodes.
    IronicSync,
    /// A fault that was asked for in advance.
    Scheduled {
        fault: usize,
    },
}

/// A guest: Nova's record of it.
#[derive(Debug)]
pub(crate) struct Guest {
    id: Uuid,
    name: String,
    project: String,
    host: Option<usize>,
    vm_state: VmState,
    task_state: Option<&'static str>,
    power_state: u8,
    locked: bool,
    locked_reason: Option<String>,
    metadata: BTreeMap<String, String>,
    tags: Vec<String>,
    volume_backed: bool,
    launched: bool,
    fault: Option<String>,
    created_at: i64,
    updated_at: u64,
    actions: Vec<Action>,
    /// Providers that hold an allocation for it.
    allocations: Vec<usize>,
    /// Its evacuation operations, oldest first.
    operations: Vec<usize>,
    migrations: Vec<usize>,
    /// Number of the pending task, so that a newer one voids it.
    task: u64,
    evacuate_calls: Vec<(u64, bool)>,
}

/// The simulated cloud. See the crate's page.
#[derive(Debug)]
pub struct World {
    spec: WorldSpec,
    now: u64,
    chance: Chance,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    queued: u64,
    hosts: Vec<Host>,
    host_by_name: HashMap<String, usize>,
    guests: Vec<Guest>,
    guest_by_id: HashMap<Uuid, usize>,
    ledger: Ledger,
    double_runs: Vec<DoubleRun>,
    history: Vec<Deed>,
    records: Vec<Record>,
    operations: Vec<Operation>,
    aggregates: Vec<Aggregate>,
    controllers: Vec<services::Controller>,
    nova: NovaHealth,
    keystone: Keystone,
    scheduled: Vec<Option<Fault>>,
    cut_links: Vec<agents::CutLink>,
    ironic: ironic::Ironic,
}

impl World {
    /// Builds the world: all hosts run, all services are up, all active guests execute where Nova says.
    pub fn new(spec: WorldSpec) -> Self {
        let mut chance = Chance::new(spec.seed);
        let racks = spec.racks.clamp(1, spec.hosts.max(1));
        let mut hosts = Vec::with_capacity(spec.hosts);
        for position in 0..spec.hosts {
            let rack = format!("rack-{}", position * racks / spec.hosts.max(1) + 1);
            let kind = match spec.bmc_kinds.len() {
                0 => BmcKind::None,
                kinds => spec.bmc_kinds[position % kinds],
            };
            hosts.push(Host::new(position, spec.host_name(position), rack, kind, &spec, &mut chance));
        }
        let host_by_name = hosts.iter().enumerate().map(|(ix, host)| (host.name.clone(), ix)).collect();
        let controllers = services::Controller::all(&mut chance);
        let keystone = Keystone::new(&mut chance);
        let ledger = Ledger::new(spec.hosts);
        let mut world = Self {
            now: 0,
            due: BinaryHeap::new(),
            queued: 0,
            hosts,
            host_by_name,
            guests: Vec::new(),
            guest_by_id: HashMap::new(),
            ledger,
            double_runs: Vec::new(),
            history: Vec::new(),
            records: Vec::new(),
            operations: Vec::new(),
            aggregates: Vec::new(),
            controllers,
            nova: NovaHealth::default(),
            keystone,
            scheduled: Vec::new(),
            cut_links: Vec::new(),
            ironic: ironic::Ironic::default(),
            chance,
            spec,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let mut number = 0;
        for position in 0..self.spec.hosts {
            for _ in 0..self.spec.guests_per_host.get(position).copied().unwrap_or(0) {
                number += 1;
                let mut guest =
                    GuestSpec::active(&format!("guest-{number:03}"), &self.spec.host_name(position));
                guest.project = Some(self.keystone.tenant(number));
                if self.spec.ha_enabled_every > 0 && number % self.spec.ha_enabled_every == 0 {
                    guest.metadata.insert("HA_Enabled".into(), "True".into());
                }
                if self.spec.stopped_every > 0 && number % self.spec.stopped_every == 0 {
                    guest.vm_state = VmState::Stopped;
                }
                self.add_guest(0, guest);
            }
        }
    }

    /// Adds a guest; an active one executes on its host at once.
    ///
    /// # Panics
    /// When the spec names a host that is not there: a mistake in the test itself.
    pub fn add_guest(&mut self, now: u64, spec: GuestSpec) -> Uuid {
        self.advance(now);
        let id = self.chance.uuid();
        let host = spec.host.as_deref().map(|name| self.host_ix(name));
        let ix = self.guests.len();
        let runs = matches!(spec.vm_state, VmState::Active | VmState::Paused | VmState::Rescued);
        self.guests.push(Guest {
            id,
            name: spec.name,
            project: spec.project.unwrap_or_else(|| self.keystone.tenant(0)),
            host,
            vm_state: spec.vm_state,
            task_state: (spec.vm_state == VmState::Building).then_some("spawning"),
            power_state: match spec.vm_state {
                VmState::Active | VmState::Rescued | VmState::Resized => 1,
                VmState::Paused => 3,
                VmState::Suspended | VmState::Stopped => 4,
                _ => 0,
            },
            locked: false,
            locked_reason: None,
            metadata: spec.metadata,
            tags: Vec::new(),
            volume_backed: spec.volume_backed,
            launched: spec.vm_state != VmState::Building && host.is_some(),
            fault: None,
            // Guests stand in the order of their creation, one second apart, all before virtual zero.
            created_at: if now == 0 { -3_600_000 + 1_000 * ix as i64 } else { now as i64 },
            updated_at: now,
            actions: Vec::new(),
            allocations: Vec::new(),
            operations: Vec::new(),
            migrations: Vec::new(),
            task: 0,
            evacuate_calls: Vec::new(),
        });
        self.guest_by_id.insert(id, ix);
        self.ledger.add_guest();
        if let Some(host) = host {
            self.allocate(ix, host);
            self.hosts[host].local.push(ix);
            if runs {
                self.guest_starts(ix, host);
            }
        }
        id
    }

    /// What was built.
    pub fn spec(&self) -> &WorldSpec {
        &self.spec
    }

    /// Sets the wall-clock time of virtual zero (seconds since 1970), for the times that Nova and Keystone show.
    pub fn set_epoch(&mut self, seconds: i64) {
        self.spec.epoch_seconds = seconds;
    }

    /// The latest time any call has named.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The time of the next thing that will happen by itself; `None` when all is quiet. Heartbeats and expiries are not
    /// counted: they are seen by whoever looks.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Lets everything happen that is due up to `now`. Time never runs backwards: an earlier `now` means the latest one.
    pub fn advance(&mut self, now: u64) {
        while let Some(Reverse((at, _, _))) = self.due.peek()
            && *at <= now
        {
            let Some(Reverse((at, _, due))) = self.due.pop() else { break };
            self.now = self.now.max(at);
            self.happen(due);
        }
        self.now = self.now.max(now);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Power { host, on, order } => self.power_order_lands(host, on, order),
            Due::AutoOn { host } => self.power_on(host),
            Due::Booted { host, epoch } => self.booted(host, epoch),
            Due::ComputeUp { host, epoch } => self.compute_due(host, epoch),
            Due::Thaw { host, epoch } => self.thaw(host, epoch),
            Due::NetworksHeal { host, cut } => self.networks_heal(host, cut),
            Due::Evacuation { op } => self.evacuation_step(op),
            Due::Task { guest, host, task } => self.task_due(guest, host, task),
            Due::DeathSeen { guest, host } => self.death_seen(guest, host),
            Due::LiveMigrated { migration } => self.live_migrated(migration),
            Due::IronicSync => self.power_sync_due(),
            Due::Scheduled { fault } => {
                if let Some(fault) = self.scheduled[fault].take() {
                    self.inject(self.now, fault);
                }
            }
        }
    }

    fn schedule(&mut self, after_ms: u64, due: Due) {
        self.schedule_at(self.now.saturating_add(after_ms), due);
    }

    fn schedule_at(&mut self, at: u64, due: Due) {
        self.queued += 1;
        self.due.push(Reverse((at, self.queued, due)));
    }

    fn note(&mut self, what: What) {
        self.history.push(Deed { at: self.now, what });
    }

    fn host_ix(&self, name: &str) -> usize {
        *self.host_by_name.get(name).unwrap_or_else(|| panic!("the simulated cloud has no host {name}"))
    }

    fn guest_ix(&self, id: Uuid) -> usize {
        *self.guest_by_id.get(&id).unwrap_or_else(|| panic!("the simulated cloud has no guest {id}"))
    }

    fn name(&self, host: usize) -> String {
        self.hosts[host].name.clone()
    }

    /// The guest gets memory and CPU on the host. This is the one place where a guest begins to execute.
    fn guest_starts(&mut self, guest: usize, host: usize) {
        if self.ledger.start(guest, host) {
            self.note(What::GuestStarted { guest: self.guests[guest].id, host: self.name(host) });
            self.check_double(guest);
        }
    }

    fn guest_stops(&mut self, guest: usize, host: usize) {
        if self.ledger.stop(guest, host) {
            self.note(What::GuestStopped { guest: self.guests[guest].id, host: self.name(host) });
        }
    }

    fn check_double(&mut self, guest: usize) {
        let at = self.ledger.executing(guest);
        if at.len() > 1 {
            let hosts: Vec<String> = at.into_iter().map(|host| self.name(host)).collect();
            let id = self.guests[guest].id;
            self.note(What::DoubleRun { guest: id, hosts: hosts.clone() });
            self.double_runs.push(DoubleRun { at: self.now, guest: id, hosts });
        }
    }
}

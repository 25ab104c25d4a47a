//! A machine: its power, its boots, its hangs, and what each does to the guests in its memory.

use super::bmc::Bmc;
use super::{Due, World};
use crate::chance::Chance;
use crate::history::What;
use crate::metal::RestorePolicy;
use crate::model::{HostState, HostView, Network, Power};
use crate::spec::{BmcKind, WorldSpec};
use std::collections::VecDeque;
use uuid::Uuid;

/// nova-compute's heartbeat: a beat each interval since `origin`, or none since `last`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pulse {
    pub(super) last: u64,
    pub(super) origin: Option<u64>,
}

impl Pulse {
    pub(super) fn last(self, now: u64, interval: u64) -> u64 {
        match self.origin {
            Some(origin) if origin <= now => origin + (now - origin) / interval.max(1) * interval.max(1),
            _ => self.last,
        }
    }
}

/// Nova's row for the host's nova-compute.
#[derive(Debug)]
pub(super) struct ServiceRow {
    pub(super) id: Uuid,
    pub(super) disabled: bool,
    pub(super) reason: Option<String>,
    pub(super) forced_down: bool,
    pub(super) put_at: u64,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(super) name: String,
    pub(super) rack: String,
    pub(super) serial: String,
    pub(super) uuid: Uuid,
    pub(super) power: Power,
    pub(super) restore_policy: RestorePolicy,
    /// The machine has lost its supply; whether it was on before, or has been ordered off since.
    pub(super) supply_lost: Option<bool>,
    pub(super) state: HostState,
    pub(super) boot_id: Uuid,
    pub(super) boots: u64,
    pub(super) booted_at: u64,
    /// Raised by each change of power or state, so that what was due for the former one is void.
    pub(super) epoch: u64,
    pub(super) cut: Vec<Network>,
    pub(super) cuts: u64,
    pub(super) agent: bool,
    pub(super) autostart: bool,
    pub(super) gate: bool,
    pub(super) gated: bool,
    pub(super) compute: bool,
    /// Raised whenever nova-compute ends: what it worked on is lost.
    pub(super) compute_epoch: u64,
    pub(super) pulse: Pulse,
    pub(super) service: ServiceRow,
    /// The host's message queue on the bus: survives its death, is worked off when nova-compute listens again.
    pub(super) inbox: Vec<Due>,
    pub(super) building: usize,
    pub(super) waiting: VecDeque<usize>,
    pub(super) spawn_failures: u32,
    pub(super) cell_down_until: u64,
    /// Guests whose local copy (definition and disk) is here.
    pub(super) local: Vec<usize>,
    /// Guests that were in memory when power or kernel went away: what an autostart runs again.
    pub(super) ran_before: Vec<usize>,
    pub(super) generation: u64,
    /// Guests allocated here in Placement.
    pub(super) used: usize,
    pub(super) bmc: Bmc,
}

impl Host {
    pub(super) fn new(
        position: usize,
        name: String,
        rack: String,
        kind: BmcKind,
        spec: &WorldSpec,
        chance: &mut Chance,
    ) -> Self {
        Self {
            serial: format!("SN{:06}", 100_001 + position),
            uuid: chance.uuid(),
            power: Power::On,
            restore_policy: spec.restore_policy,
            supply_lost: None,
            state: HostState::Running,
            boot_id: chance.uuid(),
            boots: 1,
            booted_at: 0,
            epoch: 0,
            cut: Vec::new(),
            cuts: 0,
            agent: true,
            autostart: spec.autostart,
            gate: spec.gate,
            gated: false,
            compute: true,
            compute_epoch: 0,
            pulse: Pulse { last: 0, origin: Some(chance.between(0, spec.report_interval_ms)) },
            service: ServiceRow {
                id: chance.uuid(),
                disabled: false,
                reason: None,
                forced_down: false,
                put_at: 0,
            },
            inbox: Vec::new(),
            building: 0,
            waiting: VecDeque::new(),
            spawn_failures: 0,
            cell_down_until: 0,
            local: Vec::new(),
            ran_before: Vec::new(),
            generation: 1,
            used: 0,
            bmc: Bmc::new(kind, &name, chance),
            name,
            rack,
        }
    }

    /// User land runs.
    pub(super) fn alive(&self) -> bool {
        self.power == Power::On && self.state == HostState::Running
    }

    pub(super) fn reaches(&self, network: Network) -> bool {
        !self.cut.contains(&network)
    }

    /// nova-compute hears the bus and is heard.
    pub(super) fn on_the_bus(&self) -> bool {
        self.alive() && self.compute && self.reaches(Network::Management)
    }
}

impl World {
    /// Brings nova-compute's heartbeat in line with the host's state; when it is back on the bus its queue runs.
    pub(super) fn refresh_pulse(&mut self, host: usize) {
        let (now, interval) = (self.now, self.spec.report_interval_ms);
        let on_the_bus = self.hosts[host].on_the_bus();
        // A returning service reports within two seconds, as seen on a thawed one.
        let first = now + self.chance.between(0, 2_000.min(interval));
        let it = &mut self.hosts[host];
        if on_the_bus && it.pulse.origin.is_none() {
            it.pulse.origin = Some(first);
            for due in std::mem::take(&mut self.hosts[host].inbox) {
                self.schedule(100, due);
            }
        } else if !on_the_bus && it.pulse.origin.is_some() {
            it.pulse = Pulse { last: it.pulse.last(now, interval), origin: None };
        }
    }

    pub(super) fn power_off(&mut self, host: usize, dark: bool) {
        let was = self.hosts[host].power;
        if was == Power::On {
            self.note(What::PoweredOff { host: self.name(host) });
            self.compute_ends(host);
            self.memory_is_gone(host);
            if let Some(after) = self.hosts[host].bmc.faults.auto_on {
                self.schedule(after, Due::AutoOn { host });
            }
        }
        let it = &mut self.hosts[host];
        it.epoch += 1;
        it.power = if dark || was == Power::Dark { Power::Dark } else { Power::Off };
        self.ledger.set_frozen(host, false);
        self.refresh_pulse(host);
    }

    pub(super) fn power_on(&mut self, host: usize) {
        if self.hosts[host].power != Power::Off {
            return;
        }
        let it = &mut self.hosts[host];
        it.power = Power::On;
        it.supply_lost = None;
        it.state = HostState::Booting;
        it.epoch += 1;
        let epoch = it.epoch;
        self.note(What::PoweredOn { host: self.name(host) });
        self.schedule(self.spec.boot_ms, Due::Booted { host, epoch });
    }

    pub(super) fn booted(&mut self, host: usize, epoch: u64) {
        if self.hosts[host].epoch != epoch {
            return;
        }
        let (now, boot_id) = (self.now, self.chance.uuid());
        let it = &mut self.hosts[host];
        it.state = HostState::Running;
        it.boot_id = boot_id;
        it.boots += 1;
        it.booted_at = now;
        it.agent = true;
        it.gated = it.gate;
        let (gated, autostart) = (it.gated, it.autostart);
        self.note(What::Booted { host: self.name(host), boot: boot_id });
        if !gated {
            if autostart {
                self.run_local_guests(host);
            }
            self.schedule(self.spec.compute_start_ms, Due::ComputeUp { host, epoch });
        }
    }

    /// All local guests that ran before the last death run again, as libvirt's autostart does: it asks nobody.
    pub(super) fn run_local_guests(&mut self, host: usize) {
        for guest in std::mem::take(&mut self.hosts[host].ran_before) {
            if self.hosts[host].local.contains(&guest) {
                self.guest_starts(guest, host);
            }
        }
    }

    pub(super) fn hang(&mut self, host: usize, for_ms: Option<u64>) {
        if !self.hosts[host].alive() {
            return;
        }
        let it = &mut self.hosts[host];
        it.state = HostState::Hung;
        it.epoch += 1;
        let epoch = it.epoch;
        self.ledger.set_frozen(host, true);
        self.note(What::Hung { host: self.name(host) });
        self.refresh_pulse(host);
        if let Some(after) = for_ms {
            self.schedule(after, Due::Thaw { host, epoch });
        }
    }

    pub(super) fn thaw(&mut self, host: usize, epoch: u64) {
        let it = &mut self.hosts[host];
        if it.epoch != epoch || it.state != HostState::Hung {
            return;
        }
        it.state = HostState::Running;
        it.epoch += 1;
        self.ledger.set_frozen(host, false);
        self.note(What::Thawed { host: self.name(host) });
        for guest in self.ledger.held(host).to_vec() {
            self.check_double(guest);
        }
        self.refresh_pulse(host);
    }

    pub(super) fn panic_host(&mut self, host: usize) {
        if !self.hosts[host].alive() {
            return;
        }
        self.note(What::Panicked { host: self.name(host) });
        self.compute_ends(host);
        self.memory_is_gone(host);
        let it = &mut self.hosts[host];
        it.state = HostState::Panicked;
        it.epoch += 1;
        self.refresh_pulse(host);
    }

    fn memory_is_gone(&mut self, host: usize) {
        let held = self.ledger.held(host).to_vec();
        if !held.is_empty() {
            self.hosts[host].ran_before = held.clone();
        }
        for guest in held {
            self.guest_stops(guest, host);
        }
    }

    pub(super) fn cut_networks(&mut self, host: usize, networks: &[Network], for_ms: Option<u64>) {
        let it = &mut self.hosts[host];
        for network in networks {
            if !it.cut.contains(network) {
                it.cut.push(*network);
            }
        }
        it.cuts += 1;
        let cut = it.cuts;
        self.refresh_pulse(host);
        if let Some(after) = for_ms {
            self.schedule(after, Due::NetworksHeal { host, cut });
        }
    }

    pub(super) fn networks_heal(&mut self, host: usize, cut: u64) {
        if self.hosts[host].cuts == cut {
            self.hosts[host].cut.clear();
            self.refresh_pulse(host);
        }
    }

    pub(super) fn host_view(&self, ix: usize) -> HostView {
        let host = &self.hosts[ix];
        let ids = |guests: &[usize]| guests.iter().map(|guest| self.guests[*guest].id).collect();
        let frozen = host.power == Power::On && host.state == HostState::Hung;
        HostView {
            name: host.name.clone(),
            rack: host.rack.clone(),
            serial: host.serial.clone(),
            uuid: host.uuid,
            power: host.power,
            restore_policy: host.restore_policy,
            state: host.state,
            boot_id: host.boot_id,
            boots: host.boots,
            networks: Network::ALL.into_iter().filter(|network| host.reaches(*network)).collect(),
            compute: host.compute && host.alive(),
            agent: host.agent && host.alive(),
            gated: host.gated,
            executing: if frozen { Vec::new() } else { ids(self.ledger.held(ix)) },
            local: ids(&host.local),
        }
    }
}

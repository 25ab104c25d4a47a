//! Faults on request, and the hands an operator or an agent has on a host.

use super::{Due, World, agents};
use crate::fault::{BmcFault, Fault};
use crate::history::What;
use crate::model::{HostState, Power, VmState};
use uuid::Uuid;

impl World {
    /// Makes something go wrong (or right again), now.
    ///
    /// # Panics
    /// When the fault names a host or guest that is not there: a mistake in the test itself.
    pub fn inject(&mut self, now: u64, fault: Fault) {
        self.advance(now);
        self.note(What::Injected(fault.clone()));
        let until = |for_ms: Option<u64>, now: u64| for_ms.map_or(u64::MAX, |ms| now.saturating_add(ms));
        let now = self.now;
        match fault {
            Fault::HostPowerLoss { host, with_bmc } => {
                let host = self.host_ix(&host);
                self.supply_lost(host, with_bmc);
            }
            Fault::HostHang { host, for_ms } => self.hang(self.host_ix(&host), for_ms),
            Fault::HostPanic { host } => self.panic_host(self.host_ix(&host)),
            Fault::HostReturn { host } => self.host_returns(&host),
            Fault::NetworkCut { host, networks, for_ms } => {
                self.cut_networks(self.host_ix(&host), &networks, for_ms);
            }
            Fault::NetworkHealed { host } => {
                let host = self.host_ix(&host);
                self.networks_heal(host, self.hosts[host].cuts);
            }
            Fault::RackDown { rack } => {
                for host in self.hosts_of_rack(&rack) {
                    self.supply_lost(host, true);
                }
            }
            Fault::SupplyReturn { host } => self.supply_returns(self.host_ix(&host)),
            Fault::RackSupplyReturn { rack } => {
                for host in self.hosts_of_rack(&rack) {
                    self.supply_returns(host);
                }
            }
            Fault::RestorePolicy { host, policy } => self.set_restore_policy(&host, policy),
            Fault::IronicDown { for_ms } => self.ironic.down_until = until(for_ms, now),
            Fault::IronicHealed => self.ironic.down_until = 0,
            Fault::Bmc { host, fault } => self.bmc_fault(&host, fault),
            Fault::NovaAnswers { route, answer, for_ms } => {
                self.nova.outages.push((route, answer, until(for_ms, now)));
            }
            Fault::NovaHealed => {
                self.nova.outages.clear();
                self.nova.neutron_down_until = 0;
                self.nova.placement_down_until = 0;
                self.hosts.iter_mut().for_each(|host| host.cell_down_until = 0);
                self.release_held_evacuations();
            }
            Fault::KeystoneDown { for_ms } => self.keystone.down_until = until(for_ms, now),
            Fault::KeystoneHealed => self.keystone.down_until = 0,
            Fault::TokensRevoked => self.keystone.revoke_all(),
            Fault::NeutronDown { for_ms } => self.nova.neutron_down_until = until(for_ms, now),
            Fault::PlacementDown { for_ms } => self.nova.placement_down_until = until(for_ms, now),
            Fault::LinkCut { from, to, networks, for_ms } => {
                let until = until(for_ms, now);
                self.cut_links.push(agents::CutLink { from, to, networks, until });
            }
            Fault::LinksHealed => self.cut_links.clear(),
            Fault::DestinationDies => self.nova.destination_dies = true,
            Fault::SpawnFails { host, times } => {
                let host = self.host_ix(&host);
                self.hosts[host].spawn_failures = times;
            }
            Fault::CellDown { hosts, for_ms } => {
                for host in hosts {
                    let host = self.host_ix(&host);
                    self.hosts[host].cell_down_until = until(for_ms, now);
                }
            }
            Fault::ComputeCrash { host } => self.compute_ends(self.host_ix(&host)),
            Fault::ComputeStart { host } => self.compute_starts(self.host_ix(&host)),
            Fault::GuestCrash { guest } => self.guest_crashes(guest),
            Fault::AgentCrash { host } => {
                let host = self.host_ix(&host);
                self.hosts[host].agent = false;
            }
            Fault::AgentStart { host } => {
                let host = self.host_ix(&host);
                self.hosts[host].agent = true;
            }
        }
    }

    /// The same at a later time: `at` in milliseconds of virtual time.
    pub fn inject_at(&mut self, at: u64, fault: Fault) {
        self.scheduled.push(Some(fault));
        self.schedule_at(at.max(self.now), Due::Scheduled { fault: self.scheduled.len() - 1 });
    }

    fn hosts_of_rack(&self, rack: &str) -> Vec<usize> {
        (0..self.hosts.len()).filter(|ix| self.hosts[*ix].rack == rack).collect()
    }

    fn host_returns(&mut self, name: &str) {
        let host = self.host_ix(name);
        let it = &mut self.hosts[host];
        if it.power == Power::On && matches!(it.state, HostState::Hung | HostState::Panicked) {
            // Somebody presses reset: what was in memory is gone.
            self.power_off(host, false);
        }
        if self.hosts[host].power == Power::Dark {
            self.hosts[host].power = Power::Off;
        }
        self.hosts[host].supply_lost = None;
        self.power_on(host);
    }

    fn guest_crashes(&mut self, guest: Uuid) {
        let guest = self.guest_ix(guest);
        for host in self.ledger.executing(guest) {
            self.guest_stops(guest, host);
            self.schedule(1_000, Due::DeathSeen { guest, host });
        }
    }

    fn bmc_fault(&mut self, host: &str, fault: BmcFault) {
        let host = self.host_ix(host);
        let wrong = match &fault {
            BmcFault::WrongMachine(other) => Some(self.host_ix(other)),
            _ => None,
        };
        let bmc = &mut self.hosts[host].bmc;
        match fault {
            BmcFault::Healed => bmc.heal(),
            BmcFault::Dead => {
                bmc.faults.dead = true;
                bmc.sessions.clear();
            }
            BmcFault::Hang => bmc.faults.hang = true,
            BmcFault::AckNoOff => bmc.faults.ack_no_off = true,
            BmcFault::LieOff => bmc.faults.lie = Some(Power::Off),
            BmcFault::LieOn => bmc.faults.lie = Some(Power::On),
            BmcFault::SlowOff(ms) => bmc.faults.slow_off = Some(ms),
            BmcFault::WrongMachine(_) => bmc.faults.machine = wrong,
            BmcFault::WrongPassword => bmc.faults.wrong_password = true,
            BmcFault::Busy(times) => bmc.faults.busy = times,
            BmcFault::AutoOn(ms) => bmc.faults.auto_on = Some(ms),
            BmcFault::DropAnswer => bmc.faults.drop_answer = true,
            BmcFault::SlowAnswer(ms) => bmc.faults.slow_answer = ms,
            BmcFault::ForgetSessions => bmc.sessions.clear(),
            BmcFault::NoRestorePolicy => bmc.faults.no_restore_policy = true,
            BmcFault::FixedRestorePolicy => bmc.faults.fixed_restore_policy = true,
            BmcFault::IfMatch(rule) => bmc.faults.manners.if_match = rule,
            BmcFault::RetryAfterDate => bmc.faults.manners.retry_after_date = true,
            BmcFault::AnonymousLogin => bmc.faults.manners.anonymous_login = true,
            BmcFault::Updating => bmc.faults.manners.updating = true,
            BmcFault::SuiteZero => bmc.faults.manners.suite_zero = true,
            BmcFault::ReadOnly => bmc.faults.manners.read_only = true,
        }
    }

    /// Somebody presses the host's button, past its BMC: on or off at once.
    pub fn press(&mut self, now: u64, host: &str, on: bool) {
        self.advance(now);
        let host = self.host_ix(host);
        if on {
            self.power_on(host);
        } else if self.hosts[host].power == Power::On {
            self.power_off(host, false);
        }
    }

    /// Thaws a hung host.
    pub fn thaw_host(&mut self, now: u64, host: &str) {
        self.advance(now);
        let host = self.host_ix(host);
        self.thaw(host, self.hosts[host].epoch);
    }

    /// Fits or removes the start gate; it acts at the next boot.
    pub fn set_gate(&mut self, host: &str, gate: bool) {
        let host = self.host_ix(host);
        self.hosts[host].gate = gate;
    }

    /// Whether the host's local guests start by themselves at a boot.
    pub fn set_autostart(&mut self, host: &str, autostart: bool) {
        let host = self.host_ix(host);
        self.hosts[host].autostart = autostart;
    }

    /// The host is *admitted*: its agent starts nova-compute, guests stay down.
    pub fn admit(&mut self, now: u64, host: &str) {
        self.advance(now);
        self.compute_starts(self.host_ix(host));
    }

    /// The host is *in*: the gate opens for this boot; nova-compute starts if it does not run, then the local guests that are
    /// left start where the host does so by itself.
    pub fn open_gate(&mut self, now: u64, host: &str) {
        self.advance(now);
        let host = self.host_ix(host);
        if !self.hosts[host].alive() || !self.hosts[host].gated {
            return;
        }
        self.hosts[host].gated = false;
        self.compute_starts(host);
        if self.hosts[host].autostart {
            self.run_local_guests(host);
        }
    }

    /// The agent destroys a local copy (a stray); nothing happens on a host whose user land is not up.
    pub fn destroy_stray(&mut self, now: u64, host: &str, guest: Uuid) {
        self.advance(now);
        let (host, guest) = (self.host_ix(host), self.guest_ix(guest));
        if self.hosts[host].alive() {
            self.destroy_copy(guest, host);
        }
    }

    /// Puts a server into a state by hand, Nova's books alone: no guest starts or stops.
    pub fn set_vm_state(&mut self, guest: Uuid, vm_state: VmState, task_state: Option<&'static str>) {
        let guest = self.guest_ix(guest);
        self.guests[guest].vm_state = vm_state;
        self.guests[guest].task_state = task_state;
    }

    /// Sets or removes one key of a server's metadata.
    pub fn set_metadata(&mut self, guest: Uuid, key: &str, value: Option<&str>) {
        let guest = self.guest_ix(guest);
        match value {
            Some(value) => self.guests[guest].metadata.insert(key.into(), value.into()),
            None => self.guests[guest].metadata.remove(key),
        };
    }
}

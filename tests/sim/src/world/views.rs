//! Ground truth, for checkers: what really is, and what really happened.

use super::World;
use super::bmc::IGNORED;
use crate::history::{Deed, What};
use crate::model::{HostState, HostView, Power};
use crate::truth::DoubleRun;
use uuid::Uuid;

/// A host's present state in few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vitals {
    /// Real power.
    pub power: Power,
    /// Meaningful while power is on.
    pub state: HostState,
    /// Id of the present (or last) boot.
    pub boot_id: Uuid,
    /// Whether the agent runs.
    pub agent: bool,
    /// Whether nova-compute runs.
    pub compute: bool,
    /// Whether the start gate is closed on this boot.
    pub gated: bool,
}

impl World {
    /// Names of all hosts, in order.
    pub fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// A host as it really is.
    pub fn host(&self, name: &str) -> HostView {
        self.host_view(self.host_ix(name))
    }

    /// What of it changes often, without looking for its guests.
    pub fn vitals(&self, name: &str) -> Vitals {
        let host = &self.hosts[self.host_ix(name)];
        Vitals {
            power: host.power,
            state: host.state,
            boot_id: host.boot_id,
            agent: host.agent && host.alive(),
            compute: host.compute && host.alive(),
            gated: host.gated,
        }
    }

    /// Power orders that have reached the host's BMC so far, obeyed or refused.
    pub fn power_orders(&self, host: &str) -> usize {
        let reached = |what: &What| match what {
            What::OffOrdered { bmc, .. } | What::OnOrdered { bmc, .. } => bmc == host,
            // One that is ignored was noted as an order already.
            What::PowerOrderRefused { bmc, why } => bmc == host && why != IGNORED,
            _ => false,
        };
        self.history.iter().filter(|deed| reached(&deed.what)).count()
    }

    /// Whether a host of this name exists.
    pub fn has_host(&self, name: &str) -> bool {
        self.host_by_name.contains_key(name)
    }

    /// All guests that are not deleted, in order of creation.
    pub fn guest_ids(&self) -> Vec<Uuid> {
        self.guests
            .iter()
            .filter(|guest| guest.vm_state != crate::VmState::Deleted)
            .map(|guest| guest.id)
            .collect()
    }

    /// Guests that Nova places on the host, in order of creation.
    pub fn guests_placed_on(&self, host: &str) -> Vec<Uuid> {
        let host = self.host_ix(host);
        self.guests
            .iter()
            .filter(|guest| guest.host == Some(host) && guest.vm_state != crate::VmState::Deleted)
            .map(|guest| guest.id)
            .collect()
    }

    /// The guest's project; `None` for one that is not there.
    pub fn project_of(&self, guest: Uuid) -> Option<String> {
        self.guest_by_id.get(&guest).map(|ix| self.guests[*ix].project.clone())
    }

    /// The guest's server name; `None` for one that is not there.
    pub fn guest_name(&self, guest: Uuid) -> Option<String> {
        self.guest_by_id.get(&guest).map(|ix| self.guests[*ix].name.clone())
    }

    /// Whether the server's metadata mark it for recovery.
    pub fn is_ha_enabled(&self, guest: Uuid) -> bool {
        self.guest_by_id.get(&guest).is_some_and(|ix| self.guests[*ix].metadata.contains_key("HA_Enabled"))
    }

    /// The guest's state in Nova; `None` for one that is not there.
    pub fn vm_state_of(&self, guest: Uuid) -> Option<crate::VmState> {
        self.guest_by_id.get(&guest).map(|ix| self.guests[*ix].vm_state)
    }

    /// Every evacuation record: guest, source, status.
    pub fn evacuation_records(&self) -> impl Iterator<Item = (Uuid, String, &'static str)> {
        let evacuations = self.records.iter().filter(|record| record.kind == "evacuation" && !record.hidden);
        evacuations.map(|record| (self.guests[record.guest].id, self.name(record.source), record.status))
    }

    /// Whether the server is locked.
    pub fn is_locked(&self, guest: Uuid) -> bool {
        self.guest_by_id.get(&guest).is_some_and(|ix| self.guests[*ix].locked)
    }

    /// Hosts on which the guest executes, really and now.
    pub fn running_on(&self, guest: Uuid) -> Vec<String> {
        self.ledger.executing(self.guest_ix(guest)).into_iter().map(|host| self.name(host)).collect()
    }

    /// The same with hosts that are frozen and would run it on when they thaw.
    pub fn may_run_on(&self, guest: Uuid) -> Vec<String> {
        self.ledger.holders(self.guest_ix(guest)).iter().map(|host| self.name(*host)).collect()
    }

    /// Every instant at which a guest began to execute on a second host.
    pub fn double_runs(&self) -> &[DoubleRun] {
        &self.double_runs
    }

    /// Whether the host has power.
    pub fn is_powered(&self, host: &str) -> bool {
        self.hosts[self.host_ix(host)].power == Power::On
    }

    /// Whether the host's user land runs.
    pub fn is_alive(&self, host: &str) -> bool {
        self.hosts[self.host_ix(host)].alive()
    }

    /// All evacuate calls for the guest: when, and whether accepted.
    pub fn evacuate_calls(&self, guest: Uuid) -> &[(u64, bool)] {
        &self.guests[self.guest_ix(guest)].evacuate_calls
    }

    /// All deeds, oldest first.
    pub fn history(&self) -> &[Deed] {
        &self.history
    }

    /// When the host last lost power, if ever.
    pub fn last_power_off(&self, name: &str) -> Option<u64> {
        self.history
            .iter()
            .rev()
            .find(|deed| matches!(&deed.what, What::PoweredOff { host } if host == name))
            .map(|deed| deed.at)
    }
}

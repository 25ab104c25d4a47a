//! The supply of a machine: it goes, it comes back, and then the restore policy decides, asking nobody.
//!
//! This is how a fenced machine starts by itself: power off by its BMC is forgotten as soon as the whole rack has lost its supply once,
//! unless the policy says otherwise.

use super::World;
use super::bmc::BmcSession;
use crate::history::What;
use crate::metal::{Restore, RestorePolicy};
use crate::model::Power;
use crate::reply::{BmcRefusal, Reply};

impl World {
    pub(super) fn supply_lost(&mut self, host: usize, with_bmc: bool) {
        let was_on = self.hosts[host].power == Power::On;
        // A second loss finds the machine off; what was before the first one counts.
        self.hosts[host].supply_lost.get_or_insert(was_on);
        self.power_off(host, with_bmc);
        if with_bmc {
            self.hosts[host].bmc.sessions.clear();
        }
    }

    /// The supply is back; nothing happens to a machine that never lost it, or that somebody has switched on meanwhile.
    pub(super) fn supply_returns(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let Some(was_on) = it.supply_lost.take() else { return };
        if it.power == Power::Dark {
            it.power = Power::Off;
        }
        let on = match it.restore_policy {
            RestorePolicy::AlwaysOff => false,
            RestorePolicy::LastState => was_on,
            RestorePolicy::AlwaysOn => true,
        };
        if on {
            self.power_on(host);
        }
    }

    /// Sets the machine's restore policy, as in its firmware's setup.
    pub fn set_restore_policy(&mut self, host: &str, policy: RestorePolicy) {
        let host = self.host_ix(host);
        self.hosts[host].restore_policy = policy;
    }

    /// What the BMC tells of its machine's restore policy.
    pub fn bmc_shown_restore(&self, host: &str) -> Restore {
        let host = &self.hosts[self.host_ix(host)];
        let machine = host.bmc.faults.machine.map_or(host, |machine| &self.hosts[machine]);
        match (host.bmc.faults.no_restore_policy, host.bmc.faults.fixed_restore_policy) {
            (true, _) => Restore::Unknown,
            (_, true) => Restore::Fixed(machine.restore_policy),
            _ => Restore::Settable(machine.restore_policy),
        }
    }

    /// Sets the restore policy through the BMC; false if it takes none.
    pub fn bmc_set_restore(
        &mut self,
        now: u64,
        host: &str,
        session: BmcSession,
        policy: RestorePolicy,
    ) -> Reply<bool, BmcRefusal> {
        let settable = matches!(self.bmc_shown_restore(host), Restore::Settable(_));
        self.bmc_reply(now, host, self.spec.bmc_latency_ms, |world, host| {
            world.session_stands(host, session)?;
            if settable {
                let machine = world.hosts[host].bmc.faults.machine.unwrap_or(host);
                world.hosts[machine].restore_policy = policy;
                let (bmc, machine) = (world.name(host), world.name(machine));
                world.note(What::RestorePolicySet { bmc, machine, policy });
            }
            Ok(settable)
        })
    }
}

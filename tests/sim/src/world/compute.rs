//! nova-compute: what its start destroys, what its end loses, and what its message queue keeps.
//!
//! At its start it destroys the local copy of every guest that an evacuation record in `accepted`, `pre-migrating` or
//! `done` takes away from this host, and marks the record `completed`, whether the evacuation has succeeded or not.

use super::{Due, World};
use crate::history::What;
use crate::model::VmState;

impl World {
    pub(super) fn compute_due(&mut self, host: usize, epoch: u64) {
        if self.hosts[host].epoch == epoch {
            self.compute_starts(host);
        }
    }

    pub(super) fn compute_starts(&mut self, host: usize) {
        if !self.hosts[host].alive() || self.hosts[host].compute {
            return;
        }
        self.hosts[host].compute = true;
        self.note(What::ComputeStarted { host: self.name(host) });
        for record in 0..self.records.len() {
            let it = &self.records[record];
            let cleans = it.source == host
                && it.kind == "evacuation"
                && matches!(it.status, "accepted" | "pre-migrating" | "done")
                && !it.hidden;
            if cleans {
                let guest = it.guest;
                self.destroy_copy(guest, host);
                self.release(guest, host);
                self.record_is(record, "completed");
            }
        }
        // Nova resumes nothing by default: what it believes to run here and does not is stopped in its books.
        let lost: Vec<usize> = (0..self.guests.len())
            .filter(|ix| {
                let guest = &self.guests[*ix];
                guest.host == Some(host)
                    && guest.vm_state == VmState::Active
                    && guest.task_state.is_none()
                    && !self.ledger.holders(*ix).contains(&host)
            })
            .collect();
        for guest in lost {
            if self.hosts[host].autostart && self.hosts[host].local.contains(&guest) {
                self.guest_starts(guest, host);
            } else {
                self.schedule(1_000, Due::DeathSeen { guest, host });
            }
        }
        self.refresh_pulse(host);
    }

    /// nova-compute ends, with all it was working on.
    pub(super) fn compute_ends(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        if it.compute {
            it.compute = false;
            it.compute_epoch += 1;
            it.building = 0;
            // Messages that had been taken from the queue but waited for a free builder are lost with the process.
            it.waiting.clear();
            self.note(What::ComputeStopped { host: self.name(host) });
        }
        self.refresh_pulse(host);
    }

    pub(super) fn destroy_copy(&mut self, guest: usize, host: usize) {
        self.guest_stops(guest, host);
        let it = &mut self.hosts[host];
        if it.local.contains(&guest) {
            it.local.retain(|at| *at != guest);
            it.ran_before.retain(|at| *at != guest);
            self.note(What::LocalCopyDestroyed { guest: self.guests[guest].id, host: self.name(host) });
        }
    }

    /// nova-compute compares: a guest that should run here and does not is stopped in Nova's books.
    pub(super) fn death_seen(&mut self, guest: usize, host: usize) {
        if !self.hosts[host].on_the_bus() {
            return;
        }
        let executes = self.ledger.holders(guest).contains(&host);
        let now = self.now;
        let it = &mut self.guests[guest];
        if !executes && it.host == Some(host) && it.vm_state == VmState::Active && it.task_state.is_none() {
            it.vm_state = VmState::Stopped;
            it.power_state = 4;
            it.updated_at = now;
        }
    }
}

//! Placement: what is allocated where, counted in guests.

use super::World;
use crate::model::{Allocation, Provider};
use uuid::Uuid;

impl World {
    /// All compute nodes as resource providers.
    pub fn providers(&mut self, now: u64) -> Vec<Provider> {
        self.advance(now);
        (0..self.hosts.len())
            .map(|ix| {
                let host = &self.hosts[ix];
                Provider {
                    uuid: host.uuid,
                    name: host.name.clone(),
                    generation: host.generation,
                    total: self.spec.capacity,
                    used: host.used,
                }
            })
            .collect()
    }

    /// A server's allocations; empty for one without any. After an evacuation there are two until the source restarts.
    pub fn allocations(&mut self, now: u64, server: Uuid) -> Vec<Allocation> {
        self.advance(now);
        let Some(guest) = self.guest_by_id.get(&server) else { return Vec::new() };
        self.guests[*guest]
            .allocations
            .iter()
            .map(|host| &self.hosts[*host])
            .map(|host| Allocation {
                provider: host.uuid,
                host: host.name.clone(),
                generation: host.generation,
            })
            .collect()
    }

    pub(super) fn release(&mut self, guest: usize, host: usize) {
        let it = &mut self.guests[guest];
        if let Some(at) = it.allocations.iter().position(|at| *at == host) {
            it.allocations.remove(at);
            self.hosts[host].used -= 1;
            self.hosts[host].generation += 1;
        }
    }

    pub(super) fn allocate(&mut self, guest: usize, host: usize) {
        let it = &mut self.guests[guest];
        if !it.allocations.contains(&host) {
            it.allocations.push(host);
            self.hosts[host].used += 1;
            self.hosts[host].generation += 1;
        }
    }
}

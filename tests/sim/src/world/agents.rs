//! What can be heard of the hosts themselves: agents' beats and an answer from user land.

use super::World;
use crate::model::{AgentSight, Network};

impl World {
    /// The agents that are alive, each with the networks by which it is heard.
    pub fn beats(&mut self, now: u64) -> Vec<AgentSight> {
        self.advance(now);
        self.hosts
            .iter()
            .filter(|host| host.alive() && host.agent)
            .map(|host| AgentSight {
                host: host.name.clone(),
                boot_id: host.boot_id,
                boots: host.boots,
                uptime_ms: self.now - host.booted_at,
                networks: Network::ALL.into_iter().filter(|network| host.reaches(*network)).collect(),
            })
            .collect()
    }

    /// Whether the host's user land (its SSH banner, say) answers on this network.
    pub fn user_land_answers(&mut self, now: u64, host: &str, network: Network) -> bool {
        self.advance(now);
        let host = &self.hosts[self.host_ix(host)];
        host.alive() && host.reaches(network)
    }
}

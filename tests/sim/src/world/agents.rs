//! What can be heard of the hosts themselves: agents' beats and an answer from user land.

use super::World;
use crate::model::{AgentSight, Network};

/// A direction in which nothing passes.
#[derive(Debug)]
pub(super) struct CutLink {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) networks: Vec<Network>,
    pub(super) until: u64,
}

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

    /// Whether what `from` sends now reaches `to` on this network. Each is a host (which must live and have the network) or any other
    /// name, which only a cut link concerns.
    pub fn reaches(&mut self, now: u64, from: &str, to: &str, network: Network) -> bool {
        self.advance(now);
        let end = |name: &str| {
            self.host_by_name.get(name).is_none_or(|host| {
                let host = &self.hosts[*host];
                host.alive() && host.reaches(network)
            })
        };
        let cut = self.cut_links.iter().any(|link| {
            link.until > self.now && link.from == from && link.to == to && link.networks.contains(&network)
        });
        end(from) && end(to) && !cut
    }

    /// Whether the host's user land (its SSH banner, say) answers on this network.
    pub fn user_land_answers(&mut self, now: u64, host: &str, network: Network) -> bool {
        self.advance(now);
        let host = &self.hosts[self.host_ix(host)];
        host.alive() && host.reaches(network)
    }
}

//! What this host knows of its ring neighbours: a pure state, fed with datagrams and times.
//!
//! A neighbour counts as heard only when a datagram verified under the pair's key and its counter grew, and it was
//! heard when it was *sent*, as near as we can tell: a backlog read late is old sight. We keep the smallest difference
//! seen between our clock at arrival and its clock at sending; what a datagram took longer than that is its age on arrival.
//! Drift of two crystals is followed by letting that minimum rise 500 ppm.

use std::collections::HashMap;
use std::net::SocketAddr;

use halberd_types::beat::{LinkKey, MAX_SIGHTS, Network, Peer, PeerBeat, Sight, host_hash};
use uuid::Uuid;

/// A neighbour that acks no longer name is forgotten after so long; several engines may name rings that differ for a moment.
const FORGET_NS: u64 = 30_000_000_000;
/// Past boots of a neighbour that are remembered, so that a recording of one is no sight.
const RETIRED: usize = 8;

#[derive(Debug)]
struct Neighbour {
    address: SocketAddr,
    link: LinkKey,
    assigned_ns: u64,
    heard: Option<Heard>,
    retired: Vec<Uuid>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    boot: Uuid,
    counter: u64,
    /// Our clock minus its, at best.
    offset: i128,
    arrived_ns: u64,
    /// On our clock; `None` after the first datagram, which only sets the baseline.
    sent_ns: Option<u64>,
}

/// Neighbours on all networks.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    known: HashMap<(Network, u64), Neighbour>,
}

impl Neighbours {
    /// An ack named these neighbours on this network.
    pub fn assign(&mut self, network: Network, peers: &[Peer], now_ns: u64) {
        for peer in peers {
            let known = self.known.entry((network, peer.neighbour)).or_insert_with(|| Neighbour {
                address: peer.address,
                link: peer.link,
                assigned_ns: now_ns,
                heard: None,
                retired: Vec::new(),
            });
            (known.address, known.link, known.assigned_ns) = (peer.address, peer.link, now_ns);
        }
        self.known.retain(|(n, _), k| *n != network || now_ns.saturating_sub(k.assigned_ns) < FORGET_NS);
    }

    /// Takes a datagram; true if it is a neighbour's, verified and new.
    pub fn hear(&mut self, network: Network, bytes: &[u8], now_ns: u64) -> bool {
        let Ok(host) = PeerBeat::claimed_host(bytes) else { return false };
        let Some(known) = self.known.get_mut(&(network, host_hash(host))) else { return false };
        let Ok(beat) = PeerBeat::open(bytes, &known.link) else { return false };
        if beat.host != host || beat.network != network || known.retired.contains(&beat.boot) {
            return false;
        }
        let seen = i128::from(now_ns) - i128::from(beat.counter);
        known.heard = Some(match known.heard {
            Some(last) if last.boot == beat.boot => {
                if beat.counter <= last.counter {
                    return false;
                }
                let drift = i128::from(now_ns.saturating_sub(last.arrived_ns) / 2000);
                let offset = seen.min(last.offset + drift);
                let sent = u64::try_from(i128::from(beat.counter) + offset).unwrap_or(0).min(now_ns);
                Heard { counter: beat.counter, offset, arrived_ns: now_ns, sent_ns: Some(sent), ..last }
            }
            last => {
                if let Some(last) = last {
                    known.retired.push(last.boot);
                    let surplus = known.retired.len().saturating_sub(RETIRED);
                    known.retired.drain(..surplus);
                }
                let sent_ns = last.and_then(|l| l.sent_ns);
                Heard { boot: beat.boot, counter: beat.counter, offset: seen, arrived_ns: now_ns, sent_ns }
            }
        });
        true
    }

    /// Whom to send peer beats on this network.
    pub fn targets(&self, network: Network) -> Vec<(SocketAddr, LinkKey)> {
        self.known.iter().filter(|((n, _), _)| *n == network).map(|(_, k)| (k.address, k.link)).collect()
    }

    /// What the next beat says; with more neighbours than fit, each `turn` shows the next ones.
    pub fn sights(&self, now_ns: u64, turn: u64) -> Vec<Sight> {
        let mut all: Vec<Sight> = self
            .known
            .iter()
            .map(|((network, neighbour), k)| Sight {
                neighbour: *neighbour,
                network: *network,
                age_ms: k.heard.and_then(|h| h.sent_ns).map(|sent| ns_to_ms(now_ns.saturating_sub(sent))),
            })
            .collect();
        all.sort_by_key(|s| (s.network, s.neighbour));
        if all.len() > MAX_SIGHTS {
            let start = (turn.wrapping_mul(MAX_SIGHTS as u64) % all.len() as u64) as usize;
            all.rotate_left(start);
            all.truncate(MAX_SIGHTS);
        }
        all
    }
}

/// Milliseconds, as far as a beat can say them.
pub(crate) fn ns_to_ms(ns: u64) -> u32 {
    u32::try_from(ns / 1_000_000).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use halberd_types::beat::AgentKey;

    const MS: u64 = 1_000_000;

    fn link() -> LinkKey {
        LinkKey::between(
            (Uuid::from_u128(1), &AgentKey::from_bytes([1; 32])),
            (Uuid::from_u128(2), &AgentKey::from_bytes([2; 32])),
        )
    }

    fn known() -> Neighbours {
        let mut n = Neighbours::default();
        let peer = Peer {
            neighbour: host_hash(Uuid::from_u128(1)),
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            link: link(),
        };
        n.assign(Network::Tenant, &[peer], 0);
        n
    }

    fn beat(boot: u128, counter_ms: u64) -> Vec<u8> {
        PeerBeat {
            host: Uuid::from_u128(1),
            boot: Uuid::from_u128(boot),
            counter: counter_ms * MS,
            network: Network::Tenant,
        }
        .seal(&link())
    }

    fn age(n: &Neighbours, now_ms: u64) -> Option<u32> {
        n.sights(now_ms * MS, 0)[0].age_ms
    }

    #[test]
    fn heard_from_the_second_growing_beat_on() {
        let mut n = known();
        assert_eq!(age(&n, 1), None);
        assert!(n.hear(Network::Tenant, &beat(7, 100), 5000 * MS));
        assert_eq!(age(&n, 5000), None, "a single datagram may be a recording");
        assert!(n.hear(Network::Tenant, &beat(7, 1100), 6000 * MS));
        assert_eq!(age(&n, 6250), Some(250));
        assert!(!n.hear(Network::Tenant, &beat(7, 1100), 7000 * MS), "replayed");
        assert!(!n.hear(Network::Storage, &beat(7, 2100), 7000 * MS), "another network");
        assert_eq!(age(&n, 7000), Some(1000));
    }

    #[test]
    fn a_backlog_is_old_sight() {
        let mut n = known();
        n.hear(Network::Tenant, &beat(7, 0), 1000 * MS);
        n.hear(Network::Tenant, &beat(7, 1000), 2000 * MS);
        // Sent at 2000 by its clock, 3000 by ours, read only at 13000.
        n.hear(Network::Tenant, &beat(7, 2000), 13_000 * MS);
        let age = age(&n, 13_000).unwrap();
        assert!((9_990..=10_000).contains(&age), "{age}");
    }

    #[test]
    fn a_new_boot_sets_a_new_baseline_and_the_old_one_is_deaf() {
        let mut n = known();
        n.hear(Network::Tenant, &beat(7, 1000), 1000 * MS);
        n.hear(Network::Tenant, &beat(7, 2000), 2000 * MS);
        assert!(n.hear(Network::Tenant, &beat(8, 5), 9000 * MS));
        assert_eq!(age(&n, 9000), Some(7000), "the last true sight stays");
        assert!(!n.hear(Network::Tenant, &beat(7, 3000), 9100 * MS), "recording of the old boot");
        assert!(n.hear(Network::Tenant, &beat(8, 1005), 10_000 * MS));
        assert_eq!(age(&n, 10_000), Some(0));
    }

    #[test]
    fn forged_beats_and_strangers_are_not_heard() {
        let mut n = known();
        let other = LinkKey::between(
            (Uuid::from_u128(1), &AgentKey::from_bytes([9; 32])),
            (Uuid::from_u128(2), &AgentKey::from_bytes([2; 32])),
        );
        let beat =
            PeerBeat { host: Uuid::from_u128(1), boot: Uuid::nil(), counter: 1, network: Network::Tenant };
        assert!(!n.hear(Network::Tenant, &beat.seal(&other), 1));
        let stranger = PeerBeat { host: Uuid::from_u128(3), ..beat };
        assert!(!n.hear(Network::Tenant, &stranger.seal(&link()), 1));
        assert!(!n.hear(Network::Tenant, b"noise", 1));
    }

    #[test]
    fn neighbours_no_longer_named_are_forgotten_and_all_get_their_turn() {
        let mut n = Neighbours::default();
        let peer =
            |i: u64| Peer { neighbour: i, address: SocketAddr::from(([127, 0, 0, 1], 9)), link: link() };
        for i in 0..12 {
            n.assign(Network::Tenant, &[peer(i)], 0);
        }
        let mut seen: Vec<u64> = (0..3).flat_map(|t| n.sights(0, t)).map(|s| s.neighbour).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 12);
        n.assign(Network::Tenant, &[peer(3)], FORGET_NS);
        assert_eq!(n.targets(Network::Tenant).len(), 1);
    }
}

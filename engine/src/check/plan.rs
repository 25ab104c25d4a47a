//! Whose devices are checked when. Pure: who is idle and the time go in, who is due comes out.

use std::collections::BTreeMap;
use std::time::Duration;

use halberd_core::id::HostId;
use halberd_core::time::Mono;

/// When each host is next.
#[derive(Debug)]
pub(super) struct Plan {
    pace: Duration,
    /// Version of the devices, and when they are due. Of idle hosts alone: one that was busy is due as soon as it is idle again, for
    /// something happened to it.
    hosts: BTreeMap<HostId, (i64, Mono)>,
    begun: bool,
}

impl Plan {
    pub(super) fn new(pace: Duration) -> Plan {
        Plan { pace, hosts: BTreeMap::new(), begun: false }
    }

    /// At most `room` hosts that are due, longest due first. Those of the start are spread over one interval, the first at once;
    /// devices set since are due at once.
    pub(super) fn due(&mut self, idle: &[(HostId, i64)], now: Mono, room: usize) -> Vec<HostId> {
        let was = std::mem::take(&mut self.hosts);
        let apart = self.pace / u32::try_from(idle.len().max(1)).unwrap_or(u32::MAX);
        for (position, (host, version)) in (0u32..).zip(idle) {
            let due = match was.get(host) {
                Some((known, due)) if known == version => *due,
                _ if self.begun => now,
                _ => now + apart * position,
            };
            self.hosts.insert(*host, (*version, due));
        }
        self.begun = true;
        let mut due: Vec<(Mono, HostId)> = self
            .hosts
            .iter()
            .filter(|(_, (_, due))| *due <= now)
            .map(|(host, (_, due))| (*due, *host))
            .collect();
        due.sort_unstable();
        due.truncate(room);
        for (_, host) in &due {
            if let Some((_, next)) = self.hosts.get_mut(host) {
                *next = now + self.pace;
            }
        }
        due.into_iter().map(|(_, host)| host).collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn host(n: u128) -> HostId {
        HostId(Uuid::from_u128(n))
    }

    const PACE: Duration = Duration::from_secs(240);

    #[test]
    fn the_first_interval_is_spread_and_each_host_comes_once_in_it() {
        let idle: Vec<_> = (1..=4).map(|n| (host(n), 1)).collect();
        let mut plan = Plan::new(PACE);
        assert_eq!(plan.due(&idle, Mono(0), 16), [host(1)], "the first at once");
        assert_eq!(plan.due(&idle, Mono(59_999), 16), []);
        assert_eq!(plan.due(&idle, Mono(60_000), 16), [host(2)]);
        assert_eq!(plan.due(&idle, Mono(180_000), 16), [host(3), host(4)]);
        assert_eq!(plan.due(&idle, Mono(240_000), 16), [host(1)], "and again one interval later");
        assert_eq!(plan.due(&idle, Mono(299_999), 16), []);
        assert_eq!(plan.due(&idle, Mono(300_000), 16), [host(2)]);
    }

    #[test]
    fn devices_set_a_moment_ago_are_due_at_once() {
        let mut plan = Plan::new(PACE);
        assert_eq!(plan.due(&[(host(1), 1)], Mono(0), 16), [host(1)]);
        assert_eq!(plan.due(&[(host(1), 1), (host(2), 1)], Mono(1_000), 16), [host(2)], "a new one");
        assert_eq!(plan.due(&[(host(1), 2), (host(2), 1)], Mono(2_000), 16), [host(1)], "set anew");
        assert_eq!(plan.due(&[(host(1), 2), (host(2), 1)], Mono(3_000), 16), []);
    }

    #[test]
    fn a_busy_host_is_left_alone_and_comes_first_afterwards() {
        let mut plan = Plan::new(PACE);
        plan.due(&[(host(1), 1), (host(2), 1)], Mono(0), 16);
        assert_eq!(plan.due(&[(host(2), 1)], Mono(240_000), 16), [host(2)]);
        assert_eq!(plan.due(&[(host(1), 1), (host(2), 1)], Mono(241_000), 16), [host(1)]);
    }

    #[test]
    fn what_there_is_no_room_for_stays_due() {
        let mut plan = Plan::new(PACE);
        plan.due(&[], Mono(0), 16);
        let idle: Vec<_> = (1..=3).map(|n| (host(n), 1)).collect();
        assert_eq!(plan.due(&idle, Mono(1), 2).len(), 2);
        assert_eq!(plan.due(&idle, Mono(2), 0), []);
        assert_eq!(plan.due(&idle, Mono(3), 2).len(), 1);
    }
}

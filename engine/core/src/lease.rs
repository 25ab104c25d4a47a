//! Leases by observation: nobody compares clocks (DESIGN 3, SAFETY 3.1).
//!
//! The row shows (owner, epoch, counter). Its holder raises the counter. A challenger may take over when *it* saw the three
//! unchanged for the whole lease on its own monotonic clock; a holder stops acting one renewal interval before any
//! challenger could be that far, by its own. Each side measures only spans, from points that err on the safe side: the
//! holder from before its renewal was sent, the challenger from after it first read the counter, up to its last look.
//!
//! The claim itself is a compare-and-swap on the epoch; the lease only says when trying is polite.

use std::time::Duration;

use crate::guard::{self, Guard};
use crate::id::EngineId;
use crate::policy::Policy;
use crate::time::Mono;

/// What a challenger has seen of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// `None`: free.
    pub owner: Option<EngineId>,
    pub epoch: i64,
    pub counter: i64,
    /// When these three were first seen.
    pub since: Mono,
    /// When they were last seen. Time after the last look proves nothing: the holder may have renewed meanwhile.
    pub seen: Mono,
}

/// What a look at a lease showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    Unchanged,
    /// The holder lives.
    Renewed,
    /// Another epoch: somebody claimed or released it.
    Taken,
    /// Less than was seen before: the database was rewound, and everything goes reconcile-only (DESIGN 3).
    Rewound,
}

impl Observed {
    /// The first look.
    pub fn new(owner: Option<EngineId>, epoch: i64, counter: i64, now: Mono) -> Observed {
        Observed { owner, epoch, counter, since: now, seen: now }
    }

    /// Another look. `now` is when the answer came.
    pub fn observe(&mut self, owner: Option<EngineId>, epoch: i64, counter: i64, now: Mono) -> Sight {
        let same_epoch = epoch == self.epoch;
        let sight = if epoch < self.epoch || (same_epoch && counter < self.counter) {
            Sight::Rewound
        } else if !same_epoch || owner != self.owner {
            Sight::Taken
        } else if counter != self.counter {
            Sight::Renewed
        } else {
            Sight::Unchanged
        };
        match sight {
            Sight::Unchanged => self.seen = now,
            _ => *self = Observed::new(owner, epoch, counter, now),
        }
        sight
    }

    /// Whether a challenger may claim: free, or seen unchanged for the whole lease.
    pub fn lapsed(&self, lease: Duration) -> bool {
        self.owner.is_none() || (self.seen.since(self.since) >= lease && guard::stands(Guard::Takeover))
    }

    /// When a look may first find it lapsed.
    pub fn lapses_at(&self, lease: Duration) -> Mono {
        if self.owner.is_none() { self.since } else { self.since + lease }
    }

    /// Whether whoever stands in it is seen to live: its counter moved within the lease (DESIGN 10.8).
    pub fn is_moving(&self, lease: Duration, now: Mono) -> bool {
        self.owner.is_some() && now.since(self.since) < lease
    }
}

/// A lease that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub epoch: i64,
    pub counter: i64,
    /// Raised by each renewal that came after this lease had lapsed for its holder: somebody may have claimed meanwhile, so what was
    /// decided under another term is void.
    pub term: u64,
    lease: Duration,
    renew: Duration,
    /// Taken before the claim or renewal was sent: nobody can have seen the counter earlier.
    renewed: Mono,
}

impl Hold {
    /// A successful claim. `sent` is the time before its request went out.
    pub fn claimed(epoch: i64, counter: i64, policy: &Policy, sent: Mono) -> Hold {
        let (lease, renew) = (Policy::ms(policy.lease_ms), Policy::ms(policy.lease_renew_ms));
        Hold { epoch, counter, term: 0, lease, renew, renewed: sent }
    }

    /// A successful renewal; one that is late or out of order changes nothing.
    pub fn renewed(&mut self, counter: i64, sent: Mono) {
        if counter > self.counter && sent >= self.renewed {
            if !self.may_act(sent) {
                self.term += 1;
            }
            (self.counter, self.renewed) = (counter, sent);
        }
    }

    pub fn renew_due(&self, now: Mono) -> bool {
        now >= self.renew_at()
    }

    pub fn renew_at(&self) -> Mono {
        self.renewed + self.renew
    }

    /// When acting must have stopped: the lease less one renewal interval, as a command that was started lasts a while.
    pub fn stops_at(&self) -> Mono {
        self.renewed + self.lease.saturating_sub(self.renew)
    }

    /// Whether the holder may still act.
    pub fn may_act(&self, now: Mono) -> bool {
        now < self.stops_at()
    }
}

/// Notices that this process did not run: suspended, swapped out, or starved.
///
/// What was not heard meanwhile is not silence, so listening starts afresh after a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Ticks come at least this often; a longer pause is a stall.
    limit: Duration,
    last: Mono,
}

impl Pulse {
    pub fn new(limit: Duration, now: Mono) -> Pulse {
        Pulse { limit, last: now }
    }

    /// A tick. `Some`: the process stood still for that long, and listening begins now.
    pub fn tick(&mut self, now: Mono) -> Option<Duration> {
        let gap = now.since(self.last);
        self.last = now;
        (gap > self.limit).then_some(gap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn engine(n: u128) -> Option<EngineId> {
        Some(EngineId(uuid::Uuid::from_u128(n)))
    }

    #[test]
    fn lapses_only_by_looks_that_span_the_lease() {
        let mut seen = Observed::new(engine(1), 3, 7, Mono(1_000));
        assert!(!seen.lapsed(LEASE));
        assert_eq!(seen.observe(engine(1), 3, 7, Mono(10_999)), Sight::Unchanged);
        assert!(!seen.lapsed(LEASE), "one millisecond short");
        assert_eq!(seen.observe(engine(1), 3, 7, Mono(11_000)), Sight::Unchanged);
        assert!(seen.lapsed(LEASE));
        assert_eq!(seen.lapses_at(LEASE), Mono(11_000));
    }

    #[test]
    fn each_change_starts_the_watch_afresh() {
        for (owner, epoch, counter, sight) in [
            (engine(1), 3, 8, Sight::Renewed),
            (engine(1), 4, 0, Sight::Taken),
            (engine(2), 3, 7, Sight::Taken),
            (engine(1), 3, 6, Sight::Rewound),
            (engine(2), 2, 9, Sight::Rewound),
        ] {
            let mut seen = Observed::new(engine(1), 3, 7, Mono(0));
            assert_eq!(seen.observe(owner, epoch, counter, Mono(20_000)), sight);
            assert!(!seen.lapsed(LEASE), "{sight:?}");
            assert!(seen.is_moving(LEASE, Mono(29_999)) && !seen.is_moving(LEASE, Mono(30_000)));
        }
    }

    #[test]
    fn a_free_lease_may_be_claimed_at_once() {
        let seen = Observed::new(None, 3, 7, Mono(5));
        assert!(seen.lapsed(LEASE) && !seen.is_moving(LEASE, Mono(5)));
        assert_eq!(seen.lapses_at(LEASE), Mono(5));
    }

    #[test]
    fn holder_renews_and_stops_by_its_own_clock() {
        let policy = Policy::default();
        let mut hold = Hold::claimed(1, 0, &policy, Mono(1_000));
        assert!(!hold.renew_due(Mono(3_499)) && hold.renew_due(Mono(3_500)));
        assert!(hold.may_act(Mono(8_499)) && !hold.may_act(Mono(8_500)));
        hold.renewed(1, Mono(4_000));
        assert!(hold.may_act(Mono(11_499)) && !hold.may_act(Mono(11_500)));
        hold.renewed(1, Mono(9_000));
        assert_eq!(hold.stops_at(), Mono(11_500), "a renewal that wrote no new counter is none");
        hold.renewed(2, Mono(3_000));
        assert_eq!(hold.counter, 1, "an answer out of order is none");
    }

    #[test]
    fn a_renewal_after_the_lapse_begins_another_term() {
        let mut hold = Hold::claimed(1, 0, &Policy::default(), Mono(1_000));
        hold.renewed(1, Mono(8_499));
        assert_eq!(hold.term, 0, "just in time");
        hold.renewed(1, Mono(60_000));
        assert_eq!(hold.term, 0, "a renewal that wrote no new counter is none");
        hold.renewed(2, hold.stops_at());
        assert_eq!(hold.term, 1);
        assert!(hold.may_act(Mono(16_000)));
    }

    #[test]
    fn a_stall_is_noticed_once() {
        let mut pulse = Pulse::new(Duration::from_millis(750), Mono(0));
        assert_eq!(pulse.tick(Mono(750)), None);
        assert_eq!(pulse.tick(Mono(1_501)), Some(Duration::from_millis(751)));
        assert_eq!(pulse.tick(Mono(1_502)), None);
    }

    proptest! {
        /// Nobody may claim while the holder may act, whatever the looks, renewals and their delays (one clock stands for
        /// two of equal pace).
        #[test]
        fn holder_stops_before_anyone_may_claim(
            profile in 0usize..3,
            renewals in prop::collection::vec((0u64..4_000, 0u64..2_000), 0..8),
            looks in prop::collection::vec(0u64..3_000, 1..40),
        ) {
            let policy = Policy::of(crate::policy::Profile::ALL[profile]);
            let lease = Policy::ms(policy.lease_ms);
            let mut hold = Hold::claimed(1, 0, &policy, Mono(0));
            // When each counter became visible in the database.
            let mut written = vec![(0u64, 0i64)];
            let mut at = 0;
            for (counter, (gap, delay)) in renewals.iter().enumerate() {
                let sent = at + gap;
                if !hold.may_act(Mono(sent)) { break }
                at = sent + delay;
                written.push((at, counter as i64 + 1));
                hold.renewed(counter as i64 + 1, Mono(sent));
            }
            let mut now = 0;
            let mut seen: Option<Observed> = None;
            for gap in looks {
                now += gap;
                let counter = written.iter().rev().find(|(at, _)| *at <= now).map_or(0, |(_, counter)| *counter);
                match &mut seen {
                    None => seen = Some(Observed::new(engine(1), 1, counter, Mono(now))),
                    Some(seen) => { seen.observe(engine(1), 1, counter, Mono(now)); }
                }
                if seen.is_some_and(|seen| seen.lapsed(lease)) && counter == written[written.len() - 1].1 {
                    prop_assert!(!hold.may_act(Mono(now)));
                    prop_assert!(Mono(now) >= hold.stops_at() + Policy::ms(policy.lease_renew_ms));
                }
            }
        }
    }
}

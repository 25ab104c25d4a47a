//! Off orders of all engines, for the brakes of this one (G4, G7): reads the ledger, and keeps its clock going
//! ([`halberd_store::fence_ledger`] says why it has one).
//!
//! Two engines that fence in the same quarter of a second do not see each other's order yet: the gates may let through one burst for
//! each engine then, once. The next round sees all of them.

use std::sync::PoisonError;

use halberd_core::time::Mono;
use halberd_store::fence_ledger::{self, TICK};
use halberd_store::write;

use crate::clock;
use crate::shared::Shared;

/// The ledger as it was last seen, and since when its clock stands.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    version: i64,
    tick: u64,
    since: Mono,
}

/// Takes what is new, and ticks when the clock has stood for long enough here.
///
/// # Errors
/// The database cannot be read: what is known stays, and counts.
pub async fn look(shared: &Shared) -> halberd_store::Result<()> {
    let before = *shared.engines.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let (ledger, version) = fence_ledger::read(&shared.db).await?;
    let now = clock::mono();
    if before.is_none_or(|before| before.version != version) {
        shared.fleet().take_ledger(&ledger, now);
    }
    let same = before.filter(|before| before.tick == ledger.tick);
    let seen = Seen { version, tick: ledger.tick, since: same.map_or(now, |before| before.since) };
    *shared.engines.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    if now.since(seen.since) >= TICK && !ledger.fences.is_empty() {
        write(&shared.db, async |tx| fence_ledger::tick(tx, version, clock::stamp()).await).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use halberd_core::brake::Fenced;
    use halberd_core::id::HostId;
    use halberd_store::fence_ledger::{Fence, Ledger};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::collect::fleet::Fleet;

    fn fence(n: u128, tick: u64, open: bool) -> Fence {
        let host = HostId(Uuid::from_u128(n));
        Fence { intent: Uuid::from_u128(n), host, tick, read_on: true, agent: false, open }
    }

    fn shown(fleet: &Fleet, now: u64) -> Vec<(u64, bool)> {
        fleet.brakes(Mono(now)).fences.iter().map(|fence: &Fenced| (fence.at.0, fence.in_flight)).collect()
    }

    const HOUR: u64 = 3_600_000;

    #[test]
    fn what_was_there_before_is_as_old_as_the_ledger_says_and_what_appears_is_new() {
        let start = 1_000 * HOUR;
        let mut fleet = Fleet::new(Mono(start));
        // Two hours and more before; just now; open for hours, which nobody has ended.
        let mut ledger =
            Ledger { tick: 20, fences: vec![fence(1, 7, false), fence(2, 20, true), fence(3, 7, true)] };
        fleet.take_ledger(&ledger, Mono(start));
        let old = start - 2 * HOUR;
        assert_eq!(shown(&fleet, start), [(old, false), (start, true), (old, false)]);
        ledger.fences[1].open = false;
        ledger.fences.push(fence(4, 20, true));
        ledger.tick = 21;
        fleet.take_ledger(&ledger, Mono(start + 5_000));
        let now = start + 5_000;
        assert_eq!(shown(&fleet, now), [(old, false), (start, false), (old, false), (now, true)]);
    }

    proptest! {
        /// However often engines start anew, and however fast: none ever takes an order for older than it is.
        #[test]
        fn no_restart_makes_an_order_older(steps in prop::collection::vec((0u64..2_000_000, any::<bool>(), any::<bool>()), 1..60)) {
            let mut now = 1_000 * HOUR;
            let mut written: Vec<u64> = Vec::new();
            let mut ledger = Ledger::default();
            let mut stands = now;
            let mut fleet = Fleet::new(Mono(now));
            let mut first = true;
            for (span, restarts, fences) in steps {
                now += span;
                if restarts {
                    (fleet, stands, first) = (Fleet::new(Mono(now)), now, true);
                }
                if fences {
                    ledger.fences.push(fence(written.len() as u128, ledger.tick, false));
                    written.push(now);
                }
                fleet.take_ledger(&ledger, Mono(now));
                for (seen, real) in shown(&fleet, now).into_iter().zip(&written) {
                    prop_assert!(seen.0 >= *real, "{} before {real}, first {first}", seen.0);
                }
                if Duration::from_millis(now - stands) >= TICK {
                    (ledger.tick, stands) = (ledger.tick + 1, now);
                }
                first = false;
            }
        }
    }
}

//! Guards that tests may take away, to see that somebody misses them.
//!
//! Each [`Guard`] stands at one decision of this package and keeps one invariant (SAFETY 7). A rule that no test misses may be no rule:
//! with the feature `mutants`, which only the tests' own package turns on, a thread can do without one guard, and its random worlds must
//! then break that invariant. Without the feature [`stands`] is `true` and nothing is left of any of this in the product.

use crate::text_enum;

text_enum! {
    /// One guard, by the decision that it guards.
    pub enum Guard {
        /// A fence act that nothing confirmed is no proof.
        Confirmed => "confirmed",
        /// Force-down and disable come after the proof.
        ProofBeforeForceDown => "proof-before-force-down",
        /// Power reads Off again after force-down and before each batch.
        PowerReread => "power-reread",
        /// Nothing is sent before its intent is committed.
        IntentFirst => "intent-first",
        /// A call whose fate is unknown is looked up, not repeated.
        LookUp => "look-up",
        /// A guest is sent only when every other host it may run on is proved off.
        MayRunElsewhere => "may-run-elsewhere",
        /// A host is back only when nothing that was ordered of it can arrive any more.
        Drain => "drain",
        /// Power-on needs somebody's word, or the policy's.
        PowerOnAsked => "power-on-asked",
        /// A host on which Nova still places a guest with a live record is not admitted.
        LiveRecords => "live-records",
        /// An accepted off order proves nothing; two later readings do.
        TwoReadings => "two-readings",
        /// A sign of life beats an Off reading.
        Contradiction => "contradiction",
        /// Reports alone fence no host that ever had an agent.
        ReportsAlone => "reports-alone",
        /// So many fences at once, so many in a time.
        Rate => "rate",
        /// A host on its operator's maintenance is not fenced by itself.
        Maintenance => "maintenance",
        /// A host of a disabled segment is not fenced by itself.
        Segment => "segment",
        /// Disarmed, nothing is fenced.
        Disarmed => "disarmed",
        /// Closed only when every guest has its answer.
        EveryGuest => "every-guest",
        /// A guest is brought back to the state it was in.
        WantedState => "wanted-state",
        /// A lapsed lease may be taken over.
        Takeover => "takeover",
        /// An evacuation that hangs is asked about after its deadline.
        Deadline => "deadline",
    }
}

impl Guard {
    /// The invariant of SAFETY 7 that it keeps.
    pub fn invariant(self) -> &'static str {
        match self {
            Self::Confirmed => "I1",
            Self::ProofBeforeForceDown => "I2",
            Self::PowerReread => "I3",
            Self::IntentFirst => "I7",
            Self::LookUp => "I9",
            Self::MayRunElsewhere => "I10",
            Self::Drain => "I11",
            Self::PowerOnAsked => "I12",
            Self::LiveRecords => "I13",
            Self::TwoReadings => "I15",
            Self::Contradiction => "I17",
            Self::ReportsAlone => "I18",
            Self::Rate => "I19",
            Self::Maintenance | Self::Segment => "I21",
            Self::Disarmed => "I22",
            Self::EveryGuest => "I24",
            Self::WantedState => "I25",
            Self::Takeover => "L2",
            Self::Deadline => "L3",
        }
    }
}

/// Whether this guard stands: always, except in a test that took it away.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn stands(_: Guard) -> bool {
    true
}

#[cfg(feature = "mutants")]
mod taken {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        static TAKEN: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Whether this guard stands on this thread.
    pub(crate) fn stands(guard: Guard) -> bool {
        TAKEN.get() != Some(guard)
    }

    /// Runs something on this thread without one guard, or with all of them.
    pub fn without<T>(guard: Option<Guard>, run: impl FnOnce() -> T) -> T {
        /// Puts it back even when a test fails in between.
        struct Back;
        impl Drop for Back {
            fn drop(&mut self) {
                TAKEN.set(None);
            }
        }
        let _back = Back;
        TAKEN.set(guard);
        run()
    }
}

#[cfg(feature = "mutants")]
pub(crate) use taken::stands;
#[cfg(feature = "mutants")]
pub use taken::without;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "mutants")]
    fn one_is_taken_away_and_put_back() {
        assert!(stands(Guard::Rate));
        without(Some(Guard::Rate), || assert!(!stands(Guard::Rate) && stands(Guard::Drain)));
        assert!(stands(Guard::Rate));
    }

    #[test]
    #[cfg(not(feature = "mutants"))]
    fn in_the_product_all_stand() {
        assert!(Guard::ALL.iter().all(|guard| stands(*guard)));
    }
}

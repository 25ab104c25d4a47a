//! What is believed of one target: pure, from sights and a monotonic time.
//!
//! ```text
//!            good                      fail_after bad in a row
//! Unknown ---------> Up <--> Slow  ------------------------------> Down
//!    ^ \______________________________________________________/      |
//!    |  fail_after that cannot tell      ^----- recover_after good --/
//!    \-------------- Up, Slow
//! ```
//!
//! One failure is a hiccup, silence of the probe itself is no failure (unknown is an answer), and what is down stays down
//! until it is seen up: that a probe has gone blind is no recovery. Sights that lie too far apart are not "in a row".

use std::time::Duration;

use halberd_core::text_enum;
use halberd_core::time::Mono;

text_enum! {
    /// What is believed.
    pub enum Belief {
        /// Not probed yet, or the probe cannot tell.
        Unknown => "unknown",
        Up => "up",
        /// It answers rightly, but late.
        Slow => "slow",
        Down => "down",
    }
}

/// What one probe saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    Up {
        latency: Duration,
    },
    Slow {
        latency: Duration,
    },
    Down {
        reason: String,
    },
    /// The probe could not be made or its answer says nothing about the service: our credentials, our network, our disk.
    CannotTell {
        reason: String,
    },
}

impl Sight {
    pub fn is_good(&self) -> bool {
        matches!(self, Sight::Up { .. } | Sight::Slow { .. })
    }

    /// The belief that enough of these lead to.
    fn leads_to(&self) -> Belief {
        match self {
            Sight::Up { .. } => Belief::Up,
            Sight::Slow { .. } => Belief::Slow,
            Sight::Down { .. } => Belief::Down,
            Sight::CannotTell { .. } => Belief::Unknown,
        }
    }
}

/// How many sights in a row change a belief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub fail_after: u32,
    pub recover_after: u32,
    /// Two sights further apart than this are not in a row: this process slept, or the probe hung.
    pub together: Duration,
}

/// A belief that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: Belief,
    pub to: Belief,
}

/// Judges one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    patience: Patience,
    belief: Belief,
    /// What was seen in a row, how often, and last when.
    row: Option<(Belief, u32, Mono)>,
    /// Good answers in a row, slow ones included.
    good: u32,
}

impl Judge {
    /// Begins with a belief: `Unknown`, or what an earlier run wrote down.
    pub fn new(patience: Patience, belief: Belief) -> Judge {
        Judge { patience, belief, row: None, good: 0 }
    }

    pub fn belief(&self) -> Belief {
        self.belief
    }

    /// Takes in a sight made at `now`.
    pub fn observe(&mut self, sight: &Sight, now: Mono) -> Option<Change> {
        let word = sight.leads_to();
        let last = self.row.filter(|(_, _, at)| now.since(*at) <= self.patience.together);
        let count = match last {
            Some((same, count, _)) if same == word => count.saturating_add(1),
            _ => 1,
        };
        self.good = match last {
            _ if !sight.is_good() => 0,
            None => 1,
            Some(_) => self.good.saturating_add(1),
        };
        self.row = Some((word, count, now));
        let to = self.conclude(word, count);
        if to == self.belief {
            return None;
        }
        let from = std::mem::replace(&mut self.belief, to);
        Some(Change { from, to })
    }

    fn conclude(&self, word: Belief, count: u32) -> Belief {
        let Patience { fail_after, recover_after, .. } = self.patience;
        match (self.belief, word) {
            // It did the thing once: that is more than was known.
            (Belief::Unknown, Belief::Up | Belief::Slow) => word,
            (Belief::Down, Belief::Up | Belief::Slow) if self.good >= recover_after => word,
            (Belief::Slow, Belief::Up) if count >= recover_after => Belief::Up,
            (Belief::Up, Belief::Slow) if count >= fail_after => Belief::Slow,
            (Belief::Up | Belief::Slow | Belief::Unknown, Belief::Down) if count >= fail_after => {
                Belief::Down
            }
            (Belief::Up | Belief::Slow, Belief::Unknown) if count >= fail_after => Belief::Unknown,
            (belief, _) => belief,
        }
    }
}

/// The belief of a service from those of its targets: it is as well as its best one.
pub fn whole(targets: impl IntoIterator<Item = Belief>) -> Belief {
    let (mut best, mut any, mut all_down) = (Belief::Unknown, false, true);
    for belief in targets {
        any = true;
        all_down &= belief == Belief::Down;
        best = match (best, belief) {
            (Belief::Up, _) | (_, Belief::Up) => Belief::Up,
            (Belief::Slow, _) | (_, Belief::Slow) => Belief::Slow,
            _ => Belief::Unknown,
        };
    }
    if any && all_down { Belief::Down } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { fail_after: 3, recover_after: 2, together: Duration::from_secs(10) };

    /// `u` up, `s` slow, `d` down, `?` cannot tell, one second apart; `~` lets a minute pass.
    fn story(belief: Belief, sights: &str) -> (Vec<(usize, Belief)>, Belief) {
        let (mut judge, mut now, mut changes) = (Judge::new(PATIENCE, belief), Mono(1_000_000), Vec::new());
        let mut nth = 0;
        for sign in sights.chars() {
            let latency = Duration::ZERO;
            let reason = String::new();
            let sight = match sign {
                'u' => Sight::Up { latency },
                's' => Sight::Slow { latency },
                'd' => Sight::Down { reason },
                '?' => Sight::CannotTell { reason },
                _ => {
                    now = now + Duration::from_secs(60);
                    continue;
                }
            };
            nth += 1;
            now = now + Duration::from_secs(1);
            changes.extend(judge.observe(&sight, now).map(|change| (nth, change.to)));
        }
        (changes, judge.belief())
    }

    fn changes(belief: Belief, sights: &str) -> Vec<(usize, Belief)> {
        story(belief, sights).0
    }

    #[test]
    fn down_after_three_in_a_row_and_up_after_two() {
        use Belief::{Down, Unknown, Up};
        assert_eq!(changes(Unknown, "uddduu"), [(1, Up), (4, Down), (6, Up)]);
        assert_eq!(changes(Up, "ddudduddu"), [], "a hiccup is no outage");
        assert_eq!(changes(Down, "ududud"), [], "and one answer is no recovery");
        assert_eq!(changes(Unknown, "ddd"), [(3, Down)]);
    }

    #[test]
    fn blindness_is_neither_failure_nor_recovery() {
        use Belief::{Down, Unknown, Up};
        assert_eq!(changes(Up, "??"), []);
        assert_eq!(changes(Up, "???"), [(3, Unknown)]);
        assert_eq!(changes(Up, "dd?dd?"), [], "a blind moment breaks the row");
        assert_eq!(changes(Down, "?????"), [], "what is down stays down until it is seen up");
        assert_eq!(changes(Down, "u?u?"), []);
        assert_eq!(changes(Down, "??uu"), [(4, Up)]);
    }

    #[test]
    fn slow_comes_and_goes_with_the_same_patience() {
        use Belief::{Down, Slow, Unknown, Up};
        assert_eq!(changes(Up, "ssusss"), [(6, Slow)]);
        assert_eq!(changes(Slow, "usuu"), [(4, Up)]);
        assert_eq!(changes(Slow, "sddd"), [(4, Down)]);
        assert_eq!(changes(Down, "us"), [(2, Slow)], "slow answers count as answers");
        assert_eq!(changes(Unknown, "s"), [(1, Slow)]);
    }

    #[test]
    fn sights_far_apart_are_not_in_a_row() {
        assert_eq!(changes(Belief::Up, "dd~d"), []);
        assert_eq!(changes(Belief::Up, "dd~ddd"), [(5, Belief::Down)]);
        assert_eq!(changes(Belief::Down, "u~u"), []);
    }

    #[test]
    fn a_service_is_as_well_as_its_best_target() {
        use Belief::{Down, Slow, Unknown, Up};
        assert_eq!(whole([Down, Up, Unknown]), Up);
        assert_eq!(whole([Down, Slow]), Slow);
        assert_eq!(whole([Down, Down]), Down);
        assert_eq!(whole([Down, Unknown]), Unknown, "the one not seen may be well");
        assert_eq!(whole([]), Unknown);
    }
}

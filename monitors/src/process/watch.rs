//! What to do about one watched process: a pure state that is told what was seen and answers with the next move.
//!
//! ```text
//! Up --gone--> Restarting(attempt, not before) --there--> Up (Probation) --stays--> Up
//!                 |  attempts used up                       \--gone--> Restarting(next attempt)
//!                 v
//!               Down (reported STOPPED) --there--> Up (reported STARTED)
//! ```
//!
//! STOPPED is reported only when restarting failed for good, since it takes the host out of scheduling. A process that
//! comes up and dies again at once uses up its attempts like one that never came up.

/// Limits, in nanoseconds and attempts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Restarts after the first one failed.
    pub retries: u32,
    /// Between two restarts.
    pub interval_ns: u64,
}

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// There, and trusted.
    Up,
    /// There again since `since_ns`, after so many attempts.
    Probation {
        /// Attempts used.
        attempts: u32,
        /// First seen again.
        since_ns: u64,
    },
    /// Gone; after so many attempts.
    Restarting {
        /// Attempts used.
        attempts: u32,
        /// Next attempt not before.
        not_before_ns: u64,
    },
    /// Gone for good, and reported.
    Down,
}

/// The next move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Nothing.
    Rest,
    /// Run the restart commands.
    Restart,
    /// Say that it is stopped.
    ReportStopped,
    /// Say that it runs again.
    ReportStarted,
}

/// One look: the new state and the move that goes with it.
pub fn step(watch: Watch, there: bool, now_ns: u64, limits: Limits) -> (Watch, Move) {
    // A process that stayed as long as all attempts take together is well again.
    let trusted_ns = limits.interval_ns.saturating_mul(u64::from(limits.retries) + 1);
    match (watch, there) {
        (Watch::Up, true) => (Watch::Up, Move::Rest),
        (Watch::Up, false) => attempt(0, now_ns, limits),
        (Watch::Probation { since_ns, .. }, true) if now_ns.saturating_sub(since_ns) >= trusted_ns => {
            (Watch::Up, Move::Rest)
        }
        (Watch::Probation { .. }, true) => (watch, Move::Rest),
        (Watch::Probation { attempts, .. }, false) => attempt(attempts, now_ns, limits),
        (Watch::Restarting { attempts, .. }, true) => {
            (Watch::Probation { attempts, since_ns: now_ns }, Move::Rest)
        }
        (Watch::Restarting { not_before_ns, .. }, false) if now_ns < not_before_ns => (watch, Move::Rest),
        (Watch::Restarting { attempts, .. }, false) => attempt(attempts, now_ns, limits),
        (Watch::Down, true) => (Watch::Up, Move::ReportStarted),
        (Watch::Down, false) => (Watch::Down, Move::Rest),
    }
}

fn attempt(used: u32, now_ns: u64, limits: Limits) -> (Watch, Move) {
    if used > limits.retries {
        return (Watch::Down, Move::ReportStopped);
    }
    let not_before_ns = now_ns.saturating_add(limits.interval_ns);
    (Watch::Restarting { attempts: used + 1, not_before_ns }, Move::Restart)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { retries: 3, interval_ns: 5 };

    /// Looks once each nanosecond; `there` says what is seen after so many restarts.
    fn run(there: impl Fn(u64, u32) -> bool, until: u64) -> (Watch, Vec<(u64, Move)>) {
        let (mut watch, mut moves, mut restarts) = (Watch::Up, vec![], 0);
        for now in 0..until {
            let (next, what) = step(watch, there(now, restarts), now, LIMITS);
            watch = next;
            restarts += u32::from(what == Move::Restart);
            if what != Move::Rest {
                moves.push((now, what));
            }
        }
        (watch, moves)
    }

    #[test]
    fn four_attempts_five_apart_then_stopped_once() {
        let (watch, moves) = run(|_, _| false, 100);
        assert_eq!(watch, Watch::Down);
        let restart = Move::Restart;
        assert_eq!(
            moves,
            [(0, restart), (5, restart), (10, restart), (15, restart), (20, Move::ReportStopped)]
        );
    }

    #[test]
    fn a_restart_that_works_reports_nothing() {
        let (watch, moves) = run(|now, restarts| now < 3 || restarts >= 2, 100);
        assert_eq!((watch, moves), (Watch::Up, vec![(3, Move::Restart), (8, Move::Restart)]));
    }

    #[test]
    fn back_after_stopped_is_started() {
        let (watch, moves) = run(|now, _| now >= 50, 100);
        assert_eq!((watch, moves.last()), (Watch::Up, Some(&(50, Move::ReportStarted))));
    }

    #[test]
    fn a_flapping_process_is_given_up() {
        // Comes up for two looks after each restart, then dies.
        let seen = std::cell::Cell::new((0, 0));
        let (watch, moves) = run(
            |_, restarts| {
                let (of, looks) = seen.get();
                let looks = if of == restarts { looks + 1 } else { 0 };
                seen.set((restarts, looks));
                looks < 2 && restarts > 0
            },
            200,
        );
        assert_eq!(watch, Watch::Down);
        assert_eq!(moves.iter().filter(|(_, m)| *m == Move::Restart).count(), 4);
    }
}

//! When a failed delivery is tried again.

use std::time::Duration;

/// Pauses after each failed attempt; after the last one the delivery is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(pub Vec<Duration>);

impl Default for Schedule {
    /// A quick head for pages that people wait for, then Svix' long tail: a receiver's outage of a day is outlived (SAFETY 3.4).
    fn default() -> Schedule {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        let pauses = [1, 2, 5, 15, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR];
        Schedule(pauses.map(Duration::from_secs).to_vec())
    }
}

impl Schedule {
    /// The pause after the attempt that `failed` others preceded; `None`: that was the last. `chance` is in 0..1 and moves the
    /// pause by up to a tenth to either side, so that a receiver that comes back is not met by everything at once.
    pub fn pause(&self, failed: i64, chance: f64) -> Option<Duration> {
        let pause = self.0.get(usize::try_from(failed).ok()?)?;
        Some(pause.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_pauses_then_none() {
        let schedule = Schedule::default();
        let seconds = |failed, chance| schedule.pause(failed, chance).map(|pause| pause.as_secs_f64());
        assert_eq!(seconds(0, 0.5), Some(1.0));
        assert_eq!((seconds(3, 0.0), seconds(3, 1.0)), (Some(13.5), Some(16.5)));
        assert_eq!(seconds(9, 0.5), Some(36_000.0));
        assert_eq!((seconds(10, 0.5), seconds(-1, 0.5)), (None, None));
    }
}

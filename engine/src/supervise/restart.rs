//! The brake before the one effect of supervision: may this target's unit be restarted now? Pure.
//!
//! A restart heals what hangs and hides what is broken, so there are few of them: one at a time per service, spaced, counted.
//! And never by rote after a full stop of something whose members remember each other (TRAPS 31).

use std::time::Duration;

use halberd_core::time::Mono;

use super::config::{Kind, Thresholds};
use super::judge::Belief;

/// The hour of `restarts_per_hour`.
const BUDGET_SPAN: Duration = Duration::from_secs(3600);

/// Restarts ordered by this engine, for one service.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// Target and time of each within the last hour or gap.
    begun: Vec<(usize, Mono)>,
}

/// What the brake looks at.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    pub kind: Kind,
    /// Beliefs of all targets, in their order.
    pub beliefs: &'a [Belief],
    /// One of this service is under way.
    pub ongoing: bool,
    /// The operator has stopped all acting, and said why.
    pub disarmed: Option<&'a str>,
}

impl Restarts {
    /// Whether the target at `place` may be restarted.
    ///
    /// # Errors
    /// Why it is withheld, for people.
    pub fn permit(
        &self,
        place: usize,
        situation: &Situation<'_>,
        limits: &Thresholds,
        now: Mono,
    ) -> Result<(), String> {
        if let Some(reason) = situation.disarmed {
            return Err(format!("disarmed: {reason}"));
        }
        if situation.ongoing {
            return Err("another restart of this service is under way".into());
        }
        let several = situation.beliefs.len() > 1;
        if several
            && situation.kind.has_memory()
            && situation.beliefs.iter().all(|belief| *belief == Belief::Down)
        {
            return Err("all members are down: which of them to start first needs a person, a restart by rote may lose data".into());
        }
        let gap = Duration::from_millis(limits.restart_gap_ms);
        if self.begun.iter().any(|(target, at)| *target == place && now.since(*at) < gap) {
            return Err(format!("it was restarted less than {} s ago, and that did not last", gap.as_secs()));
        }
        let recent = self.begun.iter().filter(|(_, at)| now.since(*at) < BUDGET_SPAN).count();
        if recent >= limits.restarts_per_hour as usize {
            return Err(format!("{recent} restarts within an hour are used up; this needs a person"));
        }
        Ok(())
    }

    /// Counts a restart, ordered or not: what may have happened counts.
    pub fn count(&mut self, place: usize, limits: &Thresholds, now: Mono) {
        let kept = BUDGET_SPAN.max(Duration::from_millis(limits.restart_gap_ms));
        self.begun.retain(|(_, at)| now.since(*at) < kept);
        self.begun.push((place, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Belief::{Down, Up};

    fn at(minutes: u64) -> Mono {
        Mono(10_000_000 + minutes * 60_000)
    }

    fn situation<'a>(kind: Kind, beliefs: &'a [Belief]) -> Situation<'a> {
        Situation { kind, beliefs, ongoing: false, disarmed: None }
    }

    #[test]
    fn spaced_per_target_and_counted_per_service() {
        let (limits, mut restarts) = (Thresholds::default(), Restarts::default());
        let beliefs = [Down, Up, Down];
        let ask = |restarts: &Restarts, place, minutes| {
            restarts.permit(place, &situation(Kind::Memcached, &beliefs), &limits, at(minutes))
        };
        assert_eq!(ask(&restarts, 0, 0), Ok(()));
        restarts.count(0, &limits, at(0));
        assert!(ask(&restarts, 0, 4).unwrap_err().contains("300 s"));
        assert_eq!(ask(&restarts, 2, 4), Ok(()), "the gap is the target's own");
        assert_eq!(ask(&restarts, 0, 5), Ok(()));
        restarts.count(0, &limits, at(5));
        restarts.count(2, &limits, at(6));
        assert!(ask(&restarts, 0, 30).unwrap_err().contains("used up"), "the budget is the service's");
        assert_eq!(ask(&restarts, 0, 60), Ok(()), "the first falls out of the hour");
    }

    #[test]
    fn withheld_while_disarmed_or_another_is_under_way() {
        let (limits, restarts) = (Thresholds::default(), Restarts::default());
        let free = situation(Kind::Http, &[Down]);
        assert_eq!(restarts.permit(0, &free, &limits, at(0)), Ok(()));
        let disarmed = Situation { disarmed: Some("works on the racks"), ..free.clone() };
        assert!(restarts.permit(0, &disarmed, &limits, at(0)).unwrap_err().contains("works on the racks"));
        let busy = Situation { ongoing: true, ..free };
        assert!(restarts.permit(0, &busy, &limits, at(0)).is_err());
    }

    #[test]
    fn a_full_stop_of_what_remembers_is_never_restarted_by_rote() {
        let (limits, restarts) = (Thresholds::default(), Restarts::default());
        let ask = |kind, beliefs: &[Belief]| restarts.permit(0, &situation(kind, beliefs), &limits, at(0));
        for kind in [Kind::Mysql, Kind::Mariadb, Kind::Rabbitmq] {
            assert!(ask(kind, &[Down, Down, Down]).unwrap_err().contains("needs a person"));
            assert_eq!(ask(kind, &[Down, Up, Down]), Ok(()));
            assert_eq!(ask(kind, &[Down]), Ok(()), "a single one has nobody to be behind");
        }
        assert_eq!(ask(Kind::Memcached, &[Down, Down]), Ok(()));
    }
}

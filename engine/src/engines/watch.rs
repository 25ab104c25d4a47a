//! Who lives and who died, from rows and the time alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use halberd_core::id::{EngineId, RecoveryId};
use halberd_core::lease::Observed;
use halberd_core::time::Mono;
use halberd_store::engines::{self, EngineRow};

/// Looks come four times a second; a pause as long as this was somebody's standing still, ours or the database's, and proves nothing
/// about an engine. Shorter than the interval of renewals in every profile, so that one missed by us is not counted against it twice.
const GAP: Duration = Duration::from_millis(2_000);

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// This engine's lease lapsed without a graceful stop.
    Died { id: EngineId, counter: i64, name: String },
    /// Of so many, this one included, it is the last.
    Alone { before: usize },
    /// This engine is there, beside so many others.
    Joined { others: usize },
}

#[derive(Debug)]
struct Other {
    name: String,
    observed: Observed,
    /// Its counter was seen to move: it lived under our eyes.
    moved: bool,
    /// Since when its row says that it stopped.
    stopped: Option<Mono>,
    /// Its death is told, by whomever.
    buried: bool,
    /// Another run of its name waits for its lease.
    awaited: bool,
}

/// A run that waits for its namesake's lease began to look later than we did; it has the name within a lease of its own, and one more
/// for whatever holds it up.
const AWAITED_FOR: u32 = 3;

impl Other {
    fn is_lapsed(&self, lease: Duration) -> bool {
        self.observed.lapsed(lease)
    }

    fn is_dead(&self, lease: Duration) -> bool {
        let lease = if self.awaited { lease * AWAITED_FOR } else { lease };
        self.stopped.is_none() && !self.buried && self.observed.lapsed(lease)
    }
}

/// The other engines.
#[derive(Debug, Default)]
pub(super) struct Others {
    seen: BTreeMap<EngineId, Other>,
    looked: Option<Mono>,
    lease: Duration,
    /// The most that lived at one time since this engine was last alone, itself included.
    most: usize,
    /// Whether this engine's coming is to be told: it was not there before, or had been called dead.
    joins: bool,
    /// Recoveries of a newer version that were named in the log.
    pub(super) left: BTreeSet<RecoveryId>,
}

impl Others {
    /// Before this engine takes its name: whether it comes anew, or again after it had stopped or was called dead.
    pub(super) fn comes(&mut self, rows: &[EngineRow], name: &str) {
        let former = rows.iter().find(|row| row.name == name);
        self.joins = former.is_none_or(|row| row.stopped_at.is_some() || engines::is_marked_dead(row));
    }

    /// A look at all rows. `alone`: no other engine can live (SQLite's lock).
    pub(super) fn look(
        &mut self,
        rows: &[EngineRow],
        me: EngineId,
        alone: bool,
        lease: Duration,
        now: Mono,
    ) -> Vec<News> {
        let gap = self.looked.is_some_and(|looked| now.since(looked) > GAP);
        (self.looked, self.lease) = (Some(now), lease);
        self.seen.retain(|id, _| rows.iter().any(|row| row.id == *id));
        for row in rows.iter().filter(|row| row.id != me) {
            let fresh = || Observed::new(Some(row.id), 0, row.counter, now);
            let other = self.seen.entry(row.id).or_insert_with(|| Other {
                name: row.name.clone(),
                observed: fresh(),
                moved: false,
                stopped: None,
                buried: false,
                awaited: false,
            });
            // What was told stays told until it moves, whether or not the mark is seen already.
            let told = other.buried && row.counter == other.observed.counter;
            (other.buried, other.awaited) = (told || engines::is_marked_dead(row), engines::is_awaited(row));
            other.moved = other.moved || row.counter > other.observed.counter && row.stopped_at.is_none();
            if gap {
                other.observed = fresh();
            } else {
                other.observed.observe(Some(row.id), 0, row.counter, now);
            }
            other.stopped = row.stopped_at.map(|_| other.stopped.unwrap_or(now));
        }
        if let Some(own) = rows.iter().find(|row| row.id == me) {
            self.joins = self.joins || engines::is_marked_dead(own);
        }
        if alone {
            return Vec::new();
        }
        self.news(lease, now)
    }

    fn news(&mut self, lease: Duration, now: Mono) -> Vec<News> {
        let mut news: Vec<News> = self
            .seen
            .iter()
            .filter(|(_, other)| other.is_dead(lease))
            .map(|(id, other)| News::Died {
                id: *id,
                counter: other.observed.counter,
                name: other.name.clone(),
            })
            .collect();
        // One that stopped may be on its way back: its place is kept for a lease. One that was not seen to move yet may live, as far as
        // anybody can say: nobody is alone beside it, and nobody has joined it.
        let may_live =
            |other: &&Other| !other.is_lapsed(lease) && other.stopped.is_none_or(|at| now.since(at) < lease);
        let (may_live, living) = (
            self.seen.values().filter(may_live).count(),
            1 + self.seen.values().filter(may_live).filter(|other| other.moved).count(),
        );
        self.most = self.most.max(living);
        if may_live == 0 && self.most > 1 {
            news.push(News::Alone { before: self.most });
        }
        if living > 1 && self.joins {
            news.push(News::Joined { others: living - 1 });
        }
        news
    }

    /// It is stored.
    pub(super) fn told(&mut self, news: &News) {
        match news {
            News::Died { id, .. } => {
                if let Some(other) = self.seen.get_mut(id) {
                    other.buried = true;
                }
            }
            News::Alone { .. } => self.most = 1,
            News::Joined { .. } => self.joins = false,
        }
    }

    pub(super) fn is_gone(&self, engine: EngineId) -> bool {
        match self.seen.get(&engine) {
            Some(other) => other.stopped.is_some() || other.is_lapsed(self.lease),
            None => self.looked.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use halberd_core::time::Stamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn id(n: u128) -> EngineId {
        EngineId(Uuid::from_u128(n))
    }

    fn row(n: u128, counter: i64) -> EngineRow {
        EngineRow {
            name: format!("e-{n}"),
            id: id(n),
            counter,
            started_at: Stamp(0),
            renewed_at: Stamp(0),
            stopped_at: None,
            detail: json!({}),
        }
    }

    fn stopped(row: EngineRow) -> EngineRow {
        EngineRow { stopped_at: Some(Stamp(1)), ..row }
    }

    /// Looks four times a second from one time to another at rows that do not change, and says what was told.
    fn watch(others: &mut Others, from: u64, to: u64, rows: impl Fn(u64) -> Vec<EngineRow>) -> Vec<News> {
        let mut all = Vec::new();
        for at in (from..=to).step_by(250) {
            let mut rows = rows(at);
            rows.push(row(1, at as i64));
            let news = others.look(&rows, id(1), false, LEASE, Mono(at));
            news.iter().for_each(|news| others.told(news));
            all.extend(news);
        }
        all
    }

    #[test]
    fn a_death_is_told_once_after_a_lease_and_the_last_one_says_that_it_is_alone() {
        let mut others = Others::default();
        // Two others renew until 5 s and 8 s.
        let rows =
            |at: u64| vec![row(2, (at.min(5_000) / 2_500) as i64), row(3, (at.min(8_000) / 2_500) as i64)];
        assert_eq!(watch(&mut others, 0, 14_750, rows), []);
        let died = |n: u128, counter| News::Died { id: id(n), counter, name: format!("e-{n}") };
        assert_eq!(watch(&mut others, 15_000, 17_000, rows), [died(2, 2)]);
        assert_eq!(watch(&mut others, 17_250, 60_000, rows), [died(3, 3), News::Alone { before: 3 }]);
        assert!(others.is_gone(id(2)) && others.is_gone(id(9)));
    }

    #[test]
    fn a_restart_and_a_graceful_stop_are_no_death() {
        let mut others = Others::default();
        let alive = |at: u64| vec![row(2, at as i64)];
        assert_eq!(watch(&mut others, 0, 5_000, alive), []);
        // Killed, and back under its name as another run four seconds later.
        let restarted = |at: u64| if at < 9_000 { vec![row(2, 5_000)] } else { vec![row(3, at as i64)] };
        assert_eq!(watch(&mut others, 5_250, 30_000, restarted), []);
        // Stopped and started again within the lease; then stopped for good.
        let rolled =
            |at: u64| if at < 38_000 { vec![stopped(row(3, 30_001))] } else { vec![row(4, at as i64)] };
        assert_eq!(watch(&mut others, 30_250, 45_000, rolled), []);
        assert!(others.is_gone(id(3)) && !others.is_gone(id(4)));
        let left = |_| vec![stopped(row(4, 45_001))];
        assert_eq!(watch(&mut others, 45_250, 54_750, left), []);
        assert_eq!(watch(&mut others, 55_000, 80_000, left), [News::Alone { before: 2 }]);
    }

    #[test]
    fn a_pause_in_the_looks_kills_nobody() {
        let mut others = Others::default();
        assert_eq!(watch(&mut others, 0, 5_000, |at| vec![row(2, at as i64)]), []);
        // The database stood still for a minute; the other renews a moment after this engine's first look.
        let rows = |at: u64| vec![row(2, if at < 66_000 { 5_000 } else { at as i64 })];
        assert_eq!(watch(&mut others, 65_000, 90_000, rows), []);
    }

    #[test]
    fn a_corpse_of_before_is_told_once_and_leaves_nobody_alone() {
        let mut others = Others::default();
        let news = watch(&mut others, 0, 20_000, |_| vec![row(2, 7)]);
        assert_eq!(news, [News::Died { id: id(2), counter: 7, name: "e-2".into() }]);
        let mut others = Others::default();
        let marked = |_| vec![EngineRow { detail: json!({"died_at": 1}), ..row(2, 7) }];
        assert_eq!(watch(&mut others, 0, 20_000, marked), [], "somebody told it already");
    }

    #[test]
    fn a_run_that_waits_for_its_namesakes_lease_is_a_restart_until_that_takes_too_long() {
        let waits = |_| vec![EngineRow { detail: json!({"awaited_by": "x"}), ..row(2, 7) }];
        let mut others = Others::default();
        assert_eq!(watch(&mut others, 0, 29_750, waits), []);
        assert_eq!(watch(&mut others, 30_000, 40_000, waits).len(), 1);
    }

    #[test]
    fn who_was_not_there_before_joins_when_it_sees_another_live() {
        let alive = |at: u64| vec![row(2, at as i64)];
        let join = vec![News::Joined { others: 1 }];
        for (before, told) in [
            (vec![], join.clone()),
            (vec![stopped(row(1, 3))], join.clone()),
            (vec![EngineRow { detail: json!({"died_at": 1}), ..row(1, 3) }], join),
            (vec![row(1, 3)], vec![]),
        ] {
            let mut others = Others::default();
            others.comes(&before, "e-1");
            assert_eq!(watch(&mut others, 0, 20_000, alive), told, "{before:?}");
            assert_eq!(watch(&mut others, 20_250, 40_000, alive), []);
        }
        let mut others = Others::default();
        others.comes(&[], "e-1");
        assert_eq!(watch(&mut others, 0, 20_000, |_| vec![]), [], "alone from the beginning");
    }
}

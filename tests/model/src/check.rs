//! Running the checker on a variant, and what is reported of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::action;
use crate::config::Config;
use crate::model::{Recovery, Sight};
use crate::variants::Positive;
use crate::watchdog::{self, Watchdog};

/// What became of one variant.
#[derive(Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub unique: usize,
    pub depth: usize,
    pub took: Duration,
    /// For each violated property the way there, in words.
    pub violated: BTreeMap<&'static str, Vec<String>>,
    /// Seen on the way, and how often.
    pub seen: Vec<(&'static str, u64)>,
}

/// Visits every reachable state.
pub fn exhaust(variant: &Positive) -> Outcome {
    run(variant.name, Recovery::waiving(variant.config, variant.waived))
}

/// Looks for a shortest way to violate one property.
pub fn hunt(name: &'static str, config: Config, property: &'static str) -> Outcome {
    run(name, Recovery::hunting(config, property))
}

fn run(name: &'static str, model: Recovery) -> Outcome {
    let (checker, took) = check(model);
    checker.model().rest();
    let tell =
        |path: Path<_, action::Action>| path.into_actions().iter().map(action::Action::words).collect();
    let (violated, mut seen) = sort(checker.discoveries(), tell);
    seen.extend(Sight::ALL.map(|(sight, words)| (words, checker.model().seen(sight))));
    Outcome { name, unique: checker.unique_state_count(), depth: checker.max_depth(), took, violated, seen }
}

/// The same for the proof by time.
pub fn time(name: &'static str, guards: watchdog::Guards) -> Outcome {
    let (checker, took) = check(Watchdog::new(guards));
    checker.model().rest();
    let tell =
        |path: Path<_, watchdog::Action>| path.into_actions().iter().map(watchdog::Action::words).collect();
    let (violated, seen) = sort(checker.discoveries(), tell);
    Outcome { name, unique: checker.unique_state_count(), depth: checker.max_depth(), took, violated, seen }
}

/// One thread: breadth first in the strict sense, so that the first way found is a shortest one.
fn check<M>(model: M) -> (impl Checker<M>, Duration)
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Send + Sync + 'static + Clone + PartialEq,
    M::Action: Send + Sync + Clone + PartialEq,
{
    let begun = Instant::now();
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    (checker, begun.elapsed())
}

type Told = (BTreeMap<&'static str, Vec<String>>, Vec<(&'static str, u64)>);

/// What is wanted to be seen begins with a small letter, what must never be with a capital: see the properties' names.
fn sort<P>(
    discoveries: impl IntoIterator<Item = (&'static str, P)>,
    tell: impl Fn(P) -> Vec<String>,
) -> Told {
    let (mut violated, mut seen) = (BTreeMap::new(), Vec::new());
    for (name, path) in discoveries {
        if name.starts_with(char::is_uppercase) {
            violated.insert(name, tell(path));
        } else {
            seen.push((name, 1));
        }
    }
    (violated, seen)
}

impl Outcome {
    /// How often a sight was seen.
    pub fn saw(&self, words: &str) -> u64 {
        self.seen.iter().find(|(seen, _)| *seen == words).map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.took.as_secs_f64();
        writeln!(f, "{}: {} states, depth {}, {secs:.1} s", self.name, self.unique, self.depth)?;
        for (property, steps) in &self.violated {
            writeln!(f, "  violated, {} steps: {property}", steps.len())?;
            for (number, step) in steps.iter().enumerate() {
                writeln!(f, "    {:2} {step}", number + 1)?;
            }
        }
        for (words, count) in self.seen.iter().filter(|(_, count)| *count > 0) {
            writeln!(f, "  seen: {words} ({count})")?;
        }
        Ok(())
    }
}

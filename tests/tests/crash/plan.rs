//! Which runs are played.
//!
//! By default each place is taken once on SQLite and once on a server, one of the two resumed by the engine itself and the other by another
//! one. Which story is cut short there, which server it is and which of the two who resumes is on SQLite goes round with a printed seed
//! (`HALBERD_CRASH_SEED` sets it). `HALBERD_LONG=1` plays every place of every story each time it is passed, everywhere, by both.
//! `HALBERD_CRASH=TEXT` plays only the runs whose description contains the text, for instance
//! `Death on Sqlite, stopped at send.evacuate.after, resumed by Another`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use halberd_core::effect::Effect;
use halberd_engine::clock;
use halberd_store::testing::{EVERY, On};

use super::points::Point;
use super::scripts::Script;
use super::twice::{How, Repeat};
use super::{By, Run};

/// How often each script passes each place, and how long it takes.
pub type Passed = BTreeMap<Script, (BTreeMap<String, usize>, Duration)>;

/// The places beside sends and commits that the stories pass, without the moment.
const BESIDE: &[&str] =
    &["open.host", "open.instance", "open.process", "settle.finished", "claim", "delivery"];

/// Names that the code alone decides. A commit's name is made of what it carries, which is found by running.
pub fn named_by_the_code() -> impl Iterator<Item = String> {
    let sends = Effect::WORDS.iter().map(|word| format!("send.{word}"));
    let all = sends.chain(BESIDE.iter().map(|name| (*name).to_owned()));
    all.flat_map(|name| ["before", "after"].map(|when| format!("{name}.{when}")))
}

/// By default a place that a short story passes is not taken in one that lasts more than twice as long.
const LITTLE_LONGER: u32 = 2;

pub fn is_long() -> bool {
    std::env::var("HALBERD_LONG").is_ok_and(|value| value == "1")
}

fn is_wanted(run: &Run) -> bool {
    std::env::var("HALBERD_CRASH").map_or(true, |text| run.to_string().contains(&text))
}

/// Servers that are installed.
pub fn servers() -> Vec<On> {
    [On::Postgres, On::Mariadb].into_iter().filter(|on| on.server().is_some()).collect()
}

/// A place is to be shown on SQLite, and over the servers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Sqlite,
    Server,
}

pub fn side(on: On) -> Side {
    if on == On::Sqlite { Side::Sqlite } else { Side::Server }
}

/// The stories that pass each place, how often, and how long each takes; the shortest first.
type Stories = BTreeMap<String, Vec<(Script, usize, Duration)>>;

fn stories(passed: &Passed) -> Stories {
    let mut stories = Stories::new();
    let mut by_length: Vec<_> = passed.iter().collect();
    by_length.sort_by_key(|(_, (_, took))| *took);
    for (script, (places, took)) in by_length {
        for (place, count) in places {
            stories.entry(place.clone()).or_default().push((*script, *count, *took));
        }
    }
    stories
}

/// What a test run plays, from what is passed.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    servers: Vec<On>,
    stories: Stories,
}

impl Plan {
    pub fn new(passed: &Passed) -> Plan {
        let given = std::env::var("HALBERD_CRASH_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| clock::stamp().0.unsigned_abs() / 1_000_000);
        Plan { seed, servers: servers(), stories: stories(passed) }
    }

    pub fn places(&self) -> impl Iterator<Item = &String> {
        self.stories.keys()
    }

    /// The sides that there are on this machine.
    pub fn sides(&self) -> Vec<Side> {
        if self.servers.is_empty() { vec![Side::Sqlite] } else { vec![Side::Sqlite, Side::Server] }
    }

    /// Everything to be played at first.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = if is_long() { self.all() } else { self.sample() };
        // The longest first, so that none of them is waited for alone at the end.
        runs.sort_by_key(|run| Reverse(self.length(run)));
        runs.into_iter().filter(is_wanted).collect()
    }

    /// How long its story takes undisturbed.
    fn length(&self, run: &Run) -> Option<Duration> {
        let stories = &self.stories[&run.point.as_ref()?.place];
        stories.iter().find(|(script, ..)| *script == run.script).map(|(.., took)| *took)
    }

    fn all(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for (place, stories) in &self.stories {
            for (script, count, _) in stories {
                for pass in 1..=*count {
                    let point = Point { place: place.clone(), pass };
                    for on in EVERY.into_iter().filter(|on| *on == On::Sqlite || self.servers.contains(on)) {
                        runs.extend([By::Itself, By::Another].map(|by| run(*script, on, by, point.clone())));
                    }
                }
            }
        }
        runs
    }

    fn sample(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        for (number, place) in self.stories.keys().enumerate() {
            for side in self.sides() {
                runs.push(self.one(place, side, number as u64 + self.seed));
            }
            if self.servers.is_empty() {
                runs.push(self.one(place, Side::Sqlite, number as u64 + self.seed + 1));
            }
        }
        runs
    }

    /// The first stop at a place, the `round`-th time that it is tried.
    pub fn again(&self, place: &str, side: Side, round: u64) -> Run {
        let mut run = self.one(place, side, self.seed + 2 * round);
        run.point = Some(Point { place: place.to_owned(), pass: 1 });
        run
    }

    /// One run at a place, in a story that takes little longer than the shortest. As the turn goes on, so do the story, the server and who
    /// resumes; every fourth time it is the last passing and not the first.
    fn one(&self, place: &str, side: Side, turn: u64) -> Run {
        let pick = |turn: u64, of: usize| (turn % of.max(1) as u64) as usize;
        let stories = &self.stories[place];
        let brief = stories.iter().take_while(|(_, _, took)| *took <= stories[0].2 * LITTLE_LONGER);
        let stories: Vec<_> = brief.collect();
        let &(script, count, _) = stories[pick(turn / 2 + side as u64, stories.len())];
        let pass = if (turn / 2) % 4 == 3 { count } else { 1 };
        let on =
            if side == Side::Sqlite { On::Sqlite } else { self.servers[pick(turn / 2, self.servers.len())] };
        let by = if (turn + side as u64).is_multiple_of(2) { By::Itself } else { By::Another };
        run(script, on, by, Point { place: place.to_owned(), pass })
    }
}

fn run(script: Script, on: On, by: By, point: Point) -> Run {
    Run { script, on, by, point: Some(point), repeat: None }
}

/// Each effect with its answer lost and performed twice, in the shortest story that sends it.
pub fn repeated(passed: &Passed) -> Vec<Run> {
    let (stories, mut runs) = (stories(passed), Vec::new());
    for word in Effect::WORDS.iter().filter(|word| **word != "run_hook") {
        let place = format!("send.{word}.before");
        let Some((script, ..)) = stories.get(&place).map(|stories| stories[0]) else { continue };
        for how in [How::AnswerLost, How::Twice] {
            // Nova takes a second evacuation and damages the guest: that the judge sees it is a test of its own.
            if *word == "evacuate" && how == How::Twice {
                continue;
            }
            for on in EVERY.into_iter().filter(|on| is_long() || *on == On::Sqlite) {
                let repeat = Some(Repeat::new(word, how));
                runs.push(Run { script, on, by: By::Itself, point: None, repeat });
            }
        }
    }
    runs.into_iter().filter(is_wanted).collect()
}

/// Every story undisturbed.
pub fn undisturbed() -> Vec<Run> {
    let run = |script| Run { script, on: On::Sqlite, by: By::Itself, point: None, repeat: None };
    Script::ALL.map(run).to_vec()
}

/// Names of what was passed, for people: sends and the rest by name, commits by number.
pub fn told(places: &BTreeSet<String>) -> String {
    let names: BTreeSet<&str> = places.iter().filter_map(|place| Some(place.rsplit_once('.')?.0)).collect();
    let (commits, others): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| name.starts_with("commit."));
    format!("{}, and {} kinds of commit", others.join(" "), commits.len())
}

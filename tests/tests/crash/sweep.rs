//! The sweep: the real engine stopped at every place on SQLite, PostgreSQL and MariaDB, resumed by itself and by another; and each effect
//! repeated. [`super::plan`] says which runs that is.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::{StreamExt, stream};
use halberd_store::testing::{EVERY, On};
use tokio::sync::OnceCell;

use super::plan::{self, Passed, Plan, Side};
use super::scripts::Script;
use super::twice::{How, Repeat};
use super::{By, Outcome, Run, play};

/// Runs at once on each core. Most of a run is waiting, but an engine at work takes a tenth of a core, and its windows here are short: a run
/// that gets no time sees its leases lapse. Seven leave room for what else the machine does. `HALBERD_CRASH_AT_ONCE` says otherwise.
const AT_ONCE: usize = 7;
/// So often a place at which nobody was stopped is taken again. How often a place is passed depends on pace and so does, for commits that
/// carry several effects, whether it is.
const AGAIN: u64 = 3;

fn at_once() -> usize {
    let given = std::env::var("HALBERD_CRASH_AT_ONCE").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| AT_ONCE * std::thread::available_parallelism().map_or(1, usize::from).min(4))
}

/// Plays them side by side; what was wrong with each is told at once.
async fn play_all(runs: Vec<Run>) -> Vec<(Run, Outcome)> {
    let played = stream::iter(runs).map(|run| async move {
        let played = tokio::spawn({
            let run = run.clone();
            async move { play(&run).await }
        });
        let outcome = match played.await {
            Ok(outcome) => outcome?,
            Err(error) => Outcome { findings: vec![error.to_string()], ..Outcome::default() },
        };
        if !outcome.findings.is_empty() {
            println!("{run}: {}", outcome.findings.join("; "));
        }
        Some((run, outcome))
    });
    played.buffer_unordered(at_once()).filter_map(|played| async move { played }).collect().await
}

fn complain(what: &str, played: &[(Run, Outcome)]) {
    let wrong: Vec<String> = played
        .iter()
        .filter(|(_, outcome)| !outcome.findings.is_empty())
        .map(|(run, outcome)| format!("{run}:\n    {}", outcome.findings.join("\n    ")))
        .collect();
    assert!(wrong.is_empty(), "{what}: {} of {}:\n{}", wrong.len(), played.len(), wrong.join("\n"));
}

/// Every script undisturbed: the list of the places, made from what was passed. What the code names and no script passes is an error.
async fn passed() -> &'static Passed {
    static PASSED: OnceCell<Passed> = OnceCell::const_new();
    PASSED.get_or_init(find_passed).await
}

async fn find_passed() -> Passed {
    let played = play_all(plan::undisturbed()).await;
    let took =
        |(run, outcome): &(Run, Outcome)| format!("{:?} {:.1} s", run.script, outcome.took.as_secs_f64());
    println!("undisturbed: {}", played.iter().map(took).collect::<Vec<_>>().join(", "));
    complain("undisturbed", &played);
    let story = |(run, outcome): (Run, Outcome)| (run.script, (outcome.passed, outcome.took));
    let passed: Passed = played.into_iter().map(story).collect();
    let never = |place: &String| !passed.values().any(|(places, _)| places.contains_key(place));
    let missing: Vec<String> = plan::named_by_the_code().filter(never).collect();
    assert!(missing.is_empty(), "no script of tests/tests/crash/scripts.rs passes {missing:?}");
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_engine_stopped_at_every_place_on_three_databases() {
    let began = Instant::now();
    let plan = Plan::new(passed().await);
    let runs = plan.runs();
    let targets: BTreeSet<(String, Side)> = runs.iter().filter_map(target).collect();
    let places: BTreeSet<String> = plan.places().cloned().collect();
    println!("{} places, {} runs, seed {}: {}", places.len(), runs.len(), plan.seed, plan::told(&places));
    let mut played = play_all(runs).await;
    let mut left = missed(&targets, &played);
    for round in 1..=AGAIN {
        let again = left.iter().map(|(place, side)| plan.again(place, *side, round));
        played.extend(play_all(again.collect()).await);
        left = missed(&targets, &played);
    }
    for on in EVERY {
        tell(on, &played);
    }
    println!("{} runs, {:.0} s", played.len(), began.elapsed().as_secs_f64());
    complain("stopped", &played);
    let named: BTreeSet<String> = plan::named_by_the_code().collect();
    let (named, chance): (Vec<_>, Vec<_>) = left.iter().partition(|(place, _)| named.contains(place));
    println!("commits that only a certain pace makes, at which nobody was stopped: {chance:?}");
    assert!(named.is_empty(), "nobody was stopped at {named:?}");
    assert!(chance.len() * 20 <= targets.len(), "nobody was stopped at {chance:?}");
}

fn target(run: &Run) -> Option<(String, Side)> {
    Some((run.point.as_ref()?.place.clone(), plan::side(run.on)))
}

/// Where nobody was stopped.
fn missed(targets: &BTreeSet<(String, Side)>, played: &[(Run, Outcome)]) -> Vec<(String, Side)> {
    let struck = played.iter().filter(|(_, outcome)| outcome.struck).filter_map(|(run, _)| target(run));
    let struck: BTreeSet<(String, Side)> = struck.collect();
    targets.difference(&struck).cloned().collect()
}

/// Figures of one database.
fn tell(on: On, played: &[(Run, Outcome)]) {
    let mut own: Vec<_> = played.iter().filter(|(run, _)| run.on == on).collect();
    own.sort_by_key(|(_, outcome)| outcome.took);
    let Some((slowest, outcome)) = own.last() else { return };
    let stopped = own.iter().filter(|(_, outcome)| outcome.struck).count();
    let took = outcome.took.as_secs_f64();
    println!("{on:?}: {} runs, {stopped} stopped, slowest {took:.1} s: {slowest}", own.len());
    for by in [By::Itself, By::Another] {
        let resumed =
            own.iter().filter(|(run, _)| run.by == by).filter_map(|(_, outcome)| outcome.resumed_after);
        let mut resumed: Vec<f64> = resumed.map(|after| after.as_secs_f64()).collect();
        resumed.sort_by(f64::total_cmp);
        if let (Some(middle), Some(last)) = (resumed.get(resumed.len() / 2), resumed.last()) {
            println!("    gone on with by {by:?} after {middle:.1} s (p50), {last:.1} s at most");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_repeated() {
    let began = Instant::now();
    let played = play_all(plan::repeated(passed().await)).await;
    println!("{} runs with an effect repeated, {:.0} s", played.len(), began.elapsed().as_secs_f64());
    complain("repeated", &played);
    for (run, _) in &played {
        let repeat = run.repeat.as_ref().expect("each has one");
        assert!(repeat.gone_out() > 0, "{run}: it never went out");
    }
}

/// The judge sees what a second evacuation does: so a run without a finding had none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evacuation_that_really_goes_out_twice_is_found() {
    let repeat = Some(Repeat::new("evacuate", How::Twice));
    let run = Run { script: Script::Death, on: On::Sqlite, by: By::Itself, point: None, repeat };
    let outcome = play(&run).await.expect("SQLite is always there");
    assert!(outcome.findings.iter().any(|text| text.starts_with("I9")), "{:?}", outcome.findings);
}

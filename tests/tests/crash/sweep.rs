//! The sweep: every place of every story, on every database, resumed by the engine itself and by another.
//!
//! `HALBERD_LONG=1` plays all of it. By default a place that is passed often is taken the first and the last time; SQLite is swept whole,
//! where a point that an earlier story had is resumed by one of the two only; of the servers' runs every sixth is played. A printed seed
//! says which ones, and takes others each time (`HALBERD_CRASH_SEED` sets it). `HALBERD_CRASH=TEXT` plays only the runs
//! whose description contains the text, for instance `Death on Sqlite, stopped at send.evacuate.after, resumed by Another`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use halberd_core::effect::Effect;
use halberd_engine::clock;
use halberd_store::testing::{EVERY, On};

use super::points::Point;
use super::scripts::Script;
use super::twice::{How, Repeat};
use super::{By, Outcome, Run, play};

/// Runs at once on each core: most of a run is waiting. `HALBERD_CRASH_AT_ONCE` says otherwise, for a machine that has other work.
const AT_ONCE: usize = 14;

fn at_once() -> usize {
    let given = std::env::var("HALBERD_CRASH_AT_ONCE").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| AT_ONCE * std::thread::available_parallelism().map_or(1, usize::from).min(4))
}

fn is_long() -> bool {
    std::env::var("HALBERD_LONG").is_ok_and(|value| value == "1")
}

/// `HALBERD_CRASH=TEXT` plays only the runs whose description contains it.
fn is_wanted(run: &Run) -> bool {
    std::env::var("HALBERD_CRASH").map_or(true, |text| run.to_string().contains(&text))
}

fn seed() -> u64 {
    let given = std::env::var("HALBERD_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| clock::stamp().0.unsigned_abs() / 1_000_000)
}

/// Plays them side by side; what was wrong with each.
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

/// How often each script passes each place.
type Passed = BTreeMap<Script, BTreeMap<String, usize>>;

/// Every script undisturbed: the list of the places, made from what was passed. What the code can send and no script does is an error.
async fn passed() -> Passed {
    let mut passed = Passed::new();
    let mut missing = Vec::new();
    // What an attempt does beside its order (a restore policy) it leaves out where a controller is slow: a busy machine is given time.
    for _ in 0..3 {
        let run = |script| Run { script, on: On::Sqlite, by: By::Itself, point: None, repeat: None };
        let played = play_all(Script::ALL.map(run).to_vec()).await;
        complain("undisturbed", &played);
        for (run, outcome) in played {
            let places = passed.entry(run.script).or_default();
            for (place, count) in outcome.passed {
                let most = places.entry(place).or_default();
                *most = count.max(*most);
            }
        }
        let never = |place: &String| !passed.values().any(|places| places.contains_key(place));
        let all = Effect::WORDS
            .iter()
            .flat_map(|word| ["before", "after"].map(|when| format!("send.{word}.{when}")));
        missing = all.filter(never).collect();
        if missing.is_empty() {
            return passed;
        }
    }
    panic!("no script of tests/tests/crash/scripts.rs passes {missing:?}");
}

/// Every place of a script; of one that is passed often the first and the last time, or each time.
fn points(passed: &Passed) -> Vec<(Script, Point)> {
    let mut points = Vec::new();
    for (script, places) in passed {
        for (place, count) in places {
            let passes: BTreeSet<usize> = if is_long() { (1..=*count).collect() } else { [1, *count].into() };
            points.extend(passes.into_iter().map(|pass| (*script, Point { place: place.clone(), pass })));
        }
    }
    points
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "many minutes, and only on a quiet machine: `tests/run long`"]
async fn the_real_engine_stopped_at_every_place_on_three_databases() {
    let began = Instant::now();
    let passed = passed().await;
    let points = points(&passed);
    let seed = seed();
    let mut known = BTreeSet::new();
    let mut runs = Vec::new();
    for (number, (script, point)) in points.iter().enumerate() {
        let fresh = known.insert(point);
        let turn = number as u64 + seed;
        let wanted = |on: On, by: By| match on {
            _ if is_long() => true,
            // What another story was stopped at before is resumed by one of the two.
            On::Sqlite => fresh || turn % 2 == by as u64,
            On::Postgres | On::Mariadb => (turn + 2 * on as u64 + by as u64).is_multiple_of(6),
        };
        for on in EVERY {
            for by in [By::Itself, By::Another].into_iter().filter(|by| wanted(on, *by)) {
                runs.push(Run { script: *script, on, by, point: Some(point.clone()), repeat: None });
            }
        }
    }
    let played = play_all(runs.into_iter().filter(is_wanted).collect()).await;
    println!(
        "{} places, {} crash points, {} runs, {:.0} s, seed {seed}",
        passed.values().flat_map(BTreeMap::keys).collect::<BTreeSet<_>>().len(),
        points.len(),
        played.len(),
        began.elapsed().as_secs_f64()
    );
    for on in EVERY {
        tell(on, &played);
    }
    complain("stopped", &played);
    // How often a place is passed depends on pace, and so does, now and then, whether it is.
    let missed: Vec<String> = played
        .iter()
        .filter(|(run, outcome)| !outcome.struck && run.point.as_ref().is_some_and(|point| point.pass == 1))
        .map(|(run, _)| run.to_string())
        .collect();
    println!("never came to its place: {missed:?}");
    assert!(missed.len() * 20 <= played.len(), "too many runs never came to their place: {missed:?}");
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
#[ignore = "many minutes, and only on a quiet machine: `tests/run long`"]
async fn each_effect_repeated() {
    let passed = passed().await;
    let mut runs = Vec::new();
    for word in Effect::WORDS.iter().filter(|word| **word != "run_hook") {
        let place = format!("send.{word}.before");
        let script = passed.iter().find(|(_, places)| places.contains_key(&place)).map(|(script, _)| *script);
        let Some(script) = script else { continue };
        for how in [How::AnswerLost, How::Twice] {
            // Nova takes a second evacuation and damages the guest: see below.
            if *word == "evacuate" && how == How::Twice {
                continue;
            }
            for on in EVERY.into_iter().filter(|on| is_long() || *on == On::Sqlite) {
                runs.push(Run {
                    script,
                    on,
                    by: By::Itself,
                    point: None,
                    repeat: Some(Repeat::new(word, how)),
                });
            }
        }
    }
    let played = play_all(runs.into_iter().filter(is_wanted).collect()).await;
    println!("{} runs with an effect repeated", played.len());
    for (run, _) in &played {
        let repeat = run.repeat.as_ref().expect("each has one");
        assert!(repeat.gone_out() > 0, "{run}: it never went out");
    }
    complain("repeated", &played);
}

/// The judge sees what a second evacuation does: so a run without a finding had none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evacuation_that_really_goes_out_twice_is_found() {
    let repeat = Some(Repeat::new("evacuate", How::Twice));
    let run = Run { script: Script::Death, on: On::Sqlite, by: By::Itself, point: None, repeat };
    let outcome = play(&run).await.expect("SQLite is always there");
    assert!(outcome.findings.iter().any(|text| text.starts_with("I9")), "{:?}", outcome.findings);
}

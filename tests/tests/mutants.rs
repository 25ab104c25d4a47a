//! Each guard of the core taken away in turn: random worlds must break its invariant then, and only then.
//!
//! What is here shows that the checkers would see it. Invariants whose guard stands elsewhere are listed in [`ELSEWHERE`] with what shows
//! them, so that none is forgotten.

use std::sync::Mutex;
use std::time::Instant;

use halberd_core::guard::{Guard, without};
use halberd_tests::virt::seeds;

/// Worlds tried without one guard before it counts as one that nobody misses.
const AT_MOST: u64 = 3_000;

/// What a finding has to begin with, where the mutant shows in a rule besides its own: the consequence is what is seen.
fn shows(guard: Guard) -> &'static [&'static str] {
    match guard {
        Guard::Confirmed | Guard::TwoReadings => &["I1:", "I10:", "I15:"],
        Guard::MayRunElsewhere => &["I1:", "I9:", "I10:"],
        Guard::IntentFirst => &["I7:"],
        Guard::LookUp => &["I9:", "I7:", "I1:"],
        Guard::Drain => &["I11:", "I10:", "I13:"],
        Guard::LiveRecords => &["I13:"],
        Guard::ReportsAlone | Guard::Contradiction => &["I17:"],
        Guard::EveryGuest => &["I24:"],
        Guard::Takeover | Guard::Deadline => &["L4:"],
        Guard::ProofBeforeForceDown => &["I2:"],
        Guard::PowerReread => &["I3:"],
        Guard::PowerOnAsked => &["I12:"],
        Guard::Rate => &["I19:"],
        Guard::Maintenance | Guard::Segment => &["I21:"],
        Guard::Disarmed => &["I22:"],
        Guard::WantedState => &["I25:"],
    }
}

/// Invariants marked P or D whose guard is not a decision of the core, and what shows them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("I4", "the store's unique open key: store suite on three databases, crash_points"),
    ("I5", "the store's compare-and-swap: store suite, model (negative: no epoch)"),
    ("I6", "the store's claim: store suite, rewind"),
    ("I8", "the store's unique key of open evacuate intents: store suite, and I9's mutant here"),
    ("I14", "the agent's start gate: monitors; model (negative: no gate)"),
    ("I16", "the fencer's session: fencing's devices against simulated BMCs that are wired wrongly"),
    ("I20", "brake G5: core's brake tests"),
    ("I23", "no guard: the core has no wall clock; seeds: clocks_that_jump_change_nothing"),
    ("I26", "the listing's age and the guest's own reading: core's recovery tests"),
    ("I28", "the API's idempotency keys: api"),
    ("I30", "the store's event sequences: store suite"),
    ("I36", "bounded queues: engine"),
    ("L1", "no guard: the seeds' L4"),
    ("L4", "no guard: every seed"),
    ("L5", "agents' outboxes and reconciliation: monitors, engine"),
    ("L6", "a hold is judged afresh: scenarios rack-of-three-dark, two-engines; core's brake tests"),
    ("L7", "the breaker: scenario nova-503-for-two-minutes"),
    ("L8", "the order of guests: core's recovery tests"),
    ("L9", "brake SelfDoubt: core's brake tests"),
    ("L10", "the announcer is a task of its own: engine"),
];

/// Guards that no world of [`AT_MOST`] missed: what they forbid takes a destination that dies, returns, and is asked again, in one world.
/// The model refutes it without them (`tests/model`, "repeated by time-out").
const BY_THE_MODEL: &[Guard] = &[Guard::MayRunElsewhere];

/// The first world that misses the guard, and what it broke.
fn missed(guard: Guard) -> Option<(u64, String)> {
    (0..AT_MOST).find_map(|seed| {
        let findings = without(Some(guard), || seeds::run(seed).findings);
        let breach =
            findings.into_iter().find(|finding| shows(guard).iter().any(|rule| finding.starts_with(rule)))?;
        Some((seed, breach))
    })
}

#[test]
fn every_guard_is_missed_when_it_is_gone() {
    let only = std::env::var("HALBERD_MUTANT").ok();
    let wanted: Vec<Guard> = Guard::ALL
        .iter()
        .copied()
        .filter(|guard| match &only {
            Some(only) => only == guard.as_str(),
            None => !BY_THE_MODEL.contains(guard),
        })
        .collect();
    let queue = Mutex::new(wanted.clone());
    let rows = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(guard) = { queue.lock().expect("the queue").pop() } {
                    let began = Instant::now();
                    let row = (guard, missed(guard), began.elapsed().as_millis());
                    match &row.1 {
                        Some((seed, breach)) => println!(
                            "{:>4} without {guard:<24} world {seed:>5}, {:>6} ms: {breach}",
                            guard.invariant(),
                            row.2
                        ),
                        None => println!("{:>4} without {guard:<24} nobody misses it", guard.invariant()),
                    }
                    rows.lock().expect("the rows").push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().expect("the rows");
    rows.sort_by_key(|(guard, ..)| *guard);
    let mut survived = Vec::new();
    for (guard, found, _) in &rows {
        match found {
            Some((seed, _)) => {
                let clean = seeds::run(*seed).findings;
                assert!(clean.is_empty(), "world {seed} breaks a rule with all guards too: {clean:?}");
            }
            None => {
                survived.push(format!("{}: nobody misses '{guard}' in {AT_MOST} worlds", guard.invariant()))
            }
        }
    }
    for guard in BY_THE_MODEL {
        println!("{:>4} without {guard}: by the model", guard.invariant());
    }
    for (invariant, how) in ELSEWHERE {
        println!("{invariant:>4} elsewhere: {how}");
    }
    assert!(survived.is_empty(), "guards that nobody misses:\n{}", survived.join("\n"));
}

//! Promises of a recovery, kept whatever the world does: [`world`] answers at random, [`observer`] keeps books of its own, and each
//! test below asks for one invariant of SAFETY 7. [`views`] asks the pure step itself, with states that no run may reach.

mod alive;
mod cloud;
mod drill;
mod hooked;
mod observer;
mod promises;
mod scenario;
mod starved;
mod views;
mod world;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::effect::Effect;
use crate::runner::{Op, Runner};
use crate::time::{Mono, Stamp};
use observer::Observer;
pub(crate) use scenario::Kind;
use scenario::{Scenario, scenarios};
use world::World;

const CASES: u32 = 600;
/// Far from zero, so that "long ago" exists.
const START: Mono = Mono(5_000_000_000);
const NOON: Stamp = Stamp(1_760_000_000_000_000);

/// One run of a world, to its end or to the last event. `each` sees every poll.
pub(crate) fn run(
    scenario: &Scenario,
    start: Mono,
    stamp: Stamp,
    mut each: impl FnMut(&[Op], &Runner),
) -> Observer {
    let mut world = World::new(scenario.clone(), start, stamp);
    let mut observer = Observer::default();
    let mut runner = world.claim();
    observer.claimed(&world);
    for _ in 0..scenario.events {
        if world.crashes() {
            runner = world.claim();
            observer.claimed(&world);
        }
        world.advance(runner.wake_at());
        while let Some(delivery) = world.deliver() {
            observer.heard(&delivery, &world);
            runner.reply(delivery.reply, world.now);
        }
        world.surround(&mut runner);
        let ops = runner.poll(world.now, world.stamp);
        observer.polled(&ops, &world, &runner);
        each(&ops, &runner);
        for op in ops {
            world.start(op);
        }
    }
    let damage = std::mem::take(&mut world.cloud.damage);
    observer.broken.extend(damage.into_iter().map(|text| ("I9", text)));
    observer
}

/// The same cases each time: a red test stays red until it is mended.
fn cases(count: u32) -> TestRunner {
    let config =
        Config { cases: count, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Runs the cases and asks for one invariant; `reached` must have been seen that often, or the test shows nothing.
pub(crate) fn holds(which: &str, kind: Kind, reached: &[(&str, u32)]) {
    let counts = std::cell::RefCell::new(std::collections::BTreeMap::<&str, u32>::new());
    let outcome = cases(CASES).run(&scenarios(kind), |scenario| {
        let observer = run(&scenario, START, NOON, |_, _| {});
        for (what, count) in &observer.reached {
            *counts.borrow_mut().entry(what).or_default() += count;
        }
        match observer.broken.iter().find(|(id, _)| *id == which) {
            Some((_, why)) => Err(TestCaseError::fail(format!("{which}: {why}\n{}", observer.story()))),
            None => Ok(()),
        }
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    for (what, least) in reached {
        let seen = counts.borrow().get(what).copied().unwrap_or(0);
        assert!(seen >= *least, "{what}: reached {seen} times of {least}; {:?}", counts.borrow());
    }
}

#[test]
fn i1_no_evacuation_without_a_proof_and_a_second_look() {
    holds("I1", Kind::Host, &[("evacuate", 100), ("evacuate by waiver", 20), ("evacuate by statement", 20)]);
}

/// A host with a watchdog, its BMC dark or none at all; each flaw that makes a watchdog unfit is drawn.
#[test]
fn a_watchdogs_lease_proves_only_by_its_time() {
    let reached = [("proof by lease", 40), ("evacuate by lease", 40), ("life after a lease's proof", 5)];
    for which in ["I1", "I2", "I3", "I15", "I17", "I17 statement", "L3", "10.3"] {
        holds(which, Kind::Watched, &reached);
    }
}

#[test]
fn i2_no_force_down_before_a_proof() {
    holds("I2", Kind::Host, &[("mark down", 100)]);
}

#[test]
fn i3_power_is_young_and_identified_when_a_guest_is_sent() {
    holds("I3", Kind::Host, &[("evacuate", 100)]);
}

#[test]
fn i8_one_open_evacuate_intent_a_guest() {
    holds("I8", Kind::Host, &[("evacuate", 100), ("repeat", 30)]);
}

#[test]
fn i9_no_second_evacuation_beside_a_live_one() {
    holds("I9", Kind::Host, &[("repeat", 30), ("unknown outcome", 20)]);
}

#[test]
fn i11_power_off_only_in_an_open_recovery() {
    holds("I11", Kind::Host, &[("power off", 100)]);
    holds("I11", Kind::Return, &[("undone", 50)]);
}

#[test]
fn i12_power_on_is_asked_for_and_comes_after_the_drain() {
    holds("I12", Kind::Return, &[("power on by a person", 20), ("power on by policy", 20)]);
}

#[test]
fn i12_a_host_s_own_recovery_never_switches_on() {
    // No wildcard: a new effect has to be looked at here.
    let powers = |effect: &Effect| match effect {
        Effect::PowerOff { .. } => Some("off"),
        Effect::PowerOn { .. } => Some("on"),
        Effect::MarkDown { .. }
        | Effect::Disable { .. }
        | Effect::Enable { .. }
        | Effect::ForceUp { .. }
        | Effect::PrepareReserved { .. }
        | Effect::Lock { .. }
        | Effect::Unlock { .. }
        | Effect::ResetToError { .. }
        | Effect::ResetToActive { .. }
        | Effect::Evacuate { .. }
        | Effect::Stop { .. }
        | Effect::Start { .. }
        | Effect::RevokeSessions { .. }
        | Effect::RestorePolicy { .. }
        | Effect::RunHook { .. } => None,
    };
    let deeds = std::cell::RefCell::new(Vec::new());
    for kind in [Kind::Host, Kind::Ordered] {
        let outcome = cases(100).run(&scenarios(kind), |scenario| {
            run(&scenario, START, NOON, |ops, _| {
                deeds.borrow_mut().extend(ops.iter().filter_map(|op| match op {
                    Op::Effect { effect, .. } => powers(effect),
                    _ => None,
                }));
            });
            Ok(())
        });
        outcome.expect("nothing is asserted within");
    }
    assert!(!deeds.borrow().is_empty() && deeds.borrow().iter().all(|deed| *deed == "off"));
}

#[test]
fn i13_a_host_is_given_back_only_when_it_is_clean() {
    holds("I13", Kind::Return, &[("undone", 50)]);
}

#[test]
fn i17_life_after_the_proof_stops_evacuations() {
    holds("I17", Kind::Host, &[("evacuate", 100)]);
}

#[test]
fn i21_maintenance_before_the_order_cancels_and_after_it_does_not() {
    holds("I21", Kind::Host, &[("cancelled by maintenance", 10), ("went on under maintenance", 5)]);
}

#[test]
fn i24_each_guest_has_one_end_with_a_reason() {
    holds("I24", Kind::Host, &[("closed", 50)]);
}

#[test]
fn i25_success_is_the_wanted_state() {
    holds("I25", Kind::Host, &[("succeeded", 50)]);
}

#[test]
fn i26_only_guests_still_listed_are_sent() {
    holds("I26", Kind::Host, &[("evacuate", 100), ("repeat", 30)]);
}

#[test]
fn l3_every_wait_has_a_reason_and_an_end() {
    holds("L3", Kind::Host, &[("wait", 1_000)]);
    holds("L3", Kind::Return, &[("wait", 500)]);
}

#[test]
fn a_cancelled_recovery_leaves_nothing_set_in_nova() {
    holds("10.3", Kind::Host, &[("cancelled", 20)]);
}

/// I23: what is yielded depends on spans alone.
#[test]
fn i23_shifted_clocks_change_nothing() {
    for kind in [Kind::Host, Kind::Return] {
        let outcome = cases(CASES / 2).run(&scenarios(kind), |scenario| {
            let trace = |start: Mono, stamp: Stamp| {
                let mut polls = Vec::new();
                run(&scenario, start, stamp, |ops, runner| {
                    polls.push((ops.to_vec(), runner.wake_at().0 - start.0))
                });
                polls
            };
            let words = |polls: &[(Vec<Op>, u64)]| -> Vec<String> {
                let word = |op: &Op| match op {
                    Op::Commit(commit) => {
                        format!("{} {} {:?}", commit.recovery.word(), commit.recovery.reason, commit.intents)
                    }
                    other => format!("{other:?}"),
                };
                polls
                    .iter()
                    .map(|(ops, wake)| format!("{wake} {:?}", ops.iter().map(word).collect::<Vec<_>>()))
                    .collect()
            };
            let plain = trace(START, NOON);
            if plain != trace(Mono(START.0 + 86_400_000_000), NOON) {
                return Err(TestCaseError::fail("a later monotonic clock decides otherwise"));
            }
            if words(&plain) != words(&trace(START, Stamp(NOON.0 - 86_400_000_000))) {
                return Err(TestCaseError::fail("a wall clock a day back decides otherwise"));
            }
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{failure}");
        }
    }
}

#[test]
fn i15_a_proof_rests_on_the_newest_order() {
    holds("I15", Kind::Host, &[("proof", 100)]);
}

#[test]
fn i17_a_statement_is_not_used_after_the_host_was_heard() {
    holds("I17 statement", Kind::Host, &[("evacuate by statement", 20)]);
}

/// A person's order skips belief, and nothing else.
#[test]
fn what_a_person_ordered_keeps_every_promise_of_a_failure() {
    for which in ["I1", "I2", "I3", "I8", "I9", "I11", "I15", "I17", "I24", "I26", "10.3"] {
        holds(which, Kind::Ordered, &[("evacuate", 100), ("power off", 100)]);
    }
}

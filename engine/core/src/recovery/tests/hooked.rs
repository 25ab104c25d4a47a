//! The tiny world's hooks, and the promises about them.

use std::time::Duration;

use super::observer::Observer;
use super::{Kind, holds};
use crate::chance::Chance;
use crate::effect::{Done, Effect};
use crate::hook::{HookCall, HookReport, HookSpec, Hooks, OnFailure, Point, RunState};
use crate::recovery::{HOOK_WORD, StateWord};
use crate::runner::Commit;

/// Up to three hooks at random points.
pub(super) fn draw(dice: &mut Chance) -> Hooks {
    let number = 1 + dice.number() % 3;
    let mut spec = |n: u64| {
        let points = dice.number() % 7 + 1;
        let at = Point::ALL.iter().enumerate().filter(|(bit, _)| points & (1 << bit) > 0);
        let hold = dice.number().is_multiple_of(2);
        HookSpec {
            name: format!("hook-{n}"),
            at: at.map(|(_, point)| *point).collect(),
            timeout_s: 20,
            attempts: 1 + (dice.number() % 2) as u32,
            on_failure: if hold { OnFailure::Hold } else { OnFailure::Continue },
        }
    };
    Hooks::new((0..number).map(&mut spec).collect())
}

/// How a run ends, and after how long.
pub(super) fn run(dice: &mut Chance) -> (Duration, Done) {
    let took_ms = if dice.number().is_multiple_of(6) { 20_000 } else { dice.number() % 3_000 };
    let report =
        |ok| HookReport { ok, how: "as drawn".into(), took_ms, stdout: String::new(), stderr: String::new() };
    let done = match dice.number() % 12 {
        0..=6 => Done::Hook { report: report(true) },
        7..=9 => Done::Hook { report: report(false) },
        10 => Done::Unknown { text: "cut off".into() },
        _ if dice.number().is_multiple_of(4) => Done::Gone { text: "no longer configured".into() },
        _ => Done::NotExecuted { text: "no lease".into() },
    };
    (Duration::from_millis(took_ms), done)
}

impl Observer {
    /// What a commit says about hooks, held against what it does.
    pub(super) fn hooks_drafted(&mut self, commit: &Commit) {
        let recovery = &commit.recovery;
        if recovery.hooks.apply.is_empty() {
            return;
        }
        let begins = commit.intents.iter().filter(|intent| intent.effect == HOOK_WORD).count();
        let does = |word: &str| commit.intents.iter().any(|intent| intent.effect == word);
        let word = recovery.word();
        let passed = |point: Point| {
            let mut specs = recovery.hooks.at(point);
            specs.all(|spec| recovery.hooks.run(point, &spec.name).is_some_and(|run| run.state.lets_pass()))
        };
        let (pre, main, post) = (passed(Point::Pre), passed(Point::Main), passed(Point::Post));
        self.demand(begins <= 1, "hooks", "two hooks at once");
        self.demand(begins == 0 || !word.is_closed(), "hooks", "a hook is begun by the close");
        self.demand(!does("power_off") || pre, "hooks", "an off order before every pre hook has ended");
        self.demand(!does("mark_down") || pre, "hooks", "marked down before every pre hook has ended");
        self.demand(!does("evacuate") || main, "hooks", "an evacuation before every main hook has ended");
        let closed_well = matches!(word, StateWord::Finished | StateWord::Failed);
        self.demand(!closed_well || post, "hooks", "closed before every post hook has ended");
        if word.is_closed() {
            let left = self.hooks_open.iter().any(|id| !commit.resolved.iter().any(|end| end.intent == *id));
            self.demand(!left, "hooks", "a hook's intent is open after the close");
        }
        for run in &recovery.hooks.runs {
            let known = self.hook_ends.get(&run.id).copied();
            let again = known.is_some_and(|state| state.lets_pass() && state != run.state);
            self.demand(!again, "hooks", "a hook that had ended is run again");
        }
    }

    pub(super) fn hooks_stored(&mut self, commit: &Commit) {
        for run in &commit.recovery.hooks.runs {
            if self.hook_ends.insert(run.id, run.state) == Some(run.state) {
                continue;
            }
            match run.state {
                RunState::Done => self.reach("hook done"),
                RunState::Held => self.reach("hook held"),
                RunState::Released => self.reach("hook released"),
                RunState::Abandoned => self.reach("hook abandoned"),
                RunState::Failed => self.reach("hook failed"),
                RunState::Open | RunState::Skipped => {}
            }
        }
        let closed_well = matches!(commit.recovery.word(), StateWord::Finished | StateWord::Failed);
        if closed_well && !commit.recovery.hooks.apply.is_empty() {
            self.reach("closed after hooks");
        }
        for end in &commit.resolved {
            self.hooks_open.remove(&end.intent);
        }
        let begun = commit.intents.iter().filter(|intent| intent.effect == HOOK_WORD);
        self.hooks_open.extend(begun.map(|intent| intent.id));
    }

    pub(super) fn hook_begun(&mut self, effect: &Effect) {
        if let Effect::RunHook { call } = effect {
            let HookCall { run, .. } = **call;
            let alone = self.hooks_running.insert(run);
            self.demand(alone, "hooks", "a hook runs twice at once");
        }
    }
}

#[test]
fn a_point_is_passed_only_when_its_hooks_have_ended() {
    let reached = [
        ("hook done", 200),
        ("hook held", 50),
        ("hook released", 20),
        ("hook abandoned", 5),
        ("hook failed", 50),
        ("closed after hooks", 20),
    ];
    holds("hooks", Kind::Hooked, &reached);
}

#[test]
fn hooks_prove_nothing() {
    for which in ["I1", "I2", "I3"] {
        holds(which, Kind::Hooked, &[("evacuate", 50)]);
    }
}

#[test]
fn a_slow_hook_shields_nobody() {
    holds("I17", Kind::Hooked, &[("evacuate", 50)]);
    holds("I21", Kind::Hooked, &[("cancelled by maintenance", 10)]);
    holds("10.3", Kind::Hooked, &[("cancelled", 10)]);
}

#[test]
fn a_recovery_with_hooks_waits_with_a_reason_and_ends_as_others_do() {
    holds("L3", Kind::Hooked, &[("wait", 500)]);
    holds("I24", Kind::Hooked, &[("closed", 20)]);
    holds("I7", Kind::Hooked, &[("evacuate", 50)]);
}

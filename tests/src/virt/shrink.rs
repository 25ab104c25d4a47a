//! A broken seed's shortest story: what need not have happened is left out, piece by piece, while the same rule stays broken.

use std::time::{Duration, Instant};

use super::seeds::{self, Shown};
use super::sim::{Cue, Setup};

/// What is left of a broken world.
#[derive(Debug)]
pub struct Shrunk {
    pub setup: Setup,
    pub cues: Vec<(u64, Cue)>,
    pub shown: Shown,
    pub tried: usize,
}

/// The rule that a finding breaks: its first word.
fn rule(finding: &str) -> &str {
    finding.split([':', ' ']).next().unwrap_or(finding)
}

/// Leaves out what can be left out of a world that breaks a rule. Bounded: what is found by the limit is the answer.
pub fn shrink(setup: Setup, cues: Vec<(u64, Cue)>, limit: Duration) -> Shrunk {
    let shown = seeds::play(setup.clone(), cues.clone());
    let broken: Vec<String> = shown.findings.iter().map(|finding| rule(finding).to_owned()).collect();
    let mut best = Shrunk { setup, cues, shown, tried: 0 };
    let end = Instant::now() + limit;
    let still = |setup: &Setup, cues: &[(u64, Cue)]| {
        let shown = seeds::play(setup.clone(), cues.to_vec());
        shown
            .findings
            .iter()
            .any(|finding| broken.iter().any(|known| known == rule(finding)))
            .then_some(shown)
    };
    for simpler in SIMPLER {
        let mut setup = best.setup.clone();
        simpler(&mut setup);
        best.tried += 1;
        if let Some(shown) = still(&setup, &best.cues) {
            (best.setup, best.shown) = (setup, shown);
        }
    }
    // What heals the world stays: without it the end shows nothing.
    let (mut struck, heals): (Vec<_>, Vec<_>) =
        best.cues.iter().cloned().partition(|(at, _)| *at < seeds::HEAL_AT);
    // Halves first, then single cues, until nothing can go.
    let mut size = struck.len().div_ceil(2).max(1);
    loop {
        let before = struck.len();
        let mut from = 0;
        while from < struck.len() && Instant::now() < end {
            let mut left = struck.clone();
            left.drain(from..(from + size).min(left.len()));
            let cues = [left.clone(), heals.clone()].concat();
            best.tried += 1;
            match still(&best.setup, &cues) {
                Some(shown) => (struck, best.cues, best.shown) = (left, cues, shown),
                None => from += size,
            }
        }
        if Instant::now() >= end || (size == 1 && struck.len() == before) {
            return best;
        }
        size = (size / 2).max(1);
    }
}

/// Rates that may be zero, and engines that need not be there.
const SIMPLER: &[fn(&mut Setup)] = &[
    |setup| setup.faults.loss = 0,
    |setup| setup.faults.unavailable = 0,
    |setup| setup.faults.ambiguous = 0,
    |setup| setup.faults.lies = 0,
    |setup| setup.clock_jumps.clear(),
    |setup| setup.world.rebuild_latency_ms = (500, 500),
    |setup| setup.world.stopped_every = 0,
];

impl std::fmt::Display for Shrunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let setup = &self.setup;
        writeln!(
            f,
            "{} hosts, {} engines, agents {}, {:?}, {:?} (after {} tries)",
            setup.world.hosts, setup.engines, setup.agents, setup.policy.profile, setup.faults, self.tried
        )?;
        let mut cues: Vec<_> = self.cues.iter().collect();
        cues.sort_by_key(|cue| cue.0);
        for (at, cue) in cues {
            writeln!(f, "  {:>7} ms  {cue:?}", at)?;
        }
        writeln!(f, "{}\n{}", self.shown.findings.join("\n"), self.shown.story)
    }
}

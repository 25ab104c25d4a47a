//! Operators' hooks in virtual time: each ends as a script or a seed says, and a judge that knows nothing of the product's code looks at
//! when they ran.

use std::collections::BTreeMap;

use halberd_core::chance::Chance;
use halberd_core::hook::{HookCall, HookReport, HookSpec, Hooks, OnFailure, Point};
use halberd_core::id::RecoveryId;
use halberd_core::recovery::StateWord;
use halberd_core::recovery::Subject;
use uuid::Uuid;

use super::checker::Findings;
use super::sim::Sim;

/// A hook of the engines' configuration.
#[derive(Clone, Debug)]
pub struct Configured {
    pub spec: HookSpec,
    pub kinds: Vec<String>,
}

impl Configured {
    /// Reads `NAME at=pre,main timeout=30 attempts=2 on_failure=hold recoveries=host`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Configured, String> {
        let mut words = text.split_whitespace();
        let name = words.next().ok_or("a hook needs a name")?.to_owned();
        let mut spec =
            HookSpec { name, at: Vec::new(), timeout_s: 30, attempts: 1, on_failure: OnFailure::Continue };
        let mut kinds = ["host", "instance", "process"].map(String::from).to_vec();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not key=value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{key}: '{value}' is no number"));
            match key {
                "at" => {
                    let points: Result<Vec<Point>, _> = value.split(',').map(str::parse).collect();
                    spec.at = points.map_err(|error| error.to_string())?;
                }
                "timeout" => spec.timeout_s = number()?,
                "attempts" => spec.attempts = u32::try_from(number()?).map_err(|error| error.to_string())?,
                "on_failure" => {
                    spec.on_failure =
                        value.parse().map_err(|error: halberd_core::UnknownWord| error.to_string())?;
                }
                "recoveries" => kinds = value.split(',').map(Into::into).collect(),
                other => return Err(format!("unknown key '{other}'")),
            }
        }
        Ok(Configured { spec, kinds })
    }
}

/// How a hook ends from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Well(u64),
    Fails(u64),
    Hangs,
    /// Drawn at each run.
    Chance,
}

/// One run, as the world saw it.
#[derive(Clone, Debug)]
pub struct Ran {
    pub recovery: RecoveryId,
    pub run: Uuid,
    pub hook: String,
    pub at: Point,
    pub engine: usize,
    pub began: u64,
    /// When it ended by itself, or was ended with its engine or its recovery.
    pub ended: u64,
}

/// The hooks of all engines.
#[derive(Debug)]
pub struct HookWorld {
    configured: Vec<Configured>,
    how: BTreeMap<String, How>,
    dice: Chance,
    pub ran: Vec<Ran>,
}

/// A hook that nobody spoke of takes this long.
const USUAL_MS: u64 = 2_000;

impl HookWorld {
    pub fn new(configured: Vec<Configured>, how: How, seed: u64) -> HookWorld {
        let how = configured.iter().map(|hook| (hook.spec.name.clone(), how)).collect();
        HookWorld { configured, how, dice: Chance::new(seed ^ 0x400c), ran: Vec::new() }
    }

    /// What a recovery of this kind is opened with.
    pub fn for_kind(&self, kind: &str) -> Hooks {
        let wanted = self.configured.iter().filter(|hook| hook.kinds.iter().any(|known| known == kind));
        Hooks::new(wanted.map(|hook| hook.spec.clone()).collect())
    }

    pub fn set(&mut self, hook: &str, how: How) {
        self.how.insert(hook.to_owned(), how);
    }

    /// Begins a run; how long it takes and how it ends.
    pub fn begin(
        &mut self,
        now: u64,
        engine: usize,
        recovery: RecoveryId,
        call: &HookCall,
    ) -> (u64, HookReport) {
        let limit = call.timeout_s * 1_000;
        let how = match self.how.get(&call.hook).copied().unwrap_or(How::Well(USUAL_MS)) {
            How::Chance => match self.dice.number() % 5 {
                0 => How::Fails(self.dice.number() % 3_000),
                1 => How::Hangs,
                _ => How::Well(self.dice.number() % 6_000),
            },
            how => how,
        };
        let (ms, ok, how) = match how {
            How::Well(ms) if ms < limit => (ms, true, "exit 0".to_owned()),
            How::Fails(ms) if ms < limit => (ms, false, "exit 3".to_owned()),
            _ => (limit, false, format!("no end within {} s", call.timeout_s)),
        };
        self.ran.push(Ran {
            recovery,
            run: call.run,
            hook: call.hook.clone(),
            at: call.at,
            engine,
            began: now,
            ended: now + ms,
        });
        (ms, HookReport { ok, how, took_ms: ms, stdout: String::new(), stderr: String::new() })
    }

    /// Its engine died or stands still, or its recovery closed: what runs is ended.
    pub fn cut(&mut self, now: u64, engine: usize, recovery: Option<RecoveryId>) {
        let running = self.ran.iter_mut().filter(|ran| ran.engine == engine && ran.ended > now);
        for ran in running.filter(|ran| recovery.is_none_or(|id| ran.recovery == id)) {
            ran.ended = now;
        }
    }
}

/// The rules of hooks, at every moment of any run.
pub fn judge(sim: &Sim) -> Findings {
    let mut found = Vec::new();
    for (number, one) in sim.hooks.ran.iter().enumerate() {
        let what = format!("hook {} ({}) at {} ms", one.hook, one.at, one.began);
        for other in sim.hooks.ran[number + 1..].iter().filter(|other| other.run == one.run) {
            if other.began < one.ended && one.began < other.ended {
                found.push(format!("H1: {what} runs twice at once: again at {} ms", other.began));
            }
        }
        let told =
            sim.store.audit.iter().find(|line| {
                line.entry.what == "hook_done" && line.entry.detail["run"] == one.run.to_string()
            });
        if told.is_some_and(|line| line.at < one.began) {
            found.push(format!("H2: {what} ran again although its good end was stored"));
        }
        let Some((row, _)) = sim.store.recoveries.get(&one.recovery) else { continue };
        if row.closed_at.is_some_and(|at| at.0 / 1_000 < i64::try_from(one.began).unwrap_or(i64::MAX)) {
            found.push(format!("H3: {what} began after its recovery had closed"));
        }
        if one.at == Point::Post && row.word() == StateWord::Cancelled {
            found.push(format!("H3: {what} ran for a cancelled recovery"));
        }
        // A deed of the next point marks the end of this one.
        let next = match (one.at, &row.subject) {
            (Point::Pre, Subject::Host { .. }) => "power_off",
            (Point::Pre, Subject::Guest { .. }) => "stop",
            (Point::Pre, Subject::Process { .. }) => "disable",
            (Point::Main, Subject::Host { .. }) => "evacuate",
            (Point::Main, Subject::Guest { .. }) => "start",
            _ => continue,
        };
        let first = sim
            .store
            .intents
            .values()
            .filter(|row| row.intent.recovery == Some(one.recovery) && row.intent.effect == next);
        if first.map(|row| row.at).min().is_some_and(|at| at < one.began) {
            found.push(format!("H4: {what} ran after the first {next}"));
        }
    }
    for (row, _) in sim.store.recoveries.values() {
        let deeds = |word: &str| {
            sim.store
                .intents
                .values()
                .any(|deed| deed.intent.recovery == Some(row.id) && deed.intent.effect == word)
        };
        let passed = |point: Point| {
            row.hooks
                .at(point)
                .all(|spec| row.hooks.run(point, &spec.name).is_some_and(|run| run.state.lets_pass()))
        };
        let closed = matches!(row.word(), StateWord::Finished | StateWord::Failed);
        for (point, done) in
            [(Point::Pre, deeds("power_off")), (Point::Main, deeds("evacuate")), (Point::Post, closed)]
        {
            let host = matches!(row.subject, Subject::Host { .. });
            if host && done && !passed(point) {
                found.push(format!("H5: {} went past {point} without its hooks", row.host_name));
            }
        }
    }
    found
}

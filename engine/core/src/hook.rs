//! Hooks: what an operator has the engine run at fixed points of a recovery, where the original had custom tasks.
//!
//! A hook is told, never asked. Its end is no evidence and no proof, it cannot skip a step, and it cannot make one happen: all it
//! can do is delay, for as long as its timeout and attempts allow, or hold the recovery for a person where its section says so.
//! Which hooks a recovery has, and how far they are, is stored with it: what has ended is not run again after a restart, and what a
//! crash cut off is run again under the same id, so a receiver drops the repeat (at least once).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{HostId, InstanceId, NotificationId, RecoveryId, SegmentId};
use crate::text_enum;

text_enum! {
    /// When, in a recovery.
    pub enum Point {
        /// Permitted, and nothing was done to the cloud yet.
        Pre => "pre",
        /// The subject is down for certain (host: proved off and marked down; guest: stopped; process: its host out of scheduling),
        /// and nothing was brought back yet.
        Main => "main",
        /// Everything has its end, known to the hook; the recovery is about to close.
        Post => "post",
    }
}

text_enum! {
    /// What a hook's failure means for its recovery. There is no `fail`: a host that was fenced for nothing is worse than either.
    pub enum OnFailure {
        /// The recovery goes on; an event tells.
        Continue => "continue",
        /// The recovery stops at this point until a person has it run again or goes on without it.
        Hold => "hold",
    }
}

/// A hook as its recovery knows it: as configured when that opened (F73). What it runs is looked up by name when it is run, so a
/// broken one can be mended under a recovery that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookSpec {
    pub name: String,
    pub at: Vec<Point>,
    /// Seconds for one attempt.
    pub timeout_s: u64,
    /// Runs until one ends well, before it counts as failed.
    pub attempts: u32,
    pub on_failure: OnFailure,
}

text_enum! {
    /// How far one hook is at one point.
    pub enum RunState {
        /// Begun; perhaps running, perhaps cut off with its engine.
        Open => "open",
        Done => "done",
        /// Failed, and the recovery went on.
        Failed => "failed",
        /// Failed, and the recovery waits for a person.
        Held => "held",
        /// Failed, and a person let the recovery go on.
        Released => "released",
        /// No longer configured when its turn came.
        Skipped => "skipped",
        /// Its recovery closed while it ran.
        Abandoned => "abandoned",
    }
}

impl RunState {
    /// Whether the recovery may go on past it.
    pub fn lets_pass(self) -> bool {
        !matches!(self, Self::Open | Self::Held)
    }
}

/// One hook at one point of one recovery, over all its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// What a receiver tells repeats by: the same at each attempt, after a crash and after an operator's retry.
    pub id: Uuid,
    pub hook: String,
    pub at: Point,
    /// The present attempt, or the last; from 1. A run that was cut off is repeated as the same attempt.
    pub attempt: u32,
    /// The attempt after which it counts as failed; an operator's retry raises it.
    pub allowed: u32,
    pub state: RunState,
    /// How it ended, for people.
    pub said: String,
}

/// How a recovery will end once its post hooks have ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub failed: bool,
    pub why: String,
}

/// What is stored of a recovery's hooks. Empty for one without any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Those that apply, in the configuration's order.
    pub apply: Vec<HookSpec>,
    /// Those begun, in the order of their beginning.
    pub runs: Vec<HookRun>,
    /// Set when everything else has ended: from here on only post hooks stand between the recovery and its end.
    pub closing: Option<Closing>,
}

impl Hooks {
    pub fn new(apply: Vec<HookSpec>) -> Hooks {
        Hooks { apply, ..Hooks::default() }
    }

    /// Those of a point, in order.
    pub fn at(&self, point: Point) -> impl Iterator<Item = &HookSpec> {
        self.apply.iter().filter(move |spec| spec.at.contains(&point))
    }

    pub fn run(&self, point: Point, hook: &str) -> Option<&HookRun> {
        self.runs.iter().find(|run| run.at == point && run.hook == hook)
    }

    /// The one that a person is asked about.
    pub fn held(&self) -> Option<&HookRun> {
        self.runs.iter().find(|run| run.state == RunState::Held)
    }
}

/// One run of a hook: all that whoever performs it may know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCall {
    pub run: Uuid,
    pub hook: String,
    pub at: Point,
    pub attempt: u32,
    pub timeout_s: u64,
    pub about: About,
}

/// What a hook is told of its recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub recovery: RecoveryId,
    /// `host`, `instance` or `process`.
    pub kind: String,
    /// The host's name in Nova.
    pub host: String,
    pub host_id: HostId,
    pub instance: Option<InstanceId>,
    pub process: Option<String>,
    pub segment: SegmentId,
    pub notification: NotificationId,
    /// At post: `finished` or `failed`.
    pub outcome: Option<String>,
}

/// How one run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// Exit code 0, or a 2xx.
    pub ok: bool,
    /// In words: `exit 3`, `no end within 30 s`, `503 ...`.
    pub how: String,
    pub took_ms: u64,
    /// The last of what it wrote, shown to operators.
    pub stdout: String,
    pub stderr: String,
}

/// An operator's word about a held hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookWish {
    /// Run it again; else go on without it.
    pub retry: bool,
    /// Who, and why.
    pub who: String,
}

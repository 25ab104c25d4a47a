//! Recoveries: durable units of work, one failure of one host, guest or process each.
//!
//! ```text
//! host      Confirming -failed, fresh, permitted-> Fencing -proof, marked down, read off again-> Evacuating -> Verifying -> Finished | Failed
//!            |  ^   ^  \- alive -> Cancelled         |  \                                          \______________\__ new fence
//!            v  |   \------- order retired ----------/   \_______________________________________________ needs a person
//!           Held (a brake withholds)                              NeedsOperator (stays open, goes on with what needs no person)
//! instance  Confirming -> Stopping -> Starting -> Verifying -> Finished | Failed
//! process   Confirming -> Disabling -> Verifying -> Returning -well again, or a person's word-> Finished | Failed
//! return    Draining -> Out -seen again-> Admitted -records completed, no stray-> Finished     (opened by a host's close)
//! ```
//!
//! There is no way from Confirming to Evacuating: [`host::HostState::Evacuating`] carries a [`crate::fence::FenceProof`], which
//! only [`crate::fence`] can make. There is none back from a written order to Cancelled: an order can only be retired
//! (DESIGN 10.3).
//!
//! `step` of each kind is pure: from what is stored, what was seen and the time, to the next move.

mod hooks;
pub mod host;
pub mod instance;
pub mod process;
#[cfg(test)]
pub(crate) mod tests;
mod vmove;

use serde::{Deserialize, Serialize};

pub use vmove::{LockMark, Stage, Vmove, VmoveStatus};

pub(crate) use hooks::WORD as HOOK_WORD;

use crate::hook::Hooks;
use crate::id::{EngineId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId};
use crate::notification::NotificationStatus;
use crate::policy::Policy;
use crate::segment::RecoveryMethod;
use crate::text_enum;
use crate::time::Stamp;

/// What a recovery is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Subject {
    Host {
        host: HostId,
    },
    Guest {
        instance: InstanceId,
        host: HostId,
    },
    Process {
        host: HostId,
        name: String,
    },
    /// A fenced host's way back.
    Return {
        host: HostId,
    },
}

impl Subject {
    /// Unique while the recovery is open (DESIGN 10.12): at most one per subject (I4).
    pub fn open_key(&self) -> String {
        match self {
            Self::Host { host } => format!("host:{host}"),
            Self::Guest { instance, .. } => format!("guest:{instance}"),
            Self::Process { host, name } => format!("process:{host}:{name}"),
            Self::Return { host } => format!("return:{host}"),
        }
    }

    pub fn host(&self) -> HostId {
        match self {
            Self::Host { host }
            | Self::Guest { host, .. }
            | Self::Process { host, .. }
            | Self::Return { host } => *host,
        }
    }

    /// `host`, `instance`, `process` or `return`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Host { .. } => "host",
            Self::Guest { .. } => "instance",
            Self::Process { .. } => "process",
            Self::Return { .. } => "return",
        }
    }
}

text_enum! {
    /// The state's word, for lists, wires and databases; the data stands in [`Body`].
    pub enum StateWord {
        Confirming => "confirming",
        Held => "held",
        Fencing => "fencing",
        Evacuating => "evacuating",
        Verifying => "verifying",
        NeedsOperator => "needs_operator",
        Stopping => "stopping",
        Starting => "starting",
        Disabling => "disabling",
        Returning => "returning",
        Draining => "draining",
        Out => "out",
        Admitted => "admitted",
        Finished => "finished",
        Failed => "failed",
        Cancelled => "cancelled",
    }
}

impl StateWord {
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }

    /// v1's word for the notification behind it (DESIGN 10.9).
    pub fn notification_status(self) -> NotificationStatus {
        match self {
            Self::NeedsOperator => NotificationStatus::Error,
            // A dead process' host is out of scheduling: with that the original was done, and its clients wait for it (contract
            // 3.7). What we watch for afterwards is beyond v1.
            Self::Finished | Self::Returning => NotificationStatus::Finished,
            Self::Failed => NotificationStatus::Failed,
            Self::Cancelled => NotificationStatus::Ignored,
            _ => NotificationStatus::Running,
        }
    }
}

/// What only the kind knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Body {
    Host(host::HostRecovery),
    Instance(instance::InstanceRecovery),
    Process(process::ProcessRecovery),
    Return(crate::admission::HostReturn),
}

impl Body {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Host(body) => body.state.word(),
            Self::Instance(body) => body.state.word(),
            Self::Process(body) => body.state.word(),
            Self::Return(body) => body.state.word(),
        }
    }
}

/// The workflow this version writes; stored, so that N-1 and N can tell each other's (I32).
pub const WORKFLOW_VERSION: u32 = 1;

/// A recovery as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    pub id: RecoveryId,
    /// The report behind it; an engine's own verdict writes one too.
    pub notification: NotificationId,
    pub segment: SegmentId,
    pub subject: Subject,
    /// The host's name in Nova.
    pub host_name: String,
    pub method: RecoveryMethod,
    /// As it was when the recovery opened (F73).
    pub policy: Policy,
    pub body: Body,
    /// What an operator has run beside it, and how far that is.
    pub hooks: Hooks,
    /// What it waits for or why it ended, for people.
    pub reason: String,
    pub workflow_version: u32,
    pub owner: Option<EngineId>,
    /// Raised by each claim; each write carries its writer's (I5, I6).
    pub epoch: i64,
    /// Raised by each write.
    pub version: i64,
    pub opened_at: Stamp,
    pub closed_at: Option<Stamp>,
}

impl Recovery {
    /// The body's own, except where a hook holds it: then a person is asked, wherever the road stands.
    pub fn word(&self) -> StateWord {
        match self.body.word() {
            word if !word.is_closed() && self.hooks.held().is_some() => StateWord::NeedsOperator,
            word => word,
        }
    }

    pub fn is_open(&self) -> bool {
        !self.word().is_closed()
    }

    /// Whether it waits to be told that its subject is dead, or may be acted upon: until then somebody has to go on looking.
    pub fn awaits_verdict(&self) -> bool {
        matches!(self.word(), StateWord::Confirming | StateWord::Held | StateWord::NeedsOperator)
    }
}

/// Why nothing is done just now: every wait has a reason and a normal length (L3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub reason: String,
    /// When to look again at the latest.
    pub until: crate::time::Mono,
}

/// The next step of any recovery: from what is stored, what was seen and the time, to what to commit, to ask, or to wait for.
pub fn step(view: crate::step::View<'_>, chance: &mut crate::chance::Chance) -> crate::step::Step {
    if let Some(why) = &view.facts.fleet.reconcile_only {
        return reconcile_only(view, chance, why);
    }
    let mut draft = crate::step::Draft::new(view, chance);
    let digested = hooks::digest(&mut draft);
    match &view.recovery.body {
        Body::Host(_) => host::step(&mut draft),
        // Their windows are measured afresh once this is stored.
        Body::Instance(_) | Body::Process(_) if digested => draft.look_after(0),
        Body::Instance(_) => instance::step(&mut draft),
        Body::Process(_) => process::step(&mut draft),
        Body::Return(_) => crate::admission::step(&mut draft),
    }
    hooks::settle(&mut draft);
    draft.finish()
}

/// Reconcile-only (I22): whatever it is at, nothing is decided, asked or done for it, and it says why. Here and nowhere else, since every
/// effect of every kind comes out of a step. What came of a deed that was on its way is not taken up either: by what was lost it may rest
/// on nothing, so it stays an open intent, and whoever claims the recovery afterwards asks the world.
fn reconcile_only(
    view: crate::step::View<'_>,
    chance: &mut crate::chance::Chance,
    why: &str,
) -> crate::step::Step {
    let mut draft = crate::step::Draft::new(view, chance);
    draft.reason = format!("reconcile-only: {why}");
    draft.finish()
}

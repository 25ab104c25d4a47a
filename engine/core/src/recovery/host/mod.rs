//! A hypervisor's death, step by step (DESIGN 2; the drawing stands in [`super`]).
//!
//! ```text
//! off intent -> power off -> read Off twice -> force down + disable -> read Off again -> list -> per guest: evacuate, verify
//! ```
//!
//! Each arrow is an invariant: the state that carries the next deed can only be built from the proof of the one before.

mod asked;
mod confirm;
mod drill;
mod fencing;
mod moving;
mod proved;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Body, HOOK_WORD, Recovery, StateWord, Subject, hooks};
use crate::admission;
use crate::brake::{self, Answer};
use crate::effect::{self, Done, Effect, Query};
use crate::evacuation;
use crate::event::EventKind;
use crate::evidence::Power;
use crate::facts::Outcome;
use crate::fence::{self, FenceProof};
use crate::guard::{self, Guard};
use crate::hook::{Hooks, Point};
use crate::host::{Admission, Asked, Host, SetByUs};
use crate::id::{BootId, HostId, RecoveryId};
use crate::policy::Unfenced;
use crate::runner::{HostCondition, HostPatch};
use crate::step::{Draft, Memory};
use crate::time::Mono;
use crate::verdict::{self, Verdict};

use confirm::{cancel, confirm, confirmed_by_operator};
use fencing::{contradicted, fencing, last_echoed, void_if_alive};
use moving::{closing, moving};
use proved::proved;

/// A written off order: from here on the machine may be off by our hand (DESIGN 10.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// From 1; each act through the levels is one. 0: an operator's statement stands in for it.
    pub attempt: u32,
    /// The host's boot number when it was written.
    pub boot_number: u32,
    /// The intent that carries it: only its own answer counts, never that of an order before it.
    pub intent: Option<uuid::Uuid>,
}

/// States of a host's recovery, with what each holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum HostState {
    Confirming,
    Held {
        gate: String,
    },
    Fencing {
        order: Order,
    },
    /// Proved off; force-down and the second look are under way.
    Proved {
        order: Order,
        proof: FenceProof,
        marked_down: bool,
    },
    Evacuating {
        order: Order,
        proof: FenceProof,
    },
    Verifying {
        order: Order,
        proof: FenceProof,
    },
    /// Stays open; order and proof are kept, and what needs no person goes on.
    NeedsOperator {
        order: Option<Order>,
        proof: Option<FenceProof>,
    },
    Finished,
    Failed,
    Cancelled,
}

impl HostState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Held { .. } => StateWord::Held,
            Self::Fencing { .. } | Self::Proved { .. } => StateWord::Fencing,
            Self::Evacuating { .. } => StateWord::Evacuating,
            Self::Verifying { .. } => StateWord::Verifying,
            Self::NeedsOperator { .. } => StateWord::NeedsOperator,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }

    pub fn proof(&self) -> Option<&FenceProof> {
        match self {
            Self::Proved { proof, .. } | Self::Evacuating { proof, .. } | Self::Verifying { proof, .. } => {
                Some(proof)
            }
            Self::NeedsOperator { proof, .. } => proof.as_ref(),
            _ => None,
        }
    }
}

/// A reserved host taken by this recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reserve {
    pub host: HostId,
    pub name: String,
    /// Enabled, and in the aggregates where policy says so.
    pub prepared: bool,
    /// A guest was sent there: it does not return to the reserve.
    pub used: bool,
}

/// Why a host is to be turned off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "purpose")]
pub enum Purpose {
    /// It failed, as far as evidence says.
    #[default]
    Failure,
    /// A person ordered it, dead or alive; its guests are rebuilt elsewhere.
    Ordered {
        by: Asked,
        /// Why it could not be done: the host lives on, and from here on it is judged like any other.
        failed: Option<String>,
    },
    /// To show that its devices can: empty, on maintenance, and switched on again.
    Drill {
        by: Asked,
        /// Its agent was heard when the order was written.
        heard: bool,
        /// Devices that confirmed without naming the machine: its agent's silence has to show that it was this one.
        unnamed: Vec<String>,
    },
}

/// What is stored of a host's recovery; its moves are rows of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRecovery {
    pub state: HostState,
    /// Boxed: most recoveries are of a failure, and every kind's body is as large as the largest.
    #[serde(default)]
    pub purpose: Box<Purpose>,
    pub reserves: Vec<Reserve>,
    /// Evidence rested on reports alone (a host that never had our agent).
    pub by_report: bool,
    /// What people were asked already, line by line: each question makes one ticket, however often it comes up (trap 24).
    pub asked: Vec<String>,
    /// An evacuation was written: from here on there is no way back to a living host (DESIGN 10.3).
    pub evacuated: bool,
    /// A proof was made. Others may have relied on it, and Nova may have been told: whoever turns out to live after that comes in on
    /// the way of every returning host.
    #[serde(default)]
    pub proved: bool,
    /// It lives, and its order is being retired: whether our sessions are revoked yet.
    #[serde(default)]
    pub retiring: Option<bool>,
}

impl HostRecovery {
    pub fn new() -> HostRecovery {
        HostRecovery::for_purpose(Purpose::Failure)
    }

    pub fn for_purpose(purpose: Purpose) -> HostRecovery {
        HostRecovery {
            state: HostState::Confirming,
            purpose: Box::new(purpose),
            reserves: Vec::new(),
            by_report: false,
            asked: Vec::new(),
            evacuated: false,
            proved: false,
            retiring: None,
        }
    }
}

impl Default for HostRecovery {
    fn default() -> Self {
        HostRecovery::new()
    }
}

/// Time between looks at a host that has not been judged yet.
const LOOK_MS: u64 = 500;

/// A beat is dated by its sender's clock, mapped to ours by the smallest delay seen: on a network that fences, well within this.
const DATING_SLACK_MS: u64 = 100;

/// Pause after Nova did not take a host-wide call.
const CALL_AGAIN_MS: u64 = 1_000;

/// A BMC that did not answer so often in a row is not waited for any more.
const READINGS_TRIED: u32 = 3;

/// A power reading is renewed when it is this old, well before it is too old to vouch.
const REREAD_POWER_MS: u64 = 5_000;

/// The next step of a host's recovery.
pub fn step(draft: &mut Draft<'_>) {
    settle_inherited(draft);
    settle_superseded(draft);
    let Some(host) = draft.view.facts.host.clone() else {
        draft.reason = "the host's row is being read".into();
        return draft.look_after(LOOK_MS);
    };
    if draft.hooks.closing.is_some() {
        return closing(draft, &host);
    }
    if is_drill(draft) {
        return drill::step(draft, &host);
    }
    match state(draft).clone() {
        HostState::Confirming | HostState::Held { .. } | HostState::NeedsOperator { order: None, .. } => {
            confirm(draft, &host);
        }
        HostState::Fencing { order } | HostState::NeedsOperator { order: Some(order), proof: None } => {
            fencing(draft, &host, order);
        }
        HostState::Proved { order, proof, marked_down } => proved(draft, &host, order, proof, marked_down),
        HostState::Evacuating { order, proof }
        | HostState::Verifying { order, proof }
        | HostState::NeedsOperator { order: Some(order), proof: Some(proof) } => {
            moving(draft, &host, order, proof)
        }
        HostState::Finished | HostState::Failed | HostState::Cancelled => {}
    }
}

fn is_drill(draft: &Draft<'_>) -> bool {
    matches!(&draft.body, Body::Host(body) if matches!(*body.purpose, Purpose::Drill { .. }))
}

fn body<'d>(draft: &'d mut Draft<'_>) -> &'d mut HostRecovery {
    match &mut draft.body {
        Body::Host(body) => body,
        _ => unreachable!("a host's step is called for a host's recovery"),
    }
}

fn state<'d>(draft: &'d mut Draft<'_>) -> &'d HostState {
    &body(draft).state
}

fn become_state(draft: &mut Draft<'_>, next: HostState, reason: &str) {
    if body(draft).state.word() != next.word() {
        let detail = json!({"state": next.word(), "reason": reason});
        draft.note("state_changed", format!("{}: {reason}", next.word()), detail);
    }
    body(draft).proved |= next.proof().is_some();
    body(draft).state = next;
    draft.reason = reason.to_owned();
    draft.look_after(0);
}

/// An answer to an order that another one has replaced proves nothing about the present one.
fn settle_superseded(draft: &mut Draft<'_>) {
    let current = match state(draft) {
        HostState::Fencing { order }
        | HostState::Proved { order, .. }
        | HostState::Evacuating { order, .. }
        | HostState::Verifying { order, .. }
        | HostState::NeedsOperator { order: Some(order), .. } => order.intent,
        _ => None,
    };
    let proved = state(draft).proof().is_some();
    let old: Vec<uuid::Uuid> = draft
        .view
        .facts
        .outcomes
        .iter()
        .filter(|outcome| outcome.effect.word() == "power_off" && (proved || Some(outcome.intent) != current))
        .map(|outcome| outcome.intent)
        .collect();
    for intent in old {
        draft.resolve(
            intent,
            "superseded",
            json!({"why": "another order, or a proof, came before its answer"}),
        );
    }
}

/// Intents of a former owner that are settled by looking at the world rather than by their answer.
fn settle_inherited(draft: &mut Draft<'_>) {
    let intents: Vec<_> = draft
        .view
        .facts
        .inherited
        .iter()
        .filter(|intent| intent.effect != "evacuate" && intent.effect != HOOK_WORD)
        .map(|intent| intent.id)
        .collect();
    for intent in intents {
        draft.resolve(
            intent,
            "superseded",
            json!({"why": "its owner stopped before the answer; the world is looked at instead"}),
        );
    }
}

fn needs_operator(draft: &mut Draft<'_>, order: Option<Order>, proof: Option<FenceProof>, why: &str) {
    let same = draft.view.recovery.word() == StateWord::NeedsOperator && draft.view.recovery.reason == why;
    if same {
        body(draft).state = HostState::NeedsOperator { order, proof };
        // Whatever this step said on its way here: another reason would be written at every look.
        draft.reason = why.to_owned();
        return draft.look_after(LOOK_MS);
    }
    draft.message = Some(why.to_owned());
    become_state(draft, HostState::NeedsOperator { order, proof }, why);
    let new: Vec<String> = why
        .split("; ")
        .filter(|line| !body(draft).asked.iter().any(|asked| asked == line))
        .map(Into::into)
        .collect();
    if !new.is_empty() {
        body(draft).asked.extend(new);
        draft.tell(EventKind::RecoveryNeedsOperator, why, json!({}));
    }
    draft.look_after(LOOK_MS);
}

/// Opens the host's way back beside this recovery.
fn open_return(draft: &mut Draft<'_>, host: &Host, body: admission::HostReturn) {
    let id = RecoveryId(draft.chance.uuid());
    let recovery = draft.view.recovery;
    draft.opens.push(Recovery {
        id,
        subject: Subject::Return { host: host.id },
        body: Body::Return(body),
        // It runs none; a recovery that it has to open would.
        hooks: Hooks { apply: recovery.hooks.apply.clone(), ..Hooks::default() },
        reason: "its recovery has closed".into(),
        owner: None,
        epoch: 0,
        version: 0,
        opened_at: draft.view.stamp,
        closed_at: None,
        ..recovery.clone()
    });
}

/// Takes the host out: from the off order on (DESIGN 10.1).
fn out(draft: &mut Draft<'_>, host: &Host, proof: Option<FenceProof>) {
    body(draft).retiring = None;
    let patch = HostPatch {
        admission: Some(Admission::Out),
        maintenance_recovery: Some(true),
        reserved: host.reserved.then_some((false, None)),
        retire_boot: proof.as_ref().and(host.boot),
        proof: Some(proof),
        only_if: Some(HostCondition::BootNumber(host.boot_number)),
        ..HostPatch::default()
    };
    draft.hosts.push((host.id, patch));
}

/// Writes the order and sends it: intent and deed of one commit.
fn order_off(draft: &mut Draft<'_>, host: &Host, attempt: u32, why: &str) {
    out(draft, host, None);
    let intent = draft.act(
        Effect::PowerOff { host: host.id, drill: is_drill(draft) },
        attempt,
        json!({"why": why, "boot_number": host.boot_number}),
    );
    let order = Order { attempt, boot_number: host.boot_number, intent: Some(intent) };
    draft.note(
        "off_ordered",
        format!("power off of {} ordered (attempt {attempt})", host.name),
        json!({"why": why}),
    );
    if !guard::stands(Guard::ProofBeforeForceDown) {
        let reason = effect::disabled_reason("host", draft.view.recovery.id);
        draft.act(Effect::MarkDown { host: host.name.clone(), reason }, attempt, json!({}));
    }
    draft.memory.push(Memory::Ordered);
    if matches!(state(draft), HostState::NeedsOperator { .. }) {
        body(draft).state = HostState::NeedsOperator { order: Some(order), proof: None };
    } else {
        become_state(draft, HostState::Fencing { order }, &format!("powering {} off", host.name));
    }
}

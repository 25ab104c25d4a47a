//! How a decision becomes durable before it becomes a deed: the runner's protocol, pure (DESIGN 10.13).
//!
//! [`Runner`] never decides and never does: it asks [`crate::recovery::step`] what to do, yields [`Op`]s, and takes [`Reply`]s. What
//! interprets the ops (sqlx and sockets, or a model store and a simulated cloud in virtual time) is somebody else's business, so
//! first run, retry, restart and simulation are one road.
//!
//! ```text
//! step -> Commit (state, moves, intents, audit, events) -> committed -> its effects go out -> outcomes -> step
//!                                                        \- lost: stop at once, another owner works
//!                                                        \- unavailable, condition not met: forget the draft, step afresh
//!                                                        \- ambiguous: read the nonce back
//! ```

mod patch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::audit::Entry;
use crate::chance::Chance;
use crate::effect::{Calls, Done, Effect, Migration, Query, ServiceRow, Survey};
use crate::event::Event;
use crate::evidence::PowerReading;
use crate::facts::{Facts, Failure, Outcome};
use crate::guard::{self, Guard};
use crate::id::{HostId, InstanceId, RecoveryId, VmoveId};
use crate::instance::Guest;
use crate::notification::NotificationStatus;
use crate::recovery::{self, Body, Recovery, Subject, Vmove};
use crate::step::{Change, Memory, View};
use crate::time::{Mono, Stamp};
use crate::verdict::row_window;

pub use patch::{HostCondition, HostPatch};

/// An effect that may have happened from now on (I7): committed before the first byte of its call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Also the commit's read-back key and the call's global request id.
    pub id: Uuid,
    pub recovery: Option<RecoveryId>,
    pub host: Option<HostId>,
    pub vmove: Option<VmoveId>,
    /// The effect's word: `power_off`, `evacuate`, ...
    pub effect: String,
    /// UNIQUE while unresolved: `guest:ID` for an evacuation (I8).
    pub open_key: Option<String>,
    pub epoch: i64,
    pub attempt: i64,
    /// What the decision rested on, for `explain`.
    pub detail: Value,
}

/// How an intent ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    pub intent: Uuid,
    /// `done`, `refused`, `unknown`, `adopted`, `retired`.
    pub result: String,
    pub detail: Value,
}

/// Everything one transition changes, in one transaction (DESIGN 3): recovery (compare-and-swap on version and epoch), moves,
/// intents, the host's row, the report's status, audit and events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Written to the row; an ambiguous commit is settled by reading it back.
    pub nonce: Uuid,
    /// The new content; `version` is the one expected in the row, `epoch` the writer's.
    pub recovery: Recovery,
    /// Opened by the same transaction, for instance a host's return by the close of its recovery.
    pub opens: Vec<Recovery>,
    pub vmoves: Vec<Vmove>,
    pub intents: Vec<Intent>,
    pub resolved: Vec<Resolution>,
    pub hosts: Vec<(HostId, HostPatch)>,
    pub notification: Option<(NotificationStatus, Option<String>)>,
    pub audit: Vec<Entry>,
    pub events: Vec<Event>,
}

/// What the interpreter is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Commit(Box<Commit>),
    /// Was the commit with this nonce applied?
    ReadBack(Uuid),
    /// Perform an effect whose intent is committed.
    Effect {
        intent: Uuid,
        epoch: i64,
        effect: Effect,
    },
    Ask(Query),
}

/// What became of an op.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The row's new version.
    Committed(i64),
    /// Another epoch owns the recovery.
    Lost,
    /// A condition of the commit does not hold any more; nothing was written.
    Conflict(String),
    /// The database cannot write now; nothing was written.
    Unavailable(String),
    /// The connection broke at commit.
    Ambiguous,
    /// `Some(true)`: applied; `Some(false)`: not; `None`: could not be read.
    ReadBack(Option<bool>),
    Effect {
        intent: Uuid,
        done: Done,
    },
    Answer {
        query: Query,
        sight: Result<Sight, String>,
    },
}

/// An answer to a [`Query`].
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    Power(PowerReading),
    Survey(Survey),
    /// The host's evacuation records, whole.
    Progress(Vec<Migration>),
    Destination(Vec<Guest>),
    Guest(Option<Guest>),
    /// Nova's words if the evacuate action ended in error.
    Action(Option<String>),
    Service(Option<ServiceRow>),
}

/// Facts that decided are too old to act on when their commit took longer than this (F60).
const DRAFT_KEEPS: Duration = Duration::from_secs(5);
/// Pause after a commit that wrote nothing.
const COMMIT_AGAIN: Duration = Duration::from_millis(200);
/// At most, as failures go on.
const COMMIT_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// A commit under way.
#[derive(Clone, Debug)]
struct Pending {
    commit: Box<Commit>,
    change: Change,
    drafted: Mono,
}

/// One recovery in the hands of one owner.
#[derive(Clone, Debug)]
pub struct Runner {
    recovery: Recovery,
    vmoves: BTreeMap<InstanceId, Vmove>,
    /// The interpreter keeps the outer world's part of it fresh: host row, evidence, fleet, reserved hosts, proofs.
    pub facts: Facts,
    chance: Chance,
    pending: Option<Pending>,
    ready: Vec<Op>,
    asking: BTreeSet<Query>,
    hold_until: Option<Mono>,
    refusals: u32,
    wake: Mono,
    lost: bool,
}

impl Runner {
    /// Takes up a claimed recovery with its moves and the intents that a former owner left unresolved.
    pub fn new(
        recovery: Recovery,
        vmoves: Vec<Vmove>,
        inherited: Vec<Intent>,
        seed: u64,
        now: Mono,
    ) -> Runner {
        let facts = Facts { claimed_at: now, inherited, segment_enabled: true, ..Facts::default() };
        Runner {
            recovery,
            vmoves: vmoves.into_iter().map(|vmove| (vmove.instance, vmove)).collect(),
            facts,
            chance: Chance::new(seed),
            pending: None,
            ready: Vec::new(),
            asking: BTreeSet::new(),
            hold_until: None,
            refusals: 0,
            wake: now,
            lost: false,
        }
    }

    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub fn vmoves(&self) -> impl Iterator<Item = &Vmove> {
        self.vmoves.values()
    }

    /// Another owner has it.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Closed and everything committed.
    pub fn is_over(&self) -> bool {
        self.lost || (!self.recovery.is_open() && self.pending.is_none())
    }

    /// A commit was sent and its reply is still to come.
    pub fn awaits_commit(&self) -> bool {
        self.pending.is_some()
    }

    /// Calls about guests that are decided and not handed out yet.
    pub fn unsent(&self) -> Calls {
        let decided = self.pending.iter().flat_map(|pending| &pending.change.acts).map(|(_, effect)| effect);
        let ready = self.ready.iter().filter_map(|op| match op {
            Op::Effect { effect, .. } => Some(effect),
            _ => None,
        });
        Calls::of(decided.chain(ready))
    }

    /// When to poll at the latest.
    pub fn wake_at(&self) -> Mono {
        match self.hold_until {
            Some(until) => until,
            None => self.wake,
        }
    }

    /// The ops to start now. `stamp` is for display only.
    pub fn poll(&mut self, now: Mono, stamp: Stamp) -> Vec<Op> {
        let mut ops = std::mem::take(&mut self.ready);
        if self.is_over() || self.pending.is_some() {
            self.wake = now + Duration::from_secs(1);
            return ops;
        }
        if self.hold_until.is_some_and(|until| now < until) {
            return ops;
        }
        self.hold_until = None;
        let view = View { recovery: &self.recovery, vmoves: &self.vmoves, facts: &self.facts, now, stamp };
        let step = recovery::step(view, &mut self.chance);
        self.wake = step.wait.until;
        for query in step.queries {
            if self.asking.insert(query.clone()) {
                ops.push(Op::Ask(query));
            }
        }
        if let Some(change) = step.change {
            let commit = Box::new(self.commit_of(&change, stamp));
            if !guard::stands(Guard::IntentFirst) {
                let epoch = self.recovery.epoch;
                let sent = change.acts.iter().cloned();
                ops.extend(sent.map(|(intent, effect)| Op::Effect { intent: intent.id, epoch, effect }));
            }
            ops.push(Op::Commit(commit.clone()));
            self.pending = Some(Pending { commit, change, drafted: now });
        }
        ops
    }

    fn commit_of(&mut self, change: &Change, stamp: Stamp) -> Commit {
        let mut recovery = self.recovery.clone();
        recovery.body = change.body.clone();
        recovery.hooks = change.hooks.clone();
        let word = recovery.word();
        recovery.reason = change.reason.clone();
        recovery.closed_at = word.is_closed().then_some(stamp);
        // A return has no report of its own.
        let reported = !matches!(recovery.subject, Subject::Return { .. });
        let moved = word != self.recovery.word() || change.message.is_some();
        let notification = (reported && moved).then(|| (word.notification_status(), change.message.clone()));
        Commit {
            nonce: self.chance.uuid(),
            recovery,
            opens: change.opens.clone(),
            vmoves: change.vmoves.clone(),
            intents: change.acts.iter().map(|(intent, _)| intent.clone()).collect(),
            resolved: change.resolved.clone(),
            hosts: change.hosts.clone(),
            notification,
            audit: change.audit.clone(),
            events: change.events.clone(),
        }
    }

    /// Takes the reply to an op.
    pub fn reply(&mut self, reply: Reply, now: Mono) {
        match reply {
            Reply::Committed(version) => self.committed(version, now),
            Reply::Lost => self.lost = true,
            Reply::Conflict(_) | Reply::Unavailable(_) => self.forget(now),
            Reply::Ambiguous | Reply::ReadBack(None) => {
                if let Some(pending) = &self.pending {
                    self.ready.push(Op::ReadBack(pending.commit.nonce));
                }
            }
            Reply::ReadBack(Some(true)) => self.committed(self.recovery.version + 1, now),
            Reply::ReadBack(Some(false)) => self.forget(now),
            Reply::Effect { intent, done } => {
                if let Some(effect) = self.facts.in_flight.remove(&intent) {
                    self.facts.outcomes.push(Outcome { intent, effect, done, at: now });
                    self.wake = now;
                }
            }
            Reply::Answer { query, sight } => {
                self.asking.remove(&query);
                self.learn(query, sight, now);
                self.wake = now;
            }
        }
    }

    /// Nothing was written: what was drafted is forgotten, since its facts age, and drafted afresh.
    fn forget(&mut self, now: Mono) {
        self.pending = None;
        let pause = COMMIT_AGAIN * 2u32.saturating_pow(self.refusals.min(5));
        self.refusals += 1;
        self.hold_until = Some(now + pause.min(COMMIT_AGAIN_AT_MOST));
    }

    fn committed(&mut self, version: i64, now: Mono) {
        let Some(Pending { commit, change, drafted }) = self.pending.take() else { return };
        self.refusals = 0;
        self.recovery = commit.recovery;
        self.recovery.version = version;
        for vmove in change.vmoves {
            self.vmoves.insert(vmove.instance, vmove);
        }
        self.facts.outcomes.retain(|outcome| !change.taken.contains(&outcome.intent));
        self.facts.inherited.retain(|intent| !change.taken.contains(&intent.id));
        for memory in change.memory {
            self.remember(memory, now);
        }
        let late = now.since(drafted) > DRAFT_KEEPS;
        for (intent, effect) in change.acts {
            if late {
                let text = "the database was slow: what was decided is too old to be done".to_owned();
                self.facts.outcomes.push(Outcome {
                    intent: intent.id,
                    effect,
                    done: Done::NotExecuted { text },
                    at: now,
                });
            } else {
                self.facts.in_flight.insert(intent.id, effect.clone());
                if !guard::stands(Guard::IntentFirst) {
                    continue;
                }
                self.ready.push(Op::Effect { intent: intent.id, epoch: self.recovery.epoch, effect });
            }
        }
        self.wake = now;
    }

    fn remember(&mut self, memory: Memory, now: Mono) {
        let facts = &mut self.facts;
        match memory {
            Memory::PauseGuest(instance, until) => {
                facts.pauses.insert(instance, until);
            }
            Memory::UnknownSince(instance) => {
                facts.unknown_since.insert(instance, now);
            }
            Memory::AcceptedSince(instance) => {
                facts.accepted_since.insert(instance, now);
            }
            Memory::NotBefore(at) => facts.not_before = Some(at),
            Memory::HookPause(at) => facts.hook_not_before = Some(at),
            Memory::HookWish => facts.hook_wish = None,
            Memory::OrderedWish => facts.ordered = None,
            Memory::PowerOnWish => facts.power_on = None,
            Memory::Breaker(open) => facts.breaker = open,
            Memory::Ordered => {
                facts.ordered_at = Some(now);
                facts.not_before = None;
            }
            Memory::Proved => {
                facts.proved_at = Some(now);
                facts.not_before = None;
            }
            Memory::MarkedDown => facts.marked_at = Some(now),
            Memory::OrdersOver => {
                facts.orders_over_at = Some(now);
                facts.not_before = None;
            }
        }
    }

    fn learn(&mut self, query: Query, sight: Result<Sight, String>, now: Mono) {
        let facts = &mut self.facts;
        let sight = match sight {
            Ok(sight) => {
                facts.failures.remove(&query);
                sight
            }
            Err(text) => {
                let count = facts.failures.get(&query).map_or(0, |failure| failure.count) + 1;
                facts.failures.insert(query, Failure { at: now, text, count });
                return;
            }
        };
        match (query, sight) {
            (Query::Power { host }, Sight::Power(reading)) if host != self.recovery.subject.host() => {
                facts.others_power.insert(host, reading);
            }
            (_, Sight::Power(reading)) => facts.power = Some(reading),
            (_, Sight::Survey(survey)) => {
                if let Some(before) = facts.survey.as_ref().filter(|before| before.complete) {
                    facts.listed_before = Some(before.guests.iter().map(|guest| guest.id).collect());
                }
                // Records vanish with their deleted guest (NOVA.md): the new list replaces the old one.
                facts.migrations =
                    survey.migrations.iter().map(|record| (record.id, record.clone())).collect();
                facts.migrations_at = Some(survey.at);
                facts.survey = Some(survey);
            }
            (Query::Progress { host }, Sight::Progress(records)) => {
                facts.migrations.retain(|_, record| record.source != host || !record.is_evacuation());
                facts.migrations.extend(records.into_iter().map(|record| (record.id, record)));
                facts.migrations_at = Some(now);
            }
            (_, Sight::Destination(guests)) => {
                for guest in guests {
                    facts.guests.insert(guest.id, (now, Some(guest)));
                }
            }
            (Query::Guest { instance }, Sight::Guest(guest)) => {
                facts.guests.insert(instance, (now, guest));
            }
            (Query::Action { instance }, Sight::Action(error)) => {
                facts.actions.insert(instance, (now, error));
            }
            (_, Sight::Service(row)) => {
                facts.pulse.observe(row.as_ref(), row_window(&self.recovery.policy), now);
                facts.service = Some((now, row));
            }
            _ => {}
        }
    }

    /// The word of the body, for lists.
    pub fn kind(&self) -> &'static str {
        match self.recovery.body {
            Body::Host(_) => "host",
            Body::Instance(_) => "instance",
            Body::Process(_) => "process",
            Body::Return(_) => "return",
        }
    }
}

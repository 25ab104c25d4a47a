//! What a step answers, and the tools it builds the answer with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::audit::Entry;
use crate::chance::Chance;
use crate::effect::{Effect, Query};
use crate::event::{Event, EventKind};
use crate::facts::Facts;
use crate::hook::Hooks;
use crate::id::{EventId, HostId, InstanceId};
use crate::policy::Policy;
use crate::recovery::{Body, Recovery, Vmove, Wait};
use crate::runner::{HostPatch, Intent, Resolution};
use crate::time::{Mono, Stamp};

/// The owner's volatile memory of a decision; kept when its commit succeeded.
#[derive(Clone, Debug, PartialEq)]
pub enum Memory {
    PauseGuest(InstanceId, Mono),
    UnknownSince(InstanceId),
    AcceptedSince(InstanceId),
    NotBefore(Mono),
    /// No hook begins before that.
    HookPause(Mono),
    /// The operator's word about a held hook was taken up.
    HookWish,
    /// So was a person's order to turn the host off, or on.
    OrderedWish,
    PowerOnWish,
    /// The cloud answered "not now" (true), or took a call again (false).
    Breaker(bool),
    Ordered,
    Proved,
    MarkedDown,
    /// From here on nothing is ordered of the host: what was, has to die.
    OrdersOver,
}

/// What a commit will carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub body: Body,
    pub hooks: Hooks,
    pub reason: String,
    pub vmoves: Vec<Vmove>,
    pub acts: Vec<(Intent, Effect)>,
    pub resolved: Vec<Resolution>,
    /// Outcomes this step took up, by intent.
    pub taken: Vec<Uuid>,
    pub hosts: Vec<(HostId, HostPatch)>,
    pub opens: Vec<Recovery>,
    /// Shown with the notification.
    pub message: Option<String>,
    pub audit: Vec<Entry>,
    pub events: Vec<Event>,
    pub memory: Vec<Memory>,
}

/// A step's answer: what to commit and then do, what to ask, and why and until when there is nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub change: Option<Change>,
    pub queries: Vec<Query>,
    pub wait: Wait,
}

/// What a step looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub recovery: &'a Recovery,
    pub vmoves: &'a BTreeMap<InstanceId, Vmove>,
    pub facts: &'a Facts,
    pub now: Mono,
    /// For display only.
    pub stamp: Stamp,
}

impl<'a> View<'a> {
    pub fn policy(&self) -> &'a Policy {
        &self.recovery.policy
    }
}

/// A step being built.
#[derive(Debug)]
pub struct Draft<'a> {
    pub view: View<'a>,
    pub chance: &'a mut Chance,
    pub body: Body,
    pub hooks: Hooks,
    pub reason: String,
    pub moves: BTreeMap<InstanceId, Vmove>,
    pub acts: Vec<(Intent, Effect)>,
    pub resolved: Vec<Resolution>,
    pub taken: Vec<Uuid>,
    pub hosts: Vec<(HostId, HostPatch)>,
    pub opens: Vec<Recovery>,
    pub message: Option<String>,
    pub audit: Vec<Entry>,
    pub events: Vec<Event>,
    pub memory: Vec<Memory>,
    pub queries: Vec<Query>,
    pub until: Mono,
}

/// Looked at again after this long even when nothing happens: timers find what wake-ups miss.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// First pause after a failed question; doubles.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A cloud that is back is noticed within this.
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(2);

impl<'a> Draft<'a> {
    pub fn new(view: View<'a>, chance: &'a mut Chance) -> Draft<'a> {
        Draft {
            view,
            chance,
            body: view.recovery.body.clone(),
            hooks: view.recovery.hooks.clone(),
            reason: view.recovery.reason.clone(),
            moves: BTreeMap::new(),
            acts: Vec::new(),
            resolved: Vec::new(),
            taken: Vec::new(),
            hosts: Vec::new(),
            opens: Vec::new(),
            message: None,
            audit: Vec::new(),
            events: Vec::new(),
            memory: Vec::new(),
            queries: Vec::new(),
            until: view.now + LONGEST_WAIT,
        }
    }

    /// The move as this draft leaves it.
    pub fn vmove(&self, instance: InstanceId) -> Option<&Vmove> {
        self.moves.get(&instance).or_else(|| self.view.vmoves.get(&instance))
    }

    /// Changes a move.
    pub fn edit(&mut self, instance: InstanceId, change: impl FnOnce(&mut Vmove)) {
        let Some(mut vmove) = self.vmove(instance).cloned() else { return };
        change(&mut vmove);
        if self.view.vmoves.get(&instance) == Some(&vmove) {
            self.moves.remove(&instance);
        } else {
            self.moves.insert(instance, vmove);
        }
    }

    /// All moves as this draft leaves them.
    pub fn all_moves(&self) -> impl Iterator<Item = &Vmove> {
        let new =
            self.moves.iter().filter(|(id, _)| !self.view.vmoves.contains_key(id)).map(|(_, vmove)| vmove);
        self.view.vmoves.iter().map(|(id, vmove)| self.moves.get(id).unwrap_or(vmove)).chain(new)
    }

    /// Asks, unless the same question failed a moment ago; then says when it may be asked again.
    pub fn ask(&mut self, query: Query) {
        if let Some(failure) = self.view.facts.failures.get(&query) {
            let pause = ASK_AGAIN * 2u32.saturating_pow(failure.count.min(5).saturating_sub(1));
            let again = failure.at + pause.min(ASK_AGAIN_AT_MOST);
            if self.view.now < again {
                self.look_at(again);
                return;
            }
        }
        if !self.queries.contains(&query) {
            self.queries.push(query);
        }
    }

    /// Asks once each `ms`, by the age of the last answer.
    pub fn ask_every(&mut self, query: Query, ms: u64) {
        let facts = self.view.facts;
        let last = match &query {
            Query::Power { .. } => facts.power.as_ref().map(|reading| reading.at),
            Query::Survey { .. } => facts.survey.as_ref().map(|survey| survey.at),
            Query::Guest { instance } => facts.guests.get(instance).map(|(at, _)| *at),
            Query::Service { .. } => facts.service.as_ref().map(|(at, _)| *at),
            _ => None,
        };
        match last.map(|at| self.view.now.since(at).as_millis() as u64) {
            Some(age) if age < ms => self.look_after(ms - age),
            _ => self.ask(query),
        }
    }

    /// Until when this guest is left alone, as this draft leaves it.
    pub fn pause_of(&self, instance: InstanceId) -> Option<Mono> {
        let new = self.memory.iter().rev().find_map(|memory| match memory {
            Memory::PauseGuest(id, until) if *id == instance => Some(*until),
            _ => None,
        });
        new.or_else(|| self.view.facts.pauses.get(&instance).copied()).filter(|until| self.view.now < *until)
    }

    /// Since when a call's fate is unknown: from this step on, from an earlier one, or since the claim.
    pub fn unknown_since(&self, instance: InstanceId) -> Mono {
        if self.memory.contains(&Memory::UnknownSince(instance)) {
            return self.view.now;
        }
        let facts = self.view.facts;
        facts.unknown_since.get(&instance).copied().unwrap_or(facts.claimed_at)
    }

    /// Since when an evacuation is known to be accepted.
    pub fn accepted_since(&self, instance: InstanceId) -> Mono {
        if self.memory.contains(&Memory::AcceptedSince(instance)) {
            return self.view.now;
        }
        let facts = self.view.facts;
        facts.accepted_since.get(&instance).copied().unwrap_or(facts.claimed_at)
    }

    /// The cloud said "not now" and has taken nothing since.
    pub fn breaker(&self) -> bool {
        let new = self.memory.iter().rev().find_map(|memory| match memory {
            Memory::Breaker(open) => Some(*open),
            _ => None,
        });
        new.unwrap_or(self.view.facts.breaker)
    }

    /// Nothing host-wide goes out before that.
    pub fn not_before(&self) -> Option<Mono> {
        let new = self.memory.iter().rev().find_map(|memory| match memory {
            Memory::NotBefore(at) => Some(*at),
            _ => None,
        });
        new.or(self.view.facts.not_before).filter(|at| self.view.now < *at)
    }

    /// No hook begins before that.
    pub fn hook_pause(&self) -> Option<Mono> {
        let new = self.memory.iter().rev().find_map(|memory| match memory {
            Memory::HookPause(at) => Some(*at),
            _ => None,
        });
        new.or(self.view.facts.hook_not_before).filter(|at| self.view.now < *at)
    }

    /// Asks for a survey when the last one began before `at` and `at` has come.
    pub fn ask_survey_after(&mut self, at: Mono) {
        let old = self.view.facts.survey.as_ref().is_none_or(|survey| survey.at < at);
        if self.view.now >= at && old {
            self.ask(Query::Survey { host: self.view.recovery.host_name.clone() });
        }
    }

    /// Looks again at the latest then.
    pub fn look_at(&mut self, at: Mono) {
        self.until = self.until.min(at.max(self.view.now + Duration::from_millis(1)));
    }

    pub fn look_after(&mut self, ms: u64) {
        self.look_at(self.view.now + Duration::from_millis(ms));
    }

    /// Writes an intent for an effect.
    pub fn act(&mut self, effect: Effect, attempt: u32, detail: Value) -> Uuid {
        let recovery = self.view.recovery;
        let id = self.chance.uuid();
        let instance = effect.instance();
        let open_key = match &effect {
            Effect::Evacuate { instance, .. } => Some(format!("guest:{instance}")),
            _ => None,
        };
        let intent = Intent {
            id,
            recovery: Some(recovery.id),
            host: Some(recovery.subject.host()),
            vmove: instance.and_then(|instance| self.vmove(instance)).map(|vmove| vmove.id),
            effect: effect.word().to_owned(),
            open_key,
            epoch: recovery.epoch,
            attempt: i64::from(attempt),
            detail,
        };
        self.acts.push((intent, effect));
        id
    }

    pub fn resolve(&mut self, intent: Uuid, result: &str, detail: Value) {
        self.taken.push(intent);
        self.resolved.push(Resolution { intent, result: result.to_owned(), detail });
    }

    pub fn note(&mut self, what: &str, text: impl Into<String>, detail: Value) {
        self.audit.push(Entry::new(what, text, detail));
    }

    pub fn tell(&mut self, kind: EventKind, text: &str, detail: Value) {
        let recovery = self.view.recovery;
        let data = json!({
            "recovery": recovery.id, "notification": recovery.notification, "host": recovery.host_name,
            "text": text, "detail": detail,
        });
        let subject = match &recovery.subject {
            crate::recovery::Subject::Guest { instance, .. } => format!("guest/{instance}"),
            crate::recovery::Subject::Process { name, .. } => {
                format!("process/{}/{name}", recovery.host_name)
            }
            crate::recovery::Subject::Host { .. } | crate::recovery::Subject::Return { .. } => {
                format!("host/{}", recovery.host_name)
            }
        };
        let id = EventId(self.chance.uuid());
        self.events.push(Event { id, kind, recovery: Some(recovery.id), subject, data });
    }

    /// The answer. A draft that changed nothing is a wait.
    pub fn finish(self) -> Step {
        let recovery = self.view.recovery;
        let wait = Wait { reason: self.reason.clone(), until: self.until };
        let unchanged = self.body == recovery.body
            && self.hooks == recovery.hooks
            && self.reason == recovery.reason
            && self.moves.is_empty()
            && self.acts.is_empty()
            && self.resolved.is_empty()
            && self.taken.is_empty()
            && self.hosts.is_empty()
            && self.audit.is_empty()
            && self.events.is_empty();
        let change = (!unchanged).then(|| Change {
            body: self.body,
            hooks: self.hooks,
            reason: self.reason,
            vmoves: self.moves.into_values().collect(),
            acts: self.acts,
            resolved: self.resolved,
            taken: self.taken,
            hosts: self.hosts,
            opens: self.opens,
            message: self.message,
            audit: self.audit,
            events: self.events,
            memory: self.memory,
        });
        Step { change, queries: self.queries, wait }
    }
}

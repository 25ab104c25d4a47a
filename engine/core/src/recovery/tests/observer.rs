//! Watches what a [`crate::runner::Runner`] yields and keeps books of its own: from replies, commits and the world, never from the
//! code under test. Each broken promise is noted under the invariant's number.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::scenario::Kind;
use super::world::{DEAD, Delivery, SERIAL, World};
use crate::admission::ReturnState;
use crate::effect::{Done, Effect, Migration, Query, Survey};
use crate::evidence::{Power, PowerReading};
use crate::fence::Means;
use crate::host::Admission;
use crate::id::InstanceId;
use crate::instance::Guest;
use crate::recovery::host::HostState;
use crate::recovery::{Body, StateWord, Vmove};
use crate::runner::{Commit, Intent, Op, Reply, Runner, Sight};
use crate::time::Mono;

/// How an evacuate call ended, as told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// No answer yet, or the asker died.
    Open,
    NotDone,
    MayBe,
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) known: BTreeSet<i64>,
    pub(super) at: Option<Mono>,
    pub(super) end: End,
}

#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) means: Means,
    pub(super) boot: u32,
    /// When it was first stored.
    pub(super) made: Mono,
    /// When it was stored, or taken over.
    pub(super) since: Mono,
}

#[derive(Debug, Default)]
pub(crate) struct Observer {
    pub broken: Vec<(&'static str, String)>,
    /// What was reached, for the tests that would otherwise show nothing.
    pub reached: BTreeMap<&'static str, u32>,
    pub(super) lost: bool,
    pub(super) epoch: i64,
    pub(super) drafted: Option<Box<Commit>>,
    pub(super) written: BTreeMap<Uuid, Intent>,
    pub(super) done: BTreeSet<Uuid>,
    pub(super) effects: BTreeMap<Uuid, Effect>,
    pub(super) open: BTreeMap<Uuid, InstanceId>,
    pub(super) vmoves: BTreeMap<InstanceId, Vmove>,
    pub(super) order_boot: Option<u32>,
    pub(super) ordered: bool,
    /// The newest off order, and whether its own report proved.
    pub(super) newest_order: Option<Uuid>,
    pub(super) report_proves: bool,
    pub(super) some_report_proved: bool,
    pub(super) began_at: Option<Mono>,
    pub(super) proof: Option<Proof>,
    pub(super) marked_at: Option<Mono>,
    pub(super) power: Option<PowerReading>,
    pub(super) survey: Option<Survey>,
    pub(super) records: BTreeMap<i64, Migration>,
    pub(super) alone: BTreeMap<InstanceId, (Mono, Option<Guest>)>,
    pub(super) seen: BTreeMap<InstanceId, Option<Guest>>,
    pub(super) errors: BTreeMap<InstanceId, Mono>,
    pub(super) first: BTreeMap<InstanceId, Guest>,
    pub(super) sent: BTreeMap<InstanceId, Sent>,
    /// Seen on a living host, by any owner.
    pub(super) arrived: BTreeSet<InstanceId>,
    pub(super) reset_taken: BTreeSet<InstanceId>,
    pub(super) revoked: bool,
    pub(super) claimed_at: Mono,
    pub(super) admitted_at: Option<Mono>,
    pub(super) unforced: bool,
    pub(super) force_up_taken: bool,
    pub(super) trail: Vec<String>,
    pub(super) hooks_open: BTreeSet<Uuid>,
    pub(super) hooks_running: BTreeSet<Uuid>,
    pub(super) hook_ends: BTreeMap<Uuid, crate::hook::RunState>,
}

pub(super) fn guest_of(intent: &Intent) -> Option<InstanceId> {
    let id = intent.open_key.as_deref()?.strip_prefix("guest:")?;
    id.parse().ok()
}

fn is_order(body: &Body) -> bool {
    match body {
        Body::Host(host) => !matches!(
            host.state,
            HostState::Confirming
                | HostState::Held { .. }
                | HostState::NeedsOperator { order: None, .. }
                | HostState::Cancelled
        ),
        _ => false,
    }
}

impl Observer {
    pub(super) fn breaks(&mut self, which: &'static str, why: impl Into<String>) {
        self.broken.push((which, why.into()));
    }

    pub(super) fn demand(&mut self, holds: bool, which: &'static str, why: &str) {
        if !holds {
            self.breaks(which, why);
        }
    }

    pub fn reach(&mut self, what: &'static str) {
        *self.reached.entry(what).or_default() += 1;
    }

    /// The last things that happened, for a failure's message.
    pub fn story(&self) -> String {
        self.trail[self.trail.len().saturating_sub(60)..].join("\n")
    }

    fn tell(&mut self, now: Mono, what: String) {
        self.trail.push(format!("{:>8} {what}", now.0 % 1_000_000_000));
    }

    /// An owner begins, the first or the next.
    pub fn claimed(&mut self, world: &World) {
        if let Some(commit) = self.drafted.take()
            && world.store.recovery.version > commit.recovery.version + 1
        {
            self.stored(&commit, world.now);
        }
        // What ran for the former owner ended with it.
        self.hooks_running.clear();
        self.hook_ends = world.store.recovery.hooks.runs.iter().map(|run| (run.id, run.state)).collect();
        self.epoch = world.store.recovery.epoch;
        self.lost = false;
        self.claimed_at = world.now;
        self.began_at = self.began_at.or(Some(world.now));
        (self.power, self.survey) = (None, None);
        self.alone.clear();
        self.seen.clear();
        self.records.clear();
        self.errors.clear();
        // What a former owner listed and nobody wrote down may be gone by now.
        let known: BTreeSet<InstanceId> = world.store.vmoves.keys().copied().collect();
        self.first.retain(|id, _| known.contains(id));
        (self.report_proves, self.some_report_proved) = (false, false);
        if let Some(proof) = &mut self.proof {
            proof.since = world.now;
        }
        self.tell(world.now, format!("CLAIM epoch {}", self.epoch));
    }

    /// A reply, before the runner gets it.
    pub fn heard(&mut self, delivery: &Delivery, world: &World) {
        let now = world.now;
        match &delivery.reply {
            Reply::Committed(_) | Reply::ReadBack(Some(true)) => {
                if let Some(commit) = self.drafted.take() {
                    self.stored(&commit, now);
                }
            }
            Reply::Lost => {
                self.lost = true;
                self.reach("lost");
            }
            Reply::Conflict(_) | Reply::Unavailable(_) | Reply::ReadBack(Some(false)) => {
                self.drafted = None;
                self.reach("not written");
            }
            Reply::Ambiguous | Reply::ReadBack(None) => self.reach("ambiguous"),
            Reply::Effect { intent, done } => self.ended(*intent, done, delivery.proves, now),
            Reply::Answer { query, sight: Ok(sight) } => self.answered(query, sight, now),
            Reply::Answer { sight: Err(_), .. } => {}
        }
        if !matches!(&delivery.reply, Reply::Answer { .. }) {
            let text = format!("{:?}", delivery.reply);
            self.tell(now, format!("<- {}", &text[..text.len().min(160)]));
        }
    }

    fn ended(&mut self, intent: Uuid, done: &Done, proves: bool, now: Mono) {
        let Some(effect) = self.effects.get(&intent).cloned() else { return };
        let taken = matches!(done, Done::Accepted { .. });
        match effect {
            Effect::PowerOff { .. } => {
                self.some_report_proved |= proves;
                if self.newest_order == Some(intent) {
                    self.report_proves = proves;
                } else if proves {
                    self.reach("a superseded order's report");
                }
            }
            Effect::MarkDown { .. } if taken => self.marked_at = Some(now),
            Effect::ResetToError { instance } if taken => {
                self.reset_taken.insert(instance);
            }
            Effect::ForceUp { .. } if taken => self.force_up_taken = true,
            Effect::RevokeSessions { .. } => self.revoked = true,
            Effect::RunHook { call } => {
                self.hooks_running.remove(&call.run);
            }
            Effect::Evacuate { instance, .. } => {
                if let Some(sent) = self.sent.get_mut(&instance) {
                    sent.end = match done {
                        Done::Refused { .. } | Done::Gone { .. } | Done::NotExecuted { .. } => End::NotDone,
                        _ => End::MayBe,
                    };
                }
                if matches!(done, Done::Unknown { .. }) {
                    self.reach("unknown outcome");
                }
            }
            _ => {}
        }
    }

    fn answered(&mut self, query: &Query, sight: &Sight, now: Mono) {
        match (query, sight) {
            (_, Sight::Power(reading)) => self.power = Some(reading.clone()),
            (_, Sight::Survey(survey)) => {
                self.records = survey.migrations.iter().map(|row| (row.id, row.clone())).collect();
                for guest in &survey.guests {
                    self.first.entry(guest.id).or_insert_with(|| guest.clone());
                }
                self.survey = Some(survey.clone());
            }
            (_, Sight::Progress(rows)) => {
                self.records.retain(|_, row| row.source != DEAD || row.kind != "evacuation");
                self.records.extend(rows.iter().map(|row| (row.id, row.clone())));
            }
            (Query::Guest { instance }, Sight::Guest(guest)) => {
                self.alone.insert(*instance, (now, guest.clone()));
                self.seen.insert(*instance, guest.clone());
                if guest.as_ref().is_some_and(|guest| guest.host.as_deref().is_some_and(|host| host != DEAD))
                {
                    self.arrived.insert(*instance);
                }
            }
            (_, Sight::Destination(guests)) => {
                for guest in guests {
                    self.alone.insert(guest.id, (now, Some(guest.clone())));
                    self.seen.insert(guest.id, Some(guest.clone()));
                    self.arrived.insert(guest.id);
                }
            }
            (Query::Action { instance }, Sight::Action(Some(_))) => {
                self.errors.insert(*instance, now);
            }
            _ => {}
        }
    }

    /// A commit is known to be in the database.
    fn stored(&mut self, commit: &Commit, now: Mono) {
        self.hooks_stored(commit);
        for end in &commit.resolved {
            self.open.remove(&end.intent);
        }
        for intent in &commit.intents {
            self.written.insert(intent.id, intent.clone());
            if let Some(guest) = guest_of(intent) {
                self.open.insert(intent.id, guest);
                let known =
                    self.records.values().filter(|row| row.instance == guest).map(|row| row.id).collect();
                self.sent.insert(guest, Sent { known, at: None, end: End::Open });
            }
        }
        for vmove in &commit.vmoves {
            self.vmoves.insert(vmove.instance, vmove.clone());
        }
        self.ordered = is_order(&commit.recovery.body);
        if let Body::Host(body) = &commit.recovery.body {
            match body.state.proof() {
                None => self.proof = None,
                Some(proof) if self.proof.as_ref().is_none_or(|known| known.means != *proof.means()) => {
                    self.proof = Some(Proof {
                        means: proof.means().clone(),
                        boot: proof.boot_number(),
                        made: now,
                        since: now,
                    });
                    self.reach("proof");
                }
                Some(_) => {}
            }
        }
        if let Body::Return(body) = &commit.recovery.body {
            let admitted = matches!(body.state, ReturnState::Admitted { .. });
            self.admitted_at = admitted.then(|| self.admitted_at.unwrap_or(now));
            self.unforced = matches!(body.state, ReturnState::Admitted { unforced: true, .. });
        }
    }

    /// What a poll yielded. `surround` was called just before, so the world shows what the runner knew.
    pub fn polled(&mut self, ops: &[Op], world: &World, runner: &Runner) {
        let now = world.now;
        // The interpreter hands over the collector's readings as well; the newer counts.
        if let Some(reading) =
            world.evidence.power.as_ref().filter(|new| self.power.as_ref().is_none_or(|old| new.at > old.at))
        {
            self.power = Some(reading.clone());
        }
        self.demand(!self.lost || ops.is_empty(), "I5", "something was yielded after the recovery was lost");
        for op in ops {
            match op {
                Op::Commit(commit) => self.drafts(commit, world),
                Op::Effect { intent, epoch, effect } => self.deed(*intent, *epoch, effect, world),
                Op::ReadBack(nonce) => {
                    let known = self.drafted.as_ref().is_some_and(|commit| commit.nonce == *nonce);
                    self.demand(known, "I7", "a commit was read back that is not under way");
                }
                Op::Ask(_) => {}
            }
        }
        if ops.is_empty() && !runner.is_over() {
            self.waits(runner, now);
        }
    }

    fn waits(&mut self, runner: &Runner, now: Mono) {
        let wake = runner.wake_at();
        self.demand(wake > now, "L3", "a wait that is over already");
        self.demand(wake.since(now).as_millis() <= 5_000, "L3", "a wait longer than five seconds");
        self.demand(!runner.recovery().reason.is_empty(), "L3", "a wait without a reason");
        self.reach("wait");
    }

    fn deed(&mut self, id: Uuid, epoch: i64, effect: &Effect, world: &World) {
        let now = world.now;
        self.tell(now, format!("-> {effect:?}"));
        self.hook_begun(effect);
        self.demand(epoch == self.epoch, "I6", "an effect carries another epoch");
        let written = self.written.get(&id).cloned();
        self.demand(written.is_some(), "I7", &format!("{effect:?} without a stored intent"));
        let first = self.done.insert(id);
        self.demand(first, "I7", "an intent was carried out twice");
        if let Some(intent) = &written {
            self.demand(
                intent.effect == effect.word(),
                "I7",
                "the intent says something else than the effect",
            );
        }
        let open = world.store.recovery.closed_at.is_none() && !world.store.recovery.word().is_closed();
        match effect {
            Effect::PowerOff { host, .. } => {
                let ours = world.scenario.kind == Kind::Host && *host == world.store.host.id;
                self.demand(
                    open && ours && written.is_some(),
                    "I11",
                    "power off outside an open recovery of this host",
                );
                self.reach("power off");
            }
            Effect::Evacuate { instance, .. } => {
                let same = written.as_ref().and_then(guest_of) == Some(*instance);
                self.demand(same, "I8", "the intent's key is not the guest's");
                let open = self.open.values().filter(|guest| *guest == instance).count();
                self.demand(open == 1, "I8", &format!("{instance} has {open} open evacuate intents"));
                if let Some(sent) = self.sent.get_mut(instance) {
                    sent.at = Some(now);
                }
                self.reach("evacuate");
            }
            Effect::PowerOn { host } => self.switched_on(*host, world),
            Effect::ForceUp { .. } | Effect::Enable { .. } => self.reach("undone"),
            _ => {}
        }
        self.effects.insert(id, effect.clone());
    }

    /// I12: explicitly wanted, drained, and nobody else's business.
    fn switched_on(&mut self, host: crate::id::HostId, world: &World) {
        let by_policy = world.scenario.policy.power_on_when_drained;
        self.demand(by_policy || world.power_on_asked, "I12", "switched on, and nobody asked for it");
        let drained =
            matches!(&world.store.recovery.body, Body::Return(body) if body.state == ReturnState::Out);
        let out = world.store.host.admission == Admission::Out && host == world.store.host.id;
        self.demand(drained && out, "I12", "switched on before it was drained");
        self.reach(if world.power_on_asked { "power on by a person" } else { "power on by policy" });
    }

    fn drafts(&mut self, commit: &Commit, world: &World) {
        let words: Vec<&str> = commit.intents.iter().map(|intent| intent.effect.as_str()).collect();
        self.tell(
            world.now,
            format!("-> commit {} {words:?} ({})", commit.recovery.word(), commit.recovery.reason),
        );
        self.demand(self.drafted.is_none(), "I7", "two commits under way");
        let epochs = commit.intents.iter().all(|intent| intent.epoch == self.epoch)
            && commit.recovery.epoch == self.epoch;
        self.demand(epochs, "I6", "a commit or an intent carries another epoch than its owner's");
        self.hooks_drafted(commit);
        if self.proof.as_ref().is_some_and(|proof| matches!(proof.means, Means::Lease { .. }))
            && commit.audit.iter().any(|entry| entry.what == "proof_voided")
        {
            self.reach("life after a lease's proof");
        }
        self.maintenance(commit, world);
        self.proves(commit, world);
        for intent in &commit.intents {
            match intent.effect.as_str() {
                "power_off" => {
                    self.order_boot = Some(world.store.host.boot_number);
                    self.report_proves = false;
                    self.newest_order = Some(intent.id);
                    let open =
                        !world.store.recovery.word().is_closed() && !commit.recovery.word().is_closed();
                    self.demand(
                        open && world.scenario.kind == Kind::Host,
                        "I11",
                        "an off order of a recovery that is not open",
                    );
                }
                "mark_down" => {
                    let firm =
                        self.proof.as_ref().is_some_and(|proof| !matches!(proof.means, Means::Waived { .. }));
                    self.demand(firm, "I2", "force-down before a proof, or on a waived one");
                    self.reach("mark down");
                }
                "evacuate" => self.evacuates(intent, commit, world),
                "force_up" | "enable" => self.undoes(intent, world),
                _ => {}
            }
        }
        if let Body::Return(body) = &commit.recovery.body
            && matches!(body.state, ReturnState::Admitted { unforced: true, .. })
            && !self.unforced
            && !self.force_up_taken
            && let Some(admitted) = self.admitted_at
        {
            self.clean(admitted, world);
        }
        for vmove in &commit.vmoves {
            self.ends(vmove, world);
        }
        if matches!(commit.recovery.body, Body::Host(_))
            && matches!(commit.recovery.word(), StateWord::Finished | StateWord::Failed)
        {
            self.closes(commit);
        }
        self.drafted = Some(Box::new(commit.clone()));
    }

    /// I21, and that a written order is never cancelled (DESIGN 10.3).
    fn maintenance(&mut self, commit: &Commit, world: &World) {
        // What a person ordered is not automatic: maintenance does not stop it.
        if world.scenario.kind != Kind::Host || world.scenario.ordered {
            return;
        }
        let withdrawn = world.store.host.maintenance.operator || !world.segment_enabled;
        let cancelled = commit.recovery.word() == StateWord::Cancelled;
        if cancelled {
            let ours = world.store.host.set_by_us;
            let left = (ours.forced_down || ours.disabled) && commit.opens.is_empty();
            self.demand(!left, "10.3", "cancelled, and what was set in Nova stands for good");
            self.reach("cancelled");
        }
        if self.ordered {
            // Retired with Nova already told: closed by opening the host's way back, which is no plain cancel (DESIGN 10.3).
            let retired = commit.opens.iter().any(|opened| matches!(opened.body, Body::Return(_)))
                && commit.audit.iter().any(|entry| entry.what == "order_retired");
            self.demand(!cancelled || retired, "I21", "a written order was cancelled");
            if withdrawn && commit.intents.iter().any(|intent| intent.effect == "evacuate") {
                self.reach("went on under maintenance");
            }
        } else if withdrawn {
            let harmless = commit.intents.is_empty()
                && (cancelled || commit.recovery.word() == world.store.recovery.word());
            self.demand(harmless, "I21", "acts although the operator withdrew the host before the order");
            if cancelled {
                self.reach("cancelled by maintenance");
            }
        }
    }

    /// A state that says it holds a proof must rest on one that these books saw made.
    fn proves(&mut self, commit: &Commit, world: &World) {
        let Body::Host(body) = &commit.recovery.body else { return };
        let Some(proof) = body.state.proof() else { return };
        if self
            .proof
            .as_ref()
            .is_some_and(|known| known.boot == proof.boot_number() && known.means == *proof.means())
        {
            return;
        }
        let rests = match proof.means() {
            Means::Power { .. } => {
                self.demand(
                    self.report_proves,
                    "I15",
                    "the proof does not rest on the newest order's report",
                );
                self.some_report_proved && self.order_boot == Some(proof.boot_number())
            }
            Means::Operator { .. } => {
                let beats = &world.evidence.beats;
                let heard =
                    beats.last_echoed.max(beats.retired_echoed).is_some_and(|at| at > world.confirmed_at);
                self.demand(
                    !heard,
                    "I17 statement",
                    "a statement is used although the host was heard after it",
                );
                world.confirmation.as_ref().is_some_and(|said| said.serial == SERIAL)
            }
            Means::Lease { .. } => {
                let why = world
                    .lease
                    .as_ref()
                    .map_or(Some("no watchdog".to_owned()), |lease| lease.forbids(proof, world));
                self.demand(why.is_none(), "I15", &format!("a lease that proves nothing: {why:?}"));
                let on = self.power.as_ref().is_some_and(|reading| {
                    reading.power == Power::On && world.now.since(reading.at).as_millis() <= 10_000
                });
                self.demand(!on, "I17", "a lease in the place of a device that reads On");
                self.reach("proof by lease");
                self.order_boot == Some(proof.boot_number())
            }
            Means::Waived { .. } => {
                let down = world.evidence.service.as_ref().is_some_and(|service| !service.up);
                world.scenario.trust && !world.scenario.device && !world.scenario.agent && down
            }
        };
        self.demand(
            rests && proof.host() == world.store.host.id,
            "I1",
            &format!("a proof from nothing: {proof:?}"),
        );
    }
}

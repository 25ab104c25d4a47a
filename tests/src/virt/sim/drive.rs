//! A recovery in its owner's hands, as `engine::runner::drive` has it: claimed, told the facts, its commits and deeds carried out.

use super::*;

impl Sim {
    pub(super) fn claim(&mut self, number: usize) {
        let own = self.engines[number].id;
        let open: Vec<(RecoveryId, Option<EngineId>, i64)> = self
            .store
            .recoveries
            .values()
            .filter(|(row, _)| row.is_open())
            .map(|(row, _)| (row.id, row.owner, row.epoch))
            .collect();
        let lease = Duration::from_millis(self.setup.policy.lease_ms);
        for (id, owner, epoch) in open {
            if self.engines[number].runners.contains_key(&id) {
                continue;
            }
            let free = match owner {
                None => true,
                Some(owner) if owner == own => true,
                // With one engine the exclusive lock beside the database says that no other lives.
                Some(_) if self.setup.engines == 1 => true,
                Some(owner) => self.engines[number]
                    .others
                    .get(&owner)
                    .is_some_and(|seen| seen.owner.is_none() || seen.lapsed(lease)),
            };
            if !free {
                continue;
            }
            let unavailable = self.setup.faults.unavailable;
            if self.unlucky(unavailable) {
                continue;
            }
            let Some(recovery) = self.store.claim(id, owner, epoch, own) else { continue };
            let fresh = owner.is_none() && epoch == 0;
            let engine = self.engines[number].name.clone();
            self.say(format!(
                "{engine} claims the {} recovery of {} (epoch {})",
                recovery.subject.kind(),
                recovery.host_name,
                recovery.epoch
            ));
            if let Subject::Host { host } = recovery.subject {
                let seen = mono(self.now);
                let at = if fresh { seen } else { Mono(0) };
                if !self.store.hosts[&host].ever_agent {
                    let known =
                        self.engines[number].fleet.note_report(host, recovery.notification, at, seen, false);
                    assert!(known, "every host is known from the beginning");
                }
            }
            let (vmoves, inherited) = (self.store.vmoves_of(id), self.store.open_intents(id));
            let seed = self.chance.number();
            let runner = Runner::new(recovery, vmoves, inherited, seed, mono(self.now));
            self.engines[number].runners.insert(id, runner);
        }
    }

    /// Facts in, ops out: what `engine::runner::drive` does.
    pub(super) fn poll(&mut self, number: usize, id: RecoveryId) {
        let now = mono(self.now);
        let stamp = self.stamp();
        let store = &self.store;
        let setup = &self.setup;
        let engine = &mut self.engines[number];
        let Some(runner) = engine.runners.get_mut(&id) else { return };
        let host = runner.recovery().subject.host();
        let row = store.hosts[&host].clone();
        if let Some(known) = engine.fleet.hosts.get_mut(&host) {
            known.row = row.clone();
        }
        engine.fleet.doubt(&runner.recovery().subject, runner.recovery().awaits_verdict());
        let segment = runner.recovery().segment;
        let held = runner.recovery().hooks.held().is_some();
        let runner_subject = runner.recovery().subject.clone();
        let facts = &mut runner.facts;
        if held && facts.hook_wish.is_none() {
            facts.hook_wish = engine.hook_wishes.remove(&id);
        }
        if let Some(evidence) = engine.fleet.evidence(host, now) {
            if let Some(reading) = evidence
                .power
                .as_ref()
                .filter(|reading| facts.power.as_ref().is_none_or(|known| reading.at > known.at))
            {
                facts.power = Some(reading.clone());
            }
            facts.evidence = evidence;
            facts.evidence.power = facts.power.clone();
        }
        facts.fleet = engine.fleet.brakes(now);
        facts.fleet.released = engine.released.get(&host).cloned().unwrap_or_default();
        facts.confirmation = engine.confirmations.get(&host).cloned();
        match runner_subject {
            Subject::Host { .. } => {
                if let Some(by) = engine.ordered.remove(&host) {
                    facts.ordered = Some(by);
                }
            }
            Subject::Return { .. } => {
                if let Some(by) = engine.power_on.remove(&host) {
                    facts.power_on = Some(by);
                }
            }
            _ => {}
        }
        facts.reserved = engine.fleet.reserved(segment);
        facts.proved_off = engine.fleet.proved_off();
        // The rows themselves: the fleet's picture of them is read each tick only.
        facts.proved_off.retain(|_, proved| store.hosts[&proved.host].proof.is_some());
        for host in store.hosts.values() {
            if let Some(proof) = &host.proof
                && !facts.proved_off.contains_key(&host.name)
            {
                let proved =
                    ProvedOff { host: host.id, by_power: proof.rereads_power(), heard: None, spoke: None };
                facts.proved_off.insert(host.name.clone(), proved);
            }
        }
        facts.recovering = matches!(runner_subject, Subject::Return { .. })
            && store.open_for(&Subject::Host { host }).is_some();
        facts.segment_enabled = store.segments.get(&segment).is_some_and(|segment| segment.enabled);
        facts.cancelled = engine.cancelled.get(&host).cloned();
        facts.host = Some(row);
        let ops = runner.poll(now, stamp);
        let over = runner.is_over();
        if over {
            engine.fleet.doubt(&runner.recovery().subject, false);
            engine.runners.remove(&id);
            engine.released.remove(&host);
            engine.confirmations.remove(&host);
            engine.cancelled.remove(&host);
            engine.hook_wishes.remove(&id);
            self.hooks.cut(self.now, number, Some(id));
        }
        let _ = setup;
        for op in ops {
            self.start_op(number, id, op, false);
        }
    }

    pub(super) fn start_op(&mut self, number: usize, recovery: RecoveryId, op: Op, passed: bool) {
        let now = self.now;
        let incarnation = self.engines[number].incarnation;
        let mut may_act = self.engines[number].hold.may_act(mono(now));
        if matches!(op, Op::Effect { .. }) {
            if self.engines[number].frozen {
                return self.engines[number].stuck.push((recovery, op));
            }
            if self.engines[number].stops_at_deed && may_act {
                self.engines[number].stops_at_deed = false;
                self.onlooker.see("an engine was stopped between its last check and its first byte");
                self.freeze(number);
                self.engines[number].stopped_at_deed = Some(now);
                return self.engines[number].stuck.push((recovery, op));
            }
            // It has passed its checks before it was stopped.
            may_act = may_act || passed;
        }
        let (ms, reply) = match op {
            Op::Commit(commit) => {
                let reply = if may_act {
                    self.commit(number, &commit)
                } else {
                    Reply::Unavailable("no lease".into())
                };
                if matches!(reply, Reply::Ambiguous) {
                    self.onlooker.see("a commit broke off and was read back");
                }
                if matches!(reply, Reply::Committed(_)) {
                    self.commits += 1;
                    if commit.audit.iter().any(|line| line.what == "statement_void") {
                        self.onlooker.see("a statement was void");
                        self.engines[number].confirmations.remove(&commit.recovery.subject.host());
                    }
                    for line in &commit.audit {
                        let text = format!("{}: {}", self.engines[number].name, line.text);
                        self.say(text);
                    }
                    if self.kill_after_commit == Some(self.commits) {
                        self.kill_after_commit = None;
                        if self.kill_before_effects {
                            // The effects of this commit never go out.
                            return self.kill(number);
                        }
                        let delay = now + COMMIT_MS + 1;
                        self.add_cue(delay, Cue::KillEngine(number));
                    }
                }
                (COMMIT_MS, reply)
            }
            Op::ReadBack(nonce) => {
                (COMMIT_MS, Reply::ReadBack(Some(self.store.was_applied(recovery, nonce))))
            }
            Op::Effect { intent, effect, .. } if !may_act => {
                let _ = effect;
                (0, Reply::Effect { intent, done: Done::NotExecuted { text: "no lease".into() } })
            }
            Op::Effect { intent, epoch, effect: Effect::PowerOff { host, .. } } => {
                let row = self.store.hosts[&host].clone();
                self.sequence += 1;
                let key = self.sequence;
                let act = Act::new(&row.name, row.serial, now);
                let of = ActOf { act, engine: number, incarnation, recovery, epoch, intent, passed: None };
                self.acts.insert(key, of);
                return self.push(now, Ev::Act(key));
            }
            Op::Effect { intent, effect: Effect::PowerOn { host }, .. } => {
                let row = self.store.hosts[&host].clone();
                let (ms, done) = fence::on(&mut self.world, now, &row.name, row.serial.as_deref());
                (ms, Reply::Effect { intent, done })
            }
            Op::Effect { intent, effect: Effect::RevokeSessions { host }, .. } => {
                let name = self.store.hosts[&host].name.clone();
                let (ms, done) = self.revoke(host, &name);
                (ms, Reply::Effect { intent, done })
            }
            Op::Effect { intent, effect: Effect::RestorePolicy { host }, .. } => {
                let name = self.store.hosts[&host].name.clone();
                let former = self.store.restore_policies.get(&host).copied();
                let (ms, done) = match former {
                    Some(former) => fence::give_back(&mut self.world, now, &name, former),
                    None => (1, Done::Accepted { note: "nothing was changed".into() }),
                };
                if matches!(done, Done::Accepted { .. }) {
                    self.store.restore_policies.remove(&host);
                }
                (ms, Reply::Effect { intent, done })
            }
            Op::Effect { intent, effect: Effect::RunHook { call }, .. } => {
                let run = &call.run.to_string()[..8];
                self.say(format!(
                    "  = hook {} runs for {}, run {run}, attempt {}",
                    call.hook, call.about.host, call.attempt
                ));
                let (ms, report) = self.hooks.begin(now, number, recovery, &call);
                (ms, Reply::Effect { intent, done: Done::Hook { report } })
            }
            Op::Effect { intent, effect, .. } => {
                if let Effect::MarkDown { host, .. }
                | Effect::Disable { host, .. }
                | Effect::Enable { host }
                | Effect::ForceUp { host } = &effect
                {
                    self.engines[number].fleet.rows.touch(host);
                }
                let (ms, done) = self.call_nova(recovery, &effect);
                (ms, Reply::Effect { intent, done })
            }
            Op::Ask(query @ Query::Power { host }) => {
                let row = self.store.hosts[&host].clone();
                let (ms, sight) = self.read_power(&row.name, row.serial.as_deref());
                (ms, Reply::Answer { query, sight: sight.map(Sight::Power) })
            }
            Op::Ask(query) => {
                let loss = self.setup.faults.loss / 10;
                let (ms, sight) = if self.unlucky(loss) {
                    (nova::CLIENT_TIMEOUT_MS, Err(String::new()))
                } else {
                    nova::ask(&mut self.world, now, &query)
                };
                (ms, Reply::Answer { query, sight })
            }
        };
        self.push(now + ms.max(1), Ev::Reply { engine: number, incarnation, recovery, reply });
    }

    pub(super) fn commit(&mut self, number: usize, commit: &halberd_core::runner::Commit) -> Reply {
        let roll = self.chance.number() % 1_000;
        let faults = self.setup.faults;
        if self.now >= faults.until {
            return self.apply(number, commit, false);
        }
        if roll < faults.unavailable {
            return Reply::Unavailable("disk full".into());
        }
        let lost_after = roll >= faults.unavailable && roll < faults.unavailable + faults.ambiguous;
        if lost_after && self.chance.number().is_multiple_of(2) {
            return Reply::Ambiguous;
        }
        self.apply(number, commit, lost_after)
    }

    fn apply(&mut self, number: usize, commit: &halberd_core::runner::Commit, lost_after: bool) -> Reply {
        let fleet = &self.engines[number].fleet;
        let (fences, ended) = (fleet.fences_of(&commit.intents), fleet.fences_ended(&commit.resolved));
        let applied = self.store.commit(self.now, commit);
        if applied.is_ok() {
            self.store.enter(&fences, &ended);
            self.engines[number].fleet.note_fences(&fences, &ended, mono(self.now));
        }
        match applied {
            Ok(_) if lost_after => {
                self.look_at_commit(commit);
                Reply::Ambiguous
            }
            Ok(version) => {
                self.look_at_commit(commit);
                Reply::Committed(version)
            }
            Err(Refused::Lost) => Reply::Lost,
            Err(Refused::Conflict(why)) => Reply::Conflict(why),
        }
    }
}

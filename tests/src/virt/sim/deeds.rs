//! Deeds as they reach the world: fence acts step by step, calls to Nova that may be lost, readings that may be lies.

use super::*;

impl Sim {
    /// Ends the sessions recorded for the host: what stands still on one of them ends with it.
    pub(super) fn revoke(&mut self, host: HostId, name: &str) -> (u64, Done) {
        if !self.recorded.contains(&host) {
            return (1, Done::Accepted { note: "0 sessions".into() });
        }
        if let Err((ms, why)) = fence::answers(&mut self.world, self.now, name) {
            self.say(format!("  = the BMC of {name} does not revoke: {why}"));
            return (ms, Done::NotExecuted { text: why });
        }
        self.recorded.remove(&host);
        for of in self.acts.values_mut().filter(|of| of.act.host == name) {
            of.act.revoked();
        }
        (1, Done::Accepted { note: "its sessions are revoked".into() })
    }

    pub(super) fn step_act(&mut self, key: u64) {
        let Some(mut of) = self.acts.remove(&key) else { return };
        if !self.is_current(of.engine, of.incarnation) {
            return;
        }
        if self.engines[of.engine].frozen {
            let at = self.now + 100;
            of.passed = of.passed.or(Some(self.owns(&of)));
            self.acts.insert(key, of);
            return self.push(at, Ev::Act(key));
        }
        let owns = self.owns(&of);
        if !owns {
            self.onlooker.see("an engine that had been stepped over wanted to order off");
        }
        let lies = self.setup.faults.lies;
        let lie = self.unlucky(lies) && self.may_lie(&of.act.host.clone());
        let (sent, read) = (of.act.sent, of.act.readings());
        let next = of.act.step(&mut self.world, self.now, of.passed.take().unwrap_or(owns), lie);
        if of.act.sent > sent {
            self.look_at_order(&of.act.host.clone(), owns);
        }
        if of.act.readings() > read {
            let off = of.act.last_reading() == Some(halberd_core::evidence::Power::Off);
            self.onlooker.read(&of.act.host, self.now, off);
        }
        // Redfish's are recorded before the order; an IPMI session is nobody's to revoke.
        if of.act.was_ordered()
            && self.world.bmc_kind(&of.act.host) == BmcKind::Redfish
            && let Some(id) = self.store.host_named(&of.act.host).map(|host| host.id)
        {
            self.recorded.insert(id);
        }
        if let Some(former) = of.act.former
            && let Some(id) = self.store.host_named(&of.act.host).map(|host| host.id)
        {
            self.store.restore_policies.entry(id).or_insert(former);
        }
        match next {
            Next::At(at) => {
                self.acts.insert(key, of);
                self.push(at, Ev::Act(key));
            }
            Next::Ended => {
                let report = of.act.report(&self.world);
                let reply = Reply::Effect { intent: of.intent, done: Done::Fenced { report } };
                let now = self.now;
                self.push(
                    now,
                    Ev::Reply {
                        engine: of.engine,
                        incarnation: of.incarnation,
                        recovery: of.recovery,
                        reply,
                    },
                );
            }
        }
    }

    /// The order that an act carries is still its owner's to give.
    fn owns(&self, of: &ActOf) -> bool {
        self.store.recoveries.get(&of.recovery).is_some_and(|(row, _)| {
            row.is_open() && row.epoch == of.epoch && row.owner == Some(self.engines[of.engine].id)
        })
    }

    /// A call to Nova, as far as the network lets it through.
    pub(super) fn call_nova(&mut self, recovery: RecoveryId, effect: &Effect) -> (u64, Done) {
        let (now, loss) = (self.now, self.setup.faults.loss / 10);
        let silence = || (nova::CLIENT_TIMEOUT_MS, Done::Unknown { text: "no answer".into() });
        let lost = self.unlucky(loss);
        if lost && self.luck.number().is_multiple_of(2) {
            return silence();
        }
        if matches!(effect, Effect::Evacuate { .. })
            && let Some(source) = self.store.recoveries.get(&recovery).map(|(row, _)| row.host_name.clone())
        {
            self.look_at_evacuate(&source);
        }
        let (ms, done) = nova::perform(&mut self.world, now, effect);
        if let (Effect::MarkDown { host, .. }, Done::Accepted { .. }) = (effect, &done) {
            self.onlooker.marked(host, now);
        }
        if matches!(done, Done::Unknown { .. }) || lost {
            self.onlooker.see("the fate of a call to Nova was unknown");
        }
        if lost { silence() } else { (ms, done) }
    }

    /// A reading of power, perhaps a lie.
    pub(super) fn read_power(
        &mut self,
        host: &str,
        serial: Option<&str>,
    ) -> (u64, Result<halberd_core::evidence::PowerReading, String>) {
        use halberd_core::evidence::Power;
        let (now, lies) = (self.now, self.setup.faults.lies);
        let (ms, mut sight) = fence::read(&mut self.world, now, host, serial);
        if let Ok(reading) = &mut sight {
            if self.unlucky(lies) && (reading.power == Power::Off || self.may_lie(host)) {
                let off = reading.power == Power::Off;
                reading.power = if off { Power::On } else { Power::Off };
            }
            let off = reading.power == Power::Off;
            if off && self.world.is_alive(host) {
                self.onlooker.see("a BMC read Off of a host that was alive");
            }
            self.onlooker.asked(host, now, off);
        }
        (ms, sight)
    }

    /// Who speaks gives the lie away.
    pub(super) fn may_lie(&self, host: &str) -> bool {
        let view = self.world.host(host);
        self.setup.agents
            && view.agent
            && view.state == halberd_sim::HostState::Running
            && view.networks.len() == 3
    }
}

//! What the hosts do by themselves: they beat, hear each other, sign a panic, obey their start gates and their watchdogs.

use super::*;

impl Sim {
    /// Every agent beats: engines hear it, and so do the other agents, who tell in their own beats.
    pub(super) fn beats(&mut self) {
        let interval = self.setup.policy.beat_interval_ms;
        let at = self.now + interval;
        self.push(at, Ev::Beats);
        self.look_on();
        if !self.setup.agents {
            return;
        }
        let now = self.now;
        let mut sights = self.world.beats(now);
        sights.retain(|sight| !self.watched.is_suspended(&sight.host, now));
        let names: Vec<String> = self.world.host_names();
        self.heard.resize(names.len(), vec![None; names.len()]);
        let mut place = 0;
        for sight in &sights {
            while names[place] != sight.host {
                place += 1;
            }
            for (listener, other) in names.iter().enumerate().filter(|(listener, _)| *listener != place) {
                let heard = halberd_sim::Network::ALL
                    .into_iter()
                    .any(|network| self.world.reaches(now, &sight.host, other, network));
                if heard {
                    self.heard[listener][place] = Some(now);
                }
            }
        }
        for number in 0..self.engines.len() {
            if !self.engines[number].alive || self.engines[number].frozen {
                continue;
            }
            let mut told = Vec::new();
            for sight in &sights {
                if self.hear(number, sight) {
                    told.push(sight.host.as_str());
                }
            }
            self.witness(number, &told, &names);
        }
    }

    /// One host's beat on all networks; whether any arrived.
    pub(super) fn hear(&mut self, number: usize, sight: &halberd_sim::AgentSight) -> bool {
        let now = self.now;
        let engine_name = self.engines[number].name.clone();
        let Some(id) = self.store.host_named(&sight.host).map(|host| host.id) else { return false };
        let mut any = false;
        for network in halberd_sim::Network::ALL {
            let loss = self.setup.faults.loss;
            if !self.world.reaches(now, &sight.host, &engine_name, network) || self.unlucky(loss) {
                continue;
            }
            let echoed = self.world.reaches(now, &engine_name, &sight.host, network) && !self.unlucky(loss);
            any = true;
            let word = match network {
                halberd_sim::Network::Management => Network::Management,
                halberd_sim::Network::Tenant => Network::Tenant,
                halberd_sim::Network::Storage => Network::Storage,
            };
            let boot = BootId(sight.boot_id);
            let said = watchdog::attestation(self.setup.watchdogs.as_ref());
            let engine = &mut self.engines[number];
            let may_act = engine.hold.may_act(mono(now));
            if let Some(known) = engine.fleet.hosts.get_mut(&id) {
                known.addresses.insert(word, "127.0.0.1:9".parse().expect("an address"));
                let retired = known.row.retired_boots.contains(&boot);
                known.sight.hear(&watchdog::heard(word, sight.boot_id, echoed, retired, now, said));
                if known.renews && may_act && !retired && echoed {
                    self.watched.answer(&sight.host, now);
                }
            }
        }
        any
    }

    /// What those who were heard say of the others. Of a host that is well to this engine nobody is asked, so nothing is said.
    fn witness(&mut self, number: usize, told: &[&str], names: &[String]) {
        let now = self.now;
        for (about, name) in names.iter().enumerate() {
            let Some(id) = self.store.host_named(name).map(|host| host.id) else { continue };
            let Some(known) = self.engines[number].fleet.hosts.get_mut(&id) else { continue };
            let beats = told.contains(&name.as_str()) && known.sight.is_well(&known.policy, mono(now));
            if beats && known.silent_since.is_none() && !known.in_doubt {
                continue;
            }
            for (speaker, host) in names.iter().enumerate() {
                if speaker == about || !told.contains(&host.as_str()) {
                    continue;
                }
                let heard = self.heard[speaker][about].map(|at| Duration::from_millis(now - at));
                let domain = Some(self.racks[speaker].clone());
                let statement =
                    Witness { name: host.clone(), domain, at: mono(now), heard, storage_only: false };
                known.sight.witness(statement);
            }
        }
    }

    /// What the agents' start gates do with the engines' word for their boot (DESIGN 10.1).
    pub(super) fn gates(&mut self) {
        if !self.setup.world.gate {
            return;
        }
        let words: Vec<(String, Admission, Option<BootId>)> =
            self.store.hosts.values().map(|host| (host.name.clone(), host.admission, host.boot)).collect();
        for (name, admission, boot) in words {
            let view = self.world.vitals(&name);
            let this_boot = boot.is_none_or(|boot| boot.0 == view.boot_id);
            match admission {
                _ if !view.gated || !self.world.is_alive(&name) => {}
                Admission::Admitted => self.world.admit(self.now, &name),
                Admission::In if this_boot => self.world.open_gate(self.now, &name),
                Admission::In | Admission::Out => {}
            }
        }
    }

    /// One message, and the next in ten seconds.
    pub(super) fn kdump(&mut self, host: &str, for_ms: u64) {
        let Some(id) = self.store.host_named(host).map(|host| host.id) else { return };
        let now = mono(self.now);
        let mut counted = 0;
        for engine in self.engines.iter_mut().filter(|engine| engine.alive && !engine.frozen) {
            if let Some(known) = engine.fleet.hosts.get_mut(&id) {
                counted += usize::from(known.sight.dumps(&known.policy, now));
            }
        }
        self.say(format!("* a message of fence_kdump from {host}: {counted} engines count it"));
        if for_ms >= 10_000 {
            let (at, host) = (self.now + 10_000, host.to_owned());
            self.add_cue(at, Cue::Kdump { host, for_ms: for_ms - 10_000 });
        }
    }

    pub(super) fn watchdogs(&mut self) {
        let Some(kind) = self.setup.watchdogs else { return };
        let (now, next) = (self.now, self.now + watchdog::TICK_MS);
        self.push(next, Ev::Watchdogs);
        for host in self.watched.tick(&mut self.world, now, &kind) {
            self.say(format!("* the watchdog of {host} fires"));
        }
    }
}

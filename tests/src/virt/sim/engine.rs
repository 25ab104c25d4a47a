//! One engine process: what it keeps, how it dies and starts, and its look at everything. What it concludes is `collect::look`'s.

use super::*;

/// One engine process in virtual time.
#[derive(Debug)]
pub struct Engine {
    pub name: String,
    pub id: EngineId,
    /// A restart makes a new one; replies to the old one are lost.
    pub(super) incarnation: u32,
    pub alive: bool,
    /// Frozen: nothing runs, nothing is lost.
    pub frozen: bool,
    pub(super) fleet: Fleet,
    pub runners: BTreeMap<RecoveryId, Runner>,
    pub(super) others: BTreeMap<EngineId, Observed>,
    pub(super) hold: Hold,
    pub(super) counter: i64,
    pub(super) first: bool,
    pub(super) rows_at: Option<u64>,
    /// Sum of the host rows' versions when they were last read.
    pub(super) refreshed: i64,
    pub(super) confirmations: BTreeMap<HostId, Confirmation>,
    pub(super) released: BTreeMap<HostId, Vec<halberd_core::brake::Gate>>,
    pub(super) hook_wishes: BTreeMap<RecoveryId, HookWish>,
    pub(super) ordered: BTreeMap<HostId, Asked>,
    pub(super) power_on: BTreeMap<HostId, Asked>,
    pub(super) cancelled: BTreeMap<HostId, String>,
    /// It is to be stopped right at its next deed, between the last check and the first byte.
    pub(super) stops_at_deed: bool,
    /// When that happened.
    pub(super) stopped_at_deed: Option<u64>,
    /// Deeds that had passed their checks when it was stopped.
    pub(super) stuck: Vec<(RecoveryId, Op)>,
}

impl Sim {
    pub(super) fn new_engine(&mut self, name: String, incarnation: u32) -> Engine {
        let id = EngineId(self.chance.uuid());
        let now = mono(self.now);
        self.store.engines.insert(id, (1, false));
        let mut fleet = Fleet::new(now);
        self.refresh(&mut fleet);
        Engine {
            name,
            id,
            incarnation,
            alive: true,
            frozen: false,
            fleet,
            runners: BTreeMap::new(),
            others: BTreeMap::new(),
            hold: Hold::claimed(0, 1, &self.setup.policy, now),
            counter: 1,
            first: true,
            rows_at: None,
            refreshed: 0,
            confirmations: BTreeMap::new(),
            released: BTreeMap::new(),
            hook_wishes: BTreeMap::new(),
            ordered: BTreeMap::new(),
            power_on: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            stops_at_deed: false,
            stopped_at_deed: None,
            stuck: Vec::new(),
        }
    }

    pub(super) fn refresh(&self, fleet: &mut Fleet) {
        let with_device: BTreeSet<HostId> = self
            .store
            .hosts
            .values()
            .filter(|host| self.has_bmc(host) || self.setup.watchdogs.is_some())
            .map(|host| host.id)
            .collect();
        let hosts = self.store.hosts.values().cloned().collect();
        fleet.refresh(hosts, &BTreeMap::new(), &self.setup.policy, &with_device, mono(self.now));
        if self.setup.watchdogs.is_some() {
            let kinds = |host: &Host| halberd_engine::collect::fleet::Watchdogs {
                any: true,
                only: !self.has_bmc(host),
            };
            fleet.note_watchdogs(&self.store.hosts.values().map(|host| (host.id, kinds(host))).collect());
        }
        fleet.segments = self.store.segments.clone();
        let exercise = || Disarmed { reason: "exercise".into(), until: Mono(u64::MAX) };
        fleet.disarmed = self.disarmed.then(exercise);
    }

    pub(super) fn has_bmc(&self, host: &Host) -> bool {
        self.world.bmc_kind(&host.name) != BmcKind::None
    }

    pub fn kill(&mut self, number: usize) {
        let engine = &mut self.engines[number];
        if !engine.alive {
            return;
        }
        if engine.runners.values().any(|runner| !runner.facts.in_flight.is_empty()) {
            self.onlooker.see("an engine was killed with deeds under way");
        }
        engine.stuck.clear();
        engine.alive = false;
        engine.incarnation += 1;
        engine.runners.clear();
        let text = format!("* {} is killed", engine.name);
        self.acts.retain(|_, act| act.engine != number);
        self.hooks.cut(self.now, number, None);
        self.say(text);
    }

    pub fn start(&mut self, number: usize) {
        if self.engines[number].alive {
            return;
        }
        let (name, incarnation) = (self.engines[number].name.clone(), self.engines[number].incarnation + 1);
        self.say(format!("* {name} starts"));
        self.engines[number] = self.new_engine(name, incarnation);
        let now = self.now;
        self.push(now, Ev::Tick(number));
    }

    pub(super) fn is_current(&self, engine: usize, incarnation: u32) -> bool {
        self.engines[engine].alive && self.engines[engine].incarnation == incarnation
    }

    pub(super) fn tick(&mut self, number: usize) {
        if !self.engines[number].alive || self.engines[number].frozen {
            if self.engines[number].frozen {
                return;
            }
            return;
        }
        // Nothing moves and nobody is newly silent: a look a second is enough.
        let engine = &self.engines[number];
        let still = |runner: &Runner| {
            use halberd_core::recovery::StateWord::{Held, NeedsOperator, Out, Returning};
            matches!(runner.recovery().word(), NeedsOperator | Held | Out | Returning)
                && runner.facts.in_flight.is_empty()
        };
        let watched = |id: &HostId| self.store.open_for(&Subject::Host { host: *id }).is_some();
        let quiet = |id: &HostId, known: &halberd_engine::collect::fleet::Known| {
            known.silent_since.is_none() || known.row.admission != Admission::In || watched(id)
        };
        let idle = engine.runners.values().all(still)
            && engine.fleet.hosts.iter().all(|(id, known)| quiet(id, known));
        let next = self.now + if idle { TICK_MS * 5 } else { TICK_MS };
        self.push(next, Ev::Tick(number));
        let now = mono(self.now);
        let unavailable = self.setup.faults.unavailable;
        if self.engines[number].hold.renew_due(now) && !self.unlucky(unavailable) {
            let id = self.engines[number].id;
            let engine = &mut self.engines[number];
            engine.counter += 1;
            engine.hold.renewed(engine.counter, now);
            self.store.engines.insert(id, (engine.counter, false));
        }
        self.observe(number);
        let mut fleet = std::mem::replace(&mut self.engines[number].fleet, Fleet::new(now));
        let versions: i64 = self.store.hosts.values().map(|host| host.version).sum();
        if self.engines[number].refreshed != versions {
            self.engines[number].refreshed = versions;
            self.refresh(&mut fleet);
        }
        if self.setup.watchdogs.is_some() {
            let own = self.engines[number].id;
            self.watched.share(&mut fleet, own, &self.store.engines, &self.setup.policy, self.now);
        }
        fleet.take_ledger(&self.store.ledger, now);
        let (todos, suspects) = look::look(&mut fleet, now);
        self.engines[number].fleet = fleet;
        for todo in todos {
            self.todo(number, todo);
        }
        let pace = if suspects { 1_000 } else { 5_000 };
        if self.engines[number].rows_at.is_none_or(|at| self.now >= at + pace) {
            self.engines[number].rows_at = Some(self.now);
            let (ms, rows) = nova::services(&mut self.world, self.now);
            let (at, incarnation) = (self.now, self.engines[number].incarnation);
            self.push(at + ms, Ev::Rows { engine: number, incarnation, at, rows });
        }
        self.gates();
        self.intake(number);
        self.claim(number);
        let ids: Vec<RecoveryId> = self.engines[number].runners.keys().copied().collect();
        for id in ids {
            let due = self.engines[number].runners.get(&id).is_some_and(|runner| runner.wake_at() <= now);
            if due || suspects {
                self.poll(number, id);
            }
        }
    }

    pub(super) fn observe(&mut self, number: usize) {
        let now = mono(self.now);
        let own = self.engines[number].id;
        let rows: Vec<(EngineId, i64, bool)> = self
            .store
            .engines
            .iter()
            .filter(|(id, _)| **id != own)
            .map(|(id, (counter, stopped))| (*id, *counter, *stopped))
            .collect();
        let others = &mut self.engines[number].others;
        for (id, counter, stopped) in rows {
            let owner = (!stopped).then_some(id);
            others
                .entry(id)
                .and_modify(|seen| {
                    seen.observe(owner, 0, counter, now);
                })
                .or_insert_with(|| Observed::new(owner, 0, counter, now));
        }
    }

    pub(super) fn todo(&mut self, number: usize, todo: Todo) {
        let now = self.now;
        let incarnation = self.engines[number].incarnation;
        match todo {
            Todo::Power(host) => {
                let row = self.store.hosts[&host].clone();
                let (ms, sight) = self.read_power(&row.name, row.serial.as_deref());
                self.push(now + ms, Ev::Power { engine: number, incarnation, host, sight });
            }
            Todo::UserLand(host, _) => {
                let row = self.store.hosts[&host].clone();
                let engine = self.engines[number].name.clone();
                let answered = halberd_sim::Network::ALL.into_iter().any(|network| {
                    self.world.user_land_answers(now, &row.name, network)
                        && self.world.reaches(now, &engine, &row.name, network)
                });
                self.push(now + 900, Ev::UserLand { engine: number, incarnation, host, at: now, answered });
            }
            Todo::Open(host, judgement) => self.open_by_verdict(number, host, &judgement),
            Todo::Say(host, verdict, _) => {
                let name = self.store.hosts[&host].name.clone();
                let engine = self.engines[number].name.clone();
                self.say(format!("{engine} sees {name}: {verdict}"));
            }
            Todo::Boot(host, version, boot_number, boot) => {
                if let Some(row) = self.store.hosts.get_mut(&host).filter(|row| row.version == version) {
                    row.boot_number = boot_number;
                    row.boot = Some(boot);
                    row.ever_agent = true;
                    row.version += 1;
                }
            }
        }
    }
}

//! A tiny world around one [`Runner`]: a store, a BMC, a Nova, a host that may lie, people. It answers at random but keeps its own
//! truth: what was executed stays executed, whatever was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::cloud::Cloud;
use super::scenario::{Kind, Scenario};
use super::starved::Lease;
use crate::admission::HostReturn;
use crate::brake::{Fleet, Peer};
use crate::chance::Chance;
use crate::effect::{Done, Effect, Query};
use crate::evidence::{Beats, Evidence, Network, Power, PowerReading, Report, ServiceSight};
use crate::facts::{Confirmation, ProvedOff};
use crate::fence::{DeviceAttempt, FenceReport, OrderAnswer, Reading};
use crate::hook::{HookWish, Hooks};
use crate::host::{Admission, Asked, FailureDomain, Host, SetByUs};
use crate::id::{BootId, EngineId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId};
use crate::recovery::host::{HostRecovery, Purpose};
use crate::recovery::{Body, Recovery, Subject, Vmove, WORKFLOW_VERSION};
use crate::runner::{Commit, Intent, Op, Reply, Runner, Sight};
use crate::time::{Mono, Stamp};

pub(crate) const DEAD: &str = "cmp-dead";
pub(crate) const RESERVE: &str = "cmp-reserve";
pub(crate) const SERIAL: &str = "SN-7";
const HOST: HostId = HostId(Uuid::from_u128(0xd0));

/// What is stored: host row, recovery, moves, unresolved intents.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub recovery: Recovery,
    pub vmoves: BTreeMap<InstanceId, Vmove>,
    pub unresolved: BTreeMap<Uuid, Intent>,
    pub host: Host,
    pub reserve: Host,
    applied: BTreeSet<Uuid>,
}

/// A reply and what only the world knows about it.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub reply: Reply,
    /// A fence report that proves: right machine, after the order, Off twice a second apart.
    pub proves: bool,
}

#[derive(Clone, Debug)]
struct Due {
    at: Mono,
    started: Mono,
    op: Op,
    /// How a hook's run ends.
    hook: Option<Done>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub scenario: Scenario,
    pub now: Mono,
    pub stamp: Stamp,
    pub store: Store,
    pub cloud: Cloud,
    pub segment_enabled: bool,
    pub confirmation: Option<Confirmation>,
    pub confirmed_at: Mono,
    pub domains: Option<Vec<InstanceId>>,
    /// Somebody wants the host on; taken up once.
    pub power_on: Option<Asked>,
    /// Anybody ever did.
    pub power_on_asked: bool,
    pub evidence: Evidence,
    pub lease: Option<Lease>,
    pub claimed_at: Mono,
    /// The return has opened a recovery beside.
    pub recovering: bool,
    dice: Chance,
    hook_dice: Chance,
    due: Vec<Due>,
    power: bool,
    alive: bool,
    boot: BootId,
}

impl World {
    pub fn new(scenario: Scenario, start: Mono, stamp: Stamp) -> World {
        let mut dice = Chance::new(scenario.seed);
        let mut hook_dice = Chance::new(scenario.seed ^ 0x400c);
        let returning = scenario.kind == Kind::Return;
        let power = dice.number().is_multiple_of(2) && !returning;
        let boot = BootId(dice.uuid());
        let set_by_us =
            SetByUs { disabled: returning, forced_down: returning && scenario.device, restore_policy: false };
        let host = Host {
            boot: scenario.agent.then_some(boot),
            retired_boots: if returning && scenario.agent { vec![boot] } else { Vec::new() },
            admission: if returning { Admission::Out } else { Admission::In },
            ever_agent: scenario.agent,
            set_by_us,
            ..row(HOST, DEAD, false)
        };
        let by = Asked { actor: "ann".into(), reason: "smells of smoke".into() };
        let purpose = if scenario.ordered { Purpose::Ordered { by, failed: None } } else { Purpose::Failure };
        let recovery = Recovery {
            id: RecoveryId(dice.uuid()),
            notification: NotificationId(dice.uuid()),
            segment: host.segment,
            subject: if returning { Subject::Return { host: HOST } } else { Subject::Host { host: HOST } },
            host_name: DEAD.into(),
            method: scenario.method,
            policy: scenario.policy.clone(),
            body: if returning {
                Body::Return(HostReturn::new())
            } else {
                Body::Host(HostRecovery::for_purpose(purpose))
            },
            hooks: if scenario.hooked { super::hooked::draw(&mut hook_dice) } else { Hooks::default() },
            reason: "opened".into(),
            workflow_version: WORKFLOW_VERSION,
            owner: Some(EngineId(Uuid::nil())),
            epoch: 3,
            version: 1,
            opened_at: stamp,
            closed_at: None,
        };
        let ago = |ms: u64| Mono(start.0 - ms);
        let mut evidence = Evidence {
            beats: Beats {
                last: if scenario.agent { vec![(Network::Management, ago(20_000))] } else { Vec::new() },
                boot: scenario.agent.then_some(boot),
                last_echoed: scenario.agent.then_some(ago(20_000)),
                panic: (scenario.agent && power).then_some(ago(15_000)),
                listening_since: ago(900_000),
                ..Beats::default()
            },
            reports: if scenario.agent {
                Vec::new()
            } else {
                vec![Report { at: ago(500), seen: ago(500), by_agent: false }]
            },
            agent: scenario.agent,
            has_device: scenario.device,
            service: Some(ServiceSight {
                at: start,
                up: false,
                forced_down: returning,
                disabled: returning,
                changed_at: None,
                changed_after: None,
                still_since: Some(ago(100_000)),
                others_moving: true,
            }),
            ..Evidence::default()
        };
        let lease = scenario.watched.then(|| Lease::new(&scenario, boot, &mut evidence));
        let store = Store {
            recovery,
            vmoves: BTreeMap::new(),
            unresolved: BTreeMap::new(),
            host,
            reserve: row(HostId(Uuid::from_u128(0xe0)), RESERVE, true),
            applied: BTreeSet::new(),
        };
        let cloud = Cloud::new(&scenario, dice.number(), start);
        let domains = (scenario.agent && dice.number().is_multiple_of(2)).then(Vec::new);
        World {
            scenario,
            now: start,
            stamp,
            store,
            cloud,
            segment_enabled: true,
            confirmation: None,
            confirmed_at: start,
            domains,
            power_on: None,
            power_on_asked: false,
            evidence,
            lease,
            claimed_at: start,
            recovering: false,
            dice,
            hook_dice,
            due: Vec::new(),
            power,
            alive: false,
            boot,
        }
    }

    fn hit(&mut self, percent: u8) -> bool {
        self.dice.number() % 100 < u64::from(percent)
    }

    fn upto(&mut self, ms: u64) -> Duration {
        Duration::from_millis(self.dice.number() % ms.max(1))
    }

    /// A new owner claims what is stored.
    pub fn claim(&mut self) -> Runner {
        self.claimed_at = self.now;
        self.store.recovery.epoch += 1;
        self.store.recovery.version += 1;
        let seed = self.dice.number();
        let vmoves = self.store.vmoves.values().cloned().collect();
        Runner::new(
            self.store.recovery.clone(),
            vmoves,
            self.store.unresolved.values().cloned().collect(),
            seed,
            self.now,
        )
    }

    /// The owner dies, perhaps: its calls go on without it.
    pub fn crashes(&mut self) -> bool {
        if !self.hit(self.scenario.crashes) {
            return false;
        }
        for due in std::mem::take(&mut self.due) {
            if let Op::Effect { effect, .. } = due.op
                && self.dice.number().is_multiple_of(2)
            {
                self.cloud.late(due.at.min(due.started + Duration::from_millis(29_000)), effect);
            }
        }
        self.now = self.now + self.upto(30_000);
        true
    }

    /// Time goes on to the next thing to happen, or a little way towards it.
    pub fn advance(&mut self, wake: Mono) {
        let next = self.due.iter().map(|due| due.at).chain([wake]).min().unwrap_or(wake).max(self.now);
        let early = self.dice.number().is_multiple_of(8);
        self.now = if early { self.now + self.upto(next.since(self.now).as_millis() as u64) } else { next };
        self.cloud.run(self.now);
        self.live();
        self.meddle();
    }

    /// The dead host's doings: most of the time none.
    fn live(&mut self) {
        let life = self.scenario.life;
        if !self.alive && self.hit(life / 4) {
            (self.alive, self.power) = (true, self.power || self.dice.number().is_multiple_of(2));
            if self.dice.number().is_multiple_of(3) {
                self.boot = BootId(self.dice.uuid());
            }
        } else if self.alive && self.hit(10) {
            self.alive = false;
        }
        if self.scenario.kind == Kind::Return && !self.power && self.hit(10) {
            (self.power, self.alive, self.boot) = (true, self.scenario.agent, BootId(self.dice.uuid()));
        }
        if self.alive && self.dice.number().is_multiple_of(2) {
            self.beat();
        }
        if let Some(service) = &mut self.evidence.service {
            let rests = service.changed_at.is_none();
            (service.forced_down, service.disabled) = (self.cloud.forced_down, !self.cloud.enabled);
            if self.alive && !self.scenario.agent && rests {
                (service.changed_after, service.changed_at) = (Some(service.at), Some(self.now));
            }
            service.at = self.now;
        }
        if let Some(lease) = &mut self.lease {
            lease.advance(self.now, self.alive, &mut self.evidence);
        }
        let only = self.only_watchdog();
        if self.hit(2) && !only {
            let power = if self.power { Power::On } else { Power::Off };
            self.evidence.power = self.scenario.device.then(|| PowerReading {
                at: self.now,
                power,
                identified: true,
                device: "bmc".into(),
            });
        }
    }

    fn only_watchdog(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.only)
    }

    fn beat(&mut self) {
        if !self.scenario.agent {
            return;
        }
        let echoed = !self.dice.number().is_multiple_of(4);
        let beats = &mut self.evidence.beats;
        if self.store.host.retired_boots.contains(&self.boot) {
            beats.retired_echoed = if echoed { Some(self.now) } else { beats.retired_echoed };
            return;
        }
        beats.last = vec![(Network::Management, self.now)];
        beats.boot = Some(self.boot);
        beats.received = Some(self.now);
        if let Some(lease) = &mut self.lease {
            lease.renewed(self.now);
            beats.attested = Some(lease.attested(self.boot, self.now));
        }
        beats.last_echoed = if echoed { Some(self.now) } else { beats.last_echoed };
        let row = &mut self.store.host;
        if row.boot != Some(self.boot) && row.admission != Admission::Out {
            (row.boot, row.boot_number) = (Some(self.boot), row.boot_number + 1);
        }
    }

    fn meddle(&mut self) {
        let people = self.scenario.people;
        if self.hit(people / 4) {
            self.store.host.maintenance.operator ^= true;
        }
        if self.hit(people / 8) {
            self.segment_enabled ^= true;
        }
        if self.hit(people / 2) {
            let serial = if self.dice.number().is_multiple_of(3) { "another" } else { SERIAL };
            self.confirmed_at = self.now;
            self.confirmation = Some(Confirmation {
                at: self.now,
                serial: serial.into(),
                actor: "ann".into(),
                reason: "unplugged".into(),
            });
        }
        if self.hit(people) {
            self.cloud.meddle();
        }
        if self.scenario.kind == Kind::Return && self.hit(people / 2) {
            self.power_on = Some(Asked { actor: "ann".into(), reason: "repaired".into() });
            self.power_on_asked = true;
        }
        if self.scenario.kind == Kind::Return && self.domains.is_some() && self.hit(20) {
            let stray = self.dice.number().is_multiple_of(3);
            self.domains = Some(if stray { vec![InstanceId(Uuid::from_u128(0xbad))] } else { Vec::new() });
        }
    }

    /// What the interpreter keeps fresh in the runner's facts.
    pub fn surround(&mut self, runner: &mut Runner) {
        let facts = &mut runner.facts;
        let newer = self
            .evidence
            .power
            .as_ref()
            .filter(|reading| facts.power.as_ref().is_none_or(|known| reading.at > known.at));
        if let Some(reading) = newer {
            facts.power = Some(reading.clone());
        }
        facts.evidence = self.evidence.clone();
        facts.evidence.power = facts.power.clone();
        facts.segment_enabled = self.segment_enabled;
        facts.confirmation = self.confirmation.clone();
        facts.domains = self.domains.clone();
        facts.reserved = vec![self.store.reserve.clone()];
        let other = |name: &String| {
            let host = HostId(Uuid::from_u128(0xf0));
            (name.clone(), ProvedOff { host, by_power: true, heard: None, spoke: None })
        };
        facts.proved_off = self.cloud.proved_off.iter().map(other).collect();
        facts.recovering = self.recovering;
        if let Some(by) = self.power_on.take() {
            facts.power_on = Some(by);
        }
        facts.host = Some(self.store.host.clone());
        if self.store.recovery.hooks.held().is_some() && self.hook_dice.number().is_multiple_of(4) {
            let retry = self.hook_dice.number().is_multiple_of(2);
            facts.hook_wish = Some(HookWish { retry, who: "ann".into() });
        }
        let peer = |n: u128| Peer {
            host: HostId(Uuid::from_u128(0xd0 + n)),
            domain: FailureDomain::default(),
            eligible: true,
            silent_since: (n == 0).then_some(self.evidence.beats.listening_since),
            read_off: false,
        };
        facts.fleet = Fleet {
            hosts: (0..10).map(peer).collect(),
            listening_since: self.evidence.beats.listening_since,
            ..Fleet::default()
        };
    }

    /// Takes an op up; its answer comes later.
    pub fn start(&mut self, op: Op) {
        if let Op::Effect { effect: Effect::RunHook { .. }, .. } = &op {
            let (took, done) = super::hooked::run(&mut self.hook_dice);
            return self.due.push(Due { at: self.now + took, started: self.now, op, hook: Some(done) });
        }
        let slow = self.hit(4);
        let took = match &op {
            Op::Commit(_) | Op::ReadBack(_) if slow => self.upto(9_000),
            Op::Commit(_) | Op::ReadBack(_) => self.upto(40),
            Op::Effect { .. } if slow => self.upto(25_000),
            Op::Effect { effect: Effect::PowerOff { .. }, .. } => self.upto(4_000),
            Op::Effect { .. } => self.upto(900),
            Op::Ask(_) if slow => self.upto(5_000),
            Op::Ask(_) => self.upto(300),
        };
        self.due.push(Due { at: self.now + took, started: self.now, op, hook: None });
    }

    /// The next answer that is due.
    pub fn deliver(&mut self) -> Option<Delivery> {
        let next = self
            .due
            .iter()
            .enumerate()
            .filter(|(_, due)| due.at <= self.now)
            .min_by_key(|(_, due)| due.at)?
            .0;
        let Due { started, op, hook, .. } = self.due.remove(next);
        let mut proves = false;
        let reply = match op {
            Op::Commit(commit) => self.save(&commit),
            Op::ReadBack(nonce) => {
                let readable = !self.hit(self.scenario.db);
                Reply::ReadBack(readable.then(|| self.store.applied.contains(&nonce)))
            }
            Op::Effect { intent, effect: Effect::PowerOff { .. }, .. } => {
                let done = self.fence();
                proves = matches!(&done, Done::Fenced { report } if report.attempts.iter().any(|attempt| attempt.error.as_deref() == Some("")));
                Reply::Effect { intent, done }
            }
            Op::Effect { intent, effect: Effect::PowerOn { .. }, .. } => {
                let done = match self.hit(self.scenario.bmc.max(20)) {
                    true => Done::NotExecuted { text: "the BMC is busy".into() },
                    false => {
                        (self.power, self.alive, self.boot) =
                            (true, self.scenario.agent, BootId(self.dice.uuid()));
                        Done::Accepted { note: "reads on".into() }
                    }
                };
                Reply::Effect { intent, done }
            }
            Op::Effect { intent, .. } if hook.is_some() => {
                let text = "a hook's end was drawn".to_owned();
                Reply::Effect { intent, done: hook.unwrap_or(Done::Unknown { text }) }
            }
            Op::Effect { intent, effect, .. } => {
                let lapses = started + Duration::from_millis(self.scenario.policy.request_lifetime_ms - 500);
                Reply::Effect { intent, done: self.cloud.perform(&effect, self.now, lapses) }
            }
            Op::Ask(query) => {
                let sight = self.look(&query, started);
                Reply::Answer { query, sight }
            }
        };
        Some(Delivery { reply, proves })
    }

    fn look(&mut self, query: &Query, started: Mono) -> Result<Sight, String> {
        if !matches!(query, Query::Power { .. }) {
            return self.cloud.answer(query, started);
        }
        if let Query::Power { host } = query
            && *host != self.store.host.id
        {
            // Another host, proved off: dead as far as this world goes.
            let reading = PowerReading {
                at: self.now,
                power: Power::Off,
                identified: true,
                device: "other bmc".into(),
            };
            return Ok(Sight::Power(reading));
        }
        if self.only_watchdog() || self.hit(self.scenario.bmc) {
            return Err("no answer".into());
        }
        let odd = self.hit(self.scenario.bmc / 2);
        let power = match () {
            () if odd => Power::Other("PoweringOff".into()),
            () if self.power => Power::On,
            () => Power::Off,
        };
        let identified = !self.hit(self.scenario.bmc / 2);
        let reading = PowerReading { at: self.now, power, identified, device: "bmc".into() };
        self.evidence.power = Some(reading.clone());
        Ok(Sight::Power(reading))
    }

    /// One act of the fencer. An empty error marks the attempt that proves, for the observer's eyes only.
    fn fence(&mut self) -> Done {
        let bad = self.hit(self.scenario.bmc.saturating_mul(2).min(80));
        if self.only_watchdog() {
            return Done::NotExecuted { text: "a watchdog takes no orders".into() };
        }
        let kind = if bad { 1 + self.dice.number() % 8 } else { 0 };
        let at = |at_ms, power| Reading { power, at_ms, after_order: true };
        let (mut order, mut identity, mut readings) =
            (OrderAnswer::Accepted, Some(true), vec![at(100, Power::Off), at(1_100, Power::Off)]);
        match kind {
            1 => readings = vec![at(100, Power::Off)],
            2 => readings = vec![at(100, Power::Off), at(1_000, Power::Off)],
            3 => readings.push(at(2_000, Power::On)),
            4 => identity = Some(false),
            5 => order = OrderAnswer::Unknown("silence".into()),
            6 => readings[0].after_order = false,
            7 => return Done::Unknown { text: "the fencer died".into() },
            8 => return Done::NotExecuted { text: "no device answers".into() },
            _ => {
                self.power = false;
                self.alive = self.alive && self.hit(self.scenario.life);
            }
        }
        let attempt = DeviceAttempt {
            level: 0,
            device: "bmc".into(),
            token: None,
            identity_matches: identity,
            stated: false,
            held: false,
            order,
            readings,
            error: (kind == 0).then(String::new),
            took_ms: 1_200,
        };
        Done::Fenced { report: FenceReport { attempts: vec![attempt], levels: vec![1] } }
    }

    fn save(&mut self, commit: &Commit) -> Reply {
        let bad = self.hit(self.scenario.db);
        let kind = if bad { self.dice.number() % 12 } else { 99 };
        match kind {
            0 => return Reply::Lost,
            1..=4 => return Reply::Unavailable("the database is read-only".into()),
            5..=7 => return Reply::Ambiguous,
            _ => {}
        }
        let row = &self.store.recovery;
        if row.version != commit.recovery.version || row.epoch != commit.recovery.epoch {
            return Reply::Lost;
        }
        let doubled = commit.intents.iter().filter_map(|intent| intent.open_key.as_ref()).any(|key| {
            let open = self.store.unresolved.values().filter(|known| known.open_key.as_ref() == Some(key));
            open.into_iter().any(|known| !commit.resolved.iter().any(|end| end.intent == known.id))
        });
        if doubled {
            return Reply::Conflict("an intent of that key is open".into());
        }
        let before = (self.store.host.clone(), self.store.reserve.clone());
        for (id, patch) in &commit.hosts {
            let row = self.row_of(*id);
            if let Err(why) = patch.apply(row) {
                (self.store.host, self.store.reserve) = before;
                return Reply::Conflict(why);
            }
            row.version += 1;
        }
        self.apply(commit);
        if kind < 12 { Reply::Ambiguous } else { Reply::Committed(self.store.recovery.version) }
    }

    fn row_of(&mut self, id: HostId) -> &mut Host {
        if id == self.store.host.id { &mut self.store.host } else { &mut self.store.reserve }
    }

    fn apply(&mut self, commit: &Commit) {
        if commit.audit.iter().any(|entry| entry.what == "statement_void") {
            self.confirmation = None;
        }
        self.recovering |= commit.opens.iter().any(|opened| matches!(opened.body, Body::Host(_)));
        self.store.applied.insert(commit.nonce);
        self.store.recovery = commit.recovery.clone();
        self.store.recovery.version += 1;
        self.store.vmoves.extend(commit.vmoves.iter().map(|vmove| (vmove.instance, vmove.clone())));
        for end in &commit.resolved {
            self.store.unresolved.remove(&end.intent);
        }
        self.store.unresolved.extend(commit.intents.iter().map(|intent| (intent.id, intent.clone())));
    }
}

fn row(id: HostId, name: &str, reserved: bool) -> Host {
    Host {
        kind: "COMPUTE".into(),
        reserved,
        boot_number: 4,
        serial: Some(SERIAL.into()),
        ..Host::new(id, SegmentId(Uuid::from_u128(0x5)), name)
    }
}

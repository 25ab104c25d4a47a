//! Engines, agents and a cloud in one queue of virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use halberd_core::brake::Disarmed;
use halberd_core::effect::{Done, Effect, Query};
use halberd_core::evidence::{Network, UserLand, Witness};
use halberd_core::facts::{Confirmation, ProvedOff};
use halberd_core::hook::HookWish;
use halberd_core::host::{Admission, Asked, FailureDomain, Host, Maintenance, SetByUs};
use halberd_core::id::{BootId, EngineId, HostId, NotificationId, RecoveryId, SegmentId};
use halberd_core::lease::{Hold, Observed};
use halberd_core::notification::{Claim, Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::policy::Policy;
use halberd_core::recovery::host::{HostRecovery, Purpose};
use halberd_core::recovery::instance::{InstanceRecovery, InstanceState};
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{Body, Recovery, Subject, WORKFLOW_VERSION};
use halberd_core::runner::{Op, Reply, Runner, Sight};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::{Mono, Stamp};
use halberd_core::verdict::Judgement;
use halberd_engine::collect::fleet::Fleet;
use halberd_engine::collect::look::{self, Todo};
use halberd_sim::{BmcKind, Fault, ServicePut, World, WorldSpec};
use uuid::Uuid;

use super::fence::{self, Act, Next};
use super::hooks::{Configured, HookWorld, How};
use super::nova;
use super::store::{ModelStore, Refused};
use super::watchdog::{self, Watchdogs, Watched};

/// Monotonic time of virtual zero: "long before" can still be said.
const BASE: u64 = 1_000_000_000;
/// An engine's look at everything. Coarser than in production, so that thousands of seeds fit into minutes.
const TICK_MS: u64 = 200;
/// A commit's time on a good disk.
const COMMIT_MS: u64 = 3;

/// Virtual milliseconds as the engines' monotonic clock.
pub fn mono(now: u64) -> Mono {
    Mono(BASE + now)
}

fn asked(reason: &str) -> Asked {
    Asked { actor: "ann".into(), reason: reason.into() }
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub world: WorldSpec,
    pub engines: usize,
    /// Whether hosts have our agent.
    pub agents: bool,
    pub policy: Policy,
    pub method: RecoveryMethod,
    /// Hosts kept in reserve, by name.
    pub reserved: Vec<String>,
    /// Racks are on file as failure domains.
    pub racks_known: bool,
    pub faults: StoreFaults,
    pub hooks: Vec<Configured>,
    /// How they end, where nothing else is said.
    pub hooks_end: How,
    /// Every host has one.
    pub watchdogs: Option<Watchdogs>,
}

/// How the database lies, in parts of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreFaults {
    pub unavailable: u64,
    pub ambiguous: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            world: WorldSpec::default(),
            engines: 1,
            agents: true,
            policy: Policy::default(),
            method: RecoveryMethod::Auto,
            reserved: Vec::new(),
            racks_known: true,
            faults: StoreFaults::default(),
            hooks: Vec::new(),
            hooks_end: How::Well(2_000),
            watchdogs: None,
        }
    }
}

/// One engine process in virtual time.
#[derive(Debug)]
pub struct Engine {
    pub name: String,
    pub id: EngineId,
    /// A restart makes a new one; replies to the old one are lost.
    incarnation: u32,
    pub alive: bool,
    /// Frozen: nothing runs, nothing is lost.
    pub frozen: bool,
    fleet: Fleet,
    pub runners: BTreeMap<RecoveryId, Runner>,
    others: BTreeMap<EngineId, Observed>,
    hold: Hold,
    counter: i64,
    first: bool,
    rows_at: Option<u64>,
    /// Sum of the host rows' versions when they were last read.
    refreshed: i64,
    confirmations: BTreeMap<HostId, Confirmation>,
    released: BTreeMap<HostId, Vec<halberd_core::brake::Gate>>,
    hook_wishes: BTreeMap<RecoveryId, HookWish>,
    ordered: BTreeMap<HostId, Asked>,
    power_on: BTreeMap<HostId, Asked>,
}

#[derive(Debug)]
enum Ev {
    Tick(usize),
    Beats,
    Watchdogs,
    Reply {
        engine: usize,
        incarnation: u32,
        recovery: RecoveryId,
        reply: Reply,
    },
    Power {
        engine: usize,
        incarnation: u32,
        host: HostId,
        sight: Result<halberd_core::evidence::PowerReading, String>,
    },
    UserLand {
        engine: usize,
        incarnation: u32,
        host: HostId,
        at: u64,
        answered: bool,
    },
    Rows {
        engine: usize,
        incarnation: u32,
        at: u64,
        rows: Result<Vec<halberd_core::effect::ServiceRow>, String>,
    },
    Act(u64),
}

#[derive(Debug)]
struct ActOf {
    act: Act,
    engine: usize,
    incarnation: u32,
    recovery: RecoveryId,
    epoch: i64,
    intent: Uuid,
}

/// What an operator, a script or a seed does to the whole.
#[derive(Clone, Debug)]
pub enum Cue {
    Fault(Fault),
    /// A COMPUTE_HOST/STOPPED/NORMAL report by an authorised caller.
    Report(String),
    /// The n-th guest's QEMU died: LIFECYCLE/STOPPED_FAILED by its host's monitor.
    GuestDown(usize),
    /// PROCESS/STOPPED of a process on a host.
    ProcessDown {
        host: String,
        name: String,
    },
    KillEngine(usize),
    StartEngine(usize),
    FreezeEngine(usize),
    ThawEngine(usize),
    Maintenance(String, bool),
    /// Of a brake, or of the hook that holds it.
    Release(String),
    /// About the hook that holds it, and nothing else: run it again, or go on without it.
    HookWord {
        host: String,
        retry: bool,
    },
    /// How a hook ends from now on.
    Hook(String, How),
    Confirm {
        host: String,
        serial: String,
    },
    Disarm,
    /// The host's agent stands still for so long; everything else there runs.
    SuspendAgent {
        host: String,
        for_ms: u64,
    },
    /// Messages of a crash kernel from the host's address, for so long; nobody signed them.
    Kdump {
        host: String,
        for_ms: u64,
    },
    /// The host's own signed statement of its panic.
    Panic(String),
    /// An operator has it turned off, dead or alive.
    Fence(String),
    /// An operator has it switched on once it is drained.
    PowerOn(String),
    /// An operator has its devices shown.
    Drill(String),
    /// An operator takes its nova-compute out of scheduling, or back.
    Compute {
        host: String,
        enabled: bool,
    },
}

/// Everything.
#[derive(Debug)]
pub struct Sim {
    pub world: World,
    pub store: ModelStore,
    pub engines: Vec<Engine>,
    pub setup: Setup,
    pub now: u64,
    segment: SegmentId,
    queue: BTreeMap<(u64, u64), Ev>,
    sequence: u64,
    acts: BTreeMap<u64, ActOf>,
    chance: halberd_core::chance::Chance,
    /// Last time each host was heard by each other, for witnesses.
    heard: BTreeMap<(String, String), u64>,
    cues: Vec<(u64, Cue)>,
    next_cue: usize,
    /// Named moments at which the process of the first engine is to be killed, for crash points: after the n-th commit.
    pub commits: u64,
    pub kill_after_commit: Option<u64>,
    pub kill_before_effects: bool,
    pub log: Vec<(u64, String)>,
    pub hooks: HookWorld,
    pub watched: Watched,
    /// Hosts with a session on record that carried an order.
    recorded: BTreeSet<HostId>,
}

impl Sim {
    pub fn new(setup: Setup, mut cues: Vec<(u64, Cue)>) -> Sim {
        let world = World::new(setup.world.clone());
        let mut chance = halberd_core::chance::Chance::new(setup.world.seed ^ 0x5eed);
        let segment = SegmentId(chance.uuid());
        let mut store = ModelStore::default();
        store.segments.insert(
            segment,
            Segment {
                id: segment,
                name: "all".into(),
                description: None,
                service_type: "COMPUTE".into(),
                recovery_method: setup.method,
                enabled: true,
            },
        );
        for name in world.host_names() {
            let view = world.host(&name);
            let id = HostId(chance.uuid());
            let domain =
                FailureDomain { rack: setup.racks_known.then_some(view.rack), ..FailureDomain::default() };
            let host = Host {
                id,
                segment,
                name: name.clone(),
                kind: "COMPUTE".into(),
                control_attributes: String::new(),
                reserved: setup.reserved.contains(&name),
                reserved_by: None,
                maintenance: Maintenance::default(),
                admission: Admission::In,
                boot_number: 1,
                boot: setup.agents.then_some(BootId(view.boot_id)),
                retired_boots: Vec::new(),
                ever_agent: setup.agents,
                domain,
                serial: Some(view.serial),
                machine: Some(view.uuid),
                proof: None,
                set_by_us: SetByUs::default(),
                version: 1,
            };
            store.hosts.insert(id, host);
        }
        cues.sort_by_key(|cue| cue.0);
        let mut sim = Sim {
            world,
            store,
            engines: Vec::new(),
            now: 0,
            segment,
            queue: BTreeMap::new(),
            sequence: 0,
            acts: BTreeMap::new(),
            chance,
            heard: BTreeMap::new(),
            cues,
            next_cue: 0,
            commits: 0,
            kill_after_commit: None,
            kill_before_effects: false,
            log: Vec::new(),
            hooks: HookWorld::new(setup.hooks.clone(), setup.hooks_end, setup.world.seed),
            watched: Watched::default(),
            recorded: BTreeSet::new(),
            setup,
        };
        for number in 0..sim.setup.engines {
            let engine = sim.new_engine(format!("engine-{}", number + 1), 0);
            sim.engines.push(engine);
            sim.push(number as u64 * 7, Ev::Tick(number));
        }
        sim.push(0, Ev::Beats);
        if sim.setup.watchdogs.is_some() {
            sim.push(0, Ev::Watchdogs);
        }
        sim
    }

    fn new_engine(&mut self, name: String, incarnation: u32) -> Engine {
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
        }
    }

    fn refresh(&self, fleet: &mut Fleet) {
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
    }

    fn has_bmc(&self, host: &Host) -> bool {
        self.world.bmc_kind(&host.name) != BmcKind::None
    }

    fn push(&mut self, at: u64, event: Ev) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn say(&mut self, text: impl Into<String>) {
        self.log.push((self.now, text.into()));
    }

    pub fn stamp(&self) -> Stamp {
        Stamp(i64::try_from(self.now).expect("short runs") * 1_000)
    }

    /// Runs until the given time.
    pub fn run_until(&mut self, end: u64) {
        loop {
            let event_at = self.queue.first_key_value().map(|(key, _)| key.0);
            let cue_at = self.cues.get(self.next_cue).map(|cue| cue.0);
            let Some(next) = [event_at, cue_at].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = next;
            self.world.advance(next);
            if cue_at == Some(next) {
                let (_, cue) = self.cues[self.next_cue].clone();
                self.next_cue += 1;
                self.cue(cue);
                continue;
            }
            if let Some((_, event)) = self.queue.pop_first() {
                self.handle(event);
            }
        }
        self.now = end;
        self.world.advance(end);
    }

    /// Adds something to happen; its time must not have passed.
    pub fn add_cue(&mut self, at: u64, cue: Cue) {
        self.cues.push((at, cue));
        self.cues[self.next_cue..].sort_by_key(|cue| cue.0);
    }

    pub fn cue(&mut self, cue: Cue) {
        match cue {
            Cue::Fault(fault) => {
                self.say(format!("* {fault:?}"));
                let now = self.now;
                self.world.inject(now, fault);
            }
            Cue::Report(host) => self.report(&host),
            Cue::GuestDown(number) => self.guest_down(number),
            Cue::ProcessDown { host, name } => {
                self.say(format!("* {name} on {host} is reported stopped: 202"));
                let words = [("event", "STOPPED"), ("process_name", name.as_str())];
                self.report_of(&host, NotificationType::Process, &words);
            }
            Cue::KillEngine(number) => self.kill(number),
            Cue::StartEngine(number) => self.start(number),
            Cue::FreezeEngine(number) => {
                self.say(format!("* {} is frozen", self.engines[number].name));
                self.engines[number].frozen = true;
                self.hooks.cut(self.now, number, None);
            }
            Cue::ThawEngine(number) => {
                self.say(format!("* {} runs on", self.engines[number].name));
                self.engines[number].frozen = false;
                let now = mono(self.now);
                self.engines[number].fleet.deaf_until(now);
                let now = self.now;
                self.push(now, Ev::Tick(number));
            }
            Cue::Maintenance(name, on) => {
                self.say(format!("* the operator sets maintenance of {name} to {on}"));
                if let Some(host) = self.store.hosts.values_mut().find(|host| host.name == name) {
                    host.maintenance.operator = on;
                    host.version += 1;
                }
            }
            Cue::Release(name) => {
                self.say(format!("* the operator releases {name}"));
                let Some(id) = self.store.host_named(&name).map(|host| host.id) else { return };
                if self.wish_about_hook(id, false) {
                    return;
                }
                let held = halberd_core::brake::Gate::ALL
                    .iter()
                    .copied()
                    .filter(|gate| gate.is_releasable())
                    .collect::<Vec<_>>();
                for engine in &mut self.engines {
                    engine.released.insert(id, held.clone());
                }
            }
            Cue::HookWord { host, retry } => {
                let Some(id) = self.store.host_named(&host).map(|host| host.id) else { return };
                let word = if retry { "run again" } else { "gone on without" };
                if self.wish_about_hook(id, retry) {
                    self.say(format!("* the operator wants the hook that holds {host} {word}"));
                }
            }
            Cue::Hook(name, how) => {
                self.say(format!("* hook {name} from now on: {how:?}"));
                self.hooks.set(&name, how);
            }
            Cue::Confirm { host, serial } => {
                self.say(format!("* the operator confirms that {host} is off"));
                let Some(id) = self.store.host_named(&host).map(|host| host.id) else { return };
                let said = Confirmation {
                    at: mono(self.now),
                    serial,
                    actor: "ann".into(),
                    reason: "unplugged".into(),
                };
                for engine in &mut self.engines {
                    engine.confirmations.insert(id, said.clone());
                }
            }
            Cue::SuspendAgent { host, for_ms } => {
                self.say(format!("* the agent of {host} stands still for {for_ms} ms"));
                self.watched.suspend(&host, self.now + for_ms);
            }
            Cue::Kdump { host, for_ms } => self.kdump(&host, for_ms),
            Cue::Panic(host) => {
                self.say(format!("* {host} signs that its kernel panics"));
                let Some(id) = self.store.host_named(&host).map(|host| host.id) else { return };
                let now = mono(self.now);
                for known in self.engines.iter_mut().filter_map(|engine| engine.fleet.hosts.get_mut(&id)) {
                    known.sight.panicked(now);
                }
            }
            Cue::Fence(name) => self.fence(&name),
            Cue::PowerOn(name) => {
                self.say(format!("* the operator has {name} switched on"));
                let Some(id) = self.store.host_named(&name).map(|host| host.id) else { return };
                for engine in &mut self.engines {
                    engine.power_on.insert(id, asked("repaired"));
                }
            }
            Cue::Drill(name) => {
                self.say(format!("* the operator orders a drill on {name}"));
                self.open_asked(&name, |by| Purpose::Drill { by, heard: false, unnamed: Vec::new() });
            }
            Cue::Compute { host, enabled } => {
                let word = if enabled { "enables" } else { "disables" };
                self.say(format!("* the operator {word} nova-compute of {host}"));
                let now = self.now;
                let id = self.world.service_id(&host);
                let put = ServicePut { disabled: Some(!enabled), ..ServicePut::default() };
                let _ = self.world.put_service(now, id, &put);
            }
            Cue::Disarm => {
                self.say("* disarmed");
                let until = Mono(u64::MAX);
                for engine in &mut self.engines {
                    engine.fleet.disarmed = Some(Disarmed { reason: "exercise".into(), until });
                }
            }
        }
    }

    /// One message, and the next in ten seconds.
    fn kdump(&mut self, host: &str, for_ms: u64) {
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

    fn watchdogs(&mut self) {
        let Some(kind) = self.setup.watchdogs else { return };
        let (now, next) = (self.now, self.now + watchdog::TICK_MS);
        self.push(next, Ev::Watchdogs);
        for host in self.watched.tick(&mut self.world, now, &kind) {
            self.say(format!("* the watchdog of {host} fires"));
        }
    }

    /// What the wish does: the open recovery is told, or one is opened.
    fn fence(&mut self, name: &str) {
        self.say(format!("* the operator has {name} turned off"));
        let Some(host) = self.store.host_named(name).cloned() else { return };
        if self.store.open_for(&Subject::Host { host: host.id }).is_some() {
            for engine in &mut self.engines {
                engine.ordered.insert(host.id, asked("smells of smoke"));
            }
            return;
        }
        if host.admission != Admission::In {
            return self.say(format!("* that is refused: {name} is {}", host.admission));
        }
        self.open_asked(name, |by| Purpose::Ordered { by, failed: None });
    }

    fn open_asked(&mut self, name: &str, purpose: impl Fn(Asked) -> Purpose) {
        let Some(host) = self.store.host_named(name).cloned() else { return };
        let purpose = purpose(asked("smells of smoke"));
        let drill = matches!(purpose, Purpose::Drill { .. });
        let report = self.notification(&host, Origin::Caller, NotificationStatus::Running);
        let mut recovery = self.recovery(report.id, &host);
        recovery.body = Body::Host(HostRecovery::for_purpose(purpose));
        if drill {
            recovery.hooks = halberd_core::hook::Hooks::default();
        }
        self.store.open(recovery, (!drill).then_some(report));
    }

    /// A word about every held recovery on this host; false when a hook holds none.
    fn wish_about_hook(&mut self, host: HostId, retry: bool) -> bool {
        let rows = self.store.recoveries.values().map(|(row, _)| row);
        let held =
            rows.filter(|row| row.is_open() && row.subject.host() == host && row.hooks.held().is_some());
        let ids: Vec<RecoveryId> = held.map(|row| row.id).collect();
        for engine in &mut self.engines {
            for id in &ids {
                engine.hook_wishes.insert(*id, HookWish { retry, who: "ann".into() });
            }
        }
        !ids.is_empty()
    }

    fn report(&mut self, name: &str) {
        let Some(host) = self.store.host_named(name).cloned() else { return };
        let open = self.store.open_for(&Subject::Host { host: host.id }).is_some();
        if open || host.admission != Admission::In || host.maintenance.operator {
            return self.say(format!("* a report that {name} is down is answered 409"));
        }
        self.say(format!("* {name} is reported down: 202"));
        let report = self.notification(&host, Origin::Caller, NotificationStatus::New);
        self.store.notifications.insert(report.id, report);
    }

    fn guest_down(&mut self, number: usize) {
        let Some(guest) = self.world.guest_ids().get(number).copied() else { return };
        let now = self.now;
        let at = self.world.running_on(guest);
        self.world.inject(now, Fault::GuestCrash { guest });
        let Some(host) = at.first().cloned() else { return };
        self.say(format!("* a guest on {host} crashes and is reported: 202"));
        let id = guest.to_string();
        let words =
            [("event", "LIFECYCLE"), ("vir_domain_event", "STOPPED_FAILED"), ("instance_uuid", id.as_str())];
        self.report_of(&host, NotificationType::Vm, &words);
    }

    fn report_of(&mut self, host: &str, kind: NotificationType, words: &[(&str, &str)]) {
        let Some(host) = self.store.host_named(host).cloned() else { return };
        let payload = words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let report = self.notification(&host, Origin::Caller, NotificationStatus::New);
        let report = Notification { kind, payload, ..report };
        self.store.notifications.insert(report.id, report);
    }

    fn notification(&mut self, host: &Host, origin: Origin, status: NotificationStatus) -> Notification {
        let words = [("event", "STOPPED"), ("host_status", "NORMAL"), ("cluster_status", "OFFLINE")];
        Notification {
            id: NotificationId(self.chance.uuid()),
            kind: NotificationType::ComputeHost,
            host: host.id,
            segment: self.segment,
            generated_at: self.stamp(),
            payload: words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            origin,
            status,
            message: None,
        }
    }

    pub fn kill(&mut self, number: usize) {
        let engine = &mut self.engines[number];
        if !engine.alive {
            return;
        }
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

    fn is_current(&self, engine: usize, incarnation: u32) -> bool {
        self.engines[engine].alive && self.engines[engine].incarnation == incarnation
    }

    fn handle(&mut self, event: Ev) {
        match event {
            Ev::Tick(number) => self.tick(number),
            Ev::Beats => self.beats(),
            Ev::Watchdogs => self.watchdogs(),
            Ev::Reply { engine, incarnation, recovery, reply } => {
                if self.is_current(engine, incarnation) {
                    let at = mono(self.now);
                    if let Some(runner) = self.engines[engine].runners.get_mut(&recovery) {
                        runner.reply(reply, at);
                    }
                    if !self.engines[engine].frozen {
                        self.poll(engine, recovery);
                    }
                }
            }
            Ev::Power { engine, incarnation, host, sight } => {
                if self.is_current(engine, incarnation)
                    && let Some(known) = self.engines[engine].fleet.hosts.get_mut(&host)
                {
                    known.probing.power_busy = false;
                    if let Ok(reading) = sight {
                        known.sight.power = Some(reading);
                    }
                }
            }
            Ev::UserLand { engine, incarnation, host, at, answered } => {
                if self.is_current(engine, incarnation)
                    && let Some(known) = self.engines[engine].fleet.hosts.get_mut(&host)
                {
                    known.probing.user_land_busy = false;
                    known.sight.user_land = Some(UserLand { at: mono(at), answered });
                }
            }
            Ev::Rows { engine, incarnation, at, rows } => {
                if self.is_current(engine, incarnation) {
                    match rows {
                        Ok(rows) => self.engines[engine].fleet.observe_rows(&rows, mono(at)),
                        Err(why) => self.engines[engine].fleet.nova = Err(why),
                    }
                }
            }
            Ev::Act(number) => self.step_act(number),
        }
    }

    /// Every agent beats: engines hear it, and so do the other agents, who tell in their own beats.
    fn beats(&mut self) {
        let interval = self.setup.policy.beat_interval_ms;
        let at = self.now + interval;
        self.push(at, Ev::Beats);
        if !self.setup.agents {
            return;
        }
        let now = self.now;
        let mut sights = self.world.beats(now);
        sights.retain(|sight| !self.watched.is_suspended(&sight.host, now));
        let names: Vec<String> = self.world.host_names();
        for sight in &sights {
            for other in names.iter().filter(|other| **other != sight.host) {
                let heard = halberd_sim::Network::ALL
                    .into_iter()
                    .any(|network| self.world.reaches(now, &sight.host, other, network));
                if heard {
                    self.heard.insert((other.clone(), sight.host.clone()), now);
                }
            }
        }
        for number in 0..self.engines.len() {
            if !self.engines[number].alive || self.engines[number].frozen {
                continue;
            }
            for sight in &sights {
                self.hear(number, sight, &names);
            }
        }
    }

    fn hear(&mut self, number: usize, sight: &halberd_sim::AgentSight, names: &[String]) {
        let now = self.now;
        let engine_name = self.engines[number].name.clone();
        let Some(id) = self.store.host_named(&sight.host).map(|host| host.id) else { return };
        let mut any = false;
        for network in halberd_sim::Network::ALL {
            if !self.world.reaches(now, &sight.host, &engine_name, network) {
                continue;
            }
            let echoed = self.world.reaches(now, &engine_name, &sight.host, network);
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
        if !any {
            return;
        }
        let rack = self.world.host(&sight.host).rack;
        for about in names.iter().filter(|about| **about != sight.host) {
            let heard = self
                .heard
                .get(&(sight.host.clone(), about.clone()))
                .map(|at| Duration::from_millis(now - at));
            let statement = Witness {
                name: sight.host.clone(),
                domain: Some(rack.clone()),
                at: mono(now),
                heard,
                storage_only: false,
            };
            let Some(other) = self.store.host_named(about).map(|host| host.id) else { continue };
            if let Some(known) = self.engines[number].fleet.hosts.get_mut(&other) {
                known.sight.witness(statement);
            }
        }
    }

    fn tick(&mut self, number: usize) {
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
        if self.engines[number].hold.renew_due(now) {
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

    /// What the agents' start gates do with the engines' word for their boot (DESIGN 10.1).
    fn gates(&mut self) {
        if !self.setup.world.gate {
            return;
        }
        let words: Vec<(String, Admission, Option<BootId>)> =
            self.store.hosts.values().map(|host| (host.name.clone(), host.admission, host.boot)).collect();
        for (name, admission, boot) in words {
            let view = self.world.host(&name);
            let this_boot = boot.is_none_or(|boot| boot.0 == view.boot_id);
            match admission {
                _ if !view.gated || !self.world.is_alive(&name) => {}
                Admission::Admitted => self.world.admit(self.now, &name),
                Admission::In if this_boot => self.world.open_gate(self.now, &name),
                Admission::In | Admission::Out => {}
            }
        }
    }

    fn observe(&mut self, number: usize) {
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

    fn todo(&mut self, number: usize, todo: Todo) {
        let now = self.now;
        let incarnation = self.engines[number].incarnation;
        match todo {
            Todo::Power(host) => {
                let row = self.store.hosts[&host].clone();
                let (ms, sight) = fence::read(&mut self.world, now, &row.name, row.serial.as_deref());
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

    fn recovery(&mut self, notification: NotificationId, host: &Host) -> Recovery {
        Recovery {
            id: RecoveryId(self.chance.uuid()),
            notification,
            segment: self.segment,
            subject: Subject::Host { host: host.id },
            host_name: host.name.clone(),
            method: self.setup.method,
            policy: self.setup.policy.clone(),
            body: Body::Host(HostRecovery::new()),
            reason: "opened".into(),
            hooks: self.hooks.for_kind("host"),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 0,
            version: 0,
            opened_at: self.stamp(),
            closed_at: None,
        }
    }

    fn open_by_verdict(&mut self, number: usize, host: HostId, judgement: &Judgement) {
        let row = self.store.hosts[&host].clone();
        if row.maintenance.operator
            || row.admission != Admission::In
            || self.store.open_for(&Subject::Host { host }).is_some()
        {
            return;
        }
        let report = self.notification(&row, Origin::Engine, NotificationStatus::Running);
        let recovery = self.recovery(report.id, &row);
        let engine = self.engines[number].name.clone();
        let class = judgement.class.map_or("?".to_owned(), |class| class.to_string());
        self.say(format!("{engine} judges {}: failed ({class})", row.name));
        self.store.open(recovery, Some(report));
    }

    fn intake(&mut self, number: usize) {
        let new: Vec<Notification> = self
            .store
            .notifications
            .values()
            .filter(|report| report.status == NotificationStatus::New)
            .cloned()
            .collect();
        let at = if self.engines[number].first { Mono(0) } else { mono(self.now) };
        self.engines[number].first = false;
        for report in new {
            let host = self.store.hosts[&report.host].clone();
            let mut recovery = self.recovery(report.id, &host);
            match report.claim() {
                Claim::GuestDown { instance } => {
                    let instance = instance.parse().expect("a uuid");
                    recovery.subject = Subject::Guest { instance, host: host.id };
                    recovery.body = Body::Instance(InstanceRecovery { state: InstanceState::Confirming });
                }
                Claim::ProcessDown { name } => {
                    recovery.subject = Subject::Process { host: host.id, name };
                    recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Confirming });
                }
                _ => {
                    let known = self.engines[number].fleet.note_report(host.id, report.id, at, false);
                    assert!(known, "every host is known from the beginning");
                }
            }
            recovery.hooks = self.hooks.for_kind(recovery.subject.kind());
            self.store.open(recovery, None);
        }
    }

    fn claim(&mut self, number: usize) {
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
                let at = if fresh { mono(self.now) } else { Mono(0) };
                if !self.store.hosts[&host].ever_agent {
                    let known =
                        self.engines[number].fleet.note_report(host, recovery.notification, at, false);
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
    fn poll(&mut self, number: usize, id: RecoveryId) {
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
        facts.segment_enabled = true;
        facts.host = Some(row);
        let ops = runner.poll(now, stamp);
        let over = runner.is_over();
        if over {
            engine.fleet.doubt(&runner.recovery().subject, false);
            engine.runners.remove(&id);
            engine.released.remove(&host);
            engine.confirmations.remove(&host);
            engine.hook_wishes.remove(&id);
            self.hooks.cut(self.now, number, Some(id));
        }
        let _ = setup;
        for op in ops {
            self.start_op(number, id, op);
        }
    }

    fn start_op(&mut self, number: usize, recovery: RecoveryId, op: Op) {
        let now = self.now;
        let incarnation = self.engines[number].incarnation;
        let may_act = self.engines[number].hold.may_act(mono(now));
        let (ms, reply) = match op {
            Op::Commit(commit) => {
                let reply =
                    if may_act { self.commit(&commit) } else { Reply::Unavailable("no lease".into()) };
                if matches!(reply, Reply::Committed(_)) {
                    self.commits += 1;
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
                self.engines[number].fleet.fence_ordered(host, mono(now));
                self.sequence += 1;
                let key = self.sequence;
                let act = Act::new(&row.name, row.serial, now);
                self.acts.insert(key, ActOf { act, engine: number, incarnation, recovery, epoch, intent });
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
                let (ms, done) = nova::perform(&mut self.world, now, &effect);
                (ms, Reply::Effect { intent, done })
            }
            Op::Ask(query @ Query::Power { host }) => {
                let row = self.store.hosts[&host].clone();
                let (ms, sight) = fence::read(&mut self.world, now, &row.name, row.serial.as_deref());
                (ms, Reply::Answer { query, sight: sight.map(Sight::Power) })
            }
            Op::Ask(query) => {
                let (ms, sight) = nova::ask(&mut self.world, now, &query);
                (ms, Reply::Answer { query, sight })
            }
        };
        self.push(now + ms.max(1), Ev::Reply { engine: number, incarnation, recovery, reply });
    }

    fn commit(&mut self, commit: &halberd_core::runner::Commit) -> Reply {
        let roll = self.chance.number() % 1_000;
        let faults = self.setup.faults;
        if roll < faults.unavailable {
            return Reply::Unavailable("disk full".into());
        }
        let lost_after = roll >= faults.unavailable && roll < faults.unavailable + faults.ambiguous;
        if lost_after && self.chance.number().is_multiple_of(2) {
            return Reply::Ambiguous;
        }
        let applied = self.store.commit(self.now, commit);
        match applied {
            Ok(_) if lost_after => Reply::Ambiguous,
            Ok(version) => Reply::Committed(version),
            Err(Refused::Lost) => Reply::Lost,
            Err(Refused::Conflict(why)) => Reply::Conflict(why),
        }
    }

    /// Ends the sessions recorded for the host: what stands still on one of them ends with it.
    fn revoke(&mut self, host: HostId, name: &str) -> (u64, Done) {
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

    fn step_act(&mut self, key: u64) {
        let Some(mut of) = self.acts.remove(&key) else { return };
        if !self.is_current(of.engine, of.incarnation) {
            return;
        }
        if self.engines[of.engine].frozen {
            let at = self.now + 100;
            self.acts.insert(key, of);
            return self.push(at, Ev::Act(key));
        }
        let may_send = self.store.recoveries.get(&of.recovery).is_some_and(|(row, _)| {
            row.is_open() && row.epoch == of.epoch && row.owner == Some(self.engines[of.engine].id)
        });
        let next = of.act.step(&mut self.world, self.now, may_send);
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
                if let Some(host) = self.store.host_named(&of.act.host).map(|host| host.id) {
                    self.engines[of.engine].fleet.fence_ended(host);
                }
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
}

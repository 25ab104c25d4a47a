//! Engines, agents and a cloud in one queue of virtual time.

mod agents;
mod deeds;
mod drive;
mod engine;
mod operator;
mod queue;
mod reports;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use halberd_core::brake::Disarmed;
use halberd_core::effect::{Done, Effect, Query};
use halberd_core::evidence::{Network, UserLand, Witness};
use halberd_core::facts::{Confirmation, ProvedOff};
use halberd_core::hook::HookWish;
use halberd_core::host::{Admission, Asked, FailureDomain, Host};
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

use crate::virt::fence::{self, Act, Next};
use crate::virt::hooks::{Configured, HookWorld, How};
use crate::virt::nova;
use crate::virt::onlooker::Onlooker;
use crate::virt::store::{ModelStore, Refused};
use crate::virt::watchdog::{self, Watchdogs, Watched};

pub use engine::Engine;
pub use operator::Cue;
use queue::{ActOf, Ev};

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
    pub faults: Faults,
    pub hooks: Vec<Configured>,
    /// How they end, where nothing else is said.
    pub hooks_end: How,
    /// Every host has one.
    pub watchdogs: Option<Watchdogs>,
    /// Every wall clock jumps at these times, by so many milliseconds.
    pub clock_jumps: Vec<(u64, i64)>,
}

/// How often things go wrong by themselves, in parts of a thousand, until the faults stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The database refuses: commits, claims, renewals.
    pub unavailable: u64,
    /// The connection breaks at a commit; half of those are applied.
    pub ambiguous: u64,
    /// A beat, or the answer to one, is lost; of calls to Nova a tenth as many, half of them before they were heard.
    pub loss: u64,
    /// A BMC reads the contrary. Off of a machine that stands still could be told from the truth by nobody: that lie is left out.
    pub lies: u64,
    pub until: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { unavailable: 0, ambiguous: 0, loss: 0, lies: 0, until: u64::MAX }
    }
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
            faults: Faults::default(),
            clock_jumps: Vec::new(),
            hooks: Vec::new(),
            hooks_end: How::Well(2_000),
            watchdogs: None,
        }
    }
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
    heard: Vec<Vec<Option<u64>>>,
    /// Each host's rack, in the world's order.
    racks: Vec<String>,
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
    pub onlooker: Onlooker,
    /// All engines are disarmed.
    disarmed: bool,
    /// Dice of what goes wrong by itself.
    luck: halberd_core::chance::Chance,
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
        let mut racks = Vec::new();
        for name in world.host_names() {
            let view = world.host(&name);
            racks.push(view.rack.clone());
            let id = HostId(chance.uuid());
            let domain =
                FailureDomain { rack: setup.racks_known.then_some(view.rack), ..FailureDomain::default() };
            let host = Host {
                kind: "COMPUTE".into(),
                reserved: setup.reserved.contains(&name),
                boot_number: 1,
                boot: setup.agents.then_some(BootId(view.boot_id)),
                ever_agent: setup.agents,
                domain,
                serial: Some(view.serial),
                machine: Some(view.uuid),
                ..Host::new(id, segment, name.clone())
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
            heard: Vec::new(),
            racks,
            cues,
            next_cue: 0,
            commits: 0,
            kill_after_commit: None,
            kill_before_effects: false,
            log: Vec::new(),
            hooks: HookWorld::new(setup.hooks.clone(), setup.hooks_end, setup.world.seed),
            watched: Watched::default(),
            recorded: BTreeSet::new(),
            onlooker: Onlooker::default(),
            disarmed: false,
            luck: halberd_core::chance::Chance::new(setup.world.seed ^ 0x0dd5),
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

    fn push(&mut self, at: u64, event: Ev) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn say(&mut self, text: impl Into<String>) {
        self.log.push((self.now, text.into()));
    }

    pub fn stamp(&self) -> Stamp {
        let jumped = self.setup.clock_jumps.iter().filter(|(at, _)| *at <= self.now);
        let by: i64 = jumped.map(|(_, by)| by).sum();
        Stamp((i64::try_from(self.now).expect("short runs") + by) * 1_000)
    }

    /// Whether something goes wrong now that does so this often.
    fn unlucky(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.now < self.setup.faults.until && self.luck.number() % 1_000 < per_mille
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
}

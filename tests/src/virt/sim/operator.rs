//! All that comes from outside, each a [`Cue`]: faults, reports, the words of operators, the life and death of engines.

use super::*;

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
    /// An empty serial stands for the one on file.
    Confirm {
        host: String,
        serial: String,
    },
    Disarm,
    Arm,
    /// An operator cancels the host's recovery.
    Cancel(String),
    /// The segment is disabled, or enabled again.
    Segment(bool),
    /// An operator deletes the host from its segment; refused while something is open for it.
    Delete(String),
    /// The engine is stopped at its next deed, after its last check and before the first byte.
    StopAtDeed(usize),
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

impl Sim {
    pub fn cue(&mut self, cue: Cue) {
        match cue {
            Cue::Fault(fault) => {
                self.say(format!("* {fault:?}"));
                let now = self.now;
                if let Fault::HostReturn { host } = &fault
                    && self.store.host_named(host).is_some_and(|row| row.admission == Admission::Out)
                {
                    self.onlooker.started(host, now);
                }
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
                self.freeze(number);
            }
            Cue::ThawEngine(number) => {
                // A process that did not run for half its lease aborts before what it held in its hand leaves (`engine/src/stall.rs`). An
                // off order needs no abort: the device's gate looks once more.
                let stood = self.engines[number].stopped_at_deed.take().map(|at| self.now - at);
                let gated = |op: &Op| matches!(op, Op::Effect { effect: Effect::PowerOff { .. }, .. });
                let unsafe_one = self.engines[number].stuck.iter().any(|(_, op)| !gated(op));
                if unsafe_one && stood.is_some_and(|ms| ms > self.setup.policy.lease_ms / 2) {
                    self.say(format!("* {} stood still for too long and aborts", self.engines[number].name));
                    self.engines[number].frozen = false;
                    self.kill(number);
                    return self.add_cue(self.now + 1_000, Cue::StartEngine(number));
                }
                self.say(format!("* {} runs on", self.engines[number].name));
                self.engines[number].frozen = false;
                self.engines[number].stops_at_deed = false;
                let now = mono(self.now);
                self.engines[number].fleet.deaf_until(now);
                for (recovery, op) in std::mem::take(&mut self.engines[number].stuck) {
                    self.start_op(number, recovery, op, true);
                }
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
                self.onlooker.released = true;
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
                let Some((id, on_file)) =
                    self.store.host_named(&host).map(|host| (host.id, host.serial.clone()))
                else {
                    return;
                };
                let serial = if serial.is_empty() { on_file.unwrap_or_default() } else { serial };
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
                self.onlooker.on_asked.insert(name);
                for engine in &mut self.engines {
                    engine.power_on.insert(id, asked("repaired"));
                }
            }
            Cue::Drill(name) => {
                self.say(format!("* the operator orders a drill on {name}"));
                self.onlooker.on_asked.insert(name.clone());
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
                self.settings(true);
            }
            Cue::Arm => {
                self.say("* armed again");
                self.settings(false);
            }
            Cue::Cancel(name) => self.cancel(&name),
            Cue::Segment(enabled) => {
                self.say(format!("* the segment is {}", if enabled { "enabled" } else { "disabled" }));
                for segment in self.store.segments.values_mut() {
                    segment.enabled = enabled;
                }
                self.reread();
            }
            Cue::Delete(name) => self.delete(&name),
            Cue::StopAtDeed(number) => self.engines[number].stops_at_deed = true,
        }
    }

    /// What the wish does: the open recovery is told, or one is opened.
    pub(super) fn fence(&mut self, name: &str) {
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

    pub(super) fn open_asked(&mut self, name: &str, purpose: impl Fn(Asked) -> Purpose) {
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
    pub(super) fn wish_about_hook(&mut self, host: HostId, retry: bool) -> bool {
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

    pub(super) fn freeze(&mut self, number: usize) {
        self.say(format!("* {} is frozen", self.engines[number].name));
        self.engines[number].frozen = true;
        self.hooks.cut(self.now, number, None);
    }

    /// Every engine looks at the stored rows afresh.
    fn reread(&mut self) {
        for engine in &mut self.engines {
            engine.refreshed = -1;
        }
    }

    fn settings(&mut self, disarmed: bool) {
        self.disarmed = disarmed;
        self.onlooker.disarmed = disarmed;
        for engine in &mut self.engines {
            let exercise = || Disarmed { reason: "exercise".into(), until: Mono(u64::MAX) };
            engine.fleet.disarmed = disarmed.then(exercise);
        }
    }

    fn cancel(&mut self, name: &str) {
        let Some(id) = self.store.host_named(name).map(|host| host.id) else { return };
        if self.store.open_for(&Subject::Host { host: id }).is_none() {
            return;
        }
        self.say(format!("* the operator cancels the recovery of {name}"));
        for engine in &mut self.engines {
            engine.cancelled.insert(id, "ann (a drill of the staff)".into());
        }
    }

    /// Refused as the API does: while a recovery of it, a return or a report that nobody took up is there.
    fn delete(&mut self, name: &str) {
        let Some(host) = self.store.host_named(name).cloned() else { return };
        let busy =
            self.store.recoveries.values().any(|(row, _)| row.is_open() && row.subject.host() == host.id);
        let waits = self
            .store
            .notifications
            .values()
            .any(|report| report.host == host.id && report.status == NotificationStatus::New);
        // The service keeps a deleted host's row for those who still name it; this store does not, so a taken reserve stays.
        if busy || waits || host.admission != Admission::In || host.reserved_by.is_some() {
            return self.say(format!("* deleting {name} is answered 409"));
        }
        self.say(format!("* {name} is deleted"));
        self.store.gone.insert(host.name.clone(), host.id);
        self.store.hosts.remove(&host.id);
        self.onlooker.see("a host was deleted");
        self.reread();
    }
}

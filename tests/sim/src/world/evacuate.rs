//! Evacuation, as observed on Nova 34.
//!
//! `200` means "recorded". What follows happens in the conductor and on the destination and can stop anywhere:
//!
//! ```text
//! accepted -> (conductor picks a host) -> pre-migrating -> (spawned: ACTIVE, old host still shown) -> done
//!      \-> error: no host                     \-> failed: spawn failed
//! ```
//!
//! Nova checks neither task_state nor earlier records. A second call before the first has settled is accepted and damages the
//! server; a destination that dies leaves it in REBUILD for ever. The intent row and the records are a caller's only guard.

use super::nova::Onward;
use super::{Due, World};
use crate::fault::{NovaAnswer, Route};
use crate::history::What;
use crate::model::{EvacuateRequest, VmState};
use crate::reply::{Refusal, Reply};
use uuid::Uuid;

/// Steps between the call and the spawn; each took 0.1-0.3 s on the testbed.
const STEP_MS: u64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Schedule,
    Claim,
    Spawn,
    Spawned,
    Settle,
    Stop,
}

#[derive(Debug)]
pub(crate) struct Operation {
    guest: usize,
    source: usize,
    target: Option<usize>,
    forced: bool,
    record: usize,
    action: usize,
    event: usize,
    dest: Option<usize>,
    /// Epoch of the destination's nova-compute when it took the job.
    epoch: u64,
    was: VmState,
    leave_stopped: bool,
    stage: Stage,
    live: bool,
    /// The unsettled operation this one ran into.
    over: Option<usize>,
}

impl World {
    /// `evacuate` with a body of 2.14 or later. `microversion` is the minor number of `2.x`.
    ///
    /// # Errors
    /// See [`World::evacuate_with`].
    pub fn evacuate(&mut self, now: u64, id: Uuid, target: Option<&str>, microversion: u16) -> Reply<()> {
        let request = EvacuateRequest {
            host: target.map(Into::into),
            on_shared_storage: (microversion < 14).then_some(false),
            ..EvacuateRequest::default()
        };
        self.evacuate_with(now, id, &request, microversion)
    }

    /// `POST /servers/{id}/action {"evacuate": ..}` as an admin.
    ///
    /// # Errors
    /// 400 for a body the microversion does not know, a source still in use, a target that is the source; 404 for an unknown
    /// server or target; 409 for a vm_state other than active, stopped or error, or a server that never ran.
    pub fn evacuate_with(
        &mut self,
        now: u64,
        id: Uuid,
        request: &EvacuateRequest,
        microversion: u16,
    ) -> Reply<()> {
        self.nova(now, Route::Evacuate, |world, onward| {
            let allowed = world.may_evacuate(id, request, microversion);
            if let Some(guest) = world.guest_by_id.get(&id).copied() {
                let at = world.now;
                world.guests[guest].evacuate_calls.push((at, allowed.is_ok()));
            }
            match allowed {
                Ok((guest, source, target)) => {
                    let forced = request.force == Some(true);
                    world.accept(guest, source, target, forced, microversion, onward);
                    Ok(())
                }
                Err(refusal) => {
                    world.note(What::EvacuateRefused { guest: id, code: refusal.code().unwrap_or(0) });
                    Err(refusal)
                }
            }
        })
    }

    fn may_evacuate(
        &self,
        id: Uuid,
        request: &EvacuateRequest,
        microversion: u16,
    ) -> Result<(usize, usize, Option<usize>), Refusal> {
        fits_microversion(request, microversion)?;
        let guest = self.found(id)?;
        let host = self.guests[guest].host;
        let target = match &request.host {
            Some(name) => Some(
                self.host_by_name
                    .get(name)
                    .copied()
                    .ok_or_else(|| Refusal::status(404, format!("Compute host {name} not found.")))?,
            ),
            None => None,
        };
        // Nova compares the two as they are, so None equals None.
        if host == target {
            return Err(Refusal::status(400, "The target host can't be the same one."));
        }
        self.state_allows(guest, "evacuate", &[VmState::Active, VmState::Stopped, VmState::Error], false)?;
        let Some(source) = host else {
            return Err(Refusal::status(400, "The target host can't be the same one."));
        };
        if self.service_up(source) {
            let name = &self.hosts[source].name;
            return Err(Refusal::status(400, format!("Compute service of {name} is still in use.")));
        }
        Ok((guest, source, target))
    }

    fn accept(
        &mut self,
        guest: usize,
        source: usize,
        target: Option<usize>,
        forced: bool,
        microversion: u16,
        onward: Onward,
    ) {
        let over = self.guests[guest].operations.iter().copied().find(|op| self.in_flight(*op));
        let record = self.record(guest, source, target, "evacuation", "accepted");
        let action = self.begin_action(guest, "evacuate");
        let was = self.guests[guest].vm_state;
        self.guests[guest].task_state = Some("rebuilding");
        self.guests[guest].task += 1;
        self.operations.push(Operation {
            guest,
            source,
            target,
            forced,
            record,
            action,
            event: 0,
            dest: None,
            epoch: 0,
            was,
            leave_stopped: microversion >= 95 && was != VmState::Error,
            stage: Stage::Schedule,
            live: onward == Onward::Conductor,
            over,
        });
        let op = self.operations.len() - 1;
        self.guests[guest].operations.push(op);
        let id = self.guests[guest].id;
        let held_by = self.may_run_on(id);
        self.note(What::EvacuateAccepted {
            guest: id,
            source: self.name(source),
            target: target.map(|target| self.name(target)),
            migration: record as u64 + 1,
            held_by,
        });
        if over.is_some() {
            self.note(What::DoubleEvacuation { guest: id });
        }
        if onward == Onward::Conductor {
            match self.conductor_held() {
                Some(u64::MAX) => self.nova.held.push(op),
                Some(until) => self.schedule_at(until, Due::Evacuation { op }),
                None => self.schedule(STEP_MS, Due::Evacuation { op }),
            }
        }
    }

    pub(super) fn release_held_evacuations(&mut self) {
        for op in std::mem::take(&mut self.nova.held) {
            self.schedule(STEP_MS, Due::Evacuation { op });
        }
    }

    /// Whether somebody still works on it, so that a second one would collide.
    fn in_flight(&self, op: usize) -> bool {
        let it = &self.operations[op];
        it.live
            && it.stage != Stage::Stop
            && match (it.dest, it.stage) {
                (None, _) => true,
                (Some(dest), Stage::Claim) => self.hosts[dest].compute,
                (Some(dest), _) => self.hosts[dest].compute_epoch == it.epoch,
            }
    }

    pub(super) fn evacuation_step(&mut self, op: usize) {
        let it = &self.operations[op];
        if !it.live {
            return;
        }
        if self.guests[it.guest].vm_state == VmState::Deleted {
            return self.abandon(op);
        }
        match it.stage {
            Stage::Schedule => self.choose_destination(op),
            Stage::Claim => self.claim(op),
            _ => match self.destination_works(op) {
                Some(true) => self.on_destination(op),
                // Frozen or cut off: it goes on where it was when it is back.
                Some(false) => self.park(op),
                // The process is gone and its work with it; Nova never gives up on the record.
                None => self.operations[op].live = false,
            },
        }
    }

    fn next(&mut self, op: usize, stage: Stage, after_ms: u64) {
        self.operations[op].stage = stage;
        self.schedule(after_ms, Due::Evacuation { op });
    }

    fn park(&mut self, op: usize) {
        if let Some(dest) = self.operations[op].dest {
            self.hosts[dest].inbox.push(Due::Evacuation { op });
        }
    }

    fn destination_works(&self, op: usize) -> Option<bool> {
        let it = &self.operations[op];
        let host = &self.hosts[it.dest?];
        (host.compute_epoch == it.epoch).then(|| host.on_the_bus())
    }

    fn choose_destination(&mut self, op: usize) {
        let Operation { guest, action, over, target, forced, record, .. } = self.operations[op];
        if let Some(first) = over {
            return self.collide(first, op);
        }
        let event = self.begin_event(guest, action, "rebuild_server", None);
        if self.nova.neutron_down_until > self.now {
            self.end_event(guest, action, event, Some("ConnectFailure"));
            self.operations[op].live = false;
            return;
        }
        let placement = self.nova.placement_down_until <= self.now;
        let Some(dest) = self.pick(op).filter(|_| placement || forced) else {
            self.operations[op].event = event;
            let why = match target {
                // No hint of the cause when Placement is away, either.
                _ if !placement => "No valid host was found. ",
                Some(_) => "No valid host was found. ",
                None => "No valid host was found. There are not enough hosts available.",
            };
            return self.fail(op, "error", why);
        };
        debug_assert!(!forced || target == Some(dest));
        self.allocate(guest, dest);
        self.records[record].dest = self.records[record].dest.or(target);
        self.end_event(guest, action, event, None);
        self.operations[op].dest = Some(dest);
        self.next(op, Stage::Claim, STEP_MS);
    }

    /// The scheduler: an enabled host that is up and has room, the emptiest first; a forced target unasked. How empty hosts are it
    /// knows from a view that is a little old, so calls in a burst tend to land on one host.
    fn pick(&mut self, op: usize) -> Option<usize> {
        let Operation { guest, source, target, forced, .. } = self.operations[op];
        if forced {
            return target;
        }
        let fits = |host: usize| {
            host != source
                && !self.hosts[host].service.disabled
                && self.service_up(host)
                && !self.cell_down(host)
                && (self.hosts[host].used < self.spec.capacity
                    || self.guests[guest].allocations.contains(&host))
        };
        if let Some(target) = target {
            return Some(target).filter(|host| fits(*host));
        }
        let fitting: Vec<usize> = (0..self.hosts.len()).filter(|host| fits(*host)).collect();
        if self.nova.view_until <= self.now {
            // Guests count in thousands, so that chance breaks ties for as long as the view lasts.
            self.nova.view = self
                .hosts
                .iter()
                .map(|host| host.used * 1_000 + self.chance.between(0, 999) as usize)
                .collect();
            self.nova.view_until = self.now + self.spec.scheduler_view_ms;
        }
        fitting.into_iter().min_by_key(|host| self.nova.view[*host])
    }

    fn claim(&mut self, op: usize) {
        let Operation { guest, dest: Some(dest), source, action, .. } = self.operations[op] else { return };
        if !self.hosts[dest].on_the_bus() {
            return self.park(op);
        }
        if self.hosts[dest].building >= self.spec.max_concurrent_builds.max(1) {
            self.hosts[dest].waiting.push_back(op);
            return;
        }
        // Nova takes the first accepted record of the server from that source, whoever made it: after a lost call the old
        // record becomes done and the new one stays accepted for good.
        let accepted = self.guests[guest].migrations.iter().copied().find(|record| {
            let record = &self.records[*record];
            record.status == "accepted" && record.source == source && record.kind == "evacuation"
        });
        // None: the source's nova-compute started meanwhile and completed it; the rebuild goes on all the same.
        let record = accepted.unwrap_or(self.operations[op].record);
        self.records[record].dest = Some(dest);
        self.record_is(record, "pre-migrating");
        self.hosts[dest].building += 1;
        let epoch = self.hosts[dest].compute_epoch;
        let event = self.begin_event(guest, action, "compute_rebuild_instance", Some(dest));
        let it = &mut self.operations[op];
        (it.record, it.epoch, it.event) = (record, epoch, event);
        self.guests[guest].power_state = 0;
        self.guests[guest].task_state = Some("rebuild_block_device_mapping");
        self.next(op, Stage::Spawn, STEP_MS);
    }

    fn on_destination(&mut self, op: usize) {
        let Operation { guest, dest: Some(dest), record, action, event, was, leave_stopped, .. } =
            self.operations[op]
        else {
            return;
        };
        match self.operations[op].stage {
            Stage::Spawn => {
                self.guests[guest].task_state = Some("rebuild_spawning");
                if std::mem::take(&mut self.nova.destination_dies) {
                    self.power_off(dest, false);
                    self.operations[op].live = false;
                } else if self.hosts[dest].spawn_failures > 0 {
                    self.hosts[dest].spawn_failures -= 1;
                    self.release(guest, dest);
                    self.builder_is_free(dest);
                    self.fail(op, "failed", "Injected spawn failure");
                } else {
                    let (shortest, longest) = self.spec.rebuild_latency_ms;
                    let takes = self.chance.between(shortest, longest);
                    self.next(op, Stage::Spawned, takes);
                }
            }
            Stage::Spawned => {
                if !self.hosts[dest].local.contains(&guest) {
                    self.hosts[dest].local.push(guest);
                }
                self.guest_starts(guest, dest);
                let stops = leave_stopped || was == VmState::Stopped;
                let now = self.now;
                let it = &mut self.guests[guest];
                it.vm_state = VmState::Active;
                it.task_state = stops.then_some("powering-off");
                it.power_state = 1;
                it.fault = None;
                it.updated_at = now;
                self.next(op, Stage::Settle, STEP_MS);
            }
            Stage::Settle => {
                self.guests[guest].host = Some(dest);
                self.record_is(record, "done");
                self.end_event(guest, action, event, None);
                self.builder_is_free(dest);
                let migration = record as u64 + 1;
                let id = self.guests[guest].id;
                self.note(What::EvacuateDone { guest: id, host: self.name(dest), migration });
                if leave_stopped || was == VmState::Stopped {
                    if leave_stopped && was != VmState::Stopped {
                        let event = self.begin_event(guest, action, "compute_stop_instance", Some(dest));
                        self.operations[op].event = event;
                    }
                    self.next(op, Stage::Stop, STEP_MS);
                } else {
                    self.operations[op].live = false;
                }
            }
            _ => {
                self.guest_stops(guest, dest);
                let it = &mut self.guests[guest];
                (it.vm_state, it.task_state, it.power_state) = (VmState::Stopped, None, 4);
                self.operations[op].live = false;
                self.end_event(guest, action, self.operations[op].event, None);
            }
        }
    }

    fn builder_is_free(&mut self, dest: usize) {
        let host = &mut self.hosts[dest];
        host.building = host.building.saturating_sub(1);
        if let Some(op) = host.waiting.pop_front() {
            self.schedule(0, Due::Evacuation { op });
        }
    }

    fn fail(&mut self, op: usize, status: &'static str, why: &str) {
        let Operation { guest, record, action, event, .. } = self.operations[op];
        self.operations[op].live = false;
        self.record_is(record, status);
        self.end_event(guest, action, event, Some(why));
        let now = self.now;
        let it = &mut self.guests[guest];
        it.vm_state = VmState::Error;
        it.task_state = None;
        it.fault = Some(why.into());
        it.updated_at = now;
        let (id, migration) = (it.id, record as u64 + 1);
        self.note(What::EvacuateFailed { guest: id, migration, why: why.into() });
    }

    /// Two unsettled evacuations of one server: whatever comes of it, the server is broken (10 of 10 on the testbed).
    fn collide(&mut self, first: usize, second: usize) {
        let Operation { guest, action, .. } = self.operations[second];
        let event = self.begin_event(guest, action, "rebuild_server", None);
        let text = format!(
            "Failed to update allocations for consumer {}. Error: another process changed the consumer",
            self.guests[guest].id
        );
        self.end_event(guest, action, event, Some(&text));
        self.operations[second].live = false;
        let spawned = self.chance.coin();
        if std::mem::take(&mut self.operations[first].live) {
            let building =
                matches!(self.operations[first].stage, Stage::Spawn | Stage::Spawned | Stage::Settle);
            let dest = self.operations[first].dest.or_else(|| self.pick(first));
            if let Some(dest) = dest {
                let record = self.operations[first].record;
                self.records[record].dest = Some(dest);
                self.record_is(record, if spawned { "done" } else { "failed" });
                self.allocate(guest, dest);
                if building {
                    self.builder_is_free(dest);
                }
                if spawned && self.hosts[dest].on_the_bus() {
                    if !self.hosts[dest].local.contains(&guest) {
                        self.hosts[dest].local.push(guest);
                    }
                    self.guest_starts(guest, dest);
                }
                self.guests[guest].host = Some(dest);
            }
        }
        let it = &mut self.guests[guest];
        it.vm_state = VmState::Error;
        it.task_state = if spawned { None } else { Some("rebuild_spawning") };
        it.fault = Some(text);
    }

    /// The server was deleted in the middle.
    fn abandon(&mut self, op: usize) {
        let Operation { guest, dest, stage, .. } = self.operations[op];
        self.operations[op].live = false;
        let Some(dest) = dest else { return };
        if matches!(stage, Stage::Spawn | Stage::Spawned | Stage::Settle)
            && self.hosts[dest].compute_epoch == self.operations[op].epoch
        {
            self.builder_is_free(dest);
        }
        self.destroy_copy(guest, dest);
    }

    /// Whether Nova's evacuate route forgets calls just now; for shells that show it.
    pub fn evacuate_is_forgotten(&mut self, now: u64) -> bool {
        self.advance(now);
        self.outage(Route::Evacuate) == Some(NovaAnswer::AcceptAndForget)
    }
}

fn fits_microversion(request: &EvacuateRequest, microversion: u16) -> Result<(), Refusal> {
    let unexpected = |key: &str| {
        Err(Refusal::status(
            400,
            format!(
                "Invalid input for field/attribute evacuate. Additional properties are not allowed ('{key}' was \
                 unexpected)"
            ),
        ))
    };
    match microversion {
        0..=13 => match request.on_shared_storage {
            None => {
                return Err(Refusal::status(
                    400,
                    "Invalid input for field/attribute evacuate. 'onSharedStorage' is a required property",
                ));
            }
            Some(true) if request.admin_password.is_some() => {
                return Err(Refusal::status(400, "admin password can't be changed on existing disk"));
            }
            Some(_) => {}
        },
        _ if request.on_shared_storage.is_some() => return unexpected("onSharedStorage"),
        _ => {}
    }
    match (microversion, request.force) {
        (29..=67, Some(true)) if request.host.is_none() => {
            Err(Refusal::status(400, "Can't force to a non-provided destination"))
        }
        (29..=67, _) | (_, None) => Ok(()),
        (_, Some(_)) => unexpected("force"),
    }
}

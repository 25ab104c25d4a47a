//! Servers: listing, and the actions other than evacuate. An action is accepted by Nova's books and done by the host, if it is there.

use super::migrations::MAX_LIMIT;
use super::{Due, World};
use crate::fault::Route;
use crate::history::What;
use crate::model::{Action, ActionEvent, Server, ServerFilter, VmState};
use crate::reply::{Refusal, Reply};
use uuid::Uuid;

impl World {
    /// `GET /servers/detail` as an admin with `all_tenants`: newest first, at most 1000 a page. With a filter, servers of a cell that is
    /// down are left out; without, they are shown with status `UNKNOWN`.
    ///
    /// # Errors
    /// 400 for an unknown marker.
    pub fn servers(&mut self, now: u64, filter: &ServerFilter) -> Reply<Vec<Server>> {
        self.nova(now, Route::Servers, |world, _| {
            let host = filter.host.as_deref().map(|name| world.host_by_name.get(name).copied());
            let filtered = filter.host.is_some() || filter.project.is_some();
            let wanted = |ix: &usize| {
                let guest = &world.guests[*ix];
                guest.vm_state != VmState::Deleted
                    && host.is_none_or(|host| host.is_some() && guest.host == host)
                    && filter.project.as_ref().is_none_or(|project| *project == guest.project)
                    && !(filtered && guest.host.is_some_and(|host| world.cell_down(host)))
            };
            let mut found: Vec<usize> = (0..world.guests.len()).rev().filter(wanted).collect();
            if let Some(marker) = filter.marker {
                let Some(at) = found.iter().position(|ix| world.guests[*ix].id == marker) else {
                    return Err(Refusal::status(400, format!("marker [{marker}] not found")));
                };
                found.drain(..=at);
            }
            found.truncate(filter.limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT));
            Ok(found.into_iter().map(|ix| world.server_view(ix)).collect())
        })
    }

    /// `GET /servers/{id}`.
    ///
    /// # Errors
    /// 404.
    pub fn server(&mut self, now: u64, id: Uuid) -> Reply<Server> {
        self.nova(now, Route::Server, |world, _| {
            let known = world.guest_by_id.get(&id).copied();
            match known.filter(|ix| world.guests[*ix].vm_state != VmState::Deleted) {
                Some(guest) => Ok(world.server_view(guest)),
                None => Err(Refusal::status(404, format!("Instance {id} could not be found."))),
            }
        })
    }

    fn server_view(&self, ix: usize) -> Server {
        let guest = &self.guests[ix];
        let down_cell = guest.host.is_some_and(|host| self.cell_down(host));
        let status = guest.vm_state.status(guest.task_state);
        Server {
            id: guest.id,
            name: guest.name.clone(),
            project: guest.project.clone(),
            host: guest.host.map(|host| self.name(host)),
            status: if down_cell { "UNKNOWN".into() } else { status.into() },
            vm_state: guest.vm_state,
            task_state: guest.task_state.map(Into::into),
            power_state: guest.power_state,
            locked: guest.locked,
            locked_reason: guest.locked_reason.clone(),
            host_status: guest.host.map_or("", |host| self.host_status(host)).into(),
            metadata: guest.metadata.clone(),
            tags: guest.tags.clone(),
            volume_backed: guest.volume_backed,
            fault: guest.fault.clone().filter(|_| guest.vm_state == VmState::Error),
            created_at: guest.created_at,
            updated_at: guest.updated_at,
            number: ix as u64 + 1,
        }
    }

    fn host_status(&self, host: usize) -> &'static str {
        let row = &self.hosts[host].service;
        match (row.forced_down, row.disabled, self.service_up(host)) {
            (true, _, _) => "DOWN",
            (false, true, _) => "MAINTENANCE",
            (false, false, true) => "UP",
            (false, false, false) => "UNKNOWN",
        }
    }

    /// `os-start`.
    pub fn start_server(&mut self, now: u64, id: Uuid) -> Reply<()> {
        self.host_task(now, id, "start", &[VmState::Stopped], true, "powering-on")
    }

    /// `os-stop`.
    pub fn stop_server(&mut self, now: u64, id: Uuid) -> Reply<()> {
        self.host_task(now, id, "stop", &[VmState::Active, VmState::Error], true, "powering-off")
    }

    /// `reboot` of type HARD.
    pub fn reboot_server(&mut self, now: u64, id: Uuid) -> Reply<()> {
        let states = [VmState::Active, VmState::Stopped, VmState::Error, VmState::Paused, VmState::Suspended];
        self.host_task(now, id, "reboot", &states, false, "rebooting_hard")
    }

    fn host_task(
        &mut self,
        now: u64,
        id: Uuid,
        action: &'static str,
        states: &[VmState],
        idle: bool,
        task_state: &'static str,
    ) -> Reply<()> {
        self.nova(now, Route::ServerAction, |world, _| {
            let guest = world.found(id)?;
            world.state_allows(guest, action, states, idle)?;
            let host = world.guests[guest].host;
            let index = world.begin_action(guest, action);
            world.begin_event(guest, index, &format!("compute_{action}_instance"), host);
            let it = &mut world.guests[guest];
            it.task_state = Some(task_state);
            it.task += 1;
            let task = it.task;
            world.note(What::ServerAction { guest: id, action: action.into() });
            if let Some(host) = host {
                world.schedule(world.spec.guest_task_ms, Due::Task { guest, host, task });
            }
            Ok(())
        })
    }

    pub(super) fn state_allows(
        &self,
        guest: usize,
        action: &str,
        states: &[VmState],
        idle: bool,
    ) -> Result<(), Refusal> {
        let it = &self.guests[guest];
        let refuse = |what: String| {
            Err(Refusal::status(409, format!("Cannot '{action}' instance {} while it is in {what}", it.id)))
        };
        if !states.contains(&it.vm_state) {
            return refuse(format!("vm_state {}", it.vm_state.name()));
        }
        if let Some(task) = it.task_state.filter(|_| idle) {
            return refuse(format!("task_state {task}"));
        }
        if !it.launched {
            return Err(Refusal::status(
                409,
                format!("Instance {} is in an invalid state for '{action}'", it.id),
            ));
        }
        Ok(())
    }

    pub(super) fn task_due(&mut self, guest: usize, host: usize, task: u64) {
        if !self.hosts[host].on_the_bus() {
            // The message waits in the host's queue and runs when nova-compute listens again.
            self.hosts[host].inbox.push(Due::Task { guest, host, task });
            return;
        }
        if !self.hosts[host].local.contains(&guest) || self.guests[guest].vm_state == VmState::Deleted {
            return;
        }
        // A task that was overtaken (evacuated meanwhile) still reaches this host's hypervisor.
        let current = self.guests[guest].task == task && self.guests[guest].host == Some(host);
        let word = self.guests[guest].task_state;
        match word {
            Some("powering-off") if current => {
                self.guest_stops(guest, host);
                self.task_done(guest, VmState::Stopped, 4);
            }
            Some("powering-on" | "rebooting_hard") if current => {
                self.guest_starts(guest, host);
                self.task_done(guest, VmState::Active, 1);
            }
            _ => {}
        }
    }

    fn task_done(&mut self, guest: usize, vm_state: VmState, power_state: u8) {
        let now = self.now;
        let it = &mut self.guests[guest];
        it.vm_state = vm_state;
        it.power_state = power_state;
        it.task_state = None;
        it.fault = None;
        it.updated_at = now;
        let last = it.actions.len() - 1;
        if let Some(event) = it.actions[last].events.len().checked_sub(1) {
            self.end_event(guest, last, event, None);
        }
    }

    /// `lock`, with its reason (2.73).
    pub fn lock_server(&mut self, now: u64, id: Uuid, reason: Option<&str>) -> Reply<()> {
        self.books_only(now, id, "lock", |guest| {
            guest.locked = true;
            guest.locked_reason = reason.map(Into::into);
        })
    }

    /// `unlock`.
    pub fn unlock_server(&mut self, now: u64, id: Uuid) -> Reply<()> {
        self.books_only(now, id, "unlock", |guest| {
            guest.locked = false;
            guest.locked_reason = None;
        })
    }

    /// `os-resetState` to active (`error` false) or error. Nova's books alone; the task_state is cleared.
    pub fn reset_server(&mut self, now: u64, id: Uuid, error: bool) -> Reply<()> {
        self.books_only(now, id, "reset-state", |guest| {
            guest.vm_state = if error { VmState::Error } else { VmState::Active };
            guest.task_state = None;
            guest.task += 1;
        })
    }

    fn books_only(
        &mut self,
        now: u64,
        id: Uuid,
        action: &'static str,
        change: impl FnOnce(&mut super::Guest),
    ) -> Reply<()> {
        self.nova(now, Route::ServerAction, |world, _| {
            let guest = world.found(id)?;
            change(&mut world.guests[guest]);
            world.guests[guest].updated_at = world.now;
            if action != "reset-state" {
                world.begin_action(guest, action);
            }
            world.note(What::ServerAction { guest: id, action: action.into() });
            Ok(())
        })
    }

    /// `DELETE /servers/{id}`. On a dead host the books forget the server and its local copy stays until someone cleans up.
    pub fn delete_server(&mut self, now: u64, id: Uuid) -> Reply<()> {
        self.nova(now, Route::ServerAction, |world, _| {
            let guest = world.found(id)?;
            if let Some(host) = world.guests[guest].host
                && world.hosts[host].on_the_bus()
            {
                world.destroy_copy(guest, host);
            }
            for host in world.guests[guest].allocations.clone() {
                world.release(guest, host);
            }
            for record in world.guests[guest].migrations.clone() {
                world.records[record].hidden = true;
            }
            let it = &mut world.guests[guest];
            it.vm_state = VmState::Deleted;
            it.task_state = None;
            it.host = None;
            world.begin_action(guest, "delete");
            world.note(What::Deleted { guest: id });
            Ok(())
        })
    }

    /// `GET /servers/{id}/os-instance-actions` with the events of each, newest first; works for deleted servers.
    ///
    /// # Errors
    /// 404.
    pub fn instance_actions(&mut self, now: u64, id: Uuid) -> Reply<Vec<Action>> {
        self.nova(now, Route::InstanceActions, |world, _| match world.guest_by_id.get(&id) {
            Some(guest) => Ok(world.guests[*guest].actions.iter().rev().cloned().collect()),
            None => Err(Refusal::status(404, format!("Instance {id} could not be found."))),
        })
    }

    pub(super) fn begin_action(&mut self, guest: usize, action: &str) -> usize {
        let request_id = format!("req-{}", self.chance.uuid());
        let now = self.now;
        let it = &mut self.guests[guest];
        it.updated_at = now;
        it.actions.push(Action {
            action: action.into(),
            request_id,
            start_at: now,
            updated_at: now,
            error: false,
            events: Vec::new(),
        });
        it.actions.len() - 1
    }

    /// The request id of the last action recorded for the server, for the answer's header.
    pub fn last_request_id(&self, id: Uuid) -> Option<String> {
        let guest = self.guest_by_id.get(&id)?;
        self.guests[*guest].actions.last().map(|action| action.request_id.clone())
    }

    pub(super) fn begin_event(
        &mut self,
        guest: usize,
        action: usize,
        event: &str,
        host: Option<usize>,
    ) -> usize {
        let host = host.map_or_else(|| "ctl".to_owned(), |host| self.name(host));
        let now = self.now;
        let it = &mut self.guests[guest].actions[action];
        it.updated_at = now;
        it.events.push(ActionEvent {
            event: event.into(),
            host,
            start_at: now,
            finish_at: None,
            success: None,
            details: None,
        });
        it.events.len() - 1
    }

    pub(super) fn end_event(&mut self, guest: usize, action: usize, event: usize, error: Option<&str>) {
        let now = self.now;
        let it = &mut self.guests[guest].actions[action];
        it.updated_at = now;
        it.error |= error.is_some();
        let event = &mut it.events[event];
        event.finish_at = Some(now);
        event.success = Some(error.is_none());
        event.details = error.map(Into::into);
    }
}

//! Nova's front door: latency and faults, which come before any rule of Nova's own.

use super::World;
use crate::fault::{NovaAnswer, Route};
use crate::reply::{Refusal, Reply};
use uuid::Uuid;

#[derive(Debug, Default)]
pub(super) struct NovaHealth {
    /// Later ones win.
    pub(super) outages: Vec<(Option<Route>, NovaAnswer, u64)>,
    pub(super) neutron_down_until: u64,
    pub(super) placement_down_until: u64,
    pub(super) destination_dies: bool,
    /// The scheduler's view of how full each host is, and when it was taken.
    pub(super) view: Vec<usize>,
    pub(super) view_until: u64,
    /// Evacuations that wait for a conductor that is stopped until told otherwise.
    pub(super) held: Vec<usize>,
    /// Extra time the present call's answer takes.
    pub(super) extra_ms: u64,
}

/// What an evacuate call turns into once it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Onward {
    Conductor,
    /// Recorded, never passed on.
    Nowhere,
}

impl World {
    pub(super) fn outage(&mut self, route: Route) -> Option<NovaAnswer> {
        let now = self.now;
        self.nova.outages.retain(|(_, _, until)| *until > now);
        self.nova
            .outages
            .iter()
            .rev()
            .find(|(class, _, _)| class.is_none_or(|class| class == route))
            .map(|(_, answer, _)| *answer)
    }

    /// One call of Nova: the deed happens now, the answer comes later.
    pub(super) fn nova<T>(
        &mut self,
        now: u64,
        route: Route,
        run: impl FnOnce(&mut Self, Onward) -> Result<T, Refusal>,
    ) -> Reply<T> {
        self.advance(now);
        let latency = match route {
            Route::Evacuate => self.spec.evacuate_api_latency_ms,
            _ => self.spec.api_latency_ms,
        };
        let onward = match self.outage(route) {
            Some(NovaAnswer::Status(code)) => return Reply::new(latency, Err(outage_answer(code))),
            Some(NovaAnswer::HangBeforeDoing) => return Reply::new(latency, Err(Refusal::Silence)),
            Some(NovaAnswer::HangAfterDoing) => {
                let _ = run(self, Onward::Conductor);
                return Reply::new(latency, Err(Refusal::Silence));
            }
            Some(NovaAnswer::DoneThenStatus(code)) => {
                let _ = run(self, Onward::Conductor);
                return Reply::new(latency, Err(outage_answer(code)));
            }
            Some(NovaAnswer::AcceptAndForget) => Onward::Nowhere,
            Some(NovaAnswer::ConductorStopped) | None => Onward::Conductor,
        };
        self.nova.extra_ms = 0;
        let answer = run(self, onward);
        Reply::new(latency + self.nova.extra_ms, answer)
    }

    /// When the conductor works again: `None` if it works, `Some(u64::MAX)` if nobody knows.
    pub(super) fn conductor_held(&self) -> Option<u64> {
        self.nova
            .outages
            .iter()
            .filter(|(_, answer, until)| *answer == NovaAnswer::ConductorStopped && *until > self.now)
            .map(|(_, _, until)| *until)
            .max()
    }

    /// Whether Neutron is unreachable.
    pub fn neutron_down(&mut self, now: u64) -> bool {
        self.advance(now);
        self.nova.neutron_down_until > self.now
    }

    /// Whether Placement is unreachable.
    pub fn placement_down(&mut self, now: u64) -> bool {
        self.advance(now);
        self.nova.placement_down_until > self.now
    }

    /// The gate for routes without any rule in this world (versions, hypervisors): latency and outage alone.
    pub fn nova_other<T>(&mut self, now: u64, run: impl FnOnce(&mut Self) -> T) -> Reply<T> {
        self.nova(now, Route::Other, |world, _| Ok(run(world)))
    }

    /// The server, or Nova's 404; a server in a cell that is down cannot be acted upon.
    pub(super) fn found(&self, id: Uuid) -> Result<usize, Refusal> {
        let found = self.guest_by_id.get(&id).copied();
        let Some(guest) = found.filter(|ix| self.guests[*ix].vm_state != crate::VmState::Deleted) else {
            return Err(Refusal::status(404, format!("Instance {id} could not be found.")));
        };
        if self.guests[guest].host.is_some_and(|host| self.cell_down(host)) {
            // Which status Nova gives here was not observed; a 500 leaves the caller as ignorant as it should be.
            return Err(Refusal::status(
                500,
                "Unexpected API Error. Please contact the administrator\n<class 'nova.exception.CellTimeout'>",
            ));
        }
        Ok(guest)
    }

    pub(super) fn cell_down(&self, host: usize) -> bool {
        self.hosts[host].cell_down_until > self.now
    }
}

fn outage_answer(code: u16) -> Refusal {
    Refusal::status(
        code,
        match code {
            500 => {
                "Unexpected API Error. Please contact the administrator\n<class 'oslo_db.exception.DBConnectionError'>"
            }
            503 => "Service Unavailable",
            _ => "Gateway trouble",
        },
    )
}

//! One service: what is believed of each of its targets, and what follows from a change.
//!
//! The road of STYLE: sights are judged (pure), a change becomes one transaction (row, events, audit records, perhaps an
//! order), an order is verified by the probe, and its outcome is an event. What could not be written is kept and written with
//! the next sight.

use std::time::Duration;

use chrono::{DateTime, Utc};
use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::id::{EventId, ServiceId};
use halberd_core::time::{Mono, Stamp};
use halberd_store::{Db, Error as StoreError, audit, events, hosts, orders, services, settings, write};
use halberd_types::halberd::service::{ActionState, ServiceAction, ServiceState, ServiceTarget};
use halberd_types::report::OrderKind;
use serde_json::{Value, json};
use uuid::Uuid;

use super::SupervisorOptions;
use super::config::{ActionKind, ServiceConfig};
use super::judge::{Belief, Change, Judge, Patience, Sight, whole};
use super::restart::{Restarts, Situation};

/// Times of last probes are for people; they are brought up to date this often while nothing changes.
const REFRESH: Duration = Duration::from_secs(30);
/// The effect's word, as agents know it.
const RESTART_UNIT: &str = "restart_unit";

/// One target and what is believed of it.
#[derive(Debug)]
struct Target {
    address: String,
    judge: Judge,
    since: Stamp,
    last: Option<(Sight, Stamp)>,
}

/// A restart under way.
#[derive(Clone, Debug)]
struct Ongoing {
    place: usize,
    order: Uuid,
    host: halberd_core::id::HostId,
    begun: Mono,
    /// Its order was carried out; now the probe has the word.
    carried_out: bool,
}

/// A service under supervision.
#[derive(Debug)]
pub(super) struct Service {
    db: Db,
    config: ServiceConfig,
    options: SupervisorOptions,
    targets: Vec<Target>,
    restarts: Restarts,
    ongoing: Option<Ongoing>,
    action: ServiceAction,
    /// Not yet written.
    unsent: Vec<(Event, Entry)>,
    order: Option<(Uuid, halberd_core::id::HostId, Value)>,
    dirty: bool,
    written: Option<Mono>,
    /// Whether this engine led at the last sight.
    led: bool,
}

impl Service {
    /// Begins where an earlier run left off: a target that was down then is told of as up again when it is.
    pub async fn load(
        db: Db,
        config: ServiceConfig,
        targets: &[String],
        options: SupervisorOptions,
        now: Stamp,
    ) -> Service {
        let stored = stored(&db, &config.name).await;
        let limits = &config.thresholds;
        let patience = Patience {
            fail_after: limits.fail_after,
            recover_after: limits.recover_after,
            // Two probes that both ran into their deadline, with the pause between, and the same again for a busy machine.
            together: 2
                * (config.timeout() * 2 + Duration::from_millis(limits.interval_ms.max(limits.retry_ms))),
        };
        let target = |address: &String| {
            let known =
                stored.iter().find(|known| known.address == *address && known.state == ServiceState::Down);
            let (belief, since) = known.map_or((Belief::Unknown, now), |known| {
                (Belief::Down, Stamp(known.since.timestamp_micros()))
            });
            Target { address: address.clone(), judge: Judge::new(patience, belief), since, last: None }
        };
        let action = ServiceAction {
            effect: if config.action == ActionKind::Restart { RESTART_UNIT } else { "none" }.into(),
            host: None,
            unit: config.unit.clone(),
            state: if config.action == ActionKind::Restart {
                ActionState::Armed
            } else {
                ActionState::Withheld
            },
            at: None,
            reason: (config.action == ActionKind::None).then(|| "action is none in its section".into()),
        };
        let targets = targets.iter().map(target).collect();
        Service {
            db,
            config,
            options,
            targets,
            restarts: Restarts::default(),
            ongoing: None,
            action,
            unsent: Vec::new(),
            order: None,
            dirty: true,
            written: None,
            led: true,
        }
    }

    /// Takes in what was seen of one target, and does what follows.
    pub async fn take(&mut self, place: usize, sight: Sight, now: Mono, stamp: Stamp) {
        let Some(target) = self.targets.get_mut(place) else { return };
        let change = target.judge.observe(&sight, now);
        target.last = Some((sight, stamp));
        if let Some(change) = change {
            target.since = stamp;
            self.changed(place, change);
        }
        if !(self.options.leads)() {
            // Another engine writes and acts; this one keeps its own belief for the moment it has to.
            self.unsent.clear();
            (self.led, self.ongoing, self.order) = (false, None, None);
            return;
        }
        if !std::mem::replace(&mut self.led, true) {
            self.take_over().await;
        }
        self.follow_restart(now, stamp).await;
        self.consider_restart(place, now, stamp).await;
        let stale = self.written.is_none_or(|written| now.since(written) >= REFRESH);
        if self.dirty || stale || !self.unsent.is_empty() {
            self.write(now, stamp).await;
        }
    }

    /// Tells what the engine that led before did not live to tell, and nothing that it did.
    async fn take_over(&mut self) {
        self.unsent.clear();
        let told = stored(&self.db, &self.config.name).await;
        for place in 0..self.targets.len() {
            let target = &self.targets[place];
            let was_down =
                told.iter().any(|known| known.address == target.address && known.state == ServiceState::Down);
            let change = match (was_down, target.judge.belief()) {
                (false, Belief::Down) => Change { from: Belief::Unknown, to: Belief::Down },
                (true, to @ (Belief::Up | Belief::Slow)) => Change { from: Belief::Down, to },
                _ => continue,
            };
            self.changed(place, change);
        }
    }

    fn beliefs(&self) -> Vec<Belief> {
        self.targets.iter().map(|target| target.judge.belief()).collect()
    }

    /// What a change of belief makes known: going down and coming back, of a target and, where there are several, of the whole.
    /// Everything else shows in the row and rings nobody.
    fn changed(&mut self, place: usize, change: Change) {
        self.dirty = true;
        let (name, address, reason) =
            (self.config.name.clone(), self.targets[place].address.clone(), self.reason(place));
        tracing::info!(service = name, target = address, from = %change.from, to = %change.to, reason, "belief changed");
        let (kind, text) = match (change.from, change.to) {
            (_, Belief::Down) => (EventKind::ServiceDown, format!("down: {reason}")),
            (Belief::Down, _) => (EventKind::ServiceUp, "up again".to_owned()),
            _ => return,
        };
        self.tell(kind, self.subject(place), &address, format!("{name} ({address}): {text}"));
        let now = self.beliefs();
        let mut before = now.clone();
        before[place] = change.from;
        if now.len() > 1 && (whole(before) == Belief::Down) != (whole(now) == Belief::Down) {
            let text = if kind == EventKind::ServiceDown { "down: all its targets are" } else { "up again" };
            self.tell(kind, format!("service/{name}"), &address, format!("{name}: {text}"));
        }
    }

    /// What an event about a target is about. A service of one target is that target.
    fn subject(&self, place: usize) -> String {
        match self.targets.len() {
            0 | 1 => format!("service/{}", self.config.name),
            _ => format!("service/{}@{}", self.config.name, self.targets[place].address),
        }
    }

    fn tell(&mut self, kind: EventKind, subject: String, target: &str, text: String) {
        let what = if kind == EventKind::ServiceDown { "service_went_down" } else { "service_came_up" };
        let data = json!({
            "service": self.config.name, "kind": self.config.kind, "target": target, "text": text, "action": self.action,
        });
        let entry = Entry::new(what, text, data.clone());
        let event = Event { id: EventId(Uuid::new_v4()), kind, recovery: None, subject, data };
        self.unsent.push((event, entry));
    }

    fn reason(&self, place: usize) -> String {
        match &self.targets[place].last {
            Some((Sight::Down { reason } | Sight::CannotTell { reason }, _)) => reason.clone(),
            Some((Sight::Slow { latency }, _)) => format!("answered after {} ms", latency.as_millis()),
            Some((Sight::Up { .. }, _)) | None => String::new(),
        }
    }

    /// Looks after a restart under way: carried out? did it help?
    async fn follow_restart(&mut self, now: Mono, stamp: Stamp) {
        let Some(mut ongoing) = self.ongoing.clone().filter(|_| self.order.is_none()) else { return };
        let row = match orders::get(&self.db, ongoing.order).await {
            Ok(row) => row,
            Err(StoreError::NotFound { .. }) => {
                return self.end_restart(ActionState::Failed, "its order is gone".into(), stamp);
            }
            Err(_) => return,
        };
        let result =
            row.result.as_ref().and_then(|result| result["detail"].as_str()).unwrap_or_default().to_owned();
        if row.succeeded == Some(true) && !ongoing.carried_out {
            ongoing.carried_out = true;
            self.ongoing = Some(ongoing.clone());
        }
        let up = matches!(self.targets[ongoing.place].judge.belief(), Belief::Up | Belief::Slow);
        let late = now.since(ongoing.begun) >= Duration::from_millis(self.config.thresholds.verify_ms);
        match (row.succeeded, up) {
            (Some(true), true) => {
                self.end_restart(ActionState::Succeeded, "the probe sees it up".into(), stamp)
            }
            (Some(false), _) => {
                self.end_restart(ActionState::Failed, format!("the agent could not: {result}"), stamp)
            }
            (None, true) => {
                self.withdraw(&ongoing, stamp).await;
                self.end_restart(
                    ActionState::Withheld,
                    "it came up before the agent told of a restart; the order was withdrawn".into(),
                    stamp,
                );
            }
            (None, false) if late => {
                self.withdraw(&ongoing, stamp).await;
                self.end_restart(
                    ActionState::Failed,
                    "no agent took the order in time; it was withdrawn".into(),
                    stamp,
                );
            }
            (Some(true), false) if late => {
                self.end_restart(ActionState::Failed, "it was restarted and is still down".into(), stamp);
            }
            _ => {}
        }
    }

    /// Takes an order back. An agent may have it already; then its report finds the order ended, which is no harm.
    async fn withdraw(&self, ongoing: &Ongoing, stamp: Stamp) {
        let (id, host, result) = (ongoing.order, ongoing.host, json!({"outcome": "withdrawn"}));
        if let Err(error) =
            write(&self.db, async |tx| orders::done(tx, id, host, false, &result, stamp).await).await
        {
            tracing::warn!(service = self.config.name, order = %id, %error, "an order could not be withdrawn");
        }
    }

    fn end_restart(&mut self, state: ActionState, reason: String, stamp: Stamp) {
        let Some(ongoing) = self.ongoing.take() else { return };
        self.dirty = true;
        self.action.state = state;
        self.action.at = Some(time(stamp));
        self.action.reason = Some(reason.clone());
        let address = self.targets[ongoing.place].address.clone();
        let name = &self.config.name;
        tracing::info!(service = name, target = address, outcome = ?state, reason, "restart ended");
        let (kind, text) = match state {
            ActionState::Failed => {
                (EventKind::ServiceDown, format!("{name} ({address}): restart failed: {reason}"))
            }
            _ => (EventKind::ServiceUp, format!("{name} ({address}): after a restart: {reason}")),
        };
        let subject = self.subject(ongoing.place);
        // One event says both that it is up and why.
        self.unsent.retain(|(event, _)| (event.kind, &event.subject) != (EventKind::ServiceUp, &subject));
        self.tell(kind, subject, &address, text);
    }

    /// Orders a restart of a target that is down, if it is permitted.
    async fn consider_restart(&mut self, place: usize, now: Mono, stamp: Stamp) {
        let down = self.targets[place].judge.belief() == Belief::Down;
        if self.config.action != ActionKind::Restart || !down || self.order.is_some() {
            return;
        }
        match self.permit(place, now).await {
            Ok(_) if self.ongoing.as_ref().is_some_and(|ongoing| ongoing.place == place) => {}
            Ok((host, unit)) => self.begin_restart(place, host, unit, now, stamp),
            Err(_) if self.ongoing.is_some() => {}
            Err(reason) => {
                if self.action.reason.as_ref() != Some(&reason) {
                    tracing::warn!(
                        service = self.config.name,
                        target = self.targets[place].address,
                        reason,
                        "restart withheld"
                    );
                    self.dirty = true;
                }
                let keeps = self.action.state == ActionState::Failed;
                self.action.state = if keeps { ActionState::Failed } else { ActionState::Withheld };
                self.action.reason = Some(reason);
            }
        }
    }

    async fn permit(&self, place: usize, now: Mono) -> Result<(halberd_core::id::HostId, String), String> {
        let disarm = settings::disarm(&self.db)
            .await
            .map_err(|error| format!("the disarm switch cannot be read: {error}"))?;
        let rewound = halberd_store::rewind::stands(&self.db).await;
        if rewound.map_err(|error| format!("whether the database was rewound cannot be read: {error}"))? {
            return Err(format!("reconcile-only: {}", crate::rewind::WAY_OUT));
        }
        let beliefs = self.beliefs();
        let situation = Situation {
            kind: self.config.kind,
            beliefs: &beliefs,
            ongoing: self.ongoing.is_some(),
            disarmed: disarm.as_ref().map(|disarm| disarm.reason.as_str()),
        };
        self.restarts.permit(place, &situation, &self.config.thresholds, now)?;
        let name = self.config.host(place).ok_or("no host is configured for it")?;
        let host = hosts::by_name(&self.db, name).await.map_err(|error| error.to_string())?;
        let host =
            host.ok_or_else(|| format!("host {name} is not registered, so its agent gets no orders"))?;
        let pending = orders::pending(&self.db, host.id).await.map_err(|error| error.to_string())?;
        let unit = self.config.unit.clone().ok_or("no unit is configured for it")?;
        if pending.iter().any(|order| order.kind == RESTART_UNIT && order.body["unit"] == unit.as_str()) {
            return Err(format!("an order to restart {unit} on {name} stands already"));
        }
        Ok((host.id, unit))
    }

    fn begin_restart(
        &mut self,
        place: usize,
        host: halberd_core::id::HostId,
        unit: String,
        now: Mono,
        stamp: Stamp,
    ) {
        let order = Uuid::new_v4();
        let body = serde_json::to_value(OrderKind::RestartUnit { unit: unit.clone() }).unwrap_or_default();
        self.restarts.count(place, &self.config.thresholds, now);
        self.ongoing = Some(Ongoing { place, order, host, begun: now, carried_out: false });
        self.order = Some((order, host, body));
        self.action.host = self.config.host(place).map(str::to_owned);
        self.action.state = ActionState::Ongoing;
        self.action.at = Some(time(stamp));
        self.action.reason = Some(format!("{unit} is being restarted"));
        self.dirty = true;
    }

    /// One transaction: the row, the events and their deliveries, the audit records, the order.
    async fn write(&mut self, now: Mono, stamp: Stamp) {
        let belief = whole(self.beliefs());
        let (reason, probe) = (self.reasons(), json!({"targets": self.shown(), "action": self.action}));
        let (name, kind) = (self.config.name.clone(), self.config.kind.as_str());
        let (fresh, chain) = (ServiceId(Uuid::new_v4()), audit::engine_chain(self.options.engine));
        let (unsent, order) = (self.unsent.clone(), self.order.clone());
        let webhooks: Vec<Vec<String>> =
            unsent.iter().map(|(event, _)| (self.options.webhooks)(event.kind)).collect();
        let mut entries: Vec<Entry> = unsent.iter().map(|(_, entry)| entry.clone()).collect();
        if let Some((id, host, body)) = &order {
            let text =
                format!("{name}: restart ordered on {}", self.action.host.as_deref().unwrap_or_default());
            entries.push(Entry::new(
                "restart_ordered",
                text,
                json!({"order": id, "host": host, "body": body, "service": name}),
            ));
        }
        let seen = services::Seen {
            name: &name,
            kind,
            state: belief.as_str(),
            down: belief == Belief::Down,
            reason: &reason,
            probe: &probe,
        };
        let written = write(&self.db, async |tx| {
            services::record(tx, fresh, &seen, stamp).await?;
            for ((event, _), hooks) in unsent.iter().zip(&webhooks) {
                events::publish(tx, std::slice::from_ref(event), 0, hooks, stamp).await?;
            }
            audit::append(tx, &chain, 0, &entries, stamp).await?;
            if let Some((id, host, body)) = &order {
                orders::insert(tx, *id, *host, RESTART_UNIT, body, stamp).await?;
            }
            Ok(())
        })
        .await;
        match written {
            Ok(()) => self.is_written(now),
            Err(error) => {
                tracing::warn!(service = name, %error, "what was seen could not be written; it is kept");
                // A commit whose outcome is unknown, or that an earlier try had made after all.
                let mark = unsent.first().map(|(event, _)| event.id);
                if let Some(id) = mark
                    && events::get(&self.db, id).await.is_ok()
                {
                    self.is_written(now);
                }
            }
        }
    }

    fn is_written(&mut self, now: Mono) {
        metrics::gauge!("halberd_service_up", "service" => self.config.name.clone())
            .set(if whole(self.beliefs()) == Belief::Down { 0.0 } else { 1.0 });
        if !self.unsent.is_empty() {
            (self.options.published)();
        }
        self.unsent.clear();
        self.order = None;
        self.dirty = false;
        self.written = Some(now);
    }

    fn reasons(&self) -> String {
        let reasons: Vec<String> = (0..self.targets.len())
            .filter(|place| self.targets[*place].judge.belief() != Belief::Up)
            .map(|place| match self.reason(place) {
                reason if reason.is_empty() => format!("{}: not probed yet", self.targets[place].address),
                reason => format!("{}: {reason}", self.targets[place].address),
            })
            .collect();
        reasons.join("; ")
    }

    fn shown(&self) -> Vec<ServiceTarget> {
        let show = |(place, target): (usize, &Target)| ServiceTarget {
            address: target.address.clone(),
            state: match target.judge.belief() {
                Belief::Unknown => ServiceState::Unknown,
                Belief::Up => ServiceState::Up,
                Belief::Slow => ServiceState::Slow,
                Belief::Down => ServiceState::Down,
            },
            since: time(target.since),
            last_probe: target.last.as_ref().map(|(_, at)| time(*at)),
            latency_ms: match &target.last {
                Some((Sight::Up { latency } | Sight::Slow { latency }, _)) => {
                    u64::try_from(latency.as_millis()).ok()
                }
                _ => None,
            },
            reason: Some(self.reason(place)).filter(|reason| !reason.is_empty()),
        };
        self.targets.iter().enumerate().map(show).collect()
    }
}

/// What the row says of each target. Unreadable is as if nothing had been written.
async fn stored(db: &Db, name: &str) -> Vec<ServiceTarget> {
    match services::by_name(db, name).await {
        Ok(row) => {
            row.and_then(|row| serde_json::from_value(row.probe["targets"].clone()).ok()).unwrap_or_default()
        }
        Err(error) => {
            tracing::warn!(service = name, %error, "what was believed of it before cannot be read");
            Vec::new()
        }
    }
}

fn time(stamp: Stamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(stamp.0).unwrap_or_default()
}

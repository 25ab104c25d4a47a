//! The tiny world's Nova: guests, migration records, one compute service that matters. It executes what it accepted, and some of
//! what it did not answer, up to the end of the call's life.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use super::scenario::{Kind, Scenario};
use super::world::{DEAD, RESERVE};
use crate::chance::Chance;
use crate::effect::{Done, Effect, Migration, Query, ServiceRow, Survey};
use crate::id::InstanceId;
use crate::instance::Guest;
use crate::runner::Sight;
use crate::time::Mono;

const LIVING: [&str; 3] = ["cmp-1", "cmp-2", RESERVE];

#[derive(Clone, Debug)]
struct Record {
    row: Migration,
    next: Mono,
    /// Its evacuate action ended in error although the record hangs.
    broken: bool,
    /// Hangs without any word.
    stuck: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Cloud {
    pub guests: BTreeMap<InstanceId, Guest>,
    pub forced_down: bool,
    pub enabled: bool,
    pub proved_off: BTreeSet<String>,
    /// What nobody may cause: a second evacuation of a guest beside a live one.
    pub damage: Vec<String>,
    records: Vec<Record>,
    late: Vec<(Mono, Effect)>,
    dice: Chance,
    now: Mono,
    trouble: u8,
    returning: bool,
    born: u128,
}

impl Cloud {
    pub fn new(scenario: &Scenario, seed: u64, now: Mono) -> Cloud {
        let returning = scenario.kind == Kind::Return;
        let mut cloud = Cloud {
            guests: BTreeMap::new(),
            forced_down: returning,
            enabled: !returning,
            proved_off: BTreeSet::new(),
            damage: Vec::new(),
            records: Vec::new(),
            late: Vec::new(),
            dice: Chance::new(seed),
            now,
            trouble: scenario.nova,
            returning,
            born: 0,
        };
        for _ in 0..scenario.guests {
            cloud.boot_guest();
        }
        cloud
    }

    fn hit(&mut self, percent: u8) -> bool {
        self.dice.number() % 100 < u64::from(percent)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.dice.number() as usize % from.len()]
    }

    fn boot_guest(&mut self) {
        self.born += 1;
        let id = InstanceId(Uuid::from_u128(0x9000 + self.born));
        let vm_state =
            self.pick(&["active", "active", "active", "stopped", "error", "resized", "paused", "building"]);
        let locked = self.hit(10);
        let guest = Guest {
            vm_state: vm_state.into(),
            power_state: self.pick(&[1, 4]),
            locked,
            locked_reason: locked.then(|| "its owner's".into()),
            ha_enabled: self.hit(60).then(|| "true".into()),
            ..Guest::active_on(id, &format!("guest-{}", self.born), DEAD)
        };
        self.guests.insert(id, guest);
        let old = self.dice.number() % 12;
        if self.returning && old > 2 {
            // What the recovery left behind: guests that arrived, their records done.
            self.record(id, "evacuation", "done", Some("cmp-1"));
            self.place(id, "cmp-1");
        } else if old == 0 {
            self.record(id, "live-migration", "running", Some("cmp-1"));
        } else if old == 1 {
            self.record(id, "evacuation", "error", None);
        }
    }

    fn place(&mut self, id: InstanceId, host: &str) {
        if let Some(guest) = self.guests.get_mut(&id) {
            guest.host = Some(host.into());
        }
    }

    fn record(&mut self, instance: InstanceId, kind: &str, status: &str, dest: Option<&str>) {
        let row = Migration {
            id: self.records.len() as i64 + 1,
            instance,
            source: DEAD.into(),
            dest: dest.map(Into::into),
            status: status.into(),
            kind: kind.into(),
        };
        let next = self.now + Duration::from_millis(200 + self.dice.number() % 3_000);
        self.records.push(Record { row, next, broken: false, stuck: false });
    }

    /// Goes on until now.
    pub fn run(&mut self, now: Mono) {
        self.now = now;
        let (ripe, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        for (_, effect) in ripe {
            self.execute(&effect);
        }
        for index in 0..self.records.len() {
            if self.records[index].next <= now && self.records[index].row.is_unfinished() {
                self.progress(index);
            }
        }
        if self.returning && self.dice.number().is_multiple_of(10) {
            for record in self.records.iter_mut().filter(|record| record.row.status == "done") {
                record.row.status = "completed".into();
            }
        }
    }

    fn progress(&mut self, index: usize) {
        let (trouble, pause) = (self.trouble / 2, self.dice.number() % 2_000);
        let fails = self.hit(trouble);
        let dest = self.pick(&LIVING);
        let record = &mut self.records[index];
        record.next = self.now + Duration::from_millis(if pause.is_multiple_of(7) { 15_000 } else { pause });
        if record.broken || record.stuck {
            return;
        }
        let id = record.row.instance;
        match (record.row.status.as_str(), fails) {
            ("accepted", true) if pause.is_multiple_of(3) => record.broken = true,
            ("accepted", true) if pause.is_multiple_of(2) => record.stuck = true,
            (_, true) => record.row.status = "error".into(),
            ("accepted", false) => {
                record.row.status = "pre-migrating".into();
                record.row.dest = record.row.dest.take().or(Some(dest.into()));
            }
            (_, false) if record.row.is_evacuation() => {
                record.row.status = "done".into();
                let dest = record.row.dest.clone().unwrap_or_default();
                let running = pause.is_multiple_of(4);
                self.place(id, &dest);
                if let Some(guest) = self.guests.get_mut(&id)
                    && (guest.vm_state == "error" || running)
                {
                    guest.vm_state = "active".into();
                }
            }
            (_, false) => {}
        }
    }

    /// A tenant or an operator does something of their own.
    pub fn meddle(&mut self) {
        let ids: Vec<InstanceId> = self.guests.keys().copied().collect();
        match self.dice.number() % 5 {
            0 if !ids.is_empty() => {
                let id = self.pick(&ids);
                self.guests.remove(&id);
            }
            1 => self.boot_guest(),
            2 if !ids.is_empty() => {
                let id = self.pick(&ids);
                let settled = !self
                    .records
                    .iter()
                    .any(|record| record.row.instance == id && record.row.is_unfinished());
                if settled {
                    self.place(id, "cmp-2");
                }
            }
            3 => {
                let id = self.records.iter().find(|record| record.stuck).map(|record| record.row.id);
                for record in self.records.iter_mut().filter(|record| Some(record.row.id) == id) {
                    (record.stuck, record.row.status) = (false, "error".into());
                }
            }
            _ => {
                self.proved_off.insert("cmp-2".into());
                for record in
                    self.records.iter_mut().filter(|record| record.row.dest.as_deref() == Some("cmp-2"))
                {
                    record.stuck = true;
                }
            }
        }
    }

    /// A call whose caller is gone and whose bytes are not.
    pub fn late(&mut self, at: Mono, effect: Effect) {
        self.late.push((at, effect));
    }

    pub fn perform(&mut self, effect: &Effect, now: Mono, lapses: Mono) -> Done {
        self.now = now;
        if let Some(id) = effect.instance()
            && !self.guests.contains_key(&id)
        {
            return Done::Gone { text: "no such guest".into() };
        }
        // Rare by itself and with an end of its own: made less rare.
        if matches!(effect, Effect::ResetToError { .. }) && self.hit(self.trouble) {
            return Done::Refused { status: 403, text: "not allowed".into() };
        }
        if !self.hit(self.trouble) {
            self.execute(effect);
            return Done::Accepted { note: "req-1".into() };
        }
        match self.dice.number() % 4 {
            0 => Done::Refused { status: 409, text: "conflict".into() },
            1 => Done::NotExecuted { text: "503".into() },
            fate => {
                let wait = lapses.since(now).as_millis() as u64;
                if fate == 2 && wait > 0 {
                    let at = now + Duration::from_millis(self.dice.number() % wait);
                    self.late(at, effect.clone());
                } else if self.dice.number().is_multiple_of(2) {
                    self.execute(effect);
                }
                Done::Unknown { text: "timed out".into() }
            }
        }
    }

    fn execute(&mut self, effect: &Effect) {
        match effect {
            Effect::MarkDown { .. } => (self.forced_down, self.enabled) = (true, false),
            Effect::Enable { .. } => self.enabled = true,
            Effect::ForceUp { .. } => self.forced_down = false,
            Effect::Evacuate { instance, to } => self.evacuate(*instance, to.as_deref()),
            _ => {}
        }
        let Some(guest) = effect.instance().and_then(|id| self.guests.get_mut(&id)) else { return };
        match effect {
            Effect::Lock { reason, .. } => (guest.locked, guest.locked_reason) = (true, Some(reason.clone())),
            Effect::Unlock { .. } => (guest.locked, guest.locked_reason) = (false, None),
            Effect::ResetToError { .. } => guest.vm_state = "error".into(),
            Effect::Stop { .. } => guest.vm_state = "stopped".into(),
            Effect::Start { .. } => guest.vm_state = "active".into(),
            _ => {}
        }
    }

    fn evacuate(&mut self, id: InstanceId, to: Option<&str>) {
        let live = |record: &&Record| {
            let dead_end =
                record.broken || record.row.dest.as_ref().is_some_and(|dest| self.proved_off.contains(dest));
            record.row.instance == id && record.row.is_unfinished() && !dead_end
        };
        if let Some(record) = self.records.iter().find(live) {
            self.damage
                .push(format!("{id}: evacuated beside migration {} ({})", record.row.id, record.row.status));
        }
        if self.guests.get(&id).is_some_and(|guest| guest.host.as_deref() == Some(DEAD)) {
            self.record(id, "evacuation", "accepted", to);
        }
    }

    pub fn answer(&mut self, query: &Query, started: Mono) -> Result<Sight, String> {
        if self.hit(self.trouble / 2) {
            return Err("502".into());
        }
        let rows = || {
            self.records
                .iter()
                .filter(|record| self.guests.contains_key(&record.row.instance))
                .map(|record| record.row.clone())
        };
        let on = |host: &str| {
            self.guests
                .values()
                .filter(|guest| guest.host.as_deref() == Some(host))
                .cloned()
                .collect::<Vec<_>>()
        };
        Ok(match query {
            Query::Survey { host } => {
                let (guests, migrations) = (on(host), rows().collect());
                let complete = !self.hit(self.trouble / 2);
                let row = |host: &str, up| ServiceRow {
                    id: host.into(),
                    host: host.into(),
                    up,
                    enabled: true,
                    forced_down: false,
                    disabled_reason: None,
                    updated_at: None,
                    whole: true,
                };
                // What is proved off is marked down as well, soon after.
                let up = |host: &str| row(host, !self.proved_off.contains(host));
                let services = vec![row(DEAD, false), up("cmp-1"), up("cmp-2"), up(RESERVE)];
                Sight::Survey(Survey { at: started, complete, guests, migrations, services })
            }
            Query::Progress { host } => Sight::Progress(
                rows().filter(|record| record.source == *host && record.is_evacuation()).collect(),
            ),
            Query::Destination { host } => Sight::Destination(on(host)),
            Query::Guest { instance } => Sight::Guest(self.guests.get(instance).cloned()),
            Query::Action { instance } => {
                let newest = self.records.iter().rfind(|record| record.row.instance == *instance);
                Sight::Action(newest.filter(|record| record.broken).map(|_| "No valid host was found".into()))
            }
            Query::Service { .. } | Query::Power { .. } => return Err("not asked here".into()),
        })
    }
}

//! `os-migrations`: the records by which evacuations and live migrations can be followed, and a minimal live migration.

use super::{Due, World};
use crate::fault::Route;
use crate::model::{Migration, MigrationFilter, VmState};
use crate::reply::{Refusal, Reply};
use uuid::Uuid;

/// Nova's `max_limit`.
pub(super) const MAX_LIMIT: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Record {
    pub(super) uuid: Uuid,
    pub(super) guest: usize,
    pub(super) source: usize,
    pub(super) dest: Option<usize>,
    pub(super) status: &'static str,
    pub(super) kind: &'static str,
    pub(super) created_at: u64,
    pub(super) updated_at: Option<u64>,
    /// Its server was deleted.
    pub(super) hidden: bool,
}

impl World {
    pub(super) fn record(
        &mut self,
        guest: usize,
        source: usize,
        dest: Option<usize>,
        kind: &'static str,
        status: &'static str,
    ) -> usize {
        let uuid = self.chance.uuid();
        self.records.push(Record {
            uuid,
            guest,
            source,
            dest,
            status,
            kind,
            created_at: self.now,
            updated_at: None,
            hidden: false,
        });
        let ix = self.records.len() - 1;
        self.guests[guest].migrations.push(ix);
        ix
    }

    pub(super) fn record_is(&mut self, record: usize, status: &'static str) {
        self.records[record].status = status;
        self.records[record].updated_at = Some(self.now);
    }

    fn migration_view(&self, ix: usize) -> Migration {
        let record = &self.records[ix];
        Migration {
            id: ix as u64 + 1,
            uuid: record.uuid,
            instance: self.guests[record.guest].id,
            source: self.name(record.source),
            dest: record.dest.map(|dest| self.name(dest)),
            status: record.status.into(),
            kind: record.kind.into(),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }

    /// `GET /os-migrations`, newest first, at most 1000 a page.
    ///
    /// # Errors
    /// 400 for an unknown marker.
    pub fn migrations(&mut self, now: u64, filter: &MigrationFilter) -> Reply<Vec<Migration>> {
        self.nova(now, Route::Migrations, |world, _| {
            let mut found: Vec<usize> = match filter.instance {
                Some(id) => world
                    .guest_by_id
                    .get(&id)
                    .map(|guest| world.guests[*guest].migrations.clone())
                    .unwrap_or_default(),
                None => (0..world.records.len()).collect(),
            };
            found.retain(|ix| world.matches(&world.records[*ix], filter));
            found.reverse();
            if let Some(marker) = filter.marker {
                let Some(at) = found.iter().position(|ix| world.records[*ix].uuid == marker) else {
                    return Err(Refusal::status(400, format!("Marker {marker} has not been found.")));
                };
                found.drain(..=at);
            }
            found.truncate(filter.limit.unwrap_or(MAX_LIMIT).min(MAX_LIMIT));
            Ok(found.into_iter().map(|ix| world.migration_view(ix)).collect())
        })
    }

    fn matches(&self, record: &Record, filter: &MigrationFilter) -> bool {
        let is = |wanted: &Option<String>, host: usize| {
            wanted.as_ref().is_none_or(|name| *name == self.hosts[host].name)
        };
        !record.hidden
            && !self.cell_down(record.source)
            && is(&filter.source, record.source)
            && (is(&filter.host, record.source) || record.dest.is_some_and(|dest| is(&filter.host, dest)))
            && filter.kind.as_ref().is_none_or(|kind| kind == record.kind)
            && filter.status.as_ref().is_none_or(|status| status == record.status)
            && filter
                .changed_since
                .is_none_or(|since| record.updated_at.unwrap_or(record.created_at) as i64 >= since)
    }

    /// Begins a live migration that takes `takes_ms` (never ends by itself when `None`). If either side dies meanwhile, its
    /// record stays `running`, as Nova leaves it. Not a wire call: it stands for what an operator or tenant had begun.
    pub fn start_live_migration(
        &mut self,
        now: u64,
        guest: Uuid,
        target: &str,
        takes_ms: Option<u64>,
    ) -> u64 {
        self.advance(now);
        let (guest, dest) = (self.guest_ix(guest), self.host_ix(target));
        let source = self.guests[guest].host.unwrap_or(dest);
        let record = self.record(guest, source, Some(dest), "live-migration", "running");
        self.guests[guest].task_state = Some("migrating");
        self.allocate(guest, dest);
        if let Some(after) = takes_ms {
            self.schedule(after, Due::LiveMigrated { migration: record });
        }
        record as u64 + 1
    }

    pub(super) fn live_migrated(&mut self, record: usize) {
        let Record { guest, source, dest: Some(dest), status: "running", .. } = self.records[record] else {
            return;
        };
        if !self.hosts[source].on_the_bus() || !self.hosts[dest].on_the_bus() {
            return;
        }
        self.guest_stops(guest, source);
        self.hosts[source].local.retain(|at| *at != guest);
        self.hosts[dest].local.push(guest);
        if self.guests[guest].vm_state == VmState::Active {
            self.guest_starts(guest, dest);
        }
        self.release(guest, source);
        self.record_is(record, "completed");
        let it = &mut self.guests[guest];
        it.host = Some(dest);
        it.task_state = None;
        it.updated_at = self.now;
    }
}

//! The store as it promises to be, in memory: compare-and-swap on version and epoch, all or nothing. It can be made to fail.

use std::collections::BTreeMap;

use halberd_core::audit::Entry;
use halberd_core::event::Event;
use halberd_core::fence::FenceProof;
use halberd_core::host::{Admission, Host};
use halberd_core::id::{EngineId, HostId, NotificationId, RecoveryId, SegmentId, VmoveId};
use halberd_core::notification::{Notification, NotificationStatus};
use halberd_core::recovery::{Recovery, StateWord, Subject, Vmove};
use halberd_core::runner::{Commit, Intent, Resolution};
use halberd_core::segment::Segment;
use halberd_store::fence_ledger::{Fence, Ledger};
use uuid::Uuid;

/// Why a commit wrote nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Lost,
    Conflict(String),
}

/// An intent with its fate.
#[derive(Clone, Debug)]
pub struct IntentRow {
    pub at: u64,
    pub intent: Intent,
    pub resolved: Option<Resolution>,
}

/// A piece of the audit trail with its time.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: u64,
    pub recovery: RecoveryId,
    pub entry: Entry,
}

/// The database.
#[derive(Clone, Debug, Default)]
pub struct ModelStore {
    pub segments: BTreeMap<SegmentId, Segment>,
    pub hosts: BTreeMap<HostId, Host>,
    /// Hosts that were deleted.
    pub gone: BTreeMap<String, HostId>,
    pub notifications: BTreeMap<NotificationId, Notification>,
    pub recoveries: BTreeMap<RecoveryId, (Recovery, Uuid)>,
    pub vmoves: BTreeMap<VmoveId, Vmove>,
    pub intents: BTreeMap<Uuid, IntentRow>,
    /// Lease counters, and whether the engine stopped by itself.
    pub engines: BTreeMap<EngineId, (i64, bool)>,
    pub events: Vec<(u64, Event)>,
    pub audit: Vec<Line>,
    /// What controllers are to get back, recorded before it was changed.
    pub restore_policies: BTreeMap<HostId, halberd_sim::RestorePolicy>,
    /// Devices that drills have shown to switch their machine.
    pub drilled: Vec<(HostId, String)>,
    /// The off orders of all engines, for their brakes.
    pub ledger: Ledger,
    /// When each host was proved off, for the checkers.
    pub proofs: Vec<(u64, HostId, FenceProof)>,
}

impl ModelStore {
    pub fn open_for(&self, subject: &Subject) -> Option<RecoveryId> {
        let mut rows = self.recoveries.values().map(|(row, _)| row);
        rows.find(|row| row.is_open() && same(&row.subject, subject)).map(|row| row.id)
    }

    /// Opens a recovery unless one is open for its subject. A report that finds one joins it.
    pub fn open(&mut self, recovery: Recovery, report: Option<Notification>) -> bool {
        if let Some(report) = report {
            self.notifications.insert(report.id, report);
        }
        let open = self.open_for(&recovery.subject);
        let fresh = open.is_none();
        let settled = open.is_some_and(|id| self.recoveries[&id].0.word() == StateWord::Returning);
        if let Some(report) = self.notifications.get_mut(&recovery.notification) {
            report.status = match (fresh, settled) {
                (true, _) => NotificationStatus::Running,
                (false, true) => NotificationStatus::Finished,
                (false, false) => NotificationStatus::Ignored,
            };
        }
        if fresh {
            self.recoveries.insert(recovery.id, (Recovery { version: 1, ..recovery }, Uuid::nil()));
        }
        fresh
    }

    /// The portable claim: a conditional update on (owner, epoch).
    pub fn claim(
        &mut self,
        id: RecoveryId,
        owner: Option<EngineId>,
        epoch: i64,
        engine: EngineId,
    ) -> Option<Recovery> {
        let (row, _) = self.recoveries.get_mut(&id)?;
        if !row.is_open() || row.owner != owner || row.epoch != epoch {
            return None;
        }
        row.owner = Some(engine);
        row.epoch += 1;
        row.version += 1;
        Some(row.clone())
    }

    pub fn vmoves_of(&self, recovery: RecoveryId) -> Vec<Vmove> {
        self.vmoves.values().filter(|vmove| vmove.recovery == recovery).cloned().collect()
    }

    pub fn open_intents(&self, recovery: RecoveryId) -> Vec<Intent> {
        let open = self
            .intents
            .values()
            .filter(|row| row.resolved.is_none() && row.intent.recovery == Some(recovery));
        open.map(|row| row.intent.clone()).collect()
    }

    /// One transaction: all of it is checked before anything is written.
    pub fn commit(&mut self, at: u64, commit: &Commit) -> Result<i64, Refused> {
        let new = &commit.recovery;
        let (row, _) = self.recoveries.get(&new.id).ok_or(Refused::Lost)?;
        if row.version != new.version || row.epoch != new.epoch || row.owner != new.owner {
            return Err(Refused::Lost);
        }
        self.keys_are_free(commit)?;
        let hosts = self.patched(commit)?;
        self.write(at, commit);
        self.hosts.extend(hosts);
        for entry in &commit.audit {
            self.audit.push(Line { at, recovery: new.id, entry: entry.clone() });
        }
        self.events.extend(commit.events.iter().map(|event| (at, event.clone())));
        for (host, patch) in &commit.hosts {
            self.drilled.extend(patch.drilled.iter().map(|device| (*host, device.clone())));
            if let Some(Some(proof)) = &patch.proof {
                self.proofs.push((at, *host, proof.clone()));
            }
        }
        Ok(new.version + 1)
    }

    /// What the same transaction writes into the ledger.
    pub fn enter(&mut self, fences: &[Fence], ended: &[Uuid]) {
        for fence in self.ledger.fences.iter_mut().filter(|fence| ended.contains(&fence.intent)) {
            fence.open = false;
        }
        self.ledger.fences.extend(fences.iter().cloned());
    }

    /// No second unresolved intent for what each new one is about, those aside that this transaction resolves.
    fn keys_are_free(&self, commit: &Commit) -> Result<(), Refused> {
        let keyed = commit.intents.iter().filter(|intent| intent.open_key.is_some());
        for (number, intent) in keyed.clone().enumerate() {
            let resolved_now = |id: Uuid| commit.resolved.iter().any(|resolution| resolution.intent == id);
            let taken = |row: &IntentRow| {
                row.resolved.is_none()
                    && row.intent.open_key == intent.open_key
                    && !resolved_now(row.intent.id)
            };
            let twice = keyed.clone().take(number).any(|other| other.open_key == intent.open_key);
            if twice || self.intents.values().any(taken) {
                return Err(Refused::Conflict(format!("an intent for {:?} is open", intent.open_key)));
            }
        }
        Ok(())
    }

    /// The hosts that it touches, as they will be.
    fn patched(&self, commit: &Commit) -> Result<BTreeMap<HostId, Host>, Refused> {
        let mut hosts = BTreeMap::new();
        for (id, patch) in &commit.hosts {
            let known = self.hosts.get(id).ok_or(Refused::Conflict("no such host".into()))?;
            let host: &mut Host = hosts.entry(*id).or_insert_with(|| known.clone());
            patch.apply(host).map_err(|why| Refused::Conflict(format!("{}: {why}", host.name)))?;
            host.version += 1;
        }
        Ok(hosts)
    }

    fn write(&mut self, at: u64, commit: &Commit) {
        let new = &commit.recovery;
        let row = Recovery { version: new.version + 1, ..new.clone() };
        self.recoveries.insert(new.id, (row, commit.nonce));
        for vmove in &commit.vmoves {
            self.vmoves.insert(vmove.id, vmove.clone());
        }
        for resolution in &commit.resolved {
            if let Some(row) = self.intents.get_mut(&resolution.intent) {
                row.resolved = Some(resolution.clone());
            }
        }
        for intent in &commit.intents {
            self.intents.insert(intent.id, IntentRow { at, intent: intent.clone(), resolved: None });
        }
        if let Some((status, message)) = &commit.notification
            && let Some(report) = self.notifications.get_mut(&new.notification)
        {
            report.status = *status;
            report.message = message.clone().or(report.message.take());
        }
        for opened in &commit.opens {
            let open = self.open_for(&opened.subject);
            if let Some((row, _)) = open.and_then(|id| self.recoveries.get_mut(&id)) {
                if opened.subject.kind() == "return" {
                    (row.body, row.reason) = (opened.body.clone(), opened.reason.clone());
                    (row.owner, row.version) = (None, row.version + 1);
                }
            } else {
                if let Some(report) = self.notifications.get_mut(&opened.notification)
                    && opened.subject.kind() == "host"
                {
                    report.status = NotificationStatus::Running;
                }
                self.recoveries.insert(opened.id, (Recovery { version: 1, ..opened.clone() }, Uuid::nil()));
            }
        }
    }

    pub fn was_applied(&self, recovery: RecoveryId, nonce: Uuid) -> bool {
        self.recoveries.get(&recovery).is_some_and(|(_, last)| *last == nonce)
    }

    pub fn host_named(&self, name: &str) -> Option<&Host> {
        self.hosts.values().find(|host| host.name == name)
    }
}

/// Whether two subjects have one open key (I4), without writing it down: this is asked at every look.
fn same(one: &Subject, other: &Subject) -> bool {
    match (one, other) {
        (Subject::Host { host: a }, Subject::Host { host: b })
        | (Subject::Return { host: a }, Subject::Return { host: b }) => a == b,
        (Subject::Guest { instance: a, .. }, Subject::Guest { instance: b, .. }) => a == b,
        (Subject::Process { host: a, name: x }, Subject::Process { host: b, name: y }) => a == b && x == y,
        _ => false,
    }
}

/// Whether a host serves, for the checkers.
pub fn is_in(host: &Host) -> bool {
    host.admission == Admission::In
}

//! What is drawn from the seed.

use halberd_core::host::Admission;
use halberd_core::id::WishId;
use halberd_core::runner::{HostCondition, HostPatch, Resolution};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::super::*;
use crate::{Direction, Marker, Page, bus, deliveries, recoveries};

/// Names that some collations take for one another.
const NAMES: [&str; 10] =
    ["rack-a", "Rack-A", "rack-a ", "r\u{e4}ck", "rack", "z", "Z", "\u{1F980}", "%", "it's ?"];

/// What the teller of a story knows: nothing but what it drew and what it was answered.
pub(super) struct Story {
    pub rng: StdRng,
    pub now: Stamp,
    pub segments: Vec<SegmentId>,
    pub hosts: Vec<HostId>,
    pub reports: Vec<Notification>,
    pub recoveries: Vec<Recovery>,
    pub engines: Vec<EngineId>,
    pub intents: Vec<Uuid>,
    pub vmoves: Vec<Vmove>,
    pub wishes: Vec<WishId>,
    pub orders: Vec<(Uuid, HostId)>,
    pub claimed: Vec<deliveries::DeliveryRow>,
    pub waiting: Vec<bus::Waiting>,
}

impl Story {
    pub(super) fn new(seed: u64) -> Story {
        let mut rng = StdRng::seed_from_u64(seed);
        let engines = (0..3).map(|_| EngineId(uuid(&mut rng))).collect();
        Story {
            rng,
            now: NOW,
            segments: Vec::new(),
            hosts: Vec::new(),
            reports: Vec::new(),
            recoveries: Vec::new(),
            engines,
            intents: Vec::new(),
            vmoves: Vec::new(),
            wishes: Vec::new(),
            orders: Vec::new(),
            claimed: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) fn id(&mut self) -> Uuid {
        uuid(&mut self.rng)
    }

    /// One of those, or sometimes one that nobody knows.
    pub(super) fn one<T: Copy + From<Uuid>>(&mut self, of: &[T]) -> T {
        let known = if self.rng.random_ratio(1, 20) { None } else { of.choose(&mut self.rng).copied() };
        known.unwrap_or_else(|| T::from(uuid(&mut self.rng)))
    }

    pub(super) fn segment(&mut self) -> SegmentId {
        let known = self.segments.clone();
        self.one(&known)
    }

    pub(super) fn host(&mut self) -> HostId {
        let known = self.hosts.clone();
        self.one(&known)
    }

    pub(super) fn engine(&mut self) -> EngineId {
        self.engines[self.rng.random_range(0..3)]
    }

    pub(super) fn name(&mut self) -> String {
        NAMES[self.rng.random_range(0..NAMES.len())].to_owned()
    }

    pub(super) fn maybe(&mut self) -> bool {
        self.rng.random()
    }

    pub(super) fn page(&mut self, keys: &[&str], marker: Option<Uuid>) -> Page {
        let sort = (0..self.rng.random_range(0..3))
            .map(|_| {
                let key = keys[self.rng.random_range(0..keys.len())].to_owned();
                (key, if self.rng.random() { Direction::Asc } else { Direction::Desc })
            })
            .collect();
        let marker = marker.filter(|_| self.rng.random_ratio(1, 3)).map(Marker::Id);
        Page { limit: self.rng.random_range(0..8), marker, sort }
    }

    pub(super) fn a_report(&mut self) -> Notification {
        let (segment, host) = (self.segment(), self.host());
        let n = self.rng.random_range(0..3);
        let mut report = match self.rng.random_range(0..3) {
            0 => host_down(segment, host),
            1 => guest_down(segment, host, &format!("guest-{n}")),
            _ => report(
                segment,
                host,
                NotificationType::Process,
                &[("process_name", "nova"), ("event", "STOPPED")],
            ),
        };
        report.id = NotificationId(self.id());
        report.generated_at = Stamp(self.now.0 - self.rng.random_range(0..300_000_000));
        report
    }

    pub(super) fn an_event(&mut self, recovery: Option<RecoveryId>) -> Event {
        Event { id: EventId(self.id()), ..event(recovery) }
    }

    pub(super) fn a_commit(&mut self) -> Option<Commit> {
        let recovery = self.recoveries.choose(&mut self.rng)?.clone();
        let mut draft = commit_of(&recovery);
        draft.nonce = self.id();
        if self.rng.random_ratio(1, 8) {
            draft.recovery.version -= 1;
        }
        if self.rng.random_ratio(1, 6) {
            draft.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
            draft.notification = Some((NotificationStatus::Finished, None));
        } else if self.maybe() {
            draft.notification = Some((NotificationStatus::Error, Some("\u{e4}sks a person".into())));
        }
        for n in 0..self.rng.random_range(0..4) {
            let known = self.vmoves.iter().find(|known| known.recovery == recovery.id).cloned();
            draft.vmoves.push(match known {
                Some(known) if n == 0 => {
                    Vmove { dest_host: Some("cmp-09".into()), status: VmoveStatus::Ongoing, ..known }
                }
                // Sometimes a second move of one guest: another key's conflict, which must not pass for the first's.
                Some(known) if self.rng.random_ratio(1, 6) => Vmove { id: VmoveId(self.id()), ..known },
                _ => {
                    let (id, instance) = (VmoveId(self.id()), InstanceId(self.id()));
                    Vmove { id, instance, ..vmove(&recovery, n) }
                }
            });
        }
        if self.maybe() {
            let key = self.maybe().then(|| format!("guest:{}", self.rng.random_range(0..4)));
            let row = Intent { id: self.id(), ..intent(&recovery, key) };
            self.intents.push(row.id);
            draft.intents.push(row);
        }
        if self.maybe()
            && let Some(id) = self.intents.choose(&mut self.rng)
        {
            draft.resolved.push(Resolution {
                intent: *id,
                result: "done".into(),
                detail: json!({"a": null}),
            });
        }
        if self.rng.random_ratio(1, 3) {
            let admission = [Admission::Out, Admission::In, Admission::Admitted][self.rng.random_range(0..3)];
            let only_if = self.rng.random_ratio(1, 4).then_some(HostCondition::Admission(Admission::In));
            let guest = InstanceId(Uuid::from_u128(self.rng.random_range(0..3)));
            let patch = HostPatch {
                admission: Some(admission),
                only_if,
                unstrand: self.rng.random_ratio(1, 4),
                strand: self.rng.random_ratio(1, 3).then_some(guest),
                ..HostPatch::default()
            };
            draft.hosts.push((recovery.subject.host(), patch));
        }
        draft.audit = vec![Entry::new("evacuation_ordered", "x", json!({"n": self.rng.random_range(0..9)}))];
        draft.events = vec![self.an_event(Some(recovery.id))];
        Some(draft)
    }
}

pub(super) fn uuid(rng: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(rng.random()).into_uuid()
}

impl Story {
    pub(super) fn maybe_const(&self) -> bool {
        self.now.0 % 3 != 0
    }

    /// Reads a recovery as it is now.
    pub(super) async fn learn(&mut self, db: &Db, id: RecoveryId) {
        let now = recoveries::get(db, id).await.expect("it was opened");
        for known in &mut self.recoveries {
            if known.id == id {
                *known = now.clone();
            }
        }
    }
}

//! Does the database still know what this engine knows? (SAFETY 3.2, the rewind rule; I6, I22.)
//!
//! What this module believes:
//!
//! - A database that shows less than was seen of it has lost commits: a backup was restored, a standby that lagged was promoted, a
//!   cluster came back without its last writes. What we did by those commits is done in the world and known to nobody, so nothing is
//!   done any more until the world was looked at.
//! - Only what never falls is compared: an engine's own lease counter, a recovery's epoch and version, the length of an audit chain. And
//!   one thing that tells two histories of equal length apart: an audit record's hash, which covers everything before it in its chain.
//! - More than was seen is no finding, whoever wrote it. A server that was promoted but lost nothing is none either.
//! - What was reconciled once need not be again: the database lists how often that was, in ids. A database that lacks the one we know
//!   of has lost it; one that knows of more has been through it without us, and what it shows is the truth now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::effect::{Migration, ServiceRow};
use crate::evidence::Power;
use crate::host::{Admission, Host};
use crate::id::{EngineId, HostId, RecoveryId};

/// Epochs jump by this much when reconcile-only ends: more than any engine can have claimed in what was lost (I6).
pub const EPOCH_STEP: i64 = 1_000_000;

/// Marks of closed recoveries are kept for so many: a database that shows one of them open again is a rewound one.
const CLOSED_KEPT: usize = 256;
/// Former runs of an engine whose row would be a rewound one.
const FORMER_KEPT: usize = 16;

/// Which database this is. What could not be found out is `None`, and is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Made by us at the database's first use, and part of every dump of it.
    pub own: Option<Uuid>,
    /// PostgreSQL's system identifier.
    #[serde(default)]
    pub server: Option<String>,
    /// PostgreSQL's timeline, another one after any promotion; Galera's cluster state UUID, another one where a cluster was begun anew.
    #[serde(default)]
    pub timeline: Option<String>,
}

/// A place in an audit chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub sequence: i64,
    pub hash: String,
}

/// What is remembered of a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryMark {
    pub epoch: i64,
    pub version: i64,
    /// Of its audit chain.
    #[serde(default)]
    pub audit: Option<Head>,
    /// It may be gone by now: closed recoveries are purged.
    #[serde(default)]
    pub closed: bool,
    /// This engine's counter when it was first noted. A database that shows a later one had it then: what is missing now was purged.
    #[serde(default)]
    pub at: i64,
}

/// What an engine remembers of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineMark {
    pub name: String,
    pub id: EngineId,
    /// Of its lease.
    pub counter: i64,
    /// It gave its lease back: its row may have been forgotten since.
    #[serde(default)]
    pub stopped: bool,
    /// Runs of this name before it, newest last.
    #[serde(default)]
    pub former: Vec<EngineId>,
}

/// The high-water marks of one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub identity: Identity,
    /// The last time that engines left reconcile-only, as far as known here.
    #[serde(default)]
    pub reconciled: Option<Uuid>,
    #[serde(default)]
    pub engine: Option<EngineMark>,
    #[serde(default)]
    pub recoveries: BTreeMap<RecoveryId, RecoveryMark>,
    /// Of the chain that lists all others.
    #[serde(default)]
    pub checkpoints: Option<Head>,
}

/// What the database shows of a chain: its length, and the hash at the place that was remembered, if that record is still kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownChain {
    pub length: i64,
    pub at_mark: Option<String>,
}

/// What the database shows of a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRecovery {
    pub epoch: i64,
    pub version: i64,
    pub closed: bool,
    pub audit: ShownChain,
}

/// What the database shows where something is remembered. To be read after the marks were taken: it may show more, never less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub identity: Identity,
    /// Every time that engines left reconcile-only, oldest first.
    pub reconciled: Vec<Uuid>,
    /// The row of this engine's name: which run, and its counter.
    pub engine: Option<(EngineId, i64)>,
    pub recoveries: BTreeMap<RecoveryId, ShownRecovery>,
    pub checkpoints: ShownChain,
}

/// What shows less than it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// Another database or another server's.
    Identity,
    /// That engines left reconcile-only.
    Reconciled,
    Engine(String),
    Recovery(RecoveryId),
    Checkpoints,
    /// Somebody said so: a restore, for one.
    Stated,
}

/// One mark that the database does not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    pub thing: Thing,
    /// In words, for people.
    pub text: String,
    /// The epoch that was remembered: the next has to be above it.
    #[serde(default)]
    pub epoch: Option<i64>,
    #[serde(default)]
    pub version: Option<i64>,
}

impl Loss {
    fn new(thing: Thing, text: String) -> Loss {
        Loss { thing, text, epoch: None, version: None }
    }

    /// Said by somebody rather than seen.
    pub fn stated(text: impl Into<String>) -> Loss {
        Loss::new(Thing::Stated, text.into())
    }
}

/// What a comparison says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All that is remembered is there.
    Whole,
    /// The engines have left reconcile-only without this one: what it remembers is of before that.
    Reconciled,
    Rewound(Vec<Loss>),
}

/// Compares what is remembered with what the database shows.
pub fn compare(marks: &Marks, shown: &Shown) -> Compared {
    match marks.reconciled {
        Some(known) if !shown.reconciled.contains(&known) => {
            let text = "it does not know of the last time that reconcile-only was left";
            return Compared::Rewound(vec![Loss::new(Thing::Reconciled, text.into())]);
        }
        known if known.as_ref() != shown.reconciled.last() => return Compared::Reconciled,
        _ => {}
    }
    let mut lost = Vec::new();
    lost.extend(marks.identity.differs(&shown.identity).map(|text| Loss::new(Thing::Identity, text)));
    if let Some(engine) = &marks.engine {
        lost.extend(
            engine.less(shown.engine).map(|text| Loss::new(Thing::Engine(engine.name.clone()), text)),
        );
    }
    let counter = marks.engine.as_ref().zip(shown.engine).filter(|(engine, (id, _))| engine.id == *id);
    let counter = counter.map_or(0, |(_, (_, counter))| counter);
    for (id, mark) in &marks.recoveries {
        lost.extend(mark.less(*id, shown.recoveries.get(id), counter).map(|text| Loss {
            epoch: Some(mark.epoch),
            version: Some(mark.version),
            ..Loss::new(Thing::Recovery(*id), text)
        }));
    }
    if let Some(head) = &marks.checkpoints {
        let text = head.less("the chain of checkpoints", &shown.checkpoints);
        lost.extend(text.map(|text| Loss::new(Thing::Checkpoints, text)));
    }
    if lost.is_empty() { Compared::Whole } else { Compared::Rewound(lost) }
}

impl Identity {
    fn differs(&self, shown: &Identity) -> Option<String> {
        if let (Some(known), Some(own)) = (self.own, shown.own)
            && known != own
        {
            return Some(format!("it is database {own}, not {known}"));
        }
        match (&self.server, &shown.server) {
            (Some(known), Some(server)) if known != server => {
                Some(format!("it is on server or cluster {server}, not {known}"))
            }
            _ => None,
        }
    }

    /// Takes what is known now; what is not known now stays as it was.
    fn learn(&mut self, shown: Identity) {
        self.own = shown.own.or(self.own);
        self.server = shown.server.or_else(|| self.server.take());
        self.timeline = shown.timeline.or_else(|| self.timeline.take());
    }
}

impl Head {
    fn less(&self, what: &str, shown: &ShownChain) -> Option<String> {
        if shown.length < self.sequence {
            return Some(format!("{what} has {} records, {} were known", shown.length, self.sequence));
        }
        match &shown.at_mark {
            Some(hash) if *hash != self.hash => {
                Some(format!("{what} has another record {} than the one known", self.sequence))
            }
            _ => None,
        }
    }
}

impl RecoveryMark {
    fn less(&self, id: RecoveryId, shown: Option<&ShownRecovery>, counter: i64) -> Option<String> {
        let Some(shown) = shown else {
            let purged = self.closed || counter > self.at;
            return (!purged).then(|| format!("recovery {id} is missing, epoch {} was known", self.epoch));
        };
        if shown.epoch < self.epoch {
            return Some(format!("recovery {id} shows epoch {}, {} was known", shown.epoch, self.epoch));
        }
        if shown.version < self.version {
            return Some(format!(
                "recovery {id} shows version {}, {} was known",
                shown.version, self.version
            ));
        }
        // Of one that closed the records may be purged, and with them what tells histories apart.
        let head = self.audit.as_ref().filter(|_| !self.closed)?;
        head.less(&format!("the audit of recovery {id}"), &shown.audit)
    }
}

impl EngineMark {
    fn less(&self, shown: Option<(EngineId, i64)>) -> Option<String> {
        match shown {
            None if self.stopped => None,
            None => Some(format!("engine {} is missing, counter {} was known", self.name, self.counter)),
            Some((id, counter)) if id == self.id => (counter < self.counter)
                .then(|| format!("engine {} shows counter {counter}, {} was known", self.name, self.counter)),
            Some((id, _)) => self
                .former
                .contains(&id)
                .then(|| format!("engine {} shows a run of before the last", self.name)),
        }
    }
}

impl Marks {
    /// What is to be remembered from here on, after what was shown was found whole or reconciled.
    pub fn begin_at(&mut self, shown: &Shown) {
        self.recoveries.clear();
        self.checkpoints = None;
        self.identity = Identity::default();
        self.learn(shown);
        self.reconciled = shown.reconciled.last().copied();
    }

    /// Takes what was shown and found whole: the identity, and how far others have come with what was ours once.
    pub fn learn(&mut self, shown: &Shown) {
        self.identity.learn(shown.identity.clone());
        for (id, mark) in &mut self.recoveries {
            if let Some(seen) = shown.recoveries.get(id) {
                mark.epoch = mark.epoch.max(seen.epoch);
                mark.version = mark.version.max(seen.version);
                mark.closed |= seen.closed;
            }
        }
        self.forget_closed();
    }

    /// This run, under its name: what ran under it before is a former one.
    pub fn registered(&mut self, name: &str, id: EngineId, counter: i64, former: Option<EngineId>) {
        let mut runs = self.engine.take().map_or_else(Vec::new, |engine| {
            let mut runs = engine.former;
            runs.push(engine.id);
            runs
        });
        runs.extend(former.filter(|former| !runs.contains(former)));
        runs.retain(|run| *run != id);
        let spare = runs.len().saturating_sub(FORMER_KEPT);
        runs.drain(..spare);
        // All of them were there a moment ago, before this run's first renewal.
        self.recoveries.values_mut().for_each(|mark| mark.at = 0);
        self.engine = Some(EngineMark { name: name.to_owned(), id, counter, stopped: false, former: runs });
    }

    /// The lease was renewed. False: to less than was known.
    #[must_use]
    pub fn renewed(&mut self, counter: i64) -> bool {
        let Some(engine) = &mut self.engine else { return true };
        if counter <= engine.counter {
            return false;
        }
        engine.counter = counter;
        true
    }

    /// Raises what is remembered of a recovery; it never falls.
    pub fn note(&mut self, id: RecoveryId, seen: RecoveryMark) {
        let at = self.engine.as_ref().map_or(0, |engine| engine.counter);
        let seen = RecoveryMark { at, ..seen };
        let mark = self.recoveries.entry(id).or_insert_with(|| seen.clone());
        mark.epoch = mark.epoch.max(seen.epoch);
        mark.version = mark.version.max(seen.version);
        mark.closed |= seen.closed;
        let longer = |head: &Head| mark.audit.as_ref().is_none_or(|known| known.sequence < head.sequence);
        if let Some(head) = seen.audit.filter(longer) {
            mark.audit = Some(head);
        }
        self.forget_closed();
    }

    /// A checkpoint was seen.
    pub fn note_checkpoint(&mut self, head: Head) {
        if self.checkpoints.as_ref().is_none_or(|known| known.sequence < head.sequence) {
            self.checkpoints = Some(head);
        }
    }

    /// Closed ones beyond those that are kept; which of them go makes no difference to what is found of the others.
    fn forget_closed(&mut self) {
        let closed: Vec<RecoveryId> =
            self.recoveries.iter().filter(|(_, mark)| mark.closed).map(|(id, _)| *id).collect();
        for id in closed.iter().take(closed.len().saturating_sub(CLOSED_KEPT)) {
            self.recoveries.remove(id);
        }
    }
}

/// What the audit of one host has read afresh. `Err`: why it could not be read.
#[derive(Clone, Debug)]
pub struct Looked<'a> {
    pub host: &'a Host,
    /// A recovery or return of it is open: what is found of it is that one's.
    pub recovering: bool,
    /// It was heard a moment ago.
    pub heard: bool,
    /// `None`: it has no device that could say.
    pub power: Option<Result<Power, String>>,
    /// `None`: Nova knows no such host.
    pub service: Option<&'a ServiceRow>,
    /// Records of which it is the source.
    pub migrations: Result<&'a [Migration], String>,
}

/// Something in the world that the database does not explain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    #[serde(default)]
    pub host: Option<HostId>,
    pub text: String,
}

/// What one host shows that the database does not explain; empty: nothing.
///
/// A host whose recovery is open is that recovery's to look at, and so is one that is out. Of the others each sign of one of our deeds is
/// named, and each question that has no answer while nothing else shows that the host lives.
pub fn unexplained(looked: &Looked<'_>) -> Vec<Finding> {
    let host = looked.host;
    if looked.recovering || host.admission != Admission::In {
        return Vec::new();
    }
    let name = &host.name;
    let mut texts = Vec::new();
    let lives = looked.heard || looked.service.is_some_and(|service| service.up);
    match &looked.power {
        Some(Ok(Power::Off)) => texts.push(format!("{name} reads Off, and no recovery of it is known")),
        Some(Err(why)) if !lives => {
            texts.push(format!("{name} is not heard, and its power could not be read: {why}"));
        }
        _ => {}
    }
    if looked.service.is_some_and(|service| service.forced_down) {
        texts.push(format!("{name} is forced down in Nova, and no recovery of it is known"));
    }
    match &looked.migrations {
        Ok(records) => {
            let from_here = |record: &&Migration| {
                record.source == *name
                    && record.is_evacuation()
                    && (record.is_unfinished() || record.status == "done")
            };
            for record in records.iter().filter(from_here) {
                let to = record.dest.as_deref().unwrap_or("a host that Nova has not named");
                texts.push(format!(
                    "guest {} was evacuated from {name} to {to} (record {}, {}), and no recovery of {name} is known",
                    record.instance, record.id, record.status
                ));
            }
        }
        Err(why) => texts.push(format!("Nova's records of {name} could not be read: {why}")),
    }
    texts.into_iter().map(|text| Finding { host: Some(host.id), text }).collect()
}

/// What was lost and needs a person whatever the world shows: recoveries, whose deeds may still be under way.
pub fn lost_recoveries(lost: &[Loss]) -> Vec<Finding> {
    lost.iter()
        .filter(|loss| matches!(loss.thing, Thing::Recovery(_)))
        .map(|loss| Finding { host: None, text: loss.text.clone() })
        .collect()
}

#[cfg(test)]
mod tests;

//! May we act? The gates between a verdict and an off order (SAFETY 2.7, DESIGN 10.14), each with its argument.
//!
//! What this module believes:
//!
//! - Many silent hosts are a broken network, or a broken engine, until shown otherwise. A machine that *reads Off* is no
//!   longer silent but off: conclusive evidence passes the gates that guard against believing in silence (G1, G2, G3, G6).
//! - Shares are taken before and after filtering, and the larger alarm wins: a filter that removes hosts on maintenance
//!   first can hide a storm, one that counts them can dilute it (TRAPS 7).
//! - A hold says why, says how it ends, and never turns into action by itself: when its time is over the host is judged
//!   afresh and asks here again.
//! - An operator can release a gate for one host. Nobody releases an engine that doubts itself, starts up, or may only
//!   reconcile (I22), and maintenance is lifted by lifting it (I21).
//!
//! A [`Permit`] can only be made here.

mod gates;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::host::{FailureDomain, Host};
use crate::id::HostId;
use crate::policy::Policy;
use crate::text_enum;
use crate::time::Mono;
use crate::verdict::{Judgement, Verdict};

text_enum! {
    /// What may withhold a permit.
    pub enum Gate {
        /// Observer quorum: enough observers share the sight.
        G1 => "quorum",
        /// Too much of one failure domain turned silent together.
        G2 => "domain",
        /// Too much of the fleet turned silent together.
        G3 => "fleet",
        /// Fences a minute, and at once.
        G4 => "rate",
        /// The guests would not fit elsewhere.
        G5 => "capacity",
        /// Keystone, Nova or the database is red.
        G6 => "dependency",
        /// Fences a day.
        G7 => "budget",
        /// This engine has not listened long enough.
        G8 => "quiet_start",
        Maintenance => "maintenance",
        SegmentDisabled => "segment_disabled",
        /// Not in the inventory (I21).
        UnknownHost => "unknown_host",
        ReconcileOnly => "reconcile_only",
        SelfDoubt => "self_doubt",
        Disarmed => "disarmed",
        /// Fenced again and again on the word of its own agent.
        Quarantine => "quarantine",
    }
}

impl Gate {
    /// Whether an operator may release it for one host.
    pub fn is_releasable(self) -> bool {
        matches!(
            self,
            Gate::G1 | Gate::G2 | Gate::G3 | Gate::G4 | Gate::G5 | Gate::G6 | Gate::G7 | Gate::Quarantine
        )
    }
}

/// How a hold ends. None of them is permission: the host is judged afresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// When this time is reached.
    ByTime(Mono),
    /// When what it rests on changes.
    ByFacts,
    /// When an operator releases or changes something (or the facts change first).
    ByOperator,
}

/// Leave to write an off order for one host, with what every gate said. Cannot be made outside this module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Permit {
    host: HostId,
    notes: Vec<String>,
}

impl Permit {
    pub fn host(&self) -> HostId {
        self.host
    }
    /// One line per gate, for `explain`.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "permitted: {}", self.notes.join("; "))
    }
}

/// The brake's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Permit(Permit),
    /// The most fundamental gate that withholds, with its reason.
    Withheld {
        gate: Gate,
        reason: String,
        release: Release,
    },
}

/// The host to be fenced, as far as the fleet's picture does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    pub host: HostId,
    pub name: &'a str,
    /// Taken out by the operator; a recovery's or a process' own mark does not count (DESIGN 10.9).
    pub maintenance: bool,
    pub segment_enabled: bool,
    /// An off order is written: a takeover continues it (G8 does not hold it unless power reads On).
    pub order_written: bool,
    /// The latest fresh reading says On.
    pub power_on: bool,
    /// The judgement rests on something the host's agent or its neighbours' agents said or did not say.
    pub agent_evidence: bool,
}

impl<'a> Subject<'a> {
    /// A host without a written order, as stored.
    pub fn of(host: &'a Host, segment_enabled: bool) -> Subject<'a> {
        Subject {
            host: host.id,
            name: &host.name,
            maintenance: host.maintenance.operator,
            segment_enabled,
            order_written: false,
            power_on: false,
            agent_evidence: host.ever_agent,
        }
    }
}

/// A host of the fleet, the subject included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub host: HostId,
    pub domain: FailureDomain,
    /// May be fenced at all: not on the operator's maintenance, segment enabled. The filtered share counts these only.
    pub eligible: bool,
    /// Since when it is silent (its storage beats alone being silent counts, as does a report without a sign of life);
    /// `None`: heard.
    pub silent_since: Option<Mono>,
    /// A fresh identified reading says Off, or it is proved off.
    pub read_off: bool,
}

/// An off order of the last 24 hours, by any engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    pub host: HostId,
    pub at: Mono,
    /// Power was read On before the order: only such a fence costs anybody anything (G4, G7).
    pub read_on: bool,
    /// It rested on agent evidence (quarantine).
    pub agent_evidence: bool,
    /// Its end is not known yet.
    pub in_flight: bool,
}

/// A switched-off brake pedal: nothing is fenced until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disarmed {
    pub reason: String,
    pub until: Mono,
}

/// The rest of the world as the gates need it. The default permits nothing: it knows no host.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    /// Every registered host, of all segments, silent or not, on maintenance or not.
    pub hosts: Vec<Peer>,
    pub fences: Vec<Fenced>,
    /// Since when this engine has listened without a gap (start, stall, database failover).
    pub listening_since: Mono,
    /// Names of what is red among Keystone, Nova's API and scheduler, and the database's quorum.
    pub dependencies_red: Vec<String>,
    /// Whether the subject's guests fit elsewhere; `None`: not known.
    pub capacity: Option<bool>,
    /// The database shows less than was remembered (DESIGN 3): why.
    pub reconcile_only: Option<String>,
    pub disarmed: Option<Disarmed>,
    /// Gates an operator has released for the subject.
    pub released: Vec<Gate>,
}

/// Whether the subject may be fenced on this judgement. The order of the gates is fixed, most fundamental first.
pub fn may_fence(
    subject: &Subject<'_>,
    judgement: &Judgement,
    fleet: &Fleet,
    policy: &Policy,
    now: Mono,
) -> Answer {
    if judgement.verdict != Verdict::Failed {
        let reason = format!("{}: the verdict is {}, not failed", subject.name, judgement.verdict);
        return Answer::Withheld { gate: Gate::G1, reason, release: Release::ByFacts };
    }
    let Some(peer) = fleet.hosts.iter().find(|peer| peer.host == subject.host) else {
        let reason = format!("{} is not in the inventory", subject.name);
        return Answer::Withheld { gate: Gate::UnknownHost, reason, release: Release::ByOperator };
    };
    let gates = gates::Gates { subject, judgement, fleet, policy, now, peer };
    let order = gates.order();
    ask_in_order(&gates, order)
}

/// Whether the subject may be turned off because a person ordered it. Nothing has to be believed then, so what guards belief is not
/// asked; what guards against too much is: nobody's script turns a cloud off (SAFETY 5, S20).
pub fn may_fence_on_order(subject: &Subject<'_>, fleet: &Fleet, policy: &Policy, now: Mono) -> Answer {
    let judgement = Judgement::of_order();
    let Some(peer) = fleet.hosts.iter().find(|peer| peer.host == subject.host) else {
        let reason = format!("{} is not in the inventory", subject.name);
        return Answer::Withheld { gate: Gate::UnknownHost, reason, release: Release::ByOperator };
    };
    let gates = gates::Gates { subject, judgement: &judgement, fleet, policy, now, peer };
    ask_in_order(&gates, ON_ORDER.iter().copied())
}

/// What is asked of a person's order, most fundamental first.
const ON_ORDER: &[Gate] = &[Gate::ReconcileOnly, Gate::Disarmed, Gate::G5, Gate::G7, Gate::G4];

fn ask_in_order(gates: &gates::Gates<'_>, order: impl IntoIterator<Item = Gate>) -> Answer {
    let mut notes = Vec::new();
    for gate in order {
        match gates.ask(gate) {
            Ok(note) => notes.push(format!("{gate}: {note}")),
            Err(_) if gate.is_releasable() && gates.fleet.released.contains(&gate) => {
                notes.push(format!("{gate}: released by an operator"));
            }
            Err((reason, release)) => return Answer::Withheld { gate, reason, release },
        }
    }
    Answer::Permit(Permit { host: gates.subject.host, notes })
}

/// Quarantine looks back this long, and counts this many fences (DESIGN 10.14).
const QUARANTINE_WINDOW: Duration = Duration::from_secs(3_600);
const QUARANTINE_FENCES: usize = 3;
/// G7 is a budget per day.
const DAY: Duration = Duration::from_secs(86_400);
/// An engine that loses more than this share of its hosts has lost itself (SAFETY 1.5).
const SELF_DOUBT_PERCENT: u64 = 30;

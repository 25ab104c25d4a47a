//! Recoveries: list, show, explain.
//!
//! A recovery is one durable piece of work: one failure of one host, guest, process or service. Its states are the engine's own
//! (the drawing stands in STYLE's path of the data); `/v1` maps them to the original's six words. What waits says why, since when, and how long is normal.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Subject, wish::WishKind};
use crate::v1::segment::RecoveryMethod;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryKind {
    Host,
    Instance,
    Process,
    Service,
    /// A fenced host's way back.
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryState {
    /// Evidence is being judged.
    Confirming,
    /// A brake withholds; see `waiting` and the gates.
    Held,
    /// Being made certain to be off (hosts only).
    Fencing,
    /// Guests are being rebuilt elsewhere (hosts only).
    Evacuating,
    /// A guest is being stopped, before it is started again.
    Stopping,
    Starting,
    /// A host is being taken out of scheduling, its process being dead.
    Disabling,
    /// Its host is out of scheduling until the process is well again (processes only).
    Returning,
    /// A service's own remedy is under way.
    Acting,
    /// A fenced host's last commands and sessions run out (returns only).
    Draining,
    /// Fenced, and not seen again yet (returns only).
    Out,
    /// Back, and cleaning up; no guest starts yet (returns only).
    Admitted,
    /// Seeing the result, as opposed to being told.
    Verifying,
    /// Open, and a person must look; what needs no person goes on.
    NeedsOperator,
    /// Closed, everything terminal and well.
    Finished,
    /// Closed with something lost.
    Failed,
    /// Closed: alive after all, or not actionable.
    Cancelled,
}

impl RecoveryState {
    /// Whether more may happen.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Finished | Self::Failed | Self::Cancelled)
    }
}

/// Why nothing happens just now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Waiting {
    pub reason: String,
    /// When its state last changed; lists leave it out.
    pub since: Option<DateTime<Utc>>,
    /// How long this usually takes at most; absent where it waits for a person or for the host.
    pub normal_ms: Option<u64>,
}

/// How many guests stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestCounts {
    pub total: u64,
    pub pending: u64,
    pub ongoing: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub ignored: u64,
}

/// A recovery in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoverySummary {
    pub id: Uuid,
    pub kind: RecoveryKind,
    pub subject: Subject,
    pub segment_id: Option<Uuid>,
    pub state: RecoveryState,
    /// One sentence: what it does, waits for, asks, or how it ended.
    pub message: Option<String>,
    pub waiting: Option<Waiting>,
    pub guests: GuestCounts,
    /// Grows with each change of owner.
    pub epoch: i64,
    /// Name of the engine that holds it, if any does.
    pub owner: Option<String>,
    pub opened_at: DateTime<Utc>,
    /// Time of its newest audit record; lists leave it out.
    pub changed_at: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
}

/// A recovery in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryDetail {
    #[serde(flatten)]
    pub summary: RecoverySummary,
    pub recovery_method: Option<RecoveryMethod>,
    /// The reports it answers.
    pub notifications: Vec<Uuid>,
    pub verdict: Option<VerdictView>,
    pub proof: Option<ProofView>,
    pub moves: Vec<GuestMove>,
    pub intents: Vec<IntentView>,
    /// What an operator may ask of it now.
    pub operator_may: Vec<WishKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    Alive,
    Failed,
    CannotTell,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    pub verdict: VerdictWord,
    pub reasons: Vec<String>,
    pub at: DateTime<Utc>,
    /// What it was judged from.
    pub evidence: Vec<EvidenceView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProofMeans {
    /// Two readings Off after our order.
    PowerOff,
    /// An attested watchdog's lease ran out.
    WatchdogLease,
    /// An operator's statement.
    Operator,
    /// No device, and the segment's policy believes the reporter. No proof of anything; shown in red.
    Waived,
}

/// What shows that a host was off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofView {
    pub means: ProofMeans,
    /// The host's boot it holds for.
    pub boot_number: Option<i64>,
    pub at: Option<DateTime<Utc>>,
    pub detail: String,
    /// A sign of life since then voids it.
    pub voided_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuestOutcome {
    Pending,
    Ongoing,
    Succeeded,
    Failed,
    /// Left alone, with the reason.
    Ignored,
}

/// One guest of a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GuestMove {
    pub instance_uuid: Uuid,
    pub name: String,
    pub source_host: String,
    pub dest_host: Option<String>,
    /// The state to be reached: active, stopped, error.
    pub wanted_state: Option<String>,
    pub outcome: GuestOutcome,
    pub reason: Option<String>,
    /// Evacuate calls sent.
    pub attempts: u32,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntentState {
    /// Written; the deed may have happened.
    Open,
    Done,
    /// Refused by the other side: it did not happen.
    Refused,
    /// Taken back before it could act.
    Retired,
    /// Its end was not seen; the world was looked at instead.
    Unknown,
}

/// A deed that was written down before it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentView {
    pub id: Uuid,
    /// Word of the effect: `power_off`, `force_down`, `evacuate`, ...
    pub effect: String,
    pub subject: Subject,
    pub state: IntentState,
    pub epoch: i64,
    pub attempt: u32,
    pub written_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
    pub answer: Option<String>,
}

/// Why things happened, or did not: evidence, gates, times and calls, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explain {
    pub recovery: RecoverySummary,
    pub timeline: Vec<TimelineEntry>,
    pub gates: Vec<GateAnswer>,
    pub guests: Vec<GuestMove>,
    /// Every call to the outside, as it was written down before it was made.
    pub calls: Vec<IntentView>,
    pub replay: Replay,
}

/// Whether the story above can be relied on, and how the verdict follows from what is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replay {
    /// The audit chain of this recovery verifies from its first record to its last; that none is missing after it,
    /// `GET /audit/verify` says.
    pub chain_intact: bool,
    pub records: u64,
    /// Hash of the newest record.
    pub head: Option<String>,
    /// The verdict, the classes of evidence it rests on, and what contradicted it.
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    pub at: DateTime<Utc>,
    /// Past participle, as in the audit: `host_fenced`, `verdict_reached`.
    pub what: String,
    /// One sentence for people.
    pub detail: String,
    /// What it rests on.
    pub evidence: Vec<EvidenceView>,
}

/// One dated observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// `E0` conclusive death, `E1` strong, `E2` circumstantial, `E3` life; absent for a claim that nobody weighed.
    pub class: Option<String>,
    /// Who saw it, or by which way: a network, the BMC, Nova, a reporter.
    pub source: String,
    pub what: String,
    /// For an exhibit of a decision, the decision's time less the exhibit's age.
    pub seen_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// What one brake said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateAnswer {
    /// The gate's word: `quorum`, `domain`, `fleet`, `rate`, `capacity`, `dependency`, `budget`, `quiet_start`, ...
    pub gate: String,
    pub title: String,
    pub answer: GateWord,
    /// With the figures: what was counted and where the limit stands.
    pub reason: String,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateWord {
    Permitted,
    Withheld,
    /// An operator let it pass.
    Released,
}

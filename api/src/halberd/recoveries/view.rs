//! A recovery as stored, turned into what is shown. Nothing is judged here: words are mapped, times and names are joined.

use std::collections::BTreeMap;

use halberd_core::fence::{FenceProof, Means};
use halberd_core::id::{EngineId, InstanceId};
use halberd_core::recovery::host::HostState;
use halberd_core::recovery::{Body, Recovery, StateWord, Subject as CoreSubject, Vmove, VmoveStatus};
use halberd_core::segment::RecoveryMethod as CoreMethod;
use halberd_store::intents::IntentRow;
use halberd_types::halberd::recovery::{
    GuestCounts, GuestMove, GuestOutcome, IntentState, IntentView, ProofMeans, RecoveryKind, RecoveryState,
    RecoverySummary, Waiting,
};
use halberd_types::halberd::wish::WishKind;
use halberd_types::halberd::{Subject, SubjectKind};
use halberd_types::v1::segment::RecoveryMethod;
use serde_json::Value;

use crate::halberd::input::time;

/// Names of engines by their run.
pub(crate) type Engines = BTreeMap<EngineId, String>;

pub(crate) fn summary(recovery: &Recovery, guests: GuestCounts, engines: &Engines) -> RecoverySummary {
    RecoverySummary {
        id: recovery.id.0,
        kind: kind(recovery),
        subject: subject(recovery),
        segment_id: Some(recovery.segment.0),
        state: state(recovery.word()),
        message: Some(recovery.reason.clone()).filter(|reason| !reason.is_empty()),
        waiting: waiting(recovery),
        guests,
        epoch: recovery.epoch,
        owner: recovery.owner.map(|id| engines.get(&id).cloned().unwrap_or_else(|| id.to_string())),
        opened_at: time(recovery.opened_at),
        changed_at: None,
        closed_at: recovery.closed_at.map(time),
    }
}

fn kind(recovery: &Recovery) -> RecoveryKind {
    match recovery.subject {
        CoreSubject::Host { .. } => RecoveryKind::Host,
        CoreSubject::Guest { .. } => RecoveryKind::Instance,
        CoreSubject::Process { .. } => RecoveryKind::Process,
        CoreSubject::Return { .. } => RecoveryKind::Return,
    }
}

pub(crate) fn subject(recovery: &Recovery) -> Subject {
    match &recovery.subject {
        CoreSubject::Host { host } | CoreSubject::Return { host } => {
            Subject { kind: SubjectKind::Host, id: host.to_string(), name: recovery.host_name.clone() }
        }
        CoreSubject::Guest { instance, .. } => guest(*instance, &instance.to_string()),
        CoreSubject::Process { host, name } => {
            Subject { kind: SubjectKind::Process, id: format!("{host}:{name}"), name: name.clone() }
        }
    }
}

fn guest(instance: InstanceId, name: &str) -> Subject {
    Subject { kind: SubjectKind::Guest, id: instance.to_string(), name: name.to_owned() }
}

/// The states of core and wire are the same words; the compiler tells when one is added.
pub(crate) fn state(word: StateWord) -> RecoveryState {
    match word {
        StateWord::Confirming => RecoveryState::Confirming,
        StateWord::Held => RecoveryState::Held,
        StateWord::Fencing => RecoveryState::Fencing,
        StateWord::Evacuating => RecoveryState::Evacuating,
        StateWord::Verifying => RecoveryState::Verifying,
        StateWord::NeedsOperator => RecoveryState::NeedsOperator,
        StateWord::Stopping => RecoveryState::Stopping,
        StateWord::Starting => RecoveryState::Starting,
        StateWord::Disabling => RecoveryState::Disabling,
        StateWord::Returning => RecoveryState::Returning,
        StateWord::Draining => RecoveryState::Draining,
        StateWord::Out => RecoveryState::Out,
        StateWord::Admitted => RecoveryState::Admitted,
        StateWord::Finished => RecoveryState::Finished,
        StateWord::Failed => RecoveryState::Failed,
        StateWord::Cancelled => RecoveryState::Cancelled,
    }
}

/// All of a level's devices must confirm within this (DESIGN 7).
const FENCE_LEVEL_MS: u64 = 15_000;

/// What an open recovery waits for, and how long its state usually takes by the policy it runs with.
fn waiting(recovery: &Recovery) -> Option<Waiting> {
    let policy = &recovery.policy;
    let normal_ms = match recovery.word() {
        StateWord::Confirming => Some(policy.suspect_after_ms + policy.confirm_ms),
        StateWord::Fencing => Some(FENCE_LEVEL_MS),
        StateWord::Evacuating => Some(policy.evacuation_deadline_ms),
        StateWord::Stopping => Some(policy.stop_timeout_ms),
        StateWord::Starting => Some(policy.start_timeout_ms),
        StateWord::Verifying | StateWord::Disabling | StateWord::Draining => Some(policy.request_lifetime_ms),
        StateWord::Held
        | StateWord::NeedsOperator
        | StateWord::Returning
        | StateWord::Out
        | StateWord::Admitted => None,
        StateWord::Finished | StateWord::Failed | StateWord::Cancelled => return None,
    };
    Some(Waiting { reason: recovery.reason.clone(), since: None, normal_ms })
}

pub(crate) fn counts(moves: &[Vmove]) -> GuestCounts {
    let mut counts = GuestCounts { total: moves.len() as u64, ..GuestCounts::default() };
    for vmove in moves {
        match vmove.status {
            VmoveStatus::Pending => counts.pending += 1,
            VmoveStatus::Ongoing => counts.ongoing += 1,
            VmoveStatus::Succeeded => counts.succeeded += 1,
            VmoveStatus::Failed => counts.failed += 1,
            VmoveStatus::Ignored => counts.ignored += 1,
        }
    }
    counts
}

pub(crate) fn guest_move(vmove: &Vmove) -> GuestMove {
    GuestMove {
        instance_uuid: vmove.instance.0,
        name: vmove.instance_name.clone(),
        source_host: vmove.source_host.clone(),
        dest_host: vmove.dest_host.clone(),
        wanted_state: Some(vmove.wanted.as_str().to_owned()),
        outcome: match vmove.status {
            VmoveStatus::Pending => GuestOutcome::Pending,
            VmoveStatus::Ongoing => GuestOutcome::Ongoing,
            VmoveStatus::Succeeded => GuestOutcome::Succeeded,
            VmoveStatus::Failed => GuestOutcome::Failed,
            VmoveStatus::Ignored => GuestOutcome::Ignored,
        },
        reason: vmove.message.clone(),
        attempts: vmove.attempt,
        started_at: vmove.start_time.map(time),
        ended_at: vmove.end_time.map(time),
    }
}

pub(crate) fn intent(row: &IntentRow, recovery: &Recovery, moves: &[Vmove]) -> IntentView {
    let moved = row.intent.vmove.and_then(|id| moves.iter().find(|vmove| vmove.id == id));
    IntentView {
        id: row.intent.id,
        effect: row.intent.effect.clone(),
        subject: moved.map_or_else(|| subject(recovery), |vmove| guest(vmove.instance, &vmove.instance_name)),
        state: intent_state(row.result.as_deref()),
        epoch: row.intent.epoch,
        attempt: u32::try_from(row.intent.attempt).unwrap_or(0),
        written_at: time(row.created_at),
        resolved_at: row.resolved_at.map(time),
        answer: row.result.as_ref().map(|result| answer(result, row.result_detail.as_ref())),
    }
}

/// The result's word, with the other side's sentence where one was stored.
fn answer(result: &str, detail: Option<&Value>) -> String {
    let places = ["/answer/text", "/answer/note", "/why"];
    let said = detail.and_then(|detail| places.iter().find_map(|place| detail.pointer(place)?.as_str()));
    match said.filter(|said| !said.is_empty()) {
        Some(said) => format!("{result}: {said}"),
        None => result.to_owned(),
    }
}

/// What the stored result means for the deed.
fn intent_state(result: Option<&str>) -> IntentState {
    match result {
        None => IntentState::Open,
        Some("done" | "adopted") => IntentState::Done,
        Some("refused" | "gone" | "not_executed") => IntentState::Refused,
        Some("retired") => IntentState::Retired,
        Some(_) => IntentState::Unknown,
    }
}

pub(crate) fn method(method: CoreMethod) -> RecoveryMethod {
    match method {
        CoreMethod::Auto => RecoveryMethod::Auto,
        CoreMethod::ReservedHost => RecoveryMethod::ReservedHost,
        CoreMethod::AutoPriority => RecoveryMethod::AutoPriority,
        CoreMethod::RhPriority => RecoveryMethod::RhPriority,
    }
}

/// The proof in hand, while the recovery holds one.
pub(crate) fn proof(recovery: &Recovery) -> Option<&FenceProof> {
    match &recovery.body {
        Body::Host(body) => body.state.proof(),
        _ => None,
    }
}

pub(crate) fn proof_words(proof: &FenceProof) -> (ProofMeans, String) {
    match proof.means() {
        Means::Power { level, devices } => (
            ProofMeans::PowerOff,
            format!("read off twice after the order, at level {level}, by {}", devices.join(", ")),
        ),
        Means::Operator { actor, reason, serial } => (
            ProofMeans::Operator,
            format!("{actor} states that the machine with serial {serial} is off: {reason}"),
        ),
        Means::Lease { terms, waited_ms } => (
            ProofMeans::WatchdogLease,
            format!(
                "its watchdog's lease ran out: nothing renewed it for {:.1} s, needed are {:.1} s ({terms})",
                *waited_ms as f64 / 1_000.0,
                terms.safe_after_ms as f64 / 1_000.0
            ),
        ),
        Means::Waived { reason } => (ProofMeans::Waived, reason.clone()),
    }
}

/// What may be asked of it now. A wish beyond these is recorded all the same, and refused by the engine with its reason.
pub(crate) fn operator_may(recovery: &Recovery) -> Vec<WishKind> {
    let ordered = match &recovery.body {
        Body::Host(body) => !matches!(
            body.state,
            HostState::Confirming | HostState::Held { .. } | HostState::NeedsOperator { order: None, .. }
        ),
        _ => false,
    };
    if recovery.is_open() && recovery.hooks.held().is_some() {
        let mut may = vec![WishKind::Retry, WishKind::Release];
        if !ordered && matches!(recovery.body, Body::Host(_)) {
            may.push(WishKind::Cancel);
        }
        return may;
    }
    match recovery.word() {
        StateWord::Held => vec![WishKind::Release, WishKind::Cancel, WishKind::ConfirmFenced],
        StateWord::NeedsOperator if ordered => vec![WishKind::Retry, WishKind::ConfirmFenced],
        StateWord::NeedsOperator => vec![WishKind::Retry, WishKind::Cancel, WishKind::ConfirmFenced],
        StateWord::Confirming if matches!(recovery.body, Body::Host(_)) => {
            vec![WishKind::Cancel, WishKind::ConfirmFenced]
        }
        StateWord::Returning => vec![WishKind::Cancel],
        StateWord::Fencing => vec![WishKind::ConfirmFenced],
        StateWord::Out | StateWord::Admitted => vec![WishKind::Readmit],
        StateWord::Failed => vec![WishKind::Retry],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::halberd::testing;

    #[test]
    fn each_state_keeps_its_word() {
        for word in StateWord::ALL {
            let shown = serde_json::to_value(state(*word)).expect("a word");
            assert_eq!(shown, word.as_str());
            assert_eq!(state(*word).is_open(), !word.is_closed(), "{word}");
        }
    }

    #[test]
    fn a_written_order_cannot_be_cancelled() {
        let mut recovery = testing::recovery(testing::stored_host("cmp-1"));
        assert!(operator_may(&recovery).contains(&WishKind::Cancel));
        testing::set_fencing(&mut recovery);
        assert!(!operator_may(&recovery).contains(&WishKind::Cancel));
    }

    #[test]
    fn an_answer_has_the_other_side_s_words() {
        let detail =
            serde_json::json!({ "answer": { "result": "refused", "status": 409, "text": "it is locked" } });
        assert_eq!(answer("refused", Some(&detail)), "refused: it is locked");
        assert_eq!(answer("done", Some(&serde_json::json!({ "attempts": [] }))), "done");
    }

    #[test]
    fn a_result_says_whether_the_deed_was_done() {
        for (result, expected) in [
            (None, IntentState::Open),
            (Some("done"), IntentState::Done),
            (Some("adopted"), IntentState::Done),
            (Some("not_executed"), IntentState::Refused),
            (Some("retired"), IntentState::Retired),
            (Some("not_proved"), IntentState::Unknown),
        ] {
            assert_eq!(intent_state(result), expected, "{result:?}");
        }
    }
}

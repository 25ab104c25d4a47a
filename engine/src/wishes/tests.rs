//! What is kept for a recovery, and which transition answers it.

use halberd_core::audit::Entry;
use halberd_core::evidence::Power;
use halberd_core::facts::{Confirmation, Facts};
use halberd_core::fence::{self, DeviceAttempt, FenceProof, FenceReport, OrderAnswer, Reading};
use halberd_core::hook::{HookWish, Hooks};
use halberd_core::id::{HostId, NotificationId, SegmentId};
use halberd_core::policy::Policy;
use halberd_core::recovery::host::{HostRecovery, HostState, Order, Purpose};
use halberd_core::recovery::{Body, Subject};
use halberd_core::runner::Commit;
use halberd_core::segment::RecoveryMethod;
use halberd_core::time::Stamp;
use uuid::Uuid;

use super::*;

fn wish(n: u128) -> WishId {
    WishId(Uuid::from_u128(n))
}

pub(crate) fn recovery(n: u128, state: HostState) -> Recovery {
    let host = HostId(Uuid::from_u128(9));
    Recovery {
        id: RecoveryId(Uuid::from_u128(n)),
        notification: NotificationId(Uuid::nil()),
        segment: SegmentId(Uuid::nil()),
        subject: Subject::Host { host },
        host_name: "cmp-01".into(),
        method: RecoveryMethod::Auto,
        policy: Policy::default(),
        body: Body::Host(HostRecovery { state, ..HostRecovery::new() }),
        hooks: Hooks::default(),
        reason: String::new(),
        workflow_version: WORKFLOW_VERSION,
        owner: None,
        epoch: 1,
        version: 1,
        opened_at: Stamp(0),
        closed_at: None,
    }
}

fn commit(recovery: Recovery, audit: &[&str]) -> Commit {
    Commit {
        nonce: Uuid::nil(),
        recovery,
        opens: Vec::new(),
        vmoves: Vec::new(),
        intents: Vec::new(),
        resolved: Vec::new(),
        hosts: Vec::new(),
        notification: None,
        audit: audit.iter().map(|what| Entry::new(what, "", json!({}))).collect(),
        events: Vec::new(),
    }
}

fn fencing() -> HostState {
    HostState::Fencing { order: Order { attempt: 1, boot_number: 0, intent: None } }
}

fn held(gate: Gate) -> HostState {
    HostState::Held { gate: gate.to_string() }
}

fn by(actor: &str) -> Asked {
    Asked { actor: actor.into(), reason: "work".into() }
}

fn keep(kept: &Kept, n: u128, id: u128, word: Word) {
    let held = Held { word, text: "granted".into(), since: Mono(0), said: false };
    kept.keep(RecoveryId(Uuid::from_u128(n)), wish(id), held);
}

fn told(kept: &Kept, n: u128) -> Facts {
    let mut facts = Facts::default();
    kept.tell(RecoveryId(Uuid::from_u128(n)), true, &mut facts);
    facts
}

#[test]
fn a_wish_is_told_until_the_transition_that_does_it_has_answered_it() {
    let statement = Confirmation { at: Mono(5), serial: "S".into(), actor: "ann".into(), reason: "r".into() };
    let hook = HookWish { retry: false, who: "ann: r".into() };
    let ordered = |state| {
        let purpose = Purpose::Ordered { by: by("ann"), failed: None };
        Recovery {
            body: Body::Host(HostRecovery { state, ..HostRecovery::for_purpose(purpose) }),
            ..recovery(1, HostState::Confirming)
        }
    };
    let confirming = || recovery(1, HostState::Confirming);
    let table = [
        (
            Word::Release(Gate::G4),
            commit(recovery(1, held(Gate::G4)), &[]),
            commit(recovery(1, fencing()), &[]),
        ),
        (
            Word::Release(Gate::G4),
            commit(recovery(1, held(Gate::G4)), &[]),
            commit(recovery(1, held(Gate::G7)), &[]),
        ),
        (
            Word::Confirm(statement),
            commit(recovery(1, fencing()), &[]),
            commit(recovery(1, fencing()), &["off_confirmed"]),
        ),
        (
            Word::Cancel("ann".into()),
            commit(confirming(), &[]),
            commit(recovery(1, HostState::Cancelled), &[]),
        ),
        (Word::Order(by("ann")), commit(confirming(), &[]), commit(ordered(HostState::Confirming), &[])),
        (Word::Hook(hook), commit(confirming(), &[]), commit(confirming(), &["hook_released"])),
    ];
    for (word, not_yet, does) in table {
        let kept = Kept::default();
        keep(&kept, 1, 7, word.clone());
        assert_eq!(kept.answers(&not_yet), [], "{word:?}");
        let answers = kept.answers(&does);
        assert_eq!(
            answers.iter().map(|answer| (answer.wish, answer.succeeded)).collect::<Vec<_>>(),
            [(wish(7), true)]
        );
        assert!(kept.held(wish(7)).is_some(), "as long as it is not stored");
        kept.answered(does.recovery.id, &answers);
        assert!(kept.held(wish(7)).is_none());
    }
}

#[test]
fn what_an_end_or_an_off_order_makes_impossible_is_refused_by_it() {
    let kept = Kept::default();
    keep(&kept, 1, 1, Word::Cancel("ann".into()));
    let answers = kept.answers(&commit(recovery(1, fencing()), &[]));
    assert!(!answers[0].succeeded && answers[0].result["text"].as_str().unwrap().contains("off order"));
    let kept = Kept::default();
    keep(&kept, 1, 2, Word::Order(by("ann")));
    let answers = kept.answers(&commit(recovery(1, HostState::Finished), &[]));
    assert!(!answers[0].succeeded && answers[0].result["text"].as_str().unwrap().contains("ended"));
}

#[test]
fn a_brake_stays_released_after_its_answer_and_for_the_next_owner() {
    let kept = Kept::default();
    keep(&kept, 1, 1, Word::Release(Gate::G4));
    assert_eq!(told(&kept, 1).fleet.released, [Gate::G4]);
    let next = commit(recovery(1, held(Gate::G7)), &[]);
    let answers = kept.answers(&next);
    kept.answered(next.recovery.id, &answers);
    assert_eq!(told(&kept, 1).fleet.released, [Gate::G4]);
    let row = |result: serde_json::Value| WishRow {
        num: 1,
        wish: NewWish {
            id: wish(1),
            kind: "release".into(),
            subject: String::new(),
            actor: String::new(),
            reason: String::new(),
            body: json!({}),
        },
        created_at: Stamp(0),
        taken_by: None,
        done_at: Some(Stamp(1)),
        succeeded: Some(true),
        result: Some(result),
    };
    let stored = [row(answers[0].result.clone()), row(json!({"text": "a hook's"}))];
    assert_eq!(released_for(&stored, next.recovery.id), [Gate::G4]);
    assert_eq!(released_for(&stored, RecoveryId(Uuid::from_u128(2))), []);
}

#[test]
fn the_end_of_one_recovery_takes_nothing_from_another() {
    let kept = Kept::default();
    keep(&kept, 1, 1, Word::Release(Gate::G4));
    keep(&kept, 2, 2, Word::PowerOn(by("ann")));
    keep(&kept, 2, 3, Word::Readmit("ann".into()));
    kept.retry(RecoveryId(Uuid::from_u128(2)));
    kept.forget(RecoveryId(Uuid::from_u128(1)));
    assert_eq!(told(&kept, 1).fleet.released, []);
    let mut facts = Facts { not_before: Some(Mono(9)), ..Facts::default() };
    kept.tell(RecoveryId(Uuid::from_u128(2)), false, &mut facts);
    assert_eq!(
        (facts.power_on, facts.readmitted.as_deref(), facts.not_before),
        (Some(by("ann")), Some("ann"), None)
    );
    facts = Facts { not_before: Some(Mono(9)), ..Facts::default() };
    kept.tell(RecoveryId(Uuid::from_u128(2)), false, &mut facts);
    assert_eq!(facts.not_before, Some(Mono(9)), "trying again counts once");
    kept.retain(|id| id == wish(2));
    assert!(kept.held(wish(3)).is_none() && kept.held(wish(2)).is_some(), "another engine has answered it");
}

#[test]
fn a_statement_of_before_this_engine_listened_has_no_time() {
    let row = |n: u128| WishRow {
        num: 1,
        wish: NewWish {
            id: wish(n),
            kind: "confirm_fenced".into(),
            subject: String::new(),
            actor: String::new(),
            reason: String::new(),
            body: json!({}),
        },
        created_at: Stamp(0),
        taken_by: None,
        done_at: None,
        succeeded: None,
        result: None,
    };
    let seen = Seen::default();
    seen.look(&[row(1)], Mono(100));
    seen.look(&[row(1), row(2)], Mono(350));
    seen.look(&[row(1), row(2)], Mono(600));
    assert_eq!(
        (seen.since(wish(1)), seen.since(wish(2)), seen.since(wish(3))),
        (None, Some(Mono(350)), None)
    );
}

#[test]
fn a_statement_that_became_void_is_answered_with_why() {
    let statement = Confirmation { at: Mono(5), serial: "S".into(), actor: "ann".into(), reason: "r".into() };
    let kept = Kept::default();
    keep(&kept, 1, 1, Word::Confirm(statement));
    let mut void = commit(recovery(1, HostState::Confirming), &["statement_void"]);
    void.audit[0].text = "its agent spoke".into();
    let answers = kept.answers(&void);
    assert!(!answers[0].succeeded && answers[0].result["text"] == "its agent spoke");
    kept.answered(void.recovery.id, &answers);
    assert_eq!(told(&kept, 1).confirmation, None, "it is not told again");
}

#[test]
fn a_statement_is_taken_where_something_rests_on_it() {
    let (host, number) = (HostId(Uuid::from_u128(9)), 1);
    let stated = fence::state_off(host, number, 1, Some("S"), "S", "ann", "unplugged").expect("a proof");
    let report = FenceReport {
        attempts: vec![DeviceAttempt {
            level: 0,
            device: "bmc".into(),
            token: None,
            identity_matches: Some(true),
            stated: false,
            held: false,
            order: OrderAnswer::Accepted,
            readings: [0, 1_000]
                .map(|at_ms| Reading { power: Power::Off, at_ms, after_order: true })
                .to_vec(),
            error: None,
            took_ms: 1_000,
        }],
        levels: vec![1],
    };
    let read = fence::prove(host, number, 1, &report).expect("a proof");
    let order = || Order { attempt: 1, boot_number: number, intent: None };
    let asks = |proof| HostState::NeedsOperator { order: Some(order()), proof };
    let proved = |proof: &FenceProof| HostState::Evacuating { order: order(), proof: proof.clone() };
    for (state, of_use) in [
        (HostState::Confirming, true),
        (fencing(), true),
        (asks(None), true),
        // Its power cannot be read any more, and a guest waits for that: a person was asked for just this.
        (asks(Some(read.clone())), true),
        (asks(Some(stated.clone())), false),
        (proved(&read), false),
        (proved(&stated), false),
    ] {
        assert_eq!(recovery::statement_is_of_use(&state), of_use, "{state:?}");
    }
}

//! What must not hold: one guard less, and the harm that follows. A test that fails here says that its guard no longer matters, or that
//! the model has lost the way to the harm.

use halberd_model::variants::{self, NEGATIVE, Negative, POSITIVE, Positive};
use halberd_model::{check, watchdog};

fn refuted(variant: &Negative) {
    assert!(
        NEGATIVE.iter().any(|known| known.name == variant.name),
        "missing in the table: {}",
        variant.name
    );
    let outcome = check::hunt(variant.name, variant.config(), variant.property);
    println!("{outcome}");
    assert!(outcome.violated.contains_key(variant.property), "not refuted: {outcome}");
    // The guard is what makes the difference, not the faults. Where the guarded world is a variant of its own, that is shown there.
    let guarded_is = |known: &Positive| format!("{:?}", known.config) == format!("{:?}", variant.base);
    if POSITIVE.iter().any(guarded_is) {
        return;
    }
    let guarded = check::hunt(variant.name, variant.base, variant.property);
    assert!(guarded.violated.is_empty(), "refuted with the guard, too: {guarded}");
}

macro_rules! refute {
    ($($test:ident = $variant:ident),+ $(,)?) => {
        $(#[test] fn $test() { refuted(&variants::$variant) })+
        #[test]
        fn every_variant_has_its_test() {
            assert_eq!([$(variants::$variant.name),+].len(), NEGATIVE.len());
        }
    };
}

refute! {
    no_fence = NO_FENCE,
    trust_the_answer = TRUST_THE_ANSWER,
    one_reading = ONE_READING,
    force_down_first = MARK_FIRST,
    no_reread = NO_REREAD,
    no_start_gate = NO_START_GATE,
    no_lease = NO_LEASE,
    no_epoch_check = NO_EPOCH_CHECK,
    no_session = NO_SESSION,
    no_drain = NO_DRAIN,
    intent_after_the_call = INTENT_AFTER,
    deed_without_intent = DEED_WITHOUT_INTENT,
    no_look_up = NO_LOOK_UP,
    unbounded_calls = UNBOUNDED_CALLS,
    repeated_by_time_out = NO_MAY_RUN_ON,
    no_stray_check = NO_STRAY_CHECK,
    no_look_at_live_records = NO_LIVE_RECORDS,
    a_rewound_database_is_believed = NO_REWIND_RULE,
    stands_still_before_a_call = STANDS_STILL_BEFORE_A_CALL,
    no_gate_as_today = NO_GATE_TODAY,
    retired_before_drained = RETIRED_UNDRAINED,
    revoked_once = REVOKE_ONCE,
    lapsed_and_renewed = LAPSED_AND_RENEWED,
    proof_forgotten = PROOF_FORGOTTEN,
    return_not_judged = RETURN_NOT_JUDGED,
    return_goes_on = RETURN_GOES_ON,
    return_goes_on_and_is_shot = RETURN_GOES_ON_AND_IS_SHOT,
    old_rebuild = OLD_REBUILD,
    sent_before_mark = SENT_BEFORE_MARK,
}

fn time_refuted(name: &'static str, guards: watchdog::Guards) {
    let outcome = check::time(name, guards);
    println!("{outcome}");
    assert!(outcome.violated.contains_key(watchdog::DEAD_IS_DEAD), "not refuted: {outcome}");
}

#[test]
fn watchdog_fed_from_the_answer() {
    time_refuted("fed from the answer", watchdog::Guards { from_send: false, ..watchdog::Guards::ALL });
}

#[test]
fn takeover_with_a_stale_wait() {
    time_refuted("a stale T_safe", watchdog::Guards { takeover_waits: false, ..watchdog::Guards::ALL });
}

#[test]
fn other_engines_renewals_ignored() {
    time_refuted("others renew unseen", watchdog::Guards { others_count: false, ..watchdog::Guards::ALL });
}

#[test]
fn fed_after_a_pause_without_a_look() {
    time_refuted(
        "fed after a pause",
        watchdog::Guards { checks_before_feeding: false, ..watchdog::Guards::ALL },
    );
}

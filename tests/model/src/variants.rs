//! The variants: those that must hold, and those that must not, each with one guard less.

use crate::config::{Budgets, Config, Guards, PowerOn};
use crate::model::*;

/// What holds in every reachable state; `must_see` keeps it from holding for want of anything happening.
#[derive(Clone, Copy, Debug)]
pub struct Positive {
    pub name: &'static str,
    pub config: Config,
    pub must_see: &'static [Sight],
    /// What is not promised in this world.
    pub waived: &'static [&'static str],
}

/// What is refuted. `unbuilt`: the guard is one that the product lacks today, so this is a hole in it.
#[derive(Clone, Copy, Debug)]
pub struct Negative {
    pub name: &'static str,
    pub without: fn(&mut Config),
    pub base: Config,
    pub property: &'static str,
    pub unbuilt: bool,
}

impl Negative {
    pub fn config(&self) -> Config {
        let mut config = self.base;
        (self.without)(&mut config);
        config
    }
}

const ONE_HOST: Config = Config {
    engines: 2,
    guests: &[0],
    mortal: 0b01,
    guards: Guards::ALL,
    budgets: Budgets { cuts: 1, ..Budgets::NONE },
    power_on: PowerOn::AtAnyMoment,
    autostart: true,
    pause_before_off: false,
    pause_before_call: false,
};

const TWO_HOSTS: Config = Config { mortal: 0b11, ..ONE_HOST };

const fn with(config: Config, budgets: Budgets) -> Config {
    Config { budgets, ..config }
}

const COMMON: Budgets =
    Budgets { cuts: 1, heals: 1, power_ons: 1, crashes: 1, lapses: 1, timeouts: 1, ..Budgets::NONE };

/// IPMI: no session to revoke, so no engine may stand still between check and first byte.
const NO_SESSIONS: Config = Config { guards: Guards { sessions: false, ..Guards::ALL }, ..ONE_HOST };

/// Nothing on the host holds guests back, and it starts them at boot.
const NO_GATE: Config = Config {
    guards: Guards { gate: false, ..Guards::ALL },
    power_on: PowerOn::OnlyBeforeMarkDown,
    ..with(ONE_HOST, Budgets { timeouts: 1, lapses: 1, crashes: 1, power_ons: 2, cuts: 1, ..Budgets::NONE })
};

const PAUSED: Config = Config { pause_before_off: true, ..ONE_HOST };

const RETURNING: Budgets = Budgets { cuts: 1, power_losses: 1, power_ons: 1, ..Budgets::NONE };

pub const POSITIVE: &[Positive] = &[
    Positive {
        name: "one host, sessions, an engine may stand still before the order",
        config: with(PAUSED, Budgets { duplicates: 1, ..COMMON }),
        must_see: &[
            Sight::TakenOverAndEvacuated,
            Sight::OrderRetired,
            Sight::ReturnedAndIn,
            Sight::LookedUpAndAdopted,
            Sight::PausedOffSent,
            Sight::ProofVoided,
        ],
        waived: &[],
    },
    Positive {
        name: "a controller that lies for a moment, a rebuild that fails",
        config: with(ONE_HOST, Budgets { cached: 1, failures: 1, duplicates: 1, lapses: 0, ..COMMON }),
        must_see: &[Sight::ProofVoided, Sight::OrderRetired],
        waived: &[],
    },
    Positive {
        name: "one host, IPMI, no standing still before the order",
        config: with(NO_SESSIONS, Budgets { duplicates: 1, failures: 1, ..COMMON }),
        must_see: &[Sight::OrderRetired, Sight::ReturnedAndIn],
        waived: &[],
    },
    Positive {
        name: "two guests",
        config: Config { guests: &[0, 0], ..with(PAUSED, Budgets { heals: 0, ..COMMON }) },
        must_see: &[Sight::TakenOverAndEvacuated, Sight::LookedUpAndAdopted],
        waived: &[],
    },
    Positive {
        name: "three engines, two takeovers",
        config: Config { engines: 3, ..with(PAUSED, Budgets { lapses: 2, ..COMMON }) },
        must_see: &[Sight::TakenOverAndEvacuated, Sight::PausedOffSent],
        waived: &[],
    },
    Positive {
        name: "cross-incident: the destination is cut off too",
        config: with(TWO_HOSTS, Budgets { cuts: 2, timeouts: 1, lapses: 1, ..Budgets::NONE }),
        must_see: &[
            Sight::SecondHostFenced,
            Sight::EvacuatedFromSecondHost,
            Sight::LookedUpAndAdopted,
            Sight::TakenOverAndEvacuated,
        ],
        waived: &[],
    },
    Positive {
        name: "the destination dies and returns",
        config: with(TWO_HOSTS, RETURNING),
        must_see: &[
            Sight::OldRebuildTaken,
            Sight::ReturnedAndIn,
            Sight::SecondHostFenced,
            Sight::ProofVoided,
        ],
        waived: &[],
    },
    Positive {
        name: "no gate, but a host that starts nothing by itself (as today), one host",
        config: Config {
            guards: Guards { gate: false, ..Guards::ALL },
            autostart: false,
            ..with(ONE_HOST, Budgets { power_ons: 2, ..COMMON })
        },
        must_see: &[Sight::ReturnedAndIn],
        // Nobody holds nova-compute back: a host switched on in the middle loses its own copy of what is being moved (F46).
        waived: &[LAST_COPY],
    },
    Positive {
        name: "no gate and autostart, switched on before the mark-down only",
        config: NO_GATE,
        must_see: &[Sight::ProofVoided],
        waived: &[],
    },
    Positive {
        name: "it dies again on its way back; a controller that does not revoke at first",
        config: with(
            PAUSED,
            Budgets { power_losses: 1, power_ons: 2, lapses: 1, deaf_revokes: 1, ..Budgets::NONE },
        ),
        must_see: &[Sight::ReturnedAndIn, Sight::OrderRetired, Sight::PausedOffSent],
        waived: &[],
    },
    Positive {
        name: "the database loses a commit, reconcile-only by the rule",
        config: with(ONE_HOST, Budgets { rewinds: 1, ..COMMON }),
        must_see: &[Sight::LookedUpAndAdopted, Sight::ReturnedAndIn],
        waived: &[],
    },
];

/// Names its guard, takes it away, says what must break.
macro_rules! without {
    ($name:literal, $base:expr, $property:expr, $($guard:ident),+) => {
        Negative { name: $name, base: $base, property: $property, unbuilt: false,
            without: |config| { $(config.guards.$guard = false;)+ } }
    };
}
macro_rules! hole {
    ($name:literal, $base:expr, $property:expr, $($guard:ident),+) => {
        Negative { name: $name, base: $base, property: $property, unbuilt: true,
            without: |config| { $(config.guards.$guard = false;)+ } }
    };
}

pub const NO_FENCE: Negative = without!("no fence", ONE_HOST, ONE_COPY, fence);
pub const TRUST_THE_ANSWER: Negative =
    without!("the controller's answer is trusted", ONE_HOST, MARKED_DEAD, verify_off);
pub const ONE_READING: Negative = without!(
    "one reading of Off is enough",
    with(ONE_HOST, Budgets { cuts: 1, cached: 1, ..Budgets::NONE }),
    MARKED_DEAD,
    two_readings
);
pub const MARK_FIRST: Negative =
    without!("force-down before the proof", ONE_HOST, MARKED_DEAD, mark_after_proof);
pub const NO_REREAD: Negative =
    without!("power is not read again after force-down", NO_GATE, ONE_COPY, reread);
pub const NO_START_GATE: Negative = without!(
    "no start gate on a host that starts guests at boot",
    with(ONE_HOST, Budgets { cuts: 1, power_ons: 1, ..Budgets::NONE }),
    ONE_COPY,
    gate
);
pub const NO_LEASE: Negative = without!(
    "no lease: the former owner of a recovery goes on",
    with(ONE_HOST, Budgets { cuts: 1, lapses: 1, ..Budgets::NONE }),
    ONE_COPY,
    lease
);
pub const NO_EPOCH_CHECK: Negative = without!(
    "no look at the epoch before the order",
    with(NO_SESSIONS, Budgets { cuts: 1, heals: 1, lapses: 1, ..Budgets::NONE }),
    NOT_SHOT,
    epoch_check
);
pub const NO_SESSION: Negative = without!(
    "no session to revoke, and an engine stands still before the order",
    with(PAUSED, Budgets { cuts: 1, heals: 1, lapses: 1, ..Budgets::NONE }),
    NOT_SHOT,
    sessions
);
pub const NO_DRAIN: Negative =
    without!("no drain before readmission", with(ONE_HOST, COMMON), NOT_SHOT, drain);
pub const INTENT_AFTER: Negative = without!(
    "the intent follows the call",
    with(ONE_HOST, Budgets { cuts: 1, crashes: 1, ..Budgets::NONE }),
    ONE_COPY,
    intent_first
);
pub const DEED_WITHOUT_INTENT: Negative =
    without!("the intent follows the call: seen at once", ONE_HOST, INTENT, intent_first);
pub const NO_LOOK_UP: Negative = without!(
    "an unknown call is repeated without a look",
    with(ONE_HOST, Budgets { cuts: 1, timeouts: 1, ..Budgets::NONE }),
    ONE_COPY,
    look_up
);
pub const UNBOUNDED_CALLS: Negative = without!(
    "cross-incident: a call's lifetime has no bound",
    with(TWO_HOSTS, Budgets { cuts: 2, timeouts: 1, ..Budgets::NONE }),
    ONE_COPY,
    lifetime
);
pub const NO_MAY_RUN_ON: Negative = without!(
    "a hanging evacuation is repeated by time-out",
    with(TWO_HOSTS, Budgets { cuts: 2, ..Budgets::NONE }),
    ONE_COPY,
    may_run_on
);
pub const NO_STRAY_CHECK: Negative =
    without!("stray copies are not looked for", with(TWO_HOSTS, RETURNING), ONE_COPY, strays);
pub const NO_LIVE_RECORDS: Negative = without!(
    "a host returns while Nova still places a guest there that is being moved",
    with(ONE_HOST, Budgets { rewinds: 1, timeouts: 0, crashes: 1, ..COMMON }),
    LAST_COPY,
    live_records
);
pub const NO_REWIND_RULE: Negative = without!(
    "a rewound database is believed",
    with(ONE_HOST, Budgets { cuts: 1, timeouts: 1, rewinds: 1, ..Budgets::NONE }),
    ONE_EVACUATION,
    rewind_rule
);
/// Not a guard of ours: what remains, and what a stall-abort is for (SAFETY 2.4).
pub const STANDS_STILL_BEFORE_A_CALL: Negative = Negative {
    name: "an engine stands still between check and call for longer than a lease and a lifetime",
    base: with(TWO_HOSTS, Budgets { cuts: 2, lapses: 1, ..Budgets::NONE }),
    property: ONE_COPY,
    unbuilt: true,
    without: |config| config.pause_before_call = true,
};
pub const NO_GATE_TODAY: Negative = hole!(
    "nobody holds nova-compute back on a destination that died and is switched on",
    Config { autostart: false, ..with(TWO_HOSTS, RETURNING) },
    ONE_COPY,
    gate
);
pub const RETIRED_UNDRAINED: Negative = without!(
    "a retired order's host is in before its commands are dead",
    with(ONE_HOST, Budgets { cuts: 1, heals: 1, ..Budgets::NONE }),
    NOT_SHOT,
    retire_drains
);
pub const REVOKE_ONCE: Negative = without!(
    "a revoking that failed counts as done",
    with(PAUSED, Budgets { cuts: 1, power_ons: 1, lapses: 1, deaf_revokes: 1, ..Budgets::NONE }),
    NOT_SHOT,
    revoke_succeeds
);
pub const LAPSED_AND_RENEWED: Negative = without!(
    "a lease that lapsed and was renewed allows what it had handed out",
    with(ONE_HOST, Budgets { cuts: 1, lapses: 1, ..Budgets::NONE }),
    ONE_COPY,
    lapsed_is_void
);
pub const PROOF_FORGOTTEN: Negative = without!(
    "an order is retired as if it had never been proved",
    with(ONE_HOST, Budgets { cuts: 1, heals: 1, power_ons: 1, ..Budgets::NONE }),
    CAN_FINISH,
    proof_on_file
);
pub const RETURN_NOT_JUDGED: Negative = without!(
    "a host with guests that dies on its way back is not judged",
    with(ONE_HOST, Budgets { power_losses: 1, power_ons: 1, ..Budgets::NONE }),
    CAN_FINISH,
    return_is_judged
);
pub const RETURN_GOES_ON: Negative = without!(
    "a return goes on beside a new recovery of its host",
    with(ONE_HOST, Budgets { cuts: 1, heals: 1, power_losses: 1, power_ons: 2, ..Budgets::NONE }),
    ONE_COPY,
    return_yields,
    return_is_judged
);
pub const RETURN_GOES_ON_AND_IS_SHOT: Negative = without!(
    "the same: the new order's power-off lands on a host that the return let in",
    with(ONE_HOST, Budgets { cuts: 2, heals: 1, power_ons: 1, ..Budgets::NONE }),
    NOT_SHOT,
    return_yields,
    return_is_judged
);
pub const OLD_REBUILD: Negative = without!(
    "a host returns while an old rebuild waits in its queue",
    with(TWO_HOSTS, RETURNING),
    ONE_EVACUATION,
    dest_records
);
pub const SENT_BEFORE_MARK: Negative = without!(
    "a guest is sent again before Nova knows its destination dead",
    with(TWO_HOSTS, RETURNING),
    CAN_FINISH,
    resend_after_mark
);

pub const NEGATIVE: &[Negative] = &[
    NO_FENCE,
    TRUST_THE_ANSWER,
    ONE_READING,
    MARK_FIRST,
    NO_REREAD,
    NO_START_GATE,
    NO_LEASE,
    NO_EPOCH_CHECK,
    NO_SESSION,
    NO_DRAIN,
    INTENT_AFTER,
    DEED_WITHOUT_INTENT,
    NO_LOOK_UP,
    UNBOUNDED_CALLS,
    NO_MAY_RUN_ON,
    NO_STRAY_CHECK,
    NO_LIVE_RECORDS,
    NO_REWIND_RULE,
    STANDS_STILL_BEFORE_A_CALL,
    NO_GATE_TODAY,
    RETIRED_UNDRAINED,
    REVOKE_ONCE,
    LAPSED_AND_RENEWED,
    PROOF_FORGOTTEN,
    RETURN_NOT_JUDGED,
    RETURN_GOES_ON,
    RETURN_GOES_ON_AND_IS_SHOT,
    OLD_REBUILD,
    SENT_BEFORE_MARK,
];

//! What a variant of the model is: which guards stand, how much may go wrong, what the world is like.

/// The guards of the protocol. Each can be taken away; the module of the product that stands behind it is named in the README.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// Nothing is evacuated, and nothing marked down, before a fence.
    pub fence: bool,
    /// A fence is proved by readings, not by the controller's answer.
    pub verify_off: bool,
    /// Two readings of Off, not one.
    pub two_readings: bool,
    /// Force-down only after the proof.
    pub mark_after_proof: bool,
    /// Power is read again after force-down and before each evacuation.
    pub reread: bool,
    /// Guests, and nova-compute, start on no boot that was not let in.
    pub gate: bool,
    /// A lease ends for its holder before anybody may claim.
    pub lease: bool,
    /// What a lapsed lease had handed out is void, also when the lease is renewed later.
    pub lapsed_is_void: bool,
    /// The epoch is read again before a power-off goes out.
    pub epoch_check: bool,
    /// An order travels on a session that can be revoked.
    pub sessions: bool,
    /// A host returns only once its commands are drained.
    pub drain: bool,
    /// Sessions that could not be revoked are revoked again until they are.
    pub revoke_succeeds: bool,
    /// A retired order is drained before its host is *in*.
    pub retire_drains: bool,
    /// A host that was proved off once takes the return's road also when its order is retired: others may have relied on the proof, and
    /// Nova may have been told, whatever the answers were.
    pub proof_on_file: bool,
    /// The evacuate intent is committed before the call.
    pub intent_first: bool,
    /// A call whose fate is unknown is looked up before it is repeated.
    pub look_up: bool,
    /// A call cannot be processed later than its lifetime.
    pub lifetime: bool,
    /// A guest is not sent again while it may run on a third host.
    pub may_run_on: bool,
    /// A guest whose destination died is sent again only once that destination is forced down.
    pub resend_after_mark: bool,
    /// A returning host is not admitted while Nova places a guest there that has a live evacuation record from there.
    pub live_records: bool,
    /// A returning host is not admitted while an old rebuild waits for it and the guest is being rebuilt elsewhere.
    pub dest_records: bool,
    /// No stray copy may be left before a host is *in*.
    pub strays: bool,
    /// A host on its way back that Nova places guests on, or sends guests to, is judged like any other: one whose order was
    /// retired, or one that nobody kept from taking an old rebuild.
    pub return_is_judged: bool,
    /// A new order against a host closes its return.
    pub return_yields: bool,
    /// A database that shows less than was known puts all engines into reconcile-only.
    pub rewind_rule: bool,
}

impl Guards {
    /// The protocol of DESIGN 2, 3 and 10.
    pub const ALL: Guards = Guards {
        fence: true,
        verify_off: true,
        two_readings: true,
        mark_after_proof: true,
        reread: true,
        gate: true,
        lease: true,
        lapsed_is_void: true,
        epoch_check: true,
        sessions: true,
        drain: true,
        revoke_succeeds: true,
        retire_drains: true,
        proof_on_file: true,
        intent_first: true,
        look_up: true,
        lifetime: true,
        may_run_on: true,
        resend_after_mark: true,
        live_records: true,
        dest_records: true,
        strays: true,
        return_is_judged: true,
        return_yields: true,
        rewind_rule: true,
    };
}

/// When somebody outside may switch a fenced host on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerOn {
    AtAnyMoment,
    /// Never once the host is marked down: the window that the last reading is for.
    OnlyBeforeMarkDown,
}

/// How often each thing may go wrong in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// An engine dies and starts again without memory.
    pub crashes: u8,
    /// A living engine's lease lapses: somebody takes over while it keeps its memory and wakes later.
    pub lapses: u8,
    /// A host loses its network, not its power.
    pub cuts: u8,
    pub heals: u8,
    pub power_losses: u8,
    /// Somebody outside switches a host on.
    pub power_ons: u8,
    /// A call's answer is lost while the call travels on.
    pub timeouts: u8,
    /// A controller's reading is a cached Off right after it took an order.
    pub cached: u8,
    /// A rebuild fails on its destination.
    pub failures: u8,
    /// A power-off is delivered twice.
    pub duplicates: u8,
    /// A controller does not revoke.
    pub deaf_revokes: u8,
    /// The database loses its last commit.
    pub rewinds: u8,
}

impl Budgets {
    pub const NONE: Budgets = Budgets {
        crashes: 0,
        lapses: 0,
        cuts: 0,
        heals: 0,
        power_losses: 0,
        power_ons: 0,
        timeouts: 0,
        cached: 0,
        failures: 0,
        duplicates: 0,
        deaf_revokes: 0,
        rewinds: 0,
    };
}

/// One variant of the recovery model.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub engines: u8,
    /// Where each guest runs at first.
    pub guests: &'static [u8],
    /// Hosts that may fail, as a mask: A is 1, B is 2. C never fails.
    pub mortal: u8,
    pub guards: Guards,
    pub budgets: Budgets,
    pub power_on: PowerOn,
    /// A host that boots starts its guests by itself, unless a gate holds them.
    pub autostart: bool,
    /// An engine may stand still between its last check and the first byte of a power-off.
    pub pause_before_off: bool,
    /// The same before a call to Nova.
    pub pause_before_call: bool,
}

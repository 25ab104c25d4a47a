//! Time as a proof (SAFETY 2.3), a model of its own since it needs a clock.
//!
//! One host with a watchdog, two engines, one clock in ticks (clocks that differ in pace are in the product's arithmetic, not here). The host
//! notes the time, sends a beat, and feeds its watchdog for L ticks after that time once the beat was acknowledged. Unfed for W ticks the
//! watchdog resets it. An engine counts it dead when it has renewed nothing, and knows that no other has, for T = L + W + 1 ticks.

use std::sync::atomic::{AtomicBool, Ordering};

use stateright::{Model, Property};

/// L: how long the host feeds after the send time of a beat that was acknowledged.
pub const LEASE: u8 = 2;
/// W: how long the watchdog waits.
pub const TIMEOUT: u8 = 2;
/// T_safe, with one tick for what happens within a tick.
pub const SAFE: u8 = LEASE + TIMEOUT + 1;
/// Where the clock stops: enough for two whole waits one after the other.
pub const END: u8 = 2 * SAFE + 1;
const ENGINES: usize = 2;

/// Never counted dead while its guests run.
pub const DEAD_IS_DEAD: &str = "W: a host that is counted dead does not run";
/// Not vacuous.
pub const PROVED: &str = "a lease ran out and proved a host dead";

/// The guards of the proof by time.
#[derive(Clone, Copy, Debug)]
pub struct Guards {
    /// The host feeds relative to the send time of the acknowledged beat, not to the acknowledgement.
    pub from_send: bool,
    /// Who takes over waits the whole time from then.
    pub takeover_waits: bool,
    /// Renewals of other engines count.
    pub others_count: bool,
    /// The host's feeder checks its lease after each pause, before it feeds.
    pub checks_before_feeding: bool,
}

impl Guards {
    pub const ALL: Guards =
        Guards { from_send: true, takeover_waits: true, others_count: true, checks_before_feeding: true };
}

/// All ages in ticks; `u8::MAX` for never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub now: u8,
    pub running: bool,
    /// The agent stands still: neither sends nor feeds. The watchdog goes on.
    pub suspended: bool,
    /// Start of the lease that it holds.
    pub lease_from: u8,
    pub fed_at: u8,
    /// Beats on their way, by send time, to each engine.
    pub beats: [Option<u8>; ENGINES],
    /// Acknowledgements on their way back, by the send time of their beat.
    pub acks: [Option<u8>; ENGINES],
    /// When each engine last renewed; 0 at the start.
    pub renewed_at: [u8; ENGINES],
    /// Since when each engine knows anything: a crash begins it anew.
    pub knows_from: [u8; ENGINES],
    pub owner: u8,
    pub dead: bool,
    pub suspensions: u8,
    pub takeovers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Tick,
    Beat { engine: u8 },
    Lost { engine: u8 },
    Renew { engine: u8 },
    Acked { engine: u8 },
    Feed,
    Suspend,
    Wake,
    TakeOver,
    CountDead,
}

impl Action {
    pub fn words(&self) -> String {
        match *self {
            Action::Tick => "a tick passes".into(),
            Action::Beat { engine } => format!("the host notes the time and sends a beat to engine {engine}"),
            Action::Lost { engine } => format!("what travels between host and engine {engine} is lost"),
            Action::Renew { engine } => format!("engine {engine} takes the beat and renews the lease"),
            Action::Acked { engine } => format!("the acknowledgement of engine {engine} reaches the host"),
            Action::Feed => "the host feeds its watchdog".into(),
            Action::Suspend => "the host's agent stands still".into(),
            Action::Wake => "the host's agent goes on".into(),
            Action::TakeOver => "the owner dies; engine 1 takes over".into(),
            Action::CountDead => "the owner counts the host dead by time".into(),
        }
    }
}

/// One variant.
#[derive(Debug)]
pub struct Watchdog {
    pub guards: Guards,
    pub suspensions: u8,
    pub takeovers: u8,
    found: AtomicBool,
}

impl Watchdog {
    pub fn new(guards: Guards) -> Watchdog {
        Watchdog { guards, suspensions: 1, takeovers: 1, found: AtomicBool::new(false) }
    }

    pub fn rest(&self) {
        self.found.store(false, Ordering::Relaxed);
    }

    /// Since when, for all the owner knows, nobody has renewed.
    fn unrenewed_since(&self, state: &State) -> u8 {
        let owner = state.owner as usize;
        let mut since = state.renewed_at[owner];
        if self.guards.others_count {
            since = since.max(state.renewed_at[1 - owner]);
        }
        if self.guards.takeover_waits {
            since = since.max(state.knows_from[owner]);
        }
        since
    }
}

impl Model for Watchdog {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            now: 0,
            running: true,
            suspended: false,
            lease_from: 0,
            fed_at: 0,
            beats: [None; ENGINES],
            acks: [None; ENGINES],
            renewed_at: [0; ENGINES],
            knows_from: [0; ENGINES],
            owner: 0,
            dead: false,
            suspensions: self.suspensions,
            takeovers: self.takeovers,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.found.load(Ordering::Relaxed) || state.dead {
            return;
        }
        if state.now < END {
            actions.push(Action::Tick);
        }
        for engine in 0..ENGINES {
            let number = engine as u8;
            if state.running
                && !state.suspended
                && state.beats[engine].is_none()
                && state.acks[engine].is_none()
            {
                actions.push(Action::Beat { engine: number });
            }
            if state.beats[engine].is_some() {
                actions.push(Action::Renew { engine: number });
            }
            if state.acks[engine].is_some() && state.running && !state.suspended {
                actions.push(Action::Acked { engine: number });
            }
            if state.beats[engine].is_some() || state.acks[engine].is_some() {
                actions.push(Action::Lost { engine: number });
            }
        }
        let leased = state.now - state.lease_from < LEASE;
        let may_feed = leased || !self.guards.checks_before_feeding && state.suspensions < self.suspensions;
        if state.running && !state.suspended && may_feed && state.fed_at != state.now {
            actions.push(Action::Feed);
        }
        if state.running && !state.suspended && state.suspensions > 0 {
            actions.push(Action::Suspend);
        }
        if state.suspended {
            actions.push(Action::Wake);
        }
        if state.takeovers > 0 {
            actions.push(Action::TakeOver);
        }
        if state.now - self.unrenewed_since(state).min(state.now) >= SAFE {
            actions.push(Action::CountDead);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Tick => {
                next.now += 1;
                if next.running && next.now - next.fed_at >= TIMEOUT {
                    (next.running, next.suspended) = (false, false);
                }
            }
            Action::Beat { engine } => next.beats[engine as usize] = Some(state.now),
            Action::Lost { engine } => {
                (next.beats[engine as usize], next.acks[engine as usize]) = (None, None);
            }
            Action::Renew { engine } => {
                next.acks[engine as usize] = next.beats[engine as usize].take();
                next.renewed_at[engine as usize] = state.now;
            }
            Action::Acked { engine } => {
                let sent = next.acks[engine as usize].take()?;
                let from = if self.guards.from_send { sent } else { state.now };
                next.lease_from = next.lease_from.max(from);
            }
            Action::Feed => next.fed_at = state.now,
            Action::Suspend => {
                next.suspended = true;
                next.suspensions -= 1;
            }
            Action::Wake => next.suspended = false,
            Action::TakeOver => {
                next.takeovers -= 1;
                // What the dead one renewed nobody knows any more.
                (next.beats[0], next.renewed_at[0]) = (None, 0);
                next.owner = 1;
                next.knows_from[1] = state.now;
            }
            Action::CountDead => next.dead = true,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DEAD_IS_DEAD, |model: &Watchdog, state: &State| {
                let holds = !(state.dead && state.running);
                model.found.load(Ordering::Relaxed) || {
                    model.found.fetch_or(!holds, Ordering::Relaxed);
                    holds
                }
            }),
            Property::sometimes(PROVED, |_, state: &State| state.dead && !state.running),
        ]
    }
}

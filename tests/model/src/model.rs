//! The recovery model for the checker: initial state, steps, and what must hold.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stateright::{Model, Property};

use crate::action::Action;
use crate::config::Config;
use crate::state::*;
use crate::{engine, offer, world};

/// No guest executes on two hosts (I10).
pub const ONE_COPY: &str = "A: no guest runs on two hosts";
/// No second evacuate is accepted while a first one lives: Nova takes it and spoils the guest (I9).
pub const ONE_EVACUATION: &str = "A2: no guest is evacuated twice at once";
/// No power-off takes effect on a host that is readmitted (I11).
pub const NOT_SHOT: &str = "B: no power-off takes effect on a readmitted host";
/// Whatever happened, the run can still be finished (L1, L4 as "always possible").
pub const CAN_FINISH: &str = "C: every recovery can always be finished";
/// Each first byte has its committed intent (I7).
pub const INTENT: &str = "D: each deed has its intent";
/// Force-down never lands on a host that was not off since its order, nor on one that is in (I2).
pub const MARKED_DEAD: &str = "E: nothing is forced down before it was off";
/// nova-compute destroys no copy of a guest that Nova still places there (I13).
pub const LAST_COPY: &str = "F: no last copy is destroyed";

/// Not vacuous: a guest was evacuated and all is well.
pub const ENDS_WELL: &str = "a recovery closes and all is well";
/// Not of the protocol: no array of the model was too short for what happened.
pub const BOUNDS: &str = "the model's bounds hold";

/// States that show that a run was not vacuous. Counted as the checker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Sight {
    TakenOverAndEvacuated,
    OrderRetired,
    ReturnedAndIn,
    SecondHostFenced,
    EvacuatedFromSecondHost,
    LookedUpAndAdopted,
    LateCallRefused,
    PausedOffSent,
    OldRebuildTaken,
    ProofVoided,
}

impl Sight {
    pub const ALL: [(Sight, &'static str); 10] = [
        (Sight::TakenOverAndEvacuated, "evacuated by a second owner"),
        (Sight::OrderRetired, "order retired"),
        (Sight::ReturnedAndIn, "returned and readmitted"),
        (Sight::SecondHostFenced, "both hosts fenced at once"),
        (Sight::EvacuatedFromSecondHost, "guest evacuated a second time, from its destination"),
        (Sight::LookedUpAndAdopted, "lost answer looked up and adopted"),
        (Sight::LateCallRefused, "late evacuate call refused by Nova"),
        (Sight::PausedOffSent, "power-off sent by a deposed engine"),
        (Sight::OldRebuildTaken, "old rebuild taken from a returning host's queue"),
        (Sight::ProofVoided, "proof voided by a reading On"),
    ];
}

/// A set of fingerprints, in parts so that threads do not wait for each other.
#[derive(Debug)]
struct Known(Vec<Mutex<Prints>>);

impl Known {
    fn new() -> Known {
        Known((0..64).map(|_| Mutex::default()).collect())
    }
    fn part(&self, print: u64) -> std::sync::MutexGuard<'_, Prints> {
        self.0[(print >> 7 & 63) as usize].lock().expect("no holder panics")
    }
    fn has(&self, print: u64) -> bool {
        self.part(print).contains(&print)
    }
    fn add(&self, print: u64) {
        self.part(print).insert(print);
    }
}

/// One variant, to be checked.
#[derive(Debug)]
pub struct Recovery {
    pub config: Config,
    /// The only property that is looked at, and only until it is found violated: so the trace is a shortest one.
    hunted: Option<&'static str>,
    found: AtomicBool,
    /// Properties that this variant does not promise.
    waived: &'static [&'static str],
    /// States from which an end was found.
    finishes: Known,
    seen: [AtomicU64; Sight::ALL.len()],
}

/// A fingerprint; odd multipliers spread what differs in few bits (as in splitmix64).
fn print(state: &State) -> u64 {
    state.words().iter().fold(0x9e37_79b9_7f4a_7c15, |print: u64, word| {
        let mixed = (print ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) ^ mixed >> 32
    })
}

/// Fingerprints are spread already.
#[derive(Clone, Copy, Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed");
    }
    fn write_u64(&mut self, print: u64) {
        self.0 = print;
    }
}

type Prints = HashSet<u64, BuildHasherDefault<AsItIs>>;

impl Recovery {
    pub fn new(config: Config) -> Recovery {
        Recovery {
            config,
            hunted: None,
            found: AtomicBool::new(false),
            waived: &[],
            finishes: Known::new(),
            seen: Default::default(),
        }
    }

    /// Does not look at these.
    pub fn waiving(config: Config, waived: &'static [&'static str]) -> Recovery {
        Recovery { waived, ..Recovery::new(config) }
    }

    /// Looks for a shortest way to violate this one property.
    pub fn hunting(config: Config, property: &'static str) -> Recovery {
        Recovery { hunted: Some(property), ..Recovery::new(config) }
    }

    /// After the hunt the steps stand open again, so that the trace can be walked.
    pub fn rest(&self) {
        self.found.store(false, Ordering::Relaxed);
    }

    /// What the checker is told of a property: the truth, unless another one is hunted or this one was found before.
    fn holds(&self, property: &'static str, truth: impl FnOnce() -> bool) -> bool {
        match self.hunted {
            None => self.waived.contains(&property) || truth(),
            Some(hunted) => {
                hunted != property || self.found.load(Ordering::Relaxed) || {
                    let truth = truth();
                    self.found.fetch_or(!truth, Ordering::Relaxed);
                    truth
                }
            }
        }
    }

    /// How often a sight was seen, over all steps that were tried.
    pub fn seen(&self, sight: Sight) -> u64 {
        self.seen[sight as usize].load(Ordering::Relaxed)
    }

    fn note(&self, sight: Sight) {
        self.seen[sight as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn look(&self, before: &State, action: Action, after: &State) {
        let sight = match action {
            Action::Evacuate { host, .. } => {
                (after.rows.owner[recovery_row(host as usize)] != 0).then_some(Sight::TakenOverAndEvacuated)
            }
            Action::Retire { .. } => Some(Sight::OrderRetired),
            Action::In { .. } => Some(Sight::ReturnedAndIn),
            Action::ReadOff { .. } => {
                after.rows.host.iter().all(|row| row.proof).then_some(Sight::SecondHostFenced)
            }
            Action::Finish { guest, record } => {
                let second = record > 0 && after.guests[guest as usize].records[record as usize].src != 0;
                second.then_some(Sight::EvacuatedFromSecondHost)
            }
            Action::Adopt { .. } => Some(Sight::LookedUpAndAdopted),
            Action::CallLands { slot, dest: u8::MAX } => {
                let evacuates = matches!(before.calls[slot as usize].call, Call::Evacuate(_));
                evacuates.then_some(Sight::LateCallRefused)
            }
            Action::Send { engine, row } => {
                let hand = before.hands[engine as usize][row as usize];
                let sent = hand.stale && hand.deed == Deed::Off && after.machines != before.machines;
                sent.then_some(Sight::PausedOffSent)
            }
            Action::Begin { guest, record } => {
                (record + 1 < before.guests[guest as usize].count).then_some(Sight::OldRebuildTaken)
            }
            Action::Reread { host } => {
                let voided = after.rows.recovery[host as usize] == Recovering::Fencing;
                voided.then_some(Sight::ProofVoided)
            }
            _ => None,
        };
        if let Some(sight) = sight {
            self.note(sight);
        }
    }

    fn step(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let known =
            engine::act(&self.config, &mut next, action) || world::act(&self.config, &mut next, action);
        let booted = matches!(action, Action::PowerOn { .. } | Action::Rewind);
        if self.config.budgets.rewinds > 0 && !booted && next.rows != state.rows {
            next.before = (next.left.rewinds > 0).then(|| Box::new(state.rows));
        }
        known.then_some(next)
    }

    fn offers(&self, state: &State, actions: &mut Vec<Action>) {
        world::offer(&self.config, state, actions);
        offer::offer(&self.config, state, actions);
    }

    /// Every recovery closed, every guest running, nothing on its way.
    fn is_finished(&self, state: &State) -> bool {
        state.rows.recovery.iter().all(|recovery| *recovery == Recovering::Idle)
            && (0..self.config.guests.len()).all(|guest| state.copies(guest) >= 1)
            && state.calls.iter().all(|travelling| travelling.call == Call::None)
            && (0..MORTAL).all(|host| {
                let row = state.rows.host[host];
                let serves = row.admission == Admission::In && state.rows.back[host] == Returning::Idle;
                !(serves && state.machines[host].forced)
            })
    }

    /// Whether the run can be finished from here without another fault: one road is looked for, by a fixed order of steps, and all of it is
    /// remembered. Finding none is a finding to look at; finding one is a proof.
    fn can_finish(&self, state: &State) -> bool {
        if self.finishes.has(print(state)) {
            return true;
        }
        let mut road = Vec::new();
        let mut walked = Prints::default();
        let mut now = state.clone();
        let mut actions = Vec::new();
        let found = loop {
            let mark = print(&now);
            if self.finishes.has(mark) || self.is_finished(&now) {
                road.push(mark);
                break true;
            }
            road.push(mark);
            walked.insert(mark);
            actions.clear();
            self.offers(&now, &mut actions);
            actions.retain(|action| !action.is_fault());
            actions.sort_by_key(urgency);
            let next = actions
                .iter()
                .filter_map(|action| self.step(&now, *action))
                .find(|next| !walked.contains(&print(next)));
            match next {
                Some(next) => now = next,
                None => break false,
            }
        };
        if found {
            road.into_iter().for_each(|mark| self.finishes.add(mark));
        }
        found
    }
}

/// The order in which the road to an end is looked for: what is on its way arrives, then what is held is done, then it is decided.
fn urgency(action: &Action) -> u8 {
    match action {
        Action::OffLands { .. } => 0,
        // The host that never fails is the best destination.
        Action::CallLands { dest, .. } => 2 + (HOSTS as u8).wrapping_sub(*dest).min(8),
        Action::Begin { .. } | Action::Finish { .. } | Action::GateOpens { .. } => 1,
        Action::Settled { .. } => 50,
        Action::Order { .. } => 40,
        Action::NovaCountsDown { .. } => 41,
        Action::OrderAgain { .. } | Action::Lapsed { .. } => 30,
        _ => 20,
    }
}

impl Model for Recovery {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let machine = Machine { on: true, compute: true, gate: true, ..Machine::default() };
        let mut state = State {
            machines: [machine; HOSTS],
            guests: Default::default(),
            calls: Default::default(),
            rows: Rows::default(),
            before: None,
            hands: Default::default(),
            left: self.config.budgets,
            bad: Bad::default(),
        };
        for row in &mut state.rows.host {
            row.this_boot = true;
        }
        for (guest, place) in self.config.guests.iter().enumerate() {
            state.guests[guest].place = *place;
            let machine = &mut state.machines[*place as usize];
            machine.running |= 1 << guest;
            machine.local |= 1 << guest;
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.found.load(Ordering::Relaxed) {
            return;
        }
        self.offers(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = self.step(state, action)?;
        self.look(state, action, &next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_COPY, |model: &Recovery, state: &State| {
                model.holds(ONE_COPY, || (0..model.config.guests.len()).all(|guest| state.copies(guest) <= 1))
            }),
            Property::always(ONE_EVACUATION, |model: &Recovery, state: &State| {
                model.holds(ONE_EVACUATION, || !state.bad.damaged)
            }),
            Property::always(NOT_SHOT, |model: &Recovery, state: &State| {
                model.holds(NOT_SHOT, || !state.bad.shot)
            }),
            Property::always(CAN_FINISH, |model: &Recovery, state: &State| {
                model.holds(CAN_FINISH, || model.can_finish(state))
            }),
            Property::always(INTENT, |model: &Recovery, state: &State| {
                model.holds(INTENT, || !state.bad.no_intent)
            }),
            Property::always(MARKED_DEAD, |model: &Recovery, state: &State| {
                model.holds(MARKED_DEAD, || !state.bad.marked_alive)
            }),
            Property::always(LAST_COPY, |model: &Recovery, state: &State| {
                model.holds(LAST_COPY, || !state.bad.lost)
            }),
            Property::always(BOUNDS, |model: &Recovery, state: &State| {
                model.holds(BOUNDS, || !state.bad.overflow)
            }),
            Property::sometimes(ENDS_WELL, |model: &Recovery, state: &State| {
                state.guests[0].count > 0 && model.is_finished(state)
            }),
        ]
    }
}

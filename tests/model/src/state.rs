//! The state: the machines as they truly are, Nova as it believes they are, the database, and what engines hold in memory.

use std::hash::{Hash, Hasher};

use crate::config::Budgets;

pub const HOSTS: usize = 3;
/// Hosts that may fail and so have rows in the database.
pub const MORTAL: usize = 2;
pub const GUESTS: usize = 2;
pub const ENGINES: usize = 3;
/// A recovery and a return for each mortal host.
pub const ROWS: usize = 2 * MORTAL;
pub const RECORDS: usize = 4;
pub const CALLS: usize = 4;

/// A hypervisor, its controller, and Nova's view of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Machine {
    pub on: bool,
    /// Its network is cut; its controller's is another one.
    pub cut: bool,
    /// nova-compute runs.
    pub compute: bool,
    /// The start gate is open: guests of this boot may run.
    pub gate: bool,
    /// It is still the boot that ran when the last order was written.
    pub same: bool,
    /// It was off at some time since its recovery began.
    pub was_off: bool,
    /// Nova counts its service down by silence.
    pub stale: bool,
    /// Forced down, and disabled with the same PUT.
    pub forced: bool,
    /// Guests that execute here.
    pub running: u8,
    /// Guests with a copy on its disk.
    pub local: u8,
    /// Power-offs on their way to its controller.
    pub offs: u8,
}

impl Machine {
    pub fn speaks(&self) -> bool {
        self.on && !self.cut
    }
    pub fn beats_to_nova(&self) -> bool {
        self.on && !self.cut && self.compute
    }
    pub fn down_for_nova(&self) -> bool {
        self.forced || self.stale
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Status {
    #[default]
    None,
    /// Sent to the destination's queue.
    Queued,
    /// The destination has begun: the guest executes there, Nova does not say so yet.
    Begun,
    Done,
    Completed,
    Failed,
}

impl Status {
    pub fn is_unfinished(self) -> bool {
        matches!(self, Status::Queued | Status::Begun)
    }
}

/// An evacuation record of Nova.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Record {
    pub src: u8,
    pub dst: u8,
    pub status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Guest {
    /// Nova's word for where it is.
    pub place: u8,
    pub records: [Record; RECORDS],
    pub count: u8,
}

impl Guest {
    pub fn newest(&self) -> Option<Record> {
        self.count.checked_sub(1).map(|last| self.records[last as usize])
    }
    pub fn all(&self) -> impl Iterator<Item = (usize, Record)> {
        self.records.into_iter().take(self.count as usize).enumerate()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Call {
    #[default]
    None,
    Evacuate(u8),
    Mark,
    Unforce,
}

/// A call on its way to Nova.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Travelling {
    pub call: Call,
    /// The host whose recovery sent it.
    pub host: u8,
    /// Engine and row that wait for its answer, from 1; 0: nobody does.
    pub waits: u8,
    /// Hosts that fell silent after it was sent.
    pub older: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Admission {
    #[default]
    In,
    Out,
    Admitted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HostRow {
    pub admission: Admission,
    /// The present boot is the one that the row names.
    pub this_boot: bool,
    pub proof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stage {
    #[default]
    Idle,
    /// The database holds an intent; whether its call went out is open.
    Sending,
    Accepted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Move {
    pub stage: Stage,
    /// Records that existed when the intent was written.
    pub known: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Recovering {
    #[default]
    Idle,
    Fencing,
    Proved,
    Marked,
    Moving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Returning {
    #[default]
    Idle,
    Draining,
    Revoked,
    Out,
    Admitted,
    Unforced,
}

/// Everything the database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rows {
    pub host: [HostRow; MORTAL],
    pub recovery: [Recovering; MORTAL],
    /// An evacuate intent was written: no way back.
    pub evacuated: [bool; MORTAL],
    pub moves: [[Move; GUESTS]; MORTAL],
    pub back: [Returning; MORTAL],
    pub owner: [u8; ROWS],
    /// It was proved off, so others may rely on that, and Nova may hold it forced down by our hand.
    pub marked: [bool; MORTAL],
    /// Its return is that of a living host, whose order was retired.
    pub alive: [bool; MORTAL],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Deed {
    #[default]
    None,
    Off,
    Mark,
    Evacuate(u8),
    Unforce,
    /// Of a retired order.
    Revoke,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    /// Committed and handed out.
    #[default]
    Ready,
    /// Checked; the first byte is not out.
    Checked,
    Sent,
    /// Read Off once.
    ReadOnce,
}

/// What an engine does for one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Hand {
    pub deed: Deed,
    pub phase: Phase,
    /// The row was taken over since.
    pub stale: bool,
    /// A reading of Off that may still be used.
    pub off: bool,
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bad {
    pub shot: bool,
    pub damaged: bool,
    pub lost: bool,
    pub marked_alive: bool,
    pub no_intent: bool,
    /// The model's own arrays were too short.
    pub overflow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub machines: [Machine; HOSTS],
    pub guests: [Guest; GUESTS],
    pub calls: [Travelling; CALLS],
    pub rows: Rows,
    /// Before the last commit; only where the database may rewind.
    pub before: Option<Box<Rows>>,
    pub hands: [[Hand; ROWS]; ENGINES],
    pub left: Budgets,
    pub bad: Bad,
}

impl State {
    pub fn copies(&self, guest: usize) -> u32 {
        self.machines.iter().map(|machine| u32::from(machine.running >> guest & 1)).sum()
    }
    pub fn free_call(&self) -> Option<usize> {
        self.calls.iter().position(|travelling| travelling.call == Call::None)
    }
    /// Equal sets of calls are equal states.
    pub fn sort_calls(&mut self) {
        self.calls.sort_unstable();
    }
}

/// Row of a host's recovery.
pub fn recovery_row(host: usize) -> usize {
    host * 2
}
/// Row of a host's return.
pub fn return_row(host: usize) -> usize {
    host * 2 + 1
}

/// Bits put beside each other, so that a state is hashed as a few words rather than some hundred fields.
struct Pack(u64, u32);

impl Pack {
    fn new() -> Pack {
        Pack(0, 0)
    }
    fn put(&mut self, value: u8, bits: u32) {
        debug_assert!(u32::from(value) < 1 << bits && self.1 + bits <= 64);
        self.0 |= u64::from(value) << self.1;
        self.1 += bits;
    }
    fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        for flag in flags {
            self.put(flag.into(), 1);
        }
    }
}

impl State {
    /// One to one with the state: equal words, equal states.
    pub fn words(&self) -> [u64; 9] {
        let mut machines = Pack::new();
        for m in &self.machines {
            machines.flags([m.on, m.cut, m.compute, m.gate, m.same, m.was_off, m.stale, m.forced]);
            machines.put(m.running, GUESTS as u32);
            machines.put(m.local, GUESTS as u32);
            machines.put(m.offs, 2);
        }
        let [first, second] = self.guests.map(|guest| {
            let mut words = Pack::new();
            words.put(guest.place, 2);
            words.put(guest.count, 3);
            for record in guest.records {
                words.put(record.src, 2);
                words.put(record.dst, 2);
                words.put(record.status as u8, 3);
            }
            words.0
        });
        let mut calls = Pack::new();
        for travelling in &self.calls {
            let call = match travelling.call {
                Call::None => 0,
                Call::Mark => 1,
                Call::Unforce => 2,
                Call::Evacuate(guest) => 3 + guest,
            };
            calls.put(call, 3);
            calls.put(travelling.host, 2);
            calls.put(travelling.waits, 5);
            calls.put(travelling.older, 3);
        }
        let (mut some, mut others) = (Pack::new(), Pack::new());
        for (index, hand) in self.hands.iter().flatten().enumerate() {
            let words = if index < ENGINES * ROWS / 2 { &mut some } else { &mut others };
            let deed = match hand.deed {
                Deed::None => 0,
                Deed::Off => 1,
                Deed::Mark => 2,
                Deed::Unforce => 3,
                Deed::Revoke => 4,
                Deed::Evacuate(guest) => 5 + guest,
            };
            words.put(deed, 3);
            words.put(hand.phase as u8, 2);
            words.flags([hand.stale, hand.off]);
        }
        let before = self.before.as_deref().map_or(u64::MAX, Rows::word);
        let rest = self.left.word() | self.bad.word() << 56;
        [machines.0, first, second, calls.0, some.0, others.0, self.rows.word(), before, rest]
    }
}

impl Rows {
    fn word(&self) -> u64 {
        let mut words = Pack::new();
        for host in 0..MORTAL {
            words.put(self.host[host].admission as u8, 2);
            words.flags([self.host[host].this_boot, self.host[host].proof]);
            words.put(self.recovery[host] as u8, 3);
            words.put(self.back[host] as u8, 3);
            words.flags([self.evacuated[host], self.marked[host], self.alive[host]]);
            for vm in self.moves[host] {
                words.put(vm.stage as u8, 2);
                words.put(vm.known, 3);
            }
        }
        for owner in self.owner {
            words.put(owner, 2);
        }
        words.0
    }
}

impl Budgets {
    fn word(&self) -> u64 {
        let mut words = Pack::new();
        for left in [
            self.crashes,
            self.lapses,
            self.cuts,
            self.heals,
            self.power_losses,
            self.power_ons,
            self.timeouts,
            self.cached,
            self.failures,
            self.duplicates,
            self.deaf_revokes,
            self.rewinds,
        ] {
            words.put(left, 4);
        }
        words.0
    }
}

impl Bad {
    fn word(&self) -> u64 {
        let mut words = Pack::new();
        words.flags([self.shot, self.damaged, self.lost, self.marked_alive, self.no_intent, self.overflow]);
        words.0
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

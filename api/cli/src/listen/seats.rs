//! Who may stay connected, for how long, and who goes first.
//!
//! A connection costs a file descriptor and some kilobytes, and anybody may open one. What a client costs before it has said who it is
//! must be bounded, and a good client must be let in while bad ones hold everything they can. So every connection has a seat, and a seat is
//! in one of four phases. In three of them we wait for the client, with a limit each; in these it can also be cut when the seat is needed,
//! the one that has waited longest first. In the fourth, [`Phase::Work`], the client waits for us: never cut, since an answer under way
//! may tell of something that is already recorded.
//!
//! A good client is in `Work` within milliseconds, so the one that has waited longest is the slowest or the idlest of all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How much clients may ask of the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// For a TLS handshake, and for the whole head of a request.
    pub head: Duration,
    /// For the whole body of a request; as long may an answer stand still that the client does not read.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Bytes of all bodies together that were received and are not answered yet.
    pub bytes: usize,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Handshake, or the head of a request, the first one's from the connection on.
    Head,
    /// The head is here, the body is not.
    Body,
    /// The request is here, its answer is being made or sent.
    Work,
    /// Answered; the next request has not begun.
    Idle,
}

/// All seats.
#[derive(Debug)]
pub struct Seats {
    limits: Limits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    taken: usize,
    bytes: usize,
    /// Grows; a lower number has waited longer.
    next: u64,
    /// Seats that can be cut, by how long they have waited: those without a body, and those that receive one.
    waiting: BTreeMap<u64, CancellationToken>,
    receiving: BTreeMap<u64, Receiving>,
}

#[derive(Debug)]
struct Receiving {
    cut: CancellationToken,
    bytes: usize,
}

/// What became of a new connection.
#[derive(Debug)]
pub enum Admission {
    Seated(Arc<Seat>),
    /// Another one was cut for it.
    Instead(Arc<Seat>),
    /// All seats are at work.
    Full,
}

impl Seats {
    pub fn new(limits: Limits) -> Arc<Seats> {
        Arc::new(Seats { limits, table: Mutex::default() })
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections now.
    pub fn taken(&self) -> usize {
        self.table().taken
    }

    /// A seat for a new connection. `ended` is cancelled when all shall end; the seat's own end is a child of it.
    pub fn admit(self: &Arc<Self>, ended: &CancellationToken, now: Instant) -> Admission {
        let mut table = self.table();
        let full = table.taken >= self.limits.connections;
        if full && !table.cut_the_longest() {
            return Admission::Full;
        }
        table.taken += 1;
        let cut = ended.child_token();
        let order = table.wait(&cut);
        let state = State { phase: Phase::Head, since: now, order: Some(order), bytes: 0, late: false };
        let seat = Arc::new(Seat { seats: self.clone(), cut, state: Mutex::new(state) });
        if full { Admission::Instead(seat) } else { Admission::Seated(seat) }
    }

    /// Cuts the connection that has waited longest, for want of something else than seats. `false`: none waits.
    pub fn make_room(&self) -> bool {
        self.table().cut_the_longest()
    }
}

impl Table {
    fn order(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wait(&mut self, cut: &CancellationToken) -> u64 {
        let order = self.order();
        self.waiting.insert(order, cut.clone());
        order
    }

    fn forget(&mut self, order: u64) {
        self.waiting.remove(&order);
        self.receiving.remove(&order);
    }

    fn cut_the_longest(&mut self) -> bool {
        let waits = self.waiting.first_key_value().map(|(order, _)| *order);
        let receives = self.receiving.first_key_value().map(|(order, _)| *order);
        match (waits, receives) {
            (None, None) => false,
            (Some(waits), receives) if receives.is_none_or(|receives| waits < receives) => {
                if let Some((_, cut)) = self.waiting.pop_first() {
                    self.gone(&cut, 0);
                }
                true
            }
            _ => self.cut_a_receiver(),
        }
    }

    fn cut_a_receiver(&mut self) -> bool {
        let Some((_, receiving)) = self.receiving.pop_first() else { return false };
        self.gone(&receiving.cut, receiving.bytes);
        true
    }

    /// What is cut counts no more at once: its task ends a moment later.
    fn gone(&mut self, cut: &CancellationToken, bytes: usize) {
        cut.cancel();
        self.taken -= 1;
        self.bytes -= bytes;
    }
}

/// One connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    cut: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Its number in the table, where it can be cut.
    order: Option<u64>,
    /// Of the present request's body.
    bytes: usize,
    /// The present request's body did not come in time.
    late: bool,
}

impl Seat {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn limits(&self) -> &Limits {
        &self.seats.limits
    }

    /// Cancelled when the connection must end.
    pub fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Enters a phase, at the end of the line.
    pub fn enter(&self, phase: Phase, now: Instant) {
        let mut state = self.state();
        let mut table = self.seats.table();
        if let Some(order) = state.order.take() {
            table.forget(order);
        }
        (state.phase, state.since) = (phase, now);
        state.late &= phase == Phase::Work;
        // Cut already: it has left the table's sums.
        if self.cut.is_cancelled() {
            return;
        }
        state.order = match phase {
            Phase::Work => None,
            Phase::Head | Phase::Idle => Some(table.wait(&self.cut)),
            Phase::Body => {
                let order = table.order();
                table.receiving.insert(order, Receiving { cut: self.cut.clone(), bytes: state.bytes });
                Some(order)
            }
        };
    }

    /// Bytes came. The first after an answer begin a request.
    pub fn heard(&self, now: Instant) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head, now);
        }
    }

    /// Bytes of a body came and are kept. Where all bodies together are more than may be, those who have been sending for longest are
    /// cut, perhaps this one.
    pub fn holds(&self, bytes: usize) {
        let mut state = self.state();
        let mut table = self.seats.table();
        let Some(order) = state.order.filter(|_| !self.cut.is_cancelled()) else { return };
        let Some(receiving) = table.receiving.get_mut(&order) else { return };
        receiving.bytes += bytes;
        state.bytes += bytes;
        table.bytes += bytes;
        while table.bytes > self.seats.limits.bytes && table.cut_a_receiver() {}
    }

    /// The request is answered: its body is held no more.
    pub fn releases(&self) {
        let mut state = self.state();
        let bytes = std::mem::take(&mut state.bytes);
        if bytes == 0 {
            return;
        }
        let mut table = self.seats.table();
        if !self.cut.is_cancelled() {
            table.bytes -= bytes;
            if let Some(receiving) = state.order.and_then(|order| table.receiving.get_mut(&order)) {
                receiving.bytes = 0;
            }
        }
    }

    /// The body did not come in time; known until the answer is made.
    pub fn gives_up(&self, now: Instant) {
        self.enter(Phase::Work, now);
        self.state().late = true;
    }

    pub fn is_late(&self) -> bool {
        self.state().late
    }

    /// The client took something of the answer.
    pub fn sent(&self, now: Instant) {
        let mut state = self.state();
        // The tail of an answer goes out after its end was made: a slow reader who goes on reading is not idle.
        if state.phase == Phase::Idle {
            state.since = now;
        }
    }

    /// When the client's time is up, as things are. A body's time is kept where the body is read, and that of an answer that nobody takes by the
    /// kernel.
    pub fn deadline(&self) -> Option<Instant> {
        let (state, limits) = (self.state(), &self.seats.limits);
        match state.phase {
            Phase::Head => Some(state.since + limits.head),
            Phase::Idle => Some(state.since + limits.idle),
            Phase::Body | Phase::Work => None,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (order, bytes) = {
            let state = self.state();
            (state.order, state.bytes)
        };
        let mut table = self.seats.table();
        if let Some(order) = order {
            table.forget(order);
        }
        if !self.cut.is_cancelled() {
            table.taken -= 1;
            table.bytes -= bytes;
        }
    }
}

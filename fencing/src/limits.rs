//! Every duration, count and other bound of a fence, in one value, so that tests and drills may run with others.
//!
//! The defaults are the field's, tightened: a request is shorter than a phase, a phase shorter than a level, so that
//! one dead controller never swallows the time of the next.

use std::time::Duration;

/// Times and counts that bound one act.
#[derive(Debug, Clone)]
pub struct Limits {
    /// TCP connect and TLS handshake of one request. 3 s: a controller on a management network that needs longer is
    /// not going to answer.
    pub connect: Duration,
    /// All rounds of an IPMI session handshake together. 8 s: eight rounds get through 20 % loss each way.
    pub handshake: Duration,
    /// Wait for one answer within the first handshake round.
    pub handshake_step: Duration,
    /// The same in later rounds, when the network has shown that it is slow or lossy.
    pub handshake_step_later: Duration,
    /// One request with its answer, resends included.
    pub request: Duration,
    /// Pauses after which an unanswered IPMI request is sent again (idempotent ones only).
    pub resend: Vec<Duration>,
    /// Between two readings, and at least between two Off readings that shall count. 1 s: what fence-agents poll at,
    /// and the least distance at which two readings are two.
    pub min_interval: Duration,
    /// How long a level has before the next starts beside it.
    pub level: Duration,
    /// After an accepted order a power that still reads On for so long is ordered off again, for a BMC that forgot. 12 s: some
    /// devices start a delay of their own anew with each order, the longest on record being 11 s (sushy's emulator: 1 to 11 s, measured
    /// 2 to 9.5 s until Off), and orders every 5 s held such a one On past the level's end. All others are done sooner
    /// (measured 0.1 to 2.3 s, blades up to 6 s), and fence-agents send no second order within their 20 s at all.
    pub reorder_after: Duration,
    /// How long the second order has before the device counts as one that accepts and does not obey. 2 s: a BMC that merely
    /// forgot is off by then, and 12 s + 2 s end within the level's 15 s, so that a liar is told apart in its own level. It is read
    /// on all the same.
    pub obey_within: Duration,
    /// Orders that one device may accept without obeying: one, and one for a BMC that forgot it.
    pub max_orders: u32,
    /// First pause after "busy" or a lost answer; doubles up to `backoff_max`.
    pub backoff: Duration,
    /// Longest such pause, and the cap on what a `Retry-After` may ask: shorter than a level, or one 503 would end it.
    pub backoff_max: Duration,
    /// Best effort to close a session.
    pub close: Duration,
    /// A request in flight so long is hung if a more urgent one waits for the same controller: it is dropped. 2 s:
    /// healthy controllers, shared ones too, answer sooner.
    pub yield_after: Duration,
    /// A level's time when power is only read ([`crate::read`]) or a device checked ([`crate::check`]).
    pub probe: Duration,
    /// A level's time to switch on.
    pub on: Duration,
    /// Between two on orders that were refused: controllers refuse On for a while after off.
    pub on_settle: Duration,
    /// Beginnings of references (`file:/etc/halberd/bmc/`, `vault:secret/halberd/`) that may be looked up. None by default: who may write a
    /// description must not thereby read the engine's own secrets, by sending them to a BMC of his.
    pub references: Vec<String>,
    /// Largest body accepted. 1 MiB: a ComputerSystem document is some tens of KiB.
    pub max_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            connect: ms(3_000),
            handshake: ms(8_000),
            handshake_step: ms(500),
            handshake_step_later: ms(1_000),
            request: ms(5_000),
            resend: vec![ms(500), ms(1_000), ms(2_000), ms(2_000)],
            min_interval: ms(1_000),
            level: ms(15_000),
            reorder_after: ms(12_000),
            obey_within: ms(2_000),
            max_orders: 2,
            backoff: ms(1_000),
            backoff_max: ms(5_000),
            close: ms(1_000),
            yield_after: ms(2_000),
            probe: ms(10_000),
            on: ms(60_000),
            on_settle: ms(10_000),
            references: Vec::new(),
            max_body: 1 << 20,
        }
    }
}

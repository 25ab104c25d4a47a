//! The one place of the engine that knows the real clocks.

use halberd_core::time::{Mono, Stamp};
use rustix::time::{ClockId, clock_gettime};

/// Monotonic times begin here rather than at zero, so that "long before this process" can be said.
const EPOCH_MS: u64 = 1_000_000_000;

/// Milliseconds of the boot-time clock: monotonic, and it runs on while the machine is suspended (SAFETY 2.3 e).
pub fn mono() -> Mono {
    let time = clock_gettime(ClockId::Boottime);
    let ms = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000
        + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    Mono(EPOCH_MS + ms)
}

/// A time before anything this process has seen: an old report's age is not known, so it is stale.
pub const LONG_AGO: Mono = Mono(0);

/// Wall clock in microseconds UTC, for display only.
pub fn stamp() -> Stamp {
    let time = clock_gettime(ClockId::Realtime);
    Stamp(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000)
}

/// The same moment for tokio's timers.
pub fn until(at: Mono) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(mono())
}

//! Stall-abort: a process that stood still ends itself, before what it had begun goes out stale (SAFETY 2.4, F60, F64).
//!
//! What this module believes:
//!
//! - Whoever was frozen between its last check and its first byte does not know that time has passed. The checks before each deed (the
//!   lease, the row's owner and epoch) close almost all of that; a process that is no more closes the rest. Its successor asks the world.
//! - The executor is not asked whether it stands still. A thread of its own looks at a mark that a task of the executor writes, and at
//!   its own pauses: frozen together, both stood still, and the thread sees that its short sleep has lasted long.
//! - Half a lease is well before anybody else may claim, and far longer than a busy machine holds an executor up.
//! - Only a daemon is aborted: the thread is started by whoever composes one, never by [`crate::Engine`]. systemd starts it again.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use halberd_core::policy::Policy;
use halberd_core::time::Mono;

use crate::clock;
use crate::shared::Shared;

/// Between two looks of the thread, and two marks of the executor: a small share of the shortest lease.
const LOOK: Duration = Duration::from_millis(100);

/// How the process stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The executor ran nothing.
    Executor(Duration),
    /// Not even this thread ran: stopped, suspended, or the machine was.
    Process(Duration),
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, span) = match self {
            Stall::Executor(span) => ("its executor ran nothing", span),
            Stall::Process(span) => ("the process did not run", span),
        };
        write!(f, "{what} for {:.1} s", span.as_secs_f64())
    }
}

/// Whether the process stood still: `slept` and `now` are the ends of one short sleep of the thread, `marked` is when the executor last
/// ran. A pause of exactly the limit is none.
pub fn stood_still(slept: Mono, marked: Mono, now: Mono, limit: Duration) -> Option<Stall> {
    let (own, executor) = (now.since(slept), now.since(marked));
    if own > limit {
        return Some(Stall::Process(own));
    }
    (executor > limit).then_some(Stall::Executor(executor))
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watching {
    over: Arc<AtomicBool>,
    mark: tokio::task::JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        self.mark.abort();
    }
}

/// Starts the thread, and the task of this executor that it looks at. From then on a stall of half a lease aborts the process.
pub fn watch(shared: &Shared) -> Watching {
    let limit = Policy::ms(shared.policy.lease_ms) / 2;
    let over = Arc::new(AtomicBool::new(false));
    let marked = Arc::new(AtomicU64::new(clock::mono().0));
    let mark = tokio::spawn({
        let marked = marked.clone();
        async move {
            loop {
                marked.store(clock::mono().0, Ordering::Release);
                tokio::time::sleep(LOOK).await;
            }
        }
    });
    let looks = {
        let over = over.clone();
        move || {
            while !over.load(Ordering::Acquire) {
                let slept = clock::mono();
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a thread of its own, which shares nothing with the runtime it watches"
                )]
                std::thread::sleep(LOOK);
                let marked = Mono(marked.load(Ordering::Acquire));
                if let Some(stall) = stood_still(slept, marked, clock::mono(), limit)
                    && !over.load(Ordering::Acquire)
                {
                    end(stall, limit);
                }
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("stall".into()).spawn(looks) {
        tracing::error!(%error, "nobody watches for stalls: the checks before each deed remain");
    }
    Watching { over, mark }
}

/// Nothing that needs the executor, a lock or the log: who stood still is trusted with one line and its end.
fn end(stall: Stall, limit: Duration) -> ! {
    let why = format!(
        "halberd: aborted: {stall}, longer than half its lease ({:.1} s); another engine may act by now, and nothing stale may go out. \
         Started again it goes on\n",
        limit.as_secs_f64()
    );
    let _ = std::io::stderr().write_all(why.as_bytes());
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[test]
    fn a_pause_longer_than_half_a_lease_is_a_stall_whoever_made_it() {
        let look = |slept, marked, now| stood_still(Mono(slept), Mono(marked), Mono(now), LIMIT);
        assert_eq!(look(1_000, 1_050, 1_100), None);
        assert_eq!(look(1_000, 1_000, 6_000), None, "as long as the limit");
        assert_eq!(look(6_000, 1_099, 6_100), Some(Stall::Executor(Duration::from_millis(5_001))));
        // Both stood still together; after that the executor may even have been faster to run.
        assert_eq!(look(1_000, 950, 61_000), Some(Stall::Process(Duration::from_secs(60))));
        assert_eq!(look(1_000, 60_999, 61_000), Some(Stall::Process(Duration::from_secs(60))));
        assert_eq!(look(2_000, 2_100, 2_050), None, "a mark of after the look");
    }

    #[test]
    fn it_says_what_stood_still() {
        let said = Stall::Executor(Duration::from_millis(5_040)).to_string();
        assert_eq!(said, "its executor ran nothing for 5.0 s");
    }
}

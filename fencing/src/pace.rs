//! One command in flight per controller.
//!
//! A BMC is a small computer that several levels, protocols and acts may want at once, and some crash under it. Every
//! command (a login counts as one) takes the controller's lane for as long as it is in flight. Lanes are process-wide,
//! by key, and independent: a stuck controller holds nobody else. Whoever is more urgent does not wait for a hung
//! request: after `yield_after` in flight it is dropped, and its owner learns so.
//!
//! Urgency: a check or a probe is 0, the fence's first level 1, its second 2, and so on: a level that starts later does
//! so because the earlier one has had its time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Mutex as Turn, watch};
use tokio::time::Instant;

/// Everybody's way to one controller.
#[derive(Debug)]
pub(crate) struct Lane {
    turn: Turn<()>,
    /// How many wait at each urgency.
    waiting: watch::Sender<Vec<usize>>,
}

/// The request was dropped for a more urgent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Superseded;

static LANES: LazyLock<Mutex<HashMap<String, Weak<Lane>>>> = LazyLock::new(Mutex::default);

/// The lane of the controller with this key.
pub(crate) fn lane(key: &str) -> Arc<Lane> {
    let mut lanes = LANES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lane) = lanes.get(key).and_then(Weak::upgrade) {
        return lane;
    }
    lanes.retain(|_, lane| lane.strong_count() > 0);
    let lane = Arc::new(Lane { turn: Turn::new(()), waiting: watch::Sender::new(Vec::new()) });
    lanes.insert(key.to_owned(), Arc::downgrade(&lane));
    lane
}

/// Counts a waiter for as long as it lives, also when its future is dropped.
struct Waiting<'a>(&'a Lane, usize);

impl<'a> Waiting<'a> {
    fn new(lane: &'a Lane, urgency: usize) -> Self {
        lane.waiting.send_modify(|w| {
            w.resize(w.len().max(urgency + 1), 0);
            w[urgency] += 1;
        });
        Self(lane, urgency)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|w| w[self.1] -= 1);
    }
}

impl Lane {
    /// Runs one command alone. It is dropped when somebody more urgent waits and it has been in flight for
    /// `yield_after`.
    pub(crate) async fn run<T>(
        &self,
        urgency: usize,
        yield_after: Duration,
        command: impl Future<Output = T>,
    ) -> Result<T, Superseded> {
        let waiting = Waiting::new(self, urgency);
        let _turn = self.turn.lock().await;
        drop(waiting);
        let began = Instant::now();
        let mut others = self.waiting.subscribe();
        let wanted = async {
            let more_urgent = |w: &Vec<usize>| w.iter().skip(urgency + 1).any(|n| *n > 0);
            loop {
                // The sender lives in `self`, so waiting cannot fail.
                let _ = others.wait_for(more_urgent).await;
                tokio::time::sleep_until(began + yield_after).await;
                if more_urgent(&others.borrow_and_update()) {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            done = command => Ok(done),
            () = wanted => Err(Superseded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn one_at_a_time() {
        let lane = lane("one-at-a-time");
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let command = || async {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
        };
        let (a, b, c) = tokio::join!(
            lane.run(1, LONG, command()),
            lane.run(0, LONG, command()),
            lane.run(2, LONG, command())
        );
        assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_hung_request_gives_way_to_a_more_urgent_one_only() {
        let lane = lane("gives-way");
        let hung = lane.run(1, Duration::from_millis(1), pending::<()>());
        let urgent = async {
            // An equal does not drop it.
            let equal = tokio::time::timeout(Duration::from_millis(30), lane.run(1, LONG, async {})).await;
            assert!(equal.is_err());
            lane.run(2, LONG, async { 7 }).await
        };
        let (hung, urgent) = tokio::join!(hung, urgent);
        assert_eq!((hung, urgent), (Err(Superseded), Ok(7)));
    }

    #[tokio::test]
    async fn a_stuck_controller_holds_nobody_else() {
        let stuck = lane("stuck");
        let hung = stuck.run(9, LONG, pending::<()>());
        tokio::select! {
            _ = hung => panic!("it was to hang"),
            free = async { lane("free").run(0, LONG, async { 1 }).await } => assert_eq!(free, Ok(1)),
        }
    }

    #[tokio::test]
    async fn a_waiter_that_gave_up_drops_nobody() {
        let lane = lane("gave-up");
        let (open, opened) = tokio::sync::oneshot::channel::<()>();
        let slow = lane.run(0, Duration::ZERO, async { opened.await.is_ok() });
        let driver = async {
            let mut waiter = Box::pin(lane.run(5, LONG, async {}));
            // The waiter is counted on its first poll and dropped at once.
            std::future::poll_fn(|cx| {
                assert!(waiter.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
            drop(waiter);
            open.send(()).unwrap();
        };
        let (slow, ()) = tokio::join!(slow, driver);
        assert_eq!(slow, Ok(true));
    }
}

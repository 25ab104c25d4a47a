//! One device in one act: sessions, orders and readings until it is as ordered or cannot be.
//!
//! ```text
//! open -> identify -> (gate) -> order -> read ... read            two Off in a row, a second apart: confirmed
//!  ^                    ^         |busy, lost: read, pause -+
//!  |                    +---------+-- still On ------------+      at most max_orders accepted
//!  +-- silent, or the login expired: a new session, a new Attempt, everything afresh
//! ```
//!
//! Only what happened in one session counts together: a new session identifies, asks the gate and orders again.

mod orders;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::device::Device;
use crate::error::FenceError;
use crate::limits::Limits;
use crate::pace::{self, Lane, Superseded};
use crate::power::{Expected, Identity, PowerSession, PowerState};
use crate::report::{Attempt, Gate, OrderAnswer, Reading, Target};
use orders::Orders;

/// Logins without any answer after which the next level need not wait for this one's time to pass: one may be a BMC
/// that restarts, two are a BMC that is not there.
const DEAF: u32 = 2;

/// What the power shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Off,
    On,
}

/// What all devices of an act share.
pub(crate) struct Act<'a> {
    pub target: &'a Target,
    pub limits: &'a Limits,
    pub gate: &'a dyn Gate,
    pub goal: Goal,
    pub began: Instant,
    attempts: Mutex<Vec<(Instant, Attempt)>>,
    stop: watch::Sender<bool>,
    /// Devices that wait for nothing but their second Off reading.
    near: AtomicUsize,
    /// Levels that will not get better: the next may start.
    hopeless: mpsc::UnboundedSender<usize>,
}

/// How a device's part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Confirmed,
    Failed,
    /// The act is over: the gate closed, or another level confirmed.
    Stopped,
}

/// How a session's part ended.
enum Session {
    End(End),
    /// Begin a new one, after a pause.
    Reopen(Duration),
    /// Begin a new one at once, but only this once: the login is no longer accepted.
    Relogin,
}

impl<'a> Act<'a> {
    pub(crate) fn new(
        target: &'a Target,
        limits: &'a Limits,
        gate: &'a dyn Gate,
        goal: Goal,
        hopeless: mpsc::UnboundedSender<usize>,
    ) -> Self {
        let (attempts, stop, near) = (Mutex::default(), watch::Sender::new(false), AtomicUsize::new(0));
        Self { target, limits, gate, goal, began: Instant::now(), attempts, stop, near, hopeless }
    }

    /// Everybody ends at the next opportunity; no further order goes out.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// True if some device is one reading away from the goal.
    pub(crate) fn is_near(&self) -> bool {
        self.near.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn give_up(&self, level: usize) {
        // The receiver lives as long as the act.
        let _ = self.hopeless.send(level);
    }

    pub(crate) fn into_attempts(self) -> Vec<Attempt> {
        let attempts = self.attempts.into_inner().unwrap_or_else(PoisonError::into_inner);
        attempts.into_iter().map(|(_, attempt)| attempt).collect()
    }

    fn begin(&self, level: usize, device: &str) -> usize {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.push((
            Instant::now(),
            Attempt {
                level,
                device: device.to_owned(),
                token: None,
                identity: None,
                identity_matches: None,
                order: OrderAnswer::NotSent,
                orders: 0,
                readings: Vec::new(),
                error: None,
                took: Duration::ZERO,
            },
        ));
        attempts.len() - 1
    }

    fn edit(&self, index: usize, edit: impl FnOnce(&mut Attempt)) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, attempt) = &mut attempts[index];
        edit(attempt);
        attempt.took = began.elapsed();
    }

    /// Waits until then; true if the act was stopped meanwhile.
    async fn pause(&self, until: Instant) -> bool {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = tokio::time::sleep_until(until) => self.stopped(),
            _ = stop.wait_for(|s| *s) => true,
        }
    }
}

/// Who the machine behind this device must be: what is on file for the host, and what the device itself says.
/// `Some(false)` if either contradicts.
pub(crate) fn matches(target: &Target, device: &Device, seen: &Identity) -> Option<bool> {
    let own = Expected { serial: device.serial.clone(), uuid: None };
    match (target.expected.compare(seen), own.compare(seen)) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (on_file, own) => on_file.or(own),
    }
}

/// All that is expected of the machine behind a device, for finding it among several.
pub(crate) fn expected(target: &Target, device: &Device) -> Expected {
    let serial = device.serial.clone().or_else(|| target.expected.serial.clone());
    Expected { serial, uuid: target.expected.uuid }
}

/// Brings one device to the goal.
pub(crate) async fn device(act: &Act<'_>, level: usize, device: &Device) -> End {
    let driver = Driver { act, level, device, name: device.name(), lane: pace::lane(&device.bmc_key()) };
    driver.drive().await
}

struct Driver<'a> {
    act: &'a Act<'a>,
    level: usize,
    device: &'a Device,
    name: String,
    lane: std::sync::Arc<Lane>,
}

impl Driver<'_> {
    async fn drive(&self) -> End {
        let limits = self.act.limits;
        let mut index = self.act.begin(self.level, &self.name);
        let expected = expected(self.act.target, self.device);
        let power = match crate::chain::connect(self.device, &expected, limits) {
            Ok(power) => power,
            Err(error) => return self.fail(index, &error),
        };
        let (mut backoff, mut relogins, mut used, mut deaf) = (limits.backoff, 0, false, 0);
        while !self.act.stopped() {
            if std::mem::take(&mut used) {
                index = self.act.begin(self.level, &self.name);
            }
            let pause = match self.command(power.open()).await {
                Ok(mut session) => {
                    (backoff, used) = (limits.backoff, true);
                    let ended = self.session(index, session.as_mut()).await;
                    // A hung close must not keep the proof waiting, nor hold the controller.
                    let close = self.lane.run(self.level, limits.yield_after, session.close());
                    let _ = timeout(limits.close, close).await;
                    self.act.edit(index, |_| {});
                    match ended {
                        Session::End(end) => return end,
                        Session::Relogin if relogins > 0 => return End::Failed,
                        Session::Relogin => {
                            relogins += 1;
                            Duration::ZERO
                        }
                        Session::Reopen(pause) => pause,
                    }
                }
                // A second try with the same password only brings the account nearer to its lock.
                Err(error) if error.is_final() || error.is_login() => return self.fail(index, &error),
                Err(error) => {
                    self.note(index, &error);
                    deaf += u32::from(matches!(
                        error,
                        FenceError::Silent { .. } | FenceError::Unreachable { .. }
                    ));
                    if deaf == DEAF {
                        self.act.give_up(self.level);
                    }
                    let pause = error.retry_after().unwrap_or(backoff).min(limits.backoff_max);
                    backoff = (backoff * 2).min(limits.backoff_max);
                    pause
                }
            };
            self.act.pause(Instant::now() + pause).await;
        }
        End::Stopped
    }

    /// One command, alone on its controller.
    async fn command<T>(
        &self,
        command: impl Future<Output = Result<T, FenceError>>,
    ) -> Result<T, FenceError> {
        match self.lane.run(self.level, self.act.limits.yield_after, command).await {
            Ok(done) => done,
            Err(Superseded) => Err(FenceError::Superseded { device: self.name.clone() }),
        }
    }

    fn note(&self, index: usize, error: &FenceError) {
        tracing::debug!(host = self.act.target.host, level = self.level, %error, "fence device");
        self.act.edit(index, |a| a.error = Some(error.to_string()));
    }

    fn fail(&self, index: usize, error: &FenceError) -> End {
        self.note(index, error);
        End::Failed
    }

    /// What an error in a session means for it; `None`: go on in it.
    fn after(&self, index: usize, error: &FenceError) -> Option<Session> {
        self.note(index, error);
        if error.is_login() {
            return Some(Session::Relogin);
        }
        if error.is_final() {
            return Some(Session::End(End::Failed));
        }
        let lost = matches!(error, FenceError::Silent { .. } | FenceError::Unreachable { .. });
        lost.then_some(Session::Reopen(self.act.limits.backoff))
    }

    async fn session(&self, index: usize, session: &mut dyn PowerSession) -> Session {
        let token = session.token();
        self.act.edit(index, |a| a.token.clone_from(&token));
        let take_over = async {
            session.take_over().await;
            Ok(())
        };
        if let Err(error) = self.command(take_over).await {
            return Session::End(self.fail(index, &error));
        }
        let (identity, asked) = loop {
            let asked = Instant::now();
            match self.command(session.identify()).await {
                Ok(identity) => break (identity, asked),
                // Who cannot be identified now gets no order now.
                Err(error) => {
                    if let Some(end) = self.after(index, &error) {
                        return end;
                    }
                    let limits = self.act.limits;
                    let pause = error.retry_after().unwrap_or(limits.backoff).min(limits.backoff_max);
                    if self.act.pause(Instant::now() + pause).await {
                        return Session::End(End::Stopped);
                    }
                }
            }
        };
        let matching = identity.as_ref().and_then(|seen| matches(self.act.target, self.device, seen));
        self.act.edit(index, |a| (a.identity, a.identity_matches) = (identity.clone(), matching));
        if matching == Some(false) {
            let found = identity.unwrap_or_default().to_string();
            let expected = expected(self.act.target, self.device).to_string();
            let error = FenceError::WrongMachine { device: self.name.clone(), expected, found };
            return Session::End(self.fail(index, &error));
        }
        if let Err(reason) = self.act.gate.accepts(&self.name, identity.as_ref(), matching).await {
            self.act.edit(index, |a| a.error = Some(format!("no order to this device: {reason}")));
            return Session::End(End::Failed);
        }
        // What it was before: for the story, never for the proof. A slow reader must not delay the order.
        let before = match session.state_at_identify() {
            Some(state) => Some((state, asked)),
            None => {
                let asked = Instant::now();
                let read = timeout(self.act.limits.yield_after, self.command(session.read())).await;
                read.ok().and_then(Result::ok).map(|state| (state, asked))
            }
        };
        if let Some((state, asked)) = before {
            self.record(index, state, asked, false);
        }
        Orders::new(self, index, token).run(session).await
    }

    fn record(&self, index: usize, state: PowerState, asked: Instant, after_order: bool) {
        let at = asked.duration_since(self.act.began);
        self.act.edit(index, |a| a.readings.push(Reading { state, at, after_order }));
    }
}

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
use crate::power::{self, Expected, Identity, PowerSession, PowerState};
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
                stated: false,
                order: OrderAnswer::NotSent,
                orders: 0,
                readings: Vec::new(),
                held: None,
                error: None,
                notes: Vec::new(),
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

    /// Waits for the end of the act.
    async fn ended(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|s| *s).await;
    }

    /// Waits until then; true if the act was stopped meanwhile.
    async fn pause(&self, until: Instant) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(until) => self.stopped(),
            () = self.ended() => true,
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

/// How a device stands to the machine on file: whether it matches ([`matches`]), and whether that it is this one stands on the
/// operator's word alone. A device that cannot name its machine is believed to switch the one whose serial number its
/// description states (DESIGN 7). A statement that contradicts the serial number on file is a contradiction whatever the device
/// says: one of the two is wrong, and nobody here knows which.
pub(crate) fn standing(target: &Target, device: &Device, seen: Option<&Identity>) -> (Option<bool>, bool) {
    if misstated(target, device) {
        return (Some(false), false);
    }
    if let Some(seen) = seen.filter(|seen| seen.names_a_machine()) {
        return (matches(target, device, seen), false);
    }
    (None, device.serial.as_deref().and_then(power::serial).is_some())
}

/// Whether a device's description states another serial number than is on file for its host.
fn misstated(target: &Target, device: &Device) -> bool {
    let stated = Identity { serial: device.serial.clone(), ..Identity::default() };
    target.expected.compare(&stated) == Some(false)
}

/// The error of a device whose [`standing`] is a contradiction.
pub(crate) fn wrong_machine(target: &Target, device: &Device, seen: Option<&Identity>) -> FenceError {
    let (name, stated) = (device.name(), device.serial.clone().unwrap_or_default());
    match seen.filter(|seen| seen.names_a_machine() && !misstated(target, device)) {
        Some(seen) => {
            let expected = expected(target, device).to_string();
            FenceError::WrongMachine { device: name, expected, found: seen.to_string() }
        }
        None => FenceError::WrongMachine {
            device: name,
            expected: target.expected.to_string(),
            found: format!("serial {stated} stated in its description"),
        },
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
        use FenceError::{Killed, Silent, Unreachable};
        let lost = matches!(error, Silent { .. } | Killed { .. } | Unreachable { .. });
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
        let (matching, stated) = standing(self.act.target, self.device, identity.as_ref());
        self.act.edit(index, |a| {
            (a.identity, a.identity_matches, a.stated) = (identity.clone(), matching, stated);
        });
        if matching == Some(false) {
            let error = wrong_machine(self.act.target, self.device, identity.as_ref());
            return Session::End(self.fail(index, &error));
        }
        // The operator's word stands in for a drill on record.
        if !stated && let Err(reason) = self.act.gate.accepts(&self.name, identity.as_ref(), matching).await {
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

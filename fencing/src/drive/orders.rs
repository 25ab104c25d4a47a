//! The part of a session in which orders go out and readings come in.
//!
//! Every order passes the gate first. An answer is never taken for more than it says: what was sent and not answered is
//! unknown, what was accepted is verified by reading, and an order is repeated rather than believed lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Driver, End, Goal, Session};
use crate::device::Kind;
use crate::error::FenceError;
use crate::power::{Answer, PowerSession, PowerState, RestorePolicy};
use crate::report::OrderAnswer;

/// By how much a reading's round trip must be shorter than the pause between two readings for the controller to be asked something
/// else in that pause. 4: a change of settings writes to flash and may take a few readings' time.
const UNHURRIED: u32 = 4;
/// What stands for the answer until there is one.
const UNANSWERED: &str = "sent, no answer yet";
/// Orders that failed without a word after which the next level need not wait: one may be bad luck.
const WORDLESS: u32 = 2;

/// Orders and readings of one session.
pub(super) struct Orders<'a, 'd> {
    driver: &'a Driver<'d>,
    index: usize,
    token: Option<String>,
    /// When to order (again), if at all.
    due: Option<Instant>,
    backoff: Duration,
    /// Orders accepted (or answered "already so") in this session: from the first on, readings count.
    accepted: u32,
    /// Orders accepted since the power last read as ordered.
    unobeyed: u32,
    /// The power has read as ordered since the last order.
    obeyed: bool,
    told: bool,
    /// What the device last said beside its answers: perhaps why it does not obey.
    said: Option<String>,
    /// Since when an order is without an answer.
    asked: Option<Instant>,
    /// It came to an end of its own, rather than being dropped with the act.
    ended: bool,
    /// When the answer with the first of the present run of goal readings was in.
    reached: Option<Instant>,
    /// How long the last reading took.
    round_trip: Duration,
    /// Whether the restore policy was looked at: once per session is enough.
    held: bool,
    /// Orders that failed without a word of why.
    failed: u32,
}

impl<'a, 'd> Orders<'a, 'd> {
    pub(super) fn new(driver: &'a Driver<'d>, index: usize, token: Option<String>) -> Self {
        let (due, backoff) = (Some(Instant::now()), driver.act.limits.backoff);
        let (accepted, unobeyed, obeyed, told, reached) = (0, 0, false, false, None);
        let (round_trip, held, failed) = (Duration::ZERO, false, 0);
        let (said, asked, ended) = (None, None, false);
        Self {
            driver,
            index,
            token,
            due,
            backoff,
            accepted,
            unobeyed,
            obeyed,
            told,
            said,
            asked,
            ended,
            reached,
            round_trip,
            held,
            failed,
        }
    }

    pub(super) async fn run(mut self, session: &mut dyn PowerSession) -> Session {
        let end = self.turns(session).await;
        self.ended = true;
        end
    }

    async fn turns(&mut self, session: &mut dyn PowerSession) -> Session {
        let (act, limits) = (self.driver.act, self.driver.act.limits);
        loop {
            if act.stopped() {
                self.unfinished();
                return Session::End(End::Stopped);
            }
            if self.reached.is_none()
                && self.due.is_some_and(|due| due <= Instant::now())
                && let Some(end) = self.order(session).await
            {
                return end;
            }
            if let Some(end) = self.read(session).await {
                return end;
            }
            let next_read = Instant::now() + limits.min_interval;
            // Only an off act ever stands between two readings: On is believed at once.
            if self.reached.is_some() && !std::mem::replace(&mut self.held, true) {
                self.hold(session, next_read).await;
            }
            let due = self.due.filter(|_| self.reached.is_none());
            act.pause(due.map_or(next_read, |due| due.min(next_read))).await;
        }
    }

    /// The act was over and this device was still being waited for, an order's answer first of all.
    fn cut_off(&self) {
        let Some(asked) = self.asked else { return self.unfinished() };
        let (device, after) = (self.driver.name.clone(), asked.elapsed());
        let action = match self.driver.act.goal {
            Goal::Off => "off".to_owned(),
            Goal::On => "on".to_owned(),
        };
        let error = match self.driver.device.kind {
            Kind::Agent => FenceError::Killed { device, action, after },
            _ => {
                let after = Duration::from_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                FenceError::Silent { device, what: action, after }
            }
        };
        let text = error.to_string();
        self.driver.act.edit(self.index, |a| {
            // What an earlier order was answered says more than that this one was not.
            if a.order == OrderAnswer::Unknown(UNANSWERED.to_owned()) {
                a.order = OrderAnswer::Unknown(text.clone());
            }
            a.error.get_or_insert(text);
        });
    }

    /// The act is over and this device is not as ordered: say so where nothing else was said.
    fn unfinished(&self) {
        self.driver.act.edit(self.index, |a| {
            let last = a.readings.last().map_or("nothing".to_owned(), |r| r.state.to_string());
            let text =
                format!("not confirmed in time: {} orders accepted, power last read {last}", self.accepted);
            a.error.get_or_insert(text);
        });
    }

    /// It accepts and does not obey; if it has said why, that too.
    fn disobeyed(&self) {
        let why = self.said.as_ref().map_or_else(String::new, |said| format!(" ({said})"));
        let text =
            format!("accepted {} orders and obeyed none{why}; check the BMC's power control", self.unobeyed);
        self.driver.act.edit(self.index, |a| a.error = Some(text));
    }

    async fn order(&mut self, session: &mut dyn PowerSession) -> Option<Session> {
        let (act, limits) = (self.driver.act, self.driver.act.limits);
        if self.unobeyed >= self.most_orders() {
            // It says yes and does nothing. Somebody else shall try; reading goes on.
            self.due = None;
            if !std::mem::replace(&mut self.told, true) {
                self.disobeyed();
                act.give_up(self.driver.level);
            }
            return None;
        }
        // The gate is asked with the controller in hand: nothing stands between its answer and the order.
        let order = async {
            if let Err(reason) = act.gate.may_send(&self.driver.name, self.token.as_deref()).await {
                return Ok(Err(reason));
            }
            // It may have taken its time.
            if act.stopped() {
                return Ok(Err("the act is over".to_owned()));
            }
            self.asked = Some(Instant::now());
            act.edit(self.index, |a| {
                a.orders += 1;
                // What stands here if the act ends before the answer is in.
                if a.order == OrderAnswer::NotSent {
                    a.order = OrderAnswer::Unknown(UNANSWERED.to_owned());
                }
            });
            let answer = match act.goal {
                Goal::Off => session.off().await,
                Goal::On => session.on().await,
            };
            answer.map(Ok)
        };
        let done = self.driver.command(order).await;
        let sent = self.asked.take().is_some();
        let answer = match done {
            Ok(Err(reason)) => {
                act.edit(self.index, |a| a.error = Some(format!("no order: {reason}")));
                act.stop();
                return Some(Session::End(End::Stopped));
            }
            Ok(Ok(answer)) => Ok(answer),
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                self.accepted += 1;
                self.obeyed = false;
                if (answer, act.goal) == (Answer::AlreadySo, Goal::Off) {
                    // It did nothing, rightly or not. If the power reads On after all, it is asked again as one that is busy.
                    self.wait_backoff(None);
                } else {
                    self.unobeyed += 1;
                    self.backoff = limits.backoff;
                    self.due = Some(Instant::now() + self.reorder_after());
                }
                let answer = match (answer, act.goal) {
                    (Answer::Accepted, _) => OrderAnswer::Accepted,
                    (Answer::AlreadySo, Goal::Off) => OrderAnswer::AlreadyOff,
                    (Answer::AlreadySo, Goal::On) => OrderAnswer::AlreadyOn,
                };
                act.edit(self.index, |a| a.order = answer);
                None
            }
            Err(error) => self.refused(&error, sent),
        }
    }

    fn refused(&mut self, error: &FenceError, sent: bool) -> Option<Session> {
        let (act, limits) = (self.driver.act, self.driver.act.limits);
        let text = error.to_string();
        let unsent = matches!(error, FenceError::NotOffered { .. });
        act.edit(self.index, |a| {
            if sent && unsent {
                a.orders -= 1;
            }
            // What was accepted stays accepted.
            if a.orders == 0 {
                a.order = OrderAnswer::NotSent;
            } else if sent && !unsent && !a.order.is_accepted() {
                a.order =
                    if error.is_unknown() { OrderAnswer::Unknown(text) } else { OrderAnswer::Refused(text) };
            }
        });
        if error.is_final() || error.is_login() {
            return self.driver.after(self.index, error);
        }
        self.driver.note(self.index, error);
        if !error.is_unknown() {
            return Some(Session::End(End::Failed));
        }
        if matches!(error, FenceError::Failed { .. }) {
            self.failed += 1;
            if self.failed == WORDLESS {
                act.give_up(self.driver.level);
            }
        }
        // The reading that follows tells whether it was carried out; the order is repeated all the same, since only an
        // accepted one makes readings count.
        match act.goal {
            Goal::Off => self.wait_backoff(error.retry_after()),
            Goal::On => self.due = Some(Instant::now() + limits.on_settle),
        }
        None
    }

    /// The next order is due after the present backoff, or after what the device asks for.
    fn wait_backoff(&mut self, asked: Option<Duration>) {
        let limits = self.driver.act.limits;
        self.due = Some(Instant::now() + asked.unwrap_or(self.backoff).min(limits.backoff_max));
        self.backoff = (self.backoff * 2).min(limits.backoff_max);
    }

    async fn read(&mut self, session: &mut dyn PowerSession) -> Option<Session> {
        let (driver, limits) = (self.driver, self.driver.act.limits);
        let asked = Instant::now();
        let state = match driver.command(session.read()).await {
            Ok(state) => state,
            Err(error) => {
                // Whatever ended a reading may have restarted the BMC: two Off readings must follow each other.
                self.reach(None);
                return driver.after(self.index, &error);
            }
        };
        if let Some(note) = session.note() {
            self.said = Some(note.clone());
            if self.told {
                self.disobeyed();
            } else {
                driver.act.edit(self.index, |a| a.error = Some(note));
            }
        }
        self.round_trip = asked.elapsed();
        // Nobody need wait for what will not come.
        if state != goal_state(driver.act.goal) && session.came_to_nothing() {
            self.due = self.due.map(|_| Instant::now());
        }
        let after_order = self.accepted > 0;
        driver.record(self.index, state.clone(), asked, after_order);
        self.obedience(&state);
        match (driver.act.goal, state) {
            (Goal::On, PowerState::On) => return Some(Session::End(End::Confirmed)),
            (Goal::Off, PowerState::Off) if after_order => match self.reached {
                Some(first) if asked.duration_since(first) >= limits.min_interval => {
                    return Some(Session::End(End::Confirmed));
                }
                Some(_) => {}
                None => self.reach(Some(Instant::now())),
            },
            _ => self.reach(None),
        }
        None
    }

    /// In the pause before the second reading: the machine shall not start by itself when its supply returns. This costs the
    /// proof no time. Whatever takes longer than the pause is dropped, and a controller that answers slowly is not bothered at
    /// all, since it would be busy with this when the reading is due.
    async fn hold(&self, session: &mut dyn PowerSession, until: Instant) {
        let (driver, act) = (self.driver, self.driver.act);
        let Some(former @ RestorePolicy::AlwaysOn) = session.restore_policy() else { return };
        if self.round_trip * UNHURRIED > act.limits.min_interval {
            return self.leave("the controller answers too slowly to be asked for more just now");
        }
        let change = async {
            act.gate.hold(&driver.name, former).await?;
            let set = async {
                act.edit(self.index, |a| a.held = Some(former));
                session.set_restore_policy(RestorePolicy::AlwaysOff).await
            };
            let done = driver.command(set).await;
            if let Err(FenceError::NotOffered { .. }) = done {
                act.edit(self.index, |a| a.held = None);
            }
            done.map_err(|error| error.to_string())
        };
        tokio::select! {
            biased;
            () = act.ended() => {}
            done = timeout_at(until, change) => match done {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => self.leave(&reason),
                Err(_) => self.leave("no answer in the pause between two readings"),
            }
        }
    }

    fn leave(&self, reason: &str) {
        let note = format!("power restore policy was always on and may still be: {reason}");
        self.driver.act.edit(self.index, |a| a.notes.push(note));
    }

    fn reach(&mut self, reached: Option<Instant>) {
        let near = &self.driver.act.near;
        match (self.reached.is_some(), reached.is_some()) {
            (false, true) => drop(near.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(near.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        self.reached = reached;
    }

    /// What a reading says of the last order. One that was obeyed is spent: if the power comes on again, somebody else did that, and a
    /// new order goes out at once.
    fn obedience(&mut self, state: &PowerState) {
        if self.accepted == 0 {
            return;
        }
        if *state == goal_state(self.driver.act.goal) {
            (self.obeyed, self.unobeyed) = (true, 0);
        } else if matches!(state, PowerState::On) && std::mem::replace(&mut self.obeyed, false) {
            self.due = Some(Instant::now());
        }
    }

    fn most_orders(&self) -> u32 {
        match self.driver.act.goal {
            Goal::Off => self.driver.act.limits.max_orders,
            // A second on could start a machine that somebody fenced after the first.
            Goal::On => 1,
        }
    }

    /// How long the order that was just accepted has.
    fn reorder_after(&self) -> Duration {
        let limits = self.driver.act.limits;
        match (self.driver.act.goal, self.unobeyed) {
            (Goal::Off, 1) => limits.reorder_after,
            (Goal::Off, _) => limits.obey_within,
            (Goal::On, _) => limits.on,
        }
    }
}

fn goal_state(goal: Goal) -> PowerState {
    match goal {
        Goal::Off => PowerState::Off,
        Goal::On => PowerState::On,
    }
}

impl Drop for Orders<'_, '_> {
    fn drop(&mut self) {
        self.reach(None);
        if !self.ended {
            self.cut_off();
        }
    }
}

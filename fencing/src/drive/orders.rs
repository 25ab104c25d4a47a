//! The part of a session in which orders go out and readings come in.
//!
//! Every order passes the gate first. An answer is never taken for more than it says: what was sent and not answered is
//! unknown, what was accepted is verified by reading, and an order is repeated rather than believed lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Driver, End, Goal, Session};
use crate::error::FenceError;
use crate::power::{Answer, PowerSession, PowerState};
use crate::report::OrderAnswer;

/// Orders and readings of one session.
pub(super) struct Orders<'a, 'd> {
    driver: &'a Driver<'d>,
    index: usize,
    token: Option<String>,
    /// When to order (again), if at all.
    due: Option<Instant>,
    backoff: Duration,
    accepted: u32,
    told: bool,
    /// When the answer with the first of the present run of goal readings was in.
    reached: Option<Instant>,
}

impl<'a, 'd> Orders<'a, 'd> {
    pub(super) fn new(driver: &'a Driver<'d>, index: usize, token: Option<String>) -> Self {
        let (due, backoff) = (Some(Instant::now()), driver.act.limits.backoff);
        Self { driver, index, token, due, backoff, accepted: 0, told: false, reached: None }
    }

    pub(super) async fn run(mut self, session: &mut dyn PowerSession) -> Session {
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
            let due = self.due.filter(|_| self.reached.is_none());
            act.pause(due.map_or(next_read, |due| due.min(next_read))).await;
        }
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

    async fn order(&mut self, session: &mut dyn PowerSession) -> Option<Session> {
        let (act, limits) = (self.driver.act, self.driver.act.limits);
        if self.accepted >= self.most_orders() {
            // It says yes and does nothing. Somebody else shall try; reading goes on.
            self.due = None;
            if !std::mem::replace(&mut self.told, true) {
                act.edit(self.index, |a| {
                    a.error = Some(format!(
                        "accepted {} orders and obeyed none; check the BMC's power control",
                        a.orders
                    ));
                });
                act.give_up(self.driver.level);
            }
            return None;
        }
        // The gate is asked with the controller in hand: nothing stands between its answer and the order.
        let mut sent = false;
        let order = async {
            if let Err(reason) = act.gate.may_send(&self.driver.name, self.token.as_deref()).await {
                return Ok(Err(reason));
            }
            // It may have taken its time.
            if act.stopped() {
                return Ok(Err("the act is over".to_owned()));
            }
            sent = true;
            act.edit(self.index, |a| {
                a.orders += 1;
                // What stands here if the act ends before the answer is in.
                if a.order == OrderAnswer::NotSent {
                    a.order = OrderAnswer::Unknown("sent, no answer yet".to_owned());
                }
            });
            let answer = match act.goal {
                Goal::Off => session.off().await,
                Goal::On => session.on().await,
            };
            answer.map(Ok)
        };
        let answer = match self.driver.command(order).await {
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
                self.backoff = limits.backoff;
                self.due = Some(Instant::now() + self.reorder_after());
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
        // The reading that follows tells whether it was carried out; the order is repeated all the same, since only an
        // accepted one makes readings count.
        let pause = match act.goal {
            Goal::Off => error.retry_after().unwrap_or(self.backoff).min(limits.backoff_max),
            Goal::On => limits.on_settle,
        };
        self.backoff = (self.backoff * 2).min(limits.backoff_max);
        self.due = Some(Instant::now() + pause);
        None
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
            driver.act.edit(self.index, |a| a.error = Some(note));
        }
        let after_order = self.accepted > 0;
        driver.record(self.index, state.clone(), asked, after_order);
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

    fn reach(&mut self, reached: Option<Instant>) {
        let near = &self.driver.act.near;
        match (self.reached.is_some(), reached.is_some()) {
            (false, true) => drop(near.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(near.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        self.reached = reached;
    }

    fn most_orders(&self) -> u32 {
        match self.driver.act.goal {
            Goal::Off => self.driver.act.limits.max_orders,
            // A second on could start a machine that somebody fenced after the first.
            Goal::On => 1,
        }
    }

    fn reorder_after(&self) -> Duration {
        match self.driver.act.goal {
            Goal::Off => self.driver.act.limits.reorder_after,
            Goal::On => self.driver.act.limits.on,
        }
    }
}

impl Drop for Orders<'_, '_> {
    fn drop(&mut self) {
        self.reach(None);
    }
}

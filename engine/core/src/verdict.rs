//! Is it dead? From dated evidence to alive, agent lost, failed or cannot tell, with reasons.
//!
//! What this module believes:
//!
//! - Silence is the weakest evidence. It needs time, every path, witnesses, and somebody who asked the host itself; a dead
//!   agent is not a dead host (DESIGN 4, F75).
//! - A report is a claim. On a host that ever had our agent it counts for nothing by itself (I18); on others the segment
//!   says how far it is believed (DESIGN 2.1), and Nova's row can contradict it.
//! - A sign of life inside its window beats everything, the BMC's word included (I17): a device that reads Off while
//!   someone hears the host is a liar, and a fence through it would prove nothing.
//! - "Cannot tell" is an answer. It says what is missing and when to look again.
//!
//! The exceptions are the rows of the three-network table (SAFETY 1.4) where the host lives and its guests do not: storage
//! gone, or nothing but storage left. There the verdict is `Failed` although the host beats.

mod agent;
mod life;
mod report;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::life::{Sight, life_after};
use crate::evidence::{Class, Evidence, Exhibit, Power, PowerReading, ServiceSight};
use crate::guard::{self, Guard};
use crate::policy::Policy;
use crate::text_enum;
use crate::time::Mono;
use crate::watchdog;

text_enum! {
    /// What is believed of a host.
    pub enum Verdict {
        Alive => "alive",
        /// The agent is silent and the host answers: event and ticket, never a fence.
        AgentLost => "agent_lost",
        Failed => "failed",
        CannotTell => "cannot_tell",
    }
}

/// A verdict and everything it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// The strongest class behind `Failed`; `None` for every other verdict.
    pub class: Option<Class>,
    /// For people, each naming source and age.
    pub reasons: Vec<String>,
    /// Stored with a decision, so that it can be replayed and shown.
    pub exhibits: Vec<Exhibit>,
    /// When the answer may change by time alone.
    pub look_again: Option<Mono>,
    /// What `CannotTell` waits for, in words that do not change while it waits; empty otherwise.
    pub waiting_for: String,
    /// `CannotTell` and nothing in sight will change that: a person must look.
    pub asks_operator: bool,
    /// Rests on the report of a trusted reporter: G1 does not apply (DESIGN 2.1).
    pub by_report_only: bool,
    /// Rests on what was *not* heard, so a broken network can make it for many hosts at once (G2).
    pub by_silence: bool,
    /// Independent observers that share the sight, and how many are needed (G1). 0 of 0: first-hand evidence.
    pub agreeing: u32,
    pub needed: u32,
}

impl Judgement {
    /// None was made: a person ordered what is to be done.
    pub fn of_order() -> Judgement {
        Judgement {
            verdict: Verdict::CannotTell,
            class: None,
            reasons: Vec::new(),
            exhibits: Vec::new(),
            look_again: None,
            waiting_for: String::new(),
            asks_operator: false,
            by_report_only: false,
            by_silence: false,
            agreeing: 0,
            needed: 0,
        }
    }

    /// The machine reads Off, or its watchdog has reset it.
    pub fn is_conclusive(&self) -> bool {
        self.verdict == Verdict::Failed && self.class == Some(Class::E0)
    }
}

/// A judgement in words, as stored in an audit record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub verdict: Verdict,
    pub class: Option<Class>,
    pub reasons: Vec<String>,
    pub exhibits: Vec<Exhibit>,
}

impl From<&Judgement> for Record {
    fn from(judgement: &Judgement) -> Record {
        Record {
            verdict: judgement.verdict,
            class: judgement.class,
            reasons: judgement.reasons.clone(),
            exhibits: judgement.exhibits.clone(),
        }
    }
}

/// Judges a host by what was seen of it. Pure: the same evidence, policy and time give the same answer.
pub fn judge(evidence: &Evidence, policy: &Policy, now: Mono) -> Judgement {
    let mut case = Case::new(evidence, policy, now);
    if let Some(at) = case.off_reading().map(|reading| reading.at) {
        match case.contradiction(at, "power read Off") {
            None => return case.power_off(at),
            Some(sight) => case.off_is_a_lie(&sight),
        }
    }
    if let Some(over) = case.lease_over() {
        return case.reset_itself(&over);
    }
    let by_agent = evidence.agent && guard::stands(Guard::ReportsAlone);
    if by_agent { agent::judge(case) } else { report::judge(case) }
}

/// Silence after which silence alone may become a verdict. Never sooner than the floor: `fast` waits for `balanced`'s time.
pub fn time_to_verdict(policy: &Policy) -> Duration {
    Policy::ms((policy.suspect_after_ms + policy.confirm_ms).max(policy.silence_floor_ms))
}

/// How long Nova's row must stand still before it says anything: one report interval and a half, as a living
/// nova-compute changes it every interval and its write may be late (DESIGN 2.1).
pub fn row_window(policy: &Policy) -> Duration {
    Policy::ms(policy.nova_report_interval_ms * 3 / 2)
}

/// What Nova's row says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// Not read of late.
    Unread,
    /// Nova says down.
    Down,
    /// Nova says up, and the row stood still for the window while others moved.
    Still,
    /// Nova says up and the row has not stood still long enough yet; it may at the time given.
    NotYet(Mono),
    /// Too few rows move to say anything about this one.
    Blind,
}

/// A judgement being made.
#[derive(Debug)]
struct Case<'a> {
    evidence: &'a Evidence,
    policy: &'a Policy,
    now: Mono,
    reasons: Vec<String>,
    exhibits: Vec<Exhibit>,
    look_again: Option<Mono>,
    /// A BMC reads Off and something saw the host alive: no fence may rest on that BMC.
    liar: bool,
}

/// What a `Failed` rests on besides its class.
#[derive(Clone, Copy, Debug, Default)]
struct Grounds {
    by_report_only: bool,
    by_silence: bool,
    agreeing: u32,
    needed: u32,
}

impl<'a> Case<'a> {
    fn new(evidence: &'a Evidence, policy: &'a Policy, now: Mono) -> Case<'a> {
        Case {
            evidence,
            policy,
            now,
            reasons: Vec::new(),
            exhibits: Vec::new(),
            look_again: None,
            liar: false,
        }
    }

    fn age(&self, at: Mono) -> Duration {
        self.now.since(at)
    }

    fn say(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    /// An exhibit and the same as a reason.
    fn show(&mut self, class: Class, source: &str, what: impl Into<String>, age: Duration) {
        let what = what.into();
        self.reasons.push(format!("{source}: {what} ({} ago)", seconds(age)));
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.exhibits.push(Exhibit { class, source: source.to_owned(), what, age_ms });
    }

    /// The earliest such time that lies ahead wins.
    fn look_at(&mut self, at: Mono) {
        if at > self.now {
            self.look_again = Some(self.look_again.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn end(self, verdict: Verdict) -> Judgement {
        Judgement {
            verdict,
            class: None,
            reasons: self.reasons,
            exhibits: self.exhibits,
            look_again: self.look_again,
            waiting_for: String::new(),
            asks_operator: false,
            by_report_only: false,
            by_silence: false,
            agreeing: 0,
            needed: 0,
        }
    }

    fn cannot_tell(mut self, waiting_for: impl Into<String>) -> Judgement {
        let waiting_for = waiting_for.into();
        self.say(format!("waiting for {waiting_for}"));
        Judgement { waiting_for, ..self.end(Verdict::CannotTell) }
    }

    fn ask_operator(self, waiting_for: impl Into<String>) -> Judgement {
        Judgement { asks_operator: true, ..self.cannot_tell(waiting_for) }
    }

    fn failed(self, class: Class, grounds: Grounds) -> Judgement {
        if self.liar {
            return self
                .cannot_tell("a BMC that does not contradict a sign of life: its Off would prove nothing");
        }
        let Grounds { by_report_only, by_silence, agreeing, needed } = grounds;
        Judgement {
            class: Some(class),
            by_report_only,
            by_silence,
            agreeing,
            needed,
            ..self.end(Verdict::Failed)
        }
    }

    /// A young Off reading of the right machine. Without identity it may be another's and says nothing (I16).
    fn off_reading(&mut self) -> Option<&'a PowerReading> {
        let reading = self.evidence.power.as_ref()?;
        let age = self.age(reading.at);
        if age > Policy::ms(self.policy.power_fresh_ms) {
            return None;
        }
        match &reading.power {
            Power::Off if reading.identified => Some(reading),
            Power::Off => {
                let what = "power reads Off, on a machine whose identity is not established: not counted";
                self.show(Class::E2, &reading.device, what, age);
                None
            }
            Power::On => {
                self.show(Class::E2, &reading.device, "power reads On", age);
                None
            }
            Power::Other(word) => {
                self.show(Class::E2, &reading.device, format!("power reads {word}: not off"), age);
                None
            }
        }
    }

    /// A sign of life that stands against direct evidence of death made at `at`.
    fn contradiction(&mut self, at: Mono, what: &str) -> Option<Sight> {
        let sight = life_after(self.evidence, self.policy, at, self.now)
            .filter(|_| guard::stands(Guard::Contradiction))?;
        let age = self.age(at);
        self.reasons.push(format!("{what} {} ago, but {}", seconds(age), sight.what));
        self.look_at(sight.until);
        Some(sight)
    }

    fn power_off(mut self, at: Mono) -> Judgement {
        let device = self.evidence.power.as_ref().map_or("BMC", |reading| reading.device.as_str());
        let age = self.age(at);
        self.show(
            Class::E0,
            device,
            "power reads Off on the right machine, after the last sign of life",
            age,
        );
        self.look_at(at + Policy::ms(self.policy.power_fresh_ms + 1));
        self.failed(Class::E0, Grounds::default())
    }

    /// Its watchdog has reset it, wherever else the fault is (SAFETY 1.4: the theorem is E0).
    fn lease_over(&self) -> Option<watchdog::Over> {
        watchdog::over(self.evidence, self.evidence.beats.boot, self.policy, None, self.now).ok()
    }

    fn reset_itself(mut self, over: &watchdog::Over) -> Judgement {
        let what = format!(
            "nothing can have renewed its lease for {:.1} s ({})",
            over.waited_ms as f64 / 1_000.0,
            over.terms
        );
        let age = self.age(over.fired);
        self.show(Class::E0, "watchdog", what, age);
        self.failed(Class::E0, Grounds::default())
    }

    fn off_is_a_lie(&mut self, sight: &Sight) {
        self.liar = true;
        let age = sight.age;
        self.show(Class::E3, &sight.source, "alive although power reads Off: the sign of life wins", age);
    }

    /// Nova's row, if it was read of late: within one report interval, as it is read each second while in doubt.
    fn service(&self) -> Option<&'a ServiceSight> {
        let service = self.evidence.service.as_ref()?;
        (self.age(service.at) <= Policy::ms(self.policy.nova_report_interval_ms)).then_some(service)
    }

    fn row(&self) -> Row {
        let Some(service) = self.service() else { return Row::Unread };
        if !service.up || service.forced_down {
            return Row::Down;
        }
        let window = row_window(self.policy);
        match service.still_since {
            _ if !service.others_moving => Row::Blind,
            Some(since) if service.at.since(since) >= window => Row::Still,
            Some(since) => Row::NotYet(since + window),
            None => Row::NotYet(service.at + window),
        }
    }
}

/// A duration for people.
fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

//! What was wished of the recoveries that this engine drives, until a transition has done it.
//!
//! A wish stays open in the database until the transaction that does what it asks for answers it too: an engine that dies in between
//! leaves it to the recovery's next owner, who reads it there. So nothing here has to survive, but for one thing: a brake stays released
//! for the whole recovery although its wish is answered, and whoever takes the recovery up reads that again ([`super::restore`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use halberd_core::brake::Gate;
use halberd_core::facts::{Confirmation, Facts};
use halberd_core::hook::HookWish;
use halberd_core::host::Asked;
use halberd_core::id::{RecoveryId, WishId};
use halberd_core::recovery::host::{HostState, Purpose};
use halberd_core::recovery::{Body, Recovery, StateWord};
use halberd_core::runner::Commit;
use halberd_core::time::Mono;
use halberd_store::wishes::Answer;
use serde_json::json;

use super::recovery::before_order;

/// What is wished of a recovery.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    Release(Gate),
    Confirm(Confirmation),
    /// Who takes an out host back, and why.
    Readmit(String),
    /// Who cancels it, and why.
    Cancel(String),
    /// Turn its host off, dead or alive.
    Order(Asked),
    /// Switch its host on once it is drained.
    PowerOn(Asked),
    /// About its held hook.
    Hook(HookWish),
}

/// A wish in the hands of the recovery's owner.
#[derive(Clone, Debug)]
pub struct Held {
    pub word: Word,
    /// What is answered when it is done, and said while it is not.
    pub text: String,
    pub since: Mono,
    /// It was said already.
    pub said: bool,
}

#[derive(Debug, Default)]
struct OfRecovery {
    released: Vec<Gate>,
    words: BTreeMap<WishId, Held>,
    /// Pauses are over: try again now.
    retry: bool,
}

/// By recovery, so that the end of one takes nothing from another of the same host.
#[derive(Debug, Default)]
pub struct Kept(Mutex<BTreeMap<RecoveryId, OfRecovery>>);

impl Kept {
    fn all(&self) -> MutexGuard<'_, BTreeMap<RecoveryId, OfRecovery>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a wish for the recovery that it is about.
    pub fn keep(&self, recovery: RecoveryId, wish: WishId, held: Held) {
        self.all().entry(recovery).or_default().words.insert(wish, held);
    }

    pub fn retry(&self, recovery: RecoveryId) {
        self.all().entry(recovery).or_default().retry = true;
    }

    pub fn released(&self, recovery: RecoveryId, gates: Vec<Gate>) {
        self.all().entry(recovery).or_default().released.extend(gates);
    }

    /// The wish, if it is kept for any recovery.
    pub fn held(&self, wish: WishId) -> Option<Held> {
        self.all().values().find_map(|of| of.words.get(&wish)).cloned()
    }

    pub fn said(&self, wish: WishId) {
        for of in self.all().values_mut() {
            if let Some(held) = of.words.get_mut(&wish) {
                held.said = true;
            }
        }
    }

    /// Forgets a wish: it is answered.
    pub fn drop(&self, wish: WishId) {
        self.all().values_mut().for_each(|of| drop(of.words.remove(&wish)));
    }

    /// Forgets every wish that is not open any more.
    pub fn retain(&self, open: impl Fn(WishId) -> bool) {
        self.all().values_mut().for_each(|of| of.words.retain(|wish, _| open(*wish)));
    }

    /// Forgets what was wished of a recovery that this engine drives no more.
    pub fn forget(&self, recovery: RecoveryId) {
        self.all().remove(&recovery);
    }

    /// Tells the recovery's facts. What counts once is told until a transition has taken it up.
    pub fn tell(&self, recovery: RecoveryId, hook_holds: bool, facts: &mut Facts) {
        let mut all = self.all();
        let (confirmation, cancelled, readmitted) =
            (&mut facts.confirmation, &mut facts.cancelled, &mut facts.readmitted);
        (*confirmation, *cancelled, *readmitted) = (None, None, None);
        let Some(of) = all.get_mut(&recovery) else { return };
        facts.fleet.released = of.released.clone();
        for held in of.words.values() {
            match &held.word {
                Word::Release(gate) => facts.fleet.released.push(*gate),
                Word::Confirm(said) => *confirmation = Some(said.clone()),
                Word::Readmit(who) => *readmitted = Some(who.clone()),
                Word::Cancel(who) => *cancelled = Some(who.clone()),
                Word::Order(by) if facts.ordered.is_none() => facts.ordered = Some(by.clone()),
                Word::PowerOn(by) if facts.power_on.is_none() => facts.power_on = Some(by.clone()),
                Word::Hook(wish) if hook_holds && facts.hook_wish.is_none() => {
                    facts.hook_wish = Some(wish.clone());
                }
                Word::Order(_) | Word::PowerOn(_) | Word::Hook(_) => {}
            }
        }
        if std::mem::take(&mut of.retry) {
            facts.not_before = None;
            facts.pauses.clear();
        }
    }

    /// The wishes that this transition does or ends, with their answers.
    pub fn answers(&self, commit: &Commit) -> Vec<Answer> {
        let all = self.all();
        let Some(of) = all.get(&commit.recovery.id) else { return Vec::new() };
        let answer = |(wish, held): (&WishId, &Held)| {
            let (succeeded, text) = match done(&held.word, commit)? {
                Ok(()) => (true, held.text.clone()),
                Err(why) => (false, why),
            };
            let mut result = json!({"text": text, "recovery": commit.recovery.id});
            if let Word::Release(gate) = held.word {
                result["gate"] = json!(gate.to_string());
            }
            Some(Answer { wish: *wish, succeeded, result })
        };
        of.words.iter().filter_map(answer).collect()
    }

    /// These answers are stored.
    pub fn answered(&self, recovery: RecoveryId, answers: &[Answer]) {
        let mut all = self.all();
        let Some(of) = all.get_mut(&recovery) else { return };
        for answer in answers {
            if let Some(Held { word: Word::Release(gate), .. }) = of.words.remove(&answer.wish)
                && answer.succeeded
            {
                of.released.push(gate);
            }
        }
    }
}

/// Whether this transition does what is wished, or makes it impossible; `None`: neither, it goes on being wished.
fn done(word: &Word, commit: &Commit) -> Option<Result<(), String>> {
    let recovery = &commit.recovery;
    let noted = |what: &[&str]| commit.audit.iter().any(|entry| what.contains(&entry.what.as_str()));
    if let Word::Confirm(_) = word
        && let Some(void) = commit.audit.iter().find(|entry| entry.what == "statement_void")
    {
        return Some(Err(void.text.clone()));
    }
    let did = match (word, &recovery.body) {
        (Word::Release(gate), Body::Host(body)) => {
            !matches!(&body.state, HostState::Held { gate: holds } if *holds == gate.to_string())
        }
        (Word::Confirm(_), _) => noted(&["off_confirmed"]),
        (Word::Readmit(_), Body::Return(_)) => {
            !matches!(recovery.word(), StateWord::Draining | StateWord::Out) && recovery.is_open()
        }
        // Before an off order there is no other end.
        (Word::Cancel(_), _) => !recovery.is_open(),
        (Word::Order(_), Body::Host(body)) => matches!(*body.purpose, Purpose::Ordered { failed: None, .. }),
        (Word::PowerOn(by), Body::Return(body)) => {
            body.power_on.as_ref().is_some_and(|wanted| wanted.by == *by)
        }
        (Word::Hook(_), _) => noted(&["hook_released", "hook_retried"]),
        _ => false,
    };
    if did {
        return Some(Ok(()));
    }
    if let (Word::Cancel(_), Body::Host(body)) = (word, &recovery.body)
        && !before_order(&body.state)
        && recovery.is_open()
    {
        return Some(Err(ORDERED.into()));
    }
    (!recovery.is_open()).then(|| Err(ended(recovery)))
}

/// Why a recovery is not cancelled any more.
pub(super) const ORDERED: &str =
    "an off order is written: it cannot be cancelled, only retired by the host's own sign of life";

/// Why nothing is done for a recovery that is closed.
pub(super) fn ended(recovery: &Recovery) -> String {
    format!("the recovery has just ended: it is {}", recovery.word())
}

//! Hooks on a recovery's road: which is run next, what its end means, and whether the road is free (the types stand in
//! [`crate::hook`]).
//!
//! ```text
//! begun: run and intent in one commit -> runs -> ended well -> next hook, or the road is free
//!          ^                               |\--> failed: pause, next attempt; the last one: on_failure
//!          |                               |        continue -> event, the road is free
//!          |                               |        hold -> NeedsOperator -- retry --> begun again
//!          \-- cut off with its engine ----/                               \- release -> the road is free
//! ```
//!
//! [`passed`] is asked by each kind where its road crosses a [`Point`]. It answers from what is stored alone, so a road walked again
//! (a retired order, a voided proof, another owner) does not run a hook twice that has ended. Whatever may stop the road (the host
//! lives, a brake, maintenance) is looked at by the kinds before they ask, at each step: a running hook shields nobody.

use std::time::Duration;

use serde_json::json;

use super::{Body, Recovery, StateWord, Subject};
use crate::effect::{Done, Effect};
use crate::event::EventKind;
use crate::facts::Outcome;
use crate::hook::{About, Closing, HookCall, HookReport, HookRun, HookSpec, OnFailure, Point, RunState};
use crate::policy::Policy;
use crate::step::{Draft, Memory};

/// The effect's word in intents.
pub(crate) const WORD: &str = "run_hook";

/// Pause before a run that was not begun or was cut off is begun again: its cause (a lease not renewed, a slow database) lasts.
const AGAIN: Duration = Duration::from_secs(1);

/// Takes up what came back from hooks, what a former owner left, and an operator's word about a held one. True when anything was.
pub(super) fn digest(draft: &mut Draft<'_>) -> bool {
    let left: Vec<_> = draft
        .view
        .facts
        .inherited
        .iter()
        .filter(|intent| intent.effect == WORD)
        .map(|intent| intent.id)
        .collect();
    for intent in &left {
        let why = "its engine stopped before its end was seen; it is run again under the same id";
        draft.resolve(*intent, "unknown", json!({"why": why}));
    }
    let outcomes: Vec<Outcome> =
        draft.view.facts.outcomes.iter().filter(|outcome| outcome.effect.word() == WORD).cloned().collect();
    for outcome in &outcomes {
        ended(draft, outcome);
    }
    let told = answer(draft);
    let any = !left.is_empty() || !outcomes.is_empty() || told;
    if any && !matches!(draft.body, Body::Host(_)) {
        // The windows of the other kinds count from their last move: a hook's time is not theirs. A host's counts from its order.
        draft.memory.push(Memory::Ordered);
    }
    any
}

/// Whether every hook of this point has ended, or a person let the recovery go on. If not, the next one is begun or waited for.
pub(super) fn passed(draft: &mut Draft<'_>, at: Point) -> bool {
    let next = draft
        .hooks
        .at(at)
        .find(|spec| draft.hooks.run(at, &spec.name).is_none_or(|run| !run.state.lets_pass()))
        .cloned();
    match next {
        Some(spec) => {
            go_on(draft, at, &spec);
            false
        }
        None => true,
    }
}

/// The end of a recovery's road: everything has its end but the post hooks. True when it may close.
pub(super) fn may_close(draft: &mut Draft<'_>, failed: bool, why: &str) -> bool {
    if draft.hooks.at(Point::Post).next().is_none() {
        return true;
    }
    if draft.hooks.closing.is_none() {
        draft.hooks.closing = Some(Closing { failed, why: why.to_owned() });
    }
    passed(draft, Point::Post)
}

/// The same for a guest's or a process' recovery, which may end before anything was done: nobody is told of that.
pub(super) fn may_end(draft: &mut Draft<'_>, word: StateWord, why: &str) -> bool {
    let failed = word == StateWord::Failed;
    let untouched = draft.body.word() == StateWord::Confirming;
    let told = failed || word == StateWord::Finished && !untouched;
    !told || may_close(draft, failed, why)
}

/// After the kind's own step: a closed recovery leaves no hook behind, and one that is held says what it asks.
pub(super) fn settle(draft: &mut Draft<'_>) {
    if draft.body.word().is_closed() {
        return abandon(draft);
    }
    if let Some(said) = draft.hooks.held().map(|run| run.said.clone()) {
        draft.reason = said;
    }
}

fn go_on(draft: &mut Draft<'_>, at: Point, spec: &HookSpec) {
    let known = draft.hooks.run(at, &spec.name).cloned();
    let run = match known {
        // Its question stands as the reason, see [`settle`].
        Some(run) if run.state == RunState::Held => return,
        Some(run) => run,
        None => {
            let run = HookRun {
                id: draft.chance.uuid(),
                hook: spec.name.clone(),
                at,
                attempt: 1,
                allowed: spec.attempts,
                state: RunState::Open,
                said: String::new(),
            };
            draft.hooks.runs.push(run.clone());
            run
        }
    };
    draft.reason = format!(
        "hook {} ({at}) is run, attempt {} of {}, at most {} s each",
        run.hook, run.attempt, run.allowed, spec.timeout_s
    );
    let is_it = |effect: &Effect| matches!(effect, Effect::RunHook { call } if call.run == run.id);
    let under_way =
        draft.view.facts.in_flight.values().chain(draft.acts.iter().map(|(_, effect)| effect)).any(is_it);
    if under_way {
        return;
    }
    if let Some(until) = draft.hook_pause() {
        return draft.look_at(until);
    }
    begin(draft, &run, spec);
}

fn begin(draft: &mut Draft<'_>, run: &HookRun, spec: &HookSpec) {
    let outcome =
        draft.hooks.closing.as_ref().map(|closing| if closing.failed { "failed" } else { "finished" });
    let call = HookCall {
        run: run.id,
        hook: run.hook.clone(),
        at: run.at,
        attempt: run.attempt,
        timeout_s: spec.timeout_s,
        about: about(draft.view.recovery, outcome.filter(|_| run.at == Point::Post)),
    };
    let detail = json!({"hook": run.hook, "at": run.at, "run": run.id, "timeout_s": spec.timeout_s});
    let text = format!("hook {} ({}) started, attempt {} of {}", run.hook, run.at, run.attempt, run.allowed);
    draft.note("hook_started", text, detail.clone());
    draft.act(Effect::RunHook { call: Box::new(call) }, run.attempt, detail);
}

fn about(recovery: &Recovery, outcome: Option<&str>) -> About {
    let (instance, process) = match &recovery.subject {
        Subject::Guest { instance, .. } => (Some(*instance), None),
        Subject::Process { name, .. } => (None, Some(name.clone())),
        Subject::Host { .. } | Subject::Return { .. } => (None, None),
    };
    About {
        recovery: recovery.id,
        kind: recovery.subject.kind().to_owned(),
        host: recovery.host_name.clone(),
        host_id: recovery.subject.host(),
        instance,
        process,
        segment: recovery.segment,
        notification: recovery.notification,
        outcome: outcome.map(Into::into),
    }
}

/// The open run that an outcome belongs to.
fn open_run<'d>(draft: &'d mut Draft<'_>, call: &HookCall) -> Option<&'d mut HookRun> {
    draft
        .hooks
        .runs
        .iter_mut()
        .find(|run| run.id == call.run && run.attempt == call.attempt && run.state == RunState::Open)
}

fn ended(draft: &mut Draft<'_>, outcome: &Outcome) {
    let Effect::RunHook { call } = &outcome.effect else { return };
    let why = match &outcome.done {
        Done::Hook { report } => report.how.clone(),
        Done::Gone { text } | Done::NotExecuted { text } | Done::Unknown { text } => text.clone(),
        Done::Accepted { .. } | Done::Fenced { .. } | Done::Refused { .. } => String::new(),
    };
    draft.resolve(outcome.intent, outcome.done.word(), json!({"why": why, "answer": outcome.done}));
    if open_run(draft, call).is_none() {
        return;
    }
    match &outcome.done {
        Done::Hook { report } if report.ok => {
            let text = format!("hook {} ({}) ended well {}", call.hook, call.at, words(report));
            finish(draft, call, RunState::Done, "hook_done", &text, report);
        }
        Done::Hook { report } => failed(draft, call, report),
        Done::Gone { text } => {
            draft.note("hook_skipped", format!("hook {} ({}): {text}", call.hook, call.at), json!({}));
            if let Some(run) = open_run(draft, call) {
                (run.state, run.said) = (RunState::Skipped, text.clone());
            }
        }
        _ => draft.memory.push(Memory::HookPause(draft.view.now + AGAIN)),
    }
}

fn words(report: &HookReport) -> String {
    format!("after {:.1} s ({})", report.took_ms as f64 / 1_000.0, report.how)
}

fn finish(
    draft: &mut Draft<'_>,
    call: &HookCall,
    state: RunState,
    what: &str,
    text: &str,
    report: &HookReport,
) {
    let detail =
        json!({"hook": call.hook, "at": call.at, "run": call.run, "attempt": call.attempt, "report": report});
    draft.note(what, text, detail);
    if let Some(run) = open_run(draft, call) {
        (run.state, run.said) = (state, text.to_owned());
    }
}

fn failed(draft: &mut Draft<'_>, call: &HookCall, report: &HookReport) {
    let Some(allowed) = open_run(draft, call).map(|run| run.allowed) else { return };
    let on_failure = draft.hooks.apply.iter().find(|spec| spec.name == call.hook).map(|spec| spec.on_failure);
    let text = format!(
        "hook {} ({}) failed {}, attempt {} of {allowed}",
        call.hook,
        call.at,
        words(report),
        call.attempt
    );
    if call.attempt < allowed {
        finish(draft, call, RunState::Open, "hook_failed", &text, report);
        if let Some(run) = open_run(draft, call) {
            run.attempt += 1;
        }
        let pause = Policy::ms(draft.view.policy().retry_ms);
        return draft.memory.push(Memory::HookPause(draft.view.now + pause));
    }
    let event = json!({"hook": call.hook, "at": call.at, "run": call.run, "attempt": call.attempt, "how": report.how});
    if on_failure == Some(OnFailure::Hold) {
        finish(draft, call, RunState::Open, "hook_failed", &text, report);
        let id = draft.view.recovery.id;
        let asked = format!(
            "{text}: held as configured. `halberd recovery retry {id}` runs it again, `halberd recovery release {id}` goes on \
             without it"
        );
        if let Some(run) = open_run(draft, call) {
            (run.state, run.said) = (RunState::Held, asked.clone());
        }
        draft.note("hook_held", format!("held at {} by hook {}", call.at, call.hook), json!({}));
        draft.message = Some(asked.clone());
        return draft.tell(EventKind::RecoveryNeedsOperator, &asked, event);
    }
    let text = format!("{text}; the recovery goes on");
    finish(draft, call, RunState::Failed, "hook_failed", &text, report);
    draft.tell(EventKind::HookFailed, &text, event);
}

/// An operator's word about the held hook.
fn answer(draft: &mut Draft<'_>) -> bool {
    let Some(wish) = draft.view.facts.hook_wish.clone() else { return false };
    let attempts = |hooks: &crate::hook::Hooks, name: &str| {
        hooks.apply.iter().find(|spec| spec.name == name).map_or(1, |spec| spec.attempts)
    };
    let Some(held) = draft.hooks.held().cloned() else { return false };
    let more = attempts(&draft.hooks, &held.hook);
    let text = if wish.retry {
        format!("hook {} ({}) is run again, asked for by {}", held.hook, held.at, wish.who)
    } else {
        format!("released by {}: goes on without hook {} ({})", wish.who, held.hook, held.at)
    };
    if let Some(run) = draft.hooks.runs.iter_mut().find(|run| run.id == held.id) {
        run.said = text.clone();
        if wish.retry {
            (run.state, run.attempt, run.allowed) = (RunState::Open, run.attempt + 1, run.attempt + more);
        } else {
            run.state = RunState::Released;
        }
    }
    draft.note(if wish.retry { "hook_retried" } else { "hook_released" }, text.clone(), json!({}));
    draft.tell(EventKind::RecoveryResumed, &text, json!({}));
    draft.reason = text;
    draft.memory.push(Memory::HookWish);
    true
}

/// Nobody waits for the end of a hook whose recovery is closed: it is stopped, and its intent does not stay open (I13).
fn abandon(draft: &mut Draft<'_>) {
    let running: Vec<_> = draft
        .view
        .facts
        .in_flight
        .iter()
        .filter_map(|(intent, effect)| match effect {
            Effect::RunHook { call } => Some((*intent, call.clone())),
            _ => None,
        })
        .collect();
    for (intent, call) in running {
        let text = format!("hook {} ({}) is stopped: its recovery has closed", call.hook, call.at);
        draft.resolve(intent, "abandoned", json!({"why": text}));
        draft.note("hook_abandoned", text, json!({"run": call.run}));
    }
    for run in draft.hooks.runs.iter_mut().filter(|run| !run.state.lets_pass()) {
        run.state = RunState::Abandoned;
    }
}

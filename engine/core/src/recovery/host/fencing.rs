//! Fencing: an order is written. It ends in a proof, in a question, or retired because the host lives.

use super::*;
use crate::watchdog::{self, NotOver};

pub(super) fn fencing(draft: &mut Draft<'_>, host: &Host, order: Order) {
    if confirmed_by_operator(draft, host) {
        return;
    }
    if let Some(revoked) = body(draft).retiring {
        return retiring(draft, host, &order, revoked);
    }
    let answer = draft.view.facts.outcomes.iter().find(|outcome| Some(outcome.intent) == order.intent);
    if let Some(outcome) = answer.cloned() {
        return fence_ended(draft, host, order, &outcome);
    }
    if draft.view.facts.in_flight("power_off") {
        return;
    }
    if draft.not_before().is_none() && asked::resume(draft, host, &order) {
        return;
    }
    if let Some(at) = draft.not_before() {
        if retire_if_alive(draft, host, &order) == Life::Retired {
            return;
        }
        // Nobody was asked so far only where its lease was about to run out.
        let awaited = matches!(state(draft), HostState::Fencing { .. });
        match by_lease(draft, host, &order) {
            ByLease::Proved => return,
            ByLease::Runs(waits) if awaited => draft.reason = waits,
            ByLease::No if awaited => {
                let text = format!(
                    "{} could not be proved off: no device confirms it, and its watchdog's lease proves nothing. Cut its power and confirm with its serial, or mend a device; it is tried again each minute",
                    host.name
                );
                return needs_operator(draft, Some(order), None, &text);
            }
            ByLease::Runs(_) | ByLease::No => {}
        }
        return draft.look_at(at.min(draft.view.now + std::time::Duration::from_millis(LOOK_MS)));
    }
    resume_order(draft, host, &order);
}

fn fence_ended(draft: &mut Draft<'_>, host: &Host, order: Order, outcome: &Outcome) {
    let (report, error) = answer_of(&outcome.done);
    let host = &note_hold(draft, host, &report);
    let detail = json!({"attempts": report.attempts});
    let liar = heard_since_off(draft, &report);
    let proof =
        fence::prove(host.id, order.boot_number, draft.view.recovery.epoch, &report).and_then(|proof| {
            match liar {
                Some(why) => Err(fence::NotProved::Contradicted(why)),
                None => Ok(proof),
            }
        });
    draft.resolve(outcome.intent, if proof.is_ok() { "done" } else { "not_proved" }, detail.clone());
    match proof {
        Ok(proof) => {
            // From now on a beat of this boot contradicts the proof instead of renewing anything (DESIGN 10.7).
            let patch = HostPatch {
                proof: Some(Some(proof.clone())),
                retire_boot: host.boot,
                ..HostPatch::default()
            };
            draft.hosts.push((host.id, patch));
            let how = format!("{} is off, read twice", host.name);
            draft.note("host_fenced", how.clone(), detail);
            draft.tell(EventKind::HostFenced, &how, json!({"proof": proof}));
            draft.memory.push(Memory::Proved);
            become_state(draft, HostState::Proved { order, proof, marked_down: false }, &how);
        }
        Err(why) => {
            let why = error.map_or_else(|| why.to_string(), |error| format!("{why} ({error})"));
            draft.note("fence_not_proved", why.clone(), detail);
            asked::give_up(draft, &why);
            match retire_if_alive(draft, host, &order) {
                Life::Retired => return,
                Life::Asking => {
                    draft.reason = format!("{why}; it has spoken since the order, its power is being read");
                    return draft.look_after(LOOK_MS);
                }
                Life::None => {}
            }
            let retry = draft.view.policy().fence_retry_ms;
            draft.memory.push(Memory::NotBefore(draft.view.now + std::time::Duration::from_millis(retry)));
            match by_lease(draft, host, &order) {
                ByLease::Proved => return,
                ByLease::Runs(waits) => {
                    body(draft).state = HostState::Fencing { order };
                    draft.reason = waits;
                    return draft.look_after(LOOK_MS);
                }
                ByLease::No => {}
            }
            let text = format!(
                "{} could not be proved off: {why}. Cut its power and confirm with its serial, or mend the device; it is tried again each minute",
                host.name
            );
            needs_operator(draft, Some(order), None, &text);
        }
    }
}

/// What the watchdog's lease came to.
enum ByLease {
    Proved,
    /// It may prove it soon; in words.
    Runs(String),
    No,
}

/// After an act that proved nothing: has the host's own watchdog turned it off? Its devices were asked first and are asked once more, since
/// no lease counts against one that reads On (SAFETY 2.3).
fn by_lease(draft: &mut Draft<'_>, host: &Host, order: &Order) -> ByLease {
    let (facts, policy, now) = (draft.view.facts, draft.view.policy(), draft.view.now);
    // A boot that was proved off before and came to life again has a watchdog that does not do what it attests.
    let retired = host.boot.is_some_and(|boot| host.retired_boots.contains(&boot));
    if order.boot_number != host.boot_number || retired {
        return ByLease::No;
    }
    // Who took this over did not hear what was renewed before; it waits the whole time (SAFETY 2.3 b).
    let not_before = (draft.view.recovery.epoch > 1).then_some(facts.claimed_at);
    let boot = (order.boot_number, host.boot);
    let epoch = draft.view.recovery.epoch;
    let query = Query::Power { host: host.id };
    let young = |at: Mono| now.since(at).as_millis() as u64 <= policy.power_fresh_ms;
    let asked = facts.evidence.only_watchdog
        || facts.failures.get(&query).is_some_and(|failure| young(failure.at))
        || facts.power.as_ref().is_some_and(|reading| young(reading.at));
    let proof = match fence::expire(host.id, boot, epoch, &facts.evidence, policy, not_before, now) {
        Ok(proof) => proof,
        Err(fence::NotProved::Watchdog(NotOver::Runs { until, .. })) => {
            let safe =
                watchdog::terms(&facts.evidence, host.boot, policy).map_or(0, |terms| terms.safe_after_ms);
            let since = facts.ordered_at.unwrap_or(facts.claimed_at);
            let patient = now.since(since).as_millis() as u64 <= 2 * safe;
            draft.look_after(LOOK_MS);
            if let Some(until) = until {
                draft.look_at(until);
                // A device that does not answer takes its time not to.
                if !asked && until.since(now).as_millis() as u64 <= REREAD_POWER_MS {
                    draft.ask(query);
                }
            }
            let words = "no device proves it off; its watchdog's lease has to run out";
            return if patient { ByLease::Runs(words.to_owned()) } else { ByLease::No };
        }
        Err(_) => return ByLease::No,
    };
    if !asked {
        draft.ask(query);
        return ByLease::Runs("its watchdog's lease has run out; its power is read once more".into());
    }
    let patch =
        HostPatch { proof: Some(Some(proof.clone())), retire_boot: host.boot, ..HostPatch::default() };
    draft.hosts.push((host.id, patch));
    let how = format!("{} has reset itself: nothing renewed its watchdog's lease for long enough", host.name);
    draft.note("lease_expired", how.clone(), json!({"proof": proof}));
    draft.tell(EventKind::HostFenced, &how, json!({"proof": proof}));
    draft.memory.push(Memory::Proved);
    become_state(draft, HostState::Proved { order: order.clone(), proof, marked_down: false }, &how);
    ByLease::Proved
}

/// What a fence act saw, or why it saw nothing.
pub(super) fn answer_of(done: &Done) -> (fence::FenceReport, Option<String>) {
    match done {
        Done::Fenced { report } => (report.clone(), None),
        Done::Refused { text, .. }
        | Done::Gone { text }
        | Done::NotExecuted { text }
        | Done::Unknown { text } => (fence::FenceReport::default(), Some(text.clone())),
        Done::Accepted { note } => (fence::FenceReport::default(), Some(note.clone())),
        Done::Hook { .. } => (fence::FenceReport::default(), Some("not a fencer's answer".to_owned())),
    }
}

/// A controller that was told to keep the machine off is told otherwise on its way back: the host's row remembers.
pub(super) fn note_hold(draft: &mut Draft<'_>, host: &Host, report: &fence::FenceReport) -> Host {
    let mut host = host.clone();
    if report.held() && !host.set_by_us.restore_policy {
        host.set_by_us.restore_policy = true;
        let patch = HostPatch { set_by_us: Some(host.set_by_us), ..HostPatch::default() };
        draft.hosts.push((host.id, patch));
        draft.note("power_held", format!("{} stays off when its supply comes back", host.name), json!({}));
    }
    host
}

/// A sign of life younger than the first Off reading vetoes the proof: the device lies, or speaks of another machine (FENCING 2.1).
fn heard_since_off(draft: &Draft<'_>, report: &fence::FenceReport) -> Option<String> {
    let facts = draft.view.facts;
    let off_since =
        facts.ordered_at? + std::time::Duration::from_millis(report.off_since_ms()? + DATING_SLACK_MS);
    let heard = last_echoed(draft).filter(|at| *at > off_since)?;
    let ago = draft.view.now.since(heard).as_secs_f64();
    let devices: Vec<&str> = report.attempts.iter().map(|attempt| attempt.device.as_str()).collect();
    Some(format!(
        "its agent was heard {ago:.1} s ago although {} says Off: the device is not to be trusted",
        devices.join(", ")
    ))
}

/// The newest beat that nobody could have replayed, of the fenced boot too.
pub(super) fn last_echoed(draft: &Draft<'_>) -> Option<Mono> {
    let beats = &draft.view.facts.evidence.beats;
    beats.last_echoed.max(beats.retired_echoed)
}

/// An order found without its answer (a restart), or one whose pause is over: look first, then order again. Off is idempotent.
fn resume_order(draft: &mut Draft<'_>, host: &Host, order: &Order) {
    if retire_if_alive(draft, host, order) != Life::None {
        return draft.look_after(LOOK_MS);
    }
    let policy = draft.view.policy();
    let listened_since = draft.view.facts.claimed_at.max(draft.view.facts.evidence.beats.listening_since);
    let window = policy.suspect_after_ms + policy.confirm_ms;
    let listened = draft.view.now.since(listened_since).as_millis() as u64 >= window;
    let power = draft.view.facts.fresh_power(draft.view.now, policy.power_fresh_ms).cloned();
    let silent = last_life(draft).is_none_or(|at| draft.view.now.since(at).as_millis() as u64 > window);
    match power {
        Some(Power::Off) => {
            order_off(draft, host, order.attempt + 1, "it reads off; off is ordered all the same")
        }
        _ if boots_anew(draft, host) && !body(draft).evacuated => {
            order_off(draft, host, order.attempt + 1, "it has booted since the order")
        }
        _ if listened && (silent || body(draft).evacuated) => {
            order_off(draft, host, order.attempt + 1, "silent for a full window")
        }
        _ => {
            draft.ask(Query::Power { host: host.id });
            draft.look_after(LOOK_MS);
        }
    }
}

/// Last sign of life since the order that nobody could have replayed: an echoed beat, or for a host without an agent a change
/// of Nova's row that was not ours.
fn last_life(draft: &Draft<'_>) -> Option<Mono> {
    let evidence = &draft.view.facts.evidence;
    if evidence.agent {
        // A boot that was retired by a proof which life has voided still is life.
        evidence.beats.last_echoed.max(evidence.beats.retired_echoed)
    } else {
        evidence.service.as_ref().and_then(|service| service.changed_after.or(service.changed_at))
    }
}

/// It has spoken since the order from another boot than the one that it was written for: the row does not number boots of a host that is
/// out.
fn boots_anew(draft: &Draft<'_>, host: &Host) -> bool {
    let facts = draft.view.facts;
    let since = facts.ordered_at.unwrap_or(facts.claimed_at);
    let beats = &facts.evidence.beats;
    host.boot.is_some()
        && beats.boot.is_some_and(|boot| host.boot != Some(boot))
        && beats.last_echoed.is_some_and(|at| at > since)
}

/// What a look for life after an order came to.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    None,
    /// It has spoken since the order, and its power is being read.
    Asking,
    /// It lives: the order is retired.
    Retired,
}

/// A healthy host is not shot: reads On and has given a sign of life since the order, before the first evacuation (DESIGN 10.3).
fn retire_if_alive(draft: &mut Draft<'_>, host: &Host, order: &Order) -> Life {
    let facts = draft.view.facts;
    let since = facts.ordered_at.unwrap_or(facts.claimed_at);
    let alive = last_life(draft).is_some_and(|at| at > since);
    let same_boot = order.boot_number == host.boot_number && !boots_anew(draft, host);
    if !alive || !same_boot || body(draft).evacuated {
        return Life::None;
    }
    let query = Query::Power { host: host.id };
    match facts.fresh_power(draft.view.now, draft.view.policy().power_fresh_ms) {
        // Nobody was ordered anything: what beats was never shot, and its power cannot be read.
        _ if facts.evidence.only_watchdog => {}
        Some(Power::On) => {}
        Some(_) => return Life::None,
        None if facts.failures.get(&query).is_some_and(|failure| failure.count >= READINGS_TRIED) => {
            return Life::None;
        }
        None => {
            draft.ask(query);
            return Life::Asking;
        }
    }
    // Nova may take it any moment: what it has taken is what has to be undone.
    if facts.in_flight("mark_down") {
        draft.reason = "it lives; Nova's answer is waited for, to be undone".into();
        return Life::Asking;
    }
    let unretire_boot = host.boot.filter(|boot| host.retired_boots.contains(boot));
    let set = host.set_by_us;
    if body(draft).proved || set.forced_down || set.disabled || set.restore_policy {
        return retire_by_return(draft, host, unretire_boot);
    }
    draft.note(
        "order_retired",
        format!("{} reads On and has spoken since the order: it is not shot", host.name),
        json!({}),
    );
    draft.memory.push(Memory::OrdersOver);
    body(draft).retiring = Some(false);
    let state = HostState::Fencing { order: order.clone() };
    become_state(draft, state, "it lives; what was ordered has to be dead before it is in again");
    Life::Retired
}

/// It lived when it was last looked at. It is in again once nothing that was ordered can reach it any more (DESIGN 10.3), and judged all the
/// while: a host that dies now is ordered off again.
fn retiring(draft: &mut Draft<'_>, host: &Host, order: &Order, revoked: bool) {
    let drained = admission::drain::drain(draft, host, revoked);
    body(draft).retiring = Some(drained.revoked);
    draft.look_after(LOOK_MS);
    let facts = draft.view.facts;
    if drained.over {
        let patch = HostPatch {
            admission: Some(Admission::In),
            maintenance_recovery: Some(false),
            proof: Some(None),
            only_if: Some(HostCondition::BootNumber(order.boot_number)),
            ..HostPatch::default()
        };
        draft.hosts.push((host.id, patch));
        body(draft).retiring = None;
        return become_state(draft, HostState::Confirming, "it came back before anything was moved");
    }
    let judgement = verdict::judge(&facts.evidence, draft.view.policy(), draft.view.now);
    if judgement.verdict != Verdict::Failed || !draft.acts.is_empty() || facts.in_flight("revoke_sessions") {
        return;
    }
    let power_on = facts.fresh_power(draft.view.now, draft.view.policy().power_fresh_ms) == Some(&Power::On);
    let subject = brake::Subject { power_on, ..brake::Subject::of(host, facts.segment_enabled) };
    match brake::may_fence(&subject, &judgement, &facts.fleet, draft.view.policy(), draft.view.now) {
        Answer::Permit(_) => {
            let why = format!("it died before its order was retired: {}", judgement.reasons.join("; "));
            order_off(draft, host, order.attempt + 1, &why);
        }
        // Once it is in, it is held by that like any other.
        Answer::Withheld { gate, reason, .. } => draft.reason = format!("held by {gate}: {reason}"),
    }
}

/// It lives, but a proof said otherwise: closed here, and what was set is undone on the road that every returning host takes
/// (DESIGN 10.1), by one hand alone. That road also looks for guests that others rebuilt elsewhere meanwhile.
fn retire_by_return(draft: &mut Draft<'_>, host: &Host, unretire_boot: Option<BootId>) -> Life {
    let marks: Vec<Outcome> =
        draft.view.facts.outcomes.iter().filter(|out| out.effect.word() == "mark_down").cloned().collect();
    for outcome in marks {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
    }
    let patch = HostPatch { proof: Some(None), unretire_boot, ..HostPatch::default() };
    draft.hosts.push((host.id, patch));
    open_return(draft, host, admission::HostReturn::alive());
    let why = format!(
        "{} reads On and has spoken since the order; what was set in Nova is undone on its way back",
        host.name
    );
    draft.note("order_retired", why.clone(), json!({}));
    cancel(draft, &why);
    Life::Retired
}

/// What speaks against the proof since it was made.
pub(super) fn contradicted(draft: &Draft<'_>) -> Option<&'static str> {
    let facts = draft.view.facts;
    let since = facts.proved_at.unwrap_or(facts.claimed_at);
    let beat = last_echoed(draft).filter(|at| *at > since);
    let on = facts
        .power
        .as_ref()
        .filter(|reading| reading.identified && reading.at > since && reading.power == Power::On);
    let leased = matches!(&draft.body, Body::Host(body)
        if body.state.proof().is_some_and(|proof| matches!(proof.means(), fence::Means::Lease { .. })));
    if leased && (beat.is_some() || lived_since(draft, since)) {
        return Some("it shows life although its watchdog should have reset it, or it has booted again");
    }
    match (beat, on) {
        (Some(_), _) => Some("its agent beats although its device said Off: the device is not to be trusted"),
        (None, Some(_)) => Some("it reads On again"),
        (None, None) => None,
    }
}

/// A proof by time rests on no device that could be read again, so any sign of life since speaks against it: a beat that nobody echoed, a
/// witness, its user land, Nova's row (I3).
fn lived_since(draft: &Draft<'_>, since: Mono) -> bool {
    let evidence = &draft.view.facts.evidence;
    evidence.beats.received.is_some_and(|at| at > since)
        || verdict::life_after(evidence, draft.view.policy(), since, draft.view.now).is_some()
}

/// Life after the proof voids it: fenced afresh through all levels, guests wait (DESIGN 10.3, 10.7).
pub(super) fn void_if_alive(draft: &mut Draft<'_>, host: &Host, order: &Order) -> bool {
    let facts = draft.view.facts;
    let Some(why) = contradicted(draft) else { return false };
    let text = format!("{}: {why}; evacuations stop, fenced afresh", host.name);
    draft.note("proof_voided", text.clone(), json!({"why": why}));
    draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({"why": why}));
    if body(draft).evacuated || !facts.evidence.has_device {
        order_off(draft, host, order.attempt + 1, &text);
        return true;
    }
    // Nothing was moved yet: the same as an order found open.
    out(draft, host, None);
    draft.memory.push(Memory::Ordered);
    become_state(draft, HostState::Fencing { order: order.clone() }, &text);
    true
}

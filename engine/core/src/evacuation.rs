//! Moving the guests of a host that is proved off, one answer for each (DESIGN 2.7, 2.8, 10.4-10.6).
//!
//! Nova's evacuate has no precondition of ours and takes a second call for the same guest, which damages it (NOVA.md). So the
//! only guards are here: the intent row, the migration records that existed before it, and the call's lifetime. A call whose
//! fate is unknown is looked up, never repeated by guess.

use serde_json::json;
use uuid::Uuid;

use crate::effect::{Done, Effect, Migration, Query};
use crate::event::EventKind;
use crate::facts::Outcome;
use crate::id::{InstanceId, VmoveId};
use crate::instance::{Guest, Plan, Wanted, plan};
use crate::recovery::host::Reserve;
use crate::recovery::{Body, LockMark, Stage, Vmove, VmoveStatus};
use crate::runner::{HostCondition, HostPatch};
use crate::segment::Placement;
use crate::step::{Draft, Memory};
use crate::time::Mono;

/// A listing this young answers for a first call; only a repeat asks for the single guest (DESIGN 10.6, I26).
const LISTING_FRESH_MS: u64 = 2_000;
/// While guests wait to be sent the next listing starts before the last one is stale.
const LISTING_AGAIN_MS: u64 = 1_200;
/// A record that names no destination after this long is looked up by its action.
const ASK_ACTION_AFTER_MS: u64 = 10_000;
/// A stop or start that Nova took is not repeated sooner.
const REPEAT_POWER_MS: u64 = 10_000;
/// While the cloud says "not now", one call goes out this often.
const BREAKER_MS: u64 = 1_000;

/// How the guests stand after a step.
#[derive(Debug, Default)]
pub struct Guests {
    /// Not yet accepted by Nova.
    pub unsent: usize,
    pub open: usize,
    pub failed: usize,
    /// Guests that need a person, in words.
    pub blocked: Vec<String>,
    /// Every listed guest has its end and two listings agree.
    pub settled: bool,
}

/// Marks our locks, so that a lock found after a crash is known as ours.
pub fn lock_reason(draft: &Draft<'_>) -> String {
    format!("halberd recovery {}", draft.view.recovery.id)
}

/// One step for all guests. `may_send` says that the proof holds at this moment (I3).
pub fn advance(draft: &mut Draft<'_>, may_send: bool) -> Guests {
    digest(draft);
    adopt_listed(draft);
    survey_when_due(draft);
    let mut order: Vec<(bool, String, InstanceId)> = draft
        .all_moves()
        .filter(|vmove| vmove.stage != Stage::Done)
        .map(|vmove| (!vmove.ha_enabled, vmove.instance_name.clone(), vmove.instance))
        .collect();
    order.sort();
    let mut slots = Slots::new(draft);
    let mut guests = Guests::default();
    for (_, _, instance) in order {
        guide(draft, instance, may_send, &mut slots, &mut guests);
    }
    sum_up(draft, &mut guests);
    guests
}

/// Calls that may still go out now: those that move guests, and those that finish moves.
struct Slots {
    out: usize,
    back: usize,
}

impl Slots {
    fn new(draft: &Draft<'_>) -> Slots {
        let facts = draft.view.facts;
        let cap = if draft.breaker() { 1 } else { draft.view.policy().evacuations_in_flight as usize };
        let paused = draft.breaker() && draft.not_before().is_some();
        let count = |out: bool| {
            facts
                .in_flight
                .values()
                .filter(|effect| effect.instance().is_some() && is_out(effect) == out)
                .count()
        };
        let free = |busy: usize| if paused { 0 } else { cap.saturating_sub(busy) };
        Slots { out: free(count(true)), back: free(count(false)) }
    }
}

fn is_out(effect: &Effect) -> bool {
    matches!(effect, Effect::Lock { .. } | Effect::ResetToError { .. } | Effect::Evacuate { .. })
}

/// Takes up what came back from the calls.
fn digest(draft: &mut Draft<'_>) {
    let outcomes: Vec<Outcome> = draft
        .view
        .facts
        .outcomes
        .iter()
        .filter(|outcome| outcome.effect.instance().is_some())
        .cloned()
        .collect();
    for outcome in outcomes {
        let Some(instance) = outcome.effect.instance() else { continue };
        match &outcome.done {
            Done::NotExecuted { .. } => {
                draft.memory.push(Memory::Breaker(true));
                draft
                    .memory
                    .push(Memory::NotBefore(draft.view.now + std::time::Duration::from_millis(BREAKER_MS)));
            }
            Done::Accepted { .. } if draft.view.facts.breaker => draft.memory.push(Memory::Breaker(false)),
            _ => {}
        }
        if let Effect::Evacuate { .. } = outcome.effect {
            digest_evacuate(draft, instance, &outcome);
        } else {
            draft.resolve(outcome.intent, outcome.done.word(), json!({}));
            digest_other(draft, instance, &outcome);
        }
    }
}

fn digest_evacuate(draft: &mut Draft<'_>, instance: InstanceId, outcome: &Outcome) {
    draft.taken.push(outcome.intent);
    match &outcome.done {
        Done::Accepted { note } => {
            draft.edit(instance, |vmove| vmove.stage = Stage::Accepted);
            draft.memory.push(Memory::AcceptedSince(instance));
            draft.note(
                "evacuation_accepted",
                format!("Nova took the evacuation of {}", name(draft, instance)),
                json!({"instance": instance, "request": note}),
            );
        }
        Done::NotExecuted { text } => {
            settle_intent(draft, instance, outcome.done.word());
            let text = text.clone();
            draft.edit(instance, |vmove| {
                vmove.stage = Stage::Ready;
                vmove.message = Some(format!("not executed, tried again: {text}"));
            });
            pause(draft, instance, BREAKER_MS);
        }
        Done::Refused { status, text } => {
            let why = format!("Nova refused ({status}): {text}");
            settle_intent(draft, instance, outcome.done.word());
            fail(draft, instance, &why);
        }
        Done::Gone { text } => {
            settle_intent(draft, instance, outcome.done.word());
            let why = format!("Nova says not found: {text}");
            fail(draft, instance, &why);
        }
        Done::Unknown { text } => {
            let text = text.clone();
            draft.edit(instance, |vmove| vmove.message = Some(format!("outcome unknown, looked up: {text}")));
            draft.memory.push(Memory::UnknownSince(instance));
        }
        Done::Fenced { .. } => {}
    }
}

fn digest_other(draft: &mut Draft<'_>, instance: InstanceId, outcome: &Outcome) {
    let again = matches!(outcome.done, Done::NotExecuted { .. } | Done::Unknown { .. });
    let gone = matches!(outcome.done, Done::Gone { .. });
    if again {
        return pause(draft, instance, draft.view.policy().retry_ms);
    }
    match outcome.effect {
        Effect::Lock { .. } if gone => end(draft, instance, VmoveStatus::Ignored, "deleted by its owner"),
        Effect::Lock { .. } => {
            let refused = matches!(outcome.done, Done::Refused { .. });
            draft.edit(instance, |vmove| {
                if refused {
                    vmove.lock = LockMark::Theirs;
                }
                vmove.stage = if vmove.reset { Stage::Resetting } else { Stage::Ready };
            });
        }
        Effect::ResetToError { .. } if gone => {
            end(draft, instance, VmoveStatus::Ignored, "deleted by its owner")
        }
        Effect::ResetToError { .. } => {
            let erroring = draft.vmove(instance).is_some_and(|vmove| vmove.stage == Stage::Erroring);
            if let Done::Refused { text, .. } = &outcome.done {
                let why = format!("Nova refused to reset its state: {text}");
                end(draft, instance, VmoveStatus::Failed, &why);
            } else if erroring {
                end(draft, instance, VmoveStatus::Succeeded, "in error again, as it was before");
            } else {
                draft.edit(instance, |vmove| vmove.stage = Stage::Ready);
            }
        }
        Effect::Stop { .. } | Effect::Start { .. } => pause(draft, instance, REPEAT_POWER_MS),
        Effect::Unlock { .. } => close(draft, instance),
        _ => {}
    }
}

/// Gives every guest that the survey lists its move.
fn adopt_listed(draft: &mut Draft<'_>) {
    let Some(survey) = draft.view.facts.survey.as_ref() else { return };
    let recovery = draft.view.recovery;
    let new: Vec<Guest> = survey
        .guests
        .iter()
        .filter(|guest| guest.host.as_deref() == Some(&recovery.host_name) && draft.vmove(guest.id).is_none())
        .cloned()
        .collect();
    for guest in new {
        let planned = plan(&guest, draft.view.policy());
        let id = VmoveId(draft.chance.uuid());
        let mut vmove = Vmove {
            id,
            recovery: recovery.id,
            notification: recovery.notification,
            instance: guest.id,
            instance_name: guest.name.clone(),
            source_host: recovery.host_name.clone(),
            dest_host: None,
            status: VmoveStatus::Pending,
            message: None,
            start_time: None,
            end_time: None,
            stage: Stage::Planned,
            ha_enabled: guest.is_ha_enabled(),
            wanted: Wanted::Active,
            reset: false,
            vm_state: guest.vm_state.clone(),
            task_state: guest.task_state.clone(),
            lock: LockMark::Open,
            attempt: 0,
            failures: 0,
            placement: 0,
            target: None,
            tried: Vec::new(),
            intent: None,
            known_migrations: Vec::new(),
            migration: None,
            ends: None,
        };
        match planned {
            Plan::Evacuate { reset, wanted } => {
                vmove.reset = reset;
                vmove.wanted = wanted;
            }
            Plan::Leave { reason } => {
                vmove.status = VmoveStatus::Ignored;
                vmove.stage = Stage::Done;
                vmove.end_time = Some(draft.view.stamp);
                vmove.message = Some(reason);
            }
        }
        draft.moves.insert(guest.id, vmove);
    }
}

/// Lists while guests wait to be sent, and at the end until two lists agree.
fn survey_when_due(draft: &mut Draft<'_>) {
    let host = draft.view.recovery.host_name.clone();
    let facts = draft.view.facts;
    let now = draft.view.now;
    let age = facts.survey.as_ref().map(|survey| now.since(survey.at).as_millis() as u64);
    let waiting_to_be_sent = draft.all_moves().any(|vmove| {
        matches!(
            vmove.stage,
            Stage::Planned | Stage::Locking | Stage::Resetting | Stage::Ready | Stage::Sending
        ) && draft.pause_of(vmove.instance).is_none()
    });
    let running = draft.all_moves().any(|vmove| vmove.stage == Stage::Accepted);
    let all_done = draft.all_moves().all(|vmove| vmove.stage == Stage::Done);
    let again = if waiting_to_be_sent || all_done {
        LISTING_AGAIN_MS.min(draft.view.policy().poll_ms.max(200))
    } else {
        5_000
    };
    if age.is_none_or(|age| age >= again) {
        draft.ask(Query::Survey { host: host.clone() });
    } else {
        draft.look_after(again.saturating_sub(age.unwrap_or(0)));
    }
    if running {
        let poll = draft.view.policy().poll_ms;
        let seen = facts.migrations_at.map(|at| now.since(at).as_millis() as u64);
        if seen.is_none_or(|age| age >= poll) {
            draft.ask(Query::Progress { host });
        } else {
            draft.look_after(poll.saturating_sub(seen.unwrap_or(0)));
        }
    }
}

/// The next move of one guest.
fn guide(
    draft: &mut Draft<'_>,
    instance: InstanceId,
    may_send: bool,
    slots: &mut Slots,
    guests: &mut Guests,
) {
    let Some(vmove) = draft.vmove(instance).cloned() else { return };
    let facts = draft.view.facts;
    if facts.is_busy(instance) {
        return;
    }
    if let Some(until) = draft.pause_of(instance)
        && !matches!(vmove.stage, Stage::Sending | Stage::Accepted | Stage::Stopping | Stage::Starting)
    {
        return draft.look_at(until);
    }
    let on_its_way =
        matches!(vmove.stage, Stage::Arrived | Stage::Stopping | Stage::Starting | Stage::Erroring);
    if let Some(dest) = vmove.dest_host.clone().filter(|dest| on_its_way && facts.proved_off.contains(dest)) {
        return handed_over(draft, &vmove, &dest);
    }
    match vmove.stage {
        Stage::Planned => begin(draft, &vmove, slots),
        Stage::Locking => send_again(draft, &vmove, slots),
        Stage::Resetting => {
            if slots.out > 0 && may_send {
                slots.out -= 1;
                draft.act(Effect::ResetToError { instance }, 1, json!({}));
            }
        }
        Stage::Ready => ready(draft, &vmove, may_send, slots, guests),
        Stage::Sending => look_up(draft, &vmove, None),
        Stage::Accepted => follow(draft, &vmove, guests),
        Stage::Arrived => arrived(draft, &vmove),
        Stage::Stopping | Stage::Starting | Stage::Erroring => bring(draft, &vmove, slots),
        Stage::Unlocking => unlock(draft, &vmove, slots),
        Stage::Done => {}
    }
}

fn begin(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
    let Some(guest) = listed(draft, vmove) else { return };
    if slots.out == 0 {
        return;
    }
    let ours = guest.locked_reason.as_deref() == Some(lock_reason(draft).as_str());
    if guest.locked && !ours {
        let reset = vmove.reset;
        draft.edit(vmove.instance, |vmove| {
            vmove.lock = LockMark::Theirs;
            vmove.stage = if reset { Stage::Resetting } else { Stage::Ready };
        });
        return draft.look_after(0);
    }
    let stamp = draft.view.stamp;
    draft.edit(vmove.instance, |vmove| {
        vmove.lock = LockMark::Ours;
        vmove.stage = Stage::Locking;
        vmove.start_time = Some(stamp);
    });
    send_again(draft, vmove, slots);
}

fn send_again(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
    if slots.out > 0 {
        slots.out -= 1;
        let reason = lock_reason(draft);
        draft.act(Effect::Lock { instance: vmove.instance, reason }, 1, json!({}));
    }
}

/// The guest as the newest survey lists it on the dead host. Missing from a complete one, it is asked for by itself: deleted,
/// or moved by somebody else.
fn listed(draft: &mut Draft<'_>, vmove: &Vmove) -> Option<Guest> {
    let facts = draft.view.facts;
    let survey = facts.survey.as_ref().filter(|survey| survey.complete)?;
    if let Some(guest) = survey.guests.iter().find(|guest| guest.id == vmove.instance) {
        return Some(guest.clone());
    }
    match facts.guests.get(&vmove.instance).filter(|(at, _)| *at >= survey.at) {
        Some((_, None)) => end(draft, vmove.instance, VmoveStatus::Ignored, "deleted by its owner"),
        Some((_, Some(guest))) if guest.host.as_deref() != Some(&draft.view.recovery.host_name) => {
            let place = guest.host.clone().unwrap_or_else(|| "no host".into());
            end(draft, vmove.instance, VmoveStatus::Ignored, &format!("Nova places it on {place} now"));
        }
        Some(_) => draft.ask(Query::Survey { host: draft.view.recovery.host_name.clone() }),
        None => draft.ask(Query::Guest { instance: vmove.instance }),
    }
    None
}

fn ready(draft: &mut Draft<'_>, vmove: &Vmove, may_send: bool, slots: &mut Slots, guests: &mut Guests) {
    let facts = draft.view.facts;
    let now = draft.view.now;
    let Some(guest) = listed(draft, vmove) else { return };
    if let Some(hosts) = may_run_elsewhere(draft, vmove) {
        let why = format!(
            "{}: may still run on {hosts}; that host has to be proved off first",
            vmove.instance_name
        );
        draft.edit(vmove.instance, |vmove| vmove.message = Some(why.clone()));
        return guests.blocked.push(why);
    }
    let fresh = facts.fresh_survey(now, LISTING_FRESH_MS).is_some_and(|survey| survey.complete);
    if !fresh || !may_send || slots.out == 0 {
        return;
    }
    if guest.host.as_deref() != Some(&draft.view.recovery.host_name) {
        return;
    }
    if vmove.attempt > 0 && !seen_alone(draft, vmove, now) {
        return draft.ask(Query::Guest { instance: vmove.instance });
    }
    let Some(to) = target(draft, vmove, guests) else { return };
    slots.out -= 1;
    let known = evacuations_of(draft, vmove.instance).map(|migration| migration.id).collect::<Vec<_>>();
    let attempt = vmove.attempt + 1;
    let detail = json!({
        "instance": vmove.instance, "name": vmove.instance_name, "to": to, "vm_state": guest.vm_state,
        "task_state": guest.task_state, "known_migrations": known,
    });
    let intent =
        draft.act(Effect::Evacuate { instance: vmove.instance, to: to.clone() }, attempt, detail.clone());
    let place = to.clone().unwrap_or_else(|| "a host of the scheduler's choice".into());
    draft.note("evacuation_ordered", format!("evacuating {} to {place}", vmove.instance_name), detail);
    let stamp = draft.view.stamp;
    draft.edit(vmove.instance, |vmove| {
        vmove.stage = Stage::Sending;
        vmove.status = VmoveStatus::Ongoing;
        vmove.start_time = vmove.start_time.or(Some(stamp));
        vmove.attempt = attempt;
        vmove.intent = Some(intent);
        vmove.known_migrations = known;
        vmove.migration = None;
        vmove.target = to.clone();
    });
    mark_used(draft, to.as_deref());
}

/// For a repeat: the guest's own reading, no older than a listing may be.
fn seen_alone(draft: &Draft<'_>, vmove: &Vmove, now: Mono) -> bool {
    let seen = draft.view.facts.guests.get(&vmove.instance);
    seen.is_some_and(|(at, guest)| {
        let here = guest.as_ref().is_some_and(|guest| guest.host.as_deref() == Some(&vmove.source_host));
        here && now.since(*at).as_millis() as u64 <= LISTING_FRESH_MS
    })
}

/// Where to send it: `Some(None)` leaves it to the scheduler; `None` means not now.
fn target(draft: &mut Draft<'_>, vmove: &Vmove, guests: &mut Guests) -> Option<Option<String>> {
    let placements = draft.view.recovery.method.placements();
    match placements.get(vmove.placement)? {
        Placement::Scheduler => Some(None),
        Placement::Reserved => match reserve_for(draft, vmove) {
            Reserved::Take(name) => Some(Some(name)),
            Reserved::Preparing => None,
            Reserved::None if vmove.placement + 1 < placements.len() => {
                draft.edit(vmove.instance, |vmove| {
                    vmove.placement += 1;
                    vmove.failures = 0;
                    vmove.message = Some("no reserved host left: the scheduler chooses".into());
                });
                draft.look_after(0);
                None
            }
            Reserved::None => {
                guests.blocked.push(format!("{}: no reserved host is free and alive", vmove.instance_name));
                None
            }
        },
    }
}

enum Reserved {
    Take(String),
    Preparing,
    None,
}

fn reserve_for(draft: &mut Draft<'_>, vmove: &Vmove) -> Reserved {
    let Body::Host(body) = &draft.body else { return Reserved::None };
    let alive = |name: &str| {
        draft.view.facts.survey.as_ref().is_some_and(|survey| {
            survey.services.iter().any(|row| row.host == name && row.up && !row.forced_down)
        })
    };
    let usable = |reserve: &&Reserve| !vmove.tried.contains(&reserve.name) && alive(&reserve.name);
    if let Some(reserve) = body.reserves.iter().find(usable) {
        return if reserve.prepared { Reserved::Take(reserve.name.clone()) } else { prepare(draft) };
    }
    let free = draft.view.facts.reserved.iter().find(|host| {
        let taken = body.reserves.iter().any(|reserve| reserve.host == host.id);
        host.reserved
            && host.reserved_by.is_none()
            && !host.maintenance.any()
            && !taken
            && host.admission == crate::host::Admission::In
            && !vmove.tried.contains(&host.name)
            && alive(&host.name)
    });
    let Some(host) = free.cloned() else { return Reserved::None };
    let patch = HostPatch {
        reserved: Some((false, Some(draft.view.recovery.id))),
        only_if: Some(HostCondition::ReservedAndFree),
        ..HostPatch::default()
    };
    draft.hosts.push((host.id, patch));
    draft.note(
        "reserved_host_taken",
        format!("{} leaves the reserve", host.name),
        json!({"host": host.name}),
    );
    if let Body::Host(body) = &mut draft.body {
        body.reserves.push(Reserve { host: host.id, name: host.name, prepared: false, used: false });
    }
    prepare(draft)
}

/// Enables reserved hosts that were taken and are not ready yet; a call that is under way is not repeated.
fn prepare(draft: &mut Draft<'_>) -> Reserved {
    let Body::Host(body) = &draft.body else { return Reserved::None };
    let waiting: Vec<String> = body
        .reserves
        .iter()
        .filter(|reserve| !reserve.prepared)
        .map(|reserve| reserve.name.clone())
        .collect();
    let paused = draft.not_before().is_some();
    for reserved in waiting {
        let busy = draft.view.facts.in_flight.values().chain(draft.acts.iter().map(|(_, effect)| effect))
            .any(|effect| matches!(effect, Effect::PrepareReserved { reserved: name, .. } if *name == reserved));
        if !busy && !paused {
            let dead = draft.view.recovery.host_name.clone();
            let aggregates = draft.view.policy().add_reserved_host_to_aggregate;
            draft.act(Effect::PrepareReserved { reserved, dead, aggregates }, 1, json!({}));
        }
    }
    Reserved::Preparing
}

fn mark_used(draft: &mut Draft<'_>, target: Option<&str>) {
    if let (Body::Host(body), Some(target)) = (&mut draft.body, target) {
        for reserve in body.reserves.iter_mut().filter(|reserve| reserve.name == target) {
            reserve.used = true;
        }
    }
}

fn evacuations_of<'d>(draft: &'d Draft<'_>, instance: InstanceId) -> impl Iterator<Item = &'d Migration> {
    draft
        .view
        .facts
        .migrations
        .values()
        .filter(move |migration| migration.instance == instance && migration.is_evacuation())
}

/// The evacuation record of ours: the newest that did not exist when the intent was written.
fn ours<'d>(draft: &'d Draft<'_>, vmove: &Vmove) -> Option<&'d Migration> {
    evacuations_of(draft, vmove.instance)
        .filter(|migration| !vmove.known_migrations.contains(&migration.id))
        .max_by_key(|migration| migration.id)
}

/// Hosts where the guest may run besides the dead one (DESIGN 2.7), in words; `None` when nowhere.
fn may_run_elsewhere(draft: &mut Draft<'_>, vmove: &Vmove) -> Option<String> {
    let dead = draft.view.recovery.host_name.clone();
    let suspects: Vec<Migration> = draft
        .view
        .facts
        .migrations
        .values()
        .filter(|migration| migration.instance == vmove.instance && migration.is_unfinished())
        .cloned()
        .collect();
    let mut hosts = Vec::new();
    for migration in suspects {
        let action = draft.view.facts.actions.get(&vmove.instance);
        match &migration.dest {
            None if migration.is_evacuation() => match action {
                Some((_, Some(_))) => {}
                Some((at, None)) if draft.view.now.since(*at).as_millis() < 5_000 => {
                    hosts.push(format!(
                        "an unnamed host (migration {} hangs in {})",
                        migration.id, migration.status
                    ));
                }
                _ => {
                    draft.ask(Query::Action { instance: vmove.instance });
                    hosts.push(format!("an unnamed host (migration {} is being looked up)", migration.id));
                }
            },
            Some(dest) if *dest != dead && !draft.view.facts.proved_off.contains(dest) => {
                hosts.push(dest.clone())
            }
            _ if migration.source != dead && !draft.view.facts.proved_off.contains(&migration.source) => {
                hosts.push(migration.source.clone());
            }
            _ => {}
        }
    }
    hosts.sort();
    hosts.dedup();
    (!hosts.is_empty()).then(|| format!("{dead} and {}", hosts.join(", ")))
}

/// A call whose fate is not known: adopted when a newer record exists, sent again only after its lifetime (DESIGN 2.4).
fn look_up(draft: &mut Draft<'_>, vmove: &Vmove, since: Option<Mono>) {
    let facts = draft.view.facts;
    let since = since.unwrap_or_else(|| draft.unknown_since(vmove.instance));
    let lapsed = since + std::time::Duration::from_millis(draft.view.policy().request_lifetime_ms);
    if let Some(migration) = ours(draft, vmove).cloned() {
        draft.note(
            "evacuation_adopted",
            format!("migration {} of {} is ours", migration.id, vmove.instance_name),
            json!({"instance": vmove.instance, "migration": migration.id}),
        );
        draft.edit(vmove.instance, |vmove| {
            vmove.stage = Stage::Accepted;
            vmove.migration = Some(migration.id);
        });
        return draft.memory.push(Memory::AcceptedSince(vmove.instance));
    }
    if facts.survey.as_ref().is_some_and(|survey| survey.complete && survey.at >= lapsed) {
        settle_intent(draft, vmove.instance, "not_found");
        draft.note(
            "evacuation_not_found",
            format!("no record of the call for {} after its lifetime", vmove.instance_name),
            json!({"instance": vmove.instance}),
        );
        draft.edit(vmove.instance, |vmove| {
            vmove.stage = Stage::Ready;
            vmove.message = Some("no record of the call after its lifetime: sent again".into());
        });
        return draft.look_after(0);
    }
    draft.look_at(if draft.view.now < lapsed {
        lapsed
    } else {
        draft.view.now + std::time::Duration::from_millis(200)
    });
    draft.ask_survey_after(lapsed);
}

/// An accepted evacuation, until its guest is seen on its destination or its record is dead.
fn follow(draft: &mut Draft<'_>, vmove: &Vmove, guests: &mut Guests) {
    let facts = draft.view.facts;
    let since = draft.accepted_since(vmove.instance);
    let waited = draft.view.now.since(since).as_millis() as u64;
    if let Some((_, None)) = facts.guests.get(&vmove.instance) {
        settle_intent(draft, vmove.instance, "gone");
        return end(draft, vmove.instance, VmoveStatus::Ignored, "deleted by its owner");
    }
    let Some(migration) = ours(draft, vmove).cloned() else {
        if waited > ASK_ACTION_AFTER_MS
            && facts
                .guests
                .get(&vmove.instance)
                .is_none_or(|(at, _)| draft.view.now.since(*at).as_millis() > 5_000)
        {
            draft.ask(Query::Guest { instance: vmove.instance });
        }
        return look_up(draft, vmove, Some(since));
    };
    if vmove.migration != Some(migration.id) || vmove.dest_host != migration.dest {
        draft.edit(vmove.instance, |vmove| {
            vmove.migration = Some(migration.id);
            vmove.dest_host = migration.dest.clone();
        });
    }
    if migration.is_dead() {
        return failed_after_acceptance(
            draft,
            vmove,
            &format!("migration {} ended in {}", migration.id, migration.status),
        );
    }
    match &migration.dest {
        Some(dest) if migration.is_done() && facts.proved_off.contains(dest) => {
            handed_over(draft, vmove, dest)
        }
        Some(dest) if migration.is_done() => seen_on(draft, vmove, dest),
        Some(dest) if facts.proved_off.contains(dest) => {
            failed_after_acceptance(draft, vmove, &format!("its destination {dest} died before it arrived"));
        }
        None if waited > ASK_ACTION_AFTER_MS => match facts.actions.get(&vmove.instance) {
            Some((_, Some(error))) => {
                failed_after_acceptance(draft, vmove, &format!("Nova gave up on it: {error}"))
            }
            Some((at, None)) if draft.view.now.since(*at).as_millis() < 5_000 => {}
            _ => draft.ask(Query::Action { instance: vmove.instance }),
        },
        _ => {}
    }
    if waited > draft.view.policy().evacuation_deadline_ms {
        let dest = migration.dest.as_deref().unwrap_or("an unnamed host");
        guests.blocked.push(format!(
            "{}: migration {} from {} to {dest} hangs in {}; settle it in Nova, then retry",
            vmove.instance_name, migration.id, vmove.source_host, migration.status
        ));
    }
}

fn failed_after_acceptance(draft: &mut Draft<'_>, vmove: &Vmove, why: &str) {
    settle_intent(draft, vmove.instance, "failed");
    fail(draft, vmove.instance, why);
}

/// Done is what is seen: the guest on the destination, no task under way (NOVA.md: the status alone comes too early).
fn seen_on(draft: &mut Draft<'_>, vmove: &Vmove, dest: &str) {
    if let Some((_, Some(guest))) = draft.view.facts.guests.get(&vmove.instance)
        && guest.host.as_deref() == Some(dest)
        && guest.task_state.is_none()
    {
        settle_intent(draft, vmove.instance, "done");
        let dest = dest.to_owned();
        draft.edit(vmove.instance, |vmove| {
            vmove.stage = Stage::Arrived;
            vmove.dest_host = Some(dest.clone());
        });
        let vmove = draft.vmove(vmove.instance).cloned();
        if let Some(vmove) = vmove {
            arrived(draft, &vmove);
        }
        return;
    }
    look_at_destination(draft, vmove, dest);
}

fn look_at_destination(draft: &mut Draft<'_>, vmove: &Vmove, dest: &str) {
    let poll = draft.view.policy().poll_ms;
    let seen = draft
        .view
        .facts
        .guests
        .get(&vmove.instance)
        .map(|(at, _)| draft.view.now.since(*at).as_millis() as u64);
    match seen {
        Some(age) if age < poll => draft.look_after(poll - age),
        _ => draft.ask(Query::Destination { host: dest.to_owned() }),
    }
}

/// It arrived, and its new host has died since: the recovery of that host answers for it now, and needs the key that this move
/// holds (I8).
fn handed_over(draft: &mut Draft<'_>, vmove: &Vmove, dest: &str) {
    settle_intent(draft, vmove.instance, "done");
    let why = format!("moved to {dest}, which died too: the recovery of {dest} answers for it");
    end(draft, vmove.instance, VmoveStatus::Ignored, &why);
}

/// On its destination: is it in the wanted state? (I25)
fn arrived(draft: &mut Draft<'_>, vmove: &Vmove) {
    let state = match draft.view.facts.guests.get(&vmove.instance) {
        Some((_, Some(guest))) if guest.host == vmove.dest_host && guest.task_state.is_none() => {
            guest.vm_state.clone()
        }
        Some((_, None)) => return end(draft, vmove.instance, VmoveStatus::Ignored, "deleted by its owner"),
        _ => {
            let dest = vmove.dest_host.clone().unwrap_or_default();
            return look_at_destination(draft, vmove, &dest);
        }
    };
    let next = match (vmove.wanted, state.as_str()) {
        (Wanted::Active, "active") | (Wanted::Stopped, "stopped") => {
            return end(draft, vmove.instance, VmoveStatus::Succeeded, "");
        }
        (Wanted::Active, "stopped") => Stage::Starting,
        (Wanted::Stopped | Wanted::Error, "active") => Stage::Stopping,
        (Wanted::Error, "stopped") => Stage::Erroring,
        (_, other) => {
            let why = format!("moved, but is {other} there instead of {}", vmove.wanted);
            return end(draft, vmove.instance, VmoveStatus::Failed, &why);
        }
    };
    draft.edit(vmove.instance, |vmove| vmove.stage = next);
    draft.look_after(0);
}

/// Stops, starts or resets the guest on its destination until it is as it was.
fn bring(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
    let instance = vmove.instance;
    let seen = match draft.view.facts.guests.get(&instance) {
        Some((_, Some(guest))) => Some((guest.vm_state.clone(), guest.task_state.is_some())),
        Some((_, None)) => return end(draft, instance, VmoveStatus::Ignored, "deleted by its owner"),
        None => None,
    };
    let reached = matches!(
        (vmove.stage, seen.as_ref().map(|(state, _)| state.as_str())),
        (Stage::Stopping, Some("stopped")) | (Stage::Starting, Some("active"))
    );
    if reached && vmove.wanted == Wanted::Error {
        draft.edit(instance, |vmove| vmove.stage = Stage::Erroring);
        return draft.look_after(0);
    }
    if reached {
        return end(draft, instance, VmoveStatus::Succeeded, "");
    }
    let dest = vmove.dest_host.clone().unwrap_or_default();
    look_at_destination(draft, vmove, &dest);
    let paused = draft.pause_of(instance).is_some();
    let at_work = seen.is_some_and(|(_, task)| task);
    if slots.back == 0 || paused || at_work {
        return;
    }
    slots.back -= 1;
    let effect = match vmove.stage {
        Stage::Stopping => Effect::Stop { instance },
        Stage::Starting => Effect::Start { instance },
        _ => Effect::ResetToError { instance },
    };
    draft.act(effect, 1, json!({}));
}

fn unlock(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
    if slots.back > 0 {
        slots.back -= 1;
        draft.act(Effect::Unlock { instance: vmove.instance }, 1, json!({}));
    }
}

/// A conclusive failure: tried again after a pause, then elsewhere, then given up (guest by guest: W7).
fn fail(draft: &mut Draft<'_>, instance: InstanceId, why: &str) {
    let policy = draft.view.policy();
    let placements = draft.view.recovery.method.placements();
    let Some(vmove) = draft.vmove(instance).cloned() else { return };
    let failures = vmove.failures + 1;
    draft.note(
        "evacuation_failed",
        format!("{}: {why}", vmove.instance_name),
        json!({"instance": instance, "attempt": vmove.attempt}),
    );
    let named = vmove.target.clone();
    if failures < policy.evacuation_attempts && named.is_none() {
        draft.edit(instance, |vmove| {
            vmove.failures = failures;
            vmove.stage = Stage::Ready;
            vmove.message = Some(why.to_owned());
        });
        let shift = failures.min(5).saturating_sub(1);
        return pause(draft, instance, (policy.retry_ms << shift).min(60_000));
    }
    if named.is_some() || vmove.placement + 1 < placements.len() {
        let next = if named.is_some() { vmove.placement } else { vmove.placement + 1 };
        draft.edit(instance, |vmove| {
            vmove.tried.extend(named);
            vmove.failures = 0;
            vmove.placement = next;
            vmove.target = None;
            vmove.stage = Stage::Ready;
            vmove.message = Some(why.to_owned());
        });
        return pause(draft, instance, policy.retry_ms);
    }
    end(draft, instance, VmoveStatus::Failed, why);
}

/// Decides how a move ends; a lock of ours is taken off first.
fn end(draft: &mut Draft<'_>, instance: InstanceId, status: VmoveStatus, message: &str) {
    let ours = draft.vmove(instance).is_some_and(|vmove| vmove.lock == LockMark::Ours);
    draft.edit(instance, |vmove| {
        vmove.ends = Some(status);
        vmove.message = (!message.is_empty()).then(|| message.to_owned());
        vmove.stage = Stage::Unlocking;
    });
    if !ours {
        close(draft, instance);
    } else {
        draft.look_after(0);
    }
}

fn close(draft: &mut Draft<'_>, instance: InstanceId) {
    let stamp = draft.view.stamp;
    let Some(vmove) = draft.vmove(instance).cloned() else { return };
    let status = vmove.ends.unwrap_or(VmoveStatus::Failed);
    draft.edit(instance, |vmove| {
        vmove.status = status;
        vmove.stage = Stage::Done;
        vmove.end_time = Some(stamp);
    });
    let place = vmove.dest_host.clone().unwrap_or_default();
    let why = vmove.message.clone().unwrap_or_default();
    let (what, kind, text) = match status {
        VmoveStatus::Succeeded => (
            "guest_recovered",
            Some(EventKind::GuestRecovered),
            format!("{} is {} on {place}", vmove.instance_name, vmove.wanted),
        ),
        VmoveStatus::Failed => {
            ("guest_failed", Some(EventKind::GuestFailed), format!("{}: {why}", vmove.instance_name))
        }
        _ => ("guest_ignored", None, format!("{}: {why}", vmove.instance_name)),
    };
    let detail = json!({"instance": instance, "dest": vmove.dest_host, "attempts": vmove.attempt});
    draft.note(what, text.clone(), detail.clone());
    if let Some(kind) = kind {
        draft.tell(kind, &text, detail);
    }
}

fn settle_intent(draft: &mut Draft<'_>, instance: InstanceId, result: &str) {
    let intent: Option<Uuid> = draft.vmove(instance).and_then(|vmove| vmove.intent);
    if let Some(intent) = intent {
        draft.resolve(intent, result, json!({}));
        draft.edit(instance, |vmove| vmove.intent = None);
    }
}

fn pause(draft: &mut Draft<'_>, instance: InstanceId, ms: u64) {
    let until = draft.view.now + std::time::Duration::from_millis(ms);
    draft.memory.push(Memory::PauseGuest(instance, until));
    draft.look_at(until);
}

fn name(draft: &Draft<'_>, instance: InstanceId) -> String {
    draft.vmove(instance).map_or_else(|| instance.to_string(), |vmove| vmove.instance_name.clone())
}

fn sum_up(draft: &Draft<'_>, guests: &mut Guests) {
    for vmove in draft.all_moves() {
        if vmove.stage != Stage::Done {
            guests.open += 1;
        }
        if matches!(
            vmove.stage,
            Stage::Planned | Stage::Locking | Stage::Resetting | Stage::Ready | Stage::Sending
        ) {
            guests.unsent += 1;
        }
        if vmove.status == VmoveStatus::Failed {
            guests.failed += 1;
        }
    }
    let facts = draft.view.facts;
    guests.settled = guests.open == 0
        && facts.survey.as_ref().is_some_and(|survey| {
            let ids = survey.guests.iter().map(|guest| guest.id).collect();
            survey.complete && facts.listed_before.as_ref() == Some(&ids)
        });
}

//! Moving the guests of a host that is proved off, one answer for each (DESIGN 2.7, 2.8, 10.4-10.6).
//!
//! Nova's evacuate has no precondition of ours and takes a second call for the same guest, which damages it (NOVA.md). So the
//! only guards are here: the intent row, the migration records that existed before it, and the call's lifetime. A call whose
//! fate is unknown is looked up, never repeated by guess.

mod digest;
mod end;
mod follow;
mod reserve;
mod send;

use serde_json::json;
use uuid::Uuid;

use crate::effect::{Calls, Done, Effect, Migration, Query};
use crate::event::EventKind;
use crate::evidence::Power;
use crate::facts::Outcome;
use crate::guard::{self, Guard};
use crate::id::{InstanceId, VmoveId};
use crate::instance::{Guest, Plan, Wanted, plan};
use crate::recovery::host::Reserve;
use crate::recovery::{Body, LockMark, Stage, Vmove, VmoveStatus};
use crate::runner::{HostCondition, HostPatch};
use crate::segment::Placement;
use crate::step::{Draft, Memory};
use crate::time::Mono;

use digest::digest;
use end::{close, end, fail, name, pause, settle_intent};
use follow::{arrived, bring, dead_too, follow, handed_over, look_up, overdue, unlock};
use reserve::{Reserved, mark_used, reserve_for};
use send::{Rest, begin, evacuations_of, ours, ready, rests_on, send_again};

/// A listing this young answers for a first call; only a repeat asks for the single guest (DESIGN 10.6, I26).
const LISTING_FRESH_MS: u64 = 2_000;

/// While guests wait to be sent the next listing starts before the last one is stale.
const LISTING_AGAIN_MS: u64 = 1_200;

/// A record that names no destination after this long is looked up by its action.
const ASK_ACTION_AFTER_MS: u64 = 10_000;

/// A stop or start that Nova took is not repeated sooner.
const REPEAT_POWER_MS: u64 = 10_000;

/// Until something that is being asked for elsewhere is looked at again.
const LOOK_MS: u64 = 500;

/// A controller that did not answer so often in a row is not waited for any more.
const READINGS_TRIED: u32 = 3;

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
    // No reply of its own wakes it where others have all the room.
    if slots.crowded && (slots.out == 0 || slots.back == 0) {
        draft.look_after(LOOK_MS);
    }
    sum_up(draft, &mut guests);
    guests
}

/// Calls that may still go out now: those that move guests, and those that finish moves.
struct Slots {
    out: usize,
    back: usize,
    /// Other recoveries leave less than this one's policy would allow it.
    crowded: bool,
}

impl Slots {
    fn new(draft: &Draft<'_>) -> Slots {
        let facts = draft.view.facts;
        let cap = if draft.breaker() { 1 } else { draft.view.policy().evacuations_in_flight as usize };
        let paused = draft.breaker() && draft.not_before().is_some();
        let busy = Calls::of(facts.in_flight.values());
        let free = |busy: usize| if paused { 0 } else { cap.saturating_sub(busy) };
        let own = Calls { out: free(busy.out), back: free(busy.back) };
        let room = facts.room.unwrap_or(own);
        let (out, back) = (own.out.min(room.out), own.back.min(room.back));
        Slots { out, back, crowded: out < own.out || back < own.back }
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
                vmove.wanted = if guard::stands(Guard::WantedState) { wanted } else { Wanted::Active };
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
    if let Some(dest) = vmove.dest_host.clone().filter(|_| on_its_way) {
        match dead_too(draft, &dest) {
            Some(true) => return handed_over(draft, &vmove, &dest),
            None => return draft.look_after(LOOK_MS),
            Some(false) => {}
        }
    }
    if on_its_way {
        overdue(draft, &vmove, guests);
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
    guests.settled = (guests.open == 0 || !guard::stands(Guard::EveryGuest))
        && facts.survey.as_ref().is_some_and(|survey| {
            let ids = survey.guests.iter().map(|guest| guest.id).collect();
            survey.complete && facts.listed_before.as_ref() == Some(&ids)
        });
}

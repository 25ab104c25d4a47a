//! After a call: its record, its arrival, the wanted state. A call whose fate is unknown is looked up, never repeated by guess.

use super::*;

/// A call whose fate is not known: adopted when a newer record exists, sent again only after its lifetime (DESIGN 2.4).
pub(super) fn look_up(draft: &mut Draft<'_>, vmove: &Vmove, since: Option<Mono>) {
    let facts = draft.view.facts;
    let since = since.unwrap_or_else(|| draft.unknown_since(vmove.instance));
    let lapsed = since + std::time::Duration::from_millis(draft.view.policy().request_lifetime_ms);
    if let Some(migration) = ours(draft, vmove).cloned().filter(|_| guard::stands(Guard::LookUp)) {
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
    let looked = facts.survey.as_ref().is_some_and(|survey| survey.complete && survey.at >= lapsed);
    if looked || !guard::stands(Guard::LookUp) {
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
pub(super) fn follow(draft: &mut Draft<'_>, vmove: &Vmove, guests: &mut Guests) {
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
        Some(dest) if migration.is_done() && landed(draft, vmove, dest) => return,
        Some(_) if migration.is_done() => {}
        // A host that was proved off and has power since may be building the guest at this moment, out of its queue.
        Some(dest) if facts.proved_off.contains_key(dest) => match rests_on(draft, dest) {
            Rest::Dead | Rest::Unread => {
                let why = format!("its destination {dest} died before it arrived");
                // Once claimed there, the call has left the queue, and died with the host.
                if migration.status == "accepted" {
                    strand(draft, vmove.instance, dest);
                }
                return failed_after_acceptance(draft, vmove, &why);
            }
            Rest::Looking | Rest::Nothing => draft.look_after(LOOK_MS),
        },
        None if waited > ASK_ACTION_AFTER_MS || taken_by_another(draft, vmove, &migration) => {
            let ended = arrived_unnamed(draft, vmove, &migration, since);
            if ended == Some(true) {
                return;
            }
            // Sooner the newest action may still be an older one, whose error says nothing about this call.
            match facts.actions.get(&vmove.instance) {
                _ if waited <= ASK_ACTION_AFTER_MS || ended.is_some() => {}
                Some((at, Some(error))) if *at >= since => {
                    return failed_after_acceptance(draft, vmove, &format!("Nova gave up on it: {error}"));
                }
                Some((at, None)) if draft.view.now.since(*at).as_millis() < 5_000 => {}
                _ => draft.ask(Query::Action { instance: vmove.instance }),
            }
        }
        _ => {}
    }
    if waited > draft.view.policy().evacuation_deadline_ms && guard::stands(Guard::Deadline) {
        let dest = migration.dest.as_deref().unwrap_or("an unnamed host");
        guests.blocked.push(format!(
            "{}: migration {} from {} to {dest} hangs in {}; settle it in Nova, then retry",
            vmove.instance_name, migration.id, vmove.source_host, migration.status
        ));
    }
}

/// The call waits in the dead host's queue for good, whatever becomes of its record: that host's way back has to know.
fn strand(draft: &mut Draft<'_>, instance: InstanceId, dest: &str) {
    if let Some(proved) = draft.view.facts.proved_off.get(dest) {
        draft.hosts.push((proved.host, HostPatch { strand: Some(instance), ..HostPatch::default() }));
    }
}

/// Nova gives the work of a call to an older accepted record of that guest and leaves the newest without a destination for good (NOVA.md),
/// as when the first call was lost with its destination.
fn taken_by_another(draft: &Draft<'_>, vmove: &Vmove, ours: &Migration) -> bool {
    // What had ended before this recovery's first call is another year's evacuation.
    let before = |other: &Migration| vmove.attempt <= 1 && vmove.known_migrations.contains(&other.id);
    let mut others = evacuations_of(draft, vmove.instance);
    others.any(|other| {
        other.id < ours.id && other.source == vmove.source_host && other.is_done() && !before(other)
    })
}

/// The record says nothing of where it went, and the guest itself does: it was on the dead host when this call went out, so it has been
/// rebuilt since. `None`: it is not seen elsewhere; else whether that ends it.
fn arrived_unnamed(draft: &mut Draft<'_>, vmove: &Vmove, ours: &Migration, since: Mono) -> Option<bool> {
    let seen = draft.view.facts.guests.get(&vmove.instance).filter(|(at, _)| *at >= since).cloned();
    if let Some((_, Some(guest))) = &seen
        && let Some(dest) = guest.host.clone().filter(|dest| *dest != vmove.source_host)
        && guest.task_state.is_none()
    {
        let ended = landed(draft, vmove, &dest);
        if ended {
            let text =
                format!("{} is on {dest} although migration {} names no host", vmove.instance_name, ours.id);
            let detail = json!({"instance": vmove.instance, "hangs": ours.id, "host": dest});
            draft.note("evacuation_by_another_record", text, detail);
        }
        return Some(ended);
    }
    if seen.is_none_or(|(at, _)| draft.view.now.since(at).as_millis() as u64 > draft.view.policy().poll_ms) {
        draft.ask(Query::Guest { instance: vmove.instance });
    }
    None
}

/// It is on its destination, as its record or its guest says: arrived there, or answered for by that host's own recovery. False: not known yet.
fn landed(draft: &mut Draft<'_>, vmove: &Vmove, dest: &str) -> bool {
    match dead_too(draft, dest) {
        Some(true) => handed_over(draft, vmove, dest),
        None => draft.look_after(LOOK_MS),
        Some(false) => seen_on(draft, vmove, dest),
    }
    draft.vmove(vmove.instance).is_none_or(|vmove| vmove.stage != Stage::Accepted)
}

/// Whether the host that a guest arrived on has died since; one that has power again counts by what is seen there. `None`: being looked at.
pub(super) fn dead_too(draft: &mut Draft<'_>, dest: &str) -> Option<bool> {
    if !draft.view.facts.proved_off.contains_key(dest) {
        return Some(false);
    }
    match rests_on(draft, dest) {
        Rest::Dead | Rest::Unread => Some(true),
        Rest::Nothing => Some(false),
        Rest::Looking => None,
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
pub(super) fn handed_over(draft: &mut Draft<'_>, vmove: &Vmove, dest: &str) {
    settle_intent(draft, vmove.instance, "done");
    let why = format!("moved to {dest}, which died too: the recovery of {dest} answers for it");
    end(draft, vmove.instance, VmoveStatus::Ignored, &why);
}

/// It arrived and does not come into the wanted state: its destination may have no nova-compute any more. Tried on, and said (L3).
pub(super) fn overdue(draft: &Draft<'_>, vmove: &Vmove, guests: &mut Guests) {
    let waited = draft.view.now.since(draft.accepted_since(vmove.instance)).as_millis() as u64;
    if waited <= draft.view.policy().evacuation_deadline_ms {
        return;
    }
    let seen = match draft.view.facts.guests.get(&vmove.instance) {
        Some((_, Some(guest))) => guest.task_state.as_deref().unwrap_or(&guest.vm_state).to_owned(),
        _ => "not seen".to_owned(),
    };
    let dest = vmove.dest_host.as_deref().unwrap_or("its destination");
    guests.blocked.push(format!(
        "{}: moved to {dest}, and is {seen} there instead of {}; look at nova-compute of {dest}, it is tried on",
        vmove.instance_name, vmove.wanted
    ));
}

/// On its destination: is it in the wanted state? (I25)
pub(super) fn arrived(draft: &mut Draft<'_>, vmove: &Vmove) {
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
pub(super) fn bring(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
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
    let effect = match vmove.stage {
        Stage::Stopping => Effect::Stop { instance },
        Stage::Starting => Effect::Start { instance },
        _ => Effect::ResetToError { instance },
    };
    let left = if effect.is_out() { &mut slots.out } else { &mut slots.back };
    if *left == 0 || paused || at_work {
        return;
    }
    *left -= 1;
    draft.act(effect, 1, json!({}));
}

pub(super) fn unlock(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
    if slots.back > 0 {
        slots.back -= 1;
        draft.act(Effect::Unlock { instance: vmove.instance }, 1, json!({}));
    }
}

//! Before a call: is the guest still on the dead host, may it run anywhere else, where is it to go? Then the intent.

use super::*;

pub(super) fn begin(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
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

pub(super) fn send_again(draft: &mut Draft<'_>, vmove: &Vmove, slots: &mut Slots) {
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

pub(super) fn ready(
    draft: &mut Draft<'_>,
    vmove: &Vmove,
    may_send: bool,
    slots: &mut Slots,
    guests: &mut Guests,
) {
    let facts = draft.view.facts;
    let now = draft.view.now;
    let Some(guest) = listed(draft, vmove) else { return };
    match may_run_elsewhere(draft, vmove) {
        Elsewhere::No => {}
        Elsewhere::Looking => return draft.look_after(LOOK_MS),
        Elsewhere::On(hosts) => {
            let why = format!(
                "{}: may still run on {hosts}; that host has to be proved off first",
                vmove.instance_name
            );
            draft.edit(vmove.instance, |vmove| vmove.message = Some(why.clone()));
            return guests.blocked.push(why);
        }
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
    // Nova's scheduler knows a host as dead only once it is marked down, and would choose it once more.
    if vmove.attempt > 0 && some_dead_host_is_up(draft) {
        return draft.look_after(LOOK_MS);
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

pub(super) fn evacuations_of<'d>(
    draft: &'d Draft<'_>,
    instance: InstanceId,
) -> impl Iterator<Item = &'d Migration> {
    draft
        .view
        .facts
        .migrations
        .values()
        .filter(move |migration| migration.instance == instance && migration.is_evacuation())
}

/// The evacuation record of ours: the newest that did not exist when the intent was written.
pub(super) fn ours<'d>(draft: &'d Draft<'_>, vmove: &Vmove) -> Option<&'d Migration> {
    evacuations_of(draft, vmove.instance)
        .filter(|migration| !vmove.known_migrations.contains(&migration.id))
        .max_by_key(|migration| migration.id)
}

/// A host is proved off and Nova still calls it up.
fn some_dead_host_is_up(draft: &Draft<'_>) -> bool {
    let facts = draft.view.facts;
    facts.survey.as_ref().is_some_and(|survey| {
        survey.services.iter().any(|row| {
            let other = row.host != draft.view.recovery.host_name;
            other && row.up && !row.forced_down && facts.proved_off.contains_key(&row.host)
        })
    })
}

/// Whether a guest may run besides on the dead host.
enum Elsewhere {
    No,
    /// The power of a host that is proved off is being read once more.
    Looking,
    /// In words.
    On(String),
}

/// What another host's proof is worth now.
pub(super) enum Rest {
    Dead,
    Looking,
    Nothing,
    /// Nobody can look: its device does not answer.
    Unread,
}

/// Another host's proof is somebody else's, and may be as old as its recovery: a guest is rebuilt on it only after a fresh look of our own,
/// and while nobody hears that host (I3).
pub(super) fn rests_on(draft: &mut Draft<'_>, name: &str) -> Rest {
    let (facts, now, policy) = (draft.view.facts, draft.view.now, draft.view.policy());
    let Some(proved) = facts.proved_off.get(name) else { return Rest::Nothing };
    let lately = |at: Mono| now.since(at) <= policy.first_missed();
    if proved.spoke.is_some_and(lately) {
        return Rest::Nothing;
    }
    // A beat of a moment before its end: the next one is missed first.
    if proved.heard.is_some_and(lately) {
        return Rest::Looking;
    }
    if !proved.by_power {
        return Rest::Dead;
    }
    let query = Query::Power { host: proved.host };
    let young = |at: Mono| now.since(at).as_millis() as u64 <= policy.power_fresh_ms;
    match facts.others_power.get(&proved.host).filter(|reading| young(reading.at)) {
        Some(reading) if reading.identified && reading.power == Power::Off => Rest::Dead,
        _ if facts.failures.get(&query).is_some_and(|failure| failure.count >= READINGS_TRIED) => {
            draft.ask(query);
            Rest::Unread
        }
        Some(reading) if reading.identified => {
            if now.since(reading.at).as_millis() as u64 > LISTING_FRESH_MS {
                draft.ask(query);
            }
            Rest::Nothing
        }
        _ => {
            draft.ask(query);
            Rest::Looking
        }
    }
}

/// Hosts where the guest may run besides the dead one (DESIGN 2.7).
fn may_run_elsewhere(draft: &mut Draft<'_>, vmove: &Vmove) -> Elsewhere {
    if !guard::stands(Guard::MayRunElsewhere) {
        return Elsewhere::No;
    }
    let dead = draft.view.recovery.host_name.clone();
    let suspects: Vec<Migration> = draft
        .view
        .facts
        .migrations
        .values()
        .filter(|migration| migration.instance == vmove.instance && migration.is_unfinished())
        .cloned()
        .collect();
    let (mut hosts, mut looking) = (Vec::new(), false);
    for migration in suspects {
        let action = draft.view.facts.actions.get(&vmove.instance);
        if migration.dest.is_none() && migration.is_evacuation() {
            match action {
                Some((at, Some(_))) if draft.view.now.since(*at).as_millis() < 5_000 => {}
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
            }
            continue;
        }
        for end in migration.dest.iter().chain([&migration.source]).filter(|end| **end != dead) {
            match rests_on(draft, end) {
                Rest::Dead => {}
                Rest::Looking => looking = true,
                Rest::Nothing => hosts.push(end.clone()),
                Rest::Unread => hosts.push(format!("{end}, whose power cannot be read now")),
            }
        }
    }
    hosts.sort();
    hosts.dedup();
    match (hosts.is_empty(), looking) {
        (false, _) => Elsewhere::On(format!("{dead} and {}", hosts.join(", "))),
        (true, true) => Elsewhere::Looking,
        (true, false) => Elsewhere::No,
    }
}

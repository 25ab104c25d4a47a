//! Reserved hosts: taken with a condition on their row, enabled, used.

use super::*;

pub(super) enum Reserved {
    Take(String),
    Preparing,
    None,
}

pub(super) fn reserve_for(draft: &mut Draft<'_>, vmove: &Vmove) -> Reserved {
    let Body::Host(body) = &draft.body else { return Reserved::None };
    let alive = |name: &str| {
        !draft.view.facts.proved_off.contains_key(name)
            && draft.view.facts.survey.as_ref().is_some_and(|survey| {
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

pub(super) fn mark_used(draft: &mut Draft<'_>, target: Option<&str>) {
    if let (Body::Host(body), Some(target)) = (&mut draft.body, target) {
        for reserve in body.reserves.iter_mut().filter(|reserve| reserve.name == target) {
            reserve.used = true;
        }
    }
}

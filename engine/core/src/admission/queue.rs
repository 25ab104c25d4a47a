//! Rebuilds that were sent to a host before it died and wait in its nova-compute's queue.
//!
//! Nova does not take such a call back: whenever nova-compute starts there, it builds the guest, wherever that runs by then. Nothing on a
//! hypervisor holds it up before the host is admitted, so the host is not switched on by us, and people are told not to.

use super::{LOOK_MS, power};
use crate::effect::{Query, Survey};
use crate::event::EventKind;
use crate::host::Host;
use crate::id::InstanceId;
use crate::instance::Guest;
use crate::policy::Policy;
use crate::step::Draft;
use crate::time::Mono;

/// How old the list may be that a warning, or its absence, rests on while nothing is about to be done.
const LIST_MS: u64 = 60_000;
/// Before the host is switched on the list is younger.
const LIST_BEFORE_POWER_MS: u64 = 5_000;

const DO_NOT_START: &str = "do not start";

/// What is known about a host that nobody has seen yet.
pub(super) enum Warned {
    No,
    /// It is to be switched on, and that waits for what is being looked up, in words.
    Looking(String),
    /// In words.
    Of(String),
}

fn survey_is_partial(draft: &Draft<'_>) -> bool {
    draft.view.facts.survey.as_ref().is_some_and(|survey| !survey.complete)
}

/// Guests that a start of this host's nova-compute would rebuild there although they are elsewhere, in words. `None`: being looked up.
///
/// Nova gives the record of such a call to the guest's next rebuild, wherever that is, and leaves the next one's own without a destination
/// for good (seed 1339): a record that names none may thus stand for what waits here.
pub(super) fn waiting(
    draft: &mut Draft<'_>,
    host: &Host,
    survey: &Survey,
    age_ms: u64,
) -> Option<Vec<String>> {
    let mut waiting: Vec<String> = Vec::new();
    for instance in host.stranded.iter().copied() {
        match seen(draft, instance, age_ms)? {
            Some(guest) if guest.host.as_ref() != Some(&host.name) => {
                waiting.push(format!("{instance} (sent there before it died)"));
            }
            _ => {}
        }
    }
    for record in survey.migrations.iter().filter(|record| {
        record.is_evacuation()
            // Claimed there, the call has left the queue, and died with the host.
            && record.status == "accepted"
            && match &record.dest {
                Some(dest) => *dest == host.name,
                None => record.source != host.name,
            }
    }) {
        let newer = survey.migrations.iter().any(|other| {
            other.instance == record.instance
                && other.is_evacuation()
                && (other.id > record.id
                    || (record.dest.is_none() && other.id != record.id && other.is_unfinished()))
                && !other.is_dead()
                && other.dest.as_ref() != Some(&host.name)
        });
        let Some(guest) = seen(draft, record.instance, age_ms)? else { continue };
        let known = host.stranded.contains(&record.instance) || guest.host.as_ref() == Some(&host.name);
        if !known && (newer || guest.host.as_ref() != Some(&record.source)) {
            let text = format!("{} (migration {}, {})", record.instance, record.id, record.status);
            waiting.push(text);
        }
    }
    waiting.dedup();
    Some(waiting)
}

/// A guest as Nova shows it, no older than that; asked for where it is. `Some(None)`: it does not exist.
fn seen(draft: &mut Draft<'_>, instance: InstanceId, age_ms: u64) -> Option<Option<Guest>> {
    let fresh = |at: Mono| draft.view.now.since(at) <= Policy::ms(age_ms);
    let known = draft.view.facts.guests.get(&instance).filter(|(at, _)| fresh(*at));
    let guest = known.map(|(_, guest)| guest.clone());
    if guest.is_none() {
        draft.ask(Query::Guest { instance });
    }
    guest
}

/// Whether whoever starts this host now starts guests twice; said once.
pub(super) fn warn(draft: &mut Draft<'_>, host: &Host) -> Warned {
    let wanted = power::is_wanted(draft);
    let age = if wanted { LIST_BEFORE_POWER_MS } else { LIST_MS };
    let facts = draft.view.facts;
    draft.ask_every(Query::Survey { host: host.name.clone() }, age);
    let survey = facts.fresh_survey(draft.view.now, age).filter(|survey| survey.complete || !wanted);
    let Some(waiting) = survey.and_then(|survey| waiting(draft, host, survey, age)) else {
        draft.look_after(LOOK_MS);
        let said = draft.view.recovery.reason.clone();
        return match wanted {
            // What was said stands until it is known better.
            _ if said.starts_with(DO_NOT_START) => Warned::Of(said),
            true if survey_is_partial(draft) => Warned::Looking(
                "drained; it is not switched on while Nova's list of its guests is not whole: a cell is down"
                    .into(),
            ),
            true => Warned::Looking(
                "drained; before it is switched on Nova is asked what waits in its queue".into(),
            ),
            false => Warned::No,
        };
    };
    if waiting.is_empty() {
        return Warned::No;
    }
    let text = format!(
        "{DO_NOT_START} {}: its nova-compute would rebuild guests that were sent elsewhere since: {}; settle these records in Nova, or empty the queue of its nova-compute and take it back",
        host.name,
        waiting.join(", ")
    );
    if draft.view.recovery.reason != text {
        draft.tell(EventKind::RecoveryNeedsOperator, &text, serde_json::json!({}));
    }
    Warned::Of(text)
}

//! Signs of life (E3): who saw the host, when it lived at the latest, and how long that counts.

use std::time::Duration;

use super::{Case, row_window, seconds};
use crate::evidence::{Evidence, ServiceSight, Witness};
use crate::policy::Policy;
use crate::time::Mono;

/// Somebody saw the host alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    pub source: String,
    /// For people, with source and age.
    pub what: String,
    /// How long ago it lived.
    pub age: Duration,
    /// When this stops counting by time alone; the evidence's own time when only newer evidence can outweigh it.
    pub until: Mono,
}

/// A sign of life that voids direct evidence of death (an Off reading, a panic, a fence order's readings) made at `death`.
///
/// Life counts when it came after `death`, or so lately that the host may well be living now: a beat within one and a half
/// intervals, a witness's within two (its statement itself is up to one interval old). The second half catches a BMC that
/// lies: read between two beats, each of its readings is younger than the last beat.
pub fn life_after(evidence: &Evidence, policy: &Policy, death: Mono, now: Mono) -> Option<Sight> {
    let missed = policy.first_missed();
    let since_death = now.since(death);
    let beat = last_beat(evidence).filter(|at| *at >= death || now.since(*at) < missed).map(|at| {
        sight("agent", format!("a beat came {} ago", seconds(now.since(at))), now.since(at), at + missed)
    });
    let witness = || {
        let window = Policy::ms(2 * policy.beat_interval_ms);
        heard(evidence, now)
            .filter(|(_, age)| *age < since_death || *age < window)
            .min_by_key(|(_, age)| *age)
            .map(|(witness, age)| hearing(witness, age, now, window))
    };
    let user_land = || {
        let seen = evidence.user_land.as_ref().filter(|seen| seen.answered)?;
        let age = now.since(seen.at);
        (seen.at > death || age < missed).then(|| answer(age, seen.at + missed))
    };
    let row = || {
        let (service, after) = row_life(evidence)?;
        (after > death).then(|| moved(service, now, policy))
    };
    beat.or_else(witness).or_else(user_land).or_else(row)
}

/// Last beat of any boot on any path. A retired boot's echoed beat is no admission, but it is life (DESIGN 10.7).
pub(super) fn last_beat(evidence: &Evidence) -> Option<Mono> {
    let beats = &evidence.beats;
    beats.last_any().max(beats.last_echoed).max(beats.retired_echoed)
}

/// Nova's row with the time its writer lived at least until.
pub(super) fn row_life(evidence: &Evidence) -> Option<(&ServiceSight, Mono)> {
    let service = evidence.service.as_ref()?;
    Some((service, service.changed_after.or(service.changed_at)?))
}

/// Witnesses that remember hearing the host, with how long ago that was by now.
fn heard(evidence: &Evidence, now: Mono) -> impl Iterator<Item = (&Witness, Duration)> {
    evidence
        .witnesses
        .iter()
        .filter_map(move |witness| Some((witness, now.since(witness.at) + witness.heard?)))
}

/// A sign of life that stands against silence since `since`: each source within its own window.
///
/// `storage_counts`: whether a witness that hears the host on storage alone contradicts; it does not where the table of
/// SAFETY 1.4 is about just that state.
pub(super) fn life_in_silence(case: &Case<'_>, since: Mono, storage_counts: bool) -> Option<Sight> {
    let (evidence, policy, now) = (case.evidence, case.policy, case.now);
    let window = Policy::ms(policy.suspect_after_ms);
    let user_land = evidence
        .user_land
        .as_ref()
        .filter(|seen| seen.answered && seen.at > since && now.since(seen.at) < window)
        .map(|seen| answer(now.since(seen.at), seen.at + window));
    let witness = || {
        heard(evidence, now)
            .filter(|(witness, age)| *age < window && (storage_counts || !witness.storage_only))
            .min_by_key(|(_, age)| *age)
            .map(|(witness, age)| hearing(witness, age, now, window))
    };
    let row = || {
        let (service, after) = row_life(evidence)?;
        (after > since && now.since(service.changed_at?) < row_window(policy))
            .then(|| moved(service, now, policy))
    };
    user_land.or_else(witness).or_else(row)
}

/// Whether a witness spoke lately, after `since`, and has not heard the host within the silence window.
pub(super) fn is_silent(case: &Case<'_>, witness: &Witness, since: Mono, storage_counts: bool) -> bool {
    let window = Policy::ms(case.policy.suspect_after_ms);
    let spoke = witness.at > since && case.age(witness.at) < window;
    let hears = witness.heard.is_some_and(|age| case.age(witness.at) + age < window);
    spoke && (!hears || (witness.storage_only && !storage_counts))
}

fn sight(source: &str, what: String, age: Duration, until: Mono) -> Sight {
    Sight { source: source.to_owned(), what, age, until }
}

fn hearing(witness: &Witness, age: Duration, now: Mono, window: Duration) -> Sight {
    let what = format!("witness {} heard the host {} ago", witness.name, seconds(age));
    sight(&format!("witness {}", witness.name), what, age, now + window.saturating_sub(age))
}

fn answer(age: Duration, until: Mono) -> Sight {
    sight("user land", format!("its user land answered {} ago", seconds(age)), age, until)
}

fn moved(service: &ServiceSight, now: Mono, policy: &Policy) -> Sight {
    let at = service.changed_at.unwrap_or(service.at);
    let age = now.since(at);
    let what = format!("Nova's row changed {} ago: someone runs nova-compute there", seconds(age));
    sight("Nova", what, age, at + row_window(policy))
}

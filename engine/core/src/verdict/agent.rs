//! Hosts with our agent: panic, beats, the three-network table, and silence.

use std::collections::BTreeSet;
use std::time::Duration;

use super::life::{is_silent, last_beat, life_after, life_in_silence};
use super::{Case, Grounds, Judgement, Row, Verdict, seconds, time_to_verdict};
use crate::evidence::{Class, Network};
use crate::policy::{Policy, Profile};
use crate::time::Mono;

pub(super) fn judge(mut case: Case<'_>) -> Judgement {
    if let Some(newest) = case.evidence.reports.iter().map(|report| report.at).max() {
        let age = case.age(newest);
        case.show(
            Class::E2,
            "report",
            "a report about a host with agent is no evidence by itself (I18)",
            age,
        );
    }
    if let Some(at) = case.evidence.beats.panic
        && case.contradiction(at, "a signed panic arrived").is_none()
    {
        let age = case.age(at);
        case.show(Class::E1, "agent", "signed statement of a kernel panic, and no life after it", age);
        return case.failed(Class::E1, Grounds::default());
    }
    let since = silent_since(&case);
    if case.age(since) < Policy::ms(case.policy.suspect_after_ms) {
        beating(case, since)
    } else {
        silent(case, since)
    }
}

/// Since when nothing was heard, or since this engine has listened without a gap: what it missed before is not silence.
fn silent_since(case: &Case<'_>) -> Mono {
    let listening = case.evidence.beats.listening_since;
    last_beat(case.evidence).map_or(listening, |beat| beat.max(listening))
}

/// How long a network that beats once came on has been dark; `None`: never heard there, so nothing is missed.
fn dark_for(case: &Case<'_>, network: Network) -> Option<Duration> {
    let beats = &case.evidence.beats;
    let last = beats.last.iter().filter(|(on, _)| *on == network).map(|(_, at)| *at).max()?;
    Some(case.age(last.max(beats.listening_since)))
}

fn is_dark(case: &Case<'_>, network: Network) -> bool {
    dark_for(case, network).is_some_and(|span| span >= Policy::ms(case.policy.suspect_after_ms))
}

/// Beats flow on some path: the host lives. Its guests may not (SAFETY 1.4).
fn beating(mut case: Case<'_>, since: Mono) -> Judgement {
    let silence = case.age(since);
    let suspect = Policy::ms(case.policy.suspect_after_ms);
    let [management, tenant, storage] =
        [Network::Management, Network::Tenant, Network::Storage].map(|network| is_dark(&case, network));
    if let Some(span) = storage_dead_for(&mut case, storage) {
        // With another network dark besides, fewer of its guests serve anyone: half the patience.
        let full = Policy::ms(case.policy.storage_grace_ms);
        let grace = if management || tenant { full / 2 } else { full };
        let told = case.evidence.beats.storage_write_age.is_some();
        if span > grace {
            let what = format!(
                "no write to guest storage for {}, over the grace of {}",
                seconds(span),
                seconds(grace)
            );
            case.show(Class::E2, "storage", what, silence);
            return case.failed(Class::E2, Grounds { by_silence: !told, ..Grounds::default() });
        }
        let now = case.now;
        case.look_at(now + (grace - span) + Duration::from_millis(1));
        case.say(format!("guest storage silent for {}: storage grace is {}", seconds(span), seconds(grace)));
    }
    if management && tenant && dark_for(&case, Network::Storage).is_some_and(|span| span < suspect) {
        return storage_alone(case);
    }
    for (dark, text) in [
        (management, "management network dark: disable scheduling and open a ticket, no fence"),
        (tenant, "tenant network dark: guests are unreachable but may be moved alive, no fence"),
    ] {
        if dark {
            case.say(text);
        }
    }
    if silence < case.policy.first_missed() {
        case.show(Class::E3, "agent", "beats flow", silence);
        return case.end(Verdict::Alive);
    }
    case.show(Class::E2, "agent", "no beat on any path since", silence);
    case.look_at(since + suspect);
    case.cannot_tell(format!("a beat, or silence of {}", seconds(suspect)))
}

/// How long guests have written nothing. A host that can tell is believed about its own writes; else its storage network speaks.
fn storage_dead_for(case: &mut Case<'_>, network_dark: bool) -> Option<Duration> {
    let told = case.evidence.beats.storage_write_age;
    let suspect = Policy::ms(case.policy.suspect_after_ms);
    // Only a host that beats now is known to live without its storage; what an old beat told says nothing about today.
    let since_told = case.age(last_beat(case.evidence)?);
    if since_told >= suspect {
        return None;
    }
    match told {
        Some(age) if age + since_told >= suspect => Some(age + since_told),
        Some(age) => {
            if network_dark {
                case.say(format!(
                    "storage network dark, but the host wrote to guest storage {} ago: no fence",
                    seconds(age + since_told)
                ));
            }
            None
        }
        None if network_dark => dark_for(case, Network::Storage),
        None => None,
    }
}

/// Management and tenant dark, storage beats: guests write and serve nobody. They must be killed before they are moved, and
/// only if the network is gone for others than us too. Storage beats do not block this (DESIGN 10.7).
fn storage_alone(mut case: Case<'_>) -> Judgement {
    let listening = case.evidence.beats.listening_since;
    let last = |network| {
        case.evidence.beats.last.iter().filter(move |(on, _)| *on == network).map(|(_, at)| *at).max()
    };
    let since =
        last(Network::Management).max(last(Network::Tenant)).map_or(listening, |at| at.max(listening));
    if let Some(sight) = life_in_silence(&case, since, false) {
        case.look_at(sight.until);
        case.show(
            Class::E3,
            &sight.source,
            "reachable although its management and tenant beats are dark",
            sight.age,
        );
        return case.end(Verdict::Alive);
    }
    case.say(format!(
        "beats on the storage network alone, management and tenant dark for {}",
        seconds(case.age(since))
    ));
    by_time(case, since, Class::E2, false)
}

/// No beat on any path for the suspicion time.
fn silent(mut case: Case<'_>, since: Mono) -> Judgement {
    let networks: BTreeSet<&str> =
        case.evidence.beats.last.iter().map(|(network, _)| network.as_str()).collect();
    // Storage alone being heard by a witness is the table's "isolated" row, if both other networks are known to be dark.
    let storage_counts = !(is_dark(&case, Network::Management) && is_dark(&case, Network::Tenant));
    let dark = networks.len();
    let names = networks.into_iter().collect::<Vec<_>>().join(", ");
    let silence = case.age(since);
    let what = match dark {
        0 => "no beat since this engine listens".to_owned(),
        _ => format!("no beat on {names}"),
    };
    case.show(if dark >= 2 { Class::E1 } else { Class::E2 }, "agent", what, silence);
    if let Some(span) = dumping(&case, since) {
        let what = "a crash kernel of it says that it writes a dump (unsigned), and no beat on any path";
        case.show(Class::E1, "fence_kdump", what, span);
        // Nobody signed it: the brakes on silence apply.
        return case.failed(Class::E1, Grounds { by_silence: true, ..Grounds::default() });
    }
    if let Some(sight) = life_in_silence(&case, since, storage_counts) {
        case.look_at(sight.until);
        let what = format!("{}: the agent is lost, not the host", sight.what);
        case.show(Class::E3, &sight.source, what, sight.age);
        return case.end(Verdict::AgentLost);
    }
    by_time(case, since, if dark >= 2 { Class::E1 } else { Class::E2 }, storage_counts)
}

/// How long ago a crash kernel spoke, where its word counts: young, begun after the last beat, and nothing seen alive since it began.
fn dumping(case: &Case<'_>, since: Mono) -> Option<Duration> {
    let dump = case.evidence.beats.dump.filter(|dump| !dump.is_over(case.now))?;
    let (first, last) = dump.message?;
    let lived = life_after(case.evidence, case.policy, first, case.now).is_some();
    (first > since && !lived && !case.liar).then(|| case.age(last))
}

/// Silence becomes a verdict: after the profile's time, when the host itself was asked, witnesses share it, paths suffice.
fn by_time(mut case: Case<'_>, since: Mono, class: Class, storage_counts: bool) -> Judgement {
    let ripe = time_to_verdict(case.policy);
    let silence = case.age(since);
    if silence < ripe {
        case.look_at(since + ripe);
        return case.cannot_tell(format!("a beat, or silence of {}", seconds(ripe)));
    }
    let row = case.row();
    let row_silent = matches!(row, Row::Still | Row::Down);
    if row_silent {
        case.say(if row == Row::Down {
            "Nova: service down"
        } else {
            "Nova: its row stands still while others move"
        });
    }
    if let Row::NotYet(at) = row {
        case.look_at(at);
    }
    if !asked_in_vain(&mut case) && !row_silent {
        let text =
            "somebody to ask the host itself (a probe port, or Nova's row): a dead agent is not a dead host";
        return wait_long(case, silence, text);
    }
    // One bond for everything is one path; conservative asks for a second (SAFETY 10).
    if class != Class::E1 && !row_silent && case.policy.profile == Profile::Conservative {
        return wait_long(
            case,
            silence,
            "a second silent path (another network, or Nova's row), as the profile asks",
        );
    }
    let (agreeing, needed) = quorum(&mut case, since, storage_counts);
    if agreeing < needed {
        case.say(format!("{agreeing} of {needed} needed observers besides this engine share the silence"));
        return wait_long(case, silence, "observers besides this engine that share the silence");
    }
    case.failed(class, Grounds { by_silence: true, agreeing, needed, by_report_only: false })
}

/// A wait that outlasts what a report may is handed to a person (L3).
fn wait_long(case: Case<'_>, silence: Duration, waiting_for: &str) -> Judgement {
    let long = Policy::ms(case.policy.report_stale_ms);
    if silence > long { case.ask_operator(waiting_for) } else { case.cannot_tell(waiting_for) }
}

/// The host's user land was asked lately, and did not answer. Silence that counts is longer than "lately" (each profile's
/// time to verdict exceeds its suspicion time), so this was asked within it.
fn asked_in_vain(case: &mut Case<'_>) -> bool {
    let Some(seen) = &case.evidence.user_land else { return false };
    let age = case.age(seen.at);
    let vain = !seen.answered && age < Policy::ms(case.policy.suspect_after_ms);
    if vain {
        case.show(Class::E2, "user land", "asked on its probe ports, no answer", age);
    }
    vain
}

/// Observers that share the silence, and how many are needed: min(2, living neighbours), at least one (DESIGN 10.14).
///
/// Each neighbour is one witness, whichever rack it stands in: a rack that falls silent as one is the brakes' matter (G2), which
/// hold it where everybody can see it. A BMC's answer counts: it shows that our own path to that rack works. Another engine with
/// the same sight counts.
fn quorum(case: &mut Case<'_>, since: Mono, storage_counts: bool) -> (u32, u32) {
    let evidence = case.evidence;
    let needed = evidence.neighbours.clamp(1, 2);
    let mut names = BTreeSet::new();
    for witness in &evidence.witnesses {
        if is_silent(case, witness, since, storage_counts) && names.insert(witness.name.as_str()) {
            let age = case.age(witness.at);
            case.show(Class::E1, &format!("witness {}", witness.name), "does not hear the host either", age);
        }
    }
    let mut agreeing = u32::try_from(names.len()).unwrap_or(u32::MAX);
    if let Some(reading) = &evidence.power
        && reading.at > since
        && case.age(reading.at) <= Policy::ms(case.policy.power_fresh_ms)
    {
        case.say(format!("{} answers: our path to it works", reading.device));
        agreeing = agreeing.saturating_add(1);
    }
    if evidence.engines_agreeing > 0 {
        case.say(format!("{} other engines see the same silence", evidence.engines_agreeing));
        agreeing = agreeing.saturating_add(evidence.engines_agreeing);
    }
    (agreeing, needed)
}

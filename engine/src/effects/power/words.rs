//! What the fencer saw, in the words of the core.

use std::time::Duration;

use halberd_core::effect::Done;
use halberd_core::evidence::Power as Word;
use halberd_core::fence::{DeviceAttempt, OrderAnswer, Reading};
use halberd_fencing as fencing;
use halberd_fencing::{PowerState, RestorePolicy};

pub(super) fn word(state: &PowerState) -> Word {
    match state {
        PowerState::On => Word::On,
        PowerState::Off => Word::Off,
        PowerState::Other(other) => Word::Other(other.clone()),
    }
}

pub(super) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A policy as it stands in the database.
pub(super) fn policy_word(policy: RestorePolicy) -> &'static str {
    match policy {
        RestorePolicy::AlwaysOff => "always_off",
        RestorePolicy::LastState => "last_state",
        RestorePolicy::AlwaysOn => "always_on",
    }
}

pub(super) fn policy_of(word: &str) -> Option<RestorePolicy> {
    [RestorePolicy::AlwaysOff, RestorePolicy::LastState, RestorePolicy::AlwaysOn]
        .into_iter()
        .find(|policy| policy_word(*policy) == word)
}

pub(super) fn attempt(seen: fencing::Attempt) -> DeviceAttempt {
    let order = match seen.order {
        fencing::OrderAnswer::Accepted => OrderAnswer::Accepted,
        fencing::OrderAnswer::AlreadyOff => OrderAnswer::AlreadyOff,
        fencing::OrderAnswer::NotSent => OrderAnswer::NotSent,
        fencing::OrderAnswer::AlreadyOn => OrderAnswer::Refused("it answered 'already on' to an off".into()),
        fencing::OrderAnswer::Refused(text) => OrderAnswer::Refused(text),
        fencing::OrderAnswer::Unknown(text) => OrderAnswer::Unknown(text),
    };
    DeviceAttempt {
        // The fencer counts levels from 1, as operators do.
        level: seen.level.saturating_sub(1),
        device: seen.device,
        token: None,
        identity_matches: seen.identity_matches,
        stated: seen.stated,
        held: seen.held.is_some(),
        order,
        readings: seen
            .readings
            .iter()
            .map(|reading| Reading {
                power: word(&reading.state),
                at_ms: ms(reading.at),
                after_order: reading.after_order,
            })
            .collect(),
        error: seen.error,
        took_ms: ms(seen.took),
    }
}

/// How an on order ended. Only a reading says that it is on: of every device of one level, as two supplies may both be needed.
/// `levels` is how many devices each level has.
pub(super) fn on_done(report: &fencing::FenceReport, levels: &[usize]) -> Done {
    for (level, devices) in levels.iter().enumerate() {
        let mut on: Vec<(&str, Duration)> = Vec::new();
        for attempt in report.attempts.iter().filter(|attempt| attempt.level == level + 1) {
            let read = attempt.readings.iter().rfind(|reading| reading.after_order);
            let read = read.filter(|reading| reading.state == PowerState::On);
            if let Some(reading) = read
                && !on.iter().any(|(device, _)| *device == attempt.device)
            {
                on.push((&attempt.device, reading.at));
            }
        }
        if *devices > 0 && on.len() >= *devices {
            let last = on.iter().map(|(_, at)| *at).max().unwrap_or_default();
            let names: Vec<&str> = on.into_iter().map(|(device, _)| device).collect();
            let note = format!("{} after {:.1} s", names.join(" and "), last.as_secs_f64());
            return Done::Accepted { note };
        }
    }
    let whys: Vec<String> = report
        .attempts
        .iter()
        .map(|attempt| {
            let why = attempt.error.clone().or_else(|| match &attempt.order {
                fencing::OrderAnswer::Refused(why) | fencing::OrderAnswer::Unknown(why) => Some(why.clone()),
                _ => None,
            });
            why.unwrap_or_else(|| format!("{}: not read On in time", attempt.device))
        })
        .collect();
    let text = if whys.is_empty() { "no device could be asked".to_owned() } else { whys.join("; ") };
    let may_have_happened = |attempt: &fencing::Attempt| {
        attempt.order.is_accepted() || matches!(attempt.order, fencing::OrderAnswer::Unknown(_))
    };
    let refused = |attempt: &fencing::Attempt| matches!(attempt.order, fencing::OrderAnswer::Refused(_));
    if report.attempts.iter().any(may_have_happened) {
        Done::Unknown { text }
    } else if report.attempts.iter().any(refused) {
        // No HTTP answer stands behind it: 409 is the status of what the present state forbids.
        Done::Refused { status: 409, text }
    } else {
        Done::NotExecuted { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(
        level: usize,
        device: &str,
        order: fencing::OrderAnswer,
        read: &[(PowerState, bool)],
    ) -> fencing::Attempt {
        fencing::Attempt {
            level,
            device: device.into(),
            token: None,
            identity: None,
            identity_matches: Some(true),
            stated: false,
            order,
            orders: 1,
            readings: read
                .iter()
                .map(|(state, after_order)| fencing::Reading {
                    state: state.clone(),
                    at: Duration::from_millis(1_500),
                    after_order: *after_order,
                })
                .collect(),
            held: None,
            error: None,
            notes: Vec::new(),
            took: Duration::from_secs(2),
        }
    }

    #[test]
    fn on_is_what_was_read_and_not_what_was_answered() {
        use fencing::OrderAnswer::{Accepted, NotSent, Refused, Unknown};
        let done = |attempts: Vec<fencing::Attempt>, levels: &[usize]| {
            on_done(&fencing::FenceReport { attempts }, levels).word()
        };
        let (on, off) = (PowerState::On, PowerState::Off);
        assert_eq!(done(vec![attempt(1, "a", Accepted, &[(on.clone(), true)])], &[1]), "done");
        assert_eq!(done(vec![attempt(1, "a", Accepted, &[(off.clone(), true)])], &[1]), "unknown");
        // On before the order says nothing of the order, and a later reading counts for more than an earlier one.
        assert_eq!(done(vec![attempt(1, "a", Accepted, &[(on.clone(), false)])], &[1]), "unknown");
        let fell = [(on.clone(), true), (off.clone(), true)];
        assert_eq!(done(vec![attempt(1, "a", Accepted, &fell)], &[1]), "unknown");
        // One supply of two.
        let one = attempt(1, "a", Accepted, &[(on.clone(), true)]);
        let other = attempt(1, "b", Refused("no".into()), &[(off.clone(), true)]);
        assert_eq!(done(vec![one.clone(), other], &[2]), "unknown");
        assert_eq!(done(vec![one.clone(), attempt(1, "b", Accepted, &[(on.clone(), true)])], &[2]), "done");
        // The same device twice is one device.
        assert_eq!(done(vec![one.clone(), one.clone()], &[2]), "unknown");
        assert_eq!(done(vec![attempt(1, "a", Refused("no".into()), &[])], &[1]), "refused");
        assert_eq!(done(vec![attempt(1, "a", NotSent, &[])], &[1]), "not_executed");
        assert_eq!(done(vec![attempt(1, "a", Unknown("reset".into()), &[])], &[1]), "unknown");
        // The second level did it.
        let second = attempt(2, "b", Accepted, &[(on, true)]);
        assert_eq!(done(vec![attempt(1, "a", NotSent, &[]), second], &[1, 1]), "done");
        assert_eq!(done(Vec::new(), &[]), "not_executed");
    }

    #[test]
    fn policies_read_back() {
        for policy in [RestorePolicy::AlwaysOff, RestorePolicy::LastState, RestorePolicy::AlwaysOn] {
            assert_eq!(policy_of(policy_word(policy)), Some(policy));
        }
        assert_eq!(policy_of("sometimes"), None);
    }
}

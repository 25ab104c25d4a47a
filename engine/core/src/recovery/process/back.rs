//! The way back of a process' host into scheduling.
//!
//! ```text
//! Returning --alive without a gap, its host beats--> enable, if the disable is ours --taken--> Finished (maintenance cleared)
//!    |--a person enabled it, or cleared its maintenance, or cancelled--> Finished (Nova is not touched)
//!    \--its host is being recovered, or deleted--> Finished (the host's own way back undoes the rest)
//! ```
//!
//! Nobody waits for it: to v1 the report is finished since the host is out of scheduling (contract 3.7), and the host may be changed
//! or deleted. It has no deadline for the same reason as a fenced host has none: a person brings the process back.

use std::time::Duration;

use serde_json::json;

use super::{ProcessState, close, is_silent, while_in};
use crate::effect::{Done, Effect, Query};
use crate::host::{Admission, Host, SetByUs};
use crate::runner::HostPatch;
use crate::step::{Draft, Memory};

/// The service is looked at this often while nothing shows that its process lives.
const LOOK_MS: u64 = 5_000;
/// And while it does: often enough that no two changes, a report interval apart, look like a gap of one and a half.
const LOOK_CLOSER_MS: u64 = 2_000;
/// A process lives for this long before it counts as well. One that crashes at its start reports once or never and is then
/// silent; its host is not to go in and out of scheduling with it. Three of Nova's report intervals, as they are by default.
const STEADY: Duration = Duration::from_secs(30);
/// And says so at least this often after the first time: where Nova's report interval is longer, it takes longer.
const CHANGES: u32 = 2;

pub(super) const WAITS: &str = "out of scheduling until nova-compute has been alive for 30 s without a gap";

/// The next step of a recovery that is *returning*.
pub(super) fn step(draft: &mut Draft<'_>) {
    let facts = draft.view.facts;
    draft.look_after(if facts.pulse.is_alive() { LOOK_CLOSER_MS } else { LOOK_MS });
    // What a deed of ours did has to be known to whoever undoes it (I13).
    if facts.awaits_deed() || (facts.host.is_none() && !facts.host_gone) {
        return;
    }
    let host = facts.host.clone().filter(|host| host.admission == Admission::In && !facts.host_gone);
    if let Some(outcome) = facts.outcomes.first().cloned() {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
        match (&outcome.done, &host) {
            // Whoever recovers the host sets all of it again, and who deleted it knows what he did.
            (_, None) => {}
            (Done::Accepted { .. }, Some(host)) => {
                return taken_back(draft, host, "nova-compute is well again");
            }
            _ => {
                let again = draft.view.now + Duration::from_millis(LOOK_MS);
                draft.memory.push(Memory::NotBefore(again));
                draft.reason =
                    format!("Nova did not take the enabling, tried again: {}", outcome.done.word());
                return;
            }
        }
    }
    let Some(host) = host else {
        let recovered = "its host is being recovered: its way back ends this too";
        let why = if facts.host_gone { "its host was deleted" } else { recovered };
        return close(draft, ProcessState::Finished, why);
    };
    if let Some(who) = &facts.cancelled {
        let why = format!("cancelled by {who}: {} stays out of scheduling", host.name);
        return close(draft, ProcessState::Finished, &why);
    }
    if !host.maintenance.process {
        return close(draft, ProcessState::Finished, "its maintenance was cleared by hand");
    }
    look(draft, &host);
}

fn look(draft: &mut Draft<'_>, host: &Host) {
    let facts = draft.view.facts;
    let pace = if facts.pulse.is_alive() { LOOK_CLOSER_MS } else { LOOK_MS };
    draft.ask_every(Query::Service { host: host.name.clone() }, pace);
    // No row may be one of a cell that is down: that is waited for as well.
    let Some((at, Some(row))) = facts.service.as_ref() else { return };
    if !row.whole || draft.view.now.since(*at).as_millis() as u64 > pace {
        return;
    }
    let steady = facts.pulse.is_steady(STEADY, CHANGES);
    if row.enabled {
        let why = if steady { "nova-compute is well again" } else { "its service is enabled again" };
        return taken_back(draft, host, why);
    }
    // A PUT on a host that is dying blocks a Nova worker for a minute (DESIGN 10.4).
    if !steady || is_silent(draft) || draft.not_before().is_some() {
        return;
    }
    let ours = host.set_by_us.disabled && row.bears_our_reason();
    if !ours {
        let why = "nova-compute is well again; its service was disabled by somebody else and is left so";
        return taken_back(draft, host, why);
    }
    let text = format!("nova-compute of {} lives again: back into scheduling", host.name);
    draft.note("process_well_again", text, json!({"steady_s": STEADY.as_secs()}));
    draft.act(Effect::Enable { host: host.name.clone() }, 1, json!({}));
}

/// Nothing of ours is left in Nova, nor on the host's row.
fn taken_back(draft: &mut Draft<'_>, host: &Host, why: &str) {
    let set = SetByUs { disabled: false, ..host.set_by_us };
    let patch = HostPatch { maintenance_process: Some(false), set_by_us: Some(set), ..HostPatch::default() };
    draft.hosts.push((host.id, while_in(patch)));
    close(draft, ProcessState::Finished, why);
}

//! What to do about each host after a look at everything seen. Pure: the fleet and the time go in, a list of things to do comes
//! out, so that the simulator runs it in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use halberd_core::host::Admission;
use halberd_core::id::{BootId, HostId};
use halberd_core::time::Mono;
use halberd_core::verdict::{self, Judgement, Verdict};

use super::fleet::{Fleet, Known};

/// Pace between two power readings of one BMC while a host is suspect (DESIGN 4).
pub const POWER_EVERY: Duration = Duration::from_secs(5);
/// Between two questions to its user land.
pub const USER_LAND_EVERY: Duration = Duration::from_secs(1);

/// What a look at one host asks for.
#[derive(Debug)]
pub enum Todo {
    /// Read its power.
    Power(HostId),
    /// Ask its user land at these addresses.
    UserLand(HostId, Vec<SocketAddr>),
    /// Open its recovery.
    Open(HostId, Box<Judgement>),
    /// Its verdict changed: store and tell.
    Say(HostId, Verdict, Box<Judgement>),
    /// A boot that is not in its row: version of the row, number, boot.
    Boot(HostId, i64, u32, BootId),
}

/// While a silence is this young, every tick may bring the verdict.
const FRESH_SILENCE: Duration = Duration::from_secs(15);
/// After that, and after a verdict, a host is judged afresh this often.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// One look at every host; true while any is suspect.
pub fn look(fleet: &mut Fleet, now: Mono) -> (Vec<Todo>, bool) {
    let mut todos = Vec::new();
    let mut suspects = false;
    fleet.note_silence(now);
    let ids: Vec<HostId> = fleet.hosts.keys().copied().collect();
    for id in ids {
        // Most hosts, most of the time: judged alive before, and every path beats.
        let well =
            |known: &Known| known.said == Some(Verdict::Alive) && known.sight.is_well(&known.policy, now);
        if fleet.hosts.get(&id).is_some_and(|known| {
            well(known) && known.row.ever_agent && known.row.boot == known.sight.beats.boot
        }) {
            continue;
        }
        let Some(known) = fleet.hosts.get_mut(&id) else { continue };
        new_boot(known, &mut todos);
        let suspect =
            (known.silent_since.is_some() || known.in_doubt) && known.row.admission != Admission::Out;
        if known.silent_since.is_some() || known.in_doubt {
            suspects = suspects || suspect;
            start_probes(known, now, &mut todos);
        }
        if !known.sight.agent
            || known.row.admission != Admission::In
            || known.judge_again.is_some_and(|at| now < at)
        {
            continue;
        }
        let Some(evidence) = fleet.evidence(id, now) else { continue };
        let Some(known) = fleet.hosts.get_mut(&id) else { continue };
        let judgement = verdict::judge(&evidence, &known.policy, now);
        let verdict = judgement.verdict;
        let fresh = known.silent_since.is_none_or(|since| now.since(since) < FRESH_SILENCE);
        known.judge_again = (verdict != Verdict::CannotTell || !fresh).then(|| now + JUDGE_EVERY);
        if verdict == Verdict::Failed {
            todos.push(Todo::Open(id, Box::new(judgement)));
        } else if known.said != Some(verdict) && verdict != Verdict::CannotTell {
            todos.push(Todo::Say(id, verdict, Box::new(judgement)));
        }
        if verdict != Verdict::CannotTell {
            known.said = Some(verdict);
        }
    }
    (todos, suspects)
}

/// The engine numbers boots (DESIGN 10.7): a new boot id of a host that is in, or admitted, gets the next number.
fn new_boot(known: &Known, todos: &mut Vec<Todo>) {
    let Some(boot) = known.sight.beats.boot else { return };
    let unknown = known.row.boot != Some(boot) && !known.row.retired_boots.contains(&boot);
    if unknown && known.row.admission != Admission::Out || !known.row.ever_agent {
        todos.push(Todo::Boot(
            known.row.id,
            known.row.version,
            known.row.boot_number + u32::from(unknown),
            boot,
        ));
    }
}

fn start_probes(known: &mut Known, now: Mono, todos: &mut Vec<Todo>) {
    let probing = &mut known.probing;
    let due = |last: Option<Mono>, pace: Duration| last.is_none_or(|at| now.since(at) >= pace);
    if known.sight.has_device
        && !known.sight.only_watchdog
        && !probing.power_busy
        && due(probing.power, POWER_EVERY)
    {
        (probing.power, probing.power_busy) = (Some(now), true);
        todos.push(Todo::Power(known.row.id));
    }
    let addresses: Vec<_> = known.addresses.values().copied().collect();
    if !addresses.is_empty() && !probing.user_land_busy && due(probing.user_land, USER_LAND_EVERY) {
        (probing.user_land, probing.user_land_busy) = (Some(now), true);
        todos.push(Todo::UserLand(known.row.id, addresses));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use halberd_core::id::NotificationId;
    use halberd_core::policy::Policy;
    use halberd_core::recovery::Subject;
    use uuid::Uuid;

    use super::*;
    use crate::collect::testing::row;

    fn probes_power(fleet: &mut Fleet, at: Mono) -> bool {
        let (todos, _) = look(fleet, at);
        todos.iter().any(|todo| matches!(todo, Todo::Power(_)))
    }

    #[test]
    fn a_report_is_noted_for_a_known_host_alone_and_makes_it_a_suspect() {
        let host = row().id;
        let report = NotificationId(Uuid::from_u128(3));
        let mut fleet = Fleet::new(Mono(0));
        assert!(
            !fleet.note_report(host, report, Mono(10), Mono(10), false),
            "it was registered a moment ago"
        );
        let devices = BTreeSet::from([host]);
        fleet.refresh(vec![row()], &BTreeMap::new(), &Policy::default(), &devices, Mono(20));
        assert!(!probes_power(&mut fleet, Mono(20)));
        assert!(fleet.note_report(host, report, Mono(30), Mono(30), false));
        assert!(probes_power(&mut fleet, Mono(30)));
    }

    #[test]
    fn a_host_whose_recovery_waits_for_a_verdict_is_probed_whatever_else_is_known() {
        let host = row().id;
        let mut fleet = Fleet::new(Mono(0));
        let devices = BTreeSet::from([host]);
        fleet.refresh(vec![row()], &BTreeMap::new(), &Policy::default(), &devices, Mono(0));
        assert!(!probes_power(&mut fleet, Mono(1_000)), "nobody doubts it");
        fleet.doubt(&Subject::Host { host }, true);
        assert!(probes_power(&mut fleet, Mono(2_000)));
        fleet.doubt(&Subject::Host { host }, false);
        if let Some(known) = fleet.hosts.get_mut(&host) {
            known.probing = Default::default();
        }
        assert!(!probes_power(&mut fleet, Mono(60_000)));
    }
}

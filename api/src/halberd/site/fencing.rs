//! Whether each host could be turned off if it had to be now, judged from the last checks as stored: no device is asked for it.
//!
//! All devices of a level must confirm, and one whole level is enough; so a host is judged by its levels, and a device that could not
//! weighs as much as its level is needed. What was not checked, or not for long, is not known to work: it is said so, and counts
//! neither as good nor as bad.

use chrono::{DateTime, Utc};
use halberd_core::host::Host;
use halberd_core::time::Stamp;
use halberd_types::halberd::fence_device::{DeviceCheckView, FenceDeviceView, FenceDevicesView};
use halberd_types::halberd::readiness::{
    FencingCause, HostCause, HostFencing, HostReadiness, ReadinessCheck, ReadinessLevel,
};

use super::readiness::{check, subject};

/// Every device is checked at least every five minutes (DESIGN 7); twice that is too old, in microseconds. For display.
const CHECK_OLD: i64 = 600_000_000;

/// What is known of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Good,
    Bad,
    /// Never checked, or not for long.
    Not,
}

/// What is found of one device besides its description: who owns its machine in OpenStack's bare metal service.
pub(super) type Owner = Option<String>;

/// Judges a host by its devices; `owner` tells of a device by level and place whether something else switches its machine.
pub(super) fn judge(
    host: &Host,
    view: &FenceDevicesView,
    owner: impl Fn(usize, usize) -> Owner,
    now: Stamp,
) -> HostReadiness {
    let mut causes = Vec::new();
    let mut levels: Vec<(Known, Option<DateTime<Utc>>)> = Vec::new();
    for (level, devices) in view.levels.iter().enumerate() {
        let mut known = Vec::new();
        for (place, device) in devices.devices.iter().enumerate() {
            let at = Place { level, place, device };
            known.push(at.judge(owner(level, place), now, &mut causes));
        }
        levels.push(of_level(&known));
    }
    for warning in &view.warnings {
        causes.push(cause(FencingCause::Transport, None, warning.clone()));
    }
    if view.levels.is_empty() {
        let text = "no fence device: a recovery of it stops and asks a person";
        causes.push(HostCause { blocks: true, ..cause(FencingCause::NoDevice, None, text.to_owned()) });
    }
    causes.sort_by_key(|cause| !cause.blocks);
    let (fencing, since) = of_host(&levels);
    HostReadiness {
        host_id: host.id.0,
        host: host.name.clone(),
        fencing,
        since,
        causes,
        last_drill_at: view.last_drill_at,
    }
}

/// A level is good when all its devices are, and bad as soon as one is; with since when.
fn of_level(devices: &[(Known, Option<DateTime<Utc>>)]) -> (Known, Option<DateTime<Utc>>) {
    let of = |known: Known| devices.iter().filter(move |device| device.0 == known).map(|device| device.1);
    if devices.iter().any(|device| device.0 == Known::Bad) {
        // Bad since the first of them broke.
        return (Known::Bad, of(Known::Bad).min().flatten());
    }
    if devices.iter().any(|device| device.0 == Known::Not) {
        return (Known::Not, None);
    }
    (Known::Good, latest(of(Known::Good)))
}

fn of_host(levels: &[(Known, Option<DateTime<Utc>>)]) -> (HostFencing, Option<DateTime<Utc>>) {
    let has = |known: Known| levels.iter().any(|level| level.0 == known);
    let of = |known: Known| levels.iter().filter(move |level| level.0 == known).map(|level| level.1);
    match (has(Known::Good), has(Known::Bad), has(Known::Not)) {
        (false, false, false) => (HostFencing::NoDevice, None),
        (true, false, false) => (HostFencing::Ready, latest(of(Known::Good))),
        (true, true, _) => (HostFencing::Degraded, of(Known::Bad).min().flatten()),
        (true, false, true) => (HostFencing::Degraded, None),
        (false, _, true) => (HostFencing::Unchecked, None),
        // Not ready since the last one broke.
        (false, true, false) => (HostFencing::NotReady, latest(of(Known::Bad))),
    }
}

/// The latest, if all are known.
fn latest(times: impl Iterator<Item = Option<DateTime<Utc>>>) -> Option<DateTime<Utc>> {
    times.collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn cause(cause: FencingCause, at: Option<&Place<'_>>, text: String) -> HostCause {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    HostCause {
        cause,
        level: at.map(|at| number(at.level)),
        position: at.map(|at| number(at.place)),
        device: at.map(|at| at.device.name()),
        blocks: false,
        text,
    }
}

/// A device where it stands.
struct Place<'a> {
    level: usize,
    place: usize,
    device: &'a FenceDeviceView,
}

impl Place<'_> {
    fn judge(&self, owner: Owner, now: Stamp, causes: &mut Vec<HostCause>) -> (Known, Option<DateTime<Utc>>) {
        let mut found = |kind, text: String| causes.push(cause(kind, Some(self), text));
        let Some(check) = &self.device.last_check else {
            found(FencingCause::Check, "not checked since it was set".to_owned());
            return (Known::Not, None);
        };
        // A device that is ready says it among its warnings too, in its own words: once is enough.
        let of_policy = |warning: &&String| warning.contains("restore policy");
        let always_on = check.restore_policy.as_deref() == Some("always_on");
        if always_on {
            let text =
                "the machine switches itself on when its supply returns (restore policy \"always on\")";
            found(FencingCause::RestorePolicy, text.to_owned());
        }
        if !check.ready {
            let text = check.error.clone().unwrap_or_else(|| "it could not fence".to_owned());
            let kind = match why(check) {
                // The engine calls a device bad whose machine another service would switch on again.
                FencingCause::Order if owner.is_some() => FencingCause::Ironic,
                kind => kind,
            };
            causes.push(HostCause { blocks: true, ..cause(kind, Some(self), text) });
            return (Known::Bad, check.since);
        }
        if check.identity_matches.is_none() && self.device.last_drill_at.is_none() {
            let text = match check.stated {
                true => "that it switches this machine stands on its description alone",
                false => "which machine it turns off is not compared with anything",
            };
            found(FencingCause::Unnamed, text.to_owned());
        }
        for warning in check.warnings.iter().filter(|warning| !(always_on && of_policy(warning))) {
            found(FencingCause::Weakness, warning.clone());
        }
        let checked = Stamp(check.at.timestamp_micros());
        if now.0.saturating_sub(checked.0) > CHECK_OLD {
            let text = format!("ready at its last check, which was {} ago", ago(now, checked));
            found(FencingCause::Check, text);
            return (Known::Not, None);
        }
        (Known::Good, check.since)
    }
}

/// The first thing that stands in the way, in the order in which a check goes.
fn why(check: &DeviceCheckView) -> FencingCause {
    match check {
        check if !check.reached => FencingCause::Reach,
        check if !check.logged_in => FencingCause::Login,
        check if check.identity_matches == Some(false) => FencingCause::Serial,
        check if check.power.is_none() => FencingCause::PowerState,
        _ => FencingCause::Order,
    }
}

fn ago(now: Stamp, then: Stamp) -> String {
    let minutes = now.0.saturating_sub(then.0) / 60_000_000;
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2_880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

/// The same as checks among all the others of the site: one for each cause, or that all is well.
pub(super) fn checks(host: &Host, judged: &HostReadiness) -> Vec<ReadinessCheck> {
    use ReadinessLevel::{Green, Red, Yellow};
    let mut found: Vec<ReadinessCheck> = judged
        .causes
        .iter()
        .map(|cause| {
            let level = match judged.fencing {
                HostFencing::NotReady if cause.blocks => Red,
                _ => Yellow,
            };
            let (name, remedy) = told(cause.cause, &host.name);
            let reason = match (&cause.device, cause.level) {
                (Some(device), Some(level)) => format!("level {level}, {device}: {}", cause.text),
                _ => cause.text.clone(),
            };
            let mut one = check(name, subject(host), level, reason, &remedy);
            one.since = judged.since.filter(|_| cause.blocks);
            one
        })
        .collect();
    if matches!(judged.fencing, HostFencing::Ready | HostFencing::Degraded) {
        let reason = match judged.fencing {
            HostFencing::Ready => "every level of its fence devices could turn it off",
            _ => "a level of its fence devices could turn it off",
        };
        found.push(check("host_fencing", subject(host), Green, reason, ""));
    }
    found
}

/// The check's name and what to do.
fn told(cause: FencingCause, host: &str) -> (&'static str, String) {
    let (name, remedy) = match cause {
        FencingCause::Reach => (
            "fence_device_ready",
            "See that it has power and a network that the engines reach; then check it.",
        ),
        FencingCause::Login => ("fence_device_ready", "Set the right account; then it is checked again."),
        FencingCause::Serial => {
            ("fence_device_ready", "Set the device of this very machine, or the host's right serial.")
        }
        FencingCause::PowerState | FencingCause::Order => ("fence_device_ready", "Mend it; then check it."),
        FencingCause::Check => ("fence_device_checked", "See that an engine is at work; then check it."),
        FencingCause::RestorePolicy => {
            ("restore_policy", "Set it to \"always off\" or \"last state\" on the machine.")
        }
        FencingCause::Ironic => {
            ("machine_owner", "Set the node to maintenance in the bare metal service, or take it out there.")
        }
        FencingCause::Unnamed => ("fence_device_identified", "Set the host's serial, or pass a drill."),
        FencingCause::Transport => ("fence_device_secure", "Use https with a certificate that is verified."),
        FencingCause::Weakness => ("fence_device_secure", "Look at the device."),
        FencingCause::NoDevice => ("fence_device_present", "Set one."),
    };
    let verb = match cause {
        FencingCause::NoDevice | FencingCause::Login => format!(" `halberd fence devices set {host}`"),
        FencingCause::Reach | FencingCause::PowerState | FencingCause::Order | FencingCause::Check => {
            format!(" `halberd fence devices check {host}`")
        }
        FencingCause::Serial => format!(" `halberd host attributes {host} --serial ..`"),
        FencingCause::Unnamed => format!(" `halberd fence test {host} --really-power-off`"),
        _ => String::new(),
    };
    (name, format!("{remedy}{verb}"))
}

/// The node of a bare metal service that would switch the machine on again, as the engine found out. One on maintenance there does not.
pub(super) fn owner(detail: &serde_json::Value) -> Owner {
    let owner = &detail["owner"];
    owner["node"].as_str().filter(|_| owner["maintenance"] != true).map(str::to_owned)
}

#[cfg(test)]
mod tests;

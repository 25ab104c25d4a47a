//! Proof that a machine is off. The only place where one can be made (I1, I15).
//!
//! No reply of a BMC proves anything but its later reading: success is "the device read Off twice, at least a second
//! apart, on the right machine, after our order" and nothing else. A proof names one host and one boot; a sign of life
//! after it voids it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, Power};
use crate::guard::{self, Guard};
use crate::id::{BootId, HostId};
use crate::policy::Policy;
use crate::time::Mono;
use crate::watchdog::{self, Terms};

/// Two readings closer than this may be one cached answer (DESIGN 2.2).
pub const READINGS_APART: Duration = Duration::from_secs(1);

/// What a fence attempt saw through one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceAttempt {
    /// Level of the topology, from 0.
    pub level: usize,
    /// Kind and address; no secret.
    pub device: String,
    /// The session that carried the order, where the BMC has revocable ones (FENCING 2.4).
    pub token: Option<String>,
    /// `Some(true)`: serial or UUID matched in this session; `None`: the device cannot name a machine or nothing is on file.
    pub identity_matches: Option<bool>,
    /// The device cannot name a machine; the operator stated which one hangs on it.
    #[serde(default)]
    pub stated: bool,
    /// Its power-restore policy was changed, so that the machine stays off when its supply comes back.
    #[serde(default)]
    pub held: bool,
    pub order: OrderAnswer,
    pub readings: Vec<Reading>,
    pub error: Option<String>,
    pub took_ms: u64,
}

/// What became of the off order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderAnswer {
    Accepted,
    /// Refused because it is off already: counts as accepted, the readings decide.
    AlreadyOff,
    NotSent,
    Refused(String),
    /// No answer, or one that leaves it open.
    Unknown(String),
}

/// One reading of power within an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub power: Power,
    /// Milliseconds since the act began, by the fencer's monotonic clock.
    pub at_ms: u64,
    /// Made after the order was accepted.
    pub after_order: bool,
}

/// One fence act: every device that was asked, level by level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FenceReport {
    pub attempts: Vec<DeviceAttempt>,
    /// How many devices each level has: all of a level must confirm.
    pub levels: Vec<usize>,
}

/// How a proof came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Means {
    /// Two Off readings after our order, by every device of one level.
    Power { level: usize, devices: Vec<String> },
    /// A person stated that the machine with this serial is off.
    Operator { actor: String, reason: String, serial: String },
    /// Nothing renewed its attested watchdog's lease for T_safe: the host has reset itself, or was dead before (SAFETY 2.3).
    Lease { terms: Terms, waited_ms: u64 },
    /// No device exists and the segment says `unfenced = "trust-reporter"`: a word, not a proof of power. Never with force-down.
    Waived { reason: String },
}

/// Something one can hold that says: this host's boot is off. Cannot be made outside this module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FenceProof {
    host: HostId,
    boot_number: u32,
    epoch: i64,
    means: Means,
}

/// Why a fence act proved nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    #[error("no fence device is configured for this host")]
    NoDevice,
    #[error("the BMC belongs to another machine: {0}; correct the host's fence device or its serial")]
    WrongMachine(String),
    #[error("power-off was accepted and the machine still reads On: {0}")]
    StillOn(String),
    #[error("no device of any level confirmed the power-off: {0}")]
    Unconfirmed(String),
    /// Something alive was heard after the device read Off.
    #[error("{0}")]
    Contradicted(String),
    #[error("the serial given does not match the host's ({0})")]
    WrongSerial(String),
    #[error("{0}")]
    Forbidden(String),
    #[error(transparent)]
    Watchdog(#[from] watchdog::NotOver),
}

impl FenceProof {
    pub fn host(&self) -> HostId {
        self.host
    }
    pub fn boot_number(&self) -> u32 {
        self.boot_number
    }
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
    pub fn means(&self) -> &Means {
        &self.means
    }
    /// Whether force-down may follow: a waived proof never allows it (DESIGN 2.2).
    pub fn allows_force_down(&self) -> bool {
        !matches!(self.means, Means::Waived { .. })
    }
    /// Whether power must read Off again before each batch; without a BMC's word, the absence of life stands in (I3).
    pub fn rereads_power(&self) -> bool {
        matches!(self.means, Means::Power { .. })
    }
}

/// A proof from a fence act, or why there is none. `boot_number` is the host's when the order was written.
pub fn prove(
    host: HostId,
    boot_number: u32,
    epoch: i64,
    report: &FenceReport,
) -> Result<FenceProof, NotProved> {
    if report.levels.iter().all(|devices| *devices == 0) {
        return Err(NotProved::NoDevice);
    }
    for (level, devices) in report.levels.iter().enumerate() {
        let confirmed: Vec<String> = report
            .attempts
            .iter()
            .filter(|attempt| attempt.level == level && confirms(attempt))
            .map(|attempt| attempt.device.clone())
            .collect();
        if *devices > 0 && distinct(&confirmed) >= *devices {
            return Ok(FenceProof {
                host,
                boot_number,
                epoch,
                means: Means::Power { level, devices: confirmed },
            });
        }
    }
    if !guard::stands(Guard::Confirmed) {
        return Ok(FenceProof {
            host,
            boot_number,
            epoch,
            means: Means::Power { level: 0, devices: Vec::new() },
        });
    }
    Err(why_not(report))
}

/// A proof from a person, who must name the machine's serial as it is on file.
pub fn state_off(
    host: HostId,
    boot_number: u32,
    epoch: i64,
    on_file: Option<&str>,
    serial: &str,
    actor: &str,
    reason: &str,
) -> Result<FenceProof, NotProved> {
    if reason.trim().is_empty() {
        return Err(NotProved::Forbidden("a confirmation needs a reason".into()));
    }
    if on_file.is_none_or(|known| !known.eq_ignore_ascii_case(serial.trim())) {
        return Err(NotProved::WrongSerial(serial.to_owned()));
    }
    let means =
        Means::Operator { actor: actor.to_owned(), reason: reason.to_owned(), serial: serial.to_owned() };
    Ok(FenceProof { host, boot_number, epoch, means })
}

/// A waiver where the segment says so in so many words, Nova itself says down, nothing contradicts and the report is fresh
/// (DESIGN 2.2). The caller hands in what it saw; this decides.
pub fn waive(
    host: HostId,
    boot_number: u32,
    epoch: i64,
    trusted: bool,
    nova_down: bool,
    contradicted: bool,
    report_fresh: bool,
) -> Result<FenceProof, NotProved> {
    let forbidden = |why: &str| Err(NotProved::Forbidden(why.to_owned()));
    if !trusted {
        return Err(NotProved::NoDevice);
    }
    if contradicted {
        return forbidden("no waiver: something saw the host alive");
    }
    if !nova_down {
        return forbidden("no waiver yet: Nova does not say down");
    }
    if !report_fresh {
        return forbidden("no waiver: the report is stale");
    }
    let reason = "the segment trusts its reporter (unfenced = \"trust-reporter\")".to_owned();
    Ok(FenceProof { host, boot_number, epoch, means: Means::Waived { reason } })
}

/// A proof by time: the fenced boot's watchdog was attested, its lease was renewed by nobody for T_safe, and nothing speaks of life since it
/// must have fired. `not_before`: a takeover, before which nothing counts. The caller hands in what it saw; this decides.
///
/// # Errors
/// [`NotProved::Watchdog`]: why not, or not yet.
pub fn expire(
    host: HostId,
    boot: (u32, Option<BootId>),
    epoch: i64,
    evidence: &Evidence,
    policy: &Policy,
    not_before: Option<Mono>,
    now: Mono,
) -> Result<FenceProof, NotProved> {
    let over = watchdog::over(evidence, boot.1, policy, not_before, now)?;
    let (terms, waited_ms) = (over.terms, over.waited_ms);
    Ok(FenceProof { host, boot_number: boot.0, epoch, means: Means::Lease { terms, waited_ms } })
}

impl FenceReport {
    /// A controller's power-restore policy was changed.
    pub fn held(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.held)
    }

    /// Confirming devices that could not say which machine they switched.
    pub fn unnamed(&self) -> Vec<String> {
        let confirming = self.attempts.iter().filter(|attempt| confirms(attempt));
        confirming
            .filter(|attempt| attempt.identity_matches.is_none())
            .map(|attempt| attempt.device.clone())
            .collect()
    }

    /// When the last of the confirming devices first read Off, in milliseconds since the act began: whoever is heard later than
    /// that was not off, whatever the device says (FENCING 2.1, veto).
    pub fn off_since_ms(&self) -> Option<u64> {
        let confirming = self.attempts.iter().filter(|attempt| confirms(attempt));
        confirming.filter_map(off_run).map(|(first, _)| first).max()
    }
}

fn confirms(attempt: &DeviceAttempt) -> bool {
    if !guard::stands(Guard::TwoReadings) {
        return matches!(attempt.order, OrderAnswer::Accepted | OrderAnswer::AlreadyOff);
    }
    attempt.identity_matches != Some(false)
        && matches!(attempt.order, OrderAnswer::Accepted | OrderAnswer::AlreadyOff)
        && off_run(attempt)
            .is_some_and(|(first, last)| last.saturating_sub(first) >= READINGS_APART.as_millis() as u64)
}

/// First and last time of the newest unbroken run of Off after the order: a reading of anything else in between starts it afresh.
fn off_run(attempt: &DeviceAttempt) -> Option<(u64, u64)> {
    let after = attempt.readings.iter().rev().filter(|reading| reading.after_order);
    let run: Vec<u64> =
        after.take_while(|reading| reading.power == Power::Off).map(|reading| reading.at_ms).collect();
    Some((*run.last()?, *run.first()?))
}

fn distinct(devices: &[String]) -> usize {
    devices.iter().collect::<std::collections::BTreeSet<_>>().len()
}

fn why_not(report: &FenceReport) -> NotProved {
    let say = |attempt: &DeviceAttempt| match &attempt.error {
        Some(error) if error.starts_with(&attempt.device) => error.clone(),
        Some(error) => format!("{}: {error}", attempt.device),
        None => format!("{}: {:?}", attempt.device, attempt.order),
    };
    if let Some(wrong) = report.attempts.iter().find(|attempt| attempt.identity_matches == Some(false)) {
        return NotProved::WrongMachine(say(wrong));
    }
    let still_on = |attempt: &&DeviceAttempt| {
        attempt.order == OrderAnswer::Accepted
            && attempt
                .readings
                .iter()
                .rfind(|reading| reading.after_order)
                .is_some_and(|reading| reading.power == Power::On)
    };
    if let Some(on) = report.attempts.iter().find(still_on) {
        return NotProved::StillOn(on.device.clone());
    }
    let all: Vec<String> = report.attempts.iter().map(say).collect();
    NotProved::Unconfirmed(if all.is_empty() { "nothing answered".into() } else { all.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn off_at(at_ms: u64) -> Reading {
        Reading { power: Power::Off, at_ms, after_order: true }
    }

    fn attempt(device: &str, readings: Vec<Reading>) -> DeviceAttempt {
        DeviceAttempt {
            level: 0,
            device: device.into(),
            token: None,
            identity_matches: Some(true),
            stated: false,
            held: false,
            order: OrderAnswer::Accepted,
            readings,
            error: None,
            took_ms: 0,
        }
    }

    fn proved(attempts: Vec<DeviceAttempt>, levels: Vec<usize>) -> bool {
        prove(HostId(uuid::Uuid::nil()), 1, 1, &FenceReport { attempts, levels }).is_ok()
    }

    #[test]
    fn two_spaced_readings_after_the_order_prove() {
        assert!(proved(vec![attempt("a", vec![off_at(0), off_at(1_000)])], vec![1]));
        assert!(!proved(vec![attempt("a", vec![off_at(0)])], vec![1]), "one reading");
        assert!(!proved(vec![attempt("a", vec![off_at(0), off_at(999)])], vec![1]), "one cached answer");
        let early = Reading { after_order: false, ..off_at(0) };
        assert!(!proved(vec![attempt("a", vec![early, off_at(1_000)])], vec![1]), "read before the order");
        let on = Reading { power: Power::On, ..off_at(500) };
        assert!(!proved(vec![attempt("a", vec![off_at(0), on, off_at(1_000)])], vec![1]), "came on between");
    }

    #[test]
    fn off_since_is_the_first_reading_of_the_last_run() {
        let since =
            |readings| FenceReport { attempts: vec![attempt("a", readings)], levels: vec![1] }.off_since_ms();
        let on = Reading { power: Power::On, ..off_at(500) };
        assert_eq!(since(vec![off_at(100), off_at(1_100)]), Some(100));
        assert_eq!(since(vec![off_at(100), on, off_at(600), off_at(1_600)]), Some(600));
        assert_eq!(since(vec![off_at(100)]), None, "nothing is confirmed");
    }

    #[test]
    fn all_devices_of_a_level_must_confirm() {
        let good = |name| attempt(name, vec![off_at(0), off_at(1_000)]);
        assert!(!proved(vec![good("outlet-1")], vec![2]));
        assert!(!proved(vec![good("outlet-1"), good("outlet-1")], vec![2]), "the same device twice is one");
        assert!(proved(vec![good("outlet-1"), good("outlet-2")], vec![2]));
        let second = DeviceAttempt { level: 1, ..good("ipmi") };
        assert!(proved(vec![second], vec![1, 1]));
    }

    #[test]
    fn a_wrong_machine_is_named() {
        let wrong = DeviceAttempt {
            identity_matches: Some(false),
            error: Some("expected A, found B".into()),
            ..attempt("redfish", vec![off_at(0), off_at(1_000)])
        };
        let report = FenceReport { attempts: vec![wrong], levels: vec![1] };
        let refusal = prove(HostId(uuid::Uuid::nil()), 1, 1, &report);
        assert!(
            matches!(refusal, Err(NotProved::WrongMachine(text)) if text.contains("expected A, found B"))
        );
    }

    #[test]
    fn a_person_must_name_the_serial() {
        let host = HostId(uuid::Uuid::nil());
        assert!(state_off(host, 1, 1, Some("SN-1"), "sn-1", "ann", "unplugged").is_ok());
        assert!(state_off(host, 1, 1, Some("SN-1"), "SN-2", "ann", "unplugged").is_err());
        assert!(state_off(host, 1, 1, None, "SN-1", "ann", "unplugged").is_err());
        assert!(state_off(host, 1, 1, Some("SN-1"), "SN-1", "ann", " ").is_err());
    }

    proptest! {
        /// I15: no error, timeout, unknown word or identity mismatch is ever turned into a proof.
        #[test]
        fn nothing_but_off_proves(
            words in prop::collection::vec((0u8..4, 0u64..5_000, any::<bool>()), 0..12),
            order in 0u8..5,
            identity in prop::option::of(any::<bool>()),
        ) {
            let mut words = words;
            words.sort_by_key(|word| word.1);
            let readings: Vec<Reading> = words.into_iter().map(|(word, at_ms, after_order)| Reading {
                power: match word { 0 => Power::On, 1 | 2 => Power::Off, _ => Power::Other("PoweringOff".into()) },
                at_ms,
                after_order,
            }).collect();
            let order = match order {
                0 => OrderAnswer::Accepted,
                1 => OrderAnswer::AlreadyOff,
                2 => OrderAnswer::NotSent,
                3 => OrderAnswer::Refused("no".into()),
                _ => OrderAnswer::Unknown("silence".into()),
            };
            let tried = DeviceAttempt { order: order.clone(), identity_matches: identity, ..attempt("a", readings.clone()) };
            if proved(vec![tried], vec![1]) {
                prop_assert!(matches!(order, OrderAnswer::Accepted | OrderAnswer::AlreadyOff));
                prop_assert!(identity != Some(false));
                let offs: Vec<u64> = readings.iter().filter(|r| r.after_order && r.power == Power::Off).map(|r| r.at_ms).collect();
                prop_assert!(offs.len() >= 2);
                prop_assert!(offs[offs.len() - 1] - offs[0] >= 1_000);
                prop_assert_eq!(&readings.iter().rfind(|r| r.after_order).expect("one").power, &Power::Off);
            }
        }
    }
}

//! Observations folded into evidence: what one engine has seen of one host, and of Nova's service rows.
//!
//! The fold is pure and shared: the engine feeds it from sockets, the simulator from its world, and both get the same
//! evidence. Times are the observer's own monotonic clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::ServiceRow;
use crate::evidence::{Beats, Evidence, Network, PowerReading, Report, ServiceSight, UserLand, Witness};
use crate::id::BootId;
use crate::kdump::Dump;
use crate::policy::Policy;
use crate::time::Mono;
use crate::verdict::row_window;
use crate::watchdog::{Attested, Renewers};

/// What has been seen of one host.
#[derive(Clone, Debug, Default)]
pub struct HostSight {
    pub agent: bool,
    pub has_device: bool,
    pub has_watchdog: bool,
    pub only_watchdog: bool,
    /// As of the newest look at what other engines have stored.
    pub renewers: Option<Renewers>,
    pub beats: Beats,
    pub power: Option<PowerReading>,
    pub user_land: Option<UserLand>,
    pub reports: Vec<Report>,
    pub engines_agreeing: u32,
    witnesses: BTreeMap<String, Witness>,
}

/// A beat that was authenticated and dated by its send time.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub network: Network,
    pub boot: BootId,
    /// When it was sent, on the observer's clock.
    pub at: Mono,
    /// When it arrived.
    pub received: Mono,
    /// It echoed a nonce of ours: no replay.
    pub echoed: bool,
    /// Its boot was fenced.
    pub retired: bool,
    pub storage_write_age: Option<Duration>,
    pub watchdog: Watchdog,
}

/// The watchdog as one beat attests it. The default attests nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watchdog {
    pub armed: bool,
    pub nowayout: bool,
    /// The kernel's own timer.
    pub software: bool,
    /// L and W.
    pub lease_ms: u64,
    pub timeout_ms: u64,
}

impl HostSight {
    pub fn new(now: Mono) -> HostSight {
        HostSight { beats: Beats { listening_since: now, ..Beats::default() }, ..HostSight::default() }
    }

    /// Takes a beat. One of a retired boot renews nothing; echoed, it says that the host is up although it was proved off.
    pub fn hear(&mut self, heard: &Heard) {
        self.agent = true;
        if heard.retired {
            if heard.echoed {
                self.beats.retired_echoed = self.beats.retired_echoed.max(Some(heard.at));
            }
            return;
        }
        match self.beats.last.iter_mut().find(|(network, _)| *network == heard.network) {
            Some((_, at)) => *at = (*at).max(heard.at),
            None => self.beats.last.push((heard.network, heard.at)),
        }
        self.beats.boot = Some(heard.boot);
        self.beats.received = self.beats.received.max(Some(heard.received));
        let Watchdog { armed, nowayout, software, lease_ms, timeout_ms } = heard.watchdog;
        let attested = Attested {
            boot: heard.boot,
            at: heard.at,
            armed,
            nowayout,
            software,
            lease_ms,
            timeout_ms,
            changed: false,
        };
        Attested::fold(&mut self.beats.attested, attested);
        if heard.echoed {
            self.beats.last_echoed = self.beats.last_echoed.max(Some(heard.at));
        }
        if heard.storage_write_age.is_some() {
            self.beats.storage_write_age = heard.storage_write_age;
        }
    }

    /// Takes the host's own signed statement of a kernel panic.
    pub fn panicked(&mut self, now: Mono) {
        let again =
            self.beats.panic.is_some() && self.beats.dump.is_some_and(|dump| dump.boot == self.beats.boot);
        if !again {
            self.beats.panic = Some(now);
        }
        Dump::fold(&mut self.beats.dump, self.beats.boot, true, now);
    }

    /// Takes a message of a crash kernel, which nobody signed: it counts only while nothing is heard of the host itself, on any path.
    /// False: it beats, and the message says nothing.
    #[must_use]
    pub fn dumps(&mut self, policy: &Policy, now: Mono) -> bool {
        let silent = self.is_silent(policy, now);
        if silent {
            Dump::fold(&mut self.beats.dump, self.beats.boot, false, now);
        }
        silent
    }

    /// Takes a neighbour's statement; the newest of each neighbour counts.
    pub fn witness(&mut self, witness: Witness) {
        self.witnesses.insert(witness.name.clone(), witness);
    }

    /// This engine was deaf until now: silence is counted from here.
    pub fn deaf_until(&mut self, now: Mono) {
        self.beats.listening_since = now;
    }

    /// What a judge is shown now. Statements older than the profile's time to a verdict have lapsed.
    pub fn evidence(&self, rows: &Rows, host: &str, neighbours: u32, policy: &Policy, now: Mono) -> Evidence {
        let keep = Duration::from_millis(policy.suspect_after_ms + policy.confirm_ms);
        Evidence {
            beats: self.beats.clone(),
            witnesses: self
                .witnesses
                .values()
                .filter(|witness| now.since(witness.at) <= keep)
                .cloned()
                .collect(),
            neighbours,
            power: self.power.clone(),
            user_land: self.user_land.clone(),
            service: rows.sight(host, policy, now),
            reports: self.reports.clone(),
            agent: self.agent,
            engines_agreeing: self.engines_agreeing,
            has_device: self.has_device,
            has_watchdog: self.has_watchdog,
            only_watchdog: self.only_watchdog,
            renewers: self.renewers.clone(),
        }
    }

    /// Every path beats and nothing else was said: there is nothing to judge.
    pub fn is_well(&self, policy: &Policy, now: Mono) -> bool {
        let grace = Duration::from_millis(policy.storage_grace_ms);
        self.agent
            && !self.beats.last.is_empty()
            && self.beats.last.iter().all(|(_, at)| *at + policy.first_missed() >= now)
            && self.beats.panic.is_none()
            && self.beats.retired_echoed.is_none()
            && self.beats.storage_write_age.is_none_or(|age| age < grace)
    }

    /// The host is silent: its agent missed its first beat on all paths.
    pub fn is_silent(&self, policy: &Policy, now: Mono) -> bool {
        self.agent
            && self.beats.last_any().unwrap_or(self.beats.listening_since) + policy.first_missed() < now
    }
}

/// One service row as it was seen to change or stand still.
#[derive(Clone, Debug)]
struct Row {
    row: ServiceRow,
    read_at: Mono,
    changed_at: Option<Mono>,
    changed_after: Option<Mono>,
    still_since: Mono,
}

/// Nova's compute services over time.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    rows: BTreeMap<String, Row>,
    /// Hosts whose row one of our own PUTs changed since the last read.
    touched: Vec<String>,
}

impl Rows {
    /// One of our PUTs changes this row: the next change seen is ours, not the host's.
    pub fn touch(&mut self, host: &str) {
        self.touched.push(host.to_owned());
    }

    /// Takes a whole list, read at `at`.
    pub fn observe(&mut self, rows: &[ServiceRow], at: Mono) {
        for row in rows.iter().filter(|row| row.whole) {
            let touched = self.touched.contains(&row.host);
            match self.rows.get_mut(&row.host) {
                Some(known) if known.row.updated_at != row.updated_at => {
                    // Another engine's order to Nova is no more a sign of life than one of ours.
                    if !touched && !row.is_put_by_us(&known.row) {
                        known.changed_at = Some(at);
                        known.changed_after = Some(known.read_at);
                    }
                    known.still_since = at;
                    known.read_at = at;
                    known.row = row.clone();
                }
                Some(known) => {
                    known.read_at = at;
                    known.row = row.clone();
                }
                None => {
                    let fresh = Row {
                        row: row.clone(),
                        read_at: at,
                        changed_at: None,
                        changed_after: None,
                        still_since: at,
                    };
                    self.rows.insert(row.host.clone(), fresh);
                }
            }
        }
        self.touched.clear();
    }

    /// The host's row and whether the others move. `None`: never read.
    pub fn sight(&self, host: &str, policy: &Policy, now: Mono) -> Option<ServiceSight> {
        let row = self.rows.get(host)?;
        let window = row_window(policy);
        let others: Vec<&Row> =
            self.rows.values().filter(|other| other.row.host != host && other.row.up).collect();
        let moving =
            others.iter().filter(|other| other.changed_at.is_some_and(|at| now.since(at) <= window)).count();
        Some(ServiceSight {
            at: row.read_at,
            up: row.row.up,
            forced_down: row.row.forced_down,
            disabled: !row.row.enabled,
            changed_at: row.changed_at,
            changed_after: row.changed_after,
            still_since: Some(row.still_since),
            others_moving: moving * 2 >= others.len(),
        })
    }

    /// The row itself.
    pub fn row(&self, host: &str) -> Option<&ServiceRow> {
        self.rows.get(host).map(|row| &row.row)
    }
}

/// One compute service over the answers of one asker: since when its nova-compute has lived without a gap.
///
/// That Nova calls it up is not enough, it does so for a minute after a death; each change of the row is a sign of life, unless a
/// PUT made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    row: Option<ServiceRow>,
    beat: Option<Beat>,
}

/// Changes that followed one another closely enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Beat {
    since: Mono,
    last: Mono,
    /// After the first one.
    more: u32,
}

impl Pulse {
    /// Takes an answer. A living nova-compute changes its row at least once each `gap`.
    pub fn observe(&mut self, row: Option<&ServiceRow>, gap: Duration, now: Mono) {
        let up = row.filter(|row| row.whole && row.up && !row.forced_down);
        let before = std::mem::replace(&mut self.row, up.cloned());
        let (Some(row), Some(before)) = (up, before) else {
            self.beat = None;
            return;
        };
        self.beat = self.beat.filter(|beat| now.since(beat.last) <= gap);
        let put = row.enabled != before.enabled || row.disabled_reason != before.disabled_reason;
        if row.updated_at == before.updated_at || put {
            return;
        }
        self.beat = Some(match self.beat {
            None => Beat { since: now, last: now, more: 0 },
            Some(beat) => Beat { last: now, more: beat.more + 1, ..beat },
        });
    }

    /// Its row moved of late.
    pub fn is_alive(&self) -> bool {
        self.beat.is_some()
    }

    /// It has lived for this long without a gap, and said so at least so often since the first time.
    pub fn is_steady(&self, span: Duration, changes: u32) -> bool {
        self.beat.is_some_and(|beat| beat.last.since(beat.since) >= span && beat.more >= changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(host: &str, updated: &str) -> ServiceRow {
        ServiceRow {
            id: host.into(),
            host: host.into(),
            up: true,
            enabled: true,
            forced_down: false,
            disabled_reason: None,
            updated_at: Some(updated.into()),
            whole: true,
        }
    }

    #[test]
    fn a_row_that_we_changed_is_no_sign_of_life() {
        let mut rows = Rows::default();
        rows.observe(&[row("a", "1"), row("b", "1")], Mono(0));
        rows.touch("a");
        rows.observe(&[row("a", "2"), row("b", "2")], Mono(1_000));
        let policy = Policy::default();
        assert_eq!(rows.sight("a", &policy, Mono(1_000)).expect("read").changed_at, None);
        rows.observe(&[row("a", "3"), row("b", "2")], Mono(2_000));
        let seen = rows.sight("a", &policy, Mono(2_000)).expect("read");
        assert_eq!((seen.changed_at, seen.changed_after), (Some(Mono(2_000)), Some(Mono(1_000))));
        assert!(seen.others_moving, "b changed a second ago");
        assert!(
            !rows.sight("a", &policy, Mono(60_000)).expect("read").others_moving,
            "b stands still too: Nova is blind"
        );
    }

    #[test]
    fn a_row_that_another_engine_changed_is_no_sign_of_life() {
        let policy = Policy::default();
        let marked = |updated: &str| ServiceRow {
            enabled: false,
            forced_down: true,
            disabled_reason: Some("Halberd: host failed (recovery 7)".into()),
            ..row("a", updated)
        };
        let by_them = ServiceRow { disabled_reason: Some("its operator's".into()), ..marked("2") };
        let mut rows = Rows::default();
        rows.observe(&[row("a", "1")], Mono(0));
        rows.observe(&[marked("2")], Mono(1_000));
        assert_eq!(rows.sight("a", &policy, Mono(1_000)).expect("read").changed_at, None);
        rows.observe(&[marked("3")], Mono(2_000));
        let seen = rows.sight("a", &policy, Mono(2_000)).expect("read");
        assert_eq!(seen.changed_at, Some(Mono(2_000)), "a nova-compute that is forced down still writes");
        rows.observe(&[row("a", "4")], Mono(3_000));
        assert_eq!(rows.sight("a", &policy, Mono(3_000)).expect("read").changed_at, Some(Mono(2_000)));
        let mut rows = Rows::default();
        rows.observe(&[row("a", "1")], Mono(0));
        rows.observe(&[by_them], Mono(1_000));
        assert!(
            rows.sight("a", &policy, Mono(1_000)).expect("read").changed_at.is_some(),
            "a person's may be"
        );
    }

    #[test]
    fn a_retired_boot_renews_nothing() {
        let mut sight = HostSight::new(Mono(0));
        let heard = Heard {
            network: Network::Management,
            boot: BootId(uuid::Uuid::nil()),
            at: Mono(5_000),
            received: Mono(5_010),
            echoed: true,
            retired: true,
            storage_write_age: None,
            watchdog: Watchdog::default(),
        };
        sight.hear(&heard);
        assert_eq!((sight.beats.last_any(), sight.beats.received, sight.beats.attested), (None, None, None));
        assert_eq!(sight.beats.retired_echoed, Some(Mono(5_000)));
        sight.hear(&Heard { echoed: false, at: Mono(9_000), ..heard });
        assert_eq!(sight.beats.retired_echoed, Some(Mono(5_000)), "unechoed: it may be a replay");
    }
}

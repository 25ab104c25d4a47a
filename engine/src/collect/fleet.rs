//! What this engine knows of every host, in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use halberd_core::brake::{self, Fenced, Peer};
use halberd_core::effect::ServiceRow;
use halberd_core::evidence::{Evidence, Network, Power, Report};
use halberd_core::facts::ProvedOff;
use halberd_core::host::{Admission, Host};
use halberd_core::id::{BootId, HostId, InstanceId, NotificationId, SegmentId};
use halberd_core::policy::Policy;
use halberd_core::recovery::Subject;
use halberd_core::runner::{Intent, Resolution};
use halberd_core::segment::Segment;
use halberd_core::sight::{HostSight, Rows};
use halberd_core::time::{Mono, Stamp};
use halberd_core::verdict::Verdict;
use halberd_core::watchdog::{self, Said};
use halberd_store::fence_ledger::{Fence, Ledger, TICK};
use halberd_store::settings::Disarm;
use halberd_types::beat::AgentKey;
use uuid::Uuid;

/// One host as this engine sees it.
#[derive(Debug)]
pub struct Known {
    pub row: Host,
    pub sight: HostSight,
    pub key: Option<(i64, AgentKey)>,
    pub policy: Policy,
    /// Where its beats come from, per network: its neighbours send theirs there.
    pub addresses: BTreeMap<Network, SocketAddr>,
    /// Highest counter taken per boot and network: replays are dropped.
    pub counters: BTreeMap<(BootId, Network), u64>,
    /// Nonces given to it and when, newest last.
    pub nonces: VecDeque<([u8; 8], Mono)>,
    /// Maps the boot's clock to ours: the smallest (ours - theirs) seen, in ms.
    pub offset: Option<(BootId, i64)>,
    /// Since when it is silent, as far as a judge of silence is concerned.
    pub silent_since: Option<Mono>,
    /// Reports already counted as evidence.
    pub noted: BTreeSet<NotificationId>,
    /// Guests its agent listed as running, with the boot it listed them in: a list of before says nothing about this boot.
    pub domains: Option<(BootId, Vec<InstanceId>)>,
    pub said: Option<Verdict>,
    /// A verdict that time alone does not change soon is not looked for at every tick.
    pub judge_again: Option<Mono>,
    /// A recovery of it waits for a verdict here: it is probed even if nothing else makes it a suspect (a stale report, for one).
    pub in_doubt: bool,
    /// Probes under way or when they were last started.
    pub probing: Probing,
    pub fetch_orders: bool,
    /// This engine's answers renew its watchdog's lease; see [`super::renewals`].
    pub renews: bool,
    /// What this engine has stored about hearing it.
    pub stored: Option<Said>,
}

/// Whether a watchdog is among a host's fence devices, and whether there is nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watchdogs {
    pub any: bool,
    pub only: bool,
}

impl Watchdogs {
    /// From the stored document, its secrets masked or not: `{"levels": [{"devices": [{"type": ..}]}]}`.
    pub fn among(levels: &serde_json::Value) -> Watchdogs {
        let of = |value: &serde_json::Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let devices: Vec<_> = of(levels, "levels").iter().flat_map(|level| of(level, "devices")).collect();
        let watchdogs = devices.iter().filter(|device| device["type"] == "watchdog").count();
        Watchdogs { any: watchdogs > 0, only: watchdogs > 0 && watchdogs == devices.len() }
    }
}

/// When each probe of a suspect host was last started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probing {
    pub power: Option<Mono>,
    pub power_busy: bool,
    pub user_land: Option<Mono>,
    pub user_land_busy: bool,
}

/// Everything an engine knows of the fleet.
#[derive(Debug)]
pub struct Fleet {
    pub hosts: BTreeMap<HostId, Known>,
    pub segments: BTreeMap<SegmentId, Segment>,
    pub rows: Rows,
    /// Whether the last service list could be read, and why not.
    pub nova: Result<Mono, String>,
    /// Off orders of all engines in the last day, by intent.
    fences: BTreeMap<Uuid, Fenced>,
    /// The ledger was read once: what it shows anew is new.
    knows_ledger: bool,
    pub listening_since: Mono,
    /// What the other engines may have renewed.
    pub renewals: watchdog::Fold,
    pub disarmed: Option<brake::Disarmed>,
    /// The database shows less than was remembered: why nothing is done, and the way out. Kept by [`crate::rewind`].
    pub reconcile_only: Option<String>,
}

impl Fleet {
    pub fn new(now: Mono) -> Fleet {
        Fleet {
            hosts: BTreeMap::new(),
            segments: BTreeMap::new(),
            rows: Rows::default(),
            nova: Ok(now),
            fences: BTreeMap::new(),
            knows_ledger: false,
            listening_since: now,
            renewals: watchdog::Fold::default(),
            disarmed: None,
            reconcile_only: None,
        }
    }

    pub fn by_name(&self, name: &str) -> Option<&Known> {
        self.hosts.values().find(|known| known.row.name == name)
    }

    /// Takes the disarm row. Its end is counted on this engine's own clock from when it was first seen; without one it lasts until
    /// somebody arms.
    pub fn disarm(&mut self, row: Option<&Disarm>, now: Mono, stamp: Stamp) {
        let Some(row) = row else {
            self.disarmed = None;
            return;
        };
        let reason = format!("{} ({})", row.reason, row.actor);
        if self.disarmed.as_ref().is_some_and(|known| known.reason == reason) {
            return;
        }
        let left = row.until.map(|until| u64::try_from((until.0 - stamp.0) / 1_000).unwrap_or(0));
        let until = left.map_or(Mono(u64::MAX), |ms| Mono(now.0.saturating_add(ms)));
        self.disarmed = Some(brake::Disarmed { reason, until });
    }

    /// Takes the stored rows: new hosts begin to be watched, gone ones are forgotten.
    pub fn refresh(
        &mut self,
        hosts: Vec<Host>,
        policies: &BTreeMap<SegmentId, Policy>,
        default: &Policy,
        with_device: &BTreeSet<HostId>,
        now: Mono,
    ) {
        let living: BTreeSet<HostId> = hosts.iter().map(|host| host.id).collect();
        self.hosts.retain(|id, _| living.contains(id));
        for row in hosts {
            let policy = policies.get(&row.segment).unwrap_or(default).clone();
            let has_device = with_device.contains(&row.id);
            let known =
                self.hosts.entry(row.id).or_insert_with(|| Known::new(row.clone(), policy.clone(), now));
            known.sight.agent = known.sight.agent || row.ever_agent;
            known.sight.has_device = has_device;
            if row.version >= known.row.version {
                known.row = row;
            }
            known.policy = policy;
        }
    }

    /// Takes what kinds of devices each host has.
    pub fn note_watchdogs(&mut self, devices: &BTreeMap<HostId, Watchdogs>) {
        for (host, known) in &mut self.hosts {
            let Watchdogs { any, only } = devices.get(host).copied().unwrap_or_default();
            (known.sight.has_watchdog, known.sight.only_watchdog) = (any, only);
        }
    }

    pub fn evidence(&self, host: HostId, now: Mono) -> Option<Evidence> {
        let known = self.hosts.get(&host)?;
        let neighbours = self.neighbours(host, now).count();
        Some(known.sight.evidence(
            &self.rows,
            &known.row.name,
            u32::try_from(neighbours).unwrap_or(u32::MAX),
            &known.policy,
            now,
        ))
    }

    /// Living hosts with an agent that could speak about this one.
    fn neighbours(&self, host: HostId, now: Mono) -> impl Iterator<Item = &Known> {
        self.hosts.values().filter(move |known| {
            known.row.id != host
                && known.sight.agent
                && !known.sight.is_silent(&known.policy, now)
                && known.row.admission == Admission::In
        })
    }

    /// The picture that the brakes need.
    pub fn brakes(&self, now: Mono) -> brake::Fleet {
        let read_off = |known: &Known| {
            known.row.proof.is_some()
                || known.sight.power.as_ref().is_some_and(|reading| {
                    reading.identified
                        && reading.power == Power::Off
                        && now.since(reading.at).as_millis() as u64 <= known.policy.power_fresh_ms
                })
        };
        let peer = |known: &Known| Peer {
            host: known.row.id,
            domain: known.row.domain.clone(),
            eligible: !known.row.maintenance.operator
                && self.segments.get(&known.row.segment).is_some_and(|segment| segment.enabled),
            silent_since: known.silent_since,
            read_off: read_off(known),
        };
        let dependencies_red = match &self.nova {
            Ok(_) => Vec::new(),
            Err(why) => vec![format!("nova ({why})")],
        };
        brake::Fleet {
            hosts: self.hosts.values().map(peer).collect(),
            fences: self.fences.values().copied().collect(),
            listening_since: self.listening_since,
            dependencies_red,
            capacity: None,
            reconcile_only: self.reconcile_only.clone(),
            disarmed: self.disarmed.clone(),
            released: Vec::new(),
        }
    }

    /// Notes who is silent and since when; the brakes count them.
    pub fn note_silence(&mut self, now: Mono) {
        for known in self.hosts.values_mut() {
            let reported =
                !known.sight.agent
                    && known.sight.reports.iter().any(|report| {
                        now.since(report.at).as_millis() as u64 <= known.policy.report_stale_ms
                    });
            let silent =
                known.sight.is_silent(&known.policy, now) || reported && known.row.admission == Admission::In;
            if !silent {
                known.silent_since = None;
            } else if known.silent_since.is_none() {
                known.silent_since =
                    Some(known.sight.beats.last_any().filter(|_| known.sight.agent).unwrap_or(now));
            }
        }
    }

    /// A report becomes evidence once, taken up at `seen`; one received before this engine listened is of unknown age and so stale. False: the
    /// host is not known here yet, and nothing was noted.
    #[must_use]
    pub fn note_report(
        &mut self,
        host: HostId,
        report: NotificationId,
        at: Mono,
        seen: Mono,
        by_agent: bool,
    ) -> bool {
        let Some(known) = self.hosts.get_mut(&host) else { return false };
        if known.noted.insert(report) {
            known.sight.reports.push(Report { at, seen, by_agent });
        }
        true
    }

    /// Notes whether a recovery of this subject waits for a verdict here.
    pub fn doubt(&mut self, subject: &Subject, waits: bool) {
        if let Subject::Host { host } = subject
            && let Some(known) = self.hosts.get_mut(host)
        {
            known.in_doubt = waits;
        }
    }

    /// This engine heard nothing for a while by its own fault: silence counts from now.
    pub fn deaf_until(&mut self, now: Mono) {
        self.listening_since = now;
        for known in self.hosts.values_mut() {
            known.sight.deaf_until(now);
        }
    }

    pub fn observe_rows(&mut self, rows: &[ServiceRow], at: Mono) {
        self.rows.observe(rows, at);
        self.nova = Ok(at);
    }

    /// Hosts whose present boot is proved off, by name.
    pub fn proved_off(&self) -> BTreeMap<String, ProvedOff> {
        self.hosts
            .values()
            .filter_map(|known| {
                let proof = known.row.proof.as_ref()?;
                let beats = &known.sight.beats;
                let anew = beats.boot.is_some() && beats.boot != known.row.boot;
                let spoke = beats.last_any().filter(|_| anew).max(beats.retired_echoed);
                let heard = beats.last_any().filter(|_| !anew);
                let proved = ProvedOff { host: known.row.id, by_power: proof.rereads_power(), heard, spoke };
                Some((known.row.name.clone(), proved))
            })
            .collect()
    }

    /// Hosts of a segment kept in reserve, in the order to use them.
    pub fn reserved(&self, segment: SegmentId) -> Vec<Host> {
        let mut hosts: Vec<Host> = self
            .hosts
            .values()
            .map(|known| &known.row)
            .filter(|row| row.segment == segment && row.reserved)
            .cloned()
            .collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// Takes the off orders of all engines. How old one is, is counted from when it was first seen here; what was there before this
    /// engine is as old as the ledger can say, which is never more than it is.
    pub fn take_ledger(&mut self, ledger: &Ledger, now: Mono) {
        let was = std::mem::take(&mut self.fences);
        let first = !std::mem::replace(&mut self.knows_ledger, true);
        let taken = |fence: &Fence| {
            let at = match was.get(&fence.intent) {
                Some(known) => known.at,
                None if first => Mono(now.0.saturating_sub(ms(ledger.age_at_least(fence)))),
                None => now,
            };
            // An order whose end nobody wrote down is over by then: it goes through levels of seconds each.
            let in_flight = fence.open && ledger.age_at_least(fence) < TICK;
            let (host, read_on, agent_evidence) = (fence.host, fence.read_on, fence.agent);
            (fence.intent, Fenced { host, at, read_on, agent_evidence, in_flight })
        };
        self.fences = ledger.fences.iter().map(taken).collect();
    }

    /// The off orders among these intents, for the ledger.
    pub fn fences_of(&self, intents: &[Intent]) -> Vec<Fence> {
        let off = intents.iter().filter(|intent| intent.effect == "power_off");
        off.filter_map(|intent| {
            let known = self.hosts.get(&intent.host?)?;
            // Not read Off: one that nobody has read may be running, and costs its guests as much.
            let read_on = known.sight.power.as_ref().is_none_or(|reading| reading.power != Power::Off);
            let (host, agent) = (known.row.id, known.sight.agent);
            Some(Fence { intent: intent.id, host, tick: 0, read_on, agent, open: true })
        })
        .collect()
    }

    /// Those of these intents that are off orders under way.
    pub fn fences_ended(&self, resolved: &[Resolution]) -> Vec<Uuid> {
        let known = |id: &Uuid| self.fences.get(id).is_some_and(|fence| fence.in_flight);
        resolved.iter().map(|resolved| resolved.intent).filter(known).collect()
    }

    /// This engine has just written them: they count before the ledger is read again.
    pub fn note_fences(&mut self, new: &[Fence], ended: &[Uuid], now: Mono) {
        for fence in new {
            let (host, read_on, agent_evidence) = (fence.host, fence.read_on, fence.agent);
            let fenced = Fenced { host, at: now, read_on, agent_evidence, in_flight: true };
            self.fences.insert(fence.intent, fenced);
        }
        for intent in ended {
            if let Some(fence) = self.fences.get_mut(intent) {
                fence.in_flight = false;
            }
        }
    }
}

fn ms(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Known {
    fn new(row: Host, policy: Policy, now: Mono) -> Known {
        let mut sight = HostSight::new(now);
        sight.agent = row.ever_agent;
        sight.beats.boot = row.boot;
        Known {
            row,
            sight,
            key: None,
            policy,
            addresses: BTreeMap::new(),
            counters: BTreeMap::new(),
            nonces: VecDeque::new(),
            offset: None,
            silent_since: None,
            noted: BTreeSet::new(),
            domains: None,
            said: None,
            judge_again: None,
            in_doubt: false,
            probing: Probing::default(),
            fetch_orders: false,
            renews: false,
            stored: None,
        }
    }
}

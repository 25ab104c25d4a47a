//! One function per gate: a note when it lets through, a reason and a way out when it does not.

use std::time::Duration;

use super::{
    DAY, Fenced, Fleet, Gate, Peer, QUARANTINE_FENCES, QUARANTINE_WINDOW, Release, SELF_DOUBT_PERCENT,
    Subject,
};
use crate::evidence::Class;
use crate::guard::{self, Guard};
use crate::policy::Policy;
use crate::time::Mono;
use crate::verdict::{Judgement, time_to_verdict};

/// `Ok(note)` or `Err((reason, release))`.
type Said = Result<String, (String, Release)>;

pub(super) struct Gates<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) judgement: &'a Judgement,
    pub(super) fleet: &'a Fleet,
    pub(super) policy: &'a Policy,
    pub(super) now: Mono,
    pub(super) peer: &'a Peer,
}

/// How many turned silent together, of how many.
#[derive(Clone, Copy)]
struct Share {
    silent: u64,
    of: u64,
}

impl Share {
    /// More than max(`hosts`, `percent` %).
    fn is_over(self, hosts: u32, percent: u32) -> bool {
        self.silent * 100 > (u64::from(hosts) * 100).max(self.of * u64::from(percent))
    }
}

impl Gates<'_> {
    /// What we must not do at all, then whether we may believe what we see, then whether it is wise, then whether it is
    /// too fast. Silence that one stated domain explains is shown as that domain's, wider silence as our own.
    pub(super) fn order(&self) -> Vec<Gate> {
        let doubt = if self.one_domain_explains() {
            [Gate::G2, Gate::SelfDoubt]
        } else {
            [Gate::SelfDoubt, Gate::G2]
        };
        let first = [Gate::ReconcileOnly, Gate::Disarmed, Gate::Maintenance, Gate::SegmentDisabled, Gate::G8];
        let last = [Gate::G3, Gate::G1, Gate::Quarantine, Gate::G6, Gate::G5, Gate::G7, Gate::G4];
        first.into_iter().chain(doubt).chain(last).collect()
    }

    pub(super) fn ask(&self, gate: Gate) -> Said {
        let kept_by = match gate {
            Gate::Disarmed => Some(Guard::Disarmed),
            Gate::Maintenance => Some(Guard::Maintenance),
            Gate::SegmentDisabled => Some(Guard::Segment),
            Gate::G4 => Some(Guard::Rate),
            _ => None,
        };
        if kept_by.is_some_and(|guard| !guard::stands(guard)) {
            return Ok("not asked".to_owned());
        }
        match gate {
            Gate::ReconcileOnly => self.reconcile_only(),
            Gate::Disarmed => self.disarmed(),
            Gate::Maintenance => self.maintenance(),
            Gate::SegmentDisabled => self.segment(),
            Gate::G8 => self.quiet_start(),
            Gate::SelfDoubt => self.self_doubt(),
            Gate::G2 => self.domain(),
            Gate::G3 => self.fleet_share(),
            Gate::G1 => self.quorum(),
            Gate::Quarantine => self.quarantine(),
            Gate::G6 => self.dependencies(),
            Gate::G5 => self.capacity(),
            Gate::G7 => self.budget(),
            Gate::G4 => self.rate(),
            Gate::UnknownHost => Ok("in the inventory".to_owned()),
        }
    }

    fn reconcile_only(&self) -> Said {
        match &self.fleet.reconcile_only {
            Some(why) => Err((format!("reconcile-only: {why}"), Release::ByOperator)),
            None => Ok("the database remembers all we do".to_owned()),
        }
    }

    fn disarmed(&self) -> Said {
        match &self.fleet.disarmed {
            Some(disarmed) if self.now < disarmed.until => {
                Err((format!("disarmed: {}", disarmed.reason), Release::ByTime(disarmed.until)))
            }
            _ => Ok("armed".to_owned()),
        }
    }

    fn maintenance(&self) -> Said {
        if self.subject.maintenance {
            return Err((
                format!("{} is on maintenance by the operator", self.subject.name),
                Release::ByOperator,
            ));
        }
        Ok("not on maintenance".to_owned())
    }

    fn segment(&self) -> Said {
        if !self.subject.segment_enabled {
            return Err((format!("the segment of {} is disabled", self.subject.name), Release::ByOperator));
        }
        Ok("segment enabled".to_owned())
    }

    /// Before a full window of listening "silent" is only "not heard yet". A written order is past that question, unless
    /// power reads On: then the machine may have been silent to nobody but an engine that was not there.
    fn quiet_start(&self) -> Said {
        let full = self.fleet.listening_since + time_to_verdict(self.policy);
        if self.now >= full {
            return Ok(format!("listening for {}", seconds(self.now.since(self.fleet.listening_since))));
        }
        if self.subject.order_written && !self.subject.power_on {
            return Ok("the order is written already".to_owned());
        }
        let reason = format!(
            "quiet start: this engine has listened for {} of {}",
            seconds(self.now.since(self.fleet.listening_since)),
            seconds(time_to_verdict(self.policy))
        );
        Err((reason, Release::ByTime(full)))
    }

    /// More than max(1, 30 %) silent and not read Off: it is us. Nothing about a single host lifts this (I22).
    fn self_doubt(&self) -> Said {
        let share = count(self.fleet.hosts.iter(), |peer| peer.silent_since.is_some() && !peer.read_off);
        if share.silent * 100 > (share.of * SELF_DOUBT_PERCENT).max(100) {
            let reason = format!(
                "{} of {} hosts are silent to this engine and not read Off: it doubts itself",
                share.silent, share.of
            );
            return Err((reason, Release::ByFacts));
        }
        Ok(format!("{} of {} hosts silent and not read Off", share.silent, share.of))
    }

    /// A silent rack is a switch until proven power. Off read on just this host lets it through, as does its own word.
    fn domain(&self) -> Said {
        if self.is_off() {
            return Ok("power reads Off on this very host".to_owned());
        }
        if self.judgement.class == Some(Class::E1) && !self.judgement.by_silence {
            return Ok("the host itself stated its death".to_owned());
        }
        let window = Policy::ms(self.policy.domain_window_ms);
        let (hosts, percent) = (self.policy.domain_hold_hosts, self.policy.domain_hold_percent);
        let mut notes = Vec::new();
        for (kind, name) in stated(self.peer) {
            let members =
                || self.fleet.hosts.iter().filter(move |peer| stated(peer).any(|own| own == (kind, name)));
            match self.over(members, window, hosts, percent) {
                Ok(share) => notes.push(format!("{kind} {name}: {} of {} silent", share.silent, share.of)),
                Err(share) => {
                    let reason = format!(
                        "{} of {} hosts of {kind} {name} turned silent within {}: more than max({hosts}, {percent} %)",
                        share.silent,
                        share.of,
                        seconds(window)
                    );
                    return Err((reason, Release::ByOperator));
                }
            }
        }
        Ok(if notes.is_empty() { "no failure domain stated: its own".to_owned() } else { notes.join(", ") })
    }

    fn fleet_share(&self) -> Said {
        if self.is_off() {
            return Ok("power reads Off on this very host".to_owned());
        }
        let window = Policy::ms(self.policy.fleet_window_ms);
        let (hosts, percent) = (self.policy.fleet_hold_hosts, self.policy.fleet_hold_percent);
        match self.over(|| self.fleet.hosts.iter(), window, hosts, percent) {
            Ok(share) => Ok(format!("{} of {} hosts silent", share.silent, share.of)),
            Err(share) => {
                let reason = format!(
                    "{} of {} hosts turned silent within {}: more than max({hosts}, {percent} %) of the fleet",
                    share.silent,
                    share.of,
                    seconds(window)
                );
                Err((reason, Release::ByOperator))
            }
        }
    }

    /// The larger alarm of the raw and the filtered share. Counted are hosts that are silent now and turned silent within
    /// the window of the subject: a storm an hour old that nobody resolved still counts for those it struck together.
    fn over<'p, I: Iterator<Item = &'p Peer>>(
        &self,
        members: impl Fn() -> I,
        window: Duration,
        hosts: u32,
        percent: u32,
    ) -> Result<Share, Share> {
        let struck = self.peer.silent_since.unwrap_or(self.now);
        let together = |peer: &Peer| {
            peer.host == self.subject.host
                || peer
                    .silent_since
                    .is_some_and(|since| since.since(struck).max(struck.since(since)) <= window)
        };
        let raw = count(members(), together);
        let filtered = count(members().filter(|peer| peer.eligible), together);
        match [raw, filtered].into_iter().find(|share| share.is_over(hosts, percent)) {
            Some(share) => Err(share),
            None => Ok(raw),
        }
    }

    fn quorum(&self) -> Said {
        let Judgement { agreeing, needed, by_report_only, .. } = *self.judgement;
        if self.is_off() {
            return Ok("power reads Off: no quorum needed".to_owned());
        }
        if by_report_only {
            return Ok("rests on a trusted reporter".to_owned());
        }
        if agreeing < needed {
            let reason =
                format!("{agreeing} of {needed} needed observers besides this engine share the sight");
            return Err((reason, Release::ByFacts));
        }
        Ok(if needed == 0 {
            "first-hand evidence".to_owned()
        } else {
            format!("{agreeing} of {needed} observers agree")
        })
    }

    /// Who holds an agent's key can have its host fenced, but not all day.
    fn quarantine(&self) -> Said {
        if self.is_off() || !self.subject.agent_evidence {
            return Ok("does not rest on agent evidence alone".to_owned());
        }
        let mut own: Vec<Mono> = self
            .fleet
            .fences
            .iter()
            .filter(|fenced| {
                fenced.host == self.subject.host && fenced.agent_evidence && !self.is_own_order(fenced)
            })
            .map(|fenced| fenced.at)
            .filter(|at| self.now.since(*at) < QUARANTINE_WINDOW)
            .collect();
        own.sort_unstable();
        if own.len() >= QUARANTINE_FENCES {
            let reason = format!(
                "{} was fenced {} times within an hour on agent evidence",
                self.subject.name,
                own.len()
            );
            return Err((reason, Release::ByTime(own[own.len() - QUARANTINE_FENCES] + QUARANTINE_WINDOW)));
        }
        Ok(format!("fenced {} times within an hour", own.len()))
    }

    fn dependencies(&self) -> Said {
        let red = self.fleet.dependencies_red.join(", ");
        if red.is_empty() {
            return Ok("Keystone, Nova and database are well".to_owned());
        }
        if self.is_off() {
            return Ok(format!("{red} red, but power reads Off"));
        }
        Err((format!("no fence while red: {red}"), Release::ByFacts))
    }

    /// Fencing without a place to go only destroys. Unknown is not enough when the policy asks for room.
    fn capacity(&self) -> Said {
        match (self.policy.require_capacity, self.fleet.capacity) {
            (false, _) => Ok("not required".to_owned()),
            (true, Some(true)) => Ok("the guests fit elsewhere".to_owned()),
            (true, Some(false)) => {
                Err(("the guests do not fit on the hosts that are left".to_owned(), Release::ByFacts))
            }
            (true, None) => {
                Err(("whether the guests fit elsewhere is not known".to_owned(), Release::ByFacts))
            }
        }
    }

    fn budget(&self) -> Said {
        if self.is_off() {
            return Ok("power reads Off: not counted".to_owned());
        }
        let hosts = self.fleet.hosts.len() as u64;
        let limit = u64::from(self.policy.fence_daily_hosts)
            .max(hosts * u64::from(self.policy.fence_daily_percent) / 100);
        let mut spent: Vec<Mono> =
            self.counted().map(|fenced| fenced.at).filter(|at| self.now.since(*at) < DAY).collect();
        spent.sort_unstable();
        if spent.len() as u64 >= limit {
            let reason = format!("{} hosts were fenced within a day, the budget is {limit}", spent.len());
            // The one whose end makes room; a budget of 0 has none.
            let release = usize::try_from(limit)
                .ok()
                .and_then(|limit| spent.get(spent.len() - limit))
                .map_or(Release::ByOperator, |at| Release::ByTime(*at + DAY));
            return Err((reason, release));
        }
        Ok(format!("{} of {limit} a day", spent.len()))
    }

    /// A token bucket over the orders themselves, so that every engine computes the same; full a day ago.
    fn rate(&self) -> Said {
        if self.is_off() {
            return Ok("power reads Off: not counted".to_owned());
        }
        let in_flight = self.counted().filter(|fenced| fenced.in_flight).count();
        if in_flight >= self.policy.fence_in_flight as usize {
            let reason = format!("{in_flight} fences are under way, at most {}", self.policy.fence_in_flight);
            return Err((reason, Release::ByFacts));
        }
        let every = self.policy.fence_every_ms;
        let full = every * u64::from(self.policy.fence_burst);
        let mut ages: Vec<u64> = self
            .counted()
            .map(|fenced| u64::try_from(self.now.since(fenced.at).as_millis()).unwrap_or(u64::MAX))
            .collect();
        ages.sort_unstable();
        let (mut credit, mut before) = (full, u64::MAX);
        for age in ages.into_iter().rev() {
            credit = full.min(credit.saturating_add(before - age)).saturating_sub(every);
            before = age;
        }
        credit = full.min(credit.saturating_add(before));
        if credit < every {
            let wait = every - credit;
            let reason = format!(
                "one fence each {}: the next in {}",
                seconds(Policy::ms(every)),
                seconds(Policy::ms(wait))
            );
            return Err((reason, Release::ByTime(self.now + Policy::ms(wait))));
        }
        Ok(format!("{in_flight} under way, {} more at once", credit.checked_div(every).unwrap_or(1)))
    }

    fn is_off(&self) -> bool {
        self.judgement.is_conclusive()
    }

    /// The subject's own order that is being continued is no reason not to continue it.
    fn is_own_order(&self, fenced: &Fenced) -> bool {
        self.subject.order_written && fenced.host == self.subject.host && fenced.in_flight
    }

    /// Fences that G4 and G7 count: of hosts read On (DESIGN 10.14).
    fn counted(&self) -> impl Iterator<Item = &Fenced> {
        self.fleet.fences.iter().filter(|fenced| fenced.read_on && !self.is_own_order(fenced))
    }

    /// Everything silent and not read Off shares one stated domain, and hosts outside it are heard.
    fn one_domain_explains(&self) -> bool {
        let silent = || self.fleet.hosts.iter().filter(|peer| peer.silent_since.is_some() && !peer.read_off);
        stated(self.peer).any(|own| {
            let inside = |peer: &Peer| stated(peer).any(|domain| domain == own);
            silent().all(inside) && self.fleet.hosts.iter().any(|peer| !inside(peer))
        })
    }
}

/// The failure domains a host states; a host that states none is its own.
fn stated(peer: &Peer) -> impl Iterator<Item = (&'static str, &str)> {
    let domain = &peer.domain;
    [("rack", &domain.rack), ("power feed", &domain.power), ("switch", &domain.switch)]
        .into_iter()
        .filter_map(|(kind, name)| Some((kind, name.as_deref()?)))
}

fn count<'p>(peers: impl Iterator<Item = &'p Peer>, silent: impl Fn(&Peer) -> bool) -> Share {
    peers.fold(Share { silent: 0, of: 0 }, |share, peer| Share {
        silent: share.silent + u64::from(silent(peer)),
        of: share.of + 1,
    })
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

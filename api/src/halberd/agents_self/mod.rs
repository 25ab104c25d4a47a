//! What an agent says of itself and is asked to do to itself (DESIGN 10.7).
//!
//! The signature is the authentication: it says which host speaks, and what a body claims about another is refused. A replay is
//! harmless, since reports and results are known by their ids; beyond that, the counter of a boot must grow from one
//! request to the next.

pub(crate) mod orders;
pub(crate) mod reports;
pub(crate) mod result;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode};
use halberd_core::host::Host;
use halberd_core::id::{BootId, HostId};
use halberd_store::{Error as StoreError, agent_keys, hosts};
use halberd_types::beat::AgentKey;
use halberd_types::report::{SignatureError, Signed, verify};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::door;
use super::problem::Failure;
use crate::App;

/// A list of domains of a full hypervisor takes some 100 bytes each; a thousand guests fit twice.
pub(crate) const BODY_LIMIT: usize = 256 * 1024;
/// Requests a host may make at once, and how fast the allowance comes back: an agent makes a few a minute, after an
/// outage its whole outbox (SAFETY S4).
const BURST: f64 = 100.0;
const PER_SECOND: f64 = 10.0;
/// Boots of a host whose counters are remembered: the present one, and those an attacker may have recorded lately.
const BOOTS: usize = 4;

/// Which requests are counted together. An agent sends reports one after the other, and fetches orders beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Reports,
    Orders,
}

/// The last counter of each host's boot and lane, and each host's allowance. Of this process only: what a restart forgets,
/// the ids of reports and orders still catch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes(Arc<Mutex<BTreeMap<HostId, Seen>>>);

#[derive(Debug)]
struct Seen {
    counters: Vec<(Uuid, Lane, u64)>,
    allowance: f64,
    at: Instant,
}

impl Lanes {
    /// Takes one request off the host's allowance. `false`: it has none left.
    fn allow(&self, host: HostId, now: Instant) -> bool {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = hosts.entry(host).or_insert(Seen { counters: Vec::new(), allowance: BURST, at: now });
        let since = now.saturating_duration_since(seen.at);
        seen.allowance = (seen.allowance + since.as_secs_f64() * PER_SECOND).min(BURST);
        seen.at = now;
        let allowed = seen.allowance >= 1.0;
        if allowed {
            seen.allowance -= 1.0;
        }
        allowed
    }

    /// Moves the counter on. `false`: it has not grown.
    fn advance(&self, lane: Lane, signed: &Signed) -> bool {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Seen { counters: Vec::new(), allowance: BURST, at: Instant::now() };
        let seen = hosts.entry(HostId(signed.host)).or_insert_with(fresh);
        let known = seen.counters.iter_mut().find(|(boot, its, _)| *boot == signed.boot && *its == lane);
        match known {
            Some((_, _, last)) if *last >= signed.counter => false,
            Some((_, _, last)) => {
                *last = signed.counter;
                true
            }
            None => {
                if seen.counters.len() >= BOOTS * 2 {
                    seen.counters.remove(0);
                }
                seen.counters.push((signed.boot, lane, signed.counter));
                true
            }
        }
    }
}

/// Who speaks, shown by a signature.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub host: Host,
    pub key: AgentKey,
    pub signed: Signed,
}

/// 401, in the same words for an unknown host, a host without a key and a wrong signature (I33).
fn refused(error: SignatureError) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, "signature", "The signature was not accepted", format!("{error}."))
}

/// Verifies a request's signature over method, path and body, and that it comes from a boot that may speak.
pub(crate) async fn speaker(
    app: &App,
    lanes: &Lanes,
    method: &str,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Speaker, Failure> {
    let signed = Signed::from_headers(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    let signed = signed.map_err(refused)?;
    let id = HostId(signed.host);
    let key = key(app, id).await?.ok_or_else(|| refused(SignatureError::Mismatch))?;
    verify(&key, method, path, &signed, body).map_err(refused)?;
    let host = match hosts::get(door::db(app), id).await {
        Ok(host) => host.value,
        Err(StoreError::NotFound { .. }) => return Err(refused(SignatureError::Mismatch)),
        Err(error) => return Err(error.into()),
    };
    // After the signature, so that nobody can use up another host's allowance.
    if !lanes.allow(id, Instant::now()) {
        let detail =
            format!("At most {PER_SECOND} requests a second are taken from one host; come again later.");
        return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests", detail));
    }
    if host.retired_boots.contains(&BootId(signed.boot)) {
        return Err(Failure::forbidden("This boot of the host was fenced; nothing it says counts any more."));
    }
    Ok(Speaker { host, key, signed })
}

async fn key(app: &App, host: HostId) -> Result<Option<AgentKey>, Failure> {
    let sealed = agent_keys::get(door::db(app), door::sealer(app), host).await?;
    let bytes = sealed.map(|key| <[u8; 32]>::try_from(key.expose_secret()));
    match bytes {
        None => Ok(None),
        Some(Ok(bytes)) => Ok(Some(AgentKey::from_bytes(bytes))),
        Some(Err(error)) => Err(Failure::internal(&error)),
    }
}

/// 401: the agent signs again with a newer counter, so that nothing of its outbox is lost.
pub(crate) fn advance(lanes: &Lanes, lane: Lane, signed: &Signed) -> Result<(), Failure> {
    if lanes.advance(lane, signed) {
        return Ok(());
    }
    let detail =
        "The counter has not grown since this boot's last request: it was recorded and played again.";
    Err(Failure::new(StatusCode::UNAUTHORIZED, "replayed", "The request was made before", detail))
}

/// An order that was not begun this long after its fetch was sent is not begun any more, unless it says otherwise.
pub(crate) const ORDER_KEEPS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(boot: u128, counter: u64) -> Signed {
        Signed { host: Uuid::nil(), boot: Uuid::from_u128(boot), counter, signature: String::new() }
    }

    #[test]
    fn a_counter_grows_within_its_boot_and_lane() {
        let lanes = Lanes::default();
        assert!(lanes.advance(Lane::Reports, &signed(1, 10)));
        assert!(!lanes.advance(Lane::Reports, &signed(1, 10)), "the same again");
        assert!(!lanes.advance(Lane::Reports, &signed(1, 9)), "an older one");
        assert!(lanes.advance(Lane::Orders, &signed(1, 9)), "fetched beside the report");
        assert!(lanes.advance(Lane::Reports, &signed(2, 3)), "a new boot begins anew");
        assert!(!lanes.advance(Lane::Reports, &signed(1, 10)), "the former boot is remembered");
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let (lanes, host, start) = (Lanes::default(), HostId(Uuid::nil()), Instant::now());
        let taken = (0..200).filter(|_| lanes.allow(host, start)).count();
        assert_eq!(taken as f64, BURST);
        assert!(lanes.allow(host, start + Duration::from_secs(1)));
        assert!(lanes.allow(HostId(Uuid::from_u128(1)), start), "others have their own");
    }
}

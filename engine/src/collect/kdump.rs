//! Hearing crash kernels: `fence_kdump_send` repeats eight unsigned bytes while a dump is written. Whose they are only the sender's address
//! tells, so an address that belongs to nobody's agent, or to two, says nothing. What they are worth: [`halberd_core::kdump`].

use std::net::IpAddr;
use std::sync::Arc;

use halberd_core::id::HostId;
use halberd_core::kdump;
use halberd_core::time::Mono;
use tokio::net::UdpSocket;

use super::fleet::Fleet;
use crate::clock;
use crate::shared::Shared;

/// One byte more than a message, so that a longer one is seen to be none.
const LONGEST: usize = 9;

/// Serves one address until the engine stops.
pub async fn listen(shared: Arc<Shared>, socket: UdpSocket) {
    let mut bytes = [0u8; LONGEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut bytes) => received,
            () = shared.stop.cancelled() => return,
        };
        let Ok((length, from)) = received else { continue };
        let taken = take(&mut shared.fleet(), &bytes[..length], from.ip(), clock::mono());
        match taken {
            Ok(_) => {
                metrics::counter!("halberd_kdump_messages_total").increment(1);
                shared.changed.notify_waiters();
            }
            Err(why) => metrics::counter!("halberd_kdump_dropped_total", "why" => why).increment(1),
        }
    }
}

/// Takes one datagram.
fn take(fleet: &mut Fleet, bytes: &[u8], from: IpAddr, now: Mono) -> Result<HostId, &'static str> {
    if !kdump::is_message(bytes) {
        return Err("foreign");
    }
    let from = from.to_canonical();
    let mut senders = fleet
        .hosts
        .values_mut()
        .filter(|known| known.addresses.values().any(|address| address.ip().to_canonical() == from));
    let Some(known) = senders.next() else { return Err("unknown_address") };
    if senders.next().is_some() {
        return Err("shared_address");
    }
    if !known.sight.dumps(&known.policy, now) {
        return Err("host_beats");
    }
    known.judge_again = None;
    Ok(known.row.id)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use halberd_core::evidence::Network;
    use halberd_core::host::Host;
    use halberd_core::policy::Policy;

    use super::*;
    use crate::collect::testing::row;

    const MESSAGE: [u8; 8] = [0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0];

    #[test]
    fn a_message_counts_from_a_silent_hosts_address_alone() {
        let mut fleet = Fleet::new(Mono(0));
        let host = Host { ever_agent: true, ..row() };
        let id = host.id;
        fleet.refresh(vec![host], &BTreeMap::new(), &Policy::default(), &BTreeSet::new(), Mono(0));
        let known: IpAddr = "10.0.0.9".parse().expect("an address");
        let mut say = |bytes: &[u8], from, at| take(&mut fleet, bytes, from, Mono(at));
        assert_eq!(say(&MESSAGE, known, 60_000), Err("unknown_address"), "its agent never beat from there");
        if let Some(known) = fleet.hosts.get_mut(&id) {
            known.addresses.insert(Network::Storage, "10.0.0.9:4711".parse().expect("an address"));
            known.sight.beats.last = vec![(Network::Storage, Mono(60_000))];
        }
        let mut say = |bytes: &[u8], from, at| take(&mut fleet, bytes, from, Mono(at));
        assert_eq!(say(&MESSAGE, known, 60_500), Err("host_beats"));
        assert_eq!(say(&MESSAGE[..7], known, 90_000), Err("foreign"));
        let mapped = "::ffff:10.0.0.9".parse().expect("an address");
        assert_eq!(say(&MESSAGE, mapped, 90_000), Ok(id), "the same address on a socket of both families");
        let message = |fleet: &Fleet| fleet.hosts[&id].sight.beats.dump.and_then(|dump| dump.message);
        assert_eq!(message(&fleet), Some((Mono(90_000), Mono(90_000))));
    }
}

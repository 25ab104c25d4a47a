//! Asking about a host that went silent: its BMC, its user land (DESIGN 4).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::evidence::UserLand;
use halberd_core::id::HostId;
use tokio::net::TcpStream;

use crate::clock;
use crate::shared::Shared;

/// A living user land greets within this on a local network.
const GREETING: Duration = Duration::from_millis(900);

/// Reads power once and notes it.
pub async fn power(shared: Arc<Shared>, host: HostId) {
    let read = shared.power.read(host).await;
    let mut fleet = shared.fleet();
    if let Some(known) = fleet.hosts.get_mut(&host) {
        known.probing.power_busy = false;
        match read {
            Ok(reading) => known.sight.power = Some(reading),
            Err(error) => tracing::debug!(host = known.row.name, error, "power could not be read"),
        }
    }
    drop(fleet);
    shared.changed.notify_waiters();
}

/// Asks the host's user land for an answer on every address its beats came from.
pub async fn user_land(shared: Arc<Shared>, host: HostId, addresses: Vec<SocketAddr>) {
    let ports = &shared.config.probe_ports;
    let targets =
        addresses.iter().flat_map(|address| ports.iter().map(|port| SocketAddr::new(address.ip(), *port)));
    let at = clock::mono();
    let answers = futures_util::future::join_all(targets.map(greets)).await;
    let answered = answers.into_iter().any(|answer| answer);
    let mut fleet = shared.fleet();
    if let Some(known) = fleet.hosts.get_mut(&host) {
        known.probing.user_land_busy = false;
        known.sight.user_land = Some(UserLand { at, answered });
    }
    drop(fleet);
    shared.changed.notify_waiters();
}

/// Whether something beyond the kernel answers: a greeting of at least one byte. A connect alone is not enough, since a kernel
/// with a dead user land still completes it.
async fn greets(target: SocketAddr) -> bool {
    let ask = async {
        let stream = TcpStream::connect(target).await.ok()?;
        stream.readable().await.ok()?;
        let mut byte = [0u8; 1];
        stream.try_read(&mut byte).ok().filter(|read| *read > 0)
    };
    tokio::time::timeout(GREETING, ask).await.ok().flatten().is_some()
}

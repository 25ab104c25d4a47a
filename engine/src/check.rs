//! Checking every fence device while all is well, so that a broken one is known before it is needed (DESIGN 7).

use std::sync::Arc;
use std::time::Duration;

use halberd_core::event::{Event, EventKind};
use halberd_core::id::{EventId, HostId};
use halberd_store::{events, fence_devices, write};
use serde_json::json;

use crate::clock;
use crate::shared::Shared;

/// Devices of this many hosts are checked at once: a slow controller holds nobody up.
const AT_ONCE: usize = 16;

/// Runs until the engine stops.
pub async fn run(shared: Arc<Shared>) {
    if shared.config.device_check_seconds == 0 {
        return;
    }
    let pace = Duration::from_secs(shared.config.device_check_seconds);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pace) => {}
            () = shared.stop.cancelled() => return,
        }
        let hosts: Vec<HostId> = {
            let fleet = shared.fleet();
            fleet
                .hosts
                .values()
                .filter(|known| known.sight.has_device && known.silent_since.is_none())
                .map(|known| known.row.id)
                .collect()
        };
        for batch in hosts.chunks(AT_ONCE) {
            futures_util::future::join_all(batch.iter().map(|host| check(&shared, *host))).await;
        }
    }
}

/// Checks one host's devices and tells of every change between usable and not.
async fn check(shared: &Shared, host: HostId) {
    let before = fence_devices::checks(&shared.db, host).await.unwrap_or_default();
    if let Err(error) = shared.power.check(host).await {
        tracing::warn!(%host, error, "the host's fence devices could not be checked");
        return;
    }
    let name = shared.fleet().hosts.get(&host).map(|known| known.row.name.clone()).unwrap_or_default();
    for after in fence_devices::checks(&shared.db, host).await.unwrap_or_default() {
        let was = before
            .iter()
            .find(|row| (row.level, row.position) == (after.level, after.position))
            .is_none_or(|row| row.ok);
        if was == after.ok {
            continue;
        }
        let kind = if after.ok { EventKind::DeviceGood } else { EventKind::DeviceBad };
        let event = Event {
            id: EventId(uuid::Uuid::new_v4()),
            kind,
            recovery: None,
            subject: format!("host/{name}"),
            data: json!({"host": name, "device": after.device, "text": after.text}),
        };
        let told = write(&shared.db, async |tx| {
            events::publish(tx, std::slice::from_ref(&event), 0, &shared.webhooks, clock::stamp()).await
        })
        .await;
        if let Err(error) = told {
            tracing::warn!(host = name, %error, "the change of a fence device could not be told");
        }
    }
}

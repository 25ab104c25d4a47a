//! What drills have shown: which devices have switched their host off and were seen to. It holds for the very devices that were
//! drilled: a row of another version of the host's description counts for nothing (DESIGN 7).

use halberd_core::id::{HostId, RecoveryId};
use halberd_core::time::Stamp;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// A device in a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    pub host: HostId,
    /// Kind and address.
    pub device: String,
    /// Of the host's devices when the order went out.
    pub version: i64,
    /// When it passed; `None`: it was begun and did not pass, so far.
    pub at: Option<Stamp>,
    pub recovery: RecoveryId,
}

/// Notes that a device is tried out, before its order goes out. An earlier pass is void from then on: what counts is the last drill.
pub async fn begin(
    tx: &mut Tx,
    host: HostId,
    device: &str,
    version: i64,
    recovery: RecoveryId,
) -> Result<()> {
    tx.exec("DELETE FROM fence_drills WHERE host = ? AND device = ?", args![host, device]).await?;
    let sql = "INSERT INTO fence_drills (host, device, version, recovery) VALUES (?, ?, ?, ?)";
    tx.exec(sql, args![host, device, version, recovery]).await.map_err(Error::raced)?;
    Ok(())
}

/// Notes which devices of a drill passed. One that was replaced meanwhile is not among them: its row went with it.
pub(crate) async fn passed(
    tx: &mut Tx,
    host: HostId,
    devices: &[String],
    recovery: RecoveryId,
    now: Stamp,
) -> Result<()> {
    for device in devices {
        let sql = "UPDATE fence_drills SET at = ? WHERE host = ? AND device = ? AND recovery = ?";
        tx.exec(sql, args![now, host, device, recovery]).await?;
    }
    Ok(())
}

/// What drills have shown of a host's present devices.
pub async fn of_host(mut on: impl Read, host: HostId) -> Result<Vec<Drill>> {
    let sql = "SELECT d.host, d.device, d.version, d.at, d.recovery FROM fence_drills d \
               JOIN fence_devices f ON f.host = d.host AND f.version = d.version WHERE d.host = ? ORDER BY d.device";
    all(&mut on, sql, args![host]).await?.iter().map(read).collect()
}

/// The devices of a host are described anew. Where only their secrets changed they are the same devices, and stay drilled.
pub(crate) async fn carry_over(
    tx: &mut Tx,
    host: HostId,
    masked: &Value,
    former: &Value,
    version: i64,
) -> Result<()> {
    if masked != former {
        return forget(tx, host).await;
    }
    let sql = "UPDATE fence_drills SET version = ? WHERE host = ? AND version = ?";
    tx.exec(sql, args![version, host, version - 1]).await?;
    Ok(())
}

/// The host has no devices any more.
pub(crate) async fn forget(tx: &mut Tx, host: HostId) -> Result<()> {
    tx.exec("DELETE FROM fence_drills WHERE host = ?", args![host]).await?;
    Ok(())
}

/// Whether a device of this name is in a drill of the host's present devices; `Some(true)`: it passed.
pub async fn standing(mut on: impl Read, host: HostId, device: &str, version: i64) -> Result<Option<bool>> {
    let sql = "SELECT device, at FROM fence_drills WHERE host = ? AND device = ? AND version = ?";
    let row = first(&mut on, sql, args![host, device, version]).await?;
    row.map(|row| Ok(row.of("fence_drills", "device").opt_stamp("at")?.is_some())).transpose()
}

pub(crate) fn read(row: &Row) -> Result<Drill> {
    let row = row.of("fence_drills", "device");
    Ok(Drill {
        host: row.id("host")?,
        device: row.string("device")?,
        version: row.int("version")?,
        at: row.opt_stamp("at")?,
        recovery: row.id("recovery")?,
    })
}

#[cfg(test)]
mod tests {
    use halberd_core::runner::HostPatch;
    use serde_json::json;

    use super::*;
    use crate::tests::{Kit, NOW, commit_of, kit, later};
    use crate::{Sealer, commit, fence_devices, write};

    const PLUG: &str = "agent fence_apc pdu";

    /// Sets devices that look so to all; the secret is another each time.
    async fn set(kit: &Kit, plug: u32) -> i64 {
        let sealer = Sealer::new(&[7; 32]);
        let shown = json!({"levels": [{"devices": [{"type": "agent", "plug": plug, "password": "***"}]}]});
        let levels = json!({"levels": [{"devices": [{"plug": plug, "password": "p"}]}]});
        write(&kit.db, async |tx| fence_devices::set(tx, &sealer, kit.host, &levels, &shown, NOW).await)
            .await
            .unwrap()
    }

    async fn try_out(kit: &Kit, version: i64, recovery: RecoveryId) {
        write(&kit.db, async |tx| begin(tx, kit.host, PLUG, version, recovery).await).await.unwrap();
    }

    async fn pass(kit: &Kit, recovery: RecoveryId) {
        let devices = [PLUG.to_owned()];
        write(&kit.db, async |tx| passed(tx, kit.host, &devices, recovery, later(1)).await).await.unwrap();
    }

    async fn stands(kit: &Kit, version: i64) -> Option<bool> {
        standing(&kit.db, kit.host, PLUG, version).await.unwrap()
    }

    #[tokio::test]
    async fn a_commit_says_which_devices_passed() {
        let kit = kit().await;
        let version = set(&kit, 3).await;
        let recovery = kit.claimed().await;
        try_out(&kit, version, recovery.id).await;
        assert_eq!(stands(&kit, version).await, Some(false), "tried, not passed");
        let mut content = commit_of(&recovery);
        let drilled = vec![PLUG.to_owned(), "never tried".to_owned()];
        content.hosts.push((kit.host, HostPatch { drilled, ..HostPatch::default() }));
        commit::apply(&kit.db, &content, &[], later(1)).await.unwrap();
        assert_eq!(stands(&kit, version).await, Some(true));
        let shown = of_host(&kit.db, kit.host).await.unwrap();
        assert_eq!(shown.len(), 1, "what was never ordered has shown nothing: {shown:?}");
        assert_eq!((shown[0].at, shown[0].recovery), (Some(later(1)), recovery.id));
    }

    #[tokio::test]
    async fn it_counts_for_the_devices_that_were_drilled_and_no_others() {
        let kit = kit().await;
        let one = RecoveryId(uuid::Uuid::from_u128(1));
        let first = set(&kit, 3).await;
        try_out(&kit, first, one).await;
        pass(&kit, one).await;
        // Another password: the same device.
        let second = set(&kit, 3).await;
        assert_eq!((stands(&kit, second).await, stands(&kit, first).await), (Some(true), None));
        // Another outlet of the same address: another machine.
        let third = set(&kit, 4).await;
        assert_eq!(stands(&kit, third).await, None);
        assert!(of_host(&kit.db, kit.host).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn devices_that_are_replaced_during_their_drill_do_not_pass_it() {
        let kit = kit().await;
        let one = RecoveryId(uuid::Uuid::from_u128(1));
        let first = set(&kit, 3).await;
        try_out(&kit, first, one).await;
        let second = set(&kit, 4).await;
        pass(&kit, one).await;
        assert_eq!((stands(&kit, first).await, stands(&kit, second).await), (None, None));
    }

    #[tokio::test]
    async fn the_last_drill_is_what_counts() {
        let kit = kit().await;
        let [one, two] = [1, 2].map(|n| RecoveryId(uuid::Uuid::from_u128(n)));
        let version = set(&kit, 3).await;
        try_out(&kit, version, one).await;
        pass(&kit, one).await;
        try_out(&kit, version, two).await;
        pass(&kit, one).await;
        assert_eq!(stands(&kit, version).await, Some(false), "the earlier drill has no word any more");
        pass(&kit, two).await;
        assert_eq!(stands(&kit, version).await, Some(true));
        write(&kit.db, async |tx| fence_devices::remove(tx, kit.host).await).await.unwrap();
        assert_eq!(stands(&kit, version).await, None);
    }

    #[tokio::test]
    async fn hosts_under_recovery_are_not_idle() {
        let kit = kit().await;
        assert!(fence_devices::idle(&kit.db).await.unwrap().is_empty(), "without devices nothing is checked");
        let version = set(&kit, 3).await;
        assert_eq!(fence_devices::idle(&kit.db).await.unwrap(), [(kit.host, version)]);
        kit.open().await;
        assert!(fence_devices::idle(&kit.db).await.unwrap().is_empty());
    }
}

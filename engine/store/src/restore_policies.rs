//! Power-restore policies as they were before a fence changed them. A row is written before the change, so a crash in between
//! leaves one too many and never one too few; it goes when the controller has its policy back, or when a person has to do it.

use halberd_core::id::HostId;
use halberd_core::time::Stamp;

use crate::error::{Error, Result};
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args};

/// What one controller is to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerPolicy {
    pub host: HostId,
    /// Kind and address.
    pub device: String,
    /// The fencer's word for the policy.
    pub former: String,
    pub at: Stamp,
}

/// Records what a controller was set to, and that we changed it. The first to be recorded stays: what is read later may be our own.
pub async fn record(tx: &mut Tx, policy: &FormerPolicy) -> Result<()> {
    let sql = "SELECT host FROM restore_policies WHERE host = ? AND device = ?";
    if first(&mut &mut *tx, sql, args![policy.host, &policy.device]).await?.is_none() {
        let sql = "INSERT INTO restore_policies (host, device, former, at) VALUES (?, ?, ?, ?)";
        let values = args![policy.host, &policy.device, &policy.former, policy.at];
        tx.exec(sql, values).await.map_err(Error::raced)?;
    }
    // The report that says so may be lost with its engine; the row stays true without it.
    let sql = "UPDATE hosts SET set_restore_policy = 1, version = version + 1, updated_at = ? \
               WHERE id = ? AND set_restore_policy = 0";
    tx.exec(sql, args![policy.at, policy.host]).await?;
    Ok(())
}

/// What a host's controllers are to be given back, oldest first.
pub async fn list(mut on: impl Read, host: HostId) -> Result<Vec<FormerPolicy>> {
    let sql = "SELECT * FROM restore_policies WHERE host = ? ORDER BY at, device";
    all(&mut on, sql, args![host]).await?.iter().map(read).collect()
}

/// A controller has its policy back. `false`: it was recorded before.
pub async fn remove(tx: &mut Tx, host: HostId, device: &str) -> Result<bool> {
    let sql = "DELETE FROM restore_policies WHERE host = ? AND device = ?";
    Ok(tx.exec(sql, args![host, device]).await? == 1)
}

/// Nothing of ours is left to be put back at this host, or a person does it: the next change records afresh.
pub(crate) async fn forget(tx: &mut Tx, host: HostId) -> Result<()> {
    tx.exec("DELETE FROM restore_policies WHERE host = ?", args![host]).await?;
    Ok(())
}

pub(crate) fn read(row: &Row) -> Result<FormerPolicy> {
    let row = row.of("restore_policies", "device");
    Ok(FormerPolicy {
        host: row.id("host")?,
        device: row.string("device")?,
        former: row.string("former")?,
        at: row.stamp("at")?,
    })
}

#[cfg(test)]
mod tests {
    use halberd_core::host::SetByUs;
    use halberd_core::runner::HostPatch;

    use super::*;
    use crate::tests::{Kit, NOW, kit, later};
    use crate::{hosts, write};

    async fn note(kit: &Kit, device: &str, former: &str) {
        let policy = FormerPolicy { host: kit.host, device: device.into(), former: former.into(), at: NOW };
        write(&kit.db, async |tx| record(tx, &policy).await).await.unwrap();
    }

    async fn flag(kit: &Kit) -> bool {
        hosts::get(&kit.db, kit.host).await.unwrap().value.set_by_us.restore_policy
    }

    async fn recorded(kit: &Kit) -> Vec<(String, String)> {
        let rows = list(&kit.db, kit.host).await.unwrap();
        rows.into_iter().map(|row| (row.device, row.former)).collect()
    }

    #[tokio::test]
    async fn the_first_former_policy_wins_and_the_host_knows_at_once() {
        let kit = kit().await;
        let version = hosts::get(&kit.db, kit.host).await.unwrap().value.version;
        assert!(!flag(&kit).await);
        note(&kit, "ipmi bmc", "always_on").await;
        // A second act reads what the first one set.
        note(&kit, "ipmi bmc", "always_off").await;
        assert_eq!(recorded(&kit).await, [("ipmi bmc".to_owned(), "always_on".to_owned())]);
        assert!(flag(&kit).await, "without any report of the fence");
        assert_eq!(hosts::get(&kit.db, kit.host).await.unwrap().value.version, version + 1);
    }

    #[tokio::test]
    async fn the_flag_and_the_records_end_together() {
        let kit = kit().await;
        note(&kit, "ipmi bmc", "always_on").await;
        note(&kit, "redfish https://bmc", "last_state").await;
        assert!(write(&kit.db, async |tx| remove(tx, kit.host, "ipmi bmc").await).await.unwrap());
        let set = |restore_policy| HostPatch {
            set_by_us: Some(SetByUs { restore_policy, disabled: true, forced_down: false }),
            ..HostPatch::default()
        };
        let patch = |patch: HostPatch| {
            let (db, host) = (kit.db.clone(), kit.host);
            async move { write(&db, async |tx| hosts::patch(tx, host, &patch, later(1)).await).await.unwrap() }
        };
        assert!(patch(set(true)).await.set_by_us.restore_policy && flag(&kit).await);
        assert_eq!(recorded(&kit).await.len(), 1, "still to be given back");
        patch(set(false)).await;
        assert!(!flag(&kit).await && recorded(&kit).await.is_empty(), "the next change records afresh");
    }
}

//! Another key for the secrets of this database: everything sealed is opened with the former key and sealed with the new one, in one
//! transaction, so that a crash leaves all of the one or all of the other.
//!
//! Whoever runs while this is done holds the former key: an engine's or an API's next secret would not open, or would be sealed with
//! the wrong one. So nobody else may run on the database meanwhile; where that can be seen, the caller sees to it.

use halberd_core::audit::Entry;
use halberd_core::time::Stamp;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::audit;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::seal::{CHECK, CHECKED, Place, SealError, Sealer};
use crate::transaction::{Tx, all, first, write};
use crate::value::args;

/// How many values were sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rekeyed {
    pub fence_devices: usize,
    pub sessions: usize,
    pub agent_keys: usize,
}

/// A table with a column `sealed`, the column that names its rows, and where their version stands.
struct Sealed {
    table: &'static str,
    key: &'static str,
    /// An expression: sessions have none, they are never written twice.
    version: &'static str,
}

/// Every table with a column `sealed`. A test compares it with the schema.
const SEALED: [Sealed; 3] = [
    Sealed { table: "fence_devices", key: "host", version: "version" },
    Sealed { table: "sessions", key: "id", version: "1" },
    Sealed { table: "agent_keys", key: "host", version: "version" },
];

/// The chain of what was done to the secrets as a whole.
const CHAIN: &str = "secrets";

/// Seals every secret of the database with the new key.
///
/// # Errors
/// [`SealError::WrongKey`] when `old` is not this database's key, [`SealError::Unopened`] for a row that does not open: then it was
/// damaged before, and nothing is changed (set that host's devices or key anew first).
pub async fn rekey(db: &Db, old: &Sealer, new: &Sealer, now: Stamp) -> Result<Rekeyed> {
    write(db, async |tx| rekey_in(tx, old, new, now).await).await
}

async fn rekey_in(tx: &mut Tx, old: &Sealer, new: &Sealer, now: Stamp) -> Result<Rekeyed> {
    old.check(tx, now).await?;
    let mut done = [0; SEALED.len()];
    for (sealed, done) in SEALED.iter().zip(&mut done) {
        *done = reseal(tx, sealed, old, new).await?;
    }
    let check = new.seal(CHECK, CHECKED)?;
    let sql = "UPDATE settings SET value = ?, version = version + 1, updated_at = ? WHERE name = ?";
    if tx.exec(sql, args![check, now, CHECK.row]).await? != 1 {
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    new.check(tx, now).await?;
    let [fence_devices, sessions, agent_keys] = done;
    let rekeyed = Rekeyed { fence_devices, sessions, agent_keys };
    let text = format!(
        "secrets sealed with another key: devices of {fence_devices} hosts, keys of {agent_keys} agents, {sessions} sessions"
    );
    audit::append(tx, CHAIN, 0, &[Entry::new("secrets_rekeyed", text, json!(rekeyed))], now).await?;
    Ok(rekeyed)
}

/// One table. What was written is read back and opened before the next row.
async fn reseal(tx: &mut Tx, sealed: &Sealed, old: &Sealer, new: &Sealer) -> Result<usize> {
    let Sealed { table, key, version } = *sealed;
    let select = format!("SELECT {key} AS name, {version} AS at_version, sealed FROM {table} ORDER BY {key}");
    let update = format!("UPDATE {table} SET sealed = ? WHERE {key} = ?");
    let back = format!("SELECT {key} AS name, sealed FROM {table} WHERE {key} = ?");
    let rows = all(&mut &mut *tx, AssertSqlSafe(select), vec![]).await?;
    for row in &rows {
        let row = row.of(table, "name");
        let name = row.string("name")?;
        let place = Place { table, row: &name, version: row.int("at_version")? };
        let secret = old.open(place, row.text("sealed")?)?;
        tx.exec(AssertSqlSafe(update.clone()), args![new.seal(place, secret.expose_secret())?, &name])
            .await?;
        let read = first(&mut &mut *tx, AssertSqlSafe(back.clone()), args![&name]).await?;
        let read = read.ok_or_else(|| Error::not_found(table, &name))?;
        let opened = new.open(place, read.of(table, "name").text("sealed")?)?;
        if !same(&opened, &secret) {
            return Err(SealError::Unsealed { table, row: name }.into());
        }
    }
    Ok(rows.len())
}

fn same(a: &SecretSlice<u8>, b: &SecretSlice<u8>) -> bool {
    a.expose_secret() == b.expose_secret()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use secrecy::SecretString;
    use uuid::Uuid;

    use super::*;
    use crate::tests::{Kit, NOW, kit, later};
    use crate::{agent_keys, fence_devices, sessions};

    fn old() -> Sealer {
        Sealer::new(&[7; 32])
    }

    fn new() -> Sealer {
        Sealer::new(&[9; 32])
    }

    /// A host with devices, a key and two sessions, another with a key.
    async fn sealed() -> Kit {
        let kit = kit().await;
        let other = kit.add_host("cmp-02").await;
        write(&kit.db, async |tx| old().check(tx, NOW).await).await.unwrap();
        for version in 1..=2 {
            let levels = json!({"levels": [{"devices": [{"password": format!("canary-{version}")}]}]});
            write(&kit.db, async |tx| {
                fence_devices::set(tx, &old(), kit.host, &levels, &json!({}), NOW).await
            })
            .await
            .unwrap();
        }
        for host in [kit.host, other] {
            write(&kit.db, async |tx| agent_keys::set(tx, &old(), host, &[1; 32], NOW).await).await.unwrap();
        }
        for token in ["one", "two"] {
            let session = sessions::Session {
                id: Uuid::new_v4(),
                host: kit.host,
                device: "redfish https://bmc".into(),
                token: SecretString::from(token),
                recovery: None,
                at: NOW,
            };
            write(&kit.db, async |tx| sessions::add(tx, &old(), &session).await).await.unwrap();
        }
        kit
    }

    /// How much of everything a key opens; all or nothing is what a crash may leave.
    async fn opens(kit: &Kit, key: &Sealer) -> [bool; 4] {
        let devices = fence_devices::open(&kit.db, key, kit.host).await;
        let devices = devices.is_ok_and(|opened| opened.unwrap().levels.expose_secret().contains("canary-2"));
        let keys = agent_keys::all_keys(&kit.db, key).await;
        let keys = keys.is_ok_and(|keys| keys.len() == 2 && keys[0].2.expose_secret() == [1; 32]);
        let open = sessions::list(&kit.db, key, kit.host).await.is_ok_and(|open| open.len() == 2);
        let check = write(&kit.db, async |tx| key.check(tx, NOW).await).await.is_ok();
        [devices, keys, open, check]
    }

    #[tokio::test]
    async fn everything_opens_with_the_new_key_and_nothing_with_the_former() {
        let kit = sealed().await;
        let done = rekey(&kit.db, &old(), &new(), later(1)).await.unwrap();
        assert_eq!(done, Rekeyed { fence_devices: 1, sessions: 2, agent_keys: 2 });
        assert_eq!((opens(&kit, &new()).await, opens(&kit, &old()).await), ([true; 4], [false; 4]));
        let chain = audit::of_chain(&kit.db, CHAIN).await.unwrap();
        assert_eq!(chain.len(), 1);
        assert!(!chain[0].0.entry.text.contains("canary"), "{:?}", chain[0].0.entry);
        assert!(audit::verify(&kit.db).await.unwrap().is_empty());
        // With the former key a second time: it is not this database's any more.
        let again = rekey(&kit.db, &old(), &new(), later(2)).await;
        assert!(matches!(again, Err(Error::Seal(SealError::WrongKey))), "{again:?}");
    }

    #[tokio::test]
    async fn a_crash_in_between_leaves_all_with_the_former_key() {
        let kit = sealed().await;
        // Dropped before its commit, as a crash would.
        let mut tx = Tx::begin(&kit.db).await.unwrap();
        rekey_in(&mut tx, &old(), &new(), later(1)).await.unwrap();
        drop(tx);
        assert_eq!((opens(&kit, &old()).await, opens(&kit, &new()).await), ([true; 4], [false; 4]));
    }

    #[tokio::test]
    async fn a_damaged_row_and_a_wrong_key_change_nothing() {
        let kit = sealed().await;
        let refused = rekey(&kit.db, &new(), &old(), later(1)).await;
        assert!(matches!(refused, Err(Error::Seal(SealError::WrongKey))), "{refused:?}");
        // The last table of all, so that the others were written when it fails.
        let host = kit.add_host("cmp-03").await;
        write(&kit.db, async |tx| agent_keys::set(tx, &new(), host, &[3; 32], NOW).await).await.unwrap();
        let refused = rekey(&kit.db, &old(), &new(), later(1)).await;
        assert!(
            matches!(refused, Err(Error::Seal(SealError::Unopened { table: "agent_keys", .. }))),
            "{refused:?}"
        );
        write(&kit.db, async |tx| agent_keys::remove(tx, host).await).await.unwrap();
        assert_eq!((opens(&kit, &old()).await, opens(&kit, &new()).await), ([true; 4], [false; 4]));
    }

    #[tokio::test]
    async fn no_sealed_column_is_forgotten() {
        let kit = kit().await;
        let sql = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name LIKE '%seal%'";
        let rows = kit.raw(sql).await;
        let there: BTreeSet<String> =
            rows.iter().map(|row| row.of("sqlite_master", "name").string("name").unwrap()).collect();
        let known: BTreeSet<String> = SEALED.iter().map(|sealed| sealed.table.to_owned()).collect();
        assert_eq!(there, known, "a table with sealed values that a new key would leave behind");
    }
}

//! Which database this is, and what it shows where something is remembered (SAFETY 3.2, the rewind rule).
//!
//! Our own id lies in a settings row and travels with every dump. Beside it stands what the server says of itself: PostgreSQL's system
//! identifier and timeline, Galera's cluster state. Not every role may ask (a hosted server may have taken the functions away); what is
//! not told is unknown and compared with nothing.

use halberd_core::audit::GENESIS;
use halberd_core::id::RecoveryId;
use halberd_core::rewind::{Head, Identity, Marks, Shown, ShownChain, ShownRecovery};
use halberd_core::time::Stamp;
use sqlx::AssertSqlSafe;

use crate::audit::CHECKPOINTS;
use crate::db::Db;
use crate::dialect::{Dialect, ROWS_PER_STATEMENT};
use crate::error::{Error, Result};
use crate::refusal::{NO_RIGHT, NO_SCHEMA};
use crate::rewind;
use crate::settings;
use crate::transaction::{Read, all, first};
use crate::value::{Arg, Row, args};

/// PostgreSQL: the system identifier is made by initdb and kept by every standby; the timeline is that of the log written now.
const POSTGRES: &str = "SELECT CAST(system_identifier AS TEXT) AS server, \
                        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline FROM pg_control_system()";
/// Galera: the cluster state's id lives as long as the history does; without Galera it is empty or all zeros.
const GALERA: &str = "SELECT LOWER(CAST(VARIABLE_VALUE AS CHAR(64))) AS server FROM information_schema.GLOBAL_STATUS \
                      WHERE VARIABLE_NAME = 'WSREP_CLUSTER_STATE_UUID'";
const NO_CLUSTER: &str = "00000000-0000-0000-0000-000000000000";

/// Which database this is; our own id is made at the first use.
pub async fn identity(db: &Db, now: Stamp) -> Result<Identity> {
    let own = settings::identity(db, now).await?;
    Ok(Identity { own: Some(own), ..server(db).await? })
}

/// What the server says of itself. That it does not say it is no error.
async fn server(db: &Db) -> Result<Identity> {
    let sql = match db.dialect() {
        Dialect::Sqlite => return Ok(Identity::default()),
        Dialect::Postgres => POSTGRES,
        Dialect::Mysql => GALERA,
    };
    let row = match first(&mut &*db, sql, vec![]).await {
        Ok(row) => row,
        // Refused for good (no right, no such function or table); a server that does not answer is the caller's to know.
        Err(Error::Database(_) | Error::Unavailable { reason: NO_RIGHT | NO_SCHEMA, .. }) => None,
        Err(error) => return Err(error),
    };
    let Some(row) = row else { return Ok(Identity::default()) };
    let row = row.of("server", "server");
    let server = row.opt_string("server")?.filter(|id| !id.is_empty() && id != NO_CLUSTER);
    if db.dialect() == Dialect::Mysql {
        // A cluster that is begun anew after a full stop may take another id and lose nothing: the marks say what was lost.
        return Ok(Identity { own: None, server: None, timeline: server });
    }
    Ok(Identity { own: None, server, timeline: row.opt_string("timeline")? })
}

/// What the database shows where something is remembered. Read it after the marks were taken.
pub async fn shown(db: &Db, name: &str, marks: &Marks, now: Stamp) -> Result<Shown> {
    let mut shown = Shown {
        identity: identity(db, now).await?,
        reconciled: rewind::reconciled(db).await?,
        engine: None,
        checkpoints: chain(db, CHECKPOINTS, marks.checkpoints.as_ref()).await?,
        recoveries: Default::default(),
    };
    let sql = "SELECT name, id, counter FROM engines WHERE name = ?";
    if let Some(row) = first(&mut &*db, sql, args![name]).await? {
        let row = row.of("engines", "name");
        shown.engine = Some((row.id("id")?, row.int("counter")?));
    }
    let ids: Vec<RecoveryId> = marks.recoveries.keys().copied().collect();
    for ids in ids.chunks(ROWS_PER_STATEMENT) {
        let list = vec!["?"; ids.len()].join(", ");
        let sql = AssertSqlSafe(format!(
            "SELECT id, epoch, version, closed_at FROM recoveries WHERE id IN ({list})"
        ));
        for row in all(&mut &*db, sql, ids.iter().map(|id| Arg::from(*id)).collect()).await? {
            let row = row.of("recoveries", "id");
            let id: RecoveryId = row.id("id")?;
            let mark = marks.recoveries.get(&id);
            let known = mark.filter(|mark| !mark.closed).and_then(|mark| mark.audit.as_ref());
            let audit = match known {
                Some(head) => chain(db, &id.to_string(), Some(head)).await?,
                None => ShownChain::default(),
            };
            let seen = ShownRecovery {
                epoch: row.int("epoch")?,
                version: row.int("version")?,
                closed: row.opt_stamp("closed_at")?.is_some(),
                audit,
            };
            shown.recoveries.insert(id, seen);
        }
    }
    Ok(shown)
}

/// A chain's last record as its head has it; `None`: it has none.
pub async fn head(mut on: impl Read, chain: &str) -> Result<Option<Head>> {
    let sql = "SELECT chain, sequence, hash FROM audit_heads WHERE chain = ?";
    let row = first(&mut on, sql, args![chain]).await?;
    let read = |row: Row| {
        let row = row.of("audit_heads", "chain");
        Ok(Head { sequence: row.int("sequence")?, hash: row.string("hash")? })
    };
    row.map(read).transpose()
}

async fn chain(db: &Db, chain: &str, known: Option<&Head>) -> Result<ShownChain> {
    let length = head(db, chain).await?.map_or(0, |head| head.sequence);
    let Some(known) = known.filter(|known| known.sequence > 0) else {
        return Ok(ShownChain { length, at_mark: None });
    };
    let sql = "SELECT chain, hash FROM audit WHERE chain = ? AND sequence = ?";
    let row = first(&mut &*db, sql, args![chain, known.sequence]).await?;
    let at_mark = row.map(|row| row.of("audit", "chain").string("hash")).transpose()?;
    debug_assert_ne!(at_mark.as_deref(), Some(GENESIS));
    Ok(ShownChain { length, at_mark })
}

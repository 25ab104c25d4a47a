//! MariaDB and MySQL, alone or as a Galera cluster (SAFETY 3.2).

use std::collections::BTreeMap;
use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, MySql, MySqlConnection, Row as _};

use super::{Driver, statements};
use crate::backup::MARK;
use crate::dialect::Dialect;
use crate::durability::Finding;
use crate::error::{Error, Result};
use crate::refusal::{HALF, NOT_PRIMARY, STANDBY, Unfit, classified, one_host};
use crate::wire::{mysql_query, mysql_rows};

/// From `mysql://user:password@host:port/database?ssl-mode=VERIFY_IDENTITY&ssl-ca=..`; the error says what is wrong with it.
pub(crate) fn options(url: &str) -> Result<MySqlConnectOptions, String> {
    one_host(url)?;
    let url = url.replacen("mariadb://", "mysql://", 1);
    let options = MySqlConnectOptions::from_str(&url).map_err(|error| error.to_string())?;
    if options.get_database().is_none() {
        return Err(
            "it names no database after the host; write mysql://USER:PASSWORD@HOST:PORT/DATABASE".into()
        );
    }
    // The modes are set below, all of them: what the server is set to differs from site to site.
    Ok(options.pipes_as_concat(false).no_engine_substitution(false).statement_cache_capacity(256))
}

/// A value that does not fit is refused and not cut; a lock is waited for 5 s; a unit's reads see one moment.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
                       SESSION innodb_lock_wait_timeout = 5, SESSION autocommit = 1; \
                       SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
/// A row that somebody changed since this unit's first read is not overwritten (MariaDB; its default since 11.6.2).
const SNAPSHOTS: &str = "SET SESSION innodb_snapshot_isolation = ON";
/// A transaction that says nothing for so many seconds is ended (MariaDB; MySQL has no such thing): on PostgreSQL it is the same.
const IDLE: &str = "SET SESSION idle_transaction_timeout = 4";
/// Reads wait until this node has applied what the cluster had committed when they began: any of ours may gate a deed, and
/// without it 9 of 200 reads right after a write elsewhere were stale. 1 covers SELECT and BEGIN; a unit's updates are certified anyway.
const SYNC_READS: &str = "SET SESSION wsrep_sync_wait = 1";

/// Whether a restore of this database began and did not end.
pub(crate) async fn is_marked(connection: &mut MySqlConnection) -> Result<bool> {
    let ask = format!(
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{MARK}'"
    );
    let found: i64 =
        classified(Dialect::Mysql, sqlx::query_scalar(AssertSqlSafe(ask)).fetch_one(connection).await)?;
    Ok(found > 0)
}

type Variables = BTreeMap<String, String>;

async fn variables(connection: &mut MySqlConnection, sql: &'static str) -> sqlx::Result<Variables> {
    let rows = sqlx::query(sql).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get_unchecked(0)?, row.try_get_unchecked(1)?))).collect()
}

fn is(variables: &Variables, name: &str, value: &str) -> bool {
    variables.get(name).is_some_and(|is| is.eq_ignore_ascii_case(value))
}

impl Driver for MySql {
    const DIALECT: Dialect = Dialect::Mysql;

    statements!(mysql_query, mysql_rows);

    async fn settle(connection: &mut MySqlConnection) -> sqlx::Result<()> {
        Self::run(connection, SESSION).await?;
        let ask = "SHOW VARIABLES WHERE Variable_name IN \
                   ('wsrep_on', 'innodb_snapshot_isolation', 'idle_transaction_timeout', 'read_only', 'super_read_only', \
                   'innodb_read_only')";
        let set = variables(connection, ask).await?;
        if is(&set, "wsrep_on", "ON") {
            // Status is answered by a node that answers nothing else.
            let status = variables(
                connection,
                "SHOW STATUS WHERE Variable_name IN ('wsrep_cluster_status', 'wsrep_ready')",
            )
            .await?;
            if !is(&status, "wsrep_cluster_status", "Primary") || !is(&status, "wsrep_ready", "ON") {
                return Err(sqlx::Error::Configuration(Unfit(NOT_PRIMARY).into()));
            }
            Self::run(connection, SYNC_READS).await?;
        }
        let writable = |name| set.get(name).is_none_or(|value| value.eq_ignore_ascii_case("OFF"));
        if !["read_only", "super_read_only", "innodb_read_only"].into_iter().all(writable) {
            return Err(sqlx::Error::Configuration(Unfit(STANDBY).into()));
        }
        if set.contains_key("innodb_snapshot_isolation") {
            Self::run(connection, SNAPSHOTS).await?;
        }
        if set.contains_key("idle_transaction_timeout") {
            Self::run(connection, IDLE).await?;
        }
        Ok(())
    }

    async fn refuse(connection: &mut MySqlConnection) -> Result<()> {
        if is_marked(connection).await? {
            Err(Error::Unavailable { reason: HALF, source: None })
        } else {
            Ok(())
        }
    }

    async fn findings(connection: &mut MySqlConnection) -> sqlx::Result<Vec<Finding>> {
        let ask = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('innodb_flush_log_at_trx_commit', 'sync_binlog', 'log_bin', \
                   'innodb_doublewrite', 'innodb_flush_method', 'wsrep_on', 'hostname')";
        let set = variables(connection, ask).await?;
        let ask = "SHOW STATUS WHERE Variable_name IN ('Ssl_cipher', 'wsrep_cluster_size')";
        let status = variables(connection, ask).await?;
        let here = "SELECT SUBSTRING_INDEX(HOST, ':', 1) FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()";
        let here: Vec<u8> = sqlx::query(here).fetch_one(connection).await?.try_get_unchecked(0)?;
        let private = matches!(here.as_slice(), b"localhost" | b"127.0.0.1" | b"::1" | b"")
            || status.get("Ssl_cipher").is_some_and(|cipher| !cipher.is_empty());
        Ok(judged(&set, &status, private))
    }
}

fn judged(set: &Variables, status: &Variables, private: bool) -> Vec<Finding> {
    let value = |name: &str| set.get(name).map_or("", String::as_str);
    let mut found = Vec::new();
    let flush = value("innodb_flush_log_at_trx_commit");
    // 3 is MariaDB's: flushed as often as with 1, and once more.
    if !matches!(flush, "1" | "3") {
        let why = "an acknowledged commit can vanish with the power, on a Galera cluster when nodes die close together";
        let cure = "set innodb_flush_log_at_trx_commit = 1 in my.cnf on every node (and SET GLOBAL until the next restart)";
        found.push(Finding::fatal("innodb_flush_log_at_trx_commit", flush, why, cure));
    }
    if is(set, "log_bin", "ON") && value("sync_binlog") != "1" {
        let why =
            "with a binary log a commit is as durable as its entry there, and that is not flushed with each";
        let cure = "set sync_binlog = 1 in my.cnf (and SET GLOBAL until the next restart), or switch the binary log off";
        found.push(Finding::fatal("sync_binlog", value("sync_binlog"), why, cure));
    }
    let doublewrite = value("innodb_doublewrite");
    if ["OFF", "0", "DETECT_ONLY"].iter().any(|off| doublewrite.eq_ignore_ascii_case(off)) {
        let why = "a page that was half written when the power went cannot be mended";
        let cure = "set innodb_doublewrite = ON in my.cnf and restart the server";
        found.push(Finding::fatal("innodb_doublewrite", doublewrite, why, cure));
    }
    let method = value("innodb_flush_method");
    if ["nosync", "littlesync"].iter().any(|lax| method.eq_ignore_ascii_case(lax)) {
        let why = "commits are acknowledged before the disk has them";
        let cure = "remove innodb_flush_method from my.cnf, or set O_DIRECT, and restart the server";
        found.push(Finding::fatal("innodb_flush_method", method, why, cure));
    }
    if is(set, "wsrep_on", "ON") {
        let size = status.get("wsrep_cluster_size").map_or("0", String::as_str);
        if size.parse::<u32>().unwrap_or(0) < 3 {
            let why = "with fewer than three members the loss of one stops the others";
            found.push(Finding::warning(
                "wsrep_cluster_size",
                size,
                why,
                "add nodes, or an arbitrator (garbd)",
            ));
        }
    }
    if !private {
        let why = "the connection crosses the network in plain text";
        let cure = "write ?ssl-mode=VERIFY_IDENTITY&ssl-ca=FILE behind [database] url";
        found.push(Finding::warning("Ssl_cipher", "none", why, cure));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const SOUND: [(&str, &str); 5] = [
        ("innodb_flush_log_at_trx_commit", "1"),
        ("log_bin", "OFF"),
        ("sync_binlog", "0"),
        ("innodb_doublewrite", "ON"),
        ("innodb_flush_method", "O_DIRECT"),
    ];

    #[test]
    fn each_setting_that_loses_commits_is_named() {
        assert_eq!(judged(&variables(&SOUND), &Variables::new(), true), []);
        for (name, value, named) in [
            ("innodb_flush_log_at_trx_commit", "2", "innodb_flush_log_at_trx_commit"),
            ("log_bin", "ON", "sync_binlog"),
            ("innodb_doublewrite", "OFF", "innodb_doublewrite"),
            ("innodb_doublewrite", "DETECT_ONLY", "innodb_doublewrite"),
            ("innodb_flush_method", "nosync", "innodb_flush_method"),
        ] {
            let mut set = variables(&SOUND);
            set.insert(name.to_owned(), value.to_owned());
            let found = judged(&set, &Variables::new(), true);
            assert_eq!(found.len(), 1, "{name} {value}: {found:?}");
            assert!(found[0].fatal && found[0].setting == named, "{found:?}");
        }
    }

    #[test]
    fn a_small_cluster_and_plain_text_are_said_and_not_refused() {
        let mut set = variables(&SOUND);
        set.insert("wsrep_on".into(), "ON".into());
        let found = judged(&set, &variables(&[("wsrep_cluster_size", "2")]), false);
        let named: Vec<_> = found.iter().map(|finding| finding.setting).collect();
        assert_eq!(named, ["wsrep_cluster_size", "Ssl_cipher"]);
        assert!(found.iter().all(|finding| !finding.fatal));
        assert_eq!(judged(&set, &variables(&[("wsrep_cluster_size", "3")]), true), []);
    }
}

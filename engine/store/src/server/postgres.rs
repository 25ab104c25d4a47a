//! PostgreSQL: one primary (SAFETY 3.2). Standbys are refused at each connection, as an address may follow a failover.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, Postgres};

use super::{Driver, statements};
use crate::dialect::Dialect;
use crate::durability::Finding;
use crate::refusal::{STANDBY, Unfit, one_host};
use crate::wire::{postgres_query, postgres_rows};

/// From `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=..`; the error says what is wrong with it.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, String> {
    one_host(url)?;
    let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
    if options.get_database().is_none() {
        return Err(
            "it names no database after the host; write postgres://USER:PASSWORD@HOST:PORT/DATABASE".into()
        );
    }
    Ok(options.application_name("halberd").statement_cache_capacity(256))
}

/// Who waits for a row's lock longer than this has met a writer that hangs. A transaction that says nothing for four seconds is one
/// whose process froze or whose machine is gone: it must have let go of its rows before its lease lapses for others (six seconds at
/// the least), or they could not take over.
const SESSION: &str = "SET lock_timeout = '5s'; SET statement_timeout = '14s'; \
                       SET idle_in_transaction_session_timeout = '4s'; SET standard_conforming_strings = on";

impl Driver for Postgres {
    const DIALECT: Dialect = Dialect::Postgres;

    statements!(postgres_query, postgres_rows);

    async fn settle(connection: &mut PgConnection) -> sqlx::Result<()> {
        let primary = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'";
        if sqlx::query_scalar::<_, bool>(primary).fetch_one(&mut *connection).await? {
            return Err(sqlx::Error::Configuration(Unfit(STANDBY).into()));
        }
        Self::run(connection, SESSION).await
    }

    async fn findings(connection: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
        // As this session has them: each may also be set for a role or a database.
        let ask = "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'), \
                   current_setting('synchronous_standby_names'), (SELECT COUNT(*) FROM pg_stat_replication), \
                   COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) \
                   OR COALESCE(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true)";
        let (fsync, pages, commit, names, standbys, private): (String, String, String, String, i64, bool) =
            sqlx::query_as(ask).fetch_one(connection).await?;
        let mut found = Vec::new();
        if fsync != "on" {
            let why =
                "commits are acknowledged before the disk has them, and a power cut can destroy the database";
            found.push(Finding::fatal("fsync", &fsync, why, "set fsync = on in postgresql.conf and reload"));
        }
        if pages != "on" {
            let why = "a page that was half written when the power went cannot be mended";
            let cure = "set full_page_writes = on in postgresql.conf and reload";
            found.push(Finding::fatal("full_page_writes", &pages, why, cure));
        }
        match commit.as_str() {
            "off" => {
                let why = "an acknowledged commit can vanish with the power";
                let cure =
                    "set synchronous_commit = on (postgresql.conf, ALTER DATABASE or ALTER ROLE .. SET)";
                found.push(Finding::fatal("synchronous_commit", &commit, why, cure));
            }
            "local" | "remote_write" if !names.is_empty() => {
                let why = "a commit is acknowledged before a synchronous standby has it on disk, so a failover can lose it";
                let cure =
                    "set synchronous_commit = on (postgresql.conf, ALTER DATABASE or ALTER ROLE .. SET)";
                found.push(Finding::fatal("synchronous_commit", &commit, why, cure));
            }
            _ => {}
        }
        if standbys > 0 && names.is_empty() {
            let why = "its standbys follow asynchronously, so a failover can lose the last commits; engines then stop in \
                       reconcile-only until a person has looked";
            let cure = "name them in synchronous_standby_names (Patroni: synchronous_mode and synchronous_mode_strict)";
            found.push(Finding::warning("synchronous_standby_names", "empty", why, cure));
        }
        if !private {
            let why = "the connection crosses the network in plain text";
            let cure = "write ?sslmode=verify-full&sslrootcert=FILE behind [database] url";
            found.push(Finding::warning("ssl", "off", why, cure));
        }
        Ok(found)
    }
}

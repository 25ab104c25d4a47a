//! What a database's error means to us: run the unit again, find out what became of it, stop acting, or tell the caller.
//!
//! Decided by codes, never by text. A reason says what is wrong and what to do, for whoever reads the log at night.

use sqlx::error::ErrorKind;
use sqlx::mysql::MySqlDatabaseError;

use crate::dialect::Dialect;
use crate::error::{Error, Result};

/// An error of a statement, in the store's words.
pub(crate) fn classify(dialect: Dialect, error: sqlx::Error) -> Error {
    match dialect {
        _ if is_conflict(dialect, &error) => Error::Conflict { attempts: 1, source: Some(error) },
        _ if kind(&error) == Some(ErrorKind::UniqueViolation) => {
            let detail = error.as_database_error().map(|refusal| refusal.message().to_owned());
            Error::Duplicate { detail: detail.unwrap_or_default() }
        }
        _ => match reason(dialect, &error) {
            Some(reason) => Error::Unavailable { reason, source: Some(error) },
            None if does_not_fit(dialect, &error) => Error::Value(error),
            None => Error::Database(error),
        },
    }
}

/// An error of COMMIT itself.
pub(crate) fn classify_commit(dialect: Dialect, error: sqlx::Error) -> Error {
    if is_ambiguous(dialect, &error) { Error::Ambiguous(error) } else { classify(dialect, error) }
}

/// [`classify`] for what a closure of the pool's cannot know.
pub(crate) fn classified<T>(dialect: Dialect, done: sqlx::Result<T>) -> Result<T> {
    done.map_err(|error| classify(dialect, error))
}

fn kind(error: &sqlx::Error) -> Option<ErrorKind> {
    error.as_database_error().map(|refusal| refusal.kind())
}

/// SQLite's extended result code; the low byte is the primary code.
fn sqlite_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}

/// PostgreSQL's SQLSTATE.
fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// MySQL's and MariaDB's own number; their SQLSTATE is too coarse.
fn mysql_number(error: &sqlx::Error) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

/// Others were in the way; the unit may be run again.
pub(crate) fn is_conflict(dialect: Dialect, error: &sqlx::Error) -> bool {
    match dialect {
        // SQLITE_BUSY and SQLITE_LOCKED in all their kinds.
        Dialect::Sqlite => matches!(sqlite_code(error), Some(5 | 6)),
        // Serialization failure, deadlock, a row's lock not given in time; a plan of before a migration.
        Dialect::Postgres => {
            matches!(sqlstate(error).as_deref(), Some("40001" | "40P01" | "55P03")) || is_stale_plan(error)
        }
        // Deadlock (Galera's certification conflict among them), lock wait timeout, record changed since it was read.
        Dialect::Mysql => matches!(mysql_number(error), Some(1213 | 1205 | 1020)),
    }
}

/// A step of a newer version (I32) added a column to a table while this connection knew a statement that reads it: PostgreSQL then refuses
/// the statement on this connection for ever ("cached plan must not change result type", feature_not_supported), and on no other.
pub(crate) fn is_stale_plan(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_)) && sqlstate(error).as_deref() == Some("0A000")
}

/// The commit may have happened: read it back. In-process SQLite has only its worker thread to lose.
pub(crate) fn is_ambiguous(dialect: Dialect, error: &sqlx::Error) -> bool {
    let broken = matches!(error, sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed);
    let lost = match dialect {
        Dialect::Sqlite => false,
        // The server was shut down, killed or restarted beneath us, or the connection failed.
        Dialect::Postgres => {
            matches!(sqlstate(error).as_deref(), Some("57P01" | "57P02" | "57P05" | "57014"))
                || sqlstate(error).is_some_and(|state| state.starts_with("08"))
        }
        // Error during commit (what Galera says when a partition came between), WSREP not ready, shutdown, killed, network.
        Dialect::Mysql => {
            matches!(mysql_number(error), Some(1180 | 1047 | 1053 | 1317 | 1927 | 1158..=1161 | 1105))
        }
    };
    broken || lost || (dialect != Dialect::Sqlite && matches!(error, sqlx::Error::Protocol(_)))
}

/// A value that the column cannot hold: too long, or a character that the server does not store.
fn does_not_fit(dialect: Dialect, error: &sqlx::Error) -> bool {
    match dialect {
        Dialect::Sqlite => false,
        Dialect::Postgres => {
            matches!(sqlstate(error).as_deref(), Some("22001" | "22003" | "22021" | "54000"))
        }
        Dialect::Mysql => matches!(mysql_number(error), Some(1406 | 1264 | 1366 | 1153 | 1118)),
    }
}

/// Why the database cannot be used now, and what to do.
fn reason(dialect: Dialect, error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::PoolTimedOut => Some("no connection became free in time"),
        sqlx::Error::PoolClosed => Some("it was closed"),
        sqlx::Error::Io(error) => Some(match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "nobody listens at its address; start the server, or correct [database] url"
            }
            std::io::ErrorKind::TimedOut => {
                "it does not answer; see whether the server hangs or the network drops its packets"
            }
            // What a handshake says of a certificate that it does not take.
            std::io::ErrorKind::InvalidData => TLS,
            _ => "the connection failed",
        }),
        sqlx::Error::Tls(_) => Some(TLS),
        sqlx::Error::Configuration(why) => why.downcast_ref::<Unfit>().map(|unfit| unfit.0),
        sqlx::Error::Database(_) => match dialect {
            Dialect::Sqlite => sqlite_reason(sqlite_code(error)?),
            Dialect::Postgres => postgres_reason(&sqlstate(error)?),
            Dialect::Mysql => mysql_reason(mysql_number(error)?),
        },
        _ => None,
    }
}

fn sqlite_reason(code: i32) -> Option<&'static str> {
    Some(match code {
        8 => "it is read-only",
        10 => "reading or writing its file failed",
        11 | 26 => "its file is damaged",
        13 => "its disk is full",
        14 => "its file cannot be opened",
        _ => return None,
    })
}

const WRONG_LOGIN: &str =
    "user or password in [database] url is wrong, or the server does not let that user in from here";
const NO_DATABASE: &str = "the database named in [database] url does not exist on that server; create it, then run `halberd db migrate`";
pub(crate) const NO_SCHEMA: &str = "its schema is missing; run `halberd db migrate`";
pub(crate) const NO_RIGHT: &str =
    "its user lacks a right; make it owner of the database, or grant it all on it";
const FULL: &str = "its disk is full";
const TOO_MANY: &str =
    "it takes no more connections; raise its max_connections, or close those that nobody needs";
const STARTING: &str = "it is starting up or shutting down";
const STOOD_STILL: &str =
    "it ended a transaction that said nothing for seconds; this process or its network stood still";
const SLOW: &str = "it took too long over a statement; see what else it is doing";

/// A server that answers and must not be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unfit(pub &'static str);

pub(crate) const STANDBY: &str = "it is a standby or read-only and not the primary; point [database] url at the primary, \
                                  or at the address that follows it";
pub(crate) const NOT_PRIMARY: &str = "this node is not in Galera's primary component (partitioned, joining, or the cluster stands); use \
                                      another node, or bring the cluster back to a primary component";

const TLS: &str =
    "TLS to the server failed; see its certificate, the name in [database] url, and the CA file named there";
pub(crate) const FOREIGN: &str = "what answers at its address does not speak as such a server; see scheme, host and port of [database] url";
pub(crate) const HALF: &str =
    "a restore of it began and did not end; run the same `halberd db restore` again, it begins afresh";

/// Drivers take the first host or none of such a list, and two clusters' addresses in one URL would be two databases.
pub(crate) fn one_host(url: &str) -> std::result::Result<(), String> {
    let authority =
        url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    if hosts.contains(',') {
        return Err("it names several hosts; name one address, that of the primary or the one that follows it (a virtual address, a \
                    proxy)".into());
    }
    Ok(())
}

fn postgres_reason(state: &str) -> Option<&'static str> {
    Some(match state {
        "53100" => FULL,
        "53200" => "it is out of memory",
        "53300" | "53400" => TOO_MANY,
        "57P01" | "57P02" | "57P03" | "57P05" => STARTING,
        "25P03" => STOOD_STILL,
        "57014" => SLOW,
        "25006" => STANDBY,
        "28P01" | "28000" => WRONG_LOGIN,
        "3D000" => NO_DATABASE,
        "42P01" => NO_SCHEMA,
        "42501" => NO_RIGHT,
        "58030" => "reading or writing its files failed",
        "XX001" | "XX002" => "its files are damaged",
        state if state.starts_with("08") => "the connection failed",
        _ => return None,
    })
}

fn mysql_reason(number: u16) -> Option<&'static str> {
    Some(match number {
        1021 | 1026 | 1114 => FULL,
        1040 | 1203 | 1226 => TOO_MANY,
        1047 => NOT_PRIMARY,
        1053 | 1927 => STARTING,
        1180 => "a commit failed in it",
        1045 | 1698 => WRONG_LOGIN,
        1049 => NO_DATABASE,
        1044 | 1142 | 1227 | 1370 => NO_RIGHT,
        1146 => NO_SCHEMA,
        1290 | 1792 | 1836 => STANDBY,
        1317 | 1969 | 3024 => SLOW,
        1034 | 1035 | 1194 | 1712 => "its files are damaged",
        1158..=1161 => "the connection failed",
        _ => return None,
    })
}

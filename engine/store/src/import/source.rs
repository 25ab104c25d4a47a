//! The foreign database: one connection, one snapshot, nothing written, whatever statement reaches it.
//!
//! PostgreSQL and MariaDB are told so when the transaction begins. SQLite would write even for a reader: beside a file in
//! write-ahead mode it makes `-wal` and `-shm`, and a hot journal it rolls back. So such a file is opened as immutable when nobody is at
//! it, and otherwise refused. In rollback-journal mode, Masakari's, a reader only takes a lock and may work beside it.

use std::fs::File;
use std::future::Future;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row, TypeInfo, ValueRef};

use super::error::ImportError;
use super::url::{Place, Server};
use crate::dialect::Dialect;

/// A server that is up answers in milliseconds; one behind a firewall that swallows packets never does.
const PATIENCE: Duration = Duration::from_secs(15);

/// A value as it came. Text is bytes until somebody looks: that it is UTF-8 is not known.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Bytes(Vec<u8>),
}

/// How a column is asked for, so that every database answers with integers and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Time,
    Text,
}

/// An open source.
#[derive(Debug)]
pub(super) struct Source {
    pub place: Place,
    connection: Open,
    /// An SQLite file that was opened as immutable, as it was then.
    still: Option<(PathBuf, Mark)>,
}

#[derive(Debug)]
enum Open {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

impl Source {
    /// Connects and begins the snapshot.
    pub async fn open(place: &Place) -> Result<Source, ImportError> {
        let mut still = None;
        let connection = match place {
            Place::Sqlite(path) => {
                let wal = is_wal(path)?;
                if wal {
                    still = Some((path.clone(), Mark::of(path)?));
                }
                let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(wal);
                Open::Sqlite(in_time(place, SqliteConnection::connect_with(&options)).await?)
            }
            Place::Postgres(server) => {
                Open::Postgres(in_time(place, PgConnection::connect_with(&postgres(server)?)).await?)
            }
            Place::Mysql(server) => {
                Open::Mysql(in_time(place, MySqlConnection::connect_with(&mysql(server)?)).await?)
            }
        };
        let mut source = Source { place: place.clone(), connection, still };
        source.begin().await?;
        Ok(source)
    }

    pub fn dialect(&self) -> Dialect {
        match self.connection {
            Open::Sqlite(_) => Dialect::Sqlite,
            Open::Postgres(_) => Dialect::Postgres,
            Open::Mysql(_) => Dialect::Mysql,
        }
    }

    async fn begin(&mut self) -> Result<(), ImportError> {
        let begin = self.dialect().begin_snapshot();
        let begun = match &mut self.connection {
            Open::Sqlite(on) => sqlx::raw_sql(begin).execute(on).await.map(drop),
            Open::Postgres(on) => sqlx::raw_sql(begin).execute(on).await.map(drop),
            Open::Mysql(on) => {
                // A cloud's default may be READ COMMITTED, whose snapshot lasts for one statement.
                let level = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
                match sqlx::raw_sql(level).execute(&mut *on).await {
                    Ok(_) => sqlx::raw_sql(begin).execute(on).await.map(drop),
                    Err(error) => Err(error),
                }
            }
        };
        begun.map_err(|error| self.unread(error))
    }

    /// Rows of a query whose columns are `kinds`.
    pub async fn rows(&mut self, sql: String, kinds: &[Kind]) -> Result<Vec<Vec<Cell>>, ImportError> {
        let query = AssertSqlSafe(sql);
        let read = match &mut self.connection {
            Open::Sqlite(on) => sqlx::query(query).fetch_all(on).await.and_then(|rows| {
                let cell = |row: &sqlx::sqlite::SqliteRow, i: usize| {
                    let value = row.try_get_raw(i)?;
                    // SQLite keeps in a cell what was put there, whatever its column says.
                    Ok(match value.type_info().name() {
                        _ if value.is_null() => Cell::Null,
                        "INTEGER" | "BOOLEAN" => Cell::Int(row.try_get_unchecked(i)?),
                        _ => Cell::Bytes(row.try_get_unchecked(i)?),
                    })
                };
                table(&rows, kinds.len(), cell)
            }),
            Open::Postgres(on) => sqlx::query(query).fetch_all(on).await.and_then(|rows| {
                let cell = |row: &sqlx::postgres::PgRow, i: usize| {
                    Ok(match kinds[i] {
                        _ if row.try_get_raw(i)?.is_null() => Cell::Null,
                        Kind::Int => Cell::Int(row.try_get_unchecked(i)?),
                        _ => Cell::Bytes(row.try_get_unchecked(i)?),
                    })
                };
                table(&rows, kinds.len(), cell)
            }),
            Open::Mysql(on) => sqlx::query(query).fetch_all(on).await.and_then(|rows| {
                let cell = |row: &sqlx::mysql::MySqlRow, i: usize| {
                    Ok(match kinds[i] {
                        _ if row.try_get_raw(i)?.is_null() => Cell::Null,
                        Kind::Int => Cell::Int(row.try_get_unchecked(i)?),
                        _ => Cell::Bytes(row.try_get_unchecked(i)?),
                    })
                };
                table(&rows, kinds.len(), cell)
            }),
        };
        read.map_err(|error| self.unread(error))
    }

    /// Ends the snapshot; a file that was taken for immutable must have been.
    pub async fn close(self) -> Result<(), ImportError> {
        // The transaction only read: how it ends changes nothing, and an error in saying goodbye takes nothing back.
        let _ = match self.connection {
            Open::Sqlite(on) => on.close().await,
            Open::Postgres(on) => on.close().await,
            Open::Mysql(on) => on.close().await,
        };
        match self.still {
            Some((path, before)) if Mark::of(&path)? != before || beside(&path, "-wal")?.is_some() => {
                Err(ImportError::File {
                    path,
                    what: "it was written to while it was read; stop Masakari, or import from a copy made with \
                           sqlite3's .backup, and run the import again",
                    source: None,
                })
            }
            _ => Ok(()),
        }
    }

    fn unread(&self, source: sqlx::Error) -> ImportError {
        if let Place::Sqlite(path) = &self.place {
            let code = source.as_database_error().and_then(|error| error.code()).and_then(|c| c.parse().ok());
            let what = match code.map(|code: i32| code & 0xff) {
                Some(26) => Some("it is no SQLite database (or an encrypted one)"),
                Some(11) => Some("the database file is damaged; import from a backup of it"),
                Some(5 | 6) => Some(
                    "somebody else has it locked for longer than 5 s; stop Masakari, or import from a copy",
                ),
                Some(8) => Some(HOT),
                _ => None,
            };
            if let Some(what) = what {
                return ImportError::File { path: path.clone(), what, source: None };
            }
        }
        ImportError::Read { place: self.place.to_string(), source }
    }
}

fn table<R>(
    rows: &[R],
    columns: usize,
    cell: impl Fn(&R, usize) -> Result<Cell, sqlx::Error>,
) -> Result<Vec<Vec<Cell>>, sqlx::Error> {
    rows.iter().map(|row| (0..columns).map(|i| cell(row, i)).collect()).collect()
}

async fn in_time<T>(
    place: &Place,
    connecting: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, ImportError> {
    match tokio::time::timeout(PATIENCE, connecting).await {
        Ok(Ok(open)) => Ok(open),
        Ok(Err(source)) => Err(ImportError::Connect { place: place.to_string(), source }),
        Err(_) => Err(ImportError::Silent { place: place.to_string(), seconds: PATIENCE.as_secs() }),
    }
}

fn postgres(server: &Server) -> Result<PgConnectOptions, ImportError> {
    use secrecy::ExposeSecret;
    let mut options = PgConnectOptions::new_without_pgpass().database(&server.database);
    // Belt and braces: what is not in our transaction could not write either.
    options = options.options([("default_transaction_read_only", "on")]);
    if let Some(host) = server.option(&["host"]).or(server.host.as_deref()) {
        options = if host.starts_with('/') { options.socket(host) } else { options.host(host) };
    }
    if let Some(port) = server.port {
        options = options.port(port);
    }
    if let Some(user) = &server.user {
        options = options.username(user);
    }
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    if let Some(mode) = server.option(&["sslmode"]) {
        let mode: PgSslMode =
            mode.parse().map_err(|_| ImportError::Url("its sslmode is none of PostgreSQL's".into()))?;
        options = options.ssl_mode(mode);
    }
    if let Some(file) = server.option(&["sslrootcert"]) {
        options = options.ssl_root_cert(file);
    }
    if let (Some(cert), Some(key)) = (server.option(&["sslcert"]), server.option(&["sslkey"])) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

fn mysql(server: &Server) -> Result<MySqlConnectOptions, ImportError> {
    use secrecy::ExposeSecret;
    let mut options = MySqlConnectOptions::new().database(&server.database);
    if let Some(host) = &server.host {
        options = options.host(host);
    }
    if let Some(port) = server.port {
        options = options.port(port);
    }
    if let Some(user) = &server.user {
        options = options.username(user);
    }
    if let Some(password) = &server.password {
        options = options.password(password.expose_secret());
    }
    if let Some(socket) = server.option(&["unix_socket"]) {
        options = options.socket(socket);
    }
    if let Some(file) = server.option(&["ssl_ca", "ssl-ca"]) {
        let verify = server.option(&["ssl_verify_identity"]).is_some_and(|word| word != "false");
        let mode = if verify { MySqlSslMode::VerifyIdentity } else { MySqlSslMode::VerifyCa };
        options = options.ssl_ca(file).ssl_mode(mode);
    }
    if let (Some(cert), Some(key)) = (server.option(&["ssl_cert"]), server.option(&["ssl_key"])) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    Ok(options)
}

const HOT: &str = "a transaction of somebody who died is not settled in it; open it once with sqlite3 or start Masakari once, \
                   or import from a copy";
const IN_USE: &str = "it is in write-ahead mode and a -wal file with content lies beside it: somebody has it open; stop Masakari, \
                      or import from a copy made with sqlite3's .backup";

/// Whether the file is in write-ahead mode; byte 18 of the header tells (SQLite's file format, section 1.3).
fn is_wal(path: &Path) -> Result<bool, ImportError> {
    let refuse = |what, source| Err(ImportError::File { path: path.to_owned(), what, source });
    let mut header = [0; 100];
    let read = File::open(path).and_then(|mut file| {
        if file.metadata()?.is_dir() {
            return Ok(None);
        }
        let mut filled = 0;
        while filled < header.len() {
            match file.read(&mut header[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        Ok(Some(filled))
    });
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse("there is no such file; name Masakari's own database file", None)
        }
        Err(error) => refuse("it cannot be read", Some(error)),
        Ok(None) => refuse("it is a directory; name the database file in it", None),
        Ok(Some(0)) => refuse("it is empty; name Masakari's own database file", None),
        Ok(Some(_)) if !header.starts_with(b"SQLite format 3\0") => {
            refuse("it is no SQLite database (or an encrypted one)", None)
        }
        // A journal beside it may be a writer's at work or a dead one's; SQLite finds out which when it reads.
        Ok(Some(_)) if header[18] != 2 => Ok(false),
        Ok(Some(_)) => match beside(path, "-wal")? {
            Some(_) => refuse(IN_USE, None),
            None => Ok(true),
        },
    }
}

/// The length of a file beside the database, where it has content.
fn beside(path: &Path, ending: &str) -> Result<Option<u64>, ImportError> {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    match std::fs::metadata(&name) {
        Ok(found) if found.len() > 0 => Ok(Some(found.len())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(ImportError::File { path: name.into(), what: "it cannot be looked at", source: Some(error) })
        }
    }
}

/// What a writer cannot leave as it was.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    length: u64,
    modified: Option<std::time::SystemTime>,
}

impl Mark {
    fn of(path: &Path) -> Result<Mark, ImportError> {
        let found = std::fs::metadata(path).map_err(|error| ImportError::File {
            path: path.to_owned(),
            what: "it cannot be looked at",
            source: Some(error),
        })?;
        Ok(Mark { length: found.len(), modified: found.modified().ok() })
    }
}

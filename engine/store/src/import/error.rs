//! Why an import cannot begin or go on, with the way out. Never shows a URL's password.

use std::path::PathBuf;

/// Every outcome of an import that is not a report.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(
        "the source's address cannot be used: {0}; write it as Masakari's [database] connection does, for instance \
         mysql+pymysql://masakari:PASSWORD@controller/masakari"
    )]
    Url(String),
    #[error("{path}: {what}")]
    File { path: PathBuf, what: &'static str, source: Option<std::io::Error> },
    #[error(
        "{place} cannot be reached or refuses us; are address, user and password right, and does it run?"
    )]
    Connect { place: String, source: sqlx::Error },
    #[error("{place} does not answer within {seconds} s; is the address right, and does it run?")]
    Silent { place: String, seconds: u64 },
    #[error("{place} could not be read")]
    Read { place: String, source: sqlx::Error },
    #[error(
        "{place} is no database of Masakari's: {what}; name the one of [database] connection in masakari.conf, with a user who may \
         SELECT from all of its tables"
    )]
    NotMasakari { place: String, what: String },
    #[error(
        "{place} has Masakari's schema in version {found}, which is older than can be read (Wallaby's, legacy version 7 or 8, or a \
         newer one); run `masakari-manage db sync` of a newer release on it, or on a copy of it, and import that"
    )]
    TooOld { place: String, found: String },
    #[error(
        "{place} has Masakari's schema in revision {found}, which this version of Halberd does not know (known: {known}); take a newer \
         Halberd"
    )]
    TooNew { place: String, found: String, known: String },
    #[error(
        "{place}: table {table} has no column {column}, though its version says so; an upgrade stopped half way: run \
         `masakari-manage db sync` until it succeeds"
    )]
    Incomplete { place: String, table: &'static str, column: &'static str },
    #[error(transparent)]
    Store(#[from] crate::Error),
}

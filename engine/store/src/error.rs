//! What can go wrong in the store, said so that the caller can decide: refuse, repeat, read back, or stop acting.

use std::path::PathBuf;

use halberd_core::UnknownWord;
use halberd_core::audit::Broken;
use halberd_core::id::{HostId, RecoveryId};

/// Every outcome of the store that is not success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique name is taken among the rows that are not deleted (409).
    #[error("{what} '{name}' exists already")]
    Exists { what: &'static str, name: String },
    #[error("{what} {id} could not be found")]
    NotFound { what: &'static str, id: String },
    /// Something still needs it: an open recovery, a report that is not settled (409).
    #[error("{what} {id} cannot be changed: {why}")]
    InUse { what: &'static str, id: String, why: String },
    /// A v1 list asked for something that is no column or no row (400).
    #[error("{0}")]
    BadList(String),

    /// Somebody else holds the recovery or wrote it since it was read. Load it again; do not act.
    #[error("recovery {0} was taken over or changed by another engine; nothing was written")]
    Lost(RecoveryId),
    /// Every engine is stopped until somebody has looked at the world ([`crate::rewind`], I22).
    #[error("the engines are in reconcile-only: nothing was written that anything is to follow from")]
    ReconcileOnly,
    /// An unresolved intent for the same subject stands (I8).
    #[error("an unresolved intent for {key} exists already; nothing was written")]
    IntentOpen { key: String },
    /// A host was not as the commit demands; the whole commit was rolled back.
    #[error("host {host}: {what}; nothing was written")]
    Condition { host: HostId, what: String },

    /// A newer version wrote this word, or somebody edited the database.
    #[error("table {table}, row {row}, column {column}: {source}")]
    UnknownWord { table: &'static str, row: String, column: &'static str, source: UnknownWord },
    #[error("table {table}, row {row}, column {column}: {reason}")]
    Corrupt { table: &'static str, row: String, column: &'static str, reason: String },
    #[error(transparent)]
    Audit(#[from] Broken),

    #[error(transparent)]
    Seal(#[from] crate::seal::SealError),

    /// The unit met others too often; it may be run again as a whole.
    #[error("the database was busy {attempts} times in a row; try again")]
    Conflict { attempts: u32, source: Option<sqlx::Error> },
    /// The connection broke at commit: read back before repeating.
    #[error("it is unknown whether the commit happened; read it back before repeating")]
    Ambiguous(#[source] sqlx::Error),
    /// The database cannot take writes now (disk full, read-only, I/O error). Nothing was acknowledged: stop acting, answer 503.
    #[error("the database cannot be used: {reason}")]
    Unavailable { reason: &'static str, source: Option<sqlx::Error> },
    #[error("database url '{url}': {reason}")]
    Url { url: String, reason: String },
    #[error(
        "{path} is in use by another engine (its lock is held); stop that one, or give this engine a database of its own"
    )]
    Locked { path: PathBuf },
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: &'static str, source: std::io::Error },
    /// Settings with which an acknowledged commit can be lost (SAFETY 3.2).
    #[error("the database does not keep what it acknowledges: {}", crate::durability::told(.0))]
    NotDurable(Vec<crate::durability::Finding>),
    /// The schema is another version's.
    #[error("the database's schema is at step {found} and this program's at {ours}: {cure}")]
    Schema { found: i64, ours: i64, cure: &'static str },
    #[error("migrating the database failed: {0}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A value that a column cannot hold: too long, or with a character that the server does not store. The database is well.
    #[error("the database cannot store a value of this request")]
    Value(#[source] sqlx::Error),
    /// A unique or foreign key that the caller did not expect; functions turn the expected ones into words above.
    #[error("a row with the same key exists already ({detail})")]
    Duplicate { detail: String },
    #[error("the database refused a statement")]
    Database(#[source] sqlx::Error),
}

/// The store's own result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn not_found(what: &'static str, id: impl ToString) -> Error {
        Error::NotFound { what, id: id.to_string() }
    }

    /// A key that this very unit found free a moment ago: run the unit again, it will see the other's row.
    pub(crate) fn raced(self) -> Error {
        match self {
            Error::Duplicate { .. } => Error::Conflict { attempts: 1, source: None },
            other => other,
        }
    }

    pub(crate) fn or_exists(self, what: &'static str, name: &str) -> Error {
        match self {
            Error::Duplicate { .. } => Error::Exists { what, name: name.to_owned() },
            other => other,
        }
    }

    /// Whether the same unit may simply be run again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }

    /// Whether the database itself is what fails: nothing should be acted on until it answers again.
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Error::Unavailable { .. } | Error::Ambiguous(_) | Error::Conflict { .. } | Error::Database(_)
        )
    }
}

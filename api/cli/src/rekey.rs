//! `halberd db rekey`: another key for the secrets in the database.
//!
//! Everything sealed is opened with the former key and sealed with the new one in one transaction; the key lies in a file, and no
//! transaction spans both. So the order is: the new key is on disk before anything is sealed with it, the database changes, and
//! only then the default key file is replaced. A crash at any point leaves every key that is needed on disk, and the same command run
//! again finds by trying which key the database opens with, and does what is left.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use halberd_store::engines::{self, EngineRow};
use halberd_store::seal::{Rekeyed, SealError, rekey};
use halberd_store::{Access, Db, Error, Sealer, write};
use secrecy::{ExposeSecret, SecretSlice};

use crate::args::Rekey;
use crate::config::{Config, ConfigError};
use crate::serve::{StartError, beside};

/// An engine renews its lease several times within this; on SQLite the lock tells at once.
const WATCH: Duration = Duration::from_secs(4);
/// More former keys than this beside the database are a mistake of ours, not a history.
const KEPT: u32 = 1_000;

/// Why the key was not changed. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(
        "[engine] secrets_key_file is not set, so there is no key to replace; on this kind of database an engine does not start \
         without one either"
    )]
    NoKey,
    #[error("the key in use: {0}")]
    Former(#[source] Error),
    #[error("the new key: {0}")]
    New(#[source] Error),
    #[error(
        "{path} is the key in use already; name another file with --new-key-file, it is made if it does not exist"
    )]
    Same { path: PathBuf },
    #[error(
        "{path} lies on another filesystem than {key}, which it is to replace by a rename; name a file beside that one"
    )]
    Elsewhere { path: PathBuf, key: PathBuf },
    #[error(
        "engine {name} works on this database with the key in use: stop every engine and API of it first, what they seal afterwards \
         would not open"
    )]
    AtWork { name: String },
    #[error(
        "neither {key} nor {new} opens this database: put back the key file that it was sealed with (backups, {key}.old)"
    )]
    Neither { key: PathBuf, new: PathBuf },
    #[error("the secrets were not sealed anew: {0}")]
    Reseal(#[source] Error),
    #[error(
        "the database is sealed with the new key {new}, but the file could not be put in place of {key}: {source}; run the same command again"
    )]
    Replace { key: PathBuf, new: PathBuf, source: std::io::Error },
}

/// Where the keys lie.
#[derive(Clone, Debug)]
struct Keys {
    key: PathBuf,
    new: PathBuf,
    /// The default file beside the database: replaced by us. A configured one is another's to set.
    default: bool,
}

/// Changes the key, or finishes what an interrupted run began.
///
/// # Errors
/// [`RekeyError`].
pub async fn run(args: &Rekey) -> Result<String, RekeyError> {
    let config = Config::load(args.config.as_deref())?;
    let url = config.database_url()?;
    let db = Db::open(url.expose_secret(), Access::Exclusive).await.map_err(|error| match error {
        Error::Locked { path } => StartError::Locked { path },
        other => StartError::Database(other),
    })?;
    let done = change(&config, &db, args.new_key_file.as_deref()).await;
    db.close().await;
    done
}

async fn change(config: &Config, db: &Db, new: Option<&Path>) -> Result<String, RekeyError> {
    let keys = keys(config, db, new)?;
    nobody_at_work(db).await?;
    let counts = reseal(db, &keys).await?;
    let said = match counts {
        Some(counts) => format!(
            "sealed with the new key: the fence devices of {}, the keys of {}, {}",
            number(counts.fence_devices, "host"),
            number(counts.agent_keys, "agent"),
            number(counts.sessions, "BMC session")
        ),
        None => "the database was sealed with the new key before".to_owned(),
    };
    if !keys.default {
        return Ok(format!(
            "{said}\nset [engine] secrets_key_file = \"{}\" for every engine and API of this database, then start them; {} opens \
             older backups only",
            keys.new.display(),
            keys.key.display()
        ));
    }
    let replaced = replace(&keys);
    let kept = replaced.map_err(|source| RekeyError::Replace {
        key: keys.key.clone(),
        new: keys.new.clone(),
        source,
    })?;
    Ok(format!(
        "{said}\n{} is the new key; the former one is kept in {}: it opens older backups of the database\nback the new key up apart \
         from the database; restart a `halberd api` that runs beside it",
        keys.key.display(),
        kept.display()
    ))
}

fn number(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn keys(config: &Config, db: &Db, new: Option<&Path>) -> Result<Keys, RekeyError> {
    let (key, default) = match (&config.engine.secrets_key_file, db.path()) {
        (Some(path), _) => (path.clone(), false),
        (None, Some(database)) => (beside(database), true),
        (None, None) => return Err(RekeyError::NoKey),
    };
    let new = new.map_or_else(|| with_end(&key, ".new"), Path::to_owned);
    let same_file = |a: &Path, b: &Path| match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => a == b,
    };
    if same_file(&key, &new) || same_secret(&key, &new) {
        return Err(RekeyError::Same { path: new });
    }
    let device = |path: &Path| fs::metadata(folder(path)).map(|folder| folder.dev()).ok();
    if default && device(&key) != device(&new) {
        return Err(RekeyError::Elsewhere { path: new, key });
    }
    Ok(Keys { key, new, default })
}

/// Only a lock beside a file tells at once that an engine runs; elsewhere its counter moves.
async fn nobody_at_work(db: &Db) -> Result<(), RekeyError> {
    if db.holds_exclusive_lock() {
        return Ok(());
    }
    let list = async || engines::list(db).await.map_err(StartError::Database);
    let before = list().await?;
    if before.iter().all(|engine| engine.stopped_at.is_some()) {
        return Ok(());
    }
    tokio::time::sleep(WATCH).await;
    match at_work(&before, &list().await?) {
        Some(engine) => Err(RekeyError::AtWork { name: engine.name.clone() }),
        None => Ok(()),
    }
}

/// An engine that began or renewed its lease between two looks.
fn at_work<'e>(before: &[EngineRow], after: &'e [EngineRow]) -> Option<&'e EngineRow> {
    let moved =
        |now: &&EngineRow| !before.iter().any(|then| (then.id, then.counter) == (now.id, now.counter));
    after.iter().filter(|engine| engine.stopped_at.is_none()).find(moved)
}

/// Seals everything with the new key, which is made if there is none. `None`: that was done before.
async fn reseal(db: &Db, keys: &Keys) -> Result<Option<Rekeyed>, RekeyError> {
    let former = Sealer::from_file(&keys.key).map_err(|error| RekeyError::Former(error.into()))?;
    let now = halberd_engine::clock::stamp();
    // The former one first: a database that has sealed nothing yet takes the first key it is shown.
    match write(db, async |tx| former.check(tx, now).await).await {
        Ok(()) => {
            let (new, _) =
                Sealer::from_file_or_new(&keys.new).map_err(|error| RekeyError::New(error.into()))?;
            sync(folder(&keys.new)).map_err(|error| RekeyError::New(unwritten(&keys.new, &error)))?;
            rekey(db, &former, &new, now).await.map(Some).map_err(RekeyError::Reseal)
        }
        Err(Error::Seal(SealError::WrongKey)) => {
            let neither = || RekeyError::Neither { key: keys.key.clone(), new: keys.new.clone() };
            if !keys.new.exists() {
                return Err(neither());
            }
            let new = Sealer::from_file(&keys.new).map_err(|error| RekeyError::New(error.into()))?;
            match write(db, async |tx| new.check(tx, now).await).await {
                Ok(()) => Ok(None),
                Err(Error::Seal(SealError::WrongKey)) => Err(neither()),
                Err(other) => Err(RekeyError::New(other)),
            }
        }
        Err(other) => Err(RekeyError::Former(other)),
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Error {
    SealError::KeyFile { path: path.to_owned(), reason: error.to_string() }.into()
}

/// Puts the new key in place of the default file and keeps the former one; the answer is where.
fn replace(keys: &Keys) -> std::io::Result<PathBuf> {
    let kept = keep(&keys.key)?;
    fs::rename(&keys.new, &keys.key)?;
    sync(folder(&keys.key))?;
    Ok(kept)
}

/// A copy of the key file under the first free name; one that an interrupted run made is found again.
fn keep(key: &Path) -> std::io::Result<PathBuf> {
    let names =
        (0..KEPT).map(|n| with_end(key, &if n == 0 { ".old".to_owned() } else { format!(".old.{n}") }));
    for name in names {
        if same_secret(key, &name) {
            return Ok(name);
        }
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name) {
            Ok(mut copy) => {
                let former = SecretSlice::from(fs::read(key)?);
                copy.write_all(former.expose_secret())?;
                copy.sync_all()?;
                return Ok(name);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("too many former keys are kept beside it; move some away"))
}

fn same_secret(a: &Path, b: &Path) -> bool {
    let read = |path: &Path| fs::read(path).map(SecretSlice::from);
    matches!((read(a), read(b)), (Ok(a), Ok(b)) if a.expose_secret() == b.expose_secret())
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A new name in a folder survives a crash only when the folder itself was written.
fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;

//! Writing a backup: a file beside the wanted one, renamed when every byte is on disk, so that a name stands for a whole backup.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use halberd_core::recovery::WORKFLOW_VERSION;
use halberd_core::time::Stamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::AssertSqlSafe;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::shape::{self, Table};
use super::{BackupError, Cell, FORMAT, Header, Manifest, Section, hex};
use crate::db::Db;
use crate::dialect::Dialect;
use crate::migrate;
use crate::seal::{CHECK, SealError, Sealer, key_of};
use crate::settings;
use crate::transaction::{Tx, all};
use crate::value::{Arg, Row};

/// Rows read at a time: what is held in memory is a few hundred documents, and a statement stays far below its deadline.
const ROWS_PER_READ: usize = 500;

/// What lies beside the database and belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The secrets key; `None`: the backup is made without it.
    pub secrets_key: Option<PathBuf>,
    /// The engine's high-water file, where there is one.
    pub high_water: Option<PathBuf>,
}

/// Writes a backup of what the database holds at this moment to `to`, mode 0600. Engines may run beside it.
///
/// # Errors
/// [`BackupError::Exists`] without `force`, [`BackupError::Unwritten`], [`BackupError::WrongKey`], [`BackupError::Store`].
pub async fn write(
    db: &Db,
    to: &Path,
    files: &Files,
    force: bool,
    now: Stamp,
) -> Result<Manifest, BackupError> {
    if !force && to.exists() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let part = Part::create(to)?;
    let unwritten = |source| BackupError::Unwritten { path: to.to_owned(), source };
    let mut out = Out { to: BufWriter::new(&part.file), digest: Sha256::new() };
    let mut manifest = told(db, &mut out, to, files, now).await?;
    manifest.sha256 = hex(&out.digest.clone().finalize());
    out.line(&Section::Sha256(manifest.sha256.clone())).map_err(unwritten)?;
    out.to.flush().map_err(unwritten)?;
    drop(out);
    part.keep(to, force)?;
    Ok(manifest)
}

async fn told(
    db: &Db,
    out: &mut Out<impl Write>,
    to: &Path,
    files: &Files,
    now: Stamp,
) -> Result<Manifest, BackupError> {
    let unwritten = |source| BackupError::Unwritten { path: to.to_owned(), source };
    let step = migrate::newest_of_ours(db.dialect());
    let mut tx = db.snapshot().await?;
    let header = Header {
        format: FORMAT,
        halberd: env!("CARGO_PKG_VERSION").to_owned(),
        database: word(db.dialect()).to_owned(),
        schema: step,
        workflow: WORKFLOW_VERSION,
        identity: settings::get(&mut tx, "identity").await?.and_then(|(text, _)| text.parse().ok()),
        taken_at: now,
    };
    out.line(&Section::HalberdBackup(header.clone())).map_err(unwritten)?;
    let mut rows = BTreeMap::new();
    for table in shape::at(step).await? {
        let columns = table.columns.iter().map(|column| column.name.clone()).collect();
        out.line(&Section::Table { name: table.name.clone(), columns }).map_err(unwritten)?;
        let mut count = 0;
        let mut last: Option<Vec<Arg>> = None;
        loop {
            let read = page(&mut tx, &table, last.as_deref()).await?;
            for row in &read {
                let cells: Vec<Cell> = row.values.iter().cloned().map(Cell::from).collect();
                out.line(&cells).map_err(unwritten)?;
            }
            count += read.len() as u64;
            let Some(end) = read.last().filter(|_| read.len() == ROWS_PER_READ) else { break };
            last = Some(table.key.iter().map(|place| end.values[*place].clone()).collect());
        }
        rows.insert(table.name, count);
    }
    if let Some(path) = &files.secrets_key {
        let key = key(&mut tx, path).await?;
        out.line(&Section::SecretsKey(key.to_string())).map_err(unwritten)?;
    }
    let high_water = match files.high_water.as_ref().map(|path| (path, std::fs::read(path))) {
        None => None,
        Some((_, Ok(bytes))) => Some(bytes),
        Some((_, Err(error))) if error.kind() == ErrorKind::NotFound => None,
        Some((path, Err(source))) => return Err(BackupError::File { path: path.clone(), source }),
    };
    if let Some(bytes) = &high_water {
        out.line(&Section::HighWater(hex(bytes))).map_err(unwritten)?;
    }
    out.line(&Section::Rows(rows.clone())).map_err(unwritten)?;
    Ok(Manifest {
        header,
        rows,
        with_key: files.secrets_key.is_some(),
        with_high_water: high_water.is_some(),
        sha256: String::new(),
    })
}

fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "sqlite",
        Dialect::Postgres => "postgres",
        Dialect::Mysql => "mysql",
    }
}

/// The rows behind a key, in its order.
async fn page(tx: &mut Tx, table: &Table, last: Option<&[Arg]>) -> Result<Vec<Row>, BackupError> {
    let key: Vec<&str> = table.key.iter().map(|place| table.columns[*place].name.as_str()).collect();
    let (behind, values) = match last {
        None => (String::new(), Vec::new()),
        Some(last) => behind(tx.dialect(), &key, last),
    };
    let sql = format!(
        "SELECT {} FROM {}{behind} ORDER BY {} LIMIT {ROWS_PER_READ}",
        table.names().join(", "),
        table.name,
        key.join(", ")
    );
    Ok(all(&mut &mut *tx, AssertSqlSafe(sql), values).await?)
}

/// The condition and its arguments. MariaDB finds its way in an index only by the long form, the other two only by the short one.
fn behind(dialect: Dialect, key: &[&str], last: &[Arg]) -> (String, Vec<Arg>) {
    if dialect != Dialect::Mysql || key.len() == 1 {
        let marks = vec!["?"; key.len()].join(", ");
        return (format!(" WHERE ({}) > ({marks})", key.join(", ")), last.to_vec());
    }
    let mut parts = Vec::new();
    let mut values = Vec::new();
    for n in 0..key.len() {
        let same = key[..n].iter().map(|column| format!("{column} = ? AND "));
        parts.push(format!("({}{} > ?)", same.collect::<String>(), key[n]));
        values.extend_from_slice(&last[..=n]);
    }
    (format!(" WHERE {}", parts.join(" OR ")), values)
}

/// The key in hex, when it is this database's.
async fn key(tx: &mut Tx, path: &Path) -> Result<Zeroizing<String>, BackupError> {
    let wrong =
        |source: SealError| BackupError::WrongKey { path: path.to_owned(), source: Box::new(source.into()) };
    let sealer = Sealer::from_file(path).map_err(wrong)?;
    if let Some((sealed, _)) = settings::get(&mut *tx, CHECK.row).await? {
        sealer.open(CHECK, &sealed).map_err(|_| wrong(SealError::WrongKey))?;
    }
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes = bytes.map_err(|source| BackupError::File { path: path.to_owned(), source })?;
    let key = key_of(&bytes).ok_or_else(|| {
        let reason = "a key is 32 bytes, or 64 hex digits".to_owned();
        wrong(SealError::KeyFile { path: path.to_owned(), reason })
    })?;
    Ok(Zeroizing::new(hex(key.as_slice())))
}

/// Lines and their digest.
struct Out<W: Write> {
    to: W,
    digest: Sha256,
}

impl<W: Write> Out<W> {
    fn line(&mut self, what: &impl Serialize) -> std::io::Result<()> {
        let mut line = Zeroizing::new(serde_json::to_vec(what)?);
        line.push(b'\n');
        self.digest.update(line.as_slice());
        self.to.write_all(&line)
    }
}

/// The file while it is written; dropped without [`Part::keep`] it goes.
struct Part {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Part {
    fn create(to: &Path) -> Result<Part, BackupError> {
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".part-{}", Uuid::new_v4().simple()));
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|source| BackupError::Unwritten { path: to.to_owned(), source })?;
        Ok(Part { path, file, kept: false })
    }

    fn keep(mut self, to: &Path, force: bool) -> Result<(), BackupError> {
        let unwritten = |source| BackupError::Unwritten { path: to.to_owned(), source };
        self.file.sync_all().map_err(unwritten)?;
        if !force && to.exists() {
            return Err(BackupError::Exists { path: to.to_owned() });
        }
        std::fs::rename(&self.path, to).map_err(unwritten)?;
        self.kept = true;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritten)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a backup that was not finished could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_behind_a_key_in_each_dialect() {
        let last = [Arg::from("api:1"), Arg::from(7i64)];
        let short = behind(Dialect::Postgres, &["chain", "sequence"], &last);
        assert_eq!(short, (" WHERE (chain, sequence) > (?, ?)".to_owned(), last.to_vec()));
        let (sql, values) = behind(Dialect::Mysql, &["chain", "sequence"], &last);
        assert_eq!(sql, " WHERE (chain > ?) OR (chain = ? AND sequence > ?)");
        assert_eq!(values, [last[0].clone(), last[0].clone(), last[1].clone()]);
    }
}

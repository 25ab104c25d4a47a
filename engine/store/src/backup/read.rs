//! Reading a backup. Its digest is compared before anything in it is believed; then every line is held against the schema that its
//! header names, so that what a restore writes is known to be whole and of the right form before the first write.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use halberd_core::recovery::WORKFLOW_VERSION;
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::shape::{self, Table};
use super::{BackupError, Cell, FORMAT, Header, LONGEST_LINE, Manifest, Section, hex};
use crate::dialect::Dialect;
use crate::migrate;
use crate::seal::{KEY_BYTES, from_hex};

/// A backup that was verified: its digest, its form, its counts. What was verified is what is restored: the file stays open.
pub struct Backup {
    pub manifest: Manifest,
    pub(super) tables: Vec<Table>,
    pub(super) secrets_key: Option<Zeroizing<Vec<u8>>>,
    pub(super) high_water: Option<Vec<u8>>,
    path: PathBuf,
    file: File,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup")
            .field("path", &self.path)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// What a restore meets on its way through the file.
pub(super) enum Met {
    /// Its rows follow, in the order of these columns.
    Table {
        name: String,
        columns: Vec<String>,
    },
    Row {
        line: u64,
        cells: Vec<Cell>,
    },
    SecretsKey(Zeroizing<Vec<u8>>),
    HighWater(Vec<u8>),
}

/// Opens a backup and verifies it. Needs no database.
///
/// # Errors
/// What is wrong with the file, by name.
pub async fn open(path: &Path) -> Result<Backup, BackupError> {
    let unread = |source| BackupError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unread)?;
    let header = header(path, &mut Lines::of(path, &mut file)?)?;
    let by = || header.halberd.clone();
    if header.format > FORMAT {
        return Err(BackupError::Newer { path: path.to_owned(), found: header.format.into(), by: by() });
    }
    let sha256 = whole(path, &mut file)?;
    let ours = migrate::newest_of_ours(Dialect::Sqlite);
    if header.schema > ours || header.schema < 1 {
        return Err(BackupError::Schema { found: header.schema, ours, by: by() });
    }
    if header.workflow > WORKFLOW_VERSION {
        return Err(BackupError::Workflow { found: header.workflow, ours: WORKFLOW_VERSION, by: by() });
    }
    let tables = shape::at(header.schema).await?;
    let manifest =
        Manifest { header, rows: BTreeMap::new(), with_key: false, with_high_water: false, sha256 };
    let mut backup =
        Backup { manifest, tables, secrets_key: None, high_water: None, path: path.to_owned(), file };
    backup.manifest.rows = backup.verified()?;
    Ok(backup)
}

/// The first line, whatever else is wrong with the file: a newer format may end in another way.
fn header(path: &Path, lines: &mut Lines<'_>) -> Result<Header, BackupError> {
    let foreign = || BackupError::Foreign { path: path.to_owned() };
    let first = lines.next()?.ok_or_else(foreign)?;
    let value: Value = serde_json::from_slice(&first).map_err(|_| foreign())?;
    let told = value.get("halberd_backup").ok_or_else(foreign)?;
    let format = told.get("format").and_then(Value::as_u64).ok_or_else(foreign)?;
    if format > FORMAT.into() {
        let by = told.get("halberd").and_then(Value::as_str).unwrap_or("unknown").to_owned();
        return Err(BackupError::Newer { path: path.to_owned(), found: format, by });
    }
    match serde_json::from_value(value) {
        Ok(Section::HalberdBackup(header)) => Ok(header),
        _ => Err(foreign()),
    }
}

/// Compares the digest in the last line with that of every byte before it; the answer is the digest.
fn whole(path: &Path, file: &mut File) -> Result<String, BackupError> {
    let mut lines = Lines::of(path, file)?;
    let mut digest = Sha256::new();
    let mut before: Option<Zeroizing<Vec<u8>>> = None;
    while let Some(line) = lines.next()? {
        if let Some(before) = before.replace(line) {
            digest.update(before.as_slice());
        }
    }
    let line = lines.number;
    let truncated = || BackupError::Truncated { path: path.to_owned(), line };
    let last = before.ok_or_else(truncated)?;
    let wanted = match serde_json::from_slice(&last) {
        Ok(Section::Sha256(wanted)) if last.ends_with(b"\n") => wanted,
        _ => return Err(truncated()),
    };
    let found = hex(&digest.finalize());
    if found == wanted {
        Ok(found)
    } else {
        Err(BackupError::Damaged { path: path.to_owned(), found, wanted })
    }
}

impl Backup {
    /// Goes through every line; the answer is the rows of each table.
    fn verified(&mut self) -> Result<BTreeMap<String, u64>, BackupError> {
        let tables = std::mem::take(&mut self.tables);
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let mut kinds = Vec::new();
        let mut here = String::new();
        let (mut secrets_key, mut high_water) = (None, None);
        let mut walk = self.walk()?;
        while let Some(met) = walk.next()? {
            let line = walk.lines.number;
            match met {
                Met::Table { name, columns } => {
                    kinds =
                        matched(&tables, &name, &columns).map_err(|reason| walk.lines.malformed(reason))?;
                    if seen.insert(name.clone(), 0).is_some() {
                        return Err(walk.lines.malformed(format!("table {name} comes twice")));
                    }
                    here = name;
                }
                Met::Row { cells, .. } => {
                    let fits = cells.len() == kinds.len()
                        && cells.iter().zip(&kinds).all(|(cell, &(text, nullable))| match cell {
                            Cell::Null => nullable,
                            Cell::Int(_) => !text,
                            Cell::Text(_) => text,
                        });
                    let Some(count) = seen.get_mut(&here).filter(|_| fits) else {
                        return Err(walk.lines.malformed(format!("this is no row of table {here}")));
                    };
                    *count += 1;
                }
                Met::SecretsKey(key) if key.len() == KEY_BYTES && secrets_key.is_none() => {
                    secrets_key = Some(key)
                }
                Met::HighWater(bytes) if high_water.is_none() => high_water = Some(bytes),
                Met::SecretsKey(_) | Met::HighWater(_) => {
                    return Err(walk.lines.malformed(format!("line {line} is no file of a backup")));
                }
            }
        }
        let counted = walk.counted.take();
        let line = walk.lines.number;
        drop(walk);
        let malformed = |reason: String| BackupError::Malformed { path: self.path.clone(), line, reason };
        if let Some(missing) = tables.iter().find(|table| !seen.contains_key(&table.name)) {
            return Err(malformed(format!("table {} is missing", missing.name)));
        }
        let Some(counted) = counted else {
            return Err(malformed("the counts of rows are missing".to_owned()));
        };
        if let Some((table, rows)) = seen.iter().find(|(table, rows)| counted.get(*table) != Some(*rows)) {
            return Err(malformed(format!(
                "table {table} has {rows} rows and should have {:?}",
                counted.get(table)
            )));
        }
        if counted.len() != seen.len() {
            return Err(malformed("rows are counted of a table that is missing".to_owned()));
        }
        self.tables = tables;
        self.manifest.with_key = secrets_key.is_some();
        self.manifest.with_high_water = high_water.is_some();
        (self.secrets_key, self.high_water) = (secrets_key, high_water);
        Ok(seen)
    }

    /// From the first line to the last.
    pub(super) fn walk(&mut self) -> Result<Walk<'_>, BackupError> {
        Ok(Walk {
            lines: Lines::of(&self.path, &mut self.file)?,
            digest: Sha256::new(),
            wanted: &self.manifest.sha256,
            counted: None,
        })
    }
}

/// Whether each of a table's columns is text and whether it may be null, in the order of the backup.
fn matched(tables: &[Table], name: &str, columns: &[String]) -> Result<Vec<(bool, bool)>, String> {
    let table = tables.iter().find(|table| table.name == name);
    let table = table.ok_or_else(|| format!("there is no table {name} at that step of the schema"))?;
    let names: BTreeSet<&String> = columns.iter().collect();
    if names.len() != table.columns.len() || columns.len() != names.len() {
        return Err(format!("table {name} has other columns at that step of the schema"));
    }
    let kind = |wanted: &String| {
        let column = table.columns.iter().find(|column| column.name == *wanted);
        column.map(|column| (column.text, column.nullable))
    };
    let kinds: Option<Vec<_>> = columns.iter().map(kind).collect();
    kinds.ok_or_else(|| format!("table {name} has other columns at that step of the schema"))
}

/// A way through the file. The digest is compared once more at its end: a file may change under us.
pub(super) struct Walk<'b> {
    lines: Lines<'b>,
    digest: Sha256,
    wanted: &'b str,
    counted: Option<BTreeMap<String, u64>>,
}

impl Walk<'_> {
    /// The next of what matters; `None` at the end, when the digest is right.
    pub(super) fn next(&mut self) -> Result<Option<Met>, BackupError> {
        while let Some(line) = self.lines.next()? {
            if line.starts_with(b"[") {
                self.digest.update(line.as_slice());
                let cells = serde_json::from_slice(&line);
                let cells = cells.map_err(|error| self.lines.malformed(error.to_string()))?;
                return Ok(Some(Met::Row { line: self.lines.number, cells }));
            }
            let section = serde_json::from_slice(&line);
            let section = section.map_err(|error| self.lines.malformed(error.to_string()))?;
            if let Section::Sha256(said) = section {
                let found = hex(&self.digest.clone().finalize());
                let end = self.lines.next()?.is_none();
                return if end && found == said && found == self.wanted {
                    Ok(None)
                } else {
                    Err(BackupError::Changed)
                };
            }
            self.digest.update(line.as_slice());
            match section {
                Section::Table { name, columns } => return Ok(Some(Met::Table { name, columns })),
                Section::SecretsKey(text) => {
                    let bytes = from_hex(text.as_bytes());
                    let bytes = bytes.ok_or_else(|| self.lines.malformed("this is no hex".to_owned()))?;
                    return Ok(Some(Met::SecretsKey(Zeroizing::new(bytes))));
                }
                Section::HighWater(text) => {
                    let bytes = from_hex(text.as_bytes());
                    let bytes = bytes.ok_or_else(|| self.lines.malformed("this is no hex".to_owned()))?;
                    return Ok(Some(Met::HighWater(bytes)));
                }
                Section::Rows(rows) => self.counted = Some(rows),
                Section::HalberdBackup(_) if self.lines.number == 1 => {}
                Section::HalberdBackup(_) | Section::Sha256(_) => {
                    return Err(self.lines.malformed("a second beginning".to_owned()));
                }
            }
        }
        Err(BackupError::Changed)
    }
}

/// Lines with their end, none of them longer than we ever wrote.
struct Lines<'b> {
    path: &'b Path,
    from: BufReader<&'b mut File>,
    number: u64,
}

impl<'b> Lines<'b> {
    fn of(path: &'b Path, file: &'b mut File) -> Result<Lines<'b>, BackupError> {
        let moved = file.seek(SeekFrom::Start(0));
        moved.map_err(|source| BackupError::File { path: path.to_owned(), source })?;
        Ok(Lines { path, from: BufReader::with_capacity(1 << 16, file), number: 0 })
    }

    fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, BackupError> {
        let mut line = Zeroizing::new(Vec::new());
        let read = self.from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|source| BackupError::File { path: self.path.to_owned(), source })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read as u64 == LONGEST_LINE {
            return Err(if self.number == 1 {
                BackupError::Foreign { path: self.path.to_owned() }
            } else {
                self.malformed(format!("it is longer than {LONGEST_LINE} bytes"))
            });
        }
        Ok(Some(line))
    }

    fn malformed(&self, reason: String) -> BackupError {
        BackupError::Malformed { path: self.path.to_owned(), line: self.number, reason }
    }
}

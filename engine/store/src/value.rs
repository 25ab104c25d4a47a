//! Arguments and rows: text, 64-bit integers and null are all that any column holds (DESIGN 10.12).

use std::str::FromStr;
use std::sync::Arc;

use halberd_core::UnknownWord;
use halberd_core::id::{
    BootId, EngineId, EventId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId, ServiceId, VmoveId,
    WishId,
};
use halberd_core::time::Stamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::error::{Error, Result};

/// One argument of a statement or one value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Null,
    Int(i64),
    Text(String),
}

impl From<i64> for Arg {
    fn from(number: i64) -> Arg {
        Arg::Int(number)
    }
}
impl From<u32> for Arg {
    fn from(number: u32) -> Arg {
        Arg::Int(number.into())
    }
}
impl From<bool> for Arg {
    fn from(flag: bool) -> Arg {
        Arg::Int(flag.into())
    }
}
impl From<&str> for Arg {
    fn from(text: &str) -> Arg {
        Arg::Text(text.to_owned())
    }
}
impl From<&String> for Arg {
    fn from(text: &String) -> Arg {
        Arg::Text(text.clone())
    }
}
impl From<String> for Arg {
    fn from(text: String) -> Arg {
        Arg::Text(text)
    }
}
impl From<Stamp> for Arg {
    fn from(at: Stamp) -> Arg {
        Arg::Int(at.0)
    }
}
impl From<Uuid> for Arg {
    fn from(id: Uuid) -> Arg {
        Arg::Text(id.as_hyphenated().to_string())
    }
}
impl<T: Into<Arg>> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Arg {
        value.map_or(Arg::Null, Into::into)
    }
}
macro_rules! id_args {
    ($($id:ident)+) => {$(
        impl From<$id> for Arg {
            fn from(id: $id) -> Arg {
                id.0.into()
            }
        }
    )+};
}
id_args!(BootId EngineId EventId HostId InstanceId NotificationId RecoveryId SegmentId ServiceId VmoveId WishId);

/// Arguments in the order of the `?`s.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::value::Arg::from($value)),*] };
}
pub(crate) use args;

/// A document column. Our own types always serialise: no map has a key that is not text.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our documents have text keys only")
}

/// A row as read.
#[derive(Clone, Debug)]
pub struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) values: Vec<Arg>,
}

impl Row {
    /// Reads columns, naming table and row in whatever goes wrong; `key` is the column that names the row.
    pub(crate) fn of(&self, table: &'static str, key: &'static str) -> Reader<'_> {
        Reader { row: self, table, key }
    }

    fn value(&self, column: &str) -> Option<&Arg> {
        self.columns.iter().position(|name| name == column).and_then(|i| self.values.get(i))
    }

    /// The first column as a number; for `SELECT COUNT(*)` and the like.
    pub(crate) fn first_int(&self) -> i64 {
        match self.values.first() {
            Some(Arg::Int(number)) => *number,
            _ => 0,
        }
    }
}

/// Typed columns of one row.
#[derive(Debug)]
pub(crate) struct Reader<'r> {
    row: &'r Row,
    table: &'static str,
    key: &'static str,
}

impl Reader<'_> {
    /// The row's own name, for errors only: lists read thousands of rows.
    fn name(&self) -> String {
        match self.row.value(self.key) {
            Some(Arg::Int(number)) => number.to_string(),
            Some(Arg::Text(text)) => text.clone(),
            _ => "?".to_owned(),
        }
    }

    pub(crate) fn corrupt(&self, column: &'static str, reason: impl ToString) -> Error {
        Error::Corrupt { table: self.table, row: self.name(), column, reason: reason.to_string() }
    }

    fn get(&self, column: &'static str) -> Result<&Arg> {
        self.row.value(column).ok_or_else(|| self.corrupt(column, "the column was not selected"))
    }

    pub(crate) fn opt_text(&self, column: &'static str) -> Result<Option<&str>> {
        match self.get(column)? {
            Arg::Null => Ok(None),
            Arg::Text(text) => Ok(Some(text)),
            Arg::Int(number) => Err(self.corrupt(column, format!("text was expected, not {number}"))),
        }
    }

    pub(crate) fn text(&self, column: &'static str) -> Result<&str> {
        self.opt_text(column)?.ok_or_else(|| self.corrupt(column, "is null"))
    }

    pub(crate) fn string(&self, column: &'static str) -> Result<String> {
        self.text(column).map(str::to_owned)
    }

    pub(crate) fn opt_string(&self, column: &'static str) -> Result<Option<String>> {
        Ok(self.opt_text(column)?.map(str::to_owned))
    }

    pub(crate) fn opt_int(&self, column: &'static str) -> Result<Option<i64>> {
        match self.get(column)? {
            Arg::Null => Ok(None),
            Arg::Int(number) => Ok(Some(*number)),
            Arg::Text(_) => Err(self.corrupt(column, "a number was expected")),
        }
    }

    pub(crate) fn int(&self, column: &'static str) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| self.corrupt(column, "is null"))
    }

    pub(crate) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T> {
        let number = self.int(column)?;
        T::try_from(number).map_err(|_| self.corrupt(column, format!("{number} is out of range")))
    }

    pub(crate) fn flag(&self, column: &'static str) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    pub(crate) fn opt_flag(&self, column: &'static str) -> Result<Option<bool>> {
        Ok(self.opt_int(column)?.map(|number| number != 0))
    }

    pub(crate) fn stamp(&self, column: &'static str) -> Result<Stamp> {
        self.int(column).map(Stamp)
    }

    pub(crate) fn opt_stamp(&self, column: &'static str) -> Result<Option<Stamp>> {
        Ok(self.opt_int(column)?.map(Stamp))
    }

    pub(crate) fn id<T: From<Uuid>>(&self, column: &'static str) -> Result<T> {
        let text = self.text(column)?;
        text.parse()
            .map(|id: Uuid| id.into())
            .map_err(|e| self.corrupt(column, format!("'{text}' is no id: {e}")))
    }

    pub(crate) fn opt_id<T: From<Uuid>>(&self, column: &'static str) -> Result<Option<T>> {
        if self.opt_text(column)?.is_none() { Ok(None) } else { self.id(column).map(Some) }
    }

    /// A word of an enum; an unknown one is an error that names where it stands, never a default.
    pub(crate) fn word<T: FromStr<Err = UnknownWord>>(&self, column: &'static str) -> Result<T> {
        self.text(column)?.parse().map_err(|source| Error::UnknownWord {
            table: self.table,
            row: self.name(),
            column,
            source,
        })
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: &'static str) -> Result<T> {
        serde_json::from_str(self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(crate) fn opt_json<T: DeserializeOwned>(&self, column: &'static str) -> Result<Option<T>> {
        if self.opt_text(column)?.is_none() { Ok(None) } else { self.json(column).map(Some) }
    }
}

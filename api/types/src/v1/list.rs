//! Paging and sorting of every `/v1` list (contract 1.7).
//!
//! A query arrives as its decoded pairs in order, since `sort_key` and `sort_dir` repeat and are matched by position.
//! Parsing needs no store: it yields a [`Page`], and the store turns that into SQL. Unknown parameters are ignored, as ever.

use std::fmt;

use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use super::value;

/// The most rows of one answer, and the number when no limit is asked for (`osapi_max_limit`).
pub const MAX_LIMIT: u32 = 1000;

/// Sort keys of a resource: the columns of its table, all of which a client may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns(&'static [&'static str]);

pub const SEGMENT_COLUMNS: Columns = Columns(&[
    "id",
    "uuid",
    "name",
    "description",
    "service_type",
    "recovery_method",
    "enabled",
    "created_at",
    "updated_at",
    "deleted_at",
    "deleted",
]);

pub const HOST_COLUMNS: Columns = Columns(&[
    "id",
    "uuid",
    "name",
    "failover_segment_id",
    "type",
    "reserved",
    "control_attributes",
    "on_maintenance",
    "created_at",
    "updated_at",
    "deleted_at",
    "deleted",
]);

/// There is no `uuid` among these, whatever the API reference says.
pub const NOTIFICATION_COLUMNS: Columns = Columns(&[
    "id",
    "notification_uuid",
    "generated_time",
    "source_host_uuid",
    "type",
    "payload",
    "status",
    "failover_segment_uuid",
    "message",
    "created_at",
    "updated_at",
    "deleted_at",
    "deleted",
]);

pub const VMOVE_COLUMNS: Columns = Columns(&[
    "id",
    "uuid",
    "notification_uuid",
    "instance_uuid",
    "instance_name",
    "source_host",
    "dest_host",
    "start_time",
    "end_time",
    "type",
    "status",
    "message",
    "created_at",
    "updated_at",
    "deleted_at",
    "deleted",
]);

impl Columns {
    fn find(self, asked: &str) -> Option<&'static str> {
        self.0.iter().copied().find(|column| *column == asked)
    }

    pub fn names(self) -> &'static [&'static str] {
        self.0
    }
}

/// Which rows of a list are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most this many rows, `0..=max`; zero is an empty list.
    pub limit: u32,
    /// Go on after this row. Whether it exists, the store must find out: 400 when not.
    pub marker: Option<Marker>,
    /// Never empty; ends with `created_at` and `id` as tie breakers.
    pub sort: Vec<Sort>,
}

/// The last row a client has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The integer `id`: what every known client sends.
    Id(i64),
    /// Also accepted, beyond the original.
    Uuid(Uuid),
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// One of the resource's columns, never the client's own text.
    pub key: &'static str,
    pub direction: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// A query that breaks the rules; always 400 `badRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidQuery {
    #[error("Invalid input for query parameter '{parameter}'. Value: {value}. It {reason}.")]
    Parameter { parameter: String, value: String, reason: String },
    #[error("There are {directions} sort_dir for {keys} sort_key: at most one direction per key is allowed.")]
    MoreDirectionsThanKeys { keys: usize, directions: usize },
    /// For the store's answer that no such row exists.
    #[error("Marker {0} could not be found.")]
    MarkerNotFound(Marker),
}

impl InvalidQuery {
    pub fn parameter(parameter: &str, value: &str, reason: impl Into<String>) -> Self {
        let value = value::quote(&Value::from(value));
        Self::Parameter { parameter: parameter.to_owned(), value, reason: reason.into() }
    }
}

/// The query's decoded pairs, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a>(pub &'a [(String, String)]);

impl<'a> Query<'a> {
    /// The value of a parameter; the last one, when it stands more than once.
    pub fn get(self, name: &str) -> Option<&'a str> {
        self.all(name).last()
    }

    fn all(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean filter, see [`value::query_boolean`].
    ///
    /// # Errors
    /// When it is there and no boolean.
    pub fn boolean(self, name: &str) -> Result<Option<bool>, InvalidQuery> {
        let parse =
            |text| value::query_boolean(text).map_err(|reason| InvalidQuery::parameter(name, text, reason));
        self.get(name).map(parse).transpose()
    }

    /// A time filter, see [`value::parse_time`].
    ///
    /// # Errors
    /// When it is there and no time.
    pub fn time(self, name: &str) -> Result<Option<value::Timestamp>, InvalidQuery> {
        let parse = |text| {
            let time = value::parse_time(text).map(value::Timestamp::new);
            time.ok_or_else(|| InvalidQuery::parameter(name, text, "is not an ISO 8601 time"))
        };
        self.get(name).map(parse).transpose()
    }

    /// An exact-match text filter.
    pub fn text(self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// Limit, marker and order of a list over `columns`; `max_limit` caps the limit silently.
    ///
    /// # Errors
    /// The first parameter that breaks its rule.
    pub fn page(self, columns: Columns, max_limit: u32) -> Result<Page, InvalidQuery> {
        self.get("page_size").map(|text| natural("page_size", text)).transpose()?;
        let limit = self.get("limit").map(|text| natural("limit", text)).transpose()?;
        Ok(Page {
            limit: limit.map_or(max_limit, |limit| {
                u32::try_from(limit).map_or(max_limit, |limit| limit.min(max_limit))
            }),
            marker: self.get("marker").map(marker).transpose()?,
            sort: self.sort(columns)?,
        })
    }

    fn sort(self, columns: Columns) -> Result<Vec<Sort>, InvalidQuery> {
        let mut keys =
            self.all("sort_key").map(|key| column(columns, key.trim())).collect::<Result<Vec<_>, _>>()?;
        let directions =
            self.all("sort_dir").map(|dir| direction(dir.trim())).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            keys.push("created_at");
        }
        if directions.len() > keys.len() {
            return Err(InvalidQuery::MoreDirectionsThanKeys {
                keys: keys.len(),
                directions: directions.len(),
            });
        }
        for tie_breaker in ["created_at", "id"] {
            if !keys.contains(&tie_breaker) {
                keys.push(tie_breaker);
            }
        }
        let first = directions.first().copied().unwrap_or(Direction::Descending);
        let direction_of = |place: usize| directions.get(place).copied().unwrap_or(first);
        Ok(keys
            .into_iter()
            .enumerate()
            .map(|(place, key)| Sort { key, direction: direction_of(place) })
            .collect())
    }
}

fn column(columns: Columns, asked: &str) -> Result<&'static str, InvalidQuery> {
    columns.find(asked).ok_or_else(|| {
        let reason = format!("is not a column to sort by; these are: {}", columns.0.join(", "));
        InvalidQuery::parameter("sort_key", asked, reason)
    })
}

fn direction(asked: &str) -> Result<Direction, InvalidQuery> {
    match asked {
        "asc" => Ok(Direction::Ascending),
        "desc" => Ok(Direction::Descending),
        _ => Err(InvalidQuery::parameter("sort_dir", asked, "is neither asc nor desc")),
    }
}

fn marker(text: &str) -> Result<Marker, InvalidQuery> {
    let trimmed = text.trim();
    let id = trimmed.parse().ok().map(Marker::Id);
    id.or_else(|| value::path_uuid(trimmed).map(Marker::Uuid))
        .ok_or_else(|| InvalidQuery::parameter("marker", text, "is neither the id nor the uuid of an item"))
}

/// A non-negative integer as Python's `int` reads one: blanks around it and a sign do not matter. One too large for us is
/// as good as the largest.
fn natural(parameter: &str, text: &str) -> Result<u64, InvalidQuery> {
    let refuse = |reason: &str| InvalidQuery::parameter(parameter, text, reason);
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse("is not an integer"));
    }
    let number = digits.parse().unwrap_or(u64::MAX);
    if trimmed.starts_with('-') && number != 0 { Err(refuse("is less than 0")) } else { Ok(number) }
}

//! Reading request bodies field by field, so that an error can name the field, the value and the reason.
//!
//! serde could fill structs from JSON, but its errors say "invalid type at line 1 column 57", it cannot tell an
//! absent field from null, and "unknown keys are 400" must depend on the microversion. So bodies arrive as
//! [`serde_json::Value`], and a [`Fields`] takes one key after the other out of an object; what is left at the end was unknown.
//! The same reader serves `/halberd/v1`, where a value may be a password: [`Fields::take_secret`] never quotes.

use serde_json::{Map, Value};
use thiserror::Error;

use super::value::{self, Reason};

/// A body that breaks its schema; always 400 `badRequest`.
///
/// Its text names the field, the offending value and the reason, or only the reason when the body as a whole is
/// at fault. Clients decide on the status, people read the text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidBody {
    #[error("{0}")]
    Whole(String),
    #[error("Invalid input for field '{field}'. Value: {value}. It {reason}.")]
    Field { field: String, value: String, reason: Reason },
    /// As `Field`, for a value that may not be repeated.
    #[error("Invalid input for field '{field}'. It {reason}.")]
    Secret { field: String, reason: Reason },
}

impl InvalidBody {
    pub fn field(field: impl Into<String>, value: &Value, reason: impl Into<Reason>) -> Self {
        Self::Field { field: field.into(), value: value::quote(value), reason: reason.into() }
    }
}

/// An object whose fields are taken one by one.
#[derive(Debug)]
pub struct Fields<'a> {
    /// Dotted name of the object inside the body, empty for the body itself.
    path: String,
    left: std::collections::BTreeMap<&'a str, &'a Value>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which stands at `path` in the body.
    ///
    /// # Errors
    /// When `value` is no object.
    pub fn of(value: &'a Value, path: &str) -> Result<Self, InvalidBody> {
        match value {
            Value::Object(map) => Ok(Self::of_map(map, path)),
            other if path.is_empty() => {
                Err(InvalidBody::Whole(format!("The body {} is not of type object.", value::quote(other))))
            }
            other => Err(InvalidBody::field(path, other, "is not of type object")),
        }
    }

    fn of_map(map: &'a Map<String, Value>, path: &str) -> Self {
        Self { path: path.to_owned(), left: map.iter().map(|(key, value)| (key.as_str(), value)).collect() }
    }

    /// The one object inside `{"key": {...}}`; every `/v1` body is wrapped so.
    ///
    /// # Errors
    /// When the body is no object, lacks the key, or has another one.
    pub fn wrapped(body: &'a Value, key: &'static str) -> Result<Self, InvalidBody> {
        let mut outer = Self::of(body, "")?;
        let inner = outer
            .left
            .remove(key)
            .ok_or_else(|| InvalidBody::Whole(format!("'{key}' is a required property.")))?;
        outer.finish()?;
        Self::of(inner, key)
    }

    /// Dotted name of a field of this object.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Takes the raw value of `key`.
    pub fn take_raw(&mut self, key: &str) -> Option<&'a Value> {
        self.left.remove(key)
    }

    /// Takes `key` if it is there and reads it by `rule`. Null is a value like any other: the rule judges it.
    ///
    /// # Errors
    /// What `rule` objects to.
    pub fn take<T>(
        &mut self,
        key: &str,
        rule: impl FnOnce(&'a Value) -> Result<T, Reason>,
    ) -> Result<Option<T>, InvalidBody> {
        let Some(value) = self.left.remove(key) else { return Ok(None) };
        rule(value).map(Some).map_err(|reason| InvalidBody::field(self.path_of(key), value, reason))
    }

    /// As [`Fields::take`], and the field must be there.
    ///
    /// # Errors
    /// When it is missing, or what `rule` objects to.
    pub fn require<T>(
        &mut self,
        key: &str,
        rule: impl FnOnce(&'a Value) -> Result<T, Reason>,
    ) -> Result<T, InvalidBody> {
        self.take(key, rule)?.ok_or_else(|| self.missing(key))
    }

    /// As [`Fields::take`], for a value that no error may repeat.
    ///
    /// # Errors
    /// What `rule` objects to, without the value.
    pub fn take_secret<T>(
        &mut self,
        key: &str,
        rule: impl FnOnce(&'a Value) -> Result<T, Reason>,
    ) -> Result<Option<T>, InvalidBody> {
        let Some(value) = self.left.remove(key) else { return Ok(None) };
        rule(value).map(Some).map_err(|reason| InvalidBody::Secret { field: self.path_of(key), reason })
    }

    /// The error for a required field that is not there.
    pub fn missing(&self, key: &str) -> InvalidBody {
        let place = if self.path.is_empty() { String::new() } else { format!(" of '{}'", self.path) };
        InvalidBody::Whole(format!("'{key}' is a required property{place}."))
    }

    /// Ends the reading: a key nobody asked for is an error.
    ///
    /// # Errors
    /// Names all the unknown keys (never their values, which nobody has judged).
    pub fn finish(self) -> Result<(), InvalidBody> {
        if self.left.is_empty() {
            return Ok(());
        }
        let unknown: Vec<String> = self.left.keys().map(|key| format!("'{}'", shorten(key))).collect();
        let place = if self.path.is_empty() { "the body".to_owned() } else { format!("'{}'", self.path) };
        let were = if unknown.len() == 1 { "was" } else { "were" };
        Err(InvalidBody::Whole(format!(
            "Additional properties are not allowed in {place} ({} {were} unexpected).",
            unknown.join(", ")
        )))
    }
}

/// An update must change something: `{}` is 400.
pub(super) fn refuse_empty(fields: &Fields<'_>) -> Result<(), InvalidBody> {
    if fields.is_empty() {
        return Err(InvalidBody::Whole(format!(
            "'{}' does not have enough properties: at least one is needed.",
            fields.path
        )));
    }
    Ok(())
}

fn shorten(key: &str) -> String {
    key.chars().take(64).collect()
}

//! Reading paths, queries and bodies, so that every refusal names the value and the rule.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use halberd_core::time::Stamp;
use serde_json::Value;
use uuid::Uuid;

use super::problem::Failure;

/// A body of this interface is small; a larger one is a mistake or an attack (SAFETY S18).
pub(crate) const BODY_LIMIT: usize = 64 * 1024;
/// Our deepest document has six levels; the rest is room for what a client may add.
const DEPTH_LIMIT: usize = 32;
/// Items on a page unless the query says otherwise, and at most.
pub(crate) const PAGE: u32 = 100;
pub(crate) const PAGE_AT_MOST: u32 = 1000;

/// A uuid of the path.
pub(crate) fn id<T: From<Uuid>>(text: &str) -> Result<T, Failure> {
    let parsed = Uuid::parse_str(text).map(T::from);
    parsed.map_err(|_| Failure::bad_request(format!("'{}' in the path is not a UUID.", shorten(text))))
}

/// A JSON body; an empty one is an empty object.
///
/// A body may hold a password, so nothing of it is repeated in the refusal.
pub(crate) fn json(body: &[u8]) -> Result<Value, Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        Failure::bad_request(format!(
            "The body is not JSON (line {}, column {}).",
            error.line(),
            error.column()
        ))
    })?;
    if depth(&value) > DEPTH_LIMIT {
        return Err(Failure::bad_request(format!("The body is nested deeper than {DEPTH_LIMIT} levels.")));
    }
    if crate::input::has_nul(&value) {
        return Err(Failure::bad_request(crate::input::NUL));
    }
    Ok(value)
}

/// A query that is no text is refused before anybody reads it.
pub(crate) async fn query_is_text(request: Request, next: Next) -> Response {
    if !crate::input::is_text(request.uri().query().unwrap_or_default()) {
        return Failure::bad_request(crate::input::NO_TEXT).into_response();
    }
    next.run(request).await
}

// serde_json refuses more than 128 levels by itself, so this recursion is bounded.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The parameters of a query string, each at most once, taken one by one; what is left is unknown.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    pub(crate) fn of(pairs: Vec<(String, String)>) -> Result<Query, Failure> {
        let mut left = BTreeMap::new();
        for (name, value) in pairs {
            if left.contains_key(&name) {
                return Err(Failure::bad_request(format!("The query names '{}' twice.", shorten(&name))));
            }
            left.insert(name, value);
        }
        Ok(Query(left))
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(Some(true)),
            "false" | "0" | "no" => Ok(Some(false)),
            _ => Err(Failure::bad_request(format!("'{name}' is '{}', not true or false.", shorten(&text)))),
        }
    }

    /// One of the words given.
    pub(crate) fn word(&mut self, name: &str, words: &[&str]) -> Result<Option<String>, Failure> {
        match self.0.remove(name) {
            Some(text) if !words.contains(&text.as_str()) => Err(Failure::bad_request(format!(
                "'{name}' is '{}', not one of {}.",
                shorten(&text),
                words.join(", ")
            ))),
            word => Ok(word),
        }
    }

    pub(crate) fn uuid(&mut self, name: &str) -> Result<Option<Uuid>, Failure> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        let parsed = Uuid::parse_str(&text);
        parsed
            .map(Some)
            .map_err(|_| Failure::bad_request(format!("'{name}' is '{}', not a UUID.", shorten(&text))))
    }

    /// `limit`, from 1 to [`PAGE_AT_MOST`].
    pub(crate) fn limit(&mut self) -> Result<u32, Failure> {
        let Some(text) = self.0.remove("limit") else { return Ok(PAGE) };
        match text.parse() {
            Ok(limit) if (1..=PAGE_AT_MOST).contains(&limit) => Ok(limit),
            _ => Err(Failure::bad_request(format!(
                "'limit' is '{}', not 1 to {PAGE_AT_MOST}.",
                shorten(&text)
            ))),
        }
    }

    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Failure::bad_request(format!("The query has no parameter '{}'.", shorten(name))))
            }
        }
    }
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// A stored time as shown. One outside of chrono's years is shown as 1970.
pub(crate) fn time(stamp: Stamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(stamp.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Failure> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').expect("name=value");
            (name.to_owned(), value.to_owned())
        };
        Query::of(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    #[test]
    fn a_query_is_read_whole_or_refused() {
        assert_eq!(query("").expect("empty").limit().expect("default"), PAGE);
        assert_eq!(query("limit=7").expect("one").limit().expect("seven"), 7);
        for bad in ["limit=0", "limit=1001", "limit=x", "limit=-1"] {
            assert!(query(bad).expect("parses").limit().is_err(), "{bad}");
        }
        assert!(query("a=1&a=2").is_err(), "twice");
        assert!(query("a=1").expect("one").finish().is_err(), "unknown");
        assert!(query("open=maybe").expect("one").flag("open").is_err());
        assert_eq!(query("open=TRUE").expect("one").flag("open").expect("a flag"), Some(true));
    }

    #[test]
    fn bodies_are_bounded_in_depth_and_never_quoted() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(json(nested(32).as_bytes()).is_ok());
        assert!(json(nested(33).as_bytes()).is_err());
        assert!(json(nested(5_000).as_bytes()).is_err());
        assert!(json(b"{\"a\": [\"\\u0000\"]}").is_err(), "NUL in a value");
        assert!(json(b"{\"a\\u0000\": 1}").is_err(), "NUL in a key");
        assert_eq!(json(b"{\"a\": 1, \"a\": 2}").expect("the last wins"), serde_json::json!({ "a": 2 }));
        assert_eq!(json(b" ").expect("empty"), serde_json::json!({}));
        let refusal = json(b"{\"password\": \"canary\"").expect_err("cut off");
        assert!(!format!("{refusal:?}").contains("canary"));
    }
}

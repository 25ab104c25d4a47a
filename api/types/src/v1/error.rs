//! Faults of `/v1`: one top key by status, an object with `code` and `message` below it (contract 1.5).
//!
//! Known clients decide by status alone: the monitors drop a report for ever on 400 and 409 and retry on anything else, so
//! those two must never be used for a trouble of ours.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Content type of every fault.
pub const CONTENT_TYPE: &str = "application/json; charset=UTF-8";

/// The top key of a fault of this status.
pub fn fault_key(status: u16) -> &'static str {
    match status {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 | 429 => "overLimit",
        415 => "badMediaType",
        501 => "notImplemented",
        503 => "serviceUnavailable",
        _ => "masakariFault",
    }
}

/// A fault, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub message: String,
    /// Seconds; written as `retryAfter` for 413 and 429 only.
    pub retry_after: Option<u64>,
}

impl Fault {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    /// The body.
    pub fn to_json(&self) -> Value {
        let mut fault = Map::new();
        fault.insert("code".to_owned(), self.status.into());
        fault.insert("message".to_owned(), self.message.as_str().into());
        if let (413 | 429, Some(seconds)) = (self.status, self.retry_after) {
            fault.insert("retryAfter".to_owned(), seconds.into());
        }
        json!({ fault_key(self.status): fault })
    }
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl From<super::body::InvalidBody> for Fault {
    fn from(error: super::body::InvalidBody) -> Self {
        Self::new(400, error.to_string())
    }
}

impl From<super::list::InvalidQuery> for Fault {
    fn from(error: super::list::InvalidQuery) -> Self {
        Self::new(400, error.to_string())
    }
}

impl From<super::microversion::MicroversionError> for Fault {
    fn from(error: super::microversion::MicroversionError) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

/// The 401 for a missing or invalid token. It comes from the token check in front of the API, so its key is `error`
/// and it has a `title`; clients of keystonemiddleware know this shape.
pub fn token_refused() -> Value {
    json!({ "error": { "code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication." } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_status() {
        let table = [
            (400, "badRequest"),
            (401, "unauthorized"),
            (403, "forbidden"),
            (404, "itemNotFound"),
            (405, "badMethod"),
            (406, "masakariFault"),
            (409, "conflictingRequest"),
            (413, "overLimit"),
            (415, "badMediaType"),
            (429, "overLimit"),
            (500, "masakariFault"),
            (501, "notImplemented"),
            (503, "serviceUnavailable"),
        ];
        for (status, key) in table {
            assert_eq!(
                Fault::new(status, "why").to_json(),
                json!({ key: { "code": status, "message": "why" } })
            );
        }
    }

    #[test]
    fn retry_after_only_where_a_client_reads_it() {
        let fault =
            |status| Fault { status, message: "m".into(), retry_after: Some(7) }.to_json().to_string();
        assert!(fault(413).contains("\"retryAfter\":7") && fault(429).contains("\"retryAfter\":7"));
        assert!(!fault(503).contains("retryAfter"));
    }
}

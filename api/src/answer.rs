//! From rows to `/v1`'s answers.

use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use halberd_core::time::Stamp;
use halberd_store::Stored;
use halberd_types::v1::value::Timestamp;
use halberd_types::v1::{Many, One, RowTimes};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A stored time as the wire shows it; outside of chrono's years the epoch, as a row that cannot be shown would hide all others.
pub(crate) fn time(at: Stamp) -> Timestamp {
    Timestamp::from_micros(at.0).unwrap_or_else(|| Timestamp::new(DateTime::UNIX_EPOCH))
}

/// The columns every object ends with.
pub(crate) fn times<T>(stored: &Stored<T>) -> RowTimes {
    RowTimes {
        created_at: Some(time(stored.created_at)),
        updated_at: stored.updated_at.map(time),
        deleted_at: stored.deleted_at.map(time),
        deleted: stored.deleted_at.is_some(),
    }
}

/// `{"key": {...}}`
pub(crate) fn one<T: Serialize>(status: StatusCode, key: &'static str, item: &T) -> Response {
    json(status, &One(key, item))
}

/// `{"key": [...]}`
pub(crate) fn many<T: Serialize>(key: &'static str, items: &[T]) -> Response {
    json(StatusCode::OK, &Many(key, items))
}

pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

//! What handlers take out of a request, each refusal in `/v1`'s own shape: axum's are plain text.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use halberd_types::v1::list::{Columns, Page, Query as Pairs};
use halberd_types::v1::value::path_uuid;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;

use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// Deepest nesting of a body. The deepest that any schema takes is three; what is deeper only costs the reader memory (S18).
const DEEPEST: usize = 32;

/// A JSON body, unjudged. Size is bounded by the router, depth here.
pub(crate) struct Body(pub(crate) Value);

impl FromRequest<App> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> ApiResult<Self> {
        accepts(request.headers())?;
        let bytes = Bytes::from_request(request, app).await.map_err(|refused| match refused.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(app.config.max_body),
            // It went away, or its chunks are none.
            _ => ApiError::bad_request("The body did not come whole."),
        })?;
        if bytes.is_empty() {
            return Err(ApiError::bad_request("The request has no body."));
        }
        check_depth(&bytes)?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::bad_request(format!("The body is not JSON in UTF-8: {error}.")))?;
        if has_nul(&value) {
            return Err(ApiError::bad_request(NUL));
        }
        Ok(Self(value))
    }
}

/// No text of ours has the character NUL: PostgreSQL cannot store it, and programs in C end a text there.
pub(crate) const NUL: &str = "A text holds the character NUL (U+0000), which no field takes.";

/// Whether any text of a body, key or value, holds NUL. The body's depth is bounded before.
pub(crate) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// JSON under any of its names here; no type, and text/plain, count as JSON too (contract 1.1).
fn accepts(headers: &HeaderMap) -> ApiResult<()> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or("unreadable");
    let media_type = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "" | "application/json" | "application/vnd.openstack.masakari+json" | "text/plain" => Ok(()),
        _ => Err(ApiError::new(
            415,
            format!("Unsupported Content-Type {media_type:?}: send application/json."),
        )),
    }
}

/// Counts brackets outside of strings, before anything is allocated for them.
fn check_depth(bytes: &[u8]) -> ApiResult<()> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return Err(ApiError::bad_request(format!("The body is nested deeper than {DEEPEST} levels.")));
        }
    }
    Ok(())
}

/// The query's pairs in their order.
pub(crate) struct Asked(Vec<(String, String)>);

impl Asked {
    pub(crate) fn pairs(&self) -> Pairs<'_> {
        Pairs(&self.0)
    }

    /// Limit, marker and order, as the store takes them.
    pub(crate) fn page(&self, columns: Columns, app: &App) -> ApiResult<halberd_store::Page> {
        Ok(store_page(self.pairs().page(columns, app.config.max_limit)?))
    }
}

fn store_page(page: Page) -> halberd_store::Page {
    use halberd_types::v1::list::{Direction, Marker};
    halberd_store::Page {
        limit: page.limit,
        marker: page.marker.map(|marker| match marker {
            Marker::Id(num) => halberd_store::Marker::Num(num),
            Marker::Uuid(id) => halberd_store::Marker::Id(id),
        }),
        sort: page
            .sort
            .into_iter()
            .map(|sort| {
                let direction = match sort.direction {
                    Direction::Ascending => halberd_store::Direction::Asc,
                    Direction::Descending => halberd_store::Direction::Desc,
                };
                (sort.key.to_owned(), direction)
            })
            .collect(),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> ApiResult<Self> {
        let query = parts.uri.query().unwrap_or_default();
        if !is_text(query) {
            return Err(ApiError::bad_request(NO_TEXT));
        }
        Query::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|_| ApiError::bad_request("The query string cannot be read."))
    }
}

pub(crate) const NO_TEXT: &str = "The query string is not UTF-8, or holds the character NUL (U+0000).";

/// Whether a query string is UTF-8 without NUL once its percent signs are read. The decoder would replace what is not, and a filter would then
/// silently mean something else.
pub(crate) fn is_text(query: &str) -> bool {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut read, mut at) = (query.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let decoded = match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        at += if decoded.is_some() { 3 } else { 1 };
        read.push(decoded.unwrap_or(*byte));
    }
    std::str::from_utf8(&read).is_ok_and(|text| !text.contains('\0'))
}

/// The variable parts of a path, by the names they have in the route. They are judged when a handler asks, as schema and role come first.
pub(crate) struct Place(Vec<(String, String)>);

impl Place {
    /// A uuid; what is none names nothing, so it is 404 and not 400.
    pub(crate) fn uuid(&self, part: &'static str) -> ApiResult<Uuid> {
        let text = self.text(part);
        path_uuid(text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            ApiError::not_found(format!("No {part} {shown:?} could be found."))
        })
    }

    pub(crate) fn text(&self, part: &str) -> &str {
        self.0.iter().find(|(name, _)| name == part).map_or("", |(_, text)| text)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        // Fails on percent signs that make no UTF-8: such a path names nothing.
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::not_found("The resource could not be found."))?;
        Ok(Self(params.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_and_not_text() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_depth(nested(DEEPEST).as_bytes()).is_ok());
        assert!(check_depth(nested(DEEPEST + 1).as_bytes()).is_err());
        let flat = format!("[{}1]", "[],".repeat(1000));
        assert!(check_depth(flat.as_bytes()).is_ok());
        let quoted = format!("{{\"a\\\"{}\":1}}", "[".repeat(1000));
        assert!(check_depth(quoted.as_bytes()).is_ok());
    }

    #[test]
    fn queries_are_text() {
        let table = [
            ("", true),
            ("name=a%20b+c&x=%C3%A4", true),
            ("name=%", true),
            ("name=%zz%4", true),
            ("name=%ff", false),
            ("name=%C3&x=%A4", false),
            ("name=%ED%A0%80", false),
            ("name=a%00b", false),
            ("%00=x", false),
        ];
        for (query, good) in table {
            assert_eq!(is_text(query), good, "{query}");
        }
    }

    #[test]
    fn content_types() {
        let table = [
            (None, true),
            (Some(""), true),
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("application/vnd.openstack.masakari+json;version=1"), true),
            (Some("text/plain"), true),
            (Some("application/xml"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("text/json"), false),
        ];
        for (content_type, good) in table {
            let mut headers = HeaderMap::new();
            if let Some(text) = content_type {
                headers.insert(header::CONTENT_TYPE, text.parse().unwrap());
            }
            assert_eq!(accepts(&headers).is_ok(), good, "{content_type:?}");
        }
    }
}

//! Cross-origin requests of browsers (the Fetch standard's CORS protocol): off unless `[api] cors_allowed_origins` names origins.
//!
//! A page of a named origin may read our answers; its preflights are answered here, before anybody asks for a token, as a browser sends
//! none with them. Credentials in the browser's sense (cookies) are not allowed: a page sends its token itself.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::app::App;

/// oslo.middleware's defaults of the same names.
const METHODS: HeaderValue = HeaderValue::from_static("GET, PUT, POST, DELETE, PATCH");
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("3600");
/// What a page may send beside the headers that any page may.
const SENT: HeaderValue = HeaderValue::from_static(
    "Content-Type, X-Auth-Token, OpenStack-API-Version, X-Openstack-Request-Id, Last-Event-ID",
);
/// What a page may read beside the headers that any page may.
const READ: HeaderValue =
    HeaderValue::from_static("OpenStack-API-Version, X-Openstack-Request-Id, Retry-After");

/// Whether a text is an origin as browsers write one: scheme, host, perhaps a port, and nothing after it.
pub(crate) fn is_origin(text: &str) -> bool {
    let host =
        ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or_default();
    let allowed = |c: u8| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    !host.is_empty() && host.bytes().all(allowed)
}

/// Around everything, where origins are configured.
pub(crate) async fn cross_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let origin = allowed(&app.config.cors_allowed_origins, request.headers());
    let is_preflight = *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &origin {
        Some(_) if is_preflight => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    // Answers differ by origin, so no cache may give one's to another.
    headers.append(header::VARY, HeaderValue::from_name(HeaderName::from_static("origin")));
    let Some(origin) = origin else { return response };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if is_preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    }
    response
}

fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(header::ORIGIN)?;
    origins.iter().any(|origin| origin.as_bytes() == asked.as_bytes()).then(|| asked.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let table = [
            ("https://horizon.example.org", true),
            ("http://10.0.0.5:8080", true),
            ("https://[2001:db8::1]:8443", true),
            ("*", false),
            ("", false),
            ("horizon.example.org", false),
            ("https://", false),
            ("https://horizon.example.org/", false),
            ("https://Horizon.example.org", false),
            ("https://a.example, https://b.example", false),
        ];
        for (text, good) in table {
            assert_eq!(is_origin(text), good, "{text:?}");
        }
    }
}

//! Errors of this interface, made in one place: RFC 9457 problem details.
//!
//! A handler answers a [`Failure`]; path and request id are filled in on the way out by [`finish`], which also rewrites what
//! did not come from a handler (no such route, wrong method, body too large), so that a client meets one shape only.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use halberd_store::Error as StoreError;
use halberd_types::halberd::problem::{CONTENT_TYPE, Problem};
use halberd_types::v1::body::InvalidBody;

/// A refusal or a fault, as it will be shown.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Box<Problem>);

impl Failure {
    pub(crate) fn new(status: StatusCode, slug: &str, title: &str, detail: impl Into<String>) -> Failure {
        Failure(Box::new(Problem::new(status.as_u16(), slug, title, detail)))
    }

    /// 400: a value of the path or the query breaks its rule.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "bad-request", "The request breaks a rule", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 403: known, and not allowed.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, "forbidden", "The caller may not do this", detail)
    }

    /// 409: the thing is not in a state for this.
    pub(crate) fn conflict(detail: impl Into<String>) -> Failure {
        Failure::new(StatusCode::CONFLICT, "conflict", "Its present state forbids this", detail)
    }

    /// 500 without a word about the inside; the log has it.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Failure {
        let causes: Vec<String> =
            std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
        tracing::error!(error = causes.join(": "), "a request failed");
        let detail = "The request failed inside the service; its log names the cause under the request id.";
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed", detail)
    }

    /// About this occurrence, for a reader that is no client.
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.0.status
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match &error {
            StoreError::NotFound { .. } => Failure::not_found(sentence(&error)),
            StoreError::Exists { .. } | StoreError::InUse { .. } => Failure::conflict(sentence(&error)),
            StoreError::BadList(_) => Failure::bad_request(sentence(&error)),
            StoreError::Value(why) => {
                tracing::info!(error = %why, "the database does not store a value of a request");
                Failure::bad_request(sentence(&error))
            }
            _ if error.is_unavailable() => {
                tracing::warn!(%error, "the database cannot serve a request");
                let detail = format!("{} Try again in a moment.", sentence(&error));
                Failure::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "The database cannot be used now",
                    detail,
                )
            }
            _ => Failure::internal(&error),
        }
    }
}

fn sentence(error: &StoreError) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

impl From<InvalidBody> for Failure {
    fn from(error: InvalidBody) -> Failure {
        Failure(Box::new(Problem::from(error)))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure(Box::new(problem))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = render(&self.0);
        response.extensions_mut().insert(self);
        response
    }
}

fn render(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Where this interface is mounted; a nested router no longer sees it in the path.
pub(crate) const PREFIX: &str = "/halberd/v1";

/// Fills path and request id into a problem, and makes a problem of every other error.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let path = full_path(request.uri().path());
    let id = super::door::request_id(&request);
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let problem = match response.extensions().get::<Failure>() {
        Some(failure) => (*failure.0).clone(),
        None => unknown(status, &path),
    };
    let mut rendered = render(&Problem { instance: Some(path), request_id: id, ..problem });
    for (name, value) in response.headers() {
        if *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH {
            rendered.headers_mut().insert(name.clone(), value.clone());
        }
    }
    rendered
}

fn unknown(status: StatusCode, path: &str) -> Problem {
    let (slug, detail) = match status {
        StatusCode::NOT_FOUND => {
            ("not-found", format!("There is nothing at {path}; {PREFIX}/openapi.json lists what there is."))
        }
        StatusCode::METHOD_NOT_ALLOWED => (
            "method-not-allowed",
            format!("{path} does not take this method; the header Allow names those it takes."),
        ),
        StatusCode::UNAUTHORIZED => {
            ("unauthenticated", "The request needs a valid token in X-Auth-Token.".to_owned())
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            ("unavailable", "Something this request needs does not answer now; try again.".to_owned())
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "The body is too large.".to_owned()),
        _ => ("refused", "The request was refused.".to_owned()),
    };
    Problem::new(status.as_u16(), slug, status.canonical_reason().unwrap_or("Refused"), detail)
}

fn full_path(path: &str) -> String {
    if path.starts_with(PREFIX) { path.to_owned() } else { format!("{PREFIX}{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_s_words_become_statuses() {
        let missing = StoreError::NotFound { what: "host", id: "h".into() };
        let busy = StoreError::Conflict { attempts: 5, source: None };
        let corrupt =
            StoreError::Corrupt { table: "t", row: "r".into(), column: "c", reason: "canary".into() };
        assert_eq!(Failure::from(missing).status(), 404);
        assert_eq!(Failure::from(StoreError::Exists { what: "host", name: "h".into() }).status(), 409);
        assert_eq!(Failure::from(StoreError::BadList("x".into())).status(), 400);
        assert_eq!(Failure::from(busy).status(), 503);
        let inside = Failure::from(corrupt);
        assert_eq!(inside.status(), 500);
        assert!(!inside.0.detail.contains("canary"), "the inside is not shown");
    }

    #[test]
    fn a_nested_path_is_shown_whole() {
        assert_eq!(full_path("/recoveries"), "/halberd/v1/recoveries");
        assert_eq!(full_path("/halberd/v1/recoveries"), "/halberd/v1/recoveries");
    }
}

//! What can go wrong with a call, sorted by the one question the engine asks: may it have been executed?
//!
//! Sorted by status and by how far the request got, never by an error's text. Some facts of Nova that clients read
//! from its messages have other signs, which we use: "still in use" (the server's host and migrations), "already has
//! host" and "Cannot remove host" (the aggregate, read again), "done evacuation records remain" (the migrations).
//! So no text decides anything here.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// Longest message we keep of somebody's error body, in characters: enough for Nova's validation errors, short
/// enough for a log line. An HTML page of a proxy is cut.
const MESSAGE_LIMIT: usize = 600;

/// May the call have been executed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// Certainly not: it may be sent again once its cause is gone.
    No,
    /// Perhaps: look at the records first.
    Unknown,
}

/// A complete answer that says no.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who was asked for what, e.g. `compute POST servers/…/action`.
    pub call: String,
    /// The HTTP status.
    pub status: u16,
    /// The body's own name for the fault where it has one: `badRequest`, `conflictingRequest`, a problem's type.
    pub code: Option<String>,
    /// The body's message, for people.
    pub message: String,
    /// The service's `X-OpenStack-Request-ID`.
    pub request_id: Option<String>,
    /// The body, when it is JSON.
    pub body: Option<Value>,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.call, self.status, self.message)?;
        match &self.request_id {
            Some(id) => write!(f, " ({id})"),
            None => Ok(()),
        }
    }
}

/// Why a call gave no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A complete 3xx or 4xx: understood and refused, not executed.
    #[error("refused: {0}")]
    Refused(Box<Answer>),
    /// 403: our user lacks a role or a policy forbids it. Not executed.
    #[error("forbidden: {0}; give the user of [openstack] the role that the policy asks for")]
    Forbidden(Box<Answer>),
    /// 404: the thing is not there. Not executed.
    #[error("not found: {0}")]
    NotFound(Box<Answer>),
    /// 409: the thing's present state forbids it. Not executed.
    #[error("conflict: {0}")]
    Conflict(Box<Answer>),
    /// Nobody took the call: 503, 429 or 408, no connection, or no token to be had. Certainly not executed.
    #[error("unavailable, nothing was done: {call}: {reason}")]
    Unavailable {
        /// Who was asked for what.
        call: String,
        /// What was seen.
        reason: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
        /// How long the service asks us to wait.
        retry_after: Option<Duration>,
        /// The service's request id, if there was an answer.
        request_id: Option<String>,
    },
    /// 500, 502, 504, a reset or a time-out after the request left. Perhaps executed: read before repeating.
    #[error("outcome unknown, it may have been done: {call}: {reason}")]
    OutcomeUnknown {
        /// Who was asked for what.
        call: String,
        /// What was seen.
        reason: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
        /// The service's request id, if there was an answer.
        request_id: Option<String>,
    },
    /// A success that cannot be understood. A change was probably made.
    #[error("answer not understood: {call}: {reason}")]
    Malformed {
        /// Who was asked for what.
        call: String,
        /// What is wrong with the answer.
        reason: String,
        /// The service's request id.
        request_id: Option<String>,
    },
    /// Our credentials were refused. Nothing was executed.
    #[error("authentication failed: {reason}; {remedy}")]
    Auth {
        /// What was refused, by whom.
        reason: String,
        /// Which section or file to mend.
        remedy: String,
    },
    /// A setting is missing or wrong, or the cloud lacks what we need. Nothing was sent.
    #[error("{0}")]
    Config(String),
}

impl Error {
    /// May the call have been executed?
    #[must_use]
    pub fn executed(&self) -> Executed {
        match self {
            Error::OutcomeUnknown { .. } | Error::Malformed { .. } => Executed::Unknown,
            Error::Refused(_)
            | Error::Forbidden(_)
            | Error::NotFound(_)
            | Error::Conflict(_)
            | Error::Unavailable { .. }
            | Error::Auth { .. }
            | Error::Config(_) => Executed::No,
        }
    }

    /// The HTTP status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused(a) | Error::Forbidden(a) | Error::NotFound(a) | Error::Conflict(a) => {
                Some(a.status)
            }
            Error::Unavailable { status, .. } | Error::OutcomeUnknown { status, .. } => *status,
            Error::Malformed { .. } | Error::Auth { .. } | Error::Config(_) => None,
        }
    }

    /// The service's request id, if there was an answer that carried one.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Error::Refused(a) | Error::Forbidden(a) | Error::NotFound(a) | Error::Conflict(a) => {
                a.request_id.as_deref()
            }
            Error::Unavailable { request_id, .. }
            | Error::OutcomeUnknown { request_id, .. }
            | Error::Malformed { request_id, .. } => request_id.as_deref(),
            Error::Auth { .. } | Error::Config(_) => None,
        }
    }

    /// How long the service asked us to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Sorts a complete answer that is no success.
    pub(crate) fn from_answer(
        call: String,
        status: u16,
        retry_after: Option<Duration>,
        request_id: Option<String>,
        body: &[u8],
    ) -> Error {
        let told = Told::read(body);
        match status {
            408 | 429 | 503 => Error::Unavailable {
                call,
                reason: format!("{status} {}", told.message),
                status: Some(status),
                retry_after,
                request_id,
            },
            300..=499 => {
                let answer = Box::new(Answer {
                    call,
                    status,
                    code: told.code,
                    message: told.message,
                    request_id,
                    body: told.body,
                });
                match status {
                    403 => Error::Forbidden(answer),
                    404 => Error::NotFound(answer),
                    409 => Error::Conflict(answer),
                    _ => Error::Refused(answer),
                }
            }
            _ => Error::OutcomeUnknown {
                call,
                reason: format!("{status} {}", told.message),
                status: Some(status),
                request_id,
            },
        }
    }

    /// Sorts a request that got no answer. `is_connect` covers refused, unroutable and timed-out connections, name
    /// resolution and TLS handshakes: all before the first byte of the request.
    pub(crate) fn from_transport(call: String, error: reqwest::Error) -> Error {
        let error = error.without_url();
        let reason = chain(&error);
        if error.is_builder() {
            Error::Config(format!("{call}: the request cannot be built: {reason}"))
        } else if error.is_connect() {
            Error::Unavailable { call, reason, status: None, retry_after: None, request_id: None }
        } else {
            Error::OutcomeUnknown { call, reason, status: None, request_id: None }
        }
    }
}

/// What an error body tells: OpenStack's faults, Keystone's, Placement's, RFC 9457 problems, or plain text.
struct Told {
    code: Option<String>,
    message: String,
    body: Option<Value>,
}

impl Told {
    fn read(bytes: &[u8]) -> Told {
        let Ok(body) = serde_json::from_slice::<Value>(bytes) else {
            return Told {
                code: None,
                message: shorten(&plain(&String::from_utf8_lossy(bytes))),
                body: None,
            };
        };
        let (code, message) = Told::find(&body);
        let message = message.unwrap_or_else(|| body.to_string());
        Told { code, message: shorten(&message), body: Some(body) }
    }

    fn find(body: &Value) -> (Option<String>, Option<String>) {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        // RFC 9457: type, title, detail.
        if body.get("title").is_some() || body.get("detail").is_some() {
            return (text(body, "type"), text(body, "detail").or_else(|| text(body, "title")));
        }
        // Placement and others of the API working group: {"errors": [{"title", "detail", "code"}]}.
        if let Some(first) = body.get("errors").and_then(|errors| errors.get(0)) {
            return (text(first, "code"), text(first, "detail").or_else(|| text(first, "title")));
        }
        if let Some(message) = text(body, "message") {
            return (None, Some(message));
        }
        // Nova, Keystone, Masakari: {"badRequest": {"code": 400, "message": "…"}}.
        let fault = body.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
        match fault {
            Some((name, inner)) => {
                (Some(name.clone()), text(inner, "message").or_else(|| text(inner, "title")))
            }
            None => (None, None),
        }
    }
}

/// Text of an HTML page without its tags, white space folded.
fn plain(page: &str) -> String {
    let mut text = String::new();
    let mut tag = false;
    for c in page.chars() {
        match c {
            '<' => tag = true,
            '>' if tag => {
                tag = false;
                text.push(' ');
            }
            _ if !tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// An error with its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(status: u16, body: &str) -> Error {
        Error::from_answer("compute GET x".into(), status, None, Some("req-1".into()), body.as_bytes())
    }

    #[test]
    fn a_complete_no_was_not_executed_and_a_broken_service_may_have() {
        for status in [301, 400, 401, 403, 404, 406, 408, 409, 413, 429, 503] {
            assert_eq!(sort(status, "").executed(), Executed::No, "{status}");
        }
        for status in [500, 501, 502, 504, 599, 199] {
            assert_eq!(sort(status, "").executed(), Executed::Unknown, "{status}");
        }
    }

    #[test]
    fn variants_follow_the_status_alone() {
        let text = r#"{"itemNotFound": {"code": 404, "message": "forbidden conflict unavailable"}}"#;
        assert!(matches!(sort(400, text), Error::Refused(_)));
        assert!(matches!(sort(403, text), Error::Forbidden(_)));
        assert!(matches!(sort(404, text), Error::NotFound(_)));
        assert!(matches!(sort(409, text), Error::Conflict(_)));
        assert!(matches!(sort(503, text), Error::Unavailable { .. }));
        assert!(matches!(sort(500, text), Error::OutcomeUnknown { .. }));
    }

    #[test]
    fn bodies_of_all_kinds_give_a_message() {
        let cases = [
            (
                r#"{"badRequest": {"code": 400, "message": "Compute service of cmp-03 is still in use."}}"#,
                Some("badRequest"),
                "Compute service of cmp-03 is still in use.",
            ),
            (
                r#"{"error": {"code": 401, "title": "Unauthorized", "message": "Log in."}}"#,
                Some("error"),
                "Log in.",
            ),
            (
                r#"{"errors": [{"status": 404, "title": "Not Found", "detail": "No such provider", "code": "placement.undefined_code"}]}"#,
                Some("placement.undefined_code"),
                "No such provider",
            ),
            (
                r#"{"type": "urn:held", "title": "Held", "status": 409, "detail": "A brake holds it"}"#,
                Some("urn:held"),
                "A brake holds it",
            ),
            (r#"{"message": "plain"}"#, None, "plain"),
            (
                "<html><head><title>503</title></head>\n<body>The Keystone service is\n down.</body></html>",
                None,
                "503 The Keystone service is down.",
            ),
            ("", None, ""),
            ("[1]", None, "[1]"),
        ];
        for (body, code, message) in cases {
            let told = Told::read(body.as_bytes());
            assert_eq!((told.code.as_deref(), told.message.as_str()), (code, message), "{body}");
        }
    }

    #[test]
    fn a_page_is_cut_at_a_character() {
        let told = Told::read("ä".repeat(5000).as_bytes());
        assert_eq!(told.message.chars().count(), MESSAGE_LIMIT + 1);
    }
}

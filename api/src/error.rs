//! What a `/v1` handler answers when it does not do what was asked: a fault by status (contract 1.5).
//!
//! The monitors drop a report for ever on 400 and 409 and come again on anything else, so a trouble of ours is never one of the two. It
//! is logged here, once; its details stay in the log.

use axum::response::{IntoResponse, Response};
use halberd_store::Error as StoreError;
use halberd_types::v1::body::InvalidBody;
use halberd_types::v1::error::{CONTENT_TYPE, Fault};
use halberd_types::v1::list::InvalidQuery;
use halberd_types::v1::microversion::MicroversionError;
use http::{HeaderValue, StatusCode, header};

use crate::access::Forbidden;
use crate::auth::Refused;

/// Seconds after which a client may come again when the database or Nova is away: shorter than the monitors' own 10 s.
const RETRY_AFTER_S: u64 = 5;

/// A refusal or a failure, ready to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    Fault(Fault),
    Refused(Refused),
}

/// A handler's result.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self::Fault(Fault::new(status, message))
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, message)
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, message)
    }

    pub fn too_large(limit: usize) -> Self {
        Self::new(413, format!("Request body is too large: at most {limit} bytes are taken."))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let fault = match self {
            Self::Refused(refused) => return refused.into_response(),
            Self::Fault(fault) => fault,
        };
        let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, fault.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        response
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Forbidden> for ApiError {
    fn from(forbidden: Forbidden) -> Self {
        Self::new(403, forbidden.to_string())
    }
}

impl From<InvalidBody> for ApiError {
    fn from(error: InvalidBody) -> Self {
        Self::Fault(error.into())
    }
}

impl From<InvalidQuery> for ApiError {
    fn from(error: InvalidQuery) -> Self {
        Self::Fault(error.into())
    }
}

impl From<MicroversionError> for ApiError {
    fn from(error: MicroversionError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound { .. } => Self::not_found(error.to_string()),
            StoreError::Exists { .. } | StoreError::InUse { .. } => Self::conflict(error.to_string()),
            StoreError::BadList(why) => Self::bad_request(why.clone()),
            StoreError::Value(why) => {
                tracing::info!(error = %chain(why), "the database does not store a value of a request");
                Self::bad_request(error.to_string())
            }
            _ => Self::of_trouble(&error),
        }
    }
}

impl ApiError {
    fn of_trouble(error: &StoreError) -> Self {
        let chain = chain(error);
        if error.is_unavailable() {
            tracing::error!(error = %chain, "the database does not serve; the request was answered with 503");
            return Self::unavailable(
                "The database cannot serve this request now; nothing was acknowledged. Try again.",
            );
        }
        tracing::error!(error = %chain, "a request failed");
        Self::new(
            500,
            "The request failed by a fault of this service; its log says why under this request id.",
        )
    }

    /// A call to Nova that gave no answer to the question.
    pub(crate) fn of_nova(error: &halberd_openstack::Error) -> Self {
        tracing::error!(%error, "Nova gave no answer about a host");
        match error {
            halberd_openstack::Error::Forbidden(_) => Self::new(403, format!("Nova refuses: {error}")),
            _ => Self::unavailable(format!("Nova could not be asked whether the host exists: {error}")),
        }
    }
}

/// An error with its sources, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

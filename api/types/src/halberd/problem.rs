//! Errors of `/halberd/v1`: problem details (RFC 9457), content type `application/problem+json`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Content type of a [`Problem`].
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong, with which thing, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; `about:blank` when the status says it all.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The same for each occurrence.
    pub title: String,
    pub status: u16,
    /// About this occurrence: names the thing and the way out.
    pub detail: String,
    /// The path asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// As in X-Openstack-Request-Id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// `slug` names the kind, in lower case with dashes: `urn:halberd:problem:<slug>`.
    pub fn new(status: u16, slug: &str, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("urn:halberd:problem:{slug}"),
            title: title.into(),
            status,
            detail: detail.into(),
            instance: None,
            request_id: None,
        }
    }

    #[must_use]
    pub fn at(mut self, path: impl Into<String>, request_id: impl Into<String>) -> Self {
        self.instance = Some(path.into());
        self.request_id = Some(request_id.into());
        self
    }
}

impl From<crate::v1::body::InvalidBody> for Problem {
    fn from(error: crate::v1::body::InvalidBody) -> Self {
        Self::new(400, "invalid-body", "The body breaks its schema", error.to_string())
    }
}

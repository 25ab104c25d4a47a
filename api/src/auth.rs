//! Who is asking. Tokens are validated in process; nothing a client writes about itself is believed (CVE-2026-22797 and its kind, S7).
//!
//! `auth = "none"` is the original's noauth2: everybody is admin, and user and project are what `X-User-Id` and `X-Project-Id` say. That is why
//! it binds to loopback only. With Keystone those headers, and every other that a token middleware in front of a service would set, are
//! removed at the door ([`strip_identity`]) before anything of ours could read one.

use std::fmt;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use halberd_openstack::{Keystone, ValidToken};
use halberd_types::v1::error::{Fault, token_refused};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use uuid::Uuid;

use crate::access::{Standing, standing};
use crate::app::App;
use crate::config::ApiConfig;

/// How callers are known.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    Keystone(Keystone),
}

/// The id of a request, `req-` and a UUID: made here, answered in `X-Openstack-Request-Id`, and sent on to Nova.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    pub const HEADER: HeaderName = HeaderName::from_static("x-openstack-request-id");

    pub(crate) fn new() -> Self {
        Self(format!("req-{}", Uuid::new_v4()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("hex digits and dashes make a header value")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is asking, and how far that reaches. Taken as an argument, it makes a handler refuse whoever has no valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    pub project_id: Option<String>,
    pub roles: Vec<String>,
    /// What the tenant's roles come to, here.
    pub standing: Standing,
    /// Has the role `service`.
    pub is_service: bool,
    pub is_admin: bool,
    pub request_id: RequestId,
    /// The client's own request id, `req-` and a UUID, if it sent one: sent on to Nova in the place of ours.
    pub global_request_id: Option<String>,
}

impl Caller {
    /// The name that audit records and wishes carry.
    pub fn actor(&self) -> &str {
        self.user_name.as_deref().or(self.user_id.as_deref()).unwrap_or("anonymous")
    }

    /// The request id to send on to other services.
    pub fn forwarded_id(&self) -> &str {
        self.global_request_id.as_deref().unwrap_or(self.request_id.as_str())
    }

    fn by_token(token: &ValidToken, config: &ApiConfig, request_id: RequestId) -> Self {
        let project_id = token.project.as_ref().map(|project| project.id.clone());
        let operator = token.system_scope
            || project_id.as_ref().is_some_and(|project| config.operator_projects.contains(project));
        let standing = standing(&token.roles, operator);
        Self {
            user_id: Some(token.user.id.clone()),
            user_name: Some(token.user.name.clone()).filter(|name| !name.is_empty()),
            project_id,
            roles: token.roles.clone(),
            standing,
            is_service: token.has_role("service"),
            is_admin: standing == Standing::Admin,
            request_id,
            global_request_id: None,
        }
    }

    fn by_own_word(headers: &HeaderMap, request_id: RequestId) -> Self {
        let read = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            user_id: read("x-user-id"),
            user_name: None,
            project_id: read("x-project-id"),
            roles: vec!["admin".to_owned()],
            standing: Standing::Admin,
            is_service: false,
            is_admin: true,
            request_id,
            global_request_id: None,
        }
    }
}

/// Why nobody can be told by a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No token, one that Keystone does not know, or one without a user: 401. `challenge` goes into `WWW-Authenticate`.
    #[error("The request you have made requires authentication.")]
    NoValidToken { challenge: String },
    /// Keystone gave no verdict: 503.
    #[error("the token could not be checked now: {0}")]
    NoVerdict(String),
}

impl IntoResponse for Refused {
    /// In `/v1`'s shapes: the 401 as a token middleware in front of the original answers it.
    fn into_response(self) -> Response {
        match self {
            Self::NoValidToken { ref challenge } => {
                let mut response = (StatusCode::UNAUTHORIZED, axum::Json(token_refused())).into_response();
                if let Ok(value) = HeaderValue::from_str(challenge) {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
                }
                response
            }
            Self::NoVerdict(_) => crate::ApiError::from(Fault::new(503, self.to_string())).into_response(),
        }
    }
}

/// Tells who is asking.
///
/// # Errors
/// [`Refused`]; what the API's role rules say comes later, from [`Caller::may`].
pub async fn authenticate(app: &App, headers: &HeaderMap, request_id: RequestId) -> Result<Caller, Refused> {
    let mut caller = match &app.auth {
        Auth::None => Caller::by_own_word(headers, request_id),
        Auth::Keystone(keystone) => {
            let refused = || Refused::NoValidToken { challenge: challenge(&app.config) };
            let token =
                headers.get("x-auth-token").and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
            let found = keystone.validate(token).await.map_err(|error| {
                tracing::error!(%error, %request_id, "Keystone gives no verdict on a caller's token");
                Refused::NoVerdict(error.to_string())
            })?;
            let token = found.filter(|token| !token.user.id.is_empty()).ok_or_else(refused)?;
            Caller::by_token(&token, &app.config, request_id)
        }
    };
    caller.global_request_id = headers
        .get(RequestId::HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            id.strip_prefix("req-").is_some_and(|uuid| uuid.len() == 36 && Uuid::try_parse(uuid).is_ok())
        })
        .map(str::to_owned);
    Ok(caller)
}

fn challenge(config: &ApiConfig) -> String {
    format!("Keystone uri=\"{}\"", config.www_authenticate_uri.as_deref().unwrap_or_default())
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refused> {
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        let request_id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::new);
        let caller = authenticate(app, &parts.headers, request_id).await?;
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::new))
    }
}

/// Headers by which a middleware or a proxy tells a service who the caller is. From a client they are lies.
const IDENTITY_PREFIXES: [&str; 12] = [
    "x-user",
    "x-project",
    "x-tenant",
    "x-domain",
    "x-role",
    "x-identity",
    "x-is-admin",
    "x-service-",
    "x-system-scope",
    "x-trust",
    "x-forwarded-user",
    "openstack-system-scope",
];

/// Removes them, `X-Service-Token` and `X-Service-Catalog` among them: we ask for neither.
pub(crate) fn strip_identity(headers: &mut HeaderMap) {
    let is_identity = |name: &HeaderName| {
        let name = name.as_str().replace('_', "-");
        IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_from_outside_goes_and_the_rest_stays() {
        let gone = [
            "X-User-Id",
            "X-User-Name",
            "X-User",
            "X_User_Id",
            "X-User-Domain-Id",
            "X-Project-Id",
            "X-Project-Name",
            "X-Tenant-Id",
            "X-Tenant",
            "X-Roles",
            "X-Role",
            "X_Roles",
            "X-Identity-Status",
            "X-Is-Admin-Project",
            "X-Domain-Id",
            "X-Service-Token",
            "X-Service-Roles",
            "X-Service-Identity-Status",
            "X-Service-Catalog",
            "X-System-Scope",
            "OpenStack-System-Scope",
            "X-Trust-Id",
            "x-forwarded-user",
        ];
        let stays =
            ["X-Auth-Token", "OpenStack-API-Version", "X-Openstack-Request-Id", "X-Forwarded-Proto", "Host"];
        let mut headers = HeaderMap::new();
        for name in gone.iter().chain(&stays) {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("admin"));
        }
        strip_identity(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let mut want: Vec<String> = stays.iter().map(|name| name.to_lowercase()).collect();
        want.sort_unstable();
        assert_eq!(left, want);
    }
}

//! Who is asking. Tokens are validated in process; nothing a client writes about itself is believed (CVE-2026-22797 and its kind, S7).
//!
//! `auth = "none"` is the original's noauth2: everybody is admin, and user and project are what `X-User-Id` and `X-Project-Id` say. That is why
//! it binds to loopback only. With Keystone those headers, and every other that a token middleware in front of a service would set, are
//! removed at the door ([`strip_identity`]) before anything of ours could read one. What stays are the two credentials, which Keystone is
//! asked about.
//!
//! **Service tokens.** A service that carries out a user's request shows its own token in `X-Service-Token` beside the user's. One that is
//! shown must be valid, or nobody is let in. If it has one of `service_token_roles`, the user's token may have expired meanwhile: it
//! was valid when the user asked. It grants nothing else; what the caller may do is what the user's token says.

use std::fmt;
use std::sync::Arc;

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
use crate::policy::Policy;

/// How callers are known.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    Keystone(Keystone),
}

impl Auth {
    /// Where to get a token, for those who come without: the configured address, else the one we log in at ourselves.
    pub(crate) fn challenge(&self, config: &ApiConfig) -> String {
        let own = match self {
            Auth::None => String::new(),
            Auth::Keystone(keystone) => keystone.auth_url(),
        };
        format!("Keystone uri=\"{}\"", config.www_authenticate_uri.as_ref().unwrap_or(&own))
    }
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
    /// The token is for the whole system.
    pub system_scope: bool,
    pub roles: Vec<String>,
    /// What the tenant's roles come to, here.
    pub standing: Standing,
    /// Has the role `service`.
    pub is_service: bool,
    /// What the policy's `context_is_admin` says.
    pub is_admin: bool,
    /// The rules that [`Caller::may`] asks.
    pub(crate) policy: Arc<Policy>,
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

    fn by_token(token: &ValidToken, app: &App, request_id: RequestId) -> Self {
        let project_id = token.project.as_ref().map(|project| project.id.clone());
        let operator = token.system_scope
            || project_id.as_ref().is_some_and(|project| app.config.operator_projects.contains(project));
        let mut caller = Self {
            user_id: Some(token.user.id.clone()),
            user_name: Some(token.user.name.clone()).filter(|name| !name.is_empty()),
            project_id,
            system_scope: token.system_scope,
            standing: standing(&token.roles, operator),
            roles: token.roles.clone(),
            is_service: token.has_role("service"),
            is_admin: false,
            policy: app.policy.clone(),
            request_id,
            global_request_id: None,
        };
        caller.is_admin = app.policy.allows("context_is_admin", &caller);
        caller
    }

    fn by_own_word(headers: &HeaderMap, app: &App, request_id: RequestId) -> Self {
        let read = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            user_id: read("x-user-id"),
            user_name: None,
            project_id: read("x-project-id"),
            system_scope: false,
            roles: vec!["admin".to_owned()],
            standing: Standing::Nobody,
            is_service: false,
            is_admin: true,
            policy: app.policy.clone(),
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
        Auth::None => Caller::by_own_word(headers, app, request_id),
        Auth::Keystone(keystone) => {
            let found = by_tokens(keystone, &app.config, headers).await.map_err(|error| {
                tracing::error!(%error, %request_id, "Keystone gives no verdict on a caller's token");
                Refused::NoVerdict(error.to_string())
            })?;
            let refused = || Refused::NoValidToken { challenge: app.challenge.clone() };
            Caller::by_token(&*found.ok_or_else(refused)?, app, request_id)
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

/// What Keystone says of the user's token; none where that or the service's is not valid.
async fn by_tokens(
    keystone: &Keystone,
    config: &ApiConfig,
    headers: &HeaderMap,
) -> Result<Option<Arc<ValidToken>>, halberd_openstack::Error> {
    // An empty header is none; one that is no text is a token that nobody knows.
    let shown = |name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap_or("\n")).filter(|token| !token.is_empty())
    };
    let is_somebodys = |token: &Arc<ValidToken>| !token.user.id.is_empty();
    let Some(token) = shown("x-auth-token") else { return Ok(None) };
    let mut may_have_expired = false;
    if let Some(service) = shown(SERVICE_TOKEN) {
        let Some(service) = keystone.validate(service).await?.filter(is_somebodys) else { return Ok(None) };
        may_have_expired = config.service_token_roles.iter().any(|role| service.has_role(role));
        if config.service_token_roles_required && !may_have_expired {
            return Ok(None);
        }
    }
    let found = if may_have_expired {
        keystone.validate_expired(token).await?
    } else {
        keystone.validate(token).await?
    };
    Ok(found.filter(is_somebodys))
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

/// Begins as those do and is none: a credential, believed as far as Keystone confirms it.
const SERVICE_TOKEN: &str = "x-service-token";

/// Removes them, `X-Service-Catalog` and whatever only looks like `X-Service-Token` among them.
pub(crate) fn strip_identity(headers: &mut HeaderMap) {
    let is_identity = |name: &HeaderName| {
        let plain = name.as_str().replace('_', "-");
        name.as_str() != SERVICE_TOKEN && IDENTITY_PREFIXES.iter().any(|prefix| plain.starts_with(prefix))
    };
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_identity(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use halberd_openstack::{OpenStack, OpenstackConfig, Places, Timeouts};
    use halberd_store::{Access, Db, Sealer};
    use http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::AuthMode;

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
            "X_Service_Token",
            "X-Service-Roles",
            "X-Service-Identity-Status",
            "X-Service-Catalog",
            "X-System-Scope",
            "OpenStack-System-Scope",
            "X-Trust-Id",
            "x-forwarded-user",
        ];
        let stays = [
            "X-Auth-Token",
            "X-Service-Token",
            "OpenStack-API-Version",
            "X-Openstack-Request-Id",
            "X-Forwarded-Proto",
            "Host",
        ];
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
    /// Nothing of ours reads such a header with Keystone; nothing ever gets to.
    #[tokio::test]
    async fn the_door_lets_no_identity_through_where_keystone_tells() {
        let settings = OpenstackConfig {
            auth_url: Some("http://127.0.0.1:9/v3".into()),
            username: Some("halberd".into()),
            password: Some("secret".into()),
            project_name: Some("service".into()),
            ..OpenstackConfig::default()
        };
        let openstack = OpenStack::with(&settings, &Places::default(), Timeouts::default()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("halberd.db").display());
        for (auth, stays) in [(AuthMode::Keystone, false), (AuthMode::None, true)] {
            let app = App::new(crate::Parts {
                config: ApiConfig { auth, ..ApiConfig::default() },
                db: Db::open(&url, Access::Shared).await.unwrap(),
                sealer: Sealer::new(&[7; 32]),
                keystone: Some(openstack.keystone()),
                nova: None,
                nudge: Arc::default(),
                webhooks: Vec::new(),
            })
            .unwrap();
            let shown = Router::new()
                .fallback(async |headers: HeaderMap| headers.contains_key("x-user-id").to_string())
                .layer(axum::middleware::from_fn_with_state(app, crate::router::door));
            let request = Request::builder().header("X-User-Id", "u-0").body(Body::empty()).unwrap();
            let body = shown.oneshot(request).await.unwrap().into_body();
            assert_eq!(axum::body::to_bytes(body, 100).await.unwrap(), stays.to_string().as_bytes());
        }
    }
}

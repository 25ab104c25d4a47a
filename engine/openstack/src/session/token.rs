//! One token for all calls.
//!
//! It is renewed well before it expires, while the old one still serves: Nova hands the caller's token on to Neutron
//! and Cinder during a rebuild, so a token that is about to die would fail evacuations minutes after they were
//! accepted, and a Keystone that is away for a while must not stop a recovery. A token that a service refuses is
//! dropped and a new one asked for, once, however many calls were refused (single flight). Lifetimes are Keystone's
//! own `expires_at - issued_at` on our monotonic clock: no wall clocks are compared.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::HeaderValue;
use openstack::{EndpointFilters, ErrorKind};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;

use super::Catalog;
use super::credentials::Credentials;
use crate::Error;
use crate::transport::{Answered, read_answer};

/// A token is renewed when less than this is left of it, or a third of its life if that is less: an evacuation that
/// starts with it has that long to finish.
const RENEW_BEFORE: Duration = Duration::from_secs(20 * 60);

/// After a failed early renewal the old token serves on, and Keystone is asked again after this.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// A refused login is not tried again before this: Keystone can lock an account after a few failures
/// (`lockout_failure_attempts`), and many calls may wait for a token at once.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Taken for a token that does not say how long it lives.
const UNSTATED_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Who Keystone says we are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// The user's id.
    pub user_id: String,
    /// The project's id, if the token is for one.
    pub project_id: Option<String>,
    /// Role names.
    pub roles: Vec<String>,
}

struct Token {
    value: HeaderValue,
    catalog: Catalog,
    identity: Identity,
    born: Instant,
    lifetime: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("identity", &self.identity)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Token {
    fn usable(&self) -> bool {
        self.born.elapsed() < self.lifetime
    }

    fn due(&self) -> bool {
        self.born.elapsed() + RENEW_BEFORE.min(self.lifetime / 3) >= self.lifetime
    }
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// The last attempt, if it failed: when it ended, and how.
    failed: Option<(Instant, Error)>,
}

/// Asks Keystone for tokens and keeps the current one.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    token_url: Url,
    client: Client,
    sent: Arc<AtomicU64>,
    state: RwLock<State>,
    /// Held while a request for a token is under way.
    flight: tokio::sync::Mutex<()>,
}

impl Authenticator {
    pub(crate) fn new(credentials: Credentials, client: Client, sent: Arc<AtomicU64>) -> Self {
        let token_url = credentials.token_url();
        Authenticator {
            credentials,
            token_url,
            client,
            sent,
            state: RwLock::default(),
            flight: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn token_url(&self) -> &Url {
        &self.token_url
    }

    pub(crate) fn remedy(&self) -> String {
        self.credentials.remedy()
    }

    /// A new token whatever is cached.
    pub(crate) async fn authenticate(&self) -> Result<Identity, Error> {
        let _flight = self.flight.lock().await;
        Ok(self.renew().await?.identity.clone())
    }

    pub(crate) fn forget(&self) {
        self.write(|state| state.token = None);
    }

    /// Drops the cached token if it is the one that a service refused.
    pub(crate) fn refused(&self, used: &HeaderValue) {
        self.write(|state| {
            if state.token.as_ref().is_some_and(|token| token.value == *used) {
                state.token = None;
            }
        });
    }

    /// The header of the present token; asks for one if there is none.
    pub(crate) async fn header(&self) -> Result<HeaderValue, Error> {
        Ok(self.token().await?.value.clone())
    }

    /// Where the token's catalog has a service.
    pub(crate) async fn endpoint(&self, service_type: &str, filters: &EndpointFilters) -> Result<Url, Error> {
        self.token().await?.catalog.find(service_type, filters).map_err(Error::Config)
    }

    /// Whether the token's catalog has such a service.
    pub(crate) async fn is_listed(
        &self,
        service_type: &str,
        filters: &EndpointFilters,
    ) -> Result<bool, Error> {
        Ok(self.token().await?.catalog.lists(service_type, filters))
    }

    /// The project the token is for.
    pub(crate) async fn project_id(&self) -> Result<Option<String>, Error> {
        Ok(self.token().await?.identity.project_id.clone())
    }

    async fn token(&self) -> Result<Arc<Token>, Error> {
        let entered = Instant::now();
        match self.usable() {
            Some(token) if !token.due() || self.paused() => Ok(token),
            Some(token) => Ok(self.renew_early(token).await),
            None => self.first(entered).await,
        }
    }

    /// Nobody waits for an early renewal but the one who does it.
    async fn renew_early(&self, old: Arc<Token>) -> Arc<Token> {
        let Ok(_flight) = self.flight.try_lock() else { return old };
        match self.renew().await {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(%error, "token not renewed, the old one is still valid");
                old
            }
        }
    }

    async fn first(&self, entered: Instant) -> Result<Arc<Token>, Error> {
        let _flight = self.flight.lock().await;
        if let Some(token) = self.usable() {
            return Ok(token);
        }
        if let Some(error) = self.shared_failure(entered) {
            return Err(error);
        }
        self.renew().await
    }

    /// A failure that ended while this caller waited is its answer too; a refused login stands for a while.
    fn shared_failure(&self, entered: Instant) -> Option<Error> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = state.failed.as_ref()?;
        let refused = matches!(error, Error::Auth { .. }) && at.elapsed() < REFUSED_PAUSE;
        (refused || *at >= entered).then(|| error.clone())
    }

    fn usable(&self) -> Option<Arc<Token>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.token.as_ref().filter(|token| token.usable()).cloned()
    }

    fn paused(&self) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < RENEWAL_PAUSE)
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// To be called with the flight held.
    async fn renew(&self) -> Result<Arc<Token>, Error> {
        match self.request().await {
            Ok(token) => {
                let token = Arc::new(token);
                self.write(|state| *state = State { token: Some(token.clone()), failed: None });
                Ok(token)
            }
            Err(error) => {
                self.write(|state| state.failed = Some((Instant::now(), error.clone())));
                Err(error)
            }
        }
    }

    async fn request(&self) -> Result<Token, Error> {
        let born = Instant::now();
        let call = format!("identity POST {}", self.token_url.path());
        let body = self.credentials.body()?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        let response = self.client.post(self.token_url.clone()).json(&body).send().await;
        let answered = read_answer(&call, response).await.map_err(|error| self.unavailable(error))?;
        if answered.status != 201 && answered.status != 200 {
            return Err(self.refusal(call, &answered));
        }
        let value = answered
            .headers
            .get("x-subject-token")
            .cloned()
            .ok_or_else(|| self.no_keystone("its answer has no X-Subject-Token"))?;
        let issued: Issued =
            serde_json::from_slice(&answered.body).map_err(|error| self.no_keystone(&error.to_string()))?;
        Ok(issued.token.keep(value, born))
    }

    fn no_keystone(&self, why: &str) -> Error {
        Error::Config(format!(
            "{} does not answer as Keystone v3 does: {why}; check auth_url in {}",
            self.token_url, self.credentials.origin
        ))
    }

    fn refusal(&self, call: String, answered: &Answered) -> Error {
        match answered.error(call) {
            Error::NotFound(answer) => self.no_keystone(&format!("404 {}", answer.message)),
            Error::Refused(answer) if answer.status < 400 => {
                self.no_keystone(&format!("a redirect ({})", answer.status))
            }
            Error::Refused(answer) | Error::Forbidden(answer) | Error::Conflict(answer) => Error::Auth {
                reason: format!(
                    "Keystone at {} refused {} with {}: {}",
                    self.token_url,
                    self.credentials.subject(),
                    answer.status,
                    answer.message
                ),
                remedy: self.credentials.remedy(),
            },
            other => self.unavailable(other),
        }
    }

    /// Whatever became of the request for a token, the call it was for has not been made.
    fn unavailable(&self, error: Error) -> Error {
        match error {
            Error::OutcomeUnknown { call, reason, status, request_id } => {
                Error::Unavailable { call, reason, status, retry_after: None, request_id }
            }
            Error::Unavailable { call, reason, status, retry_after, request_id } => {
                let reason = format!("{reason} (Keystone at {})", self.token_url);
                Error::Unavailable { call, reason, status, retry_after, request_id }
            }
            other => other,
        }
    }
}

#[derive(Deserialize)]
struct Issued {
    token: IssuedToken,
}

#[derive(Deserialize)]
struct IssuedToken {
    #[serde(default)]
    expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    issued_at: Option<DateTime<Utc>>,
    #[serde(default)]
    catalog: Catalog,
    #[serde(default)]
    user: Option<Ref>,
    #[serde(default)]
    project: Option<Ref>,
    #[serde(default)]
    roles: Vec<Ref>,
}

#[derive(Deserialize, Default)]
struct Ref {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

impl IssuedToken {
    fn keep(self, mut value: HeaderValue, born: Instant) -> Token {
        value.set_sensitive(true);
        let stated = self.expires_at.zip(self.issued_at).and_then(|(end, start)| (end - start).to_std().ok());
        let user = self.user.unwrap_or_default();
        Token {
            value,
            catalog: self.catalog,
            identity: Identity {
                user: user.name,
                user_id: user.id,
                project_id: self.project.map(|project| project.id),
                roles: self.roles.into_iter().map(|role| role.name).collect(),
            },
            born,
            lifetime: stated.unwrap_or(UNSTATED_LIFETIME),
        }
    }
}

/// Our authentication as the `openstack` crate's session wants it.
#[derive(Clone, Debug)]
pub(crate) struct KeystoneAuth(pub(crate) Arc<Authenticator>);

/// The crate's error keeps a kind and a text; our own calls take the typed error from the [`Authenticator`] first.
fn foreign(error: &Error) -> openstack::Error {
    let kind = match error {
        Error::Auth { .. } => ErrorKind::AuthenticationFailed,
        Error::Config(_) => ErrorKind::EndpointNotFound,
        _ => ErrorKind::ProtocolError,
    };
    openstack::Error::new(kind, error.to_string())
}

#[async_trait]
impl openstack::auth::AuthType for KeystoneAuth {
    async fn authenticate(
        &self,
        _: &Client,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, openstack::Error> {
        let header = self.0.header().await.map_err(|error| foreign(&error))?;
        Ok(request.header("x-auth-token", header))
    }

    async fn get_endpoint(
        &self,
        _: &Client,
        service_type: &str,
        filters: &EndpointFilters,
    ) -> Result<Url, openstack::Error> {
        self.0.endpoint(service_type, filters).await.map_err(|error| foreign(&error))
    }

    /// Forgets the token; the next call asks for a new one. A session can so be made while Keystone is down.
    async fn refresh(&self, _: &Client) -> Result<(), openstack::Error> {
        self.0.forget();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Timeouts;
    use crate::session::credentials::{Method, Named, Scope, Secret};

    fn token(age: u64, lifetime: u64) -> Token {
        Token {
            value: HeaderValue::from_static("gAAAA-secret"),
            catalog: Catalog::default(),
            identity: Identity::default(),
            born: Instant::now() - Duration::from_secs(age),
            lifetime: Duration::from_secs(lifetime),
        }
    }

    #[test]
    fn a_token_is_due_while_it_still_serves() {
        // An hour's token: twenty minutes before its end.
        assert!(!token(2000, 3600).due());
        assert!(token(2401, 3600).due() && token(2401, 3600).usable());
        assert!(!token(3601, 3600).usable());
        // A short one is not due from the start.
        assert!(!token(0, 300).due());
        assert!(token(201, 300).due() && token(201, 300).usable());
    }

    #[test]
    fn lifetime_is_keystones_own_difference() {
        let body = r#"{"token": {"issued_at": "2001-01-01T00:00:00.000000Z", "expires_at": "2001-01-01T00:10:00.000000Z"}}"#;
        let issued: Issued = serde_json::from_str(body).unwrap();
        let kept = issued.token.keep(HeaderValue::from_static("t"), Instant::now());
        assert_eq!(kept.lifetime, Duration::from_secs(600));
        assert_eq!(format!("{:?}", kept.value), "Sensitive");
    }

    #[test]
    fn a_token_never_shows() {
        assert!(!format!("{:?}", token(0, 1)).contains("gAAAA"));
    }

    /// An authenticator whose Keystone is not there, holding a token.
    async fn cut_off(held: Token) -> Authenticator {
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let credentials = Credentials {
            auth_url: Url::parse(&format!("http://{nobody}")).unwrap(),
            method: Method::Password {
                user: Named::Id("u".into()),
                password: Secret::Inline(secrecy::SecretString::from("hunter2")),
            },
            scope: Scope::None,
            origin: "[openstack]".into(),
        };
        let client =
            crate::session::http_client(&crate::session::Tls::default(), Timeouts::default()).unwrap();
        let authenticator = Authenticator::new(credentials, client, Arc::default());
        authenticator.write(|state| state.token = Some(Arc::new(held)));
        authenticator
    }

    #[tokio::test]
    async fn the_old_token_bridges_an_outage_of_keystone() {
        let authenticator = cut_off(token(2401, 3600)).await;
        for _ in 0..3 {
            authenticator.header().await.unwrap();
        }
        // One attempt, then the pause.
        assert_eq!(authenticator.sent.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_late_refusal_of_an_older_token_leaves_the_new_one() {
        let authenticator = cut_off(token(0, 3600)).await;
        authenticator.refused(&HeaderValue::from_static("older"));
        assert!(authenticator.usable().is_some());
        authenticator.refused(&HeaderValue::from_static("gAAAA-secret"));
        assert!(authenticator.usable().is_none());
    }

    #[tokio::test]
    async fn a_dead_token_does_not() {
        let authenticator = cut_off(token(3601, 3600)).await;
        assert!(matches!(authenticator.header().await.unwrap_err(), Error::Unavailable { .. }));
        let shown = format!("{authenticator:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("gAAAA"), "{shown}");
    }
}

//! One request, one answer.
//!
//! The session's `send_unchecked` is not used here: the `openstack` crate folds every failure of the HTTP client into
//! one kind with a text, and the difference between "no connection" (certainly not executed) and "reset after the
//! request left" (perhaps) would have to be read out of that text. So the session gives endpoint, token and client,
//! and the client's own typed error is kept.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};
use openstack::session::{ServiceType as _, Session};
use openstack::{EndpointFilters, InterfaceType};
use reqwest::{Client, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Error;
use crate::error::chain;
use crate::session::{Authenticator, Interface, KeystoneAuth, ServiceType, Settings};

/// An answer longer than this is no answer of OpenStack's: a page of 1,000 servers is about 3 MB.
const BODY_LIMIT: usize = 64 << 20;

const REQUEST_ID: &str = "x-openstack-request-id";
const TOKEN: &str = "x-auth-token";

/// What is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) service: ServiceType,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Value>,
}

impl Outgoing {
    pub(crate) fn new(service: ServiceType, method: Method, url: Url) -> Outgoing {
        Outgoing { service, method, url, headers: HeaderMap::new(), body: None }
    }

    /// A header from text; [`Error::Config`] if it cannot stand in one.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Result<Outgoing, Error> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| Error::Config(format!("{value:?} cannot be sent as header {name}")))?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// The global request id, if there is one.
    pub(crate) fn request_id(self, id: Option<&str>) -> Result<Outgoing, Error> {
        match id {
            Some(id) => self.header(REQUEST_ID, id),
            None => Ok(self),
        }
    }

    fn call(&self) -> String {
        format!("{} {} {}", self.service.catalog_type(), self.method, self.url.path())
    }
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    pub(crate) fn request_id(&self) -> Option<String> {
        self.headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned)
    }

    /// Seconds only: a date would compare two wall clocks.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
        text.trim().parse().ok().map(Duration::from_secs)
    }

    pub(crate) fn error(&self, call: String) -> Error {
        let error = Error::from_answer(call, self.status, self.retry_after(), self.request_id(), &self.body);
        match (error, self.headers.get(http::header::LOCATION)) {
            (Error::Refused(mut answer), Some(location)) if answer.status < 400 => {
                answer.message =
                    format!("redirected to {location:?}, which we do not follow: correct the endpoint");
                Error::Refused(answer)
            }
            (error, _) => error,
        }
    }
}

/// A success.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) call: String,
    pub(crate) answered: Answered,
}

impl Reply {
    /// The body as JSON of a known shape.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.answered.body).map_err(|error| self.malformed(error.to_string()))
    }

    pub(crate) fn malformed(&self, reason: String) -> Error {
        Error::Malformed { call: self.call.clone(), reason, request_id: self.answered.request_id() }
    }
}

/// Reads the whole answer. An error before the last byte of it is the transport's: an answer cut in the middle says
/// nothing.
pub(crate) async fn read_answer(
    call: &str,
    response: Result<reqwest::Response, reqwest::Error>,
) -> Result<Answered, Error> {
    let mut response = response.map_err(|error| Error::from_transport(call.to_owned(), error))?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let unknown = |reason: String| Error::OutcomeUnknown {
        call: call.to_owned(),
        reason: format!("answer {status} cut short: {reason}"),
        status: None,
        request_id: None,
    };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unknown(chain(&error.without_url())))? {
        if body.len() + chunk.len() > BODY_LIMIT {
            return Err(unknown(format!("longer than {BODY_LIMIT} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answered { status, headers, body })
}

/// The way to the services: a session, and what it counts.
#[derive(Clone)]
pub(crate) struct Transport(Arc<Inner>);

struct Inner {
    session: Session,
    /// None: no tokens are used.
    authenticator: Option<Arc<Authenticator>>,
    sent: Arc<AtomicU64>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("authenticator", &self.0.authenticator).finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) async fn keystone(
        client: Client,
        settings: &Settings,
        authenticator: Arc<Authenticator>,
        sent: Arc<AtomicU64>,
    ) -> Result<Transport, Error> {
        let interface = match settings.interface {
            Interface::Public => InterfaceType::Public,
            Interface::Internal => InterfaceType::Internal,
            Interface::Admin => InterfaceType::Admin,
        };
        let mut filters = EndpointFilters::default().with_interfaces(interface);
        if let Some(region) = &settings.region {
            filters.set_region(region.clone());
        }
        let session = new_session(client, KeystoneAuth(authenticator.clone())).await?;
        let session = session
            .with_endpoint_filters(filters)
            .with_endpoint_overrides(settings.overrides.clone().into_iter().collect());
        Ok(Transport(Arc::new(Inner { session, authenticator: Some(authenticator), sent })))
    }

    /// Without Keystone: for our own API when it asks for no token.
    pub(crate) async fn without_token(client: Client) -> Result<Transport, Error> {
        let session = new_session(client, openstack::auth::NoAuth::new_without_endpoint()).await?;
        Ok(Transport(Arc::new(Inner { session, authenticator: None, sent: Arc::default() })))
    }

    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(crate) fn sent(&self) -> &AtomicU64 {
        &self.0.sent
    }

    /// A service's endpoint, from clouds.yaml or the present token's catalog. The session's own cache of endpoints is
    /// passed by: it would outlive a change of the catalog.
    pub(crate) async fn endpoint(&self, service: ServiceType) -> Result<Url, Error> {
        let name = service.catalog_type();
        if let Some(url) = self.0.session.endpoint_overrides().get(name) {
            return Ok(url.clone());
        }
        match &self.0.authenticator {
            Some(authenticator) => authenticator.endpoint(name, self.0.session.endpoint_filters()).await,
            None => Err(Error::Config(format!(
                "without a login there is no catalog to find {name} in: give its URL"
            ))),
        }
    }

    /// Whether this cloud has the service at all, as far as clouds.yaml and the catalog say.
    pub(crate) async fn is_listed(&self, service: ServiceType) -> Result<bool, Error> {
        let name = service.catalog_type();
        if self.0.session.endpoint_overrides().contains_key(name) {
            return Ok(true);
        }
        match &self.0.authenticator {
            Some(authenticator) => authenticator.is_listed(name, self.0.session.endpoint_filters()).await,
            None => Ok(false),
        }
    }

    /// The project of our token.
    pub(crate) async fn project_id(&self) -> Result<Option<String>, Error> {
        match &self.0.authenticator {
            Some(authenticator) => authenticator.project_id().await,
            None => Ok(None),
        }
    }

    /// Sends once; after a 401 once more with a new token.
    pub(crate) async fn send(&self, outgoing: &Outgoing) -> Result<Reply, Error> {
        let call = outgoing.call();
        let (mut answered, used) = self.attempt(outgoing, &call).await?;
        if answered.status == 401
            && let (Some(authenticator), Some(used)) = (&self.0.authenticator, used)
        {
            tracing::info!(call, "token refused, asking for a new one");
            authenticator.refused(&used);
            answered = self.attempt(outgoing, &call).await?.0;
        }
        match answered.status {
            200..=299 => Ok(Reply { call, answered }),
            401 => Err(self.unauthorised(call, &answered)),
            _ => Err(answered.error(call)),
        }
    }

    async fn attempt(
        &self,
        outgoing: &Outgoing,
        call: &str,
    ) -> Result<(Answered, Option<HeaderValue>), Error> {
        let session = &self.0.session;
        let client = session.client().inner();
        let token = match &self.0.authenticator {
            Some(authenticator) => Some(authenticator.header().await?),
            None => None,
        };
        let mut request = client.request(outgoing.method.clone(), outgoing.url.clone());
        request = request.headers(outgoing.headers.clone()).header(http::header::ACCEPT, "application/json");
        if let Some(token) = &token {
            request = request.header(TOKEN, token.clone());
        }
        if let Some(body) = &outgoing.body {
            request = request.json(body);
        }
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let result = read_answer(call, request.send().await).await;
        match &result {
            Ok(answered) => tracing::debug!(
                call,
                status = answered.status,
                request_id = answered.request_id(),
                milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                "answered"
            ),
            Err(error) => tracing::debug!(call, %error, "no answer"),
        }
        Ok((result?, token))
    }

    fn unauthorised(&self, call: String, answered: &Answered) -> Error {
        let message = answered.error(call.clone());
        match &self.0.authenticator {
            Some(authenticator) => Error::Auth {
                reason: format!("a token fresh from Keystone was {message}"),
                remedy: format!(
                    "does the service use the same Keystone (its [keystone_authtoken])? Otherwise {}",
                    authenticator.remedy()
                ),
            },
            None => Error::Auth {
                reason: message.to_string(),
                remedy: "this service wants a token: name a cloud (OS_CLOUD, or [openstack])".into(),
            },
        }
    }
}

async fn new_session<A: openstack::auth::AuthType + 'static>(
    client: Client,
    auth: A,
) -> Result<Session, Error> {
    Session::new_with_client(client, auth).await.map_err(|error| Error::Config(error.to_string()))
}

/// A path under an endpoint; each segment is encoded, so an id from outside cannot leave its place.
pub(crate) fn join(base: &Url, segments: &[&str], query: &[(&str, String)]) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_queries_are_encoded() {
        let base = Url::parse("http://nova/v2.1/").unwrap();
        let url = join(&base, &["servers", "a/../b c"], &[("host", "x&y=z".to_owned())]);
        assert_eq!(url.as_str(), "http://nova/v2.1/servers/a%2F..%2Fb%20c?host=x%26y%3Dz");
    }

    #[test]
    fn dots_do_not_climb() {
        // url drops "." and ".." segments: the path then names the collection, never another resource.
        let base = Url::parse("http://nova/v2.1").unwrap();
        assert_eq!(join(&base, &["servers", ".."], &[]).path(), "/v2.1/servers");
    }
}

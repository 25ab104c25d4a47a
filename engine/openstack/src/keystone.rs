//! Keystone, for the tokens that clients of our own API show us.
//!
//! Checked in process, so no middleware stands before us. A token is remembered by its SHA-256, never as itself, and
//! for a short time only: a revoked one is good for at most that long. While Keystone is away the remembered ones go
//! on, and of all others nobody can say anything.

mod memory;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use http::{HeaderValue, Method};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::session::{Authenticator, ServiceType};
use crate::transport::{Outgoing, Transport};
use memory::{Key, Memory, Next, Question, VALID};

/// Longest token sent on to Keystone: a fernet token has about 250 characters, a JWS one under 2,000.
const LONGEST: usize = 8192;

/// What Keystone said of a token; none: it does not know it (any more).
type Found = Option<Arc<ValidToken>>;

/// Keystone's API. Cheap to clone; clones share the memory of tokens.
#[derive(Clone)]
pub struct Keystone {
    transport: Transport,
    authenticator: Arc<Authenticator>,
    memory: Arc<Mutex<Memory>>,
    clock: fn() -> Instant,
}

impl fmt::Debug for Keystone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keystone").finish_non_exhaustive()
    }
}

/// An id with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
}

/// Whose token it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenUser {
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// The user's domain.
    pub domain: Reference,
}

/// The project it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenProject {
    /// The project's id.
    pub id: String,
    /// The project's name.
    pub name: String,
    /// The project's domain.
    pub domain: Reference,
}

/// What Keystone says of a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidToken {
    /// Whose it is.
    pub user: TokenUser,
    /// The project it is for, if any.
    pub project: Option<TokenProject>,
    /// Role names there.
    pub roles: Vec<String>,
    /// It is for the whole system.
    pub system_scope: bool,
    /// The domain it is for, if any (not the user's).
    pub domain: Option<Reference>,
    /// When it ends.
    pub expires: DateTime<Utc>,
}

impl ValidToken {
    /// Whether it carries a role, whose names Keystone compares without case.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own.eq_ignore_ascii_case(role))
    }
}

#[derive(Deserialize)]
struct Shown {
    token: ShownToken,
}

#[derive(Deserialize)]
struct ShownToken {
    user: TokenUser,
    #[serde(default)]
    project: Option<TokenProject>,
    #[serde(default)]
    roles: Vec<Reference>,
    #[serde(default)]
    system: Option<System>,
    #[serde(default)]
    domain: Option<Reference>,
    expires_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

impl From<ShownToken> for ValidToken {
    fn from(token: ShownToken) -> Self {
        ValidToken {
            user: token.user,
            project: token.project,
            roles: token.roles.into_iter().map(|role| role.name).collect(),
            system_scope: token.system.is_some_and(|system| system.all),
            domain: token.domain,
            expires: token.expires_at,
        }
    }
}

impl Keystone {
    pub(crate) fn new(transport: Transport, authenticator: Arc<Authenticator>) -> Keystone {
        Keystone { transport, authenticator, memory: Arc::default(), clock: Instant::now }
    }

    /// The same with another monotonic clock, and a memory of its own: for tests of what time does to it.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> Instant) -> Keystone {
        Keystone { memory: Arc::default(), clock, ..self }
    }

    /// Where tokens are to be had: what a 401 of ours names.
    #[must_use]
    pub fn auth_url(&self) -> String {
        let url = self.authenticator.token_url().as_str();
        url.strip_suffix("/auth/tokens").unwrap_or(url).to_owned()
    }

    /// Who shows us this token; none if Keystone does not know it (any more). A token restricted by access rules is
    /// refused by Keystone for us, as we do not claim to understand those.
    ///
    /// Errors: [`Error::Unavailable`] whenever Keystone gave no verdict, our own login having failed included.
    pub async fn validate(&self, token: &str) -> Result<Option<Arc<ValidToken>>, Error> {
        self.find(token, false).await
    }

    /// The same for a token that may have expired lately (`allow_expired`; Keystone's own window, two days, bounds it). Only for
    /// a request that another service carries out for a user and vouches for with a token of its own. A revoked
    /// token stays refused.
    ///
    /// Errors: as [`Keystone::validate`].
    pub async fn validate_expired(&self, token: &str) -> Result<Option<Arc<ValidToken>>, Error> {
        self.find(token, true).await
    }

    async fn find(&self, token: &str, allow_expired: bool) -> Result<Found, Error> {
        if token.is_empty() || token.len() > LONGEST {
            return Ok(None);
        }
        let Ok(mut subject) = HeaderValue::from_str(token) else { return Ok(None) };
        subject.set_sensitive(true);
        let key = Key { digest: Sha256::digest(token).into(), allow_expired };
        let question = match self.remembered(|memory| memory.next(key, (self.clock)())) {
            Next::Answer(found) => return Ok(found),
            Next::Ask(question) => Waiting { keystone: self, key, question },
        };
        // Whoever comes first asks for all; if its client hangs up meanwhile, the next one asks.
        question.question.get_or_init(|| self.ask(subject, key)).await.clone()
    }

    async fn ask(&self, subject: HeaderValue, key: Key) -> Result<Found, Error> {
        let mut url = self.authenticator.token_url().clone();
        url.set_query(Some(if key.allow_expired { "nocatalog&allow_expired=1" } else { "nocatalog" }));
        let mut outgoing = Outgoing::new(ServiceType::Identity, Method::GET, url);
        outgoing.headers.insert("x-subject-token", subject);
        let found = match self.transport.send(&outgoing).await {
            Ok(reply) => {
                let shown: Shown = reply.json().map_err(unavailable)?;
                Some(Arc::new(ValidToken::from(shown.token)))
            }
            Err(Error::NotFound(_)) => None,
            Err(error) => return Err(unavailable(error)),
        };
        let left = found.as_ref().map_or(Duration::ZERO, |token| left(token, key.allow_expired));
        self.remembered(|memory| memory.remember(key, found.clone(), left, (self.clock)()));
        Ok(found)
    }

    fn remembered<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Somebody who waits for an answer; leaving, it takes an answered or forsaken question off the list.
struct Waiting<'k> {
    keystone: &'k Keystone,
    key: Key,
    question: Question,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.keystone.remembered(|memory| memory.done(self.key, &self.question));
    }
}

/// How long Keystone's word on a token may be kept. It has just called the token valid; a clock of ours that runs ahead only makes
/// us ask more often.
#[expect(
    clippy::disallowed_methods,
    reason = "Keystone tells the end of a token by the wall clock; this bounds a cache, never a deed"
)]
fn left(token: &ValidToken, allow_expired: bool) -> Duration {
    if allow_expired { VALID } else { (token.expires - Utc::now()).to_std().unwrap_or_default() }
}

/// No verdict is no fault of the client's: it may come again.
fn unavailable(error: Error) -> Error {
    let (status, retry_after) = (error.status(), error.retry_after());
    let request_id = error.request_id().map(str::to_owned);
    match error {
        unavailable @ Error::Unavailable { .. } => unavailable,
        other => Error::Unavailable {
            call: "identity GET /v3/auth/tokens".into(),
            reason: format!("no verdict on the token: {other}"),
            status,
            retry_after,
            request_id,
        },
    }
}

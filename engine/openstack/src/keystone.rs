//! Keystone, for the tokens that clients of our own API show us.
//!
//! Checked in process, so no middleware stands before us. A token is remembered by its SHA-256, never as itself, and
//! for a short time only: a revoked one is good for at most that long.

use std::collections::HashMap;
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

/// How long a valid token is believed without asking again: what a revocation takes to reach us. A busy client costs
/// Keystone one request a minute; keystonemiddleware's default is five minutes.
const VALID: Duration = Duration::from_secs(60);

/// How long a refused one is refused without asking again; short, as a token may be shown before all of Keystone's
/// nodes know it.
const INVALID: Duration = Duration::from_secs(5);

/// Tokens remembered. A flood of made-up ones empties the memory instead of growing it.
const REMEMBERED: usize = 4096;

/// Longest token sent on to Keystone: a fernet token has about 250 characters, a JWS one under 2,000.
const LONGEST: usize = 8192;

/// Keystone's API. Cheap to clone; clones share the memory of tokens.
#[derive(Clone)]
pub struct Keystone {
    transport: Transport,
    authenticator: Arc<Authenticator>,
    known: Arc<Mutex<HashMap<[u8; 32], Known>>>,
}

struct Known {
    until: Instant,
    token: Option<Arc<ValidToken>>,
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
        Keystone { transport, authenticator, known: Arc::default() }
    }

    /// Who shows us this token; none if Keystone does not know it (any more). A token restricted by access rules is
    /// refused by Keystone for us, as we do not claim to understand those.
    ///
    /// Errors: [`Error::Unavailable`] whenever Keystone gave no verdict, our own login having failed included.
    pub async fn validate(&self, token: &str) -> Result<Option<Arc<ValidToken>>, Error> {
        if token.is_empty() || token.len() > LONGEST {
            return Ok(None);
        }
        let Ok(mut subject) = HeaderValue::from_str(token) else { return Ok(None) };
        subject.set_sensitive(true);
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.recall(&digest) {
            return Ok(known);
        }
        let found = self.ask(subject).await?;
        self.remember(digest, found.clone());
        Ok(found)
    }

    async fn ask(&self, subject: HeaderValue) -> Result<Option<Arc<ValidToken>>, Error> {
        let mut url = self.authenticator.token_url().clone();
        url.set_query(Some("nocatalog"));
        let mut outgoing = Outgoing::new(ServiceType::Identity, Method::GET, url);
        outgoing.headers.insert("x-subject-token", subject);
        match self.transport.send(&outgoing).await {
            Ok(reply) => {
                let shown: Shown = reply.json().map_err(unavailable)?;
                Ok(Some(Arc::new(shown.token.into())))
            }
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(unavailable(error)),
        }
    }

    fn recall(&self, digest: &[u8; 32]) -> Option<Option<Arc<ValidToken>>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).filter(|known| Instant::now() < known.until).map(|known| known.token.clone())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "Keystone tells the end of a token by the wall clock; this bounds a cache, never a deed"
    )]
    fn remember(&self, digest: [u8; 32], token: Option<Arc<ValidToken>>) {
        let now = Instant::now();
        let lifetime = match &token {
            // Keystone has just called it valid; a clock of ours that runs ahead only makes us ask more often.
            Some(token) => VALID.min((token.expires - Utc::now()).to_std().unwrap_or_default()),
            None => INVALID,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(digest, Known { until: now + lifetime, token });
    }
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

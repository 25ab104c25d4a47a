//! Keystone: users with roles, tokens with an end, and the cache by which Nova outlives its absence.

use super::World;
use crate::chance::Chance;
use crate::reply::{Refusal, Reply};
use std::collections::HashMap;

/// How long Nova's middleware trusts a token it has seen (`token_cache_time`).
const TOKEN_CACHE_MS: u64 = 300_000;

/// Who asks for a token.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name (or id) and password, optionally scoped to a project by name or id.
    Password { user: String, password: String, project: Option<String> },
    /// Application credential by id and secret.
    ApplicationCredential { id: String, secret: String },
    /// A token given before, for another scope (a dashboard logs in without one, then asks for a project).
    Token { id: String, project: Option<String> },
}

/// How far a token reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One project: the one asked for, or the user's own.
    Project,
    /// The whole cloud; only operators have roles there.
    System,
    /// Nothing but Keystone itself.
    Unscoped,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, project, .. } => write!(f, "Password({user}, {project:?}, ***)"),
            Self::ApplicationCredential { id, .. } => write!(f, "ApplicationCredential({id}, ***)"),
            Self::Token { project, .. } => write!(f, "Token(***, {project:?})"),
        }
    }
}

/// An issued token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What goes into `X-Auth-Token`.
    pub id: String,
    /// Whose; project and roles are empty without a scope that gives them.
    pub caller: Caller,
    /// How far it reaches.
    pub scope: Scope,
    /// Issued, milliseconds of virtual time.
    pub issued_at: u64,
    /// No longer good from here on.
    pub expires_at: u64,
}

/// A user as services see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Id of the user.
    pub user_id: String,
    /// Name of the user.
    pub user: String,
    /// Id of the project.
    pub project_id: String,
    /// Name of the project.
    pub project: String,
    /// Role names.
    pub roles: Vec<String>,
}

impl Caller {
    /// Whether the caller has the role.
    pub fn has(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

#[derive(Debug)]
struct User {
    id: String,
    name: &'static str,
    password: String,
    project: usize,
    roles: &'static [&'static str],
    app_credential: (String, String),
}

/// Keystone's state.
#[derive(Debug)]
pub(super) struct Keystone {
    users: Vec<User>,
    /// Id and name; the first is the operators'.
    projects: Vec<(String, String)>,
    tokens: HashMap<String, Token>,
    cached: HashMap<String, u64>,
    pub(super) down_until: u64,
}

/// Name, roles, and whether in the operators' project. Each user's password is the name with `-secret`.
const USERS: [(&str, &[&str], usize); 6] = [
    ("admin", &["admin", "manager", "member", "reader"], 0),
    ("halberd", &["admin", "member", "reader"], 0),
    ("monitor", &["service"], 0),
    ("manager", &["manager", "member", "reader"], 0),
    ("tenant", &["member", "reader"], 1),
    ("auditor", &["reader"], 1),
];

impl Keystone {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let mut hex = || chance.uuid().simple().to_string();
        let mut projects = vec![(hex(), "admin".to_owned())];
        projects.extend(["blue", "green", "red"].map(|name| (hex(), name.to_owned())));
        let users = USERS
            .iter()
            .map(|(name, roles, project)| User {
                id: hex(),
                name,
                password: format!("{name}-secret"),
                project: *project,
                roles,
                app_credential: (hex(), format!("{name}-app-secret")),
            })
            .collect();
        Self { users, projects, tokens: HashMap::new(), cached: HashMap::new(), down_until: 0 }
    }

    /// A tenant project's id, dealt out in turn.
    pub(super) fn tenant(&self, number: usize) -> String {
        self.projects[1 + number % (self.projects.len() - 1)].0.clone()
    }

    pub(super) fn revoke_all(&mut self) {
        self.tokens.clear();
        self.cached.clear();
    }

    fn caller(&self, user: &User) -> Caller {
        let (project_id, project) = self.projects[user.project].clone();
        Caller {
            user_id: user.id.clone(),
            user: user.name.into(),
            project_id,
            project,
            roles: user.roles.iter().map(|role| (*role).to_owned()).collect(),
        }
    }
}

fn unauthorized() -> Refusal {
    Refusal::status(401, "The request you have made requires authentication.")
}

impl World {
    /// Whether Keystone answers.
    pub fn keystone_up(&mut self, now: u64) -> bool {
        self.advance(now);
        self.keystone.down_until <= self.now
    }

    fn keystone<T>(&mut self, now: u64, run: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Reply<T> {
        let latency = self.spec.api_latency_ms;
        if !self.keystone_up(now) {
            return Reply::new(latency, Err(Refusal::status(503, "Service Unavailable")));
        }
        Reply::new(latency, run(self))
    }

    /// `POST /v3/auth/tokens` for a project.
    ///
    /// # Errors
    /// 401 for wrong credentials or a project the user has no role in.
    pub fn authenticate(&mut self, now: u64, credentials: &Credentials) -> Reply<Token> {
        self.authenticate_for(now, credentials, Scope::Project)
    }

    /// `POST /v3/auth/tokens`. A project named in the credentials counts only for the scope of one.
    ///
    /// # Errors
    /// 401 for wrong credentials or a scope the user has no role in.
    pub fn authenticate_for(&mut self, now: u64, credentials: &Credentials, scope: Scope) -> Reply<Token> {
        self.keystone(now, |world| {
            let keystone = &world.keystone;
            let rescoped = match credentials {
                Credentials::Token { id, .. } => {
                    Some(world.known_token(id).ok_or_else(unauthorized)?.caller.user_id)
                }
                _ => None,
            };
            let user = keystone.users.iter().find(|user| {
                let has = |project: &Option<String>| {
                    let (id, name) = &keystone.projects[user.project];
                    project.as_ref().is_none_or(|asked| asked == id || asked == name)
                };
                match credentials {
                    Credentials::Password { user: name, password, project } => {
                        (user.name == name || user.id == *name) && user.password == *password && has(project)
                    }
                    Credentials::ApplicationCredential { id, secret } => {
                        user.app_credential.0 == *id && user.app_credential.1 == *secret
                    }
                    Credentials::Token { project, .. } => rescoped.as_ref() == Some(&user.id) && has(project),
                }
            });
            let user = user.filter(|user| scope != Scope::System || user.project == 0);
            let mut caller = keystone.caller(user.ok_or_else(unauthorized)?);
            if scope != Scope::Project {
                (caller.project_id, caller.project) = Default::default();
            }
            if scope == Scope::Unscoped {
                caller.roles.clear();
            }
            let token = Token {
                id: format!("sim{}{}", world.chance.uuid().simple(), world.chance.uuid().simple()),
                caller,
                scope,
                issued_at: world.now,
                expires_at: world.now + world.spec.token_lifetime_ms,
            };
            world.keystone.tokens.insert(token.id.clone(), token.clone());
            Ok(token)
        })
    }

    /// `GET /v3/auth/tokens` for a subject token.
    ///
    /// # Errors
    /// 404 for a token that is unknown, expired or revoked.
    pub fn validate(&mut self, now: u64, subject: &str) -> Reply<Token> {
        self.keystone(now, |world| {
            world.known_token(subject).ok_or_else(|| Refusal::status(404, "Could not find token."))
        })
    }

    /// `DELETE /v3/auth/tokens`.
    pub fn revoke(&mut self, now: u64, subject: &str) -> Reply<()> {
        self.keystone(now, |world| {
            world.keystone.tokens.remove(subject);
            world.keystone.cached.remove(subject);
            Ok(())
        })
    }

    fn known_token(&self, id: &str) -> Option<Token> {
        self.keystone.tokens.get(id).filter(|token| token.expires_at > self.now).cloned()
    }

    /// How Nova and Placement see a token: with Keystone down only one seen in the last five minutes is good.
    ///
    /// # Errors
    /// 401 for a bad token, 503 when Keystone cannot be asked.
    pub fn accept_token(&mut self, now: u64, token: Option<&str>) -> Result<Caller, Refusal> {
        let up = self.keystone_up(now);
        let id = token.ok_or_else(unauthorized)?;
        let cached = self.keystone.cached.get(id).is_some_and(|until| *until > self.now);
        if !up && !cached {
            return Err(Refusal::status(503, "The Keystone service is temporarily unavailable."));
        }
        let token = self.known_token(id).ok_or_else(unauthorized)?;
        if up {
            self.keystone.cached.insert(id.to_owned(), self.now + TOKEN_CACHE_MS);
        }
        Ok(token.caller)
    }

    /// Password credentials of one of the users `admin`, `halberd` (admin), `monitor` (service), `manager`, `tenant` (member), `auditor` (reader).
    pub fn credentials(&self, user: &str) -> Option<Credentials> {
        let user = self.keystone.users.iter().find(|it| it.name == user)?;
        Some(Credentials::Password {
            user: user.name.into(),
            password: user.password.clone(),
            project: Some(self.keystone.projects[user.project].1.clone()),
        })
    }

    /// The application credential of the same users.
    pub fn application_credential(&self, user: &str) -> Option<Credentials> {
        let user = self.keystone.users.iter().find(|it| it.name == user)?;
        let (id, secret) = user.app_credential.clone();
        Some(Credentials::ApplicationCredential { id, secret })
    }

    /// All users, each with the one project it has roles in.
    pub fn users(&self) -> Vec<Caller> {
        self.keystone.users.iter().map(|user| self.keystone.caller(user)).collect()
    }

    /// All projects as id and name; the first is the operators'.
    pub fn projects(&self) -> &[(String, String)] {
        &self.keystone.projects
    }
}

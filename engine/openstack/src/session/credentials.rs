//! A login as Keystone's v3 API wants it.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::Error;

/// Everything needed to ask for a token.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) auth_url: Url,
    pub(crate) method: Method,
    pub(crate) scope: Scope,
    /// Where these stand, for the reader of an error.
    pub(crate) origin: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Method {
    Password {
        user: Named,
        password: Secret,
    },
    /// By id, or by name together with its user.
    ApplicationCredential {
        credential: Named,
        user: Option<Named>,
        secret: Secret,
    },
}

/// What the token is for. An application credential brings its own project.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    None,
    Project(Named),
    Domain(Domain),
    System,
}

/// A user or project, by id or by name within a domain.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    Id(String),
    Name { name: String, domain: Domain },
}

#[derive(Clone, Debug)]
pub(crate) enum Domain {
    Id(String),
    Name(String),
}

impl Default for Domain {
    /// Keystone's bootstrap makes the domain `default`; the other clients assume it as well.
    fn default() -> Self {
        Domain::Id("default".into())
    }
}

/// A secret, or the file that holds it. A file is read at each use, so that a rotation needs no restart.
#[derive(Clone, Debug)]
pub(crate) enum Secret {
    Inline(SecretString),
    File(PathBuf),
}

impl Secret {
    fn expose(&self) -> Result<SecretString, Error> {
        match self {
            Secret::Inline(secret) => Ok(secret.clone()),
            Secret::File(path) => match std::fs::read_to_string(path) {
                Ok(text) if text.trim().is_empty() => {
                    Err(Error::Config(format!("the secret file {} is empty", path.display())))
                }
                Ok(text) => Ok(SecretString::from(text.trim_end_matches(['\r', '\n']))),
                Err(error) => {
                    Err(Error::Config(format!("cannot read the secret file {}: {error}", path.display())))
                }
            },
        }
    }

    /// What an operator should look at.
    fn place(&self) -> String {
        match self {
            Secret::Inline(_) => "the secret".into(),
            Secret::File(path) => format!("the secret in {}", path.display()),
        }
    }
}

impl Domain {
    fn body(&self) -> Value {
        match self {
            Domain::Id(id) => json!({ "id": id }),
            Domain::Name(name) => json!({ "name": name }),
        }
    }
}

impl Named {
    fn body(&self) -> Value {
        match self {
            Named::Id(id) => json!({ "id": id }),
            Named::Name { name, domain } => json!({ "name": name, "domain": domain.body() }),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Id(id) => write!(f, "domain id {id}"),
            Domain::Name(name) => write!(f, "domain {name}"),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Id(id) => write!(f, "id {id}"),
            Named::Name { name, domain } => write!(f, "{name} of {domain}"),
        }
    }
}

impl Credentials {
    /// `POST …/auth/tokens`, whether or not the address ends in `/v3`.
    pub(crate) fn token_url(&self) -> Url {
        let mut url = self.auth_url.clone();
        url.set_query(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
        }
        let last = url.path_segments().and_then(Iterator::last).unwrap_or_default().to_owned();
        if let Ok(mut segments) = url.path_segments_mut() {
            match last.as_str() {
                "v3" => {}
                // A leftover of Keystone's former API; python clients move on to v3 as well.
                "v2.0" => {
                    segments.pop().push("v3");
                }
                _ => {
                    segments.push("v3");
                }
            }
            segments.push("auth").push("tokens");
        }
        url
    }

    /// The body of the request, secrets included: for the wire only.
    ///
    /// Errors: [`Error::Config`] when a secret's file cannot be read.
    pub(crate) fn body(&self) -> Result<Value, Error> {
        let identity = match &self.method {
            Method::Password { user, password } => {
                let mut user = user.body();
                user["password"] = json!(password.expose()?.expose_secret());
                json!({ "methods": ["password"], "password": { "user": user } })
            }
            Method::ApplicationCredential { credential, user, secret } => {
                let mut inner = match credential {
                    Named::Id(id) => json!({ "id": id }),
                    Named::Name { name, .. } => json!({ "name": name }),
                };
                if let Some(user) = user {
                    inner["user"] = user.body();
                }
                inner["secret"] = json!(secret.expose()?.expose_secret());
                json!({ "methods": ["application_credential"], "application_credential": inner })
            }
        };
        let mut auth = json!({ "identity": identity });
        match &self.scope {
            Scope::None => {}
            Scope::Project(project) => auth["scope"] = json!({ "project": project.body() }),
            Scope::Domain(domain) => auth["scope"] = json!({ "domain": domain.body() }),
            Scope::System => auth["scope"] = json!({ "system": { "all": true } }),
        }
        Ok(json!({ "auth": auth }))
    }

    /// Who asks, without secrets.
    pub(crate) fn subject(&self) -> String {
        let who = match &self.method {
            Method::Password { user, .. } => format!("user {user}"),
            Method::ApplicationCredential { credential: Named::Id(id), .. } => {
                format!("application credential id {id}")
            }
            Method::ApplicationCredential { credential: Named::Name { name, .. }, .. } => {
                format!("application credential {name}")
            }
        };
        match &self.scope {
            Scope::None => who,
            Scope::Project(project) => format!("{who} for project {project}"),
            Scope::Domain(domain) => format!("{who} for {domain}"),
            Scope::System => format!("{who} for the system"),
        }
    }

    /// What to mend when Keystone refuses these. It gives one answer for a wrong name, domain, project or secret.
    pub(crate) fn remedy(&self) -> String {
        let (names, secret) = match &self.method {
            Method::Password { password, .. } => ("user, project, their domains", password),
            Method::ApplicationCredential { secret, .. } => {
                ("the application credential (expired or deleted?)", secret)
            }
        };
        format!("check {names} and {} in {}", secret.place(), self.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(url: &str, method: Method, scope: Scope) -> Credentials {
        Credentials { auth_url: Url::parse(url).unwrap(), method, scope, origin: "[openstack]".into() }
    }

    fn secret() -> Secret {
        Secret::Inline(SecretString::from("hunter2"))
    }

    #[test]
    fn the_token_url_bears_v3_once() {
        let cases = [
            ("http://k:5000", "http://k:5000/v3/auth/tokens"),
            ("http://k:5000/", "http://k:5000/v3/auth/tokens"),
            ("http://k:5000/v3", "http://k:5000/v3/auth/tokens"),
            ("http://k:5000/v3/", "http://k:5000/v3/auth/tokens"),
            ("http://k/identity", "http://k/identity/v3/auth/tokens"),
            ("http://k/identity/v2.0", "http://k/identity/v3/auth/tokens"),
            ("http://[fd00::1]:5000/v3", "http://[fd00::1]:5000/v3/auth/tokens"),
        ];
        for (auth_url, expected) in cases {
            let method = Method::Password { user: Named::Id("u".into()), password: secret() };
            assert_eq!(credentials(auth_url, method, Scope::None).token_url().as_str(), expected);
        }
    }

    #[test]
    fn bodies_are_keystones() {
        let user = Named::Name { name: "u".into(), domain: Domain::Name("d".into()) };
        let project = Scope::Project(Named::Id("p1".into()));
        let body =
            credentials("http://k", Method::Password { user, password: secret() }, project).body().unwrap();
        assert_eq!(
            body,
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {"name": "u", "domain": {"name": "d"}, "password": "hunter2"}}},
                "scope": {"project": {"id": "p1"}}
            }})
        );
        let method =
            Method::ApplicationCredential { credential: Named::Id("c".into()), user: None, secret: secret() };
        assert_eq!(
            credentials("http://k", method, Scope::None).body().unwrap(),
            json!({"auth": {"identity": {"methods": ["application_credential"],
                "application_credential": {"id": "c", "secret": "hunter2"}}}})
        );
    }

    #[test]
    fn a_secret_file_is_read_at_each_use_and_its_faults_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let secret = Secret::File(path.clone());
        assert!(secret.expose().unwrap_err().to_string().contains("secret"));
        std::fs::write(&path, "one two \n").unwrap();
        assert_eq!(secret.expose().unwrap().expose_secret(), "one two ");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(secret.expose().unwrap().expose_secret(), "three");
        std::fs::write(&path, "\n").unwrap();
        assert!(secret.expose().unwrap_err().to_string().contains("empty"));
    }
}

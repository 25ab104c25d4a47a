//! `[openstack]` and what it comes to: one cloud of clouds.yaml, or the same in our own file, never both.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

use super::clouds::{self, Places};
use super::credentials::{Credentials, Domain, Method, Named, Scope, Secret};
use crate::Error;

/// `[openstack]` of the configuration. Either `cloud`, or `auth_url` with a password or an application credential.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenstackConfig {
    /// Name of a cloud in clouds.yaml.
    pub cloud: Option<String>,
    /// Keystone, e.g. `https://keystone:5000/v3`.
    pub auth_url: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The user's password; better `password_file` or the environment.
    pub password: Option<SecretString>,
    /// File with the password; read again at every authentication, so that a rotation needs no restart.
    pub password_file: Option<PathBuf>,
    /// The project that the token is for.
    pub project_name: Option<String>,
    /// Domain of the user, default `Default`.
    pub user_domain_name: Option<String>,
    /// Domain of the project, default `Default`.
    pub project_domain_name: Option<String>,
    /// Application credential, instead of user and project.
    pub application_credential_id: Option<String>,
    /// File with its secret; read again at every authentication.
    pub application_credential_secret_file: Option<PathBuf>,
    /// Region of the endpoints; needed when the catalog has several.
    pub region: Option<String>,
    /// Which endpoints to use, default `public`.
    pub interface: Option<Interface>,
    /// PEM file of certificate authorities trusted besides the system's.
    pub cacert: Option<PathBuf>,
}

/// Which of a service's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interface {
    /// For users of the cloud.
    #[default]
    Public,
    /// For its services.
    Internal,
    /// For its operators.
    Admin,
}

impl Interface {
    /// Reads `internal` and the older `internalURL` alike.
    pub(super) fn parse(text: &str) -> Option<Interface> {
        match text.strip_suffix("URL").unwrap_or(text) {
            "public" => Some(Interface::Public),
            "internal" => Some(Interface::Internal),
            "admin" => Some(Interface::Admin),
            _ => None,
        }
    }
}

/// Trust of the session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) cacert: Option<PathBuf>,
    pub(crate) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) insecure: bool,
}

/// `[openstack]` resolved: nothing left to look up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) credentials: Credentials,
    pub(crate) region: Option<String>,
    pub(crate) interface: Interface,
    pub(crate) tls: Tls,
    /// Endpoints that clouds.yaml fixes (`compute_endpoint_override`), by catalog type.
    pub(crate) overrides: BTreeMap<String, Url>,
}

impl OpenstackConfig {
    /// Whether anything is set at all.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.cloud.is_some() || self.auth_url.is_some()
    }

    pub(crate) fn resolve(&self, places: &Places) -> Result<Settings, Error> {
        let mut settings = match &self.cloud {
            Some(cloud) => {
                self.refuse_beside_cloud()?;
                clouds::load(cloud, places)?
            }
            None => self.own()?,
        };
        if let Some(region) = &self.region {
            settings.region = Some(region.clone());
        }
        if let Some(interface) = self.interface {
            settings.interface = interface;
        }
        if let Some(cacert) = &self.cacert {
            settings.tls.cacert = Some(cacert.clone());
        }
        Ok(settings)
    }

    fn refuse_beside_cloud(&self) -> Result<(), Error> {
        let set = [
            ("auth_url", self.auth_url.is_some()),
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("password_file", self.password_file.is_some()),
            ("project_name", self.project_name.is_some()),
            ("user_domain_name", self.user_domain_name.is_some()),
            ("project_domain_name", self.project_domain_name.is_some()),
            ("application_credential_id", self.application_credential_id.is_some()),
            ("application_credential_secret_file", self.application_credential_secret_file.is_some()),
        ];
        match set.iter().find(|(_, set)| *set) {
            Some((name, _)) => Err(Error::Config(format!(
                "[openstack] has both cloud and {name}: with a cloud of clouds.yaml, all of the login stands there"
            ))),
            None => Ok(()),
        }
    }

    fn own(&self) -> Result<Settings, Error> {
        let auth_url = self.auth_url.as_deref().ok_or_else(|| {
            Error::Config(
                "[openstack] is empty: set cloud (a name in clouds.yaml), or auth_url with a login".into(),
            )
        })?;
        let (method, scope) = match &self.application_credential_id {
            Some(id) => (self.application_credential(id)?, Scope::None),
            None => (self.password_method()?, self.project()?),
        };
        Ok(Settings {
            credentials: Credentials {
                auth_url: parse_url("[openstack] auth_url", auth_url)?,
                method,
                scope,
                origin: "[openstack]".into(),
            },
            region: None,
            interface: Interface::default(),
            tls: Tls::default(),
            overrides: BTreeMap::new(),
        })
    }

    fn application_credential(&self, id: &str) -> Result<Method, Error> {
        let file = self.application_credential_secret_file.clone().ok_or_else(|| {
            Error::Config(
                "[openstack] application_credential_id wants application_credential_secret_file".into(),
            )
        })?;
        if self.username.is_some() || self.password.is_some() || self.password_file.is_some() {
            return Err(Error::Config(
                "[openstack] has an application credential and a username or password: keep one".into(),
            ));
        }
        Ok(Method::ApplicationCredential {
            credential: Named::Id(id.to_owned()),
            user: None,
            secret: Secret::File(file),
        })
    }

    fn password_method(&self) -> Result<Method, Error> {
        let name = self.username.clone().ok_or_else(|| {
            Error::Config(
                "[openstack] auth_url wants username and password_file, or application_credential_id".into(),
            )
        })?;
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                return Err(Error::Config(
                    "[openstack] has both password and password_file: keep one".into(),
                ));
            }
            (Some(password), None) => Secret::Inline(password.clone()),
            (None, Some(file)) => Secret::File(file.clone()),
            (None, None) => {
                return Err(Error::Config("[openstack] username wants password_file (or password)".into()));
            }
        };
        Ok(Method::Password {
            user: Named::Name { name, domain: domain(self.user_domain_name.as_ref()) },
            password,
        })
    }

    fn project(&self) -> Result<Scope, Error> {
        let name = self.project_name.clone().ok_or_else(|| {
            Error::Config(
                "[openstack] wants project_name: without a project Keystone gives no catalog".into(),
            )
        })?;
        Ok(Scope::Project(Named::Name { name, domain: domain(self.project_domain_name.as_ref()) }))
    }
}

fn domain(name: Option<&String>) -> Domain {
    name.map_or_else(Domain::default, |name| Domain::Name(name.clone()))
}

pub(super) fn parse_url(what: &str, text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|error| Error::Config(format!("{what} {text:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Error::Config(format!("{what} {text:?} is no http or https URL")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Settings, Error> {
        toml::from_str::<OpenstackConfig>(text).unwrap().resolve(&Places::default())
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<OpenstackConfig>("pasword = 'x'").unwrap_err().to_string();
        assert!(error.contains("pasword") && error.contains("password"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let base = "auth_url = 'http://k/v3'\n";
        let cases = [
            (String::new(), "cloud"),
            (base.to_owned(), "username"),
            (format!("{base}username = 'u'"), "password_file"),
            (format!("{base}username = 'u'\npassword = 'p'"), "project_name"),
            (
                format!("{base}username = 'u'\npassword = 'p'\npassword_file = '/f'\nproject_name = 'x'"),
                "both password",
            ),
            (format!("{base}application_credential_id = 'i'"), "application_credential_secret_file"),
            (
                "auth_url = 'k:5000'\nusername = 'u'\npassword = 'p'\nproject_name = 'x'".to_owned(),
                "auth_url",
            ),
            ("cloud = 'c'\npassword = 'p'".to_owned(), "both cloud and password"),
        ];
        for (text, named) in cases {
            let error = resolve(&text).unwrap_err();
            assert!(matches!(&error, Error::Config(text) if text.contains(named)), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_never_shows() {
        let text = "auth_url = 'http://k/v3'\nusername = 'u'\npassword = 'hunter2'\nproject_name = 'x'";
        let config: OpenstackConfig = toml::from_str(text).unwrap();
        let settings = config.resolve(&Places::default()).unwrap();
        let shown = format!("{config:?} {settings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

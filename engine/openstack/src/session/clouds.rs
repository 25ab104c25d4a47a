//! clouds.yaml, as openstacksdk reads it: the file, secure.yaml merged over it, one cloud taken out.
//!
//! Differences, on purpose: an unknown `auth_type` is an error that lists ours, vendor profiles are not known, and
//! the parser's own text is not shown when a document cannot be read as it may quote a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;
use serde_yaml_ng::{Mapping, Value};

use super::config::{Interface, Settings, Tls, parse_url};
use super::credentials::{Credentials, Domain, Method, Named, Scope, Secret};
use crate::Error;

/// Where clouds.yaml and secure.yaml are looked for, first found first.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Candidates for clouds.yaml.
    pub clouds: Vec<PathBuf>,
    /// Candidates for secure.yaml, which may be missing.
    pub secure: Vec<PathBuf>,
}

impl Places {
    /// The usual ones: `OS_CLIENT_CONFIG_FILE` (`OS_CLIENT_SECURE_FILE`), then the working directory, the user's
    /// `openstack` configuration folder, and `/etc/openstack`.
    #[must_use]
    pub fn from_environment() -> Places {
        Places::from_variables(|name| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Places {
        let mut folders = vec![PathBuf::new()];
        let home = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
        folders.extend(home.map(|config| config.join("openstack")));
        folders.push(PathBuf::from("/etc/openstack"));
        let candidates = |named: Option<PathBuf>, stem: &str| {
            let usual = folders.iter().flat_map(|folder| {
                ["yaml", "yml", "json"].map(|extension| folder.join(format!("{stem}.{extension}")))
            });
            named.into_iter().chain(usual).collect()
        };
        Places {
            clouds: candidates(variable("OS_CLIENT_CONFIG_FILE"), "clouds"),
            secure: candidates(variable("OS_CLIENT_SECURE_FILE"), "secure"),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Cloud {
    auth_type: Option<String>,
    auth: Auth,
    region_name: Option<String>,
    interface: Option<String>,
    endpoint_type: Option<String>,
    cacert: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    verify: Option<bool>,
    insecure: Option<bool>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth_url: Option<String>,
    username: Option<String>,
    user_id: Option<String>,
    password: Option<SecretString>,
    user_domain_name: Option<String>,
    user_domain_id: Option<String>,
    #[serde(alias = "tenant_name")]
    project_name: Option<String>,
    #[serde(alias = "tenant_id")]
    project_id: Option<String>,
    project_domain_name: Option<String>,
    project_domain_id: Option<String>,
    domain_name: Option<String>,
    domain_id: Option<String>,
    default_domain: Option<String>,
    default_domain_name: Option<String>,
    default_domain_id: Option<String>,
    system_scope: Option<String>,
    application_credential_id: Option<String>,
    application_credential_name: Option<String>,
    application_credential_secret: Option<SecretString>,
}

/// Reads one cloud.
///
/// Errors: [`Error::Config`], naming the file, the cloud and the key.
pub(super) fn load(name: &str, places: &Places) -> Result<Settings, Error> {
    let path = places.clouds.iter().find(|path| path.is_file()).ok_or_else(|| {
        let tried: Vec<_> = places.clouds.iter().map(|path| path.display().to_string()).collect();
        Error::Config(format!(
            "[openstack] cloud = {name:?}, but there is no clouds.yaml (OS_CLIENT_CONFIG_FILE can name it); tried {}",
            tried.join(", ")
        ))
    })?;
    let mut document = read(path)?;
    if let Some(secure) = places.secure.iter().find(|path| path.is_file()) {
        merge(&mut document, read(secure)?);
    }
    let place = format!("cloud {name:?} of {}", path.display());
    let Some(Value::Mapping(clouds)) = document.get("clouds") else {
        return Err(Error::Config(format!("{} has no mapping `clouds`", path.display())));
    };
    let Some(cloud) = clouds.get(name) else {
        let known: Vec<_> = clouds.keys().filter_map(Value::as_str).collect();
        return Err(Error::Config(format!(
            "{} has no cloud {name:?}; it has: {}",
            path.display(),
            known.join(", ")
        )));
    };
    let cloud: Cloud = serde_yaml_ng::from_value(texts(cloud.clone()))
        .map_err(|_| Error::Config(format!("{place}: a value has the wrong type (text expected)")))?;
    settings(cloud, place)
}

fn read(path: &Path) -> Result<Mapping, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Config(format!("cannot read {}: {error}", path.display())))?;
    serde_yaml_ng::from_str(&text).map_err(|error| {
        let line = error.location().map(|at| format!(", line {}", at.line())).unwrap_or_default();
        Error::Config(format!("{}{line} is no YAML mapping", path.display()))
    })
}

/// Lays `over` upon `base`, mapping by mapping.
fn merge(base: &mut Mapping, over: Mapping) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Mapping(below)), Value::Mapping(above)) => merge(below, above),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Numbers under `auth` become text: an all-digit password or id is a number to YAML.
fn texts(mut cloud: Value) -> Value {
    if let Some(Value::Mapping(auth)) = cloud.get_mut("auth") {
        for value in auth.values_mut() {
            if let Value::Number(number) = value {
                *value = Value::String(number.to_string());
            }
        }
    }
    cloud
}

fn settings(cloud: Cloud, place: String) -> Result<Settings, Error> {
    let auth = &cloud.auth;
    let missing = |key: &str| Error::Config(format!("{place}: auth.{key} is missing"));
    let kind = cloud.auth_type.as_deref().unwrap_or("password");
    let (method, scope) = match kind {
        "password" | "v3password" => (auth.password_method(missing)?, auth.scope(missing)?),
        "v3applicationcredential" => (auth.credential_method(missing)?, Scope::None),
        other => {
            return Err(Error::Config(format!(
                "{place}: auth_type {other:?} is not known here; use password, v3password or v3applicationcredential"
            )));
        }
    };
    let interface = match cloud.interface.as_deref().or(cloud.endpoint_type.as_deref()) {
        None => Interface::default(),
        Some(text) => Interface::parse(text).ok_or_else(|| {
            Error::Config(format!("{place}: interface {text:?} is none of public, internal, admin"))
        })?,
    };
    let client_certificate = cloud.cert.clone().map(|cert| {
        let key = cloud.key.clone().unwrap_or_else(|| cert.clone());
        (cert, key)
    });
    let auth_url = auth.auth_url.as_deref().ok_or_else(|| missing("auth_url"))?;
    Ok(Settings {
        region: cloud.region_name.clone(),
        interface,
        tls: Tls {
            cacert: cloud.cacert.clone(),
            client_certificate,
            insecure: cloud.verify == Some(false) || cloud.insecure == Some(true),
        },
        overrides: overrides(&cloud.rest, &place)?,
        credentials: Credentials {
            auth_url: parse_url(&format!("{place}: auth_url"), auth_url)?,
            method,
            scope,
            origin: place,
        },
    })
}

/// `block_storage_endpoint_override: URL` becomes `block-storage`.
fn overrides(rest: &BTreeMap<String, Value>, place: &str) -> Result<BTreeMap<String, reqwest::Url>, Error> {
    let named = rest.iter().filter_map(|(key, value)| {
        Some((key, key.strip_suffix("_endpoint_override")?.replace('_', "-"), value.as_str()?))
    });
    named.map(|(key, service, url)| Ok((service, parse_url(&format!("{place}: {key}"), url)?))).collect()
}

impl Auth {
    fn domain(&self, id: Option<&String>, name: Option<&String>) -> Domain {
        let id_of = |id: &String| Domain::Id(id.clone());
        let name_of = |name: &String| Domain::Name(name.clone());
        id.map(id_of)
            .or_else(|| name.map(name_of))
            .or_else(|| self.default_domain_id.as_ref().or(self.default_domain.as_ref()).map(id_of))
            .or_else(|| self.default_domain_name.as_ref().map(name_of))
            .unwrap_or_default()
    }

    fn user(&self) -> Option<Named> {
        match (&self.user_id, &self.username) {
            (Some(id), _) => Some(Named::Id(id.clone())),
            (None, Some(name)) => Some(Named::Name {
                name: name.clone(),
                domain: self.domain(self.user_domain_id.as_ref(), self.user_domain_name.as_ref()),
            }),
            (None, None) => None,
        }
    }

    fn password_method(&self, missing: impl Fn(&str) -> Error) -> Result<Method, Error> {
        Ok(Method::Password {
            user: self.user().ok_or_else(|| missing("username"))?,
            password: Secret::Inline(self.password.clone().ok_or_else(|| missing("password"))?),
        })
    }

    fn credential_method(&self, missing: impl Fn(&str) -> Error) -> Result<Method, Error> {
        let secret = self.application_credential_secret.clone();
        let secret = Secret::Inline(secret.ok_or_else(|| missing("application_credential_secret"))?);
        match (&self.application_credential_id, &self.application_credential_name) {
            (Some(id), _) => {
                Ok(Method::ApplicationCredential { credential: Named::Id(id.clone()), user: None, secret })
            }
            (None, Some(name)) => Ok(Method::ApplicationCredential {
                credential: Named::Name { name: name.clone(), domain: Domain::default() },
                user: Some(self.user().ok_or_else(|| missing("username"))?),
                secret,
            }),
            (None, None) => Err(missing("application_credential_id")),
        }
    }

    fn scope(&self, missing: impl Fn(&str) -> Error) -> Result<Scope, Error> {
        if self.system_scope.is_some() {
            return Ok(Scope::System);
        }
        if let Some(id) = &self.project_id {
            return Ok(Scope::Project(Named::Id(id.clone())));
        }
        if let Some(name) = &self.project_name {
            let domain = self.domain(self.project_domain_id.as_ref(), self.project_domain_name.as_ref());
            return Ok(Scope::Project(Named::Name { name: name.clone(), domain }));
        }
        match (&self.domain_id, &self.domain_name) {
            (Some(id), _) => Ok(Scope::Domain(Domain::Id(id.clone()))),
            (None, Some(name)) => Ok(Scope::Domain(Domain::Name(name.clone()))),
            (None, None) => Err(missing("project_name")),
        }
    }
}

#[cfg(test)]
#[path = "clouds_tests.rs"]
mod tests;

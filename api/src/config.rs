//! `[api]`: where the API listens, whom it believes, and how much it takes at once.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cors::is_origin;
use crate::policy::{Policy, PolicyError};
use crate::project_id::ProjectIds;

/// Who is believed to be who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Keystone tokens, validated in process.
    Keystone,
    /// Everybody is admin (the original's noauth2). Only on a loopback address.
    None,
}

/// The section `[api]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// Address and port. The port is the one that catalogs of existing clouds hold.
    pub listen: SocketAddr,
    pub auth: AuthMode,
    /// PEM certificate chain; with `tls_key` the API speaks HTTPS.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    /// PEM certificates that clients' certificates must lead to; clients without one are then refused.
    pub tls_client_ca: Option<PathBuf>,
    /// What links of the version documents begin with, for instance `https://ha.example.org/instance-ha`; without it the request's Host
    /// header tells.
    pub link_prefix: Option<String>,
    /// Believe `Forwarded` and `X-Forwarded-Proto/Host/Prefix`. Only behind a proxy that sets them itself.
    pub proxy_headers: bool,
    /// Most rows of a list's answer.
    pub max_limit: u32,
    /// Largest request body, bytes.
    pub max_body: usize,
    /// Connections at once; for one more the idlest is closed.
    pub max_connections: u32,
    /// Seconds for a TLS handshake, and for the whole head of a request; then the connection is closed.
    pub head_timeout_s: u64,
    /// Seconds for the whole body of a request, then 408; as long may a client leave an answer unread.
    pub body_timeout_s: u64,
    /// Seconds a connection may be idle between two requests.
    pub idle_timeout_s: u64,
    /// Ids of the projects in which the roles `manager`, `member` and `reader` count without system scope.
    pub operator_projects: Vec<String>,
    /// Rules in oslo.policy's language, YAML or JSON, that override the defaults they name; the original's file is taken as it is.
    pub policy_file: Option<PathBuf>,
    /// With one of these roles a token in `X-Service-Token` makes up for an expired one of the user.
    pub service_token_roles: Vec<String>,
    /// A token in `X-Service-Token` without one of those roles is refused.
    pub service_token_roles_required: bool,
    /// Which first part of a `/v1` path is a project's id: a regular expression of character classes and repetitions.
    pub project_id_regex: String,
    /// Named in the `WWW-Authenticate` header of a 401: Keystone's public address. Default: where `[openstack]` logs in.
    pub www_authenticate_uri: Option<String>,
    /// Seconds within which an equal report is a duplicate (the original's `duplicate_notification_detection_interval`).
    pub duplicate_window_s: u64,
    /// Origins whose pages may read our answers in a browser, such as `https://horizon.example.org`; none by default.
    pub cors_allowed_origins: Vec<String>,
    /// While this file exists, `/healthcheck` says 503 and load balancers send nobody here (the original's `disable_by_file`).
    pub healthcheck_disable_file: Option<PathBuf>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 15868)),
            auth: AuthMode::Keystone,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            link_prefix: None,
            proxy_headers: false,
            max_limit: halberd_types::v1::list::MAX_LIMIT,
            // oslo.middleware's default: what clients could send to the original.
            max_body: 114_688,
            max_connections: 8_192,
            // A client that is alive sends a head at once; the rest is for a lost packet or two.
            head_timeout_s: 10,
            // The largest body by a line of 32 kbit/s.
            body_timeout_s: 30,
            // Longer than clients and proxies keep a connection in their pools: the one who closes should not be the one who may just be
            // sent a report.
            idle_timeout_s: 120,
            operator_projects: Vec::new(),
            policy_file: None,
            service_token_roles: vec!["service".to_owned()],
            service_token_roles_required: false,
            project_id_regex: r"[0-9a-f\-]+".to_owned(),
            www_authenticate_uri: None,
            duplicate_window_s: 180,
            cors_allowed_origins: Vec::new(),
            healthcheck_disable_file: None,
        }
    }
}

/// A setting of `[api]` that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error(
        "[api] auth = \"none\" makes everybody an administrator and is allowed on a loopback address only, not on {0}; \
         set listen = \"127.0.0.1:15868\", or auth = \"keystone\""
    )]
    OpenToAll(SocketAddr),
    #[error("[api] {given} is set and {missing} is not: TLS needs both")]
    HalfTls { given: &'static str, missing: &'static str },
    #[error("[api] {0} must be at least 1")]
    Zero(&'static str),
    #[error("[api] link_prefix {0:?} must begin with http:// or https://")]
    LinkPrefix(String),
    #[error(
        "[api] cors_allowed_origins {0:?}: write an origin as browsers do, https://horizon.example.org, without a path or a '*'"
    )]
    Origin(String),
    #[error(
        "[api] project_id_regex {pattern:?}: {why}; understood are characters and classes such as [0-9a-f\\-], each with + * ? or {{n,m}}"
    )]
    ProjectIdRegex { pattern: String, why: String },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(
        "[api] auth = \"keystone\" needs the section [openstack]: the API validates tokens with its own login"
    )]
    NoKeystone,
}

impl ApiConfig {
    /// Whether these settings may stand together.
    ///
    /// # Errors
    /// The first that may not.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.auth == AuthMode::None && !self.listen.ip().to_canonical().is_loopback() {
            return Err(ConfigError::OpenToAll(self.listen));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err(ConfigError::HalfTls { given: "tls_cert", missing: "tls_key" }),
            (None, Some(_)) => return Err(ConfigError::HalfTls { given: "tls_key", missing: "tls_cert" }),
            (None, None) if self.tls_client_ca.is_some() => {
                return Err(ConfigError::HalfTls { given: "tls_client_ca", missing: "tls_cert" });
            }
            _ => {}
        }
        let at_least_one = [
            ("max_limit", u64::from(self.max_limit)),
            ("max_body", self.max_body as u64),
            ("max_connections", u64::from(self.max_connections)),
            ("head_timeout_s", self.head_timeout_s),
            ("body_timeout_s", self.body_timeout_s),
            ("idle_timeout_s", self.idle_timeout_s),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(key));
        }
        if let Some(origin) = self.cors_allowed_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(ConfigError::Origin(origin.clone()));
        }
        match &self.link_prefix {
            Some(prefix) if !prefix.starts_with("http://") && !prefix.starts_with("https://") => {
                Err(ConfigError::LinkPrefix(prefix.clone()))
            }
            _ => self.project_ids().map(|_| ()),
        }
    }

    /// Who may do what: the defaults under the policy file, which is read here.
    ///
    /// # Errors
    /// [`ConfigError::Policy`].
    pub fn policy(&self) -> Result<Policy, ConfigError> {
        Ok(self.policy_file.as_deref().map_or_else(|| Ok(Policy::default()), Policy::load)?)
    }

    pub(crate) fn project_ids(&self) -> Result<ProjectIds, ConfigError> {
        ProjectIds::parse(&self.project_id_regex)
            .map_err(|why| ConfigError::ProjectIdRegex { pattern: self.project_id_regex.clone(), why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_admin_by_default_and_noauth_stays_at_home() {
        let config = ApiConfig::default();
        assert_eq!((config.auth, config.check()), (AuthMode::Keystone, Ok(())));
        let table = [
            ("127.0.0.1:15868", true),
            ("127.8.0.1:1", true),
            ("[::1]:15868", true),
            ("[::ffff:127.0.0.1]:15868", true),
            ("0.0.0.0:15868", false),
            ("[::]:15868", false),
            ("10.0.0.5:15868", false),
        ];
        for (listen, good) in table {
            let listen = listen.parse().unwrap();
            let config = ApiConfig { listen, auth: AuthMode::None, ..ApiConfig::default() };
            assert_eq!(config.check().is_ok(), good, "{listen}");
            let config = ApiConfig { listen, ..ApiConfig::default() };
            assert_eq!(config.check(), Ok(()), "{listen}");
        }
    }

    #[test]
    fn settings_that_cannot_stand_are_named() {
        let base = ApiConfig::default;
        let table = [
            (ApiConfig { tls_cert: Some("c".into()), ..base() }, "tls_key"),
            (ApiConfig { tls_key: Some("k".into()), ..base() }, "tls_cert"),
            (ApiConfig { tls_client_ca: Some("a".into()), ..base() }, "tls_cert"),
            (ApiConfig { max_limit: 0, ..base() }, "max_limit"),
            (ApiConfig { max_body: 0, ..base() }, "max_body"),
            (ApiConfig { max_connections: 0, ..base() }, "max_connections"),
            (ApiConfig { head_timeout_s: 0, ..base() }, "head_timeout_s"),
            (ApiConfig { body_timeout_s: 0, ..base() }, "body_timeout_s"),
            (ApiConfig { idle_timeout_s: 0, ..base() }, "idle_timeout_s"),
            (ApiConfig { project_id_regex: "(a|b)".into(), ..base() }, "project_id_regex"),
            (ApiConfig { link_prefix: Some("ha.example.org".into()), ..base() }, "link_prefix"),
            (ApiConfig { cors_allowed_origins: vec!["*".into()], ..base() }, "cors_allowed_origins"),
        ];
        for (config, names) in table {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(names), "{error}");
        }
    }
}

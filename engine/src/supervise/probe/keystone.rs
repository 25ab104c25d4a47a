//! Keystone: a token is issued for the section's user.

use std::time::Duration;

use halberd_openstack::{Error, OpenStack, OpenstackConfig, Places, Timeouts};
use tokio::sync::OnceCell;

use super::{Failed, Probed};
use crate::supervise::config::ServiceConfig;

#[derive(Debug)]
pub(super) struct Keystone(pub(super) Session);

/// A session that is made at its first use: making it reads files, which may come later than we do.
#[derive(Debug)]
pub(super) struct Session {
    config: OpenstackConfig,
    made: OnceCell<OpenStack>,
}

impl Session {
    pub fn new(config: &ServiceConfig, openstack: Option<&OpenstackConfig>) -> Result<Session, String> {
        let config = config.openstack.as_ref().or(openstack).filter(|config| config.is_configured());
        let config = config
            .ok_or("wants credentials: an [openstack] section, or openstack = {...} of its own")?
            .clone();
        Ok(Session { config, made: OnceCell::new() })
    }

    pub async fn get(&self, timeout: Duration) -> Result<&OpenStack, Failed> {
        let timeouts = Timeouts { connect: timeout, request: timeout };
        let make = || OpenStack::with(&self.config, &PLACES, timeouts);
        self.made.get_or_try_init(make).await.map_err(|error| Failed::CannotTell(error.to_string()))
    }
}

static PLACES: std::sync::LazyLock<Places> = std::sync::LazyLock::new(Places::from_environment);

impl Keystone {
    pub fn new(
        config: &ServiceConfig,
        target: &str,
        openstack: Option<&OpenstackConfig>,
    ) -> Result<Keystone, String> {
        let mut session = Session::new(config, openstack)?;
        if !config.targets.is_empty() {
            if session.config.cloud.is_some() {
                return Err("targets want credentials by auth_url and username, not by cloud".into());
            }
            session.config.auth_url = Some(target.to_owned());
        }
        Ok(Keystone(session))
    }

    pub async fn run(&self, timeout: Duration) -> Probed {
        self.0.get(timeout).await?.authenticate().await.map(drop).map_err(failed)
    }
}

/// Sorts an error of a service that was asked rightly: refused credentials or rights say that it works.
pub(super) fn failed(error: Error) -> Failed {
    match error {
        Error::Unavailable { .. } | Error::OutcomeUnknown { .. } | Error::Malformed { .. } => {
            Failed::Down(error.to_string())
        }
        Error::Auth { .. }
        | Error::Config(_)
        | Error::Refused(_)
        | Error::Forbidden(_)
        | Error::NotFound(_)
        | Error::Conflict(_) => Failed::CannotTell(error.to_string()),
    }
}

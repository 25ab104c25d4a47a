//! Nova: the service row of a host that does not exist is asked for. The answer, an empty list, takes a token check, the API
//! database and each cell's database, and costs the same in a cloud of ten thousand hosts.

use std::time::Duration;

use halberd_openstack::OpenstackConfig;

use super::keystone::{Session, failed};
use super::{Failed, Probed};
use crate::supervise::config::ServiceConfig;

/// No hypervisor is called so.
const NOBODY: &str = "halberd-canary.invalid";

#[derive(Debug)]
pub(super) struct Nova(Session);

impl Nova {
    pub fn new(config: &ServiceConfig, openstack: Option<&OpenstackConfig>) -> Result<Nova, String> {
        Session::new(config, openstack).map(Nova)
    }

    pub async fn run(&self, timeout: Duration) -> Probed {
        let openstack = self.0.get(timeout).await?;
        // The last third is for the question whose fault it is.
        let (patience, rest) = (timeout * 2 / 3, timeout * 3 / 10);
        let reason = match tokio::time::timeout(patience, openstack.nova().service(NOBODY)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => match failed(error) {
                Failed::Down(reason) => reason,
                unknown => return Err(unknown),
            },
            Err(_) => format!("no answer within {} ms", patience.as_millis()),
        };
        // Without Keystone there is no token, and that is not Nova's fault.
        match tokio::time::timeout(rest, openstack.authenticate()).await {
            Ok(Ok(_)) => Err(Failed::Down(reason)),
            Ok(Err(error)) => Err(Failed::CannotTell(format!("Keystone gives no token: {error}"))),
            Err(_) => Err(Failed::CannotTell("Keystone gives no token: no answer".into())),
        }
    }
}

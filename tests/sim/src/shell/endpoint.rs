//! What an operator would enter: the cloud's login, and each host's BMC.

use crate::spec::BmcKind;
use crate::world::World;
use std::net::{Ipv4Addr, SocketAddr};
use uuid::Uuid;

/// How to reach a BMC, and what it must show of its machine.
#[derive(Clone)]
pub struct BmcEndpoint {
    /// Protocol.
    pub kind: BmcKind,
    /// Where it listens.
    pub address: SocketAddr,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Serial number of its machine.
    pub serial: String,
    /// System UUID of its machine. IPMI shows it in SMBIOS order (first three fields little endian).
    pub uuid: Uuid,
}

impl BmcEndpoint {
    pub(super) fn of(world: &mut World, host: &str) -> Self {
        let view = world.host(host);
        let (username, password) = world.bmc_credentials(host);
        Self {
            kind: world.bmc_kind(host),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            username,
            password,
            serial: view.serial,
            uuid: view.uuid,
        }
    }

    /// As a fence device's `address`: a URL for Redfish, `host:port` for IPMI.
    pub fn device_address(&self) -> String {
        match self.kind {
            BmcKind::Redfish => format!("http://{}", self.address),
            _ => self.address.to_string(),
        }
    }
}

/// How to log in at Keystone, in both ways.
#[derive(Clone)]
pub struct Login {
    /// Keystone, with `/v3`.
    pub auth_url: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Project.
    pub project_name: String,
    /// Domain of both.
    pub domain_name: String,
    /// Application credential of the same user.
    pub application_credential_id: String,
    /// Its secret.
    pub application_credential_secret: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("auth_url", &self.auth_url)
            .field("username", &self.username)
            .field("project_name", &self.project_name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for BmcEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BmcEndpoint")
            .field("kind", &self.kind)
            .field("address", &self.address)
            .field("username", &self.username)
            .field("password", &"***")
            .field("serial", &self.serial)
            .field("uuid", &self.uuid)
            .finish()
    }
}

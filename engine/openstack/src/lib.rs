//! OpenStack as Halberd sees it: Keystone, Nova, Placement, Ironic, and our own API as a client.
//!
//! One session (the `openstack` crate's, with an authentication of our own) holds one token and the catalog; every
//! call is made once, with a pinned microversion and a deadline, and ends in an answer or in an [`Error`] that
//! says whether it may have been executed. That last thing is the point of this package: Nova's evacuate checks
//! neither task states nor earlier migrations, so a caller that repeats a call whose outcome it does not know
//! damages guests. Hence nothing here retries by itself, with one exception: a 401, which was certainly not
//! executed, is answered with a new token and repeated once.
//!
//! [`OpenStack`] is cheap to clone, and so are [`Nova`], [`Placement`], [`Ironic`], [`Keystone`] and [`InstanceHa`].

mod error;
mod instance_ha;
mod ironic;
mod keystone;
mod nova;
mod placement;
mod session;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::{Answer, Error, Executed};
pub use instance_ha::InstanceHa;
pub use ironic::{Ironic, Node};
pub use keystone::{Keystone, Reference, TokenProject, TokenUser, ValidToken};
pub use nova::{
    Accepted, Action, ActionEvent, Aggregate, Fault, Flavor, InstanceAction, Microversion, Migration,
    MigrationFilter, Nova, Offered, Server, Service, ServiceChange, ServiceState, ServiceStatus, Volume,
};
pub use placement::{Allocation, Inventory, Placement, ResourceProvider};
pub use session::{Identity, Interface, OpenstackConfig, Places, ServiceType, Timeouts};

use session::{Authenticator, http_client};
use transport::Transport;

/// One OpenStack cloud under one set of credentials: the session, and the services it reaches.
#[derive(Clone, Debug)]
pub struct OpenStack {
    transport: Transport,
    authenticator: Arc<Authenticator>,
    nova: Nova,
    keystone: Keystone,
}

impl OpenStack {
    /// Reads the settings (and clouds.yaml, when a cloud is named) and prepares the session. Nothing is sent yet, so
    /// a service can start while Keystone is down; [`OpenStack::authenticate`] tries the credentials.
    ///
    /// Errors: [`Error::Config`], naming the setting.
    pub async fn new(config: &OpenstackConfig) -> Result<OpenStack, Error> {
        OpenStack::with(config, &Places::from_environment(), Timeouts::default()).await
    }

    /// The same with the places of clouds.yaml and the time limits given.
    pub async fn with(
        config: &OpenstackConfig,
        places: &Places,
        timeouts: Timeouts,
    ) -> Result<OpenStack, Error> {
        let settings = config.resolve(places)?;
        let client = http_client(&settings.tls, timeouts)?;
        let sent = Arc::new(AtomicU64::new(0));
        let authenticator =
            Arc::new(Authenticator::new(settings.credentials.clone(), client.clone(), sent.clone()));
        let transport = Transport::keystone(client, &settings, authenticator.clone(), sent).await?;
        Ok(OpenStack {
            nova: Nova::new(transport.clone()),
            keystone: Keystone::new(transport.clone(), authenticator.clone()),
            transport,
            authenticator,
        })
    }

    /// Asks Keystone for a new token, whatever is cached, and says who we are.
    ///
    /// Errors: [`Error::Auth`] names the setting to mend, [`Error::Unavailable`] when Keystone gives no answer.
    pub async fn authenticate(&self) -> Result<Identity, Error> {
        self.authenticator.authenticate().await
    }

    /// Nova.
    #[must_use]
    pub fn nova(&self) -> Nova {
        self.nova.clone()
    }

    /// Placement.
    #[must_use]
    pub fn placement(&self) -> Placement {
        Placement::new(self.transport.clone())
    }

    /// Ironic.
    #[must_use]
    pub fn ironic(&self) -> Ironic {
        Ironic::new(self.transport.clone())
    }

    /// Keystone, for tokens that others show us.
    #[must_use]
    pub fn keystone(&self) -> Keystone {
        self.keystone.clone()
    }

    /// Our own API, at the catalog's `instance-ha` endpoint.
    #[must_use]
    pub fn instance_ha(&self) -> InstanceHa {
        InstanceHa::from_catalog(self.transport.clone())
    }

    /// Our own API at a given address (its root, or with `/v1`), with this session's token.
    ///
    /// Errors: [`Error::Config`] when the address is no http(s) URL.
    pub fn instance_ha_at(&self, address: &str) -> Result<InstanceHa, Error> {
        InstanceHa::with_token(self.transport.clone(), address)
    }

    /// The `openstack` crate's session, for its own typed reads. It shares our token and catalog.
    #[must_use]
    pub fn session(&self) -> openstack::session::Session {
        self.transport.session().clone()
    }

    /// HTTP requests sent so far by this session and its clones, those to Keystone included.
    #[must_use]
    pub fn requests_sent(&self) -> u64 {
        self.transport.sent().load(Ordering::Relaxed)
    }

    /// Drops the cached token; the next call asks for a new one. For tests of a revoked token.
    pub fn forget_token(&self) {
        self.authenticator.forget();
    }
}

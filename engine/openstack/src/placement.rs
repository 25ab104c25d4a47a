//! Placement: how much room a host has, and what a guest still holds on a dead one.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::session::ServiceType;
use crate::transport::{Outgoing, Reply, Transport, join};

/// Consumer generations in answers (Rocky, 2018); what we read has not changed since.
const MICROVERSION: &str = "placement 1.28";

/// Placement's API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Placement {
    transport: Transport,
}

/// A resource provider; a compute node's bears the hypervisor's name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ResourceProvider {
    /// Its uuid, that of the hypervisor.
    pub uuid: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Number of its present state.
    #[serde(default)]
    pub generation: i64,
}

/// How much there is of a resource class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Inventory {
    /// All of it.
    pub total: u64,
    /// Kept from guests.
    pub reserved: u64,
    /// How often each unit may be given.
    pub allocation_ratio: f64,
    /// The largest single piece.
    pub max_unit: u64,
}

impl Inventory {
    /// What guests may hold in all.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let usable = self.total.saturating_sub(self.reserved);
        // Placement's own formula: int((total - reserved) * allocation_ratio).
        (usable as f64 * self.allocation_ratio).max(0.0) as u64
    }
}

/// What a consumer holds of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Allocation {
    /// By resource class.
    #[serde(default)]
    pub resources: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Providers {
    resource_providers: Vec<ResourceProvider>,
}

#[derive(Deserialize)]
struct Inventories {
    inventories: BTreeMap<String, Inventory>,
}

#[derive(Deserialize)]
struct Usages {
    usages: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Allocations {
    allocations: BTreeMap<String, Allocation>,
}

impl Placement {
    pub(crate) fn new(transport: Transport) -> Placement {
        Placement { transport }
    }

    async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Reply, Error> {
        let base = self.transport.endpoint(ServiceType::Placement).await?;
        let outgoing = Outgoing::new(ServiceType::Placement, Method::GET, join(&base, path, query))
            .header("openstack-api-version", MICROVERSION)?;
        self.transport.send(&outgoing).await
    }

    /// The provider of this name; none if there is none.
    pub async fn provider(&self, name: &str) -> Result<Option<ResourceProvider>, Error> {
        let reply = self.get(&["resource_providers"], &[("name", name.to_owned())]).await?;
        let found = reply.json::<Providers>()?.resource_providers;
        Ok(found.into_iter().find(|provider| provider.name == name))
    }

    /// All providers.
    pub async fn providers(&self) -> Result<Vec<ResourceProvider>, Error> {
        Ok(self.get(&["resource_providers"], &[]).await?.json::<Providers>()?.resource_providers)
    }

    /// What a provider has, by resource class.
    ///
    /// Errors: [`Error::NotFound`].
    pub async fn inventories(&self, provider: &str) -> Result<BTreeMap<String, Inventory>, Error> {
        let path = ["resource_providers", provider, "inventories"];
        Ok(self.get(&path, &[]).await?.json::<Inventories>()?.inventories)
    }

    /// What of it is taken, by resource class.
    ///
    /// Errors: [`Error::NotFound`].
    pub async fn usages(&self, provider: &str) -> Result<BTreeMap<String, u64>, Error> {
        let path = ["resource_providers", provider, "usages"];
        Ok(self.get(&path, &[]).await?.json::<Usages>()?.usages)
    }

    /// What a consumer (a server) holds, by provider; empty for one that Placement does not know. After an evacuation
    /// a server holds its share on both hosts until the source has restarted.
    pub async fn allocations(&self, consumer: &str) -> Result<BTreeMap<String, Allocation>, Error> {
        Ok(self.get(&["allocations", consumer], &[]).await?.json::<Allocations>()?.allocations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_placements() {
        let inventory = Inventory { total: 10, reserved: 1, allocation_ratio: 1.5, max_unit: 10 };
        assert_eq!(inventory.capacity(), 13);
        assert_eq!(Inventory { reserved: 20, ..inventory }.capacity(), 0);
    }
}

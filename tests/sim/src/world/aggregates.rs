//! Host aggregates.

use super::World;
use crate::fault::Route;
use crate::model::Aggregate;
use crate::reply::{Refusal, Reply};
use std::collections::BTreeMap;

impl World {
    /// `GET /os-aggregates`.
    pub fn aggregates(&mut self, now: u64) -> Reply<Vec<Aggregate>> {
        self.nova(now, Route::Aggregates, |world, _| Ok(world.aggregates.clone()))
    }

    /// `GET /os-aggregates/{id}`.
    pub fn aggregate(&mut self, now: u64, id: u64) -> Reply<Aggregate> {
        self.nova(now, Route::Aggregates, |world, _| world.aggregate_mut(id).cloned())
    }

    /// `POST /os-aggregates`.
    pub fn create_aggregate(
        &mut self,
        now: u64,
        name: &str,
        metadata: BTreeMap<String, String>,
    ) -> Reply<Aggregate> {
        self.nova(now, Route::Aggregates, |world, _| {
            if world.aggregates.iter().any(|it| it.name == name) {
                return Err(Refusal::status(409, format!("Aggregate {name} already exists.")));
            }
            let made = Aggregate {
                id: world.aggregates.len() as u64 + 1,
                uuid: world.chance.uuid(),
                name: name.into(),
                hosts: Vec::new(),
                metadata,
                created_at: world.now,
            };
            world.aggregates.push(made.clone());
            Ok(made)
        })
    }

    /// `add_host`.
    ///
    /// # Errors
    /// 404 for an unknown host or aggregate, 409 for a member.
    pub fn aggregate_add_host(&mut self, now: u64, id: u64, host: &str) -> Reply<Aggregate> {
        self.nova(now, Route::Aggregates, |world, _| {
            let known = world.has_host(host);
            let aggregate = world.aggregate_mut(id)?;
            if !known {
                return Err(Refusal::status(404, format!("Compute host {host} could not be found.")));
            }
            if aggregate.hosts.iter().any(|member| member == host) {
                return Err(Refusal::status(409, format!("Aggregate {id} already has host {host}.")));
            }
            aggregate.hosts.push(host.into());
            Ok(aggregate.clone())
        })
    }

    /// `remove_host`.
    ///
    /// # Errors
    /// 404 for an unknown aggregate or a host that is no member.
    pub fn aggregate_remove_host(&mut self, now: u64, id: u64, host: &str) -> Reply<Aggregate> {
        self.nova(now, Route::Aggregates, |world, _| {
            let aggregate = world.aggregate_mut(id)?;
            let Some(at) = aggregate.hosts.iter().position(|member| member == host) else {
                return Err(Refusal::status(404, format!("Cannot remove host {host} in aggregate {id}")));
            };
            aggregate.hosts.remove(at);
            Ok(aggregate.clone())
        })
    }

    fn aggregate_mut(&mut self, id: u64) -> Result<&mut Aggregate, Refusal> {
        self.aggregates
            .iter_mut()
            .find(|it| it.id == id)
            .ok_or_else(|| Refusal::status(404, format!("Aggregate {id} could not be found.")))
    }
}

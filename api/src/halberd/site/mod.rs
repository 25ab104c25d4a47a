//! The installation as a whole: services, agents, engines, and whether a recovery would work now.

pub(crate) mod agents;
pub(crate) mod arm;
pub(crate) mod disarm;
pub(crate) mod engines;
mod fencing;
pub(crate) mod readiness;
pub(crate) mod reconcile;
pub(crate) mod services;

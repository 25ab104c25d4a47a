//! A simulated cloud that can be broken, and that knows the truth.
//!
//! [`World`] is one value: hypervisors with power, boots and networks, guests, BMCs, and the Keystone, Nova, Placement
//! and (where a host is enrolled in it) ironic that describe them. It does no I/O and owns no clock: every call carries `now`, milliseconds of
//! virtual time, and all chance comes from the seed. What Nova *believes* is kept apart from what *happens*: the
//! ledger in [`truth`] knows which guest executes on which host and notes each instant at which one executes
//! twice, so that checkers that know nothing of the product can judge it.
//!
//! Two shells stand around the world: plain method calls (seeds and scenarios, in virtual time) and sockets
//! ([`shell::Cloud`]: real HTTP, Redfish and IPMI on loopback, in real time). Nova's behaviour is the one observed on
//! a real Nova 34, its odd corners included: a second evacuate is accepted and does damage, `200` means "recorded".
//! Neither shell shares a codec with the product: a fake that did would agree only with itself.
//!
//! ```
//! use halberd_sim::{Fault, World, WorldSpec};
//!
//! let mut world = World::new(WorldSpec::spread(4, 8));
//! let guest = world.guests_placed_on("cmp-01")[0];
//! // A host that hangs is called down by Nova a minute later, and may wake up again.
//! world.inject(1_000, Fault::HostHang { host: "cmp-01".into(), for_ms: Some(120_000) });
//! assert!(world.evacuate(80_000, guest, None, 94).answer.is_ok());
//! while let Some(next) = world.next_due() {
//!     world.advance(next);
//! }
//! // Nobody fenced it: the guest runs twice, and the world has noticed.
//! assert_eq!(world.double_runs()[0].at, 121_000);
//! ```

mod chance;
pub mod fault;
pub mod history;
pub mod metal;
pub mod model;
pub mod reply;
pub mod shell;
pub mod spec;
pub mod truth;
pub mod world;

pub use fault::{BmcFault, Fault, NovaAnswer, Route};
pub use history::{Deed, What};
pub use metal::{BmcManners, IfMatch, Node, Restore, RestorePolicy};
pub use model::{
    Action, ActionEvent, AgentSight, Aggregate, Allocation, EvacuateRequest, HostState, HostView, Identity,
    Migration, MigrationFilter, Network, Power, Provider, Server, ServerFilter, Service, ServicePut, VmState,
};
pub use reply::{BmcRefusal, Refusal, Reply};
pub use spec::{BmcKind, GuestSpec, WorldSpec};
pub use truth::DoubleRun;
pub use world::World;

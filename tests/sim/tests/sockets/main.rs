//! The simulated cloud as its clients meet it: on sockets, with clients that share nothing with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod baremetal;
mod http;
mod identity;
mod ipmi;
mod openstack;
mod redfish;
mod userland;

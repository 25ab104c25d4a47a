//! Ids are types: a host's id cannot be handed in where a segment's is wanted.
//!
//! Each is a UUID in lower-case hyphenated text on every wire and in every database (DESIGN 10.12).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.as_hyphenated())
            }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

ids! {
    /// A failover segment.
    SegmentId,
    /// A hypervisor registered with us.
    HostId,
    /// One start of a hypervisor's kernel, as its agent tells it.
    BootId,
    /// An inbound report.
    NotificationId,
    /// A durable unit of work: one failure of one host, guest or process.
    RecoveryId,
    /// One guest's move.
    VmoveId,
    /// A guest, by Nova's own id.
    InstanceId,
    /// An outbound message.
    EventId,
    /// One run of an engine process.
    EngineId,
    /// An operator's wish, recorded by the API for an engine.
    WishId,
    /// A control-plane service that is watched.
    ServiceId,
}

//! One guest's move. [`crate::evacuation`] decides its stages; here is what is stored.

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, NotificationId, RecoveryId, VmoveId};
use crate::instance::Wanted;
use crate::text_enum;
use crate::time::Stamp;

text_enum! {
    /// v1's words (contract 1.13).
    pub enum VmoveStatus {
        Pending => "pending",
        Ongoing => "ongoing",
        Succeeded => "succeeded",
        Failed => "failed",
        Ignored => "ignored",
    }
}

impl VmoveStatus {
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Ignored)
    }
}

text_enum! {
    /// How far one guest's move is. A stage named with -ing is written before its call goes out: found after a crash, it
    /// means "perhaps sent".
    ///
    /// ```text
    /// Planned -> Locking -> Resetting? -> Ready -> Sending -> Accepted -> Arrived -> Stopping|Starting? -> Erroring? -> Unlocking -> Done
    ///                                      ^          \ refused, failed: back off, next attempt or placement
    ///                                      \----------/
    /// ```
    pub enum Stage {
        Planned => "planned",
        Locking => "locking",
        Resetting => "resetting",
        Ready => "ready",
        /// The evacuate call may have been sent.
        Sending => "sending",
        /// Nova said 200, or a migration newer than the intent was found.
        Accepted => "accepted",
        /// Seen on its destination.
        Arrived => "arrived",
        Stopping => "stopping",
        Starting => "starting",
        /// Reset to error again, as it was before.
        Erroring => "erroring",
        Unlocking => "unlocking",
        Done => "done",
    }
}

text_enum! {
    /// Whether we lock and must unlock the guest. A guest that its owner had locked stays locked.
    pub enum LockMark {
        /// Not looked at yet.
        Open => "open",
        /// Ours: the intent to lock was written.
        Ours => "ours",
        /// Somebody else's: left as it is.
        Theirs => "theirs",
    }
}

/// A guest's move as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vmove {
    pub id: VmoveId,
    pub recovery: RecoveryId,
    pub notification: NotificationId,
    pub instance: InstanceId,
    pub instance_name: String,
    pub source_host: String,
    pub dest_host: Option<String>,
    pub status: VmoveStatus,
    pub message: Option<String>,
    pub start_time: Option<Stamp>,
    pub end_time: Option<Stamp>,

    pub stage: Stage,
    /// Marked for recovery: goes first.
    pub ha_enabled: bool,
    pub wanted: Wanted,
    /// Nova refuses this state: reset to error first.
    pub reset: bool,
    /// As they were when first listed (DESIGN 10.5).
    pub vm_state: String,
    pub task_state: Option<String>,
    pub lock: LockMark,
    /// Evacuations written so far.
    pub attempt: u32,
    /// Conclusive failures at this placement.
    pub failures: u32,
    /// Which of the method's placements is being tried.
    pub placement: usize,
    /// The reserved host that is named in the call.
    pub target: Option<String>,
    /// Reserved hosts that could not take it.
    pub tried: Vec<String>,
    /// The evacuate intent that is not settled yet.
    pub intent: Option<uuid::Uuid>,
    /// Evacuation migrations of this guest that existed when the intent was written: anything else is newer.
    pub known_migrations: Vec<i64>,
    /// The migration that is ours.
    pub migration: Option<i64>,
    /// How it will end once the guest is unlocked.
    pub ends: Option<VmoveStatus>,
}

//! `/v1/notifications` (contract 1.12): reports of failures. A report is a claim; what is believed is the engine's business.

mod create;
mod list;
mod show;
mod workflow;

pub(crate) use create::create;
pub(crate) use list::list;
pub(crate) use show::show;

use halberd_core::notification::{Notification, NotificationStatus, NotificationType};
use halberd_store::Stored;
use halberd_types::v1::notification::{
    Notification as Shown, NotificationStatus as Status, NotificationType as Kind,
};

use crate::answer;

/// A row as `/v1` shows it.
fn shown(stored: &Stored<Notification>) -> Shown {
    Shown {
        id: stored.num,
        notification_uuid: stored.id.0,
        generated_time: answer::time(stored.generated_at),
        source_host_uuid: stored.host.0,
        notification_type: match stored.kind {
            NotificationType::ComputeHost => Kind::ComputeHost,
            NotificationType::Vm => Kind::Vm,
            NotificationType::Process => Kind::Process,
        },
        payload: stored.payload.clone(),
        status: match stored.status {
            NotificationStatus::New => Status::New,
            NotificationStatus::Running => Status::Running,
            NotificationStatus::Error => Status::Error,
            NotificationStatus::Failed => Status::Failed,
            NotificationStatus::Ignored => Status::Ignored,
            NotificationStatus::Finished => Status::Finished,
        },
        failover_segment_uuid: Some(stored.segment.0),
        message: stored.message.clone(),
        times: answer::times(stored),
    }
}

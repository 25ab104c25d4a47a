//! `/v1/notifications/{uuid}/vmoves` (contract 1.13): where the guests of a dead host went.

mod list;
mod show;

pub(crate) use list::list;
pub(crate) use show::show;

use halberd_core::id::NotificationId;
use halberd_core::notification::NotificationType;
use halberd_core::recovery::{Vmove, VmoveStatus};
use halberd_store::{Db, Stored, notifications};
use halberd_types::v1::vmove::{VMove as Shown, VMoveStatus as Status, VMoveType};

use crate::answer;
use crate::error::{ApiError, ApiResult};

/// A row as `/v1` shows it, under the notification it was asked by: one that joined another's recovery shows that one's moves.
fn shown(stored: &Stored<Vmove>, asked_by: NotificationId) -> Shown {
    Shown {
        id: stored.num,
        uuid: stored.id.0,
        notification_uuid: asked_by.0,
        instance_uuid: stored.instance.0,
        instance_name: Some(stored.instance_name.clone()),
        source_host: Some(stored.source_host.clone()),
        dest_host: stored.dest_host.clone(),
        start_time: stored.start_time.map(answer::time),
        end_time: stored.end_time.map(answer::time),
        move_type: VMoveType::Evacuation,
        status: match stored.status {
            VmoveStatus::Pending => Status::Pending,
            VmoveStatus::Ongoing => Status::Ongoing,
            VmoveStatus::Succeeded => Status::Succeeded,
            VmoveStatus::Failed => Status::Failed,
            VmoveStatus::Ignored => Status::Ignored,
        },
        message: stored.message.clone(),
        times: answer::times(stored),
    }
}

/// 404 for an unknown notification (on both routes: the original answered 500 on one), 400 for one that is about no host.
async fn check_notification(db: &Db, id: NotificationId) -> ApiResult<()> {
    match notifications::get(db, id).await?.kind {
        NotificationType::ComputeHost => Ok(()),
        other => Err(ApiError::bad_request(format!(
            "Notification {id} is of type {other}; only COMPUTE_HOST has vmoves."
        ))),
    }
}

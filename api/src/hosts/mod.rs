//! `/v1/segments/{uuid}/hosts` (contract 1.11).

mod create;
mod delete;
mod list;
mod show;
mod update;

pub(crate) use create::create;
pub(crate) use delete::delete;
pub(crate) use list::list;
pub(crate) use show::show;
pub(crate) use update::update;

use halberd_core::host::Host;
use halberd_core::id::{HostId, SegmentId};
use halberd_core::segment::Segment;
use halberd_store::{Read, Stored, hosts};
use halberd_types::v1::host::Host as Shown;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, ApiResult};

/// A row as `/v1` shows it: its segment embedded, the three maintenances as one (DESIGN 10.9).
pub(crate) fn shown(stored: &Stored<Host>, segment: &Stored<Segment>) -> Shown {
    Shown {
        id: stored.num,
        uuid: stored.id.0,
        name: stored.name.clone(),
        failover_segment_id: segment.id.0,
        failover_segment: crate::segments::shown(segment),
        host_type: stored.kind.clone(),
        reserved: stored.reserved,
        control_attributes: stored.control_attributes.clone(),
        on_maintenance: stored.maintenance.any(),
        times: answer::times(stored),
    }
}

/// A host of this very segment; a wrong pair is not found.
async fn of_segment(on: impl Read, id: HostId, segment: SegmentId) -> halberd_store::Result<Stored<Host>> {
    let stored = hosts::get(on, id).await?;
    if stored.segment == segment {
        Ok(stored)
    } else {
        Err(halberd_store::Error::NotFound { what: "host", id: format!("{id} in segment {segment}") })
    }
}

/// Whether Nova has a nova-compute of exactly this name.
///
/// Errors: 400 when it has none; 503 without `[openstack]` or when Nova gives no answer; 403 when Nova forbids us to ask.
async fn check_in_nova(app: &App, caller: &Caller, name: &str) -> ApiResult<()> {
    let nova = app.nova.as_ref().ok_or_else(|| {
        ApiError::unavailable(
            "Hosts are checked against Nova, and this service has no section [openstack] in its configuration.",
        )
    })?;
    let nova = nova.with_request_id(caller.forwarded_id());
    match nova.service(name).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => {
            Err(ApiError::bad_request(format!("Nova has no compute service on a host named {name:?}.")))
        }
        Err(error) => Err(ApiError::of_nova(&error)),
    }
}

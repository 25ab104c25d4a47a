//! `GET /v1/notifications/{uuid}/vmoves`: 200; 400 for a query that breaks its rules or a notification about no host, 403, 404.

use axum::extract::State;
use axum::response::Response;
use halberd_core::id::NotificationId;
use halberd_store::vmoves::{self, VmoveFilter};
use halberd_types::v1::list::VMOVE_COLUMNS;
use halberd_types::v1::vmove::{Filters, LIST};

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::{Asked, Place};

pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    place: Place,
    asked: Asked,
) -> ApiResult<Response> {
    caller.may("os_masakari_api:vmoves:index")?;
    let page = asked.page(VMOVE_COLUMNS, &app)?;
    let filters = Filters::parse(asked.pairs());
    let id: NotificationId = place.uuid("notification")?.into();
    super::check_notification(&app.db, id).await?;
    let filter = VmoveFilter { status: filters.status, kind: filters.move_type };
    let rows = vmoves::list(&app.db, id, &filter, &page).await?;
    let rows: Vec<_> = rows.iter().map(|row| super::shown(row, id)).collect();
    Ok(answer::many(LIST, &rows))
}

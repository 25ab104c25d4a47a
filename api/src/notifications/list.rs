//! `GET /v1/notifications`: 200; 400 for a query that breaks its rules, 403. Never with `recovery_workflow_details`.

use axum::extract::State;
use axum::response::Response;
use halberd_core::time::Stamp;
use halberd_store::notifications::{self, NotificationFilter};
use halberd_types::v1::list::NOTIFICATION_COLUMNS;
use halberd_types::v1::notification::{Filters, LIST};

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Asked;

pub(crate) async fn list(State(app): State<App>, caller: Caller, asked: Asked) -> ApiResult<Response> {
    caller.may("os_masakari_api:notifications:index")?;
    let page = asked.page(NOTIFICATION_COLUMNS, &app)?;
    let filters = Filters::parse(asked.pairs())?;
    let filter = NotificationFilter {
        host_text: filters.source_host_uuid,
        kind: filters.notification_type,
        status: filters.status,
        generated_since: filters.generated_since.map(|since| Stamp(since.micros())),
        ..NotificationFilter::default()
    };
    let rows = notifications::list(&app.db, &filter, &page).await?;
    let rows: Vec<_> = rows.iter().map(super::shown).collect();
    Ok(answer::many(LIST, &rows))
}

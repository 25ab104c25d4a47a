//! `GET /v1/segments/{uuid}/hosts`: 200; 400 for a query that breaks its rules, 403, 404 segment.
//!
//! The name filter is beyond the original, which took and ignored it.

use axum::extract::State;
use axum::response::Response;
use halberd_core::host::Host;
use halberd_store::hosts::{self, HostFilter};
use halberd_store::{Page, Stored, segments};
use halberd_types::v1::host::{Filters, LIST};
use halberd_types::v1::list::HOST_COLUMNS;

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
    caller.may("os_masakari_api:os-hosts:index")?;
    let page = asked.page(HOST_COLUMNS, &app)?;
    let filters = Filters::parse(asked.pairs())?;
    let segment = segments::get(&app.db, place.uuid("segment")?.into()).await?;
    let filter = HostFilter {
        segment: Some(segment.id),
        kind: filters.host_type,
        on_maintenance: filters.on_maintenance,
        reserved: filters.reserved,
    };
    let rows = match filters.name {
        None => hosts::list(&app.db, &filter, &page).await?,
        Some(name) => named(&app, &filter, &page, &name).await?,
    };
    let rows: Vec<_> = rows.iter().map(|row| super::shown(row, &segment)).collect();
    Ok(answer::many(LIST, &rows))
}

/// The one of that name, if it passes the other filters and stands after the marker.
async fn named(app: &App, filter: &HostFilter, page: &Page, name: &str) -> ApiResult<Vec<Stored<Host>>> {
    if page.limit == 0 || hosts::by_name(&app.db, name).await?.is_none() {
        // The marker is looked up all the same: an unknown one is 400.
        hosts::list(&app.db, filter, &Page { limit: 0, ..page.clone() }).await?;
        return Ok(Vec::new());
    }
    let mut walk = Page { limit: Page::default().limit, ..page.clone() };
    loop {
        let rows = hosts::list(&app.db, filter, &walk).await?;
        let last = rows.last().map(|row| halberd_store::Marker::Num(row.num));
        let full = rows.len() >= walk.limit as usize;
        if let Some(found) = rows.into_iter().find(|row| row.name == name) {
            return Ok(vec![found]);
        }
        if !full {
            return Ok(Vec::new());
        }
        walk.marker = last;
    }
}

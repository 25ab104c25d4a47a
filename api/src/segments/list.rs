//! `GET /v1/segments`: 200; 400 for a query that breaks its rules, 403.
//!
//! The name filter is beyond the original, which ignored it and made its clients list everything to resolve a name.

use axum::extract::State;
use axum::response::Response;
use halberd_core::segment::Segment;
use halberd_store::segments::{self, SegmentFilter};
use halberd_store::{Marker, Page, Stored};
use halberd_types::v1::list::SEGMENT_COLUMNS;
use halberd_types::v1::segment::{Filters, LIST};

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::Asked;

pub(crate) async fn list(State(app): State<App>, caller: Caller, asked: Asked) -> ApiResult<Response> {
    caller.may("os_masakari_api:segments:index")?;
    let page = asked.page(SEGMENT_COLUMNS, &app)?;
    let filters = Filters::parse(asked.pairs())?;
    let filter = SegmentFilter {
        recovery_method: filters.recovery_method,
        service_type: filters.service_type,
        enabled: filters.enabled,
    };
    let rows = match filters.name {
        None => segments::list(&app.db, &filter, &page).await?,
        Some(name) => named(&app, &filter, &page, &name).await?,
    };
    let rows: Vec<_> = rows.iter().map(super::shown).collect();
    Ok(answer::many(LIST, &rows))
}

/// Those of that name, at most one; segments are few, so they are walked.
async fn named(
    app: &App,
    filter: &SegmentFilter,
    page: &Page,
    name: &str,
) -> ApiResult<Vec<Stored<Segment>>> {
    let mut walk = Page { limit: Page::default().limit, ..page.clone() };
    loop {
        let rows = segments::list(&app.db, filter, &walk).await?;
        let last = rows.last().map(|row| Marker::Num(row.num));
        let full = rows.len() >= walk.limit as usize;
        if let Some(found) = rows.into_iter().find(|row| row.name == name) {
            return Ok(if page.limit == 0 { Vec::new() } else { vec![found] });
        }
        if !full {
            return Ok(Vec::new());
        }
        walk.marker = last;
    }
}

//! `GET /recoveries`: newest first, by page.

use axum::Json;
use axum::extract::{Query as RawQuery, State};
use halberd_core::id::HostId;
use halberd_core::recovery::{StateWord, Subject};
use halberd_store::recoveries::RecoveryFilter;
use halberd_store::{Marker, Page as StorePage, hosts, recoveries, vmoves};
use halberd_types::halberd::Page;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::recovery::{GuestCounts, RecoverySummary};
use uuid::Uuid;

use super::{engine_names, view};
use crate::halberd::door;
use crate::halberd::input::Query;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

const KINDS: &[&str] = &["host", "instance", "process", "return"];

/// Recoveries, newest first.
#[utoipa::path(
    get, path = "/recoveries", operation_id = "list_recoveries", tag = "recoveries",
    params(
        ("open" = Option<bool>, Query, description = "Only those that are open, or only those that are not."),
        ("host" = Option<String>, Query, description = "Uuid or name of a host."),
        ("kind" = Option<String>, Query, description = "host, instance, process or return."),
        ("state" = Option<String>, Query, description = "One of the states."),
        ("limit" = Option<u32>, Query, description = "Items on a page, 1 to 1000; 100 unless given."),
        ("marker" = Option<Uuid>, Query, description = "`next` of the page before."),
    ),
    responses(
        (status = 200, body = Page<RecoverySummary>),
        (status = 400, description = "A parameter breaks its rule, or no recovery has the marker's id.", body = Problem),
        (status = 403, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery<Vec<(String, String)>>,
) -> Result<Json<Page<RecoverySummary>>, Failure> {
    door::require(&caller, "halberd:recoveries:index")?;
    let db = door::db(&app);
    let mut query = Query::of(query)?;
    let states: Vec<&str> = StateWord::ALL.iter().map(|word| word.as_str()).collect();
    let (open, kind) = (query.flag("open")?, query.word("kind", KINDS)?);
    let (state, host) = (query.word("state", &states)?, query.text("host"));
    let (limit, marker) = (query.limit()?, query.uuid("marker")?);
    query.finish()?;
    let host = match host {
        None => None,
        Some(text) => match host_of(&app, &text).await? {
            Some(host) => Some(host),
            None => return Ok(Json(Page { items: Vec::new(), next: None })),
        },
    };
    let filter = RecoveryFilter { host, kind, state, open, ..RecoveryFilter::default() };
    // One more than asked tells whether there is a next page.
    let page = StorePage { limit: limit + 1, marker: marker.map(Marker::Id), sort: Vec::new() };
    let mut rows = recoveries::list(db, &filter, &page).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let engines = engine_names(db).await?;
    let mut items = Vec::with_capacity(rows.len());
    for (_, recovery) in &rows {
        // Only a host's recovery has moves.
        let counts = match recovery.subject {
            Subject::Host { .. } => view::counts(&vmoves::of_recovery(db, recovery.id).await?),
            _ => GuestCounts::default(),
        };
        items.push(view::summary(recovery, counts, &engines));
    }
    let next = items.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Page { items, next }))
}

/// A host by uuid, also one that was deleted since, or by its name.
async fn host_of(app: &App, text: &str) -> Result<Option<HostId>, Failure> {
    match Uuid::parse_str(text) {
        Ok(id) => Ok(Some(HostId(id))),
        Err(_) => Ok(hosts::by_name(door::db(app), text).await?.map(|host| host.id)),
    }
}

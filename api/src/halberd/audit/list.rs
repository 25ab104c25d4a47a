//! `GET /audit?chain=`: the records of one chain.

use axum::Json;
use axum::extract::{Query as RawQuery, State};
use halberd_core::time::Stamp;
use halberd_store::audit;
use halberd_types::halberd::Page;
use halberd_types::halberd::audit::AuditRecord;
use halberd_types::halberd::fence_device::masked;
use halberd_types::halberd::problem::Problem;

use crate::halberd::door;
use crate::halberd::input::{Query, time};
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// The records of a chain, oldest first. Session tokens and the like in a detail are masked, so hashes are verified here
/// (`GET /audit/verify`) and not from what is shown.
#[utoipa::path(
    get, path = "/audit", operation_id = "list_audit", tag = "audit",
    params(
        ("chain" = String, Query, description = "A recovery's id, or a name of `GET /audit/chains`."),
        ("after" = Option<i64>, Query, description = "Sequence after which to go on; `next` of the page before."),
        ("limit" = Option<u32>, Query, description = "Items on a page, 1 to 1000; 100 unless given."),
    ),
    responses(
        (status = 200, body = Page<AuditRecord>),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, description = "There is no such chain.", body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery<Vec<(String, String)>>,
) -> Result<Json<Page<AuditRecord>>, Failure> {
    door::require(&caller, "halberd:audit:index")?;
    let mut query = Query::of(query)?;
    let (chain, after, limit) = (query.text("chain"), query.text("after"), query.limit()? as usize);
    query.finish()?;
    let chain = chain.ok_or_else(|| Failure::bad_request("The query must name a chain."))?;
    let after: i64 = match after {
        None => 0,
        Some(text) => text.parse().map_err(|_| Failure::bad_request("'after' is not a number."))?,
    };
    let links = audit::of_chain(door::db(&app), &chain).await?;
    if links.is_empty() {
        return Err(Failure::not_found(
            "There is no audit chain of that name; GET /audit/chains lists them.",
        ));
    }
    let rest: Vec<_> = links.into_iter().filter(|(link, _)| link.sequence > after).collect();
    let more = rest.len() > limit;
    let items: Vec<AuditRecord> = rest
        .into_iter()
        .take(limit)
        .map(|(link, hash)| AuditRecord {
            chain: chain.clone(),
            sequence: link.sequence,
            at: time(Stamp(link.at)),
            epoch: link.epoch,
            what: link.entry.what,
            text: link.entry.text,
            detail: masked(&link.entry.detail),
            before: link.before,
            hash,
        })
        .collect();
    let next = items.last().filter(|_| more).map(|last| last.sequence.to_string());
    Ok(Json(Page { items, next }))
}

//! `POST /agents/self/orders/{id}`: how an order ended.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use halberd_core::audit::Entry;
use halberd_store::{audit, orders, write};
use halberd_types::halberd::problem::Problem;
use halberd_types::report::{ORDERS_PATH, OrderOutcome, OrderResult};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Lanes, speaker};
use crate::App;
use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;

/// Ends an order of this host. The first result stands; the same order's result again changes nothing.
#[utoipa::path(
    post, path = "/agents/self/orders/{id}", operation_id = "answer_order", tag = "agents",
    params(("id" = Uuid, Path, description = "The order.")),
    request_body(content = Object, description = "`halberd_types::report::OrderResult`: order_id, outcome, detail, answered."),
    responses(
        (status = 202, description = "Taken.", body = Object),
        (status = 200, description = "The order had ended before.", body = Object),
        (status = 400, body = Problem),
        (status = 401, body = Problem),
        (status = 403, description = "This boot was fenced.", body = Problem),
        (status = 404, description = "This host has no such order.", body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    Extension(lanes): Extension<Lanes>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let path = format!("{ORDERS_PATH}/{id}");
    let speaker = speaker(&app, &lanes, "POST", &path, &headers, &body).await?;
    let id = input::id::<Uuid>(&id)?;
    let result: OrderResult = serde_json::from_value(input::json(&body)?)
        .map_err(|error| Failure::bad_request(format!("The body is no result of an order: {error}.")))?;
    if result.order_id != id {
        return Err(Failure::bad_request("The result is of another order than the path names."));
    }
    let order = orders::get(door::db(&app), id).await?;
    if order.host != speaker.host.id {
        return Err(Failure::not_found(format!("Order {id} could not be found.")));
    }
    let (now, chain) = (door::now(&app), door::chain(&app));
    let stored = json!(result);
    let ended = write(door::db(&app), async |tx| {
        let succeeded = result.outcome == OrderOutcome::Done;
        let ended = orders::done(tx, id, speaker.host.id, succeeded, &stored, now).await?;
        if ended {
            let text = format!("{} answered order {}: {}", speaker.host.name, order.kind, result.detail);
            let detail = json!({ "host": speaker.host.id, "order": id, "result": stored });
            audit::append(tx, &chain, 0, &[Entry::new("order_answered", text, detail)], now).await?;
        }
        Ok(ended)
    })
    .await?;
    door::nudge(&app);
    let status = if ended { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(json!({ "order_id": id }))))
}

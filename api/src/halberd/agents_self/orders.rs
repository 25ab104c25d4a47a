//! `GET /agents/self/orders`: what the engine wants this host to do to itself. The answer is signed, over its own request.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use halberd_store::orders::{self, OrderRow};
use halberd_store::rewind;
use halberd_types::halberd::problem::Problem;
use halberd_types::report::{ORDERS_PATH, Order, OrderKind, Orders, SIGNATURE_HEADER, sign_answer};
use serde_json::{Value, json};

use super::{Lane, Lanes, ORDER_KEEPS, advance, speaker};
use crate::App;
use crate::halberd::door;
use crate::halberd::problem::Failure;

/// Open orders for the host that asks, oldest first.
#[utoipa::path(
    get, path = "/agents/self/orders", operation_id = "fetch_orders", tag = "agents",
    responses(
        (status = 200, description = "`halberd_types::report::Orders`, signed in x-halberd-signature.", body = Object),
        (status = 401, description = "The signature does not fit, or the counter has not grown.", body = Problem),
        (status = 403, description = "This boot was fenced.", body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    Extension(lanes): Extension<Lanes>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let speaker = speaker(&app, &lanes, "GET", ORDERS_PATH, &headers, &body).await?;
    advance(&lanes, Lane::Orders, &speaker.signed)?;
    // In reconcile-only an order may be of a day that was restored, and carried out long ago.
    let rows = match rewind::stands(door::db(&app)).await? {
        true => Vec::new(),
        false => orders::pending(door::db(&app), speaker.host.id).await?,
    };
    let answer = Orders { orders: rows.iter().filter_map(shown).collect() };
    let text = serde_json::to_vec(&answer).map_err(|error| Failure::internal(&error))?;
    let signature = sign_answer(&speaker.key, ORDERS_PATH, &speaker.signed, &text);
    let signature = HeaderValue::from_str(&signature).map_err(|error| Failure::internal(&error))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let mut response = (headers, text).into_response();
    response.headers_mut().insert(SIGNATURE_HEADER, signature);
    Ok(response)
}

/// An order as stored: `kind` is the order's word, `body` what that kind needs, and `expires_after_ms` if it has one.
fn shown(row: &OrderRow) -> Option<Order> {
    let mut body = row.body.clone();
    if !body.is_object() {
        body = json!({});
    }
    body["kind"] = json!(row.kind);
    match serde_json::from_value::<OrderKind>(body) {
        Ok(kind) => {
            let keeps = row.body.get("expires_after_ms").and_then(Value::as_u64);
            let expires_after_ms = keeps.unwrap_or(ORDER_KEEPS.as_millis() as u64);
            Some(Order { id: row.id, kind, expires_after_ms })
        }
        Err(error) => {
            tracing::error!(order = %row.id, kind = row.kind, %error, "an order cannot be read and is not given out");
            None
        }
    }
}

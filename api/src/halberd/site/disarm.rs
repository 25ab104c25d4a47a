//! `POST /disarm`: stop all acting until a given time.

use axum::body::Bytes;
use axum::extract::State;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{DisarmRequest, Wish, WishKind};

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

/// Stop all acting until a given time.
#[utoipa::path(
    post, path = "/disarm", operation_id = "disarm", tag = "site",
    request_body = DisarmRequest,
    responses(
        (status = 202, description = "The wish was recorded; an engine grants or refuses it.", body = Wish),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    body: Bytes,
) -> Result<Accepted, Failure> {
    door::require(&caller, "halberd:site:disarm")?;
    record(&app, &caller, WishKind::Disarm, About::Site, &input::json(&body)?).await
}

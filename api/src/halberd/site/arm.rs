//! `POST /arm`: let the engines act again.

use axum::body::Bytes;
use axum::extract::State;
use halberd_types::halberd::problem::Problem;
use halberd_types::halberd::wish::{ReasonRequest, Wish, WishKind};

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::halberd::wishes::{About, Accepted, record};
use crate::{App, Caller};

/// Let the engines act again.
#[utoipa::path(
    post, path = "/arm", operation_id = "arm", tag = "site",
    request_body = ReasonRequest,
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
    door::require(&caller, "halberd:site:arm")?;
    record(&app, &caller, WishKind::Arm, About::Site, &input::json(&body)?).await
}

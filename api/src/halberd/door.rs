//! What handlers take from the application, in one place: the database, the clock, what the caller may.

use axum::extract::Request;
use halberd_core::time::Stamp;
use halberd_store::{Db, Sealer};

use super::problem::Failure;
use crate::{App, Caller, RequestId};

/// First in every handler: whoever may not, learns nothing (I33). Rules and their defaults stand in [`crate::access`].
pub(crate) fn require(caller: &Caller, rule: &str) -> Result<(), Failure> {
    caller.may(rule).map_err(|error| Failure::forbidden(error.to_string()))
}

pub(crate) fn db(app: &App) -> &Db {
    &app.db
}

pub(crate) fn sealer(app: &App) -> &Sealer {
    &app.sealer
}

/// For rows and display.
pub(crate) fn now(app: &App) -> Stamp {
    app.now()
}

/// The audit chain of this process.
pub(crate) fn chain(app: &App) -> String {
    app.audit_chain.clone()
}

pub(crate) fn actor(caller: &Caller) -> String {
    caller.actor().to_owned()
}

/// Tells the engine of this process that there is work; others find it by their poll.
pub(crate) fn nudge(app: &App) {
    app.nudge();
}

pub(crate) fn has_openstack(app: &App) -> bool {
    app.nova.is_some()
}

pub(crate) fn request_id(request: &Request) -> Option<String> {
    request.extensions().get::<RequestId>().map(RequestId::to_string)
}

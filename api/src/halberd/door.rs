//! What handlers take from the application, in one place: the database, the clock, the caller's standing.

use axum::extract::Request;
use halberd_core::time::Stamp;
use halberd_store::{Db, Sealer};

use super::problem::Failure;
use crate::{App, Caller, Least, RequestId};

/// What a verb of this interface asks for (DESIGN 10.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Look; no secret is ever shown.
    Read,
    /// Segments, hosts, release, retry.
    Operate,
    /// Turn machines off, state that they are, give up, keep secrets.
    Command,
}

impl Verb {
    fn rule(self) -> (Least, &'static str) {
        match self {
            Verb::Read => (Least::Reader, "halberd:read"),
            Verb::Operate => (Least::Manager, "halberd:operate"),
            Verb::Command => (Least::Admin, "halberd:command"),
        }
    }
}

/// First in every handler: whoever may not, learns nothing (I33).
pub(crate) fn require(caller: &Caller, verb: Verb) -> Result<(), Failure> {
    let (least, rule) = verb.rule();
    caller.require(least, rule).map_err(|error| Failure::forbidden(error.to_string()))
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

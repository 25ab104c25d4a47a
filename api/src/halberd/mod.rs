//! `/halberd/v1`: everything beyond the original's contract (DESIGN 5).
//!
//! One file per verb, whole: route, errors, description, handler. What the verbs share is little: [`door`] (what they take
//! from the application), [`input`] (reading requests), [`problem`] (their one shape of error), and [`wishes`], since this
//! interface moves nothing itself: it records what operators ask, and engines do it or say why not (DESIGN 10.8).
//!
//! Two routers, because two kinds of callers come here. [`routes`] asks each caller for a rule; [`agent_routes`]
//! believes a signature made with the host's own key and nothing else (DESIGN 10.7). Both are mounted under `/halberd/v1`.

mod agents_self;
mod audit;
mod door;
mod events;
mod fence_devices;
mod hosts;
mod input;
mod openapi;
mod problem;
mod recoveries;
mod segments;
mod site;
mod wishes;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{delete, get, post, put};
use axum::{Router, middleware};

use crate::App;

pub use openapi::document as openapi_document;

/// What operators, dashboards and tools call. Each handler takes a [`crate::Caller`].
pub fn routes() -> Router<App> {
    let hosts = Router::new()
        .route("/fence", post(hosts::fence::handler))
        .route("/fence-test", post(hosts::fence_test::handler))
        .route("/fence-history", get(hosts::fence_history::handler))
        .route("/power-on", post(hosts::power_on::handler))
        .route("/confirm-fenced", post(hosts::confirm_fenced::handler))
        .route("/readmit", post(hosts::readmit::handler))
        .route("/attributes", put(hosts::attributes::handler))
        .route("/agent-key", post(hosts::agent_key::issue).merge(delete(hosts::agent_key::withdraw)))
        .route("/fence-devices", get(fence_devices::show::handler).merge(put(fence_devices::set::handler)))
        .route("/fence-devices/check", post(fence_devices::check::handler));
    Router::new()
        .route("/recoveries", get(recoveries::list::handler))
        .route("/recoveries/{id}", get(recoveries::show::handler))
        .route("/recoveries/{id}/explain", get(recoveries::explain::handler))
        .route("/recoveries/{id}/retry", post(recoveries::retry::handler))
        .route("/recoveries/{id}/release", post(recoveries::release::handler))
        .route("/recoveries/{id}/cancel", post(recoveries::cancel::handler))
        .nest("/hosts/{uuid}", hosts)
        .route("/wishes/{id}", get(wishes::show::handler))
        .route("/events", get(events::stream::handler))
        .route("/services", get(site::services::handler))
        .route("/agents", get(site::agents::handler))
        .route("/engines", get(site::engines::handler))
        .route("/readiness", get(site::readiness::handler))
        .route("/disarm", post(site::disarm::handler))
        .route("/arm", post(site::arm::handler))
        .route("/reconcile-only", get(site::reconcile::show))
        .route("/reconcile-only/leave", post(site::reconcile::leave))
        .route("/segments/{uuid}/policy", get(segments::policy::show).merge(put(segments::policy::set)))
        .route("/audit", get(audit::list::handler))
        .route("/audit/chains", get(audit::chains::handler))
        .route("/audit/verify", get(audit::verify::handler))
        .route("/openapi.json", get(openapi::handler))
        .route("/openapi-v1.json", get(crate::openapi::handler))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(DefaultBodyLimit::max(input::BODY_LIMIT))
        .layer(middleware::from_fn(input::query_is_text))
        .layer(middleware::from_fn(problem::finish))
}

/// What agents call. Authentication is the signature: mount these outside of any check of tokens, and once, since the router
/// remembers the agents' counters.
pub fn agent_routes() -> Router<App> {
    Router::new()
        .route("/agents/self/reports", post(agents_self::reports::handler))
        .route("/agents/self/orders", get(agents_self::orders::handler))
        .route("/agents/self/orders/{id}", post(agents_self::result::handler))
        .layer(axum::Extension(agents_self::Lanes::default()))
        .layer(DefaultBodyLimit::max(agents_self::BODY_LIMIT))
        .layer(middleware::from_fn(problem::finish))
}

/// Whether a recovery would work now; what `/healthcheck?ready` may answer by.
///
/// # Errors
/// The database's, as a sentence.
pub async fn readiness(app: &App) -> Result<halberd_types::halberd::readiness::Readiness, String> {
    site::readiness::readiness(app).await.map_err(|failure| failure.detail().to_owned())
}

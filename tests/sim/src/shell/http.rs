//! The HTTP server of Keystone, Nova, Placement, ironic and an empty Neutron, and what they share.

use super::{Shared, baremetal, identity, keystone, nova, placement};
use crate::reply::Refusal;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// State of the OpenStack routes.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) shared: Arc<Shared>,
    /// `http://127.0.0.1:port`, for links and the catalog.
    pub(super) base: String,
}

pub(super) fn router(shared: Arc<Shared>, address: SocketAddr) -> Router {
    let site = Site { shared, base: format!("http://{address}") };
    Router::new()
        .merge(keystone::routes())
        .merge(identity::routes())
        .merge(nova::routes())
        .merge(placement::routes())
        .merge(baremetal::routes())
        .route("/network/v2.0/{collection}", get(neutron))
        .with_state(site)
}

pub(super) fn serve(listener: TcpListener, router: Router, shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    tokio::spawn(async move {
        // Dropping the server ends its connections at once; an orderly end would wait for those that hang by design.
        let listener = listener.tap_io(|stream| {
            // Small answers must not wait for each other; a stream that cannot do it is merely slower.
            let _ = stream.set_nodelay(true);
        });
        tokio::select! {
            _ = axum::serve(listener, router) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn neutron(State(site): State<Site>, headers: HeaderMap, Path(collection): Path<String>) -> Answered {
    caller(&site, &headers)?;
    if site.shared.with(|world, now| world.neutron_down(now)) {
        return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
    }
    Ok(Json(json!({ collection.replace('-', "_"): Value::Array(Vec::new()) })).into_response())
}

/// An answer that ends a request early.
#[derive(Debug)]
pub(super) struct Refused(Box<Response>);

impl From<Response> for Refused {
    fn from(answer: Response) -> Self {
        Self(Box::new(answer))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// What handlers return.
pub(super) type Answered = Result<Response, Refused>;

/// Who asks, or the answer that refuses him.
pub(super) fn caller(site: &Site, headers: &HeaderMap) -> Result<crate::world::Caller, Refused> {
    let token = headers.get("x-auth-token").and_then(|value| value.to_str().ok());
    let known = site.shared.with(|world, now| world.accept_token(now, token));
    known.map_err(|refusal| match refusal.code() {
        Some(503) => keystone_away().into(),
        _ => {
            let uri = format!("Keystone uri=\"{}/identity\"", site.base);
            let mut answer = unauthorized();
            if let Ok(value) = HeaderValue::from_str(&uri) {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, value);
            }
            answer.into()
        }
    })
}

/// What the middleware says when it cannot ask Keystone: HTML, to whoever expects JSON.
fn keystone_away() -> Response {
    let html = [(header::CONTENT_TYPE, "text/html; charset=UTF-8")];
    let page = "<html><head><title>503 Service Unavailable</title></head><body>\
                The Keystone service is temporarily unavailable.</body></html>";
    (StatusCode::SERVICE_UNAVAILABLE, html, page).into_response()
}

pub(super) fn unauthorized() -> Response {
    keystone_error(401, "The request you have made requires authentication.")
}

/// An error in Keystone's shape.
pub(super) fn keystone_error(code: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let title = status.canonical_reason().unwrap_or("Error");
    (status, Json(json!({"error": {"code": code, "title": title, "message": message}}))).into_response()
}

/// An answer that never comes; the connection stays open until the client gives up.
pub(super) async fn silence() -> Response {
    std::future::pending().await
}

/// A refusal in the given shape, or silence.
pub(super) async fn refuse(refusal: Refusal, shape: fn(u16, &str) -> Response) -> Response {
    match refusal {
        Refusal::Status { code, message } => shape(code, &message),
        Refusal::Silence => silence().await,
    }
}

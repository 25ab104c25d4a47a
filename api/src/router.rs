//! Which path leads where.
//!
//! Every `/v1` route exists twice, plain and under a project id, and may end in `.json` or `.xml`, because catalogs and clients write all of
//! these (contract 1.1). One rewrite at the door folds them into one, so that the routes below stand once.
//!
//! Which of 404 and 405 a wrong method gets is part of the contract: 405 where the original's router knew the path and the verb but had no
//! code for it, 404 where it had no route. HEAD, PATCH and trailing slashes have none.

use std::any::Any;
use std::future::Future;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use halberd_types::v1::microversion::Microversion;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::auth::{Auth, RequestId, authenticate, strip_identity};
use crate::cors::cross_origin;
use crate::error::ApiError;
use crate::project_id::ProjectIds;
use crate::{halberd, health, hosts, notifications, segments, version, vmoves};

/// The whole API.
pub fn router(app: App) -> Router {
    let v1 = from_fn_with_state(app.clone(), enter_v1).layer(v1_routes().with_state(app.clone()));
    let by_media_type = v1.clone();
    let elsewhere =
        async move |State(app): State<App>, headers: HeaderMap, uri: Uri, mut request: Request| {
            let Some(under_v1) = under_v1(&headers, &uri) else {
                return version::choices(State(app), headers, uri).await;
            };
            let id = request.extensions().get::<RequestId>().map(RequestId::header_value);
            *request.uri_mut() = under_v1;
            let mut response = by_media_type.oneshot(request).await.into_response();
            response.headers_mut().extend(id.map(|id| (RequestId::HEADER, id)));
            response
        };
    let router = Router::new()
        .route("/", get(version::list).fallback(version::choices))
        .route("/healthcheck", get(health::show))
        .route_service("/v1", v1.clone())
        .route_service("/v1/", v1.clone())
        .route_service("/v1/{*rest}", v1)
        .nest("/halberd/v1", halberd::routes().merge(halberd::agent_routes()))
        .fallback(elsewhere)
        .layer(DefaultBodyLimit::max(app.config.max_body))
        .layer(CatchPanicLayer::custom(panicked));
    let router = match app.config.cors_allowed_origins.is_empty() {
        true => router,
        false => router.layer(from_fn_with_state(app.clone(), cross_origin)),
    };
    router.layer(from_fn_with_state(app.clone(), door)).with_state(app)
}

/// The same path below `/v1`, for one who chose the version by the parameter of a media type rather than by the path (contract 1.14).
fn under_v1(headers: &HeaderMap, uri: &Uri) -> Option<Uri> {
    let chooses = |name: HeaderName| {
        let types = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        types.flat_map(|list| list.split(',')).any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let ours = matches!(parts.next(), Some("application/json" | VENDOR_TYPE));
            ours && parts.any(|parameter| parameter == "version=1")
        })
    };
    if !chooses(header::ACCEPT) && !chooses(header::CONTENT_TYPE) {
        return None;
    }
    format!("/v1{}", uri.path_and_query()?).parse().ok()
}

/// Serves plain HTTP until `shutdown` is done, then finishes what is under way.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(app)).with_graceful_shutdown(shutdown).await
}

/// Lists, and the name of an item in each.
const LISTS: [(&str, &str); 4] = [
    ("/segments", "segment"),
    ("/segments/{segment}/hosts", "host"),
    ("/notifications", "notification"),
    ("/notifications/{notification}/vmoves", "vmove"),
];

/// The routes of `/v1`, without mount, project and format, and without their way in: [`router`] has both.
pub fn v1_routes() -> Router<App> {
    // What the original's router knew of every resource and had no code for: the forms of a web page, and an action.
    let unwritten = LISTS.iter().fold(Router::new(), |router, (list, item)| {
        router
            .route(&format!("{list}/new"), strict(get(bad_method)))
            .route(&format!("{list}/{{{item}}}/edit"), strict(get(bad_method)))
            .route(&format!("{list}/{{{item}}}/action"), strict(post(bad_method)))
    });
    unwritten
        .route("/", strict(get(version::detail)))
        .route("/versions", strict(get(bad_method)))
        .route("/versions/{id}", strict(get(version::item)))
        .route("/extensions", strict(get(version::extensions).post(bad_method)))
        .route("/extensions/{alias}", item(get(version::extension)))
        .route("/segments", strict(get(segments::list).post(segments::create)))
        .route(
            "/segments/{segment}",
            strict(get(segments::show).put(segments::update).delete(segments::delete)),
        )
        .route("/segments/{segment}/hosts", strict(get(hosts::list).post(hosts::create)))
        .route(
            "/segments/{segment}/hosts/{host}",
            strict(get(hosts::show).put(hosts::update).delete(hosts::delete)),
        )
        .route("/notifications", strict(get(notifications::list).post(notifications::create)))
        .route("/notifications/{notification}", item(get(notifications::show)))
        .route("/notifications/{notification}/vmoves", strict(get(vmoves::list).post(bad_method)))
        .route("/notifications/{notification}/vmoves/{vmove}", item(get(vmoves::show)))
        .fallback(no_route)
}

/// Methods not named have no route; HEAD would otherwise be GET's.
fn strict(methods: MethodRouter<App>) -> MethodRouter<App> {
    methods.head(no_route).fallback(no_route)
}

/// An item that can only be read: its other verbs have a route and no code.
fn item(methods: MethodRouter<App>) -> MethodRouter<App> {
    strict(methods.put(bad_method).delete(bad_method))
}

async fn no_route() -> ApiError {
    ApiError::not_found("The resource could not be found.")
}

async fn bad_method() -> ApiError {
    ApiError::new(405, "The method is not allowed for this resource.")
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = said, "a request's handler panicked");
    ApiError::new(500, "The request failed by a fault of this service; its log says why.").into_response()
}

/// Every request's way in and out: its id, no identity from outside, its count and time.
pub(crate) async fn door(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let begin = Instant::now();
    if matches!(app.auth, Auth::Keystone(_)) {
        strip_identity(request.headers_mut());
    }
    let id = RequestId::new();
    request.extensions_mut().insert(id.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let shows_id = is_under(&path, "/v1") || is_under(&path, "/halberd/v1");
    let mut response = next.run(request).await;
    if shows_id {
        response.headers_mut().insert(RequestId::HEADER, id.header_value());
    }
    measure(&method, &path, response.status(), begin);
    tracing::debug!(request_id = %id, %method, path, status = response.status().as_u16(), "answered");
    response
}

fn is_under(path: &str, mount: &str) -> bool {
    path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Labels are words of ours, never a client's own text: a scanner must not grow the metrics.
fn measure(method: &Method, path: &str, status: StatusCode, begin: Instant) {
    let area = match path {
        _ if is_under(path, "/v1") => "v1",
        _ if is_under(path, "/halberd/v1") => "halberd",
        _ => "other",
    };
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let labels =
        [("area", area.to_owned()), ("method", method.to_owned()), ("status", status.as_str().to_owned())];
    metrics::counter!("halberd_api_requests_total", &labels).increment(1);
    metrics::histogram!("halberd_api_request_seconds", &labels[..2]).record(begin.elapsed().as_secs_f64());
}

/// `/v1`'s own way in and out: size, token, microversion, project; headers of the answer.
async fn enter_v1(State(app): State<App>, request: Request, next: Next) -> Response {
    let version = version::asked(request.headers());
    let wants_vendor_type = accepts_vendor_type(&request);
    let mut response = match admit(&app, request, &version).await {
        Ok(request) => next.run(request).await,
        Err(response) => response,
    };
    version::mark(&mut response, &version);
    if wants_vendor_type
        && response.status().is_success()
        && response.headers().contains_key(header::CONTENT_TYPE)
    {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(VENDOR_TYPE));
    }
    response
}

const VENDOR_TYPE: &str = "application/vnd.openstack.masakari+json";

fn accepts_vendor_type(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains(VENDOR_TYPE))
}

/// The checks that stand before any handler, in the order of the original's pipeline (contract 1.14).
async fn admit(
    app: &App,
    mut request: Request,
    version: &Result<Microversion, halberd_types::v1::microversion::MicroversionError>,
) -> Result<Request, Response> {
    if *request.method() == Method::OPTIONS {
        return Err(StatusCode::OK.into_response());
    }
    if declared_length(&request).is_some_and(|length| length > app.config.max_body as u64) {
        return Err(ApiError::too_large(app.config.max_body).into_response());
    }
    let place = Folded::of(request.uri().path(), &app.project_ids);
    let is_discovery = place.as_ref().is_some_and(|place| place.path == "/" && place.project.is_none());
    let project = if is_discovery {
        None
    } else {
        let id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::new);
        let caller = authenticate(app, request.headers(), id).await.map_err(IntoResponse::into_response)?;
        let project = caller.project_id.clone();
        request.extensions_mut().insert(caller);
        project
    };
    let version = version.clone().map_err(version::refuse)?;
    request.extensions_mut().insert(version);
    let place =
        place.ok_or_else(|| ApiError::not_found("The resource could not be found.").into_response())?;
    if let Some(asked) = &place.project
        && project.as_ref() != Some(asked)
    {
        let why =
            format!("Malformed request URL: URL's project_id {asked:?} does not match the caller's project.");
        return Err(ApiError::bad_request(why).into_response());
    }
    *request.uri_mut() = place.uri(request.uri());
    Ok(request)
}

fn declared_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A `/v1` path without mount, project and format.
#[derive(Debug, PartialEq, Eq)]
struct Folded {
    project: Option<String>,
    path: String,
}

impl Folded {
    /// `None` for a path that has no route in any spelling.
    fn of(path: &str, ids: &ProjectIds) -> Option<Folded> {
        let rest = path.strip_prefix("/v1")?;
        let rest = if rest.is_empty() { "/" } else { rest };
        let rest = [".json", ".xml"].iter().find_map(|format| rest.strip_suffix(format)).unwrap_or(rest);
        let first = rest.trim_start_matches('/').split('/').next().unwrap_or_default();
        if RESOURCES.contains(&first) || !ids.matches(first) {
            return Some(Folded { project: None, path: rest.to_owned() });
        }
        // The project alone is no route.
        let after = &rest[1 + first.len()..];
        let is_route = after.len() > 1;
        is_route.then(|| Folded { project: Some(first.to_owned()), path: after.to_owned() })
    }

    fn uri(&self, asked: &Uri) -> Uri {
        let text = match asked.query() {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        };
        let mut parts = asked.clone().into_parts();
        // A part of a valid path and a valid query are valid together.
        parts.path_and_query = text.parse().ok();
        Uri::from_parts(parts).unwrap_or_else(|_| asked.clone())
    }
}

/// First parts of our own paths: no project's id, whatever `project_id_regex` says.
const RESOURCES: [&str; 4] = ["segments", "notifications", "extensions", "versions"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_path_fold_into_one() {
        let table = [
            ("/v1", Some((None, "/"))),
            ("/v1/", Some((None, "/"))),
            ("/v1/segments", Some((None, "/segments"))),
            ("/v1/segments.json", Some((None, "/segments"))),
            ("/v1/segments/x.xml", Some((None, "/segments/x"))),
            ("/v1/segments/", Some((None, "/segments/"))),
            ("/v1/0f-9/segments", Some((Some("0f-9"), "/segments"))),
            ("/v1/0f-9/segments/0f-9/hosts.json", Some((Some("0f-9"), "/segments/0f-9/hosts"))),
            ("/v1/0f-9", None),
            ("/v1/0f-9/", None),
            ("/v1/Project/segments", Some((None, "/Project/segments"))),
        ];
        let ids = crate::ApiConfig::default().project_ids().unwrap();
        for (path, want) in table {
            let want = want.map(|(project, path): (Option<&str>, &str)| Folded {
                project: project.map(str::to_owned),
                path: path.to_owned(),
            });
            assert_eq!(Folded::of(path, &ids), want, "{path}");
        }
        let any = ProjectIds::parse("[^/]+").unwrap();
        let folded = Folded::of("/v1/My Cloud/segments", &any).unwrap();
        assert_eq!((folded.project.as_deref(), folded.path.as_str()), (Some("My Cloud"), "/segments"));
        assert_eq!(Folded::of("/v1/segments/x", &any).unwrap().project, None);
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_ours_and_tells_nothing() {
        let response = panicked(Box::new("the password is x".to_owned()));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("masakariFault") && !text.contains("password"), "{text}");
    }
}

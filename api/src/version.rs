//! Discovery: `GET /`, `GET /v1`, the 300 for a top path nobody serves, and extensions (contract 1.9); the microversion of a request.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use halberd_types::v1::microversion::{HEADER, Microversion, MicroversionError};
use halberd_types::v1::version::{
    Choices, EXTENSIONS, VersionDetail, VersionList, find_extension, is_version_id,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::config::ApiConfig;
use crate::error::{ApiError, ApiResult};
use crate::input::Place;

/// `GET /`: open to all.
pub(crate) async fn list(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    answer::json(StatusCode::OK, &VersionList::new(&base(&app.config, &headers, &uri)))
}

/// `GET /v1` and `/v1/`: open to all, which saves clients a round trip (contract 6.3).
pub(crate) async fn detail(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    answer::json(StatusCode::OK, &VersionDetail::new(&base(&app.config, &headers, &uri)))
}

/// `GET /v1/versions/{id}`
pub(crate) async fn item(
    State(app): State<App>,
    place: Place,
    headers: HeaderMap,
    uri: Uri,
) -> ApiResult<Response> {
    if is_version_id(place.text("id")) {
        Ok(detail(State(app), headers, uri).await)
    } else {
        Err(ApiError::not_found("No such version."))
    }
}

/// Any top path nobody serves: open to all.
pub(crate) async fn choices(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    let choices = Choices::new(&base(&app.config, &headers, &uri), uri.path());
    answer::json(StatusCode::MULTIPLE_CHOICES, &choices)
}

/// `GET /v1/extensions`
pub(crate) async fn extensions(caller: Caller) -> ApiResult<Response> {
    caller.may("os_masakari_api:extensions:index")?;
    let seen: Vec<_> = EXTENSIONS.iter().filter(|extension| may_discover(&caller, extension.alias)).collect();
    Ok(answer::many("extensions", &seen))
}

/// `GET /v1/extensions/{alias}`
pub(crate) async fn extension(caller: Caller, place: Place) -> ApiResult<Response> {
    caller.may("os_masakari_api:extensions:detail")?;
    let found = find_extension(place.text("alias"))
        .filter(|extension| may_discover(&caller, extension.alias))
        .ok_or_else(|| ApiError::not_found("No such extension."))?;
    Ok(answer::one(StatusCode::OK, "extension", found))
}

/// Who may not know of an extension does not see it listed.
fn may_discover(caller: &Caller, alias: &str) -> bool {
    caller.may(&format!("os_masakari_api:{alias}:discoverable")).is_ok()
}

/// The microversion a request asks for.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Microversion, MicroversionError> {
    // A line that is no text is not ours: no version is written in it.
    let lines: Vec<&str> = headers.get_all(HEADER).iter().filter_map(|line| line.to_str().ok()).collect();
    Microversion::from_headers(lines.into_iter())
}

/// Writes `OpenStack-API-Version` and `Vary` as the contract has them for this outcome.
pub(crate) fn mark(response: &mut Response, version: &Result<Microversion, MicroversionError>) {
    let sends_vary = version.as_ref().map_or_else(MicroversionError::sends_vary, |_| true);
    if let Ok(version) = version
        && let Ok(value) = HeaderValue::from_str(&version.header_value())
    {
        response.headers_mut().insert("openstack-api-version", value);
    }
    if sends_vary {
        response.headers_mut().append(http::header::VARY, HeaderValue::from_static(HEADER));
    }
}

/// The refusal of a version, as an answer.
pub(crate) fn refuse(error: MicroversionError) -> Response {
    ApiError::from(error).into_response()
}

/// Scheme, host and mount as the client used them, without a trailing slash.
fn base(config: &ApiConfig, headers: &HeaderMap, uri: &Uri) -> String {
    if let Some(prefix) = &config.link_prefix {
        return prefix.trim_end_matches('/').to_owned();
    }
    let own = if config.tls_cert.is_some() { "https" } else { "http" };
    let read = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = read("host").or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let (mut scheme, mut host, mut mount) = (None, None, None);
    if config.proxy_headers {
        match read("forwarded") {
            Some(forwarded) => (scheme, host) = of_forwarded(forwarded),
            None => {
                let first = |name| read(name).and_then(|list| list.split(',').next()).map(str::trim);
                (scheme, host) = (first("x-forwarded-proto"), first("x-forwarded-host"));
                mount = first("x-forwarded-prefix");
            }
        }
    }
    let scheme = scheme.filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or(own);
    let host = host.or(asked).filter(|host| is_host(host));
    let host = host.map_or_else(|| config.listen.to_string(), str::to_owned);
    let mount = mount.filter(|mount| is_mount(mount)).unwrap_or_default().trim_end_matches('/');
    format!("{scheme}://{host}{mount}")
}

/// Scheme and host of the first element of `Forwarded` (RFC 7239).
fn of_forwarded(value: &str) -> (Option<&str>, Option<&str>) {
    let first = value.split(',').next().unwrap_or_default();
    let find = |wanted: &str| {
        first.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"'))
        })
    };
    (find("proto"), find("host"))
}

/// What may stand in a link: a header is a client's own text.
fn is_host(host: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !host.is_empty() && host.len() <= 255 && host.bytes().all(allowed)
}

fn is_mount(mount: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'.' | b'-' | b'_' | b'~');
    mount.starts_with('/') && !mount.starts_with("//") && mount.len() <= 255 && mount.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_begin_as_the_client_came() {
        let plain = ApiConfig::default();
        let proxied = ApiConfig { proxy_headers: true, ..ApiConfig::default() };
        let tls = ApiConfig { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..ApiConfig::default() };
        let fixed =
            ApiConfig { link_prefix: Some("https://ha.example/instance-ha/".into()), ..ApiConfig::default() };
        let forwarded = [("forwarded", "for=192.0.2.1;proto=https;host=\"ha.example\", for=x;host=y")];
        let behind = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "ha.example"),
            ("x-forwarded-prefix", "/instance-ha/"),
        ];
        let evil = [
            ("x-forwarded-host", "e\"><b>"),
            ("x-forwarded-prefix", "//evil.example"),
            ("x-forwarded-proto", "javascript"),
        ];
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let table: [(&ApiConfig, Headers<'_>, &str); 8] = [
            (&plain, &[("host", "h:15868")], "http://h:15868"),
            (&plain, &[("host", "[2001:db8::1]:15868")], "http://[2001:db8::1]:15868"),
            (&plain, &behind, "http://127.0.0.1:15868"),
            (&proxied, &behind, "https://ha.example/instance-ha"),
            (&proxied, &forwarded, "https://ha.example"),
            (&proxied, &evil, "http://127.0.0.1:15868"),
            (&tls, &[("host", "h")], "https://h"),
            (&fixed, &[("host", "h")], "https://ha.example/instance-ha"),
        ];
        for (config, pairs, want) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers
                    .insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            assert_eq!(base(config, &headers, &Uri::from_static("/")), want, "{pairs:?}");
        }
    }
}

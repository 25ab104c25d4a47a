//! HTTP as a fence needs it: one origin, one connection per request, no cache, no proxy, bounded bytes and time.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, LOCATION, RETRY_AFTER,
};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{quirks, tls};
use crate::device::Device;
use crate::error::{FenceError, clip};
use crate::limits::Limits;

/// Redirects of one GET; a service that needs more goes round in circles.
const REDIRECTS: usize = 3;

/// A wait of unknown length: longer than any cap.
const SOME_WAIT: Duration = Duration::from_secs(3_600);

/// How requests prove who sends them.
#[derive(Debug, Clone)]
pub(super) enum Auth {
    None,
    Session(SecretString),
    Basic(String, SecretString),
}

/// A way to one Redfish service.
#[derive(Debug, Clone)]
pub(super) struct Http {
    device: String,
    client: Client,
    origin: Url,
    connect: Duration,
    request: Duration,
    max_body: usize,
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The peer's certificate (DER), where there is TLS.
    pub certificate: Option<Vec<u8>>,
}

impl Reply {
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty())
    }

    pub(super) fn location(&self) -> Option<&str> {
        self.header(&LOCATION)
    }

    pub(super) fn etag(&self) -> Option<String> {
        self.header(&ETAG).map(str::to_owned)
    }

    /// How long Retry-After asks us to wait: seconds, or a date by the BMC's own clock, whose present is the answer's Date (RFC 9110
    /// 10.2.3). Our clock has no part in it: theirs is often years away. A date without a Date beside it asks for some wait, so
    /// the caller's cap decides.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let text = self.header(&RETRY_AFTER)?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let until = http_date(text)?;
        let Some(now) = self.header(&DATE).and_then(http_date) else { return Some(SOME_WAIT) };
        Some(Duration::from_secs(u64::try_from(until - now).unwrap_or_default()))
    }

    /// The body as JSON, whatever the status; `Null` if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Seconds since 1970 of an IMF-fixdate (RFC 9110 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    let text = text.trim();
    let date = chrono::DateTime::parse_from_rfc2822(text).ok().filter(|_| text.ends_with(" GMT"))?;
    Some(date.timestamp())
}

impl Http {
    pub(super) fn new(device: &Device, limits: &Limits) -> Result<Self, FenceError> {
        let name = device.name();
        let config = |detail: String| FenceError::Config { device: name.clone(), detail };
        let address = device.address.as_deref().unwrap_or_default();
        let mut origin = Url::parse(address).map_err(|e| config(format!("address: {e}")))?;
        if let Some(port) = device.port {
            origin.set_port(Some(port)).map_err(|()| config("address takes no port".into()))?;
        }
        origin.set_path("/");
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tls_info(true)
            .http1_only()
            .pool_max_idle_per_host(0)
            .connect_timeout(limits.connect)
            .timeout(limits.request)
            .user_agent(concat!("halberd/", env!("CARGO_PKG_VERSION")));
        let client = tls::apply(builder, device.tls.as_ref(), origin.scheme() == "http")
            .map_err(config)?
            .build()
            .map_err(|e| config(format!("HTTP client: {}", chain(&e))))?;
        let (connect, request, max_body) = (limits.connect, limits.request, limits.max_body);
        Ok(Self { device: name, client, origin, connect, request, max_body })
    }

    /// The URL of a link. One that leads to another origin is refused: it would carry our credentials there.
    pub(super) fn resolve(&self, link: &str) -> Result<Url, FenceError> {
        let url = self.origin.join(link).ok().filter(|u| u.origin() == self.origin.origin());
        url.filter(|u| u.username().is_empty() && u.password().is_none())
            .ok_or_else(|| self.malformed(format!("link {link:?} leads away from {}", self.origin)))
    }

    pub(super) fn malformed(&self, detail: impl Into<String>) -> FenceError {
        FenceError::Malformed { device: self.device.clone(), detail: clip(&detail.into()) }
    }

    /// GETs a document: 200 and a JSON object, or an error by its meaning.
    pub(super) async fn get(&self, auth: &Auth, link: &str) -> Result<(Reply, Value), FenceError> {
        let mut url = self.resolve(link)?;
        for _ in 0..=REDIRECTS {
            let reply = self.send(auth, Method::GET, url.clone(), None, None).await?;
            if reply.status.is_redirection()
                && let Some(to) = reply.location()
            {
                let to = url.join(to).map_err(|e| self.malformed(format!("redirect: {e}")))?;
                url = self.resolve(to.as_str())?;
                continue;
            }
            if reply.status != StatusCode::OK {
                return Err(self.refused(&reply, &format!("GET {}", url.path())));
            }
            return match serde_json::from_slice(&reply.body) {
                Ok(value @ Value::Object(_)) => Ok((reply, value)),
                _ => Err(self.malformed(format!("GET {} is not a JSON object", url.path()))),
            };
        }
        Err(self.malformed(format!("GET {link} is redirected more than {REDIRECTS} times")))
    }

    /// Sends one request and takes its answer whole, whatever the status.
    pub(super) async fn send(
        &self,
        auth: &Auth,
        method: Method,
        url: Url,
        body: Option<&Value>,
        if_match: Option<&str>,
    ) -> Result<Reply, FenceError> {
        let reply = self.send_once(auth, method.clone(), url.clone(), body, if_match, true).await?;
        if reply.status == StatusCode::NOT_ACCEPTABLE {
            // Some HPE firmwares refuse Accept-Encoding: identity. Nothing was executed.
            return self.send_once(auth, method, url, body, if_match, false).await;
        }
        Ok(reply)
    }

    async fn send_once(
        &self,
        auth: &Auth,
        method: Method,
        url: Url,
        body: Option<&Value>,
        if_match: Option<&str>,
        identity: bool,
    ) -> Result<Reply, FenceError> {
        let what = format!("{method} {}", url.path());
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("odata-version"), HeaderValue::from_static("4.0"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Many BMCs break idle keep-alive connections; a request on one would be an unknown outcome for nothing.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if identity {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let mut request = self.client.request(method, url).headers(headers);
        if let Some(etag) = if_match {
            request = request.header(IF_MATCH, etag);
        }
        request = match auth {
            Auth::None => request,
            Auth::Session(token) => {
                let mut value = HeaderValue::from_str(token.expose_secret())
                    .map_err(|_| self.malformed("session token is no header value"))?;
                value.set_sensitive(true);
                request.header("X-Auth-Token", value)
            }
            Auth::Basic(username, password) => request.basic_auth(username, Some(password.expose_secret())),
        };
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let mut response = request.send().await.map_err(|e| self.failed(&e, &what))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let tls = response.extensions().get::<reqwest::tls::TlsInfo>();
        let certificate = tls.and_then(|tls| tls.peer_certificate()).map(<[u8]>::to_vec);
        let too_large = || self.malformed(format!("{what} answers more than {} bytes", self.max_body));
        if response.content_length().is_some_and(|n| n > self.max_body as u64) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.failed(&e, &what))? {
            if bytes.len() + chunk.len() > self.max_body {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Reply { status, headers, body: bytes, certificate })
    }

    /// What a status means for the next move (not for orders that may be "already so": see `order`).
    pub(super) fn refused(&self, reply: &Reply, what: &str) -> FenceError {
        let device = self.device.clone();
        let status = reply.status.as_u16();
        let detail = clip(&format!("{what} answered {status}{}", said(&reply.json())));
        let not_ready = reply.status == StatusCode::BAD_REQUEST && quirks::says_not_ready(&reply.json());
        match status {
            401 => FenceError::Credentials { device, detail },
            403 => FenceError::Privilege { device, detail },
            408 | 429 | 500 | 502 | 503 | 504 => {
                FenceError::Busy { device, detail, retry_after: reply.retry_after() }
            }
            _ if not_ready => FenceError::Busy { device, detail, retry_after: reply.retry_after() },
            404 | 405 | 501 => FenceError::Unsupported { device, detail },
            300..=399 => FenceError::Malformed { device, detail },
            _ => FenceError::Refused { device, detail },
        }
    }

    /// A transport error by its meaning. The URL is cut out of the text, our device's name stands there already.
    fn failed(&self, error: &reqwest::Error, what: &str) -> FenceError {
        let device = self.device.clone();
        if let Some(detail) = tls_error(error) {
            return FenceError::Tls { device, detail };
        }
        if error.is_timeout() {
            // A hung BMC's kernel still takes the connection; what never comes is its part of the TLS handshake.
            let after = if error.is_connect() { self.connect } else { self.request };
            return FenceError::Silent { device, what: clip(what), after };
        }
        if error.is_connect() {
            return FenceError::Unreachable { device, detail: clip(&chain(error)) };
        }
        FenceError::Unreachable { device, detail: clip(&format!("{what} breaks off: {}", chain(error))) }
    }
}

/// The innermost reasons; the outer text of reqwest repeats the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut texts = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        texts.push(inner.to_string());
        source = inner.source();
    }
    texts.dedup();
    if texts.is_empty() { "no detail".to_owned() } else { texts.join(": ") }
}

/// The TLS layer's own words, if it is what failed. hyper and rustls wrap them in I/O errors in I/O errors, whose
/// `source` skips what they hold.
fn tls_error(error: &reqwest::Error) -> Option<String> {
    let mut source = error.source();
    while let Some(outer) = source {
        let mut held = Some(outer);
        while let Some(inner) = held {
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                return Some(tls.to_string());
            }
            let io = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            held = io.map(|e| e as &(dyn std::error::Error + 'static));
        }
        source = outer.source();
    }
    None
}

/// Message ids and texts of a Redfish error, for people; the first few.
pub(super) fn said(body: &Value) -> String {
    let texts: Vec<&str> = messages(body).take(2).collect();
    if texts.is_empty() { String::new() } else { format!(": {:.200}", texts.join(" / ")) }
}

/// True if one of the words occurs in an error's message ids or texts, letter case aside.
pub(super) fn mentions(body: &Value, words: &[&str]) -> bool {
    messages(body).any(|text| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|w| text.contains(&w.to_ascii_lowercase()))
    })
}

fn messages(body: &Value) -> impl Iterator<Item = &str> {
    let error = &body["error"];
    let extended = error["@Message.ExtendedInfo"].as_array().into_iter().flatten();
    let inner = extended.flat_map(|m| [&m["MessageId"], &m["Message"]]);
    [&error["code"], &error["message"]].into_iter().chain(inner).filter_map(Value::as_str)
}

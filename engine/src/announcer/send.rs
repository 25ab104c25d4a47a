//! One attempt: one POST, and what its answer means. Redirects are not followed, nothing is repeated below us, and no more
//! of an answer is read than an operator would want to see.

use std::sync::Arc;
use std::time::Duration;

use halberd_core::time::Stamp;
use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};

use super::config::{Hook, shown};
use super::message::Message;
use super::network::Guarded;
use super::sign::Keys;

/// Read of an answer, in bytes; the rest is dropped with the connection.
const ANSWER_LIMIT: usize = 2048;
/// Kept of it in the delivery's row, in characters.
const SHOWN: usize = 200;
/// A receiver may ask for patience, but not for more than this: its own back-off must not become our outage.
const LONGEST_PATIENCE: Duration = Duration::from_secs(3600);

/// An attempt that did not deliver.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For people; free of secrets.
    pub text: String,
    /// The receiver says that it will never take this hook's messages (410).
    pub is_final: bool,
    /// It asks us to wait this long.
    pub patience: Option<Duration>,
}

impl Failure {
    pub fn new(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), is_final: false, patience: None }
    }
}

/// The HTTP client of one hook; hooks share none, so that one hook's stuck connections are its own.
pub(super) fn client(hook: &Hook) -> Result<reqwest::Client, String> {
    // The provider is the process' choice; an earlier one by main stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .timeout(hook.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("halberd/", env!("CARGO_PKG_VERSION")));
    if !hook.networks.is_empty() {
        builder = builder.dns_resolver(Arc::new(Guarded(hook.networks.clone())));
    }
    if let Some(proxy) = &hook.proxy {
        let proxy = reqwest::Proxy::all(proxy.clone())
            .map_err(|error| format!("proxy: {}", chain(&error.without_url())))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| chain(&error))
}

/// Sends a message once. `id` is the same at each attempt, `now` is not.
pub(super) async fn post(
    client: &reqwest::Client,
    hook: &Hook,
    id: &str,
    message: Message,
    now: Stamp,
) -> Result<(), Failure> {
    let seconds = now.0.div_euclid(1_000_000);
    let mut request = client
        .post(hook.url.clone())
        .header(CONTENT_TYPE, message.content_type)
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds);
    let mut secrets = Vec::new();
    if let Some(secret) = &hook.secret {
        let keys = secret
            .read()
            .and_then(|text| Keys::parse(&text))
            .map_err(|what| Failure::new(format!("secret: {what}")))?;
        request = request.header("webhook-signature", keys.sign(id, seconds, &message.body));
    }
    for (name, value) in &hook.headers {
        let text = value.read().map_err(|what| Failure::new(format!("header {name}: {what}")))?;
        let mut value = HeaderValue::from_str(text.expose_secret())
            .map_err(|_| Failure::new(format!("header {name}: its value is not one line of text")))?;
        value.set_sensitive(true);
        request = request.header(name, value);
        secrets.push(text);
    }
    secrets.extend(hook.params.values().filter_map(|value| value.read().ok()));
    match request.body(message.body).send().await {
        Ok(response) => judge(response, &secrets).await,
        Err(error) => Err(Failure::new(format!("{}: {}", shown(&hook.url), chain(&error.without_url())))),
    }
}

async fn judge(response: Response, secrets: &[SecretString]) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let patience = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_PATIENCE));
    let text = match status {
        _ if status.is_redirection() => {
            format!("{status}: redirects are not followed; set url to where it leads")
        }
        _ => format!("{status} {}", redact(read_start(response).await, secrets)).trim_end().to_owned(),
    };
    Err(Failure { text, is_final: status == StatusCode::GONE, patience })
}

async fn read_start(mut response: Response) -> String {
    let mut read = Vec::new();
    while read.len() < ANSWER_LIMIT
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read.extend_from_slice(&chunk[..chunk.len().min(ANSWER_LIMIT - read.len())]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Receivers like to repeat what they were sent.
fn redact(mut text: String, secrets: &[SecretString]) -> String {
    for secret in secrets {
        // A header is often `Scheme SECRET`, and is echoed without its scheme.
        for part in secret.expose_secret().split_whitespace().filter(|part| part.len() >= 4) {
            text = text.replace(part, "***");
        }
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error with its sources in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

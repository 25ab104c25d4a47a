//! The API as the agent sees it: signed requests, and what an answer means for a message that waits.

use std::sync::Arc;
use std::time::Duration;

use halberd_types::report::{ORDERS_PATH, Orders, SIGNATURE_HEADER, Signed, sign, verify_answer};
use reqwest::StatusCode;

use crate::config::AgentConfig;
use crate::context::Context;

/// A request that takes longer is made again; the API answers reports in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The API has it.
    Accepted,
    /// The API will never take it.
    Refused(String),
    /// Try again.
    Later(String),
}

/// Why the API cannot be used or does not answer well.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The authority's file.
    #[error("`agent.api_ca_file` {path}: {why}")]
    Authority {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS set-up.
    #[error("cannot set up the API client")]
    Client(#[source] reqwest::Error),
    /// No whole answer.
    #[error("API does not answer")]
    Unavailable(#[source] reqwest::Error),
    /// An answer that says no.
    #[error(
        "API answers {0} to a fetch of orders; is this host enrolled, and its key the one `halberd agent key` printed last?"
    )]
    Status(StatusCode),
    /// Not signed by a holder of our key, or not as an answer to this very request.
    #[error("answer to a fetch of orders has no valid signature: somebody else answers for the API")]
    Forged,
    /// Signed, but not what we know as orders.
    #[error("orders are malformed; is the API newer than this agent?")]
    Malformed(#[source] serde_json::Error),
}

/// Makes signed requests.
#[derive(Debug)]
pub(crate) struct Api {
    context: Arc<Context>,
    client: reqwest::Client,
    base: String,
}

impl Api {
    /// Reads the authority and sets up TLS. Errors: [`ApiError`].
    pub fn new(context: Arc<Context>, config: &AgentConfig, url: &str) -> Result<Api, ApiError> {
        // Whoever comes first decides; all of us choose ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT / 2)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(1);
        if let Some(path) = &config.api_ca_file {
            let wrong = |why: String| ApiError::Authority { path: path.display().to_string(), why };
            let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            let certs = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| wrong(e.to_string()))?;
            builder = certs.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        // The system's authorities cost a megabyte; not needed with one's own, or without TLS.
        let system = config.api_ca_file.is_none() && url.starts_with("https:");
        let client = builder.tls_built_in_root_certs(system).build().map_err(ApiError::Client)?;
        Ok(Api { context, client, base: url.trim_end_matches('/').to_owned() })
    }

    /// Sends a message once.
    pub async fn post(&self, path: &str, body: String) -> Fate {
        let signed = self.sign("POST", path, body.as_bytes());
        let request = self.request(reqwest::Method::POST, path, &signed);
        let answer = request.header("content-type", "application/json").body(body).send().await;
        match answer {
            Ok(answer) => {
                let status = answer.status();
                let text =
                    if status.is_success() { String::new() } else { answer.text().await.unwrap_or_default() };
                fate(status, &text)
            }
            Err(error) => Fate::Later(chain(&error)),
        }
    }

    /// Fetches open orders; `Signed` dates the request. Errors: [`ApiError`].
    pub async fn orders(&self) -> Result<Orders, ApiError> {
        let signed = self.sign("GET", ORDERS_PATH, b"");
        let answer = self
            .request(reqwest::Method::GET, ORDERS_PATH, &signed)
            .send()
            .await
            .map_err(ApiError::Unavailable)?;
        if !answer.status().is_success() {
            return Err(ApiError::Status(answer.status()));
        }
        let header = answer.headers().get(SIGNATURE_HEADER).and_then(|v| v.to_str().ok());
        let signature = header.ok_or(ApiError::Forged)?.to_owned();
        let body = answer.bytes().await.map_err(ApiError::Unavailable)?;
        verify_answer(&self.context.key, ORDERS_PATH, &signed, &signature, &body)
            .map_err(|_| ApiError::Forged)?;
        serde_json::from_slice(&body).map_err(ApiError::Malformed)
    }

    fn sign(&self, method: &str, path: &str, body: &[u8]) -> Signed {
        let c = &self.context;
        sign(&c.key, method, path, c.host, c.platform.boot, c.now_ns(), body)
    }

    fn request(&self, method: reqwest::Method, path: &str, signed: &Signed) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        signed.headers().into_iter().fold(request, |r, (name, value)| r.header(name, value))
    }
}

/// 409 is an answer: known already, or not wanted now (on maintenance). 401, 403 and 404 are an operator's to mend
/// (enrolment, a path on a proxy), so the message waits.
fn fate(status: StatusCode, text: &str) -> Fate {
    let why = || format!("{status}: {}", text.chars().take(300).collect::<String>());
    match status {
        s if s.is_success() || s == StatusCode::CONFLICT => Fate::Accepted,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
            Fate::Refused(why())
        }
        _ => Fate::Later(why()),
    }
}

/// An error with its causes; reqwest's own text leaves them out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_means() {
        assert_eq!(fate(StatusCode::ACCEPTED, ""), Fate::Accepted);
        assert_eq!(fate(StatusCode::CONFLICT, "duplicate"), Fate::Accepted);
        assert!(matches!(fate(StatusCode::BAD_REQUEST, "bad"), Fate::Refused(w) if w.contains("bad")));
        for later in
            [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE]
        {
            assert!(matches!(fate(later, ""), Fate::Later(_)), "{later}");
        }
    }
}

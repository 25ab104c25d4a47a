//! The demo's hands on the service: the public API over HTTP, nothing else.

use std::time::Duration;

use halberd_types::halberd::recovery::{Explain, RecoveryDetail, RecoverySummary};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::Failure;

/// A client of one API.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub(crate) fn new(url: &str) -> Result<Client, Failure> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Client { http, url: url.trim_end_matches('/').to_owned() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.http.get(format!("{}{path}", self.url)), path).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        self.answer(self.http.post(format!("{}{path}", self.url)).json(body), path).await
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        self.answer(self.http.put(format!("{}{path}", self.url)).json(body), path).await
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        path: &str,
    ) -> Result<T, Failure> {
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        if !status.is_success() {
            return Err(format!("{path} answered {status}: {}", String::from_utf8_lossy(&bytes)).into());
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("{path} answered what is no such thing: {error}").into())
    }

    /// Recoveries of a host, of one kind, newest first.
    pub(crate) async fn recoveries(&self, host: Uuid, kind: &str) -> Result<Vec<RecoverySummary>, Failure> {
        let page: Items<RecoverySummary> =
            self.get(&format!("/halberd/v1/recoveries?host={host}&kind={kind}")).await?;
        Ok(page.items)
    }

    pub(crate) async fn recovery(&self, id: Uuid) -> Result<RecoveryDetail, Failure> {
        self.get(&format!("/halberd/v1/recoveries/{id}")).await
    }

    pub(crate) async fn explain(&self, id: Uuid) -> Result<Explain, Failure> {
        self.get(&format!("/halberd/v1/recoveries/{id}/explain")).await
    }
}

/// A page of a list.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
}

//! Our own API as a client of it: what the CLI speaks. It works as well against Masakari's `/v1`.

use std::sync::Arc;

use http::Method;
use reqwest::Url;
use serde_json::Value;

use crate::Error;
use crate::session::{OpenstackConfig, Places, ServiceType, Timeouts, http_client};
use crate::transport::{Outgoing, Reply, Transport};

/// The highest microversion of `/v1`.
const MICROVERSION: &str = "instance-ha 1.3";

/// The instance-ha API. Paths are given from its root, so that `/v1` and `/halberd/v1` are both reached: `v1/segments`,
/// `halberd/v1/recoveries`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InstanceHa {
    transport: Transport,
    /// None: the catalog's.
    root: Option<Url>,
    request_id: Option<Arc<str>>,
}

impl InstanceHa {
    pub(crate) fn from_catalog(transport: Transport) -> InstanceHa {
        InstanceHa { transport, root: None, request_id: None }
    }

    pub(crate) fn with_token(transport: Transport, address: &str) -> Result<InstanceHa, Error> {
        Ok(InstanceHa { transport, root: Some(root_of(parse(address)?)), request_id: None })
    }

    /// At an address (its root, or with `/v1`) that asks for no token. `settings` gives the CA file, if any.
    ///
    /// Errors: [`Error::Config`] when the address is no http(s) URL.
    pub async fn without_token(
        address: &str,
        settings: &OpenstackConfig,
        timeouts: Timeouts,
    ) -> Result<InstanceHa, Error> {
        let tls = match settings.is_configured() {
            true => settings.resolve(&Places::from_environment())?.tls,
            false => crate::session::Tls { cacert: settings.cacert.clone(), ..Default::default() },
        };
        let transport = Transport::without_token(http_client(&tls, timeouts)?).await?;
        InstanceHa::with_token(transport, address)
    }

    /// The same, sending `X-OpenStack-Request-ID: id` with each call.
    #[must_use]
    pub fn with_request_id(&self, id: &str) -> InstanceHa {
        InstanceHa { request_id: Some(Arc::from(id)), ..self.clone() }
    }

    /// The API's root, where paths start.
    pub async fn root(&self) -> Result<Url, Error> {
        match &self.root {
            Some(root) => Ok(root.clone()),
            None => Ok(root_of(self.transport.endpoint(ServiceType::InstanceHa).await?)),
        }
    }

    /// Reads. The body must be JSON.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Error> {
        self.call(Method::GET, path, query, None).await?.json()
    }

    /// Creates or asks for something; null if the answer has no body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        optional(&self.call(Method::POST, path, &[], Some(body)).await?)
    }

    /// Changes; null if the answer has no body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, Error> {
        optional(&self.call(Method::PUT, path, &[], Some(body)).await?)
    }

    /// Removes; null if the answer has no body.
    pub async fn delete(&self, path: &str) -> Result<Value, Error> {
        optional(&self.call(Method::DELETE, path, &[], None).await?)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Reply, Error> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let url = crate::transport::join(&self.root().await?, &segments, query);
        let mut outgoing = Outgoing::new(ServiceType::InstanceHa, method, url)
            .header("openstack-api-version", MICROVERSION)?
            .request_id(self.request_id.as_deref())?;
        outgoing.body = body.cloned();
        self.transport.send(&outgoing).await
    }
}

fn optional(reply: &Reply) -> Result<Value, Error> {
    if reply.answered.body.is_empty() { Ok(Value::Null) } else { reply.json() }
}

fn parse(address: &str) -> Result<Url, Error> {
    let url = Url::parse(address).map_err(|error| Error::Config(format!("address {address:?}: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Error::Config(format!("address {address:?} is no http or https URL")));
    }
    Ok(url)
}

/// Endpoints are registered as `…/v1` or `…/v1/PROJECT`; the root is what stands before.
fn root_of(mut url: Url) -> Url {
    url.set_query(None);
    let segments: Vec<String> = url
        .path_segments()
        .map(|path| path.filter(|s| !s.is_empty()).map(str::to_owned).collect())
        .unwrap_or_default();
    let keep = match segments.iter().rposition(|segment| segment == "v1") {
        Some(at) if at + 2 >= segments.len() => {
            match at.checked_sub(1).map(|before| segments[before].as_str()) {
                Some("halberd") => at - 1,
                _ => at,
            }
        }
        _ => segments.len(),
    };
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(&segments[..keep]);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_stands_before_v1() {
        let cases = [
            ("http://ctl:15868", "http://ctl:15868/"),
            ("http://ctl:15868/v1", "http://ctl:15868/"),
            ("http://ctl:15868/v1/", "http://ctl:15868/"),
            ("http://ctl:15868/v1/3f5a", "http://ctl:15868/"),
            ("https://ctl/instance-ha/v1/3f5a", "https://ctl/instance-ha"),
            ("https://ctl/instance-ha/", "https://ctl/instance-ha"),
            ("https://ctl/halberd/v1", "https://ctl/"),
            ("http://[fd00::1]:15868/v1", "http://[fd00::1]:15868/"),
        ];
        for (address, root) in cases {
            assert_eq!(root_of(parse(address).unwrap()).as_str(), root, "{address}");
        }
        assert!(parse("ctl:15868").is_err());
    }
}

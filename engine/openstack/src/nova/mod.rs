//! Nova: only the calls and fields that recoveries need.
//!
//! Each call has the microversion it was written against, and is sent with that or the highest offered below it; the
//! offered range is asked once. Fields are lenient: what an older Nova does not send, or a down cell leaves out, is
//! absent, not an error. Shapes and behaviour as observed on Nova 34 and in its API reference (os-services,
//! servers, os-migrations, os-instance-actions, os-aggregates).

mod action;
mod aggregate;
mod instance_action;
mod migration;
mod server;
mod service;
mod version;

pub use action::{Accepted, Action};
pub use aggregate::Aggregate;
pub use instance_action::{ActionEvent, InstanceAction};
pub use migration::{Migration, MigrationFilter};
pub use server::{Fault, Flavor, Server, Volume};
pub use service::{Service, ServiceChange, ServiceState, ServiceStatus};
pub use version::{Microversion, Offered};

use std::sync::{Arc, PoisonError, RwLock};

use http::Method;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Error;
use crate::session::ServiceType;
use crate::transport::{Outgoing, Reply, Transport, join};

/// Rows per page; Nova's own default maximum (`[api] max_limit`), and a smaller maximum there wins.
const PAGE: usize = 1000;

/// Nova's API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Nova {
    transport: Transport,
    offered: Arc<RwLock<Option<Offered>>>,
    request_id: Option<Arc<str>>,
}

impl Nova {
    pub(crate) fn new(transport: Transport) -> Nova {
        Nova { transport, offered: Arc::default(), request_id: None }
    }

    /// The same, sending `X-OpenStack-Request-ID: id` with each call. Services log it as the global request id if it
    /// is `req-` and a UUID, and ignore it otherwise.
    #[must_use]
    pub fn with_request_id(&self, id: &str) -> Nova {
        Nova { request_id: Some(Arc::from(id)), ..self.clone() }
    }

    /// The microversions that Nova offers; asked once, and again after Nova has refused one (406), as it does when it
    /// was replaced by an older one.
    pub async fn offered(&self) -> Result<Offered, Error> {
        let known = *self.offered.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(offered) = known {
            return Ok(offered);
        }
        let offered = self.ask_offered().await?;
        self.remember(Some(offered));
        Ok(offered)
    }

    async fn ask_offered(&self) -> Result<Offered, Error> {
        let mut url = self.transport.endpoint(ServiceType::Compute).await?;
        // Older catalogs end in the project's id, under which there is no version document.
        let project = self.transport.project_id().await?;
        let last = url.path_segments().and_then(|mut path| path.rfind(|segment| !segment.is_empty()));
        let has_project = last.is_some_and(|last| {
            project.as_deref().is_some_and(|id| last == id || last.strip_prefix("AUTH_") == Some(id))
        });
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if has_project {
                path.pop();
            }
            // `/v2.1/`: without the slash some front ends redirect.
            path.push("");
        }
        let outgoing =
            Outgoing::new(ServiceType::Compute, Method::GET, url).request_id(self.request_id.as_deref())?;
        let reply = self.transport.send(&outgoing).await?;
        let offered = Offered::read(&reply.json::<Value>()?)
            .ok_or_else(|| reply.malformed("no version document of compute v2.1".into()))?;
        offered.check()?;
        Ok(offered)
    }

    fn remember(&self, offered: Option<Offered>) {
        *self.offered.write().unwrap_or_else(PoisonError::into_inner) = offered;
    }

    async fn get(
        &self,
        wanted: Microversion,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Reply, Error> {
        Ok(self.call(Method::GET, wanted, path, query, None).await?.0)
    }

    /// Sends one call; answers with the microversion used.
    async fn call(
        &self,
        method: Method,
        wanted: Microversion,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Value>,
    ) -> Result<(Reply, Microversion), Error> {
        let version = self.offered().await?.choose(wanted);
        let base = self.transport.endpoint(ServiceType::Compute).await?;
        let mut outgoing = Outgoing::new(ServiceType::Compute, method, join(&base, path, query))
            .header("openstack-api-version", &format!("compute {version}"))?
            .request_id(self.request_id.as_deref())?;
        outgoing.body = body;
        match self.transport.send(&outgoing).await {
            Ok(reply) => Ok((reply, version)),
            Err(error) => {
                if error.status() == Some(406) {
                    self.remember(None);
                }
                Err(error)
            }
        }
    }

    /// All pages of a listing. Pages are asked for by marker: the links that Nova gives carry its own idea of its
    /// address, which is wrong behind many a proxy.
    async fn pages<P: Page>(
        &self,
        wanted: Microversion,
        path: &[&str],
        query: Vec<(&str, String)>,
    ) -> Result<Vec<P::Row>, Error> {
        let mut rows: Vec<P::Row> = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let mut query = query.clone();
            query.push(("limit", PAGE.to_string()));
            query.extend(marker.clone().map(|marker| ("marker", marker)));
            let reply = self.get(wanted, path, &query).await?;
            let (page, more) = reply.json::<P>()?.split();
            let last = page.last().map(|row| P::marker(row).to_owned());
            rows.extend(page);
            if !more || last.is_none() {
                return Ok(rows);
            }
            if last == marker || last.as_deref() == Some("") {
                return Err(reply.malformed("a page ends with the marker it was asked from".into()));
            }
            marker = last;
        }
    }
}

/// One page of a listing.
trait Page: serde::de::DeserializeOwned {
    type Row;
    /// The rows, and whether Nova links to a next page.
    fn split(self) -> (Vec<Self::Row>, bool);
    /// What the next page is asked from.
    fn marker(row: &Self::Row) -> &str;
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    rel: String,
}

fn has_next(links: &[Link]) -> bool {
    links.iter().any(|link| link.rel == "next")
}

/// null and absence alike give the default.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Nova says "no host" as null or as an empty text.
fn no_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}

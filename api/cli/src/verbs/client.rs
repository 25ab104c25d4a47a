//! The API as the verbs use it: where it is, whole lists, and things by name or id.

use halberd_openstack::{Error, InstanceHa, Interface, OpenStack, OpenstackConfig, Timeouts};
use serde_json::Value;

use super::Global;
use super::failure::Failure;
use super::output::text;

/// Where a `halberd serve` without a configuration listens.
pub const LOCAL: &str = "http://127.0.0.1:15868";
/// Items asked for at once: the most that either interface gives.
const PAGE: usize = 1000;

/// Where the API is, and with whose token we speak.
#[derive(Clone, Debug)]
pub enum Way {
    /// At an address, without a token.
    Open { url: String, cacert: Option<std::path::PathBuf> },
    /// At an address, with a token of this login.
    At { url: String, login: OpenstackConfig },
    /// Where the login's catalog says.
    Catalog { login: OpenstackConfig },
}

/// A token goes to an address given by hand only if `--cloud` is given by hand too: a login that lies in the environment
/// must not leave for any address, and a local service must work while Keystone is down.
pub fn way(global: &Global, variable: impl Fn(&str) -> Option<String>) -> Result<Way, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let cacert = set("OS_CACERT").map(std::path::PathBuf::from);
    let url = global.url.clone().filter(|url| !url.is_empty());
    let named = |cloud: String| OpenstackConfig { cloud: Some(cloud), ..OpenstackConfig::default() };
    let way = match (url, global.cloud.clone().filter(|cloud| !cloud.is_empty())) {
        (Some(url), Some(cloud)) => Way::At { url, login: named(cloud) },
        (Some(url), None) => Way::Open { url, cacert },
        (None, Some(cloud)) => Way::Catalog { login: named(cloud) },
        (None, None) => match (set("OS_CLOUD"), set("OS_AUTH_URL")) {
            (Some(cloud), _) => Way::Catalog { login: named(cloud) },
            (None, Some(auth_url)) => Way::Catalog { login: from_variables(auth_url, set)? },
            (None, None) => Way::Open { url: LOCAL.to_owned(), cacert },
        },
    };
    Ok(way)
}

/// The login that an `openrc` file sets.
fn from_variables(
    auth_url: String,
    set: impl Fn(&str) -> Option<String>,
) -> Result<OpenstackConfig, Failure> {
    for (name, instead) in [
        ("OS_APPLICATION_CREDENTIAL_ID", "an application credential"),
        ("OS_TOKEN", "a token"),
        ("OS_USER_ID", "a user by id"),
    ] {
        if set(name).is_some() {
            return Err(Failure::usage(format!("{name} is set, and {instead} is not taken from variables"))
                .with_remedy("put the login into clouds.yaml and name it with --cloud or OS_CLOUD"));
        }
    }
    let interface = match set("OS_INTERFACE").as_deref() {
        None => None,
        Some("public" | "publicURL") => Some(Interface::Public),
        Some("internal" | "internalURL") => Some(Interface::Internal),
        Some("admin" | "adminURL") => Some(Interface::Admin),
        Some(other) => {
            return Err(Failure::usage(format!("OS_INTERFACE is {other:?}, not public, internal or admin")));
        }
    };
    Ok(OpenstackConfig {
        auth_url: Some(auth_url),
        username: set("OS_USERNAME"),
        password: set("OS_PASSWORD").map(Into::into),
        project_name: set("OS_PROJECT_NAME"),
        user_domain_name: set("OS_USER_DOMAIN_NAME"),
        project_domain_name: set("OS_PROJECT_DOMAIN_NAME"),
        region: set("OS_REGION_NAME"),
        interface,
        cacert: set("OS_CACERT").map(Into::into),
        ..OpenstackConfig::default()
    })
}

/// The service, ready to be asked. Nothing was sent yet.
#[derive(Clone, Debug)]
pub struct Api {
    ha: InstanceHa,
    /// For messages.
    place: String,
}

impl Api {
    /// # Errors
    /// Settings that cannot stand.
    pub async fn connect(way: Way) -> Result<Api, Failure> {
        let place = match &way {
            Way::Open { url, .. } | Way::At { url, .. } => url.clone(),
            Way::Catalog { .. } => "the catalog's instance-ha endpoint".to_owned(),
        };
        let made = match way {
            Way::Open { url, cacert } => {
                let settings = OpenstackConfig { cacert, ..OpenstackConfig::default() };
                InstanceHa::without_token(&url, &settings, Timeouts::default()).await
            }
            Way::At { url, login } => match OpenStack::new(&login).await {
                Ok(cloud) => cloud.instance_ha_at(&url),
                Err(error) => Err(error),
            },
            Way::Catalog { login } => OpenStack::new(&login).await.map(|cloud| cloud.instance_ha()),
        };
        match made {
            Ok(ha) => Ok(Api { ha, place }),
            Err(error) => Err(Failure::of_call(&error, &place)),
        }
    }

    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, Failure> {
        self.ha.get(path, query).await.map_err(|error| self.failed(&error))
    }

    /// Null where there is no such thing.
    pub async fn look(&self, path: &str) -> Result<Value, Failure> {
        match self.ha.get(path, &[]).await {
            Err(Error::NotFound(_)) => Ok(Value::Null),
            answer => answer.map_err(|error| self.failed(&error)),
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ha.post(path, body).await.map_err(|error| self.failed(&error))
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ha.put(path, body).await.map_err(|error| self.failed(&error))
    }

    pub async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.ha.delete(path).await.map(drop).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> Failure {
        Failure::of_call(error, &self.place)
    }

    /// All items of a list of `/v1`. Asked until a page is empty: a service may cap pages below what we ask, so a short one
    /// is no end (contract 1.7).
    pub async fn all(&self, path: &str, key: &str, query: &[(&str, String)]) -> Result<Vec<Value>, Failure> {
        let mut items: Vec<Value> = Vec::new();
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE.to_string()));
            if let Some(last) = items.last() {
                query.push(("marker", text(last, "id")));
            }
            let mut page = self.get(path, &query).await?;
            let Value::Array(page) = page[key].take() else {
                return Err(Failure::refused(format!("the answer to GET /{path} has no list {key:?}"))
                    .with_remedy(format!("is {} an instance-ha API?", self.place)));
            };
            // A service that does not know markers would give the first page for ever.
            if page.is_empty() || page.first() == items.first() {
                return Ok(items);
            }
            items.extend(page);
        }
    }

    /// Items of a list of `/halberd/v1`, at most `limit`; and whether there are more. `marker` is the name of the parameter
    /// that takes a page's `next`.
    pub async fn pages(
        &self,
        path: &str,
        query: &[(&str, String)],
        marker: &str,
        limit: usize,
    ) -> Result<(Vec<Value>, bool), Failure> {
        let mut items: Vec<Value> = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut query: Vec<(&str, String)> =
                query.iter().filter(|(name, _)| next.is_none() || *name != marker).cloned().collect();
            query.push(("limit", PAGE.min(limit - items.len()).to_string()));
            if let Some(next) = &next {
                query.push((marker, next.clone()));
            }
            let mut page = self.get(path, &query).await?;
            if let Value::Array(found) = page["items"].take() {
                items.extend(found);
            }
            next = page["next"].as_str().map(str::to_owned);
            if next.is_none() || items.len() >= limit {
                items.truncate(limit);
                return Ok((items, next.is_some()));
            }
        }
    }

    pub async fn segments(&self) -> Result<Vec<Value>, Failure> {
        self.all("v1/segments", "segments", &by_name()).await
    }

    /// The hosts of every segment, or of one.
    pub async fn hosts(
        &self,
        segment: Option<&str>,
        query: &[(&str, String)],
    ) -> Result<Vec<Value>, Failure> {
        let segments = match segment {
            Some(name) => vec![self.segment(name).await?],
            None => self.segments().await?,
        };
        let query = [&by_name()[..], query].concat();
        let mut hosts = Vec::new();
        for segment in &segments {
            hosts.extend(self.all(&hosts_of(segment), "hosts", &query).await?);
        }
        Ok(hosts)
    }

    /// One segment by name or uuid.
    pub async fn segment(&self, wanted: &str) -> Result<Value, Failure> {
        pick("segment", wanted, self.segments().await?, "uuid", "name")
    }

    /// One host by name or uuid, in whatever segment.
    pub async fn host(&self, wanted: &str) -> Result<Value, Failure> {
        pick("host", wanted, self.hosts(None, &[]).await?, "uuid", "name")
    }

    /// The uuid of a host by name or uuid.
    pub async fn host_id(&self, wanted: &str) -> Result<String, Failure> {
        Ok(text(&self.host(wanted).await?, "uuid"))
    }
}

/// Lists come newest first otherwise, where nobody finds anything.
fn by_name() -> [(&'static str, String); 2] {
    [("sort_key", "name".to_owned()), ("sort_dir", "asc".to_owned())]
}

/// The list of a segment's hosts.
pub fn hosts_of(segment: &Value) -> String {
    format!("v1/segments/{}/hosts", text(segment, "uuid"))
}

/// The one item that is meant: by its id, else by its exact name.
pub fn pick(what: &str, wanted: &str, items: Vec<Value>, id: &str, name: &str) -> Result<Value, Failure> {
    if let Some(at) = items.iter().position(|item| text(item, id).eq_ignore_ascii_case(wanted)) {
        return Ok(items.into_iter().nth(at).unwrap_or_default());
    }
    let known: Vec<String> = items.iter().map(|item| text(item, name)).collect();
    let mut named: Vec<Value> = items.into_iter().filter(|item| text(item, name) == wanted).collect();
    match (named.pop(), named.as_slice()) {
        (Some(one), []) => Ok(one),
        (Some(last), others) => {
            let ids: Vec<String> = others.iter().chain([&last]).map(|item| text(item, id)).collect();
            Err(Failure::refused(format!(
                "{wanted:?} is the name of {} {what}s: {}",
                ids.len(),
                ids.join(", ")
            ))
            .with_remedy("name the one you mean by its id"))
        }
        (None, _) => Err(unknown(what, wanted, &known)),
    }
}

/// There is nothing of that name; one that looks like it is offered.
pub fn unknown(what: &str, wanted: &str, known: &[String]) -> Failure {
    /// Below this a name is no likely slip of the pen of another.
    const ALIKE: f64 = 0.8;
    let alike = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let remedy = match alike {
        Some((_, name)) => format!("did you mean {name}?"),
        None if known.is_empty() => format!("there is no {what} at all yet"),
        None => format!("`halberd {what} list` shows those there are"),
    };
    Failure::refused(format!("there is no {what} with the name or id {wanted:?}")).with_remedy(remedy)
}

//! The catalog that comes with a token, and the services we look up in it.
//!
//! No version discovery: published self links are wrong behind many a proxy, and Placement's is empty. The endpoint
//! of the catalog is used as it stands.

use reqwest::Url;
use serde::Deserialize;

use openstack::EndpointFilters;

/// The services we call, by official type (OpenStack's service-types-authority).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// Nova.
    Compute,
    /// Placement.
    Placement,
    /// Keystone.
    Identity,
    /// Masakari, or ourselves.
    InstanceHa,
    /// Ironic.
    BareMetal,
}

impl openstack::session::ServiceType for ServiceType {
    fn catalog_type(&self) -> &'static str {
        match self {
            ServiceType::Compute => "compute",
            ServiceType::Placement => "placement",
            ServiceType::Identity => "identity",
            ServiceType::InstanceHa => "instance-ha",
            ServiceType::BareMetal => "baremetal",
        }
    }

    fn version_discovery_supported(&self) -> bool {
        false
    }
}

/// Older names under which clouds still publish a type, best first; from the service-types-authority, and `ha`,
/// `masakari` as seen with early Masakari deployments.
fn aliases(service_type: &str) -> &'static [&'static str] {
    match service_type {
        "instance-ha" => &["ha", "masakari"],
        "baremetal" => &["bare-metal"],
        "block-storage" => &["volumev3", "block-store", "volume", "volumev2"],
        "load-balancer" => &["octavia"],
        "orchestration" => &["heat"],
        _ => &[],
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Catalog(Vec<Entry>);

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type", default)]
    service_type: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    #[serde(default)]
    interface: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    region_id: Option<String>,
    #[serde(default)]
    url: String,
}

impl Catalog {
    /// The endpoint of a service under the filters; the error says what the catalog has instead.
    pub(crate) fn find(&self, service_type: &str, filters: &EndpointFilters) -> Result<Url, String> {
        let names = std::iter::once(service_type).chain(aliases(service_type).iter().copied());
        let interfaces: Vec<String> = filters.interfaces.iter().map(ToString::to_string).collect();
        for name in names {
            let endpoints =
                || self.0.iter().filter(|entry| entry.service_type == name).flat_map(|e| &e.endpoints);
            let found = interfaces.iter().find_map(|interface| {
                endpoints().find(|endpoint| endpoint.interface == *interface && endpoint.lies_in(filters))
            });
            if let Some(endpoint) = found {
                let url =
                    Url::parse(&endpoint.url).ok().filter(|url| url.has_host() && !url.cannot_be_a_base());
                return url.ok_or_else(|| {
                    format!(
                        "the catalog's {} endpoint of {name} is no URL: {:?}",
                        endpoint.interface, endpoint.url
                    )
                });
            }
        }
        Err(self.missing(service_type, &interfaces, filters))
    }

    /// Whether the cloud has such a service in our region at all, by whatever interface.
    pub(crate) fn lists(&self, service_type: &str, filters: &EndpointFilters) -> bool {
        let named = |entry: &&Entry| {
            entry.service_type == service_type || aliases(service_type).contains(&entry.service_type.as_str())
        };
        self.0
            .iter()
            .filter(named)
            .flat_map(|entry| &entry.endpoints)
            .any(|endpoint| endpoint.lies_in(filters))
    }

    fn missing(&self, service_type: &str, interfaces: &[String], filters: &EndpointFilters) -> String {
        let mut types: Vec<&str> = self.0.iter().map(|entry| entry.service_type.as_str()).collect();
        types.sort_unstable();
        types.dedup();
        let region = filters.region.as_ref().map(|region| format!(" in region {region}")).unwrap_or_default();
        format!(
            "the catalog has no {} endpoint of type {service_type}{region} (it lists: {}); check [openstack] interface \
             and region, or register the endpoint in Keystone",
            interfaces.join(" or "),
            types.join(", ")
        )
    }
}

impl Endpoint {
    fn lies_in(&self, filters: &EndpointFilters) -> bool {
        match &filters.region {
            Some(region) => [&self.region, &self.region_id].into_iter().flatten().any(|own| own == region),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openstack::InterfaceType;
    use serde_json::json;

    fn catalog() -> Catalog {
        let endpoint = |interface, region, url| json!({"interface": interface, "region": region, "region_id": region, "url": url});
        serde_json::from_value(json!([
            {"type": "compute", "name": "nova", "id": "1", "endpoints": [
                endpoint("public", "one", "https://one/v2.1"),
                endpoint("internal", "one", "http://10.0.0.1:8774/v2.1"),
                endpoint("public", "two", "https://two/v2.1")]},
            {"type": "volumev3", "endpoints": [endpoint("public", "one", "https://one/v3/p")]},
            {"type": "something-from-the-future", "endpoints": [{"interface": "public", "url": "not a url"}]},
            {"type": "empty"},
        ]))
        .unwrap()
    }

    fn filters(interface: InterfaceType, region: Option<&str>) -> EndpointFilters {
        let filters = EndpointFilters::default().with_interfaces(interface);
        match region {
            Some(region) => filters.with_region(region),
            None => filters,
        }
    }

    #[test]
    fn interface_and_region_choose() {
        let find =
            |interface, region| catalog().find("compute", &filters(interface, region)).unwrap().to_string();
        assert_eq!(find(InterfaceType::Public, None), "https://one/v2.1");
        assert_eq!(find(InterfaceType::Public, Some("two")), "https://two/v2.1");
        assert_eq!(find(InterfaceType::Internal, None), "http://10.0.0.1:8774/v2.1");
    }

    #[test]
    fn an_older_name_is_found() {
        let url = catalog().find("block-storage", &filters(InterfaceType::Public, None)).unwrap();
        assert_eq!(url.as_str(), "https://one/v3/p");
    }

    #[test]
    fn whether_there_is_a_service_is_no_question_of_its_interface() {
        let lists = |service, region| catalog().lists(service, &filters(InterfaceType::Internal, region));
        assert!(lists("compute", Some("two")) && lists("block-storage", None));
        assert!(!lists("block-storage", Some("two")) && !lists("baremetal", None) && !lists("empty", None));
    }

    #[test]
    fn what_is_missing_is_named_with_what_there_is() {
        let error = catalog().find("compute", &filters(InterfaceType::Internal, Some("two"))).unwrap_err();
        assert!(error.contains("internal") && error.contains("compute") && error.contains("two"), "{error}");
        let error = catalog().find("instance-ha", &filters(InterfaceType::Public, None)).unwrap_err();
        assert!(error.contains("instance-ha") && error.contains("volumev3"), "{error}");
        let error =
            catalog().find("something-from-the-future", &filters(InterfaceType::Public, None)).unwrap_err();
        assert!(error.contains("not a url"), "{error}");
    }
}

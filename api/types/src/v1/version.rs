//! The documents of discovery: `GET /`, `GET /v1`, unknown top paths (300), and extensions (contract 1.9).
//!
//! `base` is the scheme, host and mount the client used, without a trailing slash ("http://h:15868", "https://h/instance-ha"):
//! a client with a root endpoint follows the link, so a wrong base loses it.

use serde::Serialize;
use utoipa::ToSchema;

const ID: &str = "v1.0";
const UPDATED: &str = "2016-07-01T11:33:21Z";
const DOCUMENTATION: &str = "https://docs.openstack.org/api-ref/instance-ha/";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Link {
    pub rel: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<&'static str>,
    pub href: String,
}

impl Link {
    fn to_self(href: String) -> Self {
        Self { rel: "self", media_type: None, href }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MediaType {
    pub base: &'static str,
    #[serde(rename = "type")]
    pub media_type: &'static str,
}

/// The one media type beside plain JSON.
pub const MEDIA_TYPE: MediaType =
    MediaType { base: "application/json", media_type: "application/vnd.openstack.masakari+json;version=1" };

/// One API version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VersionEntry {
    pub id: &'static str,
    pub status: &'static str,
    pub version: &'static str,
    pub min_version: &'static str,
    pub updated: &'static str,
    pub links: Vec<Link>,
    /// Only in the detail.
    #[serde(rename = "media-types", skip_serializing_if = "Vec::is_empty")]
    pub media_types: Vec<MediaType>,
}

impl VersionEntry {
    fn new(base: &str) -> Self {
        Self {
            id: ID,
            status: "CURRENT",
            version: "1.3",
            min_version: "1.0",
            updated: UPDATED,
            links: vec![Link::to_self(format!("{base}/v1/"))],
            media_types: Vec::new(),
        }
    }
}

/// `GET /`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VersionList {
    pub versions: Vec<VersionEntry>,
}

impl VersionList {
    pub fn new(base: &str) -> Self {
        Self { versions: vec![VersionEntry::new(base)] }
    }
}

/// `GET /v1` and `GET /v1/versions/v1.0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VersionDetail {
    pub version: VersionEntry,
}

impl VersionDetail {
    pub fn new(base: &str) -> Self {
        let mut version = VersionEntry::new(base);
        version.links.push(Link {
            rel: "describedby",
            media_type: Some("text/html"),
            href: DOCUMENTATION.to_owned(),
        });
        version.media_types.push(MEDIA_TYPE);
        Self { version }
    }
}

/// Whether `/v1/versions/{id}` exists.
pub fn is_version_id(id: &str) -> bool {
    id == ID
}

/// The 300 for a top path nobody serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Choices {
    pub choices: Vec<Choice>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Choice {
    pub id: &'static str,
    pub status: &'static str,
    pub links: Vec<Link>,
    #[serde(rename = "media-types")]
    pub media_types: Vec<MediaType>,
}

impl Choices {
    /// `path` is the path asked for, with its leading slash.
    pub fn new(base: &str, path: &str) -> Self {
        let links = vec![Link::to_self(format!("{base}/v1/{}", path.trim_start_matches('/')))];
        Self { choices: vec![Choice { id: ID, status: "CURRENT", links, media_types: vec![MEDIA_TYPE] }] }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Extension {
    pub name: &'static str,
    pub alias: &'static str,
    pub description: &'static str,
    pub namespace: &'static str,
    pub updated: &'static str,
    /// Always empty.
    #[schema(value_type = Vec<String>)]
    pub links: [&'static str; 0],
}

const fn extension(name: &'static str, alias: &'static str, description: &'static str) -> Extension {
    Extension { name, alias, description, namespace: "", updated: "", links: [] }
}

/// `GET /v1/extensions`, by alias.
pub const EXTENSIONS: [Extension; 6] = [
    extension("Extensions", "extensions", "Lists the parts of this API."),
    extension("Notifications", "notifications", "Reports of failures."),
    extension("Hosts", "os-hosts", "Hypervisors of a segment."),
    extension("Segments", "segments", "Failover segments."),
    extension("Versions", "versions", "API versions."),
    extension("VMoves", "vmoves", "Moves of guests off a failed host."),
];

/// The extension of `GET /v1/extensions/{alias}`.
pub fn find_extension(alias: &str) -> Option<&'static Extension> {
    EXTENSIONS.iter().find(|extension| extension.alias == alias)
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[test]
    fn documents_of_discovery() {
        let list = to_value(VersionList::new("http://h:15868")).expect("json");
        let entry = json!({
            "id": "v1.0", "status": "CURRENT", "version": "1.3", "min_version": "1.0", "updated": "2016-07-01T11:33:21Z",
            "links": [{ "rel": "self", "href": "http://h:15868/v1/" }],
        });
        assert_eq!(list, json!({ "versions": [entry] }));

        let detail = to_value(VersionDetail::new("https://h/instance-ha")).expect("json");
        assert_eq!(
            detail["version"]["links"][0],
            json!({ "rel": "self", "href": "https://h/instance-ha/v1/" })
        );
        assert_eq!(detail["version"]["links"][1]["rel"], "describedby");
        assert_eq!(detail["version"]["links"][1]["type"], "text/html");
        let media = json!([{ "base": "application/json", "type": "application/vnd.openstack.masakari+json;version=1" }]);
        assert_eq!(detail["version"]["media-types"], media);

        let choices = to_value(Choices::new("http://h", "/foo/bar")).expect("json");
        assert_eq!(choices["choices"][0]["links"], json!([{ "rel": "self", "href": "http://h/v1/foo/bar" }]));
        assert_eq!(choices["choices"][0]["media-types"], media);
    }

    #[test]
    fn extensions_are_sorted_by_alias() {
        assert!(EXTENSIONS.is_sorted_by_key(|extension| extension.alias));
        let shape = to_value(find_extension("os-hosts")).expect("json");
        assert_eq!(
            (&shape["namespace"], &shape["updated"], &shape["links"]),
            (&json!(""), &json!(""), &json!([]))
        );
        assert_eq!(find_extension("hosts"), None);
    }
}

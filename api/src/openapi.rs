//! `GET /halberd/v1/openapi-v1.json`: the description of `/v1`, OpenAPI 3.1.
//!
//! Written by hand, unlike that of `/halberd/v1`: the contract is not ours to derive from our types, and its bodies are read field by
//! field, not by serde. It is kept true from two sides: the test here compares its paths and verbs with the router's, and `tests/schema` has a
//! generator of requests compare its statuses and shapes with the answers.
//!
//! It stands under `/halberd/v1` since every path of `/v1` belongs to the contract.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

const DOCUMENT: &str = include_str!("openapi.json");

/// Open to everybody: it says what there is, not what is in it.
pub(crate) async fn handler() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::{Method, StatusCode};
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::halberd::testing::{Answer, Site, request, send};

    const VERBS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];

    /// axum does not list its routes; their source does: what stands in `.route("...` between two marks.
    fn routes<'s>(source: &'s str, from: &str, to: &str) -> Vec<&'s str> {
        let begin = source.find(from).unwrap_or_else(|| panic!("no {from:?} in the source"));
        let block = &source[begin..];
        let block = &block[..block.find(to).unwrap_or_else(|| panic!("no {to:?} after {from:?}"))];
        block
            .split(".route(")
            .skip(1)
            .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
            .collect()
    }

    fn described(document: &Value) -> BTreeSet<String> {
        document["paths"].as_object().expect("paths").keys().cloned().collect()
    }

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).expect("JSON")
    }

    #[test]
    fn its_paths_are_the_router_s() {
        // Exists to be refused with 405, as in the original.
        const REFUSED: &str = "/versions";
        let routed = routes(include_str!("router.rs"), "pub fn v1_routes()", ".fallback(");
        let routed = routed.into_iter().filter(|path| *path != REFUSED).map(|path| format!("/v1{path}"));
        let routed: BTreeSet<String> = routed.chain(["/".to_owned(), "/healthcheck".to_owned()]).collect();
        assert_eq!(described(&document()), routed);
    }

    #[test]
    fn the_other_s_paths_are_its_router_s() {
        let source = include_str!("halberd/mod.rs");
        let hosts = routes(source, "let hosts = Router::new()", ";\n")
            .into_iter()
            .map(|path| format!("/hosts/{{uuid}}{path}"));
        let rest = routes(source, "    Router::new()\n        .route(\"/recoveries\"", ".fallback(");
        let agents = routes(source, "pub fn agent_routes()", ".layer(");
        let own =
            rest.into_iter().chain(agents).filter(|path| !path.starts_with("/openapi")).map(str::to_owned);
        assert_eq!(described(crate::halberd::openapi_document()), hosts.chain(own).collect());
    }

    fn filled_in(template: &str) -> String {
        let part = |part: &str| match part {
            "{id}" => "v1.0".to_owned(),
            "{alias}" => "segments".to_owned(),
            part if part.starts_with('{') => "11111111-2222-4333-8444-555555555555".to_owned(),
            part => part.to_owned(),
        };
        template.split('/').map(part).collect::<Vec<_>>().join("/")
    }

    fn has_no_route(answer: &Answer) -> bool {
        match answer.status {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::MULTIPLE_CHOICES => true,
            StatusCode::NOT_FOUND => answer.text.contains("The resource could not be found."),
            _ => false,
        }
    }

    #[tokio::test]
    async fn its_verbs_are_the_router_s() {
        let site = Site::new().await;
        let document = document();
        for (template, operations) in document["paths"].as_object().expect("paths") {
            for verb in VERBS {
                let request = http::Request::builder().method(&verb).uri(filled_in(template));
                let request = request.body(axum::body::Body::empty()).expect("a request");
                let answer = send(crate::router(site.app.clone()), request).await;
                let described = operations.get(verb.as_str().to_lowercase()).is_some();
                assert_eq!(described, !has_no_route(&answer), "{verb} {template}: {answer:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_other_s_verbs_are_its_router_s() {
        let site = Site::new().await;
        for (template, operations) in crate::halberd::openapi_document()["paths"].as_object().expect("paths")
        {
            for verb in VERBS {
                let request = request(verb.clone(), &filled_in(template), None);
                // Its body is not read: one is a stream without end.
                let answer = site.router().oneshot(request).await.expect("an answer");
                let described = operations.get(verb.as_str().to_lowercase()).is_some();
                let routed = answer.status() != StatusCode::METHOD_NOT_ALLOWED;
                assert_eq!(described, routed, "{verb} {template}: {}", answer.status());
            }
        }
    }

    #[tokio::test]
    async fn it_is_served_to_everybody() {
        let site = Site::new().await;
        let answer = site.send(request(Method::GET, "/openapi-v1.json", None)).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, document()));
    }

    #[test]
    fn every_reference_leads_somewhere_and_nothing_is_idle() {
        fn walk(value: &Value, found: &mut BTreeSet<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = BTreeSet::new();
        walk(&document, &mut found);
        for reference in &found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference} leads nowhere");
        }
        for kind in ["schemas", "parameters", "responses"] {
            for name in document["components"][kind].as_object().expect("components").keys() {
                let reference = format!("#/components/{kind}/{name}");
                assert!(found.contains(&reference), "nobody uses {reference}");
            }
        }
    }
}

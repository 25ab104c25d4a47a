//! `GET /openapi.json`: the description of this interface, OpenAPI 3.1, made from the handlers themselves.
//!
//! A golden file beside this one holds what clients rely on; a change of the interface is a change of that file, seen in
//! review. `HALBERD_GOLDEN=write cargo test -p halberd-api golden` rewrites it.

use std::sync::LazyLock;

use axum::Json;
use halberd_types::halberd::problem::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{agents_self, audit, events, fence_devices, hosts, recoveries, segments, site, wishes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Halberd",
        version = "1",
        description = "High availability for OpenStack guests: everything beyond the instance-ha service's own /v1.",
    ),
    servers((url = "/halberd/v1")),
    paths(
        recoveries::list::handler,
        recoveries::show::handler,
        recoveries::explain::handler,
        recoveries::retry::handler,
        recoveries::release::handler,
        recoveries::cancel::handler,
        hosts::fence::handler,
        hosts::fence_test::handler,
        hosts::fence_history::handler,
        hosts::power_on::handler,
        hosts::confirm_fenced::handler,
        hosts::readmit::handler,
        hosts::attributes::handler,
        hosts::agent_key::issue,
        hosts::agent_key::withdraw,
        fence_devices::set::handler,
        fence_devices::show::handler,
        fence_devices::check::handler,
        wishes::show::handler,
        events::stream::handler,
        site::services::handler,
        site::agents::handler,
        site::engines::handler,
        site::readiness::handler,
        site::disarm::handler,
        site::arm::handler,
        site::reconcile::show,
        site::reconcile::leave,
        segments::policy::show,
        segments::policy::set,
        audit::list::handler,
        audit::chains::handler,
        audit::verify::handler,
        agents_self::reports::handler,
        agents_self::orders::handler,
        agents_self::result::handler,
    ),
)]
struct Api;

/// The description; the same at every call.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(make);
    &DOCUMENT
}

fn make() -> Value {
    let mut document = serde_json::to_value(Api::openapi()).expect("the description has text keys only");
    let signed = json!([{ "agent_signature": [] }]);
    let token = json!([{ "keystone_token": [] }]);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, operations) in paths {
            for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
                let by_agent = path.starts_with("/agents/self/");
                operation["security"] = if by_agent { signed.clone() } else { token.clone() };
                let names_something = operation["parameters"]
                    .as_array()
                    .is_some_and(|parameters| parameters.iter().any(|it| it["in"] == "path"));
                let has_body = operation.get("requestBody").is_some();
                complete(&mut operation["responses"], names_something, has_body);
            }
        }
    }
    document["components"]["securitySchemes"] = json!({
        "keystone_token": { "type": "apiKey", "in": "header", "name": "X-Auth-Token" },
        "agent_signature": {
            "type": "apiKey", "in": "header", "name": "x-halberd-signature",
            "description": "HMAC-SHA256 with the host's own key, beside x-halberd-host, -boot and -counter.",
        },
    });
    document
}

/// Errors are problem details, and any request may meet a missing token or a database that is away, an id in a path may be none,
/// and a body may be too large.
fn complete(responses: &mut Value, names_something: bool, has_body: bool) {
    let Some(responses) = responses.as_object_mut() else { return };
    let always = [("401", "Nobody can be told by the request."), ("503", "The database cannot be used now.")];
    let named = names_something.then_some(("400", "A value of the request breaks its rule."));
    let sent = has_body.then_some(("413", "The body is too large."));
    for (status, text) in always.into_iter().chain(named).chain(sent) {
        let problem = json!({ "application/json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        responses.entry(status).or_insert_with(|| json!({ "description": text, "content": problem }));
    }
    let errors = responses.iter_mut().filter(|(status, _)| status.starts_with(['4', '5']));
    for (_, response) in errors {
        if let Some(content) = response["content"].as_object_mut()
            && let Some(problem) = content.remove("application/json")
        {
            content.insert(CONTENT_TYPE.to_owned(), problem);
        }
    }
}

/// Open to everybody: it says what there is, not what is in it.
pub(crate) async fn handler() -> Json<&'static Value> {
    Json(document())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/halberd/openapi.golden.json");

    #[test]
    fn the_description_is_the_golden_one() {
        let now = format!("{:#}\n", document());
        if std::env::var_os("HALBERD_GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(GOLDEN, &now).expect("the golden file can be written");
        }
        let golden = std::fs::read_to_string(GOLDEN).expect("the golden file");
        let differs = golden.lines().zip(now.lines()).position(|(old, new)| old != new);
        assert!(
            golden == now,
            "the interface changed (first at line {differs:?}); if that is meant: HALBERD_GOLDEN=write cargo test -p halberd-api golden"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| walk(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        walk(document(), &mut found);
        assert!(!found.is_empty());
        for reference in found {
            assert!(document().pointer(&reference[1..]).is_some(), "{reference}");
        }
        assert_eq!(document()["openapi"], "3.1.0");
    }
}

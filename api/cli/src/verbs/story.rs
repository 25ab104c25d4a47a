//! Which recovery is meant: by its own id, or by the host, guest, process or service it is about.

use serde_json::Value;

use super::client::{Api, unknown};
use super::failure::Failure;
use super::output::text;

/// Newest recoveries that are searched for a name; more is history, to be asked for by the recovery's id.
const SEARCHED: usize = 1000;
/// Newest recoveries of hosts whose guests are searched: each costs a request.
const SEARCHED_FOR_GUESTS: usize = 50;

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Story {
    /// Id of the recovery.
    pub(super) id: String,
    /// The guest of it that was asked for.
    pub(super) guest: Option<Guest>,
    /// Other recoveries of the same subject, newest first.
    pub(super) others: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) id: String,
    pub(super) name: String,
}

/// The recovery of that id; else the newest of a host, process or service (its way back, a `return`, only if there is nothing else); else
/// the newest in which a guest took part.
pub(super) async fn find(api: &Api, wanted: &str) -> Result<Story, Failure> {
    let is_uuid = uuid::Uuid::parse_str(wanted).is_ok();
    if is_uuid && !api.look(&format!("halberd/v1/recoveries/{wanted}")).await?.is_null() {
        return Ok(Story { id: wanted.to_owned(), guest: None, others: Vec::new() });
    }
    let (recoveries, _) = api.pages("halberd/v1/recoveries", &[], "marker", SEARCHED).await?;
    let mut about: Vec<Value> = recoveries.iter().filter(|one| is_about(one, wanted)).cloned().collect();
    if about.iter().any(|one| one["subject"]["kind"] != "guest") {
        one_subject(wanted, &about)?;
        let main = about.iter().position(|one| one["kind"] != "return").unwrap_or(0);
        let main = about.remove(main);
        return Ok(Story { id: text(&main, "id"), guest: None, others: about });
    }
    if let Some(story) = of_guest(api, wanted, &recoveries, &about).await? {
        return Ok(story);
    }
    Err(nothing(api, wanted, &recoveries).await?)
}

fn is_about(recovery: &Value, wanted: &str) -> bool {
    text(recovery, "subject.name") == wanted || text(recovery, "subject.id").eq_ignore_ascii_case(wanted)
}

/// A name that is a host's and a service's too says nothing.
fn one_subject(wanted: &str, about: &[Value]) -> Result<(), Failure> {
    let mut subjects: Vec<String> = about
        .iter()
        .map(|one| format!("{} {}", text(one, "subject.kind"), text(one, "subject.id")))
        .collect();
    subjects.sort();
    subjects.dedup();
    match subjects.as_slice() {
        [] | [_] => Ok(()),
        several => Err(Failure::refused(format!("{wanted:?} may be each of: {}", several.join(", ")))
            .with_remedy("name the one you mean by its id")),
    }
}

/// The newest recovery in which a guest took part: its own, or one of its host.
async fn of_guest(
    api: &Api,
    wanted: &str,
    recoveries: &[Value],
    own: &[Value],
) -> Result<Option<Story>, Failure> {
    let mut found: Vec<(String, String, Guest)> = Vec::new();
    for one in own {
        let guest = Guest { id: text(one, "subject.id"), name: text(one, "subject.name") };
        found.push((text(one, "opened_at"), text(one, "id"), guest));
    }
    let hosts = recoveries.iter().filter(|one| one["kind"] == "host" && one["guests"]["total"] != 0);
    for one in hosts.take(SEARCHED_FOR_GUESTS) {
        let id = text(one, "id");
        let detail = api.get(&format!("halberd/v1/recoveries/{id}"), &[]).await?;
        for moved in detail["moves"].as_array().into_iter().flatten() {
            let guest = Guest { id: text(moved, "instance_uuid"), name: text(moved, "name") };
            if guest.name == wanted || guest.id.eq_ignore_ascii_case(wanted) {
                found.push((text(one, "opened_at"), id.clone(), guest));
            }
        }
    }
    let mut ids: Vec<&str> = found.iter().map(|(_, _, guest)| guest.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        return Err(Failure::refused(format!(
            "{wanted:?} is the name of {} guests: {}",
            ids.len(),
            ids.join(", ")
        ))
        .with_remedy("name the one you mean by its uuid"));
    }
    // RFC 3339 in UTC sorts as text.
    let newest = found.into_iter().max_by(|a, b| a.0.cmp(&b.0));
    Ok(newest.map(|(_, id, guest)| Story { id, guest: Some(guest), others: Vec::new() }))
}

/// Nothing was found: either nothing ever happened to it, or there is no such thing.
async fn nothing(api: &Api, wanted: &str, recoveries: &[Value]) -> Result<Failure, Failure> {
    let hosts = api.hosts(None, &[]).await?;
    let host = hosts.iter().find(|host| text(host, "name") == wanted || text(host, "uuid") == wanted);
    if let Some(host) = host {
        let name = text(host, "name");
        return Ok(Failure::refused(format!("no recovery of host {name} is on record")).with_remedy(format!(
            "`halberd notification list --host {name}` shows what was reported of it, `halberd readiness` what would stand in the way"
        )));
    }
    let mut known: Vec<String> = hosts.iter().map(|host| text(host, "name")).collect();
    known.extend(recoveries.iter().map(|one| text(one, "subject.name")));
    let failure = unknown("recovery", wanted, &known);
    Ok(Failure {
        text: format!("no recovery, host or guest of a recovery has the name or id {wanted:?}"),
        ..failure
    })
}

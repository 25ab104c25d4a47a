//! Wishes about a host's power: turn it off, switch it on, try its devices out, state that it is off, take it back.

use halberd_core::facts::Confirmation;
use halberd_core::host::{Admission, Host};
use halberd_core::recovery::host::Purpose;
use halberd_core::recovery::{Body, Recovery, StateWord, Subject};
use halberd_core::segment::Segment;
use halberd_store::recoveries::{Opened, RecoveryFilter};
use halberd_store::wishes::NewWish;
use halberd_store::{Page, fence_devices, hosts, recoveries, segments};

use super::recovery::before_order;
use super::{asked, id_of, keep, who};
use crate::clock;
use crate::shared::Shared;
use crate::{check, intake};

/// Turns a host off, dead or alive, on the road that brings its guests away.
pub(super) async fn fence(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let (host, segment) = with_segment(shared, wish).await?;
    check_in(&host, "turned off")?;
    let purpose = Purpose::Ordered { by: asked(wish), failed: None };
    match intake::open_by_operator(shared, &host, &segment, purpose).await.map_err(say)? {
        Opened::New(recovery) => Ok(format!("{} is being turned off by recovery {}", host.name, recovery.id)),
        Opened::AlreadyOpen(id) => {
            let recovery = recoveries::get(&shared.db, id).await.map_err(say)?;
            join(shared, &host, &recovery, wish).await
        }
    }
}

/// A recovery of the host is open: it takes the order up, if it has not written one of its own.
async fn join(shared: &Shared, host: &Host, recovery: &Recovery, wish: &NewWish) -> Result<String, String> {
    let Body::Host(body) = &recovery.body else { return Err("the open recovery is not a host's".into()) };
    match (&*body.purpose, before_order(&body.state)) {
        (Purpose::Drill { .. }, true) => Err(format!(
            "a drill of {} is about to begin: cancel it first (`halberd recovery cancel {}`)",
            host.name, recovery.id
        )),
        (Purpose::Drill { .. }, false) => Err(format!(
            "a drill of {} is under way (recovery {}): it is empty, and its power is off or about to be",
            host.name, recovery.id
        )),
        (Purpose::Failure | Purpose::Ordered { failed: Some(_), .. }, true) => {
            let by = asked(wish);
            keep(shared, recovery.id, |kept| kept.ordered = Some(by)).await?;
            Ok(format!("recovery {} of {} was told to turn it off", recovery.id, host.name))
        }
        (Purpose::Ordered { .. }, _) | (Purpose::Failure, false) => {
            Ok(format!("{} is being turned off already by recovery {}", host.name, recovery.id))
        }
    }
}

/// Turns an empty host on maintenance off and on again. What can be seen without asking Nova is refused here.
pub(super) async fn drill(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let (host, segment) = with_segment(shared, wish).await?;
    let name = &host.name;
    check_in(&host, "drilled")?;
    if !host.maintenance.operator {
        return Err(format!(
            "{name} is not on maintenance: empty it and set it first (`halberd host update {name} --on-maintenance true`)"
        ));
    }
    if fence_devices::get(&shared.db, host.id).await.map_err(say)?.is_none() {
        return Err(format!("{name} has no fence device that could be tried out: set one first"));
    }
    // Any: one that waits to enable nova-compute again would do so in the middle of it.
    let open = RecoveryFilter { host: Some(host.id), open: Some(true), ..RecoveryFilter::default() };
    if let Some((_, other)) =
        recoveries::list(&shared.db, &open, &Page::default()).await.map_err(say)?.first()
    {
        return Err(format!("a recovery of {name} is open ({}): no drill meanwhile", other.id));
    }
    let purpose = Purpose::Drill { by: asked(wish), heard: false, unnamed: Vec::new() };
    match intake::open_by_operator(shared, &host, &segment, purpose).await.map_err(say)? {
        Opened::New(recovery) => Ok(format!("{name} is drilled by recovery {}", recovery.id)),
        Opened::AlreadyOpen(id) => Err(format!("a recovery of {name} is open ({id}): no drill meanwhile")),
    }
}

/// Has a fenced host switched on once it is drained.
pub(super) async fn power_on(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let host = find(shared, id_of(wish)).await?;
    let name = &host.name;
    let Some(back) = the_return(shared, &host).await? else {
        return Err(match host.admission {
            Admission::In => {
                format!("{name} is in: nothing of ours keeps it off. Halberd switches on what it fenced")
            }
            _ => format!(
                "{name} is {}, and its guests are still being brought away: it is switched on after that; ask again when its recovery is closed",
                host.admission
            ),
        });
    };
    if !matches!(back.word(), StateWord::Draining | StateWord::Out) {
        return Err(format!("{name} is {}: it was seen on again already", back.word()));
    }
    let by = asked(wish);
    keep(shared, back.id, |kept| kept.power_on = Some(by)).await?;
    Ok(format!("{name} is switched on once it is drained (recovery {})", back.id))
}

/// Looks at the devices now and says what was found.
pub(super) async fn check_devices(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let host = find(shared, id_of(wish)).await?;
    check::now(shared, &host).await
}

pub(super) async fn confirm_fenced(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let host = find(shared, id_of(wish)).await?;
    let serial = wish.body.get("serial").and_then(|serial| serial.as_str()).unwrap_or_default().to_owned();
    let recovery = open_recovery(shared, host.id).await?;
    let confirmation =
        Confirmation { at: clock::mono(), serial, actor: wish.actor.clone(), reason: wish.reason.clone() };
    keep(shared, recovery.id, |kept| kept.confirmation = Some(confirmation)).await?;
    Ok("the statement was handed to the open recovery, which compares the serial".into())
}

pub(super) async fn readmit(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let host = find(shared, id_of(wish)).await?;
    let Some(back) = the_return(shared, &host).await? else {
        return Err("the host is not on its way back: its recovery is open, or it was never out".into());
    };
    let who = who(wish);
    keep(shared, back.id, |kept| kept.readmitted = Some(who)).await?;
    Ok("it is taken back once it is drained".into())
}

/// What is out already is not turned off once more by a person's word alone: he would not know what he orders.
fn check_in(host: &Host, what: &str) -> Result<(), String> {
    let name = &host.name;
    match host.admission {
        Admission::In => Ok(()),
        Admission::Out => Err(format!(
            "{name} is out already and cannot be {what}: it was ordered off; state that it is off with `halberd fence confirm {name}`, or have it back with `halberd fence on {name}` or `halberd fence readmit {name}`"
        )),
        other => Err(format!(
            "{name} is {other}, on its way back, and cannot be {what} until it is in: see what it waits for with `halberd explain {name}`"
        )),
    }
}

async fn with_segment(shared: &Shared, wish: &NewWish) -> Result<(Host, Segment), String> {
    let host = find(shared, id_of(wish)).await?;
    let segment = segments::get(&shared.db, host.segment).await.map_err(say)?.value;
    if !segment.enabled {
        return Err(format!("the segment {} of {} is disabled: enable it first", segment.name, host.name));
    }
    Ok((host, segment))
}

/// Asked of the database: what this engine knows of the fleet is up to a second old, and a new host's first wish comes sooner.
pub(super) async fn find(shared: &Shared, id: &str) -> Result<Host, String> {
    let id = id.parse().map_err(|_| format!("'{id}' is no host id"))?;
    hosts::get(&shared.db, id).await.map(|row| row.value).map_err(say)
}

pub(super) async fn open_recovery(
    shared: &Shared,
    host: halberd_core::id::HostId,
) -> Result<Recovery, String> {
    let open = recoveries::open_for(&shared.db, &Subject::Host { host }).await.map_err(say)?;
    open.ok_or_else(|| "no recovery of this host is open: there is nothing to confirm".into())
}

async fn the_return(shared: &Shared, host: &Host) -> Result<Option<Recovery>, String> {
    recoveries::open_for(&shared.db, &Subject::Return { host: host.id }).await.map_err(say)
}

fn say(error: halberd_store::Error) -> String {
    error.to_string()
}

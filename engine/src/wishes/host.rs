//! Wishes about a host's power: turn it off, switch it on, try its devices out, state that it is off, take it back.

use halberd_core::facts::Confirmation;
use halberd_core::fence;
use halberd_core::host::{Admission, Host};
use halberd_core::id::HostId;
use halberd_core::recovery::host::Purpose;
use halberd_core::recovery::{Body, Recovery, StateWord, Subject};
use halberd_core::segment::Segment;
use halberd_store::recoveries::RecoveryFilter;
use halberd_store::wishes::NewWish;
use halberd_store::{Page, fence_devices, hosts, recoveries, segments};

use super::recovery::{before_order, statement_is_of_use, unreadable};
use super::{Answer, Word, asked, id_of, keep, who};
use crate::intake::ByOperator;
use crate::shared::Shared;
use crate::{check, intake};

/// Whether a recovery of the host is open. One that cannot be read now is looked for again when it is opened.
pub(super) async fn has_recovery(shared: &Shared, wish: &NewWish) -> halberd_store::Result<bool> {
    let Ok(host) = id_of(wish).parse::<HostId>() else { return Ok(false) };
    recoveries::is_open_for(&shared.db, &Subject::Host { host }).await
}

/// Turns a host off, dead or alive, on the road that brings its guests away.
pub(super) async fn fence(shared: &Shared, wish: &NewWish) -> Answer {
    let (host, segment) = match with_segment(shared, wish).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    if let Err(why) = check_in(&host, "turned off") {
        return Answer::Refused(why);
    }
    let purpose = Purpose::Ordered { by: asked(wish), failed: None };
    let text = |recovery: &Recovery| format!("{} is being turned off by recovery {}", host.name, recovery.id);
    match intake::open_by_operator(shared, &host, &segment, purpose, wish, text).await {
        // One that has come meanwhile is joined in the next round.
        Ok(ByOperator::Opened | ByOperator::Open(_) | ByOperator::Answered) => Answer::Left,
        Err(error) => unreadable(error),
    }
}

/// A recovery of the host is open: it takes the order up, if it has not written one of its own.
pub(super) async fn join(shared: &Shared, wish: &NewWish) -> Answer {
    let (host, _) = match with_segment(shared, wish).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    if let Err(why) = check_in(&host, "turned off") {
        return Answer::Refused(why);
    }
    let recovery = match open_recovery(shared, host.id).await {
        Ok(recovery) => recovery,
        // It has just ended: the next round opens one.
        Err(_) => return Answer::Left,
    };
    let Body::Host(body) = &recovery.body else { return Answer::Left };
    let (id, name) = (recovery.id, &host.name);
    match (&*body.purpose, before_order(&body.state)) {
        (Purpose::Drill { .. }, true) => Answer::Refused(format!(
            "a drill of {name} is about to begin: cancel it first (`halberd recovery cancel {id}`)"
        )),
        (Purpose::Drill { .. }, false) => Answer::Refused(format!(
            "a drill of {name} is under way (recovery {id}): it is empty, and its power is off or about to be"
        )),
        (Purpose::Failure | Purpose::Ordered { failed: Some(_), .. }, true) => {
            let text = format!("recovery {id} of {name} was told to turn it off");
            keep(shared, &recovery, wish, Word::Order(asked(wish)), text)
        }
        (Purpose::Ordered { .. }, _) | (Purpose::Failure, false) => {
            Answer::Granted(format!("{name} is being turned off already by recovery {id}"))
        }
    }
}

/// Turns an empty host on maintenance off and on again. What can be seen without asking Nova is refused here.
pub(super) async fn drill(shared: &Shared, wish: &NewWish) -> Answer {
    let (host, segment) = match with_segment(shared, wish).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    match may_drill(shared, &host).await {
        Ok(None) => {}
        Ok(Some(why)) => return Answer::Refused(why),
        Err(error) => return unreadable(error),
    }
    let purpose = Purpose::Drill { by: asked(wish), heard: false, unnamed: Vec::new() };
    let text = |recovery: &Recovery| format!("{} is drilled by recovery {}", host.name, recovery.id);
    match intake::open_by_operator(shared, &host, &segment, purpose, wish, text).await {
        Ok(ByOperator::Opened | ByOperator::Answered) => Answer::Left,
        Ok(ByOperator::Open(id)) => {
            Answer::Refused(format!("a recovery of {} is open ({id}): no drill meanwhile", host.name))
        }
        Err(error) => unreadable(error),
    }
}

/// Why not.
async fn may_drill(shared: &Shared, host: &Host) -> halberd_store::Result<Option<String>> {
    let name = &host.name;
    if let Err(why) = check_in(host, "drilled") {
        return Ok(Some(why));
    }
    if !host.maintenance.operator {
        return Ok(Some(format!(
            "{name} is not on maintenance: empty it and set it first (`halberd host update {name} --on-maintenance true`)"
        )));
    }
    if fence_devices::get(&shared.db, host.id).await?.is_none() {
        return Ok(Some(format!("{name} has no fence device that could be tried out: set one first")));
    }
    // Any: one that waits to enable nova-compute again would do so in the middle of it.
    let open = RecoveryFilter { host: Some(host.id), open: Some(true), ..RecoveryFilter::default() };
    let open = recoveries::list(&shared.db, &open, &Page::default()).await?;
    Ok(open
        .first()
        .map(|(_, other)| format!("a recovery of {name} is open ({}): no drill meanwhile", other.id)))
}

/// Has a fenced host switched on once it is drained.
pub(super) async fn power_on(shared: &Shared, wish: &NewWish) -> Answer {
    let host = match find_or_answer(shared, wish).await {
        Ok(host) => host,
        Err(answer) => return answer,
    };
    let name = &host.name;
    let back = match the_return(shared, &host).await {
        Ok(Some(back)) => back,
        Ok(None) => {
            return Answer::Refused(match host.admission {
                Admission::In => {
                    format!("{name} is in: nothing of ours keeps it off. Halberd switches on what it fenced")
                }
                _ => format!(
                    "{name} is {}, and its guests are still being brought away: it is switched on after that; ask again when its recovery is closed",
                    host.admission
                ),
            });
        }
        Err(error) => return unreadable(error),
    };
    if !matches!(back.word(), StateWord::Draining | StateWord::Out) {
        return Answer::Refused(format!("{name} is {}: it was seen on again already", back.word()));
    }
    let text = format!("{name} is switched on once it is drained (recovery {})", back.id);
    keep(shared, &back, wish, Word::PowerOn(asked(wish)), text)
}

/// Looks at the devices now and says what was found.
pub(super) async fn check_devices(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let host = find(shared, id_of(wish)).await.map_err(|error| error.to_string())?;
    check::now(shared, &host).await
}

/// A statement counts from when this engine first saw it: life heard after that makes it void. One that was made before this engine
/// listened is not believed, as nobody can say what was heard since.
pub(super) async fn confirm_fenced(shared: &Shared, wish: &NewWish) -> Answer {
    let host = match find_or_answer(shared, wish).await {
        Ok(host) => host,
        Err(answer) => return answer,
    };
    let recovery = match open_recovery(shared, host.id).await {
        Ok(recovery) => recovery,
        Err(answer) => return answer,
    };
    let Body::Host(body) = &recovery.body else { return Answer::Left };
    if !statement_is_of_use(&body.state) {
        return Answer::Granted(format!(
            "{} is proved off already: nothing rests on the statement",
            host.name
        ));
    }
    let serial = wish.body.get("serial").and_then(|serial| serial.as_str()).unwrap_or_default().to_owned();
    let (actor, reason) = (wish.actor.clone(), wish.reason.clone());
    let number = host.boot_number;
    let fits =
        fence::state_off(host.id, number, recovery.epoch, host.serial.as_deref(), &serial, &actor, &reason);
    if let Err(why) = fits {
        return Answer::Refused(why.to_string());
    }
    if recovery.owner != Some(shared.engine) {
        return Answer::Left;
    }
    let Some(at) = shared.seen_wishes.since(wish.id) else {
        return Answer::Refused(format!(
            "it was stated before this engine listened, and {} may have come back since: look again, and state it again",
            host.name
        ));
    };
    let confirmation = Confirmation { at, serial, actor, reason };
    let text = "the statement was handed to the open recovery, which compares the serial";
    keep(shared, &recovery, wish, Word::Confirm(confirmation), text)
}

pub(super) async fn readmit(shared: &Shared, wish: &NewWish) -> Answer {
    let host = match find_or_answer(shared, wish).await {
        Ok(host) => host,
        Err(answer) => return answer,
    };
    match the_return(shared, &host).await {
        Ok(Some(back)) if back.word() == StateWord::Admitted => {
            Answer::Granted("it is being taken back already".into())
        }
        Ok(Some(back)) => {
            keep(shared, &back, wish, Word::Readmit(who(wish)), "it is taken back once it is drained")
        }
        Ok(None) => Answer::Refused(
            "the host is not on its way back: its recovery is open, or it was never out".into(),
        ),
        Err(error) => unreadable(error),
    }
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

async fn with_segment(shared: &Shared, wish: &NewWish) -> Result<(Host, Segment), Answer> {
    let host = find_or_answer(shared, wish).await?;
    let segment = segments::get(&shared.db, host.segment).await.map_err(unreadable)?.value;
    if !segment.enabled {
        return Err(Answer::Refused(format!(
            "the segment {} of {} is disabled: enable it first",
            segment.name, host.name
        )));
    }
    Ok((host, segment))
}

async fn find_or_answer(shared: &Shared, wish: &NewWish) -> Result<Host, Answer> {
    find(shared, id_of(wish)).await.map_err(unreadable)
}

/// Asked of the database: what this engine knows of the fleet is up to a second old, and a new host's first wish comes sooner.
pub(super) async fn find(shared: &Shared, id: &str) -> halberd_store::Result<Host> {
    let no_id = || halberd_store::Error::NotFound { what: "host", id: id.to_owned() };
    let id = id.parse().map_err(|_| no_id())?;
    hosts::get(&shared.db, id).await.map(|row| row.value)
}

/// The open recovery of a host's failure.
pub(super) async fn open_recovery(shared: &Shared, host: HostId) -> Result<Recovery, Answer> {
    let open = recoveries::open_for(&shared.db, &Subject::Host { host }).await.map_err(unreadable)?;
    open.ok_or_else(|| {
        Answer::Refused("no recovery of this host is open: there is nothing to confirm".into())
    })
}

async fn the_return(shared: &Shared, host: &Host) -> halberd_store::Result<Option<Recovery>> {
    recoveries::open_for(&shared.db, &Subject::Return { host: host.id }).await
}

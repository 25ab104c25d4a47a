//! The look at the world that may end reconcile-only: every host's power, its row in Nova and the evacuations from it, read afresh, against
//! what the database says. Read-only: it orders nothing and stores only what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use halberd_core::effect::{Migration, Query, ServiceRow};
use halberd_core::evidence::Power;
use halberd_core::host::Host;
use halberd_core::id::HostId;
use halberd_core::recovery::{StateWord, Subject};
use halberd_core::rewind::{Finding, Looked, lost_recoveries, unexplained};
use halberd_core::runner::Sight;
use halberd_store::rewind::{self as row, Audited, Rewound};
use halberd_store::{hosts, recoveries, write};

use crate::clock;
use crate::shared::Shared;

/// Hosts asked at once: as gentle to Nova and controllers as the checks of all that is well.
const AT_ONCE: usize = 16;
/// Findings that are kept; that there are more is said.
const LISTED: usize = 200;

/// One look, stored for everybody; with nothing found reconcile-only ends, if it is late enough for that.
pub(super) async fn run(shared: &Arc<Shared>, standing: &Rewound, may_end: bool) {
    let audited = match look(shared, standing).await {
        Ok(audited) => audited,
        Err(error) => {
            tracing::warn!(%error, "the world could not be compared with the database; tried again");
            return;
        }
    };
    let clean = audited.findings.is_empty();
    let kept = write(&shared.db, async |tx| {
        row::note_audit(tx, standing.id, standing.lost.len(), &audited, clock::stamp()).await
    })
    .await;
    match kept {
        Ok(true) if clean && may_end => end(shared, standing, audited).await,
        Ok(true) if clean => {}
        Ok(true) => {
            tracing::error!(
                findings = audited.findings.len(),
                first = audited.findings[0].text,
                "reconcile-only stays: the world shows what the database does not explain. {}",
                super::WAY_OUT
            );
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "what was found could not be stored; looked at again"),
    }
}

async fn end(shared: &Shared, standing: &Rewound, audited: Audited) {
    let reason = format!(
        "{} hosts were looked at, and nothing was found that the database does not explain",
        audited.hosts
    );
    let seen = Rewound { audit: Some(audited), ..standing.clone() };
    let chain = halberd_store::audit::engine_chain(shared.engine);
    let left = write(&shared.db, async |tx| {
        row::leave(tx, &seen, &shared.name, &reason, &chain, &shared.webhooks, clock::stamp()).await
    })
    .await;
    match left {
        Ok(true) => tracing::warn!(reason, "reconcile-only ends"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "reconcile-only could not be ended; looked at again"),
    }
    if let Err(error) = super::look(shared).await {
        tracing::debug!(%error, "looked at again within a second");
    }
}

async fn look(shared: &Arc<Shared>, standing: &Rewound) -> halberd_store::Result<Audited> {
    let all: Vec<Host> = hosts::all_living(&shared.db).await?.into_iter().map(|row| row.value).collect();
    let open = recoveries::list_open(&shared.db).await?;
    let mut findings = lost_recoveries(&standing.lost);
    let mut recovering: BTreeSet<HostId> = BTreeSet::new();
    for recovery in &open {
        if !matches!(recovery.subject, Subject::Host { .. } | Subject::Return { .. }) {
            continue;
        }
        recovering.insert(recovery.subject.host());
        let lost =
            standing.lost.iter().any(|loss| loss.thing == halberd_core::rewind::Thing::Recovery(recovery.id));
        if !lost && !matches!(recovery.word(), StateWord::Confirming | StateWord::Held) {
            let text = format!(
                "the {} of {} stands at {} in a database that was rewound: what was done since is not known ({})",
                if recovery.subject.kind() == "return" { "return" } else { "recovery" },
                recovery.host_name,
                recovery.word(),
                recovery.id
            );
            findings.push(Finding { host: Some(recovery.subject.host()), text });
        }
    }
    let services = match &shared.cloud {
        Some(cloud) => cloud.services().await,
        None => Err("no [openstack] section is configured".to_owned()),
    };
    let services: BTreeMap<String, ServiceRow> = match services {
        Ok(rows) => rows.into_iter().map(|row| (row.host.clone(), row)).collect(),
        Err(why) if all.is_empty() => {
            tracing::debug!(why, "no hosts, so nothing is asked of Nova");
            BTreeMap::new()
        }
        Err(why) => {
            findings.push(Finding { host: None, text: format!("Nova's services could not be read: {why}") });
            BTreeMap::new()
        }
    };
    let count = all.len() as u64;
    let (services, recovering) = (Arc::new(services), Arc::new(recovering));
    let mut looks = futures_util::stream::iter(all)
        .map(|host| {
            let (shared, services, recovering) = (shared.clone(), services.clone(), recovering.clone());
            async move { one(&shared, &host, services.get(&host.name), recovering.contains(&host.id)).await }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(found) = looks.next().await {
        findings.extend(found);
    }
    findings.sort_by(|a, b| (a.host.is_some(), &a.text).cmp(&(b.host.is_some(), &b.text)));
    if findings.len() > LISTED {
        let more = findings.len() - LISTED;
        findings.truncate(LISTED);
        findings.push(Finding { host: None, text: format!("and {more} more") });
    }
    Ok(Audited { by: shared.name.clone(), at: clock::stamp(), hosts: count, findings })
}

async fn one(shared: &Shared, host: &Host, service: Option<&ServiceRow>, recovering: bool) -> Vec<Finding> {
    let (has_device, heard) = {
        let fleet = shared.fleet();
        let known = fleet.hosts.get(&host.id);
        let heard = known
            .is_some_and(|known| known.sight.agent && !known.sight.is_silent(&known.policy, clock::mono()));
        (known.is_some_and(|known| known.sight.has_device), heard)
    };
    let power = if has_device { Some(power(shared, host.id).await) } else { None };
    let migrations: Result<Vec<Migration>, String> = match &shared.cloud {
        None => Err("no [openstack] section is configured".into()),
        Some(cloud) => match cloud.ask(&Query::Progress { host: host.name.clone() }).await {
            Ok(Sight::Progress(records)) => Ok(records),
            Ok(_) => Err("Nova answered something else".into()),
            Err(why) => Err(why),
        },
    };
    let looked = Looked {
        host,
        recovering,
        heard,
        power,
        service,
        migrations: migrations.as_deref().map_err(Clone::clone),
    };
    unexplained(&looked)
}

/// A reading that another machine may have answered says nothing of this one.
async fn power(shared: &Shared, host: HostId) -> Result<Power, String> {
    let reading = shared.power.read(host).await?;
    if reading.identified {
        Ok(reading.power)
    } else {
        Err("what answered does not say which machine it is".into())
    }
}

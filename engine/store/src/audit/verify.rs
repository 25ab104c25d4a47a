//! Whether anybody changed the record: every chain against itself, its head, and everything the checkpoints ever said of it.

use std::collections::{BTreeMap, BTreeSet};

use halberd_core::audit::{Broken, Walk};

use super::cut::{PAGE, Told, own_anchor};
use super::{CHECKPOINTS, heads_of, read};
use crate::db::Db;
use crate::error::Result;
use crate::retention;
use crate::transaction::{Read, all};
use crate::value::args;

/// What was found of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    /// Records that were read and are right, up to the first bad one.
    pub records: u64,
    /// Its first bad record.
    pub broken: Option<Broken>,
}

/// Checks every chain; the answer is what is broken, first bad record each.
pub async fn verify(db: &Db) -> Result<Vec<Broken>> {
    Ok(inspect(db, None).await?.into_iter().filter_map(|chain| chain.broken).collect())
}

/// Checks every chain, or the one of a name and the checkpoints that vouch for it; each with what was found.
pub async fn inspect(db: &Db, only: Option<&str>) -> Result<Vec<Chain>> {
    // One moment's view: chains grow while they are checked.
    let mut tx = db.snapshot().await?;
    let mut on = &mut tx;
    let heads = heads_of(&mut on).await?;
    let leaving = retention::leaving(&mut *on).await?;
    let mut names: BTreeSet<String> = heads.keys().cloned().collect();
    for row in &all(&mut on, "SELECT DISTINCT chain FROM audit", vec![]).await? {
        let name = row.of("audit", "chain").string("chain")?;
        // Without its head a chain that goes is no chain any more; whether it may is said by the checkpoints.
        if heads.contains_key(&name) || !leaving.contains(&name) {
            names.insert(name);
        }
    }
    let mut told = Told::default();
    let mut found = Vec::new();
    // The checkpoints first, as they vouch for the others.
    let anchor = own_anchor(&mut on).await?;
    if names.contains(CHECKPOINTS) {
        found.push(
            walk(&mut on, CHECKPOINTS, &[heads.get(CHECKPOINTS)], anchor.as_ref(), Some(&mut told)).await?,
        );
    }
    let mut faults: BTreeMap<String, Broken> =
        told.faults.drain(..).map(|fault| (named(&fault).to_owned(), fault)).collect();
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    for name in names.iter().filter(|name| *name != CHECKPOINTS && wanted(name)) {
        let promises = [heads.get(name), told.heads.get(name)];
        let mut chain = walk(&mut on, name, &promises, told.anchors.get(name), None).await?;
        if let Some(fault) = faults.remove(name) {
            chain.broken.get_or_insert(fault);
        }
        found.push(chain);
    }
    for (name, (sequence, _)) in told.heads.iter().filter(|(name, _)| !names.contains(*name)) {
        faults.entry(name.clone()).or_insert(Broken::Gap {
            chain: name.clone(),
            expected: *sequence,
            found: 0,
        });
    }
    let lost = faults.into_iter().filter(|(name, _)| wanted(name));
    found.extend(lost.map(|(name, fault)| Chain { name, records: 0, broken: Some(fault) }));
    Ok(found)
}

fn named(broken: &Broken) -> &str {
    match broken {
        Broken::Gap { chain, .. } | Broken::Hash { chain, .. } => chain,
    }
}

/// Walks a chain in pages. `promises`: first its head, then what else is known of its length.
async fn walk(
    on: &mut impl Read,
    name: &str,
    promises: &[Option<&(i64, String)>],
    anchor: Option<&(i64, String)>,
    mut told: Option<&mut Told>,
) -> Result<Chain> {
    let mut walk = Walk::new(name, anchor.map(|(sequence, hash)| (*sequence, hash.as_str())));
    let mut chain = Chain { name: name.to_owned(), records: 0, broken: None };
    let changed = |sequence| Some(Broken::Hash { chain: name.to_owned(), sequence });
    let mut after = walk.last();
    loop {
        let sql = "SELECT * FROM audit WHERE chain = ? AND sequence > ? ORDER BY sequence LIMIT ?";
        let rows = all(on, sql, args![name, after, PAGE]).await?;
        for row in &rows {
            // A record that cannot be read any more was changed.
            let Ok((link, stored)) = read(name, row) else {
                chain.broken = changed(walk.last() + 1);
                return Ok(chain);
            };
            if let Err(broken) = walk.record(&link, &stored) {
                chain.broken = Some(broken);
                return Ok(chain);
            }
            if promises.iter().flatten().any(|(sequence, hash)| *sequence == link.sequence && *hash != stored)
            {
                chain.broken = changed(link.sequence);
                return Ok(chain);
            }
            if let Some(told) = told.as_deref_mut() {
                told.fold(&link);
            }
            chain.records += 1;
        }
        after = walk.last();
        if rows.len() < PAGE as usize {
            break;
        }
    }
    let gap = |expected, found| Some(Broken::Gap { chain: name.to_owned(), expected, found });
    let length = walk.last();
    let longest =
        promises.iter().flatten().map(|(sequence, _)| *sequence).find(|sequence| *sequence > length);
    let head = promises.first().copied().flatten().map(|head| head.0);
    chain.broken = match (longest, head) {
        (Some(promised), _) => gap(length + 1, promised),
        (None, Some(head)) if head == length => None,
        (None, head) => gap(length, head.unwrap_or(0)),
    };
    Ok(chain)
}

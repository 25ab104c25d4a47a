//! The audit chain: what was believed, decided and done, append-only.
//!
//! One chain per recovery and one per process for the rest (DESIGN 10.12). Each record's hash covers the hash before it,
//! so a flipped, deleted or moved record is found and the first bad one named (S16).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One thing that happened, a past participle: `host_fenced`, `evacuation_ordered`, `permit_withheld`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub what: String,
    /// Shown to people as it stands.
    pub text: String,
    /// Evidence, gates, calls, ids: whatever `explain` needs.
    pub detail: Value,
}

impl Entry {
    pub fn new(what: &str, text: impl Into<String>, detail: Value) -> Entry {
        Entry { what: what.to_owned(), text: text.into(), detail }
    }
}

/// Where a record stands in its chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// From 1, without gaps.
    pub sequence: i64,
    /// Hex SHA-256 of the record before; 64 zeros for the first.
    pub before: String,
    /// Microseconds UTC, for people.
    pub at: i64,
    pub epoch: i64,
    pub entry: Entry,
}

/// The hash before the first record.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Hex SHA-256 over chain id, sequence, previous hash, time, epoch and entry, each with its length before it, so that no
/// two different records give the same bytes.
pub fn hash(chain: &str, link: &Link) -> String {
    let mut sha = Sha256::new();
    let detail = link.entry.detail.to_string();
    let numbers = [link.sequence.to_string(), link.at.to_string(), link.epoch.to_string()];
    for part in [
        chain,
        &numbers[0],
        &link.before,
        &numbers[1],
        &numbers[2],
        &link.entry.what,
        &link.entry.text,
        &detail,
    ] {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part.as_bytes());
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a chain does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("chain {chain}: record {expected} is missing (found {found})")]
    Gap { chain: String, expected: i64, found: i64 },
    #[error("chain {chain}: record {sequence} was changed, or the one before it was")]
    Hash { chain: String, sequence: i64 },
}

/// Checks a chain record by record, oldest first, so that no chain need be held in memory.
#[derive(Clone, Debug)]
pub struct Walk {
    chain: String,
    next: i64,
    /// `None`: the first record is an anchor, whose own hash is known from elsewhere and what came before it is gone.
    before: Option<String>,
    anchor: Option<String>,
}

impl Walk {
    /// A chain that begins at its first record, or at an anchor (sequence and hash of a record) when what was before it was purged.
    pub fn new(chain: &str, anchor: Option<(i64, &str)>) -> Walk {
        Walk {
            chain: chain.to_owned(),
            next: anchor.map_or(1, |(sequence, _)| sequence),
            before: anchor.is_none().then(|| GENESIS.to_owned()),
            anchor: anchor.map(|(_, hash)| hash.to_owned()),
        }
    }

    /// The next record with its stored hash.
    ///
    /// # Errors
    /// [`Broken`] names it, if it is not the one that belongs here.
    pub fn record(&mut self, link: &Link, stored: &str) -> Result<(), Broken> {
        if link.sequence != self.next {
            return Err(Broken::Gap { chain: self.chain.clone(), expected: self.next, found: link.sequence });
        }
        let follows = self.before.as_ref().is_none_or(|before| *before == link.before);
        let anchored = self.anchor.take().is_none_or(|anchor| anchor == stored);
        if !follows || !anchored || hash(&self.chain, link) != stored {
            return Err(Broken::Hash { chain: self.chain.clone(), sequence: link.sequence });
        }
        self.before = Some(stored.to_owned());
        self.next += 1;
        Ok(())
    }

    /// The sequence of the last record that was seen to be right; one less than the first before any.
    pub fn last(&self) -> i64 {
        self.next - 1
    }
}

/// Checks a whole chain, oldest first, each link with its stored hash; the first bad record is named.
pub fn verify<'a>(chain: &str, links: impl IntoIterator<Item = (&'a Link, &'a str)>) -> Result<(), Broken> {
    let mut walk = Walk::new(chain, None);
    links.into_iter().try_for_each(|(link, stored)| walk.record(link, stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: i64) -> Vec<(Link, String)> {
        let mut before = GENESIS.to_owned();
        (1..=n)
            .map(|sequence| {
                let entry = Entry::new("host_fenced", format!("record {sequence}"), Value::from(sequence));
                let link = Link { sequence, before: before.clone(), at: sequence * 7, epoch: 1, entry };
                before = hash("r1", &link);
                (link, before.clone())
            })
            .collect()
    }

    fn check(links: &[(Link, String)]) -> Result<(), Broken> {
        verify("r1", links.iter().map(|(link, hash)| (link, hash.as_str())))
    }

    #[test]
    fn whole_chain_verifies_and_each_tampering_names_its_record() {
        let good = chain(5);
        assert_eq!(check(&good), Ok(()));
        for i in 0..5 {
            let mut bad = good.clone();
            bad[i].0.entry.text.push('!');
            assert_eq!(check(&bad), Err(Broken::Hash { chain: "r1".into(), sequence: i as i64 + 1 }));
        }
        let mut gone = good.clone();
        gone.remove(2);
        assert_eq!(check(&gone), Err(Broken::Gap { chain: "r1".into(), expected: 3, found: 4 }));
        let mut moved = good;
        moved.swap(1, 2);
        assert_eq!(check(&moved), Err(Broken::Gap { chain: "r1".into(), expected: 2, found: 3 }));
    }

    #[test]
    fn a_chain_may_begin_at_its_anchor_and_nowhere_else() {
        let whole = chain(5);
        let walked = |from: usize, anchor: Option<(i64, &str)>| {
            let mut walk = Walk::new("r1", anchor);
            whole[from..].iter().try_for_each(|(link, hash)| walk.record(link, hash)).map(|()| walk.last())
        };
        let (third, other) = (whole[2].1.as_str(), whole[3].1.as_str());
        assert_eq!(walked(2, Some((3, third))), Ok(5));
        assert_eq!(walked(2, None), Err(Broken::Gap { chain: "r1".into(), expected: 1, found: 3 }));
        assert_eq!(
            walked(3, Some((3, third))),
            Err(Broken::Gap { chain: "r1".into(), expected: 3, found: 4 })
        );
        assert_eq!(walked(2, Some((3, other))), Err(Broken::Hash { chain: "r1".into(), sequence: 3 }));
    }
}

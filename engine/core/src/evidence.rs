//! Dated observations of a host. Evidence has a class, an observer, a path and an age; silence is the weakest.
//!
//! Ages are on this engine's own monotonic clock ([`Mono`]), so evidence lives in memory; what a decision rested on is
//! stored with it as words ([`Exhibit`]) and can be replayed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::BootId;
use crate::kdump::Dump;
use crate::text_enum;
use crate::time::Mono;
use crate::watchdog::{Attested, Renewers};

text_enum! {
    /// How much an observation may move (SAFETY 1.4).
    pub enum Class {
        /// Conclusive: the host cannot be executing guests.
        E0 => "E0",
        /// Strong: a direct statement of death, or all paths gone.
        E1 => "E1",
        /// Circumstantial: silence on some paths.
        E2 => "E2",
        /// Contradictory: someone saw it alive.
        E3 => "E3",
    }
}

text_enum! {
    /// A network an agent beats on.
    pub enum Network {
        Management => "management",
        Tenant => "tenant",
        Storage => "storage",
    }
}

/// What a BMC said about power, with the identity of what answered checked in the same session (I16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    On,
    Off,
    /// PoweringOff, null, an unknown word: not off.
    Other(String),
}

/// One reading of power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerReading {
    pub at: Mono,
    pub power: Power,
    /// The machine's serial or UUID matched what is on file, or a drill or stated mapping stands for it.
    pub identified: bool,
    pub device: String,
}

/// What we know of a host's beats, all by this engine's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beats {
    /// Last authenticated beat per network, with the boot that sent it.
    pub last: Vec<(Network, Mono)>,
    pub boot: Option<BootId>,
    /// Last beat that echoed a nonce of ours: no replay can do that (DESIGN 10.7).
    pub last_echoed: Option<Mono>,
    /// A beat of a retired boot, echoed: the host is up although it was proved off.
    pub retired_echoed: Option<Mono>,
    /// When the newest beat arrived that an engine may have answered with a renewal, on any network, echoed or not. Unlike the others
    /// this is no send time: a watchdog's lease is counted from here (SAFETY 2.3).
    pub received: Option<Mono>,
    /// What its agent says of the watchdog that would reset it.
    pub attested: Option<Attested>,
    /// A signed statement of kernel panic.
    pub panic: Option<Mono>,
    /// What was said of a crash of this boot, signed or not, as far as it counts.
    pub dump: Option<Dump>,
    /// Since when this engine has listened without a gap.
    pub listening_since: Mono,
    /// Age of the last successful write to guest storage as the host's last beat told it.
    pub storage_write_age: Option<Duration>,
}

impl Beats {
    /// Last beat on any path.
    pub fn last_any(&self) -> Option<Mono> {
        self.last.iter().map(|(_, at)| *at).max()
    }
}

/// A neighbour's statement about a host, made in its own signed beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub name: String,
    /// The failure domain the witness stands in, for people.
    pub domain: Option<String>,
    /// When we heard the statement.
    pub at: Mono,
    /// How long ago the witness heard the host, on its best path; `None`: never, or longer than it remembers.
    pub heard: Option<Duration>,
    /// What it heard came on the storage network alone, with the others dark to it too: no life as its guests' users know it.
    pub storage_only: bool,
}

/// An answer from the host's user land on a probe port, or the lack of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLand {
    pub at: Mono,
    pub answered: bool,
}

/// Nova's service row of the host as we saw it change or stand still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSight {
    /// When it was last read.
    pub at: Mono,
    /// Nova calls it up.
    pub up: bool,
    pub forced_down: bool,
    pub disabled: bool,
    /// When the row was last seen changed with none of our PUTs between.
    pub changed_at: Option<Mono>,
    /// The earlier of the two reads between which it changed: its writer lived after this. Unknown: `changed_at` stands in,
    /// which makes a change from before the death look like life.
    pub changed_after: Option<Mono>,
    /// Since when the row has been watched standing still.
    pub still_since: Option<Mono>,
    /// At least half of the other rows that Nova calls up changed in that window; else Nova is blind.
    pub others_moving: bool,
}

/// A report, with its age by our receipt. One that was made before this engine listened may have been made at any time from `at` to `seen`:
/// it is as old as the one says, and nothing refutes it that came before the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub at: Mono,
    /// When this engine took it up.
    pub seen: Mono,
    /// The host's own agent said so of itself, or an authorised caller.
    pub by_agent: bool,
}

/// Everything seen of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub beats: Beats,
    pub witnesses: Vec<Witness>,
    /// How many living neighbours could have spoken.
    pub neighbours: u32,
    pub power: Option<PowerReading>,
    pub user_land: Option<UserLand>,
    pub service: Option<ServiceSight>,
    pub reports: Vec<Report>,
    /// The host has, or ever had, our agent.
    pub agent: bool,
    /// Other engines that share the sight that the host is silent.
    pub engines_agreeing: u32,
    /// The host has at least one fence device.
    pub has_device: bool,
    /// One of them is its watchdog, and whether it has no other.
    pub has_watchdog: bool,
    pub only_watchdog: bool,
    /// Until when other engines may have renewed its watchdog's lease; `None`: not looked for.
    pub renewers: Option<Renewers>,
}

/// Evidence in words, as stored with a decision and shown by `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhibit {
    pub class: Class,
    pub source: String,
    pub what: String,
    pub age_ms: u64,
}

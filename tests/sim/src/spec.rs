//! What world to build. Defaults are those of a small real cloud: Nova's own intervals, latencies as measured.

use crate::metal::RestorePolicy;
use crate::model::VmState;
use std::collections::BTreeMap;

/// The protocol a host's BMC speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BmcKind {
    /// No BMC at all.
    None,
    /// Redfish over HTTP.
    Redfish,
    /// IPMI v2.0 (RMCP+), suites 3 and 17.
    Ipmi,
}

/// The world to build; all times in milliseconds.
#[derive(Debug, Clone)]
pub struct WorldSpec {
    /// All chance comes from here.
    pub seed: u64,
    /// Number of hypervisors, named `cmp-01`, `cmp-02`, ...
    pub hosts: usize,
    /// Other names for the first of them.
    pub host_names: Vec<String>,
    /// Guests on each host, by the host's position; missing entries are 0.
    pub guests_per_host: Vec<usize>,
    /// Racks, dealt out in blocks: six hosts in two racks are 1-3 and 4-6.
    pub racks: usize,
    /// BMC kinds, dealt out in turn.
    pub bmc_kinds: Vec<BmcKind>,
    /// What machines do when their supply returns.
    pub restore_policy: RestorePolicy,
    /// Guests a host can hold (the flavor is 1 VCPU, 1024 MB, 5 GB).
    pub capacity: usize,
    /// Every n-th guest carries `HA_Enabled: True`; 0 for none.
    pub ha_enabled_every: usize,
    /// Every n-th guest is stopped (SHUTOFF); 0 for none.
    pub stopped_every: usize,
    /// Whether a booting host runs its local guests again by itself (libvirt autostart, Nova's resume option).
    pub autostart: bool,
    /// Whether hosts have a start gate: after a boot neither guests nor nova-compute start until told to.
    pub gate: bool,
    /// Highest microversion Nova offers, `(2, minor)`.
    pub max_microversion: u16,
    /// nova-compute's `report_interval`.
    pub report_interval_ms: u64,
    /// Nova's `service_down_time`.
    pub service_down_ms: u64,
    /// Time from an evacuate call to its answer.
    pub evacuate_api_latency_ms: u64,
    /// Time of all other API calls.
    pub api_latency_ms: u64,
    /// Shortest and longest time a destination needs to spawn a guest.
    pub rebuild_latency_ms: (u64, u64),
    /// Rebuilds one destination works on at a time (Nova's `max_concurrent_builds`).
    pub max_concurrent_builds: usize,
    /// How long the scheduler works from one view of the hosts' usage; 0 for a fresh one each time.
    pub scheduler_view_ms: u64,
    /// Time from an accepted power order to its effect.
    pub bmc_off_latency_ms: u64,
    /// Time of a BMC's answer.
    pub bmc_latency_ms: u64,
    /// Time a BMC needs to open a session.
    pub bmc_session_latency_ms: u64,
    /// Time between two power syncs of the bare-metal service (ironic's `sync_power_state_interval`).
    pub ironic_sync_ms: u64,
    /// Power on to user land.
    pub boot_ms: u64,
    /// User land to a started nova-compute.
    pub compute_start_ms: u64,
    /// Time a start or stop of a guest takes on its host.
    pub guest_task_ms: u64,
    /// Lifetime of a Keystone token.
    pub token_lifetime_ms: u64,
    /// Wall-clock time of virtual zero, seconds since 1970, for the times that Nova shows.
    pub epoch_seconds: i64,
}

impl Default for WorldSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            hosts: 6,
            host_names: Vec::new(),
            guests_per_host: vec![7, 7, 7, 7, 6, 6],
            racks: 2,
            bmc_kinds: vec![BmcKind::Redfish, BmcKind::Ipmi],
            restore_policy: RestorePolicy::LastState,
            capacity: 200,
            ha_enabled_every: 2,
            stopped_every: 0,
            autostart: false,
            gate: false,
            max_microversion: 104,
            report_interval_ms: 10_000,
            service_down_ms: 60_000,
            evacuate_api_latency_ms: 50,
            api_latency_ms: 5,
            rebuild_latency_ms: (500, 1_500),
            max_concurrent_builds: 10,
            scheduler_view_ms: 300,
            bmc_off_latency_ms: 500,
            bmc_latency_ms: 10,
            bmc_session_latency_ms: 30,
            ironic_sync_ms: 120_000,
            boot_ms: 20_000,
            compute_start_ms: 3_000,
            guest_task_ms: 1_000,
            token_lifetime_ms: 3_600_000,
            epoch_seconds: 1_795_132_800,
        }
    }
}

impl WorldSpec {
    /// `guests` spread evenly over `hosts`, the rest as by default.
    pub fn spread(hosts: usize, guests: usize) -> Self {
        let share = |ix: usize| guests / hosts.max(1) + usize::from(ix < guests % hosts.max(1));
        Self { hosts, guests_per_host: (0..hosts).map(share).collect(), ..Self::default() }
    }

    /// All `guests` on the first of `hosts`, every host large enough for them.
    pub fn loaded(hosts: usize, guests: usize) -> Self {
        let capacity = guests.max(200);
        Self { hosts, guests_per_host: vec![guests], capacity, ..Self::default() }
    }

    /// The same with another seed.
    pub fn seeded(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The name of the host at this position, counted from 0.
    pub fn host_name(&self, position: usize) -> String {
        self.host_names.get(position).cloned().unwrap_or_else(|| format!("cmp-{:02}", position + 1))
    }
}

/// A guest to add to a world.
#[derive(Debug, Clone)]
pub struct GuestSpec {
    /// Server name.
    pub name: String,
    /// The host it lives on; `None` for one that was never scheduled (NoValidHost).
    pub host: Option<String>,
    /// Its state; only an active one executes.
    pub vm_state: VmState,
    /// Its project; the first tenant project when `None`.
    pub project: Option<String>,
    /// Server metadata.
    pub metadata: BTreeMap<String, String>,
    /// Boots from a volume (no image).
    pub volume_backed: bool,
}

impl GuestSpec {
    /// An active guest on `host`.
    pub fn active(name: &str, host: &str) -> Self {
        Self {
            name: name.into(),
            host: Some(host.into()),
            vm_state: VmState::Active,
            project: None,
            metadata: BTreeMap::new(),
            volume_backed: false,
        }
    }
}

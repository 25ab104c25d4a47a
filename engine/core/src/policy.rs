//! Every tunable threshold by name, with the argument for its default.
//!
//! A profile sets the detection timers (SAFETY 10); a segment may override any single value. A recovery keeps the policy
//! it started with: a timer shortened while it runs applies to the next one (F73).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text_enum;

text_enum! {
    /// A set of detection timers (SAFETY 10).
    pub enum Profile {
        Fast => "fast",
        Balanced => "balanced",
        Conservative => "conservative",
    }
}

text_enum! {
    /// How far a report about a host that never had our agent is believed (DESIGN 2.1).
    pub enum Reporters {
        /// COMPUTE_HOST/STOPPED/NORMAL by an authorised caller suffices for a fence attempt.
        Trusted => "trusted",
        /// A second sight is asked for: Nova's service down, or the BMC.
        Witnessed => "witnessed",
    }
}

text_enum! {
    /// What to do with a host that has no fence device at all (DESIGN 2.2).
    pub enum Unfenced {
        /// Stop and ask.
        Refuse => "refuse",
        /// Believe the reporter: a proof of the kind `Waived`, never with force-down.
        TrustReporter => "trust-reporter",
    }
}

text_enum! {
    /// Whether the end of an attested watchdog's lease proves a host off (SAFETY 2.3).
    pub enum WatchdogProof {
        /// It never does.
        Off => "off",
        /// A watchdog that runs without the kernel that it should kill.
        Hardware => "hardware",
        /// The kernel's own timer as well: it does not survive a stuck kernel.
        Software => "software",
    }
}

text_enum! {
    /// What happens to a guest whose state does not survive a rebuild (paused, suspended, rescued, ...).
    pub enum Fragile {
        /// Leave it where it is and say why: nothing is lost by waiting.
        Ignore => "ignore",
        /// Reset its state and evacuate it; it ends stopped, as with the original.
        EvacuateStopped => "evacuate-stopped",
    }
}

/// All thresholds. Durations are milliseconds on the wire, named `*_ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    pub profile: Profile,
    /// Time between two beats of an agent.
    pub beat_interval_ms: u64,
    /// Silence after which a host is suspect by silence alone.
    pub suspect_after_ms: u64,
    /// Time for witnesses, BMC and storage to speak before silence alone may become a verdict.
    pub confirm_ms: u64,
    /// Whether silence alone may fence at all; `fast` waits for `balanced`'s time instead.
    pub silence_floor_ms: u64,
    /// Guests that hang on storage get this long before their host is fenced for it.
    pub storage_grace_ms: u64,
    /// Observation lease of an engine, and how often it renews.
    pub lease_ms: u64,
    pub lease_renew_ms: u64,

    /// Nova's own `report_interval`: a service row of a living host changes at least this often.
    pub nova_report_interval_ms: u64,
    /// A report without any other sight counts this long after receipt (DESIGN 2.1).
    pub report_stale_ms: u64,
    pub reporters: Reporters,
    pub unfenced: Unfenced,
    /// Hosts with a device of type watchdog are proved off by the end of its lease. Every boot of theirs needs a start gate.
    pub watchdog_proof: WatchdogProof,
    /// K: from a watchdog's firing until nothing runs any more.
    pub watchdog_reset_ms: u64,
    /// D: the longest that a write already issued may still be on its way to storage.
    pub watchdog_write_ms: u64,
    /// On top of all that.
    pub watchdog_margin_ms: u64,
    /// The off order waits at most so long for a crash kernel to write its dump; 0: not at all, and never over two minutes.
    pub kdump_window_ms: u64,

    /// G2: more than max(this many, this share in percent) of a failure domain silent within the window holds.
    pub domain_hold_hosts: u32,
    pub domain_hold_percent: u32,
    pub domain_window_ms: u64,
    /// G3: the same for the fleet.
    pub fleet_hold_hosts: u32,
    pub fleet_hold_percent: u32,
    pub fleet_window_ms: u64,
    /// G4: a token each so long, so many at once, so many fences in flight.
    pub fence_every_ms: u64,
    pub fence_burst: u32,
    pub fence_in_flight: u32,
    /// G7: fences a day: max(this many, this share of all hosts in percent).
    pub fence_daily_hosts: u32,
    pub fence_daily_percent: u32,
    /// G5: refuse to fence when the guests cannot fit elsewhere.
    pub require_capacity: bool,

    /// Evacuate calls under way at once: of one recovery by its policy, of one engine by its own.
    pub evacuations_in_flight: u32,
    /// After this long an evacuate call is dead wherever it hung: client, proxy, queue (SAFETY 2.4: under 60 s).
    pub request_lifetime_ms: u64,
    /// Evacuations tried for one guest before its placement is given up.
    pub evacuation_attempts: u32,
    /// First pause before a guest is tried again; doubles each time up to 60 s.
    pub retry_ms: u64,
    /// Time for Nova to finish one accepted evacuation before a person is asked.
    pub evacuation_deadline_ms: u64,
    /// Poll of migrations while evacuations run.
    pub poll_ms: u64,
    /// A power reading older than this vouches for nothing (I3).
    pub power_fresh_ms: u64,
    /// Pause between fence attempts after one that proved nothing.
    pub fence_retry_ms: u64,

    /// Masakari's own names and meanings (DESIGN 10.16).
    pub evacuate_all_instances: bool,
    pub ignore_instances_in_error_state: bool,
    pub process_all_instances: bool,
    pub add_reserved_host_to_aggregate: bool,
    pub ha_enabled_instance_metadata_key: String,
    pub fragile_instances: Fragile,

    /// Time for a guest to stop, and to start, in instance recovery.
    pub stop_timeout_ms: u64,
    pub start_timeout_ms: u64,
    /// An out host without an agent is *in* only after this long, as a queued os-start may still run (DESIGN 10.2).
    pub agentless_return_ms: u64,
    /// Clears `on_maintenance` by itself after a verified return.
    pub clear_maintenance_on_return: bool,
    /// Switches a fenced host on by itself once it is drained (I12). Off: a person looks first at what felled it.
    pub power_on_when_drained: bool,
}

impl Policy {
    /// The defaults of a profile (SAFETY 10).
    pub fn of(profile: Profile) -> Policy {
        let balanced = Policy {
            profile: Profile::Balanced,
            beat_interval_ms: 1_000,
            suspect_after_ms: 6_000,
            confirm_ms: 3_000,
            silence_floor_ms: 9_000,
            storage_grace_ms: 60_000,
            lease_ms: 10_000,
            lease_renew_ms: 2_500,
            nova_report_interval_ms: 10_000,
            report_stale_ms: 300_000,
            reporters: Reporters::Trusted,
            unfenced: Unfenced::Refuse,
            watchdog_proof: WatchdogProof::Off,
            watchdog_reset_ms: 1_000,
            watchdog_write_ms: 5_000,
            watchdog_margin_ms: 3_000,
            kdump_window_ms: 0,
            domain_hold_hosts: 2,
            domain_hold_percent: 25,
            domain_window_ms: 30_000,
            fleet_hold_hosts: 3,
            fleet_hold_percent: 5,
            fleet_window_ms: 60_000,
            fence_every_ms: 10_000,
            fence_burst: 3,
            fence_in_flight: 10,
            fence_daily_hosts: 20,
            fence_daily_percent: 2,
            require_capacity: false,
            evacuations_in_flight: 16,
            request_lifetime_ms: 30_000,
            evacuation_attempts: 3,
            retry_ms: 2_000,
            evacuation_deadline_ms: 600_000,
            poll_ms: 1_000,
            power_fresh_ms: 10_000,
            fence_retry_ms: 60_000,
            evacuate_all_instances: true,
            ignore_instances_in_error_state: false,
            process_all_instances: false,
            add_reserved_host_to_aggregate: false,
            ha_enabled_instance_metadata_key: "HA_Enabled".to_owned(),
            fragile_instances: Fragile::Ignore,
            stop_timeout_ms: 180_000,
            start_timeout_ms: 60_000,
            agentless_return_ms: 60_000,
            clear_maintenance_on_return: true,
            power_on_when_drained: false,
        };
        match profile {
            Profile::Balanced => balanced,
            Profile::Fast => Policy {
                profile,
                beat_interval_ms: 500,
                suspect_after_ms: 2_250,
                confirm_ms: 1_000,
                storage_grace_ms: 30_000,
                watchdog_write_ms: 3_000,
                watchdog_margin_ms: 2_000,
                lease_ms: 6_000,
                lease_renew_ms: 1_500,
                fence_every_ms: 5_000,
                evacuations_in_flight: 32,
                ..balanced
            },
            Profile::Conservative => Policy {
                profile,
                beat_interval_ms: 2_000,
                suspect_after_ms: 20_000,
                confirm_ms: 10_000,
                silence_floor_ms: 30_000,
                storage_grace_ms: 120_000,
                watchdog_write_ms: 9_000,
                watchdog_margin_ms: 5_000,
                lease_ms: 15_000,
                lease_renew_ms: 4_000,
                domain_hold_hosts: 1,
                fleet_hold_hosts: 2,
                fleet_hold_percent: 2,
                fence_every_ms: 30_000,
                fence_in_flight: 3,
                evacuations_in_flight: 8,
                ..balanced
            },
        }
    }

    /// The first missed beat starts parallel probes after one and a half intervals (DESIGN 4).
    pub fn first_missed(&self) -> Duration {
        Duration::from_millis(self.beat_interval_ms * 3 / 2)
    }

    /// A duration field as a [`Duration`].
    pub fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy::of(Profile::Balanced)
    }
}

//! Everything that can happen, and how a trace tells it.

/// One step. Hosts and guests are numbers; `row` is [`crate::state::recovery_row`] or [`crate::state::return_row`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    // The outside.
    Crash { engine: u8 },
    TakeOver { row: u8, engine: u8 },
    Cut { host: u8 },
    Heal { host: u8 },
    PowerLoss { host: u8 },
    PowerOn { host: u8 },
    Timeout { engine: u8, row: u8 },
    Duplicate { host: u8 },
    Rewind,
    // Machines, controllers, Nova.
    OffLands { host: u8 },
    CallLands { slot: u8, dest: u8 },
    Begin { guest: u8, record: u8 },
    Finish { guest: u8, record: u8 },
    RebuildFails { guest: u8, record: u8 },
    NovaCountsDown { host: u8 },
    NewBootIsNumbered { host: u8 },
    GateOpens { host: u8 },
    ComputeStarts { host: u8 },
    StrayDestroyed { host: u8 },
    Settled { guest: u8, record: u8 },
    // Engines.
    Order { host: u8, engine: u8 },
    OrderAgain { host: u8 },
    Retire { host: u8 },
    RevokeRetired { engine: u8, row: u8 },
    Check { engine: u8, row: u8 },
    Send { engine: u8, row: u8 },
    ReadOff { engine: u8, row: u8 },
    ReadCachedOff { engine: u8, row: u8 },
    ReadOn { engine: u8, row: u8 },
    TrustAnswer { engine: u8, row: u8 },
    MarkDown { host: u8 },
    Reread { host: u8 },
    SkipReread { host: u8 },
    Evacuate { host: u8, guest: u8 },
    Adopt { host: u8, guest: u8 },
    Lapsed { host: u8, guest: u8 },
    Follow { host: u8, guest: u8 },
    Close { host: u8 },
    Revoke { host: u8 },
    RevokeFails { host: u8 },
    Drained { host: u8 },
    Admit { host: u8 },
    OffAgain { host: u8 },
    Unforce { host: u8 },
    In { host: u8 },
}

fn host(index: u8) -> char {
    char::from(b'A' + index)
}

fn guest(index: u8) -> u8 {
    index + 1
}

fn of_row(row: u8) -> String {
    let what = if row.is_multiple_of(2) { "the recovery" } else { "the return" };
    format!("{what} of host {}", host(row / 2))
}

impl Action {
    /// In plain words.
    pub fn words(&self) -> String {
        use Action::*;
        match *self {
            Crash { engine } => format!("engine {engine} dies and starts again without memory"),
            TakeOver { row, engine } => {
                format!("the owner stands still past its lease; engine {engine} takes over {}", of_row(row))
            }
            Cut { host: h } => format!("host {} loses its network and goes on running", host(h)),
            Heal { host: h } => format!("the network of host {} comes back", host(h)),
            PowerLoss { host: h } => format!("host {} loses power", host(h)),
            PowerOn { host: h } => format!("somebody switches host {} on", host(h)),
            Timeout { engine, row } => {
                format!("engine {engine} gets no answer for {}; its call travels on", of_row(row))
            }
            Duplicate { host: h } => format!("a power-off for host {} is doubled on its way", host(h)),
            Rewind => "the database loses its last commit".into(),
            OffLands { host: h } => format!("a power-off reaches the controller of host {}", host(h)),
            CallLands { slot, dest } if dest == u8::MAX => format!("Nova processes call {slot}"),
            CallLands { slot, dest } => {
                format!("Nova processes call {slot}; its scheduler would choose host {}", host(dest))
            }
            Begin { guest: g, record } => {
                format!("the destination takes record {record} of guest {} from its queue", guest(g))
            }
            Finish { guest: g, record } => {
                format!("record {record} of guest {} is done: Nova places it on the destination", guest(g))
            }
            RebuildFails { guest: g, record } => format!("record {record} of guest {} fails", guest(g)),
            NovaCountsDown { host: h } => {
                format!("a minute of silence: Nova counts host {} down by itself", host(h))
            }
            NewBootIsNumbered { host: h } => {
                format!("host {} has booted anew without an order; it is in", host(h))
            }
            GateOpens { host: h } => format!("host {} is in: its gate opens and its guests start", host(h)),
            ComputeStarts { host: h } => {
                format!("nova-compute starts on host {} and destroys old copies", host(h))
            }
            StrayDestroyed { host: h } => format!("the agent destroys stray copies on host {}", host(h)),
            Settled { guest: g, record } => {
                format!("a person settles record {record} of guest {}, which hangs", guest(g))
            }
            Order { host: h, engine } => {
                format!("engine {engine} judges host {} failed and writes an off order: it is out", host(h))
            }
            OrderAgain { host: h } => format!("off is ordered again for host {}", host(h)),
            Retire { host: h } => {
                format!("host {} speaks and reads On: its order is retired, it is in", host(h))
            }
            RevokeRetired { engine, row } => {
                format!("engine {engine} revokes the sessions of the retired order ({})", of_row(row))
            }
            Check { engine, row } => {
                format!(
                    "engine {engine} checks its right for {} and stands still before the first byte",
                    of_row(row)
                )
            }
            Send { engine, row } => format!("engine {engine} sends what it holds for {}", of_row(row)),
            ReadOff { engine, row } => format!("engine {engine} reads Off for {}", of_row(row)),
            ReadCachedOff { engine, row } => {
                format!("engine {engine} reads a cached Off for {}, which is On", of_row(row))
            }
            ReadOn { engine, row } => {
                format!("engine {engine} reads On for {}: nothing is proved", of_row(row))
            }
            TrustAnswer { engine, row } => {
                format!("engine {engine} takes the controller's answer as proof for {}", of_row(row))
            }
            MarkDown { host: h } => format!("the order to force host {} down is committed", host(h)),
            Reread { host: h } => format!("power of host {} is read once more", host(h)),
            SkipReread { host: h } => format!("power of host {} is not read again", host(h)),
            Evacuate { host: h, guest: g } => {
                format!("the recovery of host {} decides to evacuate guest {}", host(h), guest(g))
            }
            Adopt { host: h, guest: g } => {
                format!("the recovery of host {} looks guest {} up and adopts its record", host(h), guest(g))
            }
            Lapsed { host: h, guest: g } => {
                format!(
                    "the recovery of host {} finds no record of guest {}: to be sent again",
                    host(h),
                    guest(g)
                )
            }
            Follow { host: h, guest: g } => {
                format!("the recovery of host {} sees what became of guest {}", host(h), guest(g))
            }
            Close { host: h } => format!("the recovery of host {} closes; its return opens", host(h)),
            Revoke { host: h } => format!("the sessions on the controller of host {} are revoked", host(h)),
            RevokeFails { host: h } => {
                format!("the controller of host {} does not answer the revoking", host(h))
            }
            Drained { host: h } => format!("the lifetime of the last command for host {} is over", host(h)),
            Admit { host: h } => format!("host {} reads On again: it is admitted", host(h)),
            OffAgain { host: h } => format!("host {} is off again: it is out", host(h)),
            Unforce { host: h } => {
                format!("host {} is clean: the order to un-force it is committed", host(h))
            }
            In { host: h } => format!("host {} is in", host(h)),
        }
    }

    /// Whether it is a fault of the world: what is left of the run goes on without any.
    pub fn is_fault(&self) -> bool {
        use Action::*;
        matches!(
            self,
            Crash { .. }
                | TakeOver { .. }
                | Cut { .. }
                | Heal { .. }
                | PowerLoss { .. }
                | PowerOn { .. }
                | Timeout { .. }
                | Duplicate { .. }
                | Rewind
                | RebuildFails { .. }
                | ReadCachedOff { .. }
                | RevokeFails { .. }
        )
    }
}

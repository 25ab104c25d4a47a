//! The faults one may ask for: what is done to the world, what must come of it, and which waits are shortened so that it is seen.

use clap::ValueEnum;
use halberd_core::policy::Policy;
use halberd_sim::{BmcFault, Fault, Network, NovaAnswer};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DemoFault {
    /// The hypervisor loses power, its BMC lives.
    #[default]
    PowerLoss,
    /// It freezes; power stays on.
    Hang,
    /// It loses power together with its BMC: nothing can prove that it is off.
    BmcDead,
    /// It loses its storage and lives on, and its BMC says "off" to everything without doing it.
    BmcLies,
    /// It loses power, and its BMC's address leads to another machine.
    BmcWrongMachine,
    /// It loses power, and Nova answers 503 for ten seconds in the middle.
    #[value(name = "nova-503")]
    Nova503,
    /// It loses power and comes back later.
    Returns,
    /// A whole rack loses power, BMCs too.
    Rack,
}

/// What must come of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Every guest ACTIVE elsewhere.
    Recovered,
    /// The same, and the host is in again.
    Returned,
    /// A brake holds.
    Held,
    /// A person is asked.
    NeedsOperator,
}

/// How long Nova is away.
pub(super) const NOVA_AWAY_MS: u64 = 10_000;

impl DemoFault {
    pub(crate) fn expected(self) -> Expected {
        match self {
            Self::PowerLoss | Self::Hang | Self::Nova503 => Expected::Recovered,
            Self::Returns => Expected::Returned,
            Self::Rack => Expected::Held,
            Self::BmcDead | Self::BmcLies | Self::BmcWrongMachine => Expected::NeedsOperator,
        }
    }

    /// The option's word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::PowerLoss => "power-loss",
            Self::Hang => "hang",
            Self::BmcDead => "bmc-dead",
            Self::BmcLies => "bmc-lies",
            Self::BmcWrongMachine => "bmc-wrong-machine",
            Self::Nova503 => "nova-503",
            Self::Returns => "returns",
            Self::Rack => "rack",
        }
    }

    /// What must come of it, for people.
    pub(crate) fn says(self) -> &'static str {
        match self.expected() {
            Expected::Recovered => "every guest of the dead one must come back elsewhere",
            Expected::Returned => {
                "every guest must come back elsewhere, and the host must come in again without taking one back"
            }
            Expected::Held => {
                "the right answer is a hold: a rack that falls silent at once is a switch until proved otherwise"
            }
            Expected::NeedsOperator => "the right answer is to move nothing and ask a person",
        }
    }

    /// What of the policy is changed, so that a demo is short and its point is seen; nothing that protects a guest while it runs.
    pub(crate) fn shortened(self) -> &'static [&'static str] {
        match self {
            Self::Returns => &[
                "shortened for the demo: request_lifetime_ms 3000 instead of 30000 and agentless_return_ms 2000 instead of 60000 (nothing \
                 of this cloud queues calls for longer), and the host boots in 3 s",
            ],
            Self::BmcLies => &["shortened for the demo: storage_grace_ms 4000 instead of the profile's"],
            Self::Nova503 => &[
                "for the demo 2 evacuations at once instead of 16, so that Nova goes away in the middle of them",
            ],
            _ => &[],
        }
    }

    pub(super) fn change_policy(self, policy: &mut Policy) {
        match self {
            Self::Returns => {
                policy.request_lifetime_ms = 3_000;
                policy.agentless_return_ms = 2_000;
            }
            Self::BmcLies => policy.storage_grace_ms = 4_000,
            Self::Nova503 => policy.evacuations_in_flight = 2,
            _ => {}
        }
    }

    /// What is done to the world at the beginning. `other`: the machine that a wrong BMC leads to.
    pub(super) fn strikes(self, host: &str, rack: &str, other: &str) -> Vec<Fault> {
        let power = |with_bmc| Fault::HostPowerLoss { host: host.into(), with_bmc };
        let bmc = |fault| Fault::Bmc { host: host.into(), fault };
        match self {
            Self::PowerLoss | Self::Nova503 | Self::Returns => vec![power(false)],
            Self::Hang => vec![Fault::HostHang { host: host.into(), for_ms: None }],
            Self::BmcDead => vec![power(true)],
            Self::BmcLies => {
                let cut =
                    Fault::NetworkCut { host: host.into(), networks: vec![Network::Storage], for_ms: None };
                vec![bmc(BmcFault::LieOff), bmc(BmcFault::AckNoOff), cut]
            }
            Self::BmcWrongMachine => vec![bmc(BmcFault::WrongMachine(other.into())), power(false)],
            Self::Rack => vec![Fault::RackDown { rack: rack.into() }],
        }
    }

    /// What is done once the first guest is on its way.
    pub(super) fn in_the_middle(self) -> Option<Fault> {
        let answer = NovaAnswer::Status(503);
        (self == Self::Nova503).then_some(Fault::NovaAnswers {
            route: None,
            answer,
            for_ms: Some(NOVA_AWAY_MS),
        })
    }

    /// What is done once every guest runs elsewhere.
    pub(super) fn at_the_end(self, host: &str) -> Option<Fault> {
        (self == Self::Returns).then(|| Fault::HostReturn { host: host.into() })
    }
}

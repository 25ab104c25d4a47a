//! What agents send over HTTP: reports of what they saw, the signature that shows who speaks, and the orders they fetch.
//!
//! A host speaks only for itself: the API takes the host from the verified key, never from the body, and refuses a
//! body that names another. A report is a claim about a process, a guest or this very host; none says of another host
//! that it is dead.
//!
//! Signature: base64 of HMAC-SHA256 with the host's key over `METHOD \n path \n counter \n boot \n hex(sha256(body))`,
//! sent beside host, boot and counter (CLOCK_BOOTTIME at send, ns). A replay is harmless: reports are
//! idempotent by `report_id`, results by their order's id. The answer to a fetch of orders is signed over the boot and counter
//! of its own request ([`sign_answer`]), so that an old answer cannot be given again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::beat::{AgentKey, base64_decode, base64_encode};

#[cfg(test)]
mod tests;

/// Where reports go.
pub const REPORTS_PATH: &str = "/halberd/v1/agents/self/reports";
/// Where orders are fetched; `{this}/{id}` takes an order's result.
pub const ORDERS_PATH: &str = "/halberd/v1/agents/self/orders";
/// Header: our id of the host that speaks.
pub const HOST_HEADER: &str = "x-halberd-host";
/// Header: CLOCK_BOOTTIME at send, nanoseconds, decimal.
pub const COUNTER_HEADER: &str = "x-halberd-counter";
/// Header: kernel's boot id.
pub const BOOT_HEADER: &str = "x-halberd-boot";
/// Header: the signature, on requests and on the answer to a fetch of orders.
pub const SIGNATURE_HEADER: &str = "x-halberd-signature";

/// The four headers of a signed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who speaks; says which key to verify with.
    pub host: Uuid,
    /// Boot it speaks from.
    pub boot: Uuid,
    /// CLOCK_BOOTTIME at send, nanoseconds.
    pub counter: u64,
    /// Base64 of the HMAC.
    pub signature: String,
}

/// Why a request was not taken as the host's own: 401, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing or has not its form.
    #[error("header {0} is missing or malformed")]
    Header(&'static str),
    /// The signature fits another key, path, counter, boot or body.
    #[error("signature does not fit this host's key: enrol the agent again with `halberd agent key HOST`")]
    Mismatch,
}

impl Signed {
    /// Reads the four headers through `get` (header name in lower case to value). Errors: [`SignatureError::Header`].
    pub fn from_headers<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Signed, SignatureError> {
        let uuid =
            |name| get(name).and_then(|v| Uuid::parse_str(v.trim()).ok()).ok_or(SignatureError::Header(name));
        let counter = get(COUNTER_HEADER)
            .and_then(|v| v.trim().parse().ok())
            .ok_or(SignatureError::Header(COUNTER_HEADER))?;
        let signature = get(SIGNATURE_HEADER).ok_or(SignatureError::Header(SIGNATURE_HEADER))?;
        Ok(Signed {
            host: uuid(HOST_HEADER)?,
            boot: uuid(BOOT_HEADER)?,
            counter,
            signature: signature.trim().to_owned(),
        })
    }

    /// Name and value of each header.
    pub fn headers(&self) -> [(&'static str, String); 4] {
        [
            (HOST_HEADER, self.host.to_string()),
            (BOOT_HEADER, self.boot.to_string()),
            (COUNTER_HEADER, self.counter.to_string()),
            (SIGNATURE_HEADER, self.signature.clone()),
        ]
    }
}

/// Signs a request. `path` is the path alone, as the server sees it, without query.
pub fn sign(
    key: &AgentKey,
    method: &str,
    path: &str,
    host: Uuid,
    boot: Uuid,
    counter: u64,
    body: &[u8],
) -> Signed {
    let signature = base64_encode(&mac(key, method, path, boot, counter, body));
    Signed { host, boot, counter, signature }
}

/// Checks a request's signature against the key of `signed.host`. Errors: [`SignatureError::Mismatch`].
pub fn verify(
    key: &AgentKey,
    method: &str,
    path: &str,
    signed: &Signed,
    body: &[u8],
) -> Result<(), SignatureError> {
    let given = base64_decode(&signed.signature).ok_or(SignatureError::Mismatch)?;
    let expected = mac(key, method, path, signed.boot, signed.counter, body);
    if expected.ct_eq(&given[..]).into() { Ok(()) } else { Err(SignatureError::Mismatch) }
}

/// Signs the answer to a signed request: goes into the answer's [`SIGNATURE_HEADER`].
pub fn sign_answer(key: &AgentKey, path: &str, request: &Signed, body: &[u8]) -> String {
    base64_encode(&mac(key, ANSWER, path, request.boot, request.counter, body))
}

/// Checks that `signature` makes `body` the answer to `request`. Errors: [`SignatureError::Mismatch`].
pub fn verify_answer(
    key: &AgentKey,
    path: &str,
    request: &Signed,
    signature: &str,
    body: &[u8],
) -> Result<(), SignatureError> {
    verify(key, ANSWER, path, &Signed { signature: signature.trim().to_owned(), ..request.clone() }, body)
}

/// Stands in the method's place for answers; no HTTP method, so that no request passes for an answer.
const ANSWER: &str = "ANSWER";

fn mac(key: &AgentKey, method: &str, path: &str, boot: Uuid, counter: u64, body: &[u8]) -> [u8; 32] {
    let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    key.mac(&[format!("{method}\n{path}\n{counter}\n{boot}\n{digest}").as_bytes()])
}

/// Body of `POST /halberd/v1/agents/self/reports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Makes the report idempotent: the same id is the same report.
    pub report_id: Uuid,
    /// The reporter's host; must be the host of the signature.
    pub host: Uuid,
    /// Boot in which it was seen; older than the signature's boot when the outbox outlived a reboot.
    pub boot: Uuid,
    /// CLOCK_BOOTTIME when it was seen, nanoseconds; with the signature's counter (same boot) this gives the report's age.
    pub observed_ns: u64,
    /// Wall clock when it was seen: for display and for `generated_time`, decides nothing.
    pub observed_at: DateTime<Utc>,
    /// What was seen.
    #[serde(flatten)]
    pub kind: ReportKind,
}

/// What an agent can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReportKind {
    /// A watched process is down and restarting it failed for good.
    ProcessStopped(ProcessPayload),
    /// A process reported stopped runs again.
    ProcessStarted(ProcessPayload),
    /// A guest's virtual machine process died.
    GuestStopped(GuestPayload),
    /// Something else happened to a guest (contract 5.6's table).
    GuestEvent(GuestPayload),
    /// Every domain libvirt knows and its state, at each connect to libvirt: what was missed meanwhile shows in it.
    Domains {
        /// All of them; empty is an answer too.
        domains: Vec<Domain>,
    },
    /// Who this machine is, once per start of the agent: compared with what the BMC says of itself.
    Identity(IdentityPayload),
    /// This host's kernel panicked; said by its crash kernel's hook with the same key.
    Panic {
        /// What the kernel said, shortened.
        detail: String,
    },
}

/// A watched process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPayload {
    /// Its name without directories, as Masakari's monitor sends it.
    pub process_name: String,
}

/// A guest and what happened to it, in Masakari's words (contract 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuestPayload {
    /// The guest; libvirt's domain UUID is Nova's.
    pub instance_uuid: Uuid,
    /// `LIFECYCLE`, `IO_ERROR`, ...
    pub event: String,
    /// `STOPPED_FAILED`, ...
    pub vir_domain_event: String,
}

/// A domain as libvirt has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// Nova's server id.
    pub uuid: Uuid,
    /// `instance-00000001`.
    pub name: String,
    /// virDomainState: 0 none, 1 running, 2 blocked, 3 paused, 4 shutdown, 5 shut off, 6 crashed, 7 suspended.
    pub state: i32,
    /// Reason within that state (virDomain*Reason).
    pub reason: i32,
}

/// The machine by its own DMI table; what the kernel does not show is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPayload {
    /// Name the agent was configured with.
    pub hostname: String,
    /// Agent's version.
    pub agent_version: String,
    /// `product_serial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// `product_uuid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_uuid: Option<String>,
}

/// A report as a Masakari notification: type and payload of contract 2.2 and 2.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationOf {
    /// `VM` or `PROCESS`.
    pub kind: &'static str,
    /// Strings only.
    pub payload: BTreeMap<&'static str, String>,
}

impl ReportKind {
    /// The same in Masakari's form; `None` for what Masakari has no notification for.
    pub fn notification(&self) -> Option<NotificationOf> {
        let process = |event: &str, p: &ProcessPayload| NotificationOf {
            kind: "PROCESS",
            payload: [("event", event.to_owned()), ("process_name", p.process_name.clone())].into(),
        };
        match self {
            ReportKind::ProcessStopped(p) => Some(process("STOPPED", p)),
            ReportKind::ProcessStarted(p) => Some(process("STARTED", p)),
            ReportKind::GuestStopped(g) | ReportKind::GuestEvent(g) => Some(NotificationOf {
                kind: "VM",
                payload: [
                    ("instance_uuid", g.instance_uuid.to_string()),
                    ("event", g.event.clone()),
                    ("vir_domain_event", g.vir_domain_event.clone()),
                ]
                .into(),
            }),
            ReportKind::Domains { .. } | ReportKind::Identity(_) | ReportKind::Panic { .. } => None,
        }
    }
}

/// Body of the answer to `GET .../self/orders`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Open orders for this host, oldest first.
    pub orders: Vec<Order>,
}

/// Something the engine wants this host to do to itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// An order is carried out at most once; its result can be sent often.
    pub id: Uuid,
    /// What to do.
    #[serde(flatten)]
    pub kind: OrderKind,
    /// Not begun later than this many milliseconds after the fetch was sent.
    pub expires_after_ms: u64,
}

/// The complete list of what an agent does on order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OrderKind {
    /// Restart a service unit, by the command the agent's own configuration gives for it.
    RestartUnit {
        /// `nova-conductor.service`
        unit: String,
    },
    /// Destroy a stray guest, if the agent's configuration allows it.
    DestroyDomain {
        /// The domain.
        uuid: Uuid,
    },
    /// Ask another host for an answer of its user land: does anything greet at these addresses?
    Probe {
        /// `address:port`; an answer is a byte read, not a connect.
        targets: Vec<std::net::SocketAddr>,
    },
}

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderOutcome {
    /// Carried out.
    Done,
    /// Tried, did not work.
    Failed,
    /// Not tried: configuration does not allow it.
    Refused,
    /// Not begun in time.
    Expired,
    /// Begun, but the agent died meanwhile: look before ordering again.
    Interrupted,
}

/// Body of `POST .../self/orders/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderResult {
    /// The order.
    pub order_id: Uuid,
    /// How it ended.
    pub outcome: OrderOutcome,
    /// Why, or which targets answered; at most a few hundred bytes.
    pub detail: String,
    /// For [`OrderKind::Probe`]: targets that answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answered: Vec<std::net::SocketAddr>,
}

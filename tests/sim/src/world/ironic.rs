//! A bare-metal service that has enrolled some of the hosts, and its power sync: the most dangerous neighbour of a fencer.
//!
//! Ironic keeps on record what power a node has, and every two minutes puts it right again: what somebody switched off behind its back is
//! switched on. It leaves alone nodes in maintenance, and those it was told itself to switch off (then off is on record). A node that
//! cannot be read or does not obey is put into maintenance after three more tries. It reaches nodes through their BMCs, with the
//! credentials on file.

use super::{Due, World};
use crate::history::What;
use crate::metal::Node;
use crate::model::Power;
use crate::reply::{BmcRefusal, Refusal};
use crate::spec::BmcKind;
use uuid::Uuid;

/// Ironic's `power_state_sync_max_retries`.
const RETRIES: u32 = 3;

#[derive(Debug)]
struct Enrolled {
    uuid: Uuid,
    name: String,
    host: usize,
    /// The power on record.
    power: Option<bool>,
    ordered: Option<bool>,
    maintenance: bool,
    reason: Option<String>,
    fault: Option<&'static str>,
    failures: u32,
    created_at: u64,
    updated_at: Option<u64>,
}

/// The service.
#[derive(Debug, Default)]
pub(super) struct Ironic {
    nodes: Vec<Enrolled>,
    /// A sync lies in the queue.
    syncing: bool,
    pub(super) down_until: u64,
}

impl World {
    /// Enrolls the host's machine as an active node, of the host's name unless another is given. Its present power goes on record. From
    /// now on [`World::next_due`] names power syncs, and never comes to rest.
    pub fn enroll(&mut self, now: u64, host: &str, name: Option<&str>) -> Uuid {
        self.advance(now);
        let ix = self.host_ix(host);
        if let Some(node) = self.ironic.nodes.iter().find(|node| node.host == ix) {
            return node.uuid;
        }
        let uuid = self.chance.uuid();
        let power = self.ironic_reads(ix).ok();
        self.ironic.nodes.push(Enrolled {
            uuid,
            name: name.unwrap_or(host).to_owned(),
            host: ix,
            power,
            ordered: None,
            maintenance: false,
            reason: None,
            fault: None,
            failures: 0,
            created_at: self.now,
            updated_at: None,
        });
        if !self.ironic.syncing {
            self.ironic.syncing = true;
            self.schedule(self.spec.ironic_sync_ms, Due::IronicSync);
        }
        uuid
    }

    /// Removes the host's node; the service keeps its hands off the machine.
    pub fn withdraw(&mut self, now: u64, host: &str) {
        self.advance(now);
        let host = self.host_ix(host);
        self.ironic.nodes.retain(|node| node.host != host);
    }

    /// Whether any host is enrolled: only then there is such a service at all.
    pub fn has_ironic(&self) -> bool {
        !self.ironic.nodes.is_empty()
    }

    /// Whether the service answers.
    pub fn ironic_down(&mut self, now: u64) -> bool {
        self.advance(now);
        self.ironic.down_until > self.now
    }

    /// All nodes, in the order of their enrolment.
    pub fn nodes(&mut self, now: u64) -> Vec<Node> {
        self.advance(now);
        self.ironic.nodes.iter().map(|node| self.node_view(node)).collect()
    }

    fn node_view(&self, node: &Enrolled) -> Node {
        let host = &self.hosts[node.host];
        let is_on = host.power == Power::On;
        Node {
            uuid: node.uuid,
            name: node.name.clone(),
            host: host.name.clone(),
            driver: match host.bmc.kind {
                BmcKind::Redfish => "redfish",
                BmcKind::Ipmi => "ipmi",
                BmcKind::None => "fake-hardware",
            },
            provision_state: "active",
            power: node.power,
            target: node.ordered.filter(|on| *on != is_on),
            maintenance: node.maintenance,
            maintenance_reason: node.reason.clone(),
            fault: node.fault,
            created_at: node.created_at,
            updated_at: node.updated_at,
        }
    }

    fn node_ix(&self, id: Uuid) -> Result<usize, Refusal> {
        let found = self.ironic.nodes.iter().position(|node| node.uuid == id);
        found.ok_or_else(|| Refusal::status(404, format!("Node {id} could not be found.")))
    }

    /// Puts a node into maintenance, or takes it out; its power on record stays.
    ///
    /// # Errors
    /// 404 for a node that is not there.
    pub fn set_maintenance(
        &mut self,
        now: u64,
        id: Uuid,
        on: bool,
        reason: Option<String>,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let (ix, now) = (self.node_ix(id)?, self.now);
        let node = &mut self.ironic.nodes[ix];
        (node.maintenance, node.reason, node.fault) = (on, reason.filter(|_| on), None);
        (node.failures, node.updated_at) = (0, Some(now));
        Ok(())
    }

    /// Switches a node through the service, which then has it on record and defends it.
    ///
    /// # Errors
    /// 404 for a node that is not there.
    pub fn set_node_power(&mut self, now: u64, id: Uuid, on: bool) -> Result<(), Refusal> {
        self.advance(now);
        let (ix, now) = (self.node_ix(id)?, self.now);
        let node = &mut self.ironic.nodes[ix];
        (node.power, node.ordered, node.updated_at) = (Some(on), Some(on), Some(now));
        let host = node.host;
        if self.ironic_orders(host, on).is_err() {
            self.ironic.nodes[ix].power = None;
        }
        Ok(())
    }

    /// The power sync, now; the queued ones go on as they were.
    pub fn power_sync(&mut self, now: u64) {
        self.advance(now);
        for ix in 0..self.ironic.nodes.len() {
            self.sync_node(ix);
        }
    }

    /// The same for the host's node alone, if it has one.
    pub fn power_sync_of(&mut self, now: u64, host: &str) {
        self.advance(now);
        let host = self.host_ix(host);
        if let Some(ix) = self.ironic.nodes.iter().position(|node| node.host == host) {
            self.sync_node(ix);
        }
    }

    pub(super) fn power_sync_due(&mut self) {
        self.ironic.syncing = self.has_ironic();
        if self.ironic.syncing {
            self.power_sync(self.now);
            self.schedule(self.spec.ironic_sync_ms, Due::IronicSync);
        }
    }

    fn sync_node(&mut self, ix: usize) {
        let node = &self.ironic.nodes[ix];
        if node.maintenance {
            return;
        }
        let (host, recorded) = (node.host, node.power);
        match (self.ironic_reads(host), recorded) {
            (Ok(is_on), Some(wanted)) if is_on != wanted => {
                if !self.sync_gives_up(ix, "it does not take the power on record") {
                    self.note(What::PowerForced { host: self.name(host), on: wanted });
                    self.ironic.nodes[ix].ordered = Some(wanted);
                    // A refused order is seen at the next sync.
                    let _ = self.ironic_orders(host, wanted);
                }
            }
            (Ok(is_on), _) => {
                let node = &mut self.ironic.nodes[ix];
                (node.power, node.failures) = (Some(is_on), 0);
            }
            (Err(why), _) => {
                self.sync_gives_up(ix, &format!("{why:?}"));
            }
        }
    }

    /// Counts a failure; true when it was one too many and the node is in maintenance now.
    fn sync_gives_up(&mut self, ix: usize, why: &str) -> bool {
        let now = self.now;
        let node = &mut self.ironic.nodes[ix];
        node.failures += 1;
        if node.failures <= RETRIES {
            return false;
        }
        let reason = format!("During sync_power_state, max retries exceeded for node {}: {why}", node.uuid);
        (node.maintenance, node.fault, node.reason) = (true, Some("power failure"), Some(reason));
        node.updated_at = Some(now);
        true
    }

    fn ironic_reads(&mut self, host: usize) -> Result<bool, BmcRefusal> {
        let (now, name) = (self.now, self.name(host));
        let (user, password) = self.bmc_credentials(&name);
        let session = self.bmc_open(now, &name, &user, &password).answer?;
        let read = self.bmc_read(now, &name, session).answer;
        self.bmc_close(now, &name, session);
        Ok(read? == Power::On)
    }

    fn ironic_orders(&mut self, host: usize, on: bool) -> Result<(), BmcRefusal> {
        let (now, name) = (self.now, self.name(host));
        let (user, password) = self.bmc_credentials(&name);
        let session = self.bmc_open(now, &name, &user, &password).answer?;
        let ordered = if on { self.bmc_on(now, &name, session) } else { self.bmc_off(now, &name, session) };
        self.bmc_close(now, &name, session);
        ordered.answer
    }
}

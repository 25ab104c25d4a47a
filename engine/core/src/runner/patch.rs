//! What a transition changes on a host's row.

use serde::{Deserialize, Serialize};

use crate::fence::FenceProof;
use crate::host::{Admission, Host, SetByUs};
use crate::id::{BootId, InstanceId, RecoveryId};

/// What changes on a host's row; everything else on it is somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostPatch {
    pub admission: Option<Admission>,
    pub maintenance_recovery: Option<bool>,
    pub maintenance_process: Option<bool>,
    /// `reserved` and who holds it.
    pub reserved: Option<(bool, Option<RecoveryId>)>,
    pub proof: Option<Option<FenceProof>>,
    pub set_by_us: Option<SetByUs>,
    pub boot: Option<(u32, Option<BootId>)>,
    pub retire_boot: Option<BootId>,
    /// A retired order gives the boot back (DESIGN 10.3).
    #[serde(default)]
    pub unretire_boot: Option<BootId>,
    /// A guest's rebuild waits in its nova-compute's queue.
    #[serde(default)]
    pub strand: Option<InstanceId>,
    /// Nothing waits there any more, or a person answers for it.
    #[serde(default)]
    pub unstrand: bool,
    /// Devices that a drill has shown to switch this machine.
    #[serde(default)]
    pub drilled: Vec<String>,
    /// The patch and the whole commit with it holds only if this is so.
    pub only_if: Option<HostCondition>,
}

/// A condition on a host's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostCondition {
    /// Reserved, held by nobody, not on maintenance.
    ReservedAndFree,
    /// Its boot still has this number.
    BootNumber(u32),
    /// Nobody changed the row since it was read.
    Version(i64),
    Admission(Admission),
}

impl HostPatch {
    /// Changes the row as it is now. The version is its keeper's.
    ///
    /// # Errors
    /// Which condition does not hold, in words; the row is as it was.
    pub fn apply(&self, host: &mut Host) -> Result<(), String> {
        self.only_if.as_ref().map_or(Ok(()), |condition| condition.check(host))?;
        host.admission = self.admission.unwrap_or(host.admission);
        host.maintenance.recovery = self.maintenance_recovery.unwrap_or(host.maintenance.recovery);
        host.maintenance.process = self.maintenance_process.unwrap_or(host.maintenance.process);
        (host.reserved, host.reserved_by) = self.reserved.unwrap_or((host.reserved, host.reserved_by));
        if let Some(proof) = &self.proof {
            host.proof = proof.clone();
        }
        host.set_by_us = self.set_by_us.unwrap_or(host.set_by_us);
        (host.boot_number, host.boot) = self.boot.unwrap_or((host.boot_number, host.boot));
        if let Some(back) = self.unretire_boot {
            host.retired_boots.retain(|boot| *boot != back);
        }
        if let Some(retired) = self.retire_boot.filter(|boot| !host.retired_boots.contains(boot)) {
            host.retired_boots.push(retired);
        }
        if self.unstrand {
            host.stranded.clear();
        }
        if let Some(guest) = self.strand.filter(|guest| !host.stranded.contains(guest)) {
            host.stranded.push(guest);
        }
        Ok(())
    }
}

impl HostCondition {
    fn check(&self, host: &Host) -> Result<(), String> {
        match self {
            Self::ReservedAndFree if !host.reserved || host.reserved_by.is_some() => {
                Err("it is not in reserve any more, or another recovery holds it".into())
            }
            Self::ReservedAndFree if host.maintenance.any() => Err("it is on maintenance".into()),
            Self::BootNumber(number) if host.boot_number != *number => {
                Err(format!("it is on boot {} and not on boot {number}", host.boot_number))
            }
            Self::Version(version) if host.version != *version => {
                Err("its row has changed since it was read".into())
            }
            Self::Admission(admission) if host.admission != *admission => {
                Err(format!("it is {} and not {admission}", host.admission))
            }
            _ => Ok(()),
        }
    }
}

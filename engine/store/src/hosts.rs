//! Hosts. API and engine write the same rows, so each writes its own columns only and every write raises `version`.

use halberd_core::bus::Action;
use halberd_core::host::{Admission, FailureDomain, Host, Maintenance, SetByUs};
use halberd_core::id::{BootId, HostId, SegmentId};
use halberd_core::runner::HostPatch;
use halberd_core::time::Stamp;

use crate::bus;
use crate::error::{Error, Result};
use crate::legible::legible;
use crate::list::{Filter, Page, Stored, Table, list as run_list};
use crate::restore_policies;
use crate::transaction::{Read, Tx, all, first};
use crate::value::{Row, args, json};

const TABLE: Table = Table {
    what: "host",
    from: "hosts",
    select: "*",
    id: "id",
    created: "created_at",
    columns: &[
        ("id", "num"),
        ("uuid", "id"),
        ("name", "name"),
        ("type", "kind"),
        ("control_attributes", "control_attributes"),
        ("reserved", "reserved"),
        ("on_maintenance", ON_MAINTENANCE),
        ("failover_segment_id", "segment"),
        ("created_at", "created_at"),
        ("updated_at", "COALESCE(updated_at, 0)"),
        ("deleted_at", "COALESCE(deleted_at, 0)"),
        ("deleted", "deleted"),
    ],
};

/// v1's `on_maintenance` is the OR of the three (DESIGN 10.9).
const ON_MAINTENANCE: &str =
    "(CASE WHEN maintenance_operator + maintenance_recovery + maintenance_process > 0 THEN 1 ELSE 0 END)";

/// v1's filters; `None` does not filter.
#[derive(Clone, Debug, Default)]
pub struct HostFilter {
    pub segment: Option<SegmentId>,
    pub kind: Option<String>,
    pub on_maintenance: Option<bool>,
    pub reserved: Option<bool>,
}

/// What an operator may change of a host through the API.
#[derive(Clone, Debug, Default)]
pub struct HostEdit {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub control_attributes: Option<String>,
    /// Setting it by hand also ends a recovery's hold on it.
    pub reserved: Option<bool>,
    /// v1's switch: `true` sets the operator's, `false` clears all three (DESIGN 10.9).
    pub on_maintenance: Option<bool>,
    pub domain: Option<FailureDomain>,
    pub serial: Option<Option<String>>,
    pub machine: Option<Option<uuid::Uuid>>,
}

impl HostEdit {
    /// Whether v1 may have asked for it: where a machine stands and which it is are none of v1's business.
    fn is_of_v1(&self) -> bool {
        self.domain.is_none() && self.serial.is_none() && self.machine.is_none()
    }

    /// The host as it is to be.
    pub fn applied_to(&self, old: &Host) -> Host {
        let maintenance = match self.on_maintenance {
            Some(true) => Maintenance { operator: true, ..old.maintenance },
            Some(false) => Maintenance::default(),
            None => old.maintenance,
        };
        Host {
            name: self.name.clone().unwrap_or_else(|| old.name.clone()),
            kind: self.kind.clone().unwrap_or_else(|| old.kind.clone()),
            control_attributes: self
                .control_attributes
                .clone()
                .unwrap_or_else(|| old.control_attributes.clone()),
            reserved: self.reserved.unwrap_or(old.reserved),
            reserved_by: if self.reserved.is_some() { None } else { old.reserved_by },
            maintenance,
            domain: self.domain.clone().unwrap_or_else(|| old.domain.clone()),
            serial: self.serial.clone().unwrap_or_else(|| old.serial.clone()),
            machine: self.machine.unwrap_or(old.machine),
            ..old.clone()
        }
    }
}

/// # Errors
/// [`Error::Exists`] when a host of that name exists in any segment, [`Error::NotFound`] for the segment.
pub async fn create(tx: &mut Tx, host: &Host, now: Stamp) -> Result<Stored<Host>> {
    crate::segments::get(&mut *tx, host.segment).await?;
    tx.exec(
        "INSERT INTO hosts (id, segment, name, kind, control_attributes, reserved, reserved_by, maintenance_operator, \
         maintenance_recovery, maintenance_process, admission, boot_number, boot, retired_boots, ever_agent, rack, power, \
         switch, serial, machine, proof, set_disabled, set_forced_down, set_restore_policy, version, created_at, deleted) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, 0)",
        args![
            host.id,
            host.segment,
            &host.name,
            &host.kind,
            &host.control_attributes,
            host.reserved,
            host.reserved_by,
            host.maintenance.operator,
            host.maintenance.recovery,
            host.maintenance.process,
            host.admission.as_str(),
            host.boot_number,
            host.boot,
            json(&host.retired_boots),
            host.ever_agent,
            host.domain.rack.clone(),
            host.domain.power.clone(),
            host.domain.switch.clone(),
            host.serial.clone(),
            host.machine,
            host.proof.as_ref().map(json),
            host.set_by_us.disabled,
            host.set_by_us.forced_down,
            host.set_by_us.restore_policy,
            now
        ],
    )
    .await
    .map_err(|error| error.or_exists("host", &host.name))?;
    let stored = get(&mut *tx, host.id).await?;
    bus::host_done(tx, Action::Create, &stored, now).await?;
    Ok(stored)
}

/// A living host.
pub async fn get(mut on: impl Read, id: HostId) -> Result<Stored<Host>> {
    let row = first(&mut on, "SELECT * FROM hosts WHERE id = ? AND deleted = 0", args![id]).await?;
    read(&row.ok_or_else(|| Error::not_found("host", id))?)
}

/// A living host by its name in Nova; case matters.
pub async fn by_name(mut on: impl Read, name: &str) -> Result<Option<Stored<Host>>> {
    let row = first(&mut on, "SELECT * FROM hosts WHERE name = ? AND deleted = 0", args![name]).await?;
    row.as_ref().map(read).transpose()
}

/// Every living host, by name: an engine's whole fleet.
pub async fn all_living(mut on: impl Read) -> Result<Vec<Stored<Host>>> {
    legible(&all(&mut on, "SELECT * FROM hosts WHERE deleted = 0 ORDER BY name", vec![]).await?, read)
}

/// Living hosts by v1's rules.
pub async fn list(mut on: impl Read, filter: &HostFilter, page: &Page) -> Result<Vec<Stored<Host>>> {
    let mut by = Filter::default();
    by.and("deleted = 0", vec![])
        .and_some("segment = ?", filter.segment)
        .and_some("kind = ?", filter.kind.as_deref())
        .and_some("reserved = ?", filter.reserved);
    match filter.on_maintenance {
        Some(true) => by.and("maintenance_operator + maintenance_recovery + maintenance_process > 0", vec![]),
        Some(false) => {
            by.and("maintenance_operator + maintenance_recovery + maintenance_process = 0", vec![])
        }
        None => &mut by,
    };
    legible(&run_list(&mut on, &TABLE, by, page).await?, read)
}

/// Reserved hosts of a segment that nobody holds, newest first (contract 3.4).
pub async fn reserved_free(mut on: impl Read, segment: SegmentId) -> Result<Vec<Stored<Host>>> {
    let sql = "SELECT * FROM hosts WHERE segment = ? AND deleted = 0 AND reserved = 1 AND reserved_by IS NULL \
               AND maintenance_operator + maintenance_recovery + maintenance_process = 0 AND admission = 'in' \
               ORDER BY created_at DESC, num DESC";
    legible(&all(&mut on, sql, args![segment]).await?, read)
}

/// An operator's change. The caller asked [`check_free`] before, in the same transaction, where v1 wants a 409.
///
/// # Errors
/// [`Error::Exists`] for a name that is taken, [`Error::NotFound`].
pub async fn edit(tx: &mut Tx, id: HostId, edit: &HostEdit, now: Stamp) -> Result<Stored<Host>> {
    let old = get(&mut *tx, id).await?.value;
    let new = edit.applied_to(&old);
    let changed = tx
        .exec(
            "UPDATE hosts SET name = ?, kind = ?, control_attributes = ?, reserved = ?, reserved_by = ?, \
             maintenance_operator = ?, maintenance_recovery = ?, maintenance_process = ?, rack = ?, power = ?, switch = ?, \
             serial = ?, machine = ?, version = version + 1, updated_at = ? WHERE id = ? AND version = ? AND deleted = 0",
            args![
                &new.name,
                new.kind,
                new.control_attributes,
                new.reserved,
                new.reserved_by,
                new.maintenance.operator,
                new.maintenance.recovery,
                new.maintenance.process,
                new.domain.rack,
                new.domain.power,
                new.domain.switch,
                new.serial,
                new.machine,
                now,
                id,
                old.version
            ],
        )
        .await
        .map_err(|error| error.or_exists("host", &new.name))?;
    if changed == 0 {
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    let stored = get(&mut *tx, id).await?;
    if edit.is_of_v1() {
        bus::host_done(tx, Action::Update, &stored, now).await?;
    }
    Ok(stored)
}

/// # Errors
/// [`Error::NotFound`], [`Error::InUse`] while the host is under recovery or on its way back from one.
pub async fn delete(tx: &mut Tx, id: HostId, now: Stamp) -> Result<()> {
    check_free(&mut *tx, id).await?;
    let old = get(&mut *tx, id).await?;
    if old.admission != Admission::In {
        return Err(Error::InUse { what: "host", id: id.to_string(), why: not_in(&old.name, old.admission) });
    }
    let sql = "UPDATE hosts SET deleted = num, deleted_at = ?, version = version + 1 \
               WHERE id = ? AND version = ? AND deleted = 0";
    if tx.exec(sql, args![now, id, old.version]).await? == 0 {
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    bus::host_done(tx, Action::Delete, &old, now).await
}

/// For deleting a segment, and its hosts with it: all of them are in.
pub(crate) async fn check_segment_in(mut on: impl Read, id: SegmentId) -> Result<()> {
    let sql = "SELECT id, name, admission FROM hosts WHERE segment = ? AND deleted = 0 AND admission <> 'in' LIMIT 1";
    let Some(row) = first(&mut on, sql, args![id]).await? else { return Ok(()) };
    let row = row.of("hosts", "id");
    let why = not_in(row.text("name")?, row.word("admission")?);
    Err(Error::InUse { what: "segment", id: id.to_string(), why })
}

/// Without its row nobody would undo in Nova what its recovery set there, nor keep its old guests from starting.
fn not_in(name: &str, admission: Admission) -> String {
    format!(
        "host {name} is {admission}: it was fenced, and its way back, which undoes that in Nova, is open; once it is in again it can go"
    )
}

/// A host is under recovery while a recovery of it is open or a report about it is not settled (contract 1.10, DESIGN 10.9).
/// Its way back afterwards, or its nova-compute's, is no recovery to v1: an operator may clear its maintenance meanwhile.
///
/// # Errors
/// [`Error::InUse`] says which.
pub async fn check_free(mut on: impl Read, id: HostId) -> Result<()> {
    let sql = "SELECT 'recovery ' AS word, id FROM recoveries WHERE host = ? AND open_key IS NOT NULL \
               AND kind <> 'return' AND state <> 'returning' UNION ALL SELECT 'notification ', id FROM notifications \
               WHERE host = ? AND status IN ('new', 'running', 'error') LIMIT 1";
    match first(&mut on, sql, args![id, id]).await? {
        None => Ok(()),
        Some(row) => Err(in_use("host", id, &row)?),
    }
}

/// The same for deleting or disabling a segment: one of its living hosts is under recovery.
pub async fn check_segment_free(mut on: impl Read, id: SegmentId) -> Result<()> {
    let sql = "SELECT 'recovery ' AS word, r.id FROM recoveries r JOIN hosts h ON h.id = r.host \
               WHERE h.segment = ? AND h.deleted = 0 AND r.open_key IS NOT NULL AND r.kind <> 'return' \
               AND r.state <> 'returning' UNION ALL SELECT 'notification ', n.id FROM notifications n JOIN hosts h ON h.id = n.host \
               WHERE h.segment = ? AND h.deleted = 0 AND n.status IN ('new', 'running', 'error') LIMIT 1";
    match first(&mut on, sql, args![id, id]).await? {
        None => Ok(()),
        Some(row) => Err(in_use("segment", id, &row)?),
    }
}

fn in_use(what: &'static str, id: impl ToString, row: &Row) -> Result<Error> {
    let row = row.of("recoveries", "id");
    let why = format!("it is under recovery ({}{})", row.text("word")?, row.text("id")?);
    Ok(Error::InUse { what, id: id.to_string(), why })
}

/// Applies a patch of the engine, under its condition; other columns are not touched.
///
/// # Errors
/// [`Error::Condition`] names host and condition; the transaction must then be dropped.
pub async fn patch(tx: &mut Tx, id: HostId, patch: &HostPatch, now: Stamp) -> Result<Host> {
    let condition = |what: String| Error::Condition { host: id, what };
    let row = first(&mut &mut *tx, "SELECT * FROM hosts WHERE id = ?", args![id]).await?;
    let mut stored = read(&row.ok_or_else(|| condition("it does not exist".into()))?)?;
    let host = &mut stored.value;
    let shown = |host: &Host| (host.reserved, host.maintenance.any());
    let before = shown(host);
    let expected = host.version;
    let held = host.set_by_us.restore_policy;
    patch.apply(host).map_err(condition)?;
    if held && !host.set_by_us.restore_policy {
        restore_policies::forget(tx, id).await?;
    }
    let changed = tx
        .exec(
            "UPDATE hosts SET reserved = ?, reserved_by = ?, maintenance_recovery = ?, maintenance_process = ?, admission = ?, \
             boot_number = ?, boot = ?, retired_boots = ?, proof = ?, set_disabled = ?, set_forced_down = ?, \
             set_restore_policy = ?, stranded = ?, version = version + 1, updated_at = ? WHERE id = ? AND version = ?",
            args![
                host.reserved,
                host.reserved_by,
                host.maintenance.recovery,
                host.maintenance.process,
                host.admission.as_str(),
                host.boot_number,
                host.boot,
                json(&host.retired_boots),
                host.proof.as_ref().map(json),
                host.set_by_us.disabled,
                host.set_by_us.forced_down,
                host.set_by_us.restore_policy,
                (!host.stranded.is_empty()).then(|| json(&host.stranded)),
                now,
                id,
                expected
            ],
        )
        .await?;
    host.version = expected + 1;
    if changed != 1 {
        // Read above in this transaction: on a database with weaker isolation another writer got between; run the unit again.
        return Err(Error::Conflict { attempts: 1, source: None });
    }
    if shown(host) != before && stored.deleted_at.is_none() {
        stored.updated_at = Some(now);
        bus::host_done(tx, Action::Update, &stored, now).await?;
    }
    Ok(stored.value)
}

/// A boot seen: numbers it (compare-and-swap on the row's version) and marks the host as one that has an agent (I18).
/// `false`: the row changed since it was read; read it again.
pub async fn set_boot(
    tx: &mut Tx,
    id: HostId,
    version: i64,
    number: u32,
    boot: Option<BootId>,
    agent: bool,
    now: Stamp,
) -> Result<bool> {
    let changed = tx
        .exec(
            "UPDATE hosts SET boot_number = ?, boot = ?, ever_agent = CASE WHEN ? = 1 THEN 1 ELSE ever_agent END, \
             version = version + 1, updated_at = ? WHERE id = ? AND version = ? AND deleted = 0",
            args![number, boot, agent, now, id, version],
        )
        .await?;
    Ok(changed == 1)
}

/// Keeps the first identity seen of a machine; what is on file already stays.
pub async fn keep_identity(
    tx: &mut Tx,
    id: HostId,
    serial: Option<&str>,
    machine: Option<uuid::Uuid>,
) -> Result<()> {
    tx.exec(
        "UPDATE hosts SET serial = COALESCE(serial, ?), machine = COALESCE(machine, ?), version = version + 1 \
         WHERE id = ? AND deleted = 0",
        args![serial, machine, id],
    )
    .await?;
    Ok(())
}

pub(crate) fn read(row: &Row) -> Result<Stored<Host>> {
    let row = row.of("hosts", "id");
    let host = Host {
        id: row.id("id")?,
        segment: row.id("segment")?,
        name: row.string("name")?,
        kind: row.string("kind")?,
        control_attributes: row.string("control_attributes")?,
        reserved: row.flag("reserved")?,
        reserved_by: row.opt_id("reserved_by")?,
        maintenance: Maintenance {
            operator: row.flag("maintenance_operator")?,
            recovery: row.flag("maintenance_recovery")?,
            process: row.flag("maintenance_process")?,
        },
        admission: row.word::<Admission>("admission")?,
        boot_number: row.number("boot_number")?,
        boot: row.opt_id("boot")?,
        retired_boots: row.json("retired_boots")?,
        stranded: row.opt_json("stranded")?.unwrap_or_default(),
        ever_agent: row.flag("ever_agent")?,
        domain: FailureDomain {
            rack: row.opt_string("rack")?,
            power: row.opt_string("power")?,
            switch: row.opt_string("switch")?,
        },
        serial: row.opt_string("serial")?,
        machine: row.opt_id("machine")?,
        proof: row.opt_json("proof")?,
        set_by_us: SetByUs {
            disabled: row.flag("set_disabled")?,
            forced_down: row.flag("set_forced_down")?,
            restore_policy: row.flag("set_restore_policy")?,
        },
        version: row.int("version")?,
    };
    Stored::read(&row, true, host)
}

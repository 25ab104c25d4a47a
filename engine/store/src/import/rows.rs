//! Rows of the source as values, each with the reason when it is none: wrong bytes, an unknown word, half a payload.

use std::collections::BTreeMap;
use std::str::FromStr;

use halberd_core::UnknownWord;
use halberd_core::notification::{NotificationStatus, NotificationType};
use halberd_core::recovery::VmoveStatus;
use halberd_core::segment::RecoveryMethod;
use halberd_core::time::Stamp;
use uuid::Uuid;

use super::schema::Shape;
use super::source::Cell;

/// Why a row is left.
pub(super) type Reason = String;

/// One row of the source by column name.
#[derive(Debug)]
pub(super) struct Cells<'r> {
    shape: &'r Shape,
    cells: &'r [Cell],
}

impl<'r> Cells<'r> {
    pub fn new(shape: &'r Shape, cells: &'r [Cell]) -> Cells<'r> {
        Cells { shape, cells }
    }

    fn get(&self, column: &str) -> &'r Cell {
        let place = self.shape.columns.iter().position(|known| known.name == column);
        place.and_then(|place| self.cells.get(place)).unwrap_or(&Cell::Null)
    }

    /// Names the row where its uuid cannot be read.
    pub fn key(&self, uuid: &str) -> String {
        match (self.opt_text(uuid), self.get("id")) {
            (Ok(Some(uuid)), _) => uuid,
            (_, Cell::Int(id)) => format!("id {id}"),
            _ => "a row without id".to_owned(),
        }
    }

    fn opt_text(&self, column: &str) -> Result<Option<String>, Reason> {
        match self.get(column) {
            Cell::Null => Ok(None),
            Cell::Int(number) => Ok(Some(number.to_string())),
            Cell::Bytes(bytes) => match std::str::from_utf8(bytes) {
                // PostgreSQL takes no NUL in a text, and neither do terminals.
                Ok(text) if text.contains('\0') => Err(format!("its {column} holds a NUL byte")),
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(format!("its {column} is not UTF-8")),
            },
        }
    }

    fn text(&self, column: &str) -> Result<String, Reason> {
        self.opt_text(column)?.ok_or_else(|| format!("its {column} is null"))
    }

    fn opt_int(&self, column: &str) -> Result<Option<i64>, Reason> {
        match self.get(column) {
            Cell::Null => Ok(None),
            Cell::Int(number) => Ok(Some(*number)),
            Cell::Bytes(_) => Err(format!("its {column} is no number")),
        }
    }

    fn flag(&self, column: &str, otherwise: bool) -> Result<bool, Reason> {
        Ok(self.opt_int(column)?.map_or(otherwise, |number| number != 0))
    }

    fn num(&self) -> Result<i64, Reason> {
        match self.opt_int("id")? {
            Some(id) if id > 0 => Ok(id),
            _ => Err("its id is no positive number".into()),
        }
    }

    fn uuid(&self, column: &str) -> Result<Uuid, Reason> {
        let text = self.text(column)?;
        text.parse().map_err(|_| format!("its {column} '{}' is no uuid", shortened(&text)))
    }

    fn opt_uuid(&self, column: &str) -> Result<Option<Uuid>, Reason> {
        match self.opt_text(column)?.as_deref() {
            None | Some("") => Ok(None),
            Some(_) => self.uuid(column).map(Some),
        }
    }

    fn word<T: FromStr<Err = UnknownWord>>(&self, column: &str) -> Result<T, Reason> {
        let text = self.text(column)?;
        text.parse().map_err(|_| format!("its {column} '{}' is not known", shortened(&text)))
    }

    fn opt_time(&self, column: &str) -> Result<Option<Stamp>, Reason> {
        let Some(text) = self.opt_text(column)? else { return Ok(None) };
        match stamp(&text) {
            Some(at) => Ok(Some(at)),
            None => Err(format!("its {column} '{}' is no time", shortened(&text))),
        }
    }
}

/// Enough of a foreign text to find it by, on one line.
fn shortened(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
    if kept.len() < text.len() { kept + "..." } else { kept }
}

/// Naive UTC, `YYYY-MM-DD HH:MM:SS[.ffffff]`.
pub(super) fn stamp(text: &str) -> Option<Stamp> {
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let in_range = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..61).contains(&second)
        && fraction.len() <= 6
        && fraction.bytes().all(|b| b.is_ascii_digit());
    if !in_range {
        return None;
    }
    let micros: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<6}").parse().ok()? };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Stamp(seconds * 1_000_000 + micros))
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant, chrono-Compatible Low-Level Date Algorithms).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// What every row has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Common {
    pub num: i64,
    pub created_at: Option<Stamp>,
    pub updated_at: Option<Stamp>,
    pub deleted_at: Option<Stamp>,
    pub deleted: bool,
}

impl Common {
    fn read(row: &Cells<'_>) -> Result<Common, Reason> {
        Ok(Common {
            num: row.num()?,
            created_at: row.opt_time("created_at")?,
            updated_at: row.opt_time("updated_at")?,
            deleted_at: row.opt_time("deleted_at")?,
            deleted: row.flag("deleted", false)?,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct SegmentRow {
    pub common: Common,
    pub uuid: Uuid,
    pub name: String,
    pub service_type: String,
    pub description: Option<String>,
    pub method: RecoveryMethod,
    pub enabled: bool,
}

impl SegmentRow {
    pub fn read(row: &Cells<'_>) -> Result<SegmentRow, Reason> {
        Ok(SegmentRow {
            common: Common::read(row)?,
            uuid: row.uuid("uuid")?,
            name: row.text("name")?,
            service_type: row.text("service_type")?,
            description: row.opt_text("description")?,
            method: row.word("recovery_method")?,
            enabled: row.flag("enabled", true)?,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct HostRow {
    pub common: Common,
    pub uuid: Uuid,
    pub segment: Uuid,
    pub name: String,
    pub kind: String,
    pub control_attributes: String,
    pub reserved: bool,
    pub on_maintenance: bool,
}

impl HostRow {
    pub fn read(row: &Cells<'_>) -> Result<HostRow, Reason> {
        Ok(HostRow {
            common: Common::read(row)?,
            uuid: row.uuid("uuid")?,
            segment: row.uuid("failover_segment_id")?,
            name: row.text("name")?,
            kind: row.opt_text("type")?.unwrap_or_default(),
            control_attributes: row.opt_text("control_attributes")?.unwrap_or_default(),
            reserved: row.flag("reserved", false)?,
            on_maintenance: row.flag("on_maintenance", false)?,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct NotificationRow {
    pub common: Common,
    pub uuid: Uuid,
    pub kind: NotificationType,
    pub host: Uuid,
    pub segment: Option<Uuid>,
    pub generated_at: Stamp,
    /// As the source writes it, for the report.
    pub generated_text: String,
    pub payload: BTreeMap<String, String>,
    pub status: NotificationStatus,
    pub message: Option<String>,
}

impl NotificationRow {
    pub fn read(row: &Cells<'_>) -> Result<NotificationRow, Reason> {
        let common = Common::read(row)?;
        if common.deleted {
            return Err("it is deleted in the source".into());
        }
        let generated_text = row.text("generated_time")?;
        Ok(NotificationRow {
            common,
            uuid: row.uuid("notification_uuid")?,
            kind: row.word("type")?,
            host: row.uuid("source_host_uuid")?,
            segment: row.opt_uuid("failover_segment_uuid")?,
            generated_at: row.opt_time("generated_time")?.ok_or("its generated_time is null")?,
            generated_text: generated_text.split('.').next().unwrap_or_default().to_owned(),
            payload: payload(row.opt_text("payload")?.as_deref())?,
            status: row.word("status")?,
            message: row.opt_text("message")?,
        })
    }

    pub fn is_finished(&self) -> bool {
        use NotificationStatus::{Failed, Finished, Ignored};
        matches!(self.status, Finished | Failed | Ignored)
    }
}

/// JSON, an object of texts. Releases of the Python 2 days wrote what Python prints, which is not guessed at.
fn payload(text: Option<&str>) -> Result<BTreeMap<String, String>, Reason> {
    let Some(text) = text else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text)
        .map_err(|_| format!("its payload is no JSON object of texts ('{}')", shortened(text)))
}

#[derive(Clone, Debug)]
pub(super) struct VmoveRow {
    pub common: Common,
    pub uuid: Uuid,
    pub notification: Uuid,
    pub instance: Uuid,
    pub instance_name: String,
    pub source_host: String,
    pub dest_host: Option<String>,
    pub start_time: Option<Stamp>,
    pub end_time: Option<Stamp>,
    pub status: VmoveStatus,
    pub message: Option<String>,
}

impl VmoveRow {
    pub fn read(row: &Cells<'_>) -> Result<VmoveRow, Reason> {
        let common = Common::read(row)?;
        if common.deleted {
            return Err("it is deleted in the source".into());
        }
        match row.text("type")?.as_str() {
            crate::vmoves::EVACUATION => {}
            // Named in the original and never produced by it.
            other => return Err(format!("its type '{}' is no evacuation", shortened(other))),
        }
        Ok(VmoveRow {
            common,
            uuid: row.uuid("uuid")?,
            notification: row.uuid("notification_uuid")?,
            instance: row.uuid("instance_uuid")?,
            instance_name: row.opt_text("instance_name")?.unwrap_or_default(),
            source_host: row.opt_text("source_host")?.unwrap_or_default(),
            dest_host: row.opt_text("dest_host")?,
            start_time: row.opt_time("start_time")?,
            end_time: row.opt_time("end_time")?,
            status: row.word("status")?,
            message: row.opt_text("message")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naive_times_are_utc() {
        let known: &[(&str, Option<i64>)] = &[
            ("1970-01-01 00:00:00", Some(0)),
            ("2026-02-28 23:59:59.000001", Some(1_772_323_199_000_001)),
            ("2024-02-29T12:00:00.5", Some(1_709_208_000_500_000)),
            ("2000-03-01 00:00:00.000000", Some(951_868_800_000_000)),
            ("2026-13-01 00:00:00", None),
            ("2026-01-01", None),
            ("0000-00-00 00:00:00", None),
            ("2026-01-01 00:00:00.+1", None),
            ("yesterday", None),
        ];
        for (text, wanted) in known {
            assert_eq!(stamp(text).map(|at| at.0), *wanted, "{text}");
        }
    }

    #[test]
    fn a_payload_is_json_or_a_reason() {
        assert_eq!(payload(Some(r#"{"event": "STOPPED"}"#)).unwrap()["event"], "STOPPED");
        for text in ["{u'event': u'STOPPED'}", "[]", "{\"a\": {\"b\": 1}}", "", "{\"a\": 1}"] {
            assert!(payload(Some(text)).unwrap_err().contains("no JSON object of texts"), "{text}");
        }
    }
}

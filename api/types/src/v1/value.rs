//! The value types every `/v1` body and query shares: text, booleans, uuids and times.
//!
//! The rules are those existing clients meet (contract/masakari-v1 section 1.8), including the odd ones: a
//! boolean may come as the string "Yes" but not as the number 1, a time may be a bare date. Each rule is a
//! function from a JSON value or a string to a typed value or a [`Reason`]; who asks adds the field's name.

use std::fmt;

use chrono::{DateTime, Datelike, SubsecRound, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

pub use super::printable::is_printable;
pub use super::time::parse_time;

/// Why a value was refused, as a clause that follows the value: "1 is not of type string".
pub type Reason = String;

/// A point in time as `/v1` writes it: `YYYY-MM-DDTHH:MM:SS.ffffff`, UTC, without a zone suffix.
///
/// Deserialising accepts what clients may send, see [`parse_time`]. Held to whole microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, example = "2026-11-21T10:20:30.000000")]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Truncates to microseconds, the resolution of the wire and of the store.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self(at.trunc_subsecs(6))
    }

    /// From microseconds since the Unix epoch (the store's form); `None` outside of chrono's years.
    pub fn from_micros(micros: i64) -> Option<Self> {
        DateTime::from_timestamp_micros(micros).map(Self)
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }

    pub fn utc(self) -> DateTime<Utc> {
        self.0
    }
}

impl Timestamp {
    /// The wire's 26 characters; `None` outside of the years that four digits write. A list shows thousands of times, and a general
    /// formatter would take most of the time that list takes.
    fn digits(self) -> Option<[u8; 26]> {
        let year = u32::try_from(self.0.year()).ok().filter(|year| *year <= 9_999)?;
        let mut text = *b"0000-00-00T00:00:00.000000";
        let parts: [(usize, usize, u32); 7] = [
            (0, 4, year),
            (5, 2, self.0.month()),
            (8, 2, self.0.day()),
            (11, 2, self.0.hour()),
            (14, 2, self.0.minute()),
            (17, 2, self.0.second()),
            (20, 6, self.0.timestamp_subsec_micros()),
        ];
        for (start, width, mut number) in parts {
            for place in text[start..start + width].iter_mut().rev() {
                *place = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        Some(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digits() {
            Some(text) => f.write_str(str::from_utf8(&text).unwrap_or_default()),
            None => write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M:%S%.6f")),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self::new(at)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.digits() {
            Some(text) => serializer.serialize_str(str::from_utf8(&text).unwrap_or_default()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_time(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom(format!("{text:?} is not an ISO 8601 time")))
    }
}

/// Longest value quoted in an error: enough to recognise it, too short to fill a log.
const QUOTED_CHARS: usize = 200;

/// `value` as JSON for an error text, cut to a readable length.
pub fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// A JSON string, whatever it holds.
///
/// # Errors
/// When it is no string.
pub fn string(value: &Value) -> Result<&str, Reason> {
    value.as_str().ok_or_else(|| "is not of type string".to_owned())
}

/// A string of `min..=max` characters (not bytes).
///
/// # Errors
/// When it is no string, or too short, or too long.
pub fn text(value: &Value, min: usize, max: usize) -> Result<&str, Reason> {
    let text = string(value)?;
    let count = text.chars().count();
    if count < min {
        return Err(format!("is too short, at least {min} character(s) are needed"));
    }
    if count > max {
        return Err(format!("is too long: {count} characters, at most {max} are allowed"));
    }
    Ok(text)
}

/// A name: 1..255 printable characters of the BMP, neither first nor last of them whitespace.
///
/// # Errors
/// Says which of these it breaks.
pub fn name(value: &Value) -> Result<String, Reason> {
    let name = text(value, 1, 255)?;
    if let Some(c) = name.chars().find(|&c| !is_printable(c)) {
        return Err(format!("holds U+{:04X}, and only printable characters are allowed", u32::from(c)));
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err("may not begin or end with whitespace".to_owned());
    }
    Ok(name.to_owned())
}

/// A description: printable characters and line feeds, of any length; empty is fine.
///
/// # Errors
/// When it is no string or holds another control character.
pub fn description(value: &Value) -> Result<String, Reason> {
    let description = string(value)?;
    match description.chars().find(|&c| c != '\n' && !is_printable(c)) {
        Some(c) => Err(format!(
            "holds U+{:04X}, and only printable characters and line feeds are allowed",
            u32::from(c)
        )),
        None => Ok(description.to_owned()),
    }
}

/// A description or null.
///
/// # Errors
/// As [`description`].
pub fn nullable_description(value: &Value) -> Result<Option<String>, Reason> {
    if value.is_null() { Ok(None) } else { description(value).map(Some) }
}

/// A host's type: 0..255 ASCII letters and digits. Null is refused here (the original failed with 500).
///
/// # Errors
/// Says what it breaks.
pub fn host_type(value: &Value) -> Result<String, Reason> {
    let host_type = text(value, 0, 255)?;
    if host_type.chars().all(|c| c.is_ascii_alphanumeric()) {
        Ok(host_type.to_owned())
    } else {
        Err("may hold only ASCII letters and digits".to_owned())
    }
}

/// A hostname in a report: 1..255 of ASCII letters, digits, `-`, `.` and `_`.
///
/// # Errors
/// Says what it breaks.
pub fn hostname(value: &Value) -> Result<String, Reason> {
    let hostname = text(value, 1, 255)?;
    if hostname.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')) {
        Ok(hostname.to_owned())
    } else {
        Err("may hold only ASCII letters, digits, '-', '.' and '_'".to_owned())
    }
}

/// The strings that count as a boolean in a body. Not every spelling: "oN", "t" and "y" were never accepted.
const TRUE_WORDS: [&str; 10] = ["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"];
const FALSE_WORDS: [&str; 10] = ["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"];

/// A boolean in a body: JSON true or false, or one of twenty strings. The numbers 1 and 0 are refused.
///
/// # Errors
/// When it is anything else.
pub fn boolean(value: &Value) -> Result<bool, Reason> {
    match value {
        Value::Bool(b) => Ok(*b),
        Value::String(s) if TRUE_WORDS.contains(&s.as_str()) => Ok(true),
        Value::String(s) if FALSE_WORDS.contains(&s.as_str()) => Ok(false),
        _ => Err("is not one of true, false, or the strings True, On, Yes, 1, False, Off, No, 0".to_owned()),
    }
}

/// A boolean in a query string: laxer than in a body, any case and surrounding blanks.
///
/// # Errors
/// When it is none of the twelve words.
pub fn query_boolean(text: &str) -> Result<bool, Reason> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err("is not one of 0, 1, f, false, n, no, off, on, t, true, y, yes".to_owned()),
    }
}

/// One of a fixed set of words, by exact spelling.
///
/// # Errors
/// Lists the words.
pub fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, Reason> {
    let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("is not one of {}", known.join(", "))
    })
}

/// A time in a body, see [`parse_time`]. A number is refused.
///
/// # Errors
/// When it is no string or no ISO 8601 time.
pub fn timestamp(value: &Value) -> Result<Timestamp, Reason> {
    let text = string(value)?;
    parse_time(text)
        .map(Timestamp)
        .ok_or_else(|| "is not an ISO 8601 time such as 2026-11-21T10:20:30".to_owned())
}

/// A uuid as OpenStack's clients may spell it in a body: dashes, braces, `urn:`, `uuid:` and case do not matter.
///
/// # Errors
/// When no 32 hexadecimal digits remain.
pub fn uuid_like(value: &Value) -> Result<Uuid, Reason> {
    let text = string(value)?.replace("urn:", "").replace("uuid:", "");
    let digits: String = text.trim_matches(['{', '}']).chars().filter(|&c| c != '-').collect();
    let hex = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex {
        return Err("is not a uuid".to_owned());
    }
    Uuid::try_parse(&digits).map_err(|e| format!("is not a uuid ({e})"))
}

/// A uuid in a path: the dashed form or nothing. `None` means 404, not 400; so does a uuid without dashes.
pub fn path_uuid(part: &str) -> Option<Uuid> {
    if part.len() != 36 { None } else { Uuid::try_parse(part).ok() }
}

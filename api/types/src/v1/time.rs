//! Times as clients may send them.
//!
//! The accepted forms are those of the ISO 8601 reader behind oslo.utils: year, month or day alone; dashes
//! and colons optional; `T` or one blank between date and time; a fraction after a point or comma; `Z`, an offset or nothing
//! (UTC). Every reporter in the field relies on one of them, so a stricter RFC 3339 parser would lose reports. The table in the
//! tests was recorded from that reader, form by form.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

/// Years that a Python datetime can hold; a time that leaves them in UTC is refused.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

/// Reads an ISO 8601 time, normalised to UTC and cut to microseconds; `None` when it is not one.
pub fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let mut reader = Reader { rest: text.as_bytes() };
    let at = reader.date_and_time()?;
    (reader.rest.is_empty() && YEARS.contains(&chrono::Datelike::year(&at))).then_some(at)
}

/// What is left of the text; each method takes one piece off its front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn date_and_time(&mut self) -> Option<DateTime<Utc>> {
        let year = i32::try_from(self.number(4, 4)?).ok()?;
        if !YEARS.contains(&year) {
            return None;
        }
        let (month, dashed) = match self.calendar_part() {
            Part::Absent => return midnight(year, 1, 1),
            Part::Dashed(month) => (month, true),
            Part::Plain(month) => (month, false),
        };
        let day = match self.calendar_part() {
            // YYYYMM is not a date: it reads like YYMMDD.
            Part::Absent if !dashed => return None,
            Part::Absent => return midnight(year, month, 1),
            Part::Dashed(day) | Part::Plain(day) => day,
        };
        if self.rest.is_empty() {
            return midnight(year, month, day);
        }
        if !(self.eat(b'T') || self.eat(b' ')) {
            return None;
        }
        let (hour, minute, second, micros) = self.clock()?;
        let offset = self.offset()?;
        let local =
            NaiveDate::from_ymd_opt(year, month, day)?.and_hms_micro_opt(hour, minute, second, micros)?;
        local.and_utc().checked_sub_signed(offset)
    }

    /// Month or day: `-` and one or two digits, or two digits.
    fn calendar_part(&mut self) -> Part {
        let before = self.rest;
        let found = if self.eat(b'-') {
            self.number(1, 2).map(Part::Dashed)
        } else {
            self.number(2, 2).map(Part::Plain)
        };
        found.unwrap_or_else(|| {
            self.rest = before;
            Part::Absent
        })
    }

    /// Hour, and what follows of minute, second and fraction.
    fn clock(&mut self) -> Option<(u32, u32, u32, u32)> {
        let hour = self.number(2, 2)?;
        let Some(minute) = self.after_colon(2) else { return Some((hour, 0, 0, 0)) };
        let Some(second) = self.after_colon(1) else { return Some((hour, minute, 0, 0)) };
        let micros = if self.eat(b'.') || self.eat(b',') { self.fraction()? } else { 0 };
        Some((hour, minute, second, micros))
    }

    /// An optional colon and `min` to two digits, or nothing at all.
    fn after_colon(&mut self, min: usize) -> Option<u32> {
        let before = self.rest;
        self.eat(b':');
        let found = self.number(min, 2);
        if found.is_none() {
            self.rest = before;
        }
        found
    }

    /// One or more digits; those past the sixth are cut off, not rounded.
    fn fraction(&mut self) -> Option<u32> {
        let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (fraction, rest) = self.rest.split_at(digits);
        self.rest = rest;
        let digit = |place: usize| fraction.get(place).map_or(0, |b| u32::from(b - b'0'));
        (digits > 0).then(|| (0..6).fold(0, |sum, place| sum * 10 + digit(place)))
    }

    /// `Z`, a signed offset, or nothing: then UTC.
    fn offset(&mut self) -> Option<TimeDelta> {
        let sign = match self.rest.first() {
            None => return Some(TimeDelta::zero()),
            Some(b'Z') => 0,
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return None,
        };
        self.rest = &self.rest[1..];
        if sign == 0 {
            return Some(TimeDelta::zero());
        }
        let hours = self.number(2, 2)?;
        let minutes = self.after_colon(2).unwrap_or(0);
        let total = hours * 60 + minutes;
        // A day or more is no offset.
        (total < 24 * 60).then(|| TimeDelta::minutes(sign * i64::from(total)))
    }

    /// `min` to `max` ASCII digits, as many as there are.
    fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let digits = self.rest.iter().take(max).take_while(|b| b.is_ascii_digit()).count();
        if digits < min {
            return None;
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        Some(number.iter().fold(0, |sum, b| sum * 10 + u32::from(b - b'0')))
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }
}

/// A piece of the date, and whether a dash stood before it.
enum Part {
    Absent,
    Dashed(u32),
    Plain(u32),
}

fn midnight(year: i32, month: u32, day: u32) -> Option<DateTime<Utc>> {
    Some(NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(0, 0, 0)?.and_utc())
}

//! What an import took and left, for people and for programs.

use serde::Serialize;

/// A table of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    Segments,
    Hosts,
    Notifications,
    Vmoves,
}

impl Table {
    pub const ALL: [Table; 4] = [Table::Segments, Table::Hosts, Table::Notifications, Table::Vmoves];

    /// One of its rows, in words.
    pub fn noun(self) -> &'static str {
        match self {
            Table::Segments => "segment",
            Table::Hosts => "host",
            Table::Notifications => "notification",
            Table::Vmoves => "vmove",
        }
    }
}

/// What became of a table's rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// New here.
    pub taken: u64,
    /// Of these, deleted in the source: kept as such.
    pub deleted: u64,
    /// Was taken before and is the same in both.
    pub already_there: u64,
    /// Was taken before, changed in the source since, and brought up to date here.
    pub changed: u64,
    /// Was taken before and changed here since: ours stands.
    pub kept_ours: u64,
    /// Not taken; the reason stands in [`Report::left`].
    pub left: u64,
}

/// A row that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub table: Table,
    /// Its uuid, with its name where it has one.
    pub row: String,
    pub reason: String,
}

/// A row whose numeric id was taken here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Renumbered {
    pub table: Table,
    pub row: String,
    pub was: i64,
    pub is: i64,
}

/// A report that Masakari had not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    pub notification: String,
    pub host: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Masakari's word.
    pub status: String,
    /// UTC, as the source writes it.
    pub generated_time: String,
}

/// A living host that came on maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnMaintenance {
    pub segment: String,
    pub host: String,
    pub uuid: String,
}

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub source: String,
    pub revision: String,
    pub dry_run: bool,
    pub segments: TableReport,
    pub hosts: TableReport,
    pub notifications: TableReport,
    pub vmoves: TableReport,
    /// Notifications older than was asked for.
    pub older: u64,
    pub left: Vec<Left>,
    /// Rows left beyond [`MOST_LEFT`].
    pub left_unlisted: u64,
    pub renumbered: Vec<Renumbered>,
    pub unfinished: Vec<Unfinished>,
    pub on_maintenance: Vec<OnMaintenance>,
}

/// Rows that are listed with their reasons. A table that is broken all through need not fill the memory with the same sentence.
pub const MOST_LEFT: usize = 1_000;

impl Report {
    pub fn of(&self, table: Table) -> &TableReport {
        match table {
            Table::Segments => &self.segments,
            Table::Hosts => &self.hosts,
            Table::Notifications => &self.notifications,
            Table::Vmoves => &self.vmoves,
        }
    }

    pub(super) fn of_mut(&mut self, table: Table) -> &mut TableReport {
        match table {
            Table::Segments => &mut self.segments,
            Table::Hosts => &mut self.hosts,
            Table::Notifications => &mut self.notifications,
            Table::Vmoves => &mut self.vmoves,
        }
    }

    pub(super) fn leave(&mut self, table: Table, row: impl Into<String>, reason: impl Into<String>) {
        self.of_mut(table).left += 1;
        if self.left.len() < MOST_LEFT {
            self.left.push(Left { table, row: row.into(), reason: reason.into() });
        } else {
            self.left_unlisted += 1;
        }
    }

    /// Takes in what one unit did. Units may run twice, so each fills a report of its own.
    pub(super) fn add(&mut self, other: Report) {
        for table in Table::ALL {
            let more = *other.of(table);
            let sum = self.of_mut(table);
            sum.taken += more.taken;
            sum.deleted += more.deleted;
            sum.already_there += more.already_there;
            sum.changed += more.changed;
            sum.kept_ours += more.kept_ours;
            sum.left += more.left;
        }
        self.older += other.older;
        self.left_unlisted += other.left_unlisted;
        for left in other.left {
            if self.left.len() < MOST_LEFT {
                self.left.push(left);
            } else {
                self.left_unlisted += 1;
            }
        }
        self.renumbered.extend(other.renumbered);
        self.unfinished.extend(other.unfinished);
        self.on_maintenance.extend(other.on_maintenance);
    }
}

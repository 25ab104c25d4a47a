//! `halberd db check`: everything that can be found wrong by reading, each with its way out.

use std::fmt::Write as _;

use halberd_store::check::{Checked, check};
use serde_json::json;

use super::{Done, Found, open};
use crate::args::DbArgs;
use crate::verbs::Format;
use crate::verbs::output::clean;

/// Looks at everything; what is found is printed, and the end is a failure.
pub async fn run(args: &DbArgs, format: Format) -> Done {
    let db = open(args).await?;
    let checked = check(&db).await;
    db.close().await;
    let checked = checked?;
    let text = match format {
        Format::Json => format!("{:#}", json!(checked)),
        Format::Table | Format::Value => told(&checked),
    };
    match checked.findings.is_empty() {
        true => Ok(text),
        false => Err(Box::new(Found { text })),
    }
}

fn told(checked: &Checked) -> String {
    let Checked { tables, rows, chains, records, findings } = checked;
    if findings.is_empty() {
        return format!(
            "the database answers and takes writes; {rows} rows of {tables} tables can be read and name nobody who is missing; \
             all {chains} audit chains verify ({records} records)"
        );
    }
    let mut text = String::new();
    for finding in findings {
        let _ = write!(text, "{}\n    way out: {}\n", clean(&finding.what), clean(&finding.way_out));
    }
    let _ = write!(
        text,
        "{} findings in {rows} rows of {tables} tables and {records} audit records",
        findings.len()
    );
    text
}

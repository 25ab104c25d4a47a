//! `halberd audit`.

use super::client::Api;
use super::failure::Failure;
use super::output::{Column, Format, Screen, clean, text};

const VERIFIED: &[Column] = &[
    Column::text("intact", "intact"),
    Column::text("chains", "chains"),
    Column::text("records", "records"),
    Column::text("broken", "broken"),
];

#[derive(Debug, clap::Subcommand)]
pub enum Audit {
    /// Check that nobody changed the record: every chain against itself, its head and the last checkpoint
    Verify,
}

impl Audit {
    pub(super) async fn run(self, api: &Api, screen: &mut Screen<'_>) -> Result<(), Failure> {
        let found = api.get("halberd/v1/audit/verify", &[]).await?;
        match screen.format {
            Format::Table if found["intact"] == true => {
                let (chains, records) = (text(&found, "chains"), text(&found, "records"));
                screen.line(&clean(&format!("intact: {records} records in {chains} chains")))?;
            }
            _ => screen.show(&found, VERIFIED)?,
        }
        let broken = found["broken"].as_array().map_or(0, Vec::len);
        match found["intact"] == true {
            true => Ok(()),
            false => Err(Failure::refused(format!("the audit is not intact: {broken} chains are broken"))
                .with_remedy(
                    "keep the database as it is, and compare it with the last backup and kept chain heads",
                )),
        }
    }
}

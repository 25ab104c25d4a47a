//! The figures of the issue, one JSON line each.

use super::Failure;

pub(super) async fn run() -> Result<(), Failure> {
    Ok(())
}

//! `halberd`. Everything is in the library, so that tests and the demo run the same code.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    halberd::run().await
}

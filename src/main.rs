//! The `checkmate` command.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    checkmate::cli::main().await
}

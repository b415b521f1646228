//! The operator's command line; see `atone --help`.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    atone_cli::main().await
}

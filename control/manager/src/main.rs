//! The program `fulcrum-control`.

use std::process::ExitCode;

use clap::Parser as _;
use fulcrum_manager::process::{Arguments, run, start_log};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(arguments.log_format);
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulcrum-control: {error}");
            ExitCode::FAILURE
        }
    }
}

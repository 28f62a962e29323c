//! The program `fulcrum-control`.

use std::process::ExitCode;

use clap::Parser as _;
use fulcrum_manager::process::{Arguments, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    fulcrum_log::start(arguments.log);
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulcrum-control: {error}");
            ExitCode::FAILURE
        }
    }
}

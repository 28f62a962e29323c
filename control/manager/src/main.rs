//! The program `fulcrum-control`.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use fulcrum_manager::process::{Arguments, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    fulcrum_log::start(arguments.log);
    match arguments.generate.print(Arguments::command(), &mut std::io::stdout()) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulcrum-control: {error}");
            ExitCode::FAILURE
        }
    }
}

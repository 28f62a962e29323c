//! Reads the command line and runs the data plane.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use fulcrum_runtime::{Args, run};

fn main() -> ExitCode {
    let args = Args::parse();
    match args.generate.print(Args::command(), &mut std::io::stdout()) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::FAILURE,
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let bold = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            eprintln!("{}fulcrum-dataplane: {failure}{}", bold.0, bold.1);
            ExitCode::FAILURE
        }
    }
}

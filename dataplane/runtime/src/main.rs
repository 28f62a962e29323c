//! Reads the command line and runs the data plane.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use fulcrum_runtime::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let bold = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
            eprintln!("{}fulcrum-dataplane: {failure}{}", bold.0, bold.1);
            ExitCode::FAILURE
        }
    }
}

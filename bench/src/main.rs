//! Reads the command line and measures.

use std::process::ExitCode;

use clap::Parser as _;
use fulcrum_bench::{Args, run};
use fulcrum_machine::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("fulcrum-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

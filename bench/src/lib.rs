//! The benchmark: what a core can do with packets in memory, told as ratios within one run.
//!
//! Lives here, in the order of a run: the command line (`args`), which rows there are (`plan`), the network around
//! the director (`world`), frames (`frames`) and how they come and go (`feed`), directors with sessions (`table`),
//! time (`measure`); then what is measured beside established sessions (`connections`, `flood`, `cores`, `quiet`, `wake`,
//! `change`; `restore` and `memif` with real `programs`); and what is said of it (`goals`, `report`, `machine`). The
//! loop that is measured is the data plane's own (`fulcrum_runtime::harness`).

#![forbid(unsafe_code)]

mod args;
mod change;
mod connections;
mod cores;
mod feed;
mod flood;
mod frames;
mod goals;
mod machine;
mod measure;
mod memif;
mod plan;
mod programs;
mod quiet;
mod report;
mod restore;
mod run;
mod table;
mod wake;
mod weather;
mod world;

pub use args::Args;
pub use run::{Failure, run};

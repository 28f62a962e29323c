//! The command line.

use std::path::PathBuf;

/// Measures what a core can do: the workers' loop on packets in memory, beside its ceiling in the same run.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "fulcrum-bench", version)]
pub struct Args {
    /// Only rows with all of these words, such as 'fullnat request 1m'
    #[arg(long, value_name = "WORDS")]
    pub only: Option<String>,
    /// Names the rows and measures nothing
    #[arg(long)]
    pub list: bool,
    /// Shorter slices, and no table of 10 million sessions: for a first look
    #[arg(long)]
    pub quick: bool,
    /// Processor to measure on; the last one by default
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Processor of the second worker where there are two; the last but one by default
    #[arg(long, value_name = "N")]
    pub other_core: Option<usize>,
    /// Measures two processes over memif instead, beside testpmd
    #[arg(long)]
    pub memif: bool,
    /// Ends with status 1 when a goal is missed
    #[arg(long)]
    pub strict: bool,
    /// Where all figures go as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    pub json: PathBuf,
}

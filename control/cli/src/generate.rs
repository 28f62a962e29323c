//! What is made from the command tree: shell completions and manual pages.

use std::io::Write as _;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::command::Arguments;
use crate::failure::Failure;
use crate::output::Output;

/// For which shell.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CompletionArguments {
    /// The shell
    pub shell: Shell,
}

/// Where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArguments {
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// `fulcrum completion`.
pub fn completion(arguments: &CompletionArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    // The generator expects a writer that takes everything.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "fulcrum", &mut script);
    Ok(out.write_all(&script)?)
}

/// `fulcrum man`.
pub fn man(arguments: &ManArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let command = Arguments::command().disable_help_subcommand(true);
    match &arguments.directory {
        None => Ok(Man::new(command).render(out)?),
        Some(directory) => std::fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(command, directory))
            .map_err(|source| Failure::file(directory, source)),
    }
}

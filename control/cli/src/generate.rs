//! What is made from the command tree: shell completions and manual pages.

use std::io::Write as _;
use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::command::Arguments;
use crate::failure::Failure;
use crate::ipvsadm::Face;
use crate::output::Output;

/// For which shell.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CompletionArguments {
    /// The shell
    pub shell: Shell,
    /// Another name that the program is called by
    pub program: Option<Face>,
}

/// Where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ManArguments {
    /// Another name that the program is called by
    pub program: Option<Face>,
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// `fulcrum completion`.
pub fn completion(arguments: &CompletionArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let (name, mut command) = match arguments.program {
        None => ("fulcrum", Arguments::command()),
        Some(face) => (face.name(), face.command()),
    };
    // The generator expects a writer that takes everything.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    Ok(out.write_all(&script)?)
}

/// `fulcrum man`.
pub fn man(arguments: &ManArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let command = Arguments::command().disable_help_subcommand(true);
    match (&arguments.directory, arguments.program) {
        (None, None) => Ok(Man::new(command).render(out)?),
        (None, Some(face)) => Ok(face_page(face).render(out)?),
        (Some(directory), face) => {
            let written = std::fs::create_dir_all(directory).and_then(|()| match face {
                None => clap_mangen::generate_to(command, directory),
                Some(face) => face_page(face).generate_to(directory).map(drop),
            });
            written.map_err(|source| Failure::file(directory, source))
        }
    }
}

/// The page of another name, in the section where people look for it.
fn face_page(face: Face) -> Man {
    Man::new(face.command()).section("8")
}

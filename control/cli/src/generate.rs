//! What is made from the command tree: shell completions and manual pages.

use std::io::Write as _;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::command::Arguments;
use crate::failure::Failure;
use crate::ipvsadm::Face;
use crate::output::Output;
use crate::reference;

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
    /// Another name that the program is called by, or its configuration file
    #[arg(value_name = "PAGE")]
    pub page: Option<Page>,
    /// Write a page for each command into this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

/// A page that is not the program's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Of a name that the program is called by.
    Face(Face),
    /// Of the configuration file.
    File,
}

impl ValueEnum for Page {
    fn value_variants<'a>() -> &'a [Page] {
        const PAGES: [Page; 4] =
            [Page::Face(Face::Ipvsadm), Page::Face(Face::Save), Page::Face(Face::Restore), Page::File];
        &PAGES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Page::Face(face) => face.to_possible_value(),
            Page::File => Some(PossibleValue::new("fulcrum.toml")),
        }
    }
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
    match (&arguments.directory, arguments.page) {
        (None, None) => Ok(Man::new(command).render(out)?),
        (None, Some(Page::Face(face))) => Ok(face_page(face).render(out)?),
        (None, Some(Page::File)) => Ok(out.write_all(reference::man_page().as_bytes())?),
        (Some(directory), page) => {
            let written = std::fs::create_dir_all(directory).and_then(|()| match page {
                None => clap_mangen::generate_to(command, directory),
                Some(Page::Face(face)) => face_page(face).generate_to(directory).map(drop),
                Some(Page::File) => std::fs::write(directory.join("fulcrum.toml.5"), reference::man_page()),
            });
            written.map_err(|source| Failure::file(directory, source))
        }
    }
}

/// The page of another name, in the section where people look for it.
fn face_page(face: Face) -> Man {
    Man::new(face.command()).section("8")
}

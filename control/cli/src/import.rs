//! `fulcrum import`: configurations of other directors as ours.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use fulcrum_import::{Disk, Import, keepalived, ldirectord};
use fulcrum_model::file::{read_text, state_to_toml};
use serde::Serialize;
use std::io::Write as _;

use crate::command::Global;
use crate::configuration::replace;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::counted;

/// Whose configuration is read. Each line that has no equivalent is named on standard error, with its number.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Write keepalived's virtual servers, with their checks, as a configuration file
    Keepalived {
        /// What lines with a condition (@ID) ask for, as keepalived's own option --config-id
        #[arg(long, value_name = "ID")]
        config_id: Option<String>,
        /// From where to where
        #[command(flatten)]
        files: Files,
    },
    /// Write ldirectord's virtual services, with their checks, as a configuration file
    Ldirectord {
        /// From where to where
        #[command(flatten)]
        files: Files,
    },
}

/// From where to where.
#[derive(Clone, Debug, clap::Args)]
pub struct Files {
    /// Configuration to read, `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File to write, replaced whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Write nothing and exit with 1 when something has no equivalent
    #[arg(long)]
    pub strict: bool,
}

/// Does it; needs no running process.
pub fn run(global: &Global, command: Command, out: &mut Output<'_>) -> Result<(), Failure> {
    let (import, files) = match command {
        Command::Keepalived { config_id, files } => {
            let text = text(&files.file)?;
            (keepalived::import(&Disk, &files.file, &text, config_id.as_deref()), files)
        }
        Command::Ldirectord { files } => {
            let text = text(&files.file)?;
            (ldirectord::import(&files.file.display().to_string(), &text), files)
        }
    };
    let import = import.map_err(|error| Failure::Invalid(format!("{error}\nnothing imported")))?;
    if files.strict && !import.left_out.is_empty() {
        let lines: Vec<String> = import.left_out.iter().map(ToString::to_string).collect();
        return Err(Failure::Invalid(format!("{}\nnothing imported", lines.join("\n"))));
    }
    let toml = state_to_toml(&import.state);
    match &files.to {
        Some(path) => replace(path, toml.as_bytes()).map_err(|source| Failure::file(path, source))?,
        None if global.json => {}
        None => out.write_all(toml.as_bytes())?,
    }
    tell(global, &import, toml, out)
}

fn text(path: &Path) -> Result<String, Failure> {
    let read = match path.to_str() {
        Some("-") => read_text(std::io::stdin()),
        _ => fs::File::open(path).and_then(read_text),
    };
    read.map_err(|source| Failure::file(path, source))
}

#[derive(Debug, Serialize)]
struct Told {
    toml: String,
    left_out: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    file: String,
    line: usize,
    last_line: usize,
    text: String,
    why: String,
}

/// What was left out, and how much was not.
fn tell(global: &Global, import: &Import, toml: String, out: &mut Output<'_>) -> Result<(), Failure> {
    if global.json {
        let line = |left: &fulcrum_import::LeftOut| Line {
            file: left.place.file.to_string(),
            line: left.place.line,
            last_line: left.place.last,
            text: left.what.clone(),
            why: left.why.clone(),
        };
        return Ok(out.json(&Told { toml, left_out: import.left_out.iter().map(line).collect() })?);
    }
    for left in &import.left_out {
        eprintln!("{left}");
    }
    let services = counted(import.state.services.len() as u64, "service");
    let checks = counted(import.state.checks.len() as u64, "check");
    let left = counted(import.left_out.len() as u64, "line");
    eprintln!("fulcrum: {services} and {checks} imported, {left} without an equivalent");
    Ok(())
}

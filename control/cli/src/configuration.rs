//! Whole configurations: `fulcrum apply`, `diff`, `save`, `check`, `replay`.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fulcrum_model::Config;
use fulcrum_model::file::read_text;
use serde::Serialize;

use crate::command::{Global, note};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::counted;

/// The file that a command is about.
#[derive(Clone, Debug, clap::Args)]
pub struct FileArguments {
    /// Configuration file, `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Where to save.
#[derive(Clone, Debug, clap::Args)]
pub struct SaveArguments {
    /// File to write, replaced whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Changes {
    changes: Vec<String>,
}

/// `fulcrum apply`.
pub async fn apply(global: &Global, arguments: &FileArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let config = read(&arguments.file)?;
    let reply = global.client().await?.apply(&config.state, false).await?;
    changes(global, reply.differences, "nothing changed", out)?;
    note(&reply.delivery.unwrap_or_default());
    Ok(())
}

/// `fulcrum reload`.
pub async fn reload(global: &Global) -> Result<(), Failure> {
    global.client().await?.reload().await
}

/// `fulcrum diff`.
pub async fn diff(global: &Global, arguments: &FileArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let config = read(&arguments.file)?;
    let reply = global.client().await?.apply(&config.state, true).await?;
    changes(global, reply.differences, "nothing would change", out)
}

fn changes(global: &Global, changes: Vec<String>, none: &str, out: &mut Output<'_>) -> Result<(), Failure> {
    if global.json {
        out.json(&Changes { changes })?;
    } else if changes.is_empty() {
        writeln!(out, "{none}")?;
    } else {
        changes.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    Ok(())
}

/// `fulcrum save`.
pub async fn save(global: &Global, arguments: SaveArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let toml = global.client().await?.config().await?;
    match arguments.to {
        None => Ok(out.write_all(toml.as_bytes())?),
        Some(path) => replace(&path, toml.as_bytes()).map_err(|source| Failure::file(&path, source)),
    }
}

/// `fulcrum check`.
pub fn check(global: &Global, arguments: &FileArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Summary {
        ports: usize,
        interfaces: usize,
        services: usize,
        servers: usize,
    }
    let state = read(&arguments.file)?.state;
    let summary = Summary {
        ports: state.ports.len(),
        interfaces: state.interfaces.len(),
        services: state.services.len(),
        servers: state.services.iter().map(|service| service.servers.len()).sum(),
    };
    if global.json {
        return Ok(out.json(&summary)?);
    }
    let parts = [
        counted(summary.ports as u64, "port"),
        counted(summary.interfaces as u64, "interface"),
        counted(summary.services as u64, "service"),
        counted(summary.servers as u64, "server"),
    ];
    writeln!(out, "{}: fine: {}", arguments.file.display(), parts.join(", "))?;
    Ok(())
}

/// `fulcrum replay`.
pub fn replay(arguments: &fulcrum_replay::Args, out: &mut Output<'_>) -> Result<(), Failure> {
    let summary = fulcrum_replay::run(arguments).map_err(|error| Failure::Invalid(error.to_string()))?;
    summary.notes.iter().for_each(|note| eprintln!("fulcrum: {note}"));
    let (came, went) = (counted(summary.frames_in, "frame"), counted(summary.frames_out, "frame"));
    writeln!(out, "{came} in, {went} out to {}", arguments.output.display())?;
    Ok(())
}

fn read(path: &Path) -> Result<Config, Failure> {
    let (name, read) = match path.to_str() {
        Some("-") => ("standard input".to_owned(), read_text(std::io::stdin())),
        _ => (path.display().to_string(), File::open(path).and_then(read_text)),
    };
    let text = read.map_err(|source| Failure::file(path, source))?;
    Config::parse(&name, &text).map_err(|errors| Failure::Invalid(errors.to_string()))
}

/// Replaces a file whole: whoever reads it sees the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let written = File::create(&new).and_then(|mut file| {
        // What is replaced keeps its permissions.
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

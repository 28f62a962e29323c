//! `fulcrum run`: a program that was written for the kernel's IPVS, with the library before it that brings it to
//! fulcrum-control. This process becomes the program.

mod reach;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

use crate::command::Global;
use reach::Unreachable;

/// What the library is called where it is installed, and where packages have it.
const LIBRARY: &str = "libfulcrum_ipvs.so";
const INSTALLED: &str = "/usr/lib/fulcrum";
/// What it is called where it was built, beside this program.
const BUILT: &str = "deps/libfulcrum_preload.so";

/// What to run, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The library to preload [default: libfulcrum_ipvs.so of this installation]
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,
    /// Socket of fulcrum-control for such programs [default: ipvs.sock beside --socket]
    #[arg(long, value_name = "PATH", env = "FULCRUM_IPVS_SOCKET")]
    ipvs_socket: Option<PathBuf>,
    /// Run it even if fulcrum-control is not there now, or if the library cannot be put before it
    #[arg(long)]
    anyway: bool,
    /// The program, and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Why a program is not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No library.
    #[error("{LIBRARY} is not there (looked in {0}); install the package fulcrum, or name it with --library")]
    NoLibrary(String),
    /// A name that the dynamic loader would take apart.
    #[error("the dynamic loader takes no library whose path has a space or a colon: {}", .0.display())]
    Path(PathBuf),
    /// Nobody serves the socket.
    #[error(
        "fulcrum-control is not there for programs of IPVS (nothing answers at {}: {error}); start it, or name its \
         socket with --ipvs-socket; --anyway runs the program all the same", socket.display()
    )]
    NoControl {
        /// Where it would be.
        socket: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another machine.
    #[error("programs of IPVS reach fulcrum-control by a socket of this machine, not by --director")]
    Remote,
    /// The library would not be loaded.
    #[error("{}: {why}; it would speak to the kernel's IPVS; --anyway runs it all the same", program.display())]
    Unreachable {
        /// The program.
        program: PathBuf,
        /// Why it is not.
        why: Unreachable,
    },
    /// No such program.
    #[error("{}: no such program", .0.display())]
    NoProgram(PathBuf),
    /// A program that cannot be run.
    #[error("{}: {error}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Error {
    /// The exit code: a shell's, where a shell has one.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Error::Remote => ExitCode::from(2),
            Error::NoProgram(_) => ExitCode::from(127),
            Error::Program { .. } => ExitCode::from(126),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Becomes the program; comes back only when that cannot be.
pub fn run(global: &Global, arguments: &Arguments) -> Error {
    become_program(global, arguments).unwrap_or_else(|error| error)
}

fn become_program(global: &Global, arguments: &Arguments) -> Result<Error, Error> {
    if global.door.director.is_some() {
        return Err(Error::Remote);
    }
    let library = library(arguments.library.as_deref())?;
    let messages =
        arguments.ipvs_socket.clone().unwrap_or_else(|| global.door.socket.with_file_name("ipvs.sock"));
    let name = &arguments.command[0];
    let program = find(name).ok_or_else(|| Error::NoProgram(name.into()))?;
    if !arguments.anyway {
        reach::check(&program).map_err(|why| Error::Unreachable { program: program.clone(), why })?;
        answers(&messages)
            .map_err(|error| Error::NoControl { socket: messages.clone(), error: error.into() })?;
    }
    let mut command = Command::new(&program);
    command
        .arg0(name)
        .args(&arguments.command[1..])
        .env("LD_PRELOAD", before(&library, env::var_os("LD_PRELOAD")))
        .env("FULCRUM_IPVS_SOCKET", &messages);
    if env::var_os("FULCRUM_IPVS_PROC_SOCKET").is_none() {
        command.env("FULCRUM_IPVS_PROC_SOCKET", listings(&messages));
    }
    let error = command.exec();
    Err(match error.kind() {
        ErrorKind::NotFound => Error::NoProgram(program),
        _ => Error::Program { program, error },
    })
}

/// The library that was named, or the one that goes with this program: where it was built, beside where it was
/// installed, or in the package's place.
fn library(named: Option<&Path>) -> Result<PathBuf, Error> {
    let here = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    let candidates = match named {
        Some(path) => vec![path.to_owned()],
        None => {
            vec![
                here.join(BUILT),
                here.join("../lib/fulcrum").join(LIBRARY),
                Path::new(INSTALLED).join(LIBRARY),
            ]
        }
    };
    let found = candidates.iter().find_map(|path| path.canonicalize().ok().filter(|path| path.is_file()));
    let looked = || candidates.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let found = found.ok_or_else(|| Error::NoLibrary(looked()))?;
    match found.as_os_str().as_bytes().iter().any(|byte| b": ".contains(byte)) {
        true => Err(Error::Path(found)),
        false => Ok(found),
    }
}

/// The program that a shell would run.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    // Administrators' programs, for whoever has no path to them.
    let path = env::var_os("PATH").unwrap_or_default().into_vec();
    let path = [path, b":/usr/sbin:/sbin".to_vec()].concat();
    let folders = env::split_paths(OsStr::from_bytes(&path)).collect::<Vec<_>>();
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Whether somebody serves a socket of packets.
fn answers(path: &Path) -> rustix::io::Result<()> {
    let asking = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&asking, &SocketAddrUnix::new(path)?)
}

/// What is preloaded: ours, and what was before.
fn before(library: &Path, others: Option<OsString>) -> OsString {
    let mut all = library.as_os_str().to_owned();
    let others = others.unwrap_or_default();
    let known = others.as_bytes().split(|byte| b": ".contains(byte));
    let others: Vec<&[u8]> =
        known.filter(|other| !other.is_empty() && *other != library.as_os_str().as_bytes()).collect();
    for other in others {
        all.push(":");
        all.push(OsStr::from_bytes(other));
    }
    all
}

/// The socket of the listings of `/proc` that goes with one for messages: `ipvs-proc.sock` with `ipvs.sock`.
fn listings(messages: &Path) -> PathBuf {
    let mut name = messages.file_stem().unwrap_or_default().to_owned();
    name.push("-proc");
    if let Some(end) = messages.extension() {
        name.push(".");
        name.push(end);
    }
    messages.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::{before, listings};

    #[test]
    fn what_was_preloaded_stays_behind_ours() {
        let ours = Path::new("/usr/lib/fulcrum/libfulcrum_ipvs.so");
        let with = |others: &str| before(ours, Some(OsString::from(others)));
        assert_eq!(before(ours, None), ours);
        assert_eq!(with(""), ours);
        assert_eq!(with("/lib/a.so b.so"), "/usr/lib/fulcrum/libfulcrum_ipvs.so:/lib/a.so:b.so");
        assert_eq!(with(&format!("/lib/a.so:{}", ours.display())), with("/lib/a.so"));
    }

    #[test]
    fn both_sockets_go_together() {
        assert_eq!(listings(Path::new("/run/fulcrum/ipvs.sock")), Path::new("/run/fulcrum/ipvs-proc.sock"));
        assert_eq!(listings(Path::new("/tmp/door")), Path::new("/tmp/door-proc"));
    }
}

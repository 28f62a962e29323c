//! What can go wrong on the command line, and the exit code of each.
//!
//! Exit codes: 0 done, 1 the operation failed, 2 the command line makes no sense (as clap has it). ipvsadm's
//! command line has codes of its own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fulcrum_api::{BadMessage, edit};
use fulcrum_model::EditError;
use tonic::{Code, Status};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody serves the control socket.
    #[error("fulcrum-control is not running (nothing answers at {}); start it, or name its socket with --socket", .0.display())]
    NotRunning(PathBuf),
    /// Another machine does not let us in, or is not there.
    #[error("cannot reach fulcrum-control at {0}: {1}")]
    Unreachable(String, String),
    /// It took the connection and says nothing.
    #[error(
        "fulcrum-control has not answered for {0} s: it hangs or is stopped; whether a change was made is not known"
    )]
    Silent(u64),
    /// The control socket belongs to somebody else.
    #[error("permission denied on {}; it is for its owner and group: become root (sudo), or join the group", .0.display())]
    Forbidden(PathBuf),
    /// An edit was refused, and with it its whole transaction; the number is the edit's.
    #[error("{1}")]
    Refused(usize, EditError),
    /// There is no data plane to ask.
    #[error("{0}")]
    NoDataplane(String),
    /// Something that was asked for is not there.
    #[error("{0}")]
    Missing(String),
    /// Arguments that make no sense together, beyond what clap checks.
    #[error("{0}")]
    Usage(String),
    /// A file or an argument is wrong beyond what clap checks.
    #[error("{0}")]
    Invalid(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Output could not be written (a closed pipe is none of these).
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
    /// An answer made no sense.
    #[error("fulcrum-control's answer makes no sense ({0}); are both of one version?")]
    Answer(#[from] BadMessage),
    /// A program of somebody else's is not run.
    #[error(transparent)]
    Run(#[from] crate::run::Error),
    /// Any other refusal.
    #[error("{}", .0.message())]
    Rpc(Box<Status>),
}

impl Failure {
    /// A failure with a file.
    pub fn file(path: &Path, source: std::io::Error) -> Failure {
        Failure::File { path: path.to_owned(), source }
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Run(error) => error.exit_code(),
            _ => ExitCode::FAILURE,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        match (edit::refusal(&status), status.code()) {
            (Some((index, error)), _) => Failure::Refused(index, error),
            (None, Code::Unavailable) => Failure::NoDataplane(status.message().to_owned()),
            _ => Failure::Rpc(Box::new(status)),
        }
    }
}

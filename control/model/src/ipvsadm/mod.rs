//! ipvsadm's command line, version 1.31, as pure functions.
//!
//! Lives here: the grammar (`options`, `rules`, `values`, `command`), what a command means as [`Edit`]s, the
//! lines of `-R` (`restore`), and everything that is printed, byte for byte (`list`, `sessions`, `save`, `help`,
//! [`refusal`]).
//! Does not live here: talking to a director, reading input, resolving names ([`Names`] is the caller's).
//!
//! The grammar is ipvsadm's, with a few words more: `-b|--fullnat` on `-a` and `-e` (on `-A` and `-E`, `-b`
//! stays `--sched-flags`), `-P|--add-laddr`, `-Q|--del-laddr` and `-G|--get-laddr` with `-z|--laddr`, and
//! `--local-pool` and `--vip-interface` on `-A` and `-E`.

mod command;
mod help;
pub mod list;
mod options;
mod order;
mod restore;
mod rules;
mod save;
pub mod sessions;
mod values;

use crate::edit::{Edit, EditError};
use crate::state::ServiceKey;

pub use help::{COMMANDS, Description, OPTIONS, SERVICES, VERSION, help};
pub use restore::{Line, RestoreError, edits, restore};
pub use save::save;
pub use values::{Names, Numeric};

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print [`help()`].
    Help,
    /// Print [`VERSION`].
    Version,
    /// Change the state, as one transaction.
    Edit(Vec<Edit>),
    /// Zero the counters of a service or of all.
    Zero(Option<ServiceKey>),
    /// List services.
    List(List),
    /// List the sessions.
    ListSessions {
        /// Numbers instead of names.
        numeric: bool,
        /// Columns of persistence engines.
        persistence_data: bool,
    },
    /// List the time-outs.
    ListTimeouts,
    /// List the synchronization daemons, of which there are none.
    ListDaemons,
    /// List local addresses of a service or of all.
    LocalAddresses {
        /// The service.
        service: Option<ServiceKey>,
        /// Numbers instead of names.
        numeric: bool,
    },
    /// Print the services as commands.
    Save {
        /// Numbers instead of names.
        numeric: bool,
    },
    /// Apply the commands that standard input holds, see [`restore`].
    Restore,
}

/// How services are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// This one only.
    pub service: Option<ServiceKey>,
    /// The columns.
    pub format: Format,
    /// Numbers instead of names.
    pub numeric: bool,
    /// All digits of large numbers.
    pub exact: bool,
    /// By address instead of by age.
    pub sort: bool,
}

impl Default for List {
    fn default() -> List {
        List { service: None, format: Format::Plain, numeric: false, exact: false, sort: true }
    }
}

/// The columns of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Forwarding method, weight, connections.
    Plain,
    /// `--stats`
    Stats,
    /// `--rate`
    Rate,
    /// `--thresholds`
    Thresholds,
    /// `--persistent-conn`
    PersistentConn,
    /// `--tun-info`
    TunInfo,
}

/// Why a command line is not obeyed: what to print on standard error (with a line end after it) and the exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    /// The sentence.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

/// The exit code of a wrong command line.
pub const EXIT_USAGE: u8 = 2;
/// The exit code of a command that is refused.
pub const EXIT_REFUSED: u8 = 255;
/// The exit code of a list that cannot be had.
pub const EXIT_LIST: u8 = 1;

impl Usage {
    fn wrong(message: impl Into<String>) -> Usage {
        Usage { message: message.into(), code: EXIT_USAGE }
    }

    fn refused(message: impl Into<String>) -> Usage {
        Usage { message: message.into(), code: EXIT_REFUSED }
    }

    fn try_help() -> Usage {
        Usage::refused("Try `ipvsadm -h' or 'ipvsadm --help' for more information.")
    }

    fn unavailable(what: &str) -> Usage {
        let verb = if what.ends_with('s') { "are" } else { "is" };
        Usage::refused(format!("{what} {verb} not available in Fulcrum"))
    }

    /// The answer to a list of a service that is not there.
    pub fn no_such_service_listed() -> Usage {
        Usage { message: "No such service".to_owned(), code: EXIT_LIST }
    }
}

/// Reads a command line without the program's name. Hosts and ports must be numbers.
pub fn parse(args: &[String]) -> Result<Command, Usage> {
    parse_with(args, &Numeric)
}

/// Reads a command line without the program's name; hosts and ports may be names.
pub fn parse_with(args: &[String], names: &dyn Names) -> Result<Command, Usage> {
    command::parse(args, names)
}

/// The sentence with which ipvsadm answers when an edit is refused. What IPVS only calls an invalid operation
/// is said more clearly.
pub fn refusal(edit: &Edit, error: &EditError) -> String {
    let service = matches!(
        edit,
        Edit::AddService(_)
            | Edit::UpdateService(_)
            | Edit::DeleteService(_)
            | Edit::SetServicePool(..)
            | Edit::SetServiceInterface(..)
    );
    let server = matches!(edit, Edit::AddServer(..) | Edit::UpdateServer(..) | Edit::DeleteServer(..));
    let text = match error.errno() {
        17 if service => "Service already exists",
        17 if server => "Destination already exists",
        17 => "Local address already exists",
        3 if server => "Service not defined",
        3 => "No such service",
        2 if server => "No such destination",
        2 if service => "Scheduler or persistence engine not found",
        2 => "No such local address",
        34 => "Numerical result out of range",
        _ => return format!("Invalid operation: {error}"),
    };
    text.to_owned()
}

//! The configuration file: TOML to [`Config`] and back.
//!
//! Lives here: the file's tables that are no desired state (`[dataplane]`, `[control]`), reading with every
//! mistake named by line (`read`), writing (`write`). Does not live here: what is valid (`validate`); opening
//! files is the caller's.

mod read;
pub mod reference;
mod remote;
mod table;
mod words;
mod write;

use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::state::{State, VipOwner};

pub use remote::{Remote, RemoteClient, Role};
pub use write::{CHECK_KEYS, check_entries, state_to_toml, to_toml};

/// Where the configuration file is unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/fulcrum/fulcrum.toml";

/// Where the data plane serves its socket unless told otherwise.
pub const DEFAULT_DATAPLANE_SOCKET: &str = "/run/fulcrum/dataplane.sock";

/// Where the control process serves its socket unless told otherwise.
pub const DEFAULT_CONTROL_SOCKET: &str = "/run/fulcrum/control.sock";

/// Name of the socket for tools of IPVS, beside the command line's when none is given.
pub const IPVS_SOCKET: &str = "ipvs.sock";

/// Where the control process keeps run-time changes unless told otherwise.
pub const DEFAULT_STATE_FILE: &str = "/var/lib/fulcrum/state.toml";

/// The longest configuration file that is read, in bytes.
pub const MAX_BYTES: usize = 256 << 20;

/// A whole configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[dataplane]`: how the data plane process runs.
    pub dataplane: Dataplane,
    /// `[control]`: how the control process runs.
    pub control: ControlSettings,
    /// Everything else: what the data plane is programmed with.
    pub state: State,
}

/// How the data plane process runs; fixed from its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Worker lcores, such as `1`, `1-3` or `1,3,5`; see [`Dataplane::worker_lcores`].
    pub lcores: String,
    /// Whether huge pages are used.
    pub hugepages: HugePages,
    /// Sessions that each worker has room for.
    pub sessions: usize,
    /// What a worker does when nothing comes.
    pub idle: Idle,
    /// Test setting: every packet is brought to a wrong worker first.
    pub misdirect: bool,
    /// Path of its socket, `None` = [`DEFAULT_DATAPLANE_SOCKET`].
    pub socket: Option<PathBuf>,
    /// DPDK's file prefix, `None` = one of the process's own. Instances side by side need different ones.
    pub file_prefix: Option<String>,
    /// Collector (IPFIX over UDP) that is told of sessions which hide their clients, `None` = nobody is.
    pub translation_log: Option<SocketAddr>,
    /// What the collector knows this director by.
    pub observation_domain: u32,
}

impl Default for Dataplane {
    fn default() -> Dataplane {
        Dataplane {
            lcores: "1".to_owned(),
            hugepages: HugePages::Auto,
            sessions: 1 << 20,
            idle: Idle::Poll,
            misdirect: false,
            socket: None,
            file_prefix: None,
            translation_log: None,
            observation_domain: 1,
        }
    }
}

impl Dataplane {
    /// The path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| DEFAULT_DATAPLANE_SOCKET.into())
    }

    /// The worker lcores in the order given, one worker each: workers share one that is given more than once. `None`
    /// when the text is no list of lcores, which a [`Config`] that was read from a file never holds.
    pub fn worker_lcores(&self) -> Option<Vec<u16>> {
        let mut lcores = Vec::new();
        for part in self.lcores.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > 1023 {
                return None;
            }
            lcores.extend(first..=last);
        }
        Some(lcores)
    }
}

/// Whether huge pages are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// When the machine has some free.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What a worker does when nothing comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Asks again at once: lowest latency, a whole core.
    #[default]
    Poll,
    /// Naps when nothing comes, and wakes within 100 µs.
    Adaptive,
}

impl Idle {
    /// All of them with their names.
    pub const WORDS: [(&'static str, Idle); 2] = [("poll", Idle::Poll), ("adaptive", Idle::Adaptive)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Idle::WORDS[self as usize].0
    }
}

/// How the control process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// Path of its socket.
    pub socket: PathBuf,
    /// Path of the socket for tools of IPVS, `None` = [`IPVS_SOCKET`] beside the other one.
    pub ipvs_socket: Option<PathBuf>,
    /// File in which changes made at run time survive a restart.
    pub state_file: PathBuf,
    /// Where metrics and health are served by HTTP, `None` = nowhere.
    pub metrics: Option<SocketAddr>,
    /// Services, and as many servers, that have series of their own at most.
    pub metrics_limit: u32,
    /// How other machines are served, `None` = not at all.
    pub remote: Option<Remote>,
    /// Interface of the host on which VIPs are announced.
    pub announce_interface: String,
    /// Who says which VIPs the director has.
    pub vips: VipOwner,
}

impl Default for ControlSettings {
    fn default() -> ControlSettings {
        ControlSettings {
            socket: DEFAULT_CONTROL_SOCKET.into(),
            ipvs_socket: None,
            state_file: DEFAULT_STATE_FILE.into(),
            metrics: None,
            metrics_limit: 10_000,
            remote: None,
            announce_interface: "lo".to_owned(),
            vips: VipOwner::Always,
        }
    }
}

/// Everything of `reader` as text, as far as a configuration file may be long.
pub fn read_text(reader: impl Read) -> io::Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let read = reader.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    match read > MAX_BYTES {
        true => Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes"))),
        false => Ok(text),
    }
}

impl Config {
    /// Reads a configuration file's text. `name` is the file's name for the messages.
    pub fn parse(name: &str, text: &str) -> Result<Config, FileErrors> {
        read::config(text).map_err(|mut found| {
            found.sort_by_key(|(offset, _)| *offset);
            found.dedup();
            let line = |offset: usize| {
                1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
            };
            let errors = found.into_iter().map(|(offset, message)| FileError { line: line(offset), message });
            FileErrors { name: name.to_owned(), errors: errors.collect() }
        })
    }
}

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// Line, the first is 1.
    pub line: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Every mistake found in a configuration file; displayed one a line as `file:line: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors {
    /// The file's name.
    pub name: String,
    /// The mistakes, by line.
    pub errors: Vec<FileError>,
}

impl fmt::Display for FileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            let end = if at + 1 == self.errors.len() { "" } else { "\n" };
            write!(f, "{}:{}: {}{end}", self.name, error.line, error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for FileErrors {}

#[cfg(test)]
mod tests;

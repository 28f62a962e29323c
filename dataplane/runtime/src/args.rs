//! The command line of fulcrum-dataplane.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use fulcrum_daemon::Generate;
use fulcrum_log::LogArguments;
use fulcrum_model::file::{DEFAULT_DATAPLANE_SOCKET, DEFAULT_PATH};

use crate::worker::Fault;

/// The data plane of Fulcrum: forwards packets, and is told how on its socket.
///
/// Reads `[dataplane]` and `[[port]]` of the configuration file to open its ports and start its workers; services,
/// addresses and routes come from fulcrum-control. Ends on SIGTERM or SIGINT and leaves interfaces as it found them.
#[derive(Clone, Debug, Parser)]
#[command(name = "fulcrum-dataplane", version)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub(crate) config: PathBuf,

    /// Socket to serve [default: `socket` of the file, else /run/fulcrum/dataplane.sock]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// User who may use the socket, besides root [default: the one that the process runs as]
    #[arg(long, value_name = "USER", value_parser = user)]
    pub(crate) socket_owner: Option<u32>,
    /// Name of this instance where several run on one machine: its socket is then
    /// /run/fulcrum/dataplane-NAME.sock and its DPDK file prefix fulcrum-NAME, unless said otherwise
    #[arg(long, value_name = "NAME", value_parser = instance_name)]
    pub(crate) instance: Option<String>,

    /// How to log
    #[command(flatten)]
    pub(crate) log: LogArguments,

    /// Seconds without a sign of life after which a worker counts as hung and the process aborts
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) watchdog: u64,

    /// Folder or file of DPDK drivers to load beside those of the distribution
    #[arg(long, value_name = "PATH")]
    pub(crate) drivers: Option<PathBuf>,

    /// Say what this machine could do better by the data plane of this configuration, and end: nothing is opened
    #[arg(long)]
    pub(crate) check_host: bool,

    /// For tests: a fault that worker 0 commits a second after its start, to see that it is noticed
    #[arg(long, value_name = "FAULT")]
    pub(crate) test_fault: Option<Fault>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would become the program's")]
    pub generate: Generate,
}

impl Args {
    /// The socket to serve; `configured` is what the file says.
    pub(crate) fn socket(&self, configured: Option<PathBuf>) -> PathBuf {
        self.socket.clone().or(configured).unwrap_or_else(|| match &self.instance {
            Some(name) => {
                PathBuf::from(DEFAULT_DATAPLANE_SOCKET).with_file_name(format!("dataplane-{name}.sock"))
            }
            None => DEFAULT_DATAPLANE_SOCKET.into(),
        })
    }

    /// The DPDK file prefix; `configured` is what the file says. Without a name it follows from the socket, which one
    /// process has at a time: what a killed one left under its prefix is used again by the next.
    pub(crate) fn file_prefix(&self, configured: Option<String>, socket: &Path) -> String {
        configured.unwrap_or_else(|| match &self.instance {
            Some(name) => format!("fulcrum-{name}"),
            None => {
                let mut hash = DefaultHasher::new();
                std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned()).hash(&mut hash);
                format!("fulcrum-{:016x}", hash.finish())
            }
        })
    }

    /// How long a worker may show no sign of life.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.watchdog)
    }
}

fn user(name: &str) -> Result<u32, String> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("there is no such user".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn instance_name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 32 || !text.chars().all(fits) {
        return Err("a name is 1 to 32 letters, digits, `-`, `_` or `.`".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn instances_have_sockets_and_prefixes_of_their_own() {
        assert_eq!(args("x").socket(None), PathBuf::from("/run/fulcrum/dataplane.sock"));
        assert_eq!(args("x --instance b").socket(None), PathBuf::from("/run/fulcrum/dataplane-b.sock"));
        assert_eq!(args("x --instance b").socket(Some("/c".into())), PathBuf::from("/c"));
        assert_eq!(args("x --instance b --socket /a").socket(Some("/c".into())), PathBuf::from("/a"));
        let socket = Path::new("/run/a.sock");
        assert_eq!(args("x --instance b").file_prefix(None, socket), "fulcrum-b");
        assert_eq!(args("x --instance b").file_prefix(Some("c".into()), socket), "c");
        let prefix = args("x").file_prefix(None, socket);
        assert_eq!(prefix, args("x").file_prefix(None, socket));
        assert_ne!(prefix, args("x").file_prefix(None, Path::new("/run/b.sock")));
        assert!(Args::try_parse_from(["x", "--instance", "a/b"]).is_err());
        assert!(Args::try_parse_from(["x", "--watchdog", "0"]).is_err());
    }
}

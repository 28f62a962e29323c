//! The lab: real traffic through a real director in network namespaces of its own.
//!
//! A test makes a [`Lab`], connects namespaces ([`net`], [`topology`]), starts servers ([`server`]) and the
//! programs under test ([`director`]), sends traffic ([`client`]) and looks at captures ([`capture`]). Whatever was
//! made goes when its value is dropped, on a panic too; what a killed run left behind goes at the next start.
//! Failures are panics: everything here serves tests and the demo.

pub mod capture;
pub mod client;
pub mod director;
pub mod net;
pub mod process;
pub mod server;
pub mod topology;
mod turn;
pub mod ways;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use net::{Namespace, Switch};
use turn::Turn;

/// A name, a directory, and the turn to use the machine.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    directory: PathBuf,
    turn: Option<Turn>,
}

impl Lab {
    /// Waits for its turn and makes room. Namespaces and files are named after this process and `name`. The calling
    /// thread, and so all that it starts, keeps to the processors that go with the turn.
    pub fn new(name: &str) -> Lab {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(net::sweep);
        let turn = Turn::wait();
        let mut lab = Lab::named(format!("{}-{name}", std::process::id()));
        lab.turn = Some(turn);
        lab
    }

    /// A lab whose namespaces keep short names (`fulcrum-TAG-ROLE`); those of an earlier one are removed.
    pub fn named(tag: String) -> Lab {
        net::remove_tag(&tag);
        let directory = net::directory(&tag, "files");
        Lab { tag, directory, turn: None }
    }

    /// Where logs, captures, sockets and configurations of this lab are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A new namespace, without IPv6: the director's, where only the data plane may speak.
    pub fn namespace(&self, role: &str) -> Namespace {
        Namespace::new(&self.tag, role)
    }

    /// A new namespace that speaks IPv6 too.
    pub fn host(&self, role: &str) -> Namespace {
        let host = self.namespace(role);
        host.speak_ipv6();
        host
    }

    /// A new namespace that routes both families.
    pub fn router(&self, role: &str) -> Namespace {
        let router = self.host(role);
        router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        router
    }

    /// A new switch.
    pub fn switch(&self, role: &str) -> Switch {
        Switch::new(&self.tag, role)
    }

    /// Copies captures and logs to where they stay.
    pub fn keep(&self) -> Option<PathBuf> {
        let kept = Path::new(env!("FULCRUM_PROGRAMS")).join("labs").join(&self.tag);
        fs::create_dir_all(&kept).ok()?;
        let mut copy = std::process::Command::new("cp");
        copy.arg("-rT").arg(&self.directory).arg(&kept).status().ok()?;
        Some(kept)
    }

    /// Lets the next lab begin: from here on this one only waits for time-outs.
    pub fn rest(&mut self) {
        self.turn = None;
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, text) in logs(&self.directory) {
                eprintln!("--- {name}\n{text}");
            }
            if let Some(kept) = self.keep() {
                eprintln!("--- captures and logs are kept in {}", kept.display());
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The ends of all logs in a directory, by name.
fn logs(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut logs: Vec<(String, String)> = entries
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "log"))
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            (!end.is_empty()).then(|| (entry.file_name().to_string_lossy().into_owned(), end))
        })
        .collect();
    logs.sort();
    logs
}

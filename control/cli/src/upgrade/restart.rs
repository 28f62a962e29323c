//! The ways in which a process is started again.

use std::fmt;
use std::path::Path;

use fulcrum_api::control::Process;
use tokio::process::Command;

use crate::client::Client;
use crate::failure::Failure;

/// How a process is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By systemd, whose unit it is.
    Systemd(String),
    /// It is asked to end, and its supervisor starts it.
    Ask(Process),
    /// By a command of the operator's.
    Command(String),
    /// By somebody else, who is waited for.
    Elsewhere(&'static str),
}

impl Way {
    /// The way of a process that runs here with this number, unless the operator says otherwise.
    pub(super) fn of(process: Process, pid: Option<u64>) -> Way {
        let unit = pid
            .filter(|_| Path::new("/run/systemd/system").exists())
            .and_then(|pid| unit(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?));
        unit.map_or(Way::Ask(process), Way::Systemd)
    }

    /// Goes it; returns when the process has been told, which is not when it is back.
    pub(super) async fn go(&self, client: &mut Client) -> Result<(), Failure> {
        let mut command = match self {
            Way::Ask(process) => return ended(client.end(*process, false).await),
            Way::Elsewhere(_) => return Ok(()),
            Way::Systemd(unit) => {
                let mut command = Command::new("systemctl");
                command.args(["restart", unit]);
                command
            }
            Way::Command(words) => {
                let mut command = Command::new("sh");
                command.args(["-c", words]);
                command
            }
        };
        // What it prints belongs to the operator; standard output is the report's.
        let output = command.kill_on_drop(true).output().await;
        let output = output.map_err(|error| Failure::Invalid(format!("`{self}`: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::Invalid(format!("`{self}` failed ({}): {said}", output.status)))
    }
}

/// A process that ends may be gone before its answer is.
fn ended(answer: Result<(), Failure>) -> Result<(), Failure> {
    match answer {
        Err(Failure::Rpc(status)) if status.code() == tonic::Code::Unknown => Ok(()),
        answer => answer,
    }
}

/// The system unit that a process belongs to, by its control groups.
fn unit(cgroups: &str) -> Option<String> {
    let path = cgroups.lines().find_map(|line| {
        // Of all of them in the second version, or systemd's own in the first. // cgroups(7)
        let (_, rest) = line.split_once(':')?;
        rest.strip_prefix(':').or_else(|| rest.strip_prefix("name=systemd:"))
    })?;
    let unit = path.strip_prefix("/system.slice/")?.split('/').next()?;
    unit.ends_with(".service").then(|| unit.to_owned())
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Systemd(unit) => write!(f, "systemctl restart {unit}"),
            Way::Ask(Process::Control) => {
                f.write_str("ask fulcrum-control to end, so that its supervisor starts it again")
            }
            Way::Ask(_) => f.write_str("ask the data plane to end, so that its supervisor starts it again"),
            Way::Command(words) => f.write_str(words),
            Way::Elsewhere(name) => write!(f, "wait until somebody has started {name} again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_process_is_known_by_its_control_group() {
        for (cgroups, expected) in [
            ("0::/system.slice/fulcrum-dataplane.service\n", Some("fulcrum-dataplane.service")),
            ("0::/system.slice/fulcrum-dataplane.service/sub\n", Some("fulcrum-dataplane.service")),
            ("12:cpu:/\n1:name=systemd:/system.slice/own.service\n", Some("own.service")),
            ("0::/user.slice/user-0.slice/session-3.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(cgroups).as_deref(), expected, "{cgroups}");
        }
    }

    #[test]
    fn a_process_of_no_unit_is_asked() {
        assert_eq!(Way::of(Process::Dataplane, None), Way::Ask(Process::Dataplane));
    }
}

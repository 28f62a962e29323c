//! Real processes under measurement: Fulcrum's programs beside this one, in a folder of their own, and testpmd.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// After which there is something wrong.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a process may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where the programs are, and a folder for what they write, which goes when this does.
#[derive(Debug)]
pub(crate) struct Programs {
    programs: PathBuf,
    folder: PathBuf,
}

impl Programs {
    /// Finds them beside this program.
    pub(crate) fn find() -> io::Result<Programs> {
        let programs = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
        for program in ["fulcrum-dataplane", "fulcrum-control", "fulcrum"] {
            let path = programs.join(program);
            if !path.exists() {
                return Err(io::Error::other(format!("{} is not there: run `make build`", path.display())));
            }
        }
        let folder = std::env::temp_dir().join(format!("fulcrum-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Programs { programs, folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts data plane and control; returns when the data plane runs what `network` says.
    pub(crate) fn direct(&self, core: usize, network: &str) -> io::Result<[Running; 2]> {
        let configuration = self.folder.join("fulcrum.toml");
        let here = self.folder.display();
        let _ = fs::remove_file(self.folder.join("state.toml"));
        let text = format!(
            "[dataplane]\nlcores = \"{core}\"\nsessions = 262144\nsocket = \"{here}/dataplane.sock\"\n\n\
             [control]\nsocket = \"{here}/control.sock\"\nstate-file = \"{here}/state.toml\"\n\n{network}"
        );
        fs::write(&configuration, text)?;
        let start = |program: &str| {
            let mut command = Command::new(self.programs.join(program));
            command.arg("--config").arg(&configuration).stdin(Stdio::null());
            Running::start(command, &self.folder.join(program).with_extension("log"))
        };
        let running = [start("fulcrum-dataplane")?, start("fulcrum-control")?];
        self.wait_reconciled(0)?;
        Ok(running)
    }

    /// The command line, on this data plane's control.
    pub(crate) fn fulcrum(&self) -> Command {
        let mut command = Command::new(self.programs.join("fulcrum"));
        command.arg("--socket").arg(self.folder.join("control.sock"));
        command
    }

    /// `fulcrum status`.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.fulcrum().args(["--json", "status"]).stderr(Stdio::null()).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits until all workers run what is desired, of a generation after `before`; which one that is.
    pub(crate) fn wait_reconciled(&self, before: u64) -> io::Result<u64> {
        wait("the data plane was not reconciled", || {
            let status = self.status()?;
            let (link, dataplane) = (&status["link"], &status["dataplane"]);
            let acknowledged = dataplane["acknowledged"].as_u64()?;
            let all = link["in_sync"] == true && link["generation"] == acknowledged;
            (all && acknowledged > before).then_some(acknowledged)
        })
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits for something.
pub(crate) fn wait<T>(complaint: &str, mut what: impl FnMut() -> Option<T>) -> io::Result<T> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(found) = what() {
            return Ok(found);
        }
        sleep(Duration::from_millis(20));
    }
    Err(io::Error::other(format!("{complaint} within {} s", PATIENCE.as_secs())))
}

/// A process that ends with its owner.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it, with what it says in a file.
    pub(crate) fn start(mut command: Command, log: &Path) -> io::Result<Running> {
        let file = fs::File::create(log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("{} does not start: {error}", program.display())))?;
        Ok(Running { child, log: log.to_owned() })
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// CPU time of its so many busiest threads, in nanoseconds, that of the least busy of them first.
    pub(crate) fn busiest_threads(&self, count: usize) -> io::Result<Vec<u64>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()))?;
        let time = |task: fs::DirEntry| -> Option<u64> {
            fs::read_to_string(task.path().join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
        };
        let mut times: Vec<u64> = tasks.flatten().filter_map(time).collect();
        times.sort_unstable();
        match times.len().checked_sub(count) {
            Some(others) => Ok(times.split_off(others)),
            None => Err(io::Error::other("this kernel does not show the CPU time of threads")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            if !status.success() {
                let _ = writeln!(io::stderr(), "a program ended early ({status}): {}", self.said());
            }
            return;
        }
        let id = self.child.id().to_string();
        let asked = Command::new("kill").arg(&id).status().is_ok_and(|status| status.success());
        let begin = Instant::now();
        while asked && begin.elapsed() < FAREWELL {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

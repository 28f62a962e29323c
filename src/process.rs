//! Programs that run beside a test: started in a namespace with their output kept, ended with the value.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::net::Namespace;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command of [`Namespace::command`]; what it says goes to `log`, behind what is there already.
    #[track_caller]
    pub fn start(command: &mut Command, log: PathBuf) -> Process {
        let file =
            File::options().create(true).append(true).open(&log).expect("the lab's directory is writable");
        let again = file.try_clone().expect("a file can be had twice");
        let child = command.stdin(Stdio::piped()).stdout(file).stderr(again).spawn();
        Process { child: child.unwrap_or_else(|e| panic!("{command:?}: {e}")), log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said a line that is `text`.
    #[track_caller]
    pub fn wait_said(&self, text: &str, limit: Duration) {
        wait_for(&format!("a process that says `{text}`"), limit, || {
            self.log().lines().any(|line| line == text).then_some(())
        });
    }

    /// Sends a line to its standard input.
    pub fn say(&mut self, line: &str) {
        if let Some(stdin) = &mut self.child.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status();
    }

    /// Waits for its end, which must come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => return status,
                None if start.elapsed() > limit => {
                    panic!("still runs after {limit:?}; it said:\n{}", self.log())
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Asks it to end (SIGTERM) and waits for that.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(Duration::from_secs(10))
    }

    /// Ends it and the processes that it has started as a crash of all would (SIGKILL).
    pub fn kill_all(&mut self) {
        let children = children(self.id());
        self.kill();
        if !children.is_empty() {
            let _ = Command::new("kill").arg("-KILL").args(children).stderr(Stdio::null()).status();
        }
    }

    /// Ends it as a crash would (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that one has started.
fn children(id: u32) -> Vec<String> {
    let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    listed.split_whitespace().map(str::to_owned).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Calls `probe` until it gives something; panics with `what` when `limit` has passed.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that stands beside those under test: where cargo has put it.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("FULCRUM_PROGRAMS")).join(name);
    assert!(
        path.exists(),
        "{} is not there: build it first (`make build` or `cargo build --workspace`)",
        path.display()
    );
    path
}

/// Starts a server program and waits until something in the namespace listens on `port`.
#[track_caller]
pub fn wait_listening(inside: &Namespace, protocol: &str, port: u16) {
    wait_for(
        &format!("a {protocol} listener on port {port} in {}", inside.name()),
        Duration::from_secs(30),
        || {
            let flag = if protocol == "tcp" { "-Hltn" } else { "-Hlun" };
            let listing = inside.sh(&format!("ss {flag} 'sport = :{port}'"));
            (!listing.trim().is_empty()).then_some(())
        },
    );
}

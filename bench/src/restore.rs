//! `ipvsadm -R` of a large table, through the three programs, until the data plane runs it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::table::Lost;

const SERVICES: usize = 10_000;
const SERVERS: usize = 10;
/// After which there is something wrong.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const NAME: &str = "restore 10000-services";

/// How long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restore {
    /// From the start of `ipvsadm -R` to a data plane whose workers run all of it, in seconds of wall time.
    pub(crate) seconds: f64,
}

/// Starts data plane and control on `core` without a device, restores, and waits.
pub(crate) fn measure(core: usize) -> Result<Restore, Lost> {
    let programs = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let programs = programs.ok_or_else(|| Lost("this program does not know where it is".to_owned()))?;
    for program in ["fulcrum-dataplane", "fulcrum-control", "fulcrum"] {
        if !programs.join(program).exists() {
            return Err(Lost(format!("{} is not there: run `make build`", programs.join(program).display())));
        }
    }
    let folder = std::env::temp_dir().join(format!("fulcrum-bench-{}", std::process::id()));
    let told = in_folder(&programs, &folder, core);
    let _ = fs::remove_dir_all(&folder);
    told.map_err(|error| Lost(error.to_string()))
}

fn in_folder(programs: &Path, folder: &Path, core: usize) -> io::Result<Restore> {
    fs::create_dir_all(folder)?;
    let configuration = folder.join("fulcrum.toml");
    let here = folder.display();
    fs::write(
        &configuration,
        format!(
            r#"[dataplane]
lcores = "{core}"
idle = "adaptive"
sessions = 65536
socket = "{here}/dataplane.sock"

[control]
socket = "{here}/control.sock"
state-file = "{here}/state.toml"

[[port]]
name = "port"
device = "net_null0"

[[interface]]
name = "net"
port = "port"
addresses = ["10.0.0.1/8"]
"#
        ),
    )?;
    let rules = folder.join("rules");
    fs::write(&rules, table())?;

    let start = |program: &str| Running::start(&programs.join(program), &configuration, folder);
    let _dataplane = start("fulcrum-dataplane")?;
    let _control = start("fulcrum-control")?;
    let fulcrum = || {
        let mut command = Command::new(programs.join("fulcrum"));
        command.arg("--socket").arg(folder.join("control.sock"));
        command
    };
    let before = wait(|| reconciled(&mut fulcrum()))?;
    let begin = Instant::now();
    let restored =
        fulcrum().args(["ipvsadm", "-R"]).stdin(fs::File::open(&rules)?).stdout(Stdio::null()).status()?;
    if !restored.success() {
        return Err(io::Error::other(format!("ipvsadm -R: {restored}")));
    }
    wait(|| reconciled(&mut fulcrum()).filter(|generation| *generation > before))?;
    Ok(Restore { seconds: begin.elapsed().as_secs_f64() })
}

/// What `ipvsadm -S` would have written.
fn table() -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let vip = format!("10.2.{}.{}:80", service >> 8, service & 0xff);
        let _ = writeln!(text, "-A -t {vip} -s wlc");
        for server in 0..SERVERS {
            let number = service * SERVERS + server;
            let (a, b, c) = (number >> 16, number >> 8 & 0xff, number & 0xff);
            let _ = writeln!(text, "-a -t {vip} -r 10.{}.{b}.{c}:8080 -m -w 1", 16 + a);
        }
    }
    text
}

/// The generation that all workers run, when that is what is desired.
fn reconciled(fulcrum: &mut Command) -> Option<u64> {
    let output = fulcrum.args(["--json", "status"]).stderr(Stdio::null()).output().ok()?;
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    let (link, dataplane) = (&status["link"], &status["dataplane"]);
    let acknowledged = dataplane["acknowledged"].as_u64()?;
    (link["in_sync"] == true && link["generation"] == acknowledged && acknowledged > 0)
        .then_some(acknowledged)
}

fn wait<T>(mut what: impl FnMut() -> Option<T>) -> io::Result<T> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(found) = what() {
            return Ok(found);
        }
        sleep(Duration::from_millis(20));
    }
    Err(io::Error::other(format!("the data plane was not reconciled within {} s", PATIENCE.as_secs())))
}

/// A program that ends with its owner.
struct Running(Child, PathBuf);

impl Running {
    fn start(program: &Path, configuration: &Path, folder: &Path) -> io::Result<Running> {
        let log = folder.join(program.file_name().unwrap_or_default()).with_extension("log");
        let child = Command::new(program)
            .arg("--config")
            .arg(configuration)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        Ok(Running(child, log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(Some(status)) = self.0.try_wait() {
            let said = fs::read_to_string(&self.1).unwrap_or_default();
            let _ = writeln!(io::stderr(), "a program ended early ({status}): {said}");
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_size_and_no_server_twice() {
        let text = table();
        assert_eq!(text.lines().count(), SERVICES * (1 + SERVERS));
        let servers: std::collections::HashSet<_> =
            text.lines().filter_map(|line| line.split_once(" -r ")).map(|(_, server)| server).collect();
        assert_eq!(servers.len(), SERVICES * SERVERS);
    }
}

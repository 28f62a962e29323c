//! The programs under test: fulcrum-dataplane and fulcrum-control on a configuration of the test's, and the
//! command line that a person would type.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::net::{Namespace, run};
use crate::process::{Process, program, wait_for};
use crate::turn::processors;

/// How the data plane is set up; the rest of the configuration comes from the topology.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Worker lcores, counted among the processors that the lab has; too many begin with its first one again.
    pub lcores: &'static str,
    /// Bring every packet to the wrong worker first.
    pub misdirect: bool,
    /// `auto` or `off`.
    pub hugepages: &'static str,
    /// Sessions per worker.
    pub sessions: u32,
}

impl Setup {
    /// One worker.
    pub const ONE: Setup = Setup { lcores: "1", misdirect: false, hugepages: "off", sessions: 65536 };
    /// Two workers.
    pub const TWO: Setup = Setup { lcores: "0,1", ..Setup::ONE };
    /// More workers than processors, where there are no more than two.
    pub const THREE: Setup = Setup { lcores: "0,1,0", ..Setup::ONE };
    /// The same.
    pub const EIGHT: Setup = Setup { lcores: "0,1,0,1,0,1,0,1", ..Setup::ONE };
    /// Two workers, and no packet comes to the right one by itself.
    pub const MISDIRECTED: Setup = Setup { misdirect: true, ..Setup::TWO };

    /// The lcores by the machine's numbers.
    fn own_lcores(&self) -> String {
        let own = processors();
        let places = self.lcores.split(',').map(|lcore| lcore.parse::<usize>().expect("a list of numbers"));
        places.map(|place| own[place % own.len()].to_string()).collect::<Vec<_>>().join(",")
    }

    /// How many workers that are: round robin may be off by that much.
    pub fn workers(&self) -> usize {
        self.lcores.split(',').count()
    }
}

/// A director: both processes, their sockets and files.
#[derive(Debug)]
pub struct Director {
    inside: String,
    directory: PathBuf,
    dataplane: Option<Process>,
    control: Option<Process>,
}

impl Director {
    /// Writes the configuration and starts both processes in a namespace; returns when the data plane is programmed.
    #[track_caller]
    pub fn start(inside: &Namespace, lab: &Path, setup: &Setup, network: &str) -> Director {
        let Setup { misdirect, hugepages, sessions, .. } = setup;
        let lcores = setup.own_lcores();
        let here = lab.display();
        let configuration = format!(
            "[dataplane]
lcores = \"{lcores}\"
hugepages = \"{hugepages}\"
sessions = {sessions}
idle = \"adaptive\"
misdirect = {misdirect}
socket = \"{here}/dataplane.sock\"

[control]
socket = \"{here}/control.sock\"
state-file = \"{here}/state.toml\"
{network}"
        );
        fs::write(lab.join("fulcrum.toml"), configuration).expect("the lab's directory is writable");
        let (inside, directory) = (inside.name().to_owned(), lab.to_owned());
        let mut director = Director { inside, directory, dataplane: None, control: None };
        director.start_dataplane();
        director.start_control();
        director.wait_programmed(Duration::from_secs(30));
        director
    }

    /// Starts the data plane alone.
    #[track_caller]
    pub fn start_dataplane(&mut self) {
        self.dataplane = Some(self.start_program("fulcrum-dataplane", "dataplane.log"));
    }

    /// Starts control alone.
    #[track_caller]
    pub fn start_control(&mut self) {
        self.control = Some(self.start_program("fulcrum-control", "control.log"));
    }

    #[track_caller]
    fn start_program(&self, name: &str, log: &str) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.inside]).arg(program(name)).arg("--config").arg(self.config());
        Process::start(&mut command, self.directory.join(log))
    }

    /// Path of the configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.join("fulcrum.toml")
    }

    /// Path of the socket of the command line.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// Path of the data plane's socket.
    pub fn dataplane_socket(&self) -> PathBuf {
        self.directory.join("dataplane.sock")
    }

    /// The running data plane.
    pub fn dataplane(&mut self) -> &mut Process {
        self.dataplane.as_mut().expect("the data plane was started")
    }

    /// The running control.
    pub fn control(&mut self) -> &mut Process {
        self.control.as_mut().expect("control was started")
    }

    /// Has the data plane's workers stand back behind whoever else wants the processors: they look around all the time,
    /// and here they only wait for time-outs while the next lab has its turn. Its other threads answer as before.
    pub fn rest(&self) {
        let Some(dataplane) = &self.dataplane else { return };
        let threads = fs::read_dir(format!("/proc/{}/task", dataplane.id())).into_iter().flatten().flatten();
        let is_worker = |thread: &fs::DirEntry| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name.contains("-worker"))
        };
        let workers = threads.filter(is_worker).map(|thread| thread.file_name());
        let _ = Command::new("renice").args(["-n", "19", "-p"]).args(workers).output();
    }

    /// Ends both processes as a supervisor would and tells how they ended: data plane, control.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, ExitStatus) {
        let control = self.control().stop();
        (self.dataplane().stop(), control)
    }

    /// Runs `fulcrum ARGS…`, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn fulcrum(&self, arguments: &str) -> String {
        run(&mut self.command(arguments))
    }

    /// Runs `fulcrum ARGS…` whatever comes of it.
    pub fn try_fulcrum(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("fulcrum can be run")
    }

    /// Runs `ipvsadm ARGS…`, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn ipvsadm(&self, arguments: &str) -> String {
        self.fulcrum(&format!("ipvsadm {arguments}"))
    }

    /// Runs lines of ipvsadm commands, one after another.
    #[track_caller]
    pub fn ipvsadm_lines(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.ipvsadm(line);
        }
    }

    /// `fulcrum status --json`, `None` while control does not answer.
    pub fn status(&self) -> Option<Value> {
        let output = self.try_fulcrum("status --json");
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())
    }

    /// Whether every worker runs the desired state.
    pub fn is_programmed(&self) -> bool {
        self.status().is_some_and(|status| {
            let (link, dataplane) = (&status["link"], &status["dataplane"]);
            link["in_sync"] == true
                && dataplane["acknowledged"].as_u64() > Some(0)
                && dataplane["acknowledged"] == link["generation"]
        })
    }

    /// Waits until every worker runs the desired state and tells how long that took.
    #[track_caller]
    pub fn wait_programmed(&mut self, limit: Duration) -> Duration {
        let start = Instant::now();
        wait_for("a data plane with the desired state", limit, || {
            for (name, process) in
                [("fulcrum-dataplane", &mut self.dataplane), ("fulcrum-control", &mut self.control)]
            {
                if let Some(process) = process {
                    assert!(process.is_running(), "{name} has ended; it said:\n{}", process.log());
                }
            }
            self.is_programmed().then_some(())
        });
        start.elapsed()
    }

    /// Which life of a data plane control knows.
    pub fn life(&self) -> Option<Value> {
        Some(self.status()?["dataplane"]["instance"].clone())
    }

    /// Waits until another data plane than that of a life before runs the desired state.
    #[track_caller]
    pub fn wait_programmed_anew(&mut self, before: Option<Value>, limit: Duration) {
        wait_for("another data plane", limit, || self.life().filter(|life| Some(life) != before.as_ref()));
        self.wait_programmed(limit);
    }

    /// The session listing, one row each.
    #[track_caller]
    pub fn sessions(&self) -> Vec<Row> {
        self.fulcrum("ipvsadm -Lnc").lines().filter_map(Row::read).collect()
    }

    /// `ipvsadm -Ln` of all services and servers.
    #[track_caller]
    pub fn listing(&self) -> Vec<Counts> {
        read_rows(&self.fulcrum("ipvsadm -Ln"), 4)
    }

    /// `ipvsadm -Ln --stats --exact` of all services and servers.
    #[track_caller]
    pub fn stats(&self) -> Vec<Counts> {
        read_rows(&self.fulcrum("ipvsadm -Ln --stats --exact"), 5)
    }

    /// Frames that the director's ports and rings have lost.
    pub fn lost(&self) -> u64 {
        let status = self.status().expect("control answers");
        let ports = status["dataplane"]["ports"].as_array().expect("a list");
        let of_ports = ["rx_missed", "tx_dropped"]
            .iter()
            .flat_map(|field| ports.iter().map(|port| port[*field].as_u64().expect("a number")));
        let of_rings = ["handoff-full", "tx-full"].map(|reason| self.drops(reason));
        of_ports.chain(of_rings).sum()
    }

    /// The number of packets dropped for a reason.
    pub fn drops(&self, reason: &str) -> u64 {
        self.named(|status| &status["dataplane"]["drops"], reason)
    }

    /// The count of an event of the data plane.
    pub fn events(&self, event: &str) -> u64 {
        self.named(|status| &status["dataplane"]["events"], event)
    }

    fn named(&self, which: impl Fn(&Value) -> &Value, name: &str) -> u64 {
        let status = self.status().expect("control answers");
        let all = which(&status);
        let listed = all.as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
        listed.map_or(&all[name], |one| &one["count"]).as_u64().unwrap_or(0)
    }

    /// The command `fulcrum ARGS…`, towards this director.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(program("fulcrum"));
        command.env("FULCRUM_SOCKET", self.socket()).args(arguments.split_whitespace());
        command
    }
}

/// A line of `ipvsadm -Lnc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// TCP or UDP, IP for a template of a mark.
    pub protocol: String,
    /// Seconds until it ends.
    pub expires: u64,
    /// The state's name.
    pub state: String,
    /// Client, virtual and destination address with ports.
    pub source: String,
    /// Virtual address and port.
    pub virtual_: String,
    /// Server address and port.
    pub destination: String,
}

impl Row {
    fn read(line: &str) -> Option<Row> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (protocol, expires) = (words.next()?, words.next()?);
        let (minutes, seconds) = expires.split_once(':')?;
        Some(Row {
            protocol,
            expires: minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?,
            state: words.next()?,
            source: words.next()?,
            virtual_: words.next()?,
            destination: words.next()?,
        })
    }
}

/// A row of an ipvsadm listing: a service (`TCP 172.16.100.9:80`) or a server (`-> 192.168.20.7:8080`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// `TCP`, `UDP`, `SCTP`, `FWM` or `->`.
    pub kind: String,
    /// Address and port.
    pub address: String,
    /// The service's address that a server belongs to, its own for a service.
    pub service: String,
    /// Numbers in the order of the columns; of `-Ln`: weight, active, inactive (none for services).
    pub numbers: Vec<u64>,
}

fn read_rows(listing: &str, columns: usize) -> Vec<Counts> {
    let mut service = String::new();
    let mut rows = Vec::new();
    for line in listing.lines() {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(address)) = (words.next(), words.next()) else { continue };
        if !matches!(kind, "TCP" | "UDP" | "SCTP" | "FWM" | "->") || address.starts_with("RemoteAddress") {
            continue;
        }
        let words: Vec<&str> = words.collect();
        if kind != "->" {
            service = format!("{kind} {address}");
        }
        // The columns are at the end; before them stand words (scheduler and flags, or the way of forwarding).
        let start = words.len().saturating_sub(if kind != "->" && columns == 4 { 0 } else { columns });
        let numbers = words[start..].iter().filter_map(|word| word.parse().ok()).collect();
        rows.push(Counts {
            kind: kind.to_owned(),
            address: address.to_owned(),
            service: service.clone(),
            numbers,
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{Counts, Row, read_rows};

    #[test]
    fn listings_are_read() {
        let listing = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 wlc persistent 360
  -> 192.168.1.2:80               Masq    1      2          3         
";
        let service = "TCP 10.0.0.1:80".to_owned();
        assert_eq!(
            read_rows(listing, 4)[1],
            Counts { kind: "->".into(), address: "192.168.1.2:80".into(), service, numbers: vec![1, 2, 3] }
        );
        let row = Row::read("TCP 01:59  TIME_WAIT   10.0.0.9:3333      10.0.0.1:80        192.168.1.2:80");
        assert_eq!(row.map(|row| (row.expires, row.state)), Some((119, "TIME_WAIT".to_owned())));
        assert_eq!(
            Row::read("pro expire state       source             virtual            destination"),
            None
        );
    }
}

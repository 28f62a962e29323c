//! The end of a soak: what may be left, what may have grown, and what has to add up.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use fulcrum_e2e::process::wait_for;
use serde_json::Value;

use super::stage::{LONGEST, Stage};

/// Descriptors that probes and connections of the command line may have open at a time.
const PASSING_FILES: u64 = 4;
/// Memory by which a process may grow, in KiB: allocators keep some.
const GROWTH: u64 = 24 << 10;
/// Frames that devices may hold beyond those at the start: what is sent is taken back when more is sent.
const IN_DEVICES: u64 = 512;

/// What the processes have open, and how large they are.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    files: u64,
    memory: u64,
}

/// Looks at a process; the least of some looks, because what passes is no leak.
fn use_of(pid: u32) -> Use {
    let files = |_| {
        std::thread::sleep(Duration::from_millis(100));
        fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64)
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Use { files: (0..5).map(files).min().unwrap_or(0), memory: memory.unwrap_or(0) }
}

/// How it was before the trouble.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    frames_used: u64,
    control: Use,
    dataplane: Use,
    /// Descriptors at most.
    most: Use,
}

impl Baseline {
    /// Looks at a director at rest.
    pub(super) fn take(stage: &mut Stage) -> Baseline {
        let status = stage.director.status().expect("control answers");
        Baseline { frames_used: frames_used(&status), ..Baseline::default() }
    }

    /// Looks at a director that has work.
    pub(super) fn warm(&mut self, stage: &mut Stage) {
        self.control = use_of(stage.director.control().id());
        self.dataplane = use_of(stage.director.dataplane().id());
    }

    /// Looks whether both processes are well, in passing.
    pub(super) fn look(&mut self, stage: &mut Stage) {
        for (name, process) in [
            ("fulcrum-dataplane", stage.director.dataplane().is_running()),
            ("fulcrum-control", stage.director.control().is_running()),
        ] {
            assert!(process, "{name} has ended by itself");
        }
        self.most.memory = self.most.memory.max(use_of(stage.director.control().id()).memory);
    }
}

fn frames_used(status: &Value) -> u64 {
    let pools = status["dataplane"]["frames"].as_array().expect("a list of pools");
    pools.iter().map(|pool| number(&pool["frames"]) - number(&pool["free"])).sum()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn sum(list: &Value, field: &str) -> u64 {
    list.as_array().into_iter().flatten().map(|one| number(&one[field])).sum()
}

/// Counts by name.
fn counts(list: &Value) -> BTreeMap<&str, u64> {
    let named = list.as_array().into_iter().flatten();
    named.filter_map(|one| Some((one["name"].as_str()?, number(&one["count"])))).collect()
}

/// Rows of the report.
#[derive(Debug, Default)]
pub(super) struct Account {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    is: String,
    wanted: String,
    right: bool,
    explanations: Vec<String>,
}

impl Account {
    fn row(&mut self, what: &str, is: u64, wanted: String, right: bool) {
        let (what, is) = (what.to_owned(), is.to_string());
        self.rows.push(Row { what, is, wanted, right, explanations: Vec::new() });
    }

    /// A number that is right whatever it is.
    pub(super) fn tell(&mut self, what: &str, is: u64) {
        self.row(what, is, String::new(), true);
    }

    /// A number that has to be another one.
    pub(super) fn want(&mut self, what: &str, is: u64, wanted: u64) {
        self.row(what, is, wanted.to_string(), is == wanted);
    }

    fn at_most(&mut self, what: &str, is: u64, most: u64) {
        self.row(what, is, format!("at most {most}"), is <= most);
    }

    /// A line under the last row.
    pub(super) fn explain(&mut self, text: String) {
        if let Some(row) = self.rows.last_mut() {
            row.explanations.push(text);
        }
    }

    pub(super) fn breaches(&self) -> usize {
        self.rows.iter().filter(|row| !row.right).count()
    }

    pub(super) fn print(&self) {
        for Row { what, is, wanted, right, explanations } in &self.rows {
            let verdict = match (wanted.is_empty(), right) {
                (true, _) => String::new(),
                (_, true) => format!("ok ({wanted})"),
                (_, false) => format!("WRONG, should be {wanted}"),
            };
            println!("  {what:<62} {is:>9}  {verdict}");
            explanations.iter().for_each(|line| println!("      {line}"));
        }
    }

    /// Waits for sessions to end, then looks at what is left.
    pub(super) fn settle(&mut self, stage: &mut Stage, baseline: &Baseline) {
        let held =
            |stage: &Stage| stage.director.status().map(|s| sum(&s["dataplane"]["workers"], "sessions"));
        let (start, limit) = (Instant::now(), Duration::from_secs(LONGEST + 15));
        while held(stage) != Some(0) && start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(500));
        }
        let status = wait_for("fulcrum status", limit, || stage.director.status());
        let dataplane = &status["dataplane"];
        self.want("sessions of all workers", sum(&dataplane["workers"], "sessions"), 0);
        let listing = stage.director.listing();
        let of_servers =
            listing.iter().filter(|row| row.kind == "->").map(|row| row.numbers[1..].iter().sum::<u64>());
        self.want("active and inactive sessions of all servers", of_servers.sum(), 0);
        self.want("sessions with a local port", sum(&dataplane["local_pools"], "sessions"), 0);
        self.at_most("frames in use", frames_used(&status), baseline.frames_used + IN_DEVICES);
        self.processes(stage, baseline);
        self.counters(dataplane);
        self.want("states that differ", u64::from(!stage.director.is_programmed()), 0);
    }

    fn processes(&mut self, stage: &mut Stage, baseline: &Baseline) {
        let ids = [
            ("fulcrum-control", stage.director.control().id(), baseline.control),
            ("fulcrum-dataplane", stage.director.dataplane().id(), baseline.dataplane),
        ];
        for (name, pid, before) in ids {
            let now = use_of(pid);
            self.at_most(&format!("{name}: open files"), now.files, before.files + PASSING_FILES);
            self.at_most(&format!("{name}: resident KiB"), now.memory, before.memory + GROWTH);
        }
        self.at_most(
            "fulcrum-control: resident KiB at most",
            baseline.most.memory,
            baseline.control.memory + GROWTH,
        );
        let logs = [stage.director.dataplane().log(), stage.director.control().log()];
        let panics = logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains("panicked at"));
        self.want("panics in the logs", panics.count() as u64, 0);
    }

    /// What the last data plane counted, which has to add up.
    fn counters(&mut self, dataplane: &Value) {
        let (workers, ports) = (&dataplane["workers"], &dataplane["ports"]);
        let events = counts(&dataplane["events"]);
        let event = |name: &str| events.get(name).copied().unwrap_or(0);
        let made = event("session.created") + event("session.template");
        let ends = ["expired", "reused", "local-port-reclaimed", "reclaimed", "dropped", "one-packet"];
        let ended: u64 = ends.iter().map(|end| event(&format!("session.{end}"))).sum();
        self.want("sessions made, and sessions ended", ended, made);
        self.want(
            "packets that ports sent, and workers",
            sum(workers, "tx_packets"),
            sum(ports, "tx_packets"),
        );
        self.want(
            "packets that ports received, and workers",
            sum(workers, "rx_packets"),
            sum(ports, "rx_packets"),
        );
        let of = |starts: &[&str]| -> u64 {
            let fits = |name: &&str| starts.iter().any(|start| name.starts_with(start));
            events.iter().filter(|(name, _)| fits(name)).map(|(_, count)| count).sum()
        };
        // What a packet did is counted once; a question of a neighbour may both be answered and tell its address.
        let received = sum(workers, "rx_packets");
        let sent_on = of(&["forwarded.", "exception."]) - event("exception.sent");
        let dropped: u64 = counts(&dataplane["drops"]).values().sum();
        let answered = of(&["replied.", "neighbour.learned"]);
        self.tell("packets received", received);
        self.tell("packets forwarded", sent_on);
        self.tell("packets dropped, for a reason", dropped);
        for (reason, count) in counts(&dataplane["drops"]) {
            self.explain(format!("{reason} {count}"));
        }
        let lost = received.saturating_sub(sent_on + dropped + answered);
        self.want("packets received, and neither forwarded, dropped nor answered", lost, 0);
        self.want("packets of which more was done", (sent_on + dropped).saturating_sub(received), 0);
    }
}

//! Recorded cases: their file format, and the topology they were recorded on.
//!
//! A case begins with `case NAME: what it is about`; lines that begin with `#` are comments.
//! - `differs REASON`: the frames are not the kernel's but ours, on purpose.
//! - `datagrams`: what goes out is compared as the datagrams that its receivers put together from fragments.
//! - `set COMMAND` before the first frame, `do COMMAND` between frames: `ipvsadm …`, `sysctl -w …`, and for `set`
//!   also `mtu INTERFACE N`, `neighbour INTERFACE ADDRESS MAC`, `forget-neighbour INTERFACE ADDRESS`,
//!   `route PREFIX unreachable`, `route PREFIX interface NAME mtu N`, `iptables …` and `ip6tables …`.
//! - `refused COMMAND`: a command between frames that changes nothing because it is refused.
//! - `wait MILLISECONDS`: nothing comes for a while.
//! - `in PORT HEX`: a frame comes in. The `out PORT HEX [OFFSET+LENGTH]…` lines after it are all that goes out,
//!   in order; bytes in the ranges differ from run to run.
//! - `session PROTOCOL STATE SECONDS CLIENT VIP SERVER`: a session at the end, and the seconds it has left.
//! - `load SERVICE -> SERVER ACTIVE INACTIVE PERSISTENT`: how many sessions and templates a server counts at the end;
//!   a case says it of every server, or of none.
//! - `traffic SERVICE [-> SERVER] CONNECTIONS PACKETS-IN PACKETS-OUT BYTES-IN BYTES-OUT`: counters at the end;
//!   a service is `TCP 10.0.0.100:80` or `FWM 1`. Not compared where `datagrams` are.

use std::ops::Range;
use std::path::{Path, PathBuf};

use fulcrum_model::{Config, Route, RouteTarget, State};
use fulcrum_replay::setup::edits;

/// The ports in the order of their numbers.
pub(crate) const PORTS: [&str; 2] = ["wan", "lan"];

/// The director of the recordings.
const TOPOLOGY: &str = r#"
[[port]]
name = "wan"
device = "wan"
mac = "02:00:00:00:01:01"
[[port]]
name = "lan"
device = "lan"
mac = "02:00:00:00:02:01"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24", "10.0.0.100/32", "10.0.0.101/32", "2001:db8::1/64", "2001:db8::100/128"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["10.1.0.1/24", "2001:db8:1::1/64"]
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.254"
[[route]]
to = "172.16.0.0/24"
via = "10.1.0.254"
[[route]]
to = "::/0"
via = "2001:db8::fe"
[[route]]
to = "2001:db8:16::/64"
via = "2001:db8:1::fe"
"#;

/// Everybody on the two links: interface, address, last byte of the MAC address.
const NEIGHBOURS: [(&str, &str, u8); 18] = [
    ("wan", "10.0.0.2", 0x02),
    ("wan", "10.0.0.3", 0x03),
    ("wan", "10.0.0.4", 0x04),
    ("wan", "10.0.0.254", 0xfe),
    ("wan", "10.0.0.11", 0x0b),
    ("wan", "10.0.0.12", 0x0c),
    ("wan", "2001:db8::2", 0x02),
    ("wan", "2001:db8::3", 0x03),
    ("wan", "2001:db8::fe", 0xfe),
    ("wan", "2001:db8::b", 0x0b),
    ("lan", "10.1.0.11", 0x0b),
    ("lan", "10.1.0.12", 0x0c),
    ("lan", "10.1.0.13", 0x0d),
    ("lan", "10.1.0.254", 0xfe),
    ("lan", "10.1.0.50", 0x50),
    ("lan", "2001:db8:1::b", 0x0b),
    ("lan", "2001:db8:1::c", 0x0c),
    ("lan", "2001:db8:1::fe", 0xfe),
];

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Whether frames are compared as datagrams, after reassembly.
    pub(crate) datagrams: bool,
    /// Commands before the first frame, in ipvsadm's grammar or sysctl's.
    pub(crate) setup: Vec<String>,
    /// The state that those commands are applied on.
    pub(crate) state: State,
    pub(crate) steps: Vec<Step>,
    /// In the order of the file; compared as sets.
    pub(crate) sessions: Vec<SessionLine>,
    pub(crate) load: Vec<String>,
    pub(crate) traffic: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Step {
    Do(String),
    Refused(String),
    Wait { milliseconds: u64 },
    Frame { port: u16, bytes: Vec<u8>, out: Vec<Expected> },
}

#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) port: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) masks: Vec<Range<usize>>,
}

/// A session; `left` is in seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionLine {
    pub(crate) text: String,
    pub(crate) left: u64,
}

impl Expected {
    /// Whether `bytes` are what is expected, masked ones aside.
    pub(crate) fn fits(&self, port: u16, bytes: &[u8]) -> bool {
        self.port == port && self.bytes.len() == bytes.len() && self.differences(bytes).is_empty()
    }

    /// The offsets at which unmasked bytes differ.
    pub(crate) fn differences(&self, bytes: &[u8]) -> Vec<usize> {
        let masked = |at: &usize| self.masks.iter().any(|mask| mask.contains(at));
        let both = self.bytes.iter().zip(bytes).enumerate();
        both.filter(|(at, (a, b))| a != b && !masked(at)).map(|(at, _)| at).collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

/// The names of all files of cases.
pub(crate) fn files() -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()
    };
    std::fs::read_dir(folder()).unwrap().map(name).collect()
}

/// The cases of one file under `tests/cases`.
pub(crate) fn load(file: &str) -> Vec<Case> {
    read(&folder().join(format!("{file}.case")))
}

pub(crate) fn read(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        let place = || format!("{}:{number}: `{line}`", path.display());
        if keyword == "case" {
            let (name, about) =
                rest.split_once(": ").unwrap_or_else(|| panic!("{}: no description", place()));
            cases.push(Case::new(name, about));
            continue;
        }
        let case = cases.last_mut().unwrap_or_else(|| panic!("{}: before the first case", place()));
        case.take(keyword, rest).unwrap_or_else(|| panic!("{}: not understood", place()));
    }
    cases
}

impl Case {
    fn new(name: &str, about: &str) -> Case {
        let mut state = Config::parse("topology", TOPOLOGY).unwrap().state;
        let neighbour = |(interface, address, mac): &(&str, &str, u8)| fulcrum_model::Neighbour {
            address: address.parse().unwrap(),
            mac: fulcrum_model::Mac([2, 0, 0, 0, if *interface == "wan" { 1 } else { 2 }, *mac]),
            interface: (*interface).to_owned(),
        };
        state.neighbours = NEIGHBOURS.iter().map(neighbour).collect();
        Case {
            name: name.to_owned(),
            about: about.to_owned(),
            datagrams: false,
            setup: Vec::new(),
            state,
            steps: Vec::new(),
            sessions: Vec::new(),
            load: Vec::new(),
            traffic: Vec::new(),
        }
    }

    fn take(&mut self, keyword: &str, rest: &str) -> Option<()> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match keyword {
            "set" => self.set(rest, &words)?,
            "differs" => return (!rest.is_empty()).then_some(()),
            "datagrams" => self.datagrams = true,
            "do" => self.steps.push(Step::Do(rest.to_owned())),
            "refused" => self.steps.push(Step::Refused(rest.to_owned())),
            "wait" => self.steps.push(Step::Wait { milliseconds: rest.parse().ok()? }),
            "in" => {
                let [port, frame] = words[..] else { return None };
                let step = Step::Frame { port: port_number(port)?, bytes: hex(frame)?, out: Vec::new() };
                self.steps.push(step);
            }
            "out" => {
                let [port, frame, ref masks @ ..] = words[..] else { return None };
                let masks = masks.iter().map(|mask| range(mask)).collect::<Option<_>>()?;
                let expected = Expected { port: port_number(port)?, bytes: hex(frame)?, masks };
                let Some(Step::Frame { out, .. }) = self.steps.last_mut() else { return None };
                out.push(expected);
            }
            "session" => {
                let [protocol, state, left, client, vip, server] = words[..] else { return None };
                let text = format!("{protocol} {state} {client} {vip} {server}");
                self.sessions.push(SessionLine { text, left: left.parse().ok()? });
            }
            "load" => self.load.push(rest.to_owned()),
            "traffic" => self.traffic.push(rest.to_owned()),
            _ => return None,
        }
        Some(())
    }

    fn set(&mut self, command: &str, words: &[&str]) -> Option<()> {
        match words {
            ["ipvsadm" | "sysctl" | "iptables" | "ip6tables", ..] => self.setup.push(command.to_owned()),
            ["mtu", interface, mtu] => {
                self.state.interfaces.iter_mut().find(|i| i.name == *interface)?.mtu = mtu.parse().ok()?;
            }
            ["neighbour", interface, address, mac] => self.state.neighbours.push(fulcrum_model::Neighbour {
                address: address.parse().ok()?,
                mac: mac.parse().ok()?,
                interface: (*interface).to_owned(),
            }),
            ["forget-neighbour", interface, address] => {
                let address: std::net::IpAddr = address.parse().ok()?;
                self.state.neighbours.retain(|n| n.interface != *interface || n.address != address);
            }
            ["route", to, "unreachable"] => {
                let target = RouteTarget::Unreachable;
                self.state.routes.push(Route { to: to.parse().ok()?, target, mtu: None });
            }
            ["route", to, "interface", name, "mtu", mtu] => {
                let target = RouteTarget::Interface((*name).to_owned());
                self.state.routes.push(Route { to: to.parse().ok()?, target, mtu: Some(mtu.parse().ok()?) });
            }
            _ => return None,
        }
        Some(())
    }
}

/// What a command changes.
pub(crate) fn command(text: &str, state: &State) -> Result<Vec<fulcrum_model::Edit>, String> {
    edits(text, state)
}

fn port_number(name: &str) -> Option<u16> {
    PORTS.iter().position(|port| *port == name).and_then(|at| u16::try_from(at).ok())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}

fn range(text: &str) -> Option<Range<usize>> {
    let (offset, length) = text.split_once('+')?;
    let offset: usize = offset.parse().ok()?;
    Some(offset..offset + length.parse::<usize>().ok()?)
}

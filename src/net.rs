//! Network namespaces and what connects them: veth pairs, bridges, addresses.
//!
//! Everything is done with `ip`, `sysctl` and `ethtool` as a person would; nothing outside the namespaces made
//! here is touched. A namespace goes when its value is dropped, with every process left in it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Every namespace and directory of ours begins with it.
const PREFIX: &str = "fulcrum-";

/// The IPv6 address that goes with an IPv4 address: `fd00:20::7` with `192.168.20.7`.
#[track_caller]
pub fn twin(address: &str) -> Ipv6Addr {
    let octets: Vec<&str> = address.split('.').collect();
    format!("fd00:{}::{}", octets[2], octets[3]).parse().unwrap_or_else(|_| panic!("{address} has no twin"))
}

/// In which family a lab is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// With the addresses as they are written.
    V4,
    /// With their twins.
    V6,
}

impl Family {
    /// An address of this family.
    #[track_caller]
    pub fn address(self, address: &str) -> IpAddr {
        match self {
            Family::V4 => address.parse().unwrap_or_else(|_| panic!("{address} is no address")),
            Family::V6 => twin(address).into(),
        }
    }

    /// An address as it stands in a URL, or before a port.
    #[track_caller]
    pub fn host(self, address: &str) -> String {
        match self {
            Family::V4 => address.to_owned(),
            Family::V6 => format!("[{}]", twin(address)),
        }
    }

    /// ipvsadm's lines with their addresses in this family.
    pub fn words(self, text: &str) -> String {
        let lines = text.lines().map(|line| {
            let (mut before, mut service_port) = ("", "");
            let words = line.split_whitespace().map(|word| {
                let option = std::mem::replace(&mut before, word);
                let (address, port) = word.split_at(word.find(':').unwrap_or(word.len()));
                if self == Family::V4 || address.parse::<Ipv4Addr>().is_err() {
                    return word.to_owned();
                }
                match option {
                    "-z" => twin(address).to_string(),
                    // ipvsadm takes no IPv6 address without a port here.
                    "-r" if port.is_empty() => self.host(address) + service_port,
                    _ => {
                        service_port = port;
                        self.host(address) + port
                    }
                }
            });
            words.collect::<Vec<_>>().join(" ")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A network namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `fulcrum-TAG-ROLE`, with loopback up and without IPv6.
    pub fn new(tag: &str, role: &str) -> Namespace {
        let name = format!("{PREFIX}{tag}-{role}");
        run(Command::new("ip").args(["netns", "add", &name]));
        let made = Namespace { name };
        made.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip link set lo up");
        made
    }

    /// Lets the namespace speak IPv6 on devices that it gets from now on: at once, and without noise in captures.
    pub fn speak_ipv6(&self) {
        let settings = ["accept_dad", "dad_transmits", "router_solicitations", "accept_ra", "disable_ipv6"];
        let settings: Vec<String> =
            settings.iter().map(|name| format!("net.ipv6.conf.default.{name}=0")).collect();
        self.sh(&format!(
            "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0 {}",
            settings.join(" ")
        ));
    }

    /// Gives a device an IPv4 address of a /24 and its twin.
    #[track_caller]
    pub fn give(&self, device: &str, address: &str) {
        self.sh(&format!(
            "ip addr add {address}/24 dev {device}
             ip addr add {}/64 dev {device} nodad",
            twin(address)
        ));
    }

    /// Adds a route to a /24, `default` or the like, and its twin; `options` go to both.
    #[track_caller]
    pub fn route(&self, to: &str, via: &str, options: &str) {
        let to6 =
            to.strip_suffix(".0/24").map_or(to.to_owned(), |net| format!("{}/64", twin(&format!("{net}.0"))));
        self.sh(&format!(
            "ip route add {to} via {via} {options}
             ip -6 route add {to6} via {} {options}",
            twin(via)
        ));
    }

    /// The namespace's name, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs a shell script inside, every line of which must succeed, and returns what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        run(self.command("sh").args(["-euc", script]))
    }

    /// Runs a shell script inside and returns its outcome, whatever it is.
    pub fn try_sh(&self, script: &str) -> Output {
        self.command("sh").args(["-uc", script]).stdin(Stdio::null()).output().expect("ip can be run")
    }

    /// Frames that its devices have lost, as the kernel counts them.
    pub fn lost(&self) -> u64 {
        let counts = self.try_sh("cat /sys/class/net/*/statistics/*_dropped");
        let counts = String::from_utf8_lossy(&counts.stdout);
        counts.lines().filter_map(|count| count.trim().parse::<u64>().ok()).sum()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove_namespace(&self.name);
    }
}

/// Connects two namespaces by a veth pair, both ends up.
///
/// The ends hand each other complete frames of the size that goes over a wire: no checksum left to a device,
/// no segments joined.
#[track_caller]
pub fn link(a: &Namespace, a_device: &str, b: &Namespace, b_device: &str) {
    run(Command::new("ip").args(["link", "add", a_device, "netns", a.name(), "type", "veth"]).args([
        "peer",
        "name",
        b_device,
        "netns",
        b.name(),
    ]));
    for (end, device) in [(a, a_device), (b, b_device)] {
        end.sh(&format!("ip link set {device} up"));
        plain_frames(end, device);
    }
}

/// Switches off what makes a device's frames differ from those on a wire.
#[track_caller]
pub fn plain_frames(end: &Namespace, device: &str) {
    end.sh(&format!("ethtool -K {device} tx off gso off tso off gro off >/dev/null"));
}

/// A switch: a namespace with a bridge, to which other namespaces connect.
#[derive(Debug)]
pub struct Switch {
    inner: Namespace,
    /// Namespaces at its ports, in their order.
    ends: Vec<String>,
}

impl Switch {
    /// Makes the switch.
    pub fn new(tag: &str, role: &str) -> Switch {
        let inner = Namespace::new(tag, role);
        inner.sh("ip link add br0 type bridge mcast_snooping 0
            ip link set br0 up");
        Switch { inner, ends: Vec::new() }
    }

    /// Connects a namespace's new device to the switch.
    #[track_caller]
    pub fn attach(&mut self, end: &Namespace, device: &str) {
        self.ends.push(end.name().to_owned());
        let port = format!("p{}", self.ends.len());
        link(&self.inner, &port, end, device);
        self.inner.sh(&format!("ip link set {port} master br0"));
    }

    /// Pulls a namespace's cable out, or puts it back; nothing happens when it is not connected here.
    pub fn set_link(&self, end: &Namespace, up: bool) {
        let word = if up { "up" } else { "down" };
        for (number, name) in (1..).zip(&self.ends) {
            if name == end.name() {
                self.inner.sh(&format!("ip link set p{number} {word}"));
            }
        }
    }

    /// The same for a single cable, by its number: the first one connected is 1.
    pub fn set_port(&self, number: usize, up: bool) {
        self.inner.sh(&format!("ip link set p{number} {}", if up { "up" } else { "down" }));
    }

    /// Frames that its ports have lost.
    pub fn lost(&self) -> u64 {
        self.inner.lost()
    }
}

/// Runs a command that must succeed and returns what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Removes what killed runs have left behind: namespaces and directories named after a process that is gone.
pub fn sweep() {
    let gone = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| {
            pid.bytes().all(|b| b.is_ascii_digit()) && !Path::new("/proc").join(pid).exists()
        })
    };
    remove_all(&gone);
}

/// Removes everything of one tag.
pub fn remove_tag(tag: &str) {
    let start = format!("{PREFIX}{tag}-");
    remove_all(&|name| name.starts_with(&start));
}

fn remove_all(which: &dyn Fn(&str) -> bool) {
    for name in names_in("/run/netns").filter(|name| which(name)) {
        remove_namespace(&name);
    }
    for name in names_in(&std::env::temp_dir()).filter(|name| which(name)) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

fn names_in(directory: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// The directory for a tag's files; its name ends the way [`remove_tag`] and [`sweep`] expect.
pub fn directory(tag: &str, name: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("{PREFIX}{tag}-{name}"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    directory
}

fn remove_namespace(name: &str) {
    let quiet = |args: &[&str]| Command::new("ip").args(args).stderr(Stdio::null()).output();
    if let Ok(output) = quiet(&["netns", "pids", name]) {
        for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
    }
    let _ = quiet(&["netns", "del", name]);
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn commands_are_said_in_either_family() {
        let text = "-a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m\n-P -t 172.16.100.9:80 -z 192.168.20.200\n-a -t 192.168.0.210:80 -r 192.168.0.221 -g";
        assert_eq!(Family::V4.words(text), text);
        assert_eq!(
            Family::V6.words(text),
            "-a -t [fd00:100::9]:80 -r [fd00:20::7]:8080 -m\n-P -t [fd00:100::9]:80 -z fd00:20::200\n-a -t [fd00::210]:80 -r [fd00::221]:80 -g"
        );
    }
}

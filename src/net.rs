//! Network namespaces and what connects them: veth pairs, bridges, addresses.
//!
//! Everything is done with `ip`, `sysctl` and `ethtool` as a person would; nothing outside the namespaces made
//! here is touched. A namespace goes when its value is dropped, with every process left in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Every namespace and directory of ours begins with it.
const PREFIX: &str = "fulcrum-";

/// A network namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `fulcrum-TAG-ROLE`, with loopback up and without IPv6 (whose router solicitations
    /// would be noise in captures).
    pub fn new(tag: &str, role: &str) -> Namespace {
        let name = format!("{PREFIX}{tag}-{role}");
        run(Command::new("ip").args(["netns", "add", &name]));
        let made = Namespace { name };
        made.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
            ip link set lo up");
        made
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
    ports: usize,
}

impl Switch {
    /// Makes the switch.
    pub fn new(tag: &str, role: &str) -> Switch {
        let inner = Namespace::new(tag, role);
        inner.sh("ip link add br0 type bridge mcast_snooping 0
            ip link set br0 up");
        Switch { inner, ports: 0 }
    }

    /// Connects a namespace's new device to the switch.
    #[track_caller]
    pub fn attach(&mut self, end: &Namespace, device: &str) {
        self.ports += 1;
        let port = format!("p{}", self.ports);
        link(&self.inner, &port, end, device);
        self.inner.sh(&format!("ip link set {port} master br0"));
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

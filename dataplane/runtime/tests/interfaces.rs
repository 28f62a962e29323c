//! Linux interfaces under a data plane: veth pairs in network namespaces of the tests' own. Needs root.

mod common;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, lcore, other_lcore};
use nix::sched::{CloneFlags, setns};

/// Two namespaces, `director` and `client`, with a veth pair between them: `wan` at the director.
struct Pair {
    director: String,
    client: String,
}

impl Pair {
    /// `None`, said aloud, without root: nothing can be tested then.
    fn new() -> Option<Pair> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: network namespaces need root");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = |role| format!("fulcrum-{}-{number}-{role}", std::process::id());
        let pair = Pair { director: name("d"), client: name("c") };
        for namespace in [&pair.director, &pair.client] {
            run("ip", &["netns", "add", namespace]);
        }
        run(
            "ip",
            &[
                "link",
                "add",
                "wan",
                "netns",
                &pair.director,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &pair.client,
            ],
        );
        run("ip", &["-n", &pair.client, "addr", "add", "10.0.0.50/24", "dev", "eth0"]);
        run("ip", &["-n", &pair.client, "link", "set", "eth0", "up"]);
        Some(pair)
    }

    fn in_director(&self, program: &str, arguments: &[&str]) -> String {
        run("ip", &[&["netns", "exec", &self.director, program], arguments].concat())
    }

    fn in_client(&self, program: &str, arguments: &[&str]) -> String {
        run("ip", &[&["netns", "exec", &self.client, program], arguments].concat())
    }

    /// Whether the director answers the client.
    fn is_refused_by(&self, address: &str) -> bool {
        is_refused(&self.client, address)
    }

    /// What of the interface a data plane may change.
    fn looks(&self) -> Vec<String> {
        let link = self.in_director("ip", &["-d", "link", "show", "dev", "wan"]);
        let flags = link.split(['<', '>']).nth(1).unwrap().to_owned();
        let xdp = link.contains("prog/xdp").to_string();
        let offloads = self.in_director("ethtool", &["-k", "wan"]);
        let offload =
            |name: &str| offloads.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        vec![flags, xdp, offload("generic-receive-offload"), self.in_director("nft", &["list", "ruleset"])]
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.director, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

#[test]
fn a_tap_wakes_a_lone_worker_that_sleeps_until_then() {
    let Some(pair) = Pair::new() else { return };
    let place = Place::new(
        &lcore().to_string(),
        "[[port]]\nname = \"wan\"\ndevice = \"net_tap0,iface=tap0\"\n\
         [[interface]]\nname = \"wan\"\nport = \"wan\"\naddresses = [\"10.0.1.1/24\"]\n",
    );
    let running = place.start(Some(&pair.director), &[]);
    running.program(1, &place.state());
    pair.in_director("ip", &["addr", "add", "10.0.1.2/24", "dev", "tap0"]);
    pair.in_director("ip", &["link", "set", "tap0", "up"]);
    let deadline = Instant::now() + PATIENCE;
    while running.status().workers[0].asleep < 0.9 {
        assert!(Instant::now() < deadline, "{:?}", running.status().workers);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(is_refused(&pair.director, "10.0.1.1"));
    let log = running.stop();
    assert!(log.contains("the ports' interrupts wake the worker"), "{log}");
}

/// No thread may do more than give interfaces back, or gain anything by executing a program.
#[track_caller]
fn has_given_up_its_privileges(pid: i32) {
    let threads: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path()).collect();
    // The one that serves, workers, and DPDK's own.
    assert!(threads.len() >= 3, "{threads:?}");
    for thread in threads {
        let status = fs::read_to_string(thread.join("status")).unwrap();
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000001000",
            "CapEff:\t0000000000001000",
            "CapBnd:\t0000000000001000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.lines().any(|said| said == line), "no {line} in\n{status}");
        }
    }
}

/// Sends datagrams to a port where nothing listens until the refusal comes back: ARP and ICMP of the director.
fn is_refused(namespace: &str, address: &str) -> bool {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let address = format!("{address}:9");
    thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let _ = socket.send(&[0; 100]);
            if socket.recv(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                return true;
            }
        }
        false
    })
    .join()
    .unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn place(lcores: &str, device: &str) -> Place {
    Place::new(
        lcores,
        &format!(
            r#"
[[port]]
name = "wan"
device = "{device}"
mac = "02:00:00:00:01:01"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24"]
"#
        ),
    )
}

const AF_PACKET: &str = "net_af_packet0,iface=wan,qpairs=2,blocksz=32768,framesz=2048,framecnt=512";

#[test]
fn an_interface_is_driven_by_af_xdp_and_given_back_as_it_was() {
    let Some(pair) = Pair::new() else { return };
    pair.in_director("ethtool", &["-K", "wan", "gro", "on"]);
    let before = pair.looks();
    assert!(before[2].ends_with("on"), "{before:?}");
    let place = place(&lcore().to_string(), "wan");
    let running = place.start(Some(&pair.director), &[]);
    running.program(1, &place.state());
    let status = running.status();
    assert_eq!(status.ports[0].driver, "net_af_xdp");
    let during = pair.looks();
    assert!(during[0].contains("UP") && !before[0].contains("UP"), "{before:?} {during:?}");
    assert!(during[0].contains("ALLMULTI") && !before[0].contains("ALLMULTI"), "{before:?} {during:?}");
    assert_eq!(during[1], "true");
    has_given_up_its_privileges(running.pid());
    let notes = status.ports[0].notes.join("\n");
    for note in
        ["wan was down: brought up", "switched off on wan: rx-gro", "checksums", "keeps its MAC address"]
    {
        assert!(notes.contains(note), "{note}:\n{notes}");
    }
    assert!(pair.is_refused_by("10.0.0.1"));
    assert!(status.ports[0].link);
    pair.in_client("ip", &["link", "set", "eth0", "down"]);
    assert!(!running.status().ports[0].link);
    pair.in_client("ip", &["link", "set", "eth0", "up"]);
    assert!(pair.is_refused_by("10.0.0.1"), "all goes on when the link is back");
    running.stop();
    assert_eq!(pair.looks(), before);
}

#[test]
fn an_interface_is_driven_by_af_packet_and_the_kernel_is_kept_out() {
    let Some(pair) = Pair::new() else { return };
    // The kernel has the same address and would answer first, with its own MAC address.
    pair.in_director("ip", &["addr", "add", "10.0.0.1/24", "dev", "wan"]);
    pair.in_director("ip", &["link", "set", "wan", "up"]);
    let before = pair.looks();
    let lcores =
        if lcore() == other_lcore() { lcore().to_string() } else { format!("{},{}", lcore(), other_lcore()) };
    let place = place(&lcores, AF_PACKET);
    let running = place.start(Some(&pair.director), &[]);
    running.program(1, &place.state());
    assert_eq!(running.status().ports[0].driver, "net_af_packet");
    has_given_up_its_privileges(running.pid());
    let during = pair.looks();
    assert!(during[0].contains("ALLMULTI"), "{during:?}");
    assert!(during[3].contains("table netdev fulcrum-wan"));
    // The mute has no protocol in it: the kernel's own IPv6 address is as silent.
    pair.in_director("sysctl", &["-qw", "net.ipv6.conf.wan.accept_dad=0"]);
    pair.in_director("ip", &["addr", "add", "fd00::1/64", "dev", "wan"]);
    pair.in_client("ip", &["addr", "add", "fd00::50/64", "dev", "eth0", "nodad"]);
    let ping = ["netns", "exec", &pair.client, "ping", "-c", "2", "-i", "0.2", "-W", "1", "fd00::1"];
    assert!(!Command::new("ip").args(ping).output().unwrap().status.success(), "the kernel answered");
    pair.in_director("ip", &["addr", "del", "fd00::1/64", "dev", "wan"]);
    assert!(pair.is_refused_by("10.0.0.1"));
    let neighbours = pair.in_client("ip", &["neigh", "show", "10.0.0.1"]);
    assert!(neighbours.contains("02:00:00:00:01:01"), "the director answered, not the kernel: {neighbours}");
    running.stop();
    assert_eq!(pair.looks(), before);
}

#[test]
fn what_a_killed_data_plane_left_behind_is_put_right_by_the_next() {
    let Some(pair) = Pair::new() else { return };
    pair.in_director("ethtool", &["-K", "wan", "gro", "on"]);
    let before = pair.looks();
    for device in ["wan", AF_PACKET] {
        let place = place(&lcore().to_string(), device);
        place.start(Some(&pair.director), &[]).kill();
        assert_ne!(pair.looks(), before, "{device}");
        assert!(place.path("dataplane.sock.taken").exists());
        let running = place.start(Some(&pair.director), &[]);
        running.program(1, &place.state());
        assert!(pair.is_refused_by("10.0.0.1"), "{device}");
        let log = running.stop();
        assert!(log.contains("wan: left as it was by a data plane that was killed; put right"), "{log}");
        assert_eq!(pair.looks(), before, "{device}");
        assert!(!place.path("dataplane.sock.taken").exists());
    }
}

#[test]
fn af_packet_steps_in_where_af_xdp_is_not_to_be_had() {
    let Some(pair) = Pair::new() else { return };
    pair.in_director("ip", &["link", "set", "wan", "mtu", "4000"]);
    pair.in_client("ip", &["link", "set", "eth0", "mtu", "4000"]);
    let place = place(&lcore().to_string(), "wan");
    let running = place.start(Some(&pair.director), &[]);
    running.program(1, &place.state());
    let port = &running.status().ports[0];
    assert_eq!(port.driver, "net_af_packet");
    assert!(port.notes[0].contains("its MTU 4000 is too large"), "{:?}", port.notes);
    assert!(pair.is_refused_by("10.0.0.1"));
    running.stop();
}

#[test]
fn an_interface_has_one_data_plane_at_a_time() {
    let Some(pair) = Pair::new() else { return };
    let place = place(&lcore().to_string(), "wan");
    let running = place.start(Some(&pair.director), &[]);
    running.program(1, &place.state());
    let during = pair.looks();
    for device in ["wan", AF_PACKET] {
        let said = self::place(&lcore().to_string(), device).refused(Some(&pair.director), &[]);
        assert!(said.contains("port wan: wan could not be prepared: another data plane drives it"), "{said}");
        assert_eq!(pair.looks(), during);
    }
    assert!(pair.is_refused_by("10.0.0.1"));
    running.stop();
}

#[test]
fn the_way_out_of_the_host_is_not_taken() {
    let Some(pair) = Pair::new() else { return };
    pair.in_director("ip", &["addr", "add", "10.0.0.1/24", "dev", "wan"]);
    pair.in_director("ip", &["link", "set", "wan", "up"]);
    pair.in_director("ip", &["route", "add", "default", "via", "10.0.0.50"]);
    let before = pair.looks();
    for device in ["wan", AF_PACKET] {
        let said = place(&lcore().to_string(), device).refused(Some(&pair.director), &[]);
        assert!(said.contains("wan leads out of this host"), "{said}");
        assert_eq!(pair.looks(), before);
    }
}

#[test]
fn a_port_that_fails_leaves_the_others_as_they_were() {
    let Some(pair) = Pair::new() else { return };
    let before = pair.looks();
    let place = Place::new(
        &lcore().to_string(),
        "[[port]]\nname = \"a\"\ndevice = \"wan\"\n[[port]]\nname = \"b\"\ndevice = \"net_pcap0,rx_pcap=/nonsense\"\n",
    );
    let said = place.refused(Some(&pair.director), &[]);
    assert!(said.contains("port b"), "{said}");
    assert_eq!(pair.looks(), before);
    assert!(!place.path("dataplane.sock.taken").exists());
}

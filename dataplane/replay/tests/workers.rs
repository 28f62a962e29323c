//! Edits under running sessions, with several workers: whichever worker has a session, its packets find it.

use std::net::Ipv4Addr;

use fulcrum_director::{Reason, SECOND, VerdictKind};
use fulcrum_model::{Config, Edit, ipvsadm};
use fulcrum_replay::{Bench, BenchConfig};

const CONFIG: &str = r#"
[[port]]
name = "wan"
device = "eth0"
mac = "02:00:00:00:01:01"
[[port]]
name = "lan"
device = "eth1"
mac = "02:00:00:00:02:01"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24", "10.0.0.100/32"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["10.1.0.1/24"]
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.254"
[[neighbour]]
address = "10.0.0.254"
mac = "02:00:00:00:01:fe"
interface = "wan"
[[neighbour]]
address = "10.1.0.11"
mac = "02:00:00:00:02:0b"
interface = "lan"
"#;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
const SYN: u8 = 2;
const ACK: u8 = 0x10;

/// A director of `workers` workers with `commands` applied, and with a service that is always there: without any,
/// old sessions rest too.
fn director(workers: u16, commands: &str) -> Bench {
    let state = Config::parse("test", CONFIG).unwrap().state;
    let config = BenchConfig { workers, sessions: 4096, seed: 3, misdirect: true, start: 1000 * SECOND };
    let mut bench = Bench::new(config, state);
    // Half of them by the hash of devices.
    if workers % 2 == 1 {
        bench.steer_by_hash();
    }
    apply(&mut bench, "-A -t 10.0.0.100:443");
    apply(&mut bench, commands);
    bench
}

fn apply(bench: &mut Bench, commands: &str) {
    let edits: Vec<Edit> = commands.lines().flat_map(|line| ipvsadm::edits(line).unwrap()).collect();
    bench.apply(&edits).unwrap();
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn segment(mac: [u8; 6], src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    ip.extend([src.0.octets(), dst.0.octets()].concat());
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let pseudo = [&src.0.octets()[..], &dst.0.octets(), &[0, 6, 0, 20], &tcp].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    tcp[16..18].copy_from_slice(&sum);
    [&mac[..], &[2, 0, 0, 0, 9, 9, 8, 0], &ip, &tcp].concat()
}

/// Many clients of two networks.
fn clients() -> impl Iterator<Item = (Ipv4Addr, u16)> {
    (0..40).map(|n: u16| (Ipv4Addr::new(198, 51, 100 + (n % 2) as u8, n as u8), 4000 + 7 * n))
}

/// A packet of every client to the VIP, each at another worker than the one before; all verdicts must be `kind`.
fn all_clients(bench: &mut Bench, flags: u8, kind: VerdictKind, reason: &str) {
    for (worker, client) in clients().enumerate() {
        let frame = segment([2, 0, 0, 0, 1, 1], client, (VIP, 80), flags);
        let verdict = bench.receive(0, worker, &frame).verdict.unwrap();
        assert_eq!(
            (verdict.kind, verdict.reason),
            (kind, reason),
            "{client:?}, {} workers",
            bench.counters().len()
        );
    }
}

/// An answer of the server to every client.
fn all_answers(bench: &mut Bench, kind: VerdictKind, reason: &str) {
    for (worker, client) in clients().enumerate() {
        let frame = segment([2, 0, 0, 0, 2, 1], (SERVER, 8000), client, ACK);
        let verdict = bench.receive(1, worker, &frame).verdict.unwrap();
        assert_eq!(
            (verdict.kind, verdict.reason),
            (kind, reason),
            "{client:?}, {} workers",
            bench.counters().len()
        );
    }
}

const SERVICE: &str =
    "-A -t 10.0.0.100:80 -s rr -p 600 -M 255.255.255.0\n-a -t 10.0.0.100:80 -r 10.1.0.11:8000 -m";

#[test]
fn sessions_of_a_deleted_service_wait_for_it_to_come_back() {
    for workers in [1, 2, 3, 5] {
        let mut bench = director(workers, SERVICE);
        all_clients(&mut bench, SYN, VerdictKind::Forward, "forwarded.nat");
        all_answers(&mut bench, VerdictKind::Forward, "forwarded.reply");
        apply(&mut bench, "-D -t 10.0.0.100:80");
        all_clients(&mut bench, ACK, VerdictKind::Drop, Reason::ServerDeleted.name());
        all_answers(&mut bench, VerdictKind::Forward, "forwarded.reply");
        apply(&mut bench, SERVICE);
        all_clients(&mut bench, ACK, VerdictKind::Forward, "forwarded.nat");
        all_answers(&mut bench, VerdictKind::Forward, "forwarded.reply");
    }
}

#[test]
fn persistence_comes_and_goes_under_sessions() {
    for workers in [1, 2, 3, 5] {
        let mut bench = director(workers, SERVICE);
        all_clients(&mut bench, SYN, VerdictKind::Forward, "forwarded.nat");
        for edit in [
            "-E -t 10.0.0.100:80 -s rr",
            "-E -t 10.0.0.100:80 -s wlc -p 50",
            "-e -t 10.0.0.100:80 -r 10.1.0.11:8000 -m -w 0",
        ] {
            apply(&mut bench, edit);
            all_clients(&mut bench, ACK, VerdictKind::Forward, "forwarded.nat");
            all_answers(&mut bench, VerdictKind::Forward, "forwarded.reply");
        }
    }
}

#[test]
fn a_deleted_service_is_forgotten_with_its_sessions() {
    for workers in [1, 3] {
        let mut bench = director(workers, SERVICE);
        all_clients(&mut bench, SYN, VerdictKind::Forward, "forwarded.nat");
        apply(&mut bench, "-D -t 10.0.0.100:80");
        bench.advance(bench.now() + 1000 * SECOND);
        assert_eq!(bench.sessions(), []);
        // Any change shows that nothing of it is left.
        apply(&mut bench, "--set 900 120 300");
        assert!(bench.snapshot().destinations.iter().all(Option::is_none));
        assert!(bench.snapshot().deleted_services.is_empty());
    }
}

//! A configured director of several workers that is fed whatever comes: frames, edits, time.
//!
//! The bytes are a little program: a head, then operations. What must hold all the time: one verdict a frame,
//! frames out that a link would take, as many references to servers as there are sessions, and after a long silence none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use fulcrum_director::snapshot::Forward;
use fulcrum_director::{Event, SECOND};
use fulcrum_model::{Config, State};
use fulcrum_packet::checksum::{checksum, fold, pseudo_header, sum};
use fulcrum_packet::{ethernet, ipv4, ipv6};
use fulcrum_replay::setup;
use fulcrum_replay::{Bench, BenchConfig, Sent};

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
exception = "fc-wan"
addresses = ["10.0.0.1/24", "10.0.0.100/32", "10.0.0.101/32"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["10.1.0.1/24"]
[[interface]]
name = "lan20"
port = "lan"
vlan = 20
mtu = 600
addresses = ["10.2.0.1/24"]
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.254"
[[route]]
to = "10.9.0.0/16"
via = "10.1.0.254"
[[route]]
to = "10.10.0.0/16"
type = "blackhole"
[[neighbour]]
address = "10.0.0.254"
mac = "02:00:00:00:01:fe"
interface = "wan"
[[neighbour]]
address = "10.0.0.2"
mac = "02:00:00:00:01:02"
interface = "wan"
[[neighbour]]
address = "10.1.0.11"
mac = "02:00:00:00:02:0b"
interface = "lan"
[[neighbour]]
address = "10.2.0.11"
mac = "02:00:00:00:02:1b"
interface = "lan20"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200-10.1.0.201"]
ports = "2000-2003"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "wrr"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:8000"
forward = "nat"
weight = 3
[[service.server]]
address = "10.2.0.11:8000"
forward = "fullnat"
weight = 2
[[service.server]]
address = "10.1.0.12:80"
forward = "dr"
[[service]]
address = "10.0.0.100:53"
protocol = "udp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:5300"
forward = "nat"
[[service.server]]
address = "10.2.0.11:53"
forward = "tun"
[[service.server]]
address = "10.9.0.1:53"
forward = "fullnat"
[[service]]
address = "10.0.0.101:0"
protocol = "tcp"
persistent = 300
netmask = "255.255.255.0"
[[service.server]]
address = "10.1.0.11:0"
forward = "nat"
[[service.server]]
address = "10.2.0.11:0"
forward = "tun"
"#;

/// Edits that an input can choose from.
const EDITS: [&str; 20] = [
    "-d -t 10.0.0.100:80 -r 10.1.0.11:8000",
    "-a -t 10.0.0.100:80 -r 10.1.0.11:8000 -m -w 5",
    "-e -t 10.0.0.100:80 -r 10.1.0.11:8000 -m -w 0",
    "-e -t 10.0.0.100:80 -r 10.1.0.11:8000 -b",
    "-d -t 10.0.0.100:80 -r 10.2.0.11:8000",
    "-a -t 10.0.0.100:80 -r 10.2.0.11:8000 -b",
    "-D -t 10.0.0.100:80",
    "-A -t 10.0.0.100:80 -s wlc -p 60 --local-pool inside",
    "-E -t 10.0.0.100:80 -s lc",
    "-E -t 10.0.0.100:80 -s rr -p 60 -M 255.255.0.0",
    "-P -t 10.0.0.100:80 -z 10.1.0.210",
    "-Q -t 10.0.0.100:80 -z 10.1.0.210",
    "-D -u 10.0.0.100:53",
    "-A -u 10.0.0.100:53 -s rr",
    "-a -u 10.0.0.100:53 -r 10.1.0.11:5300 -m",
    "-C",
    "--set 5 2 3",
    "sysctl -w net.ipv4.vs.expire_nodest_conn=1",
    "sysctl -w net.ipv4.vs.sloppy_tcp=1",
    "sysctl -w net.ipv4.vs.nat_icmp_send=1",
];

/// The largest IP packet of any interface.
const MTU: usize = 1500;

/// Reads values off the front of the input; past its end everything is 0.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        let (now, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        now.to_vec()
    }

    pub(crate) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }
}

/// Runs the program.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let head = input.byte();
    static STATE: LazyLock<State> = LazyLock::new(|| match Config::parse("fuzz", CONFIG) {
        Ok(config) => config.state,
        Err(errors) => panic!("{errors}"),
    });
    let config = BenchConfig {
        workers: 1 + u16::from(head & 3),
        sessions: 64,
        seed: u64::from(head >> 4),
        misdirect: head & 4 != 0,
        start: 1000 * SECOND,
    };
    let mut bench = Bench::new(config, STATE.clone());
    if head & 0x10 != 0 {
        bench.steer_by_hash();
    }
    let hosted = head & 0x20 != 0;
    if hosted {
        let on_twin = |address: [u8; 4]| (IpAddr::from(address), Some("fc-wan".to_owned()));
        // Its own, one that the director has too, a VIP, a server.
        bench.host([[10, 0, 0, 5], [10, 0, 0, 1], [10, 0, 0, 101], [10, 1, 0, 12]].map(on_twin).into());
    }
    let mut sent: Vec<Sent> = Vec::new();
    for _ in 0..200 {
        if input.0.is_empty() {
            break;
        }
        operation(&mut input, &mut bench, &mut sent, hosted);
    }
    account(&bench);
    if head & 8 != 0 {
        for _ in 0..100 {
            check(&bench.jump(bench.now() + 20 * SECOND));
        }
        assert_eq!(bench.sessions(), [], "every session ends");
        account(&bench);
    }
}

fn operation(input: &mut Input, bench: &mut Bench, sent: &mut Vec<Sent>, hosted: bool) {
    let tag = input.byte();
    if hosted && tag & 0x80 != 0 && tag & 7 < 4 {
        return receive_from_host(input, bench, tag & 2 != 0);
    }
    let (port, worker) = (u16::from(tag >> 3 & 1), usize::from(tag >> 4));
    match tag & 7 {
        0 | 1 => {
            let length = usize::from(input.word() % 2048);
            let frame = input.bytes(length);
            receive(bench, port, worker, &frame, sent);
        }
        2 | 3 => {
            let frame = shaped(input, port);
            receive(bench, port, worker, &frame, sent);
        }
        4 | 5 => {
            let pick = usize::from(input.byte());
            let flags = input.byte();
            let Some(last) = sent.len().checked_sub(1) else { return };
            let original = &sent[last - pick % sent.len()];
            let (port, frame) = (original.port, answer(&original.bytes, flags));
            receive(bench, port, worker, &frame, sent);
        }
        6 => {
            // Up to half a minute in small steps, or up to some minutes at once.
            let later = match input.byte() {
                n @ 0..128 => bench.advance(bench.now() + u64::from(n) * SECOND / 4),
                n => bench.jump(bench.now() + u64::from(n - 127) * 4 * SECOND),
            };
            check(&later);
        }
        _ => {
            let text = input.one_of(&EDITS);
            let edits = setup::edits(text, bench.state()).unwrap_or_else(|error| panic!("{text}: {error}"));
            // Many do not apply at this point; those change nothing.
            let _ = bench.apply(&edits);
        }
    }
}

/// A frame of the host: noise, or one that the director understands.
fn receive_from_host(input: &mut Input, bench: &mut Bench, is_shaped: bool) {
    let frame = match is_shaped {
        true => shaped(input, 0),
        false => {
            let length = usize::from(input.word() % 2048);
            input.bytes(length)
        }
    };
    let outcome = bench.receive_from_host(u16::from(input.byte() & 3), &frame);
    let Some(verdict) = outcome.verdict else { panic!("every frame of the host gets a verdict") };
    // What is not to the director goes out as it is.
    if verdict.reason != Event::ExceptionSent.name() {
        check(&outcome.sent);
    }
}

pub(crate) fn receive(bench: &mut Bench, port: u16, worker: usize, frame: &[u8], sent: &mut Vec<Sent>) {
    let outcome = bench.receive(port, worker, frame);
    assert!(outcome.verdict.is_some(), "every frame gets a verdict");
    check(&outcome.sent);
    sent.extend(outcome.sent);
}

/// What a link would take.
pub(crate) fn check(sent: &[Sent]) {
    for Sent { port, bytes, .. } in sent {
        assert!(*port < 2);
        let Ok(frame) = ethernet::Frame::new_checked(&bytes[..]) else { panic!("no frame: {bytes:02x?}") };
        assert_ne!(frame.dst(), [0; 6], "a next hop was not resolved");
        assert_eq!(frame.src(), [2, 0, 0, 0, 1 + *port as u8, 1]);
        let inside = &bytes[frame.header_len()..];
        assert!(inside.len() <= MTU, "too large: {}", inside.len());
        match frame.ethertype() {
            ethernet::IPV4 => {}
            ethernet::IPV6 => {
                let Ok(ip) = ipv6::Packet::new_checked(inside) else {
                    panic!("no IPv6 packet: {inside:02x?}")
                };
                assert!(ip.hop_limit() > 0 && ip.upper().is_ok(), "bad header: {inside:02x?}");
                continue;
            }
            other => {
                assert_eq!(other, ethernet::ARP);
                continue;
            }
        }
        let Ok(ip) = ipv4::Packet::new_checked(inside) else { panic!("no IPv4 packet: {inside:02x?}") };
        assert!(ip.checksum_ok() && ip.ttl() > 0, "bad header: {inside:02x?}");
    }
}

/// Servers and local addresses are referred to by as many sessions as say so.
pub(crate) fn account(bench: &Bench) {
    let sessions = bench.sessions();
    let servers = bench.snapshot().destinations.iter().flatten();
    let references: u64 =
        servers.flat_map(|server| server.counters.iter()).map(|cell| cell.references()).sum();
    // A session that is over but not yet taken away is counted and not listed.
    assert!(references >= sessions.len() as u64, "{references} references, {sessions:?}");
    let held: usize = bench.session_count();
    assert_eq!(references, held as u64);
    let mut local: HashMap<IpAddr, u64> = HashMap::new();
    for session in sessions.iter().filter(|s| s.forward == Forward::FullNat && !s.template) {
        if let Some((address, _)) = session.local {
            *local.entry(address).or_default() += 1;
        }
    }
    for (address, count) in local {
        let cells = bench.snapshot().locals.get(&address).and_then(|local| local.pool.clone());
        let counted = cells.map_or(0, |cells| cells.sum(|cell| &cell.sessions));
        assert!(counted >= count, "{address}: {counted} counted, {count} sessions");
    }
}

const HERE: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]];
const PEER: [u8; 6] = [2, 0, 0, 0, 9, 9];
const SOURCES: [[u8; 4]; 6] =
    [[10, 0, 0, 2], [198, 51, 100, 7], [198, 51, 100, 8], [10, 1, 0, 11], [10, 2, 0, 11], [10, 9, 0, 1]];
const TARGETS: [[u8; 4]; 8] = [
    [10, 0, 0, 100],
    [10, 0, 0, 101],
    [10, 0, 0, 1],
    [10, 1, 0, 200],
    [10, 0, 0, 2],
    [198, 51, 100, 7],
    [10, 1, 0, 77],
    [10, 10, 0, 1],
];
const PORTS: [u16; 8] = [80, 53, 8000, 5300, 2000, 2001, 4000, 4001];

/// A frame that gets past the first checks: right lengths and checksums around chosen and arbitrary fields.
fn shaped(input: &mut Input, port: u16) -> Vec<u8> {
    let kind = input.byte();
    let (src, dst) = (input.one_of(&SOURCES), input.one_of(&TARGETS));
    let ttl = if kind & 0x40 != 0 { input.byte() } else { 64 };
    let room =
        if kind & 0x20 != 0 { usize::from(input.word() % 1600) } else { usize::from(input.byte() % 16) };
    let mut body = Vec::new();
    let protocol = match kind % 6 {
        0 | 1 => {
            body.extend([input.one_of(&PORTS).to_be_bytes(), input.one_of(&PORTS).to_be_bytes()].concat());
            body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, input.byte(), 1, 0, 0, 0, 0, 0]);
            ipv4::TCP
        }
        2 => {
            body.extend([input.one_of(&PORTS).to_be_bytes(), input.one_of(&PORTS).to_be_bytes()].concat());
            body.extend([(8 + room as u16).to_be_bytes(), [0, 0]].concat());
            ipv4::UDP
        }
        3 => {
            // An error about a packet in the other direction.
            body.extend([input.one_of(&[3, 11, 12, 5, 4]), input.byte() % 16, 0, 0, 0, 0]);
            body.extend(input.word().to_be_bytes());
            let quoted_protocol = input.one_of(&[ipv4::TCP, ipv4::UDP, ipv4::ICMP, 4]);
            let far = input.one_of(&TARGETS);
            body.extend([0x45, 0, 0, 28, 0, 1, 0, 0, 63, quoted_protocol, 0, 0]);
            body.extend([dst, far].concat());
            body.extend([input.one_of(&PORTS).to_be_bytes(), input.one_of(&PORTS).to_be_bytes()].concat());
            ipv4::ICMP
        }
        4 => {
            body.extend([input.byte(), input.byte(), 0, 0]);
            ipv4::ICMP
        }
        _ => return arp(input, port, src, dst),
    };
    let arbitrary = input.bytes(room);
    body.extend(&arbitrary);
    body.resize(body.len() + room - arbitrary.len(), 0);
    let options = if kind & 0x80 != 0 { usize::from(input.byte() % 11) * 4 } else { 0 };
    let options = {
        let mut bytes = input.bytes(options);
        bytes.resize(options, 1);
        bytes
    };
    let header = 20 + options.len();
    let fragment = if kind & 0x10 != 0 { input.word() } else { 0x4000 };
    let mut ip = vec![0x40 | (header / 4) as u8, 0];
    ip.extend(((header + body.len()) as u16).to_be_bytes());
    ip.extend([0, 7]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([ttl, protocol, 0, 0]);
    ip.extend([src, dst].concat());
    ip.extend(options);
    ip.extend(body);
    frame(port, ip)
}

/// An IPv4 packet in a frame, its checksums made right.
fn frame(port: u16, mut ip: Vec<u8>) -> Vec<u8> {
    let header = usize::from(ip[0] & 15) * 4;
    ip[10..12].fill(0);
    let check = checksum(&ip[..header]).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    let protocol = ip[9];
    let at = match protocol {
        ipv4::TCP => header + 16,
        ipv4::UDP => header + 6,
        _ => header + 2,
    };
    if at + 2 <= ip.len() {
        ip[at..at + 2].fill(0);
        let pseudo = match protocol {
            ipv4::ICMP => 0,
            _ => {
                let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
                pseudo_header(address(12), address(16), protocol, (ip.len() - header) as u16)
            }
        };
        let check = (!fold(pseudo + sum(&ip[header..]))).to_be_bytes();
        ip[at..at + 2].copy_from_slice(&check);
    }
    [&HERE[usize::from(port)][..], &PEER, &[8, 0], &ip].concat()
}

fn arp(input: &mut Input, port: u16, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    let to = if input.byte() & 1 == 0 { [0xff; 6] } else { HERE[usize::from(port)] };
    let sender = [2, 0, 0, 0, 9, input.byte()];
    let operation = [0, input.byte() % 4];
    [&to[..], &sender, &[8, 6, 0, 1, 8, 0, 6, 4], &operation, &sender, &src, &to, &dst].concat()
}

/// What the receiver of `original` might send back: everything the other way round.
fn answer(original: &[u8], flags: u8) -> Vec<u8> {
    let mut frame = original.to_vec();
    let (Some(to), Some(from)) = (original.get(..6), original.get(6..12)) else { return frame };
    frame[..6].copy_from_slice(from);
    frame[6..12].copy_from_slice(to);
    let l3 = ethernet::Frame::new_checked(original).map_or(14, |frame| frame.header_len());
    if original.get(l3 - 2..l3) == Some(&[8, 6]) && original.len() >= l3 + 28 {
        // The answer to a question: the sender of the answer is its target.
        let (sender, target) = (original[l3 + 8..l3 + 18].to_vec(), original[l3 + 18..l3 + 28].to_vec());
        frame[l3 + 7] = 2;
        frame[l3 + 8..l3 + 18].copy_from_slice(&target);
        frame[l3 + 8..l3 + 14].copy_from_slice(&PEER);
        frame[6..12].copy_from_slice(&PEER);
        frame[l3 + 18..l3 + 28].copy_from_slice(&sender);
        return frame;
    }
    let Ok(ip) = ipv4::Packet::new_checked(&original[l3..]) else { return frame };
    let (header, protocol) = (ip.header_len(), ip.protocol());
    frame[l3 + 12..l3 + 16].copy_from_slice(&original[l3 + 16..l3 + 20]);
    frame[l3 + 16..l3 + 20].copy_from_slice(&original[l3 + 12..l3 + 16]);
    let l4 = l3 + header;
    if matches!(protocol, ipv4::TCP | ipv4::UDP) && original.len() >= l4 + 8 {
        frame[l4..l4 + 2].copy_from_slice(&original[l4 + 2..l4 + 4]);
        frame[l4 + 2..l4 + 4].copy_from_slice(&original[l4..l4 + 2]);
        if protocol == ipv4::TCP && original.len() >= l4 + 14 {
            // The checksum is a sum: it follows the flags.
            let old = u16::from_be_bytes([frame[l4 + 12], frame[l4 + 13]]);
            frame[l4 + 13] = flags;
            let new = u16::from_be_bytes([frame[l4 + 12], flags]);
            if let Some(check) = frame.get(l4 + 16..l4 + 18) {
                let check = u16::from_be_bytes([check[0], check[1]]);
                let follow = fulcrum_packet::checksum::Delta::default().word(old, new).apply(check);
                frame[l4 + 16..l4 + 18].copy_from_slice(&follow.to_be_bytes());
            }
        }
    }
    frame
}

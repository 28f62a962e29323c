//! A configured director that is fed both address families: TCP, UDP, SCTP, AH and ESP, every kind of tunnel, and
//! fragments in any order.
//!
//! Like [`pipeline`](crate::pipeline), a little program. Its own frames have right checksums, and then every frame that
//! leaves must have, inside tunnels too.

use std::net::IpAddr;
use std::sync::LazyLock;

use fulcrum_director::SECOND;
use fulcrum_model::{Config, State};
use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, gre, gue, ip, ipv4, ipv6, sctp, tcp, udp};
use fulcrum_replay::{Bench, BenchConfig, Sent, setup};

use super::LINKS;
use super::pipeline::{Input, account, check, receive};

const NETWORK: &str = r#"
[[interface]]
name = "lan20"
port = "lan"
vlan = 20
mtu = 1400
addresses = ["10.2.0.1/24", "fd00:3::1/64"]
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200", "fd00:2::200"]
ports = "2000-2003"
"#;

/// Who is where: interface and address; all known from the start.
const STATIONS: [(&str, &str); 6] = [
    ("wan", "10.0.0.2"),
    ("wan", "fd00:1::2"),
    ("lan", "10.1.0.11"),
    ("lan", "fd00:2::11"),
    ("lan20", "10.2.0.11"),
    ("lan20", "fd00:3::11"),
];

/// Service, server, way of forwarding and what belongs to it.
const SERVERS: [(&str, &str, &str, &str); 14] = [
    ("tcp 10.0.0.100:80", "10.1.0.11:8000", "nat", ""),
    ("tcp 10.0.0.100:80", "fd00:3::11", "tun", "tunnel = \"gre\""),
    ("tcp [fd00:1::100]:80", "[fd00:2::11]:8000", "fullnat", ""),
    ("tcp [fd00:1::100]:80", "10.1.0.11:8000", "fullnat", ""),
    ("udp 10.0.0.100:53", "10.1.0.11:5300", "nat", ""),
    (
        "udp 10.0.0.100:53",
        "10.2.0.11",
        "tun",
        "tunnel = \"gue\"\ntunnel-port = 6080\ntunnel-checksum = \"csum\"",
    ),
    ("udp [fd00:1::100]:53", "[fd00:2::11]:5300", "nat", ""),
    ("udp [fd00:1::100]:53", "fd00:3::11", "tun", ""),
    ("sctp 10.0.0.100:80", "10.1.0.11:8000", "nat", ""),
    ("sctp 10.0.0.100:80", "10.2.0.11:8000", "fullnat", ""),
    ("sctp [fd00:1::100]:80", "fd00:2::11", "dr", ""),
    ("sctp [fd00:1::100]:80", "10.2.0.11", "tun", "tunnel = \"gre\"\ntunnel-checksum = \"csum\""),
    ("udp 10.0.0.100:500", "10.1.0.11:500", "nat", ""),
    ("udp [fd00:1::100]:500", "[fd00:3::11]:500", "nat", ""),
];

/// Edits that an input can choose from.
const EDITS: [&str; 12] = [
    "-d -t 10.0.0.100:80 -r 10.1.0.11:8000",
    "-a -t 10.0.0.100:80 -r 10.2.0.11 -i --tun-type gue --tun-port 6080",
    "-e -u 10.0.0.100:53 -r 10.2.0.11 -i --tun-type gre --tun-csum",
    "-e --sctp-service 10.0.0.100:80 -r 10.1.0.11:8000 -m -w 0",
    "-D --sctp-service [fd00:1::100]:80",
    "-A --sctp-service [fd00:1::100]:80 -s rr -p 60",
    "-a --sctp-service [fd00:1::100]:80 -r [fd00:2::11]:90 -m",
    "-E -u [fd00:1::100]:53 -s rr -p 30 -M 64",
    "-C",
    "sysctl -w net.ipv4.vs.sloppy_sctp=1",
    "sysctl -w net.ipv4.vs.pmtu_disc=0",
    "sysctl -w net.ipv4.vs.expire_nodest_conn=1",
];

fn config() -> State {
    let mut text = format!("{LINKS}{NETWORK}");
    for (index, (interface, address)) in STATIONS.into_iter().enumerate() {
        text += &format!(
            "[[neighbour]]\naddress = \"{address}\"\nmac = \"02:00:00:00:03:{index:02x}\"\ninterface = \"{interface}\"\n"
        );
    }
    let mut before = "";
    for (service, server, forward, more) in SERVERS {
        if service != before {
            let (protocol, address) = service.split_once(' ').unwrap_or_default();
            text += &format!(
                "[[service]]\naddress = \"{address}\"\nprotocol = \"{protocol}\"\nscheduler = \"rr\"\nlocal-pool = \"inside\"\n"
            );
        }
        text += &format!("[[service.server]]\naddress = \"{server}\"\nforward = \"{forward}\"\n{more}\n");
        before = service;
    }
    match Config::parse("fuzz", &text) {
        Ok(config) => config.state,
        Err(errors) => panic!("{errors}"),
    }
}

/// Runs the program.
pub fn run(data: &[u8]) {
    static STATE: LazyLock<State> = LazyLock::new(config);
    let mut input = Input(data);
    let head = input.byte();
    let config = BenchConfig {
        workers: 1 + u16::from(head & 3),
        sessions: 64,
        seed: u64::from(head >> 4),
        misdirect: head & 4 != 0,
        start: 1000 * SECOND,
    };
    let mut run =
        Run { bench: Bench::new(config, STATE.clone()), sent: Vec::new(), own: Vec::new(), sound: true };
    for _ in 0..200 {
        if input.0.is_empty() {
            break;
        }
        run.operation(&mut input);
    }
    account(&run.bench);
    if head & 8 != 0 {
        for _ in 0..100 {
            check(&run.bench.jump(run.bench.now() + 20 * SECOND));
        }
        assert_eq!(run.bench.sessions(), [], "every session ends");
        account(&run.bench);
    }
}

/// A program under way.
struct Run {
    bench: Bench,
    sent: Vec<Sent>,
    /// Packets that were made here, and the port they came in by.
    own: Vec<(u16, Vec<u8>)>,
    /// Whether nothing has come in that might have a wrong checksum.
    sound: bool,
}

impl Run {
    fn operation(&mut self, input: &mut Input) {
        let tag = input.byte();
        let (port, worker) = (u16::from(tag >> 3 & 1), usize::from(tag >> 4));
        match tag & 7 {
            0 => {
                let length = usize::from(input.word() % 2048);
                self.sound = false;
                let packet = input.bytes(length);
                self.give(port, worker, &packet);
            }
            1..=3 => {
                let packet = shaped(input);
                self.own.push((port, packet.clone()));
                self.give(port, worker, &packet);
            }
            4 => {
                let pick = usize::from(input.byte());
                let Some(last) = self.sent.len().checked_sub(1) else { return };
                let Sent { port, bytes, .. } = &self.sent[last - pick % self.sent.len()];
                let (port, answer) = (*port, answer(bytes, input));
                if let Some(packet) = answer {
                    self.own.push((port, packet.clone()));
                    self.give(port, worker, &packet);
                }
            }
            5 => self.in_pieces(input, worker),
            6 => {
                let later = match input.byte() {
                    n @ 0..128 => self.bench.advance(self.bench.now() + u64::from(n) * SECOND / 4),
                    n => self.bench.jump(self.bench.now() + u64::from(n - 127) * 4 * SECOND),
                };
                check(&later);
            }
            _ => {
                let text = input.one_of(&EDITS);
                let edits = setup::edits(text, self.bench.state());
                let edits = edits.unwrap_or_else(|error| panic!("{text}: {error}"));
                // Many do not apply at this point; those change nothing.
                let _ = self.bench.apply(&edits);
            }
        }
    }

    fn give(&mut self, port: u16, worker: usize, packet: &[u8]) {
        let before = self.sent.len();
        receive(&mut self.bench, port, worker, &frame(port, packet), &mut self.sent);
        if self.sound {
            for Sent { bytes, .. } in &self.sent[before..] {
                check_sums(bytes);
            }
        }
    }

    /// A packet once more, cut, its pieces shuffled, left out, doubled or overlapping.
    fn in_pieces(&mut self, input: &mut Input, worker: usize) {
        let pick = usize::from(input.byte());
        let Some(last) = self.own.len().checked_sub(1) else { return };
        let (port, packet) = self.own[last - pick % self.own.len()].clone();
        let (size, id) = (8 + usize::from(input.byte() & 0x3f) * 8, u32::from(input.byte() & 3));
        let pieces = cut(&packet, size, id);
        for _ in 0..pieces.len().min(12) {
            let order = input.byte();
            let Some(piece) = pieces.get(usize::from(order) % pieces.len().max(1)) else { return };
            let mut piece = piece.clone();
            if order & 0x80 != 0 && piece.len() > 60 {
                // Another length makes it contradict its neighbours; what leaves may be nonsense then.
                self.sound = false;
                shorten(&mut piece);
            }
            self.give(port, worker, &piece);
        }
    }
}

const CLIENTS: [[&str; 2]; 2] = [["10.0.0.2", "10.1.0.11"], ["fd00:1::2", "fd00:2::11"]];
const TARGETS: [[&str; 4]; 2] = [
    ["10.0.0.100", "10.1.0.200", "10.0.0.2", "10.0.0.1"],
    ["fd00:1::100", "fd00:2::200", "fd00:1::2", "fd00:1::1"],
];
const PORTS: [u16; 8] = [80, 53, 500, 8000, 2000, 2001, 4000, 4001];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

/// A packet with right lengths and checksums.
fn shaped(input: &mut Input) -> Vec<u8> {
    let kind = input.byte();
    let family = usize::from(kind >> 7);
    let (src, dst) = (address(input.one_of(&CLIENTS[family])), address(input.one_of(&TARGETS[family])));
    let (from, to) = (input.one_of(&PORTS), input.one_of(&PORTS));
    let room =
        if kind & 0x20 != 0 { usize::from(input.word() % 1440) } else { usize::from(input.byte() % 64) };
    let mut body = Vec::new();
    let protocol = match kind % 6 {
        0 => {
            body.resize(tcp::HEADER, 0);
            let flags = input.byte();
            tcp::Header { src_port: from, dst_port: to, seq: 1, ack: 1, flags, window: 1 }.emit(&mut body);
            ipv4::TCP
        }
        1 => {
            body.resize(udp::HEADER, 0);
            let length = (udp::HEADER + room) as u16;
            udp::Header { src_port: from, dst_port: to, length }.emit(&mut body);
            ipv4::UDP
        }
        2 | 3 => {
            body.resize(sctp::HEADER, 0);
            sctp::Header { src_port: from, dst_port: to, tag: 1 }.emit(&mut body);
            let length = [0, 4, 8, room as u16 + 4];
            body.extend([input.byte() % 16, 0]);
            body.extend(input.one_of(&length).to_be_bytes());
            ipv4::SCTP
        }
        4 => {
            let protocol = input.one_of(&[ipv4::ESP, ipv4::AH, ipv4::IPIP, ipv6::IPV6]);
            if protocol == ipv4::AH {
                // By IPv6 it is walked past: behind it comes ESP.
                body.extend([ipv4::ESP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
            }
            protocol
        }
        _ => {
            let kinds = [[3, 11], [1, 2]][family];
            body.extend([input.one_of(&kinds), input.byte() % 8, 0, 0, 0, 0]);
            body.extend(input.word().to_be_bytes());
            let far = address(input.one_of(&TARGETS[family]));
            let protocol = input.one_of(&[ipv4::TCP, ipv4::UDP, ipv4::SCTP, ipv4::ESP, gre::PROTOCOL]);
            let quoted = [input.one_of(&PORTS).to_be_bytes(), input.one_of(&PORTS).to_be_bytes()].concat();
            body.extend(header(dst, far, protocol, &[&quoted[..], &[0; 16]].concat(), 60, 0));
            [ipv4::ICMP, ipv6::ICMP][family]
        }
    };
    let arbitrary = input.bytes(room);
    body.extend(&arbitrary);
    body.resize(body.len() + room - arbitrary.len(), 0);
    fill_sum(src, dst, protocol, &mut body);
    let ttl = if kind & 0x40 != 0 { input.byte() } else { 64 };
    let fragment = if kind & 0x10 != 0 { 0 } else { ipv4::DF };
    header(src, dst, protocol, &body, ttl, fragment)
}

/// An IP packet around a body.
fn header(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8], ttl: u8, fragment: u16) -> Vec<u8> {
    let mut packet;
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            packet = vec![0; ipv4::HEADER];
            let total_len = (ipv4::HEADER + body.len()) as u16;
            ipv4::Header { tos: 3, total_len, id: 7, fragment, ttl, protocol, src, dst }.emit(&mut packet);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            packet = vec![0; ipv6::HEADER];
            let (payload_len, next_header) = (body.len() as u16, protocol);
            let (traffic_class, flow_label, hop_limit) = (3, 5, ttl);
            ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst }
                .emit(&mut packet);
        }
        _ => return Vec::new(),
    }
    packet.extend_from_slice(body);
    packet
}

/// Where a protocol has its checksum, and whether that covers the addresses too; SCTP's is another.
fn sum_of(protocol: u8) -> Option<(usize, bool)> {
    match protocol {
        ipv4::TCP => Some((16, true)),
        ipv4::UDP => Some((6, true)),
        ipv4::ICMP => Some((2, false)),
        ipv6::ICMP => Some((2, true)),
        _ => None,
    }
}

fn whole_sum(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8], ends: bool) -> u16 {
    let pseudo = if ends { pseudo_header_of(src, dst, protocol, body.len()) } else { 0 };
    fold(pseudo + sum(body))
}

fn fill_sum(src: IpAddr, dst: IpAddr, protocol: u8, body: &mut [u8]) {
    if let Some((at, ends)) = sum_of(protocol).filter(|(at, _)| at + 2 <= body.len()) {
        body[at..at + 2].fill(0);
        let whole = !whole_sum(src, dst, protocol, body, ends);
        let whole = if whole == 0 && protocol == ipv4::UDP { 0xffff } else { whole };
        body[at..at + 2].copy_from_slice(&whole.to_be_bytes());
    } else if let (ipv4::SCTP, Ok(mut packet)) = (protocol, sctp::Packet::new_checked(body)) {
        packet.fill_checksum();
    }
}

/// A frame for a port of the director.
fn frame(port: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER];
    let v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let ethertype = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
    ethernet::emit(&mut frame, [2, 0, 0, 0, 1 + port as u8, 1], [2, 0, 0, 0, 9, 9], 0, ethertype);
    frame.extend_from_slice(packet);
    frame
}

/// The parts of a packet: ends, protocol, and where what follows its headers begins; `None` for a fragment.
fn parts(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let ip = ip::Packet::new_checked(packet).ok()?;
    let (protocol, at) = match &ip {
        ip::Packet::V4(ip) if !ip.is_fragment() => (ip.protocol(), ip.header_len()),
        ip::Packet::V4(_) => return None,
        ip::Packet::V6(ip) => {
            let upper = ip.upper().ok()?;
            (upper.protocol, if upper.fragment.is_none() { upper.offset } else { return None })
        }
    };
    Some((ip.src(), ip.dst(), protocol, at))
}

/// What the receiver of a frame might send back: ends and ports the other way round.
fn answer(original: &[u8], input: &mut Input) -> Option<Vec<u8>> {
    let l3 = ethernet::Frame::new_checked(original).ok()?.header_len();
    let packet = &original[l3..];
    let (src, dst, protocol, at) = parts(packet)?;
    let mut body = packet[at..].to_vec();
    if matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::SCTP) && body.len() >= 4 {
        let (from, to) = body[..4].split_at_mut(2);
        from.swap_with_slice(to);
    }
    match protocol {
        ipv4::TCP if body.len() > 13 => body[13] = input.byte(),
        ipv4::SCTP if body.len() > 12 => body[12] = input.byte() % 16,
        _ => {}
    }
    fill_sum(dst, src, protocol, &mut body);
    Some(header(dst, src, protocol, &body, 64, ipv4::DF))
}

/// Cuts a whole packet to fragments.
fn cut(packet: &[u8], size: usize, id: u32) -> Vec<Vec<u8>> {
    let Some((src, dst, protocol, at)) = parts(packet) else { return Vec::new() };
    let body = packet.get(at..).unwrap_or_default();
    let pieces = body.chunks(size).enumerate().map(|(number, part)| {
        let (offset, more) = (number * size, (number + 1) * size < body.len());
        if src.is_ipv6() {
            let fragment = ipv6::fragment_header(protocol, offset, more, id);
            return header(src, dst, ipv6::FRAGMENT, &[&fragment[..], part].concat(), 64, 0);
        }
        let field = (offset / 8) as u16 | if more { ipv4::MF } else { 0 };
        let mut packet = header(src, dst, protocol, part, 64, field);
        packet[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        if let Ok(mut ip) = ipv4::Packet::new_checked(&mut packet[..]) {
            ip.fill_checksum();
        }
        packet
    });
    pieces.collect()
}

/// Takes eight bytes off a packet's end.
fn shorten(packet: &mut Vec<u8>) {
    packet.truncate(packet.len() - 8);
    let length = packet.len();
    if packet[0] >> 4 == 6 {
        packet[4..6].copy_from_slice(&((length - ipv6::HEADER) as u16).to_be_bytes());
    } else {
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        if let Ok(mut ip) = ipv4::Packet::new_checked(&mut packet[..]) {
            ip.fill_checksum();
        }
    }
}

/// Every checksum of a frame that is wholly there must be right.
fn check_sums(frame: &[u8]) {
    let Ok(ethernet) = ethernet::Frame::new_checked(frame) else { return };
    if matches!(ethernet.ethertype(), ethernet::IPV4 | ethernet::IPV6) {
        check_packet(&frame[ethernet.header_len()..]);
    }
}

fn check_packet(packet: &[u8]) {
    let Some((src, dst, protocol, at)) = parts(packet) else { return };
    let body = &packet[at..];
    match protocol {
        ipv4::UDP if body.len() >= udp::HEADER && body[6..8] == [0, 0] => {}
        ipv4::SCTP => {
            let right = sctp::Packet::new_checked(body).is_ok_and(|packet| packet.checksum_ok());
            assert!(right, "SCTP checksum of {packet:02x?}");
        }
        _ => {
            if let Some((at, ends)) = sum_of(protocol).filter(|(at, _)| at + 2 <= body.len()) {
                let whole = whole_sum(src, dst, protocol, body, ends);
                assert_eq!(whole, 0xffff, "checksum at {at} of {packet:02x?}");
            }
        }
    }
    let inside = match protocol {
        ipv4::UDP if body.get(2..4) == Some(&6080u16.to_be_bytes()) => {
            body.get(udp::HEADER..).and_then(|rest| gue::Header::parse(rest).ok().map(|(_, at)| &rest[at..]))
        }
        gre::PROTOCOL => gre::Header::parse(body).ok().map(|(_, at)| &body[at..]),
        _ => None,
    };
    // Only what the director wrapped itself has a whole packet inside.
    if let Some(inside) = inside.filter(|inside| ip::Packet::new_checked(inside).is_ok()) {
        check_packet(inside);
    }
}

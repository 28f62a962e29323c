//! Connections whose bytes the director changes: FTP, headers before the data, options, numbers.
//!
//! The bytes choose a service, open a connection to it, and then are a list of segments that either end sends:
//! flags, numbers near the right ones, any options, any data. Whatever they are, what goes on has right lengths and
//! checksums, because what came in had.

use std::net::IpAddr;
use std::sync::LazyLock;

use fulcrum_director::SECOND;
use fulcrum_model::{ClientAddress, Config, State};
use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, ip, ipv4, ipv6, tcp, udp};
use fulcrum_replay::{Bench, BenchConfig, Sent};

use super::LINKS;

const CONFIG: &str = r#"
[[neighbour]]
address = "10.0.0.2"
mac = "02:00:00:00:09:09"
interface = "wan"
[[neighbour]]
address = "fd00:1::2"
mac = "02:00:00:00:09:09"
interface = "wan"
[[neighbour]]
address = "10.1.0.11"
mac = "02:00:00:00:09:09"
interface = "lan"
[[neighbour]]
address = "fd00:2::11"
mac = "02:00:00:00:09:09"
interface = "lan"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
ports = "2000-2005"
[[local-pool]]
name = "inside6"
interface = "lan"
addresses = ["fd00:2::200"]
ports = "2000-2005"
"#;

/// A service of every kind: protocol, its address, its server, method, pool.
const SERVICES: [(&str, &str, &str, &str, &str); 8] = [
    ("tcp", "10.0.0.100:21", "10.1.0.11:21", "nat", "inside"),
    ("tcp", "10.0.0.101:21", "10.1.0.11:21", "fullnat", "inside"),
    ("tcp", "10.0.0.100:80", "10.1.0.11:80", "fullnat", "inside"),
    ("udp", "10.0.0.100:53", "10.1.0.11:53", "fullnat", "inside"),
    ("tcp", "[fd00:1::100]:21", "[fd00:2::11]:21", "nat", "inside6"),
    ("tcp", "[fd00:1::101]:21", "[fd00:2::11]:21", "fullnat", "inside6"),
    ("tcp", "[fd00:1::100]:80", "10.1.0.11:80", "fullnat", "inside"),
    ("tcp", "10.0.0.102:80", "[fd00:2::11]:80", "fullnat", "inside6"),
];

type End = (IpAddr, u16);

/// Runs the program.
pub fn run(data: &[u8]) {
    let [head, how, rest @ ..] = data else { return };
    static STATE: LazyLock<State> = LazyLock::new(|| {
        let services = SERVICES.iter().map(|(protocol, vip, server, forward, pool)| {
            format!(
                "[[service]]\naddress = \"{vip}\"\nprotocol = \"{protocol}\"\nscheduler = \"rr\"\n\
                 local-pool = \"{pool}\"\n[[service.server]]\naddress = \"{server}\"\nforward = \"{forward}\"\n"
            )
        });
        match Config::parse("fuzz", &format!("{LINKS}{CONFIG}{}", services.collect::<String>())) {
            Ok(config) => config.state,
            Err(errors) => panic!("{errors}"),
        }
    });
    let mut state = STATE.clone();
    for service in &mut state.services {
        service.client_address = ClientAddress::ALL[usize::from(how & 3)];
        service.mss = (how & 4 != 0).then_some(1300);
    }
    let service = &state.services[usize::from(head & 7)];
    let server = service.servers[0].key;
    let (Some(vip), Some(port)) = (service.key.address(), service.key.port()) else { return };
    let client: IpAddr =
        if vip.is_ipv6() { [0xfd00, 1, 0, 0, 0, 0, 0, 2].into() } else { [10, 0, 0, 2].into() };
    let udp = port == 53;
    let workers = 1 + u16::from(head >> 3 & 1) * 2;
    let misdirect = head & 0x10 != 0;
    let config = BenchConfig { workers, sessions: 16, seed: 3, misdirect, start: 1000 * SECOND };
    let mut talk = Talk {
        bench: Bench::new(config, state.clone()),
        client: ((client, 40001), (vip, port)),
        server: ((server.address, server.port), (client, 40001)),
        numbers: [1000, 5000],
        shift: 0,
        udp,
    };
    if !udp {
        talk.send(true, tcp::SYN, (0, 0), &[2, 4, 5, 0xb4, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1], b"");
        talk.send(false, tcp::SYN | tcp::ACK, (0, 0), &[2, 4, 5, 0xb4], b"");
        talk.send(true, tcp::ACK, (0, 0), &[], b"");
    }
    let mut rest = rest;
    while let [what, flags, seq, ack, lengths, more @ ..] = rest {
        let near = |byte: u8| i32::from(byte as i8);
        let options = more.len().min(usize::from(lengths >> 4).min(10) * 4) & !3;
        let (options, more) = more.split_at(options);
        let length = usize::from(lengths & 15) * (1 + usize::from(what >> 2 & 3) * 4);
        let (data, more) = more.split_at(length.min(more.len()));
        rest = more;
        if what & 2 != 0 {
            talk.now_and_then(what >> 4);
        }
        // The end of a line does not come by chance.
        let line = [data, b"\r\n"].concat();
        let data = if what & 0x10 != 0 { &line } else { data };
        talk.send(what & 1 != 0, *flags, (near(*seq), near(*ack)), options, data);
    }
}

struct Talk {
    bench: Bench,
    /// Where the client and the server each send from and to.
    client: (End, End),
    server: (End, End),
    /// What each sends next, by its own numbers.
    numbers: [u32; 2],
    /// What lies between the client's numbers and those that the server sees.
    shift: u32,
    udp: bool,
}

impl Talk {
    fn now_and_then(&mut self, seconds: u8) {
        check(&self.bench.advance(self.bench.now() + u64::from(seconds) * SECOND));
    }

    /// Has an end send; what it is numbered is off by a little from what would be right.
    fn send(&mut self, from_client: bool, flags: u8, off: (i32, i32), options: &[u8], data: &[u8]) {
        let (src, dst) = if from_client { self.client } else { self.server };
        let [mine, theirs] = if from_client { [0, 1] } else { [1, 0] };
        let mut body = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
        if self.udp {
            body.extend(((udp::HEADER + data.len()) as u16).to_be_bytes());
            body.extend([0, 0]);
        } else {
            body.extend(self.numbers[mine].wrapping_add_signed(off.0).to_be_bytes());
            let shift = if from_client { 0 } else { self.shift };
            let theirs = self.numbers[theirs].wrapping_add(shift);
            body.extend(theirs.wrapping_add_signed(off.1).to_be_bytes());
            body.extend([(((tcp::HEADER + options.len()) / 4) << 4) as u8, flags, 32, 0, 0, 0, 0, 0]);
            body.extend(options);
            let length = data.len() as u32 + u32::from(flags & (tcp::SYN | tcp::FIN) != 0);
            if off.0 == 0 {
                self.numbers[mine] = self.numbers[mine].wrapping_add(length);
            }
        }
        body.extend(data);
        let (protocol, at) = if self.udp { (ipv4::UDP, 6) } else { (ipv4::TCP, 16) };
        let check_sum = !fold(pseudo_header_of(src.0, dst.0, protocol, body.len()) + sum(&body));
        body[at..at + 2].copy_from_slice(&check_sum.to_be_bytes());
        let port = u16::from(!from_client);
        let outcome =
            self.bench.receive(port, usize::from(flags), &frame(port, src.0, dst.0, protocol, &body));
        assert!(outcome.verdict.is_some(), "every frame gets a verdict");
        let seen = check(&outcome.sent);
        // A server answers whom it sees; the first packet shows it.
        if let Some((from, to, number)) = seen.filter(|_| from_client)
            && to == self.server.0
        {
            self.server.1 = from;
            if flags & tcp::SYN != 0 {
                self.shift = number.wrapping_sub(1000);
            }
        }
    }
}

/// What a link would take, lengths and checksums right; gives ends and number of the last packet.
fn check(sent: &[Sent]) -> Option<(End, End, u32)> {
    let mut last = None;
    for Sent { bytes, .. } in sent {
        let Ok(frame) = ethernet::Frame::new_checked(&bytes[..]) else { panic!("no frame: {bytes:02x?}") };
        if frame.ethertype() == ethernet::ARP {
            continue;
        }
        let inside = &bytes[frame.header_len()..];
        let Ok(packet) = ip::Packet::new_checked(inside) else { panic!("no IP packet: {inside:02x?}") };
        assert_eq!(packet.total_len(), inside.len(), "{inside:02x?}");
        let (protocol, offset) = match packet {
            ip::Packet::V4(ip) => {
                assert!(ip.checksum_ok(), "{inside:02x?}");
                (ip.protocol(), ip.header_len())
            }
            ip::Packet::V6(ip) => ip.upper().map(|upper| (upper.protocol, upper.offset)).unwrap(),
        };
        let body = &inside[offset..];
        if !matches!(protocol, ipv4::TCP | ipv4::UDP) {
            continue;
        }
        let whole = fold(pseudo_header_of(packet.src(), packet.dst(), protocol, body.len()) + sum(body));
        assert_eq!(whole, 0xffff, "transport checksum: {inside:02x?}");
        let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let number = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        last = Some(((packet.src(), port(0)), (packet.dst(), port(2)), number));
    }
    last
}

fn frame(port: u16, src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let here = [2, 0, 0, 0, 1 + port as u8, 1];
    let peer = [2, 0, 0, 0, 9, 9];
    let mut frame = vec![0; ethernet::HEADER];
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            ethernet::emit(&mut frame, here, peer, 0, ethernet::IPV4);
            let total_len = (ipv4::HEADER + body.len()) as u16;
            let mut header = [0; ipv4::HEADER];
            ipv4::Header { tos: 0, total_len, id: 7, fragment: ipv4::DF, ttl: 64, protocol, src, dst }
                .emit(&mut header);
            frame.extend(header);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ethernet::emit(&mut frame, here, peer, 0, ethernet::IPV6);
            let mut header = [0; ipv6::HEADER];
            let payload_len = body.len() as u16;
            let (traffic_class, flow_label, next_header, hop_limit) = (0, 0, protocol, 64);
            ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst }
                .emit(&mut header);
            frame.extend(header);
        }
        _ => unreachable!("two families"),
    }
    frame.extend(body);
    frame
}

//! A director without a network: engines, their messages, a clock; frames in, frames out.
#![allow(unreachable_pub, dead_code, missing_debug_implementations, reason = "each test file uses a part")]

pub mod both;
pub mod segments;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use fulcrum_director::buffer::{VecBuf, VecPool};
use fulcrum_director::exception::Class;
use fulcrum_director::rss::{Kinds, Part, Rss, RssConfig};
use fulcrum_director::{
    Buf, Drops, Engine, EngineConfig, Envelope, Event, InitialNumbers, Message, Nanos, Output, Reason,
    Received, SECOND, SessionView, WorkerCounters,
};
use fulcrum_model::file::Config;
use fulcrum_model::{Interface, State};
use fulcrum_packet::checksum::{fold, pseudo_header, pseudo_header_of, sum};
use fulcrum_packet::{arp, ethernet, icmp, ip, ipv4, ipv6, tcp, udp};
use fulcrum_program::{PortFacts, Program};

/// Stations on the two links of [`TWO_PORTS`].
pub const WAN: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const LAN: [u8; 6] = [2, 0, 0, 0, 2, 1];
pub const PEER: [u8; 6] = [2, 0, 0, 0, 9, 9];

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
pub const SERVER_A: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 11);
pub const SERVER_B: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 12);

/// Two links, clients on wan, servers on lan.
const TWO_PORTS: &str = include_str!("../../../../tests/networks/two-ports.toml");
/// What stands behind them; services are added by the tests.
const STATIONS: &str = r#"
[[route]]
to = "0.0.0.0/0"
via = "10.0.0.254"
[[neighbour]]
address = "10.0.0.2"
mac = "02:00:00:00:09:09"
interface = "wan"
[[neighbour]]
address = "10.0.0.254"
mac = "02:00:00:00:09:09"
interface = "wan"
[[neighbour]]
address = "10.1.0.11"
mac = "02:00:00:00:09:09"
interface = "lan"
[[neighbour]]
address = "10.1.0.12"
mac = "02:00:00:00:09:09"
interface = "lan"
"#;

/// A frame that came out: its port and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    pub port: u16,
    pub frame: Vec<u8>,
}

impl Out {
    pub fn ip(&self) -> ipv4::Packet<&[u8]> {
        let l3 = ethernet::Frame::new_checked(&self.frame[..]).unwrap().header_len();
        ipv4::Packet::new_checked(&self.frame[l3..]).expect("an IPv4 packet")
    }

    pub fn body(&self) -> &[u8] {
        let l3 = ethernet::Frame::new_checked(&self.frame[..]).unwrap().header_len();
        &self.frame[l3 + self.ip().header_len()..]
    }

    /// Addresses and ports of a TCP or UDP packet.
    pub fn ends(&self) -> (Ipv4Addr, u16, Ipv4Addr, u16) {
        let (ip, body) = (self.ip(), self.body());
        let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        (ip.src(), port(0), ip.dst(), port(2))
    }
}

pub struct Director {
    pub engines: Vec<Engine<VecPool>>,
    pub counters: Vec<Arc<WorkerCounters>>,
    pub program: Program,
    pub state: State,
    pub now: Nanos,
    /// Frames that were shown as dropped, by reason.
    pub shown: [u64; Reason::COUNT],
    /// What went up to the host: by which interface's twin, as what.
    pub up: Vec<(u16, Class, Vec<u8>)>,
    inboxes: Vec<Vec<Message<VecBuf>>>,
    next_worker: usize,
    generation: u64,
}

impl Director {
    /// [`TWO_PORTS`], [`STATIONS`] and `more` of the file, with `workers` workers.
    pub fn new(workers: u16, more: &str) -> Director {
        Director::with(workers, more, |_| {})
    }

    pub fn with(workers: u16, more: &str, tune: impl Fn(&mut EngineConfig)) -> Director {
        Director::hosted(workers, more, &[], tune)
    }

    /// The same, where interfaces have their twins in Linux and the host has these addresses: on that of wan, or,
    /// after `lo `, on another interface.
    pub fn hosted(workers: u16, more: &str, hosts: &[&str], tune: impl Fn(&mut EngineConfig)) -> Director {
        let mut config = Config::parse("test", &format!("{TWO_PORTS}{STATIONS}{more}"))
            .unwrap_or_else(|errors| panic!("{errors}"));
        let facts = |name: &str, mac| PortFacts { name: name.into(), mac, partial_checksums: true };
        let mut program = Program::new(workers.into(), vec![facts("wan", WAN), facts("lan", LAN)]);
        if !hosts.is_empty() {
            config.state.interfaces[0].exception = Some("fc-wan".into());
            let twin = |i: &Interface| Some((i.name.clone(), i.exception.clone()?));
            program.twins(config.state.interfaces.iter().filter_map(twin).collect());
            program.hosts(host_addresses(hosts));
        }
        let (snapshot, warnings) = program.compile(&config.state, 1);
        assert_eq!(warnings, Vec::<String>::new());
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(WorkerCounters::new(2))).collect();
        let engines = (0..workers).map(|worker| {
            let mut config = EngineConfig {
                worker,
                workers,
                sessions: 1000,
                seed: 7,
                numbers: InitialNumbers::of_seed(7),
                announce: false,
                misdirect: false,
                short_way: true,
            };
            tune(&mut config);
            Engine::new(config, Arc::clone(&snapshot), Arc::clone(&counters[usize::from(worker)]))
        });
        Director {
            engines: engines.collect(),
            counters,
            program,
            state: config.state,
            now: SECOND,
            shown: [0; Reason::COUNT],
            up: Vec::new(),
            inboxes: (0..workers).map(|_| Vec::new()).collect(),
            next_worker: 0,
            generation: 1,
        }
    }

    /// Has flows owned as devices spread them, by `part` of each end. Before the first frame.
    pub fn steer_by(&mut self, part: Part) -> Arc<Rss> {
        // One like a key by chance; and one that repeats every 16 bits, so that places do not matter.
        let key = match part {
            Part::Both => std::array::from_fn(|n| (n * n * 37 + n * 101 + 59) as u8),
            Part::End => std::array::from_fn(|n| [0x6d, 0x5a][n % 2]),
        };
        let kinds = Kinds { tcp4: true, udp4: true, tcp6: true, udp6: true };
        let (workers, parts) = (self.engines.len() as u16, Some(part));
        let config = RssConfig { key, table: 128, workers, kinds, requests: parts, answers: parts };
        let rss = Arc::new(Rss::new(config));
        self.engines.iter_mut().for_each(|engine| engine.steer_by(Arc::clone(&rss)));
        if part == Part::Both {
            self.program.steer_by_flow();
        }
        self.change(|_| {});
        rss
    }

    /// Changes the desired state and has every worker take it over.
    pub fn change(&mut self, change: impl FnOnce(&mut State)) {
        change(&mut self.state);
        self.generation += 1;
        let (snapshot, _) = self.program.compile(&self.state, self.generation);
        for engine in &mut self.engines {
            engine.install(Arc::clone(&snapshot));
        }
        self.program.acknowledged(self.generation);
    }

    /// Puts a frame into a port; gives what comes out of either until all is quiet.
    pub fn send(&mut self, port: u16, frame: &[u8]) -> Vec<Out> {
        let worker = self.next_worker;
        self.next_worker = (worker + 1) % self.engines.len();
        self.send_by(worker, port, frame)
    }

    /// As [`Director::send`], by the receive queue of a worker.
    pub fn send_by(&mut self, worker: usize, port: u16, frame: &[u8]) -> Vec<Out> {
        let mut burst = vec![Received { port, buf: VecBuf::new(frame) }];
        let mut outs = Vec::new();
        self.step(worker, &mut burst, &mut outs);
        self.settle(&mut outs);
        outs
    }

    /// Puts frames into a worker's hands at once; gives what comes out until all is quiet.
    pub fn send_burst(&mut self, worker: usize, frames: &[(u16, Vec<u8>)]) -> Vec<Out> {
        let received = |(port, frame): &(u16, Vec<u8>)| Received { port: *port, buf: VecBuf::new(frame) };
        let mut outs = Vec::new();
        self.step(worker, &mut frames.iter().map(received).collect(), &mut outs);
        self.settle(&mut outs);
        outs
    }

    /// Has the host send a frame by the twin of an interface.
    pub fn send_from_host(&mut self, interface: u16, frame: &[u8]) -> Vec<Out> {
        self.inboxes[0].push(Message::FromHost { interface, buf: VecBuf::new(frame) });
        let mut outs = Vec::new();
        self.settle(&mut outs);
        outs
    }

    /// Gives the host other addresses.
    pub fn host_has(&mut self, hosts: &[&str]) {
        self.program.hosts(host_addresses(hosts));
        self.change(|_| {});
    }

    /// Lets time pass, in steps that let timers act.
    pub fn wait(&mut self, time: Nanos) -> Vec<Out> {
        let end = self.now + time;
        let mut outs = Vec::new();
        while self.now < end {
            self.now = (self.now + SECOND / 2).min(end);
            for worker in 0..self.engines.len() {
                self.step(worker, &mut Vec::new(), &mut outs);
            }
            self.settle(&mut outs);
        }
        outs
    }

    fn settle(&mut self, outs: &mut Vec<Out>) {
        while let Some(worker) = self.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            self.step(worker, &mut Vec::new(), outs);
        }
    }

    fn step(&mut self, worker: usize, burst: &mut Vec<Received<VecBuf>>, outs: &mut Vec<Out>) {
        let mut inbox = std::mem::take(&mut self.inboxes[worker]);
        let mut out = Output { drops: Some(Drops::with_capacity(4096)), ..Output::default() };
        self.engines[worker].step(self.now, &mut VecPool, burst, &mut inbox, &mut out);
        for dropped in out.drops.into_iter().flat_map(|drops| drops.frames) {
            self.shown[dropped.reason as usize] += 1;
        }
        for Envelope { to, message } in out.outbox {
            self.inboxes[usize::from(to)].push(message);
        }
        self.up.extend(out.up.into_iter().map(|up| (up.interface, up.class, up.buf.bytes().to_vec())));
        outs.extend(out.tx.into_iter().map(|tx| Out { port: tx.port, frame: tx.buf.bytes().to_vec() }));
    }

    /// Who else has claimed addresses of the director, as listings show it.
    pub fn claims(&self) -> Vec<(std::net::IpAddr, [u8; 6])> {
        let mut all = Vec::new();
        self.engines[0].export_neighbours(&mut all);
        let claims = all.into_iter().filter(|neighbour| neighbour.state == "conflict");
        claims.filter_map(|claim| Some((claim.address, claim.mac?))).collect()
    }

    pub fn dropped(&self, reason: Reason) -> u64 {
        self.counters.iter().map(|counters| counters.dropped(reason)).sum()
    }

    pub fn happened(&self, event: Event) -> u64 {
        self.counters.iter().map(|counters| counters.happened(event)).sum()
    }

    /// All drops, by name.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = Reason::ALL.iter().map(|&reason| (reason.name(), self.dropped(reason)));
        all.filter(|&(_, count)| count > 0).collect()
    }

    pub fn sessions(&self) -> Vec<SessionView> {
        let mut all = Vec::with_capacity(100_000);
        for engine in &self.engines {
            let mut cursor = 0;
            while !engine.export_sessions(self.now, &mut cursor, &mut all, 1000) {}
        }
        all
    }

    /// Active, inactive and template counts of each server of the first service, in order of addition.
    pub fn counts(&self) -> Vec<(u64, u64, u64)> {
        let servers = &self.program.counters()[0].servers;
        let sum = |server: &fulcrum_program::ServerCounters| {
            let cells = &server.cells;
            (cells.sum(|c| &c.active), cells.sum(|c| &c.inactive), cells.sum(|c| &c.persistent))
        };
        servers.iter().map(sum).collect()
    }
}

fn host_addresses(hosts: &[&str]) -> BTreeMap<IpAddr, Option<String>> {
    let host = |text: &&str| match text.strip_prefix("lo ") {
        Some(address) => (address.parse().unwrap(), None),
        None => (text.parse().unwrap(), Some("fc-wan".to_owned())),
    };
    hosts.iter().map(host).collect()
}

/// What a test expects of drops, all of them: `expect_drops!(director, "no-service": 1)`.
#[macro_export]
macro_rules! expect_drops {
    ($director:expr $(, $name:literal : $count:expr)* $(,)?) => {
        assert_eq!($director.drops(), Vec::<(&str, u64)>::from([$(($name, $count)),*]), "drops by name")
    };
}

/// An Ethernet frame to a port of the director around an IPv4 packet.
pub fn frame(to: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER + ipv4::HEADER];
    ethernet::emit(&mut frame, to, PEER, 0, ethernet::IPV4);
    let header = ipv4::Header {
        tos: 0,
        total_len: (ipv4::HEADER + body.len()) as u16,
        id: 0x1234,
        fragment: ipv4::DF,
        ttl: 64,
        protocol,
        src,
        dst,
    };
    header.emit(&mut frame[ethernet::HEADER..]);
    frame.extend_from_slice(body);
    frame
}

/// Changes the IPv4 header of an untagged frame and mends its checksum.
pub fn with_ip(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[ethernet::HEADER..]);
    ipv4::Packet::new_quoted(&mut frame[ethernet::HEADER..]).unwrap().fill_checksum();
    frame
}

pub fn tcp_frame(to: [u8; 6], src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut body = vec![0; tcp::HEADER];
    let header = tcp::Header { src_port: src.1, dst_port: dst.1, seq: 1000, ack: 5000, flags, window: 8192 };
    header.emit(&mut body);
    body.extend_from_slice(data);
    let whole = !fold(pseudo_header(src.0, dst.0, ipv4::TCP, body.len() as u16) + sum(&body));
    body[16..18].copy_from_slice(&whole.to_be_bytes());
    frame(to, src.0, dst.0, ipv4::TCP, &body)
}

pub fn udp_frame(to: [u8; 6], src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
    let length = (udp::HEADER + data.len()) as u16;
    let mut body = [src.1.to_be_bytes(), dst.1.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    body.extend_from_slice(data);
    let whole = !fold(pseudo_header(src.0, dst.0, ipv4::UDP, length) + sum(&body));
    body[6..8].copy_from_slice(&whole.to_be_bytes());
    frame(to, src.0, dst.0, ipv4::UDP, &body)
}

/// An ICMP error that quotes the IPv4 packet of a frame.
pub fn error_frame(to: [u8; 6], src: Ipv4Addr, dst: Ipv4Addr, kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
    let mut body = vec![0; icmp::HEADER];
    icmp::emit(&mut body, kind, code, 0);
    body.extend_from_slice(&about[ethernet::HEADER..]);
    icmp::Message::new_checked(&mut body[..]).unwrap().fill_checksum();
    frame(to, src, dst, ipv4::ICMP, &body)
}

pub fn arp_frame(dst: [u8; 6], packet: arp::Packet) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER + arp::LEN];
    ethernet::emit(&mut frame, dst, packet.sha, 0, ethernet::ARP);
    packet.emit(&mut frame[ethernet::HEADER..]);
    frame
}

/// Checks every checksum of a frame that came out.
pub fn check_sums(out: &Out) {
    let frame = ethernet::Frame::new_checked(&out.frame[..]).unwrap();
    if !matches!(frame.ethertype(), ethernet::IPV4 | ethernet::IPV6) {
        return;
    }
    let bytes = &out.frame[frame.header_len()..];
    let ip = ip::Packet::new_checked(bytes).expect("an IP packet");
    let (protocol, at, fragment) = match &ip {
        ip::Packet::V4(ip) => {
            assert!(ip.checksum_ok(), "IPv4 checksum of {:02x?}", out.frame);
            (ip.protocol(), ip.header_len(), ip.is_fragment())
        }
        ip::Packet::V6(ip) => {
            let upper = ip.upper().expect("extension headers");
            (upper.protocol, upper.offset, upper.fragment.is_some())
        }
    };
    let body = &bytes[at..];
    let pseudo = match protocol {
        _ if fragment => return,
        ipv4::UDP if body[6..8] == [0, 0] => return,
        ipv4::TCP | ipv4::UDP | ipv6::ICMP => pseudo_header_of(ip.src(), ip.dst(), protocol, body.len()),
        ipv4::ICMP => 0,
        _ => return,
    };
    assert_eq!(fold(pseudo + sum(body)), 0xffff, "checksum of protocol {protocol} in {:02x?}", out.frame);
}

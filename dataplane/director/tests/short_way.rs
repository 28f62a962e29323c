//! The short way of established sessions changes nothing but the time it takes: the same frames, in bursts with it
//! and without it (one by one, where one worker has them all), come to the same frames, drops, counts and sessions.

mod harness;

use fulcrum_director::SECOND;
use fulcrum_packet::ipv4;
use fulcrum_packet::tcp::{ACK, FIN, PSH, RST, SYN};
use harness::both::*;
use harness::segments::{End, Segment};
use harness::*;
use proptest::prelude::*;

/// How a frame is made odd.
#[derive(Clone, Copy, Debug)]
enum Twist {
    Nothing,
    /// A byte of the frame is another.
    Byte(usize, u8),
    /// The frame ends early.
    Cut(usize),
    /// Padding follows.
    Padding(usize),
    /// UDP without a checksum.
    Unsummed,
    Ttl(u8),
    /// Another type of service; of IPv4 it may be cut, or may not if it might.
    Tos(u8),
    /// A TCP option of 12 bytes: acknowledged ranges.
    Sack,
    /// Too long for some ways.
    Long,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Weight(u32),
    ServerGone,
    RouteMtu(u16),
    NeighbourGone,
    Forwarding(bool),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// Of a client to one of the VIPs.
    Ask {
        client: u8,
        vip: u8,
        udp: bool,
        flags: u8,
        twist: Twist,
    },
    /// Of the server to whoever it last saw.
    Answer {
        nth: u8,
        flags: u8,
        twist: Twist,
    },
    Wait(u16),
    Change(Change),
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        12 => Just(Twist::Nothing),
        2 => (0usize..90, any::<u8>()).prop_map(|(at, value)| Twist::Byte(at, value)),
        1 => (14usize..60).prop_map(Twist::Cut),
        1 => (1usize..30).prop_map(Twist::Padding),
        1 => Just(Twist::Unsummed),
        1 => (0u8..4).prop_map(Twist::Ttl),
        1 => any::<u8>().prop_map(Twist::Tos),
        1 => Just(Twist::Sack),
        1 => Just(Twist::Long),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let flags = prop_oneof![
        6 => Just(ACK), 4 => Just(ACK | PSH), 4 => Just(SYN), 1 => Just(FIN | ACK), 1 => Just(RST),
        1 => Just(SYN | ACK), 1 => any::<u8>(),
    ];
    let change = prop_oneof![
        (0u32..3).prop_map(Change::Weight),
        Just(Change::ServerGone),
        (1300u16..1500).prop_map(Change::RouteMtu),
        Just(Change::NeighbourGone),
        any::<bool>().prop_map(Change::Forwarding),
    ];
    prop_oneof![
        16 => (0u8..3, 0u8..VIPS.len() as u8, any::<bool>(), flags.clone(), twist())
            .prop_map(|(client, vip, udp, flags, twist)| Act::Ask { client, vip, udp, flags, twist }),
        12 => (any::<u8>(), flags, twist()).prop_map(|(nth, flags, twist)| Act::Answer { nth, flags, twist }),
        1 => (0u16..400).prop_map(Act::Wait),
        1 => change.prop_map(Act::Change),
    ]
}

const VIPS: [&str; 9] = [
    "10.0.0.100",
    "10.0.0.101",
    "10.0.0.102",
    "10.0.0.103",
    "fd00:1::100",
    "fd00:1::101",
    "fd00:1::102",
    "fd00:1::103",
    "fd00:1::104",
];

/// Services of every method, half of them persistent.
fn services() -> String {
    let mut file = format!(
        "{SIX}{POOLS}[[route]]\nto = \"198.51.100.0/24\"\nvia = \"10.0.0.254\"\n[[route]]\nto = \"fd00:9::/64\"\nvia = \
         \"fd00:1::2\"\n[[neighbour]]\naddress = \"fd00:2::12\"\nmac = \"02:00:00:00:09:08\"\ninterface = \"lan6\"\n"
    );
    let methods = ["nat", "fullnat", "dr", "tun", "nat", "fullnat", "dr", "tun", "tun"];
    for (at, (vip, method)) in VIPS.iter().zip(methods).enumerate() {
        // The last one's tunnels lead through the other family.
        let (servers, pool) = match at {
            0..4 | 8 => (["10.1.0.11:5300", "10.1.0.12:5300"], "inside"),
            _ => (["[fd00:2::11]:5300", "[fd00:2::12]:5300"], "inside6"),
        };
        let vip = if vip.contains(':') { format!("[{vip}]:53") } else { format!("{vip}:53") };
        let pool = if method == "fullnat" { format!("local-pool = \"{pool}\"") } else { String::new() };
        for protocol in ["tcp", "udp"] {
            let persistent = if at % 2 == 0 { "persistent = 30\n" } else { "" };
            file += &format!(
                "[[service]]\naddress = \"{vip}\"\nprotocol = \"{protocol}\"\nscheduler = \"wlc\"\n{persistent}{pool}\n"
            );
            for server in servers {
                let server = if matches!(method, "dr" | "tun") {
                    server.replace(":5300", ":53")
                } else {
                    server.to_owned()
                };
                file += &format!("[[service.server]]\naddress = \"{server}\"\nforward = \"{method}\"\n");
            }
        }
    }
    file
}

fn client(number: u8, v6: bool) -> End {
    let address = if v6 { format!("fd00:9::{}", number + 1) } else { format!("198.51.100.{}", number + 1) };
    end(&address, 40_000 + u16::from(number))
}

fn made(to: [u8; 6], src: End, dst: End, udp: bool, flags: u8, seq: u32, twist: Twist) -> Vec<u8> {
    let data = vec![0x5a; if matches!(twist, Twist::Long) { 1330 } else { 6 }];
    let options =
        if matches!(twist, Twist::Sack) { vec![1, 1, 5, 10, 0, 0, 3, 1, 0, 0, 3, 9] } else { vec![] };
    let mut frame = if udp {
        packet(to, src.0, dst.0, ipv4::UDP, &datagram(src, dst, &data))
    } else {
        Segment { src, dst, seq, ack: 5000 + seq, flags, options, data }.frame(to)
    };
    let l3 = l3(&frame);
    let l4 = l3 + if src.0.is_ipv6() { 40 } else { 20 };
    match twist {
        Twist::Byte(at, value) => {
            let length = frame.len();
            frame[at.min(length - 1)] = value;
        }
        Twist::Cut(length) => frame.truncate(length),
        Twist::Padding(length) => frame.resize(frame.len() + length, 0xee),
        Twist::Unsummed if udp => frame[l4 + 6..l4 + 8].fill(0),
        Twist::Ttl(ttl) if src.0.is_ipv6() => frame[l3 + 7] = ttl,
        Twist::Ttl(ttl) => frame = with_ip(frame, |ip| ip[8] = ttl),
        Twist::Tos(tos) if src.0.is_ipv6() => {
            frame[l3] |= tos >> 4;
            frame[l3 + 1] |= tos << 4;
        }
        Twist::Tos(tos) => frame = with_ip(frame, |ip| (ip[1], ip[6]) = (tos, ip[6] ^ 0x40)),
        _ => {}
    }
    frame
}

impl Change {
    fn apply(self, director: &mut Director) {
        director.change(|state| match self {
            Change::Weight(weight) => state.services[0].servers[0].weight = weight,
            Change::ServerGone => _ = state.services[2].servers.pop(),
            Change::RouteMtu(mtu) => {
                let route = state.routes.iter_mut().find(|route| route.to.to_string() == "198.51.100.0/24");
                route.expect("it is there").mtu = Some(mtu);
            }
            Change::NeighbourGone => _ = state.neighbours.pop(),
            Change::Forwarding(on) => state.settings.ip_forward = on,
        });
    }
}

/// Both directors, and what their servers saw last.
struct Pair {
    short: Director,
    whole: Director,
    /// Whether IPv6 has no interfaces of its own, with tags.
    untagged: bool,
    /// Source, destination, protocol of what came out towards servers.
    seen: Vec<(End, End, bool)>,
}

impl Pair {
    fn new(workers: u16) -> Pair {
        Pair::of(&services(), workers, 1000)
    }

    fn of(services: &str, workers: u16, sessions: usize) -> Pair {
        let with = |short_way| {
            Director::with(workers, services, |config| {
                (config.short_way, config.sessions) = (short_way, sessions)
            })
        };
        Pair { short: with(true), whole: with(false), untagged: false, seen: Vec::new() }
    }

    /// The same, where IPv6 is on the interfaces of IPv4.
    fn untagged(workers: u16) -> Pair {
        let mut pair = Pair::new(workers);
        for director in [&mut pair.short, &mut pair.whole] {
            director.change(|state| {
                let (tagged, plain) = state.interfaces.drain(..).partition::<Vec<_>, _>(|one| one.vlan == 6);
                state.interfaces = plain;
                for (one, other) in state.interfaces.iter_mut().zip(tagged) {
                    assert_eq!(other.name, format!("{}6", one.name));
                    one.addresses.extend(other.addresses);
                }
                let bare = |name: &mut String| *name = name.replace('6', "");
                state.neighbours.iter_mut().for_each(|one| bare(&mut one.interface));
                state.local_pools.iter_mut().for_each(|one| bare(&mut one.interface));
            });
        }
        Pair { untagged: true, ..pair }
    }

    fn burst(&mut self, worker: usize, frames: &[(u16, Vec<u8>)]) -> Result<(), TestCaseError> {
        let mut frames = frames.to_vec();
        for (_, frame) in frames.iter_mut().filter(|_| self.untagged) {
            if frame.get(12..16) == Some(&[0x81, 0, 0, 6]) {
                frame.drain(12..16);
            }
        }
        let frames = &frames[..];
        let outs = self.short.send_burst(worker, frames);
        // With several workers, who opens a session first depends on what is handed on together.
        let expected: Vec<Out> = match self.whole.engines.len() {
            1 => frames.chunks(1).flat_map(|frame| self.whole.send_burst(worker, frame)).collect(),
            _ => self.whole.send_burst(worker, frames),
        };
        let by_port = |outs: &[Out]| -> Vec<(u16, Vec<u8>)> {
            outs.iter().map(|out| (out.port, out.frame.clone())).collect()
        };
        prop_assert_eq!(by_port(&outs), by_port(&expected));
        for out in outs.iter().filter(|out| out.port == 1) {
            let at = l3(&out.frame);
            let Ok(ip) = fulcrum_packet::ip::Packet::new_checked(&out.frame[at..]) else { continue };
            let (src, dst) = (ip.src(), ip.dst());
            let (protocol, upper) = match &ip {
                fulcrum_packet::ip::Packet::V4(ip) => (ip.protocol(), at + ip.header_len()),
                fulcrum_packet::ip::Packet::V6(ip) => (ip.upper().map_or(0, |upper| upper.protocol), at + 40),
            };
            if matches!(protocol, ipv4::TCP | ipv4::UDP) && out.frame.len() >= upper + 4 {
                let port = |at: usize| u16::from_be_bytes([out.frame[upper + at], out.frame[upper + at + 1]]);
                self.seen.push(((src, port(0)), (dst, port(2)), protocol == ipv4::UDP));
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.short.drops(), self.whole.drops());
        let events = |director: &Director| {
            fulcrum_director::Event::ALL.iter().map(|&event| director.happened(event)).collect::<Vec<_>>()
        };
        prop_assert_eq!(events(&self.short), events(&self.whole));
        let sessions = |director: &Director| {
            let mut list: Vec<String> = director.sessions().iter().map(|view| format!("{view:?}")).collect();
            list.sort();
            list
        };
        prop_assert_eq!(sessions(&self.short), sessions(&self.whole));
        let traffic = |director: &Director| {
            director.program.counters().iter().map(|service| service.traffic.totals()).collect::<Vec<_>>()
        };
        prop_assert_eq!(traffic(&self.short), traffic(&self.whole));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_changes_nothing(
        workers in 1u16..4,
        untagged: bool,
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut pair = if untagged { Pair::untagged(workers) } else { Pair::new(workers) };
        let mut burst: Vec<(u16, Vec<u8>)> = Vec::new();
        for (number, &act) in acts.iter().enumerate() {
            let seq = 1000 + number as u32;
            let ends_burst = match act {
                Act::Ask { client: from, vip, udp, flags, twist } => {
                    let vip = usize::from(vip);
                    let (src, dst) = (client(from, vip > 3), end(VIPS[vip], 53));
                    burst.push((0, made(WAN, src, dst, udp, flags, seq, twist)));
                    burst.len() >= 7
                }
                Act::Answer { nth, flags, twist } => {
                    if let Some(&(src, dst, udp)) = pair.seen.iter().rev().nth(usize::from(nth) % 8) {
                        burst.push((1, made(LAN, dst, src, udp, flags, seq, twist)));
                    }
                    false
                }
                Act::Wait(_) | Act::Change(_) => true,
            };
            if ends_burst {
                pair.burst(number % usize::from(workers), &std::mem::take(&mut burst))?;
            }
            match act {
                Act::Wait(seconds) => {
                    let time = SECOND * u64::from(seconds);
                    prop_assert_eq!(pair.short.wait(time), pair.whole.wait(time));
                }
                Act::Change(change) => {
                    change.apply(&mut pair.short);
                    change.apply(&mut pair.whole);
                }
                _ => {}
            }
        }
        pair.burst(0, &burst)?;
        pair.compare()?;
    }
}

/// Services that ask for nothing but servers, by each method, with few local ports; one whose servers are told their
/// clients, one whose segments are kept short.
fn plain_services() -> String {
    let mut file = format!(
        "{}[[route]]\nto = \"198.51.100.0/24\"\nvia = \"10.0.0.254\"\n",
        POOLS.replacen("[\"10.1.0.200\"]", "[\"10.1.0.200\"]\nports = \"2000-2020\"", 1)
    );
    let kinds = [
        ("nat", ""),
        ("fullnat", ""),
        ("fullnat", "client-address = \"toa\"\n"),
        ("fullnat", "mss = 1200\n"),
    ];
    for (at, (method, more)) in kinds.into_iter().enumerate() {
        let pool = if method == "fullnat" { "local-pool = \"inside\"\n" } else { "" };
        file += &format!(
            "[[service]]\naddress = \"10.0.0.10{at}:53\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n{pool}{more}"
        );
        for server in ["10.1.0.11:5300", "10.1.0.12:5300"] {
            file += &format!("[[service.server]]\naddress = \"{server}\"\nforward = \"{method}\"\n");
        }
    }
    format!("{SIX}{file}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Sessions that come and go, in a table and with local ports that do not suffice: SYNs with options, twice in a
    /// burst, with data, answered or not.
    #[test]
    fn it_opens_the_same_sessions(
        workers in 1u16..4,
        acts in prop::collection::vec((0u8..60, 0usize..4, 0u8..6, 0u64..3, 0u8..12), 1..300),
    ) {
        let mut pair = Pair::of(&plain_services(), workers, 40);
        let mut burst: Vec<(u16, Vec<u8>)> = Vec::new();
        for (number, &(from, vip, kind, wait, twist)) in acts.iter().enumerate() {
            let options = [
                vec![],
                vec![2, 4, 5, 180, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 1],
                vec![1, 8, 10, 9, 9, 9, 9, 8, 8, 8, 8, 0],
                vec![254, 4, 1, 2],
            ];
            let flags = [SYN, SYN, SYN, SYN | PSH, ACK, RST][usize::from(kind)];
            let (src, dst) = (client(from, false), end(VIPS[vip], 53));
            let segment = Segment {
                src,
                dst,
                seq: 77_000 * number as u32,
                ack: 0,
                flags,
                options: options[number % options.len()].clone(),
                data: vec![7; number % 3],
            };
            let mut frame = segment.frame(WAN);
            match twist {
                0 => frame = with_ip(frame, |ip| ip[8] = 1),
                1 => frame = with_ip(frame, |ip| ip[12..16].copy_from_slice(&[10, 0, 0, 100])),
                2 => frame.resize(frame.len() + 9, 0xee),
                _ => {}
            }
            burst.push((0, frame));
            if let Some(&(local, server, _)) = pair.seen.last().filter(|_| kind == 2) {
                burst.push((1, made(LAN, server, local, false, SYN | ACK, 1000, Twist::Nothing)));
            }
            if burst.len() > 8 {
                pair.burst(number % usize::from(workers), &std::mem::take(&mut burst))?;
                prop_assert_eq!(pair.short.wait(wait * 20 * SECOND), pair.whole.wait(wait * 20 * SECOND));
            }
        }
        pair.burst(0, &burst)?;
        pair.compare()?;
    }
}

/// By every method, both directions and families: the second packet of an established session takes it.
#[test]
fn established_sessions_take_it() {
    for mut pair in [Pair::new(1), Pair::new(3), Pair::untagged(1), Pair::untagged(3)] {
        let workers = pair.short.engines.len();
        for (number, vip) in VIPS.iter().enumerate() {
            let (src, dst) = (client(0, number > 3), end(vip, 53));
            let ask = |flags| (0, made(WAN, src, dst, false, flags, 1000, Twist::Nothing));
            pair.seen.clear();
            pair.burst(0, &[ask(SYN)]).unwrap();
            let answers = matches!(number, 0 | 1 | 4 | 5);
            let (from, to, _) = pair.seen.first().copied().unwrap_or((src, dst, false));
            let answer = |flags| (1, made(LAN, to, from, false, flags, 1000, Twist::Nothing));
            if answers {
                pair.burst(0, &[answer(SYN | ACK)]).unwrap();
            }
            pair.burst(0, &[ask(ACK)]).unwrap();
            if answers {
                pair.burst(0, &[answer(ACK)]).unwrap();
            }
            let short = |pair: &Pair| pair.short.counters.iter().map(|c| c.short_way.get()).sum::<u64>();
            let before = short(&pair);
            pair.burst(0, &[ask(ACK), ask(ACK | PSH), ask(ACK)]).unwrap();
            assert_eq!(short(&pair) - before, 3, "{vip}, {workers} workers");
            if answers {
                pair.burst(0, &[answer(ACK), answer(ACK | PSH)]).unwrap();
                assert_eq!(short(&pair) - before, 5, "{vip}, {workers} workers");
            }
        }
        pair.compare().unwrap();
    }
}

/// A neighbour that was lost and came back is remembered anew.
#[test]
fn a_neighbour_that_comes_back_is_taken_by_the_short_way_again() {
    let mut director = Director::new(1, &services());
    director.change(|state| {
        state.neighbours.retain(|neighbour| !neighbour.address.to_string().starts_with("10.1.0.1"))
    });
    let (src, dst) = (client(0, false), end(VIPS[2], 53));
    let ask = |flags| made(WAN, src, dst, false, flags, 1000, Twist::Nothing);
    let short = |director: &Director| director.counters[0].short_way.get();
    let answer = |director: &mut Director, sender: &str, mac: u8| {
        let std::net::IpAddr::V4(spa) = addr(sender) else { panic!("{sender}") };
        let packet = fulcrum_packet::arp::Packet {
            operation: fulcrum_packet::arp::REPLY,
            sha: [2, 0, 0, 0, 9, mac],
            spa,
            tha: LAN,
            tpa: [10, 1, 0, 1].into(),
        };
        director.send(1, &arp_frame(LAN, packet))
    };
    director.send(0, &ask(SYN));
    let servers = ["10.1.0.11", "10.1.0.12"];
    servers.iter().for_each(|server| _ = answer(&mut director, server, 7));
    let pass = |director: &mut Director| {
        director.send(0, &ask(ACK));
        let before = short(director);
        assert_eq!(director.send(0, &ask(ACK)).len(), 1);
        short(director) - before
    };
    assert_eq!(pass(&mut director), 1);
    // Nobody answers for long enough that the neighbour is given up.
    for _ in 0..100 {
        director.wait(SECOND);
        director.send(0, &ask(ACK));
    }
    assert_eq!(director.send(0, &ask(ACK)).len(), 0, "it waits for an answer");
    director.wait(4 * SECOND);
    director.send(0, &ask(ACK));
    servers.iter().for_each(|server| _ = answer(&mut director, server, 8));
    assert_eq!(pass(&mut director), 1);
    assert_eq!(director.send(0, &ask(ACK))[0].frame[..6], [2, 0, 0, 0, 9, 8]);
}

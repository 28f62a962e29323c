//! Routes with several next hops: which flow takes which, and what becomes of flows when one goes and comes back.

mod harness;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use fulcrum_director::{Reason, SECOND};
use fulcrum_model::{NextHop, RouteTarget};
use fulcrum_packet::tcp::{ACK, SYN};
use fulcrum_packet::{arp, ethernet, icmp, ipv4};
use harness::*;
use proptest::prelude::*;

/// A host somewhere behind the gateways.
const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const PORT: u16 = 4000;

/// The gateway of wan with this number; 9 is on lan.
fn gateway(number: u8) -> Ipv4Addr {
    if number == 9 { [10, 1, 0, 249].into() } else { [10, 0, 0, 240 + number].into() }
}

fn via(hops: &[(u8, u16)]) -> RouteTarget {
    let hop = |&(number, weight): &(u8, u16)| NextHop { via: IpAddr::V4(gateway(number)), weight };
    RouteTarget::Via(hops.iter().map(hop).collect())
}

/// A director whose routes to everywhere go by gateways that answer as long as they are alive.
struct World {
    director: Director,
    alive: Vec<u8>,
}

impl World {
    fn new(workers: u16, hops: &[(u8, u16)]) -> World {
        World::with(workers, hops, "", true)
    }

    fn with(workers: u16, hops: &[(u8, u16)], more: &str, short_way: bool) -> World {
        let mut director = Director::with(workers, more, |config| {
            (config.short_way, config.sessions) = (short_way, 8000);
        });
        director.change(|state| state.routes[0].target = via(hops));
        let mut world = World { director, alive: hops.iter().map(|(number, _)| *number).collect() };
        world.live(2);
        world
    }

    fn replace(&mut self, hops: &[(u8, u16)]) {
        self.director.change(|state| state.routes[0].target = via(hops));
        self.live(2);
    }

    /// Lets seconds pass.
    fn live(&mut self, seconds: u64) {
        for _ in 0..10 * seconds {
            let outs = self.director.wait(SECOND / 10);
            let rest = self.answered(outs);
            assert_eq!(rest, [], "nobody has sent anything");
        }
    }

    /// Has gateways answer questions; gives what else came out, and comes then.
    fn answered(&mut self, outs: Vec<Out>) -> Vec<Out> {
        let mut rest = Vec::new();
        for out in outs {
            let question = match ethernet::Frame::new_checked(&out.frame[..]).unwrap().ethertype() {
                ethernet::ARP => arp::Packet::parse(&out.frame[14..]).unwrap(),
                _ => {
                    rest.push(out);
                    continue;
                }
            };
            let Some(&number) = self.alive.iter().find(|&&number| gateway(number) == question.tpa) else {
                continue;
            };
            let answer = arp::Packet {
                operation: arp::REPLY,
                sha: [2, 0, 0, 0, 7, number],
                spa: question.tpa,
                tha: question.sha,
                tpa: question.spa,
            };
            let outs = self.director.send(out.port, &arp_frame(question.sha, answer));
            rest.extend(self.answered(outs));
        }
        rest
    }

    fn send(&mut self, port: u16, frame: &[u8]) -> Vec<Out> {
        let outs = self.director.send(port, frame);
        self.answered(outs)
    }

    /// The gateway that the only packet that comes of a frame goes to.
    fn taken(&mut self, port: u16, frame: &[u8]) -> u8 {
        let outs = self.send(port, frame);
        assert_eq!(outs.len(), 1, "{:?} {outs:02x?}", self.director.drops());
        check_sums(&outs[0]);
        by(&outs[0])
    }

    /// Which gateway packets of each of so many flows take that are routed as they come.
    fn routed(&mut self, flows: u16) -> BTreeMap<u16, u8> {
        let flow = |n: u16| udp_frame(LAN, (SERVER_A, 1000 + n), (WEB, PORT), b"x");
        (0..flows).map(|n| (n, self.taken(1, &flow(n)))).collect()
    }
}

/// The gateway that a packet goes to.
fn by(out: &Out) -> u8 {
    assert_eq!(out.frame[..5], [2, 0, 0, 0, 7], "to a gateway");
    out.frame[5]
}

fn share(taken: &BTreeMap<u16, u8>, number: u8) -> f64 {
    taken.values().filter(|&&by| by == number).count() as f64 / taken.len() as f64
}

/// Whether just those flows are elsewhere that `number` had.
fn only_its_flows_moved(before: &BTreeMap<u16, u8>, after: &BTreeMap<u16, u8>, number: u8) {
    for (flow, by) in before {
        match *by == number {
            true => assert_ne!(after[flow], number, "flow {flow}"),
            false => assert_eq!(after[flow], *by, "flow {flow}"),
        }
    }
}

const SERVICE: &str = r#"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:80"
forward = "nat"
"#;

/// A client far away, by number.
fn client(n: u16) -> (Ipv4Addr, u16) {
    let [high, low] = n.to_be_bytes();
    ([203, 0, high, low].into(), 5000 + n)
}

#[test]
fn flows_are_shared_by_weight() {
    let mut world = World::new(1, &[(1, 1), (2, 2), (3, 5)]);
    let taken = world.routed(8000);
    // Three times the standard deviation of the largest share is less than 0.017.
    for (number, weight) in [(1, 1.0), (2, 2.0), (3, 5.0)] {
        let share = share(&taken, number);
        assert!((share - weight / 8.0).abs() < 0.02, "gateway {number}: {share}");
    }
}

#[test]
fn a_flow_takes_the_same_on_every_worker_and_after_a_restart() {
    let hops = [(1, 1), (2, 1), (3, 1), (4, 1)];
    let one = World::new(1, &hops).routed(300);
    assert_eq!(World::new(3, &hops).routed(300), one);
    // In the file's order there is no meaning.
    assert_eq!(World::new(1, &[(4, 1), (2, 1), (1, 1), (3, 1)]).routed(300), one);
    assert_eq!((1..5).map(|number| share(&one, number) > 0.15).collect::<Vec<_>>(), [true; 4]);
}

#[test]
fn only_the_flows_of_a_next_hop_that_goes_move_and_they_return() {
    let hops = [(1, 1), (2, 3), (3, 2)];
    let mut world = World::new(2, &hops);
    let before = world.routed(1000);

    world.alive.retain(|&number| number != 2);
    world.live(7);
    let without = world.routed(1000);
    only_its_flows_moved(&before, &without, 2);
    let rest = share(&without, 3);
    assert!((rest - 2.0 / 3.0).abs() < 0.06, "what is left is shared by weight: {rest}");

    world.alive.push(2);
    world.live(7);
    assert_eq!(world.routed(1000), before);

    world.replace(&[(1, 1), (3, 2)]);
    assert_eq!(world.routed(1000), without, "it does not matter why one is not there");
    world.replace(&hops);
    assert_eq!(world.routed(1000), before);
    expect_drops!(world.director);
}

#[test]
fn a_next_hop_goes_with_the_link_of_its_port() {
    let mut world = World::new(1, &[(1, 1), (9, 1)]);
    let before = world.routed(200);
    assert!((share(&before, 9) - 0.5).abs() < 0.12);

    let links = world.director.program.links().clone();
    links.set(1, false);
    world.alive = vec![1];
    world.director.wait(SECOND / 10);
    only_its_flows_moved(&before, &world.routed(200), 9);

    links.set(1, true);
    world.alive = vec![1, 9];
    world.live(4);
    assert_eq!(world.routed(200), before);
}

/// Where nobody answers, the flow waits for its own next hop, as it would with one.
#[test]
fn without_any_answer_packets_wait_and_are_dropped() {
    let mut world = World::new(1, &[(1, 1), (2, 1)]);
    let before = world.routed(20);
    world.alive.clear();
    world.live(8);
    let flow = |n: u16| udp_frame(LAN, (SERVER_A, 1000 + n), (WEB, PORT), b"x");
    let ends = |out: &Out| out.ip().protocol();
    let outs = world.send(1, &flow(0));
    assert!(outs.iter().all(|out| ends(out) == ipv4::ICMP), "{outs:02x?}");
    let outs = world.director.wait(8 * SECOND);
    world.answered(outs);
    assert_eq!(world.director.dropped(Reason::NeighbourFailed), 1);

    world.alive = vec![1, 2];
    let outs = world.director.wait(8 * SECOND);
    world.answered(outs);
    world.live(1);
    assert_eq!(world.routed(20), before);
}

#[test]
fn answers_of_established_sessions_move_with_their_next_hop() {
    let mut world = World::with(1, &[(1, 1), (2, 1), (3, 1)], SERVICE, true);
    let request = |n, flags| tcp_frame(WAN, client(n), (VIP, 80), flags, b"");
    let answer = |n, flags| tcp_frame(LAN, (SERVER_A, 80), client(n), flags, b"hello");
    let mut before = BTreeMap::new();
    for n in 0..60 {
        assert_eq!(world.send(0, &request(n, SYN)).len(), 1);
        let by = world.taken(1, &answer(n, SYN | ACK));
        world.send(0, &request(n, ACK));
        assert_eq!(world.taken(1, &answer(n, ACK)), by, "of the same flow");
        before.insert(n, by);
    }
    let all = |world: &mut World| -> BTreeMap<u16, u8> {
        let first: BTreeMap<u16, u8> = (0..60).map(|n| (n, world.taken(1, &answer(n, ACK)))).collect();
        let short = world.director.counters[0].short_way.get();
        let again = (0..60).map(|n| (n, world.taken(1, &answer(n, ACK)))).collect();
        assert_eq!(world.director.counters[0].short_way.get() - short, 60, "by the short way");
        assert_eq!(first, again);
        again
    };
    assert_eq!(all(&mut world), before);
    world.alive = vec![1, 3];
    world.live(7);
    only_its_flows_moved(&before, &all(&mut world), 2);
    world.alive = vec![1, 2, 3];
    world.live(7);
    assert_eq!(all(&mut world), before);
    expect_drops!(world.director);
}

/// By every method: the flow decides, not who went to the server before.
#[test]
fn servers_behind_several_next_hops_are_reached_by_the_flow() {
    for (forward, local) in [("nat", ""), ("dr", ""), ("tun", ""), ("fullnat", "local-pool = \"inside\"\n")] {
        let pool = "[[local-pool]]\nname = \"inside\"\ninterface = \"lan\"\naddresses = [\"10.1.0.200\"]\n";
        let service = SERVICE
            .replace("10.1.0.11", "172.16.5.5")
            .replace("forward = \"nat\"", &format!("forward = \"{forward}\""))
            .replace("scheduler", &format!("{local}scheduler"));
        // DR servers are not behind routers in earnest, but then they are asked for by route as well.
        let mut world = World::with(1, &[(1, 1), (2, 1)], &format!("{pool}{service}"), true);
        let request = |n, flags| tcp_frame(WAN, client(n), (VIP, 80), flags, b"");
        let opened: BTreeMap<u16, u8> = (0..60).map(|n| (n, world.taken(0, &request(n, SYN)))).collect();
        assert!((share(&opened, 1) - 0.5).abs() < 0.2, "{forward}: {opened:?}");
        for _ in 0..2 {
            for (n, by) in &opened {
                assert_eq!(world.taken(0, &request(*n, ACK)), *by, "{forward}, flow {n}");
            }
        }
        let mut other = World::with(2, &[(2, 1), (1, 1)], &format!("{pool}{service}"), true);
        for (n, by) in &opened {
            assert_eq!(other.taken(0, &request(*n, SYN)), *by, "{forward}, flow {n}");
        }
    }
}

fn cut(frame: &[u8], at: usize) -> [Vec<u8>; 2] {
    let (head, body) = (&frame[..34], &frame[34..]);
    let piece = |body: &[u8], field: u16| {
        let frame = [head, body].concat();
        with_ip(frame, |ip| {
            ip[2..4].copy_from_slice(&(20 + body.len() as u16).to_be_bytes());
            ip[6..8].copy_from_slice(&field.to_be_bytes());
        })
    };
    [piece(&body[..at], ipv4::MF), piece(&body[at..], at as u16 / 8)]
}

#[test]
fn fragments_of_a_datagram_stay_together() {
    let udp = SERVICE.replace("tcp", "udp");
    let mut world = World::with(1, &[(1, 1), (2, 1), (3, 1)], &udp, true);
    for n in 0..40 {
        let flow = udp_frame(LAN, ([10, 1, 0, 77].into(), 1000 + n), (WEB, PORT), &[7; 64]);
        let [first, later] = cut(&flow, 24).map(|piece| world.taken(1, &piece));
        assert_eq!(first, later, "routed as it came");
    }
    for n in 0..40 {
        world.send(0, &udp_frame(WAN, client(n), (VIP, 80), b"?"));
        let answer = udp_frame(LAN, (SERVER_A, 80), client(n), &[7; 64]);
        let whole = world.taken(1, &answer);
        assert_eq!(cut(&answer, 24).map(|piece| world.taken(1, &piece)), [whole; 2], "of a session");
    }
    expect_drops!(world.director);
}

#[test]
fn icmp_errors_go_with_the_flow_that_they_are_about() {
    let mut world = World::with(1, &[(1, 1), (2, 1), (3, 1), (4, 1)], SERVICE, true);
    let router = Ipv4Addr::new(10, 1, 0, 77);
    for n in 0..40 {
        // Somebody behind lan tells a sender far away.
        let there = udp_frame(LAN, (SERVER_B, 1000 + n), (WEB, PORT), b"x");
        let back = udp_frame(WAN, (WEB, PORT), (SERVER_B, 1000 + n), b"x");
        let error = error_frame(LAN, router, WEB, icmp::UNREACHABLE, 4, &back);
        let by = world.taken(1, &there);
        assert_eq!(world.taken(1, &error), by, "routed");
        // And so does the director itself.
        let last = with_ip(back, |ip| ip[8] = 1);
        let outs = world.send(0, &last);
        assert_eq!((outs[0].body()[0], self::by(&outs[0])), (icmp::TIME_EXCEEDED, by), "own");
        world.live(1);
    }
    for n in 0..40 {
        let to_server = world.send(0, &tcp_frame(WAN, client(n), (VIP, 80), SYN, b""));
        let by = world.taken(1, &tcp_frame(LAN, (SERVER_A, 80), client(n), SYN | ACK, b""));
        let error = error_frame(LAN, router, client(n).0, icmp::UNREACHABLE, 4, &to_server[0].frame);
        assert_eq!(world.taken(1, &error), by, "of a session");
    }
}

/// What may happen to sessions and gateways.
#[derive(Clone, Debug)]
enum Act {
    Request(u16, u8),
    Answer(u16, u8),
    /// A gateway dies, or is there again.
    Turn(u8),
    Live(u64),
    /// Others are configured.
    Hops(Vec<(u8, u16)>),
}

fn act() -> impl Strategy<Value = Act> {
    let flags = || prop_oneof![Just(SYN), Just(ACK), Just(SYN | ACK)];
    prop_oneof![
        8 => (0..12u16, flags()).prop_map(|(n, flags)| Act::Request(n, flags)),
        8 => (0..12u16, flags()).prop_map(|(n, flags)| Act::Answer(n, flags)),
        2 => (1..5u8).prop_map(Act::Turn),
        2 => (1..5u64).prop_map(Act::Live),
        1 => prop::collection::btree_map(1..5u8, 1..4u16, 2..4)
            .prop_map(|hops| Act::Hops(hops.into_iter().collect())),
    ]
}

impl Act {
    fn apply(&self, world: &mut World) -> Vec<Out> {
        match self {
            Act::Request(n, flags) => world.send(0, &tcp_frame(WAN, client(*n), (VIP, 80), *flags, b"")),
            Act::Answer(n, flags) => {
                world.send(1, &tcp_frame(LAN, (SERVER_A, 80), client(*n), *flags, b"hello"))
            }
            Act::Turn(number) => {
                match world.alive.iter().position(|alive| alive == number) {
                    Some(place) => _ = world.alive.remove(place),
                    None => world.alive.push(*number),
                }
                Vec::new()
            }
            Act::Live(seconds) => {
                let mut rest = Vec::new();
                for _ in 0..10 * seconds {
                    let outs = world.director.wait(SECOND / 10);
                    rest.extend(world.answered(outs));
                }
                rest
            }
            Act::Hops(hops) => {
                world.director.change(|state| state.routes[0].target = via(hops));
                Vec::new()
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// What a session remembers of its way is what its flow would choose anew.
    #[test]
    fn the_short_way_chooses_as_the_whole_one(acts in prop::collection::vec(act(), 1..80)) {
        let world = |short_way| World::with(1, &[(1, 1), (2, 2), (3, 1)], SERVICE, short_way);
        let (mut short, mut whole) = (world(true), world(false));
        for act in acts {
            let (a, b) = (act.apply(&mut short), act.apply(&mut whole));
            prop_assert_eq!(a, b, "{:?}", act);
        }
        prop_assert_eq!(short.director.drops(), whole.director.drops());
        prop_assert_eq!(whole.director.counters[0].short_way.get(), 0);
    }
}

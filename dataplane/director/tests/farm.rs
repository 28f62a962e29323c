//! Ten thousand real servers on one link, each a neighbour of its own.

mod harness;

use std::collections::HashMap;
use std::net::Ipv4Addr;

use fulcrum_director::{Event, SECOND};
use fulcrum_model::{Forward, Server, ServerKey};
use fulcrum_packet::tcp::{ACK, SYN};
use fulcrum_packet::{arp, ethernet};
use harness::*;

const SERVERS: usize = 10_000;
const FARM: &str = r#"
[[interface]]
name = "farm"
port = "lan"
vlan = 20
addresses = ["10.8.0.1/16"]
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
"#;
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);

fn server(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 8, 1, 0)) + number as u32)
}

fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [.., a, b, c] = address.octets();
    [2, 0, 0, a, b, c]
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 20], &frame[12..]].concat()
}

/// Destination and, when it is a question, whom it is for.
fn seen(out: &Out) -> ([u8; 6], Option<Ipv4Addr>) {
    let frame = ethernet::Frame::new_checked(&out.frame[..]).unwrap();
    assert_eq!((out.port, frame.vlan()), (1, 20));
    let question = (frame.ethertype() == ethernet::ARP)
        .then(|| arp::Packet::parse(&out.frame[frame.header_len()..]).unwrap().tpa);
    (frame.dst(), question)
}

/// Answers a question; gives what comes of it.
fn answer(director: &mut Director, from: Ipv4Addr) -> Vec<Out> {
    let mac = mac_of(from);
    let reply = arp::Packet { operation: arp::REPLY, sha: mac, spa: from, tha: LAN, tpa: DIRECTOR };
    director.send(1, &tagged(&arp_frame(LAN, reply)))
}

fn packet(number: usize, flags: u8) -> Vec<u8> {
    let client = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + number as u32);
    tcp_frame(WAN, (client, 40_000), (VIP, 80), flags, b"")
}

/// A packet of every flow. Each must come out, to the server of its flow; gives how many questions came out, too.
fn all_flows(director: &mut Director, flags: u8, macs: &mut HashMap<usize, [u8; 6]>) -> usize {
    let mut questions = 0;
    for number in 0..SERVERS {
        let mut outs = director.send(0, &packet(number, flags));
        while let Some(place) = outs.iter().position(|out| seen(out).1.is_some()) {
            questions += 1;
            let (to, asked) = seen(&outs.remove(place));
            let asked = asked.unwrap();
            assert!(to == ethernet::BROADCAST || to == mac_of(asked), "{to:?}");
            outs.extend(answer(director, asked));
        }
        assert_eq!(outs.len(), 1, "{number}: {:?}", director.drops());
        let to = seen(&outs[0]).0;
        assert_eq!(*macs.entry(number).or_insert(to), to);
    }
    questions
}

#[test]
fn ten_thousand_neighbours_are_kept_and_asked_again_a_few_at_a_time() {
    for workers in [1, 3] {
        let mut director = Director::with(workers, FARM, |config| config.sessions = 2 * SERVERS);
        director.change(|state| {
            let list = (0..SERVERS).map(|number| ServerKey { address: server(number).into(), port: 80 });
            state.services[0].servers.extend(list.map(|key| Server::new(key, Forward::Dr)));
        });
        let mut macs = HashMap::new();
        assert_eq!(all_flows(&mut director, SYN, &mut macs), SERVERS);
        let distinct: std::collections::HashSet<_> = macs.values().collect();
        assert_eq!(distinct.len(), SERVERS);
        assert_eq!(all_flows(&mut director, ACK, &mut macs), 0, "all are known");
        // Before they are too old they are asked again, each once, while packets go on.
        for _ in 0..3 {
            director.now += 22 * SECOND;
            assert_eq!(all_flows(&mut director, ACK, &mut macs), SERVERS);
        }
        assert_eq!(director.happened(Event::Parked), SERVERS as u64);
        expect_drops!(director);

        // None of them answers any more: questions come in small bites, whatever there are.
        director.now += 22 * SECOND;
        (0..SERVERS).for_each(|number| _ = director.send(0, &packet(number, ACK)));
        director.now += 2 * SECOND;
        let mut asked = 0;
        for _ in 0..2 * SERVERS {
            director.now += 1000;
            let outs = director.send_burst(0, &[]);
            assert!(outs.len() <= 64, "{} at once", outs.len());
            asked += outs.len();
        }
        assert_eq!(asked, SERVERS);
    }
}

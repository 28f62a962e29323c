//! What holds of every service: a reply finds its session, both directions meet, sums are right, counters add up.

mod harness;

use std::collections::HashSet;

use fulcrum_director::rss::Part;
use fulcrum_packet::ipv4;
use fulcrum_packet::tcp::{ACK, SYN};
use harness::both::*;
use harness::segments::End;
use harness::*;
use proptest::prelude::*;

/// A service and what is done to it.
#[derive(Clone, Debug)]
struct Scene {
    workers: u16,
    misdirect: bool,
    /// What devices hash, if they do.
    hashed: Option<Part>,
    /// IPv6 before and behind the director; mixed only by FULLNAT.
    front_v6: bool,
    back_v6: bool,
    fullnat: bool,
    tcp: bool,
    persistent: bool,
    scheduler: &'static str,
    /// Clients: host, port; how long their datagram is.
    clients: Vec<(u8, u16, usize)>,
}

fn scene() -> impl Strategy<Value = Scene> {
    let clients = prop::collection::vec((2u8..6, 40_000u16..40_040, 0usize..4000), 1..30);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let scheduler = prop::sample::select(vec!["rr", "wrr", "lc", "wlc", "sh", "mh", "sed", "nq", "twos"]);
    let hashed = prop::sample::select(vec![None, Some(Part::Both), Some(Part::End)]);
    (1u16..5, switches, hashed, scheduler, clients).prop_map(
        |(workers, switches, hashed, scheduler, clients)| {
            let (misdirect, front_v6, back_v6, fullnat, tcp, persistent) = switches;
            let back_v6 = if fullnat { back_v6 } else { front_v6 };
            Scene {
                workers,
                misdirect,
                hashed,
                front_v6,
                back_v6,
                fullnat,
                tcp,
                persistent,
                scheduler,
                clients,
            }
        },
    )
}

impl Scene {
    fn vip(&self) -> &'static str {
        if self.front_v6 { "fd00:1::100" } else { "10.0.0.100" }
    }

    fn director(&self) -> Director {
        let (vip, servers) = match (self.front_v6, self.back_v6) {
            (v6, false) => (v6, ["10.1.0.11:5300", "10.1.0.12:5300"]),
            (v6, true) => (v6, ["[fd00:2::11]:5300", "[fd00:2::12]:5300"]),
        };
        let vip = if vip { "[fd00:1::100]:53" } else { "10.0.0.100:53" };
        let forward = if self.fullnat { "fullnat" } else { "nat" };
        let pool = if self.back_v6 { "inside6" } else { "inside" };
        let pool = if self.fullnat { format!("local-pool = \"{pool}\"") } else { String::new() };
        let persistent = if self.persistent { "persistent = 300" } else { "" };
        let protocol = if self.tcp { "tcp" } else { "udp" };
        let mut file = format!(
            "{SIX}{POOLS}\n[[neighbour]]\naddress = \"fd00:2::12\"\nmac = \"02:00:00:00:09:09\"\ninterface = \"lan6\"\n\
             [[route]]\nto = \"fd00:9::/64\"\nvia = \"fd00:1::2\"\n\
             [[service]]\naddress = \"{vip}\"\nprotocol = \"{protocol}\"\nscheduler = \"{}\"\n{pool}\n{persistent}\n",
            self.scheduler
        );
        for server in servers {
            file += &format!("[[service.server]]\naddress = \"{server}\"\nforward = \"{forward}\"\n");
        }
        let mut director = Director::with(self.workers, &file, |config| config.misdirect = self.misdirect);
        if let Some(part) = self.hashed {
            director.steer_by(part);
        }
        director
    }

    fn client(&self, host: u8, port: u16) -> End {
        let address = if self.front_v6 { format!("fd00:9::{host}") } else { format!("198.51.100.{host}") };
        end(&address, port)
    }
}

/// Sends a datagram, in fragments when it is long, and gives what the receiver puts together; ports first.
fn pass(
    director: &mut Director,
    port: u16,
    src: End,
    dst: End,
    data: &[u8],
) -> Result<(End, End, Vec<u8>), TestCaseError> {
    let to = if port == 0 { WAN } else { LAN };
    let body = datagram(src, dst, data);
    let (outs, whole) = if body.len() > 1400 {
        let pieces = fragments(to, src.0, dst.0, &body, 1400);
        (pieces.iter().rev().flat_map(|piece| director.send(port, piece)).collect::<Vec<_>>(), false)
    } else {
        (director.send(port, &packet(to, src.0, dst.0, ipv4::UDP, &body)), true)
    };
    prop_assert!(!outs.is_empty(), "nothing came out; drops: {:?}", director.drops());
    if whole {
        let (_, from, to, body) = seen(&outs[0]);
        return Ok((from, to, body[8..].to_vec()));
    }
    let (from, to, body) = reassembled(&outs);
    let pseudo = fulcrum_packet::checksum::pseudo_header_of(from, to, ipv4::UDP, body.len());
    prop_assert_eq!(fulcrum_packet::checksum::fold(pseudo + fulcrum_packet::checksum::sum(&body)), 0xffff);
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    Ok(((from, number(0)), (to, number(2)), body[8..].to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_reply_always_finds_its_session(scene in scene()) {
        let mut director = scene.director();
        let vip = end(scene.vip(), 53);
        let mut flows = HashSet::new();
        for &(host, port, length) in &scene.clients {
            let client = scene.client(host, port);
            let data: Vec<u8> = (0..length).map(|i| (i * 31) as u8).collect();
            let fresh = flows.insert(client);
            if scene.tcp {
                let flags = if fresh { SYN } else { ACK };
                let data = if fresh { &[][..] } else { &data[..length.min(1200)] };
                let outs = director.send(0, &segment(WAN, client, vip, flags, data));
                prop_assert_eq!(outs.len(), 1, "drops: {:?}", director.drops());
                let (_, from, to, _) = seen(&outs[0]);
                let flags = if fresh { SYN | ACK } else { ACK };
                let outs = director.send(1, &segment(LAN, to, from, flags, data));
                prop_assert_eq!(outs.len(), 1, "drops: {:?}", director.drops());
                let (_, from, to, body) = seen(&outs[0]);
                prop_assert_eq!((outs[0].port, from, to, &body[20..]), (0, vip, client, data));
            } else {
                let (from, to, got) = pass(&mut director, 0, client, vip, &data)?;
                prop_assert_eq!(&got, &data);
                let (from, to, got) = pass(&mut director, 1, to, from, &data)?;
                prop_assert_eq!((from, to, &got), (vip, client, &data));
            }
        }
        prop_assert_eq!(director.drops(), vec![]);
        let sessions = director.sessions();
        prop_assert_eq!(sessions.iter().filter(|session| !session.template).count(), flows.len());
        let [connections, in_packets, out_packets, ..] = director.program.counters()[0].traffic.totals();
        let count = scene.clients.len() as u64;
        prop_assert_eq!(connections, flows.len() as u64);
        prop_assert_eq!((in_packets, out_packets), (count, count));
        let of_servers: u64 = director.counts().iter().map(|(active, inactive, _)| active + inactive).sum();
        prop_assert_eq!(of_servers, flows.len() as u64);
    }
}

//! Two TCP ends that only know what they see: whatever is lost, repeated or comes late, each gets all bytes of the
//! other, once, in order, and nobody is told that something arrived which did not.

mod harness;

use std::net::IpAddr;

use fulcrum_model::ClientAddress;
use fulcrum_packet::tcp::{ACK, PSH, SYN};
use harness::segments::*;
use harness::*;
use proptest::prelude::*;

const CLIENT: End = (IpAddr::V4(harness::CLIENT), 40001);

fn director(workers: u16, port: u16, forward: &str, how: ClientAddress) -> Director {
    let more = format!(
        r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
ports = "5000-5099"
[[service]]
address = "10.0.0.100:{port}"
protocol = "tcp"
scheduler = "rr"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:{port}"
forward = "{forward}"
"#
    );
    let mut director = Director::new(workers, &more);
    director.change(|state| state.services[0].client_address = how);
    director
}

/// One end: what it sends, in segments, and what it has received, by number.
struct Side {
    me: End,
    peer: End,
    /// The number of the first byte sent, and of the first to be received.
    sends_from: u32,
    receives_from: u32,
    sent: Vec<(u32, Vec<u8>)>,
    acknowledged: u32,
    received: Vec<Option<u8>>,
}

impl Side {
    fn new(me: End, peer: End, sends_from: u32, receives_from: u32) -> Side {
        let (sent, received) = (vec![], vec![]);
        Side { me, peer, sends_from, receives_from, sent, acknowledged: 0, received }
    }

    fn next(&self) -> u32 {
        self.sent.last().map_or(0, |(at, data)| at + data.len() as u32)
    }

    /// How many bytes are there without a gap.
    fn have(&self) -> u32 {
        self.received.iter().take_while(|byte| byte.is_some()).count() as u32
    }

    fn write(&mut self, data: &[u8]) -> usize {
        self.sent.push((self.next(), data.to_vec()));
        self.sent.len() - 1
    }

    /// A segment that was written before, or without one an acknowledgment; with what it knows of late bytes.
    fn segment(&self, nth: Option<usize>) -> Segment {
        let (at, data) = nth.map_or((self.next(), vec![]), |nth| self.sent[nth].clone());
        let number = |offset: u32| self.receives_from.wrapping_add(offset);
        let late = (self.have() as usize..self.received.len()).find(|&at| self.received[at].is_some());
        let options = late.map_or(vec![], |from| {
            let length = self.received[from..].iter().take_while(|byte| byte.is_some()).count();
            let edges = [from as u32, (from + length) as u32].map(|edge| number(edge).to_be_bytes());
            [&[1, 1, 5, 10][..], &edges.concat()].concat()
        });
        Segment {
            src: self.me,
            dst: self.peer,
            seq: self.sends_from.wrapping_add(at),
            ack: number(self.have()),
            flags: ACK | if data.is_empty() { 0 } else { PSH },
            options,
            data,
        }
    }

    fn take(&mut self, segment: &Segment) {
        assert_eq!((segment.src, segment.dst), (self.peer, self.me));
        let acknowledged = segment.ack.wrapping_sub(self.sends_from);
        assert!(acknowledged <= self.next(), "{acknowledged} of {} acknowledged", self.next());
        self.acknowledged = self.acknowledged.max(acknowledged);
        if let Some(edges) = segment.options.windows(2).position(|pair| pair == [5, 10]) {
            for edge in segment.options[edges + 2..edges + 10].chunks(4) {
                let edge = u32::from_be_bytes(edge.try_into().unwrap()).wrapping_sub(self.sends_from);
                assert!(edge <= self.next(), "edge {edge} of {}", self.next());
            }
        }
        let at = segment.seq.wrapping_sub(self.receives_from) as usize;
        assert!(at <= self.received.len() + 10_000, "a number from nowhere: {at}");
        let end = at + segment.data.len();
        self.received.resize(self.received.len().max(end), None);
        for (place, &byte) in self.received[at..end].iter_mut().zip(&segment.data) {
            assert!(place.is_none_or(|before| before == byte), "other bytes with the same numbers");
            *place = Some(byte);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.received.iter().map(|byte| byte.expect("a gap")).collect()
    }
}

/// The director between two sides; what each sends may be lost before or behind it.
struct Wire {
    director: Director,
    client: Side,
    server: Side,
}

impl Wire {
    /// Opens a connection, whose handshake's last packet the server sees unless it is lost.
    fn open(mut director: Director, vip: End, numbers: (u32, u32), last_lost: bool) -> Wire {
        let (seq, answer) = (numbers.0.wrapping_sub(1), numbers.1.wrapping_sub(1));
        let none = Segment { src: CLIENT, dst: vip, seq, ack: 0, flags: SYN, options: vec![], data: vec![] };
        let syn = director.at_server(&none);
        let first = syn.seq.wrapping_add(1);
        let syn_ack = director.at_client(&Segment {
            src: syn.dst,
            dst: syn.src,
            seq: answer,
            ack: first,
            flags: SYN | ACK,
            ..none
        });
        assert_eq!((syn_ack.src, syn_ack.ack), (vip, numbers.0));
        let client = Side::new(CLIENT, vip, numbers.0, syn_ack.seq.wrapping_add(1));
        let server = Side::new(syn.dst, syn.src, numbers.1, first);
        let mut wire = Wire { director, client, server };
        wire.pass(true, None, last_lost);
        wire
    }

    fn pass(&mut self, from_client: bool, nth: Option<usize>, lost: bool) {
        let from = if from_client { &self.client } else { &self.server };
        let (at_client, at_server) = self.director.tcp(&from.segment(nth), from_client);
        let (back, there) = if from_client { (at_client, at_server) } else { (at_server, at_client) };
        assert!(back.is_empty() && (1..=2).contains(&there.len()), "{back:?} {there:?}");
        let to = if from_client { &mut self.server } else { &mut self.client };
        for segment in there.iter().filter(|_| !lost) {
            to.take(segment);
        }
    }

    /// Sends again what was not acknowledged until all is.
    fn finish(&mut self) {
        for _ in 0..200 {
            for from_client in [true, false] {
                let side = if from_client { &self.client } else { &self.server };
                let missing =
                    side.sent.iter().position(|(at, data)| at + data.len() as u32 > side.acknowledged);
                self.pass(from_client, missing, false);
            }
            let done = |side: &Side| side.acknowledged == side.next();
            if done(&self.client) && done(&self.server) {
                return;
            }
        }
        panic!("it never ends");
    }
}

#[derive(Clone, Debug)]
enum Act {
    /// Who, and how much.
    Write(bool, usize),
    /// Who, and which of its segments.
    Again(bool, usize),
    Acknowledge(bool),
}

fn acts() -> impl Strategy<Value = Vec<(Act, bool)>> {
    let act = prop_oneof![
        (any::<bool>(), 1..1440usize).prop_map(|(who, length)| Act::Write(who, length)),
        (any::<bool>(), 0..50usize).prop_map(|(who, nth)| Act::Again(who, nth)),
        any::<bool>().prop_map(Act::Acknowledge),
    ];
    prop::collection::vec((act, prop::bool::weighted(0.3)), 0..40)
}

fn ways() -> impl Strategy<Value = (&'static str, ClientAddress)> {
    prop_oneof![
        Just(("fullnat", ClientAddress::None)),
        Just(("fullnat", ClientAddress::Toa)),
        Just(("fullnat", ClientAddress::ProxyV1)),
        Just(("fullnat", ClientAddress::ProxyV2)),
        Just(("nat", ClientAddress::ProxyV1)),
        Just(("nat", ClientAddress::ProxyV2)),
    ]
}

fn header(how: ClientAddress) -> &'static [u8] {
    match how {
        ClientAddress::None | ClientAddress::Toa => b"",
        ClientAddress::ProxyV1 => b"PROXY TCP4 10.0.0.2 10.0.0.100 40001 80\r\n",
        ClientAddress::ProxyV2 => b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x02\x0a\0\0\x64\x9c\x41\0\x50",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn each_side_gets_the_others_bytes(
        (forward, how) in ways(),
        numbers in (any::<u32>(), any::<u32>()),
        last_lost in any::<bool>(),
        acts in acts(),
    ) {
        let vip = (IpAddr::V4(VIP), 80);
        let mut wire = Wire::open(director(2, 80, forward, how), vip, numbers, last_lost);
        let mut value = 0u8;
        for (act, lost) in acts {
            let (who, nth) = match act {
                Act::Write(who, length) => {
                    value = value.wrapping_add(1);
                    let side = if who { &mut wire.client } else { &mut wire.server };
                    (who, Some(side.write(&vec![value; length])))
                }
                Act::Again(who, nth) => {
                    let side = if who { &wire.client } else { &wire.server };
                    (who, nth.checked_rem(side.sent.len()))
                }
                Act::Acknowledge(who) => (who, None),
            };
            wire.pass(who, nth, lost);
        }
        wire.finish();
        let all = |side: &Side| side.sent.iter().flat_map(|(_, data)| data.clone()).collect::<Vec<_>>();
        prop_assert_eq!(wire.client.bytes(), all(&wire.server));
        prop_assert_eq!(wire.server.bytes(), [header(how), &all(&wire.client)].concat());
        prop_assert_eq!(wire.director.drops(), vec![]);
    }

    #[test]
    fn each_side_of_ftp_gets_the_others_words_as_they_are_to_be(
        fullnat in any::<bool>(),
        numbers in (any::<u32>(), any::<u32>()),
        rounds in prop::collection::vec((0..3u8, any::<u8>(), 0..3u8, 0..3u8), 1..12),
    ) {
        let forward = if fullnat { "fullnat" } else { "nat" };
        let director = director(2, 21, forward, ClientAddress::None);
        let mut wire = Wire::open(director, (IpAddr::V4(VIP), 21), numbers, false);
        let mut expected = String::new();
        for (kind, port, losses, repeats) in rounds {
            let (command, answer, seen) = match kind {
                0 => (
                    "PASV\r\n".into(),
                    format!("227 now ({},{port})\r\n", "10,1,0,11,156"),
                    format!("227 now ({},{port})\r\n", "10,0,0,100,156"),
                ),
                1 => (format!("PORT 10,0,0,2,156,{port}\r\n"), "200 ok\r\n".into(), "200 ok\r\n".into()),
                _ => (format!("NOOP {port}\r\n"), "200 yes\r\n".into(), "200 yes\r\n".to_owned()),
            };
            expected.push_str(&seen);
            for (who, line) in [(true, &command), (false, &answer)] {
                let side = if who { &mut wire.client } else { &mut wire.server };
                let nth = Some(side.write(line.as_bytes()));
                (0..losses).for_each(|_| wire.pass(who, nth, true));
                (0..=repeats).for_each(|_| wire.pass(who, nth, false));
                wire.pass(!who, None, false);
                let side = if who { &wire.client } else { &wire.server };
                prop_assert_eq!(side.acknowledged, side.next());
            }
        }
        wire.finish();
        prop_assert_eq!(String::from_utf8(wire.client.bytes()).unwrap(), expected.as_str());
        let heard = String::from_utf8(wire.server.bytes()).unwrap();
        prop_assert_eq!(heard.contains("10,0,0,2"), !fullnat && heard.contains("PORT"));
        prop_assert_eq!(heard.matches("\r\n").count(), expected.matches("\r\n").count());
        prop_assert_eq!(wire.director.drops(), vec![]);
    }
}

//! Packets from the network are hostile: whatever comes, no panic, every packet accounted for, sums right.

mod harness;

use fulcrum_director::{Event, Reason};
use fulcrum_packet::tcp::{ACK, FIN, RST, SYN};
use harness::both::{CLIENT6, POOLS, SIX, addr, datagram, end, fragments, packet, segment};
use harness::*;
use proptest::prelude::*;

const SERVICES: &str = r#"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:8000"
forward = "nat"
[[service.server]]
address = "10.1.0.12:8000"
forward = "fullnat"
[[service]]
address = "10.0.0.100:53"
protocol = "udp"
persistent = 30
[[service.server]]
address = "10.1.0.11:53"
forward = "dr"
[[service.server]]
address = "10.1.0.12:53"
forward = "tun"
[[service]]
address = "10.0.0.100:21"
protocol = "tcp"
[[service.server]]
address = "10.1.0.11:21"
forward = "nat"
[[service]]
address = "10.0.0.100:132"
protocol = "sctp"
[[service.server]]
address = "10.1.0.11:132"
forward = "nat"
[[service]]
address = "[fd00:1::100]:80"
protocol = "tcp"
local-pool = "inside6"
client-address = "toa"
[[service.server]]
address = "[fd00:2::11]:8000"
forward = "nat"
[[service.server]]
address = "[fd00:2::11]:8001"
forward = "fullnat"
[[service]]
address = "[fd00:1::100]:53"
protocol = "udp"
local-pool = "inside"
[[service.server]]
address = "10.1.0.11:5353"
forward = "fullnat"
[[mark]]
mark = 7
destination = "203.0.113.0/24"
[[service]]
mark = 7
persistent = 60
[[service.server]]
address = "10.1.0.12:0"
forward = "tun"
tunnel = "gre"
tunnel-checksum = "csum"
"#;

/// Them, and both families on both links.
fn services() -> String {
    format!("{SIX}{POOLS}{SERVICES}")
}

fn base() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let flags = prop::sample::select(vec![SYN, ACK, SYN | ACK, FIN | ACK, RST, 0, 0xff]);
    let port = 40_000u16..40_006;
    let data = prop::collection::vec(any::<u8>(), 0..1600);
    prop_oneof![
        (port.clone(), flags.clone(), data.clone()).prop_map(|(port, flags, data)| {
            (0, tcp_frame(WAN, (CLIENT, port), (VIP, 80), flags, &data[..data.len().min(1460)]))
        }),
        (port.clone(), data.clone()).prop_map(|(port, data)| {
            (0, udp_frame(WAN, (CLIENT, port), (VIP, 53), &data[..data.len().min(1472)]))
        }),
        (port.clone(), flags).prop_map(|(port, flags)| {
            (1, tcp_frame(LAN, (SERVER_A, 8000), (CLIENT, port), flags, b"answer"))
        }),
        (0u8..13, 0u8..6, port).prop_map(|(kind, code, port)| {
            let about = tcp_frame(PEER, (CLIENT, port), (SERVER_A, 8000), ACK, b"");
            (1, error_frame(LAN, SERVER_A, CLIENT, kind, code, &about))
        }),
        data.clone().prop_map(|data| (0, frame(WAN, CLIENT, VIP, 1, &data[..data.len().min(1400)]))),
        data.clone().prop_map(|data| (0, frame(WAN, CLIENT, VIP, 132, &data[..data.len().min(1400)]))),
        other(data),
    ]
}

/// IPv6, fragments of both families, FTP's words, what is marked.
fn other(data: impl Strategy<Value = Vec<u8>> + Clone) -> impl Strategy<Value = (u16, Vec<u8>)> {
    let flags = prop::sample::select(vec![SYN, ACK, SYN | ACK, FIN | ACK, RST]);
    let (client, vip) = (addr(CLIENT6.0), addr("fd00:1::100"));
    let port = 40_000u16..40_006;
    let word = prop::sample::select(vec![
        &b"PORT 10,0,0,2,156,65\r\n"[..],
        b"PASV\r\n",
        b"EPRT |1|10.0.0.2|40001|\r\n",
        b"227 Entering Passive Mode (10,1,0,11,200,1)\r\n",
    ]);
    prop_oneof![
        (port.clone(), flags.clone(), data.clone()).prop_map(move |(port, flags, data)| {
            (0, segment(WAN, (client, port), (vip, 80), flags, &data[..data.len().min(1400)]))
        }),
        (port.clone(), flags, 8000u16..8002).prop_map(move |(port, flags, from)| {
            let server = end("fd00:2::11", from);
            (1, segment(LAN, server, (client, port), flags, b"answer"))
        }),
        (port.clone(), data.clone(), 0usize..9, any::<bool>()).prop_map(move |(port, data, which, v6)| {
            let (src, dst) = if v6 { (client, vip) } else { (CLIENT.into(), VIP.into()) };
            let pieces = fragments(WAN, src, dst, &datagram((src, port), (dst, 53), &data), 208);
            (0, pieces[which % pieces.len()].clone())
        }),
        (prop::sample::select(vec![58u8, 132, 47, 51, 0, 43, 60, 44]), data).prop_map(
            move |(protocol, data)| (0, packet(WAN, client, vip, protocol, &data[..data.len().min(1400)]))
        ),
        (port.clone(), word, any::<bool>()).prop_map(|(port, word, from_client)| {
            if from_client {
                return (0, tcp_frame(WAN, (CLIENT, port), (VIP, 21), ACK, word));
            }
            (1, tcp_frame(LAN, (SERVER_A, 21), (CLIENT, port), ACK, word))
        }),
        port.prop_map(|port| {
            (0, tcp_frame(WAN, (CLIENT, port), ([203, 0, 113, 9].into(), port), SYN, b""))
        }),
    ]
}

/// Some bytes changed, perhaps the end cut off, perhaps the IPv4 checksum made right again.
fn mutated() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let changes = prop::collection::vec((0usize..80, any::<u8>()), 0..4);
    (base(), changes, prop::option::of(0usize..100), any::<bool>()).prop_map(
        |((port, mut frame), changes, cut, mend)| {
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some(cut) = cut {
                frame.truncate(frame.len().saturating_sub(cut));
            }
            let header = frame.get(14).map_or(0, |first| usize::from(first & 15) * 4);
            if mend && header >= 20 && frame[14] >> 4 == 4 && 14 + header <= frame.len() {
                frame = with_ip(frame, |_| {});
            }
            (port, frame)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Of every packet that came in, exactly one of: forwarded, answered, taken by the host, parked, dropped.
    #[test]
    fn every_packet_is_accounted_for(frames in prop::collection::vec(mutated(), 1..60), workers in 1u16..4) {
        let mut director = Director::with(workers, &services(), |config| config.misdirect = workers == 3);
        for (port, frame) in &frames {
            director.send(*port, frame);
        }
        let forwarded = [
            Event::ForwardedNat, Event::ForwardedFullNat, Event::ForwardedDr, Event::ForwardedTun,
            Event::ForwardedReply, Event::ForwardedIcmp, Event::ForwardedRoute, Event::EchoReplied,
            Event::TimestampReplied, Event::ArpReplied, Event::NdReplied,
        ];
        let taken: u64 = forwarded.iter().map(|&event| director.happened(event)).sum();
        let dropped: u64 = Reason::ALL.iter().map(|&reason| director.dropped(reason)).sum();
        // Fragments that still wait, until they have done so in vain.
        let of_fragments = |director: &Director| -> u64 {
            [Reason::FragmentTimeout, Reason::OverlappingFragment, Reason::FragmentLimit]
                .map(|reason| director.dropped(reason))
                .iter()
                .sum()
        };
        let before = of_fragments(&director);
        director.wait(3 * fulcrum_director::SECOND);
        let waited = of_fragments(&director) - before;
        prop_assert_eq!(taken + dropped + waited, frames.len() as u64, "{:?}", director.drops());
        // And whoever looks at drops sees each of them.
        for &reason in Reason::ALL {
            prop_assert_eq!(director.shown[reason as usize], director.dropped(reason), "{}", reason);
        }
        let received: u64 = director.counters.iter().map(|counters| counters.rx_packets.get()).sum();
        prop_assert_eq!(received, frames.len() as u64);
    }

    /// Sums that were right stay right, in both directions and in whatever the director sends itself.
    #[test]
    fn nothing_leaves_with_a_wrong_checksum(frames in prop::collection::vec(base(), 1..60), workers in 1u16..4) {
        let mut director = Director::new(workers, &services());
        for (port, frame) in &frames {
            let before = frame.clone();
            let outs = director.send(*port, frame);
            // A ping or error of random bytes has a wrong sum to begin with.
            let noise = before[12..14] == [8, 0] && before[23] == 1 || before[24] == 58;
            if !noise || fulcrum_packet::checksum::checksum(&before[34..]) == 0 {
                outs.iter().for_each(check_sums);
            }
        }
    }

    /// Sessions end, counts return to zero.
    #[test]
    fn counts_return_to_zero(frames in prop::collection::vec(mutated(), 1..40), workers in 1u16..4) {
        let mut director = Director::new(workers, &services());
        for (port, frame) in &frames {
            director.send(*port, frame);
        }
        director.wait(1000 * fulcrum_director::SECOND);
        prop_assert_eq!(director.sessions(), vec![]);
        prop_assert_eq!(director.counts(), vec![(0, 0, 0); 2]);
    }
}

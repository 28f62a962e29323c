//! Packets from the network are hostile: whatever comes, no panic, every packet accounted for, sums right.

mod harness;

use fulcrum_director::{Event, Reason};
use fulcrum_packet::tcp::{ACK, FIN, RST, SYN};
use harness::*;
use proptest::prelude::*;

const SERVICES: &str = r#"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["10.1.0.200"]
ports = "5000-5003"
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
"#;

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
        data.prop_map(|data| (0, frame(WAN, CLIENT, VIP, 1, &data[..data.len().min(1400)]))),
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
        let mut director = Director::with(workers, SERVICES, |config| config.misdirect = workers == 3);
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
        let received: u64 = director.counters.iter().map(|counters| counters.rx_packets.get()).sum();
        prop_assert_eq!(received, frames.len() as u64);
    }

    /// Sums that were right stay right, in both directions and in whatever the director sends itself.
    #[test]
    fn nothing_leaves_with_a_wrong_checksum(frames in prop::collection::vec(base(), 1..60), workers in 1u16..4) {
        let mut director = Director::new(workers, SERVICES);
        for (port, frame) in &frames {
            let before = frame.clone();
            let outs = director.send(*port, frame);
            // A ping or error of random bytes has a wrong sum to begin with.
            if fulcrum_packet::checksum::checksum(&before[34..]) == 0 || before[23] != 1 {
                outs.iter().for_each(check_sums);
            }
        }
    }

    /// Sessions end, counts return to zero.
    #[test]
    fn counts_return_to_zero(frames in prop::collection::vec(mutated(), 1..40), workers in 1u16..4) {
        let mut director = Director::new(workers, SERVICES);
        for (port, frame) in &frames {
            director.send(*port, frame);
        }
        director.wait(1000 * fulcrum_director::SECOND);
        prop_assert_eq!(director.sessions(), vec![]);
        prop_assert_eq!(director.counts(), vec![(0, 0, 0); 2]);
    }
}

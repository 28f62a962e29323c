//! Which of several next hops a flow takes.
//!
//! Weighted rendezvous: flow and next hop together give each next hop a number, the best one wins. So all packets of a
//! flow in one direction take the same, on every worker and after every restart; when a next hop goes, only its flows
//! find another, and they return when it does. Only what opens sessions and what goes the whole way asks here.

use std::net::IpAddr;

use fulcrum_packet::ports::Ports;
use fulcrum_packet::{icmp, icmpv6, ipv4, ipv6};

use crate::buffer::Buf;
use crate::hash::folded_multiply;
use crate::message::{First, Stage};
use crate::packet::{Packet, ike_key, is_balanced, is_ipsec};
use crate::session::{Direction, Ends, Key};
use crate::snapshot::NextHop;

/// Odd, and without pattern.
const FLOW: u64 = 0x9e6c_63d0_876a_3f6b;
const HOP: u64 = 0xd6e8_feb8_6659_fd93;

/// What makes a gateway's numbers others than its neighbours'.
pub(crate) fn seed(gateway: IpAddr) -> u64 {
    mix(HOP, gateway)
}

fn mix(seed: u64, address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => folded_multiply(seed ^ u64::from(address.to_bits()), FLOW),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            folded_multiply(folded_multiply(seed ^ (bits >> 64) as u64, FLOW) ^ bits as u64, HOP)
        }
    }
}

/// The flow as a number. Order counts: answers may go another way than requests.
fn hash(flow: Key) -> u64 {
    let ends = mix(mix(FLOW, flow.src), flow.dst);
    let rest = u64::from(flow.protocol) << 32 | u64::from(flow.sport) << 16 | u64::from(flow.dport);
    folded_multiply(ends ^ rest, HOP)
}

/// The next hop of a flow among those that answer; among all, when none does.
pub(crate) fn choose(hops: &[NextHop], flow: Key) -> Option<&NextHop> {
    let flow = hash(flow);
    best(hops.iter().filter(|hop| hop.gateway.answers()), flow).or_else(|| best(hops.iter(), flow))
}

fn best<'a>(hops: impl Iterator<Item = &'a NextHop>, flow: u64) -> Option<&'a NextHop> {
    let scored = hops.map(|hop| (score(hop, flow), hop));
    scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, hop)| hop)
}

/// Of numbers by chance u in (0, 1), that with the largest ln(u) / weight is each one's as often as its weight says.
fn score(hop: &NextHop, flow: u64) -> f64 {
    const BITS: u32 = 53;
    let chance = folded_multiply(flow ^ hop.seed, FLOW) >> (u64::BITS - BITS);
    let u = (chance as f64 + 0.5) / (1u64 << BITS) as f64;
    u.ln() / f64::from(hop.weight)
}

/// The flow of a packet that no session has. A fragment whose ports nobody knows goes by its addresses, its datagram's
/// first one too; an ICMP error goes with the flow that it is about, so that it meets who sent that (RFC 7690).
pub(crate) fn of_packet<B: Buf>(packet: &Packet<B>) -> Key {
    let by_addresses = of_addresses(packet.src, packet.dst);
    match packet.stage {
        _ if !packet.has_ports() => by_addresses,
        _ if !packet.is_icmp() => packet.key(),
        Stage::Fragment { first: First::Error(quoted), .. } => quoted.inverted(),
        Stage::Fragment { .. } => by_addresses,
        _ => quoted(packet.is_v6(), packet.payload()).map_or(by_addresses, Key::inverted),
    }
}

/// The flow of a whole packet of our own.
pub(crate) fn of_own(packet: &[u8]) -> Option<Key> {
    let v6 = packet.first()? >> 4 == 6;
    let (flow, offset) = of_headers(v6, packet)?;
    let is_icmp = flow.protocol == u16::from(if v6 { ipv6::ICMP } else { ipv4::ICMP });
    let about = if is_icmp { quoted(v6, packet.get(offset..)?) } else { None };
    Some(match about {
        Some(about) => about.inverted(),
        None if is_icmp => of_addresses(flow.src, flow.dst),
        None => flow,
    })
}

/// The flow that an ICMP error is about.
fn quoted(v6: bool, message: &[u8]) -> Option<Key> {
    let is_error = if v6 { icmpv6::is_error } else { icmp::is_error };
    if !is_error(*message.first()?) {
        return None;
    }
    let (flow, _) = of_headers(v6, message.get(icmp::HEADER..)?)?;
    let is_icmp = flow.protocol == u16::from(if v6 { ipv6::ICMP } else { ipv4::ICMP });
    Some(if is_icmp { of_addresses(flow.src, flow.dst) } else { flow })
}

/// The flow of a packet of which the beginning is there, and where its upper layer begins.
fn of_headers(v6: bool, packet: &[u8]) -> Option<(Key, usize)> {
    let (src, dst, protocol, offset, part): (IpAddr, IpAddr, _, _, _) = if v6 {
        let ip = ipv6::Packet::new_quoted(packet).ok()?;
        let upper = ip.upper().ok()?;
        let part = upper.fragment.is_some_and(|fragment| !fragment.is_atomic());
        (ip.src().into(), ip.dst().into(), upper.protocol, upper.offset, part)
    } else {
        let ip = ipv4::Packet::new_quoted(packet).ok()?;
        (ip.src().into(), ip.dst().into(), ip.protocol(), ip.header_len(), ip.is_fragment())
    };
    if is_ipsec(protocol) {
        return Some((ike_key(src, dst), offset));
    }
    let upper = packet.get(offset..).filter(|_| is_balanced(protocol) && !part);
    let ports = upper.and_then(|upper| Ports::new_checked(upper).ok());
    let (sport, dport) = ports.map_or((0, 0), |ports| (ports.src(), ports.dst()));
    let protocol = if part { 0 } else { protocol.into() };
    Some((Key { protocol, src, sport, dst, dport }, offset))
}

pub(crate) fn of_addresses(src: IpAddr, dst: IpAddr) -> Key {
    Key { protocol: 0, src, sport: 0, dst, dport: 0 }
}

/// The flow of a session's packets in a direction.
pub(crate) fn of_session(protocol: u8, ends: &Ends, direction: Direction) -> Key {
    let ((src, sport), (dst, dport)) = (ends.client, ends.vip);
    let key = Key { protocol: protocol.into(), src, sport, dst, dport };
    match direction {
        Direction::In => key,
        Direction::Out => key.inverted(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Gateway;

    fn hops(weights: [u16; 3]) -> Vec<NextHop> {
        let hop = |(n, weight): (u8, u16)| {
            let address: IpAddr = format!("fe80::{n:x}").parse().unwrap();
            NextHop::new(Gateway::new(0, address), address, weight)
        };
        (1..4).zip(weights).map(hop).collect()
    }

    fn flow(n: u16) -> Key {
        let [src, dst] = ["2001:db8::7", "2001:db8:1::9"].map(|address| address.parse().unwrap());
        Key { protocol: 17, src, sport: n, dst, dport: 443 }
    }

    #[test]
    fn flows_of_ipv6_are_shared_by_weight_and_each_has_its_second_choice() {
        let hops = hops([1, 1, 2]);
        let place =
            |flow| hops.iter().position(|hop| std::ptr::eq(hop, choose(&hops, flow).unwrap())).unwrap();
        let before: Vec<usize> = (0..8000).map(|n| place(flow(n))).collect();
        let share =
            |of: &[usize], at| of.iter().filter(|&&place| place == at).count() as f64 / of.len() as f64;
        for (at, expected) in [(0, 0.25), (1, 0.25), (2, 0.5)] {
            assert!((share(&before, at) - expected).abs() < 0.02, "{at}: {}", share(&before, at));
        }
        hops[2].gateway.set_answers(false);
        let after: Vec<usize> = (0..8000).map(|n| place(flow(n))).collect();
        assert!(before.iter().zip(&after).all(|(before, after)| *before == 2 || before == after));
        assert!((share(&after, 0) - 0.5).abs() < 0.02);
    }

    /// What is written down here stays: another hash would send flows elsewhere after an upgrade.
    #[test]
    fn the_hash_is_the_same_in_every_version() {
        let hops = hops([1, 2, 3]);
        let taken: String = (0..32)
            .map(|n| choose(&hops, flow(n)).unwrap().gateway.address.to_string().pop().unwrap())
            .collect();
        assert_eq!(taken, "21323131312331122223323222333233");
    }

    #[test]
    fn an_error_of_our_own_goes_with_the_flow_that_it_is_about() {
        let mut about = vec![0; ipv6::HEADER + 8];
        let Key { src: IpAddr::V6(src), dst: IpAddr::V6(dst), .. } = flow(0) else { panic!() };
        let header = ipv6::Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 8,
            next_header: ipv4::UDP,
            hop_limit: 1,
            src,
            dst,
        };
        header.emit(&mut about);
        about[ipv6::HEADER..][..4].copy_from_slice(&[0, 7, 1, 0xbb]);
        assert_eq!(of_own(&about), Some(flow(7)));
        let mut error = vec![0; ipv6::HEADER + icmp::HEADER];
        let payload_len = (icmp::HEADER + about.len()) as u16;
        let (src, dst) = ("2001:db8:ffff::1".parse().unwrap(), src);
        ipv6::Header { payload_len, next_header: ipv6::ICMP, hop_limit: 64, src, dst, ..header }
            .emit(&mut error);
        error[ipv6::HEADER] = icmpv6::TIME_EXCEEDED;
        error.extend_from_slice(&about);
        assert_eq!(of_own(&error), Some(flow(7).inverted()));
        // An echo goes by its addresses.
        error[ipv6::HEADER] = icmpv6::ECHO_REPLY;
        assert_eq!(of_own(&error), Some(of_addresses(src.into(), dst.into())));
    }
}

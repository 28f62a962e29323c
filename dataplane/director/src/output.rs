//! A packet's last steps: route, size, next hop, Ethernet header.

use std::net::IpAddr;

use fulcrum_packet::{ethernet, ip, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine, RESOLVER};
use crate::marks::prefix_matches;
use crate::message::{Envelope, Message};
use crate::neighbour::Lookup;
use crate::next_hop::choose;
use crate::packet::{Fragment, Packet, checked};
use crate::reason::{Event, Reason};
use crate::session::Key;
use crate::snapshot::{Gateway, Hop, InterfaceId, NextHop, Route, Snapshot};
use crate::{Engine as Director, Transmit, next_hop};

/// A way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) interface: InterfaceId,
    pub(crate) next_hop: IpAddr,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u16,
    /// Own address to send from.
    pub(crate) source: IpAddr,
    /// Whether other flows to the same address may take another one.
    pub(crate) several: bool,
}

/// What became of a packet that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// On its way.
    Out,
    /// Waits for its next hop.
    Parked,
    /// Given to the host.
    Up,
    /// Could not be sent; not yet counted.
    Dropped(Reason),
}

/// The way to an address, or why there is none. Where there are several, `flow` decides.
pub(crate) fn way(snap: &Snapshot, dst: IpAddr, flow: impl FnOnce() -> Key) -> Result<Way, Reason> {
    if let Some(&interface) = snap.hosts.get(&dst) {
        let place = &snap.interfaces[usize::from(interface)];
        let own = place.addresses.iter().find(|(own, _)| own.is_ipv6() == dst.is_ipv6());
        let source = own.map_or(ip::unspecified(dst.is_ipv6()), |&(own, _)| own);
        return Ok(Way { interface, next_hop: dst, mtu: place.mtu, source, several: false });
    }
    let route = route(snap, dst)?;
    let (interface, next_hop) = match route.hop {
        Hop::Link(interface) => (interface, dst),
        Hop::Via(interface, gateway) => (interface, gateway),
        Hop::Several { .. } => {
            let hop = choose(next_hops(snap, route), flow()).ok_or(Reason::NoRoute)?;
            return Ok(way_by(snap, route, hop));
        }
        Hop::Unreachable => return Err(Reason::RouteUnreachable),
        Hop::Blackhole => return Err(Reason::RouteBlackhole),
    };
    let mtu = if route.mtu == 0 { snap.interfaces[usize::from(interface)].mtu } else { route.mtu };
    Ok(Way { interface, next_hop, mtu, source: route.source, several: false })
}

/// The route to an address.
pub(crate) fn route(snap: &Snapshot, dst: IpAddr) -> Result<&Route, Reason> {
    let leads = |route: &&Route| prefix_matches(route.prefix, route.length, dst);
    snap.routes.iter().find(leads).ok_or(Reason::NoRoute)
}

/// The next hops of a route that has several.
pub(crate) fn next_hops<'a>(snap: &'a Snapshot, route: &Route) -> &'a [NextHop] {
    let Hop::Several { first, count } = route.hop else { return &[] };
    let first = first as usize;
    snap.next_hops.list.get(first..first + count as usize).unwrap_or_default()
}

/// The way by one of the next hops of a route.
pub(crate) fn way_by(snap: &Snapshot, route: &Route, hop: &NextHop) -> Way {
    let Gateway { interface, address: next_hop, .. } = hop.gateway;
    let mtu = if route.mtu == 0 { snap.interfaces[usize::from(interface)].mtu } else { route.mtu };
    Way { interface, next_hop, mtu, source: hop.source, several: true }
}

/// The way to whoever sent a packet that came in by `interface`: a link-local address names no link by itself.
pub(crate) fn way_back(
    snap: &Snapshot,
    dst: IpAddr,
    interface: InterfaceId,
    flow: impl FnOnce() -> Key,
) -> Result<Way, Reason> {
    match dst {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            let place = &snap.interfaces[usize::from(interface)];
            let own = place.addresses.iter().find(|(own, _)| is_link_local(*own));
            let source = own.map_or(ip::unspecified(true), |&(own, _)| own);
            Ok(Way { interface, next_hop: dst, mtu: place.mtu, source, several: false })
        }
        _ => way(snap, dst, flow),
    }
}

/// The own address that a packet of our own to `dst` comes from. Of several of IPv6 it is the one that has the most
/// leading bits in common with `dst`, beyond its own prefix not counted (RFC 6724, 5, rule 8).
pub(crate) fn source_towards(snap: &Snapshot, way: &Way, dst: IpAddr) -> IpAddr {
    let IpAddr::V6(dst) = dst else { return way.source };
    let mut best = (way.source, None);
    for &(own, length) in &snap.interfaces[usize::from(way.interface)].addresses {
        let IpAddr::V6(address) = own else { continue };
        if address.is_unicast_link_local() != dst.is_unicast_link_local() {
            continue;
        }
        let common = (address.to_bits() ^ dst.to_bits()).leading_zeros().min(u32::from(length));
        if best.1.is_none_or(|most| common > most) {
            best = (own, Some(common));
        }
    }
    best.0
}

/// Whether an address is one that means nothing beyond its link (RFC 4291, 2.5.6).
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl<P: Pool> Director<P> {
    /// The own address that a packet would be sent from; unspecified without a way.
    pub(crate) fn route_source(&self, snap: &Snapshot, packet: &Packet<P::Buf>) -> IpAddr {
        let dst = packet.dst;
        way(snap, dst, || next_hop::of_packet(packet))
            .map_or(ip::unspecified(dst.is_ipv6()), |way| way.source)
    }

    /// An identification for a packet of our own that may be fragmented.
    pub(crate) fn next_ip_id(&mut self) -> u16 {
        next_ip_id(&mut self.ip_id)
    }
}

/// The identification after the last one.
#[inline]
pub(crate) fn next_ip_id(last: &mut u16) -> u16 {
    *last = last.wrapping_add(1);
    *last
}

impl<P: Pool> Engine<P> {
    /// Sends the IP packet at `l3` of a frame, in fragments when it is too large and may be cut. `port` is the
    /// one it came in by; `routed` says that it is no service's: fewer of these may wait for their next hop, and a sender is told
    /// when that is not there.
    pub(crate) fn send(
        &mut self,
        ctx: &mut Context<'_, P>,
        buf: P::Buf,
        l3: usize,
        way: &Way,
        port: u16,
        routed: bool,
    ) -> Sent {
        let ip = checked(ip::Packet::new_checked(&buf.bytes()[l3..]));
        if ip.total_len() <= usize::from(way.mtu) {
            return self.send_frame(ctx, buf, l3, way, port, routed);
        }
        let sent = match ip.dont_fragment() {
            true => Sent::Dropped(Reason::TooBig),
            false => self.send_fragments(ctx, &buf, l3, way, port, routed),
        };
        if matches!(sent, Sent::Dropped(_)) {
            ctx.refuse(buf);
        }
        sent
    }

    /// Cuts an IPv4 packet to the way's size (RFC 791, 3.2: every fragment but the last carries a multiple of eight bytes).
    fn send_fragments(
        &mut self,
        ctx: &mut Context<'_, P>,
        buf: &P::Buf,
        l3: usize,
        way: &Way,
        port: u16,
        routed: bool,
    ) -> Sent {
        let whole = &buf.bytes()[l3..];
        let ip = checked(ipv4::Packet::new_checked(whole));
        let (header, flags) = (ip.header_len(), ip.fragment());
        let body = &whole[header..usize::from(ip.total_len())];
        let room = (usize::from(way.mtu).saturating_sub(header)) & !7;
        if room == 0 {
            return Sent::Dropped(Reason::TooBig);
        }
        let mut sent = Sent::Out;
        for (number, part) in body.chunks(room).enumerate() {
            let last = (number + 1) * room >= body.len();
            let Some(mut piece) = ctx.pool.alloc(l3 + header + part.len()) else {
                return Sent::Dropped(Reason::NoBuffer);
            };
            let bytes = &mut piece.bytes_mut()[l3..];
            bytes[..header].copy_from_slice(&whole[..header]);
            if number > 0 {
                crate::host::options::keep_copied(&mut bytes[ipv4::HEADER..header]);
            }
            bytes[header..].copy_from_slice(part);
            let offset = (flags & ipv4::OFFSET) + (number * room / 8) as u16;
            let more = if last { flags & ipv4::MF } else { ipv4::MF };
            let total = (header + part.len()) as u16;
            bytes[2..4].copy_from_slice(&total.to_be_bytes());
            bytes[6..8].copy_from_slice(&(offset | more).to_be_bytes());
            checked(ipv4::Packet::new_checked(bytes)).fill_checksum();
            sent = self.send_frame(ctx, piece, l3, way, port, routed);
        }
        self.counters.event(Event::Fragmented);
        sent
    }

    /// Cuts an IPv6 packet of our own making, which is `whole` of its datagram, to the way's size (RFC 8200, 4.5).
    /// `(l3, l4)` is where its header and what follows all headers begin.
    #[allow(clippy::too_many_arguments, reason = "what is known of the packet")]
    pub(crate) fn send_fragments6(
        &mut self,
        ctx: &mut Context<'_, P>,
        buf: &P::Buf,
        (l3, l4): (usize, usize),
        protocol: u8,
        whole: Fragment,
        way: &Way,
        port: u16,
    ) -> Sent {
        const HEADERS: usize = ipv6::HEADER + ipv6::FRAGMENT_HEADER;
        let (header, body) = (&buf.bytes()[l3..l3 + ipv6::HEADER], &buf.bytes()[l4..]);
        let room = usize::from(way.mtu).saturating_sub(HEADERS) & !7;
        if room == 0 {
            return Sent::Dropped(Reason::TooBig);
        }
        let mut sent = Sent::Out;
        for (number, part) in body.chunks(room).enumerate() {
            let Some(mut piece) = ctx.pool.alloc(l3 + HEADERS + part.len()) else {
                return Sent::Dropped(Reason::NoBuffer);
            };
            let offset = whole.offset + number * room;
            let more = whole.more || (number + 1) * room < body.len();
            let bytes = &mut piece.bytes_mut()[l3..];
            bytes[..ipv6::HEADER].copy_from_slice(header);
            bytes[ipv6::HEADER..HEADERS]
                .copy_from_slice(&ipv6::fragment_header(protocol, offset, more, whole.id));
            bytes[HEADERS..].copy_from_slice(part);
            let mut ip = checked(ipv6::Packet::new_quoted(bytes));
            ip.set_payload_len((ipv6::FRAGMENT_HEADER + part.len()) as u16);
            ip.set_next_header(ipv6::FRAGMENT);
            sent = self.send_frame(ctx, piece, l3, way, port, false);
        }
        self.counters.event(Event::Fragmented);
        sent
    }

    /// Puts the Ethernet header before the packet at `l3` and sends the frame, or parks it with the resolver.
    fn send_frame(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut buf: P::Buf,
        l3: usize,
        way: &Way,
        port: u16,
        routed: bool,
    ) -> Sent {
        if ctx.snap.hosts.contains_key(&way.next_hop) {
            return self.send_up(ctx, buf, l3, way.interface);
        }
        let interface = &ctx.snap.interfaces[usize::from(way.interface)];
        let wanted = ethernet::header_len(interface.vlan);
        if wanted > l3 {
            if !buf.grow_front(wanted - l3) {
                ctx.refuse(buf);
                return Sent::Dropped(Reason::NoHeadroom);
            }
        } else {
            buf.shrink_front(l3 - wanted);
        }
        let ethertype = if way.next_hop.is_ipv6() { ethernet::IPV6 } else { ethernet::IPV4 };
        let emit = |buf: &mut P::Buf, mac| {
            ethernet::emit(buf.bytes_mut(), mac, interface.mac, interface.vlan, ethertype);
        };
        match self.neighbours.lookup(way.interface, way.next_hop, ctx.now) {
            Lookup::Known { mac, ask } => {
                emit(&mut buf, mac);
                ctx.out.tx.push(Transmit { port: interface.port, buf });
                if ask {
                    self.confirm_neighbour(ctx, way.interface, way.next_hop);
                }
                Sent::Out
            }
            Lookup::Unknown => {
                emit(&mut buf, [0; 6]);
                let (interface, next_hop) = (way.interface, way.next_hop);
                if self.config.worker == RESOLVER {
                    return self.park(ctx, interface, next_hop, port, routed, buf);
                }
                let message = Message::Park { interface, next_hop, port, routed, buf };
                ctx.out.outbox.push(Envelope { to: RESOLVER, message });
                Sent::Parked
            }
        }
    }

    /// Tells the resolver that a neighbour is in use, so that it is asked before its entry is too old.
    fn confirm_neighbour(&mut self, ctx: &mut Context<'_, P>, interface: InterfaceId, address: IpAddr) {
        if self.config.worker == RESOLVER {
            self.neighbour_used(ctx, interface, address);
        } else {
            let message = Message::NeighbourUsed { interface, address };
            ctx.out.outbox.push(Envelope { to: RESOLVER, message });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Interface;

    #[test]
    fn the_longest_prefix_decides() {
        let interface = Interface {
            name: "lan".into(),
            port: 0,
            vlan: 0,
            mtu: 1500,
            mac: [2; 6],
            addresses: vec![],
            mss: 0,
            exception: false,
        };
        let route = |prefix: [u8; 4], length, hop, mtu| Route {
            prefix: IpAddr::from(prefix),
            length,
            hop,
            mtu,
            source: ip::unspecified(false),
        };
        let gateway = IpAddr::from([10, 0, 0, 254]);
        let snap = Snapshot {
            interfaces: vec![interface],
            routes: vec![
                route([10, 0, 0, 7], 32, Hop::Blackhole, 0),
                route([10, 0, 0, 0], 24, Hop::Link(0), 1400),
                route([10, 9, 0, 0], 16, Hop::Unreachable, 0),
                route([0, 0, 0, 0], 0, Hop::Via(0, gateway), 0),
            ],
            ..Snapshot::default()
        };
        let to = |a, b, c, d| {
            way(&snap, IpAddr::from([a, b, c, d]), || panic!("one way")).map(|way| (way.next_hop, way.mtu))
        };
        assert_eq!(to(10, 0, 0, 9), Ok((IpAddr::from([10, 0, 0, 9]), 1400)));
        assert_eq!(to(198, 51, 100, 7), Ok((gateway, 1500)));
        assert_eq!(to(10, 0, 0, 7), Err(Reason::RouteBlackhole));
        assert_eq!(to(10, 9, 1, 1), Err(Reason::RouteUnreachable));
    }
}

//! Neighbour discovery: answers for own addresses, learns, asks, announces (RFC 4861). Only on worker 0.
//!
//! Routers are configured, not discovered: router advertisements and redirects are ignored.

use std::net::{IpAddr, Ipv6Addr};

use fulcrum_packet::ndisc::{self, Advertisement, Solicitation};
use fulcrum_packet::{ethernet, icmpv6, ipv6};

use super::resolve::link_address;
use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::exception::has_twin;
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason, VerdictKind};
use crate::snapshot::InterfaceId;

/// Hop limit of every message: what comes from beyond the link has another. // RFC 4861, 7.1
const HOP_LIMIT: u8 = 255;

/// Whether an ICMPv6 message is the resolver's affair: neighbour discovery, and whatever is to a group. `ours` says
/// whether it is to one of our addresses: what is merely routed is nobody's affair.
pub(crate) fn is_for_resolver<B: Buf>(packet: &Packet<B>, ours: bool) -> bool {
    packet.dst.is_multicast()
        || ours
            && !packet.is_later_fragment()
            && packet
                .payload()
                .first()
                .is_some_and(|kind| (icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT).contains(kind))
}

impl<P: Pool> Engine<P> {
    /// Takes in what [`is_for_resolver`].
    pub(crate) fn receive_ndisc(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else {
            return self.drop_packet(ctx, packet, Reason::BadIpHeader, None);
        };
        let kind = packet.payload().first().copied().unwrap_or(0);
        if kind == icmpv6::LISTENER_QUERY && packet.fragment.is_none() {
            self.copy_up(ctx, packet.interface, packet.buf.bytes());
            return self.take_listener_query(ctx, packet);
        }
        if packet.fragment.is_some() || packet.ip().ttl() != HOP_LIMIT {
            return match kind {
                icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT => {
                    self.drop_packet(ctx, packet, Reason::BadNd, None)
                }
                icmpv6::ECHO_REQUEST => self.up_or_drop(ctx, packet, Reason::IcmpIgnored),
                _ => self.up_or_drop(ctx, packet, Reason::BadNd),
            };
        }
        match kind {
            icmpv6::NEIGHBOUR_SOLICITATION => match Solicitation::parse(packet.payload(), src, dst) {
                Ok(question) => self.take_solicitation(ctx, packet, src, question),
                Err(_) => self.drop_packet(ctx, packet, Reason::BadNd, None),
            },
            icmpv6::NEIGHBOUR_ADVERTISEMENT => match Advertisement::parse(packet.payload(), src, dst) {
                Ok(answer) => self.take_advertisement(ctx, packet, answer),
                Err(_) => self.drop_packet(ctx, packet, Reason::BadNd, None),
            },
            _ => self.up_or_drop(ctx, packet, Reason::IcmpIgnored),
        }
    }

    fn take_solicitation(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        src: Ipv6Addr,
        question: Solicitation,
    ) {
        let interface = packet.interface;
        if ctx.snap.locals.get(&packet.src).is_some_and(|local| !local.withheld) {
            self.note_claim(ctx, &packet, packet.src);
            return self.up_or_drop(ctx, packet, Reason::NdConflict);
        }
        let ours = self.answers_for(ctx, interface, question.target);
        let asker = checked(ethernet::Frame::new_checked(packet.buf.bytes())).src();
        if let Some(mac) = question.source_mac.filter(|&mac| !src.is_unspecified() && is_station(mac)) {
            self.hear(ctx, interface, src, mac, ours);
        }
        if !ours {
            // Who looks whether an address is taken may look for one that Linux is about to have.
            let for_host = ctx.snap.hosts.contains_key(&question.target.into()) || src.is_unspecified();
            return match for_host {
                true => self.up_or_drop(ctx, packet, Reason::NdNotOurs),
                false => self.drop_packet(ctx, packet, Reason::NdNotOurs, None),
            };
        }
        let to = (!src.is_unspecified()).then(|| (src, question.source_mac.unwrap_or(asker)));
        self.advertise(ctx, interface, question.target, to);
        self.verdict(ctx, VerdictKind::Reply, Event::NdReplied.name(), None);
    }

    /// Notes who else claims an own address.
    fn note_claim(&mut self, ctx: &Context<'_, P>, packet: &Packet<P::Buf>, address: IpAddr) {
        let mac = checked(ethernet::Frame::new_checked(packet.buf.bytes())).src();
        if mac != ctx.snap.interfaces[usize::from(packet.interface)].mac {
            self.resolver.claimed(packet.interface, address, mac, ctx.now);
        }
    }

    fn take_advertisement(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        answer: Advertisement,
    ) {
        let (interface, target) = (packet.interface, IpAddr::V6(answer.target));
        if ctx.snap.locals.get(&target).is_some_and(|local| !local.withheld) {
            let own = ctx.snap.interfaces[usize::from(interface)].mac;
            self.note_claim(ctx, &packet, target);
            if answer.target_mac != Some(own) && self.resolver.defends(target, ctx.now) {
                self.advertise(ctx, interface, answer.target, None);
            }
            return self.up_or_drop(ctx, packet, Reason::NdConflict);
        }
        let known = self.resolver.known(interface, target);
        // RFC 4861, 7.2.5: another address counts only when it is said to replace what is known.
        let mac = match (answer.target_mac, known) {
            (Some(mac), Some(known)) if mac != known && !answer.replaces => None,
            (mac, known) => mac.or(known),
        };
        match mac.filter(|&mac| is_station(mac)) {
            Some(mac) if self.hear(ctx, interface, answer.target, mac, false) => {
                if has_twin(ctx.snap, interface) {
                    return self.give_up(ctx, packet.port, interface, packet.buf);
                }
                self.verdict(ctx, VerdictKind::Punt, Event::NeighbourLearned.name(), None);
            }
            _ => self.up_or_drop(ctx, packet, Reason::NdIgnored),
        }
    }

    fn hear(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv6Addr,
        mac: [u8; 6],
        asks_us: bool,
    ) -> bool {
        let address = IpAddr::V6(address);
        let learned = self.resolver.heard(interface, address, mac, asks_us, &self.neighbours, ctx.now);
        if learned {
            self.counters.event(Event::NeighbourLearned);
            self.found(ctx, interface, address, mac);
        }
        learned
    }

    /// Whether an address is one that the director has on an interface.
    fn answers_for(&self, ctx: &Context<'_, P>, interface: InterfaceId, target: Ipv6Addr) -> bool {
        let target = IpAddr::V6(target);
        ctx.snap.locals.get(&target).is_some_and(|local| local.arp == Some(interface))
            || ctx.snap.interfaces[usize::from(interface)].addresses.iter().any(|&(own, _)| own == target)
    }

    /// Asks who has an address.
    pub(super) fn solicit(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        target: Ipv6Addr,
        unicast: Option<[u8; 6]>,
    ) {
        let IpAddr::V6(src) = link_address(ctx.snap, interface, target.into()) else { return };
        let own = ctx.snap.interfaces[usize::from(interface)].mac;
        let question = Solicitation { target, source_mac: (!src.is_unspecified()).then_some(own) };
        let group = ndisc::solicited_node(target);
        let (dst, mac) = unicast.map_or((group, ndisc::multicast_mac(group)), |mac| (target, mac));
        self.counters.event(Event::NdAsked);
        // A director that cannot ask will ask again: no drop is counted, nothing was received.
        let frame = build_ndisc(ctx, interface, mac, (src, dst), |bytes| question.emit(bytes, src, dst));
        if let Some(buf) = frame {
            ctx.out.tx.push(Transmit { port: ctx.snap.interfaces[usize::from(interface)].port, buf });
        }
    }

    /// Says that an address is the director's: to whoever asked, or to all.
    pub(super) fn advertise(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        target: Ipv6Addr,
        to: Option<(Ipv6Addr, [u8; 6])>,
    ) {
        self.counters.event(if to.is_some() { Event::NdReplied } else { Event::NdAnnounced });
        if let Some(buf) = self.advertisement(ctx, interface, target, to) {
            ctx.out.tx.push(Transmit { port: ctx.snap.interfaces[usize::from(interface)].port, buf });
        }
    }

    /// The frame that says so.
    pub(crate) fn advertisement(
        &self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        target: Ipv6Addr,
        to: Option<(Ipv6Addr, [u8; 6])>,
    ) -> Option<P::Buf> {
        let own = ctx.snap.interfaces[usize::from(interface)].mac;
        let answer = Advertisement {
            target,
            target_mac: Some(own),
            router: ctx.snap.settings.ip_forward,
            solicited: to.is_some(),
            replaces: true,
        };
        let all = (ndisc::ALL_NODES, ndisc::multicast_mac(ndisc::ALL_NODES));
        let (dst, mac) = to.unwrap_or(all);
        build_ndisc(ctx, interface, mac, (target, dst), |bytes| answer.emit(bytes, target, dst))
    }
}

fn build_ndisc<P: Pool>(
    ctx: &mut Context<'_, P>,
    interface: InterfaceId,
    mac: [u8; 6],
    (src, dst): (Ipv6Addr, Ipv6Addr),
    emit: impl FnOnce(&mut [u8]) -> usize,
) -> Option<P::Buf> {
    let place = &ctx.snap.interfaces[usize::from(interface)];
    let l3 = ethernet::header_len(place.vlan);
    let l4 = l3 + ipv6::HEADER;
    let mut buf = ctx.pool.alloc(l4 + ndisc::LEN_WITH_ADDRESS)?;
    let bytes = buf.bytes_mut();
    ethernet::emit(bytes, mac, place.mac, place.vlan, ethernet::IPV6);
    let length = emit(&mut bytes[l4..]);
    let header = ipv6::Header {
        traffic_class: 0,
        flow_label: 0,
        payload_len: length as u16,
        next_header: ipv6::ICMP,
        hop_limit: HOP_LIMIT,
        src,
        dst,
    };
    header.emit(&mut bytes[l3..]);
    buf.truncate(l4 + length);
    Some(buf)
}

fn is_station(mac: [u8; 6]) -> bool {
    !ethernet::is_group(mac) && mac != [0; 6]
}

//! ARP: answers for own addresses, learns, asks, announces (RFC 826, RFC 5227). Only on worker 0.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_packet::{arp, ethernet};

use super::resolve::link_address;
use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::exception::has_twin;
use crate::reason::{Event, Reason, VerdictKind};
use crate::snapshot::InterfaceId;

const NOBODY: [u8; 6] = [0; 6];

impl<P: Pool> Engine<P> {
    /// Takes an ARP packet in that came by an interface.
    pub(crate) fn receive_arp(
        &mut self,
        ctx: &mut Context<'_, P>,
        port: u16,
        interface: InterfaceId,
        (l3, buf): (usize, P::Buf),
    ) {
        let packet = match arp::Packet::parse(&buf.bytes()[l3..]) {
            Ok(packet) if sender_is_sane(&packet) => packet,
            _ => return self.drop_frame(ctx, port, Reason::BadArp, buf),
        };
        let own_mac = ctx.snap.interfaces[usize::from(interface)].mac;
        if ctx.snap.locals.get(&packet.spa.into()).is_some_and(|local| !local.withheld) {
            if packet.sha != own_mac {
                self.resolver.claimed(interface, packet.spa.into(), packet.sha, ctx.now);
                if self.resolver.defends(packet.spa.into(), ctx.now) {
                    self.announce_arp(ctx, interface, packet.spa);
                }
            }
            self.copy_up(ctx, interface, buf.bytes());
            return self.drop_frame(ctx, port, Reason::ArpConflict, buf);
        }
        let ours = ctx.snap.locals.get(&packet.tpa.into()).is_some_and(|local| local.arp == Some(interface));
        let request = packet.operation == arp::REQUEST;
        let mut learned = false;
        // A probe has no sender address to learn (RFC 5227).
        if !packet.spa.is_unspecified() {
            learned = self.resolver.heard(
                interface,
                packet.spa.into(),
                packet.sha,
                ours && request,
                &self.neighbours,
                ctx.now,
            );
        }
        if learned {
            self.counters.event(Event::NeighbourLearned);
            self.found(ctx, interface, packet.spa.into(), packet.sha);
        }
        if ours && request {
            self.counters.event(Event::ArpReplied);
            if let Some(buf) = self.arp_frame(ctx, interface, packet.sha, packet.tpa, &packet) {
                ctx.out.tx.push(Transmit { port: ctx.snap.interfaces[usize::from(interface)].port, buf });
            }
            return self.verdict(ctx, VerdictKind::Reply, Event::ArpReplied.name(), None);
        }
        // Linux wants to hear what it asked for, and what may be news to it.
        let for_host =
            !request || packet.spa == packet.tpa || ctx.snap.hosts.contains_key(&packet.tpa.into());
        if for_host && has_twin(ctx.snap, interface) {
            return self.give_up(ctx, port, interface, buf);
        }
        if learned {
            return self.verdict(ctx, VerdictKind::Punt, Event::NeighbourLearned.name(), None);
        }
        self.drop_frame(ctx, port, if ours { Reason::ArpIgnored } else { Reason::ArpNotOurs }, buf);
    }

    /// The answer to a question for an own address.
    pub(crate) fn arp_frame(
        &self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        to: [u8; 6],
        target: Ipv4Addr,
        question: &arp::Packet,
    ) -> Option<P::Buf> {
        let sha = ctx.snap.interfaces[usize::from(interface)].mac;
        let (tha, tpa) = (question.sha, question.spa);
        let reply = arp::Packet { operation: arp::REPLY, sha, spa: target, tha, tpa };
        build_arp(ctx, interface, to, reply)
    }

    /// Asks who has an address.
    pub(super) fn ask_arp(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv4Addr,
        unicast: Option<[u8; 6]>,
    ) {
        let place = &ctx.snap.interfaces[usize::from(interface)];
        let spa = match link_address(ctx.snap, interface, address.into()) {
            IpAddr::V4(own) => own,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let question =
            arp::Packet { operation: arp::REQUEST, sha: place.mac, spa, tha: NOBODY, tpa: address };
        self.counters.event(Event::ArpAsked);
        self.send_arp(ctx, interface, unicast.unwrap_or(ethernet::BROADCAST), question);
    }

    /// Gratuitous ARP as RFC 5227 calls an announcement.
    pub(super) fn announce_arp(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv4Addr,
    ) {
        let sha = ctx.snap.interfaces[usize::from(interface)].mac;
        let packet = arp::Packet { operation: arp::REQUEST, sha, spa: address, tha: NOBODY, tpa: address };
        self.counters.event(Event::ArpAnnounced);
        self.send_arp(ctx, interface, ethernet::BROADCAST, packet);
    }

    fn send_arp(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        dst: [u8; 6],
        packet: arp::Packet,
    ) {
        // A director that cannot ask will ask again: no drop is counted, nothing was received.
        if let Some(buf) = build_arp(ctx, interface, dst, packet) {
            ctx.out.tx.push(Transmit { port: ctx.snap.interfaces[usize::from(interface)].port, buf });
        }
    }
}

fn build_arp<P: Pool>(
    ctx: &mut Context<'_, P>,
    interface: InterfaceId,
    dst: [u8; 6],
    packet: arp::Packet,
) -> Option<P::Buf> {
    let place = &ctx.snap.interfaces[usize::from(interface)];
    let header = ethernet::header_len(place.vlan);
    let mut buf = ctx.pool.alloc(header + arp::LEN)?;
    let bytes = buf.bytes_mut();
    ethernet::emit(bytes, dst, place.mac, place.vlan, ethernet::ARP);
    packet.emit(&mut bytes[header..]);
    Some(buf)
}

/// Whether a sender's addresses are ones that a station can have; 0.0.0.0 is a probe's.
fn sender_is_sane(packet: &arp::Packet) -> bool {
    let station = !ethernet::is_group(packet.sha) && packet.sha != NOBODY;
    station && !packet.spa.is_multicast() && !packet.spa.is_broadcast() && !packet.spa.is_loopback()
}

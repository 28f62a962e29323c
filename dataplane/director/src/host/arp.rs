//! ARP: answers for own addresses, learns, asks, announces (RFC 826, RFC 5227). Only on worker 0.

use std::net::{IpAddr, Ipv4Addr};

use fulcrum_packet::{arp, ethernet};

use super::resolve::link_address;
use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
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
        buf: P::Buf,
        l3: usize,
    ) {
        let packet = match arp::Packet::parse(&buf.bytes()[l3..]) {
            Ok(packet) if sender_is_sane(&packet) => packet,
            _ => return self.drop_frame(ctx, port, Reason::BadArp, buf),
        };
        let own_mac = ctx.snap.interfaces[usize::from(interface)].mac;
        if ctx.snap.locals.contains_key(&packet.spa.into()) {
            if packet.sha != own_mac {
                self.resolver.claimed(interface, packet.spa.into(), packet.sha, ctx.now);
                if self.resolver.defends(packet.spa.into(), ctx.now) {
                    self.announce_arp(ctx, interface, packet.spa);
                }
            }
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
            let reply = arp::Packet {
                operation: arp::REPLY,
                sha: own_mac,
                spa: packet.tpa,
                tha: packet.sha,
                tpa: packet.spa,
            };
            self.counters.event(Event::ArpReplied);
            self.send_arp(ctx, interface, packet.sha, reply);
            return self.verdict(ctx, VerdictKind::Reply, Event::ArpReplied.name(), None);
        }
        if learned {
            return self.verdict(ctx, VerdictKind::Punt, Event::NeighbourLearned.name(), None);
        }
        self.drop_frame(ctx, port, if ours { Reason::ArpIgnored } else { Reason::ArpNotOurs }, buf);
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
        let place = &ctx.snap.interfaces[usize::from(interface)];
        let header = ethernet::header_len(place.vlan);
        // A director that cannot ask will ask again: no drop is counted, nothing was received.
        let Some(mut buf) = ctx.pool.alloc(header + arp::LEN) else { return };
        let bytes = buf.bytes_mut();
        ethernet::emit(bytes, dst, place.mac, place.vlan, ethernet::ARP);
        packet.emit(&mut bytes[header..]);
        ctx.out.tx.push(Transmit { port: place.port, buf });
    }
}

/// Whether a sender's addresses are ones that a station can have; 0.0.0.0 is a probe's.
fn sender_is_sane(packet: &arp::Packet) -> bool {
    let station = !ethernet::is_group(packet.sha) && packet.sha != NOBODY;
    station && !packet.spa.is_multicast() && !packet.spa.is_broadcast() && !packet.spa.is_loopback()
}

//! ARP: answers for own addresses, learns, asks, announces (RFC 826, RFC 5227). Only on worker 0.

use std::net::Ipv4Addr;

use fulcrum_packet::{arp, ethernet};

use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::message::{Envelope, Message};
use crate::neighbour::{Refused, Task};
use crate::output::Sent;
use crate::reason::{Event, Reason, VerdictKind};
use crate::snapshot::{InterfaceId, Snapshot};

const NOBODY: [u8; 6] = [0; 6];

impl<P: Pool> Engine<P> {
    /// Takes an ARP packet in that came by an interface.
    pub(crate) fn receive_arp(
        &mut self,
        ctx: &mut Context<'_, P>,
        port: u16,
        interface: InterfaceId,
        bytes: &[u8],
    ) {
        let packet = match arp::Packet::parse(bytes) {
            Ok(packet) if sender_is_sane(&packet) => packet,
            _ => return self.drop_frame(ctx, port, Reason::BadArp),
        };
        let own_mac = ctx.snap.interfaces[usize::from(interface)].mac;
        if ctx.snap.locals.contains_key(&packet.spa) {
            if packet.sha != own_mac && self.resolver.defends(packet.spa, ctx.now) {
                self.announce(ctx, interface, packet.spa);
            }
            return self.drop_frame(ctx, port, Reason::ArpConflict);
        }
        let ours = ctx.snap.locals.get(&packet.tpa).is_some_and(|local| local.arp == Some(interface));
        let request = packet.operation == arp::REQUEST;
        let mut learned = false;
        // A probe has no sender address to learn (RFC 5227).
        if !packet.spa.is_unspecified() {
            learned = self.resolver.heard(
                interface,
                packet.spa,
                packet.sha,
                ours && request,
                &self.neighbours,
                ctx.now,
            );
        }
        if learned {
            self.counters.event(Event::ArpLearned);
            self.spread(ctx, interface, packet.spa, Some(packet.sha));
            self.release_parked(ctx, interface, packet.spa, packet.sha);
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
            return self.verdict(ctx, VerdictKind::Punt, Event::ArpLearned.name(), None);
        }
        self.drop_frame(ctx, port, if ours { Reason::ArpIgnored } else { Reason::ArpNotOurs });
    }

    /// Tells every worker what is known of a neighbour.
    fn spread(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv4Addr,
        mac: Option<[u8; 6]>,
    ) {
        self.neighbours.learn(interface, address, mac, ctx.now);
        for to in (0..self.steer.workers()).filter(|&to| to != self.config.worker) {
            ctx.out.outbox.push(Envelope { to, message: Message::Neighbour { interface, address, mac } });
        }
    }

    /// Sends what waited for a neighbour.
    fn release_parked(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv4Addr,
        mac: [u8; 6],
    ) {
        let place = &ctx.snap.interfaces[usize::from(interface)];
        while let Some(mut waiting) = self.resolver.release(interface, address) {
            ethernet::set_addresses(waiting.buf.bytes_mut(), mac, place.mac);
            ctx.out.tx.push(Transmit { port: place.port, buf: waiting.buf });
        }
    }

    /// Parks a finished frame until its next hop is known.
    pub(crate) fn park(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        next_hop: Ipv4Addr,
        port: u16,
        routed: bool,
        mut buf: P::Buf,
    ) -> Sent {
        let Some(place) = ctx.snap.interfaces.get(usize::from(interface)) else {
            return Sent::Dropped(Reason::NoRoute);
        };
        if let Some(mac) = self.resolver.known(interface, next_hop) {
            // The worker that parked it has missed the news.
            ethernet::set_addresses(buf.bytes_mut(), mac, place.mac);
            ctx.out.tx.push(Transmit { port: place.port, buf });
            self.spread(ctx, interface, next_hop, Some(mac));
            return Sent::Out;
        }
        match self.resolver.park(interface, next_hop, port, routed, buf, ctx.now) {
            Ok(ask) => {
                self.counters.event(Event::Parked);
                if ask {
                    self.ask(ctx, interface, next_hop, None);
                }
                Sent::Parked
            }
            Err((refused, buf)) => {
                let reason = match refused {
                    Refused::QueueFull => Reason::NeighbourQueueFull,
                    Refused::TableFull => Reason::NeighbourTableFull,
                    Refused::Failed => Reason::NeighbourFailed,
                };
                if refused == Refused::Failed && routed {
                    self.tell_host_unreachable(ctx, &buf);
                }
                Sent::Dropped(reason)
            }
        }
    }

    /// A worker uses a neighbour whose entry nears its end.
    pub(crate) fn neighbour_used(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv4Addr,
    ) {
        if !self.resolver.used(interface, address, ctx.now) {
            self.spread(ctx, interface, address, None);
        }
    }

    /// Does what the resolver finds due.
    pub(crate) fn resolve(&mut self, ctx: &mut Context<'_, P>) {
        while let Some(task) = self.resolver.next_task(ctx.now) {
            match task {
                Task::Ask { interface, address, unicast } => self.ask(ctx, interface, address, unicast),
                Task::Announce { interface, address } => self.announce(ctx, interface, address),
                Task::GiveUp { interface, address } => {
                    self.spread(ctx, interface, address, None);
                    while let Some(waiting) = self.resolver.release(interface, address) {
                        if waiting.routed {
                            self.tell_host_unreachable(ctx, &waiting.buf);
                        }
                        self.counters.count_drop(waiting.port, Reason::NeighbourFailed);
                    }
                }
            }
        }
    }

    fn ask(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: Ipv4Addr,
        unicast: Option<[u8; 6]>,
    ) {
        let Some(place) = ctx.snap.interfaces.get(usize::from(interface)) else { return };
        let question = arp::Packet {
            operation: arp::REQUEST,
            sha: place.mac,
            spa: link_address(ctx.snap, interface, address),
            tha: NOBODY,
            tpa: address,
        };
        self.counters.event(Event::ArpAsked);
        self.send_arp(ctx, interface, unicast.unwrap_or(ethernet::BROADCAST), question);
    }

    /// Gratuitous ARP as RFC 5227 calls an announcement.
    fn announce(&mut self, ctx: &mut Context<'_, P>, interface: InterfaceId, address: Ipv4Addr) {
        let Some(place) = ctx.snap.interfaces.get(usize::from(interface)) else { return };
        let packet =
            arp::Packet { operation: arp::REQUEST, sha: place.mac, spa: address, tha: NOBODY, tpa: address };
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

/// The own address to ask for a neighbour from: of its subnet, else the interface's first; never a VIP, lest a
/// real server learn the director as the VIP's owner.
fn link_address(snap: &Snapshot, interface: InterfaceId, neighbour: Ipv4Addr) -> Ipv4Addr {
    let addresses = &snap.interfaces[usize::from(interface)].addresses;
    let in_subnet = addresses.iter().find(|&&(address, length)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        length < 32 && (address.to_bits() ^ neighbour.to_bits()) & mask == 0
    });
    in_subnet.or(addresses.first()).map_or(Ipv4Addr::UNSPECIFIED, |&(address, _)| address)
}

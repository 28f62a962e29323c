//! What the host sends: out by the port as it is, unless it is to the director itself.
//!
//! The director answers the host's questions for its own addresses, takes what is to them as if it had come by the port,
//! and answers of servers that are daemons of the host as what they are. Only on worker 0.

use std::net::{IpAddr, Ipv6Addr};

use fulcrum_packet::ndisc::{self, Solicitation};
use fulcrum_packet::ports::Ports;
use fulcrum_packet::{arp, ethernet, icmpv6, ip, ipv4, ipv6};

use super::has_twin;
use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::message::Stage;
use crate::packet::{Packet, is_balanced};
use crate::reason::{Event, Reason, VerdictKind};
use crate::session::SessionId;
use crate::snapshot::{Destination, InterfaceId, Snapshot};

/// Where a frame of the host goes.
enum To {
    /// Out by the port.
    Port,
    /// To the director.
    Director,
    /// Nowhere: it asked for an address of the director.
    Asker(IpAddr, [u8; 6]),
}

impl<P: Pool> Engine<P> {
    /// A frame that the host sent by an interface's twin.
    pub(crate) fn take_from_host(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        mut buf: P::Buf,
    ) {
        if !has_twin(ctx.snap, interface) {
            return self.drop_frame(ctx, 0, Reason::ExceptionDown, buf);
        }
        let place = &ctx.snap.interfaces[usize::from(interface)];
        self.counters.exception(place.port).down.add(1);
        let Ok(frame) = ethernet::Frame::new_checked(buf.bytes()) else {
            return self.drop_frame(ctx, place.port, Reason::Truncated, buf);
        };
        let to = match frame.ethertype() {
            ethernet::ARP => asks(ctx.snap, interface, &buf.bytes()[frame.header_len()..]),
            ethernet::IPV4 | ethernet::IPV6 => {
                packet_to(ctx.snap, interface, frame.src(), &buf.bytes()[frame.header_len()..])
            }
            _ => To::Port,
        };
        if let To::Asker(target, asker) = to {
            return self.answer_host(ctx, interface, target, asker, &buf);
        }
        if place.vlan != 0 {
            if !buf.grow_front(ethernet::TAG) {
                return self.drop_frame(ctx, place.port, Reason::NoHeadroom, buf);
            }
            let bytes = buf.bytes_mut();
            bytes.copy_within(ethernet::TAG..ethernet::TAG + ethernet::ADDRESSES, 0);
            bytes[12..14].copy_from_slice(&ethernet::VLAN.to_be_bytes());
            bytes[14..16].copy_from_slice(&place.vlan.to_be_bytes());
        }
        match to {
            To::Director => self.receive(ctx, place.port, 0, Stage::Host, buf),
            _ => self.send_for_host(ctx, place.port, buf),
        }
    }

    /// Sends a frame of the host as it is.
    pub(crate) fn send_for_host(&mut self, ctx: &mut Context<'_, P>, port: u16, buf: P::Buf) {
        self.counters.event(Event::ExceptionSent);
        self.verdict(ctx, VerdictKind::Forward, Event::ExceptionSent.name(), None);
        ctx.out.tx.push(Transmit { port, buf });
    }

    /// Tells the host, which asks by `question`, where one of the director's addresses is.
    fn answer_host(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        target: IpAddr,
        asker: [u8; 6],
        question: &P::Buf,
    ) {
        let l3 = checked_header(question);
        let answer = match target {
            IpAddr::V4(target) => match arp::Packet::parse(&question.bytes()[l3..]) {
                Ok(question) => self.arp_frame(ctx, interface, asker, target, &question),
                Err(_) => None,
            },
            IpAddr::V6(target) => match ip::Packet::new_checked(&question.bytes()[l3..]).map(|ip| ip.src()) {
                Ok(IpAddr::V6(src)) => self.advertisement(ctx, interface, target, Some((src, asker))),
                _ => None,
            },
        };
        if let Some(answer) = answer {
            self.verdict(ctx, VerdictKind::Reply, Event::ExceptionLink.name(), None);
            self.push_up(ctx, interface, super::Class::Link, answer);
        }
    }

    /// The server that a probe of the host is for.
    pub(crate) fn probed<'a>(&self, snap: &'a Snapshot, packet: &Packet<P::Buf>) -> Option<&'a Destination> {
        if packet.stage != Stage::Host {
            return None;
        }
        snap.probes.get(&(packet.protocol, packet.sport)).map(|server| &**server)
    }

    /// Whether a packet is a probe that begins anew where an older one was.
    pub(crate) fn probes_anew(&self, snap: &Snapshot, packet: &Packet<P::Buf>, id: SessionId) -> bool {
        self.probed(snap, packet).is_some_and(|server| {
            let session = self.sessions.get(id);
            packet.opens() || session.destination != server.id || session.forward() != server.forward
        })
    }
}

fn checked_header<B: Buf>(frame: &B) -> usize {
    ethernet::Frame::new_checked(frame.bytes()).map_or(ethernet::HEADER, |frame| frame.header_len())
}

/// Whether the director answers the host for an address: it is its own, and not the host's too.
fn is_asked_for(snap: &Snapshot, interface: InterfaceId, target: IpAddr) -> bool {
    snap.locals
        .get(&target)
        .is_some_and(|local| !local.withheld && local.arp.is_none_or(|at| at == interface))
        && !snap.hosts.contains_key(&target)
}

/// A question of the host by ARP. One from nobody asks whether an address is taken: it is the wire's affair.
fn asks(snap: &Snapshot, interface: InterfaceId, packet: &[u8]) -> To {
    match arp::Packet::parse(packet) {
        Ok(arp::Packet { operation: arp::REQUEST, spa, sha, tpa, .. })
            if !spa.is_unspecified() && spa != tpa && is_asked_for(snap, interface, tpa.into()) =>
        {
            To::Asker(tpa.into(), sha)
        }
        _ => To::Port,
    }
}

/// Where an IP packet of the host goes.
fn packet_to(snap: &Snapshot, interface: InterfaceId, mac: [u8; 6], packet: &[u8]) -> To {
    let Ok(ip) = ip::Packet::new_checked(packet) else { return To::Port };
    let (src, dst) = (ip.src(), ip.dst());
    let (protocol, offset, later) = match &ip {
        ip::Packet::V4(ip) => (ip.protocol(), ip.header_len(), ip.fragment() & ipv4::OFFSET != 0),
        ip::Packet::V6(ip) => match ip.upper() {
            Ok(upper) => {
                (upper.protocol, upper.offset, upper.fragment.is_some_and(|fragment| fragment.offset != 0))
            }
            Err(_) => return To::Port,
        },
    };
    let body = packet.get(offset..ip.total_len()).unwrap_or_default();
    if let (IpAddr::V6(src), IpAddr::V6(dst), ipv6::ICMP) = (src, dst, protocol)
        && body.first().is_some_and(|kind| (icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT).contains(kind))
    {
        return solicits(snap, interface, mac, body, (src, dst));
    }
    if snap.locals.contains_key(&dst) {
        return To::Director;
    }
    // A daemon of the host that is a server by NAT.
    let answers = is_balanced(protocol)
        && !later
        && !snap.servers.is_empty()
        && Ports::new_checked(body).is_ok_and(|ports| {
            [ports.src(), 0].iter().any(|port| snap.servers.contains_key(&(protocol, src, *port)))
        });
    if answers { To::Director } else { To::Port }
}

/// A message of the host by neighbour discovery.
fn solicits(
    snap: &Snapshot,
    interface: InterfaceId,
    mac: [u8; 6],
    body: &[u8],
    (src, dst): (Ipv6Addr, Ipv6Addr),
) -> To {
    let asked = body.first() == Some(&icmpv6::NEIGHBOUR_SOLICITATION) && !src.is_unspecified();
    match Solicitation::parse(body, src, dst) {
        Ok(question) if asked && is_asked_for(snap, interface, question.target.into()) => {
            To::Asker(question.target.into(), question.source_mac.unwrap_or(mac))
        }
        // To an address of the director nothing goes out.
        _ if snap.locals.contains_key(&IpAddr::V6(dst)) && !ndisc::ALL_NODES.eq(&dst) => To::Director,
        _ => To::Port,
    }
}

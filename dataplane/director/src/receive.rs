//! A packet's first steps: Ethernet, IPv4, owner; then either for the director itself or to be routed.

use std::net::Ipv4Addr;

use fulcrum_packet::checksum::{checksum, fold, pseudo_header, sum};
use fulcrum_packet::{ethernet, ipv4, tcp, udp};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine, RESOLVER};
use crate::host::options;
use crate::message::{Envelope, Message, Stage};
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason, Verdict, VerdictKind};
use crate::snapshot::{DestinationId, InterfaceId};

/// How often a packet may be handed on: by the test setting, to its owner, to its former owner and back, and once
/// more when workers disagree during a change of configuration.
const MAX_HOPS: u8 = 5;

impl<P: Pool> Engine<P> {
    /// A frame from a port, or one that another worker has handed over.
    pub(crate) fn receive(
        &mut self,
        ctx: &mut Context<'_, P>,
        port: u16,
        hops: u8,
        stage: Stage,
        mut buf: P::Buf,
    ) {
        let Ok(frame) = ethernet::Frame::new_checked(buf.bytes()) else {
            return self.drop_frame(ctx, port, Reason::Truncated);
        };
        let (dst, vlan, ethertype, l3) = (frame.dst(), frame.vlan(), frame.ethertype(), frame.header_len());
        if ctx.snap.generation == 0 {
            return self.drop_frame(ctx, port, Reason::NotProgrammed);
        }
        let Some(&interface) = ctx.snap.by_vlan.get(&(port, vlan)) else {
            return self.drop_frame(ctx, port, Reason::UnknownVlan);
        };
        let group = ethernet::is_group(dst);
        if !group && dst != ctx.snap.interfaces[usize::from(interface)].mac {
            return self.drop_frame(ctx, port, Reason::OtherStation);
        }
        match ethertype {
            ethernet::IPV4 if group => self.drop_frame(ctx, port, Reason::L2Multicast),
            ethernet::IPV4 => match self.parse_ipv4(ctx, &mut buf, port, interface, l3) {
                Ok(()) => self.dispatch(ctx, buf, port, hops, stage, l3),
                Err(reason) => self.drop_frame(ctx, port, reason),
            },
            ethernet::ARP if self.config.worker != RESOLVER => {
                self.hand_over(ctx, RESOLVER, port, hops, stage, buf)
            }
            ethernet::ARP => self.receive_arp(ctx, port, interface, &buf.bytes()[l3..]),
            ethernet::IPV6 => self.drop_frame(ctx, port, Reason::Ipv6),
            _ => self.drop_frame(ctx, port, Reason::UnknownEthertype),
        }
    }

    /// What a host checks of every IPv4 packet; cuts padding off, completes partial checksums.
    fn parse_ipv4(
        &mut self,
        ctx: &Context<'_, P>,
        buf: &mut P::Buf,
        port: u16,
        interface: InterfaceId,
        l3: usize,
    ) -> Result<(), Reason> {
        let ip = ipv4::Packet::new_checked(&buf.bytes()[l3..]).map_err(|_| Reason::BadIpHeader)?;
        if !ip.checksum_ok() {
            return Err(Reason::BadIpChecksum);
        }
        let (src, dst) = (ip.src(), ip.dst());
        let end = l3 + usize::from(ip.total_len());
        buf.truncate(end);
        // What the kernel calls martians (fib_validate_source, ip_route_input_slow).
        if src.is_unspecified()
            || src.octets()[0] == 0
            || src.is_loopback()
            || src.is_multicast()
            || src.is_broadcast()
            || ctx.snap.locals.contains_key(&src)
        {
            return Err(Reason::MartianSource);
        }
        let local = ctx.snap.locals.contains_key(&dst);
        if !local && (dst.octets()[0] == 0 || dst.is_loopback() || dst.octets()[0] >= 224) {
            return Err(Reason::MartianDestination);
        }
        if !local && self.is_subnet_broadcast(ctx, interface, dst) {
            return Err(Reason::MartianDestination);
        }
        if ctx.snap.ports[usize::from(port)].partial_checksums {
            self.complete_checksum(&mut buf.bytes_mut()[l3..]);
        }
        Ok(())
    }

    fn is_subnet_broadcast(
        &self,
        ctx: &Context<'_, P>,
        interface: InterfaceId,
        dst: std::net::Ipv4Addr,
    ) -> bool {
        ctx.snap.interfaces[usize::from(interface)].addresses.iter().any(|&(address, length)| {
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            length < 31 && dst.to_bits() == address.to_bits() | host
        })
    }

    /// A virtual device may pass frames on whose TCP or UDP checksum still is the sum of the pseudo-header alone:
    /// the sender meant to leave the rest to hardware.
    fn complete_checksum(&self, packet: &mut [u8]) {
        let ip = checked(ipv4::Packet::new_checked(&*packet));
        if ip.is_fragment() {
            return;
        }
        let l4 = ip.header_len();
        let (protocol, length) = (ip.protocol(), ip.total_len() - l4 as u16);
        let pseudo = pseudo_header(ip.src(), ip.dst(), protocol, length);
        let body = &mut packet[l4..];
        let at = match protocol {
            ipv4::TCP if body.len() >= tcp::HEADER => 16,
            ipv4::UDP if body.len() >= udp::HEADER => 6,
            _ => return,
        };
        if u16::from_be_bytes([body[at], body[at + 1]]) != fold(pseudo) {
            return;
        }
        body[at..at + 2].fill(0);
        let mut whole = !fold(pseudo + sum(body));
        if whole == 0 && protocol == ipv4::UDP {
            whole = 0xffff;
        }
        body[at..at + 2].copy_from_slice(&whole.to_be_bytes());
        self.counters.event(Event::ChecksumCompleted);
    }

    /// To the worker that owns the flow, and there to where the packet wants to go.
    fn dispatch(
        &mut self,
        ctx: &mut Context<'_, P>,
        buf: P::Buf,
        port: u16,
        hops: u8,
        stage: Stage,
        l3: usize,
    ) {
        let ip = checked(ipv4::Packet::new_checked(&buf.bytes()[l3..]));
        let (src, dst, protocol, total) = (ip.src(), ip.dst(), ip.protocol(), ip.total_len());
        let (l4, later_fragment, fragment) =
            (l3 + ip.header_len(), ip.fragment() & ipv4::OFFSET != 0, ip.is_fragment());
        let mut packet = Packet {
            buf,
            port,
            hops,
            stage,
            l3,
            l4,
            src,
            dst,
            protocol,
            total,
            sport: 0,
            dport: 0,
            flags: 0,
        };
        let local = ctx.snap.locals.contains_key(&dst);
        // A router does not look at the header of what it routes.
        if !later_fragment && !packet.parse_transport() && local {
            return self.drop_packet(ctx, packet, Reason::BadTransportHeader, None);
        }
        let owner =
            if fragment || stage != Stage::Arrived { None } else { self.steer.owner(ctx.snap, &packet) };
        if let Some(to) = owner.and_then(|owner| self.next_worker(owner, hops)) {
            return self.hand_over(ctx, to, port, hops, stage, packet.buf);
        }
        if local {
            let own = packet.dst;
            if let Some(packet) = self.process_options(ctx, packet, own) {
                self.deliver(ctx, packet);
            }
        } else {
            self.route_on(ctx, packet);
        }
    }

    /// Fills IPv4 options in with an own address; `None` when the packet is not to go on, which has been dealt with.
    pub(crate) fn process_options(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        own: Ipv4Addr,
    ) -> Option<Packet<P::Buf>> {
        if packet.l4 - packet.l3 == ipv4::HEADER {
            return Some(packet);
        }
        let (l3, l4) = (packet.l3, packet.l4);
        match options::process(&mut packet.buf.bytes_mut()[l3..l4], own, ctx.now) {
            Ok(()) => return Some(packet),
            Err(options::Bad::SourceRoute) => self.drop_packet(ctx, packet, Reason::SourceRoute, None),
            Err(options::Bad::At(pointer)) => {
                self.send_parameter_problem(ctx, &packet, pointer);
                self.drop_packet(ctx, packet, Reason::BadIpOptions, None);
            }
        }
        None
    }

    /// Where a packet goes whose owner is `owner`; `None` when it is here.
    fn next_worker(&self, owner: u16, hops: u8) -> Option<u16> {
        let me = self.config.worker;
        if self.config.misdirect && hops == 0 {
            let wrong = (owner + 1) % self.steer.workers();
            if wrong != me {
                return Some(wrong);
            }
        }
        (owner != me).then_some(owner)
    }

    /// Gives a packet, as it was received, to another worker.
    pub(crate) fn hand_over(
        &mut self,
        ctx: &mut Context<'_, P>,
        to: u16,
        port: u16,
        hops: u8,
        stage: Stage,
        buf: P::Buf,
    ) {
        if hops >= MAX_HOPS {
            return self.drop_frame(ctx, port, Reason::HandoffLoop);
        }
        self.counters.handed_off.add(1);
        ctx.out.outbox.push(Envelope { to, message: Message::Packet { port, hops: hops + 1, stage, buf } });
    }

    /// Counts and tells a drop.
    pub(crate) fn drop_frame(&mut self, ctx: &mut Context<'_, P>, port: u16, reason: Reason) {
        self.counters.count_drop(port, reason);
        self.verdict(ctx, VerdictKind::Drop, reason.name(), None);
    }

    /// Counts and tells a drop, and lets the packet go.
    pub(crate) fn drop_packet(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        reason: Reason,
        server: Option<DestinationId>,
    ) {
        self.counters.count_drop(packet.port, reason);
        self.verdict(ctx, VerdictKind::Drop, reason.name(), server);
    }

    /// Tells what became of a packet, when somebody wants to know.
    #[inline]
    pub(crate) fn verdict(
        &self,
        ctx: &mut Context<'_, P>,
        kind: VerdictKind,
        reason: &'static str,
        server: Option<DestinationId>,
    ) {
        if let Some(verdicts) = &mut ctx.out.verdicts {
            let service = server.and_then(|id| ctx.snap.destination(id)).map(|server| server.service);
            verdicts.push(Verdict { kind, reason, service, server });
        }
    }
}

/// Whether the TCP or UDP checksum of a whole packet is right, and UDP's length (a UDP checksum of 0 is right).
pub(crate) fn transport_checksum_ok<B: Buf>(packet: &Packet<B>) -> bool {
    let mut body = packet.payload();
    if let (ipv4::UDP, Ok(datagram)) = (packet.protocol, udp::Datagram::new_checked(body)) {
        let length = usize::from(datagram.length());
        if length < udp::HEADER || length > body.len() {
            return false;
        }
        if datagram.checksum() == 0 {
            return true;
        }
        body = &body[..length];
    }
    let pseudo = pseudo_header(packet.src, packet.dst, packet.protocol, body.len() as u16);
    fold(pseudo + sum(body)) == 0xffff
}

/// Whether the ICMP checksum of a whole packet is right.
pub(crate) fn icmp_checksum_ok<B: Buf>(packet: &Packet<B>) -> bool {
    checksum(packet.payload()) == 0
}

//! A packet's first steps: Ethernet, IP, mark, owner; then either for the director itself or to be routed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fulcrum_packet::checksum::{checksum, fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, icmp, ip, ipv4, ipv6, tcp, udp};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine, RESOLVER};
use crate::exception::has_twin;
use crate::fragments::follow::concerns_us;
use crate::host::{Error, extensions, ndisc, options};
use crate::marks::{has_mark_service, mark};
use crate::message::{Envelope, First, Message, Stage};
use crate::packet::Packet;
use crate::reason::{Event, Reason, VerdictKind};
use crate::snapshot::{DestinationId, InterfaceId, Snapshot};

/// How often a packet may be handed on: by the test setting, to the keeper of its fragments, to its owner, to its former owner and back, and once
/// more when workers disagree during a change of configuration.
pub(crate) const MAX_HOPS: u8 = 6;

impl<P: Pool> Engine<P> {
    /// A frame from a port, or one that another worker has handed over.
    pub(crate) fn receive(
        &mut self,
        ctx: &mut Context<'_, P>,
        port: u16,
        hops: u8,
        stage: Stage,
        buf: P::Buf,
    ) {
        let Ok(frame) = ethernet::Frame::new_checked(buf.bytes()) else {
            return self.drop_frame(ctx, port, Reason::Truncated, buf);
        };
        let (dst, vlan, ethertype, l3) = (frame.dst(), frame.vlan(), frame.ethertype(), frame.header_len());
        let Some(interface) = ctx.snap.by_vlan.get(port, vlan) else {
            // Before it is programmed, the data plane has the twins of its interfaces at most.
            let programmed = ctx.snap.generation != 0;
            let reason = if programmed { Reason::UnknownVlan } else { Reason::NotProgrammed };
            return self.drop_frame(ctx, port, reason, buf);
        };
        let group = ethernet::is_group(dst);
        if !group && dst != ctx.snap.interfaces[usize::from(interface)].mac && stage != Stage::Host {
            return self.drop_frame(ctx, port, Reason::OtherStation, buf);
        }
        match ethertype {
            ethernet::IPV4 | ethernet::IPV6 => {
                self.receive_ip(ctx, port, interface, hops, stage, ethertype, group, l3, buf);
            }
            ethernet::ARP if self.config.worker != RESOLVER => {
                self.hand_over(ctx, RESOLVER, port, hops, stage, buf)
            }
            ethernet::ARP => self.receive_arp(ctx, port, interface, (l3, buf)),
            _ if has_twin(ctx.snap, interface) => self.give_up(ctx, port, interface, buf),
            _ => self.drop_frame(ctx, port, Reason::UnknownEthertype, buf),
        }
    }

    /// What a host checks of every IP packet; cuts padding off, completes partial checksums; then on its way.
    #[allow(clippy::too_many_arguments, reason = "what the Ethernet header said, once")]
    fn receive_ip(
        &mut self,
        ctx: &mut Context<'_, P>,
        port: u16,
        interface: InterfaceId,
        hops: u8,
        stage: Stage,
        ethertype: u16,
        group: bool,
        l3: usize,
        mut buf: P::Buf,
    ) {
        let v6 = ethertype == ethernet::IPV6;
        let end = match ip::Packet::new_checked(&buf.bytes()[l3..]) {
            Ok(ip::Packet::V4(ip)) if !v6 && !buf.has_good_header_checksum() && !ip.checksum_ok() => {
                Err(Reason::BadIpChecksum)
            }
            Ok(ip @ ip::Packet::V4(_)) if !v6 => Ok(l3 + ip.total_len()),
            Ok(ip @ ip::Packet::V6(_)) if v6 => Ok(l3 + ip.total_len()),
            _ => Err(Reason::BadIpHeader),
        };
        let end = match end {
            Ok(end) => end,
            Err(reason) => return self.drop_frame(ctx, port, reason, buf),
        };
        buf.truncate(end);
        let packet = match Packet::parse(buf, l3) {
            Ok(packet) => packet,
            Err(buf) => return self.drop_frame(ctx, port, Reason::BadIpHeader, buf),
        };
        let mut packet = Packet { port, interface, hops, stage, ..packet };
        if stage != Stage::Host
            && let Err(reason) = self.check_addresses(ctx.snap, &packet, group)
        {
            return match reason {
                // Broadcasts, and groups that only Linux listens to.
                Reason::L2Multicast | Reason::MartianDestination => self.up_or_drop(ctx, packet, reason),
                _ => self.drop_packet(ctx, packet, reason, None),
            };
        }
        if stage == Stage::Arrived
            && let Err(bad) = extensions::hop_by_hop(packet.ip_bytes())
        {
            if let Some(error) = bad {
                self.send_error(ctx, &packet, error);
            }
            return self.drop_packet(ctx, packet, Reason::BadIpOptions, None);
        }
        if ctx.snap.ports[usize::from(port)].partial_checksums {
            self.complete_checksum(&mut packet);
        }
        if matches!(stage, Stage::Fragment { held: true, .. }) {
            let verdicts = ctx.out.verdicts.take();
            self.dispatch(ctx, packet);
            ctx.out.verdicts = verdicts;
            return;
        }
        self.dispatch(ctx, packet);
    }

    /// What the kernel calls martians. // Linux: fib_validate_source, ip_route_input_slow, ip6_rcv_core
    fn check_addresses(&self, snap: &Snapshot, packet: &Packet<P::Buf>, group: bool) -> Result<(), Reason> {
        // DR and TUN servers answer the host by themselves, from the VIP.
        let answers_host = || snap.hosts.contains_key(&packet.dst) && !snap.hosts.contains_key(&packet.src);
        let ours = snap.locals.contains_key(&packet.src) && !answers_host();
        match packet.src {
            // Somebody who claims one of our addresses is answered by neighbour discovery.
            IpAddr::V6(_) if ours && packet.is_icmp() && ndisc::is_for_resolver(packet, true) => {}
            _ if ours => return Err(Reason::MartianSource),
            IpAddr::V4(src) => {
                if is_no_source(src) {
                    return Err(Reason::MartianSource);
                }
            }
            // The unspecified address is that of a station that looks whether its address is taken.
            IpAddr::V6(src) if src.is_unspecified() && packet.protocol == ipv6::ICMP => {}
            IpAddr::V6(src) => {
                if src.is_unspecified() || src.is_loopback() || src.is_multicast() || is_mapped(src) {
                    return Err(Reason::MartianSource);
                }
            }
        }
        match packet.dst {
            IpAddr::V4(_) if group => return Err(Reason::L2Multicast),
            IpAddr::V6(dst) if group && !dst.is_multicast() => return Err(Reason::L2Multicast),
            _ if snap.locals.contains_key(&packet.dst) => {}
            IpAddr::V4(dst) => {
                if dst.octets()[0] == 0 || dst.is_loopback() || dst.octets()[0] >= 224 {
                    return Err(Reason::MartianDestination);
                }
                if is_subnet_broadcast(snap, packet.interface, dst) {
                    return Err(Reason::MartianDestination);
                }
            }
            IpAddr::V6(dst) => {
                if dst.is_unspecified() || dst.is_loopback() || is_mapped(dst) {
                    return Err(Reason::MartianDestination);
                }
                if dst.is_multicast() != group || dst.is_multicast() && packet.protocol != ipv6::ICMP {
                    return Err(Reason::L2Multicast);
                }
            }
        }
        Ok(())
    }

    /// A virtual device may pass frames on whose TCP or UDP checksum still is the sum of the pseudo-header alone:
    /// the sender meant to leave the rest to hardware.
    fn complete_checksum(&self, packet: &mut Packet<P::Buf>) {
        let length = packet.payload().len();
        let at = match packet.protocol {
            _ if packet.fragment.is_some() => return,
            ipv4::TCP if length >= tcp::HEADER => 16,
            ipv4::UDP if length >= udp::HEADER => 6,
            ipv6::ICMP if packet.is_v6() && length >= icmp::HEADER => 2,
            _ => return,
        };
        let protocol = packet.protocol;
        let pseudo = pseudo_header_of(packet.src, packet.dst, protocol, length);
        let body = packet.payload_mut();
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
    fn dispatch(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>) {
        let local = ctx.snap.locals.get(&packet.dst);
        if local.is_some_and(|local| local.withheld) {
            return self.drop_packet(ctx, packet, Reason::VipReleased, None);
        }
        let ours = local.is_some();
        if packet.is_v6() && packet.is_icmp() && ndisc::is_for_resolver(&packet, ours) {
            if self.config.worker != RESOLVER {
                let Packet { port, hops, stage, buf, .. } = packet;
                return self.hand_over(ctx, RESOLVER, port, hops, stage, buf);
            }
            return self.receive_ndisc(ctx, packet);
        }
        if let Stage::Fragment { first: First::Ports(protocol, sport, dport), .. } = packet.stage {
            (packet.protocol, packet.sport, packet.dport) = (protocol, sport, dport);
        }
        // A router does not look at the header of what it routes.
        if !packet.is_later_fragment() && !packet.parse_transport() && ours {
            return self.drop_packet(ctx, packet, Reason::BadTransportHeader, None);
        }
        if let Some(fragment) = packet.fragment
            && packet.stage == Stage::Arrived
            && concerns_us(ctx.snap, &packet)
        {
            return self.take_fragment(ctx, packet, fragment);
        }
        packet.mark = mark(ctx.snap, packet.key(), Some(packet.interface));
        let owner = match packet.stage {
            Stage::Arrived | Stage::Host if !packet.has_ports() => None,
            Stage::Arrived | Stage::Host | Stage::Fragment { owner: false, .. } => {
                self.steer.owner(ctx.snap, &packet)
            }
            _ => None,
        };
        if let Some(to) = owner.and_then(|owner| self.next_worker(owner, packet.hops)) {
            let Packet { port, hops, mut stage, buf, .. } = packet;
            if let Stage::Fragment { owner, .. } = &mut stage {
                *owner = true;
            }
            return self.hand_over(ctx, to, port, hops, stage, buf);
        }
        if ours || has_mark_service(ctx.snap, &packet) {
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
        own: IpAddr,
    ) -> Option<Packet<P::Buf>> {
        let IpAddr::V4(own) = own else { return Some(packet) };
        if packet.l4 - packet.l3 == ipv4::HEADER {
            return Some(packet);
        }
        let (l3, l4) = (packet.l3, packet.l4);
        match options::process(&mut packet.buf.bytes_mut()[l3..l4], own, ctx.now) {
            Ok(()) => return Some(packet),
            Err(options::Bad::SourceRoute) => self.drop_packet(ctx, packet, Reason::SourceRoute, None),
            Err(options::Bad::At(pointer)) => {
                self.send_error(ctx, &packet, Error::ParameterProblem(pointer));
                self.drop_packet(ctx, packet, Reason::BadIpOptions, None);
            }
        }
        None
    }

    /// Where a packet goes whose owner is `owner`; `None` when it is here.
    pub(crate) fn next_worker(&self, owner: u16, hops: u8) -> Option<u16> {
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
            return self.drop_frame(ctx, port, Reason::HandoffLoop, buf);
        }
        self.counters.handed_off.add(1);
        ctx.out.outbox.push(Envelope { to, message: Message::Packet { port, hops: hops + 1, stage, buf } });
    }

    /// Counts and tells a drop, and lets the frame go.
    pub(crate) fn drop_frame(&mut self, ctx: &mut Context<'_, P>, port: u16, reason: Reason, buf: P::Buf) {
        self.counters.count_drop(port, reason);
        self.verdict(ctx, VerdictKind::Drop, reason.name(), None);
        ctx.let_go(port, reason, buf);
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
        ctx.let_go(packet.port, reason, packet.buf);
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
        ctx.verdict(kind, reason, server);
    }
}

/// Whether no packet comes from an address.
#[inline]
pub(crate) fn is_no_source(src: Ipv4Addr) -> bool {
    src.octets()[0] == 0 || src.is_loopback() || src.is_multicast() || src.is_broadcast()
}

fn is_subnet_broadcast(snap: &Snapshot, interface: InterfaceId, dst: Ipv4Addr) -> bool {
    snap.interfaces[usize::from(interface)].addresses.iter().any(|&(address, length)| {
        let IpAddr::V4(address) = address else { return false };
        let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        length < 31 && dst.to_bits() == address.to_bits() | host
    })
}

/// Whether an address is an IPv4 one in IPv6's clothes, which no packet may have (RFC 4291, 2.5.5.2).
fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// Whether the TCP or UDP checksum of a whole packet is right, and UDP's length (a UDP checksum of 0 is right, by
/// IPv4).
pub(crate) fn transport_checksum_ok<B: Buf>(packet: &Packet<B>) -> bool {
    let mut body = packet.payload();
    if let (ipv4::UDP, Ok(datagram)) = (packet.protocol, udp::Datagram::new_checked(body)) {
        let length = usize::from(datagram.length());
        if length < udp::HEADER || length > body.len() {
            return false;
        }
        if datagram.checksum() == 0 {
            return !packet.is_v6();
        }
        body = &body[..length];
    }
    let pseudo = pseudo_header_of(packet.src, packet.dst, packet.protocol, body.len());
    fold(pseudo + sum(body)) == 0xffff
}

/// Whether the ICMP checksum of a whole packet is right.
pub(crate) fn icmp_checksum_ok<B: Buf>(packet: &Packet<B>) -> bool {
    if packet.is_v6() {
        let pseudo = pseudo_header_of(packet.src, packet.dst, packet.protocol, packet.payload().len());
        return fold(pseudo + sum(packet.payload())) == 0xffff;
    }
    checksum(packet.payload()) == 0
}

//! Packets that the director sends in its own name: ICMP errors, RST, answers to pings; and what a host does
//! with packets that no service takes.

use std::net::IpAddr;

use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::{ethernet, icmp, icmpv6, ip, ipv4, ipv6, tcp};

use crate::Nanos;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::icmp::fill_icmp_checksum;
use crate::message::{First, Stage};
use crate::next_hop;
use crate::output::{Sent, source_towards, way_back};
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason, VerdictKind};
use crate::receive::{icmp_checksum_ok, transport_checksum_ok};
use crate::session::{Direction, SessionId};
use crate::snapshot::InterfaceId;

/// TTL of packets of our own.
const TTL: u8 = 64;
/// An IPv4 ICMP error is no longer than this. // RFC 1812, 4.3.2.3
const ERROR_SIZE: usize = 576;
/// Precedence of ICMP errors: internetwork control. // RFC 1812, 4.3.2.5
const ERROR_PRECEDENCE: u8 = 0xc0;
/// Where frames of our own have their IP header: room for an Ethernet header with a tag.
const L3: usize = ethernet::HEADER + ethernet::TAG;
/// Length of a time-stamp message.
const TIMESTAMP: usize = 20;

/// An ICMP error to be sent, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    TtlExpired,
    NetUnreachable,
    HostUnreachable,
    ProtocolUnreachable,
    PortUnreachable,
    /// With the MTU of the way on.
    TooBig(u16),
    /// With the offset of what is wrong with the header.
    ParameterProblem(u16),
    /// With the offset of an IPv6 option that nobody here knows.
    UnknownOption(u16),
    /// Somebody else's error, said again to whom it concerns.
    Relayed {
        kind: u8,
        code: u8,
        rest: u32,
    },
}

impl Error {
    /// Type, code and the header's last four bytes.
    fn wire(self, v6: bool) -> (u8, u8, u32) {
        use icmpv6 as six;
        match (self, v6) {
            (Error::TtlExpired, false) => (icmp::TIME_EXCEEDED, 0, 0),
            (Error::NetUnreachable, false) => (icmp::UNREACHABLE, 0, 0),
            (Error::HostUnreachable, false) => (icmp::UNREACHABLE, icmp::HOST_UNREACHABLE, 0),
            (Error::ProtocolUnreachable, false) => (icmp::UNREACHABLE, icmp::PROTOCOL_UNREACHABLE, 0),
            (Error::PortUnreachable, false) => (icmp::UNREACHABLE, icmp::PORT_UNREACHABLE, 0),
            (Error::TooBig(mtu), false) => (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, mtu.into()),
            (Error::ParameterProblem(at), false) => (icmp::PARAMETER_PROBLEM, 0, u32::from(at) << 24),
            (Error::Relayed { kind, code, rest }, _) => (kind, code, rest),
            (Error::TtlExpired, true) => (six::TIME_EXCEEDED, six::HOP_LIMIT_EXCEEDED, 0),
            (Error::NetUnreachable, true) => (six::UNREACHABLE, six::NO_ROUTE, 0),
            (Error::HostUnreachable, true) => (six::UNREACHABLE, six::ADDRESS_UNREACHABLE, 0),
            // Where the next header field of a packet without extension headers is.
            (Error::ProtocolUnreachable, true) => (six::PARAMETER_PROBLEM, six::UNKNOWN_NEXT_HEADER, 6),
            (Error::PortUnreachable, true) => (six::UNREACHABLE, six::PORT_UNREACHABLE, 0),
            (Error::TooBig(mtu), true) => (six::PACKET_TOO_BIG, 0, mtu.into()),
            (Error::ParameterProblem(at), true) => (six::PARAMETER_PROBLEM, six::ERRONEOUS_FIELD, at.into()),
            (Error::UnknownOption(at), _) => (six::PARAMETER_PROBLEM, six::UNKNOWN_OPTION, at.into()),
        }
    }
}

/// Whether a packet is an ICMP error, or so short that it may be one: about it no error is sent.
pub(crate) fn is_icmp_error<B: Buf>(packet: &Packet<B>) -> bool {
    let is_error = if packet.is_v6() { icmpv6::is_error } else { icmp::is_error };
    packet.is_icmp() && packet.payload().first().is_none_or(|&kind| is_error(kind))
}

/// Whether a packet that is no later fragment asks for an echo.
pub(crate) fn is_echo_request<B: Buf>(packet: &Packet<B>) -> bool {
    let kind = if packet.is_v6() { icmpv6::ECHO_REQUEST } else { icmp::ECHO_REQUEST };
    packet.is_icmp() && packet.payload().len() >= icmp::HEADER && packet.payload()[0] == kind
}

/// Whether a packet is a part of a request for an echo.
pub(crate) fn is_fragmented_echo<B>(packet: &Packet<B>) -> bool {
    matches!(packet.stage, Stage::Fragment { first: First::Echo, .. })
}

impl<P: Pool> Engine<P> {
    /// Sends a part of a request for an echo back as the same part of the answer.
    pub(crate) fn answer_echo_fragment(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>) {
        let way = match way_back(ctx.snap, packet.src, packet.interface, || {
            next_hop::of_packet(&packet).inverted()
        }) {
            Ok(way) => way,
            Err(reason) => return self.drop_packet(ctx, packet, reason, None),
        };
        let ends = (packet.dst, packet.src);
        // Exchanged ends do not change the sum of a pseudo-header.
        let mut ip = packet.ip_mut();
        ip.set_src(ends.0);
        ip.set_dst(ends.1);
        ip.set_ttl(TTL);
        if !packet.is_later_fragment() {
            let reply = if packet.is_v6() { icmpv6::ECHO_REPLY } else { icmp::ECHO_REPLY };
            checked(icmp::Message::new_checked(packet.payload_mut())).set_kind(reply);
            self.counters.event(Event::EchoReplied);
        }
        let Packet { port, l3, buf, .. } = packet;
        let sent = self.send(ctx, buf, l3, &way, port, true);
        self.sent(ctx, sent, port, Event::EchoFragmentReplied, None);
    }

    /// A packet for one of our addresses that no session and no service takes: what a host without a listener
    /// does. `reason` is why nobody took it.
    pub(crate) fn refuse(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, reason: Reason) {
        let Some(packet) = self.up_to_host(ctx, packet) else { return };
        if !matches!(packet.protocol, ipv4::TCP | ipv4::UDP) {
            self.send_error(ctx, &packet, Error::ProtocolUnreachable);
            return self.drop_packet(ctx, packet, Reason::UnknownProtocol, None);
        }
        // That of a fragmented datagram covers more than is here.
        let fragment = packet.protocol == ipv4::UDP && packet.fragment.is_some();
        if !fragment && !transport_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadTransportChecksum, None);
        }
        if packet.protocol == ipv4::UDP {
            self.send_error(ctx, &packet, Error::PortUnreachable);
            return self.drop_packet(ctx, packet, Reason::NoUdpService, None);
        }
        if packet.flags & tcp::RST != 0 {
            return self.drop_packet(ctx, packet, Reason::StrayReset, None);
        }
        self.send_reset(ctx, &packet);
        self.drop_packet(ctx, packet, reason, None);
    }

    /// A client's packet whose server is the director itself, where nobody listens: its host refuses, and the
    /// session sees that as an answer.
    pub(crate) fn refuse_of_session(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        id: SessionId,
    ) {
        let server = self.sessions.get(id).destination;
        if transport_checksum_ok(&packet) {
            if packet.protocol == ipv4::TCP && packet.flags & tcp::RST == 0 {
                if let Some(flags) = self.send_reset(ctx, &packet) {
                    // Of the answer, the state machine only wants to know these.
                    packet.flags = flags;
                    self.advance(ctx, id, Direction::Out, &packet);
                    if let Some(destination) = ctx.snap.destination(server) {
                        let length = ip_header(packet.is_v6()) + tcp::HEADER;
                        self.count_out(destination, (1, length as u64));
                    }
                }
            } else if packet.protocol == ipv4::UDP {
                self.send_error(ctx, &packet, Error::PortUnreachable);
            }
        }
        self.drop_packet(ctx, packet, Reason::LocalServer, Some(server));
    }

    /// Answers a segment with RST (RFC 9293, 3.10.7.1); gives the flags of the answer when it was sent.
    fn send_reset(&mut self, ctx: &mut Context<'_, P>, packet: &Packet<P::Buf>) -> Option<u8> {
        let segment = checked(tcp::Segment::new_checked(packet.payload()));
        let data = packet.payload().len().checked_sub(segment.header_len())?;
        if segment.header_len() < tcp::HEADER {
            return None;
        }
        let flags = segment.flags();
        let taken = data as u32 + u32::from(flags & tcp::SYN != 0) + u32::from(flags & tcp::FIN != 0);
        let (seq, ack, answer) = if flags & tcp::ACK != 0 {
            (segment.ack(), 0, tcp::RST)
        } else {
            (0, segment.seq().wrapping_add(taken), tcp::RST | tcp::ACK)
        };
        let header = tcp::Header {
            src_port: packet.dport,
            dst_port: packet.sport,
            seq,
            ack,
            flags: answer,
            window: 0,
        };
        let own = Own {
            src: packet.dst,
            dst: packet.src,
            protocol: ipv4::TCP,
            // Without the ECN bits: this is no ECN-capable flow.
            tos: packet.ip().tos() & 0xfc,
            id: None,
        };
        let mut buf = self.own_packet(ctx, own, tcp::HEADER)?;
        let body = own_body(&mut buf, packet.is_v6());
        header.emit(body);
        let pseudo = pseudo_header_of(packet.dst, packet.src, ipv4::TCP, tcp::HEADER);
        let whole = !fold(pseudo + sum(body));
        checked(tcp::Segment::new_checked(body)).set_checksum(whole);
        if !self.send_own(ctx, buf, packet.src, packet.interface, packet.port) {
            return None;
        }
        self.counters.event(Event::ResetSent);
        Some(answer)
    }

    /// Sends an ICMP error about a packet as it is now, unless none may be sent about it (RFC 1122, 3.2.2) or too
    /// many have been. Gives the length of the error's IP packet, 0 when none was sent.
    pub(crate) fn send_error(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &Packet<P::Buf>,
        error: Error,
    ) -> usize {
        if is_icmp_error(packet) || packet.is_later_fragment() {
            return 0;
        }
        let src = ctx.snap.locals.contains_key(&packet.dst).then_some(packet.dst);
        self.send_error_about(ctx, packet.ip_bytes(), packet.interface, packet.port, src, error)
    }

    /// Sends an ICMP error about an IP packet, of which the header has been found to be there, from `src` or, without one, from
    /// the address of the way back.
    pub(crate) fn send_error_about(
        &mut self,
        ctx: &mut Context<'_, P>,
        about: &[u8],
        interface: InterfaceId,
        port: u16,
        src: Option<IpAddr>,
        error: Error,
    ) -> usize {
        let v6 = about.first().is_some_and(|first| first >> 4 == 6);
        let Ok(ip) = ip::Packet::new_quoted(v6, about) else { return 0 };
        let dst = ip.src();
        let flow = || next_hop::of_own(about).unwrap_or(next_hop::of_addresses(dst, ip.dst())).inverted();
        let Ok(back) = way_back(ctx.snap, dst, interface, flow) else { return 0 };
        if dst.is_unspecified() || ip.dst().is_multicast() {
            return 0;
        }
        if !self.limiter.take(ctx.now) {
            self.counters.event(Event::IcmpLimited);
            return 0;
        }
        let (most, tos) = if v6 {
            (icmpv6::MAX_QUOTE, 0)
        } else {
            (ERROR_SIZE - ipv4::HEADER - icmp::HEADER, (ip.tos() & 0x1e) | ERROR_PRECEDENCE)
        };
        let quoted = &about[..about.len().min(most)];
        let id = Some(self.next_ip_id());
        let src = src.unwrap_or_else(|| source_towards(ctx.snap, &back, dst));
        let own = Own { src, dst, protocol: icmp_protocol(v6), tos, id };
        let Some(mut buf) = self.own_packet(ctx, own, icmp::HEADER + quoted.len()) else { return 0 };
        let body = own_body(&mut buf, v6);
        let (kind, code, rest) = error.wire(v6);
        icmp::emit(body, kind, code, rest);
        body[icmp::HEADER..].copy_from_slice(quoted);
        fill_icmp_checksum(body, own.src, own.dst);
        if !self.send_own(ctx, buf, dst, interface, port) {
            return 0;
        }
        self.counters.event(Event::IcmpSent);
        ip_header(v6) + icmp::HEADER + quoted.len()
    }

    /// Tells the sender of a routed frame that its next hop does not answer, unless that is ourselves.
    pub(crate) fn tell_host_unreachable(
        &mut self,
        ctx: &mut Context<'_, P>,
        buf: &P::Buf,
        interface: InterfaceId,
    ) {
        let Ok(frame) = ethernet::Frame::new_checked(buf.bytes()) else { return };
        let Ok(ip) = ip::Packet::new_checked(&buf.bytes()[frame.header_len()..]) else { return };
        let about = &buf.bytes()[frame.header_len()..][..ip.total_len()];
        if ctx.snap.locals.contains_key(&ip.src()) || !may_be_reported(&ip, about) {
            return;
        }
        self.send_error_about(ctx, about, interface, 0, None, Error::HostUnreachable);
    }

    /// An ICMP message to one of our addresses that is about no session.
    pub(crate) fn answer_icmp(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>) {
        let Ok(message) = icmp::Message::new_checked(packet.payload()) else {
            return self.drop_packet(ctx, packet, Reason::BadTransportHeader, None);
        };
        let (kind, code) = (message.kind(), message.code());
        if !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, None);
        }
        let v6 = packet.is_v6();
        let (answer, event) = match (kind, code) {
            (icmp::ECHO_REQUEST, _) if !v6 => (icmp::ECHO_REPLY, Event::EchoReplied),
            (icmpv6::ECHO_REQUEST, _) if v6 => (icmpv6::ECHO_REPLY, Event::EchoReplied),
            (icmp::TIMESTAMP_REQUEST, 0) if !v6 && packet.payload().len() >= TIMESTAMP => {
                (icmp::TIMESTAMP_REPLY, Event::TimestampReplied)
            }
            _ => return self.leave(ctx, packet, Reason::IcmpIgnored),
        };
        let timestamp = event == Event::TimestampReplied;
        if timestamp {
            stamp(&mut packet.payload_mut()[..TIMESTAMP], ctx.now);
        }
        let quoted = if timestamp { &packet.payload()[..TIMESTAMP] } else { packet.payload() };
        let own = Own {
            src: packet.dst,
            dst: packet.src,
            protocol: packet.protocol,
            tos: packet.ip().tos(),
            id: Some(self.next_ip_id()),
        };
        let Some(mut buf) = self.own_packet(ctx, own, quoted.len()) else {
            return self.drop_packet(ctx, packet, Reason::NoBuffer, None);
        };
        let body = own_body(&mut buf, v6);
        body.copy_from_slice(quoted);
        // Exchanged ends do not change the sum of a pseudo-header.
        checked(icmp::Message::new_checked(body)).set_kind(answer);
        if !self.send_own(ctx, buf, packet.src, packet.interface, packet.port) {
            return self.drop_packet(ctx, packet, Reason::NoRoute, None);
        }
        self.counters.event(event);
        self.verdict(ctx, VerdictKind::Reply, event.name(), None);
    }

    /// A frame of our own with its IP header written, and room for `length` bytes behind it.
    fn own_packet(&mut self, ctx: &mut Context<'_, P>, own: Own, length: usize) -> Option<P::Buf> {
        let header = ip_header(own.dst.is_ipv6());
        let mut buf = ctx.pool.alloc(L3 + header + length)?;
        let bytes = &mut buf.bytes_mut()[L3..];
        let Own { tos, protocol, .. } = own;
        match (own.src, own.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let (id, fragment) = own.id.map_or((0, ipv4::DF), |id| (id, 0));
                let total_len = (header + length) as u16;
                ipv4::Header { tos, total_len, id, fragment, ttl: TTL, protocol, src, dst }.emit(bytes);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let payload_len = length as u16;
                let (traffic_class, flow_label) = (tos, 0);
                let (next_header, hop_limit) = (protocol, TTL);
                ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, src, dst }
                    .emit(bytes);
            }
            _ => return None,
        }
        Some(buf)
    }

    /// Routes and sends a packet of our own to somebody heard of by `interface`; whether it went (or waits for its
    /// next hop).
    fn send_own(
        &mut self,
        ctx: &mut Context<'_, P>,
        buf: P::Buf,
        dst: IpAddr,
        interface: InterfaceId,
        port: u16,
    ) -> bool {
        let flow = || next_hop::of_own(&buf.bytes()[L3..]).unwrap_or(next_hop::of_addresses(dst, dst));
        let Ok(way) = way_back(ctx.snap, dst, interface, flow) else { return false };
        // As if routed: whoever asks under many addresses leaves room for services where packets are parked.
        !matches!(self.send(ctx, buf, L3, &way, port, true), Sent::Dropped(_))
    }
}

/// What the IP header of a packet of our own says.
#[derive(Clone, Copy, Debug)]
struct Own {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    tos: u8,
    /// Identification of an IPv4 packet that may be fragmented.
    id: Option<u16>,
}

fn ip_header(v6: bool) -> usize {
    if v6 { ipv6::HEADER } else { ipv4::HEADER }
}

fn icmp_protocol(v6: bool) -> u8 {
    if v6 { ipv6::ICMP } else { ipv4::ICMP }
}

/// What follows the IP header in a frame of [`Engine::own_packet`].
fn own_body<B: Buf>(buf: &mut B, v6: bool) -> &mut [u8] {
    &mut buf.bytes_mut()[L3 + ip_header(v6)..]
}

/// Whether an error may be sent about a finished packet.
fn may_be_reported(ip: &ip::Packet<&[u8]>, about: &[u8]) -> bool {
    match ip {
        ip::Packet::V4(ip) => {
            let kind = about.get(ip.header_len()).copied().unwrap_or(icmp::UNREACHABLE);
            ip.fragment() & ipv4::OFFSET == 0 && (ip.protocol() != ipv4::ICMP || !icmp::is_error(kind))
        }
        ip::Packet::V6(ip) => ip.upper().is_ok_and(|upper| {
            let kind = about.get(upper.offset).copied().unwrap_or(icmpv6::UNREACHABLE);
            upper.fragment.is_none_or(|fragment| fragment.offset == 0)
                && (upper.protocol != ipv6::ICMP || !icmpv6::is_error(kind))
        }),
    }
}

/// Fills receive and transmit time into a time-stamp message and mends its checksum (RFC 792).
fn stamp(message: &mut [u8], now: Nanos) {
    // Milliseconds of an arbitrary clock, which the high bit marks.
    let time = ((now / 1_000_000) as u32 | 0x8000_0000).to_be_bytes();
    message[12..16].copy_from_slice(&time);
    message[16..20].copy_from_slice(&time);
    checked(icmp::Message::new_checked(message)).fill_checksum();
}

//! Packets that the director sends in its own name: ICMP errors, RST, answers to pings; and what a host does
//! with packets that no service takes.

use std::net::Ipv4Addr;

use fulcrum_packet::checksum::{fold, pseudo_header, sum};
use fulcrum_packet::{icmp, ipv4, tcp};

use crate::Nanos;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::output::{Sent, way};
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason, VerdictKind};
use crate::receive::{icmp_checksum_ok, transport_checksum_ok};

/// TTL of packets of our own.
const TTL: u8 = 64;
/// An ICMP error is no longer than this. // RFC 1812, 4.3.2.3
const ERROR_SIZE: usize = 576;
/// Precedence of ICMP errors: internetwork control. // RFC 1812, 4.3.2.5
const ERROR_PRECEDENCE: u8 = 0xc0;
/// Where frames of our own have their IPv4 header: room for an Ethernet header with a tag.
const L3: usize = fulcrum_packet::ethernet::HEADER + fulcrum_packet::ethernet::TAG;
/// Length of a time-stamp message.
const TIMESTAMP: usize = 20;
/// Headers before what an ICMP error quotes.
const ERROR_HEADERS: usize = ipv4::HEADER + icmp::HEADER;

/// An ICMP error to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Error {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    /// MTU, pointer or 0.
    pub(crate) rest: u32,
}

impl Error {
    pub(crate) const TTL_EXPIRED: Error = Error { kind: icmp::TIME_EXCEEDED, code: 0, rest: 0 };
    pub(crate) const NET_UNREACHABLE: Error = Error::unreachable(0);
    pub(crate) const HOST_UNREACHABLE: Error = Error::unreachable(icmp::HOST_UNREACHABLE);
    pub(crate) const PROTOCOL_UNREACHABLE: Error = Error::unreachable(icmp::PROTOCOL_UNREACHABLE);
    pub(crate) const PORT_UNREACHABLE: Error = Error::unreachable(icmp::PORT_UNREACHABLE);

    const fn unreachable(code: u8) -> Error {
        Error { kind: icmp::UNREACHABLE, code, rest: 0 }
    }

    pub(crate) fn too_big(mtu: u16) -> Error {
        Error { kind: icmp::UNREACHABLE, code: icmp::FRAGMENTATION_NEEDED, rest: u32::from(mtu) }
    }
}

impl<P: Pool> Engine<P> {
    /// A packet for one of our addresses that no session and no service takes: what a host without a listener
    /// does. `reason` is why nobody took it.
    pub(crate) fn refuse(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, reason: Reason) {
        if !transport_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadTransportChecksum, None);
        }
        if packet.protocol == ipv4::UDP {
            self.send_error(ctx, &packet, Error::PORT_UNREACHABLE);
            return self.drop_packet(ctx, packet, Reason::NoUdpService, None);
        }
        if packet.flags & tcp::RST != 0 {
            return self.drop_packet(ctx, packet, Reason::StrayReset, None);
        }
        self.send_reset(ctx, &packet);
        self.drop_packet(ctx, packet, reason, None);
    }

    /// Answers a segment with RST (RFC 9293, 3.10.7.1).
    fn send_reset(&mut self, ctx: &mut Context<'_, P>, packet: &Packet<P::Buf>) {
        let segment = checked(tcp::Segment::new_checked(packet.payload()));
        let Some(data) = packet.payload().len().checked_sub(segment.header_len()) else { return };
        if segment.header_len() < tcp::HEADER {
            return;
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
        let length = ipv4::HEADER + tcp::HEADER;
        let Some(mut buf) = ctx.pool.alloc(L3 + length) else { return };
        let bytes = &mut buf.bytes_mut()[L3..];
        ipv4::Header {
            // Without the ECN bits: this is no ECN-capable flow.
            tos: packet.ip().tos() & 0xfc,
            total_len: length as u16,
            id: 0,
            fragment: ipv4::DF,
            ttl: TTL,
            protocol: ipv4::TCP,
            src: packet.dst,
            dst: packet.src,
        }
        .emit(bytes);
        let body = &mut bytes[ipv4::HEADER..];
        header.emit(body);
        let pseudo = pseudo_header(packet.dst, packet.src, ipv4::TCP, tcp::HEADER as u16);
        let whole = !fold(pseudo + sum(body));
        checked(tcp::Segment::new_checked(body)).set_checksum(whole);
        if self.send_own(ctx, buf, packet.src, packet.port) {
            self.counters.event(Event::ResetSent);
        }
    }

    /// Sends an ICMP error about a packet as it is now, unless none may be sent about it (RFC 1122, 3.2.2) or too
    /// many have been. Gives the length of the error's IPv4 packet, 0 when none was sent.
    pub(crate) fn send_error(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &Packet<P::Buf>,
        error: Error,
    ) -> u16 {
        if packet.protocol == ipv4::ICMP && packet.payload().first().is_none_or(|&kind| icmp::is_error(kind))
        {
            return 0;
        }
        let src = ctx.snap.locals.contains_key(&packet.dst).then_some(packet.dst);
        self.send_error_about(ctx, packet.ip_bytes(), packet.port, src, error)
    }

    /// Sends an ICMP error about an IPv4 packet whose header has been checked, from `src` or, without one, from
    /// the address of the way back.
    fn send_error_about(
        &mut self,
        ctx: &mut Context<'_, P>,
        about: &[u8],
        port: u16,
        src: Option<Ipv4Addr>,
        error: Error,
    ) -> u16 {
        let ip = checked(ipv4::Packet::new_checked(about));
        if ip.fragment() & ipv4::OFFSET != 0 {
            return 0;
        }
        let dst = ip.src();
        let Ok(back) = way(ctx.snap, dst) else { return 0 };
        if !self.limiter.take(ctx.now) {
            self.counters.event(Event::IcmpLimited);
            return 0;
        }
        let quoted = about.len().min(ERROR_SIZE - ERROR_HEADERS);
        let length = ERROR_HEADERS + quoted;
        let Some(mut buf) = ctx.pool.alloc(L3 + length) else { return 0 };
        let id = self.next_ip_id();
        let bytes = &mut buf.bytes_mut()[L3..];
        ipv4::Header {
            tos: (ip.tos() & 0x1e) | ERROR_PRECEDENCE,
            total_len: length as u16,
            id,
            fragment: 0,
            ttl: TTL,
            protocol: ipv4::ICMP,
            src: src.unwrap_or(back.source),
            dst,
        }
        .emit(bytes);
        let body = &mut bytes[ipv4::HEADER..];
        icmp::emit(body, error.kind, error.code, error.rest);
        body[icmp::HEADER..].copy_from_slice(&about[..quoted]);
        checked(icmp::Message::new_checked(body)).fill_checksum();
        if !self.send_own(ctx, buf, dst, port) {
            return 0;
        }
        self.counters.event(Event::IcmpSent);
        length as u16
    }

    /// Says which byte of a header is wrong.
    pub(crate) fn send_parameter_problem(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &Packet<P::Buf>,
        at: u8,
    ) {
        let error = Error { kind: icmp::PARAMETER_PROBLEM, code: 0, rest: u32::from(at) << 24 };
        self.send_error(ctx, packet, error);
    }

    /// Tells the sender of a routed frame that its next hop does not answer, unless that is ourselves.
    pub(crate) fn tell_host_unreachable(&mut self, ctx: &mut Context<'_, P>, buf: &P::Buf) {
        let Ok(frame) = fulcrum_packet::ethernet::Frame::new_checked(buf.bytes()) else { return };
        let Ok(ip) = ipv4::Packet::new_checked(&buf.bytes()[frame.header_len()..]) else { return };
        if ctx.snap.locals.contains_key(&ip.src()) {
            return;
        }
        let about = &buf.bytes()[frame.header_len()..][..usize::from(ip.total_len())];
        let kind = about.get(ip.header_len()).copied().unwrap_or(icmp::UNREACHABLE);
        if ip.protocol() != ipv4::ICMP || !icmp::is_error(kind) {
            self.send_error_about(ctx, about, 0, None, Error::HOST_UNREACHABLE);
        }
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
        let (answer, event) = match (kind, code) {
            (icmp::ECHO_REQUEST, _) => (icmp::ECHO_REPLY, Event::EchoReplied),
            (icmp::TIMESTAMP_REQUEST, 0) if packet.payload().len() >= TIMESTAMP => {
                (icmp::TIMESTAMP_REPLY, Event::TimestampReplied)
            }
            _ => return self.drop_packet(ctx, packet, Reason::IcmpIgnored, None),
        };
        if answer == icmp::TIMESTAMP_REPLY {
            stamp(&mut packet.payload_mut()[..TIMESTAMP], ctx.now);
        }
        let quoted = match answer {
            icmp::TIMESTAMP_REPLY => &packet.payload()[..TIMESTAMP],
            _ => packet.payload(),
        };
        let length = ipv4::HEADER + quoted.len();
        let Some(mut buf) = ctx.pool.alloc(L3 + length) else {
            return self.drop_packet(ctx, packet, Reason::NoBuffer, None);
        };
        let bytes = &mut buf.bytes_mut()[L3..];
        ipv4::Header {
            tos: packet.ip().tos(),
            total_len: length as u16,
            id: self.next_ip_id(),
            fragment: 0,
            ttl: TTL,
            protocol: ipv4::ICMP,
            src: packet.dst,
            dst: packet.src,
        }
        .emit(bytes);
        bytes[ipv4::HEADER..].copy_from_slice(quoted);
        checked(icmp::Message::new_checked(&mut bytes[ipv4::HEADER..])).set_kind(answer);
        if !self.send_own(ctx, buf, packet.src, packet.port) {
            return self.drop_packet(ctx, packet, Reason::NoRoute, None);
        }
        self.counters.event(event);
        self.verdict(ctx, VerdictKind::Reply, event.name(), None);
    }

    /// Routes and sends a packet of our own; whether it went (or waits for its next hop).
    fn send_own(&mut self, ctx: &mut Context<'_, P>, buf: P::Buf, dst: Ipv4Addr, port: u16) -> bool {
        let Ok(way) = way(ctx.snap, dst) else { return false };
        // As if routed: whoever asks under many addresses leaves room for services where packets are parked.
        !matches!(self.send(ctx, buf, L3, &way, port, true), Sent::Dropped(_))
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

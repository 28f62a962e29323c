//! The forwarding methods: a client's packet to its server, a server's answer to its client.

use std::net::Ipv4Addr;

use fulcrum_packet::checksum::{Delta, fold, pseudo_header, sum};
use fulcrum_packet::ports::Ports;
use fulcrum_packet::{ipv4, tcp, udp};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::host::Error;
use crate::output::{Way, way};
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason};
use crate::session::{Direction, SessionId};
use crate::snapshot::Forward;

/// The smallest MTU that an IPv4 link may have, and a tunnel leave. // RFC 791
const MIN_MTU: u16 = 68;

/// New addresses and ports of a packet.
#[derive(Clone, Copy, Debug)]
struct Rewrite {
    src: Option<(Ipv4Addr, u16)>,
    dst: Option<(Ipv4Addr, u16)>,
}

impl<P: Pool> Engine<P> {
    /// Sends a client's packet to the server of its session. State and counts are done.
    pub(crate) fn forward(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>, id: SessionId) {
        let Some(way) = self.way_to_server(ctx, &packet, id) else {
            return;
        };
        let way = match way {
            Ok(way) => way,
            Err(reason) => {
                let server = self.sessions.get(id).destination;
                return self.drop_packet(ctx, packet, reason, Some(server));
            }
        };
        packet.ip_mut().decrement_ttl();
        let session = self.sessions.get(id);
        let forward = session.forward;
        let tunnel = if forward == Forward::Tun { ipv4::HEADER as u16 } else { 0 };
        let room = way.mtu.saturating_sub(tunnel);
        let icmp = packet.protocol == ipv4::ICMP;
        // An ICMP error is cut even when it says that it must not be: about it no error can be sent.
        if room < MIN_MTU || packet.total > room && packet.ip().dont_fragment() && !icmp {
            if room >= MIN_MTU {
                self.send_session_error(ctx, &packet, id, Error::too_big(room));
            }
            let server = self.sessions.get(id).destination;
            return self.drop_packet(ctx, packet, Reason::TooBig, Some(server));
        }
        let event = match forward {
            _ if icmp => Event::ForwardedIcmp,
            Forward::Nat => Event::ForwardedNat,
            Forward::FullNat => Event::ForwardedFullNat,
            Forward::Dr => Event::ForwardedDr,
            Forward::Tun => Event::ForwardedTun,
        };
        let server = (session.server, session.server_port);
        match forward {
            Forward::Dr => {}
            Forward::Tun => {
                if !self.encapsulate(&mut packet, way.source, server.0) {
                    let server = self.sessions.get(id).destination;
                    return self.drop_packet(ctx, packet, Reason::NoHeadroom, Some(server));
                }
            }
            Forward::Nat | Forward::FullNat => {
                let local = (forward == Forward::FullNat).then_some((session.local, session.local_port));
                if icmp {
                    self.rewrite_error_to_server(&mut packet, id);
                } else {
                    rewrite(&mut packet, Rewrite { src: local, dst: Some(server) });
                }
            }
        }
        if icmp && packet.total > room {
            packet.ip_mut().clear_dont_fragment();
        }
        let port = packet.port;
        let sent = self.send(ctx, packet.buf, packet.l3, &way, port, false);
        self.sent(ctx, sent, port, event, Some(id));
    }

    /// The way to a session's server, after the checks that come before any rewriting; `None` when the packet's
    /// TTL was used up, which has been dealt with.
    fn way_to_server(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &Packet<P::Buf>,
        id: SessionId,
    ) -> Option<Result<Way, Reason>> {
        let session = self.sessions.get(id);
        if ctx.snap.locals.contains_key(&session.server) {
            return Some(Err(Reason::LocalServer));
        }
        let way = way(ctx.snap, session.server);
        match way {
            Err(Reason::NoRoute | Reason::RouteUnreachable) => {
                self.send_session_error(ctx, packet, id, Error::HOST_UNREACHABLE);
            }
            Ok(_) if packet.ip().ttl() <= 1 => {
                if packet.protocol == ipv4::ICMP {
                    return Some(Err(Reason::IcmpTtlExpired));
                }
                self.send_session_error(ctx, packet, id, Error::TTL_EXPIRED);
                return Some(Err(Reason::TtlExpired));
            }
            _ => {}
        }
        Some(way)
    }

    /// An ICMP error to the client about a packet of its session. IPVS sees its own errors about DR and TUN
    /// sessions go out like answers, and counts them.
    fn send_session_error(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &Packet<P::Buf>,
        id: SessionId,
        error: Error,
    ) {
        let length = self.send_error(ctx, packet, error);
        let session = self.sessions.get(id);
        if length > 0
            && matches!(session.forward, Forward::Dr | Forward::Tun)
            && let Some(destination) = ctx.snap.destination(session.destination)
        {
            self.count_out(destination, length);
        }
    }

    /// Puts an outer IPv4 header before a packet (RFC 2003), its fields as IPVS sets them.
    fn encapsulate(&mut self, packet: &mut Packet<P::Buf>, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        let inner = packet.ip();
        let (tos, ttl, df) = (inner.tos(), inner.ttl(), inner.fragment() & ipv4::DF);
        let total_len = packet.total + ipv4::HEADER as u16;
        let id = if df != 0 { 0 } else { self.next_ip_id() };
        if !packet.buf.grow_front(ipv4::HEADER) {
            return false;
        }
        // RFC 3168, 9.1.1, full functionality: congestion experienced inside does not show outside.
        let tos = if tos & 3 == 3 { tos & !1 } else { tos };
        let header = ipv4::Header { tos, total_len, id, fragment: df, ttl, protocol: ipv4::IPIP, src, dst };
        header.emit(&mut packet.buf.bytes_mut()[packet.l3..]);
        true
    }

    /// Sends a server's answer to the client of its session.
    pub(crate) fn reply(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>, id: SessionId) {
        let session = self.sessions.get(id);
        let server = session.destination;
        let (client, vip) = ((session.client, session.client_port), (session.vip, session.vip_port));
        let fullnat = session.forward == Forward::FullNat;
        let way = match way(ctx.snap, client.0) {
            Ok(way) => way,
            Err(reason) => {
                if matches!(reason, Reason::NoRoute | Reason::RouteUnreachable) {
                    self.send_error(ctx, &packet, Error::HOST_UNREACHABLE);
                }
                return self.drop_packet(ctx, packet, reason, Some(server));
            }
        };
        if packet.total > way.mtu && packet.ip().dont_fragment() {
            self.send_error(ctx, &packet, Error::too_big(way.mtu));
            return self.drop_packet(ctx, packet, Reason::TooBig, Some(server));
        }
        packet.ip_mut().decrement_ttl();
        rewrite(&mut packet, Rewrite { src: Some(vip), dst: fullnat.then_some(client) });
        if let Some(destination) = ctx.snap.destination(server) {
            self.count_out(destination, packet.total);
        }
        self.advance(ctx, id, Direction::Out, packet.flags);
        let port = packet.port;
        let sent = self.send(ctx, packet.buf, packet.l3, &way, port, false);
        self.sent(ctx, sent, port, Event::ForwardedReply, Some(id));
    }
}

/// Gives a TCP or UDP packet new addresses and ports and mends its checksums.
fn rewrite<B: Buf>(packet: &mut Packet<B>, to: Rewrite) {
    let mut delta = Delta::default();
    {
        let mut ip = packet.ip_mut();
        if let Some((address, _)) = to.src {
            delta = delta.and(ip.set_src(address));
        }
        if let Some((address, _)) = to.dst {
            delta = delta.and(ip.set_dst(address));
        }
    }
    packet.src = to.src.map_or(packet.src, |(address, _)| address);
    packet.dst = to.dst.map_or(packet.dst, |(address, _)| address);
    let mut ports = checked(Ports::new_checked(packet.payload_mut()));
    if let Some((_, port)) = to.src {
        delta = delta.and(ports.set_src(port));
    }
    if let Some((_, port)) = to.dst {
        delta = delta.and(ports.set_dst(port));
    }
    if packet.protocol == ipv4::TCP {
        let mut segment = checked(tcp::Segment::new_checked(packet.payload_mut()));
        let mended = delta.apply(segment.checksum());
        segment.set_checksum(mended);
        return;
    }
    let datagram = checked(udp::Datagram::new_checked(packet.payload()));
    let old = datagram.checksum();
    let mended = if old == 0 {
        // IPVS gives a datagram without a checksum a real one.
        let (src, dst) = (packet.src, packet.dst);
        let body = packet.payload();
        !fold(pseudo_header(src, dst, ipv4::UDP, body.len() as u16) + sum(body))
    } else {
        delta.apply(old)
    };
    let mended = if mended == 0 { 0xffff } else { mended };
    checked(udp::Datagram::new_checked(packet.payload_mut())).set_checksum(mended);
}

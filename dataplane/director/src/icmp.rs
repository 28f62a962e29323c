//! ICMP about sessions: errors from either side, translated like the packets that they quote.

use std::net::Ipv4Addr;

use fulcrum_packet::ports::Ports;
use fulcrum_packet::{icmp, ipv4};

use crate::buffer::Pool;
use crate::engine::{Context, Engine};
use crate::output::way;
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason};
use crate::receive::icmp_checksum_ok;
use crate::session::{Direction, Key, SessionId};

/// The key of the packet that an ICMP error quotes, when it is one that IPVS translates: destination unreachable,
/// source quench, time exceeded; about TCP or UDP. `message` begins with the ICMP header.
pub(crate) fn quoted_key(message: &[u8]) -> Option<Key> {
    let error = icmp::Message::new_checked(message).ok()?;
    if !matches!(error.kind(), icmp::UNREACHABLE | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED) {
        return None;
    }
    let quoted = ipv4::Packet::new_quoted(error.payload()).ok()?;
    if !matches!(quoted.protocol(), ipv4::TCP | ipv4::UDP) {
        return None;
    }
    let ports = Ports::new_checked(&error.payload()[quoted.header_len()..]).ok()?;
    Some(Key {
        protocol: u16::from(quoted.protocol()),
        src: quoted.src(),
        sport: ports.src(),
        dst: quoted.dst(),
        dport: ports.dst(),
    })
}

impl<P: Pool> Engine<P> {
    /// An ICMP message to one of our addresses: about a session, or for the director as a host.
    pub(crate) fn icmp_to_us(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        if !ctx.snap.services.is_empty() {
            match self.session_of_error(ctx, &packet) {
                Some((id, Direction::In)) => return self.error_from_client(ctx, packet, id),
                Some((id, Direction::Out)) => return self.error_from_server(ctx, packet, id),
                None if quoted_key(packet.payload()).is_some() => {
                    return self.drop_packet(ctx, packet, Reason::IcmpNoSession, None);
                }
                None => {}
            }
        }
        self.answer_icmp(ctx, packet);
    }

    /// The session that an ICMP error is about, and from which side of it the error comes.
    pub(crate) fn session_of_error(
        &mut self,
        ctx: &Context<'_, P>,
        packet: &Packet<P::Buf>,
    ) -> Option<(SessionId, Direction)> {
        // Whoever reports the error answers the quoted packet, as it were.
        let key = quoted_key(packet.payload())?.inverted();
        self.find_session(ctx, key)
    }

    fn error_from_client(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        let server = self.sessions.get(id).destination;
        if !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, Some(server));
        }
        if let Some(destination) = ctx.snap.destination(server) {
            self.count_in(destination, packet.total);
        }
        self.forward(ctx, packet, id);
    }

    /// Gives an error about a NAT or FULLNAT session, on its way to the server, the server's view of the session.
    pub(crate) fn rewrite_error_to_server(&self, packet: &mut Packet<P::Buf>, id: SessionId) {
        let session = self.sessions.get(id);
        let (server, local) = ((session.server, session.server_port), (session.local, session.local_port));
        packet.ip_mut().set_dst(server.0);
        if local.0 != session.client {
            packet.ip_mut().set_src(local.0);
        }
        rewrite_quoted(packet.payload_mut(), server, local);
    }

    /// An ICMP error that a server, or a router on the way to it, sends about a session.
    pub(crate) fn error_from_server(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        id: SessionId,
    ) {
        let session = self.sessions.get(id);
        let server = session.destination;
        let (client, vip) = ((session.client, session.client_port), (session.vip, session.vip_port));
        if !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, Some(server));
        }
        if packet.ip().ttl() <= 1 {
            return self.drop_packet(ctx, packet, Reason::IcmpTtlExpired, Some(server));
        }
        let way = match way(ctx.snap, client.0) {
            Ok(way) => way,
            Err(reason) => return self.drop_packet(ctx, packet, reason, Some(server)),
        };
        let mut ip = packet.ip_mut();
        ip.decrement_ttl();
        ip.set_src(vip.0);
        ip.set_dst(client.0);
        rewrite_quoted(packet.payload_mut(), client, vip);
        if let Some(destination) = ctx.snap.destination(server) {
            self.count_out(destination, packet.total);
        }
        let port = packet.port;
        let sent = self.send(ctx, packet.buf, packet.l3, &way, port, false);
        self.sent(ctx, sent, port, Event::ForwardedIcmp, Some(id));
    }
}

/// Gives the packet quoted by an error other ends, and header and error new checksums. The quoted transport checksum
/// stays: nobody can check it.
fn rewrite_quoted(message: &mut [u8], src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) {
    let mut error = checked(icmp::Message::new_checked(message));
    let quoted = error.payload_mut();
    let mut ip = checked(ipv4::Packet::new_quoted(&mut *quoted));
    ip.set_src(src.0);
    ip.set_dst(dst.0);
    ip.fill_checksum();
    let at = ip.header_len();
    let mut ports = checked(Ports::new_checked(&mut quoted[at..]));
    ports.set_src(src.1);
    ports.set_dst(dst.1);
    error.fill_checksum();
}

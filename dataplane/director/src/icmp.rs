//! ICMP about sessions: errors from either side, translated like the packets that they quote.

pub(crate) mod tunnel;

use std::net::IpAddr;

use fulcrum_packet::checksum::{Delta, fold, sum};
use fulcrum_packet::ports::Ports;
use fulcrum_packet::{icmp, icmpv6, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::forward::translate;
use crate::gateway::{echo_key, key_of_echo};
use crate::message::{First, Stage};
use crate::output::way;
use crate::packet::{Packet, checked, ike_key, is_balanced, is_ipsec};
use crate::reason::{Event, Reason};
use crate::receive::icmp_checksum_ok;
use crate::session::{Direction, Ends, Key, SessionId, State};
use crate::snapshot::Snapshot;

/// The key of the packet that an ICMP error quotes, when it is one that IPVS translates: of IPv4 destination
/// unreachable, source quench, time exceeded; of IPv6 every error; about a protocol that services balance.
pub(crate) fn quoted_key<B: Buf>(packet: &Packet<B>) -> Option<Key> {
    match packet.stage {
        Stage::Fragment { first: First::Error(key), .. } => return Some(key),
        Stage::Fragment { .. } => return None,
        _ => {}
    }
    let (src, dst, protocol, upper) = quoted(packet)?;
    if is_ipsec(protocol) {
        return Some(ike_key(src, dst));
    }
    if !is_balanced(protocol) {
        return None;
    }
    let ports = Ports::new_checked(upper).ok()?;
    Some(Key { protocol: u16::from(protocol), src, sport: ports.src(), dst, dport: ports.dst() })
}

/// The key of the echo that an ICMP error quotes, where echoes may be of sessions.
pub(crate) fn quoted_echo<B: Buf>(snap: &Snapshot, packet: &Packet<B>) -> Option<Key> {
    if snap.snat.is_empty() || matches!(packet.stage, Stage::Fragment { .. }) {
        return None;
    }
    let (src, dst, protocol, upper) = quoted(packet)?;
    key_of_echo(protocol, (src, dst), upper)
}

/// Ends, protocol and upper layer of the packet that an ICMP error quotes, when it is one that IPVS translates.
fn quoted<B: Buf>(packet: &Packet<B>) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let error = icmp::Message::new_checked(packet.payload()).ok()?;
    if !is_translated(packet.is_v6(), error.kind()) {
        return None;
    }
    let bytes = packet.payload().get(icmp::HEADER..)?;
    let (src, dst, protocol, offset) = if packet.is_v6() {
        let quoted = ipv6::Packet::new_quoted(error.payload()).ok()?;
        let upper = quoted.upper().ok()?;
        if upper.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return None;
        }
        (IpAddr::V6(quoted.src()), IpAddr::V6(quoted.dst()), upper.protocol, upper.offset)
    } else {
        let quoted = ipv4::Packet::new_quoted(error.payload()).ok()?;
        (IpAddr::V4(quoted.src()), IpAddr::V4(quoted.dst()), quoted.protocol(), quoted.header_len())
    };
    Some((src, dst, protocol, bytes.get(offset..)?))
}

/// Whether an ICMP message of this type is an error that IPVS translates.
fn is_translated(v6: bool, kind: u8) -> bool {
    match v6 {
        false => matches!(kind, icmp::UNREACHABLE | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED),
        true => icmpv6::is_error(kind),
    }
}

impl<P: Pool> Engine<P> {
    /// An ICMP message to one of our addresses: about a session, or for the director as a host.
    pub(crate) fn icmp_to_us(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>) {
        if let Some((id, Direction::Out)) = self.echo_session(ctx, &packet) {
            return self.return_echo(ctx, packet, id);
        }
        if !ctx.snap.without_services() {
            if let Some(quoted) = tunnel::quoted(ctx.snap, &packet) {
                return self.error_from_tunnel(ctx, packet, quoted);
            }
            match self.session_of_error(ctx, &packet) {
                Some((id, Direction::In)) => return self.error_from_client(ctx, packet, id),
                Some((id, Direction::Out)) => return self.error_from_server(ctx, packet, id),
                None => {}
            }
            if let Some(quoted) = quoted_key(&packet) {
                return self.error_about_nothing(ctx, packet, quoted);
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
        let quoted = quoted_key(packet).or_else(|| quoted_echo(ctx.snap, packet))?;
        self.find_session(ctx, quoted.inverted())
    }

    /// The session that an ICMP message to somebody else belongs to, or is about.
    pub(crate) fn session_of_icmp(
        &mut self,
        ctx: &Context<'_, P>,
        packet: &Packet<P::Buf>,
    ) -> Option<(SessionId, Direction)> {
        let echo = self.echo_session(ctx, packet).filter(|&(_, direction)| direction == Direction::In);
        echo.or_else(|| self.session_of_error(ctx, packet))
    }

    /// The masqueraded session that an echo belongs to.
    fn echo_session(
        &mut self,
        ctx: &Context<'_, P>,
        packet: &Packet<P::Buf>,
    ) -> Option<(SessionId, Direction)> {
        let key = if ctx.snap.snat.is_empty() { None } else { echo_key(packet) };
        self.find_session(ctx, key?)
    }

    /// An error about a session that is not there, and that it may open where the settings say so.
    fn error_about_nothing(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>, quoted: Key) {
        let opened = match ctx.snap.settings.schedule_icmp && packet.fragment.is_none() {
            true => self.connect_by_error(ctx, &mut packet, quoted.inverted()),
            false => None,
        };
        match opened {
            Some(Ok(id)) => {
                let ends = self.sessions.get(id).state() == State::OnePacket;
                self.error_from_client(ctx, packet, id);
                if ends {
                    self.end_session(ctx.snap, id);
                }
            }
            Some(Err(reason)) => self.drop_packet(ctx, packet, reason, None),
            None => self.leave(ctx, packet, Reason::IcmpNoSession),
        }
    }

    pub(crate) fn error_from_client(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        id: SessionId,
    ) {
        let server = self.sessions.get(id).destination;
        // That of a fragmented message covers more than is here.
        if packet.fragment.is_none() && !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, Some(server));
        }
        if let Some(destination) = ctx.snap.destination(server) {
            self.count_in(destination, &packet);
        }
        self.forward(ctx, packet, id);
    }

    /// Gives an error about a NAT or FULLNAT session, on its way to the server, the server's view of the session;
    /// false when it has no counterpart in the server's family.
    pub(crate) fn error_to_server(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
    ) -> bool {
        self.renumber_quoted(packet, id, Direction::In);
        let Ends { client, local, server, .. } = self.sessions.ends(id);
        let src = if local.0 == client.0 { packet.src } else { local.0 };
        if packet.is_v6() != server.0.is_ipv6() {
            return self.translate_error(ctx, packet, (src, server.0), server, local);
        }
        rewrite_error(packet, (src, server.0), server, local);
        true
    }

    /// Puts an error into the other family; false, and nothing done, when it cannot be, as a fragment cannot.
    fn translate_error(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        ends: (IpAddr, IpAddr),
        quoted_src: (IpAddr, u16),
        quoted_dst: (IpAddr, u16),
    ) -> bool {
        if packet.fragment.is_some() {
            return false;
        }
        let id = self.next_ip_id();
        let alloc = |length| ctx.pool.alloc(length);
        match translate::translate_error(packet, ends, quoted_src, quoted_dst, id, alloc) {
            Some(translated) => *packet = translated,
            None => return false,
        }
        true
    }

    /// An ICMP error that a server, or a router on the way to it, sends about a session.
    pub(crate) fn error_from_server(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut packet: Packet<P::Buf>,
        id: SessionId,
    ) {
        let server = self.sessions.get(id).destination;
        let Ends { client, vip, .. } = self.sessions.ends(id);
        // That of a fragmented message covers more than is here.
        if packet.fragment.is_none() && !icmp_checksum_ok(&packet) {
            return self.drop_packet(ctx, packet, Reason::BadIcmpChecksum, Some(server));
        }
        if packet.ip().ttl() <= 1 {
            return self.drop_packet(ctx, packet, Reason::IcmpTtlExpired, Some(server));
        }
        let way = match way(ctx.snap, client.0, || self.flow_of(id, Direction::Out)) {
            Ok(way) => way,
            Err(reason) => return self.drop_packet(ctx, packet, reason, Some(server)),
        };
        packet.ip_mut().decrement_ttl();
        self.renumber_quoted(&mut packet, id, Direction::Out);
        // A masqueraded flow's host is nobody that routers on the way to it hide behind.
        let from = if self.is_masqueraded(ctx.snap, id) { packet.src } else { vip.0 };
        let ends = (from, client.0);
        if packet.is_v6() == client.0.is_ipv6() {
            rewrite_error(&mut packet, ends, client, vip);
        } else if !self.translate_error(ctx, &mut packet, ends, client, vip) {
            return self.drop_packet(ctx, packet, Reason::IcmpUntranslatable, Some(server));
        }
        if let Some(destination) = ctx.snap.destination(server) {
            self.count_out(destination, packet.weight());
        }
        let port = packet.port;
        let sent = self.send(ctx, packet.buf, packet.l3, &way, port, false);
        self.sent(ctx, sent, port, Event::ForwardedIcmp, Some(id));
    }
}

/// Gives an error other ends `(src, dst)` and the packet that it quotes others, and all headers new checksums. The
/// quoted transport checksum stays: nobody can check it.
fn rewrite_error<B: Buf>(
    packet: &mut Packet<B>,
    ends: (IpAddr, IpAddr),
    quoted_src: (IpAddr, u16),
    quoted_dst: (IpAddr, u16),
) {
    let mut ip = packet.ip_mut();
    let outer = ip.set_src(ends.0).and(ip.set_dst(ends.1));
    (packet.src, packet.dst) = ends;
    if packet.is_later_fragment() {
        return;
    }
    let (v6, whole) = (packet.is_v6(), packet.fragment.is_none());
    let mut error = checked(icmp::Message::new_checked(packet.payload_mut()));
    let quoted = error.payload_mut();
    let before = sum(quoted);
    let (protocol, at) = match (quoted_src.0, quoted_dst.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) if !v6 => {
            let mut ip = checked(ipv4::Packet::new_quoted(&mut *quoted));
            ip.set_src(src);
            ip.set_dst(dst);
            ip.fill_checksum();
            (ip.protocol(), ip.header_len())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) if v6 => {
            let mut ip = checked(ipv6::Packet::new_quoted(&mut *quoted));
            ip.set_src(src);
            ip.set_dst(dst);
            let upper = checked(ip.upper());
            (upper.protocol, upper.offset)
        }
        _ => unreachable!("a session whose ends are of one family"),
    };
    if is_balanced(protocol) {
        let mut ports = checked(Ports::new_checked(&mut quoted[at..]));
        ports.set_src(quoted_src.1);
        ports.set_dst(quoted_dst.1);
    } else if let Some(key) = key_of_echo(protocol, (quoted_src.0, quoted_dst.0), &quoted[at..]) {
        let identifier = if key.dport == 0 { quoted_src.1 } else { quoted_dst.1 };
        checked(icmp::Message::new_checked(&mut quoted[at..])).set_identifier(identifier);
    }
    if whole {
        return fill_icmp_checksum(packet.payload_mut(), ends.0, ends.1);
    }
    // The rest of the message is in other fragments and stays as it is.
    let inner = Delta::default().word(fold(before), fold(sum(quoted)));
    let change = if v6 { inner.and(outer) } else { inner };
    let mended = change.apply(error.checksum());
    error.set_checksum(mended);
}

/// Computes the checksum of an ICMP message of either family anew.
pub(crate) fn fill_icmp_checksum(message: &mut [u8], src: IpAddr, dst: IpAddr) {
    match (src, dst) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => icmpv6::fill_checksum(message, src, dst),
        _ => checked(icmp::Message::new_checked(message)).fill_checksum(),
    }
}

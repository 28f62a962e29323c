//! The forwarding methods: a client's packet to its server, a server's answer to its client.
//!
//! Which way, which checks, which method is here; what a method does to the bytes is in `rewrite`,
//! `translate` and `tunnel`.

mod rewrite;
pub(crate) mod translate;
pub(crate) mod tunnel;

use std::net::IpAddr;

use fulcrum_packet::{ip, ipv4, ipv6};

use self::rewrite::{Rewrite, rewrite};
use crate::buffer::Pool;
use crate::engine::{Context, Engine};
use crate::fastpath::Came;
use crate::host::Error;
use crate::next_hop;
use crate::output::{Sent, Way, way};
use crate::packet::{Fragment, Packet};
use crate::reason::{Event, Reason};
use crate::session::{Direction, Ends, Key, SessionId};
use crate::snapshot::{Forward, Snapshot};

/// The smallest MTU that an IPv4 link may have, and a tunnel leave. // RFC 791
pub(crate) const MIN_MTU: usize = 68;

impl<P: Pool> Engine<P> {
    /// Sends a client's packet to the server of its session. State and counts are done.
    #[inline]
    pub(crate) fn forward(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        match self.course(ctx, &packet, id) {
            Some(course) => self.forward_by_course(ctx, packet, id, course),
            None => self.forward_by_route(ctx, packet, id),
        }
    }

    fn forward_by_route(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>, id: SessionId) {
        if self.lacks_checksum(&packet, id) {
            let server = self.sessions.get(id).destination;
            return self.drop_packet(ctx, packet, Reason::SctpFragment, Some(server));
        }
        let server = self.sessions.ends(id).server.0;
        let here = ctx.snap.hosts.contains_key(&server);
        if matches!(self.sessions.get(id).forward(), Forward::Dr | Forward::Tun)
            && (here || server.is_loopback() || self.is_local(ctx.snap, id))
        {
            return self.serve_by_host(ctx, packet, id);
        }
        if !here && ctx.snap.locals.contains_key(&server) {
            return self.refuse_of_session(ctx, packet, id);
        }
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
        let (came, direct) = (Came::of(&packet), way);
        packet.ip_mut().decrement_ttl();
        self.clamp_segment_size(ctx.snap, &mut packet, way.interface, Some(id));
        let session = self.sessions.get(id);
        let (forward, destination) = (session.forward(), session.destination);
        let ends = self.sessions.ends(id);
        let (server, translates) = (ends.server, ends.translates());
        let way = match forward {
            Forward::Tun => Way { mtu: self.path_mtus.limit(server.0, way.mtu, ctx.now), ..way },
            _ => way,
        };
        let mtu = usize::from(way.mtu);
        let tunnel = ctx.snap.destination(destination).map(|server| server.tunnel).unwrap_or_default();
        let room = match forward {
            Forward::Tun => mtu.saturating_sub(tunnel::overhead(tunnel, server.0)),
            _ if translates => translate::room(&packet, mtu),
            _ => mtu,
        };
        let icmp = packet.is_icmp();
        // What is in a tunnel may be cut outside of it, unless IPVS is to find paths' MTUs.
        let cut_outside = forward == Forward::Tun && !packet.is_v6() && !ctx.snap.settings.pmtu_disc;
        let min_mtu = if packet.is_v6() { usize::from(ipv6::MIN_MTU) } else { MIN_MTU };
        // An ICMP error of IPv4 is cut even when it says that it must not be: about it no error can be sent.
        let whole = packet.is_v6() || packet.ip().dont_fragment() && !icmp && !cut_outside;
        if room < min_mtu || packet.total > room && whole {
            if room >= min_mtu {
                self.send_session_error(ctx, &packet, id, Error::TooBig(room as u16));
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
        let cut_error = icmp && packet.total > room;
        match forward {
            Forward::Dr => {}
            Forward::Tun => {
                let destination = ctx.snap.destination(self.sessions.get(id).destination);
                let source = self.tunnel_source(&packet, destination, way.source);
                if !self.encapsulate(&mut packet, tunnel, (source, server.0), cut_outside) {
                    let server = self.sessions.get(id).destination;
                    return self.drop_packet(ctx, packet, Reason::NoHeadroom, Some(server));
                }
            }
            Forward::Nat | Forward::FullNat if icmp => {
                if !self.error_to_server(ctx, &mut packet, id) {
                    let server = self.sessions.get(id).destination;
                    return self.drop_packet(ctx, packet, Reason::IcmpUntranslatable, Some(server));
                }
            }
            Forward::Nat | Forward::FullNat => {
                if let Err(reason) = self.prepare_request(ctx, &mut packet, id, &way, room) {
                    let server = self.sessions.get(id).destination;
                    return self.drop_packet(ctx, packet, reason, Some(server));
                }
            }
        }
        if cut_error && let ip::Packet::V4(mut ip) = packet.ip_mut() {
            ip.clear_dont_fragment();
        }
        let port = packet.port;
        let sent = self.send_on(ctx, packet, &way, translates || forward == Forward::Tun);
        if sent == Sent::Out && came.is_plain() {
            self.remember(ctx.snap, id, Direction::In, came, &direct);
        }
        // Another session with the server may take another way.
        if sent == Sent::Out && !direct.several {
            self.learn_course(ctx.snap, id, &direct);
        }
        self.sent(ctx, sent, port, event, Some(id));
    }

    /// What of a session's packets decides on one of several ways.
    pub(crate) fn flow_of(&self, id: SessionId, direction: Direction) -> Key {
        next_hop::of_session(self.sessions.get(id).protocol(), &self.sessions.ends(id), direction)
    }

    /// Whether a session's server is the host, whatever its address is.
    fn is_local(&self, snap: &Snapshot, id: SessionId) -> bool {
        snap.destination(self.sessions.get(id).destination).is_some_and(|server| server.local)
    }

    /// Gives a client's packet what its session's packets need, and the server's view of the session. What has to
    /// go before it is sent here.
    fn prepare_request(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
        way: &Way,
        room: usize,
    ) -> Result<(), Reason> {
        if !self.sessions.get(id).care.is_nothing()
            && let Some(mut before) = self.adapt_request(ctx, packet, id, room)?
        {
            self.turn_to_server(&mut before, id)?;
            let translates = self.sessions.ends(id).translates();
            if let Sent::Dropped(reason) = self.send_on(ctx, before, way, translates) {
                return Err(reason);
            }
        }
        self.turn_to_server(packet, id)
    }

    /// Gives a client's packet the ends that the server sees.
    fn turn_to_server(&mut self, packet: &mut Packet<P::Buf>, id: SessionId) -> Result<(), Reason> {
        let ends = self.sessions.ends(id);
        let (local, server) = (ends.local, ends.server);
        let fullnat = self.sessions.get(id).forward() == Forward::FullNat;
        if ends.translates() && !self.translate(packet, local.0, server.0) {
            return Err(Reason::NoHeadroom);
        }
        rewrite(packet, Rewrite { src: fullnat.then_some(local), dst: Some(server) });
        Ok(())
    }

    /// Sends a packet, as it came or with a header of ours.
    fn send_on(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, way: &Way, remade: bool) -> Sent {
        let port = packet.port;
        if remade {
            return self.send_remade(ctx, packet, way);
        }
        self.send(ctx, packet.buf, packet.l3, way, port, false)
    }

    /// Whether a packet would need a checksum over parts of its datagram that are not here: a fragment of SCTP that
    /// gets other ports.
    fn lacks_checksum(&self, packet: &Packet<P::Buf>, id: SessionId) -> bool {
        if packet.protocol != ipv4::SCTP || packet.fragment.is_none() {
            return false;
        }
        let ends = self.sessions.ends(id);
        (ends.vip.1, ends.client.1) != (ends.server.1, ends.local.1)
    }

    /// Gives a packet the header of the other family.
    fn translate(&mut self, packet: &mut Packet<P::Buf>, src: IpAddr, dst: IpAddr) -> bool {
        let id = self.next_ip_id();
        translate::translate(packet, src, dst, id)
    }

    /// Sends a packet that has got an IP header of ours: of IPv6, one that its sender lets be cut is cut here.
    pub(crate) fn send_remade(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        way: &Way,
    ) -> Sent {
        let Packet { buf, port, l3, protocol, total, fragment, .. } = packet;
        if packet.dst.is_ipv6() && total > usize::from(way.mtu) {
            let id = u32::from(self.next_ip_id());
            let whole = fragment.unwrap_or(Fragment { id, offset: 0, more: false });
            let sent = self.send_fragments6(ctx, &buf, (l3, packet.l4), protocol, whole, way, port);
            if matches!(sent, Sent::Dropped(_)) {
                ctx.refuse(buf);
            }
            return sent;
        }
        self.send(ctx, buf, l3, way, port, false)
    }

    /// The way to a session's server, after the checks that come before any rewriting; `None` when the packet's
    /// TTL was used up, which has been dealt with.
    fn way_to_server(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &Packet<P::Buf>,
        id: SessionId,
    ) -> Option<Result<Way, Reason>> {
        let way = way(ctx.snap, self.sessions.ends(id).server.0, || self.flow_of(id, Direction::In));
        match way {
            Err(Reason::NoRoute | Reason::RouteUnreachable) => {
                self.send_session_error(ctx, packet, id, Error::HostUnreachable);
            }
            Ok(_) if packet.ip().ttl() <= 1 => {
                if packet.is_icmp() {
                    return Some(Err(Reason::IcmpTtlExpired));
                }
                self.send_session_error(ctx, packet, id, Error::TtlExpired);
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
            && matches!(session.forward(), Forward::Dr | Forward::Tun)
            && let Some(destination) = ctx.snap.destination(session.destination)
        {
            self.count_out(destination, (1, length as u64));
        }
    }

    /// Sends a server's answer to the client of its session.
    pub(crate) fn reply(&mut self, ctx: &mut Context<'_, P>, mut packet: Packet<P::Buf>, id: SessionId) {
        let session = self.sessions.get(id);
        let server = session.destination;
        let Ends { client, vip, .. } = self.sessions.ends(id);
        let fullnat = session.forward() == Forward::FullNat;
        if self.lacks_checksum(&packet, id) {
            return self.drop_packet(ctx, packet, Reason::SctpFragment, Some(server));
        }
        let way = match way(ctx.snap, client.0, || self.flow_of(id, Direction::Out)) {
            Ok(way) => way,
            Err(reason) => {
                if matches!(reason, Reason::NoRoute | Reason::RouteUnreachable) {
                    self.send_error(ctx, &packet, Error::HostUnreachable);
                }
                return self.drop_packet(ctx, packet, reason, Some(server));
            }
        };
        let translates = packet.is_v6() != client.0.is_ipv6();
        let mtu = usize::from(way.mtu);
        let room = if translates { translate::room(&packet, mtu) } else { mtu };
        if packet.total > room && packet.ip().dont_fragment() {
            self.send_error(ctx, &packet, Error::TooBig(room as u16));
            return self.drop_packet(ctx, packet, Reason::TooBig, Some(server));
        }
        let came = Came::of(&packet);
        packet.ip_mut().decrement_ttl();
        self.clamp_segment_size(ctx.snap, &mut packet, way.interface, Some(id));
        if !self.sessions.get(id).care.is_nothing() {
            self.adapt_answer(ctx, &mut packet, id);
        }
        if translates && !self.translate(&mut packet, vip.0, client.0) {
            return self.drop_packet(ctx, packet, Reason::NoHeadroom, Some(server));
        }
        rewrite(&mut packet, Rewrite { src: Some(vip), dst: fullnat.then_some(client) });
        if let Some(destination) = ctx.snap.destination(server) {
            self.count_out(destination, packet.weight());
        }
        self.advance(ctx, id, Direction::Out, &packet);
        let port = packet.port;
        let sent = self.send_on(ctx, packet, &way, translates);
        if sent == Sent::Out && came.is_plain() {
            self.remember(ctx.snap, id, Direction::Out, came, &way);
        }
        self.sent(ctx, sent, port, Event::ForwardedReply, Some(id));
    }
}

//! The short way of established sessions, a burst at a time.
//!
//! A packet that has gone the whole way (`receive`, `transit`, `forward`) leaves with its session where such packets
//! go ([`Engine::remember`]): next hop, interface, checksum deltas, good for one configuration. Later packets that are
//! plain (no options, no fragment, no change of state) are taken through here in stages, so that the cache misses of
//! a burst overlap: read headers and ask for the index, match tags and ask for sessions, ask for what sessions name,
//! then rewrite. Whatever is not plain, or not sure, goes the whole way, in its place in the burst: this file decides
//! nothing that is not decided there.

mod course;
mod glance;
mod rewrite;

use std::net::IpAddr;

use fulcrum_machine::prefetch;
use fulcrum_packet::{ethernet, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine, Received};
use crate::forward::MIN_MTU;
use crate::message::{Message, Stage};
use crate::neighbour::NO_HOP;
use crate::output::Way;
use crate::packet::Packet;
use crate::reason::{Event, VerdictKind};
use crate::session::{Direction, SessionId, State, tcp};
use crate::snapshot::{Forward, InterfaceId, Snapshot, TunnelKind};
use crate::{Nanos, Transmit};
pub(crate) use course::Courses;
pub(crate) use glance::{Gate, Glance};
pub(crate) use rewrite::Deltas;

/// A frame that is offered to the engine, by a port or by another worker.
pub(crate) trait Offered<B> {
    /// The frame and the port it came in by, unless it has been looked at before.
    fn fresh(&self) -> Option<(u16, &B)>;
}

impl<B> Offered<B> for Received<B> {
    #[inline(always)]
    fn fresh(&self) -> Option<(u16, &B)> {
        Some((self.port, &self.buf))
    }
}

impl<B> Offered<B> for Message<B> {
    #[inline(always)]
    fn fresh(&self) -> Option<(u16, &B)> {
        match self {
            Message::Packet { port, stage: Stage::Arrived, buf, .. } => Some((*port, buf)),
            _ => None,
        }
    }
}

/// How a packet came that goes the whole way, as far as its session may remember it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    interface: InterfaceId,
    plain: bool,
}

impl Came {
    /// Of a packet as it was received.
    #[inline]
    pub(crate) fn of<B: Buf>(packet: &Packet<B>) -> Came {
        let header = if packet.src.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER };
        let plain = packet.stage == Stage::Arrived
            && packet.fragment.is_none()
            && packet.l4 - packet.l3 == header
            && matches!(packet.protocol, ipv4::TCP | ipv4::UDP)
            && !packet.opens();
        Came { interface: packet.interface, plain }
    }

    /// Whether others like it may go the short way.
    #[inline]
    pub(crate) fn is_plain(self) -> bool {
        self.plain
    }
}

/// What is done to a packet on the short way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Other addresses and ports.
    Rewrite,
    /// Nothing but another next hop.
    Route,
    /// A header before it.
    Tunnel,
}

impl Method {
    #[inline(always)]
    fn is_tunnel(self) -> bool {
        self == Method::Tunnel
    }
}

impl<P: Pool> Engine<P> {
    /// The first stages for all of a burst: what the headers say, which sessions that may be, and the memory of both
    /// on its way. Leaves a glance for each frame.
    #[inline]
    pub(crate) fn look<T: Offered<P::Buf>>(&mut self, snap: &Snapshot, offered: &[T]) {
        self.glances.clear();
        self.looked = self.sessions.epoch();
        if !self.config.short_way || snap.without_services() {
            return;
        }
        for frame in offered {
            if let Some(first) = frame.fresh().and_then(|(_, buf)| buf.bytes().first()) {
                prefetch(first);
            }
        }
        for frame in offered {
            let glance = frame.fresh().and_then(|(port, buf)| {
                let glance = glance::read(snap, &self.gates, &self.sessions, port, buf)?;
                self.sessions.prefetch_bucket(glance.hash);
                Some(glance)
            });
            self.glances.push(glance.unwrap_or(Glance::WHOLE_WAY));
        }
        for glance in self.glances.iter_mut().filter(|glance| glance.protocol != 0) {
            match self.sessions.candidate(glance.hash) {
                Some((id, direction)) => {
                    (glance.session, glance.direction) = (id, direction);
                    self.sessions.prefetch(id);
                }
                None => glance.plain = false,
            }
        }
        let worker = usize::from(self.config.worker);
        for glance in self.glances.iter().filter(|glance| glance.plain) {
            let session = self.sessions.get(glance.session);
            if glance.v6 {
                self.sessions.prefetch_wide(session);
            }
            snap.prefetch_cells(session.destination, worker);
            if let Some(&slot) = snap.service_slots.get(session.destination as usize) {
                snap.prefetch_service_traffic(slot, worker);
            }
        }
    }

    /// The last stage for one frame, the `at`th of those looked at: sends it, or gives it back as it came, to go the
    /// whole way.
    #[inline]
    pub(crate) fn send_short(
        &mut self,
        ctx: &mut Context<'_, P>,
        at: usize,
        mut buf: P::Buf,
    ) -> Result<(), P::Buf> {
        let Some(glance) = self.glances.get(at).copied().filter(|glance| glance.plain) else {
            return Err(buf);
        };
        let Some((id, direction)) = self.session_of(&glance, buf.bytes(), ctx.now) else { return Err(buf) };
        let session = self.sessions.get(id);
        let (event, method) = match (direction, session.forward()) {
            (Direction::Out, _) => (Event::ForwardedReply, Method::Rewrite),
            (Direction::In, Forward::Nat) => (Event::ForwardedNat, Method::Rewrite),
            (Direction::In, Forward::FullNat) => (Event::ForwardedFullNat, Method::Rewrite),
            (Direction::In, Forward::Dr) => (Event::ForwardedDr, Method::Route),
            (Direction::In, Forward::Tun) => (Event::ForwardedTun, Method::Tunnel),
        };
        let (worker, server) = (usize::from(self.config.worker), session.destination);
        let service = ctx.snap.service_slots.get(server as usize).copied();
        let (Some(hop), Some(cells), Some(service)) = (
            self.neighbours.hops().get(usize::from(session.hop(direction))),
            ctx.snap.cells(server, worker),
            service.and_then(|slot| ctx.snap.service_traffic(slot, worker)),
        ) else {
            return Err(buf);
        };
        let outer = match method {
            Method::Tunnel => outer_header(hop.source),
            Method::Rewrite | Method::Route => 0,
        };
        let total = usize::from(glance.total);
        let knows_all = match method {
            // Among the options of an answer are acknowledgments of ranges, by other numbers.
            Method::Rewrite if direction == Direction::Out && glance.options => session.offset == 0,
            Method::Rewrite => !glance.unsummed,
            Method::Route => true,
            Method::Tunnel => self.path_mtus.is_empty(),
        };
        if ctx.now >= hop.fresh_until || total + outer > usize::from(hop.mtu) || !knows_all {
            return Err(buf);
        }
        // Where the packet begins, and where it is to begin.
        let (l3, front) = (usize::from(glance.l3), usize::from(hop.header_len) + outer);
        if front > l3 && !buf.grow_front(front - l3) {
            return Err(buf);
        }
        if front < l3 {
            buf.shrink_front(l3 - front);
        }
        buf.truncate(front + total);

        let (port, deltas, offset) = (hop.port, session.deltas, session.offset);
        let ethertype = if method.is_tunnel() { hop.source.is_ipv6() } else { glance.v6 };
        let ethertype = if ethertype { ethernet::IPV6 } else { ethernet::IPV4 };
        hop.emit(buf.bytes_mut(), ethertype);
        let packet = &mut buf.bytes_mut()[front..];
        let change = match direction {
            Direction::In => deltas.to_server(offset),
            Direction::Out => deltas.to_client(offset),
        };
        match (method, glance.v6) {
            (Method::Rewrite, false) => {
                let (src, dst) = session.other_ends_v4(direction);
                rewrite::rewrite4(packet, glance.protocol, src, dst, change);
            }
            (Method::Rewrite, true) => {
                if let Some((src, dst)) = self.sessions.other_ends_v6(session, direction) {
                    rewrite::rewrite6(packet, glance.protocol, src, dst, change);
                }
            }
            (_, false) => rewrite::route4(packet),
            (_, true) => rewrite::route6(packet),
        }
        if method.is_tunnel() {
            let ends = (hop.source, self.sessions.ends(id).server.0);
            let l3 = usize::from(hop.header_len);
            self.encapsulate_plain(&mut buf.bytes_mut()[l3..], outer, ends, !ctx.snap.settings.pmtu_disc);
        }

        let session = self.sessions.get_mut(id);
        session.touch(ctx.now);
        let (traffics, bytes) = ([&cells.traffic, service], total as u64);
        match direction {
            Direction::In => {
                session.in_packets = session.in_packets.saturating_add(1);
                traffics.into_iter().for_each(|traffic| traffic.count_in(1, bytes));
            }
            Direction::Out => traffics.into_iter().for_each(|traffic| traffic.count_out(1, bytes)),
        }
        self.counters.event(event);
        self.counters.short_way.add(1);
        self.verdict(ctx, VerdictKind::Forward, event.name(), Some(server));
        ctx.out.tx.push(Transmit { port, buf });
        Ok(())
    }

    /// The session of a packet, when it may go the short way.
    #[inline(always)]
    fn session_of(&self, glance: &Glance, frame: &[u8], now: Nanos) -> Option<(SessionId, Direction)> {
        let (id, direction) = match self.sessions.epoch() == self.looked {
            true => (glance.session, glance.direction),
            // Sessions have come or gone since, by packets before this one.
            false => self.sessions.candidate(glance.hash)?,
        };
        let session = self.sessions.get(id);
        let may = session.era == self.era
            && session.comes_by(direction, glance.interface)
            && session.expires > now
            && matches!(session.state, State::Tcp(tcp::State::Established) | State::Udp);
        if !may {
            return None;
        }
        let (protocol, sport, dport) = (glance.protocol, glance.sport, glance.dport);
        let fits = if glance.v6 {
            let ip = frame.get(usize::from(glance.l3)..)?.first_chunk()?;
            let (src, dst) = glance::addresses6(ip);
            self.sessions.is_of_v6(session, direction, protocol, (src, sport), (dst, dport))
        } else {
            session.is_of_v4(direction, protocol, (glance.src, sport), (glance.dst, dport))
        };
        fits.then_some((id, direction))
    }

    /// Leaves with a session where packets like the one that was just sent go.
    pub(crate) fn remember(
        &mut self,
        snap: &Snapshot,
        id: SessionId,
        direction: Direction,
        came: Came,
        way: &Way,
    ) {
        let session = self.sessions.get(id);
        let current = session.era == self.era;
        if current && session.hop(direction) != NO_HOP && session.comes_by(direction, came.interface) {
            return;
        }
        let ends = self.sessions.ends(id);
        let translates = ends.local.0.is_ipv6() != ends.client.0.is_ipv6();
        let tunnels = direction == Direction::In && session.forward() == Forward::Tun;
        let Some(destination) = snap.destination(session.destination).filter(|server| server.available)
        else {
            return;
        };
        let least = if way.next_hop.is_ipv6() { usize::from(ipv6::MIN_MTU) } else { MIN_MTU };
        let is_simple = session.care.is_simple()
            && !translates
            && (!tunnels
                || destination.tunnel.kind == TunnelKind::Ipip && destination.tunnel_sources.is_empty())
            && usize::from(way.mtu) >= least + outer_header(way.source);
        if !is_simple {
            return;
        }
        let Some(hop) = self.neighbours.hop(snap, way) else {
            if self.neighbours.out_of_hops() {
                self.forget_courses();
            }
            return;
        };
        if tunnels && self.neighbours.hops()[usize::from(hop)].source != way.source {
            return;
        }
        let deltas = Deltas::between((ends.client, ends.vip), (ends.local, ends.server));
        let era = self.era;
        let session = self.sessions.get_mut(id);
        if !current {
            session.forget_hops();
        }
        session.era = era;
        session.deltas = deltas;
        session.set_hop(direction, came.interface, hop);
    }

    /// Begins a new era: what sessions remember of before does not count.
    pub(crate) fn forget_courses(&mut self) {
        self.era = self.era.wrapping_add(1);
        self.neighbours.forget_hops();
    }
}

/// Length of the header that a tunnel from an address puts before packets.
fn outer_header(source: IpAddr) -> usize {
    if source.is_ipv6() { ipv6::HEADER } else { ipv4::HEADER }
}

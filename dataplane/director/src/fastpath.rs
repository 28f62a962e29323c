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
use crate::counters::{DestinationCells, Traffic};
use crate::engine::{Context, Engine, Received};
use crate::forward::{MIN_MTU, tunnel};
use crate::message::{Message, Stage};
use crate::neighbour::Hop;
use crate::output::Way;
use crate::packet::Packet;
use crate::reason::{Event, Reason, VerdictKind};
use crate::session::{Direction, Session, SessionId, Sessions, State, tcp};
use crate::snapshot::{Forward, InterfaceId, Snapshot, TunnelKind};
use crate::{Nanos, Transmit};
pub(crate) use course::Courses;
pub(crate) use glance::{Gate, Glance};
pub(crate) use rewrite::Deltas;

/// A frame that is offered to the engine, by a port or by another worker.
pub(crate) trait Offered<B> {
    /// The frame and the port it came in by, unless it has been looked at before.
    fn fresh(&self) -> Option<(u16, &B)>;
    /// The frame and the port it came in by; `None` of what is no frame.
    fn into_frame(self) -> Option<(u16, B)>;
}

/// Frames that go through the stages together at most.
pub(crate) const BURST: usize = 64;

impl<B> Offered<B> for Received<B> {
    #[inline(always)]
    fn fresh(&self) -> Option<(u16, &B)> {
        Some((self.port, &self.buf))
    }

    #[inline(always)]
    fn into_frame(self) -> Option<(u16, B)> {
        Some((self.port, self.buf))
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

    #[inline(always)]
    fn into_frame(self) -> Option<(u16, B)> {
        match self {
            Message::Packet { port, buf, .. } => Some((port, buf)),
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

/// What packets of the short way are counted as: [`Forward`]'s methods, and answers.
const EVENTS: [Event; 5] = [
    Event::ForwardedNat,
    Event::ForwardedFullNat,
    Event::ForwardedDr,
    Event::ForwardedTun,
    Event::ForwardedReply,
];
const ANSWER: usize = 4;

/// What becomes of a packet.
#[derive(Clone, Copy)]
struct Plan<'a> {
    id: SessionId,
    direction: Direction,
    /// Which of [`EVENTS`] it is.
    event: usize,
    /// Whether it gets other addresses and ports.
    rewrites: bool,
    hop: &'a Hop,
    /// Length of a tunnel's header.
    outer: usize,
    server: &'a DestinationCells,
    service: &'a Traffic,
}

impl Plan<'_> {
    #[inline(always)]
    fn count(&self, glance: &Glance<'_>) {
        let bytes = u64::from(glance.total);
        for traffic in [&self.server.traffic, self.service] {
            match self.direction {
                Direction::In => traffic.count_in(1, bytes),
                Direction::Out => traffic.count_out(1, bytes),
            }
        }
    }
}

/// What was seen of a burst.
#[derive(Debug)]
pub(crate) struct Glances<'a> {
    /// Of the sessions when they were looked at.
    epoch: u32,
    /// Which frame comes next.
    next: usize,
    list: [Glance<'a>; BURST],
}

/// The session of a packet, when it is one whose packets may go the short way.
#[inline(always)]
fn find<B: Buf>(
    sessions: &Sessions,
    glance: &Glance<'_>,
    looked: u32,
    era: u32,
    now: Nanos,
    buf: &B,
) -> Option<(SessionId, Direction)> {
    let (id, direction) = match sessions.epoch() == looked {
        true => (glance.session, glance.direction),
        // Sessions have come or gone since, by packets before this one: what it counts must be what was asked for.
        false => sessions
            .candidate(glance.hash)
            .filter(|&(id, _)| sessions.get(id).destination == glance.destination)?,
    };
    let session = sessions.get(id);
    let may = session.era == era
        && session.comes_by(direction, glance.interface)
        && session.expires > now
        && matches!(session.state, State::Tcp(tcp::State::Established) | State::Udp);
    let fits = may
        && match glance.v6 {
            false => session.is_of_v4(direction, glance.protocol, glance.src_v4(), glance.dst_v4()),
            true => glance.is_of_v6(sessions, session, direction, buf.bytes()),
        };
    fits.then_some((id, direction))
}

/// What becomes of a packet of a session; `None` when something about it is for the whole way to judge.
#[inline(always)]
fn plan<'a>(
    session: &Session,
    (id, direction): (SessionId, Direction),
    glance: &Glance<'a>,
    hops: &'a [Hop],
    now: Nanos,
    tunnels: bool,
) -> Option<Plan<'a>> {
    let forward = session.forward();
    let answers = direction == Direction::Out;
    let rewrites = answers || matches!(forward, Forward::Nat | Forward::FullNat);
    let hop = hops.get(usize::from(session.hop(direction)))?;
    let outer = if !rewrites && forward == Forward::Tun { outer_header(hop.source) } else { 0 };
    // Among the options of an answer are acknowledgments of ranges, by other numbers.
    let odd = rewrites && (glance.unsummed || glance.options && answers && session.offset != 0);
    let fits = usize::from(glance.total) + outer <= usize::from(hop.mtu);
    let (server, service) = (glance.server?, glance.service?);
    let may = !odd && (outer == 0 || tunnels) && fits && now < hop.fresh_until;
    let event = if answers { ANSWER } else { forward as usize };
    may.then_some(Plan { id, direction, event, rewrites, hop, outer, server, service })
}

/// Has the packet that begins at `l3` of a frame begin at `front`; false when there is no room.
#[cold]
fn begin<B: Buf>(buf: &mut B, l3: usize, front: usize) -> bool {
    match front.checked_sub(l3) {
        Some(more) => buf.grow_front(more),
        None => {
            buf.shrink_front(l3 - front);
            true
        }
    }
}

/// Makes the frame that goes out of the one that came in; false when there is no room before it.
#[inline(always)]
fn make<B: Buf>(
    buf: &mut B,
    glance: &Glance<'_>,
    plan: &Plan<'_>,
    sessions: &Sessions,
    may_cut: bool,
    ip_id: &mut u16,
) -> bool {
    let Plan { hop, outer, direction, .. } = *plan;
    // Where the packet begins, and where it is to begin.
    let (l3, front) = (usize::from(glance.l3), usize::from(hop.header_len) + outer);
    if front != l3 && !begin(buf, l3, front) {
        return false;
    }
    buf.truncate(front + usize::from(glance.total));
    let frame = buf.bytes_mut();
    let v6 = if outer == 0 { glance.v6 } else { hop.source.is_ipv6() };
    hop.emit(frame, if v6 { ethernet::IPV6 } else { ethernet::IPV4 });
    let Some(packet) = frame.get_mut(front..) else { return false };
    let session = sessions.get(plan.id);
    let change = match direction {
        Direction::In => session.deltas.to_server(session.offset),
        Direction::Out => session.deltas.to_client(session.offset),
    };
    match (plan.rewrites, glance.v6) {
        (true, false) => {
            let (src, dst) = session.other_ends_v4(direction);
            rewrite::rewrite_v4(packet, glance.protocol, src, dst, change);
        }
        (true, true) => {
            if let Some((src, dst)) = sessions.other_ends_v6(session, direction) {
                rewrite::rewrite_v6(packet, glance.protocol, src, dst, change);
            }
        }
        (false, false) => rewrite::route_v4(packet),
        (false, true) => rewrite::route_v6(packet),
    }
    if outer != 0
        && let Some(packet) = frame.get_mut(usize::from(hop.header_len)..)
    {
        let ends = (hop.source, sessions.ends(plan.id).server.0);
        tunnel::encapsulate_plain(packet, outer, ends, may_cut, ip_id);
    }
    true
}

impl<P: Pool> Engine<P> {
    /// The first stages for a burst of at most [`BURST`] frames: what the headers say, which sessions that may be, and
    /// the memory of all of them on its way.
    pub(crate) fn look<'a, T: Offered<P::Buf>>(&self, snap: &'a Snapshot, offered: &[T]) -> Glances<'a> {
        let Engine { sessions, gates, config, .. } = self;
        let mut glances = Glances { epoch: sessions.epoch(), next: 0, list: [Glance::WHOLE_WAY; BURST] };
        let worker = usize::from(config.worker);
        let (Some(servers), Some(services)) =
            (snap.destination_cells.of(worker), snap.service_cells.of(worker))
        else {
            return glances;
        };
        if !config.short_way || snap.without_services() {
            return glances;
        }
        for frame in offered {
            if let Some(first) = frame.fresh().and_then(|(_, buf)| buf.bytes().first()) {
                prefetch(first);
            }
        }
        let list = &mut glances.list[..offered.len().min(BURST)];
        for (frame, glance) in offered.iter().zip(&mut *list) {
            if let Some((port, buf)) = frame.fresh() {
                glance.read(snap, gates, sessions, port, buf);
            }
        }
        for glance in &mut *list {
            if glance.keyed {
                match sessions.candidate(glance.hash) {
                    Some((id, direction)) => {
                        (glance.session, glance.direction) = (id, direction);
                        sessions.prefetch(id);
                    }
                    None => glance.keyed = false,
                }
            }
        }
        for glance in list {
            if glance.plain && glance.keyed {
                let session = sessions.get(glance.session);
                if glance.v6 {
                    sessions.prefetch_wide(session);
                }
                let server = session.destination;
                glance.destination = server;
                let slot = snap.service_slots.get(server as usize).copied();
                (glance.server, glance.service) =
                    (servers.get(server), slot.and_then(|slot| services.get(slot)));
                if let (Some(server), Some(service)) = (glance.server, glance.service) {
                    prefetch(server);
                    prefetch(service);
                }
            }
        }
        glances
    }

    /// The last stage: sends the frames that were looked at, until one comes that has to go the whole way, which is
    /// given back as it came.
    pub(crate) fn send_short<T: Offered<P::Buf>>(
        &mut self,
        ctx: &mut Context<'_, P>,
        glances: &mut Glances<'_>,
        frames: &mut impl Iterator<Item = T>,
    ) -> Option<T> {
        let Engine { sessions, neighbours, counters, path_mtus, ip_id, era, .. } = self;
        let (hops, now) = (neighbours.hops(), ctx.now);
        let (tunnels, may_cut) = (path_mtus.is_empty(), !ctx.snap.settings.pmtu_disc);
        let telling = ctx.out.verdicts.is_some();
        let mut sent = [0u64; EVENTS.len()];
        let mut rest = None;
        let Glances { epoch, next, list } = glances;
        // There is a glance for every frame: none is taken that has no other half.
        for (frame, glance) in frames.zip(&list[*next..]) {
            *next += 1;
            let plan = glance.server.and_then(|_| {
                let (_, buf) = frame.fresh()?;
                let found = find(sessions, glance, *epoch, *era, now, buf)?;
                plan(sessions.get(found.0), found, glance, hops, now, tunnels)
            });
            let Some(plan) = plan else {
                rest = Some(frame);
                break;
            };
            let Some((from, mut buf)) = frame.into_frame() else { continue };
            plan.count(glance);
            let made = make(&mut buf, glance, &plan, sessions, may_cut, ip_id);
            let session = sessions.get_mut(plan.id);
            session.touch(now);
            if plan.direction == Direction::In {
                session.in_packets = session.in_packets.saturating_add(1);
            }
            if !made {
                counters.count_drop(from, Reason::NoHeadroom);
                let server = session.destination;
                ctx.verdict(VerdictKind::Drop, Reason::NoHeadroom.name(), Some(server));
                continue;
            }
            sent[plan.event] += 1;
            if telling {
                let server = session.destination;
                ctx.verdict(VerdictKind::Forward, EVENTS[plan.event].name(), Some(server));
            }
            ctx.out.tx.push(Transmit { port: plan.hop.port, buf });
        }
        for (event, count) in EVENTS.into_iter().zip(sent).filter(|&(_, count)| count > 0) {
            counters.events(event, count);
            counters.short_way.add(count);
        }
        rest
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
        let hop = self.neighbours.hops().get(usize::from(session.hop(direction)));
        if current && hop.is_some_and(Hop::is_open) && session.comes_by(direction, came.interface) {
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

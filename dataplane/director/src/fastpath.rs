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
mod opening;
mod rewrite;

use std::net::IpAddr;

use fulcrum_machine::prefetch;
use fulcrum_packet::{ethernet, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine, Received};
use crate::forward::{MIN_MTU, tunnel};
use crate::message::{Message, Stage};
use crate::neighbour::Hop;
use crate::output::Way;
use crate::packet::Packet;
use crate::reason::{Event, Reason, VerdictKind};
use crate::session::{Direction, SessionId, Sessions, State, tcp};
use crate::snapshot::{Forward, InterfaceId, Snapshot, TunnelKind};
use crate::{Nanos, Transmit};
pub(crate) use course::Courses;
pub(crate) use glance::{Gate, Glance};
pub(crate) use rewrite::Deltas;

/// A frame that is offered to the engine, by a port or by another worker.
pub(crate) trait Offered<B> {
    /// The frame and the port it came in by, unless it has been looked at before.
    fn fresh(&self) -> Option<(u16, &B)>;
    /// The frame, to be changed.
    fn frame_mut(&mut self) -> Option<&mut B>;
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
    fn frame_mut(&mut self) -> Option<&mut B> {
        Some(&mut self.buf)
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
    fn frame_mut(&mut self) -> Option<&mut B> {
        match self {
            Message::Packet { buf, .. } => Some(buf),
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

/// What was seen of a burst.
#[derive(Debug)]
pub(crate) struct Glances<'a> {
    /// Of the sessions when they were looked at.
    epoch: u32,
    /// Which frame comes next.
    next: usize,
    list: [Glance<'a>; BURST],
}

/// What packets of the short way pass through.
struct Hands<'a> {
    sessions: &'a mut Sessions,
    hops: &'a [Hop],
    ip_id: &'a mut u16,
    /// The era that is, and what the epoch was when the burst was looked at.
    era: u32,
    looked: u32,
    now: Nanos,
    /// Whether all tunnels take what their ways take.
    tunnels: bool,
    /// Whether what is in a tunnel may be cut on its way.
    may_cut: bool,
    /// How many of each of [`EVENTS`] there were.
    sent: [u64; EVENTS.len()],
}

/// What became of a packet.
enum Passed {
    /// Nothing: it is for the whole way to judge.
    No,
    /// It goes out by this port, as this one of [`EVENTS`].
    By(u16, usize),
    /// There was no room before it for its headers.
    NoRoom,
}

impl Hands<'_> {
    /// Makes the frame that goes out of the one that came in. A body of code for each family and direction, in which
    /// all places are known.
    fn pass<const V6: bool, const OUT: bool, B: Buf>(&mut self, glance: &Glance<'_>, buf: &mut B) -> Passed {
        let (id, now) = (glance.session, self.now);
        let direction = if OUT { Direction::Out } else { Direction::In };
        // Sessions may have come or gone since, by packets before this one.
        if self.sessions.epoch() != self.looked
            && self.sessions.candidate(glance.hash) != Some((id, direction))
        {
            return Passed::No;
        }
        let session = self.sessions.get(id);
        let established = matches!(session.state, State::Tcp(tcp::State::Established) | State::Udp);
        let fits = match V6 {
            false => session.is_of_v4(direction, glance.protocol, glance.ends),
            true => glance.is_of_v6(self.sessions, session, direction, buf.bytes()),
        };
        let remembers = session.era == self.era
            && session.comes_by(direction, glance.interface)
            && session.destination == glance.destination;
        let hop = self.hops.get(usize::from(session.hop(direction)));
        let (Some(hop), Some(server), Some(service)) = (hop, glance.server, glance.service) else {
            return Passed::No;
        };
        let forward = session.forward();
        let rewrites = OUT || matches!(forward, Forward::Nat | Forward::FullNat);
        let outer = if !rewrites && forward == Forward::Tun { outer_header(hop.source) } else { 0 };
        // Among the options of an answer are acknowledgments of ranges, by other numbers.
        let odd = rewrites && (glance.unsummed || OUT && glance.options && session.offset != 0)
            || outer != 0 && !self.tunnels
            || usize::from(glance.total) + outer > usize::from(hop.mtu);
        if !established || !fits || !remembers || odd || session.expires <= now || now >= hop.fresh_until {
            return Passed::No;
        }

        let bytes = u64::from(glance.total);
        for traffic in [&server.traffic, service] {
            match OUT {
                false => traffic.count_in(1, bytes),
                true => traffic.count_out(1, bytes),
            }
        }
        let (offset, deltas) = (session.offset, session.deltas);
        let goes = session.goes(direction);
        let session = self.sessions.get_mut(id);
        session.touch(now);
        if !OUT {
            session.in_packets = session.in_packets.saturating_add(1);
        }

        // Where the packet begins, and where it is to begin.
        let (l3, front) = (usize::from(glance.l3), usize::from(hop.header_len) + outer);
        if front != l3 && !begin(buf, l3, front) {
            return Passed::NoRoom;
        }
        buf.truncate(front + usize::from(glance.total));
        let frame = buf.bytes_mut();
        let outside_v6 = if outer == 0 { V6 } else { hop.source.is_ipv6() };
        hop.emit(frame, if outside_v6 { ethernet::IPV6 } else { ethernet::IPV4 });
        let Some(packet) = frame.get_mut(front..) else { return Passed::NoRoom };
        let change = if OUT { deltas.to_client(offset) } else { deltas.to_server(offset) };
        match (rewrites, V6) {
            (true, false) => rewrite::rewrite_v4(packet, glance.protocol, goes, change),
            (true, true) => {
                let session = self.sessions.get(id);
                if let Some((src, dst)) = self.sessions.other_ends_v6(session, direction) {
                    rewrite::rewrite_v6(packet, glance.protocol, src, dst, change);
                }
            }
            (false, false) => rewrite::route_v4(packet),
            (false, true) => rewrite::route_v6(packet),
        }
        if outer != 0
            && let Some(packet) = frame.get_mut(usize::from(hop.header_len)..)
        {
            let ends = (hop.source, self.sessions.ends(id).server.0);
            tunnel::encapsulate_plain(packet, outer, ends, self.may_cut, self.ip_id);
        }
        let event = if OUT { ANSWER } else { forward as usize };
        self.sent[event] += 1;
        Passed::By(hop.port, event)
    }
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
                if glance.keyed && !glance.plain {
                    sessions.prefetch_search(glance.hash);
                }
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
        let mut hands = Hands {
            sessions,
            hops: neighbours.hops(),
            ip_id,
            era: *era,
            looked: glances.epoch,
            now: ctx.now,
            tunnels: path_mtus.is_empty(),
            may_cut: !ctx.snap.settings.pmtu_disc,
            sent: [0; EVENTS.len()],
        };
        let telling = ctx.out.verdicts.is_some();
        let mut rest = None;
        // There is a glance for every frame: none is taken that has no other half.
        for (mut frame, glance) in frames.zip(&glances.list[glances.next..]) {
            glances.next += 1;
            let passed = match (glance.server, frame.frame_mut()) {
                (Some(_), Some(buf)) => match (glance.v6, glance.direction) {
                    (false, Direction::In) => hands.pass::<false, false, _>(glance, buf),
                    (false, Direction::Out) => hands.pass::<false, true, _>(glance, buf),
                    (true, Direction::In) => hands.pass::<true, false, _>(glance, buf),
                    (true, Direction::Out) => hands.pass::<true, true, _>(glance, buf),
                },
                _ => Passed::No,
            };
            let (reason, port) = match passed {
                Passed::No => {
                    rest = Some(frame);
                    break;
                }
                Passed::By(port, event) => (Ok(EVENTS[event]), port),
                Passed::NoRoom => (Err(Reason::NoHeadroom), 0),
            };
            let Some((from, buf)) = frame.into_frame() else { continue };
            match reason {
                Ok(_) => ctx.out.tx.push(Transmit { port, buf }),
                Err(reason) => counters.count_drop(from, reason),
            }
            if telling {
                let (kind, name) = match reason {
                    Ok(event) => (VerdictKind::Forward, event.name()),
                    Err(reason) => (VerdictKind::Drop, reason.name()),
                };
                ctx.verdict(kind, name, Some(glance.destination));
            }
        }
        for (event, count) in EVENTS.into_iter().zip(hands.sent).filter(|&(_, count)| count > 0) {
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
